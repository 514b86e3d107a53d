/* Replies in the CLI: finding their ends in a stream, printing them as redis-cli does; splitting input into words;
 * reading LOCKSTEP STATUS; addresses. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/node_status.h"
#include "cmd/lockstep/options.h"
#include "cmd/lockstep/reply.h"
#include "cmd/lockstep/reply_skip.h"
#include "cmd/lockstep/words.h"

/* --- finding ends --------------------------------------------------------------------------------------------------
 */

static const char *const replies[] = {
    "+OK\r\n",
    "-ERR no\r\n",
    ":-12\r\n",
    "$5\r\nhe\r\no\r\n",
    "$0\r\n\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "*0\r\n",
    "_\r\n",
    "*2\r\n*1\r\n:1\r\n%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n",
    "|1\r\n+ttl\r\n:3600\r\n*2\r\n+x\r\n|1\r\n+a\r\n+b\r\n$1\r\ny\r\n",
    "=8\r\ntxt:abcd\r\n",
    "(123456789012345678901234567890\r\n",
    "!5\r\nERR x\r\n",
};
#define N_REPLIES (sizeof(replies) / sizeof(replies[0]))

START_TEST(replies_end_where_they_end_however_they_are_cut)
{
    char stream[1024] = "";
    size_t ends[N_REPLIES], len = 0;
    for (size_t i = 0; i < N_REPLIES; i++) {
        (void)snprintf(stream + strlen(stream), sizeof stream - strlen(stream), "%s", replies[i]);
        ends[i] = strlen(stream);
    }
    len = strlen(stream);
    for (size_t piece = 1; piece <= len; piece++) {
        struct reply_skip skip;
        size_t found = 0, at = 0;
        reply_skip_init(&skip);
        while (at < len) {
            size_t n = len - at < piece ? len - at : piece;
            size_t done = 0;
            while (done < n) {
                enum reply_skip_event event;
                done += reply_skip_feed(&skip, stream + at + done, n - done, &event);
                ck_assert_int_ne(event, REPLY_SKIP_BAD);
                if (event == REPLY_SKIP_DONE) {
                    ck_assert_uint_lt(found, N_REPLIES);
                    ck_assert_uint_eq(at + done, ends[found]);
                    found++;
                }
            }
            at += n;
        }
        ck_assert_uint_eq(found, N_REPLIES);
    }
}
END_TEST

static struct reply_skip skip_one(const char *reply, enum reply_skip_event *event)
{
    struct reply_skip skip;
    reply_skip_init(&skip);
    reply_skip_feed(&skip, reply, strlen(reply), event);
    return skip;
}

START_TEST(the_outermost_item_is_reported)
{
    enum reply_skip_event event;
    struct reply_skip skip = skip_one("-MOVED 1 h:2\r\n", &event);
    ck_assert_int_eq(skip.type, '-');
    ck_assert_str_eq(skip.text, "MOVED 1 h:2");
    skip = skip_one(":42\r\n", &event);
    ck_assert_int_eq(skip.integer, 42);
    ck_assert(!skip.is_null);
    ck_assert(skip_one("$-1\r\n", &event).is_null);
    ck_assert(skip_one("_\r\n", &event).is_null);
    ck_assert(!skip_one("*1\r\n$-1\r\n", &event).is_null);
}
END_TEST

START_TEST(what_is_not_resp_is_refused)
{
    static const char *const bad[] = {
        "hello\r\n", "\r\n", ":x\r\n", "$x\r\n", "$-2\r\n", "*-2\r\n", "*99999999999999999999\r\n", "$\r\n", ":\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enum reply_skip_event event;
        skip_one(bad[i], &event);
        ck_assert_msg(event == REPLY_SKIP_BAD, "accepted: %s", bad[i]);
    }
}
END_TEST

