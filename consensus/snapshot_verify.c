/* A whole-file check is a reader whose payload nobody wants. */
#include <stdlib.h>

#include "consensus/snapshot_internal.h"

struct snapshot_verify {
    struct snapshot_verify_events events;
    struct snapshot_reader *reader;
    const struct snapshot_meta *meta;
    const struct snapshot_end *end;
};

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    struct snapshot_verify *verify = ctx;
    verify->meta = meta;
    verify->end = end;
}

static void ready_cb(void *ctx)
{
    struct snapshot_verify *verify = ctx;
    const void *data;
    for (size_t n = snapshot_reader_peek(verify->reader, &data); n > 0;
         n = snapshot_reader_peek(verify->reader, &data)) {
        snapshot_reader_consume(verify->reader, n);
    }
    if (verify->events.progress != NULL) {
        verify->events.progress(verify->events.ctx, snapshot_reader_position(verify->reader), verify->end->file_bytes);
    }
}

static void done_cb(void *ctx, enum snapshot_status status, const char *error)
{
    struct snapshot_verify *verify = ctx;
    bool ok = status == SNAPSHOT_OK;
    verify->events.done(verify->events.ctx, status, error, ok ? verify->meta : NULL, ok ? verify->end : NULL);
}

static void closed_cb(void *ctx)
{
    struct snapshot_verify *verify = ctx;
    if (verify->events.closed != NULL) {
        verify->events.closed(verify->events.ctx);
    }
    free(verify);
}

enum snapshot_status snapshot_verify_open(struct env *env, const char *name,
                                          const struct snapshot_verify_events *events, struct snapshot_verify **out)
{
    struct snapshot_verify *verify = calloc(1, sizeof *verify);
    if (verify == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    verify->events = *events;
    struct snapshot_reader_events own = {
        .opened = opened_cb, .ready = ready_cb, .done = done_cb, .closed = closed_cb, .ctx = verify};
    enum snapshot_status status = snapshot_reader_open(env, NULL, name, &own, &verify->reader);
    if (status != SNAPSHOT_OK) {
        free(verify);
        return status;
    }
    *out = verify;
    return SNAPSHOT_OK;
}

void snapshot_verify_close(struct snapshot_verify *verify)
{
    if (verify != NULL) {
        snapshot_reader_close(verify->reader);
    }
}
