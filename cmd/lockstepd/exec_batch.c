/* Writes: the open batch becomes one log entry; replies are given while it is applied.
 *
 * Group commit: what arrives while an entry is on its way fills the open batch. An entry costs each node two or three
 * wake-ups and a synced write whatever its size, so a second one follows only if the batch is full, if the first is
 * slow, or if that holds a single command: then there are few clients, and processors enough. Never more than
 * EXEC_ENTRIES_IN_FLIGHT.
 *
 * Clients that wait for each answer would so fall into two halves, whose entries alternate. When an entry has been
 * applied, the next one therefore waits for those who were answered: most of them are back before another entry could
 * have been committed. If they are not, they do something else between their commands, and aren't waited for again
 * soon. */
#include <assert.h>
#include <stdlib.h>

#include "cmd/lockstepd/executor_internal.h"

/* A command's place in the batch costs this much beside its bytes: request bookkeeping. */
#define COMMAND_OVERHEAD 64u

static struct exec_batch *batch_of(struct proposal *proposal)
{
    return proposal->data;
}

static struct exec_batch *batch_new(struct executor *ex)
{
    struct exec_batch *batch = calloc(1, sizeof *batch);

    if (batch != NULL) {
        batch->executor = ex;
        batch->proposal.data = batch;
        store_batch_init(&batch->commands, ex->config.entry_bytes_max);
    }
    return batch;
}

static void batch_free(struct exec_batch *batch)
{
    assert(batch->requests.first == NULL);
    store_batch_fini(&batch->commands);
    free(batch->data);
    free(batch);
}

void exec_ride(struct exec_batch *batch, struct exec_request *request)
{
    request->state = EXEC_RIDER;
    batch->executor->stats.reads_riding++;
    exec_list_append(&batch->requests, request);
}

/* Take the first request off a batch that ends. */
static struct exec_request *batch_pop(struct exec_batch *batch)
{
    struct exec_request *request = batch->requests.first;

    if (request != NULL) {
        exec_list_remove(&batch->requests, request);
        if (request->session->last_batch == batch) {
            /* Its later requests in this batch follow; new ones must not ride on it any more. */
            request->session->last_batch = NULL;
        }
    }
    return request;
}

/* It will never be proposed: its writes end with `error`, its riders (reads) are done without it. Earlier requests of
 * its sessions may be in flight, so none ends here. */
static void batch_fail(struct exec_batch *batch, const char *error)
{
    struct executor *ex = batch->executor;
    struct exec_request *request;

    while ((request = batch_pop(batch)) != NULL) {
        if (request->state == EXEC_WRITE && request->error == NULL) {
            request->error = error;
        }
        exec_route_again(ex, request);
    }
    batch_free(batch);
}

/* --- Leadership has moved -------------------------------------------------------------------------------------------
 */

/* Give the writes of a sealed batch their arguments back. Those that stay without, for want of memory, get an error. */
static void give_back_arguments(struct exec_batch *batch)
{
    struct exec_request *request = batch->requests.first;
    struct store_entry_reader reader;

    store_entry_reader_init(&reader, batch->data, batch->len);
    for (; request != NULL; request = request->next) {
        if (request->state != EXEC_WRITE) {
            continue;
        }
        if (store_entry_next(&reader)) {
            request->args = reader.transaction ? exec_args_transaction(reader.watches, reader.n_watches,
                                                                       reader.commands, reader.n_commands)
                                               : exec_args_command(reader.argv, reader.argc);
        }
        if (request->args == NULL) {
            request->error = EXEC_NO_MEMORY;
        }
    }
    store_entry_reader_fini(&reader);
}

static void batch_route_again(struct exec_batch *batch)
{
    struct executor *ex = batch->executor;
    struct exec_request *request;

    if (batch->data == NULL && store_batch_seal(&batch->commands, 0, &batch->data, &batch->len) != STORE_OK) {
        batch_fail(batch, EXEC_NO_MEMORY);
        return;
    }
    give_back_arguments(batch);
    while ((request = batch_pop(batch)) != NULL) {
        exec_route_again(ex, request);
    }
    batch_free(batch);
}

static void unknown_cb(struct proposal *proposal)
{
    struct exec_batch *batch = batch_of(proposal);
    struct executor *ex = batch->executor;
    struct exec_request *request;

    ex->in_flight--;
    ex->in_flight_commands -= batch->count;
    while ((request = batch_pop(batch)) != NULL) { /* nothing earlier of its session is unfinished */
        const char *text = request->state == EXEC_WRITE ? EXEC_UNKNOWN : EXEC_TRYAGAIN;
        exec_finish_error(ex, request, request->error != NULL ? request->error : text);
    }
    batch_free(batch);
}

