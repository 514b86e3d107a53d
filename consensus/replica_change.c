/* Membership: one server at a time is added, promoted, demoted, removed or given another address, by a configuration
 * entry (thesis section 4.1). The order of the others is kept, since the core keeps progress by position. Ids are never
 * used again: the configuration remembers the next free one. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/replica_internal.h"

/* A learner this close to the end of the log may become a voter. It also has to hold the entry that added it: a node
 * whose log does not name it can't vote. */
#define CAUGHT_UP_ENTRIES 1024u

static struct replica_server *find(struct replica_server *servers, unsigned n, uint64_t id)
{
    for (unsigned i = 0; i < n; i++) {
        if (servers[i].id == id) {
            return &servers[i];
        }
    }
    return NULL;
}

static bool is_healthy(struct replica *r, uint64_t id)
{
    const struct replica_peer *peer = replica_peer_by_id(r, id);
    const uint64_t now_us = r->env->ops->now_us(r->env);

    return id == r->config.id || (peer != NULL && peer->connected && peer->echo_us != 0 &&
                                  now_us - peer->echo_us < (uint64_t)r->config.election_timeout_ms * 1000);
}

/* Would the cluster still be able to commit after the change, as things stand now? */
static bool keeps_quorum(struct replica *r, const struct replica_server *servers, unsigned n)
{
    unsigned voters = 0, healthy = 0;

    for (unsigned i = 0; i < n; i++) {
        if (servers[i].voter) {
            voters++;
            healthy += is_healthy(r, servers[i].id);
        }
    }
    return voters > 0 && healthy > voters / 2;
}

static enum replica_status refuse(const char **why, const char *text)
{
    *why = text;
    return REPLICA_CONFIG;
}

static enum replica_status add(struct replica *r, uint64_t id, const char *address, struct replica_server *servers,
                               unsigned *n, const char **why)
{
    if (*n == REPLICA_SERVERS_MAX) {
        return refuse(why, "the cluster has as many members as it can have");
    }
    if (id < r->next_id) {
        return refuse(why, "the id is or was in use: an id is never used again; give a larger one");
    }
    if (strlen(address) > REPLICA_ADDRESS_MAX) {
        return refuse(why, "the address is too long");
    }
    servers[*n].id = id;
    servers[*n].voter = false;
    (void)snprintf(servers[*n].address, sizeof servers[*n].address, "%s", address);
    (*n)++;
    return REPLICA_OK;
}

static enum replica_status promote(struct replica *r, struct replica_server *server, const char **why)
{
    raft_index match = 0;

    if (server->voter) {
        return refuse(why, "it is a voter already");
    }
    if (!is_healthy(r, server->id) || raft_match_index(&r->core, server->id, &match) != 0 ||
        match < r->core.configuration_committed_index || match + CAUGHT_UP_ENTRIES < wal_last(r->wal)) {
        return refuse(why, "it has not caught up with the log yet: wait until its lag is small, then promote it");
    }
    const struct replica_peer *peer = replica_peer_by_id(r, server->id);
    if (peer != NULL && peer->differs) {
        return refuse(why, "its content differs from the others': start it again, see its log");
    }
    server->voter = true;
    return REPLICA_OK;
}

/* The servers as they will be. */
static enum replica_status edit(struct replica *r, enum replica_change_kind kind, uint64_t id, const char *address,
                                struct replica_server *servers, unsigned *n, const char **why)
{
    struct replica_server *server = find(servers, *n, id);

    if (kind == REPLICA_ADD_LEARNER) {
        return server != NULL ? refuse(why, "it is a member already") : add(r, id, address, servers, n, why);
    }
    if (server == NULL) {
        return refuse(why, "it is not a member of this cluster");
    }
    switch (kind) {
    case REPLICA_PROMOTE:
        return promote(r, server, why);
    case REPLICA_DEMOTE:
        if (!server->voter) {
            return refuse(why, "it is a learner already");
        }
        server->voter = false;
        return REPLICA_OK;
    case REPLICA_REMOVE:
        memmove(server, server + 1, (size_t)(servers + *n - (server + 1)) * sizeof *server);
        (*n)--;
        return REPLICA_OK;
    case REPLICA_READDRESS:
        if (strlen(address) > REPLICA_ADDRESS_MAX) {
            return refuse(why, "the address is too long");
        }
        (void)snprintf(server->address, sizeof server->address, "%s", address);
        return REPLICA_OK;
    default:
        return refuse(why, "unknown change");
    }
}

