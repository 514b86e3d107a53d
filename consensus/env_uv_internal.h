/* What the files of the production env share: env_uv.c (object, timers, clock), env_uv_disk.c (threads and queues) and
 * env_uv_file.c (the system calls). Nobody else includes this. */
#ifndef LOCKSTEP_ENV_UV_INTERNAL_H
#define LOCKSTEP_ENV_UV_INTERNAL_H

#include <assert.h>
#include <pthread.h>

#include "consensus/env_uv.h"

#define ENV_UV_NAME_BYTES 256u

/* An open file. Shared between the loop thread, which counts, and one disk thread at a time per request. */
struct env_file {
    int fd;
    bool bulk;
    unsigned pending; /* requests submitted and not called back; loop thread only */
    bool closing;
    uint64_t giving_back; /* it was removed: bytes that are still to be given back to the file system, then it goes */
    struct env_disk_req close_req; /* recognised by its address */
};

struct disk_queue {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct env_disk_req *head;
    struct env_disk_req *tail;
    bool stop;
};

/* Writes have a thread of their own, so that neither a read nor the zero-filling of a new file ever delays one; reads
 * have another for the same reason. Bulk files have one for both, and what only computes has one. */
enum disk_class { DISK_WRITES, DISK_READS, DISK_NAMES, DISK_BULK, DISK_WORK, DISK_CLASSES };

struct disk_thread {
    struct env_uv *env;
    enum disk_class class;
    pthread_t thread;
    bool started;
    struct disk_queue queue;
};

struct env_uv {
    struct env env;
    struct env_uv_config config;
    uv_loop_t *loop;
    int dir_fd;
    int lock_fd;
    bool direct; /* O_DIRECT|O_DSYNC works here; else pwrite and fdatasync */
    uint64_t random[4];
    uint8_t *zeros; /* ENV_UV_ZEROS_BYTES, aligned, never written */

    struct disk_thread threads[DISK_CLASSES];
    uv_poll_t done_poll;
    int done_fd; /* eventfd: something is in the done list, or a thread has ended */
    pthread_mutex_t done_mutex;
    struct env_disk_req *done_head;
    struct env_disk_req *done_tail;
    unsigned exited; /* disk threads that have ended; under done_mutex */

    struct env_disk_req space_req; /* recognised by its address */
    bool space_pending;
    uint64_t space_bytes;
    uint64_t space_at_us;
    uint64_t space_fresh; /* written by the thread while space_pending */

    unsigned n_timers;
    bool closing;
    bool threads_joined;
    bool poll_closed;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

#define ENV_UV_ZEROS_BYTES (1u << 18)
#define ENV_UV_SPACE_FRESH_US 100000u

/* env_uv.c */
uint64_t env_uv_now_us(struct env *env);
void env_uv_finish_close(struct env_uv *env);

/* env_uv_disk.c */
enum env_status env_uv_disk_start(struct env_uv *env);
/* Stop the threads; env_uv_finish_close is called on the loop when they are gone. */
void env_uv_disk_stop(struct env_uv *env);
void env_uv_disk_drain(struct env_uv *env);
void env_uv_submit(struct env *env, struct env_disk_req *req);
void env_uv_close_file(struct env *env, struct env_file *file);
uint64_t env_uv_free_bytes(struct env *env);

/* env_uv_file.c: any thread, synchronous */
enum env_status env_uv_dir_open(struct env_uv *env, const char *dir);
bool env_uv_probe_direct(struct env_uv *env);
void env_uv_dir_tidy(struct env_uv *env);
enum env_status env_uv_file_create(struct env_uv *env, const char *name, uint64_t size, struct env_file **file);
enum env_status env_uv_file_open(struct env_uv *env, const char *name, struct env_file **file, uint64_t *size);
enum env_status env_uv_bulk_create(struct env_uv *env, const char *name, struct env_file **file);
enum env_status env_uv_bulk_open(struct env_uv *env, const char *name, struct env_file **file, size_t *size);
enum env_status env_uv_bulk_write(int fd, uint64_t offset, const void *buf, size_t len);
enum env_status env_uv_bulk_sync(int fd);
enum env_status env_uv_file_write(const struct env_uv *env, int fd, uint64_t offset, const void *buf, size_t len);
enum env_status env_uv_file_read(int fd, uint64_t offset, void *buf, size_t len);
enum env_status env_uv_file_rename(struct env_uv *env, const char *from, const char *to);
/* Gives *rest, to be shrunk and closed, if the file is so large that its space has to be given back in steps; else
 * NULL. With `rest` NULL all is given back at once. */
enum env_status env_uv_file_remove(struct env_uv *env, const char *name, struct env_file **rest);
/* Give back the next part. False: nothing is left. */
bool env_uv_file_shrink(struct env_file *file);
enum env_status env_uv_file_list(struct env_uv *env, void (*each)(void *ctx, const char *name, uint64_t size),
                                 void *ctx);
uint64_t env_uv_file_space(const struct env_uv *env);

#endif
