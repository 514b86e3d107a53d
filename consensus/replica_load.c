/* The happy path: the reader opens -> FEED (its payload goes to the state machine, piece by piece) -> the reader has
 * seen the whole file good -> SETTLE (what the state machine left for the end) -> FINISH (it checks itself against the
 * stream's header, and we against the file's) -> `done`.
 *
 * On the loop a slice of work is followed by a timer that is due at once, so that everything else gets its turn. Off
 * the loop there is one ENV_DISK_WORK request at a time, and the reader's piece that it works on is consumed when it is
 * back. Closing waits for that request. */
#include "consensus/replica_load.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of payload, in one go: a few milliseconds. Off the loop the thread is shared with decompression. */
#define SLICE_BYTES (1u << 20)
#define WORK_BYTES (256u << 10)
#define SETTLE_BUDGET 20000u

enum step { STEP_FEED, STEP_SETTLE, STEP_FINISH };

struct replica_load {
    struct replica_load_config config;
    char name[SNAPSHOT_NAME_BYTES];
    struct snapshot_reader *reader;
    const struct snapshot_meta *meta;
    const struct snapshot_end *end;
    void *load;
    enum step step;
    bool file_good; /* the reader has seen all of it */
    bool finished;  /* `done` was called */
    bool closing;
    uint64_t start_us;
    struct env_timer timer;

    /* Of the thread that works while `working`, of the loop otherwise. */
    bool working;
    struct env_disk_req req;
    const void *data;
    size_t len;
    bool ok; /* what the state machine said: feed and finish are fine, settle has nothing left */
    struct replica_cut cut;

    char error[SNAPSHOT_ERROR_BYTES];
};

static void go_on(struct replica_load *load);

static void load_free(struct replica_load *load)
{
    if (load->load != NULL) {
        load->config.fsm->load_abort(load->load);
    }
    free(load);
}

static void end(struct replica_load *load, enum snapshot_status status, const char *error)
{
    const struct replica_load_result result = {.load = load->load, .meta = load->meta, .end = load->end};

    assert(!load->finished);
    load->finished = true;
    load->config.env->ops->timer_stop(load->config.env, &load->timer);
    if (status == SNAPSHOT_OK) {
        load->load = NULL; /* given away */
        load->config.done(load->config.ctx, status, NULL, &result);
    } else {
        load->config.done(load->config.ctx, status, error, NULL);
    }
}

static void end_damaged(struct replica_load *load, const char *what)
{
    (void)snprintf(load->error, sizeof load->error,
                   "%s: its checksums are right, but the state machine refuses what is in it: %s", load->name, what);
    end(load, SNAPSHOT_DAMAGED, load->error);
}

/* --- The state machine's work, on whichever thread ---------------------------------------------------------------- */

static void work(struct replica_load *load)
{
    const struct replica_fsm_snapshots *fsm = load->config.fsm;

    switch (load->step) {
    case STEP_FEED:
        load->ok = fsm->load_feed(load->load, load->data, load->len);
        break;
    case STEP_SETTLE:
        load->ok = fsm->load_settle(load->load, SETTLE_BUDGET);
        break;
    case STEP_FINISH:
        load->ok = fsm->load_finish(load->load, &load->cut);
        break;
    }
}

/* What header and trailer of the file say must be what was loaded. */
static bool is_what_it_says(const struct replica_load *load)
{
    return load->cut.revision == load->meta->revision && load->cut.time_ms == load->meta->cluster_time_ms &&
           load->cut.digest == load->end->digest;
}

/* A piece of work is done. False: that was the end. */
static bool take_result(struct replica_load *load)
{
    if (load->step == STEP_FEED) {
        if (!load->ok) {
            end_damaged(load, load->config.fsm->load_error(load->load));
            return false;
        }
        snapshot_reader_consume(load->reader, load->len);
    } else if (load->step == STEP_SETTLE) {
        load->step = load->ok ? STEP_FINISH : STEP_SETTLE;
    } else {
        if (!load->ok) {
            end_damaged(load, load->config.fsm->load_error(load->load));
        } else if (!is_what_it_says(load)) {
            end_damaged(load, "revision, time or digest is not what the file's header and trailer say");
        } else {
            end(load, SNAPSHOT_OK, NULL);
        }
        return false;
    }
    return true;
}

/* --- Pieces of work ----------------------------------------------------------------------------------------------- */

/* Is there something to do now? Sets up the next piece of it. */
static bool prepare(struct replica_load *load, size_t bytes_max)
{
    if (load->step == STEP_FEED && load->file_good) {
        load->step = STEP_SETTLE;
    }
    if (load->step == STEP_FEED) {
        load->len = snapshot_reader_peek(load->reader, &load->data);
        load->len = load->len < bytes_max ? load->len : bytes_max;
        return load->len > 0;
    }
    return true;
}

