/* store_apply_until: an entry applied up to a revision leaves exactly the content that applying it whole passes through
 * at that revision. */
#include "tests/unit/store_probe.h"

#define DEAD 300u /* keys that are due when the entry comes: more than it may remove */
#define POINTS_MAX 64u

static void *entry;
static size_t entry_len;

/* A store in which many keys are about to die. */
static void begin(struct probe *probe)
{
    char line[64];
    probe_init(probe);
    for (unsigned i = 0; i < DEAD; i++) {
        snprintf(line, sizeof line, "set dead:%u x px 1000", i);
        (void)probe_ask(probe, line);
    }
    (void)probe_ask(probe, "set counter 10");
    probe->time_ms += 2000;
}

static void add(struct store_batch *batch, const char *a, const char *b, const char *c)
{
    const char *words[] = {a, b, c};
    struct iovec argv[8];
    unsigned argc = 0;
    for (; argc < 3 && words[argc] != NULL; argc++) {
        argv[argc] = (struct iovec){(void *)(uintptr_t)words[argc], strlen(words[argc])};
    }
    ck_assert_int_eq(store_batch_add(batch, argv, argc), STORE_OK);
}

static void build(const struct probe *probe)
{
    struct store_batch batch;
    const struct iovec mset[] = {{"mset", 4}, {"a", 1}, {"1", 1}, {"b", 1}, {"2", 1}, {"c", 1}, {"3", 1}};
    const struct iovec incr[] = {{"incr", 4}, {"counter", 7}};
    const struct store_queued queued[] = {{incr, 2}, {incr, 2}};
    store_batch_init(&batch, PROBE_BATCH_BYTES_MAX);
    add(&batch, "set", "first", "1");
    add(&batch, "del", "nothing", NULL);
    add(&batch, "set", "dead:299", "alive"); /* perhaps dead, and not yet removed */
    ck_assert_int_eq(store_batch_add(&batch, mset, 7), STORE_OK);
    ck_assert_int_eq(store_batch_add_transaction(&batch, NULL, 0, queued, 2), STORE_OK);
    add(&batch, "append", "first", "2");
    ck_assert_int_eq(store_batch_seal(&batch, probe->time_ms, &entry, &entry_len), STORE_OK);
    store_batch_fini(&batch);
    ck_assert_int_eq(store_entry_check(entry, entry_len), STORE_OK);
}

struct points {
    const struct store *store;
    uint64_t revision[POINTS_MAX], digest[POINTS_MAX];
    unsigned n;
};

static void end_cb(void *ctx, unsigned i)
{
    struct points *p = ctx;
    (void)i;
    p->revision[p->n] = store_revision(p->store);
    p->digest[p->n++] = store_digest(p->store);
}

static struct points *whole(struct probe *probe)
{
    struct points *p = calloc(1, sizeof *p);
    ck_assert_ptr_nonnull(p);
    p->store = probe->store;
    const struct store_apply_hooks hooks = {.ctx = p, .end = end_cb};
    store_apply(probe->store, entry, entry_len, &hooks);
    return p;
}

static const uint64_t *digest_at(const struct points *p, uint64_t revision)
{
    for (unsigned i = 0; i < p->n; i++) {
        if (p->revision[i] == revision) {
            return &p->digest[i];
        }
    }
    return NULL;
}

START_TEST(every_revision_is_reached_or_refused)
{
    struct probe reference;
    begin(&reference);
    build(&reference);
    const uint64_t before = store_revision(reference.store);
    const uint64_t keys = store_keys(reference.store);
    struct points *points = whole(&reference);
    const uint64_t after = store_revision(reference.store);
    const uint64_t removed = points->revision[0] - 1 - before; /* by the first command: one */
    unsigned reached = 0, refused = 0;
    ck_assert_uint_gt(removed, 256);
    ck_assert_uint_lt(removed, DEAD);
    for (uint64_t target = before; target <= after; target++) {
        struct probe probe;
        uint64_t from = 0;
        begin(&probe);
        const bool ok = store_apply_until(probe.store, entry, entry_len, target, &from);
        const uint64_t *digest = digest_at(points, target);
        if (target <= before + removed) { /* removals of dead keys */
            ck_assert(ok);
            ck_assert_uint_eq(store_keys(probe.store), keys - (target - before));
        } else if (digest != NULL) {
            ck_assert(ok);
            ck_assert_uint_eq(store_digest(probe.store), *digest);
            reached++;
        } else { /* inside MSET, the transaction, or the SET that removes a dead key first */
            ck_assert(!ok);
            ck_assert_uint_lt(from, target);
            ck_assert_uint_gt(store_revision(probe.store), target);
            ck_assert(digest_at(points, from) != NULL);
            refused++;
        }
        if (ok) {
            ck_assert_uint_eq(store_revision(probe.store), target);
        }
        probe_fini(&probe);
    }
    ck_assert_uint_ge(reached, 4);
    ck_assert_uint_ge(refused, 3);
    free(points);
    free(entry);
    probe_fini(&reference);
}
END_TEST

START_TEST(beyond_the_entry_all_of_it_is_applied)
{
    struct probe reference, probe;
    uint64_t from = 0;
    begin(&reference);
    build(&reference);
    struct points *points = whole(&reference);
    begin(&probe);
    ck_assert(store_apply_until(probe.store, entry, entry_len, store_revision(reference.store) + 1000, &from));
    ck_assert_uint_eq(store_digest(probe.store), store_digest(reference.store));
    free(points);
    free(entry);
    probe_fini(&reference);
    probe_fini(&probe);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_until");
    TCase *tc = tcase_create("until");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, every_revision_is_reached_or_refused);
    tcase_add_test(tc, beyond_the_entry_all_of_it_is_applied);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
