/* Appending, replacing, reporting, rolling, space and failures. Recovery: test_wal_recover.c; read-back:
 * test_wal_read.c. */
#include "tests/unit/wal_fixture.h"

#include "consensus/wal_format.h"

START_TEST(a_new_log_is_empty)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    ck_assert_uint_eq(wal_first(fix.wal), 1);
    ck_assert_uint_eq(wal_last(fix.wal), 0);
    ck_assert_uint_eq(wal_durable(fix.wal), 0);
    ck_assert_uint_eq(wal_term_of(fix.wal, 1), 0);
    ck_assert(!wal_is_writing(fix.wal));
    fix_fini(&fix);
}
END_TEST

START_TEST(entries_of_all_sizes_survive_reopening)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 100, 4095, 4096, 4097, FIX_ENTRY_MAX};
    const uint64_t n = sizeof sizes / sizeof sizes[0];
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    for (uint64_t i = 0; i < n; i++) {
        fix_append_durable(&fix, i + 1, i + 1, i / 3 + 1, sizes[i]);
    }
    fix_close(&fix);
    for (int again = 0; again < 2; again++) {
        fix_open(&fix);
        ck_assert_uint_eq(wal_last(fix.wal), n);
        ck_assert_uint_eq(wal_durable(fix.wal), n);
        for (uint64_t i = 0; i < n; i++) {
            fix_check(&fix, i + 1, i / 3 + 1, sizes[i]);
        }
        fix_close(&fix);
    }
    fix_fini(&fix);
}
END_TEST

START_TEST(appending_goes_on_after_reopening)
{
    struct fix fix;
    fix_init(&fix);
    for (uint64_t i = 1; i <= 40; i++) {
        fix_open(&fix);
        ck_assert_uint_eq(wal_last(fix.wal), i - 1);
        fix_append_durable(&fix, i, i, i, 300);
        fix_close(&fix);
    }
    fix_open(&fix);
    for (uint64_t i = 1; i <= 40; i++) {
        fix_check(&fix, i, i, 300);
    }
    fix_fini(&fix);
}
END_TEST

START_TEST(nothing_is_written_before_flush)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append(&fix, 1, 3, 1, 50);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 0);
    ck_assert_uint_gt(wal_pending_bytes(fix.wal), 150);
    wal_flush(fix.wal);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 1);
    ck_assert(wal_is_writing(fix.wal));
    mem_env_run(fix.mem);
    ck_assert_uint_eq(wal_pending_bytes(fix.wal), 0);
    fix_fini(&fix);
}
END_TEST

START_TEST(what_is_appended_during_a_write_goes_out_in_one_next_write)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append(&fix, 1, 1, 1, 50);
    wal_flush(fix.wal);
    for (uint64_t i = 2; i <= 9; i++) {
        fix_append(&fix, i, i, 1, 50);
        wal_flush(fix.wal);
        ck_assert_uint_eq(mem_env_pending(fix.mem), 1);
    }
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_uint_eq(fix.n_persisted, 1);
    ck_assert_uint_eq(fix.persisted[0].index, 1);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 1);
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_uint_eq(fix.n_persisted, 2);
    ck_assert_uint_eq(fix.persisted[1].index, 9);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 0);
    struct wal_stats stats;
    wal_stats(fix.wal, &stats);
    ck_assert_uint_eq(stats.writes, 2);
    ck_assert_uint_eq(stats.entries, 9);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_write_reports_only_what_was_not_replaced_meanwhile)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append(&fix, 1, 5, 1, 50);
    wal_flush(fix.wal);
    fix_append(&fix, 3, 3, 2, 50);
    wal_flush(fix.wal);
    ck_assert_uint_eq(wal_last(fix.wal), 3);
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_uint_eq(fix.n_persisted, 1);
    ck_assert_uint_eq(fix.persisted[0].index, 2);
    ck_assert_uint_eq(fix.persisted[0].term, 1);
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_uint_eq(fix.n_persisted, 2);
    ck_assert_uint_eq(fix.persisted[1].index, 3);
    ck_assert_uint_eq(fix.persisted[1].term, 2);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_write_that_was_replaced_as_a_whole_reports_nothing)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 2, 1, 50);
    fix_append(&fix, 3, 4, 1, 50);
    wal_flush(fix.wal);
    fix_append(&fix, 3, 3, 2, 50);
    wal_flush(fix.wal);
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_uint_eq(fix.n_persisted, 1);
    ck_assert_uint_eq(wal_durable(fix.wal), 2);
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_uint_eq(fix.n_persisted, 2);
    ck_assert_uint_eq(fix.persisted[1].index, 3);
    ck_assert_uint_eq(fix.persisted[1].term, 2);
    fix_fini(&fix);
}
END_TEST

