/* Recovery of the WAL: torn tails are cut, damage is refused, and neither is ever taken for the other where the format
 * can tell. Format and rules: docs/FORMATS.md, section WAL. */
#include "tests/unit/wal_fixture.h"

#include <stdio.h>

#include "consensus/wal_format.h"

#define SEGMENT_1 "wal-00000001"
#define SEGMENT_2 "wal-00000002"

/* Which sectors of a torn write survive: bit i % 64 of the mask, or a random pattern from it. */
struct tear {
    uint64_t mask;
    bool random;
};

static bool tear_keep(void *ctx, size_t sector)
{
    const struct tear *tear = ctx;
    if (!tear->random) {
        return sector < 64 && (tear->mask >> sector & 1u) != 0;
    }
    uint64_t x = (tear->mask + sector) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
    return (x >> 40 & 1u) != 0;
}

/* After a crash: everything up to `durable` is there, and of what was being written a prefix. The log then goes on, and
 * what it is given then is what a further reopening finds. Returns the last index that survived. */
static uint64_t check_recovered(struct fix *fix, uint64_t durable, uint64_t appended, size_t len)
{
    fix_open(fix);
    uint64_t last = wal_last(fix->wal);
    ck_assert_uint_ge(last, durable);
    ck_assert_uint_le(last, appended);
    fix_check_range(fix, 1, last, 1, len);
    /* One record of the size of those that were torn, then power off: what lies behind it must not come back. */
    fix_append_durable(fix, last + 1, last + 1, 2, len);
    fix_crash(fix, NULL, NULL);
    fix_open(fix);
    ck_assert_uint_eq(wal_last(fix->wal), last + 1);
    fix_check_range(fix, 1, last, 1, len);
    fix_check(fix, last + 1, 2, len);
    return last;
}

/* `durable` entries are on disk, and a write of more up to `appended` is in flight. */
static void begin_torn(struct fix *fix, uint64_t durable, uint64_t appended, size_t len)
{
    fix_init(fix);
    fix_open(fix);
    fix_append_durable(fix, 1, durable, 1, len);
    fix_append(fix, durable + 1, appended, 1, len);
    wal_flush(fix->wal);
    ck_assert(wal_is_writing(fix->wal));
}

static void torn_case(const struct tear *tear, uint64_t durable, uint64_t appended, size_t len)
{
    struct fix fix;
    begin_torn(&fix, durable, appended, len);
    fix_crash(&fix, tear_keep, (void *)tear);
    check_recovered(&fix, durable, appended, len);
    fix_fini(&fix);
}

START_TEST(every_subset_of_sectors_of_a_one_block_write_recovers)
{
    for (uint64_t mask = 0; mask < 256; mask++) {
        struct tear tear = {.mask = mask};
        torn_case(&tear, 3, 9, 250);
    }
}
END_TEST

START_TEST(every_prefix_and_suffix_of_a_long_write_recovers)
{
    for (unsigned n = 0; n <= 40; n++) {
        struct tear prefix = {.mask = (UINT64_C(1) << n) - 1};
        struct tear suffix = {.mask = ~prefix.mask};
        torn_case(&prefix, 4, 20, 1000);
        torn_case(&suffix, 4, 20, 1000);
    }
}
END_TEST

START_TEST(a_write_with_any_one_sector_lost_or_alone_recovers)
{
    for (unsigned n = 0; n < 40; n++) {
        struct tear alone = {.mask = UINT64_C(1) << n};
        struct tear lost = {.mask = ~alone.mask};
        torn_case(&alone, 4, 20, 1000);
        torn_case(&lost, 4, 20, 1000);
    }
}
END_TEST

START_TEST(random_subsets_of_a_long_write_recover)
{
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct tear tear = {.mask = seed * 1000, .random = true};
        torn_case(&tear, seed % 5, seed % 5 + 1 + seed % 22, 100 + seed % 9 * 150);
    }
}
END_TEST

