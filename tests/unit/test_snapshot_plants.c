/* Snapshots with planted bugs (store/plant.h): what catches them, and what does not. Linked with the store's sources
 * built with LOCKSTEP_PLANT. */
#include "snapshot_probe.h"
#include "store/plant.h"

int store_plant = STORE_PLANT_NONE;

static struct store *store_filled(void)
{
    struct store *store = probe_store(1);
    char line[64];
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(line, sizeof line, "SET k%u value", i);
        tell(store, line);
    }
    return store;
}

/* Every key is overwritten after the first step. */
static enum store_snapshot_state snapshot_amid_writes(struct store *store, struct bytes *stream, struct store_cut *cut)
{
    struct store_snapshot *snapshot = begin(store);
    store_snapshot_cut(snapshot, cut);
    enum store_snapshot_state state = step_into(snapshot, 4096, stream);
    char line[64];
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(line, sizeof line, i % 10 == 0 ? "DEL k%u" : "SET k%u other", i);
        tell(store, line);
    }
    while (state == STORE_SNAPSHOT_MORE) {
        state = step_into(snapshot, 4096, stream);
    }
    store_snapshot_end(snapshot);
    return state;
}

START_TEST(without_a_plant_the_snapshot_is_a_cut)
{
    store_plant = STORE_PLANT_NONE;
    struct store *store = store_filled();
    struct bytes stream = {0};
    struct store_cut cut;
    ck_assert_int_eq(snapshot_amid_writes(store, &stream, &cut), STORE_SNAPSHOT_DONE);
    struct store *loaded = load_ok(&stream, 1);
    ck_assert_uint_eq(store_digest(loaded), cut.digest);
    store_free(loaded);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

START_TEST(keys_that_writes_did_not_save_are_missed_by_the_snapshot_itself)
{
    store_plant = STORE_PLANT_SKIP_SAVE;
    struct store *store = store_filled();
    struct bytes stream = {0};
    struct store_cut cut;
    ck_assert_int_eq(snapshot_amid_writes(store, &stream, &cut), STORE_SNAPSHOT_BROKEN);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

START_TEST(what_is_not_a_cut_loads_unnoticed_and_only_its_digest_tells)
{
    store_plant = STORE_PLANT_NOT_A_CUT;
    struct store *store = store_filled();
    struct bytes stream = {0};
    struct store_cut cut;
    ck_assert_int_eq(snapshot_amid_writes(store, &stream, &cut), STORE_SNAPSHOT_DONE);
    struct store *loaded = load_ok(&stream, 1);
    ck_assert_uint_eq(store_revision(loaded), cut.revision);
    ck_assert_uint_ne(store_digest(loaded), cut.digest);
    store_free(loaded);
    /* A loader without the plant refuses it. */
    store_plant = STORE_PLANT_NONE;
    struct store *refused = probe_store(1);
    ck_assert_int_eq(load_into(refused, &stream, 65536, stream.len, NULL), STORE_MALFORMED);
    store_free(refused);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_plants");
    TCase *tests = tcase_create("snapshot_plants");
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, without_a_plant_the_snapshot_is_a_cut);
    tcase_add_test(tests, keys_that_writes_did_not_save_are_missed_by_the_snapshot_itself);
    tcase_add_test(tests, what_is_not_a_cut_loads_unnoticed_and_only_its_digest_tells);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
