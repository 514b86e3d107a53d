/* Files of a log archive: committed entries of a cluster, in order, outside of it. Owns `entries-<first index>` files;
 * knows nothing of what entries mean nor where they come from. Format: docs/FORMATS.md, section Archive. */
#ifndef LOCKSTEP_ARCHIVE_FILE_H
#define LOCKSTEP_ARCHIVE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consensus/wal.h"

#define ARCHIVE_NAME_BYTES 32u
#define ARCHIVE_ERROR_MAX 600u
/* A file is closed and the next one begun at about this size. */
#define ARCHIVE_FILE_BYTES ((uint64_t)64 << 20)
#define ARCHIVE_ENTRY_BYTES_MAX ((uint32_t)1 << 28)

void archive_name_format(char name[ARCHIVE_NAME_BYTES], uint64_t first_index);
/* False if `name` is not that of an archive file. */
bool archive_name_parse(const char *name, uint64_t *first_index);

struct archive_head {
    uint8_t cluster[16];
    uint64_t first_index; /* of the first entry of the file */
    uint64_t prev_term;   /* of the entry before it, 0: not known */
    uint64_t salt;        /* tells records of this file from those of others; 0 for the writer: a random one */
};

/* --- Reading ------------------------------------------------------------------------------------------------------ */

enum archive_end {
    ARCHIVE_MORE,   /* an entry was read */
    ARCHIVE_SEALED, /* the file ends as it should */
    ARCHIVE_OPEN,   /* it ends behind a whole entry, and was not closed: its writer was killed, or is still at work */
    ARCHIVE_TORN,   /* the same, with a part of an entry behind the last whole one */
    ARCHIVE_DAMAGED /* see the error text */
};

struct archive_reader;

/* NULL: `error` says what is wrong with the file. */
struct archive_reader *archive_reader_open(const char *path, char error[ARCHIVE_ERROR_MAX]);
const struct archive_head *archive_reader_head(const struct archive_reader *reader);
/* The next entry, valid until the next call. Every checksum and the order of indexes and terms are checked. */
enum archive_end archive_reader_next(struct archive_reader *reader, struct wal_entry *entry);
const char *archive_reader_error(const struct archive_reader *reader);
/* Bytes of the file up to the end of the last entry given. */
uint64_t archive_reader_offset(const struct archive_reader *reader);
void archive_reader_close(struct archive_reader *reader);

/* --- Writing ------------------------------------------------------------------------------------------------------ */

struct archive_writer;

/* Begin a new file in `dir`, or go on with one that was not closed: what is behind its last whole entry is cut off, and
 * `*next_index` tells which entry comes next. NULL: `error`. */
struct archive_writer *archive_writer_create(const char *dir, const struct archive_head *head,
                                             char error[ARCHIVE_ERROR_MAX]);
struct archive_writer *archive_writer_resume(const char *dir, uint64_t first_index, uint64_t *next_index,
                                             uint64_t *last_term, char error[ARCHIVE_ERROR_MAX]);
/* The next entry, copied; on disk for sure after archive_writer_sync. False: `error`. */
bool archive_writer_add(struct archive_writer *writer, const struct wal_entry *entry, char error[ARCHIVE_ERROR_MAX]);
bool archive_writer_sync(struct archive_writer *writer, char error[ARCHIVE_ERROR_MAX]);
uint64_t archive_writer_bytes(const struct archive_writer *writer);
/* With `seal` the file is closed for good. Frees the writer in any case. */
bool archive_writer_close(struct archive_writer *writer, bool seal, char error[ARCHIVE_ERROR_MAX]);

#endif
