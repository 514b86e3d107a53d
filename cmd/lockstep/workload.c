#include "cmd/lockstep/workload.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_PREFIX "key:"
#define COUNTER_PREFIX "ctr:" /* as long as KEY_PREFIX */
#define KEY_PREFIX_LEN 4u
#define VALUE_POOL_EXTRA 65536u /* windows into the pool start at one of so many places */
#define TEMPLATE_BYTES_MAX 4096u

static const struct {
    const char *name, *template;
} builtins[] = {
    {"set", "SET {key} {value}"},
    {"get", "GET {key}"},
    {"setex", "SET {key} {value} EX 60"},
    {"incr", "INCR {counter}"},
    {"del", "DEL {key}"},
    {"exists", "EXISTS {key}"},
    {"append", "APPEND {key} {value}"},
    {"mset", "MSET {key} {value} {key} {value} {key} {value} {key} {value} {key} {value} "
             "{key} {value} {key} {value} {key} {value} {key} {value} {key} {value}"},
    {"mget", "MGET {key} {key} {key} {key} {key} {key} {key} {key} {key} {key}"},
    {"ping", "PING"},
};
#define N_BUILTINS (sizeof(builtins) / sizeof(builtins[0]))

const char *workload_names(void)
{
    return "set get setex incr del exists append mset (10 keys) mget (10 keys) ping";
}

/* --- random numbers: splitmix64, plenty for choosing keys and cheap ------------------------------------------------
 */

