/* ROLE READONLY READWRITE WAIT TIME DEBUG SHUTDOWN SAVE BGSAVE, and LOCKSTEP STATUS. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/lockstepd/export.h"
#include "cmd/lockstepd/members.h"
#include "cmd/lockstepd/session.h"

#define ADMIN_FLAGS (COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE)
#define FAST_FLAGS (COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST)
#define DEBUG_SLEEP_MAX_S 600.0
#define WAIT_POLL_MS 2u

static void role_leader(struct call *call, const struct replica_info *info, const struct member *members, unsigned n)
{
    char text[32];
    unsigned connected = 0;
    for (unsigned i = 0; i < n; i++) {
        connected += !members[i].self && members[i].connected ? 1 : 0;
    }
    resp_write_array(call->out, 3);
    call_bulk_text(call, "master");
    resp_write_integer(call->out, (int64_t)info->commit);
    resp_write_array(call->out, connected);
    for (unsigned i = 0; i < n; i++) {
        if (members[i].self || !members[i].connected) {
            continue;
        }
        resp_write_array(call->out, 3);
        call_bulk_text(call, members[i].host);
        (void)snprintf(text, sizeof text, "%u", members[i].port);
        call_bulk_text(call, text);
        (void)snprintf(text, sizeof text, "%" PRIu64, members[i].match);
        call_bulk_text(call, text);
    }
}

static void run_role(struct call *call)
{
    struct replica_info info;
    struct member members[REPLICA_SERVERS_MAX];
    const struct member *leader = NULL;
    unsigned n = members_get(call->session->owner->node, &info, members);
    if (info.role == REPLICA_LEADER) {
        role_leader(call, &info, members, n);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        leader = members[i].leader ? &members[i] : leader;
    }
    resp_write_array(call->out, 5);
    call_bulk_text(call, "slave");
    call_bulk_text(call, leader != NULL ? leader->host : "");
    resp_write_integer(call->out, leader != NULL ? leader->port : 0);
    call_bulk_text(call, leader != NULL ? "connected" : "connect");
    resp_write_integer(call->out, leader != NULL ? (int64_t)info.applied : -1);
}

static void run_readonly(struct call *call)
{
    call->session->readonly = true;
    call_ok(call);
}

static void run_readwrite(struct call *call)
{
    call->session->readonly = false;
    call_ok(call);
}

static void run_time(struct call *call)
{
    struct timespec now;
    char text[32];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    resp_write_array(call->out, 2);
    (void)snprintf(text, sizeof text, "%lld", (long long)now.tv_sec);
    call_bulk_text(call, text);
    (void)snprintf(text, sizeof text, "%ld", now.tv_nsec / 1000);
    call_bulk_text(call, text);
}

/* --- WAIT
 * --------------------------------------------------------------------------------------------------------------- Every
 * write that was answered is on a majority already, so WAIT only has to look further when more are asked for. It is
 * answered once all earlier commands of its session are; the leader then watches how far the others are, until enough
 * have everything or the time is over. Another node can't see that and answers with what the majority guarantees. */

/* Replicas, besides the leader, that are known to hold the log up to `index`. */
static uint64_t wait_replicas(struct sessions *owner, uint64_t index)
{
    struct replica_info info;
    struct member members[REPLICA_SERVERS_MAX];
    uint64_t voters = 0;
    uint64_t seen = 0;
    unsigned n = members_get(owner->node, &info, members);
    for (unsigned i = 0; i < n; i++) {
        voters += members[i].voter ? 1 : 0;
        seen += info.role == REPLICA_LEADER && !members[i].self && members[i].match >= index ? 1 : 0;
    }
    uint64_t guaranteed = voters / 2;
    return seen > guaranteed ? seen : guaranteed;
}

void wait_forget(struct session *session)
{
    struct session **at = &session->owner->waiting;
    while (*at != NULL && *at != session) {
        at = &(*at)->wait_next;
    }
    if (*at == session) {
        *at = session->wait_next;
    }
}

