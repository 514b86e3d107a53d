/* The incremental request reader.
 *
 * Bytes lie in one contiguous buffer, the reader's own or a lent one:
 *
 *     data     start            cursor            end        capacity
 *      | consumed | this request   | not yet parsed | room        |
 *
 * Arguments are slices of that buffer. Parsing goes on at `cursor` when more bytes come and never looks again at what
 * lies before it, so a request costs the same however it is split. While an argument is awaited, `bulk` is its
 * announced length; the buffer then grows to exactly the end of that argument, but at most doubles what has really
 * arrived, so that an announcement alone costs no memory. The buffer moves only in space, lend and settle, where the
 * slices found so far are moved along. */
#include "net/resp.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGV_FEW 8u
/* An idle reader keeps an argument vector up to this many entries (4 KiB). */
#define ARGV_KEEP_MAX 256u
/* Announced arguments from this size on get a buffer that ends where they end. */
#define BULK_EXACT_MIN (32u * 1024)

/* Whatever the configuration says. */
#define ARGS_LIMIT (1u << 27)

#define NO_BULK (-1)

struct resp_reader {
    struct resp_limits limits;
    char *data;
    size_t start, cursor, end, capacity;
    int64_t bulk;       /* length of the argument awaited, or NO_BULK: its header comes next */
    uint32_t args_left; /* of the request being parsed; 0 between requests */
    unsigned argc, argv_capacity;
    struct iovec *argv; /* argv_few or from the heap */
    bool lent;
    bool complete; /* argv is lent out: the next call ends that */
    bool broken;   /* protocol error */
    char error[80];
    struct iovec argv_few[ARGV_FEW];
};

static void limits_default(struct resp_limits *limits)
{
    if (limits->args_max == 0)
        limits->args_max = 1024 * 1024;
    if (limits->bulk_bytes_max == 0)
        limits->bulk_bytes_max = 512u * 1024 * 1024;
    if (limits->inline_bytes_max == 0)
        limits->inline_bytes_max = 64 * 1024;
    if (limits->query_bytes_max == 0)
        limits->query_bytes_max = 1024u * 1024 * 1024;
    if (limits->args_max > ARGS_LIMIT)
        limits->args_max = ARGS_LIMIT;
    if (limits->bulk_bytes_max > INT64_MAX / 4)
        limits->bulk_bytes_max = INT64_MAX / 4;
}

struct resp_reader *resp_reader_new(const struct resp_limits *limits)
{
    struct resp_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return NULL;
    reader->limits = *limits;
    limits_default(&reader->limits);
    reader->bulk = NO_BULK;
    reader->argv = reader->argv_few;
    reader->argv_capacity = ARGV_FEW;
    return reader;
}

void resp_reader_free(struct resp_reader *reader)
{
    if (reader == NULL)
        return;
    if (!reader->lent)
        free(reader->data);
    if (reader->argv != reader->argv_few)
        free(reader->argv);
    free(reader);
}

/* --- The buffer ------------------------------------------------------------------------------------------------- */

static void request_release(struct resp_reader *r)
{
    if (!r->complete)
        return;
    r->complete = false;
    r->argc = 0;
}

/* The slices found so far follow their bytes, which moved from `from` to `to`. The old address is only compared with
 * slices into it, never read. */
static void slices_move(struct resp_reader *r, uintptr_t from, char *to)
{
    for (unsigned i = 0; i < r->argc; i++)
        r->argv[i].iov_base = to + ((uintptr_t)r->argv[i].iov_base - from);
}

static void offsets_rebase(struct resp_reader *r)
{
    r->cursor -= r->start;
    r->end -= r->start;
    r->start = 0;
}

static void buffer_compact(struct resp_reader *r)
{
    if (r->start == 0)
        return;
    slices_move(r, (uintptr_t)(r->data + r->start), r->data);
    memmove(r->data, r->data + r->start, r->end - r->start);
    offsets_rebase(r);
}

/* Bytes still missing at the end of a large argument, or 0: not known, or not large. */
static size_t bulk_missing(const struct resp_reader *r)
{
    const size_t end = r->cursor + (size_t)(r->bulk + 2);
    return r->bulk >= BULK_EXACT_MIN && end > r->end ? end - r->end : 0;
}

/* Size to give a buffer that holds `held` bytes and shall take at least `want` more: twice what is held, or just to the
 * end of a large argument. */
static size_t buffer_goal(const struct resp_reader *r, size_t held, size_t want)
{
    const size_t missing = bulk_missing(r);
    const size_t more = held > want ? held : want;
    return held + (missing > 0 && missing < more ? missing : more);
}

