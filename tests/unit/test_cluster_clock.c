/* Cluster time: never back, never ahead of time itself by more than the allowance, whatever one wall clock says. The
 * slew is 1 %, the bound on rates another 1 %. */
#include <check.h>
#include <stdlib.h>

#include "consensus/cluster_clock.h"

#define SLEW_PPM 10000u
#define START_MS 1700000000000u
#define INSTANT_US 5000000u
#define SECOND_US 1000000u

static struct cluster_clock clock_at_start(void)
{
    struct cluster_clock clock;

    cluster_clock_init(&clock, SLEW_PPM);
    return clock;
}

/* A clock that saw an entry of START_MS at INSTANT_US. */
static struct cluster_clock clock_that_runs(void)
{
    struct cluster_clock clock = clock_at_start();

    cluster_clock_saw(&clock, START_MS, INSTANT_US);
    return clock;
}

START_TEST(the_lower_median_of_a_majority_sets_it)
{
    struct cluster_clock clock = clock_at_start();
    uint64_t three[] = {START_MS + 900, START_MS, START_MS + 500};
    uint64_t two[] = {START_MS + 86400000, START_MS + 7};

    ck_assert(!cluster_clock_is_set(&clock));
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US, three, 3, 3), START_MS + 500);
    ck_assert(cluster_clock_is_set(&clock));
    clock = clock_at_start();
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US, two, 2, 3), START_MS + 7);
}
END_TEST

START_TEST(fewer_samples_than_a_majority_set_nothing)
{
    struct cluster_clock clock = clock_at_start();
    uint64_t samples[] = {START_MS, START_MS};

    cluster_clock_recovered(&clock, 1000, INSTANT_US);
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + SECOND_US, samples, 2, 5), 2000);
    ck_assert(!cluster_clock_is_set(&clock));
}
END_TEST

START_TEST(a_recovered_clock_may_step_to_the_median)
{
    struct cluster_clock clock = clock_at_start();
    uint64_t samples[] = {START_MS + 1000, START_MS + 1000};

    cluster_clock_recovered(&clock, 5000, INSTANT_US);
    ck_assert(!cluster_clock_is_set(&clock));
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US, samples, 2, 3), START_MS + 1000);
}
END_TEST

START_TEST(a_running_clock_gains_no_more_than_rho_and_slew)
{
    struct cluster_clock clock = clock_that_runs();
    uint64_t samples[] = {START_MS + 86400000, START_MS + 86400000, START_MS + 86400000};

    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + 10 * SECOND_US, samples, 3, 3), START_MS + 10200);
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + 20 * SECOND_US, samples, 3, 3), START_MS + 20400);
}
END_TEST

START_TEST(it_never_goes_back)
{
    struct cluster_clock clock = clock_that_runs();
    uint64_t samples[] = {1000, 1000, 1000};

    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + SECOND_US, samples, 3, 3), START_MS);
    cluster_clock_at_least(&clock, START_MS - 5000, INSTANT_US + 2 * SECOND_US); /* older content taken over */
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + SECOND_US, samples, 0, 3), START_MS);
}
END_TEST

START_TEST(without_a_majority_it_follows_elapsed_time)
{
    struct cluster_clock clock = clock_that_runs();
    uint64_t sample = START_MS + 86400000;

    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + 3 * SECOND_US, &sample, 1, 3), START_MS + 3000);
}
END_TEST

START_TEST(frequent_calls_lose_nothing)
{
    struct cluster_clock clock = clock_that_runs();
    uint64_t now_ms = 0;

    for (unsigned i = 1; i <= 10000; i++) { /* a tenth of a millisecond each */
        now_ms = cluster_clock_next(&clock, INSTANT_US + i * UINT64_C(100), NULL, 0, 3);
    }
    ck_assert_uint_eq(now_ms, START_MS + 1000);
}
END_TEST

START_TEST(an_entry_from_a_leader_ahead_is_taken_over)
{
    struct cluster_clock clock = clock_that_runs();

    cluster_clock_saw(&clock, START_MS + 700, INSTANT_US + SECOND_US / 2);
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + SECOND_US, NULL, 0, 3), START_MS + 1200);
}
END_TEST

START_TEST(it_goes_on_from_the_logs_newest_entry)
{
    struct cluster_clock clock = clock_that_runs();
    uint64_t sample = START_MS + SECOND_US / 1000;

    cluster_clock_saw(&clock, START_MS - 5000, INSTANT_US + SECOND_US); /* what it stamped itself was replaced */
    ck_assert_uint_eq(cluster_clock_next(&clock, INSTANT_US + 2 * SECOND_US, &sample, 1, 1), START_MS - 5000 + 1020);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cluster_clock");
    TCase *tcase = tcase_create("time");

    tcase_add_test(tcase, the_lower_median_of_a_majority_sets_it);
    tcase_add_test(tcase, fewer_samples_than_a_majority_set_nothing);
    tcase_add_test(tcase, a_recovered_clock_may_step_to_the_median);
    tcase_add_test(tcase, a_running_clock_gains_no_more_than_rho_and_slew);
    tcase_add_test(tcase, it_never_goes_back);
    tcase_add_test(tcase, it_goes_on_from_the_logs_newest_entry);
    tcase_add_test(tcase, without_a_majority_it_follows_elapsed_time);
    tcase_add_test(tcase, frequent_calls_lose_nothing);
    tcase_add_test(tcase, an_entry_from_a_leader_ahead_is_taken_over);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
