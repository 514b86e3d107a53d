#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyspace_numbers.h"
#include "store/keyspace.h"
#include "store/state.h"

/* --- A naive map to compare with ---------------------------------------------------------------------------------- */

#define NAMES 600u
#define VALUE_MAX 6000u

struct model_key {
    char name[400];
    size_t name_len;
    bool there;
    uint8_t *value;
    size_t len;
    uint64_t deadline_ms, revision;
};

struct model {
    struct model_key keys[NAMES];
    uint64_t revision, time_ms;
};

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t below(uint64_t n)
{
    return next_random() % n;
}

static struct model *model_new(void)
{
    struct model *model = calloc(1, sizeof *model);
    ck_assert_ptr_nonnull(model);
    for (unsigned i = 0; i < NAMES; i++) {
        struct model_key *key = &model->keys[i];
        /* Name 0 is empty; every seventh is longer than 255 bytes. */
        key->name_len = i == 0 ? 0 : (size_t)snprintf(key->name, sizeof key->name, "name-%u", i);
        if (i % 7 == 6) {
            memset(key->name + key->name_len, 'x', 300);
            key->name_len += 300;
        }
    }
    return model;
}

static void model_free(struct model *model)
{
    for (unsigned i = 0; i < NAMES; i++) {
        free(model->keys[i].value);
    }
    free(model);
}

static bool model_alive(const struct model *model, const struct model_key *key)
{
    return key->there && key->deadline_ms > model->time_ms;
}

static void model_drop(struct model_key *key)
{
    free(key->value);
    key->value = NULL;
    key->there = false;
}

/* A write meets a dead key: it goes first, as a mutation. */
static void model_bury(struct model *model, struct model_key *key)
{
    if (key->there && !model_alive(model, key)) {
        model_drop(key);
        model->revision++;
    }
}

static void model_put(struct model *model, struct model_key *key, const void *value, size_t len, uint64_t deadline_ms)
{
    uint8_t *copy = malloc(len + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, value, len);
    free(key->value);
    key->value = copy;
    key->len = len;
    key->there = true;
    key->deadline_ms = deadline_ms;
    key->revision = ++model->revision;
}

static void model_set_range(struct model *model, struct model_key *key, size_t offset, const void *data, size_t len)
{
    size_t new_len = offset + len > key->len ? offset + len : key->len;
    uint8_t *value = calloc(1, new_len + 1);
    ck_assert_ptr_nonnull(value);
    memcpy(value, key->value, key->len);
    memcpy(value + offset, data, len);
    free(key->value);
    key->value = value;
    key->len = new_len;
    key->revision = ++model->revision;
}

static bool model_sooner(const struct model_key *a, const struct model_key *b)
{
    if (a->deadline_ms != b->deadline_ms) {
        return a->deadline_ms < b->deadline_ms;
    }
    int order = memcmp(a->name, b->name, a->name_len < b->name_len ? a->name_len : b->name_len);
    return order != 0 ? order < 0 : a->name_len < b->name_len;
}

static void model_advance(struct model *model, uint64_t time_ms, unsigned budget)
{
    model->time_ms = time_ms > model->time_ms ? time_ms : model->time_ms;
    for (; budget > 0; budget--) {
        struct model_key *first = NULL;
        for (unsigned i = 0; i < NAMES; i++) {
            struct model_key *key = &model->keys[i];
            if (key->there && !model_alive(model, key) && (first == NULL || model_sooner(key, first))) {
                first = key;
            }
        }
        if (first == NULL) {
            return;
        }
        model_drop(first);
        model->revision++;
    }
}

static uint64_t model_logical_bytes(const struct model *model)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < NAMES; i++) {
        const struct model_key *key = &model->keys[i];
        if (key->there) {
            bytes += key->name_len + key->len + 24 + (key->deadline_ms != KEYSPACE_NO_DEADLINE ? 28 : 0);
        }
    }
    return bytes;
}

