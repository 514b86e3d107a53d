#include "tests/sim/sim_cluster.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bounds on recovery, generous: they catch a cluster that is stuck, the distribution is looked at elsewhere. */
#define WRITE_AGAIN_US 15000000u
#define CONVERGE_US 20000000u
#define TTL_MAX_MS 4000u
/* A leader whose clock is fast carries cluster time on by its own clock until it has samples of the others; it stands
 * still then until they have caught up. */
#define WILD_AHEAD_MS 60000u
#define DISK_BYTES (64u << 20)

static uint64_t pick(struct sim_random *random, const uint64_t *values, unsigned n)
{
    return values[sim_random_below(random, n)];
}

static void net_deliver_cb(void *ctx, struct sim_frame *frame)
{
    struct sim_cluster *cluster = ctx;

    sim_node_frame(&cluster->nodes[frame->to], frame);
}

static void net_state_cb(void *ctx, unsigned node, unsigned peer, bool connected)
{
    struct sim_cluster *cluster = ctx;

    if (connected && cluster->nodes[node].state == SIM_NODE_UP) { /* the hello says what the peer understands */
        const uint32_t level = cluster->nodes[peer].config.replica.feature_level_max;
        replica_peer_supports(cluster->nodes[node].replica, peer + 1, level != 0 ? level : 1);
    }
    sim_node_peer_state(&cluster->nodes[node], peer, connected);
}

static bool net_is_up_cb(void *ctx, unsigned node)
{
    struct sim_cluster *cluster = ctx;

    return cluster->nodes[node].state == SIM_NODE_UP;
}

static void restart_fire_cb(struct sim_task *task)
{
    struct sim_node *node = task->data;

    if (node->state != SIM_NODE_UP) {
        sim_node_start(node);
    }
}

static void draw_snapshots(struct sim_cluster *cluster, struct replica_snapshot_config *config)
{
    static const uint64_t sizes[] = {0, 4u << 10, 16u << 10, 64u << 10, 256u << 10};
    static const uint64_t rates[] = {0, 0, 256u << 10, 4u << 20};
    static const uint64_t transfers[] = {0, 0, 4u << 10, 1u << 20};
    static const uint64_t slices[] = {0, 256, 4u << 10};
    static const uint64_t keeps[] = {0, 16u << 10, 256u << 10};
    struct sim_random random = sim_random_fork(&cluster->random, 7);

    config->log_bytes = cluster->options.plain ? 0 : pick(&random, sizes, 5);
    config->age_s = sim_random_chance(&random, 200000) ? 2 : 0;
    config->rate = pick(&random, rates, 4);
    config->keep_bytes = pick(&random, keeps, 3);
    config->transfer_rate = pick(&random, transfers, 4);
    config->slice_bytes = (uint32_t)pick(&random, slices, 3);
}

static void draw_config(struct sim_cluster *cluster, struct sim_node_config *config)
{
    static const uint64_t timeouts[] = {60, 150, 300, 300, 500};
    static const uint64_t segments[] = {128u << 10, 256u << 10, 1u << 20};
    static const uint64_t tails[] = {2048, 65536, 8u << 20};
    static const uint64_t inflights[] = {32u << 10, 16u << 20};
    static const uint64_t batches[] = {12u << 10, 32u << 10};
    struct sim_random random = sim_random_fork(&cluster->random, 1);
    const bool plain = cluster->options.plain;
    const bool wild = cluster->options.wild_clocks;

    config->replica.election_timeout_ms = plain ? 300 : (uint32_t)pick(&random, timeouts, 5);
    config->replica.heartbeat_ms = config->replica.election_timeout_ms / (sim_random_chance(&random, 500000) ? 10 : 4);
    config->replica.entry_bytes_max = 64u << 10;
    config->replica.segment_bytes = plain ? 256u << 10 : pick(&random, segments, 3);
    config->replica.tail_bytes_max = plain ? 65536 : pick(&random, tails, 3);
    config->replica.inflight_bytes_max = plain ? 16u << 20 : pick(&random, inflights, 2);
    config->replica.space_reserve_bytes = 1u << 20;
    config->disk_bytes = DISK_BYTES;
    config->batch_bytes = plain ? 32u << 10 : (uint32_t)pick(&random, batches, 2);
    config->pipeline = !plain && sim_random_chance(&random, 400000);
    config->local_reads = plain || wild || sim_random_chance(&random, 700000);
    config->replica.leases_off = !plain && !wild && sim_random_chance(&random, 150000);
    config->replica.grants_off = !plain && sim_random_chance(&random, 200000);
    draw_snapshots(cluster, &config->replica.snapshots);
    cluster->local_reads = config->local_reads;
    config->hash_seed = cluster->options.seed;
    cluster->election_timeout_us = config->replica.election_timeout_ms * UINT64_C(1000);
}

