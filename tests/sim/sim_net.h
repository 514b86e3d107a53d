/* The simulated network between nodes: one connection per ordered pair, as net/peer.h has it (a node sends on the one
 * it opened). Owns the frames under way; knows nothing of what they mean.
 *
 * The model. Within a connection frames keep their order and none is lost or doubled. A connection breaks (node down,
 * long blockage, or by chance), which loses a suffix of what was under way; the rest still arrives, unless the next
 * connection is up first. The opener learns of a break late. A blocked direction holds what is sent, up to the bound of
 * the queue, and delivers it when it opens again in time. Two faults go beyond TCP, because a replica must be safe
 * under them too: `late` (frames of an old connection arrive after those of a newer one) and `chaos` (each frame on its
 * own is delayed, lost or doubled). */
#ifndef LOCKSTEP_SIM_NET_H
#define LOCKSTEP_SIM_NET_H

#include <sys/uio.h>

#include "tests/sim/sim_world.h"

#define SIM_NODES_MAX 9u

struct sim_link;

/* A frame on its way; whoever it is delivered to frees it. */
struct sim_frame {
    struct sim_task task;
    struct sim_link *link;
    struct sim_frame *next;
    unsigned from, to; /* positions of nodes */
    uint64_t connection;
    bool late;
    bool copy; /* travels outside the connection's order (chaos) */
    size_t len;
    uint8_t bytes[]; /* aligned to 8 */
};

struct sim_net_config {
    unsigned n_nodes;
    /* A frame has arrived: takes it. */
    void (*deliver)(void *ctx, struct sim_frame *frame);
    /* The connection that `node` opened to `peer` came up or went down. */
    void (*state)(void *ctx, unsigned node, unsigned peer, bool connected);
    bool (*is_up)(void *ctx, unsigned node);
    void *ctx;
};

struct sim_net {
    /* public: may be changed at any time */
    uint64_t delay_us;     /* typical, one way, 150 */
    uint64_t delay_max_us; /* 50,000 */
    uint32_t spike_ppm;    /* a frame and what follows it waits up to spike_us, as after a retransmission */
    uint64_t spike_us;
    bool swift;               /* breaks are noticed, and connections made, within a millisecond */
    uint32_t break_ppm;       /* probability that sending a frame breaks the connection */
    uint64_t queue_bytes_max; /* per connection: above it frames are refused */
    uint64_t patience_us;     /* a blocked connection breaks after about this long */
    bool late;
    bool chaos;
    uint32_t lose_ppm, double_ppm; /* in chaos */
    uint64_t chaos_delay_us;
    /* public, read only */
    uint64_t frames, bytes, refused, lost, breaks, connects, doubled, delivered;
    /* private */
    struct sim_world *world;
    struct sim_random random;
    struct sim_net_config config;
    struct sim_link *links;                          /* [from * n_nodes + to] */
    uint64_t accepted[SIM_NODES_MAX][SIM_NODES_MAX]; /* [to][from]: newest connection number */
};

void sim_net_init(struct sim_net *net, struct sim_world *world, struct sim_random random,
                  const struct sim_net_config *config);
void sim_net_fini(struct sim_net *net);

/* Copies the frame. False: not connected, or the queue is full. */
bool sim_net_send(struct sim_net *net, unsigned from, unsigned to, const struct iovec *pieces, unsigned n);
/* Stop or resume the traffic from one node to another. No connection is made between two nodes while either direction
 * is blocked. */
void sim_net_block(struct sim_net *net, unsigned from, unsigned to, bool blocked);
bool sim_net_is_blocked(const struct sim_net *net, unsigned from, unsigned to);
void sim_net_unblock_all(struct sim_net *net);
/* Break the connection that `from` opened to `to`. */
void sim_net_break(struct sim_net *net, unsigned from, unsigned to);
bool sim_net_connected(const struct sim_net *net, unsigned from, unsigned to);
/* A node died or came up. */
void sim_net_node_down(struct sim_net *net, unsigned node);
void sim_net_node_up(struct sim_net *net, unsigned node);
void sim_frame_free(struct sim_frame *frame);

#endif
