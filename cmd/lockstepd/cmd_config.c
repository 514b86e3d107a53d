/* CONFIG: the options of this node while it runs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cmd/lockstepd/log.h"
#include "cmd/lockstepd/session.h"
#include "store/glob.h"

#define CONFIG_COMMAND_FLAGS (COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE)
#define CONFIG_VALUE_MAX 4096u
#define CONFIG_PAIRS_MAX 32u
#define CONFIG_NAMES_MAX 64u

/* Settings of Redis that tools ask for and that are always so here. */
static const struct {
    const char *name, *value;
} fixed[] = {
    {"appendonly", "yes"}, {"appendfsync", "always"},          {"save", ""},
    {"databases", "1"},    {"maxmemory-policy", "noeviction"},
};
#define FIXED (sizeof fixed / sizeof fixed[0])

/* The pattern that a name matches first, NULL if none does. */
static const struct iovec *name_matches(const char *name, const struct iovec *patterns, unsigned n)
{
    char lower[128];
    struct iovec text = {.iov_base = (void *)(uintptr_t)name, .iov_len = strlen(name)};
    for (unsigned i = 0; i < n; i++) {
        size_t len = patterns[i].iov_len < sizeof lower ? patterns[i].iov_len : sizeof lower;
        for (size_t c = 0; c < len; c++) {
            char byte = ((const char *)patterns[i].iov_base)[c];
            lower[c] = byte >= 'A' && byte <= 'Z' ? (char)(byte + 32) : byte;
        }
        if (len == patterns[i].iov_len && glob_match((struct iovec){.iov_base = lower, .iov_len = len}, text)) {
            return &patterns[i];
        }
    }
    return NULL;
}

/* A name as it was asked for, if it was asked for by name: clients look for their own spelling. */
static void reply_name(struct call *call, const char *name, const struct iovec *pattern)
{
    if (argument_is(*pattern, name)) {
        resp_write_bulk(call->out, pattern->iov_base, pattern->iov_len);
    } else {
        call_bulk_text(call, name);
    }
}

static void run_get(struct call *call)
{
    const struct config *config = call->session->owner->config;
    const struct iovec *patterns = call->argv + 2;
    unsigned n_patterns = call->argc - 2;
    const struct config_option *option;
    char value[CONFIG_VALUE_MAX];
    const struct iovec *hit[CONFIG_NAMES_MAX] = {NULL};
    const struct iovec *fixed_hit[FIXED];
    size_t n = 0;
    for (unsigned i = 0; (option = config_option_at(i)) != NULL; i++) {
        hit[i] = name_matches(option->name, patterns, n_patterns);
        n += hit[i] != NULL ? 1 : 0;
    }
    for (size_t i = 0; i < FIXED; i++) {
        fixed_hit[i] = name_matches(fixed[i].name, patterns, n_patterns);
        n += fixed_hit[i] != NULL ? 1 : 0;
    }
    resp_write_map(call->out, call->proto, n);
    for (unsigned i = 0; (option = config_option_at(i)) != NULL; i++) {
        if (hit[i] != NULL) {
            size_t len = config_get(config, option, value, sizeof value);
            reply_name(call, option->name, hit[i]);
            resp_write_bulk(call->out, value, len);
        }
    }
    for (size_t i = 0; i < FIXED; i++) {
        if (fixed_hit[i] != NULL) {
            reply_name(call, fixed[i].name, fixed_hit[i]);
            call_bulk_text(call, fixed[i].value);
        }
    }
}

static const struct config_option *find_option(struct iovec argument)
{
    const struct config_option *option;
    for (unsigned i = 0; (option = config_option_at(i)) != NULL; i++) {
        if (argument_is(argument, option->name)) {
            return option;
        }
    }
    return NULL;
}

static bool is_fixed(struct iovec argument)
{
    for (size_t i = 0; i < FIXED; i++) {
        if (argument_is(argument, fixed[i].name)) {
            return true;
        }
    }
    return false;
}

static void set_failed(struct call *call, const char *name, const char *why)
{
    call_error(call, "ERR CONFIG SET failed (possibly related to argument '%s') - %s", name, why);
}

