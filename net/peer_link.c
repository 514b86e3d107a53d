/* Links: the connections that we open, and on which we send.
 *
 *                  timer            address            connected           hello judged good
 *      WAITING ----------> RESOLVING ------> CONNECTING ---------> GREETING -----------------> UP
 *         ^                    |                 |                    |                         |
 *         |                    |                 +---- failure, time-out, refusal, silence -----+
 *         |                    v                                      v
 *         +-----------------(failed)<--------- close callback ----- CLOSING
 *
 * One timer drives every state that waits (link_timer_cb); libuv callbacks record what happened and move on. Attempts
 * start at most backoff_max_ms apart, counted from start to start, as long as the peer's machine does not answer: a
 * connection attempt without an answer is given up when the next is due. A removed link ends in CLOSING and is freed
 * when its timer, socket and name look-up are all gone.
 *
 * Frames are copied once, into chunks. What is queued in a turn goes out in one system call at its end; what the socket
 * does not take is left to uv_write, at most WRITE_BYTES_MAX at a time, so that memory is given back as it goes. */
#include "net/peer_private.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CHUNK_BYTES (64u * 1024)
#define CHUNK_HEADER_BYTES 32u
#define WRITE_CHUNKS_MAX 64u
#define WRITE_BYTES_MAX (1024u * 1024)

/* Whole frames, ready for the wire. */
struct chunk {
    struct list queued;
    uint32_t len, capacity;
    uint32_t sent;
    uint32_t unused;
    char data[];
};
static_assert(sizeof(struct chunk) == CHUNK_HEADER_BYTES, "chunks are sized in whole pages");

enum link_state { LINK_WAITING, LINK_RESOLVING, LINK_CONNECTING, LINK_GREETING, LINK_UP, LINK_CLOSING };

struct link {
    struct peers *peers;
    struct list all;
    uint64_t id;
    unsigned port;
    enum link_state state;
    bool removed;
    bool was_up;  /* the owner was told so */
    bool refused; /* the last attempt: retry at the slowest */
    bool no_memory;
    uv_timer_t timer;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_getaddrinfo_t resolve;
    uv_write_t write;
    unsigned pending;  /* of timer, tcp, resolve: what must be gone before the link is freed */
    unsigned failures; /* in a row */
    bool write_busy;
    uint64_t dialled_ms, up_ms, pinged_ms;
    uint64_t heard_ms;      /* last sign of life */
    size_t unwritten_bytes; /* at the last look, to see progress */
    uint64_t timer_due_ms;
    struct frame_reader reader;
    struct list chunks;  /* queued */
    struct list writing; /* given to uv_write */
    struct chunk *spare;
    uint64_t queue_bytes; /* in both */
    char host[PEER_HOST_MAX + 1];
    char reason[PEER_REASON_MAX]; /* last logged */
};

static void link_dial(struct link *link);
static void link_timer_cb(uv_timer_t *timer);

struct link *link_of(struct list *element)
{
    return LIST_OWNER(element, struct link, all);
}

struct link *link_find(const struct peers *peers, uint64_t id)
{
    for (struct list *l = peers->links.next; l != &peers->links; l = l->next) {
        if (link_of(l)->id == id)
            return link_of(l);
    }
    return NULL;
}

static uint64_t link_now(const struct link *link)
{
    return uv_now(link->peers->config.loop);
}

static void link_timer_set(struct link *link, uint64_t at_ms)
{
    const uint64_t now = link_now(link);
    if (link->removed)
        return;
    link->timer_due_ms = at_ms > now ? at_ms : now;
    uv_timer_start(&link->timer, link_timer_cb, link->timer_due_ms - now, 0);
}

/* --- Queue ------------------------------------------------------------------------------------------------------ */

static void chunk_free(struct link *link, struct chunk *chunk)
{
    list_remove(&chunk->queued);
    link->queue_bytes -= chunk->len - chunk->sent;
    if (link->spare == NULL && chunk->capacity == CHUNK_BYTES - CHUNK_HEADER_BYTES)
        link->spare = chunk;
    else
        free(chunk);
}

