/* What makes lockstepd_planted: LOCKSTEP_PLANT_NAME selects the bug that the process has, so that the fault tests can
 * show that they catch it. Without the variable it has none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/plant.h"

static const struct {
    const char *name;
    enum plant plant;
} plants[] = {
    {"none", PLANT_NONE},
    {"ack-before-sync", PLANT_ACK_BEFORE_SYNC},
    {"skip-barrier", PLANT_SKIP_BARRIER},
    {"vote-twice", PLANT_VOTE_TWICE},
    {"apply-twice", PLANT_APPLY_TWICE},
    {"apply-twice-at-first", PLANT_APPLY_TWICE_AT_FIRST},
    {"stale-read", PLANT_STALE_READ},
    {"stale-lease", PLANT_STALE_LEASE},
    {"expose-early", PLANT_EXPOSE_EARLY},
    {"lost-expiry", PLANT_LOST_EXPIRY},
    {"lost-disk", PLANT_LOST_DISK},
    {"learner-counts", PLANT_LEARNER_COUNTS},
};

int lockstep_plant = PLANT_NONE;

__attribute__((constructor)) static void plant_select(void)
{
    const char *name = getenv("LOCKSTEP_PLANT_NAME");
    for (size_t i = 0; name != NULL && i < sizeof plants / sizeof plants[0]; i++) {
        if (strcmp(name, plants[i].name) == 0) {
            lockstep_plant = (int)plants[i].plant;
            fprintf(stderr, "# planted bug: %s\n", name);
            return;
        }
    }
    if (name != NULL) {
        fprintf(stderr, "LOCKSTEP_PLANT_NAME: no planted bug '%s'\n", name);
        exit(64);
    }
}
