/* The newest entries in memory, by index. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/log_tail.h"

static struct log_tail tail;

static void push(uint64_t term, uint32_t len)
{
    const struct log_tail_entry entry = {.term = term, .type = 1, .len = len, .data = malloc(len + 1)};

    ck_assert_ptr_nonnull(entry.data);
    memset(entry.data, (int)(term & 0xff), len);
    ck_assert(log_tail_push(&tail, &entry));
}

START_TEST(an_empty_one_holds_nothing)
{
    log_tail_init(&tail, 7);
    ck_assert_uint_eq(log_tail_first(&tail), 7);
    ck_assert_uint_eq(log_tail_next(&tail), 7);
    ck_assert_ptr_null(log_tail_at(&tail, 6));
    ck_assert_ptr_null(log_tail_at(&tail, 7));
    log_tail_trim(&tail, 0, UINT64_MAX);
    log_tail_truncate(&tail, 7);
    ck_assert_uint_eq(log_tail_next(&tail), 7);
    log_tail_fini(&tail);
}
END_TEST

START_TEST(entries_are_found_by_index)
{
    log_tail_init(&tail, 5);
    for (uint64_t i = 0; i < 1000; i++) { /* beyond any first capacity */
        push(i + 1, (uint32_t)(i % 50));
    }
    ck_assert_uint_eq(log_tail_next(&tail), 1005);
    for (uint64_t i = 0; i < 1000; i++) {
        const struct log_tail_entry *entry = log_tail_at(&tail, 5 + i);
        ck_assert_ptr_nonnull(entry);
        ck_assert_uint_eq(entry->term, i + 1);
        ck_assert_uint_eq(entry->len, i % 50);
    }
    ck_assert_ptr_null(log_tail_at(&tail, 4));
    ck_assert_ptr_null(log_tail_at(&tail, 1005));
    log_tail_fini(&tail);
}
END_TEST

START_TEST(a_truncated_end_is_pushed_anew)
{
    log_tail_init(&tail, 1);
    for (uint64_t i = 1; i <= 10; i++) {
        push(1, 8);
    }
    log_tail_truncate(&tail, 6);
    ck_assert_uint_eq(log_tail_next(&tail), 6);
    ck_assert_ptr_null(log_tail_at(&tail, 6));
    push(2, 8);
    ck_assert_uint_eq(log_tail_at(&tail, 6)->term, 2);
    ck_assert_uint_eq(log_tail_at(&tail, 5)->term, 1);
    log_tail_truncate(&tail, 1);
    ck_assert_uint_eq(log_tail_next(&tail), 1);
    log_tail_fini(&tail);
}
END_TEST

START_TEST(trimming_stops_at_the_index)
{
    log_tail_init(&tail, 1);
    for (uint64_t i = 1; i <= 10; i++) {
        push(1, 100);
    }
    log_tail_trim(&tail, 0, 4);
    ck_assert_uint_eq(log_tail_first(&tail), 5);
    ck_assert_ptr_null(log_tail_at(&tail, 4));
    ck_assert_ptr_nonnull(log_tail_at(&tail, 5));
    ck_assert_uint_eq(log_tail_next(&tail), 11);
    log_tail_fini(&tail);
}
END_TEST

START_TEST(trimming_stops_at_the_bytes)
{
    log_tail_init(&tail, 1);
    for (uint64_t i = 1; i <= 10; i++) {
        push(1, 100);
    }
    const uint64_t all = tail.bytes;
    log_tail_trim(&tail, all, UINT64_MAX);
    ck_assert_uint_eq(log_tail_first(&tail), 1);
    log_tail_trim(&tail, all / 2, UINT64_MAX);
    ck_assert_uint_gt(log_tail_first(&tail), 1);
    ck_assert_uint_le(tail.bytes, all / 2);
    ck_assert_uint_eq(log_tail_next(&tail), 11);
    log_tail_fini(&tail);
}
END_TEST

START_TEST(it_goes_round_for_long)
{
    log_tail_init(&tail, 1);
    for (uint64_t i = 1; i <= 5000; i++) { /* a window of a few entries moves on: the ring wraps many times */
        push(i, 10);
        log_tail_trim(&tail, 0, i > 5 ? i - 5 : 0);
        ck_assert_uint_eq(log_tail_at(&tail, i)->term, i);
        ck_assert_uint_eq(log_tail_at(&tail, log_tail_first(&tail))->term, log_tail_first(&tail));
    }
    ck_assert_uint_eq(log_tail_next(&tail) - log_tail_first(&tail), 5);
    log_tail_fini(&tail);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_tail");
    TCase *tcase = tcase_create("entries");

    tcase_add_test(tcase, an_empty_one_holds_nothing);
    tcase_add_test(tcase, entries_are_found_by_index);
    tcase_add_test(tcase, a_truncated_end_is_pushed_anew);
    tcase_add_test(tcase, trimming_stops_at_the_index);
    tcase_add_test(tcase, trimming_stops_at_the_bytes);
    tcase_add_test(tcase, it_goes_round_for_long);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
