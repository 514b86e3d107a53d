/* A lone replica with a toy state machine on an env in memory: taking snapshots, failing to, and starting from them. */
#include "tests/unit/replica_toy.h"

static void file_name(char name[64], uint64_t index, uint64_t term)
{
    snprintf(name, 64, "snapshot-%016llx-%016llx", (unsigned long long)index, (unsigned long long)term);
}

static void damage(uint64_t index, uint64_t term)
{
    char name[64];
    size_t size = 0;

    file_name(name, index, term);
    uint8_t *data = mem_env_file(mem, name, &size);
    ck_assert_ptr_nonnull(data);
    data[4096 + 60] ^= 1; /* of the first block */
}

/* --- Taking
 * ------------------------------------------------------------------------------------------------------------ */

START_TEST(it_is_answered_once_it_is_durable)
{
    struct asked asked;
    char name[64];
    size_t size;

    write_entries(3);
    ask(&asked);
    for (unsigned i = 0; i < 20; i++) { /* the disk does nothing */
        replica_turn_end(replica);
        mem_env_advance(mem, 1000);
    }
    ck_assert_uint_eq(asked.answers, 0);
    ck_assert(replica_snapshot_is_taken(replica));
    turns(20);
    ck_assert_uint_eq(asked.answers, 1);
    ck_assert_int_eq(asked.status, REPLICA_OK);
    ck_assert_uint_eq(asked.info.index, replica_applied(replica));
    file_name(name, asked.info.index, asked.info.term);
    ck_assert_ptr_nonnull(mem_env_file(mem, name, &size));
    ck_assert_uint_eq(asked.info.file_bytes, size);
    ck_assert_uint_eq(look().snapshot.index, asked.info.index);
}
END_TEST

START_TEST(without_a_change_the_last_one_serves)
{
    write_entries(3);
    const uint64_t index = take();
    ck_assert_uint_eq(take(), index);
    ck_assert_uint_eq(look().snapshots_taken, 1);
}
END_TEST

START_TEST(what_was_asked_for_meanwhile_sees_what_was_applied_meanwhile)
{
    struct asked first, second;

    write_entries(3);
    ask(&first);
    replica_turn_end(replica); /* the cut is fixed */
    const uint64_t at_cut = replica_applied(replica);
    write_entries(1);
    ask(&second);
    turns(50);
    ck_assert_uint_eq(first.info.index, at_cut);
    ck_assert_uint_ge(second.info.index, at_cut + 1);
}
END_TEST

START_TEST(a_request_may_be_taken_back)
{
    struct asked asked;

    write_entries(1);
    ask(&asked);
    replica_snapshot_cancel(replica, &asked.request);
    turns(50);
    ck_assert_uint_eq(asked.answers, 0);
}
END_TEST

START_TEST(the_writer_holds_it_back)
{
    struct asked asked;

    toy.filler = 8u << 20;
    write_entries(1);
    ask(&asked);
    for (unsigned i = 0; i < 200; i++) { /* the disk does nothing */
        replica_turn_end(replica);
        mem_env_advance(mem, 1000);
    }
    ck_assert_uint_lt(look().snapshot_bytes_written, 2u << 20);
    turns(200);
    ck_assert_int_eq(asked.status, REPLICA_OK);
    close_replica();
    open_replica(); /* and every byte is in its place */
    turns(200);
    ck_assert(!replica_is_loading(replica));
    ck_assert_uint_eq(look().snapshot.index, asked.info.index);
}
END_TEST

START_TEST(its_rate_is_kept)
{
    struct asked asked;

    toy.filler = 4u << 20;
    config.snapshots.rate = 1u << 20;
    replica_snapshot_configure(replica, &config.snapshots);
    write_entries(1);
    ask(&asked);
    turns(2000); /* two seconds */
    ck_assert_uint_eq(asked.answers, 0);
    ck_assert_uint_ge(look().snapshot_bytes_written, 1u << 20);
    ck_assert_uint_le(look().snapshot_bytes_written, 5u << 19);
    turns(3000);
    ck_assert_int_eq(asked.status, REPLICA_OK);
}
END_TEST

START_TEST(the_size_of_the_log_asks_for_one)
{
    config.snapshots.log_bytes = 10 * sizeof(struct toy_entry);
    replica_snapshot_configure(replica, &config.snapshots);
    write_entries(9);
    turns(50);
    ck_assert_uint_eq(look().snapshots_taken, 0);
    write_entries(2);
    turns(50);
    ck_assert_uint_eq(look().snapshots_taken, 1);
    ck_assert_uint_lt(look().log_bytes_since, 4 * sizeof(struct toy_entry));
}
END_TEST

START_TEST(age_asks_for_one_if_anything_changed)
{
    config.snapshots.age_s = 1;
    replica_snapshot_configure(replica, &config.snapshots);
    write_entries(1);
    turns(1200);
    ck_assert_uint_eq(look().snapshots_taken, 1);
    turns(3000);
    ck_assert_uint_eq(look().snapshots_taken, 1);
}
END_TEST

