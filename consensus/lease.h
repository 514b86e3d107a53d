/* Leases and read grants: pure arithmetic on instants passed in. Owns the leader's view of what it may promise and what
 * others promised it, and a follower's grant; reads no clock, sends nothing, knows nothing of the core. The rules and
 * the proof: docs/CONSISTENCY.md; the source: DESIGN section 6.
 *
 * Instants are microseconds of the caller's own CLOCK_BOOTTIME. Instants of other nodes are opaque: they come back to
 * the node that made them. T is the election timeout, rho the bound on every clock's rate error. */
#ifndef LOCKSTEP_LEASE_H
#define LOCKSTEP_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "consensus/drift.h"

/* Members, and removed ones as long as they hold a grant. */
#define LEASE_PEERS_MAX 30u

struct lease_config {
    uint64_t timeout_us; /* T */
    uint32_t rho_ppm;    /* 1 to 100000 */
    uint64_t slack_us;   /* at least 3000: the core counts milliseconds, stamps may be ahead by one */
    bool leases;         /* off: every read is confirmed by ReadIndex */
    bool grants;         /* off: only the leader reads locally */
};

/* Why reads are not local; LEASE_NONE: they are. */
enum lease_off {
    LEASE_NONE = 0,
    LEASE_OFF_CONFIG,   /* switched off */
    LEASE_OFF_DRIFT,    /* a peer's clock runs at another rate than rho allows */
    LEASE_OFF_TRANSFER, /* leadership was offered to another node in this term */
    LEASE_OFF_QUORUM,   /* too few fresh echoes of voters whose clocks were compared in this term */
    LEASE_OFF_TERM,     /* no entry of this term is applied yet */
    LEASE_OFF_ROLE,     /* neither leader nor grantee */
    /* the next two are not of leases' making: replica_digest.c */
    LEASE_OFF_QUARANTINE, /* the content differs from a majority's */
    LEASE_OFF_DISPUTE     /* contents differ, and no majority says whose is right */
};
const char *lease_off_name(enum lease_off off);

/* What the leader knows of one other server. */
struct lease_peer {
    /* private */
    uint64_t id;
    bool member, voter;
    uint64_t stamp;        /* largest stamp it echoed after its core accepted the frame, in this term */
    uint64_t echo_instant; /* its newest echo: its own instant ... */
    uint64_t echo_us;      /* ... and when that arrived; 0: none in this term and connection */
    uint64_t received;     /* its log agrees with ours up to here, in memory; within (term, connection) */
    uint64_t connection;
    uint64_t grant_until;    /* it may read locally until this instant of ours; survives terms */
    uint64_t withheld_until; /* no grant for it before */
    struct drift drift;      /* of its clock against ours */
};

struct lease {
    /* private */
    struct lease_config config;
    struct lease_peer peers[LEASE_PEERS_MAX];
    unsigned n_peers;
    uint64_t gone_until; /* grants that no place stands for have ended by then */
    bool self_votes;
    bool leading;
    bool transfer;
    bool grants_stopped;
};

/* How clock rates are watched, by leaders and by grantees: over half of T and longer. */
struct drift_config lease_drift_config(const struct lease_config *config);

void lease_init(struct lease *lease, const struct lease_config *config);

/* --- Leader ------------------------------------------------------------------------------------------------------- */

/* The newest configuration in the log: who else is in it. Grants of removed servers are kept until they have ended. */
void lease_members(struct lease *lease, const uint64_t *ids, const bool *voters, unsigned n, bool self_votes);
/* A term of ours begins: nothing of earlier terms counts but the grants that are still out. */
void lease_lead_begins(struct lease *lease);
void lease_lead_ends(struct lease *lease);
/* An earlier run of this process may have given grants that last until then: nothing is exposed before. */
void lease_assume_grants(struct lease *lease, uint64_t until);
/* An echo arrived at `now`: `stamp` is our send instant, 0 if the echo only confirms the term (PING); `instant` the
 * peer's send instant; `received` its verified index; `connection` its connection. */
void lease_echo(struct lease *lease, uint64_t id, uint64_t connection, uint64_t stamp, uint64_t instant,
                uint64_t received, uint64_t now);
/* The lease runs until this instant; 0: none. */
uint64_t lease_end(const struct lease *lease, uint64_t now);
/* May the leader answer reads from memory at `now`? (The caller knows whether an entry of its term is applied.) */
enum lease_off lease_check(const struct lease *lease, uint64_t now);
/* Length of a grant, microseconds. */
uint64_t lease_grant_length(const struct lease *lease);
/* Answer the newest echo of `id` with a grant: returns its length, or 0 if none may be given. From here on the peer
 * counts as a grantee. `instant` is set to the peer's instant that is answered (also if no grant is given), 0 if none.
 * `commit` is the leader's commit index: who lags behind it gets no grant, since it would hold writers up. */
uint64_t lease_grant(struct lease *lease, uint64_t id, uint64_t commit, uint64_t now, uint64_t *instant);
/* No grant for `id` before `until`, so that it holds nobody up when it is removed. */
void lease_withhold(struct lease *lease, uint64_t id, uint64_t until);
/* Should frames with entries ask `id` for an echo? Under grants a write may be shown once every grantee has said that
 * it received it; and who says so only now and then is never seen to be up to date under load, and gets no grant. */
bool lease_wants_echo(const struct lease *lease, uint64_t id, uint64_t now);
/* Highest index that may be shown: at most `commit`, and received by every active grantee. */
uint64_t lease_exposed(const struct lease *lease, uint64_t commit, uint64_t now);
/* When that may change by the passing of time alone: the next end of a grant after `now`, UINT64_MAX if none is out. */
uint64_t lease_next_grant_end(const struct lease *lease, uint64_t now);
/* The last grant given has ended at this instant: until then a former leader neither votes nor stands, and a transfer
 * waits. 0: none was given. */
uint64_t lease_grants_end(const struct lease *lease);
uint64_t lease_grant_until(const struct lease *lease, uint64_t id);
uint64_t lease_received(const struct lease *lease, uint64_t id);
/* Leadership will be offered to another server: no further grants. `false` takes that back. */
void lease_grants_stop(struct lease *lease, bool stop);
/* Leadership is offered: no lease in the rest of this term. */
void lease_transfer_begins(struct lease *lease);

/* --- Grantee ------------------------------------------------------------------------------------------------------ */

struct grant {
    /* private */
    uint64_t term;
    uint64_t until; /* own instant */
    uint64_t needs; /* usable once this index is received */
};

/* A grant of `length` arrived that answers our echo of `instant`, in `term`; it needs index `needs`. */
void grant_take(struct grant *grant, uint64_t term, uint64_t instant, uint64_t length, uint64_t needs);
/* The holder saw another term, left the follower state, truncated its log, installed a snapshot. */
void grant_drop(struct grant *grant);
bool grant_is_valid(const struct grant *grant, uint64_t term, uint64_t received, uint64_t now);

/* --- Vote guard --------------------------------------------------------------------------------------------------- */

/* After a start, vote requests are ignored until this instant: an earlier run may have promised not to elect anybody.
 */
uint64_t lease_vote_guard(const struct lease_config *config, uint64_t start);

#endif
