#include "net/server.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 16u

/* A server on a real loop, in the same thread as its clients, which are plain non-blocking sockets. */
static struct fixture {
    uv_loop_t loop;
    struct server *server;
    struct server_config config;
    bool closed; /* the server */
    int fds[CLIENTS_MAX];
    unsigned n_fds;
} f;

/* What the server's owner keeps per connection, and how it behaves. */
static struct session {
    struct conn *conn;
    unsigned requests;
    unsigned closed;
    char why[64];
} sessions[CLIENTS_MAX];
static unsigned n_sessions;
static struct {
    char log[1024]; /* one byte per request: the first of its first argument */
    size_t log_len;
    unsigned in_request; /* depth, to see that nothing re-enters */
    bool keep_after_eof;
    unsigned eofs;
    size_t big_bytes;
} owner;

static void *accepted_cb(void *ctx, struct conn *conn)
{
    ck_assert_ptr_eq(ctx, &f);
    if (n_sessions == CLIENTS_MAX)
        return NULL;
    struct session *session = &sessions[n_sessions++];
    session->conn = conn;
    return session;
}

static bool is_command(const struct iovec *arg, const char *name)
{
    return arg->iov_len == strlen(name) && memcmp(arg->iov_base, name, arg->iov_len) == 0;
}

static bool request_cb(void *data, struct conn *conn, const struct iovec *argv, unsigned argc)
{
    struct session *session = data;
    bool more = true;
    ck_assert_ptr_eq(session->conn, conn);
    ck_assert_uint_ge(argc, 1);
    ck_assert_uint_eq(session->closed, 0);
    ck_assert_uint_eq(owner.in_request++, 0);
    session->requests++;
    if (owner.log_len < sizeof(owner.log))
        owner.log[owner.log_len++] = *(const char *)argv[0].iov_base;
    if (is_command(&argv[0], "PING")) {
        resp_write_status(conn_output(conn), "PONG");
    } else if (is_command(&argv[0], "ECHO") && argc == 2) {
        resp_write_bulk(conn_output(conn), argv[1].iov_base, argv[1].iov_len);
    } else if (is_command(&argv[0], "QUIT")) {
        conn_write(conn, "+OK\r\n", 5);
        conn_close_after_write(conn);
    } else if (is_command(&argv[0], "KILL")) {
        conn_close(conn, "killed");
        conn_write(conn, "+never\r\n", 8);
        ck_assert_uint_eq(session->closed, 0); /* fires later, never inside */
    } else if (is_command(&argv[0], "WAIT")) {
        more = false;
    } else if (is_command(&argv[0], "BOUNCE")) {
        conn_resume(conn);
        resp_write_status(conn_output(conn), "BOUNCED");
        more = false;
    } else if (is_command(&argv[0], "BIG")) {
        char *big = malloc(owner.big_bytes);
        memset(big, 'b', owner.big_bytes);
        resp_write_bulk(conn_output(conn), big, owner.big_bytes);
        free(big);
    } else if (is_command(&argv[0], "SHUTDOWN")) {
        server_close(f.server, NULL, NULL);
        f.server = NULL;
        f.closed = true;
    }
    owner.in_request--;
    return more;
}

static void closed_cb(void *data, struct conn *conn, const char *why)
{
    struct session *session = data;
    ck_assert_ptr_eq(session->conn, conn);
    ck_assert_uint_eq(owner.in_request, 0);
    session->closed++;
    snprintf(session->why, sizeof(session->why), "%s", why);
}

static bool eof_cb(void *data, struct conn *conn)
{
    (void)data;
    (void)conn;
    owner.eofs++;
    return owner.keep_after_eof;
}

static void setup(void)
{
    memset(&f, 0, sizeof(f));
    memset(sessions, 0, sizeof(sessions));
    memset(&owner, 0, sizeof(owner));
    n_sessions = 0;
    ck_assert_int_eq(uv_loop_init(&f.loop), 0);
    f.config = (struct server_config){
        .loop = &f.loop, .ctx = &f, .accepted = accepted_cb, .request = request_cb, .closed = closed_cb};
}

