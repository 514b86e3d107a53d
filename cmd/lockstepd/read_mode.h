/* What a connection's reads promise, and the words for it: those of READMODE, of HELLO's option and of the
 * configuration. Pure; knows nothing of how reads are done. */
#ifndef LOCKSTEP_READ_MODE_H
#define LOCKSTEP_READ_MODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define READ_MODE_STALE_MS_MAX 86400000u /* a day */

enum exec_read_mode {
    EXEC_LINEARIZABLE, /* everything acknowledged anywhere before the read began */
    EXEC_SESSION,      /* at least what this session has seen or written */
    EXEC_STALE         /* this node's copy, if it is not older than a bound */
};

struct read_mode {
    enum exec_read_mode mode;
    uint64_t stale_max_us; /* of EXEC_STALE; 0: no bound */
    uint64_t revision;     /* of EXEC_SESSION: presented with it, 0: none */
};

const char *read_mode_name(enum exec_read_mode mode);
/* Parse `linearizable`, `session [revision]` or `stale [max-ms]` at the front of argv. Returns how many arguments that
 * took; 0: it is none of these, or a number is out of bounds, and `*error` says what is allowed. A word behind that is
 * no number is left for the caller. */
unsigned read_mode_parse(const struct iovec *argv, unsigned argc, struct read_mode *mode, const char **error);
/* The same from one text, all of it; a session's revision can't stand there. */
bool read_mode_parse_text(const char *text, struct read_mode *mode);

#endif
