/* For unit tests of snapshots: commands as entries, streams in memory. */
#ifndef LOCKSTEP_SNAPSHOT_PROBE_H
#define LOCKSTEP_SNAPSHOT_PROBE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/keyspace.h"
#include "store/snapshot.h"

#define PROBE_SEED 42u
#define STEP_BYTES_SLACK 8192u

/* A growing string of bytes. */
struct bytes {
    uint8_t *data;
    size_t len, capacity;
};

static inline void bytes_add(void *ctx, const void *data, size_t len)
{
    struct bytes *bytes = ctx;
    if (bytes->len + len > bytes->capacity) {
        bytes->capacity = 2 * (bytes->len + len);
        bytes->data = realloc(bytes->data, bytes->capacity);
        ck_assert_ptr_nonnull(bytes->data);
    }
    memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
}

static inline void bytes_fini(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static inline struct store *probe_store(uint64_t seed)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = seed});
    ck_assert_ptr_nonnull(store);
    return store;
}

/* One entry with one command, whose words are given with their lengths. */
static inline struct bytes entry_of(uint64_t time_ms, const struct iovec *argv, unsigned argc)
{
    struct store_batch batch;
    store_batch_init(&batch, (size_t)1 << 30);
    if (argc > 0) {
        ck_assert_int_eq(store_batch_add(&batch, argv, argc), STORE_OK);
    }
    void *data;
    struct bytes entry = {0};
    ck_assert_int_eq(store_batch_seal(&batch, time_ms, &data, &entry.len), STORE_OK);
    entry.data = data;
    ck_assert_int_eq(store_entry_check(entry.data, entry.len), STORE_OK);
    store_batch_fini(&batch);
    return entry;
}

/* Applies a command given as text, words separated by single spaces. */
static inline void tell_at(struct store *store, uint64_t time_ms, const char *line)
{
    struct iovec argv[16];
    unsigned argc = 0;
    for (const char *at = line; *at != '\0' && argc < 16;) {
        size_t len = strcspn(at, " ");
        argv[argc++] = (struct iovec){.iov_base = (void *)at, .iov_len = len};
        at += len + (at[len] == ' ' ? 1 : 0);
    }
    struct bytes entry = entry_of(time_ms, argv, argc);
    store_apply(store, entry.data, entry.len, NULL);
    bytes_fini(&entry);
}

static inline void tell(struct store *store, const char *line)
{
    tell_at(store, 1000, line);
}

/* SET with a value of `len` bytes that follow from `fill`. */
static inline void set_filled(struct store *store, const char *name, size_t len, unsigned fill)
{
    char *value = malloc(len + 1);
    ck_assert_ptr_nonnull(value);
    for (size_t i = 0; i < len; i++) {
        value[i] = (char)((i * 7 + i / 251 + fill) & 0xff);
    }
    struct iovec argv[] = {{(void *)"SET", 3}, {(void *)name, strlen(name)}, {value, len}};
    struct bytes entry = entry_of(1000, argv, 3);
    store_apply(store, entry.data, entry.len, NULL);
    bytes_fini(&entry);
    free(value);
}

static inline enum store_snapshot_state step_into(struct store_snapshot *snapshot, size_t bytes_max,
                                                  struct bytes *stream)
{
    size_t before = stream->len;
    enum store_snapshot_state state = store_snapshot_step(snapshot, bytes_max, bytes_add, stream);
    ck_assert_uint_le(stream->len - before, bytes_max + STEP_BYTES_SLACK);
    return state;
}

static inline void finish_into(struct store_snapshot *snapshot, size_t bytes_max, struct bytes *stream)
{
    enum store_snapshot_state state;
    while ((state = step_into(snapshot, bytes_max, stream)) == STORE_SNAPSHOT_MORE) {
    }
    ck_assert_int_eq(state, STORE_SNAPSHOT_DONE);
    store_snapshot_end(snapshot);
}

static inline struct store_snapshot *begin(struct store *store)
{
    struct store_snapshot *snapshot = store_snapshot_begin(store, STORE_SNAPSHOT_SIDE_BYTES);
    ck_assert_ptr_nonnull(snapshot);
    return snapshot;
}

static inline struct bytes snapshot_all(struct store *store)
{
    struct bytes stream = {0};
    finish_into(begin(store), 65536, &stream);
    return stream;
}

/* Feeds the stream in chunks of `chunk` bytes; what the loader said last goes to `error` of 200 bytes, if not NULL. */
static inline enum store_status load_into(struct store *store, const struct bytes *stream, size_t chunk,
                                          uint64_t stream_bytes, char *error)
{
    struct store_loader *loader = store_loader_new(store, stream_bytes);
    ck_assert_ptr_nonnull(loader);
    enum store_status status = STORE_OK;
    for (size_t at = 0; at < stream->len && status == STORE_OK; at += chunk) {
        size_t len = stream->len - at < chunk ? stream->len - at : chunk;
        /* A block of its own, so that a read beyond it shows. */
        void *exact = malloc(len);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, stream->data + at, len);
        status = store_loader_feed(loader, exact, len);
        free(exact);
    }
    if (status == STORE_OK) {
        status = store_loader_finish(loader);
    }
    ck_assert((status == STORE_OK) == (store_loader_error(loader)[0] == '\0'));
    if (error != NULL) {
        snprintf(error, 200, "%s", store_loader_error(loader));
    }
    store_loader_free(loader);
    return status;
}

static inline struct store *load_ok(const struct bytes *stream, uint64_t seed)
{
    struct store *store = probe_store(seed);
    char error[200];
    ck_assert_msg(load_into(store, stream, 65536, stream->len, error) == STORE_OK, "%s", error);
    return store;
}

struct same_walk {
    const struct store *other;
    uint64_t n;
};

static inline void same_key(void *ctx, const struct key *key)
{
    struct same_walk *walk = ctx;
    struct iovec name = key_name(key), value = key_value(key);
    const struct key *other = keyspace_find(walk->other, name.iov_base, name.iov_len);
    ck_assert_msg(other != NULL, "%.*s is missing", (int)name.iov_len, (const char *)name.iov_base);
    ck_assert_uint_eq(key_value(other).iov_len, value.iov_len);
    ck_assert(value.iov_len == 0 || memcmp(key_value(other).iov_base, value.iov_base, value.iov_len) == 0);
    ck_assert_uint_eq(key_deadline_ms(other), key_deadline_ms(key));
    ck_assert_uint_eq(key_revision(other), key_revision(key));
    ck_assert_int_eq(key_type(other), key_type(key));
    walk->n++;
}

/* Key by key, so that it does not rest on the digest. */
static inline void ck_assert_same(const struct store *a, const struct store *b)
{
    struct same_walk walk = {.other = b};
    uint64_t cursor = 0;
    do {
        cursor = keyspace_scan(a, cursor, same_key, &walk);
    } while (cursor != 0);
    ck_assert_uint_le(walk.n, store_keys(a)); /* some may be dead */
    ck_assert_uint_eq(store_keys(a), store_keys(b));
    ck_assert_uint_eq(store_keys_with_deadline(a), store_keys_with_deadline(b));
    ck_assert_uint_eq(store_next_deadline_ms(a), store_next_deadline_ms(b));
    ck_assert_uint_eq(store_memory(a), store_memory(b));
    ck_assert_uint_eq(store_revision(a), store_revision(b));
    ck_assert_uint_eq(store_time_ms(a), store_time_ms(b));
    ck_assert_uint_eq(store_digest(a), store_digest(b));
}

#endif
