/* One simulation from beginning to end, and its result. */
#ifndef LOCKSTEP_SIM_RUN_H
#define LOCKSTEP_SIM_RUN_H

#include "tests/sim/sim_scenario.h"

/* What happened how often in a run of random faults: proof that a clean run met it at all. */
enum sim_tally {
    SIM_TALLY_TAKEN,   /* snapshots that nodes took */
    SIM_TALLY_PUT_OFF, /* ... after they had waited for another node's */
    SIM_TALLY_OVERDUE, /* ... without waiting for it any longer */
    SIM_TALLY_FETCHED, /* ... and installed from another node */
    SIM_TALLY_RESUMED, /* ... whose transfer went on after a break */
    SIM_TALLY_CHANGES, /* configurations committed after the first */
    SIM_TALLY_FLIPS,   /* bits that flipped on disk */
    SIM_TALLY_ERRORS,  /* disk requests that failed */
    SIM_TALLY_TORN,    /* writes of which only a part reached the disk */
    SIM_TALLY_FULL,    /* disks made nearly full */
    SIM_TALLY_NO_SPACE,
    SIM_TALLY_SLOW,   /* disks made slow */
    SIM_TALLY_RATES,  /* changes of a clock's rate, within the bound */
    SIM_TALLY_JUMPS,  /* wall clocks that jumped */
    SIM_TALLY_STALLS, /* nodes that stood still for a while */
    SIM_TALLIES
};
extern const char *const sim_tally_names[SIM_TALLIES];

struct sim_run_result {
    bool violated;
    char invariant[48];
    char text[1024];
    uint64_t trace, events, simulated_us;
    uint64_t ops_ok, ops_failed, ops_unknown, ops_checked, too_hard, steps;
    uint64_t faults, elections, crashes, recovery_us;
    uint64_t tally[SIM_TALLIES];
    char stale_text[128]; /* the first stale read that a clock beyond the bound excuses */
    uint64_t local_reads, stale, late_max_us, wild_episodes; /* stale: excused by a clock beyond the bound */
};

/* `scenario` NULL: random faults drawn from the seed. `explain`: print log and history of a violation to stderr. */
void sim_run(const struct sim_options *options, const struct sim_scenario *scenario, bool explain,
             struct sim_run_result *result);

#endif
