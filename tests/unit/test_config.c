#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/lockstepd/config.h"

static struct config config;
static char error[CONFIG_ERROR_MAX];

static void setup(void)
{
    ck_assert(config_init(&config));
    error[0] = '\0';
}

static void teardown(void)
{
    config_fini(&config);
}

static bool read_text(const char *text)
{
    return config_read_text(&config, "test.conf", text, strlen(text), error);
}

static bool set(const char *name, const char *value)
{
    const struct config_option *option = config_option_find(name);
    ck_assert_ptr_nonnull(option);
    return config_set(&config, option, value, error);
}

static void assert_text_refused(const char *text, const char *expected)
{
    ck_assert_msg(!read_text(text), "accepted: %s", text);
    ck_assert_msg(strstr(error, expected) != NULL, "'%s' is not in: %s", expected, error);
}

START_TEST(defaults_are_those_of_the_table)
{
    char value[256];
    const struct config_option *option;
    for (unsigned i = 0; (option = config_option_at(i)) != NULL; i++) {
        struct config other;
        ck_assert_ptr_eq(config_option_find(option->name), option);
        (void)config_get(&config, option, value, sizeof value);
        if (option->type == CONFIG_MEMBER || option->fallback[0] == '\0') {
            ck_assert_str_eq(value, "");
            continue;
        }
        /* What a default shows as, set again, shows the same. */
        char again[256];
        ck_assert(config_init(&other));
        ck_assert_msg(config_set(&other, option, value, error), "%s: %s", option->name, error);
        (void)config_get(&other, option, again, sizeof again);
        ck_assert_str_eq(again, value);
        config_fini(&other);
    }
    ck_assert_uint_eq(config.port, 7379);
    ck_assert_uint_eq(config.election_timeout_ms, 300);
    ck_assert_uint_eq(config.batch_bytes_max, 262144);
    ck_assert_int_eq(config.loglevel, 2);
    ck_assert_ptr_null(config.logfile);
}
END_TEST

START_TEST(defaults_fit_together)
{
    ck_assert_msg(config_finish(&config, error), "%s", error);
    ck_assert_uint_eq(config.peer_port, 17379);
}
END_TEST

START_TEST(file_sets_values)
{
    ck_assert_msg(read_text("# a comment\n"
                            "\n"
                            "  port 7000   # behind a value\n"
                            "dir \"/var/lib/lock step\"\r\n"
                            "maxmemory 2gb\n"
                            "redirect YES\n"
                            "loglevel debug\n"
                            "logfile '/tmp/a#b'"),
                  "%s", error);
    ck_assert_uint_eq(config.port, 7000);
    ck_assert_str_eq(config.dir, "/var/lib/lock step");
    ck_assert_uint_eq(config.maxmemory, UINT64_C(2) << 30);
    ck_assert(config.redirect);
    ck_assert_int_eq(config.loglevel, 3);
    ck_assert_str_eq(config.logfile, "/tmp/a#b");
}
END_TEST

START_TEST(double_quotes_take_escapes)
{
    ck_assert_msg(read_text("dir \"a\\\\b\\\"c\\x41\"\n"), "%s", error);
    ck_assert_str_eq(config.dir, "a\\b\"cA");
}
END_TEST

START_TEST(errors_carry_file_and_line)
{
    assert_text_refused("port 7000\n\n# x\nmaxmemory 1xb\n", "test.conf:4: ");
    assert_text_refused("prot 7000\n", "test.conf:1: unknown option 'prot', allowed are: id dir");
}
END_TEST

