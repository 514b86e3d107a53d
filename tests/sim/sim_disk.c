#include "tests/sim/sim_disk.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define NAME_BYTES 96u

struct sim_file {
    char name[NAME_BYTES];
    uint8_t *data;
    uint64_t size;
    uint8_t *stable; /* of a bulk file: what survives a crash for certain; NULL: everything */
    uint64_t stable_size;
    unsigned handles;
    struct sim_disk_op *first, *last; /* requests; the first one is running */
    struct sim_file *next;
};

struct env_file {
    struct sim_disk *disk;
    struct sim_file *file;
    unsigned in_flight;
    bool closing;
    struct env_file *next;
};

struct sim_disk_op {
    struct sim_task task;
    struct sim_disk *disk;
    struct env_disk_req *req;
    uint64_t sum; /* of a write's buffer at submission */
    struct sim_disk_op *next;
};

static void op_fire_cb(struct sim_task *task);

void sim_disk_init(struct sim_disk *disk, struct sim_world *world, struct sim_random random, uint64_t capacity_bytes,
                   void (*completed)(void *ctx, struct env_disk_req *req, enum env_status status), void *ctx)
{
    memset(disk, 0, sizeof *disk);
    disk->world = world;
    disk->random = random;
    disk->latency_us = 80;
    disk->latency_max_us = 20000;
    disk->bytes_per_us = 500;
    disk->slow_factor = 1;
    disk->capacity_bytes = capacity_bytes;
    disk->completed = completed;
    disk->ctx = ctx;
}

static void contract(struct sim_disk *disk, bool holds, const char *rule, const char *name)
{
    if (!holds) {
        sim_world_violation(disk->world, "disk contract", "%s (file %s)", rule, name == NULL ? "?" : name);
    }
}

/* --- Files ------------------------------------------------------------------------------------------------------- */

static struct sim_file *file_find(const struct sim_disk *disk, const char *name)
{
    for (struct sim_file *file = disk->files; file != NULL; file = file->next) {
        if (strcmp(file->name, name) == 0) {
            return file;
        }
    }
    return NULL;
}

static struct sim_file *file_new(struct sim_disk *disk, const char *name, uint64_t size)
{
    struct sim_file *file = calloc(1, sizeof *file);
    struct sim_file **last = &disk->files;

    assert(file != NULL);
    assert(strlen(name) < NAME_BYTES);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->data = calloc(1, size == 0 ? 1 : size);
    assert(file->data != NULL);
    file->size = size;
    disk->used_bytes += size;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = file;
    return file;
}

static void file_free(struct sim_disk *disk, struct sim_file *file)
{
    struct sim_file **link = &disk->files;

    while (*link != file) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = file->next;
    disk->used_bytes -= file->size;
    free(file->stable);
    free(file->data);
    free(file);
}

static void bulk_sync(struct sim_file *file)
{
    file->stable = realloc(file->stable, file->size == 0 ? 1 : file->size);
    assert(file->stable != NULL);
    memcpy(file->stable, file->data, file->size);
    file->stable_size = file->size;
}

static bool bulk_grow(struct sim_disk *disk, struct sim_file *file, uint64_t size)
{
    if (disk->used_bytes + (size - file->size) > disk->capacity_bytes) {
        disk->no_space++;
        return false;
    }
    file->data = realloc(file->data, size);
    assert(file->data != NULL);
    memset(file->data + file->size, 0, size - file->size);
    disk->used_bytes += size - file->size;
    file->size = size;
    return true;
}

/* A crash: each sector that was not synced is on the disk or not, and so is the new size. */
static void bulk_crash(struct sim_disk *disk, struct sim_file *file)
{
    uint32_t share = (uint32_t)sim_random_below(&disk->random, 5) * 250000;
    uint64_t end = file->stable_size;

    for (uint64_t at = 0; at < file->size; at += SIM_SECTOR) {
        size_t n = file->size - at < SIM_SECTOR ? (size_t)(file->size - at) : SIM_SECTOR;
        size_t old = at >= file->stable_size ? 0 : (size_t)(file->stable_size - at);

        old = old < n ? old : n;
        if (old == n && memcmp(file->data + at, file->stable + at, n) == 0) {
            continue;
        }
        if (sim_random_chance(&disk->random, share)) {
            end = at + n > end ? at + n : end;
        } else {
            memset(file->data + at, 0, n);
            memcpy(file->data + at, file->stable + at, old);
        }
    }
    disk->used_bytes -= file->size - end;
    file->size = end;
    bulk_sync(file);
}

