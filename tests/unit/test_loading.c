/* What clients see of snapshots: while one is loaded at start, and when they ask for one. */
#include "tests/unit/fake_node.h"

static struct client a;

static void setup(void)
{
    fake_loading = false;
    fake_snapshot_status = REPLICA_OK;
    fake_snapshot_request = NULL;
    fake_setup();
    client_open(&a, 1);
}

static void setup_loading(void)
{
    fake_loading = true;
    fake_replaying = false;
    fake_snapshot_status = REPLICA_BUSY;
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

#define LOADING "-LOADING Redis is loading the dataset in memory\r\n"

START_TEST(data_commands_wait_for_the_data)
{
    client_assert(&a, "GET k", LOADING);
    client_assert(&a, "SET k v", LOADING);
    client_assert(&a, "PING", LOADING);
    ck_assert_uint_eq(fake_last, 0);
}
END_TEST

START_TEST(what_needs_no_data_is_answered)
{
    client_assert(&a, "ECHO hi", "$2\r\nhi\r\n");
    client_assert(&a, "CONFIG SET maxmemory 5mb", "+OK\r\n");
    (void)client_send(&a, "CLIENT ID");
    ck_assert_str_eq(client_output(&a), ":1\r\n");
    (void)client_send(&a, "LOCKSTEP STATUS");
    const char *text = client_output(&a);
    ck_assert_ptr_nonnull(strstr(text, "\"role\":\"loading\""));
    ck_assert_ptr_nonnull(strstr(text, "\"loading\":true"));
}
END_TEST

START_TEST(mistakes_are_told_first)
{
    client_assert(&a, "GET", "-ERR wrong number of arguments for 'get' command\r\n");
    (void)client_send(&a, "NOSUCH");
    ck_assert_ptr_nonnull(strstr(client_output(&a), "unknown command"));
}
END_TEST

START_TEST(a_transaction_with_a_refused_command_is_aborted)
{
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "SET k v", LOADING);
    client_assert(&a, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
}
END_TEST

START_TEST(info_says_how_far_it_is)
{
    (void)client_send(&a, "INFO persistence");
    const char *text = client_output(&a);
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading:1\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading_total_bytes:2000\r\nloading_loaded_bytes:500\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading_loaded_perc:25.00\r\nloading_eta_seconds:3\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading_from:snapshot\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading_keys:7\r\nloading_total_keys:30\r\n"));
}
END_TEST

START_TEST(a_node_that_replays_its_log_says_so_and_has_a_role)
{
    fake_replaying = true;
    client_assert(&a, "GET k", LOADING);
    (void)client_send(&a, "INFO persistence");
    const char *text = client_output(&a);
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading:1\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading_from:log\r\n"));
    ck_assert_ptr_null(strstr(text, "loading_keys"));
    (void)client_send(&a, "LOCKSTEP STATUS");
    text = client_output(&a);
    ck_assert_ptr_null(strstr(text, "\"role\":\"loading\""));
    ck_assert_ptr_nonnull(strstr(text, "\"loading\":true"));
}
END_TEST

START_TEST(replaying_may_begin_while_clients_are_served)
{
    fake_loading = false;
    client_assert(&a, "SET k v", "");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
    fake_loading = true;
    client_assert(&a, "SET k v", LOADING);
    client_assert(&a, "GET k", LOADING);
}
END_TEST

START_TEST(afterwards_everything_is_served)
{
    client_assert(&a, "SET k v", LOADING);
    fake_loading = false;
    client_assert(&a, "SET k v", "");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
    (void)client_send(&a, "INFO persistence");
    const char *text = client_output(&a);
    ck_assert_ptr_nonnull(strstr(text, "\r\nloading:0\r\n"));
    ck_assert_ptr_null(strstr(text, "loading_total_bytes"));
}
END_TEST

static void finish_snapshot(enum replica_status status)
{
    const struct replica_snapshot_info info = {.index = 700, .term = 3, .file_bytes = 4096};
    struct replica_snapshot_request *request = fake_snapshot_request;

    ck_assert_ptr_nonnull(request);
    fake_snapshot_request = NULL;
    request->cb(request, status, status == REPLICA_OK ? &info : NULL);
}

START_TEST(take_is_answered_when_it_is_durable)
{
    ck_assert(!client_send(&a, "LOCKSTEP SNAPSHOT TAKE"));
    ck_assert_str_eq(client_output(&a), "");
    finish_snapshot(REPLICA_OK);
    ck_assert_str_eq(client_output(&a), "*3\r\n:700\r\n:3\r\n:4096\r\n");
    ck_assert_uint_eq(a.conn.resumed, 1);
}
END_TEST

START_TEST(take_keeps_its_place_in_the_pipeline)
{
    (void)client_send(&a, "SET k v");
    ck_assert(!client_send(&a, "LOCKSTEP SNAPSHOT TAKE"));
    ck_assert_ptr_null(fake_snapshot_request);
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
    finish_snapshot(REPLICA_OK);
    ck_assert_str_eq(client_output(&a), "*3\r\n:700\r\n:3\r\n:4096\r\n");
}
END_TEST

START_TEST(a_snapshot_that_failed_says_why)
{
    (void)client_send(&a, "LOCKSTEP SNAPSHOT TAKE");
    finish_snapshot(REPLICA_NO_SPACE);
    ck_assert_str_eq(client_output(&a), "-NOSPACE the disk is full: no snapshot was taken\r\n");
    (void)client_send(&a, "LOCKSTEP SNAPSHOT TAKE");
    finish_snapshot(REPLICA_IO);
    ck_assert_str_eq(client_output(&a), "-ERR no snapshot was taken: fake; the log of this node says more\r\n");
}
END_TEST

START_TEST(a_snapshot_refused_is_answered_at_once)
{
    fake_snapshot_status = REPLICA_BUSY;
    (void)client_send(&a, "LOCKSTEP SNAPSHOT TAKE");
    ck_assert_str_eq(client_output(&a),
                     "-TRYAGAIN no snapshot was taken: this node is starting or stopping, or writes outran it\r\n");
}
END_TEST

START_TEST(the_connection_may_close_meanwhile)
{
    struct client b;

    client_open(&b, 2);
    (void)client_send(&b, "LOCKSTEP SNAPSHOT TAKE");
    ck_assert_ptr_nonnull(fake_snapshot_request);
    client_close(&b);
    ck_assert_ptr_null(fake_snapshot_request);
}
END_TEST

START_TEST(bad_words_are_refused)
{
    (void)client_send(&a, "LOCKSTEP SNAPSHOT NOSUCH");
    ck_assert_int_eq(client_output(&a)[0], '-');
    (void)client_send(&a, "LOCKSTEP SNAPSHOT TAKE now");
    ck_assert_int_eq(client_output(&a)[0], '-');
    ck_assert_ptr_null(fake_snapshot_request);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loading");
    TCase *loading = tcase_create("loading");
    TCase *take = tcase_create("take");

    tcase_add_checked_fixture(loading, setup_loading, teardown);
    tcase_add_test(loading, data_commands_wait_for_the_data);
    tcase_add_test(loading, what_needs_no_data_is_answered);
    tcase_add_test(loading, mistakes_are_told_first);
    tcase_add_test(loading, a_transaction_with_a_refused_command_is_aborted);
    tcase_add_test(loading, info_says_how_far_it_is);
    tcase_add_test(loading, a_node_that_replays_its_log_says_so_and_has_a_role);
    tcase_add_test(loading, replaying_may_begin_while_clients_are_served);
    tcase_add_test(loading, afterwards_everything_is_served);
    suite_add_tcase(suite, loading);
    tcase_add_checked_fixture(take, setup, teardown);
    tcase_add_test(take, take_is_answered_when_it_is_durable);
    tcase_add_test(take, take_keeps_its_place_in_the_pipeline);
    tcase_add_test(take, a_snapshot_that_failed_says_why);
    tcase_add_test(take, a_snapshot_refused_is_answered_at_once);
    tcase_add_test(take, the_connection_may_close_meanwhile);
    tcase_add_test(take, bad_words_are_refused);
    suite_add_tcase(suite, take);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
