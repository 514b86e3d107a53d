#include "cmd/lockstepd/fsm_snapshot.h"

#include <assert.h>
#include <stdlib.h>

#include "store/snapshot.h"

static_assert((int)REPLICA_CUT_MORE == (int)STORE_SNAPSHOT_MORE, "states are the store's");
static_assert((int)REPLICA_CUT_DONE == (int)STORE_SNAPSHOT_DONE, "states are the store's");
static_assert((int)REPLICA_CUT_OVERFLOW == (int)STORE_SNAPSHOT_OVERFLOW, "states are the store's");
static_assert((int)REPLICA_CUT_BROKEN == (int)STORE_SNAPSHOT_BROKEN, "states are the store's");

/* A store that is being filled. */
struct fsm_load {
    struct fsm_snapshot *fsm;
    struct store *store;
    struct store_loader *loader;
};

static void *cut_begin(void *ctx, struct replica_cut *cut)
{
    const struct fsm_snapshot *fsm = ctx;
    struct store_snapshot *snapshot = store_snapshot_begin(fsm->store, STORE_SNAPSHOT_SIDE_BYTES);

    if (snapshot != NULL) {
        struct store_cut shown;
        store_snapshot_cut(snapshot, &shown);
        *cut = (struct replica_cut){shown.revision, shown.time_ms, shown.digest};
    }
    return snapshot;
}

static enum replica_cut_state cut_step(void *cut, size_t bytes_max,
                                       void (*emit)(void *emit_ctx, const void *data, size_t len), void *emit_ctx)
{
    return (enum replica_cut_state)store_snapshot_step(cut, bytes_max, emit, emit_ctx);
}

static size_t cut_pending(const void *cut)
{
    return store_snapshot_pending(cut);
}

static void cut_end(void *cut)
{
    store_snapshot_end(cut);
}

static void *load_begin(void *ctx, uint64_t stream_bytes)
{
    struct fsm_snapshot *fsm = ctx;
    const struct store_config config = {.hash_seed = fsm->hash_seed};
    struct fsm_load *load = calloc(1, sizeof *load);

    if (load == NULL) {
        return NULL;
    }
    load->fsm = fsm;
    load->store = store_new(&config);
    if (load->store == NULL) {
        free(load);
        return NULL;
    }
    load->loader = store_loader_new(load->store, stream_bytes);
    if (load->loader == NULL) {
        store_free(load->store);
        free(load);
        return NULL;
    }
    return load;
}

static bool load_feed(void *handle, const void *data, size_t len)
{
    const struct fsm_load *load = handle;

    return store_loader_feed(load->loader, data, len) == STORE_OK;
}

static bool load_settle(void *handle, uint64_t budget)
{
    const struct fsm_load *load = handle;

    return store_loader_settle(load->loader, budget);
}

static bool load_finish(void *handle, struct replica_cut *cut)
{
    const struct fsm_load *load = handle;

    if (store_loader_finish(load->loader) != STORE_OK) {
        return false;
    }
    *cut = (struct replica_cut){store_revision(load->store), store_time_ms(load->store), store_digest(load->store)};
    return true;
}

static uint64_t load_keys(const void *handle, uint64_t *total)
{
    const struct fsm_load *load = handle;

    return store_loader_keys(load->loader, total);
}

static const char *load_error(const void *handle)
{
    const struct fsm_load *load = handle;

    return store_loader_error(load->loader);
}

static void load_install(void *handle, uint64_t index)
{
    struct fsm_load *load = handle;
    const struct fsm_snapshot *fsm = load->fsm;

    store_loader_free(load->loader);
    store_replace(fsm->store, load->store);
    free(load);
    if (fsm->installed != NULL) {
        fsm->installed(fsm->ctx, index);
    }
}

static void load_abort(void *handle)
{
    struct fsm_load *load = handle;

    store_loader_free(load->loader);
    store_free(load->store);
    free(load);
}

struct replica_fsm_snapshots fsm_snapshot_vtable(struct fsm_snapshot *fsm)
{
    return (struct replica_fsm_snapshots){.ctx = fsm,
                                          .cut_begin = cut_begin,
                                          .cut_step = cut_step,
                                          .cut_pending = cut_pending,
                                          .cut_end = cut_end,
                                          .load_begin = load_begin,
                                          .load_feed = load_feed,
                                          .load_settle = load_settle,
                                          .load_finish = load_finish,
                                          .load_keys = load_keys,
                                          .load_error = load_error,
                                          .load_install = load_install,
                                          .load_abort = load_abort};
}
