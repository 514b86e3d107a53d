/* Commands on their way to the leader and back. Frames: docs/FORMATS.md, section Forwarding.
 *
 * Origin: requests get consecutive numbers and are collected into one frame a turn. As long as that frame was not given
 * to the link they are definitely not executed; from then on only the leader's own reply is definite. If the link
 * breaks, the leader is replaced, or nothing comes in time, they end as -UNKNOWN, and nothing is ever sent twice. A
 * session's replies come in order: if one is for a later request, those before it are lost and end first.
 *
 * Leader: each session of another node has a proxy session here as long as it has unfinished requests, so that its
 * order is kept as for a local one; replies are rendered straight into the frame that goes back. If the link's queue
 * has no room for them they are dropped, and a RESET tells the origin so.
 *
 * Numbers and session ids start at a random point in each process, so that what was meant for an earlier run of a node
 * is never taken for this one's. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/executor_internal.h"
#include "cmd/lockstepd/render.h"
#include "net/resp.h"

#define FORWARD_VERSION 1u
/* Not executed, and never will be: the node that was meant does not lead any more. */
#define FORWARD_NOT_HERE 1u
/* A reply frame is sent early above this size. */
#define FORWARD_FRAME_BYTES (1024u * 1024)
/* A single reply must fit a frame between nodes. */
#define FORWARD_REPLY_BYTES_MAX (72u * 1024 * 1024)

enum forward_type { FORWARD_REQUEST = 1, FORWARD_REPLY, FORWARD_RESET };

struct wire_head {
    uint8_t channel, version, type, reserved;
    uint32_t count;
    uint64_t term; /* REQUEST: of the leader meant */
};
static_assert(sizeof(struct wire_head) == 16, "wire format");

struct wire_request {
    uint64_t number, session;
    uint32_t len;
    uint8_t proto, transaction;
    uint16_t reserved;
};
static_assert(sizeof(struct wire_request) == 24, "wire format");

struct wire_reply {
    uint64_t number;
    uint64_t revision; /* of the leader's content when it answered */
    uint32_t len;
    uint32_t flags; /* FORWARD_NOT_HERE */
};
static_assert(sizeof(struct wire_reply) == 24, "wire format");

/* Sent and not answered, by number. */
struct outstanding {
    struct exec_request *request; /* NULL: ended */
    uint64_t peer;
    uint64_t deadline_us;
};

/* A session of another node. */
struct proxy {
    struct exec_session session;
    struct proxy *next; /* in its hash chain */
    uint64_t peer, remote_id;
    unsigned requests;
};

struct proxy_request {
    struct exec_request request;
    struct forward *forward;
    struct proxy *proxy;
    struct reply_buffer *out;
    struct render render;
    uint64_t number;
    size_t item; /* where its reply begins in `out`, SIZE_MAX: not begun */
};

struct reply_buffer {
    uint64_t peer;
    struct resp_buffer bytes;
    uint32_t count;
    unsigned requests; /* unfinished ones that will write here */
    bool lost;         /* replies were dropped, and the peer has not been told */
};

#define PROXY_CHAINS 1024u /* a power of two */
/* Members, and as many that have left while their requests are unfinished. */
#define REPLY_BUFFERS_MAX (2 * REPLICA_SERVERS_MAX)

struct forward {
    struct executor *executor;
    /* origin */
    struct outstanding *ring; /* capacity is a power of two */
    size_t capacity, front, count;
    uint64_t first;         /* number of the one at the front */
    struct resp_buffer out; /* collected this turn for out_peer in out_term */
    uint32_t out_count;
    uint64_t out_peer, out_term, out_first;
    struct env_timer timer;
    bool timer_set;
    /* leader */
    struct proxy *chains[PROXY_CHAINS];
    struct reply_buffer replies[REPLY_BUFFERS_MAX];
    unsigned n_replies;
    struct exec_view view;
};

static uint64_t now_us(const struct forward *f)
{
    struct env *env = f->executor->config.env;

    return env->ops->now_us(env);
}

static bool send_frame(struct forward *f, uint64_t peer, enum forward_type type, uint64_t term, uint32_t count,
                       const struct resp_buffer *items)
{
    struct env *env = f->executor->config.env;
    struct wire_head head = {EXECUTOR_CHANNEL, FORWARD_VERSION, (uint8_t)type, 0, count, term};
    const struct iovec pieces[2] = {{&head, sizeof head},
                                    {items != NULL ? items->data : NULL, items != NULL ? items->len : 0}};

    return env->ops->send(env, peer, pieces, items != NULL && items->len > 0 ? 2 : 1);
}

