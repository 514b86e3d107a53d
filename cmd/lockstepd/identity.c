#include "cmd/lockstepd/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "consensus/slots.h"

#define NAMED_BYTES 8u /* the uuid's first half */

unsigned identity_members(const struct config *c, struct config_member sorted[REPLICA_SERVERS_MAX])
{
    for (unsigned i = 0; i < c->n_members; i++) {
        unsigned k = i;
        for (; k > 0 && sorted[k - 1].id > c->members[i].id; k--) {
            sorted[k] = sorted[k - 1];
        }
        sorted[k] = c->members[i];
    }
    return c->n_members;
}

/* Name and ids: what must not change as long as a directory is used. */
static uint64_t name_hash(const struct config *c, const struct config_member *members, unsigned n)
{
    XXH3_state_t *state = XXH3_createState();

    if (state == NULL) {
        abort();
    }
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, c->cluster_name, strlen(c->cluster_name) + 1);
    for (unsigned i = 0; i < n; i++) {
        XXH3_128bits_update(state, &members[i].id, sizeof members[i].id);
    }
    if (n == 0) {
        XXH3_128bits_update(state, &c->id, sizeof c->id);
    }
    const uint64_t hash = XXH3_128bits_digest(state).high64;
    XXH3_freeState(state);
    return hash;
}

/* A cluster that begins with several nodes must have the same uuid on all of them, and they know nothing in common but
 * their configuration: two such clusters differ in an address. One that begins with a single node draws it. */
static uint64_t distinction(struct env *env, const struct config_member *members, unsigned n)
{
    char text[REPLICA_SERVERS_MAX * (sizeof members[0].host + 64)];
    size_t len = 0;

    if (n <= 1) {
        return env->ops->random(env);
    }
    for (unsigned i = 0; i < n; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%llu %s %u %u\n", (unsigned long long)members[i].id,
                                members[i].host, members[i].port, members[i].peer_port);
    }
    return XXH3_64bits(text, len);
}

/* The directory has been used. */
static bool adopt(const struct config *c, const struct slots_state *state, uint64_t named, struct identity *identity,
                  char *error)
{
    const bool alike = memcmp(state->cluster, &named, NAMED_BYTES) == 0;

    if (c->n_members > 0 && !alike) {
        return true; /* of another cluster */
    }
    memcpy(identity->cluster, state->cluster, sizeof identity->cluster);
    if (c->n_members == 0 && !alike) {
        /* Who the members are is in the log or in a snapshot, unless the first start was cut short before that. */
        identity->bootstraps = false;
        if (state->starts == 0) {
            (void)snprintf(error, CONFIG_ERROR_MAX,
                           "the first start of this data directory did not get as far as writing down who the members "
                           "are: start it with the same member lines as then");
            return false;
        }
    }
    return true;
}

bool identity_find(struct env *env, const struct config *c, struct identity *identity, char *error)
{
    struct config_member members[REPLICA_SERVERS_MAX];
    struct slots_state state;
    struct slots *slots = NULL;
    const char *ignored = NULL;
    const unsigned n = identity_members(c, members);
    const uint64_t named = name_hash(c, members, n);

    *identity = (struct identity){.bootstraps = !c->joined};
    if (c->joined) {
        memcpy(identity->cluster, c->joined_cluster, sizeof identity->cluster);
        return true;
    }
    const enum slots_status status = slots_open(env, &slots, &state, &ignored);
    if (status == SLOTS_OK) {
        slots_close(slots);
        memcpy(identity->cluster, &named, NAMED_BYTES);
        return adopt(c, &state, named, identity, error);
    }
    const uint64_t drawn = distinction(env, members, n);
    memcpy(identity->cluster, &named, NAMED_BYTES);
    memcpy(identity->cluster + NAMED_BYTES, &drawn, sizeof drawn);
    return true;
}
