#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/command.h"
#include "store/store.h"
#include "tests/unit/golden.h"

#define TEXT(s)                                                                                                        \
    {                                                                                                                  \
        .iov_base = (s), .iov_len = sizeof(s) - 1                                                                      \
    }

static struct iovec set_k[] = {TEXT("SET"), TEXT("k"), TEXT("value")};
static struct iovec get_k[] = {TEXT("get"), TEXT("k")};
static struct iovec del_k[] = {TEXT("DeL"), TEXT("k")};
static const struct store_watch watch_w = {.key = TEXT("w"), .revision = 7};
static const struct store_queued get_then_del[] = {{.argv = get_k, .argc = 2}, {.argv = del_k, .argc = 2}};

struct entry {
    uint8_t *data;
    size_t len;
};

static struct entry seal(struct store_batch *batch, uint64_t time_ms)
{
    struct entry entry;
    void *data;
    ck_assert_int_eq(store_batch_seal(batch, time_ms, &data, &entry.len), STORE_OK);
    entry.data = data;
    return entry;
}

/* One plain command and one transaction. */
static struct entry sample(void)
{
    struct store_batch batch;
    store_batch_init(&batch, 4096);
    ck_assert_int_eq(store_batch_add(&batch, set_k, 3), STORE_OK);
    ck_assert_int_eq(store_batch_add_transaction(&batch, &watch_w, 1, get_then_del, 2), STORE_OK);
    ck_assert_uint_eq(store_batch_count(&batch), 2);
    struct entry entry = seal(&batch, 123456789);
    store_batch_fini(&batch);
    return entry;
}

/* --- Golden files ------------------------------------------------------------------------------------------------- */

START_TEST(entry_has_the_bytes_of_the_golden_file)
{
    uint8_t bytes[4096];
    const struct entry want = {.data = bytes, .len = golden_read("entry-v1.hex", bytes, sizeof bytes)};
    struct entry got = sample();
    ck_assert_uint_eq(got.len, want.len);
    ck_assert_mem_eq(got.data, want.data, want.len);
    ck_assert_int_eq(store_entry_check(want.data, want.len), STORE_OK);
    ck_assert_uint_eq(store_entry_time_ms(want.data, want.len), 123456789);
    free(got.data);
}
END_TEST

START_TEST(command_numbers_are_those_of_the_golden_file)
{
    FILE *file = golden_open("commands-v1.txt");
    unsigned number;
    char name[64];
    unsigned listed = 0;
    while (fscanf(file, "%u %63s", &number, name) == 2) {
        const struct store_command *command = store_command_find(name, strlen(name));
        ck_assert_msg(command != NULL, "%s is gone", name);
        ck_assert_uint_eq(command_number(command), number);
        ck_assert_ptr_eq(command_by_number(number), command);
        listed++;
    }
    fclose(file);
    unsigned known = 0;
    while (store_command_at(known) != NULL) {
        known++;
    }
    ck_assert_msg(listed == known, "%u commands, %u in commands-v1.txt: append what is new", known, listed);
}
END_TEST

START_TEST(commands_are_found_in_any_case_and_nothing_else_is)
{
    ck_assert_str_eq(store_command_find("GeT", 3)->name, "get");
    ck_assert_str_eq(store_command_find("LOCKSTEP.REVISION", 17)->name, "lockstep.revision");
    static const char *const unknown[] = {"", "ge", "gett", "get ", "g\0t", "object|encoding", "GE\xf4"};
    for (unsigned i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        ck_assert_ptr_null(store_command_find(unknown[i], strlen(unknown[i])));
    }
    static char huge[1 << 20];
    memset(huge, 'g', sizeof huge);
    ck_assert_ptr_null(store_command_find(huge, sizeof huge));
    ck_assert_ptr_null(command_by_number(0));
    ck_assert_ptr_null(command_by_number(COMMAND_NUMBERS));
}
END_TEST

START_TEST(arity_is_exact_or_a_minimum)
{
    const struct store_command *get = store_command_find("get", 3);
    ck_assert(!store_command_arity_ok(get, 1));
    ck_assert(store_command_arity_ok(get, 2));
    ck_assert(!store_command_arity_ok(get, 3));
    const struct store_command *del = store_command_find("del", 3);
    ck_assert(!store_command_arity_ok(del, 1));
    ck_assert(store_command_arity_ok(del, 2));
    ck_assert(store_command_arity_ok(del, 1000));
}
END_TEST

/* --- Building ----------------------------------------------------------------------------------------------------- */

START_TEST(batch_without_commands_is_a_tick)
{
    struct store_batch batch;
    store_batch_init(&batch, 64);
    ck_assert_uint_eq(store_batch_count(&batch), 0);
    ck_assert_uint_eq(store_batch_bytes(&batch), 16);
    struct entry entry = seal(&batch, 5);
    ck_assert_uint_eq(entry.len, 16);
    ck_assert_int_eq(store_entry_check(entry.data, entry.len), STORE_OK);
    ck_assert_uint_eq(store_entry_time_ms(entry.data, entry.len), 5);
    free(entry.data);
    store_batch_fini(&batch);
}
END_TEST

