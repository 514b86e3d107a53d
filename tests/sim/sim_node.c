#include "tests/sim/sim_node.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_executor.h"

/* A node may refuse to start with less room than this. */
#define SIM_NODE_ROOM (8u << 20)
#define INFO_EVERY 24u /* turns between two looks at replica_info */

enum inbox_kind { INBOX_FRAME, INBOX_DISK, INBOX_STATE, INBOX_REQUEST };

/* What reached a stalled node. */
struct sim_inbox_item {
    struct sim_inbox_item *next;
    enum inbox_kind kind;
    union {
        struct sim_frame *frame;
        struct env_disk_req *disk;
        struct sim_request *request;
    };
    enum env_status status;
    unsigned peer;
    bool connected;
};

static void node_after_event(struct sim_node *node);
static void node_teardown(struct sim_node *node, bool orderly);

/* --- What the env does on the node's behalf --------------------------------------------------------------------------
 */

static void disk_completed_cb(void *ctx, struct env_disk_req *req, enum env_status status);

static bool env_timer_cb(void *ctx, struct env_timer *timer, uint64_t *until_us)
{
    struct sim_node *node = ctx;

    if (sim_node_is_paused(node)) {
        *until_us = node->paused_until_us + 1;
        return false;
    }
    sim_world_trace(node->world, 1, node->id, 0);
    node->in_event = true;
    timer->cb(timer);
    node_after_event(node);
    return true;
}

static bool env_send_cb(void *ctx, uint64_t peer_id, const struct iovec *pieces, unsigned n)
{
    struct sim_node *node = ctx;

    return sim_net_send(node->net, node->position, (unsigned)(peer_id - 1), pieces, n);
}

static void env_log_cb(void *ctx, int level, const char *text)
{
    struct sim_node *node = ctx;

    sim_world_log(node->world, "node %u %c %s", node->position + 1, "EWID"[level & 3], text);
}

static void env_died_cb(void *ctx, const char *what, const char *advice)
{
    struct sim_node *node = ctx;

    assert(node->in_event);
    if (what == NULL) {
        return;
    }
    snprintf(node->reason, sizeof node->reason, "%s; %s", what, advice == NULL ? "no advice" : advice);
    sim_world_log(node->world, "node %u stops itself: %s", node->position + 1, node->reason);
    /* Starting from a snapshot goes on after replica_open. */
    const bool may = node->may_stop || (node->may_refuse && node->replica != NULL && replica_is_loading(node->replica));
    if (!may && !node->damaged) {
        sim_world_violation(node->world, "needless stop", "node %u stopped itself although its disk works: %s",
                            node->position + 1, node->reason);
    }
}

/* --- Life -------------------------------------------------------------------------------------------------------- */

static void turn_fire_cb(struct sim_task *task);
static void resume_fire_cb(struct sim_task *task);

void sim_node_init(struct sim_node *node, unsigned position, const struct sim_node_config *config,
                   struct sim_world *world, struct sim_net *net, struct sim_check *check)
{
    memset(node, 0, sizeof *node);
    node->position = position;
    node->id = position + 1;
    node->world = world;
    node->net = net;
    node->check = check;
    node->config = *config;
    node->random = sim_random_fork(&world->random, 100 + position);
    node->turn = (struct sim_task){.data = node, .cb = turn_fire_cb};
    node->resume = (struct sim_task){.data = node, .cb = resume_fire_cb};
    sim_reply_init(&node->scratch);
    sim_disk_init(&node->disk, world, sim_random_fork(&node->random, 1), config->disk_bytes, disk_completed_cb, node);
}

void sim_node_fini(struct sim_node *node)
{
    if (node->state == SIM_NODE_UP) {
        node_teardown(node, false);
    }
    sim_disk_fini(&node->disk);
    sim_reply_fini(&node->scratch);
}

