/* Entries: built by store_batch, checked by store_entry_check. store.c applies them. */
#include <assert.h>
#include <stdlib.h>

#include "store/command.h"
#include "store/entry.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "digests and entries are defined on little-endian words"
#endif

/* --- Building ----------------------------------------------------------------------------------------------------- */

void store_batch_init(struct store_batch *batch, size_t bytes_max)
{
    assert(bytes_max >= ENTRY_HEADER_BYTES);
    *batch = (struct store_batch){.bytes_max = bytes_max < ENTRY_BYTES_MAX ? bytes_max : ENTRY_BYTES_MAX};
}

void store_batch_fini(struct store_batch *batch)
{
    free(batch->data);
    *batch = (struct store_batch){.bytes_max = batch->bytes_max};
}

unsigned store_batch_count(const struct store_batch *batch)
{
    return batch->count;
}

size_t store_batch_bytes(const struct store_batch *batch)
{
    return batch->len > 0 ? batch->len : ENTRY_HEADER_BYTES;
}

/* Room for `bytes` more (and the entry's header before them); `*at` is where they go. */
static enum store_status batch_reserve(struct store_batch *batch, size_t bytes, uint8_t **at)
{
    if (bytes > batch->bytes_max - ENTRY_HEADER_BYTES) {
        return STORE_TOO_BIG;
    }
    size_t len = store_batch_bytes(batch);
    if (bytes > batch->bytes_max - len) {
        return STORE_FULL;
    }
    if (len + bytes > batch->capacity) {
        size_t capacity = batch->capacity < 512 ? 512 : batch->capacity;
        while (capacity < len + bytes) {
            capacity *= 2;
        }
        capacity = capacity < batch->bytes_max ? capacity : batch->bytes_max;
        uint8_t *data = realloc(batch->data, capacity);
        if (data == NULL) {
            return STORE_NO_MEMORY;
        }
        batch->data = data;
        batch->capacity = capacity;
    }
    *at = batch->data + len;
    return STORE_OK;
}

static uint8_t *put_header(uint8_t *at, size_t bytes, enum record_kind kind, unsigned number, unsigned n)
{
    uint8_t *end = entry_store32(at, (uint32_t)bytes);
    *end++ = (uint8_t)kind;
    *end++ = 0;
    *end++ = (uint8_t)number;
    *end++ = (uint8_t)(number >> 8);
    return entry_store32(end, n);
}

static uint8_t *put_bytes(uint8_t *at, struct iovec bytes)
{
    at = entry_store32(at, (uint32_t)bytes.iov_len);
    if (bytes.iov_len > 0) {
        memcpy(at, bytes.iov_base, bytes.iov_len);
    }
    return at + bytes.iov_len;
}

static size_t command_bytes(const struct iovec *argv, unsigned argc)
{
    size_t bytes = RECORD_HEADER_BYTES;
    for (unsigned i = 1; i < argc; i++) {
        bytes += ARGUMENT_HEADER_BYTES + argv[i].iov_len;
    }
    return bytes;
}

/* What store_entry_check demands of one command, asked before it is written. */
static bool command_allowed(const struct iovec *argv, unsigned argc, unsigned *number)
{
    if (argc == 0 || argc > ENTRY_ARGUMENTS_MAX) {
        return false;
    }
    const struct store_command *command = command_find(argv[0].iov_base, argv[0].iov_len, number);
    if (command == NULL || !store_command_arity_ok(command, argc)) {
        return false;
    }
    for (unsigned i = 1; i < argc; i++) {
        if (argv[i].iov_len > STORE_VALUE_BYTES_MAX) {
            return false;
        }
    }
    return true;
}

static uint8_t *put_command(uint8_t *at, const struct iovec *argv, unsigned argc, unsigned number)
{
    at = put_header(at, command_bytes(argv, argc), RECORD_COMMAND, number, argc - 1);
    for (unsigned i = 1; i < argc; i++) {
        at = put_bytes(at, argv[i]);
    }
    return at;
}

enum store_status store_batch_add(struct store_batch *batch, const struct iovec *argv, unsigned argc)
{
    unsigned number;
    if (!command_allowed(argv, argc, &number)) {
        return STORE_MALFORMED;
    }
    uint8_t *at;
    enum store_status status = batch_reserve(batch, command_bytes(argv, argc), &at);
    if (status == STORE_OK) {
        uint8_t *end = put_command(at, argv, argc, number);
        batch->len = (size_t)(end - batch->data);
        batch->count++;
    }
    return status;
}

enum store_status store_batch_add_transaction(struct store_batch *batch, const struct store_watch *watches,
                                              unsigned n_watches, const struct store_queued *commands,
                                              unsigned n_commands)
{
    if (n_watches > ENTRY_WATCHES_MAX) {
        return STORE_MALFORMED;
    }
    size_t bytes = TRANSACTION_HEADER_BYTES;
    for (unsigned i = 0; i < n_watches; i++) {
        bytes += WATCH_HEADER_BYTES + watches[i].key.iov_len;
        if (watches[i].key.iov_len > STORE_VALUE_BYTES_MAX) {
            return STORE_MALFORMED;
        }
    }
    unsigned number;
    for (unsigned i = 0; i < n_commands; i++) {
        if (!command_allowed(commands[i].argv, commands[i].argc, &number)) {
            return STORE_MALFORMED;
        }
        bytes += command_bytes(commands[i].argv, commands[i].argc);
    }
    uint8_t *at;
    enum store_status status = batch_reserve(batch, bytes, &at);
    if (status != STORE_OK) {
        return status;
    }
    at = put_header(at, bytes, RECORD_TRANSACTION, 0, n_commands);
    at = entry_store32(at, n_watches);
    for (unsigned i = 0; i < n_watches; i++) {
        at = entry_store64(at, watches[i].revision);
        at = put_bytes(at, watches[i].key);
    }
    for (unsigned i = 0; i < n_commands; i++) {
        const struct store_queued *queued = &commands[i];
        (void)command_find(queued->argv[0].iov_base, queued->argv[0].iov_len, &number);
        at = put_command(at, queued->argv, queued->argc, number);
    }
    batch->len = (size_t)(at - batch->data);
    batch->count++;
    return STORE_OK;
}

