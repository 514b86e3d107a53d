/* Executes data commands on behalf of sessions, on whichever node leads: owns the open batch, the reads waiting for
 * confirmation and the commands forwarded to and from other nodes. Knows nothing of client connections: a session (a
 * local one, or the proxy of a session on another node) hands in requests and is given replies. Loop thread only.
 *
 * When leadership moves, what was submitted here and never proposed is routed to the new leader, in order; so is what
 * arrives while no leader is known, for at most an election timeout.
 *
 * Order: requests of one session take effect in the order submitted, and their replies come in that order. Nothing ever
 * stalls for that: a read behind an unfinished write of its session rides on the open batch (it is executed right after
 * that write is applied, at no cost in the log), and so does a read that a later write of its session overtakes. */
#ifndef LOCKSTEP_EXECUTOR_H
#define LOCKSTEP_EXECUTOR_H

#include "cmd/lockstepd/read_mode.h"
#include "consensus/replica.h"
#include "store/store.h"

struct executor;

struct exec_batch;
struct read_group;

/* Per session; embedded by its owner, set up by exec_session_init. */
struct exec_session {
    /* private */
    uint64_t id;                                /* names the session on the wire */
    uint64_t unfinished;                        /* requests submitted, neither ended nor held */
    uint64_t route;                             /* node that executes the unfinished ones ... */
    uint64_t route_term;                        /* ... in this term */
    struct exec_batch *last_batch;              /* newest batch with a write of this session, NULL if all have ended */
    struct exec_request *reads, *reads_tail;    /* waiting for confirmation, oldest first */
    struct exec_request *held, *held_tail;      /* waiting until the unfinished ones have ended */
    struct exec_session *held_prev, *held_next; /* sessions with held requests */
    bool on_held_list;
    bool detached;
    enum exec_read_mode mode;
    uint64_t stale_max_us; /* of EXEC_STALE; 0: no bound */
    uint64_t revision;     /* newest revision that this session has seen */
    uint64_t local_index;  /* newest index that a local read of it waits for */
    uint64_t submitted;    /* requests so far */
    uint64_t ended;        /* of these; in order, so the next to end is the one after them */
    bool proxy;            /* of a session on another node */
    uint64_t alive_us;     /* when its last forwarded reply came, or it went on to take them */
    struct exec_session *deferred_prev, *deferred_next; /* sessions with confirmed reads that wait for `backlog` */
    bool on_deferred_list;
    struct exec_session *stopped_prev, *stopped_next; /* sessions whose forwarded reads wait for `backlog` */
    bool stopped;
    /* public */
    /* Bytes of replies that its owner could not pass on yet: while they are more than EXEC_BACKLOG_BYTES, reads wait
     * with their replies. Set after exec_session_init; NULL: none ever. */
    uint64_t (*backlog)(const struct exec_session *session);
};

/* What a session's owner holds of replies that its client does not take, before reads wait. The replies of writes, and
 * of reads between writes that are under way, can't wait: they come on top. */
#define EXEC_BACKLOG_BYTES ((uint64_t)1024 * 1024)

/* One command or transaction, embedded by its owner, who keeps it until `end`. */
struct exec_request {
    /* public */
    void *data;
    int proto; /* 2 or 3: how replies of another node are rendered for `raw` */
    /* A reply is about to be given: returns where it goes (not NULL). */
    struct store_reply *(*begin)(struct exec_request *request);
    /* The reply comes from another node as finished RESP bytes of `proto`; instead of begin. */
    void (*raw)(struct exec_request *request, const void *bytes, size_t len);
    /* The request is finished; its memory is the owner's again. Fires exactly once, in submission order within the
     * session, never from inside executor_submit (errors included). */
    void (*end)(struct exec_request *request);
    /* private */
    struct exec_session *session;
    struct exec_request *next, *prev;    /* in the list of its state */
    struct exec_request *session_next;   /* the session's waiting reads */
    struct read_group *group;            /* of a waiting read */
    const struct store_command *command; /* NULL: a transaction */
    struct exec_args *args;              /* copied arguments, NULL where they are not needed any more */
    const char *error;                   /* this reply is already decided; static text */
    uint64_t number;                     /* of a forwarded request; index that a local read waits for */
    uint64_t deadline_us;                /* of a local read that waits */
    uint64_t order;                      /* in its session */
    uint64_t stale_max_us;               /* the session's when it was submitted, as is mode */
    uint8_t mode;                        /* enum exec_read_mode */
    bool not_here;                       /* of a proxy: not executed since this node leads no more */
    uint8_t state;
};

void exec_session_init(struct executor *executor, struct exec_session *session);
/* The session ends with requests outstanding: their `begin`/`raw` are not called any more, `end` still is, later. */
void exec_session_detach(struct executor *executor, struct exec_session *session);

