/* The snapshots of a directory: which are good, which may go, which stay. */
#include "tests/unit/snapshot_fixture.h"

static void put(struct mem_env *mem, uint64_t index)
{
    snap_write_all(mem, index, 1, index, 1000);
}

static uint8_t *bytes(struct mem_env *mem, uint64_t index)
{
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name_format(name, index, 1, "");
    return mem_env_file(mem, name, NULL);
}

static struct snapshot_dir *dir_open(struct mem_env *mem)
{
    struct snapshot_dir *dir;
    ck_assert_int_eq(snapshot_dir_open(mem_env_env(mem), &dir), SNAPSHOT_OK);
    return dir;
}

static void finish(struct mem_env *mem, struct snapshot_dir *dir)
{
    snapshot_dir_close(dir);
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
    mem_env_free(mem);
}

START_TEST(an_empty_directory_has_no_snapshot)
{
    struct mem_env *mem = mem_env_new(1);
    struct snapshot_dir *dir = dir_open(mem);
    ck_assert_ptr_null(snapshot_dir_newest(dir));
    ck_assert_ptr_null(snapshot_dir_at(dir, 0));
    snapshot_dir_prune(dir);
    ck_assert_uint_eq(mem_env_pending(mem), 0);
    finish(mem, dir);
}
END_TEST

START_TEST(snapshots_are_listed_newest_first)
{
    static const uint64_t indexes[] = {300, 7, 4096, 18};
    struct mem_env *mem = mem_env_new(1);
    for (size_t i = 0; i < 4; i++) {
        put(mem, indexes[i]);
    }
    mem_env_file_put(mem, "state", "x", 1);
    struct snapshot_dir *dir = dir_open(mem);
    static const uint64_t want[] = {4096, 300, 18, 7};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(snapshot_dir_at(dir, i)->index, want[i]);
        ck_assert_int_eq(snapshot_dir_at(dir, i)->status, SNAPSHOT_OK);
        ck_assert_uint_gt(snapshot_dir_at(dir, i)->file_bytes, 8000);
    }
    ck_assert_ptr_null(snapshot_dir_at(dir, 4));
    ck_assert_uint_eq(snapshot_dir_newest(dir)->index, 4096);
    finish(mem, dir);
}
END_TEST

START_TEST(a_damaged_one_is_passed_over_and_explained)
{
    struct mem_env *mem = mem_env_new(1);
    put(mem, 10);
    put(mem, 20);
    put(mem, 30);
    bytes(mem, 30)[50] ^= 1;                /* header */
    bytes(mem, 20)[2 * ENV_BLOCK + 9] ^= 1; /* trailer */
    struct snapshot_dir *dir = dir_open(mem);
    ck_assert_uint_eq(snapshot_dir_newest(dir)->index, 10);
    ck_assert_int_eq(snapshot_dir_at(dir, 0)->status, SNAPSHOT_DAMAGED);
    ck_assert_ptr_nonnull(strstr(snapshot_dir_error(dir, 30, 1), "header is damaged"));
    ck_assert_ptr_nonnull(strstr(snapshot_dir_error(dir, 20, 1), "trailer is damaged"));
    ck_assert_ptr_nonnull(strstr(snapshot_dir_error(dir, 30, 1), "snapshot-000000000000001e"));
    finish(mem, dir);
}
END_TEST

START_TEST(pruning_keeps_the_newest_two_good_ones)
{
    struct mem_env *mem = mem_env_new(1);
    for (uint64_t i = 1; i <= 6; i++) {
        put(mem, i);
    }
    struct snapshot_dir *dir = dir_open(mem);
    snapshot_dir_prune(dir);
    snapshot_dir_prune(dir); /* while it is at work */
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 2);
    ck_assert_uint_eq(snapshot_dir_at(dir, 0)->index, 6);
    ck_assert_uint_eq(snapshot_dir_at(dir, 1)->index, 5);
    ck_assert_ptr_null(snapshot_dir_at(dir, 2));
    finish(mem, dir);
}
END_TEST

