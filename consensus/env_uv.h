/* The production env: libuv loop and timers, a data directory on a real disk, one disk thread per file class.
 * Owns the directory lock and the disk threads. Peer frames go out through a function that the owner supplies
 * (net/peer), so that this file knows nothing of sockets. */
#ifndef LOCKSTEP_ENV_UV_H
#define LOCKSTEP_ENV_UV_H

#include <uv.h>

#include "consensus/env.h"

/* How synced writes and latency come about: env_uv_file.c, env_uv_disk.c. fail_stop exits with status 70, or aborts if
 * LOCKSTEP_FAIL_STOP_ABORT is set in the environment. */
struct env_uv_config {
    uv_loop_t *loop;
    const char *dir; /* created (mode 0700) if missing; locked with flock(dir/lock) */
    bool (*send)(void *ctx, uint64_t peer_id, const struct iovec *pieces, unsigned n);
    void (*log)(void *ctx, int level, const char *text);
    void *ctx;
};

/* ENV_BUSY: another process holds the directory. ENV_DENIED, ENV_NO_SPACE, ENV_IO as they say; `*error` tells more. */
enum env_status env_uv_new(const struct env_uv_config *config, struct env **env, const char **error)
    __attribute__((warn_unused_result));
/* Waits for running disk requests, calls back what had not begun with ENV_CANCELED, waits until every timer was given
 * up with timer_fini, then calls `closed` (may be NULL) on the loop. The env is freed by then. */
void env_uv_close(struct env *env, void (*closed)(void *ctx), void *ctx);

#endif
