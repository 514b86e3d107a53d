/* Feature levels: which semantics of the log are switched on. The level is part of every configuration entry; it is
 * raised by one that changes nothing else, once every member is known to understand the new level. A node that meets a
 * level above its own stops before it applies anything under it: nothing it would do could be trusted. */
#include <stdio.h>
#include <string.h>

#include "consensus/replica_internal.h"

uint32_t replica_feature_level(const struct replica *r)
{
    return r->features[0].level != 0 ? r->features[0].level : CONFIGURATION_FEATURE_LEVEL;
}

void replica_feature_note(struct replica *r, uint64_t index, uint32_t level)
{
    r->features[1] = r->features[0];
    r->features[0] = (struct replica_feature){index, level};
}

void replica_feature_truncate(struct replica *r, uint64_t index)
{
    if (r->features[0].index >= index) {
        r->features[0] = r->features[1];
    }
}

bool replica_feature_check(struct replica *r, uint32_t level)
{
    char what[160];

    if (level <= r->feature_max) {
        return true;
    }
    (void)snprintf(what, sizeof what, "the cluster has moved to feature level %u, and this version understands %u",
                   level, r->feature_max);
    replica_fail_stop(r, what, "upgrade this node: run a version that understands the cluster's level");
    return false;
}

void replica_peer_supports(struct replica *r, uint64_t id, uint32_t level)
{
    struct replica_supports *place = &r->supports[r->next_support % REPLICA_PEERS_MAX];

    for (unsigned i = 0; i < REPLICA_PEERS_MAX; i++) {
        if (r->supports[i].id == id) {
            r->supports[i].level = level;
            return;
        }
    }
    r->next_support++;
    *place = (struct replica_supports){id, level};
}

static uint32_t supported_by(const struct replica *r, uint64_t id)
{
    for (unsigned i = 0; i < REPLICA_PEERS_MAX; i++) {
        if (r->supports[i].id == id) {
            return r->supports[i].level;
        }
    }
    return 0;
}

/* Does every member understand that level? */
static bool all_support(struct replica *r, uint32_t level, char why[REPLICA_WHY_MAX])
{
    if (level > r->feature_max) {
        (void)snprintf(why, REPLICA_WHY_MAX,
                       "node %llu, which leads, understands feature level %u: run a newer version on it first",
                       (unsigned long long)r->config.id, r->feature_max);
        return false;
    }
    for (unsigned i = 0; i < r->n_servers; i++) {
        const uint64_t id = r->servers[i].id;
        const struct replica_peer *peer = replica_peer_by_id(r, id);
        const uint32_t supported = supported_by(r, id);
        if (id == r->config.id) {
            continue;
        }
        if (peer == NULL || !peer->connected || supported == 0) {
            (void)snprintf(why, REPLICA_WHY_MAX,
                           "node %llu is not connected, so its version is not known: start it, or remove it",
                           (unsigned long long)id);
            return false;
        }
        if (supported < level) {
            (void)snprintf(why, REPLICA_WHY_MAX,
                           "node %llu understands feature level %u, not %u: run a newer version on it first",
                           (unsigned long long)id, supported, level);
            return false;
        }
    }
    return true;
}

enum replica_status replica_upgrade(struct replica *r, uint32_t level, char why[REPLICA_WHY_MAX])
{
    struct configuration_settings settings = replica_own_settings(r);
    const char *text = "";

    why[0] = '\0';
    if (r->dead || !replica_is_leader(r)) {
        return REPLICA_NOT_LEADER;
    }
    level = level != 0 ? level : r->feature_max;
    if (level < settings.feature_level) {
        (void)snprintf(why, REPLICA_WHY_MAX, "the cluster is at feature level %u, and a level is never lowered",
                       settings.feature_level);
        return REPLICA_CONFIG;
    }
    if (!PLANT(PLANT_FEATURE_LEVEL) && !all_support(r, level, why)) {
        return REPLICA_CONFIG;
    }
    if (level == settings.feature_level) {
        return REPLICA_OK;
    }
    settings.feature_level = level;
    const enum replica_status status = replica_change_submit(r, r->servers, r->n_servers, &settings, &text);
    (void)snprintf(why, REPLICA_WHY_MAX, "%s", text);
    if (status == REPLICA_OK) {
        replica_log(r, 2, "raising the feature level to %u", level);
    }
    return status;
}
