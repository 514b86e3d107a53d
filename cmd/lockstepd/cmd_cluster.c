/* CLUSTER: the cluster in the words of Redis Cluster, for clients that ask before they route: the leader is the primary
 * of all slots, every other member a replica of it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/lockstepd/keyslot.h"
#include "cmd/lockstepd/members.h"
#include "cmd/lockstepd/session.h"

struct view {
    struct replica_info info;
    struct member members[REPLICA_SERVERS_MAX];
    char names[REPLICA_SERVERS_MAX][NODE_NAME_LEN + 1];
    unsigned n;
    const struct member *leader; /* NULL: unknown */
};

/* A node that listens on all addresses is told to clients under the one they used. */
static void replace_wildcard(struct member *member, struct conn *conn)
{
    if (strcmp(member->host, "0.0.0.0") != 0 && strcmp(member->host, "::") != 0) {
        return;
    }
    const char *local = conn_local_name(conn);
    const char *colon = strrchr(local, ':');
    size_t len = colon != NULL ? (size_t)(colon - local) : strlen(local);
    if (len > 1 && local[0] == '[' && local[len - 1] == ']') {
        local++;
        len -= 2;
    }
    (void)snprintf(member->host, sizeof member->host, "%.*s", (int)len, local);
}

static void view_get(struct call *call, struct view *view)
{
    struct node *node = call->session->owner->node;
    view->n = members_get(node, &view->info, view->members);
    view->leader = NULL;
    for (unsigned i = 0; i < view->n; i++) {
        member_name(node, view->members[i].id, view->names[i]);
        if (view->members[i].self) {
            replace_wildcard(&view->members[i], call->session->conn);
        }
        if (view->members[i].leader) {
            view->leader = &view->members[i];
        }
    }
}

/* Does this node know how far that one is? Only the leader does, of all. */
static bool member_healthy(const struct view *view, const struct member *member)
{
    return member->self || member->leader || view->info.role != REPLICA_LEADER || member->connected;
}

static void run_info(struct call *call)
{
    struct view view;
    struct resp_buffer text;
    view_get(call, &view);
    unsigned covered = view.leader != NULL ? KEY_SLOTS : 0;
    resp_buffer_init(&text);
    buffer_printf(&text, "cluster_state:%s\r\ncluster_slots_assigned:%u\r\ncluster_slots_ok:%u\r\n",
                  view.leader != NULL ? "ok" : "fail", KEY_SLOTS, covered);
    buffer_printf(&text, "cluster_slots_pfail:0\r\ncluster_slots_fail:%u\r\ncluster_known_nodes:%u\r\n",
                  KEY_SLOTS - covered, view.n);
    buffer_printf(&text, "cluster_size:1\r\ncluster_current_epoch:%" PRIu64 "\r\ncluster_my_epoch:%" PRIu64 "\r\n",
                  view.info.term, view.info.term);
    buffer_printf(&text, "cluster_stats_messages_sent:%" PRIu64 "\r\ncluster_stats_messages_received:%" PRIu64 "\r\n",
                  view.info.frames_sent, view.info.frames_received);
    buffer_printf(&text, "total_cluster_links_buffer_limit_exceeded:0\r\n");
    call_text(call, &text);
    resp_buffer_fini(&text);
}

static void slots_node(struct call *call, const struct view *view, const struct member *member)
{
    resp_write_array(call->out, 4);
    call_bulk_text(call, member->host);
    resp_write_integer(call->out, member->port);
    call_bulk_text(call, view->names[member - view->members]);
    resp_write_array(call->out, 0);
}

static void run_slots(struct call *call)
{
    struct view view;
    view_get(call, &view);
    if (view.leader == NULL) {
        resp_write_array(call->out, 0);
        return;
    }
    resp_write_array(call->out, 1);
    resp_write_array(call->out, 2 + view.n);
    resp_write_integer(call->out, 0);
    resp_write_integer(call->out, KEY_SLOTS - 1);
    slots_node(call, &view, view.leader);
    for (unsigned i = 0; i < view.n; i++) {
        if (&view.members[i] != view.leader) {
            slots_node(call, &view, &view.members[i]);
        }
    }
}

