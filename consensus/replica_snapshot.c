/* Taking snapshots: when, and how without anybody noticing.
 *
 *   IDLE -> (due) a cut is fixed between two entries -> EMITTING: its stream goes into a file, a slice per loop turn
 *   -> WRITING: the rest of the file is written, synced and renamed -> WRITTEN: once the log here has that entry on
 *   stable storage too, the core is told, and the log before it is given back -> IDLE
 *
 * Any failure leads back to IDLE: nothing but time is lost, since the log is kept until a snapshot is durable. It is
 * logged, and tried again a while later.
 *
 * What entries destroy of the cut is kept in memory until it is emitted, within a limit. So besides the slices, which
 * follow the configured rate and the disk, each applied entry emits until that is little again, if the writer takes it.
 *
 * When: replica_turns.c.
 *
 * What of the log stays. Entries up to the snapshot are dropped but for the last `keep_bytes`, for followers that are
 * behind: log_points remembers at which index the log had grown how far. What a transfer holds beyond that goes as soon
 * as the hold ends. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/replica_internal.h"

/* Of content, per step of the state machine at most, and per loop turn by default. */
#define STEP_BYTES ((size_t)64 * 1024)
#define SLICE_BYTES STEP_BYTES
/* A step emits that much more than asked for, at most. */
#define STEP_MORE ((size_t)16 * 1024)
/* Kept aside for the cut: above this an applied entry emits, ... */
#define PENDING_BYTES ((size_t)256 * 1024)
/* ... at most that much. */
#define PENDING_SLICE_BYTES (8 * STEP_BYTES)
#define RETRY_US 30000000u
/* After it was outrun by writes. */
#define RETRY_SOON_US 5000000u
/* What an entry takes in the log beside its data. */
#define ENTRY_BYTES 48u
#define POINT_BYTES_MIN 4096u

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

static void configuration_free(struct replica_configuration *c)
{
    free(c->data);
    *c = (struct replica_configuration){0};
}

static bool configuration_copy(struct replica_configuration *to, uint64_t index, const void *data, size_t len)
{
    void *copy = malloc(len > 0 ? len : 1);

    if (copy == NULL) {
        return false;
    }
    memcpy(copy, data, len);
    free(to->data);
    *to = (struct replica_configuration){index, copy, len};
    return true;
}

bool replica_snapshot_configured(struct replica *r, uint64_t index, const void *data, size_t len)
{
    return configuration_copy(&r->configured, index, data, len);
}

/* --- Requests ----------------------------------------------------------------------------------------------------- */

static void answer(struct replica_snapshot_request **list, enum replica_status status,
                   const struct replica_snapshot_info *info)
{
    struct replica_snapshot_request *request = *list;

    *list = NULL;
    while (request != NULL) {
        struct replica_snapshot_request *next = request->next;
        request->cb(request, status, info);
        request = next;
    }
}

static void append(struct replica_snapshot_request **list, struct replica_snapshot_request *requests)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = requests;
}

static void take_out(struct replica_snapshot_request **list, const struct replica_snapshot_request *request)
{
    while (*list != NULL && *list != request) {
        list = &(*list)->next;
    }
    if (*list != NULL) {
        *list = request->next;
    }
}

enum replica_status replica_snapshot_take(struct replica *r, struct replica_snapshot_request *request)
{
    if (r->snapshots == NULL) {
        return REPLICA_CONFIG;
    }
    if (r->dead || !r->started || r->applied == 0) {
        return REPLICA_BUSY;
    }
    if (replica_is_fenced(r)) {
        return REPLICA_DISPUTED;
    }
    request->next = NULL;
    append(&r->take.waiting, request);
    r->env->ops->timer_set(r->env, &r->take.timer, 0);
    return REPLICA_OK;
}

void replica_snapshot_cancel(struct replica *r, struct replica_snapshot_request *request)
{
    take_out(&r->take.waiting, request);
    take_out(&r->take.requests, request);
}

bool replica_snapshot_is_taken(const struct replica *r)
{
    return r->take.state != TAKE_IDLE;
}

