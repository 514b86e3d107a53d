/* The writing half of the WAL: records are put into chunks, chunks go to disk one at a time.
 *
 * The happy path: wal_append copies records into the open chunk. wal_flush closes it (stamping the durable mark into
 * its last record) and submits it. What is appended while it is being written fills the next chunk, which goes out as
 * one write when the first completes: group commit. Each completion raises durable_seq, and `persisted` reports the
 * highest index that the chunk brought to disk and that the log still holds.
 *
 * Blocks. Disk writes are whole blocks, so a chunk begins with the bytes that the one before it left in its last,
 * partial block, and ends with zeros up to a block's end. Rewriting that shared block can't harm the records already in
 * it: every byte of theirs is written again with the value it has on disk, so whichever mixture of old and new
 * 512-byte sectors a power cut leaves, they read the same. For that reason nothing may touch a record's bytes once
 * its chunk is closed; the mark is stamped at the moment of closing, before the block is copied for the next chunk.
 *
 * What can fail: a write (the WAL then accepts nothing more), memory (wal_append refuses before anything changed), and
 * the creation of a segment. The last is no failure of the WAL: chunks whose segment has no file yet wait in memory,
 * which the caller bounds by asking wal_room before it accepts new work. */
#include <stdlib.h>
#include <string.h>

#include "consensus/plant.h"
#include "consensus/wal_internal.h"

static bool fits_segment(uint64_t size, uint64_t used, size_t record)
{
    uint64_t start = used == 0 ? WAL_HEADER_BYTES : used;
    return start + record <= size;
}

/* Where the next record would go: the same steps are walked once to reserve memory and once to write. */
struct cursor {
    uint64_t segment_size;
    uint64_t segment_used;
    bool in_chunk;
    size_t chunk_used;
    size_t chunk_cap;
    bool chunk_has_record;
};

static struct cursor cursor_now(const struct wal *wal)
{
    const struct wal_segment *segment = &wal->segments[wal->current];
    struct cursor cursor = {.segment_size = segment->size, .segment_used = segment->used};
    if (wal->open != NULL) {
        cursor.in_chunk = true;
        cursor.chunk_used = wal->open->used;
        cursor.chunk_cap = wal->open->cap;
        cursor.chunk_has_record = wal->open->has_record;
    }
    return cursor;
}

static bool cursor_rolls(const struct cursor *cursor, size_t record, size_t behind)
{
    return !fits_segment(cursor->segment_size, cursor->segment_used, record + behind);
}

static bool cursor_needs_chunk(const struct cursor *cursor, size_t record)
{
    if (!cursor->in_chunk) {
        return true;
    }
    if (cursor->chunk_used + record > cursor->chunk_cap) {
        return true;
    }
    return cursor->chunk_has_record && cursor->chunk_used + record > WAL_CHUNK_BYTES;
}

/* Bytes at the start of a new chunk that are not new records: the header or the block's old part. */
static size_t chunk_prefix(uint64_t segment_used)
{
    return segment_used == 0 ? WAL_HEADER_BYTES : (size_t)(segment_used % ENV_BLOCK);
}

static struct wal_chunk *chunk_new(struct wal *wal, size_t need)
{
    for (size_t i = 0; i < 2; i++) {
        struct wal_chunk *spare = wal->spare[i];
        if (spare != NULL && spare->cap >= need) {
            wal->spare[i] = NULL;
            return spare;
        }
    }
    struct wal_chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL) {
        return NULL;
    }
    /* Always the full size: pages that are never touched cost nothing, and a chunk never has to be copied to grow. */
    size_t cap = WAL_CHUNK_BYTES + ENV_BLOCK;
    if (cap < need) {
        cap = need;
    }
    cap = (cap + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
    chunk->buf = aligned_alloc(ENV_BLOCK, cap);
    if (chunk->buf == NULL) {
        free(chunk);
        return NULL;
    }
    chunk->cap = cap;
    return chunk;
}

static void chunk_free(struct wal_chunk *chunk)
{
    if (chunk != NULL) {
        free(chunk->buf);
        free(chunk);
    }
}

/* Keep up to two buffers of the usual size; a larger one is given back. */
static void chunk_recycle(struct wal *wal, struct wal_chunk *chunk)
{
    for (size_t i = 0; i < 2; i++) {
        if (wal->spare[i] == NULL && chunk->cap <= WAL_CHUNK_BYTES + ENV_BLOCK) {
            wal->spare[i] = chunk;
            return;
        }
    }
    chunk_free(chunk);
}

