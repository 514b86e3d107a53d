/* Keys and their mutations. One mutation is: the key's old digest and size leave the sums, the key changes and gets the
 * next revision, its new digest and size enter. */
#include "store/keyspace.h"

#include <assert.h>

#include "store/digest.h"
#include "store/state.h"

/* Logical bytes of a key beside its name and value, and of a deadline: near what they really cost, but the same on
 * all replicas. */
#define LOGICAL_KEY_BYTES 24u
#define LOGICAL_DEADLINE_BYTES 28u

void keyspace_init(struct store *store, const struct store_config *config)
{
    store->memory = memory_new();
    table_init(&store->table, store->memory, config->hash_seed);
    deadlines_init(&store->deadlines, store->memory);
}

void keyspace_fini(struct store *store)
{
    table_fini(&store->table);
    deadlines_fini(&store->deadlines);
    memory_free(store->memory);
}

/* --- Keys --------------------------------------------------------------------------------------------------------- */

enum keyspace_type key_type(const struct key *key)
{
    return (enum keyspace_type)(key->info & KEY_TYPE_MASK);
}

struct iovec key_name(const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    return (struct iovec){.iov_base = view.name, .iov_len = view.name_len};
}

struct iovec key_value(const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    return (struct iovec){.iov_base = view.value, .iov_len = view.value_len};
}

uint64_t key_deadline_ms(const struct key *key)
{
    return key_deadline_get(key);
}

uint64_t key_revision(const struct key *key)
{
    return key_revision_get(key);
}

static bool key_is_dead(const struct store *store, const struct key *key)
{
    return key_has_deadline(key) && key_deadline_get(key) <= store->time_ms;
}

struct key *keyspace_find(const struct store *store, const void *key, size_t len)
{
    struct key *found = table_find(&store->table, table_hash(&store->table, key, len), key, len);
    return found != NULL && !key_is_dead(store, found) ? found : NULL;
}

struct key *keyspace_find_read(struct store *store, const void *key, size_t len)
{
    struct key *found = keyspace_find(store, key, len);
    if (found != NULL) {
        store->stats.hits++;
    } else {
        store->stats.misses++;
    }
    return found;
}

/* --- Parts of a mutation ------------------------------------------------------------------------------------------ */

static uint64_t next_revision(struct store *store)
{
    assert(store->revision < KEY_REVISION_MAX);
    return ++store->revision;
}

uint64_t keyspace_logical_bytes(const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    return view.name_len + view.value_len + LOGICAL_KEY_BYTES + (key_has_deadline(key) ? LOGICAL_DEADLINE_BYTES : 0);
}

/* Every change of a key begins here: also what a running snapshot still needs of it is saved. */
static void sums_leave(struct store *store, const struct key *key)
{
    uint64_t digest = digest_key(key);
    if (store->cut != NULL) {
        cut_save(store->cut, key, digest);
    }
    store->key_digests -= digest;
    store->logical_bytes -= keyspace_logical_bytes(key);
}

static void sums_enter(struct store *store, const struct key *key)
{
    store->key_digests += digest_key(key);
    store->logical_bytes += keyspace_logical_bytes(key);
}

static uint64_t hash_of(const struct store *store, const struct key *key)
{
    struct iovec name = key_name(key);
    return table_hash(&store->table, name.iov_base, name.iov_len);
}

/* Does a running snapshot need this block as it is? */
static bool block_is_kept(const struct store *store, const struct key *key)
{
    return store->cut != NULL && cut_keeps(store->cut, key);
}

static void block_release(struct store *store, struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    if (block_is_kept(store, key) && cut_take_block(store->cut, key, view.bytes)) {
        return;
    }
    memory_release(store->memory, MEMORY_KEY, key, view.bytes);
}

