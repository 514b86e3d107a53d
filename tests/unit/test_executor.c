/* The executor of node 1 of three, with a replica that does what the test says. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/exec_args.h"
#include "cmd/lockstepd/executor.h"
#include "cmd/lockstepd/render.h"
#include "tests/unit/executor_replica.h"
#include "tests/unit/mem_env.h"

/* --- The executor and what it sends ----------------------------------------------------------------------------------
 */

#define FRAMES_MAX 16u
#define FRAME_BYTES_MAX 4096u

static struct mem_env *mem;
static struct store *store;
static struct executor *ex;
static bool link_up;
static struct {
    uint64_t peer;
    uint8_t bytes[FRAME_BYTES_MAX];
    size_t len;
} frames[FRAMES_MAX];
static unsigned n_frames;

static bool send_cb(void *ctx, uint64_t peer, const struct iovec *pieces, unsigned n)
{
    (void)ctx;
    if (!link_up) {
        return false;
    }
    ck_assert_uint_lt(n_frames, FRAMES_MAX);
    frames[n_frames].peer = peer;
    frames[n_frames].len = 0;
    for (unsigned i = 0; i < n; i++) {
        ck_assert_uint_le(frames[n_frames].len + pieces[i].iov_len, FRAME_BYTES_MAX);
        memcpy(frames[n_frames].bytes + frames[n_frames].len, pieces[i].iov_base, pieces[i].iov_len);
        frames[n_frames].len += pieces[i].iov_len;
    }
    n_frames++;
    return true;
}

static void relieved_cb(void *ctx)
{
    (void)ctx;
}

/* --- Requests --- */

#define REQUESTS_MAX 16u

struct test_request {
    struct exec_request request;
    struct render render;
    struct resp_buffer out;
    unsigned ended; /* as the how manieth, 0: not yet */
};

static struct test_request requests[REQUESTS_MAX];
static unsigned n_requests, n_ended;
static struct exec_session session;

static struct store_reply *begin_cb(struct exec_request *request)
{
    struct test_request *t = request->data;
    render_init(&t->render, &t->out, 2);
    return &t->render.reply;
}
static void raw_cb(struct exec_request *request, const void *bytes, size_t len)
{
    resp_buffer_append(&((struct test_request *)request->data)->out, bytes, len);
}
static void end_cb(struct exec_request *request)
{
    ((struct test_request *)request->data)->ended = ++n_ended;
}

static struct test_request *request_new(void)
{
    ck_assert_uint_lt(n_requests, REQUESTS_MAX);
    struct test_request *t = &requests[n_requests++];
    *t = (struct test_request){.request = {.data = t, .proto = 2, .begin = begin_cb, .raw = raw_cb, .end = end_cb}};
    resp_buffer_init(&t->out);
    return t;
}

static unsigned split(char *line, struct iovec *argv)
{
    unsigned argc = 0;
    for (char *word = strtok(line, " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = (struct iovec){word, strlen(word)};
    }
    return argc;
}

static struct test_request *submit(const char *command)
{
    struct test_request *t = request_new();
    struct iovec argv[8] = {{NULL, 0}};
    char line[128];
    (void)snprintf(line, sizeof line, "%s", command);
    const unsigned argc = split(line, argv);
    const struct store_command *c = store_command_find(argv[0].iov_base, argv[0].iov_len);
    ck_assert_ptr_nonnull(c);
    executor_submit(ex, &session, &t->request, c, argv, argc);
    return t;
}

static bool read_local(const char *command)
{
    struct test_request *t = request_new();
    struct iovec argv[8];
    char line[128];

    (void)snprintf(line, sizeof line, "%s", command);
    const unsigned argc = split(line, argv);
    return executor_read_local(ex, &session, store_command_find(argv[0].iov_base, argv[0].iov_len), argv, argc,
                               begin_cb(&t->request));
}

static void assert_reply(struct test_request *t, const char *prefix)
{
    ck_assert_uint_ne(t->ended, 0);
    ck_assert_msg(t->out.len >= strlen(prefix) && memcmp(t->out.data, prefix, strlen(prefix)) == 0, "%.*s is not %s",
                  (int)t->out.len, (const char *)t->out.data, prefix);
}

static void turn(void)
{
    executor_turn_end(ex);
}

/* --- What happens in the cluster --- */

static void set_leader(uint64_t leader, uint64_t term)
{
    fake.leader = leader;
    fake.term = term;
    executor_changed(ex);
}

/* An entry of another leader that is received and not applied. */
static void receive_entry(uint64_t index, const char *command)
{
    struct store_batch batch;
    struct iovec argv[8];
    char line[128];
    void *data;
    size_t len;

    (void)snprintf(line, sizeof line, "%s", command);
    const unsigned argc = split(line, argv);
    store_batch_init(&batch, 4096);
    ck_assert_int_eq(store_batch_add(&batch, argv, argc), STORE_OK);
    ck_assert_int_eq(store_batch_seal(&batch, 1, &data, &len), STORE_OK);
    executor_received(ex, index, data, len);
    fake.received = index;
    free(data);
    store_batch_fini(&batch);
}

static uint64_t number_at(const uint8_t *at, size_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, at, bytes);
    return v;
}

