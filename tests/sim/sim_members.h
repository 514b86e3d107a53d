/* Membership in the simulator: changes drawn at random while faults happen, and the scenarios about changes. A node
 * beyond the first configuration has an empty disk and waits to be added; no id is ever used twice. Owns its schedule;
 * borrows the cluster. */
#ifndef LOCKSTEP_SIM_MEMBERS_H
#define LOCKSTEP_SIM_MEMBERS_H

#include "tests/sim/sim_scenario.h"

struct sim_members {
    struct sim_cluster *cluster;
    struct sim_random random;
    struct sim_task next;
    uint64_t gap_us; /* mean time between two changes */
    uint64_t accepted;
};

/* Does nothing in a cluster whose nodes are all members from the first. */
void sim_members_init(struct sim_members *members, struct sim_cluster *cluster);
void sim_members_start(struct sim_members *members);
void sim_members_stop(struct sim_members *members);

/* How many nodes of a scenario are members at first; 0: all. */
unsigned sim_members_at_first(const struct sim_scenario *scenario);

void sim_member_add(struct sim_cluster *cluster);
void sim_member_rolling(struct sim_cluster *cluster);
void sim_member_leader(struct sim_cluster *cluster);
void sim_member_returns(struct sim_cluster *cluster);
void sim_member_away(struct sim_cluster *cluster);
void sim_member_rollback(struct sim_cluster *cluster);
void sim_member_two(struct sim_cluster *cluster);
void sim_member_removed(struct sim_cluster *cluster);
void sim_member_grants(struct sim_cluster *cluster);
void sim_member_sole(struct sim_cluster *cluster);
void sim_member_one(struct sim_cluster *cluster);

#endif
