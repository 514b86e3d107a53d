/* The system calls behind the production env's disk. Everything here blocks; env_uv_disk.c decides on which thread.
 *
 * Durability. A write is O_DIRECT|O_DSYNC where the file system has it: overwriting zero-filled blocks then costs one
 * transfer with force-unit-access and no metadata. Elsewhere it is pwrite and fdatasync. A new file is written in full
 * and synced under a temporary name, renamed, and the directory synced: it is there whole or not at all.
 *
 * A bulk file is created with O_DIRECT where that works, so that a gigabyte of it neither displaces the page cache nor
 * piles up to be written back in one burst; it is opened without, since it is read again for peers or at the next
 * start.
 *
 * Removing a gigabyte at once keeps the disk from everything else for a tenth of a second and more, above all where the
 * file system passes it on (discard). So only the name goes at once, and the space in small steps, with pauses. A power
 * cut in between leaves to the file system what becomes of a file that has no name any more. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "consensus/env_uv_internal.h"

static const char tmp_suffix[] = ".tmp";
static const char probe_name[] = "probe.tmp";

static int dir_sync_parent(const char *path)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        snprintf(parent, sizeof parent, ".");
    } else {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error;
}

/* Create the directory and those above it, each one durable. */
static int dir_make(const char *dir)
{
    char path[PATH_MAX];
    size_t len = strlen(dir);
    if (len == 0 || len >= sizeof path) {
        return len == 0 ? ENOENT : ENAMETOOLONG;
    }
    memcpy(path, dir, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        char kept = path[i];
        path[i] = '\0';
        if (mkdir(path, 0700) == 0) {
            int error = dir_sync_parent(path);
            if (error != 0) {
                return error;
            }
        } else if (errno != EEXIST && errno != EISDIR && access(path, F_OK) != 0) {
            return errno;
        }
        path[i] = kept;
    }
    return 0;
}

enum env_status env_uv_dir_open(struct env_uv *env, const char *dir)
{
    int error = dir_make(dir);
    if (error != 0) {
        errno = error;
        return env_status_of_errno(error);
    }
    env->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return env->dir_fd < 0 ? env_status_of_errno(errno) : ENV_OK;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name);
    size_t m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0;
}

/* Remove what an interrupted creation left. */
void env_uv_dir_tidy(struct env_uv *env)
{
    int fd = openat(env->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (has_suffix(entry->d_name, tmp_suffix)) {
            unlinkat(env->dir_fd, entry->d_name, 0);
        }
    }
    closedir(dir);
}

static int open_flags(const struct env_uv *env)
{
    return O_RDWR | O_CLOEXEC | O_NOFOLLOW | (env->direct ? O_DIRECT | O_DSYNC : 0);
}

bool env_uv_probe_direct(struct env_uv *env)
{
    int fd = openat(env->dir_fd, probe_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT | O_DSYNC, 0600);
    if (fd < 0) {
        unlinkat(env->dir_fd, probe_name, 0); /* some systems create the file before they refuse the flag */
        return false;
    }
    bool works = pwrite(fd, env->zeros, ENV_BLOCK, 0) == (ssize_t)ENV_BLOCK;
    close(fd);
    unlinkat(env->dir_fd, probe_name, 0);
    return works;
}

static int write_all(int fd, uint64_t offset, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, buf, len, (off_t)offset);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno;
        }
        if (n == 0) {
            return EIO;
        }
        buf += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

enum env_status env_uv_file_write(const struct env_uv *env, int fd, uint64_t offset, const void *buf, size_t len)
{
    int error = write_all(fd, offset, buf, len);
    if (error == 0 && !env->direct && fdatasync(fd) != 0) {
        error = errno;
    }
    return env_status_of_errno(error);
}

/* How many of the `n` bytes that a read at `offset` gave can be kept: whole blocks, since an unaligned rest can't be
 * asked for with O_DIRECT. Fewer bytes than a block are only fine at the end of the file: then `*ended`. */
