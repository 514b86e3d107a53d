/* Small files of the data directory: made with the directory they lie in, replaced as a whole. */
#include "cmd/lockstepd/small_file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/temp_dir.h"

/* `lockstepd --join` writes its first file before anything else has made the data directory. */
START_TEST(missing_directories_are_made)
{
    char dir[128], text[16];
    snprintf(dir, sizeof dir, "%s/cache/7/data/", temp_dir);
    ck_assert(small_file_write(dir, "joined", "one\n"));
    ck_assert(small_file_read(dir, "joined", text, sizeof text));
    ck_assert_str_eq(text, "one\n");
}
END_TEST

START_TEST(a_file_is_replaced)
{
    char text[16];
    ck_assert(small_file_write(temp_dir, "nodes", "a longer one\n"));
    ck_assert(small_file_write(temp_dir, "nodes", "two\n"));
    ck_assert(small_file_read(temp_dir, "nodes", text, sizeof text));
    ck_assert_str_eq(text, "two\n");
}
END_TEST

START_TEST(what_is_in_the_way_is_told)
{
    char dir[128];
    ck_assert(small_file_write(temp_dir, "file", "x\n"));
    snprintf(dir, sizeof dir, "%s/file/data", temp_dir);
    ck_assert(!small_file_write(dir, "joined", "one\n"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("small_file");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, temp_dir_make, temp_dir_remove);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, missing_directories_are_made);
    tcase_add_test(tc, a_file_is_replaced);
    tcase_add_test(tc, what_is_in_the_way_is_told);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
