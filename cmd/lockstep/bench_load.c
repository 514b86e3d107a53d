/* One load thread of `lockstep bench`: its connections on one epoll, requests in, replies counted.
 *
 * Closed loop: a connection sends a pipeline of `depth` requests (and WAIT, if asked), and the next one when every
 * reply has come. Open loop: requests are due at fixed instants; each is given to a connection with fewer than `depth`
 * outstanding, and its latency counts from the instant at which it was due, so a stalled server cannot hide the
 * requests it kept from being sent. With WAIT a request counts as answered when the WAIT behind it is.
 *
 * A lost connection costs its outstanding requests (counted as errors) and is opened again, for up to RECONNECT_NS: at
 * the same server, or, if there are spare ones, at the next. With spares a connection also leaves, at once, a server
 * that answers -TRYAGAIN or -CLUSTERDOWN: it executed nothing. In an open loop the request is then due again, as of
 * when it first was. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "cmd/lockstep/bench.h"
#include "cmd/lockstep/reply_skip.h"

#define READ_BYTES (256u << 10)
#define EVENTS_MAX 256
#define TURN_MS 50
#define CONNECT_MS 5000
#define RECONNECT_EVERY_NS UINT64_C(50000000)
#define RECONNECT_NS UINT64_C(10000000000)
#define DRAIN_NS UINT64_C(2000000000)    /* replies that come so late after the end still count as latencies */
#define SILENCE_NS UINT64_C(30000000000) /* with --requests: nothing at all for so long ends it */
#define WAIT_BYTES_MAX 64
#define OP_WAIT UINT8_MAX
#define SERVERS_MAX (2 * BENCH_ADDRESSES_MAX)

/* A request that was sent, until its result is recorded. */
struct flight {
    uint64_t start_ns; /* sent, or due */
    uint8_t op;
    bool failed; /* an error reply: not recorded when the WAIT behind it is answered */
};

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_OPEN };

struct load_conn {
    int fd;
    enum conn_state state;
    unsigned address;
    bool want_write; /* EPOLLOUT is armed */
    bool refused;    /* with spares: the server does not execute anything */
    uint64_t opened_ns;
    uint64_t retry_ns;
    struct reply_skip reply;
    char *out;
    size_t out_len, out_sent, out_capacity;
    struct flight *ring;
    uint32_t recorded, answered, sent; /* ring positions, each at most the next; counted without wrapping */
};

struct bench_load {
    struct bench_worker *worker;
    const struct bench_options *options;
    const struct workload *workload;
    struct workload_source source;
    int epoll_fd, timer_fd;
    struct load_conn *conns;
    unsigned n_conns, n_open, cursor;
    uint32_t ring_mask;
    struct addrinfo *resolved[SERVERS_MAX];
    unsigned n_servers; /* spares stand behind the others */
    char wait_request[WAIT_BYTES_MAX];
    size_t wait_len, op_len_max;
    uint64_t budget; /* requests left to send in the measured phase */
    uint64_t paced;  /* open loop: requests given to a connection so far */
    uint64_t *again; /* open loop with spares: when those were due that were refused; room for all in flight */
    size_t n_again;
    double period_ns;      /* open loop: between two of this worker's requests */
    uint64_t last_open_ns; /* when a connection was last up */
    uint64_t last_reply_ns;
    char *buffer;
};

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Counters have one writer: a plain add that readers see whole. */
static void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

__attribute__((format(printf, 2, 3))) static void worker_fail(struct bench_worker *worker, const char *format, ...)
{
    if (worker->failure[0] == '\0') {
        va_list args;
        va_start(args, format);
        vsnprintf(worker->failure, sizeof(worker->failure), format, args);
        va_end(args);
    }
}

