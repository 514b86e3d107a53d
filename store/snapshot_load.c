/* Reads a snapshot stream into an empty store. Keys are linked some records after they were read, when what they touch
 * has come into the cache; streams of a store with the same hash seed are nearly in the order of this table anyway. */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/digest.h"
#include "store/plant.h"
#include "store/snapshot.h"
#include "store/snapshot_format.h"
#include "store/state.h"

/* Keys between being read and being linked. */
#define AHEAD 16u
/* Keys for which the table is sized without further evidence. */
#define KEYS_UNPROVEN UINT64_C(1000000)
/* The longest part of the stream that is looked at as a whole. */
#define UNIT_MAX SNAPSHOT_RECORD_MAX
static_assert(UNIT_MAX >= SNAPSHOT_HEADER_BYTES, "a held unit fits its buffer");

enum loader_state { LOADER_HEADER, LOADER_RECORDS, LOADER_PIECE, LOADER_ENDED, LOADER_FAILED };

struct ahead {
    struct key *key;
    uint64_t hash;
    uint64_t deadline_ms;
};

struct store_loader {
    struct store *store;
    uint64_t stream_bytes;
    enum loader_state state;
    enum store_status status; /* once failed */
    struct snapshot_header header;
    uint64_t at; /* bytes of the stream consumed */
    uint64_t n_keys;
    struct ahead ahead[AHEAD];
    unsigned n_ahead;
    /* The large key that is being read, NULL if none is. */
    struct key *open;
    uint64_t open_deadline_ms;
    uint8_t *open_at;
    size_t open_left;
    size_t piece_left;
    XXH3_state_t *open_hash;
    uint64_t ordered; /* progress of deadlines_order */
    /* A unit of which only the beginning has come. */
    size_t held;
    uint8_t hold[UNIT_MAX];
    char error[200];
};

struct store_loader *store_loader_new(struct store *store, uint64_t stream_bytes)
{
    assert(store->table.n_keys == 0);
    assert(store->revision == 0);
    assert(store->cut == NULL);
    struct store_loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL) {
        return NULL;
    }
    loader->open_hash = XXH3_createState();
    if (loader->open_hash == NULL) {
        free(loader);
        return NULL;
    }
    loader->store = store;
    loader->stream_bytes = stream_bytes;
    return loader;
}

void store_loader_free(struct store_loader *loader)
{
    if (loader != NULL) {
        XXH3_freeState(loader->open_hash);
        free(loader);
    }
}

static bool refuse_as(struct store_loader *loader, enum store_status status, const char *format, va_list args)
{
    int len = snprintf(loader->error, sizeof loader->error, "snapshot, byte %" PRIu64 ": ", loader->at);
    assert(len > 0);
    vsnprintf(loader->error + len, sizeof loader->error - (size_t)len, format, args);
    loader->status = status;
    loader->state = LOADER_FAILED;
    return false;
}

__attribute__((format(printf, 2, 3))) static bool refuse(struct store_loader *loader, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    refuse_as(loader, STORE_MALFORMED, format, args);
    va_end(args);
    return false;
}

__attribute__((format(printf, 2, 3))) static bool refuse_newer(struct store_loader *loader, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    refuse_as(loader, STORE_VERSION, format, args);
    va_end(args);
    return false;
}

/* --- Header and trailer ------------------------------------------------------------------------------------------- */

static bool header_check(struct store_loader *loader)
{
    const struct snapshot_header *header = &loader->header;
    if (header->revision > KEY_REVISION_MAX || header->time_ms > INT64_MAX) {
        return refuse(loader, "revision %" PRIu64 " or time %" PRIu64 " is out of range", header->revision,
                      header->time_ms);
    }
    if (header->n_keys > header->revision || header->n_deadlines > header->n_keys || header->n_deadlines > UINT32_MAX) {
        return refuse(loader, "%" PRIu64 " keys, %" PRIu64 " with a deadline, can't be at revision %" PRIu64,
                      header->n_keys, header->n_deadlines, header->revision);
    }
    if (loader->stream_bytes > 0 && header->n_keys > loader->stream_bytes / SNAPSHOT_RECORD_HEADER_BYTES) {
        return refuse(loader, "%" PRIu64 " keys don't fit %" PRIu64 " bytes", header->n_keys, loader->stream_bytes);
    }
    return true;
}