static void start(void)
{
    const char *error;
    f.server = server_new(&f.config);
    ck_assert_ptr_nonnull(f.server);
    ck_assert_int_eq(server_listen(f.server, "127.0.0.1", 0, &error), 0);
    ck_assert_uint_ne(server_port(f.server), 0);
}

static void server_closed_cb(void *ctx)
{
    ck_assert_ptr_eq(ctx, &f);
    f.closed = true;
}

static void turn_once(void)
{
    uv_run(&f.loop, UV_RUN_NOWAIT);
}

/* Everything is gone from the loop: nothing leaked, nothing closes twice. */
static void teardown(void)
{
    if (f.server != NULL)
        server_close(f.server, server_closed_cb, &f);
    uv_run(&f.loop, UV_RUN_DEFAULT);
    ck_assert(f.closed);
    for (unsigned i = 0; i < n_sessions; i++)
        ck_assert_uint_eq(sessions[i].closed, 1);
    for (unsigned i = 0; i < f.n_fds; i++) {
        if (f.fds[i] >= 0)
            close(f.fds[i]);
    }
    ck_assert_int_eq(uv_loop_close(&f.loop), 0);
}

/* Runs the loop until the condition holds; the test's time-out bounds it. */
#define RUN_UNTIL(condition)                                                                                           \
    do {                                                                                                               \
        while (!(condition))                                                                                           \
            uv_run(&f.loop, UV_RUN_NOWAIT);                                                                            \
    } while (0)

static int client_new(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port(f.server))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int small = 32 * 1024;
    ck_assert_int_ge(fd, 0);
    /* Small, so that output backs up soon. */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    f.fds[f.n_fds++] = fd;
    return fd;
}

/* Sends all of it, running the loop when the socket is full. */
static void client_send(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0) {
            ck_assert_int_eq(errno, EAGAIN);
            turn_once();
            continue;
        }
        data += n;
        len -= (size_t)n;
    }
}

static void client_send_text(int fd, const char *text)
{
    client_send(fd, text, strlen(text));
}

/* Reads exactly what is expected. */
static void client_expect(int fd, const char *expected)
{
    char got[65536];
    const size_t len = strlen(expected);
    size_t at = 0;
    ck_assert_uint_lt(len, sizeof(got));
    while (at < len) {
        turn_once();
        ssize_t n = recv(fd, got + at, len - at, 0);
        ck_assert(n > 0 || (n < 0 && errno == EAGAIN));
        at += n > 0 ? (size_t)n : 0;
    }
    ck_assert_mem_eq(got, expected, len);
}

