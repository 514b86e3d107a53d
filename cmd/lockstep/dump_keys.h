/* The keys of a store, printed for `lockstep dump --keys`; and bytes as JSON. */
#ifndef LOCKSTEP_DUMP_KEYS_H
#define LOCKSTEP_DUMP_KEYS_H

#include <jansson.h>
#include <stdbool.h>

#include "store/store.h"

/* In no particular order; keys that are dead are left out. False: out of memory. */
bool dump_keys(struct store *store, bool json);
/* A JSON string; bytes that are not UTF-8 each become the character of that number, and *binary is set. */
json_t *dump_bytes_json(const void *data, size_t len, bool *binary);

#endif