static void append_padded(struct resp_buffer *b, const void *data, size_t len)
{
    static const char zeros[8];

    resp_buffer_append(b, data, len);
    resp_buffer_append(b, zeros, (8 - len % 8) % 8);
}

/* --- Origin: what is outstanding ---------------------------------------------------------------------------------- */

static struct outstanding *outstanding_at(struct forward *f, uint64_t number)
{
    if (number - f->first >= f->count) {
        return NULL;
    }
    return &f->ring[(f->front + (number - f->first)) & (f->capacity - 1)];
}

static bool outstanding_push(struct forward *f, const struct outstanding *o)
{
    if (f->count == f->capacity) {
        const size_t capacity = f->capacity == 0 ? 256 : f->capacity * 2;
        struct outstanding *ring = malloc(capacity * sizeof *ring);
        if (ring == NULL) {
            return false;
        }
        for (size_t i = 0; i < f->count; i++) {
            ring[i] = f->ring[(f->front + i) & (f->capacity - 1)];
        }
        free(f->ring);
        f->ring = ring;
        f->capacity = capacity;
        f->front = 0;
    }
    f->ring[(f->front + f->count) & (f->capacity - 1)] = *o;
    f->count++;
    return true;
}

/* Drop ended ones from the front. */
static void outstanding_trim(struct forward *f)
{
    assert(f->count == 0 || f->ring != NULL);
    while (f->count > 0 && f->ring[f->front].request == NULL) {
        f->front = (f->front + 1) & (f->capacity - 1);
        f->first++;
        f->count--;
    }
}

/* Behind the last one that was given to the link. */
static uint64_t outstanding_sent_end(const struct forward *f)
{
    return f->out_count > 0 ? f->out_first : f->first + f->count;
}

static void outstanding_end(struct forward *f, struct outstanding *o, const char *error)
{
    struct exec_request *request = o->request;
    const bool read = request->command != NULL && (request->command->flags & STORE_WRITE) == 0;

    o->request = NULL;
    exec_finish_error(f->executor, request, read ? EXEC_TRYAGAIN : error);
}

/* Before `request` ends: those of its session that came earlier and have not ended were declined, and wait to be routed
 * again, or their replies are lost. False: neither. */
static bool end_earlier(struct forward *f, const struct exec_request *request)
{
    struct exec_session *s = request->session;
    const uint64_t end = request->number;

    while (s->ended + 1 != request->order) {
        struct outstanding *o = NULL;
        for (uint64_t number = f->first; number != end && o == NULL; number++) {
            o = outstanding_at(f, number);
            const struct exec_request *q = o != NULL ? o->request : NULL;
            o = q != NULL && q->session == s && q->order == s->ended + 1 ? o : NULL;
        }
        if (o != NULL) {
            outstanding_end(f, o, EXEC_UNKNOWN);
        } else if (!exec_end_waiting(f->executor, s)) {
            return false;
        }
    }
    return true;
}

/* End those of `peer` (0: of any) whose deadline is at or before `until_us`, oldest first. */
static void outstanding_fail(struct forward *f, uint64_t peer, uint64_t until_us)
{
    const uint64_t end = outstanding_sent_end(f);

    for (uint64_t number = f->first; number != end; number++) {
        struct outstanding *o = outstanding_at(f, number);
        if (o != NULL && o->request != NULL && (peer == 0 || o->peer == peer) && o->deadline_us <= until_us) {
            const bool first = end_earlier(f, o->request);
            assert(first);
            (void)first;
            outstanding_end(f, outstanding_at(f, number), EXEC_UNKNOWN);
        }
    }
    outstanding_trim(f);
}

static void flush_requests(struct forward *f)
{
    const uint64_t peer = f->out_peer;

    if (f->out_count == 0) {
        return;
    }
    const bool sent = !f->out.failed && send_frame(f, peer, FORWARD_REQUEST, f->out_term, f->out_count, &f->out);
    const uint32_t count = f->out_count;
    f->out_count = 0;
    resp_buffer_clear(&f->out);
    for (uint32_t i = 0; i < count && !sent; i++) { /* nothing was given to the link: definitely not executed */
        struct outstanding *o = outstanding_at(f, f->out_first + i);
        if (o != NULL && o->request != NULL) {
            struct exec_request *request = o->request;
            o->request = NULL;
            request->error = EXEC_TRYAGAIN; /* earlier ones of its session may have been sent, and end first */
            exec_route_again(f->executor, request);
        }
    }
    outstanding_trim(f);
}

