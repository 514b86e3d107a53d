/* CLIENT: what a connection is called, who is connected, and ending connections. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/session.h"

#define CLIENT_FLAGS (COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE)

bool client_text_ok(struct iovec text)
{
    const unsigned char *bytes = text.iov_base;
    for (size_t i = 0; i < text.iov_len; i++) {
        if (bytes[i] < '!' || bytes[i] > '~') {
            return false;
        }
    }
    return true;
}

/* Room that a connection's line can't exceed, but for the texts that the client chose. */
static void client_line(struct resp_buffer *out, struct session *s)
{
    struct conn *conn = s->conn;
    uint64_t now_ms = uv_now(s->owner->loop);
    uint64_t age_ms = now_ms - conn_created_ms(conn);
    size_t output = conn_output_bytes(conn);
    const char *flags = (s->paused & (SESSION_PAUSE_WAIT | SESSION_PAUSE_WATCH)) != 0 ? "b" : s->in_multi ? "x" : "N";
    buffer_printf(out, "id=%" PRIu64 " addr=%s laddr=%s fd=%d name=", conn_id(conn), conn_peer_name(conn),
                  conn_local_name(conn), conn_fd(conn));
    resp_buffer_append(out, s->name != NULL ? s->name : "", s->name != NULL ? strlen(s->name) : 0);
    buffer_printf(out, " age=%" PRIu64 " idle=%" PRIu64 " flags=%s db=0 sub=0 psub=0 ssub=0 multi=%d", age_ms / 1000,
                  (now_ms - s->last_ms) / 1000, flags, s->in_multi ? (int)multi_count(s) : -1);
    buffer_printf(out, " watch=%u qbuf=%zu qbuf-free=0 argv-mem=0 multi-mem=%zu rbs=0 rbp=0 obl=%zu oll=0 omem=%zu",
                  multi_watches(s), conn_query_bytes(conn), multi_bytes(s), output, s->waiting_bytes);
    buffer_printf(out, " tot-mem=%zu events=%s cmd=%s%s%s", conn_memory(conn) + sizeof *s + multi_bytes(s),
                  output > 0 ? "rw" : "r", s->last != NULL ? s->last->name : "NULL", s->last_sub != NULL ? "|" : "",
                  s->last_sub != NULL ? s->last_sub->name : "");
    buffer_printf(out, " user=default redir=-1 resp=%d pending=%u lib-name=", s->proto, s->n_pending);
    resp_buffer_append(out, s->lib_name != NULL ? s->lib_name : "", s->lib_name != NULL ? strlen(s->lib_name) : 0);
    resp_buffer_append(out, " lib-ver=", 9);
    resp_buffer_append(out, s->lib_version != NULL ? s->lib_version : "",
                       s->lib_version != NULL ? strlen(s->lib_version) : 0);
    resp_buffer_append(out, "\n", 1);
}

static void run_id(struct call *call)
{
    resp_write_integer(call->out, (int64_t)conn_id(call->session->conn));
}

static void run_setname(struct call *call)
{
    struct iovec name = call->argv[2];
    if (!client_text_ok(name)) {
        call_error(call, "ERR Client names cannot contain spaces, newlines or special characters.");
    } else if (name.iov_len > SESSION_NAME_MAX) {
        call_error(call, "ERR Client names cannot be longer than %u bytes", SESSION_NAME_MAX);
    } else {
        session_set_text(&call->session->name, name);
        call_ok(call);
    }
}

static void run_getname(struct call *call)
{
    if (call->session->name == NULL) {
        resp_write_null(call->out, call->proto);
    } else {
        call_bulk_text(call, call->session->name);
    }
}

static void run_setinfo(struct call *call)
{
    bool is_name = argument_is(call->argv[2], "lib-name");
    char attribute[64];
    (void)argument_text(call->argv[2], attribute, sizeof attribute);
    if (!is_name && !argument_is(call->argv[2], "lib-ver")) {
        call_error(call, "ERR Unrecognized option '%s'", attribute);
    } else if (!client_text_ok(call->argv[3]) || call->argv[3].iov_len > SESSION_NAME_MAX) {
        call_error(call, "ERR %s cannot contain spaces, newlines or special characters.",
                   is_name ? "lib-name" : "lib-ver");
    } else {
        session_set_text(is_name ? &call->session->lib_name : &call->session->lib_version, call->argv[3]);
        call_ok(call);
    }
}

static void run_info(struct call *call)
{
    struct resp_buffer text;
    resp_buffer_init(&text);
    client_line(&text, call->session);
    call_text(call, &text);
    resp_buffer_fini(&text);
}

