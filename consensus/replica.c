/* The driver of the consensus core's step API.
 *
 * What it owes `raft_step` (the core is compiled without assertions when packaged: a broken rule corrupts silently):
 *
 * 1. Term and vote first. They are durable, in both slots, before any entry of that term goes to the WAL and before any
 *    message of this or a later update leaves: handle_update() writes the slots synchronously before anything else.
 *    Recovery that finds a log term above the stored term is fail-stop, and so is a bad pair of slots (slots.c).
 * 2. Persisted means this entry. The WAL reports the highest (index, term) whose written bytes are still what the log
 *    holds (wal.h); replica_persisted_cb() checks the term again and never reports an index twice (`stored`).
 * 3. Configuration entries. A received AppendEntries is split so that a RAFT_CHANGE is the first entry handed to the
 *    core (replica_recv.c); RAFT_CONFIGURATION is fed when a change commits (replica_apply.c). The core does not
 *    let a server stand that its newest configuration gives no vote: it gets such a change when that is committed
 *    (replica_send.c).
 * 4. Sole voter. A sole voter of its newest configuration durably sets term + 1 with a vote for itself before
 * RAFT_START, so that a crash can't yield two logs of one term; it never gets RAFT_TIMEOUT as a follower.
 * 5. Barrier. If an update makes us leader and no entry of our term is in the log, settle() submits RAFT_BARRIER.
 *    Nothing is proposed or confirmed before an entry of the own term is applied.
 * 6. Pre-vote on; seeded from the env; vote results are dropped unless candidate, and the refusal of a pre-vote names
 *    the voter's term (replica_recv.c, replica_send.c).
 * 7. Capacity: the core's threshold stays 0; the driver refuses client writes at its own reserve (replica_propose).
 * 8. Messages: entries are filled in when sent (replica_send.c); raft_timeout() is honoured with time read afresh.
 * 9. Snapshots: RAFT_SNAPSHOT is reported for a durable file, at an index that is persisted here, with the
 *    configuration at that index; the log is dropped no further than the core was told (replica_snapshot.c). A start
 *    from a snapshot gives the core its configuration, and entries from at most the one behind it on (replica_open.c).
 *    RAFT_INSTALL_SNAPSHOT is delivered for a complete, verified, synced file only, whose content is loaded, and is
 *    completed by RAFT_PERSISTED_SNAPSHOT before any other event (replica_install.c).
 * 10. RAFT_TRANSFER is given when the successor has confirmed the last entry (replica_lease.c).
 * 11. raft_step is never entered from inside the handling of another step's callbacks: settle() loops instead. */
#include "consensus/replica.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/replica_internal.h"

static_assert((int)WAL_COMMAND == (int)RAFT_COMMAND, "entry types are the core's");
static_assert((int)WAL_BARRIER == (int)RAFT_BARRIER, "entry types are the core's");
static_assert((int)WAL_CHANGE == (int)RAFT_CHANGE, "entry types are the core's");

const char *replica_strerror(enum replica_status status)
{
    static const char *const texts[] = {
        [REPLICA_OK] = "ok",
        [REPLICA_NOT_LEADER] = "not the leader",
        [REPLICA_BUSY] = "busy",
        [REPLICA_NO_SPACE] = "disk space below the reserve",
        [REPLICA_TOO_BIG] = "entry too big",
        [REPLICA_NO_MEMORY] = "out of memory",
        [REPLICA_FOREIGN] = "foreign data directory",
        [REPLICA_CORRUPT] = "damaged data",
        [REPLICA_IO] = "input/output error",
        [REPLICA_DISPUTED] = "contents differ",
        [REPLICA_CONFIG] = "bad configuration",
    };
    return texts[status];
}

const char *replica_role_name(enum replica_role role)
{
    static const char *const names[] = {
        [REPLICA_FOLLOWER] = "follower", [REPLICA_CANDIDATE] = "candidate", [REPLICA_LEADER] = "leader",
        [REPLICA_LEARNER] = "learner",   [REPLICA_DOWN] = "down",           [REPLICA_REMOVED] = "removed",
    };
    return names[role];
}

