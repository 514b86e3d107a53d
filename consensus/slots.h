/* Term, vote and identity in two checksummed slots of one file: owns the file `state`; knows nothing of the log.
 * Synchronous: the driver needs the result before anything else may leave. Format: docs/FORMATS.md, section Slots. */
#ifndef LOCKSTEP_SLOTS_H
#define LOCKSTEP_SLOTS_H

#include "consensus/env.h"

struct slots_state {
    uint8_t cluster[16];  /* cluster uuid */
    uint64_t id;          /* raft id of this node, never 0 */
    uint64_t incarnation; /* of this disk: random, drawn when the directory was initialised, never 0 */
    uint64_t starts;      /* number of starts of this directory */
    uint64_t term;
    uint64_t vote; /* 0: none */
};

struct slots;

enum slots_status {
    SLOTS_OK = 0,
    SLOTS_EMPTY, /* no state file: a new directory; nothing is opened */
    /* Both slots are bad, or they contradict the order of writes, so the newest state may be lost: going on with an
     * older one would allow a double vote. Fail-stop. One bad slot beside a good one is repaired: see slots.c. */
    SLOTS_CORRUPT,
    SLOTS_VERSION,
    SLOTS_IO,
    SLOTS_NO_MEMORY
};

/* Initialise a new directory with `state`, both slots durable. */
enum slots_status slots_create(struct env *env, const struct slots_state *state, struct slots **slots)
    __attribute__((warn_unused_result));
/* Open an existing one. `*error` names the file and what to do. */
enum slots_status slots_open(struct env *env, struct slots **slots, struct slots_state *state, const char **error)
    __attribute__((warn_unused_result));
/* Durably replace the state, in both slots, before returning. */
enum slots_status slots_write(struct slots *slots, const struct slots_state *state) __attribute__((warn_unused_result));
void slots_close(struct slots *slots);

#endif
