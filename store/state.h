/* Inside store/: what a store is made of. Only keyspace*.c, store.c and snapshot*.c look inside; command families
 * use keyspace.h. */
#ifndef LOCKSTEP_STATE_H
#define LOCKSTEP_STATE_H

#include "store/cut.h"
#include "store/deadline.h"
#include "store/keyspace.h"
#include "store/memory.h"
#include "store/table.h"

struct store {
    struct table table;
    struct deadlines deadlines;
    struct memory *memory;
    struct cut *cut; /* of the running snapshot, NULL if there is none */
    uint64_t time_ms;
    uint64_t revision;
    uint64_t key_digests;   /* sum of the digests of all keys */
    uint64_t logical_bytes; /* see store_memory */
    uint64_t read_random;   /* state of keyspace_read_random; not content */
    uint64_t read_time_ms;  /* see store_set_read_time; not content */
    struct store_stats stats;
    struct iovec *argv; /* reused by apply */
    unsigned argv_capacity;
};

void keyspace_init(struct store *store, const struct store_config *config);
void keyspace_fini(struct store *store);
/* Take the content of `loaded`, which is left empty; revision, time and sums are the caller's. */
void keyspace_replace(struct store *store, struct store *loaded);
/* What a key counts in store_memory. */
uint64_t keyspace_logical_bytes(const struct key *key);
/* Between commands: a bounded piece of the work that keeps memory dense. Pointers to keys end here. */
void keyspace_tidy(struct store *store);

#endif
