/* What a benchmark sends: which command next (a weighted mix), which key (a distribution), and the request's bytes,
 * prepared once and only patched per request, so that generating load costs next to nothing. Owns its templates; knows
 * nothing of sockets. A workload is shared between threads read-only; each thread has its own workload_source. */
#ifndef LOCKSTEP_WORKLOAD_H
#define LOCKSTEP_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKLOAD_OPS_MAX 16
#define WORKLOAD_NAME_MAX 32
#define WORKLOAD_HOLES_MAX 64 /* keys and values in one command */
#define WORKLOAD_KEY_BYTES_MIN 4
#define WORKLOAD_KEY_BYTES_MAX 1024
#define WORKLOAD_VALUE_BYTES_MAX (64u << 20)

enum workload_dist { WORKLOAD_UNIFORM, WORKLOAD_ZIPF, WORKLOAD_SEQUENTIAL };

struct workload_hole {
    uint32_t offset; /* into bytes */
    bool is_key;     /* else a value */
};

struct workload_op {
    char name[WORKLOAD_NAME_MAX];
    uint32_t weight;
    char *bytes; /* the request, with keys and values to be patched in */
    size_t len;
    struct workload_hole holes[WORKLOAD_HOLES_MAX];
    unsigned n_holes;
};

struct workload {
    struct workload_op ops[WORKLOAD_OPS_MAX];
    unsigned n_ops;
    uint32_t weight_sum;
    uint64_t keys;
    uint32_t key_bytes, key_digits;
    uint32_t value_bytes;
    enum workload_dist dist;
    double zipf_exponent;
    double zipf_head, zipf_tail, zipf_shortcut; /* constants of the rejection-inversion sampler */
    char *values;                               /* random text; a value is a window into it */
};

struct workload_options {
    uint64_t keys;
    uint32_t key_bytes, value_bytes;
    enum workload_dist dist;
    double zipf_exponent; /* above 0; 0.99 is YCSB's */
};

/* One thread's position: random state and the next sequential key. */
struct workload_source {
    uint64_t random;
    uint64_t next_key, key_stride;
};

/* Options must lie in the documented bounds and key_bytes must hold every key number (workload_key_bytes_needed). */
bool workload_init(struct workload *workload, const struct workload_options *options);
void workload_fini(struct workload *workload);
uint32_t workload_key_bytes_needed(uint64_t keys);

/* Add an operation from a template: words separated by spaces, in which "{key}" and "{value}" stand for a key and a
 * value; "{counter}" for a key of a name space of its own. False: not a template, message in *why. */
bool workload_add(struct workload *workload, const char *name, const char *template, uint32_t weight, const char **why);
/* Add what a mix says: "set:1,get:9", names from a built-in list (workload_names). */
bool workload_add_mix(struct workload *workload, const char *mix, const char **why);
const char *workload_names(void);

/* Threads 0..threads-1 together visit every key once before any repeats, if sequential. */
void workload_source_init(struct workload_source *source, unsigned thread, unsigned threads, uint64_t seed);
/* Choose the next operation; returns its index in ops. */
unsigned workload_choose(const struct workload *workload, struct workload_source *source);
/* Write the request of operation `op` to `out`, which has room for ops[op].len bytes. */
void workload_render(const struct workload *workload, struct workload_source *source, unsigned op, char *out);
/* The next key number, 0 to keys-1. */
uint64_t workload_key(const struct workload *workload, struct workload_source *source);

#endif