START_TEST(replacing_twice_during_one_write_reports_the_last)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append(&fix, 1, 6, 1, 50);
    wal_flush(fix.wal);
    fix_append(&fix, 4, 8, 2, 50);
    fix_append(&fix, 2, 3, 3, 50);
    wal_flush(fix.wal);
    mem_env_complete(fix.mem, 0, ENV_OK);
    ck_assert_uint_eq(fix.persisted[0].index, 1);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(fix.n_persisted, 2);
    ck_assert_uint_eq(fix.persisted[1].index, 3);
    ck_assert_uint_eq(fix.persisted[1].term, 3);
    fix_close(&fix);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 3);
    fix_check(&fix, 1, 1, 50);
    fix_check(&fix, 2, 3, 50);
    fix_check(&fix, 3, 3, 50);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_durable_entry_is_reported_again_only_after_it_was_replaced)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 4, 1, 50);
    fix_append(&fix, 2, 3, 2, 50);
    ck_assert_uint_eq(wal_durable(fix.wal), 1);
    wal_flush(fix.wal);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(fix.n_persisted, 2);
    ck_assert_uint_eq(fix.persisted[1].index, 3);
    ck_assert_uint_eq(fix.persisted[1].term, 2);
    mem_env_advance(fix.mem, 1000000); /* the idle mark reports nothing */
    mem_env_run(fix.mem);
    ck_assert_uint_eq(fix.n_persisted, 2);
    fix_fini(&fix);
}
END_TEST

START_TEST(replacing_shortens_the_log_for_good)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 200, 1, 500); /* several segments */
    fix_append_durable(&fix, 20, 20, 2, 10);
    ck_assert_uint_eq(wal_last(fix.wal), 20);
    fix_close(&fix);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 20);
    fix_check_range(&fix, 1, 19, 1, 500);
    fix_check(&fix, 20, 2, 10);
    fix_append_durable(&fix, 21, 30, 3, 500);
    fix_check_range(&fix, 21, 30, 3, 500);
    fix_fini(&fix);
}
END_TEST

START_TEST(the_log_rolls_over_many_segments)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 500, 1, 700);
    struct wal_stats stats;
    wal_stats(fix.wal, &stats);
    ck_assert_uint_ge(stats.segments, 500 * 700 / FIX_SEGMENT_BYTES);
    ck_assert_uint_eq(stats.disk_bytes, stats.segments * FIX_SEGMENT_BYTES);
    ck_assert_uint_eq(mem_env_file_count(fix.mem), stats.segments);
    ck_assert_uint_le(mem_env_open_files(fix.mem), 18); /* old ones are closed */
    fix_check_range(&fix, 1, 500, 1, 700);
    fix_close(&fix);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 500);
    fix_check_range(&fix, 1, 500, 1, 700);
    fix_fini(&fix);
}
END_TEST

