/* The nodes of a running cluster as an operator's tool needs them: found through any of some addresses. */
#ifndef LOCKSTEP_CLUSTER_VIEW_H
#define LOCKSTEP_CLUSTER_VIEW_H

#include "cmd/lockstep/node_status.h"

struct cluster_node {
    struct node_member member;
    bool up;
    struct node_status status;        /* if up */
    char error[CONNECTION_ERROR_MAX]; /* else */
};

struct cluster_view {
    struct cluster_node *nodes; /* all members */
    unsigned n;
    const struct cluster_node *leader; /* of the highest term, NULL: none is known */
};

/* Ask the seeds, in turn, who belongs to the cluster, then every member for its state. False: `error`. */
bool cluster_view_get(struct cluster_view *view, const struct seeds *seeds, unsigned timeout_ms,
                      char error[CONNECTION_ERROR_MAX]);
void cluster_view_free(struct cluster_view *view);
/* Where to read from, so that the leader is left alone: a follower or learner that is not far behind, else the leader.
 * NULL: no node is up. */
const struct cluster_node *cluster_view_follower(const struct cluster_view *view);

#endif
