/* The latency histogram of the CLI: exact below 256, within 1 % above, percentiles, merging. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "cmd/lockstep/histogram.h"

static struct histogram histogram;

static void reset(void)
{
    histogram_init(&histogram);
}

START_TEST(empty_histogram_gives_zeros)
{
    reset();
    ck_assert_uint_eq(histogram_percentile(&histogram, 99), 0);
    ck_assert_double_eq(histogram_mean(&histogram), 0);
}
END_TEST

START_TEST(small_values_are_exact)
{
    reset();
    for (uint64_t value = 1; value <= 100; value++) {
        histogram_record(&histogram, value);
    }
    ck_assert_uint_eq(histogram_percentile(&histogram, 0), 1);
    ck_assert_uint_eq(histogram_percentile(&histogram, 50), 50);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99), 99);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), 100);
    ck_assert_double_eq(histogram_mean(&histogram), 50.5);
}
END_TEST

START_TEST(any_value_is_found_within_one_percent)
{
    for (uint64_t value = 1; value < UINT64_C(1) << HISTOGRAM_MAX_BITS; value = value * 3 / 2 + 1) {
        reset();
        histogram_record(&histogram, value);
        histogram_record(&histogram, UINT64_C(1) << 39); /* so that max doesn't cut the answer */
        uint64_t found = histogram_percentile(&histogram, 50);
        uint64_t low = value < UINT64_C(1) << 39 ? value : UINT64_C(1) << 39;
        ck_assert_uint_ge(found, low);
        ck_assert_double_le((double)found, (double)low * 1.01);
    }
}
END_TEST

START_TEST(values_beyond_the_range_keep_the_maximum_exact)
{
    reset();
    histogram_record(&histogram, 5);
    histogram_record(&histogram, UINT64_MAX);
    ck_assert_uint_eq(histogram.max, UINT64_MAX);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), UINT64_MAX);
    ck_assert_uint_eq(histogram_percentile(&histogram, 50), 5);
}
END_TEST

START_TEST(percentiles_never_exceed_the_maximum)
{
    reset();
    histogram_record(&histogram, 1000001);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99.99), 1000001);
}
END_TEST

START_TEST(merging_equals_recording_into_one)
{
    static struct histogram parts[2], whole;
    histogram_init(&parts[0]);
    histogram_init(&parts[1]);
    histogram_init(&whole);
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t value = i * i * 37;
        histogram_record(&parts[i % 2], value);
        histogram_record(&whole, value);
    }
    histogram_merge(&parts[0], &parts[1]);
    ck_assert_mem_eq(parts[0].buckets, whole.buckets, sizeof(whole.buckets));
    ck_assert_uint_eq(parts[0].count, whole.count);
    ck_assert_uint_eq(parts[0].min, whole.min);
    ck_assert_uint_eq(parts[0].max, whole.max);
    ck_assert_double_eq_tol(parts[0].sum, whole.sum, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("histogram");
    TCase *tcase = tcase_create("histogram");
    tcase_add_test(tcase, empty_histogram_gives_zeros);
    tcase_add_test(tcase, small_values_are_exact);
    tcase_add_test(tcase, any_value_is_found_within_one_percent);
    tcase_add_test(tcase, values_beyond_the_range_keep_the_maximum_exact);
    tcase_add_test(tcase, percentiles_never_exceed_the_maximum);
    tcase_add_test(tcase, merging_equals_recording_into_one);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