/* --- Filling ------------------------------------------------------------------------------------------------------ */

/* The open batch is full: it waits in the queue. */
static void close_open(struct executor *ex)
{
    struct exec_batch *batch = ex->open;

    ex->open = NULL;
    batch->next = NULL;
    if (ex->queue_tail == NULL) {
        ex->queue = batch;
    } else {
        ex->queue_tail->next = batch;
    }
    ex->queue_tail = batch;
}

static enum store_status add(struct exec_batch *batch, const struct exec_input *in)
{
    return in->command != NULL ? store_batch_add(&batch->commands, in->argv, in->argc)
                               : store_batch_add_transaction(&batch->commands, in->watches, in->n_watches, in->commands,
                                                             in->n_commands);
}

/* Add to the open batch, opening another when it is full. */
static enum store_status add_to_open(struct executor *ex, const struct exec_input *in)
{
    enum store_status status;

    if (ex->open != NULL && store_batch_bytes(&ex->open->commands) >= ex->config.batch_bytes_max) {
        close_open(ex);
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        if (ex->open == NULL) {
            ex->open = batch_new(ex);
            if (ex->open == NULL) {
                return STORE_NO_MEMORY;
            }
        }
        const size_t before = store_batch_bytes(&ex->open->commands);
        status = add(ex->open, in);
        if (status == STORE_OK) {
            const size_t bytes = store_batch_bytes(&ex->open->commands) - before + COMMAND_OVERHEAD;
            ex->open->bytes += bytes;
            ex->queue_bytes += bytes;
            return STORE_OK;
        }
        if (status != STORE_FULL) {
            break;
        }
        close_open(ex);
    }
    if (ex->open != NULL && store_batch_count(&ex->open->commands) == 0 && ex->open->requests.first == NULL) {
        batch_free(ex->open);
        ex->open = NULL;
    }
    return status;
}

/* Does any command of it need memory that is not to be had? */
static bool out_of_memory(const struct executor *ex, const struct exec_input *in)
{
    if (ex->maxmemory == 0 || store_memory(ex->config.store) < ex->maxmemory) {
        return false;
    }
    if (in->command != NULL) {
        return (in->command->flags & STORE_DENYOOM) != 0;
    }
    for (unsigned i = 0; i < in->n_commands; i++) {
        const struct iovec name = in->commands[i].argv[0];
        const struct store_command *c = store_command_find(name.iov_base, name.iov_len);
        if (c != NULL && (c->flags & STORE_DENYOOM) != 0) {
            return true;
        }
    }
    return false;
}

static void refuse(struct executor *ex, struct exec_request *request, const char *error)
{
    request->error = error;
    exec_read(ex, request); /* the error takes its place in the session's order as a read would */
}

void exec_write(struct executor *ex, struct exec_request *request, const struct exec_input *in)
{
    struct exec_session *s = request->session;

    if (out_of_memory(ex, in)) {
        refuse(ex, request, EXEC_OOM);
        return;
    }
    if (ex->queue_bytes > ex->config.queue_bytes_max) {
        refuse(ex, request, EXEC_TRYAGAIN);
        return;
    }
    /* Reads of the session that wait must not see this write: they go in front of it. Adding may move on to another
     * batch, so the command goes first and the riders are then put before it. */
    const enum store_status status = add_to_open(ex, in);
    if (status != STORE_OK) {
        refuse(ex, request,
               status == STORE_NO_MEMORY ? EXEC_NO_MEMORY
               : status == STORE_TOO_BIG ? EXEC_TOO_BIG
                                         : EXEC_REFUSED);
        return;
    }
    free(request->args);
    request->args = NULL;
    exec_reads_to_riders(ex, s, ex->open);
    request->state = EXEC_WRITE;
    exec_list_append(&ex->open->requests, request);
    s->last_batch = ex->open;
}

/* --- Proposing ---------------------------------------------------------------------------------------------------- */

static void note_proposed(struct executor *ex, unsigned count)
{
    struct executor_stats *st = &ex->stats;

    st->batches++;
    st->batched_commands += count;
    st->batch_commands_last = count;
    if (count > st->batch_commands_max) {
        st->batch_commands_max = count;
    }
    st->batch_commands_ewma += ((double)count - st->batch_commands_ewma) / 16;
}