static void load_count_error(struct bench_load *load, const struct flight *flight, const char *text)
{
    struct bench_worker *worker = load->worker;
    if (worker->error_text[0] == '\0') {
        snprintf(worker->error_text, sizeof(worker->error_text), "%s", text);
    }
    if (flight->start_ns >= worker->bench->measure_ns) {
        counter_add(&worker->counters.errors, 1);
    }
}

/* --- connections ---------------------------------------------------------------------------------------------------
 */

static uint32_t conn_outstanding(const struct load_conn *conn)
{
    return conn->sent - conn->recorded;
}

static int conn_watch(struct bench_load *load, struct load_conn *conn, int operation, bool want_write)
{
    struct epoll_event event = {.events = EPOLLIN | (want_write ? EPOLLOUT : 0u), .data.ptr = conn};
    conn->want_write = want_write;
    return epoll_ctl(load->epoll_fd, operation, conn->fd, &event);
}

/* Begin to connect. False (errno set): not even that. */
static bool conn_begin(struct bench_load *load, struct load_conn *conn)
{
    const struct addrinfo *to = load->resolved[conn->address];
    conn->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) {
        return false;
    }
    int on = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    int error = connect(conn->fd, to->ai_addr, to->ai_addrlen) == 0 ? 0 : errno;
    if ((error != 0 && error != EINPROGRESS) || conn_watch(load, conn, EPOLL_CTL_ADD, true) != 0) {
        error = error != 0 && error != EINPROGRESS ? error : errno;
        close(conn->fd);
        conn->fd = -1;
        errno = error;
        return false;
    }
    conn->state = CONN_CONNECTING;
    return true;
}

