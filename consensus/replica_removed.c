/* Removal, seen from both sides.
 *
 * A removed server gets no entries any more, so it never sees the change that removed it: the leader tells it, once the
 * change is committed. It then neither stands nor votes, which would only disturb the others, and passes its clients'
 * commands on to that leader for a while, so that a node can be removed and stopped without any of them failing. A node
 * that was away when it was removed learns of it from the answer to its hello (cmd/lockstepd/node_links.c). */
#include "consensus/replica_internal.h"

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

/* --- Leader --- */

void replica_departs(struct replica *r, uint64_t id)
{
    if (id == 0 || id >= r->next_id || !replica_leads(r) || r->n_departed == REPLICA_SERVERS_MAX) {
        return;
    }
    r->departed[r->n_departed++] =
        (struct replica_departed){.id = id,
                                  .index = r->core.configuration_uncommitted_index,
                                  .until_us = now_of(r) + (uint64_t)REPLICA_REMOVED_GRACE_MS * 1000};
}

/* At each heartbeat, since frames get lost. */
void replica_departed_tell(struct replica *r)
{
    for (unsigned i = 0; i < r->n_departed && replica_leads(r);) {
        const struct replica_departed *d = &r->departed[i];
        if (now_of(r) >= d->until_us) {
            r->departed[i] = r->departed[--r->n_departed];
            continue;
        }
        if (r->applied >= d->index) {
            struct replica_peer gone = {.id = d->id};
            const struct message m = {
                .type = MESSAGE_REMOVED, .term = r->core.current_term, .removed = {.index = d->index}};
            (void)replica_send(r, &gone, &m);
        }
        i++;
    }
}

/* --- The removed node --- */

static bool is_linked(const struct replica *r, uint64_t id)
{
    for (unsigned i = 0; i < r->n_links; i++) {
        if (r->links[i].id == id) {
            return r->links[i].connected;
        }
    }
    return false;
}

static void become_removed(struct replica *r, uint64_t leader)
{
    if (r->removed || r->dead || !r->started) {
        return;
    }
    r->removed = true;
    r->removed_leader = leader != 0 && is_linked(r, leader) ? leader : 0;
    r->removed_us = now_of(r);
    grant_drop(&r->grant);
    replica_log(r, 1, "this node was removed from the cluster: its id is not used again; stop it%s",
                r->removed_leader != 0 ? ", until then it passes commands on for a while" : "");
    r->env->ops->timer_set(r->env, &r->timer, r->removed_us + (uint64_t)REPLICA_REMOVED_GRACE_MS * 1000);
}

void replica_removed_receive(struct replica *r, uint64_t leader, uint64_t index)
{
    (void)index;
    if (!replica_leads(r)) {
        become_removed(r, leader);
    }
}

void replica_set_removed(struct replica *r)
{
    if (!replica_leads(r)) {
        become_removed(r, replica_current_leader(r));
        if (!r->dead && r->started) {
            replica_settle(r);
        }
    }
}

bool replica_is_removed(const struct replica *r)
{
    return r->removed;
}

static void leader_lost(struct replica *r)
{
    r->removed_leader = 0;
    replica_settle(r);
}

void replica_removed_timer(struct replica *r)
{
    if (now_of(r) >= r->removed_us + (uint64_t)REPLICA_REMOVED_GRACE_MS * 1000) {
        leader_lost(r);
    }
}

void replica_removed_unlinked(struct replica *r, uint64_t id)
{
    if (r->removed && r->removed_leader == id && !r->dead) {
        leader_lost(r);
    }
}
