#include "consensus/cluster_clock.h"

#include <assert.h>

void cluster_clock_init(struct cluster_clock *clock, uint32_t slew_ppm)
{
    *clock = (struct cluster_clock){.slew_ppm = slew_ppm};
}

void cluster_clock_recovered(struct cluster_clock *clock, uint64_t ms, uint64_t now_us)
{
    assert(!clock->base_is_live);
    clock->base_time_us = ms * 1000;
    clock->base_us = now_us;
}

void cluster_clock_saw(struct cluster_clock *clock, uint64_t ms, uint64_t now_us)
{
    clock->base_time_us = ms * 1000;
    clock->base_us = now_us;
    clock->base_is_live = true;
}

void cluster_clock_at_least(struct cluster_clock *clock, uint64_t ms, uint64_t now_us)
{
    if (ms * 1000 >= clock->base_time_us) {
        cluster_clock_saw(clock, ms, now_us);
    }
}

bool cluster_clock_is_set(const struct cluster_clock *clock)
{
    return clock->base_is_live;
}

static uint64_t lower_median(uint64_t *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        const uint64_t x = v[i];
        unsigned j = i;
        for (; j > 0 && v[j - 1] > x; j--) {
            v[j] = v[j - 1];
        }
        v[j] = x;
    }
    return v[(n - 1) / 2];
}

uint64_t cluster_clock_next(struct cluster_clock *clock, uint64_t now_us, uint64_t *samples_ms, unsigned n,
                            unsigned voters)
{
    const uint64_t elapsed_us = now_us > clock->base_us ? now_us - clock->base_us : 0;
    const bool majority = n > voters / 2;
    uint64_t next_us = clock->base_time_us + elapsed_us;

    if (majority) {
        const uint64_t wall_us = lower_median(samples_ms, n) * 1000;
        const uint64_t lead_us = elapsed_us / 1000 * (CLUSTER_CLOCK_RHO_PPM + clock->slew_ppm) / 1000;
        /* Nothing live was seen since start: how long the cluster stood still is unknown, the median decides. */
        const uint64_t ceiling_us = clock->base_is_live ? next_us + lead_us : UINT64_MAX;
        next_us = wall_us < ceiling_us ? wall_us : ceiling_us;
        clock->base_is_live = true;
    }
    if (next_us > clock->base_time_us) {
        clock->base_time_us = next_us;
    }
    clock->base_us = now_us;
    return clock->base_time_us / 1000;
}
