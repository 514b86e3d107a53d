/* The content of a cluster outside of a node: a snapshot file (also a backup, which is one) read into a store, and a
 * store written to a snapshot file. Owns the store and what the file's header says. Blocks; needs as much memory as a
 * node with that content. */
#ifndef LOCKSTEP_CONTENT_H
#define LOCKSTEP_CONTENT_H

#include "cmd/lockstep/file_env.h"
#include "consensus/snapshot.h"
#include "consensus/wal.h"
#include "store/store.h"

#define CONTENT_ERROR_MAX 600

struct content {
    /* public */
    struct store *store;       /* NULL if only headers were asked for */
    struct snapshot_meta meta; /* configuration points to memory of this struct */
    struct snapshot_end end;
    char error[CONTENT_ERROR_MAX];
    enum snapshot_status status;
    /* private */
    void *configuration;
};

enum content_depth {
    CONTENT_HEADERS, /* header and trailer */
    CONTENT_BLOCKS,  /* every checksum of the file */
    CONTENT_LOADED   /* and the payload is loaded; its digest is that of header and trailer */
};

/* The store of a cluster with that uuid. NULL: out of memory. */
struct store *content_store_new(const uint8_t cluster[16]);
/* Read `name` of the env. False: content->error, with the name, says what is wrong and what to do; content->status is
 * SNAPSHOT_OK if the file is as it was written and yet can't be loaded. content_fini either way. `progress` (may be
 * NULL) is called with bytes done and of how many. */
bool content_read(struct content *content, struct env *env, const char *name, enum content_depth depth,
                  void (*progress)(uint64_t bytes, uint64_t of_bytes));
/* No file: the empty content before entry 1. False: out of memory. */
bool content_empty(struct content *content);
/* Apply the entry that follows content->meta.index, which moves on. Command entries are checked first. False:
 * content->error; nothing was applied. */
bool content_apply(struct content *content, const struct wal_entry *entry);
/* The same, but nothing above `revision`. False as well if that lies inside one command or transaction. */
bool content_apply_until(struct content *content, const struct wal_entry *entry, uint64_t revision);
/* Write the store's content as `snapshot-<index>-<term>`, durably; `meta` says the rest (revision and time come from
 * the store). False: content->error. */
bool content_write(struct content *content, struct env *env, const struct snapshot_meta *meta);
void content_fini(struct content *content);

#endif
