/* Inside store/: digests of content. A key's digest depends on its name, type, value, deadline and revision, not on
 * where or how they lie in memory; the keyspace's is the sum over its keys, so it depends on no order. */
#ifndef LOCKSTEP_DIGEST_H
#define LOCKSTEP_DIGEST_H

#include "store/key.h"

/* Costs time in proportion to the value. */
uint64_t digest_key(const struct key *key);
/* The same where XXH3 of name and value, side by side, is known. */
uint64_t digest_key_hashed(const struct key *key, uint64_t payload_hash);
uint64_t digest_content(uint64_t key_digests, uint64_t n_keys, uint64_t revision, uint64_t time_ms);

#endif
