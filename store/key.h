/* Inside store/: how one key lies in memory. Knows nothing of the table that finds it.
 *
 *   revision     6 bytes, little-endian
 *   info         1 byte: type (bits 0-2), has a deadline (3), long name (4), width of the value length (5-6)
 *   name length  1 or 4 bytes
 *   value length 1, 2 or 4 bytes
 *   deadline     8 bytes, and
 *   place        4 bytes, index in the heap of deadlines: both only if the key has a deadline
 *   name, value
 *
 * Nothing is aligned: with short values the header is what counts. */
#ifndef LOCKSTEP_KEY_H
#define LOCKSTEP_KEY_H

#include <string.h>

#include "store/keyspace.h"

#define KEY_REVISION_MAX ((UINT64_C(1) << 48) - 1)
#define KEY_DEADLINE_BYTES 12u

enum { KEY_TYPE_MASK = 7, KEY_HAS_DEADLINE = 8, KEY_LONG_NAME = 16, KEY_VALUE_WIDTH_SHIFT = 5 };

struct key {
    uint8_t revision[6];
    uint8_t info;
    uint8_t rest[];
};

/* A key taken apart. */
struct key_view {
    size_t name_len, value_len;
    uint8_t *deadline; /* and then the place; meaningful if the key has a deadline */
    uint8_t *name;
    uint8_t *value;
    size_t bytes; /* of the whole */
};

static inline uint32_t key_load32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void key_view(const struct key *key, struct key_view *view)
{
    uint8_t *at = (uint8_t *)key + offsetof(struct key, rest);
    if (key->info & KEY_LONG_NAME) {
        view->name_len = key_load32(at);
        at += 4;
    } else {
        view->name_len = *at++;
    }
    unsigned width = key->info >> KEY_VALUE_WIDTH_SHIFT;
    if (width == 0) {
        view->value_len = *at++;
    } else if (width == 1) {
        uint16_t len;
        memcpy(&len, at, sizeof len);
        view->value_len = len;
        at += 2;
    } else {
        view->value_len = key_load32(at);
        at += 4;
    }
    view->deadline = at;
    at += key->info & KEY_HAS_DEADLINE ? KEY_DEADLINE_BYTES : 0;
    view->name = at;
    view->value = at + view->name_len;
    view->bytes = (size_t)(view->value - (uint8_t *)key) + view->value_len;
}

static inline unsigned key_value_width(size_t value_len)
{
    return value_len <= UINT8_MAX ? 0 : value_len <= UINT16_MAX ? 1 : 2;
}

/* Bytes before the name. */
static inline size_t key_header_bytes(size_t name_len, size_t value_len, bool has_deadline)
{
    return offsetof(struct key, rest) + (name_len <= UINT8_MAX ? 1u : 4u) + ((size_t)1 << key_value_width(value_len)) +
           (has_deadline ? KEY_DEADLINE_BYTES : 0u);
}

static inline uint64_t key_revision_get(const struct key *key)
{
    return (uint64_t)key->revision[0] | (uint64_t)key->revision[1] << 8 | (uint64_t)key->revision[2] << 16 |
           (uint64_t)key->revision[3] << 24 | (uint64_t)key->revision[4] << 32 | (uint64_t)key->revision[5] << 40;
}

static inline void key_revision_set(struct key *key, uint64_t revision)
{
    for (unsigned i = 0; i < 6; i++) {
        key->revision[i] = (uint8_t)(revision >> (8 * i));
    }
}

static inline bool key_has_deadline(const struct key *key)
{
    return key->info & KEY_HAS_DEADLINE;
}

static inline uint32_t key_place_get(const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    return key_load32(view.deadline + 8);
}

static inline void key_place_set(struct key *key, uint32_t place)
{
    struct key_view view;
    key_view(key, &view);
    memcpy(view.deadline + 8, &place, sizeof place);
}

static inline uint64_t key_deadline_get(const struct key *key)
{
    if (!key_has_deadline(key)) {
        return KEYSPACE_NO_DEADLINE;
    }
    struct key_view view;
    key_view(key, &view);
    uint64_t deadline_ms;
    memcpy(&deadline_ms, view.deadline, sizeof deadline_ms);
    return deadline_ms;
}

static inline void key_deadline_set(struct key *key, uint64_t deadline_ms)
{
    struct key_view view;
    key_view(key, &view);
    memcpy(view.deadline, &deadline_ms, sizeof deadline_ms);
}

static inline bool key_name_is(const struct key *key, const void *name, size_t len)
{
    struct key_view view;
    key_view(key, &view);
    return view.name_len == len && memcmp(view.name, name, len) == 0;
}

/* Write everything before the name. The lengths must be those of the block. */
static inline void key_header_write(struct key *key, enum keyspace_type type, size_t name_len, size_t value_len,
                                    bool has_deadline)
{
    unsigned width = key_value_width(value_len);
    key->info = (uint8_t)((unsigned)type | (has_deadline ? KEY_HAS_DEADLINE : 0u) |
                          (name_len > UINT8_MAX ? KEY_LONG_NAME : 0u) | width << KEY_VALUE_WIDTH_SHIFT);
    uint8_t *at = key->rest;
    uint32_t len = (uint32_t)name_len;
    if (name_len > UINT8_MAX) {
        memcpy(at, &len, 4);
        at += 4;
    } else {
        *at++ = (uint8_t)name_len;
    }
    len = (uint32_t)value_len;
    if (width == 0) {
        *at = (uint8_t)value_len;
    } else if (width == 1) {
        uint16_t len16 = (uint16_t)value_len;
        memcpy(at, &len16, 2);
    } else {
        memcpy(at, &len, 4);
    }
}

#endif
