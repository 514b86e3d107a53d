/* What a snapshot file costs through the production env: writing it (compressed and synced), reading it, verifying it,
 * in MB of payload per second, the longest turn of the loop meanwhile, and what it does to the synced 4 KiB writes of a
 * log beside it.
 *
 *   snapfile_bench [directory] [megabytes] [percent of the payload that is incompressible]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "consensus/env_uv.h"
#include "consensus/snapshot.h"

#define NAME "snapshot-0000000000000001-0000000000000001"
#define SOURCE_BYTES (32u << 20)
#define SAMPLES_MAX 1000000u

static struct bench {
    uv_loop_t loop;
    struct env *env;
    uint8_t *source;
    uint64_t total;
    uint64_t at;
    bool finished;
    bool done;
    struct snapshot_writer *writer;
    struct snapshot_reader *reader;
    struct snapshot_end end;
    /* the log beside it */
    struct env_file *log;
    uint8_t *block;
    struct env_disk_req log_req;
    double log_started;
    double *log_us;
    size_t n_log;
    bool log_on;
    bool log_busy;
} b;

static double now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void die(const char *what)
{
    fprintf(stderr, "snapfile_bench: %s\n", what);
    exit(1);
}

static bool send_none(void *ctx, uint64_t peer_id, const struct iovec *pieces, unsigned n)
{
    (void)ctx;
    (void)peer_id;
    (void)pieces;
    (void)n;
    return false;
}

static void log_line(void *ctx, int level, const char *text)
{
    (void)ctx;
    fprintf(stderr, "%d %s\n", level, text);
}

/* --- The log: one synced write after the other ---------------------------------------------------------------------
 */

static void log_next(void);

static void log_done_cb(struct env_disk_req *req, enum env_status status)
{
    (void)req;
    b.log_busy = false;
    if (status != ENV_OK) {
        die("the log's write failed");
    }
    if (b.n_log < SAMPLES_MAX) {
        b.log_us[b.n_log++] = now_us() - b.log_started;
    }
    log_next();
}

static void log_next(void)
{
    if (!b.log_on) {
        return;
    }
    b.log_req = (struct env_disk_req){.op = ENV_DISK_WRITE,
                                      .file = b.log,
                                      .offset = b.n_log % 4096 * ENV_BLOCK,
                                      .buf = b.block,
                                      .len = ENV_BLOCK,
                                      .cb = log_done_cb};
    b.log_busy = true;
    b.log_started = now_us();
    b.env->ops->submit(b.env, &b.log_req);
}

static int compare(const void *x, const void *y)
{
    double p = *(const double *)x;
    double q = *(const double *)y;
    return p < q ? -1 : p > q;
}

static void log_begin(void)
{
    b.n_log = 0;
    b.log_on = true;
    log_next();
}

static void log_end(const char *what)
{
    b.log_on = false;
    while (b.log_busy) {
        uv_run(&b.loop, UV_RUN_ONCE);
    }
    qsort(b.log_us, b.n_log, sizeof *b.log_us, compare);
    printf("  log beside it (%s): %zu synced writes, p50 %.0f us, p99 %.0f us, max %.0f us\n", what, b.n_log,
           b.log_us[b.n_log / 2], b.log_us[b.n_log * 99 / 100], b.log_us[b.n_log - 1]);
}

/* --- The snapshot --------------------------------------------------------------------------------------------------
 */

/* A store's stream in small: keys that resemble each other, and values of which a part is random. */
static void source_fill(unsigned random_percent)
{
    uint64_t x = 88172645463325252u;
    for (size_t at = 0; at + 128 <= SOURCE_BYTES; at += 128) {
        int n = snprintf((char *)b.source + at, 64, "key:%012zu:field", at / 128);
        for (size_t i = (size_t)n; i < 128; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            b.source[at + i] = (i * 100) / 128 >= 100 - random_percent ? (uint8_t)(x >> 32) : (uint8_t)('a' + i % 20);
        }
    }
}

static void feed(void *ctx)
{
    (void)ctx;
    while (b.at < b.total) {
        size_t from = (size_t)(b.at % SOURCE_BYTES);
        size_t n = SOURCE_BYTES - from < (64u << 10) ? SOURCE_BYTES - from : (64u << 10);
        n = b.total - b.at < n ? (size_t)(b.total - b.at) : n;
        size_t taken = snapshot_writer_append(b.writer, b.source + from, n);
        b.at += taken;
        if (taken < n) {
            return;
        }
    }
    if (!b.finished) {
        b.finished = true;
        snapshot_writer_finish(b.writer, 1);
    }
}

static void written_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    (void)ctx;
    if (status != SNAPSHOT_OK) {
        die(error);
    }
    b.end = *end;
    b.done = true;
}

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    (void)ctx;
    (void)meta;
    (void)end;
}

static void take(void *ctx)
{
    (void)ctx;
    const void *data;
    for (size_t n = snapshot_reader_peek(b.reader, &data); n > 0; n = snapshot_reader_peek(b.reader, &data)) {
        if (memcmp(data, b.source + b.at % SOURCE_BYTES, 1) != 0) {
            die("read back something else");
        }
        b.at += n;
        snapshot_reader_consume(b.reader, n);
    }
}

