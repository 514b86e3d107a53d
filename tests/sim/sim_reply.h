/* A reply sink that keeps what the store replied. */
#ifndef LOCKSTEP_SIM_REPLY_H
#define LOCKSTEP_SIM_REPLY_H

#include "store/store.h"

#define SIM_REPLY_VALUES_MAX 16u

enum sim_value_type {
    SIM_VALUE_NIL,
    SIM_VALUE_INTEGER,
    SIM_VALUE_BULK,
    SIM_VALUE_STATUS,
    SIM_VALUE_ERROR,
    SIM_VALUE_ARRAY
};

struct sim_value {
    enum sim_value_type type;
    int64_t integer; /* of an array: its length */
    size_t offset, len;
};

struct sim_reply {
    struct store_reply base;                       /* first */
    struct sim_value values[SIM_REPLY_VALUES_MAX]; /* nested replies in order, flattened */
    unsigned n;
    char *bytes;
    size_t len, capacity;
    uint64_t hash; /* over everything, also what did not fit */
};

void sim_reply_init(struct sim_reply *reply);
void sim_reply_reset(struct sim_reply *reply);
void sim_reply_fini(struct sim_reply *reply);
/* The bytes of value `i`, NUL-terminated. */
const char *sim_reply_bytes(const struct sim_reply *reply, unsigned i);

#endif
