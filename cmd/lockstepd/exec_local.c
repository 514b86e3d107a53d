/* Reads from this node's own memory: at once under a lease, a grant, or a weaker mode; or after a short wait.
 *
 * Under a grant a read must see every write that anyone was told of before the read arrived. All of those have been
 * received here (exposure, docs/CONSISTENCY.md); those not applied yet are found by their keys. A read of a key that no
 * pending entry touches is answered at once; any other waits until the newest received entry is applied. An entry
 * touches the keys it names and every key whose deadline its time has reached. */
#include <assert.h>

#include "cmd/lockstepd/executor_internal.h"

static uint64_t now_us(const struct executor *ex)
{
    return ex->config.env->ops->now_us(ex->config.env);
}

/* --- Pending keys ---------------------------------------------------------------------------------------------------
 */

struct touch {
    struct exec_pending *pending;
    uint64_t index;
};

static void touch_cb(void *ctx, uint64_t hash)
{
    const struct touch *t = ctx;

    t->pending->touched[hash & (EXEC_PENDING_SLOTS - 1)] = t->index;
}

void executor_received(struct executor *ex, uint64_t index, const void *data, size_t len)
{
    struct exec_pending *p = &ex->pending;
    struct touch touch = {p, index};

    if (store_entry_check(data, len) != STORE_OK) {
        p->touched_all = index; /* apply will stop the node if it ever commits */
        p->checked_to = 0;
        return;
    }
    if (index != p->checked_to + 1) {
        p->checked_from = index;
    }
    p->checked_to = index;
    p->index = index;
    p->time_ms = store_entry_time_ms(data, len);
    if (!store_entry_keys(ex->config.store, data, len, touch_cb, &touch)) {
        p->touched_all = index;
    }
}

/* What is pending was replaced along with the log. */
void executor_installed(struct executor *ex, uint64_t index)
{
    ex->pending = (struct exec_pending){.index = index};
    ex->tick_deadline_ms = 0; /* look for the next deadline anew */
}

bool exec_was_checked(const struct executor *ex, uint64_t index)
{
    return index >= ex->pending.checked_from && index <= ex->pending.checked_to;
}

/* Does an entry above `applied` touch this key? */
static bool key_pending(const struct executor *ex, const struct iovec *key, uint64_t applied)
{
    const struct exec_pending *p = &ex->pending;
    const uint64_t hash = store_key_hash(ex->config.store, key->iov_base, key->iov_len);

    return p->touched[hash & (EXEC_PENDING_SLOTS - 1)] > applied ||
           store_key_deadline_ms(ex->config.store, key->iov_base, key->iov_len) <= p->time_ms;
}

/* Entries that never came by executor_received (they are of an earlier run of this process, or were proposed here when
 * this node led) may touch anything. */
static bool all_known(const struct executor *ex, uint64_t applied, uint64_t received)
{
    return ex->pending.checked_from <= applied + 1 && received <= ex->pending.checked_to;
}

static bool read_pending(const struct executor *ex, const struct store_command *command, const struct iovec *argv,
                         unsigned argc, uint64_t applied)
{
    if (ex->pending.touched_all > applied || (command->flags & STORE_ALLKEYS) != 0 || command->first_key == 0) {
        return true;
    }
    const unsigned last = command->last_key >= 0 ? (unsigned)command->last_key : argc - (unsigned)(-command->last_key);
    for (unsigned i = (unsigned)command->first_key; i <= last && i < argc; i += (unsigned)command->key_step) {
        if (key_pending(ex, &argv[i], applied)) {
            return true;
        }
    }
    return false;
}

/* --- Which reads may be answered here -------------------------------------------------------------------------------
 */

enum verdict { NO, NOW, WAIT, REFUSE };

/* A read as far as it matters here. */
struct local_read {
    const struct exec_session *session;
    enum exec_read_mode mode;
    uint64_t stale_max_us;
    const struct store_command *command;
    const struct iovec *argv;
    unsigned argc;
    /* set by judge */
    uint64_t index;    /* of WAIT: answered once that is applied */
    uint64_t *counter; /* what it counts as */
};

/* A session's read that asks for more than this node holds is read as a linearizable one: that is at least as new as
 * every revision anybody was ever told of. */
static enum verdict judge(struct executor *ex, struct local_read *read)
{
    const uint64_t applied = replica_applied(ex->replica);
    uint64_t received;

    if (replica_reads_refused(ex->replica)) {
        return NO;
    }
    if (read->mode == EXEC_SESSION && store_revision(ex->config.store) >= read->session->revision) {
        read->counter = &ex->stats.reads_session;
        return NOW;
    }
    if (read->mode == EXEC_STALE) {
        const uint64_t fresh = replica_fresh_us(ex->replica);
        const bool ok = read->stale_max_us == 0 || (fresh != 0 && now_us(ex) - fresh <= read->stale_max_us);
        read->counter = ok ? &ex->stats.reads_stale : &ex->stats.reads_too_stale;
        return ok ? NOW : REFUSE;
    }
    if (!replica_read_local(ex->replica, &received)) {
        return NO;
    }
    if (received > applied &&
        (!all_known(ex, applied, received) || read_pending(ex, read->command, read->argv, read->argc, applied))) {
        read->index = received;
        read->counter = &ex->stats.reads_waited;
        return WAIT;
    }
    read->counter = &ex->stats.reads_local;
    return NOW;
}

