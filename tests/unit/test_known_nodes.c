/* Which disk every other node had: remembered across restarts, and never taken for granted. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/lockstepd/known_nodes.h"

static const uint8_t cluster[16] = {0xc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static char dir[64];
static char error[KNOWN_NODES_ERROR_MAX];

static void path_of(char *path, size_t size, const char *name)
{
    (void)snprintf(path, size, "%s/%s", dir, name);
}

static void setup(void)
{
    (void)snprintf(dir, sizeof dir, "known-nodes-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    error[0] = '\0';
}

static void teardown(void)
{
    char path[128];

    path_of(path, sizeof path, "nodes");
    (void)unlink(path);
    path_of(path, sizeof path, "nodes.new");
    (void)unlink(path);
    (void)rmdir(path);
    ck_assert_int_eq(rmdir(dir), 0);
}

static struct known_nodes *reopen(struct known_nodes *known)
{
    known_nodes_free(known);
    ck_assert_msg(known_nodes_open(&known, dir, cluster, error) == KNOWN_NODES_OK, "%s", error);
    return known;
}

static bool below_100(void *ctx, uint64_t id)
{
    (void)ctx;
    return id < 100;
}

static bool every(void *ctx, uint64_t id)
{
    (void)ctx;
    (void)id;
    return true;
}

static enum known_nodes_status meet(struct known_nodes *known, uint64_t id, uint64_t incarnation)
{
    return known_nodes_meet(known, id, incarnation, every, NULL);
}

static void read_file(char *text, size_t size)
{
    char path[128];

    path_of(path, sizeof path, "nodes");
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    const size_t n = fread(text, 1, size - 1, file);
    text[n] = '\0';
    ck_assert_int_eq(fclose(file), 0);
}

static void write_file(const char *text, size_t len)
{
    char path[128];

    path_of(path, sizeof path, "nodes");
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_disk_is_remembered)
{
    struct known_nodes *known = reopen(NULL);

    ck_assert_int_eq(meet(known, 2, 0x1122), KNOWN_NODES_OK);
    ck_assert_int_eq(meet(known, 3, UINT64_MAX), KNOWN_NODES_OK);
    for (int run = 0; run < 2; run++) {
        ck_assert_int_eq(meet(known, 2, 0x1122), KNOWN_NODES_OK);
        ck_assert_int_eq(meet(known, 2, 0x1123), KNOWN_NODES_OTHER);
        ck_assert_int_eq(meet(known, 3, UINT64_MAX), KNOWN_NODES_OK);
        ck_assert_int_eq(meet(known, 3, 1), KNOWN_NODES_OTHER);
        known = reopen(known);
    }
    known_nodes_free(known);
}
END_TEST

START_TEST(the_file_is_what_the_formats_say)
{
    static const char expected[] = "lockstep-nodes 1\n"
                                   "cluster c00102030405060708090a0b0c0d0e0f\n"
                                   "node 2 0000000000001122\n"
                                   "node 18446744073709551615 ffffffffffffffff\n"
                                   "end ef9caa8962fecc8e\n";
    char text[512];
    struct known_nodes *known = reopen(NULL);

    ck_assert_int_eq(meet(known, 2, 0x1122), KNOWN_NODES_OK);
    ck_assert_int_eq(meet(known, UINT64_MAX, UINT64_MAX), KNOWN_NODES_OK);
    known_nodes_free(known);
    read_file(text, sizeof text);
    ck_assert_str_eq(text, expected);
}
END_TEST

START_TEST(damage_is_refused)
{
    char text[512];
    struct known_nodes *known = reopen(NULL);

    ck_assert_int_eq(meet(known, 2, 0x1122), KNOWN_NODES_OK);
    known_nodes_free(known);
    read_file(text, sizeof text);
    const size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        write_file(text, i);
        ck_assert_msg(known_nodes_open(&known, dir, cluster, error) == KNOWN_NODES_DAMAGED, "cut off at %zu", i);
        ck_assert_ptr_null(known);
        text[i] ^= 1;
        write_file(text, len);
        ck_assert_msg(known_nodes_open(&known, dir, cluster, error) == KNOWN_NODES_DAMAGED, "changed at %zu", i);
        ck_assert_ptr_nonnull(strstr(error, "fresh id"));
        text[i] ^= 1;
    }
    write_file(text, len);
    known_nodes_free(reopen(NULL));
}
END_TEST

START_TEST(another_cluster_is_refused)
{
    const uint8_t other[16] = {1};
    struct known_nodes *known = reopen(NULL);

    ck_assert_int_eq(meet(known, 2, 0x1122), KNOWN_NODES_OK);
    known_nodes_free(known);
    ck_assert_int_eq(known_nodes_open(&known, dir, other, error), KNOWN_NODES_DAMAGED);
}
END_TEST

START_TEST(what_cannot_be_noted_is_not_known)
{
    char path[128];
    struct known_nodes *known = reopen(NULL);

    path_of(path, sizeof path, "nodes.new");
    ck_assert_int_eq(mkdir(path, 0700), 0); /* in the way of the new file, also for root */
    ck_assert_int_eq(meet(known, 2, 1), KNOWN_NODES_IO);
    ck_assert_int_eq(errno, EISDIR);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(meet(known, 2, 2), KNOWN_NODES_OK);
    known = reopen(known);
    ck_assert_int_eq(meet(known, 2, 1), KNOWN_NODES_OTHER);
    known_nodes_free(known);
}
END_TEST

START_TEST(removed_nodes_make_room)
{
    struct known_nodes *known = reopen(NULL);

    for (uint64_t id = 1; id <= KNOWN_NODES_MAX; id++) {
        ck_assert_int_eq(meet(known, id, id), KNOWN_NODES_OK);
    }
    ck_assert_int_eq(meet(known, 1000, 1), KNOWN_NODES_NO_MEMORY);
    known = reopen(known);
    ck_assert_int_eq(known_nodes_meet(known, 1000, 1, below_100, NULL), KNOWN_NODES_OK);
    known = reopen(known);
    for (uint64_t id = 1; id < 100; id++) {
        ck_assert_int_eq(meet(known, id, id + 1), KNOWN_NODES_OTHER);
    }
    ck_assert_int_eq(meet(known, 1000, 2), KNOWN_NODES_OTHER);
    known_nodes_free(known);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("known_nodes");
    TCase *cases = tcase_create("known_nodes");

    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, a_disk_is_remembered);
    tcase_add_test(cases, the_file_is_what_the_formats_say);
    tcase_add_test(cases, damage_is_refused);
    tcase_add_test(cases, another_cluster_is_refused);
    tcase_add_test(cases, what_cannot_be_noted_is_not_known);
    tcase_add_test(cases, removed_nodes_make_room);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
