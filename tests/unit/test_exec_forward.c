/* Commands to and from other nodes, and their replies, in every order in which frames may come or be lost. */
#include "tests/unit/executor_fixture.h"

/* --- Requests ---------------------------------------------------------------------------------------------------- */

START_TEST(what_a_former_leader_declined_goes_to_the_next)
{
    set_leader(2, 6);
    struct test_request *first = submit("SET a 1");
    struct test_request *second = submit("SET a 2");
    turn();
    assert_sent(0, 2, "SET a 1 | SET a 2");
    answer(0, 0, "-TRY\r\n", 1);
    answer(0, 1, "-TRY\r\n", 1);
    struct test_request *third = submit("SET a 3");
    turn();
    ck_assert_uint_eq(n_frames, 1); /* not to that one again, in that term */
    set_leader(3, 7);
    turn();
    assert_sent(1, 3, "SET a 1 | SET a 2 | SET a 3");
    for (unsigned i = 0; i < 3; i++) {
        answer(1, i, "+OK\r\n", 0);
    }
    assert_reply(first, "+OK");
    assert_reply(second, "+OK");
    assert_reply(third, "+OK");
}
END_TEST

START_TEST(what_came_back_goes_before_what_was_held)
{
    set_leader(2, 6);
    (void)submit("SET a 1");
    (void)submit("SET a 2");
    turn();
    set_leader(3, 7);
    (void)submit("SET a 3"); /* held: the first two are with node 2 */
    turn();
    ck_assert_uint_eq(n_frames, 1);
    answer(0, 0, "+OK\r\n", 0);
    answer(0, 1, "-TRY\r\n", 1);
    turn();
    assert_sent(1, 3, "SET a 2 | SET a 3");
}
END_TEST

/* A REQUEST frame of a node for `term`, of its session 9. Takes `args`. */
static void forwarded_args(uint64_t peer, uint64_t term, uint64_t number, struct exec_args *args)
{
    uint8_t bytes[512] = {EXECUTOR_CHANNEL, 1, 1};
    const uint32_t one = 1;
    const uint64_t id = 9;

    ck_assert_uint_le(40 + args->len + 7, sizeof bytes);
    memcpy(bytes + 4, &one, 4);
    memcpy(bytes + 8, &term, 8);
    memcpy(bytes + 16, &number, 8);
    memcpy(bytes + 24, &id, 8);
    memcpy(bytes + 32, &args->len, 4);
    bytes[36] = 2;
    bytes[37] = args->transaction;
    memcpy(bytes + 40, args->bytes, args->len);
    ck_assert(executor_receive(ex, peer, bytes, 40 + ((args->len + 7) & ~7u)));
    free(args);
}

static void forwarded_by(uint64_t peer, uint64_t term, uint64_t number, const char *command)
{
    struct iovec argv[8];
    char line[128];

    (void)snprintf(line, sizeof line, "%s", command);
    const unsigned argc = split(line, argv);
    forwarded_args(peer, term, number, exec_args_command(argv, argc));
}

static void forwarded(uint64_t term, uint64_t number, const char *command)
{
    forwarded_by(2, term, number, command);
}

static uint32_t reply_flags(unsigned frame)
{
    ck_assert_uint_lt(frame, n_frames);
    ck_assert_uint_eq(frames[frame].bytes[2], 2);
    return (uint32_t)number_at(frames[frame].bytes + 36, 4);
}

START_TEST(a_former_leader_says_what_it_never_proposed)
{
    fake.propose = REPLICA_BUSY;
    forwarded(5, 100, "SET a 1");
    turn();
    ck_assert_uint_eq(n_frames, 0);
    fake_lose_leadership(ex, 3, 6);
    turn();
    ck_assert_uint_eq(n_frames, 1);
    ck_assert_uint_eq(frames[0].peer, 2);
    ck_assert_uint_eq(reply_flags(0), 1);
    forwarded(5, 101, "SET a 2"); /* sent before node 2 knew */
    turn();
    ck_assert_uint_eq(reply_flags(1), 1);
}
END_TEST

