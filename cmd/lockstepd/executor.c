/* Sessions and routing.
 *
 * A session's unfinished requests are all executed by one node in one term, which keeps their order. When the leader
 * changes while some are unfinished, later requests are held back until those have ended, and are then routed anew.
 * Held as well is what came or came back while no leader is known, in the order in which it was submitted. */
#include "cmd/lockstepd/executor.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/executor_internal.h"

void exec_list_append(struct exec_list *list, struct exec_request *request)
{
    request->next = NULL;
    request->prev = list->last;
    if (list->last == NULL) {
        list->first = request;
    } else {
        list->last->next = request;
    }
    list->last = request;
}

void exec_list_remove(struct exec_list *list, struct exec_request *request)
{
    *(request->prev == NULL ? &list->first : &request->prev->next) = request->next;
    *(request->next == NULL ? &list->last : &request->next->prev) = request->prev;
    request->next = NULL;
    request->prev = NULL;
}

/* --- Ends --------------------------------------------------------------------------------------------------------- */

void exec_finish(struct executor *ex, struct exec_request *request)
{
    assert(request->session->unfinished > 0);
    request->session->unfinished--;
    request->session->ended++;
    assert(ex->outstanding > 0);
    ex->outstanding--;
    free(request->args);
    request->args = NULL;
    ex->stats.commands++;
    request->end(request);
}

void exec_finish_error(struct executor *ex, struct exec_request *request, const char *error)
{
    if (!request->session->detached) {
        struct store_reply *reply = request->begin(request);
        reply->ops->error(reply, error, strlen(error));
    }
    if (strncmp(error, "UNKNOWN", 7) == 0) {
        ex->stats.unknown++;
    } else if (strncmp(error, "TRYAGAIN", 8) == 0) {
        ex->stats.tryagain++;
    }
    exec_finish(ex, request);
}

void exec_fail_later(struct executor *ex, struct exec_request *request, const char *error)
{
    request->state = EXEC_FAILING;
    request->error = error;
    exec_list_append(&ex->failing, request);
}

bool exec_keep_args(struct exec_request *request, const struct exec_input *in)
{
    if (request->args == NULL) {
        request->args = in->command != NULL
                            ? exec_args_command(in->argv, in->argc)
                            : exec_args_transaction(in->watches, in->n_watches, in->commands, in->n_commands);
    }
    return request->args != NULL;
}

/* --- Held requests ------------------------------------------------------------------------------------------------ */

static void held_link(struct executor *ex, struct exec_session *s)
{
    if (s->on_held_list) {
        return;
    }
    s->held_prev = NULL;
    s->held_next = ex->held_first;
    if (ex->held_first != NULL) {
        ex->held_first->held_prev = s;
    }
    ex->held_first = s;
    s->on_held_list = true;
}

static void held_unlink(struct executor *ex, struct exec_session *s)
{
    if (!s->on_held_list) {
        return;
    }
    *(s->held_prev == NULL ? &ex->held_first : &s->held_prev->held_next) = s->held_next;
    if (s->held_next != NULL) {
        s->held_next->held_prev = s->held_prev;
    }
    s->on_held_list = false;
}

static size_t held_cost(const struct exec_request *request)
{
    return request->args != NULL ? sizeof *request->args + request->args->len : 0;
}

/* Into its place: what comes back goes before what was submitted after it. */
static void held_insert(struct executor *ex, struct exec_session *s, struct exec_request *request)
{
    struct exec_request **at = &s->held;

    if (s->held_tail != NULL && s->held_tail->order < request->order) {
        at = &s->held_tail->next;
    }
    while (*at != NULL && (*at)->order < request->order) {
        at = &(*at)->next;
    }
    request->state = EXEC_HELD;
    request->next = *at;
    *at = request;
    if (request->next == NULL) {
        s->held_tail = request;
    }
    ex->held_bytes += held_cost(request);
    held_link(ex, s);
}

static struct exec_request *held_take(struct executor *ex, struct exec_session *s)
{
    struct exec_request *first = s->held;

