#include "cmd/lockstepd/read_mode.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

static const char *const names[] = {
    [EXEC_LINEARIZABLE] = "linearizable", [EXEC_SESSION] = "session", [EXEC_STALE] = "stale"};
#define NAMES (sizeof names / sizeof names[0])

const char *read_mode_name(enum exec_read_mode mode)
{
    return names[mode];
}

/* Is it meant as a number? */
static bool looks_numeric(struct iovec word)
{
    const char *c = word.iov_base;

    return word.iov_len > 0 && ((c[0] >= '0' && c[0] <= '9') || c[0] == '-' || c[0] == '+');
}

static bool parse_number(struct iovec word, uint64_t max, uint64_t *value)
{
    const char *c = word.iov_base;
    uint64_t n = 0;

    for (size_t i = 0; i < word.iov_len; i++) {
        if (c[i] < '0' || c[i] > '9' || n > (max - (uint64_t)(c[i] - '0')) / 10) {
            return false;
        }
        n = n * 10 + (uint64_t)(c[i] - '0');
    }
    *value = n;
    return word.iov_len > 0;
}

/* The number behind `session` or `stale`. */
static bool take_number(struct iovec word, struct read_mode *mode, const char **error)
{
    uint64_t value;

    if (mode->mode == EXEC_SESSION) {
        *error = "ERR the revision of READMODE session must be a number from 0 to 9223372036854775807";
        return parse_number(word, INT64_MAX, &mode->revision);
    }
    *error = "ERR the bound of READMODE stale must be 1 to 86400000 milliseconds";
    if (!parse_number(word, READ_MODE_STALE_MS_MAX, &value) || value == 0) {
        return false;
    }
    mode->stale_max_us = value * 1000;
    return true;
}

unsigned read_mode_parse(const struct iovec *argv, unsigned argc, struct read_mode *mode, const char **error)
{
    *error = "ERR READMODE is one of: linearizable, session [revision], stale [max-ms]";
    for (unsigned i = 0; argc > 0 && i < NAMES; i++) {
        if (argv[0].iov_len != strlen(names[i]) || strncasecmp(argv[0].iov_base, names[i], argv[0].iov_len) != 0) {
            continue;
        }
        *mode = (struct read_mode){.mode = (enum exec_read_mode)i};
        if (i == EXEC_LINEARIZABLE || argc < 2 || !looks_numeric(argv[1])) {
            return 1;
        }
        return take_number(argv[1], mode, error) ? 2 : 0;
    }
    return 0;
}

bool read_mode_parse_text(const char *text, struct read_mode *mode)
{
    struct iovec words[2];
    unsigned n = 0;
    const char *error;

    for (const char *at = text + strspn(text, " "); *at != '\0'; at += strspn(at, " ")) {
        const size_t len = strcspn(at, " ");
        if (n == 2) {
            return false;
        }
        words[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)at, .iov_len = len};
        at += len;
    }
    return n > 0 && read_mode_parse(words, n, mode, &error) == n && (mode->mode != EXEC_SESSION || n == 1);
}
