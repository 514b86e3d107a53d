/* Inside store/: finds keys by the hash of their name, and walks them in the order of that hash. Owns the slots, not
 * the keys; knows nothing of values, deadlines or revisions.
 *
 * Linear hashing over segments: the table splits one segment at a time, in turn, as keys are added, so no step ever
 * touches more than some hundred keys. A segment is an open-addressing array that is sized to what it holds and grows
 * by a few per cent, so the table stays above 85 % full. A slot is a pointer with 16 hash bits in its unused upper
 * bits: a lookup touches a key only when those agree.
 *
 * The hash, bits reversed, is a key's *point*. Segment i of depth d holds the points that begin with the d low bits of
 * i reversed; within it slots are in the order of the next 16 bits. So walking the points in order is independent of
 * how often segments were split or merged meanwhile: scan cursors are points, and so may be the front of a snapshot. */
#ifndef LOCKSTEP_TABLE_H
#define LOCKSTEP_TABLE_H

#include "store/key.h"
#include "store/memory.h"

struct segment {
    uint64_t *slots; /* behind one word that holds the segment's index, for table_slots_moved */
    uint16_t n, capacity;
};

struct table {
    struct memory *memory; /* borrowed */
    uint64_t seed;
    struct segment **chunks;
    uint32_t n_chunks, chunks_capacity;
    uint32_t n_segments;
    unsigned depth; /* n_segments is in [2^depth, 2^(depth + 1)) */
    uint64_t n_keys;
    size_t slot_bytes;
};

void table_init(struct table *table, struct memory *memory, uint64_t seed);
/* Make an empty table as large as `n_keys` will need, so that it need not grow under them. */
void table_reserve(struct table *table, uint64_t n_keys);
/* Can the segment of a key with this hash take one more? Fails only for names chosen to collide. */
bool table_has_room(const struct table *table, uint64_t hash);
/* The slots are given up with the memory they came from (memory_discard). */
void table_fini(struct table *table);

uint64_t table_hash(const struct table *table, const void *name, size_t len);
struct key *table_find(const struct table *table, uint64_t hash, const void *name, size_t len);
/* Fetch ahead what table_find will touch: first the slots; later, when they have come, the key. */
void table_prefetch_slots(const struct table *table, uint64_t hash);
void table_prefetch_key(const struct table *table, uint64_t hash);
/* Add a key that is not there. */
void table_insert(struct table *table, uint64_t hash, struct key *key);
/* `old` is there: its slot now means `key`, of the same name. */
void table_replace(struct table *table, uint64_t hash, const struct key *old, struct key *key);
void table_remove(struct table *table, uint64_t hash, const struct key *key);

/* The block of a segment's slots was moved to `block`. */
void table_slots_moved(struct table *table, void *block);

/* Visit the keys of at least one point from `cursor` on, unless its segment has none left; gives the next cursor, 0 at
 * the end. */
uint64_t table_scan(const struct table *table, uint64_t cursor, void (*each)(void *ctx, struct key *key), void *ctx);
/* The cursor at which a key of this hash is visited: below TABLE_CURSOR_END. */
#define TABLE_CURSOR_END (UINT64_C(1) << 48)
uint64_t table_cursor(uint64_t hash);
/* Visit keys in the order of their cursors, from `cursor` on, at most to the end of its segment; once `each` gives
 * false, only the others of the same point. Gives the next cursor, TABLE_CURSOR_END at the end. Keys that stay are
 * visited exactly once, however the table grows and shrinks between the calls. */
uint64_t table_walk(const struct table *table, uint64_t cursor, bool (*each)(void *ctx, struct key *key), void *ctx);
/* The key in a slot chosen by `random`, NULL if that slot is empty. */
struct key *table_pick(const struct table *table, uint64_t random);
size_t table_bytes(const struct table *table);

#endif
