/* Snapshot files: written, read back, refused when damaged, and cut short at every step. */
#include "tests/unit/snapshot_fixture.h"

#include "consensus/snapshot_format.h"
#include "tests/unit/golden.h"

#define GOLDEN_MAX (5u * ENV_BLOCK)

START_TEST(payloads_of_all_sizes_are_read_back)
{
    static const size_t sizes[] = {0, 1, 100, 65535, 65536, 65537, 524287, 524288, 524289, 3u << 20, (5u << 20) + 77};
    static const size_t steps[] = {0, 1000, 65536, 700000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint64_t seed = 2; seed < 4; seed++) {
            struct mem_env *mem = mem_env_new(i);
            struct snap_write write;
            uint8_t *data = snap_payload(seed, sizes[i]);
            snap_write_begin(&write, mem, 7 + i, 3, data, sizes[i], steps[i % 4]);
            snap_run(mem);
            ck_assert_int_eq(write.status, SNAPSHOT_OK);
            ck_assert_uint_eq(write.done, 1);
            ck_assert_uint_eq(write.end.payload_bytes, sizes[i]);
            ck_assert_uint_eq(write.end.blocks, (sizes[i] + SNAPSHOT_BLOCK_BYTES - 1) / SNAPSHOT_BLOCK_BYTES);
            snapshot_writer_close(write.writer);
            ck_assert_uint_eq(mem_env_file_count(mem), 1);
            size_t size;
            char name[SNAPSHOT_NAME_BYTES];
            snapshot_name_format(name, 7 + i, 3, "");
            ck_assert_ptr_nonnull(mem_env_file(mem, name, &size));
            ck_assert_uint_eq(size, write.end.file_bytes);
            if (seed % 2 == 1 && sizes[i] > 1000) {
                ck_assert_uint_lt(size, sizes[i] / 2 + 3 * ENV_BLOCK);
            }
            snap_check(mem, 7 + i, 3, seed, sizes[i]);
            free(data);
            mem_env_free(mem);
        }
    }
}
END_TEST

START_TEST(what_the_header_says_is_read_back)
{
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 99, 8, 2, 1000);
    struct snap_read read;
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name_format(name, 99, 8, "");
    ck_assert_str_eq(name, "snapshot-0000000000000063-0000000000000008");
    snap_read_begin(&read, mem, name, 0);
    snap_run(mem);
    struct snapshot_meta want = snap_meta(99, 8);
    ck_assert_int_eq(memcmp(read.meta.cluster, want.cluster, 16), 0);
    ck_assert_uint_eq(read.meta.cluster_time_ms, want.cluster_time_ms);
    ck_assert_uint_eq(read.meta.revision, want.revision);
    ck_assert_uint_eq(read.meta.configuration_index, 4);
    ck_assert_uint_eq(read.meta.feature_level, 1);
    ck_assert_uint_eq(read.meta.flags, 0);
    snap_read_end(&read, mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_large_configuration_makes_a_longer_header)
{
    struct mem_env *mem = mem_env_new(1);
    uint8_t *configuration = snap_payload(2, SNAPSHOT_CONFIGURATION_BYTES_MAX);
    static const uint32_t sizes[] = {0, 3967, 3968, 3969, 20000, SNAPSHOT_CONFIGURATION_BYTES_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct snapshot_meta meta = snap_meta(50 + i, 1);
        meta.configuration = configuration;
        meta.configuration_len = sizes[i];
        struct snap_write write = {0};
        struct snapshot_writer_events events = {
            .ready = snap_write_ready_cb, .done = snap_write_done_cb, .ctx = &write};
        ck_assert_int_eq(snapshot_writer_open(mem_env_env(mem), NULL, &meta, &events, &write.writer), SNAPSHOT_OK);
        snapshot_writer_finish(write.writer, 1);
        snap_run(mem);
        ck_assert_int_eq(write.status, SNAPSHOT_OK);
        snapshot_writer_close(write.writer);
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_name_format(name, 50 + i, 1, "");
        struct snapshot_meta got;
        ck_assert_int_eq(snapshot_header_check(mem_env_file(mem, name, NULL), snapshot_header_bytes(sizes[i]), &got),
                         SNAPSHOT_OK);
        ck_assert_uint_eq(got.configuration_len, sizes[i]);
        ck_assert_int_eq(memcmp(got.configuration, configuration, sizes[i]), 0);
        ck_assert_int_eq(snap_verify(mem, name).status, SNAPSHOT_OK);
    }
    free(configuration);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_writer_takes_no_more_than_its_buffers_hold)
{
    struct mem_env *mem = mem_env_new(1);
    struct snap_write write;
    uint8_t *data = snap_payload(2, 8u << 20);
    snap_write_begin(&write, mem, 9, 1, data, 8u << 20, 0);
    size_t bound = write.at; /* nothing has reached the disk */
    ck_assert_uint_eq(bound, 3 * SNAPSHOT_BLOCK_BYTES);
    ck_assert_uint_eq(snapshot_writer_room(write.writer), 0);
    ck_assert_uint_eq(snapshot_writer_append(write.writer, data, 1), 0);
    ck_assert_uint_eq(write.ready, 0);
    snap_run(mem);
    ck_assert_uint_gt(write.ready, 4);
    ck_assert_int_eq(write.status, SNAPSHOT_OK);
    snapshot_writer_close(write.writer);
    snap_check(mem, 9, 1, 2, 8u << 20);
    free(data);
    mem_env_free(mem);
}
END_TEST

