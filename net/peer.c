#include "net/peer_private.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG 64
#define FRAME_BYTES_LIMIT (1024u * 1024 * 1024)

static void config_default(struct peers_config *config)
{
    if (config->frame_bytes_max == 0)
        config->frame_bytes_max = 80u * 1024 * 1024;
    if (config->frame_bytes_max > FRAME_BYTES_LIMIT)
        config->frame_bytes_max = FRAME_BYTES_LIMIT;
    if (config->queue_bytes_max == 0)
        config->queue_bytes_max = 64u * 1024 * 1024;
    if (config->backoff_min_ms == 0)
        config->backoff_min_ms = 20;
    if (config->backoff_max_ms == 0)
        config->backoff_max_ms = 1000;
    if (config->backoff_max_ms < config->backoff_min_ms)
        config->backoff_max_ms = config->backoff_min_ms;
    if (config->idle_ms == 0)
        config->idle_ms = 10000;
    if (config->unacked_ms == 0)
        config->unacked_ms = 2000;
}

void peers_log(struct peers *peers, int level, const char *format, ...)
{
    char text[512];
    va_list args;
    if (peers->config.log == NULL)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    va_end(args);
    peers->config.log(peers->config.ctx, level, text);
}

void peers_text_clean(char *to, size_t capacity, const void *text, size_t len)
{
    const unsigned char *from = text;
    size_t n = len < capacity - 1 ? len : capacity - 1;
    for (size_t i = 0; i < n; i++)
        to[i] = from[i] >= ' ' && from[i] < 127 ? (char)from[i] : '?';
    to[n] = '\0';
}

static bool peers_turn_flush(struct turn *turn)
{
    peers_flush(turn->data);
    return false;
}

struct peers *peers_new(const struct peers_config *config)
{
    assert(config->loop != NULL);
    assert(config->random != NULL);
    assert(config->hello != NULL);
    assert(config->judge != NULL);
    assert(config->frame != NULL);
    struct peers *peers = calloc(1, sizeof(*peers));
    if (peers == NULL)
        return NULL;
    peers->config = *config;
    config_default(&peers->config);
    list_init(&peers->links);
    list_init(&peers->accepted);
    peers->turn.data = peers;
    peers->turn.flush = peers_turn_flush;
    turn_init(&peers->turn, config->loop);
    uv_timer_init(config->loop, &peers->sweep);
    peers->sweep.data = peers;
    peers->swept_ms = uv_now(config->loop);
    peers->handles = 2;
    const uint64_t period = peers->config.idle_ms / 8 + 1;
    uv_timer_start(&peers->sweep, accepted_sweep_cb, period, period);
    uv_unref((uv_handle_t *)&peers->sweep);
    return peers;
}

static void peers_closed_cb(uv_handle_t *handle)
{
    peers_handle_closed(handle->data);
}

int peers_listen(struct peers *peers, const char *host, unsigned port, const char **error)
{
    assert(!peers->listening);
    *error = NULL;
    int status = uv_tcp_init(peers->config.loop, &peers->listener);
    if (status != 0) {
        *error = uv_strerror(status);
        return status;
    }
    peers->listener.data = peers;
    peers->handles++;
    status = socket_listen(&peers->listener, host, port, BACKLOG, accepted_connection_cb, error);
    if (status != 0) {
        uv_close((uv_handle_t *)&peers->listener, peers_closed_cb);
        return status;
    }
    peers->listening = true;
    peers->port = socket_port(&peers->listener);
    return 0;
}

unsigned peers_port(const struct peers *peers)
{
    return peers->port;
}

void peers_add(struct peers *peers, uint64_t id, const char *host, unsigned port)
{
    assert(id != 0);
    struct link *link = link_find(peers, id);
    if (peers->closing)
        return;
    if (link != NULL) {
        link_readdress(link, host, port);
        return;
    }
    if (peers->n_links == PEER_LINKS_MAX || link_new(peers, id, host, port) == NULL)
        peers_log(peers, PEER_LOG_ERROR, "peer %llu not added: %s", (unsigned long long)id,
                  peers->n_links == PEER_LINKS_MAX ? "too many peers" : "out of memory");
}

void peers_remove(struct peers *peers, uint64_t id)
{
    struct link *link = link_find(peers, id);
    if (link != NULL)
        link_remove(link);
    if (id != 0)
        accepted_close(peers, id);
}

bool peers_send(struct peers *peers, uint64_t id, const struct iovec *pieces, unsigned n)
{
    struct link *link = link_find(peers, id);
    return link != NULL && link_send(link, pieces, n);
}

uint64_t peers_queue_bytes(const struct peers *peers, uint64_t id)
{
    const struct link *link = link_find(peers, id);
    return link != NULL ? link_queue_bytes(link) : 0;
}

bool peers_connected(const struct peers *peers, uint64_t id)
{
    const struct link *link = link_find(peers, id);
    return link != NULL && link_connected(link);
}

void peers_flush(struct peers *peers)
{
    for (struct list *l = peers->links.next; l != &peers->links; l = l->next)
        link_flush(link_of(l));
}

void peers_handle_closed(struct peers *peers)
{
    assert(peers->handles > 0);
    if (--peers->handles > 0)
        return;
    assert(peers->closing);
    assert(list_empty(&peers->links));
    assert(list_empty(&peers->accepted));
    if (peers->closed != NULL)
        peers->closed(peers->closed_ctx);
    free(peers);
}

static void peers_turn_closed(struct turn *turn)
{
    peers_handle_closed(turn->data);
}

void peers_close(struct peers *peers, void (*closed)(void *ctx), void *ctx)
{
    assert(!peers->closing);
    peers->closing = true;
    peers->closed = closed;
    peers->closed_ctx = ctx;
    while (!list_empty(&peers->links))
        link_remove(link_of(peers->links.next));
    accepted_close(peers, 0);
    if (peers->listening)
        uv_close((uv_handle_t *)&peers->listener, peers_closed_cb);
    peers->listening = false;
    uv_close((uv_handle_t *)&peers->sweep, peers_closed_cb);
    turn_close(&peers->turn, peers_turn_closed);
}
