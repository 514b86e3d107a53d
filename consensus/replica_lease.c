/* Leases and grants at work (the arithmetic is in lease.c): what may be shown, who may read locally, transfers.
 *
 * Exposure. An entry is applied, and so shown in any form, once it is exposed: committed, and received by every
 * follower that holds a grant. The leader computes that; followers are told on every frame. */
#include <assert.h>

#include "consensus/replica_internal.h"

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

void replica_lease_members(struct replica *r)
{
    uint64_t ids[REPLICA_SERVERS_MAX];
    bool voters[REPLICA_SERVERS_MAX];
    unsigned n = 0;

    for (unsigned i = 0; i < r->n_servers; i++) {
        if (r->servers[i].id != r->config.id) {
            ids[n] = r->servers[i].id;
            voters[n++] = r->servers[i].voter;
        }
    }
    lease_members(&r->lease, ids, voters, n, r->is_voter);
}

uint64_t replica_received(const struct replica *r)
{
    const uint64_t last = wal_last(r->wal);

    if (r->core.state != RAFT_FOLLOWER) {
        return 0;
    }
    return r->core.follower_state.match < last ? r->core.follower_state.match : last;
}

/* --- Follower --- */

/* The leader may be cut off before it learns how our clock runs, and either of the two may be the wrong one. */
static void watch_leader(struct replica *r, const struct message_append *append)
{
    const struct drift_config config = lease_drift_config(&r->lease.config);
    const struct drift_exchange exchange = {.before = append->instant, .after = now_of(r), .theirs = append->stamp};

    if (append->stamp != 0) {
        drift_note(&r->leader_drift, &config, &exchange);
    }
}

void replica_lease_receive(struct replica *r, const struct replica_peer *peer, const struct message_append *append)
{
    (void)peer;
    if (append->exposed > r->exposed_seen) {
        r->exposed_seen = append->exposed;
    }
    /* An instant of an earlier run of this process says nothing of what this one holds. */
    if (append->instant == 0 || append->instant < r->start_us || append->instant > now_of(r)) {
        return;
    }
    watch_leader(r, append);
    if (drift_is_seen(&r->leader_drift)) {
        grant_drop(&r->grant);
    } else if (append->grant_us != 0 && !r->removed && !replica_reads_refused(r)) {
        grant_take(&r->grant, r->core.current_term, append->instant, append->grant_us, append->needs);
    }
    /* What was exposed when the leader stamped this is at least as new as our echo of `instant`. Keep the oldest such
     * pair until it is applied, so that a stream of frames can't starve it. */
    if (r->fresh_next_us == 0) {
        r->fresh_next_us = append->instant;
        r->fresh_next_index = append->exposed;
    }
}

static void settle_fresh(struct replica *r)
{
    if (r->fresh_next_us != 0 && r->applied >= r->fresh_next_index) {
        if (r->fresh_next_us > r->fresh_us) {
            r->fresh_us = r->fresh_next_us;
        }
        r->fresh_next_us = 0;
    }
}

uint64_t replica_fresh_us(struct replica *r)
{
    const uint64_t now = now_of(r);
    uint64_t received, stamp;

    settle_fresh(r);
    if (!replica_is_leader(r)) {
        return r->fresh_us;
    }
    if (replica_read_local(r, &received)) {
        return now;
    }
    /* A majority still followed this leader after it gave out that stamp: until then nobody else acknowledged anything.
     */
    stamp = replica_quorum_stamp(r);
    stamp = stamp < now ? stamp : now;
    r->fresh_us = stamp > r->fresh_us ? stamp : r->fresh_us;
    return r->fresh_us;
}

/* A leader that was replaced and has not noticed answers echoes too, while its successor acknowledges writes. So an
 * echo counts only if this node was certainly the leader after it arrived: under a lease, or once a majority has echoed
 * a stamp given out since. */
uint64_t replica_fresh_instant(struct replica *r, struct replica_peer *peer, uint64_t newest, uint64_t now_us)
{
    if (lease_check(&r->lease, now_us) == LEASE_NONE) {
        return newest;
    }
    if (peer->fresh_asked != 0 && replica_quorum_stamp(r) > peer->fresh_stamp) {
        peer->fresh_told = peer->fresh_asked;
        peer->fresh_asked = 0;
    }
    if (peer->fresh_asked == 0) {
        peer->fresh_asked = newest;
        peer->fresh_stamp = r->last_stamp;
    }
    return peer->fresh_told;
}