enum resp_status resp_reader_space(struct resp_reader *r, size_t want, char **space, size_t *len)
{
    request_release(r);
    if (r->lent && resp_reader_settle(r) != RESP_OK)
        return RESP_NO_MEMORY;
    const size_t held = r->end - r->start;
    const size_t missing = bulk_missing(r);
    if (want == 0)
        want = 1;
    const size_t need = missing > 0 && missing < want ? missing : want;
    if (r->capacity - r->end < need)
        buffer_compact(r);
    if (r->capacity - r->end < need) {
        const size_t goal = buffer_goal(r, held, want);
        const uintptr_t from = (uintptr_t)r->data;
        char *data = realloc(r->data, goal);
        if (data == NULL)
            return RESP_NO_MEMORY;
        if ((uintptr_t)data != from)
            slices_move(r, from, data);
        r->data = data;
        r->capacity = goal;
    }
    *space = r->data + r->end;
    *len = r->capacity - r->end;
    assert(*len > 0);
    return RESP_OK;
}

void resp_reader_fed(struct resp_reader *r, size_t len)
{
    assert(len <= r->capacity - r->end);
    r->end += len;
}

bool resp_reader_lend(struct resp_reader *r, char *buffer, size_t capacity, char **space, size_t *len)
{
    assert(!r->lent);
    request_release(r);
    const size_t held = r->end - r->start;
    if (held > capacity / 4 || (r->bulk >= BULK_EXACT_MIN && (size_t)r->bulk > capacity / 2))
        return false;
    if (held > 0) {
        memcpy(buffer, r->data + r->start, held);
        slices_move(r, (uintptr_t)(r->data + r->start), buffer);
    }
    free(r->data);
    offsets_rebase(r);
    r->data = buffer;
    r->capacity = capacity;
    r->lent = true;
    *space = buffer + r->end;
    *len = capacity - r->end;
    return true;
}

/* Nothing is buffered: hold no memory that an idle connection does not need. */
static void buffer_drop(struct resp_reader *r)
{
    if (!r->lent)
        free(r->data);
    r->data = NULL;
    r->lent = false;
    r->start = r->cursor = r->end = r->capacity = 0;
    if (r->argv_capacity > ARGV_KEEP_MAX) {
        free(r->argv);
        r->argv = r->argv_few;
        r->argv_capacity = ARGV_FEW;
    }
}

enum resp_status resp_reader_settle(struct resp_reader *r)
{
    request_release(r);
    const size_t held = r->end - r->start;
    if (held == 0) {
        buffer_drop(r);
        return RESP_OK;
    }
    if (!r->lent)
        return RESP_OK;
    const size_t goal = bulk_missing(r) > 0 ? buffer_goal(r, held, 1) : held;
    char *data = malloc(goal);
    if (data == NULL)
        return RESP_NO_MEMORY;
    memcpy(data, r->data + r->start, held);
    slices_move(r, (uintptr_t)(r->data + r->start), data);
    offsets_rebase(r);
    r->data = data;
    r->capacity = goal;
    r->lent = false;
    return RESP_OK;
}

/* --- Parsing ---------------------------------------------------------------------------------------------------- */

static enum resp_status reader_fail(struct resp_reader *r, const char *what)
{
    r->broken = true;
    snprintf(r->error, sizeof(r->error), "ERR Protocol error: %s", what);
    return RESP_ERROR;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A decimal as Redis takes it: an optional minus, no plus, no spaces, no leading zeros. */
static bool number_parse(const char *p, size_t len, int64_t *value)
{
    const bool negative = len > 0 && *p == '-';
    if (negative) {
        p++;
        len--;
    }
    if (len == 0 || len > 19 || !is_digit(*p))
        return false;
    if (*p == '0') {
        *value = 0;
        return len == 1 && !negative;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(p[i]))
            return false;
        sum = sum * 10 + (uint64_t)(p[i] - '0');
    }
    if (sum > INT64_MAX)
        return false;
    *value = negative ? -(int64_t)sum : (int64_t)sum;
    return true;
}

/* Takes the line "<type byte><number>\r\n" at *p. RESP_OK: *valid and *value say what it holds, *p is behind it. As in
 * Redis, the byte after CR is not looked at. */
