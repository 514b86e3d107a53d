#include "cmd/lockstep/datadir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/wal_format.h"

static void log_cb(void *ctx, int level, const char *text)
{
    struct datadir *d = ctx;
    const size_t used = strlen(d->notes);
    if (level <= 1 && used + strlen(text) + 2 < sizeof d->notes) {
        snprintf(d->notes + used, sizeof d->notes - used, "%s\n", text);
    }
}

static void count_cb(void *ctx, const char *name, uint64_t size)
{
    struct datadir *d = ctx;
    uint32_t generation;
    (void)size;
    d->wal_files += wal_name_parse(name, &generation);
}

static void persisted_cb(void *ctx, uint64_t index, uint64_t term)
{
    (void)ctx;
    (void)index;
    (void)term;
}

static void failed_cb(void *ctx, enum env_status status)
{
    (void)status;
    log_cb(ctx, 0, "a write failed");
}

static void slots_look(struct datadir *d)
{
    struct slots *slots = NULL;
    const char *error = "";
    d->slots_status = slots_open(d->env, &slots, &d->state, &error);
    if (d->slots_status == SLOTS_OK) {
        slots_close(slots);
    } else if (d->slots_status == SLOTS_EMPTY) {
        snprintf(d->slots_error, sizeof d->slots_error,
                 "there is no file `state`: no node has run here, or it is lost");
    } else {
        snprintf(d->slots_error, sizeof d->slots_error, "%s", error != NULL ? error : "can't be read");
    }
}

bool datadir_open(struct datadir *d, const char *path, char error[DATADIR_ERROR_MAX])
{
    const struct file_env_config config = {.dir = path, .mode = FILE_ENV_FROZEN, .lock = true, .log = log_cb, .ctx = d};
    char why[FILE_ENV_ERROR_MAX];
    memset(d, 0, sizeof *d);
    d->env = file_env_new(&config, why);
    if (d->env == NULL) {
        d->in_use = errno == EBUSY;
        snprintf(error, DATADIR_ERROR_MAX, "%s", why);
        return false;
    }
    slots_look(d);
    if (d->env->ops->list(d->env, count_cb, d) != ENV_OK || snapshot_dir_open(d->env, &d->snapshots) != SNAPSHOT_OK) {
        datadir_close(d);
        snprintf(error, DATADIR_ERROR_MAX, "can't list the directory %s", path);
        return false;
    }
    return true;
}

enum wal_status datadir_open_wal(struct datadir *d, uint64_t index, uint64_t term, char error[DATADIR_ERROR_MAX])
{
    const struct wal_config config = {
        .start_index = index, .start_term = term, .persisted = persisted_cb, .failed = failed_cb, .ctx = d};
    const char *why = "";
    if (d->wal_files == 0) {
        snprintf(error, DATADIR_ERROR_MAX, "there is no log (no file wal-*)");
        return WAL_CORRUPT;
    }
    const enum wal_status status = wal_open(d->env, &config, &d->wal, &why);
    if (status != WAL_OK) {
        d->wal = NULL;
        snprintf(error, DATADIR_ERROR_MAX, "%s", why != NULL ? why : "it can't be read");
    }
    return status;
}

void datadir_close(struct datadir *d)
{
    if (d->wal != NULL) {
        wal_close(d->wal);
    }
    if (d->snapshots != NULL) {
        snapshot_dir_close(d->snapshots);
    }
    file_env_free(d->env);
    *d = (struct datadir){0};
}