START_TEST(bad_lines_are_refused)
{
    assert_text_refused("port\n", "value is missing");
    assert_text_refused("port # 7000\n", "value is missing");
    assert_text_refused("port 0\n", "from 1 to 65535");
    assert_text_refused("port 65536\n", "from 1 to 65535");
    assert_text_refused("port -1\n", "from 1 to 65535");
    assert_text_refused("port 70 00\n", "bad value");
    assert_text_refused("port 99999999999999999999999\n", "bad value");
    assert_text_refused("redirect maybe\n", "allowed are yes and no");
    assert_text_refused("loglevel loud\n", "error, warning, info, debug");
    assert_text_refused("dir \"open\n", "quote is not closed");
    assert_text_refused("dir \"a\"b\n", "closing quote");
    assert_text_refused("dir \"\\q\"\n", "escape");
    assert_text_refused("dir \"\"\n", "text of 1 to");
    assert_text_refused("dir \"a\\nb\"\n", "control characters");
    assert_text_refused("Port 7000\n", "unknown option");
}
END_TEST

START_TEST(option_given_twice_in_a_file_is_refused)
{
    assert_text_refused("port 7000\nport 7001\n", "test.conf:2: option 'port' is given twice");
}
END_TEST

START_TEST(nul_byte_in_a_file_is_refused)
{
    static const char text[] = "dir a\0b\n";
    ck_assert(!config_read_text(&config, "test.conf", text, sizeof text - 1, error));
    ck_assert_ptr_nonnull(strstr(error, "NUL"));
}
END_TEST

START_TEST(too_long_value_is_refused)
{
    char text[6000] = "dir ";
    memset(text + 4, 'a', sizeof text - 5);
    text[sizeof text - 1] = '\0';
    assert_text_refused(text, "value too long");
}
END_TEST

START_TEST(missing_file_is_named)
{
    ck_assert(!config_read_file(&config, "/nonexistent/lockstep.conf", error));
    ck_assert_ptr_nonnull(strstr(error, "/nonexistent/lockstep.conf"));
}
END_TEST

START_TEST(file_is_read)
{
    char path[] = "/tmp/lockstep-test-config-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "port 7001\n", 10), 10);
    ck_assert_int_eq(close(fd), 0);
    bool ok = config_read_file(&config, path, error);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_msg(ok, "%s", error);
    ck_assert_uint_eq(config.port, 7001);
}
END_TEST

START_TEST(flags_win_over_the_file)
{
    char *argv[] = {"lockstepd", "x.conf", "--port", "7002", "--maxmemory=1mb", "--cluster-name", "c"};
    ck_assert(read_text("port 7000\nmaxmemory 5mb\n"));
    ck_assert_msg(config_read_flags(&config, 7, argv, 2, error), "%s", error);
    ck_assert_uint_eq(config.port, 7002);
    ck_assert_uint_eq(config.maxmemory, 1048576);
    ck_assert_str_eq(config.cluster_name, "c");
}
END_TEST

START_TEST(bad_flags_are_refused)
{
    char *unknown[] = {"lockstepd", "--prot", "1"};
    char *missing[] = {"lockstepd", "--port"};
    char *plain[] = {"lockstepd", "port", "1"};
    ck_assert(!config_read_flags(&config, 3, unknown, 1, error));
    ck_assert_ptr_nonnull(strstr(error, "--prot: unknown option 'prot'"));
    ck_assert(!config_read_flags(&config, 2, missing, 1, error));
    ck_assert_ptr_nonnull(strstr(error, "value is missing"));
    ck_assert(!config_read_flags(&config, 3, plain, 1, error));
    ck_assert_ptr_nonnull(strstr(error, "unexpected argument 'port'"));
}
END_TEST

START_TEST(sizes_have_units_as_in_redis)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {{"0", 0},        {"17", 17},      {"17b", 17},      {"1k", 1000},
                {"1kb", 1024},   {"1M", 1000000}, {"1MB", 1048576}, {"2g", UINT64_C(2000000000)},
                {"1GB", 1 << 30}};
    uint64_t size;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(config_parse_size(rows[i].text, &size), "%s", rows[i].text);
        ck_assert_uint_eq(size, rows[i].bytes);
    }
    static const char *const bad[] = {
        "", "k", "1 kb", "1tb", "-1", "+1", "1.5gb", "18446744073709551616", "18446744073709551615kb"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!config_parse_size(bad[i], &size), "accepted: %s", bad[i]);
    }
}
END_TEST

