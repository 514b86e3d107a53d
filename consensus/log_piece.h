/* A piece of the log on its way out of the cluster, to an archive: committed entries as bytes with a checksum. Pure
 * functions over memory. Format: docs/FORMATS.md, section Log piece. */
#ifndef LOCKSTEP_LOG_PIECE_H
#define LOCKSTEP_LOG_PIECE_H

#include "consensus/wal.h"

#define LOG_PIECE_VERSION 1u

/* Bytes of a piece with these entries. */
size_t log_piece_bytes(const struct wal_entry *entries, unsigned n);
/* Write it; `last` is the newest entry that the sender would give. Entries have consecutive indexes. */
void log_piece_encode(void *out, const struct wal_entry *entries, unsigned n, uint64_t last);

struct log_piece {
    uint64_t last;
    unsigned left; /* entries that log_piece_next will give */
    /* private */
    const uint8_t *at, *end;
    uint64_t index;
};
/* Check the whole piece. False: it is not one, or damaged. `data` is borrowed as long as the piece is used. */
bool log_piece_open(struct log_piece *piece, const void *data, size_t len);
/* The next entry, which points into the piece; false at the end. */
bool log_piece_next(struct log_piece *piece, struct wal_entry *entry);

#endif
