/* Bytes of the WAL: segment headers and records, encoded, decoded and verified. Pure functions over memory; knows
 * nothing of files or of the log's state. Format: docs/FORMATS.md, section WAL. */
#ifndef LOCKSTEP_WAL_FORMAT_H
#define LOCKSTEP_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_VERSION_MAX 1u
#define WAL_HEADER_BYTES 64u
#define WAL_RECORD_BYTES 72u
#define WAL_NONCE_BYTES 8u
/* A whole mark record. Every segment keeps this much room behind its last entry. */
#define WAL_MARK_BYTES (WAL_RECORD_BYTES + WAL_NONCE_BYTES)
#define WAL_NAME_BYTES 16u

/* Record types beyond enum wal_entry_type. */
#define WAL_RECORD_MARK 16u
/* The log begins anew behind a snapshot: its index and term are those of the entry before the next one. */
#define WAL_RECORD_RESET 17u

struct wal_header {
    uint32_t version;
    uint32_t salt;       /* of this WAL: random, the same in all its segments and records */
    uint64_t generation; /* of this segment: 1 for the first, one more for each use of a file */
    uint64_t first_seq;  /* sequence number of the first record */
    uint64_t prev;       /* `check` of the record before it, 0 if there is none */
    uint64_t mark;       /* highest sequence number known durable when this was written */
    uint64_t next_index; /* last index of the log when the segment was begun, plus one */
};

struct wal_record {
    uint64_t check; /* over the rest of the record's header */
    uint64_t prev;  /* `check` of the record before this one */
    uint64_t body;  /* checksum of the payload */
    uint64_t seq;
    uint64_t index;
    uint64_t term;
    uint64_t mark;
    uint32_t generation;
    uint32_t salt;
    uint32_t len;
    uint8_t type;
};

enum wal_header_state {
    WAL_HEADER_OK,
    WAL_HEADER_DAMAGED, /* not a header, or its checksum fails */
    WAL_HEADER_NEWER    /* intact, of a newer format version */
};

void wal_header_encode(uint8_t *to, const struct wal_header *header);
enum wal_header_state wal_header_decode(const uint8_t *from, struct wal_header *header);
/* Replace the mark of an encoded header. */
void wal_header_stamp(uint8_t *at, uint64_t mark);

/* Bytes that a record with `len` bytes of payload takes. */
size_t wal_record_size(size_t len);
/* Write header, payload and padding at `to`; fills in `body` and `check`. */
void wal_record_encode(uint8_t *to, struct wal_record *record, const void *payload);
/* False if the record header's checksum fails. The payload is not looked at. */
bool wal_record_decode(const uint8_t *from, struct wal_record *record);
bool wal_record_body_ok(const struct wal_record *record, const void *payload);
/* Replace the mark of an encoded record; returns its new `check`. */
uint64_t wal_record_stamp(uint8_t *at, uint64_t mark);

/* Cheap test before wal_record_decode while searching damaged bytes: could a record of this segment begin here? */
bool wal_record_maybe(const uint8_t *from, uint32_t generation, uint32_t salt, bool any_salt);

void wal_name_format(char name[WAL_NAME_BYTES], uint32_t generation);
/* False if `name` is not a segment's. */
bool wal_name_parse(const char *name, uint32_t *generation);

#endif
