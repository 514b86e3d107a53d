/* Inside store/: what a command family needs: its table and helpers for replies and arguments. */
#ifndef LOCKSTEP_FAMILY_H
#define LOCKSTEP_FAMILY_H

#include "store/store.h"

/* Each family's table ends with a NULL name. store/command.c lists the families. */
extern const struct store_command store_family_string[];  /* cmd_string.c */
extern const struct store_command store_family_generic[]; /* cmd_generic.c: keys, expiry, scan, object, flush */

/* Reply helpers; all accept NULL. */
void reply_status(struct store_reply *r, const char *text);
void reply_ok(struct store_reply *r);
void reply_error(struct store_reply *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void reply_integer(struct store_reply *r, int64_t value);
void reply_bulk(struct store_reply *r, const void *data, size_t len);
void reply_null(struct store_reply *r);
void reply_null_array(struct store_reply *r);
void reply_array(struct store_reply *r, size_t n);
void reply_wrong_type(struct store_reply *r);
void reply_syntax_error(struct store_reply *r);
void reply_not_integer(struct store_reply *r);

/* Argument helpers, with Redis's rules (no leading spaces, no plus sign, full consumption). */
bool arg_integer(struct iovec arg, int64_t *value);
bool arg_is(struct iovec arg, const char *word); /* case-insensitive */

#endif
