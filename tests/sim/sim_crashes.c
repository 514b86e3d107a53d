#include "tests/sim/sim_crashes.h"

#include "tests/sim/sim_story.h"

#define MS 1000u
#define SECOND 1000000u

void sim_crash_leader(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 8 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);

        sim_cluster_run(cluster, sim_random_below(&cluster->random, 300 * MS));
        sim_node_crash(&cluster->nodes[leader]);
        sim_cluster_restart_later(cluster, leader, 700 * MS);
        sim_story_expect_write(cluster, 5 * SECOND, "writes go on after a leader's crash");
        sim_cluster_run(cluster, 800 * MS);
    }
}

/* A crash breaks the links, which says more than silence: its followers stand in turns, the first 1.1 T after it. */
void sim_crash_replaced(struct sim_cluster *cluster)
{
    const uint64_t timeout_us = cluster->election_timeout_us;

    for (unsigned round = 0; round < 8 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);

        sim_story_expect_write(cluster, 5 * SECOND, "writes before the crash");
        sim_cluster_run(cluster, 2 * SECOND);
        sim_node_crash(&cluster->nodes[leader]);
        sim_cluster_expect(cluster, sim_story_other_leads, &leader, timeout_us * 14 / 10, "liveness",
                           "a leader that died is replaced within 1.4 election timeouts");
        sim_cluster_restart_later(cluster, leader, 100 * MS);
    }
}

void sim_crash_all(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 6 && !cluster->world.violated; round++) {
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_node_crash(&cluster->nodes[i]);
            sim_cluster_restart_later(cluster, i, sim_random_below(&cluster->random, 200 * MS));
        }
        sim_story_expect_write(cluster, 6 * SECOND, "writes go on after all crashed");
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

void sim_crash_torn(struct sim_cluster *cluster)
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
        sim_story_expect_write(cluster, 6 * SECOND, "writes go on after torn writes");
    }
    sim_story_require(cluster, torn_writes(cluster) > 3, "writes must have been in flight at crashes");
}

static void set_latency(struct sim_cluster *cluster, uint64_t latency_us)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].disk.latency_us = latency_us;
    }
}

/* The power goes everywhere while every disk still has its hands full with one write: what has been acknowledged since
 * that began must have been on a majority's disks all the same. */
void sim_crash_power(struct sim_cluster *cluster)
{
    const uint64_t usual_us = cluster->nodes[0].disk.latency_us;

    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        sim_story_leader(cluster);
        sim_story_expect_write(cluster, 6 * SECOND, "writes go on before the power goes");
        set_latency(cluster, 250 * MS);
        sim_cluster_run(cluster, 20 * MS);
        sim_story_expect_write(cluster, 6 * SECOND, "writes go on with slow disks");
        sim_cluster_run(cluster, 100 * MS);
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_node_crash(&cluster->nodes[i]);
            sim_cluster_restart_later(cluster, i, 100 * MS);
        }
        set_latency(cluster, usual_us);
        sim_story_expect_write(cluster, 6 * SECOND, "writes go on after the power cut");
    }
}

void sim_crash_inside(struct sim_cluster *cluster)
{
    for (unsigned round = 1; round <= 24 && !cluster->world.violated; round++) {
        unsigned node = round % 2 == 0 ? sim_story_leader(cluster) : sim_story_follower(cluster);

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

void sim_crash_storm(struct sim_cluster *cluster)
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

void sim_crash_orderly(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_node_stop(&cluster->nodes[i]);
        }
        sim_cluster_run(cluster, 100 * MS);
        sim_cluster_start_all(cluster);
        sim_story_expect_write(cluster, 5 * SECOND, "writes go on after an orderly restart");
        sim_cluster_run(cluster, 400 * MS);
    }
}

void sim_crash_minority(struct sim_cluster *cluster)
{
    unsigned leader = sim_story_leader(cluster);

    for (unsigned i = 0; i < cluster->n_nodes / 2; i++) {
        sim_node_crash(&cluster->nodes[(leader + i) % cluster->n_nodes]);
    }
    sim_story_expect_write(cluster, 5 * SECOND, "a bare majority serves");
    sim_cluster_run(cluster, 3 * SECOND);
}

void sim_crash_lagging(struct sim_cluster *cluster)
{
    unsigned follower = sim_story_follower(cluster);

    sim_node_crash(&cluster->nodes[follower]);
    sim_cluster_run(cluster, 6 * SECOND); /* far more than the in-memory tail holds */
    sim_node_start(&cluster->nodes[follower]);
    sim_cluster_run(cluster, 2 * SECOND);
}