void forward_submit(struct forward *f, struct exec_request *request, const struct exec_input *in)
{
    struct exec_session *s = request->session;
    const struct outstanding o = {request, s->route,
                                  now_us(f) + (uint64_t)f->executor->config.forward_timeout_ms * 1000};

    if (!exec_keep_args(request, in)) {
        exec_refuse(f->executor, request, EXEC_NO_MEMORY);
        return;
    }
    if (request->args->len > f->executor->config.entry_bytes_max) {
        exec_refuse(f->executor, request, EXEC_TOO_BIG);
        return;
    }
    if (f->out_count > 0 && (f->out_peer != s->route || f->out_term != s->route_term ||
                             f->out.len + request->args->len > FORWARD_FRAME_BYTES)) {
        flush_requests(f);
    }
    if (f->out_count == 0) {
        f->out_peer = s->route;
        f->out_term = s->route_term;
        f->out_first = f->first + f->count;
    }
    request->number = f->first + f->count;
    request->state = EXEC_FORWARDED;
    if (!outstanding_push(f, &o)) {
        exec_refuse(f->executor, request, EXEC_NO_MEMORY);
        return;
    }
    const struct wire_request item = {.number = request->number,
                                      .session = s->id,
                                      .len = request->args->len,
                                      .proto = (uint8_t)request->proto,
                                      .transaction = request->args->transaction};
    resp_buffer_append(&f->out, &item, sizeof item);
    append_padded(&f->out, request->args->bytes, request->args->len);
    f->out_count++; /* its arguments are kept: it may come back not executed */
    f->executor->stats.forwarded_out++;
}

/* False: it is for what was not sent, or overtakes what it can't overtake. */
static bool take_reply(struct forward *f, uint64_t from, const struct wire_reply *item, const uint8_t *bytes)
{
    struct executor *ex = f->executor;
    struct outstanding *o = outstanding_at(f, item->number);

    if (o == NULL || o->request == NULL || o->peer != from) {
        return true; /* it has ended without that */
    }
    struct exec_request *request = o->request;
    if (item->number - f->first >= outstanding_sent_end(f) - f->first) {
        return false;
    }
    if ((item->flags & FORWARD_NOT_HERE) != 0) {
        o->request = NULL;
        exec_declined(ex, request->session->route, request->session->route_term);
        exec_route_again(ex, request);
        return true;
    }
    if (!end_earlier(f, request)) {
        return false;
    }
    outstanding_at(f, item->number)->request = NULL; /* the ring may have moved */
    exec_session_saw(request->session, item->revision);
    if (!request->session->detached) {
        request->raw(request, bytes, item->len);
    }
    exec_finish(ex, request);
    return true;
}

static bool receive_replies(struct forward *f, uint64_t from, const uint8_t *at, size_t left, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct wire_reply item;
        if (left < sizeof item) {
            return false;
        }
        memcpy(&item, at, sizeof item);
        const size_t padded = ((size_t)item.len + 7) & ~(size_t)7;
        at += sizeof item;
        left -= sizeof item;
        if (left < padded || !take_reply(f, from, &item, at)) {
            return false;
        }
        at += padded;
        left -= padded;
    }
    outstanding_trim(f);
    return left == 0;
}

/* --- Leader: proxies ---------------------------------------------------------------------------------------------- */

static struct proxy **proxy_chain(struct forward *f, uint64_t peer, uint64_t id)
{
    const uint64_t h = (id ^ peer << 32) * 0x9E3779B97F4A7C15u;

    return &f->chains[(h >> 40) & (PROXY_CHAINS - 1)];
}

static struct proxy *proxy_get(struct forward *f, uint64_t peer, uint64_t id)
{
    struct proxy **chain = proxy_chain(f, peer, id);
    struct proxy *p = *chain;

    while (p != NULL && (p->peer != peer || p->remote_id != id)) {
        p = p->next;
    }
    if (p == NULL) {
        p = calloc(1, sizeof *p);
        if (p != NULL) {
            p->peer = peer;
            p->remote_id = id;
            exec_session_init(f->executor, &p->session);
            p->session.proxy = true;
            p->next = *chain;
            *chain = p;
        }
    }
    return p;
}

static void proxy_drop(struct forward *f, struct proxy *p)
{
    struct proxy **at = proxy_chain(f, p->peer, p->remote_id);

    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    free(p);
}

/* Ids are never used again, so one that nobody writes to may become another peer's. */
static struct reply_buffer *reply_buffer_for(struct forward *f, uint64_t peer)
{
    struct reply_buffer *unused = NULL;

