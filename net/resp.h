/* RESP2/RESP3 on byte buffers: an incremental request reader and a reply writer. Owns its buffers; knows nothing of
 * sockets, keys or Raft; any thread, no globals. Source: the RESP specification. */
#ifndef LOCKSTEP_RESP_H
#define LOCKSTEP_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* --- A growable byte buffer ------------------------------------------------------------------------------------- */
struct resp_buffer {
    char *data;
    size_t len, capacity;
    bool failed; /* out of memory: content is incomplete */
};
void resp_buffer_init(struct resp_buffer *b);
void resp_buffer_fini(struct resp_buffer *b);
void resp_buffer_append(struct resp_buffer *b, const void *data, size_t len);
void resp_buffer_clear(struct resp_buffer *b); /* keeps modest capacity, gives back a large one */
char *resp_buffer_grow(struct resp_buffer *b, size_t len);
/* Room for `len` more bytes behind data + b->len; whoever fills it adds to b->len. NULL when out of memory (failed). */
static inline char *resp_buffer_reserve(struct resp_buffer *b, size_t len)
{
    if (b->capacity - b->len >= len && b->data != NULL && !b->failed)
        return b->data + b->len;
    return resp_buffer_grow(b, len);
}

/* --- Reader: requests ------------------------------------------------------------------------------------------- */
struct resp_limits {
    uint32_t args_max;         /* arguments of one request, default 1024*1024 (Redis) */
    uint64_t bulk_bytes_max;   /* default 512 MiB (proto-max-bulk-len) */
    uint32_t inline_bytes_max; /* 64 KiB (Redis) */
    uint64_t query_bytes_max;  /* bytes of one request, default 1 GiB (client-query-buffer-limit) */
    bool authenticated;        /* unused for now; unauthenticated limits come with AUTH */
};
enum resp_status {
    RESP_OK = 0,
    RESP_AGAIN, /* needs more bytes */
    RESP_ERROR, /* protocol error: text in reader->error, close after sending it */
    RESP_NO_MEMORY
};
struct resp_reader; /* opaque */
struct resp_reader *resp_reader_new(const struct resp_limits *limits);
void resp_reader_free(struct resp_reader *reader);
/* Room for the next socket read, at least `want` bytes if memory allows: read into *space, then call fed. */
enum resp_status resp_reader_space(struct resp_reader *reader, size_t want, char **space, size_t *len);
void resp_reader_fed(struct resp_reader *reader, size_t len);
/* Instead of space: lend the reader a buffer to read into, so that a connection between requests holds no memory. Bytes
 * of an unfinished request are copied to its front. False: the unfinished request is too large for it, use space. The
 * buffer is borrowed until settle. */
bool resp_reader_lend(struct resp_reader *reader, char *buffer, size_t capacity, char **space, size_t *len);
/* Reading is over for now: bytes not consumed move out of a lent buffer into the reader's own, and memory without use
 * is freed. Ends the borrowing of argv. */
enum resp_status resp_reader_settle(struct resp_reader *reader);
/* Next complete request: RESP_OK with argv/argc (argc may be 0 for an empty line: skip it), borrowed until the next
 * call of next, space, lend or settle on this reader (zero copy). An error stays: every further call repeats it. */
enum resp_status resp_reader_next(struct resp_reader *reader, const struct iovec **argv, unsigned *argc);
/* "ERR Protocol error: ..." in Redis's words, valid after RESP_ERROR. */
const char *resp_reader_error(const struct resp_reader *reader);
/* Bytes buffered and not yet consumed; memory held. */
size_t resp_reader_buffered(const struct resp_reader *reader);
size_t resp_reader_memory(const struct resp_reader *reader);

/* --- Writer: replies into a buffer. `proto` is 2 or 3. ---------------------------------------------------------- */
void resp_write_status(struct resp_buffer *b, const char *text);
void resp_write_error(struct resp_buffer *b, const char *text, size_t len); /* CR and LF inside become spaces */
void resp_write_integer(struct resp_buffer *b, int64_t value);
void resp_write_bulk(struct resp_buffer *b, const void *data, size_t len);
void resp_write_null(struct resp_buffer *b, int proto);
void resp_write_null_array(struct resp_buffer *b, int proto);
void resp_write_array(struct resp_buffer *b, size_t n);
void resp_write_map(struct resp_buffer *b, int proto, size_t n);
void resp_write_set(struct resp_buffer *b, int proto, size_t n);
void resp_write_real(struct resp_buffer *b, int proto, double value);
void resp_write_bool(struct resp_buffer *b, int proto, bool value);
void resp_write_verbatim(struct resp_buffer *b, int proto, const char *format3, const void *data, size_t len);

#endif
