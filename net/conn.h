/* The inside of server.h: what server.c, conn.c and conn_output.c share. Loop thread only. */
#ifndef LOCKSTEP_CONN_H
#define LOCKSTEP_CONN_H

#include "net/list.h"
#include "net/server.h"
#include "net/socket.h"
#include "net/turn.h"

#define SERVER_LISTENERS_MAX 16u
/* All connections read into one buffer, which is handed back before the next read. */
#define SERVER_READ_BYTES (64u * 1024)
/* Empty output buffers kept for the next connections that answer: what is answered in one turn, not what is
 * connected, decides how many are in use. */
#define SERVER_SPARE_OUTPUTS 128u
/* libuv counts the bytes of a buffer in an unsigned; output_bytes_max is capped by this. */
#define CONN_WRITE_BYTES_MAX (1024u * 1024 * 1024)

struct listener {
    uv_tcp_t tcp;
    struct server *server;
    struct listener *next;
};

struct server {
    struct server_config config;
    struct server_stats stats;
    struct turn turn;
    struct listener *listeners;
    unsigned n_listeners;
    unsigned port; /* of the first listener */
    struct list conns;
    struct list ready; /* have buffered bytes and no share of this turn left, or were resumed */
    struct list dirty; /* have output to write at the end of the turn */
    struct resp_buffer spare[SERVER_SPARE_OUTPUTS];
    unsigned n_spare;
    uint64_t next_id;
    unsigned handles; /* on the loop: listeners, connections, refusals, the turn */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
    char read_buffer[SERVER_READ_BYTES];
};

/*
 *            conn_close_after_write            all written
 *   OPEN ------------------------> DRAINING ----------------+
 *     |                               |                     v
 *     +-------- conn_close -----------+-------------> CLOSING -- close callback --> closed(), freed
 */
enum conn_state {
    CONN_OPEN,
    CONN_DRAINING, /* reads no further, closes once all is written */
    CONN_CLOSING   /* uv_close was called */
};

struct conn {
    uv_tcp_t tcp;
    struct server *server;
    struct list all, ready, dirty;
    void *session;
    struct resp_reader *reader;
    struct resp_buffer output;  /* replies of this turn */
    struct resp_buffer writing; /* given to uv_write, which is at work on it */
    uv_write_t write;
    enum conn_state state;
    bool write_busy;
    bool reading;       /* uv_read_start is in force */
    bool eof;           /* the client sends no more */
    bool waits_session; /* until conn_resume */
    bool waits_output;  /* until output has drained */
    bool no_memory;     /* no room to read into */
    bool resumed;       /* conn_resume was called from inside the request callback */
    const char *why;
    uint64_t id, created_ms;
    uint64_t turn; /* the turn that these shares belong to */
    uint32_t turn_requests;
    uint32_t turn_bytes;
    char peer_name[SOCKET_NAME_MAX], local_name[SOCKET_NAME_MAX];
};

/* Takes the connection that `listener` announces. */
void conn_accept(struct server *server, uv_stream_t *listener);
/* Hand out requests of the buffered bytes, within this turn's share. */
void conn_process(struct conn *conn);
/* Write what is queued; called at the end of the turn. */
void conn_flush(struct conn *conn);
void conn_output_fini(struct conn *conn);
/* Output has room again: go on reading. */
void conn_unblock(struct conn *conn);
/* A handle of the server is gone. */
void server_handle_closed(struct server *server);

#endif
