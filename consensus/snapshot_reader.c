/* Reading a snapshot in order. Three spans are in turn: one is read, one is decompressed and checked, one is consumed.
 *
 * A span is a number of whole blocks. Reading gives some bytes from the next block on (rounded down to the disk's
 * blocks); the loop walks through the block headers in them, which are chained, to see where the last whole block ends.
 * The next read begins there, while another thread checks and decompresses this span. What the end of a read holds of
 * an unfinished block is read again, which is a few percent; the length of the next read follows what the last one was
 * good for, so that a highly compressed file does not make the same bytes be read over and over.
 *
 * An error is delivered in order: after the payload that came before it was consumed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lz4frame.h>

#include "consensus/snapshot_internal.h"

#define SPANS 3u
#define IN_BYTES (1u << 20)
#define IN_BYTES_MIN (SNAPSHOT_BLOCK_BYTES_MAX + 2 * ENV_BLOCK)
#define OUT_BYTES (2u << 20)
#define SPAN_BLOCKS_MAX 512u

enum span_state { SPAN_FREE, SPAN_READING, SPAN_FULL, SPAN_UNPACKING, SPAN_READY };

struct span {
    enum span_state state;
    bool last; /* the trailer follows */
    uint8_t *in;
    size_t in_len;
    size_t skip;
    struct snapshot_block blocks[SPAN_BLOCKS_MAX];
    unsigned n_blocks;
    uint8_t *out;
    size_t out_len;
    size_t consumed;
    uint64_t end_offset; /* in the file */
    enum snapshot_status status;
    uint64_t bad_block;
};

struct snapshot_reader {
    struct env *env;
    struct snapshot_reader_events events;
    struct snapshot_file file;
    bool closing;
    bool finished; /* `done` was called */
    bool stopped;  /* nothing more is read */
    bool starving; /* peek has given nothing */
    unsigned in_flight;
    struct span spans[SPANS];
    unsigned read; /* the next one to be read, unpacked, consumed */
    unsigned unpack;
    unsigned consume;
    struct snapshot_position cursor;
    size_t in_len; /* of the next read */
    uint64_t position;
    LZ4F_dctx *lz4;
    struct env_disk_req read_req;
    struct env_disk_req unpack_req;
    struct env_timer timer; /* the end is told by the loop, not from inside consume */
};

static void tick(struct snapshot_reader *reader);

static void reader_free(struct snapshot_reader *reader)
{
    for (unsigned i = 0; i < SPANS; i++) {
        free(reader->spans[i].in);
        free(reader->spans[i].out);
    }
    LZ4F_freeDecompressionContext(reader->lz4);
    snapshot_file_fini(&reader->file);
    if (reader->closing && reader->events.closed != NULL) {
        reader->events.closed(reader->events.ctx);
    }
    free(reader);
}

/* --- Unpacking, on another thread --------------------------------------------------------------------------------- */

static bool unpack_block(struct snapshot_reader *reader, const struct snapshot_block *block, const uint8_t *at,
                         uint8_t *to)
{
    const uint8_t *stored = at + SNAPSHOT_BLOCK_HEADER_BYTES;
    if (!snapshot_block_body_ok(at, block)) {
        return false;
    }
    if (block->coding == SNAPSHOT_RAW) {
        memcpy(to, stored, block->payload_len);
        return true;
    }
    size_t from_len = block->stored_len;
    size_t to_len = block->payload_len;
    LZ4F_resetDecompressionContext(reader->lz4);
    size_t rest = LZ4F_decompress(reader->lz4, to, &to_len, stored, &from_len, NULL);
    return rest == 0 && from_len == block->stored_len && to_len == block->payload_len;
}

static void unpack_work(struct env_disk_req *req)
{
    struct snapshot_reader *reader = req->data;
    struct span *span = &reader->spans[reader->unpack];
    const uint8_t *at = span->in + span->skip;
    span->out_len = 0;
    for (unsigned i = 0; i < span->n_blocks; i++) {
        const struct snapshot_block *block = &span->blocks[i];
        if (!unpack_block(reader, block, at, span->out + span->out_len)) {
            span->status = SNAPSHOT_DAMAGED;
            span->bad_block = block->number;
            return;
        }
        at += snapshot_block_bytes(block->stored_len);
        span->out_len += block->payload_len;
    }
}

/* --- Requests ----------------------------------------------------------------------------------------------------- */

static void submit(struct snapshot_reader *reader, struct env_disk_req *req)
{
    req->data = reader;
    reader->in_flight++;
    reader->env->ops->submit(reader->env, req);
}

static bool landed(struct snapshot_reader *reader)
{
    reader->in_flight--;
    if (!reader->closing) {
        return true;
    }
    tick(reader);
    return false;
}

static void unpack_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_reader *reader = req->data;
    struct span *span = &reader->spans[reader->unpack];
    if (!landed(reader)) {
        return;
    }
    if (status != ENV_OK && span->status == SNAPSHOT_OK) {
        span->status = snapshot_status_of(status);
    }
    span->state = SPAN_READY;
    reader->stopped = reader->stopped || span->status != SNAPSHOT_OK;
    reader->unpack = (reader->unpack + 1) % SPANS;
    reader->position = span->end_offset;
    tick(reader);
}

