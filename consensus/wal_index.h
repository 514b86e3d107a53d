/* Where every held entry is, in eight bytes per entry plus run-length coded terms and segments. Owns the memory of
 * that map; knows nothing of files. Lookups of indexes that are not held are the caller's mistake. */
#ifndef LOCKSTEP_WAL_INDEX_H
#define LOCKSTEP_WAL_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Payloads are shorter than this: type and length share 32 bits. */
#define WAL_INDEX_LEN_MAX ((1u << 28) - 1u)

/* `value` holds from index `first` on, to the next run. */
struct wal_run {
    uint64_t first;
    uint64_t value;
};

struct wal_runs {
    struct wal_run *items;
    size_t n;
    size_t cap;
};

struct wal_slot {
    uint32_t offset8;  /* of the record in its segment, in units of 8 bytes */
    uint32_t len_type; /* payload length << 4 | type */
};

struct wal_index {
    uint64_t first;  /* first index held */
    uint64_t last;   /* first - 1 when empty */
    uint64_t origin; /* index of the first slot of the first page */
    struct wal_slot **pages;
    size_t pages_cap;
    size_t n_pages;
    struct wal_runs terms;
    struct wal_runs segments; /* value: generation */
};

struct wal_place {
    uint64_t term;
    uint64_t offset;
    uint32_t generation;
    uint32_t len;
    uint8_t type;
};

void wal_index_init(struct wal_index *index, uint64_t first);
void wal_index_fini(struct wal_index *index);
/* Make room for entries up to `last`, with as many changes of term and segment as given. False: no memory, no change
 * that matters. */
bool wal_index_reserve(struct wal_index *index, uint64_t last, size_t n_terms, size_t n_segments);
/* Forget `from` and everything after it. */
void wal_index_truncate(struct wal_index *index, uint64_t from);
/* Forget everything before `first`, which is at most last + 1, and give back whole pages. */
void wal_index_drop(struct wal_index *index, uint64_t first);
/* Forget everything; the next entry is `first`. */
void wal_index_reset(struct wal_index *index, uint64_t first);
/* The first held entry in a segment after `generation`; last + 1 if there is none. */
uint64_t wal_index_after(const struct wal_index *index, uint32_t generation);
/* Add entry last + 1; room was reserved. */
void wal_index_push(struct wal_index *index, const struct wal_place *place);
uint64_t wal_index_term(const struct wal_index *index, uint64_t at);
void wal_index_get(const struct wal_index *index, uint64_t at, struct wal_place *place);

#endif