/* Answers if enough replicas have it or the time is over; else returns false. */
static bool wait_answer(struct session *s)
{
    struct sessions *owner = s->owner;
    uint64_t replicas = wait_replicas(owner, s->wait.index);
    bool leads = replica_leader(node_replica(owner->node)) == owner->config->id;
    if (replicas < s->wait.wanted && leads && uv_now(owner->loop) < s->wait.deadline_ms) {
        return false;
    }
    if (!s->wait.mute) {
        resp_write_integer(conn_output(s->conn), (int64_t)replicas);
    }
    session_unpause(s, SESSION_PAUSE_WAIT);
    return true;
}

static void wait_timer_cb(uv_timer_t *timer)
{
    struct sessions *owner = timer->data;
    struct session **at = &owner->waiting;
    while (*at != NULL) {
        struct session *s = *at;
        struct session *next = s->wait_next;
        if (wait_answer(s)) {
            *at = next;
        } else {
            at = &s->wait_next;
        }
    }
    if (owner->waiting == NULL) {
        (void)uv_timer_stop(timer);
    }
}

static void wait_drained(struct session *s)
{
    struct sessions *owner = s->owner;
    struct replica_info info;
    replica_info(node_replica(owner->node), &info);
    s->wait.index = info.commit;
    if (wait_answer(s)) {
        return;
    }
    s->wait_next = owner->waiting;
    owner->waiting = s;
    if (!uv_is_active((uv_handle_t *)&owner->wait_timer)) {
        (void)uv_timer_start(&owner->wait_timer, wait_timer_cb, WAIT_POLL_MS, WAIT_POLL_MS);
    }
}

static void run_wait(struct call *call)
{
    struct session *s = call->session;
    int64_t replicas;
    int64_t timeout_ms;
    if (!argument_integer(call->argv[1], &replicas)) {
        call_not_integer(call);
    } else if (!argument_integer(call->argv[2], &timeout_ms)) {
        call_error(call, "ERR timeout is not an integer or out of range");
    } else if (timeout_ms < 0) {
        call_error(call, "ERR timeout is negative");
    } else if (call->in_exec) {
        struct replica_info info;
        replica_info(node_replica(s->owner->node), &info);
        resp_write_integer(call->out, (int64_t)wait_replicas(s->owner, info.commit));
    } else {
        s->wait.wanted = replicas > 0 ? (uint64_t)replicas : 0;
        s->wait.deadline_ms = timeout_ms > 0 ? uv_now(s->owner->loop) + (uint64_t)timeout_ms : UINT64_MAX;
        s->wait.mute = s->reply_mode != SESSION_REPLY_ON;
        session_pause(s, SESSION_PAUSE_WAIT);
        session_when_drained(s, wait_drained);
    }
}

/* --- DEBUG, SHUTDOWN, SAVE --- */

static void run_debug(struct call *call)
{
    char text[64];
    if (!call->session->owner->config->enable_debug_command) {
        call_error(call,
                   "ERR DEBUG command not allowed. Set the enable-debug-command option to yes in the configuration "
                   "file or on the command line, and then restart the server.");
        return;
    }
    bool whole = argument_text(call->argv[1], text, sizeof text);
    if (call->argc != 3 || !argument_is(call->argv[1], "sleep")) {
        call_error(call, "ERR unknown subcommand or wrong number of arguments for '%s'. Try DEBUG HELP.", text);
        return;
    }
    whole = argument_text(call->argv[2], text, sizeof text);
    char *end;
    double seconds = strtod(text, &end);
    if (!whole || *end != '\0' || text[0] == '\0' || !(seconds >= 0) || seconds > DEBUG_SLEEP_MAX_S) {
        call_error(call, "ERR value is not a valid float");
        return;
    }
    /* The whole point is that the loop stands still. */
    struct timespec rest = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - floor(seconds)) * 1e9)};
    (void)nanosleep(&rest, NULL);
    call_ok(call);
}

