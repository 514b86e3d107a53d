/* For tests of sessions: a connection that keeps its bytes, and an executor, node and replica that do what the test
 * says. Included by one source file per executable: its definitions stand in for those of the libraries. */
#ifndef LOCKSTEP_TEST_FAKE_NODE_H
#define LOCKSTEP_TEST_FAKE_NODE_H

#include <assert.h>
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/session.h"
#include "consensus/replica_export.h"

/* --- The connection --- */

struct conn {
    struct resp_buffer out;
    uint64_t id;
    unsigned resumed;
    bool closing, closed;
};

struct resp_buffer *conn_output(struct conn *conn)
{
    return &conn->out;
}
void conn_write(struct conn *conn, const void *data, size_t len)
{
    resp_buffer_append(&conn->out, data, len);
}
void conn_resume(struct conn *conn)
{
    conn->resumed++;
}
void conn_close_after_write(struct conn *conn)
{
    conn->closing = true;
}
void conn_close(struct conn *conn, const char *why)
{
    (void)why;
    conn->closed = true;
}
uint64_t conn_id(const struct conn *conn)
{
    return conn->id;
}
const char *conn_peer_name(const struct conn *conn)
{
    return conn->id == 1 ? "127.0.0.1:1001" : "127.0.0.1:1002";
}
const char *conn_local_name(const struct conn *conn)
{
    (void)conn;
    return "127.0.0.1:7379";
}
int conn_fd(const struct conn *conn)
{
    return (int)conn->id + 7;
}
size_t conn_query_bytes(const struct conn *conn)
{
    (void)conn;
    return 0;
}
size_t conn_output_bytes(const struct conn *conn)
{
    return conn->out.len;
}
size_t conn_memory(const struct conn *conn)
{
    return conn->out.capacity;
}
uint64_t conn_created_ms(const struct conn *conn)
{
    (void)conn;
    return 0;
}
void server_stats(const struct server *server, struct server_stats *stats)
{
    (void)server;
    *stats = (struct server_stats){.current = 1};
}

/* --- The executor: a FIFO of requests that the test completes. --- */

#define FAKE_REQUESTS_MAX 8192u
#define FAKE_TEXT_MAX 512u

struct fake_request {
    struct exec_request *request;
    struct exec_session *session;
    char text[FAKE_TEXT_MAX]; /* the command, or "EXEC watches: commands" */
};

static struct fake_request fake_requests[FAKE_REQUESTS_MAX];
static unsigned fake_first, fake_last; /* waiting: [first, last) */
static bool fake_congested;
static unsigned fake_detached;

static void fake_add_text(char *text, const char *format, ...)
{
    size_t len = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text + len, FAKE_TEXT_MAX - len, format, arguments);
    va_end(arguments);
}

static void fake_add_arguments(char *text, const struct iovec *argv, unsigned argc)
{
    for (unsigned i = 0; i < argc; i++) {
        fake_add_text(text, "%s%.*s", i > 0 ? " " : "", (int)argv[i].iov_len, (const char *)argv[i].iov_base);
    }
}

static struct fake_request *fake_take(struct exec_session *session, struct exec_request *request)
{
    ck_assert_uint_lt(fake_last, FAKE_REQUESTS_MAX);
    struct fake_request *taken = &fake_requests[fake_last++];
    taken->request = request;
    taken->session = session;
    taken->text[0] = '\0';
    return taken;
}

