/* The way out of a connection.
 *
 * Replies gather in `output` during the turn and go out with one system call at its end. What the socket does not take
 * at once moves, as it is, to `writing` and is left to uv_write; meanwhile `output` gathers the next replies. No byte
 * is copied or moved for that. A connection without output holds no buffer: empty ones go back to the server. */
#include "net/conn.h"

#include <assert.h>
#include <string.h>

/* Much output is written early, so that it does not pile up within one turn. */
#define FLUSH_EARLY_BYTES (256u * 1024)
#define SPARE_BYTES_MAX (16u * 1024)

static void conn_write_cb(uv_write_t *req, int status);

static void output_take_spare(struct conn *conn)
{
    struct server *server = conn->server;
    if (conn->output.data != NULL || server->n_spare == 0)
        return;
    conn->output = server->spare[--server->n_spare];
}

static void buffer_give_back(struct server *server, struct resp_buffer *buffer)
{
    if (buffer->data == NULL || buffer->capacity > SPARE_BYTES_MAX || server->n_spare == SERVER_SPARE_OUTPUTS) {
        resp_buffer_fini(buffer);
        return;
    }
    resp_buffer_clear(buffer);
    server->spare[server->n_spare++] = *buffer;
    resp_buffer_init(buffer);
}

void conn_output_fini(struct conn *conn)
{
    resp_buffer_fini(&conn->output);
    resp_buffer_fini(&conn->writing);
}

size_t conn_output_bytes(const struct conn *conn)
{
    return conn->output.len + conn->tcp.write_queue_size;
}

/* Leaves the bytes of `output` from `offset` on to libuv. */
static void write_rest(struct conn *conn, size_t offset)
{
    assert(!conn->write_busy);
    conn->server->stats.bytes_out += conn->output.len - offset;
    conn->writing = conn->output;
    resp_buffer_init(&conn->output);
    uv_buf_t buf = uv_buf_init(conn->writing.data + offset, (unsigned)(conn->writing.len - offset));
    int status = uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &buf, 1, conn_write_cb);
    if (status != 0) {
        conn_close(conn, uv_strerror(status));
        return;
    }
    conn->write_busy = true;
}

/* True if the connection was closed. */
static bool output_limit_check(struct conn *conn)
{
    struct server *server = conn->server;
    if (conn->output.failed) {
        conn_close(conn, "out of memory");
        return true;
    }
    if (conn_output_bytes(conn) <= server->config.output_bytes_max)
        return false;
    server->stats.output_limit_closed++;
    conn_close(conn, "output buffer limit reached");
    return true;
}

/* Offers the output to the socket; what it does not take is left to libuv. */
static void output_write(struct conn *conn)
{
    struct resp_buffer *output = &conn->output;
    assert(!conn->write_busy);
    const size_t len = output->len < CONN_WRITE_BYTES_MAX ? output->len : CONN_WRITE_BYTES_MAX;
    uv_buf_t buf = uv_buf_init(output->data, (unsigned)len);
    int written = uv_try_write((uv_stream_t *)&conn->tcp, &buf, 1);
    if (written == UV_EAGAIN)
        written = 0;
    if (written < 0) {
        conn_close(conn, uv_strerror(written));
        return;
    }
    conn->server->stats.bytes_out += (uint64_t)written;
    if ((size_t)written == output->len) {
        buffer_give_back(conn->server, output);
        return;
    }
    if (output->len - (size_t)written > conn->server->config.output_bytes_max) {
        output_limit_check(conn);
        return;
    }
    write_rest(conn, (size_t)written);
}

void conn_flush(struct conn *conn)
{
    if (conn->state == CONN_CLOSING || output_limit_check(conn) || conn->write_busy)
        return;
    if (conn->output.len > 0)
        output_write(conn);
    else
        buffer_give_back(conn->server, &conn->output);
    if (conn->state == CONN_CLOSING || conn->write_busy)
        return;
    if (conn->state == CONN_DRAINING)
        conn_close(conn, conn->why);
    else
        conn_unblock(conn);
}

static void conn_write_cb(uv_write_t *req, int status)
{
    struct conn *conn = LIST_OWNER(req, struct conn, write);
    conn->write_busy = false;
    buffer_give_back(conn->server, &conn->writing);
    if (conn->state == CONN_CLOSING)
        return;
    if (status != 0) {
        conn_close(conn, uv_strerror(status));
        return;
    }
    conn_flush(conn);
}

struct resp_buffer *conn_output(struct conn *conn)
{
    if (conn->state == CONN_CLOSING) {
        resp_buffer_clear(&conn->output); /* nobody will read it */
        return &conn->output;
    }
    if (list_empty(&conn->dirty)) {
        output_take_spare(conn);
        list_push(&conn->server->dirty, &conn->dirty);
        turn_wake(&conn->server->turn);
        return &conn->output;
    }
    if (conn->output.len >= FLUSH_EARLY_BYTES && !output_limit_check(conn) && !conn->write_busy) {
        output_write(conn);
        output_take_spare(conn);
    }
    return &conn->output;
}

void conn_write(struct conn *conn, const void *data, size_t len)
{
    resp_buffer_append(conn_output(conn), data, len);
}
