/* Sending a snapshot piece by piece. The other side says where it is, with everything that verifying the piece there
 * needs, so that nothing before it has to be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/plant.h"
#include "consensus/snapshot_internal.h"

#define BUF_BYTES (SNAPSHOT_BLOCK_BYTES_MAX + 2 * ENV_BLOCK)

struct snapshot_source {
    struct env *env;
    struct snapshot_source_events events;
    struct snapshot_file file;
    bool closing;
    bool opened;
    bool reading;
    struct snapshot_position want;
    uint8_t *buf;
    struct env_disk_req req;
};

static void source_free(struct snapshot_source *source)
{
    free(source->buf);
    snapshot_file_fini(&source->file);
    free(source);
}

static void close_if_idle(struct snapshot_source *source)
{
    if (source->reading) {
        return;
    }
    snapshot_file_close(&source->file);
    if (!source->file.busy) {
        source_free(source);
    }
}

static void answer_error(struct snapshot_source *source, enum snapshot_status status, const char *what)
{
    struct snapshot_position at = source->want;
    snapshot_file_explain(&source->file, "block %llu at offset %llu: %s%s", (unsigned long long)at.number,
                          (unsigned long long)at.offset, what,
                          status == SNAPSHOT_DAMAGED ? ". Keep the file for a look at it." : "");
    source->events.piece(source->events.ctx, status, &at, NULL, 0, &at, false);
}

static void give_trailer(struct snapshot_source *source)
{
    struct snapshot_position at = source->want;
    const struct snapshot_trailer *trailer = &source->file.trailer;
    if (!snapshot_trailer_fits(trailer, &source->file.meta, &at)) {
        answer_error(source, SNAPSHOT_DAMAGED, "blocks and trailer do not fit each other");
        return;
    }
    snapshot_trailer_encode(source->buf, trailer);
    source->events.piece(source->events.ctx, SNAPSHOT_OK, &at, source->buf, SNAPSHOT_TRAILER_BYTES, &at, true);
}

static void give_block(struct snapshot_source *source)
{
    struct snapshot_position at = source->want;
    size_t skip = (size_t)(at.offset - source->req.offset);
    const uint8_t *bytes = source->buf + skip;
    struct snapshot_block block;
    if (skip + SNAPSHOT_BLOCK_HEADER_BYTES > source->req.len || !snapshot_block_decode(bytes, &at, &block)) {
        answer_error(source, SNAPSHOT_DAMAGED, "its header is damaged, or not what was asked for");
        return;
    }
    size_t len = snapshot_block_bytes(block.stored_len);
    if (skip + len > source->req.len || !snapshot_block_body_ok(bytes, &block)) {
        answer_error(source, SNAPSHOT_DAMAGED, "its content is damaged");
        return;
    }
    struct snapshot_position next = at;
    snapshot_position_advance(&next, &block);
    source->events.piece(source->events.ctx, SNAPSHOT_OK, &at, bytes, len, &next, false);
}

static void read_done_cb(struct env_disk_req *req, enum env_status env_status)
{
    struct snapshot_source *source = req->data;
    source->reading = false;
    if (source->closing) {
        close_if_idle(source);
    } else if (env_status != ENV_OK) {
        enum snapshot_status status = snapshot_status_of(env_status);
        answer_error(source, status, snapshot_status_text(status));
    } else if (source->want.number == source->file.trailer.end.blocks) {
        give_trailer(source);
    } else {
        give_block(source);
    }
}

enum snapshot_status snapshot_source_read(struct snapshot_source *source, const struct snapshot_position *at)
{
    assert(source->opened);
    if (source->reading) {
        return SNAPSHOT_BUSY;
    }
    if (at->offset >= source->file.size || at->number > source->file.trailer.end.blocks) {
        return SNAPSHOT_DAMAGED;
    }
    uint64_t from = at->offset / ENV_BLOCK * ENV_BLOCK;
    uint64_t rest = source->file.size - from;
    source->want = *at;
    source->req = (struct env_disk_req){.op = ENV_DISK_READ,
                                        .file = source->file.handle,
                                        .offset = from,
                                        .buf = source->buf,
                                        .len = rest < BUF_BYTES ? (size_t)rest : BUF_BYTES,
                                        .data = source,
                                        .cb = read_done_cb};
    source->reading = true;
    source->env->ops->submit(source->env, &source->req);
    return SNAPSHOT_OK;
}

static void opened_cb(struct snapshot_file *file, enum snapshot_status status)
{
    struct snapshot_source *source = file->data;
    if (source->closing) {
        close_if_idle(source);
        return;
    }
    if (status != SNAPSHOT_OK) {
        source->events.failed(source->events.ctx, status, file->error);
        return;
    }
    source->opened = true;
    source->events.opened(source->events.ctx, &file->meta, &file->trailer.end, file->header, file->header_len);
}

enum snapshot_status snapshot_source_open(struct env *env, struct snapshot_dir *dir, const char *name,
                                          const struct snapshot_source_events *events, struct snapshot_source **out)
{
    struct snapshot_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    source->env = env;
    source->events = *events;
    source->file.data = source;
    source->file.cb = opened_cb;
    source->buf = snapshot_alloc(BUF_BYTES);
    enum snapshot_status status =
        source->buf == NULL ? SNAPSHOT_NO_MEMORY : snapshot_file_open(&source->file, env, dir, name);
    if (status != SNAPSHOT_OK) {
        source_free(source);
        return status;
    }
    *out = source;
    return SNAPSHOT_OK;
}

const char *snapshot_source_error(const struct snapshot_source *source)
{
    return source->file.error;
}

void snapshot_source_close(struct snapshot_source *source)
{
    if (source == NULL) {
        return;
    }
    assert(!source->closing);
    source->closing = true;
    if (PLANT(PLANT_PRUNE_OPEN)) {
        snapshot_use_end(&source->file.use);
    }
    close_if_idle(source);
}
