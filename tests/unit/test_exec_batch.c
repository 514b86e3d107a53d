/* When the leader's executor proposes: group commit. The replica only records what is proposed. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/executor_internal.h"
#include "cmd/lockstepd/render.h"
#include "tests/unit/executor_replica.h"
#include "tests/unit/mem_env.h"

#define REQUESTS_MAX 64u
#define BATCH_BYTES 4096u

static struct mem_env *mem;
static struct store *store;
static struct executor *ex;
static struct test_request {
    struct exec_request request;
    struct exec_session session;
    struct render render;
    struct resp_buffer out;
    bool ended;
} requests[REQUESTS_MAX];
static unsigned n_requests;

static struct store_reply *begin_cb(struct exec_request *request)
{
    struct test_request *t = request->data;
    render_init(&t->render, &t->out, 2);
    return &t->render.reply;
}
static void end_cb(struct exec_request *request)
{
    ((struct test_request *)request->data)->ended = true;
}
static void relieved_cb(void *ctx)
{
    (void)ctx;
}

/* SET k <value_len bytes>, of a session of its own. */
static struct test_request *set(size_t value_len)
{
    static char value[BATCH_BYTES];
    const struct iovec argv[] = {{"SET", 3}, {"k", 1}, {value, value_len}};
    ck_assert_uint_lt(n_requests, REQUESTS_MAX);
    ck_assert_uint_le(value_len, sizeof value);
    struct test_request *t = &requests[n_requests++];
    *t = (struct test_request){.request = {.data = t, .proto = 2, .begin = begin_cb, .end = end_cb}};
    resp_buffer_init(&t->out);
    exec_session_init(ex, &t->session);
    executor_submit(ex, &t->session, &t->request, store_command_find("SET", 3), argv, 3);
    return t;
}

static void setup(void)
{
    static const struct store_config sc = {.hash_seed = 1};
    mem = mem_env_new(1);
    store = store_new(&sc);
    memset(&fake, 0, sizeof fake);
    fake.leader = 1;
    fake.term = 5;
    n_requests = 0;
    mem_env_advance(mem, 1000000);
    const struct executor_config config = {.env = mem_env_env(mem),
                                           .store = store,
                                           .id = 1,
                                           .batch_bytes_max = BATCH_BYTES,
                                           .entry_bytes_max = 65536,
                                           .queue_bytes_max = 1 << 20,
                                           .forward_timeout_ms = 2000,
                                           .election_timeout_ms = TIMEOUT_MS,
                                           .relieved = relieved_cb};
    ex = executor_new(&config);
    ck_assert_ptr_nonnull(ex);
    executor_attach(ex, (struct replica *)(uintptr_t)1);
}

static void teardown(void)
{
    while (fake.first < fake.n) {
        fake_commit(ex);
        mem_env_advance(mem, EXEC_GATHER_US);
        executor_turn_end(ex);
    }
    executor_free(ex);
    for (unsigned i = 0; i < n_requests; i++) {
        ck_assert_msg(requests[i].ended, "request %u never ended", i);
        ck_assert_msg(requests[i].out.len == 5 && memcmp(requests[i].out.data, "+OK\r\n", 5) == 0, "request %u: %.*s",
                      i, (int)requests[i].out.len, requests[i].out.data);
        resp_buffer_fini(&requests[i].out);
    }
    store_free(store);
    mem_env_free(mem);
}

START_TEST(what_comes_meanwhile_is_one_entry)
{
    set(1);
    set(1);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 1);
    for (unsigned i = 0; i < 3; i++) {
        mem_env_advance(mem, EXEC_GATHER_US / 4);
        set(1);
        executor_turn_end(ex);
    }
    ck_assert_uint_eq(fake.n, 1);
    fake_commit(ex);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 2);
    struct executor_stats stats;
    executor_stats(ex, &stats);
    ck_assert_uint_eq(stats.batch_commands_last, 3);
}
END_TEST

START_TEST(two_lone_clients_do_not_wait_for_each_other)
{
    for (unsigned i = 0; i < 3; i++) {
        set(1);
        executor_turn_end(ex);
    }
    ck_assert_uint_eq(fake.n, 2); /* the third waits */
    fake_commit(ex);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 3);
}
END_TEST

START_TEST(a_slow_entry_is_followed_in_time)
{
    set(1);
    set(1);
    executor_turn_end(ex);
    mem_env_advance(mem, EXEC_GATHER_US / 2);
    set(1);
    executor_turn_end(ex);
    mem_env_advance(mem, EXEC_GATHER_US / 2 - 1);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 1);
    ck_assert(ex->gather_armed);
    mem_env_advance(mem, 1);
    ck_assert(!ex->gather_armed); /* the timer fired: that ends a turn if nothing else does */
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 2);
    set(1);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 2); /* it counts from the newest */
    mem_env_advance(mem, EXEC_GATHER_US);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 3);
}
END_TEST

