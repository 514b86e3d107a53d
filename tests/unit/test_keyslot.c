#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/keyslot.h"

static unsigned slot(const char *key)
{
    return key_slot(key, strlen(key));
}

START_TEST(crc_of_the_specification)
{
    ck_assert_uint_eq(crc16("123456789", 9), 0x31c3);
    ck_assert_uint_eq(crc16("", 0), 0);
}
END_TEST

START_TEST(slots_as_redis_computes_them)
{
    ck_assert_uint_eq(slot("foo"), 12182);
    ck_assert_uint_eq(slot("bar"), 5061);
    ck_assert_uint_eq(slot("somekey"), 11058);
    ck_assert_uint_eq(slot(""), 0);
}
END_TEST

START_TEST(hash_tag_decides)
{
    ck_assert_uint_eq(slot("foo{hash_tag}"), 2515);
    ck_assert_uint_eq(slot("{user1000}.following"), slot("user1000"));
    ck_assert_uint_eq(slot("{user1000}.followers"), slot("user1000"));
}
END_TEST

START_TEST(first_tag_counts)
{
    ck_assert_uint_eq(slot("foo{bar}{zap}"), slot("bar"));
    ck_assert_uint_eq(slot("foo{{bar}}zap"), slot("{bar"));
}
END_TEST

START_TEST(empty_or_open_tag_is_no_tag)
{
    ck_assert_uint_eq(slot("foo{}{bar}"), crc16("foo{}{bar}", 10) % KEY_SLOTS);
    ck_assert_uint_eq(slot("foo{bar"), crc16("foo{bar", 7) % KEY_SLOTS);
    ck_assert_uint_eq(slot("foo{"), crc16("foo{", 4) % KEY_SLOTS);
    ck_assert_uint_eq(slot("}foo{"), crc16("}foo{", 5) % KEY_SLOTS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keyslot");
    TCase *tcase = tcase_create("keyslot");
    tcase_add_test(tcase, crc_of_the_specification);
    tcase_add_test(tcase, slots_as_redis_computes_them);
    tcase_add_test(tcase, hash_tag_decides);
    tcase_add_test(tcase, first_tag_counts);
    tcase_add_test(tcase, empty_or_open_tag_is_no_tag);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