static void draw_clock(struct sim_cluster *cluster, struct sim_clock *clock)
{
    struct sim_random *random = &cluster->random;

    const uint64_t base_us = sim_random_below(random, UINT64_C(1) << 40);

    sim_clock_init(clock, base_us, (int32_t)sim_random_range(random, 0, 16000) - 8000);
    clock->wall_off_ms =
        (int64_t)sim_random_range(random, 0, 2 * cluster->clock_spread_ms) - (int64_t)cluster->clock_spread_ms;
}

static void init_workload(struct sim_cluster *cluster)
{
    struct sim_workload_config config = {
        .n_clients = 6,
        .think_us = 12000,
        .timeout_us = 1500000,
        .window_us = 1200000,
        .keys = 3,
        .large_ppm = 60000,
        .stray_ppm = 200000,
        .ttl_max_ms = TTL_MAX_MS,
    };

    if (!cluster->options.plain) {
        config.n_clients = (unsigned)sim_random_range(&cluster->random, 3, 10);
        config.think_us = sim_random_range(&cluster->random, 4000, 30000);
    }
    config.spread_ppm = cluster->local_reads ? 500000 : 0;
    sim_workload_init(&cluster->workload, &config, &cluster->world, &cluster->history, &cluster->check, cluster->nodes,
                      cluster->n_nodes);
}

static unsigned draw_nodes(struct sim_cluster *cluster)
{
    uint64_t draw = sim_random_below(&cluster->random, 100);

    if (cluster->options.n_nodes != 0) {
        return cluster->options.n_nodes;
    }
    return draw < 4 && !cluster->options.wild_clocks ? 1 : draw < 70 ? 3 : 5;
}

void sim_cluster_init(struct sim_cluster *cluster, const struct sim_options *options)
{
    struct sim_node_config config = {0};
    struct sim_net_config net = {
        .deliver = net_deliver_cb, .state = net_state_cb, .is_up = net_is_up_cb, .ctx = cluster};

    memset(cluster, 0, sizeof *cluster);
    cluster->options = *options;
    sim_world_init(&cluster->world, options->seed, options->verbose);
    cluster->random = sim_random_fork(&cluster->world.random, 1);
    cluster->clock_spread_ms = 250;
    cluster->n_nodes = net.n_nodes = draw_nodes(cluster);
    cluster->n_members = options->n_members != 0 ? options->n_members : cluster->n_nodes;
    struct sim_random random = sim_random_fork(&cluster->random, 5); /* the draws of other seeds stay as they are */
    if (options->n_nodes == 0 && !options->plain && !options->wild_clocks && sim_random_chance(&random, 250000)) {
        cluster->n_members = (unsigned)sim_random_range(&random, 1, 4);
        cluster->n_nodes = net.n_nodes = SIM_NODES_MAX;
    }
    assert(cluster->n_nodes <= SIM_NODES_MAX);
    sim_check_init(&cluster->check, &cluster->world);
    cluster->check.clock_ahead_max_ms = (int64_t)cluster->clock_spread_ms + 100;
    cluster->check.clock_ahead_max_ms += options->wild_clocks ? WILD_AHEAD_MS : 0;
    sim_net_init(&cluster->net, &cluster->world, sim_random_fork(&cluster->random, 2), &net);
    draw_config(cluster, &config);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->servers[i] = (struct replica_server){.id = i + 1, .voter = true};
        snprintf(cluster->servers[i].address, sizeof cluster->servers[i].address, "node%u", i + 1);
    }
    memset(config.replica.cluster, 7, sizeof config.replica.cluster);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        config.replica.join = i >= cluster->n_members;
        config.replica.servers = config.replica.join ? NULL : cluster->servers;
        config.replica.n_servers = config.replica.join ? 0 : cluster->n_members;
        sim_node_init(&cluster->nodes[i], i, &config, &cluster->world, &cluster->net, &cluster->check);
        draw_clock(cluster, &cluster->nodes[i].clock);
        cluster->restarts[i] = (struct sim_task){.data = &cluster->nodes[i], .cb = restart_fire_cb};
    }
    init_workload(cluster);
    sim_world_log(
        &cluster->world, "seed %" PRIu64 ": %u nodes, election timeout %" PRIu64 " ms, segments of %" PRIu64 " KiB",
        options->seed, cluster->n_nodes, cluster->election_timeout_us / 1000, config.replica.segment_bytes / 1024);
}

void sim_cluster_fini(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        sim_node_fini(&cluster->nodes[i]);
    }
    sim_net_fini(&cluster->net);
    sim_workload_fini(&cluster->workload);
    sim_history_fini(&cluster->history);
    sim_check_fini(&cluster->check);
    sim_world_fini(&cluster->world);
}

