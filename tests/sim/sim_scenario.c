#include "tests/sim/sim_scenario.h"

#include <inttypes.h>
#include <string.h>

#include "tests/sim/sim_content.h"
#include "tests/sim/sim_hazards.h"
#include "tests/sim/sim_install.h"
#include "tests/sim/sim_members.h"
#include "tests/sim/sim_upgrade.h"
#include "tests/sim/sim_snapshots.h"

#define MS 1000u
#define SECOND 1000000u
#define LEADER_WITHIN (5u * SECOND)

static bool expect_leader(struct sim_cluster *cluster)
{
    return sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, LEADER_WITHIN, "liveness", "a leader is elected");
}

static bool other_leads(struct sim_cluster *cluster, void *old)
{
    int leader = sim_cluster_leader(cluster);

    return leader >= 0 && (unsigned)leader != *(const unsigned *)old;
}

static bool wrote_since(struct sim_cluster *cluster, void *since_us)
{
    return cluster->workload.last_write_us > *(const uint64_t *)since_us;
}

/* Writes go on: one is acknowledged that begins and ends from now on. */
static bool expect_write(struct sim_cluster *cluster, uint64_t within_us, const char *what)
{
    uint64_t since_us = cluster->world.now_us + 2000;

    return sim_cluster_expect(cluster, wrote_since, &since_us, within_us, "liveness", what);
}

/* The leader, after waiting for one. */
static unsigned leader_of(struct sim_cluster *cluster)
{
    return expect_leader(cluster) ? (unsigned)sim_cluster_leader(cluster) : 0;
}

static unsigned follower_of(struct sim_cluster *cluster)
{
    return (leader_of(cluster) + 1) % cluster->n_nodes;
}

static void require(struct sim_cluster *cluster, bool holds, const char *what)
{
    if (!holds) {
        sim_world_violation(&cluster->world, "scenario", "%s", what);
    }
}

/* --- Crashes ----------------------------------------------------------------------------------------------------- */

static void leader_crash(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 8 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);

        sim_cluster_run(cluster, sim_random_below(&cluster->random, 300 * MS));
        sim_node_crash(&cluster->nodes[leader]);
        sim_cluster_restart_later(cluster, leader, 700 * MS);
        expect_write(cluster, 5 * SECOND, "writes go on after a leader's crash");
        sim_cluster_run(cluster, 800 * MS);
    }
}

/* A crash breaks the links, which says more than silence: its followers stand in turns, the first 1.1 T after it. */
static void dead_leader_replaced(struct sim_cluster *cluster)
{
    const uint64_t timeout_us = cluster->election_timeout_us;

    for (unsigned round = 0; round < 8 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);

        expect_write(cluster, 5 * SECOND, "writes before the crash");
        sim_cluster_run(cluster, 2 * SECOND);
        sim_node_crash(&cluster->nodes[leader]);
        sim_cluster_expect(cluster, other_leads, &leader, timeout_us * 14 / 10, "liveness",
                           "a leader that died is replaced within 1.4 election timeouts");
        sim_cluster_restart_later(cluster, leader, 100 * MS);
    }
}

static void all_crash(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 6 && !cluster->world.violated; round++) {
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_node_crash(&cluster->nodes[i]);
            sim_cluster_restart_later(cluster, i, sim_random_below(&cluster->random, 200 * MS));
        }
        expect_write(cluster, 6 * SECOND, "writes go on after all crashed");
        sim_cluster_run(cluster, sim_random_range(&cluster->random, 50 * MS, 600 * MS));
    }
}

static uint64_t torn_writes(const struct sim_cluster *cluster)
{
    uint64_t torn = 0;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        torn += cluster->nodes[i].disk.torn;
    }
    return torn;
}

static void torn_tail(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].disk.latency_us = 8 * MS; /* something is nearly always being written */
    }
    for (unsigned round = 0; round < 10 && !cluster->world.violated; round++) {
        unsigned first = (unsigned)sim_random_below(&cluster->random, cluster->n_nodes);

        sim_cluster_run(cluster, sim_random_range(&cluster->random, 200 * MS, 500 * MS));
        for (unsigned k = 0; k <= round % cluster->n_nodes; k++) {
            unsigned node = (first + k) % cluster->n_nodes;

            sim_node_crash(&cluster->nodes[node]);
            sim_cluster_restart_later(cluster, node, sim_random_below(&cluster->random, 300 * MS));
        }
        expect_write(cluster, 6 * SECOND, "writes go on after torn writes");
    }
    require(cluster, torn_writes(cluster) > 3, "writes must have been in flight at crashes");
}

static void set_latency(struct sim_cluster *cluster, uint64_t latency_us)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].disk.latency_us = latency_us;
    }
}

/* The power goes everywhere while every disk still has its hands full with one write: what has been acknowledged since
 * that began must have been on a majority's disks all the same. */
