/* Connections that peers opened to us: we receive frames on them and send only our hello, pongs and refusals.
 *
 *   accept -> GREETING --hello judged good--> UP --frames--> ...
 *                |                             |
 *                +-- refused, bad frame, silence, end --> CLOSING -- close callback --> freed
 *
 * What we send is tiny: a socket that does not take it at once belongs to a peer that does not read, and is closed. */
#include "net/peer_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define READ_BYTES_WANT (64u * 1024)
#define READ_BYTES_MAX (1024u * 1024)
/* Of one connection in one loop turn. */
#define TURN_BYTES_MAX (4u * 1024 * 1024)

enum accepted_state { ACCEPTED_GREETING, ACCEPTED_UP, ACCEPTED_CLOSING };

struct accepted {
    uv_tcp_t tcp;
    struct peers *peers;
    struct list all;
    enum accepted_state state;
    bool no_memory;
    uint64_t id, connection;
    uint64_t heard_ms;
    uint64_t turn;
    uint32_t turn_bytes;
    struct frame_reader reader;
    char name[SOCKET_NAME_MAX];
};

static void accepted_closed_cb(uv_handle_t *handle)
{
    struct accepted *in = handle->data;
    struct peers *peers = in->peers;
    assert(in->state == ACCEPTED_CLOSING);
    list_remove(&in->all);
    peers->n_accepted--;
    frame_reader_fini(&in->reader);
    free(in);
    peers_handle_closed(peers);
}

static void accepted_end(struct accepted *in, const char *why)
{
    if (in->state == ACCEPTED_CLOSING)
        return;
    if (in->state == ACCEPTED_UP)
        peers_log(in->peers, PEER_LOG_INFO, "connection %llu from peer %llu (%s) ended: %s",
                  (unsigned long long)in->connection, (unsigned long long)in->id, in->name, why);
    in->state = ACCEPTED_CLOSING;
    uv_close((uv_handle_t *)&in->tcp, accepted_closed_cb);
}

void accepted_close(struct peers *peers, uint64_t id)
{
    for (struct list *l = peers->accepted.next; l != &peers->accepted; l = l->next) {
        struct accepted *in = LIST_OWNER(l, struct accepted, all);
        if (id == 0 || in->id == id)
            accepted_end(in, peers->closing ? "closing" : "peer removed");
    }
}

/* Sends a small frame, or ends the connection. */
static void accepted_reply(struct accepted *in, enum frame_kind kind, const void *payload, size_t len)
{
    _Alignas(8) char frame[FRAME_HEADER_BYTES + PEER_HELLO_BYTES_MAX];
    const struct iovec piece = {(void *)(uintptr_t)payload, len};
    assert(len <= PEER_HELLO_BYTES_MAX);
    frame_write(frame, kind, &piece, 1, len);
    const size_t bytes = frame_wire_bytes(len);
    uv_buf_t buf = uv_buf_init(frame, (unsigned)bytes);
    if (uv_try_write((uv_stream_t *)&in->tcp, &buf, 1) != (int)bytes)
        accepted_end(in, "does not read our answers");
}

/* True if this host was not refused for this reason lately: a peer that keeps trying fills no log. */
static bool refusal_is_new(struct peers *peers, const char *name, const char *why)
{
    const char *port = strrchr(name, ':');
    const size_t host_len = port != NULL ? (size_t)(port - name) : strlen(name);
    const uint64_t hash = XXH3_64bits_withSeed(why, strlen(why), XXH3_64bits(name, host_len));
    for (unsigned i = 0; i < PEER_REFUSALS_KEPT; i++) {
        if (peers->refusals[i] == hash)
            return false;
    }
    peers->refusals[peers->next_refusal] = hash;
    peers->next_refusal = (peers->next_refusal + 1) % PEER_REFUSALS_KEPT;
    return true;
}

static void accepted_refuse(struct accepted *in, const char *why)
{
    if (refusal_is_new(in->peers, in->name, why))
        peers_log(in->peers, PEER_LOG_WARNING, "connection from %s refused: %s", in->name, why);
}

