/* Sessions: routing of requests, order of replies, pausing. Transactions are in session_multi.c. */
#include "cmd/lockstepd/session.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/keyslot.h"
#include "cmd/lockstepd/members.h"

#define CRON_MS 1000u

/* --- A sink for replies that nobody wants (CLIENT REPLY OFF). ------------------------------------------------------
 */

static void discard_text(struct store_reply *r, const char *text)
{
    (void)r;
    (void)text;
}

static void discard_bytes(struct store_reply *r, const char *text, size_t len)
{
    (void)r;
    (void)text;
    (void)len;
}

static void discard_bulk(struct store_reply *r, const void *data, size_t len)
{
    (void)r;
    (void)data;
    (void)len;
}

static void discard_integer(struct store_reply *r, int64_t value)
{
    (void)r;
    (void)value;
}

static void discard_nothing(struct store_reply *r)
{
    (void)r;
}

static void discard_count(struct store_reply *r, size_t n)
{
    (void)r;
    (void)n;
}

static void discard_real(struct store_reply *r, double value)
{
    (void)r;
    (void)value;
}

static const struct store_reply_ops discard_ops = {
    .status = discard_text,
    .error = discard_bytes,
    .integer = discard_integer,
    .bulk = discard_bulk,
    .null = discard_nothing,
    .null_array = discard_nothing,
    .array = discard_count,
    .map = discard_count,
    .set = discard_count,
    .real = discard_real,
};

/* --- Pausing --------------------------------------------------------------------------------------------------------
 */

static void congested_link(struct session *s)
{
    s->congested_prev = NULL;
    s->congested_next = s->owner->congested;
    if (s->congested_next != NULL) {
        s->congested_next->congested_prev = s;
    }
    s->owner->congested = s;
}

static void congested_unlink(struct session *s)
{
    if (s->congested_prev != NULL) {
        s->congested_prev->congested_next = s->congested_next;
    } else {
        s->owner->congested = s->congested_next;
    }
    if (s->congested_next != NULL) {
        s->congested_next->congested_prev = s->congested_prev;
    }
}

void session_pause(struct session *s, unsigned reason)
{
    if (reason == SESSION_PAUSE_CONGESTED && (s->paused & reason) == 0) {
        congested_link(s);
    }
    s->paused |= reason;
}

void session_unpause(struct session *s, unsigned reason)
{
    if ((s->paused & reason) == 0) {
        return;
    }
    if (reason == SESSION_PAUSE_CONGESTED) {
        congested_unlink(s);
    }
    s->paused &= ~reason;
    if (s->paused == 0 && s->conn != NULL) {
        conn_resume(s->conn);
    }
}

static void sessions_relieved(void *ctx)
{
    struct sessions *owner = ctx;
    struct session *next;
    for (struct session *s = owner->congested; s != NULL; s = next) {
        next = s->congested_next;
        session_unpause(s, SESSION_PAUSE_CONGESTED);
    }
}

/* --- Pending requests and the order of replies --- */

static struct pending *pending_of(struct exec_request *request)
{
    return (struct pending *)request;
}

/* Where the next reply of this session goes: straight out, or behind the pending ones. */
static struct resp_buffer *session_output(struct session *s)
{
    return s->tail != NULL ? &s->tail->after : conn_output(s->conn);
}

/* `len` reply bytes were written behind pending requests. */
static void session_waiting(struct session *s, size_t len)
{
    s->waiting_bytes += len;
    if (s->waiting_bytes > SESSION_WAITING_BYTES_MAX) {
        session_pause(s, SESSION_PAUSE_PENDING);
    }
}

/* An error reply in the session's next place, whether it waits there or not. */
static void session_error(struct session *s, const char *text)
{
    struct resp_buffer *out = session_output(s);
    size_t before = out->len;
    if (s->reply_mode == SESSION_REPLY_ON) {
        resp_write_error(out, text, strlen(text));
    }
    if (s->tail != NULL) {
        session_waiting(s, out->len - before);
    }
}

static struct store_reply *pending_begin(struct exec_request *request)
{
    struct pending *p = pending_of(request);
    struct session *s = p->session;
    assert(p == s->head);
    if (p->kind == PENDING_WATCH) {
        return multi_watch_begin(s);
    }
    if (p->kind == PENDING_MIXED) {
        render_init(&s->render, multi_exec_reply(s), request->proto);
        return &s->render.reply;
    }
    if (p->mute) {
        return &s->owner->discard;
    }
    render_init(&s->render, conn_output(s->conn), request->proto);
    return &s->render.reply;
}

