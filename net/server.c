#include "net/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void config_default(struct server_config *config)
{
    if (config->clients_max == 0)
        config->clients_max = 10000;
    if (config->requests_per_turn == 0)
        config->requests_per_turn = 64;
    if (config->output_bytes_max == 0)
        config->output_bytes_max = 256u * 1024 * 1024;
    if (config->output_bytes_max > CONN_WRITE_BYTES_MAX)
        config->output_bytes_max = CONN_WRITE_BYTES_MAX;
    if (config->output_bytes_pause == 0)
        config->output_bytes_pause = 1024 * 1024;
    if (config->backlog == 0)
        config->backlog = 511;
}

/* Connections that have bytes left from the turn before, one share each. Those that get on the list meanwhile wait for
 * the next turn. */
static void server_work(struct turn *turn)
{
    struct server *server = turn->data;
    struct list ready;
    list_take(&ready, &server->ready);
    while (!list_empty(&ready)) {
        struct conn *conn = LIST_OWNER(ready.next, struct conn, ready);
        list_remove(&conn->ready);
        conn_process(conn);
    }
}

static bool server_flush(struct turn *turn)
{
    struct server *server = turn->data;
    struct list dirty;
    list_take(&dirty, &server->dirty);
    while (!list_empty(&dirty)) {
        struct conn *conn = LIST_OWNER(dirty.next, struct conn, dirty);
        list_remove(&conn->dirty);
        conn_flush(conn);
    }
    return !list_empty(&server->ready) || !list_empty(&server->dirty);
}

struct server *server_new(const struct server_config *config)
{
    assert(config->loop != NULL);
    assert(config->accepted != NULL);
    assert(config->request != NULL);
    assert(config->closed != NULL);
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return NULL;
    server->config = *config;
    config_default(&server->config);
    list_init(&server->conns);
    list_init(&server->ready);
    list_init(&server->dirty);
    server->next_id = 1;
    server->turn.data = server;
    server->turn.work = server_work;
    server->turn.flush = server_flush;
    turn_init(&server->turn, config->loop);
    server->handles = 1;
    return server;
}

/* --- Listeners -------------------------------------------------------------------------------------------------- */

static void listener_connection_cb(uv_stream_t *stream, int status)
{
    struct listener *listener = stream->data;
    if (status == 0)
        conn_accept(listener->server, stream);
    else
        listener->server->stats.rejected++; /* out of file descriptors: libuv accepts and closes */
}

static void listener_closed_cb(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    struct server *server = listener->server;
    free(listener);
    server_handle_closed(server);
}

int server_listen(struct server *server, const char *host, unsigned port, const char **error)
{
    *error = NULL;
    if (server->n_listeners == SERVER_LISTENERS_MAX) {
        *error = "too many addresses to listen on";
        return UV_E2BIG;
    }
    struct listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL) {
        *error = "out of memory";
        return UV_ENOMEM;
    }
    listener->server = server;
    int status = uv_tcp_init(server->config.loop, &listener->tcp);
    if (status != 0) {
        *error = uv_strerror(status);
        free(listener);
        return status;
    }
    listener->tcp.data = listener;
    server->handles++;
    status = socket_listen(&listener->tcp, host, port, (int)server->config.backlog, listener_connection_cb, error);
    if (status != 0) {
        uv_close((uv_handle_t *)&listener->tcp, listener_closed_cb);
        return status;
    }
    listener->next = server->listeners;
    server->listeners = listener;
    if (server->n_listeners++ == 0)
        server->port = socket_port(&listener->tcp);
    return 0;
}

unsigned server_port(const struct server *server)
{
    return server->port;
}

void server_stop_listening(struct server *server)
{
    while (server->listeners != NULL) {
        struct listener *listener = server->listeners;
        server->listeners = listener->next;
        uv_close((uv_handle_t *)&listener->tcp, listener_closed_cb);
    }
    server->n_listeners = 0;
}

/* --- End -------------------------------------------------------------------------------------------------------- */

void server_handle_closed(struct server *server)
{
    assert(server->handles > 0);
    if (--server->handles > 0)
        return;
    assert(server->closing);
    assert(list_empty(&server->conns));
    for (unsigned i = 0; i < server->n_spare; i++)
        resp_buffer_fini(&server->spare[i]);
    if (server->closed != NULL)
        server->closed(server->closed_ctx);
    free(server);
}

static void server_turn_closed(struct turn *turn)
{
    server_handle_closed(turn->data);
}

void server_close(struct server *server, void (*closed)(void *ctx), void *ctx)
{
    assert(!server->closing);
    server->closing = true;
    server->closed = closed;
    server->closed_ctx = ctx;
    server_stop_listening(server);
    for (struct list *l = server->conns.next; l != &server->conns; l = l->next)
        conn_close(LIST_OWNER(l, struct conn, all), "server is shutting down");
    turn_close(&server->turn, server_turn_closed);
}

void server_stats(const struct server *server, struct server_stats *stats)
{
    *stats = server->stats;
}
