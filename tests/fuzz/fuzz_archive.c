/* What archives are read from: a log piece (first byte even) and an archive file (odd), any bytes, and well-formed ones
 * with damage: if bit 1 of the first byte is set the checksums are set right before reading. What is understood must be
 * understood the same when it is written again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "cmd/lockstep/archive_file.h"
#include "consensus/log_piece.h"

#define ENTRIES_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition)
        abort();
}

static void piece_run(uint8_t *bytes, size_t size, int mend)
{
    static struct wal_entry entries[ENTRIES_MAX];
    struct log_piece piece;
    unsigned n = 0;
    if (mend && size >= 8) {
        const uint64_t sum = XXH3_64bits(bytes, size - 8);
        memcpy(bytes + size - 8, &sum, sizeof sum);
    }
    if (!log_piece_open(&piece, bytes, size) || piece.left > ENTRIES_MAX)
        return;
    const uint64_t last = piece.last;
    while (log_piece_next(&piece, &entries[n]))
        n++;
    check(piece.left == 0);
    check(log_piece_bytes(entries, n) == size);
    uint8_t *again = malloc(size);
    check(again != NULL);
    log_piece_encode(again, entries, n, last);
    check(log_piece_open(&piece, again, size));
    check(piece.left == n);
    free(again);
}

/* Header and records, as far as lengths allow. */
static void archive_mend(uint8_t *bytes, size_t size)
{
    uint64_t seed, prev = 0;
    if (size < 64)
        return;
    seed = XXH3_64bits(bytes, 56);
    memcpy(bytes + 56, &seed, sizeof seed);
    for (size_t at = 64; size - at >= 48;) {
        uint32_t len;
        memcpy(&len, bytes + at + 40, sizeof len);
        const size_t padded = ((size_t)len + 7) & ~(size_t)7;
        if (padded > size - at - 48)
            return;
        const uint64_t body = XXH3_64bits(bytes + at + 48, len);
        memcpy(bytes + at + 8, &prev, sizeof prev);
        memcpy(bytes + at + 16, &body, sizeof body);
        prev = XXH3_64bits_withSeed(bytes + at + 8, 40, seed);
        memcpy(bytes + at, &prev, sizeof prev);
        at += 48 + padded;
    }
}

static void archive_run(uint8_t *bytes, size_t size, int mend)
{
    char path[64], error[ARCHIVE_ERROR_MAX];
    const int fd = memfd_create("archive", 0);
    struct wal_entry entry;
    uint64_t index = 0, term = 0;
    if (mend)
        archive_mend(bytes, size);
    check(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct archive_reader *reader = archive_reader_open(path, error);
    while (reader != NULL && archive_reader_next(reader, &entry) == ARCHIVE_MORE) {
        check(index == 0 ? entry.index == archive_reader_head(reader)->first_index : entry.index == index + 1);
        check(entry.term >= term);
        check(archive_reader_offset(reader) <= size);
        index = entry.index;
        term = entry.term;
    }
    archive_reader_close(reader);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t *bytes = malloc(size);
    check(bytes != NULL);
    memcpy(bytes, data + 1, size - 1);
    if ((data[0] & 1) == 0)
        piece_run(bytes, size - 1, data[0] & 2);
    else
        archive_run(bytes, size - 1, data[0] & 2);
    free(bytes);
    return 0;
}
