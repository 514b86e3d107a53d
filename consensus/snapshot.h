/* Snapshot files: written, read, sent to a peer, received from one, checked and pruned. Owns the files
 * `snapshot-<index>-<term>` of the data directory and the unfinished ones beside them; knows nothing of Raft's rules
 * nor of what the payload means. Loop thread only. Compression, decompression and disk work happen on other threads,
 * through env.h. Format: docs/FORMATS.md, section Snapshot file.
 *
 * Rules of every object here: opening is asynchronous; callbacks fire on the loop, never from inside a call of this
 * header; `*_close` is allowed at any time, also from inside a callback, and nothing is called back after it but a
 * `closed` where there is one (memory goes, and the file is closed, when the last request has come back). Error texts
 * name the file, and the block where there is one, and live until the object is closed. An env that is closing answers
 * with SNAPSHOT_CANCELED.
 *
 * A file is not removed, nor replaced by another one, while anybody has it open: each object keeps a struct
 * snapshot_use of its file in the directory's list for as long as it lives, which is longer than until `*_close`. Where
 * nobody else uses the directory `dir` may be NULL. */
#ifndef LOCKSTEP_SNAPSHOT_H
#define LOCKSTEP_SNAPSHOT_H

#include "consensus/env.h"

/* Payload bytes of one block as written here; a reader takes up to the maximum. */
#define SNAPSHOT_BLOCK_BYTES (64u << 10)
#define SNAPSHOT_BLOCK_BYTES_MAX (256u << 10)
#define SNAPSHOT_CONFIGURATION_BYTES_MAX (64u << 10)
/* Bounds of the pieces that travel between nodes. */
#define SNAPSHOT_HEADER_BYTES_MAX (SNAPSHOT_CONFIGURATION_BYTES_MAX + ENV_BLOCK)
#define SNAPSHOT_PIECE_BYTES_MAX (SNAPSHOT_BLOCK_BYTES_MAX + 64u)
/* With a terminating zero; a suffix .tmp or .part included. */
#define SNAPSHOT_NAME_BYTES 56u
#define SNAPSHOT_ERROR_BYTES 320u

enum snapshot_status {
    SNAPSHOT_OK = 0,
    SNAPSHOT_DAMAGED,   /* bytes are not what was written */
    SNAPSHOT_VERSION,   /* written by a newer version */
    SNAPSHOT_NOT_FOUND, /* no such file */
    SNAPSHOT_IO,
    SNAPSHOT_NO_SPACE,
    SNAPSHOT_NO_MEMORY,
    SNAPSHOT_CANCELED,
    SNAPSHOT_NOT_NEXT, /* receiver: another block is needed */
    SNAPSHOT_BUSY      /* the file is in use; receiver: buffers are full, `ready` comes; source: a read is in flight */
};

struct snapshot_dir;

/* Somebody's use of a file, embedded by its owner; all zero: none. */
struct snapshot_use {
    /* private */
    struct snapshot_dir *dir; /* NULL: none, or the directory was closed meanwhile */
    struct snapshot_use *next;
    uint64_t index, term;
    bool writes;
};

/* What the header says. */
struct snapshot_meta {
    uint8_t cluster[16]; /* cluster uuid */
    uint8_t file_id[16]; /* of this very file: drawn by the writer, the same on all nodes that got a copy */
    uint64_t index;      /* of the last entry contained, not 0 */
    uint64_t term;       /* of that entry, not 0 */
    uint64_t cluster_time_ms;
    uint64_t revision;            /* of the content; opaque here */
    uint64_t configuration_index; /* of the entry below, 0 if it has none */
    const void *configuration;    /* bytes of the newest configuration entry at or below `index` */
    uint32_t configuration_len;
    uint32_t feature_level;
    uint32_t flags; /* none is defined: 0 */
};

/* What the trailer says. */
struct snapshot_end {
    uint64_t blocks;
    uint64_t payload_bytes;
    uint64_t file_bytes;
    uint64_t digest; /* of the content, from the state machine; opaque here */
};