START_TEST(the_first_write_of_all_may_be_torn_anywhere)
{
    for (unsigned n = 0; n <= 24; n++) {
        struct tear prefix = {.mask = (UINT64_C(1) << n) - 1};
        struct tear suffix = {.mask = ~prefix.mask};
        torn_case(&prefix, 0, 9, 1000);
        torn_case(&suffix, 0, 9, 1000);
    }
}
END_TEST

START_TEST(the_first_write_of_a_segment_may_be_torn_anywhere)
{
    for (unsigned n = 0; n <= 24; n++) {
        for (int side = 0; side < 2; side++) {
            uint64_t mask = (UINT64_C(1) << n) - 1;
            struct tear tear = {.mask = side == 0 ? mask : ~mask};
            struct fix fix;
            fix_init(&fix);
            fix_open(&fix);
            uint64_t last = 0;
            while (mem_env_file(fix.mem, "wal-00000003", NULL) == NULL) { /* exists once segment 2 is begun */
                last++;
                fix_append(&fix, last, last, 1, 1000);
                wal_flush(fix.wal);
                if (mem_env_pending(fix.mem) == 1) {
                    mem_env_run(fix.mem);
                } else {
                    break; /* the write that begins segment 2, and the creation of segment 3 */
                }
            }
            ck_assert_uint_eq(wal_durable(fix.wal), last - 1);
            fix_crash(&fix, tear_keep, &tear);
            check_recovered(&fix, last - 1, last, 1000);
            fix_fini(&fix);
        }
    }
}
END_TEST

START_TEST(a_crash_during_recovery_and_after_it_loses_nothing)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct tear tear = {.mask = seed, .random = true};
        struct fix fix;
        begin_torn(&fix, 5, 15, 700);
        fix_crash(&fix, tear_keep, &tear);
        /* The blocks that recovery writes once more are torn, which may change nothing. */
        mem_env_tear_sync(fix.mem, 0, seed % 9, ENV_IO);
        enum wal_status status = fix_try_open(&fix);
        ck_assert(status == WAL_OK || status == WAL_IO);
        if (status == WAL_OK) {
            fix_crash(&fix, NULL, NULL);
        }
        mem_env_restart(fix.mem);
        check_recovered(&fix, 5, 15, 700);
        fix_fini(&fix);
    }
}
END_TEST

START_TEST(what_was_read_above_the_mark_is_made_durable_before_it_counts)
{
    struct fix fix;
    begin_torn(&fix, 2, 6, 300);
    struct tear all = {.mask = UINT64_MAX};
    fix_crash(&fix, tear_keep, &all);
    unsigned before = mem_env_sync_writes(fix.mem);
    fix_open(&fix);
    ck_assert_uint_eq(wal_durable(fix.wal), 6);
    ck_assert_uint_eq(mem_env_sync_writes(fix.mem), before + 1);
    fix_fini(&fix);
}
END_TEST

START_TEST(records_behind_a_cut_never_come_back)
{
    /* The first block of a long write is lost, the rest is there. Then exactly the lost bytes are written again: what
     * lies behind would follow them, were it not for the chain. */
    struct tear tear = {.mask = ~UINT64_C(0xff)};
    struct fix fix;
    begin_torn(&fix, 0, 16, 1000);
    fix_crash(&fix, tear_keep, &tear);
    for (int i = 0; i < 3; i++) {
        fix_open(&fix);
        uint64_t last = wal_last(fix.wal);
        ck_assert_uint_le(last, (uint64_t)i);
        fix_append_durable(&fix, last + 1, last + 1, 1, 1000); /* the very same entry as before */
        fix_crash(&fix, NULL, NULL);
        fix_open(&fix);
        ck_assert_uint_eq(wal_last(fix.wal), last + 1);
        fix_crash(&fix, NULL, NULL);
    }
    fix_fini(&fix);
}
END_TEST