static bool reserve_chunk(struct wal *wal, size_t need)
{
    struct wal_chunk *chunk = chunk_new(wal, need);
    if (chunk == NULL) {
        return false;
    }
    struct wal_chunk **at = &wal->reserved;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    chunk->next = NULL;
    *at = chunk;
    return true;
}

static void reserved_drop(struct wal *wal)
{
    while (wal->reserved != NULL) {
        struct wal_chunk *chunk = wal->reserved;
        wal->reserved = chunk->next;
        chunk_recycle(wal, chunk);
    }
}

/* Walk the cursor over one record; false: no memory. `*rolls` counts new segments. */
static bool reserve_record(struct wal *wal, struct cursor *cursor, size_t record, size_t behind, size_t *rolls)
{
    if (cursor_rolls(cursor, record, behind)) {
        ++*rolls;
        size_t next = wal->current + *rolls;
        cursor->segment_size = next < wal->n_segments ? wal->segments[next].size : wal->segment_bytes;
        cursor->segment_used = 0;
        cursor->in_chunk = false;
    }
    if (cursor_needs_chunk(cursor, record)) {
        size_t prefix = chunk_prefix(cursor->segment_used);
        if (!reserve_chunk(wal, prefix + record)) {
            return false;
        }
        cursor->in_chunk = true;
        cursor->chunk_used = prefix;
        cursor->chunk_has_record = false;
        size_t cap = (prefix + record + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
        cursor->chunk_cap = cap > WAL_CHUNK_BYTES + ENV_BLOCK ? cap : WAL_CHUNK_BYTES + ENV_BLOCK;
    }
    if (cursor->segment_used == 0) {
        cursor->segment_used = WAL_HEADER_BYTES;
    }
    cursor->segment_used += record;
    cursor->chunk_used += record;
    cursor->chunk_has_record = true;
    return true;
}

enum wal_status wal_write_reserve(struct wal *wal, const struct wal_entry *entries, unsigned n)
{
    struct cursor cursor = cursor_now(wal);
    size_t rolls = 0;
    size_t n_terms = 0;
    for (unsigned i = 0; i < n; i++) {
        n_terms += i == 0 || entries[i].term != entries[i - 1].term;
        if (!reserve_record(wal, &cursor, wal_record_size(entries[i].len), WAL_MARK_BYTES, &rolls)) {
            goto err;
        }
    }
    if (!wal_index_reserve(&wal->index, entries[n - 1].index, n_terms, rolls + 1) ||
        !wal_segments_reserve(wal, rolls + 1 + WAL_SPARE_SEGMENTS)) {
        goto err;
    }
    return WAL_OK;
err:
    reserved_drop(wal);
    return WAL_NO_MEMORY;
}

static void chunk_start(struct wal *wal, struct wal_segment *segment)
{
    struct wal_chunk *chunk = wal->reserved;
    assert(chunk != NULL);
    wal->reserved = chunk->next;
    size_t prefix = chunk_prefix(segment->used);
    chunk->next = NULL;
    chunk->generation = segment->generation;
    chunk->offset = segment->used / ENV_BLOCK * ENV_BLOCK;
    chunk->used = prefix;
    chunk->has_record = false;
    chunk->begins_segment = segment->used == 0;
    chunk->last_seq = wal->seq;
    chunk->last_index = wal->index.last;
    chunk->entry_bytes = 0;
    chunk->n_entries = 0;
    if (segment->used == 0) {
        struct wal_header header = {
            .version = WAL_VERSION_MAX,
            .salt = wal->salt,
            .generation = segment->generation,
            .first_seq = wal->seq + 1,
            .prev = wal->chain,
            .mark = wal->durable_seq,
            .next_index = wal->index.last + 1,
        };
        wal_header_encode(chunk->buf, &header);
        segment->used = WAL_HEADER_BYTES;
    } else {
        assert(wal->last_block_used == prefix);
        memcpy(chunk->buf, wal->last_block, prefix);
    }
    if (wal->tail == NULL) {
        wal->head = chunk;
    } else {
        wal->tail->next = chunk;
    }
    wal->tail = chunk;
    wal->open = chunk;
}

void wal_write_close_chunk(struct wal *wal)
{
    struct wal_chunk *chunk = wal->open;
    if (chunk == NULL) {
        return;
    }
    assert(chunk->has_record);
    wal->open = NULL;
    wal->chain = wal_record_stamp(chunk->buf + chunk->last_record, wal->durable_seq);
    if (chunk->begins_segment) {
        wal_header_stamp(chunk->buf, wal->durable_seq);
    }
    size_t start = chunk->used / ENV_BLOCK * ENV_BLOCK;
    wal->last_block_used = chunk->used - start;
    memcpy(wal->last_block, chunk->buf + start, wal->last_block_used);
}

void wal_write_put(struct wal *wal, uint8_t type, const struct wal_entry *entry, struct wal_place *place)
{
    size_t size = wal_record_size(entry->len);
    struct cursor cursor = cursor_now(wal);
    if (cursor_rolls(&cursor, size, type == WAL_RECORD_MARK ? 0 : WAL_MARK_BYTES)) {
        wal_write_close_chunk(wal);
        if (++wal->current == wal->n_segments) {
            wal_segments_push(wal, wal->segments[wal->current - 1].generation + 1, wal->segment_bytes);
        }
        assert(wal->segments[wal->current].used == 0);
        cursor = cursor_now(wal);
    }
    struct wal_segment *segment = &wal->segments[wal->current];
    if (cursor_needs_chunk(&cursor, size)) {
        wal_write_close_chunk(wal);
        chunk_start(wal, segment);
    }
    struct wal_chunk *chunk = wal->open;
    assert(chunk->generation == segment->generation);
    assert(chunk->offset + chunk->used == segment->used);
    assert(chunk->used + size <= chunk->cap);
    struct wal_record record = {
        .prev = wal->chain,
        .seq = wal->seq + 1,
        .index = entry->index,
        .term = entry->term,
        .mark = wal->durable_seq,
        .generation = segment->generation,
        .salt = wal->salt,
        .len = (uint32_t)entry->len,
        .type = type,
    };
    wal_record_encode(chunk->buf + chunk->used, &record, entry->data);
    *place = (struct wal_place){.term = entry->term,
                                .offset = segment->used,
                                .generation = segment->generation,
                                .len = record.len,
                                .type = type};
    wal->chain = record.check;
    wal->seq++;
    wal->last_is_mark = type == WAL_RECORD_MARK;
    chunk->last_record = chunk->used;
    chunk->has_record = true;
    chunk->last_seq = wal->seq;
    if (type != WAL_RECORD_MARK) {
        chunk->last_index = entry->index;
        chunk->entry_bytes += size;
        chunk->n_entries++;
        wal->pending_bytes += size;
        if (entry->index > segment->index_max) {
            segment->index_max = entry->index;
        }
    }
    chunk->used += size;
    segment->used += size;
}

bool wal_write_mark(struct wal *wal, bool roll)
{
    struct cursor cursor = cursor_now(wal);
    size_t rolls = 0;
    if (!roll && cursor_rolls(&cursor, WAL_MARK_BYTES, 0)) {
        return false;
    }
    if (!reserve_record(wal, &cursor, WAL_MARK_BYTES, 0, &rolls) ||
        !wal_segments_reserve(wal, rolls + WAL_SPARE_SEGMENTS)) {
        reserved_drop(wal);
        return false;
    }
    uint64_t nonce = wal->env->ops->random(wal->env);
    struct wal_entry entry = {.data = &nonce, .len = sizeof nonce};
    struct wal_place place;
    wal_write_put(wal, WAL_RECORD_MARK, &entry, &place);
    return true;
}

bool wal_write_reset(struct wal *wal, uint64_t index, uint64_t term)
{
    struct cursor cursor = cursor_now(wal);
    size_t rolls = 0;
    if (!reserve_record(wal, &cursor, WAL_RECORD_BYTES, WAL_MARK_BYTES, &rolls) ||
        !wal_segments_reserve(wal, rolls + WAL_SPARE_SEGMENTS)) {
        reserved_drop(wal);
        return false;
    }
    for (struct wal_chunk *chunk = wal->head; chunk != NULL; chunk = chunk->next) {
        chunk->last_index = index; /* nothing that is being written counts any more */
    }
    wal->durable = index;
    wal_index_reset(&wal->index, index + 1);
    struct wal_entry entry = {.index = index, .term = term};
    struct wal_place place;
    wal_write_put(wal, WAL_RECORD_RESET, &entry, &place);
    return true;
}

/* Entries from `from` on are being replaced: what is still to become durable no longer counts for them. */
void wal_write_clip(struct wal *wal, uint64_t from)
{
    for (struct wal_chunk *chunk = wal->head; chunk != NULL; chunk = chunk->next) {
        if (chunk->last_index >= from && !PLANT(PLANT_LOST_TRUNCATE)) {
            chunk->last_index = from - 1;
        }
    }
    if (wal->durable >= from) {
        wal->durable = from - 1;
    }
}

static void count_write(struct wal *wal, const struct wal_chunk *chunk)
{
    struct wal_stats *stats = &wal->stats;
    uint64_t took_us = wal->env->ops->now_us(wal->env) - wal->write_start_us;
    stats->writes++;
    stats->bytes += wal->write_req.len;
    stats->entries += chunk->n_entries;
    stats->last_write_us = took_us;
    if (took_us > stats->max_write_us) {
        stats->max_write_us = took_us;
    }
    stats->ewma_write_us = stats->writes == 1 ? took_us : (stats->ewma_write_us * 15 + took_us) / 16;
}

static void write_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct wal *wal = req->data;
    struct wal_chunk *chunk = wal->head;
    assert(wal->writing);
    wal->writing = false;
    wal->in_flight--;
    if (wal->closing) {
        wal_destroy_if_done(wal);
        return;
    }
    if (status != ENV_OK) {
        wal_fail(wal, status);
        return;
    }
    count_write(wal, chunk);
    wal->head = chunk->next;
    if (wal->head == NULL) {
        wal->tail = NULL;
    }
    assert(chunk->last_seq > wal->durable_seq);
    wal->durable_seq = chunk->last_seq;
    wal->pending_bytes -= chunk->entry_bytes;
    wal->durable_generation = chunk->generation;
    uint64_t index = chunk->last_index;
    chunk_recycle(wal, chunk);

    bool advanced = index > wal->durable;
    if (advanced) {
        wal->durable = index;
    }
    if (wal->flush_seq > wal->durable_seq) {
        wal_write_submit(wal);
    }
    wal_write_arm_idle(wal);
    wal_drop_advance(wal);
    if (advanced) {
        wal->config.persisted(wal->config.ctx, index, wal_index_term(&wal->index, index));
    }
}

