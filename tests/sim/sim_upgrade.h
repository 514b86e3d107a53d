/* Scenario: a rolling upgrade, with feature levels (consensus/replica_feature.c). */
#ifndef LOCKSTEP_SIM_UPGRADE_H
#define LOCKSTEP_SIM_UPGRADE_H

#include "tests/sim/sim_cluster.h"

void sim_upgrade(struct sim_cluster *cluster);

#endif
