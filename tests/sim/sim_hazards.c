#include "tests/sim/sim_hazards.h"

#include <string.h>

#include "consensus/message.h"
#include "tests/sim/sim_story.h"

#define MS 1000u
#define SECOND 1000000u

/* --- Clocks beyond the bound (hazard 4) ----------------------------------------------------------------------------
 */

static void set_rate(struct sim_cluster *cluster, unsigned node, int32_t rate_ppm)
{
    struct sim_node *n = &cluster->nodes[node];

    sim_world_log(&cluster->world, "node %u: its clock's rate is off by %d ppm", node + 1, rate_ppm);
    if (sim_clock_set_rate(&n->clock, &cluster->world, rate_ppm) && n->state == SIM_NODE_UP) {
        sim_env_clock_changed(&n->env);
    }
}

static bool reads_by_itself(struct sim_cluster *cluster, unsigned node)
{
    struct replica_info info;

    replica_info(cluster->nodes[node].replica, &info);
    return strcmp(info.local_reads, "none") == 0;
}

/* For how long may it still read by itself? */
static uint64_t lease_left_us(struct sim_cluster *cluster, unsigned node)
{
    struct replica_info info;

    replica_info(cluster->nodes[node].replica, &info);
    return info.local_left_us;
}

/* Has each node been seen to read by itself? Grants have gaps: `seen` gathers a bit per node. */
static bool all_read_by_themselves(struct sim_cluster *cluster, void *seen)
{
    unsigned *nodes = seen;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        *nodes |= reads_by_itself(cluster, i) ? 1u << i : 0;
    }
    return *nodes == (1u << cluster->n_nodes) - 1;
}

static bool node_reads_by_itself(struct sim_cluster *cluster, void *node)
{
    return reads_by_itself(cluster, *(const unsigned *)node);
}

static void expect_local_reads(struct sim_cluster *cluster)
{
    unsigned seen = 0;

    sim_cluster_expect(cluster, all_read_by_themselves, &seen, 5 * SECOND, "liveness", "all nodes read from memory");
}

/* One clock leaves the bound. Everybody has time to notice, and only then `cut` loses contact, while the others go on
 * writing: whoever it is must not read from memory any more. Errors are remembered for long, so the nodes are started
 * anew before each round. */
static void out_of_bound(struct sim_cluster *cluster, bool leader_is_wrong, bool leader_is_cut, int32_t rate_ppm)
{
    for (unsigned round = 0; round < 6 && !cluster->world.violated; round++) {
        expect_local_reads(cluster);
        const unsigned leader = sim_story_leader(cluster);
        const unsigned other = (leader + 1 + round % 2) % cluster->n_nodes;
        const unsigned wrong = leader_is_wrong ? leader : other;
        const unsigned cut = leader_is_cut ? leader : other;
        if (cluster->world.violated) {
            return;
        }
        cluster->check.wild_clock = wrong + 1;
        cluster->options.wild_clocks = true;
        cluster->check.clock_ahead_max_ms = 60000; /* it may carry cluster time on, and others take it over */
        set_rate(cluster, wrong, rate_ppm);
        sim_cluster_run(cluster, 2 * cluster->election_timeout_us);
        sim_story_require(cluster, !reads_by_itself(cluster, cut), "the error must have been noticed");
        sim_cluster_isolate(cluster, cut, true, true);
        sim_cluster_run(cluster, 4 * cluster->election_timeout_us);
        sim_cluster_isolate(cluster, cut, false, false);
        set_rate(cluster, wrong, 0);
        sim_cluster_run(cluster, 300 * MS);
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_node_stop(&cluster->nodes[i]);
        }
        sim_cluster_start_all(cluster);
    }
}

void sim_hazard_slow_leader(struct sim_cluster *cluster)
{
    out_of_bound(cluster, true, true, -400000);
}

void sim_hazard_stopped_leader(struct sim_cluster *cluster)
{
    out_of_bound(cluster, true, true, SIM_CLOCK_STOPPED);
}

void sim_hazard_fast_voter(struct sim_cluster *cluster)
{
    out_of_bound(cluster, false, true, 1500000);
}

void sim_hazard_slow_reader(struct sim_cluster *cluster)
{
    out_of_bound(cluster, false, false, -900000);
}

/* Reads that wait for a quorum ask for echoes of their own, all the time: leases and grants must come back all the
 * same. */
void sim_hazard_reads_return(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 6 && !cluster->world.violated; round++) {
        expect_local_reads(cluster);
        sim_cluster_isolate(cluster, sim_story_leader(cluster), true, true);
        sim_cluster_run(cluster, (1 + round % 3) * cluster->election_timeout_us);
        sim_net_unblock_all(&cluster->net);
    }
    expect_local_reads(cluster);
}

/* --- What a write costs --------------------------------------------------------------------------------------------
 */

#define WRITES 60u

