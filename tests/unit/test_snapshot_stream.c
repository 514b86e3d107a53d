/* Snapshots while writes go on: what they load to is the state at the cut, and the store is as if there were none. */
#include "snapshot_probe.h"

/* --- A random history --------------------------------------------------------------------------------------------- */

/* Applies entries to a store at once, and to a twin only when told: the twin shows the state at the cut. */
struct history {
    struct store *store, *twin;
    struct bytes *owed; /* entries that the twin has not had yet */
    size_t n_owed, owed_capacity;
    uint64_t random;
    uint64_t time_ms;
    unsigned names; /* how many different ones */
};

static unsigned draw(struct history *history, unsigned n)
{
    history->random = history->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(history->random >> 33) % n;
}

static void history_init(struct history *history, uint64_t seed)
{
    *history = (struct history){.random = seed, .time_ms = 1000, .names = 3000};
    history->store = probe_store(seed);
    history->twin = probe_store(seed + 1);
}

static void history_apply(struct history *history, const struct iovec *argv, unsigned argc)
{
    if (history->n_owed == history->owed_capacity) {
        history->owed_capacity = history->owed_capacity == 0 ? 64 : 2 * history->owed_capacity;
        history->owed = realloc(history->owed, history->owed_capacity * sizeof *history->owed);
        ck_assert_ptr_nonnull(history->owed);
    }
    struct bytes entry = entry_of(history->time_ms, argv, argc);
    store_apply(history->store, entry.data, entry.len, NULL);
    history->owed[history->n_owed++] = entry;
}

static void history_catch_up(struct history *history)
{
    for (size_t i = 0; i < history->n_owed; i++) {
        store_apply(history->twin, history->owed[i].data, history->owed[i].len, NULL);
        bytes_fini(&history->owed[i]);
    }
    history->n_owed = 0;
}

static void history_fini(struct history *history)
{
    history_catch_up(history);
    store_free(history->store);
    store_free(history->twin);
    free(history->owed);
}

static struct iovec word(const char *text)
{
    return (struct iovec){.iov_base = (void *)text, .iov_len = strlen(text)};
}

struct name {
    char text[32];
};

static struct iovec draw_name(struct history *history, struct name *name)
{
    unsigned number = draw(history, history->names);
    snprintf(name->text, sizeof name->text, "%s:%u", number % 3 == 0 ? "a-longer-name" : "k", number);
    return word(name->text);
}

/* Mostly short; some around the size at which keys count as large, some above. */
static size_t draw_len(struct history *history)
{
    unsigned kind = draw(history, 100);
    return kind < 90   ? draw(history, 120)
           : kind < 95 ? 4000 + draw(history, 200)
           : kind < 99 ? draw(history, 40000)
                       : draw(history, 600000);
}

static void write_set(struct history *history)
{
    static char value[600000];
    struct name name;
    char number[32];
    size_t len = draw_len(history);
    memset(value, 'a' + (int)draw(history, 26), len);
    snprintf(number, sizeof number, "%u", 1 + draw(history, 5000));
    struct iovec argv[] = {word("SET"), draw_name(history, &name), {value, len}, word("PX"), word(number)};
    history_apply(history, argv, draw(history, 3) == 0 ? 5 : 3);
}

static void write_part(struct history *history, bool at_end)
{
    static char value[600000];
    struct name name;
    char number[32];
    size_t len = 1 + draw_len(history) / 2;
    memset(value, 'A' + (int)draw(history, 26), len);
    snprintf(number, sizeof number, "%u", draw(history, 5000));
    struct iovec argv[] = {word(at_end ? "APPEND" : "SETRANGE"), draw_name(history, &name), word(number), {value, len}};
    argv[2] = at_end ? argv[3] : argv[2];
    history_apply(history, argv, at_end ? 3 : 4);
}

