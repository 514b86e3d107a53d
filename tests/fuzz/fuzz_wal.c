/* The WAL's recovery: any bytes as segment files, and well-formed segments with damage. The first byte of the input
 * chooses whether header and records get the checksums, numbers and chain they should have, so that the fuzzer gets
 * past them (32: the log begins with segment 3, its prefix was dropped; 64: a snapshot exists); the second where the
 * bytes are split into two files. Whatever opens must then work: take an entry, and give it back after reopening. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/wal.h"
#include "consensus/wal_format.h"
#include "tests/unit/mem_env.h"

#define SEGMENT_BYTES (4u * ENV_BLOCK)
#define ENTRY_MAX 2048u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

struct chain {
    uint64_t seq;
    uint64_t prev;
    uint64_t next_index;
};

/* Make a segment of the bytes that recovery follows as far as the lengths in it allow. */
static void mend(uint8_t *file, size_t size, uint32_t generation, struct chain *chain)
{
    if (size < WAL_HEADER_BYTES) {
        return;
    }
    struct wal_header header = {.version = 1,
                                .salt = 7,
                                .generation = generation,
                                .first_seq = chain->seq + 1,
                                .prev = chain->prev,
                                .next_index = chain->next_index};
    wal_header_encode(file, &header);
    size_t at = WAL_HEADER_BYTES;
    while (at + WAL_RECORD_BYTES <= size) {
        struct wal_record record;
        (void)wal_record_decode(file + at, &record); /* index, term, length, type and mark stay as they are */
        record.len %= 512;
        if (at + wal_record_size(record.len) > size) {
            return;
        }
        record.index %= 64;
        record.type %= 20;
        record.mark %= 64;
        record.seq = ++chain->seq;
        record.prev = chain->prev;
        record.generation = generation;
        record.salt = 7;
        uint8_t payload[512];
        memcpy(payload, file + at + WAL_RECORD_BYTES, record.len);
        wal_record_encode(file + at, &record, payload);
        chain->prev = record.check;
        at += wal_record_size(record.len);
    }
}

static void persisted_cb(void *ctx, uint64_t index, uint64_t term)
{
    (void)term;
    *(uint64_t *)ctx = index;
}

static void failed_cb(void *ctx, enum env_status status)
{
    (void)ctx;
    (void)status;
    abort();
}

/* Of the snapshot that covers a dropped prefix. */
static uint64_t start_index;

static enum wal_status open_wal(struct mem_env *mem, uint64_t *persisted, struct wal **wal)
{
    struct wal_config config = {.segment_bytes = SEGMENT_BYTES,
                                .entry_bytes_max = ENTRY_MAX,
                                .start_index = start_index,
                                .start_term = start_index == 0 ? 0 : 3,
                                .persisted = persisted_cb,
                                .failed = failed_cb,
                                .ctx = persisted};
    const char *error = NULL;
    enum wal_status status = wal_open(mem_env_env(mem), &config, wal, &error);
    check(status == WAL_OK || (error != NULL && error[0] != '\0'));
    return status;
}

static void use(struct mem_env *mem)
{
    struct wal *wal;
    uint64_t persisted = 0;
    if (open_wal(mem, &persisted, &wal) != WAL_OK) {
        return;
    }
    mem_env_run(mem);
    uint64_t last = wal_last(wal);
    check(wal_durable(wal) == last);
    for (uint64_t i = wal_first(wal); i <= last; i++) {
        void *data;
        size_t len;
        check(wal_read_sync(wal, i, &data, &len) == WAL_OK);
        free(data);
    }
    struct wal_entry entry = {.index = last + 1, .term = UINT64_MAX, .type = WAL_COMMAND, .data = "x", .len = 1};
    check(wal_append(wal, &entry, 1) == WAL_OK);
    wal_flush(wal);
    mem_env_run(mem);
    check(persisted == last + 1);
    wal_close(wal);
    check(open_wal(mem, &persisted, &wal) == WAL_OK);
    check(wal_last(wal) == last + 1);
    check(wal_term_of(wal, last + 1) == UINT64_MAX);
    mem_env_run(mem);
    wal_close(wal);
    check(mem_env_open_files(mem) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 2 * SEGMENT_BYTES) {
        return 0;
    }
    uint8_t mode = data[0];
    size_t split = (size_t)data[1] * 128;
    data += 2;
    size -= 2;
    if (split > size) {
        split = size;
    }
    if (split > SEGMENT_BYTES || size - split > SEGMENT_BYTES) {
        return 0;
    }
    static uint8_t files[2][SEGMENT_BYTES];
    memset(files, 0, sizeof files);
    memcpy(files[0], data, split);
    memcpy(files[1], data + split, size - split);
    struct chain chain = {.next_index = 1};
    uint32_t first = 1;
    start_index = (mode & 64) != 0 ? 20 : 0;
    if ((mode & 32) != 0) {
        first = 3;
        chain = (struct chain){.seq = 40, .prev = 1234567, .next_index = 18};
    }
    if ((mode & 1) != 0) {
        mend(files[0], split, first, &chain);
    }
    if ((mode & 2) != 0) {
        mend(files[1], size - split, first + 1, &chain);
    }
    if ((mode & 4) != 0 && split > 0) {
        files[0][mode * 37u % split] ^= mode; /* damage after mending */
    }
    struct mem_env *mem = mem_env_new(1);
    char name[WAL_NAME_BYTES];
    wal_name_format(name, first);
    mem_env_file_put(mem, name, files[0], (mode & 8) != 0 ? split : SEGMENT_BYTES);
    if (size > split) {
        wal_name_format(name, first + 1);
        mem_env_file_put(mem, name, files[1], (mode & 16) != 0 ? size - split : SEGMENT_BYTES);
    }
    use(mem);
    mem_env_free(mem);
    return 0;
}
