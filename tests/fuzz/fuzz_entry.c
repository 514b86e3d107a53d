/* Log entries, as they come out of the log or from a leader: any bytes. What store_entry_check takes must apply, on any
 * replica alike, and be read back as many commands as its header says; what is read back and batched again must have
 * the same effect. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

#define BATCH_BYTES_MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition)
        abort();
}

static struct store *new_store(uint64_t hash_seed)
{
    const struct store_config config = {.hash_seed = hash_seed};
    struct store *store = store_new(&config);

    check(store != NULL);
    return store;
}

static void key_cb(void *ctx, uint64_t hash)
{
    uint64_t *sum = ctx;

    *sum += hash;
}

/* The same commands in a new entry. False: memory or the bounds of a batch do not allow it. */
static bool build_again(const void *data, size_t size, void **again, size_t *len)
{
    struct store_entry_reader reader;
    struct store_batch batch;
    bool fits = true;

    store_batch_init(&batch, BATCH_BYTES_MAX);
    store_entry_reader_init(&reader, data, size);
    while (fits && store_entry_next(&reader)) {
        const enum store_status status = reader.transaction
                                             ? store_batch_add_transaction(&batch, reader.watches, reader.n_watches,
                                                                           reader.commands, reader.n_commands)
                                             : store_batch_add(&batch, reader.argv, reader.argc);
        fits = status == STORE_OK;
    }
    fits = fits && !reader.no_memory;
    store_entry_reader_fini(&reader);
    fits = fits && store_batch_seal(&batch, store_entry_time_ms(data, size), again, len) == STORE_OK;
    store_batch_fini(&batch);
    return fits;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *again = NULL;
    size_t again_len = 0;
    uint64_t keys = 0;

    if (store_entry_check(data, size) != STORE_OK)
        return 0;
    struct store *one = new_store(1);
    struct store *two = new_store(2);
    (void)store_entry_keys(one, data, size, key_cb, &keys);
    store_apply(one, data, size, NULL);
    if (build_again(data, size, &again, &again_len)) {
        check(store_entry_check(again, again_len) == STORE_OK);
        store_apply(two, again, again_len, NULL);
        free(again);
    } else {
        store_apply(two, data, size, NULL);
    }
    check(store_digest(one) == store_digest(two));
    check(store_revision(one) == store_revision(two));
    check(store_time_ms(one) == store_time_ms(two));
    store_free(one);
    store_free(two);
    return 0;
}
