/* Reads: those of one loop turn are confirmed together (replica_read_start), then answered from memory.
 *
 * A read must see the earlier writes of its session, and none of the later ones:
 * - a write of its session is in a batch not yet proposed: the read rides on that batch. That entry is proposed after
 *   the read arrived, so its commit proves that no later leader had committed anything before.
 * - a write of its session is in flight: confirmation as usual, since that entry was proposed before the read arrived
 *   and proves nothing; then it rides to the end of that batch, which is applied at once or soon.
 * - a write comes after it while it waits: it becomes a rider in front of that write.
 *
 * Where the session's client leaves its replies lying, a confirmed read is deferred: it stays in the session's list,
 * without a group, until there is room. What it reads then is later than what was confirmed, which is as good. */
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

static void deferred_link(struct executor *ex, struct exec_session *s)
{
    s->deferred_next = NULL;
    s->deferred_prev = ex->deferred_tail;
    *(ex->deferred_tail == NULL ? &ex->deferred : &ex->deferred_tail->deferred_next) = s;
    ex->deferred_tail = s;
    s->on_deferred_list = true;
}

static void deferred_unlink(struct executor *ex, struct exec_session *s)
{
    *(s->deferred_prev == NULL ? &ex->deferred : &s->deferred_prev->deferred_next) = s->deferred_next;
    *(s->deferred_next == NULL ? &ex->deferred_tail : &s->deferred_next->deferred_prev) = s->deferred_prev;
    s->on_deferred_list = false;
}

/* A session's reads leave its list in order, so it is always the first. */
static void session_reads_pop(struct executor *ex, struct exec_session *s, struct exec_request *request)
{
    assert(s->reads == request);
    s->reads = request->session_next;
    if (s->reads == NULL) {
        s->reads_tail = NULL;
    }
    if (request->group != NULL) {
        exec_list_remove(&request->group->requests, request);
        request->group = NULL;
    }
    if (s->on_deferred_list && (s->reads == NULL || s->reads->group != NULL)) {
        deferred_unlink(ex, s);
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

    session_reads_pop(ex, s, request);
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

/* Confirmed, and left lying for lack of room. The session's earlier reads have been confirmed before, and lie too. */
static bool defer(struct executor *ex, struct exec_request *request)
{
    struct exec_session *s = request->session;

    if (!s->on_deferred_list && (s->last_batch != NULL || !exec_session_is_full(s))) {
        return false;
    }
    exec_list_remove(&request->group->requests, request);
    request->group = NULL;
    if (!s->on_deferred_list) {
        assert(s->reads == request);
        deferred_link(ex, s);
    }
    return true;
}

/* Each session in turn, so that the first does not take all the room of a link. */
void exec_reads_deferred(struct executor *ex)
{
    const struct exec_session *last = ex->deferred_tail;
    struct exec_session *s = ex->deferred;

    while (s != NULL) {
        struct exec_session *next = s != last ? s->deferred_next : NULL;
        bool had_room = false, ended = false;
        while (!ended && !exec_session_is_full(s)) {
            struct exec_request *request = s->reads;
            had_room = true;
            ended = request->session_next == NULL || request->session_next->group != NULL;
            confirmed(ex, request, REPLICA_OK); /* if it was the last, the session may be gone */
        }
        if (!ended && had_room) {
            deferred_unlink(ex, s);
            deferred_link(ex, s);
        }
        s = next;
    }
}

/* Groups are confirmed in order. What is not confirmed takes all that waits of its session along, before it and behind
 * it: a group may be refused at once while an earlier one waits, or be lost before the next is started. */
static void confirmed_cb(struct replica_read *read, enum replica_status status)
{
    struct read_group *group = read->data;
    struct executor *ex = group->executor;

    while (group->requests.first != NULL) {
        struct exec_request *first = group->requests.first;
        struct exec_session *s = first->session;
        if (status == REPLICA_OK) {
            if (!defer(ex, first)) {
                assert(s->reads == first);
                confirmed(ex, first, status);
            }
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
    while (s->reads != NULL) {
        struct exec_request *request = s->reads;
        session_reads_pop(ex, s, request);
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

    while (ex->deferred != NULL) {
        confirmed(ex, ex->deferred->reads, REPLICA_NOT_LEADER);
    }
    if (group != NULL) {
        ex->collecting = NULL;
        confirmed_cb(&group->read, REPLICA_NOT_LEADER);
    }
}
