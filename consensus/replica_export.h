/* What leaves a replica for operators: committed entries for an archive, and digests at an exact index to compare
 * replicas. Loop thread only. */
#ifndef LOCKSTEP_REPLICA_EXPORT_H
#define LOCKSTEP_REPLICA_EXPORT_H

#include "consensus/replica.h"
#include "consensus/wal.h"

/* The entries that may be given out: held here, applied (so committed and exposed), and durable here. first > last:
 * none. */
void replica_log_bounds(const struct replica *replica, uint64_t *first, uint64_t *last);

/* A read of such entries, embedded by its owner. */
struct replica_log_read {
    /* public */
    void *data;
    /* Some entries from the one asked for on, at least one on REPLICA_OK, valid until return. REPLICA_BUSY: the log
     * moved meanwhile, ask again. REPLICA_IO: they can't be read back. Never called from inside the start. */
    void (*cb)(struct replica_log_read *read, enum replica_status status, const struct wal_entry *entries, unsigned n);
    /* private */
    struct replica *replica; /* NULL: not in flight */
    uint64_t last;
    struct wal_read read;
};
/* `index` lies within replica_log_bounds. At most `bytes_max` of data, unless the first entry alone is larger. */
enum replica_status replica_log_read_start(struct replica *replica, struct replica_log_read *read, uint64_t index,
                                           size_t bytes_max) __attribute__((warn_unused_result));
/* The callback does not fire any more. Before the replica is closed. */
void replica_log_read_cancel(struct replica_log_read *read);

/* The digest of the content at exactly `index`, noted when that entry is applied. Embedded by its owner. */
struct replica_digest_watch {
    uint64_t index;
    bool done;
    uint64_t digest;
    /* private */
    struct replica_digest_watch *next;
};
/* Sets `index`. True: it is done already, or will be when that entry is applied; then replica_digest_unwatch must be
 * called. False: the entry was applied before, and its digest is not known any more. */
bool replica_digest_watch(struct replica *replica, struct replica_digest_watch *watch, uint64_t index);
void replica_digest_unwatch(struct replica *replica, struct replica_digest_watch *watch);

#endif
