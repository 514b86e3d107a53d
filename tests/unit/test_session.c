#include "tests/unit/fake_node.h"

static struct client a, b;

static void setup(void)
{
    fake_setup();
    client_open(&a, 1);
    client_open(&b, 2);
}

static void teardown(void)
{
    if (a.session != NULL) {
        client_close(&a);
    }
    client_close(&b);
    while (fake_first < fake_last) {
        fake_end();
    }
    fake_teardown();
}

/* --- Order of replies --- */

START_TEST(store_command_goes_to_the_executor)
{
    ck_assert(client_send(&a, "SET k v"));
    fake_assert_oldest("SET k v");
    ck_assert_str_eq(client_output(&a), "");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
}
END_TEST

START_TEST(local_reply_waits_for_older_requests)
{
    (void)client_send(&a, "SET k 1");
    (void)client_send(&a, "PING one");
    (void)client_send(&a, "PING two");
    (void)client_send(&a, "SET k 2");
    (void)client_send(&a, "ECHO three");
    ck_assert_str_eq(client_output(&a), "");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n$3\r\none\r\n$3\r\ntwo\r\n");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n$5\r\nthree\r\n");
    client_assert(&a, "PING", "+PONG\r\n");
}
END_TEST

START_TEST(error_reply_waits_for_older_requests)
{
    (void)client_send(&a, "SET k 1");
    (void)client_send(&a, "GET");
    (void)client_send(&a, "nosuch x");
    ck_assert_str_eq(client_output(&a), "");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n"
                                        "-ERR unknown command 'nosuch', with args beginning with: 'x' \r\n");
}
END_TEST

START_TEST(sessions_do_not_wait_for_each_other)
{
    (void)client_send(&a, "SET k 1");
    client_assert(&b, "PING", "+PONG\r\n");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
    ck_assert_str_eq(client_output(&b), "");
}
END_TEST

START_TEST(raw_reply_is_passed_on)
{
    (void)client_send(&a, "GET k");
    fake_finish_raw("$1\r\nx\r\n");
    ck_assert_str_eq(client_output(&a), "$1\r\nx\r\n");
}
END_TEST

START_TEST(reply_has_the_protocol_of_its_request)
{
    (void)client_send(&a, "GET k");
    (void)client_send(&a, "HELLO 3");
    (void)client_send(&a, "GET k");
    ck_assert_int_eq(fake_requests[0].request->proto, 2);
    ck_assert_int_eq(fake_requests[1].request->proto, 3);
    struct store_reply *reply = fake_begin();
    reply->ops->null(reply);
    fake_end();
    ck_assert_int_eq(strncmp(client_output(&a), "$-1\r\n%7\r\n", 9), 0);
    reply = fake_begin();
    reply->ops->null(reply);
    fake_end();
    ck_assert_str_eq(client_output(&a), "_\r\n");
}
END_TEST

/* --- Bounds and pauses --- */

START_TEST(congestion_pauses_until_relieved)
{
    fake_congested = true;
    ck_assert(!client_send(&a, "SET k 1"));
    ck_assert(!client_send(&b, "SET k 1"));
    fake_assert_oldest("SET k 1");
    fake_congested = false;
    fake_callbacks.relieved(fake_callbacks.ctx);
    ck_assert_uint_eq(a.conn.resumed, 1);
    ck_assert_uint_eq(b.conn.resumed, 1);
    ck_assert(client_send(&a, "SET k 2"));
}
END_TEST

START_TEST(connection_may_close_while_congested)
{
    fake_congested = true;
    ck_assert(!client_send(&a, "SET k 1"));
    ck_assert(!client_send(&b, "SET k 1"));
    client_close(&a);
    fake_callbacks.relieved(fake_callbacks.ctx);
    ck_assert_uint_eq(b.conn.resumed, 1);
}
END_TEST