void exec_session_init(struct executor *executor, struct exec_session *session)
{
    (void)executor;
    memset(session, 0, sizeof *session);
}
void exec_session_detach(struct executor *executor, struct exec_session *session)
{
    (void)executor;
    session->detached = true;
    fake_detached++;
}
void executor_submit(struct executor *executor, struct exec_session *session, struct exec_request *request,
                     const struct store_command *command, const struct iovec *argv, unsigned argc)
{
    (void)executor;
    (void)command;
    fake_add_arguments(fake_take(session, request)->text, argv, argc);
}
void executor_submit_transaction(struct executor *executor, struct exec_session *session, struct exec_request *request,
                                 const struct store_watch *watches, unsigned n_watches,
                                 const struct store_queued *commands, unsigned n_commands)
{
    (void)executor;
    char *text = fake_take(session, request)->text;
    fake_add_text(text, "EXEC");
    for (unsigned i = 0; i < n_watches; i++) {
        fake_add_text(text, " %.*s=%d", (int)watches[i].key.iov_len, (const char *)watches[i].key.iov_base,
                      (int)watches[i].revision);
    }
    fake_add_text(text, ":");
    for (unsigned i = 0; i < n_commands; i++) {
        fake_add_text(text, " [");
        fake_add_arguments(text, commands[i].argv, commands[i].argc);
        fake_add_text(text, "]");
    }
}
void exec_session_set_mode(struct exec_session *session, enum exec_read_mode mode, uint64_t stale_max_us)
{
    session->mode = mode;
    session->stale_max_us = stale_max_us;
}
void exec_session_saw(struct exec_session *session, uint64_t revision)
{
    session->revision = revision > session->revision ? revision : session->revision;
}
uint64_t exec_session_revision(const struct executor *executor, const struct exec_session *session)
{
    (void)executor;
    return session->revision;
}
/* No lease: every read is submitted. */
bool executor_read_local(struct executor *executor, struct exec_session *session, const struct store_command *command,
                         const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)executor, (void)session, (void)command, (void)argv, (void)argc, (void)reply;
    return false;
}
bool executor_congested(struct executor *executor)
{
    (void)executor;
    return fake_congested;
}

/* The oldest waiting request. */
static struct fake_request *fake_oldest(void)
{
    ck_assert_uint_lt(fake_first, fake_last);
    return &fake_requests[fake_first];
}

__attribute__((unused)) static void fake_assert_oldest(const char *text)
{
    ck_assert_str_eq(fake_oldest()->text, text);
}

static struct store_reply *fake_begin(void)
{
    return fake_oldest()->request->begin(fake_oldest()->request);
}

static void fake_end(void)
{
    struct exec_request *request = fake_oldest()->request;
    fake_first++;
    request->end(request);
}

__attribute__((unused)) static void fake_finish_status(const char *text)
{
    struct store_reply *reply = fake_begin();
    reply->ops->status(reply, text);
    fake_end();
}

__attribute__((unused)) static void fake_finish_raw(const char *bytes)
{
    struct exec_request *request = fake_oldest()->request;
    request->raw(request, bytes, strlen(bytes));
    fake_end();
}

/* --- The node and its replica ----------------------------------------------------------------------------------------
 */

static struct config fake_config;
static struct store *fake_store;
static uint64_t fake_leader;
static uint64_t fake_match[3];
static enum replica_status fake_transfer_status;
static uint64_t fake_transfer_to; /* under way */
static uint64_t fake_term;
static const char *fake_local_reads;
static unsigned fake_config_changes;
static uv_loop_t fake_loop;

