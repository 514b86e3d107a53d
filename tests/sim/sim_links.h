/* Scenarios: who hears whom. Partitions, one-way ones, frames that come late or twice. */
#ifndef LOCKSTEP_SIM_LINKS_H
#define LOCKSTEP_SIM_LINKS_H

#include "tests/sim/sim_scenario.h"

void sim_link_mute(struct sim_cluster *cluster);
void sim_link_deaf(struct sim_cluster *cluster);
void sim_link_tail(struct sim_cluster *cluster);
void sim_link_elections(struct sim_cluster *cluster);
void sim_link_stale_read(struct sim_cluster *cluster);
void sim_link_double_vote(struct sim_cluster *cluster);
void sim_link_pre_vote_term(struct sim_cluster *cluster);
void sim_link_replaced(struct sim_cluster *cluster);
void sim_link_chaos(struct sim_cluster *cluster);
void sim_link_late(struct sim_cluster *cluster);

#endif
