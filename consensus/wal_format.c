#include "consensus/wal_format.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "consensus/little_endian.h"
#include "consensus/plant.h"

static const char header_magic[8] = {'L', 'S', 'T', 'P', 'W', 'A', 'L', '\n'};

enum {
    HEADER_VERSION = 8,
    HEADER_SALT = 12,
    HEADER_GENERATION = 16,
    HEADER_FIRST_SEQ = 24,
    HEADER_PREV = 32,
    HEADER_MARK = 40,
    HEADER_NEXT_INDEX = 48,
    HEADER_CHECK = 56
};

enum {
    RECORD_CHECK = 0,
    RECORD_PREV = 8,
    RECORD_BODY = 16,
    RECORD_SEQ = 24,
    RECORD_INDEX = 32,
    RECORD_TERM = 40,
    RECORD_MARK = 48,
    RECORD_GENERATION = 56,
    RECORD_SALT = 60,
    RECORD_LEN = 64,
    RECORD_TYPE = 68
};

static_assert(HEADER_CHECK + 8 == WAL_HEADER_BYTES, "segment header");
static_assert(RECORD_TYPE + 4 == WAL_RECORD_BYTES, "record header: type and three zero bytes");
static_assert(WAL_HEADER_BYTES % 8 == 0, "records are 8-byte aligned");
static_assert(WAL_RECORD_BYTES % 8 == 0, "records are 8-byte aligned");

static uint64_t header_check(const uint8_t *at)
{
    return XXH3_64bits(at, HEADER_CHECK);
}

void wal_header_encode(uint8_t *to, const struct wal_header *header)
{
    memcpy(to, header_magic, sizeof header_magic);
    le_put32(to + HEADER_VERSION, header->version);
    le_put32(to + HEADER_SALT, header->salt);
    le_put64(to + HEADER_GENERATION, header->generation);
    le_put64(to + HEADER_FIRST_SEQ, header->first_seq);
    le_put64(to + HEADER_PREV, header->prev);
    le_put64(to + HEADER_MARK, header->mark);
    le_put64(to + HEADER_NEXT_INDEX, header->next_index);
    le_put64(to + HEADER_CHECK, header_check(to));
}

enum wal_header_state wal_header_decode(const uint8_t *from, struct wal_header *header)
{
    if (memcmp(from, header_magic, sizeof header_magic) != 0 || le_get64(from + HEADER_CHECK) != header_check(from)) {
        return WAL_HEADER_DAMAGED;
    }
    header->version = le_get32(from + HEADER_VERSION);
    header->salt = le_get32(from + HEADER_SALT);
    header->generation = le_get64(from + HEADER_GENERATION);
    header->first_seq = le_get64(from + HEADER_FIRST_SEQ);
    header->prev = le_get64(from + HEADER_PREV);
    header->mark = le_get64(from + HEADER_MARK);
    header->next_index = le_get64(from + HEADER_NEXT_INDEX);
    return header->version <= WAL_VERSION_MAX ? WAL_HEADER_OK : WAL_HEADER_NEWER;
}

void wal_header_stamp(uint8_t *at, uint64_t mark)
{
    le_put64(at + HEADER_MARK, mark);
    le_put64(at + HEADER_CHECK, header_check(at));
}

size_t wal_record_size(size_t len)
{
    return WAL_RECORD_BYTES + ((len + 7u) & ~(size_t)7u);
}

static uint64_t record_check(const uint8_t *at)
{
    return XXH3_64bits(at + RECORD_PREV, WAL_RECORD_BYTES - RECORD_PREV);
}

void wal_record_encode(uint8_t *to, struct wal_record *record, const void *payload)
{
    record->body = XXH3_64bits(payload, record->len);
    le_put64(to + RECORD_PREV, record->prev);
    le_put64(to + RECORD_BODY, record->body);
    le_put64(to + RECORD_SEQ, record->seq);
    le_put64(to + RECORD_INDEX, record->index);
    le_put64(to + RECORD_TERM, record->term);
    le_put64(to + RECORD_MARK, record->mark);
    le_put32(to + RECORD_GENERATION, record->generation);
    le_put32(to + RECORD_SALT, record->salt);
    le_put32(to + RECORD_LEN, record->len);
    le_put32(to + RECORD_TYPE, record->type);
    record->check = record_check(to);
    le_put64(to + RECORD_CHECK, record->check);
    if (record->len > 0) {
        memcpy(to + WAL_RECORD_BYTES, payload, record->len);
    }
    memset(to + WAL_RECORD_BYTES + record->len, 0, wal_record_size(record->len) - WAL_RECORD_BYTES - record->len);
}

bool wal_record_decode(const uint8_t *from, struct wal_record *record)
{
    record->check = le_get64(from + RECORD_CHECK);
    record->prev = le_get64(from + RECORD_PREV);
    record->body = le_get64(from + RECORD_BODY);
    record->seq = le_get64(from + RECORD_SEQ);
    record->index = le_get64(from + RECORD_INDEX);
    record->term = le_get64(from + RECORD_TERM);
    record->mark = le_get64(from + RECORD_MARK);
    record->generation = le_get32(from + RECORD_GENERATION);
    record->salt = le_get32(from + RECORD_SALT);
    record->len = le_get32(from + RECORD_LEN);
    record->type = from[RECORD_TYPE];
    return record->check == record_check(from);
}

bool wal_record_body_ok(const struct wal_record *record, const void *payload)
{
    return record->body == XXH3_64bits(payload, record->len) || PLANT(PLANT_SKIP_CHECKSUM);
}

uint64_t wal_record_stamp(uint8_t *at, uint64_t mark)
{
    le_put64(at + RECORD_MARK, mark);
    uint64_t check = record_check(at);
    le_put64(at + RECORD_CHECK, check);
    return check;
}

bool wal_record_maybe(const uint8_t *from, uint32_t generation, uint32_t salt, bool any_salt)
{
    return le_get32(from + RECORD_GENERATION) == generation && (any_salt || le_get32(from + RECORD_SALT) == salt) &&
           from[RECORD_TYPE + 1] == 0 && from[RECORD_TYPE + 2] == 0 && from[RECORD_TYPE + 3] == 0;
}

void wal_name_format(char name[WAL_NAME_BYTES], uint32_t generation)
{
    snprintf(name, WAL_NAME_BYTES, "wal-%08x", generation);
}

bool wal_name_parse(const char *name, uint32_t *generation)
{
    if (strlen(name) != 12 || strncmp(name, "wal-", 4) != 0) {
        return false;
    }
    uint32_t value = 0;
    for (const char *c = name + 4; *c != '\0'; c++) {
        uint32_t digit;
        if (*c >= '0' && *c <= '9') {
            digit = (uint32_t)(*c - '0');
        } else if (*c >= 'a' && *c <= 'f') {
            digit = (uint32_t)(*c - 'a') + 10u;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *generation = value;
    return value != 0;
}