START_TEST(the_next_segment_is_ready_before_the_roll)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    for (uint64_t i = 1; i <= 200; i++) {
        struct wal_stats stats;
        wal_stats(fix.wal, &stats);
        ck_assert_ptr_nonnull(mem_env_file(fix.mem, "wal-00000002", NULL));
        fix_append(&fix, i, i, 1, 1000);
        wal_flush(fix.wal);
        /* The write of a roll does not wait for a creation: it is pending at once. */
        ck_assert(wal_is_writing(fix.wal));
        mem_env_run(fix.mem);
    }
    fix_fini(&fix);
}
END_TEST

START_TEST(one_call_may_span_segments)
{
    enum { N = 90 };
    static uint8_t data[N][1000];
    struct wal_entry entries[N];
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    for (unsigned i = 0; i < N; i++) {
        fix_fill(data[i], i + 1, 1, sizeof data[i]);
        entries[i] = (struct wal_entry){
            .index = i + 1, .term = 1, .type = fix_type(i + 1), .data = data[i], .len = sizeof data[i]};
    }
    ck_assert_int_eq(wal_append(fix.wal, entries, N), WAL_OK);
    wal_flush(fix.wal);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(wal_durable(fix.wal), N);
    fix_close(&fix);
    fix_open(&fix);
    fix_check_range(&fix, 1, N, 1, 1000);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_backlog_goes_out_in_bounded_writes)
{
    const size_t bound = (4u << 20) + ENV_BLOCK;
    struct fix fix;
    fix_init(&fix);
    fix.segment_bytes = 16u << 20;
    fix.entry_bytes_max = 6u << 20;
    fix_open(&fix);
    fix_append(&fix, 1, 1, 1, 10);
    wal_flush(fix.wal);
    fix_append(&fix, 2, 60, 1, 512u << 10);
    fix_append(&fix, 61, 61, 1, 6u << 20); /* larger than the bound: goes alone */
    fix_append(&fix, 62, 70, 1, 100);
    wal_flush(fix.wal);
    unsigned writes = 0;
    while (mem_env_pending(fix.mem) > 0) {
        struct env_disk_req *req = mem_env_pending_req(fix.mem, 0);
        if (req->op == ENV_DISK_WRITE) {
            writes++;
            ck_assert_uint_le(req->len, wal_durable(fix.wal) == 60 ? (6u << 20) + 2 * ENV_BLOCK : bound);
        }
        mem_env_complete(fix.mem, 0, ENV_OK);
    }
    ck_assert_uint_ge(writes, 9);
    ck_assert_uint_eq(wal_durable(fix.wal), 70);
    fix_close(&fix);
    fix_open(&fix);
    fix_check_range(&fix, 2, 60, 1, 512u << 10);
    fix_check(&fix, 61, 1, 6u << 20);
    fix_check_range(&fix, 62, 70, 1, 100);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_segment_holds_the_largest_entry_whatever_its_size_was_set_to)
{
    struct fix fix;
    fix_init(&fix);
    fix.segment_bytes = ENV_BLOCK;
    fix.entry_bytes_max = 64u << 10;
    fix_open(&fix);
    fix_append_durable(&fix, 1, 5, 1, 64u << 10);
    fix_check_range(&fix, 1, 5, 1, 64u << 10);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_changed_segment_size_takes_effect_and_keeps_the_log)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 50, 1, 700);
    fix_close(&fix);
    fix.segment_bytes = 2 * FIX_SEGMENT_BYTES;
    fix_open(&fix);
    fix_check_range(&fix, 1, 50, 1, 700);
    fix_append_durable(&fix, 51, 200, 1, 700);
    fix_close(&fix);
    fix.segment_bytes = FIX_SEGMENT_BYTES / 2;
    fix_open(&fix);
    fix_append_durable(&fix, 201, 300, 1, 700);
    fix_check_range(&fix, 1, 300, 1, 700);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_full_disk_shrinks_the_room_and_stops_nothing_that_was_allowed)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    uint64_t before = wal_room(fix.wal);
    mem_env_capacity(fix.mem, 2 * FIX_SEGMENT_BYTES); /* what exists, and no more */
    uint64_t room = wal_room(fix.wal);
    ck_assert_uint_lt(room, before);
    ck_assert_uint_gt(room, FIX_SEGMENT_BYTES);
    uint64_t index = 0;
    /* Rolling asks for a third segment, which fails. */
    while (wal_room(fix.wal) >= 2000) {
        index++;
        fix_append_durable(&fix, index, index, 1, 1000);
    }
    ck_assert_uint_ge(index, 50);
    ck_assert_uint_eq(fix.n_failed, 0);
    ck_assert_ptr_nonnull(strstr(mem_env_log(fix.mem), "no space"));
    fix_close(&fix);
    fix_open(&fix);
    fix_check_range(&fix, 1, index, 1, 1000);
    fix_fini(&fix);
}
END_TEST