/* `snapshot-<index>-<term>` and `suffix` ("", ".tmp" or ".part"). */
void snapshot_name_format(char name[SNAPSHOT_NAME_BYTES], uint64_t index, uint64_t term, const char *suffix);
/* False if `name` is not that of a finished snapshot. */
bool snapshot_name_parse(const char *name, uint64_t *index, uint64_t *term);
/* A short text for a status. */
const char *snapshot_status_text(enum snapshot_status status);

/* --- Writing ------------------------------------------------------------------------------------------------------ */

struct snapshot_writer;

struct snapshot_writer_events {
    /* `append` takes bytes again, after it had taken fewer than given. */
    void (*ready)(void *ctx);
    /* Once. SNAPSHOT_OK: the file is complete, synced and under its name, and the directory is synced; `end` says what
     * is in it. Otherwise nothing of it is left behind (but after SNAPSHOT_CANCELED a temporary file). */
    void (*done)(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end);
    void *ctx;
};

/* Begin `snapshot-...tmp`. `meta` is copied; its file_id is drawn here. Memory: about 0.5 MiB. A finished snapshot of
 * the same index and term is replaced at the end. SNAPSHOT_BUSY: that one is open somewhere, or being removed, or
 * another writer or receiver of the same name has not gone yet: try again later. */
enum snapshot_status snapshot_writer_open(struct env *env, struct snapshot_dir *dir, const struct snapshot_meta *meta,
                                          const struct snapshot_writer_events *events, struct snapshot_writer **writer)
    __attribute__((warn_unused_result));
/* Add payload; gives how many bytes were taken (copied). Fewer than `len`: wait for `ready`. May be called at once. */
size_t snapshot_writer_append(struct snapshot_writer *writer, const void *data, size_t len);
/* Bytes that append would take now. */
size_t snapshot_writer_room(const struct snapshot_writer *writer);
/* No more payload. Leads to `done`. */
void snapshot_writer_finish(struct snapshot_writer *writer, uint64_t digest);
/* Before `done`: abort, and remove the temporary file. */
void snapshot_writer_close(struct snapshot_writer *writer);

/* --- Reading ------------------------------------------------------------------------------------------------------ */

struct snapshot_reader;

struct snapshot_reader_events {
    /* Header and trailer are good; payload follows. Both are valid until close. */
    void (*opened)(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end);
    /* `peek` gives bytes, after it had given none. */
    void (*ready)(void *ctx);
    /* Once. SNAPSHOT_OK: the whole payload was consumed, and every checksum of the file is right. An error comes after
     * what was good before it has been consumed. */
    void (*done)(void *ctx, enum snapshot_status status, const char *error);
    /* May be NULL. Once, after snapshot_reader_close or from inside it: the file is closed. */
    void (*closed)(void *ctx);
    void *ctx;
};

/* Read a file from its beginning. Reading and decompressing run ahead by at most three spans of a mebibyte (of file)
 * or two (of payload). SNAPSHOT_NOT_FOUND: `dir` has no such file, or it is being removed or replaced. */
enum snapshot_status snapshot_reader_open(struct env *env, struct snapshot_dir *dir, const char *name,
                                          const struct snapshot_reader_events *events, struct snapshot_reader **reader)
    __attribute__((warn_unused_result));
/* The next bytes of payload, in order; 0 if none are there yet. Valid until they are consumed. */
size_t snapshot_reader_peek(const struct snapshot_reader *reader, const void **data);
/* Done with the first `n` bytes of what peek gave. */
void snapshot_reader_consume(struct snapshot_reader *reader, size_t n);
/* Bytes of the file read and checked so far, for progress. */
uint64_t snapshot_reader_position(const struct snapshot_reader *reader);
void snapshot_reader_close(struct snapshot_reader *reader);

/* Check a whole file: header, every block and trailer. `progress` may be NULL. */
struct snapshot_verify;
struct snapshot_verify_events {
    void (*progress)(void *ctx, uint64_t bytes, uint64_t of_bytes);
    /* Once; meta and end are NULL unless SNAPSHOT_OK. */
    void (*done)(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_meta *meta,
                 const struct snapshot_end *end);
    /* May be NULL. Once, after snapshot_verify_close or from inside it: the file is closed. */
    void (*closed)(void *ctx);
    void *ctx;
};
enum snapshot_status snapshot_verify_open(struct env *env, const char *name,
                                          const struct snapshot_verify_events *events, struct snapshot_verify **verify)
    __attribute__((warn_unused_result));
