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

static struct exec_session *exec_of(const struct client *client)
{
    return &((struct session *)client->session)->exec;
}

/* --- Words ---------------------------------------------------------------------------------------------------------
 */

static unsigned parse(const char *first, const char *second, struct read_mode *mode)
{
    const struct iovec argv[2] = {{(void *)(uintptr_t)first, strlen(first)},
                                  {(void *)(uintptr_t)second, second != NULL ? strlen(second) : 0}};
    const char *error = NULL;
    const unsigned taken = read_mode_parse(argv, second != NULL ? 2 : 1, mode, &error);

    ck_assert_ptr_nonnull(error);
    return taken;
}

START_TEST(words_are_parsed)
{
    struct read_mode mode;

    ck_assert_uint_eq(parse("LINEARIZABLE", NULL, &mode), 1);
    ck_assert_int_eq(mode.mode, EXEC_LINEARIZABLE);
    ck_assert_uint_eq(parse("session", NULL, &mode), 1);
    ck_assert_int_eq(mode.mode, EXEC_SESSION);
    ck_assert_uint_eq(parse("session", "9223372036854775807", &mode), 2);
    ck_assert_uint_eq(mode.revision, INT64_MAX);
    ck_assert_uint_eq(parse("stale", NULL, &mode), 1);
    ck_assert_uint_eq(mode.stale_max_us, 0);
    ck_assert_uint_eq(parse("Stale", "100", &mode), 2);
    ck_assert_uint_eq(mode.stale_max_us, 100000);
}
END_TEST

START_TEST(a_word_that_is_no_number_is_left)
{
    struct read_mode mode;

    ck_assert_uint_eq(parse("stale", "setname", &mode), 1);
    ck_assert_uint_eq(parse("session", "", &mode), 1);
    ck_assert_uint_eq(parse("linearizable", "5", &mode), 1);
}
END_TEST

START_TEST(bad_words_and_numbers_are_refused)
{
    struct read_mode mode;

    ck_assert_uint_eq(parse("strong", NULL, &mode), 0);
    ck_assert_uint_eq(parse("stale", "0", &mode), 0);
    ck_assert_uint_eq(parse("stale", "-1", &mode), 0);
    ck_assert_uint_eq(parse("stale", "86400001", &mode), 0);
    ck_assert_uint_eq(parse("stale", "10ms", &mode), 0);
    ck_assert_uint_eq(parse("session", "9223372036854775808", &mode), 0);
    ck_assert_uint_eq(parse("session", "18446744073709551616", &mode), 0);
    ck_assert_uint_eq(parse("session", "+1", &mode), 0);
}
END_TEST

START_TEST(text_of_the_configuration)
{
    struct read_mode mode;

    ck_assert(read_mode_parse_text("stale  250", &mode));
    ck_assert_uint_eq(mode.stale_max_us, 250000);
    ck_assert(read_mode_parse_text(" session ", &mode));
    ck_assert(!read_mode_parse_text("session 5", &mode));
    ck_assert(!read_mode_parse_text("", &mode));
    ck_assert(!read_mode_parse_text("stale 1 2", &mode));
    ck_assert(!read_mode_parse_text("stale ms", &mode));
}
END_TEST

/* --- The command ---------------------------------------------------------------------------------------------------
 */

START_TEST(mode_is_set_and_shown)
{
    client_assert(&a, "READMODE",
                  "*6\r\n$4\r\nmode\r\n$12\r\nlinearizable\r\n$6\r\nmax-ms\r\n$-1\r\n"
                  "$8\r\nrevision\r\n:0\r\n");
    client_assert(&a, "READMODE stale 100", "+OK\r\n");
    ck_assert_int_eq(exec_of(&a)->mode, EXEC_STALE);
    ck_assert_uint_eq(exec_of(&a)->stale_max_us, 100000);
    client_assert(&a, "READMODE session 7", "+OK\r\n");
    (void)client_send(&a, "HELLO 3");
    (void)client_output(&a);
    client_assert(&a, "READMODE", "%3\r\n$4\r\nmode\r\n$7\r\nsession\r\n$6\r\nmax-ms\r\n_\r\n$8\r\nrevision\r\n:7\r\n");
}
END_TEST

START_TEST(a_token_never_lowers_what_was_seen)
{
    client_assert(&a, "READMODE session 7", "+OK\r\n");
    client_assert(&a, "READMODE session 3", "+OK\r\n");
    ck_assert_uint_eq(exec_of(&a)->revision, 7);
}
END_TEST

