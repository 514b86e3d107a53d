#include "cmd/lockstep/cluster_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A follower within so many entries of the leader's commit index counts as up to date. */
#define BEHIND_MAX 10000u

static bool members_of(struct cluster_view *view, const struct node_status *seed, const struct address *address)
{
    view->n = seed->n_members > 0 ? seed->n_members : 1;
    view->nodes = calloc(view->n, sizeof *view->nodes);
    if (view->nodes == NULL) {
        return false;
    }
    view->nodes[0].member = (struct node_member){.id = seed->id, .address = *address, .voter = true};
    for (unsigned i = 0; i < seed->n_members; i++) {
        view->nodes[i].member = seed->members[i];
    }
    return true;
}

static void nodes_ask(struct cluster_view *view, unsigned timeout_ms)
{
    for (unsigned i = 0; i < view->n; i++) {
        struct cluster_node *node = &view->nodes[i];
        node->up = node_status_fetch(&node->member.address, timeout_ms, &node->status, node->error);
        if (node->up && node->status.id != node->member.id) {
            snprintf(node->error, sizeof node->error, "another node answers there");
            node->up = false;
        }
        if (node->up && strcmp(node->status.role, "leader") == 0 &&
            (view->leader == NULL || node->status.term > view->leader->status.term)) {
            view->leader = node;
        }
    }
}

/* A node that was removed, or was away, still lists whom it knew; the leader knows better. */
static bool is_outdated(const struct cluster_view *view)
{
    bool all = view->leader == NULL || view->leader->status.n_members == 0;
    if (all) {
        return false;
    }
    const struct node_status *status = &view->leader->status;
    all = status->n_members == view->n;
    for (unsigned i = 0; all && i < view->n; i++) {
        all = status->members[i].id == view->nodes[i].member.id;
    }
    return !all;
}

bool cluster_view_get(struct cluster_view *view, const struct seeds *seeds, unsigned timeout_ms,
                      char error[CONNECTION_ERROR_MAX])
{
    struct node_status *seed = malloc(sizeof *seed);
    unsigned at = 0;
    *view = (struct cluster_view){0};
    snprintf(error, CONNECTION_ERROR_MAX, "out of memory");
    bool ok = seed != NULL && node_status_first(seeds, timeout_ms, seed, &at, error) &&
              members_of(view, seed, &seeds->at[at]);
    if (ok) {
        nodes_ask(view, timeout_ms);
    }
    if (ok && is_outdated(view)) {
        const struct address address = view->leader->member.address;
        *seed = view->leader->status;
        cluster_view_free(view);
        ok = members_of(view, seed, &address);
        if (ok) {
            nodes_ask(view, timeout_ms);
        }
    }
    free(seed);
    return ok;
}

void cluster_view_free(struct cluster_view *view)
{
    free(view->nodes);
    *view = (struct cluster_view){0};
}

const struct cluster_node *cluster_view_follower(const struct cluster_view *view)
{
    const struct cluster_node *best = view->leader;
    for (unsigned i = 0; i < view->n; i++) {
        const struct cluster_node *node = &view->nodes[i];
        const bool fresh = node->up && node != view->leader &&
                           (view->leader == NULL || node->status.applied + BEHIND_MAX >= view->leader->status.commit);
        if (fresh && (best == view->leader || node->status.applied > best->status.applied)) {
            best = node;
        }
    }
    return best;
}
