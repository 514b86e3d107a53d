/* Starting from a snapshot: the newest good one is loaded, then the log is opened, which has to go on from there.
 *
 * The log is opened after that, not before: a snapshot may be ahead of it (an installation that was cut short), and
 * then the log is reset to the snapshot, which must be known to be good by then. If the newest one turns out to be
 * damaged the one before it serves as well, as long as the log still reaches back to it; wal_open refuses if it does
 * not. */
#include <string.h>

#include "consensus/replica_internal.h"

#define TELL_US 2000000u

static enum replica_status begin(struct replica *r, const char **error);

static void tell_progress(struct replica *r)
{
    struct replica_loading_info info;
    const uint64_t now_us = r->env->ops->now_us(r->env);

    if (now_us < r->load_told_us + TELL_US) {
        return;
    }
    r->load_told_us = now_us;
    replica_load_progress(r->load, &info);
    if (info.bytes == 0 || info.bytes_total == 0 || info.elapsed_us == 0) {
        return;
    }
    const uint64_t rate = info.bytes * 1000 / (info.elapsed_us / 1000 + 1); /* per second */
    replica_log(r, 2, "loading the snapshot: %llu %% of %llu MB, %llu keys, %llu MB/s, %llu s left",
                (unsigned long long)(info.bytes * 100 / info.bytes_total), (unsigned long long)info.bytes_total >> 20,
                (unsigned long long)info.keys, (unsigned long long)rate >> 20,
                (unsigned long long)((info.bytes_total - info.bytes) / (rate > 0 ? rate : 1)));
}

void replica_restore_turn(struct replica *r)
{
    if (r->loading) {
        tell_progress(r);
    }
}

/* Is it a snapshot of this cluster that this version understands? */
static enum replica_status check_meta(const struct replica *r, const struct snapshot_meta *meta, const char **error)
{
    struct configuration_settings settings;

    if (memcmp(meta->cluster, r->state.cluster, sizeof meta->cluster) != 0) {
        return replica_open_fail(error, REPLICA_FOREIGN,
                                 "the snapshot at entry %llu belongs to another cluster: check the data directory",
                                 (unsigned long long)meta->index);
    }
    if (meta->feature_level > r->feature_max ||
        !configuration_check(meta->configuration, meta->configuration_len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX,
                             &settings)) {
        return replica_open_fail(error, REPLICA_CORRUPT,
                                 "the configuration in the snapshot at entry %llu is not understood: run the version "
                                 "that wrote it",
                                 (unsigned long long)meta->index);
    }
    return REPLICA_OK;
}

static enum replica_status take_over(struct replica *r, const struct replica_load_result *result, const char **error)
{
    const struct snapshot_meta *meta = result->meta;
    const enum replica_status status = check_meta(r, meta, error);

    if (status != REPLICA_OK) {
        r->config.fsm->snapshots->load_abort(result->load);
        return status;
    }
    r->config.fsm->snapshots->load_install(result->load, meta->index);
    if (!replica_snapshot_installed(r, meta, result->end->file_bytes)) {
        return replica_open_fail(error, REPLICA_NO_MEMORY, "out of memory");
    }
    r->applied = meta->index;
    r->applied_term = meta->term;
    r->exposed = meta->index; /* nothing is in a snapshot that was not shown */
    r->exposed_seen = meta->index;
    return REPLICA_OK;
}

/* replica_open returned long ago: there is nobody to return an error to. */
static void open_log(struct replica *r, enum replica_status status, const char *error)
{
    if (status == REPLICA_OK && r->load == NULL) {
        status = replica_open_log(r, &error);
        r->loading = status != REPLICA_OK;
    }
    if (status != REPLICA_OK && !r->dead) {
        replica_fail_stop(r, error != NULL ? error : replica_strerror(status), "This node did not start");
    }
}

static void done_cb(void *ctx, enum snapshot_status status, const char *error, const struct replica_load_result *result)
{
    struct replica *r = ctx;
    const struct snapshot_info *info = snapshot_dir_newest(r->snapshots);
    const char *text = NULL;
    enum replica_status opened;

    if (status == SNAPSHOT_OK) {
        struct replica_loading_info progress;
        replica_load_progress(r->load, &progress);
        replica_log(r, 2, "snapshot at entry %llu: %llu bytes loaded in %llu ms", (unsigned long long)info->index,
                    (unsigned long long)info->file_bytes, (unsigned long long)(progress.elapsed_us / 1000));
        opened = take_over(r, result, &text);
        replica_load_close(r->load);
        r->load = NULL;
        open_log(r, opened, text);
        return;
    }
    if (status == SNAPSHOT_CANCELED) {
        return;
    }
    if (status == SNAPSHOT_DAMAGED) {
        replica_log(r, 0, "%s", error);
        snapshot_dir_mark_bad(r->snapshots, info->index, info->term, status);
        replica_load_close(r->load);
        r->load = NULL;
        opened = begin(r, &text);
        open_log(r, opened, text);
        return;
    }
    replica_fail_stop(r, error, "check the disk, then start this node again");
}

/* Load the newest good one, if there is any. */
static enum replica_status begin(struct replica *r, const char **error)
{
    const struct snapshot_info *newest = snapshot_dir_at(r->snapshots, 0);
    const struct snapshot_info *info = snapshot_dir_newest(r->snapshots);

    r->loading = r->loading || info != NULL;
    if (newest != info) {
        replica_log(r, 0, "%s", snapshot_dir_error(r->snapshots, newest->index, newest->term));
        if (info != NULL) {
            replica_log(r, 0, "falling back to the snapshot at entry %llu", (unsigned long long)info->index);
        }
    }
    if (info == NULL) {
        return REPLICA_OK;
    }
    const struct replica_load_config config = {.env = r->env,
                                               .fsm = r->config.fsm->snapshots,
                                               .snapshots = r->snapshots,
                                               .index = info->index,
                                               .term = info->term,
                                               .done = done_cb,
                                               .ctx = r};
    replica_log(r, 2, "loading the snapshot at entry %llu, %llu bytes", (unsigned long long)info->index,
                (unsigned long long)info->file_bytes);
    r->load_told_us = r->env->ops->now_us(r->env);
    const enum snapshot_status status = replica_load_open(&config, &r->load);
    if (status != SNAPSHOT_OK) {
        r->load = NULL;
        return replica_open_fail(error, status == SNAPSHOT_NO_MEMORY ? REPLICA_NO_MEMORY : REPLICA_IO,
                                 "the snapshot at entry %llu can't be opened: %s", (unsigned long long)info->index,
                                 snapshot_status_text(status));
    }
    return REPLICA_OK;
}

enum replica_status replica_restore(struct replica *r, const char **error)
{
    return r->snapshots != NULL ? begin(r, error) : REPLICA_OK;
}

void replica_restore_close(struct replica *r)
{
    replica_load_close(r->load);
    r->load = NULL;
}

bool replica_is_loading(const struct replica *r)
{
    return r->loading || r->replay.running;
}

void replica_loading_info(const struct replica *r, struct replica_loading_info *info)
{
    *info = (struct replica_loading_info){0};
    if (r->load != NULL) {
        replica_load_progress(r->load, info);
    } else {
        replica_replay_info(r, info);
    }
}
