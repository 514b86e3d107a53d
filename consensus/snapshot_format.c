#include "consensus/snapshot_format.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "consensus/little_endian.h"
#include "consensus/plant.h"

static const char header_magic[8] = {'L', 'S', 'T', 'P', 'S', 'N', 'A', 'P'};
static const char trailer_magic[8] = {'L', 'S', 'T', 'P', 'S', 'E', 'N', 'D'};
static const char block_magic[4] = {'L', 'S', 'B', 'K'};

enum {
    HEADER_VERSION = 8,
    HEADER_BYTES = 12,
    HEADER_CLUSTER = 16,
    HEADER_FILE_ID = 32,
    HEADER_INDEX = 48,
    HEADER_TERM = 56,
    HEADER_TIME = 64,
    HEADER_REVISION = 72,
    HEADER_CONFIGURATION_INDEX = 80,
    HEADER_CONFIGURATION_LEN = 88,
    HEADER_FEATURE_LEVEL = 92,
    HEADER_FLAGS = 96,
    HEADER_CHECK = 120,
    HEADER_CONFIGURATION = 128
};

enum {
    BLOCK_CODING = 4,
    BLOCK_NUMBER = 8,
    BLOCK_STORED_LEN = 16,
    BLOCK_PAYLOAD_LEN = 20,
    BLOCK_PAYLOAD_OFFSET = 24,
    BLOCK_BODY = 32,
    BLOCK_CHECK = 40
};
static_assert(BLOCK_CHECK + 8 == SNAPSHOT_BLOCK_HEADER_BYTES, "block header");

enum {
    TRAILER_BLOCKS = 8,
    TRAILER_PAYLOAD = 16,
    TRAILER_FILE_BYTES = 24,
    TRAILER_DIGEST = 32,
    TRAILER_LAST_CHECK = 40,
    TRAILER_FILE_ID = 48,
    TRAILER_CHECK = 64,
    TRAILER_USED = 72
};

bool snapshot_all_zero(const uint8_t *from, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (from[i] != 0) {
            return false;
        }
    }
    return true;
}

