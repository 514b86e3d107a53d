#include "tests/sim/linearizability.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define ABSENT 0u /* state number of "no such key" */

/* --- Values: each distinct value has a number, so that states compare as numbers -------------------------------------
 */

struct value {
    uint8_t *bytes;
    size_t len;
    uint32_t next; /* in its bucket */
};

struct values {
    struct value *list; /* [0] stands for ABSENT */
    uint32_t n, capacity;
    uint32_t *buckets;
    uint32_t mask;
};

static void values_init(struct values *values)
{
    values->capacity = 256;
    values->n = 1;
    values->list = calloc(values->capacity, sizeof *values->list);
    values->mask = 4095;
    values->buckets = calloc(values->mask + 1u, sizeof *values->buckets);
    assert(values->list != NULL);
    assert(values->buckets != NULL);
}

static void values_fini(struct values *values)
{
    for (uint32_t i = 1; i < values->n; i++) {
        free(values->list[i].bytes);
    }
    free(values->list);
    free(values->buckets);
}

static uint32_t value_number(struct values *values, const void *bytes, size_t len)
{
    uint32_t *bucket = &values->buckets[XXH3_64bits(bytes, len) & values->mask];
    struct value *value;

    for (uint32_t i = *bucket; i != 0; i = values->list[i].next) {
        if (values->list[i].len == len && memcmp(values->list[i].bytes, bytes, len) == 0) {
            return i;
        }
    }
    if (values->n == values->capacity) {
        values->capacity *= 2;
        values->list = realloc(values->list, values->capacity * sizeof *values->list);
        assert(values->list != NULL);
    }
    value = &values->list[values->n];
    value->bytes = malloc(len + 1);
    assert(value->bytes != NULL);
    memcpy(value->bytes, bytes, len);
    value->bytes[len] = 0;
    value->len = len;
    value->next = *bucket;
    *bucket = values->n;
    return values->n++;
}

/* --- The model --------------------------------------------------------------------------------------------------- */

struct outcome {
    enum lin_outcome kind;
    uint32_t value;
    int64_t integer;
};

static bool parse_integer(const struct value *value, int64_t *integer)
{
    char *end;

    if (value->len == 0 || value->len > 20) {
        return false;
    }
    *integer = strtoll((const char *)value->bytes, &end, 10);
    return end == (const char *)value->bytes + value->len;
}

static uint32_t model_append(struct values *values, uint32_t state, const struct lin_op *op, struct outcome *out)
{
    size_t old = state == ABSENT ? 0 : values->list[state].len;
    uint8_t *bytes = malloc(old + op->arg_len + 1);
    uint32_t next;

    assert(bytes != NULL);
    if (old > 0) {
        memcpy(bytes, values->list[state].bytes, old);
    }
    memcpy(bytes + old, op->arg, op->arg_len);
    next = value_number(values, bytes, old + op->arg_len);
    free(bytes);
    *out = (struct outcome){.kind = LIN_INTEGER, .integer = (int64_t)(old + op->arg_len)};
    return next;
}

static uint32_t model_incrby(struct values *values, uint32_t state, const struct lin_op *op, struct outcome *out)
{
    char text[32];
    int64_t integer = 0;

    if (state != ABSENT && !parse_integer(&values->list[state], &integer)) {
        *out = (struct outcome){.kind = LIN_ERROR};
        return state;
    }
    integer += op->delta;
    *out = (struct outcome){.kind = LIN_INTEGER, .integer = integer};
    return value_number(values, text, (size_t)snprintf(text, sizeof text, "%" PRId64, integer));
}

static struct outcome outcome_value(uint32_t state)
{
    return state == ABSENT ? (struct outcome){.kind = LIN_NIL} : (struct outcome){.kind = LIN_VALUE, .value = state};
}