/* What a value of this kind must be, in Redis's words where it has the kind. */
static void say_allowed(const struct config_option *option, char *why, size_t capacity)
{
    switch (option->type) {
    case CONFIG_SIZE32:
    case CONFIG_SIZE64:
        (void)snprintf(why, capacity, "argument must be a memory value");
        break;
    case CONFIG_BOOL:
        (void)snprintf(why, capacity, "argument must be 'yes' or 'no'");
        break;
    case CONFIG_LEVEL:
        (void)snprintf(why, capacity, "argument(s) must be one of the following: error, warning, info, debug");
        break;
    case CONFIG_NUMBER32:
    case CONFIG_NUMBER64:
    case CONFIG_TEXT:
    case CONFIG_MEMBER:
        (void)snprintf(why, capacity, "argument must be between %" PRIu64 " and %" PRIu64 " inclusive", option->min,
                       option->max);
        break;
    }
}

/* All names, before anything is changed; false if an error was replied. */
static bool set_check(struct call *call, const struct config_option **chosen)
{
    char name[128];
    for (unsigned i = 2; i < call->argc; i += 2) {
        const struct config_option *option = find_option(call->argv[i]);
        chosen[i / 2 - 1] = option;
        (void)argument_text(call->argv[i], name, sizeof name);
        if (option == NULL && !is_fixed(call->argv[i])) {
            call_error(call, "ERR Unknown option or number of arguments for CONFIG SET - '%s'", name);
            return false;
        }
        if (option == NULL || !option->changeable) {
            set_failed(call, name, "can't set immutable config");
            return false;
        }
        for (unsigned j = 0; j < i / 2 - 1; j++) {
            if (chosen[j] == option) {
                set_failed(call, name, "duplicate parameter");
                return false;
            }
        }
    }
    return true;
}

/* Only options without owned memory are changeable, so a copy of the whole is enough to go back to. */
static bool set_apply(struct call *call, const struct config_option *const *chosen)
{
    struct config *config = call->session->owner->config;
    struct config before = *config;
    char value[CONFIG_VALUE_MAX];
    char error[CONFIG_ERROR_MAX];
    char why[128];
    for (unsigned i = 2; i < call->argc; i += 2) {
        const struct config_option *option = chosen[i / 2 - 1];
        if (!argument_text(call->argv[i + 1], value, sizeof value) || !config_set(config, option, value, error)) {
            *config = before;
            say_allowed(option, why, sizeof why);
            set_failed(call, option->name, why);
            return false;
        }
    }
    return true;
}

static void run_set(struct call *call)
{
    const struct config_option *chosen[CONFIG_PAIRS_MAX];
    struct sessions *owner = call->session->owner;
    if (call->argc % 2 != 0 || call->argc / 2 - 1 > CONFIG_PAIRS_MAX) {
        call_syntax_error(call);
        return;
    }
    if (set_check(call, chosen) && set_apply(call, chosen)) {
        if (owner->config->log != NULL) {
            log_set_level(owner->config->log, owner->config->loglevel);
        }
        node_config_changed(owner->node);
        call_ok(call);
    }
}

static void run_resetstat(struct call *call)
{
    struct sessions *owner = call->session->owner;
    node_stats_reset(owner->node);
    store_stats_reset(node_store(owner->node));
    owner->commands_processed = 0;
    owner->ops_sampled = 0;
    call_ok(call);
}

static const struct command config_subcommands[] = {
    {"get", -3, CONFIG_COMMAND_FLAGS, "server", "2.0.0", "Get the values of configuration parameters",
     "O(N) when N is the number of configuration parameters provided", "<pattern> ...", run_get, NULL},
    {"resetstat", 2, CONFIG_COMMAND_FLAGS, "server", "2.0.0", "Reset the stats returned by INFO", "O(1)", "",
     run_resetstat, NULL},
    {"set", -4, CONFIG_COMMAND_FLAGS, "server", "2.0.0", "Set configuration parameters to the given values",
     "O(N) when N is the number of configuration parameters provided", "<parameter> <value> ...", run_set, NULL},
    {.name = NULL},
};

const struct command command_family_config[] = {
    {"config", -2, 0, "server", "2.0.0", "A container for server configuration commands", "Depends on subcommand.", "",
     NULL, config_subcommands},
    {.name = NULL},
};
