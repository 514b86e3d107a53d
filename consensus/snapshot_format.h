/* Bytes of snapshot files: header, block headers, trailer and names. Pure functions over memory; knows nothing of
 * files. Format: docs/FORMATS.md, section Snapshot file. */
#ifndef LOCKSTEP_SNAPSHOT_FORMAT_H
#define LOCKSTEP_SNAPSHOT_FORMAT_H

#include "consensus/snapshot.h"

#define SNAPSHOT_VERSION_MAX 1u
#define SNAPSHOT_BLOCK_HEADER_BYTES 48u
#define SNAPSHOT_TRAILER_BYTES ENV_BLOCK

/* How a block's payload is stored. */
enum snapshot_coding { SNAPSHOT_RAW = 0, SNAPSHOT_LZ4 = 1 };

struct snapshot_block {
    enum snapshot_coding coding;
    uint64_t number;
    uint32_t stored_len;
    uint32_t payload_len;
    uint64_t payload_offset; /* of its first byte in the whole payload */
    uint64_t body;           /* checksum of the stored bytes */
    uint64_t check;          /* over the header, and the `check` before it */
};

struct snapshot_trailer {
    struct snapshot_end end;
    uint64_t check; /* of the last block; the header's if there is none */
    uint8_t file_id[16];
};

/* Bytes of the header with a configuration of this length: a multiple of ENV_BLOCK. */
size_t snapshot_header_bytes(size_t configuration_len);
/* Writes snapshot_header_bytes; gives its `check`. */
uint64_t snapshot_header_encode(uint8_t *to, const struct snapshot_meta *meta);
/* Length that the first ENV_BLOCK bytes claim, 0 if they are no header. Nothing is verified. */
size_t snapshot_header_claim(const uint8_t *from);
/* Verify and decode; `meta` borrows from the bytes. */
enum snapshot_status snapshot_header_decode(const uint8_t *from, size_t len, struct snapshot_meta *meta,
                                            uint64_t *check);

/* Bytes of a block in the file. */
size_t snapshot_block_bytes(size_t stored_len);
/* Write the header; fills in `check`, chained to the one of the block before. */
void snapshot_block_encode(uint8_t *to, struct snapshot_block *block, uint64_t check_before);
/* Decode the header of the block at this position. False: it is not that block, or it is damaged. */
bool snapshot_block_decode(const uint8_t *from, const struct snapshot_position *at, struct snapshot_block *block);
/* Are the stored bytes right, and zero the padding behind them? */
bool snapshot_block_body_ok(const uint8_t *at, const struct snapshot_block *block);
/* The position behind this block. */
void snapshot_position_advance(struct snapshot_position *at, const struct snapshot_block *block);
/* Where the trailer is if the blocks end at `offset`. */
uint64_t snapshot_trailer_offset(uint64_t offset);

void snapshot_trailer_encode(uint8_t *to, const struct snapshot_trailer *trailer);
bool snapshot_trailer_decode(const uint8_t *from, struct snapshot_trailer *trailer);
/* Does the trailer fit a file of this header, and what the blocks amount to? */
bool snapshot_trailer_fits(const struct snapshot_trailer *trailer, const struct snapshot_meta *meta,
                           const struct snapshot_position *at);

bool snapshot_all_zero(const uint8_t *from, size_t len);

#endif