/* A connection of this peer is up: an older one is a leftover, and its frames must not come after the new one's. */
static void accepted_supersede(struct accepted *in)
{
    struct list *accepted = &in->peers->accepted;
    for (struct list *l = accepted->next; l != accepted; l = l->next) {
        struct accepted *other = LIST_OWNER(l, struct accepted, all);
        if (other != in && other->state == ACCEPTED_UP && other->id == in->id)
            accepted_end(other, "the peer connected again");
    }
}

static void accepted_greet(struct accepted *in, const void *hello, size_t len)
{
    struct peers *peers = in->peers;
    char answer[PEER_HELLO_BYTES_MAX];
    const char *why = "hello not accepted";
    const uint64_t id = peers->config.judge(peers->config.ctx, 0, hello, len, &why);
    if (in->state != ACCEPTED_GREETING)
        return;
    if (id == 0) {
        const size_t why_len = strlen(why) < PEER_REASON_MAX ? strlen(why) : PEER_REASON_MAX;
        accepted_refuse(in, why);
        accepted_reply(in, FRAME_REFUSAL, why, why_len);
        accepted_end(in, why);
        return;
    }
    const size_t answer_len = peers->config.hello(peers->config.ctx, id, answer, sizeof(answer));
    assert(answer_len <= sizeof(answer));
    in->id = id;
    accepted_supersede(in);
    in->state = ACCEPTED_UP;
    in->connection = ++peers->connection;
    in->reader.bytes_max = peers->config.frame_bytes_max;
    peers_log(peers, PEER_LOG_INFO, "connection %llu from peer %llu (%s)", (unsigned long long)in->connection,
              (unsigned long long)id, in->name);
    accepted_reply(in, FRAME_HELLO, answer, answer_len);
    struct link *link = link_find(peers, id);
    if (link != NULL)
        link_poke(link);
}

static void accepted_frame(struct accepted *in, enum frame_kind kind, const void *payload, size_t len)
{
    struct peers *peers = in->peers;
    if (in->state == ACCEPTED_GREETING && kind == FRAME_HELLO) {
        accepted_greet(in, payload, len);
    } else if (in->state == ACCEPTED_UP && kind == FRAME_DATA) {
        if (!peers->config.frame(peers->config.ctx, in->id, in->connection, payload, len))
            accepted_end(in, "malformed frame");
    } else if (in->state == ACCEPTED_UP && kind == FRAME_PING && len == 0) {
        accepted_reply(in, FRAME_PONG, NULL, 0);
    } else {
        accepted_end(in, "frame out of place");
    }
}

static void accepted_frames(struct accepted *in)
{
    enum frame_status status = FRAME_OK;
    while (in->state != ACCEPTED_CLOSING) {
        enum frame_kind kind;
        const void *payload;
        size_t len;
        status = frame_reader_next(&in->reader, &kind, &payload, &len);
        if (status != FRAME_OK)
            break;
        accepted_frame(in, kind, payload, len);
    }
    if (in->state == ACCEPTED_CLOSING || status == FRAME_AGAIN)
        return;
    if (in->state == ACCEPTED_GREETING)
        accepted_refuse(in, frame_strerror(status));
    else
        peers_log(in->peers, PEER_LOG_WARNING, "bad frame from peer %llu (%s): %s", (unsigned long long)in->id,
                  in->name, frame_strerror(status));
    accepted_end(in, frame_strerror(status));
}

static void accepted_alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct accepted *in = handle->data;
    char *space;
    size_t len;
    (void)suggested;
    *buf = uv_buf_init(NULL, 0);
    if (in->turn != in->peers->turn.number) {
        in->turn = in->peers->turn.number;
        in->turn_bytes = TURN_BYTES_MAX;
    }
    if (in->turn_bytes == 0)
        return; /* libuv skips this read; the rest waits for the next turn */
    const size_t want = in->state == ACCEPTED_UP ? READ_BYTES_WANT : frame_wire_bytes(PEER_HELLO_BYTES_MAX);
    if (frame_reader_space(&in->reader, want, &space, &len) != FRAME_OK) {
        in->no_memory = true; /* the read callback closes it: libuv allows no close from here */
        return;
    }
    *buf = uv_buf_init(space, (unsigned)(len < READ_BYTES_MAX ? len : READ_BYTES_MAX));
}