    s->held = NULL;
    s->held_tail = NULL;
    held_unlink(ex, s);
    for (const struct exec_request *q = first; q != NULL; q = q->next) {
        ex->held_bytes -= held_cost(q);
    }
    return first;
}

static void hold(struct executor *ex, struct exec_session *s, struct exec_request *request,
                 const struct exec_input *input)
{
    if (request->error == NULL && ex->held_bytes > ex->config.queue_bytes_max) {
        request->error = EXEC_TRYAGAIN;
    } else if (request->error == NULL && !exec_keep_args(request, input)) {
        request->error = EXEC_NO_MEMORY;
    }
    held_insert(ex, s, request);
}

void exec_refuse(struct executor *ex, struct exec_request *request, const char *error)
{
    struct exec_session *s = request->session;

    if (s->unfinished == 1 && s->held == NULL) {
        exec_fail_later(ex, request, error);
        return;
    }
    s->unfinished--;
    request->error = error;
    hold(ex, s, request, NULL);
}

void exec_route_again(struct executor *ex, struct exec_request *request)
{
    struct exec_session *s = request->session;

    if (request->error == NULL && (ex->stopping || s->detached || s->proxy)) {
        request->error = EXEC_TRYAGAIN;
        request->not_here = s->proxy; /* its own node will route it */
    }
    assert(request->args != NULL || request->error != NULL);
    s->unfinished--;
    held_insert(ex, s, request);
}

bool exec_end_waiting(struct executor *ex, struct exec_session *s)
{
    struct exec_request *oldest = s->held;

    if (oldest != NULL && oldest->order == s->ended + 1) {
        s->held = oldest->next;
        if (s->held == NULL) {
            s->held_tail = NULL;
            held_unlink(ex, s);
        }
        ex->held_bytes -= held_cost(oldest);
        s->unfinished++;
    } else {
        oldest = ex->failing.first;
        while (oldest != NULL && (oldest->session != s || oldest->order != s->ended + 1)) {
            oldest = oldest->next;
        }
        if (oldest == NULL) {
            return false;
        }
        exec_list_remove(&ex->failing, oldest);
    }
    exec_finish_error(ex, oldest, oldest->error != NULL ? oldest->error : EXEC_TRYAGAIN);
    return true;
}

/* Route the held requests of a session that has nothing unfinished. */
static void resubmit(struct executor *ex, struct exec_session *s)
{
    struct exec_request *request = held_take(ex, s);

    while (request != NULL) {
        struct exec_request *next = request->next;
        struct exec_input in = {.command = request->command};
        if (request->error == NULL &&
            !exec_args_decode(request->args->bytes, request->args->len, request->args->transaction, &ex->submit_view)) {
            request->error = EXEC_NO_MEMORY;
        }
        if (request->error != NULL) {
            s->unfinished++;
            exec_refuse(ex, request, request->error);
        } else {
            const struct exec_view *v = &ex->submit_view;
            in = (struct exec_input){request->command, v->argv,     v->argc,      v->watches,
                                     v->n_watches,     v->commands, v->n_commands};
            exec_route(ex, s, request, &in);
        }
        request = next;
    }
}

/* The leader as far as requests are concerned: one that has declined is none. */
static uint64_t leader_of(const struct executor *ex)
{
    const uint64_t leader = ex->stopping ? 0 : replica_leader(ex->replica);

    return leader != 0 && leader == ex->declined_id && ex->declined_term == replica_term(ex->replica) ? 0 : leader;
}

/* No leader is known, but an election may just be under way. */
static bool awaits_leader(const struct executor *ex)
{
    const uint64_t patience_us = (uint64_t)ex->config.election_timeout_ms * 1000;

    return !ex->stopping && !replica_is_removed(ex->replica) && leader_of(ex) == 0 && ex->leaderless_us != 0 &&
           ex->config.env->ops->now_us(ex->config.env) - ex->leaderless_us < patience_us;
}

