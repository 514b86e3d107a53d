/* Scenarios for the hazards of leases and grants that need more than a fault (docs/CONSISTENCY.md, "Hazards"). */
#ifndef LOCKSTEP_SIM_HAZARDS_H
#define LOCKSTEP_SIM_HAZARDS_H

#include "tests/sim/sim_scenario.h"

void sim_hazard_slow_leader(struct sim_cluster *cluster);
void sim_hazard_stopped_leader(struct sim_cluster *cluster);
void sim_hazard_fast_voter(struct sim_cluster *cluster);
void sim_hazard_slow_reader(struct sim_cluster *cluster);
void sim_hazard_reads_return(struct sim_cluster *cluster);
/* Not a hazard but the price of grants: none in round trips. */
void sim_hazard_no_extra_trip(struct sim_cluster *cluster);
void sim_hazard_transfer_cut(struct sim_cluster *cluster);
void sim_hazard_transfer_behind(struct sim_cluster *cluster);
void sim_hazard_deposed_grants(struct sim_cluster *cluster);
void sim_hazard_vote_guard(struct sim_cluster *cluster);
void sim_hazard_transfer_under_grant(struct sim_cluster *cluster);
void sim_hazard_transfers(struct sim_cluster *cluster);

#endif
