#include "cmd/lockstepd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct log {
    char *path; /* NULL: stderr */
    int fd;
    int level;
    uint64_t node_id;
};

static const struct log log_stderr = {.path = NULL, .fd = STDERR_FILENO, .level = LOG_LEVEL_INFO, .node_id = 0};

const char *log_level_name(int level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if (level < LOG_LEVEL_ERROR || level > LOG_LEVEL_DEBUG) {
        return "debug";
    }
    return names[level];
}

static int log_open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

struct log *log_new(const char *path, int level, uint64_t node_id)
{
    struct log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return NULL;
    }
    log->level = level;
    log->node_id = node_id;
    log->fd = STDERR_FILENO;
    if (path != NULL) {
        log->path = strdup(path);
        log->fd = log->path == NULL ? -1 : log_open_file(path);
        if (log->fd < 0) {
            int saved = errno;
            free(log->path);
            free(log);
            errno = saved;
            return NULL;
        }
    }
    return log;
}

void log_free(struct log *log)
{
    if (log == NULL) {
        return;
    }
    if (log->path != NULL) {
        (void)close(log->fd);
    }
    free(log->path);
    free(log);
}

bool log_reopen(struct log *log)
{
    if (log->path == NULL) {
        return true;
    }
    int fd = log_open_file(log->path);
    if (fd < 0) {
        return false;
    }
    (void)close(log->fd);
    log->fd = fd;
    return true;
}

void log_set_level(struct log *log, int level)
{
    log->level = level;
}

static size_t log_stamp(char *line, size_t capacity)
{
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    size_t len = strftime(line, capacity, "%Y-%m-%dT%H:%M:%S", &parts);
    int more = snprintf(line + len, capacity - len, ".%03ldZ", now.tv_nsec / 1000000);
    return len + (more > 0 ? (size_t)more : 0);
}

void log_write(struct log *log, int level, uint64_t term, const char *text)
{
    const struct log *to = log != NULL ? log : &log_stderr;
    if (level > to->level) {
        return;
    }
    char line[LOG_LINE_MAX];
    size_t len = log_stamp(line, sizeof line);
    int n = snprintf(line + len, sizeof line - len - 1, " %s node=%" PRIu64 " term=%" PRIu64 " ", log_level_name(level),
                     to->node_id, term);
    len += n > 0 ? (size_t)n : 0;
    for (const char *c = text; *c != '\0' && len < sizeof line - 1; c++) {
        line[len++] = (unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c;
    }
    line[len++] = '\n';
    /* A log that can't be written must not stop the server; there is nowhere left to say so. */
    ssize_t written = write(to->fd, line, len);
    (void)written;
}