START_TEST(the_name_appears_only_after_the_sync)
{
    struct mem_env *mem = mem_env_new(1);
    struct snap_write write;
    char name[SNAPSHOT_NAME_BYTES];
    uint8_t *data = snap_payload(2, 2u << 20);
    snapshot_name_format(name, 9, 1, "");
    snap_write_begin(&write, mem, 9, 1, data, 2u << 20, 0);
    unsigned synced = 0;
    while (mem_env_pending(mem) > 0) {
        enum env_disk_op op = mem_env_pending_req(mem, 0)->op;
        if (op == ENV_DISK_SYNC) {
            ck_assert_uint_eq(mem_env_pending(mem), 1); /* no write is under way */
            synced++;
        }
        if (op == ENV_DISK_RENAME) {
            ck_assert_uint_eq(synced, 1);
        }
        ck_assert_ptr_null(mem_env_file(mem, name, NULL));
        ck_assert_uint_eq(write.done, 0);
        mem_env_complete(mem, 0, ENV_OK);
    }
    ck_assert_ptr_nonnull(mem_env_file(mem, name, NULL));
    ck_assert_uint_eq(write.done, 1);
    snapshot_writer_close(write.writer);
    /* Durable as a whole: a power cut that keeps nothing unsynced changes nothing. */
    mem_env_crash(mem, NULL, NULL);
    mem_env_restart(mem);
    snap_check(mem, 9, 1, 2, 2u << 20);
    free(data);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_crash_at_every_step_of_writing_leaves_a_good_snapshot_or_none)
{
    uint8_t *data = snap_payload(2, 3u << 20);
    bool ended = false;
    for (unsigned steps = 0; !ended; steps++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            struct mem_env *mem = mem_env_new(steps);
            struct snap_write write;
            struct snapshot_dir *dir;
            snap_write_all(mem, 5, 1, 3, 1000);
            snap_write_begin(&write, mem, 9, 1, data, 3u << 20, 0);
            for (unsigned i = 0; i < steps && mem_env_pending(mem) > 0; i++) {
                mem_env_complete(mem, 0, ENV_OK);
            }
            ended = write.done > 0;
            mem_env_crash(mem, seed == 0 ? NULL : snap_keep_some, &seed);
            ck_assert_uint_eq(write.done, 1);
            ck_assert_int_eq(write.status, ended ? SNAPSHOT_OK : SNAPSHOT_CANCELED);
            snapshot_writer_close(write.writer);
            ck_assert_uint_eq(mem_env_open_files(mem), 0);
            mem_env_restart(mem);
            ck_assert_int_eq(snapshot_dir_open(mem_env_env(mem), &dir), SNAPSHOT_OK);
            const struct snapshot_info *newest = snapshot_dir_newest(dir);
            ck_assert_uint_eq(newest->index, ended ? 9 : 5);
            ck_assert_uint_eq(mem_env_file_count(mem), ended ? 2 : 1); /* the temporary file is gone */
            snap_check(mem, 5, 1, 3, 1000);
            if (ended) {
                snap_check(mem, 9, 1, 2, 3u << 20);
            }
            snapshot_dir_close(dir);
            mem_env_free(mem);
        }
    }
    free(data);
}
END_TEST

