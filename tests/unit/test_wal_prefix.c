/* Dropping what a snapshot covers, recycling segments, and beginning anew behind an installed snapshot: at every
 * boundary, and cut short by a crash at every step. */
#include "tests/unit/wal_fixture.h"

#include <stdio.h>

#include "consensus/wal_format.h"
#include "consensus/wal_index.h"

#define LEN 1000u
/* Entries of LEN bytes per segment: 30. */
#define LOG_LAST 200u

static bool keep_some(void *ctx, size_t sector)
{
    uint64_t x = (*(uint64_t *)ctx + sector) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
    return (x >> 40 & 1u) != 0;
}

static void snapshot_at(struct fix *fix, uint64_t index, uint64_t term)
{
    fix->start_index = index;
    fix->start_term = index == 0 ? 0 : term;
}

/* A cleanly closed log of LOG_LAST entries. */
static struct mem_env *image_new(void)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    for (uint64_t index = 1; index <= LOG_LAST; index++) {
        fix_append_durable(&fix, index, index, 1, LEN);
    }
    fix_close(&fix);
    struct mem_env *image = mem_env_new(1);
    mem_env_copy_files(image, fix.mem);
    fix_fini(&fix);
    return image;
}

static void open_image(struct fix *fix, const struct mem_env *image, uint64_t snapshot)
{
    fix_init(fix);
    mem_env_copy_files(fix->mem, image);
    snapshot_at(fix, snapshot, 1);
    fix_open(fix);
}

static unsigned wal_files(const struct mem_env *mem)
{
    return mem_env_file_count(mem);
}

START_TEST(dropping_at_every_index_keeps_what_the_snapshot_does_not_cover)
{
    struct mem_env *image = image_new();
    uint64_t before = 1;
    unsigned moves = 0;
    for (uint64_t index = 0; index <= LOG_LAST; index++) {
        struct fix fix;
        open_image(&fix, image, index);
        wal_drop_prefix(fix.wal, index);
        mem_env_run(fix.mem);
        uint64_t first = wal_first(fix.wal);
        ck_assert_uint_le(first, index + 1);
        ck_assert_uint_ge(first, before);
        ck_assert_uint_lt(index - (first - 1), 31); /* less than a segment's worth stays */
        moves += first > before;
        before = first;
        fix_check_range(&fix, first, LOG_LAST, 1, LEN);
        ck_assert_uint_eq(wal_term_of(fix.wal, first - 1), first == 1 ? 0 : 1);
        fix_append_durable(&fix, LOG_LAST + 1, LOG_LAST + 70, 2, LEN);
        fix_crash(&fix, NULL, NULL);
        fix_open(&fix);
        ck_assert_uint_eq(wal_first(fix.wal), first);
        ck_assert_uint_eq(wal_last(fix.wal), LOG_LAST + 70);
        fix_check_range(&fix, first, LOG_LAST, 1, LEN);
        fix_check_range(&fix, LOG_LAST + 1, LOG_LAST + 70, 2, LEN);
        fix_fini(&fix);
    }
    ck_assert_uint_eq(moves, 6);
    mem_env_free(image);
}
END_TEST

