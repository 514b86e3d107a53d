/* Scenarios: wall clocks that jump, and processes that stand still. */
#ifndef LOCKSTEP_SIM_TIMES_H
#define LOCKSTEP_SIM_TIMES_H

#include "tests/sim/sim_scenario.h"

void sim_time_jump(struct sim_cluster *cluster);
void sim_time_unused(struct sim_cluster *cluster);
void sim_time_stall(struct sim_cluster *cluster);

#endif
