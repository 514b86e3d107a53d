#include "tests/sim/sim_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_fault.h"
#include "tests/sim/sim_members.h"

const char *const sim_tally_names[SIM_TALLIES] = {
    [SIM_TALLY_TAKEN] = "snapshots taken",
    [SIM_TALLY_PUT_OFF] = "put off for another node's",
    [SIM_TALLY_OVERDUE] = "begun out of turn",
    [SIM_TALLY_FETCHED] = "snapshots installed from another node",
    [SIM_TALLY_RESUMED] = "transfers of them resumed",
    [SIM_TALLY_CHANGES] = "membership changes committed",
    [SIM_TALLY_FLIPS] = "bits flipped on disk",
    [SIM_TALLY_ERRORS] = "disk requests failed",
    [SIM_TALLY_TORN] = "writes torn",
    [SIM_TALLY_FULL] = "disks made nearly full",
    [SIM_TALLY_NO_SPACE] = "requests refused by a full disk",
    [SIM_TALLY_SLOW] = "disks made slow",
    [SIM_TALLY_RATES] = "changes of a clock's rate within the bound",
    [SIM_TALLY_JUMPS] = "jumps of a wall clock",
    [SIM_TALLY_STALLS] = "stalls of a node",
};

static void tally(const struct sim_cluster *cluster, struct sim_run_result *result)
{
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct sim_node_tally of = sim_node_tally(&cluster->nodes[i]);
        const struct sim_disk *disk = &cluster->nodes[i].disk;

        result->tally[SIM_TALLY_TAKEN] += of.taken;
        result->tally[SIM_TALLY_PUT_OFF] += of.put_off;
        result->tally[SIM_TALLY_OVERDUE] += of.overdue;
        result->tally[SIM_TALLY_FETCHED] += of.fetched;
        result->tally[SIM_TALLY_RESUMED] += of.resumed;
        result->tally[SIM_TALLY_ERRORS] += disk->errors;
        result->tally[SIM_TALLY_TORN] += disk->torn;
        result->tally[SIM_TALLY_NO_SPACE] += disk->no_space;
    }
    const unsigned n = cluster->check.n_configurations;
    result->tally[SIM_TALLY_CHANGES] = n > 0 ? n - 1 : 0;
}

static void run_random(struct sim_cluster *cluster, struct sim_run_result *result)
{
    struct sim_faults faults;
    struct sim_members members;

    sim_faults_init(&faults, cluster);
    sim_members_init(&members, cluster);
    sim_clocks_init(&cluster->clocks, cluster);
    faults.broken_clock = (unsigned)(sim_clocks_victim(&cluster->clocks) + 1); /* no other one breaks besides */
    sim_cluster_start_all(cluster);
    sim_workload_start(&cluster->workload);
    sim_faults_start(&faults);
    sim_members_start(&members);
    sim_clocks_start(&cluster->clocks);
    sim_cluster_run(cluster, cluster->options.duration_us);
    sim_members_stop(&members);
    sim_faults_stop(&faults);
    sim_clocks_stop(&cluster->clocks);
    result->faults = faults.inflicted;
    result->tally[SIM_TALLY_FLIPS] = faults.flips;
    result->tally[SIM_TALLY_FULL] = faults.full;
    result->tally[SIM_TALLY_SLOW] = faults.slow;
    result->tally[SIM_TALLY_RATES] = cluster->clocks.rate_changes;
    result->tally[SIM_TALLY_JUMPS] = faults.wall_jumps;
    result->tally[SIM_TALLY_STALLS] = faults.stalls;
}

static void run_scenario(struct sim_cluster *cluster, const struct sim_scenario *scenario)
{
    sim_cluster_start_all(cluster);
    if (!sim_cluster_expect(cluster, sim_cluster_has_leader, NULL, 5000000, "liveness", "a first leader is elected")) {
        return;
    }
    sim_workload_start(&cluster->workload);
    sim_cluster_run(cluster, 500000);
    if (!cluster->world.violated) {
        scenario->run(cluster);
    }
}

static void explain_violation(struct sim_cluster *cluster)
{
    const struct sim_world *world = &cluster->world;
    const char *key = NULL;
    char copy[SIM_KEY_BYTES] = "";

    fprintf(stderr, "violation of \"%s\" at %.6f s (seed %" PRIu64 ", %u nodes):\n    %s\n", world->invariant,
            (double)world->violation_us / 1e6, world->seed, cluster->n_nodes, world->violation);
    if (strncmp(world->violation, "key ", 4) == 0) { /* the history of that key alone */
        snprintf(copy, sizeof copy, "%.*s", (int)strcspn(world->violation + 4, ":"), world->violation + 4);
        key = copy;
    }
    fprintf(stderr, "  the last events:\n");
    sim_world_print_log(world, 60);
    fprintf(stderr, "  operations around it%s%s:\n", key == NULL ? "" : " on key ", key == NULL ? "" : key);
    sim_history_print(&cluster->history, key, world->violation_us, key == NULL ? 30 : 60);
}

void sim_run(const struct sim_options *options, const struct sim_scenario *scenario, bool explain,
             struct sim_run_result *result)
{
    struct sim_cluster *cluster = calloc(1, sizeof *cluster);
    struct sim_options own = *options;

    if (cluster == NULL) {
        abort();
    }
    memset(result, 0, sizeof *result);
    own.plain = scenario != NULL;
    own.n_members = scenario != NULL ? sim_members_at_first(scenario) : own.n_members;
    own.n_nodes = own.n_nodes == 0 && scenario != NULL ? scenario->n_nodes : own.n_nodes;
    sim_cluster_init(cluster, &own);
    if (scenario != NULL) {
        run_scenario(cluster, scenario);
    } else {
        run_random(cluster, result);
    }
    sim_cluster_finish(cluster);
    result->violated = cluster->world.violated;
    memcpy(result->invariant, cluster->world.invariant, sizeof result->invariant);
    memcpy(result->text, cluster->world.violation, sizeof result->text);
    tally(cluster, result);
    result->trace = cluster->world.trace;
    result->events = cluster->world.events;
    result->simulated_us = cluster->world.now_us;
    result->ops_ok = cluster->workload.ok;
    result->ops_failed = cluster->workload.failed;
    result->ops_unknown = cluster->workload.unknown;
    result->ops_checked = cluster->history.ops_checked;
    result->too_hard = cluster->history.too_hard;
    result->steps = cluster->history.steps;
    result->elections = cluster->check.elections;
    result->recovery_us = cluster->recovery_us;
    result->wild_episodes = cluster->clocks.episodes;
    result->stale = cluster->clocks.stale;
    memcpy(result->stale_text, cluster->clocks.stale_text, sizeof result->stale_text);
    result->late_max_us = cluster->clocks.late_max_us;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        result->crashes += cluster->nodes[i].lives - 1;
        result->local_reads += cluster->nodes[i].local_reads;
    }
    if (result->violated && explain) {
        explain_violation(cluster);
    }
    sim_cluster_fini(cluster);
    free(cluster);
}
