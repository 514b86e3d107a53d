#include "tests/sim/sim_history.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 400000u

static const char *const kind_names[] = {"GET",    "SET", "SETNX",   "GETSET",  "DEL",      "APPEND",
                                         "INCRBY", "CAS", "TTL-SET", "TTL-GET", "TRANSFER", "BALANCE"};

void sim_history_fini(struct sim_history *history)
{
    for (size_t i = 0; i < history->n; i++) {
        free(history->ops[i]->arg);
        free(history->ops[i]->expect);
        free(history->ops[i]->value);
        free(history->ops[i]);
    }
    free(history->ops);
    memset(history, 0, sizeof *history);
}

struct sim_op *sim_history_add(struct sim_history *history, uint64_t now_us)
{
    struct sim_op *op = calloc(1, sizeof *op);

    assert(op != NULL);
    if (history->n == history->capacity) {
        history->capacity = history->capacity == 0 ? 1024 : 2 * history->capacity;
        history->ops = realloc(history->ops, history->capacity * sizeof(struct sim_op *));
        assert(history->ops != NULL);
    }
    op->id = history->n + 1;
    op->invoke_us = now_us;
    op->return_us = SIM_NEVER;
    history->ops[history->n++] = op;
    return op;
}

bool sim_op_is_read(enum sim_op_kind kind)
{
    return kind == SIM_GET || kind == SIM_TTL_GET || kind == SIM_BALANCE;
}

static void describe_outcome(const struct sim_op *op, char *text, size_t bytes)
{
    static const char *const states[] = {"pending", "", "failed", "UNKNOWN"};

    if (op->state != SIM_OP_OK) {
        snprintf(text, bytes, "%s", states[op->state]);
        return;
    }
    switch (op->outcome) {
    case LIN_NIL:
        snprintf(text, bytes, "nil");
        return;
    case LIN_VALUE:
        snprintf(text, bytes, "\"%.*s\"", (int)op->value_len, op->value);
        return;
    case LIN_INTEGER:
        snprintf(text, bytes, "%" PRId64, op->integer);
        return;
    case LIN_OK:
        snprintf(text, bytes, "OK");
        return;
    case LIN_ERROR:
        snprintf(text, bytes, "error");
        return;
    }
}

const char *sim_op_describe(const struct sim_op *op, char *text, size_t bytes)
{
    char outcome[128];
    char until[24] = "never";

    describe_outcome(op, outcome, sizeof outcome);
    if (op->return_us != SIM_NEVER) {
        snprintf(until, sizeof until, "%.6f", (double)op->return_us / 1e6);
    }
    snprintf(text, bytes,
             "#%" PRIu64 " [%.6f, %s] client %u node %u %s %s %.*s%s%" PRId64 " -> %s (index %" PRIu64
             ", floor %" PRIu64 ")",
             op->id, (double)op->invoke_us / 1e6, until, op->client, op->node + 1, kind_names[op->kind], op->key,
             op->arg == NULL ? 0 : (int)op->arg_len, op->arg == NULL ? "" : op->arg, op->arg == NULL ? "" : " ",
             op->delta, outcome, op->index, op->floor);
    return text;
}

/* --- Linearizability per key ---------------------------------------------------------------------------------------
 */

static bool op_is_register(const struct sim_op *op)
{
    return op->kind <= SIM_CAS;
}

static bool op_matters(const struct sim_op *op)
{
    if (op->state == SIM_OP_FAILED) {
        return false;
    }
    return op->state == SIM_OP_OK || !sim_op_is_read(op->kind);
}

static struct lin_op to_lin(const struct sim_op *op)
{
    static const enum lin_kind kinds[] = {LIN_GET, LIN_SET,    LIN_SETNX,  LIN_GETSET,
                                          LIN_DEL, LIN_APPEND, LIN_INCRBY, LIN_CAS};

    assert(op_is_register(op));
    return (struct lin_op){
        .kind = kinds[op->kind],
        .invoke = op->invoke_us,
        .ret = op->state == SIM_OP_OK ? op->return_us + 1 : LIN_NEVER,
        .arg = op->arg,
        .arg_len = op->arg_len,
        .expect = op->expect,
        .expect_len = op->expect_len,
        .delta = op->delta,
        .outcome = op->outcome,
        .value = op->value,
        .value_len = op->value_len,
        .integer = op->integer,
    };
}

static int by_key(const void *a, const void *b)
{
    const struct sim_op *x = *(struct sim_op *const *)a;
    const struct sim_op *y = *(struct sim_op *const *)b;
    int order = strcmp(x->key, y->key);

    return order != 0 ? order : (x->id < y->id ? -1 : 1);
}