/* The commands of a REQUEST frame, "A b | C d", and their numbers. */
static unsigned frame_commands(unsigned frame, char *text, size_t capacity, uint64_t *numbers)
{
    const uint8_t *at = frames[frame].bytes;
    const unsigned count = (unsigned)number_at(at + 4, 4);
    struct exec_view view = {0};
    size_t used = 0;

    ck_assert_uint_eq(at[2], 1);
    at += 16;
    text[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        const uint32_t len = (uint32_t)number_at(at + 16, 4);
        numbers[i] = number_at(at, 8);
        const bool transaction = at[21] != 0;
        ck_assert(exec_args_decode(at + 24, len, transaction, &view));
        const struct store_queued single = {view.argv, view.argc};
        const struct store_queued *commands = transaction ? view.commands : &single;
        used += (size_t)snprintf(text + used, capacity - used, "%s%s", i > 0 ? " | " : "", transaction ? "EXEC" : "");
        for (unsigned w = 0; transaction && w < view.n_watches; w++) {
            used += (size_t)snprintf(text + used, capacity - used, " %.*s=%d", (int)view.watches[w].key.iov_len,
                                     (const char *)view.watches[w].key.iov_base, (int)view.watches[w].revision);
        }
        for (unsigned c = 0; c < (transaction ? view.n_commands : 1); c++) {
            for (unsigned k = 0; k < commands[c].argc; k++) {
                used += (size_t)snprintf(text + used, capacity - used, "%s%.*s", k > 0 || transaction ? " " : "",
                                         (int)commands[c].argv[k].iov_len, (const char *)commands[c].argv[k].iov_base);
            }
        }
        at += 24 + ((len + 7) & ~7u);
    }
    exec_view_fini(&view);
    return count;
}

static void assert_sent(unsigned frame, uint64_t peer, const char *commands)
{
    char text[1024];
    uint64_t numbers[REQUESTS_MAX];
    ck_assert_uint_lt(frame, n_frames);
    ck_assert_uint_eq(frames[frame].peer, peer);
    (void)frame_commands(frame, text, sizeof text, numbers);
    ck_assert_str_eq(text, commands);
}

/* Answer command `i` of a sent frame with RESP bytes (8 at most). */
static void answer(unsigned frame, unsigned i, const char *resp, uint32_t flags)
{
    char text[1024];
    uint64_t numbers[REQUESTS_MAX];
    uint8_t bytes[16 + 24 + 8] = {EXECUTOR_CHANNEL, 1, 2};
    const uint32_t one = 1;
    const uint32_t len = (uint32_t)strlen(resp);
    const uint64_t revision = 77;
    ck_assert_uint_lt(i, frame_commands(frame, text, sizeof text, numbers));
    ck_assert_uint_le(len, 8);
    memcpy(bytes + 4, &one, 4);
    memcpy(bytes + 16, &numbers[i], 8);
    memcpy(bytes + 24, &revision, 8);
    memcpy(bytes + 32, &len, 4);
    memcpy(bytes + 36, &flags, 4);
    memcpy(bytes + 40, resp, len);
    ck_assert(executor_receive(ex, frames[frame].peer, bytes, sizeof bytes));
}