/* --- The log
 * ----------------------------------------------------------------------------------------------------------- */

START_TEST(the_log_before_it_goes)
{
    config.snapshots.keep_bytes = 0;
    replica_snapshot_configure(replica, &config.snapshots);
    write_entries(60);
    ck_assert_uint_eq(look().first, 1);
    const uint64_t index = take();
    turns(50);
    ck_assert_uint_gt(look().first, 30);
    ck_assert_uint_le(look().first, index + 1);
    write_entries(20); /* and goes on */
    const uint64_t sum = toy.sum;
    close_replica();
    open_replica();
    turns(100);
    ck_assert_uint_eq(toy.sum, sum);
}
END_TEST

START_TEST(what_is_kept_for_followers_stays)
{
    config.snapshots.keep_bytes = 40 * sizeof(struct toy_entry);
    replica_snapshot_configure(replica, &config.snapshots);
    write_entries(100);
    const uint64_t index = take();
    turns(50);
    ck_assert_uint_gt(look().first, 1);
    ck_assert_uint_le(look().first, index - 30);
}
END_TEST

/* --- Failing
 * ----------------------------------------------------------------------------------------------------------- */

START_TEST(outrun_by_writes_it_is_tried_again)
{
    struct asked asked;

    write_entries(1);
    toy.overflow = true;
    ask(&asked);
    turns(20);
    ck_assert_uint_eq(asked.answers, 1);
    ck_assert_int_eq(asked.status, REPLICA_BUSY);
    ck_assert_uint_eq(look().snapshots_failed, 1);
    toy.overflow = false;
    config.snapshots.log_bytes = 1;
    replica_snapshot_configure(replica, &config.snapshots);
    turns(100);
    ck_assert_uint_eq(look().snapshots_taken, 0); /* not at once */
    turns(6000);
    ck_assert_uint_eq(look().snapshots_taken, 1);
}
END_TEST

START_TEST(broken_content_is_told)
{
    struct asked asked;

    write_entries(1);
    toy.broken = true;
    ask(&asked);
    turns(20);
    ck_assert_int_eq(asked.status, REPLICA_CORRUPT);
    ck_assert_uint_eq(look().snapshot.index, 0);
}
END_TEST

/* The request of this kind, once it comes, fails. */
static void fail_at(enum env_disk_op op, enum env_status status, enum replica_status expected)
{
    struct asked asked;

    write_entries(1);
    const unsigned files = mem_env_file_count(mem);
    ask(&asked);
    bool failed = false;
    for (unsigned i = 0; i < 1000 && !failed; i++) {
        replica_turn_end(replica);
        mem_env_advance(mem, 1000);
        failed = mem_env_complete_op(mem, op, status);
        if (!failed && mem_env_pending(mem) > 0) {
            mem_env_complete(mem, 0, ENV_OK);
        }
    }
    ck_assert(failed);
    turns(50);
    ck_assert_uint_eq(asked.answers, 1);
    ck_assert_int_eq(asked.status, expected);
    ck_assert_uint_eq(mem_env_file_count(mem), files); /* nothing is left behind */
    ck_assert_uint_eq(look().first, 1);
    ck_assert_uint_eq(look().snapshot.index, 0);
    (void)take(); /* works again */
}

START_TEST(a_full_disk_costs_nothing_but_time)
{
    fail_at(ENV_DISK_BULK_CREATE, ENV_NO_SPACE, REPLICA_NO_SPACE);
}
END_TEST

START_TEST(a_failed_sync_costs_nothing_but_time)
{
    fail_at(ENV_DISK_SYNC, ENV_IO, REPLICA_IO);
}
END_TEST

START_TEST(a_failed_rename_costs_nothing_but_time)
{
    fail_at(ENV_DISK_RENAME, ENV_IO, REPLICA_IO);
}
END_TEST

START_TEST(closing_ends_it)
{
    struct asked asked;

    toy.filler = 8u << 20;
    write_entries(1);
    ask(&asked);
    replica_turn_end(replica);
    close_replica();
    ck_assert_uint_eq(asked.answers, 1);
    ck_assert_int_eq(asked.status, REPLICA_BUSY);
}
END_TEST

/* --- Starting
 * ---------------------------------------------------------------------------------------------------------- */

START_TEST(a_start_loads_it_and_replays_the_rest)
{
    write_entries(5);
    const uint64_t index = take();
    write_entries(4);
    const struct toy before = toy;
    close_replica();
    open_replica();
    ck_assert(replica_is_loading(replica));
    ck_assert_int_eq(look().role, REPLICA_DOWN);
    struct asked asked = {.request = {.data = &asked, .cb = asked_cb}};
    ck_assert_int_eq(replica_snapshot_take(replica, &asked.request), REPLICA_BUSY);
    turns(100);
    ck_assert(!replica_is_loading(replica));
    ck_assert_uint_eq(toy.sum, before.sum);
    ck_assert_uint_eq(toy.revision, before.revision);
    ck_assert_uint_eq(look().snapshot.index, index);
    write_entries(2);
}
END_TEST

