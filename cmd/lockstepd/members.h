/* The members of this node's cluster as clients are told about them: addresses from the replicated configuration, roles
 * and progress from the replica. Loop thread only. */
#ifndef LOCKSTEP_MEMBERS_H
#define LOCKSTEP_MEMBERS_H

#include "cmd/lockstepd/node.h"

#define NODE_NAME_LEN 40u /* hexadecimal digits of a node's name towards Redis clients */

struct member {
    uint64_t id;
    char host[128];
    unsigned port, peer_port;
    bool self, leader, voter;
    bool connected; /* this node's link to it is up */
    uint64_t match; /* as this node knows it: the leader knows all, others only themselves */
    uint64_t applied;
    uint64_t rtt_us;
    uint64_t echo_age_us;   /* UINT64_MAX: none */
    bool differs;           /* known to the leader: its content is not what a majority holds */
    uint64_t grant_left_us; /* known to the leader: it may read locally for at most this long */
};

/* All members, in the order of the configuration; returns their number, at most REPLICA_SERVERS_MAX. `info` is filled
 * in too. */
unsigned members_get(struct node *node, struct replica_info *info, struct member members[REPLICA_SERVERS_MAX]);
/* One member; false if it is unknown. */
bool member_find(struct node *node, uint64_t id, struct member *member);
/* The 40 hexadecimal digits that name a node in CLUSTER replies: the id, then part of the cluster's uuid. */
void member_name(struct node *node, uint64_t id, char name[NODE_NAME_LEN + 1]);

#endif
