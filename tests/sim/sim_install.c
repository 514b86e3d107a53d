#include "tests/sim/sim_install.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "consensus/snapshot.h"
#include "tests/sim/sim_snapshots.h"
#include "tests/sim/sim_story.h"

#define MS 1000u
#define SECOND 1000000u
#define VALUE_BYTES 20000u
/* Of the log before a snapshot: so much that the snapshots of two nodes are less apart. */
#define KEEP_BYTES (128u << 10)
/* One piece holds a block of 64 KiB, which does not compress. */
#define PIECE_BYTES (66u << 10)

static void require(struct sim_cluster *cluster, bool holds, const char *what)
{
    if (!holds) {
        sim_world_violation(&cluster->world, "scenario", "%s", what);
    }
}

static unsigned leader_of(struct sim_cluster *cluster)
{
    return sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, 5 * SECOND, "liveness", "a leader is elected")
               ? (unsigned)sim_cluster_leader(cluster)
               : 0;
}

/* --- Content ---------------------------------------------------------------------------------------------------------
 */

/* Write `n` keys of 20 kB that don't compress. */
static void fill(struct sim_cluster *cluster, unsigned n)
{
    static char value[VALUE_BYTES];
    static unsigned number;

    for (unsigned i = 0; i < n && !cluster->world.violated; i++) {
        char key[24];
        for (size_t at = 0; at < sizeof value; at++) {
            value[at] = (char)sim_random_below(&cluster->random, 256);
        }
        snprintf(key, sizeof key, "fill:%u", number++ % 200);
        sim_story_set(cluster, key, value, sizeof value);
    }
}

/* Only on demand; `rate` bytes per second between nodes. */
static void configure(struct sim_cluster *cluster, uint64_t rate)
{
    const struct replica_snapshot_config config = {.keep_bytes = KEEP_BYTES, .transfer_rate = rate};

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].config.replica.snapshots = config;
        if (cluster->nodes[i].state == SIM_NODE_UP) {
            replica_snapshot_configure(cluster->nodes[i].replica, &config);
        }
    }
}

/* --- Progress --------------------------------------------------------------------------------------------------------
 */

struct watch {
    unsigned node;
    uint64_t bytes, installs;
};

static struct replica_info info_of(const struct sim_cluster *cluster, unsigned node)
{
    struct replica_info info = {0};

    if (cluster->nodes[node].state == SIM_NODE_UP) {
        replica_info(cluster->nodes[node].replica, &info);
    }
    return info;
}

static bool has_received(struct sim_cluster *cluster, void *watch)
{
    const struct watch *w = watch;

    return info_of(cluster, w->node).snapshot_bytes_received >= w->bytes;
}

static bool has_installed(struct sim_cluster *cluster, void *watch)
{
    const struct watch *w = watch;

    return info_of(cluster, w->node).snapshot_installs >= w->installs;
}

static void expect_received(struct sim_cluster *cluster, unsigned node, uint64_t bytes)
{
    struct watch watch = {.node = node, .bytes = bytes};

    sim_cluster_expect(cluster, has_received, &watch, 20 * SECOND, "liveness", "pieces of a snapshot arrive");
}

static void expect_installed(struct sim_cluster *cluster, unsigned node)
{
    struct watch watch = {.node = node, .installs = 1};

    sim_cluster_expect(cluster, has_installed, &watch, 60 * SECOND, "liveness", "a snapshot is installed");
}

/* A follower is away until the log no longer reaches back to it. */
static unsigned leave(struct sim_cluster *cluster)
{
    unsigned follower = (leader_of(cluster) + 1) % cluster->n_nodes;

    sim_node_crash(&cluster->nodes[follower]);
    fill(cluster, 60);
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (i != follower) {
            sim_snapshot_take(cluster, i);
        }
    }
    return follower;
}

/* ... and then it starts. */
static unsigned leave_behind(struct sim_cluster *cluster)
{
    unsigned follower = leave(cluster);

    if (!cluster->world.violated) {
        sim_node_start(&cluster->nodes[follower]);
    }
    return follower;
}