static void power_cut(struct sim_cluster *cluster)
{
    const uint64_t usual_us = cluster->nodes[0].disk.latency_us;

    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        leader_of(cluster);
        expect_write(cluster, 6 * SECOND, "writes go on before the power goes");
        set_latency(cluster, 250 * MS);
        sim_cluster_run(cluster, 20 * MS);
        expect_write(cluster, 6 * SECOND, "writes go on with slow disks");
        sim_cluster_run(cluster, 100 * MS);
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_node_crash(&cluster->nodes[i]);
            sim_cluster_restart_later(cluster, i, 100 * MS);
        }
        set_latency(cluster, usual_us);
        expect_write(cluster, 6 * SECOND, "writes go on after the power cut");
    }
}

static void crash_inside(struct sim_cluster *cluster)
{
    for (unsigned round = 1; round <= 24 && !cluster->world.violated; round++) {
        unsigned node = round % 2 == 0 ? leader_of(cluster) : follower_of(cluster);

        if (cluster->nodes[node].state == SIM_NODE_UP) {
            cluster->nodes[node].env.fuse = round;
        }
        sim_cluster_run(cluster, 150 * MS);
        sim_cluster_restart_later(cluster, node, 0);
        sim_cluster_run(cluster, 100 * MS);
        /* The next start dies as well, somewhere in recovery. */
        sim_node_crash(&cluster->nodes[node]);
        sim_cluster_restart_later(cluster, node, 50 * MS);
        sim_cluster_run(cluster, 250 * MS);
    }
}

static void restart_storm(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 40 && !cluster->world.violated; round++) {
        unsigned node = (unsigned)sim_random_below(&cluster->random, cluster->n_nodes);

        if (sim_random_chance(&cluster->random, 700000)) {
            sim_node_crash(&cluster->nodes[node]);
        } else {
            sim_node_stop(&cluster->nodes[node]);
        }
        sim_cluster_restart_later(cluster, node, sim_random_below(&cluster->random, 250 * MS));
        sim_cluster_run(cluster, sim_random_range(&cluster->random, 20 * MS, 300 * MS));
    }
}

static void orderly_restart(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_node_stop(&cluster->nodes[i]);
        }
        sim_cluster_run(cluster, 100 * MS);
        sim_cluster_start_all(cluster);
        expect_write(cluster, 5 * SECOND, "writes go on after an orderly restart");
        sim_cluster_run(cluster, 400 * MS);
    }
}

static void minority_crash(struct sim_cluster *cluster)
{
    unsigned leader = leader_of(cluster);

    for (unsigned i = 0; i < cluster->n_nodes / 2; i++) {
        sim_node_crash(&cluster->nodes[(leader + i) % cluster->n_nodes]);
    }
    expect_write(cluster, 5 * SECOND, "a bare majority serves");
    sim_cluster_run(cluster, 3 * SECOND);
}

static void lagging_follower(struct sim_cluster *cluster)
{
    unsigned follower = follower_of(cluster);

    sim_node_crash(&cluster->nodes[follower]);
    sim_cluster_run(cluster, 6 * SECOND); /* far more than the in-memory tail holds */
    sim_node_start(&cluster->nodes[follower]);
    sim_cluster_run(cluster, 2 * SECOND);
}

/* --- Partitions -------------------------------------------------------------------------------------------------- */

static void one_way(struct sim_cluster *cluster, bool in, bool out)
{
    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);

        sim_cluster_isolate(cluster, leader, in, out);
        sim_cluster_expect(cluster, other_leads, &leader, 8 * SECOND, "liveness", "another node takes over");
        expect_write(cluster, 5 * SECOND, "writes go on behind a one-way partition");
        sim_cluster_run(cluster, 500 * MS);
        sim_cluster_isolate(cluster, leader, false, false);
        sim_cluster_run(cluster, 1 * SECOND);
    }
}

static void leader_mute(struct sim_cluster *cluster)
{
    one_way(cluster, false, true);
}

static void leader_deaf(struct sim_cluster *cluster)
{
    one_way(cluster, true, false);
}

static void isolated_tail(struct sim_cluster *cluster)
{
    unsigned cut = 0;

    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);
        struct replica_info info;

        sim_cluster_isolate(cluster, leader, true, true);
        sim_cluster_expect(cluster, other_leads, &leader, 8 * SECOND, "liveness", "another node takes over");
        expect_write(cluster, 5 * SECOND, "the rest goes on");
        sim_cluster_run(cluster, 300 * MS);
        if (cluster->nodes[leader].state == SIM_NODE_UP) {
            replica_info(cluster->nodes[leader].replica, &info);
            cut += info.last > info.commit ? 1 : 0;
        }
        sim_cluster_isolate(cluster, leader, false, false);
        sim_cluster_run(cluster, 1500 * MS);
    }
    require(cluster, cut > 0, "an isolated leader must have had a tail to be replaced");
}

static void elections(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 12 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);

        sim_cluster_isolate(cluster, leader, true, true);
        sim_cluster_expect(cluster, other_leads, &leader, 8 * SECOND, "liveness", "another node takes over");
        sim_cluster_run(cluster, sim_random_below(&cluster->random, 200 * MS));
        sim_cluster_isolate(cluster, leader, false, false);
        sim_cluster_run(cluster, sim_random_below(&cluster->random, 300 * MS));
    }
    require(cluster, cluster->check.elections >= 8, "many terms must have had a leader");
}

