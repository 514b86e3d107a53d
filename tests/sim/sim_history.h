/* The history of client operations of one run: what was asked when, and what came back when, in true time. Owns the
 * operations; decides whether the whole is consistent (linearizability per key, lifetimes, balances). Knows nothing of
 * clusters. */
#ifndef LOCKSTEP_SIM_HISTORY_H
#define LOCKSTEP_SIM_HISTORY_H

#include "tests/sim/linearizability.h"
#include "tests/sim/sim_world.h"

#define SIM_KEY_BYTES 24u
#define SIM_ACCOUNTS 4u /* keys acc0.. whose sum transfers keep at 0 */

enum sim_op_kind {
    SIM_GET,
    SIM_SET,
    SIM_SETNX,
    SIM_GETSET,
    SIM_DEL,
    SIM_APPEND,
    SIM_INCRBY,
    SIM_CAS,     /* WATCH (by revision), MULTI, SET, EXEC */
    SIM_TTL_SET, /* SET PX on a key of its own */
    SIM_TTL_GET,
    SIM_TRANSFER, /* MULTI, DECRBY, INCRBY, EXEC */
    SIM_BALANCE   /* MGET of all accounts */
};

enum sim_op_state {
    SIM_OP_PENDING,
    SIM_OP_OK,     /* answered */
    SIM_OP_FAILED, /* known not to have been executed */
    SIM_OP_UNKNOWN /* it may have been executed, or may yet be */
};

struct sim_op {
    uint64_t id;
    enum sim_op_kind kind;
    enum sim_op_state state;
    unsigned client, node;
    char key[SIM_KEY_BYTES];
    char *arg; /* owned */
    size_t arg_len;
    char *expect; /* owned; NULL: absent */
    size_t expect_len;
    uint64_t revision; /* SIM_CAS: watched; SIM_GET: seen */
    int64_t delta;
    uint64_t ttl_ms;
    unsigned from, to; /* accounts */
    uint64_t invoke_us, return_us;
    enum lin_outcome outcome;
    char *value; /* owned */
    size_t value_len;
    int64_t integer;
    uint64_t floor;  /* highest index known to be acknowledged when it was invoked */
    uint64_t lag_us; /* by which cluster time was behind true time when a SIM_TTL_SET was answered */
    uint64_t index;  /* at which it was applied, or that a read saw; 0: unknown */
};

struct sim_history {
    struct sim_op **ops; /* in order of invocation */
    size_t n, capacity;
    /* Results of the last check. */
    uint64_t keys_checked, ops_checked, steps, too_hard;
};

void sim_history_fini(struct sim_history *history);
/* A new operation, invoked now; the history owns it, the caller fills it in. */
struct sim_op *sim_history_add(struct sim_history *history, uint64_t now_us);
const char *sim_op_describe(const struct sim_op *op, char *text, size_t bytes);
bool sim_op_is_read(enum sim_op_kind kind);

struct sim_history_limits {
    uint64_t clock_spread_ms; /* how far sane wall clocks are apart */
    uint32_t rate_ppm;        /* how much faster than true time cluster time may run, all told */
};
/* Check everything; violations go to the world. */
void sim_history_check(struct sim_history *history, struct sim_world *world, const struct sim_history_limits *limits);
/* Print the operations on one key around an instant. */
void sim_history_print(const struct sim_history *history, const char *key, uint64_t around_us, unsigned n);

#endif
