/* Opening a finished snapshot: the first block says how long the header is, then the header, then the trailer. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/snapshot_internal.h"

const char snapshot_advice[] = "Keep the file for a look at it; the node can start from an older snapshot if its log "
                               "still reaches back to it, or get everything from its peers under a fresh id.";

enum snapshot_status snapshot_status_of(enum env_status status)
{
    switch (status) {
    case ENV_OK:
        return SNAPSHOT_OK;
    case ENV_NOT_FOUND:
        return SNAPSHOT_NOT_FOUND;
    case ENV_NO_SPACE:
        return SNAPSHOT_NO_SPACE;
    case ENV_NO_MEMORY:
        return SNAPSHOT_NO_MEMORY;
    case ENV_CANCELED:
        return SNAPSHOT_CANCELED;
    default:
        return SNAPSHOT_IO;
    }
}

void *snapshot_alloc(size_t len)
{
    return aligned_alloc(ENV_BLOCK, (len + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK);
}

void snapshot_file_explain(struct snapshot_file *file, const char *format, ...)
{
    int n = snprintf(file->error, sizeof file->error, "%s: ", file->name);
    va_list args;
    va_start(args, format);
    vsnprintf(file->error + n, sizeof file->error - (size_t)n, format, args);
    va_end(args);
}

enum snapshot_status snapshot_judge_header(const char *name, const uint8_t *header, size_t header_len,
                                           struct snapshot_meta *meta, uint64_t *check, const char **what)
{
    uint64_t index;
    uint64_t term;
    enum snapshot_status status = snapshot_header_decode(header, header_len, meta, check);
    if (status == SNAPSHOT_VERSION) {
        *what = "it was written by a newer version: start a newer version";
    } else if (status != SNAPSHOT_OK) {
        *what = "its header is damaged";
    } else if (snapshot_name_parse(name, &index, &term) && (index != meta->index || term != meta->term)) {
        *what = "it was renamed: its header has another index or term";
        status = SNAPSHOT_DAMAGED;
    }
    return status;
}

enum snapshot_status snapshot_judge_trailer(const uint8_t *last, uint64_t size, const struct snapshot_meta *meta,
                                            struct snapshot_trailer *trailer, const char **what)
{
    *what = "its trailer is damaged, or it was shortened";
    if (!snapshot_trailer_decode(last, trailer) || trailer->end.file_bytes != size) {
        return SNAPSHOT_DAMAGED;
    }
    if (memcmp(trailer->file_id, meta->file_id, sizeof meta->file_id) != 0) {
        *what = "header and trailer belong to different files";
        return SNAPSHOT_DAMAGED;
    }
    return SNAPSHOT_OK;
}

struct snapshot_position snapshot_file_start(const struct snapshot_file *file)
{
    return (struct snapshot_position){.offset = file->header_len, .check = file->header_check};
}

static void finish(struct snapshot_file *file, enum snapshot_status status)
{
    if (status != SNAPSHOT_OK && file->handle != NULL) {
        file->env->ops->close(file->env, file->handle);
        file->handle = NULL;
    }
    file->cb(file, status);
}

static void submit(struct snapshot_file *file, enum env_disk_op op, uint64_t offset, void *buf, size_t len,
                   void (*cb)(struct env_disk_req *req, enum env_status status))
{
    file->req = (struct env_disk_req){.op = op,
                                      .file = file->handle,
                                      .name = file->name,
                                      .offset = offset,
                                      .buf = buf,
                                      .len = len,
                                      .data = file,
                                      .cb = cb};
    file->busy = true;
    file->env->ops->submit(file->env, &file->req);
}

/* The end of a request: false if the step after it must not be taken. */
static bool landed(struct snapshot_file *file, enum env_status status, const char *doing)
{
    file->busy = false;
    if (file->closing) {
        finish(file, SNAPSHOT_CANCELED);
        return false;
    }
    if (status != ENV_OK) {
        snapshot_file_explain(file, "can't %s: %s", doing, snapshot_status_text(snapshot_status_of(status)));
        finish(file, snapshot_status_of(status));
        return false;
    }
    return true;
}

