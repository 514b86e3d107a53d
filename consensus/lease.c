#include "consensus/lease.h"

#include <assert.h>
#include <stddef.h>

#define PPM 1000000u
/* Stamps are made unique by counting on, so they may be ahead of the clock by a little; the slack covers it. */
#define LEASE_STAMP_AHEAD_US 1000u
/* What rounding to milliseconds may cost on either side of a grant. */
#define GRANT_SLACK_US 2000u

const char *lease_off_name(enum lease_off off)
{
    static const char *const names[] = {
        [LEASE_NONE] = "none",
        [LEASE_OFF_CONFIG] = "config",
        [LEASE_OFF_DRIFT] = "clock-drift",
        [LEASE_OFF_TRANSFER] = "transfer",
        [LEASE_OFF_QUORUM] = "quorum",
        [LEASE_OFF_TERM] = "new-term",
        [LEASE_OFF_ROLE] = "role",
        [LEASE_OFF_QUARANTINE] = "quarantine",
        [LEASE_OFF_DISPUTE] = "dispute",
    };
    return names[off];
}

void lease_init(struct lease *l, const struct lease_config *config)
{
    assert(config->slack_us >= 2000 + LEASE_STAMP_AHEAD_US);
    assert(config->rho_ppm >= 1);
    assert(config->rho_ppm <= 100000);
    *l = (struct lease){.config = *config};
}

static struct lease_peer *peer_of(struct lease *l, uint64_t id)
{
    for (unsigned i = 0; i < l->n_peers; i++) {
        if (l->peers[i].id == id) {
            return &l->peers[i];
        }
    }
    return NULL;
}

/* --- Members --------------------------------------------------------------------------------------------------------
 */

/* A place for a new member: a free one, else that of the removed server whose grant ends first. */
static struct lease_peer *take_place(struct lease *l)
{
    struct lease_peer *p = NULL;

    if (l->n_peers < LEASE_PEERS_MAX) {
        return &l->peers[l->n_peers++];
    }
    for (unsigned i = 0; i < l->n_peers; i++) {
        if (!l->peers[i].member && (p == NULL || l->peers[i].grant_until < p->grant_until)) {
            p = &l->peers[i];
        }
    }
    assert(p != NULL); /* there are twice as many places as members */
    if (p->grant_until > l->gone_until) {
        l->gone_until = p->grant_until;
    }
    return p;
}