START_TEST(appends_beyond_the_room_wait_and_go_on_when_space_returns)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    mem_env_capacity(fix.mem, 2 * FIX_SEGMENT_BYTES);
    fix_append(&fix, 1, 120, 1, 1000);
    wal_flush(fix.wal);
    mem_env_run(fix.mem);
    ck_assert_uint_lt(wal_durable(fix.wal), 120);
    ck_assert_uint_eq(fix.n_failed, 0);
    ck_assert_uint_eq(wal_room(fix.wal), 0);
    for (int i = 0; i < 5; i++) {
        mem_env_advance(fix.mem, 6000000); /* tries again, in vain */
        mem_env_run(fix.mem);
    }
    ck_assert_uint_lt(wal_durable(fix.wal), 120);
    mem_env_capacity(fix.mem, UINT64_MAX);
    mem_env_advance(fix.mem, 6000000);
    mem_env_run(fix.mem);
    ck_assert_uint_eq(wal_durable(fix.wal), 120);
    ck_assert_uint_eq(fix.persisted[fix.n_persisted - 1].index, 120);
    ck_assert_uint_gt(wal_room(fix.wal), FIX_SEGMENT_BYTES);
    fix_close(&fix);
    fix_open(&fix);
    fix_check_range(&fix, 1, 120, 1, 1000);
    fix_fini(&fix);
}
END_TEST

START_TEST(opening_an_empty_directory_on_a_full_disk_says_so)
{
    struct fix fix;
    fix_init(&fix);
    mem_env_capacity(fix.mem, ENV_BLOCK);
    ck_assert_int_eq(fix_try_open(&fix), WAL_NO_SPACE);
    ck_assert_ptr_nonnull(strstr(fix.error, "full"));
    fix_fini(&fix);
}
END_TEST

START_TEST(a_failed_write_is_reported_once_and_ends_the_log)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append(&fix, 1, 1, 1, 50);
    wal_flush(fix.wal);
    fix_append(&fix, 2, 2, 1, 50);
    wal_flush(fix.wal);
    ck_assert(mem_env_complete_op(fix.mem, ENV_DISK_WRITE, ENV_IO));
    ck_assert_uint_eq(fix.n_failed, 1);
    ck_assert_int_eq(fix.failed, ENV_IO);
    ck_assert_uint_eq(fix.n_persisted, 0);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 0);
    struct wal_entry entry = {.index = 3, .term = 1, .type = WAL_COMMAND, .data = "x", .len = 1};
    ck_assert_int_eq(wal_append(fix.wal, &entry, 1), WAL_IO);
    ck_assert_uint_eq(wal_room(fix.wal), 0);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_failed_creation_is_reported)
{
    struct fix fix;
    fix_init(&fix);
    ck_assert_int_eq(fix_try_open(&fix), WAL_OK);
    ck_assert(mem_env_complete_op(fix.mem, ENV_DISK_CREATE, ENV_IO));
    ck_assert_uint_eq(fix.n_failed, 1);
    fix_fini(&fix);
}
END_TEST

