#include "net/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC_0 'L'
#define MAGIC_1 'K'
/* A reader without a frame in progress keeps a buffer up to this. */
#define KEEP_BYTES_MAX (512u * 1024)

const char *frame_strerror(enum frame_status status)
{
    switch (status) {
#define X(name, text)                                                                                                  \
    case name:                                                                                                         \
        return text;
        FRAME_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

static void le_put(unsigned char *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t le_get(const unsigned char *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* The first half of the header is the seed: so the checksum covers it without being part of the hashed bytes. */
static uint64_t frame_checksum(const unsigned char *frame, size_t wire_bytes)
{
    return XXH3_64bits_withSeed(frame + FRAME_HEADER_BYTES, wire_bytes - FRAME_HEADER_BYTES, le_get(frame, 8));
}

void frame_write(void *to, enum frame_kind kind, const struct iovec *pieces, unsigned n, size_t len)
{
    unsigned char *frame = to;
    unsigned char *p = frame + FRAME_HEADER_BYTES;
    const size_t wire_bytes = frame_wire_bytes(len);
    assert(len <= UINT32_MAX);
    le_put(frame, len, 4);
    frame[4] = MAGIC_0;
    frame[5] = MAGIC_1;
    frame[6] = FRAME_VERSION;
    frame[7] = (unsigned char)kind;
    for (unsigned i = 0; i < n; i++) {
        if (pieces[i].iov_len > 0)
            memcpy(p, pieces[i].iov_base, pieces[i].iov_len);
        p += pieces[i].iov_len;
    }
    assert(p == frame + FRAME_HEADER_BYTES + len);
    memset(p, 0, wire_bytes - FRAME_HEADER_BYTES - len);
    le_put(frame + 8, frame_checksum(frame, wire_bytes), 8);
}

void frame_reader_init(struct frame_reader *reader, uint32_t bytes_max)
{
    memset(reader, 0, sizeof(*reader));
    reader->bytes_max = bytes_max;
}

void frame_reader_fini(struct frame_reader *reader)
{
    free(reader->data);
    frame_reader_init(reader, 0);
}

/* Gives back what is not needed and moves what is held to the front: `start` is a multiple of FRAME_ALIGN, and so
 * payloads stay aligned. */
static void reader_compact(struct frame_reader *r)
{
    const size_t held = r->end - r->start;
    assert(r->start % FRAME_ALIGN == 0);
    if (held == 0 && r->capacity > KEEP_BYTES_MAX) {
        free(r->data);
        r->data = NULL;
        r->capacity = 0;
    } else if (held > 0 && r->start > 0) {
        memmove(r->data, r->data + r->start, held);
    }
    r->start = 0;
    r->end = held;
}

/* Bytes still missing of the frame at the front, or 0: not known. */
static size_t frame_missing(const struct frame_reader *r)
{
    if (r->end < FRAME_HEADER_BYTES)
        return 0;
    const size_t whole = frame_wire_bytes((size_t)le_get((const unsigned char *)r->data, 4));
    return whole > r->end ? whole - r->end : 0;
}

enum frame_status frame_reader_space(struct frame_reader *r, size_t want, char **space, size_t *len)
{
    reader_compact(r);
    const size_t missing = frame_missing(r);
    if (want == 0)
        want = 1;
    const size_t need = missing > 0 && missing < want ? missing : want;
    if (r->capacity - r->end < need) {
        const size_t more = r->end > want ? r->end : want;
        const size_t goal = r->end + (missing > 0 && missing < more ? missing : more);
        char *data = realloc(r->data, goal);
        if (data == NULL)
            return FRAME_NO_MEMORY;
        assert((uintptr_t)data % FRAME_ALIGN == 0);
        r->data = data;
        r->capacity = goal;
    }
    *space = r->data + r->end;
    *len = r->capacity - r->end;
    return FRAME_OK;
}

void frame_reader_fed(struct frame_reader *r, size_t len)
{
    assert(len <= r->capacity - r->end);
    r->end += len;
}

enum frame_status frame_reader_next(struct frame_reader *r, enum frame_kind *kind, const void **payload, size_t *len)
{
    const size_t held = r->end - r->start;
    if (held < FRAME_HEADER_BYTES)
        return FRAME_AGAIN;
    const unsigned char *frame = (const unsigned char *)r->data + r->start;
    if (frame[4] != MAGIC_0 || frame[5] != MAGIC_1)
        return FRAME_FOREIGN;
    if (frame[6] != FRAME_VERSION)
        return FRAME_BAD_VERSION;
    if (frame[7] < FRAME_HELLO || frame[7] > FRAME_REFUSAL)
        return FRAME_BAD_KIND;
    const size_t bytes = (size_t)le_get(frame, 4);
    if (bytes > r->bytes_max)
        return FRAME_TOO_BIG;
    const size_t wire_bytes = frame_wire_bytes(bytes);
    if (held < wire_bytes)
        return FRAME_AGAIN;
    if (le_get(frame + 8, 8) != frame_checksum(frame, wire_bytes))
        return FRAME_CORRUPT;
    *kind = (enum frame_kind)frame[7];
    *payload = frame + FRAME_HEADER_BYTES;
    *len = bytes;
    r->start += wire_bytes;
    return FRAME_OK;
}