static bool header_read(struct store_loader *loader, const uint8_t *from)
{
    if (memcmp(from, SNAPSHOT_MAGIC, 8) != 0) {
        return refuse(loader, "this is not a snapshot");
    }
    struct snapshot_header *header = &loader->header;
    header->version = entry_load32(from + 8);
    header->flags = entry_load32(from + 12);
    if (header->version != SNAPSHOT_VERSION) {
        return refuse_newer(loader, "version %" PRIu32 ", this program knows %u", header->version, SNAPSHOT_VERSION);
    }
    uint64_t want = entry_load64(from + SNAPSHOT_HEADER_BYTES - 8);
    if (XXH3_64bits(from, SNAPSHOT_HEADER_BYTES - 8) != want) {
        return refuse(loader, "the header's checksum is wrong");
    }
    if (header->flags != 0) {
        return refuse_newer(loader, "unknown flags %" PRIx32, header->flags);
    }
    header->revision = entry_load64(from + 16);
    header->time_ms = entry_load64(from + 24);
    header->n_keys = entry_load64(from + 32);
    header->n_deadlines = entry_load64(from + 40);
    header->logical_bytes = entry_load64(from + 48);
    header->digest = entry_load64(from + 56);
    if (!header_check(loader)) {
        return false;
    }
    bool proven = loader->stream_bytes > 0 || header->n_keys < KEYS_UNPROVEN;
    table_reserve(&loader->store->table, proven ? header->n_keys : KEYS_UNPROVEN);
    loader->state = LOADER_RECORDS;
    return true;
}

static bool trailer_read(struct store_loader *loader, const uint8_t *from)
{
    uint64_t n_keys = entry_load64(from + 8);
    if (entry_load64(from) != SNAPSHOT_TRAILER) {
        return refuse(loader, "a reserved field of the trailer is set");
    }
    if (loader->open != NULL) {
        return refuse(loader, "the last large key is not complete");
    }
    if (n_keys != loader->n_keys) {
        return refuse(loader, "%" PRIu64 " keys came, the trailer has %" PRIu64, loader->n_keys, n_keys);
    }
    if (entry_load64(from + 16) != loader->header.digest) {
        return refuse(loader, "header and trailer differ in the digest");
    }
    loader->state = LOADER_ENDED;
    return true;
}

/* --- Keys --------------------------------------------------------------------------------------------------------- */

static bool record_check(struct store_loader *loader, const struct snapshot_record *record)
{
    if ((record->info & ~(KEY_TYPE_MASK | KEY_HAS_DEADLINE)) != 0 ||
        (record->info & KEY_TYPE_MASK) != KEYSPACE_STRING) {
        return refuse(loader, "unknown type or flags %02x", record->info);
    }
    if (record->name_len > STORE_KEY_BYTES_MAX || record->value_len > STORE_VALUE_BYTES_MAX) {
        return refuse(loader, "a name of %" PRIu32 " bytes with a value of %" PRIu32 " is too long", record->name_len,
                      record->value_len);
    }
    if (record->kind == SNAPSHOT_KEY && (size_t)record->name_len + record->value_len > SNAPSHOT_WHOLE_MAX) {
        return refuse(loader, "a key of %" PRIu32 " + %" PRIu32 " bytes is not cut into pieces", record->name_len,
                      record->value_len);
    }
    if (record->revision == 0 || (record->revision > loader->header.revision && !STORE_PLANT(STORE_PLANT_NOT_A_CUT))) {
        return refuse(loader, "revision %" PRIu64 " of a key, the snapshot's is %" PRIu64, record->revision,
                      loader->header.revision);
    }
    if ((record->info & KEY_HAS_DEADLINE) && record->deadline_ms > INT64_MAX) {
        return refuse(loader, "deadline %" PRIu64 " is out of range", record->deadline_ms);
    }
    if (loader->n_keys >= loader->header.n_keys && !STORE_PLANT(STORE_PLANT_NOT_A_CUT)) {
        return refuse(loader, "more than the %" PRIu64 " keys that the header has", loader->header.n_keys);
    }
    return true;
}

