#include "store/expiry.h"

#include <assert.h>

#include "store/family.h"

static bool in_seconds(enum expiry_unit unit)
{
    return unit == EXPIRY_EX || unit == EXPIRY_EXAT;
}

static bool is_relative(enum expiry_unit unit)
{
    return unit == EXPIRY_EX || unit == EXPIRY_PX;
}

static int64_t time_now(const struct store *store)
{
    uint64_t now = store_time_ms(store);
    assert(now <= INT64_MAX);
    return (int64_t)now;
}

static bool refuse(const char *command, struct store_reply *reply)
{
    reply_error(reply, "ERR invalid expire time in '%s' command", command);
    return false;
}

bool expiry_passed(const struct store *store, int64_t deadline_ms)
{
    return deadline_ms <= time_now(store);
}

bool expiry_parse_signed(const struct store *store, struct iovec arg, enum expiry_unit unit, const char *command,
                         int64_t *deadline_ms, struct store_reply *reply)
{
    assert(unit != EXPIRY_NONE);
    int64_t value = 0;
    if (!arg_integer(arg, &value)) {
        reply_not_integer(reply);
        return false;
    }
    if (in_seconds(unit) && __builtin_mul_overflow(value, INT64_C(1000), &value)) {
        return refuse(command, reply);
    }
    if (is_relative(unit) && __builtin_add_overflow(value, time_now(store), &value)) {
        return refuse(command, reply);
    }
    *deadline_ms = value;
    return true;
}

bool expiry_parse(const struct store *store, struct iovec arg, enum expiry_unit unit, const char *command,
                  int64_t *deadline_ms, struct store_reply *reply)
{
    int64_t value = 0;
    if (arg_integer(arg, &value) && value <= 0) {
        return refuse(command, reply);
    }
    return expiry_parse_signed(store, arg, unit, command, deadline_ms, reply);
}