START_TEST(closing_with_requests_in_flight_frees_everything_once_they_are_cancelled)
{
    struct fix fix;
    fix_init(&fix);
    ck_assert_int_eq(fix_try_open(&fix), WAL_OK); /* a creation is in flight */
    fix_append(&fix, 1, 1, 1, 50);
    wal_flush(fix.wal);
    ck_assert_uint_eq(mem_env_pending(fix.mem), 2);
    wal_close(fix.wal);
    fix.wal = NULL;
    mem_env_run(fix.mem); /* they may also complete */
    ck_assert_uint_eq(fix.n_persisted, 0);
    ck_assert_uint_eq(mem_env_open_files(fix.mem), 0);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_cancelled_write_is_no_failure)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append(&fix, 1, 1, 1, 50);
    wal_flush(fix.wal);
    mem_env_complete(fix.mem, 0, ENV_CANCELED);
    ck_assert_uint_eq(fix.n_failed, 0);
    ck_assert_uint_eq(fix.n_persisted, 0);
    fix_fini(&fix);
}
END_TEST

START_TEST(an_idle_log_writes_one_mark_and_then_rests)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 1, 1, 50);
    struct wal_stats stats;
    wal_stats(fix.wal, &stats);
    uint64_t writes = stats.writes;
    for (int i = 0; i < 20; i++) {
        mem_env_advance(fix.mem, 100000);
        mem_env_run(fix.mem);
    }
    wal_stats(fix.wal, &stats);
    ck_assert_uint_eq(stats.writes, writes + 1);
    fix_fini(&fix);
}
END_TEST

START_TEST(a_busy_log_writes_no_marks)
{
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    for (uint64_t i = 1; i <= 50; i++) {
        fix_append_durable(&fix, i, i, 1, 50);
        mem_env_advance(fix.mem, 60000);
        mem_env_run(fix.mem);
    }
    struct wal_stats stats;
    wal_stats(fix.wal, &stats);
    ck_assert_uint_eq(stats.writes, 50);
    fix_fini(&fix);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("wal");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, a_new_log_is_empty);
    tcase_add_test(cases, entries_of_all_sizes_survive_reopening);
    tcase_add_test(cases, appending_goes_on_after_reopening);
    tcase_add_test(cases, nothing_is_written_before_flush);
    tcase_add_test(cases, what_is_appended_during_a_write_goes_out_in_one_next_write);
    tcase_add_test(cases, a_write_reports_only_what_was_not_replaced_meanwhile);
    tcase_add_test(cases, a_write_that_was_replaced_as_a_whole_reports_nothing);
    tcase_add_test(cases, replacing_twice_during_one_write_reports_the_last);
    tcase_add_test(cases, a_durable_entry_is_reported_again_only_after_it_was_replaced);
    tcase_add_test(cases, replacing_shortens_the_log_for_good);
    tcase_add_test(cases, the_log_rolls_over_many_segments);
    tcase_add_test(cases, the_next_segment_is_ready_before_the_roll);
    tcase_add_test(cases, one_call_may_span_segments);
    tcase_add_test(cases, a_backlog_goes_out_in_bounded_writes);
    tcase_add_test(cases, a_segment_holds_the_largest_entry_whatever_its_size_was_set_to);
    tcase_add_test(cases, a_changed_segment_size_takes_effect_and_keeps_the_log);
    tcase_add_test(cases, a_full_disk_shrinks_the_room_and_stops_nothing_that_was_allowed);
    tcase_add_test(cases, appends_beyond_the_room_wait_and_go_on_when_space_returns);
    tcase_add_test(cases, opening_an_empty_directory_on_a_full_disk_says_so);
    tcase_add_test(cases, a_failed_write_is_reported_once_and_ends_the_log);
    tcase_add_test(cases, a_failed_creation_is_reported);
    tcase_add_test(cases, closing_with_requests_in_flight_frees_everything_once_they_are_cancelled);
    tcase_add_test(cases, a_cancelled_write_is_no_failure);
    tcase_add_test(cases, an_idle_log_writes_one_mark_and_then_rests);
    tcase_add_test(cases, a_busy_log_writes_no_marks);
    Suite *suite = suite_create("wal");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
