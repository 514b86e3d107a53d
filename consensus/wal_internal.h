/* What the files of the WAL share: its state, and the functions by which wal.c (interface), wal_write.c (buffers and
 * the disk writes), wal_segment.c (files), wal_recover.c and wal_read.c meet. Nobody else includes this. */
#ifndef LOCKSTEP_WAL_INTERNAL_H
#define LOCKSTEP_WAL_INTERNAL_H

#include <assert.h>

#include "consensus/wal.h"
#include "consensus/wal_format.h"
#include "consensus/wal_index.h"

#define WAL_SEGMENT_BYTES_DEFAULT (16u << 20)
#define WAL_SEGMENT_BYTES_MAX (1u << 30)
#define WAL_ENTRY_BYTES_DEFAULT (8u << 20)
/* One disk write carries at most this, unless a single record is larger. */
#define WAL_CHUNK_BYTES (4u << 20)
/* A log that falls silent writes one mark after this long, which protects its last records against being taken for a
 * torn tail. */
#define WAL_IDLE_MARK_US 100000u
#define WAL_RETRY_MIN_US 100000u
#define WAL_RETRY_MAX_US 5000000u
/* Zero-filled segments kept beyond the one being filled. */
#define WAL_SPARE_SEGMENTS 1u
#define WAL_RECYCLE_DEFAULT 8u
/* Old segments kept open for reading. */
#define WAL_OPEN_MAX 16u
#define WAL_ERROR_BYTES 640u

enum wal_segment_state {
    WAL_SEGMENT_WANTED, /* may hold locations already, but there is no file yet */
    WAL_SEGMENT_CREATING,
    WAL_SEGMENT_READY
};

struct wal_segment {
    enum wal_segment_state state;
    uint32_t generation;
    struct env_file *file; /* NULL: not open */
    uint64_t size;
    uint64_t used;      /* end of the last record appended, in memory or on disk; 0: no header yet */
    uint64_t index_max; /* highest index that any of its records has, also of replaced ones */
    bool dead;          /* a durable reset follows it */
};

/* One disk write to be: whole blocks of one segment, beginning with the part of a block written before. */
struct wal_chunk {
    struct wal_chunk *next;
    uint8_t *buf;
    size_t cap;
    size_t used;
    uint64_t offset; /* in the segment, multiple of ENV_BLOCK */
    uint32_t generation;
    size_t last_record; /* offset in buf of the last record put here */
    bool has_record;
    bool begins_segment; /* holds the header for the first time, and may stamp it */
    uint64_t last_seq;
    uint64_t last_index; /* last index of the log once this is durable, lowered by later replacements */
    uint64_t entry_bytes;
    uint64_t n_entries;
};

struct wal_read_op;

struct wal {
    struct env *env;
    struct wal_config config;
    uint32_t salt;
    bool failed;
    bool closing;
    unsigned in_flight; /* disk requests whose callbacks will come */

    struct wal_index index;
    uint64_t durable;   /* highest held index on stable storage; every one up to it was reported */
    uint64_t prev_term; /* of the entry before the first one held; 0: not known, or none */
    uint64_t drop_index;
    uint64_t reset_seq; /* of the last reset record, until it is durable; 0: none */
    uint32_t reset_generation;

    /* The chain of records. */
    uint64_t seq; /* of the last record appended */
    uint64_t durable_seq;
    uint64_t chain; /* `check` of the last record appended */
    bool last_is_mark;

    /* Segments, ascending without gap: `segments[i].generation == segments[0].generation + i`. */
    struct wal_segment *segments;
    size_t n_segments;
    size_t segments_cap;
    size_t current; /* position of the one being filled */
    uint64_t segment_bytes;
    uint64_t disk_bytes;
    uint64_t n_ready;
    uint32_t durable_generation;     /* of the last segment whose header is on stable storage; 0: none */
    uint32_t open_old[WAL_OPEN_MAX]; /* generations of old segments that are open, least recently used first */
    size_t n_open_old;
    struct env_disk_req create_req;
    char create_name[WAL_NAME_BYTES];
    bool creating;
    /* The oldest segment on its way out. At most one of `creating` and `dropping` is true. */
    bool dropping;
    bool drop_stalled;           /* the last attempt was refused; the next wal_drop_prefix tries again */
    uint32_t recycle_generation; /* what it becomes, 0: it is removed */
    struct env_disk_req drop_req;
    char drop_name[WAL_NAME_BYTES];
    char recycle_name[WAL_NAME_BYTES];
    bool no_space; /* the last creation failed for want of space or permission */
    struct env_timer retry_timer;
    bool retrying;
    uint64_t retry_us;

