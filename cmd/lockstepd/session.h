/* One client's session: owns the order of its replies, its transaction and its settings; and `sessions`, all of a
 * node's. Knows nothing of how commands are executed (executor.h) nor of sockets (net/server.h). Loop thread only.
 *
 * Commands of the store go to the executor; each has a `pending` slot in a FIFO until it ends. They end in the order
 * submitted, so the reply of the oldest is written straight into the connection's output. Commands that the node
 * answers by itself are executed at once; while older ones are pending, their replies wait behind the youngest of
 * these.
 *
 * The fields below are shared by session.c, session_multi.c and the command families; nobody else includes this but
 * main. */
#ifndef LOCKSTEP_SESSION_H
#define LOCKSTEP_SESSION_H

#include "cmd/lockstepd/command.h"
#include "cmd/lockstepd/executor.h"
#include "cmd/lockstepd/node.h"
#include "cmd/lockstepd/render.h"
#include "consensus/snapshot.h"
#include "net/server.h"

/* Bounds of one session: above them its connection is read no further until half of them is left. */
#define SESSION_PENDING_MAX 4096u
#define SESSION_WAITING_BYTES_MAX ((size_t)1024 * 1024) /* replies of local commands behind pending ones */
/* Slots kept for reuse by all sessions of a node. */
#define SESSION_SPARE_SLOTS_MAX 16384u
#define SESSION_NAME_MAX 1024u /* bytes of a client's name */
/* Snapshots that may be read by clients at the same time; a further one takes the place of the least used. */
#define EXPORT_HOLDS_MAX 4u

struct multi;
struct snapshot_wait;

enum session_pause {
    SESSION_PAUSE_CONGESTED = 1u << 0, /* the executor is */
    SESSION_PAUSE_PENDING = 1u << 1,   /* at the bounds above */
    SESSION_PAUSE_WATCH = 1u << 2,     /* WATCH has not been answered */
    SESSION_PAUSE_WAIT = 1u << 3,      /* WAIT has not been answered */
    SESSION_PAUSE_CLOSING = 1u << 4,   /* QUIT: nothing further is read */
    SESSION_PAUSE_REPORT = 1u << 5,    /* READMODE has not been answered */
    SESSION_PAUSE_TRANSFER = 1u << 6,  /* LOCKSTEP TRANSFER has not been answered */
    SESSION_PAUSE_SNAPSHOT = 1u << 7,  /* LOCKSTEP SNAPSHOT TAKE has not been answered */
    SESSION_PAUSE_EXPORT = 1u << 8,    /* a command of cmd_export*.c has not been answered */
    SESSION_PAUSE_EXEC = 1u << 9       /* EXEC with local commands has not been answered */
};

enum session_reply_mode { SESSION_REPLY_ON, SESSION_REPLY_OFF, SESSION_REPLY_SKIP };

enum pending_kind { PENDING_COMMAND, PENDING_WATCH, PENDING_MIXED };

/* One command or transaction given to the executor. */
struct pending {
    struct exec_request request; /* first */
    struct session *session;
    struct pending *next;
    struct resp_buffer after; /* replies of local commands that came after this one */
    enum pending_kind kind;
    bool mute; /* CLIENT REPLY OFF or SKIP */
};

struct session {
    struct exec_session exec;
    struct sessions *owner;
    struct conn *conn; /* NULL once closed: the session then only waits for its pending ones to end */
    struct pending *head, *tail;
    unsigned n_pending;
    unsigned paused; /* bits of session_pause; 0: requests are taken */
    struct render render;
    int proto;
    bool in_multi;
    bool slow; /* in_multi, or replies are off: not the straight path */
    bool no_evict, no_touch, readonly;
    bool report_mute, transfer_mute;     /* READMODE, LOCKSTEP TRANSFER that waits came while replies are off */
    uint64_t transfer_asked;             /* to which node, 0: any */
    struct snapshot_wait *snapshot_wait; /* NULL: it waits for none */
    enum session_reply_mode reply_mode;
    size_t waiting_bytes; /* in the `after` of all pending ones */
    struct multi *multi;  /* queued commands and watched keys; NULL if there never were any */
    uint64_t last_ms;     /* uv_now of the last request */
    const struct command_entry *last;
    const struct command *last_sub;
    char *name, *lib_name, *lib_version;      /* NULL: none */
    void (*drained)(struct session *session); /* called once when nothing is pending any more */
    struct {
        uint64_t wanted;      /* replicas */
        uint64_t deadline_ms; /* uv_now scale, UINT64_MAX: none */
        uint64_t index;
        bool mute;
    } wait;
    struct export_wait *export_wait;                 /* cmd_export.c; NULL: no such command waits */
    struct export_file *export_file;                 /* cmd_export_file.c, the same */
    struct session *prev, *next;                     /* all sessions */
    struct session *wait_next;                       /* those in WAIT */
    struct session *congested_prev, *congested_next; /* those with SESSION_PAUSE_CONGESTED */
};