void snapshot_verify_close(struct snapshot_verify *verify);

/* --- From node to node -------------------------------------------------------------------------------------------- */

/* A place in the file: block `number` begins at `offset`; the number of blocks stands for the trailer. Both sides
 * compute it, and the sender needs no other memory: a transfer goes on wherever the receiver is, also with another
 * sender that has the same file (file_id). Travels as four integers. */
struct snapshot_position {
    uint64_t number;
    uint64_t offset;  /* in the file */
    uint64_t payload; /* bytes of payload before it */
    uint64_t check;   /* of the block before it, or of the header: the block's own checksum is seeded with it */
};

struct snapshot_source;

struct snapshot_source_events {
    /* The first piece: the header's bytes, to be given to snapshot_receiver_open. Valid until close, like the others.
     */
    void (*opened)(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end, const void *header,
                   size_t header_len);
    /* Answer to snapshot_source_read: the piece at `at`, verified, and where the next one is. `last`: it is the
     * trailer. `data` is valid until the next read. SNAPSHOT_DAMAGED: the piece at `at` is damaged, or there is none.
     * An error ends nothing: another position may be asked for. */
    void (*piece)(void *ctx, enum snapshot_status status, const struct snapshot_position *at, const void *data,
                  size_t len, const struct snapshot_position *next, bool last);
    /* Instead of `opened`. */
    void (*failed)(void *ctx, enum snapshot_status status, const char *error);
    void *ctx;
};

/* Open a finished snapshot to send it. SNAPSHOT_NOT_FOUND: `dir` has no such file, or it is being removed or replaced.
 */
enum snapshot_status snapshot_source_open(struct env *env, struct snapshot_dir *dir, const char *name,
                                          const struct snapshot_source_events *events, struct snapshot_source **source)
    __attribute__((warn_unused_result));
/* Read the piece at `at` (from a receiver, so any value is allowed). After `opened`. One read at a time: SNAPSHOT_BUSY.
 * SNAPSHOT_DAMAGED: there can't be a piece there, and no answer comes. */
enum snapshot_status snapshot_source_read(struct snapshot_source *source, const struct snapshot_position *at)
    __attribute__((warn_unused_result));
/* What is wrong, after `piece` came with an error. */
const char *snapshot_source_error(const struct snapshot_source *source);
void snapshot_source_close(struct snapshot_source *source);

struct snapshot_receiver;

struct snapshot_receiver_events {
    /* The temporary file is there, new or from an earlier attempt, whose blocks were checked; `next` is needed first.
     */
    void (*opened)(void *ctx, const struct snapshot_meta *meta, const struct snapshot_position *next);
    /* `put` takes pieces again, after SNAPSHOT_BUSY; or there is more room than snapshot_receiver_room said. */
    void (*ready)(void *ctx);
    /* Once. SNAPSHOT_OK: the file was read back and verified as a whole, and is durable under its name. */
    void (*done)(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end);
    void *ctx;
};

struct snapshot_receiver_config {
    struct env *env;
    struct snapshot_dir *dir;
    const void *header; /* the first piece; borrowed until return */
    size_t header_len;
};
/* Receive the file with this header into `snapshot-...part`. A partial file of the same file_id is continued, another
 * one is replaced, and so is, at the end, a finished snapshot of the same index and term. SNAPSHOT_DAMAGED or _VERSION:
 * the header is not acceptable; whether cluster, index and feature level are is the caller's business
 * (snapshot_header_check). SNAPSHOT_BUSY: as for a writer. Memory: about 6 MiB. */
enum snapshot_status snapshot_receiver_open(const struct snapshot_receiver_config *config,
                                            const struct snapshot_receiver_events *events,
                                            struct snapshot_receiver **receiver) __attribute__((warn_unused_result));
/* Give the piece at `at`. SNAPSHOT_OK: taken. _NOT_NEXT: nothing happened, ask for snapshot_receiver_next. _BUSY: give
 * it again after `ready`. _DAMAGED: the piece is not what the sender's file holds there; ask for it again. After the
 * trailer `done` follows. After `opened`, before `done`. */
