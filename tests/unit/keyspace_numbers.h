/* For unit tests of the keyspace: keys that are a word and a number, with the number as their value. */
#ifndef LOCKSTEP_KEYSPACE_NUMBERS_H
#define LOCKSTEP_KEYSPACE_NUMBERS_H

#include <stdio.h>
#include <string.h>

#include "store/keyspace.h"

static inline void set_number(struct store *store, const char *kind, unsigned i)
{
    char name[32];
    int len = snprintf(name, sizeof name, "%s%u", kind, i);
    keyspace_set_string(store, name, (size_t)len, &i, sizeof i, KEYSPACE_NO_DEADLINE);
}

static inline bool delete_number(struct store *store, const char *kind, unsigned i)
{
    char name[32];
    int len = snprintf(name, sizeof name, "%s%u", kind, i);
    struct key *key = keyspace_find(store, name, (size_t)len);
    if (key != NULL) {
        keyspace_delete(store, key);
    }
    return key != NULL;
}

static inline bool has_number(const struct store *store, const char *kind, unsigned i)
{
    char name[32];
    int len = snprintf(name, sizeof name, "%s%u", kind, i);
    const struct key *key = keyspace_find(store, name, (size_t)len);
    return key != NULL && memcmp(key_value(key).iov_base, &i, sizeof i) == 0;
}

#endif
