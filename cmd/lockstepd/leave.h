/* Leaving gracefully: a leader first hands leadership over, then new commands are refused and those under way get their
 * answers, until neither other nodes nor clients have sent any for a heartbeat: other nodes know the new leader then,
 * and clients have gone to another node. All of it takes a bounded time. Owns one timer; loop thread only. */
#ifndef LOCKSTEP_LEAVE_H
#define LOCKSTEP_LEAVE_H

#include <uv.h>

#include "cmd/lockstepd/node.h"

struct leave {
    /* private */
    struct node *node;
    uv_timer_t timer;
    uint64_t deadline_ms; /* of this stage, uv_now scale */
    uint64_t to;          /* node that leadership goes to */
    bool draining;
    uint64_t seen, quiet_since_ms; /* commands so far, and when the newest was seen */
    void (*left)(void *ctx);
    void *ctx;
};

/* `left` is called once: after at most two election timeouts for the transfer, and one, but at least a second, for the
 * commands under way. Never
 * from inside leave_begin. */
void leave_begin(struct leave *leave, uv_loop_t *loop, struct node *node, void (*left)(void *ctx), void *ctx);

#endif