START_TEST(an_endless_line_is_cut_not_kept)
{
    static char line[4096];
    struct reply_skip skip;
    enum reply_skip_event event;
    memset(line, 'x', sizeof(line));
    line[0] = '-';
    reply_skip_init(&skip);
    for (size_t i = 0; i < sizeof(line); i += 64) {
        reply_skip_feed(&skip, line + i, 64, &event);
        ck_assert_int_eq(event, REPLY_SKIP_MORE);
    }
    reply_skip_feed(&skip, "\r\n", 2, &event);
    ck_assert_int_eq(event, REPLY_SKIP_DONE);
    ck_assert_uint_lt(strlen(skip.text), sizeof(skip.text));
}
END_TEST

/* --- printing ------------------------------------------------------------------------------------------------------
 */

static char *print(bool (*printer)(FILE *, const char *, size_t), const char *reply, bool *ok)
{
    static char *text;
    size_t size;
    free(text);
    FILE *out = open_memstream(&text, &size);
    *ok = printer(out, reply, strlen(reply));
    fclose(out);
    return text;
}

#define ASSERT_PRINTS(reply, expected)                                                                                 \
    do {                                                                                                               \
        bool ok;                                                                                                       \
        ck_assert_str_eq(print(reply_print, reply, &ok), expected);                                                    \
        ck_assert(ok);                                                                                                 \
    } while (0)

START_TEST(scalars_print_as_in_redis_cli)
{
    ASSERT_PRINTS("+OK\r\n", "OK\n");
    ASSERT_PRINTS("-ERR x\r\n", "(error) ERR x\n");
    ASSERT_PRINTS(":7\r\n", "(integer) 7\n");
    ASSERT_PRINTS("$4\r\na\"\n\x01\r\n", "\"a\\\"\\n\\x01\"\n");
    ASSERT_PRINTS("$-1\r\n", "(nil)\n");
    ASSERT_PRINTS("_\r\n", "(nil)\n");
    ASSERT_PRINTS(",3.25\r\n", "(double) 3.25\n");
    ASSERT_PRINTS("#t\r\n", "(true)\n");
    ASSERT_PRINTS("#f\r\n", "(false)\n");
    ASSERT_PRINTS("=6\r\ntxt:ab\r\n", "ab\n");
    ASSERT_PRINTS("*0\r\n", "(empty array)\n");
    ASSERT_PRINTS("%0\r\n", "(empty hash)\n");
    ASSERT_PRINTS("~0\r\n", "(empty set)\n");
    ASSERT_PRINTS("*-1\r\n", "(nil)\n");
}
END_TEST

START_TEST(nested_arrays_are_indented)
{
    ASSERT_PRINTS("*2\r\n*2\r\n:1\r\n$1\r\na\r\n*1\r\n+x\r\n", "1) 1) (integer) 1\n   2) \"a\"\n2) 1) x\n");
    ASSERT_PRINTS("*10\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n*2\r\n+a\r\n+b\r\n",
                  " 1) (integer) 1\n 2) (integer) 2\n 3) (integer) 3\n 4) (integer) 4\n 5) (integer) 5\n"
                  " 6) (integer) 6\n 7) (integer) 7\n 8) (integer) 8\n 9) (integer) 9\n10) 1) a\n    2) b\n");
}
END_TEST

START_TEST(maps_and_sets_have_their_own_marks)
{
    ASSERT_PRINTS("%2\r\n$1\r\nk\r\n$1\r\nv\r\n+n\r\n:1\r\n", "1# \"k\" => \"v\"\n2# n => (integer) 1\n");
    ASSERT_PRINTS("%1\r\n$1\r\nk\r\n*1\r\n:1\r\n", "1# \"k\" => 1) (integer) 1\n");
    ASSERT_PRINTS("%1\r\n$1\r\nk\r\n~2\r\n:1\r\n:2\r\n", "1# \"k\" => \n   1~ (integer) 1\n   2~ (integer) 2\n");
    ASSERT_PRINTS("~2\r\n+a\r\n+b\r\n", "1~ a\n2~ b\n");
}
END_TEST

