/* The driver of the consensus core's step API.
 *
 * What it owes `raft_step` (the core is compiled without assertions when packaged: a broken rule corrupts silently):
 *
 * 1. Term and vote first. They are durable, in both slots, before any entry of that term goes to the WAL and before any
 *    message of this or a later update leaves: handle_update() writes the slots synchronously before anything else.
 *    Recovery that finds a log term above the stored term is fail-stop, and so is a bad pair of slots (slots.c).
 * 2. Persisted means this entry. The WAL reports the highest (index, term) whose written bytes are still what the log
 *    holds (wal.h); persisted_cb() checks the term again and never reports an index twice (`stored`).
 * 3. Configuration entries. A received AppendEntries is split so that a RAFT_CHANGE is the first entry handed to the
 *    core (replica_recv.c); RAFT_CONFIGURATION is fed when a change commits (replica_apply.c).
 * 4. Sole voter. A sole voter of its newest configuration durably sets term + 1 with a vote for itself before RAFT_START,
 *    so that a crash can't yield two logs of one term; it never gets RAFT_TIMEOUT as a follower.
 * 5. Barrier. If an update makes us leader and no entry of our term is in the log, settle() submits RAFT_BARRIER.
 *    Nothing is proposed or confirmed before an entry of the own term is applied.
 * 6. Pre-vote on; seeded from the env; vote results are dropped unless candidate (replica_recv.c).
 * 7. Capacity: the core's threshold stays 0; the driver refuses client writes at its own reserve (replica_propose).
 * 8. Messages: entries are filled in when sent (replica_send.c); raft_timeout() is honoured with time read afresh.
 * 9. raft_step is never entered from inside the handling of another step's callbacks: settle() loops instead. */
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

static const char *advice_report = "report this with the log of this node";

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
        [REPLICA_CONFIG] = "bad configuration",
    };
    return texts[status];
}

const char *replica_role_name(enum replica_role role)
{
    static const char *const names[] = {
        [REPLICA_FOLLOWER] = "follower", [REPLICA_CANDIDATE] = "candidate", [REPLICA_LEADER] = "leader",
        [REPLICA_LEARNER] = "learner",   [REPLICA_DOWN] = "down",
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
    r->env->ops->fail_stop(r->env, what, advice);
}

struct replica_peer *replica_peer_by_id(struct replica *r, uint64_t id)
{
    for (unsigned i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) {
            return &r->peers[i];
        }
    }
    return NULL;
}

/* --- The configuration ----------------------------------------------------------------------------------------- */

