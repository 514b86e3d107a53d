/* Memory runs out: every allocation of a scenario fails in turn, once alone and once with all that follow. What asks
 * for memory outside apply must then say so, lose nothing that it had, and free what it took (checked by the asan
 * build). The linker sends the allocations of everything but the C library through __wrap_*. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/command.h"
#include "cmd/lockstepd/known_nodes.h"
#include "consensus/log_tail.h"
#include "net/resp.h"
#include "store/snapshot.h"

#define KEYS 300
#define FAILURES_MAX 100000u

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool armed, forever, failed;
static unsigned left; /* allocations that still succeed */

/* Checks inside a scenario: check's own need memory. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            armed = false;                                                                                             \
            ck_abort_msg("%s", #condition);                                                                            \
        }                                                                                                              \
    } while (0)

static bool fails(void)
{
    if (!armed || (failed && !forever)) {
        return false;
    }
    if (left > 0) {
        left--;
        return false;
    }
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

/* `run` says whether it succeeded; it must fail if and only if it was refused memory, or, if `tolerant`, may do
 * without. */
static void check_each_failure(bool (*run)(void), bool tolerant)
{
    for (int all = 0; all <= 1; all++) {
        unsigned at = 0;
        do {
            ck_assert_uint_lt(at, FAILURES_MAX);
            forever = all == 1;
            failed = false;
            left = at++;
            armed = true;
            const bool ok = run();
            armed = false;
            ck_assert_msg(ok || failed, "it failed without being refused memory (%u)", at);
            ck_assert_msg(!ok || !failed || tolerant, "allocation %u was refused, and nobody noticed", at);
        } while (failed);
        ck_assert_uint_gt(at, 1); /* it does ask for memory */
    }
}

/* --- Requests ------------------------------------------------------------------------------------------------------
 */

static char request_bytes[400000];
static size_t request_len;

static void make_requests(void)
{
    size_t at = 0;

    at += (size_t)snprintf(request_bytes + at, sizeof request_bytes - at, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n");
    memset(request_bytes + at, 'v', 200000);
    at += 200000;
    at += (size_t)snprintf(request_bytes + at, sizeof request_bytes - at,
                           "\r\nPING \"inline\"\r\n*5001\r\n$3\r\nDEL\r\n");
    for (int i = 0; i < 5000; i++) {
        at += (size_t)snprintf(request_bytes + at, sizeof request_bytes - at, "$4\r\n%04d\r\n", i);
    }
    request_len = at;
}

/* All requests that the reader has; false if it lacks memory. */
static bool drain(struct resp_reader *reader, unsigned *requests, unsigned *args)
{
    const struct iovec *argv;
    unsigned argc;
    enum resp_status status;

    while ((status = resp_reader_next(reader, &argv, &argc)) == RESP_OK) {
        *requests += 1;
        *args += argc;
    }
    MUST(status == RESP_AGAIN || status == RESP_NO_MEMORY);
    return status == RESP_AGAIN;
}

static bool read_requests(void)
{
    const struct resp_limits limits = {
        .args_max = 1024 * 1024, .bulk_bytes_max = 1 << 20, .inline_bytes_max = 65536, .query_bytes_max = 1 << 20};
    static char lent[16384];
    struct resp_reader *reader = resp_reader_new(&limits);
    unsigned requests = 0, args = 0;
    bool ok = reader != NULL;

    for (size_t at = 0; ok && at < request_len;) {
        char *space;
        size_t len;
        if (!resp_reader_lend(reader, lent, sizeof lent, &space, &len) &&
            resp_reader_space(reader, 4096, &space, &len) != RESP_OK) {
            ok = false;
            break;
        }
        len = len < request_len - at ? len : request_len - at;
        memcpy(space, request_bytes + at, len);
        resp_reader_fed(reader, len);
        at += len;
        ok = drain(reader, &requests, &args) && resp_reader_settle(reader) == RESP_OK;
    }
    if (ok) {
        MUST(requests == 3);
        MUST(args == 3 + 2 + 5001);
    }
    if (reader != NULL) {
        resp_reader_free(reader);
    }
    return ok;
}

START_TEST(requests)
{
    make_requests();
    check_each_failure(read_requests, false);
}
END_TEST

/* --- Replies -------------------------------------------------------------------------------------------------------
 */

static bool write_replies(void)
{
    struct resp_buffer buffer;

    resp_buffer_init(&buffer);
    resp_write_array(&buffer, 3);
    resp_write_bulk(&buffer, request_bytes, 100000);
    resp_write_bulk(&buffer, request_bytes, 200000);
    resp_write_integer(&buffer, 7);
    const bool ok = !buffer.failed;
    if (ok) {
        MUST(buffer.len == 4 + 9 + 100002 + 9 + 200002 + 4);
        MUST(memcmp(buffer.data + buffer.len - 4, ":7\r\n", 4) == 0);
    }
    resp_buffer_fini(&buffer);
    return ok;
}

START_TEST(replies)
{
    check_each_failure(write_replies, false);
}
END_TEST

/* --- Entries -------------------------------------------------------------------------------------------------------
 */

static struct iovec word(const char *text)
{
    return (struct iovec){(void *)text, strlen(text)};
}

/* A batch of a command per key and one transaction. A command that found no memory is added again: the batch has kept
 * what it had. */
static bool build_entry(uint64_t time_ms, void **data, size_t *len)
{
    struct store_batch batch;
    const struct iovec incr[] = {word("INCR"), word("n")};
    const struct store_watch watch = {.key = word("n")};
    const struct store_queued queued[] = {{incr, 2}, {incr, 2}};
    bool ok = true;

    store_batch_init(&batch, 1 << 20);
    for (unsigned i = 0; ok && i < KEYS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "key:%u", i);
        const struct iovec set[] = {word("SET"), word(name), word("a value of some length")};
        enum store_status status = store_batch_add(&batch, set, 3);
        if (status == STORE_NO_MEMORY) {
            MUST(store_batch_count(&batch) == i);
            status = store_batch_add(&batch, set, 3);
        }
        ok = status == STORE_OK;
    }
    ok = ok && store_batch_add_transaction(&batch, &watch, 1, queued, 2) == STORE_OK &&
         store_batch_seal(&batch, time_ms, data, len) == STORE_OK;
    store_batch_fini(&batch);
    return ok;
}