void sim_cluster_start_all(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        sim_world_cancel(&cluster->world, &cluster->restarts[i]);
        if (cluster->nodes[i].state != SIM_NODE_UP) {
            sim_node_start(&cluster->nodes[i]);
        }
    }
}

bool sim_cluster_run(struct sim_cluster *cluster, uint64_t duration_us)
{
    uint64_t until_us = cluster->world.now_us + duration_us;

    while (!cluster->world.violated && sim_world_step(&cluster->world, until_us)) {
    }
    return !cluster->world.violated;
}

bool sim_cluster_run_until(struct sim_cluster *cluster, bool (*holds)(struct sim_cluster *cluster, void *arg),
                           void *arg, uint64_t timeout_us)
{
    uint64_t until_us = cluster->world.now_us + timeout_us;
    uint64_t look_us = cluster->world.now_us;

    while (!cluster->world.violated) {
        if (cluster->world.now_us >= look_us) {
            if (holds(cluster, arg)) {
                return true;
            }
            look_us = cluster->world.now_us + 1000;
        }
        if (!sim_world_step(&cluster->world, look_us < until_us ? look_us : until_us) &&
            cluster->world.now_us >= until_us) {
            return holds(cluster, arg);
        }
    }
    return false;
}

bool sim_cluster_expect(struct sim_cluster *cluster, bool (*holds)(struct sim_cluster *cluster, void *arg), void *arg,
                        uint64_t timeout_us, const char *invariant, const char *what)
{
    if (sim_cluster_run_until(cluster, holds, arg, timeout_us)) {
        return true;
    }
    sim_world_violation(&cluster->world, invariant, "%s, within %.1f s", what, (double)timeout_us / 1e6);
    return false;
}

int sim_cluster_leader(const struct sim_cluster *cluster)
{
    int leader = -1;
    uint64_t term = 0;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct sim_node *node = &cluster->nodes[i];

        if (sim_node_leads(node) && replica_term(node->replica) > term) {
            leader = (int)i;
            term = replica_term(node->replica);
        }
    }
    return leader;
}

bool sim_cluster_has_leader(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    return sim_cluster_leader(cluster) >= 0;
}

bool sim_cluster_is_member(const struct sim_cluster *cluster, unsigned node)
{
    const int leader = sim_cluster_leader(cluster);
    struct replica_info info;

    if (leader < 0) {
        return node < cluster->n_members;
    }
    replica_info(cluster->nodes[leader].replica, &info);
    for (unsigned i = 0; i < info.n_servers; i++) {
        if (info.servers[i].id == node + 1) {
            return true;
        }
    }
    return false;
}

bool sim_cluster_is_converged(struct sim_cluster *cluster, void *unused)
{
    const struct sim_node *first = NULL;
    unsigned members = 0;
    unsigned up = 0;

    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct sim_node *node = &cluster->nodes[i];

        if (!sim_cluster_is_member(cluster, i)) {
            continue;
        }
        members++;
        if (node->state != SIM_NODE_UP) {
            continue;
        }
        up++;
        first = first == NULL ? node : first;
        if (replica_applied(node->replica) != replica_applied(first->replica) ||
            store_digest(node->store) != store_digest(first->store) ||
            store_revision(node->store) != store_revision(first->store)) {
            return false;
        }
    }
    return up > members / 2 && replica_applied(first->replica) >= cluster->check.highest_applied &&
           replica_applied(first->replica) >= cluster->check.acknowledged;
}

void sim_cluster_isolate(struct sim_cluster *cluster, unsigned node, bool in, bool out)
{
    sim_world_log(&cluster->world, "node %u is cut off%s%s", node + 1, in ? " in" : "", out ? " out" : "");
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (i != node) {
            sim_net_block(&cluster->net, i, node, in);
            sim_net_block(&cluster->net, node, i, out);
        }
    }
}

void sim_cluster_restart_later(struct sim_cluster *cluster, unsigned node, uint64_t delay_us)
{
    sim_world_after(&cluster->world, &cluster->restarts[node], delay_us);
}

void sim_cluster_heal(struct sim_cluster *cluster)
{
    sim_world_log(&cluster->world, "healing");
    sim_net_unblock_all(&cluster->net);
    cluster->net.spike_ppm = 0;
    cluster->net.break_ppm = 0;
    cluster->net.lose_ppm = 0;
    cluster->net.double_ppm = 0;
    cluster->net.chaos = false;
    cluster->net.late = false;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct sim_disk *disk = &cluster->nodes[i].disk;

        disk->slow_factor = 1;
        disk->write_error_ppm = 0;
        disk->read_error_ppm = 0;
        disk->capacity_bytes = DISK_BYTES;
        cluster->nodes[i].env.fuse = 0;
        cluster->nodes[i].paused_until_us = cluster->world.now_us; /* a stall ends now */
        if (cluster->nodes[i].state == SIM_NODE_UP) {
            sim_world_at(&cluster->world, &cluster->nodes[i].resume, cluster->world.now_us);
        }
    }
    sim_cluster_start_all(cluster);
}