START_TEST(a_stale_temporary_file_is_replaced)
{
    struct mem_env *mem = mem_env_new(1);
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name_format(name, 9, 1, ".tmp");
    mem_env_file_put(mem, name, "rubbish", 7);
    snap_write_all(mem, 9, 1, 2, 100000);
    ck_assert_uint_eq(mem_env_file_count(mem), 1);
    snap_check(mem, 9, 1, 2, 100000);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_full_disk_ends_the_writer_and_leaves_nothing_of_it)
{
    uint8_t *data = snap_payload(2, 2u << 20);
    for (uint64_t room = 0; room <= 600; room += 25) {
        struct mem_env *mem = mem_env_new(room);
        struct snap_write write;
        size_t before;
        snap_write_all(mem, 5, 1, 3, 1000);
        mem_env_file(mem, "snapshot-0000000000000005-0000000000000001", &before);
        mem_env_capacity(mem, before + room * ENV_BLOCK);
        snap_write_begin(&write, mem, 9, 1, data, 2u << 20, 0);
        snap_run(mem);
        ck_assert_uint_eq(write.done, 1);
        snapshot_writer_close(write.writer);
        ck_assert_uint_eq(mem_env_open_files(mem), 0);
        if (room * ENV_BLOCK < (2u << 20)) {
            ck_assert_int_eq(write.status, SNAPSHOT_NO_SPACE);
            ck_assert_ptr_nonnull(strstr(write.error, "snapshot-0000000000000009"));
            ck_assert_uint_eq(mem_env_file_count(mem), 1);
        } else {
            ck_assert_int_eq(write.status, SNAPSHOT_OK);
            snap_check(mem, 9, 1, 2, 2u << 20);
        }
        snap_check(mem, 5, 1, 3, 1000);
        mem_env_free(mem);
    }
    free(data);
}
END_TEST

START_TEST(a_failing_request_at_every_step_ends_the_writer_and_leaves_nothing)
{
    uint8_t *data = snap_payload(2, 3u << 20);
    for (unsigned steps = 0;; steps++) {
        struct mem_env *mem = mem_env_new(steps);
        struct snap_write write;
        snap_write_begin(&write, mem, 9, 1, data, 3u << 20, 0);
        for (unsigned i = 0; i < steps && mem_env_pending(mem) > 0; i++) {
            mem_env_complete(mem, 0, ENV_OK);
        }
        bool ended = write.done > 0;
        if (!ended) {
            mem_env_complete(mem, 0, ENV_IO);
            snap_run(mem);
            ck_assert_uint_eq(write.done, 1);
            ck_assert_int_eq(write.status, SNAPSHOT_IO);
            ck_assert_uint_eq(mem_env_file_count(mem), 0);
        }
        snapshot_writer_close(write.writer);
        ck_assert_uint_eq(mem_env_open_files(mem), 0);
        mem_env_free(mem);
        if (ended) {
            break;
        }
    }
    free(data);
}
END_TEST