static void client_expect_end(int fd)
{
    char byte;
    ssize_t n;
    do {
        turn_once();
        n = recv(fd, &byte, 1, 0);
    } while (n < 0 && errno == EAGAIN);
    ck_assert(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* Reads and discards `len` bytes. */
static void client_skip(int fd, size_t len)
{
    static char sink[65536];
    while (len > 0) {
        turn_once();
        ssize_t n = recv(fd, sink, len < sizeof(sink) ? len : sizeof(sink), 0);
        ck_assert(n > 0 || (n < 0 && errno == EAGAIN));
        len -= n > 0 ? (size_t)n : 0;
    }
}

START_TEST(replies_to_pipelined_requests_in_order)
{
    start();
    int fd = client_new();
    client_send_text(fd, "PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nab\r\n*1\r\n$4\r\nPING\r\n");
    client_expect(fd, "+PONG\r\n$2\r\nab\r\n+PONG\r\n");
    struct server_stats stats;
    server_stats(f.server, &stats);
    ck_assert_uint_eq(stats.requests, 3);
    ck_assert_uint_eq(stats.accepted, 1);
    ck_assert_uint_eq(stats.current, 1);
    ck_assert_uint_eq(stats.bytes_in, 6 + 22 + 14);
    ck_assert_uint_eq(stats.bytes_out, 7 + 8 + 7);
}
END_TEST

START_TEST(a_request_in_single_bytes)
{
    start();
    int fd = client_new();
    const char request[] = "*2\r\n$4\r\nECHO\r\n$11\r\nhello world\r\n";
    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        client_send(fd, request + i, 1);
        turn_once();
    }
    client_expect(fd, "$11\r\nhello world\r\n");
}
END_TEST

START_TEST(a_large_value_comes_through_whole)
{
    const size_t len = 20u * 1024 * 1024;
    char *value = malloc(len);
    char *got = malloc(len + 64);
    size_t sent = 0, received = 0;
    char head[64];
    start();
    int fd = client_new();
    for (size_t i = 0; i < len; i++)
        value[i] = (char)(i * 31 + i / 4096);
    snprintf(head, sizeof(head), "*2\r\n$4\r\nECHO\r\n$%zu\r\n", len);
    client_send_text(fd, head);
    snprintf(head, sizeof(head), "$%zu\r\n", len);
    const size_t expected = strlen(head) + len + 2;
    while (received < expected) {
        if (sent < len + 2) {
            ssize_t n =
                sent < len ? send(fd, value + sent, len - sent, MSG_NOSIGNAL) : send(fd, "\r\n", 2, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
        }
        turn_once();
        ssize_t n = recv(fd, got + received, expected - received, 0);
        received += n > 0 ? (size_t)n : 0;
    }
    ck_assert_mem_eq(got, head, strlen(head));
    ck_assert(memcmp(got + strlen(head), value, len) == 0);
    RUN_UNTIL(conn_output_bytes(sessions[0].conn) == 0);
    ck_assert_uint_lt(conn_memory(sessions[0].conn), 4096);
    free(value);
    free(got);
}
END_TEST

START_TEST(an_idle_connection_holds_little_memory)
{
    start();
    int fd = client_new();
    client_send_text(fd, "*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n");
    client_expect(fd, "$3\r\nabc\r\n");
    ck_assert_uint_lt(conn_memory(sessions[0].conn), 2048);
    ck_assert_uint_eq(conn_query_bytes(sessions[0].conn), 0);
    ck_assert_uint_eq(conn_output_bytes(sessions[0].conn), 0);
}
END_TEST

START_TEST(a_long_pipeline_does_not_starve_others)
{
    f.config.requests_per_turn = 4;
    start();
    int greedy = client_new();
    int modest = client_new();
    RUN_UNTIL(n_sessions == 2);
    for (unsigned i = 0; i < 40; i++)
        client_send_text(greedy, "PING\r\n");
    client_send_text(modest, "ECHO x\r\n");
    RUN_UNTIL(owner.log_len == 41);
    size_t at = 0;
    while (owner.log[at] != 'E')
        at++;
    ck_assert_uint_le(at, 8); /* at most one share before, and one of a turn before the bytes of the other came */
    for (unsigned i = 0; i < 40; i++)
        client_expect(greedy, "+PONG\r\n");
    client_expect(modest, "$1\r\nx\r\n");
}
END_TEST

START_TEST(a_connection_gets_one_share_per_turn)
{
    f.config.requests_per_turn = 4;
    start();
    int fd = client_new();
    RUN_UNTIL(n_sessions == 1);
    for (unsigned i = 0; i < 30; i++)
        client_send_text(fd, "PING\r\n");
    for (size_t before = 0; before < 30; before = owner.log_len) {
        turn_once();
        ck_assert_uint_le(owner.log_len - before, 4);
    }
    for (unsigned i = 0; i < 30; i++)
        client_expect(fd, "+PONG\r\n");
}
END_TEST

START_TEST(two_long_pipelines_take_turns)
{
    f.config.requests_per_turn = 2;
    start();
    int a = client_new(), b = client_new();
    RUN_UNTIL(n_sessions == 2);
    for (unsigned i = 0; i < 20; i++) {
        client_send_text(a, "ECHO a\r\n");
        client_send_text(b, "PING\r\n");
    }
    RUN_UNTIL(owner.log_len == 40);
    int ahead = 0;
    for (size_t i = 0; i < owner.log_len; i++) {
        ahead += owner.log[i] == 'E' ? 1 : -1;
        ck_assert_int_le(abs(ahead), 4);
    }
}
END_TEST

START_TEST(false_stops_requests_until_resume)
{
    start();
    int fd = client_new();
    client_send_text(fd, "PING\r\nWAIT\r\nPING\r\n");
    client_expect(fd, "+PONG\r\n");
    for (unsigned i = 0; i < 20; i++)
        turn_once();
    ck_assert_uint_eq(sessions[0].requests, 2);
    client_send_text(fd, "ECHO a\r\n");
    for (unsigned i = 0; i < 20; i++)
        turn_once();
    ck_assert_uint_eq(sessions[0].requests, 2);
    conn_write(sessions[0].conn, "+WAITED\r\n", 9);
    conn_resume(sessions[0].conn);
    client_expect(fd, "+WAITED\r\n+PONG\r\n$1\r\na\r\n");
}
END_TEST

START_TEST(resume_from_inside_the_request_counts)
{
    start();
    int fd = client_new();
    client_send_text(fd, "BOUNCE\r\nPING\r\n");
    client_expect(fd, "+BOUNCED\r\n+PONG\r\n");
}
END_TEST

START_TEST(a_waiting_connection_reads_ahead_within_bounds)
{
    start();
    int fd = client_new();
    char junk[4096];
    memset(junk, 'x', sizeof(junk));
    client_send_text(fd, "WAIT\r\n");
    RUN_UNTIL(n_sessions == 1 && sessions[0].requests == 1);
    unsigned full = 0;
    while (full < 50) {
        if (send(fd, junk, sizeof(junk), MSG_NOSIGNAL) < 0)
            full++;
        turn_once();
    }
    ck_assert_uint_ge(conn_query_bytes(sessions[0].conn), 64 * 1024);
    ck_assert_uint_le(conn_query_bytes(sessions[0].conn), 512 * 1024);
}
END_TEST

START_TEST(a_waiting_connection_notices_that_its_client_left)
{
    start();
    int fd = client_new();
    client_send_text(fd, "WAIT\r\n");
    RUN_UNTIL(n_sessions == 1 && sessions[0].requests == 1);
    shutdown(fd, SHUT_RDWR);
    RUN_UNTIL(sessions[0].closed == 1);
    ck_assert_str_eq(sessions[0].why, "client closed connection");
}
END_TEST

START_TEST(requests_sent_before_the_end_are_answered)
{
    start();
    int fd = client_new();
    client_send_text(fd, "PING\r\nPING\r\n");
    shutdown(fd, SHUT_WR);
    client_expect(fd, "+PONG\r\n+PONG\r\n");
    client_expect_end(fd);
    RUN_UNTIL(sessions[0].closed == 1);
    ck_assert_str_eq(sessions[0].why, "client closed connection");
}
END_TEST

START_TEST(the_owner_may_answer_after_the_end)
{
    f.config.eof = eof_cb;
    owner.keep_after_eof = true;
    start();
    int fd = client_new();
    client_send_text(fd, "WAIT\r\n");
    shutdown(fd, SHUT_WR);
    RUN_UNTIL(owner.eofs == 1);
    ck_assert_uint_eq(sessions[0].closed, 0);
    conn_write(sessions[0].conn, "+LATE\r\n", 7);
    conn_close_after_write(sessions[0].conn);
    client_expect(fd, "+LATE\r\n");
    client_expect_end(fd);
}
END_TEST

START_TEST(the_owner_may_drop_after_the_end)
{
    f.config.eof = eof_cb;
    start();
    int fd = client_new();
    client_send_text(fd, "PING\r\n");
    shutdown(fd, SHUT_WR);
    client_expect(fd, "+PONG\r\n");
    client_expect_end(fd);
    ck_assert_uint_eq(owner.eofs, 1);
}
END_TEST

START_TEST(a_protocol_error_is_told_and_ends_the_connection)
{
    start();
    int fd = client_new();
    client_send_text(fd, "PING\r\n*x\r\nPING\r\n");
    client_expect(fd, "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n");
    client_expect_end(fd);
    RUN_UNTIL(sessions[0].closed == 1);
    ck_assert_str_eq(sessions[0].why, "protocol error");
    struct server_stats stats;
    server_stats(f.server, &stats);
    ck_assert_uint_eq(stats.protocol_errors, 1);
    ck_assert_uint_eq(stats.current, 0);
}
END_TEST

START_TEST(close_after_write_inside_a_request)
{
    start();
    int fd = client_new();
    client_send_text(fd, "PING\r\nQUIT\r\nPING\r\n");
    client_expect(fd, "+PONG\r\n+OK\r\n");
    client_expect_end(fd);
    ck_assert_uint_eq(sessions[0].requests, 2);
}
END_TEST

START_TEST(close_inside_a_request)
{
    start();
    int fd = client_new();
    client_send_text(fd, "KILL\r\nPING\r\n");
    client_expect_end(fd);
    RUN_UNTIL(sessions[0].closed == 1);
    ck_assert_str_eq(sessions[0].why, "killed");
    ck_assert_uint_eq(sessions[0].requests, 1);
}
END_TEST

START_TEST(close_of_the_server_inside_a_request)
{
    start();
    int a = client_new(), b = client_new();
    RUN_UNTIL(n_sessions == 2);
    client_send_text(a, "SHUTDOWN\r\nPING\r\n");
    client_expect_end(a);
    client_expect_end(b);
}
END_TEST

START_TEST(close_while_output_is_being_written)
{
    owner.big_bytes = 8u * 1024 * 1024;
    start();
    int fd = client_new();
    client_send_text(fd, "BIG\r\n");
    RUN_UNTIL(n_sessions == 1 && sessions[0].requests == 1);
    turn_once();
    ck_assert_uint_gt(conn_output_bytes(sessions[0].conn), 1024 * 1024);
    conn_close(sessions[0].conn, "killed");
    RUN_UNTIL(sessions[0].closed == 1);
}
END_TEST

START_TEST(close_after_write_waits_for_a_slow_client)
{
    owner.big_bytes = 8u * 1024 * 1024;
    start();
    int fd = client_new();
    client_send_text(fd, "BIG\r\nQUIT\r\n");
    RUN_UNTIL(n_sessions == 1 && sessions[0].requests >= 1);
    client_skip(fd, strlen("$8388608\r\n") + owner.big_bytes + 2);
    client_expect(fd, "+OK\r\n");
    client_expect_end(fd);
}
END_TEST

START_TEST(a_client_that_does_not_read_is_not_read)
{
    owner.big_bytes = 256u * 1024;
    f.config.output_bytes_pause = 512u * 1024;
    f.config.output_bytes_max = 4u * 1024 * 1024;
    start();
    int slow = client_new(), other = client_new();
    for (unsigned i = 0; i < 64; i++)
        client_send_text(slow, "BIG\r\n");
    client_send_text(other, "PING\r\n");
    client_expect(other, "+PONG\r\n");
    for (unsigned i = 0; i < 200; i++)
        turn_once();
    ck_assert_uint_eq(sessions[0].closed, 0);
    ck_assert_uint_le(conn_output_bytes(sessions[0].conn), 1024u * 1024);
    ck_assert_uint_lt(sessions[0].requests, 64);
    /* Once it reads, it gets everything. */
    client_skip(slow, 64 * (strlen("$262144\r\n") + owner.big_bytes + 2));
    ck_assert_uint_eq(sessions[0].requests, 64);
}
END_TEST

START_TEST(output_beyond_the_limit_closes)
{
    f.config.output_bytes_max = 1024u * 1024;
    owner.big_bytes = 64u * 1024 * 1024;
    start();
    int fd = client_new();
    client_send_text(fd, "BIG\r\n");
    RUN_UNTIL(n_sessions == 1 && sessions[0].closed == 1);
    ck_assert_str_eq(sessions[0].why, "output buffer limit reached");
    struct server_stats stats;
    server_stats(f.server, &stats);
    ck_assert_uint_eq(stats.output_limit_closed, 1);
}
END_TEST

START_TEST(pushed_output_beyond_the_limit_closes)
{
    f.config.output_bytes_max = 1024u * 1024;
    start();
    (void)client_new();
    RUN_UNTIL(n_sessions == 1);
    static char block[64 * 1024];
    memset(block, 'p', sizeof(block));
    for (unsigned i = 0; i < 2000 && sessions[0].closed == 0; i++) {
        conn_write(sessions[0].conn, block, sizeof(block));
        ck_assert_uint_le(conn_output_bytes(sessions[0].conn), 2u * 1024 * 1024);
        turn_once();
    }
    ck_assert_uint_eq(sessions[0].closed, 1);
    ck_assert_str_eq(sessions[0].why, "output buffer limit reached");
}
END_TEST

START_TEST(one_client_too_many)
{
    f.config.clients_max = 2;
    start();
    int a = client_new(), b = client_new();
    RUN_UNTIL(n_sessions == 2);
    int c = client_new();
    client_expect(c, "-ERR max number of clients reached\r\n");
    client_expect_end(c);
    client_send_text(a, "QUIT\r\n");
    client_expect(a, "+OK\r\n");
    client_expect_end(a);
    int d = client_new();
    client_send_text(d, "PING\r\n");
    client_expect(d, "+PONG\r\n");
    client_send_text(b, "PING\r\n");
    client_expect(b, "+PONG\r\n");
    struct server_stats stats;
    server_stats(f.server, &stats);
    ck_assert_uint_eq(stats.rejected, 1);
    ck_assert_uint_eq(stats.current, 2);
}
END_TEST

START_TEST(the_owner_may_refuse_a_connection)
{
    n_sessions = CLIENTS_MAX;
    start();
    int fd = client_new();
    client_expect_end(fd);
    n_sessions = 0;
}
END_TEST

START_TEST(output_from_any_phase_goes_out_without_another_event)
{
    start();
    int fd = client_new();
    RUN_UNTIL(n_sessions == 1);
    turn_once();
    conn_write(sessions[0].conn, "+NEWS\r\n", 7);
    /* A blocking turn: it would hang if the bytes waited for an event. */
    uv_run(&f.loop, UV_RUN_ONCE);
    char got[16];
    ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 7);
}
END_TEST

static void late_prepare_cb(uv_prepare_t *handle)
{
    if (n_sessions > 0 && handle->data == NULL) {
        handle->data = handle;
        conn_write(sessions[0].conn, "+LATE\r\n", 7);
    }
}

START_TEST(output_written_after_the_flush_does_not_wait_for_an_event)
{
    static uv_prepare_t prepare; /* until the loop is closed */
    uv_prepare_init(&f.loop, &prepare);
    prepare.data = NULL;
    uv_prepare_start(&prepare, late_prepare_cb); /* started first, so libuv runs it after the server's */
    start();
    int fd = client_new();
    char got[16];
    while (prepare.data == NULL)
        uv_run(&f.loop, UV_RUN_ONCE);
    uv_run(&f.loop, UV_RUN_ONCE); /* would hang */
    ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 7);
    uv_close((uv_handle_t *)&prepare, NULL);
}
END_TEST