static void pending_raw(struct exec_request *request, const void *bytes, size_t len)
{
    struct pending *p = pending_of(request);
    struct session *s = p->session;
    assert(p == s->head);
    if (p->kind == PENDING_WATCH) {
        multi_watch_raw(s, bytes, len);
    } else if (p->kind == PENDING_MIXED) {
        resp_buffer_append(multi_exec_reply(s), bytes, len);
    } else if (!p->mute) {
        conn_write(s->conn, bytes, len);
    }
}

static void pending_release(struct sessions *owner, struct pending *p)
{
    if (p->after.capacity > 0) {
        resp_buffer_fini(&p->after);
        resp_buffer_init(&p->after);
    }
    if (owner->n_spare == SESSION_SPARE_SLOTS_MAX) {
        free(p);
        return;
    }
    p->next = owner->spare;
    owner->spare = p;
    owner->n_spare++;
}

static void session_free(struct session *s)
{
    free(s->name);
    free(s->lib_name);
    free(s->lib_version);
    multi_free(s);
    free(s);
}

static void pending_flush_after(struct session *s, struct pending *p)
{
    if (p->after.failed) {
        conn_close(s->conn, "out of memory");
        return;
    }
    conn_write(s->conn, p->after.data, p->after.len);
    s->waiting_bytes -= p->after.len;
}

static void pending_end(struct exec_request *request)
{
    struct pending *p = pending_of(request);
    struct session *s = p->session;
    assert(p == s->head);
    s->head = p->next;
    if (s->head == NULL) {
        s->tail = NULL;
    }
    s->n_pending--;
    if (s->conn == NULL) {
        pending_release(s->owner, p);
        if (s->n_pending == 0) {
            session_free(s);
        }
        return;
    }
    if (p->kind == PENDING_WATCH) {
        multi_watch_end(s, p->mute ? NULL : conn_output(s->conn));
    } else if (p->kind == PENDING_MIXED) {
        multi_exec_end(s, p->mute ? &s->owner->scratch : conn_output(s->conn));
        resp_buffer_clear(&s->owner->scratch);
    }
    if (p->after.capacity > 0) {
        pending_flush_after(s, p);
    }
    pending_release(s->owner, p);
    if ((s->paused & SESSION_PAUSE_PENDING) != 0 && s->n_pending <= SESSION_PENDING_MAX / 2 &&
        s->waiting_bytes <= SESSION_WAITING_BYTES_MAX / 2) {
        session_unpause(s, SESSION_PAUSE_PENDING);
    }
    if (s->head == NULL && s->drained != NULL) {
        session_when_drained(s, s->drained);
    }
}

void session_when_drained(struct session *s, void (*drained)(struct session *session))
{
    s->drained = drained;
    if (s->head == NULL) {
        s->drained = NULL;
        drained(s);
    }
}

struct pending *session_pend(struct session *s, enum pending_kind kind)
{
    struct sessions *owner = s->owner;
    struct pending *p = owner->spare;
    if (p != NULL) {
        owner->spare = p->next;
        owner->n_spare--;
    } else {
        p = calloc(1, sizeof *p);
        if (p == NULL) {
            return NULL;
        }
        resp_buffer_init(&p->after);
        p->request.begin = pending_begin;
        p->request.raw = pending_raw;
        p->request.end = pending_end;
    }
    p->request.proto = s->proto;
    p->session = s;
    p->next = NULL;
    p->kind = kind;
    p->mute = s->reply_mode != SESSION_REPLY_ON;
    if (s->tail != NULL) {
        s->tail->next = p;
    } else {
        s->head = p;
    }
    s->tail = p;
    if (++s->n_pending >= SESSION_PENDING_MAX) {
        session_pause(s, SESSION_PAUSE_PENDING);
    }
    return p;
}

/* --- Requests --- */

void session_update_slow(struct session *s)
{
    s->slow = s->in_multi || s->reply_mode != SESSION_REPLY_ON;
}

bool session_redirect(struct session *s, const struct store_command *command, const struct iovec *argv, unsigned argc,
                      struct resp_buffer *out)
{
    bool local_read = (s->readonly || s->exec.mode != EXEC_LINEARIZABLE) && (command->flags & STORE_READ) != 0;
    if (!s->owner->config->redirect || command->first_key <= 0 || (unsigned)command->first_key >= argc || local_read) {
        return false;
    }
    struct replica *replica = node_replica(s->owner->node);
    uint64_t leader = replica_leader(replica);
    if (leader == s->owner->config->id) {
        return false;
    }
    char text[256];
    struct member member;
    int n;
    if (leader != 0 && member_find(s->owner->node, leader, &member)) {
        struct iovec key = argv[command->first_key];
        n = snprintf(text, sizeof text, "MOVED %u %s:%u", key_slot(key.iov_base, key.iov_len), member.host,
                     member.port);
    } else {
        n = snprintf(text, sizeof text, "CLUSTERDOWN no leader is known, the command was not executed");
    }
    resp_write_error(out, text, (size_t)n);
    return true;
}