/* One operation on the register: the next state and the reply. */
static uint32_t model_step(struct values *values, uint32_t state, const struct lin_op *op, struct outcome *out)
{
    uint32_t expect;

    switch (op->kind) {
    case LIN_GET:
        *out = outcome_value(state);
        return state;
    case LIN_SET:
        *out = (struct outcome){.kind = LIN_OK};
        return value_number(values, op->arg, op->arg_len);
    case LIN_SETNX:
        *out = (struct outcome){.kind = state == ABSENT ? LIN_OK : LIN_NIL};
        return state == ABSENT ? value_number(values, op->arg, op->arg_len) : state;
    case LIN_GETSET:
        *out = outcome_value(state);
        return value_number(values, op->arg, op->arg_len);
    case LIN_DEL:
        *out = (struct outcome){.kind = LIN_INTEGER, .integer = state != ABSENT};
        return ABSENT;
    case LIN_APPEND:
        return model_append(values, state, op, out);
    case LIN_INCRBY:
        return model_incrby(values, state, op, out);
    case LIN_CAS:
        if (op->ret != LIN_NEVER && op->outcome == LIN_NIL) {
            *out = (struct outcome){.kind = LIN_NIL};
            return state;
        }
        expect = op->expect == NULL ? ABSENT : value_number(values, op->expect, op->expect_len);
        *out = (struct outcome){.kind = state == expect ? LIN_OK : LIN_NIL};
        return state == expect ? value_number(values, op->arg, op->arg_len) : state;
    }
    assert(false);
    return state;
}

static bool outcome_matches(struct values *values, const struct lin_op *op, const struct outcome *out)
{
    if (op->ret == LIN_NEVER) {
        return true;
    }
    if (op->outcome != out->kind) {
        return false;
    }
    switch (op->outcome) {
    case LIN_VALUE:
        return values->list[out->value].len == op->value_len &&
               memcmp(values->list[out->value].bytes, op->value, op->value_len) == 0;
    case LIN_INTEGER:
        return out->integer == op->integer;
    case LIN_NIL:
    case LIN_OK:
    case LIN_ERROR:
        return true;
    }
    return false;
}

/* --- The memory: sets of placed operations with the state they lead to -----------------------------------------------
 */

struct memory {
    uint64_t *keys; /* entries of `words` words: bit set, then the state */
    uint32_t words;
    uint32_t n, capacity;
    uint32_t *table; /* open addressing, entry number plus one */
    uint32_t mask;
};

static void memory_grow_table(struct memory *memory)
{
    memory->mask = memory->mask == 0 ? 1023 : 2 * memory->mask + 1;
    free(memory->table);
    memory->table = calloc(memory->mask + 1u, sizeof *memory->table);
    assert(memory->table != NULL);
    for (uint32_t i = 0; i < memory->n; i++) {
        uint64_t *key = memory->keys + (size_t)i * memory->words;
        uint32_t at = (uint32_t)XXH3_64bits(key, memory->words * sizeof *key) & memory->mask;

        while (memory->table[at] != 0) {
            at = (at + 1) & memory->mask;
        }
        memory->table[at] = i + 1;
    }
}

/* False: was there already. */
static bool memory_add(struct memory *memory, const uint64_t *bits, uint32_t state)
{
    uint64_t *key;
    uint32_t at;

    if (memory->n == memory->capacity) {
        memory->capacity = memory->capacity == 0 ? 1024 : 2 * memory->capacity;
        memory->keys = realloc(memory->keys, (size_t)memory->capacity * memory->words * sizeof *memory->keys);
        assert(memory->keys != NULL);
    }
    if (2 * memory->n >= memory->mask) {
        memory_grow_table(memory);
    }
    key = memory->keys + (size_t)memory->n * memory->words;
    memcpy(key, bits, (memory->words - 1) * sizeof *key);
    key[memory->words - 1] = state;
    at = (uint32_t)XXH3_64bits(key, memory->words * sizeof *key) & memory->mask;
    while (memory->table[at] != 0) {
        const uint64_t *other = memory->keys + (size_t)(memory->table[at] - 1) * memory->words;

        if (memcmp(other, key, memory->words * sizeof *key) == 0) {
            return false;
        }
        at = (at + 1) & memory->mask;
    }
    memory->table[at] = ++memory->n;
    return true;
}

/* --- The search -------------------------------------------------------------------------------------------------- */

/* One placed operation and what else could be placed instead. */
struct frame {
    uint32_t state;      /* before it */
    uint32_t candidates; /* where this frame's candidates begin in search.candidates */
    uint32_t n, next;
    uint32_t placed; /* operation, by position in search.order */
    uint32_t low;    /* search.low before it */
};

