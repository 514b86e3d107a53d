#include "tests/sim/sim_members.h"

#include "tests/sim/sim_install.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define MS 1000u
#define SECOND 1000000u

/* --- Invariants ------------------------------------------------------------------------------------------------------
 */

static uint64_t servers_hash(const struct replica_info *info)
{
    uint64_t hash = info->n_servers;

    for (unsigned i = 0; i < info->n_servers; i++) {
        const struct replica_server *s = &info->servers[i];

        hash = XXH3_64bits_withSeed(s->address, strlen(s->address), hash * 31 + s->id * 2 + s->voter);
    }
    return hash;
}

void sim_check_configuration(struct sim_check *check, unsigned node, const struct replica_info *info)
{
    struct sim_committed_servers *known = NULL;

    if (info->n_servers == 0) {
        return;
    }
    for (unsigned i = 0; i < check->n_configurations; i++) {
        struct sim_committed_servers *c = &check->configurations[i];

        known = c->index == info->configuration_index ? c : known;
        if (info->applied >= c->index && info->configuration_index < c->index) {
            sim_world_violation(check->world, "configurations",
                                "node %u has applied %" PRIu64 " and uses the "
                                "configuration of %" PRIu64 ", but there is one of %" PRIu64,
                                node + 1, info->applied, info->configuration_index, c->index);
        }
    }
    if (!info->configuration_committed) {
        return;
    }
    if (known == NULL) {
        if (check->n_configurations < SIM_CONFIGURATIONS_MAX) {
            check->configurations[check->n_configurations++] =
                (struct sim_committed_servers){info->configuration_index, servers_hash(info)};
        }
    } else if (known->hash != servers_hash(info)) {
        sim_world_violation(check->world, "configurations", "node %u has another configuration at %" PRIu64, node + 1,
                            info->configuration_index);
    }
}

/* --- Changes at random -----------------------------------------------------------------------------------------------
 */

static enum replica_status change(struct sim_cluster *cluster, enum replica_change_kind kind, unsigned node)
{
    const int leader = sim_cluster_leader(cluster);
    char address[32];

    snprintf(address, sizeof address, kind == REPLICA_READDRESS ? "node%u.%" PRIu64 : "node%u", node + 1,
             cluster->world.now_us);
    return leader < 0 ? REPLICA_NOT_LEADER : sim_node_change(&cluster->nodes[leader], kind, node + 1, address);
}

static void change_at_random(struct sim_members *members)
{
    struct sim_cluster *cluster = members->cluster;
    struct sim_random *random = &members->random;
    const int leader = sim_cluster_leader(cluster);
    struct replica_info info;
    unsigned voters = 0;

    if (leader < 0) {
        return;
    }
    replica_info(cluster->nodes[leader].replica, &info);
    const struct replica_server *server = &info.servers[sim_random_below(random, info.n_servers)];
    for (unsigned i = 0; i < info.n_servers; i++) {
        voters += info.servers[i].voter;
    }
    enum replica_change_kind kind = (enum replica_change_kind)sim_random_below(random, 5);
    unsigned node = (unsigned)server->id - 1;
    if (kind == REPLICA_ADD_LEARNER) {
        node = (unsigned)info.next_id - 1;
        if (node >= cluster->n_nodes) {
            return;
        }
    } else if (server->voter && (kind == REPLICA_DEMOTE || kind == REPLICA_REMOVE)) {
        if (voters <= 2 && !sim_random_chance(random, 50000)) {
            return;
        }
        if ((int)node == leader) {
            sim_node_transfer(&cluster->nodes[leader], 0);
            return;
        }
    }
    members->accepted += change(cluster, kind, node) == REPLICA_OK;
}

static void next_fire_cb(struct sim_task *task)
{
    struct sim_members *members = task->data;

    change_at_random(members);
    sim_world_after(&members->cluster->world, task, sim_random_below(&members->random, 2 * members->gap_us + 1));
}

void sim_members_init(struct sim_members *members, struct sim_cluster *cluster)
{
    *members = (struct sim_members){.cluster = cluster, .random = sim_random_fork(&cluster->random, 4)};
    members->next = (struct sim_task){.data = members, .cb = next_fire_cb};
    members->gap_us = sim_random_range(&members->random, 20 * MS, 600 * MS);
}

void sim_members_start(struct sim_members *members)
{
    if (members->cluster->n_members < members->cluster->n_nodes) {
        sim_world_after(&members->cluster->world, &members->next, members->gap_us);
    }
}

void sim_members_stop(struct sim_members *members)
{
    sim_world_cancel(&members->cluster->world, &members->next);
}

/* --- Scenarios -------------------------------------------------------------------------------------------------------
 */