static struct env_file *handle_new(struct sim_disk *disk, struct sim_file *file)
{
    struct env_file *handle = calloc(1, sizeof *handle);

    assert(handle != NULL);
    handle->disk = disk;
    handle->file = file;
    handle->next = disk->handles;
    disk->handles = handle;
    file->handles++;
    return handle;
}

static void handle_free(struct sim_disk *disk, struct env_file *handle)
{
    struct env_file **link = &disk->handles;

    while (*link != handle) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = handle->next;
    if (handle->file != NULL) {
        handle->file->handles--;
    }
    free(handle);
}

/* A closing handle is released once its last request has completed. */
static void handle_settle(struct sim_disk *disk, struct env_file *handle)
{
    if (handle->closing && handle->in_flight == 0) {
        handle_free(disk, handle);
    }
}

/* What a crash or a failure leaves of a write: any subset of its sectors. */
static void write_torn(struct sim_disk *disk, struct sim_file *file, uint64_t offset, const uint8_t *buf, size_t len)
{
    uint32_t share = (uint32_t)sim_random_below(&disk->random, 5) * 250000; /* none, some, all */

    disk->torn++;
    for (size_t done = 0; done < len; done += SIM_SECTOR) {
        size_t n = len - done < SIM_SECTOR ? len - done : SIM_SECTOR;

        if (sim_random_chance(&disk->random, share)) {
            memcpy(file->data + offset + done, buf + done, n);
        }
    }
}

static bool fails(struct sim_disk *disk, uint32_t ppm)
{
    if (ppm == 0 || !sim_random_chance(&disk->random, ppm)) {
        return false;
    }
    disk->errors++;
    return true;
}

/* --- Name operations, shared by the synchronous and the asynchronous calls -----------------------------------------
 */

static enum env_status name_create(struct sim_disk *disk, const char *name, uint64_t size, struct env_file **file,
                                   bool dying)
{
    if (file_find(disk, name) != NULL) {
        return ENV_EXISTS;
    }
    if (disk->used_bytes + size > disk->capacity_bytes) {
        disk->no_space++;
        return ENV_NO_SPACE;
    }
    if (dying) {
        if (sim_random_chance(&disk->random, 600000)) {
            file_new(disk, name, sim_random_below(&disk->random, size / SIM_SECTOR + 1) * SIM_SECTOR);
        }
        return ENV_IO;
    }
    if (fails(disk, disk->write_error_ppm)) {
        return ENV_IO;
    }
    *file = handle_new(disk, file_new(disk, name, size));
    return ENV_OK;
}

static enum env_status name_remove(struct sim_disk *disk, const char *name, bool dying)
{
    struct sim_file *file = file_find(disk, name);

    if (file == NULL) {
        return ENV_NOT_FOUND;
    }
    if (dying && sim_random_chance(&disk->random, 500000)) {
        return ENV_IO;
    }
    if (!dying && fails(disk, disk->write_error_ppm)) {
        return ENV_IO;
    }
    if (file->handles > 0 && !dying) {
        bool open = false;

        for (struct env_file *handle = disk->handles; handle != NULL; handle = handle->next) {
            open = open || (handle->file == file && !handle->closing);
        }
        contract(disk, !open, "removed while open", name);
        return ENV_IO;
    }
    if (file->handles == 0) {
        file_free(disk, file);
    }
    return dying ? ENV_IO : ENV_OK;
}

static enum env_status name_rename(struct sim_disk *disk, const char *from, const char *to, bool dying)
{
    struct sim_file *file = file_find(disk, from);
    struct sim_file *old = file_find(disk, to);

    if (file == NULL) {
        return ENV_NOT_FOUND;
    }
    if (dying && sim_random_chance(&disk->random, 500000)) {
        return ENV_IO;
    }
    if (!dying && fails(disk, disk->write_error_ppm)) {
        return ENV_IO;
    }
    if (old != NULL && old != file) {
        contract(disk, old->handles == 0 || dying, "renamed over an open file", to);
        if (old->handles > 0) {
            return ENV_IO;
        }
        file_free(disk, old);
    }
    snprintf(file->name, sizeof file->name, "%s", to);
    return dying ? ENV_IO : ENV_OK;
}

