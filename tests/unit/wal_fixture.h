/* A WAL on an env in memory, with entries whose content follows from index, term and length; shared by test_wal*.c. */
#ifndef LOCKSTEP_TESTS_WAL_FIXTURE_H
#define LOCKSTEP_TESTS_WAL_FIXTURE_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/wal.h"
#include "tests/unit/mem_env.h"

#define FIX_SEGMENT_BYTES (8u * ENV_BLOCK)
#define FIX_ENTRY_MAX (2u * ENV_BLOCK)
#define FIX_EVENTS_MAX 4096u

struct fix {
    struct mem_env *mem;
    struct wal *wal;
    const char *error;
    uint64_t segment_bytes;
    uint32_t entry_bytes_max;
    uint32_t recycle_max;
    uint64_t start_index;
    uint64_t start_term;
    bool restored;
    struct {
        uint64_t index;
        uint64_t term;
    } persisted[FIX_EVENTS_MAX];
    unsigned n_persisted;
    unsigned n_failed;
    enum env_status failed;
};

static inline void fix_persisted_cb(void *ctx, uint64_t index, uint64_t term)
{
    struct fix *fix = ctx;
    ck_assert_uint_lt(fix->n_persisted, FIX_EVENTS_MAX);
    fix->persisted[fix->n_persisted].index = index;
    fix->persisted[fix->n_persisted].term = term;
    fix->n_persisted++;
}

static inline void fix_failed_cb(void *ctx, enum env_status status)
{
    struct fix *fix = ctx;
    fix->n_failed++;
    fix->failed = status;
}

static inline void fix_init(struct fix *fix)
{
    memset(fix, 0, sizeof *fix);
    fix->mem = mem_env_new(1);
    fix->segment_bytes = FIX_SEGMENT_BYTES;
    fix->entry_bytes_max = FIX_ENTRY_MAX;
}

static inline enum wal_status fix_try_open(struct fix *fix)
{
    struct wal_config config = {
        .segment_bytes = fix->segment_bytes,
        .entry_bytes_max = fix->entry_bytes_max,
        .recycle_max = fix->recycle_max,
        .start_index = fix->start_index,
        .start_term = fix->start_term,
        .restored = fix->restored,
        .persisted = fix_persisted_cb,
        .failed = fix_failed_cb,
        .ctx = fix,
    };
    fix->n_persisted = 0;
    return wal_open(mem_env_env(fix->mem), &config, &fix->wal, &fix->error);
}

static inline void fix_open(struct fix *fix)
{
    enum wal_status status = fix_try_open(fix);
    ck_assert_msg(status == WAL_OK, "%s", fix->error);
    mem_env_run(fix->mem); /* the spare segment */
}

static inline void fix_close(struct fix *fix)
{
    mem_env_run(fix->mem);
    wal_close(fix->wal);
    fix->wal = NULL;
    ck_assert_uint_eq(mem_env_open_files(fix->mem), 0);
}

static inline void fix_fini(struct fix *fix)
{
    if (fix->wal != NULL) {
        fix_close(fix);
    }
    mem_env_free(fix->mem);
}

/* Lose power: of the write in flight the sectors that `keep` wants survive. The WAL is gone afterwards. */
static inline void fix_crash(struct fix *fix, bool (*keep)(void *ctx, size_t sector), void *ctx)
{
    mem_env_crash(fix->mem, keep, ctx);
    wal_close(fix->wal);
    fix->wal = NULL;
    ck_assert_uint_eq(mem_env_open_files(fix->mem), 0);
    mem_env_restart(fix->mem);
}

static inline void fix_fill(uint8_t *to, uint64_t index, uint64_t term, size_t len)
{
    uint64_t x = index * 1000003u + term * 7919u + 1;
    for (size_t i = 0; i < len; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        to[i] = (uint8_t)(x >> 56);
    }
}

static inline enum wal_entry_type fix_type(uint64_t index)
{
    return index % 7 == 3 ? WAL_BARRIER : index % 7 == 5 ? WAL_CHANGE : WAL_COMMAND;
}

/* Append entries first..last of `term`, each with `len` bytes. */
static inline void fix_append(struct fix *fix, uint64_t first, uint64_t last, uint64_t term, size_t len)
{
    for (uint64_t index = first; index <= last; index++) {
        uint8_t *data = malloc(len > 0 ? len : 1);
        ck_assert_ptr_nonnull(data);
        fix_fill(data, index, term, len);
        struct wal_entry entry = {.index = index, .term = term, .type = fix_type(index), .data = data, .len = len};
        ck_assert_int_eq(wal_append(fix->wal, &entry, 1), WAL_OK);
        memset(data, 0xee, len); /* it was copied */
        free(data);
    }
}

static inline void fix_append_durable(struct fix *fix, uint64_t first, uint64_t last, uint64_t term, size_t len)
{
    fix_append(fix, first, last, term, len);
    wal_flush(fix->wal);
    mem_env_run(fix->mem);
    ck_assert_uint_eq(wal_durable(fix->wal), last);
}

/* The held, durable entry `index` is the one that fix_append made for `term` and `len`. */
static inline void fix_check(struct fix *fix, uint64_t index, uint64_t term, size_t len)
{
    void *data = NULL;
    size_t got = 0;
    ck_assert_uint_eq(wal_term_of(fix->wal, index), term);
    ck_assert_int_eq(wal_type_of(fix->wal, index), fix_type(index));
    ck_assert_int_eq(wal_read_sync(fix->wal, index, &data, &got), WAL_OK);
    ck_assert_uint_eq(got, len);
    uint8_t *want = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(want);
    fix_fill(want, index, term, len);
    ck_assert_int_eq(memcmp(data, want, len), 0);
    free(want);
    free(data);
}

static inline void fix_check_range(struct fix *fix, uint64_t first, uint64_t last, uint64_t term, size_t len)
{
    for (uint64_t index = first; index <= last; index++) {
        fix_check(fix, index, term, len);
    }
}

#endif
