#include "tests/sim/sim_net.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* down -> (dial fires, both ends up, nothing blocked) -> up -> (break) -> broken: the opener does not know yet ->
 * (notice fires) -> down. */
enum link_state { LINK_DOWN, LINK_UP, LINK_BROKEN };

#define SWIFT_US 500u

struct sim_link {
    struct sim_task dial;    /* down: try to connect */
    struct sim_task notice;  /* broken: tell the opener */
    struct sim_task give_up; /* blocked for too long */
    struct sim_net *net;
    unsigned from, to;
    enum link_state state;
    bool blocked;
    uint64_t connection;
    uint64_t last_us; /* arrival of the newest frame */
    uint64_t queued_bytes;
    struct sim_frame *first, *last; /* under way, in order; includes those held by a blockage and late ones */
};

static void dial_fire_cb(struct sim_task *task);
static void notice_fire_cb(struct sim_task *task);
static void give_up_fire_cb(struct sim_task *task);
static void frame_fire_cb(struct sim_task *task);

void sim_net_init(struct sim_net *net, struct sim_world *world, struct sim_random random,
                  const struct sim_net_config *config)
{
    memset(net, 0, sizeof *net);
    assert(config->n_nodes <= SIM_NODES_MAX);
    net->world = world;
    net->random = random;
    net->config = *config;
    net->delay_us = 150;
    net->delay_max_us = 50000;
    net->spike_us = 200000;
    net->queue_bytes_max = 4u << 20;
    net->patience_us = 2000000;
    net->chaos_delay_us = 5000;
    net->links = calloc((size_t)config->n_nodes * config->n_nodes, sizeof *net->links);
    assert(net->links != NULL);
    for (unsigned i = 0; i < config->n_nodes * config->n_nodes; i++) {
        struct sim_link *link = &net->links[i];

        link->net = net;
        link->from = i / config->n_nodes;
        link->to = i % config->n_nodes;
        link->dial = (struct sim_task){.data = link, .cb = dial_fire_cb};
        link->notice = (struct sim_task){.data = link, .cb = notice_fire_cb};
        link->give_up = (struct sim_task){.data = link, .cb = give_up_fire_cb};
    }
}

static struct sim_link *link_of(const struct sim_net *net, unsigned from, unsigned to)
{
    assert(from < net->config.n_nodes);
    assert(to < net->config.n_nodes);
    return &net->links[from * net->config.n_nodes + to];
}

void sim_frame_free(struct sim_frame *frame)
{
    free(frame);
}

/* Take a frame out of its link. */
static void frame_unlink(struct sim_frame *frame)
{
    struct sim_link *link = frame->link;
    struct sim_frame **at = &link->first;
    struct sim_frame *before = NULL;

    while (*at != frame) {
        assert(*at != NULL);
        before = *at;
        at = &(*at)->next;
    }
    *at = frame->next;
    if (link->last == frame) {
        link->last = before;
    }
    if (!frame->late) {
        link->queued_bytes -= frame->len;
    }
    frame->next = NULL;
}

static void frame_drop(struct sim_net *net, struct sim_frame *frame)
{
    sim_world_cancel(net->world, &frame->task);
    frame_unlink(frame);
    net->lost++;
    sim_frame_free(frame);
}

void sim_net_fini(struct sim_net *net)
{
    for (unsigned i = 0; i < net->config.n_nodes * net->config.n_nodes; i++) {
        struct sim_link *link = &net->links[i];

        while (link->first != NULL) {
            frame_drop(net, link->first);
        }
        sim_world_cancel(net->world, &link->dial);
        sim_world_cancel(net->world, &link->notice);
        sim_world_cancel(net->world, &link->give_up);
    }
    free(net->links);
    net->links = NULL;
}

/* --- Frames ------------------------------------------------------------------------------------------------------ */

static void frame_fire_cb(struct sim_task *task)
{
    struct sim_frame *frame = (struct sim_frame *)(void *)task;
    struct sim_link *link = frame->link;
    struct sim_net *net = link->net;

    if (link->blocked) {
        return; /* stays in the list until the direction opens or the connection breaks */
    }
    frame_unlink(frame);
    if (!net->config.is_up(net->config.ctx, frame->to)) {
        net->lost++;
        sim_frame_free(frame);
        return;
    }
    net->delivered++;
    net->config.deliver(net->config.ctx, frame);
}

static struct sim_frame *frame_new(struct sim_link *link, const struct iovec *pieces, unsigned n, size_t len)
{
    struct sim_frame *frame = calloc(1, sizeof *frame + len);
    size_t at = 0;

