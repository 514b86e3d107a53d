#include "store/command.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/family.h"
#include "store/keyspace.h"

/* Numbers in entries: part of the format. Never change or reuse one; append, and document it in docs/FORMATS.md. */
static const struct {
    uint16_t number;
    const char *name;
} numbers[] = {
    /* strings: 1 to 63 */
    {1, "get"},
    {2, "set"},
    {3, "setnx"},
    {4, "setex"},
    {5, "psetex"},
    {6, "getset"},
    {7, "getdel"},
    {8, "getex"},
    {9, "mget"},
    {10, "mset"},
    {11, "msetnx"},
    {12, "append"},
    {13, "strlen"},
    {14, "setrange"},
    {15, "getrange"},
    {16, "substr"},
    {17, "incr"},
    {18, "decr"},
    {19, "incrby"},
    {20, "decrby"},
    {21, "incrbyfloat"},
    /* keys of any type: 64 to 127 */
    {64, "del"},
    {65, "unlink"},
    {66, "exists"},
    {67, "type"},
    {68, "expire"},
    {69, "pexpire"},
    {70, "expireat"},
    {71, "pexpireat"},
    {72, "ttl"},
    {73, "pttl"},
    {74, "expiretime"},
    {75, "pexpiretime"},
    {76, "persist"},
    {77, "rename"},
    {78, "renamenx"},
    {79, "copy"},
    {80, "touch"},
    {81, "randomkey"},
    {82, "keys"},
    {83, "scan"},
    {84, "dbsize"},
    {85, "flushdb"},
    {86, "flushall"},
    {87, "object"},
    /* without keys, so that they may stand in a transaction: 128 to 143 */
    {128, "ping"},
    {129, "echo"},
    {130, "unwatch"},
    /* Lockstep's own: 144 to 175 */
    {144, "lockstep.revision"},
};

/* --- The family of this file -------------------------------------------------------------------------------------- */

static void cmd_ping(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)store;
    if (argc > 2) {
        reply_error(reply, "ERR wrong number of arguments for 'ping' command");
    } else if (argc == 2) {
        reply_bulk(reply, argv[1].iov_base, argv[1].iov_len);
    } else {
        reply_status(reply, "PONG");
    }
}

static void cmd_echo(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)store;
    (void)argc;
    reply_bulk(reply, argv[1].iov_base, argv[1].iov_len);
}

/* In a transaction there is nothing left to forget: EXEC has compared the revisions already. */
static void cmd_unwatch(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)store;
    (void)argv;
    (void)argc;
    reply_ok(reply);
}

static void cmd_revision(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    reply_array(reply, argc - 1);
    for (unsigned i = 1; i < argc; i++) {
        reply_integer(reply, (int64_t)store_key_revision(store, argv[i].iov_base, argv[i].iov_len));
    }
}

static const struct store_command family_pure[] = {
    {"ping", -1, STORE_READ | STORE_FAST, 0, 0, 0, "connection", "1.0.0", "Ping the server", "O(1)", cmd_ping, NULL},
    {"echo", 2, STORE_READ | STORE_FAST, 0, 0, 0, "connection", "1.0.0", "Echo the given string", "O(1)", cmd_echo,
     NULL},
    {"unwatch", 1, STORE_READ | STORE_FAST, 0, 0, 0, "transactions", "2.2.0", "Forget about all watched keys", "O(1)",
     cmd_unwatch, NULL},
    {"lockstep.revision", -2, STORE_READ | STORE_FAST, 1, -1, 1, "lockstep", "7.0.0",
     "Get the revisions of the last changes of keys, 0 for a key that does not exist",
     "O(N) where N is the number of keys", cmd_revision, NULL},
    {NULL, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL},
};

static const struct store_command *const families[] = {store_family_string, store_family_generic, family_pure};

/* --- Lookup ------------------------------------------------------------------------------------------------------- */

/* Derived from the tables above once, and constant from then on. */
#define BUCKETS 512u
struct bucket {
    const struct store_command *command;
    uint16_t number;
    uint16_t len;
};
static struct bucket buckets[BUCKETS];
static const struct store_command *by_number[COMMAND_NUMBERS];
static pthread_once_t built = PTHREAD_ONCE_INIT;

static_assert(sizeof numbers / sizeof numbers[0] < BUCKETS / 4, "lookups end at an empty bucket, soon");

/* Letters become lower-case, and no two characters of names become one. */
static unsigned char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : (unsigned char)c;
}

static unsigned bucket_of(const char *name, size_t len)
{
    uint32_t hash = (uint32_t)len;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ fold(name[i])) * 0x01000193u;
    }
    return (hash ^ hash >> 15) % BUCKETS;
}

static unsigned number_of_name(const char *name)
{
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            return numbers[i].number;
        }
    }
    fprintf(stderr, "store: command '%s' has no number for entries\n", name);
    abort();
}

static void build(void)
{
    const struct store_command *command;
    for (unsigned i = 0; (command = store_command_at(i)) != NULL; i++) {
        size_t len = strlen(command->name);
        unsigned number = number_of_name(command->name);
        assert(number > 0);
        assert(number < COMMAND_NUMBERS);
        assert(by_number[number] == NULL);
        by_number[number] = command;
        unsigned at = bucket_of(command->name, len);
        while (buckets[at].command != NULL) {
            at = (at + 1) % BUCKETS;
        }
        buckets[at] = (struct bucket){.command = command, .number = (uint16_t)number, .len = (uint16_t)len};
    }
}

static bool same_name(const char *known, const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)known[i] != fold(name[i])) {
            return false;
        }
    }
    return true;
}

const struct store_command *command_find(const char *name, size_t len, unsigned *number)
{
    pthread_once(&built, build);
    /* Longer than any name; a client may send megabytes here. */
    if (len > 32) {
        return NULL;
    }
    for (unsigned at = bucket_of(name, len); buckets[at].command != NULL; at = (at + 1) % BUCKETS) {
        if (buckets[at].len == len && same_name(buckets[at].command->name, name, len)) {
            *number = buckets[at].number;
            return buckets[at].command;
        }
    }
    return NULL;
}

const struct store_command *command_by_number(unsigned number)
{
    pthread_once(&built, build);
    return number < COMMAND_NUMBERS ? by_number[number] : NULL;
}

unsigned command_number(const struct store_command *command)
{
    unsigned number;
    return command_find(command->name, strlen(command->name), &number) == command ? number : 0;
}

const struct store_command *store_command_find(const char *name, size_t len)
{
    unsigned number;
    return command_find(name, len, &number);
}

const struct store_command *store_command_at(unsigned i)
{
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        for (const struct store_command *command = families[f]; command->name != NULL; command++) {
            if (i-- == 0) {
                return command;
            }
        }
    }
    return NULL;
}

bool store_command_arity_ok(const struct store_command *command, unsigned argc)
{
    return command->arity >= 0 ? argc == (unsigned)command->arity : argc >= (unsigned)-command->arity;
}