START_TEST(batch_is_full_at_its_bound_and_usable_after_the_seal)
{
    struct store_batch batch;
    /* The entry's header and two SETs of 26 bytes. */
    store_batch_init(&batch, 16 + 2 * 26);
    for (unsigned round = 0; round < 3; round++) {
        ck_assert_int_eq(store_batch_add(&batch, set_k, 3), STORE_OK);
        ck_assert_int_eq(store_batch_add(&batch, set_k, 3), STORE_OK);
        ck_assert_int_eq(store_batch_add(&batch, get_k, 2), STORE_FULL);
        ck_assert_uint_eq(store_batch_bytes(&batch), 16 + 2 * 26);
        struct entry entry = seal(&batch, 1);
        ck_assert_uint_eq(entry.len, 16 + 2 * 26);
        free(entry.data);
        ck_assert_uint_eq(store_batch_count(&batch), 0);
    }
    store_batch_fini(&batch);
}
END_TEST

START_TEST(command_that_never_fits_is_too_big_even_for_an_empty_batch)
{
    struct store_batch batch;
    static char value[100];
    struct iovec argv[] = {TEXT("set"), TEXT("k"), {.iov_base = value, .iov_len = sizeof value}};
    store_batch_init(&batch, 100);
    ck_assert_int_eq(store_batch_add(&batch, argv, 3), STORE_TOO_BIG);
    struct store_queued queued = {.argv = argv, .argc = 3};
    ck_assert_int_eq(store_batch_add_transaction(&batch, NULL, 0, &queued, 1), STORE_TOO_BIG);
    ck_assert_uint_eq(store_batch_count(&batch), 0);
    ck_assert_int_eq(store_batch_add(&batch, set_k, 3), STORE_OK);
    store_batch_fini(&batch);
}
END_TEST

START_TEST(batch_refuses_what_the_check_would_refuse)
{
    struct store_batch batch;
    store_batch_init(&batch, 4096);
    struct iovec unknown[] = {TEXT("nosuch"), TEXT("k")};
    ck_assert_int_eq(store_batch_add(&batch, unknown, 2), STORE_MALFORMED);
    ck_assert_int_eq(store_batch_add(&batch, set_k, 2), STORE_MALFORMED);
    ck_assert_int_eq(store_batch_add(&batch, set_k, 0), STORE_MALFORMED);
    struct store_queued queued[] = {{.argv = get_k, .argc = 2}, {.argv = unknown, .argc = 2}};
    ck_assert_int_eq(store_batch_add_transaction(&batch, NULL, 0, queued, 2), STORE_MALFORMED);
    ck_assert_uint_eq(store_batch_bytes(&batch), 16);
    store_batch_fini(&batch);
}
END_TEST

/* --- Checking ----------------------------------------------------------------------------------------------------- */

START_TEST(check_refuses_every_shortened_or_lengthened_entry)
{
    struct entry entry = sample();
    for (size_t len = 0; len < entry.len; len++) {
        uint8_t *copy = malloc(len + 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, entry.data, len);
        ck_assert_int_eq(store_entry_check(copy, len), STORE_MALFORMED);
        free(copy);
    }
    uint8_t *longer = calloc(1, entry.len + 1);
    ck_assert_ptr_nonnull(longer);
    memcpy(longer, entry.data, entry.len);
    ck_assert_int_eq(store_entry_check(longer, entry.len + 1), STORE_MALFORMED);
    free(longer);
    free(entry.data);
}
END_TEST

/* Puts a byte at `offset`, into the record that begins at `record`. */
static void check_with_byte_inside(struct entry entry, size_t offset, size_t record)
{
    uint8_t *longer = calloc(1, entry.len + 1);
    ck_assert_ptr_nonnull(longer);
    memcpy(longer, entry.data, offset);
    memcpy(longer + offset + 1, entry.data + offset, entry.len - offset);
    longer[record]++;
    ck_assert_int_eq(store_entry_check(longer, entry.len + 1), STORE_MALFORMED);
    free(longer);
}

START_TEST(check_refuses_bytes_behind_the_last_argument)
{
    struct entry entry = sample();
    check_with_byte_inside(entry, 42, 16);
    check_with_byte_inside(entry, entry.len, 42);
    free(entry.data);
}
END_TEST

