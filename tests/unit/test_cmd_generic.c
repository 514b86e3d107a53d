#include "tests/unit/store_probe.h"

static const struct probe_row rows[] = {
    /* DEL UNLINK EXISTS TOUCH TYPE */
    {"DEL k", ":0"},
    {"MSET a 1 b 2; DEL a b c", ":2"},
    {"SET a 1; DEL a a", ":1"},
    {"MSET a 1 b 2; UNLINK a b; DBSIZE", ":0"},
    {"SET a 1; EXISTS a a b", ":2"},
    {"SET a 1; TOUCH a a b", ":2"},
    {"TYPE k", "+none"},
    {"SET k v; TYPE k", "+string"},
    {"DEL", "-ERR wrong number of arguments for 'del' command"},
    /* EXPIRE and its like */
    {"EXPIRE k 10", ":0"},
    {"SET k v; EXPIRE k 10", ":1"},
    {"SET k v; EXPIRE k 10; PTTL k", ":10000"},
    {"SET k v; PEXPIRE k 10; PTTL k", ":10"},
    {"SET k v; EXPIREAT k 1700000010; TTL k", ":10"},
    {"SET k v; PEXPIREAT k 1700000000010; PTTL k", ":10"},
    {"SET k v; EXPIRE k 0", ":1"},
    {"SET k v; EXPIRE k 0; EXISTS k", ":0"},
    {"SET k v; PEXPIRE k -9223372036854775808; EXISTS k", ":0"},
    {"SET k v; EXPIREAT k 1; EXISTS k", ":0"},
    {"SET k v; PEXPIREAT k 1700000000000; EXISTS k", ":0"},
    {"SET k v; EXPIRE k ten", "-ERR value is not an integer or out of range"},
    {"SET k v; EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"},
    {"SET k v; EXPIRE k -9223372036854775808", "-ERR invalid expire time in 'expire' command"},
    {"SET k v; PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"},
    {"SET k v; EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command"},
    {"SET k v; PEXPIREAT k 9223372036854775807; PEXPIRETIME k", ":9223372036854775807"},
    {"EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"},
    /* NX XX GT LT */
    {"SET k v; EXPIRE k 10 NX", ":1"},
    {"SET k v EX 5; EXPIRE k 10 NX", ":0"},
    {"SET k v; EXPIRE k 10 XX", ":0"},
    {"SET k v EX 5; EXPIRE k 10 xx", ":1"},
    {"SET k v; EXPIRE k 10 GT", ":0"},
    {"SET k v EX 5; EXPIRE k 10 GT", ":1"},
    {"SET k v EX 10; EXPIRE k 10 GT", ":0"},
    {"SET k v EX 15; EXPIRE k 10 GT", ":0"},
    {"SET k v EX 15; EXPIRE k -10 GT", ":0"},
    {"SET k v; EXPIRE k 10 LT", ":1"},
    {"SET k v EX 5; EXPIRE k 10 LT", ":0"},
    {"SET k v EX 10; EXPIRE k 10 LT", ":0"},
    {"SET k v EX 15; EXPIRE k 10 LT", ":1"},
    {"SET k v EX 15; PEXPIREAT k -10 LT; EXISTS k", ":0"},
    {"SET k v EX 15; EXPIRE k 20 XX GT", ":1"},
    {"SET k v; EXPIRE k 20 XX LT", ":0"},
    {"EXPIRE k 10 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible"},
    {"EXPIRE k 10 LT NX", "-ERR NX and XX, GT or LT options at the same time are not compatible"},
    {"EXPIRE k 10 GT LT", "-ERR GT and LT options at the same time are not compatible"},
    {"EXPIRE k ten GT LT", "-ERR GT and LT options at the same time are not compatible"},
    {"EXPIRE k ten bogus", "-ERR Unsupported option bogus"},
    {"EXPIRE k 10 GT LT bogus", "-ERR Unsupported option bogus"},
    {"EXPIRE k 10 line\r\n", "-ERR Unsupported option line"},
    /* TTL and its like */
    {"TTL k", ":-2"},
    {"PTTL k", ":-2"},
    {"EXPIRETIME k", ":-2"},
    {"PEXPIRETIME k", ":-2"},
    {"SET k v; TTL k", ":-1"},
    {"SET k v; EXPIRETIME k", ":-1"},
    {"SET k v PX 1499; TTL k", ":1"},
    {"SET k v PX 1500; TTL k", ":2"},
    {"SET k v PXAT 1700000001499; EXPIRETIME k", ":1700000001"},
    {"SET k v PXAT 1700000001500; EXPIRETIME k", ":1700000002"},
    {"PERSIST k", ":0"},
    {"SET k v; PERSIST k", ":0"},
    {"SET k v EX 5; PERSIST k", ":1"},
    {"SET k v EX 5; PERSIST k; TTL k", ":-1"},
    /* RENAME RENAMENX */
    {"RENAME a b", "-ERR no such key"},
    {"RENAME a a", "-ERR no such key"},
    {"SET a 1; RENAME a a", "+OK"},
    {"SET a 1; RENAME a b", "+OK"},
    {"SET a 1 EX 5; SET b 2; RENAME a b; GET b", "$1"},
    {"SET a 1 EX 5; SET b 2; RENAME a b; TTL b", ":5"},
    {"SET a 1; SET b 2 EX 5; RENAME a b; TTL b", ":-1"},
    {"SET a 1; RENAME a b; EXISTS a", ":0"},
    {"RENAMENX a b", "-ERR no such key"},
    {"SET a 1; RENAMENX a a", ":0"},
    {"SET a 1; RENAMENX a b", ":1"},
    {"MSET a 1 b 2; RENAMENX a b", ":0"},
    {"MSET a 1 b 2; RENAMENX a b; MGET a b", "*2 $1 $2"},
    /* COPY */
    {"COPY a b", ":0"},
    {"SET a 1 EX 5; COPY a b", ":1"},
    {"SET a 1 EX 5; COPY a b; MGET a b", "*2 $1 $1"},
    {"SET a 1 EX 5; COPY a b; TTL b", ":5"},
    {"MSET a 1 b 2; COPY a b", ":0"},
    {"MSET a 1 b 2; COPY a b; GET b", "$2"},
    {"MSET a 1 b 2; COPY a b REPLACE", ":1"},
    {"MSET a 1 b 2; COPY a b DB 0 replace; GET b", "$1"},
    {"COPY a a", "-ERR source and destination objects are the same"},
    {"COPY a b DB 1", "-ERR DB index is out of range"},
    {"COPY a b DB -1", "-ERR DB index is out of range"},
    {"COPY a b DB x", "-ERR value is not an integer or out of range"},
    {"COPY a b DB 2147483648", "-ERR value is out of range, value must between -2147483648 and 2147483647"},
    {"COPY a b DB", "-ERR syntax error"},
    {"COPY a b DB x bogus", "-ERR value is not an integer or out of range"},
    {"COPY a b bogus DB x", "-ERR syntax error"},
    {"COPY a a bogus", "-ERR syntax error"},
    /* KEYS RANDOMKEY DBSIZE FLUSHALL FLUSHDB */
    {"KEYS *", "*0"},
    {"SET a 1; KEYS *", "*1 $a"},
    {"SET '' 1; KEYS *", "*1 $"},
    {"SET '' 1; KEYS **", "*0"},
    {"MSET hello 1 hallo 2 hxllo 3; KEYS h[^ae]llo", "*1 $hxllo"},
    {"RANDOMKEY", "_"},
    {"SET a 1; RANDOMKEY", "$a"},
    {"MSET a 1 b 2; DBSIZE", ":2"},
    {"MSET a 1 b 2; FLUSHALL", "+OK"},
    {"MSET a 1 b 2; FLUSHALL async; DBSIZE", ":0"},
    {"MSET a 1 b 2; FLUSHDB SYNC; KEYS *", "*0"},
    {"FLUSHALL bogus", "-ERR syntax error"},
    {"FLUSHDB ASYNC SYNC", "-ERR syntax error"},
    /* SCAN */
    {"SCAN 0", "*2 $0 *0"},
    {"SET a 1; SCAN 0 COUNT 1000", "*2 $0 *1 $a"},
    {"MSET ab 1 b 2; SCAN 0 COUNT 1000 MATCH a*", "*2 $0 *1 $ab"},
    {"SET a 1; SCAN 0 COUNT 1000 TYPE STRING", "*2 $0 *1 $a"},
    {"SET a 1; SCAN 0 COUNT 1000 TYPE hash", "*2 $0 *0"},
    {"SET a 1; SCAN 0 COUNT 1000 TYPE bogus", "*2 $0 *0"},
    {"SET a 1; SCAN 0 COUNT 9223372036854775807", "*2 $0 *1 $a"},
    {"SCAN ''", "*2 $0 *0"},
    {"SCAN +0", "*2 $0 *0"},
    {"SCAN x", "-ERR invalid cursor"},
    {"SCAN \\_0", "-ERR invalid cursor"},
    {"SCAN -", "-ERR invalid cursor"},
    {"SCAN 18446744073709551616", "-ERR invalid cursor"},
    {"SCAN x bogus", "-ERR invalid cursor"},
    {"SCAN 0 bogus", "-ERR syntax error"},
    {"SCAN 0 COUNT", "-ERR syntax error"},
    {"SCAN 0 COUNT 0", "-ERR syntax error"},
    {"SCAN 0 COUNT x", "-ERR value is not an integer or out of range"},
    {"SCAN 0 COUNT x bogus", "-ERR value is not an integer or out of range"},
    {"SCAN 0 TYPE", "-ERR syntax error"},
    /* OBJECT */
    {"OBJECT ENCODING k", "_"},
    {"SET k 12; OBJECT ENCODING k", "$int"},
    {"SET k -9223372036854775808; OBJECT ENCODING k", "$int"},
    {"SET k 9223372036854775808; object encoding k", "$embstr"},
    {"SET k 01; OBJECT ENCODING k", "$embstr"},
    {"SET k ''; OBJECT ENCODING k", "$embstr"},
    {"SET k 12345678901234567890123456789012345678901234; OBJECT ENCODING k", "$embstr"},
    {"SET k 123456789012345678901234567890123456789012345; OBJECT ENCODING k", "$raw"},
    {"SET k v; OBJECT REFCOUNT k", ":1"},
    {"SET k 9999; OBJECT REFCOUNT k", ":2147483647"},
    {"SET k 10000; OBJECT REFCOUNT k", ":1"},
    {"OBJECT REFCOUNT k", "_"},
    {"SET k v; OBJECT IDLETIME k", ":0"},
    {"OBJECT IDLETIME k", "_"},
    {"OBJECT FREQ k", "_"},
    {"SET k v; OBJECT FREQ k",
     "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching "
     "between policies at runtime LRU and LFU data will take some time to adjust."},
    {"OBJECT", "-ERR wrong number of arguments for 'object' command"},
    {"OBJECT x", "-ERR unknown subcommand 'x'. Try OBJECT HELP."},
    {"OBJECT encodin k v", "-ERR unknown subcommand 'encodin'. Try OBJECT HELP."},
    {"OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command"},
    {"object Encoding a b", "-ERR wrong number of arguments for 'object|encoding' command"},
    {"OBJECT HELP x", "-ERR wrong number of arguments for 'object|help' command"},
};