static void compare_key(const struct store *store, const struct model *model, const struct model_key *want)
{
    struct key *got = keyspace_find(store, want->name, want->name_len);
    ck_assert_int_eq(got != NULL, model_alive(model, want));
    if (got == NULL) {
        return;
    }
    struct iovec name = key_name(got);
    struct iovec value = key_value(got);
    ck_assert_uint_eq(name.iov_len, want->name_len);
    ck_assert_mem_eq(name.iov_base, want->name, want->name_len);
    ck_assert_uint_eq(value.iov_len, want->len);
    ck_assert_int_eq(memcmp(value.iov_base, want->value, want->len), 0);
    ck_assert_uint_eq(key_deadline_ms(got), want->deadline_ms);
    ck_assert_uint_eq(key_revision(got), want->revision);
    ck_assert_int_eq(key_type(got), KEYSPACE_STRING);
}

static void compare(const struct store *store, const struct model *model)
{
    uint64_t there = 0;
    uint64_t with_deadline = 0;
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < NAMES; i++) {
        const struct model_key *key = &model->keys[i];
        compare_key(store, model, key);
        there += key->there;
        if (key->there && key->deadline_ms != KEYSPACE_NO_DEADLINE) {
            with_deadline++;
            next = key->deadline_ms < next ? key->deadline_ms : next;
        }
    }
    ck_assert_uint_eq(store_keys(store), there);
    ck_assert_uint_eq(store_keys_with_deadline(store), with_deadline);
    ck_assert_uint_eq(store_next_deadline_ms(store), next);
    ck_assert_uint_eq(store_revision(store), model->revision);
    ck_assert_uint_eq(store_memory(store), model_logical_bytes(model));
}

/* --- Random operations, on the model and on two stores whose hash seeds differ --------------------------------------
 */

#define STORES 2u

static size_t random_len(void)
{
    static const size_t edges[] = {0, 1, 20, 64, 254, 255, 256, 257, 4000, 4096, 4097};
    return below(3) == 0 ? edges[below(sizeof edges / sizeof edges[0])] : below(below(20) == 0 ? VALUE_MAX : 120);
}

static uint64_t random_deadline(const struct model *model)
{
    /* Some equal, so that names decide; some in the past. */
    return below(2) == 0 ? KEYSPACE_NO_DEADLINE : model->time_ms - 3 + below(60);
}

static void random_set(struct store **stores, struct model *model, struct model_key *key)
{
    uint8_t value[VALUE_MAX];
    size_t len = random_len();
    memset(value, (int)below(256), len);
    uint64_t deadline_ms = random_deadline(model);
    model_bury(model, key);
    model_put(model, key, value, len, deadline_ms);
    for (unsigned s = 0; s < STORES; s++) {
        keyspace_set_string(stores[s], key->name, key->name_len, value, len, deadline_ms);
    }
}

/* Set a key to a piece of its own value, borrowed from the keyspace. */
static void random_set_piece(struct store **stores, struct model *model, struct model_key *key)
{
    size_t from = key->len > 0 ? below(key->len) : 0;
    size_t len = key->len > from ? below(key->len - from) : 0;
    uint64_t deadline_ms = random_deadline(model);
    for (unsigned s = 0; s < STORES; s++) {
        struct key *found = keyspace_find(stores[s], key->name, key->name_len);
        keyspace_set_string(stores[s], key->name, key->name_len, (uint8_t *)key_value(found).iov_base + from, len,
                            deadline_ms);
    }
    model_put(model, key, key->value + from, len, deadline_ms);
}

static void random_change(struct store **stores, struct model *model, struct model_key *key)
{
    uint8_t data[200];
    size_t len = below(sizeof data);
    memset(data, (int)below(256), len);
    size_t offset = below(2) == 0 ? key->len : below(key->len + 50);
    bool append = offset == key->len;
    model_set_range(model, key, offset, data, len);
    for (unsigned s = 0; s < STORES; s++) {
        struct key *found = keyspace_find(stores[s], key->name, key->name_len);
        if (append) {
            keyspace_append(stores[s], found, data, len);
        } else {
            keyspace_set_range(stores[s], found, offset, data, len);
        }
    }
}