void replica_snapshot_configure(struct replica *r, const struct replica_snapshot_config *config)
{
    r->config.snapshots = *config;
}

/* --- Failing ------------------------------------------------------------------------------------------------------ */

static void drop_work(struct replica *r)
{
    struct replica_take *t = &r->take;

    if (t->cut != NULL) {
        r->config.fsm->snapshots->cut_end(t->cut);
        t->cut = NULL;
    }
    if (t->writer != NULL) {
        snapshot_writer_close(t->writer);
        t->writer = NULL;
    }
    configuration_free(&t->configuration);
    free(t->rest);
    t->rest = NULL;
    t->rest_at = 0;
    t->rest_len = 0;
    t->state = TAKE_IDLE;
}

static void fail(struct replica *r, enum replica_status status, uint64_t retry_us, const char *why)
{
    replica_log(r, status == REPLICA_BUSY ? 1 : 0, "no snapshot was taken at entry %llu: %s; trying again in %llu s",
                (unsigned long long)r->take.index, why, (unsigned long long)(retry_us / 1000000));
    r->take.failed++;
    r->take.retry_us = now_of(r) + retry_us;
    drop_work(r);
    answer(&r->take.requests, status, NULL);
}

void replica_snapshot_abandon(struct replica *r)
{
    if (r->take.state == TAKE_WRITTEN) { /* so that it is removed some day */
        (void)snapshot_dir_add(r->snapshots, r->take.index, r->take.term, r->take.file_bytes);
    }
    if (r->take.state != TAKE_IDLE) {
        struct replica_snapshot_request *requests = r->take.requests;
        r->take.requests = NULL;
        drop_work(r);
        append(&requests, r->take.waiting);
        r->take.waiting = requests;
    }
}

void replica_snapshot_refuse(struct replica *r)
{
    replica_snapshot_abandon(r);
    answer(&r->take.waiting, REPLICA_DISPUTED, NULL);
}

static enum replica_status status_of(enum snapshot_status status)
{
    switch (status) {
    case SNAPSHOT_OK:
        return REPLICA_OK;
    case SNAPSHOT_NO_SPACE:
        return REPLICA_NO_SPACE;
    case SNAPSHOT_NO_MEMORY:
        return REPLICA_NO_MEMORY;
    case SNAPSHOT_CANCELED:
    case SNAPSHOT_BUSY: /* an earlier file of the same name has not gone yet */
        return REPLICA_BUSY;
    default:
        return REPLICA_IO;
    }
}

/* --- Emitting ----------------------------------------------------------------------------------------------------- */

static void emit_cb(void *ctx, const void *data, size_t len)
{
    struct replica_take *t = ctx;
    const uint8_t *bytes = data;
    size_t taken = 0;

    t->content_bytes += len;
    if (t->rest_len == 0) {
        taken = snapshot_writer_append(t->writer, bytes, len);
    }
    if (taken < len) {
        assert(t->rest_at + t->rest_len + len - taken <= STEP_BYTES + STEP_MORE);
        memcpy(t->rest + t->rest_at + t->rest_len, bytes + taken, len - taken);
        t->rest_len += len - taken;
    }
}

/* False: the writer is full. */
static bool write_rest(struct replica_take *t)
{
    if (t->rest_len > 0) {
        const size_t taken = snapshot_writer_append(t->writer, t->rest + t->rest_at, t->rest_len);
        t->rest_at += taken;
        t->rest_len -= taken;
    }
    if (t->rest_len == 0) {
        t->rest_at = 0;
    }
    return t->rest_len == 0;
}

static void end_stream(struct replica_take *t)
{
    if (write_rest(t)) {
        t->state = TAKE_WRITING;
        snapshot_writer_finish(t->writer, t->digest);
    }
}

/* Emit about `bytes_max`, at most STEP_BYTES. False: not now; the stream has ended, the writer is full, or the snapshot
 * has failed. */
