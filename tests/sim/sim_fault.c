#include "tests/sim/sim_fault.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

static void next_fire_cb(struct sim_task *task);
static void end_fire_cb(struct sim_task *task);

void sim_faults_init(struct sim_faults *faults, struct sim_cluster *cluster)
{
    struct sim_random *random = &faults->random;

    memset(faults, 0, sizeof *faults);
    faults->cluster = cluster;
    *random = sim_random_fork(&cluster->random, 3);
    faults->next = (struct sim_task){.data = faults, .cb = next_fire_cb};
    for (unsigned i = 0; i < SIM_FAULTS_AT_ONCE; i++) {
        faults->active[i].faults = faults;
        faults->active[i].end = (struct sim_task){.data = &faults->active[i], .cb = end_fire_cb};
    }
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++) {
        faults->weights[i] = sim_random_chance(random, 500000) ? (uint32_t)sim_random_range(random, 1, 10) : 0;
    }
    faults->weights[SIM_FAULT_FLIP] = sim_random_chance(random, 200000) ? 1 : 0;
    faults->weights[SIM_FAULT_CRASH] += 1; /* never nothing at all */
    faults->gap_us = sim_random_range(random, 150000, 2000000);
    faults->length_us = sim_random_range(random, 100000, 2500000);
    if (sim_random_chance(random, 150000)) {
        cluster->net.chaos = true;
        cluster->net.lose_ppm = (uint32_t)sim_random_below(random, 50000);
        cluster->net.double_ppm = (uint32_t)sim_random_below(random, 50000);
        cluster->net.chaos_delay_us = sim_random_range(random, 100, 20000);
    }
    cluster->net.late = sim_random_chance(random, 250000);
    if (sim_random_chance(random, 200000)) {
        cluster->net.queue_bytes_max = sim_random_range(random, 16384, 131072);
    }
    cluster->net.delay_us = sim_random_range(random, 50, 3000);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].disk.latency_us = sim_random_range(random, 30, 4000);
    }
}

void sim_faults_start(struct sim_faults *faults)
{
    sim_world_after(&faults->cluster->world, &faults->next, sim_random_below(&faults->random, 2 * faults->gap_us + 1));
}

static unsigned random_node(struct sim_faults *faults)
{
    int leader = sim_cluster_leader(faults->cluster);

    if (leader >= 0 && sim_random_chance(&faults->random, 400000)) {
        return (unsigned)leader;
    }
    return (unsigned)sim_random_below(&faults->random, faults->cluster->n_nodes);
}

static void partition(struct sim_faults *faults)
{
    struct sim_cluster *cluster = faults->cluster;
    unsigned n = cluster->n_nodes;
    unsigned kind = (unsigned)sim_random_below(&faults->random, 5);
    uint64_t side = sim_random_below(&faults->random, UINT64_C(1) << n);

    if (kind < 3) {
        sim_cluster_isolate(cluster, random_node(faults), kind != 1, kind != 2);
        return;
    }
    sim_world_log(&cluster->world, "partition %s, sides %" PRIx64, kind == 3 ? "in two" : "of single links", side);
    for (unsigned from = 0; from < n; from++) {
        for (unsigned to = 0; to < n; to++) {
            bool apart =
                kind == 3 ? ((side >> from) & 1u) != ((side >> to) & 1u) : sim_random_chance(&faults->random, 350000);

            if (from != to && apart) {
                sim_net_block(&cluster->net, from, to, true);
            }
        }
    }
}

/* A flipped bit may make a node cut records above its newest durable mark, which it cannot tell from a torn tail. That
 * is safe only while every other node has them: damage is done when all other nodes are up and hold all this one has.
 */
static void flip(struct sim_faults *faults, struct sim_node *node)
{
    struct sim_cluster *cluster = faults->cluster;
    struct replica_info own;
    char name[64];
    uint64_t offset;

    if (faults->flipped || node->state != SIM_NODE_UP || cluster->n_nodes < 3) {
        return;
    }
    replica_info(node->replica, &own);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct replica_info info;

        if (cluster->nodes[i].state != SIM_NODE_UP) {
            return;
        }
        replica_info(cluster->nodes[i].replica, &info);
        if (info.stored < own.last || info.term != own.term) {
            return;
        }
    }
    sim_node_crash(node);
    node->damaged = true;
    faults->flipped = true;
    if (sim_disk_flip(&node->disk, name, sizeof name, &offset)) {
        faults->flips++;
        sim_world_log(&cluster->world, "node %u: a bit flips in %s at %" PRIu64, node->position + 1, name, offset);
    }
}

