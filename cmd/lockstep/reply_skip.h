/* Finds where replies end in a stream of RESP2/RESP3 bytes, without keeping them: what a load generator needs of a
 * reply. Bytes may come in pieces of any size. Owns nothing but itself. */
#ifndef LOCKSTEP_REPLY_SKIP_H
#define LOCKSTEP_REPLY_SKIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_SKIP_TEXT_MAX 160

enum reply_skip_event {
    REPLY_SKIP_MORE, /* all bytes taken, the reply isn't complete */
    REPLY_SKIP_DONE, /* a reply ended; its fields are valid until the next feed */
    REPLY_SKIP_BAD,  /* not RESP: the connection is of no more use */
};

struct reply_skip {
    /* public, valid after REPLY_SKIP_DONE */
    char type;                      /* its first byte: + - : $ * _ # , ( ! = % ~ > */
    bool is_null;                   /* $-1, *-1 or _ */
    int64_t integer;                /* of a ':' reply */
    char text[REPLY_SKIP_TEXT_MAX]; /* of a '-' reply, cut at this length */
    /* private */
    bool begun;
    uint64_t elements_left; /* including the one being read */
    uint64_t bulk_left;     /* bytes of a bulk and its CR LF */
    size_t line_len;        /* kept in line, from earlier pieces */
    char line[REPLY_SKIP_TEXT_MAX];
};

void reply_skip_init(struct reply_skip *skip);
/* Take bytes up to the end of one reply. Returns how many were taken; *event says why it stopped. */
size_t reply_skip_feed(struct reply_skip *skip, const char *data, size_t len, enum reply_skip_event *event);

#endif
