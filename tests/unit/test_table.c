/* The table as the keyspace shows it: growth, walks and random picks. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyspace_numbers.h"
#include "store/keyspace.h"

START_TEST(every_key_is_found_while_the_table_grows_and_shrinks)
{
    enum { N = 60000 };
    struct store *store = store_new(&(struct store_config){.hash_seed = 5});
    for (unsigned i = 0; i < N; i++) {
        set_number(store, "k", i);
        ck_assert(has_number(store, "k", i / 2));
    }
    for (unsigned i = 0; i < N; i++) {
        ck_assert(has_number(store, "k", i));
        ck_assert(!has_number(store, "absent", i));
    }
    for (unsigned i = 0; i < N; i++) {
        ck_assert(delete_number(store, "k", i));
        ck_assert(!has_number(store, "k", i));
        ck_assert(i + 1 == N || has_number(store, "k", N - 1));
    }
    ck_assert_uint_eq(store_keys(store), 0);
    ck_assert_uint_eq(store_memory(store), 0);
    ck_assert_uint_eq(store_revision(store), 2 * N);
    store_free(store);
}
END_TEST

START_TEST(table_is_more_than_four_fifths_full_at_any_size)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 6});
    for (unsigned i = 0; i < 100000; i++) {
        set_number(store, "k", i);
        if (i > 5000 && i % 100 == 0) {
            struct store_stats stats;
            store_stats(store, &stats);
            ck_assert_uint_le(stats.table_bytes * 4, store_keys(store) * 8 * 5);
        }
    }
    store_free(store);
}
END_TEST

#define STABLE 3000u

struct seen {
    unsigned times[STABLE];
};

static void note(void *ctx, const struct key *key)
{
    struct seen *seen = ctx;
    struct iovec name = key_name(key);
    char text[32] = {0};
    memcpy(text, name.iov_base, name.iov_len);
    unsigned i;
    if (sscanf(text, "stable%u", &i) == 1) {
        ck_assert_uint_lt(i, STABLE);
        seen->times[i]++;
    }
}

/* Scans to the end; calls `meanwhile` between steps. */
static void scan_all(struct store *store, struct seen *seen, void (*meanwhile)(struct store *store, unsigned step))
{
    memset(seen, 0, sizeof *seen);
    uint64_t cursor = 0;
    unsigned step = 0;
    do {
        cursor = keyspace_scan(store, cursor, note, seen);
        ck_assert_uint_le(cursor, INT64_MAX);
        if (meanwhile != NULL) {
            meanwhile(store, step);
        }
        ck_assert_uint_lt(step++, 2000000);
    } while (cursor != 0);
    for (unsigned i = 0; i < STABLE; i++) {
        ck_assert_uint_ge(seen->times[i], 1);
    }
}

static void grow(struct store *store, unsigned step)
{
    for (unsigned i = 0; i < 20 && step < 2000; i++) {
        set_number(store, "other", step * 20 + i);
    }
}

static void shrink(struct store *store, unsigned step)
{
    for (unsigned i = 0; i < 20; i++) {
        delete_number(store, "other", step * 20 + i);
    }
}

static void churn(struct store *store, unsigned step)
{
    if (step / 400 % 2 == 0) {
        grow(store, step % 400);
    } else {
        shrink(store, step % 400);
    }
}

static struct store *store_with_stable_keys(void)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    for (unsigned i = 0; i < STABLE; i++) {
        set_number(store, "stable", i);
    }
    return store;
}

START_TEST(scan_of_a_table_at_rest_visits_each_key_once)
{
    struct store *store = store_with_stable_keys();
    struct seen seen;
    scan_all(store, &seen, NULL);
    for (unsigned i = 0; i < STABLE; i++) {
        ck_assert_uint_eq(seen.times[i], 1);
    }
    store_free(store);
}
END_TEST

START_TEST(scan_misses_no_key_while_the_table_grows)
{
    struct store *store = store_with_stable_keys();
    struct seen seen;
    scan_all(store, &seen, grow);
    ck_assert_uint_gt(store_keys(store), 10 * STABLE);
    store_free(store);
}
END_TEST