void wal_write_submit(struct wal *wal)
{
    struct wal_chunk *chunk = wal->head;
    if (chunk == NULL || wal->writing || wal->failed || wal->closing) {
        return;
    }
    struct wal_segment *segment = wal_segment_of(wal, chunk->generation);
    if (segment->state != WAL_SEGMENT_READY) {
        wal_segments_prepare(wal); /* its creation submits the chunk */
        return;
    }
    if (chunk == wal->open) {
        wal_write_close_chunk(wal);
    }
    if (chunk->generation != wal->writing_generation) {
        wal_segments_retire(wal, wal->writing_generation, chunk->generation);
        wal->writing_generation = chunk->generation;
    }
    size_t len = (chunk->used + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
    memset(chunk->buf + chunk->used, 0, len - chunk->used);
    wal->write_req = (struct env_disk_req){
        .op = ENV_DISK_WRITE,
        .file = segment->file,
        .offset = chunk->offset,
        .buf = chunk->buf,
        .len = len,
        .data = wal,
        .cb = write_done_cb,
    };
    wal->writing = true;
    wal->in_flight++;
    wal->write_start_us = wal->env->ops->now_us(wal->env);
    wal->env->ops->submit(wal->env, &wal->write_req);
}

/* The timer is armed once and looks at the clock when it fires: a busy log does not move it at every write. */
void wal_write_arm_idle(struct wal *wal)
{
    wal->idle_since_us = wal->env->ops->now_us(wal->env);
    if (!wal->idle_armed && (!wal->last_is_mark || wal->head != NULL)) {
        wal->idle_armed = true;
        wal->env->ops->timer_set(wal->env, &wal->idle_timer, wal->idle_since_us + WAL_IDLE_MARK_US);
    }
}

void wal_write_idle_cb(struct env_timer *timer)
{
    struct wal *wal = timer->data;
    wal->idle_armed = false;
    if (wal->failed || wal->writing) {
        return; /* the completion arms it again */
    }
    uint64_t now_us = wal->env->ops->now_us(wal->env);
    if (now_us < wal->idle_since_us + WAL_IDLE_MARK_US) {
        wal->idle_armed = true;
        wal->env->ops->timer_set(wal->env, timer, wal->idle_since_us + WAL_IDLE_MARK_US);
        return;
    }
    if (wal->pending_bytes > 0) {
        return; /* waits for the caller's flush or for a segment */
    }
    if (wal->last_is_mark || wal_write_mark(wal, false)) {
        wal->flush_seq = wal->seq;
        wal_write_submit(wal);
    }
}

void wal_write_fini(struct wal *wal)
{
    reserved_drop(wal);
    while (wal->head != NULL) {
        struct wal_chunk *chunk = wal->head;
        wal->head = chunk->next;
        chunk_free(chunk);
    }
    for (size_t i = 0; i < 2; i++) {
        chunk_free(wal->spare[i]);
    }
}
