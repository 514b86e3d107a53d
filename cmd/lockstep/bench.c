/* `lockstep bench`: reads the options, runs the load threads, shows progress. */
#include "cmd/lockstep/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cmd/lockstep/command.h"

#define BUFFER_BYTES_MAX (UINT64_C(4) << 30) /* of all connections' requests */

static const char usage_text[] =
    "Usage: lockstep bench [OPTION]...\n"
    "Load a Redis-protocol server and measure throughput and latency.\n"
    "\n"
    "Where:\n"
    "  --addr HOST:PORT[,...]   servers; may be repeated; connections are spread evenly (default 127.0.0.1:7379)\n"
    "  --spare HOST:PORT[,...]  servers that need not run yet. With them a connection that is lost, or whose server\n"
    "                           answers -TRYAGAIN or -CLUSTERDOWN, goes on at the next of all servers; with --rate "
    "what\n"
    "                           was refused so is sent again, and its latency counts from the first time\n"
    "How much:\n"
    "  -c, --connections N      connections (default 50, at most 10000)\n"
    "  -P, --depth N            requests in flight per connection (default 1, at most 4096)\n"
    "  --time S                 measure for S seconds (default 10)\n"
    "  --requests N             send N requests instead (k, m, g: thousands, millions, billions)\n"
    "  --warmup S               load for S seconds before measuring (default 0)\n"
    "  --rate R                 open loop: R requests per second in all, at fixed instants. Latency counts from the\n"
    "                           instant a request was due, so a stalled server hides nothing. Default: closed loop: a\n"
    "                           connection sends its next pipeline when all replies of the last have come\n"
    "  --threads N              load threads (default 1)\n"
    "What:\n"
    "  --mix OP[:WEIGHT],...    operations (default set). Known: set get setex incr del exists append mset mget ping\n"
    "  --command 'TEMPLATE'     this command instead; {key}, {value}, {counter} are replaced. May be repeated\n"
    "  --keys N                 number of different keys (default 1m)\n"
    "  --key-size B             bytes of a key (default 16)\n"
    "  --size B                 bytes of a value (default 64)\n"
    "  --dist uniform|zipf|sequential   how keys are chosen (default uniform); sequential visits each key once in "
    "turn\n"
    "  --zipf-exponent X        above 0 (default 0.99)\n"
    "  --wait N                 send WAIT N 0 after each pipeline; its requests count as answered when WAIT is, with\n"
    "                           at least N replicas\n"
    "  --seed N                 of the random choices (default 1)\n"
    "Output:\n"
    "  --progress               a line each second on stderr (default when stderr is a terminal)\n"
    "  --json                   results as one JSON object\n"
    "  --help                   show this\n"
    "\n"
    "Exit codes: 0 done without an error reply; 1 it could not run; 2 wrong command line; 3 done, with error "
    "replies.\n";

/* Operations are added once keys and sizes are known. */
struct operations {
    char *mix;
    const char *commands[WORKLOAD_OPS_MAX];
    unsigned n_commands;
};

static bool addresses_take(void *ctx, char *text)
{
    struct bench_options *options = ctx;

    return option_address_list("--addr", text, options->addresses, BENCH_ADDRESSES_MAX, &options->n_addresses);
}

static bool spares_take(void *ctx, char *text)
{
    struct bench_options *options = ctx;

    return option_address_list("--spare", text, options->spares, BENCH_ADDRESSES_MAX, &options->n_spares);
}

static bool dist_take(void *ctx, char *text)
{
    enum workload_dist *dist = ctx;
    static const char *const names[] = {"uniform", "zipf", "sequential"};
    static const enum workload_dist values[] = {WORKLOAD_UNIFORM, WORKLOAD_ZIPF, WORKLOAD_SEQUENTIAL};
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            *dist = values[i];
            return true;
        }
    }
    fprintf(stderr, "lockstep: --dist is uniform, zipf or sequential, not \"%s\"\n", text);
    return false;
}

