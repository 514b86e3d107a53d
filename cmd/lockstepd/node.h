/* One running node: wires env, replica, store, executor, peer links and client server together on one loop, and keeps
 * the measurements that INFO shows. An object, never a global. */
#ifndef LOCKSTEP_NODE_H
#define LOCKSTEP_NODE_H

#include <uv.h>

#include "cmd/lockstepd/config.h"
#include "cmd/lockstepd/executor.h"
#include "cmd/lockstepd/loop_watch.h"
#include "consensus/replica.h"
#include "net/server.h"
#include "store/store.h"

struct node;

/* What sessions provide to the node (session.c), so that node.c knows nothing of client commands. */
struct node_sessions {
    void *(*accepted)(void *ctx, struct conn *conn);
    bool (*request)(void *session, struct conn *conn, const struct iovec *argv, unsigned argc);
    void (*closed)(void *session, struct conn *conn, const char *why);
    bool (*eof)(void *session, struct conn *conn);                         /* as in server_config */
    void (*malformed)(void *session, struct conn *conn, const char *text); /* the same */
    /* The executor has room again: resume paused connections. */
    void (*relieved)(void *ctx);
    void *ctx;
};

/* Why a node could not start; main.c maps them to exit codes. */
enum node_error { NODE_PORT = 1, NODE_CONFIG, NODE_CORRUPT, NODE_IO, NODE_DENIED, NODE_BUSY };

/* Open everything and start serving. On failure returns an enum node_error, having logged what to do; `*node` (NULL
 * only when memory is exhausted) must then be stopped and freed like a running one. */
int node_start(uv_loop_t *loop, struct config *config, const struct node_sessions *sessions, struct node **node);
/* Graceful stop: stop listening, finish replies, close the replica; the loop runs empty afterwards. */
void node_stop(struct node *node);
void node_free(struct node *node);

struct env *node_env(struct node *node);
struct replica *node_replica(struct node *node);
struct store *node_store(struct node *node);
struct executor *node_executor(struct node *node);
struct server *node_server(struct node *node);
struct config *node_config(struct node *node); /* CONFIG SET changes it in place; node_config_changed applies it */
void node_config_changed(struct node *node);
const uint8_t *node_cluster_uuid(struct node *node); /* 16 bytes */

struct node_stats {
    uint64_t start_ms;                                                           /* uv_now scale */
    uint64_t commands_executed;                                                  /* store commands ended here */
    uint64_t batches, batched_commands, batch_commands_last, batch_commands_max; /* log entries proposed here */
    double batch_commands_ewma;
    uint64_t forwarded_out, forwarded_in;
    /* Reads by how they were answered: at once from memory, after a wait for an entry, by ReadIndex, behind a write of
     * their session, by session or stale mode; and those refused as too stale. */
    uint64_t reads_local, reads_waited, reads_confirmed, reads_riding, reads_session, reads_stale, reads_too_stale;
    struct loop_figures loop;
    uint64_t snapshot_stall_max_us, snapshot_stall_max_cpu_us; /* of turns in which a snapshot was being taken */
    uint64_t unknown_outcomes, tryagain;
};
void node_stats(struct node *node, struct node_stats *stats);
void node_stats_reset(struct node *node);

/* One log line: level 0 error .. 3 debug; a line carries time, level, node id and term. */
void node_log(struct node *node, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