START_TEST(a_second_torn_write_of_the_same_entries_does_not_link_up_with_the_first)
{
    /* Records of 80 bytes: the 13th begins at offset 1024, a sector's start. The first attempt loses the second sector
     * and leaves records from there on; the second attempt, byte for byte the same entries, ends right before them. */
    struct tear second_lost = {.mask = ~UINT64_C(2)};
    struct tear two_kept = {.mask = 3};
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 4, 1, 8);
    fix_crash(&fix, NULL, NULL);
    fix_open(&fix);
    fix_append(&fix, 5, 30, 1, 8);
    wal_flush(fix.wal);
    fix_crash(&fix, tear_keep, &second_lost);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 4);
    fix_append(&fix, 5, 10, 1, 8);
    wal_flush(fix.wal);
    fix_crash(&fix, tear_keep, &two_kept);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 10);
    fix_check_range(&fix, 1, 10, 1, 8);
    fix_fini(&fix);
}
END_TEST

START_TEST(entries_that_imitate_records_prove_nothing)
{
    /* A client's value holds a record that claims everything was durable. */
    uint8_t fake[WAL_RECORD_BYTES + 8];
    for (uint32_t generation = 1; generation <= 2; generation++) {
        struct wal_record record = {
            .seq = 9, .index = 9, .term = 1, .mark = 1000000, .generation = generation, .len = 8, .type = WAL_COMMAND};
        wal_record_encode(fake, &record, "12345678");
        struct wal_entry entry = {.index = 2, .term = 1, .type = WAL_COMMAND, .data = fake, .len = sizeof fake};
        struct fix fix;
        fix_init(&fix);
        fix_open(&fix);
        fix_append_durable(&fix, 1, 1, 1, 3000);
        ck_assert_int_eq(wal_append(fix.wal, &entry, 1), WAL_OK);
        entry.index = 3;
        ck_assert_int_eq(wal_append(fix.wal, &entry, 1), WAL_OK);
        wal_flush(fix.wal);
        mem_env_run(fix.mem);
        fix_crash(&fix, NULL, NULL);
        size_t size;
        uint8_t *file = mem_env_file(fix.mem, SEGMENT_1, &size);
        /* Entry 2 was never marked: damage in its header cuts it, with the imitations left behind. */
        for (size_t at = 3000; at < size; at += 8) {
            struct wal_record found;
            if (wal_record_decode(file + at, &found) && found.index == 2) {
                file[at + 20] ^= 1;
                break;
            }
        }
        fix_open(&fix);
        ck_assert_uint_eq(wal_last(fix.wal), 1);
        fix_fini(&fix);
    }
}
END_TEST

/* A log of a few entries with a clean end. */
static void clean_log(struct fix *fix, uint64_t last, size_t len)
{
    fix_init(fix);
    fix_open(fix);
    for (uint64_t index = 1; index <= last; index++) {
        fix_append_durable(fix, index, index, 1, len);
    }
    fix_close(fix);
}

static void check_refused(const struct fix *fix, enum wal_status status)
{
    ck_assert_int_eq(status, WAL_CORRUPT);
    ck_assert_ptr_nonnull(strstr(fix->error, "fresh id"));
    ck_assert_ptr_nonnull(strstr(fix->error, "Do not delete"));
    ck_assert_ptr_nonnull(strstr(fix->error, "wal-0000000"));
}