static void random_move(struct store **stores, struct model *model, struct model_key *key, bool copy)
{
    struct model_key *to = &model->keys[below(NAMES)];
    if (to == key) {
        return;
    }
    model_bury(model, to);
    model_put(model, to, key->value, key->len, key->deadline_ms);
    for (unsigned s = 0; s < STORES; s++) {
        struct key *found = keyspace_find(stores[s], key->name, key->name_len);
        if (copy) {
            keyspace_copy(stores[s], found, to->name, to->name_len);
        } else {
            keyspace_rename(stores[s], found, to->name, to->name_len);
        }
    }
    if (!copy) {
        model_drop(key);
    }
}

static void random_deadline_change(struct store **stores, struct model *model, struct model_key *key)
{
    key->deadline_ms = random_deadline(model);
    key->revision = ++model->revision;
    for (unsigned s = 0; s < STORES; s++) {
        keyspace_set_deadline(stores[s], keyspace_find(stores[s], key->name, key->name_len), key->deadline_ms);
    }
}

static void random_delete(struct store **stores, struct model *model, struct model_key *key)
{
    model_drop(key);
    model->revision++;
    for (unsigned s = 0; s < STORES; s++) {
        keyspace_delete(stores[s], keyspace_find(stores[s], key->name, key->name_len));
    }
}

static void random_flush(struct store **stores, struct model *model)
{
    model->revision++;
    for (unsigned i = 0; i < NAMES; i++) {
        model_drop(&model->keys[i]);
    }
    for (unsigned s = 0; s < STORES; s++) {
        keyspace_flush(stores[s]);
    }
}

static void random_operation(struct store **stores, struct model *model)
{
    struct model_key *key = &model->keys[below(NAMES)];
    unsigned what = (unsigned)below(100);
    if (what == 0 && below(100) == 0) {
        random_flush(stores, model);
    } else if (what < 6) {
        uint64_t time_ms = model->time_ms + below(4);
        unsigned budget = (unsigned)below(10);
        model_advance(model, time_ms, budget);
        for (unsigned s = 0; s < STORES; s++) {
            keyspace_advance(stores[s], time_ms, budget);
        }
    } else if (what < 50 || !model_alive(model, key)) {
        random_set(stores, model, key);
    } else if (what < 55) {
        random_set_piece(stores, model, key);
    } else if (what < 65) {
        random_change(stores, model, key);
    } else if (what < 75) {
        random_move(stores, model, key, what % 2 == 0);
    } else if (what < 85) {
        random_deadline_change(stores, model, key);
    } else {
        random_delete(stores, model, key);
    }
}

static void open_stores(struct store **stores)
{
    for (unsigned s = 0; s < STORES; s++) {
        stores[s] = store_new(&(struct store_config){.hash_seed = s * 77});
        ck_assert_ptr_nonnull(stores[s]);
    }
}

START_TEST(random_operations_do_what_a_naive_map_does)
{
    random_state = (uint64_t)_i * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct store *stores[STORES];
    open_stores(stores);
    struct model *model = model_new();
    model->time_ms = 1000;
    for (unsigned s = 0; s < STORES; s++) {
        keyspace_advance(stores[s], 1000, 0);
    }
    for (unsigned i = 0; i < 6000; i++) {
        random_operation(stores, model);
        keyspace_tidy(stores[0]);
        ck_assert_uint_eq(store_revision(stores[0]), model->revision);
        ck_assert_uint_eq(store_digest(stores[0]), store_digest(stores[1]));
        if (i % 200 == 0) {
            compare(stores[0], model);
            compare(stores[1], model);
        }
    }
    compare(stores[0], model);
    model_free(model);
    store_free(stores[0]);
    store_free(stores[1]);
}
END_TEST