/* Writes one by one, at times when both followers hold grants (or without any): how many of them the leader
 * acknowledged after a single frame to each follower. Another round trip would take more. */
static unsigned writes_in_one_trip(struct sim_cluster *cluster, bool grants)
{
    const unsigned leader = sim_story_leader(cluster);
    unsigned single = 0;

    for (unsigned i = 0; i < WRITES && !cluster->world.violated; i++) {
        const uint64_t until_us = cluster->world.now_us + SECOND;
        struct replica_info before, after;
        unsigned holders = 0;

        while (holders < 2 && grants && sim_world_step(&cluster->world, until_us)) {
            holders = 0;
            for (unsigned k = 0; k < cluster->n_nodes; k++) {
                holders += k != leader && lease_left_us(cluster, k) > 5 * MS ? 1 : 0;
            }
        }
        sim_story_require(cluster, !grants || holders == 2, "both followers must hold grants");
        replica_info(cluster->nodes[leader].replica, &before);
        const struct sim_op *op = sim_workload_probe(&cluster->workload, SIM_SET, "probe", "value", 0, leader);
        while (op->state == SIM_OP_PENDING && sim_world_step(&cluster->world, until_us + SECOND)) {
        }
        sim_story_require(cluster, op->state == SIM_OP_OK, "the write must succeed");
        replica_info(cluster->nodes[leader].replica, &after);
        single += after.frames_sent - before.frames_sent <= 2 ? 1 : 0;
        sim_cluster_run(cluster, sim_random_range(&cluster->random, 5 * MS, 60 * MS));
    }
    return single;
}

void sim_hazard_no_extra_trip(struct sim_cluster *cluster)
{
    sim_workload_stop(&cluster->workload);
    sim_cluster_run(cluster, 6 * SECOND); /* keys with a lifetime have gone: nothing else is proposed */
    expect_local_reads(cluster);
    const unsigned with = writes_in_one_trip(cluster, true);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        sim_node_stop(&cluster->nodes[i]);
        cluster->nodes[i].config.replica.grants_off = true;
    }
    sim_cluster_start_all(cluster);
    sim_cluster_run(cluster, 2 * SECOND);
    const unsigned without = writes_in_one_trip(cluster, false);
    sim_world_log(&cluster->world, "%u and %u of %u writes took one frame per follower", with, without, WRITES);
    /* The others met a heartbeat. */
    sim_story_require(cluster, with >= WRITES * 3 / 4, "with grants a write takes one frame per follower");
    sim_story_require(cluster, without >= WRITES * 3 / 4, "without grants a write takes one frame per follower");
}

/* --- Leadership that moves (hazards 2 and 8) -----------------------------------------------------------------------
 */

static bool has_heard_of(struct sim_cluster *cluster, unsigned node, uint64_t term)
{
    return cluster->nodes[node].state == SIM_NODE_UP && replica_term(cluster->nodes[node].replica) > term;
}

/* The leader hands over, and hears nothing any more from the moment on at which its successor stands: what it was
 * promised earlier must count no more. */
void sim_hazard_transfer_cut(struct sim_cluster *cluster)
{
    unsigned handed_over = 0;

    for (unsigned round = 0; round < 8 && !cluster->world.violated; round++) {
        expect_local_reads(cluster);
        const unsigned leader = sim_story_leader(cluster);
        const unsigned next = (leader + 1 + round % 2) % 3;
        if (cluster->world.violated) {
            return;
        }
        const uint64_t term = replica_term(cluster->nodes[leader].replica);
        const uint64_t until_us = cluster->world.now_us + 2 * SECOND;
        sim_workload_stop(&cluster->workload);
        sim_cluster_run(cluster, 50 * MS);
        sim_node_transfer(&cluster->nodes[leader], next + 1);
        sim_net_block(&cluster->net, next, leader, true);
        while (!has_heard_of(cluster, next, term) && sim_world_step(&cluster->world, until_us)) {
        }
        handed_over += has_heard_of(cluster, next, term) ? 1 : 0;
        sim_cluster_isolate(cluster, leader, true, true);
        sim_workload_start(&cluster->workload);
        sim_cluster_run(cluster, 2 * cluster->election_timeout_us);
        sim_cluster_isolate(cluster, leader, false, false);
        sim_cluster_run(cluster, 500 * MS);
    }
    sim_story_require(cluster, handed_over > 1, "the successor must stand, more than once");
}

static bool node_leads(struct sim_cluster *cluster, void *node)
{
    return sim_cluster_leader(cluster) == (int)*(const unsigned *)node;
}

/* Leadership is handed over as soon as it was won, to the node whose disk is the slowest: it takes over once it has
 * stored all, and is not told earlier, when it would not listen. */