START_TEST(a_full_batch_follows_at_once)
{
    set(1);
    set(1);
    executor_turn_end(ex);
    set(BATCH_BYTES);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 1); /* nothing says yet that more will come */
    set(1);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 2);
}
END_TEST

START_TEST(entries_in_flight_are_bounded)
{
    for (unsigned i = 0; i < 4 * EXEC_ENTRIES_IN_FLIGHT; i++) {
        set(BATCH_BYTES);
        mem_env_advance(mem, EXEC_GATHER_US);
        executor_turn_end(ex);
    }
    ck_assert_uint_eq(fake.n, EXEC_ENTRIES_IN_FLIGHT);
    fake_commit(ex);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, EXEC_ENTRIES_IN_FLIGHT + 1);
}
END_TEST

static void set_many(unsigned n)
{
    while (n-- > 0) {
        set(1);
    }
    executor_turn_end(ex);
}

/* Sixteen clients have been answered, after a turn in which they were one entry. */
static void sixteen_answered(void)
{
    set_many(16);
    ck_assert_uint_eq(fake.n, 1);
    fake_commit(ex);
    executor_turn_end(ex);
}

START_TEST(answered_clients_are_waited_for)
{
    sixteen_answered();
    set_many(5);
    set_many(8);
    ck_assert_uint_eq(fake.n, 1);
    set_many(1); /* two of sixteen may be late */
    ck_assert_uint_eq(fake.n, 2);
    struct executor_stats stats;
    executor_stats(ex, &stats);
    ck_assert_uint_eq(stats.batch_commands_last, 14);
}
END_TEST

START_TEST(clients_that_stay_away_are_not_waited_for_long)
{
    sixteen_answered();
    set_many(5);
    ck_assert_uint_eq(fake.n, 1);
    ck_assert(ex->gather_armed);
    mem_env_advance(mem, EXEC_GATHER_US);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 2);
    set_many(11);
    fake_commit(ex);
    executor_turn_end(ex); /* it was in vain: not this time */
    ck_assert_uint_eq(fake.n, 3);
    set_many(5);
    fake_commit(ex);
    executor_turn_end(ex); /* it is tried again */
    ck_assert_uint_eq(fake.n, 3);
    mem_env_advance(mem, EXEC_GATHER_US);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 4);
}
END_TEST

START_TEST(a_varying_crowd_is_not_waited_for)
{
    sixteen_answered();
    set_many(14);
    ck_assert_uint_eq(fake.n, 2);
    set_many(4);
    fake_commit(ex); /* of eighteen now */
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 2);
    mem_env_advance(mem, EXEC_GATHER_US);
    executor_turn_end(ex);
    ck_assert_uint_eq(fake.n, 3);
    fake_commit(ex); /* of four */
    executor_turn_end(ex);
    mem_env_advance(mem, EXEC_GATHER_US);
    set_many(2);
    ck_assert_uint_eq(fake.n, 4);
    fake_commit(ex); /* of two */
    executor_turn_end(ex);
    set_many(1);
    ck_assert_uint_eq(fake.n, 5);
}
END_TEST

START_TEST(after_a_pause_nobody_is_waited_for)
{
    sixteen_answered();
    mem_env_advance(mem, EXEC_GATHER_US);
    set_many(1);
    ck_assert_uint_eq(fake.n, 2);
}
END_TEST

START_TEST(few_clients_are_not_waited_for)
{
    set_many(EXEC_RETURN_MIN - 1);
    fake_commit(ex);
    executor_turn_end(ex);
    set_many(1);
    ck_assert_uint_eq(fake.n, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec_batch");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_comes_meanwhile_is_one_entry);
    tcase_add_test(tcase, two_lone_clients_do_not_wait_for_each_other);
    tcase_add_test(tcase, a_slow_entry_is_followed_in_time);
    tcase_add_test(tcase, a_full_batch_follows_at_once);
    tcase_add_test(tcase, entries_in_flight_are_bounded);
    tcase_add_test(tcase, answered_clients_are_waited_for);
    tcase_add_test(tcase, clients_that_stay_away_are_not_waited_for_long);
    tcase_add_test(tcase, a_varying_crowd_is_not_waited_for);
    tcase_add_test(tcase, after_a_pause_nobody_is_waited_for);
    tcase_add_test(tcase, few_clients_are_not_waited_for);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