static void stale_read(struct sim_cluster *cluster)
{
    unsigned old = leader_of(cluster);
    const struct sim_op *write;
    const struct sim_op *read;

    sim_workload_stop(&cluster->workload);
    sim_cluster_run(cluster, 2 * SECOND);
    old = leader_of(cluster);
    write = sim_workload_probe(&cluster->workload, SIM_SET, "probe", "old", 0, old);
    sim_cluster_run(cluster, 500 * MS);
    require(cluster, write->state == SIM_OP_OK, "the first write must succeed");
    sim_cluster_isolate(cluster, old, true, true);
    sim_cluster_expect(cluster, other_leads, &old, 8 * SECOND, "liveness", "another node takes over");
    if (cluster->world.violated) {
        return;
    }
    write = sim_workload_probe(&cluster->workload, SIM_SET, "probe", "new", 0, (unsigned)sim_cluster_leader(cluster));
    sim_cluster_run(cluster, 500 * MS);
    require(cluster, write->state == SIM_OP_OK, "the second write must succeed");
    read = sim_workload_probe(&cluster->workload, SIM_GET, "probe", NULL, 0, old);
    sim_cluster_run(cluster, 2 * SECOND);
    require(cluster, read->state != SIM_OP_OK, "an isolated old leader must not answer a read");
    require(cluster, read->state != SIM_OP_PENDING, "the read must have ended");
}

/* Which of two nodes leads in the core's eyes, barrier or not, in a term above `term`; -1: none. */
static int leads_newly(struct sim_cluster *cluster, unsigned a, unsigned b, uint64_t term)
{
    const unsigned nodes[] = {a, b};

    for (unsigned i = 0; i < 2; i++) {
        struct replica_info info;

        if (cluster->nodes[nodes[i]].state == SIM_NODE_UP) {
            replica_info(cluster->nodes[nodes[i]].replica, &info);
            if (info.role == REPLICA_LEADER && info.term > term) {
                return (int)nodes[i];
            }
        }
    }
    return -1;
}

/* A voter crashes right after its vote made a leader, before it has any entry of that term, and meets a candidate that
 * has not heard of that term: if it had forgotten its vote it would elect a second leader of the term. */
static void double_vote(struct sim_cluster *cluster)
{
    sim_workload_stop(&cluster->workload);
    for (unsigned round = 0; round < 12 && !cluster->world.violated; round++) {
        unsigned old = leader_of(cluster);
        unsigned other = (old + 1) % 3;
        unsigned candidate = (old + 2) % 3;
        uint64_t until_us;
        uint64_t term;
        int winner = -1;

        sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, 10 * SECOND, "convergence", "nodes are equal");
        if (cluster->world.violated || cluster->nodes[old].state != SIM_NODE_UP) {
            return;
        }
        term = replica_term(cluster->nodes[old].replica);
        sim_cluster_isolate(cluster, candidate, true, true);
        sim_node_crash(&cluster->nodes[old]);
        sim_node_start(&cluster->nodes[old]);
        until_us = cluster->world.now_us + 5 * SECOND;
        while (winner < 0 && !cluster->world.violated && sim_world_step(&cluster->world, until_us)) {
            winner = leads_newly(cluster, old, other, term);
        }
        if (winner >= 0) {
            unsigned voter = (unsigned)winner == old ? other : old;

            sim_node_crash(&cluster->nodes[voter]);
            sim_cluster_isolate(cluster, (unsigned)winner, true, true);
            sim_net_block(&cluster->net, voter, candidate, false);
            sim_net_block(&cluster->net, candidate, voter, false);
            sim_node_start(&cluster->nodes[voter]);
            sim_cluster_run(cluster, 3 * SECOND);
        }
        sim_net_unblock_all(&cluster->net);
        sim_cluster_run(cluster, 1 * SECOND);
    }
}

static bool is_in_term(struct sim_cluster *cluster, unsigned node, uint64_t term)
{
    return cluster->nodes[node].state == SIM_NODE_UP && replica_term(cluster->nodes[node].replica) >= term;
}

/* Of two nodes that are left, one has the later term, since it stood twice, lost its voter and was restarted, and the
 * other the better log. Neither would ever lead if the second did not learn the term from the first one's refusal. */
static void pre_vote_term(struct sim_cluster *cluster)
{
    unsigned old = leader_of(cluster);
    unsigned a = (old + 1) % 3, b = (old + 2) % 3;
    const uint64_t term = replica_term(cluster->nodes[old].replica) + 1;
    const uint64_t until_us = cluster->world.now_us + 5 * SECOND;

    cluster->nodes[old].config.pipeline = true; /* it goes on writing when nobody answers any more */
    sim_cluster_isolate(cluster, old, true, true);
    while (!is_in_term(cluster, a, term) && !is_in_term(cluster, b, term) && !cluster->world.violated &&
           sim_world_step(&cluster->world, until_us)) {
    }
    require(cluster, is_in_term(cluster, a, term) != is_in_term(cluster, b, term), "one of two stands");
    const unsigned stood = is_in_term(cluster, a, term) ? a : b;
    sim_node_crash(&cluster->nodes[stood == a ? b : a]);
    sim_cluster_run(cluster, 800 * MS);
    require(cluster, is_in_term(cluster, stood, term + 1), "it stands again");
    sim_node_crash(&cluster->nodes[stood]);
    sim_node_start(&cluster->nodes[stood]);
    sim_cluster_run(cluster, 1 * SECOND);
    sim_cluster_isolate(cluster, old, false, false);
    expect_write(cluster, 5 * SECOND, "the two that are left elect a leader");
}

