/* The WAL's random life against a model: appends, replacements, partial completions, dropped prefixes, resets, crashes.
 */
#include "tests/unit/wal_fixture.h"

static bool keep_some(void *ctx, size_t sector)
{
    uint64_t x = (*(uint64_t *)ctx + sector) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
    return (x >> 40 & 1u) != 0;
}

enum { MODEL_MAX = 6000 };

struct model {
    struct fix fix;
    uint64_t x;
    uint64_t term_of[MODEL_MAX + 2];
    uint64_t last;
    uint64_t durable;
    uint64_t term;
    uint64_t snapshot; /* durable, at or below everything that may be replaced */
    uint64_t snapshot_term;
};

static uint64_t model_random(struct model *m, uint64_t below)
{
    m->x = m->x * 6364136223846793005u + 1442695040888963407u;
    return (m->x >> 33) % below;
}

static size_t model_len(uint64_t term)
{
    return term * 37 % 1500;
}

static void model_append(struct model *m)
{
    uint64_t to = m->last + 1 + model_random(m, 6);
    if (to > MODEL_MAX) {
        return;
    }
    fix_append(&m->fix, m->last + 1, to, m->term, model_len(m->term));
    while (m->last < to) {
        m->term_of[++m->last] = m->term;
    }
}

static void model_replace(struct model *m)
{
    uint64_t above = m->last - m->snapshot;
    if (above == 0) {
        return;
    }
    uint64_t from = m->last - model_random(m, above < 9 ? above : 9);
    m->term++;
    fix_append(&m->fix, from, from, m->term, model_len(m->term));
    m->term_of[from] = m->term;
    m->last = from;
    m->durable = m->durable < from - 1 ? m->durable : from - 1;
}

static void model_complete(struct model *m)
{
    struct fix *fix = &m->fix;
    if (mem_env_pending(fix->mem) == 0) {
        return;
    }
    unsigned before = fix->n_persisted;
    mem_env_complete(fix->mem, (unsigned)model_random(m, mem_env_pending(fix->mem)), ENV_OK);
    if (fix->n_persisted > before) {
        uint64_t index = fix->persisted[before].index;
        ck_assert_uint_gt(index, m->durable);
        ck_assert_uint_le(index, m->last);
        ck_assert_uint_eq(fix->persisted[before].term, m->term_of[index]);
        m->durable = index;
    }
    if (fix->n_persisted > 4000) {
        fix->n_persisted = 0;
    }
}

static void model_snapshot(struct model *m)
{
    if (m->durable > m->snapshot) {
        m->snapshot += 1 + model_random(m, m->durable - m->snapshot);
        m->snapshot_term = m->term_of[m->snapshot];
    }
    uint64_t tail = model_random(m, 40);
    wal_drop_prefix(m->fix.wal, m->snapshot > tail ? m->snapshot - tail : 0);
}

static void model_install(struct model *m)
{
    uint64_t to = m->snapshot + 1 + model_random(m, 60);
    if (to + 100 > MODEL_MAX) {
        return;
    }
    m->term++;
    m->snapshot = to;
    m->snapshot_term = m->term;
    ck_assert_int_eq(wal_reset(m->fix.wal, to, m->term), WAL_OK);
    m->last = to;
    m->durable = to;
    m->term_of[to] = m->term;
}

static void model_crash(struct model *m)
{
    struct fix *fix = &m->fix;
    uint64_t seed = m->x;
    fix_crash(fix, keep_some, &seed);
    fix->start_index = m->snapshot;
    fix->start_term = m->snapshot == 0 ? 0 : m->snapshot_term;
    fix_open(fix);
    uint64_t now = wal_last(fix->wal);
    ck_assert_uint_ge(now, m->durable);
    ck_assert_uint_le(wal_first(fix->wal), m->snapshot + 1);
    for (uint64_t i = m->snapshot + 1; i <= m->durable; i++) {
        fix_check(fix, i, m->term_of[i], model_len(m->term_of[i]));
    }
    for (uint64_t i = m->durable + 1; i <= now; i++) {
        m->term_of[i] = wal_term_of(fix->wal, i);
        fix_check(fix, i, m->term_of[i], model_len(m->term_of[i]));
    }
    m->last = now;
    m->durable = now;
}

static void model_step(struct model *m)
{
    uint64_t dice = model_random(m, 1000);
    if (dice < 450) {
        model_append(m);
    } else if (dice < 480) {
        model_replace(m);
    } else if (dice < 680) {
        wal_flush(m->fix.wal);
    } else if (dice < 940) {
        model_complete(m);
    } else if (dice < 950) {
        mem_env_advance(m->fix.mem, 150000);
    } else if (dice < 975) {
        model_snapshot(m);
    } else if (dice < 980) {
        model_install(m);
    } else if (dice < 990) {
        model_crash(m);
    }
    struct wal *wal = m->fix.wal;
    ck_assert_uint_eq(wal_durable(wal), m->durable);
    ck_assert_uint_eq(wal_last(wal), m->last);
    ck_assert_uint_le(wal_first(wal), m->snapshot + 1);
    if (m->last > m->snapshot) {
        uint64_t at = m->snapshot + 1 + model_random(m, m->last - m->snapshot);
        ck_assert_uint_eq(wal_term_of(wal, at), m->term_of[at]);
    }
    ck_assert_uint_eq(m->fix.n_failed, 0);
}

START_TEST(a_random_life_with_drops_and_resets_never_loses_what_was_reported)
{
    static struct model m;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        memset(&m, 0, sizeof m);
        fix_init(&m.fix);
        m.fix.recycle_max = 1 + (uint32_t)(seed % 4);
        m.x = seed;
        m.term = 1;
        fix_open(&m.fix);
        for (int step = 0; step < 4000; step++) {
            model_step(&m);
        }
        ck_assert_uint_gt(m.snapshot, 100);
        fix_fini(&m.fix);
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("life");
    tcase_set_timeout(cases, 100);
    tcase_add_test(cases, a_random_life_with_drops_and_resets_never_loses_what_was_reported);
    Suite *suite = suite_create("wal_life");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
