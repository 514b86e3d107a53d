/* The bytes of the WAL and of the slots: pinned by golden files, and the rules of single records. */
#include "tests/unit/wal_fixture.h"

#include <stdio.h>

#include "consensus/slots.h"
#include "consensus/wal_format.h"
#include "tests/unit/golden.h"

#define GOLDEN_MAX 8192u

/* The log whose first segment is golden/wal-v1.hex. */
static void golden_log(struct fix *fix)
{
    fix_init(fix);
    fix_open(fix);
    fix_append_durable(fix, 1, 2, 1, 5);
    fix_append_durable(fix, 3, 5, 2, 16);
    fix_append_durable(fix, 4, 4, 3, 9);
    fix_close(fix);
}

START_TEST(a_segment_has_the_bytes_of_the_golden_file)
{
    uint8_t golden[GOLDEN_MAX];
    size_t n = golden_read("wal-v1.hex", golden, GOLDEN_MAX);
    struct fix fix;
    golden_log(&fix);
    const uint8_t *file = mem_env_file(fix.mem, "wal-00000001", NULL);
    ck_assert_int_eq(memcmp(file, golden, n), 0);
    for (size_t i = n; i < FIX_SEGMENT_BYTES; i++) {
        ck_assert_int_eq(file[i], 0);
    }
    fix_fini(&fix);
}
END_TEST

START_TEST(a_reset_has_the_bytes_of_the_golden_file)
{
    static uint8_t image[FIX_SEGMENT_BYTES];
    uint8_t golden[GOLDEN_MAX];
    size_t n = golden_read("wal-reset-v1.hex", golden, GOLDEN_MAX);
    struct fix fix;
    fix_init(&fix);
    fix_open(&fix);
    fix_append_durable(&fix, 1, 1, 1, 5);
    ck_assert_int_eq(wal_reset(fix.wal, 9, 4), WAL_OK);
    fix_append_durable(&fix, 10, 10, 5, 3);
    fix_close(&fix);
    const uint8_t *file = mem_env_file(fix.mem, "wal-00000001", NULL);
    ck_assert_int_eq(memcmp(file, golden, n), 0);
    memcpy(image, golden, n);
    ck_assert_int_eq(memcmp(file, image, sizeof image), 0);
    mem_env_file_put(fix.mem, "wal-00000001", image, sizeof image);
    fix.start_index = 9;
    fix.start_term = 4;
    fix_open(&fix);
    ck_assert_uint_eq(wal_first(fix.wal), 10);
    ck_assert_uint_eq(wal_term_of(fix.wal, 9), 4);
    fix_check(&fix, 10, 5, 3);
    fix_fini(&fix);
}
END_TEST

START_TEST(the_golden_segment_is_still_read)
{
    static uint8_t image[FIX_SEGMENT_BYTES];
    uint8_t golden[GOLDEN_MAX];
    size_t n = golden_read("wal-v1.hex", golden, GOLDEN_MAX);
    memcpy(image, golden, n);
    struct fix fix;
    fix_init(&fix);
    mem_env_file_put(fix.mem, "wal-00000001", image, sizeof image);
    fix_open(&fix);
    ck_assert_uint_eq(wal_last(fix.wal), 4);
    fix_check_range(&fix, 1, 2, 1, 5);
    fix_check(&fix, 3, 2, 16);
    fix_check(&fix, 4, 3, 9);
    fix_fini(&fix);
}
END_TEST

static struct slots_state golden_state(void)
{
    struct slots_state state = {.id = 3, .incarnation = 0x1122334455667788u, .starts = 5, .term = 6, .vote = 2};
    for (unsigned i = 0; i < sizeof state.cluster; i++) {
        state.cluster[i] = (uint8_t)(0xa0 + i);
    }
    return state;
}

START_TEST(a_slot_has_the_bytes_of_the_golden_file)
{
    uint8_t golden[GOLDEN_MAX];
    ck_assert_uint_eq(golden_read("slots-v1.hex", golden, GOLDEN_MAX), 512);
    struct mem_env *mem = mem_env_new(1);
    struct slots_state state = golden_state();
    struct slots *slots;
    ck_assert_int_eq(slots_create(mem_env_env(mem), &state, &slots), SLOTS_OK);
    slots_close(slots);
    size_t size;
    const uint8_t *file = mem_env_file(mem, "state", &size);
    ck_assert_uint_eq(size, 2 * ENV_BLOCK);
    ck_assert_int_eq(memcmp(file, golden, 512), 0);
    ck_assert_int_eq(memcmp(file + ENV_BLOCK, golden, 512), 0);
    mem_env_free(mem);
}
END_TEST