/* Nothing came twice but what was under way when something broke. */
static void require_resumed(struct sim_cluster *cluster, unsigned node, uint64_t resumed)
{
    const struct replica_info info = info_of(cluster, node);

    if (cluster->world.violated) {
        return;
    }
    sim_world_log(&cluster->world,
                  "node %u: %" PRIu64 " bytes, %" PRIu64 " of them again, of %" PRIu64 "; resumed %" PRIu64, node + 1,
                  info.snapshot_bytes_received, info.snapshot_bytes_again, info.snapshot.file_bytes,
                  info.snapshot_resumed);
    require(cluster, info.snapshot_installs == 1, "one snapshot is installed");
    require(cluster, info.snapshot_resumed >= resumed, "the transfer goes on after each break");
    require(cluster, info.snapshot_bytes_received <= info.snapshot.file_bytes, "no piece is taken twice");
    require(cluster, info.snapshot_bytes_again <= (resumed + 1) * 4 * PIECE_BYTES,
            "what was received is not sent again");
}

/* --- Scenarios -------------------------------------------------------------------------------------------------------
 */

void sim_install_plain(struct sim_cluster *cluster)
{
    configure(cluster, 0);
    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        expect_installed(cluster, leave_behind(cluster));
        sim_cluster_run(cluster, 1 * SECOND);
    }
}

void sim_install_resume(struct sim_cluster *cluster)
{
    configure(cluster, 400000);
    unsigned follower = leave_behind(cluster);

    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        unsigned leader = leader_of(cluster);

        expect_received(cluster, follower, (round + 1) * 200000);
        if (round == 2) { /* so long that both ends notice */
            sim_cluster_isolate(cluster, follower, true, true);
            sim_cluster_run(cluster, 5 * SECOND);
            sim_cluster_isolate(cluster, follower, false, false);
        } else {
            sim_net_break(&cluster->net, leader, follower);
            sim_net_break(&cluster->net, follower, leader);
        }
    }
    expect_installed(cluster, follower);
    require_resumed(cluster, follower, 3);
}

/* Leadership moves while a snapshot is under way: the former leader goes on sending it, and the new one, which has a
 * snapshot of its own, keeps its log from there on. */
void sim_install_leader(struct sim_cluster *cluster)
{
    configure(cluster, 400000);
    unsigned follower = leave_behind(cluster);
    unsigned old = leader_of(cluster);

    expect_received(cluster, follower, 300000);
    sim_node_transfer(&cluster->nodes[old], 6 - (old + 1) - (follower + 1));
    sim_cluster_run(cluster, 2 * SECOND);
    require(cluster, leader_of(cluster) != old, "another node leads");
    fill(cluster, 20);
    sim_snapshot_take(cluster, leader_of(cluster));
    expect_installed(cluster, follower);
    require_resumed(cluster, follower, 0);
}

static bool leads(struct sim_cluster *cluster, void *node)
{
    return sim_node_leads(&cluster->nodes[*(const unsigned *)node]);
}

/* The node that sends is gone for good: another one's snapshot is fetched from its beginning. */
void sim_install_sender(struct sim_cluster *cluster)
{
    configure(cluster, 300000);
    unsigned follower = leave_behind(cluster);
    unsigned old = leader_of(cluster);
    unsigned third = 3 - old - follower;
    struct watch watch = {.node = follower, .installs = 1};

    expect_received(cluster, follower, 300000);
    sim_cluster_isolate(cluster, old, true, true);
    sim_cluster_expect(cluster, has_installed, &watch, 10 * SECOND, "liveness", "another snapshot is installed");
    sim_cluster_expect(cluster, leads, &third, 5 * SECOND, "liveness", "the others can commit");
    sim_cluster_isolate(cluster, old, false, false);
    sim_cluster_run(cluster, 2 * SECOND);
}

