/* Inside the executor: executor.c (sessions, routing), exec_batch.c (writes), exec_read.c (confirmed reads),
 * exec_forward.c and exec_replies.c (to and from other nodes). */
#ifndef LOCKSTEP_EXECUTOR_INTERNAL_H
#define LOCKSTEP_EXECUTOR_INTERNAL_H

#include "cmd/lockstepd/exec_args.h"
#include "cmd/lockstepd/executor.h"
#include "consensus/env.h"

/* Nodes whose clients together fill the leader's queue: more than that share is not forwarded at a time. */
#define EXEC_FORWARD_SHARE 8u
/* Entries proposed and not yet applied, at most. */
#define EXEC_ENTRIES_IN_FLIGHT 4u
/* While one is on its way the next one fills (group commit), unless that takes longer than this: then it is the disk or
 * the network that is slow, not the processor, and waiting saves nothing. */
#define EXEC_GATHER_US 500u
/* Clients that were just answered are waited for, within the same time, if so many commands were outstanding lately:
 * one entry of nearly all clients costs far less than two of half of them. */
#define EXEC_RETURN_MIN 8u
/* Where they have not come in time, up to so many entries go without waiting before it is tried again. */
#define EXEC_RETURN_PAUSE_MAX 64u

/* What a client is told (DESIGN section 8). */
#define EXEC_CLUSTERDOWN "CLUSTERDOWN no leader is known: not executed"
#define EXEC_REMOVED "CLUSTERDOWN this node was removed from the cluster: not executed, connect to another one"
#define EXEC_DISPUTED                                                                                                  \
    "TRYAGAIN this node's content is in doubt, see its log: nothing was read, retry or ask another node"
#define EXEC_TRYAGAIN "TRYAGAIN the leader is changing or overloaded: not executed, retry"
#define EXEC_STOPPING "TRYAGAIN this node is stopping: not executed, retry at another one"
#define EXEC_UNKNOWN "UNKNOWN the outcome is not known: the command may have been executed"
#define EXEC_NOSPACE "NOSPACE disk space is below the reserve of the leader: not executed"
#define EXEC_OOM "OOM command not allowed when used memory > 'maxmemory'."
#define EXEC_TOO_BIG "ERR the command is larger than max-entry-size: not executed"
#define EXEC_REPLY_TOO_BIG "ERR the reply is too large to be relayed: ask the leader itself"
#define EXEC_TOO_STALE "TRYAGAIN this node's copy is older than the bound of READMODE stale: not executed"
#define EXEC_REFUSED "ERR the command can't be logged: not executed"
#define EXEC_NO_MEMORY "TRYAGAIN out of memory: not executed"

enum exec_state {
    EXEC_NEW,
    EXEC_HELD,      /* session.held */
    EXEC_FAILING,   /* executor.failing: only its error reply is left to do */
    EXEC_WRITE,     /* exec_batch.requests, has a command in the entry */
    EXEC_RIDER,     /* exec_batch.requests, a read or a decided reply between commands */
    EXEC_READ,      /* read_group.requests and session.reads */
    EXEC_FORWARDED, /* forward table */
    EXEC_LOCAL      /* executor.local: a read that waits for this node's own copy */
};

struct exec_list {
    struct exec_request *first, *last;
};

/* One log entry and what hangs on it. */
struct exec_batch {
    struct proposal proposal;
    struct executor *executor;
    struct exec_batch *next;     /* in the queue */
    struct exec_list requests;   /* writes and riders in the order in which they take effect */
    struct exec_request *cursor; /* while applied: the next one */
    struct store_batch commands;
    void *data; /* sealed, until proposed */
    size_t len;
    size_t bytes; /* counted in executor.queue_bytes until proposed */
    bool proposed;
    unsigned count; /* commands, once proposed */
};

/* Reads of one loop turn, confirmed together. */
struct read_group {
    struct replica_read read;
    struct executor *executor;
    struct exec_list requests;
};

/* A request as it is handed in. */
struct exec_input {
    const struct store_command *command; /* NULL: a transaction */
    const struct iovec *argv;
    unsigned argc;
    const struct store_watch *watches;
    unsigned n_watches;
    const struct store_queued *commands;
    unsigned n_commands;
};

/* Keys of entries that were received and not applied, by hash. Two keys in one slot only make a read wait. */
#define EXEC_PENDING_SLOTS 8192u /* a power of two */
struct exec_pending {
    uint64_t touched[EXEC_PENDING_SLOTS]; /* newest index that names a key of the slot */
    uint64_t touched_all;                 /* newest index that touches keys it does not name */
    uint64_t index, time_ms;              /* newest entry received */
    uint64_t checked_from, checked_to;    /* these were checked when received */
};

struct forward;

