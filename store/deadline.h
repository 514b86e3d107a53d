/* Inside store/: the keys that have a deadline, soonest first. Owns the heap, not the keys, which hold their deadline
 * and their place in it.
 * Order: (deadline, name as bytes, shorter first). Knows nothing of time. */
#ifndef LOCKSTEP_DEADLINE_H
#define LOCKSTEP_DEADLINE_H

#include "store/key.h"
#include "store/memory.h"

struct deadline {
    uint64_t at_ms;
    struct key *key;
};

struct deadlines {
    struct memory *memory; /* borrowed */
    struct deadline **chunks;
    uint32_t n_chunks, chunks_capacity;
    uint32_t n;
};

void deadlines_init(struct deadlines *deadlines, struct memory *memory);
/* The heap is given up with the memory it came from (memory_discard). */
void deadlines_fini(struct deadlines *deadlines);
/* The deadline is set in the key too. */
void deadlines_add(struct deadlines *deadlines, struct key *key, uint64_t at_ms);
/* The same in bulk: until deadlines_order has said that all is done, only this may be called. */
void deadlines_append(struct deadlines *deadlines, struct key *key, uint64_t at_ms);
/* Makes a heap of what was appended, in pieces of about `budget` keys; `*at` is 0 before the first. True when done. */
bool deadlines_order(struct deadlines *deadlines, uint64_t *at, uint64_t budget);
void deadlines_remove(struct deadlines *deadlines, const struct key *key);
void deadlines_change(struct deadlines *deadlines, struct key *key, uint64_t at_ms);
/* The key's block has moved; its name and place have not. */
void deadlines_moved(struct deadlines *deadlines, struct key *key);
/* The soonest, NULL if there is none. */
const struct deadline *deadlines_first(const struct deadlines *deadlines);
size_t deadlines_bytes(const struct deadlines *deadlines);

#endif
