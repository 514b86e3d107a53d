/* Which keys an entry touches by name, without applying it: what a replica that reads locally must know of entries that
 * are on their way (DESIGN section 6). */
#include <assert.h>

#include "store/command.h"
#include "store/entry.h"
#include "store/state.h"

struct walk {
    void (*each)(void *ctx, uint64_t hash);
    void *ctx;
    const struct store *store;
    bool unknown; /* a command touches keys it does not name */
};

static const uint8_t *skip_argument(const uint8_t *at, struct iovec *argument)
{
    argument->iov_len = entry_load32(at);
    argument->iov_base = (void *)(uintptr_t)(at + ARGUMENT_HEADER_BYTES);
    return at + ARGUMENT_HEADER_BYTES + argument->iov_len;
}

static void walk_command(struct walk *walk, const uint8_t *at)
{
    const struct record_header header = record_header_load(at);
    const struct store_command *command = command_by_number(header.number);
    const unsigned argc = header.n + 1;

    assert(command != NULL);
    if ((command->flags & STORE_WRITE) == 0) {
        return;
    }
    if ((command->flags & STORE_ALLKEYS) != 0 || command->first_key == 0) {
        walk->unknown = true;
        return;
    }
    const unsigned first = (unsigned)command->first_key;
    const unsigned last = command->last_key >= 0 ? (unsigned)command->last_key : argc - (unsigned)(-command->last_key);
    at += RECORD_HEADER_BYTES;
    for (unsigned i = 1; i < argc && i <= last; i++) {
        struct iovec argument;
        at = skip_argument(at, &argument);
        if (i >= first && (i - first) % (unsigned)command->key_step == 0) {
            walk->each(walk->ctx, store_key_hash(walk->store, argument.iov_base, argument.iov_len));
        }
    }
}

static void walk_transaction(struct walk *walk, const uint8_t *at)
{
    const struct record_header header = record_header_load(at);
    uint32_t n_watches;

    at += RECORD_HEADER_BYTES;
    n_watches = entry_load32(at);
    at += 4;
    for (uint32_t i = 0; i < n_watches; i++) {
        struct iovec key;
        at = skip_argument(at + 8, &key);
    }
    for (uint32_t i = 0; i < header.n; i++) {
        walk_command(walk, at);
        at += record_header_load(at).bytes;
    }
}

bool store_entry_keys(const struct store *store, const void *data, size_t len, void (*each)(void *ctx, uint64_t hash),
                      void *ctx)
{
    struct walk walk = {.each = each, .ctx = ctx, .store = store};
    const uint8_t *at = data;
    const struct entry_header entry = entry_header_load(at);

    assert(len >= ENTRY_HEADER_BYTES);
    at += ENTRY_HEADER_BYTES;
    for (uint32_t i = 0; i < entry.count; i++) {
        const struct record_header header = record_header_load(at);
        if (header.kind == RECORD_COMMAND) {
            walk_command(&walk, at);
        } else {
            walk_transaction(&walk, at);
        }
        at += header.bytes;
    }
    return !walk.unknown;
}
