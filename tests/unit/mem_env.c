#include "tests/unit/mem_env.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 64u
#define PENDING_MAX 64u
#define TIMERS_MAX 64u
#define NAME_MAX_BYTES 64u

struct mem_file {
    bool used;
    uint64_t serial; /* handles follow the file through renames */
    char name[NAME_MAX_BYTES];
    uint8_t *data;
    size_t size;
    bool bulk;
    uint8_t *stable; /* of a bulk file: what the last sync made durable */
    size_t stable_size;
};

struct env_file {
    struct env_file *next;
    uint64_t serial;
    unsigned life; /* handles of earlier lives are void */
};

struct mem_timer {
    struct env_timer *timer;
    bool set;
    uint64_t at_us;
};

struct mem_env {
    struct env env;
    uint64_t random;
    uint64_t now_us;
    struct mem_file files[FILES_MAX];
    struct env_disk_req *pending[PENDING_MAX];
    unsigned n_pending;
    struct mem_timer timers[TIMERS_MAX];
    unsigned n_timers;
    struct env_file *handles;
    unsigned open_files;
    uint64_t serials;
    unsigned life;
    bool dead;
    uint64_t capacity;
    bool tear_armed;
    unsigned tear_after;
    size_t tear_sectors;
    enum env_status tear_status;
    bool fail_reads;
    unsigned sync_writes;
    bool (*send)(void *ctx, uint64_t peer, const struct iovec *pieces, unsigned n);
    void *send_ctx;
    char log[1024];
};

static struct mem_env *of(struct env *env)
{
    return (struct mem_env *)env;
}

static struct mem_file *find(const struct mem_env *mem, const char *name)
{
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (mem->files[i].used && strcmp(mem->files[i].name, name) == 0) {
            return (struct mem_file *)&mem->files[i];
        }
    }
    return NULL;
}

static uint64_t used_bytes(const struct mem_env *mem)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FILES_MAX; i++) {
        sum += mem->files[i].used ? mem->files[i].size : 0;
    }
    return sum;
}

static enum env_status file_add(struct mem_env *mem, const char *name, size_t size)
{
    if (find(mem, name) != NULL) {
        return ENV_EXISTS;
    }
    if (used_bytes(mem) + size > mem->capacity) {
        return ENV_NO_SPACE;
    }
    for (unsigned i = 0; i < FILES_MAX; i++) {
        struct mem_file *file = &mem->files[i];
        if (!file->used) {
            file->used = true;
            file->serial = ++mem->serials;
            snprintf(file->name, sizeof file->name, "%s", name);
            file->size = size;
            file->data = calloc(1, size > 0 ? size : 1);
            assert(file->data != NULL);
            file->bulk = false;
            file->stable = NULL;
            file->stable_size = 0;
            return ENV_OK;
        }
    }
    assert(false); /* too many files */
    return ENV_IO;
}

static void file_drop(struct mem_file *file)
{
    free(file->data);
    free(file->stable);
    file->data = NULL;
    file->stable = NULL;
    file->used = false;
}

static void bulk_sync(struct mem_file *file)
{
    file->bulk = true;
    free(file->stable);
    file->stable = malloc(file->size > 0 ? file->size : 1);
    assert(file->stable != NULL);
    memcpy(file->stable, file->data, file->size);
    file->stable_size = file->size;
}

static enum env_status bulk_grow(struct mem_env *mem, struct mem_file *file, uint64_t size)
{
    assert(file->bulk);
    if (used_bytes(mem) + (size - file->size) > mem->capacity) {
        return ENV_NO_SPACE;
    }
    file->data = realloc(file->data, (size_t)size);
    assert(file->data != NULL);
    memset(file->data + file->size, 0, (size_t)size - file->size);
    file->size = (size_t)size;
    return ENV_OK;
}

/* A power cut: of what was not synced, the sectors that `keep` wants are there. */
static void bulk_crash(struct mem_file *file, bool (*keep)(void *ctx, size_t sector), void *ctx)
{
    size_t end = file->stable_size;
    for (size_t at = 0; at < file->size; at += MEM_SECTOR) {
        size_t n = file->size - at < MEM_SECTOR ? file->size - at : MEM_SECTOR;
        size_t old = at >= file->stable_size ? 0 : file->stable_size - at;
        old = old < n ? old : n;
        if (old == n && memcmp(file->data + at, file->stable + at, n) == 0) {
            continue;
        }
        if (keep != NULL && keep(ctx, at / MEM_SECTOR)) {
            end = at + n > end ? at + n : end;
        } else {
            memset(file->data + at, 0, n);
            memcpy(file->data + at, file->stable + at, old);
        }
    }
    file->size = end;
    bulk_sync(file);
}

