#include "tests/sim/sim_turns.h"

#include <inttypes.h>

#include "tests/sim/sim_snapshots.h"
#include "tests/sim/sim_story.h"

#define SECOND 1000000u
#define KIB 1024u

/* A snapshot of what these scenarios write lasts for half a second to two seconds at this rate; the log grows by the
 * threshold in about ten. */
#define RATE (3 * KIB)
#define SLICE 128u
#define LOG_BYTES (160 * KIB)
#define AGE_S 8u
/* What is applied in one loop turn, and what is on its way there. */
#define LOG_SLACK (64 * KIB)

static void configure(struct sim_cluster *cluster, unsigned node, const struct replica_snapshot_config *config)
{
    cluster->nodes[node].config.replica.snapshots = *config;
    if (cluster->nodes[node].replica != NULL) {
        replica_snapshot_configure(cluster->nodes[node].replica, config);
    }
}

static void configure_all(struct sim_cluster *cluster, const struct replica_snapshot_config *config)
{
    cluster->workload.config.large_ppm = 0; /* so that all snapshots take as long */
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        configure(cluster, i, config);
    }
}

static bool writes(const struct sim_cluster *cluster, unsigned node)
{
    return cluster->nodes[node].replica != NULL && replica_snapshot_is_taken(cluster->nodes[node].replica);
}

static struct replica_info look(const struct sim_cluster *cluster, unsigned node)
{
    struct replica_info info = {0};

    if (cluster->nodes[node].replica != NULL) {
        replica_info(cluster->nodes[node].replica, &info);
    }
    return info;
}

/* --- Turns ---------------------------------------------------------------------------------------------------------
 */

/* Has every node taken so many? No two may write at once meanwhile. */
static bool have_taken(struct sim_cluster *cluster, void *at_least)
{
    unsigned n_writing = 0;
    bool all = true;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct replica_info info = look(cluster, i);
        n_writing += info.snapshot_taking;
        all = all && info.snapshots_taken >= *(const uint64_t *)at_least;
    }
    if (n_writing > 1) {
        sim_world_violation(&cluster->world, "snapshots in turn", "%u nodes write one at once", n_writing);
    }
    return all;
}

static bool someone_writes(struct sim_cluster *cluster, void *who)
{
    unsigned *node = who;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (writes(cluster, i)) {
            *node = i;
            return true;
        }
    }
    return false;
}

/* Who asks for one does not wait for another member's. */
static void ask_for_one(struct sim_cluster *cluster)
{
    unsigned writer = 0;

    if (!sim_cluster_expect(cluster, someone_writes, &writer, 30 * SECOND, "snapshots", "a snapshot is due")) {
        return;
    }
    const uint64_t since_us = cluster->world.now_us;
    sim_snapshot_take(cluster, (writer + 1) % cluster->n_nodes);
    sim_story_require(cluster, cluster->world.now_us - since_us < 4 * SECOND, "what is asked for is taken at once");
}

void sim_turns_taken(struct sim_cluster *cluster)
{
    const bool by_size = cluster->options.seed % 2 == 0;
    const struct replica_snapshot_config config = {
        .log_bytes = by_size ? LOG_BYTES : 0, .age_s = by_size ? 0 : AGE_S, .rate = RATE, .slice_bytes = SLICE};
    uint64_t rounds = 2;
    uint64_t put_off = 0;

    configure_all(cluster, &config);
    sim_cluster_expect(cluster, have_taken, &rounds, 90 * SECOND, "snapshots", "every node takes snapshots");
    const int leader = sim_cluster_leader(cluster);
    if (leader >= 0) { /* the next leader knows of no turn, and gives it all the same */
        sim_node_transfer(&cluster->nodes[leader], 0);
    }
    rounds = 4;
    sim_cluster_expect(cluster, have_taken, &rounds, 90 * SECOND, "snapshots", "every node takes snapshots");
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct replica_info info = look(cluster, i);
        put_off += info.snapshots_put_off;
        sim_story_require(cluster, info.snapshots_overdue == 0, "no snapshot is begun out of turn");
    }
    sim_story_require(cluster, put_off >= cluster->n_nodes - 1, "snapshots are put off while another node writes one");
    ask_for_one(cluster);
}

/* --- A new leader --------------------------------------------------------------------------------------------------
 */

static void answered_cb(struct replica_snapshot_request *request, enum replica_status status,
                        const struct replica_snapshot_info *info)
{
    (void)info;
    *(bool *)request->data = status == REPLICA_OK;
}

static bool is_put_off(struct sim_cluster *cluster, void *node)
{
    return look(cluster, *(const unsigned *)node).snapshot_put_off;
}

static bool is_true(struct sim_cluster *cluster, void *flag)
{
    (void)cluster;
    return *(const bool *)flag;
}

/* All nodes are up, and none writes a snapshot or waits for its turn. */
static bool is_quiet(struct sim_cluster *cluster, void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct replica_info info = look(cluster, i);
        if (cluster->nodes[i].replica == NULL || replica_is_loading(cluster->nodes[i].replica) ||
            info.snapshot_taking || info.snapshot_put_off) {
            return false;
        }
    }
    return true;
}

