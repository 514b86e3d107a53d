#include "store_probe.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static struct iovec text(const char *s)
{
    return (struct iovec){.iov_base = (void *)s, .iov_len = strlen(s)};
}

static uint64_t revision_of(const struct probe *probe, const char *key)
{
    return store_key_revision(probe->store, key, strlen(key));
}

/* --- Transactions ------------------------------------------------------------------------------------------------- */

static struct iovec set_a[] = {{"set", 3}, {"a", 1}, {"1", 1}};
static struct iovec incr_a[] = {{"incr", 4}, {"a", 1}};
static struct iovec incr_text[] = {{"incr", 4}, {"text", 4}};
static struct iovec ping[] = {{"ping", 4}};
static const struct store_queued queued[] = {
    {.argv = set_a, .argc = 3}, {.argv = incr_text, .argc = 2}, {.argv = incr_a, .argc = 2}, {.argv = ping, .argc = 1}};

static const char *transact(struct probe *probe, const struct store_watch *watches, unsigned n_watches)
{
    probe->len = 0;
    struct store_batch batch;
    store_batch_init(&batch, PROBE_BATCH_BYTES_MAX);
    ck_assert_int_eq(store_batch_add_transaction(&batch, watches, n_watches, queued, 4), STORE_OK);
    probe_seal(probe, &batch, &probe->base);
    return probe->text;
}

START_TEST(transaction_executes_all_commands_even_past_an_error)
{
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "set text words");
    ck_assert_str_eq(transact(&probe, NULL, 0), "*4 +OK -ERR value is not an integer or out of range :2 +PONG");
    ck_assert_str_eq(probe_ask(&probe, "get a"), "$2");
    probe_fini(&probe);
}
END_TEST

static const struct {
    const char *before, *between;
    uint64_t pass_ms;
    bool executes;
} watch_cases[] = {
    {"set w 1", "get w", 0, true},
    {"set w 1", "set other 1", 0, true},
    {"set w 1", "set w 1", 0, false},
    {"set w 1", "del w", 0, false},
    {"set w 1", "expire w 1000", 0, false},
    {"set w 1", "append w x", 0, false},
    {"set w 1", "flushall", 0, false},
    {"set w 1", "rename w v", 0, false},
    {"set w 1; set v 1", "rename v w", 0, false},
    {"set w 1 px 50", "get w", 49, true},
    {"set w 1 px 50", "get w", 50, false},
    {"del w", "get w", 0, true},
    {"del w", "set w 1", 0, false},
    {"set w 1 px 50", "persist w", 60, false},
};

START_TEST(transaction_does_nothing_if_a_watched_key_changed)
{
    struct probe probe;
    probe_init(&probe);
    probe_script(&probe, watch_cases[_i].before);
    probe_script(&probe, "set text words; set still 1");
    /* The one that may change comes first. */
    struct store_watch watches[] = {{.key = text("w"), .revision = revision_of(&probe, "w")},
                                    {.key = text("still"), .revision = revision_of(&probe, "still")}};
    probe_script(&probe, watch_cases[_i].between);
    probe.time_ms += watch_cases[_i].pass_ms;
    uint64_t digest = store_digest(probe.store);
    const char *reply = transact(&probe, watches, 2);
    ck_assert_int_eq(strcmp(reply, "*_") != 0, watch_cases[_i].executes);
    ck_assert_int_eq(store_key_revision(probe.store, "a", 1) != 0, watch_cases[_i].executes);
    if (watch_cases[_i].pass_ms == 0) {
        ck_assert_int_eq(store_digest(probe.store) != digest, watch_cases[_i].executes);
    }
    probe_fini(&probe);
}
END_TEST

/* --- Apply -------------------------------------------------------------------------------------------------------- */

struct order {
    struct probe *probe;
    unsigned next;
    uint64_t revisions[8];
};

static struct store_reply *order_begin(void *ctx, unsigned i)
{
    struct order *order = ctx;
    ck_assert_uint_eq(i, order->next);
    return i == 1 ? NULL : &order->probe->base;
}

static void order_end(void *ctx, unsigned i)
{
    struct order *order = ctx;
    ck_assert_uint_eq(i, order->next);
    order->revisions[order->next++] = store_revision(order->probe->store);
}

START_TEST(hooks_see_the_store_after_each_command_and_may_decline_replies)
{
    struct probe probe;
    probe_init(&probe);
    struct store_batch batch;
    store_batch_init(&batch, 4096);
    ck_assert_int_eq(store_batch_add(&batch, set_a, 3), STORE_OK);
    ck_assert_int_eq(store_batch_add(&batch, incr_a, 2), STORE_OK);
    ck_assert_int_eq(store_batch_add(&batch, incr_a, 2), STORE_OK);
    void *data;
    size_t len;
    ck_assert_int_eq(store_batch_seal(&batch, 1, &data, &len), STORE_OK);
    struct order order = {.probe = &probe};
    const struct store_apply_hooks hooks = {.ctx = &order, .begin = order_begin, .end = order_end};
    store_apply(probe.store, data, len, &hooks);
    ck_assert_uint_eq(order.next, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(order.revisions[i], i + 1);
    }
    ck_assert_str_eq(probe.text, "+OK :3");
    free(data);
    store_batch_fini(&batch);
    probe_fini(&probe);
}
END_TEST