void replica_log(struct replica *r, int level, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->env->ops->log(r->env, level, text);
}

void replica_fail_stop(struct replica *r, const char *what, const char *advice)
{
    if (r->dead) {
        return;
    }
    r->dead = true;
    r->env->ops->timer_stop(r->env, &r->timer);
    r->env->ops->timer_stop(r->env, &r->lease_timer);
    r->env->ops->timer_stop(r->env, &r->send_timer);
    replica_snapshot_abandon(r);
    r->env->ops->fail_stop(r->env, what, advice);
}

struct replica_peer *replica_peer_by_id(struct replica *r, uint64_t id)
{
    for (unsigned i = 0; i < r->n_peers; i++) {
        if (id != 0 && r->peers[i].id == id) { /* 0 marks a free place */
            return &r->peers[i];
        }
    }
    return NULL;
}

/* --- The configuration ----------------------------------------------------------------------------------------- */

struct replica_peer *replica_peer_add(struct replica *r, uint64_t id)
{
    struct replica_peer *peer = NULL;

    for (unsigned i = 0; i < r->n_peers && peer == NULL; i++) {
        peer = r->peers[i].id == 0 && !r->peers[i].reading ? &r->peers[i] : NULL;
    }
    if (peer == NULL) {
        if (r->n_peers == REPLICA_PEERS_MAX) {
            return NULL;
        }
        peer = &r->peers[r->n_peers++];
    }
    const struct wal_read read = peer->read; /* keeps its buffers */
    *peer = (struct replica_peer){.replica = r, .id = id, .read = read};
    replica_peer_forget(peer);
    for (unsigned k = 0; k < r->n_links; k++) {
        peer->connected = peer->connected || (r->links[k].id == id && r->links[k].connected);
    }
    return peer;
}

/* Give up the places of servers that are not in the configuration any more; their votes and echoes count no longer. A
 * leader that this log does not know of yet keeps its place: it is being answered. */
static void drop_peers(struct replica *r, const struct raft_configuration *conf)
{
    const uint64_t leader = replica_current_leader(r);

    for (unsigned i = 0; i < r->n_peers; i++) {
        bool member = r->peers[i].id != 0 && r->peers[i].id == leader;
        r->peers[i].voter = false;
        for (unsigned k = 0; k < conf->n; k++) {
            member = member || conf->servers[k].id == r->peers[i].id;
        }
        if (!member) {
            replica_departs(r, r->peers[i].id);
            r->peers[i].id = 0;
            r->peers[i].pull = 0;
            replica_peer_forget(&r->peers[i]);
        }
    }
}

/* Take over the core's newest configuration. Peers are kept in place by id: reads in flight point at them. */
void replica_refresh_servers(struct replica *r)
{
    const struct raft_configuration *conf = &r->core.configuration;

    assert(conf->n <= REPLICA_SERVERS_MAX);
    r->n_servers = conf->n;
    r->n_voters = 0;
    r->is_voter = false;
    drop_peers(r, conf);
    for (unsigned i = 0; i < conf->n; i++) {
        const struct raft_server *s = &conf->servers[i];
        const bool voter = s->role == RAFT_VOTER;
        r->servers[i].id = s->id;
        r->servers[i].voter = voter;
        (void)snprintf(r->servers[i].address, sizeof r->servers[i].address, "%s", s->address);
        r->n_voters += voter;
        if (s->id == r->config.id) {
            r->is_voter = voter;
            continue;
        }
        struct replica_peer *peer = replica_peer_by_id(r, s->id);
        if (peer == NULL) {
            peer = replica_peer_add(r, s->id);
            assert(peer != NULL); /* twice as many places as servers, and one change at a time */
        }
        peer->voter = voter;
        memcpy(peer->address, r->servers[i].address, sizeof peer->address);
    }
    replica_lease_members(r);
    replica_ship_settle(r);
    if (r->config.servers_changed != NULL && r->started) {
        r->config.servers_changed(r->config.ctx);
    }
}