static bool step(struct replica *r, size_t bytes_max)
{
    struct replica_take *t = &r->take;

    if (!write_rest(t)) {
        return false;
    }
    if (t->cut == NULL) {
        end_stream(t);
        return false;
    }
    switch (r->config.fsm->snapshots->cut_step(t->cut, bytes_max < STEP_BYTES ? bytes_max : STEP_BYTES, emit_cb, t)) {
    case REPLICA_CUT_MORE:
        return true;
    case REPLICA_CUT_DONE:
        r->config.fsm->snapshots->cut_end(t->cut);
        t->cut = NULL;
        end_stream(t);
        return false;
    case REPLICA_CUT_OVERFLOW:
        fail(r, REPLICA_BUSY, RETRY_SOON_US, "entries changed more of the content than may be kept aside");
        return false;
    case REPLICA_CUT_BROKEN:
        fail(r, REPLICA_CORRUPT, RETRY_US,
             "the content in memory is not what its digest says: check this machine's memory, and start this node "
             "again");
        return false;
    }
    return false;
}

static void note_slice(struct replica *r, uint64_t begin_us)
{
    const uint64_t us = now_of(r) - begin_us;

    r->take.slice_max_us = us > r->take.slice_max_us ? us : r->take.slice_max_us;
}

static void emit_slice(struct replica *r, uint64_t now_us)
{
    struct replica_take *t = &r->take;
    const uint64_t before = t->content_bytes;
    const uint64_t slice = r->config.snapshots.slice_bytes > 0 ? r->config.snapshots.slice_bytes : SLICE_BYTES;
    const uint64_t steps = (slice + STEP_BYTES - 1) / STEP_BYTES; /* one may emit nothing */

    if (now_us < t->slice_next_us) {
        return; /* the timer is set */
    }
    for (uint64_t i = 0; i < steps && step(r, slice); i++) {
    }
    note_slice(r, now_us);
    if (t->state != TAKE_EMITTING || t->rest_len > 0) {
        return; /* the writer calls when it takes more */
    }
    const uint64_t rate = r->config.snapshots.rate;
    t->slice_next_us = now_us + (rate > 0 ? (t->content_bytes - before) * 1000000 / rate : 0);
    r->env->ops->timer_set(r->env, &t->timer, t->slice_next_us);
}

/* The log has grown by the entry at `index`. */
static void count_log(struct replica *r, uint64_t index, size_t len)
{
    const uint64_t every = r->config.snapshots.keep_bytes / (REPLICA_LOG_POINTS / 2);
    const struct log_point *newest = &r->log_points[r->n_log_points > 0 ? r->n_log_points - 1 : 0];

    r->log_bytes += len + ENTRY_BYTES;
    if (r->n_log_points > 0 && r->log_bytes - newest->bytes < (every > POINT_BYTES_MIN ? every : POINT_BYTES_MIN)) {
        return;
    }
    if (r->n_log_points == REPLICA_LOG_POINTS) {
        r->n_log_points--;
        memmove(&r->log_points[0], &r->log_points[1], r->n_log_points * sizeof r->log_points[0]);
    }
    r->log_points[r->n_log_points++] = (struct log_point){index, r->log_bytes};
}

/* The last entry that a snapshot at `index`, where the log had grown to `log_bytes`, makes superfluous: all below it
 * but keep_bytes. */
static uint64_t covered_by(const struct replica *r, uint64_t index, uint64_t log_bytes)
{
    const uint64_t keep = r->config.snapshots.keep_bytes;

    for (unsigned i = r->n_log_points; i-- > 0;) {
        const struct log_point *point = &r->log_points[i];
        if (point->index < index && log_bytes - point->bytes <= keep) {
            index = point->index;
        }
    }
    return index;
}

/* Look through the log up to the snapshot. */
static void recount(struct replica *r)
{
    r->log_bytes = 0;
    r->log_points[0] = (struct log_point){r->log_start - 1, 0};
    r->n_log_points = 1;
    for (uint64_t i = r->log_start; i <= r->snapshot.index; i++) {
        count_log(r, i, wal_len_of(r->wal, i));
    }
    r->log_bytes_snapshot = r->log_bytes;
    r->log_covered = covered_by(r, r->snapshot.index, r->log_bytes);
}

