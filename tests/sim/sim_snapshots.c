#include "tests/sim/sim_snapshots.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim_story.h"

#define MS 1000u
#define SECOND 1000000u
#define KIB 1024u

static void require(struct sim_cluster *cluster, bool holds, const char *what)
{
    if (!holds) {
        sim_world_violation(&cluster->world, "scenario", "%s", what);
    }
}

static bool wrote_since(struct sim_cluster *cluster, void *since_us)
{
    return cluster->workload.last_write_us > *(const uint64_t *)since_us;
}

static void expect_write(struct sim_cluster *cluster, const char *what)
{
    uint64_t since_us = cluster->world.now_us + 2000;

    sim_cluster_expect(cluster, wrote_since, &since_us, 6 * SECOND, "liveness", what);
}

/* From now on, in this life and in later ones. */
static void configure(struct sim_cluster *cluster, uint64_t log_bytes, uint64_t rate, uint64_t keep_bytes)
{
    const struct replica_snapshot_config config = {
        .log_bytes = log_bytes, .rate = rate, .keep_bytes = keep_bytes, .slice_bytes = 512};

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].config.replica.snapshots = config;
        if (cluster->nodes[i].replica != NULL) {
            replica_snapshot_configure(cluster->nodes[i].replica, &config);
        }
    }
}

static void look(const struct sim_cluster *cluster, unsigned node, struct replica_info *info)
{
    *info = (struct replica_info){0};
    if (cluster->nodes[node].replica != NULL) {
        replica_info(cluster->nodes[node].replica, info);
    }
}

static uint64_t installs(const struct sim_cluster *cluster)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        n += cluster->nodes[i].installs;
    }
    return n;
}

struct taking {
    struct replica_snapshot_request request;
    bool done;
    enum replica_status status;
};

static void taken_cb(struct replica_snapshot_request *request, enum replica_status status,
                     const struct replica_snapshot_info *info)
{
    struct taking *taking = request->data;

    (void)info;
    taking->done = true;
    taking->status = status;
}

static bool is_taken(struct sim_cluster *cluster, void *taking)
{
    (void)cluster;
    return ((struct taking *)taking)->done;
}

static void begin_taking(struct sim_cluster *cluster, unsigned node, struct taking *taking)
{
    memset(taking, 0, sizeof *taking);
    taking->request = (struct replica_snapshot_request){.data = taking, .cb = taken_cb};
    require(cluster,
            cluster->world.violated ||
                (cluster->nodes[node].state == SIM_NODE_UP &&
                 replica_snapshot_take(cluster->nodes[node].replica, &taking->request) == REPLICA_OK),
            "a snapshot can be taken");
}

static void expect_taken(struct sim_cluster *cluster, struct taking *taking)
{
    sim_cluster_expect(cluster, is_taken, taking, 60 * SECOND, "liveness", "a snapshot is taken");
    require(cluster, cluster->world.violated || taking->status == REPLICA_OK, "taking a snapshot succeeds");
}

void sim_snapshot_take(struct sim_cluster *cluster, unsigned node)
{
    static struct taking taking;

    begin_taking(cluster, node, &taking);
    expect_taken(cluster, &taking);
}

/* --- Taking and restarting -------------------------------------------------------------------------------------------
 */

/* Every node holds a snapshot, and its log no longer begins with the first entry. */
static bool all_dropped(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct replica_info info;

        look(cluster, i, &info);
        if (info.snapshot.index == 0 || info.first == 1) {
            return false;
        }
    }
    return true;
}

static void crash_all(struct sim_cluster *cluster, uint64_t spread_us)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (sim_random_chance(&cluster->random, 700000)) {
            sim_node_crash(&cluster->nodes[i]);
        } else {
            sim_node_stop(&cluster->nodes[i]);
        }
        sim_cluster_restart_later(cluster, i, sim_random_below(&cluster->random, spread_us));
    }
}

static void restart_rounds(struct sim_cluster *cluster, unsigned rounds)
{
    for (unsigned round = 0; round < rounds && !cluster->world.violated; round++) {
        sim_cluster_run(cluster, sim_random_range(&cluster->random, 100 * MS, 700 * MS));
        crash_all(cluster, 100 * MS);
        expect_write(cluster, "writes go on after a restart from snapshots");
    }
}

void sim_snapshot_restart(struct sim_cluster *cluster)
{
    configure(cluster, 16 * KIB, 0, 64 * KIB);
    sim_cluster_expect(cluster, all_dropped, NULL, 60 * SECOND, "snapshots", "every node drops a part of its log");
    restart_rounds(cluster, 6);
    require(cluster, installs(cluster) >= 12, "nodes must have started from snapshots");
}

void sim_snapshot_one(struct sim_cluster *cluster)
{
    configure(cluster, 8 * KIB, 0, 0);
    sim_cluster_expect(cluster, all_dropped, NULL, 60 * SECOND, "snapshots", "the node drops a part of its log");
    restart_rounds(cluster, 12);
    require(cluster, installs(cluster) >= 8, "the node must have started from snapshots");
}

