#include "cmd/lockstep/dump_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/reply.h"

#define SCAN_COUNT "1000"

json_t *dump_bytes_json(const void *data, size_t len, bool *binary)
{
    json_t *text = json_stringn(data, len);
    if (text != NULL) {
        return text;
    }
    char *wide = malloc(len * 2 + 1);
    size_t n = 0;
    *binary = true;
    for (size_t i = 0; wide != NULL && i < len; i++) {
        const unsigned char c = ((const unsigned char *)data)[i];
        if (c < 0x80) {
            wide[n++] = (char)c;
        } else {
            wide[n++] = (char)(0xc0 | c >> 6);
            wide[n++] = (char)(0x80 | (c & 0x3f));
        }
    }
    text = wide != NULL ? json_stringn(wide, n) : json_null();
    free(wide);
    return text;
}

/* A reply sink that keeps the strings of the last reply. */
struct sink {
    struct store_reply base;
    struct iovec *items; /* malloc'd copies */
    size_t n, cap;
    bool no_memory;
};

static void sink_clear(struct sink *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->items[i].iov_base);
    }
    s->n = 0;
}

static void sink_bulk(struct store_reply *r, const void *data, size_t len)
{
    struct sink *s = (struct sink *)r;
    if (s->n == s->cap) {
        const size_t cap = s->cap == 0 ? 1024 : s->cap * 2;
        struct iovec *items = realloc(s->items, cap * sizeof *items);
        s->no_memory = s->no_memory || items == NULL;
        if (items == NULL) {
            return;
        }
        s->items = items;
        s->cap = cap;
    }
    char *copy = malloc(len + 1);
    s->no_memory = s->no_memory || copy == NULL;
    if (copy != NULL) {
        memcpy(copy, data, len);
        copy[len] = '\0';
        s->items[s->n++] = (struct iovec){copy, len};
    }
}

static void sink_error(struct store_reply *r, const char *text, size_t len)
{
    sink_bulk(r, text, len);
}

static void sink_status(struct store_reply *r, const char *text)
{
    sink_bulk(r, text, strlen(text));
}

static void sink_ignore_integer(struct store_reply *r, int64_t value)
{
    (void)r;
    (void)value;
}

static void sink_ignore_real(struct store_reply *r, double value)
{
    (void)r;
    (void)value;
}

static void sink_ignore(struct store_reply *r)
{
    (void)r;
}

static void sink_ignore_size(struct store_reply *r, size_t n)
{
    (void)r;
    (void)n;
}

static const struct store_reply_ops sink_ops = {
    .status = sink_status,
    .error = sink_error,
    .integer = sink_ignore_integer,
    .bulk = sink_bulk,
    .null = sink_ignore,
    .null_array = sink_ignore,
    .array = sink_ignore_size,
    .map = sink_ignore_size,
    .set = sink_ignore_size,
    .real = sink_ignore_real,
};

/* One read command; its strings are in the sink. */
static void ask(struct store *store, struct sink *sink, const char *name, const struct iovec *words, unsigned n)
{
    struct iovec argv[4] = {{(void *)(uintptr_t)name, strlen(name)}};
    const struct store_command *command = store_command_find(name, strlen(name));
    memcpy(argv + 1, words, n * sizeof *words);
    sink_clear(sink);
    store_read(store, command, argv, n + 1, &sink->base);
}

static void key_print(struct store *store, struct sink *sink, const struct iovec *key, bool json)
{
    const uint64_t revision = store_key_revision(store, key->iov_base, key->iov_len);
    const uint64_t deadline = store_key_deadline_ms(store, key->iov_base, key->iov_len);
    char type[16] = "string";
    bool binary = false;
    if (revision == 0) {
        return; /* dead, and not yet removed */
    }
    ask(store, sink, "type", key, 1);
    if (sink->n == 1) {
        snprintf(type, sizeof type, "%s", (const char *)sink->items[0].iov_base);
    }
    ask(store, sink, "get", key, 1);
    const struct iovec none = {(void *)(uintptr_t) "", 0};
    const struct iovec *value = sink->n == 1 ? &sink->items[0] : &none;
    if (json) {
        json_t *name = dump_bytes_json(key->iov_base, key->iov_len, &binary);
        json_t *text = dump_bytes_json(value->iov_base, value->iov_len, &binary);
        json_t *o = json_pack("{s:o, s:s, s:I, s:o, s:o}", "key", name, "type", type, "revision", (json_int_t)revision,
                              "deadline_ms", deadline == UINT64_MAX ? json_null() : json_integer((json_int_t)deadline),
                              "value", text);
        if (binary) {
            json_object_set_new(o, "binary", json_true());
        }
        json_dumpf(o, stdout, JSON_COMPACT);
        json_decref(o);
    } else {
        reply_print_quoted(stdout, key->iov_base, key->iov_len);
        printf(" %s revision %" PRIu64, type, revision);
        if (deadline != UINT64_MAX) {
            printf(" deadline %" PRIu64, deadline);
        }
        putchar(' ');
        reply_print_quoted(stdout, value->iov_base, value->iov_len);
    }
    putchar('\n');
}

bool dump_keys(struct store *store, bool json)
{
    struct sink scan = {.base = {.ops = &sink_ops}}, sink = {.base = {.ops = &sink_ops}};
    char cursor[32] = "0";
    do {
        const struct iovec words[] = {{cursor, strlen(cursor)},
                                      {(void *)(uintptr_t) "count", 5},
                                      {(void *)(uintptr_t)SCAN_COUNT, sizeof SCAN_COUNT - 1}};
        ask(store, &scan, "scan", words, 3);
        for (size_t i = 1; i < scan.n; i++) {
            key_print(store, &sink, &scan.items[i], json);
        }
        snprintf(cursor, sizeof cursor, "%s", scan.n > 0 ? (const char *)scan.items[0].iov_base : "0");
    } while (strcmp(cursor, "0") != 0 && !scan.no_memory && !sink.no_memory);
    const bool ok = !scan.no_memory && !sink.no_memory;
    sink_clear(&scan);
    sink_clear(&sink);
    free(scan.items);
    free(sink.items);
    return ok;
}
