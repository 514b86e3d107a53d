/* The family of string commands: the table, whole values, pieces of values, and many keys at once. */
#include "store/cmd_string.h"

#include <stdlib.h>
#include <string.h>

#include "store/family.h"

static struct key *check_type(struct key *key, bool *found_other, struct store_reply *reply)
{
    *found_other = key != NULL && key_type(key) != KEYSPACE_STRING;
    if (*found_other) {
        reply_wrong_type(reply);
        return NULL;
    }
    return key;
}

struct key *string_find(const struct store *store, struct iovec name, bool *found_other, struct store_reply *reply)
{
    return check_type(keyspace_find(store, name.iov_base, name.iov_len), found_other, reply);
}

struct key *string_find_read(struct store *store, struct iovec name, bool *found_other, struct store_reply *reply)
{
    return check_type(keyspace_find_read(store, name.iov_base, name.iov_len), found_other, reply);
}

void string_reply(const struct key *key, struct store_reply *reply)
{
    struct iovec value = key_value(key);
    reply_bulk(reply, value.iov_base, value.iov_len);
}

bool string_length_ok(uint64_t len, uint64_t more, struct store_reply *reply)
{
    uint64_t total;
    if (__builtin_add_overflow(len, more, &total) || total > STORE_VALUE_BYTES_MAX) {
        reply_error(reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        return false;
    }
    return true;
}

static void cmd_get(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    bool found_other;
    const struct key *key = string_find_read(store, argv[1], &found_other, reply);
    if (key != NULL) {
        string_reply(key, reply);
    } else if (!found_other) {
        reply_null(reply);
    }
}

static void cmd_strlen(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    bool found_other;
    const struct key *key = string_find_read(store, argv[1], &found_other, reply);
    if (!found_other) {
        reply_integer(reply, key != NULL ? (int64_t)key_value(key).iov_len : 0);
    }
}

static void cmd_mget(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    reply_array(reply, argc - 1);
    for (unsigned i = 1; i < argc; i++) {
        const struct key *key = keyspace_find_read(store, argv[i].iov_base, argv[i].iov_len);
        if (key != NULL && key_type(key) == KEYSPACE_STRING) {
            string_reply(key, reply);
        } else {
            reply_null(reply);
        }
    }
}

static void set_pairs(struct store *store, const struct iovec *argv, unsigned argc)
{
    for (unsigned i = 1; i < argc; i += 2) {
        keyspace_set_string(store, argv[i].iov_base, argv[i].iov_len, argv[i + 1].iov_base, argv[i + 1].iov_len,
                            KEYSPACE_NO_DEADLINE);
    }
}

static void cmd_mset(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    if (argc % 2 == 0) {
        reply_error(reply, "ERR wrong number of arguments for 'mset' command");
        return;
    }
    set_pairs(store, argv, argc);
    reply_ok(reply);
}

static void cmd_msetnx(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    if (argc % 2 == 0) {
        reply_error(reply, "ERR wrong number of arguments for 'msetnx' command");
        return;
    }
    for (unsigned i = 1; i < argc; i += 2) {
        if (keyspace_find(store, argv[i].iov_base, argv[i].iov_len) != NULL) {
            reply_integer(reply, 0);
            return;
        }
    }
    set_pairs(store, argv, argc);
    reply_integer(reply, 1);
}

static void cmd_append(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    struct iovec name = argv[1], more = argv[2];
    bool found_other;
    struct key *key = string_find(store, name, &found_other, reply);
    if (found_other) {
        return;
    }
    if (key == NULL) {
        keyspace_set_string(store, name.iov_base, name.iov_len, more.iov_base, more.iov_len, KEYSPACE_NO_DEADLINE);
        reply_integer(reply, (int64_t)more.iov_len);
        return;
    }
    size_t len = key_value(key).iov_len;
    if (!string_length_ok(len, more.iov_len, reply)) {
        return;
    }
    keyspace_append(store, key, more.iov_base, more.iov_len);
    reply_integer(reply, (int64_t)(len + more.iov_len));
}

/* A new string of `offset` zeros and `piece`, as one mutation. The zeros of calloc cost no memory until they are
 * copied. */
static void create_padded(struct store *store, struct iovec name, size_t offset, struct iovec piece)
{
    char *value = calloc(1, offset + piece.iov_len);
    if (value == NULL) {
        abort(); /* inside apply: a replica that skips an operation has diverged */
    }
    memcpy(value + offset, piece.iov_base, piece.iov_len);
    keyspace_set_string(store, name.iov_base, name.iov_len, value, offset + piece.iov_len, KEYSPACE_NO_DEADLINE);
    free(value);
}

static void cmd_setrange(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    struct iovec name = argv[1], piece = argv[3];
    int64_t offset = 0;
    if (!arg_integer(argv[2], &offset)) {
        reply_not_integer(reply);
        return;
    }
    if (offset < 0) {
        reply_error(reply, "ERR offset is out of range");
        return;
    }
    bool found_other;
    struct key *key = string_find(store, name, &found_other, reply);
    if (found_other) {
        return;
    }
    size_t len = key != NULL ? key_value(key).iov_len : 0;
    if (piece.iov_len == 0) {
        reply_integer(reply, (int64_t)len);
        return;
    }
    if (!string_length_ok((uint64_t)offset, piece.iov_len, reply)) {
        return;
    }
    size_t end = (size_t)offset + piece.iov_len;
    if (key != NULL) {
        keyspace_set_range(store, key, (size_t)offset, piece.iov_base, piece.iov_len);
    } else {
        create_padded(store, name, (size_t)offset, piece);
    }
    reply_integer(reply, (int64_t)(end > len ? end : len));
}

static void cmd_getrange(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    int64_t start = 0, end = 0;
    if (!arg_integer(argv[2], &start) || !arg_integer(argv[3], &end)) {
        reply_not_integer(reply);
        return;
    }
    bool found_other;
    const struct key *key = string_find_read(store, argv[1], &found_other, reply);
    if (found_other) {
        return;
    }
    struct iovec value = key != NULL ? key_value(key) : (struct iovec){0};
    int64_t len = (int64_t)value.iov_len;
    /* Decided before the clamping below, which could make an empty range one byte long. */
    bool empty = len == 0 || (start < 0 && end < 0 && start > end);
    if (start < 0) {
        start = start + len < 0 ? 0 : start + len;
    }
    if (end < 0) {
        end = end + len < 0 ? 0 : end + len;
    }
    if (end >= len) {
        end = len - 1;
    }
    if (empty || start > end) {
        reply_bulk(reply, "", 0);
    } else {
        reply_bulk(reply, (const char *)value.iov_base + start, (size_t)(end - start + 1));
    }
}

const struct store_command store_family_string[] = {
    {"get", 2, STORE_READ | STORE_FAST, 1, 1, 1, "string", "1.0.0", "Get the value of a key", "O(1)", cmd_get, NULL},
    {"set", -3, STORE_WRITE | STORE_DENYOOM, 1, 1, 1, "string", "1.0.0", "Set the string value of a key", "O(1)",
     cmd_set, NULL},
    {"setnx", 3, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "1.0.0",
     "Set the value of a key, only if the key does not exist", "O(1)", cmd_setnx, NULL},
    {"setex", 4, STORE_WRITE | STORE_DENYOOM, 1, 1, 1, "string", "2.0.0", "Set the value and expiration of a key",
     "O(1)", cmd_setex, NULL},
    {"psetex", 4, STORE_WRITE | STORE_DENYOOM, 1, 1, 1, "string", "2.6.0",
     "Set the value and expiration in milliseconds of a key", "O(1)", cmd_psetex, NULL},
    {"getset", 3, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "1.0.0",
     "Set the string value of a key and return its old value", "O(1)", cmd_getset, NULL},
    {"getdel", 2, STORE_WRITE | STORE_FAST, 1, 1, 1, "string", "6.2.0", "Get the value of a key and delete the key",
     "O(1)", cmd_getdel, NULL},
    {"getex", -2, STORE_WRITE | STORE_FAST, 1, 1, 1, "string", "6.2.0",
     "Get the value of a key and optionally set its expiration", "O(1)", cmd_getex, NULL},
    {"mget", -2, STORE_READ | STORE_FAST, 1, -1, 1, "string", "1.0.0", "Get the values of all the given keys",
     "O(N) where N is the number of keys to retrieve.", cmd_mget, NULL},
    {"mset", -3, STORE_WRITE | STORE_DENYOOM, 1, -1, 2, "string", "1.0.1", "Set multiple keys to multiple values",
     "O(N) where N is the number of keys to set.", cmd_mset, NULL},
    {"msetnx", -3, STORE_WRITE | STORE_DENYOOM, 1, -1, 2, "string", "1.0.1",
     "Set multiple keys to multiple values, only if none of the keys exist",
     "O(N) where N is the number of keys to set.", cmd_msetnx, NULL},
    {"append", 3, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "2.0.0", "Append a value to a key",
     "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present "
     "value is of any size, since the dynamic string library used by Redis will double the free space available on "
     "every reallocation.",
     cmd_append, NULL},
    {"strlen", 2, STORE_READ | STORE_FAST, 1, 1, 1, "string", "2.2.0", "Get the length of the value stored in a key",
     "O(1)", cmd_strlen, NULL},
    {"setrange", 4, STORE_WRITE | STORE_DENYOOM, 1, 1, 1, "string", "2.2.0",
     "Overwrite part of a string at key starting at the specified offset",
     "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the "
     "amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.",
     cmd_setrange, NULL},
    {"getrange", 4, STORE_READ, 1, 1, 1, "string", "2.4.0", "Get a substring of the string stored at a key",
     "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned "
     "length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for "
     "small strings.",
     cmd_getrange, NULL},
    {"substr", 4, STORE_READ, 1, 1, 1, "string", "1.0.0", "Get a substring of the string stored at a key",
     "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned "
     "length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for "
     "small strings.",
     cmd_getrange, NULL},
    {"incr", 2, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "1.0.0",
     "Increment the integer value of a key by one", "O(1)", cmd_incr, NULL},
    {"decr", 2, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "1.0.0",
     "Decrement the integer value of a key by one", "O(1)", cmd_decr, NULL},
    {"incrby", 3, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "1.0.0",
     "Increment the integer value of a key by the given amount", "O(1)", cmd_incrby, NULL},
    {"decrby", 3, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "1.0.0",
     "Decrement the integer value of a key by the given number", "O(1)", cmd_decrby, NULL},
    {"incrbyfloat", 3, STORE_WRITE | STORE_DENYOOM | STORE_FAST, 1, 1, 1, "string", "2.6.0",
     "Increment the float value of a key by the given amount", "O(1)", cmd_incrbyfloat, NULL},
    {.name = NULL},
};
