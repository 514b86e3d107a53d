/* Commands on their way to the leader and back. Frames: docs/FORMATS.md, section Forwarding.
 *
 * Origin: requests get consecutive numbers and are collected into one frame a turn. As long as that frame was not given
 * to the link they are definitely not executed; from then on only the leader's own reply is definite. If the link
 * breaks, the leader is replaced, or nothing comes in time, they end as -UNKNOWN, and nothing is ever sent twice. A
 * session's replies come in order: if one is for a later request, those before it are lost and end first.
 *
 * Leader: each session of another node has a proxy session here as long as it has unfinished requests, so that its
 * order is kept as for a local one; replies are rendered straight into the frame that goes back (exec_replies.c). While
 * the link has enough to do, or the client does not take what it was given (its node says STOP, and GO), reads wait
 * here, not their replies. Those of writes can't wait; if there are too many they are dropped, and a RESET tells the
 * origin so.
 *
 * Numbers and session ids start at a random point in each process, so that what was meant for an earlier run of a node
 * is never taken for this one's. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/exec_replies.h"
#include "cmd/lockstepd/executor_internal.h"
#include "cmd/lockstepd/render.h"
#include "net/resp.h"

/* Not executed, and never will be: the node that was meant does not lead any more. */
#define FORWARD_NOT_HERE 1u
/* A session with more than STOP bytes that its client does not take asks the leader to wait, until they are GO. */
#define STOP_BYTES ((uint64_t)16 * 1024 * 1024)
#define GO_BYTES ((uint64_t)4 * 1024 * 1024)
/* A single reply must fit a frame between nodes. */
#define FORWARD_REPLY_BYTES_MAX (72u * 1024 * 1024)

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
    struct forward *forward;
    uint64_t peer, remote_id;
    unsigned requests;
    bool stopped; /* by its own node */
};

struct proxy_request {
    struct exec_request request;
    struct forward *forward;
    struct proxy *proxy;
    struct reply_queue *out;
    struct render render;
    uint64_t number;
    size_t item; /* where its reply begins in `out`, SIZE_MAX: not begun */
};

#define PROXY_CHAINS 1024u /* a power of two */
/* Members, and as many that have left while their requests are unfinished. */
#define REPLY_QUEUES_MAX (2 * REPLICA_SERVERS_MAX)

struct forward {
    struct executor *executor;
    /* origin */
    struct outstanding *ring; /* capacity is a power of two */
    size_t capacity, front, count;
    uint64_t first;         /* number of the one at the front */
    struct resp_buffer out; /* collected this turn for out_peer in out_term */
    uint32_t out_count;
    uint64_t out_peer, out_term, out_first;
    struct exec_session *stopped; /* those that said STOP */
    struct env_timer timer;
    bool timer_set;
    /* leader */
    struct proxy *chains[PROXY_CHAINS];
    struct reply_queue replies[REPLY_QUEUES_MAX];
    unsigned n_replies;
    struct exec_view view;
};