START_TEST(bad_arguments_change_nothing)
{
    client_assert(&a, "READMODE stale 5", "+OK\r\n");
    client_assert(&a, "READMODE stale 0", "-ERR the bound of READMODE stale must be 1 to 86400000 milliseconds\r\n");
    client_assert(&a, "READMODE strong",
                  "-ERR READMODE is one of: linearizable, session [revision], stale [max-ms]\r\n");
    (void)client_send(&a, "READMODE session 1 2");
    ck_assert_int_eq(client_output(&a)[0], '-');
    ck_assert_int_eq(exec_of(&a)->mode, EXEC_STALE);
    ck_assert_uint_eq(exec_of(&a)->stale_max_us, 5000);
}
END_TEST

START_TEST(the_report_waits_for_earlier_commands)
{
    (void)client_send(&a, "SET k v");
    ck_assert(!client_send(&a, "READMODE"));
    ck_assert_str_eq(client_output(&a), "");
    exec_session_saw(exec_of(&a), 41);
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n*6\r\n$4\r\nmode\r\n$12\r\nlinearizable\r\n$6\r\nmax-ms\r\n$-1\r\n"
                                        "$8\r\nrevision\r\n:41\r\n");
    ck_assert_uint_eq(a.conn.resumed, 1);
}
END_TEST

START_TEST(a_muted_report_is_not_written)
{
    (void)client_send(&a, "CLIENT REPLY SKIP");
    ck_assert(client_send(&a, "READMODE"));
    ck_assert_str_eq(client_output(&a), "");
    client_assert(&a, "PING", "+PONG\r\n");
}
END_TEST

START_TEST(hello_takes_it_as_an_option)
{
    (void)client_send(&a, "HELLO 3 READMODE stale 100 SETNAME me");
    ck_assert_int_eq(client_output(&a)[0], '%');
    ck_assert_int_eq(exec_of(&a)->mode, EXEC_STALE);
    ck_assert_str_eq(((struct session *)a.session)->name, "me");
    (void)client_send(&a, "HELLO 2 READMODE session SETNAME you");
    ck_assert_int_eq(client_output(&a)[0], '*');
    ck_assert_int_eq(exec_of(&a)->mode, EXEC_SESSION);
    (void)client_send(&a, "HELLO 3 READMODE none");
    ck_assert_int_eq(client_output(&a)[0], '-');
    ck_assert_int_eq(exec_of(&a)->mode, EXEC_SESSION);
    client_assert(&a, "HELLO 3 READMODE",
                  "-ERR READMODE is one of: linearizable, session [revision], stale [max-ms]\r\n");
}
END_TEST

START_TEST(reset_and_new_connections_take_the_default)
{
    struct client b;

    fake_config.read_mode_parsed = (struct read_mode){.mode = EXEC_STALE, .stale_max_us = 9000};
    client_open(&b, 2);
    ck_assert_int_eq(exec_of(&b)->mode, EXEC_STALE);
    ck_assert_uint_eq(exec_of(&b)->stale_max_us, 9000);
    client_assert(&b, "READMODE linearizable", "+OK\r\n");
    client_assert(&b, "RESET", "+RESET\r\n");
    ck_assert_int_eq(exec_of(&b)->mode, EXEC_STALE);
    client_close(&b);
}
END_TEST

START_TEST(a_transaction_refuses_it)
{
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "READMODE stale", "-ERR Command not allowed inside a transaction\r\n");
    client_assert(&a, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    ck_assert_int_eq(exec_of(&a)->mode, EXEC_LINEARIZABLE);
}
END_TEST

START_TEST(weaker_reads_are_not_redirected)
{
    fake_config.redirect = true;
    fake_leader = 2;
    (void)client_send(&a, "GET k");
    ck_assert_int_eq(strncmp(client_output(&a), "-MOVED", 6), 0);
    client_assert(&a, "READMODE stale", "+OK\r\n");
    (void)client_send(&a, "GET k");
    fake_assert_oldest("GET k");
    (void)client_send(&a, "SET k v");
    fake_finish_status("x");
    ck_assert_ptr_nonnull(strstr(client_output(&a), "-MOVED"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("readmode");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, words_are_parsed);
    tcase_add_test(tcase, a_word_that_is_no_number_is_left);
    tcase_add_test(tcase, bad_words_and_numbers_are_refused);
    tcase_add_test(tcase, text_of_the_configuration);
    tcase_add_test(tcase, mode_is_set_and_shown);
    tcase_add_test(tcase, a_token_never_lowers_what_was_seen);
    tcase_add_test(tcase, bad_arguments_change_nothing);
    tcase_add_test(tcase, the_report_waits_for_earlier_commands);
    tcase_add_test(tcase, a_muted_report_is_not_written);
    tcase_add_test(tcase, hello_takes_it_as_an_option);
    tcase_add_test(tcase, reset_and_new_connections_take_the_default);
    tcase_add_test(tcase, a_transaction_refuses_it);
    tcase_add_test(tcase, weaker_reads_are_not_redirected);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
