#include <locale.h>

#include "tests/unit/store_probe.h"

static const struct probe_row rows[] = {
    /* GET and SET */
    {"GET k", "_"},
    {"SET k v; GET k", "$v"},
    {"SET k ''; GET k", "$"},
    {"SET '' v; GET ''", "$v"},
    {"SET k v NX", "+OK"},
    {"SET k v; SET k w NX", "_"},
    {"SET k v; SET k w NX; GET k", "$v"},
    {"SET k v XX", "_"},
    {"SET k v; SET k w xx; GET k", "$w"},
    {"SET k v GET", "_"},
    {"SET k v; SET k w GET", "$v"},
    {"SET k v; SET k w NX GET; GET k", "$v"},
    {"SET k v XX GET; EXISTS k", ":0"},
    {"SET k v NX NX", "+OK"},
    {"SET k v NX XX", "-ERR syntax error"},
    {"SET k v XX NX", "-ERR syntax error"},
    {"SET k v bogus", "-ERR syntax error"},
    {"SET k v PERSIST", "-ERR syntax error"},
    /* SET: deadlines */
    {"SET k v EX 10; PTTL k", ":10000"},
    {"SET k v px 10; PTTL k", ":10"},
    {"SET k v EX 10 EX 20; PTTL k", ":20000"},
    {"SET k v EXAT 1700000100; TTL k", ":100"},
    {"SET k v PXAT 1700000100000; PTTL k", ":100000"},
    {"SET k v EX 10; SET k w; TTL k", ":-1"},
    {"SET k v EX 10; SET k w KEEPTTL; TTL k", ":10"},
    {"SET k v KEEPTTL; TTL k", ":-1"},
    {"SET k v EX 10 KEEPTTL", "-ERR syntax error"},
    {"SET k v KEEPTTL PX 10", "-ERR syntax error"},
    {"SET k v EX 10 PX 10", "-ERR syntax error"},
    {"SET k v EX 10 EXAT 10", "-ERR syntax error"},
    {"SET k v EX", "-ERR syntax error"},
    {"SET k v EX NX", "-ERR value is not an integer or out of range"},
    {"SET k v EX ten", "-ERR value is not an integer or out of range"},
    {"SET k v EX 1.5", "-ERR value is not an integer or out of range"},
    {"SET k v EX \\_1", "-ERR value is not an integer or out of range"},
    {"SET k v EX 0", "-ERR invalid expire time in 'set' command"},
    {"SET k v PX -1", "-ERR invalid expire time in 'set' command"},
    {"SET k v EX 9223372036854775807", "-ERR invalid expire time in 'set' command"},
    {"SET k v EX 9223372036854775", "-ERR invalid expire time in 'set' command"},
    {"SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command"},
    {"SET k v PXAT 9223372036854775807; PEXPIRETIME k", ":9223372036854775807"},
    {"SET k v EXAT 9223372036854776", "-ERR invalid expire time in 'set' command"},
    {"SET k v EX 0 bogus", "-ERR syntax error"},
    {"SET k v PXAT 1", "+OK"},
    {"SET k v PXAT 1; EXISTS k", ":0"},
    {"SET k v; SET k w PXAT 1; DBSIZE", ":0"},
    {"SET k v; SET k w PXAT 1 GET", "$v"},
    {"SET k v PXAT 1700000000000; EXISTS k", ":0"},
    {"SET k v PXAT 1700000000001; EXISTS k", ":1"},
    {"SET k v; SET k w EX 0 NX", "-ERR invalid expire time in 'set' command"},
    {"SET k", "-ERR wrong number of arguments for 'set' command"},
    /* SETNX SETEX PSETEX GETSET */
    {"SETNX k v", ":1"},
    {"SETNX k v; SETNX k w", ":0"},
    {"SETNX k v; SETNX k w; GET k", "$v"},
    {"SETEX k 10 v", "+OK"},
    {"SETEX k 10 v; TTL k", ":10"},
    {"SETEX k 0 v", "-ERR invalid expire time in 'setex' command"},
    {"SETEX k x v", "-ERR value is not an integer or out of range"},
    {"PSETEX k 10 v; PTTL k", ":10"},
    {"PSETEX k -1 v", "-ERR invalid expire time in 'psetex' command"},
    {"GETSET k v", "_"},
    {"SET k v EX 10; GETSET k w", "$v"},
    {"SET k v EX 10; GETSET k w; TTL k", ":-1"},
    /* GETDEL GETEX */
    {"GETDEL k", "_"},
    {"SET k v; GETDEL k", "$v"},
    {"SET k v; GETDEL k; EXISTS k", ":0"},
    {"GETEX k", "_"},
    {"SET k v EX 10; GETEX k", "$v"},
    {"SET k v EX 10; GETEX k; TTL k", ":10"},
    {"SET k v; GETEX k EX 10; TTL k", ":10"},
    {"SET k v EX 10; GETEX k PERSIST; TTL k", ":-1"},
    {"SET k v; GETEX k PXAT 1", "$v"},
    {"SET k v; GETEX k PXAT 1; EXISTS k", ":0"},
    {"SET k v; GETEX k EX 0", "-ERR invalid expire time in 'getex' command"},
    {"GETEX k EX 0", "_"},
    {"GETEX k EX x", "_"},
    {"GETEX k EX", "-ERR syntax error"},
    {"GETEX k PERSIST EX 10", "-ERR syntax error"},
    {"GETEX k EX 10 PERSIST", "-ERR syntax error"},
    {"GETEX k KEEPTTL", "-ERR syntax error"},
    /* MGET MSET MSETNX */
    {"SET a 1; SET c 3; MGET a b c a", "*4 $1 _ $3 $1"},
    {"MSET a 1 b 2; MGET a b", "*2 $1 $2"},
    {"MSET a 1 a 2; GET a", "$2"},
    {"SET a 1 EX 10; MSET a 2; TTL a", ":-1"},
    {"MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"},
    {"MSETNX a 1 b 2", ":1"},
    {"MSETNX a 1 a 2; GET a", "$2"},
    {"SET b 0; MSETNX a 1 b 2", ":0"},
    {"SET b 0; MSETNX a 1 b 2; EXISTS a", ":0"},
    {"MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command"},
    /* APPEND STRLEN */
    {"APPEND k abc", ":3"},
    {"SET k abc EX 10; APPEND k def", ":6"},
    {"SET k abc EX 10; APPEND k def; GET k", "$abcdef"},
    {"SET k abc EX 10; APPEND k def; TTL k", ":10"},
    {"APPEND k ''; EXISTS k", ":1"},
    {"STRLEN k", ":0"},
    {"SET k abc; STRLEN k", ":3"},
    /* SETRANGE */
    {"SET k hello; SETRANGE k 1 ipp; GET k", "$hippo"},
    {"SET k hello; SETRANGE k 4 ooo", ":7"},
    {"SET k hello; SETRANGE k 1 x", ":5"},
    {"SET k hello EX 10; SETRANGE k 1 x; TTL k", ":10"},
    {"SETRANGE k 3 x", ":4"},
    {"SETRANGE k 0 ''", ":0"},
    {"SETRANGE k 0 ''; EXISTS k", ":0"},
    {"SET k abc; SETRANGE k 10 ''", ":3"},
    {"SETRANGE k -1 x", "-ERR offset is out of range"},
    {"SETRANGE k one x", "-ERR value is not an integer or out of range"},
    {"SETRANGE k 536870912 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"},
    {"SETRANGE k 9223372036854775807 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"},
    {"SETRANGE k 9223372036854775807 ''", ":0"},
    /* GETRANGE */
    {"GETRANGE k 0 -1", "$"},
    {"SET k hello; GETRANGE k 0 -1", "$hello"},
    {"SET k hello; SUBSTR k 1 3", "$ell"},
    {"SET k hello; GETRANGE k -3 -2", "$ll"},
    {"SET k hello; GETRANGE k -2 -3", "$"},
    {"SET k hello; GETRANGE k 3 1", "$"},
    {"SET k hello; GETRANGE k -100 -100", "$h"},
    {"SET k hello; GETRANGE k -100 -101", "$"},
    {"SET k hello; GETRANGE k 0 100", "$hello"},
    {"SET k hello; GETRANGE k 5 10", "$"},
    {"SET k hello; GETRANGE k -9223372036854775808 9223372036854775807", "$hello"},
    {"SET k ''; GETRANGE k 0 0", "$"},
    {"GETRANGE k a 0", "-ERR value is not an integer or out of range"},
    /* INCR and its like */
    {"INCR k", ":1"},
    {"DECR k", ":-1"},
    {"SET k 10; INCR k; GET k", "$11"},
    {"SET k 10 EX 10; INCR k; TTL k", ":10"},
    {"SET k 10; INCRBY k -15", ":-5"},
    {"SET k 10; DECRBY k -15", ":25"},
    {"SET k 9223372036854775806; INCR k", ":9223372036854775807"},
    {"SET k 9223372036854775807; INCR k", "-ERR increment or decrement would overflow"},
    {"SET k -9223372036854775808; DECR k", "-ERR increment or decrement would overflow"},
    {"SET k -1; INCRBY k -9223372036854775808", "-ERR increment or decrement would overflow"},
    {"INCRBY k -9223372036854775808", ":-9223372036854775808"},
    {"DECRBY k -9223372036854775808", "-ERR decrement would overflow"},
    {"SET k abc; INCR k", "-ERR value is not an integer or out of range"},
    {"SET k 01; INCR k", "-ERR value is not an integer or out of range"},
    {"SET k ''; INCR k", "-ERR value is not an integer or out of range"},
    {"SET k 9223372036854775808; INCR k", "-ERR value is not an integer or out of range"},
    {"INCRBY k 1.5", "-ERR value is not an integer or out of range"},
    {"INCRBY k +1", "-ERR value is not an integer or out of range"},
    /* INCRBYFLOAT */
    {"SET k 10.50; INCRBYFLOAT k 0.1", "$10.6"},
    {"SET k 5.0e3; INCRBYFLOAT k 2.0e2", "$5200"},
    {"INCRBYFLOAT k 0.1", "$0.1"},
    {"INCRBYFLOAT k 3.0", "$3"},
    {"INCRBYFLOAT k 100", "$100"},
    {"INCRBYFLOAT k -0", "$0"},
    {"INCRBYFLOAT k -1e-30", "$0"},
    {"INCRBYFLOAT k 0x1p4", "$16"},
    {"INCRBYFLOAT k 1e20", "$100000000000000000000"},
    {"INCRBYFLOAT k 0.00000000000000001", "$0.00000000000000001"},
    {"SET k 1 EX 10; INCRBYFLOAT k 1; TTL k", ":10"},
    {"SET k abc; INCRBYFLOAT k 1", "-ERR value is not a valid float"},
    {"INCRBYFLOAT k abc", "-ERR value is not a valid float"},
    {"INCRBYFLOAT k 1,5", "-ERR value is not a valid float"},
    {"INCRBYFLOAT k \\_1", "-ERR value is not a valid float"},
    {"INCRBYFLOAT k ''", "-ERR value is not a valid float"},
    {"INCRBYFLOAT k nan", "-ERR value is not a valid float"},
    {"INCRBYFLOAT k 1e5000", "-ERR value is not a valid float"},
    {"INCRBYFLOAT k inf", "-ERR increment would produce NaN or Infinity"},
};

