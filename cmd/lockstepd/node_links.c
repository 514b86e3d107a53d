#include "cmd/lockstepd/node_links.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/configuration.h"
#include "consensus/message.h"

/* Hello, docs/FORMATS.md section Links. */
struct wire_hello {
    char magic[8];
    uint32_t version, reserved;
    uint8_t cluster[16];
    uint64_t id, incarnation;
    uint64_t peer; /* who is meant; 0 if the answer to a connection */
    uint32_t election_timeout_ms, heartbeat_ms, rho_ppm, feature_level;
    char address[128]; /* where the sender can be dialled, with NUL ... */
    uint32_t peer_port, reserved2;
};
static_assert(sizeof(struct wire_hello) == 208, "wire format");

static const char hello_magic[8] = "LOCKSTEP";
/* Begins the refusal of a removed node, which acts on it. */
#define REMOVED "removed: "
/* A removed node's commands are taken for longer than it passes them on, so that all of them are answered. */
#define DEPART_MS (2u * REPLICA_REMOVED_GRACE_MS)
#define HELLO_VERSION 2u
/* A frame holds one APPEND of one largest entry, or one forwarded command of that size. */
#define FRAME_BYTES_MIN (80u * 1024 * 1024)

struct node_links {
    struct node_links_config config;
    struct peers *peers;
    struct linked {
        uint64_t id;
        uint64_t until_ms;             /* a removed one, whose commands are still taken: until then; 0: a member */
    } linked[2 * REPLICA_SERVERS_MAX]; /* whom we dial */
    unsigned n_linked;
    struct stranger {
        uint64_t id;
        char host[128];
        unsigned port;
    } strangers[REPLICA_SERVERS_MAX]; /* to be dialled at the end of the turn: they know us, our log does not know them
                                       */
    unsigned n_strangers;
    bool listening;
    bool departing; /* some of `linked` are removed ones, or this node is */
    bool refused;   /* a member says that this node was removed */
    char why[160];
};

/* Addresses come from the configuration file where it names the member (so that an address can change), else from the
 * replicated configuration. */
static bool address_of(const struct config *config, const struct replica_server *server, char host[128], unsigned *port)
{
    for (unsigned i = 0; i < config->n_members; i++) {
        if (config->members[i].id == server->id) {
            (void)snprintf(host, 128, "%s", config->members[i].host);
            *port = config->members[i].peer_port;
            return true;
        }
    }
    return sscanf(server->address, "[%127[^]]]:%u", host, port) == 2 ||
           sscanf(server->address, "%127[^:]:%u", host, port) == 2;
}

static uint64_t random_cb(void *ctx)
{
    struct node_links *l = ctx;

    return l->config.env->ops->random(l->config.env);
}

/* Where others reach this node: as the configuration says, else as it listens. */
static void own_address(const struct node_links *l, char host[128], uint32_t *port)
{
    struct replica_info info;
    unsigned number = l->config.config->peer_port;

    (void)snprintf(host, 128, "%s", l->config.config->bind);
    replica_info(l->config.replica, &info);
    for (unsigned i = 0; i < info.n_servers; i++) {
        if (info.servers[i].id == l->config.config->id) {
            (void)address_of(l->config.config, &info.servers[i], host, &number);
        }
    }
    *port = number;
}

static size_t hello_cb(void *ctx, uint64_t peer_id, void *buf, size_t capacity)
{
    struct node_links *l = ctx;
    struct wire_hello h = {.version = HELLO_VERSION,
                           .id = l->config.config->id,
                           .incarnation = replica_incarnation(l->config.replica),
                           .peer = peer_id,
                           .election_timeout_ms = l->config.config->election_timeout_ms,
                           .heartbeat_ms = l->config.config->heartbeat_ms,
                           .rho_ppm = l->config.config->clock_rate_error_ppm};
    struct replica_info info;

    assert(capacity >= sizeof h);
    replica_info(l->config.replica, &info);
    h.feature_level = info.feature_level_max;
    memcpy(h.magic, hello_magic, sizeof h.magic);
    memcpy(h.cluster, l->config.cluster, sizeof h.cluster);
    own_address(l, h.address, &h.peer_port);
    memcpy(buf, &h, sizeof h);
    return sizeof h;
}

