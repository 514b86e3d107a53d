/* A snapshot that was fetched takes the place of log and content.
 *
 * The happy path: the file is complete, verified and durable -> LOADING: beside the live content, off the loop; this
 * node goes on serving what it may serve -> ready -> as soon as a leader is known, in one go and before the core sees
 * any other event: RAFT_INSTALL_SNAPSHOT, the log is reset, the content is exchanged, RAFT_PERSISTED_SNAPSHOT, which
 * tells the leader.
 *
 * Nothing of that has to be on stable storage but the file: until the record that resets the log is durable, a start
 * finds the old log, which ends before the snapshot or holds another term there, and resets it (wal.h). So a crash at
 * any point leaves either the state before or the state after; and the core's answer that everything up to the
 * snapshot's index is stored here is true. */
#include <assert.h>
#include <string.h>

#include "consensus/replica_internal.h"

bool replica_holds(const struct replica *r, uint64_t index, uint64_t term)
{
    return index <= r->commit || wal_term_of(r->wal, index) == term;
}

enum message_refusal replica_judge_snapshot(const struct replica *r, const struct snapshot_meta *meta)
{
    struct configuration_settings settings;

    if (memcmp(meta->cluster, r->config.cluster, sizeof meta->cluster) != 0) {
        return MESSAGE_REFUSED_FOREIGN;
    }
    if (meta->feature_level > r->feature_max ||
        !configuration_check(meta->configuration, meta->configuration_len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX,
                             &settings) ||
        meta->configuration_index == 0 || meta->configuration_index > meta->index) {
        return MESSAGE_REFUSED_VERSION;
    }
    return replica_same_settings(r, &settings) ? (enum message_refusal)0 : MESSAGE_REFUSED_SETTINGS;
}

/* --- The switch --------------------------------------------------------------------------------------------------- */

void replica_install_update(struct replica *r, const struct raft_snapshot_metadata *metadata)
{
    r->install.accepted = true;
    r->install.metadata = *metadata;
}

/* The leader's message, as if it had just arrived. False: the core did not take it. */
static bool tell_core(struct replica *r, const struct snapshot_meta *meta)
{
    struct raft_message message = {.type = RAFT_INSTALL_SNAPSHOT,
                                   .server_id = r->core.follower_state.current_leader.id,
                                   .server_address = r->core.follower_state.current_leader.address};
    struct raft_install_snapshot *args = &message.install_snapshot;
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = &message}};
    const struct raft_buffer buf = {(void *)(uintptr_t)meta->configuration, meta->configuration_len};

    args->version = 1;
    args->term = r->core.current_term;
    args->last_index = meta->index;
    args->last_term = meta->term;
    args->conf_index = meta->configuration_index;
    if (raft_configuration_decode(&buf, &args->conf) != 0) {
        replica_fail_stop(r, "the configuration of a snapshot can't be decoded", REPLICA_ADVICE_REPORT);
        return false;
    }
    r->install.accepted = false;
    if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0 && !r->dead) {
        replica_fail_stop(r, "the core refused a snapshot", REPLICA_ADVICE_REPORT);
    }
    return r->install.accepted && !r->dead;
}

/* Everything that knows of the old log forgets it. */
static bool forget_log(struct replica *r, const struct snapshot_meta *meta)
{
    if (wal_reset(r->wal, meta->index, meta->term) != WAL_OK) {
        replica_fail_stop(r, "the log can't be reset to a snapshot", "check the disk, then start this node again");
        return false;
    }
    replica_proposals_unknown(r, 0);
    log_tail_fini(&r->tail);
    log_tail_init(&r->tail, meta->index + 1);
    wal_read_fini(r->wal, &r->apply_read);
    r->apply_reading = false;
    grant_drop(&r->grant);
    replica_digest_forget(r, meta->index, meta->term); /* what was noted is of the content before */
    r->applied = meta->index;
    r->applied_term = meta->term;
    r->exposed = r->exposed > meta->index ? r->exposed : meta->index;
    r->stored = meta->index;
    r->unannounced = meta->index;
    r->log_start = meta->index + 1;
    return true;
}

