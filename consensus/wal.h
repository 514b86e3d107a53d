/* The write-ahead log: owns the segment files and the location of every entry; knows nothing of Raft's rules, of peers
 * or of what entries mean. Loop thread only. Format and recovery rules: docs/FORMATS.md, section WAL.
 *
 * Records are append-only: a record whose index is not above the last one replaces everything from that index on
 * (that is how a log is truncated). One disk write is in flight at a time; what is appended meanwhile goes into the
 * next one (group commit). */
#ifndef LOCKSTEP_WAL_H
#define LOCKSTEP_WAL_H

#include "consensus/env.h"

struct wal;

/* Same values as the core's enum raft_entry_type; asserted in replica.c. */
enum wal_entry_type { WAL_COMMAND = 1, WAL_BARRIER = 2, WAL_CHANGE = 3 };

enum wal_status {
    WAL_OK = 0,
    WAL_CORRUPT, /* damage at or below the durable mark: fail-stop, see wal_error() */
    WAL_VERSION, /* written by a newer version */
    WAL_IO,
    WAL_NO_SPACE,
    WAL_NO_MEMORY,
    WAL_BUSY /* a read is already in flight on this wal_read */
};

struct wal_entry {
    uint64_t index;
    uint64_t term;
    enum wal_entry_type type;
    const void *data;
    size_t len;
};

struct wal_config {
    uint64_t segment_bytes;   /* multiple of ENV_BLOCK, default 16 MiB */
    uint32_t entry_bytes_max; /* larger entries are refused by the caller; default 8 MiB */
    /* Segments that wal_drop_prefix may keep for reuse beyond the one that is prepared anyway; default 8. They count in
     * wal_room. */
    uint32_t recycle_max;
    /* Index and term of the newest good snapshot, 0 without one. Opening refuses (WAL_CORRUPT) a log that begins behind
     * start_index + 1. A log that ends before start_index, or holds another term there (an installation that was cut
     * short), is reset to it: after wal_open, wal_first() - 1 <= start_index <= wal_last(). */
    uint64_t start_index;
    uint64_t start_term;
    /* No segment at all is fine although there is a snapshot: the directory was just restored from a backup. */
    bool restored;
    /* Called on the loop when a write has completed: every appended record up to and including (index, term) is on
     * stable storage *and still what the log holds*: records replaced by wal_append of a lower index since they were
     * written are not reported, and no (index) is reported twice unless it was replaced in between. */
    void (*persisted)(void *ctx, uint64_t index, uint64_t term);
    /* A write failed. The WAL accepts nothing more; ENV_NO_SPACE can't happen for appends that wal_room() allowed. */
    void (*failed)(void *ctx, enum env_status status);
    void *ctx;
};

/* Open or create the WAL in the env's data directory and recover it: scan all segments, cut a torn tail, refuse damage
 * at or below the durable mark. Synchronous. On error `*error` (a static or wal-owned text, valid until the next
 * wal_open) says which file, which offset and what to do. */
enum wal_status wal_open(struct env *env, const struct wal_config *config, struct wal **wal, const char **error)
    __attribute__((warn_unused_result));
/* Close, leaving a mark on disk that protects the last entries if nothing is pending. Read structs must have been given
 * up with wal_read_fini. Requests still in flight keep the memory alive until the env calls them back (it always does,
 * with ENV_CANCELED at the latest); no callback of the WAL fires any more. */
void wal_close(struct wal *wal);

/* First and last index held (first = 1 unless a snapshot dropped a prefix; last = first - 1 when empty). The first one
 * may be lower after a restart than before: what was dropped from memory and not yet from disk is held again. */
uint64_t wal_first(const struct wal *wal);
uint64_t wal_last(const struct wal *wal);
/* Highest index known to be durable (and still held). */
uint64_t wal_durable(const struct wal *wal);
/* Term and type of a held entry; term 0 if not held. The term of wal_first() - 1 is known too after wal_drop_prefix and
 * wal_reset, and after wal_open if the log begins with a reset or right behind start_index; otherwise it is 0. */
