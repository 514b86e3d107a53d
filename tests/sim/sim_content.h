/* Scenarios in which one replica's content goes wrong: quarantine (consensus/replica_digest.c). A node is *spoilt* when
 * its digests are, and *wrong* when what it would answer is too: first the one, so that it is found out before any
 * client could see anything, then the other, so that any read it still answers shows. */
#ifndef LOCKSTEP_SIM_CONTENT_H
#define LOCKSTEP_SIM_CONTENT_H

#include "tests/sim/sim_cluster.h"

void sim_spoilt_replicas(struct sim_cluster *cluster);
void sim_spoilt_without_majority(struct sim_cluster *cluster);
/* ... and its content is made anew (consensus/replica_rebuild.c). */
void sim_rebuild(struct sim_cluster *cluster);
void sim_rebuild_again(struct sim_cluster *cluster);
void sim_rebuild_promises(struct sim_cluster *cluster);
void sim_rebuild_crash(struct sim_cluster *cluster);

#endif