START_TEST(too_many_pending_requests_pause)
{
    for (unsigned i = 1; i < SESSION_PENDING_MAX; i++) {
        ck_assert(client_send(&a, "SET k 1"));
    }
    ck_assert(!client_send(&a, "SET k 1"));
    for (unsigned i = 0; i < SESSION_PENDING_MAX / 2 - 1; i++) {
        fake_finish_status("OK");
    }
    ck_assert_uint_eq(a.conn.resumed, 0);
    fake_finish_status("OK");
    ck_assert_uint_eq(a.conn.resumed, 1);
    ck_assert(client_send(&a, "SET k 1"));
}
END_TEST

START_TEST(too_many_waiting_bytes_pause)
{
    char line[4000] = "ECHO ";
    memset(line + 5, 'x', sizeof line - 6);
    line[sizeof line - 1] = '\0';
    ck_assert(client_send(&a, "SET k 1"));
    bool more = true;
    for (unsigned i = 0; more; i++) {
        ck_assert_uint_lt(i, 1000);
        more = client_send(&a, line);
    }
    ck_assert_uint_eq(a.conn.resumed, 0);
    fake_finish_status("OK");
    ck_assert_uint_eq(a.conn.resumed, 1);
    ck_assert_uint_gt(a.conn.out.len, SESSION_WAITING_BYTES_MAX);
    resp_buffer_clear(&a.conn.out);
    client_assert(&a, "PING", "+PONG\r\n");
}
END_TEST

/* --- Closing ---------------------------------------------------------------------------------------------------------
 */

START_TEST(closed_session_lives_until_its_requests_end)
{
    (void)client_send(&a, "SET k 1");
    (void)client_send(&a, "SET k 2");
    (void)client_send(&a, "PING");
    client_close(&a);
    ck_assert_uint_eq(fake_detached, 1);
    fake_end();
    fake_end();
}
END_TEST

START_TEST(quit_closes_after_what_is_pending)
{
    (void)client_send(&a, "SET k 1");
    ck_assert(!client_send(&a, "QUIT"));
    ck_assert(!a.conn.closing);
    fake_finish_status("OK");
    ck_assert(a.conn.closing);
    ck_assert_str_eq(client_output(&a), "+OK\r\n+OK\r\n");
}
END_TEST

START_TEST(end_of_input_closes_after_what_is_pending)
{
    (void)client_send(&a, "SET k 1");
    ck_assert(fake_callbacks.eof(a.session, &a.conn));
    ck_assert(!a.conn.closing);
    fake_finish_status("OK");
    ck_assert(a.conn.closing);
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
}
END_TEST

START_TEST(end_of_input_with_nothing_pending_closes_at_once)
{
    client_assert(&a, "PING", "+PONG\r\n");
    ck_assert(!fake_callbacks.eof(a.session, &a.conn));
}
END_TEST

START_TEST(end_of_input_while_paused_waits_for_the_rest)
{
    fake_congested = true;
    ck_assert(!client_send(&a, "SET k 1"));
    ck_assert(fake_callbacks.eof(a.session, &a.conn));
    fake_finish_status("OK");
    ck_assert(!a.conn.closing); /* requests may be left in the reader */
    fake_callbacks.relieved(fake_callbacks.ctx);
    ck_assert_uint_eq(a.conn.resumed, 1);
    ck_assert(!fake_callbacks.eof(a.session, &a.conn));
}
END_TEST

START_TEST(shutdown_stops_the_node_without_a_reply)
{
    ck_assert(!client_send(&a, "SHUTDOWN NOSAVE"));
    ck_assert_uint_eq(fake_stops, 1);
    ck_assert_str_eq(client_output(&a), "");
}
END_TEST

START_TEST(kill_by_id_closes_the_other)
{
    client_assert(&a, "CLIENT KILL ID 2", ":1\r\n");
    ck_assert(b.conn.closed);
    ck_assert(!a.conn.closing);
}
END_TEST

START_TEST(kill_of_oneself_is_answered_first)
{
    ck_assert(!client_send(&a, "CLIENT KILL 127.0.0.1:1001"));
    ck_assert(a.conn.closing);
    ck_assert(!b.conn.closed);
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
}
END_TEST

