/* A 4-ary heap in chunks, so that it grows without copying. */
#include "store/deadline.h"

#include <assert.h>
#include <stdlib.h>

#define CHUNK 256u
#define WAYS 4u
/* Keys fetched ahead while they learn their places. */
#define PLACE_AHEAD 8u

static inline struct deadline *at(const struct deadlines *deadlines, uint32_t i)
{
    return &deadlines->chunks[i / CHUNK][i % CHUNK];
}

static bool sooner(const struct deadline *a, const struct deadline *b)
{
    if (a->at_ms != b->at_ms) {
        return a->at_ms < b->at_ms;
    }
    struct key_view x;
    struct key_view y;
    key_view(a->key, &x);
    key_view(b->key, &y);
    int order = memcmp(x.name, y.name, x.name_len < y.name_len ? x.name_len : y.name_len);
    return order != 0 ? order < 0 : x.name_len < y.name_len;
}

static void put(struct deadlines *deadlines, uint32_t i, struct deadline deadline)
{
    *at(deadlines, i) = deadline;
    key_place_set(deadline.key, i);
}

static void put_silently(struct deadlines *deadlines, uint32_t i, struct deadline deadline)
{
    *at(deadlines, i) = deadline;
}

/* Both find the place of `deadline`, with a hole at `i`. */
static void sift_up(struct deadlines *deadlines, uint32_t i, struct deadline deadline)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / WAYS;
        if (!sooner(&deadline, at(deadlines, parent))) {
            break;
        }
        put(deadlines, i, *at(deadlines, parent));
        i = parent;
    }
    put(deadlines, i, deadline);
}

static inline void sift_down(struct deadlines *deadlines, uint32_t i, struct deadline deadline,
                             void (*place)(struct deadlines *deadlines, uint32_t i, struct deadline deadline))
{
    for (;;) {
        uint64_t child = (uint64_t)i * WAYS + 1;
        if (child >= deadlines->n) {
            break;
        }
        uint32_t best = (uint32_t)child;
        for (uint64_t c = child + 1; c < child + WAYS && c < deadlines->n; c++) {
            if (sooner(at(deadlines, (uint32_t)c), at(deadlines, best))) {
                best = (uint32_t)c;
            }
        }
        if (!sooner(at(deadlines, best), &deadline)) {
            break;
        }
        place(deadlines, i, *at(deadlines, best));
        i = best;
    }
    place(deadlines, i, deadline);
}

static void settle(struct deadlines *deadlines, uint32_t i, struct deadline deadline)
{
    if (i > 0 && sooner(&deadline, at(deadlines, (i - 1) / WAYS))) {
        sift_up(deadlines, i, deadline);
    } else {
        sift_down(deadlines, i, deadline, put);
    }
}

void deadlines_init(struct deadlines *deadlines, struct memory *memory)
{
    *deadlines = (struct deadlines){.memory = memory};
}

void deadlines_fini(struct deadlines *deadlines)
{
    free(deadlines->chunks);
    deadlines->chunks = NULL;
}

/* A place at the end for a key that is not in the heap. */
static uint32_t push(struct deadlines *deadlines, struct key *key, uint64_t at_ms)
{
    assert(key_has_deadline(key));
    assert(deadlines->n < UINT32_MAX);
    uint32_t i = deadlines->n;
    if (i / CHUNK == deadlines->n_chunks) {
        if (deadlines->n_chunks == deadlines->chunks_capacity) {
            deadlines->chunks_capacity = deadlines->chunks_capacity == 0 ? 4 : 2 * deadlines->chunks_capacity;
            deadlines->chunks = realloc(deadlines->chunks, deadlines->chunks_capacity * sizeof *deadlines->chunks);
            if (deadlines->chunks == NULL) {
                abort();
            }
        }
        deadlines->chunks[deadlines->n_chunks++] =
            memory_alloc(deadlines->memory, MEMORY_FIXED, CHUNK * sizeof(struct deadline));
    }
    deadlines->n++;
    key_deadline_set(key, at_ms);
    return i;
}

void deadlines_add(struct deadlines *deadlines, struct key *key, uint64_t at_ms)
{
    uint32_t i = push(deadlines, key, at_ms);
    sift_up(deadlines, i, (struct deadline){.at_ms = at_ms, .key = key});
}

void deadlines_append(struct deadlines *deadlines, struct key *key, uint64_t at_ms)
{
    uint32_t i = push(deadlines, key, at_ms);
    *at(deadlines, i) = (struct deadline){.at_ms = at_ms, .key = key};
}

bool deadlines_order(struct deadlines *deadlines, uint64_t *step, uint64_t budget)
{
    /* First each subtree from the last one up becomes a heap; then the keys, in another order of memory, learn their
     * places: only once each. */
    uint64_t parents = deadlines->n < 2 ? 0 : (deadlines->n - 2) / WAYS + 1;
    for (; *step < parents && budget > 0; budget--) {
        uint32_t i = (uint32_t)(parents - 1 - (*step)++);
        sift_down(deadlines, i, *at(deadlines, i), put_silently);
    }
    for (; *step >= parents && *step < parents + deadlines->n && budget > 0; budget--) {
        uint32_t i = (uint32_t)((*step)++ - parents);
        if (i + PLACE_AHEAD < deadlines->n) {
            __builtin_prefetch(at(deadlines, i + PLACE_AHEAD)->key, 1);
        }
        key_place_set(at(deadlines, i)->key, i);
    }
    return *step == parents + deadlines->n;
}

void deadlines_remove(struct deadlines *deadlines, const struct key *key)
{
    uint32_t i = key_place_get(key);
    assert(i < deadlines->n);
    assert(at(deadlines, i)->key == key);
    deadlines->n--;
    struct deadline last = *at(deadlines, deadlines->n);
    if (i != deadlines->n) {
        settle(deadlines, i, last);
    }
    /* One chunk is kept in reserve. */
    if (deadlines->n_chunks > 1 && deadlines->n <= (deadlines->n_chunks - 2) * CHUNK) {
        memory_release(deadlines->memory, MEMORY_FIXED, deadlines->chunks[--deadlines->n_chunks],
                       CHUNK * sizeof(struct deadline));
    }
}

void deadlines_change(struct deadlines *deadlines, struct key *key, uint64_t at_ms)
{
    uint32_t i = key_place_get(key);
    assert(i < deadlines->n);
    assert(at(deadlines, i)->key == key);
    key_deadline_set(key, at_ms);
    settle(deadlines, i, (struct deadline){.at_ms = at_ms, .key = key});
}

void deadlines_moved(struct deadlines *deadlines, struct key *key)
{
    uint32_t i = key_place_get(key);
    assert(i < deadlines->n);
    at(deadlines, i)->key = key;
}

const struct deadline *deadlines_first(const struct deadlines *deadlines)
{
    return deadlines->n > 0 ? at(deadlines, 0) : NULL;
}

size_t deadlines_bytes(const struct deadlines *deadlines)
{
    return deadlines->n_chunks * CHUNK * sizeof(struct deadline) +
           deadlines->chunks_capacity * sizeof *deadlines->chunks;
}
