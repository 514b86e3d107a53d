/* Snapshots: a store's content at one instant as a stream of bytes, produced piece by piece while writes go on, and
 * consumed. Owns what writes would have destroyed of that instant. Knows nothing of files, compression and
 * checksums. Called from the store's thread; stores share nothing, so one may be loaded on another thread while the
 * one that it will replace is served. Format: docs/FORMATS.md, section Snapshot stream. */
#ifndef LOCKSTEP_STORE_SNAPSHOT_H
#define LOCKSTEP_STORE_SNAPSHOT_H

#include "store/store.h"

/* --- Producing ---------------------------------------------------------------------------------------------------- */

/* A sensible side_bytes_max. */
#define STORE_SNAPSHOT_SIDE_BYTES ((size_t)64 * 1024 * 1024)

struct store_snapshot;

/* The instant that a snapshot shows. */
struct store_cut {
    uint64_t revision, time_ms;
    uint64_t keys;
    uint64_t logical_bytes; /* store_memory */
    uint64_t digest;        /* store_digest: the same on all replicas at the same index */
};

enum store_snapshot_state {
    STORE_SNAPSHOT_MORE,     /* go on */
    STORE_SNAPSHOT_DONE,     /* the stream is complete */
    STORE_SNAPSHOT_OVERFLOW, /* writes destroyed more of the cut than side_bytes_max: end it, try again later */
    STORE_SNAPSHOT_BROKEN /* what was walked is not what the digest says: this replica's memory or code is at fault */
};

/* Fix the cut: the state after the last applied entry. Costs microseconds. One at a time per store, ended before the
 * store is freed. NULL: out of memory.
 *
 * What writes destroy of the cut is kept until a step has emitted it: copies of keys up to 4 KiB, and the blocks of
 * larger ones themselves, which are then freed later instead of now (a change in place, as APPEND's, first copies the
 * block, once per key and snapshot: about 0.5 ms per MB). At most side_bytes_max, one more block, and the one that is
 * being emitted: a write that finds it full makes the snapshot fail instead. So after each entry step until
 * store_snapshot_pending is small. FLUSHALL hands its whole memory to the snapshot, which is not counted and given back
 * (by store_apply and store_tidy) after the end. Beside these it needs about 150 KiB. */
struct store_snapshot *store_snapshot_begin(struct store *store, size_t side_bytes_max);

/* Emit about bytes_max (from 1) of the stream, at most 8 KiB more; possibly nothing, where most keys are newer than the
 * cut. Takes time in proportion to bytes_max: some 0.1 ms per 64 KiB. Once it has returned something else than MORE it
 * returns that again and does nothing. `data` is borrowed until emit returns; emit must not touch the store. */
enum store_snapshot_state store_snapshot_step(struct store_snapshot *snapshot, size_t bytes_max,
                                              void (*emit)(void *ctx, const void *data, size_t len), void *ctx)
    __attribute__((warn_unused_result));

/* At any time; frees the snapshot. What it has kept goes back to the system as store_tidy describes. Costs
 * microseconds, up to about 1 ms if it holds the limit's worth of blocks of 4 KiB. */
void store_snapshot_end(struct store_snapshot *snapshot);

void store_snapshot_cut(const struct store_snapshot *snapshot, struct store_cut *cut);
/* Keys emitted so far. */
uint64_t store_snapshot_keys(const struct store_snapshot *snapshot);
/* Bytes that writes made it keep and that are still to be emitted. */
size_t store_snapshot_pending(const struct store_snapshot *snapshot);
/* All memory that is held because of this snapshot: pending, buffers, and what FLUSHALL handed over. */
size_t store_snapshot_bytes(const struct store_snapshot *snapshot);

/* --- Consuming ---------------------------------------------------------------------------------------------------- */

struct store_loader;

/* Fill `store`, which is borrowed until store_loader_free and must be as store_new made it. After any error it holds a
 * part of the content and is good for nothing but store_free. `stream_bytes` is the length of the stream, or a bound of
 * it, or 0 if it is unknown: the table is sized in advance only for as many keys as such a stream can hold (unknown: a
 * million), so that a damaged header can't ask for all memory. NULL: out of memory. */
struct store_loader *store_loader_new(struct store *store, uint64_t stream_bytes);
/* The next bytes of the stream, cut anywhere. The first call sizes the table (some 10 ns for each
 * key of the header). STORE_MALFORMED, or STORE_VERSION for a stream of a newer version; then
 * store_loader_error tells more, and only store_loader_free may follow. */
enum store_status store_loader_feed(struct store_loader *loader, const void *data, size_t len)
    __attribute__((warn_unused_result));
/* After the last feed, optionally: does a part of what store_loader_finish has left to do, for `budget` keys (some 0.1
 * us each). True: nothing is left. For owners that must not stall. */
bool store_loader_settle(struct store_loader *loader, uint64_t budget);
/* The stream has ended: checks that it is complete, and that number, size and digest of what was loaded are the
 * header's. After STORE_OK the store has the cut's content, revision and time. */
enum store_status store_loader_finish(struct store_loader *loader) __attribute__((warn_unused_result));
/* What is wrong, "" if nothing; valid until store_loader_free. */
const char *store_loader_error(const struct store_loader *loader);
/* Keys loaded; and the number of all, 0 until the header has come. */
uint64_t store_loader_keys(const struct store_loader *loader, uint64_t *keys_total);
void store_loader_free(struct store_loader *loader);

/* Put the content, revision and time of `loaded`, taken, in the place of the store's: a snapshot installed. Costs
 * microseconds; the old memory goes back to the system as after FLUSHALL, and a snapshot that is running goes on with
 * it. Statistics stay. Both must have the same hash seed. Until then both contents are in memory. */
void store_replace(struct store *store, struct store *loaded);

#endif
