#include "tests/sim/sim_executor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/sim/sim_clocks.h"

#define TICK_US 50000u

/* A sealed batch on its way through the log. */
struct sim_batch {
    struct proposal proposal; /* first */
    struct sim_node *node;
    struct sim_batch *next;
    struct sim_request *requests; /* in order */
};

/* Reads of one turn, waiting for confirmation. */
struct sim_read {
    struct replica_read read; /* first */
    struct sim_node *node;
    struct sim_read *next;
    struct sim_request *requests;
};

static void finish(struct sim_node *node, struct sim_request *request, enum sim_result result)
{
    request->next = NULL;
    request->leader = node->replica == NULL ? 0 : (unsigned)replica_leader(node->replica);
    if (node->env.dead && result == SIM_RESULT_OK) {
        result = SIM_RESULT_UNKNOWN; /* the reply never leaves a dead process */
    }
    if (request->read && result == SIM_RESULT_UNKNOWN) {
        result = SIM_RESULT_NOT_EXECUTED;
    }
    request->done(request, result);
}

static void finish_all(struct sim_node *node, struct sim_request *list, enum sim_result result,
                       enum replica_status status)
{
    while (list != NULL) {
        struct sim_request *next = list->next;

        list->status = status;
        finish(node, list, result);
        list = next;
    }
}

static void list_add(struct sim_request **first, struct sim_request **last, struct sim_request *request)
{
    request->next = NULL;
    if (*first == NULL) {
        *first = request;
    } else {
        (*last)->next = request;
    }
    *last = request;
}

/* --- Writes ------------------------------------------------------------------------------------------------------ */

static void batch_unlink(struct sim_batch *batch)
{
    struct sim_batch **link = &batch->node->batches;

    while (*link != batch) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = batch->next;
}

static void batch_unknown_cb(struct proposal *proposal)
{
    struct sim_batch *batch = proposal->data;

    batch_unlink(batch);
    finish_all(batch->node, batch->requests, SIM_RESULT_UNKNOWN, REPLICA_OK);
    free(batch);
}

/* Seal what is open and propose it. An empty batch is a tick. */
static void propose(struct sim_node *node)
{
    struct sim_batch *batch = calloc(1, sizeof *batch);
    uint64_t time_ms = replica_cluster_time(node->replica);
    enum replica_status status;
    enum store_status sealed;
    void *data = NULL;
    size_t len = 0;

    assert(batch != NULL);
    sealed = store_batch_seal(&node->batch, time_ms, &data, &len);
    assert(sealed == STORE_OK);
    batch->node = node;
    batch->proposal.data = batch;
    batch->proposal.unknown = batch_unknown_cb;
    batch->requests = node->batch_requests;
    batch->next = node->batches;
    node->batches = batch;
    node->batch_requests = node->batch_requests_tail = NULL;
    status = replica_propose(node->replica, data, len, &batch->proposal);
    if (status == REPLICA_OK) {
        sim_check_stamp(node->check, node->position, time_ms, !node->saw_time);
        node->saw_time = true;
        return;
    }
    node->refused_space += status == REPLICA_NO_SPACE ? 1 : 0;
    free(data);
    batch_unlink(batch);
    finish_all(node, batch->requests, SIM_RESULT_NOT_EXECUTED, status);
    free(batch);
}

static void propose_if_due(struct sim_node *node)
{
    if (node->batch_requests == NULL || node->replica == NULL || node->env.dead) {
        return;
    }
    if (node->config.pipeline || !replica_is_busy(node->replica)) {
        propose(node);
    }
}

static enum store_status add_to_batch(struct sim_node *node, const struct sim_request *request)
{
    struct store_queued queued[2];
    unsigned at = 0;

    if (request->n_queued == 0) {
        return store_batch_add(&node->batch, request->argv, request->argc);
    }
    for (unsigned i = 0; i < request->n_queued; i++) {
        queued[i] = (struct store_queued){request->argv + at, request->queued_argc[i]};
        at += request->queued_argc[i];
    }
    return store_batch_add_transaction(&node->batch, &request->watch, request->n_watches, queued, request->n_queued);
}

static void request_write(struct sim_node *node, struct sim_request *request)
{
    enum store_status status;

    if (!replica_is_leader(node->replica)) {
        request->status = REPLICA_NOT_LEADER;
        finish(node, request, SIM_RESULT_NOT_EXECUTED);
        return;
    }
    status = add_to_batch(node, request);
    if (status == STORE_FULL) {
        propose(node);
        status = add_to_batch(node, request);
    }
    assert(status == STORE_OK);
    list_add(&node->batch_requests, &node->batch_requests_tail, request);
}

