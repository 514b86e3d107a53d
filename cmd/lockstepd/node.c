/* Wiring. Start order: env, store, executor, replica, links, client server; stop order is the reverse, each step
 * waiting for the one before:
 *
 *   node_stop: stop listening, end what is outstanding -> close clients -> close links -> close replica -> close env
 *
 * One prepare handle marks the end of a loop turn: the executor proposes and flushes, then the replica confirms reads
 * and writes its log. libuv runs prepare handles last-started first, so this one is started after those of net/, whose
 * sockets are flushed after it, in the same phase. */
#include "cmd/lockstepd/node.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/fsm_snapshot.h"
#include "cmd/lockstepd/identity.h"
#include "cmd/lockstepd/log.h"
#include "cmd/lockstepd/members.h"
#include "cmd/lockstepd/node_links.h"
#include "consensus/env_uv.h"

struct node {
    uv_loop_t *loop;
    struct config *config;
    struct node_sessions sessions;
    struct log *log;
    struct identity identity;
    bool check_address; /* is it the one that the others are told? */
    bool told_loopback;
    struct member told; /* about which other address there was a warning */
    struct env *env;
    struct store *store;
    struct executor *executor;
    struct replica_fsm fsm;
    struct fsm_snapshot fsm_snapshot;
    struct replica_fsm_snapshots fsm_snapshots;
    struct replica *replica;
    struct known_nodes *known;
    struct node_links *links;
    struct server *server;
    uv_prepare_t turn_end;
    uv_timer_t cron;  /* keeps the loop turning every 100 ms: clocks, disk space */
    unsigned handles; /* of turn_end and cron: open */
    bool stopping, servers_changed;
    uint64_t start_ms;
    struct loop_watch watch;
    struct loop_figures snapshot_turns; /* those in which a snapshot was being taken */
};

void node_log(struct node *node, int level, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_write(node->log, level, node->replica != NULL ? replica_term(node->replica) : 0, text);
}

static void log_cb(void *ctx, int level, const char *text)
{
    node_log(ctx, level, "%s", text);
}

/* --- The state machine's vtable ------------------------------------------------------------------------------------
 */

static void fsm_apply(void *ctx, uint64_t index, uint64_t term, const void *data, size_t len, struct proposal *proposal)
{
    struct node *node = ctx;

    (void)term;
    executor_apply(node->executor, index, data, len, proposal);
}

static void fsm_received(void *ctx, uint64_t index, const void *data, size_t len)
{
    executor_received(((struct node *)ctx)->executor, index, data, len);
}

static uint64_t fsm_time_ms(void *ctx)
{
    return store_time_ms(((struct node *)ctx)->store);
}

static uint64_t fsm_digest(void *ctx)
{
    return store_digest(((struct node *)ctx)->store);
}

static void fsm_installed(void *ctx, uint64_t index)
{
    executor_installed(((struct node *)ctx)->executor, index);
}

static uint64_t fsm_entry_time_ms(void *ctx, const void *data, size_t len)
{
    (void)ctx;
    return store_entry_time_ms(data, len);
}

/* --- Events ---------------------------------------------------------------------------------------------------------
 */

static bool send_cb(void *ctx, uint64_t peer_id, const struct iovec *pieces, unsigned n)
{
    struct node *node = ctx;

    return node->links != NULL && node_links_send(node->links, peer_id, pieces, n);
}

static void changed_cb(void *ctx)
{
    struct node *node = ctx;
    struct replica_info info;

    if (node->replica == NULL) {
        return; /* while it opens */
    }
    replica_info(node->replica, &info);
    node_log(node, 2, "%s of term %llu, leader %llu", replica_role_name(info.role), (unsigned long long)info.term,
             (unsigned long long)info.leader);
    executor_changed(node->executor);
    node->check_address = true;
}

static void before_apply_cb(void *ctx)
{
    struct node *node = ctx;

    if (node->links != NULL && !node->stopping) {
        node_links_flush(node->links);
    }
}

/* Possibly inside a frame's callback: the links follow at the end of the turn. */
static void servers_changed_cb(void *ctx)
{
    struct node *node = ctx;

    node->servers_changed = true;
    node->check_address = true;
}

static uint64_t link_bytes_cb(void *ctx, uint64_t peer)
{
    struct node *node = ctx;

    return node->links != NULL ? node_links_bytes(node->links, peer) : 0;
}

