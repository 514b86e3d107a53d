/* Inside lockstepd: commands that a node answers by itself (connection, admin), one table per family beside its code,
 * and the index over these and the store's commands. Knows nothing of how replies find their place (session.c). */
#ifndef LOCKSTEP_COMMAND_H
#define LOCKSTEP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "net/resp.h"
#include "store/store.h"

struct session;

/* The version of Redis whose commands, words and shapes these are: what clients that look for features are told. */
#define REDIS_VERSION "7.0.15"

enum command_flags {
    COMMAND_ADMIN = 1u << 0,
    COMMAND_NOSCRIPT = 1u << 1,
    COMMAND_LOADING = 1u << 2,
    COMMAND_STALE = 1u << 3,
    COMMAND_FAST = 1u << 4,
    COMMAND_NO_AUTH = 1u << 5,
    COMMAND_IN_MULTI = 1u << 6, /* executes at once even inside a transaction: MULTI EXEC DISCARD WATCH QUIT RESET */
    COMMAND_HIDDEN = 1u << 7,   /* not listed by COMMAND */
    COMMAND_NO_MULTI = 1u << 8  /* refused inside a transaction: what is answered later, or changes how replies look */
};

/* One request to a local command. All borrowed until the command returns. */
struct call {
    struct session *session;
    struct resp_buffer *out; /* the reply goes here, whole, before the command returns */
    int proto;
    const struct iovec *argv;
    unsigned argc;
    bool in_exec; /* as part of a transaction: answer now, as far as that goes */
};

struct command {
    const char *name; /* lower case */
    int arity;        /* as Redis: negative is "at least"; counts the command's name and, of a subcommand, both */
    unsigned flags;
    const char *group;
    const char *since;
    const char *summary;
    const char *complexity;
    const char *usage; /* arguments as HELP shows them, "" if none; subcommands only */
    void (*run)(struct call *call);
    const struct command *subcommands; /* run here if `run` is NULL; HELP is implied */
};

/* Each family's table ends with a NULL name. */
extern const struct command command_family_connection[];
extern const struct command command_family_client[];
extern const struct command command_family_command[];
extern const struct command command_family_config[];
extern const struct command command_family_cluster[];
extern const struct command command_family_server[];
extern const struct command command_family_info[];
extern const struct command command_family_multi[];
extern const struct command command_family_readmode[];

struct command_entry {
    const char *name;
    size_t name_len;
    int arity;
    const struct command *local;       /* NULL if only the store knows it */
    const struct store_command *store; /* NULL if only this node's own tables know it */
};

struct command_index;

/* The index over all tables; NULL if memory is exhausted. */
struct command_index *command_index_new(void);
void command_index_free(struct command_index *index);
/* Case-insensitive; NULL if unknown. */
const struct command_entry *command_index_find(const struct command_index *index, const void *name, size_t len);
/* Entry `i` in table order, NULL after the last. */
const struct command_entry *command_index_at(const struct command_index *index, unsigned i);
bool command_hidden(const struct command_entry *entry);

static inline bool command_arity_ok(int arity, unsigned argc)
{
    return arity >= 0 ? argc == (unsigned)arity : argc >= (unsigned)-arity;
}

/* Run a local command, or the subcommand that argv[1] names. The arity of `command` itself is checked already. */
void command_run(const struct command *command, struct call *call);
/* The subcommand that argv[1] names; NULL if there is none. */
const struct command *command_find_sub(const struct command *command, struct iovec name);

/* cmd_member.c: subcommands of LOCKSTEP. */
void run_lockstep_member(struct call *call);
void run_lockstep_upgrade(struct call *call);
void run_lockstep_join(struct call *call);

/* Replies. */
void call_error(struct call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
void call_ok(struct call *call);
void call_bulk_text(struct call *call, const char *text);
void call_syntax_error(struct call *call);
void call_not_integer(struct call *call);
/* Text of several lines: verbatim in RESP3. */
void call_text(struct call *call, const struct resp_buffer *text);
/* "ERR wrong number of arguments for 'name' command" and "ERR unknown command ..." in Redis's words. */
void reply_wrong_arity(struct resp_buffer *out, const char *name);
void reply_unknown_command(struct resp_buffer *out, const struct iovec *argv, unsigned argc);

/* Arguments. */
bool argument_is(struct iovec argument, const char *word); /* case-insensitive */
/* The arguments in one block with their bytes, to be freed; NULL if memory is exhausted. argc > 0. */
struct iovec *arguments_copy(const struct iovec *argv, unsigned argc);
bool argument_integer(struct iovec argument, int64_t *value); /* Redis's rules: no blanks, no plus sign */
/* Copies into text (capacity > 0), cut if longer, NUL-terminated; returns false if it was cut or holds a NUL byte. */
bool argument_text(struct iovec argument, char *text, size_t capacity);

/* Appends formatted text to a buffer. */
void buffer_printf(struct resp_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
