/* A blocking connection to one server: hiredis connects, formats and sends; replies are read here, since hiredis 0.14
 * cannot read RESP3. Owns the socket and the last reply's bytes. */
#ifndef LOCKSTEP_CONNECTION_H
#define LOCKSTEP_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "cmd/lockstep/options.h"
#include "cmd/lockstep/reply.h"

#define CONNECTION_ERROR_MAX 300

struct connection; /* opaque */

/* timeout_ms bounds connecting, and each read if `reads_too`. NULL: message in `error`. Freed by connection_close. */
struct connection *connection_open(const struct address *address, unsigned timeout_ms, bool reads_too,
                                   char error[CONNECTION_ERROR_MAX]);
void connection_close(struct connection *connection);

/* Send one command. False: connection_error says why, and the connection is of no more use. */
bool connection_send(struct connection *connection, int argc, const char *const *argv, const size_t *lens);
/* Read one reply: its bytes, borrowed until the next call. False as above. */
bool connection_read(struct connection *connection, const char **data, size_t *len);
/* Send words and read the reply's first item (its text is borrowed until the next call). */
bool connection_call(struct connection *connection, int argc, const char *const *argv, struct reply_item *item);
const char *connection_error(const struct connection *connection);

#endif
