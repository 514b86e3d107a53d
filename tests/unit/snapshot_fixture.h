/* Snapshots on an env in memory, with payloads that follow from a seed; shared by test_snapshot_*.c. */
#ifndef LOCKSTEP_TESTS_SNAPSHOT_FIXTURE_H
#define LOCKSTEP_TESTS_SNAPSHOT_FIXTURE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/snapshot.h"
#include "tests/unit/mem_env.h"

static inline uint64_t snap_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Even seeds: incompressible; odd ones: compressible. Caller frees. */
static inline uint8_t *snap_payload(uint64_t seed, size_t len)
{
    uint8_t *data = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < len; i++) {
        uint64_t x = seed % 2 == 0 ? snap_mix(seed * 1000003 + i) : snap_mix(seed + i / 40) % 9 + i % 7;
        data[i] = (uint8_t)x;
    }
    return data;
}

/* Everything happens that can, timers included. */
static inline void snap_run(struct mem_env *mem)
{
    for (int quiet = 0; quiet < 2;) {
        quiet = mem_env_pending(mem) == 0 ? quiet + 1 : 0;
        mem_env_run(mem);
        mem_env_advance(mem, 1);
    }
}

static const char snap_configuration[] = "the bytes of a configuration entry";

static inline struct snapshot_meta snap_meta(uint64_t index, uint64_t term)
{
    struct snapshot_meta meta = {
        .index = index,
        .term = term,
        .cluster_time_ms = 1700000000123,
        .revision = index * 3,
        .configuration_index = index > 4 ? 4 : 0,
        .configuration = snap_configuration,
        .configuration_len = sizeof snap_configuration,
        .feature_level = 1,
    };
    memcpy(meta.cluster, "0123456789abcdef", 16);
    return meta;
}

/* --- A writer that is fed as it wants ----------------------------------------------------------------------------- */

struct snap_write {
    struct snapshot_writer *writer;
    const uint8_t *data;
    size_t len;
    size_t at;
    size_t step; /* bytes per append, 0: everything */
    bool finished;
    unsigned done;
    unsigned ready;
    enum snapshot_status status;
    char error[SNAPSHOT_ERROR_BYTES];
    struct snapshot_end end;
};

static inline void snap_write_feed(struct snap_write *write)
{
    while (write->at < write->len) {
        size_t n = write->len - write->at;
        n = write->step > 0 && write->step < n ? write->step : n;
        size_t taken = snapshot_writer_append(write->writer, write->data + write->at, n);
        write->at += taken;
        if (taken < n) {
            return;
        }
    }
    if (!write->finished) {
        write->finished = true;
        snapshot_writer_finish(write->writer, 0xd1935);
    }
}

static inline void snap_write_ready_cb(void *ctx)
{
    struct snap_write *write = ctx;
    write->ready++;
    snap_write_feed(write);
}

static inline void snap_write_done_cb(void *ctx, enum snapshot_status status, const char *error,
                                      const struct snapshot_end *end)
{
    struct snap_write *write = ctx;
    write->done++;
    write->status = status;
    ck_assert_int_eq(status == SNAPSHOT_OK, error == NULL);
    ck_assert_int_eq(status == SNAPSHOT_OK, end != NULL);
    if (error != NULL) {
        snprintf(write->error, sizeof write->error, "%s", error);
    } else {
        write->end = *end;
    }
}

static inline void snap_write_begin(struct snap_write *write, struct mem_env *mem, uint64_t index, uint64_t term,
                                    const uint8_t *data, size_t len, size_t step)
{
    *write = (struct snap_write){.data = data, .len = len, .step = step};
    struct snapshot_meta meta = snap_meta(index, term);
    struct snapshot_writer_events events = {.ready = snap_write_ready_cb, .done = snap_write_done_cb, .ctx = write};
    ck_assert_int_eq(snapshot_writer_open(mem_env_env(mem), NULL, &meta, &events, &write->writer), SNAPSHOT_OK);
    snap_write_feed(write);
}

static inline struct snapshot_end snap_write_all(struct mem_env *mem, uint64_t index, uint64_t term, uint64_t seed,
                                                 size_t len)
{
    struct snap_write write;
    uint8_t *data = snap_payload(seed, len);
    snap_write_begin(&write, mem, index, term, data, len, 0);
    snap_run(mem);
    ck_assert_uint_eq(write.done, 1);
    ck_assert_msg(write.status == SNAPSHOT_OK, "%s", write.error);
    snapshot_writer_close(write.writer);
    free(data);
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
    return write.end;
}

/* --- A reader that takes everything ------------------------------------------------------------------------------- */

struct snap_read {
    struct snapshot_reader *reader;
    uint8_t *data;
    size_t len;
    size_t step; /* bytes per consume, 0: everything */
    unsigned opened;
    unsigned done;
    enum snapshot_status status;
    char error[SNAPSHOT_ERROR_BYTES];
    struct snapshot_meta meta;
    struct snapshot_end end;
};