/* Many keys come or go in one entry: the table grows or shrinks by thousands. */
static void write_many(struct history *history, bool grow)
{
    enum { N = 2000 };
    static struct name names[N];
    static struct iovec argv[2 * N + 1];
    unsigned argc = 0;
    unsigned from = draw(history, 3) * N;
    argv[argc++] = word(grow ? "MSET" : "DEL");
    for (unsigned i = 0; i < N; i++) {
        snprintf(names[i].text, sizeof names[i].text, "many:%u", from + i);
        argv[argc++] = word(names[i].text);
        if (grow) {
            argv[argc++] = word(names[i].text);
        }
    }
    history_apply(history, argv, argc);
}

static void write_deadline(struct history *history)
{
    struct name name;
    char number[32];
    snprintf(number, sizeof number, "%u", draw(history, 3000));
    struct iovec argv[] = {word("PEXPIRE"), draw_name(history, &name), word(number)};
    history_apply(history, argv, 3);
}

static void write_one(struct history *history, const char *command)
{
    struct name name;
    struct iovec argv[] = {word(command), draw_name(history, &name)};
    history_apply(history, argv, 2);
}

static void write_two(struct history *history, const char *command, const char *option)
{
    struct name from, to;
    struct iovec argv[] = {word(command), draw_name(history, &from), draw_name(history, &to), {0}};
    argv[3] = option != NULL ? word(option) : argv[3];
    history_apply(history, argv, option != NULL ? 4 : 3);
}

static void write_random(struct history *history)
{
    history->time_ms += draw(history, 3) == 0 ? draw(history, 4) : 0;
    unsigned kind = draw(history, 1000);
    if (kind < 500) {
        write_set(history);
    } else if (kind < 600) {
        write_part(history, kind % 2 == 0);
    } else if (kind < 750) {
        write_one(history, "DEL");
    } else if (kind < 830) {
        write_deadline(history);
    } else if (kind < 860) {
        write_one(history, "PERSIST");
    } else if (kind < 900) {
        write_two(history, "RENAME", NULL);
    } else if (kind < 940) {
        write_two(history, "COPY", "REPLACE");
    } else if (kind < 990) {
        history_apply(history, NULL, 0);
    } else if (kind < 999) {
        write_many(history, kind % 2 == 0);
    } else if (draw(history, 3) == 0) {
        struct iovec flush = word("FLUSHALL");
        history_apply(history, &flush, 1);
    }
}

/* A snapshot with up to `writes` random writes before each of its steps; gives its stream. */
static struct bytes snapshot_amid(struct history *history, unsigned writes, size_t bytes_max)
{
    struct bytes stream = {0};
    struct store_snapshot *snapshot = begin(history->store);
    struct store_cut cut;
    store_snapshot_cut(snapshot, &cut);
    ck_assert_uint_eq(cut.digest, store_digest(history->twin));
    enum store_snapshot_state state = STORE_SNAPSHOT_MORE;
    while (state == STORE_SNAPSHOT_MORE) {
        for (unsigned n = draw(history, writes + 1); n > 0; n--) {
            write_random(history);
        }
        store_tidy(history->store);
        state = step_into(snapshot, bytes_max, &stream);
    }
    ck_assert_int_eq(state, STORE_SNAPSHOT_DONE);
    ck_assert_uint_eq(store_snapshot_keys(snapshot), cut.keys);
    ck_assert_uint_eq(store_snapshot_pending(snapshot), 0);
    store_snapshot_end(snapshot);
    return stream;
}

static void snapshot_and_compare(struct history *history, unsigned writes, size_t bytes_max, uint64_t load_seed)
{
    history_catch_up(history);
    struct bytes stream = snapshot_amid(history, writes, bytes_max);
    struct store *loaded = load_ok(&stream, load_seed);
    ck_assert_same(history->twin, loaded);
    /* What was loaded goes on as the others do. */
    for (size_t i = 0; i < history->n_owed; i++) {
        store_apply(loaded, history->owed[i].data, history->owed[i].len, NULL);
    }
    history_catch_up(history);
    ck_assert_same(history->twin, history->store);
    ck_assert_same(history->twin, loaded);
    store_free(loaded);
    bytes_fini(&stream);
}

