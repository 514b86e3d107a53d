/* What the owner may ask a replica. */
#include "consensus/replica_internal.h"

/* Ready to take writes. Until a majority of clocks was sampled cluster time may be far behind and step later: a key
 * stamped now would expire early then. The samples come with the first round of echoes. */
bool replica_is_leader(const struct replica *r)
{
    return replica_is_ready(r) && !replica_is_fenced(r);
}

bool replica_is_ready(const struct replica *r)
{
    return replica_leads(r) && !r->dead && r->term_start_index != 0 && r->applied >= r->term_start_index &&
           cluster_clock_is_set(&r->clock);
}

uint64_t replica_leader(const struct replica *r)
{
    return r->dead ? 0 : replica_current_leader(r);
}

uint64_t replica_term(const struct replica *r)
{
    return r->started ? r->core.current_term : r->state.term;
}

uint64_t replica_applied(const struct replica *r)
{
    return r->applied;
}

uint64_t replica_incarnation(const struct replica *r)
{
    return r->state.incarnation;
}

bool replica_is_busy(const struct replica *r)
{
    return r->inflight_bytes > 0;
}

static enum replica_role role_of(const struct replica *r)
{
    if (r->dead || !r->started) {
        return REPLICA_DOWN;
    }
    if (r->removed) {
        return REPLICA_REMOVED;
    }
    if (r->core.state == RAFT_LEADER) {
        return REPLICA_LEADER;
    }
    if (!r->is_voter) {
        return REPLICA_LEARNER;
    }
    return r->core.state == RAFT_CANDIDATE ? REPLICA_CANDIDATE : REPLICA_FOLLOWER;
}

static void peer_info(const struct replica *r, uint64_t now_us, uint64_t id, struct replica_peer_info *info)
{
    *info = (struct replica_peer_info){.id = id, .echo_age_us = UINT64_MAX};
    if (id == r->config.id) {
        info->connected = true;
        info->voter = r->is_voter;
        info->match = r->stored;
        info->applied = r->applied;
        info->echo_age_us = 0;
        return;
    }
    for (unsigned i = 0; i < r->n_peers; i++) {
        const struct replica_peer *peer = &r->peers[i];
        raft_index match = 0;
        if (peer->id != id) {
            continue;
        }
        if (replica_leads(r) && raft_match_index(&r->core, id, &match) == 0) {
            info->match = match;
        }
        info->connected = peer->connected;
        info->voter = peer->voter;
        info->echo_age_us = peer->echo_us != 0 ? now_us - peer->echo_us : UINT64_MAX;
        info->applied = peer->applied;
        info->rtt_us = peer->rtt_us;
        info->differs = peer->differs;
        const uint64_t until = lease_grant_until(&r->lease, id);
        info->grant_left_us = replica_leads(r) && until > now_us ? until - now_us : 0;
    }
}

void replica_info(struct replica *r, struct replica_info *info)
{
    struct wal_stats stats = {0};
    const uint64_t now_us = r->env->ops->now_us(r->env);

    if (r->wal != NULL) {
        wal_stats(r->wal, &stats);
    }
    *info = (struct replica_info){
        .role = role_of(r),
        .id = r->config.id,
        .term = replica_term(r),
        .vote = r->started ? r->core.voted_for : r->state.vote,
        .leader = replica_leader(r),
        .commit = r->commit,
        .exposed = r->exposed,
        .transfers = r->transfers,
        .transfer_to = !replica_leads(r)              ? 0
                       : r->transfer_deadline_us != 0 ? r->transfer_to
                                                      : raft_transferee(&r->core),
        .applied = r->applied,
        .last = r->wal != NULL ? wal_last(r->wal) : 0,
        .stored = r->stored,
        .first = r->wal != NULL ? wal_first(r->wal) : 0,
        .log_start = r->log_start,
        .term_start_index = r->term_start_index,
        .ready = replica_is_leader(r),
        .inflight_bytes = r->inflight_bytes,
        .tail_bytes = r->tail.bytes,
        .entries_proposed = r->entries_proposed,
        .elections = r->elections,
        .reads_confirmed = r->reads_confirmed,
        .read_rounds = r->read_rounds,
        .frames_sent = r->frames_sent,
        .frames_dropped = r->frames_dropped,
        .frames_received = r->frames_received,
        .digest_mismatches = r->digest_mismatches,
        .digest_agreed = r->agreed_index,
        .quarantined = r->quarantine.index,
        .rebuild = replica_rebuild_state(r),
        .rebuilds = r->rebuild.rebuilds,
        .disputed = r->dispute_index,
        .wal_writes = stats.writes,
        .wal_bytes = stats.bytes,
        .wal_last_us = stats.last_write_us,
        .wal_max_us = stats.max_write_us,
        .wal_ewma_us = stats.ewma_write_us,
        .wal_segments = stats.segments,
        .wal_disk_bytes = stats.disk_bytes,
        .starts = r->state.starts,
        .feature_level = replica_feature_level(r),
        .feature_level_max = r->feature_max,
        .next_id = r->next_id,
        .configuration_index = r->core.configuration_uncommitted_index != 0 ? r->core.configuration_uncommitted_index
                                                                            : r->core.configuration_committed_index,
        .configuration_committed = r->core.configuration_uncommitted_index == 0,
        .n_servers = r->n_servers,
    };
    replica_lease_info(r, now_us, info);
    replica_snapshot_info(r, info);
    replica_transfer_info(r, info);
    for (unsigned i = 0; i < r->n_servers; i++) {
        info->servers[i] = r->servers[i];
        peer_info(r, now_us, r->servers[i].id, &info->peers[i]);
    }
}
