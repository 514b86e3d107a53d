/* The family of commands on keys of any type: the table, existence, names and the whole keyspace. */
#include "store/cmd_generic.h"

#include <assert.h>
#include <string.h>

#include "store/family.h"

static struct key *find(const struct store *store, struct iovec name)
{
    return keyspace_find(store, name.iov_base, name.iov_len);
}

static bool same_bytes(struct iovec a, struct iovec b)
{
    return a.iov_len == b.iov_len && (a.iov_len == 0 || memcmp(a.iov_base, b.iov_base, a.iov_len) == 0);
}

const char *type_name(enum keyspace_type type)
{
    static const char *const names[] = {
        [KEYSPACE_STRING] = "string", [KEYSPACE_LIST] = "list", [KEYSPACE_SET] = "set",
        [KEYSPACE_ZSET] = "zset",     [KEYSPACE_HASH] = "hash", [KEYSPACE_STREAM] = "stream",
    };
    assert((size_t)type < sizeof names / sizeof names[0]);
    return names[type];
}

static void cmd_del(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    int64_t deleted = 0;
    for (unsigned i = 1; i < argc; i++) {
        struct key *key = find(store, argv[i]);
        if (key != NULL) {
            keyspace_delete(store, key);
            deleted++;
        }
    }
    reply_integer(reply, deleted);
}

/* EXISTS and TOUCH: how many of the names are keys; a name given twice counts twice. */
static void cmd_exists(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    int64_t found = 0;
    for (unsigned i = 1; i < argc; i++) {
        found += keyspace_find_read(store, argv[i].iov_base, argv[i].iov_len) != NULL;
    }
    reply_integer(reply, found);
}

static void cmd_type(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    const struct key *key = keyspace_find_read(store, argv[1].iov_base, argv[1].iov_len);
    reply_status(reply, key != NULL ? type_name(key_type(key)) : "none");
}

/* True if the key was moved, or would have been but has that name already. */
static bool rename_key(struct store *store, const struct iovec *argv, bool replace, bool *renamed,
                       struct store_reply *reply)
{
    *renamed = false;
    struct key *key = find(store, argv[1]);
    if (key == NULL) {
        reply_error(reply, "ERR no such key");
        return false;
    }
    if (same_bytes(argv[1], argv[2]) || (!replace && find(store, argv[2]) != NULL)) {
        return true;
    }
    keyspace_rename(store, key, argv[2].iov_base, argv[2].iov_len);
    *renamed = true;
    return true;
}

static void cmd_rename(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    bool renamed;
    if (rename_key(store, argv, true, &renamed, reply)) {
        reply_ok(reply);
    }
}

static void cmd_renamenx(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    bool renamed;
    if (rename_key(store, argv, false, &renamed, reply)) {
        reply_integer(reply, renamed);
    }
}

/* The argument of COPY's DB option: there is one database, 0. */
static bool database_ok(struct iovec arg, struct store_reply *reply)
{
    int64_t database = 0;
    if (!arg_integer(arg, &database)) {
        reply_not_integer(reply);
    } else if (database < INT32_MIN || database > INT32_MAX) {
        reply_error(reply, "ERR value is out of range, value must between %d and %d", INT32_MIN, INT32_MAX);
    } else if (database != 0) {
        reply_error(reply, "ERR DB index is out of range");
    } else {
        return true;
    }
    return false;
}

static void cmd_copy(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    bool replace = false;
    for (unsigned i = 3; i < argc; i++) {
        if (arg_is(argv[i], "REPLACE")) {
            replace = true;
        } else if (arg_is(argv[i], "DB") && i + 1 < argc) {
            if (!database_ok(argv[++i], reply)) {
                return;
            }
        } else {
            reply_syntax_error(reply);
            return;
        }
    }
    if (same_bytes(argv[1], argv[2])) {
        reply_error(reply, "ERR source and destination objects are the same");
        return;
    }
    struct key *key = keyspace_find_read(store, argv[1].iov_base, argv[1].iov_len);
    if (key == NULL || (!replace && find(store, argv[2]) != NULL)) {
        reply_integer(reply, 0);
        return;
    }
    keyspace_copy(store, key, argv[2].iov_base, argv[2].iov_len);
    reply_integer(reply, 1);
}

static void cmd_randomkey(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argv;
    (void)argc;
    const struct key *key = keyspace_random(store, keyspace_read_random(store));
    if (key == NULL) {
        reply_null(reply);
        return;
    }
    struct iovec name = key_name(key);
    reply_bulk(reply, name.iov_base, name.iov_len);
}

static void cmd_dbsize(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argv;
    (void)argc;
    reply_integer(reply, (int64_t)store_keys(store));
}

/* FLUSHDB and FLUSHALL are the same: there is one database. ASYNC and SYNC too: memory always goes step by step. */
static void cmd_flush(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    if (argc > 2 || (argc == 2 && !arg_is(argv[1], "SYNC") && !arg_is(argv[1], "ASYNC"))) {
        reply_syntax_error(reply);
        return;
    }
    if (store_keys(store) > 0) {
        keyspace_flush(store);
    }
    reply_ok(reply);
}

