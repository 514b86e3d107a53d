/* Inside store/: turns the time arguments of commands into absolute deadlines. Pure but for the replies it gives. */
#ifndef LOCKSTEP_EXPIRY_H
#define LOCKSTEP_EXPIRY_H

#include "store/store.h"

/* How a time argument is meant. */
enum expiry_unit { EXPIRY_NONE = 0, EXPIRY_EX, EXPIRY_PX, EXPIRY_EXAT, EXPIRY_PXAT };

/* Has a deadline passed at the store's time? */
bool expiry_passed(const struct store *store, int64_t deadline_ms);

/* The time argument of SET, SETEX, GETEX and their like, which must be positive. On success *deadline_ms is absolute;
 * otherwise the error, naming `command`, has been replied. */
bool expiry_parse(const struct store *store, struct iovec arg, enum expiry_unit unit, const char *command,
                  int64_t *deadline_ms, struct store_reply *reply);

/* The time argument of EXPIRE and its like, which may be zero or negative: *deadline_ms may lie before the epoch. */
bool expiry_parse_signed(const struct store *store, struct iovec arg, enum expiry_unit unit, const char *command,
                         int64_t *deadline_ms, struct store_reply *reply);

#endif
