/* Command lines read by a table of options. */
#include <check.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/command.h"
#include "cmd/lockstep/options.h"

#define ARGUMENTS_MAX 24

static struct {
    bool json;
    char *text;
    uint32_t number;
    uint64_t large;
    double real;
    struct address address;
    struct seeds seeds;
    int taken;
} got;

static bool take_cb(void *ctx, char *text)
{
    ++*(int *)ctx;
    return strcmp(text, "bad") != 0;
}

/* Words are separated by spaces; operands are left in `rest`. */
static char *rest[ARGUMENTS_MAX];
static int read_line(const char *words, struct command_line line)
{
    static char copy[256];
    static char name[] = "lockstep test";
    char *argv[ARGUMENTS_MAX] = {name};
    int argc = 1;
    const struct option_rule rules[] = {{.name = "json", .flag = &got.json},
                                        {.name = "text", .text = &got.text},
                                        {.name = "number", .letter = 'n', .u32 = &got.number, .min = 1, .max = 5},
                                        {.name = "large", .u64 = &got.large, .min = 0, .max = UINT64_MAX},
                                        {.name = "real", .real = &got.real, .low = 0, .high = 1},
                                        {.name = "one", .address = &got.address},
                                        {.name = "addr", .seeds = &got.seeds},
                                        {.name = "own", .take = take_cb, .ctx = &got.taken},
                                        {.name = NULL}};
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    memset(&got, 0, sizeof got);
    memset(rest, 0, sizeof rest);
    optind = 0; /* getopt begins anew */
    line.usage = "usage\n";
    line.rules = rules;
    const int code = options_read(&line, argc, argv);
    for (int i = optind; code == OPTIONS_OK && i < argc; i++) {
        rest[i - optind] = argv[i];
    }
    return code;
}

START_TEST(each_kind_of_option_is_read)
{
    const struct command_line line = {.operands = "WORD", .operands_max = 2};
    ck_assert_int_eq(
        read_line("a --json --text t -n 2 --large 3k b --real 0.5 --one h:7 --addr x:1,y:2 --addr z:3 --own o", line),
        OPTIONS_OK);
    ck_assert(got.json);
    ck_assert_str_eq(got.text, "t");
    ck_assert_uint_eq(got.number, 2);
    ck_assert_uint_eq(got.large, 3000);
    ck_assert(got.real == 0.5);
    ck_assert_str_eq(got.address.host, "h");
    ck_assert_uint_eq(got.seeds.n, 3);
    ck_assert_str_eq(got.seeds.at[2].host, "z");
    ck_assert_int_eq(got.taken, 1);
    ck_assert_str_eq(rest[0], "a");
    ck_assert_str_eq(rest[1], "b");
}
END_TEST

START_TEST(seeds_are_the_local_cluster_unless_given)
{
    ck_assert_int_eq(read_line("", (struct command_line){0}), OPTIONS_OK);
    ck_assert_uint_eq(got.seeds.n, 3);
    ck_assert_str_eq(got.seeds.at[0].host, "127.0.0.1");
    ck_assert_uint_eq(got.seeds.at[2].port, ADDRESS_PORT_DEFAULT + 2);
}
END_TEST

START_TEST(what_is_wrong_is_refused)
{
    static const char *const lines[] = {"--nope",   "-x",        "--json=1",   "--text",    "-n 0", "--number 6",
                                        "--real 2", "--one h:x", "--addr h:0", "--own bad", "a b",  "--large -1"};
    const struct command_line line = {.operands = "WORD", .operands_max = 1};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        ck_assert_msg(read_line(lines[i], line) == EXIT_USAGE, "taken: %s", lines[i]);
    }
    ck_assert_int_eq(read_line("", (struct command_line){.operands = "WORD", .operands_min = 1, .operands_max = 1}),
                     EXIT_USAGE);
}
END_TEST

START_TEST(help_comes_before_everything_behind_it)
{
    const struct command_line line = {.operands = "WORD", .operands_min = 1, .operands_max = 1};
    ck_assert_int_eq(read_line("--help --nope", line), EXIT_OK);
    ck_assert_int_eq(read_line("-h", line), EXIT_OK);
}
END_TEST

START_TEST(in_order_leaves_options_of_operands_alone)
{
    const struct command_line line = {.operands = "WORD", .operands_max = 3, .in_order = true};
    ck_assert_int_eq(read_line("--json a --nope b", line), OPTIONS_OK);
    ck_assert(got.json);
    ck_assert_str_eq(rest[1], "--nope");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tc = tcase_create("options");
    tcase_add_test(tc, each_kind_of_option_is_read);
    tcase_add_test(tc, seeds_are_the_local_cluster_unless_given);
    tcase_add_test(tc, what_is_wrong_is_refused);
    tcase_add_test(tc, help_comes_before_everything_behind_it);
    tcase_add_test(tc, in_order_leaves_options_of_operands_alone);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