START_TEST(the_last_good_one_is_never_removed)
{
    struct mem_env *mem = mem_env_new(1);
    for (uint64_t i = 1; i <= 6; i++) {
        put(mem, i);
    }
    for (uint64_t i = 3; i <= 6; i++) {
        bytes(mem, i)[40] ^= 1;
    }
    struct snapshot_dir *dir = dir_open(mem);
    snapshot_dir_mark_bad(dir, 2, 1, SNAPSHOT_DAMAGED); /* found by reading all of it */
    ck_assert_uint_eq(snapshot_dir_newest(dir)->index, 1);
    snapshot_dir_prune(dir);
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 6);
    put(mem, 7);
    ck_assert(snapshot_dir_add(dir, 7, 1, 12288));
    snapshot_dir_prune(dir);
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 7); /* 7 and 1 are good */
    put(mem, 8);
    ck_assert(snapshot_dir_add(dir, 8, 1, 12288));
    snapshot_dir_prune(dir);
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 2);
    ck_assert_uint_eq(snapshot_dir_newest(dir)->index, 8);
    finish(mem, dir);
}
END_TEST

/* The size of a file, which tells one snapshot from another here; 0: there is none. */
static size_t size_of(struct mem_env *mem, const char *name)
{
    size_t size = 0;
    return mem_env_file(mem, name, &size) == NULL ? 0 : size;
}

START_TEST(what_may_be_wrong_is_set_aside)
{
    struct mem_env *mem = mem_env_new(1);
    for (uint64_t i = 1; i <= 6; i++) {
        snap_write_all(mem, i, 1, i, (size_t)i * 100000);
    }
    struct snapshot_dir *dir = dir_open(mem);
    const uint64_t fifth = snapshot_dir_at(dir, 1)->file_bytes;
    const uint64_t third = snapshot_dir_at(dir, 3)->file_bytes;
    struct snapshot_use use = {0};
    ck_assert(snapshot_dir_hold(dir, &use, 4, 1));
    snapshot_dir_set_aside(dir, 6, 1);
    ck_assert_int_eq(snapshot_dir_at(dir, 1)->status, SNAPSHOT_DAMAGED); /* at once: it is neither loaded nor sent */
    ck_assert_uint_eq(snapshot_dir_newest(dir)->index, 6);
    mem_env_run(mem);
    ck_assert_uint_eq(size_of(mem, SNAPSHOT_ASIDE_NEWEST), fifth);
    ck_assert_uint_eq(size_of(mem, SNAPSHOT_ASIDE_OLDER), third); /* the fourth is being read */
    ck_assert_uint_eq(snapshot_dir_at(dir, 1)->index, 4);
    ck_assert_uint_eq(snapshot_dir_at(dir, 2)->index, 2);
    snapshot_use_end(&use);
    put(mem, 7);
    ck_assert(snapshot_dir_add(dir, 7, 1, 12288));
    snapshot_dir_prune(dir);
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 4); /* 6, 7 and what was set aside */
    finish(mem, dir);
}
END_TEST

START_TEST(setting_aside_again_replaces_what_was)
{
    struct mem_env *mem = mem_env_new(1);
    for (uint64_t i = 1; i <= 3; i++) {
        snap_write_all(mem, i, 1, i, (size_t)i * 100000);
    }
    struct snapshot_dir *dir = dir_open(mem);
    const uint64_t second = snapshot_dir_at(dir, 1)->file_bytes;
    snapshot_dir_set_aside(dir, 2, 1);
    mem_env_run(mem);
    snapshot_dir_set_aside(dir, 3, 1);
    snapshot_dir_prune(dir); /* while it is at work */
    mem_env_run(mem);
    ck_assert_uint_eq(size_of(mem, SNAPSHOT_ASIDE_NEWEST), second);
    ck_assert_uint_eq(size_of(mem, SNAPSHOT_ASIDE_OLDER), 0);
    ck_assert_uint_eq(mem_env_file_count(mem), 2);
    finish(mem, dir);
}
END_TEST

