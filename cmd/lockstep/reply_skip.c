#include "cmd/lockstep/reply_skip.h"

#include <assert.h>
#include <string.h>

#define ELEMENTS_MAX (UINT64_C(1) << 40)
#define BULK_MAX (INT64_C(1) << 40)

void reply_skip_init(struct reply_skip *skip)
{
    memset(skip, 0, sizeof(*skip));
}

static bool number_parse(const char *text, size_t len, int64_t *number)
{
    bool negative = len > 0 && text[0] == '-';
    size_t i = negative || (len > 0 && text[0] == '+') ? 1 : 0;
    if (i == len) {
        return false;
    }
    int64_t value = 0;
    for (; i < len; i++) {
        int digit = text[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digit, &value)) {
            return false; /* built up as a negative number, which has one more value */
        }
    }
    if (!negative && value == INT64_MIN) {
        return false;
    }
    *number = negative ? value : -value;
    return true;
}

static void text_keep(struct reply_skip *skip, const char *text, size_t len)
{
    size_t kept = len < REPLY_SKIP_TEXT_MAX - 1 ? len : REPLY_SKIP_TEXT_MAX - 1;
    memcpy(skip->text, text, kept);
    skip->text[kept] = '\0';
}

/* Count the elements that a header line announces. False: nonsense. */
static bool aggregate_begin(struct reply_skip *skip, char type, int64_t n)
{
    uint64_t per_item = type == '%' || type == '|' ? 2 : 1;
    if (n < -1 || n > (int64_t)(ELEMENTS_MAX / 2) || skip->elements_left > ELEMENTS_MAX) {
        return false;
    }
    skip->elements_left += n > 0 ? (uint64_t)n * per_item : 0;
    if (type != '|') { /* attributes come before an element and are none themselves */
        skip->elements_left--;
    }
    return true;
}

/* One line without its CR LF. False: not RESP. */
static bool line_take(struct reply_skip *skip, const char *line, size_t len)
{
    if (len == 0) {
        return false;
    }
    char type = line[0];
    int64_t n = 0;
    bool outermost = !skip->begun && type != '|';
    if (outermost) {
        skip->begun = true;
        skip->type = type;
        skip->is_null = type == '_';
    }
    switch (type) {
    case '-':
        if (outermost) {
            text_keep(skip, line + 1, len - 1);
        }
        skip->elements_left--;
        return true;
    case ':':
        if (!number_parse(line + 1, len - 1, &n)) {
            return false;
        }
        if (outermost) {
            skip->integer = n;
        }
        skip->elements_left--;
        return true;
    case '+':
    case '_':
    case '#':
    case ',':
    case '(':
        skip->elements_left--;
        return true;
    case '$':
    case '=':
    case '!':
        if (!number_parse(line + 1, len - 1, &n) || n < -1 || n > BULK_MAX) {
            return false;
        }
        skip->is_null = skip->is_null || (outermost && n < 0);
        if (outermost && type == '!') {
            text_keep(skip, "(a long error)", strlen("(a long error)"));
        }
        if (n < 0) {
            skip->elements_left--;
        } else {
            skip->bulk_left = (uint64_t)n + 2;
        }
        return true;
    case '*':
    case '~':
    case '>':
    case '%':
    case '|':
        if (!number_parse(line + 1, len - 1, &n)) {
            return false;
        }
        skip->is_null = skip->is_null || (outermost && n < 0);
        return aggregate_begin(skip, type, n);
    default:
        return false;
    }
}

/* Take bytes of a line. Returns how many; false in *ok if it is not RESP. */
static size_t line_feed(struct reply_skip *skip, const char *data, size_t len, bool *ok)
{
    const char *end = memchr(data, '\n', len);
    size_t taken = end == NULL ? len : (size_t)(end - data) + 1;
    const char *line = data;
    size_t line_len = taken;
    if (end == NULL || skip->line_len > 0) {
        size_t room = sizeof(skip->line) - skip->line_len;
        size_t kept = taken < room ? taken : room; /* a longer line can only be a text: its rest doesn't matter */
        memcpy(skip->line + skip->line_len, data, kept);
        skip->line_len += kept;
        line = skip->line;
        line_len = skip->line_len;
        if (end == NULL) {
            return taken;
        }
        skip->line_len = 0;
    }
    while (line_len > 0 && (line[line_len - 1] == '\n' || line[line_len - 1] == '\r')) {
        line_len--;
    }
    *ok = line_take(skip, line, line_len);
    return taken;
}

size_t reply_skip_feed(struct reply_skip *skip, const char *data, size_t len, enum reply_skip_event *event)
{
    if (skip->elements_left == 0) {
        skip->elements_left = 1;
        skip->begun = false;
    }
    size_t at = 0;
    while (at < len) {
        if (skip->bulk_left > 0) {
            size_t taken = len - at < skip->bulk_left ? len - at : (size_t)skip->bulk_left;
            skip->bulk_left -= taken;
            at += taken;
            skip->elements_left -= skip->bulk_left == 0 ? 1 : 0;
        } else {
            bool ok = true;
            at += line_feed(skip, data + at, len - at, &ok);
            if (!ok) {
                *event = REPLY_SKIP_BAD;
                return at;
            }
        }
        if (skip->elements_left == 0) {
            *event = REPLY_SKIP_DONE;
            return at;
        }
    }
    *event = REPLY_SKIP_MORE;
    return at;
}