/* --- The end of every run --------------------------------------------------------------------------------------------
 */

static bool wrote_since(struct sim_cluster *cluster, void *since_us)
{
    return cluster->workload.last_write_us > *(const uint64_t *)since_us &&
           cluster->workload.last_read_us > *(const uint64_t *)since_us;
}

static bool is_idle(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    return sim_workload_is_idle(&cluster->workload);
}

static bool has_read_all(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    return sim_workload_has_read_all(&cluster->workload);
}

static bool lifetimes_are_over(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (sim_cluster_is_member(cluster, i) && cluster->nodes[i].state == SIM_NODE_UP &&
            store_keys_with_deadline(cluster->nodes[i].store) > 0) {
            return false;
        }
    }
    return true;
}

static bool sends_no_snapshot(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct replica_info info;

        if (cluster->nodes[i].state == SIM_NODE_UP) {
            replica_info(cluster->nodes[i].replica, &info);
            if (info.snapshot_sends > 0 || info.snapshot_taking) {
                return false;
            }
        }
    }
    return true;
}

void sim_cluster_check_logs(struct sim_cluster *cluster)
{
    sim_cluster_expect(cluster, sends_no_snapshot, NULL, CONVERGE_US, "liveness",
                       "all transfers of snapshots must end");
    sim_cluster_run(cluster, 10000); /* a turn of the loop */
    for (unsigned i = 0; i < cluster->n_nodes && !cluster->world.violated; i++) {
        const struct sim_node *node = &cluster->nodes[i];
        struct replica_info info;

        if (node->state == SIM_NODE_UP) {
            replica_info(node->replica, &info);
            sim_check_log_kept(&cluster->check, i, &info, node->config.replica.snapshots.keep_bytes);
        }
    }
}

static void describe_state(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct sim_node *node = &cluster->nodes[i];
        struct replica_info info;

        if (node->state != SIM_NODE_UP) {
            sim_world_log(&cluster->world, "node %u is %s %s", i + 1,
                          node->state == SIM_NODE_DOWN ? "down" : "stopped:", node->reason);
            continue;
        }
        replica_info(node->replica, &info);
        sim_world_log(&cluster->world,
                      "node %u is %s of term %" PRIu64 ", leader %" PRIu64 ", commit %" PRIu64 ", applied %" PRIu64
                      ", last %" PRIu64 ", stored %" PRIu64 ", digest %016" PRIx64,
                      i + 1, replica_role_name(info.role), info.term, info.leader, info.commit, info.applied, info.last,
                      info.stored, store_digest(node->store));
    }
}

void sim_cluster_finish(struct sim_cluster *cluster)
{
    struct sim_workload *workload = &cluster->workload;
    const uint64_t ahead_ms = cluster->options.wild_clocks ? WILD_AHEAD_MS : 0;
    const struct sim_history_limits limits = {.clock_spread_ms = cluster->clock_spread_ms + ahead_ms,
                                              .rate_ppm = 50000};
    uint64_t healed_us = cluster->world.now_us;

    if (!cluster->world.violated) {
        sim_cluster_heal(cluster);
        if (workload->stopped) {
            sim_workload_start(workload);
        }
        sim_cluster_expect(cluster, wrote_since, &healed_us, WRITE_AGAIN_US, "liveness",
                           "the healed cluster must serve writes and reads");
        cluster->recovery_us = workload->last_write_us - healed_us;
        sim_workload_stop(workload);
        sim_cluster_expect(cluster, is_idle, NULL, 5000000, "liveness", "all calls must end");
    }
    healed_us = cluster->world.now_us;
    sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, CONVERGE_US, "convergence",
                       "all nodes must reach the same index and content");
    cluster->convergence_us = cluster->world.now_us - healed_us;
    if (!cluster->world.violated) {
        sim_workload_read_all(workload);
        sim_cluster_expect(cluster, has_read_all, NULL, CONVERGE_US, "liveness", "all keys must be readable");
        sim_cluster_expect(cluster, lifetimes_are_over, NULL, (TTL_MAX_MS + ahead_ms) * UINT64_C(1000) + 5000000,
                           "lifetime", "keys with a lifetime must go");
        sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, CONVERGE_US, "convergence",
                           "all nodes must stay equal");
        if (!cluster->options.plain) { /* scenarios change meanwhile how much is kept */
            sim_cluster_check_logs(cluster);
        }
    }
    if (!cluster->world.violated) {
        sim_history_check(&cluster->history, &cluster->world, &limits);
    } else {
        describe_state(cluster);
    }
}
