/* Snapshot files and the pieces of them that come from a peer: any bytes, and well-formed files with damage. The first
 * byte of the input chooses: 1: a good file of the payload that follows, with one damage (position and value in the
 * next three bytes) and then verified; 2: the bytes as a file; 3: the bytes as pieces for a receiver, after a good
 * header; 4: the bytes as the partial file that a receiver finds; 5: the bytes as a position asked of a source.
 * Whatever is accepted must be what was written. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/snapshot_format.h"
#include "tests/unit/mem_env.h"

#define INPUT_MAX (1u << 17)
#define NAME "snapshot-0000000000000003-0000000000000001"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

static void run(struct mem_env *mem)
{
    for (int quiet = 0; quiet < 2;) {
        quiet = mem_env_pending(mem) == 0 ? quiet + 1 : 0;
        mem_env_run(mem);
        mem_env_advance(mem, 1);
    }
}

struct outcome {
    unsigned done;
    enum snapshot_status status;
    uint64_t payload;
};

static void written_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    struct outcome *outcome = ctx;
    (void)error;
    (void)end;
    outcome->done++;
    outcome->status = status;
}

static void nothing_cb(void *ctx)
{
    (void)ctx;
}

static void write_good(struct mem_env *mem, const uint8_t *data, size_t size)
{
    struct outcome outcome = {0};
    const struct snapshot_meta meta = {.index = 3, .term = 1, .configuration = "abc", .configuration_len = 3};
    const struct snapshot_writer_events events = {.ready = nothing_cb, .done = written_cb, .ctx = &outcome};
    struct snapshot_writer *writer;
    check(snapshot_writer_open(mem_env_env(mem), NULL, &meta, &events, &writer) == SNAPSHOT_OK);
    for (size_t at = 0; at < size; run(mem)) {
        const size_t taken = snapshot_writer_append(writer, data + at, size - at);
        check(taken > 0);
        at += taken;
    }
    snapshot_writer_finish(writer, 5);
    run(mem);
    check(outcome.done == 1);
    check(outcome.status == SNAPSHOT_OK);
    snapshot_writer_close(writer);
}

static void verified_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_meta *meta,
                        const struct snapshot_end *end)
{
    struct outcome *outcome = ctx;
    (void)meta;
    check((status == SNAPSHOT_OK) == (error == NULL));
    check((status == SNAPSHOT_OK) == (end != NULL));
    outcome->done++;
    outcome->status = status;
    outcome->payload = end == NULL ? 0 : end->payload_bytes;
}

static enum snapshot_status verify(struct mem_env *mem)
{
    struct outcome outcome = {0};
    struct snapshot_verify *job;
    const struct snapshot_verify_events events = {.done = verified_cb, .ctx = &outcome};
    check(snapshot_verify_open(mem_env_env(mem), NAME, &events, &job) == SNAPSHOT_OK);
    run(mem);
    check(outcome.done == 1);
    snapshot_verify_close(job);
    run(mem);
    return outcome.status;
}

static void damage(struct mem_env *mem, const uint8_t *data, size_t size)
{
    if (size < 4) {
        return;
    }
    write_good(mem, data + 4, size - 4);
    check(verify(mem) == SNAPSHOT_OK);
    size_t len;
    uint8_t *file = mem_env_file(mem, NAME, &len);
    size_t at = ((size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2]) % len;
    if (data[3] != 0) {
        file[at] ^= data[3];
        check(verify(mem) != SNAPSHOT_OK);
    }
}

static void any_file(struct mem_env *mem, const uint8_t *data, size_t size)
{
    mem_env_file_put(mem, NAME, data, size);
    (void)verify(mem);
    struct snapshot_dir *dir;
    check(snapshot_dir_open(mem_env_env(mem), &dir) == SNAPSHOT_OK);
    snapshot_dir_prune(dir);
    run(mem);
    check(mem_env_file(mem, NAME, NULL) != NULL);
    snapshot_dir_close(dir);
}

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_position *next)
{
    (void)ctx;
    (void)meta;
    (void)next;
}

/* A receiver of the good file, which is fed with the input and then with what it should get. */
static void receive(struct mem_env *mem, const uint8_t *data, size_t size, bool as_partial)
{
    uint8_t *payload = malloc(200000);
    check(payload != NULL);
    for (size_t i = 0; i < 200000; i++) {
        payload[i] = (uint8_t)(i * i >> 5);
    }
    write_good(mem, payload, 200000);
    free(payload);
    size_t len;
    const uint8_t *bytes = mem_env_file(mem, NAME, &len);
    uint8_t *good = malloc(len);
    check(good != NULL);
    memcpy(good, bytes, len);
    mem_env_file_remove(mem, NAME);
    if (as_partial) {
        mem_env_file_put(mem, NAME ".part", data, size);
        if (size > ENV_BLOCK && (data[0] & 1) != 0) {
            memcpy(mem_env_file(mem, NAME ".part", NULL), good, size < len ? size : len);
        }
    }
    struct outcome outcome = {0};
    const struct snapshot_receiver_events events = {
        .opened = opened_cb, .ready = nothing_cb, .done = written_cb, .ctx = &outcome};
    struct snapshot_receiver *receiver;
    const struct snapshot_receiver_config config = {.env = mem_env_env(mem), .header = good, .header_len = ENV_BLOCK};
    check(snapshot_receiver_open(&config, &events, &receiver) == SNAPSHOT_OK);
    run(mem);
    while (outcome.done == 0) {
        struct snapshot_position at = snapshot_receiver_next(receiver);
        if (!as_partial && size > 0) {
            check(snapshot_receiver_put(receiver, &at, data, size) != SNAPSHOT_OK);
        }
        struct snapshot_block block;
        size_t n = SNAPSHOT_TRAILER_BYTES;
        size_t from = (size_t)snapshot_trailer_offset(at.offset);
        if (snapshot_block_decode(good + at.offset, &at, &block)) {
            n = snapshot_block_bytes(block.stored_len);
            from = (size_t)at.offset;
        }
        check(snapshot_receiver_put(receiver, &at, good + from, n) == SNAPSHOT_OK);
        run(mem);
    }
    snapshot_receiver_close(receiver, false);
    run(mem);
    if (as_partial && size > len) { /* nothing that a receiver leaves is longer than the whole */
        check(outcome.status == SNAPSHOT_DAMAGED);
        check(mem_env_file_count(mem) == 0);
        free(good);
        return;
    }
    check(outcome.status == SNAPSHOT_OK);
    size_t got;
    const uint8_t *file = mem_env_file(mem, NAME, &got);
    check(got == len);
    check(memcmp(file, good, len) == 0);
    free(good);
}