/* The blocks that are whole in what was read. A header that is not what it should be ends the walk and the reading. */
static void walk(struct snapshot_reader *reader, struct span *span)
{
    const uint64_t n_blocks = reader->file.trailer.end.blocks;
    size_t at = span->skip;
    size_t out = 0;
    span->n_blocks = 0;
    while (reader->cursor.number < n_blocks && span->n_blocks < SPAN_BLOCKS_MAX) {
        struct snapshot_block *block = &span->blocks[span->n_blocks];
        if (at + SNAPSHOT_BLOCK_HEADER_BYTES > span->in_len) {
            break;
        }
        if (!snapshot_block_decode(span->in + at, &reader->cursor, block)) {
            span->status = SNAPSHOT_DAMAGED;
            span->bad_block = reader->cursor.number;
            break;
        }
        size_t bytes = snapshot_block_bytes(block->stored_len);
        if (at + bytes > span->in_len || out + block->payload_len > OUT_BYTES) {
            break;
        }
        at += bytes;
        out += block->payload_len;
        span->n_blocks++;
        snapshot_position_advance(&reader->cursor, block);
    }
    span->last = reader->cursor.number == n_blocks;
    span->end_offset = reader->cursor.offset;
    if (span->last && span->status == SNAPSHOT_OK) {
        size_t padding = (size_t)(snapshot_trailer_offset(reader->cursor.offset) - reader->cursor.offset);
        if (!snapshot_trailer_fits(&reader->file.trailer, &reader->file.meta, &reader->cursor) ||
            at + padding > span->in_len || !snapshot_all_zero(span->in + at, padding)) {
            span->status = SNAPSHOT_DAMAGED;
            span->bad_block = n_blocks;
        }
        span->end_offset = reader->file.size;
    }
    if (span->n_blocks == 0 && !span->last && span->status == SNAPSHOT_OK) {
        span->status = SNAPSHOT_DAMAGED; /* the file ends in the midst of a block */
        span->bad_block = reader->cursor.number;
    }
    /* As much as was of use, and once more as much if all of it was. */
    size_t used = at - span->skip;
    size_t next = used + SNAPSHOT_PIECE_BYTES_MAX + ENV_BLOCK >= span->in_len ? reader->in_len * 2 : used * 2;
    next = next < IN_BYTES_MIN ? IN_BYTES_MIN : next > IN_BYTES ? IN_BYTES : next;
    reader->in_len = next / ENV_BLOCK * ENV_BLOCK;
}

static void read_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_reader *reader = req->data;
    struct span *span = &reader->spans[reader->read];
    if (!landed(reader)) {
        return;
    }
    span->state = SPAN_FULL;
    span->status = snapshot_status_of(status);
    span->bad_block = reader->cursor.number;
    if (span->status == SNAPSHOT_OK) {
        walk(reader, span);
    }
    reader->stopped = reader->stopped || span->last || span->status != SNAPSHOT_OK;
    reader->read = (reader->read + 1) % SPANS;
    tick(reader);
}

/* --- Deciding what comes next ------------------------------------------------------------------------------------- */

static void start_read(struct snapshot_reader *reader)
{
    struct span *span = &reader->spans[reader->read];
    if (reader->stopped || span->state != SPAN_FREE) {
        return;
    }
    uint64_t from = reader->cursor.offset / ENV_BLOCK * ENV_BLOCK;
    uint64_t rest = reader->file.size - from;
    span->skip = (size_t)(reader->cursor.offset - from);
    span->in_len = rest < reader->in_len ? (size_t)rest : reader->in_len;
    span->state = SPAN_READING;
    span->last = false;
    span->n_blocks = 0;
    span->out_len = 0;
    span->consumed = 0;
    reader->read_req = (struct env_disk_req){.op = ENV_DISK_READ,
                                             .file = reader->file.handle,
                                             .offset = from,
                                             .buf = span->in,
                                             .len = span->in_len,
                                             .cb = read_done_cb};
    submit(reader, &reader->read_req);
}

static void start_unpack(struct snapshot_reader *reader)
{
    struct span *span = &reader->spans[reader->unpack];
    if (span->state != SPAN_FULL) {
        return;
    }
    span->state = SPAN_UNPACKING;
    reader->unpack_req = (struct env_disk_req){.op = ENV_DISK_WORK, .work = unpack_work, .cb = unpack_done_cb};
    submit(reader, &reader->unpack_req);
}

static void explain(struct snapshot_reader *reader, const struct span *span)
{
    if (span->bad_block == reader->file.trailer.end.blocks) {
        snapshot_file_explain(&reader->file, "blocks and trailer do not fit each other. %s", snapshot_advice);
        return;
    }
    snapshot_file_explain(&reader->file, "block %llu (of %llu), near offset %llu: %s. %s",
                          (unsigned long long)span->bad_block, (unsigned long long)reader->file.trailer.end.blocks,
                          (unsigned long long)span->end_offset, snapshot_status_text(span->status),
                          span->status == SNAPSHOT_DAMAGED ? snapshot_advice : "");
}

