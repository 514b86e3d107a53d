/* The cache state machine: owns the keyspace, its revisions, deadlines and digest. Knows nothing of RESP, Raft,
 * sockets or clocks. Deterministic: equal sequences of store_apply give equal content, revision and digest, whatever
 * the process, role or hash seed. Not thread-safe: one thread at a time. */
#ifndef LOCKSTEP_STORE_H
#define LOCKSTEP_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Bounds. */
#define STORE_KEY_BYTES_MAX (512u * 1024 * 1024 - 1)
#define STORE_VALUE_BYTES_MAX (512u * 1024 * 1024)

struct store;
struct store_command;

enum store_status {
    STORE_OK = 0,
    STORE_FULL,      /* the batch is at its size limit: seal it, open another */
    STORE_TOO_BIG,   /* one command is larger than a whole batch may be */
    STORE_MALFORMED, /* bytes are not a valid entry (checked by store_entry_check before apply) */
    STORE_VERSION,   /* an entry of a newer version: stop before applying anything */
    STORE_NO_MEMORY
};

/* Where replies go. The store says what the reply is; the owner renders it. All borrowed until return.
 * A NULL `struct store_reply *` means nobody listens. */
struct store_reply;
struct store_reply_ops {
    void (*status)(struct store_reply *r, const char *text);            /* "OK", "QUEUED" */
    void (*error)(struct store_reply *r, const char *text, size_t len); /* with its code: "WRONGTYPE Operation..." */
    void (*integer)(struct store_reply *r, int64_t value);
    void (*bulk)(struct store_reply *r, const void *data, size_t len);
    void (*null)(struct store_reply *r);               /* RESP2 $-1, RESP3 _ */
    void (*null_array)(struct store_reply *r);         /* RESP2 *-1, RESP3 _ */
    void (*array)(struct store_reply *r, size_t n);    /* n replies follow */
    void (*map)(struct store_reply *r, size_t n);      /* n pairs follow (RESP2: array of 2n) */
    void (*set)(struct store_reply *r, size_t n);      /* RESP2: array */
    void (*real)(struct store_reply *r, double value); /* RESP3 double, RESP2 bulk */
};
/* Owners embed this as their first member. */
struct store_reply {
    const struct store_reply_ops *ops;
};

struct store_config {
    uint64_t
        hash_seed; /* the same on all nodes of a cluster (from its uuid), so that SCAN cursors survive a failover */
};
struct store *store_new(const struct store_config *config);
void store_free(struct store *store);

/* --- Commands ---------------------------------------------------------------------------------------------------- */

enum store_command_flags {
    STORE_READ = 1u << 0,    /* never changes state: served by store_read */
    STORE_WRITE = 1u << 1,   /* goes through the log */
    STORE_DENYOOM = 1u << 2, /* may grow memory: refused by the caller at the memory bound */
    STORE_FAST = 1u << 3,
    STORE_ALLKEYS = 1u << 4, /* touches unknown keys: KEYS SCAN RANDOMKEY DBSIZE FLUSHALL FLUSHDB */
    STORE_CLOCK = 1u << 5    /* the reply counts down as time goes by: see store_set_read_time */
};
struct store_command {
    const char *name; /* lower case */
    int arity;        /* as Redis: negative is "at least", the name counts */
    unsigned flags;
    int first_key, last_key, key_step; /* as COMMAND INFO */
    const char *group;                 /* "string", "generic" */
    const char *since;                 /* Redis version that introduced it */
    const char *summary;
    const char *complexity;
    void (*exec)(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply);
    /* Of a container such as OBJECT: rows named "object|encoding", up to a NULL name. NULL: not a container. */
    const struct store_command *subcommands;
};
/* Case-insensitive; NULL if unknown. */
const struct store_command *store_command_find(const char *name, size_t len);
/* All commands, each family's table in turn; NULL after the last. */
const struct store_command *store_command_at(unsigned i);
/* Redis's arity check. */
bool store_command_arity_ok(const struct store_command *command, unsigned argc);
/* All of Redis's checks before a command may be queued or executed: its arity and, for a container, the subcommand and
 * its arity. Gives the error reply and false if one fails. */
bool store_command_check(const struct store_command *command, const struct iovec *argv, unsigned argc,
                         struct store_reply *reply);
/* The row of a container's subcommand argv[1], NULL if there is none. */
const struct store_command *store_subcommand_find(const struct store_command *command, const struct iovec *argv,
                                                  unsigned argc);

/* --- Entries: what goes into the log ------------------------------------------------------------------------------ */

/* Builds one log entry out of many commands. Format: docs/FORMATS.md, section Entry. Grows up to bytes_max. */
struct store_batch {
    /* private */
    uint8_t *data;
    size_t len, capacity, bytes_max;
    unsigned count;
};
void store_batch_init(struct store_batch *batch, size_t bytes_max);
void store_batch_fini(struct store_batch *batch);
/* Add a command. STORE_FULL: seal first. STORE_TOO_BIG: never fits (the caller answers with an error).
 * STORE_MALFORMED: unknown, of the wrong arity, or beyond the bounds of the format. */
enum store_status store_batch_add(struct store_batch *batch, const struct iovec *argv, unsigned argc)
    __attribute__((warn_unused_result));
/* One watched key with the revision seen (store_key_revision). */
struct store_watch {
    struct iovec key;
    uint64_t revision;
};
struct store_queued {
    const struct iovec *argv;
    unsigned argc;
};
/* Add a transaction: applies as one, replies with an array, or null_array if a watched key has another revision. */
enum store_status store_batch_add_transaction(struct store_batch *batch, const struct store_watch *watches,
                                              unsigned n_watches, const struct store_queued *commands,
                                              unsigned n_commands) __attribute__((warn_unused_result));