START_TEST(members_are_parsed)
{
    struct config_member m;
    ck_assert(config_parse_member("1 10.0.0.1:7379", &m, error));
    ck_assert_uint_eq(m.id, 1);
    ck_assert_str_eq(m.host, "10.0.0.1");
    ck_assert_uint_eq(m.port, 7379);
    ck_assert_uint_eq(m.peer_port, 17379);
    ck_assert(config_parse_member("22  [fd00::2]:7379:9000", &m, error));
    ck_assert_uint_eq(m.id, 22);
    ck_assert_str_eq(m.host, "fd00::2");
    ck_assert_uint_eq(m.peer_port, 9000);
}
END_TEST

START_TEST(bad_members_are_refused)
{
    struct config_member m;
    static const char *const bad[] = {"",
                                      "1",
                                      "0 a:1",
                                      "x a:1",
                                      "1 a",
                                      "1 a:",
                                      "1 a:0",
                                      "1 a:70000",
                                      "1 a:1:0",
                                      "1 a:1:2:3",
                                      "1 :1",
                                      "1 [::1:1",
                                      "1 [::1]1",
                                      "1 fd00::2:1",
                                      "1 a:60000",
                                      "1 a:1 b",
                                      "1a:1",
                                      "1 []:1",
                                      "99999999999999999999 a:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        error[0] = '\0';
        ck_assert_msg(!config_parse_member(bad[i], &m, error), "accepted: %s", bad[i]);
        ck_assert_str_ne(error, "");
    }
}
END_TEST

START_TEST(own_member_line_gives_the_ports)
{
    ck_assert(set("id", "2"));
    ck_assert(set("member", "1 127.0.0.1:7001:8001"));
    ck_assert(set("member", "2 127.0.0.1:7002:8002"));
    ck_assert_msg(config_finish(&config, error), "%s", error);
    ck_assert_uint_eq(config.port, 7002);
    ck_assert_uint_eq(config.peer_port, 8002);
}
END_TEST

START_TEST(given_port_stands_against_the_member_line)
{
    ck_assert(set("id", "1"));
    ck_assert(set("port", "9001"));
    ck_assert(set("member", "1 127.0.0.1:7001:8001"));
    ck_assert_msg(config_finish(&config, error), "%s", error);
    ck_assert_uint_eq(config.port, 9001);
    ck_assert_uint_eq(config.peer_port, 8001);
}
END_TEST

START_TEST(members_of_flags_replace_those_of_the_file)
{
    char *argv[] = {"lockstepd", "--id", "5", "--member", "5 127.0.0.1:7005"};
    ck_assert(read_text("member 1 a:1\nmember 2 b:2\n"));
    ck_assert_msg(config_read_flags(&config, 5, argv, 1, error), "%s", error);
    ck_assert_uint_eq(config.n_members, 1);
    ck_assert_uint_eq(config.members[0].id, 5);
}
END_TEST

static void assert_unfit(const char *text, const char *expected)
{
    teardown();
    setup();
    ck_assert_msg(read_text(text), "%s", error);
    ck_assert_msg(!config_finish(&config, error), "accepted: %s", text);
    ck_assert_msg(strstr(error, expected) != NULL, "'%s' is not in: %s", expected, error);
}

START_TEST(options_must_fit_together)
{
    assert_unfit("heartbeat-ms 101\n", "above a third of election-timeout-ms 300");
    assert_unfit("id 3\nmember 1 a:1\nmember 2 b:1\n", "id 3 is not the ID of any member");
    assert_unfit("member 1 a:1\nmember 2 b:1\n", "id is missing");
    assert_unfit("id 1\nmember 1 a:1\nmember 1 b:1\n", "given twice");
    assert_unfit("id 1\nmember 1 a:1\nmember 2 a:1:3\n", "share an address and a port");
    assert_unfit("id 1\nmember 1 a:1:5\nmember 2 A:5:6\n", "share an address and a port");
    assert_unfit("id 1\nmember 1 a:5:5\n", "same port for clients and nodes");
    assert_unfit("port 60000\n", "give peer-port");
    assert_unfit("port 7000\npeer-port 7000\n", "both 7000");
    assert_unfit("batch-size 1mb\nmax-entry-size 512kb\n", "batch-size 1048576 is above max-entry-size 524288");
    assert_unfit("read-grants most\n", "allowed are all and leader");
    assert_unfit("read-mode strong\n", "read-mode is \"strong\": allowed are linearizable, session, stale");
    assert_unfit("read-mode \"stale 0\"\n", "1 to 86400000 milliseconds");
    assert_unfit("read-mode \"session 5\"\n", "allowed are linearizable, session, stale");
}
END_TEST

