#include "cmd/lockstepd/members.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cuts "host:port" or "[host]:port"; false if it is neither. */
static bool parse_address(const char *text, size_t len, char *host, size_t capacity, unsigned *port)
{
    char copy[REPLICA_ADDRESS_MAX + 1];
    if (len >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *colon = strrchr(copy, ':');
    if (colon == NULL) {
        return false;
    }
    *colon = '\0';
    char *end;
    unsigned long number = strtoul(colon + 1, &end, 10);
    char *name = copy;
    size_t name_len = strlen(copy);
    if (name_len >= 2 && name[0] == '[' && name[name_len - 1] == ']') {
        name[name_len - 1] = '\0';
        name++;
    }
    if (*end != '\0' || number == 0 || number > 65535 || name[0] == '\0' || strlen(name) >= capacity) {
        return false;
    }
    *port = (unsigned)number;
    (void)snprintf(host, capacity, "%s", name);
    return true;
}

/* The replicated configuration holds "peer-host:port,client-host:port". */
static bool parse_addresses(const char *address, struct member *member)
{
    const char *comma = strchr(address, ',');
    char peer_host[sizeof member->host];
    return comma != NULL &&
           parse_address(address, (size_t)(comma - address), peer_host, sizeof peer_host, &member->peer_port) &&
           parse_address(comma + 1, strlen(comma + 1), member->host, sizeof member->host, &member->port);
}

static void address_from_config(const struct config *config, struct member *member)
{
    for (unsigned i = 0; i < config->n_members; i++) {
        if (config->members[i].id == member->id) {
            (void)snprintf(member->host, sizeof member->host, "%s", config->members[i].host);
            member->port = config->members[i].port;
            member->peer_port = config->members[i].peer_port;
            return;
        }
    }
    if (member->id == config->id) {
        (void)snprintf(member->host, sizeof member->host, "%s", config->bind);
        member->port = config->port;
        member->peer_port = config->peer_port;
    }
}

unsigned members_get(struct node *node, struct replica_info *info, struct member members[REPLICA_SERVERS_MAX])
{
    replica_info(node_replica(node), info);
    for (unsigned i = 0; i < info->n_servers; i++) {
        const struct replica_peer_info *peer = &info->peers[i];
        struct member *m = &members[i];
        *m = (struct member){
            .id = info->servers[i].id,
            .self = info->servers[i].id == info->id,
            .leader = info->servers[i].id == info->leader,
            .voter = info->servers[i].voter,
            .connected = peer->connected,
            .match = peer->match,
            .applied = peer->applied,
            .rtt_us = peer->rtt_us,
            .echo_age_us = peer->echo_age_us,
            .grant_left_us = peer->grant_left_us,
            .differs = peer->differs,
        };
        if (m->self) {
            m->connected = true;
            m->match = info->last;
            m->applied = info->applied;
        }
        if (!parse_addresses(info->servers[i].address, m)) {
            address_from_config(node_config(node), m);
        }
    }
    return info->n_servers;
}

bool member_find(struct node *node, uint64_t id, struct member *member)
{
    struct replica_info info;
    struct member members[REPLICA_SERVERS_MAX];
    unsigned n = members_get(node, &info, members);
    for (unsigned i = 0; i < n; i++) {
        if (members[i].id == id) {
            *member = members[i];
            return members[i].port != 0;
        }
    }
    return false;
}

void member_name(struct node *node, uint64_t id, char name[NODE_NAME_LEN + 1])
{
    const uint8_t *uuid = node_cluster_uuid(node);
    (void)snprintf(name, NODE_NAME_LEN + 1, "%016" PRIx64, id);
    for (size_t i = 0; i < (NODE_NAME_LEN - 16) / 2; i++) {
        (void)snprintf(name + 16 + 2 * i, 3, "%02x", uuid[i]);
    }
}
