#include "tests/sim/sim_times.h"

#include "tests/sim/sim_story.h"

#define MS 1000u
#define SECOND 1000000u

void sim_time_jump(struct sim_cluster *cluster)
{
    static const int64_t jumps_ms[] = {3600000, -3600000, INT64_C(31536000000), 0};

    for (unsigned i = 0; i < 4 && !cluster->world.violated; i++) {
        unsigned leader = sim_story_leader(cluster);

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
void sim_time_unused(struct sim_cluster *cluster)
{
    sim_workload_stop(&cluster->workload);
    sim_cluster_run(cluster, 5 * SECOND); /* all lifetimes end */
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        start_again(cluster, i, 60000);
    }
    const unsigned old = sim_story_leader(cluster);
    struct sim_node *node = &cluster->nodes[old];
    sim_cluster_run(cluster, 1 * SECOND);
    sim_story_require(cluster, replica_is_leader(node->replica), "the leader knows the time");
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
    const uint64_t time_ms = store_time_ms(cluster->nodes[sim_story_leader(cluster)].store);
    const uint64_t from_us = cluster->world.now_us;
    sim_node_transfer(&cluster->nodes[sim_story_leader(cluster)], node->id);
    sim_cluster_expect(cluster, leads, node, 2 * SECOND, "liveness", "the old leader leads again");
    sim_story_expect_write(cluster, 2 * SECOND, "writes go on after that");
    const uint64_t real_ms = (cluster->world.now_us - from_us) / 1000;
    /* What was applied last may have been stamped a while before; a step would be of a minute. */
    sim_story_require(cluster, store_time_ms(node->store) <= time_ms + real_ms + real_ms / 20 + 1000,
                      "time steps when a leader returns that had stamped nothing");
}

void sim_time_stall(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 5 && !cluster->world.violated; round++) {
        unsigned leader = sim_story_leader(cluster);

        sim_node_pause(&cluster->nodes[leader], sim_random_range(&cluster->random, 200 * MS, 2500 * MS));
        sim_story_expect_write(cluster, 6 * SECOND, "writes go on while the leader is stalled");
        sim_cluster_run(cluster, 1 * SECOND);
    }
}