static int conn_socket_error(const struct load_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof(error);
    return getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

static void conn_opened(struct bench_load *load, struct load_conn *conn)
{
    conn->state = CONN_OPEN;
    conn->refused = false;
    conn->opened_ns = bench_now_ns();
    conn_watch(load, conn, EPOLL_CTL_MOD, false);
    reply_skip_init(&conn->reply);
    conn->out_len = conn->out_sent = 0;
    conn->recorded = conn->answered = conn->sent = 0;
    load->n_open++;
}

static void conn_retry_later(const struct bench_load *load, struct load_conn *conn)
{
    conn->retry_ns = bench_now_ns() + RECONNECT_EVERY_NS;
    if (load->options->n_spares > 0) {
        conn->address = (conn->address + 1) % load->n_servers;
    }
}

/* Close it; what was outstanding is counted as failed. It is opened again later. */
static void conn_lost(struct bench_load *load, struct load_conn *conn, const char *why)
{
    if (conn->state == CONN_OPEN) {
        load->n_open--;
        load->worker->disconnects++;
        for (; conn->recorded != conn->sent; conn->recorded++) {
            const struct flight *flight = &conn->ring[conn->recorded & load->ring_mask];
            if (flight->op != OP_WAIT && !flight->failed) {
                load_count_error(load, flight, why);
            }
        }
    }
    if (conn->fd >= 0) {
        close(conn->fd);
    }
    conn->fd = -1;
    conn->state = CONN_CLOSED;
    conn->recorded = conn->answered = conn->sent = 0;
    conn_retry_later(load, conn);
}

static void conn_flush(struct bench_load *load, struct load_conn *conn)
{
    while (conn->out_sent < conn->out_len) {
        ssize_t n = send(conn->fd, conn->out + conn->out_sent, conn->out_len - conn->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            conn_lost(load, conn, "connection lost");
            return;
        }
        if (n < 0) {
            break;
        }
        conn->out_sent += (size_t)n;
    }
    bool blocked = conn->out_sent < conn->out_len;
    if (!blocked) {
        conn->out_len = conn->out_sent = 0;
    }
    if (blocked != conn->want_write) {
        conn_watch(load, conn, EPOLL_CTL_MOD, blocked);
    }
}

/* --- sending -------------------------------------------------------------------------------------------------------
 */

static void flight_push(const struct bench_load *load, struct load_conn *conn, uint8_t op, uint64_t start_ns)
{
    assert(conn_outstanding(conn) <= load->ring_mask);
    conn->ring[conn->sent++ & load->ring_mask] = (struct flight){.start_ns = start_ns, .op = op};
}

static void conn_append_request(struct bench_load *load, struct load_conn *conn, uint64_t start_ns)
{
    unsigned op = workload_choose(load->workload, &load->source);
    size_t len = load->workload->ops[op].len;
    assert(conn->out_len + len <= conn->out_capacity);
    workload_render(load->workload, &load->source, op, conn->out + conn->out_len);
    conn->out_len += len;
    flight_push(load, conn, (uint8_t)op, start_ns);
}

static void conn_append_wait(struct bench_load *load, struct load_conn *conn, uint64_t start_ns)
{
    assert(conn->out_len + load->wait_len <= conn->out_capacity);
    memcpy(conn->out + conn->out_len, load->wait_request, load->wait_len);
    conn->out_len += load->wait_len;
    flight_push(load, conn, OP_WAIT, start_ns);
}

/* Requests may be sent now; *n is cut to what the request budget allows. */
static bool load_may_send(struct bench_load *load, uint64_t now_ns, uint64_t *n)
{
    const struct bench *bench = load->worker->bench;
    if (now_ns >= bench->end_ns || atomic_load_explicit(&bench->stop, memory_order_relaxed)) {
        return false;
    }
    if (load->options->requests > 0 && now_ns >= bench->measure_ns) {
        *n = *n < load->budget ? *n : load->budget;
        load->budget -= *n;
    }
    return *n > 0;
}

/* Closed loop: send a whole pipeline on an idle connection. */
static void conn_send_pipeline(struct bench_load *load, struct load_conn *conn)
{
    uint64_t now_ns = bench_now_ns();
    uint64_t n = load->options->depth;
    if (!load_may_send(load, now_ns, &n)) {
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        conn_append_request(load, conn, now_ns);
    }
    if (load->wait_len > 0) {
        conn_append_wait(load, conn, now_ns);
    }
    conn_flush(load, conn);
}

/* --- receiving -----------------------------------------------------------------------------------------------------
 */

static void load_record(struct bench_load *load, const struct flight *flight, uint64_t now_ns)
{
    struct bench_worker *worker = load->worker;
    const struct bench *bench = worker->bench;
    if (flight->failed || flight->start_ns < bench->measure_ns) {
        return;
    }
    uint64_t latency_ns = now_ns - flight->start_ns;
    histogram_record(&worker->histograms[flight->op], latency_ns);
    if (now_ns > bench->end_ns) {
        return; /* it came while draining: a latency, but not throughput of the measured time */
    }
    counter_add(&worker->counters.completed, 1);
    counter_add(&worker->counters.latency_us, latency_ns / 1000);
    if (worker->last_ns != 0 && now_ns - worker->last_ns > worker->longest_gap_ns) {
        worker->longest_gap_ns = now_ns - worker->last_ns;
    }
    worker->last_ns = now_ns;
}

static void load_answer_wait(struct bench_load *load, struct load_conn *conn, uint64_t now_ns)
{
    const struct reply_skip *reply = &conn->reply;
    bool enough = reply->type == ':' && reply->integer >= (int64_t)load->options->wait;
    const char *why = reply->type == '-' ? reply->text : "WAIT: too few replicas acknowledged";
    for (; conn->recorded != conn->answered; conn->recorded++) {
        const struct flight *flight = &conn->ring[conn->recorded & load->ring_mask];
        if (flight->op == OP_WAIT || flight->failed) {
            continue;
        }
        if (enough) {
            load_record(load, flight, now_ns);
        } else {
            load_count_error(load, flight, why);
        }
    }
}

/* Nothing was executed, and another server may do it: this one is stopping, was removed, knows no leader. */
static bool is_refusal(const struct reply_skip *reply)
{
    return reply->type == '-' &&
           (strncmp(reply->text, "CLUSTERDOWN", 11) == 0 || strncmp(reply->text, "TRYAGAIN", 8) == 0);
}

/* Due again. There is room: nothing new is sent before what was refused, so all that waits was in flight at once. */
static void load_repeat(struct bench_load *load, const struct flight *flight)
{
    assert(load->n_again < (size_t)load->n_conns * load->options->depth);
    load->again[load->n_again++] = flight->start_ns;
    load->worker->retries++;
    if (load->options->requests > 0 && flight->start_ns >= load->worker->bench->measure_ns) {
        load->budget++;
    }
}

static void load_answer(struct bench_load *load, struct load_conn *conn, uint64_t now_ns)
{
    const struct reply_skip *reply = &conn->reply;
    struct flight *flight = &conn->ring[conn->answered & load->ring_mask];
    conn->answered++;
    load->last_reply_ns = now_ns;
    if (flight->op == OP_WAIT) {
        load_answer_wait(load, conn, now_ns);
        return;
    }
    conn->refused = conn->refused || (load->options->n_spares > 0 && is_refusal(reply));
    if (load->again != NULL && is_refusal(reply)) {
        flight->failed = true;
        load_repeat(load, flight);
    } else if (reply->type == '-' || reply->type == '!') {
        flight->failed = true;
        load_count_error(load, flight, reply->text);
    } else if (reply->is_null && flight->start_ns >= load->worker->bench->measure_ns) {
        load->worker->misses++;
    }
    if (load->wait_len == 0) {
        load_record(load, flight, now_ns);
        conn->recorded++;
    }
}

/* Take what was read. False: the connection is gone. */
static bool conn_take(struct bench_load *load, struct load_conn *conn, const char *data, size_t len)
{
    uint64_t now_ns = bench_now_ns();
    while (len > 0) {
        enum reply_skip_event event;
        size_t taken = reply_skip_feed(&conn->reply, data, len, &event);
        data += taken;
        len -= taken;
        if (event == REPLY_SKIP_BAD || (event == REPLY_SKIP_DONE && conn->answered == conn->sent)) {
            worker_fail(load->worker, "%s",
                        event == REPLY_SKIP_BAD ? "the server's reply is not RESP"
                                                : "the server sent more replies than requests");
            conn_lost(load, conn, load->worker->failure);
            return false;
        }
        if (event == REPLY_SKIP_DONE) {
            load_answer(load, conn, now_ns);
        }
    }
    return true;
}

static void conn_readable(struct bench_load *load, struct load_conn *conn)
{
    for (;;) {
        ssize_t n = recv(conn->fd, load->buffer, READ_BYTES, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        }
        if (n <= 0) {
            conn_lost(load, conn, n == 0 ? "connection closed by the server" : "connection lost");
            return;
        }
        if (!conn_take(load, conn, load->buffer, (size_t)n)) {
            return;
        }
        if ((size_t)n < READ_BYTES) {
            break;
        }
    }
    if (conn->refused && conn_outstanding(conn) == 0) {
        const bool was_served = bench_now_ns() > conn->opened_ns + 2 * RECONNECT_EVERY_NS;
        conn_lost(load, conn, "refused");
        conn->retry_ns = was_served ? 0 : conn->retry_ns; /* if all servers refuse, not at once again and again */
        return;
    }
    if (load->options->rate <= 0 && conn_outstanding(conn) == 0) {
        conn_send_pipeline(load, conn);
    }
}

static void conn_event(struct bench_load *load, struct load_conn *conn, uint32_t events)
{
    if (conn->state == CONN_CONNECTING) {
        if (conn_socket_error(conn) != 0) {
            conn_lost(load, conn, "cannot connect");
            return;
        }
        conn_opened(load, conn);
        if (load->options->rate <= 0) {
            conn_send_pipeline(load, conn);
        }
        return;
    }
    if (conn->state == CONN_OPEN && (events & EPOLLOUT) != 0) {
        conn_flush(load, conn);
    }
    if (conn->state == CONN_OPEN && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
        conn_readable(load, conn);
    }
}

/* --- open loop -----------------------------------------------------------------------------------------------------
 */

static uint64_t load_due_ns(const struct bench_load *load, uint64_t number)
{
    return load->worker->bench->start_ns + (uint64_t)((double)number * load->period_ns);
}

/* The next connection with room in its pipeline, round robin; NULL: all are full. */
static struct load_conn *load_conn_with_room(struct bench_load *load)
{
    uint32_t room_below = load->options->depth;
    for (unsigned i = 0; i < load->n_conns; i++) {
        struct load_conn *conn = &load->conns[load->cursor];
        load->cursor = load->cursor + 1 == load->n_conns ? 0 : load->cursor + 1;
        /* Unsent bytes mean that a socket is full: the pipeline's buffer must not grow behind it. */
        bool room = load->wait_len > 0 ? conn_outstanding(conn) == 0 : conn_outstanding(conn) < room_below;
        if (conn->state == CONN_OPEN && room && conn->out_len == 0 && !conn->refused) {
            return conn;
        }
    }
    return NULL;
}

/* Send everything that is due and has room, and set the timer for what is due next. */
static void load_pace(struct bench_load *load)
{
    uint64_t now_ns = bench_now_ns();
    while (load->n_again > 0 || load_due_ns(load, load->paced) <= now_ns) {
        uint64_t n = 1;
        struct load_conn *conn = load_conn_with_room(load);
        if (conn == NULL || !load_may_send(load, now_ns, &n)) {
            return; /* a reply will call again */
        }
        uint64_t due_ns = load->n_again > 0 ? load->again[--load->n_again] : load_due_ns(load, load->paced++);
        conn_append_request(load, conn, due_ns);
        if (load->wait_len > 0) {
            conn_append_wait(load, conn, due_ns);
        }
        conn_flush(load, conn);
    }
    uint64_t next_ns = load_due_ns(load, load->paced);
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(next_ns / UINT64_C(1000000000)),
                                         .tv_nsec = (long)(next_ns % UINT64_C(1000000000))}};
    timerfd_settime(load->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* --- the thread ----------------------------------------------------------------------------------------------------
 */

static bool load_idle(const struct bench_load *load)
{
    for (unsigned i = 0; i < load->n_conns; i++) {
        if (conn_outstanding(&load->conns[i]) > 0) {
            return false;
        }
    }
    return true;
}

static void load_reconnect(struct bench_load *load, uint64_t now_ns)
{
    if (load->n_open > 0) {
        load->last_open_ns = now_ns;
    } else if (now_ns > load->last_open_ns + RECONNECT_NS) {
        worker_fail(load->worker, "every connection was lost, and none could be opened again for 10 s");
    }
    for (unsigned i = 0; load->n_open < load->n_conns && i < load->n_conns; i++) {
        struct load_conn *conn = &load->conns[i];
        if (conn->state == CONN_CLOSED && now_ns >= conn->retry_ns && !conn_begin(load, conn)) {
            conn_retry_later(load, conn);
        }
    }
}

/* Everything is sent that will be, and what is outstanding is answered or given up. */
static bool load_finished(const struct bench_load *load, uint64_t now_ns)
{
    const struct bench *bench = load->worker->bench;
    bool ended = now_ns >= bench->end_ns || atomic_load_explicit(&bench->stop, memory_order_relaxed);
    if (load->options->requests > 0 && now_ns >= bench->measure_ns && load->budget == 0 && load_idle(load)) {
        return true;
    }
    if (!ended) {
        return false;
    }
    return load_idle(load) || bench->end_ns == UINT64_MAX || now_ns > bench->end_ns + DRAIN_NS;
}

static void load_finish(struct bench_load *load)
{
    struct bench_worker *worker = load->worker;
    for (unsigned i = 0; i < load->n_conns; i++) {
        const struct load_conn *conn = &load->conns[i];
        for (uint32_t at = conn->recorded; at != conn->sent; at++) {
            const struct flight *flight = &conn->ring[at & load->ring_mask];
            worker->unanswered += flight->op != OP_WAIT && flight->start_ns >= worker->bench->measure_ns ? 1 : 0;
        }
    }
    if (load->options->rate > 0 && load->options->requests == 0) {
        uint64_t now_ns = bench_now_ns();
        uint64_t end_ns = now_ns < worker->bench->end_ns ? now_ns : worker->bench->end_ns;
        uint64_t due = (uint64_t)((double)(end_ns - worker->bench->start_ns) / load->period_ns);
        worker->unsent = due > load->paced ? due - load->paced : 0;
    }
    atomic_fetch_sub(&worker->bench->running, 1);
}

void bench_load_run(struct bench_load *load)
{
    struct epoll_event events[EVENTS_MAX];
    load->last_open_ns = load->last_reply_ns = bench_now_ns();
    for (unsigned i = 0; load->options->rate <= 0 && i < load->n_conns; i++) {
        conn_send_pipeline(load, &load->conns[i]);
    }
    for (;;) {
        if (load->options->rate > 0) {
            load_pace(load);
        }
        int n = epoll_wait(load->epoll_fd, events, EVENTS_MAX, TURN_MS);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL) {
                uint64_t expirations;
                (void)!read(load->timer_fd, &expirations, sizeof(expirations));
            } else {
                conn_event(load, events[i].data.ptr, events[i].events);
            }
        }
        uint64_t now_ns = bench_now_ns();
        load_reconnect(load, now_ns);
        if (load->options->requests > 0 && now_ns > load->last_reply_ns + SILENCE_NS) {
            worker_fail(load->worker, "the server stopped answering: no reply for 30 s");
        }
        if (load->worker->failure[0] != '\0' || load_finished(load, now_ns)) {
            break;
        }
    }
    load_finish(load);
}