static void pair_block(struct sim_cluster *cluster, unsigned a, unsigned b, bool blocked)
{
    sim_net_block(&cluster->net, a, b, blocked);
    sim_net_block(&cluster->net, b, a, blocked);
}

static bool leads_apart(struct sim_cluster *cluster, void *minority)
{
    const unsigned *apart = minority;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (i != apart[0] && i != apart[1] && sim_node_leads(&cluster->nodes[i])) {
            return true;
        }
    }
    return false;
}

/* A follower's disk is still writing the tail of an old leader when a new one replaces that tail. What the write brings
 * to disk must not count for the entries that took its place: they would be acknowledged and then lost, when the two
 * other nodes that have them are gone. */
static void replaced_in_flight(struct sim_cluster *cluster)
{
    unsigned apart[2] = {leader_of(cluster), 0};
    uint64_t since_us;
    unsigned leader, second, third;

    apart[1] = (apart[0] + 1) % 5;
    cluster->nodes[apart[0]].config.pipeline = true;
    cluster->nodes[apart[1]].disk.slow_factor = 1000; /* one slow write, behind which a longer one gathers */
    for (unsigned i = 0; i < 5; i++) {
        if (i != apart[0] && i != apart[1]) {
            sim_cluster_isolate(cluster, i, true, true);
        }
    }
    for (unsigned i = 0; i < 25; i++) {
        if (i / 5 != i % 5 && i / 5 != apart[0] && i / 5 != apart[1] && i % 5 != apart[0] && i % 5 != apart[1]) {
            sim_net_block(&cluster->net, i / 5, i % 5, false);
        }
    }
    sim_cluster_run(cluster, 30 * MS);
    cluster->nodes[apart[1]].disk.slow_factor = 30000;
    sim_cluster_run(cluster, 220 * MS); /* the old leader writes on, to itself and to the slow follower */
    sim_workload_stop(&cluster->workload);
    sim_cluster_expect(cluster, leads_apart, apart, 5 * SECOND, "liveness", "the majority elects a leader");
    if (cluster->world.violated) {
        return;
    }
    leader = (unsigned)sim_cluster_leader(cluster);
    second = (apart[1] + 1) % 5 == leader ? (apart[1] + 2) % 5 : (apart[1] + 1) % 5;
    third = 10 - apart[0] - apart[1] - leader - second;
    sim_cluster_isolate(cluster, third, true, true);
    sim_cluster_isolate(cluster, apart[0], true, true);
    pair_block(cluster, apart[1], leader, false);
    pair_block(cluster, apart[1], second, false);
    cluster->workload.config.timeout_us = 20 * SECOND; /* clients wait for the slow disk */
    sim_workload_start(&cluster->workload);
    since_us = cluster->world.now_us + 2000;
    sim_cluster_expect(cluster, wrote_since, &since_us, 60 * SECOND, "liveness", "three nodes of five serve");
    sim_node_crash(&cluster->nodes[apart[1]]);
    sim_node_crash(&cluster->nodes[leader]);
    sim_node_crash(&cluster->nodes[second]);
    cluster->workload.config.timeout_us = 1500 * MS;
    cluster->nodes[apart[1]].disk.slow_factor = 1;
    sim_net_unblock_all(&cluster->net);
    sim_node_start(&cluster->nodes[apart[1]]);
    sim_cluster_run(cluster, 4 * SECOND);
}

/* --- Leases and grants (DESIGN section 6, hazards) --- */

/* The leader's lease rests on one follower's echo; that follower restarts, is cut off from the leader, and is asked for
 * its vote by the other one, which has not heard of the leader for long: it was stalled, cut off from the leader, and
 * wakes up just then. */
static void vote_guard(struct sim_cluster *cluster)
{
    cluster->net.swift = true;
    for (unsigned round = 0; round < 6 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);
        unsigned candidate = (leader + 1) % 3;
        unsigned voter = (leader + 2) % 3;

        /* Without writes and expiry, so that the candidate's log stays as good as the voter's. */
        sim_workload_stop(&cluster->workload);
        sim_cluster_run(cluster, 5 * SECOND);
        sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, 10 * SECOND, "convergence", "nodes are equal");
        require(cluster, sim_node_leads(&cluster->nodes[leader]), "the leader must stay");
        pair_block(cluster, leader, candidate, true);
        sim_node_pause(&cluster->nodes[candidate], 1010 * MS);
        sim_cluster_run(cluster, 1 * SECOND);
        sim_workload_start(&cluster->workload);
        sim_node_crash(&cluster->nodes[voter]);
        pair_block(cluster, leader, voter, true);
        sim_node_start(&cluster->nodes[voter]);
        sim_cluster_run(cluster, 900 * MS);
        sim_net_unblock_all(&cluster->net);
        sim_cluster_run(cluster, 800 * MS);
    }
}

