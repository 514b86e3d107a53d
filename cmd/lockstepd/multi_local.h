/* Local commands inside a transaction: owns those that are queued, and puts their replies between those of the store's
 * commands. Knows nothing of the rest of a transaction (session_multi.c). Loop thread only.
 *
 * They are no part of the log: the node that the client talks to runs them once the store's commands have been
 * executed, in their places, and not at all if these were not executed. */
#ifndef LOCKSTEP_MULTI_LOCAL_H
#define LOCKSTEP_MULTI_LOCAL_H

#include "cmd/lockstepd/command.h"

struct multi_locals;

/* Why this command can't be queued: an error reply was written to call->out. Its arity is checked already. */
bool multi_local_refused(const struct command *command, struct call *call);
/* Copies one into the list, to be run as the `place`-th of the transaction (from 0). `*locals` may be NULL, and is made
 * then. False: out of memory. */
bool multi_locals_add(struct multi_locals **locals, const struct command *command, const struct iovec *argv,
                      unsigned argc, unsigned place);
unsigned multi_locals_count(const struct multi_locals *locals); /* NULL: 0 */
void multi_locals_free(struct multi_locals *locals);            /* NULL is fine */
/* The reply of EXEC to `out` (`locals` may be NULL): `stored` is that of the store's commands, RESP of `proto`. Runs
 * the local ones if those were executed. */
void multi_locals_finish(const struct multi_locals *locals, struct session *session, int proto,
                         const struct resp_buffer *stored, struct resp_buffer *out);

#endif
