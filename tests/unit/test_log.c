#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/lockstepd/log.h"

static char path[64];
static char moved[80];
static char text[8192];

static void setup(void)
{
    (void)snprintf(path, sizeof path, "/tmp/lockstep-test-log-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
    (void)snprintf(moved, sizeof moved, "%s.1", path);
}

static void teardown(void)
{
    (void)unlink(path);
    (void)unlink(moved);
}

static const char *content(const char *name)
{
    FILE *file = fopen(name, "r");
    ck_assert_ptr_nonnull(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    ck_assert_int_eq(fclose(file), 0);
    text[len] = '\0';
    return text;
}

START_TEST(line_has_time_level_node_and_term)
{
    struct log *log = log_new(path, LOG_LEVEL_INFO, 3);
    ck_assert_ptr_nonnull(log);
    log_write(log, LOG_LEVEL_WARNING, 7, "something happened");
    log_free(log);
    const char *line = content(path);
    ck_assert_uint_gt(strlen(line), 24);
    ck_assert_int_eq(line[10], 'T');
    ck_assert_int_eq(line[23], 'Z');
    ck_assert_str_eq(line + 24, " warning node=3 term=7 something happened\n");
}
END_TEST

START_TEST(lines_above_the_level_are_dropped)
{
    struct log *log = log_new(path, LOG_LEVEL_WARNING, 1);
    ck_assert_ptr_nonnull(log);
    log_write(log, LOG_LEVEL_INFO, 1, "no");
    log_set_level(log, LOG_LEVEL_INFO);
    log_write(log, LOG_LEVEL_DEBUG, 1, "no");
    log_write(log, LOG_LEVEL_INFO, 1, "yes");
    log_free(log);
    ck_assert_ptr_null(strstr(content(path), "no\n"));
    ck_assert_ptr_nonnull(strstr(text, "yes\n"));
}
END_TEST

START_TEST(an_event_is_one_line)
{
    char longer[2 * LOG_LINE_MAX];
    struct log *log = log_new(path, LOG_LEVEL_INFO, 1);
    ck_assert_ptr_nonnull(log);
    log_write(log, LOG_LEVEL_INFO, 1, "one\r\ntwo\x1b[2J");
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    log_write(log, LOG_LEVEL_INFO, 1, longer);
    log_free(log);
    const char *first_end = strchr(content(path), '\n');
    ck_assert_ptr_nonnull(strstr(text, "one  two [2J\n"));
    ck_assert_uint_eq(strlen(first_end + 1), LOG_LINE_MAX);
    ck_assert_ptr_eq(strchr(first_end + 1, '\n'), first_end + LOG_LINE_MAX);
}
END_TEST

START_TEST(reopen_writes_to_a_new_file)
{
    struct log *log = log_new(path, LOG_LEVEL_INFO, 1);
    ck_assert_ptr_nonnull(log);
    log_write(log, LOG_LEVEL_INFO, 1, "old");
    ck_assert_int_eq(rename(path, moved), 0);
    ck_assert(log_reopen(log));
    log_write(log, LOG_LEVEL_INFO, 1, "new");
    log_free(log);
    ck_assert_ptr_nonnull(strstr(content(moved), "old\n"));
    ck_assert_ptr_null(strstr(text, "new\n"));
    ck_assert_ptr_nonnull(strstr(content(path), "new\n"));
}
END_TEST

START_TEST(unwritable_file_is_refused)
{
    ck_assert_ptr_null(log_new("/nonexistent/lockstep.log", LOG_LEVEL_INFO, 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, line_has_time_level_node_and_term);
    tcase_add_test(tcase, lines_above_the_level_are_dropped);
    tcase_add_test(tcase, an_event_is_one_line);
    tcase_add_test(tcase, reopen_writes_to_a_new_file);
    tcase_add_test(tcase, unwritable_file_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
