/* The RESP request reader: the same bytes must give the same requests and the same error, however they are split and
 * whoever owns the buffer. The first byte of the input chooses limits, the second the way of splitting. */
#include "net/resp.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SHARED_BYTES 512u

static void check(int condition)
{
    if (!condition)
        abort();
}

/* Writes what the reader gives as text to `out`; false after an error. */
static bool drain(struct resp_reader *reader, struct resp_buffer *out)
{
    const struct iovec *argv;
    unsigned argc;
    for (;;) {
        switch (resp_reader_next(reader, &argv, &argc)) {
        case RESP_OK:
            resp_write_array(out, argc);
            for (unsigned i = 0; i < argc; i++)
                resp_write_bulk(out, argv[i].iov_base, argv[i].iov_len);
            break;
        case RESP_AGAIN:
            return true;
        case RESP_ERROR:
            resp_write_error(out, resp_reader_error(reader), strlen(resp_reader_error(reader)));
            check(resp_reader_next(reader, &argv, &argc) == RESP_ERROR);
            return false;
        case RESP_NO_MEMORY:
            abort();
        }
    }
}

static size_t feed(struct resp_reader *reader, const uint8_t *data, size_t len, char *shared)
{
    char *space = NULL;
    size_t room = 0;
    if (shared == NULL || !resp_reader_lend(reader, shared, SHARED_BYTES, &space, &room))
        check(resp_reader_space(reader, 64, &space, &room) == RESP_OK);
    check(room > 0);
    if (len > room)
        len = room;
    memcpy(space, data, len);
    resp_reader_fed(reader, len);
    return len;
}

/* `split` seeds the sizes of the pieces; 0: as large as the reader takes. */
static void parse(const struct resp_limits *limits, const uint8_t *data, size_t size, uint32_t split, bool lend,
                  struct resp_buffer *out)
{
    struct resp_reader *reader = resp_reader_new(limits);
    char *shared = lend ? malloc(SHARED_BYTES) : NULL;
    check(reader != NULL);
    while (size > 0) {
        size_t len = size;
        if (split != 0) {
            split = split * 1103515245u + 12345u;
            len = 1 + (split >> 16) % 40;
            len = len < size ? len : size;
        }
        len = feed(reader, data, len, shared);
        data += len;
        size -= len;
        if (!drain(reader, out))
            break;
        check(resp_reader_settle(reader) == RESP_OK);
        check(resp_reader_memory(reader) < 1024 * 1024);
        if (shared != NULL)
            memset(shared, 0xA5, SHARED_BYTES);
    }
    resp_reader_free(reader);
    free(shared);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct resp_limits limits = {0};
    if (data[0] & 1)
        limits.args_max = 4;
    if (data[0] & 2)
        limits.bulk_bytes_max = 20;
    if (data[0] & 4)
        limits.inline_bytes_max = 32;
    if (data[0] & 8)
        limits.query_bytes_max = 64;
    const uint32_t split = data[1];
    struct resp_buffer whole = {0}, pieces = {0};
    parse(&limits, data + 2, size - 2, 0, false, &whole);
    parse(&limits, data + 2, size - 2, split + 1, (split & 1) != 0, &pieces);
    check(whole.len == pieces.len);
    check(whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0);
    resp_buffer_fini(&whole);
    resp_buffer_fini(&pieces);
    return 0;
}