START_TEST(no_flipped_bit_loses_an_entry_of_a_cleanly_closed_log)
{
    struct fix fix;
    clean_log(&fix, 6, 120);
    struct mem_env *image = mem_env_new(1);
    mem_env_copy_files(image, fix.mem);
    unsigned refused = 0;
    for (size_t at = 0; at < 2048; at++) {
        mem_env_copy_files(fix.mem, image);
        mem_env_file(fix.mem, SEGMENT_1, NULL)[at] ^= (uint8_t)(1u << (at % 8));
        enum wal_status status = fix_try_open(&fix);
        if (status == WAL_OK) {
            /* In padding, or behind the last entry. */
            ck_assert_uint_eq(wal_last(fix.wal), 6);
            fix_check_range(&fix, 1, 6, 1, 120);
            fix_close(&fix);
        } else {
            refused++;
            check_refused(&fix, status);
        }
        ck_assert_uint_eq(mem_env_open_files(fix.mem), 0);
    }
    ck_assert_uint_ge(refused, 6 * (WAL_RECORD_BYTES + 120));
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(damage_names_file_offset_and_entries)
{
    struct fix fix;
    clean_log(&fix, 20, 500);
    mem_env_file(fix.mem, SEGMENT_1, NULL)[5000] ^= 1;
    check_refused(&fix, fix_try_open(&fix));
    ck_assert_ptr_nonnull(strstr(fix.error, SEGMENT_1 " is damaged at offset 4"));
    ck_assert_ptr_nonnull(strstr(fix.error, "entries from 9 to 20"));
    fix_fini(&fix);
}
END_TEST

START_TEST(refusing_changes_nothing_on_disk)
{
    struct fix fix;
    clean_log(&fix, 80, 1000);
    mem_env_file(fix.mem, SEGMENT_2, NULL)[9000] ^= 1;
    struct mem_env *image = mem_env_new(1);
    mem_env_copy_files(image, fix.mem);
    for (int i = 0; i < 2; i++) {
        check_refused(&fix, fix_try_open(&fix));
        ck_assert_uint_eq(mem_env_pending(fix.mem), 0);
        ck_assert_uint_eq(mem_env_file_count(fix.mem), mem_env_file_count(image));
        for (unsigned n = 1; n <= mem_env_file_count(image); n++) {
            char name[WAL_NAME_BYTES];
            size_t size;
            wal_name_format(name, n);
            const uint8_t *want = mem_env_file(image, name, &size);
            ck_assert_int_eq(memcmp(mem_env_file(fix.mem, name, NULL), want, size), 0);
        }
    }
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(damage_in_an_old_segment_is_refused_wherever_it_is)
{
    struct fix fix;
    clean_log(&fix, 100, 1000);
    struct mem_env *image = mem_env_new(1);
    mem_env_copy_files(image, fix.mem);
    for (size_t at = 0; at < 30000; at += 997) {
        mem_env_copy_files(fix.mem, image);
        memset(mem_env_file(fix.mem, SEGMENT_1, NULL) + at, 0, MEM_SECTOR); /* a whole sector gone */
        check_refused(&fix, fix_try_open(&fix));
    }
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(an_acknowledged_tail_is_protected_by_the_next_write)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 1, 1, 100);
    fix_append_durable(&fix, 2, 2, 1, 100);
    fix_append_durable(&fix, 3, 3, 1, 100);
    fix_crash(&fix, NULL, NULL);
    struct mem_env *image = mem_env_new(1);
    mem_env_copy_files(image, fix.mem);
    /* header, opening mark, then the three entries of 176 bytes each */
    const size_t second = WAL_HEADER_BYTES + WAL_MARK_BYTES + 176;
    mem_env_file(fix.mem, SEGMENT_1, NULL)[second + 100] ^= 1;
    check_refused(&fix, fix_try_open(&fix));
    mem_env_copy_files(fix.mem, image);
    /* The last one has no successor: its damage can't be told from a torn write. */
    mem_env_file(fix.mem, SEGMENT_1, NULL)[second + 176 + 100] ^= 1;
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 2);
    ck_assert_ptr_nonnull(strstr(mem_env_log(fix.mem), "torn tail"));
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(an_idle_log_protects_its_last_entry)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 1, 1, 100);
    mem_env_advance(fix.mem, 100000);
    mem_env_run(fix.mem);
    fix_crash(&fix, NULL, NULL);
    mem_env_file(fix.mem, SEGMENT_1, NULL)[WAL_HEADER_BYTES + WAL_MARK_BYTES + 100] ^= 1;
    check_refused(&fix, fix_try_open(&fix));
    fix_fini(&fix);
}
END_TEST