START_TEST(idle_connections_are_closed_and_busy_ones_kept)
{
    struct session *idle = a.session;
    struct session *busy = b.session;
    fake_config.timeout_s = 1;
    (void)client_send(&b, "SET k 1");
    idle->last_ms = uv_now(&fake_loop) - 5000;
    busy->last_ms = uv_now(&fake_loop) - 5000;
    ck_assert_int_ne(uv_run(&fake_loop, UV_RUN_ONCE), 0); /* until the timer that looks for them fires */
    ck_assert(a.conn.closed);
    ck_assert(!b.conn.closed);
}
END_TEST

/* --- CLIENT REPLY --- */

START_TEST(reply_off_mutes_until_on)
{
    (void)client_send(&a, "CLIENT REPLY OFF");
    (void)client_send(&a, "PING");
    (void)client_send(&a, "SET k 1");
    (void)client_send(&a, "GET k");
    (void)client_send(&a, "nosuch");
    fake_finish_status("OK");
    fake_finish_raw("$1\r\n1\r\n");
    ck_assert_str_eq(client_output(&a), "");
    client_assert(&a, "CLIENT REPLY ON", "+OK\r\n");
    client_assert(&a, "PING", "+PONG\r\n");
}
END_TEST

START_TEST(reply_skip_mutes_one)
{
    (void)client_send(&a, "CLIENT REPLY SKIP");
    (void)client_send(&a, "SET k 1");
    (void)client_send(&a, "SET k 2");
    fake_finish_status("ONE");
    fake_finish_status("TWO");
    ck_assert_str_eq(client_output(&a), "+TWO\r\n");
    (void)client_send(&a, "CLIENT REPLY SKIP");
    client_assert(&a, "PING", "");
    client_assert(&a, "PING", "+PONG\r\n");
}
END_TEST

START_TEST(reset_turns_replies_on)
{
    (void)client_send(&a, "CLIENT REPLY OFF");
    client_assert(&a, "RESET", "+RESET\r\n");
    client_assert(&a, "PING", "+PONG\r\n");
}
END_TEST

/* --- Transactions --- */

START_TEST(transaction_is_submitted_as_one)
{
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "SET k 1", "+QUEUED\r\n");
    client_assert(&a, "INCR k", "+QUEUED\r\n");
    ck_assert_uint_eq(fake_last, 0);
    client_assert(&a, "EXEC", "");
    fake_assert_oldest("EXEC: [SET k 1] [INCR k]");
    fake_finish_raw("*2\r\n+OK\r\n:2\r\n");
    ck_assert_str_eq(client_output(&a), "*2\r\n+OK\r\n:2\r\n");
    client_assert(&a, "EXEC", "-ERR EXEC without MULTI\r\n");
}
END_TEST

START_TEST(queued_waits_for_older_requests)
{
    (void)client_send(&a, "SET k 1");
    (void)client_send(&a, "MULTI");
    (void)client_send(&a, "GET k");
    (void)client_send(&a, "EXEC");
    ck_assert_str_eq(client_output(&a), "");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n+OK\r\n+QUEUED\r\n");
    fake_assert_oldest("EXEC: [GET k]");
}
END_TEST

START_TEST(empty_transaction_is_answered_here)
{
    (void)client_send(&a, "MULTI");
    (void)client_output(&a);
    client_assert(&a, "EXEC", "*0\r\n");
    ck_assert_uint_eq(fake_last, 0);
}
END_TEST

