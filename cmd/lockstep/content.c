#include "cmd/lockstep/content.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/snapshot.h"

#define STEP_BYTES ((size_t)256 << 10)

static bool fail(struct content *content, enum snapshot_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool fail(struct content *content, enum snapshot_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(content->error, sizeof content->error, format, args);
    va_end(args);
    content->status = status;
    return false;
}

struct store *content_store_new(const uint8_t cluster[16])
{
    struct store_config config;
    memcpy(&config.hash_seed, cluster, sizeof config.hash_seed);
    return store_new(&config);
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

struct reading {
    struct content *content;
    const char *name;
    enum content_depth depth;
    void (*progress)(uint64_t bytes, uint64_t of_bytes);
    struct snapshot_reader *reader;
    struct store_loader *loader;
    bool done;
};

static void load_failed(struct reading *r, enum store_status status)
{
    const char *why = store_loader_error(r->loader);
    fail(r->content, status == STORE_VERSION ? SNAPSHOT_VERSION : SNAPSHOT_OK,
         "%s: its checksums are right, but its content can't be loaded: %s. %s", r->name, why,
         status == STORE_VERSION ? "It was written by a newer version: use that one"
                                 : "The node that wrote it had damaged memory, or a bug: take another copy and report "
                                   "this");
    r->done = true;
}

static void keep_meta(struct reading *r, const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    struct content *content = r->content;
    content->meta = *meta;
    content->end = *end;
    content->configuration = malloc(meta->configuration_len > 0 ? meta->configuration_len : 1);
    if (content->configuration == NULL) {
        fail(content, SNAPSHOT_NO_MEMORY, "%s: out of memory", r->name);
        r->done = true;
        return;
    }
    if (meta->configuration_len > 0) {
        memcpy(content->configuration, meta->configuration, meta->configuration_len);
    }
    content->meta.configuration = content->configuration;
}

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end)
{
    struct reading *r = ctx;
    struct content *content = r->content;
    keep_meta(r, meta, end);
    if (r->depth == CONTENT_HEADERS) {
        r->done = true;
    }
    if (r->depth != CONTENT_LOADED || r->done) {
        return;
    }
    content->store = content_store_new(meta->cluster);
    r->loader = content->store != NULL ? store_loader_new(content->store, end->payload_bytes) : NULL;
    if (r->loader == NULL) {
        fail(content, SNAPSHOT_NO_MEMORY, "%s: out of memory", r->name);
        r->done = true;
    }
}

static void ready_cb(void *ctx)
{
    struct reading *r = ctx;
    const void *data;
    for (size_t n = 0; !r->done && (n = snapshot_reader_peek(r->reader, &data)) > 0;) {
        if (r->loader != NULL) {
            const enum store_status status = store_loader_feed(r->loader, data, n);
            if (status != STORE_OK) {
                load_failed(r, status);
                return;
            }
        }
        snapshot_reader_consume(r->reader, n);
    }
    if (r->progress != NULL) {
        r->progress(snapshot_reader_position(r->reader), r->content->end.file_bytes);
    }
}

static void done_cb(void *ctx, enum snapshot_status status, const char *error)
{
    struct reading *r = ctx;
    r->done = true;
    if (status != SNAPSHOT_OK) {
        /* What follows a node whose snapshot this is should do: it may be a backup. */
        const char *advice = strstr(error, ". Keep the file");
        fail(r->content, status, "%.*s", advice != NULL ? (int)(advice - error) : (int)strlen(error), error);
        return;
    }
    if (r->loader == NULL) {
        return;
    }
    const enum store_status loaded = store_loader_finish(r->loader);
    if (loaded != STORE_OK) {
        load_failed(r, loaded);
    } else if (store_digest(r->content->store) != r->content->end.digest ||
               store_revision(r->content->store) != r->content->meta.revision) {
        fail(r->content, SNAPSHOT_DAMAGED,
             "%s: its content has digest %016" PRIx64 " and revision %" PRIu64 ", but the file says %016" PRIx64
             " and %" PRIu64 ": take another copy and report this",
             r->name, store_digest(r->content->store), store_revision(r->content->store), r->content->end.digest,
             r->content->meta.revision);
    }
}

bool content_read(struct content *content, struct env *env, const char *name, enum content_depth depth,
                  void (*progress)(uint64_t bytes, uint64_t of_bytes))
{
    struct reading r = {.content = content, .name = name, .depth = depth, .progress = progress};
    const struct snapshot_reader_events events = {.opened = opened_cb, .ready = ready_cb, .done = done_cb, .ctx = &r};
    *content = (struct content){0};
    if (snapshot_reader_open(env, NULL, name, &events, &r.reader) != SNAPSHOT_OK) {
        return fail(content, SNAPSHOT_NO_MEMORY, "%s: out of memory", name);
    }
    while (!r.done && file_env_turn(env)) {
    }
    if (!r.done) {
        fail(content, SNAPSHOT_IO, "%s: reading it stopped", name);
    }
    snapshot_reader_close(r.reader);
    if (r.loader != NULL) {
        store_loader_free(r.loader);
    }
    return content->error[0] == '\0';
}

/* --- Entries ------------------------------------------------------------------------------------------------------ */

bool content_empty(struct content *content)
{
    static const uint8_t none[16];
    *content = (struct content){.store = content_store_new(none)};
    return content->store != NULL || fail(content, SNAPSHOT_NO_MEMORY, "out of memory");
}

/* May the entry be applied? */
static bool entry_check(struct content *content, const struct wal_entry *entry)
{
    if (entry->index != content->meta.index + 1) {
        return fail(content, SNAPSHOT_DAMAGED, "entries %" PRIu64 " to %" PRIu64 " are missing",
                    content->meta.index + 1, entry->index - 1);
    }
    const enum store_status status = entry->type == WAL_COMMAND ? store_entry_check(entry->data, entry->len) : STORE_OK;
    if (status == STORE_VERSION) {
        return fail(content, SNAPSHOT_VERSION, "entry %" PRIu64 " was written by a newer version: use that one",
                    entry->index);
    }
    return status == STORE_OK ||
           fail(content, SNAPSHOT_DAMAGED, "entry %" PRIu64 " is not one, although its checksum is right: report this",
                entry->index);
}

static void entry_done(struct content *content, const struct wal_entry *entry)
{
    content->meta.index = entry->index;
    content->meta.term = entry->term;
    content->meta.revision = store_revision(content->store);
    content->meta.cluster_time_ms = store_time_ms(content->store);
}

bool content_apply(struct content *content, const struct wal_entry *entry)
{
    if (!entry_check(content, entry)) {
        return false;
    }
    if (entry->type == WAL_COMMAND) {
        store_apply(content->store, entry->data, entry->len, NULL);
    }
    entry_done(content, entry);
    return true;
}

bool content_apply_until(struct content *content, const struct wal_entry *entry, uint64_t revision)
{
    uint64_t before = 0;
    if (!entry_check(content, entry)) {
        return false;
    }
    if (entry->type == WAL_COMMAND && !store_apply_until(content->store, entry->data, entry->len, revision, &before)) {
        return fail(content, SNAPSHOT_OK,
                    "revision %" PRIu64 " lies inside one command or transaction of entry %" PRIu64
                    ", which takes the content from revision %" PRIu64 " to %" PRIu64
                    " at once: restore to one of these two",
                    revision, entry->index, before, store_revision(content->store));
    }
    entry_done(content, entry);
    return true;
}

/* --- Writing ------------------------------------------------------------------------------------------------------ */

struct writing {
    struct content *content;
    struct snapshot_writer *writer;
    uint8_t *held; /* emitted, and not taken by the writer yet */
    size_t held_len, held_cap, held_at;
    bool no_memory, done;
};

static void emit_cb(void *ctx, const void *data, size_t len)
{
    struct writing *w = ctx;
    if (w->held_len + len > w->held_cap) {
        const size_t cap = (w->held_len + len) * 2;
        uint8_t *held = realloc(w->held, cap);
        if (held == NULL) {
            w->no_memory = true;
            return;
        }
        w->held = held;
        w->held_cap = cap;
    }
    memcpy(w->held + w->held_len, data, len);
    w->held_len += len;
}

static void writer_ready_cb(void *ctx)
{
    (void)ctx; /* append is tried after each turn */
}

static void writer_done_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    struct writing *w = ctx;
    w->done = true;
    if (status != SNAPSHOT_OK) {
        fail(w->content, status, "%s", error);
    } else {
        w->content->end = *end;
    }
}

