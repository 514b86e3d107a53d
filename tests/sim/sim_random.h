/* Seeded random streams: every choice of a simulation comes from one of these, so that a seed replays exactly. Owns
 * nothing; knows nothing of the simulation. */
#ifndef LOCKSTEP_SIM_RANDOM_H
#define LOCKSTEP_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_random {
    uint64_t state;
};

void sim_random_init(struct sim_random *random, uint64_t seed);
/* A stream of its own that depends on this one's seed and `label`, and draws nothing from it: adding draws in one place
 * leaves the others as they are. */
struct sim_random sim_random_fork(const struct sim_random *random, uint64_t label);
uint64_t sim_random_next(struct sim_random *random);
/* Uniform in [0, n), n > 0. */
uint64_t sim_random_below(struct sim_random *random, uint64_t n);
/* Uniform in [low, high]. */
uint64_t sim_random_range(struct sim_random *random, uint64_t low, uint64_t high);
/* True with probability ppm / 1,000,000. */
bool sim_random_chance(struct sim_random *random, uint32_t ppm);
/* Geometric-like spread for delays: mostly near `typical`, sometimes many times that, never above `max`. */
uint64_t sim_random_delay(struct sim_random *random, uint64_t typical, uint64_t max);

#endif