unsigned sim_members_at_first(const struct sim_scenario *scenario)
{
    static const struct {
        void (*run)(struct sim_cluster *cluster);
        unsigned n;
    } table[] = {
        {sim_member_add, 3}, {sim_member_rolling, 3}, {sim_member_away, 3},   {sim_member_rollback, 5},
        {sim_member_two, 3}, {sim_member_one, 1},     {sim_member_grants, 1}, {sim_install_join, 3},
    };

    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].run == scenario->run) {
            return table[i].n;
        }
    }
    return 0;
}

struct wanted {
    enum replica_change_kind kind;
    unsigned node;
};

/* Try again until the leader takes the change. */
static bool is_accepted(struct sim_cluster *cluster, void *arg)
{
    const struct wanted *w = arg;

    return change(cluster, w->kind, w->node) == REPLICA_OK;
}

static bool is_done(struct sim_cluster *cluster, void *unused)
{
    const int leader = sim_cluster_leader(cluster);

    (void)unused;
    return leader >= 0 && !replica_change_pending(cluster->nodes[leader].replica);
}

static bool expect_change(struct sim_cluster *cluster, enum replica_change_kind kind, unsigned node)
{
    struct wanted w = {kind, node};

    return sim_cluster_expect(cluster, is_accepted, &w, 10 * SECOND, "membership", "the leader takes a change") &&
           sim_cluster_expect(cluster, is_done, NULL, 5 * SECOND, "membership", "a change is committed");
}

static bool wrote_since(struct sim_cluster *cluster, void *since_us)
{
    return cluster->workload.last_write_us > *(const uint64_t *)since_us;
}

static void expect_write(struct sim_cluster *cluster, const char *what)
{
    uint64_t since_us = cluster->world.now_us + 2000;

    sim_cluster_expect(cluster, wrote_since, &since_us, 5 * SECOND, "liveness", what);
}

static bool leads_now(struct sim_cluster *cluster, void *node)
{
    return sim_cluster_leader(cluster) == (int)*(const unsigned *)node;
}

static unsigned leader_of(struct sim_cluster *cluster)
{
    sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, 5 * SECOND, "liveness", "a leader is elected");
    return sim_cluster_leader(cluster) < 0 ? 0 : (unsigned)sim_cluster_leader(cluster);
}

/* Make `node`, a voter, the leader. */
static bool expect_leads(struct sim_cluster *cluster, unsigned node)
{
    for (unsigned i = 0; i < 10 && !cluster->world.violated; i++) {
        const unsigned leader = leader_of(cluster);

        if (leader == node) {
            return true;
        }
        sim_node_transfer(&cluster->nodes[leader], node + 1);
        if (sim_cluster_run_until(cluster, leads_now, &node, 2 * SECOND)) {
            return true;
        }
    }
    sim_world_violation(&cluster->world, "membership", "node %u never became the leader", node + 1);
    return false;
}

static bool expect_removed(struct sim_cluster *cluster, unsigned node, unsigned heir)
{
    return (leader_of(cluster) != node || expect_leads(cluster, heir)) && expect_change(cluster, REPLICA_REMOVE, node);
}

void sim_member_add(struct sim_cluster *cluster)
{
    if (expect_change(cluster, REPLICA_ADD_LEARNER, 3) && expect_change(cluster, REPLICA_PROMOTE, 3)) {
        sim_cluster_run(cluster, 200 * MS);
        sim_node_crash(&cluster->nodes[leader_of(cluster) == 0 ? 1 : 0]);
        expect_write(cluster, "three of four serve");
        expect_change(cluster, REPLICA_READDRESS, 3);
        expect_change(cluster, REPLICA_DEMOTE, 3);
        expect_write(cluster, "two of three serve");
    }
}

void sim_member_rolling(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < 3 && !cluster->world.violated; i++) {
        expect_change(cluster, REPLICA_ADD_LEARNER, i + 3);
        expect_change(cluster, REPLICA_PROMOTE, i + 3);
        expect_removed(cluster, i, i + 3);
        if (sim_random_chance(&cluster->random, 500000)) {
            sim_node_stop(&cluster->nodes[i]);
        }
        expect_write(cluster, "writes go on after a node was replaced");
    }
    sim_cluster_run(cluster, 1 * SECOND);
}

static void expect_undisturbed(struct sim_cluster *cluster, uint64_t duration_us)
{
    const unsigned leader = leader_of(cluster);
    const uint64_t term = cluster->world.violated ? 0 : replica_term(cluster->nodes[leader].replica);

    sim_cluster_run(cluster, duration_us);
    if (!cluster->world.violated &&
        (sim_cluster_leader(cluster) != (int)leader || replica_term(cluster->nodes[leader].replica) != term)) {
        sim_world_violation(&cluster->world, "membership", "a removed node disturbed the leader of term %" PRIu64,
                            term);
    }
}

