#include "tests/sim/sim_workload.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_clocks.h"

/* One request under way from a client to a node and back. Outlives a client that gave up on it. */
struct sim_call {
    struct sim_request request; /* first */
    struct sim_task arrive, respond;
    struct sim_workload *workload;
    struct sim_client *client; /* NULL: nobody waits any more */
    struct sim_op *op;
    unsigned node;
    bool at_node;
    enum sim_result result;
    char text[2][32]; /* arguments made of numbers */
    char keys[SIM_ACCOUNTS][8];
    struct sim_call *next;
};

static void call_arrive_cb(struct sim_task *task);
static void call_respond_cb(struct sim_task *task);
static void client_next_cb(struct sim_task *task);
static void client_timeout_cb(struct sim_task *task);

void sim_workload_init(struct sim_workload *workload, const struct sim_workload_config *config, struct sim_world *world,
                       struct sim_history *history, struct sim_check *check, struct sim_node *nodes, unsigned n_nodes)
{
    memset(workload, 0, sizeof *workload);
    assert(config->n_clients > 0);
    assert(config->n_clients <= SIM_CLIENTS_MAX);
    workload->config = *config;
    workload->world = world;
    workload->history = history;
    workload->check = check;
    workload->nodes = nodes;
    workload->n_nodes = n_nodes;
    workload->random = sim_random_fork(&world->random, 200);
    workload->stopped = true;
    for (unsigned i = 0; i < config->n_clients; i++) {
        struct sim_client *client = &workload->clients[i];

        client->next = (struct sim_task){.data = client, .cb = client_next_cb};
        client->timeout = (struct sim_task){.data = client, .cb = client_timeout_cb};
        client->workload = workload;
        client->number = i;
        client->target = i % n_nodes;
    }
}

static void call_free(struct sim_call *call)
{
    struct sim_call **link = &call->workload->calls;

    while (*link != call) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = call->next;
    sim_world_cancel(call->workload->world, &call->arrive);
    sim_world_cancel(call->workload->world, &call->respond);
    sim_reply_fini(&call->request.reply);
    free(call);
}

void sim_workload_fini(struct sim_workload *workload)
{
    while (workload->calls != NULL) {
        assert(!workload->calls->at_node);
        call_free(workload->calls);
    }
    for (unsigned i = 0; i < workload->config.n_clients; i++) {
        sim_world_cancel(workload->world, &workload->clients[i].next);
        sim_world_cancel(workload->world, &workload->clients[i].timeout);
        free(workload->clients[i].seen);
    }
    free(workload->final_keys);
    memset(workload, 0, sizeof *workload);
}

static void client_wait(struct sim_client *client, uint64_t us)
{
    sim_world_after(client->workload->world, &client->next, us);
}

void sim_workload_start(struct sim_workload *workload)
{
    workload->stopped = false;
    for (unsigned i = 0; i < workload->config.n_clients; i++) {
        if (workload->clients[i].call == NULL) {
            client_wait(&workload->clients[i], sim_random_below(&workload->random, workload->config.think_us + 1));
        }
    }
}

void sim_workload_stop(struct sim_workload *workload)
{
    workload->stopped = true;
    for (unsigned i = 0; i < workload->config.n_clients; i++) {
        sim_world_cancel(workload->world, &workload->clients[i].next);
    }
}

bool sim_workload_is_idle(const struct sim_workload *workload)
{
    for (unsigned i = 0; i < workload->config.n_clients; i++) {
        if (workload->clients[i].call != NULL) {
            return false;
        }
    }
    return true;
}

/* --- From operations to commands -------------------------------------------------------------------------------------
 */