static int judge_part(int fd, uint64_t offset, size_t n, size_t *kept, bool *ended)
{
    struct stat stat;

    *kept = n / ENV_BLOCK * ENV_BLOCK;
    *ended = false;
    if (n > 0 && *kept == n) {
        return 0;
    }
    if (fstat(fd, &stat) != 0) {
        return errno;
    }
    *ended = offset + n >= (uint64_t)stat.st_size;
    *kept = *ended ? n : *kept;
    return *ended || *kept > 0 ? 0 : EIO;
}

enum env_status env_uv_file_read(int fd, uint64_t offset, void *buf, size_t len)
{
    uint8_t *to = buf;
    while (len > 0) {
        size_t kept;
        bool ended;
        ssize_t n = pread(fd, to, len, (off_t)offset);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return env_status_of_errno(errno);
        }
        int error = judge_part(fd, offset, (size_t)n, &kept, &ended);
        if (error != 0) {
            return env_status_of_errno(error);
        }
        to += kept;
        offset += (uint64_t)kept;
        len -= kept;
        if (ended) {
            memset(to, 0, len);
            return ENV_OK;
        }
    }
    return ENV_OK;
}

static int sync_dir(const struct env_uv *env)
{
    return fsync(env->dir_fd) == 0 ? 0 : errno;
}

static struct env_file *file_new(int fd)
{
    struct env_file *file = calloc(1, sizeof *file);
    if (file != NULL) {
        file->fd = fd;
    }
    return file;
}

static int fill_zeros(const struct env_uv *env, int fd, uint64_t size)
{
    /* One extent where possible, and an early answer if the disk is full. Not every file system has it. */
    if (size > 0 && fallocate(fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR) {
        return errno;
    }
    for (uint64_t at = 0; at < size; at += ENV_UV_ZEROS_BYTES) {
        size_t n = size - at < ENV_UV_ZEROS_BYTES ? (size_t)(size - at) : ENV_UV_ZEROS_BYTES;
        int error = write_all(fd, at, env->zeros, n);
        if (error != 0) {
            return error;
        }
    }
    return fsync(fd) == 0 ? 0 : errno;
}

static int make_tmp(const struct env_uv *env, const char *tmp, uint64_t size)
{
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | (env->direct ? O_DIRECT : 0);
    int fd = openat(env->dir_fd, tmp, flags, 0600);
    if (fd < 0) {
        return errno;
    }
    int error = fill_zeros(env, fd, size);
    close(fd);
    return error;
}

enum env_status env_uv_file_create(struct env_uv *env, const char *name, uint64_t size, struct env_file **out)
{
    char tmp[ENV_UV_NAME_BYTES];
    assert(size % ENV_BLOCK == 0);
    assert(name != NULL);
    assert(strlen(name) + sizeof tmp_suffix <= sizeof tmp);
    snprintf(tmp, sizeof tmp, "%s%s", name, tmp_suffix);
    if (faccessat(env->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return ENV_EXISTS; /* the directory is locked: nobody else creates it meanwhile */
    }
    int error = make_tmp(env, tmp, size);
    if (error != 0) {
        goto err;
    }
    int fd = openat(env->dir_fd, tmp, open_flags(env));
    if (fd < 0) {
        error = errno;
        goto err;
    }
    struct env_file *file = file_new(fd);
    if (file == NULL) {
        error = ENOMEM;
        goto err_after_open;
    }
    if (renameat(env->dir_fd, tmp, env->dir_fd, name) != 0) {
        error = errno;
        goto err_after_file;
    }
    error = sync_dir(env);
    if (error != 0) {
        unlinkat(env->dir_fd, name, 0);
        goto err_after_file;
    }
    *out = file;
    return ENV_OK;
err_after_file:
    free(file);
err_after_open:
    close(fd);
err:
    unlinkat(env->dir_fd, tmp, 0);
    return env_status_of_errno(error);
}

enum env_status env_uv_file_open(struct env_uv *env, const char *name, struct env_file **out, uint64_t *size)
{
    int fd = openat(env->dir_fd, name, open_flags(env));
    if (fd < 0) {
        return env_status_of_errno(errno);
    }
    struct stat stat;
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        close(fd);
        return ENV_IO;
    }
    struct env_file *file = file_new(fd);
    if (file == NULL) {
        close(fd);
        return ENV_NO_MEMORY;
    }
    *size = (uint64_t)stat.st_size;
    *out = file;
    return ENV_OK;
}

static enum env_status bulk_file(int fd, struct env_file **out)
{
    struct env_file *file = file_new(fd);
    if (file == NULL) {
        close(fd);
        return ENV_NO_MEMORY;
    }
    file->bulk = true;
    *out = file;
    return ENV_OK;
}

enum env_status env_uv_bulk_create(struct env_uv *env, const char *name, struct env_file **out)
{
    int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | (env->direct ? O_DIRECT : 0);
    int fd = openat(env->dir_fd, name, flags, 0600);
    return fd < 0 ? env_status_of_errno(errno) : bulk_file(fd, out);
}

enum env_status env_uv_bulk_open(struct env_uv *env, const char *name, struct env_file **out, size_t *size)
{
    int fd = openat(env->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return env_status_of_errno(errno);
    }
    struct stat stat;
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        close(fd);
        return ENV_IO;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    *size = (size_t)stat.st_size;
    return bulk_file(fd, out);
}

enum env_status env_uv_bulk_write(int fd, uint64_t offset, const void *buf, size_t len)
{
    return env_status_of_errno(write_all(fd, offset, buf, len));
}

enum env_status env_uv_bulk_sync(int fd)
{
    return env_status_of_errno(fdatasync(fd) == 0 ? 0 : errno);
}

enum env_status env_uv_file_rename(struct env_uv *env, const char *from, const char *to)
{
    if (renameat(env->dir_fd, from, env->dir_fd, to) != 0) {
        return env_status_of_errno(errno);
    }
    return env_status_of_errno(sync_dir(env));
}

/* A step took 1.4 ms at most on a virtual disk with discard, during which writes wait. */
#define SHRINK_BYTES (4u << 20)
#define SHRINK_PAUSE_US 4000u

/* A file whose name was removed. NULL: it is small, or has another name, so that its content stays. */
static struct env_file *unnamed_file(int fd)
{
    struct stat stat;
    if (fd < 0) {
        return NULL;
    }
    struct env_file *file = NULL;
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_nlink == 0 && stat.st_size > (off_t)SHRINK_BYTES) {
        file = file_new(fd);
    }
    if (file == NULL) {
        close(fd);
        return NULL;
    }
    file->closing = true;
    file->giving_back = (uint64_t)stat.st_size;
    return file;
}

