#include "cmd/lockstep/file_env.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define ZEROS_BYTES ((size_t)1 << 16)

struct env_file {
    int fd; /* -1: it was created in a frozen directory, and is all zeros */
    bool bulk;
};

struct timer_impl {
    struct env_timer *timer;
    struct timer_impl *next;
    uint64_t at_us; /* UINT64_MAX: not set */
};

struct file_env {
    struct env env;
    struct file_env_config config;
    char *dir, *file;
    int dir_fd, lock_fd;
    struct env_disk_req *head, *tail;
    struct timer_impl *timers;
};

/* The path that a name stands for, relative to dir_fd. False: too long. */
static bool path_of(const struct file_env *env, const char *name, char path[PATH_MAX])
{
    const char *dot = strrchr(name, '.');
    const char *ending = dot != NULL && (strcmp(dot, ".part") == 0 || strcmp(dot, ".tmp") == 0) ? dot : "";
    const int n =
        env->file != NULL ? snprintf(path, PATH_MAX, "%s%s", env->file, ending) : snprintf(path, PATH_MAX, "%s", name);
    return n > 0 && n < PATH_MAX;
}

static enum env_status dir_sync(const struct file_env *env)
{
    return fsync(env->dir_fd) == 0 ? ENV_OK : env_status_of_errno(errno);
}

static bool frozen(const struct file_env *env)
{
    return env->config.mode == FILE_ENV_FROZEN;
}

/* --- Files -------------------------------------------------------------------------------------------------------- */

static struct env_file *file_new(int fd, bool bulk)
{
    struct env_file *file = calloc(1, sizeof *file);
    if (file != NULL) {
        *file = (struct env_file){fd, bulk};
    } else if (fd >= 0) {
        (void)close(fd);
    }
    return file;
}

static enum env_status file_open(struct env *base, const char *name, struct env_file **file, uint64_t *size)
{
    const struct file_env *env = (struct file_env *)base;
    char path[PATH_MAX];
    struct stat st;
    const int mode = frozen(env) ? O_RDONLY : O_RDWR;
    const int fd = path_of(env, name, path) ? openat(env->dir_fd, path, mode | O_CLOEXEC) : -1;
    if (fd < 0) {
        return env_status_of_errno(errno);
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return ENV_IO;
    }
    *size = (uint64_t)st.st_size;
    *file = file_new(fd, false);
    return *file != NULL ? ENV_OK : ENV_NO_MEMORY;
}