/* --- Asynchronous requests -----------------------------------------------------------------------------------------
 */

static bool hangs(const struct sim_disk *disk, const struct sim_disk_op *op)
{
    return op->req->op == ENV_DISK_READ && strcmp(op->req->file->file->name, disk->stalled) == 0;
}

static void op_start(struct sim_disk *disk, struct sim_disk_op *op)
{
    if (hangs(disk, op)) {
        return;
    }
    uint64_t us = sim_random_delay(&disk->random, disk->latency_us, disk->latency_max_us);

    us += op->req->len / disk->bytes_per_us;
    sim_world_after(disk->world, &op->task, us * disk->slow_factor);
}

void sim_disk_stall(struct sim_disk *disk, const char *name)
{
    char before[NAME_BYTES];

    snprintf(before, sizeof before, "%s", disk->stalled);
    snprintf(disk->stalled, sizeof disk->stalled, "%s", name == NULL ? "" : name);
    for (struct sim_file *file = disk->files; file != NULL; file = file->next) {
        if (strcmp(file->name, before) == 0 && file->first != NULL && file->first->task.position == 0) {
            op_start(disk, file->first);
        }
    }
}

unsigned sim_disk_stalled(const struct sim_disk *disk)
{
    unsigned n = 0;

    for (const struct sim_file *file = disk->files; file != NULL; file = file->next) {
        n += file->first != NULL && hangs(disk, file->first);
    }
    return n;
}

bool sim_disk_has(const struct sim_disk *disk, const char *name)
{
    return file_find(disk, name) != NULL;
}

static bool op_is_named(const struct sim_disk_op *op)
{
    return op->req->op != ENV_DISK_WRITE && op->req->op != ENV_DISK_READ && op->req->op != ENV_DISK_SYNC;
}

void sim_disk_submit(struct sim_disk *disk, struct env_disk_req *req)
{
    struct sim_disk_op *op = calloc(1, sizeof *op);

    assert(op != NULL);
    assert(req->cb != NULL);
    op->task.cb = op_fire_cb;
    op->disk = disk;
    op->req = req;
    if (op_is_named(op)) {
        op->next = disk->name_ops;
        disk->name_ops = op;
        op_start(disk, op);
        return;
    }
    contract(disk, req->file != NULL && !req->file->closing, "request on a closed file", NULL);
    assert(req->file != NULL);
    contract(disk, req->op != ENV_DISK_SYNC || req->file->file->stable != NULL, "sync of an ordinary file",
             req->file->file->name);
    contract(disk, req->offset % ENV_BLOCK == 0, "offset not aligned", req->file->file->name);
    contract(disk, req->len % ENV_BLOCK == 0, "length not aligned", req->file->file->name);
    contract(disk, (uintptr_t)req->buf % ENV_BLOCK == 0, "buffer not aligned", req->file->file->name);
    if (req->op == ENV_DISK_WRITE) {
        contract(disk, req->file->file->stable != NULL || req->offset + req->len <= req->file->file->size,
                 "write past the end", req->file->file->name);
        op->sum = XXH3_64bits(req->buf, req->len);
    }
    req->file->in_flight++;
    if (req->file->file->first == NULL) {
        req->file->file->first = req->file->file->last = op;
        op_start(disk, op);
    } else {
        req->file->file->last->next = op;
        req->file->file->last = op;
    }
}

static void read_at(const struct sim_file *file, uint64_t offset, uint8_t *buf, size_t len)
{
    size_t n = offset >= file->size ? 0 : (size_t)(file->size - offset);

    n = n < len ? n : len;
    if (n > 0) {
        memcpy(buf, file->data + offset, n);
    }
    memset(buf + n, 0, len - n);
}

static enum env_status data_execute(struct sim_disk *disk, struct sim_disk_op *op)
{
    struct env_disk_req *req = op->req;
    struct sim_file *file = req->file->file;

