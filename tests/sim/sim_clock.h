/* The clocks of one node: a monotonic one that runs at a rate of its own, which may change, and a wall clock that is
 * set off against it. Both go on through crashes. Owns nothing; knows nothing of leases. */
#ifndef LOCKSTEP_SIM_CLOCK_H
#define LOCKSTEP_SIM_CLOCK_H

#include "tests/sim/sim_world.h"

/* Wall clocks start here: an arbitrary date, milliseconds since 1970. */
#define SIM_EPOCH_MS UINT64_C(1700000000000)
/* A clock's rate may change this often in one run. */
#define SIM_CLOCK_CHANGES 512u
#define SIM_CLOCK_STOPPED (-1000000)

/* From a true time on, until the next piece begins. */
struct sim_clock_piece {
    uint64_t at_us;    /* true */
    uint64_t local_us; /* elapsed by then, without base_us */
    int32_t rate_ppm;
};

struct sim_clock {
    /* public */
    uint64_t base_us;    /* of the monotonic clock when the world began */
    int64_t wall_off_ms; /* of the wall clock; may be changed: a jump */
    /* private */
    struct sim_clock_piece pieces[SIM_CLOCK_CHANGES];
    unsigned n_pieces;
};

/* `rate_ppm` against true time: 0 is right, SIM_CLOCK_STOPPED stands still. */
void sim_clock_init(struct sim_clock *clock, uint64_t base_us, int32_t rate_ppm);
uint64_t sim_clock_now_us(const struct sim_clock *clock, const struct sim_world *world);
uint64_t sim_clock_wall_ms(const struct sim_clock *clock, const struct sim_world *world);
int32_t sim_clock_rate_ppm(const struct sim_clock *clock);
/* From now on the clock runs at another rate. False if it has changed too often. Timers of the node must be told:
 * sim_env_clock_changed. */
bool sim_clock_set_rate(struct sim_clock *clock, const struct sim_world *world, int32_t rate_ppm);
/* How long, in true time, until the clock will have advanced by `local_us`, at least 1; SIM_NEVER if it stands still.
 */
uint64_t sim_clock_true_wait_us(const struct sim_clock *clock, uint64_t local_us);
/* The true time at which the clock first showed `local_us`; 0 if that was before the world began. */
uint64_t sim_clock_true_us(const struct sim_clock *clock, uint64_t local_us);

#endif