START_TEST(time_moves_before_the_commands_of_its_entry)
{
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "set k v px 100");
    probe.time_ms += 100;
    ck_assert_str_eq(probe_ask(&probe, "append k w"), ":1");
    ck_assert_uint_eq(store_time_ms(probe.store), probe.time_ms);
    probe_fini(&probe);
}
END_TEST

START_TEST(entry_of_an_earlier_time_does_not_move_time_back)
{
    struct probe probe;
    probe_init(&probe);
    probe_ask(&probe, "set k v px 100");
    probe_advance(&probe, 100);
    uint64_t now = store_time_ms(probe.store);
    probe.time_ms -= 50;
    ck_assert_str_eq(probe_ask(&probe, "set other v"), "+OK");
    ck_assert_uint_eq(store_time_ms(probe.store), now);
    ck_assert_str_eq(probe_ask(&probe, "get k"), "_");
    probe_fini(&probe);
}
END_TEST

static void set_volatile_keys(struct probe *probe, unsigned n, uint64_t deadline_ms)
{
    struct store_batch batch;
    store_batch_init(&batch, PROBE_BATCH_BYTES_MAX);
    char at[32];
    snprintf(at, sizeof at, "%llu", (unsigned long long)deadline_ms);
    for (unsigned i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "volatile%u", i);
        struct iovec argv[] = {text("set"), text(name), text("v"), text("pxat"), text(at)};
        ck_assert_int_eq(store_batch_add(&batch, argv, 5), STORE_OK);
    }
    probe_seal(probe, &batch, NULL);
}

START_TEST(expiry_is_bounded_per_entry_and_dead_keys_are_hidden_meanwhile)
{
    struct probe probe;
    probe_init(&probe);
    set_volatile_keys(&probe, 5000, PROBE_START_MS + 10);
    ck_assert_uint_eq(store_keys(probe.store), 5000);
    probe_advance(&probe, 10);
    ck_assert_uint_eq(store_keys(probe.store), 5000 - 1024);
    ck_assert_uint_eq(store_next_deadline_ms(probe.store), PROBE_START_MS + 10);
    probe_ask(&probe, "set other v");
    ck_assert_uint_eq(store_keys(probe.store), 5000 - 1024 - 260 + 1);
    for (unsigned i = 0; i < 5000; i++) {
        char line[32];
        snprintf(line, sizeof line, "get volatile%u", i);
        ck_assert_str_eq(probe_ask(&probe, line), "_");
    }
    for (unsigned i = 0; i < 4; i++) {
        probe_advance(&probe, 0);
    }
    ck_assert_uint_eq(store_keys(probe.store), 1);
    ck_assert_uint_eq(store_next_deadline_ms(probe.store), UINT64_MAX);
    ck_assert_uint_eq(store_revision(probe.store), 10001);
    probe_fini(&probe);
}
END_TEST

START_TEST(commands_with_many_arguments_apply)
{
    enum { KEYS = 20000 };
    struct probe probe;
    probe_init(&probe);
    struct iovec *argv = calloc(1 + 2 * KEYS, sizeof *argv);
    char(*names)[16] = calloc(KEYS, sizeof *names);
    ck_assert_ptr_nonnull(argv);
    ck_assert_ptr_nonnull(names);
    argv[0] = text("mset");
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof names[i], "k%u", i);
        argv[1 + 2 * i] = argv[2 + 2 * i] = text(names[i]);
    }
    ck_assert_str_eq(probe_execute(&probe, argv, 1 + 2 * KEYS), "+OK");
    ck_assert_uint_eq(store_keys(probe.store), KEYS);
    ck_assert_str_eq(probe_ask(&probe, "get k19999"), "$k19999");
    free(names);
    free(argv);
    probe_fini(&probe);
}
END_TEST

