/* Linearizable reads by ReadIndex (thesis section 6.4): a read that arrived when the leader had given out stamp s is
 * confirmed once a majority has echoed stamps above s: each of those peers was, after the read arrived, still in this
 * leader's term with it as leader, so no later leader had committed anything before the read arrived. It may then be
 * answered as soon as everything committed when it arrived, and an entry of the own term, is applied.
 *
 * One PING round serves all reads that wait; the next starts when it is complete. Stamps that ride on APPEND frames
 * count as well. */
#include <assert.h>

#include "consensus/replica_internal.h"

uint64_t replica_quorum_stamp(const struct replica *r)
{
    uint64_t v[REPLICA_SERVERS_MAX + 1];
    unsigned n = 0;
    const unsigned needed = r->n_voters / 2 + 1;

    if (r->is_voter) {
        v[n++] = UINT64_MAX;
    }
    for (unsigned i = 0; i < r->n_peers; i++) {
        if (r->peers[i].voter) {
            v[n++] = r->peers[i].echo_stamp;
        }
    }
    assert(n == r->n_voters);
    for (unsigned i = 1; i < n; i++) { /* descending */
        const uint64_t x = v[i];
        unsigned j = i;
        for (; j > 0 && v[j - 1] < x; j--) {
            v[j] = v[j - 1];
        }
        v[j] = x;
    }
    return needed <= n ? v[needed - 1] : 0;
}

static void finish(struct replica *r, struct replica_read *read, enum replica_status status)
{
    if (status == REPLICA_OK) {
        r->reads_confirmed++;
    }
    read->cb(read, status);
}

enum replica_status replica_read_start(struct replica *r, struct replica_read *read)
{
    if (r->dead || !replica_leads(r) || replica_is_fenced(r)) {
        return REPLICA_NOT_LEADER;
    }
    if (replica_reads_refused(r)) {
        return REPLICA_DISPUTED;
    }
    read->start_us = r->last_stamp;
    read->index = r->exposed > r->term_start_index ? r->exposed : r->term_start_index;
    if (r->term_start_index == 0) {
        read->index = UINT64_MAX; /* set when the barrier is in the log */
    }
    if (PLANT(PLANT_SKIP_BARRIER)) {
        read->index = r->exposed;
    }
    read->next = NULL;
    if (r->reads_tail == NULL) {
        r->reads = read;
    } else {
        r->reads_tail->next = read;
    }
    r->reads_tail = read;
    return REPLICA_OK;
}

void replica_read_cancel(struct replica *r, struct replica_read *read)
{
    struct replica_read **at = &r->reads;
    struct replica_read *last = NULL;

    while (*at != NULL && *at != read) {
        last = *at;
        at = &(*at)->next;
    }
    if (*at == NULL) {
        return;
    }
    *at = read->next;
    if (r->reads_tail == read) {
        r->reads_tail = last;
    }
}

/* Answer what is confirmed and applied. Reads are in order of arrival, so both conditions hold for a prefix. */
void replica_reads_settle(struct replica *r)
{
    if (r->reads == NULL || !replica_leads(r)) {
        return;
    }
    const bool lease = lease_check(&r->lease, r->env->ops->now_us(r->env)) == LEASE_NONE && replica_is_leader(r);
    const uint64_t stamp = PLANT(PLANT_STALE_READ) || lease ? UINT64_MAX : replica_quorum_stamp(r);
    if (r->round_stamp != 0 && stamp >= r->round_stamp) {
        r->round_stamp = 0;
    }
    for (struct replica_read *read = r->reads; read != NULL && r->term_start_index != 0; read = read->next) {
        if (read->index != UINT64_MAX) {
            break; /* only the oldest can have come before the barrier */
        }
        read->index = r->term_start_index;
    }
    while (r->reads != NULL && r->reads->start_us < stamp && r->reads->index <= r->applied) {
        struct replica_read *read = r->reads;
        r->reads = read->next;
        if (r->reads == NULL) {
            r->reads_tail = NULL;
        }
        finish(r, read, REPLICA_OK);
    }
}

void replica_reads_fail(struct replica *r)
{
    struct replica_read *read = r->reads;

    r->reads = NULL;
    r->reads_tail = NULL;
    r->round_stamp = 0;
    while (read != NULL) {
        struct replica_read *next = read->next;
        finish(r, read, REPLICA_NOT_LEADER);
        read = next;
    }
}

/* Start a round if reads wait that no stamp under way can confirm. */
void replica_reads_turn_end(struct replica *r)
{
    const uint64_t now_us = r->env->ops->now_us(r->env);

    if (r->reads_tail == NULL || !replica_leads(r) || r->n_voters <= 1) {
        return;
    }
    /* A lost round is repeated after a heartbeat. */
    const bool under_way = r->round_stamp != 0 && now_us < r->round_us + (uint64_t)r->config.heartbeat_ms * 1000;
    if (under_way || r->reads_tail->start_us < replica_quorum_stamp(r)) {
        return;
    }
    r->round_stamp = replica_stamp(r);
    r->round_us = now_us;
    r->read_rounds++;
    for (unsigned i = 0; i < r->n_peers; i++) {
        struct replica_peer *peer = &r->peers[i];
        if (peer->voter) {
            const struct message m = {
                .type = MESSAGE_PING, .term = r->core.current_term, .ping = {.stamp = r->round_stamp}};
            peer->stamp_sent = r->round_stamp;
            (void)replica_send(r, peer, &m);
        }
    }
}
