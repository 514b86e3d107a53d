/* Compares the rate of another node's clock with ours, from instants passed in. Owns what it remembers of earlier
 * exchanges; reads no clock, knows nothing of leases. One per peer. (docs/CONSISTENCY.md, "When the drift bound is
 * broken".)
 *
 * An exchange is a reading of the other's clock that was taken between two readings of ours. Between two exchanges ours
 * advanced by something between two bounds, and theirs by what it says: a rate outside what rho allows for every such
 * pair is certain. The longer the time between the two, the smaller an error shows, but the later; so each exchange is
 * compared with several earlier ones, whose ages double. */
#ifndef LOCKSTEP_DRIFT_H
#define LOCKSTEP_DRIFT_H

#include <stdbool.h>
#include <stdint.h>

#define DRIFT_LEVELS 8u

struct drift_exchange {
    uint64_t before, after; /* our clock */
    uint64_t theirs;        /* their clock, in between */
};

struct drift {
    /* private */
    struct drift_exchange bases[DRIFT_LEVELS]; /* [k] is between 2^k and 2^(k+1) windows old; after 0: none */
    bool compared;
    bool seen;
    uint64_t seen_us; /* ours, when the newest error was seen */
};

struct drift_config {
    uint64_t window_us; /* a rate says something after this long, by either clock; above 0 */
    uint32_t rho_ppm;   /* both clocks are within this of true time, 1 to 100000 */
};

/* Another connection, term or peer: earlier exchanges count no more. An error that was seen still does. */
void drift_restart(struct drift *drift);
/* Forget everything. */
void drift_forget(struct drift *drift);
void drift_note(struct drift *drift, const struct drift_config *config, const struct drift_exchange *exchange);
/* Have two exchanges been compared since the start, a window or more apart? Before that nothing is known. */
bool drift_is_compared(const struct drift *drift);
/* Has an error been seen, and not yet been followed by a stretch of 2^7 windows without one? */
bool drift_is_seen(const struct drift *drift);

#endif