/* A block without name and value; its deadline is set when it is linked. */
static struct key *block_new(struct store *store, const struct snapshot_record *record)
{
    bool has_deadline = record->info & KEY_HAS_DEADLINE;
    size_t header = key_header_bytes(record->name_len, record->value_len, has_deadline);
    struct key *key = memory_alloc(store->memory, MEMORY_KEY, header + (size_t)record->name_len + record->value_len);
    key_header_write(key, (enum keyspace_type)(record->info & KEY_TYPE_MASK), record->name_len, record->value_len,
                     has_deadline);
    key_revision_set(key, record->revision);
    if (has_deadline) {
        key_deadline_set(key, record->deadline_ms);
    }
    return key;
}

static bool key_link(struct store_loader *loader, const struct ahead *ahead)
{
    struct store *store = loader->store;
    struct key *key = ahead->key;
    struct iovec name = key_name(key);
    if (table_find(&store->table, ahead->hash, name.iov_base, name.iov_len) != NULL) {
        return refuse(loader, "a key comes twice: \"%.*s\"", name.iov_len < 64 ? (int)name.iov_len : 64,
                      (const char *)name.iov_base);
    }
    if (!table_has_room(&store->table, ahead->hash)) {
        return refuse(loader, "too many keys with similar hashes");
    }
    table_insert(&store->table, ahead->hash, key);
    if (key_has_deadline(key)) {
        deadlines_append(&store->deadlines, key, ahead->deadline_ms);
    }
    store->logical_bytes += keyspace_logical_bytes(key);
    return true;
}

/* A complete block, `digest` digest_key's: on its way into the table. */
static bool key_add(struct store_loader *loader, struct key *key, uint64_t digest, uint64_t deadline_ms)
{
    struct store *store = loader->store;
    store->key_digests += digest;
    struct iovec name = key_name(key);
    struct ahead *slot = &loader->ahead[loader->n_keys % AHEAD];
    struct ahead before = *slot;
    slot->key = key;
    slot->hash = table_hash(&store->table, name.iov_base, name.iov_len);
    slot->deadline_ms = deadline_ms;
    table_prefetch_slots(&store->table, slot->hash);
    loader->n_keys++;
    if (loader->n_ahead < AHEAD) {
        loader->n_ahead++;
        return true;
    }
    return key_link(loader, &before);
}

static bool ahead_drain(struct store_loader *loader)
{
    while (loader->n_ahead > 0) {
        struct ahead *slot = &loader->ahead[(loader->n_keys - loader->n_ahead) % AHEAD];
        loader->n_ahead--;
        if (!key_link(loader, slot)) {
            return false;
        }
    }
    return true;
}

static bool whole_read(struct store_loader *loader, const struct snapshot_record *record, const uint8_t *payload)
{
    if (!record_check(loader, record)) {
        return false;
    }
    struct key *key = block_new(loader->store, record);
    struct key_view view;
    key_view(key, &view);
    memcpy(view.name, payload, view.name_len + view.value_len);
    return key_add(loader, key, digest_key(key), record->deadline_ms);
}

/* --- Large keys --------------------------------------------------------------------------------------------------- */

static bool large_end(struct store_loader *loader)
{
    struct key *key = loader->open;
    loader->open = NULL;
    return key_add(loader, key, digest_key_hashed(key, XXH3_64bits_digest(loader->open_hash)),
                   loader->open_deadline_ms);
}