uint64_t wal_term_of(const struct wal *wal, uint64_t index);
enum wal_entry_type wal_type_of(const struct wal *wal, uint64_t index);
/* Bytes of data of a held entry. */
uint32_t wal_len_of(const struct wal *wal, uint64_t index);

/* Append n entries with consecutive indexes, the first at most wal_last() + 1; replaces what was there. Data is copied
 * into the write buffer before return. Nothing is written until wal_flush. WAL_NO_MEMORY: nothing was appended or
 * replaced. WAL_IO: an earlier write failed. Entries beyond wal_room() are taken and wait until the disk has space. */
enum wal_status wal_append(struct wal *wal, const struct wal_entry *entries, unsigned n)
    __attribute__((warn_unused_result));
/* A durable snapshot covers everything up to and including `index`: segments that never held anything above it are
 * recycled or removed, one after the other, when nothing reads them any more. wal_first() moves to the first entry of
 * the first segment that stays, at most index + 1, now or from inside the loop as the operations complete: look at it
 * again before each wal_read_start. Never fails; a file that can't
 * be removed is tried again at the next call. */
void wal_drop_prefix(struct wal *wal, uint64_t index);
/* Forget all entries: the log is empty and continues at index + 1; the entry before has `term`. For a snapshot of
 * (index, term) that is durable already; index + 1 >= wal_first(). One record is written with the next flush. After a
 * crash the log is found as it was before (and wal_open, given the snapshot, does the reset again) or as it is after.
 * Old segments go once the record is durable. On an error (WAL_NO_MEMORY, WAL_IO) nothing has changed. */
enum wal_status wal_reset(struct wal *wal, uint64_t index, uint64_t term) __attribute__((warn_unused_result));
/* Start writing what was appended, unless a write is in flight (it then goes with the next one). */
void wal_flush(struct wal *wal);
/* True while a write is in flight. */
bool wal_is_writing(const struct wal *wal);
/* Bytes appended that are not yet durable. */
uint64_t wal_pending_bytes(const struct wal *wal);
/* Bytes that can still be appended before the disk is full, counting prepared segments; the caller keeps a reserve. */
uint64_t wal_room(struct wal *wal);

/* Read back durable entries [first, last] from disk, at most `bytes_max` of data but at least one entry, and at most
 * `entries_max`. One read per struct in flight. */
struct wal_read {
    /* public */
    void *data;
    /* On WAL_OK entries[0..n) are valid until the next wal_read_start/fini of this struct. Fewer than asked for may
     * come (a read covers one segment): ask again. Entries replaced since the read started, and ones that are not
     * durable, are never given: n may be 0 then. WAL_CORRUPT: bytes on disk are damaged (already durable ones). */
    void (*cb)(struct wal_read *read, enum wal_status status, const struct wal_entry *entries, unsigned n);
    /* private */
    void *impl;
};
enum wal_status wal_read_start(struct wal *wal, struct wal_read *read, uint64_t first, uint64_t last, size_t bytes_max,
                               unsigned entries_max) __attribute__((warn_unused_result));
/* Free the buffers of a read. If it is in flight its callback never fires. */
void wal_read_fini(struct wal *wal, struct wal_read *read);
/* Synchronous read of one entry at start-up (configuration entries). Gives malloc'd *data. */
enum wal_status wal_read_sync(struct wal *wal, uint64_t index, void **data, size_t *len)
    __attribute__((warn_unused_result));

/* Counters for INFO. Times in microseconds. */
struct wal_stats {
    uint64_t writes, bytes, entries;
    uint64_t last_write_us, max_write_us, ewma_write_us;
    uint64_t segments, disk_bytes;
    uint64_t recycled, removed; /* segments, by wal_drop_prefix and wal_reset */
};
void wal_stats(const struct wal *wal, struct wal_stats *stats);

#endif