START_TEST(closing_a_writer_at_every_step_leaves_nothing)
{
    uint8_t *data = snap_payload(2, 3u << 20);
    bool ended = false;
    for (unsigned steps = 0; !ended; steps++) {
        struct mem_env *mem = mem_env_new(steps);
        struct snap_write write;
        snap_write_begin(&write, mem, 9, 1, data, 3u << 20, 0);
        for (unsigned i = 0; i < steps && mem_env_pending(mem) > 0; i++) {
            mem_env_complete(mem, 0, ENV_OK);
        }
        ended = write.done > 0;
        bool renaming = !ended && mem_env_pending_req(mem, 0)->op == ENV_DISK_RENAME;
        snapshot_writer_close(write.writer);
        snap_run(mem);
        ck_assert_uint_eq(write.done, ended ? 1 : 0);
        ck_assert_uint_eq(mem_env_file_count(mem), ended || renaming ? 1 : 0);
        ck_assert_uint_eq(mem_env_open_files(mem), 0);
        mem_env_free(mem);
    }
    free(data);
}
END_TEST

START_TEST(a_reader_may_take_its_time_and_requests_may_end_in_any_order)
{
    const size_t len = (6u << 20) + 12345;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct mem_env *mem = mem_env_new(seed);
        struct snap_read read;
        uint8_t *want = snap_payload(seed, len);
        snap_write_all(mem, 9, 1, seed, len);
        snap_read_begin(&read, mem, "snapshot-0000000000000009-0000000000000001", 1 + snap_mix(seed) % 300000);
        uint64_t x = seed;
        while (read.done == 0) {
            x = snap_mix(x);
            if (mem_env_pending(mem) > 0) {
                mem_env_complete(mem, (unsigned)(x >> 8) % mem_env_pending(mem), ENV_OK);
            } else {
                mem_env_advance(mem, 1);
            }
        }
        ck_assert_int_eq(read.status, SNAPSHOT_OK);
        ck_assert_uint_eq(read.len, len);
        ck_assert_int_eq(memcmp(read.data, want, len), 0);
        snap_read_end(&read, mem);
        free(want);
        mem_env_free(mem);
    }
}
END_TEST

static void idle_cb(void *ctx)
{
    ++*(unsigned *)ctx;
}

static void idle_opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    (void)ctx;
    (void)meta;
    (void)end;
}

START_TEST(a_reader_reads_ahead_within_a_bound)
{
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 1, 2, 20u << 20);
    struct snapshot_reader *reader;
    unsigned ready = 0;
    struct snapshot_reader_events events = {.opened = idle_opened_cb, .ready = idle_cb, .ctx = &ready};
    ck_assert_int_eq(
        snapshot_reader_open(mem_env_env(mem), NULL, "snapshot-0000000000000009-0000000000000001", &events, &reader),
        SNAPSHOT_OK);
    snap_run(mem); /* nobody consumes */
    const void *data;
    ck_assert_uint_eq(ready, 1);
    ck_assert_uint_gt(snapshot_reader_peek(reader, &data), 0);
    ck_assert_uint_gt(snapshot_reader_position(reader), 2u << 20);
    ck_assert_uint_lt(snapshot_reader_position(reader), 4u << 20);
    snapshot_reader_close(reader);
    snap_run(mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(closing_a_reader_at_every_step_leaks_nothing)
{
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 1, 2, 3u << 20);
    bool ended = false;
    for (unsigned steps = 0; !ended; steps++) {
        struct snap_read read;
        snap_read_begin(&read, mem, "snapshot-0000000000000009-0000000000000001", 0);
        for (unsigned i = 0; i < steps && mem_env_pending(mem) > 0; i++) {
            mem_env_complete(mem, 0, ENV_OK);
            ended = mem_env_pending(mem) == 0;
        }
        snap_read_end(&read, mem);
        ck_assert_uint_eq(read.done, 0);
    }
    mem_env_free(mem);
}
END_TEST