static void note_leader(struct executor *ex)
{
    if (leader_of(ex) != 0) {
        ex->leaderless_us = 0;
    } else if (ex->leaderless_us == 0) {
        ex->leaderless_us = ex->config.env->ops->now_us(ex->config.env);
    }
}

void exec_declined(struct executor *ex, uint64_t leader, uint64_t term)
{
    ex->declined_id = leader;
    ex->declined_term = term;
    note_leader(ex);
}

static void resubmit_all(struct executor *ex)
{
    struct exec_session *s = ex->held_first;
    const bool patient = s != NULL && awaits_leader(ex);

    while (s != NULL) {
        struct exec_session *next = s->held_next;
        if (s->unfinished == 0 && (!patient || s->held->error != NULL)) {
            resubmit(ex, s);
        }
        s = next;
    }
}

/* --- Routing ------------------------------------------------------------------------------------------------------ */

static bool is_write(const struct exec_input *in)
{
    return in->command == NULL || (in->command->flags & STORE_WRITE) != 0;
}

static void run_here(struct executor *ex, struct exec_request *request, const struct exec_input *in)
{
    if (is_write(in)) {
        exec_write(ex, request, in);
        return;
    }
    if (!exec_keep_args(request, in)) {
        request->error = EXEC_NO_MEMORY;
    }
    exec_read(ex, request);
}

void exec_route(struct executor *ex, struct exec_session *s, struct exec_request *request, const struct exec_input *in)
{
    const uint64_t leader = leader_of(ex);
    const uint64_t term = ex->stopping ? 0 : replica_term(ex->replica);
    const bool own_copy = leader != ex->config.id || request->mode == EXEC_STALE;

    if (own_copy && s->held == NULL && !is_write(in) &&
        (s->unfinished == 0 || (s->route == ex->config.id && s->route_term == 0)) && !ex->stopping &&
        exec_local_submit(ex, request, in)) {
        s->route = ex->config.id; /* term 0: this node's own copy, whoever leads */
        s->route_term = 0;
        s->unfinished++;
        return;
    }

    if (s->held != NULL || (s->unfinished > 0 && (s->route != leader || s->route_term != term)) ||
        (leader == 0 && s->unfinished == 0 && awaits_leader(ex))) {
        hold(ex, s, request, in);
        return;
    }
    s->route = leader;
    s->route_term = term;
    s->unfinished++;
    if (leader == 0) {
        exec_fail_later(ex, request,
                        !ex->stopping && replica_is_removed(ex->replica) ? EXEC_REMOVED : EXEC_CLUSTERDOWN);
    } else if (leader == ex->config.id) {
        run_here(ex, request, in);
    } else {
        forward_submit(ex->forward, request, in);
    }
}

static void request_init(struct exec_session *s, struct exec_request *request, const struct store_command *command)
{
    request->session = s;
    request->order = ++s->submitted;
    request->not_here = false;
    request->next = NULL;
    request->prev = NULL;
    request->session_next = NULL;
    request->command = command;
    request->args = NULL;
    request->error = NULL;
    request->number = 0;
    request->mode = (uint8_t)s->mode;
    request->stale_max_us = s->stale_max_us;
    request->state = EXEC_NEW;
}

static void submit(struct executor *ex, struct exec_session *s, struct exec_request *request,
                   const struct exec_input *in)
{
    ex->outstanding++;
    if (ex->draining) {
        s->unfinished++;
        exec_refuse(ex, request, EXEC_STOPPING);
        return;
    }
    exec_route(ex, s, request, in);
}

void executor_submit(struct executor *ex, struct exec_session *s, struct exec_request *request,
                     const struct store_command *command, const struct iovec *argv, unsigned argc)
{
    const struct exec_input in = {.command = command, .argv = argv, .argc = argc};

    assert(command != NULL);
    assert(argc > 0);
    request_init(s, request, command);
    submit(ex, s, request, &in);
}