static struct env_file *handle_new(struct mem_env *mem, const char *name)
{
    struct env_file *handle = calloc(1, sizeof *handle);
    assert(handle != NULL);
    handle->serial = find(mem, name)->serial;
    handle->life = mem->life;
    handle->next = mem->handles;
    mem->handles = handle;
    mem->open_files++;
    return handle;
}

static uint64_t now_us(struct env *env)
{
    return of(env)->now_us;
}

static uint64_t wall_ms(struct env *env)
{
    return 1700000000000u + of(env)->now_us / 1000;
}

static uint64_t random_u64(struct env *env)
{
    /* splitmix64 */
    uint64_t z = of(env)->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static struct mem_timer *timer_find(struct mem_env *mem, const struct env_timer *timer)
{
    for (unsigned i = 0; i < mem->n_timers; i++) {
        if (mem->timers[i].timer == timer) {
            return &mem->timers[i];
        }
    }
    return NULL;
}

static enum env_status timer_init(struct env *env, struct env_timer *timer)
{
    struct mem_env *mem = of(env);
    assert(mem->n_timers < TIMERS_MAX);
    mem->timers[mem->n_timers++] = (struct mem_timer){.timer = timer};
    return ENV_OK;
}

static void timer_set(struct env *env, struct env_timer *timer, uint64_t at_us)
{
    struct mem_timer *entry = timer_find(of(env), timer);
    assert(entry != NULL);
    entry->set = true;
    entry->at_us = at_us;
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    struct mem_timer *entry = timer_find(of(env), timer);
    assert(entry != NULL);
    entry->set = false;
}

static void timer_fini(struct env *env, struct env_timer *timer)
{
    struct mem_env *mem = of(env);
    struct mem_timer *entry = timer_find(mem, timer);
    assert(entry != NULL);
    *entry = mem->timers[--mem->n_timers];
}

static bool send_frame(struct env *env, uint64_t peer_id, const struct iovec *pieces, unsigned n)
{
    struct mem_env *mem = of(env);
    return mem->send != NULL && mem->send(mem->send_ctx, peer_id, pieces, n);
}

static enum env_status list(struct env *env, void (*each)(void *ctx, const char *name, uint64_t size), void *ctx)
{
    struct mem_env *mem = of(env);
    for (unsigned i = FILES_MAX; i-- > 0;) { /* backwards: nobody may rely on the order */
        if (mem->files[i].used) {
            each(ctx, mem->files[i].name, mem->files[i].size);
        }
    }
    return ENV_OK;
}

static enum env_status open_file(struct env *env, const char *name, struct env_file **file, uint64_t *size)
{
    struct mem_file *found = find(of(env), name);
    if (found == NULL) {
        return ENV_NOT_FOUND;
    }
    *file = handle_new(of(env), name);
    *size = found->size;
    return ENV_OK;
}

static enum env_status create_file(struct env *env, const char *name, uint64_t size, struct env_file **file)
{
    if (of(env)->dead) {
        return ENV_IO;
    }
    enum env_status status = file_add(of(env), name, (size_t)size);
    if (status == ENV_OK) {
        *file = handle_new(of(env), name);
    }
    return status;
}

static struct mem_file *of_handle(const struct mem_env *mem, const struct env_file *handle)
{
    assert(handle->life == mem->life);
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (mem->files[i].used && mem->files[i].serial == handle->serial) {
            return (struct mem_file *)&mem->files[i];
        }
    }
    assert(false);
    return NULL;
}

static void check_aligned(uint64_t offset, const void *buf, size_t len)
{
    assert(offset % ENV_BLOCK == 0);
    assert(len % ENV_BLOCK == 0);
    assert((uintptr_t)buf % ENV_BLOCK == 0);
}

static void read_at(const struct mem_file *file, uint64_t offset, void *buf, size_t len)
{
    memset(buf, 0, len);
    if (offset < file->size) {
        size_t n = file->size - offset < len ? (size_t)(file->size - offset) : len;
        memcpy(buf, file->data + offset, n);
    }
}

