/* The WAL's interface: opening, appending, flushing, what is held and what is durable. See wal_write.c for the way to
 * disk and wal_recover.c for the way back. */
#include "consensus/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/wal_internal.h"

enum wal_status wal_status_of(enum env_status status)
{
    switch (status) {
    case ENV_OK:
        return WAL_OK;
    case ENV_NO_SPACE:
        return WAL_NO_SPACE;
    case ENV_NO_MEMORY:
        return WAL_NO_MEMORY;
    default:
        return WAL_IO;
    }
}

static void config_complete(struct wal *wal, const struct wal_config *config)
{
    wal->config = *config;
    if (wal->config.segment_bytes == 0) {
        wal->config.segment_bytes = WAL_SEGMENT_BYTES_DEFAULT;
    }
    if (wal->config.entry_bytes_max == 0) {
        wal->config.entry_bytes_max = WAL_ENTRY_BYTES_DEFAULT;
    }
    if (wal->config.recycle_max == 0) {
        wal->config.recycle_max = WAL_RECYCLE_DEFAULT;
    }
    assert(wal->config.segment_bytes % ENV_BLOCK == 0);
    assert(wal->config.segment_bytes <= WAL_SEGMENT_BYTES_MAX);
    assert(wal->config.entry_bytes_max <= WAL_INDEX_LEN_MAX);
    /* An entry does not span segments: the largest must fit an empty one. */
    uint64_t least = WAL_HEADER_BYTES + wal_record_size(wal->config.entry_bytes_max) + WAL_MARK_BYTES;
    least = (least + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
    wal->segment_bytes = wal->config.segment_bytes > least ? wal->config.segment_bytes : least;
}

static enum wal_status timers_init(struct wal *wal)
{
    wal->idle_timer.data = wal;
    wal->idle_timer.cb = wal_write_idle_cb;
    wal->retry_timer.data = wal;
    wal->retry_timer.cb = wal_segments_retry_cb;
    enum env_status status = wal->env->ops->timer_init(wal->env, &wal->idle_timer);
    if (status != ENV_OK) {
        return wal_status_of(status);
    }
    status = wal->env->ops->timer_init(wal->env, &wal->retry_timer);
    if (status != ENV_OK) {
        wal->env->ops->timer_fini(wal->env, &wal->idle_timer);
    }
    return wal_status_of(status);
}

static void wal_free(struct wal *wal)
{
    wal_write_fini(wal);
    wal_segments_fini(wal);
    wal_index_fini(&wal->index);
    free(wal);
}

/* The log holds the entry at which the newest snapshot ends, or continues right behind it. */
static bool covers_start(const struct wal *wal)
{
    uint64_t index = wal->config.start_index;
    if (index == 0) {
        return true;
    }
    return index <= wal->index.last && wal_term_of(wal, index) == wal->config.start_term;
}

/* Nothing has changed if there is no memory for it. */
static bool reset(struct wal *wal, uint64_t index, uint64_t term)
{
    if (!wal_write_reset(wal, index, term)) {
        return false;
    }
    wal_reads_clip(wal, 1);
    wal->prev_term = term;
    wal->reset_seq = wal->seq;
    wal->reset_generation = wal->segments[wal->current].generation;
    return true;
}

enum wal_status wal_open(struct env *env, const struct wal_config *config, struct wal **out, const char **error)
{
    static _Thread_local char text[WAL_ERROR_BYTES];
    *error = text;
    snprintf(text, sizeof text, "out of memory while opening the log");
    struct wal *wal = calloc(1, sizeof *wal);
    if (wal == NULL) {
        return WAL_NO_MEMORY;
    }
    wal->env = env;
    config_complete(wal, config);
    wal_index_init(&wal->index, 1);
    enum wal_status status = wal_recover(wal, text);
    if (status != WAL_OK) {
        goto err;
    }
    /* The nonce in this record makes the chain of checksums differ from every earlier continuation of the log, so bytes
     * that a torn write left further on can never follow what is written from now on. */
    if (!wal_write_mark(wal, true)) {
        status = WAL_NO_MEMORY;
        goto err;
    }
    if (!covers_start(wal)) {
        env->ops->log(env, 1, "wal: the newest snapshot is ahead of the log, which is reset to it");
        if (!reset(wal, config->start_index, config->start_term)) {
            status = WAL_NO_MEMORY;
            goto err;
        }
    }
    status = timers_init(wal);
    if (status != WAL_OK) {
        goto err;
    }
    wal_segments_prepare(wal);
    wal_flush(wal);
    wal_write_arm_idle(wal);
    *out = wal;
    *error = NULL;
    return WAL_OK;
err:
    wal_free(wal);
    return status;
}

void wal_destroy_if_done(struct wal *wal)
{
    assert(wal->closing);
    if (wal->in_flight == 0) {
        wal_free(wal);
    }
}

/* Leave a mark behind the last record, so that the next recovery knows all of it was durable. */
static void close_clean(struct wal *wal)
{
    if (wal->failed || wal->writing || wal->pending_bytes > 0) {
        return;
    }
    if (!wal->last_is_mark && !wal_write_mark(wal, false)) {
        return;
    }
    struct wal_chunk *chunk = wal->head;
    if (chunk == NULL || chunk != wal->open) {
        return;
    }
    struct wal_segment *segment = wal_segment_of(wal, chunk->generation);
    if (segment->state != WAL_SEGMENT_READY) {
        return;
    }
    wal_write_close_chunk(wal);
    size_t len = (chunk->used + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
    memset(chunk->buf + chunk->used, 0, len - chunk->used);
    enum env_status status = wal->env->ops->write_sync(wal->env, segment->file, chunk->offset, chunk->buf, len);
    if (status != ENV_OK && status != ENV_CANCELED) {
        wal->env->ops->log(wal->env, 1, "wal: could not write the closing mark");
    }
}

void wal_close(struct wal *wal)
{
    if (wal == NULL) {
        return;
    }
    close_clean(wal);
    wal->closing = true;
    wal->env->ops->timer_fini(wal->env, &wal->idle_timer);
    wal->env->ops->timer_fini(wal->env, &wal->retry_timer);
    wal_reads_fini(wal);
    wal_destroy_if_done(wal);
}

void wal_fail(struct wal *wal, enum env_status status)
{
    if (wal->failed) {
        return;
    }
    wal->failed = true;
    if (status != ENV_CANCELED) {
        wal->config.failed(wal->config.ctx, status);
    }
}

uint64_t wal_first(const struct wal *wal)
{
    return wal->index.first;
}

uint64_t wal_last(const struct wal *wal)
{
    return wal->index.last;
}

uint64_t wal_durable(const struct wal *wal)
{
    return wal->durable;
}

static bool holds(const struct wal *wal, uint64_t index)
{
    return index >= wal->index.first && index <= wal->index.last;
}

uint64_t wal_term_of(const struct wal *wal, uint64_t index)
{
    if (index + 1 == wal->index.first) {
        return wal->prev_term;
    }
    return holds(wal, index) ? wal_index_term(&wal->index, index) : 0;
}

enum wal_entry_type wal_type_of(const struct wal *wal, uint64_t index)
{
    struct wal_place place;
    assert(holds(wal, index));
    wal_index_get(&wal->index, index, &place);
    return (enum wal_entry_type)place.type;
}

uint32_t wal_len_of(const struct wal *wal, uint64_t index)
{
    struct wal_place place;
    assert(holds(wal, index));
    wal_index_get(&wal->index, index, &place);
    return place.len;
}

static void check_entries(const struct wal *wal, const struct wal_entry *entries, unsigned n)
{
    assert(entries[0].index >= wal->index.first);
    assert(entries[0].index <= wal->index.last + 1);
    for (unsigned i = 0; i < n; i++) {
        assert(entries[i].index == entries[0].index + i);
        assert(entries[i].term > 0);
        assert(entries[i].type >= WAL_COMMAND);
        assert(entries[i].type <= WAL_CHANGE);
        assert(entries[i].len <= wal->config.entry_bytes_max);
    }
}

enum wal_status wal_append(struct wal *wal, const struct wal_entry *entries, unsigned n)
{
    if (wal->failed) {
        return WAL_IO;
    }
    if (n == 0) {
        return WAL_OK;
    }
    check_entries(wal, entries, n);
    enum wal_status status = wal_write_reserve(wal, entries, n);
    if (status != WAL_OK) {
        return status;
    }
    if (entries[0].index <= wal->index.last) {
        wal_write_clip(wal, entries[0].index);
        wal_reads_clip(wal, entries[0].index);
        wal_index_truncate(&wal->index, entries[0].index);
    }
    size_t current = wal->current;
    for (unsigned i = 0; i < n; i++) {
        struct wal_place place;
        wal_write_put(wal, (uint8_t)entries[i].type, &entries[i], &place);
        wal_index_push(&wal->index, &place);
    }
    if (wal->current != current) {
        wal_segments_prepare(wal);
    }
    assert(wal->reserved == NULL);
    return WAL_OK;
}

void wal_flush(struct wal *wal)
{
    if (wal->pending_bytes == 0) {
        return; /* a mark alone waits for company or for the idle timer */
    }
    wal->flush_seq = wal->seq;
    wal_write_submit(wal);
}

enum wal_status wal_reset(struct wal *wal, uint64_t index, uint64_t term)
{
    assert(index + 1 >= wal->index.first);
    assert(term > 0);
    if (wal->failed) {
        return WAL_IO;
    }
    if (!reset(wal, index, term)) {
        return WAL_NO_MEMORY;
    }
    wal_segments_prepare(wal);
    return WAL_OK;
}

bool wal_is_writing(const struct wal *wal)
{
    return wal->writing;
}

uint64_t wal_pending_bytes(const struct wal *wal)
{
    return wal->pending_bytes;
}

uint64_t wal_room(struct wal *wal)
{
    const uint64_t overhead = WAL_HEADER_BYTES + WAL_MARK_BYTES;
    uint64_t room = 0;
    uint64_t owed = 0; /* segments in use that have no file yet */
    if (wal->failed) {
        return 0;
    }
    for (size_t i = wal->current; i < wal->n_segments; i++) {
        const struct wal_segment *segment = &wal->segments[i];
        if (segment->state == WAL_SEGMENT_READY && segment->used + overhead < segment->size) {
            room += segment->size - segment->used - overhead;
        }
    }
    for (size_t i = wal->current + 1; i > 0 && wal->segments[i - 1].state != WAL_SEGMENT_READY; i--) {
        owed++;
    }
    if (wal->no_space) {
        return room;
    }
    uint64_t creatable = wal->env->ops->free_bytes(wal->env) / wal->segment_bytes;
    if (creatable > owed) {
        room += (creatable - owed) * (wal->segment_bytes - overhead);
    }
    return room;
}

void wal_stats(const struct wal *wal, struct wal_stats *stats)
{
    *stats = wal->stats;
    stats->segments = wal->n_ready;
    stats->disk_bytes = wal->disk_bytes;
}
