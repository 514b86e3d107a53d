/* Links between nodes: owns the peer listener, one outgoing connection per peer with back-off, framing, and bounded
 * send queues. Knows nothing of what frames mean. Loop thread only.
 *
 * Each pair of nodes has two TCP connections, one opened by each side; a node sends only on the one it opened and
 * receives only on those it accepted, so a frame's order is that of one connection. A connection starts with an opaque
 * hello from the opener, which the acceptor's owner judges; the acceptor answers with its own hello on the same
 * connection, which the opener's owner judges. Wire format of framing: docs/FORMATS.md, section Links.
 * TCP_NODELAY and keep-alive are on; a link without traffic for idle_ms is dropped. */
#ifndef LOCKSTEP_PEER_H
#define LOCKSTEP_PEER_H

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define PEER_HELLO_BYTES_MAX 1024u

struct peers;

struct peers_config {
    uv_loop_t *loop;
    uint32_t frame_bytes_max; /* larger frames from outside end the connection, default 80 MiB, at most 1 GiB */
    /* Per link, default 64 MiB: above it frames are dropped, never queued. An empty queue takes any frame. */
    uint64_t queue_bytes_max;
    /* Reconnect, default 20 and 1000, with jitter from `random`. An attempt to connect is given up after
     * backoff_max_ms, so this must exceed the round trip to the farthest peer. */
    uint32_t backoff_min_ms, backoff_max_ms;
    uint32_t idle_ms; /* default 10000; links ping three times as often by themselves */
    /* A link is dropped, and dialled anew, when what was sent on it has not been received by the peer's machine for so
     * long. After a partition TCP would try again later and later, and the link stay dead for seconds more. Default
     * 2000; must exceed a few round trips. */
    uint32_t unacked_ms;
    void *ctx;
    uint64_t (*random)(void *ctx);
    /* This node's hello for a connection to or from `peer_id` (0: not known yet); returns its length. */
    size_t (*hello)(void *ctx, uint64_t peer_id, void *buf, size_t capacity);
    /* Judge a hello. `expected_id` is the peer we dialled, 0 on accepted ones. Returns the peer's id, or 0 to refuse,
     * with *why (logged). */
    uint64_t (*judge)(void *ctx, uint64_t expected_id, const void *hello, size_t len, const char **why);
    /* A whole frame arrived. `connection` grows with each accepted connection of that peer. Borrowed until return;
     * 8-byte aligned. Return false to drop the connection. */
    bool (*frame)(void *ctx, uint64_t peer_id, uint64_t connection, const void *frame, size_t len);
    /* Our outgoing link to a peer came up (frames can be sent) or went down. Never called from inside a function of
     * this header. Optional. */
    void (*state)(void *ctx, uint64_t peer_id, bool connected);
    /* A peer refused our hello, and says why (text of its `judge`). Dialling goes on. Never called from inside a
     * function of this header. Optional. */
    void (*refused)(void *ctx, uint64_t peer_id, const char *why);
    void (*log)(void *ctx, int level, const char *text);
};

struct peers *peers_new(const struct peers_config *config);
int peers_listen(struct peers *peers, const char *host, unsigned port, const char **error);
unsigned peers_port(const struct peers *peers);
/* Add or re-address a peer; dialling starts at once. */
void peers_add(struct peers *peers, uint64_t id, const char *host, unsigned port);
/* Ends all connections with this peer, without a call of `state`. */
void peers_remove(struct peers *peers, uint64_t id);
/* Queue one frame made of n pieces (copied); sent at the end of the loop turn, together with others. False: not
 * connected or queue full, nothing was queued. */
bool peers_send(struct peers *peers, uint64_t id, const struct iovec *pieces, unsigned n);
uint64_t peers_queue_bytes(const struct peers *peers, uint64_t id);
bool peers_connected(const struct peers *peers, uint64_t id);
/* Send now what is queued (also happens by itself at the end of each turn). */
void peers_flush(struct peers *peers);
/* No callback but `closed` is called from here on; the object is freed after it. */
void peers_close(struct peers *peers, void (*closed)(void *ctx), void *ctx);

#endif