static void trailer_read_cb(struct env_disk_req *req, enum env_status env_status)
{
    struct snapshot_file *file = req->data;
    const char *what;
    if (!landed(file, env_status, "read its trailer")) {
        return;
    }
    enum snapshot_status status = snapshot_judge_trailer(file->block, file->size, &file->meta, &file->trailer, &what);
    if (status != SNAPSHOT_OK) {
        snapshot_file_explain(file, "%s. %s", what, snapshot_advice);
    }
    finish(file, status);
}

static void header_read_cb(struct env_disk_req *req, enum env_status env_status)
{
    struct snapshot_file *file = req->data;
    const char *what;
    if (!landed(file, env_status, "read its header")) {
        return;
    }
    enum snapshot_status status =
        snapshot_judge_header(file->name, file->header, file->header_len, &file->meta, &file->header_check, &what);
    if (status != SNAPSHOT_OK) {
        snapshot_file_explain(file, "%s. %s", what, status == SNAPSHOT_DAMAGED ? snapshot_advice : "");
        finish(file, status);
        return;
    }
    submit(file, ENV_DISK_READ, file->size - SNAPSHOT_TRAILER_BYTES, file->block, ENV_BLOCK, trailer_read_cb);
}

static void first_read_cb(struct env_disk_req *req, enum env_status env_status)
{
    struct snapshot_file *file = req->data;
    if (!landed(file, env_status, "read its header")) {
        return;
    }
    file->header_len = snapshot_header_claim(file->block);
    if (file->header_len == 0 || file->header_len + SNAPSHOT_TRAILER_BYTES > file->size) {
        snapshot_file_explain(file, "its header is damaged. %s", snapshot_advice);
        finish(file, SNAPSHOT_DAMAGED);
        return;
    }
    file->header = snapshot_alloc(file->header_len);
    if (file->header == NULL) {
        snapshot_file_explain(file, "out of memory");
        finish(file, SNAPSHOT_NO_MEMORY);
        return;
    }
    submit(file, ENV_DISK_READ, 0, file->header, file->header_len, header_read_cb);
}

static void open_done_cb(struct env_disk_req *req, enum env_status env_status)
{
    struct snapshot_file *file = req->data;
    if (env_status == ENV_OK) {
        file->handle = req->file;
        file->size = req->len;
    }
    if (!landed(file, env_status, "open it")) {
        return;
    }
    if (file->size % ENV_BLOCK != 0 || file->size < ENV_BLOCK + SNAPSHOT_TRAILER_BYTES) {
        snapshot_file_explain(file, "%llu bytes are not its whole size: it was cut off, or has grown. %s",
                              (unsigned long long)file->size, snapshot_advice);
        finish(file, SNAPSHOT_DAMAGED);
        return;
    }
    submit(file, ENV_DISK_READ, 0, file->block, ENV_BLOCK, first_read_cb);
}

enum snapshot_status snapshot_file_open(struct snapshot_file *file, struct env *env, struct snapshot_dir *dir,
                                        const char *name)
{
    uint64_t index;
    uint64_t term;
    assert(strlen(name) < sizeof file->name);
    if (dir != NULL &&
        (!snapshot_name_parse(name, &index, &term) || !snapshot_dir_hold(dir, &file->use, index, term))) {
        return SNAPSHOT_NOT_FOUND;
    }
    file->env = env;
    snprintf(file->name, sizeof file->name, "%s", name);
    file->block = snapshot_alloc(ENV_BLOCK);
    if (file->block == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    submit(file, ENV_DISK_BULK_OPEN, 0, NULL, 0, open_done_cb);
    return SNAPSHOT_OK;
}

void snapshot_file_close(struct snapshot_file *file)
{
    file->closing = true;
    if (!file->busy && file->handle != NULL) {
        file->env->ops->close(file->env, file->handle);
        file->handle = NULL;
    }
}

void snapshot_file_fini(struct snapshot_file *file)
{
    assert(!file->busy);
    assert(file->handle == NULL);
    free(file->header);
    free(file->block);
    snapshot_use_end(&file->use);
}
