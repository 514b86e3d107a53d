#include "tests/sim/sim_clocks.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/sim_cluster.h"

#define MS 1000u
/* A rate this far out shows within NOTICE_TIMEOUTS election timeouts, whatever the network does to the echoes. */
#define FAR_PPM 60000
#define NOTICE_TIMEOUTS 2u

static void wander_cb(struct sim_task *task);
static void wild_cb(struct sim_task *task);
static void cut_cb(struct sim_task *task);

void sim_clocks_init(struct sim_clocks *clocks, struct sim_cluster *cluster)
{
    memset(clocks, 0, sizeof *clocks);
    clocks->cluster = cluster;
    clocks->random = sim_random_fork(&cluster->random, 7);
    clocks->wander = (struct sim_task){.data = clocks, .cb = wander_cb};
    clocks->wild = (struct sim_task){.data = clocks, .cb = wild_cb};
    clocks->cut = (struct sim_task){.data = clocks, .cb = cut_cb};
    clocks->far_from_us = SIM_NEVER;
    clocks->victim = (unsigned)sim_random_below(&clocks->random, cluster->n_members);
    if (cluster->options.wild_clocks) {
        cluster->check.wild_clock = clocks->victim + 1;
        for (unsigned i = 0; i < cluster->n_nodes; i++) {
            cluster->nodes[i].clocks = clocks;
        }
    }
}

int sim_clocks_victim(const struct sim_clocks *clocks)
{
    return clocks->cluster->options.wild_clocks ? (int)clocks->victim : -1;
}

static void set_rate(struct sim_clocks *clocks, unsigned node, int32_t rate_ppm)
{
    struct sim_node *n = &clocks->cluster->nodes[node];

    if (sim_clock_set_rate(&n->clock, &clocks->cluster->world, rate_ppm) && n->state == SIM_NODE_UP) {
        sim_env_clock_changed(&n->env);
    }
}

static int32_t sane_rate(struct sim_random *random)
{
    return (int32_t)sim_random_range(random, 0, 2 * SIM_CLOCKS_SANE_PPM) - SIM_CLOCKS_SANE_PPM;
}

static void wander_cb(struct sim_task *task)
{
    struct sim_clocks *clocks = task->data;
    const unsigned node = (unsigned)sim_random_below(&clocks->random, clocks->cluster->n_nodes);

    if ((int)node != sim_clocks_victim(clocks)) {
        set_rate(clocks, node, sane_rate(&clocks->random));
        clocks->rate_changes++;
    }
    sim_world_after(&clocks->cluster->world, &clocks->wander, sim_random_range(&clocks->random, 50 * MS, 2000 * MS));
}

/* --- The wild clock ------------------------------------------------------------------------------------------------
 */

static int32_t magnitude(int32_t rate_ppm)
{
    return rate_ppm < 0 ? -rate_ppm : rate_ppm;
}

static void set_wild(struct sim_clocks *clocks, int32_t rate_ppm)
{
    const uint64_t now_us = clocks->cluster->world.now_us;

    set_rate(clocks, clocks->victim, rate_ppm);
    rate_ppm = sim_clock_rate_ppm(&clocks->cluster->nodes[clocks->victim].clock);
    if (magnitude(rate_ppm) <= SIM_CLOCKS_RHO_PPM) {
        clocks->beyond_to_us = clocks->beyond_to_us == SIM_NEVER ? now_us : clocks->beyond_to_us;
    } else if (clocks->beyond_to_us != SIM_NEVER) {
        clocks->beyond_from_us = now_us;
        clocks->beyond_to_us = SIM_NEVER;
    }
    if (magnitude(rate_ppm) < FAR_PPM) {
        clocks->far_from_us = SIM_NEVER;
    } else if (clocks->far_from_us == SIM_NEVER) {
        clocks->far_from_us = now_us;
    }
    sim_world_log(&clocks->cluster->world, "node %u: its clock's rate is off by %d ppm", clocks->victim + 1, rate_ppm);
}

static int32_t draw_target(struct sim_random *random)
{
    const int32_t sign = sim_random_chance(random, 500000) ? 1 : -1;

    switch (sim_random_below(random, 5)) {
    case 0: /* just above the bound */
        return sign * (int32_t)sim_random_range(random, SIM_CLOCKS_RHO_PPM + 100, 5 * SIM_CLOCKS_RHO_PPM);
    case 1:
        return sign * (int32_t)sim_random_range(random, 50000, 500000);
    case 2:
        return (int32_t)sim_random_range(random, 500000, 9000000);
    case 3:
        return -(int32_t)sim_random_range(random, 500000, 999000);
    default:
        return SIM_CLOCK_STOPPED;
    }
}

