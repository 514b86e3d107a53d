/* The index of commands, subcommands and HELP, and helpers for replies and arguments. */
#include "cmd/lockstepd/command.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define INDEX_SLOTS 1024u /* a power of two, at least four times the number of commands */
#define COMMANDS_MAX (INDEX_SLOTS / 4)
#define ERROR_TEXT_MAX 512u

struct command_index {
    unsigned count;
    struct command_entry entries[COMMANDS_MAX];
    const struct command_entry *slots[INDEX_SLOTS];
};

static const struct command *const families[] = {
    command_family_connection, command_family_client,  command_family_command,
    command_family_config,     command_family_cluster, command_family_server,
    command_family_info,       command_family_multi,   command_family_readmode,
};

/* Length and three bytes tell names apart well enough; this is on every request's path. Setting bit 5 folds the case of
 * letters; that it also maps some other bytes onto each other costs nothing here. */
static uint32_t name_hash(const unsigned char *name, size_t len)
{
    if (len == 0) {
        return 0;
    }
    const uint32_t mix =
        (name[0] | 0x20u) | (name[len / 2] | 0x20u) << 8 | (name[len - 1] | 0x20u) << 16 | ((uint32_t)len & 0xff) << 24;
    return (mix * 2654435761u) >> 16;
}

static bool name_equals(const char *lower, const unsigned char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = name[i];
        if ((unsigned char)lower[i] != (c >= 'A' && c <= 'Z' ? c + 32 : c)) {
            return false;
        }
    }
    return true;
}

const struct command_entry *command_index_find(const struct command_index *index, const void *name, size_t len)
{
    for (uint32_t slot = name_hash(name, len);; slot++) {
        const struct command_entry *entry = index->slots[slot % INDEX_SLOTS];
        if (entry == NULL || (entry->name_len == len && name_equals(entry->name, name, len))) {
            return entry;
        }
    }
}

static struct command_entry *index_add(struct command_index *index, const char *name, int arity)
{
    size_t len = strlen(name);
    const struct command_entry *found = command_index_find(index, name, len);
    if (found != NULL) {
        return &index->entries[found - index->entries];
    }
    assert(index->count < COMMANDS_MAX);
    struct command_entry *entry = &index->entries[index->count++];
    *entry = (struct command_entry){.name = name, .name_len = len, .arity = arity};
    uint32_t slot = name_hash((const unsigned char *)name, len);
    while (index->slots[slot % INDEX_SLOTS] != NULL) {
        slot++;
    }
    index->slots[slot % INDEX_SLOTS] = entry;
    return entry;
}

struct command_index *command_index_new(void)
{
    struct command_index *index = calloc(1, sizeof *index);
    if (index == NULL) {
        return NULL;
    }
    const struct store_command *stored;
    for (unsigned i = 0; (stored = store_command_at(i)) != NULL; i++) {
        index_add(index, stored->name, stored->arity)->store = stored;
    }
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        for (const struct command *command = families[f]; command->name != NULL; command++) {
            struct command_entry *entry = index_add(index, command->name, command->arity);
            assert(entry->local == NULL);
            entry->local = command;
        }
    }
    return index;
}

void command_index_free(struct command_index *index)
{
    free(index);
}

const struct command_entry *command_index_at(const struct command_index *index, unsigned i)
{
    return i < index->count ? &index->entries[i] : NULL;
}

bool command_hidden(const struct command_entry *entry)
{
    return strchr(entry->name, '.') != NULL || (entry->local != NULL && (entry->local->flags & COMMAND_HIDDEN) != 0);
}

const struct command *command_find_sub(const struct command *command, struct iovec name)
{
    for (const struct command *sub = command->subcommands; sub != NULL && sub->name != NULL; sub++) {
        if (argument_is(name, sub->name)) {
            return sub;
        }
    }
    return NULL;
}

static void upper_case(char *to, size_t capacity, const char *from)
{
    size_t i = 0;
    for (; from[i] != '\0' && i < capacity - 1; i++) {
        to[i] = (char)toupper((unsigned char)from[i]);
    }
    to[i] = '\0';
}