static enum resp_status number_line(struct resp_reader *r, const char **p, bool *valid, int64_t *value,
                                    const char *too_big)
{
    const char *const end = r->data + r->end;
    const char *const line = *p;
    const char *const cr = memchr(line, '\r', (size_t)(end - line));
    if ((size_t)((cr != NULL ? cr : end) - line) > r->limits.inline_bytes_max)
        return reader_fail(r, too_big);
    if (cr == NULL || end - cr < 2)
        return RESP_AGAIN;
    *valid = number_parse(line + 1, (size_t)(cr - line - 1), value);
    *p = cr + 2;
    return RESP_OK;
}

/* "$<length>\r\n" in the shapes that the fast path does not take. */
static enum resp_status bulk_header(struct resp_reader *r, const char **p, int64_t *bulk)
{
    const char *const line = *p;
    bool valid = false;
    int64_t value = 0;
    if (line == r->data + r->end)
        return RESP_AGAIN;
    const enum resp_status status = number_line(r, p, &valid, &value, "too big bulk count string");
    if (status != RESP_OK)
        return status;
    if (*line != '$') {
        char what[] = "expected '$', got '?'";
        what[sizeof(what) - 3] = *line;
        return reader_fail(r, what);
    }
    if (!valid || value < 0 || (uint64_t)value > r->limits.bulk_bytes_max)
        return reader_fail(r, "invalid bulk length");
    const size_t taken = (size_t)(*p - r->data) - r->start;
    if (taken + (uint64_t)value + 2 > r->limits.query_bytes_max)
        return reader_fail(r, "request exceeds the query buffer limit");
    *bulk = value;
    return RESP_OK;
}

static bool argv_grow(struct resp_reader *r)
{
    const unsigned capacity = r->argv_capacity * 4;
    const bool few = r->argv == r->argv_few;
    assert(capacity > r->argv_capacity);
    struct iovec *argv = realloc(few ? NULL : r->argv, capacity * sizeof(*argv));
    if (argv == NULL)
        return false;
    if (few)
        memcpy(argv, r->argv_few, sizeof(r->argv_few));
    r->argv = argv;
    r->argv_capacity = capacity;
    return true;
}

/* The arguments of a multibulk request, from the cursor on. The hot loop of the server: a header of one or two digits
 * is taken without a search. */
static enum resp_status reader_args(struct resp_reader *r)
{
    const char *p = r->data + r->cursor;
    const char *const end = r->data + r->end;
    enum resp_status status = RESP_OK;
    int64_t bulk = r->bulk;
    while (r->args_left > 0) {
        if (bulk == NO_BULK) {
            const size_t left = (size_t)(end - p);
            const char *const header = p;
            if (left >= 4 && p[0] == '$' && is_digit(p[1]) && p[2] == '\r') {
                bulk = p[1] - '0';
                p += 4;
            } else if (left >= 5 && p[0] == '$' && p[1] != '0' && is_digit(p[1]) && is_digit(p[2]) && p[3] == '\r') {
                bulk = (p[1] - '0') * 10 + (p[2] - '0');
                p += 5;
            }
            const bool checked = bulk != NO_BULK && r->limits.bulk_bytes_max >= 99 &&
                                 (size_t)(p - r->data) - r->start + 128 <= r->limits.query_bytes_max;
            if (!checked) {
                bulk = NO_BULK;
                p = header;
                status = bulk_header(r, &p, &bulk);
                if (status != RESP_OK)
                    break;
            }
        }
        if (end - p < bulk + 2) {
            status = RESP_AGAIN;
            break;
        }
        if (r->argc == r->argv_capacity && !argv_grow(r)) {
            status = RESP_NO_MEMORY;
            break;
        }
        r->argv[r->argc].iov_base = (void *)(uintptr_t)p;
        r->argv[r->argc].iov_len = (size_t)bulk;
        r->argc++;
        r->args_left--;
        p += bulk + 2;
        bulk = NO_BULK;
    }
    r->cursor = (size_t)(p - r->data);
    r->bulk = bulk;
    return status;
}

/* "*<count>\r\n" at the cursor. */
static enum resp_status reader_count(struct resp_reader *r)
{
    const char *p = r->data + r->cursor;
    const size_t left = r->end - r->cursor;
    if (left >= 4 && p[1] > '0' && p[1] <= '9' && p[2] == '\r' && r->limits.args_max >= 9) {
        r->args_left = (uint32_t)(p[1] - '0');
        r->cursor += 4;
        return RESP_OK;
    }
    bool valid = false;
    int64_t value = 0;
    const enum resp_status status = number_line(r, &p, &valid, &value, "too big mbulk count string");
    if (status != RESP_OK)
        return status;
    if (!valid || value > (int64_t)r->limits.args_max)
        return reader_fail(r, "invalid multibulk length");
    r->cursor = (size_t)(p - r->data);
    r->args_left = value > 0 ? (uint32_t)value : 0;
    return RESP_OK;
}