START_TEST(a_reopened_log_protects_what_it_found_after_a_while)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 1, 1, 100);
    fix_crash(&fix, NULL, NULL);
    fix_open(&fix);
    mem_env_advance(fix.mem, 100000); /* the opening mark goes out by itself */
    mem_env_run(fix.mem);
    fix_crash(&fix, NULL, NULL);
    mem_env_file(fix.mem, SEGMENT_1, NULL)[WAL_HEADER_BYTES + WAL_MARK_BYTES + 100] ^= 1;
    check_refused(&fix, fix_try_open(&fix));
    fix_fini(&fix);
}
END_TEST

START_TEST(a_missing_segment_is_refused)
{
    static const char *const names[] = {SEGMENT_1, SEGMENT_2};
    for (unsigned i = 0; i < 2; i++) {
        struct fix fix;
        clean_log(&fix, 100, 1000);
        mem_env_file_remove(fix.mem, names[i]);
        ck_assert_int_eq(fix_try_open(&fix), WAL_CORRUPT);
        ck_assert_ptr_nonnull(strstr(fix.error, names[i]));
        fix_fini(&fix);
    }
}
END_TEST

START_TEST(a_shortened_segment_is_refused)
{
    static const size_t sizes[] = {0, 100, ENV_BLOCK, 5000, 3 * ENV_BLOCK};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct fix fix;
        clean_log(&fix, 100, 1000);
        uint8_t *copy = malloc(FIX_SEGMENT_BYTES);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, mem_env_file(fix.mem, SEGMENT_2, NULL), FIX_SEGMENT_BYTES);
        mem_env_file_put(fix.mem, SEGMENT_2, copy, sizes[i]);
        free(copy);
        check_refused(&fix, fix_try_open(&fix));
        fix_fini(&fix);
    }
}
END_TEST

START_TEST(a_segment_of_another_log_is_refused)
{
    struct fix fix;
    clean_log(&fix, 100, 1000);
    struct fix other;
    fix_init(&other);
    mem_env_free(other.mem);
    other.mem = mem_env_new(2); /* another salt */
    fix_open(&other);
    fix_append_durable(&other, 1, 100, 1, 1000);
    fix_close(&other);
    size_t size;
    uint8_t *bytes = mem_env_file(other.mem, SEGMENT_2, &size);
    mem_env_file_put(fix.mem, SEGMENT_2, bytes, size);
    check_refused(&fix, fix_try_open(&fix));
    ck_assert_ptr_nonnull(strstr(fix.error, "another log"));
    fix_fini(&other);
    fix_fini(&fix);
}
END_TEST

START_TEST(swapped_segments_are_refused)
{
    struct fix fix;
    clean_log(&fix, 100, 1000);
    uint8_t copy[FIX_SEGMENT_BYTES];
    memcpy(copy, mem_env_file(fix.mem, SEGMENT_1, NULL), sizeof copy);
    memcpy(mem_env_file(fix.mem, SEGMENT_1, NULL), mem_env_file(fix.mem, SEGMENT_2, NULL), sizeof copy);
    memcpy(mem_env_file(fix.mem, SEGMENT_2, NULL), copy, sizeof copy);
    check_refused(&fix, fix_try_open(&fix));
    fix_fini(&fix);
}
END_TEST

START_TEST(a_newer_format_is_refused_by_its_version)
{
    struct fix fix;
    clean_log(&fix, 3, 100);
    struct wal_header header;
    uint8_t *file = mem_env_file(fix.mem, SEGMENT_1, NULL);
    ck_assert_int_eq(wal_header_decode(file, &header), WAL_HEADER_OK);
    header.version = WAL_VERSION_MAX + 1;
    wal_header_encode(file, &header);
    ck_assert_int_eq(fix_try_open(&fix), WAL_VERSION);
    ck_assert_ptr_nonnull(strstr(fix.error, "newer version"));
    fix_fini(&fix);
}
END_TEST

