#include "consensus/replica_export.h"

#include <assert.h>

#include "consensus/replica_internal.h"

#define READ_ENTRIES_MAX 4096u

void replica_log_bounds(const struct replica *r, uint64_t *first, uint64_t *last)
{
    *first = 1;
    *last = 0;
    if (r->dead || !r->started) {
        return;
    }
    *first = wal_first(r->wal);
    *last = r->applied < wal_durable(r->wal) ? r->applied : wal_durable(r->wal);
}

static void read_cb(struct wal_read *wal_read, enum wal_status status, const struct wal_entry *entries, unsigned n)
{
    struct replica_log_read *read = wal_read->data;
    struct replica *r = read->replica;
    struct wal_read taken = *wal_read; /* the buffers live until the owner has had the entries */
    unsigned given = 0;

    read->replica = NULL;
    while (given < n && entries[given].index <= read->last) {
        given++;
    }
    const enum replica_status result = status != WAL_OK ? REPLICA_IO : given > 0 ? REPLICA_OK : REPLICA_BUSY;
    read->cb(read, result, entries, result == REPLICA_OK ? given : 0); /* may start the next one */
    wal_read_fini(r->wal, &taken);
}

enum replica_status replica_log_read_start(struct replica *r, struct replica_log_read *read, uint64_t index,
                                           size_t bytes_max)
{
    uint64_t first, last;

    replica_log_bounds(r, &first, &last);
    assert(index >= first);
    assert(index <= last);
    read->last = last;
    read->read = (struct wal_read){.data = read, .cb = read_cb};
    const enum wal_status status = wal_read_start(r->wal, &read->read, index, last, bytes_max, READ_ENTRIES_MAX);
    read->replica = status == WAL_OK ? r : NULL;
    return status == WAL_OK ? REPLICA_OK : status == WAL_NO_MEMORY ? REPLICA_NO_MEMORY : REPLICA_IO;
}

void replica_log_read_cancel(struct replica_log_read *read)
{
    if (read->replica != NULL) {
        wal_read_fini(read->replica->wal, &read->read);
        read->replica = NULL;
    }
}

bool replica_digest_watch(struct replica *r, struct replica_digest_watch *watch, uint64_t index)
{
    bool known = true;

    *watch = (struct replica_digest_watch){.index = index};
    if (r->dead || !r->started || index < r->applied) {
        watch->digest = r->started ? replica_digest_at(r, index, &known) : 0;
        known = known && r->started;
    } else if (index == r->applied) {
        watch->digest = r->config.fsm->digest(r->config.fsm->ctx);
    } else {
        watch->next = r->digest_watches;
        r->digest_watches = watch;
        return true;
    }
    watch->done = known;
    return known;
}

void replica_digest_unwatch(struct replica *r, struct replica_digest_watch *watch)
{
    struct replica_digest_watch **at = &r->digest_watches;

    while (*at != NULL && *at != watch) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = (*at)->next;
    }
}

void replica_digest_watched(struct replica *r)
{
    for (struct replica_digest_watch *w = r->digest_watches; w != NULL; w = w->next) {
        if (w->index == r->applied && !w->done) {
            w->digest = r->config.fsm->digest(r->config.fsm->ctx);
            w->done = true;
        }
    }
}