static void accepted_read_cb(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct accepted *in = stream->data;
    (void)buf;
    if (in->state == ACCEPTED_CLOSING || (nread == UV_ENOBUFS && !in->no_memory) || nread == 0)
        return;
    if (nread < 0) {
        accepted_end(in, in->no_memory ? "out of memory" : uv_strerror((int)nread));
        return;
    }
    in->heard_ms = uv_now(in->peers->config.loop);
    in->turn_bytes -= (uint32_t)nread < in->turn_bytes ? (uint32_t)nread : in->turn_bytes;
    frame_reader_fed(&in->reader, (size_t)nread);
    accepted_frames(in);
}

/* Room for one more, if need be at the expense of one that has not said hello. */
static bool accepted_room(struct peers *peers)
{
    if (peers->n_accepted < PEER_ACCEPTED_MAX)
        return true;
    for (struct list *l = peers->accepted.next; l != &peers->accepted; l = l->next) {
        struct accepted *in = LIST_OWNER(l, struct accepted, all);
        if (in->state == ACCEPTED_CLOSING)
            return false;
        if (in->state == ACCEPTED_GREETING) {
            accepted_refuse(in, "too many connections, and no hello on this one");
            accepted_end(in, "too many connections");
            return false;
        }
    }
    return false;
}

static void turned_away_cb(uv_handle_t *handle)
{
    struct peers *peers = handle->data;
    free(handle);
    peers_handle_closed(peers);
}

/* Takes a connection only to close it, so that it does not wait in the backlog for ever. */
static void turn_away(struct peers *peers, uv_stream_t *listener)
{
    uv_tcp_t *tcp = malloc(sizeof(*tcp));
    if (tcp == NULL || uv_tcp_init(peers->config.loop, tcp) != 0) {
        free(tcp);
        return;
    }
    tcp->data = peers;
    peers->handles++;
    (void)uv_accept(listener, (uv_stream_t *)tcp);
    uv_close((uv_handle_t *)tcp, turned_away_cb);
}

void accepted_connection_cb(uv_stream_t *listener, int status)
{
    struct peers *peers = listener->data;
    if (status != 0)
        return;
    struct accepted *in = accepted_room(peers) ? calloc(1, sizeof(*in)) : NULL;
    if (in == NULL || uv_tcp_init(peers->config.loop, &in->tcp) != 0) {
        free(in);
        turn_away(peers, listener);
        return;
    }
    in->tcp.data = in;
    in->peers = peers;
    in->heard_ms = uv_now(peers->config.loop);
    frame_reader_init(&in->reader, PEER_HELLO_BYTES_MAX);
    list_push(&peers->accepted, &in->all);
    peers->n_accepted++;
    peers->handles++;
    if (uv_accept(listener, (uv_stream_t *)&in->tcp) != 0 ||
        uv_read_start((uv_stream_t *)&in->tcp, accepted_alloc_cb, accepted_read_cb) != 0) {
        accepted_end(in, "accept failed");
        return;
    }
    socket_options(&in->tcp, PEER_KEEPALIVE_S);
    socket_peer_name(&in->tcp, in->name);
}

void accepted_sweep_cb(uv_timer_t *timer)
{
    struct peers *peers = timer->data;
    const uint64_t now = uv_now(peers->config.loop);
    const bool stalled = now - peers->swept_ms > peers->config.idle_ms / 2;
    peers->swept_ms = now;
    if (stalled)
        return; /* this process slept, the peers need not have: read first what they sent */
    for (struct list *l = peers->accepted.next; l != &peers->accepted; l = l->next) {
        struct accepted *in = LIST_OWNER(l, struct accepted, all);
        if (in->state == ACCEPTED_CLOSING || now - in->heard_ms < peers->config.idle_ms)
            continue;
        if (in->state == ACCEPTED_GREETING)
            accepted_refuse(in, "no hello in time");
        accepted_end(in, "silent for too long");
    }
}
