/* Writing a snapshot: payload is gathered into blocks; one block is compressed while the one before it is written and
 * the one after it is filled. Compressing (ENV_DISK_WORK) and writing happen on threads of their own, so the loop only
 * copies bytes. A block at a time and not several: what answers clients waits for the processor while one is
 * compressed, and the log for the disk while one is written, so bursts would be what the slowest hundredth of the
 * writes meets.
 *
 * The happy path: CREATE (the file, under a temporary name) -> HEADER -> BODY (blocks) -> SYNC -> RENAME -> done. The
 * last one is followed by the trailer. A crash at any step leaves a temporary file, which the next start removes, or
 * the finished one. Any failure, and closing early, goes to CLEANUP: wait for what is in flight, close, remove.
 *
 * Blocks are not aligned in the file, disk writes are: what one leaves in its last, partial disk block is carried to
 * the beginning of the next one. A buffer's bytes are never touched while they are being written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lz4frame.h>
#include <xxhash.h>

#include "consensus/snapshot_internal.h"

#define BUFFERS 3u

enum buffer_state {
    BUFFER_FREE, /* or being filled */
    BUFFER_FULL, /* waits to be packed */
    BUFFER_PACKING,
    BUFFER_PACKED, /* waits to be written */
    BUFFER_WRITING
};

struct buffer {
    enum buffer_state state;
    bool last;
    uint8_t *raw;
    size_t raw_len;
    uint8_t *out;
    size_t out_len;
    uint64_t offset;
};

enum phase { PHASE_CREATE, PHASE_HEADER, PHASE_BODY, PHASE_SYNC, PHASE_RENAME, PHASE_CLEANUP, PHASE_DONE };

struct snapshot_writer {
    struct env *env;
    struct snapshot_writer_events events;
    char name[SNAPSHOT_NAME_BYTES];
    char name_tmp[SNAPSHOT_NAME_BYTES];
    char error[SNAPSHOT_ERROR_BYTES];
    enum phase phase;
    enum snapshot_status status;
    bool closing;  /* by the owner: no callback any more */
    bool starving; /* append took less than it was given */
    bool finishing;
    bool ended;    /* the last buffer is sealed */
    bool replaced; /* a stale temporary file was removed */
    bool created;
    unsigned in_flight;
    struct env_file *file;
    struct env_disk_req control_req; /* create, header, sync, rename, remove */
    struct env_disk_req pack_req;
    struct env_disk_req write_req;
    uint8_t *header;
    size_t header_len;

    struct buffer buffers[BUFFERS];
    unsigned fill; /* the next one to be filled, packed, written */
    unsigned pack;
    unsigned write;

    /* Of the thread that packs while `pack_req` is in flight, of the loop otherwise. */
    struct snapshot_position cursor; /* next.offset counts whole blocks, carried bytes included */
    uint8_t carry[ENV_BLOCK];
    size_t carry_len;
    struct snapshot_trailer trailer;

    struct snapshot_use use; /* of the finished file's name */
};

static const LZ4F_preferences_t lz4_preferences = {
    .frameInfo = {.blockSizeID = LZ4F_max256KB, .blockMode = LZ4F_blockIndependent},
};

static void tick(struct snapshot_writer *writer);

static void writer_free(struct snapshot_writer *writer)
{
    for (unsigned i = 0; i < BUFFERS; i++) {
        free(writer->buffers[i].raw);
        free(writer->buffers[i].out);
    }
    free(writer->header);
    snapshot_use_end(&writer->use);
    free(writer);
}

static void fail(struct snapshot_writer *writer, enum env_status status, const char *doing)
{
    if (writer->status == SNAPSHOT_OK) {
        writer->status = snapshot_status_of(status);
        snprintf(writer->error, sizeof writer->error, "can't %s %s: %s", doing, writer->name_tmp,
                 snapshot_status_text(writer->status));
    }
}

/* --- Packing, on another thread ----------------------------------------------------------------------------------- */

static size_t pack_block(struct snapshot_writer *writer, uint8_t *to, const uint8_t *payload, size_t len)
{
    uint8_t *stored = to + SNAPSHOT_BLOCK_HEADER_BYTES;
    LZ4F_preferences_t preferences = lz4_preferences;
    preferences.frameInfo.contentSize = len;
    size_t n = LZ4F_compressFrame(stored, LZ4F_compressFrameBound(len, &preferences), payload, len, &preferences);
    struct snapshot_block block = {
        .coding = SNAPSHOT_LZ4,
        .number = writer->cursor.number,
        .payload_len = (uint32_t)len,
        .payload_offset = writer->cursor.payload,
    };
    if (LZ4F_isError(n) || n >= len) {
        block.coding = SNAPSHOT_RAW;
        memcpy(stored, payload, len);
        n = len;
    }
    block.stored_len = (uint32_t)n;
    block.body = XXH3_64bits(stored, n);
    snapshot_block_encode(to, &block, writer->cursor.check);
    size_t bytes = snapshot_block_bytes(n);
    memset(stored + n, 0, bytes - SNAPSHOT_BLOCK_HEADER_BYTES - n);
    snapshot_position_advance(&writer->cursor, &block);
    return bytes;
}