START_TEST(a_proposed_forward_is_never_declined)
{
    forwarded(5, 100, "SET a 1");
    turn();
    ck_assert_uint_eq(fake.n, 1);
    fake_lose_leadership(ex, 3, 6);
    turn();
    ck_assert_uint_eq(reply_flags(0), 0);
    ck_assert_ptr_nonnull(memmem(frames[0].bytes, frames[0].len, "-UNKNOWN", 8));
}
END_TEST

/* Replaced nodes come back under fresh ids, so one process sees more of them than a cluster may have. */
START_TEST(any_number_of_nodes_one_after_another_is_answered)
{
    for (uint64_t peer = 2; peer < 2 + 4 * (uint64_t)REPLICA_SERVERS_MAX; peer++) {
        fake.refused = true; /* a read that is answered at once */
        forwarded_by(peer, 5, 100, "GET a");
        turn();
        ck_assert_uint_eq(n_frames, 1);
        ck_assert_uint_eq(frames[0].peer, peer);
        n_frames = 0;
    }
}
END_TEST

/* Nobody is told that nothing was executed when it was. */
START_TEST(a_reply_too_large_to_relay_leaves_a_write_open)
{
    const size_t value_bytes = 8u << 20;
    const struct iovec set[] = {{"SET", 3}, {"a", 1}, {calloc(1, value_bytes), value_bytes}};
    const struct iovec get[] = {{"GET", 3}, {"a", 1}}, del[] = {{"DEL", 3}, {"b", 1}};
    struct store_queued commands[11];
    struct store_batch batch;
    void *data;
    size_t len;

    ck_assert_ptr_nonnull(set[2].iov_base);
    store_batch_init(&batch, 2 * value_bytes);
    ck_assert_int_eq(store_batch_add(&batch, set, 3), STORE_OK);
    ck_assert_int_eq(store_batch_seal(&batch, 1, &data, &len), STORE_OK);
    store_batch_fini(&batch);
    store_apply(store, data, len, NULL);
    free(data);
    free(set[2].iov_base);
    for (unsigned i = 0; i < 11; i++) {
        commands[i] = (struct store_queued){i == 0 ? del : get, 2};
    }
    forwarded_args(2, 5, 100, exec_args_transaction(NULL, 0, commands, 11));
    turn();
    fake_commit(ex);
    turn();
    ck_assert_uint_eq(n_frames, 1);
    ck_assert_ptr_nonnull(memmem(frames[0].bytes, frames[0].len, "-UNKNOWN", 8));
}
END_TEST

START_TEST(a_refusal_of_its_own_is_the_client_s)
{
    fake.propose = REPLICA_NO_SPACE;
    forwarded(5, 100, "SET a 1");
    turn();
    ck_assert_uint_eq(reply_flags(0), 0);
    ck_assert_ptr_nonnull(memmem(frames[0].bytes, frames[0].len, "-NOSPACE", 8));
}
END_TEST

START_TEST(a_lost_link_ends_the_sent_before_the_unsent)
{
    set_leader(2, 6);
    struct test_request *first = submit("SET a 1");
    turn();
    struct test_request *second = submit("SET a 2");
    link_up = false;
    executor_peer_state(ex, 2, false);
    turn();
    assert_reply(first, "-UNKNOWN");
    assert_reply(second, "-TRYAGAIN");
    ck_assert_uint_lt(first->ended, second->ended);
}
END_TEST

/* --- Replies ----------------------------------------------------------------------------------------------------- */

START_TEST(a_reply_to_a_later_request_ends_the_earlier_first)
{
    set_leader(2, 6);
    struct test_request *write = submit("SET a 1");
    struct test_request *read = submit("GET a");
    struct test_request *last = submit("SET a 2");
    turn();
    answer(0, 2, "+OK\r\n", 0);
    assert_reply(write, "-UNKNOWN");
    assert_reply(read, "-TRYAGAIN");
    assert_reply(last, "+OK");
    ck_assert_uint_eq(write->ended, 1);
    ck_assert_uint_eq(read->ended, 2);
    answer(0, 0, "+OK\r\n", 0); /* too late */
    ck_assert_uint_eq(write->out.len,
                      strlen("-UNKNOWN the outcome is not known: the command may have been executed\r\n"));
}
END_TEST