START_TEST(reply_is_redis_s)
{
    probe_check_row(&rows[_i]);
}
END_TEST

static const struct {
    const char *prepare, *command;
    uint64_t mutations;
} mutation_rows[] = {
    {"MSET a 1 b 2", "DEL none", 0},       {"MSET a 1 b 2", "DEL a a b none", 2},
    {"MSET a 1 b 2", "TOUCH a", 0},        {"MSET a 1 b 2", "PERSIST a", 0},
    {"MSET a 1 b 2", "EXPIRE none 10", 0}, {"MSET a 1 b 2", "EXPIRE a 10 XX", 0},
    {"MSET a 1 b 2", "EXPIRE a 10", 1},    {"MSET a 1 b 2", "EXPIRE a -1", 1},
    {"SET a 1 EX 10", "PERSIST a", 1},     {"MSET a 1 b 2", "RENAME a a", 0},
    {"MSET a 1 b 2", "RENAMENX a b", 0},   {"MSET a 1 b 2", "RENAME a b", 1},
    {"MSET a 1 b 2", "COPY a b", 0},       {"MSET a 1 b 2", "COPY a b REPLACE", 1},
    {"MSET a 1 b 2", "FLUSHALL", 1},       {"MSET a 1 b 2; FLUSHALL", "FLUSHALL", 0},
    {"MSET a 1 b 2", "FLUSHALL bogus", 0},
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

START_TEST(a_dead_key_is_in_no_reply)
{
    static const struct probe_row dead[] = {
        {"GET k", "_"},
        {"EXISTS k", ":0"},
        {"TTL k", ":-2"},
        {"KEYS *", "*0"},
        {"SCAN 0 COUNT 1000", "*2 $0 *0"},
        {"RANDOMKEY", "_"},
        {"DBSIZE", ":0"},
        {"TYPE k", "+none"},
        {"OBJECT ENCODING k", "_"},
        {"PERSIST k", ":0"},
        {"DEL k", ":0"},
        {"RENAME k b", "-ERR no such key"},
        {"COPY k b", ":0"},
        {"EXPIRE k 10", ":0"},
        {"APPEND k w", ":1"},
    };
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "SET k v PX 100");
    probe_advance(&probe, 100);
    for (size_t i = 0; i < sizeof dead / sizeof dead[0]; i++) {
        ck_assert_str_eq(probe_ask(&probe, dead[i].script), dead[i].reply);
    }
    probe_fini(&probe);
}
END_TEST