/* Leadership is handed over while a third node, cut off, holds a grant to read locally. */
static void transfer_under_grant(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 12 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);
        unsigned next = (leader + 1 + round % 2) % 3;
        unsigned reader = 3 - leader - next;

        sim_cluster_isolate(cluster, reader, true, true);
        sim_node_transfer(&cluster->nodes[leader], next + 1);
        sim_cluster_run(cluster, 900 * MS);
        sim_cluster_isolate(cluster, reader, false, false);
        sim_cluster_run(cluster, 800 * MS);
    }
}

static void transfers(struct sim_cluster *cluster)
{
    uint64_t elections = cluster->check.elections;

    for (unsigned round = 0; round < 8 && !cluster->world.violated; round++) {
        sim_node_transfer(&cluster->nodes[leader_of(cluster)], 0);
        expect_write(cluster, 2 * SECOND, "writes go on after a transfer");
        sim_cluster_run(cluster, 1 * SECOND);
    }
    require(cluster, cluster->check.elections >= elections + 6, "leadership must move when asked to");
}

/* --- Disks ------------------------------------------------------------------------------------------------------- */

static void slow_follower(struct sim_cluster *cluster)
{
    unsigned follower = follower_of(cluster);

    cluster->nodes[follower].disk.slow_factor = 400;
    for (unsigned i = 0; i < 6; i++) {
        expect_write(cluster, 2 * SECOND, "a slow follower must not hold up writes");
        sim_cluster_run(cluster, 500 * MS);
    }
}

static void slow_leader(struct sim_cluster *cluster)
{
    unsigned leader = leader_of(cluster);

    cluster->nodes[leader].disk.slow_factor = 400;
    for (unsigned i = 0; i < 6; i++) {
        expect_write(cluster, 4 * SECOND, "the followers' disks are enough for a quorum");
        sim_cluster_run(cluster, 500 * MS);
    }
}

static bool writes_refused(struct sim_cluster *cluster, void *unused)
{
    uint64_t refused = 0;

    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        refused += cluster->nodes[i].refused_space;
    }
    return refused > 3;
}

static bool read_since(struct sim_cluster *cluster, void *since_us)
{
    return cluster->workload.last_read_us > *(const uint64_t *)since_us;
}

static void full_disk(struct sim_cluster *cluster)
{
    uint64_t since_us;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct sim_disk *disk = &cluster->nodes[i].disk;

        disk->capacity_bytes = disk->used_bytes + (600u << 10);
    }
    sim_cluster_expect(cluster, writes_refused, NULL, 60 * SECOND, "scenario", "writes are refused for lack of space");
    sim_cluster_run(cluster, 2 * SECOND);
    since_us = cluster->world.now_us;
    sim_cluster_expect(cluster, read_since, &since_us, 2 * SECOND, "liveness", "reads go on with a full disk");
    /* Leadership can still change hands: the reserve is for barriers. */
    sim_node_pause(&cluster->nodes[leader_of(cluster)], 1500 * MS);
    sim_cluster_run(cluster, 1 * SECOND);
    since_us = cluster->world.now_us;
    sim_cluster_expect(cluster, read_since, &since_us, 4 * SECOND, "liveness", "a new leader reads with a full disk");
}

static bool is_stopped(struct sim_cluster *cluster, void *node)
{
    return cluster->nodes[*(const unsigned *)node].state == SIM_NODE_STOPPED;
}

static void disk_errors(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        unsigned node = round % 2 == 0 ? follower_of(cluster) : leader_of(cluster);

        cluster->nodes[node].may_stop = true;
        cluster->nodes[node].disk.write_error_ppm = 1000000;
        sim_cluster_expect(cluster, is_stopped, &node, 2 * SECOND, "scenario", "a failed write stops the node");
        cluster->nodes[node].disk.write_error_ppm = 0;
        expect_write(cluster, 5 * SECOND, "the others go on");
        sim_node_start(&cluster->nodes[node]);
        sim_cluster_run(cluster, 500 * MS);
    }
}

static void bit_flips(struct sim_cluster *cluster)
{
    unsigned node;
    char name[64];
    uint64_t offset;

    sim_cluster_run(cluster, 2 * SECOND);
    sim_workload_stop(&cluster->workload);
    sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, 5 * SECOND, "convergence", "before the damage");
    node = follower_of(cluster);
    sim_node_crash(&cluster->nodes[node]);
    cluster->nodes[node].damaged = true;
    if (sim_disk_flip(&cluster->nodes[node].disk, name, sizeof name, &offset)) {
        sim_world_log(&cluster->world, "node %u: a bit flips in %s at %" PRIu64, node + 1, name, offset);
    }
    sim_node_start(&cluster->nodes[node]); /* refuses, stops later, or was not touched by it; but is never wrong */
    sim_workload_start(&cluster->workload);
    sim_cluster_run(cluster, 2 * SECOND);
}