/* --- Reads ------------------------------------------------------------------------------------------------------- */

/* The read is about to rest on what this node was promised, or was when it came to wait. */
static void note_excuse(struct sim_node *node, struct sim_request *request)
{
    request->late_us = node->clocks == NULL ? SIM_NEVER : sim_clocks_excuse(node->clocks, node);
}

static void read_execute(struct sim_node *node, struct sim_request *request)
{
    const struct store_command *command = store_command_find(request->argv[0].iov_base, request->argv[0].iov_len);

    assert(command != NULL);
    sim_reply_reset(&request->reply);
    store_read(node->store, command, request->argv, request->argc, &request->reply.base);
    request->revision = store_key_revision(node->store, request->argv[1].iov_base, request->argv[1].iov_len);
    request->index = request->shown = replica_applied(node->replica);
}

static void read_cb(struct replica_read *base, enum replica_status status)
{
    struct sim_read *read = base->data;
    struct sim_node *node = read->node;
    struct sim_read **link = &node->reads_started;

    while (*link != read) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = read->next;
    for (struct sim_request *request = read->requests; request != NULL && status == REPLICA_OK;
         request = request->next) {
        note_excuse(node, request);
        read_execute(node, request);
    }
    finish_all(node, read->requests, status == REPLICA_OK ? SIM_RESULT_OK : SIM_RESULT_NOT_EXECUTED, status);
    free(read);
}

static void start_reads(struct sim_node *node)
{
    struct sim_read *read;
    enum replica_status status;

    if (node->reads == NULL) {
        return;
    }
    read = calloc(1, sizeof *read);
    assert(read != NULL);
    read->read.data = read;
    read->read.cb = read_cb;
    read->node = node;
    read->requests = node->reads;
    node->reads = node->reads_tail = NULL;
    read->next = node->reads_started;
    node->reads_started = read;
    status = replica_read_start(node->replica, &read->read);
    if (status != REPLICA_OK) {
        node->reads_started = read->next;
        finish_all(node, read->requests, SIM_RESULT_NOT_EXECUTED, status);
        free(read);
    }
}

/* --- Local reads: under the leader's lease or a grant (docs/CONSISTENCY.md) ------------------------------------------
 */

static void touch_cb(void *ctx, uint64_t hash)
{
    struct sim_node *node = ctx;

    node->pending.touched[hash % SIM_TOUCH_SLOTS] = node->pending.touched_all;
}

/* A received entry is not applied yet: note the keys that it touches. */
static void received_cb(void *ctx, uint64_t index, const void *data, size_t len)
{
    struct sim_node *node = ctx;
    uint64_t touched_all = node->pending.touched_all;

    node->pending.touched_all = index; /* for touch_cb, and for good if the entry names no keys */
    if (store_entry_check(data, len) == STORE_OK && store_entry_keys(node->store, data, len, touch_cb, node)) {
        node->pending.touched_all = touched_all;
    }
    if (store_entry_check(data, len) == STORE_OK) {
        node->pending.time_ms = store_entry_time_ms(data, len);
    }
}

/* Does an entry above `applied` touch what the request reads: a key it names, or one whose time has come? */
static bool touches(const struct sim_node *node, const struct sim_request *request, uint64_t applied)
{
    for (unsigned i = 1; i < request->argc; i++) {
        const struct iovec *key = &request->argv[i];
        uint64_t hash = store_key_hash(node->store, key->iov_base, key->iov_len);

        if (node->pending.touched[hash % SIM_TOUCH_SLOTS] > applied ||
            store_key_deadline_ms(node->store, key->iov_base, key->iov_len) <= node->pending.time_ms) {
            return true;
        }
    }
    return node->pending.touched_all > applied;
}

static bool read_local(struct sim_node *node, struct sim_request *request)
{
    uint64_t applied = replica_applied(node->replica);
    uint64_t received;

    if (!node->config.local_reads || !replica_read_local(node->replica, &received)) {
        return false;
    }
    node->local_reads++;
    note_excuse(node, request);
    if (received > applied && touches(node, request, applied)) {
        node->waited_reads++;
        request->wait_index = received;
        request->deadline_us = node->world->now_us + node->config.replica.election_timeout_ms * UINT64_C(500);
        request->next = node->waiting;
        node->waiting = request;
        replica_pull(node->replica, received);
        return true;
    }
    read_execute(node, request);
    request->index = received; /* no entry up to there touches what it reads */
    finish(node, request, SIM_RESULT_OK);
    return true;
}

