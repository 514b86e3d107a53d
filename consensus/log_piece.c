#include "consensus/log_piece.h"

#include <assert.h>
#include <string.h>

#include <xxhash.h>

static const char piece_magic[8] = {'L', 'S', 'T', 'P', 'L', 'O', 'G', 'P'};

struct piece_head {
    char magic[8];
    uint32_t version;
    uint32_t n;
    uint64_t last;
};
static_assert(sizeof(struct piece_head) == 24, "wire format");

struct entry_head {
    uint64_t index;
    uint64_t term;
    uint32_t len;
    uint8_t type;
    uint8_t zeros[3];
};
static_assert(sizeof(struct entry_head) == 24, "wire format");

#define CHECK_BYTES sizeof(uint64_t)

static size_t padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

size_t log_piece_bytes(const struct wal_entry *entries, unsigned n)
{
    size_t bytes = sizeof(struct piece_head) + CHECK_BYTES;

    for (unsigned i = 0; i < n; i++) {
        bytes += sizeof(struct entry_head) + padded(entries[i].len);
    }
    return bytes;
}

void log_piece_encode(void *out, const struct wal_entry *entries, unsigned n, uint64_t last)
{
    struct piece_head head = {.version = LOG_PIECE_VERSION, .n = n, .last = last};
    uint8_t *at = out;

    memcpy(head.magic, piece_magic, sizeof head.magic);
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    for (unsigned i = 0; i < n; i++) {
        const struct wal_entry *e = &entries[i];
        assert(e->index == entries[0].index + i);
        const struct entry_head h = {
            .index = e->index, .term = e->term, .len = (uint32_t)e->len, .type = (uint8_t)e->type};
        memcpy(at, &h, sizeof h);
        at += sizeof h;
        if (e->len > 0) {
            memcpy(at, e->data, e->len);
        }
        memset(at + e->len, 0, padded(e->len) - e->len);
        at += padded(e->len);
    }
    const uint64_t check = XXH3_64bits(out, (size_t)(at - (uint8_t *)out));
    memcpy(at, &check, sizeof check);
}

/* One entry at `at`; NULL: malformed. Gives where the next one is. */
static const uint8_t *entry_take(const uint8_t *at, const uint8_t *end, uint64_t index, struct wal_entry *entry)
{
    struct entry_head h;

    if ((size_t)(end - at) < sizeof h) {
        return NULL;
    }
    memcpy(&h, at, sizeof h);
    at += sizeof h;
    if (padded(h.len) > (size_t)(end - at) || h.term == 0 || h.index == 0 || h.index == UINT64_MAX ||
        (index != 0 && h.index != index) || h.type < WAL_COMMAND || h.type > WAL_CHANGE) {
        return NULL;
    }
    *entry = (struct wal_entry){
        .index = h.index, .term = h.term, .type = (enum wal_entry_type)h.type, .data = at, .len = h.len};
    return at + padded(h.len);
}

bool log_piece_open(struct log_piece *piece, const void *data, size_t len)
{
    struct piece_head head;
    struct wal_entry entry;
    uint64_t check, index = 0;

    if (len < sizeof head + sizeof check) {
        return false;
    }
    memcpy(&head, data, sizeof head);
    memcpy(&check, (const uint8_t *)data + len - sizeof check, sizeof check);
    if (memcmp(head.magic, piece_magic, sizeof head.magic) != 0 || head.version != LOG_PIECE_VERSION ||
        check != XXH3_64bits(data, len - sizeof check)) {
        return false;
    }
    const uint8_t *at = (const uint8_t *)data + sizeof head;
    const uint8_t *end = (const uint8_t *)data + len - sizeof check;
    *piece = (struct log_piece){.last = head.last, .left = head.n, .at = at, .end = end};
    for (uint32_t i = 0; i < head.n && at != NULL; i++) {
        at = entry_take(at, end, index, &entry);
        index = at != NULL ? entry.index + 1 : 0;
    }
    return at == end;
}

bool log_piece_next(struct log_piece *piece, struct wal_entry *entry)
{
    if (piece->left == 0) {
        return false;
    }
    piece->at = entry_take(piece->at, piece->end, 0, entry);
    piece->left--;
    return piece->at != NULL;
}