static void chunks_free(struct link *link, struct list *chunks)
{
    while (!list_empty(chunks)) /* the analyzer can't see that chunk_free takes the chunk off the list */
        chunk_free(link, LIST_OWNER(chunks->next, struct chunk, queued)); /* NOLINT(clang-analyzer-unix.Malloc) */
}

/* A chunk with room for a frame of `bytes`: the last one queued or a new one. A frame never spans two. */
static struct chunk *chunk_room(struct link *link, size_t bytes)
{
    struct chunk *chunk = NULL;
    if (!list_empty(&link->chunks)) {
        chunk = LIST_OWNER(link->chunks.prev, struct chunk, queued);
        if (chunk->capacity - chunk->len >= bytes)
            return chunk;
    }
    size_t capacity = CHUNK_BYTES - CHUNK_HEADER_BYTES;
    if (bytes <= capacity && link->spare != NULL) {
        chunk = link->spare;
        link->spare = NULL;
    } else {
        capacity = bytes > capacity ? bytes : capacity;
        chunk = malloc(sizeof(*chunk) + capacity);
        if (chunk == NULL)
            return NULL;
        chunk->capacity = (uint32_t)capacity;
    }
    chunk->len = 0;
    chunk->sent = 0;
    list_push(&link->chunks, &chunk->queued);
    return chunk;
}

static bool frame_queue(struct link *link, enum frame_kind kind, const struct iovec *pieces, unsigned n, size_t len)
{
    const size_t bytes = frame_wire_bytes(len);
    struct chunk *chunk = chunk_room(link, bytes);
    if (chunk == NULL)
        return false;
    frame_write(chunk->data + chunk->len, kind, pieces, n, len);
    chunk->len += (uint32_t)bytes;
    link->queue_bytes += bytes;
    turn_wake(&link->peers->turn);
    return true;
}

bool link_send(struct link *link, const struct iovec *pieces, unsigned n)
{
    const struct peers_config *config = &link->peers->config;
    size_t len = 0;
    for (unsigned i = 0; i < n; i++) {
        if (pieces[i].iov_len > config->frame_bytes_max - len)
            return false;
        len += pieces[i].iov_len;
    }
    if (link->state != LINK_UP)
        return false;
    /* A single frame may exceed the bound of the queue: otherwise it could never be sent. */
    if (link->queue_bytes > 0 && link->queue_bytes + frame_wire_bytes(len) > config->queue_bytes_max)
        return false;
    return frame_queue(link, FRAME_DATA, pieces, n, len);
}

uint64_t link_queue_bytes(const struct link *link)
{
    return link->queue_bytes;
}

bool link_connected(const struct link *link)
{
    return link->state == LINK_UP;
}

/* --- End of a connection ---------------------------------------------------------------------------------------- */

/* Frees a removed link once nothing of it is on the loop. */
static void link_part_closed(struct link *link)
{
    struct peers *peers = link->peers;
    assert(link->pending > 0);
    if (--link->pending > 0)
        return;
    assert(link->removed);
    assert(!link->write_busy);
    chunks_free(link, &link->chunks);
    chunks_free(link, &link->writing);
    free(link->spare); /* NOLINT(clang-analyzer-unix.Malloc) */
    frame_reader_fini(&link->reader);
    free(link);
    peers_handle_closed(peers);
}

/* When to dial again: exponential, with jitter, from the start of the last attempt. */
static void link_schedule(struct link *link)
{
    const struct peers_config *config = &link->peers->config;
    uint64_t delay = config->backoff_min_ms;
    for (unsigned i = 1; i < link->failures && delay < config->backoff_max_ms; i++)
        delay *= 2;
    if (delay > config->backoff_max_ms || link->refused)
        delay = config->backoff_max_ms;
    if (delay > 1)
        delay -= config->random(config->ctx) % (delay / 2 + 1);
    link->state = LINK_WAITING;
    link_timer_set(link, link->dialled_ms + delay);
}

