/* The peer message codec: any bytes as a frame. What is accepted must lie inside the frame, keep the bounds that the
 * replica counts on, and say the same after it was encoded and decoded again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct message_entry entries[MESSAGE_ENTRIES_MAX];
static struct message_entry entries_again[MESSAGE_ENTRIES_MAX];

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

static size_t put(uint8_t *out, size_t n, const void *data, size_t len)
{
    memset(out + n, 0, message_padded(len));
    if (len > 0) {
        memcpy(out + n, data, len);
    }
    return n + message_padded(len);
}

/* Every byte of the data is one of the frame's. */
static void check_inside(const uint8_t *frame, size_t size, const void *data, size_t len)
{
    const uint8_t *at = data;

    check(at >= frame);
    check(at + len <= frame + size);
}

static size_t encode(const struct message *m, const struct message_entry *of, const uint8_t *frame, size_t size,
                     uint8_t *out)
{
    size_t n = message_encode(m, out);

    check(n <= MESSAGE_HEAD_MAX);
    if (m->type == MESSAGE_APPEND) {
        check(m->append.n_entries <= MESSAGE_ENTRIES_MAX);
        for (unsigned i = 0; i < m->append.n_entries; i++, n += MESSAGE_ENTRY_HEAD) {
            check(of[i].term >= (i > 0 ? of[i - 1].term : m->append.prev_term) && of[i].term <= m->term);
            check_inside(frame, size, of[i].data, of[i].len);
            message_encode_entry(&of[i], out + n);
        }
        for (unsigned i = 0; i < m->append.n_entries; i++) {
            n = put(out, n, of[i].data, of[i].len);
        }
    } else if (m->type == MESSAGE_SNAPSHOT_OFFER) {
        check(m->snapshot_offer.header_len <= MESSAGE_SNAPSHOT_HEADER_MAX);
        check_inside(frame, size, m->snapshot_offer.header, m->snapshot_offer.header_len);
        n = put(out, n, m->snapshot_offer.header, m->snapshot_offer.header_len);
    } else if (m->type == MESSAGE_SNAPSHOT_PIECE) {
        check(m->snapshot_piece.len <= MESSAGE_SNAPSHOT_PIECE_MAX);
        check_inside(frame, size, m->snapshot_piece.data, m->snapshot_piece.len);
        n = put(out, n, m->snapshot_piece.data, m->snapshot_piece.len);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message m = {0}, again = {0};
    uint8_t *frame = malloc(size > 0 ? size : 1);
    uint8_t *bytes = malloc(size + MESSAGE_HEAD_MAX);
    uint8_t *bytes_again = malloc(size + MESSAGE_HEAD_MAX);

    check(frame != NULL && bytes != NULL && bytes_again != NULL);
    if (size > 0) {
        memcpy(frame, data, size);
    }
    if (message_decode(frame, size, &m, entries)) {
        const size_t n = encode(&m, entries, frame, size, bytes);
        check(n == size); /* only reserved bytes, padding and unknown flags may differ */
        check(message_decode(bytes, n, &again, entries_again));
        check(encode(&again, entries_again, bytes, n, bytes_again) == n);
        check(memcmp(bytes, bytes_again, n) == 0);
    }
    free(frame);
    free(bytes);
    free(bytes_again);
    return 0;
}
