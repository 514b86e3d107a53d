/* Replicas prove to each other that they hold equal content (DESIGN section 5).
 *
 * Every REPLICA_DIGEST_EVERY entries each replica notes a digest of its content; echoes carry the newest to the leader,
 * who compares. At an index where a majority of voters, itself among them or not, reported one digest, whoever reported
 * another one is wrong:
 *
 * - a follower or learner: the leader grants it nothing, does not hand leadership to it or promote it, and answers its
 *   echoes with a verdict. If its own history bears that out, it quarantines itself.
 * - the leader: it quarantines itself, and hands leadership over.
 *
 * A quarantined replica answers no reads of any kind, holds no grant, takes no snapshots, does not stand, takes no
 * leadership that it is offered, and as a leader proposes nothing: what was in flight ends as unknown, since its
 * replies would be made from wrong content. It goes on logging and voting, and makes its content anew from the leader's
 * (replica_rebuild.c). A restart ends quarantine too: content is made anew from the newest snapshot and the log, and
 * compared again.
 *
 * If two digests differ and neither has a majority, nobody knows who is right: reads are refused by all who hear of it,
 * until an index has a majority again. */
#include "consensus/replica_internal.h"

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

static uint64_t timeout_us(const struct replica *r)
{
    return (uint64_t)r->config.election_timeout_ms * 1000;
}

/* --- What is known --- */

uint64_t replica_digest_at(const struct replica *r, uint64_t index, bool *known)
{
    for (unsigned i = 0; i < REPLICA_DIGEST_KEPT; i++) {
        if (r->digests[i].index == index && index != 0) {
            *known = true;
            return r->digests[i].digest;
        }
    }
    *known = false;
    return 0;
}

static bool own_digest(const struct replica *r, uint64_t index, uint64_t *digest)
{
    bool known;

    *digest = replica_digest_at(r, index, &known);
    return known;
}

/* A replica that was restarted or rebuilt reports another digest of an index than it did before. */
static void note_report(struct replica_peer *peer, uint64_t index, uint64_t digest)
{
    for (unsigned i = 0; i < REPLICA_REPORTS_KEPT; i++) {
        if (peer->reports[i].index == index) {
            peer->reports[i].digest = digest;
            return;
        }
    }
    peer->reports[peer->report_next++ % REPLICA_REPORTS_KEPT] = (struct digest_point){index, digest};
}

static bool reported(const struct replica_peer *peer, uint64_t index, uint64_t *digest)
{
    for (unsigned i = 0; i < REPLICA_REPORTS_KEPT; i++) {
        if (peer->reports[i].index == index && index != 0) {
            *digest = peer->reports[i].digest;
            return true;
        }
    }
    return false;
}

/* Did a majority of voters report this digest at that index? */
static bool has_majority(const struct replica *r, uint64_t index, uint64_t digest)
{
    uint64_t theirs = 0;
    unsigned n = r->is_voter && own_digest(r, index, &theirs) && theirs == digest;

    for (unsigned i = 0; i < r->n_peers; i++) {
        const struct replica_peer *peer = &r->peers[i];
        n += peer->id != 0 && peer->voter && reported(peer, index, &theirs) && theirs == digest;
    }
    return n > r->n_voters / 2;
}

/* --- Quarantine --- */

static void quarantine(struct replica *r, uint64_t index, uint64_t own, uint64_t theirs)
{
    if (r->quarantine.index != 0) {
        return;
    }
    r->quarantine = (struct replica_quarantine){index, own, theirs};
    r->dispute_index = 0;
    r->disputed_until_us = 0;
    grant_drop(&r->grant);
    replica_snapshot_refuse(r);
    replica_log(r, 0,
                "QUARANTINE: this node's content differs from that of a majority at index %llu, digest %016llx here, "
                "%016llx there: it answers no reads and takes no snapshots; %s; check this machine's memory",
                (unsigned long long)index, (unsigned long long)own, (unsigned long long)theirs,
                replica_rebuild_begin(r));
    if (replica_leads(r) && replica_is_fenced(r)) {
        replica_proposals_unknown(r, 0);
        replica_reads_fail(r);
    }
}

bool replica_is_quarantined(const struct replica *r)
{
    return r->quarantine.index != 0;
}

bool replica_reads_refused(struct replica *r)
{
    return replica_is_fenced(r) || r->dispute_index != 0 ||
           (r->disputed_until_us != 0 && now_of(r) < r->disputed_until_us);
}

void replica_quarantine_tick(struct replica *r)
{
    if (replica_is_fenced(r) && replica_leads(r)) {
        const enum replica_status status = replica_transfer(r, 0); /* asked again at each heartbeat */
        (void)status;
    }
}

/* --- Leader --- */

/* A voter's report at an index at which a majority holds `digest`. */
static void judge(struct replica *r, struct replica_peer *peer, uint64_t index, uint64_t theirs, uint64_t digest)
{
    const bool differs = theirs != digest;
    const bool anew = peer->given != 0 && index > peer->given;

    peer->judged = index;
    if (differs == peer->differs && !(differs && anew)) {
        return;
    }
    peer->differs = differs;
    if (anew) {
        peer->given = 0;
    }
    if (!differs) {
        replica_log(r, 1, "content of node %llu agrees with that of a majority again, at index %llu",
                    (unsigned long long)peer->id, (unsigned long long)index);
        return;
    }
    r->digest_mismatches++;
    replica_log(r, 0,
                "content of node %llu differs from that of a majority at index %llu%s: digest %016llx there, "
                "%016llx here",
                (unsigned long long)peer->id, (unsigned long long)index,
                anew ? ", although it has got this node's since" : "", (unsigned long long)theirs,
                (unsigned long long)digest);
}

