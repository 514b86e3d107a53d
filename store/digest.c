#include "store/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "digests and entries are defined on little-endian words"
#endif

uint64_t digest_key(const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    /* Name and value lie side by side; the length of the name tells where one ends. */
    uint64_t words[4] = {XXH3_64bits(view.name, view.name_len + view.value_len),
                         (uint64_t)view.name_len << 8 | (key->info & KEY_TYPE_MASK), key_deadline_get(key),
                         key_revision_get(key)};
    return XXH3_64bits(words, sizeof words);
}

uint64_t digest_content(uint64_t key_digests, uint64_t n_keys, uint64_t revision, uint64_t time_ms)
{
    uint64_t words[4] = {key_digests, n_keys, revision, time_ms};
    return XXH3_64bits(words, sizeof words);
}