static bool tell_core_persisted(struct replica *r)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT,
                               .persisted_snapshot = {.metadata = r->install.metadata, .offset = 0, .last = true}};

    if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0 && !r->dead) {
        replica_fail_stop(r, "the core refused an installed snapshot", REPLICA_ADVICE_REPORT);
    }
    return !r->dead;
}

/* A joining node must not lose its log from now on. */
static bool note_first_entry(struct replica *r)
{
    if (r->state.starts == 0) {
        r->state.starts = 1;
        if (slots_write(r->slots, &r->state) != SLOTS_OK) {
            replica_fail_stop(r, "writing term and vote failed", "check the disk, then start this node again");
            return false;
        }
    }
    return true;
}

static bool take_over(struct replica *r, const struct snapshot_meta *meta, uint64_t file_bytes)
{
    struct configuration_settings settings = {0};

    if (!replica_snapshot_installed(r, meta, file_bytes)) {
        replica_fail_stop(r, "out of memory", "give this node more memory");
        return false;
    }
    (void)configuration_check(meta->configuration, meta->configuration_len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX,
                              &settings);
    r->next_id = settings.next_id > r->next_id ? settings.next_id : r->next_id;
    for (unsigned i = 0; i < 2; i++) { /* it is the one before the newest too */
        replica_feature_note(r, meta->configuration_index, settings.feature_level);
    }
    cluster_clock_at_least(&r->clock, meta->cluster_time_ms, r->env->ops->now_us(r->env));
    replica_refresh_servers(r);
    return true;
}

/* Forget what is being installed. */
static void end(struct replica *r, enum message_refusal why, bool content_is_bad)
{
    struct install *in = &r->install;

    if (in->ready) {
        r->config.fsm->snapshots->load_abort(in->result.load);
    }
    replica_load_close(in->load);
    in->load = NULL;
    in->ready = false;
    in->index = in->term = 0;
    replica_fetch_installed(r, why, content_is_bad);
}

static void switch_over(struct replica *r)
{
    struct install *in = &r->install;
    const struct snapshot_meta *meta = in->result.meta;
    const uint64_t begun_us = r->env->ops->now_us(r->env);
    const uint64_t before = r->applied;

    assert(meta->index == in->index && meta->term == in->term);
    assert(meta->index > r->applied);
    replica_snapshot_abandon(r);
    if (!tell_core(r, meta)) {
        if (!r->dead) {
            replica_log(r, 1, "the snapshot of index %llu is not needed", (unsigned long long)in->index);
            end(r, (enum message_refusal)0, false);
        }
        return;
    }
    if (!forget_log(r, meta)) {
        return;
    }
    r->config.fsm->snapshots->load_install(in->result.load, meta->index);
    in->ready = false;
    if (!note_first_entry(r) || !tell_core_persisted(r) || !take_over(r, meta, in->result.end->file_bytes)) {
        return;
    }
    snapshot_dir_prune(r->snapshots);
    replica_replay_over(r);
    in->installs++;
    in->last_us = r->env->ops->now_us(r->env) - begun_us;
    replica_log(r, 2, "installed the snapshot of index %llu over index %llu", (unsigned long long)meta->index,
                (unsigned long long)before);
    end(r, (enum message_refusal)0, false);
}

/* The same while the log stays as it is: this node's content was wrong. */
static void rebuild(struct replica *r)
{
    struct install *in = &r->install;
    const uint64_t begun_us = r->env->ops->now_us(r->env);

    if (PLANT(PLANT_REBUILD_FORGETS) && in->result.meta->index > r->applied) {
        r->core.trail.back = r->core.trail.front; /* or the core would say that it has all this */
        r->commit = r->core.commit_index = in->result.meta->index;
        switch_over(r);
        return;
    }
    in->ready = false;
    if (replica_rebuild_switch(r, in->result.load, in->result.meta, in->result.end->file_bytes)) {
        in->last_us = r->env->ops->now_us(r->env) - begun_us;
        end(r, (enum message_refusal)0, false);
    }
}