START_TEST(refused_command_aborts_the_transaction)
{
    static const char *const refused[] = {"nosuch",        "GET",           "HELLO 3",         "CLIENT REPLY OFF",
                                          "CLIENT nosuch", "CLIENT ID x",   "CONFIG GET",      "SHUTDOWN",
                                          "READMODE",      "SELECT",        "LOCKSTEP STATUS", "CLIENT",
                                          "SAVE",          "CONFIG nosuch", "WAIT 1"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        client_assert(&a, "MULTI", "+OK\r\n");
        client_assert(&a, "SET k 1", "+QUEUED\r\n");
        (void)client_send(&a, refused[i]);
        ck_assert_int_eq(strncmp(client_output(&a), "-ERR", 4), 0);
        client_assert(&a, "SET k 2", "+QUEUED\r\n");
        client_assert(&a, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    }
    ck_assert_uint_eq(fake_last, 0);
}
END_TEST

START_TEST(local_commands_run_in_their_places)
{
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "CLIENT SETNAME me", "+QUEUED\r\n");
    client_assert(&a, "SET k 1", "+QUEUED\r\n");
    client_assert(&a, "CLIENT GETNAME", "+QUEUED\r\n");
    client_assert(&a, "MGET k l", "+QUEUED\r\n");
    client_assert(&a, "SELECT 0", "+QUEUED\r\n");
    ck_assert(!client_send(&a, "EXEC")); /* what follows waits until they have run */
    fake_assert_oldest("EXEC: [SET k 1] [MGET k l]");
    ck_assert_str_eq(client_output(&a), "");
    fake_finish_raw("*2\r\n+OK\r\n*2\r\n$1\r\n1\r\n$-1\r\n");
    ck_assert_str_eq(client_output(&a), "*5\r\n+OK\r\n+OK\r\n$2\r\nme\r\n*2\r\n$1\r\n1\r\n$-1\r\n+OK\r\n");
    client_assert(&a, "CLIENT GETNAME", "$2\r\nme\r\n");
}
END_TEST

START_TEST(local_commands_alone_need_no_log)
{
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "SELECT 0", "+QUEUED\r\n");
    client_assert(&a, "SELECT 7", "+QUEUED\r\n");
    client_assert(&a, "CLIENT SETNAME me", "+QUEUED\r\n");
    (void)client_send(&a, "EXEC");
    const char *reply = client_output(&a);
    ck_assert_int_eq(strncmp(reply, "*3\r\n+OK\r\n-ERR", 13), 0);
    ck_assert_str_eq(reply + strlen(reply) - 5, "+OK\r\n");
    ck_assert_uint_eq(fake_last, 0);
    client_assert(&a, "CLIENT GETNAME", "$2\r\nme\r\n");
}
END_TEST

START_TEST(local_commands_do_not_run_if_the_others_did_not)
{
    static const char *const answers[] = {"*-1\r\n", "-TRYAGAIN not executed\r\n", "_\r\n"};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        client_assert(&a, "MULTI", "+OK\r\n");
        client_assert(&a, "CLIENT SETNAME me", "+QUEUED\r\n");
        client_assert(&a, "SET k 1", "+QUEUED\r\n");
        ck_assert(!client_send(&a, "EXEC"));
        fake_finish_raw(answers[i]);
        ck_assert_str_eq(client_output(&a), answers[i]);
        client_assert(&a, "CLIENT GETNAME", "$-1\r\n");
    }
}
END_TEST

/* A reply of another node is looked into, so it had better be whole. */
START_TEST(a_cut_reply_is_an_error_in_its_place)
{
    static const char *const answers[] = {"*2\r\n+OK\r\n", "*2\r\n+OK\r\n$5\r\nabc\r\n", "*2\r\n+OK\r\n*3\r\n:1\r\n",
                                          "*2\r\n+OK\r\n$x\r\n", "*2\r\n+OK\r\n+cut"};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        client_assert(&a, "MULTI", "+OK\r\n");
        client_assert(&a, "SET k 1", "+QUEUED\r\n");
        client_assert(&a, "GET k", "+QUEUED\r\n");
        client_assert(&a, "SELECT 0", "+QUEUED\r\n");
        ck_assert(!client_send(&a, "EXEC"));
        fake_finish_raw(answers[i]);
        ck_assert_str_eq(client_output(&a),
                         "*3\r\n+OK\r\n-UNKNOWN the reply of the transaction is malformed\r\n+OK\r\n");
    }
}
END_TEST

START_TEST(a_connection_may_close_in_the_middle_of_exec)
{
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "SET k 1", "+QUEUED\r\n");
    client_assert(&a, "SELECT 0", "+QUEUED\r\n");
    ck_assert(!client_send(&a, "EXEC"));
}
END_TEST