static const size_t step_sizes[] = {1, 300, 4096, 20000, 65536, 1 << 20, SIZE_MAX - STEP_BYTES_SLACK};

START_TEST(random_writes_between_steps_leave_the_cut_as_it_was)
{
    struct history history;
    history_init(&history, (uint64_t)_i);
    for (unsigned i = 0; i < 4000; i++) {
        write_random(&history);
    }
    size_t sizes = sizeof step_sizes / sizeof step_sizes[0];
    for (unsigned round = 0; round < 4; round++) {
        size_t bytes_max = step_sizes[((size_t)_i + round) % sizes];
        /* Few writes for each of very many steps. */
        unsigned writes = bytes_max < 4096 ? 1 : bytes_max < 65536 ? 20 : 200;
        snapshot_and_compare(&history, writes, bytes_max < 100 ? 100 : bytes_max, (uint64_t)_i + round % 2);
    }
    history_fini(&history);
}
END_TEST

START_TEST(snapshot_of_a_store_at_rest_is_its_content)
{
    struct history history;
    history_init(&history, 77);
    for (unsigned i = 0; i < 3000; i++) {
        write_random(&history);
    }
    for (size_t i = 0; i < sizeof step_sizes / sizeof step_sizes[0]; i++) {
        snapshot_and_compare(&history, 0, step_sizes[i], 77);
    }
    history_fini(&history);
}
END_TEST

START_TEST(snapshot_of_an_empty_store_loads_to_its_revision_and_time)
{
    struct store *store = probe_store(1);
    tell_at(store, 5000, "SET k v");
    tell_at(store, 6000, "DEL k");
    struct bytes stream = snapshot_all(store);
    struct store *loaded = load_ok(&stream, 1);
    ck_assert_uint_eq(store_revision(loaded), 2);
    ck_assert_uint_eq(store_time_ms(loaded), 6000);
    ck_assert_same(store, loaded);
    bytes_fini(&stream);
    store_free(loaded);
    store_free(store);
}
END_TEST

/* --- One key and one write ---------------------------------------------------------------------------------------- */

/* Every way to change or lose a key `big`. */
static const char *const changes[] = {"SET big other",      "APPEND big x",
                                      "SETRANGE big 3 abc", "SETRANGE big 100 abc",
                                      "PEXPIREAT big 5000", "PEXPIREAT big 9000",
                                      "PERSIST big",        "DEL big",
                                      "RENAME big moved",   "RENAME big ahead",
                                      "RENAME small big",   "COPY small big REPLACE",
                                      "GETDEL big",         "FLUSHALL",
                                      "SET big same"}; /* with a value of the old length, and a deadline as before */
#define N_CHANGES ((int)(sizeof changes / sizeof changes[0]))
#define BIG_BYTES 100000u

static struct store *store_with_big(size_t len)
{
    struct store *store = probe_store(3);
    for (unsigned i = 0; i < 100; i++) {
        char line[64];
        snprintf(line, sizeof line, "SET ahead%u value", i);
        tell(store, line);
    }
    tell(store, "SET small value");
    tell(store, "SET ahead value");
    set_filled(store, "big", len, 1);
    tell(store, "PEXPIREAT big 7000");
    return store;
}

static void change(struct store *store, int i, size_t len)
{
    if (strcmp(changes[i], "SET big same") == 0) {
        char *value = malloc(len);
        ck_assert_ptr_nonnull(value);
        memset(value, 'z', len);
        struct iovec argv[] = {word("SET"), word("big"), {value, len}, word("PXAT"), word("6500")};
        struct bytes entry = entry_of(1000, argv, 5);
        store_apply(store, entry.data, entry.len, NULL);
        bytes_fini(&entry);
        free(value);
    } else {
        tell(store, changes[i]);
    }
}

