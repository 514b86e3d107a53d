/* What the turns of a loop cost, and whose fault it is. */
#include <check.h>
#include <stdlib.h>
#include <time.h>

#include "cmd/lockstepd/loop_watch.h"

START_TEST(waiting_for_a_core_is_not_our_own)
{
    struct loop_figures f = {0};
    loop_figures_add(&f, 25000, 4000, 21000);
    ck_assert_uint_eq(f.last, 25000);
    ck_assert_uint_eq(f.max, 25000);
    ck_assert_uint_eq(f.max_cpu, 4000);
    ck_assert_uint_eq(f.max_own, 4000);
    ck_assert_uint_eq(f.over_10ms, 1);
    ck_assert_uint_eq(f.own_over_10ms, 0);
}
END_TEST

START_TEST(what_blocks_a_turn_is_our_own)
{
    struct loop_figures f = {0};
    loop_figures_add(&f, 25000, 4000, 1000);
    ck_assert_uint_eq(f.max_own, 24000);
    ck_assert_uint_eq(f.own_over_10ms, 1);
}
END_TEST

START_TEST(processor_time_is_never_excused)
{
    struct loop_figures f = {0};
    loop_figures_add(&f, 25000, 24000, 500000);
    ck_assert_uint_eq(f.max_own, 24000);
    loop_figures_add(&f, 10, 11, 500000); /* the clocks are not read at one instant */
    ck_assert_uint_eq(f.last, 10);
    ck_assert_uint_eq(f.max, 25000);
    ck_assert_uint_eq(f.own_over_10ms, 1);
}
END_TEST

static uint64_t cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static struct loop_watch watch;
static struct loop_figures first_half;
static unsigned timers_left;

static void prepare_cb(uv_prepare_t *handle)
{
    (void)handle;
    loop_watch_turn(&watch, timers_left > 3 ? &first_half : NULL);
}

/* Computes for 15 ms in every other of its calls. */
static void timer_cb(uv_timer_t *timer)
{
    const uint64_t end = cpu_us() + (timers_left % 2 == 1 ? 15000 : 0);
    while (cpu_us() < end) {
    }
    loop_watch_tick(&watch);
    if (--timers_left == 0) {
        uv_timer_stop(timer);
    }
}

START_TEST(a_turn_that_computes_is_seen)
{
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_timer_t timer;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    loop_watch_init(&watch, &loop);
    uv_prepare_init(&loop, &prepare);
    uv_prepare_start(&prepare, prepare_cb);
    uv_unref((uv_handle_t *)&prepare);
    uv_timer_init(&loop, &timer);
    timers_left = 6;
    uv_timer_start(&timer, timer_cb, 1, 1);
    uv_run(&loop, UV_RUN_DEFAULT);
    prepare_cb(&prepare); /* the last turn has no end */
    ck_assert_uint_ge(watch.figures.max_cpu, 15000);
    ck_assert_uint_ge(watch.figures.max_own, 15000);
    ck_assert_uint_ge(watch.figures.max, watch.figures.max_own);
    ck_assert_uint_ge(watch.figures.own_over_10ms, 3);
    ck_assert_uint_ge(first_half.own_over_10ms, 1);
    ck_assert_uint_lt(first_half.own_over_10ms, watch.figures.own_over_10ms);
    loop_watch_reset(&watch);
    ck_assert_uint_eq(watch.figures.max_own, 0);
    uv_close((uv_handle_t *)&prepare, NULL);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    loop_watch_fini(&watch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop_watch");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, waiting_for_a_core_is_not_our_own);
    tcase_add_test(tcase, what_blocks_a_turn_is_our_own);
    tcase_add_test(tcase, processor_time_is_never_excused);
    tcase_add_test(tcase, a_turn_that_computes_is_seen);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