static inline void snap_read_opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    struct snap_read *read = ctx;
    read->opened++;
    read->meta = *meta;
    read->end = *end;
    ck_assert_uint_eq(meta->configuration_len, sizeof snap_configuration);
    ck_assert_int_eq(memcmp(meta->configuration, snap_configuration, sizeof snap_configuration), 0);
}

static inline void snap_read_ready_cb(void *ctx)
{
    struct snap_read *read = ctx;
    const void *data;
    for (size_t n = snapshot_reader_peek(read->reader, &data); n > 0; n = snapshot_reader_peek(read->reader, &data)) {
        n = read->step > 0 && read->step < n ? read->step : n;
        read->data = realloc(read->data, read->len + n);
        ck_assert_ptr_nonnull(read->data);
        memcpy(read->data + read->len, data, n);
        read->len += n;
        snapshot_reader_consume(read->reader, n);
    }
}

static inline void snap_read_done_cb(void *ctx, enum snapshot_status status, const char *error)
{
    struct snap_read *read = ctx;
    read->done++;
    read->status = status;
    ck_assert_int_eq(status == SNAPSHOT_OK, error == NULL);
    if (error != NULL) {
        snprintf(read->error, sizeof read->error, "%s", error);
    }
}

static inline void snap_read_begin(struct snap_read *read, struct mem_env *mem, const char *name, size_t step)
{
    *read = (struct snap_read){.step = step};
    struct snapshot_reader_events events = {
        .opened = snap_read_opened_cb, .ready = snap_read_ready_cb, .done = snap_read_done_cb, .ctx = read};
    ck_assert_int_eq(snapshot_reader_open(mem_env_env(mem), NULL, name, &events, &read->reader), SNAPSHOT_OK);
}

static inline void snap_read_end(struct snap_read *read, struct mem_env *mem)
{
    snapshot_reader_close(read->reader);
    snap_run(mem);
    free(read->data);
    read->data = NULL;
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
}

static inline void snap_check(struct mem_env *mem, uint64_t index, uint64_t term, uint64_t seed, size_t len)
{
    char name[SNAPSHOT_NAME_BYTES];
    struct snap_read read;
    uint8_t *want = snap_payload(seed, len);
    snapshot_name_format(name, index, term, "");
    snap_read_begin(&read, mem, name, 0);
    snap_run(mem);
    ck_assert_uint_eq(read.done, 1);
    ck_assert_msg(read.status == SNAPSHOT_OK, "%s", read.error);
    ck_assert_uint_eq(read.meta.index, index);
    ck_assert_uint_eq(read.meta.term, term);
    ck_assert_uint_eq(read.end.digest, 0xd1935);
    ck_assert_uint_eq(read.end.payload_bytes, len);
    ck_assert_uint_eq(read.len, len);
    ck_assert_int_eq(len == 0 ? 0 : memcmp(read.data, want, len), 0);
    snap_read_end(&read, mem);
    free(want);
}

/* --- Verification ------------------------------------------------------------------------------------------------- */

struct snap_verdict {
    unsigned done;
    unsigned progress;
    uint64_t bytes;
    enum snapshot_status status;
    char error[SNAPSHOT_ERROR_BYTES];
};

static inline void snap_verify_done_cb(void *ctx, enum snapshot_status status, const char *error,
                                       const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    struct snap_verdict *verdict = ctx;
    verdict->done++;
    verdict->status = status;
    ck_assert_int_eq(status == SNAPSHOT_OK, meta != NULL);
    ck_assert_int_eq(status == SNAPSHOT_OK, end != NULL);
    snprintf(verdict->error, sizeof verdict->error, "%s", error == NULL ? "" : error);
}

static inline void snap_verify_progress_cb(void *ctx, uint64_t bytes, uint64_t of_bytes)
{
    struct snap_verdict *verdict = ctx;
    ck_assert_uint_ge(bytes, verdict->bytes);
    ck_assert_uint_le(bytes, of_bytes);
    verdict->bytes = bytes;
    verdict->progress++;
}

static inline struct snap_verdict snap_verify(struct mem_env *mem, const char *name)
{
    struct snap_verdict verdict = {0};
    struct snapshot_verify *verify;
    struct snapshot_verify_events events = {
        .progress = snap_verify_progress_cb, .done = snap_verify_done_cb, .ctx = &verdict};
    ck_assert_int_eq(snapshot_verify_open(mem_env_env(mem), name, &events, &verify), SNAPSHOT_OK);
    snap_run(mem);
    ck_assert_uint_eq(verdict.done, 1);
    snapshot_verify_close(verify);
    snap_run(mem);
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
    return verdict;
}

/* Random sectors survive a crash; the context is a seed. */
static inline bool snap_keep_some(void *ctx, size_t sector)
{
    return (snap_mix(*(uint64_t *)ctx * 7919 + sector) & 1u) != 0;
}

#endif