/* A node that is started again and again while it is sent a snapshot may be offered another one each time. */
START_TEST(of_unfinished_transfers_one_is_kept)
{
    struct mem_env *mem = mem_env_new(1);
    put(mem, 5);
    for (uint64_t i = 1; i <= 9; i++) {
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_name_format(name, i, 1, ".part");
        mem_env_file_put(mem, name, "x", 1);
    }
    struct snapshot_dir *dir = dir_open(mem);
    char newest[SNAPSHOT_NAME_BYTES];
    snapshot_name_format(newest, 9, 1, ".part");
    ck_assert_uint_eq(mem_env_file_count(mem), 2);
    ck_assert_uint_eq(size_of(mem, newest), 1);
    finish(mem, dir);
}
END_TEST

START_TEST(a_held_one_stays_until_it_is_released)
{
    struct mem_env *mem = mem_env_new(1);
    struct snapshot_use uses[2] = {{0}};
    struct snapshot_use refused = {0};
    for (uint64_t i = 1; i <= 4; i++) {
        put(mem, i);
    }
    struct snapshot_dir *dir = dir_open(mem);
    ck_assert(snapshot_dir_hold(dir, &uses[0], 2, 1));
    ck_assert(snapshot_dir_hold(dir, &uses[1], 2, 1));
    ck_assert(!snapshot_dir_hold(dir, &refused, 99, 1));
    snapshot_dir_prune(dir);
    ck_assert(!snapshot_dir_hold(dir, &refused, 1, 1)); /* on its way out */
    mem_env_run(mem);
    ck_assert_ptr_nonnull(bytes(mem, 2));
    ck_assert_uint_eq(mem_env_file_count(mem), 3);
    snapshot_use_end(&refused); /* that of nothing */
    snapshot_use_end(&uses[0]);
    ck_assert_uint_eq(mem_env_pending(mem), 0);
    snapshot_use_end(&uses[1]); /* prunes */
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 2);
    ck_assert_ptr_null(bytes(mem, 2));
    finish(mem, dir);
}
END_TEST

START_TEST(what_is_held_outlives_the_directory)
{
    struct mem_env *mem = mem_env_new(1);
    struct snapshot_use uses[3] = {{0}};
    for (uint64_t i = 1; i <= 4; i++) {
        put(mem, i);
    }
    struct snapshot_dir *dir = dir_open(mem);
    for (uint64_t i = 0; i < 3; i++) {
        ck_assert(snapshot_dir_hold(dir, &uses[i], 1, 1));
    }
    snapshot_use_end(&uses[1]);
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 3); /* 2 was not held */
    snapshot_dir_close(dir);
    snapshot_use_end(&uses[0]);
    snapshot_use_end(&uses[2]);
    ck_assert_uint_eq(mem_env_pending(mem), 0);
    ck_assert_ptr_nonnull(bytes(mem, 1));
    mem_env_free(mem);
}
END_TEST

START_TEST(a_file_is_not_replaced_while_it_is_used_nor_used_while_it_is_replaced)
{
    struct mem_env *mem = mem_env_new(1);
    struct snapshot_use reads = {0};
    struct snapshot_use writes = {0};
    struct snapshot_use refused = {0};
    for (uint64_t i = 1; i <= 3; i++) {
        put(mem, i);
    }
    struct snapshot_dir *dir = dir_open(mem);
    ck_assert(snapshot_dir_hold(dir, &reads, 1, 1));
    ck_assert(!snapshot_dir_claim(dir, &refused, 1, 1));
    ck_assert(snapshot_dir_claim(dir, &writes, 7, 1)); /* not there yet */
    ck_assert(!snapshot_dir_claim(dir, &refused, 7, 1));
    snapshot_use_end(&writes);
    ck_assert(snapshot_dir_claim(dir, &writes, 2, 1));
    ck_assert(!snapshot_dir_hold(dir, &refused, 2, 1));
    snapshot_use_end(&writes);
    ck_assert(snapshot_dir_hold(dir, &writes, 2, 1));
    snapshot_use_end(&writes);
    snapshot_use_end(&reads);
    ck_assert_uint_eq(mem_env_pending(mem), 1); /* 1 goes */
    ck_assert(!snapshot_dir_claim(dir, &refused, 1, 1));
    mem_env_run(mem);
    ck_assert(snapshot_dir_claim(dir, &writes, 1, 1));
    snapshot_use_end(&writes);
    finish(mem, dir);
}
END_TEST

