/* Opening and closing a replica: the data directory is checked and recovered, then the core starts. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/replica_internal.h"

static char error_text[512]; /* the text of the last failed replica_open: only start-up uses it */

enum replica_status replica_open_fail(const char **error, enum replica_status status, const char *format, ...)
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
        return replica_open_fail(error, REPLICA_CONFIG, "the node id must not be 0");
    }
    if (c->election_timeout_ms < 20 || c->election_timeout_ms > 60000) {
        return replica_open_fail(error, REPLICA_CONFIG, "the election timeout must be 20 to 60000 ms");
    }
    if (c->heartbeat_ms == 0 || c->heartbeat_ms > c->election_timeout_ms / 3) {
        return replica_open_fail(error, REPLICA_CONFIG,
                                 "the heartbeat must be 1 ms to a third of the election timeout");
    }
    if (c->rho_ppm > 100000) {
        return replica_open_fail(error, REPLICA_CONFIG, "the bound on clock rate errors must be 1 to 100000 ppm");
    }
    if ((c->n_servers == 0 && !c->join) || c->n_servers > REPLICA_SERVERS_MAX) {
        return replica_open_fail(error, REPLICA_CONFIG, "a cluster has 1 to %u members", REPLICA_SERVERS_MAX);
    }
    return REPLICA_OK;
}

static enum replica_status open_slots(struct replica *r, const char **error)
{
    const enum slots_status status = slots_open(r->env, &r->slots, &r->state, error);

    if (status == SLOTS_EMPTY) {
        r->state = (struct slots_state){.id = r->config.id, .term = r->config.join ? 0 : 1};
        memcpy(r->state.cluster, r->config.cluster, sizeof r->state.cluster);
        do {
            r->state.incarnation = r->env->ops->random(r->env);
        } while (r->state.incarnation == 0);
        r->state_is_new = true;
        return REPLICA_OK;
    }
    if (status != SLOTS_OK) {
        return status == SLOTS_IO || status == SLOTS_NO_MEMORY ? REPLICA_IO : REPLICA_CORRUPT;
    }
    if (r->state.id != r->config.id) {
        return replica_open_fail(
            error, REPLICA_FOREIGN,
            "the data directory belongs to node %llu, not to node %llu: give each node its own directory, or "
            "start it with --id %llu",
            (unsigned long long)r->state.id, (unsigned long long)r->config.id, (unsigned long long)r->state.id);
    }
    if (memcmp(r->state.cluster, r->config.cluster, sizeof r->state.cluster) != 0) {
        return replica_open_fail(
            error, REPLICA_FOREIGN,
            "the data directory belongs to another cluster: check the directory, the cluster name and the "
            "list of members");
    }
    return REPLICA_OK;
}

/* Not before the directory is known to hold no log and no snapshot: with a new file a node that forgot its votes would
 * pass for one that never voted at the next start. */
static enum replica_status create_slots(struct replica *r, const char **error)
{
    if (r->state_is_new && slots_create(r->env, &r->state, &r->slots) != SLOTS_OK) {
        return replica_open_fail(error, REPLICA_IO, "can't create the file for term and vote in the data directory");
    }
    return REPLICA_OK;
}

struct configuration_settings replica_own_settings(const struct replica *r)
{
    return (struct configuration_settings){r->config.election_timeout_ms, r->config.heartbeat_ms, r->config.rho_ppm,
                                           replica_feature_level(r), r->next_id};
}

/* Leases and elections rest on values that all nodes share: those of the newest configuration that is known here. */
static enum replica_status check_configuration(struct replica *r, uint64_t index, const void *data, size_t len,
                                               const char **error)
{
    struct configuration_settings theirs;
    const struct configuration_settings own = replica_own_settings(r);

    if (!configuration_check(data, len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, &theirs)) {
        return replica_open_fail(error, REPLICA_CORRUPT,
                                 "the configuration at entry %llu is not understood: run the version that wrote it",
                                 (unsigned long long)index);
    }
    r->next_id = theirs.next_id;
    if (theirs.feature_level > r->feature_max) {
        return replica_open_fail(error, REPLICA_CONFIG,
                                 "this cluster runs at feature level %u, and this version understands %u: run a newer "
                                 "version",
                                 theirs.feature_level, r->feature_max);
    }
    replica_feature_note(r, index, theirs.feature_level);
    if (theirs.election_timeout_ms != own.election_timeout_ms || theirs.heartbeat_ms != own.heartbeat_ms ||
        theirs.rho_ppm != own.rho_ppm) {
        return replica_open_fail(
            error, REPLICA_CONFIG,
            "this cluster runs with election-timeout %u, heartbeat %u and clock-rate-error %u, this node is "
            "configured with %u, %u and %u: leases are only safe if all nodes agree; start it with the "
            "cluster's values",
            theirs.election_timeout_ms, theirs.heartbeat_ms, theirs.rho_ppm, own.election_timeout_ms, own.heartbeat_ms,
            own.rho_ppm);
    }
    return REPLICA_OK;
}

