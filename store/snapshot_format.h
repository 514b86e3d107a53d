/* Inside store/: the bytes of a snapshot stream (docs/FORMATS.md, section Snapshot stream). Little-endian, nothing
 * aligned. */
#ifndef LOCKSTEP_STORE_SNAPSHOT_FORMAT_H
#define LOCKSTEP_STORE_SNAPSHOT_FORMAT_H

#include "store/entry.h"
#include "store/key.h"
#include "store/memory.h"

#define SNAPSHOT_MAGIC "LSTPSNAP"
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_HEADER_BYTES 72u
#define SNAPSHOT_RECORD_HEADER_BYTES 16u
#define SNAPSHOT_TRAILER_BYTES 24u
/* Name and value of a record that holds a key as a whole. */
#define SNAPSHOT_WHOLE_MAX 4096u
#define SNAPSHOT_RECORD_MAX (SNAPSHOT_RECORD_HEADER_BYTES + 8u + SNAPSHOT_WHOLE_MAX)
static_assert(SNAPSHOT_WHOLE_MAX >= MEMORY_SMALL_MAX, "small blocks are written as a whole");

enum snapshot_record_kind { SNAPSHOT_KEY = 1, SNAPSHOT_LARGE = 2, SNAPSHOT_PIECE = 3, SNAPSHOT_TRAILER = 4 };

struct snapshot_header {
    uint32_t version, flags;
    uint64_t revision, time_ms;
    uint64_t n_keys, n_deadlines;
    uint64_t logical_bytes;
    uint64_t digest; /* store_digest */
};

/* Of a key, whole or large. */
struct snapshot_record {
    uint8_t kind;
    uint8_t info; /* as in struct key: type and KEY_HAS_DEADLINE */
    uint64_t revision;
    uint32_t name_len, value_len;
    uint64_t deadline_ms;
};

static inline uint8_t *snapshot_record_encode(uint8_t *to, const struct snapshot_record *record)
{
    entry_store64(to, record->revision << 16 | (uint64_t)record->info << 8 | record->kind);
    to = entry_store32(entry_store32(to + 8, record->name_len), record->value_len);
    return record->info & KEY_HAS_DEADLINE ? entry_store64(to, record->deadline_ms) : to;
}

/* The deadline is read if there is one. */
static inline void snapshot_record_decode(const uint8_t *from, struct snapshot_record *record)
{
    uint64_t word = entry_load64(from);
    record->kind = (uint8_t)word;
    record->info = (uint8_t)(word >> 8);
    record->revision = word >> 16;
    record->name_len = entry_load32(from + 8);
    record->value_len = entry_load32(from + 12);
    record->deadline_ms = record->info & KEY_HAS_DEADLINE ? entry_load64(from + 16) : KEYSPACE_NO_DEADLINE;
}

static inline size_t snapshot_record_bytes(uint8_t info)
{
    return SNAPSHOT_RECORD_HEADER_BYTES + (info & KEY_HAS_DEADLINE ? 8u : 0u);
}

static inline void snapshot_record_of(struct snapshot_record *record, enum snapshot_record_kind kind,
                                      const struct key *key, const struct key_view *view)
{
    record->kind = (uint8_t)kind;
    record->info = key->info & (KEY_TYPE_MASK | KEY_HAS_DEADLINE);
    record->revision = key_revision_get(key);
    record->name_len = (uint32_t)view->name_len;
    record->value_len = (uint32_t)view->value_len;
    record->deadline_ms = key_deadline_get(key);
}

/* A small key as a whole; room for SNAPSHOT_RECORD_MAX. Gives the end. */
static inline uint8_t *snapshot_key_encode(uint8_t *to, const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    struct snapshot_record record;
    snapshot_record_of(&record, SNAPSHOT_KEY, key, &view);
    to = snapshot_record_encode(to, &record);
    memcpy(to, view.name, view.name_len + view.value_len);
    return to + view.name_len + view.value_len;
}

#endif
