#include "cmd/lockstepd/multi_local.h"

#include <stdlib.h>
#include <string.h>

#include "net/resp.h"

struct local {
    const struct command *command;
    struct iovec *argv; /* one block with its bytes */
    unsigned argc;
    unsigned place;
};

struct multi_locals {
    struct local *commands;
    unsigned n, capacity;
};

bool multi_local_refused(const struct command *command, struct call *call)
{
    const struct command *sub =
        command->run == NULL && call->argc > 1 ? command_find_sub(command, call->argv[1]) : NULL;
    const bool help = command->run == NULL && sub == NULL && call->argc == 2 && argument_is(call->argv[1], "help");

    if ((command->flags & COMMAND_NO_MULTI) != 0 || (sub != NULL && (sub->flags & COMMAND_NO_MULTI) != 0)) {
        call_error(call, "ERR Command not allowed inside a transaction");
        return true;
    }
    if (command->run == NULL && !help && (sub == NULL || !command_arity_ok(sub->arity, call->argc))) {
        command_run(command, call); /* says what is wrong, and does nothing */
        return true;
    }
    return false;
}

bool multi_locals_add(struct multi_locals **locals, const struct command *command, const struct iovec *argv,
                      unsigned argc, unsigned place)
{
    if (*locals == NULL) {
        *locals = calloc(1, sizeof **locals);
    }
    struct multi_locals *l = *locals;
    if (l == NULL) {
        return false;
    }
    if (l->n == l->capacity) {
        const unsigned capacity = l->capacity == 0 ? 4 : l->capacity * 2;
        struct local *grown = realloc(l->commands, capacity * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        l->commands = grown;
        l->capacity = capacity;
    }
    struct iovec *copy = arguments_copy(argv, argc);
    if (copy == NULL) {
        return false;
    }
    l->commands[l->n++] = (struct local){command, copy, argc, place};
    return true;
}

unsigned multi_locals_count(const struct multi_locals *l)
{
    return l != NULL ? l->n : 0;
}

void multi_locals_free(struct multi_locals *l)
{
    if (l == NULL) {
        return;
    }
    for (unsigned i = 0; i < l->n; i++) {
        free(l->commands[i].argv);
    }
    free(l->commands);
    free(l);
}

/* --- The reply -----------------------------------------------------------------------------------------------------
 */

/* A line of RESP: its type byte, the text behind that; *at moves behind the line. False: it ends too early. */
static bool line_take(const char **at, const char *end, char *type, struct iovec *text)
{
    const char *line = *at;
    const char *stop = line < end ? memchr(line, '\r', (size_t)(end - line)) : NULL;
    if (stop == NULL || stop == line || end - stop < 2) {
        return false;
    }
    *type = *line;
    *text = (struct iovec){(void *)(uintptr_t)(line + 1), (size_t)(stop - line - 1)};
    *at = stop + 2;
    return true;
}

/* Behind the reply that begins at `at`, NULL if it ends too early. */
static const char *reply_skip(const char *at, const char *end)
{
    for (uint64_t left = 1; left > 0; left--) {
        struct iovec text;
        int64_t n = 0;
        char type;
        if (!line_take(&at, end, &type, &text)) {
            return NULL;
        }
        if (strchr("$=*~%", type) == NULL) {
            continue;
        }
        if (!argument_integer(text, &n) || n > end - at) {
            return NULL;
        }
        if (n > 0 && (type == '*' || type == '~' || type == '%')) {
            left += (uint64_t)n * (type == '%' ? 2 : 1);
        } else if (type == '$' || type == '=') {
            if (n >= 0 && end - at < n + 2) {
                return NULL;
            }
            at += n >= 0 ? n + 2 : 0;
        }
    }
    return at;
}

static void local_run(const struct local *local, struct session *session, int proto, struct resp_buffer *out)
{
    struct call call = {
        .session = session, .out = out, .proto = proto, .argv = local->argv, .argc = local->argc, .in_exec = true};
    command_run(local->command, &call);
}

void multi_locals_finish(const struct multi_locals *l, struct session *session, int proto,
                         const struct resp_buffer *stored, struct resp_buffer *out)
{
    const char *at = stored->data, *end = at + stored->len;
    const unsigned n_locals = multi_locals_count(l);
    struct iovec text;
    int64_t n = 0;
    char type;

    if (stored->failed || stored->len == 0) {
        static const char lost[] = "UNKNOWN out of memory: the transaction was executed, its replies are lost";
        resp_write_error(out, lost, sizeof lost - 1);
        return;
    }
    if (!line_take(&at, end, &type, &text) || type != '*' || !argument_integer(text, &n) || n < 0) {
        resp_buffer_append(out, stored->data, stored->len); /* an error, or a watched key has changed */
        return;
    }
    resp_write_array(out, (size_t)n + n_locals);
    for (unsigned place = 0, i = 0; place < (uint64_t)n + n_locals; place++) {
        if (i < n_locals && l->commands[i].place == place) {
            local_run(&l->commands[i++], session, proto, out);
            continue;
        }
        const char *next = at != NULL ? reply_skip(at, end) : NULL;
        if (next == NULL) {
            static const char lost[] = "UNKNOWN the reply of the transaction is malformed";
            resp_write_error(out, lost, sizeof lost - 1);
        } else {
            resp_buffer_append(out, at, (size_t)(next - at));
        }
        at = next;
    }
}
