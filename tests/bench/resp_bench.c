/* Nanoseconds per request of the RESP reader, for the pipelines that clients send: ninja resp_bench && resp_bench.
 * Best of several rounds: what the code costs, not what the machine was doing. */
#include "net/resp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHARED_BYTES (64u * 1024)
#define ROUNDS 20u
#define ROUND_REQUESTS 1000000u

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Parses `depth` copies of the request per read, as a server does: lend, fed, next until empty, settle. */
static uint64_t round_run(struct resp_reader *reader, char *shared, const char *request, size_t len, unsigned depth)
{
    const struct iovec *argv;
    unsigned argc;
    uint64_t bytes = 0;
    for (unsigned n = 0; n < ROUND_REQUESTS; n += depth) {
        char *space;
        size_t room;
        if (!resp_reader_lend(reader, shared, SHARED_BYTES, &space, &room) || room < len * depth)
            abort();
        if (n == 0) {
            for (unsigned i = 0; i < depth; i++)
                memcpy(space + i * len, request, len);
        }
        resp_reader_fed(reader, len * depth);
        while (resp_reader_next(reader, &argv, &argc) == RESP_OK)
            bytes += argv[argc - 1].iov_len;
        if (resp_reader_settle(reader) != RESP_OK)
            abort();
    }
    return bytes;
}

static void bench(const char *name, const char *request, unsigned depth)
{
    const struct resp_limits limits = {0};
    struct resp_reader *reader = resp_reader_new(&limits);
    char *shared = malloc(SHARED_BYTES);
    uint64_t best = UINT64_MAX, bytes = 0;
    if (reader == NULL || shared == NULL)
        abort();
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t start = now_ns();
        bytes += round_run(reader, shared, request, strlen(request), depth);
        const uint64_t took = now_ns() - start;
        best = took < best ? took : best;
    }
    printf("%-24s depth %3u  %6.1f ns/request  (%" PRIu64 ")\n", name, depth, (double)best / ROUND_REQUESTS,
           bytes % 10);
    resp_reader_free(reader);
    free(shared);
}

static void writer_bench(void)
{
    struct resp_buffer out;
    uint64_t best = UINT64_MAX;
    resp_buffer_init(&out);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t start = now_ns();
        for (unsigned n = 0; n < ROUND_REQUESTS; n++) {
            if (n % 64 == 0)
                resp_buffer_clear(&out);
            resp_write_integer(&out, (int64_t)n);
            resp_write_bulk(&out, "0123456789abcdef", 16);
        }
        const uint64_t took = now_ns() - start;
        best = took < best ? took : best;
    }
    printf("%-24s            %6.1f ns/pair\n", "write integer + bulk 16", (double)best / ROUND_REQUESTS);
    resp_buffer_fini(&out);
}

int main(void)
{
    const unsigned depths[] = {1, 16, 64};
    for (size_t i = 0; i < 3; i++) {
        bench("PING", "*1\r\n$4\r\nPING\r\n", depths[i]);
        bench("PING inline", "PING\r\n", depths[i]);
        bench("GET 16", "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000012345\r\n", depths[i]);
        bench("SET 16 3", "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000012345\r\n$3\r\nxxx\r\n", depths[i]);
        bench("SET 16 64",
              "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000012345\r\n$64\r\n"
              "0123456789012345678901234567890123456789012345678901234567890123\r\n",
              depths[i]);
        bench("SET 16 100 PX",
              "*5\r\n$3\r\nSET\r\n$16\r\nkey:000000012345\r\n$100\r\n"
              "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n"
              "$2\r\nPX\r\n$5\r\n10000\r\n",
              depths[i]);
    }
    writer_bench();
    return 0;
}