START_TEST(memory_follows_the_content_when_keys_change_size_or_go)
{
    enum { N = 100000 };
    struct store *store = store_new(&(struct store_config){.hash_seed = 8});
    random_state = 5;
    for (unsigned i = 0; i < N; i++) {
        set_number(store, "k", i);
    }
    /* In random order, so that no page is emptied by chance: two thirds grow, then nine tenths go. */
    for (unsigned i = 0; i < 2 * N; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "k%u", (unsigned)below(N));
        if (i < N) {
            keyspace_set_string(store, name, (size_t)len, "0123456789abcdef0123456789abcdef", 32, 1000000);
        }
        keyspace_tidy(store);
    }
    /* Each size in use, of keys and of slots, may hold a page or two in reserve. */
    const uint64_t reserve = 2 << 20;
    struct store_stats stats;
    store_stats(store, &stats);
    ck_assert_uint_le(stats.entry_bytes, store_memory(store) * 5 / 4 + reserve);
    for (unsigned i = 0; i < N; i++) {
        unsigned k = i * 7919u % N;
        if (k % 10 != 0) {
            delete_number(store, "k", k);
            keyspace_tidy(store);
        }
    }
    store_stats(store, &stats);
    ck_assert_uint_le(stats.entry_bytes, store_memory(store) * 5 / 4 + reserve);
    for (unsigned i = 0; i < N; i += 10) {
        char name[32];
        int len = snprintf(name, sizeof name, "k%u", i);
        ck_assert_ptr_nonnull(keyspace_find(store, name, (size_t)len));
    }
    store_free(store);
}
END_TEST

/* --- Deadlines, digest, flush ---------------------------------------------------------------------------------------
 */

START_TEST(key_is_dead_at_its_deadline_and_not_before)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    keyspace_advance(store, 99, 0);
    keyspace_set_string(store, "k", 1, "v", 1, 100);
    ck_assert_ptr_nonnull(keyspace_find(store, "k", 1));
    keyspace_advance(store, 100, 0);
    ck_assert_ptr_null(keyspace_find(store, "k", 1));
    ck_assert_uint_eq(store_key_revision(store, "k", 1), 0);
    ck_assert_uint_eq(store_keys(store), 1);
    keyspace_advance(store, 100, 1);
    ck_assert_uint_eq(store_keys(store), 0);
    ck_assert_uint_eq(store_revision(store), 2);
    store_free(store);
}
END_TEST

START_TEST(time_never_goes_back)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    keyspace_set_string(store, "k", 1, "v", 1, 100);
    keyspace_advance(store, 100, 0);
    keyspace_advance(store, 50, 0);
    ck_assert_uint_eq(store_time_ms(store), 100);
    ck_assert_ptr_null(keyspace_find(store, "k", 1));
    store_free(store);
}
END_TEST

START_TEST(due_keys_go_in_the_order_of_deadline_and_name)
{
    static const char *const order[] = {"z", "a", "ab", "b", "\xff"};
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    keyspace_set_string(store, "\xff", 1, "v", 1, 20);
    keyspace_set_string(store, "b", 1, "v", 1, 20);
    keyspace_set_string(store, "ab", 2, "v", 1, 20);
    keyspace_set_string(store, "a", 1, "v", 1, 20);
    keyspace_set_string(store, "z", 1, "v", 1, 10);
    keyspace_advance(store, 30, 0);
    for (unsigned i = 0; i < 5; i++) {
        const struct deadline *first = deadlines_first(&store->deadlines);
        ck_assert_ptr_nonnull(first);
        struct iovec name = key_name(first->key);
        ck_assert_uint_eq(name.iov_len, strlen(order[i]));
        ck_assert_mem_eq(name.iov_base, order[i], name.iov_len);
        keyspace_advance(store, 30, 1);
    }
    ck_assert_uint_eq(store_keys(store), 0);
    store_free(store);
}
END_TEST

