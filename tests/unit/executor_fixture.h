/* The executor of node 1 of three, with a replica that does what the test says, a store, one session, and what is sent.
 */
#ifndef LOCKSTEP_TESTS_EXECUTOR_FIXTURE_H
#define LOCKSTEP_TESTS_EXECUTOR_FIXTURE_H

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
static uint64_t link_bytes; /* that the network has not taken */
static unsigned n_relieved;
static struct {
    uint64_t peer;
    uint8_t bytes[FRAME_BYTES_MAX];
    size_t len; /* of which FRAME_BYTES_MAX are kept */
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
        const size_t kept = frames[n_frames].len < FRAME_BYTES_MAX ? frames[n_frames].len : FRAME_BYTES_MAX;
        const size_t room = FRAME_BYTES_MAX - kept;
        memcpy(frames[n_frames].bytes + kept, pieces[i].iov_base, pieces[i].iov_len < room ? pieces[i].iov_len : room);
        frames[n_frames].len += pieces[i].iov_len;
    }
    n_frames++;
    return true;
}

static void relieved_cb(void *ctx)
{
    (void)ctx;
    n_relieved++;
}

static uint64_t link_bytes_cb(void *ctx, uint64_t peer)
{
    (void)ctx;
    (void)peer;
    return link_bytes;
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
static uint64_t session_backlog; /* what its client has not taken */

static uint64_t backlog_cb(const struct exec_session *s)
{
    (void)s;
    return session_backlog;
}

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

__attribute__((unused)) static bool read_local(const char *command)
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
__attribute__((unused)) static void receive_entry(uint64_t index, const char *command)
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
    n_relieved = 0;
    link_up = true;
    link_bytes = 0;
    session_backlog = 0;
    mem_env_advance(mem, 1000000);
    const struct executor_config config = {.env = mem_env_env(mem),
                                           .store = store,
                                           .id = 1,
                                           .batch_bytes_max = 4096,
                                           .entry_bytes_max = 65536,
                                           .queue_bytes_max = 1 << 20,
                                           .forward_timeout_ms = 2000,
                                           .election_timeout_ms = TIMEOUT_MS,
                                           .replies_bytes_max = 8u << 20,
                                           .link_bytes = link_bytes_cb,
                                           .relieved = relieved_cb};
    ex = executor_new(&config);
    ck_assert_ptr_nonnull(ex);
    executor_attach(ex, (struct replica *)(uintptr_t)1);
    exec_session_init(ex, &session);
    session.backlog = backlog_cb;
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

#endif
