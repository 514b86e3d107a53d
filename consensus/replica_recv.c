/* Frames in. Every frame is decoded and bounded before the core sees it, and what the core would only assert is
 * checked here: its packaged build has no assertions, and peers' bytes must never trip one. */
#include <assert.h>
#include <stdlib.h>

#include "consensus/replica_internal.h"

static void receive_core(struct replica *r, struct raft_message *m)
{
    struct raft_event event = {.type = RAFT_RECEIVE};

    event.receive.message = m;
    (void)replica_step(r, &event, REPLICA_FROM_FRAME);
}

static void send_echo(struct replica *r, struct replica_peer *peer, uint64_t stamp, bool accepted)
{
    struct message m = {.type = MESSAGE_ECHO, .term = r->core.current_term};
    const unsigned newest = (r->digest_next + REPLICA_DIGEST_KEPT - 1) % REPLICA_DIGEST_KEPT;

    m.echo = (struct message_echo){.stamp = stamp,
                                   .accepted = accepted,
                                   .instant = r->env->ops->now_us(r->env),
                                   .received = replica_received(r),
                                   .wall_ms = r->env->ops->wall_ms(r->env),
                                   .applied = r->applied,
                                   .digest_index = r->digests[newest].index,
                                   .digest = r->digests[newest].digest};
    replica_turns_report(r, &m.echo);
    (void)replica_send(r, peer, &m);
}

/* "Delivered" is not "accepted": an echo says that this node was a follower of the sender in the frame's term. */
static bool follows(const struct replica *r, uint64_t leader, uint64_t term)
{
    return r->core.state == RAFT_FOLLOWER && r->core.current_term == term &&
           r->core.follower_state.current_leader.id == leader;
}

/* --- AppendEntries ------------------------------------------------------------------------------------------------ */

/* Hand one piece of an AppendEntries to the core: `n` entries after prev. */
static void append_piece(struct replica *r, const struct replica_peer *peer, const struct message *m,
                         const struct message_entry *entries, uint64_t prev_index, uint64_t prev_term, unsigned n)
{
    struct raft_message message = {.type = RAFT_APPEND_ENTRIES, .server_id = peer->id, .server_address = peer->address};
    struct raft_append_entries *args = &message.append_entries;
    /* The core wants a batch that it frees itself when it does not keep the entries. Their data is borrowed from the
     * frame, so the batch is a token; after an update that kept entries the token is ours to free. */
    void *token = NULL;

    if (n > 0) {
        token = malloc(1);
        if (token == NULL) {
            return; /* as if the frame had been lost */
        }
    }
    for (unsigned i = 0; i < n; i++) {
        r->raft_entries[i] = (struct raft_entry){.term = entries[i].term,
                                                 .type = (enum raft_entry_type)entries[i].type,
                                                 .buf = {(void *)(uintptr_t)entries[i].data, entries[i].len},
                                                 .batch = token};
    }
    args->version = 2;
    args->term = m->term;
    args->prev_log_index = prev_index;
    args->prev_log_term = prev_term;
    /* The core sets its commit index to the lower of leader_commit and the message's last entry, even if it was above
     * that already: entries sent again would take it back. Only what this message brings may be committed by it. */
    args->leader_commit = m->append.commit < prev_index + n ? m->append.commit : prev_index + n;
    args->entries = r->raft_entries;
    args->n_entries = n;

    struct raft_event event = {.type = RAFT_RECEIVE};
    event.receive.message = &message;
    const uint64_t kept_before = r->updates_with_entries;
    (void)replica_step(r, &event, REPLICA_FROM_FRAME);
    if (r->updates_with_entries != kept_before) {
        free(token);
    }
}

/* The core remembers one change that may not be committed, and the configuration before it. A follower may hold two
 * that it has not applied yet; a rollback of the second would then go back behind the first. But a leader proposes a
 * change only after the one before is committed: if its log, which agrees with ours up to `prev_index`, has a further
 * one after that, the one before is final. */