START_TEST(ttl_counts_down_to_the_read_time_between_entries)
{
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "SET k v PX 2000");
    store_set_read_time(probe.store, PROBE_START_MS + 700);
    ck_assert_str_eq(probe_ask(&probe, "PTTL k"), ":1300");
    ck_assert_str_eq(probe_ask(&probe, "TTL k"), ":1");
    ck_assert_str_eq(probe_ask(&probe, "PEXPIRETIME k"), ":1700000002000");
    store_set_read_time(probe.store, 0);
    ck_assert_str_eq(probe_ask(&probe, "PTTL k"), ":2000");
    probe_fini(&probe);
}
END_TEST

START_TEST(read_time_ends_no_key)
{
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "SET k v PX 2000");
    uint64_t digest = store_digest(probe.store);
    store_set_read_time(probe.store, PROBE_START_MS + 5000);
    ck_assert_str_eq(probe_ask(&probe, "PTTL k"), ":0");
    ck_assert_str_eq(probe_ask(&probe, "GET k"), "$v");
    ck_assert_uint_eq(store_time_ms(probe.store), PROBE_START_MS);
    ck_assert_uint_eq(store_digest(probe.store), digest);
    probe_fini(&probe);
}
END_TEST

enum { SCANNED = 1000 };

/* Calls SCAN until its cursor is 0; counts how often each key k0 to k999 comes. Returns the number of calls. */
static unsigned scan_all(struct probe *probe, const char *options, unsigned counts[SCANNED])
{
    char line[256], cursor[32] = "0";
    unsigned calls = 0;
    do {
        snprintf(line, sizeof line, "SCAN %s%s", cursor, options);
        char *at = strdup(probe_ask(probe, line)), *next = at;
        ck_assert_int_eq(strncmp(at, "*2 $", 4), 0);
        snprintf(cursor, sizeof cursor, "%llu", strtoull(at + 4, &next, 10));
        while ((next = strstr(next, "$k")) != NULL) {
            unsigned long key = strtoul(next + 2, &next, 10);
            ck_assert_uint_lt(key, SCANNED);
            counts[key]++;
        }
        free(at);
        calls++;
        ck_assert_uint_le(calls, 10 * SCANNED);
    } while (strcmp(cursor, "0") != 0);
    return calls;
}

