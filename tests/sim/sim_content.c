#include "tests/sim/sim_content.h"

#include <assert.h>
#include <stdlib.h>

#define MS 1000u
#define SECOND 1000000u

struct wait {
    unsigned node;
    uint64_t since_us;
};

static void require(struct sim_cluster *cluster, bool holds, const char *what)
{
    if (!holds) {
        sim_world_violation(&cluster->world, "quarantine", "%s", what);
    }
}

static bool is_quarantined(struct sim_cluster *cluster, void *arg)
{
    const struct sim_node *node = &cluster->nodes[((const struct wait *)arg)->node];

    return node->state == SIM_NODE_UP && replica_is_quarantined(node->replica);
}

static uint64_t rebuilds_of(const struct sim_node *node)
{
    struct replica_info info = {0};

    if (node->state == SIM_NODE_UP) {
        replica_info(node->replica, &info);
    }
    return info.rebuilds;
}

static bool is_rebuilt(struct sim_cluster *cluster, void *arg)
{
    const struct sim_node *node = &cluster->nodes[((const struct wait *)arg)->node];

    return node->state == SIM_NODE_UP && !replica_is_quarantined(node->replica) && rebuilds_of(node) > 0;
}

static bool is_well(struct sim_cluster *cluster, void *arg)
{
    const struct sim_node *node = &cluster->nodes[((const struct wait *)arg)->node];

    return node->state == SIM_NODE_UP && !replica_is_quarantined(node->replica) && !node->wrong && node->spoilt == 0;
}

/* All nodes have applied the same, and hold the same. */
static bool is_same(struct sim_cluster *cluster, void *arg)
{
    const struct sim_node *first = &cluster->nodes[0];

    (void)arg;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct sim_node *node = &cluster->nodes[i];
        if (node->state != SIM_NODE_UP || replica_applied(node->replica) != replica_applied(first->replica) ||
            store_digest(node->store) != store_digest(first->store)) {
            return false;
        }
    }
    return true;
}

static bool reads_locally(struct sim_cluster *cluster, void *arg)
{
    const struct wait *wait = arg;

    return cluster->nodes[wait->node].local_reads > wait->since_us;
}

static bool refuses_reads(struct sim_cluster *cluster, void *arg)
{
    const struct sim_node *node = &cluster->nodes[((const struct wait *)arg)->node];

    return node->state == SIM_NODE_UP && replica_reads_refused(node->replica);
}

static bool answers_reads(struct sim_cluster *cluster, void *arg)
{
    return cluster->workload.last_read_us > ((const struct wait *)arg)->since_us;
}

static bool takes_writes(struct sim_cluster *cluster, void *arg)
{
    return cluster->workload.last_write_us > ((const struct wait *)arg)->since_us;
}

static bool other_leads(struct sim_cluster *cluster, void *arg)
{
    const int leader = sim_cluster_leader(cluster);

    return leader >= 0 && (unsigned)leader != ((const struct wait *)arg)->node;
}

static bool expect(struct sim_cluster *cluster, bool (*holds)(struct sim_cluster *cluster, void *arg), unsigned node,
                   const char *what)
{
    struct wait wait = {.node = node, .since_us = cluster->world.now_us + 2000};

    return sim_cluster_expect(cluster, holds, &wait, 8 * SECOND, "quarantine", what);
}

static unsigned leader_of(struct sim_cluster *cluster)
{
    sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, 5 * SECOND, "liveness", "a leader is elected");
    return sim_cluster_leader(cluster) < 0 ? 0 : (unsigned)sim_cluster_leader(cluster);
}

static void spoil(struct sim_cluster *cluster, unsigned node)
{
    sim_world_log(&cluster->world, "node %u: its content goes wrong", node + 1);
    cluster->check.differences_expected = true;
    cluster->nodes[node].spoilt = 1;
}

/* Now it would answer that there is nothing at all. */
static void make_wrong(struct sim_node *node)
{
    const struct iovec argv = {"FLUSHALL", 8};
    struct store_batch batch;
    void *data;
    size_t len;

    store_batch_init(&batch, 4096);
    enum store_status status = store_batch_add(&batch, &argv, 1);
    assert(status == STORE_OK);
    status = store_batch_seal(&batch, store_time_ms(node->store), &data, &len);
    assert(status == STORE_OK);
    (void)status;
    node->wrong = true;
    store_apply(node->store, data, len, NULL);
    free(data);
    store_batch_fini(&batch);
}