START_TEST(write_to_a_dead_key_removes_it_first_as_a_mutation)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    keyspace_set_string(store, "k", 1, "old", 3, 10);
    keyspace_advance(store, 10, 0);
    keyspace_set_string(store, "k", 1, "new", 3, KEYSPACE_NO_DEADLINE);
    ck_assert_uint_eq(store_revision(store), 3);
    ck_assert_uint_eq(store_key_revision(store, "k", 1), 3);
    struct store_stats stats;
    store_stats(store, &stats);
    ck_assert_uint_eq(stats.expired, 1);
    store_free(store);
}
END_TEST

START_TEST(many_deadlines_come_and_go)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = 7});
    random_state = 11;
    for (unsigned i = 0; i < 20000; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "k%u", i);
        keyspace_set_string(store, name, (size_t)len, "v", 1, 1 + below(1000));
    }
    uint64_t last = 0;
    while (store_keys_with_deadline(store) > 0) {
        uint64_t next = store_next_deadline_ms(store);
        ck_assert_uint_ge(next, last);
        last = next;
        keyspace_advance(store, next, 7);
    }
    ck_assert_uint_eq(store_keys(store), 0);
    ck_assert_uint_eq(store_revision(store), 40000);
    store_free(store);
}
END_TEST

START_TEST(digest_is_the_same_for_equal_content_however_it_came_about)
{
    struct store *a = store_new(&(struct store_config){.hash_seed = 1});
    struct store *b = store_new(&(struct store_config){.hash_seed = 2});
    keyspace_set_string(a, "one", 3, "1", 1, KEYSPACE_NO_DEADLINE);
    keyspace_set_string(a, "one", 3, "1", 1, KEYSPACE_NO_DEADLINE);
    keyspace_set_string(a, "two", 3, "22", 2, 500);
    /* The same keys enter the other table in another order, at other sizes. */
    keyspace_set_string(b, "two", 3, "a value of another size", 23, KEYSPACE_NO_DEADLINE);
    keyspace_set_string(b, "one", 3, "1", 1, KEYSPACE_NO_DEADLINE);
    keyspace_set_string(b, "two", 3, "22", 2, 500);
    ck_assert_uint_eq(store_digest(a), store_digest(b));
    store_free(a);
    store_free(b);
}
END_TEST

START_TEST(digest_sees_every_part_of_the_content)
{
    static const struct {
        const char *name, *value;
        uint64_t deadline_ms, time_ms;
        unsigned before;
    } contents[] = {
        {"k", "v", KEYSPACE_NO_DEADLINE, 0, 0},
        {"l", "v", KEYSPACE_NO_DEADLINE, 0, 0},
        {"k", "w", KEYSPACE_NO_DEADLINE, 0, 0},
        {"k", "v", 100, 0, 0},
        {"k", "v", 101, 0, 0},
        {"kv", "", KEYSPACE_NO_DEADLINE, 0, 0},
        {"", "kv", KEYSPACE_NO_DEADLINE, 0, 0},
        {"k", "v", KEYSPACE_NO_DEADLINE, 1, 0},
        {"k", "v", KEYSPACE_NO_DEADLINE, 0, 1},
    };
    enum { N = sizeof contents / sizeof contents[0] };
    uint64_t digests[N];
    for (unsigned i = 0; i < N; i++) {
        struct store *store = store_new(&(struct store_config){.hash_seed = 1});
        for (unsigned j = 0; j < contents[i].before; j++) {
            keyspace_flush(store);
        }
        keyspace_set_string(store, contents[i].name, strlen(contents[i].name), contents[i].value,
                            strlen(contents[i].value), contents[i].deadline_ms);
        keyspace_advance(store, contents[i].time_ms, 0);
        digests[i] = store_digest(store);
        for (unsigned j = 0; j < i; j++) {
            ck_assert_uint_ne(digests[i], digests[j]);
        }
        store_free(store);
    }
}
END_TEST