static const struct {
    const char *what;
    size_t offset;
    uint8_t byte;
    enum store_status status;
} damages[] = {
    {"version 0", 0, 0, STORE_MALFORMED},
    {"version 2", 0, 2, STORE_VERSION},
    {"a flag", 1, 1, STORE_VERSION},
    {"a reserved field", 2, 1, STORE_VERSION},
    {"a record too few", 4, 1, STORE_MALFORMED},
    {"a record too many", 4, 3, STORE_MALFORMED},
    {"four billion records", 7, 255, STORE_MALFORMED},
    {"a record shorter than its header", 16, 11, STORE_MALFORMED},
    {"a record a byte short", 16, 25, STORE_MALFORMED},
    {"a record of another kind", 20, 3, STORE_VERSION},
    {"a reserved field of a record", 21, 1, STORE_MALFORMED},
    {"an unknown command", 22, 63, STORE_VERSION},
    {"an unknown command of two bytes", 23, 1, STORE_VERSION},
    {"too few arguments", 24, 1, STORE_MALFORMED},
    {"too many arguments", 24, 3, STORE_MALFORMED},
    {"a million arguments", 26, 16, STORE_MALFORMED},
    {"a longer argument", 28, 2, STORE_MALFORMED},
    {"a huge argument", 31, 255, STORE_MALFORMED},
    {"a transaction with a number", 48, 1, STORE_MALFORMED},
    {"a transaction of more commands", 50, 3, STORE_MALFORMED},
    {"a transaction of fewer commands", 50, 1, STORE_MALFORMED},
    {"a transaction of no watches", 54, 0, STORE_MALFORMED},
    {"a transaction of many watches", 57, 255, STORE_MALFORMED},
    {"a transaction in a transaction", 75, 2, STORE_MALFORMED},
    {"an unknown command in a transaction", 77, 255, STORE_VERSION},
    {"a time of 64 bits", 15, 0x80, STORE_MALFORMED},
};

START_TEST(check_tells_damage_and_newer_versions_apart)
{
    struct entry entry = sample();
    ck_assert_msg(entry.data[damages[_i].offset] != damages[_i].byte, "%s: nothing changed", damages[_i].what);
    entry.data[damages[_i].offset] = damages[_i].byte;
    enum store_status status = store_entry_check(entry.data, entry.len);
    ck_assert_msg(status == damages[_i].status, "%s: status %d", damages[_i].what, (int)status);
    free(entry.data);
}
END_TEST

START_TEST(whatever_passes_the_check_can_be_applied)
{
    struct entry entry = sample();
    uint64_t random = 88172645463325252u;
    unsigned passed = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t *copy = malloc(entry.len);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, entry.data, entry.len);
        for (unsigned changes = 0; changes < 1 + i % 3; changes++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            copy[random % entry.len] = (uint8_t)(random >> 32 & (random >> 60 < 8 ? 0x1f : 0xff));
        }
        if (store_entry_check(copy, entry.len) == STORE_OK) {
            struct store *store = store_new(&(struct store_config){.hash_seed = 1});
            store_apply(store, copy, entry.len, NULL);
            store_free(store);
            passed++;
        }
        free(copy);
    }
    /* Times, keys and values may be anything. */
    ck_assert_uint_gt(passed, 1000);
    free(entry.data);
}
END_TEST

/* --- Reading back ---------------------------------------------------------------------------------------------------
 */

START_TEST(entry_reads_back_what_was_added)
{
    struct entry entry = sample();
    struct store_entry_reader reader;

    store_entry_reader_init(&reader, entry.data, entry.len);
    ck_assert(store_entry_next(&reader));
    ck_assert(!reader.transaction);
    ck_assert_uint_eq(reader.argc, 3);
    ck_assert_uint_eq(reader.argv[0].iov_len, 3);
    ck_assert_mem_eq(reader.argv[0].iov_base, "set", 3);
    ck_assert_uint_eq(reader.argv[2].iov_len, 5);
    ck_assert_mem_eq(reader.argv[2].iov_base, "value", 5);
    ck_assert(store_entry_next(&reader));
    ck_assert(reader.transaction);
    ck_assert_uint_eq(reader.n_watches, 1);
    ck_assert_uint_eq(reader.watches[0].revision, 7);
    ck_assert_mem_eq(reader.watches[0].key.iov_base, "w", 1);
    ck_assert_uint_eq(reader.n_commands, 2);
    ck_assert_uint_eq(reader.commands[0].argc, 2);
    ck_assert_mem_eq(reader.commands[0].argv[0].iov_base, "get", 3);
    ck_assert_mem_eq(reader.commands[1].argv[0].iov_base, "del", 3);
    ck_assert_mem_eq(reader.commands[1].argv[1].iov_base, "k", 1);
    ck_assert(!store_entry_next(&reader));
    ck_assert(!reader.no_memory);
    store_entry_reader_fini(&reader);
    free(entry.data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batch");
    TCase *tests = tcase_create("batch");
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, entry_has_the_bytes_of_the_golden_file);
    tcase_add_test(tests, command_numbers_are_those_of_the_golden_file);
    tcase_add_test(tests, commands_are_found_in_any_case_and_nothing_else_is);
    tcase_add_test(tests, arity_is_exact_or_a_minimum);
    tcase_add_test(tests, batch_without_commands_is_a_tick);
    tcase_add_test(tests, batch_is_full_at_its_bound_and_usable_after_the_seal);
    tcase_add_test(tests, command_that_never_fits_is_too_big_even_for_an_empty_batch);
    tcase_add_test(tests, batch_refuses_what_the_check_would_refuse);
    tcase_add_test(tests, check_refuses_every_shortened_or_lengthened_entry);
    tcase_add_test(tests, check_refuses_bytes_behind_the_last_argument);
    tcase_add_loop_test(tests, check_tells_damage_and_newer_versions_apart, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_test(tests, whatever_passes_the_check_can_be_applied);
    tcase_add_test(tests, entry_reads_back_what_was_added);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
