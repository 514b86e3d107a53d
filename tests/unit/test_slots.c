/* Term and vote in two slots: what may be taken after a crash, and what must be refused. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "consensus/slots.h"
#include "tests/unit/mem_env.h"

#define FILE_NAME "state"

static struct slots_state state_of(uint64_t term, uint64_t vote)
{
    struct slots_state state = {.id = 3, .incarnation = 0x1122334455667788u, .starts = 5, .term = term, .vote = vote};
    for (unsigned i = 0; i < sizeof state.cluster; i++) {
        state.cluster[i] = (uint8_t)(0xa0 + i);
    }
    return state;
}

static struct slots *create(struct mem_env *mem, uint64_t term)
{
    struct slots *slots;
    struct slots_state state = state_of(term, 0);
    ck_assert_int_eq(slots_create(mem_env_env(mem), &state, &slots), SLOTS_OK);
    return slots;
}

static enum slots_status open_term(struct mem_env *mem, uint64_t *term, uint64_t *vote, const char **error)
{
    struct slots *slots = NULL;
    struct slots_state state = {.term = 0};
    enum slots_status status = slots_open(mem_env_env(mem), &slots, &state, error);
    if (status == SLOTS_OK) {
        *term = state.term;
        *vote = state.vote;
        slots_close(slots);
    }
    return status;
}

/* Opening gives `term`, and does so again. */
static void check_opens(struct mem_env *mem, uint64_t term, uint64_t vote)
{
    for (int i = 0; i < 2; i++) {
        const char *error;
        uint64_t got_term = 0;
        uint64_t got_vote = 0;
        ck_assert_int_eq(open_term(mem, &got_term, &got_vote, &error), SLOTS_OK);
        ck_assert_uint_eq(got_term, term);
        ck_assert_uint_eq(got_vote, vote);
    }
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
}

static void check_corrupt(struct mem_env *mem)
{
    const char *error;
    uint64_t term;
    uint64_t vote;
    ck_assert_int_eq(open_term(mem, &term, &vote, &error), SLOTS_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error, "state"));
    ck_assert_ptr_nonnull(strstr(error, "fresh id"));
    ck_assert_uint_eq(mem_env_open_files(mem), 0);
}

static uint8_t *slot(struct mem_env *mem, unsigned which)
{
    return mem_env_file(mem, FILE_NAME, NULL) + (size_t)which * ENV_BLOCK;
}

/* A directory whose state was written as terms 1, 2, ... last. */
static struct mem_env *written(uint64_t last)
{
    struct mem_env *mem = mem_env_new(1);
    struct slots *slots = create(mem, 1);
    for (uint64_t term = 2; term <= last; term++) {
        struct slots_state state = state_of(term, term % 3);
        ck_assert_int_eq(slots_write(slots, &state), SLOTS_OK);
    }
    slots_close(slots);
    return mem;
}

START_TEST(a_directory_without_state_is_empty)
{
    struct mem_env *mem = mem_env_new(1);
    const char *error;
    uint64_t term;
    uint64_t vote;
    ck_assert_int_eq(open_term(mem, &term, &vote, &error), SLOTS_EMPTY);
    mem_env_free(mem);
}
END_TEST

START_TEST(state_survives_reopening_in_full)
{
    struct mem_env *mem = written(1);
    struct slots *slots;
    struct slots_state state;
    const char *error;
    ck_assert_int_eq(slots_open(mem_env_env(mem), &slots, &state, &error), SLOTS_OK);
    struct slots_state want = state_of(1, 0);
    ck_assert_int_eq(memcmp(&state, &want, sizeof state), 0);
    want = state_of(77, 2);
    ck_assert_int_eq(slots_write(slots, &want), SLOTS_OK);
    slots_close(slots);
    ck_assert_int_eq(slots_open(mem_env_env(mem), &slots, &state, &error), SLOTS_OK);
    ck_assert_int_eq(memcmp(&state, &want, sizeof state), 0);
    slots_close(slots);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_write_is_in_both_slots_when_it_returns)
{
    struct mem_env *mem = written(9);
    ck_assert_int_eq(memcmp(slot(mem, 0), slot(mem, 1), ENV_BLOCK), 0);
    mem_env_free(mem);
}
END_TEST