START_TEST(a_crash_at_every_step_of_dropping_loses_nothing)
{
    struct mem_env *image = image_new();
    for (int happened = 0; happened < 2; happened++) {
        for (unsigned steps = 0; steps < 8; steps++) {
            for (unsigned recycle = 1; recycle <= 3; recycle++) {
                struct fix fix;
                fix_init(&fix);
                mem_env_copy_files(fix.mem, image);
                fix.recycle_max = recycle;
                snapshot_at(&fix, 190, 1);
                fix_open(&fix);
                wal_drop_prefix(fix.wal, 190);
                for (unsigned i = 0; i < steps && mem_env_pending(fix.mem) > 0; i++) {
                    mem_env_complete(fix.mem, 0, ENV_OK);
                }
                if (happened != 0 && mem_env_pending(fix.mem) > 0) {
                    /* The operation reached the disk, the news of it did not reach the log. */
                    struct env_disk_req *req = mem_env_pending_req(fix.mem, 0);
                    struct env *env = mem_env_env(fix.mem);
                    enum env_status status = req->op == ENV_DISK_RENAME
                                                 ? env->ops->rename_sync(env, req->name, req->name_to)
                                                 : env->ops->remove_sync(env, req->name);
                    ck_assert_int_eq(status, ENV_OK);
                }
                fix_crash(&fix, NULL, NULL);
                fix_open(&fix);
                ck_assert_uint_le(wal_first(fix.wal), 191);
                fix_check_range(&fix, wal_first(fix.wal), LOG_LAST, 1, LEN);
                fix_append_durable(&fix, LOG_LAST + 1, LOG_LAST + 40, 2, LEN);
                wal_drop_prefix(fix.wal, 190);
                fix_append_durable(&fix, LOG_LAST + 41, LOG_LAST + 150, 2, LEN);
                fix_crash(&fix, NULL, NULL);
                fix_open(&fix);
                ck_assert_uint_eq(wal_last(fix.wal), LOG_LAST + 150);
                fix_check_range(&fix, wal_first(fix.wal), LOG_LAST, 1, LEN);
                fix_check_range(&fix, LOG_LAST + 1, LOG_LAST + 150, 2, LEN);
                fix_fini(&fix);
            }
        }
    }
    mem_env_free(image);
}
END_TEST

/* The next entry begins a recycled segment. Gives the last index. */
static uint64_t fill_to_recycled(struct fix *fix, const struct mem_env *image)
{
    fix_init(fix);
    mem_env_copy_files(fix->mem, image);
    fix->recycle_max = 4;
    snapshot_at(fix, LOG_LAST, 1);
    fix_open(fix);
    wal_drop_prefix(fix->wal, LOG_LAST);
    mem_env_run(fix->mem);
    struct wal_stats stats;
    wal_stats(fix->wal, &stats);
    ck_assert_uint_gt(stats.recycled, 0);
    uint64_t last = LOG_LAST;
    for (;;) { /* segment 8 is the zero-filled spare, 9 the first recycled one */
        last++;
        fix_append(fix, last, last, 1, LEN);
        wal_flush(fix->wal);
        struct wal_header header;
        const struct env_disk_req *req = mem_env_pending_req(fix->mem, 0);
        ck_assert_int_eq(req->op, ENV_DISK_WRITE);
        if (req->offset == 0 && wal_header_decode(req->buf, &header) == WAL_HEADER_OK && header.generation == 9) {
            break;
        }
        mem_env_run(fix->mem);
    }
    struct wal_header old;
    ck_assert_int_eq(wal_header_decode(mem_env_file(fix->mem, "wal-00000009", NULL), &old), WAL_HEADER_OK);
    ck_assert_uint_lt(old.generation, 9);
    return last;
}

START_TEST(a_torn_first_write_into_a_recycled_segment_recovers)
{
    struct mem_env *image = image_new();
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct fix fix;
        uint64_t last = fill_to_recycled(&fix, image);
        fix_crash(&fix, seed == 0 ? NULL : keep_some, &seed);
        fix_open(&fix);
        uint64_t now = wal_last(fix.wal);
        ck_assert_uint_ge(now, last - 1);
        ck_assert_uint_le(now, last);
        fix_check_range(&fix, wal_first(fix.wal), now, 1, LEN);
        fix_append_durable(&fix, now + 1, now + 90, 2, LEN);
        fix_crash(&fix, NULL, NULL);
        fix_open(&fix);
        ck_assert_uint_eq(wal_last(fix.wal), now + 90);
        fix_check_range(&fix, wal_first(fix.wal), now, 1, LEN);
        fix_check_range(&fix, now + 1, now + 90, 2, LEN);
        fix_fini(&fix);
    }
    mem_env_free(image);
}
END_TEST

