/* Steers work on the store: time per command and memory per key, without network or log.
 * Usage: store_bench [keys] [value bytes] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"

#define BATCH 256u
/* Of a name: 16 bytes up to 10^12 keys, and room for what the compiler thinks possible. */
#define NAME_SIZE 32u

/* Time of this thread, so that a busy machine does not count. */
static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static uint64_t rss_bytes(void)
{
    unsigned long size = 0;
    unsigned long resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%lu %lu", &size, &resident) != 2) {
        fprintf(stderr, "store_bench: cannot read /proc/self/statm\n");
        exit(1);
    }
    fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

struct bench {
    struct store *store;
    uint64_t keys;
    size_t value_bytes;
    char *value;
    uint64_t time_ms;
};

struct run {
    uint64_t total_ns, worst_ns;
};

static void count_bulk(struct store_reply *r, const void *data, size_t len);
static void ignore_null(struct store_reply *r);
static void ignore_status(struct store_reply *r, const char *text);
static void ignore_integer(struct store_reply *r, int64_t value);

struct sink {
    struct store_reply reply;
    uint64_t bytes, nulls;
};

static void count_bulk(struct store_reply *r, const void *data, size_t len)
{
    struct sink *sink = (struct sink *)r;
    sink->bytes += len + *(const unsigned char *)data;
}

static void ignore_null(struct store_reply *r)
{
    ((struct sink *)r)->nulls++;
}

static void ignore_status(struct store_reply *r, const char *text)
{
    (void)r;
    (void)text;
}

static void ignore_integer(struct store_reply *r, int64_t value)
{
    (void)r;
    (void)value;
}

static const struct store_reply_ops sink_ops = {
    .bulk = count_bulk, .null = ignore_null, .status = ignore_status, .integer = ignore_integer};

/* Applies `n` commands in batches; only apply is timed. */
static struct run run_writes(struct bench *bench, const char *command, uint64_t n, bool shuffled, bool expire)
{
    struct run run = {0};
    struct store_batch batch;
    store_batch_init(&batch, 1 << 20);
    char name[NAME_SIZE];
    struct iovec argv[5] = {{.iov_base = (void *)command, .iov_len = strlen(command)},
                            {.iov_base = name, .iov_len = 16},
                            {.iov_base = bench->value, .iov_len = bench->value_bytes},
                            {.iov_base = "px", .iov_len = 2},
                            {.iov_base = "100000000", .iov_len = 9}};
    unsigned argc = strcmp(command, "set") == 0 ? (expire ? 5 : 3) : 2;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t k = shuffled ? mix(i + 1) % bench->keys : i;
        snprintf(name, sizeof name, "key:%012" PRIu64, k);
        if (store_batch_add(&batch, argv, argc) != STORE_OK) {
            exit(1);
        }
        if (store_batch_count(&batch) == BATCH || i + 1 == n) {
            void *data;
            size_t len;
            if (store_batch_seal(&batch, ++bench->time_ms, &data, &len) != STORE_OK) {
                exit(1);
            }
            uint64_t start = now_ns();
            store_apply(bench->store, data, len, NULL);
            uint64_t took = now_ns() - start;
            run.total_ns += took;
            run.worst_ns = took > run.worst_ns ? took : run.worst_ns;
            free(data);
        }
    }
    store_batch_fini(&batch);
    return run;
}

static struct run run_reads(struct bench *bench, uint64_t n)
{
    struct run run = {0};
    struct sink sink = {.reply = {.ops = &sink_ops}};
    const struct store_command *get = store_command_find("GET", 3);
    static char names[1024][NAME_SIZE];
    for (uint64_t done = 0; done < n; done += 1024) {
        for (unsigned i = 0; i < 1024; i++) {
            snprintf(names[i], sizeof names[i], "key:%012" PRIu64, mix(done + i + 1) % bench->keys);
        }
        uint64_t start = now_ns();
        for (unsigned i = 0; i < 1024; i++) {
            struct iovec argv[2] = {{.iov_base = "get", .iov_len = 3}, {.iov_base = names[i], .iov_len = 16}};
            store_read(bench->store, get, argv, 2, &sink.reply);
        }
        run.total_ns += now_ns() - start;
    }
    if (sink.nulls != 0) {
        fprintf(stderr, "store_bench: %" PRIu64 " reads found nothing\n", sink.nulls);
        exit(1);
    }
    return run;
}

static void print(const char *what, struct run run, uint64_t n)
{
    printf("%-34s %7.1f ns per command, slowest batch of %u %7.1f us\n", what, (double)run.total_ns / (double)n, BATCH,
           (double)run.worst_ns / 1e3);
}

int main(int argc, char **argv)
{
    struct bench bench = {.keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000,
                          .value_bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 64};
    if (bench.keys == 0) {
        fprintf(stderr, "usage: store_bench [keys] [value bytes]\n");
        return 2;
    }
    bench.value = malloc(bench.value_bytes + 1);
    if (bench.value == NULL) {
        return 1;
    }
    memset(bench.value, 'v', bench.value_bytes);
    bench.store = store_new(&(struct store_config){.hash_seed = 42});
    run_writes(&bench, "set", 256, false, false);
    run_writes(&bench, "del", 256, false, false);

    uint64_t before = rss_bytes();
    struct run run = run_writes(&bench, "set", bench.keys, false, false);
    uint64_t after = rss_bytes();
    struct store_stats stats;
    store_stats(bench.store, &stats);
    print("SET new keys", run, bench.keys);
    printf("%-34s %7.2f bytes by RSS (table %.2f, entries %.2f), logical %.2f\n", "memory per key",
           (double)(after - before) / (double)bench.keys, (double)stats.table_bytes / (double)bench.keys,
           (double)stats.entry_bytes / (double)bench.keys, (double)store_memory(bench.store) / (double)bench.keys);
    print("SET existing keys, random", run_writes(&bench, "set", bench.keys, true, false), bench.keys);
    print("GET random", run_reads(&bench, bench.keys), bench.keys);
    print("SET existing keys, random, PX", run_writes(&bench, "set", bench.keys, true, true), bench.keys);
    printf("%-34s %7.2f bytes per key by RSS\n", "memory with most keys volatile",
           (double)(rss_bytes() - before) / (double)bench.keys);
    print("DEL random", run_writes(&bench, "del", bench.keys, true, false), bench.keys);
    print("DEL all", run_writes(&bench, "del", bench.keys, false, false), bench.keys);
    printf("%-34s %7.2f bytes per former key by RSS\n", "memory after deleting all",
           (double)(rss_bytes() - before) / (double)bench.keys);
    print("SET new keys, table used before", run_writes(&bench, "set", bench.keys, false, false), bench.keys);
    store_free(bench.store);
    free(bench.value);
    return 0;
}