static void check_register(struct sim_history *history, struct sim_world *world, struct sim_op **ops, unsigned n)
{
    struct lin_op *lin = calloc(n, sizeof *lin);
    struct lin_report report;
    char text[400];

    assert(lin != NULL);
    for (unsigned i = 0; i < n; i++) {
        lin[i] = to_lin(ops[i]);
    }
    history->keys_checked++;
    history->ops_checked += n;
    switch (lin_check(lin, n, STEPS_MAX, &report)) {
    case LIN_LINEARIZABLE:
        break;
    case LIN_TOO_HARD:
        history->too_hard++;
        break;
    case LIN_VIOLATION:
        sim_world_violation(world, "linearizability",
                            "key %s: no order explains %u operations; after %u of them stuck "
                            "at %s",
                            ops[0]->key, n, report.placed, sim_op_describe(ops[report.stuck], text, sizeof text));
        world->violation_us = ops[report.stuck]->invoke_us;
        break;
    }
    history->steps += report.steps;
    free(lin);
}

/* --- Keys with a lifetime ------------------------------------------------------------------------------------------
 */

/* Each such key is written once, ops[0], and read many times. It must be there until its time has come, whatever single
 * wall clocks do, and once it was seen to be gone it stays gone. How long it lingers is checked at the end of the run.
 * Its deadline is in cluster time: where that was behind when the key was written, it may have caught up since. */
static void check_lifetime(struct sim_world *world, struct sim_op **ops, unsigned n,
                           const struct sim_history_limits *limits)
{
    const struct sim_op *write = ops[0];
    uint64_t lifetime_us = write->ttl_ms * 1000;
    uint64_t slack_us =
        2 * limits->clock_spread_ms * 1000 + 20000 + lifetime_us / 1000000 * limits->rate_ppm + write->lag_us;
    uint64_t gone_us = SIM_NEVER; /* earliest return of a read that found it gone after it was there */
    char text[400];

    assert(write->kind == SIM_TTL_SET);
    for (unsigned i = 1; i < n; i++) {
        const struct sim_op *read = ops[i];
        bool after = write->state == SIM_OP_OK && read->invoke_us > write->return_us;

        if (read->kind != SIM_TTL_GET || read->state != SIM_OP_OK) {
            continue;
        }
        if (read->outcome == LIN_VALUE) {
            if (read->value_len != write->arg_len || memcmp(read->value, write->arg, write->arg_len) != 0) {
                sim_world_violation(world, "lifetime", "a value nobody wrote: %s",
                                    sim_op_describe(read, text, sizeof text));
            } else if (read->invoke_us > gone_us) {
                sim_world_violation(world, "lifetime", "came back to life: %s",
                                    sim_op_describe(read, text, sizeof text));
            }
            continue;
        }
        if (after && read->return_us + slack_us < write->invoke_us + lifetime_us) {
            sim_world_violation(world, "lifetime", "expired %.3f s after a write with a lifetime of %.3f s: %s",
                                (double)(read->return_us - write->invoke_us) / 1e6, (double)lifetime_us / 1e6,
                                sim_op_describe(read, text, sizeof text));
        }
        if (after && read->return_us < gone_us) {
            gone_us = read->return_us;
        }
    }
}

/* --- Everything -------------------------------------------------------------------------------------------------- */

static void check_balances(const struct sim_history *history, struct sim_world *world)
{
    char text[400];

    for (size_t i = 0; i < history->n; i++) {
        const struct sim_op *op = history->ops[i];

        if (op->kind == SIM_BALANCE && op->state == SIM_OP_OK && op->integer != 0) {
            sim_world_violation(world, "atomicity", "accounts sum up to %" PRId64 ", not 0: %s", op->integer,
                                sim_op_describe(op, text, sizeof text));
        }
    }
}

void sim_history_check(struct sim_history *history, struct sim_world *world, const struct sim_history_limits *limits)
{
    struct sim_op **ops = calloc(history->n + 1, sizeof(struct sim_op *));
    size_t n = 0;

    assert(ops != NULL);
    history->keys_checked = history->ops_checked = history->steps = history->too_hard = 0;
    check_balances(history, world);
    for (size_t i = 0; i < history->n; i++) {
        const struct sim_op *op = history->ops[i];

        if ((op_is_register(op) && op_matters(op)) || op->kind == SIM_TTL_SET || op->kind == SIM_TTL_GET) {
            ops[n++] = history->ops[i];
        }
    }
    qsort(ops, n, sizeof *ops, by_key);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && strcmp(ops[to]->key, ops[from]->key) == 0; to++) {
        }
        if (ops[from]->kind == SIM_TTL_SET) {
            check_lifetime(world, ops + from, (unsigned)(to - from), limits);
        } else {
            check_register(history, world, ops + from, (unsigned)(to - from));
        }
    }
    free(ops);
}

void sim_history_print(const struct sim_history *history, const char *key, uint64_t around_us, unsigned n)
{
    char text[400];
    size_t last = 0;
    unsigned before = 0;
    size_t from;

    while (last < history->n && history->ops[last]->invoke_us <= around_us) {
        last++;
    }
    for (from = last; from > 0 && before < n; from--) {
        before += key == NULL || strcmp(history->ops[from - 1]->key, key) == 0 ? 1 : 0;
    }
    for (unsigned printed = 0; from < history->n && printed < n + 10; from++) {
        const struct sim_op *op = history->ops[from];

        if ((key == NULL || strcmp(op->key, key) == 0) && op->state != SIM_OP_FAILED) {
            fprintf(stderr, "    %s\n", sim_op_describe(op, text, sizeof text));
            printed++;
        }
    }
}
