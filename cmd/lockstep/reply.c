#include "cmd/lockstep/reply.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- walking -------------------------------------------------------------------------------------------------------
 */

void reply_begin(struct reply_cursor *cursor, const char *data, size_t len)
{
    cursor->at = data;
    cursor->end = data + len;
}

static bool number_read(const char *text, size_t len, int64_t *number)
{
    char copy[32];
    char *end = NULL;
    if (len == 0 || len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    errno = 0;
    *number = strtoll(copy, &end, 10);
    return *end == '\0' && errno == 0;
}

bool reply_is_aggregate(const struct reply_item *item)
{
    return item->type == '*' || item->type == '%' || item->type == '~' || item->type == '>' || item->type == '|';
}

bool reply_is_error(const struct reply_item *item)
{
    return item->type == '-' || item->type == '!';
}

static bool bulk_read(struct reply_cursor *cursor, struct reply_item *item, int64_t len)
{
    if (len < 0) {
        item->is_null = true;
        return true;
    }
    if (cursor->end - cursor->at < 2 || len > cursor->end - cursor->at - 2) {
        return false;
    }
    item->text = cursor->at;
    item->len = (size_t)len;
    cursor->at += len + 2;
    if (item->type == '=' && item->len >= 4) { /* a verbatim string begins with its format: "txt:" */
        item->text += 4;
        item->len -= 4;
    }
    return true;
}

bool reply_next(struct reply_cursor *cursor, struct reply_item *item)
{
    const char *end = cursor->at == cursor->end ? NULL : memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
    if (end == NULL || end - cursor->at < 2 || end[-1] != '\r') {
        return false;
    }
    *item = (struct reply_item){.type = cursor->at[0], .text = cursor->at + 1, .len = (size_t)(end - cursor->at) - 2};
    cursor->at = end + 1;
    switch (item->type) {
    case '+':
    case '-':
    case '#':
    case ',':
    case '(':
        return true;
    case '_':
        item->is_null = true;
        return true;
    case ':':
        return number_read(item->text, item->len, &item->integer);
    case '$':
    case '=':
    case '!': {
        int64_t len = 0;
        return number_read(item->text, item->len, &len) && bulk_read(cursor, item, len);
    }
    case '*':
    case '~':
    case '>':
    case '%':
    case '|':
        if (!number_read(item->text, item->len, &item->integer) || item->integer > INT32_MAX) {
            return false;
        }
        item->is_null = item->integer < 0;
        item->integer = item->is_null ? 0 : item->integer * (item->type == '%' || item->type == '|' ? 2 : 1);
        return true;
    default:
        return false;
    }
}

bool reply_pass(struct reply_cursor *cursor, const struct reply_item *item)
{
    uint64_t left = reply_is_aggregate(item) ? (uint64_t)item->integer : 0;
    while (left > 0) {
        struct reply_item inner;
        if (!reply_next(cursor, &inner)) {
            return false;
        }
        left += reply_is_aggregate(&inner) ? (uint64_t)inner.integer : 0;
        left -= inner.type == '|' ? 0 : 1;
    }
    return true;
}

/* --- printing ------------------------------------------------------------------------------------------------------
 */

void reply_print_quoted(FILE *out, const char *text, size_t len)
{
    static const char plain[] = "\n\r\t\a\b\"\\";
    static const char escaped[] = "nrtab\"\\";
    putc('"', out);
    for (size_t i = 0; i < len; i++) {
        const char *known = text[i] == '\0' ? NULL : strchr(plain, text[i]);
        if (known != NULL) {
            fprintf(out, "\\%c", escaped[known - plain]);
        } else if (isprint((unsigned char)text[i])) {
            putc(text[i], out);
        } else {
            fprintf(out, "\\x%02x", (unsigned char)text[i]);
        }
    }
    putc('"', out);
}

/* An aggregate that is being printed. */
struct frame {
    int64_t items, done;
    int width;  /* of its item numbers */
    int indent; /* columns in front of the numbers */
    char type;
};

static void print_scalar(FILE *out, const struct reply_item *item)
{
    if (item->is_null) {
        fputs("(nil)", out);
        return;
    }
    switch (item->type) {
    case ':':
        fprintf(out, "(integer) %" PRId64, item->integer);
        break;
    case ',':
        fprintf(out, "(double) %.*s", (int)item->len, item->text);
        break;
    case '#':
        fputs(item->len > 0 && item->text[0] == 't' ? "(true)" : "(false)", out);
        break;
    case '(':
        fprintf(out, "(big number) %.*s", (int)item->len, item->text);
        break;
    case '-':
    case '!':
        fputs("(error) ", out);
        fwrite(item->text, 1, item->len, out);
        break;
    case '$':
        reply_print_quoted(out, item->text, item->len);
        break;
    default:
        fwrite(item->text, 1, item->len, out);
    }
}

static const char *empty_name(char type)
{
    switch (type) {
    case '%':
    case '|':
        return "(empty hash)";
    case '~':
        return "(empty set)";
    case '>':
        return "(empty push)";
    default:
        return "(empty array)";
    }
}

static bool frame_is_map(const struct frame *frame)
{
    return frame->type == '%' || frame->type == '|';
}

/* What stands in front of an item: the number of its place, or the arrow between a map's key and value. The first item
 * of an aggregate stands on its parent's line, so it needs no indentation. */
static void print_place(FILE *out, const struct frame *frame)
{
    if (frame_is_map(frame) && frame->done % 2 == 1) {
        fputs(" => ", out);
        return;
    }
    int64_t number = (frame_is_map(frame) ? frame->done / 2 : frame->done) + 1;
    char mark = frame_is_map(frame) ? '#' : frame->type == '~' ? '~' : ')';
    if (frame->done > 0) {
        fprintf(out, "%*s", frame->indent, "");
    }
    fprintf(out, "%*" PRId64 "%c ", frame->width, number, mark);
}

static struct frame frame_begin(const struct reply_item *item, const struct frame *parent)
{
    struct frame frame = {.items = item->integer, .type = item->type};
    int64_t highest = item->integer / (frame_is_map(&frame) ? 2 : 1);
    frame.width = snprintf(NULL, 0, "%" PRId64, highest);
    frame.indent = parent == NULL ? 0 : parent->indent + parent->width + 2;
    return frame;
}

/* An aggregate whose items form a chain prints as one line, which may stand behind a map's arrow. */
static bool fits_one_line(struct reply_cursor cursor, struct reply_item item)
{
    while (reply_is_aggregate(&item) && item.integer > 0) {
        struct reply_item key;
        bool is_map = item.type == '%' || item.type == '|';
        if (item.integer != (is_map ? 2 : 1) || (is_map && (!reply_next(&cursor, &key) || reply_is_aggregate(&key))) ||
            !reply_next(&cursor, &item)) {
            return false;
        }
    }
    return true;
}

bool reply_print(FILE *out, const char *data, size_t len)
{
    struct frame frames[REPLY_DEPTH_MAX];
    unsigned depth = 0;
    struct reply_cursor cursor;
    struct reply_item item;
    reply_begin(&cursor, data, len);
    do {
        if (!reply_next(&cursor, &item)) {
            return false;
        }
        if (item.type == '|') { /* attributes: not shown */
            if (!reply_pass(&cursor, &item)) {
                return false;
            }
            continue;
        }
        struct frame *frame = depth == 0 ? NULL : &frames[depth - 1];
        if (frame != NULL) {
            print_place(out, frame);
            frame->done++;
        }
        if (reply_is_aggregate(&item) && item.integer > 0) {
            if (depth == REPLY_DEPTH_MAX) {
                return false;
            }
            frames[depth] = frame_begin(&item, frame);
            bool is_value = frame != NULL && frame_is_map(frame) && frame->done % 2 == 0;
            if (is_value && !fits_one_line(cursor, item)) {
                fprintf(out, "\n%*s", frames[depth].indent, "");
            }
            depth++;
            continue;
        }
        if (reply_is_aggregate(&item) && !item.is_null) {
            fputs(empty_name(item.type), out);
        } else {
            print_scalar(out, &item);
        }
        if (frame == NULL || !frame_is_map(frame) || frame->done % 2 == 0) {
            putc('\n', out);
        }
        while (depth > 0 && frames[depth - 1].done == frames[depth - 1].items) {
            depth--;
        }
    } while (depth > 0 || item.type == '|');
    return true;
}

bool reply_print_raw(FILE *out, const char *data, size_t len)
{
    struct reply_cursor cursor;
    struct reply_item item;
    reply_begin(&cursor, data, len);
    if (cursor.at == cursor.end) {
        return false;
    }
    while (cursor.at != cursor.end) {
        if (!reply_next(&cursor, &item)) {
            return false;
        }
        if (reply_is_aggregate(&item)) {
            if (item.is_null || item.integer == 0) {
                putc('\n', out);
            }
            continue;
        }
        if (item.type == '#') {
            fputs(item.len > 0 && item.text[0] == 't' ? "true" : "false", out);
        } else if (!item.is_null) {
            fwrite(item.text, 1, item.len, out);
        }
        putc('\n', out);
    }
    return true;
}
