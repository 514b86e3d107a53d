/* Inside store/: the table of keys, their values, deadlines and revisions. Owns all entry memory; knows nothing of
 * commands or entries of the log. Command families (store/cmd_*.c) use only this. */
#ifndef LOCKSTEP_KEYSPACE_H
#define LOCKSTEP_KEYSPACE_H

#include "store/store.h"

#define KEYSPACE_NO_DEADLINE UINT64_MAX

enum keyspace_type { KEYSPACE_STRING = 0, KEYSPACE_LIST, KEYSPACE_SET, KEYSPACE_ZSET, KEYSPACE_HASH, KEYSPACE_STREAM };

struct key; /* one live key; a pointer is valid until the next mutating call */

/* Find a live key (a key past its deadline at store_time is not found). Counts a hit or miss only via `_read`. */
struct key *keyspace_find(const struct store *store, const void *key, size_t len);
struct key *keyspace_find_read(struct store *store, const void *key, size_t len);

enum keyspace_type key_type(const struct key *key);
struct iovec key_name(const struct key *key);
struct iovec key_value(const struct key *key);   /* strings: borrowed until the next mutating call */
uint64_t key_deadline_ms(const struct key *key); /* absolute, KEYSPACE_NO_DEADLINE if none */
uint64_t key_revision(const struct key *key);

/* Mutations. Each call that changes something is one mutation: it takes the next revision and updates the digest,
 * the deadline index and the logical size. `value` must not point into the keyspace unless noted. Aborts when real
 * memory is exhausted. */

/* Create or replace with a string; deadline KEYSPACE_NO_DEADLINE: none. `value` may be a piece of the key's own old
 * value (it is copied before the old one goes). */
void keyspace_set_string(struct store *store, const void *key, size_t key_len, const void *value, size_t len,
                         uint64_t deadline_ms);
/* The same, with the value in two pieces, so that APPEND needs no temporary. Keeps the deadline of `key`. */
void keyspace_append(struct store *store, struct key *key, const void *data, size_t len);
/* Overwrite [offset, offset + len) of a string, zero-padding a gap; keeps the deadline. */
void keyspace_set_range(struct store *store, struct key *key, size_t offset, const void *data, size_t len);
void keyspace_set_deadline(struct store *store, struct key *key, uint64_t deadline_ms); /* NO_DEADLINE: persist */
void keyspace_delete(struct store *store, struct key *key);
/* Move: `to` (not equal to the source) gets type, value and deadline; an existing one is replaced. One mutation. */
void keyspace_rename(struct store *store, struct key *key, const void *to, size_t to_len);
/* Copy under another name (replacing it); one mutation. */
void keyspace_copy(struct store *store, struct key *key, const void *to, size_t to_len);
/* Remove everything: one mutation; memory is given back step by step by later calls, not here. */
void keyspace_flush(struct store *store);

/* Walk for SCAN, KEYS: visit at least one bucket from `cursor` (0 starts), return the next cursor (0 ends). Every key
 * present from the first call to the last is visited at least once however the table grows meanwhile. No mutation
 * inside `each`. */
uint64_t keyspace_scan(const struct store *store, uint64_t cursor, void (*each)(void *ctx, const struct key *key),
                       void *ctx);
/* A random live key, NULL if there is none. `random` is any 64-bit number. */
struct key *keyspace_random(const struct store *store, uint64_t random);
/* The time that replies count down to: the store's, or a later one set by store_set_read_time. */
uint64_t keyspace_read_time_ms(const struct store *store);
/* 64 random bits for reads only. */
uint64_t keyspace_read_random(struct store *store);

/* Move cluster time forward (never back) and remove at most `budget` keys that are due, in the order of (deadline,
 * key bytes), one mutation each. */
void keyspace_advance(struct store *store, uint64_t time_ms, unsigned budget);

#endif
