/* The linearizability checker on histories known to be good or bad. */
#include "tests/sim/linearizability.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_random.h"

static struct lin_op op_of(enum lin_kind kind, uint64_t invoke, uint64_t ret, const char *arg)
{
    return (struct lin_op){.kind = kind,
                           .invoke = invoke,
                           .ret = ret,
                           .arg = arg == NULL ? "" : arg,
                           .arg_len = arg == NULL ? 0 : strlen(arg),
                           .outcome = LIN_OK};
}

static struct lin_op set(uint64_t invoke, uint64_t ret, const char *value)
{
    return op_of(LIN_SET, invoke, ret, value);
}

static struct lin_op get(uint64_t invoke, uint64_t ret, const char *value)
{
    struct lin_op op = op_of(LIN_GET, invoke, ret, NULL);

    op.outcome = value == NULL ? LIN_NIL : LIN_VALUE;
    op.value = value;
    op.value_len = value == NULL ? 0 : strlen(value);
    return op;
}

static struct lin_op integer(enum lin_kind kind, uint64_t invoke, uint64_t ret, const char *arg, int64_t delta,
                             int64_t result)
{
    struct lin_op op = op_of(kind, invoke, ret, arg);

    op.delta = delta;
    op.outcome = LIN_INTEGER;
    op.integer = result;
    return op;
}

static struct lin_op cas(uint64_t invoke, uint64_t ret, const char *expect, const char *value, enum lin_outcome outcome)
{
    struct lin_op op = op_of(LIN_CAS, invoke, ret, value);

    op.expect = expect;
    op.expect_len = expect == NULL ? 0 : strlen(expect);
    op.outcome = outcome;
    return op;
}

#define CHECK(ops) lin_check(ops, sizeof(ops) / sizeof(ops)[0], 0, NULL)

START_TEST(empty_history_is_good)
{
    ck_assert_int_eq(lin_check(NULL, 0, 0, NULL), LIN_LINEARIZABLE);
}
END_TEST

START_TEST(sequential_history_is_good)
{
    const struct lin_op ops[] = {
        get(1, 2, NULL),
        set(3, 4, "a"),
        get(5, 6, "a"),
        integer(LIN_APPEND, 7, 8, "bc", 0, 3),
        get(9, 10, "abc"),
        integer(LIN_DEL, 11, 12, NULL, 0, 1),
        integer(LIN_DEL, 13, 14, NULL, 0, 0),
        get(15, 16, NULL),
        integer(LIN_INCRBY, 17, 18, NULL, 5, 5),
        integer(LIN_INCRBY, 19, 20, NULL, -7, -2),
        get(21, 22, "-2"),
    };

    ck_assert_int_eq(CHECK(ops), LIN_LINEARIZABLE);
}
END_TEST