/* The write comes after `steps` steps of the snapshot, twice, then the key's deadline. */
static void change_after(int i, unsigned steps, size_t len)
{
    struct store *store = store_with_big(len), *plain = store_with_big(len), *cut = store_with_big(len);
    struct bytes stream = {0};
    struct store_snapshot *snapshot = begin(store);
    enum store_snapshot_state state = STORE_SNAPSHOT_MORE;
    for (unsigned n = 0; n < steps && state == STORE_SNAPSHOT_MORE; n++) {
        state = step_into(snapshot, len / 8, &stream);
    }
    for (unsigned n = 0; n < 2; n++) {
        change(store, i, len);
        change(plain, i, len);
        tell(store, "SET small again");
        tell(plain, "SET small again");
    }
    tell_at(store, 7000, "SET ahead x");
    tell_at(plain, 7000, "SET ahead x");
    finish_into(snapshot, len / 8, &stream);
    struct store *loaded = load_ok(&stream, 3);
    ck_assert_same(cut, loaded);
    ck_assert_same(plain, store);
    store_free(loaded);
    store_free(cut);
    store_free(plain);
    store_free(store);
    bytes_fini(&stream);
}

START_TEST(every_write_to_a_large_key_leaves_it_in_the_snapshot)
{
    /* Before the walk meets it, while its pieces are emitted, and after. */
    for (unsigned steps = 0; steps < 14; steps++) {
        change_after(_i, steps, BIG_BYTES);
    }
}
END_TEST

START_TEST(every_write_to_a_small_key_leaves_it_in_the_snapshot)
{
    for (unsigned steps = 0; steps < 18; steps++) {
        change_after(_i, steps, 4000);
    }
}
END_TEST

START_TEST(replaced_large_values_are_not_copied)
{
    struct store *store = store_with_big(50000000);
    struct store_snapshot *snapshot = begin(store);
    size_t before = store_snapshot_bytes(snapshot);
    ck_assert_uint_lt(before, 200000);
    tell(store, "SET big other");
    ck_assert_uint_ge(store_snapshot_pending(snapshot), 50000000);
    ck_assert_uint_lt(store_snapshot_pending(snapshot), 50000000 + 1000);
    struct bytes stream = {0};
    finish_into(snapshot, 65536, &stream);
    bytes_fini(&stream);
    while (store_tidy(store)) {
    }
    struct store_stats stats;
    store_stats(store, &stats);
    ck_assert_uint_lt(stats.entry_bytes, 1000000);
    store_free(store);
}
END_TEST

/* --- FLUSHALL ----------------------------------------------------------------------------------------------------- */

static void fill(struct store *store, const char *kind, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char line[64];
        snprintf(line, sizeof line, "SET %s%u value:%u", kind, i, i);
        tell(store, line);
    }
}

