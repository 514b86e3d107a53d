/* The bytes of a snapshot stream: pinned by a golden file, cut anywhere, damaged everywhere. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "snapshot_probe.h"
#include "tests/unit/golden.h"
#include "store/snapshot_format.h"

#define TRAILER_AT(stream) ((stream)->len - SNAPSHOT_TRAILER_BYTES)

/* A short name, a deadline, an empty value, and one value that is cut into pieces. */
static struct store *sample(void)
{
    struct store *store = probe_store(PROBE_SEED);
    tell_at(store, 1700000000000, "SET key value");
    tell_at(store, 1700000000001, "SET short-lived v PX 5000");
    char large[5001];
    memset(large, 'x', 5000);
    struct iovec argv[] = {{(void *)"SET", 3}, {(void *)"large", 5}, {large, 5000}};
    struct bytes entry = entry_of(1700000000002, argv, 3);
    store_apply(store, entry.data, entry.len, NULL);
    bytes_fini(&entry);
    argv[1] = (struct iovec){(void *)"empty", 5};
    argv[2].iov_len = 0;
    entry = entry_of(1700000000003, argv, 3);
    store_apply(store, entry.data, entry.len, NULL);
    bytes_fini(&entry);
    return store;
}

/* With pieces of 4096 and 909 bytes. */
static struct bytes sample_stream(void)
{
    struct store *store = sample();
    struct bytes stream = {0};
    finish_into(begin(store), 1000, &stream);
    store_free(store);
    return stream;
}

static struct bytes golden_stream(void)
{
    const size_t capacity = 65536;
    struct bytes bytes = {.data = malloc(capacity), .capacity = capacity};
    ck_assert_ptr_nonnull(bytes.data);
    bytes.len = golden_read("snapshot-stream-v1.hex", bytes.data, capacity);
    return bytes;
}

START_TEST(stream_has_the_bytes_of_the_golden_file)
{
    struct bytes want = golden_stream(), got = sample_stream();
    ck_assert_uint_eq(got.len, want.len);
    ck_assert_mem_eq(got.data, want.data, want.len);
    bytes_fini(&want);
    bytes_fini(&got);
}
END_TEST

START_TEST(golden_file_loads_to_its_content)
{
    struct bytes golden = golden_stream();
    struct store *loaded = load_ok(&golden, PROBE_SEED), *want = sample();
    ck_assert_same(want, loaded);
    ck_assert_uint_eq(store_keys(loaded), 4);
    ck_assert_uint_eq(store_revision(loaded), 4);
    ck_assert_uint_eq(store_time_ms(loaded), 1700000000003);
    ck_assert_uint_eq(store_next_deadline_ms(loaded), 1700000005001);
    store_free(loaded);
    store_free(want);
    bytes_fini(&golden);
}
END_TEST

START_TEST(stream_may_be_cut_anywhere)
{
    struct bytes stream = sample_stream();
    struct store *want = sample();
    for (size_t chunk = 1; chunk <= stream.len; chunk += chunk < 200 ? 1 : 97) {
        struct store *loaded = probe_store(chunk);
        ck_assert_int_eq(load_into(loaded, &stream, chunk, chunk % 2 == 0 ? stream.len : 0, NULL), STORE_OK);
        ck_assert_same(want, loaded);
        store_free(loaded);
    }
    store_free(want);
    bytes_fini(&stream);
}
END_TEST

static struct store *store_with(unsigned n, bool with_deadlines)
{
    struct store *store = probe_store(PROBE_SEED);
    for (unsigned i = 0; i < n; i++) {
        char line[64];
        snprintf(line, sizeof line, with_deadlines ? "SET k%u v PXAT %u" : "SET k%u v", i, 5000 + i * 7919 % n);
        tell(store, line);
    }
    return store;
}