static void link_closed_cb(uv_handle_t *handle)
{
    struct link *link = handle->data;
    const struct peers_config *config = &link->peers->config;
    assert(link->state == LINK_CLOSING);
    chunks_free(link, &link->chunks);
    chunks_free(link, &link->writing);
    frame_reader_fini(&link->reader);
    if (!link->removed) {
        const bool was_up = link->was_up;
        link->was_up = false;
        link_schedule(link);
        if (was_up && config->state != NULL)
            config->state(config->ctx, link->id, false);
    }
    link_part_closed(link);
}

/* Says why there is no link, once per reason until it comes up. */
static void link_complain(struct link *link, const char *why)
{
    if (link->removed || strncmp(link->reason, why, sizeof(link->reason) - 1) == 0)
        return;
    snprintf(link->reason, sizeof(link->reason), "%s", why);
    peers_log(link->peers, link->refused ? PEER_LOG_WARNING : PEER_LOG_INFO, "link to peer %llu (%s:%u) %s: %s",
              (unsigned long long)link->id, link->host, link->port, link->was_up ? "lost" : "not up", why);
}

/* Ends the connection or attempt under way; the close callback schedules the next. */
static void link_drop(struct link *link, const char *why)
{
    assert(link->state == LINK_CONNECTING || link->state == LINK_GREETING || link->state == LINK_UP ||
           link->state == LINK_CLOSING);
    if (link->state == LINK_CLOSING)
        return;
    /* A link that broke soon after it came up counts as a failure, or a peer that is in trouble is dialled in a loop.
     */
    if (link->state == LINK_UP && link_now(link) - link->up_ms >= link->peers->config.backoff_max_ms)
        link->failures = 0;
    link->failures++;
    link_complain(link, why);
    link->state = LINK_CLOSING;
    uv_timer_stop(&link->timer);
    uv_close((uv_handle_t *)&link->tcp, link_closed_cb);
}

/* --- Sending ---------------------------------------------------------------------------------------------------- */

static void link_write_cb(uv_write_t *req, int status);

/* Collects what goes out next. */
static unsigned buffers_gather(struct list *chunks, uv_buf_t *bufs, size_t bytes_max)
{
    unsigned n = 0;
    size_t bytes = 0;
    for (struct list *l = chunks->next; l != chunks && n < WRITE_CHUNKS_MAX; l = l->next) {
        struct chunk *chunk = LIST_OWNER(l, struct chunk, queued);
        const uint32_t left = chunk->len - chunk->sent;
        if (n > 0 && bytes + left > bytes_max)
            break;
        bufs[n++] = uv_buf_init(chunk->data + chunk->sent, left);
        bytes += left;
    }
    return n;
}

static void chunks_sent(struct link *link, size_t bytes)
{
    while (bytes > 0) {
        struct chunk *chunk = LIST_OWNER(link->chunks.next, struct chunk, queued);
        const uint32_t left = chunk->len - chunk->sent; /* NOLINT(clang-analyzer-unix.Malloc) */
        if (bytes < left) {
            chunk->sent += (uint32_t)bytes;
            link->queue_bytes -= bytes;
            return;
        }
        bytes -= left;
        chunk_free(link, chunk);
    }
}

/* The socket took no more: libuv writes the next stretch when it does. */
static void link_write_rest(struct link *link)
{
    uv_buf_t bufs[WRITE_CHUNKS_MAX];
    unsigned n = buffers_gather(&link->chunks, bufs, WRITE_BYTES_MAX);
    assert(list_empty(&link->writing));
    for (unsigned i = 0; i < n; i++) {
        struct list *first = link->chunks.next;
        list_remove(first);
        list_push(&link->writing, first);
    }
    int status = uv_write(&link->write, (uv_stream_t *)&link->tcp, bufs, n, link_write_cb);
    if (status != 0) {
        link_drop(link, uv_strerror(status));
        return;
    }
    link->write_busy = true;
    link->unwritten_bytes = link->tcp.write_queue_size;
}

void link_flush(struct link *link)
{
    uv_buf_t bufs[WRITE_CHUNKS_MAX];
    while (link->state == LINK_UP && !link->write_busy && !list_empty(&link->chunks)) {
        size_t bytes = 0;
        unsigned n = buffers_gather(&link->chunks, bufs, SIZE_MAX / 2);
        for (unsigned i = 0; i < n; i++)
            bytes += bufs[i].len;
        int written = uv_try_write((uv_stream_t *)&link->tcp, bufs, n);
        if (written < 0 && written != UV_EAGAIN) {
            link_drop(link, uv_strerror(written));
            return;
        }
        if (written > 0)
            chunks_sent(link, (size_t)written);
        if (written < 0 || (size_t)written < bytes)
            link_write_rest(link);
    }
}

