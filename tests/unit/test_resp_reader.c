#include "net/resp.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static const struct resp_limits no_limits = {0};

/* What came out of a reader, as text: requests as "[arg|arg]", errors as "!text". */
struct outcome {
    struct resp_buffer text;
};

static void outcome_add(struct outcome *o, const struct iovec *argv, unsigned argc)
{
    resp_buffer_append(&o->text, "[", 1);
    for (unsigned i = 0; i < argc; i++) {
        if (i > 0)
            resp_buffer_append(&o->text, "|", 1);
        resp_buffer_append(&o->text, argv[i].iov_base, argv[i].iov_len);
    }
    resp_buffer_append(&o->text, "]", 1);
}

/* Takes all requests that are complete; true unless the reader gave an error. */
static bool outcome_drain(struct outcome *o, struct resp_reader *reader)
{
    const struct iovec *argv;
    unsigned argc;
    for (;;) {
        const enum resp_status status = resp_reader_next(reader, &argv, &argc);
        if (status == RESP_AGAIN)
            return true;
        if (status == RESP_ERROR) {
            const char *error = resp_reader_error(reader);
            resp_buffer_append(&o->text, "!", 1);
            resp_buffer_append(&o->text, error, strlen(error));
            return false;
        }
        ck_assert_int_eq(status, RESP_OK);
        outcome_add(o, argv, argc);
    }
}

static void feed(struct resp_reader *reader, const char *data, size_t len)
{
    while (len > 0) {
        char *space;
        size_t room;
        ck_assert_int_eq(resp_reader_space(reader, len, &space, &room), RESP_OK);
        const size_t n = len < room ? len : room;
        memcpy(space, data, n);
        resp_reader_fed(reader, n);
        data += n;
        len -= n;
    }
}

/* Feeds through a lent buffer, as the server does; space if the reader refuses it. */
static void feed_lent(struct resp_reader *reader, char *shared, size_t shared_len, const char *data, size_t len)
{
    char *space;
    size_t room;
    if (!resp_reader_lend(reader, shared, shared_len, &space, &room)) {
        feed(reader, data, len);
        return;
    }
    room = room < len ? room : len;
    memcpy(space, data, room);
    resp_reader_fed(reader, room);
    feed(reader, data + room, len - room);
}

/* Reads `data` in pieces that end at `first` and `second`, and checks what comes out. */
static void check_split(const struct resp_limits *limits, const char *data, size_t len, size_t first, size_t second,
                        bool lend, const char *expected)
{
    struct resp_reader *reader = resp_reader_new(limits);
    struct outcome o = {0};
    char shared[4096];
    const size_t ends[] = {first, second, len};
    size_t at = 0;
    bool good = true;
    ck_assert_ptr_nonnull(reader);
    for (size_t i = 0; i < LENGTH(ends) && good; i++) {
        if (ends[i] < at)
            continue;
        if (lend)
            feed_lent(reader, shared, sizeof(shared), data + at, ends[i] - at);
        else
            feed(reader, data + at, ends[i] - at);
        at = ends[i];
        good = outcome_drain(&o, reader);
        ck_assert_int_eq(resp_reader_settle(reader), RESP_OK);
        memset(shared, 'Z', sizeof(shared)); /* what is still referred to there shows */
    }
    resp_buffer_append(&o.text, "", 1);
    ck_assert_str_eq(o.text.data, expected);
    resp_buffer_fini(&o.text);
    resp_reader_free(reader);
}

static void check_all_splits(const struct resp_limits *limits, const char *data, size_t len, const char *expected)
{
    for (size_t first = 0; first <= len; first++) {
        for (size_t second = first; second <= len; second++) {
            check_split(limits, data, len, first, second, false, expected);
            check_split(limits, data, len, first, second, true, expected);
        }
    }
}

static void check_text(const char *data, const char *expected)
{
    check_all_splits(&no_limits, data, strlen(data), expected);
}

START_TEST(one_request_at_every_split)
{
    check_text("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n", "[SET|key|value]");
}
END_TEST

START_TEST(pipelined_requests_at_every_split)
{
    check_text("*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING x\r\n*1\r\n$4\r\nQUIT\r\n",
               "[PING][GET|a][PING|x][QUIT]");
}
END_TEST