static size_t pack_trailer(struct snapshot_writer *writer, uint8_t *out, size_t len)
{
    size_t at = (len + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
    struct snapshot_trailer *trailer = &writer->trailer;
    memset(out + len, 0, at - len);
    trailer->end.blocks = writer->cursor.number;
    trailer->end.payload_bytes = writer->cursor.payload;
    trailer->end.file_bytes = snapshot_trailer_offset(writer->cursor.offset) + SNAPSHOT_TRAILER_BYTES;
    trailer->check = writer->cursor.check;
    snapshot_trailer_encode(out + at, trailer);
    return at + SNAPSHOT_TRAILER_BYTES;
}

static void pack_work(struct env_disk_req *req)
{
    struct snapshot_writer *writer = req->data;
    struct buffer *buffer = &writer->buffers[writer->pack];
    size_t len = writer->carry_len;
    buffer->offset = writer->cursor.offset - len;
    memcpy(buffer->out, writer->carry, len);
    if (buffer->raw_len > 0) {
        len += pack_block(writer, buffer->out + len, buffer->raw, buffer->raw_len);
    }
    if (buffer->last) {
        len = pack_trailer(writer, buffer->out, len);
    }
    buffer->out_len = len / ENV_BLOCK * ENV_BLOCK;
    writer->carry_len = len - buffer->out_len;
    memcpy(writer->carry, buffer->out + buffer->out_len, writer->carry_len);
}

static size_t out_bytes(void)
{
    LZ4F_preferences_t preferences = lz4_preferences;
    preferences.frameInfo.contentSize = SNAPSHOT_BLOCK_BYTES;
    size_t block = snapshot_block_bytes(LZ4F_compressFrameBound(SNAPSHOT_BLOCK_BYTES, &preferences));
    return 2 * (size_t)ENV_BLOCK + block + SNAPSHOT_TRAILER_BYTES;
}

/* --- Requests, in the order in which they complete ---------------------------------------------------------------- */

static void submit(struct snapshot_writer *writer, struct env_disk_req *req)
{
    req->data = writer;
    writer->in_flight++;
    writer->env->ops->submit(writer->env, req);
}

static void control(struct snapshot_writer *writer, enum env_disk_op op,
                    void (*cb)(struct env_disk_req *req, enum env_status status))
{
    writer->control_req = (struct env_disk_req){.op = op, .file = writer->file, .name = writer->name_tmp, .cb = cb};
    writer->control_req.name_to = writer->name;
    submit(writer, &writer->control_req);
}

static void header_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    writer->in_flight--;
    if (status != ENV_OK) {
        fail(writer, status, "write");
    }
    writer->phase = PHASE_BODY;
    tick(writer);
}

static void create_done_cb(struct env_disk_req *req, enum env_status status);

static void stale_removed_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    writer->in_flight--;
    if (status != ENV_OK) {
        fail(writer, status, "replace");
    }
    if (writer->closing || writer->status != SNAPSHOT_OK) {
        tick(writer);
        return;
    }
    control(writer, ENV_DISK_BULK_CREATE, create_done_cb);
}

static void create_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    writer->in_flight--;
    if (status == ENV_EXISTS && !writer->replaced && !writer->closing) {
        writer->replaced = true; /* an earlier process died while it wrote the same one */
        control(writer, ENV_DISK_REMOVE, stale_removed_cb);
        return;
    }
    if (status == ENV_OK) {
        writer->file = req->file;
        writer->created = true;
    } else {
        fail(writer, status, "create");
    }
    if (writer->closing || writer->status != SNAPSHOT_OK) {
        tick(writer);
        return;
    }
    writer->phase = PHASE_HEADER;
    writer->write_req = (struct env_disk_req){.op = ENV_DISK_WRITE,
                                              .file = writer->file,
                                              .buf = writer->header,
                                              .len = writer->header_len,
                                              .cb = header_done_cb};
    submit(writer, &writer->write_req);
}

static void pack_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    struct buffer *buffer = &writer->buffers[writer->pack];
    writer->in_flight--;
    if (status != ENV_OK) {
        fail(writer, status, "compress");
    }
    assert(buffer->state == BUFFER_PACKING);
    buffer->state = BUFFER_PACKED;
    writer->pack = (writer->pack + 1) % BUFFERS;
    tick(writer);
}

