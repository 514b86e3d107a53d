/* What the CLI's load generator sends: bytes of requests, mixes, key distributions. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/workload.h"

static struct workload workload;
static const char *why;

static void workload_setup(uint64_t keys, enum workload_dist dist)
{
    struct workload_options options = {
        .keys = keys, .key_bytes = 16, .value_bytes = 5, .dist = dist, .zipf_exponent = 0.99};
    ck_assert(workload_init(&workload, &options));
    why = NULL;
}

static void render(struct workload_source *source, unsigned op, char *out)
{
    workload_render(&workload, source, op, out);
    out[workload.ops[op].len] = '\0';
}

START_TEST(a_set_is_rendered_as_resp)
{
    struct workload_source source;
    char request[256];
    workload_setup(1, WORKLOAD_UNIFORM);
    ck_assert(workload_add_mix(&workload, "set", &why));
    workload_source_init(&source, 0, 1, 1);
    render(&source, 0, request);
    static const char head[] = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$5\r\n";
    ck_assert_mem_eq(request, head, sizeof(head) - 1);
    ck_assert_uint_eq(strlen(request), sizeof(head) - 1 + 5 + 2);
    ck_assert_str_eq(request + sizeof(head) - 1 + 5, "\r\n");
    workload_fini(&workload);
}
END_TEST

START_TEST(sequential_keys_of_all_threads_cover_every_key_once)
{
    enum { KEYS = 1000, THREADS = 3 };
    static unsigned seen[KEYS];
    memset(seen, 0, sizeof(seen));
    workload_setup(KEYS, WORKLOAD_SEQUENTIAL);
    for (unsigned thread = 0; thread < THREADS; thread++) {
        struct workload_source source;
        workload_source_init(&source, thread, THREADS, 1);
        for (unsigned i = thread; i < KEYS; i += THREADS) {
            seen[workload_key(&workload, &source)]++;
        }
    }
    for (unsigned i = 0; i < KEYS; i++) {
        ck_assert_uint_eq(seen[i], 1);
    }
    workload_fini(&workload);
}
END_TEST

START_TEST(the_key_number_is_the_key_text)
{
    struct workload_source source;
    char request[256];
    workload_setup(1000000, WORKLOAD_SEQUENTIAL);
    ck_assert(workload_add(&workload, "GET", "GET {key}", 1, &why));
    workload_source_init(&source, 7, 123450, 1);
    render(&source, 0, request);
    ck_assert_str_eq(request, "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000007\r\n");
    render(&source, 0, request);
    ck_assert_str_eq(request, "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000123457\r\n");
    workload_fini(&workload);
}
END_TEST

START_TEST(uniform_keys_stay_in_range_and_spread)
{
    struct workload_source source;
    unsigned counts[10] = {0};
    workload_setup(10, WORKLOAD_UNIFORM);
    workload_source_init(&source, 0, 1, 42);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t key = workload_key(&workload, &source);
        ck_assert_uint_lt(key, 10);
        counts[key]++;
    }
    for (unsigned i = 0; i < 10; i++) { /* the seed is fixed: no luck involved */
        ck_assert_uint_ge(counts[i], 9500);
        ck_assert_uint_le(counts[i], 10500);
    }
    workload_fini(&workload);
}
END_TEST

START_TEST(zipf_keys_follow_the_law)
{
    struct workload_source source;
    static unsigned counts[1000];
    memset(counts, 0, sizeof(counts));
    workload_setup(1000, WORKLOAD_ZIPF);
    workload_source_init(&source, 0, 1, 42);
    for (unsigned i = 0; i < 1000000; i++) {
        uint64_t key = workload_key(&workload, &source);
        ck_assert_uint_lt(key, 1000);
        counts[key]++;
    }
    /* p(k) = k^-0.99 / H with H = sum of k^-0.99 for k to 1000 = 7.729: key 0 about 129,400 of 1,000,000. */
    ck_assert_uint_ge(counts[0], 127500);
    ck_assert_uint_le(counts[0], 131300);
    ck_assert_uint_ge(counts[9], 12700); /* 10^-0.99 / H = 13,240 */
    ck_assert_uint_le(counts[9], 13800);
    ck_assert_uint_ge(counts[99], 1200); /* 100^-0.99 / H = 1,355 */
    ck_assert_uint_le(counts[99], 1500);
    workload_fini(&workload);
}
END_TEST

START_TEST(a_mix_keeps_its_weights)
{
    struct workload_source source;
    unsigned counts[2] = {0};
    workload_setup(10, WORKLOAD_UNIFORM);
    ck_assert(workload_add_mix(&workload, "set:1,get:9", &why));
    workload_source_init(&source, 0, 1, 7);
    for (unsigned i = 0; i < 100000; i++) {
        counts[workload_choose(&workload, &source)]++;
    }
    ck_assert_uint_ge(counts[0], 9500);
    ck_assert_uint_le(counts[0], 10500);
    ck_assert_uint_eq(counts[0] + counts[1], 100000);
    workload_fini(&workload);
}
END_TEST

START_TEST(bad_mixes_are_refused)
{
    static const char *const bad[] = {"",       "nosuch",   "set:",    "set:0",      "set:x",
                                      "set:1x", "set,,get", "set:1:2", "set:999999", "set ,get"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        workload_setup(10, WORKLOAD_UNIFORM);
        ck_assert_msg(!workload_add_mix(&workload, bad[i], &why), "accepted: %s", bad[i]);
        ck_assert_ptr_nonnull(why);
        workload_fini(&workload);
    }
}
END_TEST

START_TEST(too_many_operations_are_refused)
{
    workload_setup(10, WORKLOAD_UNIFORM);
    for (unsigned i = 0; i < WORKLOAD_OPS_MAX; i++) {
        ck_assert(workload_add(&workload, "ping", "PING", 1, &why));
    }
    ck_assert(!workload_add(&workload, "ping", "PING", 1, &why));
    workload_fini(&workload);
}
END_TEST

START_TEST(key_sizes_are_computed)
{
    ck_assert_uint_eq(workload_key_bytes_needed(1), 5);
    ck_assert_uint_eq(workload_key_bytes_needed(10), 5);
    ck_assert_uint_eq(workload_key_bytes_needed(11), 6);
    ck_assert_uint_eq(workload_key_bytes_needed(1000000), 10);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("workload");
    TCase *tcase = tcase_create("workload");
    tcase_add_test(tcase, a_set_is_rendered_as_resp);
    tcase_add_test(tcase, sequential_keys_of_all_threads_cover_every_key_once);
    tcase_add_test(tcase, the_key_number_is_the_key_text);
    tcase_add_test(tcase, uniform_keys_stay_in_range_and_spread);
    tcase_add_test(tcase, zipf_keys_follow_the_law);
    tcase_add_test(tcase, a_mix_keeps_its_weights);
    tcase_add_test(tcase, bad_mixes_are_refused);
    tcase_add_test(tcase, too_many_operations_are_refused);
    tcase_add_test(tcase, key_sizes_are_computed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
