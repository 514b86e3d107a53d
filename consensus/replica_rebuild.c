/* A quarantined replica makes its content anew from the leader's (DESIGN section 5).
 *
 * The happy path: quarantine -> it goes on applying until it follows a leader -> nothing is applied any more, and the
 * leader is asked for a snapshot of at least the entry that was applied last -> it offers one, perhaps after taking it
 * -> fetched, verified and loaded beside the wrong content like any other (replica_fetch.c, replica_install.c) -> in
 * one go: the content is exchanged, quarantine ends, and what the log holds behind the snapshot is applied.
 *
 * The log is not touched, and neither are term and vote: whatever this node has promised or acknowledged stays. Only
 * the way from log to content went wrong. (A log that ends before the snapshot is reset to it, as in every
 * installation.) So a crash at any point does no harm: a start loads the newest snapshot there is, the leader's if it
 * was complete, and the log behind it.
 *
 * The files that this node took itself may hold the wrong content: they are renamed when the leader's is in place, so
 * that they are neither loaded nor sent any more, and can be looked at. The newest two are kept.
 *
 * It is a majority that says whose content is wrong: in a dispute without one there is no quarantine, and a leader that
 * has heard of a dispute sends nothing. A replica that is found to differ again soon after it was rebuilt has a fault
 * that rebuilding does not cure, and stays in quarantine. */
#include <assert.h>

#include "consensus/replica_internal.h"

/* Once an election timeout: that is long enough for a leader to take a small snapshot. */
#define ASKED_IN_VAIN 30u

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

/* --- Whether ------------------------------------------------------------------------------------------------------ */

const char *replica_rebuild_begin(struct replica *r)
{
    struct rebuild *b = &r->rebuild;

    assert(!b->stopped);
    b->asked_us = 0;
    b->asked = 0;
    if (r->config.rebuild_off || r->snapshots == NULL) {
        b->state = REBUILD_OFF;
        return "start it again to make its content anew";
    }
    if (b->rebuilds > 0 && now_of(r) - b->last_us < REPLICA_REBUILD_AGAIN_US && !PLANT(PLANT_REBUILD_ENDLESS)) {
        b->state = REBUILD_GIVEN_UP;
        return "its content was made anew less than an hour ago, so that is no cure: it stays in quarantine; keep its "
               "directory, and let another machine join under a fresh id in its place";
    }
    b->state = REBUILD_WAITING;
    return "its content is made anew from the leader's as soon as there is one";
}

void replica_rebuild_configure(struct replica *r, bool on)
{
    r->config.rebuild_off = !on;
    if (on && r->rebuild.state == REBUILD_OFF && r->snapshots != NULL) {
        replica_log(r, 1, "in quarantine: %s", replica_rebuild_begin(r));
    } else if (!on && r->rebuild.state == REBUILD_WAITING && !r->rebuild.stopped) {
        r->rebuild.state = REBUILD_OFF; /* one that has begun goes on */
    }
}

const char *replica_rebuild_state(const struct replica *r)
{
    static const char *const names[] = {
        [REBUILD_NONE] = "none", [REBUILD_OFF] = "off", [REBUILD_GIVEN_UP] = "given-up", [REBUILD_WAITING] = "waiting"};

    return r->rebuild.stopped ? "fetching" : names[r->rebuild.state];
}

/* A snapshot that replaces the content must be at least of this index. One of the same index as a file that is here
 * already would have the same name. */
static uint64_t least_index(const struct replica *r)
{
    const struct snapshot_info *newest = snapshot_dir_at(r->snapshots, 0);

    return newest != NULL && newest->index >= r->applied ? newest->index + 1 : r->applied;
}

bool replica_rebuild_wants(const struct replica *r, uint64_t index)
{
    return r->rebuild.stopped && index >= least_index(r);
}

bool replica_rebuild_is_due(const struct replica *r, uint64_t index)
{
    return r->rebuild.stopped && index >= r->applied;
}

/* --- Asking ------------------------------------------------------------------------------------------------------- */