START_TEST(snapshot_outlives_any_number_of_flushes)
{
    struct store *store = probe_store(4), *twin = probe_store(4);
    fill(store, "k", 20000);
    fill(twin, "k", 20000);
    struct bytes stream = {0};
    struct store_snapshot *snapshot = begin(store);
    ck_assert_int_eq(step_into(snapshot, 65536, &stream), STORE_SNAPSHOT_MORE);
    for (unsigned i = 0; i < 3; i++) {
        tell(store, "FLUSHALL");
        fill(store, "new", 3000);
        ck_assert_int_eq(step_into(snapshot, 65536, &stream), STORE_SNAPSHOT_MORE);
    }
    ck_assert_uint_gt(store_snapshot_bytes(snapshot), 20000 * 20);
    finish_into(snapshot, 65536, &stream);
    struct store *loaded = load_ok(&stream, 4);
    ck_assert_same(twin, loaded);
    ck_assert_uint_eq(store_keys(store), 3000);
    store_free(loaded);
    store_free(twin);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

START_TEST(snapshot_begins_while_the_memory_of_a_flush_is_given_back)
{
    struct store *store = probe_store(4), *twin = probe_store(4);
    set_filled(store, "huge", 20000000, 1);
    fill(store, "old", 20000);
    tell(store, "FLUSHALL");
    ck_assert(store_tidy(store));
    fill(store, "k", 1000);
    set_filled(twin, "huge", 20000000, 1);
    fill(twin, "old", 20000);
    tell(twin, "FLUSHALL");
    fill(twin, "k", 1000);
    struct bytes stream = {0};
    struct store_snapshot *snapshot = begin(store);
    ck_assert_int_eq(step_into(snapshot, 4096, &stream), STORE_SNAPSHOT_MORE);
    tell(store, "FLUSHALL");
    store_tidy(store);
    ck_assert_int_eq(step_into(snapshot, 4096, &stream), STORE_SNAPSHOT_MORE);
    finish_into(snapshot, 4096, &stream);
    struct store *loaded = load_ok(&stream, 4);
    ck_assert_same(twin, loaded);
    while (store_tidy(store)) {
    }
    struct store_stats stats;
    store_stats(store, &stats);
    ck_assert_uint_lt(stats.entry_bytes + stats.table_bytes, 500000);
    store_free(loaded);
    store_free(twin);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

/* --- Bounds and ends ---------------------------------------------------------------------------------------------- */

START_TEST(writes_beyond_the_limit_end_the_snapshot_and_nothing_else)
{
    struct store *store = probe_store(5), *twin = probe_store(5);
    fill(store, "k", 20000);
    fill(twin, "k", 20000);
    enum { LIMIT = 256 * 1024 };
    struct store_snapshot *snapshot = store_snapshot_begin(store, LIMIT);
    ck_assert_ptr_nonnull(snapshot);
    struct bytes stream = {0};
    ck_assert_int_eq(step_into(snapshot, 4096, &stream), STORE_SNAPSHOT_MORE);
    for (unsigned round = 0; round < 2; round++) {
        fill(store, "k", 20000);
        fill(twin, "k", 20000);
        ck_assert_uint_le(store_snapshot_pending(snapshot), LIMIT + 65536);
    }
    size_t before = stream.len;
    ck_assert_int_eq(step_into(snapshot, 4096, &stream), STORE_SNAPSHOT_OVERFLOW);
    ck_assert_int_eq(step_into(snapshot, 4096, &stream), STORE_SNAPSHOT_OVERFLOW);
    ck_assert_uint_eq(stream.len, before);
    tell(store, "FLUSHALL");
    tell(twin, "FLUSHALL");
    store_snapshot_end(snapshot);
    ck_assert_same(store, twin);
    bytes_fini(&stream);
    stream = snapshot_all(store);
    bytes_fini(&stream);
    store_free(store);
    store_free(twin);
}
END_TEST

START_TEST(large_blocks_count_towards_the_limit)
{
    struct store *store = probe_store(5);
    char name[32];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "big%u", i);
        set_filled(store, name, 100000, i);
    }
    struct store_snapshot *snapshot = store_snapshot_begin(store, 1000000);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "DEL big%u", i);
        tell(store, name);
        ck_assert_uint_le(store_snapshot_pending(snapshot), 1000000 + 101000);
    }
    struct bytes stream = {0};
    ck_assert_int_eq(step_into(snapshot, 4096, &stream), STORE_SNAPSHOT_OVERFLOW);
    store_snapshot_end(snapshot);
    bytes_fini(&stream);
    ck_assert_uint_eq(store_keys(store), 0);
    store_free(store);
}
END_TEST

START_TEST(pending_bytes_stay_small_when_each_entry_is_followed_by_a_step)
{
    struct store *store = probe_store(5);
    fill(store, "k", 50000);
    struct store_snapshot *snapshot = begin(store);
    struct bytes stream = {0};
    enum store_snapshot_state state = STORE_SNAPSHOT_MORE;
    for (unsigned i = 0; state == STORE_SNAPSHOT_MORE; i++) {
        char line[64];
        snprintf(line, sizeof line, "SET k%u x", i * 7919 % 50000);
        tell(store, line);
        ck_assert_uint_le(store_snapshot_pending(snapshot), 65536);
        state = step_into(snapshot, 1000, &stream);
    }
    ck_assert_int_eq(state, STORE_SNAPSHOT_DONE);
    ck_assert_uint_lt(store_snapshot_bytes(snapshot), 200000);
    store_snapshot_end(snapshot);
    bytes_fini(&stream);
    store_free(store);
}
END_TEST