/* --- Loading ------------------------------------------------------------------------------------------------------ */

void replica_install_settle(struct replica *r)
{
    struct install *in = &r->install;

    if (in->index == 0) {
        return;
    }
    if (replica_holds(r, in->index, in->term)) {
        if (!replica_rebuild_is_due(r, in->index)) {
            end(r, (enum message_refusal)0, false); /* the log got there first */
        } else if (in->ready && replica_rebuild_may_switch(r, in->index, in->term)) {
            rebuild(r);
        }
        return;
    }
    if (in->ready && r->core.state == RAFT_FOLLOWER && r->core.follower_state.current_leader.id != 0) {
        switch_over(r);
    }
}

static void loaded_cb(void *ctx, enum snapshot_status status, const char *error,
                      const struct replica_load_result *result)
{
    struct replica *r = ctx;
    struct install *in = &r->install;

    if (status == SNAPSHOT_OK) {
        in->result = *result;
        in->ready = true;
    }
    if (r->dead) {
        return; /* replica_install_fini gives back what was loaded */
    }
    if (status == SNAPSHOT_OK) {
        replica_settle(r);
        return;
    }
    replica_log(r, 0, "the snapshot of index %llu can't be loaded: %s", (unsigned long long)in->index, error);
    if (status == SNAPSHOT_DAMAGED) {
        snapshot_dir_mark_bad(r->snapshots, in->index, in->term, status);
    }
    end(r, MESSAGE_REFUSED_CONTENT, status == SNAPSHOT_DAMAGED);
}

void replica_install_begin(struct replica *r, uint64_t index, uint64_t term)
{
    struct install *in = &r->install;
    const struct replica_load_config config = {.env = r->env,
                                               .fsm = r->config.fsm->snapshots,
                                               .snapshots = r->snapshots,
                                               .index = index,
                                               .term = term,
                                               .off_loop = true,
                                               .done = loaded_cb,
                                               .ctx = r};

    assert(in->index == 0);
    in->index = index;
    in->term = term;
    const enum snapshot_status status = replica_load_open(&config, &in->load);
    if (status != SNAPSHOT_OK) {
        in->load = NULL;
        replica_log(r, 0, "a snapshot can't be loaded: %s", snapshot_status_text(status));
        end(r, MESSAGE_REFUSED_CONTENT, false);
    }
}

void replica_install_fini(struct replica *r)
{
    struct install *in = &r->install;

    if (in->ready) {
        r->config.fsm->snapshots->load_abort(in->result.load);
        in->ready = false;
    }
    replica_load_close(in->load);
    in->load = NULL;
}

void replica_transfer_info(const struct replica *r, struct replica_info *info)
{
    static const char *const phases[] = {[FETCH_IDLE] = "none",
                                         [FETCH_OPENING] = "opening",
                                         [FETCH_PULLING] = "pulling",
                                         [FETCH_CHECKING] = "checking",
                                         [FETCH_INSTALLING] = "installing"};
    const struct fetch *f = &r->fetch;
    const bool fetching = f->phase != FETCH_IDLE;

    info->snapshot_sends = replica_ship_count(r);
    info->snapshot_fetch = phases[f->phase];
    info->snapshot_fetch_index = fetching ? f->file.index : 0;
    info->snapshot_fetch_bytes = fetching ? f->position : 0;
    info->snapshot_fetch_total = fetching ? f->file_bytes : 0;
    info->snapshot_installs = r->install.installs;
    info->snapshot_resumed = f->resumed;
    info->snapshot_bytes_sent = r->shipping.bytes_sent;
    info->snapshot_bytes_received = f->bytes;
    info->snapshot_bytes_again = f->bytes_again;
    info->snapshot_install_us = r->install.last_us;
}
