/* Inside consensus/: a snapshot file into the state machine, beside its live content. Owns the reader and the load
 * until it gives that away; knows nothing of the core, the log and why it is loaded. Loop thread only. */
#ifndef LOCKSTEP_REPLICA_LOAD_H
#define LOCKSTEP_REPLICA_LOAD_H

#include "consensus/replica.h"
#include "consensus/snapshot.h"

struct replica_load;

struct replica_load_result {
    void *load; /* to be given to load_install or load_abort of the vtable */
    const struct snapshot_meta *meta;
    const struct snapshot_end *end;
};

struct replica_load_config {
    struct env *env;
    const struct replica_fsm_snapshots *fsm;
    struct snapshot_dir *snapshots; /* where the file is listed, which is kept until it is closed */
    uint64_t index, term;           /* of the file */
    /* True: nothing takes long on the loop, all of the state machine's work goes through ENV_DISK_WORK; for a node that
     * serves. False: bounded slices of it run on the loop, beside decompression on another thread: faster. */
    bool off_loop;
    /* Once, never from inside a call. SNAPSHOT_OK: every byte was checked, and the content is what header and trailer
     * say; `result` is valid until close, but for `load`, which is the callee's. Otherwise `error` says what is wrong;
     * SNAPSHOT_DAMAGED: it is the file. */
    void (*done)(void *ctx, enum snapshot_status status, const char *error, const struct replica_load_result *result);
    void *ctx;
};

/* SNAPSHOT_NO_MEMORY, _NOT_FOUND: nothing was opened. */
enum snapshot_status replica_load_open(const struct replica_load_config *config, struct replica_load **load)
    __attribute__((warn_unused_result));
/* At any time, also inside `done`; what was not given away is aborted. NULL is fine. */
void replica_load_close(struct replica_load *load);
void replica_load_progress(const struct replica_load *load, struct replica_loading_info *info);

#endif