/* The newest change in the log below `index`, 0: none. */
static uint64_t change_before(const struct replica *r, uint64_t index)
{
    do {
        index--;
    } while (index >= wal_first(r->wal) && index > 0 && wal_type_of(r->wal, index) != WAL_CHANGE);
    return index >= wal_first(r->wal) ? index : 0;
}

/* If the newest change is cut off again, the feature level is that of the one before it. */
static void note_level_before(struct replica *r, uint64_t newest)
{
    struct configuration_settings settings;
    const uint64_t index = change_before(r, newest);
    void *data = NULL;
    size_t len = 0;

    if (index > r->configured.index) {
        if (wal_read_sync(r->wal, index, &data, &len) == WAL_OK &&
            configuration_check(data, len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, &settings)) {
            replica_feature_note(r, index, settings.feature_level);
        }
        free(data);
    } else if (r->configured.index != 0 && configuration_check(r->configured.data, r->configured.len,
                                                               REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, &settings)) {
        replica_feature_note(r, r->configured.index, settings.feature_level);
    }
}

static enum replica_status check_settings(struct replica *r, const char **error)
{
    void *data;
    size_t len;
    const uint64_t index = change_before(r, wal_last(r->wal) + 1);

    if (index == 0 || index < r->configured.index) {
        return r->configured.index == 0
                   ? REPLICA_OK /* a new directory */
                   : check_configuration(r, r->configured.index, r->configured.data, r->configured.len, error);
    }
    if (wal_read_sync(r->wal, index, &data, &len) != WAL_OK) {
        return replica_open_fail(error, REPLICA_CORRUPT, "entry %llu can't be read back from the log",
                                 (unsigned long long)index);
    }
    note_level_before(r, index);
    const enum replica_status status = check_configuration(r, index, data, len, error);
    free(data);
    return status;
}

/* Entry 1 of a new directory: the initial configuration, byte-equal on all members. */
static enum replica_status bootstrap(struct replica *r, const char **error)
{
    struct configuration_settings settings = replica_own_settings(r);
    void *data;
    size_t len;
    enum replica_status status;

    for (unsigned i = 0; i < r->config.n_servers; i++) {
        settings.next_id = r->config.servers[i].id >= settings.next_id ? r->config.servers[i].id + 1 : settings.next_id;
    }
    r->next_id = settings.next_id;
    status = replica_configuration_encode(r->config.servers, r->config.n_servers, &settings, &data, &len);
    if (status == REPLICA_CONFIG) {
        return replica_open_fail(error, status, "a member is listed twice, or its address is");
    }
    if (status != REPLICA_OK) {
        return replica_open_fail(error, status, "out of memory");
    }
    const struct wal_entry entry = {.index = 1, .term = 1, .type = WAL_CHANGE, .data = data, .len = len};
    if (wal_append(r->wal, &entry, 1) != WAL_OK) {
        status = replica_open_fail(error, REPLICA_IO, "can't write the first log entry");
    }
    free(data);
    wal_flush(r->wal);
    return status;
}

static enum replica_status open_wal(struct replica *r, const char **error)
{
    const struct wal_config config = {.segment_bytes = r->config.segment_bytes,
                                      .entry_bytes_max = r->config.entry_bytes_max + 4096,
                                      .start_index = r->snapshot.index,
                                      .start_term = r->snapshot.term,
                                      .restored = r->state.starts == 0,
                                      .persisted = replica_persisted_cb,
                                      .failed = replica_failed_cb,
                                      .ctx = r};
    const enum wal_status status = wal_open(r->env, &config, &r->wal, error);

    if (status == WAL_CORRUPT || status == WAL_VERSION) {
        return REPLICA_CORRUPT;
    }
    if (status != WAL_OK) {
        return REPLICA_IO;
    }
    const uint64_t last = wal_last(r->wal);
    if ((last != 0 || r->snapshot.index != 0) && r->state_is_new) {
        return replica_open_fail(
            error, REPLICA_CORRUPT,
            "there is a log but the file `state` with this node's votes is gone: a node that forgot its votes "
            "must not vote again under its id; let it join under a fresh id with an empty directory");
    }
    if (last == 0 && r->state.starts > 0) {
        return replica_open_fail(
            error, REPLICA_CORRUPT,
            "this node has run before but its log is gone: a node that lost its log must not vote again under "
            "its id; remove it from the cluster and let it join under a fresh id with an empty directory");
    }
    if (last > 0 && wal_term_of(r->wal, last) > r->state.term) {
        return replica_open_fail(
            error, REPLICA_CORRUPT,
            "the log's last term %llu is above the stored term %llu: the file `state` is older than the log; "
            "let this node join under a fresh id with an empty directory",
            (unsigned long long)wal_term_of(r->wal, last), (unsigned long long)r->state.term);
    }
    return REPLICA_OK;
}

