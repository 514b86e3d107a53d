/* What was in the log at a start is applied again: when that counts as loading, and what is told about it. */
#include "tests/unit/replica_toy.h"

/* A little more than 4 MiB. */
#define MUCH 2200u

static void setup_large(void)
{
    setup();
    close_replica();
    config.segment_bytes = 1u << 20;
    open_replica();
    turns(5);
}

/* Close it, and begin to start it again. Gives the sum of everything before. */
static uint64_t start_again(void)
{
    const uint64_t sum = toy.sum;

    close_replica();
    open_replica();
    return sum;
}

/* Loop turns in which the disk does one thing. */
static void slow_turns(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (mem_env_pending(mem) > 0) {
            mem_env_complete(mem, 0, ENV_OK);
        }
        replica_turn_end(replica);
        mem_env_advance(mem, 1000);
    }
}

static void turns_until(bool loading)
{
    for (unsigned n = 0; replica_is_loading(replica) != loading; n++) {
        ck_assert_uint_lt(n, 5000);
        slow_turns(1);
    }
}

START_TEST(much_log_is_loaded)
{
    struct replica_loading_info info;

    write_entries(MUCH);
    const uint64_t sum = start_again();
    ck_assert(!replica_is_loading(replica)); /* it does not know yet what is committed */
    turns_until(true);
    replica_loading_info(replica, &info);
    const uint64_t bytes = info.bytes;
    ck_assert(info.replaying);
    ck_assert_uint_ge(info.bytes_total, MUCH * sizeof(struct toy_entry));
    slow_turns(3);
    replica_loading_info(replica, &info);
    ck_assert_uint_gt(info.bytes, bytes);
    ck_assert_uint_le(info.bytes, info.bytes_total);
    ck_assert_uint_ne(toy.sum, sum);
    turns_until(false);
    ck_assert_ptr_nonnull(strstr(mem_env_log(mem), "replayed the log up to entry"));
    ck_assert_uint_eq(toy.sum, sum);
    replica_loading_info(replica, &info);
    ck_assert(!info.replaying);
}
END_TEST

START_TEST(it_says_how_fast_it_goes)
{
    write_entries(MUCH);
    (void)start_again();
    turns_until(true);
    slow_turns(1);
    mem_env_advance(mem, 3000000);
    replica_turn_end(replica);
    ck_assert(replica_is_loading(replica));
    const char *line = strstr(mem_env_log(mem), "replaying the log: ");
    ck_assert_ptr_nonnull(line);
    ck_assert_ptr_nonnull(strstr(line, " MB/s, "));
    ck_assert_ptr_nonnull(strstr(line, " s left"));
}
END_TEST

START_TEST(a_little_is_not_worth_a_word)
{
    write_entries(50);
    const uint64_t sum = start_again();
    for (unsigned i = 0; i < 500; i++) {
        slow_turns(1);
        ck_assert(!replica_is_loading(replica));
    }
    ck_assert_uint_eq(toy.sum, sum);
}
END_TEST

START_TEST(what_a_snapshot_covers_is_not_replayed)
{
    write_entries(MUCH);
    (void)take();
    write_entries(50);
    const uint64_t sum = start_again();
    turns_until(false); /* the snapshot */
    for (unsigned i = 0; i < 500; i++) {
        slow_turns(1);
        ck_assert(!replica_is_loading(replica));
    }
    ck_assert_uint_eq(toy.sum, sum);
}
END_TEST

START_TEST(what_comes_meanwhile_does_not_prolong_it)
{
    write_entries(MUCH);
    const uint64_t sum = start_again();
    turns_until(true);
    turns_until(false);
    ck_assert_uint_eq(toy.sum, sum);
    slow_turns(500);
    for (unsigned i = 0; i < MUCH / 2; i++) {
        write_entries(1);
        ck_assert(!replica_is_loading(replica));
    }
}
END_TEST

START_TEST(closing_ends_it)
{
    write_entries(MUCH);
    (void)start_again();
    turns_until(true);
    slow_turns(2);
    ck_assert(replica_is_loading(replica));
    close_replica();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica_replay");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup_large, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, much_log_is_loaded);
    tcase_add_test(tcase, it_says_how_fast_it_goes);
    tcase_add_test(tcase, a_little_is_not_worth_a_word);
    tcase_add_test(tcase, what_a_snapshot_covers_is_not_replayed);
    tcase_add_test(tcase, what_comes_meanwhile_does_not_prolong_it);
    tcase_add_test(tcase, closing_ends_it);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