static void check_refused(struct mem_env *mem, const char *name, bool in_block)
{
    struct snap_verdict verdict = snap_verify(mem, name);
    ck_assert_int_eq(verdict.status, SNAPSHOT_DAMAGED);
    ck_assert_ptr_nonnull(strstr(verdict.error, name));
    if (in_block) {
        ck_assert_ptr_nonnull(strstr(verdict.error, "block"));
    }
}

START_TEST(every_flipped_bit_is_refused_with_file_and_block_named)
{
    const char *name = "snapshot-0000000000000009-0000000000000001";
    for (uint64_t seed = 2; seed < 4; seed++) {
        struct mem_env *mem = mem_env_new(1);
        snap_write_all(mem, 9, 1, seed, 70001); /* two blocks, padding behind the second */
        size_t size;
        uint8_t *file = mem_env_file(mem, name, &size);
        size_t stride = seed == 2 ? 13 : 5;
        for (size_t at = 0; at < size; at += at < 4400 || size - at < 4200 ? 1 : stride) {
            uint8_t bit = (uint8_t)(1u << (at % 8));
            file[at] ^= bit;
            check_refused(mem, name, at >= ENV_BLOCK && at < size - ENV_BLOCK);
            file[at] ^= bit;
        }
        ck_assert_int_eq(snap_verify(mem, name).status, SNAPSHOT_OK);
        mem_env_free(mem);
    }
}
END_TEST

START_TEST(a_shortened_or_lengthened_file_is_refused)
{
    const char *name = "snapshot-0000000000000009-0000000000000001";
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 1, 2, 200000);
    size_t size;
    uint8_t *file = mem_env_file(mem, name, &size);
    uint8_t *copy = calloc(1, size + ENV_BLOCK);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, file, size);
    for (size_t n = 0; n <= size + ENV_BLOCK; n += 512) {
        if (n != size) {
            mem_env_file_put(mem, name, copy, n);
            check_refused(mem, name, false);
        }
    }
    free(copy);
    mem_env_free(mem);
}
END_TEST

START_TEST(blocks_of_another_file_and_swapped_blocks_are_refused)
{
    const char *a = "snapshot-0000000000000009-0000000000000001";
    const char *b = "snapshot-000000000000000a-0000000000000001";
    const size_t block = snapshot_block_bytes(SNAPSHOT_BLOCK_BYTES);
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 1, 2, 3 * SNAPSHOT_BLOCK_BYTES); /* incompressible: all blocks have one length */
    snap_write_all(mem, 10, 1, 2, 3 * SNAPSHOT_BLOCK_BYTES);
    size_t size;
    uint8_t *file = mem_env_file(mem, a, &size);
    uint8_t *copy = malloc(size);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, file, size);
    memcpy(file + ENV_BLOCK, copy + ENV_BLOCK + block, block);
    memcpy(file + ENV_BLOCK + block, copy + ENV_BLOCK, block);
    check_refused(mem, a, true);
    memcpy(file, copy, size);
    memcpy(file + ENV_BLOCK + block, mem_env_file(mem, b, NULL) + ENV_BLOCK + block, block);
    check_refused(mem, a, true);
    memcpy(file, copy, size);
    memcpy(file + size - ENV_BLOCK, mem_env_file(mem, b, NULL) + size - ENV_BLOCK, ENV_BLOCK);
    check_refused(mem, a, false);
    mem_env_file_put(mem, b, copy, size); /* under a wrong name */
    check_refused(mem, b, false);
    free(copy);
    mem_env_free(mem);
}
END_TEST

