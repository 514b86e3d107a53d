/* Scenarios: processes die, and the power goes. */
#ifndef LOCKSTEP_SIM_CRASHES_H
#define LOCKSTEP_SIM_CRASHES_H

#include "tests/sim/sim_scenario.h"

void sim_crash_leader(struct sim_cluster *cluster);
void sim_crash_replaced(struct sim_cluster *cluster);
void sim_crash_all(struct sim_cluster *cluster);
void sim_crash_torn(struct sim_cluster *cluster);
void sim_crash_power(struct sim_cluster *cluster);
void sim_crash_inside(struct sim_cluster *cluster);
void sim_crash_storm(struct sim_cluster *cluster);
void sim_crash_orderly(struct sim_cluster *cluster);
void sim_crash_minority(struct sim_cluster *cluster);
void sim_crash_lagging(struct sim_cluster *cluster);

#endif
