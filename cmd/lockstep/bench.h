/* Between the parts of `lockstep bench`: options and shared state (bench.c), one load thread (bench_load.c), results
 * (bench_report.c). */
#ifndef LOCKSTEP_BENCH_H
#define LOCKSTEP_BENCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cmd/lockstep/histogram.h"
#include "cmd/lockstep/options.h"
#include "cmd/lockstep/workload.h"

#define BENCH_ADDRESSES_MAX 64
#define BENCH_CONNECTIONS_MAX 10000
#define BENCH_DEPTH_MAX 4096
#define BENCH_THREADS_MAX 64
#define BENCH_SECONDS_MAX 86400
#define BENCH_ERROR_TEXT_MAX 200

struct bench_options {
    struct address addresses[BENCH_ADDRESSES_MAX];
    unsigned n_addresses;
    struct address spares[BENCH_ADDRESSES_MAX]; /* servers that need not answer at first */
    unsigned n_spares;
    uint32_t connections, depth, threads;
    double rate;   /* requests per second over all connections, 0: closed loop */
    uint32_t wait; /* replicas to WAIT for after each pipeline, 0: none */
    double warmup_s, time_s;
    uint64_t requests; /* 0: time_s decides */
    uint64_t seed;
    bool json, progress;
    struct workload_options workload;
};

/* Written by one worker, read by the main thread while it runs. */
struct bench_counters {
    _Atomic uint64_t completed;  /* replies without error to requests of the measured phase */
    _Atomic uint64_t latency_us; /* their sum */
    _Atomic uint64_t errors;     /* error replies and requests lost with a connection, in the measured phase */
};

struct bench; /* below */

struct bench_worker {
    struct bench *bench;
    unsigned index;
    pthread_t thread;
    struct bench_counters counters;
    /* Results, the main thread's after join. */
    struct histogram histograms[WORKLOAD_OPS_MAX];
    uint64_t misses;     /* null replies */
    uint64_t unsent;     /* open loop: due by the end, never sent */
    uint64_t unanswered; /* sent, no reply by the end */
    uint64_t disconnects;
    uint64_t retries;                      /* with spares: requests that a server refused, sent again to another one */
    uint64_t last_ns;                      /* of the last successful reply in the measured phase */
    uint64_t longest_gap_ns;               /* between two successful replies of this worker */
    char error_text[BENCH_ERROR_TEXT_MAX]; /* the first one */
    char failure[BENCH_ERROR_TEXT_MAX];    /* why it could not go on; empty: fine */
};

struct bench {
    struct bench_options options;
    struct workload workload;
    struct bench_worker *workers;
    uint64_t start_ns, measure_ns, end_ns; /* start of load, of measuring, and its planned end (UINT64_MAX: none) */
    _Atomic bool stop;                     /* end early */
    _Atomic unsigned running;              /* workers that haven't finished */
    /* Results, of the main thread. */
    uint64_t *per_second; /* completed in each second of the measured phase */
    size_t n_per_second, per_second_capacity;
    double cpu_s, seconds;
};

uint64_t bench_now_ns(void);

/* Open the worker's connections; false: worker->failure says why. On success run it by bench_worker_run (a thread's
 * main function), then close. */
struct bench_load;
struct bench_load *bench_load_open(struct bench_worker *worker);
void bench_load_run(struct bench_load *load);
void bench_load_close(struct bench_load *load);

/* Print the results to stdout; returns the exit code. */
int bench_report(const struct bench *bench);

#endif