START_TEST(an_unreadable_disk_is_an_error_not_an_empty_log)
{
    struct fix fix;
    clean_log(&fix, 3, 100);
    mem_env_fail_reads(fix.mem, true);
    ck_assert_int_eq(fix_try_open(&fix), WAL_IO);
    mem_env_fail_reads(fix.mem, false);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 3);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_creation_cut_short_leaves_a_usable_directory)
{
    static const size_t sizes[] = {0, ENV_BLOCK, FIX_SEGMENT_BYTES - ENV_BLOCK, FIX_SEGMENT_BYTES};
    uint8_t *zeros = calloc(1, FIX_SEGMENT_BYTES);
    ck_assert_ptr_nonnull(zeros);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct fix fix;
        fix_init(&fix);
        mem_env_file_put(fix.mem, SEGMENT_1, zeros, sizes[i]);
        fix_open(&fix);
        fix_append_durable(&fix, 1, 100, 1, 1000);
        fix_close(&fix);
        fix_open(&fix);
        fix_check_range(&fix, 1, 100, 1, 1000);
        fix_close(&fix);
        char name[WAL_NAME_BYTES];
        wal_name_format(name, mem_env_file_count(fix.mem) + 1);
        mem_env_file_put(fix.mem, name, zeros, sizes[i]);
        fix_open(&fix);
        fix_append_durable(&fix, 101, 200, 1, 1000);
        fix_check_range(&fix, 1, 200, 1, 1000);
        fix_fini(&fix);
    }
    free(zeros);
}
END_TEST

START_TEST(files_with_other_names_are_left_alone)
{
    struct fix fix;
    fix_init(&fix);
    mem_env_file_put(fix.mem, "state", "abc", 3);
    mem_env_file_put(fix.mem, "wal-1", "abc", 3);
    mem_env_file_put(fix.mem, "wal-0000000G", "abc", 3);
    mem_env_file_put(fix.mem, "wal-00000001.bak", "abc", 3);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 1, 1, 10);
    fix_close(&fix);
    ck_assert_ptr_nonnull(mem_env_file(fix.mem, "state", NULL));
    ck_assert_ptr_nonnull(mem_env_file(fix.mem, "wal-1", NULL));
    ck_assert_ptr_nonnull(mem_env_file(fix.mem, "wal-0000000G", NULL));
    ck_assert_ptr_nonnull(mem_env_file(fix.mem, "wal-00000001.bak", NULL));
    fix_fini(&fix);
}
END_TEST

/* Random appends, replacements, flushes, partial completions and crashes against a plain array. */
START_TEST(a_random_life_never_loses_what_was_reported)
{
    enum { MODEL_MAX = 400, STEPS = 2500 };
    static uint64_t term_of[MODEL_MAX + 1];
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct fix fix;
        fix_init(&fix);
        fix_open(&fix);
        uint64_t x = seed;
        uint64_t last = 0;
        uint64_t durable = 0;
        uint64_t term = 1;
        for (int step = 0; step < STEPS; step++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            unsigned dice = (unsigned)(x >> 33) % 100;
            unsigned more = (unsigned)(x >> 43);
            if (dice < 50 && last < MODEL_MAX - 4) {
                uint64_t to = last + 1 + more % 4;
                fix_append(&fix, last + 1, to, term, term * 37 % 1500);
                while (last < to) {
                    term_of[++last] = term;
                }
            } else if (dice < 55 && last > 0) {
                uint64_t from = last - more % (last < 6 ? last : 6);
                term++;
                fix_append(&fix, from, from, term, term * 37 % 1500);
                term_of[from] = term;
                last = from;
                durable = durable < from - 1 ? durable : from - 1;
            } else if (dice < 75) {
                wal_flush(fix.wal);
            } else if (dice < 95 && mem_env_pending(fix.mem) > 0) {
                unsigned before = fix.n_persisted;
                mem_env_complete(fix.mem, more % mem_env_pending(fix.mem), ENV_OK);
                if (fix.n_persisted > before) {
                    ck_assert_uint_eq(fix.n_persisted, before + 1);
                    uint64_t index = fix.persisted[before].index;
                    ck_assert_uint_gt(index, durable);
                    ck_assert_uint_le(index, last);
                    ck_assert_uint_eq(fix.persisted[before].term, term_of[index]);
                    durable = index;
                }
            } else if (dice < 97) {
                mem_env_advance(fix.mem, 150000);
            } else if (dice >= 98) {
                struct tear tear = {.mask = x, .random = true};
                fix_crash(&fix, tear_keep, &tear);
                fix_open(&fix);
                uint64_t now = wal_last(fix.wal);
                ck_assert_uint_ge(now, durable);
                for (uint64_t i = 1; i <= durable; i++) {
                    fix_check(&fix, i, term_of[i], term_of[i] * 37 % 1500);
                }
                /* Beyond it: what was appended and not reported, possibly with replaced entries that came back. */
                for (uint64_t i = durable + 1; i <= now; i++) {
                    term_of[i] = wal_term_of(fix.wal, i);
                    fix_check(&fix, i, term_of[i], term_of[i] * 37 % 1500);
                }
                last = now;
                durable = now;
            }
            ck_assert_uint_eq(wal_durable(fix.wal), durable);
            ck_assert_uint_eq(wal_last(fix.wal), last);
        }
        fix_fini(&fix);
    }
}
END_TEST