static void ask(struct replica *r)
{
    const uint64_t least = least_index(r);
    struct replica_peer *leader = replica_peer_by_id(r, replica_current_leader(r));
    struct message m = {.type = MESSAGE_SNAPSHOT_ASK, .term = r->core.current_term};

    /* No file has an id of zeros: it is not known yet, and a version that knows nothing of this has no such file. */
    m.snapshot_ask.file.index = least > 0 ? least : 1;
    m.snapshot_ask.file.term = r->core.current_term;
    m.snapshot_ask.round = 1;
    /* What a majority holds: a leader that knows better of itself has no content to offer. */
    m.snapshot_ask.at.payload = r->quarantine.index;
    m.snapshot_ask.at.check = r->quarantine.theirs;
    if (leader != NULL) {
        (void)replica_send(r, leader, &m);
    }
}

void replica_rebuild_settle(struct replica *r)
{
    struct rebuild *b = &r->rebuild;
    const uint64_t now = now_of(r);

    if (b->state != REBUILD_WAITING || r->core.state != RAFT_FOLLOWER || replica_current_leader(r) == 0 || r->removed) {
        return;
    }
    if (!b->stopped) {
        b->stopped = true; /* what is wrong already needs no more entries; a snapshot of a later one replaces it */
        wal_read_fini(r->wal, &r->apply_read);
        r->apply_reading = false;
    }
    if (r->fetch.phase == FETCH_IDLE && r->install.index == 0 &&
        (b->asked_us == 0 || now >= b->asked_us + (uint64_t)r->config.election_timeout_ms * 1000)) {
        b->asked_us = now;
        ask(r);
        if (++b->asked == ASKED_IN_VAIN) {
            replica_log(r, 1,
                        "the leader, node %llu, has not offered its content yet: if it never does, its log says why",
                        (unsigned long long)replica_current_leader(r));
        }
    }
}

/* --- Done --------------------------------------------------------------------------------------------------------- */

void replica_rebuild_done(struct replica *r, uint64_t index, uint64_t term)
{
    struct rebuild *b = &r->rebuild;

    b->state = REBUILD_NONE;
    b->stopped = false;
    b->rebuilds++;
    b->last_us = now_of(r);
    snapshot_dir_set_aside(r->snapshots, index, term);
    replica_log(r, 1,
                "REBUILT: content is that of another node's snapshot of index %llu, and of the log behind it: out of "
                "quarantine; this node's last snapshots are kept as %s and %s",
                (unsigned long long)index, SNAPSHOT_ASIDE_NEWEST, SNAPSHOT_ASIDE_OLDER);
}

/* --- The switch --------------------------------------------------------------------------------------------------- */

bool replica_rebuild_may_switch(const struct replica *r, uint64_t index, uint64_t term)
{
    return index <= r->commit && index <= r->stored && wal_term_of(r->wal, index) == term;
}

/* The core has not heard of a change that was committed, but not applied here: nothing was. */
static bool tell_core_configuration(struct replica *r, const struct snapshot_meta *meta)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION, .configuration = {.index = meta->configuration_index}};
    const struct raft_buffer buf = {(void *)(uintptr_t)meta->configuration, meta->configuration_len};

    if (meta->configuration_index <= r->configured.index) {
        return true;
    }
    if (raft_configuration_decode(&buf, &event.configuration.conf) != 0 ||
        replica_step(r, &event, REPLICA_FROM_CALLER) != 0) {
        if (!r->dead) {
            replica_fail_stop(r, "a committed configuration was refused by the core", REPLICA_ADVICE_REPORT);
        }
        return false;
    }
    return true;
}

bool replica_rebuild_switch(struct replica *r, void *load, const struct snapshot_meta *meta, uint64_t file_bytes)
{
    assert(r->rebuild.stopped);
    assert(meta->index >= r->applied);
    assert(!r->apply_reading);
    assert(replica_rebuild_may_switch(r, meta->index, meta->term));
    replica_snapshot_abandon(r);
    r->config.fsm->snapshots->load_install(load, meta->index);
    grant_drop(&r->grant);
    replica_digest_forget(r, meta->index, meta->term); /* what was noted is of the content before */
    r->applied = PLANT(PLANT_REBUILD_SKIPS) ? r->exposed : meta->index;
    r->applied_term = meta->term;
    r->exposed = r->exposed > meta->index ? r->exposed : meta->index;
    r->unannounced = wal_last(r->wal); /* the state machine has forgotten which keys are pending */
    return tell_core_configuration(r, meta) && replica_snapshot_adopt(r, meta, file_bytes);
}
