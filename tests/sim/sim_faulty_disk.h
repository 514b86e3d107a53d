/* Scenarios: disks that are slow, full, fail, or lie. */
#ifndef LOCKSTEP_SIM_FAULTY_DISK_H
#define LOCKSTEP_SIM_FAULTY_DISK_H

#include "tests/sim/sim_scenario.h"

void sim_faulty_disk_slow_follower(struct sim_cluster *cluster);
void sim_faulty_disk_slow_leader(struct sim_cluster *cluster);
void sim_faulty_disk_full(struct sim_cluster *cluster);
void sim_faulty_disk_errors(struct sim_cluster *cluster);
void sim_faulty_disk_bits(struct sim_cluster *cluster);
void sim_faulty_disk_log(struct sim_cluster *cluster);

#endif
