/* Transactions: MULTI EXEC DISCARD WATCH UNWATCH.
 *
 * Commands are copied into the session until EXEC hands them to the executor as one; those that this node answers by
 * itself are kept aside (multi_local.h), and the session takes no further request until they have run too. WATCH reads
 * the revisions of its keys through the executor, like any read; the session takes no further request until they are
 * known, so that a later EXEC carries them. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/multi_local.h"
#include "cmd/lockstepd/session.h"

#define MULTI_COMMANDS_MAX 65536u
#define MULTI_WATCHES_MAX 4096u
#define MULTI_ERROR_MAX 512u

struct multi {
    struct store_queued *commands; /* each argv is one block with its bytes */
    unsigned n_commands, commands_capacity;
    struct multi_locals *locals; /* queued between them */
    size_t bytes;                /* of arguments and of watched keys: at most max-entry-size */
    size_t watch_bytes;
    bool aborted;
    struct store_watch *watches; /* keys are owned */
    unsigned n_watches, watches_capacity;
    /* The WATCH being answered: watches from `fresh` on wait for their revisions, `answered` have theirs. */
    struct store_reply sink;
    unsigned fresh, answered;
    char error[MULTI_ERROR_MAX]; /* "" if none */
    /* The EXEC being answered, if there are local commands in it: these, and what the store's commands replied. */
    struct multi_locals *running;
    struct resp_buffer stored;
};

static struct multi *multi_get(struct session *s)
{
    if (s->multi == NULL) {
        s->multi = calloc(1, sizeof *s->multi);
    }
    return s->multi;
}

static void multi_clear_commands(struct multi *m)
{
    for (unsigned i = 0; i < m->n_commands; i++) {
        free((void *)(uintptr_t)m->commands[i].argv);
    }
    multi_locals_free(m->locals);
    m->locals = NULL;
    free(m->commands);
    m->commands = NULL;
    m->n_commands = 0;
    m->commands_capacity = 0;
    m->bytes = 0;
    m->aborted = false;
}

static void multi_cut_watches(struct multi *m, unsigned n)
{
    for (unsigned i = n; i < m->n_watches; i++) {
        m->watch_bytes -= m->watches[i].key.iov_len;
        free(m->watches[i].key.iov_base);
    }
    m->n_watches = n;
    if (n == 0) {
        free(m->watches);
        m->watches = NULL;
        m->watches_capacity = 0;
    }
}

void multi_discard(struct session *s)
{
    s->in_multi = false;
    session_update_slow(s);
    if (s->multi != NULL) {
        multi_clear_commands(s->multi);
        multi_cut_watches(s->multi, 0);
    }
}

void multi_free(struct session *s)
{
    if (s->multi != NULL) {
        multi_clear_commands(s->multi);
        multi_cut_watches(s->multi, 0);
        multi_locals_free(s->multi->running);
        resp_buffer_fini(&s->multi->stored);
        free(s->multi);
        s->multi = NULL;
    }
}

unsigned multi_count(const struct session *s)
{
    return s->multi != NULL ? s->multi->n_commands + multi_locals_count(s->multi->locals) : 0;
}

unsigned multi_watches(const struct session *s)
{
    return s->multi != NULL ? s->multi->n_watches : 0;
}

size_t multi_bytes(const struct session *s)
{
    return s->multi != NULL ? s->multi->bytes + s->multi->watch_bytes : 0;
}

void multi_abort(struct session *s)
{
    if (s->in_multi) {
        /* EXEC will refuse: what is queued is of no use any more. */
        multi_clear_commands(s->multi);
        s->multi->aborted = true;
    }
}

void multi_refuse_exec(struct session *s, struct resp_buffer *out)
{
    static const char error[] =
        "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command";
    multi_discard(s);
    resp_write_error(out, error, sizeof error - 1);
}

/* --- Queueing --- */

