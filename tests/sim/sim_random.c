#include "tests/sim/sim_random.h"

#include <assert.h>

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection that spreads consecutive states. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void sim_random_init(struct sim_random *random, uint64_t seed)
{
    random->state = mix(seed + 0x9e3779b97f4a7c15u);
}

struct sim_random sim_random_fork(const struct sim_random *random, uint64_t label)
{
    struct sim_random fork;

    sim_random_init(&fork, mix(random->state ^ mix(label + 1)));
    return fork;
}

uint64_t sim_random_next(struct sim_random *random)
{
    random->state += 0x9e3779b97f4a7c15u;
    return mix(random->state);
}

uint64_t sim_random_below(struct sim_random *random, uint64_t n)
{
    assert(n > 0);
    return sim_random_next(random) % n; /* the bias is irrelevant at these sizes */
}

uint64_t sim_random_range(struct sim_random *random, uint64_t low, uint64_t high)
{
    assert(low <= high);
    return low + sim_random_below(random, high - low + 1);
}

bool sim_random_chance(struct sim_random *random, uint32_t ppm)
{
    return sim_random_below(random, 1000000) < ppm;
}

uint64_t sim_random_delay(struct sim_random *random, uint64_t typical, uint64_t max)
{
    uint64_t delay = sim_random_range(random, typical / 2, typical + typical / 2);

    while (delay < max && sim_random_chance(random, 60000)) {
        delay *= 2;
    }
    return delay < max ? delay : max;
}