static bool command_take(void *ctx, char *template)
{
    struct operations *operations = ctx;
    if (operations->n_commands == WORKLOAD_OPS_MAX) {
        fprintf(stderr, "lockstep: --command: more than %d of them\n", WORKLOAD_OPS_MAX);
        return false;
    }
    operations->commands[operations->n_commands++] = template;
    return true;
}

static int bench_options_read(struct bench_options *options, struct operations *operations, int argc, char **argv)
{
    struct workload_options *workload = &options->workload;
    const uint64_t requests_max = UINT64_C(1000000000000);
    const struct option_rule rules[] = {
        {.name = "addr", .take = addresses_take, .ctx = options},
        {.name = "spare", .take = spares_take, .ctx = options},
        {.name = "connections", .letter = 'c', .u32 = &options->connections, .min = 1, .max = BENCH_CONNECTIONS_MAX},
        {.name = "depth", .letter = 'P', .u32 = &options->depth, .min = 1, .max = BENCH_DEPTH_MAX},
        {.name = "time", .real = &options->time_s, .low = 0.1, .high = BENCH_SECONDS_MAX},
        {.name = "requests", .u64 = &options->requests, .min = 1, .max = requests_max},
        {.name = "warmup", .real = &options->warmup_s, .low = 0, .high = BENCH_SECONDS_MAX},
        {.name = "rate", .real = &options->rate, .low = 0.01, .high = 1e8},
        {.name = "threads", .u32 = &options->threads, .min = 1, .max = BENCH_THREADS_MAX},
        {.name = "mix", .text = &operations->mix},
        {.name = "command", .take = command_take, .ctx = operations},
        {.name = "keys", .u64 = &workload->keys, .min = 1, .max = requests_max},
        {.name = "key-size", .u32 = &workload->key_bytes, .min = WORKLOAD_KEY_BYTES_MIN, .max = WORKLOAD_KEY_BYTES_MAX},
        {.name = "size", .u32 = &workload->value_bytes, .min = 0, .max = WORKLOAD_VALUE_BYTES_MAX},
        {.name = "dist", .take = dist_take, .ctx = &workload->dist},
        {.name = "zipf-exponent", .real = &workload->zipf_exponent, .low = 0.001, .high = 10},
        {.name = "wait", .u32 = &options->wait, .min = 1, .max = 1000},
        {.name = "seed", .u64 = &options->seed, .min = 0, .max = UINT64_MAX},
        {.name = "progress", .flag = &options->progress},
        {.name = "json", .flag = &options->json},
        {.name = NULL}};
    const struct command_line line = {.usage = usage_text, .rules = rules};

    return options_read(&line, argc, argv);
}

static bool options_check(struct bench_options *options)
{
    if (options->n_addresses == 0) {
        options->addresses[0] = (struct address){.host = "127.0.0.1", .port = ADDRESS_PORT_DEFAULT};
        options->n_addresses = 1;
    }
    if (options->threads > options->connections) {
        fprintf(stderr, "lockstep: --threads %" PRIu32 " for %" PRIu32 " connections: a thread needs one at least\n",
                options->threads, options->connections);
        return false;
    }
    uint32_t needed = workload_key_bytes_needed(options->workload.keys);
    if (options->workload.key_bytes < needed) {
        fprintf(stderr, "lockstep: --keys %" PRIu64 " needs --key-size %" PRIu32 " or more\n", options->workload.keys,
                needed);
        return false;
    }
    return true;
}