static void jump_clock(struct sim_faults *faults, struct sim_fault *fault)
{
    static const int64_t jumps_ms[] = {3600000, -3600000, 86400000, -86400000, 5000, -5000, INT64_C(31536000000)};
    struct sim_cluster *cluster = faults->cluster;

    if (cluster->n_nodes < 3 || cluster->n_members < cluster->n_nodes) {
        return; /* the only clock there is can't be outvoted */
    }
    if (faults->broken_clock == 0) {
        faults->broken_clock = fault->node + 1;
    }
    fault->node = faults->broken_clock - 1;
    faults->wall_jumps++;
    cluster->nodes[fault->node].clock.wall_off_ms = jumps_ms[sim_random_below(&faults->random, 7)];
    sim_world_log(&cluster->world, "node %u: wall clock off by %" PRId64 " ms", fault->node + 1,
                  cluster->nodes[fault->node].clock.wall_off_ms);
}

static void crash_all(struct sim_faults *faults)
{
    struct sim_cluster *cluster = faults->cluster;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        sim_node_crash(&cluster->nodes[i]);
        sim_cluster_restart_later(cluster, i, sim_random_below(&faults->random, 400000));
    }
}

static void break_links(struct sim_faults *faults)
{
    struct sim_cluster *cluster = faults->cluster;

    sim_world_log(&cluster->world, "connections break");
    for (unsigned from = 0; from < cluster->n_nodes; from++) {
        for (unsigned to = 0; to < cluster->n_nodes; to++) {
            if (from != to && sim_random_chance(&faults->random, 500000)) {
                sim_net_break(&cluster->net, from, to);
            }
        }
    }
}

static void disk_fault(struct sim_faults *faults, const struct sim_fault *fault, struct sim_node *node)
{
    struct sim_random *random = &faults->random;

    switch (fault->kind) {
    case SIM_FAULT_SLOW_DISK:
        node->disk.slow_factor = (uint32_t)sim_random_range(random, 5, 300);
        faults->slow++;
        sim_world_log(node->world, "node %u: disk slower by %u", node->position + 1, node->disk.slow_factor);
        return;
    case SIM_FAULT_DISK_ERRORS:
        node->may_stop = true;
        node->disk.write_error_ppm = (uint32_t)sim_random_range(random, 1000, 100000);
        node->disk.read_error_ppm = sim_random_chance(random, 300000) ? node->disk.write_error_ppm : 0;
        sim_world_log(node->world, "node %u: disk errors", node->position + 1);
        return;
    case SIM_FAULT_FULL_DISK:
        node->disk.capacity_bytes = node->disk.used_bytes + sim_random_below(random, 2u << 20);
        faults->full++;
        sim_world_log(node->world, "node %u: disk nearly full", node->position + 1);
        return;
    default:
        assert(false);
    }
}

static void fault_begin(struct sim_faults *faults, struct sim_fault *fault)
{
    struct sim_cluster *cluster = faults->cluster;
    struct sim_node *node = &cluster->nodes[fault->node];

    switch (fault->kind) {
    case SIM_FAULT_PARTITION:
        partition(faults);
        break;
    case SIM_FAULT_CRASH:
        sim_node_crash(node);
        break;
    case SIM_FAULT_CRASH_INSIDE:
        node->env.fuse = node->state == SIM_NODE_UP ? (uint32_t)sim_random_range(&faults->random, 1, 40) : 0;
        break;
    case SIM_FAULT_CRASH_ALL:
        crash_all(faults);
        break;
    case SIM_FAULT_STOP:
        sim_node_stop(node);
        break;
    case SIM_FAULT_STALL:
        faults->stalls += node->state == SIM_NODE_UP ? 1 : 0;
        sim_node_pause(node, sim_random_delay(&faults->random, faults->length_us, 4000000));
        break;
    case SIM_FAULT_SLOW_DISK:
    case SIM_FAULT_DISK_ERRORS:
    case SIM_FAULT_FULL_DISK:
        disk_fault(faults, fault, node);
        break;
    case SIM_FAULT_CLOCK:
        jump_clock(faults, fault);
        break;
    case SIM_FAULT_BREAK_LINKS:
        break_links(faults);
        break;
    case SIM_FAULT_SPIKES:
        cluster->net.spike_ppm = (uint32_t)sim_random_range(&faults->random, 1000, 100000);
        cluster->net.spike_us = sim_random_range(&faults->random, 10000, 800000);
        break;
    case SIM_FAULT_FLIP:
        flip(faults, node);
        break;
    case SIM_FAULT_TRANSFER:
        sim_node_transfer(node, 0);
        break;
    case SIM_FAULT_KINDS:
        assert(false);
        break;
    }
}

