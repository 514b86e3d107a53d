/* The data directory of a node that is not running, opened without changing it: the identity and votes, the snapshots
 * and the log, recovered as the node itself would. Owns what it opens. */
#ifndef LOCKSTEP_DATADIR_H
#define LOCKSTEP_DATADIR_H

#include "cmd/lockstep/file_env.h"
#include "consensus/slots.h"
#include "consensus/snapshot.h"
#include "consensus/wal.h"

#define DATADIR_ERROR_MAX 1024
#define DATADIR_NOTES_MAX 1024

struct datadir {
    /* public */
    struct env *env;
    bool in_use; /* datadir_open failed because a node runs on it */
    enum slots_status slots_status;
    struct slots_state state; /* if slots_status is SLOTS_OK */
    char slots_error[DATADIR_ERROR_MAX];
    struct snapshot_dir *snapshots;
    unsigned wal_files;            /* segments in the directory */
    struct wal *wal;               /* after datadir_open_wal */
    char notes[DATADIR_NOTES_MAX]; /* what the code below had to say, line by line */
};

/* False: `error` says why; nothing is open then. The directory stays locked against nodes until datadir_close. Damaged
 * slots are no error here: see slots_status. */
bool datadir_open(struct datadir *d, const char *path, char error[DATADIR_ERROR_MAX]);
/* Recover the log behind the snapshot that ends with (index, term); 0: behind none. */
enum wal_status datadir_open_wal(struct datadir *d, uint64_t index, uint64_t term, char error[DATADIR_ERROR_MAX]);
void datadir_close(struct datadir *d);

#endif
