/* Frames out. The core says "entries from here on to that server" and keeps no payload; here they are found, in memory
 * or on disk, and sent in order as one or more frames bounded by bytes and count.
 *
 * Per peer there is one range of entries still to be sent. The core's messages to a peer in pipeline mode are
 * contiguous, so each extends the range; a message that does not continue it (the core rewound after a rejection)
 * replaces it. A dropped frame empties the range: the core learns of the gap from the follower's next rejection.
 *
 * A frame is a copy, and one of a large entry takes milliseconds: there is one a turn, for one peer.
 *
 * A voter that a change deprives of its vote gets the change only once it is committed. With the change in its log it
 * could not stand any more, and would refuse all that have not got it: if it were the only one left with it, there
 * would be no leader, though all are up. (Thesis 4.2.2 has such a server stand; the core doesn't.) */
#include <assert.h>
#include <string.h>

#include "consensus/replica_internal.h"

/* Timers that are due at once all fire in the same turn. */
#define NEXT_TURN_US 1000u

static void pump(struct replica *r, struct replica_peer *peer);

uint64_t replica_stamp(struct replica *r)
{
    const uint64_t now = r->env->ops->now_us(r->env);

    r->last_stamp = now > r->last_stamp ? now : r->last_stamp + 1;
    return r->last_stamp;
}

static bool send_pieces(struct replica *r, struct replica_peer *peer, const struct iovec *pieces, unsigned n)
{
    if (!r->env->ops->send(r->env, peer->id, pieces, n)) {
        r->frames_dropped++;
        return false;
    }
    r->frames_sent++;
    return true;
}

bool replica_send(struct replica *r, struct replica_peer *peer, const struct message *message)
{
    uint8_t head[MESSAGE_HEAD_MAX];
    const struct iovec piece = {head, message_encode(message, head)};

    return send_pieces(r, peer, &piece, 1);
}

bool replica_send_data(struct replica *r, struct replica_peer *peer, const struct message *message, const void *data,
                       uint32_t len)
{
    static const uint8_t zeros[8];
    uint8_t head[MESSAGE_HEAD_MAX];
    const struct iovec pieces[] = {{head, message_encode(message, head)},
                                   {(void *)(uintptr_t)data, len},
                                   {(void *)(uintptr_t)zeros, message_padded(len) - len}};

    return send_pieces(r, peer, pieces, 3);
}

/* An echo is asked for when a read waits for one, and at least every half heartbeat: clocks and digests ride on it. */
static uint64_t stamp_for(struct replica *r, struct replica_peer *peer, uint64_t now_us, unsigned n_entries)
{
    const bool read_waits = r->reads_tail != NULL && r->reads_tail->start_us >= peer->stamp_sent;
    const uint64_t half_us = (uint64_t)r->config.heartbeat_ms * 500;

    const bool entries_wait = n_entries > 0 && lease_wants_echo(&r->lease, peer->id, now_us);

    if (!read_waits && !entries_wait && peer->lease_asked != 0 && now_us < peer->lease_asked + half_us) {
        return 0;
    }
    peer->stamp_sent = replica_stamp(r);
    peer->lease_asked = peer->stamp_sent;
    return peer->stamp_sent;
}

/* Send entries[0..n) as one frame after `prev_index`. */
static bool send_append(struct replica *r, struct replica_peer *peer, uint64_t prev_index,
                        const struct message_entry *entries, unsigned n)
{
    static const uint8_t zeros[8];
    const uint64_t now_us = r->env->ops->now_us(r->env);
    struct message m = {.type = MESSAGE_APPEND, .term = r->core.current_term};
    uint8_t head[MESSAGE_HEAD_MAX];
    unsigned k = 0;

    assert(n <= MESSAGE_ENTRIES_MAX);
    m.append = (struct message_append){.prev_index = prev_index,
                                       .prev_term = prev_index == 0 ? 0 : wal_term_of(r->wal, prev_index),
                                       .commit = r->core.commit_index,
                                       .stamp = stamp_for(r, peer, now_us, n),
                                       .exposed = r->exposed,
                                       .turn = replica_turns_of(r, peer->id),
                                       .n_entries = n};
    /* Before its barrier is applied a leader may not know all that earlier ones had exposed: nothing is promised. */
    if (m.append.stamp != 0 && replica_is_leader(r) && !peer->differs && !replica_reads_refused(r)) {
        uint64_t newest;
        m.append.grant_us = (uint32_t)lease_grant(&r->lease, peer->id, r->commit, now_us, &newest);
        m.append.needs = wal_last(r->wal);
        m.append.instant = m.append.grant_us != 0 ? newest : replica_fresh_instant(r, peer, newest, now_us);
    }
    assert(prev_index == 0 || m.append.prev_term != 0);
    r->pieces[k++] = (struct iovec){head, message_encode(&m, head)};
    r->pieces[k++] = (struct iovec){r->table, n * MESSAGE_ENTRY_HEAD};
    for (unsigned i = 0; i < n; i++) {
        message_encode_entry(&entries[i], r->table + i * MESSAGE_ENTRY_HEAD);
        r->pieces[k++] = (struct iovec){(void *)(uintptr_t)entries[i].data, entries[i].len};
        const size_t pad = message_padded(entries[i].len) - entries[i].len;
        if (pad > 0) {
            r->pieces[k++] = (struct iovec){(void *)(uintptr_t)zeros, pad};
        }
    }
    peer->sent_us = now_us;
    return send_pieces(r, peer, r->pieces, k);
}