void replica_snapshot_log_opened(struct replica *r)
{
    r->log_start = wal_first(r->wal);
    recount(r);
}

void replica_snapshot_applied(struct replica *r, size_t len)
{
    const struct replica_fsm_snapshots *fsm = r->config.fsm->snapshots;
    struct replica_take *t = &r->take;

    count_log(r, r->applied, len);
    if (t->state == TAKE_EMITTING && t->cut != NULL && fsm->cut_pending(t->cut) > PENDING_BYTES) {
        const uint64_t begin_us = now_of(r);
        size_t steps = PENDING_SLICE_BYTES / STEP_BYTES;
        while (steps > 0 && step(r, STEP_BYTES) && fsm->cut_pending(t->cut) > PENDING_BYTES) {
            steps--;
        }
        note_slice(r, begin_us);
    }
}

/* --- The writer's events ------------------------------------------------------------------------------------------ */

/* The turn that this is part of goes on with it. */
static void ready_cb(void *ctx)
{
    (void)ctx;
}

static void done_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    struct replica *r = ctx;
    struct replica_take *t = &r->take;

    if (status == SNAPSHOT_OK) {
        assert(t->state == TAKE_WRITING);
        t->state = TAKE_WRITTEN;
        t->file_bytes = end->file_bytes;
        snapshot_writer_close(t->writer);
        t->writer = NULL;
    } else if (status == SNAPSHOT_CANCELED) {
        replica_snapshot_abandon(r); /* the env is closing */
    } else {
        fail(r, status_of(status), RETRY_US, error);
    }
}

/* --- Beginning ---------------------------------------------------------------------------------------------------- */

static uint32_t level_of(const struct replica_configuration *configuration)
{
    struct configuration_settings settings = {.feature_level = CONFIGURATION_FEATURE_LEVEL};

    (void)configuration_check(configuration->data, configuration->len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX,
                              &settings);
    return settings.feature_level;
}

static void begin(struct replica *r, uint64_t now_us)
{
    struct replica_take *t = &r->take;
    const struct snapshot_writer_events events = {.ready = ready_cb, .done = done_cb, .ctx = r};
    struct replica_cut cut;

    t->index = r->applied;
    t->term = r->applied_term;
    t->requests = t->waiting;
    t->waiting = NULL;
    t->log_bytes = r->log_bytes;
    t->content_bytes = 0;
    t->start_us = now_us;
    t->slice_next_us = 0;
    t->rest = malloc(STEP_BYTES + STEP_MORE);
    t->cut = t->rest == NULL ? NULL : r->config.fsm->snapshots->cut_begin(r->config.fsm->snapshots->ctx, &cut);
    if (t->cut == NULL ||
        !configuration_copy(&t->configuration, r->configured.index, r->configured.data, r->configured.len)) {
        fail(r, REPLICA_NO_MEMORY, RETRY_US, "out of memory");
        return;
    }
    t->digest = cut.digest;
    t->time_ms = cut.time_ms;
    struct snapshot_meta meta = {.index = t->index,
                                 .term = t->term,
                                 .cluster_time_ms = cut.time_ms,
                                 .revision = cut.revision,
                                 .configuration_index = t->configuration.index,
                                 .configuration = t->configuration.data,
                                 .configuration_len = (uint32_t)t->configuration.len,
                                 .feature_level = level_of(&t->configuration)};
    memcpy(meta.cluster, r->state.cluster, sizeof meta.cluster);
    const enum snapshot_status status = snapshot_writer_open(r->env, r->snapshots, &meta, &events, &t->writer);
    if (status != SNAPSHOT_OK) {
        t->writer = NULL;
        fail(r, status_of(status), status == SNAPSHOT_BUSY ? RETRY_SOON_US : RETRY_US, snapshot_status_text(status));
        return;
    }
    t->state = TAKE_EMITTING;
}

/* --- Done --------------------------------------------------------------------------------------------------------- */

/* The last entry to be dropped: what is superfluous and not held. Below log_start: nothing is. */
static uint64_t drop_to(const struct replica *r)
{
    const uint64_t index = r->log_covered < r->log_hold ? r->log_covered : r->log_hold;

    return index >= r->log_start ? index : r->log_start - 1;
}