static void settle_change(struct replica *r, uint64_t prev_index, uint64_t prev_term)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    struct raft_buffer buf;
    const uint64_t index = r->core.configuration_uncommitted_index;

    if (index == 0 || index > prev_index || prev_index > wal_last(r->wal) ||
        wal_term_of(r->wal, prev_index) != prev_term || PLANT(PLANT_CHANGE_ROLLBACK)) {
        return;
    }
    int rv = raft_configuration_encode(&r->core.configuration, &buf);
    if (rv == 0) {
        rv = raft_configuration_decode(&buf, &event.configuration.conf);
        raft_free(buf.base);
    }
    event.configuration.index = index;
    if (rv != 0 || replica_step(r, &event, REPLICA_FROM_CALLER) != 0) {
        replica_fail_stop(r, "a configuration could not be copied", "give this node more memory");
    }
}

/* Split so that a configuration change is the first entry of its piece: the core records the index of the first new
 * entry as the change's, and could not roll back otherwise. */
static void append_pieces(struct replica *r, const struct replica_peer *peer, const struct message *m,
                          const struct message_entry *entries, unsigned n)
{
    uint64_t prev_index = m->append.prev_index;
    uint64_t prev_term = m->append.prev_term;
    unsigned at = 0;

    do {
        unsigned end = at + 1;
        while (end < n && entries[end].type != WAL_CHANGE) {
            end++;
        }
        if (end > n) {
            end = n;
        }
        if (at < n && entries[at].type == WAL_CHANGE && prev_index + 1 > r->core.configuration_uncommitted_index) {
            settle_change(r, prev_index, prev_term);
        }
        if (r->dead) {
            return;
        }
        append_piece(r, peer, m, entries + at, prev_index, prev_term, end - at);
        if (end > at) {
            prev_index += end - at;
            prev_term = entries[end - 1].term;
        }
        at = end;
    } while (at < n && !r->dead);
}

/* Data bytes that would be appended, with the records' own overhead. */
static uint64_t append_bytes(const struct message_entry *entries, unsigned n)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < n; i++) {
        bytes += entries[i].len + 128;
    }
    return bytes + ENV_BLOCK;
}

/* Refuse an AppendEntries of an old term. The core does so too, but leaves last_log_index in its answer unset, and with
 * a previous index of 0 its refusal reads as a success: whoever leads the current term by now could believe it. */
static void refuse_append(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    const uint64_t rejected = m->append.prev_index > 0 ? m->append.prev_index : 1;
    const uint64_t last = wal_last(r->wal);
    const struct message out = {.type = MESSAGE_APPEND_RESULT,
                                .term = r->core.current_term,
                                .append_result = {.rejected = rejected,
                                                  .last_index = last < rejected ? last : rejected - 1,
                                                  .features = 1, /* it reports its capacity */
                                                  .capacity = r->core.capacity}};

    (void)replica_send(r, peer, &out);
}

bool replica_same_settings(const struct replica *r, const struct configuration_settings *s)
{
    return s->election_timeout_ms == r->config.election_timeout_ms && s->heartbeat_ms == r->config.heartbeat_ms &&
           s->rho_ppm == r->config.rho_ppm;
}

/* Entries up to the snapshot are the same in every leader's log. If the message begins before what the core here still
 * holds, which it takes for a gap, or for a log that has to be overwritten, let it begin behind the snapshot instead.
 * Gives how many of its entries that leaves out. */
static unsigned skip_compacted(const struct replica *r, struct message *m)
{
    const uint64_t prev = m->append.prev_index;
    const uint64_t skip = r->snapshot.index - prev;

    if (prev >= r->snapshot.index || prev >= r->log_start) {
        return 0;
    }
    m->append.prev_index = r->snapshot.index;
    m->append.prev_term = r->snapshot.term;
    const unsigned n = skip < m->append.n_entries ? (unsigned)skip : m->append.n_entries;
    m->append.n_entries -= n;
    return n;
}