unsigned store_batch_count(const struct store_batch *batch);
size_t store_batch_bytes(const struct store_batch *batch);
/* Finish the entry with its cluster time; gives malloc'd *data (free()) and empties the batch. A batch without
 * commands gives a tick: an entry that only moves time. */
enum store_status store_batch_seal(struct store_batch *batch, uint64_t time_ms, void **data, size_t *len)
    __attribute__((warn_unused_result));

/* Check an entry's version and structure completely: after STORE_OK apply can't fail. */
enum store_status store_entry_check(const void *data, size_t len) __attribute__((warn_unused_result));
/* Cluster time of an entry; 0 if it is too short to carry one (then it fails the check). */
uint64_t store_entry_time_ms(const void *data, size_t len);

/* Reads a checked entry back, command by command, in the order in which they were added. What a step yields points into
 * the entry and into arrays of the reader, until the next step. */
struct store_entry_reader {
    bool transaction;         /* which of the two was read */
    const struct iovec *argv; /* a command, under its lower-case name */
    unsigned argc;
    const struct store_watch *watches; /* a transaction */
    unsigned n_watches;
    const struct store_queued *commands;
    unsigned n_commands;
    bool no_memory; /* why store_entry_next gave up before the end */
    /* private */
    const uint8_t *at;
    unsigned left;
    struct iovec *iov;
    size_t iov_capacity;
    struct store_watch *watch_array;
    size_t watch_capacity;
    struct store_queued *queued;
    size_t queued_capacity;
};
void store_entry_reader_init(struct store_entry_reader *reader, const void *data, size_t len);
/* False: there is no further one, or memory is exhausted. */
bool store_entry_next(struct store_entry_reader *reader);
void store_entry_reader_fini(struct store_entry_reader *reader);

/* Calls `each` with store_key_hash of every key that the writes of a checked entry name. False: some of them touch keys
 * that they do not name. (An entry also touches every key whose deadline is at or before its time.) */
bool store_entry_keys(const struct store *store, const void *data, size_t len, void (*each)(void *ctx, uint64_t hash),
                      void *ctx);

/* Called around each command of an entry while it is applied. */
struct store_apply_hooks {
    void *ctx;
    /* Where the reply of command `i` (0-based) goes, NULL if nobody listens. */
    struct store_reply *(*begin)(void *ctx, unsigned i);
    /* Command `i` has been executed: the store may be read here, seeing exactly the commands up to `i`. */
    void (*end)(void *ctx, unsigned i);
};
/* Apply a checked entry: moves time forward, expires what is due, executes the commands in order. `hooks` may be NULL.
 * Expiry work per entry is bounded; what is left is dead for every observer already and removed by later entries. */
void store_apply(struct store *store, const void *data, size_t len, const struct store_apply_hooks *hooks);

/* Apply a checked entry only as far as `revision`, for restoring a point in time: removals of dead keys, commands and
 * transactions whose mutations are not above it. True: nothing of the entry above it was done. False: one command or
 * transaction took the store past it, from `*before` (below it); such are all or nothing, so the state at `revision`
 * never existed for anybody to see. The store is of no use then. */
bool store_apply_until(struct store *store, const void *data, size_t len, uint64_t revision, uint64_t *before);

/* Memory that commands free in bulk (FLUSHALL, large values) goes back to the system in pieces, one per store_apply.
 * Call this when idle to give back another piece; false when nothing is left. Never changes content. */
bool store_tidy(struct store *store);

/* Execute a STORE_READ command against the current content. */
void store_read(struct store *store, const struct store_command *command, const struct iovec *argv, unsigned argc,
                struct store_reply *reply);
/* What the cluster time would be now if an entry came: TTL and PTTL count down to it, so that they don't stand still
 * while nothing is written. Changes no content and no key's life; at or below store_time_ms it is ignored, so 0 takes
 * it back. Set it around store_read of a STORE_CLOCK command only: apply must not see it. */
void store_set_read_time(struct store *store, uint64_t time_ms);
/* Seed for the random picks of reads (RANDOMKEY); never affects content. */
void store_seed_reads(struct store *store, uint64_t seed);

/* --- What the owner may ask --------------------------------------------------------------------------------------- */

uint64_t store_revision(const struct store *store); /* gap-free count of mutations, the same on all replicas */
uint64_t store_time_ms(const struct store *store);  /* cluster time of the last applied entry */
uint64_t store_digest(const struct store *store);   /* of keys, values, deadlines, revisions, time: XXH3-based */
/* Keys not yet removed, as DBSIZE: like Redis's, it counts those that are dead and still wait to be removed. */
uint64_t store_keys(const struct store *store);
uint64_t store_keys_with_deadline(const struct store *store);
/* Logical size in bytes (docs/FORMATS.md): depends on content only, the same on all replicas. */
uint64_t store_memory(const struct store *store);
/* Earliest deadline that still has a key to remove, UINT64_MAX if none. At or below the wall clock: propose a tick. */
uint64_t store_next_deadline_ms(const struct store *store);
/* Revision of the last change of a live key, 0 if it does not exist: what WATCH remembers. */
uint64_t store_key_revision(const struct store *store, const void *key, size_t len);

/* Hash of a key; the same for equal keys in all stores with one seed. */
uint64_t store_key_hash(const struct store *store, const void *key, size_t len);
/* Deadline of a live key, UINT64_MAX if it has none or does not exist. */
uint64_t store_key_deadline_ms(const struct store *store, const void *key, size_t len);

struct store_stats {
    uint64_t hits, misses, expired, evicted; /* of this process; not part of the content */
    uint64_t table_bytes, entry_bytes;       /* real memory of the table and of the entries */
};
void store_stats(const struct store *store, struct store_stats *stats);
void store_stats_reset(struct store *store);

#endif
