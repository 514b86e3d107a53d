/* One client connection: accept, read, hand out requests, close.
 *
 * Reading: libuv reads into the server's one shared buffer, which the reader borrows for the time of one read callback;
 * requests are handed out right there, from that buffer. What is left over (half a request, or requests beyond this
 * turn's share) moves to memory of the connection. So an idle connection holds no buffer, and a busy one is read with
 * one system call per turn, without allocation. A request too large for the shared buffer is read straight into its
 * own.
 *
 * Not reading: when a connection must not be read just now, the allocation callback offers no room; libuv then skips
 * the read and calls back with UV_ENOBUFS. That costs nothing, where stopping and starting costs epoll_ctl calls;
 * reading is really stopped only for a connection that waits for something other than its next turn. */
#include "net/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Of one connection in one turn: then the others have their share. */
#define TURN_BYTES_MAX (1024u * 1024)
#define READ_BYTES_MAX (256u * 1024)
#define READ_BYTES_WANT (16u * 1024)
/* A connection that waits for its session goes on reading up to this, so that a vanished client is noticed. */
#define READ_AHEAD_BYTES (64u * 1024)

static void conn_read_cb(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf);

static void turn_begin(struct conn *conn)
{
    if (conn->turn == conn->server->turn.number)
        return;
    conn->turn = conn->server->turn.number;
    conn->turn_requests = conn->server->config.requests_per_turn;
    conn->turn_bytes = TURN_BYTES_MAX;
}

static bool read_ahead_full(const struct conn *conn)
{
    return conn->waits_session && resp_reader_buffered(conn->reader) >= READ_AHEAD_BYTES;
}

static void conn_alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *conn = handle->data;
    char *space = NULL;
    size_t len = 0;
    (void)suggested;
    *buf = uv_buf_init(NULL, 0);
    turn_begin(conn);
    if (conn->waits_output || read_ahead_full(conn) || !list_empty(&conn->ready))
        return;
    if (conn->turn_requests == 0 || conn->turn_bytes == 0)
        return;
    if (!resp_reader_lend(conn->reader, conn->server->read_buffer, SERVER_READ_BYTES, &space, &len) &&
        resp_reader_space(conn->reader, READ_BYTES_WANT, &space, &len) != RESP_OK) {
        conn->no_memory = true; /* the read callback closes it: libuv allows no close from here */
        return;
    }
    if (len > READ_BYTES_MAX)
        len = READ_BYTES_MAX;
    *buf = uv_buf_init(space, (unsigned)len);
}

static void reading_start(struct conn *conn)
{
    if (conn->reading || conn->eof || conn->state != CONN_OPEN)
        return;
    int status = uv_read_start((uv_stream_t *)&conn->tcp, conn_alloc_cb, conn_read_cb);
    if (status != 0) {
        conn_close(conn, uv_strerror(status));
        return;
    }
    conn->reading = true;
}

static void reading_stop(struct conn *conn)
{
    if (!conn->reading)
        return;
    uv_read_stop((uv_stream_t *)&conn->tcp);
    conn->reading = false;
}