START_TEST(a_damaged_one_falls_back_to_the_one_before)
{
    write_entries(5);
    const uint64_t older = take();
    write_entries(5);
    const uint64_t newer = take();
    const uint64_t sum = toy.sum;
    const uint64_t term = look().snapshot.term;
    close_replica();
    damage(newer, term);
    open_replica();
    turns(100);
    ck_assert(!replica_is_loading(replica));
    ck_assert_uint_eq(look().snapshot.index, older);
    ck_assert_uint_eq(toy.sum, sum); /* the log had the rest */
}
END_TEST

START_TEST(without_any_the_whole_log_serves)
{
    write_entries(5);
    const uint64_t index = take();
    const uint64_t sum = toy.sum;
    const uint64_t term = look().snapshot.term;
    close_replica();
    damage(index, term);
    open_replica();
    turns(100);
    ck_assert(!replica_is_loading(replica));
    ck_assert_uint_eq(toy.sum, sum);
}
END_TEST

START_TEST(a_log_that_does_not_reach_back_stops_the_node)
{
    config.snapshots.keep_bytes = 0;
    replica_snapshot_configure(replica, &config.snapshots);
    write_entries(60);
    const uint64_t index = take();
    turns(50);
    const uint64_t term = look().snapshot.term;
    close_replica();
    damage(index, term);
    open_replica();
    turns(100);
    ck_assert_ptr_nonnull(strstr(mem_env_log(mem), "fail-stop: entries from 1 to"));
    replica_close(replica);
    replica = NULL;
}
END_TEST

START_TEST(content_that_is_not_what_the_file_says_is_damage)
{
    toy.lies = true;
    write_entries(5);
    (void)take();
    const uint64_t sum = toy.sum;
    close_replica();
    open_replica();
    turns(100);
    ck_assert(!replica_is_loading(replica));
    ck_assert_uint_eq(toy.sum, sum); /* from the log */
    ck_assert_uint_eq(look().snapshot.index, 0);
}
END_TEST

START_TEST(closing_ends_loading)
{
    toy.filler = 8u << 20;
    write_entries(1);
    (void)take();
    close_replica();
    open_replica();
    turns(1);
    ck_assert(replica_is_loading(replica));
    close_replica();
}
END_TEST

/* A supervisor starts it again: what made the first start refuse must still be seen. */
START_TEST(a_node_that_lost_its_votes_is_refused_each_time)
{
    static const struct replica_server three[] = {{.id = 1, .address = "a", .voter = true},
                                                  {.id = 2, .address = "b", .voter = true},
                                                  {.id = 3, .address = "c", .voter = true}};
    const char *error = "";

    close_replica();
    mem_env_free(mem);
    mem = mem_env_new(8);
    config.servers = three;
    config.n_servers = 3;
    open_replica();
    turns(5);
    ck_assert_uint_eq(look().last, 1); /* of the first term, as long as nobody was elected */
    close_replica();
    mem_env_file_remove(mem, "state");
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(replica_open(mem_env_env(mem), &config, &replica, &error), REPLICA_CORRUPT);
        ck_assert_ptr_nonnull(strstr(error, "must not vote again"));
        replica = NULL;
        mem_env_run(mem);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica_snapshot");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, it_is_answered_once_it_is_durable);
    tcase_add_test(tcase, without_a_change_the_last_one_serves);
    tcase_add_test(tcase, what_was_asked_for_meanwhile_sees_what_was_applied_meanwhile);
    tcase_add_test(tcase, a_request_may_be_taken_back);
    tcase_add_test(tcase, the_writer_holds_it_back);
    tcase_add_test(tcase, its_rate_is_kept);
    tcase_add_test(tcase, the_size_of_the_log_asks_for_one);
    tcase_add_test(tcase, age_asks_for_one_if_anything_changed);
    tcase_add_test(tcase, the_log_before_it_goes);
    tcase_add_test(tcase, what_is_kept_for_followers_stays);
    tcase_add_test(tcase, outrun_by_writes_it_is_tried_again);
    tcase_add_test(tcase, broken_content_is_told);
    tcase_add_test(tcase, a_full_disk_costs_nothing_but_time);
    tcase_add_test(tcase, a_failed_sync_costs_nothing_but_time);
    tcase_add_test(tcase, a_failed_rename_costs_nothing_but_time);
    tcase_add_test(tcase, closing_ends_it);
    tcase_add_test(tcase, a_start_loads_it_and_replays_the_rest);
    tcase_add_test(tcase, a_damaged_one_falls_back_to_the_one_before);
    tcase_add_test(tcase, without_any_the_whole_log_serves);
    tcase_add_test(tcase, a_log_that_does_not_reach_back_stops_the_node);
    tcase_add_test(tcase, content_that_is_not_what_the_file_says_is_damage);
    tcase_add_test(tcase, closing_ends_loading);
    tcase_add_test(tcase, a_node_that_lost_its_votes_is_refused_each_time);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
