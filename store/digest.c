#include "store/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "digests and entries are defined on little-endian words"
#endif

static inline uint64_t digest_parts(const struct key *key, const struct key_view *view, uint64_t payload_hash)
{
    /* Name and value lie side by side; the length of the name tells where one ends. */
    uint64_t words[4] = {payload_hash, (uint64_t)view->name_len << 8 | (key->info & KEY_TYPE_MASK),
                         key_deadline_get(key), key_revision_get(key)};
    return XXH3_64bits(words, sizeof words);
}

uint64_t digest_key(const struct key *key)
{
    struct key_view view;
    key_view(key, &view);
    return digest_parts(key, &view, XXH3_64bits(view.name, view.name_len + view.value_len));
}

uint64_t digest_key_hashed(const struct key *key, uint64_t payload_hash)
{
    struct key_view view;
    key_view(key, &view);
    return digest_parts(key, &view, payload_hash);
}

uint64_t digest_content(uint64_t key_digests, uint64_t n_keys, uint64_t revision, uint64_t time_ms)
{
    uint64_t words[4] = {key_digests, n_keys, revision, time_ms};
    return XXH3_64bits(words, sizeof words);
}