    if (req->op == ENV_DISK_READ) {
        if (fails(disk, disk->read_error_ppm)) {
            return ENV_IO;
        }
        read_at(file, req->offset, req->buf, req->len);
        return ENV_OK;
    }
    if (req->op == ENV_DISK_SYNC) {
        if (fails(disk, disk->write_error_ppm)) {
            return ENV_IO;
        }
        bulk_sync(file);
        return ENV_OK;
    }
    contract(disk, XXH3_64bits(req->buf, req->len) == op->sum, "buffer changed during its write", file->name);
    if (file->stable != NULL && req->offset + req->len > file->size) {
        contract(disk, req->offset <= file->size, "a hole in a bulk file", file->name);
        if (!bulk_grow(disk, file, req->offset + req->len)) {
            return ENV_NO_SPACE;
        }
    }
    if (req->offset + req->len > file->size) {
        return ENV_IO;
    }
    disk->writes++;
    disk->bytes_written += req->len;
    if (fails(disk, disk->write_error_ppm)) {
        write_torn(disk, file, req->offset, req->buf, req->len);
        return ENV_IO;
    }
    memcpy(file->data + req->offset, req->buf, req->len);
    return ENV_OK;
}

static enum env_status name_bulk(struct sim_disk *disk, struct env_disk_req *req, bool dying)
{
    struct sim_file *file = file_find(disk, req->name);

    if (req->op == ENV_DISK_BULK_CREATE) {
        if (file != NULL) {
            return ENV_EXISTS;
        }
        if (fails(disk, disk->write_error_ppm) || (dying && sim_random_chance(&disk->random, 500000))) {
            return ENV_IO;
        }
        file = file_new(disk, req->name, 0);
    } else if (file == NULL) {
        return ENV_NOT_FOUND;
    } else if (fails(disk, disk->read_error_ppm)) {
        return ENV_IO;
    }
    if (file->stable == NULL) {
        bulk_sync(file);
    }
    if (dying) {
        return ENV_IO;
    }
    req->len = (size_t)file->size;
    req->file = handle_new(disk, file);
    return ENV_OK;
}

static enum env_status name_execute(struct sim_disk *disk, struct env_disk_req *req, bool dying)
{
    struct env_file *handle = NULL;
    enum env_status status;

    switch (req->op) {
    case ENV_DISK_CREATE:
        status = name_create(disk, req->name, req->len, &handle, dying);
        if (status == ENV_OK) {
            req->file = handle;
        }
        return status;
    case ENV_DISK_RENAME:
        return name_rename(disk, req->name, req->name_to, dying);
    case ENV_DISK_REMOVE:
        return name_remove(disk, req->name, dying);
    case ENV_DISK_BULK_CREATE:
    case ENV_DISK_BULK_OPEN:
        return name_bulk(disk, req, dying);
    case ENV_DISK_WORK:
        if (!dying) {
            req->work(req);
        }
        return dying ? ENV_IO : ENV_OK;
    case ENV_DISK_SYNC:
    case ENV_DISK_WRITE:
    case ENV_DISK_READ:
        break;
    }
    assert(false);
    return ENV_IO;
}

static void name_op_unlink(struct sim_disk *disk, struct sim_disk_op *op)
{
    struct sim_disk_op **link = &disk->name_ops;

    while (*link != op) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = op->next;
}

static void op_fire_cb(struct sim_task *task)
{
    struct sim_disk_op *op = (struct sim_disk_op *)(void *)task;
    struct sim_disk *disk = op->disk;
    struct env_disk_req *req = op->req;
    enum env_status status;

    if (op_is_named(op)) {
        name_op_unlink(disk, op);
        status = name_execute(disk, req, false);
    } else {
        struct env_file *handle = req->file;
        struct sim_file *file = handle->file;

        assert(file->first == op);
        status = data_execute(disk, op);
        file->first = op->next;
        if (file->first == NULL) {
            file->last = NULL;
        } else {
            op_start(disk, file->first);
        }
        handle->in_flight--;
        handle_settle(disk, handle);
    }
    free(op);
    disk->completed(disk->ctx, req, status);
}

/* The process is gone, its objects are not yet: their owners still close their handles, which then stand for nothing.
 */
static void handles_orphan(struct sim_disk *disk)
{
    for (struct env_file *handle = disk->handles, *next; handle != NULL; handle = next) {
        next = handle->next;
        if (handle->closing) {
            handle_free(disk, handle);
        } else if (handle->file != NULL) {
            handle->file->handles--;
            handle->file = NULL;
            handle->in_flight = 0;
        }
    }
}

static void op_lose(struct sim_disk *disk, struct sim_disk_op *op)
{
    sim_world_cancel(disk->world, &op->task);
    op->next = disk->lost;
    disk->lost = op;
}