START_TEST(what_was_declined_ends_before_what_is_lost)
{
    set_leader(2, 6);
    struct test_request *first = submit("SET a 1");
    struct test_request *second = submit("SET a 2");
    turn();
    answer(0, 0, "-TRY\r\n", 1);
    executor_peer_state(ex, 2, false);
    turn();
    assert_reply(first, "-TRYAGAIN");
    assert_reply(second, "-UNKNOWN");
    ck_assert_uint_lt(first->ended, second->ended);
}
END_TEST

START_TEST(a_reply_to_what_was_not_sent_is_malformed)
{
    uint8_t bytes[16 + 24] = {EXECUTOR_CHANNEL, 1, 2, 0, 1};
    uint64_t numbers[REQUESTS_MAX] = {0};
    char text[64];
    set_leader(2, 6);
    struct test_request *first = submit("SET a 1");
    turn();
    struct test_request *second = submit("SET a 2");
    ck_assert_uint_eq(frame_commands(0, text, sizeof text, numbers), 1);
    numbers[0]++;
    memcpy(bytes + 16, numbers, 8);
    ck_assert(!executor_receive(ex, 2, bytes, sizeof bytes));
    answer(0, 0, "+OK\r\n", 0);
    assert_reply(first, "+OK");
    ck_assert_uint_eq(second->ended, 0);
}
END_TEST

/* The link is up and its queue is full: what could not be sent is made known once there is room. */
START_TEST(dropped_replies_are_told)
{
    fake.refused = true; /* reads are answered at once */
    forwarded(5, 100, "GET a");
    link_up = false;
    turn();
    forwarded(5, 101, "GET a");
    link_up = true;
    turn();
    ck_assert_uint_eq(n_frames, 2);
    ck_assert_uint_eq(frames[0].bytes[2], 3);
    ck_assert_uint_eq(frames[1].bytes[2], 2);
    turn();
    ck_assert_uint_eq(n_frames, 2);
}
END_TEST

/* --- Room -------------------------------------------------------------------------------------------------------- */

#define BIG_BYTES ((size_t)3 << 20)

static void fill_key_a(void)
{
    const struct iovec set[] = {{"SET", 3}, {"a", 1}, {calloc(1, BIG_BYTES), BIG_BYTES}};
    struct store_batch batch;
    void *data;
    size_t len;

    ck_assert_ptr_nonnull(set[2].iov_base);
    store_batch_init(&batch, 2 * BIG_BYTES);
    ck_assert_int_eq(store_batch_add(&batch, set, 3), STORE_OK);
    ck_assert_int_eq(store_batch_seal(&batch, 1, &data, &len), STORE_OK);
    store_batch_fini(&batch);
    store_apply(store, data, len, NULL);
    free(data);
    free(set[2].iov_base);
}

/* Turns go on until nothing is sent any more: numbers of replies that came, and whether with a RESET. */
static unsigned replies_sent(bool *reset)
{
    unsigned replies = 0, before;

    *reset = false;
    do {
        before = n_frames;
        mem_env_advance(mem, 2000);
        turn();
        executor_flush(ex);
    } while (n_frames > before);
    for (unsigned i = 0; i < n_frames; i++) {
        ck_assert(frames[i].bytes[2] == 2 || frames[i].bytes[2] == 3);
        *reset = *reset || frames[i].bytes[2] == 3;
        replies += frames[i].bytes[2] == 2 ? (unsigned)number_at(frames[i].bytes + 4, 4) : 0;
    }
    return replies;
}

START_TEST(reads_wait_while_the_link_has_enough_to_do)
{
    bool reset;

    fill_key_a();
    link_bytes = 4u << 20;
    for (unsigned i = 0; i < 10; i++) { /* 30 MiB: far more than may wait */
        forwarded(5, 100 + i, "GET a");
    }
    turn();
    fake_confirm(REPLICA_OK);
    ck_assert_uint_eq(replies_sent(&reset), 0);
    ck_assert_uint_eq(executor_outstanding(ex), 8); /* two were answered: more than enough for the link */
    link_bytes = 0;
    ck_assert_uint_eq(replies_sent(&reset), 10);
    ck_assert(!reset);
    ck_assert_uint_eq(executor_outstanding(ex), 0);
}
END_TEST