START_TEST(flush_leaves_nothing_but_the_revision)
{
    struct store *a = store_new(&(struct store_config){.hash_seed = 1});
    struct store *b = store_new(&(struct store_config){.hash_seed = 1});
    static uint8_t big[300000];
    for (unsigned i = 0; i < 5000; i++) {
        set_number(a, "k", i);
    }
    keyspace_set_string(a, "big", 3, big, sizeof big, 77);
    keyspace_set_string(a, "medium", 6, big, 9000, KEYSPACE_NO_DEADLINE);
    keyspace_flush(a);
    for (unsigned i = 0; i < 5003; i++) {
        keyspace_flush(b);
    }
    ck_assert_uint_eq(store_keys(a), 0);
    ck_assert_uint_eq(store_keys_with_deadline(a), 0);
    ck_assert_uint_eq(store_memory(a), 0);
    ck_assert_uint_eq(store_digest(a), store_digest(b));
    set_number(a, "k", 1);
    ck_assert(has_number(a, "k", 1));
    ck_assert(!has_number(a, "k", 2));
    store_free(a);
    store_free(b);
}
END_TEST

START_TEST(large_values_change_in_place_and_shrink)
{
    enum { LEN = 3000000 };
    struct store *store = store_new(&(struct store_config){.hash_seed = 1});
    uint8_t *value = malloc(LEN);
    ck_assert_ptr_nonnull(value);
    for (size_t i = 0; i < LEN; i++) {
        value[i] = (uint8_t)(i * 31 >> 3);
    }
    keyspace_set_string(store, "big", 3, value, LEN, KEYSPACE_NO_DEADLINE);
    for (unsigned i = 0; i < 20; i++) {
        keyspace_append(store, keyspace_find(store, "big", 3), "tail", 4);
    }
    keyspace_set_deadline(store, keyspace_find(store, "big", 3), 1000);
    struct iovec got = key_value(keyspace_find(store, "big", 3));
    ck_assert_uint_eq(got.iov_len, LEN + 80);
    ck_assert_int_eq(memcmp(got.iov_base, value, LEN), 0);
    ck_assert_mem_eq((uint8_t *)got.iov_base + LEN, "tailtail", 8);
    keyspace_set_string(store, "big", 3, (uint8_t *)got.iov_base + LEN - 2, 6, KEYSPACE_NO_DEADLINE);
    got = key_value(keyspace_find(store, "big", 3));
    ck_assert_uint_eq(got.iov_len, 6);
    ck_assert_mem_eq(got.iov_base, value + LEN - 2, 2);
    ck_assert_mem_eq((uint8_t *)got.iov_base + 2, "tail", 4);
    free(value);
    store_free(store);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, random_operations_do_what_a_naive_map_does, 0, 6);
    tcase_add_test(tests, memory_follows_the_content_when_keys_change_size_or_go);
    tcase_add_test(tests, key_is_dead_at_its_deadline_and_not_before);
    tcase_add_test(tests, time_never_goes_back);
    tcase_add_test(tests, due_keys_go_in_the_order_of_deadline_and_name);
    tcase_add_test(tests, write_to_a_dead_key_removes_it_first_as_a_mutation);
    tcase_add_test(tests, many_deadlines_come_and_go);
    tcase_add_test(tests, digest_is_the_same_for_equal_content_however_it_came_about);
    tcase_add_test(tests, digest_sees_every_part_of_the_content);
    tcase_add_test(tests, flush_leaves_nothing_but_the_revision);
    tcase_add_test(tests, large_values_change_in_place_and_shrink);
}

int main(void)
{
    Suite *suite = suite_create("keyspace");
    TCase *tests = tcase_create("keyspace");
    tcase_set_timeout(tests, 100);
    add_tests(tests);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