void sim_disk_crash(struct sim_disk *disk)
{
    handles_orphan(disk);
    for (struct sim_file *file = disk->files; file != NULL; file = file->next) {
        struct sim_disk_op *op = file->first;

        if (file->stable != NULL) {
            bulk_crash(disk, file); /* a running write counts as not begun */
        } else if (op != NULL && op->req->op == ENV_DISK_WRITE && op->req->offset + op->req->len <= file->size) {
            write_torn(disk, file, op->req->offset, op->req->buf, op->req->len);
        }
        while (op != NULL) {
            struct sim_disk_op *next = op->next;

            op_lose(disk, op);
            op = next;
        }
        file->first = file->last = NULL;
    }
    while (disk->name_ops != NULL) {
        struct sim_disk_op *op = disk->name_ops;

        disk->name_ops = op->next;
        (void)name_execute(disk, op->req, true);
        op_lose(disk, op);
    }
}

void sim_disk_submit_dead(struct sim_disk *disk, struct env_disk_req *req)
{
    struct sim_disk_op *op = calloc(1, sizeof *op);

    assert(op != NULL);
    op->req = req;
    op_lose(disk, op);
}

void sim_disk_cancel_lost(struct sim_disk *disk)
{
    while (disk->lost != NULL) {
        struct sim_disk_op *op = disk->lost;
        struct env_disk_req *req = op->req;

        disk->lost = op->next;
        free(op);
        req->cb(req, ENV_CANCELED);
    }
}

void sim_disk_fini(struct sim_disk *disk)
{
    sim_disk_wipe(disk);
}

void sim_disk_wipe(struct sim_disk *disk)
{
    sim_disk_crash(disk);
    while (disk->lost != NULL) {
        struct sim_disk_op *op = disk->lost;

        disk->lost = op->next;
        free(op);
    }
    sim_disk_reap(disk);
    while (disk->files != NULL) {
        file_free(disk, disk->files);
    }
}

/* --- Synchronous calls ---------------------------------------------------------------------------------------------
 */

void sim_disk_list(struct sim_disk *disk, void (*each)(void *ctx, const char *name, uint64_t size), void *ctx)
{
    struct sim_file *next;

    for (struct sim_file *file = disk->files; file != NULL; file = next) {
        next = file->next;
        each(ctx, file->name, file->size);
    }
}

enum env_status sim_disk_open(struct sim_disk *disk, const char *name, struct env_file **file, uint64_t *size)
{
    struct sim_file *found = file_find(disk, name);

    if (found == NULL) {
        return ENV_NOT_FOUND;
    }
    if (fails(disk, disk->read_error_ppm)) {
        return ENV_IO;
    }
    *file = handle_new(disk, found);
    *size = found->size;
    return ENV_OK;
}

enum env_status sim_disk_create(struct sim_disk *disk, const char *name, uint64_t size, struct env_file **file,
                                bool dying)
{
    return name_create(disk, name, size, file, dying);
}

enum env_status sim_disk_read(struct sim_disk *disk, struct env_file *file, uint64_t offset, void *buf, size_t len)
{
    contract(disk, !file->closing, "read of a closed file", file->file->name);
    if (fails(disk, disk->read_error_ppm)) {
        return ENV_IO;
    }
    read_at(file->file, offset, buf, len);
    return ENV_OK;
}

static bool is_being_written(const struct sim_file *file)
{
    for (const struct sim_disk_op *op = file->first; op != NULL; op = op->next) {
        if (op->req->op == ENV_DISK_WRITE) {
            return true;
        }
    }
    return false;
}

enum env_status sim_disk_write(struct sim_disk *disk, struct env_file *file, uint64_t offset, const void *buf,
                               size_t len, bool dying)
{
    contract(disk, !file->closing, "write to a closed file", file->file->name);
    contract(disk, offset + len <= file->file->size, "write past the end", file->file->name);
    contract(disk, !is_being_written(file->file), "synchronous write beside a running one", file->file->name);
    if (offset + len > file->file->size) {
        return ENV_IO;
    }
    disk->writes++;
    disk->bytes_written += len;
    if (dying || fails(disk, disk->write_error_ppm)) {
        write_torn(disk, file->file, offset, buf, len);
        return ENV_IO;
    }
    memcpy(file->file->data + offset, buf, len);
    return ENV_OK;
}

enum env_status sim_disk_rename(struct sim_disk *disk, const char *from, const char *to, bool dying)
{
    return name_rename(disk, from, to, dying);
}