START_TEST(a_refused_removal_is_logged_and_tried_again)
{
    struct mem_env *mem = mem_env_new(1);
    for (uint64_t i = 1; i <= 3; i++) {
        put(mem, i);
    }
    struct snapshot_dir *dir = dir_open(mem);
    snapshot_dir_prune(dir);
    mem_env_complete(mem, 0, ENV_DENIED);
    ck_assert_ptr_nonnull(strstr(mem_env_log(mem), "can't remove snapshot-0000000000000001"));
    ck_assert_uint_eq(mem_env_pending(mem), 0);
    ck_assert_uint_eq(mem_env_file_count(mem), 3);
    snapshot_dir_prune(dir);
    mem_env_run(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 2);
    finish(mem, dir);
}
END_TEST

START_TEST(leftovers_of_an_earlier_life_are_removed_at_the_start)
{
    struct mem_env *mem = mem_env_new(1);
    put(mem, 5);
    mem_env_file_put(mem, "snapshot-0000000000000009-0000000000000001.tmp", "x", 1);
    mem_env_file_put(mem, "snapshot-0000000000000004-0000000000000001.part", "x", 1);
    mem_env_file_put(mem, "snapshot-0000000000000005-0000000000000001.part", "x", 1);
    mem_env_file_put(mem, "snapshot-0000000000000006-0000000000000001.part", "x", 1);
    mem_env_file_put(mem, "snapshot-of-my-cat", "x", 1);
    struct snapshot_dir *dir = dir_open(mem);
    ck_assert_uint_eq(mem_env_file_count(mem), 3);
    ck_assert_ptr_nonnull(mem_env_file(mem, "snapshot-0000000000000006-0000000000000001.part", NULL));
    ck_assert_ptr_nonnull(mem_env_file(mem, "snapshot-of-my-cat", NULL));
    finish(mem, dir);
}
END_TEST

START_TEST(closing_while_a_file_goes_leaks_nothing)
{
    struct mem_env *mem = mem_env_new(1);
    for (uint64_t i = 1; i <= 4; i++) {
        put(mem, i);
    }
    struct snapshot_dir *dir = dir_open(mem);
    snapshot_dir_prune(dir);
    finish(mem, dir);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("dir");
    tcase_add_test(cases, an_empty_directory_has_no_snapshot);
    tcase_add_test(cases, snapshots_are_listed_newest_first);
    tcase_add_test(cases, a_damaged_one_is_passed_over_and_explained);
    tcase_add_test(cases, pruning_keeps_the_newest_two_good_ones);
    tcase_add_test(cases, the_last_good_one_is_never_removed);
    tcase_add_test(cases, what_may_be_wrong_is_set_aside);
    tcase_add_test(cases, setting_aside_again_replaces_what_was);
    tcase_add_test(cases, of_unfinished_transfers_one_is_kept);
    tcase_add_test(cases, a_held_one_stays_until_it_is_released);
    tcase_add_test(cases, what_is_held_outlives_the_directory);
    tcase_add_test(cases, a_file_is_not_replaced_while_it_is_used_nor_used_while_it_is_replaced);
    tcase_add_test(cases, a_refused_removal_is_logged_and_tried_again);
    tcase_add_test(cases, leftovers_of_an_earlier_life_are_removed_at_the_start);
    tcase_add_test(cases, closing_while_a_file_goes_leaks_nothing);
    Suite *suite = suite_create("snapshot_dir");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
