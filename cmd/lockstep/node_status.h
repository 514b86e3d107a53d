/* What one node says of itself and of its cluster: the reply of LOCKSTEP STATUS, as a struct. */
#ifndef LOCKSTEP_NODE_STATUS_H
#define LOCKSTEP_NODE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/lockstep/connection.h"
#include "cmd/lockstep/options.h"

#define NODE_STATUS_MEMBERS_MAX 64
#define NODE_STATUS_ROLE_MAX 16

#define NODE_STATUS_READS 7
/* How reads are answered, as LOCKSTEP STATUS names it. */
const char *node_status_read_name(unsigned i);

struct node_member {
    uint64_t id;
    struct address address; /* for clients */
    bool voter;
};

struct node_status {
    uint64_t id;
    char role[NODE_STATUS_ROLE_MAX]; /* leader, follower, candidate or learner */
    uint64_t term, leader;           /* leader 0: none known */
    uint64_t commit, applied, last;
    uint64_t pid, uptime_ms;
    unsigned peer_port; /* on which it listens for nodes, 0: not said */
    char cluster[33];   /* uuid of the cluster, "" if the node does not say */
    /* What nodes of earlier versions don't say: "" and 0. */
    char local_reads[NODE_STATUS_ROLE_MAX]; /* "yes": it answers linearizable reads from memory; else why not */
    uint64_t local_left_us;                 /* for at most this long, unless renewed */
    uint64_t exposed;                       /* newest entry that may be shown */
    uint64_t reads[NODE_STATUS_READS];      /* answered, each way of node_status_read_name */
    uint64_t transfers;                     /* that it began as leader */
    struct node_member members[NODE_STATUS_MEMBERS_MAX];
    unsigned n_members;
    bool change_pending;                       /* of the members, or of the feature level */
    uint64_t feature_level, feature_level_max; /* of the cluster; what the node understands. 0: not said */
};

/* Ask the node at `address`, within timeout_ms for connecting and for each read. False: message in `error`. */
bool node_status_fetch(const struct address *address, unsigned timeout_ms, struct node_status *status,
                       char error[CONNECTION_ERROR_MAX]);
/* The first of the seeds that answers, `*at` in the list. False: none does, and `error` says why of each. */
bool node_status_first(const struct seeds *seeds, unsigned timeout_ms, struct node_status *status, unsigned *at,
                       char error[CONNECTION_ERROR_MAX]);
/* From the JSON text alone. */
bool node_status_parse(const char *text, size_t len, struct node_status *status, char error[CONNECTION_ERROR_MAX]);

#endif