static bool knows_its_removal(struct sim_cluster *cluster, void *node)
{
    return replica_is_removed(cluster->nodes[*(const unsigned *)node].replica);
}

void sim_member_leader(struct sim_cluster *cluster)
{
    const unsigned old = leader_of(cluster);

    if (change(cluster, REPLICA_REMOVE, old) == REPLICA_OK) {
        sim_world_violation(&cluster->world, "membership", "a leader took its own removal");
        return;
    }
    unsigned removed = old;
    expect_removed(cluster, old, (old + 1) % 4);
    sim_cluster_expect(cluster, knows_its_removal, &removed, 1 * SECOND, "membership", "a removed node is told so");
    expect_undisturbed(cluster, 6 * SECOND);
    sim_node_crash(&cluster->nodes[old]);
    sim_node_start(&cluster->nodes[old]);
    expect_undisturbed(cluster, 6 * SECOND);
}

void sim_member_returns(struct sim_cluster *cluster)
{
    const unsigned gone = (leader_of(cluster) + 1) % 4;

    sim_cluster_isolate(cluster, gone, true, true);
    expect_change(cluster, REPLICA_REMOVE, gone);
    sim_cluster_run(cluster, 3 * SECOND);
    sim_cluster_isolate(cluster, gone, false, false);
    expect_undisturbed(cluster, 8 * SECOND);
}

/* Node 0 is away while 3 and 4 come, and 1 goes: then it knows of 2 alone, and node 2 is down. */
void sim_member_away(struct sim_cluster *cluster)
{
    if (leader_of(cluster) == 0 && !expect_leads(cluster, 1)) {
        return;
    }
    sim_node_stop(&cluster->nodes[0]);
    sim_world_cancel(&cluster->world, &cluster->restarts[0]);
    for (unsigned node = 3; node < 5 && !cluster->world.violated; node++) {
        expect_change(cluster, REPLICA_ADD_LEARNER, node);
        expect_change(cluster, REPLICA_PROMOTE, node);
    }
    if (!expect_removed(cluster, 1, 3) || !expect_leads(cluster, 3)) {
        return;
    }
    sim_node_crash(&cluster->nodes[2]);
    sim_node_crash(&cluster->nodes[1]);
    sim_node_start(&cluster->nodes[0]); /* 0, 3 and 4 are three of four voters */
    expect_write(cluster, "a voter that was away follows a leader it has never heard of");
    sim_node_crash(&cluster->nodes[leader_of(cluster)]);
    sim_cluster_run(cluster, 300 * MS);
    sim_node_start(&cluster->nodes[2]);
    expect_write(cluster, "and helps to elect another");
}

static void take_no_snapshots(struct sim_cluster *cluster)
{
    const struct replica_snapshot_config none = {0};

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].config.replica.snapshots = none;
        if (cluster->nodes[i].replica != NULL) {
            replica_snapshot_configure(cluster->nodes[i].replica, &none);
        }
    }
}

/* A node gets a committed change and one that is not in one go, and loses the second. */
void sim_member_rollback(struct sim_cluster *cluster)
{
    take_no_snapshots(cluster);            /* it is to get both as entries */
    sim_workload_stop(&cluster->workload); /* so that both changes fit into one frame */
    sim_cluster_run(cluster, 2 * SECOND);
    for (unsigned round = 0; round < 2 && !cluster->world.violated; round++) {
        const unsigned leader = leader_of(cluster);
        const unsigned late = (leader + 1) % 5;

        sim_cluster_isolate(cluster, late, true, true);
        sim_net_break(&cluster->net, leader, late); /* nothing of the first change waits to be delivered */
        sim_net_break(&cluster->net, late, leader);
        sim_cluster_run(cluster, 400 * MS);
        expect_change(cluster, REPLICA_ADD_LEARNER, 5 + round);
        sim_cluster_run(cluster, 50 * MS);
        if (cluster->world.violated || leader_of(cluster) != leader) {
            return;
        }
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            sim_net_block(&cluster->net, leader, i, i != late && i != leader);
            sim_net_block(&cluster->net, i, leader, i != late && i != leader);
        }
        sim_net_block(&cluster->net, late, leader, false);
        sim_net_block(&cluster->net, leader, late, false);
        (void)change(cluster, REPLICA_READDRESS, late); /* it can't be committed */
        sim_cluster_run(cluster, 3 * SECOND);
        sim_net_unblock_all(&cluster->net);
        sim_cluster_run(cluster, 2 * SECOND);
    }
}

