/* Frames by which nodes forward commands, and their replies: any bytes, from either of two peers, at any moment of an
 * executor's life. The input is a list of steps: clients submit, frames come, leadership moves, entries commit, links
 * break. Whatever comes, each request ends exactly once, in its session's order and never while it is submitted, and
 * what this node sends is well-formed. Numbers in replies count from the first request sent, so that the fuzzer needn't
 * guess them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/exec_args.h"
#include "cmd/lockstepd/executor.h"
#include "cmd/lockstepd/render.h"
#include "tests/unit/executor_replica.h"
#include "tests/unit/mem_env.h"

#define SESSIONS 4u
#define REQUESTS_MAX 128u
#define HEAD_BYTES 16u
#define ITEM_BYTES 24u /* of a request as of a reply, before what it carries */
#define CHANNEL 2u     /* pinned: frames are understood by other versions */

enum { TYPE_REQUEST = 1, TYPE_REPLY, TYPE_RESET, TYPE_STOP, TYPE_GO };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition)
        abort();
}

struct client_request {
    struct exec_request request;
    struct render render;
    struct resp_buffer out;
    unsigned session;
    bool ended;
};

static struct {
    struct mem_env *mem;
    struct store *store;
    struct executor *executor;
    struct exec_session sessions[SESSIONS];
    unsigned ends[SESSIONS];  /* requests of it that ended */
    unsigned begun[SESSIONS]; /* and that were submitted */
    unsigned orders[REQUESTS_MAX];
    struct client_request requests[REQUESTS_MAX];
    unsigned n_requests;
    bool submitting;
    bool link_up[2]; /* to nodes 2 and 3 */
    uint64_t link_bytes, backlog;
    bool number_known;
    uint64_t first_number;
} run;

struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t take(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->data++;
}

/* --- What this node sends ----------------------------------------------------------------------------------------- */

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void sent_items_check(const uint8_t *at, size_t left, unsigned type, uint32_t count)
{
    struct exec_view view = {0};
    for (uint32_t i = 0; i < count; i++) {
        check(left >= ITEM_BYTES);
        const uint32_t len = load32(at + 16);
        const size_t padded = ((size_t)len + 7) & ~(size_t)7;
        check(left - ITEM_BYTES >= padded);
        if (type == TYPE_REQUEST) {
            check(exec_args_decode(at + ITEM_BYTES, len, at[21] != 0, &view));
            run.first_number = run.number_known ? run.first_number : load64(at);
            run.number_known = true;
        } else {
            check(len >= 3); /* the shortest reply of RESP is longer still */
        }
        at += ITEM_BYTES + padded;
        left -= ITEM_BYTES + padded;
    }
    check(left == 0);
    exec_view_fini(&view);
}

static bool sent_cb(void *ctx, uint64_t peer, const struct iovec *pieces, unsigned n)
{
    (void)ctx;
    check((peer == 2 || peer == 3) && (n == 1 || n == 2) && pieces[0].iov_len == HEAD_BYTES);
    if (!run.link_up[peer - 2])
        return false;
    const uint8_t *head = pieces[0].iov_base;
    check(head[0] == CHANNEL && head[1] == 1);
    check(head[2] >= TYPE_REQUEST && head[2] <= TYPE_GO);
    sent_items_check(n == 2 ? pieces[1].iov_base : head, n == 2 ? pieces[1].iov_len : 0, head[2], load32(head + 4));
    return true;
}

/* --- Clients ------------------------------------------------------------------------------------------------------ */

static struct store_reply *begin_cb(struct exec_request *request)
{
    struct client_request *c = request->data;
    check(!c->ended && c->out.len == 0);
    render_init(&c->render, &c->out, request->proto);
    return &c->render.reply;
}

static void raw_cb(struct exec_request *request, const void *bytes, size_t len)
{
    struct client_request *c = request->data;
    check(!c->ended && c->out.len == 0);
    resp_buffer_append(&c->out, bytes, len);
}

