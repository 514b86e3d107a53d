/* The executor: where requests go when leadership moves, the order in which they end, and local reads. */
#include "tests/unit/executor_fixture.h"

/* --- Leadership moves --- */

/* Two entries in flight, and what waits behind them. */
static void fill_flight(struct test_request **first, struct test_request **second)
{
    *first = submit("SET a 1");
    turn();
    *second = submit("SET a 2");
    turn();
    ck_assert_uint_eq(fake.n, 2);
}

START_TEST(unproposed_writes_go_to_the_next_leader)
{
    struct test_request *first, *second;
    fill_flight(&first, &second);
    struct test_request *third = submit("SET a 3");
    struct test_request *fourth = submit("GET a");
    struct test_request *fifth = submit("APPEND a x");
    turn();
    ck_assert_uint_eq(fake.n, 2);
    fake_lose_leadership(ex, 2, 6);
    assert_reply(first, "-UNKNOWN");
    assert_reply(second, "-UNKNOWN");
    turn();
    assert_sent(0, 2, "set a 3 | GET a | append a x");
    answer(0, 0, "+OK\r\n", 0);
    answer(0, 1, "$1\r\n3\r\n", 0);
    answer(0, 2, ":2\r\n", 0);
    assert_reply(third, "+OK");
    assert_reply(fourth, "$1\r\n3");
    assert_reply(fifth, ":2");
    ck_assert_uint_lt(third->ended, fourth->ended);
    ck_assert_uint_lt(fourth->ended, fifth->ended);
}
END_TEST

START_TEST(unproposed_transaction_keeps_its_watches)
{
    struct test_request *first, *second;
    struct test_request *t = request_new();
    char key[] = "w", get[] = "GET", set[] = "SET", k[] = "k", v[] = "v";
    const struct store_watch watch = {{key, 1}, 9};
    const struct iovec get_k[] = {{get, 3}, {k, 1}}, set_k[] = {{set, 3}, {k, 1}, {v, 1}};
    const struct store_queued commands[] = {{get_k, 2}, {set_k, 3}};

    fill_flight(&first, &second);
    executor_submit_transaction(ex, &session, &t->request, &watch, 1, commands, 2);
    fake_lose_leadership(ex, 3, 6);
    turn();
    assert_sent(0, 3, "EXEC w=9 get k set k v");
    answer(0, 0, "*-1\r\n", 0);
    assert_reply(t, "*-1");
}
END_TEST

START_TEST(a_batch_sealed_for_a_busy_log_goes_too)
{
    fake.propose = REPLICA_BUSY;
    struct test_request *t = submit("SET a 1");
    turn();
    fake_lose_leadership(ex, 2, 6);
    turn();
    assert_sent(0, 2, "set a 1");
    answer(0, 0, "+OK\r\n", 0);
    assert_reply(t, "+OK");
}
END_TEST

START_TEST(unconfirmed_reads_go_to_the_next_leader)
{
    struct test_request *t = submit("GET a");
    turn();
    ck_assert_uint_eq(fake.n_reads, 1);
    fake_lose_leadership(ex, 2, 6);
    turn();
    assert_sent(0, 2, "GET a");
    answer(0, 0, "$-1\r\n", 0);
    assert_reply(t, "$-1");
}
END_TEST

START_TEST(requests_wait_for_an_election_but_not_for_ever)
{
    fake_lose_leadership(ex, 0, 6);
    struct test_request *first = submit("SET a 1");
    turn();
    ck_assert_uint_eq(first->ended, 0);
    mem_env_advance(mem, (TIMEOUT_MS - 1) * 1000);
    turn();
    ck_assert_uint_eq(first->ended, 0);
    set_leader(2, 7);
    struct test_request *second = submit("SET a 2");
    turn();
    assert_sent(0, 2, "SET a 1 | SET a 2");
    answer(0, 0, "+OK\r\n", 0);
    answer(0, 1, "+OK\r\n", 0);
    assert_reply(second, "+OK");
    set_leader(0, 8);
    struct test_request *third = submit("SET a 3");
    turn();
    mem_env_advance(mem, TIMEOUT_MS * 1000);
    turn();
    assert_reply(third, "-CLUSTERDOWN");
    struct test_request *fourth = submit("SET a 4"); /* patience is over */
    turn();
    assert_reply(fourth, "-CLUSTERDOWN");
}
END_TEST

START_TEST(a_removed_node_passes_on_then_refuses_at_once)
{
    set_leader(2, 7);
    fake.removed = true;
    struct test_request *first = submit("SET a 1");
    turn();
    assert_sent(0, 2, "SET a 1");
    answer(0, 0, "+OK\r\n", 0);
    assert_reply(first, "+OK");
    set_leader(0, 7);
    struct test_request *second = submit("SET a 2");
    turn();
    assert_reply(second, "-CLUSTERDOWN this node was removed");
}
END_TEST