START_TEST(an_interrupted_creation_leaves_an_empty_directory)
{
    for (unsigned after = 0; after < 2; after++) {
        struct mem_env *mem = mem_env_new(1);
        struct slots *slots;
        struct slots_state state = state_of(1, 0);
        mem_env_tear_sync(mem, after, 1, ENV_IO);
        ck_assert_int_eq(slots_create(mem_env_env(mem), &state, &slots), SLOTS_IO);
        mem_env_restart(mem);
        const char *error;
        uint64_t term;
        uint64_t vote;
        ck_assert_int_eq(open_term(mem, &term, &vote, &error), SLOTS_EMPTY);
        slots_close(create(mem, 4)); /* and may be initialised again */
        check_opens(mem, 4, 0);
        mem_env_free(mem);
    }
}
END_TEST

/* Slot `which` is cut off while term 6 is written over term 5; `sectors` of it arrive. */
static struct mem_env *cut(unsigned which, size_t sectors)
{
    struct mem_env *mem = written(5);
    struct slots *slots;
    struct slots_state state;
    const char *error;
    ck_assert_int_eq(slots_open(mem_env_env(mem), &slots, &state, &error), SLOTS_OK);
    mem_env_tear_sync(mem, which, sectors, ENV_IO);
    state.term = 6;
    state.vote = 1;
    ck_assert_int_eq(slots_write(slots, &state), SLOTS_IO);
    ck_assert_int_eq(slots_write(slots, &state), SLOTS_IO); /* and nothing more is accepted */
    slots_close(slots);
    mem_env_restart(mem);
    return mem;
}

START_TEST(a_crash_before_anything_arrived_keeps_the_old_state)
{
    struct mem_env *mem = cut(0, 0);
    check_opens(mem, 5, 2);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_crash_between_the_slots_keeps_the_new_state_and_completes_it)
{
    struct mem_env *mem = cut(1, 0);
    ck_assert_int_ne(memcmp(slot(mem, 0), slot(mem, 1), ENV_BLOCK), 0);
    check_opens(mem, 6, 1);
    ck_assert_int_eq(memcmp(slot(mem, 0), slot(mem, 1), ENV_BLOCK), 0);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_torn_first_slot_keeps_the_acknowledged_state)
{
    for (size_t at = 0; at < 512; at += 8) {
        struct mem_env *mem = cut(0, 1); /* new bytes in slot A; then only the first `at` of them */
        memcpy(slot(mem, 0) + at, slot(mem, 1) + at, 512 - at);
        const char *error;
        uint64_t term = 0;
        uint64_t vote = 0;
        ck_assert_int_eq(open_term(mem, &term, &vote, &error), SLOTS_OK);
        ck_assert(term == 5 || term == 6);
        check_opens(mem, term, vote);
        ck_assert_int_eq(memcmp(slot(mem, 0), slot(mem, 1), ENV_BLOCK), 0);
        mem_env_free(mem);
    }
}
END_TEST

START_TEST(a_torn_second_slot_keeps_the_new_state)
{
    for (size_t at = 0; at < 512; at += 8) {
        struct mem_env *mem = cut(1, 1);
        struct mem_env *old = written(5);
        memcpy(slot(mem, 1) + at, slot(old, 1) + at, 512 - at);
        check_opens(mem, 6, 1);
        ck_assert_int_eq(memcmp(slot(mem, 0), slot(mem, 1), ENV_BLOCK), 0);
        mem_env_free(old);
        mem_env_free(mem);
    }
}
END_TEST

START_TEST(rot_of_either_slot_never_brings_back_an_older_state)
{
    for (unsigned which = 0; which < 2; which++) {
        for (size_t at = 0; at < 512; at++) {
            struct mem_env *mem = written(5);
            slot(mem, which)[at] ^= 0x10;
            check_opens(mem, 5, 2);
            ck_assert_int_eq(memcmp(slot(mem, 0), slot(mem, 1), ENV_BLOCK), 0); /* repaired */
            mem_env_free(mem);
        }
    }
}
END_TEST

