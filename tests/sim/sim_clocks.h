/* What the rates of a cluster's clocks do in a random run: they wander within the bound; with wild clocks, that of one
 * node leaves it again and again: by a little, by far, at once, step by step, or the clock stops. Knows which stale
 * reads that excuses. Owns its schedule; borrows the cluster. */
#ifndef LOCKSTEP_SIM_CLOCKS_H
#define LOCKSTEP_SIM_CLOCKS_H

#include "tests/sim/sim_node.h"

struct sim_cluster;

/* The bound that the simulated nodes are configured with, and what sane clocks keep to. */
#define SIM_CLOCKS_RHO_PPM 10000
#define SIM_CLOCKS_SANE_PPM 9900

struct sim_clocks {
    /* public, read only */
    uint64_t rate_changes; /* within the bound */
    uint64_t episodes;     /* of a wild clock */
    uint64_t stale;        /* reads that were stale, and excused */
    uint64_t late_max_us;  /* how long the clock had been far out, at most, when such a read's promise was given */
    char stale_text[128];  /* the first of them, in words */
    /* private */
    struct sim_cluster *cluster;
    struct sim_random random;
    struct sim_task wander, wild, cut;
    unsigned victim;
    bool is_cut;
    int32_t target_ppm;      /* of the episode; 0: none is on */
    unsigned steps;          /* left until the target is reached */
    uint64_t until_us;       /* the episode lasts till then */
    uint64_t beyond_from_us; /* the newest time with a rate beyond the bound: from ... */
    uint64_t beyond_to_us;   /* ... until; SIM_NEVER: it lasts; 0: none yet */
    uint64_t far_from_us;    /* the rate has been far out since then; SIM_NEVER: it is not */
};

void sim_clocks_init(struct sim_clocks *clocks, struct sim_cluster *cluster);
/* The node whose clock goes wild; -1: none. */
int sim_clocks_victim(const struct sim_clocks *clocks);
void sim_clocks_start(struct sim_clocks *clocks);
/* All rates are sane from now on, and wall clocks right. */
void sim_clocks_stop(struct sim_clocks *clocks);

/* A node is about to answer a read from memory: if that turns out to be stale, is the wild clock to blame, and too
 * fresh for anybody to have noticed? Gives how long it had been far out when the promise that the read rests on was
 * given, microseconds; SIM_NEVER: it is no excuse. */
uint64_t sim_clocks_excuse(const struct sim_clocks *clocks, const struct sim_node *node);
/* It did: `node` answered with old data. */
void sim_clocks_note_stale(struct sim_clocks *clocks, unsigned node, uint64_t late_us);

#endif