/* A bit flips in an entry far below the newest mark: nothing that a crash can do, so the node does not start. */
static void log_flip(struct sim_cluster *cluster)
{
    char name[64];

    sim_cluster_run(cluster, 4 * SECOND); /* of every hundred writes six have a value padded with dots */
    sim_workload_stop(&cluster->workload);
    sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, 5 * SECOND, "convergence", "before the damage");
    struct sim_node *node = &cluster->nodes[follower_of(cluster)];
    sim_node_crash(node);
    node->damaged = true;
    if (!sim_disk_flip_run(&node->disk, "wal-", '.', 64, name, sizeof name)) {
        sim_world_violation(&cluster->world, "scenario", "there is an entry to damage");
        return;
    }
    sim_world_log(&cluster->world, "node %u: a bit flips in an entry in %s", node->position + 1, name);
    sim_node_start(node);
    sim_workload_start(&cluster->workload);
    sim_cluster_run(cluster, 2 * SECOND);
    if (node->state == SIM_NODE_UP) {
        sim_world_violation(&cluster->world, "scenario", "a node whose log is damaged does not run");
    }
}

/* --- Time -------------------------------------------------------------------------------------------------------- */

static void clock_jump(struct sim_cluster *cluster)
{
    static const int64_t jumps_ms[] = {3600000, -3600000, INT64_C(31536000000), 0};

    for (unsigned i = 0; i < 4 && !cluster->world.violated; i++) {
        unsigned leader = leader_of(cluster);

        cluster->nodes[leader].clock.wall_off_ms = jumps_ms[i];
        sim_cluster_run(cluster, 1500 * MS);
        cluster->nodes[leader].clock.wall_off_ms = 0;
        if (i % 2 == 1) { /* the jump comes with an election */
            cluster->nodes[(leader + 1) % cluster->n_nodes].clock.wall_off_ms = jumps_ms[i];
            sim_node_crash(&cluster->nodes[leader]);
            sim_cluster_restart_later(cluster, leader, 500 * MS);
            sim_cluster_run(cluster, 2 * SECOND);
            cluster->nodes[(leader + 1) % cluster->n_nodes].clock.wall_off_ms = 0;
        }
    }
}

static bool leads(struct sim_cluster *cluster, void *node)
{
    (void)cluster;
    return sim_node_leads(node);
}

static void start_again(struct sim_cluster *cluster, unsigned node, int64_t wall_off_ms)
{
    sim_node_crash(&cluster->nodes[node]);
    cluster->nodes[node].clock.wall_off_ms = wall_off_ms;
    sim_node_start(&cluster->nodes[node]);
}

/* After a restart, with wall clocks that are a minute ahead, a leader takes the time from them, but is cut off before
 * it stamps anything. When it leads again, time goes on from what others have stamped meanwhile. */
static void clock_unused(struct sim_cluster *cluster)
{
    sim_workload_stop(&cluster->workload);
    sim_cluster_run(cluster, 5 * SECOND); /* all lifetimes end */
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        start_again(cluster, i, 60000);
    }
    const unsigned old = leader_of(cluster);
    struct sim_node *node = &cluster->nodes[old];
    sim_cluster_run(cluster, 1 * SECOND);
    require(cluster, replica_is_leader(node->replica), "the leader knows the time");
    sim_cluster_isolate(cluster, old, true, true);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (i != old) {
            start_again(cluster, i, 0);
        }
    }
    node->clock.wall_off_ms = 0;
    sim_cluster_run(cluster, 1 * SECOND); /* it leads no more */
    sim_workload_start(&cluster->workload);
    sim_cluster_run(cluster, 1 * SECOND);
    sim_cluster_isolate(cluster, old, false, false);
    sim_cluster_run(cluster, 1 * SECOND);
    const uint64_t time_ms = store_time_ms(cluster->nodes[leader_of(cluster)].store);
    const uint64_t from_us = cluster->world.now_us;
    sim_node_transfer(&cluster->nodes[leader_of(cluster)], node->id);
    sim_cluster_expect(cluster, leads, node, 2 * SECOND, "liveness", "the old leader leads again");
    expect_write(cluster, 2 * SECOND, "writes go on after that");
    const uint64_t real_ms = (cluster->world.now_us - from_us) / 1000;
    require(cluster, store_time_ms(node->store) <= time_ms + real_ms + real_ms / 20 + 5,
            "time steps when a leader returns that had stamped nothing");
}

static void stalled_leader(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 5 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);

        sim_node_pause(&cluster->nodes[leader], sim_random_range(&cluster->random, 200 * MS, 2500 * MS));
        expect_write(cluster, 6 * SECOND, "writes go on while the leader is stalled");
        sim_cluster_run(cluster, 1 * SECOND);
    }
}

/* --- The network beyond TCP ------------------------------------------------------------------------------------------
 */

static void chaos(struct sim_cluster *cluster)
{
    cluster->net.chaos = true;
    cluster->net.chaos_delay_us = 30 * MS;
    cluster->net.lose_ppm = 30000;
    cluster->net.double_ppm = 100000;
    sim_cluster_run(cluster, 5 * SECOND);
    leader_crash(cluster);
}