void lease_members(struct lease *l, const uint64_t *ids, const bool *voters, unsigned n, bool self_votes)
{
    l->self_votes = self_votes;
    for (unsigned i = 0; i < l->n_peers; i++) { /* a removed server keeps its place for the grant that it may hold */
        struct lease_peer *p = &l->peers[i];
        p->voter = false;
        p->member = false;
        for (unsigned k = 0; k < n; k++) {
            p->member = p->member || ids[k] == p->id;
        }
        if (!p->member) {
            drift_forget(&p->drift);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        struct lease_peer *p = peer_of(l, ids[i]);
        if (p == NULL) {
            p = take_place(l);
            *p = (struct lease_peer){.id = ids[i], .member = true};
        }
        p->voter = voters[i];
    }
}

static void forget_term(struct lease_peer *p)
{
    p->stamp = 0;
    p->echo_instant = 0;
    p->echo_us = 0;
    p->received = 0;
}

void lease_lead_begins(struct lease *l)
{
    l->leading = true;
    l->transfer = false;
    l->grants_stopped = false;
    for (unsigned i = 0; i < l->n_peers; i++) {
        forget_term(&l->peers[i]);
        drift_restart(&l->peers[i].drift);
    }
}

void lease_lead_ends(struct lease *l)
{
    l->leading = false;
}

void lease_assume_grants(struct lease *l, uint64_t until)
{
    if (until > l->gone_until) {
        l->gone_until = until;
    }
}

void lease_grants_stop(struct lease *l, bool stop)
{
    l->grants_stopped = stop;
}

void lease_transfer_begins(struct lease *l)
{
    l->transfer = true;
}

/* --- Drift watch ----------------------------------------------------------------------------------------------------
 */

struct drift_config lease_drift_config(const struct lease_config *config)
{
    return (struct drift_config){.window_us = config->timeout_us / 2, .rho_ppm = config->rho_ppm};
}

static void watch_drift(struct lease *l, struct lease_peer *p, uint64_t stamp, uint64_t instant, uint64_t now)
{
    const struct drift_config config = lease_drift_config(&l->config);
    const struct drift_exchange exchange = {.before = stamp, .after = now, .theirs = instant};
    const bool seen = drift_is_seen(&p->drift);

    drift_note(&p->drift, &config, &exchange);
    if (!seen && drift_is_seen(&p->drift) && p->grant_until > now) {
        p->grant_until += lease_grant_length(l); /* its holder's clock may be the slow one */
    }
}

static bool drift_seen(const struct lease *l)
{
    for (unsigned i = 0; i < l->n_peers; i++) {
        if (drift_is_seen(&l->peers[i].drift)) {
            return true;
        }
    }
    return false;
}

/* --- The leader's lease ---------------------------------------------------------------------------------------------
 */

void lease_echo(struct lease *l, uint64_t id, uint64_t connection, uint64_t stamp, uint64_t instant, uint64_t received,
                uint64_t now)
{
    struct lease_peer *p = peer_of(l, id);

    if (p == NULL || !p->member || !l->leading || connection < p->connection) {
        return;
    }
    if (connection > p->connection) { /* what was received over an earlier connection may be lost with a restart */
        p->connection = connection;
        p->received = 0;
        p->echo_us = 0;
        p->echo_instant = 0;
        drift_restart(&p->drift); /* it may have been started anew, on another machine */
    }
    if (received > p->received) {
        p->received = received;
    }
    if (stamp == 0 || stamp > now + LEASE_STAMP_AHEAD_US) {
        return;
    }
    if (stamp > p->stamp) {
        p->stamp = stamp;
        p->echo_instant = instant;
        p->echo_us = now;
        watch_drift(l, p, stamp, instant, now);
    }
}

/* The stamp that a majority of voters, this server included if it votes, has echoed or passed. A voter whose clock was
 * not compared yet in this term and connection has promised nothing that could be relied on. */
static uint64_t quorum_stamp(const struct lease *l, uint64_t now)
{
    uint64_t v[LEASE_PEERS_MAX + 1];
    unsigned n = 0;

    if (l->self_votes) {
        v[n++] = now;
    }
    for (unsigned i = 0; i < l->n_peers; i++) {
        if (l->peers[i].voter) {
            v[n++] = drift_is_compared(&l->peers[i].drift) ? l->peers[i].stamp : 0;
        }
    }
    for (unsigned i = 1; i < n; i++) { /* descending */
        const uint64_t x = v[i];
        unsigned j = i;
        for (; j > 0 && v[j - 1] < x; j--) {
            v[j] = v[j - 1];
        }
        v[j] = x;
    }
    return n == 0 ? 0 : v[n / 2];
}

uint64_t lease_end(const struct lease *l, uint64_t now)
{
    const uint64_t t = l->config.timeout_us;
    const uint64_t stamp = quorum_stamp(l, now);
    const uint64_t loss =
        t / PPM * 2 * l->config.rho_ppm + t % PPM * 2 * l->config.rho_ppm / PPM + 1 + l->config.slack_us;

    if (!l->leading || !l->config.leases || l->transfer || stamp == 0 || loss >= t) {
        return 0;
    }
    return stamp + t - loss;
}

enum lease_off lease_check(const struct lease *l, uint64_t now)
{
    if (!l->leading) {
        return LEASE_OFF_ROLE;
    }
    if (!l->config.leases) {
        return LEASE_OFF_CONFIG;
    }
    if (l->transfer) {
        return LEASE_OFF_TRANSFER;
    }
    if (drift_seen(l)) {
        return LEASE_OFF_DRIFT;
    }
    return now < lease_end(l, now) ? LEASE_NONE : LEASE_OFF_QUORUM;
}

/* --- Grants --- */

uint64_t lease_grant_length(const struct lease *l)
{
    return l->config.timeout_us / 2;
}

uint64_t lease_grant(struct lease *l, uint64_t id, uint64_t commit, uint64_t now, uint64_t *instant)
{
    struct lease_peer *p = peer_of(l, id);
    const uint64_t length = lease_grant_length(l);

    *instant = 0;
    if (p == NULL || !p->member || p->echo_us == 0) {
        return 0;
    }
    *instant = p->echo_instant;
    if (!l->config.grants || !drift_is_compared(&p->drift) || l->grants_stopped || now < p->withheld_until ||
        lease_check(l, now) != LEASE_NONE || p->received < commit || p->echo_us + length > lease_end(l, now) ||
        p->echo_us + length <= now) {
        return 0;
    }
    /* The holder counts G on its clock from before echo_us; on ours that takes at most G (1 + rho) / (1 - rho). */
    const uint64_t rho = l->config.rho_ppm;
    const uint64_t until = p->echo_us + length + length * 2 * rho / (PPM - rho) + 1 + GRANT_SLACK_US;
    if (until > p->grant_until) {
        p->grant_until = until;
    }
    return length;
}

void lease_withhold(struct lease *l, uint64_t id, uint64_t until)
{
    struct lease_peer *p = peer_of(l, id);

    if (p != NULL) {
        p->withheld_until = until;
    }
}

bool lease_wants_echo(const struct lease *l, uint64_t id, uint64_t now)
{
    for (unsigned i = 0; i < l->n_peers; i++) {
        const struct lease_peer *p = &l->peers[i];
        if (p->id == id) {
            return p->grant_until > now || (p->member && l->config.grants && !l->grants_stopped &&
                                            drift_is_compared(&p->drift) && lease_check(l, now) == LEASE_NONE);
        }
    }
    return false;
}

uint64_t lease_exposed(const struct lease *l, uint64_t commit, uint64_t now)
{
    uint64_t exposed = l->gone_until > now ? 0 : commit;

    for (unsigned i = 0; i < l->n_peers; i++) {
        const struct lease_peer *p = &l->peers[i];
        if (p->grant_until > now && p->received < exposed) {
            exposed = p->received;
        }
    }
    return exposed;
}

uint64_t lease_next_grant_end(const struct lease *l, uint64_t now)
{
    uint64_t next = l->gone_until > now ? l->gone_until : UINT64_MAX;

    for (unsigned i = 0; i < l->n_peers; i++) {
        if (l->peers[i].grant_until > now && l->peers[i].grant_until < next) {
            next = l->peers[i].grant_until;
        }
    }
    return next;
}

uint64_t lease_grants_end(const struct lease *l)
{
    uint64_t last = l->gone_until;

    for (unsigned i = 0; i < l->n_peers; i++) {
        last = l->peers[i].grant_until > last ? l->peers[i].grant_until : last;
    }
    return last;
}

uint64_t lease_grant_until(const struct lease *l, uint64_t id)
{
    for (unsigned i = 0; i < l->n_peers; i++) {
        if (l->peers[i].id == id) {
            return l->peers[i].grant_until;
        }
    }
    return 0;
}

uint64_t lease_received(const struct lease *l, uint64_t id)
{
    for (unsigned i = 0; i < l->n_peers; i++) {
        if (l->peers[i].id == id) {
            return l->peers[i].received;
        }
    }
    return 0;
}

/* --- Grantee --- */

void grant_take(struct grant *g, uint64_t term, uint64_t instant, uint64_t length, uint64_t needs)
{
    if (g->term != term) {
        *g = (struct grant){.term = term};
    }
    if (instant + length > g->until) {
        g->until = instant + length;
        g->needs = needs;
    }
}

void grant_drop(struct grant *g)
{
    *g = (struct grant){0};
}

bool grant_is_valid(const struct grant *g, uint64_t term, uint64_t received, uint64_t now)
{
    return g->term == term && g->until != 0 && received >= g->needs && now < g->until;
}

uint64_t lease_vote_guard(const struct lease_config *config, uint64_t start)
{
    return start + config->timeout_us;
}