/* Cluster time starts from the newest command of the log. */
static enum replica_status recover_clock(struct replica *r, const char **error)
{
    uint64_t ms = r->snapshot.time_ms;

    for (uint64_t i = wal_last(r->wal); i >= wal_first(r->wal) && i > r->snapshot.index; i--) {
        void *data;
        size_t len;
        if (wal_type_of(r->wal, i) != WAL_COMMAND) {
            continue;
        }
        if (wal_read_sync(r->wal, i, &data, &len) != WAL_OK) {
            return replica_open_fail(error, REPLICA_CORRUPT, "entry %llu can't be read back from the log",
                                     (unsigned long long)i);
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

/* Rule 4: is this node the only voter of the newest configuration, in the log or, if none is there, in the snapshot? */
static bool sole_voter(struct replica *r, const struct raft_entry *entries, uint64_t n)
{
    struct raft_buffer buf = {r->configured.data, r->configured.len};
    struct raft_configuration conf;
    unsigned voters = 0;
    bool self = false;

    for (uint64_t i = n; i-- > 0;) {
        if (entries[i].type == RAFT_CHANGE) {
            buf = entries[i].buf;
            break;
        }
    }
    if (buf.base == NULL || raft_configuration_decode(&buf, &conf) != 0) {
        return false;
    }
    for (unsigned k = 0; k < conf.n; k++) {
        voters += conf.servers[k].role == RAFT_VOTER;
        self = self || (conf.servers[k].role == RAFT_VOTER && conf.servers[k].id == r->config.id);
    }
    raft_configuration_close(&conf);
    return self && voters == 1;
}

/* Was there ever a server besides this one? Entry 1 is the first configuration. */
static bool had_others(const struct replica *r, const struct raft_entry *entries, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (entries[i].type == RAFT_CHANGE && first + i != 1) {
            return true;
        }
    }
    return r->configured.index > 1;
}

/* The snapshot that the log goes on from, for RAFT_START, which takes it. False: out of memory. */
static bool start_metadata(const struct replica *r, struct raft_snapshot_metadata *metadata)
{
    const struct raft_buffer buf = {r->configured.data, r->configured.len};

    metadata->index = r->snapshot.index;
    metadata->term = r->snapshot.term;
    metadata->configuration_index = r->configured.index;
    return raft_configuration_decode(&buf, &metadata->configuration) == 0;
}

void replica_start_core(struct replica *r)
{
    const uint64_t first = wal_first(r->wal);
    const uint64_t n = wal_last(r->wal) - first + 1;
    struct raft_entry *entries = load_entries(r, first, n);
    struct raft_event event = {.type = RAFT_START};
    struct raft_snapshot_metadata metadata;

    if (entries == NULL) {
        replica_fail_stop(r, "configuration entries can't be read back from the log", "see the message above");
        return;
    }
    r->start_us = r->env->ops->now_us(r->env);
    if (r->state.starts > 0 && !PLANT(PLANT_NO_VOTE_GUARD)) {
        r->vote_guard_us = lease_vote_guard(&r->lease.config, r->start_us);
    }
    if (sole_voter(r, entries, n)) {
        /* It leads at once, with nobody's promise to wait for: but the grants that it gave to learners before may still
         * be out. None lasts longer than an election timeout. */
        if (r->state.starts > 0 && had_others(r, entries, first, n) && !PLANT(PLANT_NO_VOTE_GUARD)) {
            lease_assume_grants(&r->lease, lease_vote_guard(&r->lease.config, r->start_us));
        }
        r->state.term++;
        r->state.vote = r->config.id;
    }
    /* A joining node has not run before it holds an entry. */
    r->state.starts += n > 0 || r->snapshot.index > 0;
    if (slots_write(r->slots, &r->state) != SLOTS_OK) {
        replica_fail_stop(r, "writing term and vote failed", "check the disk, then start this node again");
    } else if (r->snapshot.index > 0 && !start_metadata(r, &metadata)) {
        replica_fail_stop(r, "out of memory", "give this node more memory");
    } else {
        log_tail_init(&r->tail, wal_last(r->wal) + 1);
        r->stored = wal_last(r->wal);
        r->unannounced = r->stored;
        event.start.term = r->state.term;
        event.start.voted_for = r->state.vote;
        event.start.start_index = first;
        event.start.metadata = r->snapshot.index > 0 ? &metadata : NULL;
        event.start.entries = entries;
        event.start.n_entries = (unsigned)n;
        replica_snapshot_log_opened(r);
        replica_replay_opened(r);
        r->started = true;
        r->role_seen = RAFT_FOLLOWER;
        r->term_seen = r->state.term;
        if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0 && !r->dead) {
            replica_fail_stop(r, "the core refused to start", REPLICA_ADVICE_REPORT);
        }
        replica_refresh_servers(r);
    }
    for (uint64_t i = 0; i < n; i++) {
        free(entries[i].buf.base);
    }
    free(entries);
}

static enum replica_status open_core(struct replica *r, const char **error)
{
    if (raft_init(&r->core, NULL, NULL, r->config.id, "self") != 0) {
        return replica_open_fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    r->core_open = true;
    r->core.tracer = NULL; /* it formats every message otherwise, enabled or not */
    raft_seed(&r->core, (unsigned)r->env->ops->random(r->env));
    raft_set_pre_vote(&r->core, true);
    raft_set_election_timeout(&r->core, r->config.election_timeout_ms);
    raft_set_heartbeat_timeout(&r->core, r->config.heartbeat_ms);
    /* While it waits for one snapshot and another one is taken, it ignores what the peer says until this is over. What
     * it asks for again is not sent again (replica_ship.c). */
    raft_set_install_snapshot_timeout(&r->core, r->config.election_timeout_ms);
    raft_set_max_inflight_entries(&r->core, REPLICA_ENTRIES_IN_FLIGHT);
    return REPLICA_OK;
}

enum replica_status replica_open_log(struct replica *r, const char **error)
{
    enum replica_status status = open_wal(r, error);

