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

struct memory *memory_new(void);
void memory_free(struct memory *memory);

/* `size` from 1. The block is not zeroed, and aligned to 2 only. */
void *memory_alloc(struct memory *memory, size_t size);
/* `size` as given to memory_alloc, or any size of equal memory_usable. */
void memory_release(struct memory *memory, void *block, size_t size);
/* Bytes that a block of `size` really holds. Depends on `size` alone. */
size_t memory_usable(size_t size);

/* Give up every block at once. Costs no more than a few list operations: the memory is reused by later allocations or
 * given back to the system by memory_step. */
void memory_discard(struct memory *memory);
/* Give back at most about `bytes` of what was discarded or released; false when nothing is left to give back. */
bool memory_step(struct memory *memory, size_t bytes);

/* Bytes held from the system for live blocks and free space within their pages; what waits for memory_step is not
 * counted. */
size_t memory_bytes(const struct memory *memory);

#endif
