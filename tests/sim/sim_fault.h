/* Random faults: draws a mix of kinds and intensities from the seed and inflicts them on a cluster, each for a while.
 * Owns its schedule; borrows the cluster. */
#ifndef LOCKSTEP_SIM_FAULT_H
#define LOCKSTEP_SIM_FAULT_H

#include "tests/sim/sim_cluster.h"

#define SIM_FAULTS_AT_ONCE 4u

enum sim_fault_kind {
    SIM_FAULT_PARTITION,
    SIM_FAULT_CRASH,
    SIM_FAULT_CRASH_INSIDE, /* in the middle of an event: the n-th call into the env never returns */
    SIM_FAULT_CRASH_ALL,
    SIM_FAULT_STOP,
    SIM_FAULT_STALL,
    SIM_FAULT_SLOW_DISK,
    SIM_FAULT_DISK_ERRORS,
    SIM_FAULT_FULL_DISK,
    SIM_FAULT_CLOCK,
    SIM_FAULT_BREAK_LINKS,
    SIM_FAULT_SPIKES,
    SIM_FAULT_FLIP,
    SIM_FAULT_TRANSFER,
    SIM_FAULT_KINDS
};

struct sim_faults;

struct sim_fault {
    struct sim_task end;
    struct sim_faults *faults;
    enum sim_fault_kind kind;
    unsigned node;
    bool active;
};

struct sim_faults {
    struct sim_cluster *cluster;
    struct sim_random random;
    struct sim_task next;
    uint32_t weights[SIM_FAULT_KINDS]; /* 0: this run has none of it */
    uint64_t gap_us;                   /* mean time between two */
    uint64_t length_us;                /* mean duration */
    struct sim_fault active[SIM_FAULTS_AT_ONCE];
    unsigned broken_clock; /* node + 1: the one whose wall clock may be anything */
    bool flipped;
    uint64_t inflicted;
    uint64_t flips, slow, full;  /* of them, as far as something came of it */
    uint64_t wall_jumps, stalls; /* among them: a wall clock jumps, a node does nothing for a while */
};

void sim_faults_init(struct sim_faults *faults, struct sim_cluster *cluster);
void sim_faults_start(struct sim_faults *faults);
/* End them all. sim_cluster_heal does the rest. */
void sim_faults_stop(struct sim_faults *faults);

#endif
