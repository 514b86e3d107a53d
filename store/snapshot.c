/* A step emits, in this order: what writes have saved (so that it can't pile up), large keys, and then walks on. A
 * large key is written as a head and pieces, between which small ones may come; so that one write of 500 MB does not
 * make saved copies wait. */
#include "store/snapshot.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/digest.h"
#include "store/plant.h"
#include "store/snapshot_format.h"
#include "store/state.h"

/* Records of the walk are gathered up to this before they are emitted. */
#define GATHER_BYTES ((size_t)64 * 1024)
#define PIECE_MIN ((size_t)4096)
/* Of a step's budget in bytes: what it costs to look at a segment of the table, and at a key that is left out. */
#define SEGMENT_COST 256
#define SKIP_COST 64

static_assert(sizeof(uint64_t) == sizeof(XXH64_hash_t), "digests are 64 bits");

struct store_snapshot {
    struct store *store;
    struct cut cut;
    struct snapshot_header header;
    enum store_snapshot_state state;
    bool begun; /* the header has been emitted */
    uint64_t n_walked, walked_digests;
    /* The large key that is being emitted, NULL if none is. */
    struct cut_large *open;
    size_t open_at; /* of name and value, which lie side by side */
    XXH3_state_t *open_hash;
    /* Of the running step. */
    int64_t budget;
    void (*emit)(void *ctx, const void *data, size_t len);
    void *emit_ctx;
    size_t gathered;
    uint8_t gather[GATHER_BYTES + SNAPSHOT_RECORD_MAX];
};

struct store_snapshot *store_snapshot_begin(struct store *store, size_t side_bytes_max)
{
    assert(store->cut == NULL);
    struct store_snapshot *snapshot = malloc(sizeof *snapshot);
    if (snapshot == NULL) {
        return NULL;
    }
    /* Not the gathering buffer, which needs no memory until it is used. */
    memset(snapshot, 0, offsetof(struct store_snapshot, gather));
    snapshot->open_hash = XXH3_createState();
    if (snapshot->open_hash == NULL) {
        free(snapshot);
        return NULL;
    }
    snapshot->store = store;
    snapshot->header = (struct snapshot_header){.version = SNAPSHOT_VERSION,
                                                .revision = store->revision,
                                                .time_ms = store->time_ms,
                                                .n_keys = store->table.n_keys,
                                                .n_deadlines = store->deadlines.n,
                                                .logical_bytes = store->logical_bytes,
                                                .digest = store_digest(store)};
    cut_init(&snapshot->cut, &store->table, store->memory, store->revision, side_bytes_max);
    store->cut = &snapshot->cut;
    return snapshot;
}

void store_snapshot_end(struct store_snapshot *snapshot)
{
    struct store *store = snapshot->store;
    assert(store->cut == &snapshot->cut);
    store->cut = NULL;
    cut_fini(&snapshot->cut, store->memory);
    XXH3_freeState(snapshot->open_hash);
    free(snapshot);
}

/* --- Output ------------------------------------------------------------------------------------------------------- */

static void emit_now(struct store_snapshot *snapshot, const void *data, size_t len)
{
    snapshot->budget -= (int64_t)len;
    snapshot->emit(snapshot->emit_ctx, data, len);
}

static void gather_flush(struct store_snapshot *snapshot)
{
    if (snapshot->gathered > 0) {
        snapshot->emit(snapshot->emit_ctx, snapshot->gather, snapshot->gathered);
        snapshot->gathered = 0;
    }
}

/* Room for one record; the bytes written there are to be counted by gather_add. */
static uint8_t *gather_room(struct store_snapshot *snapshot)
{
    if (snapshot->gathered >= GATHER_BYTES) {
        gather_flush(snapshot);
    }
    return snapshot->gather + snapshot->gathered;
}

static void gather_add(struct store_snapshot *snapshot, size_t bytes)
{
    snapshot->gathered += bytes;
    assert(snapshot->gathered <= sizeof snapshot->gather);
    snapshot->budget -= (int64_t)bytes;
}