START_TEST(a_write_takes_the_waiting_reads_before_it_along)
{
    bool reset;

    fill_key_a();
    link_bytes = 4u << 20;
    for (unsigned i = 0; i < 5; i++) {
        forwarded(5, 100 + i, "STRLEN a"); /* nothing waits for these */
        forwarded(5, 110 + i, "GET a");
    }
    turn();
    fake_confirm(REPLICA_OK);
    turn();
    ck_assert_uint_eq(executor_outstanding(ex), 6);
    forwarded(5, 120, "SET a short");
    link_bytes = 0;
    turn();
    fake_commit(ex);
    ck_assert_uint_eq(replies_sent(&reset), 11);
    ck_assert_uint_eq(executor_outstanding(ex), 0);
    ck_assert(!reset);
}
END_TEST

/* 33 MiB, of which 8 may wait: the peer gets what was complete, and is then told. */
START_TEST(replies_of_writes_beyond_the_bound_are_told_in_order)
{
    bool reset;

    fill_key_a();
    link_bytes = 4u << 20;
    for (unsigned i = 0; i < 11; i++) {
        forwarded(5, 100 + i, "GETEX a PERSIST");
    }
    turn();
    fake_commit(ex);
    executor_flush(ex);
    ck_assert_uint_eq(n_frames, 0);
    link_bytes = 0;
    const unsigned replies = replies_sent(&reset);
    ck_assert(reset);
    ck_assert_uint_eq(replies, 2);
    ck_assert_uint_eq(frames[n_frames - 1].bytes[2], 3);
    forwarded(5, 111, "SET a 1");
    turn();
    fake_commit(ex);
    ck_assert_uint_eq(replies_sent(&reset), 3);
}
END_TEST

static void stop_or_go(uint64_t peer, uint64_t id, unsigned type)
{
    uint8_t bytes[16] = {EXECUTOR_CHANNEL, 1, (uint8_t)type};

    memcpy(bytes + 8, &id, 8);
    ck_assert(executor_receive(ex, peer, bytes, sizeof bytes));
}

START_TEST(a_session_that_said_stop_waits_until_it_says_go)
{
    bool reset;

    forwarded(5, 100, "GET a");
    stop_or_go(2, 8, 4); /* another session, of which nothing is here */
    stop_or_go(2, 9, 4);
    turn();
    fake_confirm(REPLICA_OK);
    ck_assert_uint_eq(replies_sent(&reset), 0);
    stop_or_go(3, 9, 5); /* another node's */
    ck_assert_uint_eq(replies_sent(&reset), 0);
    stop_or_go(2, 9, 5);
    ck_assert_uint_eq(replies_sent(&reset), 1);
}
END_TEST

START_TEST(a_link_that_breaks_ends_a_stop)
{
    bool reset;

    forwarded(5, 100, "GET a");
    stop_or_go(2, 9, 4);
    turn();
    fake_confirm(REPLICA_OK);
    ck_assert_uint_eq(replies_sent(&reset), 0);
    stop_or_go(2, 0, 3); /* RESET: a new connection */
    ck_assert_uint_eq(replies_sent(&reset), 1);
}
END_TEST

START_TEST(a_waiting_read_outlives_leadership)
{
    bool reset;

    forwarded(5, 100, "GET a");
    stop_or_go(2, 9, 4);
    turn();
    fake_confirm(REPLICA_OK);
    fake_lose_leadership(ex, 3, 6);
    ck_assert_uint_eq(replies_sent(&reset), 0);
    stop_or_go(2, 9, 5);
    ck_assert_uint_eq(replies_sent(&reset), 1); /* it was confirmed when this node led */
    ck_assert_uint_eq(reply_flags(0), 0);
}
END_TEST

static void assert_flow(unsigned frame, unsigned type)
{
    ck_assert_uint_lt(frame, n_frames);
    ck_assert_uint_eq(frames[frame].bytes[2], type);
    ck_assert_uint_eq(number_at(frames[frame].bytes + 8, 8), session.id);
    ck_assert_uint_eq(frames[frame].len, 16);
}