START_TEST(many_replies_in_one_turn_are_written_early)
{
    static char block[64 * 1024];
    f.config.output_bytes_max = 64u * 1024 * 1024;
    start();
    int fd = client_new();
    RUN_UNTIL(n_sessions == 1);
    for (unsigned i = 0; i < 16; i++) {
        conn_write(sessions[0].conn, block, sizeof(block));
        while (recv(fd, block, sizeof(block), 0) > 0)
            continue;
    }
    ck_assert_uint_lt(conn_output_bytes(sessions[0].conn), 16 * sizeof(block));
}
END_TEST

START_TEST(names_and_ids)
{
    char expected[64];
    start();
    (void)client_new();
    RUN_UNTIL(n_sessions == 1);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", server_port(f.server));
    ck_assert_str_eq(conn_local_name(sessions[0].conn), expected);
    ck_assert_mem_eq(conn_peer_name(sessions[0].conn), "127.0.0.1:", 10);
    ck_assert_uint_eq(conn_id(sessions[0].conn), 1);
    ck_assert_int_ge(conn_fd(sessions[0].conn), 0);
    ck_assert_uint_le(conn_created_ms(sessions[0].conn), uv_now(&f.loop));
}
END_TEST

START_TEST(a_port_in_use_says_so)
{
    const char *error;
    start();
    ck_assert_int_eq(server_listen(f.server, "127.0.0.1", server_port(f.server), &error), UV_EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(error, "in use"));
    ck_assert_int_eq(server_listen(f.server, "localhost", 0, &error), UV_EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "numeric"));
    ck_assert_int_eq(server_listen(f.server, "192.0.2.1", 0, &error), UV_EADDRNOTAVAIL);
    ck_assert_ptr_nonnull(strstr(error, "no interface"));
    ck_assert_int_eq(server_listen(f.server, "127.0.0.1", 65536, &error), UV_EINVAL);
}
END_TEST