void executor_submit_transaction(struct executor *ex, struct exec_session *s, struct exec_request *request,
                                 const struct store_watch *watches, unsigned n_watches,
                                 const struct store_queued *commands, unsigned n_commands)
{
    const struct exec_input in = {
        .watches = watches, .n_watches = n_watches, .commands = commands, .n_commands = n_commands};

    request_init(s, request, NULL);
    submit(ex, s, request, &in);
}

void exec_submit_forwarded(struct executor *ex, struct exec_session *s, struct exec_request *request,
                           const struct exec_input *in, bool leads)
{
    request_init(s, request, in->command);
    ex->outstanding++;
    if (leads && !ex->draining) {
        exec_route(ex, s, request, in);
        return;
    }
    request->not_here = true;
    /* Never passed on to a third node: the origin knows no more than that this one was meant. */
    s->unfinished++;
    exec_refuse(ex, request, EXEC_TRYAGAIN);
}

void exec_session_init(struct executor *ex, struct exec_session *s)
{
    *s = (struct exec_session){.id = ++ex->next_session_id};
}

void exec_session_detach(struct executor *ex, struct exec_session *s)
{
    forward_session_ends(ex->forward, s);
    s->detached = true;
    for (struct exec_request *q = s->held; q != NULL; q = q->next) { /* never executed, nobody waits */
        q->error = q->error != NULL ? q->error : EXEC_TRYAGAIN;
    }
}

void exec_session_set_mode(struct exec_session *s, enum exec_read_mode mode, uint64_t stale_max_us)
{
    s->mode = mode;
    s->stale_max_us = stale_max_us;
}

void exec_session_saw(struct exec_session *s, uint64_t revision)
{
    if (revision > s->revision) {
        s->revision = revision;
    }
}

uint64_t exec_session_revision(const struct executor *ex, const struct exec_session *s)
{
    (void)ex;
    return s->revision;
}

bool exec_session_is_full(const struct exec_session *s)
{
    return s->backlog != NULL && !s->detached && s->backlog(s) > EXEC_BACKLOG_BYTES;
}

bool executor_congested(struct executor *ex)
{
    const bool congested = ex->queue_bytes > ex->config.queue_bytes_max / 2 ||
                           ex->forwarded_bytes > ex->config.queue_bytes_max / EXEC_FORWARD_SHARE;

    ex->congested = ex->congested || congested; /* also if it is over before the turn ends: somebody waits */
    return congested;
}

/* --- The node's calls --------------------------------------------------------------------------------------------- */

static void tick_timer_cb(struct env_timer *timer)
{
    struct executor *ex = timer->data;

    ex->tick_deadline_ms = 0; /* exec_tick looks again at the end of this turn */
}

static void poll_timer_cb(struct env_timer *timer)
{
    ((struct executor *)timer->data)->poll_armed = false; /* looked for at the end of this turn */
}

/* Sockets and links say nothing when they have room again. */
static void poll_on(struct executor *ex)
{
    if (ex->poll_armed || ex->stopping ||
        (ex->deferred == NULL && !ex->local_deferred && !forward_waits(ex->forward))) {
        return;
    }
    ex->poll_armed = true;
    ex->config.env->ops->timer_set(ex->config.env, &ex->poll_timer,
                                   ex->config.env->ops->now_us(ex->config.env) + EXEC_POLL_US);
}

struct executor *executor_new(const struct executor_config *config)
{
    struct executor *ex = calloc(1, sizeof *ex);

    if (ex == NULL) {
        return NULL;
    }
    ex->config = *config;
    ex->return_pause_next = 1;
    ex->tick_timer.data = ex;
    ex->tick_timer.cb = tick_timer_cb;
    ex->gather_timer.data = ex;
    ex->gather_timer.cb = exec_gather_timer_cb;
    ex->poll_timer.data = ex;
    ex->poll_timer.cb = poll_timer_cb;
    ex->leaderless_us = config->env->ops->now_us(config->env);
    ex->forward = forward_new(ex);
    if (ex->forward == NULL) {
        goto err_after_alloc;
    }
    if (config->env->ops->timer_init(config->env, &ex->tick_timer) != ENV_OK) {
        goto err_after_forward;
    }
    if (config->env->ops->timer_init(config->env, &ex->gather_timer) != ENV_OK) {
        goto err_after_tick;
    }
    if (config->env->ops->timer_init(config->env, &ex->poll_timer) != ENV_OK) {
        goto err_after_gather;
    }
    return ex;

err_after_gather:
    config->env->ops->timer_fini(config->env, &ex->gather_timer);
err_after_tick:
    config->env->ops->timer_fini(config->env, &ex->tick_timer);
err_after_forward:
    forward_free(ex->forward);
err_after_alloc:
    free(ex);
    return NULL;
}