static int write_all(int fd, uint64_t offset, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        const ssize_t n = pwrite(fd, buf, len, (off_t)offset);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        if (n > 0) {
            buf += n;
            offset += (uint64_t)n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int fill_zeros(int fd, uint64_t size)
{
    static const uint8_t zeros[ZEROS_BYTES];
    for (uint64_t at = 0; at < size; at += ZEROS_BYTES) {
        const size_t n = size - at < ZEROS_BYTES ? (size_t)(size - at) : ZEROS_BYTES;
        const int error = write_all(fd, at, zeros, n);
        if (error != 0) {
            return error;
        }
    }
    return fsync(fd) == 0 ? 0 : errno;
}

static enum env_status file_create(struct env *base, const char *name, uint64_t size, bool bulk, struct env_file **file)
{
    const struct file_env *env = (struct file_env *)base;
    char path[PATH_MAX];
    int fd = -1;
    if (!frozen(env)) {
        fd = path_of(env, name, path) ? openat(env->dir_fd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
        int error = fd < 0 ? errno : fill_zeros(fd, size);
        if (error == 0 && dir_sync(env) != ENV_OK) {
            error = EIO;
        }
        if (error != 0) {
            if (fd >= 0) {
                (void)unlinkat(env->dir_fd, path, 0);
                (void)close(fd);
            }
            return env_status_of_errno(error);
        }
    }
    *file = file_new(fd, bulk);
    return *file != NULL ? ENV_OK : ENV_NO_MEMORY;
}

static enum env_status create_sync(struct env *env, const char *name, uint64_t size, struct env_file **file)
{
    return file_create(env, name, size, false, file);
}

static enum env_status read_sync(struct env *env, struct env_file *file, uint64_t offset, void *buf, size_t len)
{
    uint8_t *to = buf;
    (void)env;
    while (len > 0) {
        const ssize_t n = file->fd < 0 ? 0 : pread(file->fd, to, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return env_status_of_errno(errno);
        }
        if (n == 0) {
            memset(to, 0, len);
            return ENV_OK;
        }
        to += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return ENV_OK;
}

static enum env_status write_sync(struct env *env, struct env_file *file, uint64_t offset, const void *buf, size_t len)
{
    if (frozen((struct file_env *)env)) {
        return ENV_OK;
    }
    const int error = write_all(file->fd, offset, buf, len);
    return error != 0                               ? env_status_of_errno(error)
           : file->bulk || fdatasync(file->fd) == 0 ? ENV_OK
                                                    : env_status_of_errno(errno);
}

static enum env_status rename_sync(struct env *base, const char *from, const char *to)
{
    const struct file_env *env = (struct file_env *)base;
    char path[PATH_MAX], path_to[PATH_MAX];
    if (frozen(env)) {
        return ENV_OK;
    }
    if (!path_of(env, from, path) || !path_of(env, to, path_to)) {
        return ENV_IO;
    }
    return renameat(env->dir_fd, path, env->dir_fd, path_to) == 0 ? dir_sync(env) : env_status_of_errno(errno);
}

static enum env_status remove_sync(struct env *base, const char *name)
{
    const struct file_env *env = (struct file_env *)base;
    char path[PATH_MAX];
    if (frozen(env)) {
        return ENV_OK;
    }
    if (!path_of(env, name, path)) {
        return ENV_IO;
    }
    return unlinkat(env->dir_fd, path, 0) == 0 ? dir_sync(env) : env_status_of_errno(errno);
}

static void file_close(struct env *env, struct env_file *file)
{
    (void)env;
    if (file->fd >= 0) {
        (void)close(file->fd);
    }
    free(file);
}

static enum env_status list(struct env *base, void (*each)(void *ctx, const char *name, uint64_t size), void *ctx)
{
    const struct file_env *env = (struct file_env *)base;
    const int fd = openat(env->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        return env_status_of_errno(errno);
    }
    errno = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        struct stat st;
        const char *dot = strrchr(entry->d_name, '.');
        if (fstatat(env->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            strcmp(entry->d_name, "lock") != 0 && (dot == NULL || strcmp(dot, ".tmp") != 0)) {
            each(ctx, entry->d_name, (uint64_t)st.st_size);
        }
        errno = 0;
    }
    const int error = errno;
    (void)closedir(dir);
    return env_status_of_errno(error);
}

static uint64_t free_bytes(struct env *base)
{
    struct statvfs st;
    return fstatvfs(((struct file_env *)base)->dir_fd, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : 0;
}

/* --- Requests ----------------------------------------------------------------------------------------------------- */

static void submit(struct env *base, struct env_disk_req *req)
{
    struct file_env *env = (struct file_env *)base;
    req->impl = NULL;
    if (env->head == NULL) {
        env->head = req;
    } else {
        env->tail->impl = req;
    }
    env->tail = req;
}

static enum env_status run(struct env *env, struct env_disk_req *req)
{
    uint64_t size = 0;
    enum env_status status;
    switch (req->op) {
    case ENV_DISK_WRITE:
        return write_sync(env, req->file, req->offset, req->buf, req->len);
    case ENV_DISK_READ:
        return read_sync(env, req->file, req->offset, req->buf, req->len);
    case ENV_DISK_CREATE:
        return file_create(env, req->name, req->len, false, &req->file);
    case ENV_DISK_RENAME:
        return rename_sync(env, req->name, req->name_to);
    case ENV_DISK_REMOVE:
        return remove_sync(env, req->name);
    case ENV_DISK_BULK_CREATE:
        return file_create(env, req->name, 0, true, &req->file);
    case ENV_DISK_BULK_OPEN:
        status = file_open(env, req->name, &req->file, &size);
        if (status == ENV_OK) {
            req->file->bulk = true;
            req->len = (size_t)size;
        }
        return status;
    case ENV_DISK_SYNC:
        return frozen((struct file_env *)env) || fdatasync(req->file->fd) == 0 ? ENV_OK : env_status_of_errno(errno);
    case ENV_DISK_WORK:
        req->work(req);
        return ENV_OK;
    }
    return ENV_IO;
}

/* --- Time --------------------------------------------------------------------------------------------------------- */

static uint64_t clock_us(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t now_us(struct env *env)
{
    (void)env;
    return clock_us(CLOCK_BOOTTIME);
}

static uint64_t wall_ms(struct env *env)
{
    (void)env;
    return clock_us(CLOCK_REALTIME) / 1000;
}

static uint64_t random_u64(struct env *env)
{
    uint64_t value;
    if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value) {
        env->ops->fail_stop(env, "the system gives no random numbers", "try again");
        return 0;
    }
    return value;
}

static enum env_status timer_init(struct env *base, struct env_timer *timer)
{
    struct file_env *env = (struct file_env *)base;
    struct timer_impl *impl = calloc(1, sizeof *impl);
    if (impl == NULL) {
        return ENV_NO_MEMORY;
    }
    *impl = (struct timer_impl){timer, env->timers, UINT64_MAX};
    env->timers = impl;
    timer->impl = impl;
    return ENV_OK;
}

static void timer_set(struct env *env, struct env_timer *timer, uint64_t at_us)
{
    (void)env;
    ((struct timer_impl *)timer->impl)->at_us = at_us;
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    timer_set(env, timer, UINT64_MAX);
}

static void timer_fini(struct env *base, struct env_timer *timer)
{
    struct file_env *env = (struct file_env *)base;
    for (struct timer_impl **at = &env->timers; *at != NULL; at = &(*at)->next) {
        if (*at == timer->impl) {
            struct timer_impl *gone = *at;
            *at = gone->next;
            free(gone);
            break;
        }
    }
    timer->impl = NULL;
}

/* Fires the earliest timer, after waiting for it. */
static bool timer_turn(struct file_env *env)
{
    struct timer_impl *first = env->timers;
    for (struct timer_impl *t = env->timers; t != NULL; t = t->next) {
        first = t->at_us < first->at_us ? t : first;
    }
    if (first == NULL || first->at_us == UINT64_MAX) {
        return false;
    }
    for (uint64_t now = now_us(&env->env); now < first->at_us; now = now_us(&env->env)) {
        const uint64_t left = first->at_us - now;
        const struct timespec nap = {(time_t)(left / 1000000), (long)(left % 1000000) * 1000};
        (void)nanosleep(&nap, NULL);
    }
    first->at_us = UINT64_MAX;
    first->timer->cb(first->timer);
    return true;
}

bool file_env_turn(struct env *base)
{
    struct file_env *env = (struct file_env *)base;
    struct env_disk_req *req = env->head;
    if (req == NULL) {
        return timer_turn(env);
    }
    env->head = req->impl;
    req->cb(req, run(base, req)); /* the callback may reuse the request */
    return true;
}

/* --- The object --------------------------------------------------------------------------------------------------- */

static bool send_frame(struct env *env, uint64_t peer_id, const struct iovec *pieces, unsigned n)
{
    (void)env;
    (void)peer_id;
    (void)pieces;
    (void)n;
    return false;
}

static void log_line(struct env *base, int level, const char *text)
{
    const struct file_env *env = (struct file_env *)base;
    if (env->config.log != NULL) {
        env->config.log(env->config.ctx, level, text);
    }
}

static void fail_stop(struct env *env, const char *what, const char *advice)
{
    (void)env;
    fprintf(stderr, "lockstep: %s. %s\n", what, advice);
    exit(1);
}

static const struct env_ops file_env_ops = {
    .now_us = now_us,
    .wall_ms = wall_ms,
    .random = random_u64,
    .timer_init = timer_init,
    .timer_set = timer_set,
    .timer_stop = timer_stop,
    .timer_fini = timer_fini,
    .send = send_frame,
    .list = list,
    .open = file_open,
    .create = create_sync,
    .read_sync = read_sync,
    .write_sync = write_sync,
    .rename_sync = rename_sync,
    .remove_sync = remove_sync,
    .close = file_close,
    .free_bytes = free_bytes,
    .submit = submit,
    .log = log_line,
    .fail_stop = fail_stop,
};

/* A node holds the lock of its data directory as long as it runs. */
static bool lock_take(struct file_env *env, char error[FILE_ENV_ERROR_MAX])
{
    char pid[24] = "?";
    env->lock_fd = openat(env->dir_fd, "lock", frozen(env) ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (env->lock_fd < 0 && errno == ENOENT && frozen(env)) {
        return true; /* a copy of a directory */
    }
    if (env->lock_fd >= 0 && flock(env->lock_fd, (frozen(env) ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) {
        return true;
    }
    if (env->lock_fd < 0 || errno != EWOULDBLOCK) {
        snprintf(error, FILE_ENV_ERROR_MAX, "%s: can't lock it: %s", env->dir, strerror(errno));
        return false;
    }
    const ssize_t n = pread(env->lock_fd, pid, sizeof pid - 1, 0);
    pid[n > 0 ? n : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
    snprintf(error, FILE_ENV_ERROR_MAX,
             "%s is in use by a running node (pid %s): stop that node first, or look at a copy of the directory",
             env->dir, pid);
    errno = EBUSY;
    return false;
}

static bool prepare(struct file_env *env, char error[FILE_ENV_ERROR_MAX])
{
    if (!frozen(env) && env->file == NULL && mkdir(env->dir, 0700) != 0 && errno != EEXIST) {
        snprintf(error, FILE_ENV_ERROR_MAX, "can't make the directory %s: %s", env->dir, strerror(errno));
        return false;
    }
    env->dir_fd = open(env->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (env->dir_fd < 0) {
        snprintf(error, FILE_ENV_ERROR_MAX, "can't open the directory %s: %s", env->dir, strerror(errno));
        return false;
    }
    return !env->config.lock || lock_take(env, error);
}

/* Directory and name of config.file. */
static bool split(struct file_env *env, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        env->dir = strdup(".");
        env->file = strdup(path);
    } else {
        env->dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
        env->file = strdup(slash + 1);
    }
    return env->dir != NULL && env->file != NULL;
}

struct env *file_env_new(const struct file_env_config *config, char error[FILE_ENV_ERROR_MAX])
{
    struct file_env *env = calloc(1, sizeof *env);
    assert((config->dir == NULL) != (config->file == NULL));
    snprintf(error, FILE_ENV_ERROR_MAX, "out of memory");
    if (env == NULL) {
        return NULL;
    }
    env->env.ops = &file_env_ops;
    env->config = *config;
    env->dir_fd = -1;
    env->lock_fd = -1;
    bool ok = config->file != NULL ? split(env, config->file) : (env->dir = strdup(config->dir)) != NULL;
    ok = ok && prepare(env, error);
    if (!ok) {
        const int why = errno;
        file_env_free(&env->env);
        errno = why;
        return NULL;
    }
    return &env->env;
}

void file_env_free(struct env *base)
{
    struct file_env *env = (struct file_env *)base;
    if (env == NULL) {
        return;
    }
    while (env->head != NULL) {
        (void)file_env_turn(base);
    }
    assert(env->timers == NULL);
    if (env->lock_fd >= 0) {
        (void)close(env->lock_fd);
    }
    if (env->dir_fd >= 0) {
        (void)close(env->dir_fd);
    }
    free(env->dir);
    free(env->file);
    free(env);
}