static void write_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    struct buffer *buffer = &writer->buffers[writer->write];
    writer->in_flight--;
    if (status != ENV_OK) {
        fail(writer, status, "write");
    }
    assert(buffer->state == BUFFER_WRITING);
    buffer->state = BUFFER_FREE;
    buffer->raw_len = 0;
    if (buffer->last) {
        writer->phase = PHASE_SYNC;
    }
    writer->write = (writer->write + 1) % BUFFERS;
    tick(writer);
}

static void rename_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    writer->in_flight--;
    if (status != ENV_OK) {
        fail(writer, status, "rename");
    } else {
        writer->created = false;                          /* nothing temporary is left */
        writer->use.writes = false;                       /* a finished one from here on, and held until close */
        if (writer->closing && writer->use.dir != NULL) { /* so that it is removed some day */
            (void)snapshot_dir_add(writer->use.dir, writer->use.index, writer->use.term,
                                   writer->trailer.end.file_bytes);
        }
    }
    writer->phase = PHASE_CLEANUP;
    tick(writer);
}

static void sync_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    writer->in_flight--;
    writer->env->ops->close(writer->env, writer->file);
    writer->file = NULL;
    if (status != ENV_OK) {
        fail(writer, status, "sync");
    }
    if (writer->closing || writer->status != SNAPSHOT_OK) {
        tick(writer);
        return;
    }
    writer->phase = PHASE_RENAME;
    control(writer, ENV_DISK_RENAME, rename_done_cb);
}

static void remove_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_writer *writer = req->data;
    writer->in_flight--;
    if (status != ENV_OK && status != ENV_CANCELED) {
        char text[120];
        snprintf(text, sizeof text, "snapshot: can't remove %s", writer->name_tmp);
        writer->env->ops->log(writer->env, 1, text);
    }
    tick(writer);
}

/* --- Deciding what comes next ------------------------------------------------------------------------------------- */

static void seal(struct snapshot_writer *writer, bool last)
{
    struct buffer *buffer = &writer->buffers[writer->fill];
    assert(buffer->state == BUFFER_FREE);
    buffer->state = BUFFER_FULL;
    buffer->last = last;
    writer->fill = (writer->fill + 1) % BUFFERS;
}

/* After `finish`: the last buffer carries the trailer, whether it holds payload or not. */
static void end_body(struct snapshot_writer *writer)
{
    if (writer->finishing && !writer->ended && writer->buffers[writer->fill].state == BUFFER_FREE) {
        writer->ended = true;
        seal(writer, true);
    }
}

static void start_pack(struct snapshot_writer *writer)
{
    struct buffer *buffer = &writer->buffers[writer->pack];
    if (buffer->state != BUFFER_FULL) {
        return;
    }
    buffer->state = BUFFER_PACKING;
    writer->pack_req = (struct env_disk_req){.op = ENV_DISK_WORK, .work = pack_work, .cb = pack_done_cb};
    submit(writer, &writer->pack_req);
}

static void start_write(struct snapshot_writer *writer)
{
    struct buffer *buffer = &writer->buffers[writer->write];
    if (buffer->state != BUFFER_PACKED) {
        return;
    }
    buffer->state = BUFFER_WRITING;
    writer->write_req = (struct env_disk_req){.op = ENV_DISK_WRITE,
                                              .file = writer->file,
                                              .offset = buffer->offset,
                                              .buf = buffer->out,
                                              .len = buffer->out_len,
                                              .cb = write_done_cb};
    submit(writer, &writer->write_req);
}

static void cleanup(struct snapshot_writer *writer)
{
    if (writer->in_flight > 0) {
        return;
    }
    if (writer->file != NULL) {
        writer->env->ops->close(writer->env, writer->file);
        writer->file = NULL;
    }
    if (writer->created) {
        writer->created = false;
        control(writer, ENV_DISK_REMOVE, remove_done_cb);
        return;
    }
    writer->phase = PHASE_DONE;
    if (writer->closing) {
        writer_free(writer);
        return;
    }
    bool ok = writer->status == SNAPSHOT_OK;
    writer->events.done(writer->events.ctx, writer->status, ok ? NULL : writer->error,
                        ok ? &writer->trailer.end : NULL);
}