/* The leader's own digest at `index` has a majority: whoever reported another one there is wrong. */
static void agree(struct replica *r, uint64_t index, uint64_t digest)
{
    r->agreed_index = index > r->agreed_index ? index : r->agreed_index;
    if (r->dispute_index != 0 && index >= r->dispute_index) {
        replica_log(r, 1, "contents of a majority agree again at index %llu", (unsigned long long)index);
        r->dispute_index = 0;
    }
    for (unsigned i = 0; i < r->n_peers; i++) {
        struct replica_peer *peer = &r->peers[i];
        uint64_t theirs;
        if (peer->id == 0 || index < peer->judged || !reported(peer, index, &theirs)) {
            continue;
        }
        judge(r, peer, index, theirs, digest);
    }
}

/* Two digests at one index, and no majority for either yet: reads wait for more reports, loudly if none comes. */
static void dispute(struct replica *r, const struct replica_peer *peer, uint64_t index, uint64_t own, uint64_t theirs)
{
    if (r->dispute_index != 0 || index <= r->agreed_index) {
        return;
    }
    r->dispute_index = index;
    r->digest_mismatches++;
    replica_log(r, 0,
                "ALARM: content differs from node %llu at index %llu: digest %016llx here, %016llx there, and no "
                "majority says who is right: reads are refused until one does; bring the other nodes up",
                (unsigned long long)peer->id, (unsigned long long)index, (unsigned long long)own,
                (unsigned long long)theirs);
}

static void tell(struct replica *r, struct replica_peer *peer, uint64_t index, uint64_t digest, bool disputed)
{
    const struct message m = {.type = MESSAGE_VERDICT,
                              .term = r->core.current_term,
                              .verdict = {.index = index, .digest = digest, .disputed = disputed}};

    (void)replica_send(r, peer, &m);
}

void replica_digest_reported(struct replica *r, struct replica_peer *peer, uint64_t index, uint64_t digest)
{
    uint64_t own;

    if (index == 0 || r->quarantine.index != 0) {
        return;
    }
    note_report(peer, index, digest);
    if (own_digest(r, index, &own)) {
        if (has_majority(r, index, own)) {
            agree(r, index, own);
            if (own != digest) {
                tell(r, peer, index, own, false);
            }
        } else if (own != digest && has_majority(r, index, digest)) {
            quarantine(r, index, own, digest);
            return;
        } else if (own != digest && peer->voter && !peer->differs) { /* one that is known to be wrong has no say */
            dispute(r, peer, index, own, digest);
        }
    }
    if (r->dispute_index != 0) {
        tell(r, peer, r->dispute_index, 0, true);
    }
}

/* --- Everybody --- */

void replica_digest_note(struct replica *r)
{
    if (r->applied % REPLICA_DIGEST_EVERY == 0) {
        r->digests[r->digest_next++ % REPLICA_DIGEST_KEPT] =
            (struct digest_point){r->applied, r->config.fsm->digest(r->config.fsm->ctx)};
    }
    if (r->digest_watches != NULL) {
        replica_digest_watched(r);
    }
}

void replica_digest_forget_peer(struct replica_peer *peer)
{
    peer->report_next = 0;
    peer->judged = 0;
    peer->differs = false;
    peer->given = 0;
    peer->denied = 0;
    for (unsigned k = 0; k < REPLICA_REPORTS_KEPT; k++) {
        peer->reports[k] = (struct digest_point){0};
    }
}

void replica_digest_lead_begins(struct replica *r)
{
    r->agreed_index = 0;
    r->dispute_index = 0;
    r->disputed_until_us = 0;
    for (unsigned i = 0; i < r->n_peers; i++) {
        replica_digest_forget_peer(&r->peers[i]);
    }
}

void replica_digest_forget(struct replica *r, uint64_t index, uint64_t term)
{
    for (unsigned i = 0; i < REPLICA_DIGEST_KEPT; i++) {
        r->digests[i] = (struct digest_point){0};
    }
    r->digest_next = 0;
    if (r->quarantine.index != 0) {
        r->quarantine = (struct replica_quarantine){0};
        replica_rebuild_done(r, index, term);
    }
}

void replica_verdict_receive(struct replica *r, const struct message_verdict *verdict)
{
    uint64_t own;

    if (verdict->disputed && PLANT(PLANT_REBUILD_DISPUTED)) {
        quarantine(r, verdict->index, 0, 0);
        return;
    }
    if (verdict->disputed) {
        r->disputed_until_us = now_of(r) + timeout_us(r);
        grant_drop(&r->grant);
        return;
    }
    /* A verdict may be about content that has been replaced since. */
    if (own_digest(r, verdict->index, &own) && own != verdict->digest) {
        quarantine(r, verdict->index, own, verdict->digest);
    }
}
