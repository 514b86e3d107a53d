/* For unit tests of commands: a store, commands given as text, replies seen as text. Writes go through a batch, its
 * check and apply, as in production; reads through store_read. Include it in one file per test program. */
#ifndef LOCKSTEP_STORE_PROBE_H
#define LOCKSTEP_STORE_PROBE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

#define PROBE_START_MS 1700000000000ull
#define PROBE_ARGS_MAX 64u
#define PROBE_BATCH_BYTES_MAX (1024u * 1024)

struct probe {
    struct store_reply base;
    struct store *store;
    uint64_t time_ms; /* of the entries to come */
    char *text;       /* of the latest reply: "+OK" "-ERR ..." ":1" "$bytes" "_" "*_" "*2 $a $b" */
    size_t len;
};

static void probe_put(struct probe *probe, const char *kind, const void *data, size_t len)
{
    size_t kind_len = strlen(kind), space = probe->len > 0 ? 1 : 0;
    probe->text = realloc(probe->text, probe->len + space + kind_len + len + 1);
    ck_assert_ptr_nonnull(probe->text);
    if (space) {
        probe->text[probe->len++] = ' ';
    }
    memcpy(probe->text + probe->len, kind, kind_len);
    probe->len += kind_len;
    if (len > 0) {
        memcpy(probe->text + probe->len, data, len);
    }
    probe->len += len;
    probe->text[probe->len] = '\0';
}

static void probe_put_number(struct probe *probe, const char *kind, long long value)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%lld", value);
    probe_put(probe, kind, digits, (size_t)len);
}

static void probe_status(struct store_reply *r, const char *text)
{
    probe_put((struct probe *)r, "+", text, strlen(text));
}

static void probe_error(struct store_reply *r, const char *text, size_t len)
{
    probe_put((struct probe *)r, "-", text, len);
}

static void probe_integer(struct store_reply *r, int64_t value)
{
    probe_put_number((struct probe *)r, ":", value);
}

static void probe_bulk(struct store_reply *r, const void *data, size_t len)
{
    probe_put((struct probe *)r, "$", data, len);
}

static void probe_null(struct store_reply *r)
{
    probe_put((struct probe *)r, "_", NULL, 0);
}

static void probe_null_array(struct store_reply *r)
{
    probe_put((struct probe *)r, "*_", NULL, 0);
}

static void probe_array(struct store_reply *r, size_t n)
{
    probe_put_number((struct probe *)r, "*", (long long)n);
}

static const struct store_reply_ops probe_ops = {
    .status = probe_status,
    .error = probe_error,
    .integer = probe_integer,
    .bulk = probe_bulk,
    .null = probe_null,
    .array = probe_array,
    .null_array = probe_null_array,
};

static void probe_init(struct probe *probe)
{
    *probe = (struct probe){.base = {.ops = &probe_ops}, .time_ms = PROBE_START_MS};
    probe->store = store_new(&(struct store_config){.hash_seed = 42});
    ck_assert_ptr_nonnull(probe->store);
}

static void probe_fini(struct probe *probe)
{
    store_free(probe->store);
    free(probe->text);
}

static struct store_reply *probe_begin(void *ctx, unsigned i)
{
    (void)i;
    return ctx;
}

static void probe_end(void *ctx, unsigned i)
{
    (void)ctx;
    (void)i;
}

static void probe_seal(struct probe *probe, struct store_batch *batch, void *ctx)
{
    void *data;
    size_t len;
    ck_assert_int_eq(store_batch_seal(batch, probe->time_ms, &data, &len), STORE_OK);
    ck_assert_int_eq(store_entry_check(data, len), STORE_OK);
    const struct store_apply_hooks hooks = {.ctx = ctx, .begin = probe_begin, .end = probe_end};
    store_apply(probe->store, data, len, &hooks);
    free(data);
    store_batch_fini(batch);
}

/* Executes one command in an entry of its own; returns its reply, valid until the next call. */
static const char *probe_execute(struct probe *probe, const struct iovec *argv, unsigned argc)
{
    probe->len = 0;
    const struct store_command *command = store_command_find(argv[0].iov_base, argv[0].iov_len);
    ck_assert_msg(command != NULL, "unknown command %.*s", (int)argv[0].iov_len, (const char *)argv[0].iov_base);
    if (!store_command_check(command, argv, argc, &probe->base)) {
        return probe->text;
    }
    if (command->flags & STORE_READ) {
        store_read(probe->store, command, argv, argc, &probe->base);
        return probe->text;
    }
    struct store_batch batch;
    store_batch_init(&batch, PROBE_BATCH_BYTES_MAX);
    ck_assert_int_eq(store_batch_add(&batch, argv, argc), STORE_OK);
    probe_seal(probe, &batch, &probe->base);
    return probe->text;
}

/* The same for text: words are separated by one space, '' is an empty word, \_ a space within a word. */
static const char *probe_ask(struct probe *probe, const char *line)
{
    char *copy = strdup(line);
    ck_assert_ptr_nonnull(copy);
    struct iovec argv[PROBE_ARGS_MAX];
    unsigned argc = 0;
    for (char *word = copy; word != NULL;) {
        char *next = strchr(word, ' ');
        if (next != NULL) {
            *next++ = '\0';
        }
        for (char *gap; (gap = strstr(word, "\\_")) != NULL;) {
            *gap = ' ';
            memmove(gap + 1, gap + 2, strlen(gap + 2) + 1);
        }
        ck_assert_uint_lt(argc, PROBE_ARGS_MAX);
        argv[argc++] = (struct iovec){.iov_base = word, .iov_len = strcmp(word, "''") == 0 ? 0 : strlen(word)};
        word = next;
    }
    const char *reply = probe_execute(probe, argv, argc);
    free(copy);
    return reply;
}

/* Executes commands separated by "; " and returns the reply of the last one. */
static const char *probe_script(struct probe *probe, const char *script)
{
    char *copy = strdup(script);
    ck_assert_ptr_nonnull(copy);
    const char *reply = NULL;
    for (char *line = copy; line != NULL;) {
        char *next = strstr(line, "; ");
        if (next != NULL) {
            *next = '\0';
            next += 2;
        }
        reply = probe_ask(probe, line);
        line = next;
    }
    free(copy);
    return reply;
}

/* Time passes: an entry without commands. */
static inline void probe_advance(struct probe *probe, uint64_t ms)
{
    probe->time_ms += ms;
    struct store_batch batch;
    store_batch_init(&batch, PROBE_BATCH_BYTES_MAX);
    probe_seal(probe, &batch, NULL);
}

/* One row of a table of behaviours: the last command of `script` has this reply. */
struct probe_row {
    const char *script, *reply;
};

static inline void probe_check_row(const struct probe_row *row)
{
    struct probe probe;
    probe_init(&probe);
    const char *reply = probe_script(&probe, row->script);
    ck_assert_msg(strcmp(reply, row->reply) == 0, "%s: got <%s>, want <%s>", row->script, reply, row->reply);
    probe_fini(&probe);
}

#endif