enum store_status store_batch_seal(struct store_batch *batch, uint64_t time_ms, void **data, size_t *len)
{
    uint8_t *at;
    enum store_status status = batch_reserve(batch, 0, &at);
    if (status != STORE_OK) {
        return status;
    }
    size_t bytes = store_batch_bytes(batch);
    memset(batch->data, 0, ENTRY_HEADER_BYTES);
    batch->data[0] = ENTRY_VERSION;
    entry_store32(batch->data + 4, batch->count);
    entry_store64(batch->data + 8, time_ms);
    assert(store_entry_check(batch->data, bytes) == STORE_OK);
    *data = batch->data;
    *len = bytes;
    *batch = (struct store_batch){.bytes_max = batch->bytes_max};
    return STORE_OK;
}

/* --- Checking ----------------------------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *at;
    size_t left;
};

static bool skip(struct reader *reader, size_t bytes)
{
    if (bytes > reader->left) {
        return false;
    }
    reader->at += bytes;
    reader->left -= bytes;
    return true;
}

static bool skip_bytes(struct reader *reader)
{
    if (reader->left < ARGUMENT_HEADER_BYTES) {
        return false;
    }
    uint32_t len = entry_load32(reader->at);
    return len <= STORE_VALUE_BYTES_MAX && skip(reader, ARGUMENT_HEADER_BYTES) && skip(reader, len);
}

/* Takes one record's header off; `body` gets the rest of the record. */
static bool take_record(struct reader *reader, struct record_header *header, struct reader *body)
{
    if (reader->left < RECORD_HEADER_BYTES) {
        return false;
    }
    *header = record_header_load(reader->at);
    body->at = reader->at + RECORD_HEADER_BYTES;
    bool reserved_clear = reader->at[5] == 0;
    if (!reserved_clear || header->bytes < RECORD_HEADER_BYTES || !skip(reader, header->bytes)) {
        return false;
    }
    body->left = header->bytes - RECORD_HEADER_BYTES;
    return true;
}

static enum store_status check_command(const struct record_header *header, struct reader body)
{
    const struct store_command *command = command_by_number(header->number);
    if (command == NULL) {
        return STORE_VERSION; /* a newer version's */
    }
    if (header->n >= ENTRY_ARGUMENTS_MAX || !store_command_arity_ok(command, header->n + 1)) {
        return STORE_MALFORMED;
    }
    for (uint32_t i = 0; i < header->n; i++) {
        if (!skip_bytes(&body)) {
            return STORE_MALFORMED;
        }
    }
    return body.left == 0 ? STORE_OK : STORE_MALFORMED;
}

static enum store_status check_transaction(const struct record_header *header, struct reader body)
{
    if (header->number != 0 || body.left < 4) {
        return STORE_MALFORMED;
    }
    uint32_t n_watches = entry_load32(body.at);
    bool ok = n_watches <= ENTRY_WATCHES_MAX && skip(&body, 4);
    for (uint32_t i = 0; ok && i < n_watches; i++) {
        ok = skip(&body, 8) && skip_bytes(&body);
    }
    for (uint32_t i = 0; ok && i < header->n; i++) {
        struct record_header inner;
        struct reader inner_body;
        if (!take_record(&body, &inner, &inner_body) || inner.kind != RECORD_COMMAND) {
            return STORE_MALFORMED;
        }
        enum store_status status = check_command(&inner, inner_body);
        if (status != STORE_OK) {
            return status;
        }
    }
    return ok && body.left == 0 ? STORE_OK : STORE_MALFORMED;
}

enum store_status store_entry_check(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    if (len == 0) {
        return STORE_MALFORMED;
    }
    if (bytes[0] > ENTRY_VERSION) {
        return STORE_VERSION;
    }
    if (bytes[0] == 0 || len < ENTRY_HEADER_BYTES || len > ENTRY_BYTES_MAX) {
        return STORE_MALFORMED;
    }
    struct entry_header entry = entry_header_load(bytes);
    if (entry.flags != 0 || entry_load16(bytes + 2) != 0) {
        return STORE_VERSION;
    }
    if (entry.time_ms > INT64_MAX) {
        return STORE_MALFORMED; /* deadlines are computed in 64 bits with a sign */
    }
    struct reader reader = {.at = bytes + ENTRY_HEADER_BYTES, .left = len - ENTRY_HEADER_BYTES};
    for (uint32_t i = 0; i < entry.count; i++) {
        struct record_header header;
        struct reader body;
        if (!take_record(&reader, &header, &body)) {
            return STORE_MALFORMED;
        }
        enum store_status status;
        if (header.kind == RECORD_COMMAND) {
            status = check_command(&header, body);
        } else if (header.kind == RECORD_TRANSACTION) {
            status = check_transaction(&header, body);
        } else {
            status = STORE_VERSION;
        }
        if (status != STORE_OK) {
            return status;
        }
    }
    return reader.left == 0 ? STORE_OK : STORE_MALFORMED;
}

uint64_t store_entry_time_ms(const void *data, size_t len)
{
    return len < ENTRY_HEADER_BYTES ? 0 : entry_header_load(data).time_ms;
}