static void fill(struct probe *probe)
{
    char line[64];
    for (unsigned i = 0; i < SCANNED; i++) {
        snprintf(line, sizeof line, "SET k%u v", i);
        probe_ask(probe, line);
    }
}

START_TEST(scan_visits_every_key)
{
    struct probe probe;
    probe_init(&probe);
    fill(&probe);
    unsigned counts[SCANNED] = {0};
    unsigned calls = scan_all(&probe, "", counts);
    ck_assert_uint_gt(calls, 10); /* in steps, not at once */
    for (unsigned i = 0; i < SCANNED; i++) {
        ck_assert_uint_ge(counts[i], 1);
    }
    probe_fini(&probe);
}
END_TEST

START_TEST(scan_with_a_match_visits_every_match)
{
    struct probe probe;
    probe_init(&probe);
    fill(&probe);
    unsigned counts[SCANNED] = {0};
    scan_all(&probe, " COUNT 7 MATCH k?5", counts);
    for (unsigned i = 0; i < SCANNED; i++) {
        bool match = i >= 10 && i < 100 && i % 10 == 5;
        ck_assert_uint_eq(counts[i] >= 1, match);
    }
    probe_fini(&probe);
}
END_TEST

START_TEST(scan_count_bounds_one_step)
{
    struct probe probe;
    probe_init(&probe);
    fill(&probe);
    unsigned counts[SCANNED] = {0};
    unsigned few = scan_all(&probe, " COUNT 500", counts), many = scan_all(&probe, " COUNT 5", counts);
    ck_assert_uint_lt(few, many);
    ck_assert_uint_ge(many, SCANNED / 50); /* a step ends within the bucket that reaches its count */
    probe_fini(&probe);
}
END_TEST