START_TEST(reply_is_redis_s)
{
    probe_check_row(&rows[_i]);
}
END_TEST

/* Commands that change nothing, after the ones that prepare. */
static const struct {
    const char *prepare, *command;
    uint64_t mutations;
} mutation_rows[] = {
    {"SET k v", "GET k", 0},
    {"SET k v", "SET k w NX", 0},
    {"SET k v", "SET none w XX GET", 0},
    {"SET k v", "SETNX k w", 0},
    {"SET k v", "GETEX k", 0},
    {"SET k v", "GETEX k PERSIST", 0},
    {"SET k v", "GETDEL none", 0},
    {"SET k v", "SETRANGE k 1 ''", 0},
    {"SET k v", "SETRANGE none 1 ''", 0},
    {"SET k v", "INCR k", 0},
    {"SET k v", "INCRBYFLOAT k 1", 0},
    {"SET k v", "MSETNX a 1 k 2", 0},
    {"SET k v", "SET none v PXAT 1", 0},
    {"SET k v", "SET k v EX 0", 0},
    {"SET k v", "SET k v", 1},
    {"SET k v", "SET k v PXAT 1", 1},
    {"SET k v", "SET k w EX 10 GET", 1},
    {"SET k v", "APPEND k w", 1},
    {"SET k v", "APPEND new w", 1},
    {"SET k v", "SETRANGE k 0 w", 1},
    {"SET k v", "SETRANGE new 5 w", 1},
    {"SET k v", "GETEX k EX 10", 1},
    {"SET k v", "GETEX k PXAT 1", 1},
    {"SET k v", "GETDEL k", 1},
    {"SET k v", "INCR new", 1},
    {"SET k v", "MSET a 1 b 2 c 3", 3},
    {"SET k v", "MSETNX a 1 b 2", 2},
};

