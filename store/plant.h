/* Inside store/: planted bugs. STORE_PLANT(x) is 0 in ordinary builds. With LOCKSTEP_PLANT the global selects the one
 * rule that is broken, to show that tests and simulator catch it. */
#ifndef LOCKSTEP_STORE_PLANT_H
#define LOCKSTEP_STORE_PLANT_H

enum store_plant {
    STORE_PLANT_NONE,
    STORE_PLANT_SKIP_SAVE, /* writes don't save what the snapshot has not walked; its own check is left in place */
    STORE_PLANT_NOT_A_CUT  /* nor does the walk leave out what is newer, nor do writer and loader check anything */
};

#ifdef LOCKSTEP_PLANT
extern int store_plant;
#define STORE_PLANT(x) (store_plant == (int)(x))
#else
#define STORE_PLANT(x) (0)
#endif

#endif
