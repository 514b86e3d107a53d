/* COMMAND: what commands there are, what they take, where their keys stand. Clients read it to route and to complete.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cmd/lockstepd/session.h"
#include "store/glob.h"

#define SELF_FLAGS (COMMAND_LOADING | COMMAND_STALE)
#define WORDS_MAX 8u

/* How a command uses its keys, in the words of Redis's key specifications; `second` for a second key of another use. */
struct key_use {
    const char *name, *first, *second;
};
static const struct key_use key_uses[] = {
    {"set", "RW access update variable_flags", NULL},
    {"setnx", "OW insert", NULL},
    {"setex", "OW update", NULL},
    {"psetex", "OW update", NULL},
    {"getset", "RW access update", NULL},
    {"getdel", "RW access delete", NULL},
    {"getex", "RW access update", NULL},
    {"mset", "OW update", NULL},
    {"msetnx", "OW insert", NULL},
    {"append", "RW insert", NULL},
    {"strlen", "RO", NULL},
    {"setrange", "RW update", NULL},
    {"incr", "RW access update", NULL},
    {"decr", "RW access update", NULL},
    {"incrby", "RW access update", NULL},
    {"decrby", "RW access update", NULL},
    {"incrbyfloat", "RW access update", NULL},
    {"del", "RM delete", NULL},
    {"unlink", "RM delete", NULL},
    {"exists", "RO", NULL},
    {"type", "RO", NULL},
    {"expire", "RW update", NULL},
    {"pexpire", "RW update", NULL},
    {"expireat", "RW update", NULL},
    {"pexpireat", "RW update", NULL},
    {"persist", "RW update", NULL},
    {"rename", "RW access delete", "OW update"},
    {"renamenx", "RW access delete", "OW insert"},
    {"copy", "RO access", "OW update"},
    {"touch", "RO", NULL},
    {"object", "RO", NULL},
    {"watch", "RO", NULL},
};

/* A list of words for a set reply. */
struct words {
    const char *word[WORDS_MAX];
    size_t len[WORDS_MAX];
    unsigned n;
};

static void words_add(struct words *words, const char *word, size_t len)
{
    if (words->n < WORDS_MAX) {
        words->word[words->n] = word;
        words->len[words->n++] = len;
    }
}

static void words_split(struct words *words, const char *text)
{
    words->n = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        words_add(words, text, len);
        text += len + (text[len] == ' ' ? 1 : 0);
    }
}

static void words_reply(struct call *call, const struct words *words)
{
    char text[64];
    resp_write_set(call->out, call->proto, words->n);
    for (unsigned i = 0; i < words->n; i++) {
        (void)snprintf(text, sizeof text, "%.*s", (int)words->len[i], words->word[i]);
        resp_write_status(call->out, text);
    }
}

static void words_if(struct words *words, bool condition, const char *word)
{
    if (condition) {
        words_add(words, word, strlen(word));
    }
}

static void flag_words(const struct command_entry *entry, unsigned local, struct words *words)
{
    unsigned store = entry != NULL && entry->local == NULL ? entry->store->flags : 0;
    words->n = 0;
    words_if(words, (store & STORE_WRITE) != 0, "write");
    words_if(words, (store & STORE_READ) != 0, "readonly");
    words_if(words, (store & STORE_DENYOOM) != 0, "denyoom");
    words_if(words, (local & COMMAND_ADMIN) != 0, "admin");
    words_if(words, (local & COMMAND_NOSCRIPT) != 0, "noscript");
    words_if(words, (local & COMMAND_LOADING) != 0, "loading");
    words_if(words, (local & COMMAND_STALE) != 0, "stale");
    words_if(words, (local & COMMAND_FAST) != 0 || (store & STORE_FAST) != 0, "fast");
    words_if(words, (local & COMMAND_NO_AUTH) != 0, "no_auth");
}

