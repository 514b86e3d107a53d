/* Inside store/: the memory of one keyspace: small blocks in size classes without a header per block, large ones by
 * malloc or mmap. Owns its regions; knows nothing of keys. The caller remembers each block's size. Aborts when real
 * memory is exhausted. */
#ifndef LOCKSTEP_MEMORY_H
#define LOCKSTEP_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Largest block served from the size classes. */
#define MEMORY_SMALL_MAX 4096u

struct memory;

/* What a block is for; blocks of different kinds don't share pages. */
enum memory_kind {
    MEMORY_FIXED, /* stays where it is */
    MEMORY_KEY,   /* small ones may be moved by memory_tidy */
    MEMORY_SLOTS, /* as well */
    MEMORY_KINDS
};

struct memory *memory_new(void);
void memory_free(struct memory *memory);

/* `size` from 1. The block is not zeroed, and aligned to 2 only, or to 64 if the size is a multiple of 64. */
void *memory_alloc(struct memory *memory, enum memory_kind kind, size_t size);
/* `kind` and `size` as given to memory_alloc, or any size of equal memory_usable. */
void memory_release(struct memory *memory, enum memory_kind kind, void *block, size_t size);
/* Bytes that a block of `size` really holds. Depends on `size` alone. */
size_t memory_usable(size_t size);

/* Give up every block at once. Costs no more than a few list operations: the memory is reused by later allocations or
 * given back to the system by memory_step. */
void memory_discard(struct memory *memory);
/* Moves every live block, where it lies, to a memory of its own, and leaves this one as if it had given them up. As
 * cheap as memory_discard. Gives a memory, for memory_absorb. */
struct memory *memory_detach(struct memory *memory);
/* Takes `other`, whose live blocks are given up: they are given back through `memory`. */
void memory_absorb(struct memory *memory, struct memory *other);
/* As memory_release, for a block above MEMORY_SMALL_MAX: any size costs the same here, the rest is memory_step's. */
void memory_release_later(struct memory *memory, void *block);

/* Give back at most about `bytes` of what was discarded or released; false when nothing is left to give back. */
bool memory_step(struct memory *memory, size_t bytes);

/* Empty sparse pages by moving a few of their blocks, in proportion to what was released since the last call. `move`
 * copies `bytes` from one block to the other and tells the block's owner; it must not allocate or release. Call it
 * where nobody holds a pointer into a block. */
typedef void memory_move(void *ctx, enum memory_kind kind, void *to, void *from, size_t bytes);
void memory_tidy(struct memory *memory, memory_move *move, void *ctx);

/* Bytes held from the system for live blocks and free space within their pages; what waits for memory_step is not
 * counted. */
size_t memory_bytes(const struct memory *memory);

#endif