static bool is_member(struct node_links *l, uint64_t id)
{
    struct replica_info info;

    replica_info(l->config.replica, &info);
    for (unsigned i = 0; i < info.n_servers; i++) {
        if (info.servers[i].id == id) {
            return true;
        }
    }
    /* The very first start: the initial configuration is still being written. */
    for (unsigned i = 0; info.n_servers == 0 && i < l->config.config->n_members; i++) {
        if (l->config.config->members[i].id == id) {
            return true;
        }
    }
    return false;
}

/* A change that is not committed may yet be taken back: then nobody has been removed. */
static bool removal_is_final(struct node_links *l)
{
    struct replica_info info;

    replica_info(l->config.replica, &info);
    return info.configuration_committed;
}

/* A server that is not in this log's configuration may have been added since: this node joins, or was away. */
static bool may_be_member(struct node_links *l, uint64_t id)
{
    struct replica_info info;

    replica_info(l->config.replica, &info);
    return id >= info.next_id && (info.n_servers > 0 || l->config.config->joined);
}

static bool is_linked(const struct node_links *l, uint64_t id)
{
    for (unsigned i = 0; i < l->n_linked; i++) {
        if (l->linked[i].id == id) {
            return true;
        }
    }
    return false;
}

static void link_to(struct node_links *l, uint64_t id, const char *host, unsigned port)
{
    if (!is_linked(l, id)) {
        if (l->n_linked == sizeof l->linked / sizeof l->linked[0]) {
            return;
        }
        l->linked[l->n_linked++] = (struct linked){.id = id};
    }
    peers_add(l->peers, id, host, port);
}

static void note_stranger(struct node_links *l, uint64_t id, const char *host, unsigned port)
{
    if (!is_linked(l, id) && l->n_strangers < REPLICA_SERVERS_MAX && host[0] != 0 && port != 0) {
        struct stranger *s = &l->strangers[l->n_strangers++];
        s->id = id;
        s->port = port;
        (void)snprintf(s->host, sizeof s->host, "%s", host);
    }
}

static bool is_needed_cb(void *ctx, uint64_t id)
{
    return is_member(ctx, id) || may_be_member(ctx, id);
}

/* A node that comes back with another incarnation has lost its data: its votes and its log are not what it promised.
 * NULL: it has not. */
static const char *judge_disk(struct node_links *l, uint64_t id, uint64_t incarnation)
{
    switch (known_nodes_meet(l->config.known, id, incarnation, is_needed_cb, l)) {
    case KNOWN_NODES_OK:
        return NULL;
    case KNOWN_NODES_OTHER:
        return "its data directory is not the one it had: a node that lost its data is removed, and joins "
               "under a fresh id with an empty directory";
    case KNOWN_NODES_NO_MEMORY:
        return "this node has met too many others";
    case KNOWN_NODES_IO:
    default:
        (void)snprintf(l->why, sizeof l->why, "it is new here, and that can't be noted in the data directory: %s",
                       strerror(errno));
        return l->why;
    }
}