static void fault_end(struct sim_fault *fault)
{
    struct sim_faults *faults = fault->faults;
    struct sim_cluster *cluster = faults->cluster;
    struct sim_node *node = &cluster->nodes[fault->node];

    fault->active = false;
    sim_world_cancel(&cluster->world, &fault->end);
    switch (fault->kind) {
    case SIM_FAULT_PARTITION:
        sim_world_log(&cluster->world, "partition ends");
        sim_net_unblock_all(&cluster->net);
        break;
    case SIM_FAULT_CLOCK:
        node->clock.wall_off_ms = 0;
        break;
    case SIM_FAULT_SPIKES:
        cluster->net.spike_ppm = 0;
        break;
    case SIM_FAULT_SLOW_DISK:
        node->disk.slow_factor = 1;
        break;
    case SIM_FAULT_DISK_ERRORS:
        node->disk.write_error_ppm = 0;
        node->disk.read_error_ppm = 0;
        break;
    case SIM_FAULT_FULL_DISK:
        node->disk.capacity_bytes = 64u << 20;
        break;
    case SIM_FAULT_CRASH:
    case SIM_FAULT_CRASH_INSIDE:
    case SIM_FAULT_CRASH_ALL:
    case SIM_FAULT_STOP:
    case SIM_FAULT_STALL:
    case SIM_FAULT_BREAK_LINKS:
    case SIM_FAULT_FLIP:
    case SIM_FAULT_TRANSFER:
    case SIM_FAULT_KINDS:
        break;
    }
    if (node->state != SIM_NODE_UP) {
        sim_cluster_restart_later(cluster, fault->node, 0);
    }
}

static void end_fire_cb(struct sim_task *task)
{
    fault_end(task->data);
}

static enum sim_fault_kind random_kind(struct sim_faults *faults)
{
    uint32_t sum = 0;
    uint64_t draw;
    unsigned i = 0;

    for (unsigned k = 0; k < SIM_FAULT_KINDS; k++) {
        sum += faults->weights[k];
    }
    draw = sim_random_below(&faults->random, sum);
    while (draw >= faults->weights[i]) {
        draw -= faults->weights[i++];
    }
    return (enum sim_fault_kind)i;
}

static void next_fire_cb(struct sim_task *task)
{
    struct sim_faults *faults = task->data;
    enum sim_fault_kind kind = random_kind(faults);
    unsigned node = random_node(faults);
    uint64_t length_us = sim_random_delay(&faults->random, faults->length_us, 5000000);

    for (unsigned i = 0; i < SIM_FAULTS_AT_ONCE; i++) {
        struct sim_fault *fault = &faults->active[i];

        if (!fault->active) {
            fault->active = true;
            fault->kind = kind;
            fault->node = node;
            faults->inflicted++;
            fault_begin(faults, fault);
            sim_world_after(&faults->cluster->world, &fault->end, length_us);
            break;
        }
    }
    sim_world_after(&faults->cluster->world, &faults->next, sim_random_below(&faults->random, 2 * faults->gap_us + 1));
}

void sim_faults_stop(struct sim_faults *faults)
{
    sim_world_cancel(&faults->cluster->world, &faults->next);
    for (unsigned i = 0; i < SIM_FAULTS_AT_ONCE; i++) {
        if (faults->active[i].active) {
            fault_end(&faults->active[i]);
        }
        assert(!sim_task_is_queued(&faults->active[i].end));
    }
}
