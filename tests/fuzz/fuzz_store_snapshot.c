/* The loader of snapshots: any bytes, cut anywhere, and well-formed streams with damage. The first byte of the input
 * chooses what is put right, so that the fuzzer gets past it: the header's numbers and checksum, the digest, the
 * trailer; the second how the stream is cut. A stream that loads must make a store that works, whose own snapshot loads
 * to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/digest.h"
#include "store/snapshot.h"
#include "store/snapshot_format.h"
#include "store/state.h"

#define INPUT_MAX 65536u
/* Large keys may be cut into more pieces when they are written again. */
#define STREAM_MAX (2 * INPUT_MAX)

enum { MEND_HEADER = 1, MEND_DIGEST = 2, ADD_TRAILER = 4, TELL_LENGTH = 8, DAMAGE = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

struct stream {
    uint8_t data[STREAM_MAX];
    size_t len;
};

static enum store_status load(struct store *store, const struct stream *stream, size_t chunk, bool tell_length)
{
    struct store_loader *loader = store_loader_new(store, tell_length ? stream->len : 0);
    check(loader != NULL);
    enum store_status status = STORE_OK;
    for (size_t at = 0; at < stream->len && status == STORE_OK; at += chunk) {
        size_t len = stream->len - at < chunk ? stream->len - at : chunk;
        uint8_t *exact = malloc(len);
        check(exact != NULL);
        memcpy(exact, stream->data + at, len);
        status = store_loader_feed(loader, exact, len);
        free(exact);
    }
    if (status == STORE_OK) {
        status = store_loader_finish(loader);
    }
    check((status == STORE_OK) == (store_loader_error(loader)[0] == '\0'));
    store_loader_free(loader);
    return status;
}

/* Numbers that fit the records, as far as they can be followed. */
static void header_mend(struct stream *stream)
{
    uint64_t n_keys = 0;
    uint64_t n_deadlines = 0;
    size_t at = SNAPSHOT_HEADER_BYTES;
    while (at + SNAPSHOT_RECORD_HEADER_BYTES <= stream->len) {
        uint8_t kind = stream->data[at] & 3;
        uint8_t info = stream->data[at + 1];
        size_t bytes = snapshot_record_bytes(info);
        if (kind == SNAPSHOT_PIECE) {
            bytes = SNAPSHOT_RECORD_HEADER_BYTES + entry_load32(stream->data + at + 8);
        } else if (kind == SNAPSHOT_KEY) {
            bytes += (size_t)entry_load32(stream->data + at + 8) + entry_load32(stream->data + at + 12);
        }
        if (stream->data[at] == SNAPSHOT_TRAILER) {
            break;
        }
        n_keys += kind != SNAPSHOT_PIECE;
        n_deadlines += kind != SNAPSHOT_PIECE && (info & KEY_HAS_DEADLINE) != 0;
        at += bytes;
    }
    memcpy(stream->data, SNAPSHOT_MAGIC, 8);
    entry_store64(stream->data + 8, SNAPSHOT_VERSION);
    entry_store64(stream->data + 16, KEY_REVISION_MAX);
    entry_store64(stream->data + 32, n_keys);
    entry_store64(stream->data + 40, n_deadlines);
}

static void header_seal(struct stream *stream)
{
    entry_store64(stream->data + SNAPSHOT_HEADER_BYTES - 8, XXH3_64bits(stream->data, SNAPSHOT_HEADER_BYTES - 8));
}

static void digest_mend(struct stream *stream, uint64_t hash_seed)
{
    struct store *store = store_new(&(struct store_config){.hash_seed = hash_seed});
    check(store != NULL);
    (void)load(store, stream, stream->len, false);
    entry_store64(stream->data + 48, store->logical_bytes);
    uint64_t digest = digest_content(store->key_digests, entry_load64(stream->data + 32),
                                     entry_load64(stream->data + 16), entry_load64(stream->data + 24));
    entry_store64(stream->data + 56, digest);
    header_seal(stream);
    if (stream->len >= SNAPSHOT_HEADER_BYTES + SNAPSHOT_TRAILER_BYTES) {
        entry_store64(stream->data + stream->len - 8, digest);
    }
    store_free(store);
}

static void add(void *ctx, const void *data, size_t len)
{
    struct stream *stream = ctx;
    check(stream->len + len <= sizeof stream->data);
    memcpy(stream->data + stream->len, data, len);
    stream->len += len;
}

static void apply(struct store *store, uint64_t time_ms, const char *command, const char *name)
{
    struct store_batch batch;
    store_batch_init(&batch, 4096);
    struct iovec argv[] = {{(void *)command, strlen(command)}, {(void *)name, strlen(name)}};
    check(store_batch_add(&batch, argv, name[0] == '\0' ? 1 : 2) == STORE_OK);
    void *data;
    size_t len;
    check(store_batch_seal(&batch, time_ms, &data, &len) == STORE_OK);
    store_apply(store, data, len, NULL);
    free(data);
    store_batch_fini(&batch);
}

static void use(struct store *store)
{
    static struct stream stream;
    stream.len = 0;
    struct store_snapshot *snapshot = store_snapshot_begin(store, 0);
    check(snapshot != NULL);
    enum store_snapshot_state state;
    while ((state = store_snapshot_step(snapshot, 1000, add, &stream)) == STORE_SNAPSHOT_MORE) {
    }
    store_snapshot_end(snapshot);
    check(state == STORE_SNAPSHOT_DONE);
    struct store *again = store_new(&(struct store_config){.hash_seed = 1});
    check(again != NULL);
    check(load(again, &stream, 333, true) == STORE_OK);
    check(store_digest(again) == store_digest(store));
    check(store_memory(again) == store_memory(store));
    store_free(again);
    /* Revisions end at KEY_REVISION_MAX, which a mended stream has. */
    if (store_revision(store) < KEY_REVISION_MAX - 2 * STREAM_MAX) {
        apply(store, INT64_MAX, "incr", "n");
        apply(store, INT64_MAX, "flushall", "");
        check(store_keys(store) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stream stream;
    if (size < 2 || size > INPUT_MAX) {
        return 0;
    }
    uint8_t mode = data[0];
    size_t chunk = data[1] < 128 ? (size_t)data[1] + 1 : (size_t)data[1] * 97;
    memcpy(stream.data, data + 2, size - 2);
    stream.len = size - 2;
    if ((mode & MEND_HEADER) != 0 && stream.len >= SNAPSHOT_HEADER_BYTES) {
        header_mend(&stream);
        if ((mode & ADD_TRAILER) != 0) {
            uint8_t *end = stream.data + stream.len;
            end = entry_store64(entry_store64(end, SNAPSHOT_TRAILER), entry_load64(stream.data + 32));
            memcpy(end, stream.data + 56, 8);
            stream.len += SNAPSHOT_TRAILER_BYTES;
        }
        header_seal(&stream);
        if ((mode & MEND_DIGEST) != 0) {
            digest_mend(&stream, mode);
        }
    }
    if ((mode & DAMAGE) != 0 && stream.len > 0) {
        stream.data[mode * 37u % stream.len] ^= mode;
    }
    struct store *store = store_new(&(struct store_config){.hash_seed = mode});
    check(store != NULL);
    if (load(store, &stream, chunk, (mode & TELL_LENGTH) != 0) == STORE_OK) {
        use(store);
    }
    store_free(store);
    return 0;
}