static void settle_waiting(struct sim_node *node)
{
    struct sim_request **link = &node->waiting;

    while (*link != NULL) {
        struct sim_request *request = *link;

        if (replica_applied(node->replica) >= request->wait_index) {
            *link = request->next;
            read_execute(node, request);
            finish(node, request, SIM_RESULT_OK);
        } else if (node->world->now_us >= request->deadline_us) {
            *link = request->next;
            request->status = REPLICA_BUSY;
            finish(node, request, SIM_RESULT_NOT_EXECUTED);
        } else {
            link = &request->next;
        }
    }
}

void sim_executor_request(struct sim_node *node, struct sim_request *request)
{
    if (request->read && read_local(node, request)) {
        return;
    }
    if (request->read) {
        list_add(&node->reads, &node->reads_tail, request);
    } else {
        request_write(node, request);
    }
}

void sim_executor_turn(struct sim_node *node)
{
    settle_waiting(node);
    start_reads(node);
    propose_if_due(node);
}

/* --- The state machine -----------------------------------------------------------------------------------------------
 */

static struct sim_request *request_at(const struct sim_batch *batch, unsigned i)
{
    struct sim_request *request = batch->requests;

    while (i-- > 0) {
        request = request->next;
    }
    return request;
}

static struct store_reply *apply_begin_cb(void *ctx, unsigned i)
{
    struct sim_node *node = ctx;

    node->applying_revision = store_revision(node->store);
    if (node->applying != NULL) {
        struct sim_request *request = request_at(node->applying, i);

        sim_reply_reset(&request->reply);
        return &request->reply.base;
    }
    if (node->listens) {
        sim_reply_reset(&node->scratch);
        return &node->scratch.base;
    }
    return NULL;
}

static void apply_end_cb(void *ctx, unsigned i)
{
    struct sim_node *node = ctx;
    uint64_t revisions = store_revision(node->store) - node->applying_revision;
    const struct sim_reply *reply = &node->scratch;

    if (node->applying != NULL) {
        const struct sim_request *request = request_at(node->applying, i);

        reply = &request->reply;
        if (request->revisions != NULL && request->revisions(request) != revisions) {
            sim_world_violation(node->world, "gap-free revision",
                                "node %u: command %.*s took %" PRIu64 " revisions, not %" PRIu64, node->position + 1,
                                (int)request->argv[0].iov_len, (const char *)request->argv[0].iov_base, revisions,
                                request->revisions(request));
        }
    }
    if (node->applying != NULL || node->listens) {
        node->applying_replies = XXH3_64bits_withSeed(&reply->hash, sizeof reply->hash, node->applying_replies);
    }
}

static void check_applied(struct sim_node *node, uint64_t index, uint64_t term, const void *data, size_t len)
{
    struct sim_applied applied = {
        .index = index,
        .term = term,
        .content = XXH3_64bits(data, len) | 1,
        .bytes = len,
        .digest = store_digest(node->store),
        .revision = store_revision(node->store),
        .keys = store_keys(node->store),
        .time_ms = store_time_ms(node->store),
        .replies = node->applying_replies,
    };

    if (!node->wrong) {
        sim_check_applied(node->check, node->position, &applied);
    }
    sim_world_trace(node->world, 20, index, applied.digest);
}

static void fsm_apply(void *ctx, uint64_t index, uint64_t term, const void *data, size_t len, struct proposal *proposal)
{
    struct sim_node *node = ctx;
    struct sim_batch *batch = proposal == NULL ? NULL : proposal->data;
    const struct store_apply_hooks hooks = {.ctx = node, .begin = apply_begin_cb, .end = apply_end_cb};
    enum store_status status = store_entry_check(data, len);

    if (status != STORE_OK) {
        sim_world_violation(node->world, "entries", "node %u is given a bad entry at index %" PRIu64,
                            node->position + 1, index);
        return;
    }
    if (index <= node->applied_index) {
        sim_world_violation(node->world, "applied once", "node %u is given index %" PRIu64 " after %" PRIu64,
                            node->position + 1, index, node->applied_index);
    }
    node->applied_index = index;
    node->applying = batch;
    node->applying_replies = 1;
    store_apply(node->store, data, len, &hooks);
    if (batch == NULL && !node->listens) {
        node->applying_replies = 0;
    }
    node->applying = NULL;
    check_applied(node, index, term, data, len);
    if (batch != NULL) {
        for (struct sim_request *request = batch->requests; request != NULL; request = request->next) {
            request->index = request->shown = index;
        }
        batch_unlink(batch);
        finish_all(node, batch->requests, SIM_RESULT_OK, REPLICA_OK);
        free(batch);
    }
}