void sim_node_start(struct sim_node *node)
{
    struct store_config store_config = {.hash_seed = node->config.hash_seed};
    struct replica_config config = node->config.replica;
    const struct sim_env_owner owner = {
        .ctx = node, .timer = env_timer_cb, .send = env_send_cb, .log = env_log_cb, .died = env_died_cb};
    const char *error = "";
    enum replica_status status;

    assert(node->state != SIM_NODE_UP);
    assert(node->replica == NULL);
    node->lives++;
    node->saw_time = false;
    node->reason[0] = 0;
    node->started_us = node->world->now_us;
    node->paused_until_us = 0;
    node->applied_index = 0;
    node->spoilt = 0;
    node->wrong = false;
    node->progress = (struct sim_progress){0};
    node->may_stop = node->disk.write_error_ppm > 0 || node->disk.read_error_ppm > 0;
    node->may_refuse = node->may_stop || sim_disk_free_bytes(&node->disk) < SIM_NODE_ROOM;
    node->listens = sim_random_chance(&node->random, 500000);
    node->turn_us_max = sim_random_chance(&node->random, 300000) ? 0 : sim_random_below(&node->random, 200);
    sim_env_init(&node->env, node->world, &node->disk, &node->clock, sim_random_fork(&node->random, 1000 + node->lives),
                 node->id, &owner);
    node->store = store_new(&store_config);
    assert(node->store != NULL);
    store_batch_init(&node->batch, node->config.batch_bytes);
    sim_executor_config(node, &config);
    sim_world_log(node->world, "node %u starts (life %u)", node->position + 1, node->lives);
    sim_world_trace(node->world, 2, node->id, node->lives);
    node->in_event = true;
    status = replica_open(&node->env.env, &config, &node->replica, &error);
    node->in_event = false;
    node->state = SIM_NODE_UP;
    if (status != REPLICA_OK) {
        node->replica = NULL;
        snprintf(node->reason, sizeof node->reason, "%s: %s", replica_strerror(status), error);
        sim_world_log(node->world, "node %u refuses to start: %s", node->position + 1, node->reason);
        if (!node->may_refuse && !node->damaged && !node->env.dead) {
            sim_world_violation(node->world, "needless refusal", "node %u refuses to start: %s", node->position + 1,
                                node->reason);
        }
        node_teardown(node, false);
        node->state = SIM_NODE_STOPPED;
        return;
    }
    sim_executor_start(node);
    sim_net_node_up(node->net, node->position);
    node_after_event(node);
}

struct sim_node_tally sim_node_tally(const struct sim_node *node)
{
    struct sim_node_tally tally = node->tally;

    if (node->replica != NULL) {
        struct replica_info info;
        replica_info(node->replica, &info);
        tally.taken += info.snapshots_taken;
        tally.fetched += info.snapshot_installs;
        tally.resumed += info.snapshot_resumed;
        tally.put_off += info.snapshots_put_off;
        tally.overdue += info.snapshots_overdue;
    }
    return tally;
}

/* Free everything that belongs to this life, in the order of consensus/wal.h: the env goes first. */
static void node_teardown(struct sim_node *node, bool orderly)
{
    struct sim_inbox_item *item;

    assert(node->state == SIM_NODE_UP);
    node->tally = sim_node_tally(node);
    if (orderly && node->replica != NULL) {
        node->in_event = true;
        replica_close(node->replica); /* may still write its closing mark */
        node->in_event = false;
        node->replica = NULL;
    }
    sim_env_kill(&node->env);
    sim_disk_crash(&node->disk);
    sim_net_node_down(node->net, node->position);
    sim_world_cancel(node->world, &node->turn);
    sim_world_cancel(node->world, &node->resume);
    if (node->replica != NULL) {
        replica_close(node->replica);
        node->replica = NULL;
    }
    while ((item = node->inbox) != NULL) {
        node->inbox = item->next;
        if (item->kind == INBOX_FRAME) {
            sim_frame_free(item->frame);
        } else if (item->kind == INBOX_DISK) {
            sim_disk_submit_dead(&node->disk, item->disk);
        } else if (item->kind == INBOX_REQUEST) {
            item->request->done(item->request, SIM_RESULT_UNKNOWN);
        }
        free(item);
    }
    node->inbox_tail = NULL;
    sim_executor_stop(node);
    sim_disk_cancel_lost(&node->disk);
    sim_disk_reap(&node->disk);
    if (node->env.timers != 0) {
        sim_world_violation(node->world, "leak", "node %u left %u timers behind", node->position + 1, node->env.timers);
    }
    sim_env_fini(&node->env);
    store_batch_fini(&node->batch);
    store_free(node->store);
    node->store = NULL;
    node->state = SIM_NODE_DOWN;
    node->in_event = false;
}

void sim_node_crash(struct sim_node *node)
{
    if (node->state != SIM_NODE_UP) {
        return;
    }
    assert(!node->in_event);
    sim_world_log(node->world, "node %u crashes (applied %" PRIu64 ")", node->position + 1, node->applied_index);
    sim_world_trace(node->world, 3, node->id, node->applied_index);
    node_teardown(node, false);
}

void sim_node_stop(struct sim_node *node)
{
    if (node->state != SIM_NODE_UP) {
        return;
    }
    sim_world_log(node->world, "node %u stops (applied %" PRIu64 ")", node->position + 1, node->applied_index);
    node_teardown(node, true);
}

