/* Scenarios about when snapshots are taken: members take turns, within bounds. Each has one story. */
#ifndef LOCKSTEP_SIM_TURNS_H
#define LOCKSTEP_SIM_TURNS_H

#include "tests/sim/sim_cluster.h"

/* All are due at the same moment, again and again: one at a time writes. */
void sim_turns_taken(struct sim_cluster *cluster);
/* A leader dies while another member writes one: the next leader gives no turn before it has heard of that. */
void sim_turns_leader(struct sim_cluster *cluster);
/* The member that has the turn never ends: the others wait until the bound of their logs, not longer. */
void sim_turns_stuck(struct sim_cluster *cluster);

#endif