static void run_shutdown(struct call *call)
{
    bool save = false;
    bool nosave = false;
    for (unsigned i = 1; i < call->argc; i++) {
        save |= argument_is(call->argv[i], "save");
        nosave |= argument_is(call->argv[i], "nosave");
        if (argument_is(call->argv[i], "abort") && call->argc == 2) {
            call_error(call, "ERR No shutdown in progress.");
            return;
        }
        bool known = argument_is(call->argv[i], "save") || argument_is(call->argv[i], "nosave") ||
                     argument_is(call->argv[i], "now") || argument_is(call->argv[i], "force");
        if (!known) {
            call_syntax_error(call);
            return;
        }
    }
    if (save && nosave) {
        call_syntax_error(call);
        return;
    }
    /* No reply: the connection ends with the node. What was acknowledged is durable whatever the option says. */
    node_log(call->session->owner->node, 1, "SHUTDOWN by %s", conn_peer_name(call->session->conn));
    session_pause(call->session, SESSION_PAUSE_CLOSING);
    call->session->owner->stop(call->session->owner->stop_ctx);
}

static void run_save(struct call *call)
{
    call_error(call, "ERR There is nothing to save: every acknowledged write is in the replicated log already");
}

/* --- LOCKSTEP STATUS --- */

/* Host names and addresses need no more than this of JSON's escapes; other bytes can't stand in them. */
static void json_text(struct resp_buffer *out, const char *text)
{
    resp_buffer_append(out, "\"", 1);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            resp_buffer_append(out, "\\", 1);
        }
        if ((unsigned char)*c >= 0x20) {
            resp_buffer_append(out, c, 1);
        }
    }
    resp_buffer_append(out, "\"", 1);
}