START_TEST(empty_and_binary_arguments)
{
    const char data[] = "*4\r\n$0\r\n\r\n$2\r\n\r\n\r\n$1\r\n$\r\n$12\r\n*1\r\n$4\r\nPING\r\n";
    check_all_splits(&no_limits, data, sizeof(data) - 1, "[|\r\n|$|*1\r\n$4\r\nPING]");
}
END_TEST

START_TEST(arguments_of_ten_to_a_thousand_bytes)
{
    const size_t sizes[] = {9, 10, 11, 99, 100, 101, 999, 1000};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        char data[2048], expected[2048];
        int head = snprintf(data, sizeof(data), "*2\r\n$3\r\nGET\r\n$%zu\r\n", sizes[i]);
        memset(data + head, 'v', sizes[i]);
        memcpy(data + head + sizes[i], "\r\n", 2);
        snprintf(expected, sizeof(expected), "[GET|%.*s]", (int)sizes[i], data + head);
        const size_t len = (size_t)head + sizes[i] + 2;
        for (size_t first = 0; first <= len; first++) {
            check_split(&no_limits, data, len, first, first, false, expected);
            check_split(&no_limits, data, len, first, first, true, expected);
        }
    }
}
END_TEST

START_TEST(more_arguments_than_fit_without_allocation)
{
    struct resp_buffer data = {0}, expected = {0};
    resp_write_array(&data, 3000);
    resp_buffer_append(&expected, "[", 1);
    for (unsigned i = 0; i < 3000; i++) {
        char text[16];
        int n = snprintf(text, sizeof(text), "a%u", i);
        resp_write_bulk(&data, text, (size_t)n);
        if (i > 0)
            resp_buffer_append(&expected, "|", 1);
        resp_buffer_append(&expected, text, (size_t)n);
    }
    resp_buffer_append(&expected, "]", 2);
    for (size_t first = 0; first <= data.len; first += 97)
        check_split(&no_limits, data.data, data.len, first, first + (data.len - first) / 2, first % 2 == 0,
                    expected.data);
    resp_buffer_fini(&data);
    resp_buffer_fini(&expected);
}
END_TEST

START_TEST(null_and_empty_multibulk_are_empty_requests)
{
    check_text("*0\r\n*-1\r\n*-5\r\n*1\r\n$4\r\nPING\r\n", "[][][][PING]");
}
END_TEST

START_TEST(inline_words_and_blank_lines)
{
    check_text("PING\r\n\r\n  SET  a\tb  \n\nGET a\n", "[PING][][SET|a|b][][GET|a]");
}
END_TEST

START_TEST(inline_double_quotes_with_escapes)
{
    check_text("SET k \"a b\\n\\r\\t\\b\\a\\\\\\\"\\x41\\xzz\\q\"\r\n", "[SET|k|a b\n\r\t\b\a\\\"Axzzq]");
}
END_TEST

START_TEST(inline_single_quotes)
{
    check_text("SET 'a b' 'it\\'s' '\\n' ''\r\n", "[SET|a b|it's|\\n|]");
}
END_TEST

START_TEST(inline_quote_in_the_middle_of_a_word)
{
    check_text("ECHO foo\"bar baz\" x\r\n", "[ECHO|foobar baz|x]");
}
END_TEST

START_TEST(inline_unbalanced_quotes)
{
    const char *lines[] = {"GET \"a\r\n", "GET 'a\r\n",    "GET \"a\"b\r\n",  "GET 'a'b\r\n",
                           "GET \"\r\n",  "GET \"a\\\r\n", "GET \"a\\\"\r\n", "\"\r\n"};
    for (size_t i = 0; i < LENGTH(lines); i++)
        check_text(lines[i], "!ERR Protocol error: unbalanced quotes in request");
}
END_TEST

START_TEST(bad_multibulk_length)
{
    const char *lines[] = {"*x\r\n",
                           "*\r\n",
                           "*1x\r\n",
                           "*+1\r\n",
                           "* 1\r\n",
                           "*01\r\n",
                           "*-0\r\n",
                           "*1048577\r\n",
                           "*99999999999999999999\r\n",
                           "*9223372036854775808\r\n",
                           "*-\r\n"};
    for (size_t i = 0; i < LENGTH(lines); i++)
        check_text(lines[i], "!ERR Protocol error: invalid multibulk length");
}
END_TEST