/* The span at the front is used up: free it, or end. */
static void retire(struct snapshot_reader *reader)
{
    struct span *span = &reader->spans[reader->consume];
    while (span->state == SPAN_READY && span->consumed == span->out_len) {
        if (span->status != SNAPSHOT_OK || span->last) {
            reader->env->ops->timer_set(reader->env, &reader->timer, 0);
            return;
        }
        span->state = SPAN_FREE;
        reader->consume = (reader->consume + 1) % SPANS;
        span = &reader->spans[reader->consume];
    }
}

static void end_cb(struct env_timer *timer)
{
    struct snapshot_reader *reader = timer->data;
    const struct span *span = &reader->spans[reader->consume];
    if (reader->finished) {
        return;
    }
    reader->finished = true;
    if (span->status != SNAPSHOT_OK) {
        explain(reader, span);
    }
    reader->events.done(reader->events.ctx, span->status, span->status == SNAPSHOT_OK ? NULL : reader->file.error);
}

static void tick(struct snapshot_reader *reader)
{
    if (reader->closing) {
        if (reader->in_flight == 0) {
            snapshot_file_close(&reader->file);
            if (!reader->file.busy) {
                reader_free(reader);
            }
        }
        return;
    }
    retire(reader);
    start_read(reader);
    start_unpack(reader);
    const void *data;
    if (reader->starving && snapshot_reader_peek(reader, &data) > 0) {
        reader->starving = false;
        reader->events.ready(reader->events.ctx); /* may close: nothing after this */
    }
}

/* --- Interface ---------------------------------------------------------------------------------------------------- */

static bool buffers_alloc(struct snapshot_reader *reader)
{
    for (unsigned i = 0; i < SPANS; i++) {
        reader->spans[i].in = snapshot_alloc(IN_BYTES);
        reader->spans[i].out = malloc(OUT_BYTES);
        if (reader->spans[i].in == NULL || reader->spans[i].out == NULL) {
            return false;
        }
    }
    return !LZ4F_isError(LZ4F_createDecompressionContext(&reader->lz4, LZ4F_VERSION));
}

static void opened_cb(struct snapshot_file *file, enum snapshot_status status)
{
    struct snapshot_reader *reader = file->data;
    if (reader->closing) {
        tick(reader);
        return;
    }
    if (status != SNAPSHOT_OK) {
        reader->finished = true;
        reader->events.done(reader->events.ctx, status, file->error);
        return;
    }
    reader->cursor = snapshot_file_start(file);
    reader->in_len = IN_BYTES;
    reader->position = file->header_len;
    reader->starving = true;
    start_read(reader);
    reader->events.opened(reader->events.ctx, &file->meta, &file->trailer.end);
}

enum snapshot_status snapshot_reader_open(struct env *env, struct snapshot_dir *dir, const char *name,
                                          const struct snapshot_reader_events *events, struct snapshot_reader **out)
{
    struct snapshot_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    reader->env = env;
    reader->events = *events;
    reader->file.data = reader;
    reader->file.cb = opened_cb;
    reader->timer = (struct env_timer){.data = reader, .cb = end_cb};
    enum snapshot_status status = SNAPSHOT_NO_MEMORY;
    if (!buffers_alloc(reader) || env->ops->timer_init(env, &reader->timer) != ENV_OK) {
        goto err;
    }
    status = snapshot_file_open(&reader->file, env, dir, name);
    if (status != SNAPSHOT_OK) {
        goto err_after_timer;
    }
    *out = reader;
    return SNAPSHOT_OK;
err_after_timer:
    env->ops->timer_fini(env, &reader->timer);
err:
    reader_free(reader);
    return status;
}

size_t snapshot_reader_peek(const struct snapshot_reader *reader, const void **data)
{
    const struct span *span = &reader->spans[reader->consume];
    if (span->state != SPAN_READY || reader->finished) {
        *data = NULL;
        return 0;
    }
    *data = span->out + span->consumed;
    return span->out_len - span->consumed;
}

void snapshot_reader_consume(struct snapshot_reader *reader, size_t n)
{
    struct span *span = &reader->spans[reader->consume];
    assert(n > 0);
    assert(span->state == SPAN_READY);
    assert(n <= span->out_len - span->consumed);
    span->consumed += n;
    retire(reader);
    start_read(reader);
    start_unpack(reader);
    const void *data;
    reader->starving = snapshot_reader_peek(reader, &data) == 0;
}

uint64_t snapshot_reader_position(const struct snapshot_reader *reader)
{
    return reader->position;
}

void snapshot_reader_close(struct snapshot_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    assert(!reader->closing);
    reader->closing = true;
    reader->env->ops->timer_fini(reader->env, &reader->timer);
    tick(reader);
}