START_TEST(mutations_are_one_per_changed_key)
{
    struct probe probe;
    probe_init(&probe);
    probe_script(&probe, mutation_rows[_i].prepare);
    uint64_t before = store_revision(probe.store);
    probe_ask(&probe, mutation_rows[_i].command);
    ck_assert_uint_eq(store_revision(probe.store) - before, mutation_rows[_i].mutations);
    probe_fini(&probe);
}
END_TEST

START_TEST(setrange_pads_with_zero_bytes)
{
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "SETRANGE new 3 x");
    probe_ask(&probe, "GET new");
    ck_assert_uint_eq(probe.len, 5);
    ck_assert_mem_eq(probe.text, "$\0\0\0x", 5);
    probe_ask(&probe, "SET old a");
    probe_ask(&probe, "SETRANGE old 3 x");
    probe_ask(&probe, "GET old");
    ck_assert_uint_eq(probe.len, 5);
    ck_assert_mem_eq(probe.text, "$a\0\0x", 5);
    probe_fini(&probe);
}
END_TEST

START_TEST(keys_and_values_are_any_bytes)
{
    struct probe probe;
    probe_init(&probe);
    char name[] = "k\0\r\n", value[] = "\xff\0v\n";
    struct iovec set[] = {{"SET", 3}, {name, sizeof name}, {value, sizeof value}}, get[] = {{"get", 3}, set[1]};
    ck_assert_str_eq(probe_execute(&probe, set, 3), "+OK");
    probe_execute(&probe, get, 2);
    ck_assert_uint_eq(probe.len, 1 + sizeof value);
    ck_assert_mem_eq(probe.text + 1, value, sizeof value);
    probe_fini(&probe);
}
END_TEST