/* --- Events ------------------------------------------------------------------------------------------------------ */

static void node_look(struct sim_node *node)
{
    struct replica_info info;

    if (replica_is_leader(node->replica)) {
        sim_check_leads(node->check, node->position, replica_term(node->replica));
    }
    if (node->info_countdown-- == 0) {
        node->info_countdown = INFO_EVERY;
        replica_info(node->replica, &info);
        sim_check_progress(node->check, node->position, &info, &node->progress);
        sim_check_configuration(node->check, node->position, &info);
    }
}

void sim_node_changed(struct sim_node *node)
{
    struct replica_info info;

    if (node->replica != NULL && !node->env.dead) {
        replica_info(node->replica, &info);
        sim_world_log(node->world, "node %u is %s of term %" PRIu64 ", leader %" PRIu64, node->position + 1,
                      replica_role_name(info.role), info.term, info.leader);
        sim_check_progress(node->check, node->position, &info, &node->progress);
        sim_check_configuration(node->check, node->position, &info);
    }
}

/* An event has been handed to the node's code and has returned: the turn ends soon, or the node has died of it. */
static void node_after_event(struct sim_node *node)
{
    node->in_event = false;
    if (node->env.dead) {
        bool stopped = node->reason[0] != 0;

        if (!stopped) {
            sim_world_log(node->world, "node %u crashes in the middle of an event", node->position + 1);
        }
        sim_world_trace(node->world, 4, node->id, stopped);
        node_teardown(node, false);
        node->state = stopped ? SIM_NODE_STOPPED : SIM_NODE_DOWN;
        return;
    }
    node_look(node);
    if (!sim_task_is_queued(&node->turn)) {
        sim_world_after(node->world, &node->turn, sim_random_below(&node->random, node->turn_us_max + 1));
    }
}

static void turn_fire_cb(struct sim_task *task)
{
    struct sim_node *node = task->data;

    assert(node->state == SIM_NODE_UP);
    if (sim_node_is_paused(node)) {
        sim_world_at(node->world, &node->turn, node->paused_until_us + 1);
        return;
    }
    node->in_event = true;
    sim_executor_turn(node);
    replica_turn_end(node->replica);
    node->in_event = false;
    if (node->env.dead) {
        node_after_event(node);
    } else {
        node_look(node);
    }
}

/* Keep an item for later if the node is stalled. */
static bool node_defers(struct sim_node *node, struct sim_inbox_item item)
{
    struct sim_inbox_item *copy;

    if (!sim_node_is_paused(node) && node->inbox == NULL) {
        return false;
    }
    copy = malloc(sizeof *copy);
    assert(copy != NULL);
    *copy = item;
    copy->next = NULL;
    if (node->inbox_tail == NULL) {
        node->inbox = copy;
    } else {
        node->inbox_tail->next = copy;
    }
    node->inbox_tail = copy;
    return true;
}

static void node_handle(struct sim_node *node, const struct sim_inbox_item *item)
{
    node->in_event = true;
    sim_world_trace(node->world, 10 + (uint64_t)item->kind, node->id, (uint64_t)item->status);
    switch (item->kind) {
    case INBOX_FRAME:
        sim_world_trace(node->world, 14, item->frame->from, item->frame->len);
        if (!replica_receive(node->replica, item->frame->from + 1, item->frame->connection, item->frame->bytes,
                             item->frame->len)) {
            sim_world_violation(node->world, "frames", "node %u calls a frame of node %u malformed", node->position + 1,
                                item->frame->from + 1);
        }
        sim_frame_free(item->frame);
        break;
    case INBOX_DISK:
        item->disk->cb(item->disk, item->status);
        break;
    case INBOX_STATE:
        replica_peer_state(node->replica, item->peer + 1, item->connected);
        break;
    case INBOX_REQUEST:
        sim_executor_request(node, item->request);
        break;
    }
    node_after_event(node);
}

static void node_bring(struct sim_node *node, struct sim_inbox_item item)
{
    if (!node_defers(node, item)) {
        node_handle(node, &item);
    }
}

/* Next of what waited: things from one source keep their order, but a loop may hear of its sources in any order. */
static struct sim_inbox_item *inbox_take(struct sim_node *node)
{
    struct sim_inbox_item **link = &node->inbox;
    struct sim_inbox_item *item;

