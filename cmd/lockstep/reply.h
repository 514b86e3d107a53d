/* Complete RESP2/RESP3 replies: walking through one item by item, and printing it as redis-cli does. The bytes are the
 * caller's and must hold one whole reply, as found by reply_skip. (hiredis 0.14 cannot read RESP3.) */
#ifndef LOCKSTEP_REPLY_H
#define LOCKSTEP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define REPLY_DEPTH_MAX 64

struct reply_item {
    char type; /* first byte of the item: + - : $ * _ # , ( ! = % ~ > | */
    bool is_null;
    int64_t integer; /* of ':'; of an aggregate: how many items follow inside it (a map's keys and values each count) */
    const char *text; /* of everything else; borrowed, not terminated */
    size_t len;
};

struct reply_cursor {
    const char *at, *end;
};

void reply_begin(struct reply_cursor *cursor, const char *data, size_t len);
/* The next item, depth first; false at the end or if the bytes are not RESP. */
bool reply_next(struct reply_cursor *cursor, struct reply_item *item);
/* Pass over everything inside the aggregate `item`, which reply_next has just given. */
bool reply_pass(struct reply_cursor *cursor, const struct reply_item *item);
bool reply_is_aggregate(const struct reply_item *item);
bool reply_is_error(const struct reply_item *item);

/* As redis-cli prints on a terminal: (integer) 1, "quoted", 1) ..., 1# "key" => ..., (nil). False: not RESP, or nested
 * deeper than REPLY_DEPTH_MAX. */
bool reply_print(FILE *out, const char *data, size_t len);
/* As redis-cli prints into a pipe: bare values, one per line. */
bool reply_print_raw(FILE *out, const char *data, size_t len);
/* A string in double quotes, with escapes for what is not printable. */
void reply_print_quoted(FILE *out, const char *text, size_t len);

#endif
