#include "net/resp.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A type byte, 20 digits and sign, CRLF. */
#define NUMBER_LINE_MAX 24u

static const char digit_pairs[201] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                     "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                     "8081828384858687888990919293949596979899";

/* Writes the decimal digits of `value` and returns the byte behind them. */
static char *unsigned_put(char *to, uint64_t value)
{
    char digits[20];
    unsigned at = sizeof(digits);
    if (value < 10) {
        *to = (char)('0' + value);
        return to + 1;
    }
    while (value >= 100) {
        at -= 2;
        memcpy(digits + at, digit_pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        at -= 2;
        memcpy(digits + at, digit_pairs + 2 * value, 2);
    } else {
        digits[--at] = (char)('0' + value);
    }
    memcpy(to, digits + at, sizeof(digits) - at);
    return to + (sizeof(digits) - at);
}

static char *crlf_put(char *to)
{
    to[0] = '\r';
    to[1] = '\n';
    return to + 2;
}

/* "<type><value>\r\n" */
static void header_write(struct resp_buffer *b, char type, uint64_t value)
{
    char *to = resp_buffer_reserve(b, NUMBER_LINE_MAX);
    if (to == NULL)
        return;
    char *p = to;
    *p++ = type;
    p = crlf_put(unsigned_put(p, value));
    assert(p <= to + NUMBER_LINE_MAX);
    b->len += (size_t)(p - to);
}

void resp_write_status(struct resp_buffer *b, const char *text)
{
    size_t len = strlen(text);
    char *to = resp_buffer_reserve(b, len + 3);
    if (to == NULL)
        return;
    to[0] = '+';
    memcpy(to + 1, text, len); /* NOLINT(bugprone-not-null-terminated-result) */
    crlf_put(to + 1 + len);
    b->len += len + 3;
}

void resp_write_error(struct resp_buffer *b, const char *text, size_t len)
{
    char *to = resp_buffer_reserve(b, len + 3);
    if (to == NULL)
        return;
    to[0] = '-';
    for (size_t i = 0; i < len; i++)
        to[1 + i] = text[i] == '\r' || text[i] == '\n' ? ' ' : text[i];
    crlf_put(to + 1 + len);
    b->len += len + 3;
}

void resp_write_integer(struct resp_buffer *b, int64_t value)
{
    if (value >= 0) {
        header_write(b, ':', (uint64_t)value);
        return;
    }
    char *to = resp_buffer_reserve(b, NUMBER_LINE_MAX);
    if (to == NULL)
        return;
    to[0] = ':';
    to[1] = '-';
    char *p = crlf_put(unsigned_put(to + 2, ~(uint64_t)value + 1));
    b->len += (size_t)(p - to);
}

void resp_write_bulk(struct resp_buffer *b, const void *data, size_t len)
{
    char *to = resp_buffer_reserve(b, len + NUMBER_LINE_MAX + 2);
    if (to == NULL)
        return;
    char *p = to;
    *p++ = '$';
    p = crlf_put(unsigned_put(p, len));
    if (len > 0)
        memcpy(p, data, len);
    p = crlf_put(p + len);
    b->len += (size_t)(p - to);
}

void resp_write_null(struct resp_buffer *b, int proto)
{
    if (proto >= 3)
        resp_buffer_append(b, "_\r\n", 3);
    else
        resp_buffer_append(b, "$-1\r\n", 5);
}

void resp_write_null_array(struct resp_buffer *b, int proto)
{
    if (proto >= 3)
        resp_buffer_append(b, "_\r\n", 3);
    else
        resp_buffer_append(b, "*-1\r\n", 5);
}

void resp_write_array(struct resp_buffer *b, size_t n)
{
    header_write(b, '*', n);
}

void resp_write_map(struct resp_buffer *b, int proto, size_t n)
{
    if (proto >= 3)
        header_write(b, '%', n);
    else
        header_write(b, '*', 2 * n);
}

void resp_write_set(struct resp_buffer *b, int proto, size_t n)
{
    header_write(b, proto >= 3 ? '~' : '*', n);
}

/* Seventeen significant digits, as Redis 7.0 prints doubles in both protocols. */
void resp_write_real(struct resp_buffer *b, int proto, double value)
{
    char text[64];
    int len;
    if (isnan(value))
        len = snprintf(text, sizeof(text), "nan");
    else if (isinf(value))
        len = snprintf(text, sizeof(text), "%s", value > 0 ? "inf" : "-inf");
    else
        len = snprintf(text, sizeof(text), "%.17g", value);
    assert(len > 0);
    assert((size_t)len < sizeof(text));
    if (proto < 3) {
        resp_write_bulk(b, text, (size_t)len);
        return;
    }
    char *to = resp_buffer_reserve(b, (size_t)len + 3);
    if (to == NULL)
        return;
    to[0] = ',';
    memcpy(to + 1, text, (size_t)len);
    crlf_put(to + 1 + len);
    b->len += (size_t)len + 3;
}

void resp_write_bool(struct resp_buffer *b, int proto, bool value)
{
    if (proto >= 3)
        resp_buffer_append(b, value ? "#t\r\n" : "#f\r\n", 4);
    else
        resp_write_integer(b, value ? 1 : 0);
}

void resp_write_verbatim(struct resp_buffer *b, int proto, const char *format3, const void *data, size_t len)
{
    if (proto < 3) {
        resp_write_bulk(b, data, len);
        return;
    }
    assert(strlen(format3) == 3);
    char *to = resp_buffer_reserve(b, len + NUMBER_LINE_MAX + 6);
    if (to == NULL)
        return;
    char *p = to;
    *p++ = '=';
    p = crlf_put(unsigned_put(p, (uint64_t)len + 4));
    memcpy(p, format3, 3);
    p[3] = ':';
    p += 4;
    if (len > 0)
        memcpy(p, data, len);
    p = crlf_put(p + len);
    b->len += (size_t)(p - to);
}
