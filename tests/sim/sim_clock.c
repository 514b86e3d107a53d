#include "tests/sim/sim_clock.h"

#include <assert.h>
#include <string.h>

#define PPM 1000000

void sim_clock_init(struct sim_clock *clock, uint64_t base_us, int32_t rate_ppm)
{
    memset(clock, 0, sizeof *clock);
    clock->base_us = base_us;
    clock->pieces[0].rate_ppm = rate_ppm;
    clock->n_pieces = 1;
}

static const struct sim_clock_piece *newest(const struct sim_clock *clock)
{
    assert(clock->n_pieces > 0);
    return &clock->pieces[clock->n_pieces - 1];
}

static uint64_t local_at(const struct sim_clock_piece *piece, uint64_t true_us)
{
    return piece->local_us + (true_us - piece->at_us) * (uint64_t)(PPM + piece->rate_ppm) / PPM;
}

uint64_t sim_clock_now_us(const struct sim_clock *clock, const struct sim_world *world)
{
    return clock->base_us + local_at(newest(clock), world->now_us);
}

uint64_t sim_clock_wall_ms(const struct sim_clock *clock, const struct sim_world *world)
{
    const uint64_t elapsed_ms = local_at(newest(clock), world->now_us) / 1000;

    return (uint64_t)((int64_t)(SIM_EPOCH_MS + elapsed_ms) + clock->wall_off_ms);
}

int32_t sim_clock_rate_ppm(const struct sim_clock *clock)
{
    return newest(clock)->rate_ppm;
}

bool sim_clock_set_rate(struct sim_clock *clock, const struct sim_world *world, int32_t rate_ppm)
{
    assert(rate_ppm >= SIM_CLOCK_STOPPED);
    if (clock->n_pieces == SIM_CLOCK_CHANGES) {
        return false;
    }
    const uint64_t local_us = local_at(newest(clock), world->now_us);
    clock->pieces[clock->n_pieces++] = (struct sim_clock_piece){world->now_us, local_us, rate_ppm};
    return true;
}

uint64_t sim_clock_true_wait_us(const struct sim_clock *clock, uint64_t local_us)
{
    const int32_t rate_ppm = sim_clock_rate_ppm(clock);

    return rate_ppm == SIM_CLOCK_STOPPED ? SIM_NEVER : local_us * PPM / (uint64_t)(PPM + rate_ppm) + 1;
}

uint64_t sim_clock_true_us(const struct sim_clock *clock, uint64_t local_us)
{
    const uint64_t elapsed_us = local_us > clock->base_us ? local_us - clock->base_us : 0;
    unsigned i = clock->n_pieces - 1;

    while (i > 0 && clock->pieces[i].local_us >= elapsed_us) {
        i--;
    }
    const struct sim_clock_piece *piece = &clock->pieces[i];
    if (piece->rate_ppm == SIM_CLOCK_STOPPED || piece->local_us >= elapsed_us) {
        return piece->at_us;
    }
    return piece->at_us + (elapsed_us - piece->local_us) * PPM / (uint64_t)(PPM + piece->rate_ppm);
}