void replica_send_heartbeat(struct replica *r, struct replica_peer *peer, uint64_t prev_index)
{
    if (prev_index != 0 && wal_term_of(r->wal, prev_index) == 0) {
        return; /* not in the log any more: the core knows what to do about this peer */
    }
    (void)send_append(r, peer, prev_index, NULL, 0);
}

void replica_peer_forget(struct replica_peer *peer)
{
    peer->sent_last = 0;
    peer->want_next = 1;
    peer->want_last = 0;
}

static bool wants(const struct replica_peer *peer)
{
    return peer->want_next <= peer->want_last;
}

static bool is_voter_of(const struct raft_configuration *conf, uint64_t id)
{
    for (unsigned i = 0; i < conf->n; i++) {
        if (conf->servers[i].id == id) {
            return conf->servers[i].role == RAFT_VOTER;
        }
    }
    return false;
}

/* The last entry that the peer may have now. */
static uint64_t sendable_last(const struct replica *r, const struct replica_peer *peer)
{
    const uint64_t change = r->core.configuration_uncommitted_index;
    const bool withheld = change > r->core.commit_index && !peer->voter && change <= peer->want_last &&
                          is_voter_of(&r->core.configuration_committed, peer->id);

    return withheld && !PLANT(PLANT_SEND_DEMOTION) ? change - 1 : peer->want_last;
}

static void read_cb(struct wal_read *read, enum wal_status status, const struct wal_entry *entries, unsigned n)
{
    struct replica_peer *peer = read->data;
    struct replica *r = peer->replica;

    peer->reading = false;
    if (r->dead) {
        return;
    }
    if (status == WAL_CORRUPT) {
        replica_fail_stop(r, "the log is damaged at a durable entry",
                          "run this node again under a fresh id with an empty directory; keep this one for analysis");
        return;
    }
    if (!replica_leads(r) || status != WAL_OK) {
        replica_peer_forget(peer);
        return;
    }
    const uint64_t last = sendable_last(r, peer);
    if (n > 0 && peer->want_next <= last && entries[0].index == peer->want_next && peer->want_next >= r->log_start) {
        unsigned k = 0;
        for (; k < n && k < MESSAGE_ENTRIES_MAX && entries[k].index <= last; k++) {
            r->entries[k] = (struct message_entry){entries[k].term, (uint8_t)entries[k].type, (uint32_t)entries[k].len,
                                                   entries[k].data};
        }
        if (!send_append(r, peer, peer->want_next - 1, r->entries, k)) {
            replica_peer_forget(peer);
            return;
        }
        peer->want_next += k;
        peer->sent_last = peer->want_next - 1;
        peer->sent_last_us = r->env->ops->now_us(r->env);
    }
    pump(r, peer);
}

/* Start reading what has left memory, up to `last` at most. */
static void pump_from_disk(struct replica *r, struct replica_peer *peer, uint64_t last)
{
    const uint64_t first_in_memory = log_tail_first(&r->tail);

    last = last < first_in_memory ? last : first_in_memory - 1;

    peer->read.data = peer;
    peer->read.cb = read_cb;
    if (wal_read_start(r->wal, &peer->read, peer->want_next, last, REPLICA_READ_BYTES, MESSAGE_ENTRIES_MAX) != WAL_OK) {
        replica_peer_forget(peer);
        return;
    }
    peer->reading = true;
}

/* Send as much of the wanted range as is at hand. */
static void pump(struct replica *r, struct replica_peer *peer)
{
    if (peer->want_next < r->log_start) {
        replica_peer_forget(peer); /* dropped meanwhile: the core asks for a snapshot next time */
        return;
    }
    for (uint64_t last = sendable_last(r, peer); peer->want_next <= last;) {
        size_t bytes = 0;
        unsigned n = 0;
        for (uint64_t i = peer->want_next; i <= last && n < MESSAGE_ENTRIES_MAX; i++, n++) {
            const struct log_tail_entry *e = log_tail_at(&r->tail, i);
            if (e == NULL || (n > 0 && bytes + e->len > MESSAGE_APPEND_BYTES)) {
                break;
            }
            r->entries[n] = (struct message_entry){e->term, e->type, e->len, e->data};
            bytes += e->len;
        }
        if (n == 0) {
            pump_from_disk(r, peer, last);
            return;
        }
        if (bytes >= REPLICA_LARGE_BYTES && r->large_done) {
            r->env->ops->timer_set(r->env, &r->send_timer, r->env->ops->now_us(r->env) + NEXT_TURN_US);
            return;
        }
        r->large_done = r->large_done || bytes >= REPLICA_LARGE_BYTES;
        if (!send_append(r, peer, peer->want_next - 1, r->entries, n)) {
            replica_peer_forget(peer);
            return;
        }
        peer->want_next += n;
        peer->sent_last = peer->want_next - 1;
        peer->sent_last_us = r->env->ops->now_us(r->env);
    }
}