void replica_pull(struct replica *r, uint64_t index)
{
    struct replica_peer *leader;

    if (r->dead || !r->started || r->core.state != RAFT_FOLLOWER || index <= r->pulled) {
        return;
    }
    leader = replica_peer_by_id(r, r->core.follower_state.current_leader.id);
    if (leader != NULL) {
        const struct message m = {.type = MESSAGE_PULL, .term = r->core.current_term, .pull = {.index = index}};
        if (replica_send(r, leader, &m)) {
            r->pulled = index;
        }
    }
}

bool replica_read_local(struct replica *r, uint64_t *received)
{
    if (r->dead || !r->started || replica_reads_refused(r)) {
        return false;
    }
    if (r->core.state == RAFT_LEADER) {
        *received = r->applied;
        return replica_is_leader(r) && (PLANT(PLANT_STALE_LEASE) || lease_check(&r->lease, now_of(r)) == LEASE_NONE);
    }
    /* The owner knows the keys of what it was told of; what a restart or an own leadership left in the log must be
     * applied first. */
    if (r->core.state != RAFT_FOLLOWER || r->applied < r->unannounced) {
        return false;
    }
    /* First what is here, then whether the grant still holds: the other way round a pause between the two would let
     * a write go by that nobody had to wait for this node to receive. */
    *received = wal_last(r->wal);
    return grant_is_valid(&r->grant, r->core.current_term, replica_received(r), now_of(r));
}

/* --- Leader --- */

static void settle_exposed(struct replica *r)
{
    uint64_t exposed;

    if (r->core.state == RAFT_LEADER) {
        exposed = PLANT(PLANT_EXPOSE_EARLY) ? r->commit : lease_exposed(&r->lease, r->commit, now_of(r));
    } else {
        exposed = r->exposed_seen < r->commit ? r->exposed_seen : r->commit;
    }
    if (exposed > r->exposed) {
        r->exposed = exposed;
        r->pulled = r->pulled < exposed ? exposed : r->pulled;
    }
}

/* A reader somewhere waits for an entry that is exposed by now. */
static void settle_pulls(struct replica *r)
{
    for (unsigned i = 0; i < r->n_peers; i++) {
        struct replica_peer *peer = &r->peers[i];
        raft_index match = 0;
        if (peer->pull == 0 || peer->pull > r->exposed || peer->reading) {
            continue;
        }
        peer->pull = 0;
        if (raft_match_index(&r->core, peer->id, &match) == 0 && match > 0) {
            const uint64_t received = lease_received(&r->lease, peer->id);
            replica_send_heartbeat(r, peer, received > match ? received : match);
        }
    }
}

/* The core tells the successor to stand at its first answer that confirms anything new, and never again; who still
 * writes entries by then does not listen. So the core hears of the transfer when all is confirmed. */
static bool transferee_is_behind(const struct replica *r)
{
    raft_index match = 0;

    return raft_match_index(&r->core, r->transfer_to, &match) == 0 && match < wal_last(r->wal);
}

/* Transfer: stop granting; when no grant is out, stop proposing; when nothing is in flight, hand over. */
static void settle_transfer(struct replica *r)
{
    const uint64_t now = now_of(r);

    if (r->transfer_deadline_us == 0) {
        return;
    }
    if (now >= r->transfer_deadline_us) {
        replica_log(r, 1, "the transfer of leadership was given up");
        r->transfer_deadline_us = 0;
        lease_grants_stop(&r->lease, false);
        return;
    }
    if (lease_grants_end(&r->lease) > now && !PLANT(PLANT_TRANSFER_EARLY)) {
        return;
    }
    r->transfer_ready = true;
    if (r->inflight_bytes > 0 || transferee_is_behind(r)) {
        return;
    }
    struct raft_event event = {.type = RAFT_TRANSFER, .transfer = {.server_id = r->transfer_to}};
    r->transfer_deadline_us = 0;
    if (!PLANT(PLANT_LEASE_AFTER_TRANSFER)) {
        lease_transfer_begins(&r->lease);
    }
    if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0 && !r->dead) {
        replica_log(r, 1, "the core refused to transfer leadership");
    }
}