static uint64_t fsm_time_ms(void *ctx)
{
    return store_time_ms(((struct sim_node *)ctx)->store);
}

static uint64_t fsm_digest(void *ctx)
{
    const struct sim_node *node = ctx;

    return store_digest(node->store) ^ node->spoilt;
}

/* A snapshot took the place of the content. */
static void installed_cb(void *ctx, uint64_t index)
{
    struct sim_node *node = ctx;

    const struct sim_applied content = {.index = index,
                                        .digest = store_digest(node->store),
                                        .revision = store_revision(node->store),
                                        .keys = store_keys(node->store),
                                        .time_ms = store_time_ms(node->store)};

    memset(&node->pending, 0, sizeof node->pending);
    node->spoilt = 0;
    node->wrong = false;
    node->applied_index = index;
    node->installs++;
    sim_check_installed(node->check, node->position, &content);
    sim_world_trace(node->world, 21, index, content.digest);
}

static uint64_t fsm_entry_time_ms(void *ctx, const void *data, size_t len)
{
    struct sim_node *node = ctx;

    /* While opening, the log's last entry is asked about. */
    node->saw_time = node->saw_time || (node->replica != NULL && !replica_is_loading(node->replica));
    return store_entry_check(data, len) == STORE_OK ? store_entry_time_ms(data, len) : 0;
}

static void progress_cb(void *ctx)
{
    struct sim_node *node = ctx;

    propose_if_due(node);
}

static void changed_cb(void *ctx)
{
    sim_node_changed(ctx);
}

/* A deadline is due and no write is coming: propose a tick. */
static void tick_cb(struct env_timer *timer)
{
    struct sim_node *node = timer->data;
    struct env *env = &node->env.env;

    if (replica_is_leader(node->replica) && node->batch_requests == NULL && !replica_is_busy(node->replica) &&
        store_next_deadline_ms(node->store) <= replica_cluster_time(node->replica)) {
        propose(node);
    }
    if (!node->env.dead) {
        env->ops->timer_set(env, timer, env->ops->now_us(env) + TICK_US);
    }
}

/* --- Life -------------------------------------------------------------------------------------------------------- */

void sim_executor_config(struct sim_node *node, struct replica_config *config)
{
    node->fsm_snapshot = (struct fsm_snapshot){
        .store = node->store, .hash_seed = node->config.hash_seed, .installed = installed_cb, .ctx = node};
    node->fsm_snapshots = fsm_snapshot_vtable(&node->fsm_snapshot);
    node->fsm = (struct replica_fsm){.ctx = node,
                                     .apply = fsm_apply,
                                     .time_ms = fsm_time_ms,
                                     .digest = fsm_digest,
                                     .received = received_cb,
                                     .entry_time_ms = fsm_entry_time_ms,
                                     .snapshots = &node->fsm_snapshots};
    memset(&node->pending, 0, sizeof node->pending);
    config->id = node->id;
    config->fsm = &node->fsm;
    config->progress = progress_cb;
    config->changed = changed_cb;
    config->ctx = node;
}

void sim_executor_start(struct sim_node *node)
{
    struct env *env = &node->env.env;
    enum env_status status;

    node->tick = (struct env_timer){.data = node, .cb = tick_cb};
    status = env->ops->timer_init(env, &node->tick);
    assert(status == ENV_OK);
    env->ops->timer_set(env, &node->tick, env->ops->now_us(env) + TICK_US);
}

void sim_executor_stop(struct sim_node *node)
{
    struct env *env = &node->env.env;

    if (node->tick.impl != NULL) {
        env->ops->timer_fini(env, &node->tick);
    }
    finish_all(node, node->batch_requests, SIM_RESULT_UNKNOWN, REPLICA_OK);
    finish_all(node, node->waiting, SIM_RESULT_NOT_EXECUTED, REPLICA_NOT_LEADER);
    node->waiting = NULL;
    finish_all(node, node->reads, SIM_RESULT_NOT_EXECUTED, REPLICA_NOT_LEADER);
    node->batch_requests = node->batch_requests_tail = NULL;
    node->reads = node->reads_tail = NULL;
    if (node->batches != NULL || node->reads_started != NULL) {
        sim_world_violation(node->world, "proposals end", "node %u was closed with proposals or reads left hanging",
                            node->position + 1);
    }
}