/* A leader proposes as fast as it is allowed to, then it is cut off with what came of it. */
void sim_member_two(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 5 && !cluster->world.violated; round++) {
        const unsigned leader = leader_of(cluster);

        (void)change(cluster, REPLICA_ADD_LEARNER, 3 + round);
        (void)change(cluster, REPLICA_PROMOTE, 3 + round);
        (void)change(cluster, REPLICA_DEMOTE, (leader + 1) % 3);
        (void)change(cluster, REPLICA_REMOVE, (leader + 2) % 3);
        sim_cluster_isolate(cluster, leader, true, true);
        sim_cluster_run(cluster, 1500 * MS);
        sim_net_unblock_all(&cluster->net);
        sim_cluster_run(cluster, 1 * SECOND);
    }
}

/* The longest time without an acknowledged write, up to `until_us`. */
static uint64_t longest_gap(struct sim_cluster *cluster, uint64_t until_us)
{
    uint64_t gap_us = 0;

    while (cluster->world.now_us < until_us && sim_cluster_run(cluster, 1 * MS)) {
        const uint64_t since_us = cluster->world.now_us - cluster->workload.last_write_us;
        gap_us = since_us > gap_us ? since_us : gap_us;
    }
    return gap_us;
}

/* Followers are removed while all read under grants, which are renewed for as long as they are members. */
void sim_member_removed(struct sim_cluster *cluster)
{
    const unsigned leader = leader_of(cluster);

    for (unsigned i = 1; i < 4 && !cluster->world.violated; i++) {
        struct wanted w = {REPLICA_REMOVE, (leader + i) % 5};
        uint64_t gap_us = 0;

        sim_cluster_run(cluster, sim_random_range(&cluster->random, 600 * MS, 900 * MS));
        for (unsigned tries = 0; tries < 20 && !is_accepted(cluster, &w); tries++) {
            const uint64_t waited_us = longest_gap(cluster, cluster->world.now_us + 50 * MS);
            gap_us = waited_us > gap_us ? waited_us : gap_us;
        }
        const uint64_t after_us = longest_gap(cluster, cluster->world.now_us + 400 * MS);
        gap_us = after_us > gap_us ? after_us : gap_us;
        if (gap_us > 75 * MS) {
            sim_world_violation(&cluster->world, "membership",
                                "no write for %" PRIu64 " us while a follower is removed", gap_us);
        }
    }
}

/* What a learner was granted outlives the run that granted it: cut off from the leader's next run, it goes on reading.
 */
void sim_member_grants(struct sim_cluster *cluster)
{
    expect_change(cluster, REPLICA_ADD_LEARNER, 1);
    for (unsigned round = 0; round < 20 && !cluster->world.violated; round++) {
        sim_cluster_run(cluster, sim_random_range(&cluster->random, 500 * MS, 900 * MS));
        sim_cluster_isolate(cluster, 1, true, true);
        sim_node_crash(&cluster->nodes[0]);
        sim_node_start(&cluster->nodes[0]);
        sim_cluster_run(cluster, 400 * MS);
        sim_cluster_isolate(cluster, 1, false, false);
    }
}

/* The leader of two voters dies before the change that makes it the only one is on its disk. The other would refuse to
 * elect it if it held that change, and could not stand by it. */
void sim_member_sole(struct sim_cluster *cluster)
{
    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        const unsigned leader = leader_of(cluster);
        struct sim_node *node = &cluster->nodes[leader];

        node->disk.slow_factor = 30000; /* a write is running, and what comes now waits behind it */
        sim_cluster_run(cluster, 100 * MS);
        if (change(cluster, REPLICA_DEMOTE, 1 - leader) != REPLICA_OK) {
            sim_world_violation(&cluster->world, "membership", "the leader takes the demotion of the other voter");
        }
        sim_cluster_run(cluster, 100 * MS);
        node->disk.slow_factor = 1;
        sim_node_crash(node);
        sim_cluster_run(cluster, 200 * MS);
        sim_node_start(node);
        expect_write(cluster, "the one with the change, or both without it, elect a leader");
    }
}

void sim_member_one(struct sim_cluster *cluster)
{
    for (unsigned node = 1; node < 3 && !cluster->world.violated; node++) {
        expect_change(cluster, REPLICA_ADD_LEARNER, node);
        expect_change(cluster, REPLICA_PROMOTE, node);
        sim_node_crash(&cluster->nodes[node]);
        sim_node_start(&cluster->nodes[node]);
        expect_write(cluster, "writes go on");
    }
    expect_leads(cluster, 2);
    expect_removed(cluster, 0, 2);
    expect_removed(cluster, 1, 2);
    expect_write(cluster, "one node serves");
    sim_node_crash(&cluster->nodes[2]);
    sim_node_start(&cluster->nodes[2]);
    expect_write(cluster, "one node serves after a restart");
}