/* --- open and close ------------------------------------------------------------------------------------------------
 */

static bool load_resolve(struct bench_load *load)
{
    const struct bench_options *options = load->options;
    load->n_servers = options->n_addresses + options->n_spares;
    for (unsigned i = 0; i < load->n_servers; i++) {
        const struct address *address =
            i < options->n_addresses ? &options->addresses[i] : &options->spares[i - options->n_addresses];
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
        char port[16];
        snprintf(port, sizeof(port), "%u", address->port);
        int error = getaddrinfo(address->host, port, &hints, &load->resolved[i]);
        if (error != 0) {
            worker_fail(load->worker, "cannot resolve %.100s: %s", address->host, gai_strerror(error));
            return false;
        }
    }
    return true;
}

static bool conn_open(struct bench_load *load, struct load_conn *conn)
{
    int error = 0;
    if (!conn_begin(load, conn)) {
        error = errno;
    } else {
        struct pollfd poll_fd = {.fd = conn->fd, .events = POLLOUT};
        error = poll(&poll_fd, 1, CONNECT_MS) == 1 ? conn_socket_error(conn) : ETIMEDOUT;
    }
    if (error != 0) {
        const struct address *address = &load->options->addresses[conn->address];
        worker_fail(load->worker, "cannot connect to %.100s:%u: %s", address->host, address->port, strerror(error));
        return false;
    }
    conn_opened(load, conn);
    return true;
}