/* Crashes at any point of a transfer and of the installation. */
void sim_install_crash(struct sim_cluster *cluster)
{
    configure(cluster, 2000000);
    unsigned follower = leave_behind(cluster);

    for (unsigned round = 0; round < 20 && !cluster->world.violated; round++) {
        struct sim_node *node = &cluster->nodes[follower];

        if (round % 4 == 3) {
            struct watch watch = {.node = follower, .bytes = sim_random_below(&cluster->random, 400000)};
            sim_cluster_run_until(cluster, has_received, &watch, 2 * SECOND);
            sim_cluster_run(cluster, sim_random_below(&cluster->random, 30 * MS));
        } else {
            sim_cluster_run(cluster, sim_random_below(&cluster->random, 900 * MS));
        }
        if (node->state == SIM_NODE_UP && round % 2 == 0) {
            node->env.fuse = (uint32_t)sim_random_range(&cluster->random, 1, 60);
            sim_cluster_run(cluster, 40 * MS);
        }
        sim_node_crash(node);
        sim_cluster_restart_later(cluster, follower, 20 * MS);
        if (round % 8 == 7) {
            sim_cluster_run(cluster, 4 * SECOND);
            follower = leave_behind(cluster);
        }
        sim_cluster_run(cluster, 100 * MS);
    }
}

/* The power fails right after an installation: everything that the node has said it has is still there. */
void sim_install_synced(struct sim_cluster *cluster)
{
    configure(cluster, 0);
    for (unsigned round = 0; round < 6 && !cluster->world.violated; round++) {
        unsigned follower = leave_behind(cluster);

        expect_installed(cluster, follower);
        if (!cluster->world.violated) {
            sim_cluster_run(cluster, sim_random_below(&cluster->random, 20 * MS));
            sim_node_crash(&cluster->nodes[follower]);
            sim_node_start(&cluster->nodes[follower]);
        }
        sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, 5 * SECOND, "liveness", "a leader is elected");
        sim_cluster_run(cluster, 2 * SECOND);
    }
}

/* The leader's newest snapshot has been damaged on disk: it notices when it sends it, and takes another one. */
void sim_install_damaged(struct sim_cluster *cluster)
{
    configure(cluster, 0);
    unsigned follower = leave(cluster);
    unsigned leader = leader_of(cluster);
    char name[64];
    uint64_t offset;

    cluster->nodes[leader].damaged = true;
    if (!sim_disk_flip_newest(&cluster->nodes[leader].disk, "snapshot-", name, sizeof name, &offset)) {
        require(cluster, false, "there is a snapshot to damage");
        return;
    }
    sim_world_log(&cluster->world, "node %u: a bit flips in %s at %" PRIu64, leader + 1, name, offset);
    sim_node_start(&cluster->nodes[follower]);
    expect_installed(cluster, follower);
    require(cluster, info_of(cluster, leader).snapshots_taken >= 2, "the leader takes another snapshot");
}

/* The same while nobody writes: a snapshot of the same entry would be the same file. */
void sim_install_damaged_idle(struct sim_cluster *cluster)
{
    char name[64];
    uint64_t offset;

    configure(cluster, 0);
    sim_workload_stop(&cluster->workload);
    sim_cluster_run(cluster, 3 * SECOND); /* keys with a lifetime expire */
    unsigned follower = leave(cluster);
    unsigned leader = leader_of(cluster);
    cluster->nodes[leader].damaged = true;
    if (!sim_disk_flip_newest(&cluster->nodes[leader].disk, "snapshot-", name, sizeof name, &offset)) {
        require(cluster, false, "there is a snapshot to damage");
        return;
    }
    sim_world_log(&cluster->world, "node %u: a bit flips in %s at %" PRIu64, leader + 1, name, offset);
    sim_node_start(&cluster->nodes[follower]);
    expect_installed(cluster, follower);
    sim_workload_start(&cluster->workload);
}

static bool is_refused(const struct sim_cluster *cluster, unsigned node)
{
    const struct replica_info info = info_of(cluster, node);

    return info.snapshot_installs == 0 && info.snapshot_fetch != NULL && strcmp(info.snapshot_fetch, "none") == 0;
}

/* The receiver's disk has no room for the snapshot: it goes on as a follower that is behind, and gets it once there is.
 */
void sim_install_full(struct sim_cluster *cluster)
{
    configure(cluster, 0);
    unsigned follower = leave(cluster);
    struct sim_disk *disk = &cluster->nodes[follower].disk;

    cluster->nodes[follower].may_refuse = true;
    disk->capacity_bytes = disk->used_bytes + (1900u << 10); /* the reserve of 1 MiB, and less than the file */
    sim_node_start(&cluster->nodes[follower]);
    sim_cluster_run(cluster, 3 * SECOND);
    require(cluster, is_refused(cluster, follower), "nothing is fetched into a full disk");
    require(cluster, cluster->nodes[follower].state == SIM_NODE_UP, "it stays up");
    disk->capacity_bytes = 64u << 20;
    expect_installed(cluster, follower);
}

