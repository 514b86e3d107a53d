/* Snapshots of a large store: how long steps take, what they cost writes and memory, and how fast a stream loads.
 * Usage: snapshot_bench [keys [value bytes [writes per step [file]]]]
 *        snapshot_bench resp <keys> <value bytes>     the same keys as commands for redis-cli --pipe */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/snapshot.h"
#include "store/store.h"

#define BATCH 256u
#define STEP_BYTES ((size_t)64 * 1024)
#define READ_BYTES ((size_t)256 * 1024)
#define NAME_SIZE 32u
/* Histogram of step times: microseconds. */
#define TIMES 20000u

static void fail(const char *what)
{
    fprintf(stderr, "snapshot_bench: %s\n", what);
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Time of this thread, so that a busy machine does not count. */
static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t rss_bytes(void)
{
    unsigned long size = 0;
    unsigned long resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%lu %lu", &size, &resident) != 2) {
        fail("cannot read /proc/self/statm");
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
    uint64_t drawn;
};

static void pair_make(struct bench *bench, char name[NAME_SIZE], uint64_t k, uint64_t salt)
{
    snprintf(name, NAME_SIZE, "key:%012" PRIu64, k);
    for (size_t i = 0; i < bench->value_bytes; i++) {
        bench->value[i] = (char)('!' + mix(k * 1000003 + i + salt) % 90);
    }
}

struct set {
    bool shuffled;
    bool expires; /* half of them */
};

/* Applies `n` SETs in one entry; gives the time of apply. */
static uint64_t entry_apply(struct bench *bench, struct set set, uint64_t from, uint64_t n)
{
    struct store_batch batch;
    store_batch_init(&batch, (size_t)64 << 20);
    char name[NAME_SIZE];
    struct iovec argv[5] = {{.iov_base = "set", .iov_len = 3},
                            {.iov_base = name, .iov_len = 16},
                            {.iov_base = bench->value, .iov_len = bench->value_bytes},
                            {.iov_base = "px", .iov_len = 2},
                            {.iov_base = "100000000", .iov_len = 9}};
    for (uint64_t i = from; i < from + n; i++) {
        uint64_t k = set.shuffled ? mix(++bench->drawn) % bench->keys : i;
        pair_make(bench, name, k, bench->drawn);
        if (store_batch_add(&batch, argv, set.expires && k % 2 == 0 ? 5 : 3) != STORE_OK) {
            fail("batch");
        }
    }
    void *data;
    size_t len;
    if (store_batch_seal(&batch, ++bench->time_ms, &data, &len) != STORE_OK) {
        fail("seal");
    }
    uint64_t start = now_ns();
    store_apply(bench->store, data, len, NULL);
    uint64_t took = now_ns() - start;
    free(data);
    store_batch_fini(&batch);
    return took;
}

/* The loop writes what a step gave, off the clock. */
struct output {
    int fd;
    uint8_t *data;
    size_t len, capacity;
    uint64_t total;
};

static void output_add(void *ctx, const void *data, size_t len)
{
    struct output *output = ctx;
    if (output->len + len > output->capacity) {
        fail("a step gave more than it may");
    }
    memcpy(output->data + output->len, data, len);
    output->len += len;
}

static void output_write(struct output *output)
{
    for (size_t at = 0; at < output->len;) {
        ssize_t n = write(output->fd, output->data + at, output->len - at);
        if (n <= 0) {
            fail("cannot write the stream");
        }
        at += (size_t)n;
    }
    output->total += output->len;
    output->len = 0;
}

struct times {
    unsigned count[TIMES + 1];
    uint64_t n, total_ns, max_ns;
};

static void times_add(struct times *times, uint64_t ns)
{
    uint64_t us = ns / 1000;
    times->count[us < TIMES ? us : TIMES]++;
    times->n++;
    times->total_ns += ns;
    times->max_ns = ns > times->max_ns ? ns : times->max_ns;
}

static unsigned times_at(const struct times *times, double share)
{
    uint64_t seen = 0;
    for (unsigned us = 0; us <= TIMES; us++) {
        seen += times->count[us];
        if ((double)seen >= share * (double)times->n) {
            return us;
        }
    }
    return TIMES;
}

static void times_print(const char *what, const struct times *times)
{
    printf("%-40s mean %6.1f us, p99 %u us, p99.9 %u us, max %.1f us\n", what,
           (double)times->total_ns / (double)times->n / 1e3, times_at(times, 0.99), times_at(times, 0.999),
           (double)times->max_ns / 1e3);
}

static void run_snapshot(struct bench *bench, uint64_t writes, bool expires, const char *path)
{
    static struct times cpu;
    static struct times wall;
    cpu = (struct times){0};
    wall = (struct times){0};
    struct output output = {.fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600), .capacity = 2 * STEP_BYTES};
    output.data = malloc(output.capacity);
    if (output.fd < 0 || output.data == NULL) {
        fail("cannot create the file");
    }
    uint64_t rss_before = rss_bytes();
    uint64_t rss_max = 0;
    uint64_t writes_ns = 0;
    uint64_t n_writes = 0;
    size_t held_max = 0;
    struct store_snapshot *snapshot = store_snapshot_begin(bench->store, STORE_SNAPSHOT_SIDE_BYTES);
    enum store_snapshot_state state = STORE_SNAPSHOT_MORE;
    while (state == STORE_SNAPSHOT_MORE) {
        if (writes > 0) {
            writes_ns += entry_apply(bench, (struct set){.shuffled = true, .expires = expires}, 0, writes);
            n_writes += writes;
        }
        size_t held = store_snapshot_bytes(snapshot);
        held_max = held > held_max ? held : held_max;
        uint64_t cpu_start = now_ns();
        uint64_t wall_start = clock_ns(CLOCK_MONOTONIC);
        state = store_snapshot_step(snapshot, STEP_BYTES, output_add, &output);
        times_add(&wall, clock_ns(CLOCK_MONOTONIC) - wall_start);
        times_add(&cpu, now_ns() - cpu_start);
        output_write(&output);
        if (cpu.n % 256 == 0) {
            uint64_t rss = rss_bytes();
            rss_max = rss > rss_max ? rss : rss_max;
        }
    }
    if (state != STORE_SNAPSHOT_DONE) {
        fail("the snapshot failed");
    }
    uint64_t end_ns = now_ns();
    store_snapshot_end(snapshot);
    end_ns = now_ns() - end_ns;
    printf("snapshot, %" PRIu64 " SETs per step of 64 KiB: %.0f MB, %.0f MB/s of step time, end %.1f us\n", writes,
           (double)output.total / 1e6, (double)output.total * 1e3 / (double)cpu.total_ns, (double)end_ns / 1e3);
    times_print("  steps, processor time", &cpu);
    times_print("  steps, wall clock", &wall);
    printf("  held at most %.2f MB; RSS %.0f MB before, at most %+.1f MB\n", (double)held_max / 1e6,
           (double)rss_before / 1e6, rss_max > rss_before ? (double)(rss_max - rss_before) / 1e6 : 0.0);
    if (n_writes > 0) {
        printf("  SET during the snapshot %.1f ns (%" PRIu64 " of them)\n", (double)writes_ns / (double)n_writes,
               n_writes);
    }
    close(output.fd);
    free(output.data);
}