struct executor {
    struct executor_config config;
    struct replica *replica;
    struct exec_batch *open;               /* fills; NULL: none */
    struct exec_batch *queue, *queue_tail; /* full, wait to be proposed */
    uint64_t queue_bytes;                  /* of open and queue */
    unsigned in_flight;
    uint64_t proposed_us;       /* when the last one was ... */
    unsigned proposed_commands; /* ... and what it held */
    unsigned in_flight_commands;
    unsigned at_once;     /* commands in flight and in the open batch when an entry was last applied ... */
    unsigned expected;    /* ... and the most, lately */
    bool awaiting_return; /* the open batch waits for clients that were just answered */
    unsigned return_pause, return_pause_next; /* entries to go without that; the same after the next disappointment */
    struct env_timer gather_timer;
    bool gather_armed;
    bool proposing;
    bool congested;
    bool stopping;
    struct read_group *collecting; /* reads of this turn */
    struct exec_list failing;
    struct exec_session *deferred, *deferred_tail; /* sessions with confirmed reads that wait for their clients */
    struct env_timer poll_timer;                   /* looks whether those, or links, have room */
    bool poll_armed;
    bool local_deferred;    /* a read in `local` waits for its client */
    struct exec_list local; /* reads waiting for this node's copy, oldest first */
    struct exec_pending pending;
    struct exec_session *held_first;     /* sessions with held requests */
    uint64_t held_bytes;                 /* arguments of held requests: at most queue_bytes_max */
    uint64_t leaderless_us;              /* since when no leader is known; 0: one is */
    uint64_t declined_id, declined_term; /* it says that it does not lead in this term any more */
    uint64_t forwarded_bytes;            /* arguments of requests that other nodes have */
    uint64_t outstanding;
    bool draining;
    uint64_t next_session_id;
    struct exec_view view;        /* scratch for executing copied reads */
    struct exec_view submit_view; /* scratch for handing in copied or forwarded requests */
    struct env_timer tick_timer;
    uint64_t tick_deadline_ms; /* the deadline the timer is set for */
    uint64_t maxmemory;
    struct forward *forward;
    struct executor_stats stats;
};

/* Look again so soon for room in what gives no sign when it has some. */
#define EXEC_POLL_US 1000u

/* executor.c */
/* Does the session's client leave replies lying, so that more of them should wait? */
bool exec_session_is_full(const struct exec_session *s);
void exec_list_append(struct exec_list *list, struct exec_request *request);
void exec_list_remove(struct exec_list *list, struct exec_request *request);
/* Route one request: hold, execute here, forward, or fail. */
void exec_route(struct executor *ex, struct exec_session *s, struct exec_request *request,
                const struct exec_input *input);
/* A request that counts as unfinished and was certainly not executed: once the earlier ones of its session have ended,
 * route it anew or, if it has an error, end it with that. One without an error has its arguments. */
void exec_route_again(struct executor *ex, struct exec_request *request);
/* End the oldest request of the session, with its error or as not executed, if it is held or about to fail. */
bool exec_end_waiting(struct executor *ex, struct exec_session *s);
/* The node to which `leader` of `term` were sent requests does not lead any more. */
void exec_declined(struct executor *ex, uint64_t leader, uint64_t term);
/* Copy the arguments if that has not been done. False: out of memory. */
bool exec_keep_args(struct exec_request *request, const struct exec_input *input);
/* Give the error reply and end. */
void exec_finish_error(struct executor *ex, struct exec_request *request, const char *error);
/* The reply has been given: end. */
void exec_finish(struct executor *ex, struct exec_request *request);
/* Refuse a request that counts as unfinished, in its place in the session's order. */
void exec_refuse(struct executor *ex, struct exec_request *request, const char *error);
/* A request from another node, which took this one to lead (`leads`: it does, in that term). */
void exec_submit_forwarded(struct executor *ex, struct exec_session *s, struct exec_request *request,
                           const struct exec_input *input, bool leads);
/* To be failed at the end of the turn. */
void exec_fail_later(struct executor *ex, struct exec_request *request, const char *error);

/* exec_batch.c */
void exec_write(struct executor *ex, struct exec_request *request, const struct exec_input *input);
void exec_ride(struct exec_batch *batch, struct exec_request *request);
void exec_propose(struct executor *ex);
void exec_gather_timer_cb(struct env_timer *timer);
void exec_tick(struct executor *ex);
/* What was not proposed is for the next leader to execute. */
void exec_batches_route_again(struct executor *ex);

/* exec_read.c */
void exec_read(struct executor *ex, struct exec_request *request);
/* A write of the session follows: its waiting reads become riders of `batch`. */
void exec_reads_to_riders(struct executor *ex, struct exec_session *s, struct exec_batch *batch);
void exec_read_now(struct executor *ex, struct exec_request *request);
void exec_reads_turn_end(struct executor *ex);
/* Answer what was confirmed and waited for room with its client. */
void exec_reads_deferred(struct executor *ex);
/* No turn ends any more, and the replica is closed: those that wait for that are not executed. */
void exec_reads_stop(struct executor *ex);

/* exec_local.c */
/* Take a read that this node's own copy will be able to answer. False: it can't. */
bool exec_local_submit(struct executor *ex, struct exec_request *request, const struct exec_input *input);
void exec_local_turn_end(struct executor *ex);
void exec_local_fail(struct executor *ex);
/* Was this entry checked when it was received? */
bool exec_was_checked(const struct executor *ex, uint64_t index);

/* exec_forward.c */
struct forward *forward_new(struct executor *ex);
void forward_free(struct forward *f);
void forward_submit(struct forward *f, struct exec_request *request, const struct exec_input *input);
void forward_turn_end(struct forward *f);
void forward_changed(struct forward *f);
bool forward_receive(struct forward *f, uint64_t from, const void *frame, size_t len);
void forward_peer_state(struct forward *f, uint64_t peer, bool connected);
void forward_stop(struct forward *f);
/* Something waits for a link or a client: call forward_turn_end again soon. */
bool forward_waits(const struct forward *f);
/* The session's owner is gone. */
void forward_session_ends(struct forward *f, struct exec_session *session);

#endif