static void tick(struct snapshot_writer *writer)
{
    if (writer->closing || writer->status != SNAPSHOT_OK) {
        writer->phase = PHASE_CLEANUP;
    }
    if (writer->phase == PHASE_CLEANUP) {
        cleanup(writer);
        return;
    }
    if (writer->phase == PHASE_BODY) {
        end_body(writer);
        start_pack(writer);
        start_write(writer);
    }
    if (writer->phase == PHASE_SYNC) {
        control(writer, ENV_DISK_SYNC, sync_done_cb);
        return;
    }
    if (writer->starving && !writer->finishing && snapshot_writer_room(writer) > 0) {
        writer->starving = false;
        writer->events.ready(writer->events.ctx); /* may close: nothing after this */
    }
}

/* --- Interface ---------------------------------------------------------------------------------------------------- */

static bool buffers_alloc(struct snapshot_writer *writer, const struct snapshot_meta *meta)
{
    for (unsigned i = 0; i < BUFFERS; i++) {
        writer->buffers[i].raw = malloc(SNAPSHOT_BLOCK_BYTES);
        writer->buffers[i].out = snapshot_alloc(out_bytes());
        if (writer->buffers[i].raw == NULL || writer->buffers[i].out == NULL) {
            return false;
        }
    }
    writer->header_len = snapshot_header_bytes(meta->configuration_len);
    writer->header = snapshot_alloc(writer->header_len);
    return writer->header != NULL;
}

enum snapshot_status snapshot_writer_open(struct env *env, struct snapshot_dir *dir, const struct snapshot_meta *meta,
                                          const struct snapshot_writer_events *events, struct snapshot_writer **out)
{
    struct snapshot_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    if (!buffers_alloc(writer, meta)) {
        writer_free(writer);
        return SNAPSHOT_NO_MEMORY;
    }
    if (dir != NULL && !snapshot_dir_claim(dir, &writer->use, meta->index, meta->term)) {
        writer_free(writer);
        return SNAPSHOT_BUSY;
    }
    writer->env = env;
    writer->events = *events;
    snapshot_name_format(writer->name, meta->index, meta->term, "");
    snapshot_name_format(writer->name_tmp, meta->index, meta->term, ".tmp");
    struct snapshot_meta own = *meta;
    uint64_t id[2] = {env->ops->random(env), env->ops->random(env)};
    memcpy(own.file_id, id, sizeof own.file_id);
    memcpy(writer->trailer.file_id, own.file_id, sizeof own.file_id);
    writer->cursor.check = snapshot_header_encode(writer->header, &own);
    writer->cursor.offset = writer->header_len;
    control(writer, ENV_DISK_BULK_CREATE, create_done_cb);
    *out = writer;
    return SNAPSHOT_OK;
}

size_t snapshot_writer_room(const struct snapshot_writer *writer)
{
    size_t room = 0;
    if (writer->finishing || writer->status != SNAPSHOT_OK) {
        return 0;
    }
    for (unsigned i = 0; i < BUFFERS; i++) {
        const struct buffer *buffer = &writer->buffers[(writer->fill + i) % BUFFERS];
        if (buffer->state != BUFFER_FREE) {
            break;
        }
        room += SNAPSHOT_BLOCK_BYTES - buffer->raw_len;
    }
    return room;
}

size_t snapshot_writer_append(struct snapshot_writer *writer, const void *data, size_t len)
{
    assert(!writer->finishing);
    const uint8_t *from = data;
    size_t taken = 0;
    bool sealed = false;
    while (taken < len && writer->status == SNAPSHOT_OK) {
        struct buffer *buffer = &writer->buffers[writer->fill];
        if (buffer->state != BUFFER_FREE) {
            break;
        }
        size_t n =
            len - taken < SNAPSHOT_BLOCK_BYTES - buffer->raw_len ? len - taken : SNAPSHOT_BLOCK_BYTES - buffer->raw_len;
        memcpy(buffer->raw + buffer->raw_len, from + taken, n);
        buffer->raw_len += n;
        taken += n;
        if (buffer->raw_len == SNAPSHOT_BLOCK_BYTES) {
            seal(writer, false);
            sealed = true;
        }
    }
    if (taken < len) {
        writer->starving = true;
    }
    if (sealed && writer->phase == PHASE_BODY) {
        start_pack(writer);
    }
    return taken;
}

void snapshot_writer_finish(struct snapshot_writer *writer, uint64_t digest)
{
    assert(!writer->finishing);
    writer->finishing = true;
    writer->trailer.end.digest = digest;
    end_body(writer);
    if (writer->phase == PHASE_BODY && writer->status == SNAPSHOT_OK) {
        start_pack(writer);
    }
}

void snapshot_writer_close(struct snapshot_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    assert(!writer->closing);
    writer->closing = true;
    if (writer->phase == PHASE_DONE) {
        writer_free(writer);
    } else if (writer->in_flight == 0) {
        tick(writer);
    }
}
