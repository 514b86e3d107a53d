/* The invariants of a cluster, checked while it runs, with the eyes of somebody who sees all nodes at once: what was
 * committed at each index, who led each term, what was acknowledged. Violations go to the world. Knows nothing of how
 * nodes work. */
#ifndef LOCKSTEP_SIM_CHECK_H
#define LOCKSTEP_SIM_CHECK_H

#include "consensus/replica.h"
#include "tests/sim/sim_world.h"

/* What one node found after applying one entry. */
struct sim_applied {
    uint64_t index, term;
    uint64_t content; /* hash of the entry's bytes */
    uint64_t bytes;
    uint64_t digest, revision, keys, time_ms;
    uint64_t replies; /* hash over the replies, 0 if nobody listened */
};

struct sim_committed_servers {
    uint64_t index, hash;
};

#define SIM_CONFIGURATIONS_MAX 256u

struct sim_check {
    struct sim_committed_servers configurations[SIM_CONFIGURATIONS_MAX]; /* committed, by index */
    unsigned n_configurations;
    bool differences_expected; /* a scenario made a node's content differ */
    struct sim_world *world;
    struct sim_applied *committed; /* by index; content 0: not known */
    uint64_t committed_n, committed_capacity;
    unsigned *leaders; /* by term: node + 1; 0: none seen */
    uint64_t leaders_n;
    uint64_t acknowledged; /* highest index whose effect a client has seen in a reply */
    uint64_t highest_applied;
    uint64_t applies, elections;
    int64_t clock_ahead_max_ms; /* sane wall clocks are not further ahead than this */
    unsigned
        wild_clock; /* node + 1 whose clock's rate may be anything, and its stamps: only what is committed counts */
    uint64_t bound_us, bound_at_us; /* no clock that ran on from any stamp is further than this */
};

void sim_check_init(struct sim_check *check, struct sim_world *world);
void sim_check_fini(struct sim_check *check);

/* Log matching, equal digests, revisions and replies at equal indexes, cluster time that never goes back. */
void sim_check_applied(struct sim_check *check, unsigned node, const struct sim_applied *applied);
/* A node's content was replaced by that of a snapshot: index, digest, revision, keys and time are set. */
void sim_check_installed(struct sim_check *check, unsigned node, const struct sim_applied *content);
/* At most one leader per term. */
void sim_check_leads(struct sim_check *check, unsigned node, uint64_t term);
/* A leader stamped an entry: cluster time must not run ahead of all sane clocks, and not faster than time itself by
 * more than the slew, unless the node has seen no entry with a time since it started (`fresh`). */
void sim_check_stamp(struct sim_check *check, unsigned node, uint64_t time_ms, bool fresh);
/* A client got a reply that takes everything up to `index` into account, to a request made when `floor` had been
 * acknowledged. */
void sim_check_reply(struct sim_check *check, unsigned node, uint64_t index, uint64_t floor, bool read,
                     const char *what);
/* A client has seen the effect of entries up to `index`. */
void sim_check_shown(struct sim_check *check, uint64_t index);
/* A node that sends no snapshot keeps no more of the log before its newest one than `keep_bytes` and an entry. */
void sim_check_log_kept(struct sim_check *check, unsigned node, const struct replica_info *info, uint64_t keep_bytes);
/* What a node's replica says of itself, against what it said before in this life. */
struct sim_progress {
    uint64_t term, commit, applied;
};
void sim_check_progress(struct sim_check *check, unsigned node, const struct replica_info *info,
                        struct sim_progress *before);

/* One committed configuration per index, and nobody who has applied it uses an older one. (sim_members.c) */
void sim_check_configuration(struct sim_check *check, unsigned node, const struct replica_info *info);

#endif