size_t snapshot_header_bytes(size_t configuration_len)
{
    return (HEADER_CONFIGURATION + configuration_len + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
}

/* Over all bytes but the checksum's own. */
static uint64_t header_check(const uint8_t *at, size_t len)
{
    return XXH3_64bits_withSeed(at + HEADER_CONFIGURATION, len - HEADER_CONFIGURATION, XXH3_64bits(at, HEADER_CHECK));
}

uint64_t snapshot_header_encode(uint8_t *to, const struct snapshot_meta *meta)
{
    size_t len = snapshot_header_bytes(meta->configuration_len);
    assert(meta->configuration_len <= SNAPSHOT_CONFIGURATION_BYTES_MAX);
    assert(meta->index > 0);
    assert(meta->term > 0);
    memset(to, 0, len);
    memcpy(to, header_magic, sizeof header_magic);
    le_put32(to + HEADER_VERSION, SNAPSHOT_VERSION_MAX);
    le_put32(to + HEADER_BYTES, (uint32_t)len);
    memcpy(to + HEADER_CLUSTER, meta->cluster, sizeof meta->cluster);
    memcpy(to + HEADER_FILE_ID, meta->file_id, sizeof meta->file_id);
    le_put64(to + HEADER_INDEX, meta->index);
    le_put64(to + HEADER_TERM, meta->term);
    le_put64(to + HEADER_TIME, meta->cluster_time_ms);
    le_put64(to + HEADER_REVISION, meta->revision);
    le_put64(to + HEADER_CONFIGURATION_INDEX, meta->configuration_index);
    le_put32(to + HEADER_CONFIGURATION_LEN, meta->configuration_len);
    le_put32(to + HEADER_FEATURE_LEVEL, meta->feature_level);
    le_put32(to + HEADER_FLAGS, meta->flags);
    if (meta->configuration_len > 0) {
        memcpy(to + HEADER_CONFIGURATION, meta->configuration, meta->configuration_len);
    }
    uint64_t check = header_check(to, len);
    le_put64(to + HEADER_CHECK, check);
    return check;
}

size_t snapshot_header_claim(const uint8_t *from)
{
    size_t len = le_get32(from + HEADER_BYTES);
    bool ok = memcmp(from, header_magic, sizeof header_magic) == 0 && len % ENV_BLOCK == 0 && len >= ENV_BLOCK &&
              len <= SNAPSHOT_HEADER_BYTES_MAX;
    return ok ? len : 0;
}

enum snapshot_status snapshot_header_decode(const uint8_t *from, size_t len, struct snapshot_meta *meta,
                                            uint64_t *check)
{
    if (len < ENV_BLOCK || snapshot_header_claim(from) != len ||
        le_get64(from + HEADER_CHECK) != header_check(from, len)) {
        return SNAPSHOT_DAMAGED;
    }
    *check = le_get64(from + HEADER_CHECK);
    /* An unknown flag is a rule that this version does not know. */
    if (le_get32(from + HEADER_VERSION) > SNAPSHOT_VERSION_MAX || le_get32(from + HEADER_FLAGS) != 0) {
        return SNAPSHOT_VERSION;
    }
    memset(meta, 0, sizeof *meta);
    memcpy(meta->cluster, from + HEADER_CLUSTER, sizeof meta->cluster);
    memcpy(meta->file_id, from + HEADER_FILE_ID, sizeof meta->file_id);
    meta->index = le_get64(from + HEADER_INDEX);
    meta->term = le_get64(from + HEADER_TERM);
    meta->cluster_time_ms = le_get64(from + HEADER_TIME);
    meta->revision = le_get64(from + HEADER_REVISION);
    meta->configuration_index = le_get64(from + HEADER_CONFIGURATION_INDEX);
    meta->configuration_len = le_get32(from + HEADER_CONFIGURATION_LEN);
    meta->feature_level = le_get32(from + HEADER_FEATURE_LEVEL);
    meta->configuration = from + HEADER_CONFIGURATION;
    bool ok = le_get32(from + HEADER_VERSION) > 0 && meta->index > 0 && meta->term > 0 &&
              meta->configuration_len <= SNAPSHOT_CONFIGURATION_BYTES_MAX &&
              snapshot_header_bytes(meta->configuration_len) == len && meta->configuration_index <= meta->index;
    return ok ? SNAPSHOT_OK : SNAPSHOT_DAMAGED;
}

size_t snapshot_block_bytes(size_t stored_len)
{
    return SNAPSHOT_BLOCK_HEADER_BYTES + ((stored_len + 7u) & ~(size_t)7u);
}

void snapshot_block_encode(uint8_t *to, struct snapshot_block *block, uint64_t check_before)
{
    memcpy(to, block_magic, sizeof block_magic);
    le_put32(to + BLOCK_CODING, (uint32_t)block->coding);
    le_put64(to + BLOCK_NUMBER, block->number);
    le_put32(to + BLOCK_STORED_LEN, block->stored_len);
    le_put32(to + BLOCK_PAYLOAD_LEN, block->payload_len);
    le_put64(to + BLOCK_PAYLOAD_OFFSET, block->payload_offset);
    le_put64(to + BLOCK_BODY, block->body);
    block->check = XXH3_64bits_withSeed(to, BLOCK_CHECK, check_before);
    le_put64(to + BLOCK_CHECK, block->check);
}

bool snapshot_block_decode(const uint8_t *from, const struct snapshot_position *cursor, struct snapshot_block *block)
{
    uint32_t coding = le_get32(from + BLOCK_CODING);
    block->coding = coding == SNAPSHOT_LZ4 ? SNAPSHOT_LZ4 : SNAPSHOT_RAW;
    block->number = le_get64(from + BLOCK_NUMBER);
    block->stored_len = le_get32(from + BLOCK_STORED_LEN);
    block->payload_len = le_get32(from + BLOCK_PAYLOAD_LEN);
    block->payload_offset = le_get64(from + BLOCK_PAYLOAD_OFFSET);
    block->body = le_get64(from + BLOCK_BODY);
    block->check = le_get64(from + BLOCK_CHECK);
    /* The seed makes the block one of this file, at this place: the chain begins with the header's checksum. */
    if (memcmp(from, block_magic, sizeof block_magic) != 0 ||
        block->check != XXH3_64bits_withSeed(from, BLOCK_CHECK, cursor->check)) {
        return false;
    }
    if (block->number != cursor->number || block->payload_offset != cursor->payload) {
        return false;
    }
    if (block->payload_len == 0 || block->payload_len > SNAPSHOT_BLOCK_BYTES_MAX || coding > SNAPSHOT_LZ4) {
        return false;
    }
    return coding == SNAPSHOT_RAW ? block->stored_len == block->payload_len
                                  : block->stored_len > 0 && block->stored_len < block->payload_len;
}

bool snapshot_block_body_ok(const uint8_t *at, const struct snapshot_block *block)
{
    const uint8_t *stored = at + SNAPSHOT_BLOCK_HEADER_BYTES;
    size_t padding = snapshot_block_bytes(block->stored_len) - SNAPSHOT_BLOCK_HEADER_BYTES - block->stored_len;
    return (XXH3_64bits(stored, block->stored_len) == block->body &&
            snapshot_all_zero(stored + block->stored_len, padding)) ||
           PLANT(PLANT_SKIP_CHECKSUM);
}

void snapshot_position_advance(struct snapshot_position *cursor, const struct snapshot_block *block)
{
    cursor->number++;
    cursor->offset += snapshot_block_bytes(block->stored_len);
    cursor->payload += block->payload_len;
    cursor->check = block->check;
}

uint64_t snapshot_trailer_offset(uint64_t offset)
{
    return (offset + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
}

void snapshot_trailer_encode(uint8_t *to, const struct snapshot_trailer *trailer)
{
    memset(to, 0, SNAPSHOT_TRAILER_BYTES);
    memcpy(to, trailer_magic, sizeof trailer_magic);
    le_put64(to + TRAILER_BLOCKS, trailer->end.blocks);
    le_put64(to + TRAILER_PAYLOAD, trailer->end.payload_bytes);
    le_put64(to + TRAILER_FILE_BYTES, trailer->end.file_bytes);
    le_put64(to + TRAILER_DIGEST, trailer->end.digest);
    le_put64(to + TRAILER_LAST_CHECK, trailer->check);
    memcpy(to + TRAILER_FILE_ID, trailer->file_id, sizeof trailer->file_id);
    le_put64(to + TRAILER_CHECK, XXH3_64bits(to, TRAILER_CHECK));
}

bool snapshot_trailer_decode(const uint8_t *from, struct snapshot_trailer *trailer)
{
    if (memcmp(from, trailer_magic, sizeof trailer_magic) != 0 ||
        le_get64(from + TRAILER_CHECK) != XXH3_64bits(from, TRAILER_CHECK) ||
        !snapshot_all_zero(from + TRAILER_USED, SNAPSHOT_TRAILER_BYTES - TRAILER_USED)) {
        return false;
    }
    trailer->end.blocks = le_get64(from + TRAILER_BLOCKS);
    trailer->end.payload_bytes = le_get64(from + TRAILER_PAYLOAD);
    trailer->end.file_bytes = le_get64(from + TRAILER_FILE_BYTES);
    trailer->end.digest = le_get64(from + TRAILER_DIGEST);
    trailer->check = le_get64(from + TRAILER_LAST_CHECK);
    memcpy(trailer->file_id, from + TRAILER_FILE_ID, sizeof trailer->file_id);
    return true;
}

bool snapshot_trailer_fits(const struct snapshot_trailer *trailer, const struct snapshot_meta *meta,
                           const struct snapshot_position *cursor)
{
    return memcmp(trailer->file_id, meta->file_id, sizeof meta->file_id) == 0 &&
           trailer->end.blocks == cursor->number && trailer->end.payload_bytes == cursor->payload &&
           trailer->check == cursor->check &&
           trailer->end.file_bytes == snapshot_trailer_offset(cursor->offset) + SNAPSHOT_TRAILER_BYTES;
}

void snapshot_name_format(char name[SNAPSHOT_NAME_BYTES], uint64_t index, uint64_t term, const char *suffix)
{
    snprintf(name, SNAPSHOT_NAME_BYTES, "snapshot-%016llx-%016llx%s", (unsigned long long)index,
             (unsigned long long)term, suffix);
}

static bool parse_hex(const char *at, uint64_t *value)
{
    *value = 0;
    for (int i = 0; i < 16; i++) {
        uint64_t digit;
        if (at[i] >= '0' && at[i] <= '9') {
            digit = (uint64_t)(at[i] - '0');
        } else if (at[i] >= 'a' && at[i] <= 'f') {
            digit = (uint64_t)(at[i] - 'a') + 10u;
        } else {
            return false;
        }
        *value = *value << 4 | digit;
    }
    return true;
}

bool snapshot_name_parse(const char *name, uint64_t *index, uint64_t *term)
{
    return strlen(name) == 42 && strncmp(name, "snapshot-", 9) == 0 && name[25] == '-' && parse_hex(name + 9, index) &&
           parse_hex(name + 26, term) && *index > 0 && *term > 0;
}

const char *snapshot_status_text(enum snapshot_status status)
{
    static const char *const texts[] = {
        [SNAPSHOT_OK] = "good",
        [SNAPSHOT_DAMAGED] = "damaged",
        [SNAPSHOT_VERSION] = "of a newer format version",
        [SNAPSHOT_NOT_FOUND] = "not found",
        [SNAPSHOT_IO] = "the disk reports an error",
        [SNAPSHOT_NO_SPACE] = "no space left on the disk",
        [SNAPSHOT_NO_MEMORY] = "out of memory",
        [SNAPSHOT_CANCELED] = "canceled",
        [SNAPSHOT_NOT_NEXT] = "another block is needed",
        [SNAPSHOT_BUSY] = "busy",
    };
    return (size_t)status < sizeof texts / sizeof texts[0] ? texts[status] : "unknown";
}

enum snapshot_status snapshot_header_check(const void *header, size_t len, struct snapshot_meta *meta)
{
    uint64_t check;
    return snapshot_header_decode(header, len, meta, &check);
}
