/* The frame reader of peer links: any bytes, and well-formed frames with damage. The first byte of the input chooses
 * the limit, the second the way of splitting and whether checksums are set right before reading, so that the fuzzer
 * gets past them. The same bytes must give the same frames however they are split. */
#include "net/frame.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition)
        abort();
}

/* Gives every frame that lies whole in the bytes the checksum it should have. */
static void checksums_mend(uint8_t *bytes, size_t size)
{
    size_t at = 0;
    while (size - at >= FRAME_HEADER_BYTES) {
        uint32_t len;
        uint64_t seed;
        memcpy(&len, bytes + at, sizeof(len));
        memcpy(&seed, bytes + at, sizeof(seed));
        const size_t wire = frame_wire_bytes(len);
        if (wire > size - at)
            return;
        const uint64_t sum = XXH3_64bits_withSeed(bytes + at + FRAME_HEADER_BYTES, wire - FRAME_HEADER_BYTES, seed);
        memcpy(bytes + at + 8, &sum, sizeof(sum));
        at += wire;
    }
}

/* A digest of all frames and of the status at the end. */
static uint64_t parse(const uint8_t *data, size_t size, uint32_t bytes_max, uint32_t split)
{
    struct frame_reader reader;
    uint64_t digest = 1;
    enum frame_status status = FRAME_AGAIN;
    frame_reader_init(&reader, bytes_max);
    while (size > 0 && status == FRAME_AGAIN) {
        char *space;
        size_t room;
        check(frame_reader_space(&reader, 64, &space, &room) == FRAME_OK);
        check(room > 0);
        check(reader.capacity < 2 * size + 2 * reader.end + 4096);
        if (split != 0) {
            split = split * 1103515245u + 12345u;
            const size_t piece = 1 + (split >> 16) % 50;
            room = piece < room ? piece : room;
        }
        room = room < size ? room : size;
        memcpy(space, data, room);
        frame_reader_fed(&reader, room);
        data += room;
        size -= room;
        enum frame_kind kind;
        const void *payload;
        size_t len;
        while ((status = frame_reader_next(&reader, &kind, &payload, &len)) == FRAME_OK) {
            check(len <= bytes_max);
            check((uintptr_t)payload % FRAME_ALIGN == 0);
            digest = XXH3_64bits_withSeed(payload, len, digest + (uint64_t)kind);
        }
    }
    frame_reader_fini(&reader);
    return digest * 31 + (uint64_t)status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const uint32_t bytes_max = (data[0] & 1) != 0 ? 16 : 80u * 1024 * 1024;
    const uint32_t split = data[1];
    size -= 2;
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    check(bytes != NULL);
    memcpy(bytes, data + 2, size);
    if ((split & 1) != 0)
        checksums_mend(bytes, size);
    check(parse(bytes, size, bytes_max, 0) == parse(bytes, size, bytes_max, split + 1));
    free(bytes);
    return 0;
}