/* A stream of commands in entries of random size, applied to stores that differ in everything that must not matter. */
START_TEST(equal_entries_give_equal_content_whatever_the_seed_and_the_listener)
{
    struct probe probe;
    probe_init(&probe);
    struct store *other = store_new(&(struct store_config){.hash_seed = 4711});
    store_seed_reads(other, 99);
    uint64_t random = 0x2545f4914f6cdd1du + (uint64_t)_i;
    for (unsigned entry = 0; entry < 400; entry++) {
        struct store_batch batch;
        store_batch_init(&batch, PROBE_BATCH_BYTES_MAX);
        for (unsigned n = (unsigned)(random >> 20 & 63); n > 0; n--) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            char name[16];
            char to[16];
            char number[24];
            snprintf(name, sizeof name, "k%u", (unsigned)(random >> 33 & 255));
            snprintf(to, sizeof to, "k%u", (unsigned)(random >> 41 & 255));
            snprintf(number, sizeof number, "%u", (unsigned)(random >> 50 & 127) + 1);
            struct iovec commands[][5] = {{text("set"), text(name), text(number)},
                                          {text("incrby"), text(name), text(number)},
                                          {text("set"), text(name), text("v"), text("pxat"), text(number)},
                                          {text("append"), text(name), text(number)},
                                          {text("rename"), text(name), text(to)},
                                          {text("copy"), text(name), text(to), text("replace")},
                                          {text("pexpireat"), text(name), text("1700000000500")},
                                          {text("del"), text(name), text(to)}};
            static const unsigned argcs[] = {3, 3, 5, 3, 3, 4, 3, 3};
            unsigned i = (unsigned)(random >> 57) % 8;
            ck_assert_int_eq(store_batch_add(&batch, commands[i], argcs[i]), STORE_OK);
        }
        void *data;
        size_t len;
        random = random * 6364136223846793005u + 1442695040888963407u;
        probe.time_ms += random >> 62;
        ck_assert_int_eq(store_batch_seal(&batch, probe.time_ms, &data, &len), STORE_OK);
        const struct store_apply_hooks hooks = {.ctx = &probe.base, .begin = probe_begin, .end = probe_end};
        store_apply(probe.store, data, len, &hooks);
        store_apply(other, data, len, NULL);
        (void)probe_ask(&probe, "randomkey");
        free(data);
        ck_assert_uint_eq(store_revision(probe.store), store_revision(other));
        ck_assert_uint_eq(store_digest(probe.store), store_digest(other));
        ck_assert_uint_eq(store_memory(probe.store), store_memory(other));
        probe.len = 0;
    }
    ck_assert_uint_gt(store_revision(other), 3000);
    store_free(other);
    probe_fini(&probe);
}
END_TEST

static uint64_t digest_words(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t words[] = {a, b, c, d};
    return XXH3_64bits(words, sizeof words);
}

START_TEST(digest_has_the_documented_value)
{
    /* docs/FORMATS.md, Digest of the content: nodes of different builds compare it. */
    struct probe probe;
    probe_init(&probe);
    probe_script(&probe, "set k value; set volatile v px 1000");
    uint64_t k = digest_words(XXH3_64bits("kvalue", 6), 1 << 8, UINT64_MAX, 1);
    uint64_t other = digest_words(XXH3_64bits("volatilev", 9), 8 << 8, PROBE_START_MS + 1000, 2);
    ck_assert_uint_eq(store_digest(probe.store), digest_words(k + other, 2, 2, PROBE_START_MS));
    probe_fini(&probe);
}
END_TEST

/* --- Commands of the core -------------------------------------------------------------------------------------------
 */

static const struct probe_row rows[] = {
    {"ping", "+PONG"},
    {"PING hello", "$hello"},
    {"ping a b", "-ERR wrong number of arguments for 'ping' command"},
    {"echo hello", "$hello"},
    {"echo", "-ERR wrong number of arguments for 'echo' command"},
    {"lockstep.revision k", "*1 :0"},
    {"set a 1; set k 1; lockstep.revision k absent a", "*3 :2 :0 :1"},
    {"set k 1; get k; set a 1; expire k 100; lockstep.revision k", "*1 :3"},
    {"lockstep.revision", "-ERR wrong number of arguments for 'lockstep.revision' command"},
};

START_TEST(core_commands_reply)
{
    probe_check_row(&rows[_i]);
}
END_TEST

START_TEST(stats_count_reads_and_expiries_of_this_process)
{
    struct probe probe;
    probe_init(&probe);
    probe_script(&probe, "set k v px 10; get k; get k; get absent");
    probe_advance(&probe, 10);
    struct store_stats stats;
    store_stats(probe.store, &stats);
    ck_assert_uint_eq(stats.hits, 2);
    ck_assert_uint_eq(stats.misses, 1);
    ck_assert_uint_eq(stats.expired, 1);
    ck_assert_uint_gt(stats.table_bytes, 0);
    ck_assert_uint_gt(stats.entry_bytes, 0);
    store_stats_reset(probe.store);
    store_stats(probe.store, &stats);
    ck_assert_uint_eq(stats.hits + stats.misses + stats.expired, 0);
    probe_fini(&probe);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, transaction_executes_all_commands_even_past_an_error);
    tcase_add_loop_test(tests, transaction_does_nothing_if_a_watched_key_changed, 0,
                        (int)(sizeof watch_cases / sizeof watch_cases[0]));
    tcase_add_test(tests, hooks_see_the_store_after_each_command_and_may_decline_replies);
    tcase_add_test(tests, time_moves_before_the_commands_of_its_entry);
    tcase_add_test(tests, entry_of_an_earlier_time_does_not_move_time_back);
    tcase_add_test(tests, expiry_is_bounded_per_entry_and_dead_keys_are_hidden_meanwhile);
    tcase_add_test(tests, commands_with_many_arguments_apply);
    tcase_add_loop_test(tests, equal_entries_give_equal_content_whatever_the_seed_and_the_listener, 0, 4);
    tcase_add_test(tests, digest_has_the_documented_value);
    tcase_add_loop_test(tests, core_commands_reply, 0, (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tests, stats_count_reads_and_expiries_of_this_process);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