static void link_write_cb(uv_write_t *req, int status)
{
    struct link *link = LIST_OWNER(req, struct link, write);
    link->write_busy = false;
    chunks_free(link, &link->writing);
    if (link->state != LINK_UP)
        return;
    if (status != 0) {
        link_drop(link, uv_strerror(status));
        return;
    }
    link->heard_ms = link_now(link);
    link_flush(link);
}

/* --- Up --------------------------------------------------------------------------------------------------------- */

static void link_ping_schedule(struct link *link)
{
    const uint64_t silence = link->heard_ms + link->peers->config.idle_ms;
    const uint64_t ping = link->pinged_ms + link->peers->config.idle_ms / 3 + 1;
    link_timer_set(link, ping < silence ? ping : silence);
}

static void link_greeted(struct link *link, const void *hello, size_t len)
{
    const struct peers_config *config = &link->peers->config;
    const char *why = "hello not accepted";
    const uint64_t id = config->judge(config->ctx, link->id, hello, len, &why);
    if (link->state != LINK_GREETING)
        return;
    if (id != link->id) {
        link->refused = true;
        link_drop(link, id == 0 ? why : "another node answers at this address");
        return;
    }
    link->state = LINK_UP;
    link->was_up = true;
    link->refused = false;
    link->reason[0] = '\0';
    link->up_ms = link_now(link);
    link->pinged_ms = link->up_ms;
    link_ping_schedule(link);
    peers_log(link->peers, PEER_LOG_INFO, "link to peer %llu (%s:%u) up", (unsigned long long)link->id, link->host,
              link->port);
    if (config->state != NULL)
        config->state(config->ctx, link->id, true);
}

static void link_refused(struct link *link, const void *text, size_t len)
{
    char clean[PEER_REASON_MAX / 2];
    char why[PEER_REASON_MAX];
    peers_text_clean(clean, sizeof(clean), text, len);
    snprintf(why, sizeof(why), "the peer refuses us: %s", clean);
    link->refused = true;
    link_drop(link, why);
    if (link->peers->config.refused != NULL)
        link->peers->config.refused(link->peers->config.ctx, link->id, clean);
}

static void link_frames(struct link *link)
{
    while (link->state == LINK_GREETING || link->state == LINK_UP) {
        enum frame_kind kind;
        const void *payload;
        size_t len;
        const enum frame_status status = frame_reader_next(&link->reader, &kind, &payload, &len);
        if (status == FRAME_AGAIN)
            return;
        if (status != FRAME_OK)
            link_drop(link, frame_strerror(status));
        else if (link->state == LINK_GREETING && kind == FRAME_HELLO)
            link_greeted(link, payload, len);
        else if (link->state == LINK_GREETING && kind == FRAME_REFUSAL)
            link_refused(link, payload, len);
        else if (link->state != LINK_UP || kind != FRAME_PONG)
            link_drop(link, "frame out of place");
    }
}

static void link_alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct link *link = handle->data;
    char *space;
    size_t len;
    (void)suggested;
    *buf = uv_buf_init(NULL, 0);
    if (frame_reader_space(&link->reader, frame_wire_bytes(PEER_HELLO_BYTES_MAX), &space, &len) == FRAME_OK)
        *buf = uv_buf_init(space, (unsigned)len);
    else
        link->no_memory = true;
}

static void link_read_cb(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct link *link = stream->data;
    (void)buf;
    if (link->state == LINK_CLOSING || nread == 0)
        return;
    if (nread < 0) {
        const char *why = nread == UV_EOF ? "closed by the peer" : uv_strerror((int)nread);
        link_drop(link, link->no_memory ? "out of memory" : why);
        return;
    }
    link->heard_ms = link_now(link);
    frame_reader_fed(&link->reader, (size_t)nread);
    link_frames(link);
}