static uint64_t judge_cb(void *ctx, uint64_t expected_id, const void *hello, size_t len, const char **why)
{
    struct node_links *l = ctx;
    struct wire_hello h;

    *why = NULL;
    if (len != sizeof h) {
        *why = "it is not a Lockstep node";
        return 0;
    }
    memcpy(&h, hello, sizeof h);
    if (memcmp(h.magic, hello_magic, sizeof h.magic) != 0) {
        *why = "it is not a Lockstep node";
    } else if (h.version != HELLO_VERSION) {
        *why = "it speaks another version of the peer protocol";
    } else if (memcmp(h.cluster, l->config.cluster, sizeof h.cluster) != 0) {
        *why = "it belongs to another cluster: check cluster-name and the members on both nodes";
    } else if (h.election_timeout_ms != l->config.config->election_timeout_ms ||
               h.heartbeat_ms != l->config.config->heartbeat_ms ||
               h.rho_ppm != l->config.config->clock_rate_error_ppm) {
        (void)snprintf(
            l->why, sizeof l->why,
            "it runs with election-timeout %u, heartbeat %u, clock-rate-error %u, this node with %u, %u, %u: "
            "all nodes of a cluster must agree",
            h.election_timeout_ms, h.heartbeat_ms, h.rho_ppm, l->config.config->election_timeout_ms,
            l->config.config->heartbeat_ms, l->config.config->clock_rate_error_ppm);
        *why = l->why;
    } else if (h.peer != 0 && h.peer != l->config.config->id) {
        *why = "it looks for another node at this address: check its member lines";
    } else if (expected_id != 0 && h.id != expected_id) {
        *why = "another node answers at this member's address: check the member lines";
    } else if (h.id == l->config.config->id) {
        *why = "it uses this node's own id: give every node its own";
    } else if (!is_member(l, h.id) && !may_be_member(l, h.id)) {
        *why = removal_is_final(l) ? REMOVED
                   "it was removed from this cluster, or never belonged to it: its id is not used again, let "
                   "it join under a fresh one with an empty directory"
                                   : "it is being removed from this cluster";
    } else if (h.feature_level < replica_feature_level(l->config.replica)) {
        (void)snprintf(l->why, sizeof l->why,
                       "it understands feature level %u, and the cluster runs at %u: run a newer version on it",
                       h.feature_level, replica_feature_level(l->config.replica));
        *why = l->why;
    } else if (memchr(h.address, 0, sizeof h.address) == NULL || h.peer_port > 65535) {
        *why = "its address is malformed";
    } else {
        *why = judge_disk(l, h.id, h.incarnation);
    }
    if (*why == NULL) {
        replica_peer_supports(l->config.replica, h.id, h.feature_level);
    }
    if (*why == NULL && !is_member(l, h.id)) {
        note_stranger(l, h.id, h.address, h.peer_port);
    }
    return *why == NULL ? h.id : 0;
}

static bool frame_cb(void *ctx, uint64_t peer_id, uint64_t connection, const void *frame, size_t len)
{
    struct node_links *l = ctx;
    const uint8_t *bytes = frame;

    if (len == 0) {
        return false;
    }
    if (bytes[0] == MESSAGE_CHANNEL) {
        return replica_receive(l->config.replica, peer_id, connection, frame, len);
    }
    if (bytes[0] == EXECUTOR_CHANNEL) {
        return executor_receive(l->config.executor, peer_id, frame, len);
    }
    return false;
}

static void state_cb(void *ctx, uint64_t peer_id, bool connected)
{
    struct node_links *l = ctx;
    char text[64];

    (void)snprintf(text, sizeof text, "link to node %llu %s", (unsigned long long)peer_id, connected ? "up" : "down");
    l->config.log(l->config.ctx, 2, text);
    replica_peer_state(l->config.replica, peer_id, connected);
    executor_peer_state(l->config.executor, peer_id, connected);
}

static void refused_cb(void *ctx, uint64_t peer_id, const char *why)
{
    struct node_links *l = ctx;

    (void)peer_id;
    if (strncmp(why, REMOVED, sizeof REMOVED - 1) == 0) {
        l->refused = true; /* the links follow at the end of the turn */
    }
}

static void log_cb(void *ctx, int level, const char *text)
{
    struct node_links *l = ctx;

    l->config.log(l->config.ctx, level, text);
}

struct node_links *node_links_new(const struct node_links_config *config, const char **error)
{
    struct node_links *l = calloc(1, sizeof *l);
    struct replica_info info;
    struct peers_config pc = {.loop = config->loop,
                              .ctx = l,
                              .random = random_cb,
                              .hello = hello_cb,
                              .judge = judge_cb,
                              .frame = frame_cb,
                              .state = state_cb,
                              .refused = refused_cb,
                              .log = log_cb};

    *error = "out of memory";
    if (l == NULL) {
        return NULL;
    }
    l->config = *config;
    pc.frame_bytes_max = config->config->entry_bytes_max + 16 * 1024 * 1024;
    if (pc.frame_bytes_max < FRAME_BYTES_MIN) {
        pc.frame_bytes_max = FRAME_BYTES_MIN;
    }
    pc.queue_bytes_max = 64 * 1024 * 1024;
    pc.backoff_min_ms = 20;
    pc.backoff_max_ms = 1000;
    pc.idle_ms = 10000;
    l->peers = peers_new(&pc);
    if (l->peers == NULL) {
        free(l);
        return NULL;
    }
    replica_info(config->replica, &info);
    l->listening = info.n_servers > 1 || config->config->n_members > 1 || config->config->joined;
    if (l->listening) {
        if (peers_listen(l->peers, config->config->bind, config->config->peer_port, error) != 0) {
            return l; /* the caller sees *error and closes */
        }
    }
    *error = NULL;
    for (unsigned i = 0; i < config->config->n_members; i++) {
        const struct config_member *m = &config->config->members[i];
        if (m->id != config->config->id) {
            link_to(l, m->id, m->host, m->peer_port);
        }
    }
    for (unsigned i = 0; i < info.n_servers; i++) {
        char host[128];
        unsigned port;
        if (info.servers[i].id != config->config->id && address_of(config->config, &info.servers[i], host, &port)) {
            link_to(l, info.servers[i].id, host, port);
        }
    }
    return l;
}

