/* The results of `lockstep bench`, for people or as JSON. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstep/bench.h"
#include "cmd/lockstep/command.h"

struct summary {
    struct histogram all;
    uint64_t completed, errors, misses, unsent, unanswered, disconnects, retries, longest_gap_ns;
    const char *error_text, *failure; /* "" if none */
    double throughput, client_cpu;
};

static void summary_fill(struct summary *summary, const struct bench *bench)
{
    memset(summary, 0, sizeof(*summary));
    histogram_init(&summary->all);
    summary->error_text = summary->failure = "";
    for (uint32_t i = 0; i < bench->options.threads; i++) {
        const struct bench_worker *worker = &bench->workers[i];
        for (unsigned op = 0; op < bench->workload.n_ops; op++) {
            histogram_merge(&summary->all, &worker->histograms[op]);
        }
        summary->completed += atomic_load(&worker->counters.completed);
        summary->errors += atomic_load(&worker->counters.errors);
        summary->misses += worker->misses;
        summary->unsent += worker->unsent;
        summary->unanswered += worker->unanswered;
        summary->disconnects += worker->disconnects;
        summary->retries += worker->retries;
        if (worker->longest_gap_ns > summary->longest_gap_ns) {
            summary->longest_gap_ns = worker->longest_gap_ns;
        }
        summary->error_text = summary->error_text[0] == '\0' ? worker->error_text : summary->error_text;
        summary->failure = summary->failure[0] == '\0' ? worker->failure : summary->failure;
    }
    if (bench->seconds > 0) {
        summary->throughput = (double)summary->completed / bench->seconds;
        summary->client_cpu = bench->cpu_s / bench->seconds;
    }
}

static void op_histogram(const struct bench *bench, unsigned op, struct histogram *merged)
{
    histogram_init(merged);
    for (uint32_t i = 0; i < bench->options.threads; i++) {
        histogram_merge(merged, &bench->workers[i].histograms[op]);
    }
}

/* --- text ----------------------------------------------------------------------------------------------------------
 */

static void print_latency_row(const char *name, const struct histogram *histogram)
{
    static const double percents[] = {50, 90, 99, 99.9, 99.99};
    printf("  %-10s %10" PRIu64 " %9.3f", name, histogram->count, histogram_mean(histogram) / 1e6);
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        printf(" %9.3f", (double)histogram_percentile(histogram, percents[i]) / 1e6);
    }
    printf(" %9.3f\n", (double)histogram->max / 1e6);
}

static void print_text(const struct bench *bench, const struct summary *summary)
{
    const struct bench_options *options = &bench->options;
    printf("%" PRIu32 " connections, depth %" PRIu32 ", %" PRIu64 " keys, values of %" PRIu32 " bytes",
           options->connections, options->depth, options->workload.keys, options->workload.value_bytes);
    if (options->rate > 0) {
        printf(", open loop at %g/s", options->rate);
    }
    if (options->wait > 0) {
        printf(", WAIT %" PRIu32, options->wait);
    }
    printf("\n%.0f requests/s: %" PRIu64 " in %.2f s\n\n", summary->throughput, summary->completed, bench->seconds);
    printf("  %-10s %10s %9s %9s %9s %9s %9s %9s %9s\n", "latency ms", "replies", "mean", "p50", "p90", "p99", "p99.9",
           "p99.99", "max");
    for (unsigned op = 0; bench->workload.n_ops > 1 && op < bench->workload.n_ops; op++) {
        struct histogram merged;
        op_histogram(bench, op, &merged);
        print_latency_row(bench->workload.ops[op].name, &merged);
    }
    print_latency_row("all", &summary->all);
    printf("\nlongest time without a reply %.1f ms; client used %.0f %% of one core\n",
           (double)summary->longest_gap_ns / 1e6, summary->client_cpu * 100);
    if (summary->misses > 0) {
        printf("%" PRIu64 " null replies (keys that do not exist)\n", summary->misses);
    }
    if (summary->unsent > 0) {
        printf("%" PRIu64 " requests were due and not sent: the server does not keep up with --rate\n",
               summary->unsent);
    }
    if (summary->unanswered > 0) {
        printf("%" PRIu64 " requests were not answered by the end\n", summary->unanswered);
    }
    if (summary->disconnects > 0) {
        printf("%" PRIu64 " connections lost\n", summary->disconnects);
    }
    if (summary->retries > 0) {
        printf("%" PRIu64 " requests were refused and sent again\n", summary->retries);
    }
    if (summary->errors > 0) {
        printf("%" PRIu64 " errors, the first: %s\n", summary->errors, summary->error_text);
    }
}

