/* Scenarios about snapshots: taking them, restarting from them, and losing them. Each has one story. */
#ifndef LOCKSTEP_SIM_SNAPSHOTS_H
#define LOCKSTEP_SIM_SNAPSHOTS_H

#include "tests/sim/sim_cluster.h"

/* A node takes a snapshot, and drops the log before it. */
void sim_snapshot_take(struct sim_cluster *cluster, unsigned node);

void sim_snapshot_cut(struct sim_cluster *cluster);
void sim_snapshot_restart(struct sim_cluster *cluster);
void sim_snapshot_crash(struct sim_cluster *cluster);
void sim_snapshot_one(struct sim_cluster *cluster);
void sim_snapshot_damaged(struct sim_cluster *cluster);
void sim_snapshot_lost(struct sim_cluster *cluster);
void sim_snapshot_full(struct sim_cluster *cluster);
void sim_snapshot_members(struct sim_cluster *cluster);

#endif
