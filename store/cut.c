#include "store/cut.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/plant.h"
#include "store/snapshot_format.h"

static_assert(sizeof(struct cut_chunk) == CUT_CHUNK_BYTES, "a chunk is what it is counted as");

void cut_init(struct cut *cut, const struct table *table, struct memory *memory, uint64_t revision,
              size_t side_bytes_max)
{
    *cut = (struct cut){.table = table, .memory = memory, .revision = revision, .side_bytes_max = side_bytes_max};
}

static void large_list_free(struct cut *cut, struct cut_large *large)
{
    while (large != NULL) {
        struct cut_large *next = large->next;
        if (large->owned) {
            memory_release_later(cut->memory, large->key);
        }
        free(large);
        large = next;
    }
}

void cut_fini(struct cut *cut, struct memory *memory)
{
    large_list_free(cut, cut->saved);
    large_list_free(cut, cut->walked);
    while (cut->chunks != NULL) {
        struct cut_chunk *next = cut->chunks->next;
        free(cut->chunks);
        cut->chunks = next;
    }
    free(cut->spare);
    if (cut->detached) {
        table_fini(&cut->detached_table);
        memory_absorb(memory, cut->memory);
    }
}

/* --- What writes do ----------------------------------------------------------------------------------------------- */

static bool is_large(const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    return view.bytes > MEMORY_SMALL_MAX;
}

static bool saving_is_off(void)
{
    if (STORE_PLANT(STORE_PLANT_SKIP_SAVE)) {
        return true;
    }
    return STORE_PLANT(STORE_PLANT_NOT_A_CUT);
}

/* Does the key belong to the cut, ahead of the front? */
static bool is_ahead(const struct cut *cut, const struct key *key)
{
    if (cut->failed || key_revision_get(key) > cut->revision || saving_is_off()) {
        return false;
    }
    struct iovec name = key_name(key);
    return table_cursor(table_hash(cut->table, name.iov_base, name.iov_len)) >= cut->front;
}

/* The limit is looked at before something is added: it may be passed by one chunk or block, of whatever size. */
static bool side_is_full(struct cut *cut)
{
    cut->failed = cut->side_bytes > cut->side_bytes_max;
    return cut->failed;
}

static void out_of_memory(size_t size)
{
    fprintf(stderr, "store: out of memory allocating %zu bytes for a snapshot; lower maxmemory or add memory\n", size);
    abort();
}

static uint8_t *side_reserve(struct cut *cut, size_t bytes)
{
    struct cut_chunk *last = cut->chunks_last;
    if (last != NULL && sizeof last->data - last->end >= bytes) {
        return last->data + last->end;
    }
    if (side_is_full(cut)) {
        return NULL;
    }
    struct cut_chunk *chunk = cut->spare;
    cut->spare = NULL;
    if (chunk == NULL) {
        chunk = malloc(sizeof *chunk);
        if (chunk == NULL) {
            out_of_memory(sizeof *chunk);
        }
    }
    chunk->next = NULL;
    chunk->begin = 0;
    chunk->end = 0;
    if (last != NULL) {
        last->next = chunk;
    } else {
        cut->chunks = chunk;
    }
    cut->chunks_last = chunk;
    cut->side_bytes += CUT_CHUNK_BYTES;
    return chunk->data;
}

void cut_save(struct cut *cut, const struct key *key, uint64_t digest)
{
    if (is_large(key) || !is_ahead(cut, key)) {
        return;
    }
    struct key_view view;
    key_view(key, &view);
    size_t bytes = snapshot_record_bytes(key->info) + view.name_len + view.value_len;
    uint8_t *at = side_reserve(cut, bytes);
    if (at == NULL) {
        return;
    }
    const uint8_t *end = snapshot_key_encode(at, key);
    assert((size_t)(end - at) == bytes);
    cut->chunks_last->end += bytes;
    cut->n_copied++;
    cut->copied_digests += digest;
}

static struct cut_large *walked_find(const struct cut *cut, const struct key *key)
{
    struct cut_large *large = cut->walked;
    while (large != NULL && large->key != key) {
        large = large->next;
    }
    return large;
}

bool cut_keeps(const struct cut *cut, const struct key *key)
{
    return is_large(key) && !cut->failed && (walked_find(cut, key) != NULL || is_ahead(cut, key));
}

static struct cut_large *large_new(struct key *key, size_t bytes, bool owned)
{
    struct cut_large *large = malloc(sizeof *large);
    if (large == NULL) {
        out_of_memory(sizeof *large);
    }
    *large = (struct cut_large){.key = key, .bytes = bytes, .owned = owned};
    return large;
}

bool cut_take_block(struct cut *cut, struct key *key, size_t bytes)
{
    struct cut_large *walked = walked_find(cut, key);
    if (walked != NULL) {
        walked->owned = true;
        return true;
    }
    assert(!cut->detached);
    if (side_is_full(cut)) {
        return false;
    }
    struct cut_large *large = large_new(key, bytes, true);
    if (cut->saved_last != NULL) {
        cut->saved_last->next = large;
    } else {
        cut->saved = large;
    }
    cut->saved_last = large;
    cut->side_bytes += bytes;
    return true;
}

bool cut_take_content(struct cut *cut, const struct table *table, struct memory *memory)
{
    if (cut->detached) {
        return false;
    }
    assert(cut->table == table);
    assert(cut->memory == memory);
    cut->detached_table = *table;
    cut->table = &cut->detached_table;
    cut->memory = memory_detach(memory);
    cut->detached_table.memory = cut->memory;
    cut->detached = true;
    return true;
}

/* --- What the walk does ------------------------------------------------------------------------------------------- */

void cut_remember(struct cut *cut, struct key *key, size_t bytes)
{
    struct cut_large *large = large_new(key, bytes, false);
    large->next = cut->walked;
    cut->walked = large;
}

struct cut_large *cut_next_large(const struct cut *cut)
{
    return cut->saved != NULL ? cut->saved : cut->walked;
}

void cut_drop(struct cut *cut, struct cut_large *large)
{
    if (cut->saved == large) {
        cut->saved = large->next;
        cut->saved_last = cut->saved == NULL ? NULL : cut->saved_last;
        cut->side_bytes -= large->bytes;
    } else {
        struct cut_large **link = &cut->walked;
        while (*link != large) {
            assert(*link != NULL);
            link = &(*link)->next;
        }
        *link = large->next;
    }
    if (large->owned) {
        memory_release_later(cut->memory, large->key);
    }
    free(large);
}

void cut_drop_chunk(struct cut *cut)
{
    struct cut_chunk *chunk = cut->chunks;
    assert(chunk != NULL);
    cut->chunks = chunk->next;
    cut->chunks_last = cut->chunks == NULL ? NULL : cut->chunks_last;
    cut->side_bytes -= CUT_CHUNK_BYTES;
    if (cut->spare == NULL) {
        cut->spare = chunk;
    } else {
        free(chunk);
    }
}