static void command_help(const struct command *command, struct call *call)
{
    char name[32];
    char line[256];
    size_t lines = 3;
    for (const struct command *sub = command->subcommands; sub->name != NULL; sub++) {
        lines += 2;
    }
    resp_write_array(call->out, lines);
    upper_case(name, sizeof name, command->name);
    (void)snprintf(line, sizeof line, "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name);
    resp_write_status(call->out, line);
    for (const struct command *sub = command->subcommands; sub->name != NULL; sub++) {
        upper_case(name, sizeof name, sub->name);
        (void)snprintf(line, sizeof line, "%s%s%s", name, sub->usage[0] != '\0' ? " " : "", sub->usage);
        resp_write_status(call->out, line);
        (void)snprintf(line, sizeof line, "    %s.", sub->summary);
        resp_write_status(call->out, line);
    }
    resp_write_status(call->out, "HELP");
    resp_write_status(call->out, "    Print this help.");
}

void command_run(const struct command *command, struct call *call)
{
    if (command->run != NULL) {
        command->run(call);
        return;
    }
    const struct command *sub = command_find_sub(command, call->argv[1]);
    char name[128];
    if (sub == NULL && argument_is(call->argv[1], "help") && call->argc == 2) {
        command_help(command, call);
    } else if (sub == NULL) {
        char parent[32];
        upper_case(parent, sizeof parent, command->name);
        (void)argument_text(call->argv[1], name, sizeof name);
        call_error(call, "ERR unknown subcommand '%s'. Try %s HELP.", name, parent);
    } else if (!command_arity_ok(sub->arity, call->argc)) {
        (void)snprintf(name, sizeof name, "%s|%s", command->name, sub->name);
        reply_wrong_arity(call->out, name);
    } else {
        sub->run(call);
    }
}

void call_error(struct call *call, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    resp_write_error(call->out, text, len);
}

void call_ok(struct call *call)
{
    resp_write_status(call->out, "OK");
}

void call_bulk_text(struct call *call, const char *text)
{
    resp_write_bulk(call->out, text, strlen(text));
}

void call_syntax_error(struct call *call)
{
    call_error(call, "ERR syntax error");
}

void call_not_integer(struct call *call)
{
    call_error(call, "ERR value is not an integer or out of range");
}

void call_text(struct call *call, const struct resp_buffer *text)
{
    if (text->failed) {
        call_error(call, "ERR out of memory");
        return;
    }
    resp_write_verbatim(call->out, call->proto, "txt", text->data, text->len);
}

void reply_wrong_arity(struct resp_buffer *out, const char *name)
{
    char text[ERROR_TEXT_MAX];
    int n = snprintf(text, sizeof text, "ERR wrong number of arguments for '%.100s' command", name);
    resp_write_error(out, text, n < 0 ? 0 : (size_t)n);
}

void reply_unknown_command(struct resp_buffer *out, const struct iovec *argv, unsigned argc)
{
    enum { SHOWN = 128 }; /* bytes of the name, and of all arguments with their quotes: Redis's rule */
    char text[ERROR_TEXT_MAX];
    char name[SHOWN + 1];
    char argument[SHOWN + 1];
    (void)argument_text(argv[0], name, sizeof name);
    size_t len = (size_t)snprintf(text, sizeof text, "ERR unknown command '%s', with args beginning with: ", name);
    size_t shown = 0;
    for (unsigned i = 1; i < argc && shown < SHOWN; i++) {
        (void)argument_text(argv[i], argument, SHOWN - shown + 1);
        int n = snprintf(text + len, sizeof text - len, "'%s' ", argument);
        len += (size_t)n;
        shown += (size_t)n;
    }
    assert(len < sizeof text);
    resp_write_error(out, text, len);
}

bool argument_is(struct iovec argument, const char *word)
{
    size_t len = strlen(word);
    return argument.iov_len == len && strncasecmp(argument.iov_base, word, len) == 0;
}

struct iovec *arguments_copy(const struct iovec *argv, unsigned argc)
{
    size_t bytes = 0;
    assert(argc > 0);
    for (unsigned i = 0; i < argc; i++) {
        bytes += argv[i].iov_len;
    }
    struct iovec *copy = malloc(argc * sizeof *copy + bytes);
    if (copy == NULL) {
        return NULL;
    }
    char *at = (char *)(copy + argc);
    for (unsigned i = 0; i < argc; i++) {
        if (argv[i].iov_len > 0) {
            memcpy(at, argv[i].iov_base, argv[i].iov_len);
        }
        copy[i] = (struct iovec){.iov_base = at, .iov_len = argv[i].iov_len};
        at += argv[i].iov_len;
    }
    return copy;
}

bool argument_integer(struct iovec argument, int64_t *value)
{
    const char *text = argument.iov_base;
    size_t len = argument.iov_len;
    bool negative = len > 0 && text[0] == '-';
    size_t at = negative ? 1 : 0;
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    uint64_t number = 0;
    if (at == len || len > 20 || (text[at] == '0' && (len > at + 1 || negative))) {
        return false;
    }
    for (; at < len; at++) {
        if (text[at] < '0' || text[at] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(text[at] - '0');
        if (number > (limit - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    *value = negative ? (int64_t)(0 - number) : (int64_t)number;
    return true;
}

bool argument_text(struct iovec argument, char *text, size_t capacity)
{
    assert(capacity > 0);
    const char *nul = memchr(argument.iov_base, '\0', argument.iov_len);
    size_t len = nul != NULL ? (size_t)(nul - (const char *)argument.iov_base) : argument.iov_len;
    bool whole = nul == NULL && len < capacity;
    len = len < capacity ? len : capacity - 1;
    memcpy(text, argument.iov_base, len);
    text[len] = '\0';
    return whole;
}

void buffer_printf(struct resp_buffer *buffer, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    resp_buffer_append(buffer, text, len);
}