/* --- Updates ---------------------------------------------------------------------------------------------------- */

static bool write_term_and_vote(struct replica *r)
{
    r->state.term = r->core.current_term;
    r->state.vote = PLANT(PLANT_VOTE_TWICE) ? 0 : r->core.voted_for;
    if (slots_write(r->slots, &r->state) != SLOTS_OK) {
        replica_fail_stop(r, "writing term and vote failed", "check the disk, then start this node again");
        return false;
    }
    return true;
}

/* The outcome of our entries from `index` on can't be known any more. */
void replica_proposals_unknown(struct replica *r, uint64_t index)
{
    for (uint64_t i = index > log_tail_first(&r->tail) ? index : log_tail_first(&r->tail); i < log_tail_next(&r->tail);
         i++) {
        struct log_tail_entry *e = log_tail_at(&r->tail, i);
        struct proposal *proposal = e->proposal;
        if (proposal != NULL) {
            e->proposal = NULL;
            assert(r->inflight_bytes >= e->len);
            r->inflight_bytes -= e->len;
            proposal->unknown(proposal);
        }
    }
}

static void truncate_from(struct replica *r, uint64_t index)
{
    assert(index > r->commit);
    assert(index > r->applied);
    replica_log(r, 2, "replacing entries from index %llu on", (unsigned long long)index);
    grant_drop(&r->grant);
    replica_feature_truncate(r, index);
    if (index >= log_tail_first(&r->tail)) {
        replica_proposals_unknown(r, index);
        log_tail_truncate(&r->tail, index);
    } else {
        replica_proposals_unknown(r, 0);
        log_tail_fini(&r->tail);
        log_tail_init(&r->tail, index);
    }
    if (r->stored >= index) {
        r->stored = index - 1;
    }
    if (r->unannounced >= index) {
        r->unannounced = index - 1;
    }
}

/* Keep one new entry in memory and note its time. False: out of memory. */
static bool keep_entry(struct replica *r, const struct raft_entry *entry, enum replica_source source)
{
    struct log_tail_entry e = {.term = entry->term, .type = (uint8_t)entry->type, .len = (uint32_t)entry->buf.len};

    if (source == REPLICA_FROM_FRAME) {
        e.data = malloc(entry->buf.len > 0 ? entry->buf.len : 1);
        if (e.data == NULL) {
            return false;
        }
        if (entry->buf.len > 0) {
            memcpy(e.data, entry->buf.base, entry->buf.len);
        }
        if (entry->type == RAFT_COMMAND) {
            const uint64_t ms = r->config.fsm->entry_time_ms(r->config.fsm->ctx, e.data, e.len);
            cluster_clock_saw(&r->clock, ms, r->env->ops->now_us(r->env));
            if (r->config.fsm->received != NULL) {
                r->config.fsm->received(r->config.fsm->ctx, log_tail_next(&r->tail), e.data, e.len);
            }
        }
    } else {
        e.data = entry->buf.base;
        r->unannounced = log_tail_next(&r->tail);
    }
    return log_tail_push(&r->tail, &e);
}

