/* Replaying the log after a start, as far as it counts as loading (replica_is_loading).
 *
 * A node can't tell by itself which of its entries are committed: it learns that from a leader, or by leading. So this
 * begins when it hears that entries which were in its log when it was opened are committed and more than a moment's
 * work, and lasts until those are applied. What is written meanwhile comes on top, but does not prolong it: else a node
 * under load might load for ever. While no leader is known nothing is being replayed; the node then does what any node
 * without a leader does. An installed snapshot replaces what was to be replayed. */
#include "consensus/replica_internal.h"

/* Less is over sooner than a client asks again. */
#define REPLAY_BYTES_MIN (4u << 20)
#define TELL_US 2000000u

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

void replica_replay_opened(struct replica *r)
{
    struct replay *p = &r->replay;

    *p = (struct replay){.last = wal_last(r->wal)};
    for (uint64_t i = r->applied + 1; i <= p->last; i++) {
        p->bytes_total += wal_len_of(r->wal, i);
    }
    if (p->bytes_total < REPLAY_BYTES_MIN) {
        p->last = 0;
    }
}

/* What was there at the start and may be applied by now. */
static uint64_t target(const struct replica *r)
{
    return r->exposed < r->replay.last ? r->exposed : r->replay.last;
}

static bool is_much(const struct replica *r)
{
    uint64_t bytes = 0;

    for (uint64_t i = r->applied + 1; i <= target(r) && bytes < REPLAY_BYTES_MIN; i++) {
        bytes += wal_len_of(r->wal, i);
    }
    return bytes >= REPLAY_BYTES_MIN;
}

static void begin(struct replica *r)
{
    struct replay *p = &r->replay;

    p->running = true;
    p->start_us = p->told_us = now_of(r);
    p->bytes_total -= p->bytes;
    p->bytes = 0;
    replica_log(r, 2, "replaying the log: entries %llu to %llu, %llu MB", (unsigned long long)r->applied + 1,
                (unsigned long long)p->last, (unsigned long long)p->bytes_total >> 20);
}

static void tell(struct replica *r)
{
    struct replay *p = &r->replay;
    const uint64_t now_us = now_of(r);

    if (now_us < p->told_us + TELL_US || p->bytes_total == 0) {
        return;
    }
    p->told_us = now_us;
    const uint64_t rate = p->bytes * 1000 / ((now_us - p->start_us) / 1000 + 1); /* per second */
    replica_log(r, 2, "replaying the log: %llu %% of %llu MB, up to entry %llu, %llu MB/s, %llu s left",
                (unsigned long long)(p->bytes * 100 / p->bytes_total), (unsigned long long)p->bytes_total >> 20,
                (unsigned long long)r->applied, (unsigned long long)rate >> 20,
                (unsigned long long)((p->bytes_total - p->bytes) / (rate > 0 ? rate : 1)));
}

static void stop(struct replica *r)
{
    struct replay *p = &r->replay;

    if (p->running) {
        p->running = false;
        replica_log(r, 2, "replayed the log up to entry %llu: %llu MB in %llu ms", (unsigned long long)r->applied,
                    (unsigned long long)p->bytes >> 20, (unsigned long long)((now_of(r) - p->start_us) / 1000));
    }
}

void replica_replay_over(struct replica *r)
{
    stop(r);
    r->replay.last = 0;
}

void replica_replay_turn(struct replica *r)
{
    struct replay *p = &r->replay;

    if (p->last == 0) {
        return;
    }
    if (r->applied >= p->last || r->rebuild.stopped) {
        replica_replay_over(r);
    } else if (p->running && r->applied >= target(r)) {
        stop(r); /* what is behind that may not be committed */
    } else if (p->running) {
        tell(r);
    } else if (r->applied < target(r) && is_much(r)) {
        begin(r);
    }
}

void replica_replay_applied(struct replica *r, size_t len)
{
    struct replay *p = &r->replay;

    if (r->applied <= p->last) {
        p->bytes += len;
    }
}

void replica_replay_info(const struct replica *r, struct replica_loading_info *info)
{
    const struct replay *p = &r->replay;

    if (p->running) {
        *info = (struct replica_loading_info){
            .replaying = true, .bytes = p->bytes, .bytes_total = p->bytes_total, .elapsed_us = now_of(r) - p->start_us};
    }
}