static void receive_append(struct replica *r, struct replica_peer *peer, struct message *m)
{

    if (m->term < r->core.current_term) {
        refuse_append(r, peer, m);
        return;
    }
    if (r->core.state == RAFT_LEADER && r->core.current_term == m->term) {
        replica_log(r, 0, "node %llu claims to lead term %llu as well", (unsigned long long)peer->id,
                    (unsigned long long)m->term);
        return;
    }
    const struct message_entry *entries = r->entries + skip_compacted(r, m);
    unsigned n = m->append.n_entries;
    for (unsigned i = 0; i < n; i++) {
        struct configuration_settings settings = {0};
        if (entries[i].type == WAL_CHANGE && !configuration_check(entries[i].data, entries[i].len, REPLICA_SERVERS_MAX,
                                                                  REPLICA_ADDRESS_MAX, &settings)) {
            replica_log(r, 0, "a configuration from node %llu is not understood: run the same version on all nodes",
                        (unsigned long long)peer->id);
            n = i;
            break;
        }
        if (entries[i].type == WAL_CHANGE && !replica_feature_check(r, settings.feature_level)) {
            return;
        }
        if (entries[i].type == WAL_CHANGE && !replica_same_settings(r, &settings)) {
            replica_log(r, 0,
                        "the cluster of node %llu runs with election-timeout %u, heartbeat %u and clock-rate-error "
                        "%u: leases are only safe if all nodes agree; start this node with the cluster's values",
                        (unsigned long long)peer->id, settings.election_timeout_ms, settings.heartbeat_ms,
                        settings.rho_ppm);
            n = i;
            break;
        }
        if (entries[i].len > r->config.entry_bytes_max + 4096u) {
            replica_log(r, 0,
                        "an entry of %u bytes from node %llu is above this node's limit: configure the same "
                        "limits on all nodes",
                        entries[i].len, (unsigned long long)peer->id);
            n = i;
            break;
        }
    }
    /* A full disk: take the message as a heartbeat, so that this node stays a follower that reads and votes. */
    if (n > 0 && wal_room(r->wal) < append_bytes(entries, n)) {
        r->no_room++;
        n = 0;
    }
    append_pieces(r, peer, m, entries, n);
    if (r->dead || !follows(r, peer->id, m->term)) {
        return;
    }
    r->heard_us = r->env->ops->now_us(r->env);
    replica_lease_receive(r, peer, &m->append);
    replica_turns_told(r, m->append.turn);
    if (m->append.stamp != 0) {
        send_echo(r, peer, m->append.stamp, true);
    }
}

/* For PLANT_LEARNER_COUNTS: the core takes learners for voters. */
static void learners_vote(struct replica *r, bool on)
{
    for (unsigned i = 0; i < r->core.configuration.n; i++) {
        const struct replica_peer *peer = replica_peer_by_id(r, r->core.configuration.servers[i].id);
        if (peer != NULL && !peer->voter) {
            r->core.configuration.servers[i].role = on ? RAFT_VOTER : RAFT_STANDBY;
        }
    }
}

static void receive_append_result(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    raft_index match = 0;
    struct raft_message message = {
        .type = RAFT_APPEND_ENTRIES_RESULT, .server_id = peer->id, .server_address = peer->address};

    if (r->core.state != RAFT_LEADER && m->term <= r->core.current_term) {
        return;
    }
    /* A rejection from before what the peer has confirmed since is stale; the core would step its progress back below
     * the match index, from which it never recovers. */
    if (r->core.state == RAFT_LEADER && m->term == r->core.current_term && m->append_result.rejected > 0 &&
        raft_match_index(&r->core, peer->id, &match) == 0 && m->append_result.last_index < match) {
        return;
    }
    if (m->append_result.rejected > 0) {
        peer->sent_last = 0; /* what was sent did not arrive, or did not fit */
    }
    message.append_entries_result = (struct raft_append_entries_result){.version = 1,
                                                                        .term = m->term,
                                                                        .rejected = m->append_result.rejected,
                                                                        .last_log_index = m->append_result.last_index,
                                                                        .features = m->append_result.features,
                                                                        .capacity = m->append_result.capacity};
    if (PLANT(PLANT_LEARNER_COUNTS)) {
        learners_vote(r, true);
    }
    receive_core(r, &message);
    if (PLANT(PLANT_LEARNER_COUNTS)) {
        learners_vote(r, false);
    }
}

