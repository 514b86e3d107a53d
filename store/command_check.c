/* What Redis checks before a command runs or is queued in a transaction: arity, subcommand, the subcommand's arity. */
#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "store/family.h"

const struct store_command *store_subcommand_find(const struct store_command *command, const struct iovec *argv,
                                                  unsigned argc)
{
    if (command->subcommands == NULL || argc < 2) {
        return NULL;
    }
    for (const struct store_command *row = command->subcommands; row->name != NULL; row++) {
        const char *word = strchr(row->name, '|');
        assert(word != NULL);
        if (arg_is(argv[1], word + 1)) {
            return row;
        }
    }
    return NULL;
}

static void reply_unknown_subcommand(const struct store_command *command, struct iovec word, struct store_reply *reply)
{
    char upper[32];
    size_t len = strlen(command->name);
    assert(len < sizeof upper);
    for (size_t i = 0; i <= len; i++) {
        upper[i] = (char)toupper((unsigned char)command->name[i]);
    }
    int quoted = word.iov_len < 128 ? (int)word.iov_len : 128;
    reply_error(reply, "ERR unknown subcommand '%.*s'. Try %s HELP.", quoted, (const char *)word.iov_base, upper);
}

bool store_command_check(const struct store_command *command, const struct iovec *argv, unsigned argc,
                         struct store_reply *reply)
{
    assert(argc > 0);
    /* Redis looks the subcommand up first: an unknown one is named even where the arity would be wrong as well. */
    const struct store_command *checked = command;
    if (command->subcommands != NULL && argc >= 2) {
        checked = store_subcommand_find(command, argv, argc);
        if (checked == NULL) {
            reply_unknown_subcommand(command, argv[1], reply);
            return false;
        }
    }
    if (!store_command_arity_ok(checked, argc)) {
        reply_error(reply, "ERR wrong number of arguments for '%s' command", checked->name);
        return false;
    }
    return true;
}