static void piece_opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end,
                            const void *header, size_t header_len)
{
    (void)meta;
    (void)end;
    (void)header;
    (void)header_len;
    ((struct outcome *)ctx)->done++;
}

static void piece_cb(void *ctx, enum snapshot_status status, const struct snapshot_position *at, const void *data,
                     size_t len, const struct snapshot_position *next, bool last)
{
    (void)at;
    (void)data;
    (void)next;
    (void)last;
    check(status == SNAPSHOT_OK || status == SNAPSHOT_DAMAGED);
    check((status == SNAPSHOT_OK) == (len > 0));
    ((struct outcome *)ctx)->done++;
}

static void ask(struct mem_env *mem, const uint8_t *data, size_t size)
{
    struct snapshot_position at = {0};
    memcpy(&at, data, size < sizeof at ? size : sizeof at);
    write_good(mem, data, size);
    struct outcome outcome = {0};
    const struct snapshot_source_events events = {.opened = piece_opened_cb, .piece = piece_cb, .ctx = &outcome};
    struct snapshot_source *source;
    check(snapshot_source_open(mem_env_env(mem), NULL, NAME, &events, &source) == SNAPSHOT_OK);
    run(mem);
    check(outcome.done == 1);
    bool answered = snapshot_source_read(source, &at) == SNAPSHOT_OK;
    run(mem);
    check(outcome.done == (answered ? 2 : 1));
    snapshot_source_close(source);
    run(mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > INPUT_MAX) {
        return 0;
    }
    struct mem_env *mem = mem_env_new(1);
    switch (data[0] % 6) {
    case 1:
        damage(mem, data + 1, size - 1);
        break;
    case 2:
        any_file(mem, data + 1, size - 1);
        break;
    case 3:
        receive(mem, data + 1, size - 1, false);
        break;
    case 4:
        receive(mem, data + 1, size - 1, true);
        break;
    case 5:
        ask(mem, data + 1, size - 1);
        break;
    default:
        break;
    }
    check(mem_env_open_files(mem) == 0);
    mem_env_free(mem);
    return 0;
}