enum env_status sim_disk_remove(struct sim_disk *disk, const char *name, bool dying)
{
    return name_remove(disk, name, dying);
}

void sim_disk_close(struct sim_disk *disk, struct env_file *file)
{
    contract(disk, !file->closing, "closed twice", file->file == NULL ? NULL : file->file->name);
    file->closing = true;
    handle_settle(disk, file);
}

uint64_t sim_disk_free_bytes(const struct sim_disk *disk)
{
    return disk->used_bytes >= disk->capacity_bytes ? 0 : disk->capacity_bytes - disk->used_bytes;
}

unsigned sim_disk_open_handles(const struct sim_disk *disk)
{
    unsigned n = 0;

    for (const struct env_file *handle = disk->handles; handle != NULL; handle = handle->next) {
        n += handle->closing ? 0 : 1;
    }
    return n;
}

void sim_disk_reap(struct sim_disk *disk)
{
    for (struct env_file *handle = disk->handles, *next; handle != NULL; handle = next) {
        next = handle->next;
        if (handle->file == NULL) {
            handle_free(disk, handle);
        }
    }
}

unsigned sim_disk_in_flight(const struct sim_disk *disk)
{
    unsigned n = 0;

    for (const struct sim_file *file = disk->files; file != NULL; file = file->next) {
        for (const struct sim_disk_op *op = file->first; op != NULL; op = op->next) {
            n++;
        }
    }
    for (const struct sim_disk_op *op = disk->name_ops; op != NULL; op = op->next) {
        n++;
    }
    return n;
}

/* One bit of the first byte that is not zero, from there on. */
static bool flip_from(struct sim_disk *disk, struct sim_file *file, uint64_t at, uint64_t *offset)
{
    for (uint64_t n = 0; n < 4 * ENV_BLOCK && at < file->size; n++, at++) {
        if (file->data[at] != 0) {
            file->data[at] = (uint8_t)(file->data[at] ^ (1u << sim_random_below(&disk->random, 8)));
            if (file->stable != NULL && at < file->stable_size) {
                file->stable[at] = file->data[at];
            }
            *offset = at;
            return true;
        }
    }
    return false;
}

bool sim_disk_flip(struct sim_disk *disk, char *name, size_t name_bytes, uint64_t *offset)
{
    for (unsigned attempt = 0; attempt < 64 && disk->used_bytes > 0; attempt++) {
        uint64_t at = sim_random_below(&disk->random, disk->used_bytes);
        struct sim_file *file = disk->files;

        while (at >= file->size) {
            at -= file->size;
            file = file->next;
        }
        if (flip_from(disk, file, at, offset)) {
            snprintf(name, name_bytes, "%s", file->name);
            return true;
        }
    }
    return false;
}

bool sim_disk_flip_newest(struct sim_disk *disk, const char *prefix, char *name, size_t name_bytes, uint64_t *offset)
{
    struct sim_file *newest = NULL;

    for (struct sim_file *file = disk->files; file != NULL; file = file->next) {
        if (strncmp(file->name, prefix, strlen(prefix)) == 0 && strchr(file->name, '.') == NULL &&
            (newest == NULL || strcmp(file->name, newest->name) > 0)) {
            newest = file;
        }
    }
    for (unsigned attempt = 0; attempt < 64 && newest != NULL && newest->size > 0; attempt++) {
        if (flip_from(disk, newest, sim_random_below(&disk->random, newest->size), offset)) {
            snprintf(name, name_bytes, "%s", newest->name);
            return true;
        }
    }
    return false;
}

bool sim_disk_flip_run(struct sim_disk *disk, const char *prefix, uint8_t byte, size_t n, char *name, size_t name_bytes)
{
    struct sim_file *oldest = NULL;
    size_t run = 0;
    uint64_t offset;

    for (struct sim_file *file = disk->files; file != NULL; file = file->next) {
        if (strncmp(file->name, prefix, strlen(prefix)) == 0 &&
            (oldest == NULL || strcmp(file->name, oldest->name) < 0)) {
            oldest = file;
        }
    }
    for (uint64_t at = 0; oldest != NULL && at < oldest->size; at++) {
        run = oldest->data[at] == byte ? run + 1 : 0;
        if (run == n) {
            snprintf(name, name_bytes, "%s", oldest->name);
            return flip_from(disk, oldest, at - n / 2, &offset);
        }
    }
    return false;
}