static void ready_add(struct conn *conn)
{
    if (conn->state != CONN_OPEN || !list_empty(&conn->ready))
        return;
    list_push(&conn->server->ready, &conn->ready);
    turn_wake(&conn->server->turn);
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

static void conn_protocol_error(struct conn *conn)
{
    const char *error = resp_reader_error(conn->reader);
    const struct server_config *config = &conn->server->config;
    conn->server->stats.protocol_errors++;
    if (config->malformed != NULL) {
        conn->waits_session = true; /* read no further */
        config->malformed(conn->session, conn, error);
        return;
    }
    resp_write_error(conn_output(conn), error, strlen(error));
    conn_close_after_write(conn);
    if (conn->state == CONN_DRAINING)
        conn->why = "protocol error";
}

static void conn_ended(struct conn *conn)
{
    const struct server_config *config = &conn->server->config;
    if (config->eof != NULL && config->eof(conn->session, conn))
        return;
    if (conn->state != CONN_OPEN)
        return;
    if (conn->waits_session) {
        conn_close(conn, "client closed connection");
        return;
    }
    conn_close_after_write(conn);
    if (conn->state == CONN_DRAINING)
        conn->why = "client closed connection";
}

static void conn_request(struct conn *conn, const struct iovec *argv, unsigned argc)
{
    struct server *server = conn->server;
    server->stats.requests++;
    conn->resumed = false;
    if (!server->config.request(conn->session, conn, argv, argc) && !conn->resumed)
        conn->waits_session = true;
}

/* Hands out requests until bytes, share or leave run out; true if the bytes did. */
static bool requests_hand_out(struct conn *conn)
{
    const uint64_t pause = conn->server->config.output_bytes_pause;
    const struct iovec *argv;
    unsigned argc;
    while (conn->state == CONN_OPEN && !conn->waits_session && conn->turn_requests > 0) {
        if (conn_output_bytes(conn) > pause) {
            conn->waits_output = true;
            return false;
        }
        switch (resp_reader_next(conn->reader, &argv, &argc)) {
        case RESP_OK:
            conn->turn_requests--;
            if (argc > 0)
                conn_request(conn, argv, argc);
            break;
        case RESP_AGAIN:
            return true;
        case RESP_ERROR:
            conn_protocol_error(conn);
            return false;
        case RESP_NO_MEMORY:
            conn_close(conn, "out of memory");
            return false;
        }
    }
    return false;
}

void conn_process(struct conn *conn)
{
    turn_begin(conn);
    conn->waits_output = false;
    const bool drained = requests_hand_out(conn);
    if (conn->state != CONN_OPEN)
        return;
    if (resp_reader_settle(conn->reader) != RESP_OK) {
        conn_close(conn, "out of memory");
        return;
    }
    if (conn->waits_output)
        return; /* conn_unblock goes on */
    if (conn->eof && (drained || conn->waits_session)) {
        conn_ended(conn);
        return;
    }
    if (!drained && !conn->waits_session && (resp_reader_buffered(conn->reader) > 0 || conn->eof))
        ready_add(conn);
    if (!read_ahead_full(conn))
        reading_start(conn);
}

static void conn_read_cb(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    (void)buf;
    if (conn->state == CONN_CLOSING)
        return;
    if (nread == UV_ENOBUFS) {
        if (conn->no_memory)
            conn_close(conn, "out of memory");
        else if (conn->waits_output || read_ahead_full(conn))
            reading_stop(conn);
        return;
    }
    if (nread == UV_EOF) {
        conn->eof = true;
        conn->reading = false;
    } else if (nread < 0) {
        conn_close(conn, uv_strerror((int)nread));
        return;
    } else {
        resp_reader_fed(conn->reader, (size_t)nread);
        conn->server->stats.bytes_in += (uint64_t)nread;
        conn->turn_bytes -= (uint32_t)nread < conn->turn_bytes ? (uint32_t)nread : conn->turn_bytes;
    }
    conn_process(conn);
}

void conn_unblock(struct conn *conn)
{
    if (conn->state == CONN_OPEN && conn->waits_output)
        ready_add(conn);
}

void conn_resume(struct conn *conn)
{
    conn->resumed = true;
    if (!conn->waits_session)
        return;
    conn->waits_session = false;
    ready_add(conn);
}

/* --- Accept ----------------------------------------------------------------------------------------------------- */

static void refusal_closed_cb(uv_handle_t *handle)
{
    struct server *server = handle->data;
    free(handle);
    server_handle_closed(server);
}

static void conn_refuse(struct server *server, uv_stream_t *listener)
{
    static char text[] = "-ERR max number of clients reached\r\n";
    uv_tcp_t *tcp = malloc(sizeof(*tcp));
    if (tcp == NULL || uv_tcp_init(server->config.loop, tcp) != 0) {
        free(tcp);
        return;
    }
    tcp->data = server;
    server->handles++;
    server->stats.rejected++;
    if (uv_accept(listener, (uv_stream_t *)tcp) == 0) {
        /* Best effort, as the client did not ask anything yet: if the socket can't take it, it is not told. */
        uv_buf_t buf = uv_buf_init(text, sizeof(text) - 1);
        (void)uv_try_write((uv_stream_t *)tcp, &buf, 1);
    }
    uv_close((uv_handle_t *)tcp, refusal_closed_cb);
}

static void conn_closed_cb(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    struct server *server = conn->server;
    assert(conn->state == CONN_CLOSING);
    assert(!conn->write_busy);
    list_remove(&conn->all);
    if (conn->session != NULL)
        server->config.closed(conn->session, conn, conn->why);
    conn_output_fini(conn);
    resp_reader_free(conn->reader);
    free(conn);
    server_handle_closed(server);
}

void conn_accept(struct server *server, uv_stream_t *listener)
{
    if (server->stats.current >= server->config.clients_max) {
        conn_refuse(server, listener);
        return;
    }
    struct conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL)
        goto err;
    conn->reader = resp_reader_new(&server->config.limits);
    if (conn->reader == NULL)
        goto err_after_alloc;
    if (uv_tcp_init(server->config.loop, &conn->tcp) != 0)
        goto err_after_reader;
    conn->tcp.data = conn;
    conn->server = server;
    list_init(&conn->ready);
    list_init(&conn->dirty);
    list_push(&server->conns, &conn->all);
    server->handles++;
    server->stats.current++;
    conn->id = server->next_id++;
    conn->created_ms = uv_now(server->config.loop);
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) != 0) {
        conn_close(conn, "accept failed");
        return;
    }
    server->stats.accepted++;
    socket_options(&conn->tcp, server->config.tcp_keepalive_s);
    socket_peer_name(&conn->tcp, conn->peer_name);
    socket_local_name(&conn->tcp, conn->local_name);
    conn->session = server->config.accepted(server->config.ctx, conn);
    if (conn->session == NULL)
        conn_close(conn, "refused");
    reading_start(conn);
    return;

