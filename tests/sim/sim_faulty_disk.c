#include "tests/sim/sim_faulty_disk.h"

#include <inttypes.h>

#include "tests/sim/sim_story.h"

#define MS 1000u
#define SECOND 1000000u

void sim_faulty_disk_slow_follower(struct sim_cluster *cluster)
{
    unsigned follower = sim_story_follower(cluster);

    cluster->nodes[follower].disk.slow_factor = 400;
    for (unsigned i = 0; i < 6; i++) {
        sim_story_expect_write(cluster, 2 * SECOND, "a slow follower must not hold up writes");
        sim_cluster_run(cluster, 500 * MS);
    }
}

void sim_faulty_disk_slow_leader(struct sim_cluster *cluster)
{
    unsigned leader = sim_story_leader(cluster);

    cluster->nodes[leader].disk.slow_factor = 400;
    for (unsigned i = 0; i < 6; i++) {
        sim_story_expect_write(cluster, 4 * SECOND, "the followers' disks are enough for a quorum");
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

void sim_faulty_disk_full(struct sim_cluster *cluster)
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
    sim_node_pause(&cluster->nodes[sim_story_leader(cluster)], 1500 * MS);
    sim_cluster_run(cluster, 1 * SECOND);
    since_us = cluster->world.now_us;
    sim_cluster_expect(cluster, read_since, &since_us, 4 * SECOND, "liveness", "a new leader reads with a full disk");
}

static bool is_stopped(struct sim_cluster *cluster, void *node)
{
    return cluster->nodes[*(const unsigned *)node].state == SIM_NODE_STOPPED;
}

void sim_faulty_disk_errors(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        unsigned node = round % 2 == 0 ? sim_story_follower(cluster) : sim_story_leader(cluster);

        cluster->nodes[node].may_stop = true;
        cluster->nodes[node].disk.write_error_ppm = 1000000;
        sim_cluster_expect(cluster, is_stopped, &node, 2 * SECOND, "scenario", "a failed write stops the node");
        cluster->nodes[node].disk.write_error_ppm = 0;
        sim_story_expect_write(cluster, 5 * SECOND, "the others go on");
        sim_node_start(&cluster->nodes[node]);
        sim_cluster_run(cluster, 500 * MS);
    }
}

void sim_faulty_disk_bits(struct sim_cluster *cluster)
{
    unsigned node;
    char name[64];
    uint64_t offset;

    sim_cluster_run(cluster, 2 * SECOND);
    sim_workload_stop(&cluster->workload);
    sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, 5 * SECOND, "convergence", "before the damage");
    node = sim_story_follower(cluster);
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
void sim_faulty_disk_log(struct sim_cluster *cluster)
{
    char name[64];

    sim_cluster_run(cluster, 4 * SECOND); /* of every hundred writes six have a value padded with dots */
    sim_workload_stop(&cluster->workload);
    sim_cluster_expect(cluster, sim_cluster_is_converged, NULL, 5 * SECOND, "convergence", "before the damage");
    struct sim_node *node = &cluster->nodes[sim_story_follower(cluster)];
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