static uint64_t random_next(struct workload_source *source)
{
    uint64_t z = (source->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t random_below(struct workload_source *source, uint64_t bound)
{
    return random_next(source) % bound; /* bounds are below 2^40: the bias is below 2^-24 */
}

static double random_unit(struct workload_source *source)
{
    return (double)(random_next(source) >> 11) * 0x1p-53;
}

/* --- zipf: rejection-inversion (Hörmann and Derflinger, 1996): exact, no tables, O(1) ------------------------------
 */

static double zipf_integral(const struct workload *workload, double x)
{
    double q = 1 - workload->zipf_exponent;
    return fabs(q) < 1e-9 ? log(x) : expm1(q * log(x)) / q;
}

static double zipf_integral_inverse(const struct workload *workload, double y)
{
    double q = 1 - workload->zipf_exponent;
    return fabs(q) < 1e-9 ? exp(y) : exp(log1p(y * q) / q);
}

static double zipf_mass(const struct workload *workload, double x)
{
    return exp(-workload->zipf_exponent * log(x));
}

static void zipf_init(struct workload *workload)
{
    workload->zipf_head = zipf_integral(workload, 1.5) - 1;
    workload->zipf_tail = zipf_integral(workload, (double)workload->keys + 0.5);
    workload->zipf_shortcut =
        2 - zipf_integral_inverse(workload, zipf_integral(workload, 2.5) - zipf_mass(workload, 2));
}

static uint64_t zipf_next(const struct workload *workload, struct workload_source *source)
{
    for (;;) {
        double u = workload->zipf_tail + random_unit(source) * (workload->zipf_head - workload->zipf_tail);
        double x = zipf_integral_inverse(workload, u);
        double k = floor(x + 0.5);
        k = k < 1 ? 1 : k;
        k = k > (double)workload->keys ? (double)workload->keys : k;
        if (k - x <= workload->zipf_shortcut || u >= zipf_integral(workload, k + 0.5) - zipf_mass(workload, k)) {
            return (uint64_t)k - 1;
        }
    }
}

/* --- set-up --------------------------------------------------------------------------------------------------------
 */

uint32_t workload_key_bytes_needed(uint64_t keys)
{
    uint32_t digits = 1;
    for (uint64_t last = keys - 1; last >= 10; last /= 10) {
        digits++;
    }
    return KEY_PREFIX_LEN + digits;
}

bool workload_init(struct workload *workload, const struct workload_options *options)
{
    assert(options->keys > 0);
    assert(options->key_bytes >= workload_key_bytes_needed(options->keys));
    assert(options->value_bytes <= WORKLOAD_VALUE_BYTES_MAX);
    memset(workload, 0, sizeof(*workload));
    workload->keys = options->keys;
    workload->key_bytes = options->key_bytes;
    workload->key_digits = options->key_bytes - KEY_PREFIX_LEN;
    workload->value_bytes = options->value_bytes;
    workload->dist = options->dist;
    workload->zipf_exponent = options->zipf_exponent;
    if (options->dist == WORKLOAD_ZIPF) {
        zipf_init(workload);
    }
    size_t pool = (size_t)options->value_bytes + VALUE_POOL_EXTRA;
    workload->values = malloc(pool);
    if (workload->values == NULL) {
        return false;
    }
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    struct workload_source source = {.random = 1};
    for (size_t i = 0; i < pool; i++) {
        workload->values[i] = letters[random_next(&source) % 64];
    }
    return true;
}

void workload_fini(struct workload *workload)
{
    for (unsigned i = 0; i < workload->n_ops; i++) {
        free(workload->ops[i].bytes);
    }
    free(workload->values);
    memset(workload, 0, sizeof(*workload));
}

/* One word of a template: how many bytes it becomes, and whether it is a hole. */
struct word {
    const char *text;
    size_t len;
    enum { WORD_LITERAL, WORD_KEY, WORD_COUNTER, WORD_VALUE } kind;
};

static struct word word_classify(const struct workload *workload, const char *text, size_t len)
{
    struct word word = {.text = text, .len = len, .kind = WORD_LITERAL};
    if (len == 5 && memcmp(text, "{key}", 5) == 0) {
        word.kind = WORD_KEY;
        word.len = workload->key_bytes;
    } else if (len == 9 && memcmp(text, "{counter}", 9) == 0) {
        word.kind = WORD_COUNTER;
        word.len = workload->key_bytes;
    } else if (len == 7 && memcmp(text, "{value}", 7) == 0) {
        word.kind = WORD_VALUE;
        word.len = workload->value_bytes;
    }
    return word;
}

static size_t words_split(const struct workload *workload, const char *template, struct word *words, size_t words_max)
{
    size_t n = 0;
    const char *at = template;
    for (;;) {
        at += strspn(at, " ");
        size_t len = strcspn(at, " ");
        if (len == 0) {
            return n;
        }
        if (n == words_max) {
            return words_max + 1;
        }
        words[n++] = word_classify(workload, at, len);
        at += len;
    }
}

static void op_append_word(const struct workload *workload, struct workload_op *op, const struct word *word)
{
    op->len += (size_t)sprintf(op->bytes + op->len, "$%zu\r\n", word->len);
    if (word->kind == WORD_LITERAL) {
        memcpy(op->bytes + op->len, word->text, word->len);
    } else {
        struct workload_hole *hole = &op->holes[op->n_holes++];
        hole->is_key = word->kind != WORD_VALUE;
        /* A key's hole is its digits only: the prefix never changes. */
        hole->offset = (uint32_t)(op->len + (hole->is_key ? KEY_PREFIX_LEN : 0));
        if (hole->is_key) {
            memcpy(op->bytes + op->len, word->kind == WORD_KEY ? KEY_PREFIX : COUNTER_PREFIX, KEY_PREFIX_LEN);
            memset(op->bytes + op->len + KEY_PREFIX_LEN, '0', workload->key_digits);
        } else {
            memcpy(op->bytes + op->len, workload->values, word->len);
        }
    }
    op->len += word->len;
    memcpy(op->bytes + op->len, "\r\n", 2);
    op->len += 2;
}

bool workload_add(struct workload *workload, const char *name, const char *template, uint32_t weight, const char **why)
{
    struct word words[WORKLOAD_HOLES_MAX];
    if (workload->n_ops == WORKLOAD_OPS_MAX) {
        *why = "too many operations in one mix";
        return false;
    }
    size_t n = strlen(template) > TEMPLATE_BYTES_MAX ? WORKLOAD_HOLES_MAX + 1
                                                     : words_split(workload, template, words, WORKLOAD_HOLES_MAX);
    if (n == 0 || n > WORKLOAD_HOLES_MAX) {
        *why = n == 0 ? "an empty command" : "a command too long for a template";
        return false;
    }
    size_t bytes = 32;
    for (size_t i = 0; i < n; i++) {
        bytes += words[i].len + 32;
    }
    struct workload_op *op = &workload->ops[workload->n_ops];
    op->bytes = bytes > UINT32_MAX ? NULL : malloc(bytes);
    if (op->bytes == NULL) {
        *why = "not enough memory for the command";
        return false;
    }
    workload->n_ops++;
    snprintf(op->name, sizeof(op->name), "%s", name);
    op->weight = weight;
    workload->weight_sum += weight;
    op->len = (size_t)sprintf(op->bytes, "*%zu\r\n", n);
    for (size_t i = 0; i < n; i++) {
        op_append_word(workload, op, &words[i]);
    }
    assert(op->len <= bytes);
    return true;
}

/* One "name[:weight]" of a mix. */
static bool mix_add_part(struct workload *workload, const char *part, size_t len, const char **why)
{
    size_t name_len = strcspn(part, ":,");
    unsigned weight = 1;
    int used = 0;
    if (name_len < len) {
        if (sscanf(part + name_len, ":%5u%n", &weight, &used) != 1 || name_len + (size_t)used != len || weight == 0) {
            *why = "a weight is a whole number from 1 to 99999, as in set:1,get:9";
            return false;
        }
    }
    for (size_t i = 0; i < N_BUILTINS; i++) {
        if (strlen(builtins[i].name) == name_len && strncmp(builtins[i].name, part, name_len) == 0) {
            return workload_add(workload, builtins[i].name, builtins[i].template, weight, why);
        }
    }
    *why = "no such operation";
    return false;
}

bool workload_add_mix(struct workload *workload, const char *mix, const char **why)
{
    const char *at = mix;
    for (;;) {
        size_t len = strcspn(at, ",");
        if (!mix_add_part(workload, at, len, why)) {
            return false;
        }
        if (at[len] == '\0') {
            return true;
        }
        at += len + 1;
    }
}

/* --- per request ---------------------------------------------------------------------------------------------------
 */

void workload_source_init(struct workload_source *source, unsigned thread, unsigned threads, uint64_t seed)
{
    source->random = seed * 0x2545f4914f6cdd1du + thread * 0x9e3779b97f4a7c15u;
    source->next_key = thread;
    source->key_stride = threads;
}

uint64_t workload_key(const struct workload *workload, struct workload_source *source)
{
    switch (workload->dist) {
    case WORKLOAD_ZIPF:
        return zipf_next(workload, source);
    case WORKLOAD_SEQUENTIAL: {
        uint64_t key = source->next_key % workload->keys;
        source->next_key += source->key_stride;
        return key;
    }
    case WORKLOAD_UNIFORM:
    default:
        return random_below(source, workload->keys);
    }
}

unsigned workload_choose(const struct workload *workload, struct workload_source *source)
{
    if (workload->n_ops == 1) {
        return 0;
    }
    uint64_t pick = random_below(source, workload->weight_sum);
    unsigned op = 0;
    while (pick >= workload->ops[op].weight) {
        pick -= workload->ops[op].weight;
        op++;
    }
    return op;
}

static void digits_write(char *out, uint32_t digits, uint64_t number)
{
    while (digits > 0 && number > 0) {
        out[--digits] = (char)('0' + number % 10);
        number /= 10;
    }
}

void workload_render(const struct workload *workload, struct workload_source *source, unsigned op_index, char *out)
{
    const struct workload_op *op = &workload->ops[op_index];
    memcpy(out, op->bytes, op->len);
    for (unsigned i = 0; i < op->n_holes; i++) {
        const struct workload_hole *hole = &op->holes[i];
        if (hole->is_key) {
            digits_write(out + hole->offset, workload->key_digits, workload_key(workload, source));
        } else {
            const char *window = workload->values + random_next(source) % VALUE_POOL_EXTRA;
            memcpy(out + hole->offset, window, workload->value_bytes);
        }
    }
}
