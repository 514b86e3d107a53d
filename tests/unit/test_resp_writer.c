#include "net/resp.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct resp_buffer out;

static void setup(void)
{
    resp_buffer_init(&out);
}

static void teardown(void)
{
    resp_buffer_fini(&out);
}

/* Compares what was written, and starts afresh. */
static void check_written(const char *expected)
{
    ck_assert(!out.failed);
    ck_assert_uint_eq(out.len, strlen(expected));
    ck_assert_mem_eq(out.data, expected, out.len);
    resp_buffer_clear(&out);
}

START_TEST(status_and_error)
{
    resp_write_status(&out, "OK");
    check_written("+OK\r\n");
    resp_write_error(&out, "ERR no such key", 15);
    check_written("-ERR no such key\r\n");
}
END_TEST

START_TEST(line_breaks_in_an_error_become_spaces)
{
    resp_write_error(&out, "ERR a\r\nb\nc", 10);
    check_written("-ERR a  b c\r\n");
}
END_TEST

START_TEST(integers_of_every_length)
{
    int64_t value = 0;
    for (unsigned digits = 1; digits <= 18; digits++) {
        const int64_t around[] = {value * 10 - 1, value * 10, value * 10 + (int64_t)(digits % 10), -value, -value - 1};
        for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
            char expected[32];
            snprintf(expected, sizeof(expected), ":%lld\r\n", (long long)around[i]);
            resp_write_integer(&out, around[i]);
            check_written(expected);
        }
        value = value * 10 + (int64_t)(digits % 10);
    }
    resp_write_integer(&out, INT64_MAX);
    check_written(":9223372036854775807\r\n");
    resp_write_integer(&out, INT64_MIN);
    check_written(":-9223372036854775808\r\n");
}
END_TEST

START_TEST(bulks)
{
    resp_write_bulk(&out, "hello", 5);
    check_written("$5\r\nhello\r\n");
    resp_write_bulk(&out, NULL, 0);
    check_written("$0\r\n\r\n");
}
END_TEST

START_TEST(nulls_by_protocol)
{
    resp_write_null(&out, 2);
    resp_write_null_array(&out, 2);
    check_written("$-1\r\n*-1\r\n");
    resp_write_null(&out, 3);
    resp_write_null_array(&out, 3);
    check_written("_\r\n_\r\n");
}
END_TEST

START_TEST(aggregates_by_protocol)
{
    resp_write_array(&out, 12);
    resp_write_map(&out, 2, 12);
    resp_write_set(&out, 2, 12);
    check_written("*12\r\n*24\r\n*12\r\n");
    resp_write_array(&out, 12);
    resp_write_map(&out, 3, 12);
    resp_write_set(&out, 3, 12);
    check_written("*12\r\n%12\r\n~12\r\n");
}
END_TEST

START_TEST(reals_with_seventeen_digits_as_redis)
{
    resp_write_real(&out, 3, 3.25);
    resp_write_real(&out, 3, 0.1);
    resp_write_real(&out, 3, -1e300);
    check_written(",3.25\r\n,0.10000000000000001\r\n,-1.0000000000000001e+300\r\n");
    resp_write_real(&out, 2, 3.25);
    resp_write_real(&out, 2, 10);
    check_written("$4\r\n3.25\r\n$2\r\n10\r\n");
}
END_TEST

START_TEST(reals_without_a_value)
{
    resp_write_real(&out, 3, (double)INFINITY);
    resp_write_real(&out, 3, (double)-INFINITY);
    resp_write_real(&out, 3, (double)-NAN);
    check_written(",inf\r\n,-inf\r\n,nan\r\n");
    resp_write_real(&out, 2, (double)INFINITY);
    resp_write_real(&out, 2, (double)-INFINITY);
    check_written("$3\r\ninf\r\n$4\r\n-inf\r\n");
}
END_TEST

START_TEST(bools_by_protocol)
{
    resp_write_bool(&out, 2, true);
    resp_write_bool(&out, 2, false);
    check_written(":1\r\n:0\r\n");
    resp_write_bool(&out, 3, true);
    resp_write_bool(&out, 3, false);
    check_written("#t\r\n#f\r\n");
}
END_TEST

START_TEST(verbatim_by_protocol)
{
    resp_write_verbatim(&out, 3, "txt", "Some string", 11);
    check_written("=15\r\ntxt:Some string\r\n");
    resp_write_verbatim(&out, 2, "txt", "Some string", 11);
    check_written("$11\r\nSome string\r\n");
}
END_TEST

START_TEST(a_large_buffer_is_given_back_when_cleared)
{
    char *large = calloc(1, 1 << 20);
    resp_write_bulk(&out, large, 1 << 20);
    ck_assert_uint_gt(out.capacity, 1 << 20);
    resp_buffer_clear(&out);
    ck_assert_uint_eq(out.capacity, 0);
    resp_write_status(&out, "OK");
    const size_t capacity = out.capacity;
    ck_assert_uint_gt(capacity, 0);
    resp_buffer_clear(&out);
    ck_assert_uint_eq(out.capacity, capacity);
    free(large);
}
END_TEST

START_TEST(an_impossible_size_fails_and_stays_failed)
{
    ck_assert_ptr_null(resp_buffer_reserve(&out, SIZE_MAX / 2));
    ck_assert(out.failed);
    resp_write_status(&out, "OK");
    ck_assert_uint_eq(out.len, 0);
    resp_buffer_clear(&out);
    resp_write_status(&out, "OK");
    check_written("+OK\r\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resp_writer");
    TCase *tcase = tcase_create("resp_writer");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, status_and_error);
    tcase_add_test(tcase, line_breaks_in_an_error_become_spaces);
    tcase_add_test(tcase, integers_of_every_length);
    tcase_add_test(tcase, bulks);
    tcase_add_test(tcase, nulls_by_protocol);
    tcase_add_test(tcase, aggregates_by_protocol);
    tcase_add_test(tcase, reals_with_seventeen_digits_as_redis);
    tcase_add_test(tcase, reals_without_a_value);
    tcase_add_test(tcase, bools_by_protocol);
    tcase_add_test(tcase, verbatim_by_protocol);
    tcase_add_test(tcase, a_large_buffer_is_given_back_when_cleared);
    tcase_add_test(tcase, an_impossible_size_fails_and_stays_failed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