    if (sim_random_chance(&node->random, 500000)) {
        while (*link != NULL && (*link)->kind != INBOX_REQUEST) {
            link = &(*link)->next;
        }
        link = *link == NULL ? &node->inbox : link;
    }
    item = *link;
    assert(item != NULL);
    *link = item->next;
    node->inbox_tail = NULL;
    for (struct sim_inbox_item *last = node->inbox; last != NULL; last = last->next) {
        node->inbox_tail = last;
    }
    return item;
}

/* A process is stopped at any point, also when it has learnt of some events and not of others: a turn may end, and
 * timers may fire, anywhere between the events that waited. */
static void resume_fire_cb(struct sim_task *task)
{
    struct sim_node *node = task->data;

    if (sim_node_is_paused(node)) {
        sim_world_at(node->world, &node->resume, node->paused_until_us);
        return;
    }
    while (node->inbox != NULL && node->state == SIM_NODE_UP) {
        struct sim_inbox_item *item = inbox_take(node);

        node_handle(node, item);
        free(item);
        if (node->state == SIM_NODE_UP && sim_task_is_queued(&node->turn) && sim_random_chance(&node->random, 200000)) {
            sim_world_cancel(node->world, &node->turn);
            turn_fire_cb(&node->turn);
        } else if (node->state == SIM_NODE_UP && sim_random_chance(&node->random, 100000)) {
            sim_world_after(node->world, &node->resume, sim_random_below(&node->random, 300));
            return;
        }
    }
}

void sim_node_pause(struct sim_node *node, uint64_t duration_us)
{
    if (node->state != SIM_NODE_UP) {
        return;
    }
    sim_world_log(node->world, "node %u stalls for %.3f s", node->position + 1, (double)duration_us / 1e6);
    node->paused_until_us = node->world->now_us + duration_us;
    sim_world_at(node->world, &node->resume, node->paused_until_us);
}

bool sim_node_is_paused(const struct sim_node *node)
{
    return node->world->now_us < node->paused_until_us;
}

static void disk_completed_cb(void *ctx, struct env_disk_req *req, enum env_status status)
{
    struct sim_node *node = ctx;

    assert(node->state == SIM_NODE_UP);
    node_bring(node, (struct sim_inbox_item){.kind = INBOX_DISK, .disk = req, .status = status});
}

void sim_node_request(struct sim_node *node, struct sim_request *request)
{
    assert(node->state == SIM_NODE_UP);
    node_bring(node, (struct sim_inbox_item){.kind = INBOX_REQUEST, .request = request});
}

void sim_node_frame(struct sim_node *node, struct sim_frame *frame)
{
    assert(node->state == SIM_NODE_UP);
    node_bring(node, (struct sim_inbox_item){.kind = INBOX_FRAME, .frame = frame});
}

void sim_node_peer_state(struct sim_node *node, unsigned peer, bool connected)
{
    if (node->state == SIM_NODE_UP) {
        node_bring(node, (struct sim_inbox_item){.kind = INBOX_STATE, .peer = peer, .connected = connected});
    }
}

void sim_node_transfer(struct sim_node *node, uint64_t id)
{
    enum replica_status status;

    if (node->state != SIM_NODE_UP || sim_node_is_paused(node)) {
        return;
    }
    node->in_event = true;
    status = replica_transfer(node->replica, id);
    sim_world_log(node->world, "node %u is asked to hand over: %s", node->position + 1, replica_strerror(status));
    node_after_event(node);
}

enum replica_status sim_node_change(struct sim_node *node, enum replica_change_kind kind, uint64_t id,
                                    const char *address)
{
    const char *why = "";
    enum replica_status status;

    if (node->state != SIM_NODE_UP || sim_node_is_paused(node)) {
        return REPLICA_NOT_LEADER;
    }
    node->in_event = true;
    status = replica_change(node->replica, kind, id, address, &why);
    sim_world_log(node->world, "node %u is asked: %s node %" PRIu64 ": %s %s", node->position + 1,
                  replica_change_name(kind), id, replica_strerror(status), why);
    node_after_event(node);
    return status;
}

enum replica_status sim_node_upgrade(struct sim_node *node, uint32_t level)
{
    char why[REPLICA_WHY_MAX] = "";
    enum replica_status status;

    if (node->state != SIM_NODE_UP || sim_node_is_paused(node)) {
        return REPLICA_NOT_LEADER;
    }
    node->in_event = true;
    status = replica_upgrade(node->replica, level, why);
    sim_world_log(node->world, "node %u is asked for feature level %u: %s %s", node->position + 1, level,
                  replica_strerror(status), why);
    node_after_event(node);
    return status;
}

bool sim_node_leads(const struct sim_node *node)
{
    return node->state == SIM_NODE_UP && replica_is_leader(node->replica);
}
