/* Disk requests on threads of their own, and the way of their results back to the loop.
 *
 * A request is linked into the queue of its class through its private fields, so submitting allocates nothing and can't
 * fail. The thread runs it and links it into the env's done list; the first entry of a list wakes the loop, which
 * calls back everything that has gathered. Writes run in the order submitted, since they share one thread.
 *
 * Stopping: each thread finishes the request it is in, hands back what is still queued as ENV_CANCELED, and ends. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "consensus/env_uv_internal.h"

static struct env_disk_req *req_next(const struct env_disk_req *req)
{
    return req->impl;
}

static void list_push(struct env_disk_req **head, struct env_disk_req **tail, struct env_disk_req *req)
{
    req->impl = NULL;
    if (*head == NULL) {
        *head = req;
    } else {
        (*tail)->impl = req;
    }
    *tail = req;
}

/* Closing a file and asking for free space are jobs too, known by the address of their request. */
static bool is_close(const struct env_disk_req *req)
{
    return req->file != NULL && req == &req->file->close_req;
}

static void enqueue(struct env_uv *env, enum disk_class class, struct env_disk_req *req)
{
    struct disk_queue *queue = &env->threads[class].queue;
    pthread_mutex_lock(&queue->mutex);
    bool empty = queue->head == NULL;
    list_push(&queue->head, &queue->tail, req);
    pthread_mutex_unlock(&queue->mutex);
    if (empty) {
        pthread_cond_signal(&queue->cond);
    }
}

/* The name is gone when this returns; a large file's space follows, among what is done for bulk files. */
static enum env_status remove_name(struct env_uv *env, const char *name)
{
    struct env_file *rest;
    enum env_status status = env_uv_file_remove(env, name, &rest);
    if (rest != NULL) {
        rest->close_req.file = rest;
        enqueue(env, DISK_BULK, &rest->close_req);
    }
    return status;
}

static enum env_status run(struct env_uv *env, struct env_disk_req *req)
{
    if (is_close(req)) {
        close(req->file->fd);
        free(req->file);
        return ENV_OK;
    }
    if (req == &env->space_req) {
        env->space_fresh = env_uv_file_space(env);
        return ENV_OK;
    }
    switch (req->op) {
    case ENV_DISK_WRITE:
        if (req->file->bulk) {
            return env_uv_bulk_write(req->file->fd, req->offset, req->buf, req->len);
        }
        return env_uv_file_write(env, req->file->fd, req->offset, req->buf, req->len);
    case ENV_DISK_READ:
        return env_uv_file_read(req->file->fd, req->offset, req->buf, req->len);
    case ENV_DISK_CREATE:
        return env_uv_file_create(env, req->name, req->len, &req->file);
    case ENV_DISK_RENAME:
        return env_uv_file_rename(env, req->name, req->name_to);
    case ENV_DISK_REMOVE:
        return remove_name(env, req->name);
    case ENV_DISK_BULK_CREATE:
        return env_uv_bulk_create(env, req->name, &req->file);
    case ENV_DISK_BULK_OPEN:
        return env_uv_bulk_open(env, req->name, &req->file, &req->len);
    case ENV_DISK_SYNC:
        return env_uv_bulk_sync(req->file->fd);
    case ENV_DISK_WORK:
        req->work(req);
        return ENV_OK;
    }
    assert(false);
    return ENV_IO;
}

/* Not uv_async: before libuv 1.48 its receiving end spins until the sender has left uv_async_send. Waking the loop
 * often takes this thread's core away in there, and the loop then spun for as long as the thread had to wait for
 * another. */