static enum env_status read_sync(struct env *env, struct env_file *handle, uint64_t offset, void *buf, size_t len)
{
    struct mem_env *mem = of(env);
    check_aligned(offset, buf, len);
    if (mem->fail_reads) {
        return ENV_IO;
    }
    read_at(of_handle(mem, handle), offset, buf, len);
    return ENV_OK;
}

static void write_at(struct mem_file *file, uint64_t offset, const void *buf, size_t len)
{
    assert(offset + len <= file->size);
    memcpy(file->data + offset, buf, len);
}

static enum env_status write_sync(struct env *env, struct env_file *handle, uint64_t offset, const void *buf,
                                  size_t len)
{
    struct mem_env *mem = of(env);
    check_aligned(offset, buf, len);
    if (mem->dead) {
        return ENV_IO;
    }
    mem->sync_writes++;
    struct mem_file *file = of_handle(mem, handle);
    if (mem->tear_armed && mem->tear_after-- == 0) {
        size_t n = mem->tear_sectors * MEM_SECTOR < len ? mem->tear_sectors * MEM_SECTOR : len;
        write_at(file, offset, buf, n);
        mem->tear_armed = false;
        mem->dead = true;
        return mem->tear_status;
    }
    write_at(file, offset, buf, len);
    return ENV_OK;
}

/* What is removed, or renamed over, must be closed (env.h). */
static void check_closed(const struct mem_env *mem, const struct mem_file *file)
{
    for (const struct env_file *handle = mem->handles; handle != NULL; handle = handle->next) {
        assert(handle->life != mem->life || handle->serial != file->serial);
    }
}

static enum env_status rename_sync(struct env *env, const char *from, const char *to)
{
    struct mem_env *mem = of(env);
    struct mem_file *file = find(mem, from);
    if (mem->dead || file == NULL) {
        return mem->dead ? ENV_IO : ENV_NOT_FOUND;
    }
    struct mem_file *old = find(mem, to);
    if (old != NULL) {
        check_closed(mem, old);
        file_drop(old);
    }
    snprintf(file->name, sizeof file->name, "%s", to);
    return ENV_OK;
}

static enum env_status remove_sync(struct env *env, const char *name)
{
    struct mem_env *mem = of(env);
    struct mem_file *file = find(mem, name);
    if (mem->dead || file == NULL) {
        return mem->dead ? ENV_IO : ENV_NOT_FOUND;
    }
    check_closed(mem, file);
    file_drop(file);
    return ENV_OK;
}

static void close_file(struct env *env, struct env_file *handle)
{
    struct env_file **at = &of(env)->handles;
    while (*at != handle) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = handle->next;
    of(env)->open_files--;
    free(handle);
}

static uint64_t free_bytes(struct env *env)
{
    uint64_t used = used_bytes(of(env));
    return of(env)->capacity > used ? of(env)->capacity - used : 0;
}

static void submit(struct env *env, struct env_disk_req *req)
{
    struct mem_env *mem = of(env);
    assert(req->cb != NULL);
    assert(mem->n_pending < PENDING_MAX);
    if (req->op == ENV_DISK_WRITE || req->op == ENV_DISK_READ) {
        check_aligned(req->offset, req->buf, req->len);
    }
    mem->pending[mem->n_pending++] = req;
}

static void log_line(struct env *env, int level, const char *text)
{
    (void)level;
    snprintf(of(env)->log, sizeof of(env)->log, "%s", text);
}

static void fail_stop(struct env *env, const char *what, const char *advice)
{
    snprintf(of(env)->log, sizeof of(env)->log, "fail-stop: %s. %s", what, advice);
    of(env)->dead = true;
}

static const struct env_ops mem_ops = {
    .now_us = now_us,
    .wall_ms = wall_ms,
    .random = random_u64,
    .timer_init = timer_init,
    .timer_set = timer_set,
    .timer_stop = timer_stop,
    .timer_fini = timer_fini,
    .send = send_frame,
    .list = list,
    .open = open_file,
    .create = create_file,
    .read_sync = read_sync,
    .write_sync = write_sync,
    .rename_sync = rename_sync,
    .remove_sync = remove_sync,
    .close = close_file,
    .free_bytes = free_bytes,
    .submit = submit,
    .log = log_line,
    .fail_stop = fail_stop,
};

