/* The files of the WAL: names, states, the spare kept ready, and the old ones opened for reading. How segments go away
 * and come back as spares: wal_drop.c.
 *
 * A segment may be appended to before its file exists (WANTED): locations are then fixed, but the chunk waits in
 * memory. wal_segments_prepare asks for one file at a time, in order, until one spare lies beyond the current segment,
 * so in the usual case the next file is there long before it is needed. A full disk stops only this: the creation is
 * tried again with growing pauses, and wal_room tells the caller to accept no more meanwhile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/wal_internal.h"

struct wal_segment *wal_segment_of(const struct wal *wal, uint32_t generation)
{
    assert(wal->n_segments > 0);
    assert(generation >= wal->segments[0].generation);
    size_t at = generation - wal->segments[0].generation;
    assert(at < wal->n_segments);
    return &wal->segments[at];
}

bool wal_segments_reserve(struct wal *wal, size_t extra)
{
    if (wal->segments_cap - wal->n_segments >= extra) {
        return true;
    }
    size_t cap = wal->segments_cap == 0 ? 16 : wal->segments_cap * 2;
    if (cap < wal->n_segments + extra) {
        cap = wal->n_segments + extra;
    }
    struct wal_segment *segments = realloc(wal->segments, cap * sizeof *segments);
    if (segments == NULL) {
        return false;
    }
    wal->segments = segments;
    wal->segments_cap = cap;
    return true;
}

struct wal_segment *wal_segments_push(struct wal *wal, uint32_t generation, uint64_t size)
{
    assert(wal->n_segments < wal->segments_cap);
    assert(wal->n_segments == 0 || wal->segments[wal->n_segments - 1].generation + 1 == generation);
    struct wal_segment *segment = &wal->segments[wal->n_segments++];
    *segment = (struct wal_segment){.state = WAL_SEGMENT_WANTED, .generation = generation, .size = size};
    return segment;
}

static void log_space(struct wal *wal, enum env_status status)
{
    char text[160];
    if (status == ENV_OK) {
        snprintf(text, sizeof text, "wal: created %s again after the disk was full", wal->create_name);
    } else {
        snprintf(text, sizeof text, "wal: can't create %s: %s; retrying, and refusing new writes meanwhile",
                 wal->create_name, status == ENV_NO_SPACE ? "no space left" : "permission denied");
    }
    wal->env->ops->log(wal->env, 1, text);
}

static void retry_later(struct wal *wal, enum env_status status)
{
    if (!wal->no_space) {
        log_space(wal, status);
        wal->retry_us = WAL_RETRY_MIN_US;
    } else {
        wal->retry_us = wal->retry_us * 2 < WAL_RETRY_MAX_US ? wal->retry_us * 2 : WAL_RETRY_MAX_US;
    }
    wal->no_space = true;
    wal->retrying = true;
    wal->env->ops->timer_set(wal->env, &wal->retry_timer, wal->env->ops->now_us(wal->env) + wal->retry_us);
}

void wal_segments_has_space(struct wal *wal)
{
    if (wal->no_space) {
        wal->no_space = false;
        log_space(wal, ENV_OK);
    }
    if (wal->retrying) {
        wal->retrying = false;
        wal->env->ops->timer_stop(wal->env, &wal->retry_timer);
    }
}

static void create_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct wal *wal = req->data;
    assert(wal->creating);
    wal->creating = false;
    wal->in_flight--;
    if (wal->closing) {
        if (status == ENV_OK) {
            wal->env->ops->close(wal->env, req->file);
        }
        wal_destroy_if_done(wal);
        return;
    }
    uint32_t generation = 0;
    bool named = wal_name_parse(wal->create_name, &generation);
    assert(named);
    struct wal_segment *segment = wal_segment_of(wal, generation);
    assert(segment->state == WAL_SEGMENT_CREATING);
    if (status != ENV_OK) {
        segment->state = WAL_SEGMENT_WANTED;
        if (status == ENV_NO_SPACE || status == ENV_DENIED || status == ENV_NO_MEMORY) {
            retry_later(wal, status);
        } else {
            wal_fail(wal, status);
        }
        return;
    }
    segment->state = WAL_SEGMENT_READY;
    segment->file = req->file;
    wal->disk_bytes += segment->size;
    wal->n_ready++;
    wal_segments_has_space(wal);
    wal_segments_prepare(wal);
    if (wal->flush_seq > wal->durable_seq) {
        wal_write_submit(wal);
    }
}

struct wal_segment *wal_segments_wanted(struct wal *wal)
{
    /* Everything before the segment of the oldest chunk is READY; few lie beyond it. */
    size_t at = wal->n_segments;
    while (at > 0 && wal->segments[at - 1].state != WAL_SEGMENT_READY) {
        at--;
    }
    return at == wal->n_segments ? NULL : &wal->segments[at];
}