/* Nearly all that can be expected. */
static bool most_have_returned(const struct executor *ex, unsigned count)
{
    return count >= ex->expected - ex->expected / 8;
}

/* An entry of `count` commands was proposed: was waiting for it worth while? */
static void note_return(struct executor *ex, unsigned count)
{
    if (!ex->awaiting_return) {
        ex->return_pause -= ex->return_pause > 0;
    } else if (most_have_returned(ex, count)) {
        ex->return_pause_next = 1;
    } else {
        ex->return_pause = ex->return_pause_next;
        ex->return_pause_next *= ex->return_pause_next < EXEC_RETURN_PAUSE_MAX ? 2 : 1;
    }
    ex->awaiting_return = false;
}

/* Propose one batch. True if it left the queue (accepted or failed). */
static bool propose_one(struct executor *ex, struct exec_batch *batch)
{
    const unsigned count = store_batch_count(&batch->commands);

    if (batch->data == NULL &&
        store_batch_seal(&batch->commands, replica_cluster_time(ex->replica), &batch->data, &batch->len) != STORE_OK) {
        ex->queue_bytes -= batch->bytes;
        batch_fail(batch, EXEC_NO_MEMORY);
        return true;
    }
    batch->proposal.unknown = unknown_cb;
    switch (replica_propose(ex->replica, batch->data, batch->len, &batch->proposal)) {
    case REPLICA_OK:
        batch->data = NULL;
        batch->proposed = true;
        ex->in_flight++;
        batch->count = count;
        ex->in_flight_commands += count;
        note_return(ex, count);
        ex->proposed_us = ex->config.env->ops->now_us(ex->config.env);
        ex->proposed_commands = count;
        ex->queue_bytes -= batch->bytes;
        note_proposed(ex, count);
        return true;
    case REPLICA_BUSY:
        return false;
    case REPLICA_NO_SPACE:
        ex->queue_bytes -= batch->bytes;
        batch_fail(batch, EXEC_NOSPACE);
        return true;
    case REPLICA_TOO_BIG:
        ex->queue_bytes -= batch->bytes;
        batch_fail(batch, EXEC_TOO_BIG);
        return true;
    default:
        ex->queue_bytes -= batch->bytes;
        batch_route_again(batch);
        return true;
    }
}

/* Nothing is on its way, but those who were just answered should be back soon: as many commands were outstanding as
 * ever. Where clients come and go, or send when they please, that number varies. */
static bool awaits_return(const struct executor *ex)
{
    return ex->expected >= EXEC_RETURN_MIN && ex->return_pause == 0 && most_have_returned(ex, ex->at_once) &&
           !most_have_returned(ex, store_batch_count(&ex->open->commands));
}

/* The open batch is not full, but waits no longer. */
static bool gathered(struct executor *ex)
{
    if (ex->in_flight == 1 && ex->proposed_commands <= 1) {
        return true;
    }
    const bool awaits = ex->in_flight == 0 && awaits_return(ex);
    if (ex->in_flight == 0 && !awaits) {
        return true;
    }
    ex->awaiting_return = ex->awaiting_return || awaits;
    return ex->config.env->ops->now_us(ex->config.env) >= ex->proposed_us + EXEC_GATHER_US;
}

/* Look again in time, should nothing else happen until then. */
static void gather_on(struct executor *ex)
{
    if (ex->open == NULL || ex->queue != NULL || ex->in_flight == EXEC_ENTRIES_IN_FLIGHT || ex->gather_armed) {
        return;
    }
    ex->gather_armed = true;
    ex->config.env->ops->timer_set(ex->config.env, &ex->gather_timer, ex->proposed_us + EXEC_GATHER_US);
}

void exec_gather_timer_cb(struct env_timer *timer)
{
    ((struct executor *)timer->data)->gather_armed = false; /* proposed at the end of this turn */
}

void exec_propose(struct executor *ex)
{
    if (ex->proposing || ex->replica == NULL || !replica_is_leader(ex->replica)) {
        return;
    }
    ex->proposing = true;
    while (ex->in_flight < EXEC_ENTRIES_IN_FLIGHT && (ex->queue != NULL || (ex->open != NULL && gathered(ex)))) {
        if (ex->queue == NULL) {
            close_open(ex);
        }
        struct exec_batch *batch = ex->queue;
        assert(batch != NULL);
        struct exec_batch *next = batch->next;
        ex->queue = next;
        if (next == NULL) {
            ex->queue_tail = NULL;
        }
        if (!propose_one(ex, batch)) {
            ex->queue = batch;
            if (next == NULL) {
                ex->queue_tail = batch;
            }
            break;
        }
    }
    gather_on(ex);
    ex->proposing = false;
}

