/* OBJECT: what a value looks like inside. Clients read Redis's words here, so the answers follow Redis's rules for the
 * same content; they depend on the content alone, not on how it came about. */
#include <assert.h>
#include <string.h>

#include "store/cmd_generic.h"
#include "store/family.h"

/* Redis keeps strings up to this length in one allocation with their header: "embstr". */
#define EMBEDDED_BYTES_MAX 44
/* Integers from 0 up to here are shared in Redis, which shows as the largest reference count. */
#define SHARED_INTEGERS 10000

/* The key named by argv[2]; a null is replied if there is none. */
static const struct key *find_or_null(const struct store *store, const struct iovec *argv, struct store_reply *reply)
{
    const struct key *key = keyspace_find(store, argv[2].iov_base, argv[2].iov_len);
    if (key == NULL) {
        reply_null(reply);
    }
    return key;
}

static bool value_integer(const struct key *key, int64_t *value)
{
    return key_type(key) == KEYSPACE_STRING && arg_integer(key_value(key), value);
}

static void object_encoding(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    const struct key *key = find_or_null(store, argv, reply);
    if (key == NULL) {
        return;
    }
    assert(key_type(key) == KEYSPACE_STRING);
    int64_t value;
    const char *encoding = "raw";
    if (value_integer(key, &value)) {
        encoding = "int";
    } else if (key_value(key).iov_len <= EMBEDDED_BYTES_MAX) {
        encoding = "embstr";
    }
    reply_bulk(reply, encoding, strlen(encoding));
}

static void object_refcount(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    const struct key *key = find_or_null(store, argv, reply);
    if (key == NULL) {
        return;
    }
    int64_t value = -1;
    bool shared = value_integer(key, &value) && value >= 0 && value < SHARED_INTEGERS;
    reply_integer(reply, shared ? INT32_MAX : 1);
}

/* Recency is local knowledge and not kept per key: every key counts as just used. */
static void object_idletime(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    if (find_or_null(store, argv, reply) != NULL) {
        reply_integer(reply, 0);
    }
}

static void object_freq(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    if (find_or_null(store, argv, reply) != NULL) {
        reply_error(reply, "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
                           "that when switching between policies at runtime LRU and LFU data will take some time to "
                           "adjust.");
    }
}

static void object_help(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    static const char *const lines[] = {
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Prints this help.",
    };
    (void)store;
    (void)argv;
    (void)argc;
    const size_t n = sizeof lines / sizeof lines[0];
    reply_array(reply, n);
    for (size_t i = 0; i < n; i++) {
        reply_status(reply, lines[i]);
    }
}

const struct store_command object_subcommands[] = {
    {"object|idletime", 3, STORE_READ, 2, 2, 1, "generic", "2.2.3",
     "Get the time since a Redis object was last accessed", "O(1)", object_idletime, NULL},
    {"object|freq", 3, STORE_READ, 2, 2, 1, "generic", "4.0.0",
     "Get the logarithmic access frequency counter of a Redis object", "O(1)", object_freq, NULL},
    {"object|help", 2, STORE_READ, 0, 0, 0, "generic", "6.2.0", "Show helpful text about the different subcommands",
     "O(1)", object_help, NULL},
    {"object|refcount", 3, STORE_READ, 2, 2, 1, "generic", "2.2.3",
     "Get the number of references to the value of the key", "O(1)", object_refcount, NULL},
    {"object|encoding", 3, STORE_READ, 2, 2, 1, "generic", "2.2.3", "Inspect the internal encoding of a Redis object",
     "O(1)", object_encoding, NULL},
    {.name = NULL},
};

void cmd_object(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    const struct store_command *object = store_command_find("object", 6);
    assert(object != NULL);
    if (store_command_check(object, argv, argc, reply)) {
        store_subcommand_find(object, argv, argc)->exec(store, argv, argc, reply);
    }
}