/* New entries: into memory and into the WAL's next write. */
static bool handle_entries(struct replica *r, const struct raft_update *update, enum replica_source source)
{
    const uint64_t index = update->entries.index;
    bool change = false;

    assert(index > 0);
    if (update->entries.batch == &r->core.barrier) {
        source = REPLICA_FROM_CALLER; /* the core's own, allocated for us, whatever event made us leader */
    }
    if (index <= wal_last(r->wal)) {
        truncate_from(r, index);
        change = true; /* a configuration may have been rolled back */
    }
    assert(index == log_tail_next(&r->tail));
    for (unsigned i = 0; i < update->entries.n; i++) {
        const struct raft_entry *entry = &update->entries.batch[i];
        const struct wal_entry record = {.index = index + i,
                                         .term = entry->term,
                                         .type = (enum wal_entry_type)entry->type,
                                         .data = entry->buf.base,
                                         .len = entry->buf.len};
        if (!keep_entry(r, entry, source)) {
            replica_fail_stop(r, "out of memory", "give this node more memory");
            return false;
        }
        const enum wal_status status = wal_append(r->wal, &record, 1);
        r->large_done = r->large_done || record.len >= REPLICA_LARGE_BYTES;
        if (status != WAL_OK) {
            replica_fail_stop(r, "appending to the log failed", "check the disk, then start this node again");
            return false;
        }
        if (entry->type == RAFT_CHANGE) {
            struct configuration_settings settings = {0};
            change = true;
            if (configuration_check(entry->buf.base, entry->buf.len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX,
                                    &settings) &&
                settings.next_id > r->next_id) {
                r->next_id = settings.next_id;
            }
            replica_feature_note(r, index + i, settings.feature_level);
        }
        if (entry->term == r->core.current_term && r->core.state == RAFT_LEADER && r->term_start_index == 0) {
            r->term_start_index = index + i;
        }
    }
    if (change) {
        replica_refresh_servers(r);
    }
    return true;
}

static void lead_begins(struct replica *r)
{
    for (unsigned i = 0; i < r->n_peers; i++) {
        struct replica_peer *peer = &r->peers[i];
        replica_peer_forget(peer);
        peer->echo_stamp = 0;
        peer->stamp_sent = 0;
        peer->lease_asked = 0;
        peer->echo_us = 0;
        peer->applied = 0;
        peer->sent_us = 0;
        peer->pull = 0;
        peer->fresh_asked = 0;
        peer->fresh_told = 0;
    }
    replica_digest_lead_begins(r);
    replica_turns_lead_begins(r);
    lease_lead_begins(&r->lease);
    r->term_start_index = 0;
    r->round_stamp = 0;
}

/* Everything that waited on our leadership ends; entries stay in the log and may yet commit. */
static void lead_ends(struct replica *r)
{
    const uint64_t grants_end = lease_grants_end(&r->lease);

    lease_lead_ends(&r->lease);
    /* This leader counted itself in its lease: until its last grant has ended it must not help to elect anybody. */
    if (grants_end > r->vote_guard_us && !PLANT(PLANT_DEPOSED_VOTES)) {
        r->vote_guard_us = grants_end;
    }
    if (grants_end > r->stand_guard_us) {
        r->stand_guard_us = grants_end;
    }
    r->transfer_deadline_us = 0;
    r->term_start_index = 0;
    r->dispute_index = 0;
    r->n_departed = 0;
    for (unsigned i = 0; i < r->n_peers; i++) {
        replica_peer_forget(&r->peers[i]);
    }
    replica_proposals_unknown(r, 0);
    replica_reads_fail(r);
}

/* Carry out what a step asks for. Order matters: rule 1. */
static bool handle_update(struct replica *r, const struct raft_update *update, enum replica_source source)
{
    const bool leads = r->core.state == RAFT_LEADER;

    /* First of all: whoever handed the entries in must know that the core kept them, even if nothing else works. */
    r->updates_with_entries += (update->flags & RAFT_UPDATE_ENTRIES) != 0;
    if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        if (!write_term_and_vote(r)) {
            return false;
        }
    }
    if (r->core.state == RAFT_CANDIDATE && r->role_seen != RAFT_CANDIDATE) {
        r->elections++;
    }
    const bool led = r->role_seen == RAFT_LEADER;
    if (led && (!leads || r->term_seen != r->core.current_term)) {
        lead_ends(r);
    }
    if (leads && (!led || r->term_seen != r->core.current_term)) {
        lead_begins(r);
    }
    if (r->core.state != RAFT_FOLLOWER || r->term_seen != r->core.current_term) {
        grant_drop(&r->grant);
        drift_restart(&r->leader_drift);
        r->fresh_next_us = 0;
    }
    if (update->flags & RAFT_UPDATE_SNAPSHOT) {
        replica_install_update(r, &update->snapshot.metadata);
    }
    if (update->flags & RAFT_UPDATE_ENTRIES) {
        if (!handle_entries(r, update, source)) {
            return false;
        }
    }
    for (unsigned i = 0; i < update->messages.n && (update->flags & RAFT_UPDATE_MESSAGES); i++) {
        replica_send_core(r, &update->messages.batch[i]);
    }
    assert(r->core.commit_index >= r->commit);
    if (leads && r->core.commit_index > r->commit) {
        replica_send_withheld(r);
    }
    r->commit = r->core.commit_index;
    r->role_seen = r->core.state;
    r->term_seen = r->core.current_term;
    return true;
}