/* --- Inline commands -------------------------------------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool ends_word(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* One escape inside double quotes, at the backslash *p; returns its byte and moves *p behind it. */
static char escape_take(const char **p, const char *end)
{
    const char *s = *p;
    if (end - s >= 4 && s[1] == 'x' && hex_value(s[2]) >= 0 && hex_value(s[3]) >= 0) {
        *p = s + 4;
        return (char)(hex_value(s[2]) * 16 + hex_value(s[3]));
    }
    *p = s + 2;
    switch (s[1]) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return s[1];
    }
}

/* A quoted part of a word, *p at the opening quote. Decodes to *to, which never overtakes *p. False: unbalanced. */
static bool quoted_take(const char **p, const char *end, char **to)
{
    const char quote = **p;
    const char *s = *p + 1;
    char *out = *to;
    for (;;) {
        if (s == end)
            return false;
        if (*s == quote)
            break;
        if (quote == '"' && *s == '\\' && end - s >= 2) {
            *out++ = escape_take(&s, end);
        } else if (quote == '\'' && *s == '\\' && end - s >= 2 && s[1] == '\'') {
            *out++ = '\'';
            s += 2;
        } else {
            *out++ = *s++;
        }
    }
    s++;
    if (s != end && !is_space(*s))
        return false;
    *p = s;
    *to = out;
    return true;
}

/* Splits the line into words by Redis's quoting rules, decoding in place: what a word decodes to is never longer. */
static enum resp_status line_split(struct resp_reader *r, char *line, size_t len)
{
    const char *p = line;
    const char *const end = line + len;
    char *to = line;
    for (;;) {
        while (p != end && is_space(*p))
            p++;
        if (p == end)
            return RESP_OK;
        if (r->argc == r->limits.args_max)
            return reader_fail(r, "invalid multibulk length");
        if (r->argc == r->argv_capacity && !argv_grow(r))
            return RESP_NO_MEMORY;
        char *const word = to;
        while (p != end && !ends_word(*p)) {
            if (*p != '"' && *p != '\'') {
                *to++ = *p++;
            } else if (!quoted_take(&p, end, &to)) {
                return reader_fail(r, "unbalanced quotes in request");
            } else {
                break;
            }
        }
        r->argv[r->argc].iov_base = word;
        r->argv[r->argc].iov_len = (size_t)(to - word);
        r->argc++;
    }
}

static enum resp_status reader_inline(struct resp_reader *r)
{
    char *const line = r->data + r->cursor;
    const size_t left = r->end - r->cursor;
    const char *const lf = memchr(line, '\n', left);
    const size_t len = lf != NULL ? (size_t)(lf - line) : left;
    if (len > r->limits.inline_bytes_max)
        return reader_fail(r, "too big inline request");
    if (lf == NULL)
        return RESP_AGAIN;
    const enum resp_status status = line_split(r, line, len > 0 && lf[-1] == '\r' ? len - 1 : len);
    if (status == RESP_OK)
        r->cursor += len + 1;
    else
        r->argc = 0;
    return status;
}

enum resp_status resp_reader_next(struct resp_reader *r, const struct iovec **argv, unsigned *argc)
{
    enum resp_status status = RESP_OK;
    request_release(r);
    if (r->broken)
        return RESP_ERROR;
    if (r->args_left == 0) {
        if (r->start == r->end) {
            r->start = r->cursor = r->end = 0;
            return RESP_AGAIN;
        }
        assert(r->cursor == r->start);
        status = r->data[r->cursor] == '*' ? reader_count(r) : reader_inline(r);
    }
    if (status == RESP_OK && r->args_left > 0)
        status = reader_args(r);
    if (status != RESP_OK)
        return status;
    r->start = r->cursor;
    r->complete = true;
    *argv = r->argv;
    *argc = r->argc;
    return RESP_OK;
}

const char *resp_reader_error(const struct resp_reader *r)
{
    return r->error;
}

size_t resp_reader_buffered(const struct resp_reader *r)
{
    return r->end - r->start;
}

size_t resp_reader_memory(const struct resp_reader *r)
{
    size_t bytes = sizeof(*r);
    if (!r->lent)
        bytes += r->capacity;
    if (r->argv != r->argv_few)
        bytes += r->argv_capacity * sizeof(*r->argv);
    return bytes;
}
