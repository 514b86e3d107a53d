/* Reading an entry back as what was added to its batch. */
#include <assert.h>
#include <stdlib.h>

#include "store/command.h"
#include "store/entry.h"

void store_entry_reader_init(struct store_entry_reader *reader, const void *data, size_t len)
{
    assert(len >= ENTRY_HEADER_BYTES);
    *reader = (struct store_entry_reader){.at = (const uint8_t *)data + ENTRY_HEADER_BYTES,
                                          .left = entry_header_load(data).count};
}

void store_entry_reader_fini(struct store_entry_reader *reader)
{
    free(reader->iov);
    free(reader->watch_array);
    free(reader->queued);
    *reader = (struct store_entry_reader){0};
}

static bool grow(void **array, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity) {
        return true;
    }
    void *grown = realloc(*array, needed * 2 * size);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    *capacity = needed * 2;
    return true;
}

static const uint8_t *take_bytes(const uint8_t *at, struct iovec *bytes)
{
    bytes->iov_len = entry_load32(at);
    bytes->iov_base = (void *)(uintptr_t)(at + ARGUMENT_HEADER_BYTES);
    return at + ARGUMENT_HEADER_BYTES + bytes->iov_len;
}

/* One command's arguments, its name first, to iov[used..]. NULL: out of memory. */
static const uint8_t *take_command(struct store_entry_reader *r, const uint8_t *at, size_t used, unsigned *argc)
{
    const struct record_header header = record_header_load(at);
    const struct store_command *command = command_by_number(header.number);

    assert(header.kind == RECORD_COMMAND);
    assert(command != NULL);
    *argc = header.n + 1;
    if (!grow((void **)&r->iov, &r->iov_capacity, used + *argc, sizeof *r->iov)) {
        return NULL;
    }
    r->iov[used] = (struct iovec){(void *)(uintptr_t)command->name, strlen(command->name)};
    at += RECORD_HEADER_BYTES;
    for (unsigned i = 1; i < *argc; i++) {
        at = take_bytes(at, &r->iov[used + i]);
    }
    return at;
}

static const uint8_t *take_transaction(struct store_entry_reader *r, const uint8_t *at)
{
    const struct record_header header = record_header_load(at);
    size_t used = 0;

    r->n_watches = entry_load32(at + RECORD_HEADER_BYTES);
    r->n_commands = header.n;
    at += TRANSACTION_HEADER_BYTES;
    if (!grow((void **)&r->watch_array, &r->watch_capacity, r->n_watches, sizeof *r->watch_array) ||
        !grow((void **)&r->queued, &r->queued_capacity, r->n_commands, sizeof *r->queued)) {
        return NULL;
    }
    for (unsigned i = 0; i < r->n_watches; i++) {
        r->watch_array[i].revision = entry_load64(at);
        at = take_bytes(at + 8, &r->watch_array[i].key);
    }
    for (unsigned i = 0; i < r->n_commands && at != NULL; i++) {
        at = take_command(r, at, used, &r->queued[i].argc);
        used += at != NULL ? r->queued[i].argc : 0;
    }
    used = 0; /* the array does not move any more */
    for (unsigned i = 0; i < r->n_commands && at != NULL; i++) {
        r->queued[i].argv = r->iov + used;
        used += r->queued[i].argc;
    }
    r->watches = r->watch_array;
    r->commands = r->queued;
    return at;
}

bool store_entry_next(struct store_entry_reader *r)
{
    if (r->left == 0 || r->no_memory) {
        return false;
    }
    r->transaction = record_header_load(r->at).kind == RECORD_TRANSACTION;
    const uint8_t *end = r->transaction ? take_transaction(r, r->at) : take_command(r, r->at, 0, &r->argc);
    r->argv = r->iov;
    r->no_memory = end == NULL;
    r->at = end;
    r->left--;
    return end != NULL;
}