START_TEST(any_cursor_is_harmless)
{
    struct probe probe;
    probe_init(&probe);
    fill(&probe);
    static const char *const cursors[] = {"SCAN 18446744073709551615", "SCAN -1", "SCAN 12345678901234", "SCAN 1"};
    for (size_t i = 0; i < sizeof cursors / sizeof cursors[0]; i++) {
        ck_assert_int_eq(strncmp(probe_ask(&probe, cursors[i]), "*2 $", 4), 0);
    }
    probe_fini(&probe);
}
END_TEST

START_TEST(keys_lists_every_key)
{
    struct probe probe;
    probe_init(&probe);
    fill(&probe);
    ck_assert_int_eq(strncmp(probe_ask(&probe, "KEYS *"), "*1000 ", 6), 0);
    ck_assert_int_eq(strncmp(probe_ask(&probe, "KEYS k99?"), "*10 ", 4), 0);
    probe_fini(&probe);
}
END_TEST

START_TEST(randomkey_gives_different_keys)
{
    struct probe probe;
    probe_init(&probe);
    fill(&probe);
    unsigned counts[SCANNED] = {0}, different = 0;
    for (unsigned i = 0; i < SCANNED; i++) {
        unsigned long key = strtoul(probe_ask(&probe, "RANDOMKEY") + 2, NULL, 10);
        ck_assert_uint_lt(key, SCANNED);
        different += counts[key]++ == 0;
    }
    /* The seed of a test is fixed, so is this number; about 632 are expected of a perfect source. */
    ck_assert_uint_gt(different, SCANNED / 4);
    probe_fini(&probe);
}
END_TEST

START_TEST(object_help_lists_its_subcommands)
{
    struct probe probe;
    probe_init(&probe);
    const char *help = probe_ask(&probe, "OBJECT HELP");
    ck_assert_int_eq(strncmp(help, "*15 +OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are: ", 66), 0);
    ck_assert_ptr_nonnull(strstr(help, "+ENCODING <key> "));
    probe_fini(&probe);
}
END_TEST

START_TEST(unknown_subcommand_is_quoted_up_to_128_bytes)
{
    struct probe probe;
    probe_init(&probe);
    char word[200];
    memset(word, 'x', sizeof word);
    struct iovec argv[] = {{"OBJECT", 6}, {word, sizeof word}};
    probe_execute(&probe, argv, 2);
    ck_assert_uint_eq(strspn(strchr(probe.text, 'x'), "x"), 128);
    probe_fini(&probe);
}
END_TEST

/* Every row of every table: what sessions and COMMAND rely on. */
START_TEST(tables_are_complete)
{
    const struct store_command *command;
    unsigned n = 0;
    for (; (command = store_command_at(n)) != NULL; n++) {
        ck_assert_msg(command->arity != 0, "%s", command->name);
        ck_assert_msg(command->exec != NULL, "%s", command->name);
        ck_assert_msg(command->group != NULL, "%s", command->name);
        ck_assert_msg(command->since != NULL, "%s", command->name);
        ck_assert_msg(command->summary != NULL, "%s", command->name);
        ck_assert_msg(command->complexity != NULL, "%s", command->name);
        bool read = command->flags & STORE_READ, write = command->flags & STORE_WRITE;
        ck_assert_msg(read != write, "%s", command->name);
        ck_assert_ptr_eq(store_command_find(command->name, strlen(command->name)), command);
    }
    ck_assert_uint_ge(n, 46);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cmd_generic");
    TCase *tcase = tcase_create("cmd_generic");
    tcase_add_loop_test(tcase, reply_is_redis_s, 0, sizeof rows / sizeof rows[0]);
    tcase_add_loop_test(tcase, mutations_are_one_per_changed_key, 0, sizeof mutation_rows / sizeof mutation_rows[0]);
    tcase_add_test(tcase, a_dead_key_is_in_no_reply);
    tcase_add_test(tcase, ttl_counts_down_to_the_read_time_between_entries);
    tcase_add_test(tcase, read_time_ends_no_key);
    tcase_add_test(tcase, scan_visits_every_key);
    tcase_add_test(tcase, scan_with_a_match_visits_every_match);
    tcase_add_test(tcase, scan_count_bounds_one_step);
    tcase_add_test(tcase, any_cursor_is_harmless);
    tcase_add_test(tcase, keys_lists_every_key);
    tcase_add_test(tcase, randomkey_gives_different_keys);
    tcase_add_test(tcase, object_help_lists_its_subcommands);
    tcase_add_test(tcase, unknown_subcommand_is_quoted_up_to_128_bytes);
    tcase_add_test(tcase, tables_are_complete);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