static void category_words(const struct command_entry *entry, unsigned local, const char *group, struct words *words)
{
    unsigned store = entry != NULL && entry->local == NULL ? entry->store->flags : 0;
    bool fast = (local & COMMAND_FAST) != 0 || (store & STORE_FAST) != 0;
    bool all_keys = (store & STORE_ALLKEYS) != 0;
    bool dangerous = (local & COMMAND_ADMIN) != 0 ||
                     (all_keys && ((store & STORE_WRITE) != 0 || strcasecmp(entry->name, "keys") == 0));
    words->n = 0;
    words_if(words, strcmp(group, "generic") == 0, "@keyspace");
    words_if(words, (store & STORE_WRITE) != 0, "@write");
    words_if(words, (store & STORE_READ) != 0, "@read");
    words_if(words, strcmp(group, "string") == 0, "@string");
    words_if(words, (local & COMMAND_ADMIN) != 0, "@admin");
    words_if(words, fast, "@fast");
    words_if(words, !fast, "@slow");
    words_if(words, dangerous, "@dangerous");
    words_if(words, strcmp(group, "connection") == 0, "@connection");
    words_if(words, strcmp(group, "transactions") == 0, "@transaction");
}

/* --- Keys ----------------------------------------------------------------------------------------------------------
 */

struct key_range {
    int first, last, step; /* as store_command; step 0: no keys */
};

static struct key_range entry_keys(const struct command_entry *entry)
{
    if (entry->local == NULL && entry->store->first_key > 0) {
        return (struct key_range){entry->store->first_key, entry->store->last_key, entry->store->key_step};
    }
    if (strcmp(entry->name, "watch") == 0) {
        return (struct key_range){1, -1, 1};
    }
    return (struct key_range){0, 0, 0};
}

static void entry_key_use(const struct command_entry *entry, bool second, struct words *words)
{
    const char *use =
        entry->store != NULL && (entry->store->flags & STORE_WRITE) != 0 ? "RW access update" : "RO access";
    for (size_t i = 0; i < sizeof key_uses / sizeof key_uses[0]; i++) {
        if (strcmp(key_uses[i].name, entry->name) == 0) {
            use = second && key_uses[i].second != NULL ? key_uses[i].second : key_uses[i].first;
        }
    }
    words_split(words, use);
}

static bool has_second_use(const struct command_entry *entry)
{
    for (size_t i = 0; i < sizeof key_uses / sizeof key_uses[0]; i++) {
        if (strcmp(key_uses[i].name, entry->name) == 0) {
            return key_uses[i].second != NULL;
        }
    }
    return false;
}

static void key_spec_reply(struct call *call, const struct command_entry *entry, int index, int last, bool second)
{
    struct key_range keys = entry_keys(entry);
    struct words words;
    resp_write_map(call->out, call->proto, 3);
    call_bulk_text(call, "flags");
    entry_key_use(entry, second, &words);
    words_reply(call, &words);
    call_bulk_text(call, "begin_search");
    resp_write_map(call->out, call->proto, 2);
    call_bulk_text(call, "type");
    call_bulk_text(call, "index");
    call_bulk_text(call, "spec");
    resp_write_map(call->out, call->proto, 1);
    call_bulk_text(call, "index");
    resp_write_integer(call->out, index);
    call_bulk_text(call, "find_keys");
    resp_write_map(call->out, call->proto, 2);
    call_bulk_text(call, "type");
    call_bulk_text(call, "range");
    call_bulk_text(call, "spec");
    resp_write_map(call->out, call->proto, 3);
    call_bulk_text(call, "lastkey");
    resp_write_integer(call->out, last < 0 ? last : 0);
    call_bulk_text(call, "keystep");
    resp_write_integer(call->out, keys.step);
    call_bulk_text(call, "limit");
    resp_write_integer(call->out, 0);
}

static void key_specs_reply(struct call *call, const struct command_entry *entry)
{
    struct key_range keys = entry_keys(entry);
    if (keys.first == 0) {
        resp_write_set(call->out, call->proto, 0);
    } else if (has_second_use(entry)) {
        resp_write_set(call->out, call->proto, 2);
        key_spec_reply(call, entry, keys.first, 0, false);
        key_spec_reply(call, entry, keys.first + 1, 0, true);
    } else {
        resp_write_set(call->out, call->proto, 1);
        key_spec_reply(call, entry, keys.first, keys.last, false);
    }
}

