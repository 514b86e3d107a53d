#include "tests/sim/sim_env.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No timer waits longer than this for a clock that may stand still. */
#define TIMER_WAIT_MAX_US 3600000000u

struct sim_timer {
    struct sim_task task;
    struct sim_env *env;
    struct env_timer *timer;
    uint64_t at_us; /* local */
    struct sim_timer *next;
};

static struct sim_env *env_of(struct env *env)
{
    return (struct sim_env *)(void *)env;
}

/* Counts a call into the env; true if the node dies at this very call. */
static bool fuse_burns(struct sim_env *env)
{
    if (env->dead || env->fuse == 0) {
        return false;
    }
    env->fuse--;
    if (env->fuse > 0) {
        return false;
    }
    env->dead = true;
    env->owner.died(env->owner.ctx, NULL, NULL);
    return true;
}

/* --- Time and randomness -------------------------------------------------------------------------------------------
 */

static uint64_t sim_env_now_us(struct env *env)
{
    return sim_clock_now_us(env_of(env)->clock, env_of(env)->world);
}

static uint64_t sim_env_wall_ms(struct env *env)
{
    return sim_clock_wall_ms(env_of(env)->clock, env_of(env)->world);
}

static uint64_t sim_env_random(struct env *env)
{
    return sim_random_next(&env_of(env)->random);
}

/* --- Timers ------------------------------------------------------------------------------------------------------ */

static void timer_schedule(struct sim_timer *timer)
{
    struct sim_env *env = timer->env;
    const uint64_t now = sim_env_now_us(&env->env);
    const uint64_t wait = sim_clock_true_wait_us(env->clock, timer->at_us > now ? timer->at_us - now : 0);

    if (wait == SIM_NEVER || wait > TIMER_WAIT_MAX_US) { /* until the clock goes again */
        sim_world_after(env->world, &timer->task, TIMER_WAIT_MAX_US);
        return;
    }
    sim_world_after(env->world, &timer->task, wait + sim_random_below(&env->random, 200));
}

void sim_env_clock_changed(struct sim_env *env)
{
    for (struct sim_timer *timer = env->timer_list; timer != NULL && !env->dead; timer = timer->next) {
        if (sim_task_is_queued(&timer->task)) {
            timer_schedule(timer);
        }
    }
}

static void timer_fire_cb(struct sim_task *task)
{
    struct sim_timer *timer = task->data;
    struct sim_env *env = timer->env;
    uint64_t until_us = 0;

    if (env->dead) {
        return;
    }
    if (sim_env_now_us(&env->env) < timer->at_us) {
        timer_schedule(timer);
        return;
    }
    if (!env->owner.timer(env->owner.ctx, timer->timer, &until_us)) {
        sim_world_at(env->world, &timer->task, until_us);
    }
}

static enum env_status sim_env_timer_init(struct env *base, struct env_timer *timer)
{
    struct sim_env *env = env_of(base);
    struct sim_timer *impl = calloc(1, sizeof *impl);

    assert(impl != NULL);
    impl->task = (struct sim_task){.data = impl, .cb = timer_fire_cb};
    impl->env = env;
    impl->timer = timer;
    impl->next = env->timer_list;
    env->timer_list = impl;
    env->timers++;
    timer->impl = impl;
    return ENV_OK;
}

static void sim_env_timer_set(struct env *env, struct env_timer *timer, uint64_t at_us)
{
    struct sim_timer *impl = timer->impl;

    assert(impl != NULL);
    if (env_of(env)->dead) {
        return;
    }
    impl->at_us = at_us;
    timer_schedule(impl);
}

static void sim_env_timer_stop(struct env *env, struct env_timer *timer)
{
    struct sim_timer *impl = timer->impl;

    assert(impl != NULL);
    sim_world_cancel(env_of(env)->world, &impl->task);
}

static void sim_env_timer_fini(struct env *base, struct env_timer *timer)
{
    struct sim_env *env = env_of(base);
    struct sim_timer *impl = timer->impl;
    struct sim_timer **link = &env->timer_list;

    assert(impl != NULL);
    while (*link != impl) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = impl->next;
    sim_world_cancel(env->world, &impl->task);
    free(impl);
    timer->impl = NULL;
    env->timers--;
}

/* --- Messages ---------------------------------------------------------------------------------------------------- */

static bool sim_env_send(struct env *base, uint64_t peer_id, const struct iovec *pieces, unsigned n)
{
    struct sim_env *env = env_of(base);

    if (fuse_burns(env) || env->dead) {
        return false;
    }
    return env->owner.send(env->owner.ctx, peer_id, pieces, n);
}

/* --- Disk -------------------------------------------------------------------------------------------------------- */