enum env_status env_uv_file_remove(struct env_uv *env, const char *name, struct env_file **rest)
{
    int fd = rest == NULL ? -1 : openat(env->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (rest != NULL) {
        *rest = NULL;
    }
    if (unlinkat(env->dir_fd, name, 0) != 0) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        return env_status_of_errno(error);
    }
    if (rest != NULL) {
        *rest = unnamed_file(fd);
    }
    return env_status_of_errno(sync_dir(env));
}

bool env_uv_file_shrink(struct env_file *file)
{
    if (file->giving_back == 0) {
        return false;
    }
    file->giving_back -= file->giving_back < SHRINK_BYTES ? file->giving_back : SHRINK_BYTES;
    if (ftruncate(file->fd, (off_t)file->giving_back) != 0) {
        return false; /* closing it gives back the rest */
    }
    usleep(SHRINK_PAUSE_US);
    return true;
}

enum env_status env_uv_file_list(struct env_uv *env, void (*each)(void *ctx, const char *name, uint64_t size),
                                 void *ctx)
{
    int fd = openat(env->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return env_status_of_errno(errno);
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int error = errno;
        close(fd);
        return env_status_of_errno(error);
    }
    errno = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        struct stat stat;
        if (fstatat(env->dir_fd, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(stat.st_mode) &&
            strcmp(entry->d_name, "lock") != 0 && !has_suffix(entry->d_name, tmp_suffix)) {
            each(ctx, entry->d_name, (uint64_t)stat.st_size);
        }
        errno = 0;
    }
    int error = errno;
    closedir(dir);
    return env_status_of_errno(error);
}

uint64_t env_uv_file_space(const struct env_uv *env)
{
    struct statvfs stat;
    if (fstatvfs(env->dir_fd, &stat) != 0) {
        return 0;
    }
    return (uint64_t)stat.f_bavail * stat.f_frsize;
}