static void execute(struct executor *ex, struct exec_session *s, const struct store_command *command,
                    const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    const bool clock = (command->flags & STORE_CLOCK) != 0;

    if (clock) {
        store_set_read_time(ex->config.store, replica_cluster_time(ex->replica));
    }
    store_read(ex->config.store, command, argv, argc, reply);
    if (clock) {
        store_set_read_time(ex->config.store, 0);
    }
    exec_session_saw(s, store_revision(ex->config.store));
}

bool executor_read_local(struct executor *ex, struct exec_session *s, const struct store_command *command,
                         const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    struct local_read read = {s, s->mode, s->stale_max_us, command, argv, argc, 0, NULL};

    if (s->unfinished > 0 || s->held != NULL || ex->stopping || ex->replica == NULL || judge(ex, &read) != NOW) {
        return false;
    }
    ++*read.counter;
    execute(ex, s, command, argv, argc, reply);
    ex->stats.commands++;
    return true;
}

/* --- Reads that wait --- */

bool exec_local_submit(struct executor *ex, struct exec_request *request, const struct exec_input *in)
{
    struct exec_session *s = request->session;
    struct local_read read = {
        s, (enum exec_read_mode)request->mode, request->stale_max_us, in->command, in->argv, in->argc, 0, NULL};
    const enum verdict verdict = judge(ex, &read);
    uint64_t index = read.index; /* NOW: 0, at the end of this turn */

    if (verdict == NO || !exec_keep_args(request, in)) {
        return false;
    }
    ++*read.counter;
    request->error = verdict == REFUSE ? EXEC_TOO_STALE : NULL;
    request->state = EXEC_LOCAL;
    if (s->unfinished > 0 && index < s->local_index) {
        index = s->local_index; /* not before the session's earlier reads */
    }
    s->local_index = index;
    request->number = index;
    request->deadline_us = now_us(ex) + (uint64_t)ex->config.election_timeout_ms * 500;
    exec_list_append(&ex->local, request);
    if (verdict == WAIT) {
        replica_pull(ex->replica, index);
    }
    return true;
}

static void answer(struct executor *ex, struct exec_request *request)
{
    if (request->error == NULL && !request->session->detached &&
        exec_args_decode(request->args->bytes, request->args->len, false, &ex->view)) {
        execute(ex, request->session, request->command, ex->view.argv, ex->view.argc, request->begin(request));
        exec_finish(ex, request);
        return;
    }
    if (request->session->detached) {
        exec_finish(ex, request);
        return;
    }
    exec_finish_error(ex, request, request->error != NULL ? request->error : EXEC_NO_MEMORY);
}

/* It took longer than a grant: ask the leader, unless that would overtake other requests of the session. */
static void give_up(struct executor *ex, struct exec_request *request)
{
    struct exec_session *s = request->session;
    const uint64_t leader = replica_leader(ex->replica);
    const struct exec_input in = {.command = request->command};

    if (s->unfinished > 1 || leader == 0 || leader == ex->config.id || request->error != NULL) {
        exec_finish_error(ex, request, request->error != NULL ? request->error : EXEC_TRYAGAIN);
        return;
    }
    s->route = leader;
    s->route_term = replica_term(ex->replica);
    forward_submit(ex->forward, request, &in);
}

void exec_local_turn_end(struct executor *ex)
{
    const uint64_t applied = replica_applied(ex->replica);
    const bool refused = ex->local.first != NULL && replica_reads_refused(ex->replica);
    struct exec_request *request = ex->local.first;

    ex->local_deferred = false;
    while (request != NULL) {
        struct exec_request *next = request->next;
        if (refused) {
            exec_list_remove(&ex->local, request);
            give_up(ex, request);
        } else if (request->number <= applied && exec_session_is_full(request->session)) {
            ex->local_deferred = true; /* so are the session's next ones: it gets no room meanwhile */
        } else if (request->number <= applied) {
            exec_list_remove(&ex->local, request);
            answer(ex, request);
        } else if (now_us(ex) >= request->deadline_us) {
            exec_list_remove(&ex->local, request);
            give_up(ex, request);
        }
        request = next;
    }
}

void exec_local_fail(struct executor *ex)
{
    while (ex->local.first != NULL) {
        struct exec_request *request = ex->local.first;
        exec_list_remove(&ex->local, request);
        exec_finish_error(ex, request, EXEC_TRYAGAIN);
    }
}