static uint64_t now_us(const struct forward *f)
{
    struct env *env = f->executor->config.env;

    return env->ops->now_us(env);
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

/* It has been answered, or is given up. */
static struct exec_request *outstanding_take(struct forward *f, struct outstanding *o)
{
    struct exec_request *request = o->request;

    assert(f->executor->forwarded_bytes >= request->args->len);
    f->executor->forwarded_bytes -= request->args->len;
    o->request = NULL;
    return request;
}

static void outstanding_end(struct forward *f, struct outstanding *o, const char *error)
{
    struct exec_request *request = outstanding_take(f, o);
    const bool read = request->command != NULL && (request->command->flags & STORE_WRITE) == 0;

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

/* A session that does not take replies, or has just got one, is not forgotten: there are more on their way. */
static bool outstanding_expired(const struct forward *f, const struct outstanding *o, uint64_t until_us)
{
    const struct exec_session *s = o->request->session;
    const uint64_t patience_us = (uint64_t)f->executor->config.forward_timeout_ms * 1000;

    if (o->deadline_us > until_us) {
        return false;
    }
    return until_us == UINT64_MAX || o->peer != replica_leader(f->executor->replica) ||
           (!s->stopped && s->alive_us + patience_us <= until_us);
}

/* End those of `peer` (0: of any) whose deadline is at or before `until_us`, oldest first. */
static void outstanding_fail(struct forward *f, uint64_t peer, uint64_t until_us)
{
    const uint64_t end = outstanding_sent_end(f);

    for (uint64_t number = f->first; number != end; number++) {
        struct outstanding *o = outstanding_at(f, number);
        if (o != NULL && o->request != NULL && (peer == 0 || o->peer == peer) && outstanding_expired(f, o, until_us)) {
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
    const bool sent =
        !f->out.failed && exec_send_frame(f->executor, peer, FORWARD_REQUEST, f->out_term, f->out_count, &f->out);
    const uint32_t count = f->out_count;
    f->out_count = 0;
    resp_buffer_clear(&f->out);
    for (uint32_t i = 0; i < count && !sent; i++) { /* nothing was given to the link: definitely not executed */
        struct outstanding *o = outstanding_at(f, f->out_first + i);
        if (o != NULL && o->request != NULL) {
            struct exec_request *request = outstanding_take(f, o);
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
    f->executor->forwarded_bytes += request->args->len;
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

/* --- Origin: clients that don't take their replies ---------------------------------------------------------------- */

static void stopped_unlink(struct forward *f, struct exec_session *s)
{
    *(s->stopped_prev == NULL ? &f->stopped : &s->stopped_prev->stopped_next) = s->stopped_next;
    if (s->stopped_next != NULL) {
        s->stopped_next->stopped_prev = s->stopped_prev;
    }
    s->stopped = false;
}

static void session_stop(struct forward *f, struct exec_session *s)
{
    if (s->stopped || s->detached || s->unfinished <= 1 || s->backlog == NULL || s->backlog(s) <= STOP_BYTES ||
        !exec_send_frame(f->executor, s->route, FORWARD_STOP, s->id, 0, NULL)) {
        return; /* the next reply is another chance */
    }
    s->stopped = true;
    s->stopped_prev = NULL;
    s->stopped_next = f->stopped;
    if (f->stopped != NULL) {
        f->stopped->stopped_prev = s;
    }
    f->stopped = s;
}

static void session_go(struct forward *f, struct exec_session *s)
{
    if (exec_send_frame(f->executor, s->route, FORWARD_GO, s->id, 0, NULL)) {
        stopped_unlink(f, s);
        s->alive_us = now_us(f);
    }
}

static void stopped_look(struct forward *f)
{
    struct exec_session *next;

    for (struct exec_session *s = f->stopped; s != NULL; s = next) {
        next = s->stopped_next;
        if (s->unfinished == 0) {
            stopped_unlink(f, s); /* there is nothing at the leader any more */
        } else if (s->backlog(s) <= GO_BYTES) {
            session_go(f, s);
        }
    }
}

/* A link that broke, or is new, took all requests along. */
static void stopped_forget(struct forward *f, uint64_t peer)
{
    struct exec_session *next;

    for (struct exec_session *s = f->stopped; s != NULL; s = next) {
        next = s->stopped_next;
        if (s->route == peer) {
            stopped_unlink(f, s);
        }
    }
}

void forward_session_ends(struct forward *f, struct exec_session *s)
{
    if (s->stopped) {
        session_go(f, s);
    }
    if (s->stopped) { /* the link is full or gone */
        stopped_unlink(f, s);
    }
}

/* --- Origin: replies ---------------------------------------------------------------------------------------------- */

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
        (void)outstanding_take(f, o);
        exec_declined(ex, request->session->route, request->session->route_term);
        exec_route_again(ex, request);
        return true;
    }
    if (!end_earlier(f, request)) {
        return false;
    }
    (void)outstanding_take(f, outstanding_at(f, item->number)); /* the ring may have moved */
    struct exec_session *s = request->session;
    exec_session_saw(s, item->revision);
    s->alive_us = now_us(f);
    if (!s->detached) {
        request->raw(request, bytes, item->len);
        session_stop(f, s);
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

static struct proxy *proxy_find(struct forward *f, uint64_t peer, uint64_t id)
{
    struct proxy *p = *proxy_chain(f, peer, id);

    while (p != NULL && (p->peer != peer || p->remote_id != id)) {
        p = p->next;
    }
    return p;
}

/* Full or not: what the link and the client can't take stays unread. */
static uint64_t proxy_backlog(const struct exec_session *session)
{
    const struct proxy *p = (const struct proxy *)session;
    const struct forward *f = p->forward;
    bool full = p->stopped;

    for (unsigned i = 0; i < f->n_replies && !full; i++) {
        full = f->replies[i].peer == p->peer && reply_queue_full(&f->replies[i]);
    }
    return full ? UINT64_MAX : 0;
}

static void proxy_stop(struct forward *f, uint64_t peer, uint64_t id, bool stop)
{
    struct proxy *p = proxy_find(f, peer, id);

    if (p != NULL) {
        p->stopped = stop;
    }
}

static void proxies_go(struct forward *f, uint64_t peer)
{
    for (unsigned i = 0; i < PROXY_CHAINS; i++) {
        for (struct proxy *p = f->chains[i]; p != NULL; p = p->next) {
            p->stopped = p->stopped && p->peer != peer;
        }
    }
}

static struct proxy *proxy_get(struct forward *f, uint64_t peer, uint64_t id)
{
    struct proxy **chain = proxy_chain(f, peer, id);
    struct proxy *p = proxy_find(f, peer, id);

    if (p == NULL) {
        p = calloc(1, sizeof *p);
        if (p != NULL) {
            p->peer = peer;
            p->remote_id = id;
            exec_session_init(f->executor, &p->session);
            p->forward = f;
            p->session.proxy = true;
            p->session.backlog = proxy_backlog;
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
static struct reply_queue *reply_queue_for(struct forward *f, uint64_t peer)
{
    struct reply_queue *unused = NULL;

    for (unsigned i = 0; i < f->n_replies; i++) {
        struct reply_queue *out = &f->replies[i];
        if (out->peer == peer) {
            return out;
        }
        unused = out->requests == 0 && out->count == 0 && !reply_queue_waits(out) ? out : unused;
    }
    if (unused == NULL && f->n_replies < REPLY_QUEUES_MAX) {
        unused = &f->replies[f->n_replies++];
        reply_queue_init(unused);
    }
    if (unused != NULL) {
        reply_queue_drop(unused);
        unused->peer = peer;
    }
    return unused;
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
            reply_queue_flush(f->executor, q->out);
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
    struct reply_queue *out = reply_queue_for(f, from);
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
        proxies_go(f, from); /* its sessions have given up, if it was a link that broke */
        return true;
    case FORWARD_STOP:
    case FORWARD_GO:
        proxy_stop(f, from, head.term, head.type == FORWARD_STOP);
        return len == 0;
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
        reply_queue_flush(f->executor, &f->replies[i]);
    }
    if (f->stopped != NULL) {
        stopped_look(f);
    }
    arm_timer(f);
}

bool forward_waits(const struct forward *f)
{
    bool waits = f->stopped != NULL;

    for (unsigned i = 0; i < f->n_replies; i++) {
        waits = waits || reply_queue_waits(&f->replies[i]);
    }
    return waits;
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
        if (f->replies[i].peer == peer) {
            reply_queue_drop(&f->replies[i]); /* the next connection begins with RESET */
        }
    }
    proxies_go(f, peer);
    stopped_forget(f, peer);
    if (connected) {
        (void)exec_send_frame(f->executor, peer, FORWARD_RESET, 0, 0, NULL);
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
        reply_queue_fini(&f->replies[i]);
    }
    resp_buffer_fini(&f->out);
    exec_view_fini(&f->view);
    free(f->ring);
    free(f);
}