START_TEST(read_mode_is_parsed)
{
    ck_assert_msg(read_text("read-mode \"stale 40\"\n"), "%s", error);
    ck_assert_msg(config_finish(&config, error), "%s", error);
    ck_assert_int_eq(config.read_mode_parsed.mode, EXEC_STALE);
    ck_assert_uint_eq(config.read_mode_parsed.stale_max_us, 40000);
}
END_TEST

START_TEST(too_many_members_are_refused)
{
    char line[64];
    for (unsigned i = 1; i <= REPLICA_SERVERS_MAX; i++) {
        (void)snprintf(line, sizeof line, "%u host%u:7379", i, i);
        ck_assert(set("member", line));
    }
    ck_assert(!set("member", "99 host99:7379"));
    ck_assert_ptr_nonnull(strstr(error, "more than 15 members"));
}
END_TEST

START_TEST(refused_value_changes_nothing)
{
    ck_assert(set("dir", "here"));
    ck_assert(!set("dir", ""));
    ck_assert_str_eq(config.dir, "here");
    ck_assert(!set("maxmemory", "much"));
    ck_assert_uint_eq(config.maxmemory, 0);
}
END_TEST

START_TEST(shown_value_is_cut_at_the_capacity)
{
    char value[4];
    ck_assert(set("dir", "abcdef"));
    ck_assert_uint_eq(config_get(&config, config_option_find("dir"), value, sizeof value), 3);
    ck_assert_str_eq(value, "abc");
    ck_assert(set("member", "1 [::1]:1:2"));
    ck_assert_uint_eq(config_get(&config, config_option_find("member"), value, sizeof value), 3);
    ck_assert_str_eq(value, "1 [");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tcase = tcase_create("config");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, defaults_are_those_of_the_table);
    tcase_add_test(tcase, defaults_fit_together);
    tcase_add_test(tcase, file_sets_values);
    tcase_add_test(tcase, double_quotes_take_escapes);
    tcase_add_test(tcase, errors_carry_file_and_line);
    tcase_add_test(tcase, bad_lines_are_refused);
    tcase_add_test(tcase, option_given_twice_in_a_file_is_refused);
    tcase_add_test(tcase, nul_byte_in_a_file_is_refused);
    tcase_add_test(tcase, too_long_value_is_refused);
    tcase_add_test(tcase, missing_file_is_named);
    tcase_add_test(tcase, file_is_read);
    tcase_add_test(tcase, flags_win_over_the_file);
    tcase_add_test(tcase, bad_flags_are_refused);
    tcase_add_test(tcase, sizes_have_units_as_in_redis);
    tcase_add_test(tcase, members_are_parsed);
    tcase_add_test(tcase, bad_members_are_refused);
    tcase_add_test(tcase, own_member_line_gives_the_ports);
    tcase_add_test(tcase, given_port_stands_against_the_member_line);
    tcase_add_test(tcase, members_of_flags_replace_those_of_the_file);
    tcase_add_test(tcase, options_must_fit_together);
    tcase_add_test(tcase, read_mode_is_parsed);
    tcase_add_test(tcase, too_many_members_are_refused);
    tcase_add_test(tcase, refused_value_changes_nothing);
    tcase_add_test(tcase, shown_value_is_cut_at_the_capacity);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
