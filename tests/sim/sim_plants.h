/* The planted bugs (consensus/plant.h) by name. Empty in ordinary builds. */
#ifndef LOCKSTEP_SIM_PLANTS_H
#define LOCKSTEP_SIM_PLANTS_H

struct sim_plant {
    const char *name;
    int number;
    const char *doc;
    const char *scenario; /* the one that shows it, whatever the seed */
};

/* Ends with a NULL name. */
extern const struct sim_plant sim_plants[];
/* NULL: none. */
void sim_plant_select(const struct sim_plant *plant);

#endif