START_TEST(options_hold_no_zero_byte)
{
    struct probe probe;
    probe_init(&probe);
    char option[] = "NX\0";
    struct iovec set[] = {{"SET", 3}, {"k", 1}, {"v", 1}, {option, 3}};
    ck_assert_str_eq(probe_execute(&probe, set, 4), "-ERR syntax error");
    probe_fini(&probe);
}
END_TEST

START_TEST(a_deadline_counts_from_the_time_of_its_entry)
{
    struct probe probe;
    probe_init(&probe);
    probe_advance(&probe, 500);
    probe_ask(&probe, "SET k v PX 100");
    ck_assert_str_eq(probe_ask(&probe, "PEXPIRETIME k"), ":1700000000600");
    probe_advance(&probe, 99);
    ck_assert_str_eq(probe_ask(&probe, "GET k"), "$v");
    probe_advance(&probe, 1);
    ck_assert_str_eq(probe_ask(&probe, "GET k"), "_");
    probe_fini(&probe);
}
END_TEST

START_TEST(incrbyfloat_ignores_the_locale)
{
    struct probe probe;
    probe_init(&probe);
    /* Not every machine has a locale with a decimal comma: then this is the plain case once more. */
    if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL) {
        setlocale(LC_ALL, "fr_FR.UTF-8");
    }
    ck_assert_str_eq(probe_script(&probe, "SET k 1.5; INCRBYFLOAT k 0.25"), "$1.75");
    setlocale(LC_ALL, "C");
    probe_fini(&probe);
}
END_TEST

START_TEST(incrbyfloat_shows_the_largest_number_whole)
{
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "INCRBYFLOAT k 1e4932");
    ck_assert_uint_eq(probe.len, 1 + 4933);
    probe_fini(&probe);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cmd_string");
    TCase *tcase = tcase_create("cmd_string");
    tcase_add_loop_test(tcase, reply_is_redis_s, 0, sizeof rows / sizeof rows[0]);
    tcase_add_loop_test(tcase, mutations_are_one_per_changed_key, 0, sizeof mutation_rows / sizeof mutation_rows[0]);
    tcase_add_test(tcase, setrange_pads_with_zero_bytes);
    tcase_add_test(tcase, keys_and_values_are_any_bytes);
    tcase_add_test(tcase, options_hold_no_zero_byte);
    tcase_add_test(tcase, a_deadline_counts_from_the_time_of_its_entry);
    tcase_add_test(tcase, incrbyfloat_ignores_the_locale);
    tcase_add_test(tcase, incrbyfloat_shows_the_largest_number_whole);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