/* Under a lease or a grant a read is answered on the spot. */
static bool session_read_local(struct session *s, const struct command_entry *entry, const struct iovec *argv,
                               unsigned argc)
{
    if ((entry->store->flags & STORE_READ) == 0 || s->head != NULL || s->reply_mode != SESSION_REPLY_ON) {
        return false;
    }
    render_init(&s->render, conn_output(s->conn), s->proto);
    return executor_read_local(s->owner->executor, &s->exec, entry->store, argv, argc, &s->render.reply);
}

static void session_submit(struct session *s, const struct command_entry *entry, const struct iovec *argv,
                           unsigned argc)
{
    struct sessions *owner = s->owner;
    if (session_read_local(s, entry, argv, argc)) {
        return;
    }
    struct pending *p = session_pend(s, PENDING_COMMAND);
    if (p == NULL) {
        session_error(s, "TRYAGAIN out of memory, the command was not executed");
        return;
    }
    executor_submit(owner->executor, &s->exec, &p->request, entry->store, argv, argc);
    if (executor_congested(owner->executor)) {
        session_pause(s, SESSION_PAUSE_CONGESTED);
    }
}

static void session_run_local(struct session *s, const struct command *command, const struct iovec *argv, unsigned argc,
                              struct resp_buffer *out)
{
    struct call call = {.session = s, .out = out, .proto = s->proto, .argv = argv, .argc = argc};
    s->last_sub = command->subcommands != NULL && argc > 1 ? command_find_sub(command, argv[1]) : NULL;
    command_run(command, &call);
}

/* The store checks its own subcommands when it executes; what is queued must be refused before. */
static bool session_subcommand_ok(struct session *s, const struct command_entry *entry, const struct iovec *argv,
                                  unsigned argc, struct resp_buffer *out)
{
    if (entry->store == NULL || entry->store->subcommands == NULL) {
        return true;
    }
    struct render render;
    render_init(&render, out, s->proto);
    return store_command_check(entry->store, argv, argc, &render.reply);
}

/* Redis's rule: what does not need the data is answered while they are loaded. */
static bool session_may_run(struct session *s, const struct command_entry *entry, const struct iovec *argv,
                            unsigned argc)
{
    const struct command *command = entry->local;
    if (!replica_is_loading(node_replica(s->owner->node))) {
        return true;
    }
    if (command != NULL && command->run == NULL && argc > 1) {
        const struct command *sub = command_find_sub(command, argv[1]);
        return sub == NULL || (sub->flags & COMMAND_LOADING) != 0; /* an unknown one, or HELP */
    }
    return command != NULL && (command->flags & COMMAND_LOADING) != 0;
}

/* A web page can have a browser send commands in the body of a request to any port. Such a request's first line or
 * header ends the connection before its body is looked at, as in Redis. */
static bool session_is_http(const struct iovec *name)
{
    return argument_is(*name, "post") || argument_is(*name, "host:");
}

/* Everything but the straight path: loading, unknown commands, local ones, transactions, muted replies, redirection. */
static void session_route(struct session *s, const struct command_entry *entry, const struct iovec *argv, unsigned argc,
                          struct resp_buffer *out)
{
    if (entry == NULL || !command_arity_ok(entry->arity, argc)) {
        if (entry == NULL && session_is_http(&argv[0])) {
            node_log(s->owner->node, 1, "HTTP on the port for clients, from %s: the connection is closed",
                     conn_peer_name(s->conn));
            conn_close(s->conn, "HTTP");
        } else if (entry == NULL) {
            reply_unknown_command(out, argv, argc);
        } else if (strcmp(entry->name, "exec") == 0) {
            multi_refuse_exec(s, out);
        } else {
            reply_wrong_arity(out, entry->name);
        }
        multi_abort(s);
    } else if (!session_may_run(s, entry, argv, argc)) {
        static const char loading[] = "LOADING Redis is loading the dataset in memory";
        resp_write_error(out, loading, sizeof loading - 1);
        multi_abort(s);
    } else if (!session_subcommand_ok(s, entry, argv, argc, out)) {
        multi_abort(s);
    } else if (s->in_multi && (entry->local == NULL || (entry->local->flags & COMMAND_IN_MULTI) == 0)) {
        multi_queue(s, entry, argv, argc, out);
    } else if (entry->local != NULL) {
        session_run_local(s, entry->local, argv, argc, out);
    } else if (!session_redirect(s, entry->store, argv, argc, out)) {
        session_submit(s, entry, argv, argc);
    }
}