static bool operations_add(struct bench *bench, const struct operations *operations)
{
    const char *why = NULL;
    if (!workload_init(&bench->workload, &bench->options.workload)) {
        fputs("lockstep: not enough memory for the values\n", stderr);
        return false;
    }
    for (unsigned i = 0; i < operations->n_commands; i++) {
        char name[WORKLOAD_NAME_MAX];
        const char *template = operations->commands[i];
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(template, " "), template);
        if (!workload_add(&bench->workload, name, template, 1, &why)) {
            fprintf(stderr, "lockstep: --command \"%s\": %s\n", template, why);
            return false;
        }
    }
    const char *mix = operations->mix != NULL ? operations->mix : operations->n_commands == 0 ? "set" : NULL;
    if (mix != NULL && !workload_add_mix(&bench->workload, mix, &why)) {
        fprintf(stderr, "lockstep: --mix %s: %s; known: %s\n", mix, why, workload_names());
        return false;
    }
    uint64_t request_max = 0;
    for (unsigned i = 0; i < bench->workload.n_ops; i++) {
        request_max = bench->workload.ops[i].len > request_max ? bench->workload.ops[i].len : request_max;
    }
    if (request_max * bench->options.depth * bench->options.connections > BUFFER_BYTES_MAX) {
        fputs("lockstep: connections x depth x request size is above 4 GiB\n", stderr);
        return false;
    }
    return true;
}

/* --- running -------------------------------------------------------------------------------------------------------
 */

static struct bench *interrupted_bench; /* for the signal handler, which takes no argument */

static void interrupt_cb(int signal_number)
{
    (void)signal_number;
    atomic_store(&interrupted_bench->stop, true);
}