START_TEST(a_torn_write_in_the_midst_of_old_records_recovers)
{
    struct mem_env *image = image_new();
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct fix fix;
        uint64_t last = fill_to_recycled(&fix, image);
        mem_env_run(fix.mem);
        uint64_t more = last + 1 + seed % 8;
        /* As long as the old ones, so that their remains lie exactly where records are looked for. */
        fix_append_durable(&fix, last + 1, more, 1, LEN);
        uint64_t end = more + 1 + seed % 9;
        fix_append(&fix, more + 1, end, 1, LEN);
        wal_flush(fix.wal);
        fix_crash(&fix, keep_some, &seed);
        fix_open(&fix);
        uint64_t now = wal_last(fix.wal);
        ck_assert_uint_ge(now, more);
        ck_assert_uint_le(now, end);
        fix_check_range(&fix, wal_first(fix.wal), now, 1, LEN);
        fix_append_durable(&fix, now + 1, now + 90, 2, LEN);
        fix_crash(&fix, NULL, NULL);
        fix_open(&fix);
        ck_assert_uint_eq(wal_last(fix.wal), now + 90);
        fix_check_range(&fix, now + 1, now + 90, 2, LEN);
        fix_fini(&fix);
    }
    mem_env_free(image);
}
END_TEST

START_TEST(no_flipped_bit_in_a_recycled_segment_loses_an_entry)
{
    struct mem_env *image = image_new();
    struct fix fix;
    uint64_t last = fill_to_recycled(&fix, image);
    mem_env_run(fix.mem);
    fix_append_durable(&fix, last + 1, last + 2, 1, LEN);
    last += 2;
    fix_close(&fix);
    struct mem_env *clean = mem_env_new(1);
    mem_env_copy_files(clean, fix.mem);
    unsigned refused = 0;
    for (size_t at = 0; at < 8192; at += 3) {
        mem_env_copy_files(fix.mem, clean);
        mem_env_file(fix.mem, "wal-00000009", NULL)[at] ^= (uint8_t)(1u << (at % 8));
        enum wal_status status = fix_try_open(&fix);
        if (status == WAL_OK) {
            ck_assert_uint_eq(wal_last(fix.wal), last);
            fix_check_range(&fix, LOG_LAST + 1, last, 1, LEN);
            fix_close(&fix);
        } else {
            refused++;
            ck_assert_int_eq(status, WAL_CORRUPT);
            ck_assert_ptr_nonnull(strstr(fix.error, "fresh id"));
        }
    }
    ck_assert_uint_ge(refused, 3 * LEN / 3);
    mem_env_free(clean);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(old_bytes_of_a_recycled_segment_are_not_reported_as_a_torn_tail)
{
    struct mem_env *image = image_new();
    struct fix fix;
    fill_to_recycled(&fix, image);
    mem_env_run(fix.mem);
    fix_close(&fix);
    fix_open(&fix);
    ck_assert_ptr_null(strstr(mem_env_log(fix.mem), "torn"));
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(the_directory_stays_within_its_bound)
{
    struct fix fix;
    fix_init(&fix);
    fix.recycle_max = 3;
    fix_open(&fix);
    uint64_t last = 0;
    for (int round = 0; round < 80; round++) {
        fix_append_durable(&fix, last + 1, last + 100, 1, LEN);
        last += 100;
        wal_drop_prefix(fix.wal, last);
        mem_env_run(fix.mem);
        struct wal_stats stats;
        wal_stats(fix.wal, &stats);
        ck_assert_uint_le(wal_files(fix.mem), 5); /* the current one, one spare, three recycled */
        ck_assert_uint_eq(stats.segments, wal_files(fix.mem));
        ck_assert_uint_eq(stats.disk_bytes, stats.segments * FIX_SEGMENT_BYTES);
        ck_assert_uint_ge(wal_first(fix.wal), last - 30);
    }
    struct wal_stats stats;
    wal_stats(fix.wal, &stats);
    ck_assert_uint_gt(stats.recycled, 200);
    snapshot_at(&fix, last, 1);
    fix_close(&fix);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), last);
    ck_assert_uint_le(wal_files(fix.mem), 5);
    fix_fini(&fix);
}
END_TEST