/* --- COMMAND, COMMAND INFO -------------------------------------------------------------------------------------------
 */

static void sub_info_reply(struct call *call, const char *parent, const struct command *sub)
{
    char name[64];
    struct words words;
    (void)snprintf(name, sizeof name, "%s|%s", parent, sub->name);
    resp_write_array(call->out, 10);
    call_bulk_text(call, name);
    resp_write_integer(call->out, sub->arity);
    flag_words(NULL, sub->flags, &words);
    words_reply(call, &words);
    for (int i = 0; i < 3; i++) {
        resp_write_integer(call->out, 0);
    }
    category_words(NULL, sub->flags, sub->group, &words);
    words_reply(call, &words);
    resp_write_set(call->out, call->proto, 0);
    resp_write_set(call->out, call->proto, 0);
    resp_write_array(call->out, 0);
}

/* Their number is in *n; NULL if there are none. */
static const struct command *subcommands_of(const struct command_entry *entry, unsigned *n)
{
    const struct command *subs = entry->local != NULL ? entry->local->subcommands : NULL;
    *n = 0;
    while (subs != NULL && subs[*n].name != NULL) {
        (*n)++;
    }
    return subs;
}

static const char *entry_group(const struct command_entry *entry)
{
    return entry->local != NULL ? entry->local->group : entry->store->group;
}

static void info_reply(struct call *call, const struct command_entry *entry)
{
    unsigned local = entry->local != NULL ? entry->local->flags : 0;
    struct key_range keys = entry_keys(entry);
    struct words words;
    resp_write_array(call->out, 10);
    call_bulk_text(call, entry->name);
    resp_write_integer(call->out, entry->arity);
    flag_words(entry, local, &words);
    words_reply(call, &words);
    resp_write_integer(call->out, keys.first);
    resp_write_integer(call->out, keys.last);
    resp_write_integer(call->out, keys.step);
    category_words(entry, local, entry_group(entry), &words);
    words_reply(call, &words);
    resp_write_set(call->out, call->proto, 0);
    key_specs_reply(call, entry);
    unsigned n = 0;
    const struct command *subs = subcommands_of(entry, &n);
    resp_write_array(call->out, n);
    for (unsigned i = 0; subs != NULL && i < n; i++) {
        sub_info_reply(call, entry->name, &subs[i]);
    }
}

static const struct command_index *call_index(const struct call *call)
{
    return call->session->owner->commands;
}

static unsigned visible_count(const struct command_index *index)
{
    unsigned n = 0;
    const struct command_entry *entry;
    for (unsigned i = 0; (entry = command_index_at(index, i)) != NULL; i++) {
        n += command_hidden(entry) ? 0 : 1;
    }
    return n;
}

static const struct command_entry *call_find(const struct call *call, struct iovec name)
{
    const struct command_entry *entry = command_index_find(call_index(call), name.iov_base, name.iov_len);
    return entry != NULL && !command_hidden(entry) ? entry : NULL;
}

static void reply_all(struct call *call, void (*reply)(struct call *call, const struct command_entry *entry))
{
    const struct command_entry *entry;
    for (unsigned i = 0; (entry = command_index_at(call_index(call), i)) != NULL; i++) {
        if (!command_hidden(entry)) {
            reply(call, entry);
        }
    }
}

static void run_info(struct call *call)
{
    if (call->argc <= 2) {
        resp_write_array(call->out, visible_count(call_index(call)));
        reply_all(call, info_reply);
        return;
    }
    resp_write_array(call->out, call->argc - 2);
    for (unsigned i = 2; i < call->argc; i++) {
        const struct command_entry *entry = call_find(call, call->argv[i]);
        if (entry != NULL) {
            info_reply(call, entry);
        } else {
            resp_write_null_array(call->out, call->proto);
        }
    }
}

static void run_count(struct call *call)
{
    resp_write_integer(call->out, visible_count(call_index(call)));
}

/* --- COMMAND DOCS ----------------------------------------------------------------------------------------------------
 */

struct doc {
    const char *summary, *since, *group, *complexity;
};