/* A block with its header and name; the value and the deadline are the caller's to fill in. */
static struct key *block_new(struct store *store, enum keyspace_type type, const void *name, size_t name_len,
                             size_t value_len, bool has_deadline)
{
    assert(name_len <= STORE_KEY_BYTES_MAX);
    assert(value_len <= STORE_VALUE_BYTES_MAX);
    size_t header = key_header_bytes(name_len, value_len, has_deadline);
    struct key *key = memory_alloc(store->memory, MEMORY_KEY, header + name_len + value_len);
    key_header_write(key, type, name_len, value_len, has_deadline);
    if (name_len > 0) {
        memcpy((uint8_t *)key + header, name, name_len);
    }
    return key;
}

/* Out of the table, the heap, the sums and memory; takes no revision. */
static void unlink_key(struct store *store, uint64_t hash, struct key *key)
{
    sums_leave(store, key);
    table_remove(&store->table, hash, key);
    if (key_has_deadline(key)) {
        deadlines_remove(&store->deadlines, key);
    }
    block_release(store, key);
}

static void expire(struct store *store, uint64_t hash, struct key *key)
{
    next_revision(store);
    store->stats.expired++;
    unlink_key(store, hash, key);
}

/* Like table_find, but a dead key is removed first, as a mutation of its own. */
static struct key *find_to_write(struct store *store, uint64_t hash, const void *name, size_t len)
{
    struct key *key = table_find(&store->table, hash, name, len);
    if (key != NULL && key_is_dead(store, key)) {
        expire(store, hash, key);
        return NULL;
    }
    return key;
}

/* Give `key` a block for a value of `value_len` and a deadline or not, with its name and the first `keep` bytes of its
 * value, in place if it fits. The key must have left the sums, and is valid except for a new deadline's place. */
static struct key *block_resize(struct store *store, struct key *key, size_t value_len, bool has_deadline, size_t keep)
{
    struct key_view view;
    key_view(key, &view);
    size_t header = key_header_bytes(view.name_len, value_len, has_deadline);
    size_t bytes = header + view.name_len + value_len;
    if (header == (size_t)(view.name - (uint8_t *)key) && memory_usable(bytes) == memory_usable(view.bytes) &&
        !block_is_kept(store, key)) {
        key_header_write(key, key_type(key), view.name_len, value_len, has_deadline);
        return key;
    }
    uint64_t hash = table_hash(&store->table, view.name, view.name_len);
    struct key *moved = block_new(store, key_type(key), view.name, view.name_len, value_len, has_deadline);
    memcpy(moved->revision, key->revision, sizeof moved->revision);
    memcpy((uint8_t *)moved + header + view.name_len, view.value, keep);
    if (has_deadline && key_has_deadline(key)) {
        key_deadline_set(moved, key_deadline_get(key));
        key_place_set(moved, key_place_get(key));
        deadlines_moved(&store->deadlines, moved);
    }
    table_replace(&store->table, hash, key, moved);
    block_release(store, key);
    return moved;
}

/* --- Mutations ---------------------------------------------------------------------------------------------------- */

/* Put `key`, a finished block without revision, in the place of `old` (NULL: none); one mutation. */
static void link_key(struct store *store, uint64_t hash, struct key *key, struct key *old, uint64_t deadline_ms)
{
    key_revision_set(key, next_revision(store));
    if (old != NULL) {
        sums_leave(store, old);
        if (key_has_deadline(old)) {
            deadlines_remove(&store->deadlines, old);
        }
        table_replace(&store->table, hash, old, key);
        block_release(store, old);
    } else {
        table_insert(&store->table, hash, key);
    }
    if (key_has_deadline(key)) {
        deadlines_add(&store->deadlines, key, deadline_ms);
    }
    sums_enter(store, key);
}

/* Replace the value where it is, if the block and its header stay as they are. */
static bool set_in_place(struct store *store, struct key *key, const void *value, size_t len, uint64_t deadline_ms)
{
    struct key_view view;
    key_view(key, &view);
    bool has_deadline = deadline_ms != KEYSPACE_NO_DEADLINE;
    size_t header = key_header_bytes(view.name_len, len, has_deadline);
    if (has_deadline != key_has_deadline(key) || header != (size_t)(view.name - (uint8_t *)key) ||
        memory_usable(header + view.name_len + len) != memory_usable(view.bytes) || block_is_kept(store, key)) {
        return false;
    }
    sums_leave(store, key);
    if (len > 0) {
        memmove(view.value, value, len);
    }
    key_header_write(key, KEYSPACE_STRING, view.name_len, len, has_deadline);
    if (has_deadline && key_deadline_get(key) != deadline_ms) {
        deadlines_change(&store->deadlines, key, deadline_ms);
    }
    key_revision_set(key, next_revision(store));
    sums_enter(store, key);
    return true;
}

