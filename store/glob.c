/* Every element of a pattern but `*` takes exactly one byte, so when a match fails it is enough to give one more byte
 * to the latest `*`: an earlier one could only take bytes that the later one can take as well. Hence no recursion, and
 * a bound of pattern times text steps. */
#include "store/glob.h"

#include <stdint.h>

/* Bytes compare as signed numbers in ranges: that is what redis-server does on the platforms where char is signed, and
 * doing it explicitly gives the same answer on all. */
static bool range_has(int8_t low, int8_t high, int8_t byte)
{
    if (low > high) {
        int8_t other = low;
        low = high;
        high = other;
    }
    return byte >= low && byte <= high;
}

/* A set that begins at `[`: is `byte` in it? *end gets the position behind the set. */
static bool set_has(const char *pattern, size_t len, size_t *end, char byte)
{
    size_t at = 1;
    bool inverted = at < len && pattern[at] == '^';
    if (inverted) {
        at++;
    }
    bool found = false;
    while (at < len) {
        size_t left = len - at;
        if (pattern[at] == '\\' && left >= 2) {
            found |= pattern[at + 1] == byte;
            at += 2;
        } else if (pattern[at] == ']') {
            at++;
            break;
        } else if (left >= 3 && pattern[at + 1] == '-') {
            found |= range_has((int8_t)pattern[at], (int8_t)pattern[at + 2], (int8_t)byte);
            at += 3;
        } else {
            found |= pattern[at] == byte;
            at++;
        }
    }
    *end = at;
    return found != inverted;
}

/* One element other than `*` at the start of the pattern: does `byte` match it? *end gets its length. */
static bool element_matches(const char *pattern, size_t len, size_t *end, char byte)
{
    switch (pattern[0]) {
    case '?':
        *end = 1;
        return true;
    case '[':
        return set_has(pattern, len, end, byte);
    case '\\':
        if (len >= 2) {
            *end = 2;
            return pattern[1] == byte;
        }
        *end = 1;
        return byte == '\\';
    default:
        *end = 1;
        return pattern[0] == byte;
    }
}

bool glob_match(struct iovec pattern, struct iovec text)
{
    const char *p = pattern.iov_base;
    const char *t = text.iov_base;
    size_t p_len = pattern.iov_len, t_len = text.iov_len;
    size_t p_at = 0, t_at = 0;
    size_t star = SIZE_MAX, star_text = 0; /* behind the latest star; where its run ends at present */

    if (t_len == 0) {
        return p_len == 0; /* an empty text matches the empty pattern alone, not even a star: as in Redis */
    }
    while (t_at < t_len) {
        if (p_at < p_len && p[p_at] == '*') {
            star = ++p_at;
            star_text = t_at;
            if (p_at == p_len) {
                return true;
            }
            continue;
        }
        size_t length = 0;
        if (p_at < p_len && element_matches(p + p_at, p_len - p_at, &length, t[t_at])) {
            p_at += length;
            t_at++;
            continue;
        }
        if (star == SIZE_MAX) {
            return false;
        }
        p_at = star;
        t_at = ++star_text;
    }
    while (p_at < p_len && p[p_at] == '*') {
        p_at++;
    }
    return p_at == p_len;
}