int replica_step(struct replica *r, struct raft_event *event, enum replica_source source)
{
    struct raft_update update;

    assert(!r->dead);
    event->time = r->env->ops->now_us(r->env) / 1000;
    const int rv = raft_step(&r->core, event, &update);
    if (rv == RAFT_SHUTDOWN || rv == RAFT_CORRUPT) {
        replica_fail_stop(r, "the log conflicts with the leader's below the commit index", REPLICA_ADVICE_REPORT);
        return rv;
    }
    if (rv == RAFT_NOMEM) {
        replica_fail_stop(r, "out of memory in the consensus core", "give this node more memory");
        return rv;
    }
    if (rv != 0) {
        return rv;
    }
    return handle_update(r, &update, source) ? 0 : RAFT_IOERR;
}

/* --- Settling ----------------------------------------------------------------------------------------------------- */

/* False: the core refuses it, since leadership is being handed over. */
static bool submit_barrier(struct replica *r)
{
    struct raft_entry entry = {.term = r->core.current_term, .type = RAFT_BARRIER};
    struct raft_event event = {.type = RAFT_SUBMIT};

    entry.buf.len = 8;
    entry.buf.base = calloc(1, entry.buf.len);
    entry.batch = entry.buf.base;
    if (entry.buf.base == NULL) {
        replica_fail_stop(r, "out of memory", "give this node more memory");
        return true;
    }
    event.submit.entries = &entry;
    event.submit.n = 1;
    const int rv = replica_step(r, &event, REPLICA_FROM_CALLER);
    if (rv == RAFT_NOTLEADER) {
        free(entry.buf.base);
        return false;
    }
    if (rv != 0 && !r->dead) {
        replica_fail_stop(r, "the core refused a barrier", REPLICA_ADVICE_REPORT);
    }
    return true;
}

/* A new leader needs an entry of its term; and a leader that is to take a snapshot of more than there is one more
 * entry: of the newest one it has a snapshot that is damaged, or one that may not be used (replica_rebuild.c). */
static void submit_barriers(struct replica *r)
{
    if (r->term_start_index == 0) {
        if (!submit_barrier(r)) {
            replica_fail_stop(r, "the core refused a barrier", REPLICA_ADVICE_REPORT);
        }
    } else if (r->entry_wanted != 0 && !replica_is_fenced(r)) {
        if (wal_last(r->wal) >= r->entry_wanted || (wal_last(r->wal) == r->applied && submit_barrier(r))) {
            r->entry_wanted = 0;
        }
    }
}

static void rearm_timer(struct replica *r)
{
    if (r->removed) {
        return; /* it does not stand; the timer is that of replica_removed.c */
    }
    r->env->ops->timer_set(r->env, &r->timer, (uint64_t)raft_timeout(&r->core) * 1000);
}

/* What the leader waits for goes first: a large entry takes longer to apply than to store. */
static void send_off(struct replica *r)
{
    if (r->applied == r->exposed || r->apply_reading || r->rebuild.stopped) {
        return;
    }
    wal_flush(r->wal);
    if (r->config.before_apply != NULL) {
        r->config.before_apply(r->config.ctx);
    }
}