START_TEST(too_many_spares_are_removed_at_the_start)
{
    struct mem_env *image = image_new();
    struct fix fix;
    fill_to_recycled(&fix, image);
    mem_env_run(fix.mem);
    fix_crash(&fix, NULL, NULL);
    unsigned before = wal_files(fix.mem);
    fix.recycle_max = 1;
    fix_open(&fix);
    ck_assert_uint_lt(wal_files(fix.mem), before);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(room_counts_recycled_segments)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, LOG_LAST);
    uint64_t used = wal_files(fix.mem) * FIX_SEGMENT_BYTES;
    mem_env_capacity(fix.mem, used);
    uint64_t before = wal_room(fix.wal);
    wal_drop_prefix(fix.wal, LOG_LAST);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(wal_files(fix.mem) * FIX_SEGMENT_BYTES, used); /* all recycled: at most 8 */
    const uint64_t each = FIX_SEGMENT_BYTES - WAL_HEADER_BYTES - WAL_MARK_BYTES;
    ck_assert_uint_eq(wal_room(fix.wal), before + 6 * each);
    uint64_t room = wal_room(fix.wal);
    uint64_t last = LOG_LAST;
    while (room >= 2 * wal_record_size(LEN)) {
        last++;
        fix_append_durable(&fix, last, last, 1, LEN);
        room = wal_room(fix.wal);
    }
    ck_assert_uint_gt(last, LOG_LAST + 180);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_full_disk_is_healed_by_dropping)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, LOG_LAST);
    mem_env_capacity(fix.mem, wal_files(fix.mem) * FIX_SEGMENT_BYTES);
    uint64_t last = LOG_LAST;
    for (int i = 0; i < 90; i++) { /* more than the spare takes: the rest waits in memory */
        last++;
        fix_append(&fix, last, last, 1, LEN);
    }
    wal_flush(fix.wal);
    mem_env_run(fix.mem);
    ck_assert_uint_lt(wal_durable(fix.wal), last);
    wal_drop_prefix(fix.wal, LOG_LAST);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(wal_durable(fix.wal), last);
    ck_assert_uint_eq(fix.n_failed, 0);
    fix_crash(&fix, NULL, NULL);
    fix_open(&fix);
    fix_check_range(&fix, wal_first(fix.wal), last, 1, LEN);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

struct reading {
    struct wal_read read;
    unsigned n;
    unsigned calls;
    enum wal_status status;
};

static void reading_cb(struct wal_read *read, enum wal_status status, const struct wal_entry *entries, unsigned n)
{
    struct reading *reading = (struct reading *)read;
    reading->calls++;
    reading->status = status;
    reading->n = n;
    for (unsigned i = 0; i < n; i++) {
        uint8_t want[LEN];
        fix_fill(want, entries[i].index, 1, LEN);
        ck_assert_uint_eq(entries[i].len, LEN);
        ck_assert_int_eq(memcmp(entries[i].data, want, LEN), 0);
    }
}