const struct store_command store_family_generic[] = {
    {"del", -2, STORE_WRITE, 1, -1, 1, "generic", "1.0.0", "Delete a key",
     "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a "
     "string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, "
     "sorted set or hash. Removing a single key that holds a string value is O(1).",
     cmd_del, NULL},
    {"unlink", -2, STORE_WRITE | STORE_FAST, 1, -1, 1, "generic", "4.0.0",
     "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.",
     "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in "
     "order to reclaim memory, where N is the number of allocations the deleted objects where composed of.",
     cmd_del, NULL},
    {"exists", -2, STORE_READ | STORE_FAST, 1, -1, 1, "generic", "1.0.0", "Determine if a key exists",
     "O(N) where N is the number of keys to check.", cmd_exists, NULL},
    {"type", 2, STORE_READ | STORE_FAST, 1, 1, 1, "generic", "1.0.0", "Determine the type stored at key", "O(1)",
     cmd_type, NULL},
    {"expire", -3, STORE_WRITE | STORE_FAST, 1, 1, 1, "generic", "1.0.0", "Set a key's time to live in seconds", "O(1)",
     cmd_expire, NULL},
    {"pexpire", -3, STORE_WRITE | STORE_FAST, 1, 1, 1, "generic", "2.6.0", "Set a key's time to live in milliseconds",
     "O(1)", cmd_pexpire, NULL},
    {"expireat", -3, STORE_WRITE | STORE_FAST, 1, 1, 1, "generic", "1.2.0",
     "Set the expiration for a key as a UNIX timestamp", "O(1)", cmd_expireat, NULL},
    {"pexpireat", -3, STORE_WRITE | STORE_FAST, 1, 1, 1, "generic", "2.6.0",
     "Set the expiration for a key as a UNIX timestamp specified in milliseconds", "O(1)", cmd_pexpireat, NULL},
    {"ttl", 2, STORE_READ | STORE_FAST | STORE_CLOCK, 1, 1, 1, "generic", "1.0.0",
     "Get the time to live for a key in seconds", "O(1)", cmd_ttl, NULL},
    {"pttl", 2, STORE_READ | STORE_FAST | STORE_CLOCK, 1, 1, 1, "generic", "2.6.0",
     "Get the time to live for a key in milliseconds", "O(1)", cmd_pttl, NULL},
    {"expiretime", 2, STORE_READ | STORE_FAST, 1, 1, 1, "generic", "7.0.0",
     "Get the expiration Unix timestamp for a key", "O(1)", cmd_expiretime, NULL},
    {"pexpiretime", 2, STORE_READ | STORE_FAST, 1, 1, 1, "generic", "7.0.0",
     "Get the expiration Unix timestamp for a key in milliseconds", "O(1)", cmd_pexpiretime, NULL},
    {"persist", 2, STORE_WRITE | STORE_FAST, 1, 1, 1, "generic", "2.2.0", "Remove the expiration from a key", "O(1)",
     cmd_persist, NULL},
    {"rename", 3, STORE_WRITE, 1, 2, 1, "generic", "1.0.0", "Rename a key", "O(1)", cmd_rename, NULL},
    {"renamenx", 3, STORE_WRITE | STORE_FAST, 1, 2, 1, "generic", "1.0.0",
     "Rename a key, only if the new key does not exist", "O(1)", cmd_renamenx, NULL},
    {"copy", -3, STORE_WRITE | STORE_DENYOOM, 1, 2, 1, "generic", "6.2.0", "Copy a key",
     "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.", cmd_copy, NULL},
    {"touch", -2, STORE_READ | STORE_FAST, 1, -1, 1, "generic", "3.2.1",
     "Alters the last access time of a key(s). Returns the number of existing keys specified.",
     "O(N) where N is the number of keys that will be touched.", cmd_exists, NULL},
    {"randomkey", 1, STORE_READ | STORE_ALLKEYS, 0, 0, 0, "generic", "1.0.0", "Return a random key from the keyspace",
     "O(1)", cmd_randomkey, NULL},
    {"keys", 2, STORE_READ | STORE_ALLKEYS, 0, 0, 0, "generic", "1.0.0", "Find all keys matching the given pattern",
     "O(N) with N being the number of keys in the database, under the assumption that the key names in the database "
     "and the given pattern have limited length.",
     cmd_keys, NULL},
    {"scan", -2, STORE_READ | STORE_ALLKEYS, 0, 0, 0, "generic", "2.8.0", "Incrementally iterate the keys space",
     "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return "
     "back to 0. N is the number of elements inside the collection.",
     cmd_scan, NULL},
    {"dbsize", 1, STORE_READ | STORE_FAST | STORE_ALLKEYS, 0, 0, 0, "server", "1.0.0",
     "Return the number of keys in the selected database", "O(1)", cmd_dbsize, NULL},
    {"flushdb", -1, STORE_WRITE | STORE_ALLKEYS, 0, 0, 0, "server", "1.0.0",
     "Remove all keys from the current database", "O(N) where N is the number of keys in the selected database",
     cmd_flush, NULL},
    {"flushall", -1, STORE_WRITE | STORE_ALLKEYS, 0, 0, 0, "server", "1.0.0", "Remove all keys from all databases",
     "O(N) where N is the total number of keys in all databases", cmd_flush, NULL},
    {"object", -2, STORE_READ, 0, 0, 0, "generic", "2.2.3", "A container for object introspection commands",
     "Depends on subcommand.", cmd_object, object_subcommands},
    {.name = NULL},
};