/* 1 if connections of that type exist here, 0 if it is a type that never does, -1 if there is no such type. */
static int client_type(struct iovec name)
{
    if (argument_is(name, "normal")) {
        return 1;
    }
    bool known = argument_is(name, "slave") || argument_is(name, "replica") || argument_is(name, "master") ||
                 argument_is(name, "pubsub");
    return known ? 0 : -1;
}

static void unknown_type(struct call *call, struct iovec name)
{
    char type[128];
    (void)argument_text(name, type, sizeof type);
    call_error(call, "ERR Unknown client type '%s'", type);
}

static struct session *session_by_id(struct sessions *sessions, uint64_t id)
{
    for (struct session *s = sessions->first; s != NULL; s = s->next) {
        if (conn_id(s->conn) == id) {
            return s;
        }
    }
    return NULL;
}

static bool list_by_id(struct call *call, struct resp_buffer *text)
{
    for (unsigned i = 3; i < call->argc; i++) {
        int64_t id;
        if (!argument_integer(call->argv[i], &id) || id <= 0) {
            call_error(call, "ERR Invalid client ID");
            return false;
        }
        struct session *s = session_by_id(call->session->owner, (uint64_t)id);
        if (s != NULL) {
            client_line(text, s);
        }
    }
    return true;
}

static void run_list(struct call *call)
{
    struct resp_buffer text;
    bool ok = true;
    int type = 1;
    resp_buffer_init(&text);
    if (call->argc == 4 && argument_is(call->argv[2], "type")) {
        type = client_type(call->argv[3]);
        if (type < 0) {
            unknown_type(call, call->argv[3]);
            return;
        }
    } else if (call->argc > 3 && argument_is(call->argv[2], "id")) {
        ok = list_by_id(call, &text);
        type = 0;
    } else if (call->argc != 2) {
        call_syntax_error(call);
        return;
    }
    for (struct session *s = type == 1 ? call->session->owner->first : NULL; s != NULL; s = s->next) {
        client_line(&text, s);
    }
    if (ok) {
        call_text(call, &text);
    }
    resp_buffer_fini(&text);
}

static void set_switch(struct call *call, bool *field)
{
    bool on = argument_is(call->argv[2], "on");
    if (!on && !argument_is(call->argv[2], "off")) {
        call_syntax_error(call);
        return;
    }
    *field = on;
    call_ok(call);
}

static void run_no_evict(struct call *call)
{
    set_switch(call, &call->session->no_evict);
}

static void run_no_touch(struct call *call)
{
    set_switch(call, &call->session->no_touch);
}

static void run_reply(struct call *call)
{
    struct session *s = call->session;
    if (argument_is(call->argv[2], "on")) {
        s->reply_mode = SESSION_REPLY_ON;
        call_ok(call);
    } else if (argument_is(call->argv[2], "off")) {
        s->reply_mode = SESSION_REPLY_OFF;
    } else if (argument_is(call->argv[2], "skip")) {
        s->reply_mode = s->reply_mode == SESSION_REPLY_OFF ? SESSION_REPLY_OFF : SESSION_REPLY_SKIP;
    } else {
        call_syntax_error(call);
    }
    session_update_slow(s);
}

struct kill_filter {
    uint64_t id;                                 /* 0: any */
    const struct iovec *address, *local_address; /* NULL: any */
    bool skip_me;
    bool nobody; /* a type or user that no connection has */
};

static bool text_equals(struct iovec a, const char *b)
{
    return a.iov_len == strlen(b) && memcmp(a.iov_base, b, a.iov_len) == 0;
}

static bool kill_matches(const struct kill_filter *filter, const struct session *s, const struct session *me)
{
    return !filter->nobody && !(filter->skip_me && s == me) && (filter->id == 0 || conn_id(s->conn) == filter->id) &&
           (filter->address == NULL || text_equals(*filter->address, conn_peer_name(s->conn))) &&
           (filter->local_address == NULL || text_equals(*filter->local_address, conn_local_name(s->conn)));
}

static unsigned kill_all(struct session *me, const struct kill_filter *filter)
{
    unsigned killed = 0;
    for (struct session *s = me->owner->first; s != NULL; s = s->next) {
        if (!kill_matches(filter, s, me)) {
            continue;
        }
        killed++;
        if (s == me) {
            /* It still gets this reply. */
            session_pause(s, SESSION_PAUSE_CLOSING);
        } else {
            conn_close(s->conn, "killed");
        }
    }
    return killed;
}

static void killed_drained(struct session *session)
{
    conn_close_after_write(session->conn);
}

