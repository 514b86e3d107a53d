/* The outside of the store: applying entries, reading, and what the owner may ask. */
#include "store/store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/command.h"
#include "store/digest.h"
#include "store/entry.h"
#include "store/state.h"

/* Keys that one entry may expire; part of the entry's meaning (docs/FORMATS.md), so the same on all replicas. */
#define EXPIRE_PER_ENTRY 256u
#define EXPIRE_PER_COMMAND 4u
#define EXPIRE_PER_TICK 1024u
/* Memory given back to the system at a time. */
#define GIVE_BACK_BYTES ((size_t)256 * 1024)
/* Argument vectors above this are not kept between entries. */
#define ARGV_KEPT 4096u

struct store *store_new(const struct store_config *config)
{
    struct store *store = calloc(1, sizeof *store);
    if (store != NULL) {
        keyspace_init(store, config);
    }
    return store;
}

void store_free(struct store *store)
{
    if (store == NULL) {
        return;
    }
    assert(store->cut == NULL);
    keyspace_fini(store);
    free(store->argv);
    free(store);
}

/* --- Apply -------------------------------------------------------------------------------------------------------- */

static void argv_reserve(struct store *store, unsigned n)
{
    if (n <= store->argv_capacity) {
        return;
    }
    unsigned capacity = store->argv_capacity == 0 ? 64 : store->argv_capacity;
    while (capacity < n) {
        capacity *= 2;
    }
    free(store->argv);
    store->argv = malloc(capacity * sizeof *store->argv);
    if (store->argv == NULL) {
        fprintf(stderr, "store: out of memory for %u arguments; lower maxmemory or add memory\n", n);
        abort();
    }
    store->argv_capacity = capacity;
}

static const uint8_t *take_bytes(const uint8_t *at, struct iovec *bytes)
{
    bytes->iov_len = entry_load32(at);
    bytes->iov_base = (uint8_t *)at + ARGUMENT_HEADER_BYTES;
    return at + ARGUMENT_HEADER_BYTES + bytes->iov_len;
}

static void apply_command(struct store *store, const uint8_t *at, struct store_reply *reply)
{
    struct record_header header = record_header_load(at);
    const struct store_command *command = command_by_number(header.number);
    assert(command != NULL);
    unsigned argc = header.n + 1;
    argv_reserve(store, argc);
    struct iovec *argv = store->argv;
    argv[0] = (struct iovec){.iov_base = (void *)command->name, .iov_len = strlen(command->name)};
    at += RECORD_HEADER_BYTES;
    for (unsigned i = 1; i < argc; i++) {
        at = take_bytes(at, &argv[i]);
    }
    command->exec(store, argv, argc, reply);
}

static void apply_transaction(struct store *store, const uint8_t *at, struct store_reply *reply)
{
    struct record_header header = record_header_load(at);
    uint32_t n_watches = entry_load32(at + RECORD_HEADER_BYTES);
    at += TRANSACTION_HEADER_BYTES;
    bool unchanged = true;
    for (uint32_t i = 0; i < n_watches; i++) {
        uint64_t revision = entry_load64(at);
        struct iovec key;
        at = take_bytes(at + sizeof revision, &key);
        unchanged = unchanged && store_key_revision(store, key.iov_base, key.iov_len) == revision;
    }
    if (!unchanged) {
        if (reply != NULL) {
            reply->ops->null_array(reply);
        }
        return;
    }
    if (reply != NULL) {
        reply->ops->array(reply, header.n);
    }
    for (uint32_t i = 0; i < header.n; i++) {
        apply_command(store, at, reply);
        at += record_header_load(at).bytes;
    }
}

/* How many records ahead of the one being executed its slots, and then its key, are fetched. */
#define AHEAD_SLOTS 8u
#define AHEAD_KEY 4u

/* Records on their way into the cache, by index modulo AHEAD_SLOTS. */
struct ahead {
    const uint8_t *at; /* the next record to look at */
    const uint8_t *end;
    uint32_t next;
    uint64_t hashes[AHEAD_SLOTS];
    bool known[AHEAD_SLOTS]; /* has a first key */
};

static void ahead_step(const struct store *store, struct ahead *ahead)
{
    unsigned i = ahead->next % AHEAD_SLOTS;
    ahead->known[i] = false;
    if (ahead->at < ahead->end) {
        struct record_header header = record_header_load(ahead->at);
        const struct store_command *command = command_by_number(header.number);
        if (header.kind == RECORD_COMMAND && command->first_key == 1 && header.n > 0) {
            struct iovec key;
            take_bytes(ahead->at + RECORD_HEADER_BYTES, &key);
            ahead->hashes[i] = table_hash(&store->table, key.iov_base, key.iov_len);
            ahead->known[i] = true;
            table_prefetch_slots(&store->table, ahead->hashes[i]);
        }
        ahead->at += header.bytes;
    }
    unsigned key = (ahead->next + AHEAD_SLOTS - AHEAD_KEY) % AHEAD_SLOTS;
    if (ahead->next >= AHEAD_KEY && ahead->known[key]) {
        table_prefetch_key(&store->table, ahead->hashes[key]);
    }
    ahead->next++;
}

