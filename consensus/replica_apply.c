/* Committed entries go to the state machine in order: from the in-memory tail, or, after a restart, from disk in
 * bounded steps with loop turns between them. */
#include <assert.h>

#include "consensus/replica_internal.h"

/* A committed change becomes the core's committed configuration. */
static void apply_change(struct replica *r, uint64_t index, const void *data, size_t len)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    const struct raft_buffer buf = {(void *)(uintptr_t)data, len};

    if (raft_configuration_decode(&buf, &event.configuration.conf) != 0) {
        replica_fail_stop(r, "a committed configuration entry can't be decoded", "run the version that wrote it");
        return;
    }
    if (!replica_snapshot_configured(r, index, data, len)) {
        raft_configuration_close(&event.configuration.conf);
        replica_fail_stop(r, "out of memory", "give this node more memory");
        return;
    }
    event.configuration.index = index;
    if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0) {
        replica_fail_stop(r, "a committed configuration was refused by the core", "report this with the log");
    }
}

static void apply_one(struct replica *r, uint64_t index, uint64_t term, uint8_t type, const void *data, size_t len,
                      struct proposal *proposal)
{
    assert(index == r->applied + 1);
    assert(index <= r->commit);
    assert(index <= r->exposed);
    r->applied = index;
    r->applied_term = term;
    if (type == WAL_COMMAND) {
        r->config.fsm->apply(r->config.fsm->ctx, index, term, data, len, proposal);
        const bool twice = PLANT(PLANT_APPLY_TWICE) || (PLANT(PLANT_APPLY_TWICE_AT_FIRST) && r->rebuild.rebuilds == 0);
        if (twice && proposal == NULL && index % 97 == 0) {
            r->config.fsm->apply(r->config.fsm->ctx, index, term, data, len, NULL);
        }
    } else if (type == WAL_CHANGE) {
        apply_change(r, index, data, len);
    }
    replica_digest_note(r);
    replica_snapshot_applied(r, len);
    replica_replay_applied(r, len);
}

static void apply_read_cb(struct wal_read *read, enum wal_status status, const struct wal_entry *entries, unsigned n)
{
    struct replica *r = read->data;

    r->apply_reading = false;
    if (r->dead) {
        return;
    }
    if (status == WAL_IO) {
        replica_fail_stop(r, "a committed entry can't be read back from the log: the disk reports an error",
                          "check the disk, then start this node again");
        return;
    }
    if (status != WAL_OK) {
        replica_fail_stop(r, "a committed entry can't be read back from the log",
                          "run this node again under a fresh id with an empty directory; keep this one for analysis");
        return;
    }
    for (unsigned i = 0; i < n && entries[i].index <= r->exposed && !r->dead; i++) {
        apply_one(r, entries[i].index, entries[i].term, (uint8_t)entries[i].type, entries[i].data, entries[i].len,
                  NULL);
    }
    replica_settle(r);
}

static void apply_from_disk(struct replica *r)
{
    const uint64_t first_in_memory = log_tail_first(&r->tail);
    const uint64_t last = r->exposed < first_in_memory ? r->exposed : first_in_memory - 1;

    r->apply_read.data = r;
    r->apply_read.cb = apply_read_cb;
    if (wal_read_start(r->wal, &r->apply_read, r->applied + 1, last, REPLICA_READ_BYTES, MESSAGE_ENTRIES_MAX) !=
        WAL_OK) {
        replica_fail_stop(r, "a committed entry can't be read back from the log", "see the message above");
        return;
    }
    r->apply_reading = true;
}

void replica_apply_more(struct replica *r)
{
    while (r->applied < r->exposed && !r->apply_reading && !r->dead && !r->rebuild.stopped) {
        struct log_tail_entry *e = log_tail_at(&r->tail, r->applied + 1);
        if (e == NULL) {
            apply_from_disk(r);
            return;
        }
        struct proposal *proposal = e->proposal;
        e->proposal = NULL;
        if (proposal != NULL) {
            assert(r->inflight_bytes >= e->len);
            r->inflight_bytes -= e->len;
        }
        apply_one(r, r->applied + 1, e->term, e->type, e->data, e->len, proposal);
    }
    const uint64_t durable = wal_durable(r->wal);
    const bool all = r->applied >= durable || r->rebuild.stopped; /* the disk has what is applied later */
    log_tail_trim(&r->tail, r->config.tail_bytes_max, all ? durable : r->applied);
}
