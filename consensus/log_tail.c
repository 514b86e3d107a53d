#include "consensus/log_tail.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What an entry costs beside its data: ring slot and allocation overhead. */
#define ENTRY_OVERHEAD 64u

void log_tail_init(struct log_tail *tail, uint64_t next)
{
    *tail = (struct log_tail){.first = next};
}

void log_tail_fini(struct log_tail *tail)
{
    log_tail_truncate(tail, tail->first);
    free(tail->ring);
    tail->ring = NULL;
}

static struct log_tail_entry *slot(const struct log_tail *tail, size_t i)
{
    return &tail->ring[(tail->front + i) & (tail->capacity - 1)];
}

static bool grow(struct log_tail *tail)
{
    const size_t capacity = tail->capacity == 0 ? 64 : tail->capacity * 2;
    struct log_tail_entry *ring = malloc(capacity * sizeof *ring);

    if (ring == NULL) {
        return false;
    }
    for (size_t i = 0; i < tail->count; i++) {
        ring[i] = *slot(tail, i);
    }
    free(tail->ring);
    tail->ring = ring;
    tail->capacity = capacity;
    tail->front = 0;
    return true;
}

bool log_tail_push(struct log_tail *tail, const struct log_tail_entry *entry)
{
    if (tail->count == tail->capacity && !grow(tail)) {
        return false;
    }
    *slot(tail, tail->count) = *entry;
    tail->count++;
    tail->bytes += entry->len + ENTRY_OVERHEAD;
    return true;
}

struct log_tail_entry *log_tail_at(const struct log_tail *tail, uint64_t index)
{
    if (index < tail->first || index >= tail->first + tail->count) {
        return NULL;
    }
    return slot(tail, index - tail->first);
}

static void drop(struct log_tail *tail, struct log_tail_entry *entry)
{
    assert(entry->proposal == NULL);
    assert(tail->bytes >= entry->len + ENTRY_OVERHEAD);
    tail->bytes -= entry->len + ENTRY_OVERHEAD;
    free(entry->data);
}

void log_tail_truncate(struct log_tail *tail, uint64_t index)
{
    assert(index >= tail->first);
    while (tail->count > 0 && tail->first + tail->count > index) {
        tail->count--;
        drop(tail, slot(tail, tail->count));
    }
}

void log_tail_trim(struct log_tail *tail, uint64_t bytes_max, uint64_t index_max)
{
    while (tail->count > 0 && tail->bytes > bytes_max && tail->first <= index_max) {
        drop(tail, slot(tail, 0));
        tail->front = (tail->front + 1) & (tail->capacity - 1);
        tail->first++;
        tail->count--;
    }
}