static struct iovec arg_text(const char *text)
{
    return (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}

static void add_arg(struct sim_request *request, const void *bytes, size_t len)
{
    assert(request->argc < SIM_ARGS_MAX);
    request->argv[request->argc++] = (struct iovec){(void *)(uintptr_t)bytes, len};
}

static void add_text(struct sim_request *request, const char *text)
{
    add_arg(request, text, strlen(text));
}

static void build_transfer(struct sim_call *call)
{
    struct sim_request *request = &call->request;

    snprintf(call->keys[0], sizeof call->keys[0], "acc%u", call->op->from);
    snprintf(call->keys[1], sizeof call->keys[1], "acc%u", call->op->to);
    snprintf(call->text[0], sizeof call->text[0], "%" PRId64, call->op->delta);
    add_text(request, "DECRBY");
    add_text(request, call->keys[0]);
    add_text(request, call->text[0]);
    add_text(request, "INCRBY");
    add_text(request, call->keys[1]);
    add_text(request, call->text[0]);
    request->n_queued = 2;
    request->queued_argc[0] = request->queued_argc[1] = 3;
}

static void build(struct sim_call *call)
{
    static const char *const names[] = {"GET",    "SET", "SET", "SET", "DEL", "APPEND",
                                        "INCRBY", "SET", "SET", "GET", NULL,  "MGET"};
    struct sim_request *request = &call->request;
    const struct sim_op *op = call->op;

    request->read = sim_op_is_read(op->kind);
    if (op->kind == SIM_TRANSFER) {
        build_transfer(call);
        return;
    }
    add_text(request, names[op->kind]);
    if (op->kind == SIM_BALANCE) {
        for (unsigned i = 0; i < SIM_ACCOUNTS; i++) {
            snprintf(call->keys[i], sizeof call->keys[i], "acc%u", i);
            add_text(request, call->keys[i]);
        }
        return;
    }
    add_text(request, op->key);
    if (op->kind == SIM_INCRBY) {
        snprintf(call->text[0], sizeof call->text[0], "%" PRId64, op->delta);
        add_text(request, call->text[0]);
    } else if (op->arg != NULL) {
        add_arg(request, op->arg, op->arg_len);
    }
    if (op->kind == SIM_SETNX) {
        add_text(request, "NX");
    } else if (op->kind == SIM_GETSET) {
        add_text(request, "GET");
    } else if (op->kind == SIM_TTL_SET) {
        snprintf(call->text[1], sizeof call->text[1], "%" PRIu64, op->ttl_ms);
        add_text(request, "PX");
        add_text(request, call->text[1]);
    } else if (op->kind == SIM_CAS) {
        request->n_queued = 1;
        request->queued_argc[0] = request->argc;
        request->n_watches = 1;
        request->watch = (struct store_watch){arg_text(op->key), op->revision};
    }
}

/* --- From replies to outcomes ----------------------------------------------------------------------------------------
 */

static void outcome_bytes(struct sim_op *op, const struct sim_reply *reply, unsigned i)
{
    op->outcome = LIN_VALUE;
    op->value_len = reply->values[i].len;
    op->value = malloc(op->value_len + 1);
    assert(op->value != NULL);
    memcpy(op->value, sim_reply_bytes(reply, i), op->value_len + 1);
}

static void outcome_single(struct sim_op *op, const struct sim_reply *reply)
{
    switch (reply->values[0].type) {
    case SIM_VALUE_NIL:
        op->outcome = LIN_NIL;
        break;
    case SIM_VALUE_INTEGER:
        op->outcome = LIN_INTEGER;
        op->integer = reply->values[0].integer;
        break;
    case SIM_VALUE_BULK:
        outcome_bytes(op, reply, 0);
        break;
    case SIM_VALUE_STATUS:
        op->outcome = LIN_OK;
        break;
    case SIM_VALUE_ERROR:
        op->outcome = LIN_ERROR;
        break;
    case SIM_VALUE_ARRAY:
        op->outcome = LIN_OK; /* a transaction went through */
        break;
    }
}

/* Whether the reply has the form that the command promises. */
static bool reply_fits(const struct sim_op *op, const struct sim_reply *reply)
{
    enum sim_value_type type = reply->n == 0 ? SIM_VALUE_ERROR : reply->values[0].type;

    switch (op->kind) {
    case SIM_GET:
    case SIM_TTL_GET:
    case SIM_GETSET:
        return reply->n == 1 && (type == SIM_VALUE_NIL || type == SIM_VALUE_BULK);
    case SIM_SET:
    case SIM_TTL_SET:
        return reply->n == 1 && type == SIM_VALUE_STATUS;
    case SIM_SETNX:
        return reply->n == 1 && (type == SIM_VALUE_NIL || type == SIM_VALUE_STATUS);
    case SIM_DEL:
    case SIM_APPEND:
        return reply->n == 1 && type == SIM_VALUE_INTEGER;
    case SIM_INCRBY:
        return reply->n == 1 && (type == SIM_VALUE_INTEGER || type == SIM_VALUE_ERROR);
    case SIM_CAS:
        return (reply->n == 1 && type == SIM_VALUE_NIL) ||
               (reply->n == 2 && type == SIM_VALUE_ARRAY && reply->values[1].type == SIM_VALUE_STATUS);
    case SIM_TRANSFER:
        return reply->n == 3 && type == SIM_VALUE_ARRAY && reply->values[1].type == SIM_VALUE_INTEGER &&
               reply->values[2].type == SIM_VALUE_INTEGER;
    case SIM_BALANCE:
        return reply->n == SIM_ACCOUNTS + 1 && type == SIM_VALUE_ARRAY;
    }
    return false;
}

/* Revisions that the command must have taken, given its reply. */
static uint64_t revisions_cb(const struct sim_request *request)
{
    const struct sim_op *op = ((const struct sim_call *)(const void *)request)->op;
    const struct sim_reply *reply = &request->reply;
    enum sim_value_type type = reply->n == 0 ? SIM_VALUE_NIL : reply->values[0].type;

    switch (op->kind) {
    case SIM_TRANSFER:
        return 2;
    case SIM_DEL:
        return (uint64_t)reply->values[0].integer;
    case SIM_SETNX:
    case SIM_CAS:
        return type == SIM_VALUE_NIL ? 0 : 1;
    case SIM_INCRBY:
        return type == SIM_VALUE_ERROR ? 0 : 1;
    case SIM_GET:
    case SIM_TTL_GET:
    case SIM_BALANCE:
        return 0;
    case SIM_SET:
    case SIM_GETSET:
    case SIM_APPEND:
    case SIM_TTL_SET:
        return 1;
    }
    return 0;
}

static void client_remember(struct sim_client *client, const struct sim_op *op)
{
    free(client->seen);
    client->seen = NULL;
    client->seen_len = 0;
    memcpy(client->seen_key, op->key, sizeof client->seen_key);
    client->seen_revision = op->revision;
    if (op->outcome == LIN_VALUE) {
        client->seen = malloc(op->value_len + 1);
        assert(client->seen != NULL);
        memcpy(client->seen, op->value, op->value_len + 1);
        client->seen_len = op->value_len;
    }
}

static void call_answered(struct sim_call *call)
{
    struct sim_workload *workload = call->workload;
    const struct sim_reply *reply = &call->request.reply;
    struct sim_op *op = call->op;
    char text[400];

    op->index = call->request.index;
    op->revision = sim_op_is_read(op->kind) ? call->request.revision : op->revision;
    if (!reply_fits(op, reply)) {
        sim_world_violation(workload->world, "replies", "a reply of the wrong kind (\"%s\"): %s",
                            reply->n == 0 ? "none" : sim_reply_bytes(reply, 0), sim_op_describe(op, text, sizeof text));
        return;
    }
    outcome_single(op, reply);
    if (op->kind == SIM_BALANCE) {
        op->integer = 0;
        for (unsigned i = 1; i <= SIM_ACCOUNTS; i++) {
            op->integer += reply->values[i].type == SIM_VALUE_BULK ? strtoll(sim_reply_bytes(reply, i), NULL, 10) : 0;
        }
    }
    if (op->kind == SIM_GET) {
        client_remember(call->client, op);
    } else if (op->kind == SIM_TTL_SET) {
        uint64_t true_us = SIM_EPOCH_MS * 1000 + workload->world->now_us;
        uint64_t cluster_us = workload->check->committed[op->index].time_ms * 1000;

        op->lag_us = true_us > cluster_us ? true_us - cluster_us : 0;
    }
    workload->ok++;
    if (sim_op_is_read(op->kind)) {
        workload->reads_ok++;
        workload->last_read_us = workload->world->now_us;
    } else {
        workload->writes_ok++;
        workload->last_write_us = workload->world->now_us;
    }
    op->state = SIM_OP_OK;
    if (op->index < op->floor && sim_op_is_read(op->kind) && call->request.late_us != SIM_NEVER) {
        sim_clocks_note_stale(workload->nodes[call->node].clocks, call->node, call->request.late_us);
        op->state = SIM_OP_FAILED; /* stale, counted, and left out of the checks */
        return;
    }
    sim_check_reply(workload->check, call->node, op->index, op->floor, sim_op_is_read(op->kind),
                    sim_op_describe(op, text, sizeof text));
    sim_check_shown(workload->check, call->request.shown);
}

/* --- Calls ------------------------------------------------------------------------------------------------------- */

static void call_done_cb(struct sim_request *request, enum sim_result result)
{
    struct sim_call *call = (struct sim_call *)(void *)request;

    call->at_node = false;
    call->result = result;
    sim_world_after(call->workload->world, &call->respond, sim_random_range(&call->workload->random, 20, 300));
}

static void call_arrive_cb(struct sim_task *task)
{
    struct sim_call *call = task->data;
    struct sim_node *node = &call->workload->nodes[call->node];

    if (node->state != SIM_NODE_UP) {
        call->request.leader = 0;
        call_done_cb(&call->request, SIM_RESULT_NOT_EXECUTED); /* connection refused */
        return;
    }
    call->at_node = true;
    sim_node_request(node, &call->request);
}

static void op_ends(struct sim_workload *workload, struct sim_op *op, enum sim_result result)
{
    op->return_us = workload->world->now_us;
    if (result == SIM_RESULT_NOT_EXECUTED || sim_op_is_read(op->kind)) {
        op->state = SIM_OP_FAILED;
        workload->failed++;
    } else {
        op->state = SIM_OP_UNKNOWN;
        workload->unknown++;
    }
}

static void call_respond_cb(struct sim_task *task)
{
    struct sim_call *call = task->data;
    struct sim_client *client = call->client;
    struct sim_workload *workload = call->workload;
    uint64_t wait_us = sim_random_below(&workload->random, 2 * workload->config.think_us + 1);

    sim_world_trace(workload->world, 30, call->op->id, (uint64_t)call->result);
    if (client == NULL) {
        call_free(call);
        return;
    }
    sim_world_cancel(workload->world, &client->timeout);
    client->call = NULL;
    if (call->result == SIM_RESULT_OK) {
        call->op->return_us = workload->world->now_us;
        call_answered(call);
    } else {
        op_ends(workload, call->op, call->result);
        client->target = call->request.leader != 0 ? call->request.leader - 1
                                                   : (unsigned)sim_random_below(&workload->random, workload->n_nodes);
        wait_us = sim_random_range(&workload->random, 500, 20000);
    }
    if (workload->final && client->number == 0) {
        workload->final_at += call->result == SIM_RESULT_OK ? 1 : 0;
        client_wait(client, call->result == SIM_RESULT_OK ? 10 : wait_us);
    } else if (!workload->stopped) {
        client_wait(client, wait_us);
    }
    call_free(call);
}

static void client_timeout_cb(struct sim_task *task)
{
    struct sim_client *client = task->data;
    struct sim_workload *workload = client->workload;

    assert(client->call != NULL);
    op_ends(workload, client->call->op, SIM_RESULT_UNKNOWN);
    client->call->client = NULL;
    client->call = NULL;
    client->target = (unsigned)sim_random_below(&workload->random, workload->n_nodes);
    if (!workload->stopped || (workload->final && client->number == 0)) {
        client_wait(client, sim_random_range(&workload->random, 500, 20000));
    }
}

static void client_call(struct sim_client *client, struct sim_op *op, unsigned node)
{
    struct sim_workload *workload = client->workload;
    struct sim_call *call = calloc(1, sizeof *call);

    assert(call != NULL);
    assert(client->call == NULL);
    call->workload = workload;
    call->client = client;
    call->op = op;
    call->node = node;
    call->arrive = (struct sim_task){.data = call, .cb = call_arrive_cb};
    call->respond = (struct sim_task){.data = call, .cb = call_respond_cb};
    call->next = workload->calls;
    workload->calls = call;
    client->call = call;
    sim_reply_init(&call->request.reply);
    call->request.done = call_done_cb;
    call->request.late_us = SIM_NEVER;
    call->request.revisions = revisions_cb;
    build(call);
    op->client = client->number;
    op->node = node;
    op->floor = workload->check->acknowledged;
    sim_world_after(workload->world, &call->arrive, sim_random_range(&workload->random, 20, 300));
    sim_world_after(workload->world, &client->timeout, workload->config.timeout_us);
}

/* --- What clients do -----------------------------------------------------------------------------------------------
 */

static void op_value(struct sim_workload *workload, struct sim_op *op, char letter)
{
    size_t len = sim_random_chance(&workload->random, workload->config.large_ppm)
                     ? (size_t)sim_random_range(&workload->random, 500, 9000)
                     : 0;
    char head[32];
    size_t n = (size_t)snprintf(head, sizeof head, "%c%" PRIu64, letter, op->id);

    op->arg_len = len > n ? len : n;
    op->arg = malloc(op->arg_len + 1);
    assert(op->arg != NULL);
    memset(op->arg, '.', op->arg_len);
    memcpy(op->arg, head, n);
    op->arg[op->arg_len] = 0;
}

static void op_key(struct sim_workload *workload, struct sim_op *op, char letter)
{
    uint64_t window = workload->world->now_us / workload->config.window_us;

    if (window > 0 && sim_random_chance(&workload->random, 150000)) {
        window--;
    }
    snprintf(op->key, sizeof op->key, "%c%" PRIu64, letter,
             window * workload->config.keys + sim_random_below(&workload->random, workload->config.keys));
}

static void choose_register(struct sim_client *client, struct sim_op *op)
{
    static const struct {
        enum sim_op_kind kind;
        unsigned share;
    } mix[] = {{SIM_GET, 35}, {SIM_SET, 20},    {SIM_SETNX, 6}, {SIM_GETSET, 7},
               {SIM_DEL, 8},  {SIM_APPEND, 12}, {SIM_CAS, 12}};
    struct sim_workload *workload = client->workload;
    unsigned draw = (unsigned)sim_random_below(&workload->random, 100);
    unsigned i = 0;

    while (draw >= mix[i].share) {
        draw -= mix[i++].share;
    }
    op->kind = mix[i].kind;
    op_key(workload, op, 'r');
    if (op->kind == SIM_CAS && client->seen_key[0] == 'r') {
        memcpy(op->key, client->seen_key, sizeof op->key);
        op->revision = client->seen_revision;
        if (client->seen != NULL) {
            op->expect = malloc(client->seen_len + 1);
            assert(op->expect != NULL);
            memcpy(op->expect, client->seen, client->seen_len + 1);
            op->expect_len = client->seen_len;
        }
        client->seen_key[0] = 0;
    } else if (op->kind == SIM_CAS) {
        op->kind = SIM_GET;
    }
    if (op->kind != SIM_GET && op->kind != SIM_DEL) {
        op_value(workload, op, op->kind == SIM_APPEND ? ',' : 'v');
    }
}

static void choose_counter(struct sim_client *client, struct sim_op *op)
{
    unsigned draw = (unsigned)sim_random_below(&client->workload->random, 100);

    op_key(client->workload, op, 'c');
    if (draw < 55) {
        op->kind = SIM_INCRBY;
        op->delta = (int64_t)sim_random_range(&client->workload->random, 1, 3);
    } else if (draw < 95) {
        op->kind = SIM_GET;
    } else {
        op->kind = SIM_DEL;
    }
}

static void choose_ttl(struct sim_client *client, struct sim_op *op)
{
    struct sim_workload *workload = client->workload;

    if (workload->ttl_keys == 0 || sim_random_chance(&workload->random, 250000)) {
        op->kind = SIM_TTL_SET;
        op->ttl_ms = sim_random_range(&workload->random, 200, workload->config.ttl_max_ms);
        snprintf(op->key, sizeof op->key, "t%" PRIu64, workload->ttl_keys++);
        op_value(workload, op, 'v');
    } else {
        uint64_t newest = workload->ttl_keys < 6 ? workload->ttl_keys : 6;

        op->kind = SIM_TTL_GET;
        snprintf(op->key, sizeof op->key, "t%" PRIu64,
                 workload->ttl_keys - 1 - sim_random_below(&workload->random, newest));
    }
}

static void choose_account(struct sim_client *client, struct sim_op *op)
{
    struct sim_random *random = &client->workload->random;

    snprintf(op->key, sizeof op->key, "acc");
    if (sim_random_chance(random, 500000)) {
        op->kind = SIM_BALANCE;
        return;
    }
    op->kind = SIM_TRANSFER;
    op->from = (unsigned)sim_random_below(random, SIM_ACCOUNTS);
    op->to = (op->from + 1 + (unsigned)sim_random_below(random, SIM_ACCOUNTS - 1)) % SIM_ACCOUNTS;
    op->delta = (int64_t)sim_random_range(random, 1, 100);
}

static void client_final(struct sim_client *client)
{
    struct sim_workload *workload = client->workload;
    struct sim_op *op;

    if (workload->final_at == workload->final_n) {
        return;
    }
    op = sim_history_add(workload->history, workload->world->now_us);
    op->kind = SIM_GET;
    memcpy(op->key, workload->final_keys[workload->final_at], sizeof op->key);
    client_call(client, op, client->target);
}

static void client_next_cb(struct sim_task *task)
{
    struct sim_client *client = task->data;
    struct sim_workload *workload = client->workload;
    unsigned draw = (unsigned)sim_random_below(&workload->random, 100);
    struct sim_op *op;

    if (workload->final) {
        client_final(client);
        return;
    }
    op = sim_history_add(workload->history, workload->world->now_us);
    if (draw < 55) {
        choose_register(client, op);
    } else if (draw < 75) {
        choose_counter(client, op);
    } else if (draw < 88) {
        choose_ttl(client, op);
    } else {
        choose_account(client, op);
    }
    client_call(client, op,
                sim_random_chance(&workload->random, sim_op_is_read(op->kind) && workload->config.spread_ppm != 0
                                                         ? workload->config.spread_ppm
                                                         : workload->config.stray_ppm)
                    ? (unsigned)sim_random_below(&workload->random, workload->n_nodes)
                    : client->target);
}

/* --- The end -------------------------------------------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

void sim_workload_read_all(struct sim_workload *workload)
{
    const struct sim_history *history = workload->history;
    size_t n = 0;

    assert(workload->stopped);
    assert(workload->final_keys == NULL);
    workload->final_keys = calloc(history->n + 1, sizeof *workload->final_keys);
    assert(workload->final_keys != NULL);
    for (size_t i = 0; i < history->n; i++) {
        if (history->ops[i]->kind <= SIM_CAS) {
            memcpy(workload->final_keys[n++], history->ops[i]->key, SIM_KEY_BYTES);
        }
    }
    qsort(workload->final_keys, n, sizeof *workload->final_keys, by_name);
    for (size_t i = 0; i < n; i++) {
        if (workload->final_n == 0 ||
            strcmp(workload->final_keys[workload->final_n - 1], workload->final_keys[i]) != 0) {
            memmove(workload->final_keys[workload->final_n++], workload->final_keys[i], SIM_KEY_BYTES);
        }
    }
    workload->final = true;
    client_wait(&workload->clients[0], 0);
}

bool sim_workload_has_read_all(const struct sim_workload *workload)
{
    return workload->final && workload->final_at == workload->final_n;
}

const struct sim_op *sim_workload_probe(struct sim_workload *workload, enum sim_op_kind kind, const char *key,
                                        const char *arg, uint64_t ttl_ms, unsigned node)
{
    struct sim_op *op = sim_history_add(workload->history, workload->world->now_us);

    op->kind = kind;
    snprintf(op->key, sizeof op->key, "%s", key);
    op->ttl_ms = ttl_ms;
    if (arg != NULL) {
        op->arg = strdup(arg);
        assert(op->arg != NULL);
        op->arg_len = strlen(arg);
    }
    client_call(&workload->clients[0], op, node);
    return op;
}