void keyspace_set_string(struct store *store, const void *key, size_t key_len, const void *value, size_t len,
                         uint64_t deadline_ms)
{
    uint64_t hash = table_hash(&store->table, key, key_len);
    struct key *old = find_to_write(store, hash, key, key_len);
    if (old != NULL && set_in_place(store, old, value, len, deadline_ms)) {
        return;
    }
    struct key *made = block_new(store, KEYSPACE_STRING, key, key_len, len, deadline_ms != KEYSPACE_NO_DEADLINE);
    struct key_view view;
    key_view(made, &view);
    if (len > 0) {
        memcpy(view.value, value, len);
    }
    link_key(store, hash, made, old, deadline_ms);
}

void keyspace_append(struct store *store, struct key *key, const void *data, size_t len)
{
    keyspace_set_range(store, key, key_value(key).iov_len, data, len);
}

void keyspace_set_range(struct store *store, struct key *key, size_t offset, const void *data, size_t len)
{
    size_t old_len = key_value(key).iov_len;
    size_t new_len = offset + len > old_len ? offset + len : old_len;
    sums_leave(store, key);
    key = block_resize(store, key, new_len, key_has_deadline(key), old_len);
    struct key_view view;
    key_view(key, &view);
    if (offset > old_len) {
        memset(view.value + old_len, 0, offset - old_len);
    }
    if (len > 0) {
        memcpy(view.value + offset, data, len);
    }
    key_revision_set(key, next_revision(store));
    sums_enter(store, key);
}

void keyspace_set_deadline(struct store *store, struct key *key, uint64_t deadline_ms)
{
    bool had = key_has_deadline(key);
    bool has = deadline_ms != KEYSPACE_NO_DEADLINE;
    sums_leave(store, key);
    if (had && !has) {
        deadlines_remove(&store->deadlines, key);
    }
    if (had != has || block_is_kept(store, key)) {
        size_t len = key_value(key).iov_len;
        key = block_resize(store, key, len, has, len);
    }
    if (has && had) {
        deadlines_change(&store->deadlines, key, deadline_ms);
    } else if (has) {
        deadlines_add(&store->deadlines, key, deadline_ms);
    }
    key_revision_set(key, next_revision(store));
    sums_enter(store, key);
}

void keyspace_delete(struct store *store, struct key *key)
{
    next_revision(store);
    unlink_key(store, hash_of(store, key), key);
}

/* A block like `key`'s under another name. */
static struct key *block_copy(struct store *store, const struct key *key, const void *to, size_t to_len)
{
    struct key_view view;
    key_view(key, &view);
    struct key *copy = block_new(store, key_type(key), to, to_len, view.value_len, key_has_deadline(key));
    struct key_view copy_view;
    key_view(copy, &copy_view);
    memcpy(copy_view.value, view.value, view.value_len);
    return copy;
}

void keyspace_rename(struct store *store, struct key *key, const void *to, size_t to_len)
{
    assert(!key_name_is(key, to, to_len));
    uint64_t hash = table_hash(&store->table, to, to_len);
    struct key *old = find_to_write(store, hash, to, to_len);
    struct key *moved = block_copy(store, key, to, to_len);
    uint64_t deadline_ms = key_deadline_get(key);
    unlink_key(store, hash_of(store, key), key);
    link_key(store, hash, moved, old, deadline_ms);
}