START_TEST(a_segment_that_is_being_read_goes_afterwards)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, LOG_LAST);
    struct reading reading = {.read = {.cb = reading_cb}};
    ck_assert_int_eq(wal_read_start(fix.wal, &reading.read, 5, 9, 100000, 100), WAL_OK);
    wal_drop_prefix(fix.wal, LOG_LAST);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 1);
    ck_assert_uint_eq(wal_first(fix.wal), 1);
    ck_assert(mem_env_complete_op(fix.mem, ENV_DISK_READ, ENV_OK));
    ck_assert_uint_eq(reading.calls, 1);
    ck_assert_int_eq(reading.status, WAL_OK);
    ck_assert_uint_eq(reading.n, 5);
    mem_env_run(fix.mem);
    ck_assert_uint_gt(wal_first(fix.wal), 150);
    wal_read_fini(fix.wal, &reading.read);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_segment_with_replaced_entries_above_the_snapshot_stays)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 70, 1, LEN);
    fix_append(&fix, 20, 21, 2, LEN); /* not durable: after a crash the log may be the old one */
    wal_drop_prefix(fix.wal, 19);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(wal_first(fix.wal), 1);
    snapshot_at(&fix, 19, 1);
    fix_crash(&fix, NULL, NULL);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 70);
    fix_append_durable(&fix, 20, 120, 2, LEN);
    wal_drop_prefix(fix.wal, 70);
    mem_env_run(fix.mem);
    ck_assert_uint_gt(wal_first(fix.wal), 19);
    uint64_t first = wal_first(fix.wal);
    ck_assert_uint_le(first, 71);
    snapshot_at(&fix, 70, 2);
    fix_crash(&fix, NULL, NULL);
    fix_open(&fix);
    ck_assert_uint_le(wal_first(fix.wal), 71);
    fix_check_range(&fix, first, 120, 2, LEN);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_log_that_begins_behind_the_snapshot_is_refused)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, 150);
    wal_drop_prefix(fix.wal, 150);
    mem_env_run(fix.mem);
    uint64_t first = wal_first(fix.wal);
    fix_close(&fix);
    for (uint64_t snapshot = 0; snapshot < 150; snapshot++) {
        snapshot_at(&fix, snapshot, 1);
        struct mem_env *before = mem_env_new(1);
        mem_env_copy_files(before, fix.mem);
        enum wal_status status = fix_try_open(&fix);
        if (snapshot + 1 >= first) {
            ck_assert_int_eq(status, WAL_OK);
            ck_assert_uint_eq(wal_first(fix.wal), first);
            fix_close(&fix);
        } else {
            ck_assert_int_eq(status, WAL_CORRUPT);
            ck_assert_ptr_nonnull(strstr(fix.error, "are missing"));
            ck_assert_ptr_nonnull(strstr(fix.error, "fresh id"));
            ck_assert_uint_eq(wal_files(before), wal_files(fix.mem));
        }
        mem_env_free(before);
    }
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_missing_middle_segment_is_refused_whatever_the_snapshot)
{
    struct mem_env *image = image_new();
    for (uint32_t generation = 2; generation <= 6; generation++) {
        struct fix fix;
        fix_init(&fix);
        mem_env_copy_files(fix.mem, image);
        char name[WAL_NAME_BYTES];
        wal_name_format(name, generation);
        mem_env_file_remove(fix.mem, name);
        snapshot_at(&fix, LOG_LAST, 1);
        ck_assert_int_eq(fix_try_open(&fix), WAL_CORRUPT);
        ck_assert_ptr_nonnull(strstr(fix.error, name));
        fix_fini(&fix);
    }
    mem_env_free(image);
}
END_TEST

