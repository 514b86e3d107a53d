/* The simulated env (consensus/env.h) of one node, for one life of it: a crash ends the env, the disk lives on. Owns
 * timers; borrows disk and world. Knows nothing of Raft or keys. */
#ifndef LOCKSTEP_SIM_ENV_H
#define LOCKSTEP_SIM_ENV_H

#include "consensus/env.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_disk.h"

/* What the node does with what its env brings. */
struct sim_env_owner {
    void *ctx;
    /* A timer is due. Returns false if the node is stalled until `*until_us` (true time): try again then. */
    bool (*timer)(void *ctx, struct env_timer *timer, uint64_t *until_us);
    bool (*send)(void *ctx, uint64_t peer_id, const struct iovec *pieces, unsigned n);
    void (*log)(void *ctx, int level, const char *text);
    /* The env is dead from now on: fail_stop was called (what and advice), or the fuse has burned (NULL, NULL). */
    void (*died)(void *ctx, const char *what, const char *advice);
};

struct sim_env {
    struct env env; /* first */
    /* public, read only */
    bool dead;
    unsigned timers; /* initialised and not finished */
    /* public: the node dies at the fuse-th call into the env from now, in the middle of whatever it does; 0: never */
    uint32_t fuse;
    /* private */
    struct sim_world *world;
    struct sim_disk *disk;
    struct sim_clock *clock;
    struct sim_random random;
    struct sim_env_owner owner;
    uint64_t id;
    struct sim_timer *timer_list;
};

void sim_env_init(struct sim_env *env, struct sim_world *world, struct sim_disk *disk, struct sim_clock *clock,
                  struct sim_random random, uint64_t id, const struct sim_env_owner *owner);
/* The rate of the clock has changed: set the timers anew. */
void sim_env_clock_changed(struct sim_env *env);
/* From now on nothing reaches disk or network. */
void sim_env_kill(struct sim_env *env);
/* Frees timers that were left behind. */
void sim_env_fini(struct sim_env *env);

#endif