/* --- What is in it ---------------------------------------------------------------------------------------------------
 */

static bool has_started(struct sim_cluster *cluster, void *node)
{
    const struct sim_node *n = &cluster->nodes[*(const unsigned *)node];

    return n->state == SIM_NODE_UP && !replica_is_loading(n->replica);
}

/* Content that takes many slices, and is another one each time. */
static void write_content(struct sim_cluster *cluster, unsigned version)
{
    char value[80];

    memset(value, (int)('a' + version), sizeof value);
    for (unsigned i = 0; i < 40 && !cluster->world.violated; i++) {
        char key[24];
        snprintf(key, sizeof key, "content:%u", i);
        sim_story_set(cluster, key, value, sizeof value);
    }
}

struct written {
    unsigned node;
    uint64_t bytes; /* the most there were */
};

static bool writes_no_more(struct sim_cluster *cluster, void *written)
{
    struct written *w = written;
    struct replica_info info;

    look(cluster, w->node, &info);
    w->bytes = info.snapshot_bytes_written > w->bytes ? info.snapshot_bytes_written : w->bytes;
    return !info.snapshot_taking;
}

/* Each node takes a snapshot, so slowly that all of its content is changed before most of that is in the file. Its
 * content is that of its index all the same: the node starts from it, and then its digests are those of the others. */
void sim_snapshot_cut(struct sim_cluster *cluster)
{
    static struct taking taking;

    configure(cluster, 0, 2 * KIB, 0);
    write_content(cluster, 0);
    for (unsigned node = 0; node < cluster->n_nodes && !cluster->world.violated; node++) {
        struct replica_info before, after;

        struct written written = {.node = node};

        begin_taking(cluster, node, &taking);
        write_content(cluster, node + 1);
        look(cluster, node, &before);
        require(cluster, before.snapshot_taking && before.snapshot_bytes_written > 0,
                "everything changes while it is being taken");
        sim_cluster_expect(cluster, writes_no_more, &written, 60 * SECOND, "liveness", "the content ends");
        require(cluster, written.bytes > before.snapshot_bytes_written + 2 * KIB, "most is written after that");
        expect_taken(cluster, &taking);
        look(cluster, node, &after);
        const uint64_t index = after.snapshot.index;
        sim_node_crash(&cluster->nodes[node]);
        sim_node_start(&cluster->nodes[node]);
        sim_cluster_expect(cluster, has_started, &node, 10 * SECOND, "liveness", "a node starts");
        look(cluster, node, &after);
        require(cluster, after.snapshot.index == index, "the node starts from the snapshot that it took");
        expect_write(cluster, "writes go on");
    }
}

/* --- Crashes while one is taken --------------------------------------------------------------------------------------
 */

static bool someone_takes(struct sim_cluster *cluster, void *node)
{
    unsigned *found = node;

    for (unsigned k = 0; k < cluster->n_nodes; k++) {
        const unsigned i = (*found + k) % cluster->n_nodes;
        struct replica_info info;

        look(cluster, i, &info);
        if (info.snapshot_taking) {
            *found = i;
            return true;
        }
    }
    return false;
}

static bool all_have_one(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct replica_info info;

        look(cluster, i, &info);
        if (info.snapshot.index == 0) {
            return false;
        }
    }
    return true;
}

void sim_snapshot_crash(struct sim_cluster *cluster)
{
    const unsigned n_nodes = cluster->n_nodes;
    unsigned crashed = 0;

    assert(n_nodes > 0);
    configure(cluster, 4 * KIB, 64 * KIB, UINT64_MAX);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].disk.latency_us = 3 * MS;
    }
    sim_cluster_expect(cluster, all_have_one, NULL, 60 * SECOND, "snapshots", "every node takes a snapshot");
    for (unsigned round = 0; round < 16 && !cluster->world.violated; round++) {
        unsigned node = round % n_nodes;

        if (!sim_cluster_run_until(cluster, someone_takes, &node, 3 * SECOND)) {
            continue;
        }
        /* Anywhere between the first byte and the rename. */
        sim_cluster_run(cluster, sim_random_below(&cluster->random, 40 * MS));
        crashed++;
        sim_node_crash(&cluster->nodes[node]);
        sim_cluster_restart_later(cluster, node, sim_random_below(&cluster->random, 300 * MS));
        expect_write(cluster, "writes go on after a crash in the middle of a snapshot");
    }
    require(cluster, crashed > 8, "snapshots must have been under way at crashes");
    require(cluster, installs(cluster) > 4, "nodes must have started from snapshots");
}

/* --- Damage ----------------------------------------------------------------------------------------------------------
 */

static bool all_have_two(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        struct replica_info info;

        look(cluster, i, &info);
        if (info.snapshots_taken < 2) {
            return false;
        }
    }
    return true;
}