/* Is all that the core asks for on its way already? A frame that was lost all the same is sent again in time. */
static bool under_way(const struct replica *r, const struct replica_peer *peer, uint64_t last, uint64_t now_us)
{
    return last <= peer->sent_last && now_us < peer->sent_last_us + (uint64_t)r->config.election_timeout_ms * 1000;
}

static void send_entries(struct replica *r, struct replica_peer *peer, const struct raft_append_entries *args)
{
    const uint64_t prev = args->prev_log_index;
    const uint64_t now_us = r->env->ops->now_us(r->env);
    const bool nothing_new = args->n_entries == 0 || under_way(r, peer, prev + args->n_entries, now_us);

    if (!nothing_new && wants(peer) && prev == peer->want_last) {
        peer->want_last += args->n_entries;
    } else if (!nothing_new) {
        peer->want_next = prev + 1;
        peer->want_last = prev + args->n_entries;
    }
    if (peer->reading) {
        return;
    }
    if (!nothing_new && peer->want_next <= sendable_last(r, peer)) {
        pump(r, peer);
        return;
    }
    /* While data flows it serves as heartbeat; and at the limit of entries in flight the core sends an empty message at
     * each proposal: one every half heartbeat is enough. */
    if (now_us >= peer->sent_us + (uint64_t)r->config.heartbeat_ms * 500 || peer->echo_stamp == 0) {
        replica_send_heartbeat(r, peer, wants(peer) ? peer->want_next - 1 : prev);
    }
}

void replica_send_withheld(struct replica *r)
{
    for (unsigned i = 0; i < r->n_peers; i++) {
        struct replica_peer *peer = &r->peers[i];

        if (peer->id != 0 && wants(peer) && !peer->reading) {
            pump(r, peer);
        }
    }
}

void replica_send_timer_cb(struct env_timer *timer)
{
    struct replica *r = timer->data;

    if (!r->dead && replica_leads(r)) {
        replica_send_withheld(r);
    }
}

void replica_send_core(struct replica *r, const struct raft_message *m)
{
    struct replica_peer *peer = replica_peer_by_id(r, m->server_id);
    struct message out = {.term = r->core.current_term};

    if (peer == NULL) {
        return; /* removed meanwhile */
    }
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        send_entries(r, peer, &m->append_entries);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        out.type = MESSAGE_APPEND_RESULT;
        out.term = m->append_entries_result.term;
        out.append_result =
            (struct message_append_result){m->append_entries_result.rejected, m->append_entries_result.last_log_index,
                                           m->append_entries_result.features, m->append_entries_result.capacity};
        break;
    case RAFT_REQUEST_VOTE:
        if (replica_is_fenced(r)) {
            return; /* it does not stand: nobody hears of it */
        }
        out.type = MESSAGE_VOTE;
        out.term = m->request_vote.term;
        out.vote = (struct message_vote){
            m->request_vote.candidate_id, m->request_vote.last_log_index, m->request_vote.last_log_term,
            /* The core keeps the flag in later rounds, where it would break a new
             * leader's lease: it holds for the term after the TimeoutNow's only. */
            m->request_vote.disrupt_leader && m->request_vote.term == r->timeout_now_term + 1,
            m->request_vote.pre_vote};
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        out.type = MESSAGE_VOTE_RESULT;
        out.term = m->request_vote_result.term;
        /* In the core's answer a refused pre-vote names the term of the request. If this node's is later, the candidate
         * has to learn it: with the better log it is the one that must lead. */
        if (!m->request_vote_result.vote_granted && !PLANT(PLANT_PRE_VOTE_TERM)) {
            out.term = r->core.current_term;
        }
        out.vote_result =
            (struct message_vote_result){m->request_vote_result.vote_granted, m->request_vote_result.pre_vote,
                                         m->request_vote_result.features, m->request_vote_result.capacity};
        break;
    case RAFT_TIMEOUT_NOW:
        out.type = MESSAGE_TIMEOUT_NOW;
        out.term = m->timeout_now.term;
        out.timeout_now = (struct message_timeout_now){m->timeout_now.last_log_index, m->timeout_now.last_log_term};
        break;
    case RAFT_INSTALL_SNAPSHOT:
        replica_ship_offer(r, peer);
        return;
    }
    (void)replica_send(r, peer, &out);
}
