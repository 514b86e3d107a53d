/* Named scenarios: regression tests of whole clusters, each with one story. */
#ifndef LOCKSTEP_SIM_SCENARIO_H
#define LOCKSTEP_SIM_SCENARIO_H

#include "tests/sim/sim_cluster.h"

struct sim_scenario {
    const char *name;
    const char *doc; /* one line */
    unsigned n_nodes;
    void (*run)(struct sim_cluster *cluster); /* leader elected, load running; sim_cluster_finish follows */
};

/* Ends with a NULL name. */
extern const struct sim_scenario sim_scenarios[];
const struct sim_scenario *sim_scenario_find(const char *name);

#endif