/* One filter of CLIENT KILL; false if an error was replied. */
static bool kill_option(struct call *call, struct iovec name, const struct iovec *value, struct kill_filter *filter)
{
    int64_t id;
    char text[128];
    if (argument_is(name, "id")) {
        if (!argument_integer(*value, &id) || id <= 0) {
            call_error(call, "ERR client-id should be greater than 0");
            return false;
        }
        filter->id = (uint64_t)id;
    } else if (argument_is(name, "addr")) {
        filter->address = value;
    } else if (argument_is(name, "laddr")) {
        filter->local_address = value;
    } else if (argument_is(name, "type")) {
        int type = client_type(*value);
        if (type < 0) {
            unknown_type(call, *value);
            return false;
        }
        filter->nobody |= type == 0;
    } else if (argument_is(name, "user")) {
        if (!text_equals(*value, "default")) {
            (void)argument_text(*value, text, sizeof text);
            call_error(call, "ERR No such user '%s'", text);
            return false;
        }
    } else if (argument_is(name, "skipme") && (argument_is(*value, "yes") || argument_is(*value, "no"))) {
        filter->skip_me = argument_is(*value, "yes");
    } else {
        call_syntax_error(call);
        return false;
    }
    return true;
}

static void run_kill(struct call *call)
{
    struct kill_filter filter = {.skip_me = true};
    bool old_style = call->argc == 3;
    if (old_style) {
        filter.address = &call->argv[2];
        filter.skip_me = false;
    } else if (call->argc % 2 != 0) {
        call_syntax_error(call);
        return;
    }
    for (unsigned i = 2; !old_style && i < call->argc; i += 2) {
        if (!kill_option(call, call->argv[i], &call->argv[i + 1], &filter)) {
            return;
        }
    }
    unsigned killed = kill_all(call->session, &filter);
    if (!old_style) {
        resp_write_integer(call->out, killed);
    } else if (killed > 0) {
        call_ok(call);
    } else {
        call_error(call, "ERR No such client");
    }
    if ((call->session->paused & SESSION_PAUSE_CLOSING) != 0) {
        session_when_drained(call->session, killed_drained);
    }
}

static const struct command client_subcommands[] = {
    {"getname", 2, CLIENT_FLAGS, "connection", "2.6.9", "Get the current connection name", "O(1)", "", run_getname,
     NULL},
    {"id", 2, CLIENT_FLAGS, "connection", "5.0.0", "Returns the client ID for the current connection", "O(1)", "",
     run_id, NULL},
    {"info", 2, CLIENT_FLAGS, "connection", "6.2.0", "Returns information about the current client connection.", "O(1)",
     "", run_info, NULL},
    {"kill", -3, CLIENT_FLAGS | COMMAND_ADMIN, "connection", "2.4.0", "Kill the connection of a client",
     "O(N) where N is the number of client connections",
     "<ip:port> | [ID <id>] [ADDR <ip:port>] [LADDR <ip:port>] [TYPE <type>] [USER <name>] [SKIPME YES|NO]", run_kill,
     NULL},
    {"list", -2, CLIENT_FLAGS | COMMAND_ADMIN, "connection", "2.4.0", "Get the list of client connections",
     "O(N) where N is the number of client connections", "[TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID <id> ...]", run_list,
     NULL},
    {"no-evict", 3, CLIENT_FLAGS | COMMAND_ADMIN, "connection", "7.0.0",
     "Set client eviction mode for the current connection", "O(1)", "ON|OFF", run_no_evict, NULL},
    {"no-touch", 3, CLIENT_FLAGS, "connection", "7.2.0",
     "Controls whether commands sent by the client affect the recency of accessed keys", "O(1)", "ON|OFF", run_no_touch,
     NULL},
    {"reply", 3, CLIENT_FLAGS | COMMAND_NO_MULTI, "connection", "3.2.0",
     "Instruct the server whether to reply to commands", "O(1)", "ON|OFF|SKIP", run_reply, NULL},
    {"setinfo", 4, CLIENT_FLAGS, "connection", "7.2.0", "Sets information specific to the client or connection", "O(1)",
     "LIB-NAME|LIB-VER <value>", run_setinfo, NULL},
    {"setname", 3, CLIENT_FLAGS, "connection", "2.6.9", "Set the current connection name", "O(1)", "<name>",
     run_setname, NULL},
    {.name = NULL},
};

const struct command command_family_client[] = {
    {"client", -2, 0, "connection", "2.4.0", "A container for client connection commands", "Depends on subcommand.", "",
     NULL, client_subcommands},
    {.name = NULL},
};
