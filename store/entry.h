/* Inside store/: the bytes of a log entry (docs/FORMATS.md, section Entry). Little-endian, nothing aligned. */
#ifndef LOCKSTEP_ENTRY_H
#define LOCKSTEP_ENTRY_H

#include <string.h>

#include "store/store.h"

#define ENTRY_VERSION 1u
#define ENTRY_HEADER_BYTES 16u
#define ENTRY_BYTES_MAX UINT32_MAX

#define RECORD_HEADER_BYTES 12u
#define TRANSACTION_HEADER_BYTES 16u
#define WATCH_HEADER_BYTES 12u
#define ARGUMENT_HEADER_BYTES 4u

/* As Redis's limit on the elements of one request. */
#define ENTRY_ARGUMENTS_MAX (1024u * 1024)
#define ENTRY_WATCHES_MAX (1024u * 1024)

enum record_kind { RECORD_COMMAND = 1, RECORD_TRANSACTION = 2 };

struct entry_header {
    uint8_t version;
    uint8_t flags;
    uint32_t count;
    uint64_t time_ms;
};

struct record_header {
    uint32_t bytes; /* of the record, with this header */
    uint8_t kind;
    uint16_t number; /* of the command; 0 for a transaction */
    uint32_t n;      /* arguments after the name, or commands of the transaction */
};

static inline uint16_t entry_load16(const uint8_t *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline uint32_t entry_load32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline uint64_t entry_load64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline uint8_t *entry_store32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof value);
    return to + sizeof value;
}

static inline uint8_t *entry_store64(uint8_t *to, uint64_t value)
{
    memcpy(to, &value, sizeof value);
    return to + sizeof value;
}

static inline struct entry_header entry_header_load(const uint8_t *from)
{
    return (struct entry_header){
        .version = from[0], .flags = from[1], .count = entry_load32(from + 4), .time_ms = entry_load64(from + 8)};
}

static inline struct record_header record_header_load(const uint8_t *from)
{
    return (struct record_header){
        .bytes = entry_load32(from), .kind = from[4], .number = entry_load16(from + 6), .n = entry_load32(from + 8)};
}

#endif
