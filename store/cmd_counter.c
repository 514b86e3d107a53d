/* Strings that are numbers: INCR and its relatives. The deadline of a key stays as it is. */
#include <math.h>

#include "store/cmd_string.h"
#include "store/family.h"
#include "store/number.h"

/* Longest decimal integer, so that a long string isn't taken for one. */
static bool value_integer(const struct key *key, int64_t *value)
{
    struct iovec text = key_value(key);
    return text.iov_len < NUMBER_INTEGER_BYTES_MAX && arg_integer(text, value);
}

static void replace_value(struct store *store, struct iovec name, const struct key *key, const char *text, size_t len)
{
    uint64_t deadline_ms = key != NULL ? key_deadline_ms(key) : KEYSPACE_NO_DEADLINE;
    keyspace_set_string(store, name.iov_base, name.iov_len, text, len, deadline_ms);
}

static void increment(struct store *store, struct iovec name, int64_t by, struct store_reply *reply)
{
    bool found_other;
    const struct key *key = string_find(store, name, &found_other, reply);
    if (found_other) {
        return;
    }
    int64_t value = 0;
    if (key != NULL && !value_integer(key, &value)) {
        reply_not_integer(reply);
        return;
    }
    if (__builtin_add_overflow(value, by, &value)) {
        reply_error(reply, "ERR increment or decrement would overflow");
        return;
    }
    char text[NUMBER_INTEGER_BYTES_MAX];
    size_t len = number_format_integer(value, text);
    replace_value(store, name, key, text, len);
    reply_integer(reply, value);
}

void cmd_incr(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    increment(store, argv[1], 1, reply);
}

void cmd_decr(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    increment(store, argv[1], -1, reply);
}

void cmd_incrby(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    int64_t by = 0;
    if (!arg_integer(argv[2], &by)) {
        reply_not_integer(reply);
        return;
    }
    increment(store, argv[1], by, reply);
}

void cmd_decrby(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    int64_t by = 0;
    if (!arg_integer(argv[2], &by)) {
        reply_not_integer(reply);
        return;
    }
    if (by == INT64_MIN) { /* has no positive counterpart */
        reply_error(reply, "ERR decrement would overflow");
        return;
    }
    increment(store, argv[1], -by, reply);
}

void cmd_incrbyfloat(struct store *store, const struct iovec *argv, unsigned argc, struct store_reply *reply)
{
    (void)argc;
    bool found_other;
    const struct key *key = string_find(store, argv[1], &found_other, reply);
    if (found_other) {
        return;
    }
    long double value = 0, by = 0;
    if ((key != NULL && !number_parse_real(key_value(key), &value)) || !number_parse_real(argv[2], &by)) {
        reply_error(reply, "ERR value is not a valid float");
        return;
    }
    value += by;
    if (!isfinite(value)) {
        reply_error(reply, "ERR increment would produce NaN or Infinity");
        return;
    }
    char text[NUMBER_TEXT_BYTES_MAX];
    size_t len = number_format_real(value, text);
    replace_value(store, argv[1], key, text, len);
    reply_bulk(reply, text, len);
}
