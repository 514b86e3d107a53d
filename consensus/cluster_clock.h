/* Cluster time: what the leader stamps into entries. Pure arithmetic on instants passed in; knows nothing of messages.
 * Never goes backwards in a log, and never runs faster than real time by more than rho + slew, whatever one node's wall
 * clock says (DESIGN section 5): so no broken clock can expire the cache. Instants are microseconds of the caller's
 * monotonic clock, times are milliseconds since 1970. */
#ifndef LOCKSTEP_CLUSTER_CLOCK_H
#define LOCKSTEP_CLUSTER_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLUSTER_CLOCK_SAMPLES_MAX 15u
/* Bound on clock rate errors, parts per million. */
#define CLUSTER_CLOCK_RHO_PPM 10000u

struct cluster_clock {
    /* private */
    uint64_t slew_ppm;
    uint64_t base_time_us; /* time of the log's newest entry, or asked for since; in us, so that frequent calls lose
                              nothing */
    uint64_t base_us;      /* instant at which that was */
    bool base_is_live;     /* that entry was seen live in this process, not read from disk at start */
};

/* slew_ppm: how much faster than elapsed time the clock may run to catch up with the wall clocks. */
void cluster_clock_init(struct cluster_clock *clock, uint32_t slew_ppm);
/* The log recovered at start ends with time `ms` (0: it carries none). */
void cluster_clock_recovered(struct cluster_clock *clock, uint64_t ms, uint64_t now_us);
/* An entry with this time was appended to the log here just now: the clock goes on from there. That may be back, if
 * what it knew before is in nobody's log: this node led, but its entries were replaced, or it had proposed none. */
void cluster_clock_saw(struct cluster_clock *clock, uint64_t ms, uint64_t now_us);
/* Content of this time was taken over, which the log here may go beyond. */
void cluster_clock_at_least(struct cluster_clock *clock, uint64_t ms, uint64_t now_us);
/* False until the clock has a base from a live entry or from a majority of samples: its next step may then be of any
 * size, so nothing that carries a deadline may be stamped yet. */
bool cluster_clock_is_set(const struct cluster_clock *clock);
/* The time for the next entry, given wall-clock estimates for now of this node and of other voters with fresh samples.
 * `samples_ms` is reordered. `voters` is the number of voters: fewer samples than a majority give elapsed time only. */
uint64_t cluster_clock_next(struct cluster_clock *clock, uint64_t now_us, uint64_t *samples_ms, unsigned n,
                            unsigned voters);

#endif
