/* Frames of a peer link on byte buffers: the header writer and an incremental reader. Owns its buffer; knows nothing of
 * sockets or of what frames mean; any thread, no globals. Format: docs/FORMATS.md, section Links. */
#ifndef LOCKSTEP_FRAME_H
#define LOCKSTEP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define FRAME_HEADER_BYTES 16u
#define FRAME_ALIGN 8u
#define FRAME_VERSION 1u

enum frame_kind {
    FRAME_HELLO = 1,  /* who speaks: the first frame in both directions */
    FRAME_DATA = 2,   /* opener to acceptor */
    FRAME_PING = 3,   /* opener to acceptor, empty */
    FRAME_PONG = 4,   /* the answer, empty */
    FRAME_REFUSAL = 5 /* acceptor to opener, instead of a hello: why, as text; then it closes */
};

#define FRAME_STATUS_MAP(X)                                                                                            \
    X(FRAME_OK, "ok")                                                                                                  \
    X(FRAME_AGAIN, "needs more bytes")                                                                                 \
    X(FRAME_FOREIGN, "not a Lockstep link (bad magic)")                                                                \
    X(FRAME_BAD_VERSION, "link protocol version not supported")                                                        \
    X(FRAME_BAD_KIND, "unknown frame kind")                                                                            \
    X(FRAME_TOO_BIG, "frame larger than allowed")                                                                      \
    X(FRAME_CORRUPT, "frame checksum mismatch")                                                                        \
    X(FRAME_NO_MEMORY, "out of memory")
enum frame_status {
#define X(name, text) name,
    FRAME_STATUS_MAP(X)
#undef X
};
const char *frame_strerror(enum frame_status status);

/* Bytes on the wire of a frame with `len` payload bytes: header, payload, zero padding to FRAME_ALIGN. */
static inline size_t frame_wire_bytes(size_t len)
{
    return FRAME_HEADER_BYTES + ((len + FRAME_ALIGN - 1) & ~(size_t)(FRAME_ALIGN - 1));
}
/* Writes a whole frame of n pieces, `len` bytes in sum (at most UINT32_MAX): frame_wire_bytes(len) bytes. */
void frame_write(void *to, enum frame_kind kind, const struct iovec *pieces, unsigned n, size_t len);

struct frame_reader {
    /* public */
    uint32_t bytes_max; /* larger payloads are refused; may change between frames */
    /* private */
    char *data;
    size_t start, end, capacity;
};
void frame_reader_init(struct frame_reader *reader, uint32_t bytes_max);
void frame_reader_fini(struct frame_reader *reader);
/* Room for the next read, at least one byte. Grows towards the announced end of the frame that is arriving, but at most
 * doubles what has really arrived. */
enum frame_status frame_reader_space(struct frame_reader *reader, size_t want, char **space, size_t *len)
    __attribute__((warn_unused_result));
void frame_reader_fed(struct frame_reader *reader, size_t len);
/* Next whole frame, checked; the payload is 8-byte aligned and borrowed until the next call of next or space. Anything
 * but FRAME_OK and FRAME_AGAIN ends the connection. */
enum frame_status frame_reader_next(struct frame_reader *reader, enum frame_kind *kind, const void **payload,
                                    size_t *len) __attribute__((warn_unused_result));

#endif