static void header_emit(struct store_snapshot *snapshot)
{
    const struct snapshot_header *header = &snapshot->header;
    uint8_t *at = gather_room(snapshot);
    uint8_t *to = at;
    memcpy(to, SNAPSHOT_MAGIC, 8);
    to = entry_store32(entry_store32(to + 8, header->version), header->flags);
    to = entry_store64(entry_store64(to, header->revision), header->time_ms);
    to = entry_store64(entry_store64(to, header->n_keys), header->n_deadlines);
    to = entry_store64(entry_store64(to, header->logical_bytes), header->digest);
    to = entry_store64(to, XXH3_64bits(at, (size_t)(to - at)));
    assert((size_t)(to - at) == SNAPSHOT_HEADER_BYTES);
    gather_add(snapshot, SNAPSHOT_HEADER_BYTES);
    snapshot->begun = true;
}

/* --- Parts of a step ---------------------------------------------------------------------------------------------- */

/* A record may be cut where the budget ends: the next step goes on here, before anything else. */
static void chunk_emit(struct store_snapshot *snapshot)
{
    struct cut_chunk *chunk = snapshot->cut.chunks;
    size_t left = chunk->end - chunk->begin;
    size_t bytes = left > (uint64_t)snapshot->budget ? (size_t)snapshot->budget : left;
    gather_flush(snapshot);
    const uint8_t *data = chunk->data + chunk->begin;
    chunk->begin += bytes;
    emit_now(snapshot, data, bytes);
    if (chunk->begin == chunk->end) {
        cut_drop_chunk(&snapshot->cut);
    }
}

static void large_begin(struct store_snapshot *snapshot, struct cut_large *large)
{
    struct key_view view;
    key_view(large->key, &view);
    struct snapshot_record record;
    snapshot_record_of(&record, SNAPSHOT_LARGE, large->key, &view);
    uint8_t *at = gather_room(snapshot);
    gather_add(snapshot, (size_t)(snapshot_record_encode(at, &record) - at));
    snapshot->open = large;
    snapshot->open_at = 0;
    XXH_errorcode rc = XXH3_64bits_reset(snapshot->open_hash);
    assert(rc == XXH_OK);
    (void)rc;
}

static void large_end(struct store_snapshot *snapshot)
{
    const struct key *key = snapshot->open->key;
    snapshot->walked_digests += digest_key_hashed(key, XXH3_64bits_digest(snapshot->open_hash));
    snapshot->n_walked++;
    cut_drop(&snapshot->cut, snapshot->open);
    snapshot->open = NULL;
}

static void piece_emit(struct store_snapshot *snapshot)
{
    struct key_view view;
    key_view(snapshot->open->key, &view);
    size_t left = view.name_len + view.value_len - snapshot->open_at;
    size_t bytes = snapshot->budget > (int64_t)PIECE_MIN ? (size_t)snapshot->budget : PIECE_MIN;
    bytes = bytes < left ? bytes : left;
    bytes = bytes < UINT32_MAX ? bytes : UINT32_MAX;
    uint8_t *to = gather_room(snapshot);
    entry_store64(to, SNAPSHOT_PIECE);
    entry_store64(to + 8, bytes);
    gather_add(snapshot, SNAPSHOT_RECORD_HEADER_BYTES);
    gather_flush(snapshot);
    const uint8_t *data = view.name + snapshot->open_at;
    XXH_errorcode rc = XXH3_64bits_update(snapshot->open_hash, data, bytes);
    assert(rc == XXH_OK);
    (void)rc;
    snapshot->open_at += bytes;
    emit_now(snapshot, data, bytes);
    if (bytes == left) {
        large_end(snapshot);
    }
}

static bool walk_key(void *ctx, struct key *key)
{
    struct store_snapshot *snapshot = ctx;
    if (key_revision_get(key) > snapshot->cut.revision && !STORE_PLANT(STORE_PLANT_NOT_A_CUT)) {
        snapshot->budget -= SKIP_COST;
        return snapshot->budget > 0;
    }
    struct key_view view;
    key_view(key, &view);
    if (view.bytes > MEMORY_SMALL_MAX) {
        cut_remember(&snapshot->cut, key, view.bytes);
        return false;
    }
    uint8_t *at = gather_room(snapshot);
    gather_add(snapshot, (size_t)(snapshot_key_encode(at, key) - at));
    snapshot->walked_digests += digest_key(key);
    snapshot->n_walked++;
    return snapshot->budget > 0;
}