void sim_hazard_transfer_behind(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 12 && !cluster->world.violated; round++) {
        const unsigned leader = sim_story_leader(cluster);
        unsigned next = (leader + 1 + round % 2) % 3;

        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            cluster->nodes[i].disk.slow_factor = i == next ? 100 : 1;
        }
        sim_cluster_run(cluster, 20 * MS);
        sim_node_transfer(&cluster->nodes[leader], next + 1);
        sim_cluster_expect(cluster, node_leads, &next, cluster->election_timeout_us, "liveness",
                           "the node that was asked to takes over");
    }
}

static void forge(struct sim_cluster *cluster, unsigned from, unsigned to, const struct message *message)
{
    uint8_t head[MESSAGE_HEAD_MAX];
    const struct iovec piece = {head, message_encode(message, head)};

    (void)sim_net_send(&cluster->net, from, to, &piece, 1);
}

/* A leader is made to step down (a frame of a later term) while a node that is cut off holds its grant; then the third
 * node stands at once (a TimeoutNow out of the blue). The former leader's vote would make it one, and it would write
 * past the reader. */
void sim_hazard_deposed_grants(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 16 && !cluster->world.violated; round++) {
        expect_local_reads(cluster);
        const unsigned leader = sim_story_leader(cluster);
        unsigned reader = (leader + 1 + round % 2) % 3;
        const unsigned next = 3 - leader - reader;
        if (cluster->world.violated) {
            return;
        }
        const uint64_t term = replica_term(cluster->nodes[leader].replica);
        const struct message later = {.type = MESSAGE_APPEND_RESULT, .term = term + 1};
        struct message now = {.type = MESSAGE_TIMEOUT_NOW, .term = term};
        struct replica_info info;
        sim_workload_stop(&cluster->workload);
        sim_cluster_run(cluster, 40 * MS);
        sim_cluster_expect(cluster, node_reads_by_itself, &reader, 2 * SECOND, "liveness", "the reader has a grant");
        sim_cluster_isolate(cluster, reader, true, true);
        replica_info(cluster->nodes[next].replica, &info);
        now.timeout_now = (struct message_timeout_now){info.last, term};
        forge(cluster, next, leader, &later);
        sim_cluster_run(cluster, 2 * MS);
        forge(cluster, leader, next, &now);
        sim_workload_start(&cluster->workload);
        sim_cluster_run(cluster, 2 * cluster->election_timeout_us);
        sim_cluster_isolate(cluster, reader, false, false);
        sim_cluster_run(cluster, 500 * MS);
    }
}

/* The leader's lease rests on one follower's echo; that follower restarts, is cut off from the leader, and is asked for
 * its vote by the other one, which has not heard of the leader for long: it was stalled, cut off from the leader, and
 * wakes up just then. */
void sim_hazard_vote_guard(struct sim_cluster *cluster)
{
    cluster->net.swift = true;
    for (unsigned round = 0; round < 6 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);
        unsigned candidate = (leader + 1) % 3;
        unsigned voter = (leader + 2) % 3;

        /* Without writes and expiry, so that the candidate's log stays as good as the voter's. */
        sim_workload_stop(&cluster->workload);
        sim_cluster_run(cluster, 5 * SECOND);
        sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, 10 * SECOND, "convergence", "nodes are equal");
        sim_story_require(cluster, sim_node_leads(&cluster->nodes[leader]), "the leader must stay");
        sim_story_block_pair(cluster, leader, candidate, true);
        sim_node_pause(&cluster->nodes[candidate], 1010 * MS);
        sim_cluster_run(cluster, 1 * SECOND);
        sim_workload_start(&cluster->workload);
        sim_node_crash(&cluster->nodes[voter]);
        sim_story_block_pair(cluster, leader, voter, true);
        sim_node_start(&cluster->nodes[voter]);
        sim_cluster_run(cluster, 900 * MS);
        sim_net_unblock_all(&cluster->net);
        sim_cluster_run(cluster, 800 * MS);
    }
}

/* Leadership is handed over while a third node, cut off, holds a grant to read locally. */
void sim_hazard_transfer_under_grant(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 12 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);
        unsigned next = (leader + 1 + round % 2) % 3;
        unsigned reader = 3 - leader - next;

        sim_cluster_isolate(cluster, reader, true, true);
        sim_node_transfer(&cluster->nodes[leader], next + 1);
        sim_cluster_run(cluster, 900 * MS);
        sim_cluster_isolate(cluster, reader, false, false);
        sim_cluster_run(cluster, 800 * MS);
    }
}

void sim_hazard_transfers(struct sim_cluster *cluster)
{
    uint64_t elections = cluster->check.elections;

    for (unsigned round = 0; round < 8 && !cluster->world.violated; round++) {
        sim_node_transfer(&cluster->nodes[sim_story_leader(cluster)], 0);
        sim_story_expect_write(cluster, 2 * SECOND, "writes go on after a transfer");
        sim_cluster_run(cluster, 1 * SECOND);
    }
    sim_story_require(cluster, cluster->check.elections >= elections + 6, "leadership must move when asked to");
}