/* --- Dialling --------------------------------------------------------------------------------------------------- */

/* Our hello is the first thing on a fresh connection: the socket takes it whole. */
static int link_hello(struct link *link)
{
    const struct peers_config *config = &link->peers->config;
    char hello[PEER_HELLO_BYTES_MAX];
    _Alignas(8) char frame[FRAME_HEADER_BYTES + PEER_HELLO_BYTES_MAX];
    const size_t len = config->hello(config->ctx, link->id, hello, sizeof(hello));
    const struct iovec piece = {hello, len};
    assert(len <= sizeof(hello));
    frame_write(frame, FRAME_HELLO, &piece, 1, len);
    uv_buf_t buf = uv_buf_init(frame, (unsigned)frame_wire_bytes(len));
    int written = uv_try_write((uv_stream_t *)&link->tcp, &buf, 1);
    if (written < 0)
        return written;
    return (size_t)written == frame_wire_bytes(len) ? 0 : UV_EAGAIN;
}

/* Links carry few packets at a time; a lost one should be sent again soon, also the third time, so that a link is back
 * at once after a short partition. After a longer one a new connection is sooner there than the next attempt of an old
 * one. */
static void link_socket_options(struct link *link)
{
    uv_os_fd_t fd;
    const int on = 1;
    const unsigned unacked_ms = link->peers->config.unacked_ms;
    socket_options(&link->tcp, PEER_KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)&link->tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &on, sizeof(on));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof(unacked_ms));
    }
}

static void link_connect_cb(uv_connect_t *req, int status)
{
    struct link *link = LIST_OWNER(req, struct link, connect);
    if (link->state != LINK_CONNECTING)
        return;
    if (status == 0) {
        link->state = LINK_GREETING;
        link->heard_ms = link_now(link);
        link_timer_set(link, link->heard_ms + link->peers->config.idle_ms);
        link_socket_options(link);
        status = link_hello(link);
    }
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&link->tcp, link_alloc_cb, link_read_cb);
    if (status != 0)
        link_drop(link, uv_strerror(status));
}

static void link_connect(struct link *link, const struct sockaddr *address)
{
    const struct peers_config *config = &link->peers->config;
    link->state = LINK_CONNECTING;
    link->no_memory = false;
    frame_reader_init(&link->reader, PEER_HELLO_BYTES_MAX);
    int status = uv_tcp_init(config->loop, &link->tcp);
    assert(status == 0); /* creates no socket yet */
    link->tcp.data = link;
    link->pending++;
    link_timer_set(link, link->dialled_ms + config->backoff_max_ms);
    status = uv_tcp_connect(&link->connect, &link->tcp, address, link_connect_cb);
    if (status != 0)
        link_drop(link, uv_strerror(status));
}

static void link_resolve_failed(struct link *link, int status)
{
    link->failures++;
    link_complain(link, uv_strerror(status));
    link_schedule(link);
}

static void link_resolved_cb(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct link *link = LIST_OWNER(req, struct link, resolve);
    if (!link->removed) {
        assert(link->state == LINK_RESOLVING);
        if (status == 0)
            link_connect(link, found->ai_addr);
        else
            link_resolve_failed(link, status);
    }
    uv_freeaddrinfo(found);
    link_part_closed(link);
}

static void link_resolve(struct link *link)
{
    char port[8];
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    snprintf(port, sizeof(port), "%u", link->port);
    link->state = LINK_RESOLVING;
    int status = uv_getaddrinfo(link->peers->config.loop, &link->resolve, link_resolved_cb, link->host, port, &hints);
    if (status != 0) {
        link_resolve_failed(link, status);
        return;
    }
    link->pending++;
}

static void link_dial(struct link *link)
{
    struct sockaddr_storage address;
    assert(link->state == LINK_WAITING);
    link->dialled_ms = link_now(link);
    if (uv_ip4_addr(link->host, (int)link->port, (struct sockaddr_in *)&address) == 0 ||
        uv_ip6_addr(link->host, (int)link->port, (struct sockaddr_in6 *)&address) == 0)
        link_connect(link, (const struct sockaddr *)&address);
    else
        link_resolve(link);
}