static bool is_complete(const struct store_snapshot *snapshot)
{
    const struct snapshot_header *header = &snapshot->header;
    uint64_t n = store_snapshot_keys(snapshot);
    uint64_t digests = snapshot->walked_digests + snapshot->cut.copied_digests;
    return (n == header->n_keys && digest_content(digests, n, header->revision, header->time_ms) == header->digest) ||
           STORE_PLANT(STORE_PLANT_NOT_A_CUT);
}

static void trailer_emit(struct store_snapshot *snapshot)
{
    uint8_t *at = gather_room(snapshot);
    uint8_t *to = entry_store64(at, SNAPSHOT_TRAILER);
    to = entry_store64(entry_store64(to, store_snapshot_keys(snapshot)), snapshot->header.digest);
    gather_add(snapshot, (size_t)(to - at));
}

/* --- Steps -------------------------------------------------------------------------------------------------------- */

static void step_once(struct store_snapshot *snapshot)
{
    struct cut *cut = &snapshot->cut;
    struct cut_large *large = cut_next_large(cut);
    if (cut->failed) {
        snapshot->state = STORE_SNAPSHOT_OVERFLOW;
    } else if (!snapshot->begun) {
        header_emit(snapshot);
    } else if (cut->chunks != NULL) {
        chunk_emit(snapshot);
    } else if (snapshot->open != NULL) {
        piece_emit(snapshot);
    } else if (large != NULL) {
        large_begin(snapshot, large);
    } else if (cut->front < TABLE_CURSOR_END) {
        cut->front = table_walk(cut->table, cut->front, walk_key, snapshot);
        snapshot->budget -= SEGMENT_COST;
    } else if (is_complete(snapshot)) {
        trailer_emit(snapshot);
        snapshot->state = STORE_SNAPSHOT_DONE;
    } else {
        snapshot->state = STORE_SNAPSHOT_BROKEN;
    }
}

enum store_snapshot_state store_snapshot_step(struct store_snapshot *snapshot, size_t bytes_max,
                                              void (*emit)(void *ctx, const void *data, size_t len), void *ctx)
{
    assert(bytes_max > 0);
    snapshot->emit = emit;
    snapshot->emit_ctx = ctx;
    snapshot->budget = bytes_max < INT64_MAX / 2 ? (int64_t)bytes_max : INT64_MAX / 2;
    while (snapshot->state == STORE_SNAPSHOT_MORE && snapshot->budget > 0) {
        step_once(snapshot);
    }
    gather_flush(snapshot);
    return snapshot->state;
}

/* --- What the owner may ask --------------------------------------------------------------------------------------- */

void store_snapshot_cut(const struct store_snapshot *snapshot, struct store_cut *cut)
{
    const struct snapshot_header *header = &snapshot->header;
    *cut = (struct store_cut){.revision = header->revision,
                              .time_ms = header->time_ms,
                              .keys = header->n_keys,
                              .logical_bytes = header->logical_bytes,
                              .digest = header->digest};
}

uint64_t store_snapshot_keys(const struct store_snapshot *snapshot)
{
    return snapshot->n_walked + snapshot->cut.n_copied;
}

size_t store_snapshot_pending(const struct store_snapshot *snapshot)
{
    return snapshot->cut.side_bytes;
}

size_t store_snapshot_bytes(const struct store_snapshot *snapshot)
{
    const struct cut *cut = &snapshot->cut;
    size_t bytes = sizeof *snapshot + cut->side_bytes + (cut->spare != NULL ? CUT_CHUNK_BYTES : 0);
    return bytes + (cut->detached ? memory_bytes(cut->memory) + table_bytes(cut->table) : 0);
}