/* --- Votes -------------------------------------------------------------------------------------------------------- */

/* A follower promises to elect nobody for T after its leader's last AppendEntries. The core keeps that promise longer,
 * until its own timer, drawn between T and 2T, has run out: the first candidate would always have to wait for the
 * second to become one as well. */
static bool promise_has_ended(const struct replica *r)
{
    const uint64_t now_ms = r->env->ops->now_us(r->env) / 1000;

    /* The core winds the timer of a learner up again and again. */
    const uint64_t since = r->is_voter ? r->core.election_timer_start : (r->heard_us + 999) / 1000;

    return r->core.state == RAFT_FOLLOWER && now_ms >= since + r->core.election_timeout;
}

/* Whose votes count is the candidate's to know: a learner may have been promoted by an entry that it has not got, and
 * its vote may be the one that is missing. The core asks the local configuration; so that says yes for the moment. */
static void step_vote(struct replica *r, struct raft_message *message)
{
    struct raft_server *self = NULL;
    int role = RAFT_VOTER;

    for (unsigned i = 0; i < r->core.configuration.n; i++) {
        if (r->core.configuration.servers[i].id == r->config.id) {
            self = &r->core.configuration.servers[i];
            role = self->role;
            self->role = RAFT_VOTER;
        }
    }
    receive_core(r, message);
    if (self != NULL && !r->dead) {
        self->role = role;
    }
}

static void receive_vote(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    struct raft_message message = {.type = RAFT_REQUEST_VOTE, .server_id = peer->id, .server_address = peer->address};

    if (m->vote.candidate != peer->id || r->removed || r->env->ops->now_us(r->env) < r->vote_guard_us) {
        return; /* an earlier run of this node, or its grants, may have promised to elect nobody yet */
    }
    message.request_vote = (struct raft_request_vote){.version = 2,
                                                      .term = m->term,
                                                      .candidate_id = m->vote.candidate,
                                                      .last_log_index = m->vote.last_index,
                                                      .last_log_term = m->vote.last_term,
                                                      .disrupt_leader = m->vote.disrupt_leader || promise_has_ended(r),
                                                      .pre_vote = m->vote.pre_vote};
    step_vote(r, &message);
}

static void receive_vote_result(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    struct raft_message message = {
        .type = RAFT_REQUEST_VOTE_RESULT, .server_id = peer->id, .server_address = peer->address};

    /* The core reads candidate state before it looks at its role. A higher term in a refusal is learnt from the next
     * AppendEntries or vote request instead. */
    if (r->core.state != RAFT_CANDIDATE) {
        return;
    }
    /* A granted pre-vote can't be for a later term than the one asked for; the core only asserts it. */
    if (r->core.candidate_state.in_pre_vote && m->vote_result.granted && m->term > r->core.current_term + 1) {
        return;
    }
    message.request_vote_result = (struct raft_request_vote_result){.version = 2,
                                                                    .term = m->term,
                                                                    .vote_granted = m->vote_result.granted,
                                                                    .pre_vote = m->vote_result.pre_vote,
                                                                    .features = m->vote_result.features,
                                                                    .capacity = m->vote_result.capacity};
    receive_core(r, &message);
}