/* --- JSON ----------------------------------------------------------------------------------------------------------
 */

static json_t *latency_json(const struct histogram *histogram)
{
    double us = 1e3;
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)histogram->count, "mean",
                     histogram_mean(histogram) / us, "min", histogram->count == 0 ? 0.0 : (double)histogram->min / us,
                     "p50", (double)histogram_percentile(histogram, 50) / us, "p90",
                     (double)histogram_percentile(histogram, 90) / us, "p99",
                     (double)histogram_percentile(histogram, 99) / us, "p99_9",
                     (double)histogram_percentile(histogram, 99.9) / us, "p99_99",
                     (double)histogram_percentile(histogram, 99.99) / us, "max", (double)histogram->max / us);
}

static json_t *options_json(const struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    static const char *const dists[] = {"uniform", "zipf", "sequential"};
    json_t *addresses = json_array();
    for (unsigned i = 0; i < options->n_addresses; i++) {
        json_array_append_new(addresses, json_sprintf("%s:%u", options->addresses[i].host, options->addresses[i].port));
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:s}", "addresses", addresses, "connections",
                     (json_int_t)options->connections, "depth", (json_int_t)options->depth, "threads",
                     (json_int_t)options->threads, "rate", options->rate, "wait", (json_int_t)options->wait, "keys",
                     (json_int_t)options->workload.keys, "key_size", (json_int_t)options->workload.key_bytes,
                     "value_size", (json_int_t)options->workload.value_bytes, "dist", dists[options->workload.dist]);
}

static json_t *result_json(const struct bench *bench, const struct summary *summary)
{
    json_t *ops = json_object();
    for (unsigned op = 0; op < bench->workload.n_ops; op++) {
        struct histogram merged;
        op_histogram(bench, op, &merged);
        json_object_set_new(ops, bench->workload.ops[op].name, latency_json(&merged));
    }
    json_t *series = json_array();
    for (size_t i = 0; i < bench->n_per_second; i++) {
        json_array_append_new(series, json_integer((json_int_t)bench->per_second[i]));
    }
    return json_pack("{s:o, s:f, s:I, s:f, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:o, s:o}", "options",
                     options_json(bench), "seconds", bench->seconds, "requests", (json_int_t)summary->completed,
                     "throughput", summary->throughput, "errors", (json_int_t)summary->errors, "first_error",
                     summary->error_text, "misses", (json_int_t)summary->misses, "unsent", (json_int_t)summary->unsent,
                     "unanswered", (json_int_t)summary->unanswered, "disconnects", (json_int_t)summary->disconnects,
                     "retries", (json_int_t)summary->retries, "longest_gap_ms", (double)summary->longest_gap_ns / 1e6,
                     "client_cpu", summary->client_cpu, "latency_us", latency_json(&summary->all), "ops", ops,
                     "per_second", series);
}

static bool print_json(const struct bench *bench, const struct summary *summary)
{
    json_t *result = result_json(bench, summary);
    bool ok = result != NULL && json_dumpf(result, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
    putchar('\n');
    json_decref(result);
    return ok;
}

int bench_report(const struct bench *bench)
{
    struct summary *summary = malloc(sizeof(*summary));
    if (summary == NULL) {
        fputs("lockstep: not enough memory for the results\n", stderr);
        return EXIT_FAILED;
    }
    summary_fill(summary, bench);
    int code = summary->errors > 0 || summary->unanswered > 0 ? EXIT_PARTLY : EXIT_OK;
    if (bench->options.json && !print_json(bench, summary)) {
        code = EXIT_FAILED;
    } else if (!bench->options.json) {
        print_text(bench, summary);
    }
    if (summary->failure[0] != '\0') {
        fprintf(stderr, "lockstep: %s\n", summary->failure);
        code = EXIT_FAILED;
    }
    free(summary);
    return code;
}
