/* The window of a snapshot's transfer, on model paths: it fills them, and keeps little waiting in them. And the
 * sender's pace. */
#include <check.h>
#include <stdbool.h>

#include "consensus/fetch_window.h"

#define T_US 300000u
#define PIECE 40000u
#define PIECES 4000u
#define IN_FLIGHT_MAX 256u

/* A path with a rate and a way there and back; the sender sends what the window allows at once. */
struct path {
    uint64_t rate; /* bytes per second */
    uint64_t rtt_us;
    uint64_t free_us; /* its narrowest part is busy until then */
    uint64_t queue_us_max;
    uint64_t window_max, window_min;
    uint64_t rate_seen;
};

struct piece {
    uint64_t stamp_us, arrives_us;
};

static void measure(struct path *path, uint64_t waits_us, uint32_t window)
{
    path->queue_us_max = waits_us > path->queue_us_max ? waits_us : path->queue_us_max;
    path->window_max = window > path->window_max ? window : path->window_max;
    path->window_min = window < path->window_min ? window : path->window_min;
}

/* Moves PIECES pieces; what is seen of the second half is left in `path`. */
static void transfer(struct path *path)
{
    struct fetch_window window;
    static struct piece pieces[PIECES];
    uint64_t now = 1000000, sent = 0, taken = 0, half_us = 0, asked = 0;
    uint64_t stamp = now;

    fetch_window_init(&window, T_US);
    path->window_min = UINT64_MAX;
    while (taken < PIECES) {
        /* The ask takes half a round trip, and the piece the other half behind what is in front of it. */
        while (sent < PIECES && asked + fetch_window_bytes(&window) > sent * PIECE) {
            uint64_t there = now + path->rtt_us / 2;
            uint64_t begins = there > path->free_us ? there : path->free_us;
            path->free_us = begins + PIECE * 1000000ull / path->rate;
            if (taken > PIECES / 2)
                measure(path, begins - there, fetch_window_bytes(&window));
            pieces[sent++] = (struct piece){stamp, path->free_us + path->rtt_us / 2};
            ck_assert_uint_le(sent - taken, IN_FLIGHT_MAX);
        }
        now = pieces[taken].arrives_us;
        fetch_window_taken(&window, PIECE, pieces[taken].stamp_us, now);
        taken++;
        asked = taken * PIECE;
        stamp = now;
        if (taken == PIECES / 2)
            half_us = now;
    }
    path->rate_seen = PIECES / 2 * (uint64_t)PIECE * 1000000 / (now - half_us);
}

static const struct path paths[] = {
    {.rate = 1000000, .rtt_us = 300},    /* slow and near */
    {.rate = 10000000, .rtt_us = 300},   /* a tenth of a gigabit */
    {.rate = 10000000, .rtt_us = 40000}, /* ... and far */
    {.rate = 2000000, .rtt_us = 200000}, /* slow and very far */
    {.rate = 100000000, .rtt_us = 1000}, /* a gigabit */
    {.rate = 1000000000, .rtt_us = 200}, /* ten gigabits */
    {.rate = 200000, .rtt_us = 1000},    /* a piece takes most of T: one at a time */
};

START_TEST(a_path_is_filled_and_little_waits_in_it)
{
    struct path path = paths[_i];
    transfer(&path);
    uint64_t most = path.rate;
    if (FETCH_WINDOW_MAX * 1000000ull / (path.rtt_us + 1) < most)
        most = FETCH_WINDOW_MAX * 1000000ull / (path.rtt_us + 1);
    ck_assert_msg(path.rate_seen * 100 >= most * 85, "path %d: %llu of %llu bytes per second", _i,
                  (unsigned long long)path.rate_seen, (unsigned long long)most);
    uint64_t piece_us = PIECE * 1000000ull / path.rate;
    ck_assert_msg(path.queue_us_max <= T_US / 8 + 2 * piece_us, "path %d: %llu us in front", _i,
                  (unsigned long long)path.queue_us_max);
}
END_TEST

START_TEST(it_stays_within_its_bounds)
{
    struct fetch_window window;
    uint64_t now = 1;
    fetch_window_init(&window, T_US);
    for (int i = 0; i < 10000; i++) { /* a slow path: down to the least */
        now += 10000000;
        fetch_window_taken(&window, 1, now - 5, now);
        ck_assert_uint_ge(fetch_window_bytes(&window), FETCH_WINDOW_MIN);
    }
    ck_assert_uint_eq(fetch_window_bytes(&window), FETCH_WINDOW_MIN);
    for (int i = 0; i < 100000; i++) { /* a path without limits: up to the most */
        now += 1;
        fetch_window_taken(&window, 1u << 18, now - 1, now);
        ck_assert_uint_le(fetch_window_bytes(&window), FETCH_WINDOW_MAX);
    }
    ck_assert_uint_eq(fetch_window_bytes(&window), FETCH_WINDOW_MAX);
}
END_TEST

START_TEST(one_odd_interval_changes_it_by_no_more_than_a_half)
{
    struct fetch_window window;
    fetch_window_init(&window, T_US);
    uint32_t before = fetch_window_bytes(&window);
    fetch_window_taken(&window, 1, 1000, 1100);
    fetch_window_taken(&window, 1, 5000000, 60000000);
    ck_assert_uint_eq(fetch_window_bytes(&window), before / 2);
}
END_TEST

/* Bytes that leave in ten seconds in pieces of `len`, when each timer is `late_us` late. */
static uint64_t paced(uint64_t rate, uint64_t len, uint64_t late_us)
{
    uint64_t bytes = 0, free_us = 0;
    for (uint64_t now = 1000000; now<11000000; now = free_us> now ? free_us + late_us : now) {
        free_us = fetch_pace(free_us, now, len, rate);
        bytes += len;
    }
    return bytes;
}

START_TEST(pieces_leave_at_the_rate_although_timers_are_late)
{
    static const uint64_t rates[] = {2000000, 64000000, 128000000};
    const uint64_t rate = rates[_i], len = 1u << 18;
    for (uint64_t late_us = 0; late_us < FETCH_PACE_LATE_US; late_us += 500) {
        const uint64_t bytes = paced(rate, len, late_us);
        ck_assert_uint_le(bytes, rate * 10 + len + rate * FETCH_PACE_LATE_US / 1000000);
        ck_assert_uint_ge(bytes, rate * 10 - len);
    }
}
END_TEST

START_TEST(what_a_long_pause_kept_from_leaving_is_not_made_up_for)
{
    const uint64_t free_us = fetch_pace(1000, 60000000, 1000, 1000000);
    ck_assert_uint_eq(free_us, 60000000 - FETCH_PACE_LATE_US + 1000);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("fetch_window");
    tcase_add_loop_test(cases, a_path_is_filled_and_little_waits_in_it, 0, sizeof paths / sizeof paths[0]);
    tcase_add_test(cases, it_stays_within_its_bounds);
    tcase_add_test(cases, one_odd_interval_changes_it_by_no_more_than_a_half);
    tcase_add_loop_test(cases, pieces_leave_at_the_rate_although_timers_are_late, 0, 3);
    tcase_add_test(cases, what_a_long_pause_kept_from_leaving_is_not_made_up_for);
    Suite *suite = suite_create("fetch_window");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
