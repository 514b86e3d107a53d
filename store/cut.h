/* Inside store/: what makes a snapshot a consistent cut: the state at one revision, while keys change. Owns what writes
 * would have destroyed. Knows nothing of the stream's header, trailer or steps.
 *
 * Keys are walked in the order of the table. Everything that belongs to the cut has a revision up to the cut's, and
 * what is written later has a higher one: so the walk takes the former and leaves out the latter, and a write saves
 * what it is about to destroy if that belongs to the cut and lies ahead of the walk's front. Nothing else needs to be
 * remembered, and nothing is saved twice.
 * - Small keys are saved as copies, encoded for the stream, in a queue of chunks.
 * - Blocks above MEMORY_SMALL_MAX never move: they are not copied, but handed over instead of being released; a change
 * in place becomes a change of a copy. The walk puts such a key in a list too, and passes on.
 * - FLUSHALL hands over the table and the memory as they are.
 * A cut whose saved bytes pass the limit gives up: it fails, and writes go on. */
#ifndef LOCKSTEP_CUT_H
#define LOCKSTEP_CUT_H

#include "store/memory.h"
#include "store/table.h"

#define CUT_CHUNK_BYTES ((size_t)64 * 1024)

struct cut_chunk {
    struct cut_chunk *next;
    size_t begin, end; /* of what is to be emitted */
    uint8_t data[CUT_CHUNK_BYTES - 3 * sizeof(size_t)];
};

/* A block above MEMORY_SMALL_MAX. */
struct cut_large {
    struct cut_large *next;
    struct key *key;
    size_t bytes;
    bool owned; /* no longer part of the keyspace */
};

struct cut {
    uint64_t revision;         /* what belongs to the cut has this or an earlier one */
    uint64_t front;            /* cursors below have been walked */
    const struct table *table; /* the store's, or `detached_table` */
    struct memory *memory;     /* where blocks lie: the store's, or what was detached */
    struct table detached_table;
    bool detached;
    bool failed;
    struct cut_chunk *chunks, *chunks_last;
    struct cut_chunk *spare;
    struct cut_large *saved, *saved_last; /* by writes: owned */
    struct cut_large *walked;             /* by the walk: owned once a write has destroyed them */
    size_t side_bytes;                    /* of chunks, and of blocks in `saved` */
    size_t side_bytes_max;
    uint64_t n_copied; /* keys in chunks so far, and the sum of their digests */
    uint64_t copied_digests;
};

void cut_init(struct cut *cut, const struct table *table, struct memory *memory, uint64_t revision,
              size_t side_bytes_max);
/* Gives `memory`, the store's, what is to be given back to the system. */
void cut_fini(struct cut *cut, struct memory *memory);

/* A write is about to change or remove a key: copies it if that is called for. `digest` is digest_key's. */
void cut_save(struct cut *cut, const struct key *key, uint64_t digest);
/* Must this block stay as it is, and be handed over when the keyspace is done with it? */
bool cut_keeps(const struct cut *cut, const struct key *key);
/* Takes a block of which cut_keeps was true. False: it gave up, the block is still the caller's. */
bool cut_take_block(struct cut *cut, struct key *key, size_t bytes);
/* Takes the table with everything in `memory`, unless it has done so already: then false. */
bool cut_take_content(struct cut *cut, const struct table *table, struct memory *memory);

/* For the walk: the key is met, and is large. */
void cut_remember(struct cut *cut, struct key *key, size_t bytes);
/* The next large block to be emitted, NULL if there is none; it stays in its list until cut_drop. */
struct cut_large *cut_next_large(const struct cut *cut);
void cut_drop(struct cut *cut, struct cut_large *large);
/* The first chunk has been emitted. */
void cut_drop_chunk(struct cut *cut);

#endif
