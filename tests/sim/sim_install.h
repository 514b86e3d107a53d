/* Scenarios about snapshots that travel from node to node: a node that was away for longer than the log reaches back
 * gets one. Borrows the cluster. */
#ifndef LOCKSTEP_SIM_INSTALL_H
#define LOCKSTEP_SIM_INSTALL_H

#include "tests/sim/sim_scenario.h"

void sim_install_plain(struct sim_cluster *cluster);
void sim_install_resume(struct sim_cluster *cluster);
void sim_install_leader(struct sim_cluster *cluster);
void sim_install_crash(struct sim_cluster *cluster);
void sim_install_sender(struct sim_cluster *cluster);
void sim_install_synced(struct sim_cluster *cluster);
void sim_install_damaged(struct sim_cluster *cluster);
void sim_install_damaged_idle(struct sim_cluster *cluster);
void sim_install_full(struct sim_cluster *cluster);
void sim_install_slow(struct sim_cluster *cluster);
void sim_install_join(struct sim_cluster *cluster);
void sim_install_pruned(struct sim_cluster *cluster);
void sim_install_released(struct sim_cluster *cluster);
void sim_overtaken_checking(struct sim_cluster *cluster);
void sim_overtaken_loading(struct sim_cluster *cluster);

#endif