static void session_request_slow(struct session *s, const struct command_entry *entry, const struct iovec *argv,
                                 unsigned argc)
{
    enum session_reply_mode mode = s->reply_mode;
    bool mute = mode != SESSION_REPLY_ON;
    bool behind = s->tail != NULL;
    struct resp_buffer *place = session_output(s);
    struct resp_buffer *out = mute ? &s->owner->scratch : place;
    size_t before = place->len;
    session_route(s, entry, argv, argc, out);
    if (mute && s->reply_mode == SESSION_REPLY_ON) {
        /* The command that turns replies on is answered. */
        resp_buffer_append(place, out->data, out->len);
    } else if (mute && mode == SESSION_REPLY_SKIP) {
        s->reply_mode = s->reply_mode == SESSION_REPLY_SKIP ? SESSION_REPLY_ON : s->reply_mode;
        session_update_slow(s);
    }
    if (mute) {
        resp_buffer_clear(out);
    }
    if (behind) {
        session_waiting(s, place->len - before);
    }
}

static bool session_request(void *data, struct conn *conn, const struct iovec *argv, unsigned argc)
{
    struct session *s = data;
    struct sessions *owner = s->owner;
    (void)conn;
    if (argc == 0) {
        return s->paused == 0;
    }
    const struct command_entry *entry = command_index_find(owner->commands, argv[0].iov_base, argv[0].iov_len);
    s->last_ms = uv_now(owner->loop);
    s->last = entry;
    owner->commands_processed++;
    if (entry != NULL && entry->local == NULL && !s->slow && !owner->config->redirect &&
        !replica_is_loading(node_replica(owner->node)) && command_arity_ok(entry->arity, argc)) {
        session_submit(s, entry, argv, argc);
    } else {
        session_request_slow(s, entry, argv, argc);
    }
    return s->paused == 0;
}

/* --- Life --- */

static uint64_t session_backlog(const struct exec_session *exec)
{
    const struct session *s = (const struct session *)exec;

    return s->conn != NULL ? conn_output_bytes(s->conn) : 0;
}

static void *session_accepted(void *ctx, struct conn *conn)
{
    struct sessions *owner = ctx;
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->owner = owner;
    s->conn = conn;
    s->proto = 2;
    s->last_ms = uv_now(owner->loop);
    exec_session_init(owner->executor, &s->exec);
    s->exec.backlog = session_backlog;
    readmode_set(s, &owner->config->read_mode_parsed);
    s->prev = owner->newest;
    if (s->prev != NULL) {
        s->prev->next = s;
    } else {
        owner->first = s;
    }
    owner->newest = s;
    owner->count++;
    return s;
}

static void session_closed(void *data, struct conn *conn, const char *why)
{
    struct session *s = data;
    struct sessions *owner = s->owner;
    (void)conn;
    (void)why;
    if ((s->paused & SESSION_PAUSE_CONGESTED) != 0) {
        congested_unlink(s);
    }
    wait_forget(s);
    transfer_forget(s);
    snapshot_forget(s);
    export_forget(s);
    export_file_forget(s);
    if (s->prev != NULL) {
        s->prev->next = s->next;
    } else {
        owner->first = s->next;
    }
    if (s->next != NULL) {
        s->next->prev = s->prev;
    } else {
        owner->newest = s->prev;
    }
    owner->count--;
    s->conn = NULL;
    s->drained = NULL;
    exec_session_detach(owner->executor, &s->exec);
    if (s->n_pending == 0) {
        session_free(s);
    }
}

static void session_eof_drained(struct session *s)
{
    conn_close_after_write(s->conn);
}

/* The client has sent its last: what it asked for is still answered. While paused there may be requests left to hand
 * out; this is called again after them. */
static bool session_eof(void *data, struct conn *conn)
{
    struct session *s = data;
    (void)conn;
    if (s->paused == 0 && s->head != NULL) {
        s->drained = session_eof_drained;
    }
    return s->paused != 0 || s->head != NULL;
}

