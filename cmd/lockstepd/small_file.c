#include "cmd/lockstepd/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_MAX_BYTES 4200u

bool small_file_read(const char *dir, const char *name, char *text, size_t size)
{
    char path[PATH_MAX_BYTES];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const size_t n = fread(text, 1, size - 1, file);
    text[n] = '\0';
    const bool ok = ferror(file) == 0;
    (void)fclose(file);
    return ok;
}

static bool write_synced(const char *path, const char *text)
{
    const size_t len = strlen(text);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0) {
        return false;
    }
    const ssize_t n = write(fd, text, len);
    if (n >= 0 && (size_t)n < len) {
        errno = ENOSPC;
    }
    const bool ok = n == (ssize_t)len && fsync(fd) == 0;
    const int why = errno;
    (void)close(fd);
    errno = why;
    return ok;
}

static bool dir_sync(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        const int why = errno;
        (void)close(fd);
        errno = why;
    }
    return ok;
}

/* The directory and those above it, each one durable, as consensus/env_uv_file.c makes them. */
static bool dir_make(const char *dir)
{
    char path[PATH_MAX_BYTES], above[PATH_MAX_BYTES];

    if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return false;
    }
    const size_t len = strlen(path);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        const char kept = path[i];
        path[i] = '\0';
        if (mkdir(path, 0700) == 0) {
            (void)snprintf(above, sizeof above, "%s/..", path);
            if (!dir_sync(above)) {
                return false;
            }
        } else if (access(path, F_OK) != 0) {
            return false;
        }
        path[i] = kept;
    }
    return true;
}

bool small_file_write(const char *dir, const char *name, const char *text)
{
    char path[PATH_MAX_BYTES], fresh[PATH_MAX_BYTES + 4];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    (void)snprintf(fresh, sizeof fresh, "%s.new", path);
    return dir_make(dir) && write_synced(fresh, text) && rename(fresh, path) == 0 && dir_sync(dir);
}