    for (unsigned i = 0; i < f->n_replies; i++) {
        struct reply_buffer *out = &f->replies[i];
        if (out->peer == peer) {
            return out;
        }
        unused = out->requests == 0 && out->count == 0 ? out : unused;
    }
    if (unused == NULL && f->n_replies < REPLY_BUFFERS_MAX) {
        unused = &f->replies[f->n_replies++];
        resp_buffer_init(&unused->bytes);
    }
    if (unused != NULL) {
        unused->peer = peer;
        unused->lost = false;
    }
    return unused;
}

static void flush_replies(struct forward *f, struct reply_buffer *out)
{
    if (out->lost) {
        out->lost = !send_frame(f, out->peer, FORWARD_RESET, 0, 0, NULL);
    }
    if (out->count > 0) {
        out->lost =
            out->lost || out->bytes.failed || !send_frame(f, out->peer, FORWARD_REPLY, 0, out->count, &out->bytes);
    }
    out->count = 0;
    resp_buffer_clear(&out->bytes);
}

static struct store_reply *proxy_begin(struct exec_request *request)
{
    struct proxy_request *q = request->data;
    const struct wire_reply item = {.number = q->number}; /* filled in when it is complete */

    q->item = q->out->bytes.len;
    resp_buffer_append(&q->out->bytes, &item, sizeof item);
    render_init(&q->render, &q->out->bytes, request->proto);
    return &q->render.reply;
}

static void proxy_end(struct exec_request *request)
{
    struct proxy_request *q = request->data;
    struct forward *f = q->forward;
    struct proxy *p = q->proxy;
    struct resp_buffer *b = &q->out->bytes;

    if (q->item != SIZE_MAX && !b->failed) {
        const size_t start = q->item + sizeof(struct wire_reply);
        if (b->len - start > FORWARD_REPLY_BYTES_MAX) {
            const bool read = request->command != NULL && (request->command->flags & STORE_WRITE) == 0;
            const char *text = read ? EXEC_REPLY_TOO_BIG : EXEC_UNKNOWN;
            b->len = start;
            resp_write_error(b, text, strlen(text));
        }
        const struct wire_reply item = {.number = q->number,
                                        .revision = store_revision(f->executor->config.store),
                                        .len = (uint32_t)(b->len - start),
                                        .flags = request->not_here ? FORWARD_NOT_HERE : 0};
        memcpy(b->data + q->item, &item, sizeof item);
        static const char zeros[8];
        resp_buffer_append(b, zeros, (8 - item.len % 8) % 8);
        q->out->count++;
        if (b->len > FORWARD_FRAME_BYTES) {
            flush_replies(f, q->out);
        }
    }
    q->out->requests--;
    free(q);
    if (--p->requests == 0) {
        proxy_drop(f, p);
    }
}

/* One forwarded request: hand it to the executor as its proxy session's. */
static bool receive_request(struct forward *f, uint64_t from, const struct wire_request *item, const uint8_t *bytes,
                            bool leads)
{
    struct executor *ex = f->executor;
    const struct store_command *command = NULL;

    if ((item->proto != 2 && item->proto != 3) || item->transaction > 1 ||
        !exec_args_decode(bytes, item->len, item->transaction != 0, &f->view)) {
        return false;
    }
    if (item->transaction == 0) {
        command = store_command_find(f->view.argv[0].iov_base, f->view.argv[0].iov_len);
        if (command == NULL || !store_command_arity_ok(command, f->view.argc)) {
            return false;
        }
    }
    struct proxy *p = proxy_get(f, from, item->session);
    struct reply_buffer *out = reply_buffer_for(f, from);
    struct proxy_request *q = calloc(1, sizeof *q);
    if (p == NULL || out == NULL || q == NULL) {
        if (p != NULL && p->requests == 0) {
            proxy_drop(f, p);
        }
        free(q);
        return true; /* out of memory: no answer, the origin ends it as unknown */
    }
    *q = (struct proxy_request){.forward = f, .proxy = p, .out = out, .number = item->number, .item = SIZE_MAX};
    q->request.data = q;
    q->request.proto = item->proto;
    q->request.begin = proxy_begin;
    q->request.end = proxy_end;
    p->requests++;
    out->requests++;
    ex->stats.forwarded_in++;
    const struct exec_view *v = &f->view;
    const struct exec_input in = {command, v->argv, v->argc, v->watches, v->n_watches, v->commands, v->n_commands};
    exec_submit_forwarded(ex, &p->session, &q->request, &in, leads);
    return true;
}