START_TEST(what_comes_before_a_damaged_block_is_delivered_first)
{
    const char *name = "snapshot-0000000000000009-0000000000000001";
    const size_t block = snapshot_block_bytes(SNAPSHOT_BLOCK_BYTES);
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 1, 2, 50 * SNAPSHOT_BLOCK_BYTES);
    uint8_t *want = snap_payload(2, 50 * SNAPSHOT_BLOCK_BYTES);
    mem_env_file(mem, name, NULL)[ENV_BLOCK + 31 * block + 5000] ^= 1;
    struct snap_read read;
    snap_read_begin(&read, mem, name, 0);
    snap_run(mem);
    ck_assert_int_eq(read.status, SNAPSHOT_DAMAGED);
    ck_assert_ptr_nonnull(strstr(read.error, "block 31"));
    ck_assert_uint_eq(read.len, 31 * SNAPSHOT_BLOCK_BYTES);
    ck_assert_int_eq(memcmp(read.data, want, read.len), 0);
    snap_read_end(&read, mem);
    free(want);
    mem_env_free(mem);
}
END_TEST

START_TEST(an_unreadable_disk_is_an_error_and_no_damage)
{
    const char *name = "snapshot-0000000000000009-0000000000000001";
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 1, 2, 5u << 20);
    for (unsigned steps = 1; steps < 9; steps++) {
        struct snap_read read;
        snap_read_begin(&read, mem, name, 0);
        for (unsigned i = 0; i < steps; i++) {
            mem_env_complete(mem, 0, ENV_OK);
        }
        mem_env_fail_reads(mem, true);
        snap_run(mem);
        ck_assert_int_eq(read.status, SNAPSHOT_IO);
        ck_assert_uint_eq(read.done, 1);
        mem_env_fail_reads(mem, false);
        snap_read_end(&read, mem);
    }
    ck_assert_int_eq(snap_verify(mem, "snapshot-0000000000000008-0000000000000001").status, SNAPSHOT_NOT_FOUND);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_newer_format_is_refused_by_its_version)
{
    const char *name = "snapshot-0000000000000009-0000000000000001";
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 1, 2, 1000);
    struct snapshot_meta meta = snap_meta(9, 1);
    meta.flags = 1; /* a rule that this version does not know */
    (void)snapshot_header_encode(mem_env_file(mem, name, NULL), &meta);
    struct snap_verdict verdict = snap_verify(mem, name);
    ck_assert_int_eq(verdict.status, SNAPSHOT_VERSION);
    ck_assert_ptr_nonnull(strstr(verdict.error, "newer version"));
    mem_env_free(mem);
}
END_TEST

START_TEST(verification_tells_its_progress)
{
    struct mem_env *mem = mem_env_new(1);
    struct snapshot_end end = snap_write_all(mem, 9, 1, 2, 10u << 20);
    struct snap_verdict verdict = snap_verify(mem, "snapshot-0000000000000009-0000000000000001");
    ck_assert_int_eq(verdict.status, SNAPSHOT_OK);
    ck_assert_uint_ge(verdict.progress, 5);
    ck_assert_uint_eq(verdict.bytes, end.file_bytes);
    mem_env_free(mem);
}
END_TEST

START_TEST(names_are_parsed_strictly)
{
    uint64_t index;
    uint64_t term;
    ck_assert(snapshot_name_parse("snapshot-00000000000000ff-000000000000000a", &index, &term));
    ck_assert_uint_eq(index, 255);
    ck_assert_uint_eq(term, 10);
    static const char *const bad[] = {"snapshot-00000000000000ff-000000000000000a.tmp",
                                      "snapshot-00000000000000ff-000000000000000a.part",
                                      "snapshot-00000000000000FF-000000000000000a",
                                      "snapshot-00000000000000ff_000000000000000a",
                                      "snapshot-0000000000000000-000000000000000a",
                                      "snapshot-00000000000000ff-0000000000000000",
                                      "snapshot-00000000000000ff-00000000000000a",
                                      "Snapshot-00000000000000ff-000000000000000a",
                                      "wal-00000001"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert(!snapshot_name_parse(bad[i], &index, &term));
    }
}
END_TEST

/* --- Golden files: rows of 16 bytes with their offset; what is not there is zero ---------------------------------- */