struct mem_env *mem_env_new(uint64_t seed)
{
    struct mem_env *mem = calloc(1, sizeof *mem);
    assert(mem != NULL);
    mem->env.ops = &mem_ops;
    mem->random = seed;
    mem->now_us = 1000000;
    mem->capacity = UINT64_MAX;
    return mem;
}

void mem_env_free(struct mem_env *mem)
{
    assert(mem->n_pending == 0);
    for (unsigned i = 0; i < FILES_MAX; i++) {
        free(mem->files[i].data);
        free(mem->files[i].stable);
    }
    free(mem);
}

struct env *mem_env_env(struct mem_env *mem)
{
    return &mem->env;
}

unsigned mem_env_pending(const struct mem_env *mem)
{
    return mem->n_pending;
}

struct env_disk_req *mem_env_pending_req(struct mem_env *mem, unsigned i)
{
    assert(i < mem->n_pending);
    return mem->pending[i];
}

static enum env_status bulk_handle(struct mem_env *mem, struct env_disk_req *req)
{
    if (req->op == ENV_DISK_BULK_CREATE) {
        enum env_status status = file_add(mem, req->name, 0);
        if (status != ENV_OK) {
            return status;
        }
    }
    struct mem_file *file = find(mem, req->name);
    if (file == NULL) {
        return ENV_NOT_FOUND;
    }
    if (!file->bulk) {
        bulk_sync(file);
    }
    req->len = file->size;
    req->file = handle_new(mem, req->name);
    return ENV_OK;
}

static enum env_status perform(struct mem_env *mem, struct env_disk_req *req)
{
    enum env_status status = ENV_OK;
    switch (req->op) {
    case ENV_DISK_WRITE: {
        struct mem_file *file = of_handle(mem, req->file);
        if (file->bulk && req->offset + req->len > file->size) {
            assert(req->offset <= file->size);
            status = bulk_grow(mem, file, req->offset + req->len);
        }
        if (status == ENV_OK) {
            write_at(file, req->offset, req->buf, req->len);
        }
        return status;
    }
    case ENV_DISK_READ:
        return read_sync(&mem->env, req->file, req->offset, req->buf, req->len);
    case ENV_DISK_CREATE:
        status = file_add(mem, req->name, req->len);
        if (status == ENV_OK) {
            req->file = handle_new(mem, req->name);
        }
        return status;
    case ENV_DISK_RENAME:
        return rename_sync(&mem->env, req->name, req->name_to);
    case ENV_DISK_REMOVE:
        return remove_sync(&mem->env, req->name);
    case ENV_DISK_BULK_CREATE:
    case ENV_DISK_BULK_OPEN:
        return bulk_handle(mem, req);
    case ENV_DISK_SYNC:
        bulk_sync(of_handle(mem, req->file));
        return ENV_OK;
    case ENV_DISK_WORK:
        req->work(req);
        return ENV_OK;
    }
    return ENV_IO;
}

static struct env_disk_req *take(struct mem_env *mem, unsigned i)
{
    struct env_disk_req *req = mem_env_pending_req(mem, i);
    mem->n_pending--;
    memmove(&mem->pending[i], &mem->pending[i + 1], (mem->n_pending - i) * sizeof(struct env_disk_req *));
    return req;
}

void mem_env_complete(struct mem_env *mem, unsigned i, enum env_status status)
{
    struct env_disk_req *req = take(mem, i);
    if (status == ENV_OK) {
        status = perform(mem, req);
    }
    req->cb(req, status);
}

bool mem_env_complete_op(struct mem_env *mem, enum env_disk_op op, enum env_status status)
{
    for (unsigned i = 0; i < mem->n_pending; i++) {
        if (mem->pending[i]->op == op) {
            mem_env_complete(mem, i, status);
            return true;
        }
    }
    return false;
}

void mem_env_run(struct mem_env *mem)
{
    while (mem->n_pending > 0) {
        mem_env_complete(mem, 0, ENV_OK);
    }
}

void mem_env_advance(struct mem_env *mem, uint64_t us)
{
    uint64_t until = mem->now_us + us;
    for (;;) {
        struct mem_timer *first = NULL;
        for (unsigned i = 0; i < mem->n_timers; i++) {
            struct mem_timer *timer = &mem->timers[i];
            if (timer->set && timer->at_us <= until && (first == NULL || timer->at_us < first->at_us)) {
                first = timer;
            }
        }
        if (first == NULL) {
            break;
        }
        if (first->at_us > mem->now_us) {
            mem->now_us = first->at_us;
        }
        first->set = false;
        first->timer->cb(first->timer);
    }
    mem->now_us = until;
}

