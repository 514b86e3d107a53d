/* The newest entries of the log in memory: owns their data. A deque by index, bounded in bytes by its owner's calls to
 * log_tail_trim. Knows nothing of disk or Raft. */
#ifndef LOCKSTEP_LOG_TAIL_H
#define LOCKSTEP_LOG_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proposal;

struct log_tail_entry {
    uint64_t term;
    uint8_t type; /* enum wal_entry_type */
    uint32_t len;
    void *data;                /* malloc'd, owned */
    struct proposal *proposal; /* made here and not finished, or NULL; borrowed */
};

struct log_tail {
    /* private */
    struct log_tail_entry *ring; /* capacity is a power of two */
    size_t capacity, front, count;
    uint64_t first; /* index of the entry at the front (also when empty: the next index) */
    uint64_t bytes;
};

/* Empty, the next entry has index `next`. */
void log_tail_init(struct log_tail *tail, uint64_t next);
void log_tail_fini(struct log_tail *tail);
/* Add at the end; takes entry->data on success. False: out of memory. */
bool log_tail_push(struct log_tail *tail, const struct log_tail_entry *entry);
/* The entry at `index`, NULL if it isn't held; valid until the next push, trim or truncate. */
struct log_tail_entry *log_tail_at(const struct log_tail *tail, uint64_t index);
/* Drop entries from `index` on. Their proposals must be finished already. */
void log_tail_truncate(struct log_tail *tail, uint64_t index);
/* Drop entries from the front while there are more than bytes_max bytes, none above `index_max`. */
void log_tail_trim(struct log_tail *tail, uint64_t bytes_max, uint64_t index_max);
static inline uint64_t log_tail_first(const struct log_tail *tail)
{
    return tail->first;
}
static inline uint64_t log_tail_next(const struct log_tail *tail)
{
    return tail->first + tail->count;
}

#endif
