#include "tests/sim/sim_upgrade.h"

#include <inttypes.h>

#define MS 1000u
#define SECOND 1000000u

static void require(struct sim_cluster *cluster, bool holds, const char *what)
{
    if (!holds) {
        sim_world_violation(&cluster->world, "feature level", "%s", what);
    }
}

static unsigned leader_of(struct sim_cluster *cluster)
{
    sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, 5 * SECOND, "liveness", "a leader is elected");
    return sim_cluster_leader(cluster) < 0 ? 0 : (unsigned)sim_cluster_leader(cluster);
}

static void restart_with(struct sim_cluster *cluster, unsigned node, uint32_t level)
{
    sim_node_stop(&cluster->nodes[node]);
    cluster->nodes[node].config.replica.feature_level_max = level;
    sim_node_start(&cluster->nodes[node]);
    sim_cluster_run(cluster, 1 * SECOND);
}

static bool all_are_at(struct sim_cluster *cluster, void *level)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct sim_node *node = &cluster->nodes[i];

        if (node->state != SIM_NODE_UP || replica_feature_level(node->replica) != *(const uint32_t *)level ||
            replica_change_pending(node->replica)) {
            return false;
        }
    }
    return true;
}

static void expect_level(struct sim_cluster *cluster, uint32_t level, const char *what)
{
    sim_cluster_expect(cluster, all_are_at, &level, 8 * SECOND, "feature level", what);
}

static bool takes_upgrade(struct sim_cluster *cluster, void *unused)
{
    const int leader = sim_cluster_leader(cluster);

    (void)unused;
    return leader >= 0 && sim_node_upgrade(&cluster->nodes[leader], 2) == REPLICA_OK;
}

static void expect_upgrade(struct sim_cluster *cluster)
{
    sim_cluster_expect(cluster, takes_upgrade, NULL, 5 * SECOND, "feature level", "the leader raises the level");
}

/* A raised level that was never committed is taken back with its entry. */
static void roll_back(struct sim_cluster *cluster)
{
    const unsigned leader = leader_of(cluster);

    sim_cluster_isolate(cluster, leader, true, true);
    require(cluster, sim_node_upgrade(&cluster->nodes[leader], 2) == REPLICA_OK, "a leader that is cut off proposes");
    sim_cluster_run(cluster, 3 * SECOND);
    sim_cluster_isolate(cluster, leader, false, false);
    sim_cluster_run(cluster, 1 * SECOND);
    expect_level(cluster, 1, "a level that was not committed is taken back");
}

void sim_upgrade(struct sim_cluster *cluster)
{
    const unsigned late = (leader_of(cluster) + 1) % 3;

    for (unsigned i = 0; i < 3 && !cluster->world.violated; i++) {
        if (i != late) {
            restart_with(cluster, i, 2);
        }
    }
    for (unsigned i = 0; i < 5 && !cluster->world.violated; i++) {
        const unsigned leader = leader_of(cluster);

        require(cluster, sim_node_upgrade(&cluster->nodes[leader], 2) == REPLICA_CONFIG,
                "one node does not understand the level");
        sim_cluster_run(cluster, 300 * MS);
    }
    if (cluster->world.violated) {
        return;
    }
    restart_with(cluster, late, 2);
    roll_back(cluster);
    expect_upgrade(cluster);
    expect_level(cluster, 2, "all nodes are at the new level");
    for (unsigned i = 0; i < 3 && !cluster->world.violated; i++) {
        sim_node_crash(&cluster->nodes[i]);
        sim_node_start(&cluster->nodes[i]);
    }
    expect_level(cluster, 2, "the level outlives a restart");
    if (cluster->world.violated) {
        return;
    }
    sim_node_stop(&cluster->nodes[late]); /* and back to the old version */
    cluster->nodes[late].config.replica.feature_level_max = 1;
    cluster->nodes[late].damaged = true; /* it may refuse */
    sim_node_start(&cluster->nodes[late]);
    sim_cluster_run(cluster, 1 * SECOND);
    require(cluster, cluster->nodes[late].state == SIM_NODE_STOPPED, "an old version starts on new entries");
    cluster->nodes[late].damaged = false;
    cluster->nodes[late].config.replica.feature_level_max = 2;
    if (!cluster->world.violated) {
        sim_node_start(&cluster->nodes[late]);
    }
    sim_cluster_run(cluster, 1 * SECOND);
}
