/* A whole simulated cluster: world, network, nodes, clients and checks, and what a test does with them. Owns them all.
 */
#ifndef LOCKSTEP_SIM_CLUSTER_H
#define LOCKSTEP_SIM_CLUSTER_H

#include "tests/sim/sim_clocks.h"
#include "tests/sim/sim_workload.h"

struct sim_options {
    uint64_t seed;
    unsigned n_nodes;     /* 0: drawn from the seed */
    unsigned n_members;   /* of them in the first configuration, the others wait to be added; 0: all, or drawn */
    uint64_t duration_us; /* of the time with faults */
    bool verbose;
    bool wild_clocks; /* the rate of one clock leaves the bound */
    bool plain;       /* default settings instead of drawn ones: for scenarios */
};

struct sim_cluster {
    struct sim_options options;
    struct sim_world world;
    struct sim_net net;
    struct sim_check check;
    struct sim_history history;
    struct sim_workload workload;
    struct sim_clocks clocks; /* of random runs */
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_task restarts[SIM_NODES_MAX];
    unsigned n_nodes;
    unsigned n_members; /* at first */
    struct sim_random random;
    struct replica_server servers[SIM_NODES_MAX];
    uint64_t election_timeout_us;
    uint64_t clock_spread_ms; /* sane wall clocks are within this of true time */
    uint64_t recovery_us;     /* from healing to the first acknowledged write */
    uint64_t convergence_us;  /* from the end of the load to equal nodes */
    bool local_reads;
};

/* All nodes are down, the workload is stopped. */
void sim_cluster_init(struct sim_cluster *cluster, const struct sim_options *options);
void sim_cluster_fini(struct sim_cluster *cluster);
void sim_cluster_start_all(struct sim_cluster *cluster);

/* Let time pass; false once something is violated. */
bool sim_cluster_run(struct sim_cluster *cluster, uint64_t duration_us);
/* Let time pass until `holds`, at most `timeout_us`; whether it holds. */
bool sim_cluster_run_until(struct sim_cluster *cluster, bool (*holds)(struct sim_cluster *cluster, void *arg),
                           void *arg, uint64_t timeout_us);
/* The same, and a violation of `invariant` if it does not come true. */
bool sim_cluster_expect(struct sim_cluster *cluster, bool (*holds)(struct sim_cluster *cluster, void *arg), void *arg,
                        uint64_t timeout_us, const char *invariant, const char *what);

/* Position of the node that leads the highest term and is ready; -1: none. */
int sim_cluster_leader(const struct sim_cluster *cluster);
bool sim_cluster_has_leader(struct sim_cluster *cluster, void *unused);
/* All nodes that are up are at the same index with the same content, and most are up. */
bool sim_cluster_is_converged(struct sim_cluster *cluster, void *unused);

/* Is it in the newest configuration of the leader? Without a leader: was it at first? */
bool sim_cluster_is_member(const struct sim_cluster *cluster, unsigned node);

/* Cut `node` off: in, out, or both ways. */
void sim_cluster_isolate(struct sim_cluster *cluster, unsigned node, bool in, bool out);
void sim_cluster_restart_later(struct sim_cluster *cluster, unsigned node, uint64_t delay_us);
/* End all faults, and start what is down. Nodes with damaged disks may refuse. */
void sim_cluster_heal(struct sim_cluster *cluster);
/* Wait until no snapshot is under way, and look at how much log each node keeps. */
void sim_cluster_check_logs(struct sim_cluster *cluster);
/* Heal; demand that writes succeed again and that all nodes converge; read everything; check the history. */
void sim_cluster_finish(struct sim_cluster *cluster);

#endif