static void interrupts_set(struct bench *bench)
{
    interrupted_bench = bench;
    /* The second Ctrl-C ends the process the hard way. */
    struct sigaction action = {.sa_handler = interrupt_cb, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

struct totals {
    uint64_t completed, latency_us, errors;
};

static struct totals totals_read(const struct bench *bench)
{
    struct totals totals = {0};
    for (uint32_t i = 0; i < bench->options.threads; i++) {
        const struct bench_counters *counters = &bench->workers[i].counters;
        totals.completed += atomic_load_explicit(&counters->completed, memory_order_relaxed);
        totals.latency_us += atomic_load_explicit(&counters->latency_us, memory_order_relaxed);
        totals.errors += atomic_load_explicit(&counters->errors, memory_order_relaxed);
    }
    return totals;
}

static void per_second_add(struct bench *bench, uint64_t completed)
{
    if (bench->n_per_second == bench->per_second_capacity) {
        size_t capacity = bench->per_second_capacity == 0 ? 64 : bench->per_second_capacity * 2;
        uint64_t *grown = realloc(bench->per_second, capacity * sizeof(*grown));
        if (grown == NULL) {
            return; /* the series ends early; the totals don't depend on it */
        }
        bench->per_second = grown;
        bench->per_second_capacity = capacity;
    }
    bench->per_second[bench->n_per_second++] = completed;
}

static void progress_show(const struct bench *bench, const struct totals *now, const struct totals *before)
{
    uint64_t completed = now->completed - before->completed;
    double mean_ms = completed == 0 ? 0 : (double)(now->latency_us - before->latency_us) / (double)completed / 1000;
    fprintf(stderr, "%5zu s  %9" PRIu64 " requests/s  mean %8.3f ms  errors %" PRIu64 "\n", bench->n_per_second,
            completed, mean_ms, now->errors);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void sleep_until(uint64_t when_ns)
{
    struct timespec when = {.tv_sec = (time_t)(when_ns / UINT64_C(1000000000)),
                            .tv_nsec = (long)(when_ns % UINT64_C(1000000000))};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL); /* a signal wakes it early, which is wanted */
}

/* Sample once a second until the workers are done. */
static void bench_watch(struct bench *bench)
{
    struct totals before = {0};
    bool measuring = false;
    double cpu_before = 0;
    uint64_t next_ns = bench->measure_ns;
    while (atomic_load(&bench->running) > 0) {
        uint64_t now_ns = bench_now_ns();
        if (now_ns < next_ns) {
            uint64_t nap_ns = now_ns + UINT64_C(20000000);
            sleep_until(nap_ns < next_ns ? nap_ns : next_ns);
            continue;
        }
        if (!measuring) {
            measuring = true;
            cpu_before = cpu_seconds();
        } else if (now_ns <= bench->end_ns + UINT64_C(500000000) || bench->end_ns == UINT64_MAX) {
            struct totals now = totals_read(bench);
            per_second_add(bench, now.completed - before.completed);
            if (bench->options.progress) {
                progress_show(bench, &now, &before);
            }
            before = now;
        }
        next_ns += UINT64_C(1000000000);
    }
    bench->cpu_s = cpu_seconds() - cpu_before;
    uint64_t rest = totals_read(bench).completed - before.completed;
    if (bench_now_ns() + UINT64_C(500000000) > next_ns && rest > 0) {
        per_second_add(bench, rest); /* the last second, whose tick did not come before the end */
    }
    uint64_t end_ns = bench_now_ns();
    if (bench->options.requests > 0 && !atomic_load(&bench->stop)) {
        end_ns = 0;
        for (uint32_t i = 0; i < bench->options.threads; i++) {
            end_ns = bench->workers[i].last_ns > end_ns ? bench->workers[i].last_ns : end_ns;
        }
    }
    end_ns = end_ns < bench->end_ns ? end_ns : bench->end_ns;
    bench->seconds = end_ns > bench->measure_ns ? (double)(end_ns - bench->measure_ns) / 1e9 : 0;
}

static void *worker_main(void *load)
{
    bench_load_run(load);
    return NULL;
}

static void bench_schedule(struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    bench->start_ns = bench_now_ns();
    bench->measure_ns = bench->start_ns + (uint64_t)(options->warmup_s * 1e9);
    bench->end_ns = options->requests > 0 ? UINT64_MAX : bench->measure_ns + (uint64_t)(options->time_s * 1e9);
    atomic_store(&bench->running, options->threads);
}

static int bench_run(struct bench *bench)
{
    uint32_t n = bench->options.threads;
    struct bench_load *loads[BENCH_THREADS_MAX] = {0};
    uint32_t opened = 0;
    int code = EXIT_FAILED;
    for (; opened < n; opened++) {
        struct bench_worker *worker = &bench->workers[opened];
        worker->bench = bench;
        worker->index = opened;
        loads[opened] = bench_load_open(worker);
        if (loads[opened] == NULL) {
            fprintf(stderr, "lockstep: %s\n", worker->failure);
            goto err_after_open;
        }
    }
    bench_schedule(bench);
    interrupts_set(bench);
    uint32_t started = 0;
    for (; started < n; started++) {
        if (pthread_create(&bench->workers[started].thread, NULL, worker_main, loads[started]) != 0) {
            fputs("lockstep: cannot start a thread\n", stderr);
            atomic_store(&bench->stop, true);
            atomic_fetch_sub(&bench->running, n - started);
            break;
        }
    }
    bench_watch(bench);
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(bench->workers[i].thread, NULL);
    }
    code = started == n ? bench_report(bench) : EXIT_FAILED;
err_after_open:
    for (uint32_t i = 0; i < opened; i++) {
        bench_load_close(loads[i]);
    }
    return code;
}

int command_bench(int argc, char **argv)
{
    struct bench bench = {.options = {.connections = 50, .depth = 1, .threads = 1, .time_s = 10, .seed = 1}};
    struct bench_options *options = &bench.options;
    options->workload = (struct workload_options){
        .keys = 1000000, .key_bytes = 16, .value_bytes = 64, .dist = WORKLOAD_UNIFORM, .zipf_exponent = 0.99};
    options->progress = isatty(STDERR_FILENO) == 1;
    struct operations operations = {0};
    const int code = bench_options_read(options, &operations, argc, argv);
    if (code != OPTIONS_OK) {
        return code;
    }
    if (!options_check(options)) {
        return EXIT_USAGE;
    }
    int result = EXIT_USAGE;
    if (operations_add(&bench, &operations)) {
        bench.workers = calloc(options->threads, sizeof(*bench.workers));
        if (bench.workers == NULL) {
            fputs("lockstep: not enough memory\n", stderr);
        }
        result = bench.workers == NULL ? EXIT_FAILED : bench_run(&bench);
    }
    workload_fini(&bench.workload);
    free(bench.per_second);
    free(bench.workers);
    return result;
}