/* Stop a follower and damage its newest snapshot. Gives its position. */
static unsigned damage_one(struct sim_cluster *cluster)
{
    const int leader = sim_cluster_leader(cluster);
    const unsigned node = ((unsigned)(leader < 0 ? 0 : leader) + 1) % cluster->n_nodes;
    char name[64];
    uint64_t offset;

    sim_node_crash(&cluster->nodes[node]);
    cluster->nodes[node].damaged = true;
    if (sim_disk_flip_newest(&cluster->nodes[node].disk, "snapshot-", name, sizeof name, &offset)) {
        sim_world_log(&cluster->world, "node %u: a bit flips in %s at %" PRIu64, node + 1, name, offset);
    } else {
        require(cluster, false, "there must be a snapshot to damage");
    }
    sim_node_start(&cluster->nodes[node]);
    return node;
}

void sim_snapshot_damaged(struct sim_cluster *cluster)
{
    configure(cluster, 8 * KIB, 0, UINT64_MAX);
    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        sim_cluster_expect(cluster, all_have_two, NULL, 30 * SECOND, "snapshots", "every node takes snapshots");
        const unsigned node = damage_one(cluster);
        sim_cluster_run(cluster, 2 * SECOND);
        require(cluster, cluster->nodes[node].state == SIM_NODE_UP, "the log reaches back: the node must run");
        require(cluster, !replica_is_loading(cluster->nodes[node].replica), "and must have started");
        cluster->nodes[node].damaged = false; /* the damaged file is passed over; all the rest is as it should be */
    }
}

void sim_snapshot_lost(struct sim_cluster *cluster)
{
    configure(cluster, 64 * KIB, 0, 4 * KIB);
    sim_cluster_expect(cluster, all_dropped, NULL, 60 * SECOND, "snapshots", "every node drops a part of its log");
    sim_cluster_run(cluster, SECOND); /* what memory has given up is gone from the disk as well */
    const unsigned node = damage_one(cluster);
    sim_cluster_run(cluster, 2 * SECOND);
    /* Unless its log still reaches back to the one before. */
    require(cluster, cluster->nodes[node].state == SIM_NODE_STOPPED || cluster->nodes[node].installs > 0,
            "a node without its content must not run");
    expect_write(cluster, "the others go on");
}

void sim_snapshot_full(struct sim_cluster *cluster)
{
    uint64_t failed = 0;

    configure(cluster, 8 * KIB, 0, UINT64_MAX);
    for (unsigned round = 0; round < 4 && !cluster->world.violated; round++) {
        const unsigned node = round % cluster->n_nodes;
        struct sim_disk *disk = &cluster->nodes[node].disk;
        struct replica_info info;

        sim_cluster_run(cluster, 500 * MS);
        const uint64_t capacity = disk->capacity_bytes;
        disk->capacity_bytes = disk->used_bytes + sim_random_below(&cluster->random, 12 * KIB);
        sim_cluster_run(cluster, 1500 * MS);
        look(cluster, node, &info);
        failed += info.snapshots_failed;
        disk->capacity_bytes = capacity;
        expect_write(cluster, "writes go on after a full disk");
    }
    require(cluster, failed > 0, "a snapshot must have met a full disk");
}

/* --- With changes of the configuration -------------------------------------------------------------------------------
 */

void sim_snapshot_members(struct sim_cluster *cluster)
{
    static const enum replica_change_kind kinds[] = {REPLICA_READDRESS, REPLICA_DEMOTE, REPLICA_READDRESS,
                                                     REPLICA_PROMOTE};
    unsigned accepted = 0;

    configure(cluster, 4 * KIB, 256 * KIB, UINT64_MAX);
    for (unsigned round = 0; round < 24 && !cluster->world.violated; round++) {
        const int leader = sim_cluster_leader(cluster);
        char address[32];

        if (leader >= 0) {
            const unsigned node = ((unsigned)leader + 1) % 3;
            snprintf(address, sizeof address, "node%u.%u", node + 1, round);
            accepted += sim_node_change(&cluster->nodes[leader], kinds[round % 4], node + 1, address) == REPLICA_OK;
        }
        sim_cluster_run(cluster, sim_random_below(&cluster->random, 300 * MS));
        if (round % 3 == 0) {
            const unsigned node = (unsigned)sim_random_below(&cluster->random, cluster->n_nodes);
            sim_node_crash(&cluster->nodes[node]);
            sim_cluster_restart_later(cluster, node, sim_random_below(&cluster->random, 200 * MS));
        }
        if (round % 8 == 7) {
            crash_all(cluster, 100 * MS);
            expect_write(cluster, "writes go on after a restart");
        }
    }
    require(cluster, accepted > 3, "configurations must have changed");
    require(cluster, installs(cluster) > 6, "nodes must have started from snapshots");
}