struct search {
    const struct lin_op *ops;
    unsigned n;
    unsigned required; /* operations with a known outcome that are not placed yet */
    uint32_t *order;   /* positions in ops, by invocation */
    uint32_t low;      /* everything before it in `order` is placed */
    uint64_t *bits;    /* placed, by position in order */
    struct frame *frames;
    unsigned depth;
    uint32_t *candidates;
    size_t candidates_n, candidates_capacity;
    struct values values;
    struct memory memory;
    unsigned best;
};

static int by_invocation(const void *a, const void *b, void *ops)
{
    const struct lin_op *x = (const struct lin_op *)ops + *(const uint32_t *)a;
    const struct lin_op *y = (const struct lin_op *)ops + *(const uint32_t *)b;

    if (x->invoke != y->invoke) {
        return x->invoke < y->invoke ? -1 : 1;
    }
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

static const struct lin_op *op_at(const struct search *search, uint32_t position)
{
    return &search->ops[search->order[position]];
}

static bool is_placed(const struct search *search, uint32_t position)
{
    return (search->bits[position / 64] >> (position % 64)) & 1u;
}

static void candidate_add(struct search *search, uint32_t position)
{
    if (search->candidates_n == search->candidates_capacity) {
        search->candidates_capacity = search->candidates_capacity == 0 ? 1024 : 2 * search->candidates_capacity;
        search->candidates = realloc(search->candidates, search->candidates_capacity * sizeof *search->candidates);
        assert(search->candidates != NULL);
    }
    search->candidates[search->candidates_n++] = position;
}

/* Two operations of unknown outcome that do the same are interchangeable: only the earlier invoked need be tried. */
static bool has_twin_before(const struct search *search, const struct frame *frame, const struct lin_op *op)
{
    for (size_t i = frame->candidates; i < search->candidates_n; i++) {
        const struct lin_op *other = op_at(search, search->candidates[i]);

        if (other->ret == LIN_NEVER && other->kind == op->kind && other->delta == op->delta &&
            other->arg_len == op->arg_len && (op->arg_len == 0 || memcmp(other->arg, op->arg, op->arg_len) == 0) &&
            op->kind != LIN_CAS) {
            return true;
        }
    }
    return false;
}

/* Known outcomes first, the most urgent in front; a handful at a time, so insertion sort. */
static void candidates_sort(struct search *search, const struct frame *frame)
{
    uint32_t *list = search->candidates + frame->candidates;

    for (uint32_t i = 1; i < frame->n; i++) {
        uint32_t position = list[i];
        uint32_t j = i;

        while (j > 0 && op_at(search, list[j - 1])->ret > op_at(search, position)->ret) {
            list[j] = list[j - 1];
            j--;
        }
        list[j] = position;
    }
}

/* What can be placed next: everything invoked before the earliest return of what is not placed. An operation of known
 * outcome that fits and changes nothing can be placed at once, without alternatives: any order that has it later is
 * good with it here too. */
static void frame_open(struct search *search, struct frame *frame)
{
    uint64_t deadline = LIN_NEVER;
    struct outcome out;

    frame->candidates = (uint32_t)search->candidates_n;
    frame->next = 0;
    while (search->low < search->n && is_placed(search, search->low)) {
        search->low++;
    }
    for (uint32_t i = search->low; i < search->n; i++) {
        const struct lin_op *op = op_at(search, i);
        uint32_t next;

        if (op->invoke > deadline) {
            break;
        }
        if (is_placed(search, i)) {
            continue;
        }
        deadline = op->ret < deadline ? op->ret : deadline;
        next = model_step(&search->values, frame->state, op, &out);
        if (next == frame->state && op->ret == LIN_NEVER) {
            continue; /* of no use here */
        }
        if (next == frame->state && outcome_matches(&search->values, op, &out)) {
            search->candidates_n = frame->candidates;
            candidate_add(search, i);
            break;
        }
        if (op->ret != LIN_NEVER ? outcome_matches(&search->values, op, &out) : !has_twin_before(search, frame, op)) {
            candidate_add(search, i);
        }
    }
    /* Those seen before the deadline was known may lie beyond it. */
    frame->n = 0;
    for (size_t i = frame->candidates; i < search->candidates_n; i++) {
        if (op_at(search, search->candidates[i])->invoke <= deadline) {
            search->candidates[frame->candidates + frame->n++] = search->candidates[i];
        }
    }
    search->candidates_n = frame->candidates + frame->n;
    candidates_sort(search, frame);
}

static void place(struct search *search, struct frame *frame, uint32_t position)
{
    frame->placed = position;
    search->bits[position / 64] ^= UINT64_C(1) << (position % 64);
    if (op_at(search, position)->ret != LIN_NEVER) {
        search->required--;
    }
}

static void unplace(struct search *search, const struct frame *frame)
{
    search->bits[frame->placed / 64] ^= UINT64_C(1) << (frame->placed % 64);
    if (op_at(search, frame->placed)->ret != LIN_NEVER) {
        search->required++;
    }
}

/* The operation that returned first among those that the longest order lacks. */
static unsigned search_stuck(const struct search *search)
{
    unsigned stuck = search->order[0];
    uint64_t ret = LIN_NEVER;

    for (uint32_t i = 0; i < search->n; i++) {
        if (!is_placed(search, i) && op_at(search, i)->ret < ret) {
            ret = op_at(search, i)->ret;
            stuck = search->order[i];
        }
    }
    return stuck;
}

static enum lin_result search_run(struct search *search, uint64_t steps_max, struct lin_report *report)
{
    struct frame *frame = &search->frames[0];

    frame->state = ABSENT;
    frame->low = 0;
    frame_open(search, frame);
    report->stuck = search_stuck(search);
    while (search->required > 0) {
        struct outcome out;
        uint32_t state;

        if (frame->next == frame->n) {
            if (search->depth == 0) {
                return LIN_VIOLATION;
            }
            search->candidates_n = frame->candidates;
            frame = &search->frames[--search->depth];
            unplace(search, frame);
            search->low = frame->low;
            continue;
        }
        if (++report->steps > steps_max) {
            return LIN_TOO_HARD;
        }
        frame->low = search->low;
        place(search, frame, search->candidates[frame->candidates + frame->next++]);
        state = model_step(&search->values, frame->state, op_at(search, frame->placed), &out);
        if (!memory_add(&search->memory, search->bits, state)) {
            unplace(search, frame);
            continue;
        }
        frame = &search->frames[++search->depth];
        frame->state = state;
        frame_open(search, frame);
        if (search->depth > search->best && search->required > 0) {
            search->best = search->depth;
            report->placed = search->depth;
            report->stuck = search_stuck(search);
        }
    }
    report->placed = search->depth;
    return LIN_LINEARIZABLE;
}

enum lin_result lin_check(const struct lin_op *ops, unsigned n, uint64_t steps_max, struct lin_report *report)
{
    struct search search = {.ops = ops, .n = n};
    struct lin_report unused;
    enum lin_result result;

    report = report == NULL ? &unused : report;
    *report = (struct lin_report){0};
    if (n == 0) {
        return LIN_LINEARIZABLE;
    }
    search.order = calloc(n, sizeof *search.order);
    search.memory.words = (n + 63) / 64 + 1;
    search.bits = calloc(search.memory.words, sizeof *search.bits);
    search.frames = calloc(n + 1u, sizeof *search.frames);
    assert(search.order != NULL);
    assert(search.bits != NULL);
    assert(search.frames != NULL);
    for (unsigned i = 0; i < n; i++) {
        assert(ops[i].ret > ops[i].invoke);
        search.order[i] = i;
        search.required += ops[i].ret != LIN_NEVER ? 1 : 0;
    }
    qsort_r(search.order, n, sizeof *search.order, by_invocation, (void *)(uintptr_t)ops);
    values_init(&search.values);
    result = search_run(&search, steps_max == 0 ? 2000000 : steps_max, report);
    values_fini(&search.values);
    free(search.memory.keys);
    free(search.memory.table);
    free(search.candidates);
    free(search.frames);
    free(search.bits);
    free(search.order);
    return result;
}
