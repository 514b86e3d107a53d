#include "tests/sim/sim_story.h"

#include <string.h>

#define LEADER_WITHIN_US 5000000u

unsigned sim_story_leader(struct sim_cluster *cluster)
{
    return sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, LEADER_WITHIN_US, "liveness",
                              "a leader is elected")
               ? (unsigned)sim_cluster_leader(cluster)
               : 0;
}

unsigned sim_story_follower(struct sim_cluster *cluster)
{
    return (sim_story_leader(cluster) + 1) % cluster->n_nodes;
}

bool sim_story_other_leads(struct sim_cluster *cluster, void *old)
{
    int leader = sim_cluster_leader(cluster);

    return leader >= 0 && (unsigned)leader != *(const unsigned *)old;
}

bool sim_story_wrote_since(struct sim_cluster *cluster, void *since_us)
{
    return cluster->workload.last_write_us > *(const uint64_t *)since_us;
}

bool sim_story_expect_write(struct sim_cluster *cluster, uint64_t within_us, const char *what)
{
    uint64_t since_us = cluster->world.now_us + 2000;

    return sim_cluster_expect(cluster, sim_story_wrote_since, &since_us, within_us, "liveness", what);
}

struct write {
    struct sim_request request;
    bool done;
};

static void written_cb(struct sim_request *request, enum sim_result result)
{
    struct write *write = request->data;

    (void)result;
    write->done = true;
}

static bool is_written(struct sim_cluster *cluster, void *write)
{
    (void)cluster;
    return ((struct write *)write)->done;
}

void sim_story_set(struct sim_cluster *cluster, const char *key, const void *value, size_t len)
{
    static struct write write; /* the cluster may still know it after a violation */

    memset(&write, 0, sizeof write);
    sim_reply_init(&write.request.reply);
    write.request.data = &write;
    write.request.done = written_cb;
    write.request.argc = 3;
    write.request.argv[0] = (struct iovec){(void *)(uintptr_t) "SET", 3};
    write.request.argv[1] = (struct iovec){(void *)(uintptr_t)key, strlen(key)};
    write.request.argv[2] = (struct iovec){(void *)(uintptr_t)value, len};
    sim_node_request(&cluster->nodes[sim_story_leader(cluster)], &write.request);
    sim_cluster_expect(cluster, is_written, &write, 10000000, "liveness", "a write ends");
    if (write.done) {
        sim_reply_fini(&write.request.reply);
    }
}

void sim_story_require(struct sim_cluster *cluster, bool holds, const char *what)
{
    if (!holds) {
        sim_world_violation(&cluster->world, "scenario", "%s", what);
    }
}

void sim_story_block_pair(struct sim_cluster *cluster, unsigned a, unsigned b, bool blocked)
{
    sim_net_block(&cluster->net, a, b, blocked);
    sim_net_block(&cluster->net, b, a, blocked);
}