/* Its snapshot is nearly due. */
static bool is_nearly_due(struct sim_cluster *cluster, void *node)
{
    const struct replica_info info = look(cluster, *(const unsigned *)node);

    return !info.snapshot_taking && info.log_bytes_since >= LOG_BYTES / 4 * 3;
}

/* The leader dies while the last node writes a snapshot and the other one waits for its turn. That one leads next: it
 * is the first to stand. */
static void replace_leader(struct sim_cluster *cluster, unsigned writer, const struct replica_snapshot_config *config)
{
    unsigned leader = sim_story_leader(cluster);
    unsigned next = 3 - leader - writer;

    if (!sim_cluster_expect(cluster, is_put_off, &next, 30 * SECOND, "snapshots", "a snapshot is due and put off")) {
        return;
    }
    const struct replica_info before = look(cluster, next);
    sim_cluster_run(cluster, 2 * cluster->election_timeout_us); /* long enough for a leader to claim the turn */
    sim_node_crash(&cluster->nodes[leader]);
    sim_cluster_expect(cluster, sim_story_other_leads, &leader, 5 * SECOND, "liveness", "another node leads");
    sim_cluster_run(cluster, 3 * cluster->election_timeout_us);
    sim_story_require(cluster, writes(cluster, writer), "the snapshot is still being written");
    sim_story_require(cluster, look(cluster, next).snapshots_overdue == before.snapshots_overdue,
                      "the other one is not overdue");
    if (writes(cluster, next) || look(cluster, next).snapshots_taken != before.snapshots_taken) {
        sim_world_violation(&cluster->world, "snapshots in turn", "a new leader does not know who writes one");
    }
    configure(cluster, writer, config);
    sim_node_start(&cluster->nodes[leader]);
}

static void round_of_leaders(struct sim_cluster *cluster, const struct replica_snapshot_config *config)
{
    const unsigned leader = sim_story_leader(cluster);
    const unsigned writer = leader == 2 ? 1 : 2;
    unsigned next = 3 - leader - writer;

    sim_cluster_expect(cluster, is_nearly_due, &next, 30 * SECOND, "snapshots", "the log grows");
    struct replica *replica = cluster->nodes[writer].replica;
    struct replica_snapshot_config slow = *config;
    bool taken = false;
    struct replica_snapshot_request request = {.data = &taken, .cb = answered_cb};

    slow.rate = RATE / 16;
    configure(cluster, writer, &slow);
    if (replica_snapshot_take(replica, &request) != REPLICA_OK) {
        sim_story_require(cluster, false, "a snapshot can be taken");
        return;
    }
    replace_leader(cluster, writer, config);
    sim_cluster_expect(cluster, is_true, &taken, 60 * SECOND, "liveness", "the snapshot is finished");
    sim_cluster_expect(cluster, is_quiet, NULL, 60 * SECOND, "snapshots", "all nodes have had their turns");
    if (!taken) {
        replica_snapshot_cancel(replica, &request);
    }
}

void sim_turns_leader(struct sim_cluster *cluster)
{
    const struct replica_snapshot_config config = {.log_bytes = LOG_BYTES, .rate = 4 * RATE, .slice_bytes = SLICE};

    configure_all(cluster, &config);
    for (unsigned round = 0; round < 3 && !cluster->world.violated; round++) {
        round_of_leaders(cluster, &config);
    }
}

/* --- Bounds --------------------------------------------------------------------------------------------------------
 */

/* Have all but the one that is stuck taken so many? Their logs stay within the bound. */
struct others {
    unsigned stuck;
    uint64_t at_least;
};

static bool others_have_taken(struct sim_cluster *cluster, void *arg)
{
    const struct others *others = arg;
    bool all = true;

    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct replica_info info = look(cluster, i);
        if (i == others->stuck) {
            continue;
        }
        all = all && info.snapshots_taken >= others->at_least;
        if (info.log_bytes_since > 2 * LOG_BYTES + LOG_SLACK && !info.snapshot_taking) {
            sim_world_violation(&cluster->world, "bounded log", "node %u has %" PRIu64 " bytes behind its snapshot",
                                i + 1, info.log_bytes_since);
        }
    }
    return all;
}

void sim_turns_stuck(struct sim_cluster *cluster)
{
    struct replica_snapshot_config config = {.log_bytes = LOG_BYTES, .rate = RATE, .slice_bytes = SLICE};
    struct others others = {.at_least = 2};

    configure_all(cluster, &config);
    sim_cluster_expect(cluster, someone_writes, &others.stuck, 60 * SECOND, "snapshots", "a snapshot is due");
    config.rate = 1;
    configure(cluster, others.stuck, &config);
    sim_cluster_expect(cluster, others_have_taken, &others, 120 * SECOND, "snapshots", "the others take snapshots");
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct replica_info info = look(cluster, i);
        sim_story_require(cluster, i == others.stuck || info.snapshots_overdue >= 2, "they are begun out of turn");
        sim_story_require(cluster, i == others.stuck || info.snapshots_put_off >= 2, "and were put off before");
    }
    sim_story_require(cluster, writes(cluster, others.stuck), "one node writes all the time");
}