    if (status == REPLICA_OK) {
        status = create_slots(r, error);
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
    if (status != REPLICA_OK) {
        return status;
    }
    if (wal_last(r->wal) == 0 && !r->config.join) {
        return bootstrap(r, error); /* replica_persisted_cb starts the core */
    }
    replica_start_core(r);
    replica_settle(r);
    return REPLICA_OK;
}

/* All or none. */
static bool open_timers(struct replica *r)
{
    struct env *env = r->env;

    if (env->ops->timer_init(env, &r->timer) != ENV_OK) {
        return false;
    }
    if (env->ops->timer_init(env, &r->lease_timer) != ENV_OK) {
        goto err_after_timer;
    }
    if (env->ops->timer_init(env, &r->send_timer) != ENV_OK) {
        goto err_after_lease_timer;
    }
    if (!replica_ship_init(r)) {
        goto err_after_send_timer;
    }
    if (!replica_fetch_init(r)) {
        goto err_after_ship;
    }
    return true;

err_after_ship:
    replica_ship_fini(r);
err_after_send_timer:
    env->ops->timer_fini(env, &r->send_timer);
err_after_lease_timer:
    env->ops->timer_fini(env, &r->lease_timer);
err_after_timer:
    env->ops->timer_fini(env, &r->timer);
    return false;
}

enum replica_status replica_open(struct env *env, const struct replica_config *config, struct replica **replica,
                                 const char **error)
{
    struct replica *r = calloc(1, sizeof *r);
    enum replica_status status;

    if (r == NULL) {
        return replica_open_fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    r->env = env;
    r->config = *config;
    r->feature_max = config->feature_level_max != 0 ? config->feature_level_max : feature_level_max;
    r->timer.data = r;
    r->timer.cb = replica_timer_cb;
    r->lease_timer.data = r;
    r->lease_timer.cb = replica_lease_timer_cb;
    r->lease_timer_at = UINT64_MAX;
    r->send_timer.data = r;
    r->send_timer.cb = replica_send_timer_cb;
    log_tail_init(&r->tail, 1);
    if (!open_timers(r)) {
        free(r);
        return replica_open_fail(error, REPLICA_NO_MEMORY, "out of memory");
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
    if (status == REPLICA_OK && replica_snapshot_open(r) != REPLICA_OK) {
        status = replica_open_fail(error, REPLICA_IO, "can't list the snapshots in the data directory");
    }
    if (status == REPLICA_OK) {
        status = replica_restore(r, error);
    }
    if (status == REPLICA_OK && !r->loading) {
        status = replica_open_log(r, error);
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
        replica_proposals_unknown(r, 0);
        replica_reads_fail(r);
    }
    r->dead = true;
    replica_install_fini(r);
    replica_fetch_fini(r);
    replica_ship_fini(r);
    replica_restore_close(r);
    replica_snapshot_close(r);
    r->env->ops->timer_fini(r->env, &r->timer);
    r->env->ops->timer_fini(r->env, &r->lease_timer);
    r->env->ops->timer_fini(r->env, &r->send_timer);
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