/* The receiver's disk is much slower than the path: nothing comes that it has no room for. */
void sim_install_slow(struct sim_cluster *cluster)
{
    configure(cluster, 0);
    fill(cluster, 140); /* more than its buffers hold */
    unsigned follower = leave(cluster);

    cluster->nodes[follower].disk.bytes_per_us = 1;
    sim_node_start(&cluster->nodes[follower]);
    expect_installed(cluster, follower);
    require(cluster, cluster->world.violated || info_of(cluster, follower).snapshot.file_bytes > (7u << 19),
            "the file is larger than the receiver's buffers");
    require(cluster, cluster->world.violated || info_of(cluster, follower).snapshot_bytes_again == 0,
            "nothing comes in vain");
    cluster->nodes[follower].disk.bytes_per_us = 500;
}

static bool is_promoted(struct sim_cluster *cluster, void *unused)
{
    const int leader = sim_cluster_leader(cluster);

    (void)unused;
    return leader >= 0 &&
           sim_node_change(&cluster->nodes[leader], REPLICA_PROMOTE, cluster->n_nodes, NULL) == REPLICA_OK;
}

/* A new node joins a cluster whose log has long lost its beginning. */
void sim_install_join(struct sim_cluster *cluster)
{
    unsigned node = cluster->n_nodes - 1;

    configure(cluster, 1000000);
    fill(cluster, 60);
    for (unsigned i = 0; i < node; i++) {
        sim_snapshot_take(cluster, i);
    }
    require(cluster,
            sim_node_change(&cluster->nodes[leader_of(cluster)], REPLICA_ADD_LEARNER, node + 1, "node4") == REPLICA_OK,
            "a learner is added");
    expect_installed(cluster, node);
    sim_cluster_expect(cluster, is_promoted, NULL, 20 * SECOND, "membership",
                       "a learner that has caught up is promoted");
    sim_cluster_run(cluster, 2 * SECOND);
}

/* --- Files in use ----------------------------------------------------------------------------------------------------
 */

struct file {
    unsigned node;
    char name[SNAPSHOT_NAME_BYTES];
};

static bool hangs(struct sim_cluster *cluster, void *file)
{
    return sim_disk_stalled(&cluster->nodes[((const struct file *)file)->node].disk) > 0;
}

static bool is_gone(struct sim_cluster *cluster, void *file)
{
    const struct file *f = file;

    return !sim_disk_has(&cluster->nodes[f->node].disk, f->name);
}

static bool sends_nothing(struct sim_cluster *cluster, void *node)
{
    return info_of(cluster, *(const unsigned *)node).snapshot_sends == 0;
}

/* From now on reads of the file hang, and then one does. */
static void hang(struct sim_cluster *cluster, struct file *file)
{
    sim_disk_stall(&cluster->nodes[file->node].disk, file->name);
    sim_cluster_expect(cluster, hangs, file, 20 * SECOND, "scenario", "the file is being read");
}

/* Nobody wants the file any more, but a read of it hangs: it is there until that comes back, and then it goes. */
static void expect_gone_after_read(struct sim_cluster *cluster, struct file *file)
{
    struct sim_disk *disk = &cluster->nodes[file->node].disk;

    sim_cluster_run(cluster, SECOND); /* the disk breaks its contract if anybody removes an open file */
    require(cluster, sim_disk_stalled(disk) > 0, "the read still hangs");
    require(cluster, sim_disk_has(disk, file->name), "the file is still there");
    sim_disk_stall(disk, NULL);
    sim_cluster_expect(cluster, is_gone, file, 10 * SECOND, "snapshots", "the file goes once it is closed");
}

static void take_two(struct sim_cluster *cluster, unsigned node)
{
    for (unsigned i = 0; i < 2; i++) {
        fill(cluster, 2);
        sim_snapshot_take(cluster, node);
    }
}

/* The receiver dies while the leader reads a piece for it, and that read hangs for longer than the leader is patient.
 * Meanwhile the leader has taken newer snapshots. */
