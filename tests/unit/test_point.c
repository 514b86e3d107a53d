/* Restoring from an archive: base backup and entries must be of one cluster, and of one history. */
#include "cmd/lockstep/point.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/lockstep/archive_file.h"
#include "cmd/lockstep/content.h"
#include "cmd/lockstep/file_env.h"
#include "tests/unit/temp_dir.h"

#define BASE_INDEX 40u
#define BASE_TERM 2u

static const uint8_t ours[16] = "0123456789abcde";
static const uint8_t theirs[16] = "0123456789abcdf";

static void write_base(void)
{
    const struct file_env_config config = {.dir = temp_dir, .mode = FILE_ENV_WRITE};
    struct content content;
    char error[FILE_ENV_ERROR_MAX];
    struct env *env = file_env_new(&config, error);
    ck_assert_msg(env != NULL, "%s", error);
    ck_assert(content_empty(&content));
    struct snapshot_meta meta = {.index = BASE_INDEX, .term = BASE_TERM};
    memcpy(meta.cluster, ours, sizeof meta.cluster);
    ck_assert_msg(content_write(&content, env, &meta), "%s", content.error);
    content_fini(&content);
    file_env_free(env);
}

/* Barriers from `first` to `last`; those up to the base's last entry are of `before`, the others of term 3. */
static void write_entries(const uint8_t cluster[16], uint64_t first, uint64_t last, uint64_t before)
{
    char error[ARCHIVE_ERROR_MAX];
    struct archive_head head = {.first_index = first, .prev_term = before};
    memcpy(head.cluster, cluster, sizeof head.cluster);
    struct archive_writer *writer = archive_writer_create(temp_dir, &head, error);
    ck_assert_msg(writer != NULL, "%s", error);
    for (uint64_t i = first; i <= last; i++) {
        const struct wal_entry entry = {
            .index = i, .term = i <= BASE_INDEX ? before : 3, .type = WAL_BARRIER, .data = "", .len = 0};
        ck_assert_msg(archive_writer_add(writer, &entry, error), "%s", error);
    }
    ck_assert(archive_writer_close(writer, true, error));
}

static bool load(uint64_t *last, char error[POINT_ERROR_MAX])
{
    const struct point newest = {0};
    struct content content;
    const bool ok = point_load(temp_dir, &newest, &content, error, NULL);
    *last = content.meta.index;
    content_fini(&content);
    return ok;
}

START_TEST(entries_go_on_from_the_base)
{
    char error[POINT_ERROR_MAX];
    uint64_t last;
    write_base();
    write_entries(ours, BASE_INDEX + 1, BASE_INDEX + 9, BASE_TERM);
    ck_assert_msg(load(&last, error), "%s", error);
    ck_assert_uint_eq(last, BASE_INDEX + 9);
}
END_TEST

START_TEST(the_base_may_lie_amid_the_entries)
{
    char error[POINT_ERROR_MAX];
    uint64_t last;
    write_base();
    write_entries(ours, BASE_INDEX - 5, BASE_INDEX + 9, BASE_TERM);
    ck_assert_msg(load(&last, error), "%s", error);
    ck_assert_uint_eq(last, BASE_INDEX + 9);
}
END_TEST

START_TEST(entries_of_another_cluster_are_refused)
{
    char error[POINT_ERROR_MAX];
    uint64_t last;
    write_base();
    write_entries(theirs, BASE_INDEX + 1, BASE_INDEX + 9, BASE_TERM);
    ck_assert(!load(&last, error));
    ck_assert_ptr_nonnull(strstr(error, "another cluster"));
}
END_TEST

START_TEST(entries_behind_another_term_are_refused)
{
    char error[POINT_ERROR_MAX];
    uint64_t last;
    write_base();
    write_entries(ours, BASE_INDEX + 1, BASE_INDEX + 9, BASE_TERM - 1);
    ck_assert(!load(&last, error));
    ck_assert_ptr_nonnull(strstr(error, "terms differ"));
}
END_TEST

START_TEST(entries_that_differ_from_the_base_are_refused)
{
    char error[POINT_ERROR_MAX];
    uint64_t last;
    write_base();
    write_entries(ours, BASE_INDEX - 5, BASE_INDEX + 9, BASE_TERM - 1);
    ck_assert(!load(&last, error));
    ck_assert_ptr_nonnull(strstr(error, "not of one history"));
}
END_TEST

START_TEST(entries_that_begin_too_late_are_refused)
{
    char error[POINT_ERROR_MAX];
    uint64_t last;
    write_base();
    write_entries(ours, BASE_INDEX + 2, BASE_INDEX + 9, BASE_TERM);
    ck_assert(!load(&last, error));
    ck_assert_ptr_nonnull(strstr(error, "are missing"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("point");
    TCase *tc = tcase_create("archive");
    tcase_add_checked_fixture(tc, temp_dir_make, temp_dir_remove);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, entries_go_on_from_the_base);
    tcase_add_test(tc, the_base_may_lie_amid_the_entries);
    tcase_add_test(tc, entries_of_another_cluster_are_refused);
    tcase_add_test(tc, entries_behind_another_term_are_refused);
    tcase_add_test(tc, entries_that_differ_from_the_base_are_refused);
    tcase_add_test(tc, entries_that_begin_too_late_are_refused);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