enum snapshot_status snapshot_receiver_put(struct snapshot_receiver *receiver, const struct snapshot_position *at,
                                           const void *data, size_t len) __attribute__((warn_unused_result));
/* Pieces that begin less than that many bytes behind the one needed next are certainly taken: 0 to `wanted`. If it is
 * less than `wanted`, `ready` comes once the disk has caught up. After `opened`, before `done`. */
size_t snapshot_receiver_room(struct snapshot_receiver *receiver, size_t wanted);
/* The piece needed next. */
struct snapshot_position snapshot_receiver_next(const struct snapshot_receiver *receiver);
/* Before `done`: what was received stays on disk for a later receiver if `keep`, else it is removed. */
void snapshot_receiver_close(struct snapshot_receiver *receiver, bool keep);

/* Decode the bytes of a header without opening anything; meta borrows from them. */
enum snapshot_status snapshot_header_check(const void *header, size_t len, struct snapshot_meta *meta)
    __attribute__((warn_unused_result));

/* --- The directory ------------------------------------------------------------------------------------------------ */

/* The finished snapshots of the data directory, and who uses which. */
struct snapshot_info {
    uint64_t index;
    uint64_t term;
    uint64_t file_bytes;
    enum snapshot_status status; /* of header and trailer, looked at when it was found or added */
};

/* List the directory, check header and trailer of each, and remove unfinished files that nobody continues (.tmp, and
 * .part of an index at or below that of the newest good snapshot). Synchronous, for the start. */
enum snapshot_status snapshot_dir_open(struct env *env, struct snapshot_dir **dir) __attribute__((warn_unused_result));
/* Newest first; NULL beyond the end. Valid until the directory changes. */
const struct snapshot_info *snapshot_dir_at(const struct snapshot_dir *dir, size_t i);
/* The newest good one, NULL if there is none. */
const struct snapshot_info *snapshot_dir_newest(const struct snapshot_dir *dir);
/* Why one is not good: names the file and what to do. Static text. */
const char *snapshot_dir_error(const struct snapshot_dir *dir, uint64_t index, uint64_t term);
/* A writer or receiver has finished this one. False: no memory. */
bool snapshot_dir_add(struct snapshot_dir *dir, uint64_t index, uint64_t term, uint64_t file_bytes);
/* Found bad while it was read: it no longer counts as good. */
void snapshot_dir_mark_bad(struct snapshot_dir *dir, uint64_t index, uint64_t term, enum snapshot_status status);
/* While held (by any number), a snapshot is neither pruned nor replaced. `use` is not in use yet. False: there is no
 * such snapshot, or it is being removed or replaced. */
bool snapshot_dir_hold(struct snapshot_dir *dir, struct snapshot_use *use, uint64_t index, uint64_t term);
/* A file is about to be written that gets the name of this snapshot. False: it is used by anybody, or being removed. */
bool snapshot_dir_claim(struct snapshot_dir *dir, struct snapshot_use *use, uint64_t index, uint64_t term);
/* The end of either: the file is closed. Prunes. Nothing if there is none, or the directory was closed meanwhile. */
void snapshot_use_end(struct snapshot_use *use);
/* Remove everything older than the newest two good ones, unless it is used. So the last good one always stays, and a
 * bad one stays for a look at it until two newer good ones exist. Asynchronous; failures are logged and tried at the
 * next call. */
void snapshot_dir_prune(struct snapshot_dir *dir);
/* Everything older than (index, term) may hold wrong content: it counts as damaged, and the newest two that are not
 * held are renamed to these names, over what has them. Asynchronous, like prune; what a crash or a failure leaves is
 * found as an older snapshot by the next start. */
#define SNAPSHOT_ASIDE_NEWEST "quarantined-snapshot"
#define SNAPSHOT_ASIDE_OLDER "quarantined-snapshot-older"
void snapshot_dir_set_aside(struct snapshot_dir *dir, uint64_t index, uint64_t term);
/* At any time, also while files are in use: nothing is removed any more. */
void snapshot_dir_close(struct snapshot_dir *dir);

#endif
