/* Splitting a line into words as redis-cli does: blanks separate, "..." takes escapes (\n \r \t \a \b \\ \" \xHH),
 * '...' only \'. Owns what it gives. */
#ifndef LOCKSTEP_WORDS_H
#define LOCKSTEP_WORDS_H

#include <stddef.h>

#define WORDS_MAX 65536

struct words {
    char **text; /* each terminated, and may contain zero bytes */
    size_t *lens;
    size_t n;
};

enum words_status {
    WORDS_OK,
    WORDS_UNBALANCED, /* a quote isn't closed, or something follows one directly */
    WORDS_TOO_MANY,   /* or not enough memory */
};

enum words_status words_split(const char *line, struct words *words) __attribute__((warn_unused_result));
void words_free(struct words *words);

#endif