    /* Chunks, oldest first; the first may be in flight, the last may be open. */
    struct wal_chunk *head;
    struct wal_chunk *tail;
    struct wal_chunk *open;        /* takes records: the tail or NULL */
    struct wal_chunk *reserved;    /* in the order in which they will be used */
    struct wal_chunk *spare[2];    /* buffers kept for reuse */
    uint8_t last_block[ENV_BLOCK]; /* what the last closed chunk put into its last, partial block */
    size_t last_block_used;
    bool writing;
    uint32_t writing_generation;
    uint64_t flush_seq; /* everything up to here is to be written without further request */
    struct env_disk_req write_req;
    uint64_t write_start_us;
    uint64_t pending_bytes;
    struct env_timer idle_timer;
    bool idle_armed;
    uint64_t idle_since_us;

    struct wal_read_op *reads; /* in flight */
    struct wal_stats stats;
};

/* wal.c */
void wal_destroy_if_done(struct wal *wal);
void wal_fail(struct wal *wal, enum env_status status);
enum wal_status wal_status_of(enum env_status status);

/* wal_write.c */
/* Make room in memory for the entries; nothing else changes. */
enum wal_status wal_write_reserve(struct wal *wal, const struct wal_entry *entries, unsigned n);
/* Put a record at the log's end; memory was reserved. */
void wal_write_put(struct wal *wal, uint8_t type, const struct wal_entry *entry, struct wal_place *place);
/* Append a mark record. False: no memory, or no room for it in this segment and `roll` forbids another. */
bool wal_write_mark(struct wal *wal, bool roll);
/* Append a reset record and forget all entries. False: no memory, nothing has changed. */
bool wal_write_reset(struct wal *wal, uint64_t index, uint64_t term);
void wal_write_submit(struct wal *wal);
void wal_write_close_chunk(struct wal *wal);
void wal_write_clip(struct wal *wal, uint64_t from);
void wal_write_idle_cb(struct env_timer *timer);
void wal_write_arm_idle(struct wal *wal);
void wal_write_fini(struct wal *wal);

/* wal_drop.c */
/* Begin to drop the oldest segment if that is due. True: an operation is under way. */
bool wal_drop_step(struct wal *wal);
/* Something became durable. */
void wal_drop_advance(struct wal *wal);

/* wal_segment.c */
struct wal_segment *wal_segment_of(const struct wal *wal, uint32_t generation);
bool wal_segments_reserve(struct wal *wal, size_t extra);
/* Add a segment at the end; memory was reserved. */
struct wal_segment *wal_segments_push(struct wal *wal, uint32_t generation, uint64_t size);
/* Keep the spare segments coming and the dropped ones going, one file operation at a time. */
void wal_segments_prepare(struct wal *wal);
/* The first segment without a file, NULL if all have one. */
struct wal_segment *wal_segments_wanted(struct wal *wal);
/* Take out the oldest one, whose file is gone or has moved. */
void wal_segments_shift(struct wal *wal);
/* A full disk has room again. */
void wal_segments_has_space(struct wal *wal);
/* Its file is no longer among the old ones kept open for reading. */
void wal_segment_forget(struct wal *wal, uint32_t generation);
void wal_segments_retry_cb(struct env_timer *timer);
/* The open file of a segment. */
enum env_status wal_segment_file(struct wal *wal, struct wal_segment *segment, struct env_file **file);
/* Segments before `generation` have seen their last write. */
void wal_segments_retire(struct wal *wal, uint32_t from, uint32_t to);
void wal_segments_fini(struct wal *wal);

/* wal_recover.c */
enum wal_status wal_recover(struct wal *wal, char error[WAL_ERROR_BYTES]);

/* wal_read.c */
void wal_reads_clip(struct wal *wal, uint64_t from);
/* True while a read of this segment is in flight. */
bool wal_reads_use(const struct wal *wal, uint32_t generation);
void wal_reads_fini(struct wal *wal);

#endif