static void receive_timeout_now(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    struct raft_message message = {.type = RAFT_TIMEOUT_NOW, .server_id = peer->id, .server_address = peer->address};

    if (m->term != r->core.current_term || r->removed || replica_is_fenced(r) ||
        r->env->ops->now_us(r->env) < r->stand_guard_us) {
        return; /* delayed, or from a leader that this node does not follow yet */
    }
    r->timeout_now_term = m->term;
    message.timeout_now = (struct raft_timeout_now){.version = 1,
                                                    .term = m->term,
                                                    .last_log_index = m->timeout_now.last_index,
                                                    .last_log_term = m->timeout_now.last_term};
    receive_core(r, &message);
}

/* --- Echoes ------------------------------------------------------------------------------------------------------- */

static void receive_echo(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    const uint64_t now_us = r->env->ops->now_us(r->env);

    if (r->core.state != RAFT_LEADER || m->term != r->core.current_term || m->echo.stamp > r->last_stamp) {
        return;
    }
    lease_echo(&r->lease, peer->id, peer->connection, m->echo.accepted ? m->echo.stamp : 0, m->echo.instant,
               m->echo.received < wal_last(r->wal) ? m->echo.received : wal_last(r->wal), now_us);
    if (m->echo.stamp > peer->echo_stamp) {
        const uint64_t rtt_us = now_us > m->echo.stamp ? now_us - m->echo.stamp : 0;
        peer->echo_stamp = m->echo.stamp;
        peer->rtt_us = peer->rtt_us == 0 ? rtt_us : (peer->rtt_us * 7 + rtt_us) / 8;
    }
    peer->echo_us = now_us;
    peer->wall_ms = m->echo.wall_ms;
    peer->wall_us = now_us;
    if (m->echo.applied > peer->applied) {
        peer->applied = m->echo.applied;
    }
    replica_turns_heard(r, peer, &m->echo);
    if (m->echo.digest_index != 0) {
        replica_digest_reported(r, peer, m->echo.digest_index, m->echo.digest);
    }
}

/* --- Snapshots ---------------------------------------------------------------------------------------------------- */

static void receive_snapshot(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    switch (m->type) {
    case MESSAGE_SNAPSHOT_OFFER:
        replica_fetch_offered(r, peer, m);
        break;
    case MESSAGE_SNAPSHOT_ASK:
        replica_ship_asked(r, peer, &m->snapshot_ask);
        break;
    case MESSAGE_SNAPSHOT_PIECE:
        replica_fetch_piece(r, peer, &m->snapshot_piece);
        break;
    case MESSAGE_SNAPSHOT_DONE:
        replica_ship_done(r, peer, &m->snapshot_done);
        break;
    case MESSAGE_SNAPSHOT_REFUSED:
        replica_fetch_refused(r, peer, &m->snapshot_refused);
        replica_ship_refused(r, peer, &m->snapshot_refused);
        break;
    default:
        break;
    }
}

/* --- Dispatch ----------------------------------------------------------------------------------------------------- */

/* A server that is not in this log's newest configuration may have been added since: this node may be joining, or have
 * been away. Its entries are a leader's, and its votes are needed if the others are down. A removed server, whose id is
 * below the next free one, gets no answer. (Thesis 4.1 and 4.2.3.) */
static bool may_listen_to(const struct replica *r, uint64_t from, const struct message *m)
{
    return from != r->config.id && from != 0 && m->term >= r->core.current_term &&
           (m->type == MESSAGE_APPEND || (m->type == MESSAGE_VOTE && from >= r->next_id));
}

