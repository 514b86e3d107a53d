#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "store/glob.h"

#define TEXT(s)                                                                                                        \
    {                                                                                                                  \
        .iov_base = (s), .iov_len = sizeof(s) - 1                                                                      \
    }

struct row {
    struct iovec pattern, text;
    bool match;
};

static const struct row rows[] = {
    {TEXT("abc"), TEXT("abc"), true},
    {TEXT("abc"), TEXT("abd"), false},
    {TEXT("abc"), TEXT("ab"), false},
    {TEXT("ab"), TEXT("abc"), false},
    {TEXT("abc"), TEXT("ABC"), false},
    /* the empty text */
    {TEXT(""), TEXT(""), true},
    {TEXT(""), TEXT("a"), false},
    {TEXT("*"), TEXT(""), false},
    {TEXT("**"), TEXT(""), false},
    /* stars */
    {TEXT("*"), TEXT("abc"), true},
    {TEXT("**"), TEXT("abc"), true},
    {TEXT("a*"), TEXT("a"), true},
    {TEXT("a**"), TEXT("a"), true},
    {TEXT("*c"), TEXT("abc"), true},
    {TEXT("*b"), TEXT("abc"), false},
    {TEXT("a*c"), TEXT("abbbc"), true},
    {TEXT("a*bc"), TEXT("abbcbc"), true},
    {TEXT("*aab"), TEXT("aaaab"), true},
    {TEXT("a*b*c"), TEXT("aXbYc"), true},
    {TEXT("a*b*c"), TEXT("aXcYb"), false},
    {TEXT("*a*"), TEXT("bab"), true},
    {TEXT("*\0*"), TEXT("a\0b"), true},
    /* any byte */
    {TEXT("?"), TEXT("a"), true},
    {TEXT("?"), TEXT("\0"), true},
    {TEXT("?"), TEXT("ab"), false},
    {TEXT("*?*?*"), TEXT("a"), false},
    {TEXT("*?*?*"), TEXT("ab"), true},
    /* sets */
    {TEXT("[abc]"), TEXT("b"), true},
    {TEXT("[abc]"), TEXT("d"), false},
    {TEXT("[^abc]"), TEXT("d"), true},
    {TEXT("[^abc]"), TEXT("b"), false},
    {TEXT("[a-c]x"), TEXT("bx"), true},
    {TEXT("[a-c]x"), TEXT("dx"), false},
    {TEXT("[c-a]"), TEXT("b"), true},
    {TEXT("[a^]"), TEXT("^"), true},
    {TEXT("[-a]"), TEXT("-"), true},
    {TEXT("[a-]"), TEXT("-"), false}, /* the range from a to ] : the set does not end */
    {TEXT("[a-]"), TEXT("^"), true},
    {TEXT("[a\\-c]"), TEXT("-"), true},
    {TEXT("[a\\-c]"), TEXT("b"), false},
    {TEXT("[\\]]"), TEXT("]"), true},
    {TEXT("[]"), TEXT("]"), false},
    {TEXT("[]a]"), TEXT("a"), false},
    {TEXT("[^]"), TEXT("a"), true},
    {TEXT("*[a-c]"), TEXT("xxb"), true},
    /* sets that do not end */
    {TEXT("["), TEXT("["), false},
    {TEXT("[^"), TEXT("x"), true},
    {TEXT("[ab"), TEXT("b"), true},
    {TEXT("[a-"), TEXT("-"), true},
    {TEXT("[a\\"), TEXT("\\"), true},
    /* bytes above 127 are below the others in ranges */
    {TEXT("[\x80-\xff]"), TEXT("\xc3"), true},
    {TEXT("[a-\xff]"), TEXT("z"), false},
    {TEXT("[a-\xff]"), TEXT("A"), true},
    /* escapes */
    {TEXT("\\*"), TEXT("*"), true},
    {TEXT("\\*"), TEXT("a"), false},
    {TEXT("a\\?b"), TEXT("a?b"), true},
    {TEXT("\\[a]"), TEXT("[a]"), true},
    {TEXT("\\a"), TEXT("a"), true},
    {TEXT("\\\\"), TEXT("\\"), true},
    {TEXT("\\"), TEXT("\\"), true},
    {TEXT("*\\"), TEXT("a\\"), true},
};

START_TEST(pattern_matches_as_in_redis)
{
    const struct row *row = &rows[_i];
    ck_assert_msg(glob_match(row->pattern, row->text) == row->match, "pattern <%s>, text <%s>",
                  (const char *)row->pattern.iov_base, (const char *)row->text.iov_base);
}
END_TEST

/* A matcher that tries every way would need more than 10^25 steps here. */
START_TEST(many_stars_take_bounded_time)
{
    enum { STARS = 40, LENGTH = 5000 };
    char pattern[2 * STARS + 1], text[LENGTH];
    for (int i = 0; i < STARS; i++) {
        memcpy(pattern + 2 * i, "a*", 2);
    }
    pattern[2 * STARS] = 'b';
    memset(text, 'a', sizeof text);
    struct iovec p = {pattern, sizeof pattern}, t = {text, sizeof text};
    ck_assert(!glob_match(p, t));
    text[LENGTH - 1] = 'b';
    ck_assert(glob_match(p, t));
}
END_TEST

START_TEST(pattern_is_not_read_behind_its_end)
{
    static const char *const patterns[] = {"[", "[^", "[a", "[a-", "[a\\", "\\", "*", "*[", "*\\"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        /* On the heap and without a zero: valgrind and ASan see a read behind it. */
        size_t len = strlen(patterns[i]);
        char *exact = malloc(len), *text = malloc(1);
        ck_assert_ptr_nonnull(exact);
        ck_assert_ptr_nonnull(text);
        memcpy(exact, patterns[i], len);
        text[0] = 'x';
        bool any = patterns[i][0] == '*' ? len == 1 : strcmp(patterns[i], "[^") == 0;
        ck_assert(glob_match((struct iovec){exact, len}, (struct iovec){text, 1}) == any);
        free(exact);
        free(text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("glob");
    TCase *tcase = tcase_create("glob");
    tcase_add_loop_test(tcase, pattern_matches_as_in_redis, 0, sizeof rows / sizeof rows[0]);
    tcase_add_test(tcase, many_stars_take_bounded_time);
    tcase_add_test(tcase, pattern_is_not_read_behind_its_end);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