struct env *node_env(struct node *node)
{
    (void)node;
    return NULL;
}
struct replica *node_replica(struct node *node)
{
    (void)node;
    return NULL;
}
struct store *node_store(struct node *node)
{
    (void)node;
    return fake_store;
}
struct executor *node_executor(struct node *node)
{
    (void)node;
    return NULL;
}
struct server *node_server(struct node *node)
{
    (void)node;
    return NULL;
}
struct config *node_config(struct node *node)
{
    (void)node;
    return &fake_config;
}
void node_config_changed(struct node *node)
{
    (void)node;
    fake_config_changes++;
}
const uint8_t *node_cluster_uuid(struct node *node)
{
    static const uint8_t uuid[16] = {0xab, 0xcd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    (void)node;
    return uuid;
}
void node_stats(struct node *node, struct node_stats *stats)
{
    (void)node;
    *stats = (struct node_stats){.batches = 3,
                                 .reads_local = 11,
                                 .reads_waited = 12,
                                 .reads_session = 13,
                                 .reads_stale = 14,
                                 .reads_too_stale = 15};
}
void node_stats_reset(struct node *node)
{
    (void)node;
}
void node_log(struct node *node, int level, const char *format, ...)
{
    (void)node;
    (void)level;
    (void)format;
}
/* What leaves a node: nothing here but a digest at entry 7. */
uint64_t replica_applied(const struct replica *replica)
{
    (void)replica;
    return 7;
}
void replica_log_bounds(const struct replica *replica, uint64_t *first, uint64_t *last)
{
    (void)replica;
    *first = 3;
    *last = 7;
}
enum replica_status replica_log_read_start(struct replica *replica, struct replica_log_read *read, uint64_t index,
                                           size_t bytes_max)
{
    (void)replica;
    (void)read;
    (void)index;
    (void)bytes_max;
    return REPLICA_IO;
}
void replica_log_read_cancel(struct replica_log_read *read)
{
    (void)read;
}
bool replica_digest_watch(struct replica *replica, struct replica_digest_watch *watch, uint64_t index)
{
    (void)replica;
    *watch = (struct replica_digest_watch){.index = index, .digest = 0xabcdef, .done = index == 7};
    return index >= 7;
}
void replica_digest_unwatch(struct replica *replica, struct replica_digest_watch *watch)
{
    (void)replica;
    (void)watch;
}
struct snapshot_dir *replica_snapshots(struct replica *replica)
{
    (void)replica;
    return NULL;
}
uint64_t replica_leader(const struct replica *replica)
{
    (void)replica;
    return fake_leader;
}
bool replica_is_removed(const struct replica *replica)
{
    (void)replica;
    return false;
}
uint64_t replica_term(const struct replica *replica)
{
    (void)replica;
    return fake_term;
}
static bool fake_loading, fake_replaying;
static struct replica_snapshot_request *fake_snapshot_request;
static enum replica_status fake_snapshot_status;
bool replica_is_loading(const struct replica *replica)
{
    (void)replica;
    return fake_loading;
}
void replica_loading_info(const struct replica *replica, struct replica_loading_info *info)
{
    (void)replica;
    *info = (struct replica_loading_info){.replaying = fake_replaying,
                                          .bytes = 500,
                                          .bytes_total = 2000,
                                          .keys = 7,
                                          .keys_total = 30,
                                          .elapsed_us = 1000000};
}
enum replica_status replica_snapshot_take(struct replica *replica, struct replica_snapshot_request *request)
{
    (void)replica;
    if (fake_snapshot_status == REPLICA_OK) {
        fake_snapshot_request = request;
    }
    return fake_snapshot_status;
}
void replica_snapshot_cancel(struct replica *replica, struct replica_snapshot_request *request)
{
    (void)replica;
    ck_assert_ptr_eq(request, fake_snapshot_request);
    fake_snapshot_request = NULL;
}
enum replica_status replica_transfer(struct replica *replica, uint64_t id)
{
    (void)replica;
    if (fake_transfer_status == REPLICA_OK) {
        fake_transfer_to = id != 0 ? id : 2;
    }
    return fake_transfer_status;
}
enum replica_status replica_change(struct replica *replica, enum replica_change_kind kind, uint64_t id,
                                   const char *address, const char **why)
{
    (void)replica;
    (void)kind;
    (void)id;
    (void)address;
    *why = "";
    return REPLICA_NOT_LEADER;
}

enum replica_status replica_upgrade(struct replica *replica, uint32_t level, char why[REPLICA_WHY_MAX])
{
    (void)replica;
    (void)level;
    why[0] = '\0';
    return REPLICA_NOT_LEADER;
}

const char *replica_strerror(enum replica_status status)
{
    (void)status;
    return "fake";
}

const char *replica_role_name(enum replica_role role)
{
    return role == REPLICA_LEADER ? "leader" : "follower";
}
/* Three members, this one is 1; commit and last are 100. */
void replica_info(struct replica *replica, struct replica_info *info)
{
    (void)replica;
    *info = (struct replica_info){.id = 1,
                                  .term = fake_term,
                                  .transfer_to = fake_transfer_to,
                                  .local_reads = fake_local_reads,
                                  .exposed = 98,
                                  .transfers = 2,
                                  .leader = fake_leader,
                                  .commit = 100,
                                  .last = 100,
                                  .applied = 99,
                                  .n_servers = 3};
    info->role = fake_leader == 1 ? REPLICA_LEADER : REPLICA_FOLLOWER;
    for (unsigned i = 0; i < 3; i++) {
        info->servers[i] = (struct replica_server){.id = i + 1, .voter = true};
        (void)snprintf(info->servers[i].address, sizeof info->servers[i].address, "10.0.0.%u:1737%u,10.0.0.%u:737%u",
                       i + 1, i + 1, i + 1, i + 1);
        info->peers[i] = (struct replica_peer_info){
            .id = i + 1, .connected = true, .match = fake_match[i], .echo_age_us = 10, .grant_left_us = 500};
    }
}

/* --- A client --- */

static struct sessions *fake_sessions;
static struct node_sessions fake_callbacks;
static unsigned fake_stops;

struct client {
    struct conn conn;
    void *session;
};

static void fake_stop(void *ctx)
{
    (void)ctx;
    fake_stops++;
}

static void client_open(struct client *client, uint64_t id)
{
    *client = (struct client){.conn = {.id = id}};
    resp_buffer_init(&client->conn.out);
    client->session = fake_callbacks.accepted(fake_callbacks.ctx, &client->conn);
    ck_assert_ptr_nonnull(client->session);
}

static void client_close(struct client *client)
{
    fake_callbacks.closed(client->session, &client->conn, "test");
    client->session = NULL;
    resp_buffer_fini(&client->conn.out);
}

/* Send words separated by single spaces; returns whether the session takes further requests. '' is an empty word. */
static bool client_send(struct client *client, const char *line)
{
    struct iovec argv[64];
    char copy[4096];
    unsigned argc = 0;
    (void)snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        ck_assert_uint_lt(argc, 64);
        argv[argc++] = (struct iovec){.iov_base = word, .iov_len = strcmp(word, "''") == 0 ? 0 : strlen(word)};
    }
    return fake_callbacks.request(client->session, &client->conn, argv, argc);
}

