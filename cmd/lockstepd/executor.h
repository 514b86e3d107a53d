/* Executes data commands on behalf of sessions, on whichever node leads: owns the open batch, the reads waiting for
 * confirmation and the commands forwarded to and from other nodes. Knows nothing of client connections: a session (a
 * local one, or the proxy of a session on another node) hands in requests and is given replies. Loop thread only.
 *
 * Order: requests of one session take effect in the order submitted, and their replies come in that order. Nothing ever
 * stalls for that: a read behind an unfinished write of its session rides on the open batch (it is executed right after
 * that write is applied, at no cost in the log), and so does a read that a later write of its session overtakes. */
#ifndef LOCKSTEP_EXECUTOR_H
#define LOCKSTEP_EXECUTOR_H

#include "consensus/replica.h"
#include "store/store.h"

struct executor;

/* Per session; embedded by its owner, zeroed by exec_session_init. */
struct exec_session {
    /* private */
    uint64_t id;              /* names the session on the wire */
    uint64_t unfinished;      /* requests submitted and not ended */
    uint64_t writes;          /* of those: writes and riding reads in batches */
    struct exec_request *reads; /* waiting for confirmation, oldest first */
    struct exec_request *reads_tail;
    bool detached;
};

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
    struct exec_request *next, *prev;
    const struct store_command *command;
    void *args;
    uint32_t argc;
    uint8_t state;
    uint64_t number;
};

void exec_session_init(struct executor *executor, struct exec_session *session);
/* The session ends with requests outstanding: their `begin`/`raw` are not called any more, `end` still is, later. */
void exec_session_detach(struct executor *executor, struct exec_session *session);

/* Submit one store command (STORE_READ or STORE_WRITE), arity checked by the caller. argv is copied as needed. */
void executor_submit(struct executor *executor, struct exec_session *session, struct exec_request *request,
                     const struct store_command *command, const struct iovec *argv, unsigned argc);
/* Submit MULTI/EXEC as one. */
void executor_submit_transaction(struct executor *executor, struct exec_session *session,
                                 struct exec_request *request, const struct store_watch *watches, unsigned n_watches,
                                 const struct store_queued *commands, unsigned n_commands);
/* Executes nothing and ends once everything submitted before in this session has ended (for local commands that must
 * keep their place, such as WAIT). */

/* Too much is waiting: stop handing in requests until `relieved` (executor_config) is called. */
bool executor_congested(const struct executor *executor);

#endif