static void wake_loop(struct env_uv *env)
{
    const uint64_t one = 1;
    ssize_t n;
    do {
        n = write(env->done_fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
    assert(n == sizeof one); /* the counter can't overflow: a thread adds one per request at most */
}

/* Hand a finished request to the loop. */
static void done(struct env_uv *env, struct env_disk_req *req, enum env_status status)
{
    req->impl_status = (int)status;
    pthread_mutex_lock(&env->done_mutex);
    bool first = env->done_head == NULL;
    list_push(&env->done_head, &env->done_tail, req);
    pthread_mutex_unlock(&env->done_mutex);
    if (first) {
        wake_loop(env);
    }
}

static struct env_disk_req *take(struct disk_queue *queue, bool *stopping)
{
    pthread_mutex_lock(&queue->mutex);
    while (queue->head == NULL && !queue->stop) {
        pthread_cond_wait(&queue->cond, &queue->mutex);
    }
    struct env_disk_req *req = queue->head;
    if (req != NULL) {
        queue->head = req_next(req);
    }
    *stopping = queue->stop;
    pthread_mutex_unlock(&queue->mutex);
    return req;
}

/* Snapshots take what the loops and the log leave of the processors. */
#define BACKGROUND_NICE 10

static void *thread_main(void *arg)
{
    static const char *const names[DISK_CLASSES] = {"disk-write", "disk-read", "disk-name", "disk-bulk", "work"};
    struct disk_thread *thread = arg;
    struct env_uv *env = thread->env;
    prctl(PR_SET_NAME, names[thread->class]);
    if (thread->class == DISK_BULK || thread->class == DISK_WORK) {
        (void)setpriority(PRIO_PROCESS, 0, BACKGROUND_NICE); /* of this thread alone, on Linux; no harm if refused */
    }
    for (;;) {
        bool stopping;
        struct env_disk_req *req = take(&thread->queue, &stopping);
        if (req == NULL) {
            break;
        }
        if (is_close(req) && !stopping && env_uv_file_shrink(req->file)) {
            enqueue(env, thread->class, req); /* behind what others wait for */
        } else if (is_close(req)) {
            (void)run(env, req); /* frees the request; nobody waits for it */
        } else {
            done(env, req, stopping ? ENV_CANCELED : run(env, req));
        }
    }
    pthread_mutex_lock(&env->done_mutex);
    env->exited++;
    pthread_mutex_unlock(&env->done_mutex);
    wake_loop(env);
    return NULL;
}

static enum disk_class class_of(const struct env_disk_req *req)
{
    switch (req->op) {
    case ENV_DISK_WRITE:
        return req->file->bulk ? DISK_BULK : DISK_WRITES;
    case ENV_DISK_READ:
        return req->file->bulk ? DISK_BULK : DISK_READS;
    case ENV_DISK_SYNC:
        return DISK_BULK;
    case ENV_DISK_WORK:
        return DISK_WORK;
    case ENV_DISK_BULK_CREATE:
    case ENV_DISK_BULK_OPEN:
    case ENV_DISK_CREATE:
    case ENV_DISK_RENAME:
    case ENV_DISK_REMOVE:
        break;
    }
    return DISK_NAMES;
}

static bool uses_file(const struct env_disk_req *req)
{
    return req->op == ENV_DISK_WRITE || req->op == ENV_DISK_READ || req->op == ENV_DISK_SYNC;
}

void env_uv_submit(struct env *base, struct env_disk_req *req)
{
    struct env_uv *env = (struct env_uv *)base;
    assert(req->cb != NULL);
    if (req->op == ENV_DISK_WRITE || req->op == ENV_DISK_READ) {
        assert(req->offset % ENV_BLOCK == 0);
        assert(req->len % ENV_BLOCK == 0);
        assert((uintptr_t)req->buf % ENV_BLOCK == 0);
    }
    if (uses_file(req)) {
        assert(!req->file->closing);
        req->file->pending++;
    }
    if (env->closing) {
        done(env, req, ENV_CANCELED);
        return;
    }
    enqueue(env, class_of(req), req);
}

static void file_close_now(struct env_uv *env, struct env_file *file)
{
    if (env->threads_joined) {
        close(file->fd);
        free(file);
        return;
    }
    file->close_req.file = file;
    enqueue(env, DISK_NAMES, &file->close_req);
}

void env_uv_close_file(struct env *base, struct env_file *file)
{
    assert(!file->closing);
    file->closing = true;
    if (file->pending == 0) {
        file_close_now((struct env_uv *)base, file);
    }
}

static void call_back(struct env_uv *env, struct env_disk_req *req)
{
    if (req == &env->space_req) {
        env->space_pending = false;
        if (req->impl_status == ENV_OK) {
            env->space_bytes = env->space_fresh;
        }
        return;
    }
    if (uses_file(req)) {
        struct env_file *file = req->file;
        assert(file->pending > 0);
        if (--file->pending == 0 && file->closing) {
            file_close_now(env, file);
        }
    }
    req->cb(req, (enum env_status)req->impl_status);
}

void env_uv_disk_drain(struct env_uv *env)
{
    for (;;) {
        pthread_mutex_lock(&env->done_mutex);
        struct env_disk_req *req = env->done_head;
        env->done_head = NULL;
        env->done_tail = NULL;
        pthread_mutex_unlock(&env->done_mutex);
        if (req == NULL) {
            return;
        }
        while (req != NULL) {
            struct env_disk_req *next = req_next(req); /* the callback may reuse the request */
            call_back(env, req);
            req = next;
        }
    }
}

static void close_left(struct env_uv *env, enum disk_class class)
{
    struct disk_queue *queue = &env->threads[class].queue;
    while (queue->head != NULL) {
        struct env_disk_req *req = queue->head;
        queue->head = req_next(req);
        assert(is_close(req));
        (void)run(env, req);
    }
}

static void done_cb(uv_poll_t *poll, int status, int events)
{
    struct env_uv *env = poll->data;
    uint64_t times;
    (void)status;
    (void)events;
    if (read(env->done_fd, &times, sizeof times) < 0) {
        assert(errno == EAGAIN || errno == EINTR); /* nothing yet, or the loop calls again */
        return;
    }
    env_uv_disk_drain(env);
    pthread_mutex_lock(&env->done_mutex);
    bool gone = env->exited == DISK_CLASSES;
    pthread_mutex_unlock(&env->done_mutex);
    if (!gone || env->threads_joined) {
        return;
    }
    for (unsigned i = 0; i < DISK_CLASSES; i++) {
        if (env->threads[i].started) {
            pthread_join(env->threads[i].thread, NULL);
        }
    }
    env->threads_joined = true;
    /* A file may have been handed over for closing after its thread had looked at its queue for the last time. */
    close_left(env, DISK_NAMES);
    close_left(env, DISK_BULK);
    env_uv_disk_drain(env);
    env_uv_finish_close(env);
}

static void queue_stop(struct disk_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->stop = true;
    pthread_mutex_unlock(&queue->mutex);
    pthread_cond_signal(&queue->cond);
}

void env_uv_disk_stop(struct env_uv *env)
{
    env->closing = true;
    for (unsigned i = 0; i < DISK_CLASSES; i++) {
        queue_stop(&env->threads[i].queue);
    }
}

static bool thread_start(struct env_uv *env, enum disk_class class)
{
    struct disk_thread *thread = &env->threads[class];
    thread->env = env;
    thread->class = class;
    pthread_mutex_init(&thread->queue.mutex, NULL);
    pthread_cond_init(&thread->queue.cond, NULL);
    return pthread_create(&thread->thread, NULL, thread_main, thread) == 0;
}

/* False: there is no handle to close. */
static bool poll_start(struct env_uv *env)
{
    env->poll_closed = true;
    env->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (env->done_fd < 0 || uv_poll_init(env->loop, &env->done_poll, env->done_fd) != 0) {
        return false;
    }
    env->poll_closed = false;
    env->done_poll.data = env;
    const int status = uv_poll_start(&env->done_poll, UV_READABLE, done_cb);
    assert(status == 0); /* only sets what to wait for */
    return true;
}

enum env_status env_uv_disk_start(struct env_uv *env)
{
    pthread_mutex_init(&env->done_mutex, NULL);
    if (!poll_start(env)) {
        return ENV_NO_MEMORY;
    }
    /* Signals are the main thread's business. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < DISK_CLASSES; i++) {
        env->threads[i].started = thread_start(env, (enum disk_class)i);
        env->exited += !env->threads[i].started;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (env->exited > 0) {
        env_uv_disk_stop(env); /* closes as after env_uv_close, with nobody to tell */
        wake_loop(env);
        return ENV_NO_MEMORY;
    }
    return ENV_OK;
}

uint64_t env_uv_free_bytes(struct env *base)
{
    struct env_uv *env = (struct env_uv *)base;
    uint64_t now_us = env_uv_now_us(base);
    if (env->space_at_us == 0) {
        env->space_bytes = env_uv_file_space(env);
        env->space_at_us = now_us;
    } else if (now_us - env->space_at_us > ENV_UV_SPACE_FRESH_US && !env->space_pending && !env->closing) {
        env->space_at_us = now_us;
        env->space_pending = true;
        enqueue(env, DISK_NAMES, &env->space_req);
    }
    return env->space_bytes;
}
