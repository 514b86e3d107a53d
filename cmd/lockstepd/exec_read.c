/* Reads: those of one loop turn are confirmed together (replica_read_start), then answered from memory.
 *
 * A read must see the earlier writes of its session, and none of the later ones:
 * - a write of its session is in a batch not yet proposed: the read rides on that batch. That entry is proposed after
 *   the read arrived, so its commit proves that no later leader had committed anything before.
 * - a write of its session is in flight: confirmation as usual, since that entry was proposed before the read arrived
 *   and proves nothing; then it rides to the end of that batch, which is applied at once or soon.
 * - a write comes after it while it waits: it becomes a rider in front of that write. */
#include <assert.h>
#include <stdlib.h>

#include "cmd/lockstepd/executor_internal.h"

static void session_reads_append(struct exec_session *s, struct exec_request *request)
{
    request->session_next = NULL;
    if (s->reads_tail == NULL) {
        s->reads = request;
    } else {
        s->reads_tail->session_next = request;
    }
    s->reads_tail = request;
}

/* A session's reads leave its list in order, so it is always the first. */
static void session_reads_pop(struct exec_session *s, const struct exec_request *request)
{
    assert(s->reads == request);
    s->reads = request->session_next;
    if (s->reads == NULL) {
        s->reads_tail = NULL;
    }
}

void exec_read_now(struct executor *ex, struct exec_request *request)
{
    if (request->error == NULL && replica_reads_refused(ex->replica)) {
        request->error = EXEC_DISPUTED;
    }
    if (request->error != NULL) {
        exec_finish_error(ex, request, request->error);
        return;
    }
    if (!request->session->detached) {
        if (!exec_args_decode(request->args->bytes, request->args->len, false, &ex->view)) {
            exec_finish_error(ex, request, EXEC_NO_MEMORY);
            return;
        }
        const bool clock = (request->command->flags & STORE_CLOCK) != 0;
        if (clock) {
            store_set_read_time(ex->config.store, replica_cluster_time(ex->replica));
        }
        store_read(ex->config.store, request->command, ex->view.argv, ex->view.argc, request->begin(request));
        if (clock) {
            store_set_read_time(ex->config.store, 0);
        }
        exec_session_saw(request->session, store_revision(ex->config.store));
    }
    exec_finish(ex, request);
}

static void confirmed(struct executor *ex, struct exec_request *request, enum replica_status status)
{
    struct exec_session *s = request->session;

    session_reads_pop(s, request);
    exec_list_remove(&request->group->requests, request);
    request->group = NULL;
    if (status == REPLICA_DISPUTED) {
        request->error = EXEC_DISPUTED;
    }
    if (status != REPLICA_OK) {
        exec_route_again(ex, request);
    } else if (s->last_batch != NULL) {
        assert(s->last_batch->proposed);
        exec_ride(s->last_batch, request);
    } else {
        ex->stats.reads_confirmed++;
        exec_read_now(ex, request);
    }
}

/* Groups are confirmed in order. What is not confirmed takes all that waits of its session along, before it and behind
 * it: a group may be refused at once while an earlier one waits, or be lost before the next is started. */
static void confirmed_cb(struct replica_read *read, enum replica_status status)
{
    struct read_group *group = read->data;
    struct executor *ex = group->executor;

    while (group->requests.first != NULL) {
        struct exec_session *s = group->requests.first->session;
        if (status == REPLICA_OK) {
            assert(s->reads->group == group);
            confirmed(ex, s->reads, status);
            continue;
        }
        while (s->reads != NULL) {
            confirmed(ex, s->reads, status);
        }
    }
    free(group);
}

void exec_read(struct executor *ex, struct exec_request *request)
{
    struct exec_session *s = request->session;

    if (s->last_batch != NULL && !s->last_batch->proposed) {
        exec_ride(s->last_batch, request);
        return;
    }
    if (ex->collecting == NULL) {
        ex->collecting = calloc(1, sizeof *ex->collecting);
        if (ex->collecting == NULL) {
            exec_refuse(ex, request, EXEC_NO_MEMORY);
            return;
        }
        ex->collecting->executor = ex;
        ex->collecting->read.data = ex->collecting;
        ex->collecting->read.cb = confirmed_cb;
    }
    request->state = EXEC_READ;
    request->group = ex->collecting;
    exec_list_append(&ex->collecting->requests, request);
    session_reads_append(s, request);
}

void exec_reads_to_riders(struct executor *ex, struct exec_session *s, struct exec_batch *batch)
{
    (void)ex;
    while (s->reads != NULL) {
        struct exec_request *request = s->reads;
        session_reads_pop(s, request);
        exec_list_remove(&request->group->requests, request);
        request->group = NULL;
        exec_ride(batch, request);
    }
}

void exec_reads_turn_end(struct executor *ex)
{
    struct read_group *group = ex->collecting;

    if (group == NULL) {
        return;
    }
    if (group->requests.first == NULL) { /* all became riders */
        return;
    }
    ex->collecting = NULL;
    const enum replica_status status = replica_read_start(ex->replica, &group->read);
    if (status != REPLICA_OK) {
        confirmed_cb(&group->read, status);
    }
}

void exec_reads_stop(struct executor *ex)
{
    struct read_group *group = ex->collecting;

    if (group != NULL) {
        ex->collecting = NULL;
        confirmed_cb(&group->read, REPLICA_NOT_LEADER);
    }
}
