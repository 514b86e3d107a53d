/* A node's links to the others: the hello that identifies a node, and the dispatch of frames. Owns `struct peers`. */
#ifndef LOCKSTEP_NODE_LINKS_H
#define LOCKSTEP_NODE_LINKS_H

#include <uv.h>

#include "cmd/lockstepd/config.h"
#include "cmd/lockstepd/executor.h"
#include "cmd/lockstepd/known_nodes.h"
#include "net/peer.h"

struct node_links;

struct node_links_config {
    uv_loop_t *loop;
    const struct config *config;
    const uint8_t *cluster;    /* 16 bytes, borrowed */
    struct known_nodes *known; /* borrowed */
    struct replica *replica;
    struct executor *executor;
    struct env *env;
    void *ctx;
    void (*log)(void *ctx, int level, const char *text);
};

/* Listen and dial every member of the replicated configuration. NULL: `*error` says why. */
struct node_links *node_links_new(const struct node_links_config *config, const char **error);
/* End of a turn: dial who wants an answer; after a change of the configuration (`changed`), add, re-address and drop
 * links accordingly. */
void node_links_update(struct node_links *links, bool changed);
bool node_links_send(struct node_links *links, uint64_t peer, const struct iovec *pieces, unsigned n);
/* Bytes sent to this node that the network has not taken. */
uint64_t node_links_bytes(const struct node_links *links, uint64_t peer);
/* Send what is queued now, instead of later in this phase of the loop. */
void node_links_flush(struct node_links *links);
/* `closed` is called when nothing is left on the loop; then free. */
void node_links_close(struct node_links *links, void (*closed)(void *ctx), void *ctx);
void node_links_free(struct node_links *links);

#endif
