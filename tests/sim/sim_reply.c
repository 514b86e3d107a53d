#include "tests/sim/sim_reply.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static void add(struct store_reply *base, enum sim_value_type type, int64_t integer, const void *bytes, size_t len)
{
    struct sim_reply *reply = (struct sim_reply *)(void *)base;
    const int64_t head[2] = {(int64_t)type, integer};

    reply->hash = XXH3_64bits_withSeed(head, sizeof head, reply->hash);
    reply->hash = len == 0 ? reply->hash : XXH3_64bits_withSeed(bytes, len, reply->hash);
    if (reply->n == SIM_REPLY_VALUES_MAX) {
        return;
    }
    if (reply->len + len + 1 > reply->capacity) {
        reply->capacity = 2 * (reply->len + len + 1);
        reply->bytes = realloc(reply->bytes, reply->capacity);
        assert(reply->bytes != NULL);
    }
    reply->values[reply->n++] = (struct sim_value){type, integer, reply->len, len};
    if (len > 0) {
        memcpy(reply->bytes + reply->len, bytes, len);
    }
    reply->bytes[reply->len + len] = 0;
    reply->len += len + 1;
}

static void reply_status_text(struct store_reply *r, const char *text)
{
    add(r, SIM_VALUE_STATUS, 0, text, strlen(text));
}

static void reply_error_text(struct store_reply *r, const char *text, size_t len)
{
    add(r, SIM_VALUE_ERROR, 0, text, len);
}

static void reply_int(struct store_reply *r, int64_t value)
{
    add(r, SIM_VALUE_INTEGER, value, NULL, 0);
}

static void reply_bytes(struct store_reply *r, const void *data, size_t len)
{
    add(r, SIM_VALUE_BULK, 0, data, len);
}

static void reply_nil(struct store_reply *r)
{
    add(r, SIM_VALUE_NIL, 0, NULL, 0);
}

static void reply_list(struct store_reply *r, size_t n)
{
    add(r, SIM_VALUE_ARRAY, (int64_t)n, NULL, 0);
}

static void reply_double(struct store_reply *r, double value)
{
    add(r, SIM_VALUE_BULK, 1, &value, sizeof value);
}

static const struct store_reply_ops ops = {
    .status = reply_status_text,
    .error = reply_error_text,
    .integer = reply_int,
    .bulk = reply_bytes,
    .null = reply_nil,
    .null_array = reply_nil,
    .array = reply_list,
    .map = reply_list,
    .set = reply_list,
    .real = reply_double,
};

void sim_reply_init(struct sim_reply *reply)
{
    memset(reply, 0, sizeof *reply);
    reply->base.ops = &ops;
}

void sim_reply_reset(struct sim_reply *reply)
{
    reply->n = 0;
    reply->len = 0;
    reply->hash = 0;
}

void sim_reply_fini(struct sim_reply *reply)
{
    free(reply->bytes);
    memset(reply, 0, sizeof *reply);
}

const char *sim_reply_bytes(const struct sim_reply *reply, unsigned i)
{
    assert(i < reply->n);
    return reply->bytes + reply->values[i].offset;
}