/* --- Ends come in order --- */

START_TEST(a_refused_batch_ends_after_what_is_in_flight)
{
    struct test_request *first = submit("SET a 1");
    turn();
    fake.propose = REPLICA_NO_SPACE;
    struct test_request *second = submit("SET a 2");
    turn();
    ck_assert_uint_eq(second->ended, 0);
    fake_commit(ex);
    turn();
    assert_reply(first, "+OK");
    assert_reply(second, "-NOSPACE");
    ck_assert_uint_lt(first->ended, second->ended);
}
END_TEST

START_TEST(a_closed_connection_ends_in_order_too)
{
    set_leader(2, 6);
    struct test_request *first = submit("SET a 1");
    turn();
    set_leader(3, 7);
    struct test_request *second = submit("SET a 2");
    exec_session_detach(ex, &session);
    turn();
    ck_assert_uint_eq(second->ended, 0);
    answer(0, 0, "+OK\r\n", 0);
    turn();
    ck_assert_uint_eq(first->ended, 1);
    ck_assert_uint_eq(second->ended, 2);
    ck_assert_uint_eq(n_frames, 1); /* nobody waits for it: not executed */
}
END_TEST

START_TEST(stopping_ends_the_queue_after_the_flight)
{
    struct test_request *first, *second;
    fill_flight(&first, &second);
    struct test_request *third = submit("SET a 3");
    executor_stop(ex);
    ck_assert_uint_eq(third->ended, 0);
    fake_lose_leadership(ex, 0, 5); /* as replica_close does */
    executor_stop(ex);
    assert_reply(first, "-UNKNOWN");
    assert_reply(third, "-TRYAGAIN");
    ck_assert_uint_eq(third->ended, 3);
}
END_TEST

START_TEST(reads_refused_at_once_do_not_overtake_waiting_ones)
{
    struct test_request *first = submit("GET a");
    turn();
    struct test_request *second = submit("GET a");
    fake.refused = true;
    turn();
    assert_reply(first, "-TRYAGAIN this node's content is in doubt");
    assert_reply(second, "-TRYAGAIN this node's content is in doubt");
    ck_assert_uint_lt(first->ended, second->ended);
    fake_confirm(REPLICA_OK); /* of nothing, by now */
}
END_TEST

/* Also those of the turn: teardown sees that all have ended. */
START_TEST(stopping_ends_reads_in_order)
{
    (void)submit("GET a");
    turn();
    (void)submit("GET a");
}
END_TEST

START_TEST(a_draining_node_refuses_the_new_and_finishes_the_old)
{
    struct test_request *first = submit("SET a 1");
    turn();
    executor_drain(ex);
    struct test_request *second = submit("SET a 2");
    turn();
    ck_assert_uint_eq(executor_outstanding(ex), 2);
    fake_commit(ex);
    turn();
    assert_reply(first, "+OK");
    assert_reply(second, "-TRYAGAIN this node is stopping");
    ck_assert_uint_eq(executor_outstanding(ex), 0);
}
END_TEST

/* --- Local reads --- */

START_TEST(a_key_that_is_on_its_way_is_waited_for)
{
    set_leader(2, 6);
    fake.local = true;
    receive_entry(1, "SET a 1");
    ck_assert(read_local("GET b"));
    ck_assert(!read_local("GET a"));
}
END_TEST

START_TEST(entries_that_did_not_come_by_may_touch_anything)
{
    struct executor_stats stats;
    set_leader(2, 6);
    fake.local = true;
    fake.received = 40; /* of an earlier run, say */
    ck_assert(!read_local("GET b"));
    receive_entry(41, "SET a 1");
    ck_assert(!read_local("GET b"));
    struct test_request *t = submit("GET b");
    turn();
    ck_assert_uint_eq(t->ended, 0);
    fake.applied = 40;
    ck_assert(!read_local("GET a"));
    fake.applied = 41;
    turn();
    assert_reply(t, "$-1");
    ck_assert(read_local("GET a"));
    executor_stats(ex, &stats);
    ck_assert_uint_eq(stats.reads_waited, 1);
    ck_assert_uint_eq(stats.reads_local, 1);
}
END_TEST

START_TEST(content_in_doubt_is_not_read)
{
    struct test_request *first = submit("GET a"); /* waits to be confirmed */
    turn();
    fake.refused = true;
    fake_confirm(REPLICA_OK);
    struct test_request *second = submit("GET a");
    turn();
    assert_reply(first, "-TRYAGAIN this node's content is in doubt");
    assert_reply(second, "-TRYAGAIN this node's content is in doubt");
    exec_session_set_mode(&session, EXEC_STALE, 0);
    set_leader(2, 7);
    (void)submit("GET b"); /* not from the copy here */
    turn();
    assert_sent(0, 2, "GET b");
}
END_TEST