static void end_cb(struct exec_request *request)
{
    struct client_request *c = request->data;
    check(!run.submitting && !c->ended);
    check(run.orders[c - run.requests] == run.ends[c->session]++);
    c->ended = true;
}

static void relieved_cb(void *ctx)
{
    (void)ctx;
}

static uint64_t link_bytes_cb(void *ctx, uint64_t peer)
{
    (void)ctx;
    (void)peer;
    return run.link_bytes;
}

static uint64_t backlog_cb(const struct exec_session *session)
{
    check(!session->detached);
    return run.backlog;
}

static void submit(unsigned session, uint8_t what)
{
    static const struct {
        unsigned argc;
        struct iovec argv[4];
    } commands[] = {{2, {{"GET", 3}, {"a", 1}}},
                    {3, {{"SET", 3}, {"a", 1}, {"1", 1}}},
                    {2, {{"INCR", 4}, {"b", 1}}},
                    {3, {{"APPEND", 6}, {"a", 1}, {"xyz", 3}}},
                    {4, {{"MGET", 4}, {"a", 1}, {"b", 1}, {"c", 1}}},
                    {3, {{"DEL", 3}, {"a", 1}, {"b", 1}}},
                    {3, {{"SET", 3}, {"", 0}, {"", 0}}}};
    const unsigned n = sizeof commands / sizeof commands[0], i = what % (n + 1);
    struct client_request *c = &run.requests[run.n_requests];
    if (run.n_requests == REQUESTS_MAX || run.sessions[session].detached)
        return;
    *c = (struct client_request){
        .session = session,
        .request = {.data = c, .proto = 2 + (what >> 7), .begin = begin_cb, .raw = raw_cb, .end = end_cb}};
    resp_buffer_init(&c->out);
    run.orders[run.n_requests++] = run.begun[session]++;
    run.submitting = true;
    if (i < n) {
        executor_submit(run.executor, &run.sessions[session], &c->request,
                        store_command_find(commands[i].argv[0].iov_base, commands[i].argv[0].iov_len), commands[i].argv,
                        commands[i].argc);
    } else {
        const struct store_watch watch = {{"a", 1}, 1};
        const struct store_queued queued[] = {{commands[0].argv, commands[0].argc}, {commands[1].argv, 3}};
        executor_submit_transaction(run.executor, &run.sessions[session], &c->request, &watch, 1, queued, 2);
    }
    run.submitting = false;
}

/* --- Steps -------------------------------------------------------------------------------------------------------- */

/* The numbers of a REPLY, as far as lengths allow. */
static void numbers_mend(uint8_t *bytes, size_t size)
{
    if (size < HEAD_BYTES || bytes[2] != TYPE_REPLY || !run.number_known)
        return;
    for (size_t at = HEAD_BYTES; size - at >= ITEM_BYTES;) {
        const uint64_t number = load64(bytes + at) + run.first_number;
        const size_t padded = ((size_t)load32(bytes + at + 16) + 7) & ~(size_t)7;
        memcpy(bytes + at, &number, sizeof number);
        at += ITEM_BYTES;
        if (padded > size - at)
            return;
        at += padded;
    }
}

static void frame_receive(struct input *in, uint64_t from)
{
    size_t size = take(in);
    size |= (size_t)take(in) << 8;
    size = size < in->left ? size : in->left;
    uint8_t *bytes = malloc(size > 0 ? size : 1); /* of exactly this size, so that a read beyond it shows */
    check(bytes != NULL);
    memcpy(bytes, in->data, size);
    in->data += size;
    in->left -= size;
    numbers_mend(bytes, size);
    (void)executor_receive(run.executor, from, bytes, size);
    free(bytes);
}

static void commit(void)
{
    if (fake.first == fake.n)
        return;
    fake_commit(run.executor);
    fake.n -= fake.first;
    memmove(&fake.log[0], &fake.log[fake.first], fake.n * sizeof fake.log[0]);
    fake.first = 0;
}

