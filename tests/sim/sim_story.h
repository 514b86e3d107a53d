/* What the scenarios' stories are told with. */
#ifndef LOCKSTEP_SIM_STORY_H
#define LOCKSTEP_SIM_STORY_H

#include "tests/sim/sim_cluster.h"

/* The leader, or a follower, after waiting for a leader. */
unsigned sim_story_leader(struct sim_cluster *cluster);
unsigned sim_story_follower(struct sim_cluster *cluster);
/* For sim_cluster_expect: another node than `*old` (unsigned) leads. */
bool sim_story_other_leads(struct sim_cluster *cluster, void *old);
/* A write was acknowledged after `*since_us` (uint64_t). */
bool sim_story_wrote_since(struct sim_cluster *cluster, void *since_us);
/* Writes go on: one is acknowledged that begins and ends from now on. */
bool sim_story_expect_write(struct sim_cluster *cluster, uint64_t within_us, const char *what);
/* Nothing gets from either to the other, or again everything. */
void sim_story_block_pair(struct sim_cluster *cluster, unsigned a, unsigned b, bool blocked);
/* A write of one key by nobody of the workload, and wait until it has ended, well or not. */
void sim_story_set(struct sim_cluster *cluster, const char *key, const void *value, size_t len);
/* The story is not what it should be unless this holds. */
void sim_story_require(struct sim_cluster *cluster, bool holds, const char *what);

#endif
