#include "store/family.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void reply_status(struct store_reply *r, const char *text)
{
    if (r != NULL) {
        r->ops->status(r, text);
    }
}

void reply_ok(struct store_reply *r)
{
    reply_status(r, "OK");
}

void reply_error(struct store_reply *r, const char *format, ...)
{
    if (r == NULL) {
        return;
    }
    /* Longer texts are cut: an error line quotes at most a word of the client's. */
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) {
        n = 0;
    }
    size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    r->ops->error(r, text, len);
}

void reply_integer(struct store_reply *r, int64_t value)
{
    if (r != NULL) {
        r->ops->integer(r, value);
    }
}

void reply_bulk(struct store_reply *r, const void *data, size_t len)
{
    if (r != NULL) {
        r->ops->bulk(r, data, len);
    }
}

void reply_null(struct store_reply *r)
{
    if (r != NULL) {
        r->ops->null(r);
    }
}

void reply_null_array(struct store_reply *r)
{
    if (r != NULL) {
        r->ops->null_array(r);
    }
}

void reply_array(struct store_reply *r, size_t n)
{
    if (r != NULL) {
        r->ops->array(r, n);
    }
}

void reply_wrong_type(struct store_reply *r)
{
    reply_error(r, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

void reply_syntax_error(struct store_reply *r)
{
    reply_error(r, "ERR syntax error");
}

void reply_not_integer(struct store_reply *r)
{
    reply_error(r, "ERR value is not an integer or out of range");
}

bool arg_integer(struct iovec arg, int64_t *value)
{
    const char *text = arg.iov_base;
    size_t len = arg.iov_len;
    bool negative = len > 0 && text[0] == '-';
    size_t i = negative ? 1 : 0;
    /* 19 digits and a sign are the longest there is. */
    if (i >= len || len - i > 19) {
        return false;
    }
    if (text[i] == '0') {
        if (len != 1) {
            return false; /* "-0" and leading zeros are not numbers to Redis */
        }
        *value = 0;
        return true;
    }
    uint64_t magnitude = 0;
    for (; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        /* 19 digits are below 10^19, which fits. */
        magnitude = magnitude * 10 + (uint64_t)(text[i] - '0');
    }
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return false;
    }
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool arg_is(struct iovec arg, const char *word)
{
    return strlen(word) == arg.iov_len && strncasecmp(arg.iov_base, word, arg.iov_len) == 0;
}