    assert(frame != NULL);
    frame->task.cb = frame_fire_cb;
    frame->link = link;
    frame->from = link->from;
    frame->to = link->to;
    frame->connection = link->connection;
    frame->len = len;
    for (unsigned i = 0; i < n; i++) {
        if (pieces[i].iov_len > 0) {
            memcpy(frame->bytes + at, pieces[i].iov_base, pieces[i].iov_len);
        }
        at += pieces[i].iov_len;
    }
    if (link->last == NULL) {
        link->first = frame;
    } else {
        link->last->next = frame;
    }
    link->last = frame;
    link->queued_bytes += len;
    return frame;
}

static void frame_schedule(struct sim_net *net, struct sim_frame *frame)
{
    struct sim_link *link = frame->link;
    uint64_t at = net->world->now_us + sim_random_delay(&net->random, net->delay_us, net->delay_max_us);

    at += frame->len / 1000; /* about 1 GB/s */
    if (net->chaos) {
        at += sim_random_below(&net->random, net->chaos_delay_us + 1);
        frame->copy = true;
    } else {
        if (sim_random_chance(&net->random, net->spike_ppm)) {
            at += sim_random_below(&net->random, net->spike_us + 1);
        }
        at = at > link->last_us ? at : link->last_us;
        link->last_us = at;
    }
    sim_world_at(net->world, &frame->task, at);
}

bool sim_net_send(struct sim_net *net, unsigned from, unsigned to, const struct iovec *pieces, unsigned n)
{
    struct sim_link *link = link_of(net, from, to);
    size_t len = 0;

    for (unsigned i = 0; i < n; i++) {
        len += pieces[i].iov_len;
    }
    /* As net/peer has it: an empty queue takes a frame of any size. */
    if (link->state == LINK_DOWN || (link->queued_bytes > 0 && link->queued_bytes + len > net->queue_bytes_max)) {
        net->refused++;
        return false;
    }
    net->frames++;
    net->bytes += len;
    if (link->state == LINK_BROKEN || (net->chaos && sim_random_chance(&net->random, net->lose_ppm))) {
        net->lost++;
        return true; /* goes into a socket that nobody reads */
    }
    frame_schedule(net, frame_new(link, pieces, n, len));
    if (net->chaos && sim_random_chance(&net->random, net->double_ppm)) {
        net->doubled++;
        frame_schedule(net, frame_new(link, pieces, n, len));
    }
    if (sim_random_chance(&net->random, net->break_ppm)) {
        sim_net_break(net, from, to);
    }
    return true;
}

/* --- Connections ---------------------------------------------------------------------------------------------------
 */

static void link_dial_later(struct sim_net *net, struct sim_link *link)
{
    const uint64_t delay_us = sim_random_range(&net->random, 5000, 60000);

    sim_world_after(net->world, &link->dial, net->swift ? SWIFT_US : delay_us);
}

static void dial_fire_cb(struct sim_task *task)
{
    struct sim_link *link = task->data;
    struct sim_net *net = link->net;

    assert(link->state == LINK_DOWN);
    if (!net->config.is_up(net->config.ctx, link->from)) {
        return; /* sim_net_node_up dials again */
    }
    if (!net->config.is_up(net->config.ctx, link->to) || link->blocked || link_of(net, link->to, link->from)->blocked) {
        link_dial_later(net, link);
        return;
    }
    /* The receiver hears nothing of an older connection once it has accepted a newer one. */
    for (struct sim_frame *frame = link->first, *next; frame != NULL && !net->late; frame = next) {
        next = frame->next;
        frame_drop(net, frame);
    }
    link->state = LINK_UP;
    link->connection = ++net->accepted[link->to][link->from];
    link->last_us = 0;
    net->connects++;
    net->config.state(net->config.ctx, link->from, link->to, true);
}

/* Some prefix of what is under way was received already and will be read; the rest is lost. */
static void link_cut(struct sim_net *net, struct sim_link *link)
{
    unsigned n = 0;
    uint64_t kept;

    for (struct sim_frame *frame = link->first; frame != NULL; frame = frame->next) {
        n++;
    }
    kept = link->blocked ? 0 : sim_random_below(&net->random, n + 1u);
    for (struct sim_frame *frame = link->first, *next; frame != NULL; frame = next) {
        next = frame->next;
        if (frame->late) {
            continue;
        }
        if (kept == 0) {
            frame_drop(net, frame);
            continue;
        }
        kept--;
        link->queued_bytes -= frame->len;
        frame->late = true;
        if (net->late) {
            sim_world_at(net->world, &frame->task, frame->task.at_us + sim_random_delay(&net->random, 50000, 2000000));
        }
    }
}