void keyspace_copy(struct store *store, struct key *key, const void *to, size_t to_len)
{
    assert(!key_name_is(key, to, to_len));
    uint64_t hash = table_hash(&store->table, to, to_len);
    struct key *old = find_to_write(store, hash, to, to_len);
    struct key *copy = block_copy(store, key, to, to_len);
    link_key(store, hash, copy, old, key_deadline_get(key));
}

/* Table and heap are to be made anew. */
static void content_give_up(struct store *store)
{
    deadlines_fini(&store->deadlines);
    if (store->cut == NULL || !cut_take_content(store->cut, &store->table, store->memory)) {
        table_fini(&store->table);
        memory_discard(store->memory);
    }
}

void keyspace_replace(struct store *store, struct store *loaded)
{
    assert(loaded->cut == NULL);
    /* Callers have hashes of keys, clients have cursors. */
    assert(loaded->table.seed == store->table.seed);
    content_give_up(store);
    memory_absorb(loaded->memory, store->memory);
    store->memory = loaded->memory;
    store->table = loaded->table;
    store->deadlines = loaded->deadlines;
    keyspace_init(loaded, &(struct store_config){.hash_seed = store->table.seed});
}

void keyspace_flush(struct store *store)
{
    next_revision(store);
    uint64_t seed = store->table.seed;
    content_give_up(store);
    table_init(&store->table, store->memory, seed);
    deadlines_init(&store->deadlines, store->memory);
    store->key_digests = 0;
    store->logical_bytes = 0;
}

void keyspace_advance(struct store *store, uint64_t time_ms, unsigned budget)
{
    if (time_ms > store->time_ms) {
        store->time_ms = time_ms;
    }
    for (; budget > 0; budget--) {
        const struct deadline *first = deadlines_first(&store->deadlines);
        if (first == NULL || first->at_ms > store->time_ms) {
            return;
        }
        expire(store, hash_of(store, first->key), first->key);
    }
}

static void move_block(void *ctx, enum memory_kind kind, void *to, void *from, size_t bytes)
{
    struct store *store = ctx;
    memcpy(to, from, bytes);
    if (kind == MEMORY_SLOTS) {
        table_slots_moved(&store->table, to);
        return;
    }
    struct key *key = to;
    table_replace(&store->table, hash_of(store, key), from, key);
    if (key_has_deadline(key)) {
        deadlines_moved(&store->deadlines, key);
    }
}

void keyspace_tidy(struct store *store)
{
    memory_tidy(store->memory, move_block, store);
}

/* --- Walks -------------------------------------------------------------------------------------------------------- */

struct live_walk {
    const struct store *store;
    void (*each)(void *ctx, const struct key *key);
    void *ctx;
};

static void each_live(void *ctx, struct key *key)
{
    const struct live_walk *walk = ctx;
    if (!key_is_dead(walk->store, key)) {
        walk->each(walk->ctx, key);
    }
}

uint64_t keyspace_scan(const struct store *store, uint64_t cursor, void (*each)(void *ctx, const struct key *key),
                       void *ctx)
{
    struct live_walk walk = {.store = store, .each = each, .ctx = ctx};
    return table_scan(&store->table, cursor, each_live, &walk);
}

static void remember_live(void *ctx, const struct key *key)
{
    const struct key **found = ctx;
    *found = key;
}

struct key *keyspace_random(const struct store *store, uint64_t random)
{
    if (store->table.n_keys == 0) {
        return NULL;
    }
    /* Slots are mostly full and keys mostly alive. */
    for (unsigned i = 0; i < 64; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        struct key *key = table_pick(&store->table, random ^ random >> 29);
        if (key != NULL && !key_is_dead(store, key)) {
            return key;
        }
    }
    /* Then the first live one from a random point on, around the end. */
    const struct key *found = NULL;
    uint64_t cursor = random >> 16;
    unsigned ends = 0;
    while (found == NULL && ends < 2) {
        cursor = keyspace_scan(store, cursor, remember_live, &found);
        ends += cursor == 0 ? 1 : 0;
    }
    return (struct key *)found;
}

uint64_t keyspace_read_random(struct store *store)
{
    /* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). */
    uint64_t z = store->read_random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