static bool load_open_conns(struct bench_load *load)
{
    const struct bench_options *options = load->options;
    uint32_t ring = 1;
    /* Open loop with WAIT sends one WAIT per request, a closed loop one per pipeline. */
    while (ring < 2 * options->depth + 2) {
        ring *= 2;
    }
    load->ring_mask = ring - 1;
    for (unsigned i = 0; i < load->n_conns; i++) {
        struct load_conn *conn = &load->conns[i];
        conn->address = (load->worker->index + i * options->threads) % options->n_addresses;
        conn->out_capacity = options->depth * load->op_len_max + load->wait_len;
        conn->out = malloc(conn->out_capacity);
        conn->ring = calloc(ring, sizeof(*conn->ring));
        if (conn->out == NULL || conn->ring == NULL) {
            worker_fail(load->worker, "not enough memory for %u connections of depth %" PRIu32, options->connections,
                        options->depth);
            return false;
        }
        if (!conn_open(load, conn)) {
            return false;
        }
    }
    return true;
}

static void load_divide(struct bench_load *load)
{
    const struct bench_options *options = load->options;
    const struct workload *workload = load->workload;
    unsigned index = load->worker->index;
    load->n_conns = options->connections / options->threads + (index < options->connections % options->threads ? 1 : 0);
    load->budget = options->requests / options->threads + (index < options->requests % options->threads ? 1 : 0);
    load->period_ns = options->rate > 0 ? 1e9 * options->threads / options->rate : 0;
    workload_source_init(&load->source, index, options->threads, options->seed);
    for (unsigned i = 0; i < workload->n_ops; i++) {
        load->op_len_max = workload->ops[i].len > load->op_len_max ? workload->ops[i].len : load->op_len_max;
    }
    if (options->wait > 0) {
        char count[16];
        int digits = snprintf(count, sizeof(count), "%" PRIu32, options->wait);
        load->wait_len = (size_t)snprintf(load->wait_request, sizeof(load->wait_request),
                                          "*3\r\n$4\r\nWAIT\r\n$%d\r\n%s\r\n$1\r\n0\r\n", digits, count);
    }
}