/* --- The timer -------------------------------------------------------------------------------------------------- */

/* Pings regularly, and drops a link that gives no sign of life: a pong, or progress with what is being written. */
static void link_up_tick(struct link *link)
{
    const struct peers_config *config = &link->peers->config;
    const uint64_t now = link_now(link);
    if (link->write_busy && link->tcp.write_queue_size != link->unwritten_bytes)
        link->heard_ms = now;
    link->unwritten_bytes = link->tcp.write_queue_size;
    if (now - link->heard_ms >= config->idle_ms) {
        link_drop(link, "no sign of life");
        return;
    }
    if (now - link->pinged_ms > config->idle_ms / 3) {
        link->pinged_ms = now;
        if (!frame_queue(link, FRAME_PING, NULL, 0, 0)) {
            link_drop(link, "out of memory");
            return;
        }
    }
    link_ping_schedule(link);
}

static void link_timer_cb(uv_timer_t *timer)
{
    struct link *link = timer->data;
    const uint64_t late_ms = link_now(link) - link->timer_due_ms;
    switch (link->state) {
    case LINK_WAITING:
        link_dial(link);
        break;
    case LINK_CONNECTING:
        link_drop(link, "no answer to the connection attempt");
        break;
    case LINK_GREETING:
        link_drop(link, "no hello in time");
        break;
    case LINK_UP:
        /* If this process slept, answers may lie unread in the socket. */
        if (late_ms > link->peers->config.idle_ms / 3)
            link->heard_ms += late_ms;
        link_up_tick(link);
        break;
    case LINK_RESOLVING: /* a look-up can't be given up */
    case LINK_CLOSING:
        break;
    }
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

struct link *link_new(struct peers *peers, uint64_t id, const char *host, unsigned port)
{
    struct link *link = calloc(1, sizeof(*link));
    if (link == NULL)
        return NULL;
    link->peers = peers;
    link->id = id;
    link->port = port;
    link->state = LINK_WAITING;
    snprintf(link->host, sizeof(link->host), "%s", host);
    list_init(&link->chunks);
    list_init(&link->writing);
    frame_reader_init(&link->reader, PEER_HELLO_BYTES_MAX);
    uv_timer_init(peers->config.loop, &link->timer);
    link->timer.data = link;
    link->pending = 1;
    list_push(&peers->links, &link->all);
    peers->n_links++;
    peers->handles++;
    link_timer_set(link, link_now(link));
    return link;
}

static bool link_has_socket(const struct link *link)
{
    return link->state == LINK_CONNECTING || link->state == LINK_GREETING || link->state == LINK_UP;
}

void link_readdress(struct link *link, const char *host, unsigned port)
{
    if (strcmp(link->host, host) == 0 && link->port == port)
        return;
    snprintf(link->host, sizeof(link->host), "%s", host);
    link->port = port;
    link->refused = false;
    link->reason[0] = '\0';
    if (link_has_socket(link))
        link_drop(link, "the peer has a new address");
    link->failures = 0;
    link->dialled_ms = 0;
    if (link->state == LINK_WAITING)
        link_timer_set(link, link_now(link));
}

void link_poke(struct link *link)
{
    const uint64_t now = link_now(link);
    if (link->state == LINK_GREETING && now - link->heard_ms >= link->peers->config.backoff_max_ms) {
        link_drop(link, "no hello, and the peer connected anew");
        return;
    }
    if (link->state != LINK_WAITING || link->refused)
        return;
    link->failures = 0;
    link_timer_set(link, now);
}

static void link_timer_closed_cb(uv_handle_t *handle)
{
    link_part_closed(handle->data);
}

void link_remove(struct link *link)
{
    assert(!link->removed);
    link->removed = true;
    list_remove(&link->all);
    link->peers->n_links--;
    if (link_has_socket(link))
        link_drop(link, "removed");
    if (link->state == LINK_RESOLVING)
        (void)uv_cancel((uv_req_t *)&link->resolve); /* one that runs already can't be, and is waited for */
    uv_close((uv_handle_t *)&link->timer, link_timer_closed_cb);
}