/* Nobody leads twice in a term, and this node learns of its own at once. */
static void lead(uint8_t what)
{
    const uint64_t leader = what & 3;
    fake_lose_leadership(run.executor, leader, fake.term + (fake.leader != 0 || leader == 1 || (what & 4) != 0));
    fake.first = 0;
    fake.n = 0;
}

static void link_change(unsigned peer, bool up)
{
    run.link_up[peer - 2] = up;
    executor_peer_state(run.executor, peer, up);
}

static void weather(uint8_t what)
{
    static const enum replica_status statuses[] = {REPLICA_OK, REPLICA_BUSY, REPLICA_NO_SPACE, REPLICA_OK};
    switch (what & 3) {
    case 0:
        fake.propose = statuses[what >> 2 & 3];
        break;
    case 1:
        fake.local = (what & 4) != 0;
        fake.refused = (what & 8) != 0;
        break;
    case 2:
        exec_session_detach(run.executor, &run.sessions[what >> 2 & (SESSIONS - 1)]);
        break;
    default:
        if ((what & 0xfc) == 0xfc) {
            executor_drain(run.executor);
        } else if ((what & 0x80) != 0) {
            run.link_bytes = (what & 0x40) != 0 ? 64u << 20 : 0;
            run.backlog = (what & 0x20) != 0 ? 64u << 20 : 0;
        } else if (fake.n_reads > 0) {
            fake_confirm(REPLICA_OK);
        }
        break;
    }
}

static void step(struct input *in)
{
    const uint8_t what = take(in), arg = what >> 3;
    switch (what & 7) {
    case 0:
        frame_receive(in, 2 + (arg & 1));
        break;
    case 1:
        submit(arg & (SESSIONS - 1), take(in));
        break;
    case 2:
        executor_turn_end(run.executor);
        break;
    case 3:
        lead(arg);
        break;
    case 4:
        commit();
        break;
    case 5:
        mem_env_advance(run.mem, (uint64_t)arg * 100000);
        break;
    case 6:
        link_change(2 + (arg & 1), (arg & 2) != 0);
        break;
    default:
        weather(take(in));
        break;
    }
    while (fake.n_reads > READS_MAX / 2)
        fake_confirm(REPLICA_OK);
}

static void start(void)
{
    static const struct store_config store_config = {.hash_seed = 1};
    memset(&run, 0, sizeof run);
    memset(&fake, 0, sizeof fake);
    run.mem = mem_env_new(1);
    run.store = store_new(&store_config);
    run.link_up[0] = true;
    run.link_up[1] = true;
    fake.leader = 1;
    fake.term = 5;
    mem_env_network(run.mem, sent_cb, NULL);
    mem_env_advance(run.mem, 1000000);
    const struct executor_config config = {.env = mem_env_env(run.mem),
                                           .store = run.store,
                                           .id = 1,
                                           .batch_bytes_max = 4096,
                                           .entry_bytes_max = 65536,
                                           .queue_bytes_max = 1 << 16,
                                           .forward_timeout_ms = 2000,
                                           .election_timeout_ms = TIMEOUT_MS,
                                           .replies_bytes_max = 4096,
                                           .link_bytes = link_bytes_cb,
                                           .relieved = relieved_cb};
    run.executor = executor_new(&config);
    check(run.store != NULL && run.executor != NULL);
    executor_attach(run.executor, (struct replica *)(uintptr_t)1);
    for (unsigned i = 0; i < SESSIONS; i++) {
        exec_session_init(run.executor, &run.sessions[i]);
        run.sessions[i].backlog = backlog_cb;
    }
}

static void finish(void)
{
    executor_stop(run.executor); /* whatever still waits for room */
    lead(0);
    executor_free(run.executor);
    for (unsigned i = 0; i < run.n_requests; i++) {
        check(run.requests[i].ended);
        resp_buffer_fini(&run.requests[i].out);
    }
    store_free(run.store);
    mem_env_free(run.mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    start();
    while (in.left > 0)
        step(&in);
    finish();
    return 0;
}
