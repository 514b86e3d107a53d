/* Log entries in order, wherever they lie: in the log of a data directory, in one segment of it, in an archive or one
 * file of that. Owns its place and the entry it gave last. */
#ifndef LOCKSTEP_ENTRIES_H
#define LOCKSTEP_ENTRIES_H

#include "cmd/lockstep/archive_file.h"
#include "cmd/lockstep/datadir.h"

#define ENTRIES_ERROR_MAX 1024

enum entries_state {
    ENTRIES_MORE, /* an entry was given */
    ENTRIES_END,
    ENTRIES_GAP,   /* an archive lacks some, entries.error says which: go on to get those behind them */
    ENTRIES_TORN,  /* the end; what follows is the rest of a torn write, entries.error says where */
    ENTRIES_FAILED /* entries.error says what is wrong and what to do */
};

struct entries {
    /* public */
    char error[ENTRIES_ERROR_MAX];
    uint8_t cluster[16]; /* of an archive */
    unsigned files;      /* of an archive: begun so far */
    /* private */
    struct datadir *datadir;
    uint64_t next; /* the index that is due, 0: any */
    uint64_t term;
    bool cluster_known;
    void *data;
    char dir[4096];
    uint64_t *firsts; /* of the archive's files, ascending */
    size_t n_firsts, at_file;
    struct archive_reader *reader;
    struct env *env; /* of a single segment */
    uint8_t *segment;
    uint64_t segment_bytes;
    uint64_t offset, seq, chain;
    uint32_t generation, salt;
};

/* From the log of an open directory (borrowed), from entry `from` on or the first one held. */
void entries_open_log(struct entries *entries, struct datadir *datadir, uint64_t from);
/* From an archive directory, beginning with the file that holds entry `from` (0: the first one). */
bool entries_open_archive(struct entries *entries, const char *dir, uint64_t from);
/* The same behind a base backup of that cluster whose last entry, `from` - 1, is of `term`: entries of another cluster
 * or another history are refused. */
bool entries_open_archive_behind(struct entries *entries, const char *dir, uint64_t from, const uint8_t cluster[16],
                                 uint64_t term);
/* From one file of an archive, or of a log. What is behind the last record of a single segment can't be judged. */
bool entries_open_archive_file(struct entries *entries, const char *path);
bool entries_open_segment(struct entries *entries, const char *path);
/* The next one, valid until the next call. Entries below `from` may come first. A single segment gives entries as they
 * were written: one of a lower index replaces those before it. */
enum entries_state entries_next(struct entries *entries, struct wal_entry *entry);
void entries_close(struct entries *entries);

#endif
