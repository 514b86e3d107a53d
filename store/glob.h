/* Inside store/: glob patterns with Redis's meaning. Owns nothing; pure; any thread. */
#ifndef LOCKSTEP_GLOB_H
#define LOCKSTEP_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/* Does `text` match `pattern`, both whole and as bytes? `*` any run, `?` any byte, `[abc]` `[a-z]` `[^...]` one byte of
 * a set, `\x` the byte x itself. An unterminated set ends with the pattern. Takes at most pattern length times text
 * length steps, whatever the pattern, and no memory.
 * Source: the Redis documentation of KEYS; where that is silent, the behaviour of redis-server 7.0. */
bool glob_match(struct iovec pattern, struct iovec text);

#endif