static void run_load(const char *path, uint64_t seed, const char *what)
{
    int fd = open(path, O_RDONLY);
    off_t bytes = lseek(fd, 0, SEEK_END);
    uint8_t *buffer = malloc(READ_BYTES);
    if (fd < 0 || bytes < 0 || buffer == NULL || lseek(fd, 0, SEEK_SET) != 0) {
        fail("cannot read the file");
    }
    struct store *store = store_new(&(struct store_config){.hash_seed = seed});
    uint64_t rss_before = rss_bytes();
    uint64_t wall = clock_ns(CLOCK_MONOTONIC);
    uint64_t cpu = now_ns();
    struct store_loader *loader = store_loader_new(store, (uint64_t)bytes);
    uint64_t feed_ns = 0;
    for (;;) {
        ssize_t n = read(fd, buffer, READ_BYTES);
        if (n <= 0) {
            break;
        }
        uint64_t start = now_ns();
        if (store_loader_feed(loader, buffer, (size_t)n) != STORE_OK) {
            fail(store_loader_error(loader));
        }
        feed_ns += now_ns() - start;
    }
    uint64_t finish_ns = now_ns();
    if (store_loader_finish(loader) != STORE_OK) {
        fail(store_loader_error(loader));
    }
    finish_ns = now_ns() - finish_ns;
    wall = clock_ns(CLOCK_MONOTONIC) - wall;
    cpu = now_ns() - cpu;
    store_loader_free(loader);
    double n = (double)store_keys(store);
    printf("load, %s: %.2f M keys/s (%.0f ns per key), finish %.1f ms; with read() %.2f s of processor, %.2f s by the "
           "clock; %.1f bytes of "
           "RSS per key\n",
           what, n * 1e3 / (double)(feed_ns + finish_ns), (double)(feed_ns + finish_ns) / n, (double)finish_ns / 1e6,
           (double)cpu / 1e9, (double)wall / 1e9, (double)(rss_bytes() - rss_before) / n);
    store_free(store);
    free(buffer);
    close(fd);
}

