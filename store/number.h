/* Inside store/: decimal text to and from numbers that are not plain integers. Pure; independent of the locale; any
 * thread. */
#ifndef LOCKSTEP_NUMBER_H
#define LOCKSTEP_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Longest text that is read or written, with its terminating zero: the largest 80-bit number has 4,933 digits. */
#define NUMBER_TEXT_BYTES_MAX (5u * 1024)
/* Longest text of a 64-bit integer, with its terminating zero. */
#define NUMBER_INTEGER_BYTES_MAX 21u

/* All of `text` as a long double, with Redis's rules: no leading space, no NaN, "inf" and hexadecimal are numbers; out
 * of range is refused. */
bool number_parse_real(struct iovec text, long double *value);

/* As INCRBYFLOAT shows it: up to 17 digits behind the point, no exponent, no trailing zeros. The value must be finite.
 * Returns the length; `text` holds NUMBER_TEXT_BYTES_MAX bytes. */
size_t number_format_real(long double value, char *text);

/* Decimal digits of `value`; `text` holds NUMBER_INTEGER_BYTES_MAX bytes. Returns the length. */
size_t number_format_integer(int64_t value, char *text);

#endif