static bool multi_grow_commands(struct multi *m)
{
    if (m->n_commands < m->commands_capacity) {
        return true;
    }
    unsigned capacity = m->commands_capacity == 0 ? 16 : m->commands_capacity * 2;
    struct store_queued *grown = realloc(m->commands, capacity * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    m->commands = grown;
    m->commands_capacity = capacity;
    return true;
}

static bool multi_append_stored(struct multi *m, const struct iovec *argv, unsigned argc)
{
    struct iovec *copy = multi_grow_commands(m) ? arguments_copy(argv, argc) : NULL;
    if (copy == NULL) {
        return false;
    }
    m->commands[m->n_commands++] = (struct store_queued){.argv = copy, .argc = argc};
    return true;
}

/* Returns the error text, or NULL when queued. `local`: NULL, or run here. */
static const char *multi_append(struct session *s, const struct command *local, const struct iovec *argv, unsigned argc)
{
    struct multi *m = s->multi;
    size_t bytes = 0;
    for (unsigned i = 0; i < argc; i++) {
        bytes += argv[i].iov_len;
    }
    const unsigned place = multi_count(s);
    if (place == MULTI_COMMANDS_MAX) {
        return "ERR Transaction too large: too many commands queued";
    }
    size_t cost = bytes + argc * sizeof(struct iovec);
    if (cost > s->owner->config->entry_bytes_max || m->bytes > s->owner->config->entry_bytes_max - cost) {
        return "ERR Transaction too large: its commands exceed max-entry-size";
    }
    if (local != NULL ? !multi_locals_add(&m->locals, local, argv, argc, place) : !multi_append_stored(m, argv, argc)) {
        return "TRYAGAIN out of memory, the command was not queued";
    }
    m->bytes += cost;
    return NULL;
}

void multi_queue(struct session *s, const struct command_entry *entry, const struct iovec *argv, unsigned argc,
                 struct resp_buffer *out)
{
    const char *error = NULL;
    const struct command *local = entry->store == NULL ? entry->local : NULL;
    struct call call = {.session = s, .out = out, .proto = s->proto, .argv = argv, .argc = argc};
    if (local != NULL ? multi_local_refused(local, &call) : session_redirect(s, entry->store, argv, argc, out)) {
        multi_abort(s);
        return;
    }
    if (!s->multi->aborted) {
        error = multi_append(s, local, argv, argc);
    }
    if (error != NULL) {
        multi_abort(s);
        resp_write_error(out, error, strlen(error));
        return;
    }
    resp_write_status(out, "QUEUED");
}

static void run_multi(struct call *call)
{
    struct session *s = call->session;
    if (s->in_multi) {
        call_error(call, "ERR MULTI calls can not be nested");
        return;
    }
    if (multi_get(s) == NULL) {
        call_error(call, "TRYAGAIN out of memory, no transaction was begun");
        return;
    }
    s->in_multi = true;
    session_update_slow(s);
    call_ok(call);
}

static void run_discard(struct call *call)
{
    if (!call->session->in_multi) {
        call_error(call, "ERR DISCARD without MULTI");
        return;
    }
    multi_discard(call->session);
    call_ok(call);
}

/* Nothing but local commands. The transaction has ended when they run. */
static void exec_without_store(struct call *call)
{
    static char none[] = "*0\r\n";
    const struct resp_buffer stored = {.data = none, .len = sizeof none - 1, .capacity = sizeof none};
    struct multi_locals *locals = call->session->multi->locals;

    call->session->multi->locals = NULL;
    multi_discard(call->session);
    multi_locals_finish(locals, call->session, call->proto, &stored, call->out);
    multi_locals_free(locals);
}

struct resp_buffer *multi_exec_reply(struct session *s)
{
    return &s->multi->stored;
}

void multi_exec_end(struct session *s, struct resp_buffer *out)
{
    struct multi *m = s->multi;
    struct multi_locals *running = m->running;

    m->running = NULL;
    multi_locals_finish(running, s, s->proto, &m->stored, out);
    multi_locals_free(running);
    resp_buffer_fini(&m->stored);
    resp_buffer_init(&m->stored);
    session_unpause(s, SESSION_PAUSE_EXEC);
}

static void run_exec(struct call *call)
{
    struct session *s = call->session;
    if (!s->in_multi) {
        call_error(call, "ERR EXEC without MULTI");
        return;
    }
    struct multi *m = s->multi;
    if (m->aborted) {
        call_error(call, "EXECABORT Transaction discarded because of previous errors.");
    } else if (m->n_commands == 0 && m->n_watches == 0) {
        exec_without_store(call);
    } else {
        struct pending *p = session_pend(s, m->locals != NULL ? PENDING_MIXED : PENDING_COMMAND);
        if (p == NULL) {
            call_error(call, "TRYAGAIN out of memory, the transaction was not executed");
        } else {
            if (m->locals != NULL) {
                m->running = m->locals;
                m->locals = NULL;
                session_pause(s, SESSION_PAUSE_EXEC); /* what follows must find done what they do */
            }
            executor_submit_transaction(s->owner->executor, &s->exec, &p->request, m->watches, m->n_watches,
                                        m->commands, m->n_commands);
            if (executor_congested(s->owner->executor)) {
                session_pause(s, SESSION_PAUSE_CONGESTED);
            }
        }
    }
    multi_discard(s);
}

/* --- WATCH --- */

static bool multi_watched(const struct multi *m, struct iovec key)
{
    for (unsigned i = 0; i < m->n_watches; i++) {
        const struct iovec *known = &m->watches[i].key;
        if (known->iov_len == key.iov_len &&
            (key.iov_len == 0 || memcmp(known->iov_base, key.iov_base, key.iov_len) == 0)) {
            return true;
        }
    }
    return false;
}

/* Returns the error text, or NULL when added (or there already: the older revision stands). */
static const char *multi_add_watch(struct session *s, struct iovec key)
{
    struct multi *m = s->multi;
    if (multi_watched(m, key)) {
        return NULL;
    }
    size_t limit = s->owner->config->entry_bytes_max;
    if (m->n_watches == MULTI_WATCHES_MAX || key.iov_len > limit || m->watch_bytes > limit - key.iov_len) {
        return "ERR Too many watched keys";
    }
    if (m->n_watches == m->watches_capacity) {
        unsigned capacity = m->watches_capacity == 0 ? 4 : m->watches_capacity * 2;
        struct store_watch *grown = realloc(m->watches, capacity * sizeof *grown);
        if (grown == NULL) {
            return "TRYAGAIN out of memory, no key is watched";
        }
        m->watches = grown;
        m->watches_capacity = capacity;
    }
    struct iovec copy = {.iov_base = malloc(key.iov_len + 1), .iov_len = key.iov_len};
    if (copy.iov_base == NULL) {
        return "TRYAGAIN out of memory, no key is watched";
    }
    if (key.iov_len > 0) {
        memcpy(copy.iov_base, key.iov_base, key.iov_len);
    }
    m->watches[m->n_watches++] = (struct store_watch){.key = copy, .revision = 0};
    m->watch_bytes += key.iov_len;
    return NULL;
}

static const char *watch_submit(struct session *s)
{
    struct multi *m = s->multi;
    const struct store_command *command = s->owner->revision_command;
    unsigned argc = 1 + m->n_watches - m->fresh;
    struct iovec *argv = malloc(argc * sizeof *argv);
    struct pending *p = argv == NULL ? NULL : session_pend(s, PENDING_WATCH);
    if (p == NULL) {
        free(argv);
        return "TRYAGAIN out of memory, no key is watched";
    }
    argv[0] = (struct iovec){.iov_base = (void *)(uintptr_t)command->name, .iov_len = strlen(command->name)};
    for (unsigned i = 1; i < argc; i++) {
        argv[i] = m->watches[m->fresh + i - 1].key;
    }
    m->answered = 0;
    m->error[0] = '\0';
    session_pause(s, SESSION_PAUSE_WATCH);
    executor_submit(s->owner->executor, &s->exec, &p->request, command, argv, argc);
    free(argv);
    return NULL;
}

static void run_watch(struct call *call)
{
    struct session *s = call->session;
    const char *error = NULL;
    if (s->in_multi) {
        call_error(call, "ERR WATCH inside MULTI is not allowed");
        return;
    }
    if (session_redirect(s, s->owner->revision_command, call->argv, call->argc, call->out)) {
        return;
    }
    if (multi_get(s) == NULL) {
        error = "TRYAGAIN out of memory, no key is watched";
    } else {
        s->multi->fresh = s->multi->n_watches;
        for (unsigned i = 1; i < call->argc && error == NULL; i++) {
            error = multi_add_watch(s, call->argv[i]);
        }
        if (error == NULL && s->multi->n_watches == s->multi->fresh) {
            call_ok(call);
            return;
        }
        error = error == NULL ? watch_submit(s) : error;
        if (error != NULL) {
            multi_cut_watches(s->multi, s->multi->fresh);
        }
    }
    if (error != NULL) {
        call_error(call, "%s", error);
    }
}

static void run_unwatch(struct call *call)
{
    if (call->session->multi != NULL) {
        multi_cut_watches(call->session->multi, 0);
    }
    call_ok(call);
}

static struct multi *multi_of_sink(struct store_reply *r)
{
    return (struct multi *)((char *)r - offsetof(struct multi, sink));
}

static void watch_unexpected(struct multi *m)
{
    (void)snprintf(m->error, sizeof m->error, "ERR unexpected answer to the read of revisions");
}

static void watch_integer(struct store_reply *r, int64_t value)
{
    struct multi *m = multi_of_sink(r);
    if (m->fresh + m->answered >= m->n_watches || value < 0) {
        watch_unexpected(m);
        return;
    }
    m->watches[m->fresh + m->answered++].revision = (uint64_t)value;
}

static void watch_error(struct store_reply *r, const char *text, size_t len)
{
    struct multi *m = multi_of_sink(r);
    len = len < sizeof m->error ? len : sizeof m->error - 1;
    memcpy(m->error, text, len);
    m->error[len] = '\0';
}

static void watch_array(struct store_reply *r, size_t n)
{
    struct multi *m = multi_of_sink(r);
    if (n != m->n_watches - m->fresh) {
        watch_unexpected(m);
    }
}

static void watch_status(struct store_reply *r, const char *text)
{
    (void)text;
    watch_unexpected(multi_of_sink(r));
}

static void watch_bulk(struct store_reply *r, const void *data, size_t len)
{
    (void)data;
    (void)len;
    watch_unexpected(multi_of_sink(r));
}

static void watch_nothing(struct store_reply *r)
{
    watch_unexpected(multi_of_sink(r));
}

static void watch_count(struct store_reply *r, size_t n)
{
    (void)n;
    watch_unexpected(multi_of_sink(r));
}

static void watch_real(struct store_reply *r, double value)
{
    (void)value;
    watch_unexpected(multi_of_sink(r));
}

static const struct store_reply_ops watch_ops = {
    .status = watch_status,
    .error = watch_error,
    .integer = watch_integer,
    .bulk = watch_bulk,
    .null = watch_nothing,
    .null_array = watch_nothing,
    .array = watch_array,
    .map = watch_count,
    .set = watch_count,
    .real = watch_real,
};

struct store_reply *multi_watch_begin(struct session *s)
{
    s->multi->sink.ops = &watch_ops;
    return &s->multi->sink;
}

/* One line of RESP: a type byte, text, CR LF. Moves `*at` behind it; false if the bytes end before. */
static bool raw_line(const char **at, const char *end, const char **text, size_t *len)
{
    const char *stop = *at < end ? memchr(*at, '\r', (size_t)(end - *at)) : NULL;
    if (stop == NULL || end - stop < 2) {
        return false;
    }
    *text = *at;
    *len = (size_t)(stop - *at);
    *at = stop + 2;
    return *len > 0;
}

void multi_watch_raw(struct session *s, const void *bytes, size_t len)
{
    struct store_reply *sink = multi_watch_begin(s);
    const char *at = bytes;
    const char *end = at + len;
    const char *text;
    size_t text_len;
    while (at < end) {
        int64_t value = 0;
        if (!raw_line(&at, end, &text, &text_len)) {
            watch_unexpected(s->multi);
            return;
        }
        struct iovec rest = {.iov_base = (void *)(uintptr_t)(text + 1), .iov_len = text_len - 1};
        if (text[0] == '-') {
            watch_error(sink, text + 1, text_len - 1);
        } else if (!argument_integer(rest, &value) || (text[0] != ':' && text[0] != '*')) {
            watch_unexpected(s->multi);
        } else if (text[0] == ':') {
            watch_integer(sink, value);
        } else {
            watch_array(sink, (size_t)value);
        }
    }
}

void multi_watch_end(struct session *s, struct resp_buffer *out)
{
    struct multi *m = s->multi;
    if (m->error[0] == '\0' && m->fresh + m->answered != m->n_watches) {
        watch_unexpected(m);
    }
    if (m->error[0] != '\0') {
        multi_cut_watches(m, m->fresh);
    }
    if (out != NULL && m->error[0] != '\0') {
        resp_write_error(out, m->error, strlen(m->error));
    } else if (out != NULL) {
        resp_write_status(out, "OK");
    }
    session_unpause(s, SESSION_PAUSE_WATCH);
}

const struct command command_family_multi[] = {
    {"multi", 1, COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_IN_MULTI, "transactions",
     "1.2.0", "Mark the start of a transaction block", "O(1)", "", run_multi, NULL},
    {"exec", 1, COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_IN_MULTI, "transactions", "1.2.0",
     "Execute all commands issued after MULTI", "Depends on commands in the transaction", "", run_exec, NULL},
    {"discard", 1, COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_IN_MULTI, "transactions",
     "2.0.0", "Discard all commands issued after MULTI", "O(N), when N is the number of queued commands", "",
     run_discard, NULL},
    {"watch", -2, COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_IN_MULTI, "transactions",
     "2.2.0", "Watch the given keys to determine execution of the MULTI/EXEC block", "O(1) for every key.", "",
     run_watch, NULL},
    {"unwatch", 1, COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST, "transactions", "2.2.0",
     "Forget about all watched keys", "O(1)", "", run_unwatch, NULL},
    {.name = NULL},
};