/* Keys that the entry may remove before its commands. */
static unsigned expire_budget(const struct entry_header *entry)
{
    uint64_t budget =
        entry->count == 0 ? EXPIRE_PER_TICK : EXPIRE_PER_ENTRY + (uint64_t)EXPIRE_PER_COMMAND * entry->count;
    return budget < UINT32_MAX ? (unsigned)budget : UINT32_MAX;
}

void store_apply(struct store *store, const void *data, size_t len, const struct store_apply_hooks *hooks)
{
    assert(len >= ENTRY_HEADER_BYTES);
    struct entry_header entry = entry_header_load(data);
    assert(entry.version == ENTRY_VERSION);
    keyspace_advance(store, entry.time_ms, expire_budget(&entry));

    const uint8_t *at = (const uint8_t *)data + ENTRY_HEADER_BYTES;
    struct ahead ahead = {.at = at, .end = (const uint8_t *)data + len};
    if (entry.count > 1) {
        for (unsigned i = 0; i < AHEAD_SLOTS - 1; i++) {
            ahead_step(store, &ahead);
        }
    }
    for (uint32_t i = 0; i < entry.count; i++) {
        if (entry.count > 1) {
            ahead_step(store, &ahead);
        }
        struct record_header header = record_header_load(at);
        struct store_reply *reply = hooks != NULL && hooks->begin != NULL ? hooks->begin(hooks->ctx, i) : NULL;
        if (header.kind == RECORD_TRANSACTION) {
            apply_transaction(store, at, reply);
        } else {
            apply_command(store, at, reply);
        }
        keyspace_tidy(store);
        if (hooks != NULL && hooks->end != NULL) {
            hooks->end(hooks->ctx, i);
        }
        at += header.bytes;
    }
    if (store->argv_capacity > ARGV_KEPT) {
        free(store->argv);
        store->argv = NULL;
        store->argv_capacity = 0;
    }
    memory_step(store->memory, GIVE_BACK_BYTES);
}

bool store_apply_until(struct store *store, const void *data, size_t len, uint64_t revision, uint64_t *before)
{
    assert(len >= ENTRY_HEADER_BYTES);
    assert(revision >= store->revision);
    struct entry_header entry = entry_header_load(data);
    const uint8_t *at = (const uint8_t *)data + ENTRY_HEADER_BYTES;
    uint64_t left = revision - store->revision;
    unsigned budget = expire_budget(&entry);
    keyspace_advance(store, entry.time_ms, left < budget ? (unsigned)left : budget); /* one revision each */
    for (uint32_t i = 0; i < entry.count && store->revision < revision; i++) {
        struct record_header header = record_header_load(at);
        *before = store->revision;
        if (header.kind == RECORD_TRANSACTION) {
            apply_transaction(store, at, NULL);
        } else {
            apply_command(store, at, NULL);
        }
        keyspace_tidy(store);
        at += header.bytes;
    }
    return store->revision <= revision;
}

bool store_tidy(struct store *store)
{
    keyspace_tidy(store);
    return memory_step(store->memory, GIVE_BACK_BYTES);
}

void store_read(struct store *store, const struct store_command *command, const struct iovec *argv, unsigned argc,
                struct store_reply *reply)
{
    assert(command->flags & STORE_READ);
    command->exec(store, argv, argc, reply);
}

void store_seed_reads(struct store *store, uint64_t seed)
{
    store->read_random = seed;
}

/* --- What the owner may ask --------------------------------------------------------------------------------------- */

uint64_t store_revision(const struct store *store)
{
    return store->revision;
}

uint64_t store_time_ms(const struct store *store)
{
    return store->time_ms;
}

uint64_t store_digest(const struct store *store)
{
    return digest_content(store->key_digests, store->table.n_keys, store->revision, store->time_ms);
}

uint64_t store_keys(const struct store *store)
{
    return store->table.n_keys;
}

uint64_t store_keys_with_deadline(const struct store *store)
{
    return store->deadlines.n;
}

uint64_t store_memory(const struct store *store)
{
    return store->logical_bytes;
}

uint64_t store_next_deadline_ms(const struct store *store)
{
    const struct deadline *first = deadlines_first(&store->deadlines);
    return first != NULL ? first->at_ms : UINT64_MAX;
}

uint64_t store_key_revision(const struct store *store, const void *key, size_t len)
{
    const struct key *found = keyspace_find(store, key, len);
    return found != NULL ? key_revision(found) : 0;
}

uint64_t store_key_hash(const struct store *store, const void *key, size_t len)
{
    return table_hash(&store->table, key, len);
}

uint64_t store_key_deadline_ms(const struct store *store, const void *key, size_t len)
{
    const struct key *found = keyspace_find(store, key, len);
    return found != NULL ? key_deadline_ms(found) : UINT64_MAX;
}

void store_stats(const struct store *store, struct store_stats *stats)
{
    *stats = store->stats;
    stats->table_bytes = table_bytes(&store->table) + deadlines_bytes(&store->deadlines);
    size_t bytes = memory_bytes(store->memory);
    stats->entry_bytes = bytes > stats->table_bytes ? bytes - stats->table_bytes : 0;
}

void store_stats_reset(struct store *store)
{
    store->stats = (struct store_stats){0};
}