/* Take over the core's newest configuration. Peers are kept in place by id: reads in flight point at them. */
static void refresh_servers(struct replica *r)
{
    const struct raft_configuration *conf = &r->core.configuration;

    assert(conf->n <= REPLICA_SERVERS_MAX);
    r->n_servers = conf->n;
    r->n_voters = 0;
    r->is_voter = false;
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
            assert(r->n_peers < REPLICA_SERVERS_MAX);
            peer = &r->peers[r->n_peers++];
            *peer = (struct replica_peer){.replica = r, .id = s->id};
            for (unsigned k = 0; k < r->n_links; k++) {
                peer->connected = peer->connected || (r->links[k].id == s->id && r->links[k].connected);
            }
            replica_peer_forget(peer);
        }
        peer->voter = voter;
        memcpy(peer->address, r->servers[i].address, sizeof peer->address);
    }
    replica_lease_members(r);
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
static void proposals_unknown(struct replica *r, uint64_t index)
{
    for (uint64_t i = index > log_tail_first(&r->tail) ? index : log_tail_first(&r->tail);
         i < log_tail_next(&r->tail); i++) {
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
    if (index >= log_tail_first(&r->tail)) {
        proposals_unknown(r, index);
        log_tail_truncate(&r->tail, index);
    } else {
        proposals_unknown(r, 0);
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

    r->updates_with_entries++;
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
        if (status != WAL_OK) {
            replica_fail_stop(r, "appending to the log failed", "check the disk, then start this node again");
            return false;
        }
        change = change || entry->type == RAFT_CHANGE;
        if (entry->term == r->core.current_term && r->core.state == RAFT_LEADER && r->term_start_index == 0) {
            r->term_start_index = index + i;
        }
    }
    if (change) {
        refresh_servers(r);
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
        peer->echo_us = 0;
        peer->applied = 0;
        peer->sent_us = 0;
        peer->pull = 0;
    }
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
    if (grants_end > r->vote_guard_us) {
        r->vote_guard_us = grants_end;
    }
    if (grants_end > r->stand_guard_us) {
        r->stand_guard_us = grants_end;
    }
    r->transfer_deadline_us = 0;
    r->term_start_index = 0;
    for (unsigned i = 0; i < r->n_peers; i++) {
        replica_peer_forget(&r->peers[i]);
    }
    proposals_unknown(r, 0);
    replica_reads_fail(r);
}

/* Carry out what a step asks for. Order matters: rule 1. */
static bool handle_update(struct replica *r, const struct raft_update *update, enum replica_source source)
{
    const bool leads = r->core.state == RAFT_LEADER;

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
        r->fresh_next_us = 0;
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
        replica_fail_stop(r, "the log conflicts with the leader's below the commit index", advice_report);
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

static void submit_barrier(struct replica *r)
{
    struct raft_entry entry = {.term = r->core.current_term, .type = RAFT_BARRIER};
    struct raft_event event = {.type = RAFT_SUBMIT};

    entry.buf.len = 8;
    entry.buf.base = calloc(1, entry.buf.len);
    entry.batch = entry.buf.base;
    if (entry.buf.base == NULL) {
        replica_fail_stop(r, "out of memory", "give this node more memory");
        return;
    }
    event.submit.entries = &entry;
    event.submit.n = 1;
    if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0 && !r->dead) {
        replica_fail_stop(r, "the core refused a barrier", advice_report);
    }
}

static uint64_t current_leader(const struct replica *r)
{
    if (!r->started) {
        return 0;
    }
    if (r->core.state == RAFT_LEADER) {
        return r->config.id;
    }
    return r->core.state == RAFT_FOLLOWER ? r->core.follower_state.current_leader.id : 0;
}

static void rearm_timer(struct replica *r)
{
    r->env->ops->timer_set(r->env, &r->timer, (uint64_t)raft_timeout(&r->core) * 1000);
}

/* After any step: follow up until nothing is left to do, then tell the owner. Not re-entered: rule 9. */
void replica_settle(struct replica *r)
{
    if (r->settling) {
        r->settle_again = true;
        return;
    }
    r->settling = true;
    do {
        r->settle_again = false;
        if (!r->dead && replica_leads(r) && r->term_start_index == 0) {
            submit_barrier(r);
        }
        if (!r->dead) {
            replica_lease_settle(r);
        }
        if (!r->dead) {
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
    const struct replica_told told = {r->core.state, r->core.current_term, current_leader(r)};
    if (told.role != r->told.role || told.term != r->told.term || told.leader != r->told.leader) {
        r->told = told;
        if (r->config.changed != NULL) {
            r->config.changed(r->config.ctx);
        }
    }
}

static void timer_cb(struct env_timer *timer)
{
    struct replica *r = timer->data;
    struct raft_event event = {.type = RAFT_TIMEOUT};

    if (r->dead || !r->started) {
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
    replica_settle(r);
}

/* --- Start and persistence ------------------------------------------------------------------------------------------ */

static void start_core(struct replica *r);

static void persisted_cb(void *ctx, uint64_t index, uint64_t term)
{
    struct replica *r = ctx;
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

    if (r->dead) {
        return;
    }
    if (!r->started) {
        /* The first entry of a new directory. */
        assert(index == 1);
        start_core(r);
        replica_settle(r);
        return;
    }
    assert(index <= wal_last(r->wal));
    assert(wal_term_of(r->wal, index) == term); /* rule 2 */
    if (index > r->stored) {
        r->stored = index;
        event.persisted_entries.index = index;
        (void)replica_step(r, &event, REPLICA_FROM_CALLER);
    }
    replica_settle(r);
}

static void failed_cb(void *ctx, enum env_status status)
{
    (void)status;
    replica_fail_stop(ctx, "writing the log failed", "check the disk, then start this node again");
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
    if (r->dead || !r->started) {
        return;
    }
    replica_reads_settle(r);
    replica_reads_turn_end(r);
    if (PLANT(PLANT_ACK_BEFORE_SYNC) && wal_last(r->wal) > r->stored) {
        persisted_cb(r, wal_last(r->wal), wal_term_of(r->wal, wal_last(r->wal)));
    }
    wal_flush(r->wal);
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
    return cluster_clock_next(&r->clock, now_us, samples, n, r->n_voters);
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static char error_text[512]; /* the text of the last failed replica_open: only start-up uses it */

static enum replica_status fail(const char **error, enum replica_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum replica_status fail(const char **error, enum replica_status status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(error_text, sizeof error_text, format, args);
    va_end(args);
    *error = error_text;
    return status;
}

static enum replica_status check_config(struct replica_config *c, const char **error)
{
    if (c->election_timeout_ms == 0) {
        c->election_timeout_ms = 300;
    }
    if (c->heartbeat_ms == 0) {
        c->heartbeat_ms = c->election_timeout_ms / 10;
    }
    if (c->entry_bytes_max == 0) {
        c->entry_bytes_max = 1024 * 1024;
    }
    if (c->inflight_bytes_max == 0) {
        c->inflight_bytes_max = 16 * 1024 * 1024;
    }
    if (c->tail_bytes_max == 0) {
        c->tail_bytes_max = 8 * 1024 * 1024;
    }
    if (c->segment_bytes == 0) {
        c->segment_bytes = 16 * 1024 * 1024;
    }
    if (c->rho_ppm == 0) {
        c->rho_ppm = 10000;
    }
    if (c->clock_slew_ppm == 0) {
        c->clock_slew_ppm = 10000;
    }
    if (c->id == 0) {
        return fail(error, REPLICA_CONFIG, "the node id must not be 0");
    }
    if (c->election_timeout_ms < 20 || c->election_timeout_ms > 60000) {
        return fail(error, REPLICA_CONFIG, "the election timeout must be 20 to 60000 ms");
    }
    if (c->heartbeat_ms == 0 || c->heartbeat_ms > c->election_timeout_ms / 3) {
        return fail(error, REPLICA_CONFIG, "the heartbeat must be 1 ms to a third of the election timeout");
    }
    if (c->rho_ppm > 100000) {
        return fail(error, REPLICA_CONFIG, "the bound on clock rate errors must be 1 to 100000 ppm");
    }
    if (c->n_servers == 0 || c->n_servers > REPLICA_SERVERS_MAX) {
        return fail(error, REPLICA_CONFIG, "a cluster has 1 to %u members", REPLICA_SERVERS_MAX);
    }
    return REPLICA_OK;
}

static enum replica_status open_slots(struct replica *r, const char **error)
{
    const enum slots_status status = slots_open(r->env, &r->slots, &r->state, error);

    if (status == SLOTS_EMPTY) {
        r->state = (struct slots_state){.id = r->config.id, .term = 1};
        memcpy(r->state.cluster, r->config.cluster, sizeof r->state.cluster);
        do {
            r->state.incarnation = r->env->ops->random(r->env);
        } while (r->state.incarnation == 0);
        r->state_is_new = true;
        if (slots_create(r->env, &r->state, &r->slots) != SLOTS_OK) {
            return fail(error, REPLICA_IO, "can't create the file for term and vote in the data directory");
        }
        return REPLICA_OK;
    }
    if (status != SLOTS_OK) {
        return status == SLOTS_IO || status == SLOTS_NO_MEMORY ? REPLICA_IO : REPLICA_CORRUPT;
    }
    if (r->state.id != r->config.id) {
        return fail(error, REPLICA_FOREIGN,
                    "the data directory belongs to node %llu, not to node %llu: give each node its own directory, or "
                    "start it with --id %llu",
                    (unsigned long long)r->state.id, (unsigned long long)r->config.id,
                    (unsigned long long)r->state.id);
    }
    if (memcmp(r->state.cluster, r->config.cluster, sizeof r->state.cluster) != 0) {
        return fail(error, REPLICA_FOREIGN,
                    "the data directory belongs to another cluster: check the directory, the cluster name and the "
                    "list of members");
    }
    return REPLICA_OK;
}

static struct configuration_settings own_settings(const struct replica *r)
{
    return (struct configuration_settings){r->config.election_timeout_ms, r->config.heartbeat_ms, r->config.rho_ppm,
                                           CONFIGURATION_FEATURE_LEVEL};
}

/* Leases and elections rest on values that all nodes share: those of the newest configuration in the log. */
static enum replica_status check_settings(struct replica *r, const char **error)
{
    struct configuration_settings theirs;
    const struct configuration_settings own = own_settings(r);
    void *data;
    size_t len;
    uint64_t index = wal_last(r->wal);

    while (index >= wal_first(r->wal) && index > 0 && wal_type_of(r->wal, index) != WAL_CHANGE) {
        index--;
    }
    if (index == 0 || index < wal_first(r->wal)) {
        return REPLICA_OK; /* a new directory */
    }
    if (wal_read_sync(r->wal, index, &data, &len) != WAL_OK) {
        return fail(error, REPLICA_CORRUPT, "entry %llu can't be read back from the log", (unsigned long long)index);
    }
    const bool ok = configuration_check(data, len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, &theirs);
    free(data);
    if (!ok) {
        return fail(error, REPLICA_CORRUPT, "the configuration at entry %llu is not understood: run the version that "
                    "wrote it", (unsigned long long)index);
    }
    if (theirs.election_timeout_ms != own.election_timeout_ms || theirs.heartbeat_ms != own.heartbeat_ms ||
        theirs.rho_ppm != own.rho_ppm) {
        return fail(error, REPLICA_CONFIG,
                    "this cluster runs with election-timeout %u, heartbeat %u and clock-rate-error %u, this node is "
                    "configured with %u, %u and %u: leases are only safe if all nodes agree; start it with the "
                    "cluster's values",
                    theirs.election_timeout_ms, theirs.heartbeat_ms, theirs.rho_ppm, own.election_timeout_ms,
                    own.heartbeat_ms, own.rho_ppm);
    }
    return REPLICA_OK;
}

/* Entry 1 of a new directory: the initial configuration, byte-equal on all members. */
static enum replica_status bootstrap(struct replica *r, const char **error)
{
    struct raft_configuration conf;
    struct raft_buffer buf;
    enum replica_status result = REPLICA_OK;

    raft_configuration_init(&conf);
    for (unsigned i = 0; i < r->config.n_servers; i++) {
        const struct replica_server *s = &r->config.servers[i];
        if (raft_configuration_add(&conf, s->id, s->address, s->voter ? RAFT_VOTER : RAFT_STANDBY) != 0) {
            raft_configuration_close(&conf);
            return fail(error, REPLICA_CONFIG, "member %llu is listed twice, or its address is", (unsigned long long)s->id);
        }
    }
    if (raft_configuration_encode(&conf, &buf) != 0) {
        raft_configuration_close(&conf);
        return fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    raft_configuration_close(&conf);
    const size_t len = buf.len + CONFIGURATION_SETTINGS_BYTES;
    uint8_t *data = malloc(len);
    if (data == NULL) {
        raft_free(buf.base);
        return fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    memcpy(data, buf.base, buf.len);
    raft_free(buf.base);
    const struct configuration_settings settings = own_settings(r);
    configuration_settings_encode(&settings, data + len - CONFIGURATION_SETTINGS_BYTES);
    const struct wal_entry entry = {.index = 1, .term = 1, .type = WAL_CHANGE, .data = data, .len = len};
    if (wal_append(r->wal, &entry, 1) != WAL_OK) {
        result = fail(error, REPLICA_IO, "can't write the first log entry");
    }
    free(data);
    wal_flush(r->wal);
    return result;
}

static enum replica_status open_wal(struct replica *r, const char **error)
{
    const struct wal_config config = {.segment_bytes = r->config.segment_bytes,
                                      .entry_bytes_max = r->config.entry_bytes_max + 4096,
                                      .persisted = persisted_cb,
                                      .failed = failed_cb,
                                      .ctx = r};
    const enum wal_status status = wal_open(r->env, &config, &r->wal, error);

    if (status == WAL_CORRUPT || status == WAL_VERSION) {
        return REPLICA_CORRUPT;
    }
    if (status != WAL_OK) {
        return REPLICA_IO;
    }
    const uint64_t last = wal_last(r->wal);
    if (last != 0 && r->state_is_new) {
        return fail(error, REPLICA_CORRUPT,
                    "there is a log but the file `state` with this node's votes is gone: a node that forgot its votes "
                    "must not vote again under its id; let it join under a fresh id with an empty directory");
    }
    if (last == 0 && r->state.starts > 0) {
        return fail(error, REPLICA_CORRUPT,
                    "this node has run before but its log is gone: a node that lost its log must not vote again under "
                    "its id; remove it from the cluster and let it join under a fresh id with an empty directory");
    }
    if (last > 0 && wal_term_of(r->wal, last) > r->state.term) {
        return fail(error, REPLICA_CORRUPT,
                    "the log's last term %llu is above the stored term %llu: the file `state` is older than the log; "
                    "let this node join under a fresh id with an empty directory",
                    (unsigned long long)wal_term_of(r->wal, last), (unsigned long long)r->state.term);
    }
    return REPLICA_OK;
}

/* Cluster time starts from the newest command of the log. */
static enum replica_status recover_clock(struct replica *r, const char **error)
{
    uint64_t ms = 0;

    for (uint64_t i = wal_last(r->wal); i >= wal_first(r->wal) && i > 0; i--) {
        void *data;
        size_t len;
        if (wal_type_of(r->wal, i) != WAL_COMMAND) {
            continue;
        }
        if (wal_read_sync(r->wal, i, &data, &len) != WAL_OK) {
            return fail(error, REPLICA_CORRUPT, "entry %llu can't be read back from the log", (unsigned long long)i);
        }
        ms = r->config.fsm->entry_time_ms(r->config.fsm->ctx, data, len);
        free(data);
        break;
    }
    cluster_clock_init(&r->clock, r->config.clock_slew_ppm);
    cluster_clock_recovered(&r->clock, ms, r->env->ops->now_us(r->env));
    return REPLICA_OK;
}

/* The entries for RAFT_START: the core looks at terms and types, and decodes configurations. */
static struct raft_entry *load_entries(struct replica *r, uint64_t first, uint64_t n)
{
    struct raft_entry *entries = calloc(n > 0 ? n : 1, sizeof *entries);

    for (uint64_t i = 0; entries != NULL && i < n; i++) {
        entries[i].term = wal_term_of(r->wal, first + i);
        entries[i].type = (enum raft_entry_type)wal_type_of(r->wal, first + i);
        if (entries[i].type == RAFT_CHANGE &&
            wal_read_sync(r->wal, first + i, &entries[i].buf.base, &entries[i].buf.len) != WAL_OK) {
            for (uint64_t j = 0; j < i; j++) {
                free(entries[j].buf.base);
            }
            free(entries);
            return NULL;
        }
    }
    return entries;
}

/* Rule 4: is this node the only voter of the newest configuration in the log? */
static bool sole_voter(struct replica *r, const struct raft_entry *entries, uint64_t n)
{
    for (uint64_t i = n; i-- > 0;) {
        struct raft_configuration conf;
        unsigned voters = 0;
        bool self = false;
        if (entries[i].type != RAFT_CHANGE) {
            continue;
        }
        if (raft_configuration_decode(&entries[i].buf, &conf) != 0) {
            return false;
        }
        for (unsigned k = 0; k < conf.n; k++) {
            voters += conf.servers[k].role == RAFT_VOTER;
            self = self || (conf.servers[k].role == RAFT_VOTER && conf.servers[k].id == r->config.id);
        }
        raft_configuration_close(&conf);
        return self && voters == 1;
    }
    return false;
}

static void start_core(struct replica *r)
{
    const uint64_t first = wal_first(r->wal);
    const uint64_t n = wal_last(r->wal) - first + 1;
    struct raft_entry *entries = load_entries(r, first, n);
    struct raft_event event = {.type = RAFT_START};

    if (entries == NULL) {
        replica_fail_stop(r, "configuration entries can't be read back from the log", "see the message above");
        return;
    }
    r->start_us = r->env->ops->now_us(r->env);
    if (r->state.starts > 0 && !PLANT(PLANT_NO_VOTE_GUARD)) {
        r->vote_guard_us = lease_vote_guard(&r->lease.config, r->start_us);
    }
    if (sole_voter(r, entries, n)) {
        r->state.term++;
        r->state.vote = r->config.id;
    }
    r->state.starts++;
    if (slots_write(r->slots, &r->state) != SLOTS_OK) {
        replica_fail_stop(r, "writing term and vote failed", "check the disk, then start this node again");
    } else {
        log_tail_init(&r->tail, wal_last(r->wal) + 1);
        r->stored = wal_last(r->wal);
        r->unannounced = r->stored;
        event.start.term = r->state.term;
        event.start.voted_for = r->state.vote;
        event.start.start_index = first;
        event.start.entries = entries;
        event.start.n_entries = (unsigned)n;
        r->started = true;
        r->role_seen = RAFT_FOLLOWER;
        r->term_seen = r->state.term;
        if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0 && !r->dead) {
            replica_fail_stop(r, "the core refused to start", advice_report);
        }
        refresh_servers(r);
    }
    for (uint64_t i = 0; i < n; i++) {
        free(entries[i].buf.base);
    }
    free(entries);
}

static enum replica_status open_core(struct replica *r, const char **error)
{
    if (raft_init(&r->core, NULL, NULL, r->config.id, "self") != 0) {
        return fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    r->core_open = true;
    r->core.tracer = NULL; /* it formats every message otherwise, enabled or not */
    raft_seed(&r->core, (unsigned)r->env->ops->random(r->env));
    raft_set_pre_vote(&r->core, true);
    raft_set_election_timeout(&r->core, r->config.election_timeout_ms);
    raft_set_heartbeat_timeout(&r->core, r->config.heartbeat_ms);
    raft_set_max_inflight_entries(&r->core, REPLICA_ENTRIES_IN_FLIGHT);
    return REPLICA_OK;
}

enum replica_status replica_open(struct env *env, const struct replica_config *config, struct replica **replica,
                                 const char **error)
{
    struct replica *r = calloc(1, sizeof *r);
    enum replica_status status;

    if (r == NULL) {
        return fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    r->env = env;
    r->config = *config;
    r->timer.data = r;
    r->timer.cb = timer_cb;
    r->lease_timer.data = r;
    r->lease_timer.cb = replica_lease_timer_cb;
    r->lease_timer_at = UINT64_MAX;
    log_tail_init(&r->tail, 1);
    if (env->ops->timer_init(env, &r->timer) != ENV_OK) {
        free(r);
        return fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    if (env->ops->timer_init(env, &r->lease_timer) != ENV_OK) {
        env->ops->timer_fini(env, &r->timer);
        free(r);
        return fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    status = check_config(&r->config, error);
    if (status == REPLICA_OK) {
        const struct lease_config lc = {.timeout_us = (uint64_t)r->config.election_timeout_ms * 1000,
                                        .rho_ppm = r->config.rho_ppm,
                                        .slack_us = REPLICA_LEASE_SLACK_US,
                                        .leases = !r->config.leases_off,
                                        .grants = !r->config.grants_off && !r->config.leases_off};
        lease_init(&r->lease, &lc);
    }
    if (status == REPLICA_OK) {
        status = open_slots(r, error);
    }
    if (status == REPLICA_OK) {
        status = open_wal(r, error);
    }
    if (status == REPLICA_OK) {
        status = check_settings(r, error);
    }
    if (status == REPLICA_OK) {
        status = recover_clock(r, error);
    }
    if (status == REPLICA_OK) {
        status = open_core(r, error);
    }
    if (status == REPLICA_OK) {
        if (wal_last(r->wal) == 0) {
            status = bootstrap(r, error); /* persisted_cb starts the core */
        } else {
            start_core(r);
            replica_settle(r);
        }
    }
    if (status != REPLICA_OK) {
        replica_close(r);
        return status;
    }
    *replica = r;
    return REPLICA_OK;
}

void replica_close(struct replica *r)
{
    if (r->started) {
        proposals_unknown(r, 0);
        replica_reads_fail(r);
    }
    r->dead = true;
    r->env->ops->timer_fini(r->env, &r->timer);
    r->env->ops->timer_fini(r->env, &r->lease_timer);
    if (r->wal != NULL) {
        for (unsigned i = 0; i < r->n_peers; i++) {
            wal_read_fini(r->wal, &r->peers[i].read);
        }
        wal_read_fini(r->wal, &r->apply_read);
        wal_close(r->wal);
    }
    if (r->slots != NULL) {
        slots_close(r->slots);
    }
    if (r->core_open) {
        raft_close(&r->core, NULL);
    }
    log_tail_fini(&r->tail);
    free(r);
}

/* --- Questions ---------------------------------------------------------------------------------------------------- */

/* Ready to take writes. Until a majority of clocks was sampled cluster time may be far behind and step later: a key stamped
 * now would expire early then. The samples come with the first round of echoes. */
bool replica_is_leader(const struct replica *r)
{
    return replica_leads(r) && !r->dead && r->term_start_index != 0 && r->applied >= r->term_start_index &&
           cluster_clock_is_set(&r->clock);
}

uint64_t replica_leader(const struct replica *r)
{
    return r->dead ? 0 : current_leader(r);
}

uint64_t replica_term(const struct replica *r)
{
    return r->started ? r->core.current_term : r->state.term;
}

uint64_t replica_applied(const struct replica *r)
{
    return r->applied;
}

uint64_t replica_incarnation(const struct replica *r)
{
    return r->state.incarnation;
}

bool replica_is_busy(const struct replica *r)
{
    return r->inflight_bytes > 0;
}

static enum replica_role role_of(const struct replica *r)
{
    if (r->dead || !r->started) {
        return REPLICA_DOWN;
    }
    if (r->core.state == RAFT_LEADER) {
        return REPLICA_LEADER;
    }
    if (!r->is_voter) {
        return REPLICA_LEARNER;
    }
    return r->core.state == RAFT_CANDIDATE ? REPLICA_CANDIDATE : REPLICA_FOLLOWER;
}

static void peer_info(const struct replica *r, uint64_t now_us, uint64_t id, struct replica_peer_info *info)
{
    *info = (struct replica_peer_info){.id = id, .echo_age_us = UINT64_MAX};
    if (id == r->config.id) {
        info->connected = true;
        info->voter = r->is_voter;
        info->match = r->stored;
        info->applied = r->applied;
        info->echo_age_us = 0;
        return;
    }
    for (unsigned i = 0; i < r->n_peers; i++) {
        const struct replica_peer *peer = &r->peers[i];
        raft_index match = 0;
        if (peer->id != id) {
            continue;
        }
        if (replica_leads(r) && raft_match_index(&r->core, id, &match) == 0) {
            info->match = match;
        }
        info->connected = peer->connected;
        info->voter = peer->voter;
        info->echo_age_us = peer->echo_us != 0 ? now_us - peer->echo_us : UINT64_MAX;
        info->applied = peer->applied;
        info->rtt_us = peer->rtt_us;
        const uint64_t until = lease_grant_until(&r->lease, id);
        info->grant_left_us = replica_leads(r) && until > now_us ? until - now_us : 0;
    }
}

void replica_info(struct replica *r, struct replica_info *info)
{
    struct wal_stats stats = {0};
    const uint64_t now_us = r->env->ops->now_us(r->env);

    wal_stats(r->wal, &stats);
    *info = (struct replica_info){
        .role = role_of(r),
        .id = r->config.id,
        .term = replica_term(r),
        .vote = r->started ? r->core.voted_for : r->state.vote,
        .leader = replica_leader(r),
        .commit = r->commit,
        .exposed = r->exposed,
        .transfers = r->transfers,
        .applied = r->applied,
        .last = wal_last(r->wal),
        .stored = r->stored,
        .first = wal_first(r->wal),
        .term_start_index = r->term_start_index,
        .ready = replica_is_leader(r),
        .inflight_bytes = r->inflight_bytes,
        .tail_bytes = r->tail.bytes,
        .entries_proposed = r->entries_proposed,
        .elections = r->elections,
        .reads_confirmed = r->reads_confirmed,
        .read_rounds = r->read_rounds,
        .frames_sent = r->frames_sent,
        .frames_dropped = r->frames_dropped,
        .frames_received = r->frames_received,
        .digest_mismatches = r->digest_mismatches,
        .wal_writes = stats.writes,
        .wal_bytes = stats.bytes,
        .wal_last_us = stats.last_write_us,
        .wal_max_us = stats.max_write_us,
        .wal_ewma_us = stats.ewma_write_us,
        .wal_segments = stats.segments,
        .wal_disk_bytes = stats.disk_bytes,
        .starts = r->state.starts,
        .n_servers = r->n_servers,
    };
    replica_lease_info(r, now_us, info);
    for (unsigned i = 0; i < r->n_servers; i++) {
        info->servers[i] = r->servers[i];
        peer_info(r, now_us, r->servers[i].id, &info->peers[i]);
    }
}