static bool large_read(struct store_loader *loader, const struct snapshot_record *record)
{
    if (!record_check(loader, record)) {
        return false;
    }
    if (loader->open != NULL) {
        return refuse(loader, "a large key begins within another");
    }
    size_t len = (size_t)record->name_len + record->value_len;
    if (len == 0 || (loader->stream_bytes > 0 && len > loader->stream_bytes)) {
        return refuse(loader, "a large key of %zu bytes", len);
    }
    loader->open = block_new(loader->store, record);
    loader->open_deadline_ms = record->deadline_ms;
    loader->open_left = len;
    struct key_view view;
    key_view(loader->open, &view);
    loader->open_at = view.name;
    XXH_errorcode rc = XXH3_64bits_reset(loader->open_hash);
    assert(rc == XXH_OK);
    (void)rc;
    return true;
}

static bool piece_read(struct store_loader *loader, const uint8_t *from)
{
    size_t len = entry_load32(from + 8);
    if (entry_load64(from) != SNAPSHOT_PIECE || entry_load32(from + 12) != 0) {
        return refuse(loader, "a reserved field of a piece is set");
    }
    if (loader->open == NULL || len == 0 || len > loader->open_left) {
        return refuse(loader, "a piece of %zu bytes where %zu are missing", len,
                      loader->open == NULL ? 0 : loader->open_left);
    }
    loader->piece_left = len;
    loader->state = LOADER_PIECE;
    return true;
}

static size_t piece_feed(struct store_loader *loader, const uint8_t *data, size_t len)
{
    size_t n = len < loader->piece_left ? len : loader->piece_left;
    memcpy(loader->open_at, data, n);
    XXH_errorcode rc = XXH3_64bits_update(loader->open_hash, data, n);
    assert(rc == XXH_OK);
    (void)rc;
    loader->open_at += n;
    loader->open_left -= n;
    loader->piece_left -= n;
    loader->at += n;
    if (loader->piece_left == 0) {
        loader->state = LOADER_RECORDS;
    }
    if (loader->open_left == 0) {
        large_end(loader);
    }
    return n;
}

/* --- Units -------------------------------------------------------------------------------------------------------- */

/* The length of the header, record or trailer that begins with these `len` bytes, as far as they tell: at most `len`
 * only if all of it is there. 0: it can't be right. */
static size_t unit_bytes(struct store_loader *loader, const uint8_t *from, size_t len)
{
    if (loader->state == LOADER_HEADER) {
        return SNAPSHOT_HEADER_BYTES;
    }
    if (len < SNAPSHOT_RECORD_HEADER_BYTES) {
        return SNAPSHOT_RECORD_HEADER_BYTES;
    }
    switch (from[0]) {
    case SNAPSHOT_KEY: {
        size_t payload = (size_t)entry_load32(from + 8) + entry_load32(from + 12);
        if (payload <= SNAPSHOT_WHOLE_MAX) {
            return snapshot_record_bytes(from[1]) + payload;
        }
        refuse(loader, "a key of %zu bytes is not cut into pieces", payload);
        return 0;
    }
    case SNAPSHOT_LARGE:
        return snapshot_record_bytes(from[1]);
    case SNAPSHOT_PIECE:
        return SNAPSHOT_RECORD_HEADER_BYTES;
    case SNAPSHOT_TRAILER:
        return SNAPSHOT_TRAILER_BYTES;
    default:
        refuse(loader, "unknown kind of record %u", from[0]);
        return 0;
    }
}

static bool unit_read(struct store_loader *loader, const uint8_t *from)
{
    struct snapshot_record record;
    if (loader->state == LOADER_HEADER) {
        return header_read(loader, from);
    }
    switch (from[0]) {
    case SNAPSHOT_PIECE:
        return piece_read(loader, from);
    case SNAPSHOT_TRAILER:
        return trailer_read(loader, from);
    default:
        snapshot_record_decode(from, &record);
        return record.kind == SNAPSHOT_LARGE ? large_read(loader, &record)
                                             : whole_read(loader, &record, from + snapshot_record_bytes(record.info));
    }
}