START_TEST(stale_read_is_bad)
{
    const struct lin_op ops[] = {set(1, 2, "a"), set(3, 4, "b"), get(5, 6, "a")};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(read_of_unwritten_value_is_bad)
{
    const struct lin_op ops[] = {set(1, 2, "a"), get(3, 4, "z")};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(lost_write_is_bad)
{
    const struct lin_op ops[] = {set(1, 2, "a"), get(3, 4, NULL)};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(overlapping_write_may_be_seen_or_not)
{
    const struct lin_op seen[] = {set(1, 2, "a"), set(3, 10, "b"), get(4, 5, "b")};
    const struct lin_op unseen[] = {set(1, 2, "a"), set(3, 10, "b"), get(4, 5, "a")};

    ck_assert_int_eq(CHECK(seen), LIN_LINEARIZABLE);
    ck_assert_int_eq(CHECK(unseen), LIN_LINEARIZABLE);
}
END_TEST

START_TEST(value_seen_then_unseen_is_bad)
{
    const struct lin_op ops[] = {set(1, 2, "a"), set(3, 10, "b"), get(4, 5, "b"), get(6, 7, "a")};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(concurrent_writes_take_either_order_once)
{
    const struct lin_op good[] = {set(1, 10, "a"), set(1, 10, "b"), get(11, 12, "a"), get(13, 14, "a")};
    const struct lin_op bad[] = {set(1, 10, "a"), set(1, 10, "b"), get(11, 12, "a"), get(13, 14, "b")};

    ck_assert_int_eq(CHECK(good), LIN_LINEARIZABLE);
    ck_assert_int_eq(CHECK(bad), LIN_VIOLATION);
}
END_TEST

START_TEST(unknown_outcome_may_never_happen)
{
    const struct lin_op ops[] = {set(1, 2, "a"), set(3, LIN_NEVER, "b"), get(100, 101, "a")};

    ck_assert_int_eq(CHECK(ops), LIN_LINEARIZABLE);
}
END_TEST

START_TEST(unknown_outcome_may_happen_late)
{
    const struct lin_op ops[] = {set(1, 2, "a"), set(3, LIN_NEVER, "b"), get(100, 101, "a"), get(200, 201, "b")};

    ck_assert_int_eq(CHECK(ops), LIN_LINEARIZABLE);
}
END_TEST

START_TEST(unknown_outcome_happens_at_most_once)
{
    const struct lin_op ops[] = {set(1, 2, "a"), set(3, LIN_NEVER, "b"), get(10, 11, "b"), set(12, 13, "c"),
                                 get(14, 15, "b")};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(unknown_outcome_is_not_before_its_invocation)
{
    const struct lin_op ops[] = {get(1, 2, "b"), set(3, LIN_NEVER, "b")};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(increment_counted_twice_is_bad)
{
    const struct lin_op ops[] = {integer(LIN_INCRBY, 1, 2, NULL, 1, 1), get(3, 4, "2")};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(increments_with_equal_results_are_bad)
{
    const struct lin_op ops[] = {integer(LIN_INCRBY, 1, 10, NULL, 1, 1), integer(LIN_INCRBY, 2, 9, NULL, 1, 1)};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(increment_of_text_is_an_error)
{
    struct lin_op ops[] = {set(1, 2, "12x"), integer(LIN_INCRBY, 3, 4, NULL, 1, 0), get(5, 6, "12x")};

    ops[1].outcome = LIN_ERROR;
    ck_assert_int_eq(CHECK(ops), LIN_LINEARIZABLE);
    ops[0].arg_len = 2;
    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(two_winners_of_set_nx_are_bad)
{
    struct lin_op ops[] = {op_of(LIN_SETNX, 1, 10, "a"), op_of(LIN_SETNX, 2, 11, "b")};

    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
    ops[1].outcome = LIN_NIL;
    ck_assert_int_eq(CHECK(ops), LIN_LINEARIZABLE);
}
END_TEST

START_TEST(compare_and_set_succeeds_only_on_what_it_expects)
{
    const struct lin_op good[] = {cas(1, 2, NULL, "a", LIN_OK), cas(3, 4, "a", "b", LIN_OK), get(5, 6, "b")};
    const struct lin_op bad[] = {set(1, 2, "a"), set(3, 4, "b"), cas(5, 6, "a", "c", LIN_OK)};
    const struct lin_op failed[] = {set(1, 2, "a"), cas(3, 4, "a", "b", LIN_NIL), get(5, 6, "a")};
    const struct lin_op twice[] = {set(1, 2, "a"), cas(3, 9, "a", "b", LIN_OK), cas(4, 10, "a", "c", LIN_OK)};

    ck_assert_int_eq(CHECK(good), LIN_LINEARIZABLE);
    ck_assert_int_eq(CHECK(bad), LIN_VIOLATION);
    ck_assert_int_eq(CHECK(failed), LIN_LINEARIZABLE);
    ck_assert_int_eq(CHECK(twice), LIN_VIOLATION);
}
END_TEST

START_TEST(exchange_gives_the_old_value)
{
    struct lin_op ops[] = {set(1, 2, "a"), get(3, 4, "a"), get(5, 6, "b")};

    ops[1].kind = LIN_GETSET;
    ops[1].arg = "b";
    ops[1].arg_len = 1;
    ck_assert_int_eq(CHECK(ops), LIN_LINEARIZABLE);
    ops[1].value = "z";
    ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
}
END_TEST

START_TEST(violation_names_the_operation_that_does_not_fit)
{
    const struct lin_op ops[] = {set(1, 2, "a"), set(3, 4, "b"), get(5, 6, "a"), get(7, 8, "b")};
    struct lin_report report;

    ck_assert_int_eq(lin_check(ops, 4, 0, &report), LIN_VIOLATION);
    ck_assert_uint_eq(report.placed, 2);
    ck_assert_uint_eq(report.stuck, 2);
}
END_TEST

/* Twenty unknown increments: exponential without the rule about interchangeable operations. */
START_TEST(many_unknown_increments_are_decided_quickly)
{
    struct lin_op ops[22];
    struct lin_report report;

    for (unsigned i = 0; i < 20; i++) {
        ops[i] = integer(LIN_INCRBY, 1 + i, LIN_NEVER, NULL, 1, 0);
    }
    ops[20] = get(100, 101, "20");
    ops[21] = get(102, 103, "19");
    ck_assert_int_eq(lin_check(ops, 21, 10000, &report), LIN_LINEARIZABLE);
    ck_assert_int_eq(lin_check(ops, 22, 10000, &report), LIN_VIOLATION);
}
END_TEST

START_TEST(search_beyond_its_bound_is_given_up)
{
    struct lin_op ops[18];
    char names[16][4];

    for (unsigned i = 0; i < 16; i++) {
        snprintf(names[i], sizeof names[i], "%c", (char)('a' + i));
        ops[i] = integer(LIN_APPEND, 1, LIN_NEVER, names[i], 0, 0);
    }
    ops[16] = integer(LIN_APPEND, 50, 51, "z", 0, 17);
    ops[17] = get(60, 61, "no such order");
    ck_assert_int_eq(lin_check(ops, 18, 5000, NULL), LIN_TOO_HARD);
}
END_TEST

/* Histories made by a real register with the instants of effect drawn inside each operation must pass; the same with
 * one read changed to a value that was never written must not. */
START_TEST(random_histories_of_a_register_pass_and_damaged_ones_fail)
{
    enum { N = 60 };
    struct sim_random random;

    for (unsigned seed = 0; seed < 200; seed++) {
        struct lin_op ops[N];
        char values[N][8];
        uint64_t effect[N];
        const char *state = NULL;

        sim_random_init(&random, seed);
        for (unsigned i = 0; i < N; i++) { /* effects in order of i, operations overlap by up to 5 */
            effect[i] = 1000 + 10 * i;
            snprintf(values[i], sizeof values[i], "%u", i);
            ops[i] = sim_random_chance(&random, 500000) ? set(0, 1, values[i]) : get(0, 1, state);
            state = ops[i].kind == LIN_SET ? values[i] : state;
            ops[i].invoke = effect[i] - sim_random_below(&random, 50);
            ops[i].ret = effect[i] + 1 + sim_random_below(&random, 50);
            if (ops[i].kind == LIN_SET && sim_random_chance(&random, 100000)) {
                ops[i].ret = LIN_NEVER;
            }
        }
        ck_assert_int_eq(CHECK(ops), LIN_LINEARIZABLE);
        for (unsigned i = N / 2; i < N; i++) {
            if (ops[i].kind == LIN_GET) {
                ops[i] = get(ops[i].invoke, ops[i].ret, "damaged");
                break;
            }
        }
        ck_assert_int_eq(CHECK(ops), LIN_VIOLATION);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("linearizability");
    TCase *tcase = tcase_create("register");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, empty_history_is_good);
    tcase_add_test(tcase, sequential_history_is_good);
    tcase_add_test(tcase, stale_read_is_bad);
    tcase_add_test(tcase, read_of_unwritten_value_is_bad);
    tcase_add_test(tcase, lost_write_is_bad);
    tcase_add_test(tcase, overlapping_write_may_be_seen_or_not);
    tcase_add_test(tcase, value_seen_then_unseen_is_bad);
    tcase_add_test(tcase, concurrent_writes_take_either_order_once);
    tcase_add_test(tcase, unknown_outcome_may_never_happen);
    tcase_add_test(tcase, unknown_outcome_may_happen_late);
    tcase_add_test(tcase, unknown_outcome_happens_at_most_once);
    tcase_add_test(tcase, unknown_outcome_is_not_before_its_invocation);
    tcase_add_test(tcase, increment_counted_twice_is_bad);
    tcase_add_test(tcase, increments_with_equal_results_are_bad);
    tcase_add_test(tcase, increment_of_text_is_an_error);
    tcase_add_test(tcase, two_winners_of_set_nx_are_bad);
    tcase_add_test(tcase, compare_and_set_succeeds_only_on_what_it_expects);
    tcase_add_test(tcase, exchange_gives_the_old_value);
    tcase_add_test(tcase, violation_names_the_operation_that_does_not_fit);
    tcase_add_test(tcase, many_unknown_increments_are_decided_quickly);
    tcase_add_test(tcase, search_beyond_its_bound_is_given_up);
    tcase_add_test(tcase, random_histories_of_a_register_pass_and_damaged_ones_fail);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