/* After any step: follow up until nothing is left to do, then tell the owner. Not re-entered: rule 10. */
void replica_settle(struct replica *r)
{
    if (r->settling) {
        r->settle_again = true;
        return;
    }
    r->settling = true;
    do {
        r->settle_again = false;
        if (!r->dead) {
            replica_rebuild_settle(r);
            replica_fetch_settle(r);
            replica_install_settle(r);
        }
        if (!r->dead && replica_leads(r)) {
            submit_barriers(r);
        }
        if (!r->dead) {
            replica_lease_settle(r);
        }
        if (!r->dead) {
            send_off(r);
            replica_apply_more(r);
        }
        if (!r->dead) {
            replica_reads_settle(r);
        }
        if (!r->dead && replica_leads(r) && !cluster_clock_is_set(&r->clock)) {
            (void)replica_cluster_time(r); /* sets it, once enough samples have come */
        }
        if (!r->dead && r->config.progress != NULL) {
            r->config.progress(r->config.ctx);
        }
    } while (r->settle_again && !r->dead);
    r->settling = false;
    if (r->dead) {
        return;
    }
    rearm_timer(r);
    const struct replica_told told = {r->core.state, r->core.current_term, replica_current_leader(r)};
    if (told.role != r->told.role || told.term != r->told.term || told.leader != r->told.leader) {
        r->told = told;
        if (r->config.changed != NULL) {
            r->config.changed(r->config.ctx);
        }
    }
}

void replica_timer_cb(struct env_timer *timer)
{
    struct replica *r = timer->data;
    struct raft_event event = {.type = RAFT_TIMEOUT};

    if (r->dead || !r->started) {
        return;
    }
    if (r->removed) {
        replica_removed_timer(r);
        return;
    }
    const uint64_t now_us = r->env->ops->now_us(r->env);
    if (now_us / 1000 < raft_timeout(&r->core)) {
        rearm_timer(r);
        return;
    }
    if (r->core.state != RAFT_LEADER && now_us < r->stand_guard_us) {
        r->env->ops->timer_set(r->env, &r->timer, r->stand_guard_us);
        return;
    }
    replica_lease_watch(r);
    if (r->n_voters == 1 && r->is_voter && r->core.state != RAFT_LEADER) {
        replica_fail_stop(r, "the only voter does not lead", "start this node again");
        return;
    }
    (void)replica_step(r, &event, REPLICA_FROM_CALLER);
    replica_departed_tell(r);
    replica_quarantine_tick(r);
    replica_settle(r);
}

/* --- Persistence ------------------------------------------------------------------------------------------ */

void replica_persisted_cb(void *ctx, uint64_t index, uint64_t term)
{
    struct replica *r = ctx;
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

    if (r->dead) {
        return;
    }
    if (!r->started) {
        /* The first entry of a new directory. */
        assert(index == 1);
        replica_start_core(r);
        replica_settle(r);
        return;
    }
    assert(index <= wal_last(r->wal));
    assert(wal_term_of(r->wal, index) == term); /* rule 2 */
    if (r->state.starts == 0) { /* a joining node's first entry: from now on its log must not get lost */
        r->state.starts = 1;
        if (slots_write(r->slots, &r->state) != SLOTS_OK) {
            replica_fail_stop(r, "writing term and vote failed", "check the disk, then start this node again");
            return;
        }
    }
    if (index > r->stored) {
        r->stored = index;
        event.persisted_entries.index = index;
        (void)replica_step(r, &event, REPLICA_FROM_CALLER);
    }
    replica_settle(r);
}

/* No second try: what a failed sync did not write may be gone from the system's memory, and the next one succeeds. */
void replica_failed_cb(void *ctx, enum env_status status)
{
    if (status == ENV_NO_SPACE) {
        replica_fail_stop(ctx, "writing the log failed: the disk is full", "make room, then start this node again");
    } else {
        replica_fail_stop(ctx, "writing the log failed: the disk reports an error",
                          "check the disk, then start this node again");
    }
}