START_TEST(nested_calls_are_refused_and_do_no_harm)
{
    (void)client_send(&a, "MULTI");
    (void)client_output(&a);
    client_assert(&a, "MULTI", "-ERR MULTI calls can not be nested\r\n");
    client_assert(&a, "WATCH k", "-ERR WATCH inside MULTI is not allowed\r\n");
    client_assert(&a, "SET k 1", "+QUEUED\r\n");
    client_assert(&a, "EXEC", "");
    fake_assert_oldest("EXEC: [SET k 1]");
}
END_TEST

START_TEST(discard_forgets_everything)
{
    client_assert(&a, "DISCARD", "-ERR DISCARD without MULTI\r\n");
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "SET k 1", "+QUEUED\r\n");
    client_assert(&a, "DISCARD", "+OK\r\n");
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "EXEC", "*0\r\n");
}
END_TEST

START_TEST(too_large_transaction_is_refused)
{
    char line[3000] = "SET k ";
    memset(line + 6, 'x', sizeof line - 7);
    line[sizeof line - 1] = '\0';
    fake_config.entry_bytes_max = 64 * 1024;
    client_assert(&a, "MULTI", "+OK\r\n");
    const char *reply = "";
    for (unsigned i = 0; i < 100 && reply[0] != '-'; i++) {
        (void)client_send(&a, line);
        reply = client_output(&a);
    }
    ck_assert_str_eq(reply, "-ERR Transaction too large: its commands exceed max-entry-size\r\n");
    client_assert(&a, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
}
END_TEST

static void watch_answer(const int64_t *revisions, size_t n)
{
    struct store_reply *reply = fake_begin();
    reply->ops->array(reply, n);
    for (size_t i = 0; i < n; i++) {
        reply->ops->integer(reply, revisions[i]);
    }
    fake_end();
}

START_TEST(watch_reads_revisions_and_pauses_meanwhile)
{
    static const int64_t revisions[] = {7, 0};
    ck_assert(!client_send(&a, "WATCH x y x"));
    fake_assert_oldest("lockstep.revision x y");
    ck_assert_str_eq(client_output(&a), "");
    watch_answer(revisions, 2);
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
    ck_assert_uint_eq(a.conn.resumed, 1);
    (void)client_send(&a, "MULTI");
    (void)client_send(&a, "INCR x");
    (void)client_send(&a, "EXEC");
    fake_assert_oldest("EXEC x=7 y=0: [INCR x]");
}
END_TEST

START_TEST(watch_understands_another_nodes_bytes)
{
    (void)client_send(&a, "WATCH x y");
    fake_finish_raw("*2\r\n:12\r\n:34\r\n");
    ck_assert_str_eq(client_output(&a), "+OK\r\n");
    (void)client_send(&a, "MULTI");
    (void)client_send(&a, "EXEC");
    fake_assert_oldest("EXEC x=12 y=34:");
}
END_TEST

START_TEST(second_watch_keeps_the_first_revision)
{
    static const int64_t first[] = {7};
    static const int64_t second[] = {9};
    (void)client_send(&a, "WATCH x");
    watch_answer(first, 1);
    (void)client_send(&a, "WATCH x y");
    fake_assert_oldest("lockstep.revision y");
    watch_answer(second, 1);
    (void)client_output(&a);
    client_assert(&a, "WATCH y", "+OK\r\n");
    (void)client_send(&a, "MULTI");
    (void)client_send(&a, "EXEC");
    fake_assert_oldest("EXEC x=7 y=9:");
}
END_TEST

START_TEST(failed_watch_watches_nothing)
{
    static const char *const answers[] = {
        "-CLUSTERDOWN no leader\r\n", "*1\r\n:1\r\n",        "*2\r\n:1\r\n",  "*2\r\n:1\r\n$1\r\nx\r\n",
        "*2\r\n:1\r\n:2\r\n:3\r\n",   "*2\r\n:1\r\n:-2\r\n", "*2\r\n:1\r\n:2"};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        (void)client_send(&a, "WATCH x y");
        fake_finish_raw(answers[i]);
        ck_assert_int_eq(client_output(&a)[0], '-');
        (void)client_send(&a, "MULTI");
        (void)client_output(&a);
        client_assert(&a, "EXEC", "*0\r\n");
    }
}
END_TEST

