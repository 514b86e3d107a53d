/* The C library's conversions follow the thread's locale (a decimal comma would make replicas differ), so each call
 * here runs in the "C" locale, which newlocale gives without allocating.
 *
 * long double is the 80-bit format on x86-64 and another one elsewhere: sums may differ in the last digit between
 * architectures, so replicas of one cluster run on one architecture. */
#include "store/number.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static locale_t c_locale_enter(locale_t *previous)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    assert(c != (locale_t)0);
    *previous = uselocale(c);
    return c;
}

static void c_locale_leave(locale_t c, locale_t previous)
{
    uselocale(previous);
    freelocale(c);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool number_parse_real(struct iovec text, long double *value)
{
    char copy[NUMBER_TEXT_BYTES_MAX];
    if (text.iov_len == 0 || text.iov_len >= sizeof copy) {
        return false;
    }
    memcpy(copy, text.iov_base, text.iov_len);
    copy[text.iov_len] = '\0';
    if (is_space(copy[0])) {
        return false;
    }

    locale_t previous;
    locale_t c = c_locale_enter(&previous);
    char *end = NULL;
    errno = 0;
    long double parsed = strtold(copy, &end);
    int error = errno;
    c_locale_leave(c, previous);

    if ((size_t)(end - copy) != text.iov_len || error == EINVAL || isnan(parsed)) {
        return false;
    }
    /* ERANGE with another value is a denormal: rounded, but a number. */
    if (error == ERANGE && (isinf(parsed) || fpclassify(parsed) == FP_ZERO)) {
        return false;
    }
    *value = parsed;
    return true;
}

size_t number_format_real(long double value, char *text)
{
    assert(isfinite(value));
    locale_t previous;
    locale_t c = c_locale_enter(&previous);
    int written = snprintf(text, NUMBER_TEXT_BYTES_MAX, "%.17Lf", value);
    c_locale_leave(c, previous);
    assert(written > 0);
    assert((size_t)written < NUMBER_TEXT_BYTES_MAX);

    size_t len = (size_t)written;
    while (text[len - 1] == '0') { /* stops at the point at the latest: there always is one */
        len--;
    }
    if (text[len - 1] == '.') {
        len--;
    }
    if (len == 2 && text[0] == '-' && text[1] == '0') {
        text[0] = '0';
        len = 1;
    }
    return len;
}

size_t number_format_integer(int64_t value, char *text)
{
    int written = snprintf(text, NUMBER_INTEGER_BYTES_MAX, "%" PRId64, value);
    assert(written > 0);
    assert((size_t)written < NUMBER_INTEGER_BYTES_MAX);
    return (size_t)written;
}
