/* One simulation from beginning to end, and its result. */
#ifndef LOCKSTEP_SIM_RUN_H
#define LOCKSTEP_SIM_RUN_H

#include "tests/sim/sim_scenario.h"

struct sim_run_result {
    bool violated;
    char invariant[48];
    char text[1024];
    uint64_t trace, events, simulated_us;
    uint64_t ops_ok, ops_failed, ops_unknown, ops_checked, too_hard, steps;
    uint64_t faults, elections, crashes, recovery_us;
    uint64_t local_reads, stale, late_max_us, wild_episodes; /* stale: excused by a clock beyond the bound */
};

/* `scenario` NULL: random faults drawn from the seed. `explain`: print log and history of a violation to stderr. */
void sim_run(const struct sim_options *options, const struct sim_scenario *scenario, bool explain,
             struct sim_run_result *result);

#endif