/* Nodes in quarantine wait for an operator. */
static void leave_alone(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].config.replica.rebuild_off = true;
        if (cluster->nodes[i].state == SIM_NODE_UP) {
            replica_rebuild_configure(cluster->nodes[i].replica, false);
        }
    }
}

static void begin_anew(struct sim_cluster *cluster, unsigned node)
{
    sim_node_crash(&cluster->nodes[node]);
    sim_node_start(&cluster->nodes[node]);
    sim_cluster_run(cluster, 2 * SECOND);
    require(cluster, cluster->world.violated || !replica_is_quarantined(cluster->nodes[node].replica),
            "a restart makes the content anew");
}

/* A follower, then a leader: each is found out, and nobody reads from it any more. */
void sim_spoilt_replicas(struct sim_cluster *cluster)
{
    leave_alone(cluster);
    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        const unsigned leader = leader_of(cluster);
        const unsigned node = (leader + (round % 2 == 0)) % 3;
        const unsigned third = 3 - leader - (node == leader ? (leader + 1) % 3 : node);

        spoil(cluster, node);
        if (!expect(cluster, is_quarantined, node, "a replica whose content differs is found out")) {
            return;
        }
        make_wrong(&cluster->nodes[node]);
        const uint64_t local_reads = cluster->nodes[node].local_reads;
        expect(cluster, other_leads, node, "another node leads");
        expect(cluster, answers_reads, node, "reads go on");
        expect(cluster, takes_writes, node, "writes go on");
        sim_cluster_run(cluster, 1 * SECOND);
        require(cluster, cluster->nodes[node].local_reads == local_reads, "a quarantined node answers no reads");
        if (node != leader) { /* it votes, but it does not stand: so nobody else's log may be shorter than its own */
            sim_workload_stop(&cluster->workload);
            sim_cluster_run(cluster, 500 * MS);
            sim_node_crash(&cluster->nodes[leader]);
            sim_workload_start(&cluster->workload);
            expect(cluster, other_leads, leader, "its vote elects another node");
            require(cluster, cluster->world.violated || leader_of(cluster) == third, "a quarantined node stood");
            sim_node_start(&cluster->nodes[leader]);
        }
        begin_anew(cluster, node);
    }
}

static bool is_any_quarantined(const struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct sim_node *node = &cluster->nodes[i];
        if (node->state == SIM_NODE_UP && (replica_is_quarantined(node->replica) || rebuilds_of(node) > 0)) {
            return true;
        }
    }
    return false;
}

/* Two of three nodes are up, and their contents differ: nobody reads until the third says who is right. */
void sim_spoilt_without_majority(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        const unsigned leader = leader_of(cluster);
        const unsigned away = (leader + 1) % 3;
        const unsigned node = round % 2 == 0 ? (leader + 2) % 3 : leader;
        const unsigned good = 3 - away - node;

        sim_node_crash(&cluster->nodes[away]);
        spoil(cluster, node);
        expect(cluster, refuses_reads, node, "contents that differ are noticed");
        expect(cluster, refuses_reads, good, "by both");
        expect(cluster, takes_writes, node, "writes go on");
        const uint64_t reads = cluster->nodes[node].local_reads + cluster->nodes[good].local_reads;
        sim_cluster_run(cluster, 1 * SECOND);
        require(cluster, !is_any_quarantined(cluster), "a node is in quarantine although nobody knows who is right");
        require(cluster, cluster->nodes[node].local_reads + cluster->nodes[good].local_reads == reads,
                "reads were answered although nobody knows who is right");
        sim_node_start(&cluster->nodes[away]);
        if (!expect(cluster, is_quarantined, node, "the third node's digest decides")) {
            return;
        }
        make_wrong(&cluster->nodes[node]);
        expect(cluster, answers_reads, node, "reads go on");
        sim_cluster_run(cluster, 500 * MS);
        begin_anew(cluster, node);
    }
}

/* --- Rebuilding --------------------------------------------------------------------------------------------------- */

/* Content goes wrong and is found out; from then on it is wrong indeed. */
static bool spoil_and_find(struct sim_cluster *cluster, unsigned node)
{
    spoil(cluster, node);
    if (!expect(cluster, is_quarantined, node, "a replica whose content differs is found out")) {
        return false;
    }
    make_wrong(&cluster->nodes[node]);
    return true;
}