static void wild_cb(struct sim_task *task)
{
    struct sim_clocks *clocks = task->data;
    struct sim_world *world = &clocks->cluster->world;
    struct sim_random *random = &clocks->random;
    uint64_t wait_us;

    if (clocks->target_ppm == 0) {
        clocks->target_ppm = draw_target(random);
        clocks->steps = sim_random_chance(random, 500000) ? 1 : (unsigned)sim_random_range(random, 2, 20);
        clocks->until_us = world->now_us + sim_random_delay(random, 1500 * MS, 6000 * MS);
        clocks->episodes++;
        if (!clocks->is_cut) {
            sim_world_after(world, &clocks->cut, sim_random_delay(random, 300 * MS, 5000 * MS));
        }
    }
    if (clocks->steps > 0) {
        const int32_t rate_ppm = sim_clock_rate_ppm(&clocks->cluster->nodes[clocks->victim].clock);
        set_wild(clocks, rate_ppm + (clocks->target_ppm - rate_ppm) / (int32_t)clocks->steps);
        clocks->steps--;
        wait_us = sim_random_range(random, 20 * MS, 400 * MS);
    } else if (world->now_us < clocks->until_us) {
        wait_us = clocks->until_us - world->now_us;
    } else {
        clocks->target_ppm = 0;
        set_wild(clocks, sane_rate(random));
        wait_us = sim_random_delay(random, 1000 * MS, 4000 * MS);
    }
    sim_world_after(world, &clocks->wild, wait_us);
}

/* A wild clock does harm only when leadership moves, or a reader is cut off from it: so see to that. */
static void cut_cb(struct sim_task *task)
{
    struct sim_clocks *clocks = task->data;
    struct sim_cluster *cluster = clocks->cluster;
    const int leader = sim_cluster_leader(cluster);

    if (clocks->is_cut) {
        sim_world_log(&cluster->world, "the cut ends");
        sim_net_unblock_all(&cluster->net);
        clocks->is_cut = false;
        return;
    }
    clocks->is_cut = true;
    sim_cluster_isolate(cluster,
                        leader >= 0 && sim_random_chance(&clocks->random, 500000) ? (unsigned)leader : clocks->victim,
                        true, true);
    sim_world_after(
        &cluster->world, &clocks->cut,
        sim_random_range(&clocks->random, cluster->election_timeout_us / 2, 5 * cluster->election_timeout_us));
}

void sim_clocks_start(struct sim_clocks *clocks)
{
    struct sim_world *world = &clocks->cluster->world;

    if (sim_random_chance(&clocks->random, 500000)) {
        sim_world_after(world, &clocks->wander, sim_random_range(&clocks->random, 50 * MS, 2000 * MS));
    }
    if (clocks->cluster->options.wild_clocks) {
        sim_world_after(world, &clocks->wild, sim_random_range(&clocks->random, 500 * MS, 2000 * MS));
    }
}

void sim_clocks_stop(struct sim_clocks *clocks)
{
    struct sim_clock *clock = &clocks->cluster->nodes[clocks->victim].clock;
    const struct sim_world *world = &clocks->cluster->world;

    sim_world_cancel(&clocks->cluster->world, &clocks->wander);
    sim_world_cancel(&clocks->cluster->world, &clocks->wild);
    sim_world_cancel(&clocks->cluster->world, &clocks->cut);
    if (clocks->cluster->options.wild_clocks) {
        clocks->target_ppm = 0;
        set_wild(clocks, 0);
        clock->wall_off_ms = 0;
        clock->wall_off_ms = (int64_t)(SIM_EPOCH_MS + world->now_us / 1000) - (int64_t)sim_clock_wall_ms(clock, world);
    }
}

/* --- Excuses -------------------------------------------------------------------------------------------------------
 */

uint64_t sim_clocks_excuse(const struct sim_clocks *clocks, const struct sim_node *node)
{
    const uint64_t timeout_us = clocks->cluster->election_timeout_us;
    const uint64_t now_us = sim_clock_now_us(&node->clock, node->world);
    struct replica_info info;
    uint64_t length_us, promise_us;

    replica_info(node->replica, &info);
    if (info.local_left_us == 0 || clocks->beyond_to_us == 0) {
        return SIM_NEVER; /* a quorum confirms this read; or all clocks were sane so far */
    }
    /* The newest instant at which the reader can have been promised anything, and its true time. A lease is the length
     * of T, a grant half of it; what either rests on is not older than two such lengths. */
    length_us = info.role == REPLICA_LEADER ? timeout_us : timeout_us / 2;
    promise_us = sim_clock_true_us(&node->clock, now_us + info.local_left_us - length_us);
    if (clocks->beyond_to_us != SIM_NEVER && clocks->beyond_to_us + 2 * timeout_us < promise_us) {
        return SIM_NEVER;
    }
    if (clocks->far_from_us == SIM_NEVER || clocks->far_from_us >= promise_us) {
        return 0;
    }
    return promise_us - clocks->far_from_us;
}

void sim_clocks_note_stale(struct sim_clocks *clocks, unsigned node, uint64_t late_us)
{
    const struct sim_world *world = &clocks->cluster->world;

    if (clocks->stale++ == 0) {
        snprintf(clocks->stale_text, sizeof clocks->stale_text,
                 "node %u at %.3f s, the clock of node %u off by %d ppm, beyond the bound since %.3f s", node + 1,
                 (double)world->now_us / 1e6, clocks->victim + 1,
                 sim_clock_rate_ppm(&clocks->cluster->nodes[clocks->victim].clock),
                 (double)clocks->beyond_from_us / 1e6);
    }
    clocks->late_max_us = late_us > clocks->late_max_us ? late_us : clocks->late_max_us;
    if (late_us > NOTICE_TIMEOUTS * clocks->cluster->election_timeout_us) {
        sim_world_violation(&clocks->cluster->world, "drift watch",
                            "a stale read was promised %.3f s after a clock's rate was far out, and nobody noticed",
                            (double)late_us / 1e6);
    }
}