static void tear(struct mem_env *mem, const struct env_disk_req *req, bool (*keep)(void *ctx, size_t sector), void *ctx)
{
    struct mem_file *file = of_handle(mem, req->file);
    if (file->bulk && req->offset + req->len > file->size && bulk_grow(mem, file, req->offset + req->len) != ENV_OK) {
        return;
    }
    for (size_t sector = 0; sector < req->len / MEM_SECTOR; sector++) {
        if (keep(ctx, sector)) {
            size_t at = sector * MEM_SECTOR;
            write_at(file, req->offset + at, (const uint8_t *)req->buf + at, MEM_SECTOR);
        }
    }
}

void mem_env_crash(struct mem_env *mem, bool (*keep)(void *ctx, size_t sector), void *ctx)
{
    for (unsigned i = 0; i < mem->n_pending; i++) {
        if (mem->pending[i]->op == ENV_DISK_WRITE && keep != NULL) {
            tear(mem, mem->pending[i], keep, ctx);
        }
    }
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (mem->files[i].used && mem->files[i].bulk) {
            bulk_crash(&mem->files[i], keep, ctx);
        }
    }
    mem->dead = true;
    while (mem->n_pending > 0) {
        struct env_disk_req *req = take(mem, 0);
        req->cb(req, ENV_CANCELED);
    }
}

void mem_env_restart(struct mem_env *mem)
{
    assert(mem->n_pending == 0);
    mem->dead = false;
    mem->tear_armed = false;
    mem->life++;
}

uint8_t *mem_env_file(struct mem_env *mem, const char *name, size_t *size)
{
    struct mem_file *file = find(mem, name);
    if (file == NULL) {
        return NULL;
    }
    if (size != NULL) {
        *size = file->size;
    }
    return file->data;
}

void mem_env_file_put(struct mem_env *mem, const char *name, const void *data, size_t size)
{
    mem_env_file_remove(mem, name);
    uint64_t capacity = mem->capacity;
    mem->capacity = UINT64_MAX;
    enum env_status status = file_add(mem, name, size);
    assert(status == ENV_OK);
    (void)status;
    mem->capacity = capacity;
    if (size > 0) {
        memcpy(find(mem, name)->data, data, size);
    }
}

void mem_env_file_remove(struct mem_env *mem, const char *name)
{
    struct mem_file *file = find(mem, name);
    if (file != NULL) {
        file_drop(file);
    }
}

unsigned mem_env_file_count(const struct mem_env *mem)
{
    unsigned n = 0;
    for (unsigned i = 0; i < FILES_MAX; i++) {
        n += mem->files[i].used;
    }
    return n;
}

void mem_env_copy_files(struct mem_env *mem, const struct mem_env *from)
{
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (mem->files[i].used) {
            file_drop(&mem->files[i]);
        }
    }
    for (unsigned i = 0; i < FILES_MAX; i++) {
        if (from->files[i].used) {
            mem_env_file_put(mem, from->files[i].name, from->files[i].data, from->files[i].size);
        }
    }
}

unsigned mem_env_open_files(const struct mem_env *mem)
{
    return mem->open_files;
}

void mem_env_capacity(struct mem_env *mem, uint64_t bytes)
{
    mem->capacity = bytes;
}

void mem_env_tear_sync(struct mem_env *mem, unsigned after, size_t sectors, enum env_status status)
{
    mem->tear_armed = true;
    mem->tear_after = after;
    mem->tear_sectors = sectors;
    mem->tear_status = status;
}

void mem_env_fail_reads(struct mem_env *mem, bool fail)
{
    mem->fail_reads = fail;
}

void mem_env_network(struct mem_env *mem,
                     bool (*send)(void *ctx, uint64_t peer, const struct iovec *pieces, unsigned n), void *ctx)
{
    mem->send = send;
    mem->send_ctx = ctx;
}

const char *mem_env_log(const struct mem_env *mem)
{
    return mem->log;
}

unsigned mem_env_sync_writes(const struct mem_env *mem)
{
    return mem->sync_writes;
}