/* Tell the core of a snapshot; it then asks for nothing at or below `drop`. */
static bool tell_core(struct replica *r, uint64_t index, uint64_t term,
                      const struct replica_configuration *configuration, uint64_t drop)
{
    const struct raft_buffer buf = {configuration->data, configuration->len};
    struct raft_event event = {.type = RAFT_SNAPSHOT};

    event.snapshot.metadata.index = index;
    event.snapshot.metadata.term = term;
    event.snapshot.metadata.configuration_index = configuration->index;
    event.snapshot.trailing = (unsigned)(index - drop);
    if (raft_configuration_decode(&buf, &event.snapshot.metadata.configuration) != 0) {
        replica_fail_stop(r, "out of memory", "give this node more memory");
        return false;
    }
    if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0) {
        if (!r->dead) {
            replica_fail_stop(r, "the core refused a snapshot", REPLICA_ADVICE_REPORT);
        }
        return false;
    }
    return true;
}

static void drop_log(struct replica *r, uint64_t drop)
{
    if (drop >= r->log_start) {
        r->log_start = drop + 1;
        wal_drop_prefix(r->wal, drop);
    }
}

/* A hold has ended (or kept the log of an earlier life): what it kept beyond its snapshot's tail goes now, not with the
 * next snapshot, which may never come. The core drops a part of its log only when it hears of a snapshot, and of each
 * index once; so it hears of the entry before first, which costs nothing. That entry stays. */
static void drop_released(struct replica *r)
{
    const uint64_t index = r->snapshot.index;

    if (index == 0) {
        return;
    }
    const uint64_t drop = drop_to(r) < index ? drop_to(r) : index - 1;
    if (drop < r->log_start) {
        return;
    }
    if (tell_core(r, index - 1, wal_term_of(r->wal, index - 1), &r->configured, r->log_start - 1) &&
        tell_core(r, index, r->snapshot.term, &r->configured, drop)) {
        drop_log(r, drop);
        replica_log(r, 2, "the log is needed by nobody before entry %llu any more, and begins there",
                    (unsigned long long)r->log_start);
    }
}

static void conclude(struct replica *r, uint64_t now_us)
{
    struct replica_take *t = &r->take;

    assert(wal_term_of(r->wal, t->index) == t->term);
    if (!snapshot_dir_add(r->snapshots, t->index, t->term, t->file_bytes)) {
        fail(r, REPLICA_NO_MEMORY, RETRY_US, "out of memory");
        return;
    }
    r->log_covered = covered_by(r, t->index, t->log_bytes);
    const uint64_t drop = drop_to(r);
    if (!tell_core(r, t->index, t->term, &t->configuration, drop)) {
        return;
    }
    r->snapshot = (struct replica_snapshot_info){t->index, t->term, t->file_bytes, t->time_ms};
    r->log_bytes_snapshot = t->log_bytes;
    drop_log(r, drop);
    snapshot_dir_prune(r->snapshots);
    t->taken++;
    t->took_us = now_us - t->start_us;
    t->last_us = now_us;
    replica_log(r, 2, "snapshot at entry %llu: %llu bytes of content in %llu bytes, %llu ms; the log begins at %llu",
                (unsigned long long)t->index, (unsigned long long)t->content_bytes, (unsigned long long)t->file_bytes,
                (unsigned long long)(t->took_us / 1000), (unsigned long long)r->log_start);
    drop_work(r);
    answer(&t->requests, REPLICA_OK, &r->snapshot);
}

/* A snapshot is asked for, and nothing happened since the newest one. If that was found to be damaged meanwhile a
 * leader makes something happen; the file of another index takes its place. */
static void answer_unchanged(struct replica *r)
{
    const struct snapshot_info *info = snapshot_dir_newest(r->snapshots);

    if (info != NULL && info->index == r->snapshot.index && info->term == r->snapshot.term) {
        answer(&r->take.waiting, REPLICA_OK, &r->snapshot);
    } else if (replica_leads(r)) {
        r->entry_wanted = r->snapshot.index + 1;
    } else {
        answer(&r->take.waiting, REPLICA_IO, NULL);
    }
}