static void json_address(struct resp_buffer *out, const char *host, unsigned port)
{
    char text[192];
    (void)snprintf(text, sizeof text, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
    json_text(out, text);
}

static void status_member(struct resp_buffer *out, const struct replica_info *info, const struct member *m)
{
    buffer_printf(out, "{\"id\":%" PRIu64 ",\"address\":", m->id);
    json_address(out, m->host, m->port);
    buffer_printf(out, ",\"peer_address\":");
    json_address(out, m->host, m->peer_port);
    buffer_printf(out, ",\"voter\":%s,\"connected\":%s", m->voter ? "true" : "false", m->connected ? "true" : "false");
    if (m->self || info->role == REPLICA_LEADER) {
        uint64_t lag = info->last > m->match ? info->last - m->match : 0;
        buffer_printf(out, ",\"match\":%" PRIu64 ",\"lag\":%" PRIu64 ",\"applied\":%" PRIu64, m->match, lag,
                      m->applied);
    }
    if (!m->self && info->role == REPLICA_LEADER && m->echo_age_us != UINT64_MAX) {
        buffer_printf(out, ",\"echo_age_us\":%" PRIu64 ",\"rtt_us\":%" PRIu64, m->echo_age_us, m->rtt_us);
    }
    if (!m->self && info->role == REPLICA_LEADER) {
        buffer_printf(out, ",\"differs\":%s,\"grant_left_us\":%" PRIu64, m->differs ? "true" : "false",
                      m->grant_left_us);
    }
    buffer_printf(out, "}");
}

/* local_reads: "yes", or why not. */
static void status_reads(struct resp_buffer *out, const struct replica_info *info, const struct node_stats *stats)
{
    const bool local = strcmp(info->local_reads, "none") == 0;
    buffer_printf(out, ",\"local_reads\":\"%s\",\"local_left_us\":%" PRIu64 ",\"exposed\":%" PRIu64,
                  local ? "yes" : info->local_reads, info->local_left_us, info->exposed);
    buffer_printf(out, ",\"transfers\":%" PRIu64 ",\"reads\":{\"local\":%" PRIu64 ",\"waited\":%" PRIu64,
                  info->transfers, stats->reads_local, stats->reads_waited);
    buffer_printf(out, ",\"confirmed\":%" PRIu64 ",\"riding\":%" PRIu64 ",\"session\":%" PRIu64, stats->reads_confirmed,
                  stats->reads_riding, stats->reads_session);
    buffer_printf(out, ",\"stale\":%" PRIu64 ",\"too_stale\":%" PRIu64 "}", stats->reads_stale, stats->reads_too_stale);
}

static void run_status(struct call *call)
{
    struct sessions *owner = call->session->owner;
    struct replica_info info;
    struct member members[REPLICA_SERVERS_MAX];
    struct node_stats stats;
    struct resp_buffer text;
    const uint8_t *uuid = node_cluster_uuid(owner->node);
    unsigned n = members_get(owner->node, &info, members);
    const bool loading = replica_is_loading(node_replica(owner->node));
    struct replica_loading_info progress;
    replica_loading_info(node_replica(owner->node), &progress);
    node_stats(owner->node, &stats);
    resp_buffer_init(&text);
    buffer_printf(&text, "{\"id\":%" PRIu64 ",\"role\":\"%s\",\"term\":%" PRIu64 ",\"leader\":%" PRIu64, info.id,
                  loading && !progress.replaying ? "loading" : replica_role_name(info.role), info.term, info.leader);
    buffer_printf(&text, ",\"ready\":%s,\"commit\":%" PRIu64 ",\"applied\":%" PRIu64 ",\"last\":%" PRIu64,
                  info.ready ? "true" : "false", info.commit, info.applied, info.last);
    buffer_printf(&text, ",\"pid\":%ld,\"uptime_ms\":%" PRIu64 ",\"version\":\"%s\",\"cluster\":\"", (long)getpid(),
                  uv_now(owner->loop) - stats.start_ms, LOCKSTEP_VERSION);
    for (unsigned i = 0; i < 16; i++) {
        buffer_printf(&text, "%02x", uuid[i]);
    }
    buffer_printf(&text, "\",\"revision\":%" PRIu64 ",\"digest\":\"%016" PRIx64 "\",\"keys\":%" PRIu64 ",\"address\":",
                  store_revision(node_store(owner->node)), store_digest(node_store(owner->node)),
                  store_keys(node_store(owner->node)));
    struct member self;
    bool known = member_find(owner->node, owner->config->id, &self);
    json_address(&text, known ? self.host : owner->config->bind, known ? self.port : owner->config->port);
    status_reads(&text, &info, &stats);
    buffer_printf(&text, ",\"peer_port\":%u", owner->config->peer_port);
    buffer_printf(&text, ",\"feature_level\":%u,\"feature_level_max\":%u", info.feature_level, info.feature_level_max);
    buffer_printf(&text, ",\"change_pending\":%s,\"quarantined\":%s", info.configuration_committed ? "false" : "true",
                  info.quarantined != 0 ? "true" : "false");
    buffer_printf(&text, ",\"rebuild\":\"%s\",\"rebuilds\":%" PRIu64, info.rebuild, info.rebuilds);
    buffer_printf(&text, ",\"loading\":%s,\"snapshot\":{\"index\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"taking\":%s}",
                  loading ? "true" : "false", info.snapshot.index, info.snapshot.file_bytes,
                  info.snapshot_taking ? "true" : "false");
    buffer_printf(&text, ",\"members\":[");
    for (unsigned i = 0; i < n; i++) {
        buffer_printf(&text, i > 0 ? "," : "");
        status_member(&text, &info, &members[i]);
    }
    buffer_printf(&text, "]}");
    if (text.failed) {
        call_error(call, "ERR out of memory");
    } else {
        resp_write_bulk(call->out, text.data, text.len);
    }
    resp_buffer_fini(&text);
}

static const struct command lockstep_subcommands[] = {
    {"status", 2, FAST_FLAGS, "server", REDIS_VERSION, "This node, its cluster and how far each member is, as JSON",
     "O(1)", "", run_status, NULL},
    {"transfer", -2, ADMIN_FLAGS, "server", REDIS_VERSION,
     "Hand leadership to another node, the one that is furthest if none is named", "O(1)", "[<node-id>]", transfer_run,
     NULL},
    {"member", -3, ADMIN_FLAGS, "server", REDIS_VERSION, "Change who belongs to the cluster, or list it", "O(1)",
     "ADD|PROMOTE|DEMOTE|REMOVE|ADDRESS|LIST [id] [host:port[:peerport]]", run_lockstep_member, NULL},
    {"upgrade", -2, ADMIN_FLAGS, "server", REDIS_VERSION,
     "Raise the cluster's feature level, if all nodes understand it", "O(1)", "[<level>]", run_lockstep_upgrade, NULL},
    {"snapshot", -3, ADMIN_FLAGS, "server", REDIS_VERSION,
     "Take a snapshot of this node's content; answered with index, term and bytes once it is on stable storage", "O(N)",
     "TAKE|LIST|READ [<index> <term> <offset> <bytes>]", snapshot_run, NULL},
    {"join", 2, FAST_FLAGS, "server", REDIS_VERSION, "What a node has to know to join this cluster", "O(1)", "",
     run_lockstep_join, NULL},
    {"digest", -2, ADMIN_FLAGS, "server", REDIS_VERSION, "The digest of the content at exactly one entry of the log",
     "O(1)", "[<index> [<wait-ms>]]", export_digest_run, NULL},
    {"log", -3, ADMIN_FLAGS, "server", REDIS_VERSION, "Committed entries of the log, for an archive", "O(N) in bytes",
     "READ <index> <bytes>", export_log_run, NULL},
    {.name = NULL},
};

const struct command command_family_server[] = {
    {"role", 1, FAST_FLAGS | COMMAND_NOSCRIPT, "server", "2.8.12",
     "Return the role of the instance in the context of replication", "O(1)", "", run_role, NULL},
    {"readonly", 1, FAST_FLAGS, "cluster", "3.0.0", "Enables read queries for a connection to a cluster replica node",
     "O(1)", "", run_readonly, NULL},
    {"readwrite", 1, FAST_FLAGS, "cluster", "3.0.0", "Disables read queries for a connection to a cluster replica node",
     "O(1)", "", run_readwrite, NULL},
    {"wait", 3, COMMAND_NOSCRIPT, "generic", "3.0.0",
     "Wait for the synchronous replication of all the write commands sent in the context of the current connection",
     "O(1)", "", run_wait, NULL},
    {"time", 1, FAST_FLAGS, "server", "2.6.0", "Return the current server time", "O(1)", "", run_time, NULL},
    {"debug", -2, ADMIN_FLAGS, "server", "1.0.0", "A container for debugging commands", "Depends on subcommand.", "",
     run_debug, NULL},
    {"shutdown", -1, ADMIN_FLAGS | COMMAND_NO_MULTI, "server", "1.0.0", "Stop this node", "O(1)", "", run_shutdown,
     NULL},
    {"save", 1, ADMIN_FLAGS | COMMAND_NO_MULTI, "server", "1.0.0", "Refused: there is nothing to save", "O(1)", "",
     run_save, NULL},
    {"bgsave", -1, ADMIN_FLAGS, "server", "1.0.0", "Refused: there is nothing to save", "O(1)", "", run_save, NULL},
    {"lockstep", -2, COMMAND_NO_MULTI, "server", REDIS_VERSION, "A container for commands about Lockstep itself",
     "Depends on subcommand.", "", NULL, lockstep_subcommands},
    {.name = NULL},
};
