#include "tests/sim/sim_links.h"

#include "tests/sim/sim_crashes.h"
#include "tests/sim/sim_story.h"

#define MS 1000u
#define SECOND 1000000u

static void one_way(struct sim_cluster *cluster, bool in, bool out)
{
    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);

        sim_cluster_isolate(cluster, leader, in, out);
        sim_cluster_expect(cluster, sim_story_other_leads, &leader, 8 * SECOND, "liveness", "another node takes over");
        sim_story_expect_write(cluster, 5 * SECOND, "writes go on behind a one-way partition");
        sim_cluster_run(cluster, 500 * MS);
        sim_cluster_isolate(cluster, leader, false, false);
        sim_cluster_run(cluster, 1 * SECOND);
    }
}

void sim_link_mute(struct sim_cluster *cluster)
{
    one_way(cluster, false, true);
}

void sim_link_deaf(struct sim_cluster *cluster)
{
    one_way(cluster, true, false);
}

void sim_link_tail(struct sim_cluster *cluster)
{
    unsigned cut = 0;

    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);
        struct replica_info info;

        sim_cluster_isolate(cluster, leader, true, true);
        sim_cluster_expect(cluster, sim_story_other_leads, &leader, 8 * SECOND, "liveness", "another node takes over");
        sim_story_expect_write(cluster, 5 * SECOND, "the rest goes on");
        sim_cluster_run(cluster, 300 * MS);
        if (cluster->nodes[leader].state == SIM_NODE_UP) {
            replica_info(cluster->nodes[leader].replica, &info);
            cut += info.last > info.commit ? 1 : 0;
        }
        sim_cluster_isolate(cluster, leader, false, false);
        sim_cluster_run(cluster, 1500 * MS);
    }
    sim_story_require(cluster, cut > 0, "an isolated leader must have had a tail to be replaced");
}

void sim_link_elections(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 12 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);

        sim_cluster_isolate(cluster, leader, true, true);
        sim_cluster_expect(cluster, sim_story_other_leads, &leader, 8 * SECOND, "liveness", "another node takes over");
        sim_cluster_run(cluster, sim_random_below(&cluster->random, 200 * MS));
        sim_cluster_isolate(cluster, leader, false, false);
        sim_cluster_run(cluster, sim_random_below(&cluster->random, 300 * MS));
    }
    sim_story_require(cluster, cluster->check.elections >= 8, "many terms must have had a leader");
}

void sim_link_stale_read(struct sim_cluster *cluster)
{
    unsigned old = sim_story_leader(cluster);
    const struct sim_op *write;
    const struct sim_op *read;

    sim_workload_stop(&cluster->workload);
    sim_cluster_run(cluster, 2 * SECOND);
    old = sim_story_leader(cluster);
    write = sim_workload_probe(&cluster->workload, SIM_SET, "probe", "old", 0, old);
    sim_cluster_run(cluster, 500 * MS);
    sim_story_require(cluster, write->state == SIM_OP_OK, "the first write must succeed");
    sim_cluster_isolate(cluster, old, true, true);
    sim_cluster_expect(cluster, sim_story_other_leads, &old, 8 * SECOND, "liveness", "another node takes over");
    if (cluster->world.violated) {
        return;
    }
    write = sim_workload_probe(&cluster->workload, SIM_SET, "probe", "new", 0, (unsigned)sim_cluster_leader(cluster));
    sim_cluster_run(cluster, 500 * MS);
    sim_story_require(cluster, write->state == SIM_OP_OK, "the second write must succeed");
    read = sim_workload_probe(&cluster->workload, SIM_GET, "probe", NULL, 0, old);
    sim_cluster_run(cluster, 2 * SECOND);
    sim_story_require(cluster, read->state != SIM_OP_OK, "an isolated old leader must not answer a read");
    sim_story_require(cluster, read->state != SIM_OP_PENDING, "the read must have ended");
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
void sim_link_double_vote(struct sim_cluster *cluster)
{
    sim_workload_stop(&cluster->workload);
    for (unsigned round = 0; round < 12 && !cluster->world.violated; round++) {
        unsigned old = sim_story_leader(cluster);
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
void sim_link_pre_vote_term(struct sim_cluster *cluster)
{
    unsigned old = sim_story_leader(cluster);
    unsigned a = (old + 1) % 3, b = (old + 2) % 3;
    const uint64_t term = replica_term(cluster->nodes[old].replica) + 1;
    const uint64_t until_us = cluster->world.now_us + 5 * SECOND;

    cluster->nodes[old].config.pipeline = true; /* it goes on writing when nobody answers any more */
    sim_cluster_isolate(cluster, old, true, true);
    while (!is_in_term(cluster, a, term) && !is_in_term(cluster, b, term) && !cluster->world.violated &&
           sim_world_step(&cluster->world, until_us)) {
    }
    sim_story_require(cluster, is_in_term(cluster, a, term) != is_in_term(cluster, b, term), "one of two stands");
    const unsigned stood = is_in_term(cluster, a, term) ? a : b;
    sim_node_crash(&cluster->nodes[stood == a ? b : a]);
    sim_cluster_run(cluster, 800 * MS);
    sim_story_require(cluster, is_in_term(cluster, stood, term + 1), "it stands again");
    sim_node_crash(&cluster->nodes[stood]);
    sim_node_start(&cluster->nodes[stood]);
    sim_cluster_run(cluster, 1 * SECOND);
    sim_cluster_isolate(cluster, old, false, false);
    sim_story_expect_write(cluster, 5 * SECOND, "the two that are left elect a leader");
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
void sim_link_replaced(struct sim_cluster *cluster)
{
    unsigned apart[2] = {sim_story_leader(cluster), 0};
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
    sim_story_block_pair(cluster, apart[1], leader, false);
    sim_story_block_pair(cluster, apart[1], second, false);
    cluster->workload.config.timeout_us = 20 * SECOND; /* clients wait for the slow disk */
    sim_workload_start(&cluster->workload);
    since_us = cluster->world.now_us + 2000;
    sim_cluster_expect(cluster, sim_story_wrote_since, &since_us, 60 * SECOND, "liveness", "three nodes of five serve");
    sim_node_crash(&cluster->nodes[apart[1]]);
    sim_node_crash(&cluster->nodes[leader]);
    sim_node_crash(&cluster->nodes[second]);
    cluster->workload.config.timeout_us = 1500 * MS;
    cluster->nodes[apart[1]].disk.slow_factor = 1;
    sim_net_unblock_all(&cluster->net);
    sim_node_start(&cluster->nodes[apart[1]]);
    sim_cluster_run(cluster, 4 * SECOND);
}

/* --- The network beyond TCP ------------------------------------------------------------------------------------------
 */

void sim_link_chaos(struct sim_cluster *cluster)
{
    cluster->net.chaos = true;
    cluster->net.chaos_delay_us = 30 * MS;
    cluster->net.lose_ppm = 30000;
    cluster->net.double_ppm = 100000;
    sim_cluster_run(cluster, 5 * SECOND);
    sim_crash_leader(cluster);
}

void sim_link_late(struct sim_cluster *cluster)
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