/* Completes a unit of which a part is held, by at most what its length is known to be. Gives the bytes taken. */
static size_t held_feed(struct store_loader *loader, const uint8_t *data, size_t len)
{
    size_t unit = unit_bytes(loader, loader->hold, loader->held);
    if (unit == 0) {
        return 0;
    }
    assert(unit <= sizeof loader->hold);
    assert(unit > loader->held);
    size_t n = unit - loader->held < len ? unit - loader->held : len;
    memcpy(loader->hold + loader->held, data, n);
    loader->held += n;
    unit = unit_bytes(loader, loader->hold, loader->held);
    if (unit != 0 && loader->held == unit && unit_read(loader, loader->hold)) {
        loader->at += unit;
        loader->held = 0;
    }
    return n;
}

static size_t unit_feed(struct store_loader *loader, const uint8_t *data, size_t len)
{
    if (loader->held > 0) {
        return held_feed(loader, data, len);
    }
    size_t unit = unit_bytes(loader, data, len);
    if (unit == 0) {
        return 0;
    }
    if (unit > len) {
        memcpy(loader->hold, data, len);
        loader->held = len;
        return len;
    }
    if (unit_read(loader, data)) {
        loader->at += unit;
    }
    return unit;
}

enum store_status store_loader_feed(struct store_loader *loader, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0 && loader->state != LOADER_FAILED) {
        if (loader->state == LOADER_ENDED) {
            refuse(loader, "there is more after the trailer");
            break;
        }
        size_t n = loader->state == LOADER_PIECE ? piece_feed(loader, at, len) : unit_feed(loader, at, len);
        at += n;
        len -= n;
    }
    return loader->state == LOADER_FAILED ? loader->status : STORE_OK;
}

/* --- The end ------------------------------------------------------------------------------------------------------ */

static bool content_check(struct store_loader *loader)
{
    const struct store *store = loader->store;
    const struct snapshot_header *header = &loader->header;
    if (STORE_PLANT(STORE_PLANT_NOT_A_CUT)) {
        return true;
    }
    if (loader->n_keys != header->n_keys || store->deadlines.n != header->n_deadlines) {
        return refuse(loader, "%" PRIu64 " keys, %" PRIu32 " with a deadline, came of %" PRIu64 " and %" PRIu64,
                      loader->n_keys, store->deadlines.n, header->n_keys, header->n_deadlines);
    }
    uint64_t digest = digest_content(store->key_digests, loader->n_keys, header->revision, header->time_ms);
    if (digest != header->digest) {
        return refuse(loader, "the content's digest is %016" PRIx64 ", should be %016" PRIx64, digest, header->digest);
    }
    if (store->logical_bytes != header->logical_bytes) {
        return refuse(loader, "the content's size is %" PRIu64 ", should be %" PRIu64, store->logical_bytes,
                      header->logical_bytes);
    }
    return true;
}

bool store_loader_settle(struct store_loader *loader, uint64_t budget)
{
    if (loader->state != LOADER_ENDED || !ahead_drain(loader)) {
        return true;
    }
    return deadlines_order(&loader->store->deadlines, &loader->ordered, budget);
}

enum store_status store_loader_finish(struct store_loader *loader)
{
    if (loader->state != LOADER_ENDED && loader->state != LOADER_FAILED) {
        refuse(loader, "it ends before its trailer");
    }
    while (!store_loader_settle(loader, UINT64_MAX)) {
    }
    if (loader->state == LOADER_FAILED || !content_check(loader)) {
        return loader->status;
    }
    struct store *store = loader->store;
    store->revision = loader->header.revision;
    store->time_ms = loader->header.time_ms;
    return STORE_OK;
}

const char *store_loader_error(const struct store_loader *loader)
{
    return loader->error;
}

uint64_t store_loader_keys(const struct store_loader *loader, uint64_t *keys_total)
{
    *keys_total = loader->header.n_keys;
    return loader->n_keys;
}

void store_replace(struct store *store, struct store *loaded)
{
    keyspace_replace(store, loaded);
    store->revision = loaded->revision;
    store->time_ms = loaded->time_ms;
    store->key_digests = loaded->key_digests;
    store->logical_bytes = loaded->logical_bytes;
    store_free(loaded);
}
