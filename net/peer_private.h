/* The inside of peer.h: what peer.c (the whole), peer_link.c (connections we opened, for sending) and peer_accept.c
 * (connections we accepted, for receiving) share. Loop thread only. */
#ifndef LOCKSTEP_PEER_PRIVATE_H
#define LOCKSTEP_PEER_PRIVATE_H

#include "net/frame.h"
#include "net/list.h"
#include "net/peer.h"
#include "net/socket.h"
#include "net/turn.h"

#define PEER_HOST_MAX 255u
#define PEER_REASON_MAX 192u
/* Accepted connections, greeted or not. */
#define PEER_ACCEPTED_MAX 128u
#define PEER_LINKS_MAX 64u
/* Refused connections whose reason was logged lately. */
#define PEER_REFUSALS_KEPT 16u
#define PEER_KEEPALIVE_S 15u

enum { PEER_LOG_ERROR = 0, PEER_LOG_WARNING = 1, PEER_LOG_INFO = 2, PEER_LOG_DEBUG = 3 };

struct peers {
    struct peers_config config;
    struct turn turn;
    uv_timer_t sweep; /* drops silent accepted connections */
    uint64_t swept_ms;
    uv_tcp_t listener;
    bool listening;
    unsigned port;
    struct list links;
    unsigned n_links;
    struct list accepted;
    unsigned n_accepted;
    uint64_t connection;                   /* number of the last greeted accepted connection */
    uint64_t refusals[PEER_REFUSALS_KEPT]; /* hashes of (remote host, reason) */
    unsigned next_refusal;
    unsigned handles; /* users of the loop: turn, sweep timer, listener, links, accepted connections */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* Formats and hands a line to the owner's log. */
void peers_log(struct peers *peers, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A user of the loop is gone. */
void peers_handle_closed(struct peers *peers);
/* Copies text from outside for the log: printable, bounded. */
void peers_text_clean(char *to, size_t capacity, const void *text, size_t len);

/* --- Links (peer_link.c) ---------------------------------------------------------------------------------------- */

struct link;

struct link *link_find(const struct peers *peers, uint64_t id);
/* Adds and dials; NULL when out of memory. */
struct link *link_new(struct peers *peers, uint64_t id, const char *host, unsigned port);
/* A new address: dials it at once. No-op if it is the old one. */
void link_readdress(struct link *link, const char *host, unsigned port);
/* Ends the link; its memory goes when nothing of it is left on the loop. */
void link_remove(struct link *link);
/* The peer has just connected to us, so it is back: don't wait out the back-off. */
void link_poke(struct link *link);
bool link_send(struct link *link, const struct iovec *pieces, unsigned n);
/* Offers what is queued to the socket. */
void link_flush(struct link *link);
uint64_t link_queue_bytes(const struct link *link);
bool link_connected(const struct link *link);
struct link *link_of(struct list *element);

/* --- Accepted connections (peer_accept.c) ----------------------------------------------------------------------- */

void accepted_connection_cb(uv_stream_t *listener, int status);
void accepted_sweep_cb(uv_timer_t *timer);
/* Close those of one peer, or all (0). */
void accepted_close(struct peers *peers, uint64_t id);

#endif