static double run_sets(struct bench *bench, bool expires)
{
    uint64_t ns = 0;
    uint64_t n = 0;
    for (; n < 200000; n += 20) {
        ns += entry_apply(bench, (struct set){.shuffled = true, .expires = expires}, 0, 20);
    }
    return (double)ns / (double)n;
}

/* The dearest writes: each of them destroys a key that the snapshot has not walked. */
static void run_saving(struct bench *bench)
{
    struct store_snapshot *snapshot = store_snapshot_begin(bench->store, STORE_SNAPSHOT_SIDE_BYTES);
    double ns = run_sets(bench, false);
    printf("SET that saves what it overwrites %.1f ns; held after 200000: %.1f MB\n", ns,
           (double)store_snapshot_bytes(snapshot) / 1e6);
    store_snapshot_end(snapshot);
}

static void print_resp(struct bench *bench)
{
    char name[NAME_SIZE];
    for (uint64_t k = 0; k < bench->keys; k++) {
        pair_make(bench, name, k, 0);
        printf("*3\r\n$3\r\nSET\r\n$16\r\n%s\r\n$%zu\r\n", name, bench->value_bytes);
        fwrite(bench->value, 1, bench->value_bytes, stdout);
        fputs("\r\n", stdout);
    }
}

static uint64_t number(int argc, char **argv, int i, uint64_t otherwise)
{
    return argc > i ? strtoull(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    bool resp = argc > 1 && strcmp(argv[1], "resp") == 0;
    int first = resp ? 2 : 1;
    struct bench bench = {.keys = number(argc, argv, first, 1000000),
                          .value_bytes = (size_t)number(argc, argv, first + 1, 64)};
    uint64_t writes = number(argc, argv, first + 2, 20);
    const char *path = argc > first + 3 ? argv[first + 3] : "/tmp/snapshot_bench.stream";
    bench.value = malloc(bench.value_bytes + 1);
    if (bench.keys == 0 || bench.value == NULL) {
        fail("usage: snapshot_bench [keys [value bytes [writes per step [file]]]]");
    }
    if (resp) {
        print_resp(&bench);
        return 0;
    }
    bench.store = store_new(&(struct store_config){.hash_seed = 42});
    for (uint64_t k = 0; k < bench.keys; k += BATCH) {
        entry_apply(&bench, (struct set){0}, k, bench.keys - k < BATCH ? bench.keys - k : BATCH);
    }
    printf("%" PRIu64 " keys of 16 bytes, values of %zu; SET without a snapshot %.1f ns\n", bench.keys,
           bench.value_bytes, run_sets(&bench, false));
    run_snapshot(&bench, 0, false, path);
    run_snapshot(&bench, writes, false, path);
    printf("SET without a snapshot %.1f ns\n", run_sets(&bench, false));
    run_saving(&bench);
    printf("SET without a snapshot %.1f ns\n", run_sets(&bench, false));
    run_load(path, 42, "same hash seed");
    run_load(path, 43, "other hash seed");
    for (uint64_t k = 0; k < bench.keys; k += BATCH) {
        entry_apply(&bench, (struct set){.expires = true}, k, bench.keys - k < BATCH ? bench.keys - k : BATCH);
    }
    printf("half of the keys with a deadline; SET without a snapshot %.1f ns\n", run_sets(&bench, true));
    run_snapshot(&bench, writes, true, path);
    run_load(path, 42, "same hash seed");
    unlink(path);
    store_free(bench.store);
    free(bench.value);
    return 0;
}