/* What has been written since the last call, as a string that is valid until the next. */
static const char *client_output(struct client *client)
{
    static char text[65536];
    ck_assert_uint_lt(client->conn.out.len, sizeof text);
    if (client->conn.out.len > 0) {
        memcpy(text, client->conn.out.data, client->conn.out.len);
    }
    text[client->conn.out.len] = '\0';
    resp_buffer_clear(&client->conn.out);
    return text;
}

static void client_assert(struct client *client, const char *line, const char *reply)
{
    (void)client_send(client, line);
    ck_assert_str_eq(client_output(client), reply);
}

static void fake_setup(void)
{
    static const struct store_config store_config = {.hash_seed = 1};
    ck_assert(config_init(&fake_config));
    ck_assert_int_eq(uv_loop_init(&fake_loop), 0);
    fake_store = store_new(&store_config);
    fake_first = 0;
    fake_last = 0;
    fake_congested = false;
    fake_detached = 0;
    fake_leader = 1;
    fake_term = 4;
    fake_local_reads = "new-term";
    fake_transfer_status = REPLICA_OK;
    fake_transfer_to = 0;
    fake_config_changes = 0;
    fake_stops = 0;
    memset(fake_match, 0, sizeof fake_match);
    fake_sessions = sessions_new(fake_stop, NULL);
    ck_assert_ptr_nonnull(fake_sessions);
    sessions_callbacks(fake_sessions, &fake_callbacks);
    sessions_attach(fake_sessions, NULL, &fake_loop);
}

static void fake_teardown(void)
{
    sessions_stop(fake_sessions);
    (void)uv_run(&fake_loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&fake_loop), 0);
    sessions_free(fake_sessions);
    store_free(fake_store);
    config_fini(&fake_config);
}

#endif