START_TEST(snapshot_may_be_ended_at_any_time)
{
    struct history history;
    history_init(&history, 9);
    for (unsigned i = 0; i < 2000; i++) {
        write_random(&history);
    }
    for (unsigned round = 0; round < 60; round++) {
        struct bytes stream = {0};
        struct store_snapshot *snapshot = begin(history.store);
        enum store_snapshot_state state = STORE_SNAPSHOT_MORE;
        for (unsigned i = 0; i < round && state == STORE_SNAPSHOT_MORE; i++) {
            for (unsigned n = 0; n < 20; n++) {
                write_random(&history);
            }
            state = step_into(snapshot, 30000, &stream);
        }
        store_snapshot_end(snapshot);
        bytes_fini(&stream);
    }
    history_catch_up(&history);
    ck_assert_same(history.twin, history.store);
    snapshot_and_compare(&history, 20, 20000, 9);
    history_fini(&history);
}
END_TEST

static size_t address_space_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    return pages * 4096;
}

/* Blocks of 16 MB are mapped by themselves: leaks of them show only in the address space. */
START_TEST(every_way_to_end_gives_back_what_was_kept)
{
    struct store *store = probe_store(10);
    size_t before = address_space_bytes();
    for (unsigned round = 0; round < 77; round++) {
        set_filled(store, "big", 16000000, round);
        fill(store, "k", 100);
        struct store_snapshot *snapshot = store_snapshot_begin(store, round % 4 == 0 ? 0 : STORE_SNAPSHOT_SIDE_BYTES);
        struct bytes stream = {0};
        for (unsigned i = 0; i < round % 4; i++) {
            (void)!step_into(snapshot, 10000, &stream);
        }
        if (round % 2 == 0) {
            tell(store, "SET big x");
        }
        if (round % 3 == 0) {
            tell(store, "FLUSHALL");
        }
        if (round % 3 == 1) {
            struct store *empty = probe_store(10);
            struct bytes empty_stream = snapshot_all(empty);
            store_replace(store, load_ok(&empty_stream, 10));
            store_free(empty);
            bytes_fini(&empty_stream);
        }
        if (round % 11 == 0) {
            while (step_into(snapshot, 1 << 20, &stream) == STORE_SNAPSHOT_MORE) {
            }
        }
        store_snapshot_end(snapshot);
        bytes_fini(&stream);
        while (store_tidy(store)) {
        }
    }
    ck_assert_uint_lt(address_space_bytes(), before + 350000000);
    store_free(store);
}
END_TEST

