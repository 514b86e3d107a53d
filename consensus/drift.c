#include "consensus/drift.h"

#include <string.h>

#include "consensus/plant.h"

#define PPM 1000000u

void drift_restart(struct drift *d)
{
    memset(d->bases, 0, sizeof d->bases);
    d->compared = false;
}

void drift_forget(struct drift *d)
{
    *d = (struct drift){0};
}

/* Two clocks within rho differ in rate by at most (1 + rho) / (1 - rho). Only what is certainly outside counts. */
static bool certainly_drifts(uint32_t rho_ppm, uint64_t ours_min, uint64_t ours_max, uint64_t theirs)
{
    const uint64_t slow = PPM - rho_ppm;
    const uint64_t apart = 2 * (uint64_t)rho_ppm;

    if (theirs / 2 > ours_max || ours_min / 2 > theirs) {
        return true; /* so that nothing overflows, whatever a peer says */
    }
    if (theirs > ours_max && (theirs - ours_max) * slow > ours_max * apart) {
        return true; /* theirs / ours_max > (1 + rho) / (1 - rho) */
    }
    return ours_min > theirs && (ours_min - theirs) * slow > theirs * apart;
}

static bool went_back(const struct drift_exchange *base, const struct drift_exchange *e)
{
    return e->before < base->before || e->after < base->after || e->theirs < base->theirs;
}

void drift_note(struct drift *d, const struct drift_config *c, const struct drift_exchange *e)
{
    if (d->bases[0].after != 0 && went_back(&d->bases[0], e)) {
        drift_restart(d); /* out of order, or a clock that began anew */
    }
    for (unsigned k = 0; k < DRIFT_LEVELS; k++) {
        struct drift_exchange *base = &d->bases[k];
        if (base->after == 0) {
            *base = *e;
            continue;
        }
        const uint64_t ours_max = e->after - base->before;
        const uint64_t ours_min = e->before > base->after ? e->before - base->after : 0;
        const uint64_t theirs = e->theirs - base->theirs;
        const uint64_t age = theirs > ours_max ? theirs : ours_max; /* either clock may be the one that stands still */
        if (age < c->window_us << k) {
            continue;
        }
        d->compared = true;
        if (certainly_drifts(c->rho_ppm, ours_min, ours_max, theirs)) {
            d->seen = true;
            d->seen_us = e->after;
        } else if (k == DRIFT_LEVELS - 1 && base->before > d->seen_us) {
            d->seen = false; /* all of the longest stretch, without an error */
        }
        if (age >= c->window_us << (k + 1)) {
            *base = *e;
        }
    }
}

bool drift_is_compared(const struct drift *d)
{
    return d->compared || PLANT(PLANT_NO_DRIFT_WATCH);
}

bool drift_is_seen(const struct drift *d)
{
    return d->seen && !PLANT(PLANT_NO_DRIFT_WATCH);
}