static void relieved_cb(void *ctx)
{
    struct node *node = ctx;

    node->sessions.relieved(node->sessions.ctx);
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

/* The others, and clients of CLUSTER and -MOVED, are told the address that the configuration holds. */
static void check_address(struct node *node)
{
    const struct config *c = node->config;
    struct member m;

    node->check_address = false;
    if (!member_find(node, c->id, &m)) {
        return;
    }
    if (is_loopback(c->bind) && !is_loopback(m.host) && !node->told_loopback) {
        node->told_loopback = true;
        node_log(node, 1,
                 "the others are told that this node is at %s, but it listens on %s only: unless something on this "
                 "machine passes connections on, start it with --bind",
                 m.host, c->bind);
    }
    if ((m.port == c->port && m.peer_port == c->peer_port) ||
        (m.port == node->told.port && m.peer_port == node->told.peer_port)) {
        return;
    }
    node->told = m;
    node_log(node, 1,
             "the others are told that this node is at %s, ports %u and %u, but it listens on ports %u and %u: unless "
             "something in between translates them, start it with --port %u --peer-port %u, or tell the cluster where "
             "it is: lockstep member address %llu HOST:%u:%u",
             m.host, m.port, m.peer_port, c->port, c->peer_port, m.port, m.peer_port, (unsigned long long)c->id,
             c->port, c->peer_port);
}

static void turn_end_cb(uv_prepare_t *handle)
{
    struct node *node = handle->data;

    loop_watch_turn(&node->watch, replica_snapshot_is_taken(node->replica) ? &node->snapshot_turns : NULL);
    if (!node->stopping) {
        executor_turn_end(node->executor);
        replica_turn_end(node->replica);
        executor_flush(node->executor);
        if (node->check_address) {
            check_address(node);
        }
        if (node->links != NULL) {
            node_links_update(node->links, node->servers_changed);
            node->servers_changed = false;
            /* Before the replies to clients: they take a system call each, and nobody waits for them to commit. */
            node_links_flush(node->links);
        }
    }
}

static void cron_cb(uv_timer_t *handle)
{
    struct node *node = handle->data;

    (void)store_tidy(node->store); /* the turn itself is the other point */
    loop_watch_tick(&node->watch);
}

/* --- Starting -------------------------------------------------------------------------------------------------------
 */

static void format_address(char *out, size_t capacity, const char *host, unsigned peer_port, unsigned port)
{
    const bool v6 = strchr(host, ':') != NULL;

    (void)snprintf(out, capacity, v6 ? "[%s]:%u,[%s]:%u" : "%s:%u,%s:%u", host, peer_port, host, port);
}

static struct replica_snapshot_config snapshot_config(const struct config *c)
{
    return (struct replica_snapshot_config){
        .log_bytes = c->snapshot_log_bytes,
        .age_s = c->snapshot_age_s,
        .rate = c->snapshot_rate,
        .transfer_rate = c->snapshot_transfer_rate,
        .keep_bytes = c->log_keep_bytes,
    };
}

static int open_replica(struct node *node)
{
    const struct config *c = node->config;
    struct config_member members[REPLICA_SERVERS_MAX];
    struct replica_server servers[REPLICA_SERVERS_MAX];
    const unsigned n_members = identity_members(c, members);
    unsigned n = 0;
    const char *error = NULL;

    memcpy(&node->fsm_snapshot.hash_seed, node->identity.cluster, sizeof node->fsm_snapshot.hash_seed);
    node->fsm_snapshot.store = node->store;
    node->fsm_snapshot.installed = fsm_installed;
    node->fsm_snapshot.ctx = node;
    node->fsm_snapshots = fsm_snapshot_vtable(&node->fsm_snapshot);
    node->fsm = (struct replica_fsm){.ctx = node,
                                     .apply = fsm_apply,
                                     .time_ms = fsm_time_ms,
                                     .digest = fsm_digest,
                                     .received = fsm_received,
                                     .entry_time_ms = fsm_entry_time_ms,
                                     .snapshots = &node->fsm_snapshots};
    for (; n < n_members; n++) {
        servers[n].id = members[n].id;
        servers[n].voter = true;
        format_address(servers[n].address, sizeof servers[n].address, members[n].host, members[n].peer_port,
                       members[n].port);
    }
    if (n == 0 && node->identity.bootstraps) {
        servers[n].id = c->id;
        servers[n].voter = true;
        format_address(servers[n].address, sizeof servers[n].address, c->bind, c->peer_port, c->port);
        n++;
    }
    struct replica_config rc = {.id = c->id,
                                .join = !node->identity.bootstraps,
                                .servers = servers,
                                .n_servers = n,
                                .election_timeout_ms = c->election_timeout_ms,
                                .heartbeat_ms = c->heartbeat_ms,
                                .rho_ppm = c->clock_rate_error_ppm,
                                .leases_off = !c->leases,
                                .grants_off = !c->read_grants_all,
                                .rebuild_off = !c->rebuild,
                                .entry_bytes_max = c->entry_bytes_max,
                                .inflight_bytes_max = c->inflight_bytes,
                                .tail_bytes_max =
                                    c->log_tail_bytes > 0 ? c->log_tail_bytes : 1, /* 0 would be the default */
                                .segment_bytes = c->wal_segment_bytes,
                                .space_reserve_bytes = c->space_reserve_bytes,
                                .snapshots = snapshot_config(c),
                                .fsm = &node->fsm,
                                .changed = changed_cb,
                                .before_apply = before_apply_cb,
                                .servers_changed = servers_changed_cb,
                                .ctx = node};
    memcpy(rc.cluster, node->identity.cluster, sizeof rc.cluster);
    const enum replica_status status = replica_open(node->env, &rc, &node->replica, &error);
    if (status != REPLICA_OK) {
        node->replica = NULL;
        node_log(node, 0, "can't open the data directory %s: %s", c->dir,
                 error != NULL ? error : replica_strerror(status));
        return status == REPLICA_FOREIGN || status == REPLICA_CONFIG ? NODE_CONFIG
               : status == REPLICA_CORRUPT                           ? NODE_CORRUPT
                                                                     : NODE_IO;
    }
    executor_attach(node->executor, node->replica);
    return 0;
}

static int open_env(struct node *node)
{
    const struct env_uv_config ec = {
        .loop = node->loop, .dir = node->config->dir, .send = send_cb, .log = log_cb, .ctx = node};
    const char *error = "";
    const enum env_status status = env_uv_new(&ec, &node->env, &error);

    if (status != ENV_OK) {
        node->env = NULL;
        node_log(node, 0, "can't use the data directory %s: %s", node->config->dir, error);
        return status == ENV_DENIED ? NODE_DENIED : status == ENV_BUSY ? NODE_BUSY : NODE_IO;
    }
    return 0;
}

static int open_identity(struct node *node)
{
    char error[CONFIG_ERROR_MAX];

    if (!identity_find(node->env, node->config, &node->identity, error)) {
        node_log(node, 0, "can't use the data directory %s: %s", node->config->dir, error);
        return NODE_CONFIG;
    }
    return 0;
}

static int open_executor(struct node *node)
{
    const struct config *c = node->config;
    struct store_config sc;
    const struct executor_config ec = {.env = node->env,
                                       .id = c->id,
                                       .batch_bytes_max = c->batch_bytes_max,
                                       .entry_bytes_max = c->entry_bytes_max,
                                       .queue_bytes_max = c->inflight_bytes,
                                       .forward_timeout_ms =
                                           c->election_timeout_ms * 10 > 2000 ? c->election_timeout_ms * 10 : 2000,
                                       .election_timeout_ms = c->election_timeout_ms,
                                       .replies_bytes_max = c->client_output_bytes,
                                       .link_bytes = link_bytes_cb,
                                       .relieved = relieved_cb,
                                       .ctx = node};
    struct executor_config with_store = ec;

    memcpy(&sc.hash_seed, node->identity.cluster, sizeof sc.hash_seed);
    node->store = store_new(&sc);
    if (node->store == NULL) {
        return NODE_IO;
    }
    store_seed_reads(node->store, node->env->ops->random(node->env));
    with_store.store = node->store;
    node->executor = executor_new(&with_store);
    if (node->executor == NULL) {
        return NODE_IO;
    }
    executor_set_maxmemory(node->executor, c->maxmemory);
    return 0;
}

static int open_known(struct node *node)
{
    char error[KNOWN_NODES_ERROR_MAX];

    switch (known_nodes_open(&node->known, node->config->dir, node->identity.cluster, error)) {
    case KNOWN_NODES_OK:
        return 0;
    case KNOWN_NODES_DAMAGED:
        node_log(node, 0, "%s", error);
        return NODE_CORRUPT;
    default:
        node_log(node, 0, "%s", error);
        return NODE_IO;
    }
}

static int open_links(struct node *node)
{
    const char *error = NULL;
    const struct node_links_config lc = {.loop = node->loop,
                                         .config = node->config,
                                         .cluster = node->identity.cluster,
                                         .known = node->known,
                                         .replica = node->replica,
                                         .executor = node->executor,
                                         .env = node->env,
                                         .ctx = node,
                                         .log = log_cb};

    node->links = node_links_new(&lc, &error);
    if (error != NULL) {
        node_log(node, 0, "peer port %u: %s", node->config->peer_port, error);
        return NODE_PORT;
    }
    return 0;
}

static int open_server(struct node *node)
{
    const struct config *c = node->config;
    const char *error = NULL;
    const struct server_config sc = {.loop = node->loop,
                                     .limits = {.args_max = 1024 * 1024,
                                                .bulk_bytes_max = c->proto_max_bulk_len,
                                                .inline_bytes_max = 64 * 1024,
                                                .query_bytes_max = c->client_query_bytes},
                                     .clients_max = c->maxclients,
                                     .requests_per_turn = 64,
                                     .output_bytes_max = c->client_output_bytes,
                                     .output_bytes_pause = 1024 * 1024,
                                     .tcp_keepalive_s = c->tcp_keepalive_s,
                                     .backlog = 511,
                                     .ctx = node->sessions.ctx,
                                     .accepted = node->sessions.accepted,
                                     .request = node->sessions.request,
                                     .closed = node->sessions.closed,
                                     .eof = node->sessions.eof,
                                     .malformed = node->sessions.malformed};

    node->server = server_new(&sc);
    if (node->server == NULL) {
        node_log(node, 0, "out of memory");
        return NODE_IO;
    }
    if (server_listen(node->server, c->bind, c->port, &error) != 0) {
        node_log(node, 0, "port %u: %s", c->port, error);
        return NODE_PORT;
    }
    return 0;
}

static void open_handles(struct node *node)
{
    (void)uv_prepare_init(node->loop, &node->turn_end);
    node->turn_end.data = node;
    (void)uv_prepare_start(&node->turn_end, turn_end_cb);
    uv_unref((uv_handle_t *)&node->turn_end);
    (void)uv_timer_init(node->loop, &node->cron);
    node->cron.data = node;
    (void)uv_timer_start(&node->cron, cron_cb, 100, 100);
    node->handles = 2;
}

/* A node that has just joined serves nobody before it is a member. */
static void say_if_alone(struct node *node)
{
    struct replica_info info;

    replica_info(node->replica, &info);
    if (node->config->joined && info.n_servers == 0 && !replica_is_loading(node->replica)) {
        node_log(
            node, 2,
            "not a member yet: add it with `lockstep member --addr ANY-MEMBER add %llu HOST:%u:%u`, HOST being how "
            "the others reach it",
            (unsigned long long)node->config->id, node->config->port, node->config->peer_port);
    }
}

int node_start(uv_loop_t *loop, struct config *config, const struct node_sessions *sessions, struct node **out)
{
    struct node *node = calloc(1, sizeof *node);
    int rc;

    if (node == NULL) {
        return NODE_IO;
    }
    node->loop = loop;
    node->config = config;
    node->sessions = *sessions;
    node->log = config->log;
    node->start_ms = uv_now(loop);
    loop_watch_init(&node->watch, loop);
    rc = open_env(node);
    if (rc == 0) {
        rc = open_identity(node);
    }
    if (rc == 0) {
        rc = open_executor(node);
    }
    if (rc == 0) {
        rc = open_replica(node);
    }
    if (rc == 0) {
        rc = open_known(node);
    }
    if (rc == 0) {
        rc = open_links(node);
    }
    if (rc == 0) {
        rc = open_server(node);
    }
    if (rc == 0) {
        open_handles(node);
        node_log(node, 2, "serving clients on %s:%u, data in %s", config->bind, config->port, config->dir);
        say_if_alone(node);
    }
    *out = node;
    return rc;
}

/* --- Stopping -------------------------------------------------------------------------------------------------------
 */

static void env_closed_cb(void *ctx)
{
    struct node *node = ctx;

    node->env = NULL;
}

static void close_core(void *ctx)
{
    struct node *node = ctx;

    if (node->replica != NULL) {
        replica_close(node->replica);
        node->replica = NULL;
    }
    if (node->executor != NULL) {
        executor_free(node->executor);
        node->executor = NULL;
    }
    if (node->env != NULL) {
        env_uv_close(node->env, env_closed_cb, node);
    }
}

static void server_closed_cb(void *ctx)
{
    struct node *node = ctx;

    node->server = NULL;
    if (node->links != NULL) {
        node_links_close(node->links, close_core, node);
    } else {
        close_core(node);
    }
}

static void handle_closed_cb(uv_handle_t *handle)
{
    struct node *node = handle->data;

    node->handles--;
}

void node_stop(struct node *node)
{
    if (node->stopping) {
        return;
    }
    node->stopping = true;
    if (node->handles > 0) {
        uv_close((uv_handle_t *)&node->turn_end, handle_closed_cb);
        uv_close((uv_handle_t *)&node->cron, handle_closed_cb);
    }
    if (node->server != NULL) {
        server_stop_listening(node->server);
    }
    if (node->executor != NULL && node->replica != NULL) {
        executor_stop(node->executor);
    }
    if (node->server != NULL) {
        server_close(node->server, server_closed_cb, node);
    } else {
        server_closed_cb(node);
    }
}

void node_free(struct node *node)
{
    assert(node->env == NULL);
    assert(node->handles == 0);
    if (node->store != NULL) {
        store_free(node->store);
    }
    if (node->links != NULL) {
        node_links_free(node->links);
    }
    known_nodes_free(node->known);
    loop_watch_fini(&node->watch);
    free(node);
}

/* --- Access ---------------------------------------------------------------------------------------------------------
 */

struct env *node_env(struct node *node)
{
    return node->env;
}

struct replica *node_replica(struct node *node)
{
    return node->replica;
}

struct store *node_store(struct node *node)
{
    return node->store;
}

struct executor *node_executor(struct node *node)
{
    return node->executor;
}

struct server *node_server(struct node *node)
{
    return node->server;
}

struct config *node_config(struct node *node)
{
    return node->config;
}

void node_config_changed(struct node *node)
{
    const struct replica_snapshot_config snapshots = snapshot_config(node->config);

    executor_set_maxmemory(node->executor, node->config->maxmemory);
    replica_snapshot_configure(node->replica, &snapshots);
    replica_rebuild_configure(node->replica, node->config->rebuild);
}

const uint8_t *node_cluster_uuid(struct node *node)
{
    return node->identity.cluster;
}

void node_stats(struct node *node, struct node_stats *stats)
{
    struct executor_stats es;

    executor_stats(node->executor, &es);
    *stats = (struct node_stats){.start_ms = node->start_ms,
                                 .commands_executed = es.commands,
                                 .batches = es.batches,
                                 .batched_commands = es.batched_commands,
                                 .batch_commands_last = es.batch_commands_last,
                                 .batch_commands_max = es.batch_commands_max,
                                 .batch_commands_ewma = es.batch_commands_ewma,
                                 .forwarded_out = es.forwarded_out,
                                 .forwarded_in = es.forwarded_in,
                                 .reads_local = es.reads_local,
                                 .reads_waited = es.reads_waited,
                                 .reads_session = es.reads_session,
                                 .reads_stale = es.reads_stale,
                                 .reads_too_stale = es.reads_too_stale,
                                 .reads_confirmed = es.reads_confirmed,
                                 .reads_riding = es.reads_riding,
                                 .loop = node->watch.figures,
                                 .snapshot_stall_max_us = node->snapshot_turns.max,
                                 .snapshot_stall_max_cpu_us = node->snapshot_turns.max_cpu,
                                 .unknown_outcomes = es.unknown,
                                 .tryagain = es.tryagain};
}

void node_stats_reset(struct node *node)
{
    executor_stats_reset(node->executor);
    loop_watch_reset(&node->watch);
    node->snapshot_turns = (struct loop_figures){0};
}