START_TEST(a_session_reads_here_what_it_has_seen)
{
    struct executor_stats stats;
    set_leader(2, 6);
    exec_session_set_mode(&session, EXEC_SESSION, 0);
    ck_assert(read_local("GET a"));
    exec_session_saw(&session, 1000); /* a token from elsewhere */
    ck_assert(!read_local("GET a"));
    struct test_request *t = submit("GET a");
    turn();
    assert_sent(0, 2, "GET a");
    answer(0, 0, "$1\r\nx\r\n", 0);
    assert_reply(t, "$1\r\nx");
    executor_stats(ex, &stats);
    ck_assert_uint_eq(stats.reads_session, 1);
}
END_TEST

START_TEST(a_session_sees_what_was_answered_elsewhere)
{
    set_leader(2, 6);
    (void)submit("SET a 1");
    turn();
    answer(0, 0, "+OK\r\n", 0);
    ck_assert_uint_eq(exec_session_revision(ex, &session), 77);
}
END_TEST

START_TEST(a_confirmed_read_raises_the_revision)
{
    struct test_request *first = submit("SET a 1");
    turn();
    fake_commit(ex);
    turn();
    assert_reply(first, "+OK");
    struct exec_session other;
    exec_session_init(ex, &other);
    struct test_request *t = request_new();
    char get[] = "GET", a[] = "a";
    const struct iovec argv[] = {{get, 3}, {a, 1}};
    executor_submit(ex, &other, &t->request, store_command_find(get, 3), argv, 2);
    turn();
    fake_confirm(REPLICA_OK);
    assert_reply(t, "$1\r\n1");
    ck_assert_uint_eq(exec_session_revision(ex, &other), store_revision(store));
    ck_assert_uint_gt(store_revision(store), 0);
}
END_TEST

START_TEST(a_stale_read_is_refused_beyond_its_bound_by_any_node)
{
    struct executor_stats stats;

    for (uint64_t leader = 0; leader < 3; leader++) {
        set_leader(leader, 6 + leader);
        exec_session_set_mode(&session, EXEC_STALE, 50000);
        fake.fresh_us = mem_env_env(mem)->ops->now_us(mem_env_env(mem)) - 50000;
        ck_assert(read_local("GET a"));
        fake.fresh_us--;
        ck_assert(!read_local("GET a"));
        struct test_request *t = submit("GET a");
        turn();
        assert_reply(t, "-TRYAGAIN this node's copy is older");
        exec_session_set_mode(&session, EXEC_STALE, 0);
        fake.fresh_us = 0;
        ck_assert(read_local("GET a"));
    }
    executor_stats(ex, &stats);
    ck_assert_uint_eq(stats.reads_too_stale, 3);
    ck_assert_uint_eq(stats.reads_stale, 6);
    ck_assert_uint_eq(n_frames, 0);
}
END_TEST

START_TEST(a_mode_is_that_of_its_request)
{
    fake_lose_leadership(ex, 0, 6);
    struct test_request *t = submit("GET a"); /* linearizable: waits for a leader */
    exec_session_set_mode(&session, EXEC_STALE, 0);
    turn();
    ck_assert_uint_eq(t->ended, 0);
    set_leader(2, 7);
    turn();
    assert_sent(0, 2, "GET a");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("executor");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, unproposed_writes_go_to_the_next_leader);
    tcase_add_test(tcase, unproposed_transaction_keeps_its_watches);
    tcase_add_test(tcase, a_batch_sealed_for_a_busy_log_goes_too);
    tcase_add_test(tcase, unconfirmed_reads_go_to_the_next_leader);
    tcase_add_test(tcase, requests_wait_for_an_election_but_not_for_ever);
    tcase_add_test(tcase, a_removed_node_passes_on_then_refuses_at_once);
    tcase_add_test(tcase, a_refused_batch_ends_after_what_is_in_flight);
    tcase_add_test(tcase, a_closed_connection_ends_in_order_too);
    tcase_add_test(tcase, stopping_ends_the_queue_after_the_flight);
    tcase_add_test(tcase, reads_refused_at_once_do_not_overtake_waiting_ones);
    tcase_add_test(tcase, stopping_ends_reads_in_order);
    tcase_add_test(tcase, a_draining_node_refuses_the_new_and_finishes_the_old);
    tcase_add_test(tcase, a_key_that_is_on_its_way_is_waited_for);
    tcase_add_test(tcase, entries_that_did_not_come_by_may_touch_anything);
    tcase_add_test(tcase, content_in_doubt_is_not_read);
    tcase_add_test(tcase, a_session_reads_here_what_it_has_seen);
    tcase_add_test(tcase, a_session_sees_what_was_answered_elsewhere);
    tcase_add_test(tcase, a_confirmed_read_raises_the_revision);
    tcase_add_test(tcase, a_stale_read_is_refused_beyond_its_bound_by_any_node);
    tcase_add_test(tcase, a_mode_is_that_of_its_request);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