static bool receive_requests(struct forward *f, uint64_t from, const struct wire_head *head, const uint8_t *at,
                             size_t left)
{
    struct replica *replica = f->executor->replica;
    const bool leads = replica_leader(replica) == f->executor->config.id && replica_term(replica) == head->term;

    for (uint32_t i = 0; i < head->count; i++) {
        struct wire_request item;
        if (left < sizeof item) {
            return false;
        }
        memcpy(&item, at, sizeof item);
        const size_t padded = ((size_t)item.len + 7) & ~(size_t)7;
        at += sizeof item;
        left -= sizeof item;
        if (left < padded || !receive_request(f, from, &item, at, leads)) {
            return false;
        }
        at += padded;
        left -= padded;
    }
    return left == 0;
}

bool forward_receive(struct forward *f, uint64_t from, const void *frame, size_t len)
{
    struct wire_head head;
    const uint8_t *at = frame;

    if (len < sizeof head) {
        return false;
    }
    memcpy(&head, at, sizeof head);
    if (head.channel != EXECUTOR_CHANNEL || head.version != FORWARD_VERSION) {
        return false;
    }
    at += sizeof head;
    len -= sizeof head;
    switch (head.type) {
    case FORWARD_REQUEST:
        return receive_requests(f, from, &head, at, len);
    case FORWARD_REPLY:
        return receive_replies(f, from, at, len, head.count);
    case FORWARD_RESET:
        outstanding_fail(f, from, UINT64_MAX);
        return true;
    default:
        return false;
    }
}

/* --- Events ------------------------------------------------------------------------------------------------------- */

static void arm_timer(struct forward *f)
{
    const struct env_ops *ops = f->executor->config.env->ops;

    if (f->timer_set || f->count == 0) {
        return;
    }
    f->timer_set = true;
    ops->timer_set(f->executor->config.env, &f->timer,
                   now_us(f) + (uint64_t)f->executor->config.election_timeout_ms * 250);
}

static void timer_cb(struct env_timer *timer)
{
    struct forward *f = timer->data;

    f->timer_set = false;
    outstanding_fail(f, 0, now_us(f));
    arm_timer(f);
}

void forward_turn_end(struct forward *f)
{
    flush_requests(f);
    for (unsigned i = 0; i < f->n_replies; i++) {
        if (f->replies[i].count > 0 || f->replies[i].lost) {
            flush_replies(f, &f->replies[i]);
        }
    }
    arm_timer(f);
}

/* A new leader is known: the old one's replies may still come, but not for longer than an election took. */
void forward_changed(struct forward *f)
{
    const uint64_t leader = replica_leader(f->executor->replica);
    const uint64_t grace_us = now_us(f) + (uint64_t)f->executor->config.election_timeout_ms * 1000;

    for (uint64_t n = f->first; n != f->first + f->count; n++) {
        struct outstanding *o = outstanding_at(f, n);
        if (o->request != NULL && leader != 0 && o->peer != leader && o->deadline_us > grace_us) {
            o->deadline_us = grace_us;
        }
    }
}

void forward_peer_state(struct forward *f, uint64_t peer, bool connected)
{
    for (unsigned i = 0; i < f->n_replies; i++) {
        f->replies[i].lost =
            f->replies[i].lost && f->replies[i].peer != peer; /* the next connection begins with RESET */
    }
    if (connected) {
        (void)send_frame(f, peer, FORWARD_RESET, 0, 0, NULL);
        return;
    }
    if (f->out_count > 0 && f->out_peer == peer) {
        flush_requests(f); /* refused by the link: those end as not executed */
    }
    outstanding_fail(f, peer, UINT64_MAX);
}

struct forward *forward_new(struct executor *ex)
{
    struct forward *f = calloc(1, sizeof *f);
    struct env *env = ex->config.env;

    if (f == NULL) {
        return NULL;
    }
    f->executor = ex;
    f->first = env->ops->random(env) >> 1;
    ex->next_session_id = env->ops->random(env) >> 1;
    resp_buffer_init(&f->out);
    f->timer.data = f;
    f->timer.cb = timer_cb;
    if (env->ops->timer_init(env, &f->timer) != ENV_OK) {
        free(f);
        return NULL;
    }
    return f;
}

void forward_stop(struct forward *f)
{
    flush_requests(f);
    outstanding_fail(f, 0, UINT64_MAX);
}

void forward_free(struct forward *f)
{
    struct env *env = f->executor->config.env;

    env->ops->timer_fini(env, &f->timer);
    for (unsigned i = 0; i < PROXY_CHAINS; i++) {
        while (f->chains[i] != NULL) {
            proxy_drop(f, f->chains[i]);
        }
    }
    for (unsigned i = 0; i < f->n_replies; i++) {
        resp_buffer_fini(&f->replies[i].bytes);
    }
    resp_buffer_fini(&f->out);
    exec_view_fini(&f->view);
    free(f->ring);
    free(f);
}