static void read_cb(void *ctx, enum snapshot_status status, const char *error)
{
    (void)ctx;
    if (status != SNAPSHOT_OK) {
        die(error);
    }
    b.done = true;
}

struct turns {
    double wall_us; /* of the longest turn, without the waiting in it; other processes' time counts */
    double cpu_us;  /* processor time of the longest turn */
    double sum_us;  /* processor time of all turns */
};

static double cpu_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* Run the loop until `done`. */
static struct turns run(void)
{
    struct turns turns = {0};
    double cpu_first = cpu_us();
    while (!b.done) {
        uint64_t idle = uv_metrics_idle_time(&b.loop);
        double began = now_us();
        double cpu_began = cpu_us();
        uv_run(&b.loop, UV_RUN_ONCE);
        double cpu = cpu_us() - cpu_began;
        double wall = now_us() - began - (double)(uv_metrics_idle_time(&b.loop) - idle) / 1e3;
        turns.wall_us = wall > turns.wall_us ? wall : turns.wall_us;
        turns.cpu_us = cpu > turns.cpu_us ? cpu : turns.cpu_us;
    }
    turns.sum_us = cpu_us() - cpu_first;
    return turns;
}

static void bench_write(bool with_log)
{
    const struct snapshot_meta meta = {.index = 1, .term = 1, .configuration = "", .configuration_len = 0};
    const struct snapshot_writer_events events = {.ready = feed, .done = written_cb};
    b.at = 0;
    b.done = false;
    b.finished = false;
    if (with_log) {
        log_begin();
    }
    double began = now_us();
    if (snapshot_writer_open(b.env, NULL, &meta, &events, &b.writer) != SNAPSHOT_OK) {
        die("out of memory");
    }
    feed(NULL);
    struct turns turns = run();
    double took = now_us() - began;
    snapshot_writer_close(b.writer);
    printf("write: %.0f MB/s of payload, %.0f MB/s of file, %.2f s; longest turn of the loop %.0f us of processor time "
           "(%.0f us by the clock), all of them %.2f s\n",
           (double)b.total / took, (double)b.end.file_bytes / took, took / 1e6, turns.cpu_us, turns.wall_us,
           turns.sum_us / 1e6);
    if (with_log) {
        log_end("writing");
    }
}

static void bench_read(const char *what, bool with_log)
{
    const struct snapshot_reader_events events = {.opened = opened_cb, .ready = take, .done = read_cb};
    b.at = 0;
    b.done = false;
    if (with_log) {
        log_begin();
    }
    double began = now_us();
    if (snapshot_reader_open(b.env, NULL, NAME, &events, &b.reader) != SNAPSHOT_OK) {
        die("out of memory");
    }
    struct turns turns = run();
    double took = now_us() - began;
    snapshot_reader_close(b.reader);
    printf("read (%s): %.0f MB/s of payload, %.2f s; longest turn of the loop %.0f us of processor time (%.0f us by "
           "the clock), all of them %.2f s\n",
           what, (double)b.total / took, took / 1e6, turns.cpu_us, turns.wall_us, turns.sum_us / 1e6);
    if (with_log) {
        log_end("reading");
    }
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "/tmp/snapfile_bench";
    b.total = (argc > 2 ? strtoull(argv[2], NULL, 10) : 512) << 20;
    unsigned random_percent = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 40;
    b.source = malloc(SOURCE_BYTES);
    b.block = aligned_alloc(ENV_BLOCK, ENV_BLOCK);
    b.log_us = malloc(SAMPLES_MAX * sizeof *b.log_us);
    if (b.source == NULL || b.block == NULL || b.log_us == NULL) {
        die("out of memory");
    }
    memset(b.block, 7, ENV_BLOCK);
    source_fill(random_percent);
    const char *error;
    uv_loop_init(&b.loop);
    uv_loop_configure(&b.loop, UV_METRICS_IDLE_TIME);
    const struct env_uv_config config = {.loop = &b.loop, .dir = dir, .send = send_none, .log = log_line};
    if (env_uv_new(&config, &b.env, &error) != ENV_OK) {
        die(error);
    }
    (void)b.env->ops->remove_sync(b.env, NAME);
    (void)b.env->ops->remove_sync(b.env, "log");
    if (b.env->ops->create(b.env, "log", 4096 * ENV_BLOCK, &b.log) != ENV_OK) {
        die("can't create the log");
    }
    log_begin();
    for (double until = now_us() + 1e6; now_us() < until;) {
        uv_run(&b.loop, UV_RUN_ONCE);
    }
    log_end("nothing");
    bench_write(false);
    printf("  %.0f MB in a file of %.0f MB\n", (double)b.total / 1e6, (double)b.end.file_bytes / 1e6);
    bench_read("first time", false);
    bench_read("page cache", false);
    (void)b.env->ops->remove_sync(b.env, NAME);
    bench_write(true);
    bench_read("page cache or disk", true);
    (void)b.env->ops->remove_sync(b.env, NAME);
    b.env->ops->close(b.env, b.log);
    (void)b.env->ops->remove_sync(b.env, "log");
    env_uv_close(b.env, NULL, NULL);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    uv_loop_close(&b.loop);
    free(b.source);
    free(b.block);
    free(b.log_us);
    return 0;
}