static void add_damage_tests(TCase *cases)
{
    tcase_add_test(cases, no_flipped_bit_loses_an_entry_of_a_cleanly_closed_log);
    tcase_add_test(cases, damage_names_file_offset_and_entries);
    tcase_add_test(cases, refusing_changes_nothing_on_disk);
    tcase_add_test(cases, damage_in_an_old_segment_is_refused_wherever_it_is);
    tcase_add_test(cases, an_acknowledged_tail_is_protected_by_the_next_write);
    tcase_add_test(cases, an_idle_log_protects_its_last_entry);
    tcase_add_test(cases, a_reopened_log_protects_what_it_found_after_a_while);
    tcase_add_test(cases, a_missing_segment_is_refused);
    tcase_add_test(cases, a_shortened_segment_is_refused);
    tcase_add_test(cases, a_segment_of_another_log_is_refused);
    tcase_add_test(cases, swapped_segments_are_refused);
    tcase_add_test(cases, a_newer_format_is_refused_by_its_version);
    tcase_add_test(cases, an_unreadable_disk_is_an_error_not_an_empty_log);
    tcase_add_test(cases, a_creation_cut_short_leaves_a_usable_directory);
    tcase_add_test(cases, files_with_other_names_are_left_alone);
}

int main(void)
{
    TCase *cases = tcase_create("recover");
    tcase_set_timeout(cases, 100);
    tcase_add_test(cases, every_subset_of_sectors_of_a_one_block_write_recovers);
    tcase_add_test(cases, every_prefix_and_suffix_of_a_long_write_recovers);
    tcase_add_test(cases, a_write_with_any_one_sector_lost_or_alone_recovers);
    tcase_add_test(cases, random_subsets_of_a_long_write_recover);
    tcase_add_test(cases, the_first_write_of_all_may_be_torn_anywhere);
    tcase_add_test(cases, the_first_write_of_a_segment_may_be_torn_anywhere);
    tcase_add_test(cases, a_crash_during_recovery_and_after_it_loses_nothing);
    tcase_add_test(cases, what_was_read_above_the_mark_is_made_durable_before_it_counts);
    tcase_add_test(cases, records_behind_a_cut_never_come_back);
    tcase_add_test(cases, a_second_torn_write_of_the_same_entries_does_not_link_up_with_the_first);
    tcase_add_test(cases, entries_that_imitate_records_prove_nothing);
    tcase_add_test(cases, a_random_life_never_loses_what_was_reported);
    add_damage_tests(cases);
    Suite *suite = suite_create("wal_recover");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