START_TEST(bad_bulk_length)
{
    const char *lines[] = {"$x\r\n",  "$\r\n",          "$-1\r\n", "$01\r\n",
                           "$1 \r\n", "$536870913\r\n", "$+1\r\n", "$18446744073709551617\r\n"};
    for (size_t i = 0; i < LENGTH(lines); i++) {
        char data[128];
        snprintf(data, sizeof(data), "*2\r\n$3\r\nGET\r\n%s", lines[i]);
        check_text(data, "!ERR Protocol error: invalid bulk length");
    }
}
END_TEST

START_TEST(something_else_than_a_bulk)
{
    check_text("*1\r\n:1\r\n", "!ERR Protocol error: expected '$', got ':'");
    check_text("*1\r\nPING\r\n", "!ERR Protocol error: expected '$', got 'P'");
}
END_TEST

START_TEST(requests_before_an_error_are_handed_out)
{
    check_text("PING\r\n*1\r\n$4\r\nPING\r\n*x\r\nPING\r\n",
               "[PING][PING]!ERR Protocol error: invalid multibulk length");
}
END_TEST

START_TEST(an_error_stays)
{
    struct resp_reader *reader = resp_reader_new(&no_limits);
    const struct iovec *argv;
    unsigned argc;
    feed(reader, "*x\r\n", 4);
    ck_assert_int_eq(resp_reader_next(reader, &argv, &argc), RESP_ERROR);
    feed(reader, "PING\r\n", 6);
    ck_assert_int_eq(resp_reader_next(reader, &argv, &argc), RESP_ERROR);
    ck_assert_str_eq(resp_reader_error(reader), "ERR Protocol error: invalid multibulk length");
    resp_reader_free(reader);
}
END_TEST

/* A line of `len` bytes behind `start`, without an end. */
static void check_endless(const char *start, size_t len, const char *expected)
{
    struct resp_reader *reader = resp_reader_new(&no_limits);
    struct outcome o = {0};
    char *line = malloc(len);
    memset(line, '1', len);
    feed(reader, start, strlen(start));
    feed(reader, line, len);
    outcome_drain(&o, reader);
    resp_buffer_append(&o.text, "", 1);
    ck_assert_str_eq(o.text.data, expected);
    resp_buffer_fini(&o.text);
    resp_reader_free(reader);
    free(line);
}

START_TEST(lines_without_end)
{
    check_endless("*", 65535, "");
    check_endless("*", 65536, "!ERR Protocol error: too big mbulk count string");
    check_endless("*1\r\n$", 65535, "");
    check_endless("*1\r\n$", 65536, "!ERR Protocol error: too big bulk count string");
    check_endless("", 65536, "");
    check_endless("", 65537, "!ERR Protocol error: too big inline request");
}
END_TEST

START_TEST(limit_of_arguments)
{
    const struct resp_limits limits = {.args_max = 3};
    const char good[] = "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\na b c\r\n";
    const char bad[] = "*4\r\n$1\r\na\r\n";
    const char bad_line[] = "a b c d\r\n";
    check_all_splits(&limits, good, sizeof(good) - 1, "[a|b|c][a|b|c]");
    check_all_splits(&limits, bad, sizeof(bad) - 1, "!ERR Protocol error: invalid multibulk length");
    check_all_splits(&limits, bad_line, sizeof(bad_line) - 1, "!ERR Protocol error: invalid multibulk length");
}
END_TEST

START_TEST(limit_of_one_argument)
{
    const struct resp_limits limits = {.bulk_bytes_max = 4};
    const char good[] = "*1\r\n$4\r\nabcd\r\n";
    const char bad[] = "*1\r\n$5\r\nabcde\r\n";
    check_all_splits(&limits, good, sizeof(good) - 1, "[abcd]");
    check_all_splits(&limits, bad, sizeof(bad) - 1, "!ERR Protocol error: invalid bulk length");
}
END_TEST

