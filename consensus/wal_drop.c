/* Giving back what a durable snapshot covers: the oldest segment becomes the next spare one, or is removed.
 *
 * One file operation at a time, oldest segment first, so that the files on disk are without a gap at every instant. The
 * entries leave the map in memory when the operation begins, so that no read is started on the file; the file leaves
 * when it is done. A crash in between finds it again, and with it a log that begins earlier: no harm.
 *
 * A segment may go when
 *   - a later segment's header is on stable storage. It says where the log goes on, so recovery needs nothing of this
 * one;
 *   - the snapshot covers every index that any of its records has, also of records that were replaced since. If only
 * the held ones counted, a segment could go because of replacements that are not durable yet, and a crash would leave a
 *     later segment's old records as the beginning of the log. Or: a durable reset follows it;
 *   - no read of it is in flight.
 *
 * A recycled file keeps its old bytes. Their generation is another one, so they are neither part of the log nor
 * witnesses: docs/FORMATS.md, section WAL. */
#include <stdio.h>

#include "consensus/wal_internal.h"

static bool front_may_go(const struct wal *wal)
{
    const struct wal_segment *front = &wal->segments[0];
    if (wal->drop_stalled || front->generation >= wal->durable_generation) {
        return false;
    }
    if (!front->dead && (wal->drop_index == 0 || front->index_max > wal->drop_index)) {
        return false;
    }
    return !wal_reads_use(wal, front->generation);
}

static void forget_entries(struct wal *wal, uint32_t generation)
{
    uint64_t first = wal_index_after(&wal->index, generation);
    assert(first <= wal->durable + 1);
    if (first > wal->index.first) {
        wal->prev_term = wal_index_term(&wal->index, first - 1);
        wal_index_drop(&wal->index, first);
    }
}

static uint32_t ready_spares(const struct wal *wal)
{
    uint32_t n = 0;
    for (size_t i = wal->current + 1; i < wal->n_segments; i++) {
        n += wal->segments[i].state == WAL_SEGMENT_READY;
    }
    return n;
}

/* The segment that the oldest one is to become; NULL: it is not needed. */
static struct wal_segment *recycle_target(struct wal *wal)
{
    if (wal->segments[0].size != wal->segment_bytes) {
        return NULL;
    }
    struct wal_segment *target = wal_segments_wanted(wal);
    if (target != NULL) {
        return target->size == wal->segment_bytes ? target : NULL;
    }
    if (ready_spares(wal) >= WAL_SPARE_SEGMENTS + wal->config.recycle_max || !wal_segments_reserve(wal, 1)) {
        return NULL;
    }
    return wal_segments_push(wal, wal->segments[wal->n_segments - 1].generation + 1, wal->segment_bytes);
}

/* The operation was refused; the segment stays as it is. */
static void drop_refused(struct wal *wal, enum env_status status)
{
    if (wal->recycle_generation != 0) {
        struct wal_segment *target = wal_segment_of(wal, wal->recycle_generation);
        target->state = WAL_SEGMENT_WANTED;
        if (target == &wal->segments[wal->n_segments - 1] && wal->n_segments > wal->current + 1 + WAL_SPARE_SEGMENTS) {
            wal->n_segments--; /* it would have been one more than needed */
        }
    }
    if (status != ENV_NO_SPACE && status != ENV_DENIED && status != ENV_NO_MEMORY) {
        wal_fail(wal, status);
        return;
    }
    char text[120];
    snprintf(text, sizeof text, "wal: can't %s %s, which is no longer needed",
             wal->recycle_generation != 0 ? "rename" : "remove", wal->drop_name);
    wal->env->ops->log(wal->env, 1, text);
    wal->drop_stalled = true;
    wal_segments_prepare(wal);
}

static enum env_status adopt(struct wal *wal, struct env_file *file)
{
    uint64_t size;
    struct wal_segment *target = wal_segment_of(wal, wal->recycle_generation);
    assert(target->state == WAL_SEGMENT_CREATING);
    target->file = file;
    if (file == NULL) {
        enum env_status status = wal->env->ops->open(wal->env, wal->recycle_name, &target->file, &size);
        if (status != ENV_OK) {
            target->file = NULL;
            return status;
        }
    }
    target->state = WAL_SEGMENT_READY;
    wal->stats.recycled++;
    return ENV_OK;
}

static void drop_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct wal *wal = req->data;
    assert(wal->dropping);
    wal->dropping = false;
    wal->in_flight--;
    if (wal->closing) {
        wal_destroy_if_done(wal);
        return;
    }
    if (status != ENV_OK) {
        drop_refused(wal, status);
        return;
    }
    struct wal_segment front = wal->segments[0];
    wal_segments_shift(wal);
    if (wal->recycle_generation != 0) {
        status = adopt(wal, front.file);
        if (status != ENV_OK) {
            wal_fail(wal, status);
            return;
        }
    } else {
        wal->disk_bytes -= front.size;
        wal->n_ready--;
        wal->stats.removed++;
    }
    wal_segments_has_space(wal);
    wal_segments_prepare(wal);
    if (wal->flush_seq > wal->durable_seq) {
        wal_write_submit(wal); /* may have waited for a file */
    }
}

bool wal_drop_step(struct wal *wal)
{
    assert(!wal->dropping);
    assert(!wal->creating);
    if (!front_may_go(wal)) {
        return false;
    }
    forget_entries(wal, wal->segments[0].generation);
    struct wal_segment *target = recycle_target(wal); /* may move the array */
    struct wal_segment *front = &wal->segments[0];
    wal_segment_forget(wal, front->generation);
    wal_name_format(wal->drop_name, front->generation);
    wal->drop_req = (struct env_disk_req){.name = wal->drop_name, .data = wal, .cb = drop_done_cb};
    if (target != NULL) {
        target->state = WAL_SEGMENT_CREATING;
        wal->recycle_generation = target->generation;
        wal_name_format(wal->recycle_name, target->generation);
        wal->drop_req.op = ENV_DISK_RENAME;
        wal->drop_req.name_to = wal->recycle_name;
    } else {
        wal->recycle_generation = 0;
        wal->drop_req.op = ENV_DISK_REMOVE;
        if (front->file != NULL) {
            wal->env->ops->close(wal->env, front->file);
            front->file = NULL;
        }
    }
    wal->dropping = true;
    wal->in_flight++;
    wal->env->ops->submit(wal->env, &wal->drop_req);
    return true;
}

void wal_drop_prefix(struct wal *wal, uint64_t index)
{
    if (index > wal->drop_index) {
        wal->drop_index = index;
    }
    wal->drop_stalled = false;
    wal_segments_prepare(wal);
}

void wal_drop_advance(struct wal *wal)
{
    if (wal->reset_seq != 0 && wal->durable_seq >= wal->reset_seq) {
        for (size_t i = 0; i < wal->n_segments && wal->segments[i].generation < wal->reset_generation; i++) {
            wal->segments[i].dead = true;
        }
        wal->reset_seq = 0;
    }
    wal_segments_prepare(wal);
}