START_TEST(the_golden_slot_is_still_read)
{
    static uint8_t image[2 * ENV_BLOCK];
    uint8_t golden[GOLDEN_MAX];
    ck_assert_uint_eq(golden_read("slots-v1.hex", golden, GOLDEN_MAX), 512);
    memcpy(image, golden, 512);
    memcpy(image + ENV_BLOCK, golden, 512);
    struct mem_env *mem = mem_env_new(1);
    mem_env_file_put(mem, "state", image, sizeof image);
    struct slots *slots;
    struct slots_state state;
    struct slots_state want = golden_state();
    const char *error;
    ck_assert_int_eq(slots_open(mem_env_env(mem), &slots, &state, &error), SLOTS_OK);
    ck_assert_int_eq(memcmp(&state, &want, sizeof state), 0);
    slots_close(slots);
    mem_env_free(mem);
}
END_TEST

static void check_same(const struct wal_record *a, const struct wal_record *b)
{
    ck_assert_uint_eq(a->check, b->check);
    ck_assert_uint_eq(a->prev, b->prev);
    ck_assert_uint_eq(a->body, b->body);
    ck_assert_uint_eq(a->seq, b->seq);
    ck_assert_uint_eq(a->index, b->index);
    ck_assert_uint_eq(a->term, b->term);
    ck_assert_uint_eq(a->mark, b->mark);
    ck_assert_uint_eq(a->generation, b->generation);
    ck_assert_uint_eq(a->salt, b->salt);
    ck_assert_uint_eq(a->len, b->len);
    ck_assert_uint_eq(a->type, b->type);
}

START_TEST(every_bit_of_a_record_is_protected)
{
    uint8_t bytes[WAL_RECORD_BYTES + 16];
    struct wal_record record = {
        .prev = 1, .seq = 2, .index = 3, .term = 4, .mark = 5, .generation = 6, .salt = 7, .len = 13, .type = 1};
    wal_record_encode(bytes, &record, "thirteen byte");
    struct wal_record back;
    ck_assert(wal_record_decode(bytes, &back));
    ck_assert(wal_record_body_ok(&back, bytes + WAL_RECORD_BYTES));
    check_same(&back, &record);
    for (size_t bit = 0; bit < 8 * (WAL_RECORD_BYTES + 13); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(!wal_record_decode(bytes, &back) || !wal_record_body_ok(&back, bytes + WAL_RECORD_BYTES));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(stamping_changes_the_mark_alone)
{
    uint8_t bytes[WAL_RECORD_BYTES + 8];
    struct wal_record record = {.prev = 1, .seq = 2, .index = 3, .term = 4, .mark = 5, .len = 8, .type = 1};
    wal_record_encode(bytes, &record, "12345678");
    record.check = wal_record_stamp(bytes, 99);
    record.mark = 99;
    struct wal_record back;
    ck_assert(wal_record_decode(bytes, &back));
    check_same(&back, &record);
    ck_assert(wal_record_body_ok(&back, bytes + WAL_RECORD_BYTES));
}
END_TEST

START_TEST(names_of_segments_are_parsed_strictly)
{
    char name[WAL_NAME_BYTES];
    uint32_t generation;
    wal_name_format(name, 0xdeadbeef);
    ck_assert_str_eq(name, "wal-deadbeef");
    ck_assert(wal_name_parse(name, &generation));
    ck_assert_uint_eq(generation, 0xdeadbeef);
    static const char *const bad[] = {"",
                                      "wal-",
                                      "wal-0000001",
                                      "wal-000000001",
                                      "wal-DEADBEEF",
                                      "wal-00000000",
                                      "Wal-00000001",
                                      "wal-0000000 ",
                                      "xwal-0000001"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert(!wal_name_parse(bad[i], &generation));
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("wal_format");
    tcase_add_test(cases, a_segment_has_the_bytes_of_the_golden_file);
    tcase_add_test(cases, a_reset_has_the_bytes_of_the_golden_file);
    tcase_add_test(cases, the_golden_segment_is_still_read);
    tcase_add_test(cases, a_slot_has_the_bytes_of_the_golden_file);
    tcase_add_test(cases, the_golden_slot_is_still_read);
    tcase_add_test(cases, every_bit_of_a_record_is_protected);
    tcase_add_test(cases, stamping_changes_the_mark_alone);
    tcase_add_test(cases, names_of_segments_are_parsed_strictly);
    Suite *suite = suite_create("wal_format");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
