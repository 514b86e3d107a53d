/* SET and its relatives: one value, written under conditions, with a deadline. */
#include "store/cmd_string.h"
#include "store/expiry.h"
#include "store/family.h"

/* What the options of SET and GETEX ask for. */
struct options {
    bool nx, xx, get, keep_ttl, persist;
    enum expiry_unit unit;
    struct iovec time; /* when unit is not EXPIRY_NONE */
};

static bool parse_time_option(const struct iovec *argv, unsigned argc, unsigned *at, struct options *options)
{
    static const struct {
        const char *word;
        enum expiry_unit unit;
    } words[] = {{"EX", EXPIRY_EX}, {"PX", EXPIRY_PX}, {"EXAT", EXPIRY_EXAT}, {"PXAT", EXPIRY_PXAT}};

    if (options->keep_ttl || options->persist || *at + 1 >= argc) {
        return false;
    }
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!arg_is(argv[*at], words[i].word)) {
            continue;
        }
        /* The same unit twice is fine, the last one counts; two units are not. */
        if (options->unit != EXPIRY_NONE && options->unit != words[i].unit) {
            return false;
        }
        options->unit = words[i].unit;
        options->time = argv[++*at];
        return true;
    }
    return false;
}

static bool parse_set_option(const struct iovec *argv, unsigned argc, unsigned *at, struct options *options)
{
    if (arg_is(argv[*at], "NX") && !options->xx) {
        options->nx = true;
    } else if (arg_is(argv[*at], "XX") && !options->nx) {
        options->xx = true;
    } else if (arg_is(argv[*at], "GET")) {
        options->get = true;
    } else if (arg_is(argv[*at], "KEEPTTL") && options->unit == EXPIRY_NONE) {
        options->keep_ttl = true;
    } else {
        return parse_time_option(argv, argc, at, options);
    }
    return true;
}

static bool parse_getex_option(const struct iovec *argv, unsigned argc, unsigned *at, struct options *options)
{
    if (arg_is(argv[*at], "PERSIST") && options->unit == EXPIRY_NONE) {
        options->persist = true;
        return true;
    }
    return parse_time_option(argv, argc, at, options);
}

/* Write a value with a deadline that may already have passed: then the key lives and dies within this command. */
static void write_value(struct store *store, struct iovec name, struct iovec value, int64_t deadline_ms)
{
    if (!expiry_passed(store, deadline_ms)) {
        keyspace_set_string(store, name.iov_base, name.iov_len, value.iov_base, value.iov_len, (uint64_t)deadline_ms);
        return;
    }
    struct key *key = keyspace_find(store, name.iov_base, name.iov_len);
    if (key != NULL) {
        keyspace_delete(store, key);
    }
}

void cmd_set(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    struct options options = {.unit = EXPIRY_NONE};
    for (unsigned i = 3; i < argc; i++) {
        if (!parse_set_option(argv, argc, &i, &options)) {
            reply_syntax_error(reply);
            return;
        }
    }
    int64_t deadline_ms = 0;
    if (options.unit != EXPIRY_NONE && !expiry_parse(store, options.time, options.unit, "set", &deadline_ms, reply)) {
        return;
    }

    struct iovec name = argv[1], value = argv[2];
    const struct key *old = NULL;
    if (options.get) {
        bool found_other;
        old = string_find_read(store, name, &found_other, reply);
        if (found_other) {
            return;
        }
    } else {
        old = keyspace_find(store, name.iov_base, name.iov_len);
    }
    bool refused = (options.nx && old != NULL) || (options.xx && old == NULL);
    if (options.get && old != NULL) {
        string_reply(old, reply);
    } else if (options.get || refused) {
        reply_null(reply);
    } else {
        reply_ok(reply);
    }
    if (refused) {
        return;
    }
    if (options.unit != EXPIRY_NONE) {
        write_value(store, name, value, deadline_ms);
        return;
    }
    uint64_t kept = options.keep_ttl && old != NULL ? key_deadline_ms(old) : KEYSPACE_NO_DEADLINE;
    keyspace_set_string(store, name.iov_base, name.iov_len, value.iov_base, value.iov_len, kept);
}

void cmd_setnx(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    if (keyspace_find(store, argv[1].iov_base, argv[1].iov_len) != NULL) {
        reply_integer(reply, 0);
        return;
    }
    keyspace_set_string(store, argv[1].iov_base, argv[1].iov_len, argv[2].iov_base, argv[2].iov_len,
                        KEYSPACE_NO_DEADLINE);
    reply_integer(reply, 1);
}

static void set_with_time(struct store *store, const struct iovec *argv, enum expiry_unit unit, const char *command,
                          struct store_reply *reply)
{
    int64_t deadline_ms = 0;
    if (expiry_parse(store, argv[2], unit, command, &deadline_ms, reply)) {
        write_value(store, argv[1], argv[3], deadline_ms);
        reply_ok(reply);
    }
}

void cmd_setex(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    set_with_time(store, argv, EXPIRY_EX, "setex", reply);
}

void cmd_psetex(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    set_with_time(store, argv, EXPIRY_PX, "psetex", reply);
}

void cmd_getset(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    bool found_other;
    const struct key *old = string_find_read(store, argv[1], &found_other, reply);
    if (found_other) {
        return;
    }
    if (old != NULL) {
        string_reply(old, reply);
    } else {
        reply_null(reply);
    }
    keyspace_set_string(store, argv[1].iov_base, argv[1].iov_len, argv[2].iov_base, argv[2].iov_len,
                        KEYSPACE_NO_DEADLINE);
}

void cmd_getdel(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    bool found_other;
    struct key *key = string_find_read(store, argv[1], &found_other, reply);
    if (key != NULL) {
        string_reply(key, reply);
        keyspace_delete(store, key);
    } else if (!found_other) {
        reply_null(reply);
    }
}

void cmd_getex(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    struct options options = {.unit = EXPIRY_NONE};
    for (unsigned i = 2; i < argc; i++) {
        if (!parse_getex_option(argv, argc, &i, &options)) {
            reply_syntax_error(reply);
            return;
        }
    }
    bool found_other;
    struct key *key = string_find_read(store, argv[1], &found_other, reply);
    if (key == NULL) {
        if (!found_other) {
            reply_null(reply);
        }
        return;
    }
    int64_t deadline_ms = 0;
    if (options.unit != EXPIRY_NONE && !expiry_parse(store, options.time, options.unit, "getex", &deadline_ms, reply)) {
        return;
    }
    string_reply(key, reply);
    if (options.unit != EXPIRY_NONE) {
        if (expiry_passed(store, deadline_ms)) {
            keyspace_delete(store, key);
        } else {
            keyspace_set_deadline(store, key, (uint64_t)deadline_ms);
        }
    } else if (options.persist && key_deadline_ms(key) != KEYSPACE_NO_DEADLINE) {
        keyspace_set_deadline(store, key, KEYSPACE_NO_DEADLINE);
    }
}
