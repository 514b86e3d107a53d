/* Pulling a snapshot file from a running node, verified as it comes: what backups and archives begin with. */
#ifndef LOCKSTEP_FETCH_H
#define LOCKSTEP_FETCH_H

#include "cmd/lockstep/cluster_view.h"
#include "cmd/lockstep/file_env.h"

#define FETCH_ERROR_MAX 800

struct fetch {
    /* public */
    struct address address; /* of the node; chosen by fetch_choose */
    uint64_t index, term, bytes;
    unsigned timeout_ms;
    bool quiet; /* no progress line */
    bool resumed;
    uint64_t received; /* bytes pulled in this run */
    char error[FETCH_ERROR_MAX];
};

/* Have a node (a follower if possible, or the only seed if `exactly`) take a snapshot of everything that was
 * acknowledged before this call. False: fetch->error. */
bool fetch_take(struct fetch *fetch, const struct seeds *seeds, bool exactly);
/* Does some node still have the very snapshot of a partial file? Then that is what is fetched. */
bool fetch_find(struct fetch *fetch, const struct seeds *seeds, uint64_t index, uint64_t term);
/* Pull it into the env's directory (or single file), as `...part`, which is continued if it holds a part of the same
 * file; verify, sync and rename it. On an error what was received stays, to be continued. */
bool fetch_run(struct fetch *fetch, struct env *env);

#endif
