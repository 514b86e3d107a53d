/* Decides whether a concurrent history of operations on one key could have come from one register that executes them
 * one at a time, each at some instant between its invocation and its return (Herlihy and Wing 1990), by the search of
 * Wing and Gong (1993) with the memory of Lowe (2017). Knows nothing of clusters; pure. */
#ifndef LOCKSTEP_LINEARIZABILITY_H
#define LOCKSTEP_LINEARIZABILITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The outcome is unknown: the operation takes effect at any time from its invocation on, or never. */
#define LIN_NEVER UINT64_MAX

enum lin_kind {
    LIN_GET,    /* -> value or nil */
    LIN_SET,    /* arg -> OK */
    LIN_SETNX,  /* arg -> OK if the key was absent, else nil */
    LIN_GETSET, /* arg -> the old value or nil */
    LIN_DEL,    /* -> 1 if the key existed, else 0 */
    LIN_APPEND, /* arg -> new length */
    LIN_INCRBY, /* delta -> new value, error if the value is not an integer */
    LIN_CAS     /* expect (or absent), arg -> OK only if the value equals `expect`; a failure proves nothing, because a
                   revision may differ where values agree */
};

enum lin_outcome { LIN_NIL, LIN_VALUE, LIN_INTEGER, LIN_OK, LIN_ERROR };

struct lin_op {
    enum lin_kind kind;
    uint64_t invoke;
    uint64_t ret; /* > invoke; LIN_NEVER: the outcome below is not looked at */
    const void *arg;
    size_t arg_len;
    const void *expect; /* LIN_CAS; NULL: absent */
    size_t expect_len;
    int64_t delta;
    enum lin_outcome outcome;
    const void *value; /* LIN_VALUE */
    size_t value_len;
    int64_t integer; /* LIN_INTEGER */
};

enum lin_result {
    LIN_LINEARIZABLE,
    LIN_VIOLATION,
    LIN_TOO_HARD /* the search was given up after `steps_max` steps */
};

struct lin_report {
    uint64_t steps;
    /* Of a violation: the longest order found, and the operation that could not be placed after it. */
    unsigned placed;
    unsigned stuck; /* position in `ops` of the operation that had to come next and could not */
};

/* The key is absent at first. `ops` in any order, borrowed. steps_max bounds time and memory; 0: 2,000,000. */
enum lin_result lin_check(const struct lin_op *ops, unsigned n, uint64_t steps_max, struct lin_report *report);

#endif