START_TEST(stop_listening_keeps_connections)
{
    start();
    int fd = client_new();
    RUN_UNTIL(n_sessions == 1);
    server_stop_listening(f.server);
    client_send_text(fd, "PING\r\n");
    client_expect(fd, "+PONG\r\n");
}
END_TEST

START_TEST(empty_lines_count_as_requests_for_fairness)
{
    f.config.requests_per_turn = 4;
    start();
    int fd = client_new();
    char lines[4096];
    for (size_t i = 0; i < sizeof(lines); i += 2)
        memcpy(lines + i, "\r\n", 2);
    client_send(fd, lines, sizeof(lines));
    client_send_text(fd, "PING\r\n");
    RUN_UNTIL(n_sessions == 1);
    for (unsigned i = 0; i < 3; i++)
        turn_once();
    ck_assert_uint_gt(conn_query_bytes(sessions[0].conn), 3000);
    client_expect(fd, "+PONG\r\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server");
    TCase *tcase = tcase_create("server");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, replies_to_pipelined_requests_in_order);
    tcase_add_test(tcase, a_request_in_single_bytes);
    tcase_add_test(tcase, a_large_value_comes_through_whole);
    tcase_add_test(tcase, an_idle_connection_holds_little_memory);
    tcase_add_test(tcase, a_long_pipeline_does_not_starve_others);
    tcase_add_test(tcase, a_connection_gets_one_share_per_turn);
    tcase_add_test(tcase, two_long_pipelines_take_turns);
    tcase_add_test(tcase, false_stops_requests_until_resume);
    tcase_add_test(tcase, resume_from_inside_the_request_counts);
    tcase_add_test(tcase, a_waiting_connection_reads_ahead_within_bounds);
    tcase_add_test(tcase, a_waiting_connection_notices_that_its_client_left);
    tcase_add_test(tcase, requests_sent_before_the_end_are_answered);
    tcase_add_test(tcase, the_owner_may_answer_after_the_end);
    tcase_add_test(tcase, the_owner_may_drop_after_the_end);
    tcase_add_test(tcase, a_protocol_error_is_told_and_ends_the_connection);
    tcase_add_test(tcase, close_after_write_inside_a_request);
    tcase_add_test(tcase, close_inside_a_request);
    tcase_add_test(tcase, close_of_the_server_inside_a_request);
    tcase_add_test(tcase, close_while_output_is_being_written);
    tcase_add_test(tcase, close_after_write_waits_for_a_slow_client);
    tcase_add_test(tcase, a_client_that_does_not_read_is_not_read);
    tcase_add_test(tcase, output_beyond_the_limit_closes);
    tcase_add_test(tcase, pushed_output_beyond_the_limit_closes);
    tcase_add_test(tcase, one_client_too_many);
    tcase_add_test(tcase, the_owner_may_refuse_a_connection);
    tcase_add_test(tcase, output_from_any_phase_goes_out_without_another_event);
    tcase_add_test(tcase, output_written_after_the_flush_does_not_wait_for_an_event);
    tcase_add_test(tcase, many_replies_in_one_turn_are_written_early);
    tcase_add_test(tcase, names_and_ids);
    tcase_add_test(tcase, a_port_in_use_says_so);
    tcase_add_test(tcase, stop_listening_keeps_connections);
    tcase_add_test(tcase, empty_lines_count_as_requests_for_fairness);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