struct sessions {
    struct node *node;
    struct executor *executor;
    struct config *config;
    uv_loop_t *loop;
    struct command_index *commands;
    struct session *first, *newest;
    struct session *congested;
    struct session *waiting;
    struct pending *spare;
    unsigned n_spare;
    unsigned count;
    struct store_reply discard;                   /* where muted replies go */
    struct resp_buffer scratch;                   /* the same for local commands */
    const struct store_command *revision_command; /* what WATCH reads with */
    uv_timer_t cron, wait_timer, transfer_timer, export_timer;
    struct export_wait *exporting; /* all export_wait */
    struct export_hold {
        uint64_t index, term, until_ms; /* uv_now scale; 0: free */
        struct snapshot_use use;
    } export_holds[EXPORT_HOLDS_MAX]; /* snapshots that are being read */
    struct {
        struct session *session; /* it waits for the transfer under way, NULL: none does */
        uint64_t to, term, deadline_ms;
    } transfer;
    uint64_t commands_processed;
    uint64_t ops_per_second, ops_sampled, ops_sampled_ms;
    uint64_t memory_peak;
    void (*stop)(void *ctx); /* SHUTDOWN: stop the node, soon */
    void *stop_ctx;
};

/* `stop` is called by SHUTDOWN; it must not stop the node before it returns. NULL if memory is exhausted. */
struct sessions *sessions_new(void (*stop)(void *ctx), void *ctx);
/* What node_start wants. */
void sessions_callbacks(struct sessions *sessions, struct node_sessions *callbacks);
/* Bind to a started node, before its loop runs. */
void sessions_attach(struct sessions *sessions, struct node *node, uv_loop_t *loop);
/* Close the timers, so that the loop can end. */
void sessions_stop(struct sessions *sessions);
/* After the loop has ended. */
void sessions_free(struct sessions *sessions);

void session_pause(struct session *session, unsigned reason);
void session_unpause(struct session *session, unsigned reason);
/* A slot at the end of the FIFO, NULL if memory is exhausted: give its request to the executor. */
struct pending *session_pend(struct session *session, enum pending_kind kind);
/* Call `drained` when nothing is pending; at once if nothing is. */
void session_when_drained(struct session *session, void (*drained)(struct session *session));
void session_update_slow(struct session *session);
void session_set_text(char **field, struct iovec value); /* empty: NULL */
/* Back to a new connection's state, but for its place in the pipeline (RESET). */
void session_reset(struct session *session);
/* With `redirect yes`: an error reply and true if `command` on these keys belongs to another node. */
bool session_redirect(struct session *session, const struct store_command *command, const struct iovec *argv,
                      unsigned argc, struct resp_buffer *out);

/* session_multi.c */
/* Queue a command of an open transaction, or refuse it. */
void multi_queue(struct session *session, const struct command_entry *entry, const struct iovec *argv, unsigned argc,
                 struct resp_buffer *out);
/* A command was refused: EXEC will be too. */
void multi_abort(struct session *session);
/* EXEC with arguments: ends the transaction, if there is one, in Redis's words. */
void multi_refuse_exec(struct session *session, struct resp_buffer *out);
void multi_discard(struct session *session); /* ends the transaction and forgets watched keys */
void multi_free(struct session *session);
unsigned multi_count(const struct session *session);
size_t multi_bytes(const struct session *session);
unsigned multi_watches(const struct session *session);
/* The answer of the read behind WATCH: sink, bytes from another node, end. */
struct store_reply *multi_watch_begin(struct session *session);
void multi_watch_raw(struct session *session, const void *bytes, size_t len);
void multi_watch_end(struct session *session, struct resp_buffer *out);
/* EXEC with local commands (PENDING_MIXED): where the reply of the store's commands goes; its end. */
struct resp_buffer *multi_exec_reply(struct session *session);
void multi_exec_end(struct session *session, struct resp_buffer *out);

/* cmd_client.c */
bool client_text_ok(struct iovec text); /* fit for CLIENT LIST: printable, no blanks */

/* cmd_readmode.c */
void readmode_set(struct session *session, const struct read_mode *mode);

/* cmd_transfer.c */
void transfer_run(struct call *call);          /* LOCKSTEP TRANSFER */
void transfer_forget(struct session *session); /* the connection closes */

/* cmd_snapshot.c */
void snapshot_run(struct call *call);          /* LOCKSTEP SNAPSHOT */
void snapshot_forget(struct session *session); /* the connection closes */

/* cmd_export.c */
void export_forget(struct session *session); /* the connection closes */
/* cmd_export_file.c */
void export_file_forget(struct session *session);
void export_holds_expire(struct sessions *owner); /* now and then */

/* cmd_server.c */
void wait_forget(struct session *session); /* the connection closes: a WAIT under way is dropped */

#endif