START_TEST(a_damaged_header_of_the_first_segment_left_is_refused)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, LOG_LAST);
    wal_drop_prefix(fix.wal, LOG_LAST);
    mem_env_run(fix.mem);
    fix_close(&fix);
    mem_env_file(fix.mem, "wal-00000007", NULL)[30] ^= 4;
    ck_assert_int_eq(fix_try_open(&fix), WAL_CORRUPT);
    ck_assert_ptr_nonnull(strstr(fix.error, "wal-00000007"));
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_snapshot_without_any_log_is_refused_unless_restored)
{
    struct fix fix;
    fix_init(&fix);
    snapshot_at(&fix, 77, 5);
    ck_assert_int_eq(fix_try_open(&fix), WAL_CORRUPT);
    ck_assert_ptr_nonnull(strstr(fix.error, "no log at all"));
    ck_assert_uint_eq(wal_files(fix.mem), 0);
    fix.restored = true;
    fix_open(&fix);
    ck_assert_uint_eq(wal_first(fix.wal), 78);
    ck_assert_uint_eq(wal_last(fix.wal), 77);
    ck_assert_uint_eq(wal_term_of(fix.wal, 77), 5);
    fix.restored = false;
    fix_append_durable(&fix, 78, 80, 6, 100);
    fix_crash(&fix, NULL, NULL);
    fix_open(&fix);
    ck_assert_uint_eq(wal_first(fix.wal), 78);
    ck_assert_uint_eq(wal_term_of(fix.wal, 77), 5);
    fix_check_range(&fix, 78, 80, 6, 100);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_reset_log_continues_behind_the_snapshot)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, 0);
    ck_assert_int_eq(wal_reset(fix.wal, 1000, 7), WAL_OK);
    ck_assert_uint_eq(wal_first(fix.wal), 1001);
    ck_assert_uint_eq(wal_last(fix.wal), 1000);
    ck_assert_uint_eq(wal_durable(fix.wal), 1000);
    ck_assert_uint_eq(wal_term_of(fix.wal, 1000), 7);
    ck_assert_uint_eq(wal_term_of(fix.wal, 999), 0);
    unsigned reported = fix.n_persisted;
    wal_flush(fix.wal);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(fix.n_persisted, reported);
    fix_append_durable(&fix, 1001, 1060, 7, LEN);
    struct wal_stats stats;
    wal_stats(fix.wal, &stats);
    ck_assert_uint_ge(stats.recycled + stats.removed, 6);
    fix_crash(&fix, NULL, NULL);
    snapshot_at(&fix, 1000, 7);
    fix_open(&fix);
    ck_assert_uint_eq(wal_first(fix.wal), 1001);
    ck_assert_uint_eq(wal_last(fix.wal), 1060);
    ck_assert_uint_eq(wal_term_of(fix.wal, 1000), 7);
    fix_check_range(&fix, 1001, 1060, 7, LEN);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_crash_at_every_step_of_a_reset_leaves_the_old_log_or_the_new_one)
{
    struct mem_env *image = image_new();
    for (int known = 0; known < 2; known++) { /* whether wal_open is told of the snapshot */
        for (unsigned steps = 0; steps < 12; steps++) {
            for (uint64_t seed = 0; seed < 6; seed++) {
                struct fix fix;
                open_image(&fix, image, 0);
                /* Entries that were appended before and never became durable, then the reset, then new ones. */
                fix_append(&fix, LOG_LAST + 1, LOG_LAST + 3, 1, LEN);
                ck_assert_int_eq(wal_reset(fix.wal, 150, 3), WAL_OK);
                fix_append(&fix, 151, 152, 3, LEN);
                wal_flush(fix.wal);
                for (unsigned i = 0; i < steps && mem_env_pending(fix.mem) > 0; i++) {
                    mem_env_complete(fix.mem, 0, ENV_OK);
                }
                bool reported = fix.n_persisted > 0;
                fix_crash(&fix, seed == 0 ? NULL : keep_some, &seed);
                if (reported || known != 0) {
                    snapshot_at(&fix, 150, 3);
                }
                enum wal_status status = fix_try_open(&fix);
                if (status != WAL_OK) {
                    ck_assert_int_eq(known, 0); /* the new log, without the snapshot that it needs */
                    ck_assert_ptr_nonnull(strstr(fix.error, "entries from 1 to 150 are missing"));
                    snapshot_at(&fix, 150, 3);
                    fix_open(&fix);
                }
                mem_env_run(fix.mem);
                if (wal_first(fix.wal) == 1) {
                    ck_assert_int_eq(known, 0);
                    fix_check_range(&fix, 1, LOG_LAST, 1, LEN);
                } else {
                    ck_assert_uint_eq(wal_first(fix.wal), 151);
                    ck_assert_uint_eq(wal_term_of(fix.wal, 150), 3);
                    ck_assert_uint_ge(wal_last(fix.wal), reported ? 152 : 150);
                    fix_check_range(&fix, 151, wal_last(fix.wal), 3, LEN);
                }
                fix_fini(&fix);
            }
        }
    }
    mem_env_free(image);
}
END_TEST