void sim_install_pruned(struct sim_cluster *cluster)
{
    configure(cluster, 400000);
    unsigned follower = leave_behind(cluster);
    unsigned leader = leader_of(cluster);
    struct file file = {.node = leader};

    expect_received(cluster, follower, 200000);
    const struct replica_snapshot_info sent = info_of(cluster, leader).snapshot;
    snapshot_name_format(file.name, sent.index, sent.term, "");
    require(cluster, info_of(cluster, follower).snapshot_fetch_index == sent.index, "the newest snapshot is sent");
    hang(cluster, &file);
    sim_node_crash(&cluster->nodes[follower]);
    take_two(cluster, leader);
    require(cluster, sim_disk_has(&cluster->nodes[leader].disk, file.name), "what is being sent is not pruned");
    sim_cluster_expect(cluster, sends_nothing, &leader, 60 * SECOND, "snapshots", "the transfer is given up");
    expect_gone_after_read(cluster, &file);
    sim_node_start(&cluster->nodes[follower]);
    expect_installed(cluster, follower);
}

/* The receiver is gone for good in the midst of a transfer, and nobody writes any more: what was kept for it goes. */
void sim_install_released(struct sim_cluster *cluster)
{
    configure(cluster, 400000);
    unsigned follower = leave_behind(cluster);
    unsigned leader = leader_of(cluster);

    expect_received(cluster, follower, 200000);
    sim_node_crash(&cluster->nodes[follower]);
    fill(cluster, 20);
    take_two(cluster, leader);
    sim_workload_stop(&cluster->workload);
    const struct replica_info held = info_of(cluster, leader);
    require(cluster, cluster->world.violated || (held.snapshot_sends == 1 && held.log_start + 20 < held.snapshot.index),
            "the log is kept for the transfer");
    sim_cluster_check_logs(cluster);
    require(cluster, cluster->world.violated || info_of(cluster, leader).snapshot.index == held.snapshot.index,
            "no snapshot has been taken since");
    sim_workload_start(&cluster->workload);
    sim_node_start(&cluster->nodes[follower]);
    expect_installed(cluster, follower);
}

static bool has_caught_up(struct sim_cluster *cluster, void *node)
{
    const struct replica_info info = info_of(cluster, *(const unsigned *)node);

    return info.snapshot_fetch != NULL && strcmp(info.snapshot_fetch, "none") == 0 && info.snapshot_installs == 0 &&
           info.applied >= info_of(cluster, leader_of(cluster)).snapshot.index && info.applied > 0;
}

/* A follower has received a snapshot, and a read of it hangs: as it is checked, or as it is loaded. Then a node whose
 * log goes further back leads, and the follower gets everything from there. */
static void overtake(struct sim_cluster *cluster, const char *suffix)
{
    unsigned leader = leader_of(cluster);
    unsigned follower = (leader + 1) % 3;
    unsigned third = (leader + 2) % 3;
    struct file file = {.node = follower};

    sim_node_crash(&cluster->nodes[follower]);
    fill(cluster, 40);
    sim_snapshot_take(cluster, leader); /* alone: the third node's log stays whole */
    const struct replica_snapshot_info sent = info_of(cluster, leader).snapshot;
    snapshot_name_format(file.name, sent.index, sent.term, suffix);
    sim_disk_stall(&cluster->nodes[follower].disk, file.name);
    sim_node_start(&cluster->nodes[follower]);
    sim_cluster_expect(cluster, hangs, &file, 20 * SECOND, "scenario", "the snapshot is received and read");
    sim_node_transfer(&cluster->nodes[leader], third + 1);
    sim_cluster_expect(cluster, leads, &third, 10 * SECOND, "liveness", "another node leads");
    sim_cluster_expect(cluster, has_caught_up, &follower, 20 * SECOND, "liveness", "the log gets there first");
    if (suffix[0] == '\0') {
        take_two(cluster, follower); /* so that it is old */
    }
    expect_gone_after_read(cluster, &file);
}

void sim_overtaken_checking(struct sim_cluster *cluster)
{
    configure(cluster, 0);
    overtake(cluster, ".part");
}

void sim_overtaken_loading(struct sim_cluster *cluster)
{
    configure(cluster, 0);
    overtake(cluster, "");
}