bool replica_receive(struct replica *r, uint64_t from, uint64_t connection, const void *frame, size_t len)
{
    struct message m;

    if (!message_decode(frame, len, &m, r->entries)) {
        return false;
    }
    struct replica_peer *peer = replica_peer_by_id(r, from);
    if (peer == NULL && r->started && may_listen_to(r, from, &m)) {
        peer = replica_peer_add(r, from);
    }
    if (r->dead || !r->started || peer == NULL || connection < peer->connection) {
        return true; /* dropped, as the network may */
    }
    if (connection > peer->connection) {
        replica_digest_forget_peer(peer);
    }
    peer->connection = connection;
    r->frames_received++;
    switch (m.type) {
    case MESSAGE_APPEND:
        receive_append(r, peer, &m);
        break;
    case MESSAGE_APPEND_RESULT:
        receive_append_result(r, peer, &m);
        break;
    case MESSAGE_VOTE:
        receive_vote(r, peer, &m);
        break;
    case MESSAGE_VOTE_RESULT:
        receive_vote_result(r, peer, &m);
        break;
    case MESSAGE_TIMEOUT_NOW:
        receive_timeout_now(r, peer, &m);
        break;
    case MESSAGE_PING:
        if (follows(r, peer->id, m.term)) {
            send_echo(r, peer, m.ping.stamp, false);
        }
        break;
    case MESSAGE_ECHO:
        receive_echo(r, peer, &m);
        break;
    case MESSAGE_PULL:
        if (r->core.state == RAFT_LEADER && m.term == r->core.current_term) {
            peer->pull = m.pull.index;
        }
        break;
    case MESSAGE_REMOVED:
        replica_removed_receive(r, peer->id, m.removed.index);
        break;
    case MESSAGE_VERDICT:
        if (follows(r, peer->id, m.term)) {
            replica_verdict_receive(r, &m.verdict);
        }
        break;
    default:
        receive_snapshot(r, peer, &m);
        break;
    }
    if (!r->dead) {
        replica_settle(r);
    }
    return true;
}

/* The link to the leader broke: its process has probably ended. Stand as soon as the others' promises to it have surely
 * ended instead of after the core's draw between T and 2T: one after the other, in the order of the configuration, so
 * that votes don't split. Nothing of the promises themselves changes: if the leader lives, the others refuse the
 * pre-vote. */
static void hasten_election(struct replica *r, uint64_t leader)
{
    const struct raft_configuration *conf = &r->core.configuration;
    const unsigned timeout_ms = r->core.election_timeout;
    const unsigned turn_ms = timeout_ms / REPLICA_TURNS > 0 ? timeout_ms / REPLICA_TURNS : 1;
    unsigned turn = 1; /* the first waits for a turn too: another's promise may have begun a heartbeat later */

    for (unsigned i = 0; i < conf->n && conf->servers[i].id != r->config.id; i++) {
        turn += conf->servers[i].role == RAFT_VOTER && conf->servers[i].id != leader;
    }
    r->core.follower_state.randomized_election_timeout =
        timeout_ms + (turn < REPLICA_TURNS ? turn : REPLICA_TURNS) * turn_ms;
    replica_settle(r); /* the timer */
}

void replica_peer_state(struct replica *r, uint64_t id, bool connected)
{
    struct replica_peer *peer = replica_peer_by_id(r, id);
    const bool was_connected = peer != NULL && peer->connected;
    unsigned k = 0;

    while (k < r->n_links && r->links[k].id != id) {
        k++;
    }
    if (!connected && k < r->n_links) {
        r->links[k] = r->links[--r->n_links];
    } else if (connected && k < REPLICA_PEERS_MAX) {
        r->links[k] = (struct replica_link){id, connected};
        r->n_links = k == r->n_links ? k + 1 : r->n_links;
    }
    if (peer == NULL) {
        return;
    }
    peer->connected = connected;
    if (!connected) {
        replica_peer_forget(peer);
        replica_turns_unlinked(peer);
        replica_removed_unlinked(r, id);
    } else if (r->started && !r->dead) {
        replica_fetch_connected(r, peer);
    }
    if (!connected && was_connected && !r->dead && r->started && r->is_voter && r->core.state == RAFT_FOLLOWER &&
        replica_current_leader(r) == id) {
        hasten_election(r, id);
    }
}