enum replica_status replica_configuration_encode(const struct replica_server *servers, unsigned n,
                                                 const struct configuration_settings *settings, void **data,
                                                 size_t *len)
{
    struct raft_configuration conf;
    struct raft_buffer buf;

    raft_configuration_init(&conf);
    for (unsigned i = 0; i < n; i++) {
        if (raft_configuration_add(&conf, servers[i].id, servers[i].address,
                                   servers[i].voter ? RAFT_VOTER : RAFT_STANDBY) != 0) {
            raft_configuration_close(&conf);
            return REPLICA_CONFIG;
        }
    }
    const int rv = raft_configuration_encode(&conf, &buf);
    raft_configuration_close(&conf);
    if (rv != 0) {
        return REPLICA_NO_MEMORY;
    }
    *len = buf.len + CONFIGURATION_SETTINGS_BYTES;
    uint8_t *bytes = malloc(*len);
    if (bytes != NULL) {
        memcpy(bytes, buf.base, buf.len);
        configuration_settings_encode(settings, bytes + buf.len);
    }
    raft_free(buf.base);
    *data = bytes;
    return bytes != NULL ? REPLICA_OK : REPLICA_NO_MEMORY;
}

static bool is_busy(struct replica *r, const char **why)
{
    if (PLANT(PLANT_TWO_CHANGES)) {
        r->core.configuration_uncommitted_index = 0;
    }
    if (r->core.configuration_uncommitted_index != 0 || r->transfer_deadline_us != 0 ||
        raft_transferee(&r->core) != 0) {
        *why = "another change or a transfer of leadership is under way: try again";
        return true;
    }
    return false;
}

enum replica_status replica_change_submit(struct replica *r, const struct replica_server *servers, unsigned n,
                                          const struct configuration_settings *settings, const char **why)
{
    struct raft_entry entry = {.type = RAFT_CHANGE, .term = r->core.current_term};
    struct raft_event event = {.type = RAFT_SUBMIT};

    if (is_busy(r, why)) {
        return REPLICA_BUSY;
    }
    const enum replica_status encoded =
        replica_configuration_encode(servers, n, settings, &entry.buf.base, &entry.buf.len);
    if (encoded != REPLICA_OK) {
        *why = encoded == REPLICA_CONFIG ? "the address is in use by another member" : "out of memory";
        return encoded;
    }
    entry.batch = entry.buf.base;
    event.submit.entries = &entry;
    event.submit.n = 1;
    if (replica_step(r, &event, REPLICA_FROM_CALLER) != 0) {
        if (!r->dead) {
            free(entry.buf.base);
        }
        *why = "the core refused the change";
        return REPLICA_BUSY;
    }
    replica_settle(r);
    return REPLICA_OK;
}

/* What is proposed behind its removal a node never gets, and nothing of that is exposed while it holds a grant. So it
 * shall hold none by then: it gets no other, and those who ask again find it ended. */
static bool holds_grant(struct replica *r, uint64_t id)
{
    const uint64_t now_us = r->env->ops->now_us(r->env);

    lease_withhold(&r->lease, id, now_us + 2000 * (uint64_t)r->config.election_timeout_ms);
    return lease_grant_until(&r->lease, id) > now_us && !PLANT(PLANT_REMOVE_GRANTEE);
}

enum replica_status replica_change(struct replica *r, enum replica_change_kind kind, uint64_t id, const char *address,
                                   const char **why)
{
    struct replica_server servers[REPLICA_SERVERS_MAX];
    unsigned n = r->n_servers;
    struct configuration_settings settings = replica_own_settings(r);

    *why = "";
    if (r->dead || !replica_is_leader(r)) {
        return REPLICA_NOT_LEADER;
    }
    if (is_busy(r, why)) {
        return REPLICA_BUSY;
    }
    memcpy(servers, r->servers, n * sizeof servers[0]);
    const enum replica_status status = edit(r, kind, id, address, servers, &n, why);
    if (status != REPLICA_OK) {
        return status;
    }
    if (!keeps_quorum(r, servers, n)) {
        return refuse(why, "too few of the voters that would remain answer now: the cluster could not commit anything "
                           "any more; bring more of them up, or add and promote others, first");
    }
    if (id == r->config.id && (kind == REPLICA_DEMOTE || kind == REPLICA_REMOVE)) {
        return refuse(why, "it leads: hand leadership to another node first"); /* last: nobody hands over in vain */
    }
    if (kind == REPLICA_REMOVE && holds_grant(r, id)) {
        *why = "it reads under a grant, which is not renewed from now on: ask again in a moment";
        return REPLICA_BUSY;
    }
    settings.next_id = kind == REPLICA_ADD_LEARNER ? id + 1 : r->next_id;
    const enum replica_status submitted = replica_change_submit(r, servers, n, &settings, why);
    if (submitted == REPLICA_OK) {
        replica_log(r, 2, "changing the configuration: %s node %llu", replica_change_name(kind),
                    (unsigned long long)id);
    }
    return submitted;
}

const char *replica_change_name(enum replica_change_kind kind)
{
    static const char *const names[] = {
        [REPLICA_ADD_LEARNER] = "add", [REPLICA_PROMOTE] = "promote",          [REPLICA_DEMOTE] = "demote",
        [REPLICA_REMOVE] = "remove",   [REPLICA_READDRESS] = "new address of",
    };
    return names[kind];
}

bool replica_change_pending(const struct replica *r)
{
    return r->started && r->core.configuration_uncommitted_index != 0;
}
