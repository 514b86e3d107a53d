/* Reading entries back from disk, and the map that knows where they are. */
#include "tests/unit/wal_fixture.h"

#include "consensus/wal_index.h"

#define LEN 600u

struct got {
    unsigned calls;
    enum wal_status status;
    uint64_t first;
    unsigned n;
    bool good; /* contents are right */
};

static void got_cb(struct wal_read *read, enum wal_status status, const struct wal_entry *entries, unsigned n)
{
    struct got *got = read->data;
    uint8_t want[LEN];
    got->calls++;
    got->status = status;
    got->n = n;
    got->first = n > 0 ? entries[0].index : 0;
    got->good = true;
    for (unsigned i = 0; i < n; i++) {
        fix_fill(want, entries[i].index, entries[i].term, LEN);
        got->good = got->good && entries[i].index == entries[0].index + i && entries[i].len == LEN &&
                    entries[i].type == fix_type(entries[i].index) && memcmp(entries[i].data, want, LEN) == 0;
    }
}

struct read_fix {
    struct fix fix;
    struct wal_read read;
    struct got got;
};

static void setup(struct read_fix *r, uint64_t last)
{
    memset(r, 0, sizeof *r);
    fix_init(&r->fix);
    fix_open(&r->fix);
    if (last > 0) {
        fix_append_durable(&r->fix, 1, last, 1, LEN);
    }
    r->read.data = &r->got;
    r->read.cb = got_cb;
}

static void teardown(struct read_fix *r)
{
    wal_read_fini(r->fix.wal, &r->read);
    fix_fini(&r->fix);
}

static void start(struct read_fix *r, uint64_t first, uint64_t last, size_t bytes_max, unsigned entries_max)
{
    r->got = (struct got){0};
    ck_assert_int_eq(wal_read_start(r->fix.wal, &r->read, first, last, bytes_max, entries_max), WAL_OK);
    ck_assert_uint_eq(r->got.calls, 0); /* never from inside the call */
}

static void finish(struct read_fix *r)
{
    mem_env_run(r->fix.mem);
    mem_env_advance(r->fix.mem, 0);
    ck_assert_uint_eq(r->got.calls, 1);
}

START_TEST(a_whole_log_is_read_back_in_pieces)
{
    struct read_fix r;
    setup(&r, 300);
    uint64_t next = 1;
    while (next <= 300) {
        start(&r, next, 300, 10000, 1000);
        finish(&r);
        ck_assert_int_eq(r.got.status, WAL_OK);
        ck_assert_uint_ge(r.got.n, 1);
        ck_assert_uint_le(r.got.n, 10000 / LEN);
        ck_assert_uint_eq(r.got.first, next);
        ck_assert(r.got.good);
        next += r.got.n;
    }
    teardown(&r);
}
END_TEST

START_TEST(the_bound_on_entries_holds)
{
    struct read_fix r;
    setup(&r, 20);
    start(&r, 5, 20, 100000, 3);
    finish(&r);
    ck_assert_uint_eq(r.got.first, 5);
    ck_assert_uint_eq(r.got.n, 3);
    teardown(&r);
}
END_TEST

START_TEST(at_least_one_entry_is_given_however_small_the_bound)
{
    struct read_fix r;
    setup(&r, 5);
    start(&r, 2, 5, 1, 10);
    finish(&r);
    ck_assert_uint_eq(r.got.n, 1);
    ck_assert(r.got.good);
    teardown(&r);
}
END_TEST

START_TEST(only_durable_entries_are_given)
{
    struct read_fix r;
    setup(&r, 5);
    fix_append(&r.fix, 6, 9, 1, LEN);
    start(&r, 4, 9, 100000, 10);
    finish(&r);
    ck_assert_uint_eq(r.got.n, 2);
    start(&r, 6, 9, 100000, 10);
    finish(&r);
    ck_assert_int_eq(r.got.status, WAL_OK);
    ck_assert_uint_eq(r.got.n, 0);
    teardown(&r);
}
END_TEST

START_TEST(entries_replaced_during_the_read_are_not_given)
{
    struct read_fix r;
    setup(&r, 10);
    start(&r, 3, 10, 100000, 100);
    fix_append(&r.fix, 6, 6, 2, LEN);
    finish(&r);
    ck_assert_int_eq(r.got.status, WAL_OK);
    ck_assert_uint_eq(r.got.n, 3);
    start(&r, 3, 5, 100000, 100);
    fix_append(&r.fix, 2, 2, 3, LEN);
    finish(&r);
    ck_assert_uint_eq(r.got.n, 0);
    teardown(&r);
}
END_TEST

START_TEST(reads_skip_what_was_replaced_before)
{
    struct read_fix r;
    setup(&r, 10);
    fix_append_durable(&r.fix, 4, 12, 2, LEN);
    start(&r, 1, 12, 100000, 100);
    finish(&r);
    ck_assert_uint_ge(r.got.n, 4);
    ck_assert(r.got.good);
    teardown(&r);
}
END_TEST

START_TEST(one_read_at_a_time)
{
    struct read_fix r;
    setup(&r, 5);
    start(&r, 1, 5, 100000, 100);
    ck_assert_int_eq(wal_read_start(r.fix.wal, &r.read, 1, 5, 1000, 1), WAL_BUSY);
    finish(&r);
    start(&r, 1, 5, 100000, 100);
    finish(&r);
    ck_assert_uint_eq(r.got.n, 5);
    teardown(&r);
}
END_TEST

