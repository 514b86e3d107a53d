/* What clock rates show, and when. rho = 1 %, a window of 150 ms unless said otherwise. */
#include <check.h>
#include <stdlib.h>

#include "consensus/drift.h"

#define WINDOW_US 150000u
#define EVERY_US 30000u

static const struct drift_config config = {.window_us = WINDOW_US, .rho_ppm = 10000};

/* Two nodes that exchange readings, `ours` and `theirs` at rates of their own. */
struct pair {
    struct drift drift;
    uint64_t true_us, ours_us, theirs_us;
    uint64_t ours_ppm, theirs_ppm;
    uint64_t delay_us; /* round trip, by our clock */
};

static struct pair pair_of(uint64_t ours_ppm, uint64_t theirs_ppm, uint64_t delay_us)
{
    return (struct pair){.true_us = 0,
                         .ours_us = 7000000,
                         .theirs_us = 90000000,
                         .ours_ppm = ours_ppm,
                         .theirs_ppm = theirs_ppm,
                         .delay_us = delay_us};
}

static void pair_exchange(struct pair *p)
{
    const struct drift_exchange exchange = {p->ours_us, p->ours_us + p->delay_us, p->theirs_us};

    drift_note(&p->drift, &config, &exchange);
    p->true_us += EVERY_US;
    p->ours_us += EVERY_US * p->ours_ppm / 1000000;
    p->theirs_us += EVERY_US * p->theirs_ppm / 1000000;
}

/* True time until an error is seen, UINT64_MAX if not within `limit_us`. */
static uint64_t pair_seen_after(struct pair *p, uint64_t limit_us)
{
    const uint64_t start_us = p->true_us;

    while (p->true_us - start_us < limit_us) {
        pair_exchange(p);
        if (drift_is_seen(&p->drift)) {
            return p->true_us - start_us;
        }
    }
    return UINT64_MAX;
}

START_TEST(nothing_is_known_before_a_window_has_passed)
{
    struct pair p = pair_of(1000000, 1000000, 500);

    for (unsigned i = 0; i < WINDOW_US / EVERY_US; i++) {
        pair_exchange(&p);
        ck_assert(!drift_is_compared(&p.drift));
    }
    pair_exchange(&p);
    ck_assert(drift_is_compared(&p.drift));
}
END_TEST

START_TEST(rates_within_the_bound_are_never_noticed)
{
    struct pair p = pair_of(1010000, 990000, 500);

    ck_assert_uint_eq(pair_seen_after(&p, 60000000), UINT64_MAX);
    p = pair_of(990000, 1010000, 500);
    ck_assert_uint_eq(pair_seen_after(&p, 60000000), UINT64_MAX);
}
END_TEST

START_TEST(delays_alone_are_never_noticed)
{
    struct pair p = pair_of(1000000, 1000000, 100);

    for (unsigned i = 0; i < 4000; i++) {
        p.delay_us = i * 7919 % 200000; /* what is on its way overtakes nothing: readings in order */
        pair_exchange(&p);
        p.ours_us += p.delay_us;
        p.theirs_us += p.delay_us;
    }
    ck_assert(!drift_is_seen(&p.drift));
}
END_TEST

START_TEST(a_rate_far_out_shows_within_three_windows)
{
    static const uint64_t rates[] = {0, 100000, 500000, 900000, 1100000, 2000000, 10000000};

    for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        for (unsigned before = 0; before < 40; before++) { /* whatever the age of what is compared with */
            struct pair p = pair_of(1000000, 1000000, 1000);
            ck_assert_uint_eq(pair_seen_after(&p, 5000000 + before * EVERY_US), UINT64_MAX);
            p.theirs_ppm = rates[i];
            ck_assert_uint_le(pair_seen_after(&p, 5000000), 3 * WINDOW_US + EVERY_US);
            p = pair_of(1000000, 1000000, 1000);
            ck_assert_uint_eq(pair_seen_after(&p, 5000000 + before * EVERY_US), UINT64_MAX);
            p.ours_ppm = rates[i];
            ck_assert_uint_le(pair_seen_after(&p, 5000000), 3 * WINDOW_US + EVERY_US);
        }
    }
}
END_TEST

START_TEST(a_rate_just_beyond_shows_later)
{
    struct pair p = pair_of(1000000, 1021000, 1000); /* 0.1 % more than two clocks within 1 % can be apart */

    ck_assert_uint_le(pair_seen_after(&p, 5000000), 3000000);
    p = pair_of(1000000, 979000, 1000);
    ck_assert_uint_le(pair_seen_after(&p, 5000000), 3000000);
}
END_TEST

START_TEST(an_error_is_remembered_until_a_long_time_without)
{
    struct pair p = pair_of(1000000, 1500000, 500);

    ck_assert_uint_ne(pair_seen_after(&p, 5000000), UINT64_MAX);
    p.theirs_ppm = 1000000;
    for (uint64_t us = 0; us < UINT64_C(127) * WINDOW_US; us += EVERY_US) {
        pair_exchange(&p);
        ck_assert(drift_is_seen(&p.drift));
    }
    for (uint64_t us = 0; us < UINT64_C(600) * WINDOW_US; us += EVERY_US) {
        pair_exchange(&p);
    }
    ck_assert(!drift_is_seen(&p.drift));
}
END_TEST

START_TEST(a_restart_forgets_readings_but_not_errors)
{
    struct pair p = pair_of(1000000, 1500000, 500);

    ck_assert_uint_ne(pair_seen_after(&p, 5000000), UINT64_MAX);
    drift_restart(&p.drift);
    ck_assert(drift_is_seen(&p.drift));
    ck_assert(!drift_is_compared(&p.drift));
    drift_forget(&p.drift);
    ck_assert(!drift_is_seen(&p.drift));
}
END_TEST

START_TEST(a_clock_that_began_anew_is_no_error)
{
    struct pair p = pair_of(1000000, 1000000, 500);

    ck_assert_uint_eq(pair_seen_after(&p, 5000000), UINT64_MAX);
    p.theirs_us = 1000; /* its machine was started again */
    pair_exchange(&p);
    ck_assert(!drift_is_compared(&p.drift));
    ck_assert_uint_eq(pair_seen_after(&p, 5000000), UINT64_MAX);
    ck_assert(drift_is_compared(&p.drift));
}
END_TEST

START_TEST(no_reading_overflows)
{
    struct pair p = pair_of(1000000, 1000000, 500);

    pair_exchange(&p);
    p.theirs_us = UINT64_MAX;
    pair_exchange(&p);
    ck_assert(drift_is_seen(&p.drift));
    p = pair_of(1000000, 1000000, 500);
    pair_exchange(&p);
    p.ours_us = UINT64_MAX - 1000000;
    pair_exchange(&p);
    ck_assert(drift_is_seen(&p.drift));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drift");
    TCase *tcase = tcase_create("rates");

    tcase_add_test(tcase, nothing_is_known_before_a_window_has_passed);
    tcase_add_test(tcase, rates_within_the_bound_are_never_noticed);
    tcase_add_test(tcase, delays_alone_are_never_noticed);
    tcase_add_test(tcase, a_rate_far_out_shows_within_three_windows);
    tcase_add_test(tcase, a_rate_just_beyond_shows_later);
    tcase_add_test(tcase, an_error_is_remembered_until_a_long_time_without);
    tcase_add_test(tcase, a_restart_forgets_readings_but_not_errors);
    tcase_add_test(tcase, a_clock_that_began_anew_is_no_error);
    tcase_add_test(tcase, no_reading_overflows);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
