/* PING ECHO QUIT RESET SELECT HELLO AUTH. */
#include <string.h>

#include "cmd/lockstepd/session.h"

#define CONNECTION_FLAGS (COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST)

static void run_ping(struct call *call)
{
    if (call->argc > 2) {
        reply_wrong_arity(call->out, "ping");
    } else if (call->argc == 2) {
        resp_write_bulk(call->out, call->argv[1].iov_base, call->argv[1].iov_len);
    } else {
        resp_write_status(call->out, "PONG");
    }
}

static void run_echo(struct call *call)
{
    resp_write_bulk(call->out, call->argv[1].iov_base, call->argv[1].iov_len);
}

static void quit_drained(struct session *session)
{
    conn_close_after_write(session->conn);
}

static void run_quit(struct call *call)
{
    call_ok(call);
    session_pause(call->session, SESSION_PAUSE_CLOSING);
    session_when_drained(call->session, quit_drained);
}

static void run_reset(struct call *call)
{
    session_reset(call->session);
    resp_write_status(call->out, "RESET");
}

static void run_select(struct call *call)
{
    int64_t index;
    if (!argument_integer(call->argv[1], &index) || index < INT32_MIN || index > INT32_MAX) {
        call_not_integer(call);
    } else if (index != 0) {
        call_error(call, "ERR DB index is out of range");
    } else {
        call_ok(call);
    }
}

/* No passwords are configured: the default user has none, and there is no other. */
static bool check_password(struct call *call, struct iovec user)
{
    if (user.iov_len == 7 && memcmp(user.iov_base, "default", 7) == 0) {
        return true;
    }
    call_error(call, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

static void run_auth(struct call *call)
{
    if (call->argc > 3) {
        call_syntax_error(call);
    } else if (call->argc == 2) {
        call_error(call,
                   "ERR AUTH <password> called without any password configured for the default user. Are you sure "
                   "your configuration is correct?");
    } else if (check_password(call, call->argv[1])) {
        call_ok(call);
    }
}

static void hello_reply(struct call *call)
{
    struct sessions *owner = call->session->owner;
    struct resp_buffer *out = call->out;
    bool leader = replica_leader(node_replica(owner->node)) == owner->config->id;
    resp_write_map(out, call->proto, 7);
    call_bulk_text(call, "server");
    call_bulk_text(call, "lockstep");
    call_bulk_text(call, "version");
    call_bulk_text(call, REDIS_VERSION);
    call_bulk_text(call, "proto");
    resp_write_integer(out, call->proto);
    call_bulk_text(call, "id");
    resp_write_integer(out, (int64_t)conn_id(call->session->conn));
    call_bulk_text(call, "mode");
    call_bulk_text(call, owner->config->redirect ? "cluster" : "standalone");
    call_bulk_text(call, "role");
    call_bulk_text(call, leader ? "master" : "replica");
    call_bulk_text(call, "modules");
    resp_write_array(out, 0);
}

static void run_hello(struct call *call)
{
    const struct iovec *argv = call->argv;
    int64_t version = call->session->proto;
    const struct iovec *name = NULL;
    struct read_mode mode;
    bool mode_given = false;
    if (call->argc > 1 && !argument_integer(argv[1], &version)) {
        call_error(call, "ERR Protocol version is not an integer or out of range");
        return;
    }
    if (version != 2 && version != 3) {
        call_error(call, "NOPROTO unsupported protocol version");
        return;
    }
    for (unsigned i = 2; i < call->argc; i++) {
        unsigned more = call->argc - i - 1;
        if (argument_is(argv[i], "auth") && more >= 2) {
            if (!check_password(call, argv[i + 1])) {
                return;
            }
            i += 2;
        } else if (argument_is(argv[i], "setname") && more >= 1) {
            name = &argv[++i];
            if (!client_text_ok(*name)) {
                call_error(call, "ERR Client names cannot contain spaces, newlines or special characters.");
                return;
            }
        } else if (argument_is(argv[i], "readmode")) {
            const char *error;
            const unsigned taken = read_mode_parse(argv + i + 1, more, &mode, &error);
            if (taken == 0) {
                call_error(call, "%s", error);
                return;
            }
            mode_given = true;
            i += taken;
        } else {
            char option[128];
            (void)argument_text(argv[i], option, sizeof option);
            call_error(call, "ERR Syntax error in HELLO option '%s'", option);
            return;
        }
    }
    if (name != NULL) {
        session_set_text(&call->session->name, *name);
    }
    if (mode_given) {
        readmode_set(call->session, &mode);
    }
    call->session->proto = (int)version;
    call->proto = (int)version;
    hello_reply(call);
}

const struct command command_family_connection[] = {
    {"ping", -1, COMMAND_FAST, "connection", "1.0.0", "Ping the server", "O(1)", "", run_ping, NULL},
    {"echo", 2, COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST, "connection", "1.0.0", "Echo the given string", "O(1)",
     "", run_echo, NULL},
    {"quit", -1, CONNECTION_FLAGS | COMMAND_NO_AUTH | COMMAND_IN_MULTI, "connection", "1.0.0", "Close the connection",
     "O(1)", "", run_quit, NULL},
    {"reset", 1, CONNECTION_FLAGS | COMMAND_NO_AUTH | COMMAND_IN_MULTI, "connection", "6.2.0", "Reset the connection",
     "O(1)", "", run_reset, NULL},
    {"select", 2, COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST, "connection", "1.0.0",
     "Change the selected database for the current connection", "O(1)", "", run_select, NULL},
    {"hello", -1, CONNECTION_FLAGS | COMMAND_NO_AUTH | COMMAND_NO_MULTI, "connection", "6.0.0", "Handshake with Redis",
     "O(1)", "", run_hello, NULL},
    {"auth", -2, CONNECTION_FLAGS | COMMAND_NO_AUTH, "connection", "1.0.0", "Authenticate to the server",
     "O(N) where N is the number of passwords defined for the user", "", run_auth, NULL},
    {.name = NULL},
};