START_TEST(attributes_are_passed_over)
{
    ASSERT_PRINTS("|1\r\n+ttl\r\n:5\r\n+OK\r\n", "OK\n");
}
END_TEST

START_TEST(raw_replies_are_bare_lines)
{
    bool ok;
    ck_assert_str_eq(print(reply_print_raw, "*3\r\n$1\r\na\r\n:2\r\n$-1\r\n", &ok), "a\n2\n\n");
    ck_assert(ok);
}
END_TEST

START_TEST(nesting_beyond_the_bound_is_refused)
{
    char deep[8 * REPLY_DEPTH_MAX] = "";
    bool ok;
    for (unsigned i = 0; i < REPLY_DEPTH_MAX + 1; i++) {
        (void)snprintf(deep + strlen(deep), sizeof deep - strlen(deep), "%s", "*1\r\n");
    }
    (void)snprintf(deep + strlen(deep), sizeof deep - strlen(deep), "%s", ":1\r\n");
    print(reply_print, deep, &ok);
    ck_assert(!ok);
}
END_TEST

START_TEST(truncated_replies_are_refused)
{
    static const char *const bad[] = {"", "+OK", "$5\r\nab\r\n", "*2\r\n:1\r\n", "%1\r\n+a\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bool ok;
        print(reply_print, bad[i], &ok);
        ck_assert_msg(!ok, "accepted: %s", bad[i]);
    }
}
END_TEST

/* --- words ---------------------------------------------------------------------------------------------------------
 */

static void assert_words(const char *line, size_t n, const char *const *expected, const size_t *lens)
{
    struct words words;
    ck_assert_int_eq(words_split(line, &words), WORDS_OK);
    ck_assert_uint_eq(words.n, n);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(words.lens[i], lens == NULL ? strlen(expected[i]) : lens[i]);
        ck_assert_mem_eq(words.text[i], expected[i], words.lens[i]);
    }
    words_free(&words);
}

START_TEST(words_are_split_at_blanks_and_quotes_keep_them)
{
    assert_words("  set  k v\n", 3, (const char *const[]){"set", "k", "v"}, NULL);
    assert_words("", 0, NULL, NULL);
    assert_words("set \"a b\" 'c d' \"\" ''", 5, (const char *const[]){"set", "a b", "c d", "", ""}, NULL);
    assert_words("'a\\'b\\n'", 1, (const char *const[]){"a'b\\n"}, NULL);
    assert_words("pre\"fix\"", 1, (const char *const[]){"prefix"}, NULL);
}
END_TEST

START_TEST(escapes_in_double_quotes_become_bytes)
{
    assert_words("\"\\x00\\xfF\\n\\t\\\"\\\\\\q\\x4\"", 1, (const char *const[]){"\0\xff\n\t\"\\qx4"},
                 (const size_t[]){9});
}
END_TEST

START_TEST(unbalanced_quotes_are_refused)
{
    static const char *const bad[] = {"\"", "'", "\"a", "get \"a\"b", "'a'b", "\"a\\\"", "\"\\"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct words words;
        ck_assert_msg(words_split(bad[i], &words) == WORDS_UNBALANCED, "accepted: %s", bad[i]);
    }
}
END_TEST

START_TEST(many_words_are_kept)
{
    static char line[20000];
    struct words words;
    for (size_t i = 0; i < 5000; i++) {
        memcpy(line + 2 * i, "x ", 2);
    }
    ck_assert_int_eq(words_split(line, &words), WORDS_OK);
    ck_assert_uint_eq(words.n, 5000);
    words_free(&words);
}
END_TEST

/* --- status and addresses ------------------------------------------------------------------------------------------
 */