START_TEST(nothing_is_kept_of_a_store_that_only_grows)
{
    struct store *store = probe_store(6);
    fill(store, "k", 1000);
    struct store_snapshot *snapshot = begin(store);
    fill(store, "new", 20000);
    ck_assert_uint_eq(store_snapshot_pending(snapshot), 0);
    struct bytes stream = {0};
    finish_into(snapshot, 4096, &stream);
    struct store *loaded = load_ok(&stream, 6);
    ck_assert_uint_eq(store_keys(loaded), 1000);
    store_free(loaded);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

/* --- Replicas ----------------------------------------------------------------------------------------------------- */

START_TEST(replicas_with_other_seeds_and_pasts_give_the_same_digest)
{
    struct history history;
    history_init(&history, 21);
    for (unsigned i = 0; i < 3000; i++) {
        write_random(&history);
    }
    /* One replica has been loaded from a snapshot and went on from there. */
    history_catch_up(&history);
    struct bytes stream = snapshot_all(history.store);
    struct store *joined = load_ok(&stream, 99);
    bytes_fini(&stream);
    for (unsigned i = 0; i < 3000; i++) {
        write_random(&history);
    }
    for (size_t i = 0; i < history.n_owed; i++) {
        store_apply(joined, history.owed[i].data, history.owed[i].len, NULL);
    }
    history_catch_up(&history);
    struct store *stores[] = {history.store, history.twin, joined};
    uint64_t digests[3];
    for (unsigned i = 0; i < 3; i++) {
        struct store_snapshot *snapshot = begin(stores[i]);
        struct store_cut cut;
        store_snapshot_cut(snapshot, &cut);
        digests[i] = cut.digest;
        bytes_fini(&stream);
        finish_into(snapshot, 4096, &stream);
        struct store *loaded = load_ok(&stream, i);
        ck_assert_uint_eq(store_digest(loaded), cut.digest);
        store_free(loaded);
    }
    ck_assert_uint_eq(digests[0], digests[1]);
    ck_assert_uint_eq(digests[0], digests[2]);
    bytes_fini(&stream);
    store_free(joined);
    history_fini(&history);
}
END_TEST

START_TEST(replace_puts_what_was_loaded_in_the_place_of_the_content)
{
    struct store *leader = probe_store(8), *follower = probe_store(8);
    fill(leader, "k", 5000);
    tell(leader, "SET t v PX 500");
    fill(follower, "stale", 30000);
    set_filled(follower, "huge", 3000000, 1);
    /* The follower takes a snapshot itself meanwhile. */
    struct store *stale = probe_store(8);
    fill(stale, "stale", 30000);
    set_filled(stale, "huge", 3000000, 1);
    struct bytes own = {0}, stream = snapshot_all(leader);
    struct store_snapshot *snapshot = begin(follower);
    ck_assert_int_eq(step_into(snapshot, 65536, &own), STORE_SNAPSHOT_MORE);
    store_replace(follower, load_ok(&stream, 8));
    ck_assert_same(leader, follower);
    finish_into(snapshot, 65536, &own);
    struct store *loaded = load_ok(&own, 8);
    ck_assert_same(stale, loaded);
    tell_at(leader, 1500, "SET k1 x");
    tell_at(follower, 1500, "SET k1 x");
    ck_assert_same(leader, follower);
    while (store_tidy(follower)) {
    }
    /* And once more without a snapshot, while memory is being given back. */
    set_filled(follower, "huge", 3000000, 1);
    tell_at(follower, 1500, "FLUSHALL");
    ck_assert(store_tidy(follower));
    store_replace(follower, load_ok(&stream, 8));
    ck_assert_uint_eq(store_keys(follower), 5001);
    store_free(loaded);
    store_free(stale);
    store_free(leader);
    store_free(follower);
    bytes_fini(&own);
    bytes_fini(&stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_stream");
    TCase *tests = tcase_create("snapshot_stream");
    tcase_set_timeout(tests, 100);
    tcase_add_loop_test(tests, random_writes_between_steps_leave_the_cut_as_it_was, 0, 8);
    tcase_add_test(tests, snapshot_of_a_store_at_rest_is_its_content);
    tcase_add_test(tests, snapshot_of_an_empty_store_loads_to_its_revision_and_time);
    tcase_add_loop_test(tests, every_write_to_a_large_key_leaves_it_in_the_snapshot, 0, N_CHANGES);
    tcase_add_loop_test(tests, every_write_to_a_small_key_leaves_it_in_the_snapshot, 0, N_CHANGES);
    tcase_add_test(tests, replaced_large_values_are_not_copied);
    tcase_add_test(tests, snapshot_outlives_any_number_of_flushes);
    tcase_add_test(tests, snapshot_begins_while_the_memory_of_a_flush_is_given_back);
    tcase_add_test(tests, writes_beyond_the_limit_end_the_snapshot_and_nothing_else);
    tcase_add_test(tests, large_blocks_count_towards_the_limit);
    tcase_add_test(tests, pending_bytes_stay_small_when_each_entry_is_followed_by_a_step);
    tcase_add_test(tests, snapshot_may_be_ended_at_any_time);
    tcase_add_test(tests, every_way_to_end_gives_back_what_was_kept);
    tcase_add_test(tests, nothing_is_kept_of_a_store_that_only_grows);
    tcase_add_test(tests, replicas_with_other_seeds_and_pasts_give_the_same_digest);
    tcase_add_test(tests, replace_puts_what_was_loaded_in_the_place_of_the_content);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
