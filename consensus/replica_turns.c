/* When a snapshot is begun, and whose turn it is (snapshot_turn.h has the rules).
 *
 * Due is a snapshot once the log that was applied since the last one has reached a threshold, so what a restart has to
 * replay is bounded; since the threshold is never below the size of the last snapshot's file, large contents are not
 * written again and again for little change. Or once the last one is old enough. All replicas see the same log, so they
 * would all write at once. Therefore:
 *
 * - Each echo says whether its sender waits for a turn, or writes a snapshot: one that ends between two echoes is told
 * of all the same, so that the leader knows that the turn was used.
 * - The leader gives the turn to one member at a time, and says in each AppendEntries whose it is. A member begins in
 *   the loop turn in which it hears that the turn is its own, or forgets it: a turn that was given is either being used
 *   or asked for in the next echo.
 * - The leader itself waits for an election timeout before it claims the turn, and a new leader for as long before it
 *   gives any: so it knows who else is due, or still writes.
 * - A member that waits counts while its echoes come, one that writes until its link breaks.
 *
 * What can go wrong (no leader, a member that never ends, links that lie) costs waiting only, and that is bounded:
 * SNAPSHOT_OVERDUE_TIMES. */
#include "consensus/replica_internal.h"

static uint64_t patience_us(const struct replica *r)
{
    return (uint64_t)r->config.election_timeout_ms * 1000;
}

static struct snapshot_need need_of(const struct replica *r, uint64_t now_us)
{
    const struct replica_snapshot_config *c = &r->config.snapshots;
    const uint64_t threshold = r->snapshot.file_bytes > c->log_bytes ? r->snapshot.file_bytes : c->log_bytes;

    if (r->take.state != TAKE_IDLE || r->applied <= r->snapshot.index || r->configured.index == 0 ||
        replica_is_fenced(r)) {
        return (struct snapshot_need){0};
    }
    if (now_us < r->take.retry_us) {
        return (struct snapshot_need){.asked = r->take.waiting != NULL};
    }
    return (struct snapshot_need){.asked = r->take.waiting != NULL,
                                  .log_bytes = r->log_bytes - r->log_bytes_snapshot,
                                  .log_bytes_due = c->log_bytes != 0 ? threshold : 0,
                                  .age_us = now_us - r->take.last_us,
                                  .age_us_due = (uint64_t)c->age_s * 1000000};
}

static bool is_waiting(const struct replica *r, uint64_t now_us)
{
    const struct snapshot_need need = need_of(r, now_us);

    return snapshot_step(&need, SNAPSHOT_TURN_OTHER) != SNAPSHOT_NOT_DUE;
}

/* --- A member ----------------------------------------------------------------------------------------------------- */

void replica_turns_report(struct replica *r, struct message_echo *echo)
{
    echo->snapshot_writes = r->take.state != TAKE_IDLE || r->turns.unsaid;
    echo->snapshot_waits = !echo->snapshot_writes && is_waiting(r, r->env->ops->now_us(r->env));
    r->turns.unsaid = false;
}

void replica_turns_told(struct replica *r, enum snapshot_turn turn)
{
    const bool unused = turn == SNAPSHOT_TURN_OWN && !is_waiting(r, r->env->ops->now_us(r->env));

    r->turns.told = unused ? SNAPSHOT_TURN_OPEN : turn;
}

/* --- The leader --------------------------------------------------------------------------------------------------- */

void replica_turns_lead_begins(struct replica *r)
{
    for (unsigned i = 0; i < r->n_peers; i++) {
        r->peers[i].claim = (struct snapshot_claim){0};
    }
    r->turns.holder = 0;
    r->turns.served = 0;
    r->turns.own_served = 0;
    r->turns.lead_us = r->env->ops->now_us(r->env);
}

void replica_turns_heard(struct replica *r, struct replica_peer *peer, const struct message_echo *echo)
{
    struct snapshot_claim *claim = &peer->claim;

    if (echo->snapshot_writes && !claim->writes) {
        claim->served = ++r->turns.served;
    }
    if (claim->writes && !echo->snapshot_writes && r->turns.holder == peer->id) {
        r->turns.holder = 0; /* also if it waits again: others go first */
    }
    claim->waits = echo->snapshot_waits;
    claim->writes = echo->snapshot_writes;
}

void replica_turns_unlinked(struct replica_peer *peer)
{
    peer->claim.waits = false;
    peer->claim.writes = false;
}

enum snapshot_turn replica_turns_of(const struct replica *r, uint64_t id)
{
    const uint64_t holder = r->turns.holder;

    return holder == 0 ? SNAPSHOT_TURN_OPEN : holder == id ? SNAPSHOT_TURN_OWN : SNAPSHOT_TURN_OTHER;
}

static void arrange(struct replica *r, uint64_t now_us)
{
    struct snapshot_claim claims[REPLICA_PEERS_MAX + 1];
    struct replica_turns *t = &r->turns;
    unsigned n = 0;

    for (unsigned i = 0; i < r->n_peers; i++) {
        const struct replica_peer *peer = &r->peers[i];
        if (peer->id != 0 && peer->connected) {
            claims[n] = peer->claim;
            claims[n].id = peer->id;
            claims[n++].waits = peer->claim.waits && now_us < peer->echo_us + patience_us(r);
        }
    }
    if (n > 0 && now_us < t->lead_us + patience_us(r) && !PLANT(PLANT_SNAPSHOT_HASTY)) {
        return;
    }
    const bool waits = t->due && (n == 0 || now_us >= t->due_us + patience_us(r));
    claims[n++] = (struct snapshot_claim){r->config.id, waits, r->take.state != TAKE_IDLE, t->own_served};
    t->holder = snapshot_turn_next(claims, n, t->holder, r->config.id);
}

/* --- Turns of the loop -------------------------------------------------------------------------------------------- */

static void note_due(struct replica *r, bool due, uint64_t now_us)
{
    struct replica_turns *t = &r->turns;

    if (due && !t->due) {
        t->due_us = now_us;
        t->was_put_off = false;
    }
    t->due = due;
}

bool replica_turns_may_begin(struct replica *r, uint64_t now_us)
{
    struct replica_turns *t = &r->turns;
    const struct snapshot_need need = need_of(r, now_us);

    note_due(r, is_waiting(r, now_us), now_us);
    if (replica_leads(r)) {
        arrange(r, now_us);
        t->told = replica_turns_of(r, r->config.id);
    }
    const enum snapshot_step step = snapshot_step(&need, PLANT(PLANT_SNAPSHOT_CROWD) ? SNAPSHOT_TURN_UNKNOWN : t->told);
    const bool put_off = step == SNAPSHOT_WAITS && t->told == SNAPSHOT_TURN_OTHER && !t->was_put_off;
    const bool overdue = step == SNAPSHOT_OVERDUE && !PLANT(PLANT_SNAPSHOT_STARVED);

    t->put_off += put_off;
    t->was_put_off = t->was_put_off || put_off;
    t->overdue += overdue;
    if (step != SNAPSHOT_BEGINS && !overdue) {
        return false;
    }
    t->due = false;
    t->told = t->told == SNAPSHOT_TURN_OWN ? SNAPSHOT_TURN_OPEN : t->told;
    t->unsaid = true;
    t->own_served = ++t->served;
    return true;
}

void replica_turns_info(const struct replica *r, struct replica_info *info)
{
    info->snapshot_put_off = r->turns.due && r->take.state == TAKE_IDLE;
    info->snapshots_put_off = r->turns.put_off;
    info->snapshots_overdue = r->turns.overdue;
}
