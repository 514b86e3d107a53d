/* LOCKSTEP MEMBER and LOCKSTEP JOIN: changing who belongs to the cluster. docs/OPERATIONS.md, section
 * Membership. Changes are taken by the leader; the others say who that is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/lockstepd/join.h"
#include "cmd/lockstepd/members.h"
#include "cmd/lockstepd/session.h"

static void not_leader(struct call *call)
{
    struct node *node = call->session->owner->node;
    const uint64_t leader = replica_leader(node_replica(node));
    struct member member;

    if (leader != 0 && leader != call->session->owner->config->id && member_find(node, leader, &member)) {
        call_error(call, "NOTLEADER node %" PRIu64 " leads: ask %s:%u", leader, member.host, member.port);
    } else {
        call_error(call, "CLUSTERDOWN no leader is ready: try again");
    }
}

static void reply_status(struct call *call, enum replica_status status, const char *why)
{
    switch (status) {
    case REPLICA_OK:
        call_ok(call);
        return;
    case REPLICA_NOT_LEADER:
        not_leader(call);
        return;
    case REPLICA_BUSY:
        call_error(call, "TRYAGAIN %s", why[0] != '\0' ? why : "a transfer of leadership is under way");
        return;
    default:
        call_error(call, "ERR %s", why[0] != '\0' ? why : replica_strerror(status));
    }
}

static bool id_argument(struct call *call, unsigned at, uint64_t *id)
{
    int64_t number;

    if (!argument_integer(call->argv[at], &number) || number <= 0) {
        call_error(call, "ERR a node id is a whole number above 0");
        return false;
    }
    *id = (uint64_t)number;
    return true;
}

/* Two members at one address would take each other's links. On the leader, which alone knows all members. */
static bool is_free(struct call *call, const struct config_member *wanted)
{
    struct replica_info info;
    struct member members[REPLICA_SERVERS_MAX];
    const unsigned n = members_get(call->session->owner->node, &info, members);

    if (wanted->port == wanted->peer_port) {
        call_error(call, "ERR the port for clients and the one for nodes must differ");
        return false;
    }
    for (unsigned i = 0; i < n && info.role == REPLICA_LEADER; i++) {
        struct config_member other = {.port = members[i].port, .peer_port = members[i].peer_port};
        (void)snprintf(other.host, sizeof other.host, "%s", members[i].host);
        if (members[i].id != wanted->id && config_members_clash(&other, wanted)) {
            call_error(call, "ERR the address is in use by node %" PRIu64 ": %s:%u:%u", members[i].id, other.host,
                       other.port, other.peer_port);
            return false;
        }
    }
    return true;
}

/* "HOST:PORT[:PEERPORT]" of node `id`, as the configuration stores it. */
static bool address_argument(struct call *call, unsigned at, uint64_t id, char address[REPLICA_ADDRESS_MAX + 1])
{
    char text[200], line[220], error[CONFIG_ERROR_MAX];
    struct config_member m;

    if (!argument_text(call->argv[at], text, sizeof text)) {
        call_error(call, "ERR the address is too long");
        return false;
    }
    (void)snprintf(line, sizeof line, "1 %s", text);
    if (!config_parse_member(line, &m, error)) {
        call_error(call, "ERR '%.100s' is not HOST:PORT[:PEERPORT]", text);
        return false;
    }
    (void)snprintf(address, REPLICA_ADDRESS_MAX + 1, strchr(m.host, ':') != NULL ? "[%s]:%u,[%s]:%u" : "%s:%u,%s:%u",
                   m.host, m.peer_port, m.host, m.port);
    m.id = id;
    return is_free(call, &m);
}

static void list(struct call *call)
{
    struct replica_info info;
    struct member members[REPLICA_SERVERS_MAX];
    const unsigned n = members_get(call->session->owner->node, &info, members);

    resp_write_array(call->out, n);
    for (unsigned i = 0; i < n; i++) {
        const struct member *m = &members[i];
        char line[400];
        (void)snprintf(line, sizeof line, "%" PRIu64 " %s:%u:%u %s%s%s", m->id, m->host, m->port, m->peer_port,
                       m->voter ? "voter" : "learner", m->leader ? " leader" : "",
                       info.configuration_committed ? "" : " pending");
        call_bulk_text(call, line);
    }
}

/* What the replica would refuse too, with what only this layer knows. True: answered. */
static bool refused_early(struct call *call, enum replica_change_kind kind, uint64_t id)
{
    struct node *node = call->session->owner->node;
    struct replica_info info;
    struct member m;

    replica_info(node_replica(node), &info);
    if (info.role != REPLICA_LEADER) {
        return false;
    }
    const bool is_member = member_find(node, id, &m);
    if (kind == REPLICA_ADD_LEARNER && !is_member && id < info.next_id) {
        call_error(call, "ERR the id, or a larger one, is or was in use, and an id is never used again: give %" PRIu64,
                   info.next_id);
        return true;
    }
    if (kind == REPLICA_PROMOTE && is_member && !m.voter && !m.connected) {
        call_error(
            call,
            "ERR it is not connected: the leader can't reach its port for nodes, %s:%u. Does it run, and is that "
            "the address? If not: MEMBER ADDRESS",
            m.host, m.peer_port);
        return true;
    }
    return false;
}

void run_lockstep_member(struct call *call)
{
    static const struct {
        const char *word;
        enum replica_change_kind kind;
        unsigned argc;
    } changes[] = {
        {"add", REPLICA_ADD_LEARNER, 5}, {"promote", REPLICA_PROMOTE, 4},   {"demote", REPLICA_DEMOTE, 4},
        {"remove", REPLICA_REMOVE, 4},   {"address", REPLICA_READDRESS, 5},
    };
    char address[REPLICA_ADDRESS_MAX + 1] = "";
    const char *why = "";
    uint64_t id;

    if (argument_is(call->argv[2], "list") && call->argc == 3) {
        list(call);
        return;
    }
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        if (!argument_is(call->argv[2], changes[i].word) || call->argc != changes[i].argc) {
            continue;
        }
        if (!id_argument(call, 3, &id) || (call->argc == 5 && !address_argument(call, 4, id, address))) {
            return;
        }
        if (refused_early(call, changes[i].kind, id)) {
            return;
        }
        const enum replica_status status =
            replica_change(node_replica(call->session->owner->node), changes[i].kind, id, address, &why);
        reply_status(call, status, why);
        return;
    }
    call_error(call,
               "ERR LOCKSTEP MEMBER ADD id host:port[:peerport] | PROMOTE id | DEMOTE id | REMOVE id | ADDRESS id "
               "host:port[:peerport] | LIST");
}

/* LOCKSTEP UPGRADE [level]: the feature level, from now on; it is in force when no change is pending any more. */
void run_lockstep_upgrade(struct call *call)
{
    struct replica *replica = node_replica(call->session->owner->node);
    char why[REPLICA_WHY_MAX] = "";
    int64_t level = 0;

    if (call->argc > 3) {
        reply_wrong_arity(call->out, "lockstep|upgrade");
        return;
    }
    if (call->argc == 3 && (!argument_integer(call->argv[2], &level) || level <= 0 || level > UINT32_MAX)) {
        call_error(call, "ERR a feature level is a whole number above 0");
        return;
    }
    reply_status(call, replica_upgrade(replica, (uint32_t)level, why), why);
}

void run_lockstep_join(struct call *call)
{
    struct sessions *owner = call->session->owner;
    char text[JOIN_TEXT_MAX];
    const size_t len = join_format(owner->config, node_cluster_uuid(owner->node), text);

    resp_write_bulk(call->out, text, len);
}