START_TEST(two_bad_slots_are_refused)
{
    struct mem_env *mem = written(5);
    slot(mem, 0)[70] ^= 1;
    slot(mem, 1)[30] ^= 1;
    check_corrupt(mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(rot_of_the_newest_slot_beside_a_torn_one_is_refused)
{
    struct mem_env *mem = cut(1, 0);
    slot(mem, 1)[8] ^= 1;  /* B was torn */
    slot(mem, 0)[64] ^= 1; /* and A, the newest, rotted */
    check_corrupt(mem);
    mem_env_free(mem);
}
END_TEST

/* Put the slot that a directory with `last` writes has in place of one of ours. */
static void graft(struct mem_env *mem, unsigned which, uint64_t last)
{
    struct mem_env *other = written(last);
    memcpy(slot(mem, which), slot(other, which), ENV_BLOCK);
    mem_env_free(other);
}

START_TEST(a_first_slot_older_than_the_second_is_refused)
{
    struct mem_env *mem = written(5);
    graft(mem, 0, 4); /* the write of A was lost, that of B was not */
    check_corrupt(mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_second_slot_that_missed_a_whole_write_is_refused)
{
    struct mem_env *mem = written(5);
    graft(mem, 1, 3);
    check_corrupt(mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(slots_of_one_number_and_two_contents_are_refused)
{
    struct mem_env *mem = written(5);
    uint8_t *at = slot(mem, 1);
    at[72] ^= 1; /* the vote */
    uint64_t check = XXH3_64bits(at, 504);
    memcpy(at + 504, &check, sizeof check);
    check_corrupt(mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_term_that_goes_backwards_is_refused)
{
    struct mem_env *mem = written(5);
    graft(mem, 1, 4);
    uint8_t *at = slot(mem, 0);
    at[64] = 1; /* number 5, term 1 */
    uint64_t check = XXH3_64bits(at, 504);
    memcpy(at + 504, &check, sizeof check);
    check_corrupt(mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(another_nodes_slot_is_refused)
{
    struct mem_env *mem = written(5);
    uint8_t *at = slot(mem, 1);
    at[40] = 9; /* the id */
    uint64_t check = XXH3_64bits(at, 504);
    memcpy(at + 504, &check, sizeof check);
    check_corrupt(mem);
    mem_env_free(mem);
}
END_TEST

START_TEST(a_newer_format_is_refused_by_its_version)
{
    struct mem_env *mem = written(5);
    for (unsigned which = 0; which < 2; which++) {
        uint8_t *at = slot(mem, which);
        at[8] = 2;
        uint64_t check = XXH3_64bits(at, 504);
        memcpy(at + 504, &check, sizeof check);
    }
    const char *error;
    uint64_t term;
    uint64_t vote;
    ck_assert_int_eq(open_term(mem, &term, &vote, &error), SLOTS_VERSION);
    ck_assert_ptr_nonnull(strstr(error, "newer version"));
    mem_env_free(mem);
}
END_TEST

START_TEST(an_empty_or_short_state_file_is_refused)
{
    uint8_t zeros[ENV_BLOCK] = {0};
    for (size_t size = 0; size <= ENV_BLOCK; size += ENV_BLOCK / 2) {
        struct mem_env *mem = mem_env_new(1);
        mem_env_file_put(mem, FILE_NAME, zeros, size);
        check_corrupt(mem);
        mem_env_free(mem);
    }
}
END_TEST

START_TEST(an_unreadable_file_is_an_error_not_an_empty_directory)
{
    struct mem_env *mem = written(5);
    mem_env_fail_reads(mem, true);
    const char *error;
    uint64_t term;
    uint64_t vote;
    ck_assert_int_eq(open_term(mem, &term, &vote, &error), SLOTS_IO);
    mem_env_free(mem);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("slots");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, a_directory_without_state_is_empty);
    tcase_add_test(cases, state_survives_reopening_in_full);
    tcase_add_test(cases, a_write_is_in_both_slots_when_it_returns);
    tcase_add_test(cases, an_interrupted_creation_leaves_an_empty_directory);
    tcase_add_test(cases, a_crash_before_anything_arrived_keeps_the_old_state);
    tcase_add_test(cases, a_crash_between_the_slots_keeps_the_new_state_and_completes_it);
    tcase_add_test(cases, a_torn_first_slot_keeps_the_acknowledged_state);
    tcase_add_test(cases, a_torn_second_slot_keeps_the_new_state);
    tcase_add_test(cases, rot_of_either_slot_never_brings_back_an_older_state);
    tcase_add_test(cases, two_bad_slots_are_refused);
    tcase_add_test(cases, rot_of_the_newest_slot_beside_a_torn_one_is_refused);
    tcase_add_test(cases, a_first_slot_older_than_the_second_is_refused);
    tcase_add_test(cases, a_second_slot_that_missed_a_whole_write_is_refused);
    tcase_add_test(cases, slots_of_one_number_and_two_contents_are_refused);
    tcase_add_test(cases, a_term_that_goes_backwards_is_refused);
    tcase_add_test(cases, another_nodes_slot_is_refused);
    tcase_add_test(cases, a_newer_format_is_refused_by_its_version);
    tcase_add_test(cases, an_empty_or_short_state_file_is_refused);
    tcase_add_test(cases, an_unreadable_file_is_an_error_not_an_empty_directory);
    Suite *suite = suite_create("slots");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
