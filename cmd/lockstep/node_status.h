/* What one node says of itself and of its cluster: the reply of LOCKSTEP STATUS, as a struct. */
#ifndef LOCKSTEP_NODE_STATUS_H
#define LOCKSTEP_NODE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/lockstep/connection.h"
#include "cmd/lockstep/options.h"

#define NODE_STATUS_MEMBERS_MAX 64
#define NODE_STATUS_ROLE_MAX 16

struct node_member {
    uint64_t id;
    struct address address; /* for clients */
};

struct node_status {
    uint64_t id;
    char role[NODE_STATUS_ROLE_MAX]; /* leader, follower, candidate or learner */
    uint64_t term, leader;           /* leader 0: none known */
    uint64_t commit, applied, last;
    uint64_t pid, uptime_ms;
    struct node_member members[NODE_STATUS_MEMBERS_MAX];
    unsigned n_members;
};

/* Ask the node at `address`, within timeout_ms for connecting and for each read. False: message in `error`. */
bool node_status_fetch(const struct address *address, unsigned timeout_ms, struct node_status *status,
                       char error[CONNECTION_ERROR_MAX]);
/* From the JSON text alone. */
bool node_status_parse(const char *text, size_t len, struct node_status *status, char error[CONNECTION_ERROR_MAX]);

#endif