START_TEST(a_read_given_up_in_flight_never_calls_back)
{
    struct read_fix r;
    setup(&r, 5);
    start(&r, 1, 5, 100000, 100);
    wal_read_fini(r.fix.wal, &r.read);
    mem_env_run(r.fix.mem);
    ck_assert_uint_eq(r.got.calls, 0);
    start(&r, 5, 5, 100000, 100);
    wal_read_fini(r.fix.wal, &r.read);
    wal_close(r.fix.wal); /* before the read completes */
    r.fix.wal = NULL;
    mem_env_run(r.fix.mem);
    ck_assert_uint_eq(r.got.calls, 0);
    fix_fini(&r.fix);
}
END_TEST

START_TEST(an_early_read_given_up_never_calls_back)
{
    struct read_fix r;
    setup(&r, 0);
    start(&r, 1, 5, 100000, 100);
    wal_read_fini(r.fix.wal, &r.read);
    mem_env_advance(r.fix.mem, 1000);
    ck_assert_uint_eq(r.got.calls, 0);
    fix_fini(&r.fix);
}
END_TEST

START_TEST(damage_found_by_a_read_is_reported)
{
    struct read_fix r;
    setup(&r, 50);
    mem_env_file(r.fix.mem, "wal-00000001", NULL)[3000] ^= 4;
    start(&r, 1, 50, 100000, 100);
    finish(&r);
    ck_assert_int_eq(r.got.status, WAL_CORRUPT);
    ck_assert_uint_eq(r.got.n, 0);
    void *data;
    size_t len;
    ck_assert_int_eq(wal_read_sync(r.fix.wal, 5, &data, &len), WAL_CORRUPT);
    teardown(&r);
}
END_TEST

START_TEST(a_failing_disk_is_reported)
{
    struct read_fix r;
    setup(&r, 5);
    mem_env_fail_reads(r.fix.mem, true);
    start(&r, 1, 5, 100000, 100);
    finish(&r);
    ck_assert_int_eq(r.got.status, WAL_IO);
    mem_env_fail_reads(r.fix.mem, false);
    teardown(&r);
}
END_TEST

START_TEST(reading_old_segments_keeps_few_files_open)
{
    struct read_fix r;
    setup(&r, 2000);
    struct wal_stats stats;
    wal_stats(r.fix.wal, &stats);
    ck_assert_uint_ge(stats.segments, 30);
    for (uint64_t i = 1; i <= 2000; i += 37) {
        uint64_t index = i * 613 % 2000 + 1;
        start(&r, index, index, 1, 1);
        finish(&r);
        ck_assert(r.got.good);
        ck_assert_uint_eq(r.got.n, 1);
        ck_assert_uint_le(mem_env_open_files(r.fix.mem), 18);
    }
    teardown(&r);
}
END_TEST

START_TEST(the_map_agrees_with_a_plain_array)
{
    enum { MAX = 20000 };
    static struct wal_place model[MAX + 1];
    struct wal_index index;
    wal_index_init(&index, 1);
    uint64_t x = 7;
    uint64_t term = 1;
    uint32_t generation = 1;
    uint64_t offset = 64;
    for (int step = 0; step < 60000; step++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        unsigned dice = (unsigned)(x >> 33) % 1000;
        if (dice < 3) {
            uint64_t back = (x >> 45) % 3000;
            wal_index_truncate(&index, index.last > back ? index.last - back + 1 : 1);
            term++;
        } else if (dice < 5) {
            generation++;
            offset = 64;
        }
        if (index.last < MAX) {
            struct wal_place place = {.term = term,
                                      .offset = offset,
                                      .generation = generation,
                                      .len = (uint32_t)(x >> 40) % 1000,
                                      .type = (uint8_t)(1 + (x >> 50) % 3)};
            ck_assert(wal_index_reserve(&index, index.last + 1, 1, 1));
            wal_index_push(&index, &place);
            model[index.last] = place;
            offset += 80 + 8 * (x >> 60);
        }
        if (index.last > 0) {
            uint64_t at = 1 + (x >> 20) % index.last;
            struct wal_place place;
            wal_index_get(&index, at, &place);
            ck_assert_uint_eq(place.term, model[at].term);
            ck_assert_uint_eq(place.offset, model[at].offset);
            ck_assert_uint_eq(place.generation, model[at].generation);
            ck_assert_uint_eq(place.len, model[at].len);
            ck_assert_uint_eq(place.type, model[at].type);
        }
    }
    wal_index_fini(&index);
}
END_TEST

START_TEST(an_entry_costs_eight_bytes_of_memory)
{
    ck_assert_uint_eq(sizeof(struct wal_slot), 8);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("read");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, a_whole_log_is_read_back_in_pieces);
    tcase_add_test(cases, the_bound_on_entries_holds);
    tcase_add_test(cases, at_least_one_entry_is_given_however_small_the_bound);
    tcase_add_test(cases, only_durable_entries_are_given);
    tcase_add_test(cases, entries_replaced_during_the_read_are_not_given);
    tcase_add_test(cases, reads_skip_what_was_replaced_before);
    tcase_add_test(cases, one_read_at_a_time);
    tcase_add_test(cases, a_read_given_up_in_flight_never_calls_back);
    tcase_add_test(cases, an_early_read_given_up_never_calls_back);
    tcase_add_test(cases, damage_found_by_a_read_is_reported);
    tcase_add_test(cases, a_failing_disk_is_reported);
    tcase_add_test(cases, reading_old_segments_keeps_few_files_open);
    tcase_add_test(cases, the_map_agrees_with_a_plain_array);
    tcase_add_test(cases, an_entry_costs_eight_bytes_of_memory);
    Suite *suite = suite_create("wal_read");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