START_TEST(unwatch_exec_and_discard_forget_watched_keys)
{
    static const int64_t revision[] = {7};
    static const char *const ends[] = {"UNWATCH", "MULTI DISCARD", "RESET"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        (void)client_send(&a, "WATCH x");
        watch_answer(revision, 1);
        if (i == 1) {
            (void)client_send(&a, "MULTI");
            (void)client_send(&a, "DISCARD");
        } else {
            (void)client_send(&a, ends[i]);
        }
        (void)client_send(&a, "MULTI");
        (void)client_output(&a);
        client_assert(&a, "EXEC", "*0\r\n");
    }
}
END_TEST

START_TEST(muted_watch_still_watches)
{
    static const int64_t revision[] = {7};
    (void)client_send(&a, "CLIENT REPLY SKIP");
    (void)client_send(&a, "WATCH x");
    watch_answer(revision, 1);
    ck_assert_str_eq(client_output(&a), "");
    (void)client_send(&a, "MULTI");
    (void)client_send(&a, "EXEC");
    fake_assert_oldest("EXEC x=7:");
}
END_TEST

START_TEST(connection_may_close_with_a_watch_under_way)
{
    (void)client_send(&a, "WATCH x");
    client_close(&a);
    fake_end();
}
END_TEST

/* --- WAIT --- */

START_TEST(wait_keeps_its_place)
{
    (void)client_send(&a, "SET k 1");
    ck_assert(!client_send(&a, "WAIT 1 0"));
    ck_assert_str_eq(client_output(&a), "");
    fake_finish_status("OK");
    ck_assert_str_eq(client_output(&a), "+OK\r\n:1\r\n");
    ck_assert_uint_eq(a.conn.resumed, 1);
}
END_TEST

START_TEST(wait_for_more_than_the_majority_watches_the_others)
{
    fake_match[1] = 100;
    fake_match[2] = 50;
    ck_assert(!client_send(&a, "WAIT 2 0"));
    ck_assert_int_ne(uv_run(&fake_loop, UV_RUN_ONCE), 0);
    ck_assert_str_eq(client_output(&a), "");
    fake_match[2] = 100;
    ck_assert_int_ne(uv_run(&fake_loop, UV_RUN_ONCE), 0);
    ck_assert_str_eq(client_output(&a), ":2\r\n");
    ck_assert_uint_eq(a.conn.resumed, 1);
}
END_TEST

START_TEST(wait_ends_with_its_time)
{
    ck_assert(!client_send(&a, "WAIT 3 1"));
    for (unsigned i = 0; i < 100 && a.conn.resumed == 0; i++) {
        ck_assert_int_ne(uv_run(&fake_loop, UV_RUN_ONCE), 0);
    }
    ck_assert_str_eq(client_output(&a), ":1\r\n");
}
END_TEST

START_TEST(wait_on_another_node_says_what_the_majority_guarantees)
{
    fake_leader = 2;
    client_assert(&a, "WAIT 2 0", ":1\r\n");
}
END_TEST

START_TEST(connection_may_close_in_wait)
{
    ck_assert(!client_send(&a, "WAIT 2 0"));
    client_close(&a);
    ck_assert_int_ne(uv_run(&fake_loop, UV_RUN_ONCE), 0);
}
END_TEST

/* --- Redirection --- */

START_TEST(redirect_names_the_leader)
{
    fake_config.redirect = true;
    fake_leader = 3;
    client_assert(&a, "GET foo", "-MOVED 12182 10.0.0.3:7373\r\n");
    client_assert(&a, "SET foo 1", "-MOVED 12182 10.0.0.3:7373\r\n");
    ck_assert_uint_eq(fake_last, 0);
}
END_TEST

START_TEST(redirect_without_a_leader_is_clusterdown)
{
    fake_config.redirect = true;
    fake_leader = 0;
    (void)client_send(&a, "GET foo");
    ck_assert_int_eq(strncmp(client_output(&a), "-CLUSTERDOWN ", 13), 0);
}
END_TEST

