/* The store's snapshots as the replica's vtable wants them. Owns nothing but the cuts and loads that are under way;
 * knows nothing of files, Raft and sessions. Loop thread, but for what replica_fsm_snapshots allows elsewhere. */
#ifndef LOCKSTEP_FSM_SNAPSHOT_H
#define LOCKSTEP_FSM_SNAPSHOT_H

#include "consensus/replica.h"
#include "store/store.h"

/* Set up by its owner, who keeps it while the replica lives. */
struct fsm_snapshot {
    struct store *store; /* the live one */
    uint64_t hash_seed;  /* it was made with */
    /* Another content, that of `index`, is in the store: whatever was remembered of entries is void. Optional. */
    void (*installed)(void *ctx, uint64_t index);
    void *ctx;
};

/* `fsm` is borrowed by the vtable. */
struct replica_fsm_snapshots fsm_snapshot_vtable(struct fsm_snapshot *fsm);

#endif
