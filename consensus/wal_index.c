#include "consensus/wal_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Entries per page: growing never copies more than the table of pages. */
#define PAGE_SLOTS 4096u

static bool runs_reserve(struct wal_runs *runs, size_t extra)
{
    if (runs->cap - runs->n >= extra) {
        return true;
    }
    size_t cap = runs->cap == 0 ? 16 : runs->cap * 2;
    if (cap < runs->n + extra) {
        cap = runs->n + extra;
    }
    struct wal_run *items = realloc(runs->items, cap * sizeof *items);
    if (items == NULL) {
        return false;
    }
    runs->items = items;
    runs->cap = cap;
    return true;
}

static void runs_push(struct wal_runs *runs, uint64_t first, uint64_t value)
{
    if (runs->n > 0 && runs->items[runs->n - 1].value == value) {
        return;
    }
    assert(runs->n < runs->cap);
    assert(runs->n == 0 || runs->items[runs->n - 1].first < first);
    runs->items[runs->n++] = (struct wal_run){.first = first, .value = value};
}

static void runs_truncate(struct wal_runs *runs, uint64_t from)
{
    while (runs->n > 0 && runs->items[runs->n - 1].first >= from) {
        runs->n--;
    }
}

static uint64_t runs_at(const struct wal_runs *runs, uint64_t at)
{
    size_t low = 0;
    size_t high = runs->n;
    assert(high > 0);
    if (runs->items[high - 1].first <= at) {
        return runs->items[high - 1].value; /* the common case: near the end of the log */
    }
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (runs->items[middle].first <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    assert(runs->items[low].first <= at);
    return runs->items[low].value;
}

void wal_index_init(struct wal_index *index, uint64_t first)
{
    assert(first > 0);
    memset(index, 0, sizeof *index);
    index->first = first;
    index->last = first - 1;
    index->origin = first;
}

void wal_index_fini(struct wal_index *index)
{
    for (size_t i = 0; i < index->n_pages; i++) {
        free(index->pages[i]);
    }
    free(index->pages);
    free(index->terms.items);
    free(index->segments.items);
}

static bool pages_reserve(struct wal_index *index, size_t n_pages)
{
    if (n_pages > index->pages_cap) {
        size_t cap = index->pages_cap == 0 ? 64 : index->pages_cap * 2;
        if (cap < n_pages) {
            cap = n_pages;
        }
        struct wal_slot **pages = realloc(index->pages, cap * sizeof(struct wal_slot *));
        if (pages == NULL) {
            return false;
        }
        index->pages = pages;
        index->pages_cap = cap;
    }
    while (index->n_pages < n_pages) {
        struct wal_slot *page = malloc(PAGE_SLOTS * sizeof *page);
        if (page == NULL) {
            return false;
        }
        index->pages[index->n_pages++] = page;
    }
    return true;
}

bool wal_index_reserve(struct wal_index *index, uint64_t last, size_t n_terms, size_t n_segments)
{
    assert(last >= index->first);
    return pages_reserve(index, (size_t)((last - index->origin) / PAGE_SLOTS) + 1) &&
           runs_reserve(&index->terms, n_terms) && runs_reserve(&index->segments, n_segments);
}

void wal_index_truncate(struct wal_index *index, uint64_t from)
{
    assert(from >= index->first);
    if (from > index->last) {
        return;
    }
    index->last = from - 1;
    runs_truncate(&index->terms, from);
    runs_truncate(&index->segments, from); /* pages stay: room that was reserved must not go away */
}

/* Runs that end before `first`; the one that covers it stays. */
static void runs_drop(struct wal_runs *runs, uint64_t first)
{
    size_t n = 0;
    while (n + 1 < runs->n && runs->items[n + 1].first <= first) {
        n++;
    }
    runs->n -= n;
    if (n > 0) {
        memmove(runs->items, runs->items + n, runs->n * sizeof *runs->items);
    }
}

void wal_index_drop(struct wal_index *index, uint64_t first)
{
    assert(first >= index->first);
    assert(first <= index->last + 1);
    size_t n = (size_t)((first - index->origin) / PAGE_SLOTS);
    if (n > index->n_pages) {
        n = index->n_pages;
    }
    for (size_t i = 0; i < n; i++) {
        free(index->pages[i]);
    }
    if (n > 0) {
        index->n_pages -= n;
        memmove(index->pages, index->pages + n, index->n_pages * sizeof(struct wal_slot *));
        index->origin += (uint64_t)n * PAGE_SLOTS;
    }
    index->first = first;
    runs_drop(&index->terms, first);
    runs_drop(&index->segments, first);
}

void wal_index_reset(struct wal_index *index, uint64_t first)
{
    assert(first > 0);
    for (size_t i = 0; i < index->n_pages; i++) {
        free(index->pages[i]);
    }
    index->n_pages = 0;
    index->terms.n = 0;
    index->segments.n = 0;
    index->first = first;
    index->last = first - 1;
    index->origin = first;
}

uint64_t wal_index_after(const struct wal_index *index, uint32_t generation)
{
    for (size_t i = 0; i < index->segments.n && index->first <= index->last; i++) {
        const struct wal_run *run = &index->segments.items[i];
        if (run->value > generation) {
            return run->first > index->first ? run->first : index->first;
        }
    }
    return index->last + 1;
}

void wal_index_push(struct wal_index *index, const struct wal_place *place)
{
    assert(place->len <= WAL_INDEX_LEN_MAX);
    assert(place->offset % 8 == 0);
    assert(place->offset / 8 <= UINT32_MAX);
    assert(place->type < 16);
    uint64_t at = ++index->last;
    uint64_t slot = at - index->origin;
    assert(slot / PAGE_SLOTS < index->n_pages);
    index->pages[slot / PAGE_SLOTS][slot % PAGE_SLOTS] = (struct wal_slot){
        .offset8 = (uint32_t)(place->offset / 8),
        .len_type = place->len << 4 | place->type,
    };
    runs_push(&index->terms, at, place->term);
    runs_push(&index->segments, at, place->generation);
}

uint64_t wal_index_term(const struct wal_index *index, uint64_t at)
{
    assert(at >= index->first);
    assert(at <= index->last);
    return runs_at(&index->terms, at);
}

void wal_index_get(const struct wal_index *index, uint64_t at, struct wal_place *place)
{
    place->term = wal_index_term(index, at);
    place->generation = (uint32_t)runs_at(&index->segments, at);
    uint64_t slot = at - index->origin;
    struct wal_slot entry = index->pages[slot / PAGE_SLOTS][slot % PAGE_SLOTS];
    place->offset = (uint64_t)entry.offset8 * 8;
    place->len = entry.len_type >> 4;
    place->type = (uint8_t)(entry.len_type & 15u);
}