/* Take the oldest batch that was not proposed, NULL if there is none. */
static struct exec_batch *take_unproposed(struct executor *ex)
{
    if (ex->queue == NULL && ex->open != NULL) {
        close_open(ex);
    }
    struct exec_batch *batch = ex->queue;
    if (batch != NULL) {
        ex->queue = batch->next;
        if (ex->queue == NULL) {
            ex->queue_tail = NULL;
        }
        ex->queue_bytes -= batch->bytes;
    }
    return batch;
}

void exec_batches_route_again(struct executor *ex)
{
    struct exec_batch *batch;

    while ((batch = take_unproposed(ex)) != NULL) {
        batch_route_again(batch);
    }
}

/* An entry that only moves time, when a deadline is due and no write is coming. */
void exec_tick(struct executor *ex)
{
    const uint64_t deadline_ms = store_next_deadline_ms(ex->config.store);

    if (deadline_ms == UINT64_MAX || !replica_is_leader(ex->replica) || ex->in_flight > 0 || ex->open != NULL ||
        ex->queue != NULL) {
        return;
    }
    if (deadline_ms == ex->tick_deadline_ms) {
        return; /* the timer is set for it */
    }
    const uint64_t time_ms = replica_cluster_time(ex->replica);
    if (deadline_ms > time_ms) {
        const struct env_ops *ops = ex->config.env->ops;
        const uint64_t wait_ms = deadline_ms - time_ms < 60000 ? deadline_ms - time_ms : 60000;
        ops->timer_set(ex->config.env, &ex->tick_timer, ops->now_us(ex->config.env) + wait_ms * 1000);
        ex->tick_deadline_ms = deadline_ms;
        return;
    }
    ex->open = batch_new(ex);
    if (ex->open != NULL) {
        ex->stats.ticks++;
    }
}

/* --- Applying ----------------------------------------------------------------------------------------------------- */

/* Execute the riders in front of the next write. */
static void run_riders(struct exec_batch *batch)
{
    while (batch->requests.first != NULL && batch->requests.first->state == EXEC_RIDER) {
        struct exec_request *request = batch->requests.first;
        exec_list_remove(&batch->requests, request);
        exec_read_now(batch->executor, request);
    }
}

static struct store_reply *apply_begin(void *ctx, unsigned i)
{
    struct exec_batch *batch = ctx;

    (void)i;
    run_riders(batch);
    struct exec_request *request = batch->requests.first;
    assert(request != NULL);
    assert(request->state == EXEC_WRITE);
    return request->session->detached ? NULL : request->begin(request);
}

static void apply_end(void *ctx, unsigned i)
{
    struct exec_batch *batch = ctx;
    struct exec_request *request = batch->requests.first;

    (void)i;
    exec_list_remove(&batch->requests, request);
    exec_session_saw(request->session, store_revision(batch->executor->config.store));
    exec_finish(batch->executor, request);
}

/* How many commands are outstanding at once: follows at once when it rises, and within some entries when it falls. */
static void note_expected(struct executor *ex)
{
    const unsigned n = ex->in_flight_commands + (ex->open != NULL ? store_batch_count(&ex->open->commands) : 0);

    ex->at_once = n;
    ex->expected = n >= ex->expected ? n : ex->expected - (ex->expected - n + 7) / 8;
}

void executor_apply(struct executor *ex, uint64_t index, const void *data, size_t len, struct proposal *proposal)
{
    if (proposal == NULL) {
        if (!exec_was_checked(ex, index) && store_entry_check(data, len) != STORE_OK) {
            ex->config.env->ops->fail_stop(ex->config.env, "a committed entry is not understood",
                                           "run the version that wrote it");
            return;
        }
        store_apply(ex->config.store, data, len, NULL);
        return;
    }
    struct exec_batch *batch = batch_of(proposal);
    const struct store_apply_hooks hooks = {.ctx = batch, .begin = apply_begin, .end = apply_end};
    /* From here on its sessions start afresh: nothing can ride on it. */
    for (struct exec_request *q = batch->requests.first; q != NULL; q = q->next) {
        if (q->session->last_batch == batch) {
            q->session->last_batch = NULL;
        }
    }
    note_expected(ex);
    ex->in_flight--;
    ex->in_flight_commands -= batch->count;
    store_apply(ex->config.store, data, len, &hooks);
    run_riders(batch);
    batch_free(batch);
}