err_after_reader:
    resp_reader_free(conn->reader);
err_after_alloc:
    free(conn);
err:
    conn_refuse(server, listener);
}

/* --- Close ------------------------------------------------------------------------------------------------------ */

void conn_close(struct conn *conn, const char *why)
{
    if (conn->state == CONN_CLOSING)
        return;
    conn->state = CONN_CLOSING;
    conn->why = why;
    conn->reading = false;
    conn->server->stats.current--;
    list_remove(&conn->ready);
    list_remove(&conn->dirty);
    uv_close((uv_handle_t *)&conn->tcp, conn_closed_cb);
}

void conn_close_after_write(struct conn *conn)
{
    if (conn->state != CONN_OPEN)
        return;
    conn->state = CONN_DRAINING;
    conn->why = "closed after the last reply";
    reading_stop(conn);
    list_remove(&conn->ready);
    (void)conn_output(conn); /* the flush at the end of the turn closes it when all is written */
}

/* --- What it is ------------------------------------------------------------------------------------------------- */

uint64_t conn_id(const struct conn *conn)
{
    return conn->id;
}

const char *conn_peer_name(const struct conn *conn)
{
    return conn->peer_name;
}

const char *conn_local_name(const struct conn *conn)
{
    return conn->local_name;
}

int conn_fd(const struct conn *conn)
{
    uv_os_fd_t fd = -1;
    if (uv_fileno((const uv_handle_t *)&conn->tcp, &fd) != 0)
        return -1;
    return fd;
}

size_t conn_query_bytes(const struct conn *conn)
{
    return resp_reader_buffered(conn->reader);
}

size_t conn_memory(const struct conn *conn)
{
    return sizeof(*conn) + resp_reader_memory(conn->reader) + conn->output.capacity + conn->writing.capacity;
}

uint64_t conn_created_ms(const struct conn *conn)
{
    return conn->created_ms;
}