/* The error takes its place behind the replies of what was asked before. */
static void session_malformed(void *data, struct conn *conn, const char *text)
{
    struct session *s = data;
    (void)conn;
    session_error(s, text);
    session_pause(s, SESSION_PAUSE_CLOSING);
    session_when_drained(s, session_eof_drained);
}

void session_set_text(char **field, struct iovec value)
{
    free(*field);
    *field = value.iov_len > 0 ? strndup(value.iov_base, value.iov_len) : NULL;
}

void session_reset(struct session *s)
{
    static const struct iovec nothing = {.iov_base = NULL, .iov_len = 0};
    multi_discard(s);
    session_set_text(&s->name, nothing);
    s->proto = 2;
    s->reply_mode = SESSION_REPLY_ON;
    s->no_evict = false;
    s->no_touch = false;
    s->readonly = false;
    readmode_set(s, &s->owner->config->read_mode_parsed);
    session_update_slow(s);
}

/* --- All sessions --- */

static void close_idle(struct sessions *owner, uint64_t now_ms)
{
    uint64_t limit_ms = (uint64_t)owner->config->timeout_s * 1000;
    if (limit_ms == 0) {
        return;
    }
    for (struct session *s = owner->first; s != NULL; s = s->next) {
        if (s->head == NULL && s->paused == 0 && now_ms - s->last_ms > limit_ms) {
            conn_close(s->conn, "idle");
        }
    }
}

static void cron_cb(uv_timer_t *timer)
{
    struct sessions *owner = timer->data;
    uint64_t now_ms = uv_now(owner->loop);
    uint64_t elapsed_ms = now_ms - owner->ops_sampled_ms;
    if (elapsed_ms > 0) {
        owner->ops_per_second = (owner->commands_processed - owner->ops_sampled) * 1000 / elapsed_ms;
    }
    owner->ops_sampled = owner->commands_processed;
    owner->ops_sampled_ms = now_ms;
    close_idle(owner, now_ms);
    export_holds_expire(owner);
}

struct sessions *sessions_new(void (*stop)(void *ctx), void *ctx)
{
    struct sessions *owner = calloc(1, sizeof *owner);
    if (owner == NULL) {
        return NULL;
    }
    owner->commands = command_index_new();
    if (owner->commands == NULL) {
        free(owner);
        return NULL;
    }
    owner->discard.ops = &discard_ops;
    owner->revision_command = store_command_find("lockstep.revision", sizeof "lockstep.revision" - 1);
    assert(owner->revision_command != NULL);
    owner->stop = stop;
    owner->stop_ctx = ctx;
    resp_buffer_init(&owner->scratch);
    return owner;
}

void sessions_callbacks(struct sessions *sessions, struct node_sessions *callbacks)
{
    *callbacks = (struct node_sessions){
        .accepted = session_accepted,
        .request = session_request,
        .closed = session_closed,
        .eof = session_eof,
        .malformed = session_malformed,
        .relieved = sessions_relieved,
        .ctx = sessions,
    };
}

void sessions_attach(struct sessions *sessions, struct node *node, uv_loop_t *loop)
{
    sessions->node = node;
    sessions->executor = node_executor(node);
    sessions->config = node_config(node);
    sessions->loop = loop;
    sessions->ops_sampled_ms = uv_now(loop);
    (void)uv_timer_init(loop, &sessions->cron);
    (void)uv_timer_init(loop, &sessions->wait_timer);
    sessions->cron.data = sessions;
    (void)uv_timer_init(loop, &sessions->transfer_timer);
    (void)uv_timer_init(loop, &sessions->export_timer);
    sessions->wait_timer.data = sessions;
    sessions->transfer_timer.data = sessions;
    sessions->export_timer.data = sessions;
    (void)uv_timer_start(&sessions->cron, cron_cb, CRON_MS, CRON_MS);
}

void sessions_stop(struct sessions *sessions)
{
    if (sessions->loop == NULL || uv_is_closing((uv_handle_t *)&sessions->cron)) {
        return;
    }
    uv_close((uv_handle_t *)&sessions->cron, NULL);
    uv_close((uv_handle_t *)&sessions->wait_timer, NULL);
    uv_close((uv_handle_t *)&sessions->transfer_timer, NULL);
    uv_close((uv_handle_t *)&sessions->export_timer, NULL);
}

void sessions_free(struct sessions *sessions)
{
    assert(sessions->first == NULL);
    while (sessions->spare != NULL) {
        struct pending *next = sessions->spare->next;
        free(sessions->spare);
        sessions->spare = next;
    }
    resp_buffer_fini(&sessions->scratch);
    command_index_free(sessions->commands);
    free(sessions);
}