static void shards_node(struct call *call, const struct view *view, const struct member *member)
{
    resp_write_map(call->out, call->proto, 7);
    call_bulk_text(call, "id");
    call_bulk_text(call, view->names[member - view->members]);
    call_bulk_text(call, "port");
    resp_write_integer(call->out, member->port);
    call_bulk_text(call, "ip");
    call_bulk_text(call, member->host);
    call_bulk_text(call, "endpoint");
    call_bulk_text(call, member->host);
    call_bulk_text(call, "role");
    call_bulk_text(call, member == view->leader ? "master" : "replica");
    call_bulk_text(call, "replication-offset");
    resp_write_integer(call->out, (int64_t)member->match);
    call_bulk_text(call, "health");
    call_bulk_text(call, member_healthy(view, member) ? "online" : "fail");
}

static void run_shards(struct call *call)
{
    struct view view;
    view_get(call, &view);
    resp_write_array(call->out, 1);
    resp_write_map(call->out, call->proto, 2);
    call_bulk_text(call, "slots");
    resp_write_array(call->out, view.leader != NULL ? 2 : 0);
    if (view.leader != NULL) {
        resp_write_integer(call->out, 0);
        resp_write_integer(call->out, KEY_SLOTS - 1);
    }
    call_bulk_text(call, "nodes");
    resp_write_array(call->out, view.n);
    for (unsigned i = 0; i < view.n; i++) {
        shards_node(call, &view, &view.members[i]);
    }
}

static void run_nodes(struct call *call)
{
    struct view view;
    struct resp_buffer text;
    view_get(call, &view);
    resp_buffer_init(&text);
    for (unsigned i = 0; i < view.n; i++) {
        const struct member *m = &view.members[i];
        const char *primary = m != view.leader && view.leader != NULL ? view.names[view.leader - view.members] : "-";
        bool healthy = member_healthy(&view, m);
        buffer_printf(&text, "%s %s:%u@%u %s%s%s %s 0 0 %" PRIu64 " %s%s\n", view.names[i], m->host, m->port,
                      m->peer_port, m->self ? "myself," : "", m == view.leader ? "master" : "slave",
                      healthy ? "" : ",fail", primary, view.info.term, healthy ? "connected" : "disconnected",
                      m == view.leader ? " 0-16383" : "");
    }
    call_text(call, &text);
    resp_buffer_fini(&text);
}

static void run_myid(struct call *call)
{
    char name[NODE_NAME_LEN + 1];
    member_name(call->session->owner->node, call->session->owner->config->id, name);
    call_bulk_text(call, name);
}

static void run_keyslot(struct call *call)
{
    resp_write_integer(call->out, key_slot(call->argv[2].iov_base, call->argv[2].iov_len));
}

static const struct command cluster_subcommands[] = {
    {"info", 2, COMMAND_STALE, "cluster", "3.0.0", "Provides info about Redis Cluster node state", "O(1)", "", run_info,
     NULL},
    {"keyslot", 3, COMMAND_STALE, "cluster", "3.0.0", "Returns the hash slot of the specified key",
     "O(N) where N is the number of bytes in the key", "<key>", run_keyslot, NULL},
    {"myid", 2, COMMAND_STALE, "cluster", "3.0.0", "Return the node id", "O(1)", "", run_myid, NULL},
    {"nodes", 2, COMMAND_STALE, "cluster", "3.0.0", "Get Cluster config for the node",
     "O(N) where N is the total number of Cluster nodes", "", run_nodes, NULL},
    {"shards", 2, COMMAND_STALE, "cluster", "7.0.0", "Get array of cluster slots to node mappings",
     "O(N) where N is the total number of cluster nodes", "", run_shards, NULL},
    {"slots", 2, COMMAND_STALE, "cluster", "3.0.0", "Get array of Cluster slot to node mappings",
     "O(N) where N is the total number of Cluster nodes", "", run_slots, NULL},
    {.name = NULL},
};

const struct command command_family_cluster[] = {
    {"cluster", -2, 0, "cluster", "3.0.0", "A container for cluster commands", "Depends on subcommand.", "", NULL,
     cluster_subcommands},
    {.name = NULL},
};