START_TEST(a_snapshot_of_another_term_than_the_log_resets_it)
{
    struct mem_env *image = image_new();
    struct fix fix;
    fix_init(&fix);
    mem_env_copy_files(fix.mem, image);
    snapshot_at(&fix, 120, 2); /* the log holds entry 120 with term 1 */
    fix_open(&fix);
    ck_assert_uint_eq(wal_first(fix.wal), 121);
    ck_assert_uint_eq(wal_last(fix.wal), 120);
    mem_env_run(fix.mem);
    fix_close(&fix);
    fix_open(&fix);
    ck_assert_uint_eq(wal_first(fix.wal), 121);
    ck_assert_uint_eq(wal_term_of(fix.wal, 120), 2);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_read_in_flight_gives_nothing_after_a_reset)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, 0);
    struct reading reading = {.read = {.cb = reading_cb}};
    ck_assert_int_eq(wal_read_start(fix.wal, &reading.read, 160, 165, 100000, 100), WAL_OK);
    ck_assert_int_eq(wal_reset(fix.wal, 155, 2), WAL_OK);
    fix_append(&fix, 156, 170, 2, LEN);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(reading.calls, 1);
    ck_assert_uint_eq(reading.n, 0);
    wal_read_fini(fix.wal, &reading.read);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_refused_removal_is_tried_again_and_an_error_stops_the_log)
{
    struct mem_env *image = image_new();
    struct fix fix;
    open_image(&fix, image, LOG_LAST);
    wal_drop_prefix(fix.wal, LOG_LAST);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 1);
    mem_env_complete(fix.mem, 0, ENV_DENIED);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 0);
    ck_assert_ptr_nonnull(strstr(mem_env_log(fix.mem), "can't rename wal-00000001"));
    fix_append_durable(&fix, LOG_LAST + 1, LOG_LAST + 5, 1, LEN);
    ck_assert_ptr_nonnull(mem_env_file(fix.mem, "wal-00000001", NULL));
    wal_drop_prefix(fix.wal, LOG_LAST);
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_ptr_null(mem_env_file(fix.mem, "wal-00000001", NULL));
    ck_assert_uint_eq(fix.n_failed, 0);
    mem_env_complete(fix.mem, 0, ENV_IO);
    ck_assert_uint_eq(fix.n_failed, 1);
    mem_env_free(image);
    fix_fini(&fix);
}
END_TEST

START_TEST(closing_while_a_segment_goes_leaks_nothing)
{
    struct mem_env *image = image_new();
    for (unsigned steps = 0; steps < 8; steps++) {
        struct fix fix;
        fix_init(&fix);
        mem_env_copy_files(fix.mem, image);
        fix.recycle_max = 2;
        snapshot_at(&fix, LOG_LAST, 1);
        fix_open(&fix);
        wal_drop_prefix(fix.wal, LOG_LAST);
        for (unsigned i = 0; i < steps && mem_env_pending(fix.mem) > 0; i++) {
            mem_env_complete(fix.mem, 0, ENV_OK);
        }
        wal_close(fix.wal);
        mem_env_run(fix.mem);
        ck_assert_uint_eq(mem_env_open_files(fix.mem), 0);
        fix_open(&fix);
        ck_assert_uint_eq(wal_last(fix.wal), LOG_LAST);
        fix_fini(&fix);
    }
    mem_env_free(image);
}
END_TEST