struct bench_load *bench_load_open(struct bench_worker *worker)
{
    struct bench_load *load = calloc(1, sizeof(*load));
    if (load == NULL) {
        worker_fail(worker, "not enough memory");
        return NULL;
    }
    load->worker = worker;
    load->options = &worker->bench->options;
    load->workload = &worker->bench->workload;
    load_divide(load);
    for (unsigned i = 0; i < WORKLOAD_OPS_MAX; i++) {
        histogram_init(&worker->histograms[i]);
    }
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    load->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    load->conns = calloc(load->n_conns, sizeof(*load->conns));
    const bool repeats = load->options->n_spares > 0 && load->options->rate > 0;
    load->again = repeats ? calloc((size_t)load->n_conns * load->options->depth, sizeof(*load->again)) : NULL;
    load->buffer = malloc(READ_BYTES);
    for (unsigned i = 0; load->conns != NULL && i < load->n_conns; i++) {
        load->conns[i].fd = -1;
    }
    struct epoll_event timer = {.events = EPOLLIN, .data.ptr = NULL};
    if (load->epoll_fd < 0 || load->timer_fd < 0 || load->conns == NULL || load->buffer == NULL ||
        (repeats && load->again == NULL) || epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, load->timer_fd, &timer) != 0) {
        worker_fail(worker, "cannot set up a load thread: %s", strerror(errno));
    } else if (load_resolve(load) && load_open_conns(load)) {
        return load;
    }
    bench_load_close(load);
    return NULL;
}

void bench_load_close(struct bench_load *load)
{
    for (unsigned i = 0; load->conns != NULL && i < load->n_conns; i++) {
        if (load->conns[i].fd >= 0) {
            close(load->conns[i].fd);
        }
        free(load->conns[i].out);
        free(load->conns[i].ring);
    }
    for (unsigned i = 0; i < load->n_servers; i++) {
        if (load->resolved[i] != NULL) {
            freeaddrinfo(load->resolved[i]);
        }
    }
    if (load->epoll_fd >= 0) {
        close(load->epoll_fd);
    }
    if (load->timer_fd >= 0) {
        close(load->timer_fd);
    }
    free(load->conns);
    free(load->buffer);
    free(load->again);
    free(load);
}