/* --- Turns -------------------------------------------------------------------------------------------------------- */

void replica_snapshot_turn(struct replica *r)
{
    struct replica_take *t = &r->take;
    const uint64_t now_us = now_of(r);

    if (r->snapshots == NULL) {
        return;
    }
    if (t->state == TAKE_IDLE) {
        if (t->waiting != NULL && r->applied <= r->snapshot.index) {
            answer_unchanged(r);
        }
    }
    if (replica_turns_may_begin(r, now_us)) {
        begin(r, now_us);
    }
    if (t->state == TAKE_EMITTING) {
        emit_slice(r, now_us);
    }
    if (t->state == TAKE_WRITTEN && r->stored >= t->index) {
        conclude(r, now_us);
    }
    if (!r->dead) {
        drop_released(r);
    }
}

static void timer_cb(struct env_timer *timer)
{
    (void)timer; /* the turn that this is part of goes on with it */
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

bool replica_snapshot_installed(struct replica *r, const struct snapshot_meta *meta, uint64_t file_bytes)
{
    if (!replica_snapshot_configured(r, meta->configuration_index, meta->configuration, meta->configuration_len)) {
        return false;
    }
    r->snapshot = (struct replica_snapshot_info){meta->index, meta->term, file_bytes, meta->cluster_time_ms};
    r->log_bytes_snapshot = r->log_bytes;
    r->log_points[0] = (struct log_point){meta->index, r->log_bytes};
    r->n_log_points = 1;
    r->take.last_us = now_of(r);
    return true;
}

bool replica_snapshot_adopt(struct replica *r, const struct snapshot_meta *meta, uint64_t file_bytes)
{
    if (!replica_snapshot_installed(r, meta, file_bytes)) {
        replica_fail_stop(r, "out of memory", "give this node more memory");
        return false;
    }
    recount(r);
    return tell_core(r, meta->index, meta->term, &r->configured, r->log_start - 1);
}

enum replica_status replica_snapshot_open(struct replica *r)
{
    r->log_hold = UINT64_MAX;
    r->log_start = 1;
    r->take.last_us = now_of(r);
    if (r->config.fsm->snapshots == NULL) {
        return REPLICA_OK;
    }
    r->take.timer = (struct env_timer){.data = r, .cb = timer_cb};
    if (r->env->ops->timer_init(r->env, &r->take.timer) != ENV_OK) {
        return REPLICA_NO_MEMORY;
    }
    const enum snapshot_status status = snapshot_dir_open(r->env, &r->snapshots);
    if (status != SNAPSHOT_OK) {
        r->snapshots = NULL;
        r->env->ops->timer_fini(r->env, &r->take.timer);
        return status_of(status);
    }
    return REPLICA_OK;
}

void replica_snapshot_close(struct replica *r)
{
    if (r->snapshots == NULL) {
        return;
    }
    drop_work(r);
    answer(&r->take.requests, REPLICA_BUSY, NULL);
    answer(&r->take.waiting, REPLICA_BUSY, NULL);
    configuration_free(&r->configured);
    r->env->ops->timer_fini(r->env, &r->take.timer);
    snapshot_dir_close(r->snapshots);
    r->snapshots = NULL;
}

struct snapshot_dir *replica_snapshots(struct replica *r)
{
    return r->snapshots;
}

void replica_snapshot_info(const struct replica *r, struct replica_info *info)
{
    const struct replica_take *t = &r->take;

    info->snapshot = r->snapshot;
    info->snapshot_taking = t->state != TAKE_IDLE;
    info->snapshot_bytes_written = t->state != TAKE_IDLE ? t->content_bytes : 0;
    info->snapshot_us = t->took_us;
    info->snapshot_slice_max_us = t->slice_max_us;
    info->snapshots_taken = t->taken;
    info->snapshots_failed = t->failed;
    info->log_bytes_since = r->log_bytes - r->log_bytes_snapshot;
    replica_turns_info(r, info);
}