static enum env_status sim_env_list(struct env *env, void (*each)(void *ctx, const char *name, uint64_t size),
                                    void *ctx)
{
    if (env_of(env)->dead) {
        return ENV_IO;
    }
    sim_disk_list(env_of(env)->disk, each, ctx);
    return ENV_OK;
}

static enum env_status sim_env_open(struct env *env, const char *name, struct env_file **file, uint64_t *size)
{
    return env_of(env)->dead ? ENV_IO : sim_disk_open(env_of(env)->disk, name, file, size);
}

static enum env_status sim_env_create(struct env *base, const char *name, uint64_t size, struct env_file **file)
{
    struct sim_env *env = env_of(base);
    bool dying = fuse_burns(env);

    return env->dead && !dying ? ENV_IO : sim_disk_create(env->disk, name, size, file, dying);
}

static enum env_status sim_env_read_sync(struct env *env, struct env_file *file, uint64_t offset, void *buf, size_t len)
{
    return env_of(env)->dead ? ENV_IO : sim_disk_read(env_of(env)->disk, file, offset, buf, len);
}

static enum env_status sim_env_write_sync(struct env *base, struct env_file *file, uint64_t offset, const void *buf,
                                          size_t len)
{
    struct sim_env *env = env_of(base);
    bool dying = fuse_burns(env);

    return env->dead && !dying ? ENV_IO : sim_disk_write(env->disk, file, offset, buf, len, dying);
}

static enum env_status sim_env_rename_sync(struct env *base, const char *from, const char *to)
{
    struct sim_env *env = env_of(base);
    bool dying = fuse_burns(env);

    return env->dead && !dying ? ENV_IO : sim_disk_rename(env->disk, from, to, dying);
}

static enum env_status sim_env_remove_sync(struct env *base, const char *name)
{
    struct sim_env *env = env_of(base);
    bool dying = fuse_burns(env);

    return env->dead && !dying ? ENV_IO : sim_disk_remove(env->disk, name, dying);
}

static void sim_env_close(struct env *env, struct env_file *file)
{
    sim_disk_close(env_of(env)->disk, file);
}

static uint64_t sim_env_free_bytes(struct env *env)
{
    return sim_disk_free_bytes(env_of(env)->disk);
}

static void sim_env_submit(struct env *base, struct env_disk_req *req)
{
    struct sim_env *env = env_of(base);

    if (env->dead) {
        sim_disk_submit_dead(env->disk, req);
        return;
    }
    /* A node that dies here has handed the request to its disk: whether it began is decided by the crash. */
    sim_disk_submit(env->disk, req);
    (void)fuse_burns(env);
}

/* --- The rest ---------------------------------------------------------------------------------------------------- */

static void sim_env_log(struct env *env, int level, const char *text)
{
    env_of(env)->owner.log(env_of(env)->owner.ctx, level, text);
}

static void sim_env_fail_stop(struct env *base, const char *what, const char *advice)
{
    struct sim_env *env = env_of(base);

    if (!env->dead) {
        env->dead = true;
        env->owner.died(env->owner.ctx, what, advice);
    }
}

static const struct env_ops sim_env_ops = {
    .now_us = sim_env_now_us,
    .wall_ms = sim_env_wall_ms,
    .random = sim_env_random,
    .timer_init = sim_env_timer_init,
    .timer_set = sim_env_timer_set,
    .timer_stop = sim_env_timer_stop,
    .timer_fini = sim_env_timer_fini,
    .send = sim_env_send,
    .list = sim_env_list,
    .open = sim_env_open,
    .create = sim_env_create,
    .read_sync = sim_env_read_sync,
    .write_sync = sim_env_write_sync,
    .rename_sync = sim_env_rename_sync,
    .remove_sync = sim_env_remove_sync,
    .close = sim_env_close,
    .free_bytes = sim_env_free_bytes,
    .submit = sim_env_submit,
    .log = sim_env_log,
    .fail_stop = sim_env_fail_stop,
};

void sim_env_init(struct sim_env *env, struct sim_world *world, struct sim_disk *disk, struct sim_clock *clock,
                  struct sim_random random, uint64_t id, const struct sim_env_owner *owner)
{
    memset(env, 0, sizeof *env);
    env->env.ops = &sim_env_ops;
    env->world = world;
    env->disk = disk;
    env->clock = clock;
    env->random = random;
    env->id = id;
    env->owner = *owner;
}

void sim_env_kill(struct sim_env *env)
{
    env->dead = true;
}

void sim_env_fini(struct sim_env *env)
{
    while (env->timer_list != NULL) {
        struct sim_timer *timer = env->timer_list;

        env->timer_list = timer->next;
        sim_world_cancel(env->world, &timer->task);
        free(timer);
    }
    env->timers = 0;
}