void sim_net_break(struct sim_net *net, unsigned from, unsigned to)
{
    struct sim_link *link = link_of(net, from, to);

    if (link->state != LINK_UP) {
        return;
    }
    net->breaks++;
    link->state = LINK_BROKEN;
    sim_world_cancel(net->world, &link->give_up);
    link_cut(net, link);
    /* A reset tells the opener at once, silence late. */
    const bool reset = sim_random_chance(&net->random, 500000);
    const uint64_t delay_us =
        reset ? sim_random_range(&net->random, 100, 2000) : sim_random_delay(&net->random, 50000, 300000);
    sim_world_after(net->world, &link->notice, net->swift ? SWIFT_US : delay_us);
}

static void notice_fire_cb(struct sim_task *task)
{
    struct sim_link *link = task->data;
    struct sim_net *net = link->net;

    assert(link->state == LINK_BROKEN);
    link->state = LINK_DOWN;
    link_dial_later(net, link);
    if (net->config.is_up(net->config.ctx, link->from)) {
        net->config.state(net->config.ctx, link->from, link->to, false);
    }
}

static void give_up_fire_cb(struct sim_task *task)
{
    struct sim_link *link = task->data;

    sim_net_break(link->net, link->from, link->to);
}

bool sim_net_connected(const struct sim_net *net, unsigned from, unsigned to)
{
    return link_of(net, from, to)->state == LINK_UP;
}

bool sim_net_is_blocked(const struct sim_net *net, unsigned from, unsigned to)
{
    return link_of(net, from, to)->blocked;
}

void sim_net_block(struct sim_net *net, unsigned from, unsigned to, bool blocked)
{
    struct sim_link *link = link_of(net, from, to);
    struct sim_link *back = link_of(net, to, from);

    if (link->blocked == blocked) {
        return;
    }
    link->blocked = blocked;
    if (blocked) {
        /* The other direction misses its acknowledgements: it breaks as well, later. */
        if (link->state == LINK_UP && !sim_task_is_queued(&link->give_up)) {
            sim_world_after(net->world, &link->give_up, sim_random_delay(&net->random, net->patience_us, UINT64_MAX));
        }
        if (back->state == LINK_UP && !sim_task_is_queued(&back->give_up)) {
            sim_world_after(net->world, &back->give_up,
                            sim_random_delay(&net->random, 2 * net->patience_us, UINT64_MAX));
        }
        return;
    }
    if (!back->blocked) {
        sim_world_cancel(net->world, &link->give_up);
        sim_world_cancel(net->world, &back->give_up);
    }
    link->last_us = 0; /* all of them anew, so that what was held stays in front */
    for (struct sim_frame *frame = link->first; frame != NULL; frame = frame->next) {
        frame_schedule(net, frame);
    }
}

void sim_net_unblock_all(struct sim_net *net)
{
    for (unsigned from = 0; from < net->config.n_nodes; from++) {
        for (unsigned to = 0; to < net->config.n_nodes; to++) {
            sim_net_block(net, from, to, false);
        }
    }
}

void sim_net_node_down(struct sim_net *net, unsigned node)
{
    for (unsigned peer = 0; peer < net->config.n_nodes; peer++) {
        struct sim_link *out = link_of(net, node, peer);

        if (peer == node) {
            continue;
        }
        sim_net_break(net, node, peer);
        sim_net_break(net, peer, node);
        sim_world_cancel(net->world, &out->notice);
        sim_world_cancel(net->world, &out->dial);
        out->state = LINK_DOWN;
        while (link_of(net, peer, node)->first != NULL) {
            frame_drop(net, link_of(net, peer, node)->first);
        }
        net->accepted[node][peer] = 0; /* a new process counts from the start */
    }
}

void sim_net_node_up(struct sim_net *net, unsigned node)
{
    for (unsigned peer = 0; peer < net->config.n_nodes; peer++) {
        if (peer != node) {
            const uint64_t delay_us = sim_random_range(&net->random, 500, 30000);

            assert(link_of(net, node, peer)->state == LINK_DOWN);
            sim_world_after(net->world, &link_of(net, node, peer)->dial, net->swift ? SWIFT_US : delay_us);
        }
    }
}