static void drop_link(struct node_links *l, unsigned i)
{
    const uint64_t id = l->linked[i].id;

    l->linked[i] = l->linked[--l->n_linked];
    peers_remove(l->peers, id);
    replica_peer_state(l->config.replica, id, false);
    executor_peer_state(l->config.executor, id, false);
}

/* Removed servers lose their links, but not at once: their clients' commands are still answered. A link to somebody
 * newer than this log stays. */
static void note_departed(struct node_links *l, const struct replica_info *info)
{
    for (unsigned i = 0; i < l->n_linked; i++) {
        struct linked *linked = &l->linked[i];
        if (linked->id >= info->next_id || is_member(l, linked->id)) {
            linked->until_ms = 0; /* a change may have been taken back */
        } else if (linked->until_ms == 0) {
            linked->until_ms = uv_now(l->config.loop) + DEPART_MS;
            l->departing = true;
        }
    }
}

/* A link that breaks is not dialled again, neither to a removed node nor by one. */
static void drop_departed(struct node_links *l)
{
    const bool removed = replica_is_removed(l->config.replica);

    l->departing = removed;
    for (unsigned i = 0; i < l->n_linked;) {
        const struct linked *linked = &l->linked[i];
        if (linked->until_ms == 0 && !removed) {
            i++;
        } else if (!peers_connected(l->peers, linked->id) ||
                   (linked->until_ms != 0 && uv_now(l->config.loop) >= linked->until_ms)) {
            drop_link(l, i);
        } else {
            l->departing = true;
            i++;
        }
    }
}

void node_links_update(struct node_links *l, bool changed)
{
    struct replica_info info;
    const char *error = NULL;

    if (l->peers == NULL) {
        return;
    }
    for (unsigned i = 0; i < l->n_strangers && !replica_is_removed(l->config.replica); i++) {
        link_to(l, l->strangers[i].id, l->strangers[i].host, l->strangers[i].port);
    }
    l->n_strangers = 0;
    if (l->refused) {
        l->refused = false;
        replica_set_removed(l->config.replica);
    }
    if (l->departing || replica_is_removed(l->config.replica)) {
        drop_departed(l);
    }
    if (!changed) {
        return;
    }
    replica_info(l->config.replica, &info);
    if (info.n_servers > 1 && !l->listening) {
        l->listening = true;
        if (peers_listen(l->peers, l->config.config->bind, l->config.config->peer_port, &error) != 0) {
            l->config.log(l->config.ctx, 0,
                          "the peer port can't be listened on: start this node again when it is free");
        }
    }
    for (unsigned i = 0; i < info.n_servers; i++) {
        char host[128];
        unsigned port;
        if (info.servers[i].id != l->config.config->id && address_of(l->config.config, &info.servers[i], host, &port)) {
            link_to(l, info.servers[i].id, host, port);
        }
    }
    note_departed(l, &info);
}

bool node_links_send(struct node_links *l, uint64_t peer, const struct iovec *pieces, unsigned n)
{
    return l->peers != NULL && peers_send(l->peers, peer, pieces, n); /* NULL: closing, and the log still writes */
}

uint64_t node_links_bytes(const struct node_links *l, uint64_t peer)
{
    return l->peers != NULL ? peers_queue_bytes(l->peers, peer) : 0;
}

void node_links_flush(struct node_links *l)
{
    if (l->peers != NULL) {
        peers_flush(l->peers);
    }
}

void node_links_close(struct node_links *l, void (*closed)(void *ctx), void *ctx)
{
    struct peers *peers = l->peers;

    l->peers = NULL;
    peers_close(peers, closed, ctx);
}

void node_links_free(struct node_links *l)
{
    free(l);
}
