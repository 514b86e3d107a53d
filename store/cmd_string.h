/* Inside store/: the commands on strings. The table is in cmd_string.c; who executes what is grouped by file. */
#ifndef LOCKSTEP_CMD_STRING_H
#define LOCKSTEP_CMD_STRING_H

#include "store/keyspace.h"

/* A key of type string, or NULL: then *found_other tells whether it holds another type (and that has been replied). */
struct key *string_find(const struct store *store, struct iovec name, bool *found_other, struct store_reply *reply);
/* The same for reads, which count hits and misses. */
struct key *string_find_read(struct store *store, struct iovec name, bool *found_other, struct store_reply *reply);
/* The value of a string as a reply. */
void string_reply(const struct key *key, struct store_reply *reply);
/* May a string of `len` bytes be extended by `more`? Replies the error if not. */
bool string_length_ok(uint64_t len, uint64_t more, struct store_reply *reply);

/* cmd_set.c: one value, with conditions and deadlines */
void cmd_set(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_setnx(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_setex(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_psetex(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_getset(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_getdel(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_getex(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);

/* cmd_counter.c: strings that are numbers */
void cmd_incr(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_decr(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_incrby(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_decrby(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_incrbyfloat(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);

#endif