START_TEST(limit_of_one_request)
{
    const struct resp_limits limits = {.query_bytes_max = 30};
    const char good[] = "*2\r\n$4\r\nabcd\r\n$10\r\n0123456789\r\n";
    const char bad[] = "*2\r\n$4\r\nabcd\r\n$11\r\n0123456789a\r\n";
    ck_assert_uint_eq(sizeof(good) - 1, 4 + 10 + 17);
    const struct resp_limits exact = {.query_bytes_max = sizeof(good) - 1};
    check_all_splits(&exact, good, sizeof(good) - 1, "[abcd|0123456789]");
    check_all_splits(&limits, bad, sizeof(bad) - 1, "!ERR Protocol error: request exceeds the query buffer limit");
    /* Many requests together may be larger. */
    const char many[] = "*1\r\n$9\r\n012345678\r\n*1\r\n$9\r\n012345678\r\n*1\r\n$9\r\n012345678\r\n";
    check_all_splits(&limits, many, sizeof(many) - 1, "[012345678][012345678][012345678]");
}
END_TEST

START_TEST(an_announced_length_costs_nothing_before_bytes_arrive)
{
    struct resp_reader *reader = resp_reader_new(&no_limits);
    const struct iovec *argv;
    unsigned argc;
    char *space;
    size_t len;
    const char head[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc";
    feed(reader, head, sizeof(head) - 1);
    ck_assert_int_eq(resp_reader_next(reader, &argv, &argc), RESP_AGAIN);
    ck_assert_int_eq(resp_reader_space(reader, 16384, &space, &len), RESP_OK);
    ck_assert_uint_lt(resp_reader_memory(reader), 128 * 1024);
    resp_reader_free(reader);

    reader = resp_reader_new(&no_limits);
    feed(reader, "*1048576\r\n", 10);
    ck_assert_int_eq(resp_reader_next(reader, &argv, &argc), RESP_AGAIN);
    ck_assert_uint_lt(resp_reader_memory(reader), 4096);
    resp_reader_free(reader);
}
END_TEST

START_TEST(a_large_argument_moves_few_times_and_ends_exact)
{
    const size_t value_len = 100u * 1024 * 1024;
    struct resp_reader *reader = resp_reader_new(&no_limits);
    const struct iovec *argv;
    unsigned argc;
    size_t left = value_len + 2, grown = 0, memory = 0;
    const char head[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$104857600\r\n";
    feed(reader, head, sizeof(head) - 1);
    while (left > 0) {
        char *space;
        size_t len;
        ck_assert_int_eq(resp_reader_next(reader, &argv, &argc), RESP_AGAIN);
        ck_assert_int_eq(resp_reader_space(reader, 16384, &space, &len), RESP_OK);
        grown += resp_reader_memory(reader) > memory;
        memory = resp_reader_memory(reader);
        len = len < 65536 ? len : 65536;
        len = len < left ? len : left;
        memset(space, left <= 2 ? '\n' : 'x', len);
        resp_reader_fed(reader, len);
        left -= len;
    }
    ck_assert_int_eq(resp_reader_next(reader, &argv, &argc), RESP_OK);
    ck_assert_uint_eq(argc, 3);
    ck_assert_mem_eq(argv[0].iov_base, "SET", 3);
    ck_assert_mem_eq(argv[1].iov_base, "k", 1);
    ck_assert_uint_eq(argv[2].iov_len, value_len);
    ck_assert_uint_le(grown, 14);
    ck_assert_uint_lt(memory, value_len + 4096);
    ck_assert_int_eq(resp_reader_settle(reader), RESP_OK);
    ck_assert_uint_lt(resp_reader_memory(reader), 1024);
    resp_reader_free(reader);
}
END_TEST

START_TEST(arguments_point_into_the_buffer_that_was_filled)
{
    struct resp_reader *reader = resp_reader_new(&no_limits);
    const char data[] = "*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n";
    const struct iovec *argv;
    unsigned argc;
    char *space;
    size_t len;
    ck_assert_int_eq(resp_reader_space(reader, 256, &space, &len), RESP_OK);
    memcpy(space, data, sizeof(data) - 1);
    resp_reader_fed(reader, sizeof(data) - 1);
    ck_assert_int_eq(resp_reader_next(reader, &argv, &argc), RESP_OK);
    ck_assert_ptr_eq(argv[1].iov_base, space + sizeof(data) - 1 - 7);
    resp_reader_free(reader);
}
END_TEST

START_TEST(an_idle_reader_holds_no_buffer)
{
    struct resp_reader *reader = resp_reader_new(&no_limits);
    struct outcome o = {0};
    char shared[4096];
    feed_lent(reader, shared, sizeof(shared), "*1\r\n$4\r\nPING\r\n*1\r\n$4", 20);
    ck_assert(outcome_drain(&o, reader));
    ck_assert_int_eq(resp_reader_settle(reader), RESP_OK);
    ck_assert_uint_eq(resp_reader_buffered(reader), 6);
    const size_t partial = resp_reader_memory(reader);
    feed_lent(reader, shared, sizeof(shared), "\r\nPING\r\n", 8);
    ck_assert(outcome_drain(&o, reader));
    ck_assert_int_eq(resp_reader_settle(reader), RESP_OK);
    ck_assert_uint_eq(resp_reader_buffered(reader), 0);
    ck_assert_uint_lt(resp_reader_memory(reader), partial);
    ck_assert_uint_lt(resp_reader_memory(reader), 512);
    ck_assert_mem_eq(o.text.data, "[PING][PING]", 12);
    resp_buffer_fini(&o.text);
    resp_reader_free(reader);
}
END_TEST

START_TEST(a_large_partial_request_refuses_a_lent_buffer)
{
    struct resp_reader *reader = resp_reader_new(&no_limits);
    struct outcome o = {0};
    char shared[4096], *space;
    size_t len;
    const char head[] = "*1\r\n$100000\r\nabc";
    feed_lent(reader, shared, sizeof(shared), head, sizeof(head) - 1);
    ck_assert(outcome_drain(&o, reader));
    ck_assert_int_eq(resp_reader_settle(reader), RESP_OK);
    ck_assert(!resp_reader_lend(reader, shared, sizeof(shared), &space, &len));
    resp_buffer_fini(&o.text);
    resp_reader_free(reader);
}
END_TEST

START_TEST(reading_ahead_without_parsing)
{
    struct resp_reader *reader = resp_reader_new(&no_limits);
    struct outcome o = {0};
    char value[70000];
    memset(value, 'v', sizeof(value));
    feed(reader, "*1\r\n$70000\r\n", 12);
    ck_assert(outcome_drain(&o, reader));
    feed(reader, value, sizeof(value));
    feed(reader, "\r\nPING\r\nPI", 10);
    feed(reader, "NG\r\n", 4);
    ck_assert(outcome_drain(&o, reader));
    ck_assert_uint_eq(o.text.len, 70000 + 2 + 12);
    ck_assert_mem_eq(o.text.data + 70002, "[PING][PING]", 12);
    resp_buffer_fini(&o.text);
    resp_reader_free(reader);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resp_reader");
    TCase *tcase = tcase_create("resp_reader");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, one_request_at_every_split);
    tcase_add_test(tcase, pipelined_requests_at_every_split);
    tcase_add_test(tcase, empty_and_binary_arguments);
    tcase_add_test(tcase, arguments_of_ten_to_a_thousand_bytes);
    tcase_add_test(tcase, more_arguments_than_fit_without_allocation);
    tcase_add_test(tcase, null_and_empty_multibulk_are_empty_requests);
    tcase_add_test(tcase, inline_words_and_blank_lines);
    tcase_add_test(tcase, inline_double_quotes_with_escapes);
    tcase_add_test(tcase, inline_single_quotes);
    tcase_add_test(tcase, inline_quote_in_the_middle_of_a_word);
    tcase_add_test(tcase, inline_unbalanced_quotes);
    tcase_add_test(tcase, bad_multibulk_length);
    tcase_add_test(tcase, bad_bulk_length);
    tcase_add_test(tcase, something_else_than_a_bulk);
    tcase_add_test(tcase, requests_before_an_error_are_handed_out);
    tcase_add_test(tcase, an_error_stays);
    tcase_add_test(tcase, lines_without_end);
    tcase_add_test(tcase, limit_of_arguments);
    tcase_add_test(tcase, limit_of_one_argument);
    tcase_add_test(tcase, limit_of_one_request);
    tcase_add_test(tcase, an_announced_length_costs_nothing_before_bytes_arrive);
    tcase_add_test(tcase, a_large_argument_moves_few_times_and_ends_exact);
    tcase_add_test(tcase, arguments_point_into_the_buffer_that_was_filled);
    tcase_add_test(tcase, an_idle_reader_holds_no_buffer);
    tcase_add_test(tcase, a_large_partial_request_refuses_a_lent_buffer);
    tcase_add_test(tcase, reading_ahead_without_parsing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
