/* What a synced 4 KiB write costs: by pwrite in a plain loop (overwriting zero-filled blocks with O_DIRECT|O_DSYNC), by
 * fdatasync on a growing file, through the production env (one request in flight, as the WAL does it), and through the
 * WAL itself (append, flush, persisted). The difference between the first and the third is the price of the hand-over
 * to the disk thread and back.
 *
 *   disk_bench [directory] [writes]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "consensus/env_uv.h"
#include "consensus/wal.h"

#define FILE_BYTES (16u << 20)

struct samples {
    const char *name;
    double *us;
    size_t n;
    size_t cap;
    double started;
};

static double now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void samples_begin(struct samples *s, const char *name, size_t cap)
{
    *s = (struct samples){.name = name, .us = calloc(cap, sizeof(double)), .cap = cap};
    if (s->us == NULL) {
        die("calloc");
    }
    s->started = now_us();
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void samples_end(struct samples *s)
{
    double took = now_us() - s->started;
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        sum += s->us[i];
    }
    qsort(s->us, s->n, sizeof(double), compare);
    printf("%-34s %8.0f/s  mean %7.1f us  p50 %7.1f  p99 %7.1f  max %8.1f\n", s->name, (double)s->n / took * 1e6,
           sum / (double)s->n, s->us[s->n / 2], s->us[s->n * 99 / 100], s->us[s->n - 1]);
    free(s->us);
}

static void bench_raw(const char *dir, size_t n, uint8_t *block)
{
    char path[512];
    snprintf(path, sizeof path, "%s/raw", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint8_t *zeros = calloc(1, FILE_BYTES);
    if (fd < 0 || zeros == NULL || write(fd, zeros, FILE_BYTES) != (ssize_t)FILE_BYTES || fsync(fd) != 0) {
        die(path);
    }
    free(zeros);
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT | O_DSYNC);
    if (fd < 0) {
        die("O_DIRECT");
    }
    struct samples s;
    samples_begin(&s, "raw pwrite O_DIRECT|O_DSYNC", n);
    for (size_t i = 0; i < n; i++) {
        double t = now_us();
        if (pwrite(fd, block, 4096, (off_t)(i * 4096 % FILE_BYTES)) != 4096) {
            die("pwrite");
        }
        s.us[s.n++] = now_us() - t;
    }
    samples_end(&s);
    close(fd);
    unlink(path);
}

static void bench_grow(const char *dir, size_t n, const uint8_t *block)
{
    char path[512];
    snprintf(path, sizeof path, "%s/grow", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) {
        die(path);
    }
    struct samples s;
    samples_begin(&s, "write + fdatasync, growing", n);
    for (size_t i = 0; i < n; i++) {
        double t = now_us();
        if (write(fd, block, 4096) != 4096 || fdatasync(fd) != 0) {
            die("write");
        }
        s.us[s.n++] = now_us() - t;
    }
    samples_end(&s);
    close(fd);
    unlink(path);
}

struct env_bench {
    struct env *env;
    struct env_disk_req req;
    struct samples s;
    double submitted;
    struct wal *wal;
    uint64_t next;
};

static void env_submit_next(struct env_bench *b);

static void env_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct env_bench *b = req->data;
    if (status != ENV_OK) {
        die("env write");
    }
    b->s.us[b->s.n++] = now_us() - b->submitted;
    if (b->s.n < b->s.cap) {
        env_submit_next(b);
    }
}

static void env_submit_next(struct env_bench *b)
{
    b->req.offset = b->s.n * 4096 % FILE_BYTES;
    b->submitted = now_us();
    b->env->ops->submit(b->env, &b->req);
}

static void run_until_full(struct env_bench *b, uv_loop_t *loop)
{
    while (b->s.n < b->s.cap) {
        uv_run(loop, UV_RUN_ONCE);
    }
}

static void bench_env(struct env *env, uv_loop_t *loop, size_t n, uint8_t *block)
{
    struct env_file *file;
    (void)env->ops->remove_sync(env, "bench");
    if (env->ops->create(env, "bench", FILE_BYTES, &file) != ENV_OK) {
        die("create");
    }
    struct env_bench b = {.env = env};
    b.req = (struct env_disk_req){
        .op = ENV_DISK_WRITE, .file = file, .buf = block, .len = 4096, .data = &b, .cb = env_done_cb};
    samples_begin(&b.s, "env submit -> callback", n);
    env_submit_next(&b);
    run_until_full(&b, loop);
    samples_end(&b.s);
    env->ops->close(env, file);
    (void)env->ops->remove_sync(env, "bench");
}

static void wal_next(struct env_bench *b)
{
    static const uint8_t payload[256];
    struct wal_entry entry = {
        .index = ++b->next, .term = 1, .type = WAL_COMMAND, .data = payload, .len = sizeof payload};
    b->submitted = now_us();
    if (wal_append(b->wal, &entry, 1) != WAL_OK) {
        die("wal_append");
    }
    wal_flush(b->wal);
}

static void persisted_cb(void *ctx, uint64_t index, uint64_t term)
{
    struct env_bench *b = ctx;
    (void)index;
    (void)term;
    b->s.us[b->s.n++] = now_us() - b->submitted;
    if (b->s.n < b->s.cap) {
        wal_next(b);
    }
}

static void failed_cb(void *ctx, enum env_status status)
{
    (void)ctx;
    fprintf(stderr, "wal failed: %d\n", (int)status);
    exit(1);
}

static void bench_wal(struct env *env, uv_loop_t *loop, size_t n)
{
    struct env_bench b = {.env = env};
    struct wal_config config = {.persisted = persisted_cb, .failed = failed_cb, .ctx = &b};
    const char *error;
    if (wal_open(env, &config, &b.wal, &error) != WAL_OK) {
        fprintf(stderr, "%s\n", error);
        exit(1);
    }
    b.next = wal_last(b.wal);
    samples_begin(&b.s, "wal append 256 B -> persisted", n);
    wal_next(&b);
    run_until_full(&b, loop);
    samples_end(&b.s);
    while (wal_is_writing(b.wal)) {
        uv_run(loop, UV_RUN_ONCE);
    }
    wal_close(b.wal);
}

static void log_cb(void *ctx, int level, const char *text)
{
    (void)ctx;
    (void)level;
    printf("%s\n", text);
}

int main(int argc, char **argv)
{
    char dir[256] = "/tmp/disk_bench.XXXXXX";
    size_t n = argc > 2 ? (size_t)atol(argv[2]) : 5000;
    if (argc > 1) {
        snprintf(dir, sizeof dir, "%s/disk_bench.XXXXXX", argv[1]);
    }
    uint8_t *block = aligned_alloc(4096, 4096);
    if (mkdtemp(dir) == NULL || block == NULL || n == 0) {
        die(dir);
    }
    memset(block, 1, 4096);
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct env_uv_config config = {.loop = &loop, .dir = dir, .log = log_cb};
    struct env *env;
    const char *error;
    if (env_uv_new(&config, &env, &error) != ENV_OK) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    for (int round = 0; round < 2; round++) {
        bench_raw(dir, n, block);
        bench_grow(dir, n, block);
        bench_env(env, &loop, n, block);
        bench_wal(env, &loop, n);
    }
    env_uv_close(env, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    free(block);
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command) == 0 ? 0 : 1;
}