static void late_frames(struct sim_cluster *cluster)
{
    cluster->net.late = true;
    for (unsigned round = 0; round < 30 && !cluster->world.violated; round++) {
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            for (unsigned k = 0; k < cluster->n_nodes; k++) {
                if (i != k && sim_random_chance(&cluster->random, 400000)) {
                    sim_net_break(&cluster->net, i, k);
                }
            }
        }
        sim_cluster_run(cluster, sim_random_range(&cluster->random, 50 * MS, 400 * MS));
    }
}

static void quiet(struct sim_cluster *cluster)
{
    uint64_t elections = cluster->check.elections;

    sim_cluster_run(cluster, 10 * SECOND);
    require(cluster, cluster->check.elections == elections, "without faults the leader must stay");
    require(cluster, cluster->workload.unknown == 0, "without faults every outcome is known");
}

const struct sim_scenario sim_scenarios[] = {
    {"quiet", "no faults at all: one leader throughout, every outcome known", 3, quiet},
    {"leader-crash", "the leader crashes under load, again and again", 3, leader_crash},
    {"dead-leader-replaced", "links break with their leader: the next one stands at once", 3, dead_leader_replaced},
    {"all-crash", "all nodes crash at once under load", 3, all_crash},
    {"minority-crash", "the leader and another of five nodes crash", 5, minority_crash},
    {"single-node", "a node of its own crashes under load", 1, all_crash},
    {"power-cut", "the power goes everywhere while all disks are busy with a write", 3, power_cut},
    {"torn-tail", "crashes in the middle of log writes leave torn blocks", 3, torn_tail},
    {"crash-inside", "crashes at the n-th call of an event: between vote and message, in recovery", 3, crash_inside},
    {"restart-storm", "random crashes and stops, faster than elections", 3, restart_storm},
    {"orderly-restart", "all nodes are stopped in an orderly way and started", 3, orderly_restart},
    {"lagging-follower", "a follower returns after the in-memory log has moved on: entries are read from disk", 3,
     lagging_follower},
    {"leader-mute", "one-way partition: nobody hears the leader", 3, leader_mute},
    {"leader-deaf", "one-way partition: the leader hears nobody, but is heard", 3, leader_deaf},
    {"isolated-tail", "an isolated leader's uncommitted tail is replaced when it returns", 5, isolated_tail},
    {"elections", "many elections in a row", 5, elections},
    {"double-vote", "a voter crashes after its vote and meets a candidate of the same term", 3, double_vote},
    {"pre-vote-term", "the node with the better log has the earlier term", 3, pre_vote_term},
    {"stale-read", "an isolated old leader must not answer reads", 3, stale_read},
    {"replaced-in-flight", "a tail is replaced while the disk still writes it, and the write must not count", 5,
     replaced_in_flight},
    {"vote-guard", "a restarted voter is asked for its vote while its echo backs a lease", 3, vote_guard},
    {"transfer-under-grant", "leadership is handed over while a cut-off node may read locally", 3,
     transfer_under_grant},
    {"transfers", "leadership is handed over under load", 5, transfers},
    {"reads-return", "leases and grants come back while reads are confirmed by a quorum", 3, sim_hazard_reads_return},
    {"no-extra-trip", "a write takes as many frames of the leader with grants out as without grants", 3,
     sim_hazard_no_extra_trip},
    {"transfer-cut", "a leader hands over and hears nothing of its successor", 3, sim_hazard_transfer_cut},
    {"transfer-behind", "leadership is handed to a node that still writes what others have stored", 3,
     sim_hazard_transfer_behind},
    {"deposed-grants", "a leader steps down while a cut-off node holds its grant, and is asked for its vote", 3,
     sim_hazard_deposed_grants},
    {"clock-slow-leader", "the leader's clock is slow, beyond the bound; then it is cut off", 3,
     sim_hazard_slow_leader},
    {"clock-stopped", "the leader's clock stands still; then it is cut off", 3, sim_hazard_stopped_leader},
    {"clock-fast-voter", "a voter's clock is fast, beyond the bound; then the leader is cut off", 3,
     sim_hazard_fast_voter},
    {"clock-slow-reader", "a grantee's clock is slow, beyond the bound; then it is cut off", 3, sim_hazard_slow_reader},
    {"slow-follower", "a follower's disk is 400 times slower", 3, slow_follower},
    {"slow-leader", "the leader's disk is 400 times slower", 3, slow_leader},
    {"full-disk", "all disks fill up: writes are refused, reads go on, leadership can move", 3, full_disk},
    {"disk-errors", "a failed write stops a node; it recovers when started again", 3, disk_errors},
    {"log-flip", "a bit flips in an entry far back in the log: the node does not start", 3, log_flip},
    {"bit-flips", "a flipped bit in durable data: refuse, but never serve wrong data", 3, bit_flips},
    {"clock-jump", "wall clocks of leaders jump by hours: no key expires early", 3, clock_jump},
    {"clock-unused", "a leader that took the time from wall clocks, but stamped nothing, leads again: no step", 3,
     clock_unused},
    {"stalled-leader", "the leader's process is stalled, then goes on", 3, stalled_leader},
    {"chaos", "frames are lost, doubled and reordered", 3, chaos},
    {"late-frames", "frames of old connections arrive after those of newer ones", 3, late_frames},
    {"upgrade", "a rolling upgrade: the feature level is raised when all nodes understand it, not before", 3,
     sim_upgrade},
    {"spoilt", "the content of a replica goes wrong: it is quarantined, and nobody reads from it", 3,
     sim_spoilt_replicas},
    {"spoilt-no-majority", "two contents differ, and the third node is away: reads are refused until it returns", 3,
     sim_spoilt_without_majority},
    {"rebuild", "a follower's content goes wrong, then the leader's: each is made anew from the others'", 3,
     sim_rebuild},
    {"rebuild-again", "it goes wrong again soon after: the node stays in quarantine", 3, sim_rebuild_again},
    {"rebuild-promises", "what a node acknowledged in quarantine is not lost when it is rebuilt", 3,
     sim_rebuild_promises},
    {"rebuild-crash", "nodes crash and leaders change while one is rebuilt", 3, sim_rebuild_crash},
    {"member-add", "a node with an empty disk is added, promoted, and one of the old ones dies", 4, sim_member_add},
    {"member-rolling", "all nodes are replaced, one after the other", 6, sim_member_rolling},
    {"member-leader", "the leader hands over and is removed", 4, sim_member_leader},
    {"member-returns", "a removed node that has not heard of it comes back and disturbs nobody", 4, sim_member_returns},
    {"member-away", "a voter was away while all others were replaced: its leader is unknown to it", 5, sim_member_away},
    {"member-rollback", "a change is rolled back, not the committed one before it", 7, sim_member_rollback},
    {"member-two", "changes are proposed one right after the other, while the leader is cut off", 8, sim_member_two},
    {"member-grants", "a lone voter restarts while a learner holds its grant", 2, sim_member_grants},
    {"member-sole", "the leader of two dies before the demotion of the other is on its disk", 2, sim_member_sole},
    {"member-one", "from one node to three and back", 3, sim_member_one},
    {"install", "a follower was away for longer than the log reaches back: it gets a snapshot", 3, sim_install_plain},
    {"install-resume", "links break during a snapshot's transfer: it goes on where it was", 3, sim_install_resume},
    {"install-leader", "leadership moves during a snapshot's transfer: it goes on where it was", 3, sim_install_leader},
    {"install-sender", "the node that sends a snapshot is cut off: another one sends its own", 3, sim_install_sender},
    {"install-crash", "crashes at any point of a snapshot's transfer and installation", 3, sim_install_crash},
    {"install-synced", "the power fails right after an installation", 3, sim_install_synced},
    {"install-damaged", "the snapshot to be sent is damaged: the leader takes another one", 3, sim_install_damaged},
    {"install-damaged-idle", "the same while nobody writes", 3, sim_install_damaged_idle},
    {"install-slow", "the receiver's disk is slow: no more comes than it takes, and nothing twice", 3,
     sim_install_slow},
    {"install-full", "the receiver's disk is full: it fetches the snapshot once there is room", 3, sim_install_full},
    {"install-join", "a new node joins, far behind the log", 4, sim_install_join},
    {"install-pruned", "a transfer is given up in the midst of a read: its file is not removed before that ends", 3,
     sim_install_pruned},
    {"install-released", "a transfer is given up and nobody writes: the log that was kept for it goes", 3,
     sim_install_released},
    {"overtaken-checking", "the log is faster than a received snapshot being checked: its file goes once it is closed",
     3, sim_overtaken_checking},
    {"overtaken-loading", "the log is faster than a received snapshot being loaded: its file goes once it is closed", 3,
     sim_overtaken_loading},
    {"snapshot-restart", "all nodes restart from snapshots, again and again, and the log before them is gone", 3,
     sim_snapshot_restart},
    {"snapshot-crash", "nodes crash while they take snapshots", 3, sim_snapshot_crash},
    {"snapshot-cut", "snapshots taken so slowly that writes change everything meanwhile: nodes start from them", 3,
     sim_snapshot_cut},
    {"snapshot-one", "a lone voter restarts from snapshots, nothing of its log is kept", 1, sim_snapshot_one},
    {"snapshot-damaged", "the newest snapshot is damaged: the one before it and the log serve", 3,
     sim_snapshot_damaged},
    {"snapshot-lost", "the newest snapshot is damaged, and the log does not reach back: refuse", 3, sim_snapshot_lost},
    {"snapshot-full", "the disk fills up while a snapshot is written", 3, sim_snapshot_full},
    {"snapshot-members", "a restart from a snapshot in the middle of changes of the configuration", 4,
     sim_snapshot_members},
    {0},
};

const struct sim_scenario *sim_scenario_find(const char *name)
{
    for (const struct sim_scenario *scenario = sim_scenarios; scenario->name != NULL; scenario++) {
        if (strcmp(scenario->name, name) == 0) {
            return scenario;
        }
    }
    return NULL;
}
