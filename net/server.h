/* Client connections on a libuv loop: owns listeners, sockets, read and write buffers and their limits; hands complete
 * requests to its owner and takes reply bytes. Knows nothing of commands, keys or Raft. Loop thread only.
 *
 * Fairness: at most `requests_per_turn` requests of one connection are handed out per loop turn; the rest continues on
 * the next turn after every other readable connection had its share. */
#ifndef LOCKSTEP_SERVER_H
#define LOCKSTEP_SERVER_H

#include <uv.h>

#include "net/resp.h"

struct server;
struct conn;

struct server_config {
    uv_loop_t *loop;
    struct resp_limits limits;
    uint32_t clients_max;       /* default 10000; above: "-ERR max number of clients reached" and close */
    uint32_t requests_per_turn; /* default 64 */
    uint64_t
        output_bytes_max; /* reply bytes not yet written per connection, default 256 MiB, at most 1 GiB: then closed */
    uint64_t output_bytes_pause; /* reading from a connection pauses above this, default 1 MiB */
    uint32_t tcp_keepalive_s;    /* default 300, 0 off */
    uint32_t backlog;            /* default 511 */
    void *ctx;
    /* A connection was accepted: return its owner data (session), or NULL to refuse it. */
    void *(*accepted)(void *ctx, struct conn *conn);
    /* One complete request; argv borrowed until return. Return false to stop reading further requests from this
     * connection until conn_resume (the request itself was taken). */
    bool (*request)(void *session, struct conn *conn, const struct iovec *argv, unsigned argc);
    /* The connection is gone (peer closed, error, kill); after this the conn must not be used. Called once. */
    void (*closed)(void *session, struct conn *conn, const char *why);
    /* Optional. The client has shut down its sending side (or is gone) and every complete request was handed out, or
     * the connection waits for conn_resume. Return true to keep the connection for replies that are still to come, and
     * call conn_close_after_write after the last; may then be called again. False, or NULL here: the connection closes
     * once what is queued has been written. */
    bool (*eof)(void *session, struct conn *conn);
    /* Optional. The client broke the protocol; nothing more is read. `text` is the error to send, borrowed until
     * return. The owner queues it behind the replies still to come and then calls conn_close_after_write. NULL here:
     * done at once. */
    void (*malformed)(void *session, struct conn *conn, const char *text);
};

struct server *server_new(const struct server_config *config);
/* Bind one address ("127.0.0.1", "::1", "0.0.0.0") and port (0: any; see server_port). May be called several times.
 * Returns 0 or a negative errno, with *error saying what to do (port in use ...). */
int server_listen(struct server *server, const char *host, unsigned port, const char **error);
unsigned server_port(const struct server *server);
void server_stop_listening(struct server *server);
/* Close all; `closed` is called when nothing of it is left on the loop, then it is freed. */
void server_close(struct server *server, void (*closed)(void *ctx), void *ctx);

struct server_stats {
    uint64_t accepted, rejected, current, requests, bytes_in, bytes_out, output_limit_closed, protocol_errors;
};
void server_stats(const struct server *server, struct server_stats *stats);

/* Queue reply bytes; they are written at the end of the loop turn, all at once. Copied. */
void conn_write(struct conn *conn, const void *data, size_t len);
/* The output buffer itself, for writing replies in place; touched ones are flushed at the end of the turn. Ask again
 * after each loop turn, and for each reply: this is where much output is written early and limits are checked. */
struct resp_buffer *conn_output(struct conn *conn);
void conn_resume(struct conn *conn);
/* Close after everything queued has been written (reads no further), or at once. `closed` fires later, never inside.
 * `why` is borrowed until then: a literal. Both may be called from any callback; a second close changes nothing. */
void conn_close_after_write(struct conn *conn);
void conn_close(struct conn *conn, const char *why);
uint64_t conn_id(const struct conn *conn);
const char *conn_peer_name(const struct conn *conn); /* "127.0.0.1:40412" */
const char *conn_local_name(const struct conn *conn);
int conn_fd(const struct conn *conn);
size_t conn_query_bytes(const struct conn *conn);
size_t conn_output_bytes(const struct conn *conn);
size_t conn_memory(const struct conn *conn);
uint64_t conn_created_ms(const struct conn *conn); /* uv_now scale */

#endif