START_TEST(redirect_spares_the_leader_and_commands_without_keys)
{
    fake_config.redirect = true;
    (void)client_send(&a, "GET foo");
    fake_assert_oldest("GET foo");
    fake_finish_status("x");
    fake_leader = 2;
    (void)client_send(&a, "DBSIZE");
    fake_assert_oldest("DBSIZE");
}
END_TEST

START_TEST(readonly_session_reads_here)
{
    fake_config.redirect = true;
    fake_leader = 2;
    client_assert(&a, "READONLY", "+OK\r\n");
    (void)client_send(&a, "GET foo");
    fake_assert_oldest("GET foo");
    fake_finish_status("x");
    (void)client_output(&a);
    (void)client_send(&a, "SET foo 1");
    ck_assert_int_eq(strncmp(client_output(&a), "-MOVED", 6), 0);
    client_assert(&a, "READWRITE", "+OK\r\n");
    (void)client_send(&a, "GET foo");
    ck_assert_int_eq(strncmp(client_output(&a), "-MOVED", 6), 0);
}
END_TEST

START_TEST(redirected_command_aborts_its_transaction)
{
    fake_config.redirect = true;
    fake_leader = 2;
    client_assert(&a, "MULTI", "+OK\r\n");
    client_assert(&a, "SET foo 1", "-MOVED 12182 10.0.0.2:7372\r\n");
    client_assert(&a, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
}
END_TEST

START_TEST(watch_is_redirected_too)
{
    fake_config.redirect = true;
    fake_leader = 2;
    client_assert(&a, "WATCH foo", "-MOVED 12182 10.0.0.2:7372\r\n");
    ck_assert_uint_eq(fake_last, 0);
}
END_TEST

static Suite *session_suite(void)
{
    Suite *suite = suite_create("session");
    TCase *tcase = tcase_create("session");
    const TTest *const tests[] = {
        store_command_goes_to_the_executor,
        local_reply_waits_for_older_requests,
        error_reply_waits_for_older_requests,
        sessions_do_not_wait_for_each_other,
        raw_reply_is_passed_on,
        reply_has_the_protocol_of_its_request,
        congestion_pauses_until_relieved,
        connection_may_close_while_congested,
        too_many_pending_requests_pause,
        too_many_waiting_bytes_pause,
        closed_session_lives_until_its_requests_end,
        quit_closes_after_what_is_pending,
        end_of_input_closes_after_what_is_pending,
        end_of_input_with_nothing_pending_closes_at_once,
        end_of_input_while_paused_waits_for_the_rest,
        shutdown_stops_the_node_without_a_reply,
        kill_by_id_closes_the_other,
        kill_of_oneself_is_answered_first,
        idle_connections_are_closed_and_busy_ones_kept,
        reply_off_mutes_until_on,
        reply_skip_mutes_one,
        reset_turns_replies_on,
        transaction_is_submitted_as_one,
        queued_waits_for_older_requests,
        empty_transaction_is_answered_here,
        refused_command_aborts_the_transaction,
        local_commands_run_in_their_places,
        local_commands_alone_need_no_log,
        local_commands_do_not_run_if_the_others_did_not,
        a_cut_reply_is_an_error_in_its_place,
        a_connection_may_close_in_the_middle_of_exec,
        nested_calls_are_refused_and_do_no_harm,
        discard_forgets_everything,
        too_large_transaction_is_refused,
        watch_reads_revisions_and_pauses_meanwhile,
        watch_understands_another_nodes_bytes,
        second_watch_keeps_the_first_revision,
        failed_watch_watches_nothing,
        unwatch_exec_and_discard_forget_watched_keys,
        muted_watch_still_watches,
        connection_may_close_with_a_watch_under_way,
        wait_keeps_its_place,
        wait_for_more_than_the_majority_watches_the_others,
        wait_ends_with_its_time,
        wait_on_another_node_says_what_the_majority_guarantees,
        connection_may_close_in_wait,
        redirect_names_the_leader,
        redirect_without_a_leader_is_clusterdown,
        redirect_spares_the_leader_and_commands_without_keys,
        readonly_session_reads_here,
        redirected_command_aborts_its_transaction,
        watch_is_redirected_too,
    };
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(session_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
