/* What the files of the snapshots share: opening a finished file and judging its header and trailer. Nobody else
 * includes this. */
#ifndef LOCKSTEP_SNAPSHOT_INTERNAL_H
#define LOCKSTEP_SNAPSHOT_INTERNAL_H

#include <assert.h>

#include "consensus/snapshot_format.h"

/* A finished file, open, with what its header and trailer say. Embedded by reader and source. */
struct snapshot_file {
    /* public */
    void *data;
    void (*cb)(struct snapshot_file *file, enum snapshot_status status);
    char name[SNAPSHOT_NAME_BYTES];
    struct env *env;
    struct env_file *handle; /* NULL: not open */
    uint64_t size;
    struct snapshot_meta meta;
    struct snapshot_trailer trailer;
    uint8_t *header; /* its bytes, aligned; meta borrows from them */
    size_t header_len;
    uint64_t header_check;
    char error[SNAPSHOT_ERROR_BYTES];
    bool busy; /* a request is in flight: keep the memory */
    /* private */
    struct snapshot_use use; /* until fini */
    struct env_disk_req req;
    uint8_t *block;
    bool closing;
};

enum snapshot_status snapshot_status_of(enum env_status status);
void *snapshot_alloc(size_t len); /* aligned for the disk; free with free() */

/* Open the file; `cb` tells the result. If `dir` is not NULL it lists the file, or SNAPSHOT_NOT_FOUND: then it is being
 * removed or replaced. */
enum snapshot_status snapshot_file_open(struct snapshot_file *file, struct env *env, struct snapshot_dir *dir,
                                        const char *name);
/* Ends everything; if `busy`, `cb` comes once more, with SNAPSHOT_CANCELED, and only then the memory may go. */
void snapshot_file_close(struct snapshot_file *file);
/* Frees buffers, and whoever wants to remove the file may. Not while busy, nor before snapshot_file_close. */
void snapshot_file_fini(struct snapshot_file *file);
/* Set the error text: what is wrong with the file, and what to do. */
__attribute__((format(printf, 2, 3))) void snapshot_file_explain(struct snapshot_file *file, const char *format, ...);
/* Where the first block is. */
struct snapshot_position snapshot_file_start(const struct snapshot_file *file);

/* Judge the first and the last block of a file by themselves. `header` has `header_len` bytes, `last` ENV_BLOCK. On an
 * error `what` says what is wrong. */
enum snapshot_status snapshot_judge_header(const char *name, const uint8_t *header, size_t header_len,
                                           struct snapshot_meta *meta, uint64_t *check, const char **what);
enum snapshot_status snapshot_judge_trailer(const uint8_t *last, uint64_t size, const struct snapshot_meta *meta,
                                            struct snapshot_trailer *trailer, const char **what);

extern const char snapshot_advice[];

#endif