static void doc_fields(struct call *call, const struct doc *doc)
{
    call_bulk_text(call, "summary");
    call_bulk_text(call, doc->summary != NULL ? doc->summary : "");
    call_bulk_text(call, "since");
    call_bulk_text(call, doc->since != NULL ? doc->since : "");
    call_bulk_text(call, "group");
    call_bulk_text(call, doc->group != NULL ? doc->group : "");
    call_bulk_text(call, "complexity");
    call_bulk_text(call, doc->complexity != NULL ? doc->complexity : "");
}

static void docs_reply(struct call *call, const struct command_entry *entry)
{
    const struct command *local = entry->local;
    unsigned n = 0;
    const struct command *subs = subcommands_of(entry, &n);
    char name[64];
    struct doc doc;
    if (local != NULL) {
        doc = (struct doc){local->summary, local->since, local->group, local->complexity};
    } else {
        doc = (struct doc){entry->store->summary, entry->store->since, entry->store->group, entry->store->complexity};
    }
    call_bulk_text(call, entry->name);
    resp_write_map(call->out, call->proto, n > 0 ? 5 : 4);
    doc_fields(call, &doc);
    if (n > 0) {
        call_bulk_text(call, "subcommands");
        resp_write_map(call->out, call->proto, n);
    }
    for (unsigned i = 0; subs != NULL && i < n; i++) {
        doc = (struct doc){subs[i].summary, subs[i].since, subs[i].group, subs[i].complexity};
        (void)snprintf(name, sizeof name, "%s|%s", entry->name, subs[i].name);
        call_bulk_text(call, name);
        resp_write_map(call->out, call->proto, 4);
        doc_fields(call, &doc);
    }
}

static void run_docs(struct call *call)
{
    unsigned n = 0;
    if (call->argc == 2) {
        resp_write_map(call->out, call->proto, visible_count(call_index(call)));
        reply_all(call, docs_reply);
        return;
    }
    for (unsigned i = 2; i < call->argc; i++) {
        n += call_find(call, call->argv[i]) != NULL ? 1 : 0;
    }
    resp_write_map(call->out, call->proto, n);
    for (unsigned i = 2; i < call->argc; i++) {
        const struct command_entry *entry = call_find(call, call->argv[i]);
        if (entry != NULL) {
            docs_reply(call, entry);
        }
    }
}

/* --- COMMAND LIST ----------------------------------------------------------------------------------------------------
 */

enum list_filter { LIST_ALL, LIST_NONE, LIST_PATTERN, LIST_CATEGORY };

static bool list_matches(const struct command_entry *entry, enum list_filter filter, struct iovec value)
{
    struct iovec name = {.iov_base = (void *)(uintptr_t)entry->name, .iov_len = entry->name_len};
    struct words words;
    if (command_hidden(entry) || filter == LIST_NONE) {
        return false;
    }
    if (filter == LIST_PATTERN) {
        return glob_match(value, name);
    }
    if (filter == LIST_ALL) {
        return true;
    }
    category_words(entry, entry->local != NULL ? entry->local->flags : 0, entry_group(entry), &words);
    for (unsigned i = 0; i < words.n; i++) {
        if (words.len[i] == value.iov_len + 1 && strncasecmp(words.word[i] + 1, value.iov_base, value.iov_len) == 0) {
            return true;
        }
    }
    return false;
}

static void run_list(struct call *call)
{
    enum list_filter filter = LIST_ALL;
    struct iovec value = {.iov_base = NULL, .iov_len = 0};
    if (call->argc == 5 && argument_is(call->argv[2], "filterby")) {
        value = call->argv[4];
        if (argument_is(call->argv[3], "pattern")) {
            filter = LIST_PATTERN;
        } else if (argument_is(call->argv[3], "aclcat")) {
            filter = LIST_CATEGORY;
        } else if (argument_is(call->argv[3], "module")) {
            filter = LIST_NONE; /* there are no modules */
        }
    }
    if (call->argc != 2 && filter == LIST_ALL) {
        call_syntax_error(call);
        return;
    }
    unsigned n = 0;
    const struct command_entry *entry;
    for (unsigned i = 0; (entry = command_index_at(call_index(call), i)) != NULL; i++) {
        n += list_matches(entry, filter, value) ? 1 : 0;
    }
    resp_write_set(call->out, call->proto, n);
    for (unsigned i = 0; (entry = command_index_at(call_index(call), i)) != NULL; i++) {
        if (list_matches(entry, filter, value)) {
            call_bulk_text(call, entry->name);
        }
    }
}