START_TEST(a_status_is_read)
{
    static struct node_status status;
    char error[CONNECTION_ERROR_MAX];
    static const char text[] =
        "{\"id\":2,\"role\":\"leader\",\"term\":3,\"leader\":2,\"commit\":10,\"applied\":9,\"last\":11,"
        "\"pid\":77,\"uptime_ms\":1234,\"new\":true,\"members\":[{\"id\":1,\"address\":\"h:1\"},"
        "{\"id\":2,\"address\":\"[::1]:2\"}]}";
    ck_assert_msg(node_status_parse(text, strlen(text), &status, error), "%s", error);
    ck_assert_uint_eq(status.id, 2);
    ck_assert_str_eq(status.role, "leader");
    ck_assert_uint_eq(status.commit, 10);
    ck_assert_uint_eq(status.uptime_ms, 1234);
    ck_assert_uint_eq(status.n_members, 2);
    ck_assert_str_eq(status.members[1].address.host, "::1");
    ck_assert_uint_eq(status.members[1].address.port, 2);
}
END_TEST

START_TEST(a_bad_status_is_refused)
{
    static const char *const bad[] = {"", "{", "{}", "[]", "{\"id\":\"x\"}", "{\"id\":-1,\"role\":\"leader\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        static struct node_status status;
        char error[CONNECTION_ERROR_MAX] = "";
        ck_assert_msg(!node_status_parse(bad[i], strlen(bad[i]), &status, error), "accepted: %s", bad[i]);
        ck_assert_str_ne(error, "");
    }
}
END_TEST

static void assert_address(const char *text, const char *host, unsigned port)
{
    struct address address;
    ck_assert(option_address("--addr", text, &address));
    ck_assert_str_eq(address.host, host);
    ck_assert_uint_eq(address.port, port);
}

START_TEST(addresses_are_completed)
{
    assert_address("h:1", "h", 1);
    assert_address("h", "h", ADDRESS_PORT_DEFAULT);
    assert_address(":12", "127.0.0.1", 12);
    assert_address("12", "127.0.0.1", 12);
    assert_address("[::1]:12", "::1", 12);
    assert_address("::1", "::1", ADDRESS_PORT_DEFAULT);
}
END_TEST

START_TEST(bad_addresses_and_numbers_are_refused)
{
    struct address address;
    uint64_t number;
    static const char *const bad[] = {"", ":", "h:", "h:0", "h:65536", "h:x", "h:1x", "[::1", "[::1]x", "0", "h:-1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(!option_address("--addr", bad[i], &address), "accepted: %s", bad[i]);
    }
    static const char *const numbers[] = {
        "", "-1", "x", "1x", "1kk", "11", "0", "99999999999999999999", "99999999999g"};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        ck_assert_msg(!option_u64("--n", numbers[i], 1, 10, &number), "accepted: %s", numbers[i]);
    }
    ck_assert(option_u64("--n", "3m", 1, 5000000, &number));
    ck_assert_uint_eq(number, 3000000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *tcase = tcase_create("cli");
    tcase_add_test(tcase, replies_end_where_they_end_however_they_are_cut);
    tcase_add_test(tcase, the_outermost_item_is_reported);
    tcase_add_test(tcase, what_is_not_resp_is_refused);
    tcase_add_test(tcase, an_endless_line_is_cut_not_kept);
    tcase_add_test(tcase, scalars_print_as_in_redis_cli);
    tcase_add_test(tcase, nested_arrays_are_indented);
    tcase_add_test(tcase, maps_and_sets_have_their_own_marks);
    tcase_add_test(tcase, attributes_are_passed_over);
    tcase_add_test(tcase, raw_replies_are_bare_lines);
    tcase_add_test(tcase, nesting_beyond_the_bound_is_refused);
    tcase_add_test(tcase, truncated_replies_are_refused);
    tcase_add_test(tcase, words_are_split_at_blanks_and_quotes_keep_them);
    tcase_add_test(tcase, escapes_in_double_quotes_become_bytes);
    tcase_add_test(tcase, unbalanced_quotes_are_refused);
    tcase_add_test(tcase, many_words_are_kept);
    tcase_add_test(tcase, a_status_is_read);
    tcase_add_test(tcase, a_bad_status_is_refused);
    tcase_add_test(tcase, addresses_are_completed);
    tcase_add_test(tcase, bad_addresses_and_numbers_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