START_TEST(scan_misses_no_key_while_the_table_shrinks)
{
    struct store *store = store_with_stable_keys();
    for (unsigned step = 0; step < 2000; step++) {
        grow(store, step);
    }
    struct seen seen;
    scan_all(store, &seen, shrink);
    ck_assert_uint_eq(store_keys(store), STABLE);
    store_free(store);
}
END_TEST

START_TEST(scan_misses_no_key_while_the_table_grows_and_shrinks_in_turn)
{
    struct store *store = store_with_stable_keys();
    struct seen seen;
    scan_all(store, &seen, churn);
    store_free(store);
}
END_TEST

static void count_key(void *ctx, const struct key *key)
{
    (void)key;
    (*(unsigned *)ctx)++;
}

START_TEST(scan_takes_any_cursor_and_ends)
{
    static const uint64_t cursors[] = {1,         0xffff,    UINT64_C(0xffffffffffff), UINT64_C(0x1000000000000),
                                       INT64_MAX, UINT64_MAX};
    struct store *store = store_with_stable_keys();
    for (unsigned i = 0; i < sizeof cursors / sizeof cursors[0]; i++) {
        unsigned visited = 0;
        unsigned steps = 0;
        for (uint64_t cursor = cursors[i]; cursor != 0; steps++) {
            cursor = keyspace_scan(store, cursor, count_key, &visited);
        }
        ck_assert_uint_gt(steps, 0);
        ck_assert_uint_le(visited, STABLE);
    }
    store_free(store);
}
END_TEST

START_TEST(scan_of_an_empty_keyspace_ends)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    unsigned visited = 0;
    ck_assert_uint_eq(keyspace_scan(store, 0, count_key, &visited), 0);
    ck_assert_uint_eq(visited, 0);
    store_free(store);
}
END_TEST

START_TEST(walks_and_random_picks_skip_dead_keys)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    keyspace_set_string(store, "live", 4, "v", 1, KEYSPACE_NO_DEADLINE);
    for (unsigned i = 0; i < 300; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "dead%u", i);
        keyspace_set_string(store, name, (size_t)len, "v", 1, 100);
    }
    keyspace_advance(store, 100, 0);
    unsigned visited = 0;
    for (uint64_t cursor = keyspace_scan(store, 0, count_key, &visited); cursor != 0;) {
        cursor = keyspace_scan(store, cursor, count_key, &visited);
    }
    ck_assert_uint_eq(visited, 1);
    for (uint64_t i = 0; i < 200; i++) {
        struct key *key = keyspace_random(store, i * UINT64_C(0x123456789abcdef));
        ck_assert_ptr_nonnull(key);
        ck_assert_mem_eq(key_name(key).iov_base, "live", 4);
    }
    keyspace_delete(store, keyspace_find(store, "live", 4));
    ck_assert_ptr_null(keyspace_random(store, 1));
    store_free(store);
}
END_TEST

START_TEST(random_picks_reach_every_key)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    for (unsigned i = 0; i < 100; i++) {
        set_number(store, "stable", i);
    }
    struct seen seen = {{0}};
    store_seed_reads(store, 9);
    for (unsigned i = 0; i < 20000; i++) {
        note(&seen, keyspace_random(store, keyspace_read_random(store)));
    }
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_gt(seen.times[i], 20);
    }
    store_free(store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("table");
    TCase *tests = tcase_create("table");
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, every_key_is_found_while_the_table_grows_and_shrinks);
    tcase_add_test(tests, table_is_more_than_four_fifths_full_at_any_size);
    tcase_add_test(tests, scan_of_a_table_at_rest_visits_each_key_once);
    tcase_add_test(tests, scan_misses_no_key_while_the_table_grows);
    tcase_add_test(tests, scan_misses_no_key_while_the_table_shrinks);
    tcase_add_test(tests, scan_misses_no_key_while_the_table_grows_and_shrinks_in_turn);
    tcase_add_test(tests, scan_takes_any_cursor_and_ends);
    tcase_add_test(tests, scan_of_an_empty_keyspace_ends);
    tcase_add_test(tests, walks_and_random_picks_skip_dead_keys);
    tcase_add_test(tests, random_picks_reach_every_key);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