static size_t golden_rows(const char *name, uint8_t bytes[GOLDEN_MAX])
{
    FILE *file = golden_open(name);
    memset(bytes, 0, GOLDEN_MAX);
    size_t top = 0;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned offset;
        int used;
        if (line[0] == '#' || sscanf(line, "%x:%n", &offset, &used) != 1) {
            continue;
        }
        unsigned byte;
        int n;
        for (const char *at = line + used; sscanf(at, " %2x%n", &byte, &n) == 1; at += n) {
            ck_assert_uint_lt(offset, GOLDEN_MAX);
            bytes[offset++] = (uint8_t)byte;
        }
        top = offset > top ? offset : top;
    }
    fclose(file);
    ck_assert_uint_gt(top, 0);
    return (top + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
}

START_TEST(a_file_has_the_bytes_of_the_golden_file)
{
    static uint8_t golden[GOLDEN_MAX];
    size_t n = golden_rows("snapshot-v1.hex", golden);
    struct mem_env *mem = mem_env_new(1);
    snap_write_all(mem, 9, 2, 2, 77); /* incompressible, so nothing depends on lz4's choices */
    size_t size;
    const uint8_t *file = mem_env_file(mem, "snapshot-0000000000000009-0000000000000002", &size);
    ck_assert_uint_eq(size, n);
    ck_assert_int_eq(memcmp(file, golden, n), 0);
    mem_env_free(mem);
}
END_TEST

START_TEST(the_golden_files_are_still_read)
{
    static uint8_t golden[GOLDEN_MAX];
    struct mem_env *mem = mem_env_new(1);
    size_t n = golden_rows("snapshot-v1.hex", golden);
    mem_env_file_put(mem, "snapshot-0000000000000009-0000000000000002", golden, n);
    snap_check(mem, 9, 2, 2, 77);
    n = golden_rows("snapshot-lz4-v1.hex", golden);
    mem_env_file_put(mem, "snapshot-0000000000000009-0000000000000003", golden, n);
    snap_check(mem, 9, 3, 3, 4000);
    mem_env_free(mem);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("file");
    tcase_set_timeout(cases, 100);
    tcase_add_test(cases, payloads_of_all_sizes_are_read_back);
    tcase_add_test(cases, what_the_header_says_is_read_back);
    tcase_add_test(cases, a_large_configuration_makes_a_longer_header);
    tcase_add_test(cases, a_writer_takes_no_more_than_its_buffers_hold);
    tcase_add_test(cases, the_name_appears_only_after_the_sync);
    tcase_add_test(cases, a_crash_at_every_step_of_writing_leaves_a_good_snapshot_or_none);
    tcase_add_test(cases, a_stale_temporary_file_is_replaced);
    tcase_add_test(cases, a_full_disk_ends_the_writer_and_leaves_nothing_of_it);
    tcase_add_test(cases, a_failing_request_at_every_step_ends_the_writer_and_leaves_nothing);
    tcase_add_test(cases, closing_a_writer_at_every_step_leaves_nothing);
    tcase_add_test(cases, a_reader_may_take_its_time_and_requests_may_end_in_any_order);
    tcase_add_test(cases, a_reader_reads_ahead_within_a_bound);
    tcase_add_test(cases, closing_a_reader_at_every_step_leaks_nothing);
    tcase_add_test(cases, every_flipped_bit_is_refused_with_file_and_block_named);
    tcase_add_test(cases, a_shortened_or_lengthened_file_is_refused);
    tcase_add_test(cases, blocks_of_another_file_and_swapped_blocks_are_refused);
    tcase_add_test(cases, what_comes_before_a_damaged_block_is_delivered_first);
    tcase_add_test(cases, an_unreadable_disk_is_an_error_and_no_damage);
    tcase_add_test(cases, a_newer_format_is_refused_by_its_version);
    tcase_add_test(cases, verification_tells_its_progress);
    tcase_add_test(cases, names_are_parsed_strictly);
    tcase_add_test(cases, a_file_has_the_bytes_of_the_golden_file);
    tcase_add_test(cases, the_golden_files_are_still_read);
    Suite *suite = suite_create("snapshot_file");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