/* So that it takes a while. */
static void slow_down(struct sim_cluster *cluster, uint64_t rate)
{
    const struct replica_snapshot_config config = {.transfer_rate = rate};

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].config.replica.snapshots = config;
        if (cluster->nodes[i].state == SIM_NODE_UP) {
            replica_snapshot_configure(cluster->nodes[i].replica, &config);
        }
    }
}

static void expect_reads(struct sim_cluster *cluster, unsigned node)
{
    struct wait wait = {.node = node, .since_us = cluster->nodes[node].local_reads};

    sim_cluster_expect(cluster, reads_locally, &wait, 20 * SECOND, "quarantine", "a rebuilt node reads locally again");
}

static void expect_same(struct sim_cluster *cluster)
{
    sim_workload_stop(&cluster->workload);
    expect(cluster, is_same, 0, "a rebuilt node holds what the others hold");
    sim_workload_start(&cluster->workload);
}

void sim_rebuild(struct sim_cluster *cluster)
{
    const unsigned leader = leader_of(cluster);
    const unsigned nodes[] = {(leader + 1) % 3, leader};

    for (unsigned i = 0; i < 2 && !cluster->world.violated; i++) {
        if (!spoil_and_find(cluster, nodes[i])) {
            return;
        }
        expect(cluster, takes_writes, nodes[i], "writes go on");
        expect(cluster, answers_reads, nodes[i], "reads go on");
        expect(cluster, is_rebuilt, nodes[i], "its content is made anew");
        expect_reads(cluster, nodes[i]);
        expect_same(cluster);
    }
}

void sim_rebuild_again(struct sim_cluster *cluster)
{
    const unsigned node = (leader_of(cluster) + 1) % 3;

    if (!spoil_and_find(cluster, node) || !expect(cluster, is_rebuilt, node, "its content is made anew") ||
        !spoil_and_find(cluster, node)) {
        return;
    }
    sim_cluster_run(cluster, 10 * SECOND);
    require(cluster, cluster->world.violated || rebuilds_of(&cluster->nodes[node]) == 1, "it was rebuilt twice");
    require(cluster, cluster->world.violated || replica_is_quarantined(cluster->nodes[node].replica),
            "it has left quarantine");
    expect(cluster, answers_reads, node, "reads go on");
    begin_anew(cluster, node);
    expect_same(cluster);
}

/* The third node goes away: from then on the quarantined one is the other half of a majority. What it has acknowledged
 * by the time it is rebuilt must be there when the leader is gone. */
void sim_rebuild_promises(struct sim_cluster *cluster)
{
    const unsigned leader = leader_of(cluster);
    const unsigned node = (leader + 1) % 3;
    const unsigned third = (leader + 2) % 3;

    slow_down(cluster, 8192);
    if (!spoil_and_find(cluster, node)) {
        return;
    }
    sim_node_crash(&cluster->nodes[third]);
    expect(cluster, takes_writes, node, "writes go on");
    sim_cluster_run(cluster, sim_random_range(&cluster->random, 0, 300 * MS));
    expect(cluster, is_rebuilt, node, "its content is made anew");
    sim_node_crash(&cluster->nodes[leader]);
    sim_node_start(&cluster->nodes[third]);
    expect(cluster, other_leads, leader, "the rebuilt node's log elects a leader");
    expect(cluster, takes_writes, node, "writes go on without the old leader");
    sim_node_start(&cluster->nodes[leader]);
    expect_same(cluster);
}

void sim_rebuild_crash(struct sim_cluster *cluster)
{
    struct sim_random *random = &cluster->random;

    slow_down(cluster, 16384);
    for (unsigned node = 0; node < 3 && !cluster->world.violated; node++) { /* each at most once in a life */
        const unsigned leader = leader_of(cluster);
        if (!spoil_and_find(cluster, node)) {
            return;
        }
        sim_cluster_run(cluster, sim_random_range(random, 0, 1500 * MS));
        const unsigned victim = sim_random_below(random, 3) == 0 ? leader : node;
        sim_node_crash(&cluster->nodes[victim]);
        sim_cluster_run(cluster, sim_random_range(random, 10 * MS, 700 * MS));
        sim_node_start(&cluster->nodes[victim]);
        expect(cluster, takes_writes, node, "writes go on");
        expect(cluster, is_well, node, "its content is made anew");
        expect_same(cluster);
    }
}
