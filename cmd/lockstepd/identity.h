/* Which cluster a node belongs to: what its data directory says if it has been used, else what follows from the
 * configuration. The uuid's first half stands for the cluster's name and the ids of its first members, so that a
 * directory is not used for another cluster by mistake; the second tells clusters apart that are named alike. Used
 * before the replica opens; knows the file `state` through consensus/slots.h alone. */
#ifndef LOCKSTEP_IDENTITY_H
#define LOCKSTEP_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/lockstepd/config.h"
#include "consensus/env.h"

struct identity {
    uint8_t cluster[16]; /* the uuid */
    bool bootstraps;     /* a first start begins with the configuration's members, or with this node alone */
};

/* The configuration's members by id, so that the order of the lines does not matter; returns their number. */
unsigned identity_members(const struct config *config, struct config_member members[REPLICA_SERVERS_MAX]);
/* False: `error` (CONFIG_ERROR_MAX bytes) says what to do. A directory that is damaged, or of another cluster or id, is
 * no error here: replica_open refuses it. */
bool identity_find(struct env *env, const struct config *config, struct identity *identity, char *error);

#endif