/* --- Proposals ---------------------------------------------------------------------------------------------------- */

enum replica_status replica_propose(struct replica *r, void *data, size_t len, struct proposal *proposal)
{
    struct raft_entry entry = {.type = RAFT_COMMAND};
    struct raft_event event = {.type = RAFT_SUBMIT};

    if (r->dead || !replica_leads(r)) {
        return REPLICA_NOT_LEADER;
    }
    if (len > r->config.entry_bytes_max) {
        return REPLICA_TOO_BIG;
    }
    if (!replica_is_leader(r) || (r->transfer_deadline_us != 0 && r->transfer_ready) ||
        (r->inflight_bytes > 0 && r->inflight_bytes + len > r->config.inflight_bytes_max)) {
        return REPLICA_BUSY;
    }
    if (wal_room(r->wal) < r->config.space_reserve_bytes + len) {
        return REPLICA_NO_SPACE;
    }
    entry.term = r->core.current_term;
    entry.buf = (struct raft_buffer){data, len};
    entry.batch = data; /* only tested for NULL by the core, which never frees a submitted batch */
    event.submit.entries = &entry;
    event.submit.n = 1;
    const int rv = replica_step(r, &event, REPLICA_FROM_CALLER);
    if (rv == RAFT_NOTLEADER) {
        return REPLICA_BUSY; /* a transfer is under way */
    }
    if (rv != 0) {
        struct log_tail_entry *last = log_tail_at(&r->tail, log_tail_next(&r->tail) - 1);
        if (last != NULL && last->data == data) {
            last->data = NULL; /* failed half-way: the data stays the caller's */
        }
        return r->dead ? REPLICA_IO : REPLICA_NO_MEMORY;
    }
    const uint64_t index = wal_last(r->wal);
    proposal->index = index;
    proposal->term = entry.term;
    log_tail_at(&r->tail, index)->proposal = proposal;
    r->inflight_bytes += len;
    r->entries_proposed++;
    replica_settle(r);
    return REPLICA_OK;
}

void replica_turn_end(struct replica *r)
{
    replica_restore_turn(r);
    if (r->dead || !r->started) {
        return;
    }
    replica_reads_settle(r);
    replica_reads_turn_end(r);
    replica_snapshot_turn(r);
    replica_replay_turn(r);
    if (r->dead) {
        return;
    }
    if (PLANT(PLANT_ACK_BEFORE_SYNC) && wal_last(r->wal) > r->stored) {
        replica_persisted_cb(r, wal_last(r->wal), wal_term_of(r->wal, wal_last(r->wal)));
    }
    wal_flush(r->wal);
    r->large_done = false;
}

uint64_t replica_cluster_time(struct replica *r)
{
    uint64_t samples[CLUSTER_CLOCK_SAMPLES_MAX + 1];
    unsigned n = 0;
    const uint64_t now_us = r->env->ops->now_us(r->env);
    const uint64_t fresh_us = (uint64_t)r->config.election_timeout_ms * 1000 * REPLICA_SAMPLE_TIMEOUTS;

    if (r->is_voter) {
        samples[n++] = r->env->ops->wall_ms(r->env);
    }
    for (unsigned i = 0; i < r->n_peers && n < CLUSTER_CLOCK_SAMPLES_MAX; i++) {
        const struct replica_peer *peer = &r->peers[i];
        if (peer->voter && peer->wall_us != 0 && now_us - peer->wall_us < fresh_us) {
            samples[n++] = peer->wall_ms + (now_us - peer->wall_us) / 1000;
        }
    }
    if (PLANT(PLANT_LOST_EXPIRY) && r->state.starts > 1 && cluster_clock_is_set(&r->clock)) {
        return r->clock.base_time_us / 1000;
    }
    return cluster_clock_next(&r->clock, now_us, samples, n, r->n_voters);
}
