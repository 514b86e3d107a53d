#include "tests/unit/fake_node.h"

static struct client a;

static void setup(void)
{
    fake_setup();
    client_open(&a, 1);
}

static void teardown(void)
{
    client_close(&a);
    while (fake_first < fake_last) {
        fake_end();
    }
    fake_teardown();
}

/* Let the timers run until there is output. */
static void assert_answer(const char *text)
{
    for (unsigned i = 0; i < 2000 && a.conn.out.len == 0; i++) {
        (void)uv_run(&fake_loop, UV_RUN_ONCE);
    }
    ck_assert_str_eq(client_output(&a), text);
}

START_TEST(answer_comes_when_another_node_leads)
{
    ck_assert(!client_send(&a, "LOCKSTEP TRANSFER 3"));
    ck_assert_uint_eq(fake_transfer_to, 3);
    (void)uv_run(&fake_loop, UV_RUN_ONCE);
    ck_assert_str_eq(client_output(&a), "");
    fake_leader = 0; /* the election */
    fake_term = 5;
    fake_transfer_to = 0;
    (void)uv_run(&fake_loop, UV_RUN_ONCE);
    ck_assert_str_eq(client_output(&a), "");
    fake_leader = 3;
    assert_answer("+OK node 3 leads term 5\r\n");
    ck_assert_uint_eq(a.conn.resumed, 1);
}
END_TEST

START_TEST(a_transfer_given_up_says_so)
{
    (void)client_send(&a, "LOCKSTEP TRANSFER");
    fake_transfer_to = 0;
    assert_answer("-TRYAGAIN the transfer was given up, this node leads on: node 2 did not take over in time\r\n");
}
END_TEST

START_TEST(another_winner_is_named)
{
    (void)client_send(&a, "LOCKSTEP TRANSFER 3");
    fake_leader = 2;
    fake_term = 6;
    assert_answer("-ERR node 2 was elected instead of node 3\r\n");
}
END_TEST

START_TEST(leadership_won_back_is_no_success)
{
    (void)client_send(&a, "LOCKSTEP TRANSFER 3");
    fake_term = 6;
    assert_answer("-ERR node 1 was elected instead of node 3\r\n");
}
END_TEST

START_TEST(it_does_not_wait_for_ever)
{
    fake_config.election_timeout_ms = 20;
    (void)client_send(&a, "LOCKSTEP TRANSFER 3");
    fake_leader = 0;
    assert_answer("-TRYAGAIN leadership was handed over, but no new leader is known yet\r\n");
}
END_TEST

START_TEST(bad_requests_are_refused_with_a_reason)
{
    client_assert(&a, "LOCKSTEP TRANSFER x", "-ERR the node id must be a number from 1\r\n");
    client_assert(&a, "LOCKSTEP TRANSFER 0", "-ERR the node id must be a number from 1\r\n");
    client_assert(&a, "LOCKSTEP TRANSFER 1 2", "-ERR wrong number of arguments for 'lockstep|transfer' command\r\n");
    client_assert(&a, "LOCKSTEP TRANSFER 1", "-ERR node 1 leads already\r\n");
    fake_transfer_status = REPLICA_CONFIG;
    client_assert(&a, "LOCKSTEP TRANSFER 9", "-ERR node 9 is not a member of this cluster\r\n");
    client_assert(&a, "LOCKSTEP TRANSFER 2", "-ERR node 2 is not connected to this node\r\n");
    client_assert(&a, "LOCKSTEP TRANSFER",
                  "-ERR no other voter is connected: there is nobody to transfer leadership to\r\n");
    fake_transfer_status = REPLICA_BUSY;
    client_assert(&a, "LOCKSTEP TRANSFER 2", "-TRYAGAIN a transfer is under way\r\n");
    fake_transfer_status = REPLICA_NOT_LEADER;
    client_assert(&a, "LOCKSTEP TRANSFER 2", "-TRYAGAIN this leader is not ready yet\r\n");
}
END_TEST

START_TEST(a_follower_names_the_leader)
{
    fake_leader = 2;
    client_assert(&a, "LOCKSTEP TRANSFER", "-ERR this node does not lead: ask node 2 at 10.0.0.2:7372\r\n");
    fake_leader = 0;
    client_assert(&a, "LOCKSTEP TRANSFER", "-CLUSTERDOWN no leader is known: there is nothing to transfer\r\n");
}
END_TEST

START_TEST(it_keeps_its_place_in_the_pipeline)
{
    (void)client_send(&a, "SET k v");
    ck_assert(!client_send(&a, "LOCKSTEP TRANSFER 2"));
    ck_assert_uint_eq(fake_transfer_to, 0);
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
    fake_leader = 2;
    assert_answer("+OK node 2 leads term 4\r\n");
}
END_TEST

START_TEST(a_second_client_is_told_that_one_is_under_way)
{
    struct client b;

    client_open(&b, 2);
    (void)client_send(&a, "LOCKSTEP TRANSFER 2");
    client_assert(&b, "LOCKSTEP TRANSFER 3", "-TRYAGAIN a transfer is under way\r\n");
    client_close(&b);
    fake_leader = 2;
    assert_answer("+OK node 2 leads term 4\r\n");
}
END_TEST

START_TEST(the_connection_may_close_meanwhile)
{
    struct client b;

    client_open(&b, 2);
    (void)client_send(&b, "LOCKSTEP TRANSFER 2");
    client_close(&b);
    fake_leader = 2;
    (void)uv_run(&fake_loop, UV_RUN_NOWAIT);
    ck_assert_str_eq(client_output(&a), "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transfer");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, answer_comes_when_another_node_leads);
    tcase_add_test(tcase, a_transfer_given_up_says_so);
    tcase_add_test(tcase, another_winner_is_named);
    tcase_add_test(tcase, leadership_won_back_is_no_success);
    tcase_add_test(tcase, it_does_not_wait_for_ever);
    tcase_add_test(tcase, bad_requests_are_refused_with_a_reason);
    tcase_add_test(tcase, a_follower_names_the_leader);
    tcase_add_test(tcase, it_keeps_its_place_in_the_pipeline);
    tcase_add_test(tcase, a_second_client_is_told_that_one_is_under_way);
    tcase_add_test(tcase, the_connection_may_close_meanwhile);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
