/* Inside store/: the commands on keys of any type. The table is in cmd_generic.c; who executes what is grouped by
 * file. */
#ifndef LOCKSTEP_CMD_GENERIC_H
#define LOCKSTEP_CMD_GENERIC_H

#include "store/keyspace.h"

/* The word by which clients know a type: "string". */
const char *type_name(enum keyspace_type type);

/* cmd_expire.c: deadlines */
void cmd_expire(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_pexpire(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_expireat(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_pexpireat(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_ttl(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_pttl(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_expiretime(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_pexpiretime(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_persist(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);

/* cmd_scan.c: walks */
void cmd_keys(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
void cmd_scan(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);

/* cmd_object.c: what a value looks like inside */
extern const struct store_command object_subcommands[];
void cmd_object(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);

#endif