/* Its client does not read: the leader is asked to wait, and nothing expires meanwhile. */
START_TEST(a_slow_client_stops_the_leader)
{
    set_leader(2, 6);
    (void)submit("GET a");
    (void)submit("GET a");
    struct test_request *last = submit("GET a");
    turn();
    session_backlog = 1u << 20;
    answer(0, 0, "+1\r\n", 0);
    ck_assert_uint_eq(n_frames, 1);
    session_backlog = 20u << 20;
    answer(0, 1, "+1\r\n", 0);
    assert_flow(1, 4);
    for (unsigned i = 0; i < 100; i++) { /* ten times as long as a request waits for its answer */
        mem_env_advance(mem, 200000);
        turn();
        executor_flush(ex);
    }
    ck_assert_uint_eq(n_frames, 2);
    ck_assert_uint_eq(last->ended, 0);
    session_backlog = 1u << 20;
    mem_env_advance(mem, 2000);
    turn();
    assert_flow(2, 5);
    answer(0, 2, "+1\r\n", 0);
    assert_reply(last, "+1");
}
END_TEST

START_TEST(a_slow_client_that_goes_lets_the_leader_go_on)
{
    set_leader(2, 6);
    (void)submit("GET a");
    (void)submit("GET a");
    turn();
    session_backlog = 20u << 20;
    answer(0, 0, "+1\r\n", 0);
    assert_flow(1, 4);
    exec_session_detach(ex, &session);
    assert_flow(2, 5);
    answer(0, 1, "+1\r\n", 0);
    ck_assert_uint_eq(executor_outstanding(ex), 0);
}
END_TEST

START_TEST(what_is_forwarded_and_not_answered_congests)
{
    static char big[16 * 1024];

    set_leader(2, 6);
    ck_assert(!executor_congested(ex));
    for (unsigned i = 0; i < 12; i++) {
        char text[16];
        const struct iovec set[] = {
            {"SET", 3}, {text, (size_t)snprintf(text, sizeof text, "k%u", i)}, {big, sizeof big}};
        executor_submit(ex, &session, &request_new()->request, store_command_find("SET", 3), set, 3);
    }
    ck_assert(executor_congested(ex));
    turn();
    ck_assert_uint_eq(n_relieved, 0);
    executor_peer_state(ex, 2, false);
    ck_assert(!executor_congested(ex));
    turn();
    ck_assert_uint_eq(n_relieved, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec_forward");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_a_former_leader_declined_goes_to_the_next);
    tcase_add_test(tcase, what_came_back_goes_before_what_was_held);
    tcase_add_test(tcase, a_former_leader_says_what_it_never_proposed);
    tcase_add_test(tcase, a_proposed_forward_is_never_declined);
    tcase_add_test(tcase, any_number_of_nodes_one_after_another_is_answered);
    tcase_add_test(tcase, a_reply_too_large_to_relay_leaves_a_write_open);
    tcase_add_test(tcase, a_refusal_of_its_own_is_the_client_s);
    tcase_add_test(tcase, a_lost_link_ends_the_sent_before_the_unsent);
    tcase_add_test(tcase, a_reply_to_a_later_request_ends_the_earlier_first);
    tcase_add_test(tcase, what_was_declined_ends_before_what_is_lost);
    tcase_add_test(tcase, a_reply_to_what_was_not_sent_is_malformed);
    tcase_add_test(tcase, dropped_replies_are_told);
    tcase_add_test(tcase, reads_wait_while_the_link_has_enough_to_do);
    tcase_add_test(tcase, a_write_takes_the_waiting_reads_before_it_along);
    tcase_add_test(tcase, replies_of_writes_beyond_the_bound_are_told_in_order);
    tcase_add_test(tcase, a_session_that_said_stop_waits_until_it_says_go);
    tcase_add_test(tcase, a_link_that_breaks_ends_a_stop);
    tcase_add_test(tcase, a_waiting_read_outlives_leadership);
    tcase_add_test(tcase, a_slow_client_stops_the_leader);
    tcase_add_test(tcase, a_slow_client_that_goes_lets_the_leader_go_on);
    tcase_add_test(tcase, what_is_forwarded_and_not_answered_congests);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