/* True if there was any. */
static bool fail_all(struct executor *ex)
{
    const bool any = ex->failing.first != NULL;

    while (ex->failing.first != NULL) {
        struct exec_request *request = ex->failing.first;
        exec_list_remove(&ex->failing, request);
        exec_finish_error(ex, request, request->error);
    }
    return any;
}

/* Route what may be routed, end what is to end. */
static void settle(struct executor *ex)
{
    do {
        resubmit_all(ex);
    } while (fail_all(ex));
}

void executor_attach(struct executor *ex, struct replica *replica)
{
    ex->replica = replica;
    note_leader(ex);
}

void executor_free(struct executor *ex)
{
    if (ex->stopping) { /* what was behind requests that ended with the replica */
        exec_reads_stop(ex);
        settle(ex);
    }
    ex->config.env->ops->timer_fini(ex->config.env, &ex->tick_timer);
    ex->config.env->ops->timer_fini(ex->config.env, &ex->gather_timer);
    ex->config.env->ops->timer_fini(ex->config.env, &ex->poll_timer);
    forward_free(ex->forward);
    exec_view_fini(&ex->view);
    exec_view_fini(&ex->submit_view);
    free(ex->collecting);
    free(ex);
}

void executor_changed(struct executor *ex)
{
    if (ex->replica == NULL) {
        return;
    }
    note_leader(ex);
    if (replica_leader(ex->replica) != ex->config.id) {
        exec_batches_route_again(ex);
    }
    forward_changed(ex->forward);
}

void executor_turn_end(struct executor *ex)
{
    settle(ex);
    exec_reads_deferred(ex);
    exec_local_turn_end(ex);
    exec_reads_turn_end(ex);
    exec_tick(ex);
    exec_propose(ex);
    if (ex->held_first != NULL || ex->failing.first != NULL) {
        settle(ex);
        exec_reads_turn_end(ex);
        exec_propose(ex);
    }
    forward_turn_end(ex->forward);
    if (ex->congested && ex->queue_bytes < ex->config.queue_bytes_max / 4 &&
        ex->forwarded_bytes < ex->config.queue_bytes_max / EXEC_FORWARD_SHARE / 2) {
        ex->congested = false;
        ex->config.relieved(ex->config.ctx);
    }
}

void executor_flush(struct executor *ex)
{
    forward_turn_end(ex->forward);
    poll_on(ex);
}

void executor_stop(struct executor *ex)
{
    ex->stopping = true;
    exec_batches_route_again(ex);
    forward_stop(ex->forward);
    exec_local_fail(ex);
    settle(ex);
}

void executor_drain(struct executor *ex)
{
    ex->draining = true;
}

uint64_t executor_outstanding(const struct executor *ex)
{
    return ex->outstanding;
}

bool executor_receive(struct executor *ex, uint64_t from, const void *frame, size_t len)
{
    return forward_receive(ex->forward, from, frame, len);
}

void executor_peer_state(struct executor *ex, uint64_t peer, bool connected)
{
    forward_peer_state(ex->forward, peer, connected);
}

void executor_set_maxmemory(struct executor *ex, uint64_t bytes)
{
    ex->maxmemory = bytes;
}

void executor_stats(const struct executor *ex, struct executor_stats *stats)
{
    *stats = ex->stats;
}

void executor_stats_reset(struct executor *ex)
{
    ex->stats = (struct executor_stats){0};
}
