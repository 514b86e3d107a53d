/* The production env: the object, its clock, random numbers and timers. */
#include "consensus/env_uv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "consensus/env_uv_internal.h"

/* EX_SOFTWARE of sysexits: tells a supervisor that a restart alone does not help. */
#define FAIL_STOP_EXIT 70

struct timer_impl {
    uv_timer_t handle;
    struct env_uv *env;
    struct env_timer *timer; /* NULL after timer_fini */
    uint64_t at_us;
};

static uint64_t clock_us(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t env_uv_now_us(struct env *env)
{
    (void)env;
    return clock_us(CLOCK_BOOTTIME);
}

static uint64_t wall_ms(struct env *env)
{
    (void)env;
    return clock_us(CLOCK_REALTIME) / 1000u;
}

static uint64_t rotate_left(uint64_t x, unsigned by)
{
    return x << by | x >> (64u - by);
}

/* xoshiro256**; its state is seeded from the kernel. Not for secrets. */
static uint64_t random_u64(struct env *base)
{
    uint64_t *s = ((struct env_uv *)base)->random;
    uint64_t result = rotate_left(s[1] * 5u, 7) * 9u;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

static void timer_start(struct timer_impl *impl);

static void timer_fired_cb(uv_timer_t *handle)
{
    struct timer_impl *impl = handle->data;
    /* libuv counts whole milliseconds from a rounded-down start and may be early by a fraction of one. */
    if (env_uv_now_us(&impl->env->env) < impl->at_us) {
        timer_start(impl);
        return;
    }
    impl->timer->cb(impl->timer);
}

static void timer_start(struct timer_impl *impl)
{
    uint64_t now_us = env_uv_now_us(&impl->env->env);
    uint64_t delay_ms = impl->at_us > now_us ? (impl->at_us - now_us + 999u) / 1000u : 0;
    uv_update_time(impl->env->loop); /* the loop's cached time may lie far back */
    int rc = uv_timer_start(&impl->handle, timer_fired_cb, delay_ms, 0);
    assert(rc == 0);
    (void)rc;
}

static enum env_status timer_init(struct env *base, struct env_timer *timer)
{
    struct env_uv *env = (struct env_uv *)base;
    struct timer_impl *impl = calloc(1, sizeof *impl);
    if (impl == NULL) {
        return ENV_NO_MEMORY;
    }
    impl->env = env;
    impl->timer = timer;
    impl->handle.data = impl;
    if (uv_timer_init(env->loop, &impl->handle) != 0) {
        free(impl);
        return ENV_NO_MEMORY;
    }
    env->n_timers++;
    timer->impl = impl;
    return ENV_OK;
}

static void timer_set(struct env *env, struct env_timer *timer, uint64_t at_us)
{
    struct timer_impl *impl = timer->impl;
    (void)env;
    impl->at_us = at_us;
    timer_start(impl);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    struct timer_impl *impl = timer->impl;
    (void)env;
    uv_timer_stop(&impl->handle);
}

static void timer_closed_cb(uv_handle_t *handle)
{
    struct timer_impl *impl = handle->data;
    struct env_uv *env = impl->env;
    free(impl);
    env->n_timers--;
    env_uv_finish_close(env);
}

static void timer_fini(struct env *env, struct env_timer *timer)
{
    struct timer_impl *impl = timer->impl;
    (void)env;
    if (impl == NULL) {
        return;
    }
    timer->impl = NULL;
    impl->timer = NULL;
    uv_close((uv_handle_t *)&impl->handle, timer_closed_cb);
}

static bool send_frame(struct env *base, uint64_t peer_id, const struct iovec *pieces, unsigned n)
{
    struct env_uv *env = (struct env_uv *)base;
    return env->config.send != NULL && env->config.send(env->config.ctx, peer_id, pieces, n);
}

static enum env_status list(struct env *env, void (*each)(void *ctx, const char *name, uint64_t size), void *ctx)
{
    return env_uv_file_list((struct env_uv *)env, each, ctx);
}

static enum env_status open_sync(struct env *env, const char *name, struct env_file **file, uint64_t *size)
{
    return env_uv_file_open((struct env_uv *)env, name, file, size);
}

static enum env_status create_sync(struct env *env, const char *name, uint64_t size, struct env_file **file)
{
    return env_uv_file_create((struct env_uv *)env, name, size, file);
}

static enum env_status read_sync(struct env *env, struct env_file *file, uint64_t offset, void *buf, size_t len)
{
    (void)env;
    return env_uv_file_read(file->fd, offset, buf, len);
}

static enum env_status write_sync(struct env *env, struct env_file *file, uint64_t offset, const void *buf, size_t len)
{
    return env_uv_file_write((struct env_uv *)env, file->fd, offset, buf, len);
}

static enum env_status rename_sync(struct env *env, const char *from, const char *to)
{
    return env_uv_file_rename((struct env_uv *)env, from, to);
}

static enum env_status remove_sync(struct env *env, const char *name)
{
    return env_uv_file_remove((struct env_uv *)env, name, NULL);
}

static void log_line(struct env *base, int level, const char *text)
{
    struct env_uv *env = (struct env_uv *)base;
    if (env->config.log != NULL) {
        env->config.log(env->config.ctx, level, text);
    }
}

static void fail_stop(struct env *base, const char *what, const char *advice)
{
    char text[1024];
    snprintf(text, sizeof text, "fail-stop: %s. %s", what, advice);
    log_line(base, 0, text);
    if (getenv("LOCKSTEP_FAIL_STOP_ABORT") != NULL) {
        abort(); /* for a core file */
    }
    /* Not exit: nothing may run, or write, that trusts the state. */
    _exit(FAIL_STOP_EXIT);
}

static const struct env_ops uv_ops = {
    .now_us = env_uv_now_us,
    .wall_ms = wall_ms,
    .random = random_u64,
    .timer_init = timer_init,
    .timer_set = timer_set,
    .timer_stop = timer_stop,
    .timer_fini = timer_fini,
    .send = send_frame,
    .list = list,
    .open = open_sync,
    .create = create_sync,
    .read_sync = read_sync,
    .write_sync = write_sync,
    .rename_sync = rename_sync,
    .remove_sync = remove_sync,
    .close = env_uv_close_file,
    .free_bytes = env_uv_free_bytes,
    .submit = env_uv_submit,
    .log = log_line,
    .fail_stop = fail_stop,
};

/* Free what is not a handle of the loop. */
static void env_free(struct env_uv *env)
{
    if (env->zeros != NULL) {
        munmap(env->zeros, ENV_UV_ZEROS_BYTES);
    }
    if (env->done_fd >= 0) {
        close(env->done_fd);
    }
    if (env->lock_fd >= 0) {
        close(env->lock_fd);
    }
    if (env->dir_fd >= 0) {
        close(env->dir_fd);
    }
    free(env);
}

static enum env_status lock_dir(struct env_uv *env, const char *dir, char *text, size_t text_len)
{
    env->lock_fd = openat(env->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (env->lock_fd < 0) {
        int error = errno;
        snprintf(text, text_len, "can't write to the data directory %s: %s", dir, strerror(error));
        return env_status_of_errno(error);
    }
    if (flock(env->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        char pid[24] = "?";
        ssize_t n = pread(env->lock_fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        snprintf(text, text_len, "the data directory %s is in use by another process (pid %s)", dir, pid);
        return errno == EWOULDBLOCK ? ENV_BUSY : ENV_IO;
    }
    char pid[24];
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* For people only: the lock is what counts, so failures don't matter. */
    if (ftruncate(env->lock_fd, 0) != 0 || pwrite(env->lock_fd, pid, (size_t)len, 0) != len) {
        log_line(&env->env, 3, "env: could not note the process id in the lock file");
    }
    return ENV_OK;
}

static enum env_status prepare(struct env_uv *env, const char *dir, char *text, size_t text_len)
{
    enum env_status status = env_uv_dir_open(env, dir);
    if (status != ENV_OK) {
        snprintf(text, text_len, "can't open or create the data directory %s: %s", dir, strerror(errno));
        return status;
    }
    status = lock_dir(env, dir, text, text_len);
    if (status != ENV_OK) {
        return status;
    }
    void *zeros = mmap(NULL, ENV_UV_ZEROS_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (zeros == MAP_FAILED) {
        snprintf(text, text_len, "out of memory");
        return ENV_NO_MEMORY;
    }
    env->zeros = zeros;
    if (getrandom(env->random, sizeof env->random, 0) != (ssize_t)sizeof env->random) {
        snprintf(text, text_len, "the system gives no random numbers");
        return ENV_IO;
    }
    env->random[0] |= 1u; /* all zeros is the one bad state */
    env_uv_dir_tidy(env);
    env->direct = env_uv_probe_direct(env);
    return ENV_OK;
}

enum env_status env_uv_new(const struct env_uv_config *config, struct env **out, const char **error)
{
    static _Thread_local char text[PATH_MAX + 200];
    *error = text;
    snprintf(text, sizeof text, "out of memory");
    struct env_uv *env = calloc(1, sizeof *env);
    if (env == NULL) {
        return ENV_NO_MEMORY;
    }
    env->env.ops = &uv_ops;
    env->config = *config;
    env->config.dir = NULL; /* borrowed until return only */
    env->loop = config->loop;
    env->dir_fd = -1;
    env->lock_fd = -1;
    env->done_fd = -1;
    enum env_status status = prepare(env, config->dir, text, sizeof text);
    if (status != ENV_OK) {
        env_free(env);
        return status;
    }
    status = env_uv_disk_start(env);
    if (status != ENV_OK) {
        if (env->poll_closed) {
            env_free(env); /* else when the loop has closed the handle */
        }
        return status;
    }
    char line[160];
    snprintf(line, sizeof line, "env: synced writes by %s", env->direct ? "O_DIRECT|O_DSYNC" : "pwrite and fdatasync");
    log_line(&env->env, 2, line);
    *out = &env->env;
    *error = NULL;
    return ENV_OK;
}

static void poll_closed_cb(uv_handle_t *handle)
{
    struct env_uv *env = handle->data;
    env->poll_closed = true;
    env_uv_finish_close(env);
}

/* Called whenever one of the things that closing waits for is gone. */
void env_uv_finish_close(struct env_uv *env)
{
    if (!env->closing || !env->threads_joined || env->n_timers > 0) {
        return;
    }
    if (!uv_is_closing((uv_handle_t *)&env->done_poll)) {
        uv_close((uv_handle_t *)&env->done_poll, poll_closed_cb);
        return;
    }
    if (!env->poll_closed) {
        return;
    }
    env_uv_disk_drain(env); /* requests submitted while the handle was closing */
    void (*closed)(void *ctx) = env->closed;
    void *ctx = env->closed_ctx;
    env_free(env);
    if (closed != NULL) {
        closed(ctx);
    }
}

void env_uv_close(struct env *base, void (*closed)(void *ctx), void *ctx)
{
    struct env_uv *env = (struct env_uv *)base;
    assert(!env->closing);
    env->closed = closed;
    env->closed_ctx = ctx;
    env_uv_disk_stop(env);
}