/* Give the writer what is held. */
static void hand_over(struct writing *w, struct env *env)
{
    while (w->held_at < w->held_len && !w->done) {
        w->held_at += snapshot_writer_append(w->writer, w->held + w->held_at, w->held_len - w->held_at);
        if (w->held_at < w->held_len && !file_env_turn(env)) {
            return;
        }
    }
    w->held_at = w->held_len = 0;
}

static bool write_stream(struct writing *w, struct env *env, struct store_snapshot *cut)
{
    enum store_snapshot_state state = STORE_SNAPSHOT_MORE;
    struct store_cut what;
    store_snapshot_cut(cut, &what);
    while (state == STORE_SNAPSHOT_MORE && !w->done && !w->no_memory) {
        state = store_snapshot_step(cut, STEP_BYTES, emit_cb, w);
        hand_over(w, env);
    }
    if (w->no_memory || (state != STORE_SNAPSHOT_DONE && !w->done)) {
        return fail(w->content, SNAPSHOT_NO_MEMORY, "the content can't be written: %s",
                    w->no_memory ? "out of memory" : "it is not what its digest says; report this");
    }
    if (!w->done) {
        snapshot_writer_finish(w->writer, what.digest);
    }
    while (!w->done && file_env_turn(env)) {
    }
    return w->content->error[0] == '\0';
}

bool content_write(struct content *content, struct env *env, const struct snapshot_meta *meta)
{
    struct writing w = {.content = content};
    struct snapshot_meta own = *meta;
    const struct snapshot_writer_events events = {.ready = writer_ready_cb, .done = writer_done_cb, .ctx = &w};
    own.revision = store_revision(content->store);
    own.cluster_time_ms = store_time_ms(content->store);
    struct store_snapshot *cut = store_snapshot_begin(content->store, STORE_SNAPSHOT_SIDE_BYTES);
    content->error[0] = '\0';
    if (cut == NULL || snapshot_writer_open(env, NULL, &own, &events, &w.writer) != SNAPSHOT_OK) {
        if (cut != NULL) {
            store_snapshot_end(cut);
        }
        return fail(content, SNAPSHOT_NO_MEMORY, "out of memory");
    }
    const bool ok = write_stream(&w, env, cut);
    store_snapshot_end(cut);
    snapshot_writer_close(w.writer);
    free(w.held);
    return ok;
}

void content_fini(struct content *content)
{
    store_free(content->store);
    free(content->configuration);
    *content = (struct content){0};
}