static void arm_lease_timer(struct replica *r)
{
    const uint64_t now = now_of(r);
    uint64_t at = UINT64_MAX;

    if (r->core.state == RAFT_LEADER && r->exposed < r->commit) {
        at = lease_next_grant_end(&r->lease, now);
    }
    if (r->transfer_deadline_us != 0) {
        const uint64_t end = lease_grants_end(&r->lease);
        const uint64_t next = end > now ? end : r->transfer_deadline_us;
        at = next < at ? next : at;
    }
    if (at == r->lease_timer_at) {
        return;
    }
    r->lease_timer_at = at;
    if (at == UINT64_MAX) {
        r->env->ops->timer_stop(r->env, &r->lease_timer);
    } else {
        r->env->ops->timer_set(r->env, &r->lease_timer, at);
    }
}

void replica_lease_timer_cb(struct env_timer *timer)
{
    struct replica *r = timer->data;

    r->lease_timer_at = UINT64_MAX;
    if (!r->dead && r->started) {
        replica_settle(r);
    }
}

void replica_lease_settle(struct replica *r)
{
    if (r->core.state == RAFT_LEADER) {
        settle_transfer(r);
        if (r->dead) {
            return;
        }
    }
    settle_exposed(r);
    if (r->core.state == RAFT_LEADER) {
        settle_pulls(r);
    } else {
        settle_fresh(r);
    }
    arm_lease_timer(r);
}

enum replica_status replica_transfer(struct replica *r, uint64_t id)
{
    uint64_t best = 0, best_match = 0;

    if (r->dead || !replica_is_ready(r)) {
        return REPLICA_NOT_LEADER;
    }
    if (r->transfer_deadline_us != 0 || raft_transferee(&r->core) != 0) {
        return REPLICA_BUSY;
    }
    for (unsigned i = 0; i < r->n_peers; i++) {
        const struct replica_peer *peer = &r->peers[i];
        raft_index match = 0;
        if (peer->voter && peer->connected && !peer->differs && (id == 0 || peer->id == id) &&
            raft_match_index(&r->core, peer->id, &match) == 0 && match >= best_match) {
            best = peer->id;
            best_match = match;
        }
    }
    if (best == 0) {
        return REPLICA_CONFIG;
    }
    r->transfer_to = best;
    r->transfer_ready = false;
    r->transfer_deadline_us = now_of(r) + (uint64_t)r->config.election_timeout_ms * 2000;
    r->transfers++;
    lease_grants_stop(&r->lease, true);
    replica_log(r, 2, "handing leadership to node %llu", (unsigned long long)best);
    replica_settle(r);
    return REPLICA_OK;
}

/* --- Shown --- */

static enum lease_off off_reason(struct replica *r, uint64_t now)
{
    if (replica_reads_refused(r)) {
        return replica_is_fenced(r) ? LEASE_OFF_QUARANTINE : LEASE_OFF_DISPUTE;
    }
    if (r->core.state == RAFT_LEADER) {
        return replica_is_leader(r) ? lease_check(&r->lease, now) : LEASE_OFF_TERM;
    }
    if (grant_is_valid(&r->grant, r->core.current_term, replica_received(r), now)) {
        return LEASE_NONE;
    }
    return drift_is_seen(&r->leader_drift) ? LEASE_OFF_DRIFT : LEASE_OFF_ROLE;
}

void replica_lease_watch(struct replica *r)
{
    const enum lease_off off = off_reason(r, now_of(r));

    if ((int)off == r->lease_told || (r->core.state != RAFT_LEADER && off != LEASE_OFF_DRIFT)) {
        return;
    }
    r->lease_told = (int)off;
    if (off == LEASE_OFF_DRIFT) {
        replica_log(r, 0, "a node's clock runs at another rate than the configured bound allows: %s; check the clocks",
                    r->core.state == RAFT_LEADER ? "leases are off, reads are confirmed by a quorum"
                                                 : "this node does not read by itself");
    } else {
        replica_log(r, 2, "lease: %s", off == LEASE_NONE ? "held" : lease_off_name(off));
    }
}

void replica_lease_info(struct replica *r, uint64_t now_us, struct replica_info *info)
{
    uint64_t until;

    if (!r->started || r->dead) {
        info->local_reads = lease_off_name(LEASE_OFF_ROLE);
        return;
    }
    const enum lease_off off = off_reason(r, now_us);
    info->local_reads = lease_off_name(off);
    until = r->core.state == RAFT_LEADER ? lease_end(&r->lease, now_us) : r->grant.until;
    info->local_left_us = off == LEASE_NONE && until > now_us ? until - now_us : 0;
}
