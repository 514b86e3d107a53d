/* Deadlines of keys: setting them under conditions, and reading them. */
#include <assert.h>
#include <string.h>

#include "store/cmd_generic.h"
#include "store/expiry.h"
#include "store/family.h"

struct conditions {
    bool nx, xx, gt, lt;
};

static void reply_unsupported_option(struct iovec option, struct store_reply *reply)
{
    const char *text = option.iov_base;
    /* Longer ones are cut by reply_error; Redis stops at a zero byte and trims its error lines. */
    int len = (int)strnlen(text, option.iov_len < 1024 ? option.iov_len : 1024);
    while (len > 0 && (text[len - 1] == '\r' || text[len - 1] == '\n')) {
        len--;
    }
    reply_error(reply, "ERR Unsupported option %.*s", len, text);
}

static bool parse_conditions(const struct iovec *argv, unsigned argc, struct conditions *conditions,
                             struct store_reply *reply)
{
    *conditions = (struct conditions){0};
    for (unsigned i = 3; i < argc; i++) {
        if (arg_is(argv[i], "NX")) {
            conditions->nx = true;
        } else if (arg_is(argv[i], "XX")) {
            conditions->xx = true;
        } else if (arg_is(argv[i], "GT")) {
            conditions->gt = true;
        } else if (arg_is(argv[i], "LT")) {
            conditions->lt = true;
        } else {
            reply_unsupported_option(argv[i], reply);
            return false;
        }
    }
    if (conditions->nx && (conditions->xx || conditions->gt || conditions->lt)) {
        reply_error(reply, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if (conditions->gt && conditions->lt) {
        reply_error(reply, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* May a key with the deadline `current` get the deadline `wanted` (which may lie before the epoch)? No deadline counts
 * as the latest of all. */
static bool conditions_hold(const struct conditions *conditions, uint64_t current, int64_t wanted)
{
    bool has_deadline = current != KEYSPACE_NO_DEADLINE;
    bool later = has_deadline && (wanted >= 0 && (uint64_t)wanted > current);
    bool earlier = !has_deadline || wanted < 0 || (uint64_t)wanted < current;
    return !(conditions->nx && has_deadline) && !(conditions->xx && !has_deadline) && !(conditions->gt && !later) &&
           !(conditions->lt && !earlier);
}

static void expire(struct store *store, const struct iovec *argv, unsigned argc, enum expiry_unit unit,
                   const char *command, struct store_reply *reply)
{
    struct conditions conditions;
    int64_t deadline_ms = 0;
    if (!parse_conditions(argv, argc, &conditions, reply) ||
        !expiry_parse_signed(store, argv[2], unit, command, &deadline_ms, reply)) {
        return;
    }
    struct key *key = keyspace_find(store, argv[1].iov_base, argv[1].iov_len);
    if (key == NULL || !conditions_hold(&conditions, key_deadline_ms(key), deadline_ms)) {
        reply_integer(reply, 0);
        return;
    }
    if (expiry_passed(store, deadline_ms)) {
        keyspace_delete(store, key);
    } else {
        assert(deadline_ms >= 0);
        keyspace_set_deadline(store, key, (uint64_t)deadline_ms);
    }
    reply_integer(reply, 1);
}

void cmd_expire(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    expire(store, argv, argc, EXPIRY_EX, "expire", reply);
}

void cmd_pexpire(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    expire(store, argv, argc, EXPIRY_PX, "pexpire", reply);
}

void cmd_expireat(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    expire(store, argv, argc, EXPIRY_EXAT, "expireat", reply);
}

void cmd_pexpireat(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    expire(store, argv, argc, EXPIRY_PXAT, "pexpireat", reply);
}

/* The deadline of a key in ms, counted from `origin_ms`; -2 and -1 as Redis has them for no key and no deadline. */
static int64_t deadline_from(const struct store *store, struct iovec name, uint64_t origin_ms)
{
    const struct key *key = keyspace_find(store, name.iov_base, name.iov_len);
    if (key == NULL) {
        return -2;
    }
    uint64_t deadline_ms = key_deadline_ms(key);
    if (deadline_ms == KEYSPACE_NO_DEADLINE) {
        return -1;
    }
    assert(deadline_ms <= INT64_MAX);
    /* A key that lives on until the next entry removes it has 0 left. */
    return deadline_ms > origin_ms ? (int64_t)(deadline_ms - origin_ms) : 0;
}

static int64_t to_seconds(int64_t ms)
{
    return ms < 0 ? ms : ms / 1000 + (ms % 1000 >= 500);
}

void cmd_ttl(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    reply_integer(reply, to_seconds(deadline_from(store, argv[1], keyspace_read_time_ms(store))));
}

void cmd_pttl(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    reply_integer(reply, deadline_from(store, argv[1], keyspace_read_time_ms(store)));
}

void cmd_expiretime(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    reply_integer(reply, to_seconds(deadline_from(store, argv[1], 0)));
}

void cmd_pexpiretime(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    reply_integer(reply, deadline_from(store, argv[1], 0));
}

void cmd_persist(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    struct key *key = keyspace_find(store, argv[1].iov_base, argv[1].iov_len);
    bool had_deadline = key != NULL && key_deadline_ms(key) != KEYSPACE_NO_DEADLINE;
    if (had_deadline) {
        keyspace_set_deadline(store, key, KEYSPACE_NO_DEADLINE);
    }
    reply_integer(reply, had_deadline);
}