static bool build_and_read_entry(void)
{
    struct store_entry_reader reader;
    void *data;
    size_t len;
    unsigned commands = 0;

    if (!build_entry(1000, &data, &len)) {
        return false;
    }
    MUST(store_entry_check(data, len) == STORE_OK);
    store_entry_reader_init(&reader, data, len);
    while (store_entry_next(&reader)) {
        commands++;
    }
    const bool ok = !reader.no_memory;
    MUST(!ok || commands == KEYS + 1);
    store_entry_reader_fini(&reader);
    free(data);
    return ok;
}

START_TEST(entries)
{
    check_each_failure(build_and_read_entry, true); /* a command is added again */
}
END_TEST

/* --- Reads and snapshots -------------------------------------------------------------------------------------------
 */

static struct store *store;

static void setup_store(void)
{
    void *data;
    size_t len;

    store = store_new(&(struct store_config){.hash_seed = 1});
    MUST(store != NULL);
    MUST(build_entry(1000, &data, &len));
    store_apply(store, data, len, NULL);
    free(data);
}

static void teardown_store(void)
{
    store_free(store);
}

struct counted {
    struct store_reply base;
    unsigned bulks, errors;
    size_t promised;
};

static void count_error(struct store_reply *r, const char *text, size_t len)
{
    (void)text;
    (void)len;
    ((struct counted *)r)->errors++;
}

static void count_bulk(struct store_reply *r, const void *data, size_t len)
{
    (void)data;
    (void)len;
    ((struct counted *)r)->bulks++;
}

static void count_array(struct store_reply *r, size_t n)
{
    ((struct counted *)r)->promised = n;
}

/* All keys, or an error: never some of them. */
static bool read_keys(void)
{
    static const struct store_reply_ops ops = {.error = count_error, .bulk = count_bulk, .array = count_array};
    struct counted reply = {.base = {&ops}};
    const struct iovec argv[] = {word("KEYS"), word("key:*")};

    store_read(store, store_command_find("keys", 4), argv, 2, &reply.base);
    MUST(reply.bulks == reply.promised);
    if (reply.errors == 0) {
        MUST(reply.bulks == KEYS);
    }
    return reply.errors == 0;
}

START_TEST(reads)
{
    check_each_failure(read_keys, false);
}
END_TEST

static bool begin_snapshot(void)
{
    struct store_snapshot *snapshot = store_snapshot_begin(store, STORE_SNAPSHOT_SIDE_BYTES);

    if (snapshot != NULL) {
        store_snapshot_end(snapshot);
    }
    return snapshot != NULL;
}

START_TEST(snapshots)
{
    check_each_failure(begin_snapshot, false);
}
END_TEST

/* --- The log's tail ------------------------------------------------------------------------------------------------
 */

static bool push_entries(void)
{
    struct log_tail tail;
    bool ok = true;

    log_tail_init(&tail, 5);
    for (unsigned i = 0; ok && i < KEYS; i++) {
        const struct log_tail_entry entry = {.term = i, .len = 8, .data = __real_malloc(8)};
        MUST(entry.data != NULL);
        if (!log_tail_push(&tail, &entry)) {
            free(entry.data);
            MUST(log_tail_next(&tail) == 5 + i);
            ok = false;
        }
    }
    for (uint64_t i = log_tail_first(&tail); i < log_tail_next(&tail); i++) {
        MUST(log_tail_at(&tail, i)->term == i - 5);
    }
    log_tail_fini(&tail);
    return ok;
}

START_TEST(tail)
{
    check_each_failure(push_entries, false);
}
END_TEST

/* --- Start ---------------------------------------------------------------------------------------------------------
 */

static bool start(void)
{
    static const uint8_t cluster[16] = {1};
    char error[KNOWN_NODES_ERROR_MAX];
    struct known_nodes *known;
    struct command_index *index = command_index_new();

    if (index == NULL) {
        return false;
    }
    command_index_free(index);
    if (known_nodes_open(&known, "no such directory", cluster, error) != KNOWN_NODES_OK) {
        MUST(known == NULL);
        return false;
    }
    known_nodes_free(known);
    return true;
}

START_TEST(starting)
{
    check_each_failure(start, false);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("no_memory");
    TCase *cases = tcase_create("no_memory");
    TCase *stored = tcase_create("store");

    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, requests);
    tcase_add_test(cases, replies);
    tcase_add_test(cases, entries);
    tcase_add_test(cases, tail);
    tcase_add_test(cases, starting);
    tcase_add_checked_fixture(stored, setup_store, teardown_store);
    tcase_add_test(stored, reads);
    tcase_add_test(stored, snapshots);
    suite_add_tcase(suite, cases);
    suite_add_tcase(suite, stored);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int bad = srunner_ntests_failed(runner);
    srunner_free(runner);
    return bad == 0 ? 0 : 1;
}