START_TEST(the_map_gives_back_its_pages)
{
    struct wal_index index;
    wal_index_init(&index, 1);
    for (uint64_t at = 1; at <= 50000; at++) {
        struct wal_place place = {
            .term = at / 1000 + 1, .offset = at * 8, .generation = (uint32_t)(at / 300 + 1), .len = 5, .type = 1};
        ck_assert(wal_index_reserve(&index, at, 1, 1));
        wal_index_push(&index, &place);
    }
    size_t before = index.n_pages;
    for (uint64_t first = 2; first <= 50001; first += 611) {
        wal_index_drop(&index, first);
        ck_assert_uint_le(index.n_pages, (50000 - first) / 4096 + 2);
        for (uint64_t at = first; at <= 50000; at += 97) {
            struct wal_place place;
            wal_index_get(&index, at, &place);
            ck_assert_uint_eq(place.term, at / 1000 + 1);
            ck_assert_uint_eq(place.offset, at * 8);
            ck_assert_uint_eq(place.generation, at / 300 + 1);
        }
    }
    wal_index_drop(&index, 50001);
    ck_assert_uint_le(index.n_pages, 1);
    ck_assert_uint_gt(before, 10);
    ck_assert_uint_eq(index.terms.n, 1);
    wal_index_reset(&index, 7);
    ck_assert_uint_eq(index.n_pages, 0);
    struct wal_place place = {.term = 9, .offset = 8, .generation = 3, .len = 1, .type = 2};
    ck_assert(wal_index_reserve(&index, 7, 1, 1));
    wal_index_push(&index, &place);
    ck_assert_uint_eq(wal_index_term(&index, 7), 9);
    wal_index_fini(&index);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("prefix");
    tcase_set_timeout(cases, 100);
    tcase_add_test(cases, dropping_at_every_index_keeps_what_the_snapshot_does_not_cover);
    tcase_add_test(cases, a_crash_at_every_step_of_dropping_loses_nothing);
    tcase_add_test(cases, a_torn_first_write_into_a_recycled_segment_recovers);
    tcase_add_test(cases, a_torn_write_in_the_midst_of_old_records_recovers);
    tcase_add_test(cases, no_flipped_bit_in_a_recycled_segment_loses_an_entry);
    tcase_add_test(cases, old_bytes_of_a_recycled_segment_are_not_reported_as_a_torn_tail);
    tcase_add_test(cases, the_directory_stays_within_its_bound);
    tcase_add_test(cases, too_many_spares_are_removed_at_the_start);
    tcase_add_test(cases, room_counts_recycled_segments);
    tcase_add_test(cases, a_full_disk_is_healed_by_dropping);
    tcase_add_test(cases, a_segment_that_is_being_read_goes_afterwards);
    tcase_add_test(cases, a_segment_with_replaced_entries_above_the_snapshot_stays);
    tcase_add_test(cases, a_log_that_begins_behind_the_snapshot_is_refused);
    tcase_add_test(cases, a_missing_middle_segment_is_refused_whatever_the_snapshot);
    tcase_add_test(cases, a_damaged_header_of_the_first_segment_left_is_refused);
    tcase_add_test(cases, a_snapshot_without_any_log_is_refused_unless_restored);
    tcase_add_test(cases, a_reset_log_continues_behind_the_snapshot);
    tcase_add_test(cases, a_crash_at_every_step_of_a_reset_leaves_the_old_log_or_the_new_one);
    tcase_add_test(cases, a_snapshot_of_another_term_than_the_log_resets_it);
    tcase_add_test(cases, a_read_in_flight_gives_nothing_after_a_reset);
    tcase_add_test(cases, a_refused_removal_is_tried_again_and_an_error_stops_the_log);
    tcase_add_test(cases, closing_while_a_segment_goes_leaks_nothing);
    tcase_add_test(cases, the_map_gives_back_its_pages);
    Suite *suite = suite_create("wal_prefix");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
