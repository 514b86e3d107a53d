#include "cmd/lockstepd/leave.h"

#define LEAVE_POLL_MS 2u
/* Commands under way get at least this long, however short elections are. */
#define LEAVE_DRAIN_MS 1000u
/* A client that is in the middle of things hears a refusal rather than a broken connection. */
#define LEAVE_QUIET_MS_MAX 100u

static uint64_t timeout_ms(const struct leave *l)
{
    return node_config(l->node)->election_timeout_ms;
}

/* Is it still of use to wait for the transfer? */
static bool transfer_pending(const struct leave *l, uint64_t now_ms)
{
    struct replica_info info;

    replica_info(node_replica(l->node), &info);
    if (now_ms >= l->deadline_ms || (info.leader != 0 && info.leader != info.id)) {
        return false;
    }
    if (info.role == REPLICA_LEADER && info.transfer_to == 0) {
        return false; /* given up */
    }
    for (unsigned i = 0; i < info.n_servers; i++) {
        if (info.servers[i].id == l->to) {
            return info.peers[i].connected; /* it may be stopping as well */
        }
    }
    return false;
}

/* Nothing is under way, nobody takes this node for the leader any more, and its clients have gone quiet. */
static bool is_quiet(struct leave *l, uint64_t now_ms)
{
    const uint64_t heartbeat_ms = node_config(l->node)->heartbeat_ms;
    const uint64_t quiet_ms = heartbeat_ms < LEAVE_QUIET_MS_MAX ? heartbeat_ms : LEAVE_QUIET_MS_MAX;
    struct executor_stats stats;

    executor_stats(node_executor(l->node), &stats);
    if (stats.forwarded_in + stats.commands != l->seen) {
        l->seen = stats.forwarded_in + stats.commands;
        l->quiet_since_ms = now_ms;
    }
    return now_ms - l->quiet_since_ms >= quiet_ms && executor_outstanding(node_executor(l->node)) == 0;
}

static void timer_cb(uv_timer_t *timer)
{
    struct leave *l = timer->data;
    const uint64_t now_ms = uv_now(timer->loop);

    if (!l->draining) {
        if (l->to != 0 && transfer_pending(l, now_ms)) {
            return;
        }
        l->draining = true;
        l->quiet_since_ms = now_ms;
        l->deadline_ms = now_ms + (timeout_ms(l) > LEAVE_DRAIN_MS ? timeout_ms(l) : LEAVE_DRAIN_MS);
        executor_drain(node_executor(l->node));
    }
    if (!is_quiet(l, now_ms) && now_ms < l->deadline_ms) {
        return;
    }
    uv_close((uv_handle_t *)timer, NULL);
    l->left(l->ctx);
}

void leave_begin(struct leave *l, uv_loop_t *loop, struct node *node, void (*left)(void *ctx), void *ctx)
{
    struct replica_info info;

    *l = (struct leave){.node = node, .left = left, .ctx = ctx};
    l->deadline_ms = uv_now(loop) + 2 * timeout_ms(l);
    if (replica_transfer(node_replica(node), 0) == REPLICA_OK) {
        replica_info(node_replica(node), &info);
        l->to = info.transfer_to;
    }
    (void)uv_timer_init(loop, &l->timer);
    l->timer.data = l;
    (void)uv_timer_start(&l->timer, timer_cb, 0, LEAVE_POLL_MS);
}