static void setup(void)
{
    static const struct store_config sc = {.hash_seed = 1};
    mem = mem_env_new(1);
    mem_env_network(mem, send_cb, NULL);
    store = store_new(&sc);
    memset(&fake, 0, sizeof fake);
    fake.leader = 1;
    fake.term = 5;
    n_frames = 0;
    n_requests = 0;
    n_ended = 0;
    link_up = true;
    mem_env_advance(mem, 1000000);
    const struct executor_config config = {.env = mem_env_env(mem),
                                           .store = store,
                                           .id = 1,
                                           .batch_bytes_max = 4096,
                                           .entry_bytes_max = 65536,
                                           .queue_bytes_max = 1 << 20,
                                           .forward_timeout_ms = 2000,
                                           .election_timeout_ms = TIMEOUT_MS,
                                           .relieved = relieved_cb};
    ex = executor_new(&config);
    ck_assert_ptr_nonnull(ex);
    executor_attach(ex, (struct replica *)(uintptr_t)1);
    exec_session_init(ex, &session);
}

static void teardown(void)
{
    executor_stop(ex);
    fake_lose_leadership(ex, 0, fake.term);
    executor_free(ex);
    for (unsigned i = 0; i < n_requests; i++) {
        if (requests[i].request.session != NULL) {
            ck_assert_msg(requests[i].ended != 0, "request %u never ended", i);
        }
        resp_buffer_fini(&requests[i].out);
    }
    store_free(store);
    mem_env_free(mem);
}

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

/* --- To and from other nodes --- */

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

/* A REQUEST frame of a node for `term`: one command of its session 9. */
static void forwarded_by(uint64_t peer, uint64_t term, uint64_t number, const char *command)
{
    struct iovec argv[8];
    char line[128];
    uint8_t bytes[512] = {EXECUTOR_CHANNEL, 1, 1};
    const uint32_t one = 1;
    const uint64_t id = 9;

    (void)snprintf(line, sizeof line, "%s", command);
    const unsigned argc = split(line, argv);
    struct exec_args *args = exec_args_command(argv, argc);
    memcpy(bytes + 4, &one, 4);
    memcpy(bytes + 8, &term, 8);
    memcpy(bytes + 16, &number, 8);
    memcpy(bytes + 24, &id, 8);
    memcpy(bytes + 32, &args->len, 4);
    bytes[36] = 2;
    memcpy(bytes + 40, args->bytes, args->len);
    ck_assert(executor_receive(ex, peer, bytes, 40 + ((args->len + 7) & ~7u)));
    free(args);
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

START_TEST(a_refusal_of_its_own_is_the_client_s)
{
    fake.propose = REPLICA_NO_SPACE;
    forwarded(5, 100, "SET a 1");
    turn();
    ck_assert_uint_eq(reply_flags(0), 0);
    ck_assert_ptr_nonnull(memmem(frames[0].bytes, frames[0].len, "-NOSPACE", 8));
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
    tcase_add_test(tcase, what_a_former_leader_declined_goes_to_the_next);
    tcase_add_test(tcase, what_came_back_goes_before_what_was_held);
    tcase_add_test(tcase, a_former_leader_says_what_it_never_proposed);
    tcase_add_test(tcase, a_proposed_forward_is_never_declined);
    tcase_add_test(tcase, any_number_of_nodes_one_after_another_is_answered);
    tcase_add_test(tcase, a_refusal_of_its_own_is_the_client_s);
    tcase_add_test(tcase, a_refused_batch_ends_after_what_is_in_flight);
    tcase_add_test(tcase, a_lost_link_ends_the_sent_before_the_unsent);
    tcase_add_test(tcase, a_closed_connection_ends_in_order_too);
    tcase_add_test(tcase, stopping_ends_the_queue_after_the_flight);
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