void wal_segments_shift(struct wal *wal)
{
    assert(wal->current > 0);
    wal->n_segments--;
    wal->current--;
    memmove(wal->segments, wal->segments + 1, wal->n_segments * sizeof *wal->segments);
}

void wal_segments_prepare(struct wal *wal)
{
    if (wal->creating || wal->dropping || wal->failed || wal->closing) {
        return;
    }
    while (wal->n_segments < wal->current + 1 + WAL_SPARE_SEGMENTS) {
        if (!wal_segments_reserve(wal, 1)) {
            return; /* the next roll tries again */
        }
        wal_segments_push(wal, wal->segments[wal->n_segments - 1].generation + 1, wal->segment_bytes);
    }
    if (wal_drop_step(wal) || wal->retrying) {
        return;
    }
    struct wal_segment *segment = wal_segments_wanted(wal);
    if (segment == NULL) {
        return;
    }
    assert(segment->state == WAL_SEGMENT_WANTED);
    segment->state = WAL_SEGMENT_CREATING;
    wal_name_format(wal->create_name, segment->generation);
    wal->create_req = (struct env_disk_req){
        .op = ENV_DISK_CREATE,
        .len = (size_t)segment->size,
        .name = wal->create_name,
        .data = wal,
        .cb = create_done_cb,
    };
    wal->creating = true;
    wal->in_flight++;
    wal->env->ops->submit(wal->env, &wal->create_req);
}

void wal_segments_retry_cb(struct env_timer *timer)
{
    struct wal *wal = timer->data;
    wal->retrying = false;
    wal_segments_prepare(wal);
}

static void open_old_close(struct wal *wal, size_t at)
{
    struct wal_segment *segment = wal_segment_of(wal, wal->open_old[at]);
    assert(segment->file != NULL);
    wal->env->ops->close(wal->env, segment->file);
    segment->file = NULL;
    wal->n_open_old--;
    memmove(&wal->open_old[at], &wal->open_old[at + 1], (wal->n_open_old - at) * sizeof wal->open_old[0]);
}

void wal_segment_forget(struct wal *wal, uint32_t generation)
{
    for (size_t i = 0; i < wal->n_open_old; i++) {
        if (wal->open_old[i] == generation) {
            wal->n_open_old--;
            memmove(&wal->open_old[i], &wal->open_old[i + 1], (wal->n_open_old - i) * sizeof wal->open_old[0]);
            return;
        }
    }
}

static void open_old_add(struct wal *wal, uint32_t generation)
{
    if (wal->n_open_old == WAL_OPEN_MAX) {
        open_old_close(wal, 0);
    }
    wal->open_old[wal->n_open_old++] = generation;
}

/* Move to the end: used last. Segments still being written are not in the table and stay open anyway. */
static void open_old_touch(struct wal *wal, uint32_t generation)
{
    for (size_t i = 0; i + 1 < wal->n_open_old; i++) {
        if (wal->open_old[i] == generation) {
            memmove(&wal->open_old[i], &wal->open_old[i + 1], (wal->n_open_old - 1 - i) * sizeof wal->open_old[0]);
            wal->open_old[wal->n_open_old - 1] = generation;
            return;
        }
    }
}

enum env_status wal_segment_file(struct wal *wal, struct wal_segment *segment, struct env_file **file)
{
    assert(segment->state == WAL_SEGMENT_READY);
    if (segment->file == NULL) {
        char name[WAL_NAME_BYTES];
        uint64_t size;
        wal_name_format(name, segment->generation);
        enum env_status status = wal->env->ops->open(wal->env, name, &segment->file, &size);
        if (status != ENV_OK) {
            segment->file = NULL;
            return status;
        }
        open_old_add(wal, segment->generation);
    } else {
        open_old_touch(wal, segment->generation);
    }
    *file = segment->file;
    return ENV_OK;
}

void wal_segments_retire(struct wal *wal, uint32_t from, uint32_t to)
{
    assert(from <= to);
    for (uint32_t generation = from; generation < to; generation++) {
        if (wal_segment_of(wal, generation)->file != NULL) {
            open_old_add(wal, generation);
        }
    }
}

void wal_segments_fini(struct wal *wal)
{
    for (size_t i = 0; i < wal->n_segments; i++) {
        if (wal->segments[i].file != NULL) {
            wal->env->ops->close(wal->env, wal->segments[i].file);
        }
    }
    free(wal->segments);
}