START_TEST(keys_with_deadlines_expire_in_order_after_loading)
{
    enum { N = 20000 };
    struct store *store = store_with(N, true);
    struct bytes stream = snapshot_all(store);
    struct store *loaded = load_ok(&stream, PROBE_SEED + 1);
    ck_assert_same(store, loaded);
    for (uint64_t time_ms = 5000; store_keys(store) > 0; time_ms += 100) {
        tell_at(store, time_ms, "PEXPIRE k17 100000");
        tell_at(loaded, time_ms, "PEXPIRE k17 100000");
        ck_assert_uint_eq(store_digest(loaded), store_digest(store));
        ck_assert_uint_eq(store_next_deadline_ms(loaded), store_next_deadline_ms(store));
        tell_at(store, time_ms, "DEL k18 k17");
        tell_at(loaded, time_ms, "DEL k18 k17");
    }
    store_free(loaded);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

START_TEST(settling_in_pieces_is_the_same_as_finishing_at_once)
{
    struct store *store = store_with(5000, true), *loaded = probe_store(1);
    struct bytes stream = snapshot_all(store);
    struct store_loader *loader = store_loader_new(loaded, stream.len);
    ck_assert(store_loader_settle(loader, 1)); /* too early: does nothing */
    ck_assert_int_eq(store_loader_feed(loader, stream.data, stream.len), STORE_OK);
    unsigned pieces = 0;
    while (!store_loader_settle(loader, 100)) {
        pieces++;
    }
    ck_assert_uint_gt(pieces, 50);
    uint64_t total;
    ck_assert_uint_eq(store_loader_keys(loader, &total), 5000);
    ck_assert_uint_eq(total, 5000);
    ck_assert_int_eq(store_loader_finish(loader), STORE_OK);
    store_loader_free(loader);
    ck_assert_same(store, loaded);
    store_free(loaded);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

START_TEST(table_is_sized_once_for_all_keys)
{
    struct store *store = store_with(100000, false);
    struct bytes stream = snapshot_all(store);
    struct store *loaded = load_ok(&stream, PROBE_SEED);
    struct store_stats grown, sized;
    store_stats(store, &grown);
    store_stats(loaded, &sized);
    ck_assert_uint_le(sized.table_bytes, grown.table_bytes + grown.table_bytes / 20);
    ck_assert_uint_le(sized.entry_bytes, grown.entry_bytes + 200000);
    store_free(loaded);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

/* --- What must be refused ----------------------------------------------------------------------------------------- */

static void mend_header(struct bytes *stream)
{
    entry_store64(stream->data + SNAPSHOT_HEADER_BYTES - 8, XXH3_64bits(stream->data, SNAPSHOT_HEADER_BYTES - 8));
}

/* `length` is what the loader is told. */
static void refuses_of(const struct bytes *stream, uint64_t length, enum store_status want, const char *why)
{
    char error[200];
    for (size_t chunk = 7; chunk < 100000; chunk *= 97) {
        struct store *store = probe_store(1);
        enum store_status status = load_into(store, stream, chunk, length, error);
        ck_assert_msg(status == want, "%s: status %d, error <%s>", why, (int)status, error);
        ck_assert_msg(strstr(error, why) != NULL, "<%s> does not say <%s>", error, why);
        store_free(store);
    }
}

static void refuses(const struct bytes *stream, enum store_status want, const char *why)
{
    refuses_of(stream, stream->len, want, why);
}

/* Keys that a stream's header claims need not be there. */
static void refuses_unsized(const struct bytes *stream, const char *why)
{
    refuses_of(stream, 0, STORE_MALFORMED, why);
}

START_TEST(every_flipped_bit_is_refused)
{
    struct bytes stream = sample_stream();
    for (size_t at = 0; at < stream.len; at++) {
        for (unsigned bit = 0; bit < 8; bit += at < 300 || at > stream.len - 1000 ? 1 : 5) {
            stream.data[at] ^= (uint8_t)(1u << bit);
            struct store *store = probe_store(1);
            enum store_status status = load_into(store, &stream, stream.len, at % 2 == 0 ? stream.len : 0, NULL);
            ck_assert_msg(status != STORE_OK, "bit %u of byte %zu", bit, at);
            store_free(store);
            stream.data[at] ^= (uint8_t)(1u << bit);
        }
    }
    bytes_fini(&stream);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    struct bytes stream = sample_stream();
    for (size_t len = stream.len; len-- > 0;) {
        struct bytes part = {.data = stream.data, .len = len};
        struct store *store = probe_store(1);
        ck_assert_int_eq(load_into(store, &part, 1000, 0, NULL), STORE_MALFORMED);
        store_free(store);
    }
    bytes_fini(&stream);
}
END_TEST

START_TEST(bytes_after_the_trailer_are_refused)
{
    struct bytes stream = sample_stream();
    bytes_add(&stream, "", 1);
    refuses(&stream, STORE_MALFORMED, "more after the trailer");
    bytes_fini(&stream);
}
END_TEST

START_TEST(streams_of_newer_versions_are_told_from_damage)
{
    struct bytes stream = sample_stream();
    stream.data[12] = 1;
    refuses(&stream, STORE_MALFORMED, "checksum");
    mend_header(&stream);
    refuses(&stream, STORE_VERSION, "unknown flags 1");
    /* A newer one may keep its checksum elsewhere. */
    stream.data[8] = 2;
    refuses(&stream, STORE_VERSION, "version 2");
    stream.data[0] = 'X';
    refuses(&stream, STORE_MALFORMED, "not a snapshot");
    bytes_fini(&stream);
}
END_TEST

struct lie {
    unsigned at;
    uint64_t value;
    const char *why;
};

START_TEST(headers_that_cannot_be_are_refused)
{
    static const struct lie lies[] = {{16, UINT64_C(1) << 48, "revision"},
                                      {24, UINT64_C(1) << 63, "time"},
                                      {32, 5, "can't be at revision"},
                                      {32, 3, "more than the 3 keys"},
                                      {40, 5, "can't be at revision"},
                                      {40, 2, "4 keys, 1 with a deadline"},
                                      {48, 7, "size"},
                                      {16, 5, "digest"},
                                      {24, 1, "digest"},
                                      {56, 1, "header and trailer differ"}};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct bytes stream = sample_stream();
        entry_store64(stream.data + lies[i].at, lies[i].value);
        mend_header(&stream);
        refuses(&stream, STORE_MALFORMED, lies[i].why);
        bytes_fini(&stream);
    }
    struct bytes stream = sample_stream();
    entry_store64(stream.data + 16, UINT64_C(1) << 40);
    entry_store64(stream.data + 32, UINT64_C(1) << 39);
    mend_header(&stream);
    refuses(&stream, STORE_MALFORMED, "don't fit");
    bytes_fini(&stream);
}
END_TEST

/* A stream of one's own making, whose header claims 10 keys. */
static struct bytes stream_begin(void)
{
    struct bytes stream = sample_stream();
    stream.len = SNAPSHOT_HEADER_BYTES;
    entry_store64(stream.data + 16, 100);
    entry_store64(stream.data + 32, 10);
    mend_header(&stream);
    return stream;
}

static void add_record(struct bytes *stream, const struct snapshot_record *record, const char *payload, size_t len)
{
    uint8_t head[SNAPSHOT_RECORD_HEADER_BYTES + 8];
    bytes_add(stream, head, (size_t)(snapshot_record_encode(head, record) - head));
    bytes_add(stream, payload, len);
}

static void add_key(struct bytes *stream, const char *name)
{
    struct snapshot_record record = {.kind = SNAPSHOT_KEY, .revision = 1, .name_len = (uint32_t)strlen(name)};
    add_record(stream, &record, name, strlen(name));
}

static void add_trailer(struct bytes *stream, uint64_t n)
{
    uint8_t trailer[SNAPSHOT_TRAILER_BYTES];
    entry_store64(trailer, SNAPSHOT_TRAILER);
    entry_store64(trailer + 8, n);
    memcpy(trailer + 16, stream->data + 56, 8);
    bytes_add(stream, trailer, sizeof trailer);
}

START_TEST(records_that_cannot_be_are_refused)
{
    static const struct {
        struct snapshot_record record;
        const char *why;
    } rows[] = {
        {{.kind = 9, .revision = 1}, "unknown kind of record 9"},
        {{.kind = SNAPSHOT_KEY, .revision = 0}, "revision 0"},
        {{.kind = SNAPSHOT_KEY, .revision = 101}, "revision 101"},
        {{.kind = SNAPSHOT_KEY, .revision = 1, .info = 1}, "unknown type or flags 01"},
        {{.kind = SNAPSHOT_KEY, .revision = 1, .info = 16}, "unknown type or flags 10"},
        {{.kind = SNAPSHOT_KEY, .revision = 1, .info = KEY_HAS_DEADLINE, .deadline_ms = UINT64_MAX}, "deadline"},
        {{.kind = SNAPSHOT_KEY, .revision = 1, .name_len = 4097}, "not cut into pieces"},
        {{.kind = SNAPSHOT_KEY, .revision = 1, .name_len = UINT32_MAX, .value_len = UINT32_MAX}, "not cut into pieces"},
        {{.kind = SNAPSHOT_LARGE, .revision = 1, .name_len = 1u << 29}, "too long"},
        {{.kind = SNAPSHOT_LARGE, .revision = 1, .name_len = 1, .value_len = (1u << 29) + 1}, "too long"},
        {{.kind = SNAPSHOT_LARGE, .revision = 1, .name_len = 1, .value_len = 1u << 29},
         "a large key of 536870913 bytes"},
        {{.kind = SNAPSHOT_LARGE, .revision = 1}, "a large key of 0 bytes"},
        {{.kind = SNAPSHOT_LARGE, .revision = 101, .name_len = 1}, "revision 101"},
        {{.kind = SNAPSHOT_PIECE, .name_len = 1}, "a piece of 1 bytes where 0 are missing"},
        {{.kind = SNAPSHOT_PIECE, .value_len = 1}, "reserved field of a piece"},
        {{.kind = SNAPSHOT_TRAILER, .revision = 1}, "reserved field of the trailer"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bytes stream = stream_begin();
        add_key(&stream, "first");
        add_record(&stream, &rows[i].record, "", 0);
        bytes_add(&stream, (char[64]){0}, 64);
        refuses(&stream, STORE_MALFORMED, rows[i].why);
        bytes_fini(&stream);
    }
}
END_TEST

START_TEST(keys_that_come_twice_are_refused)
{
    struct bytes stream = stream_begin();
    add_key(&stream, "one");
    add_key(&stream, "two");
    add_key(&stream, "one");
    add_trailer(&stream, 3);
    refuses_unsized(&stream, "a key comes twice: \"one\"");
    bytes_fini(&stream);
}
END_TEST

START_TEST(trailers_that_miscount_are_refused)
{
    struct bytes stream = stream_begin();
    add_key(&stream, "one");
    add_trailer(&stream, 2);
    refuses_unsized(&stream, "1 keys came, the trailer has 2");
    stream.len = SNAPSHOT_HEADER_BYTES;
    add_key(&stream, "one");
    add_trailer(&stream, 1);
    refuses_unsized(&stream, "came of 10");
    stream.len = SNAPSHOT_HEADER_BYTES;
    for (char name[] = "a"; name[0] <= 'k'; name[0]++) {
        add_key(&stream, name);
    }
    refuses_unsized(&stream, "more than the 10 keys");
    bytes_fini(&stream);
}
END_TEST

START_TEST(large_keys_that_are_not_whole_are_refused)
{
    const struct snapshot_record large = {.kind = SNAPSHOT_LARGE, .revision = 1, .name_len = 1, .value_len = 9};
    const struct snapshot_record piece = {.kind = SNAPSHOT_PIECE, .name_len = 6};
    struct bytes stream = stream_begin();
    add_record(&stream, &large, "", 0);
    add_record(&stream, &piece, "kvalue", 6);
    add_trailer(&stream, 1);
    refuses_unsized(&stream, "the last large key is not complete");
    stream.len -= SNAPSHOT_TRAILER_BYTES;
    add_record(&stream, &piece, "values", 6);
    refuses_unsized(&stream, "a piece of 6 bytes where 4 are missing");
    stream.len -= SNAPSHOT_RECORD_HEADER_BYTES + 6;
    add_record(&stream, &large, "", 0);
    refuses_unsized(&stream, "begins within another");
    bytes_fini(&stream);
}
END_TEST

START_TEST(small_keys_may_come_between_the_pieces_of_a_large_one)
{
    struct store *store = sample(), *cut = sample();
    struct bytes stream = {0};
    struct store_snapshot *snapshot = begin(store);
    tell_at(store, 1700000000003, "DEL large"); /* so that it comes first */
    ck_assert_int_eq(step_into(snapshot, 100, &stream), STORE_SNAPSHOT_MORE);
    size_t second = SNAPSHOT_HEADER_BYTES + 2 * SNAPSHOT_RECORD_HEADER_BYTES + 4096;
    ck_assert_uint_eq(stream.len, second);
    tell_at(store, 1700000000003, "SET key other");
    finish_into(snapshot, 100, &stream);
    ck_assert_uint_eq(stream.data[SNAPSHOT_HEADER_BYTES], SNAPSHOT_LARGE);
    ck_assert_uint_eq(stream.data[SNAPSHOT_HEADER_BYTES + SNAPSHOT_RECORD_HEADER_BYTES], SNAPSHOT_PIECE);
    ck_assert_uint_eq(stream.data[second], SNAPSHOT_KEY);
    ck_assert_uint_eq(stream.data[second + SNAPSHOT_RECORD_HEADER_BYTES + 8], SNAPSHOT_PIECE);
    struct store *loaded = load_ok(&stream, 1);
    ck_assert_same(cut, loaded);
    store_free(loaded);
    store_free(cut);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

START_TEST(claims_of_many_keys_take_no_memory_without_evidence)
{
    struct bytes stream = stream_begin();
    entry_store64(stream.data + 16, UINT64_C(1) << 47);
    entry_store64(stream.data + 32, UINT64_C(1) << 46);
    mend_header(&stream);
    struct store *store = probe_store(1);
    struct store_loader *loader = store_loader_new(store, 0);
    ck_assert_int_eq(store_loader_feed(loader, stream.data, stream.len), STORE_OK);
    struct store_stats stats;
    store_stats(store, &stats);
    ck_assert_uint_lt(stats.table_bytes, 12000000);
    ck_assert_int_eq(store_loader_finish(loader), STORE_MALFORMED);
    store_loader_free(loader);
    store_free(store);
    bytes_fini(&stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_load");
    TCase *tests = tcase_create("snapshot_load");
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, stream_has_the_bytes_of_the_golden_file);
    tcase_add_test(tests, golden_file_loads_to_its_content);
    tcase_add_test(tests, stream_may_be_cut_anywhere);
    tcase_add_test(tests, keys_with_deadlines_expire_in_order_after_loading);
    tcase_add_test(tests, settling_in_pieces_is_the_same_as_finishing_at_once);
    tcase_add_test(tests, table_is_sized_once_for_all_keys);
    tcase_add_test(tests, every_flipped_bit_is_refused);
    tcase_add_test(tests, every_truncation_is_refused);
    tcase_add_test(tests, bytes_after_the_trailer_are_refused);
    tcase_add_test(tests, streams_of_newer_versions_are_told_from_damage);
    tcase_add_test(tests, headers_that_cannot_be_are_refused);
    tcase_add_test(tests, records_that_cannot_be_are_refused);
    tcase_add_test(tests, keys_that_come_twice_are_refused);
    tcase_add_test(tests, trailers_that_miscount_are_refused);
    tcase_add_test(tests, large_keys_that_are_not_whole_are_refused);
    tcase_add_test(tests, small_keys_may_come_between_the_pieces_of_a_large_one);
    tcase_add_test(tests, claims_of_many_keys_take_no_memory_without_evidence);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