/* --- COMMAND GETKEYS -------------------------------------------------------------------------------------------------
 */

static void getkeys(struct call *call, bool with_flags)
{
    const struct command_entry *entry = call_find(call, call->argv[2]);
    const struct iovec *argv = call->argv + 2;
    unsigned argc = call->argc - 2;
    struct key_range keys = {0, 0, 0};
    struct words words;
    if (entry == NULL) {
        call_error(call, "ERR Invalid command specified");
        return;
    }
    keys = entry_keys(entry);
    if (keys.first == 0 && strcmp(entry->name, "object") == 0) {
        keys = (struct key_range){2, 2, 1}; /* those of its subcommands; it has none of its own */
    }
    if (keys.first == 0) {
        call_error(call, "ERR The command has no key arguments");
        return;
    }
    if (!command_arity_ok(entry->arity, argc)) {
        call_error(call, "ERR Invalid number of arguments specified for command");
        return;
    }
    unsigned first = (unsigned)keys.first;
    unsigned last = keys.last < 0 ? argc - (unsigned)-keys.last : (unsigned)keys.last;
    unsigned step = (unsigned)keys.step;
    if (first >= argc || last >= argc || last < first) {
        call_error(call, "ERR Invalid arguments specified for command");
        return;
    }
    resp_write_array(call->out, (last - first) / step + 1);
    for (unsigned i = first; i <= last; i += step) {
        if (with_flags) {
            resp_write_array(call->out, 2);
        }
        resp_write_bulk(call->out, argv[i].iov_base, argv[i].iov_len);
        if (with_flags) {
            entry_key_use(entry, i > first, &words);
            words_reply(call, &words);
        }
    }
}

static void run_getkeys(struct call *call)
{
    getkeys(call, false);
}

static void run_getkeysandflags(struct call *call)
{
    getkeys(call, true);
}

static const struct command command_subcommands[] = {
    {"count", 2, SELF_FLAGS, "server", "2.8.13", "Get total number of commands", "O(1)", "", run_count, NULL},
    {"docs", -2, SELF_FLAGS, "server", "7.0.0", "Get array of specific command documentation",
     "O(N) where N is the number of commands to look up", "[<name> ...]", run_docs, NULL},
    {"getkeys", -4, SELF_FLAGS, "server", "2.8.13", "Extract keys given a full command",
     "O(N) where N is the number of arguments to the command", "<full-command>", run_getkeys, NULL},
    {"getkeysandflags", -4, SELF_FLAGS, "server", "7.0.0", "Extract keys and access flags given a full command",
     "O(N) where N is the number of arguments to the command", "<full-command>", run_getkeysandflags, NULL},
    {"info", -2, SELF_FLAGS, "server", "2.8.13",
     "Get array of specific command details, or all when no argument is given.",
     "O(N) where N is the number of commands to look up", "[<name> ...]", run_info, NULL},
    {"list", -2, SELF_FLAGS, "server", "7.0.0", "Get an array of command names",
     "O(N) where N is the total number of commands", "[FILTERBY MODULE|ACLCAT|PATTERN <value>]", run_list, NULL},
    {.name = NULL},
};

/* COMMAND alone is COMMAND INFO of all. */
static const struct command command_container = {.name = "command", .arity = -2, .subcommands = command_subcommands};

static void run_command(struct call *call)
{
    if (call->argc == 1) {
        run_info(call);
    } else {
        command_run(&command_container, call);
    }
}

const struct command command_family_command[] = {
    {"command", -1, SELF_FLAGS, "server", "2.8.13", "Get array of command details",
     "O(N) where N is the total number of commands", "", run_command, command_subcommands},
    {.name = NULL},
};