static void work_cb(struct env_disk_req *req)
{
    work(req->data);
}

static void work_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct replica_load *load = req->data;

    load->working = false;
    if (load->closing) {
        snapshot_reader_close(load->reader);
        load_free(load);
        return;
    }
    if (load->finished) {
        return; /* the reader has failed meanwhile */
    }
    if (status != ENV_OK) {
        end(load, SNAPSHOT_CANCELED, "this node is stopping");
        return;
    }
    if (take_result(load)) {
        go_on(load);
    }
}

static void go_on_elsewhere(struct replica_load *load)
{
    if (load->working || !prepare(load, WORK_BYTES)) {
        return;
    }
    load->working = true;
    load->req = (struct env_disk_req){.op = ENV_DISK_WORK, .work = work_cb, .data = load, .cb = work_done_cb};
    load->config.env->ops->submit(load->config.env, &load->req);
}

static void go_on_here(struct replica_load *load)
{
    size_t left = SLICE_BYTES;

    while (left > 0 && prepare(load, left)) {
        left = load->step == STEP_FEED ? left - load->len : 0;
        work(load);
        if (!take_result(load)) {
            return;
        }
    }
    if (left == 0) {
        load->config.env->ops->timer_set(load->config.env, &load->timer, 0);
    }
}

static void go_on(struct replica_load *load)
{
    if (load->load == NULL || load->finished) {
        return;
    }
    if (load->config.off_loop) {
        go_on_elsewhere(load);
    } else {
        go_on_here(load);
    }
}

static void timer_cb(struct env_timer *timer)
{
    go_on(timer->data);
}

/* --- The reader's events ------------------------------------------------------------------------------------------ */

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end_)
{
    struct replica_load *load = ctx;

    load->meta = meta;
    load->end = end_;
    load->load = load->config.fsm->load_begin(load->config.fsm->ctx, end_->payload_bytes);
    if (load->load == NULL) {
        end(load, SNAPSHOT_NO_MEMORY, "out of memory: give this node more memory");
    }
}

static void ready_cb(void *ctx)
{
    struct replica_load *load = ctx;

    if (load->closing || load->finished) {
        return;
    }
    if (load->config.off_loop) {
        go_on(load);
    } else { /* from inside the reader: not now */
        load->config.env->ops->timer_set(load->config.env, &load->timer, 0);
    }
}

static void done_cb(void *ctx, enum snapshot_status status, const char *error)
{
    struct replica_load *load = ctx;

    if (load->closing || load->finished) {
        return;
    }
    if (status != SNAPSHOT_OK) {
        end(load, status, error);
        return;
    }
    load->file_good = true;
    go_on(load);
}

/* --- Interface ---------------------------------------------------------------------------------------------------- */

enum snapshot_status replica_load_open(const struct replica_load_config *config, struct replica_load **out)
{
    const struct snapshot_reader_events events = {.opened = opened_cb, .ready = ready_cb, .done = done_cb};
    struct replica_load *load = calloc(1, sizeof *load);

    if (load == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    load->config = *config;
    load->timer = (struct env_timer){.data = load, .cb = timer_cb};
    load->start_us = config->env->ops->now_us(config->env);
    snapshot_name_format(load->name, config->index, config->term, "");
    if (config->env->ops->timer_init(config->env, &load->timer) != ENV_OK) {
        free(load);
        return SNAPSHOT_NO_MEMORY;
    }
    struct snapshot_reader_events own = events;
    own.ctx = load;
    const enum snapshot_status status =
        snapshot_reader_open(config->env, config->snapshots, load->name, &own, &load->reader);
    if (status != SNAPSHOT_OK) {
        config->env->ops->timer_fini(config->env, &load->timer);
        free(load);
        return status;
    }
    *out = load;
    return SNAPSHOT_OK;
}

void replica_load_close(struct replica_load *load)
{
    if (load == NULL) {
        return;
    }
    assert(!load->closing);
    load->closing = true;
    load->config.env->ops->timer_fini(load->config.env, &load->timer);
    if (!load->working) { /* else it is done with the reader's memory first */
        snapshot_reader_close(load->reader);
        load_free(load);
    }
}

void replica_load_progress(const struct replica_load *load, struct replica_loading_info *info)
{
    *info =
        (struct replica_loading_info){.bytes = snapshot_reader_position(load->reader),
                                      .bytes_total = load->end != NULL ? load->end->file_bytes : 0,
                                      .elapsed_us = load->config.env->ops->now_us(load->config.env) - load->start_us};
    if (load->load != NULL && !load->working) {
        info->keys = load->config.fsm->load_keys(load->load, &info->keys_total);
    }
}