/* Default: linearizable. `stale_max_us` 0: no bound. Applies to requests submitted from now on. */
void exec_session_set_mode(struct exec_session *session, enum exec_read_mode mode, uint64_t stale_max_us);
/* Newest revision the session has seen; a token from another session raises it. */
uint64_t exec_session_revision(const struct executor *executor, const struct exec_session *session);
void exec_session_saw(struct exec_session *session, uint64_t revision);

/* Answer a STORE_READ command at once, from this node's memory, as the session's mode allows. False: that is not
 * possible here and now, nothing was written to `reply`: submit it. Nothing of the session may be unfinished for true.
 */
bool executor_read_local(struct executor *executor, struct exec_session *session, const struct store_command *command,
                         const struct iovec *argv, unsigned argc, struct store_reply *reply);

/* Submit one store command (STORE_READ or STORE_WRITE), arity checked by the caller. argv is copied as needed. */
void executor_submit(struct executor *executor, struct exec_session *session, struct exec_request *request,
                     const struct store_command *command, const struct iovec *argv, unsigned argc);
/* Submit MULTI/EXEC as one. */
void executor_submit_transaction(struct executor *executor, struct exec_session *session, struct exec_request *request,
                                 const struct store_watch *watches, unsigned n_watches,
                                 const struct store_queued *commands, unsigned n_commands);
/* Too much is waiting: stop handing in requests until `relieved` (executor_config) is called. */
bool executor_congested(struct executor *executor);

/* --- For node.c ----------------------------------------------------------------------------------------------------
 */

struct executor_config {
    struct env *env;
    struct store *store;
    uint64_t id;              /* of this node */
    uint32_t batch_bytes_max; /* target size of one entry */
    uint32_t entry_bytes_max; /* largest entry: a single big command */
    /* Batched and not yet proposed: congested above half of it, -TRYAGAIN above all of it. Forwarded and not answered:
     * congested above an eighth. */
    uint64_t queue_bytes_max;
    uint32_t forward_timeout_ms; /* a forwarded request without an answer ends as -UNKNOWN after this */
    uint32_t election_timeout_ms;
    /* Replies to another node that wait for its link, at most (one frame always may); 0: 256 MiB. Above it they are
     * lost, and what that node has under way ends as unknown. */
    uint64_t replies_bytes_max;
    /* Bytes sent to a node that the network has not taken. NULL: it takes all at once. */
    uint64_t (*link_bytes)(void *ctx, uint64_t peer);
    void (*relieved)(void *ctx);
    void *ctx;
};

struct executor_stats {
    uint64_t commands;
    uint64_t batches, batched_commands, batch_commands_last, batch_commands_max;
    double batch_commands_ewma;
    uint64_t reads_local, reads_waited, reads_session, reads_stale, reads_too_stale; /* local, by mode */
    uint64_t forwarded_out, forwarded_in, reads_confirmed, reads_riding, unknown, tryagain, ticks;
};

struct executor *executor_new(const struct executor_config *config);
/* The replica starts after the executor, whose functions are its FSM. */
void executor_attach(struct executor *executor, struct replica *replica);
void executor_free(struct executor *executor);
/* replica_fsm.apply */
void executor_apply(struct executor *executor, uint64_t index, const void *data, size_t len, struct proposal *proposal);
/* replica_fsm.received */
void executor_received(struct executor *executor, uint64_t index, const void *data, size_t len);
/* The content of the store was replaced by that of a snapshot up to `index`. */
void executor_installed(struct executor *executor, uint64_t index);
/* Role, term or leader changed. */
void executor_changed(struct executor *executor);
/* The node stops soon: what is submitted from now on is refused as not executed, what was submitted before goes on. */
void executor_drain(struct executor *executor);
/* Requests that have not ended, those from other nodes included. */
uint64_t executor_outstanding(const struct executor *executor);
/* End of a loop turn: before replica_turn_end. */
void executor_turn_end(struct executor *executor);
/* After replica_turn_end, which may have confirmed reads of other nodes: send what it gave. */
void executor_flush(struct executor *executor);
/* Everything outstanding ends with an error: now, or, if the replica has it or has something before it, when that is
 * closed and executor_free called. */
void executor_stop(struct executor *executor);
/* A frame of EXECUTOR_CHANNEL from a node. False: malformed. */
bool executor_receive(struct executor *executor, uint64_t from, const void *frame, size_t len);
void executor_peer_state(struct executor *executor, uint64_t peer, bool connected);
void executor_set_maxmemory(struct executor *executor, uint64_t bytes);
void executor_stats(const struct executor *executor, struct executor_stats *stats);
void executor_stats_reset(struct executor *executor);

/* First byte of frames between executors. */
#define EXECUTOR_CHANNEL 2u

#endif
