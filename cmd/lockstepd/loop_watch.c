#include "cmd/lockstepd/loop_watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Only for turns longer than this the kernel is asked: that takes a system call, and there are thousands of turns a
 * second. */
#define LOOK_US 1000u

static uint64_t thread_cpu_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* What the thread waited for a core since the last call (proc(5): the second number of schedstat, in nanoseconds). */
static uint64_t core_wait_us(struct loop_watch *watch)
{
    char text[96];
    unsigned long long ran_ns, waited_ns;
    const ssize_t n = watch->schedstat < 0 ? -1 : pread(watch->schedstat, text, sizeof text - 1, 0);

    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    if (sscanf(text, "%llu %llu", &ran_ns, &waited_ns) != 2 || waited_ns / 1000 < watch->waited_us) {
        return 0;
    }
    const uint64_t more = waited_ns / 1000 - watch->waited_us;
    watch->waited_us += more;
    watch->figures.core_wait += more;
    return more;
}

void loop_watch_init(struct loop_watch *watch, uv_loop_t *loop)
{
    *watch = (struct loop_watch){.loop = loop};
    (void)uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
    watch->schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    loop_watch_reset(watch);
}

void loop_watch_fini(struct loop_watch *watch)
{
    if (watch->schedstat >= 0) {
        close(watch->schedstat);
        watch->schedstat = -1;
    }
}

static void raise_to(uint64_t *max, uint64_t value)
{
    if (value > *max) {
        *max = value;
    }
}

void loop_figures_add(struct loop_figures *f, uint64_t busy, uint64_t cpu, uint64_t waited)
{
    const uint64_t off_cpu = busy > cpu ? busy - cpu : 0;
    const uint64_t own = busy - (waited < off_cpu ? waited : off_cpu);

    f->last = busy;
    raise_to(&f->max, busy);
    raise_to(&f->max_cpu, cpu);
    raise_to(&f->max_own, own);
    f->over_10ms += busy > LOOP_STALL_US;
    f->own_over_10ms += own > LOOP_STALL_US;
}

void loop_watch_turn(struct loop_watch *watch, struct loop_figures *also)
{
    const uint64_t at_us = uv_hrtime() / 1000;
    const uint64_t idle_us = uv_metrics_idle_time(watch->loop) / 1000;
    const uint64_t cpu_us = thread_cpu_us();

    if (watch->at_us != 0) {
        const uint64_t elapsed = at_us - watch->at_us;
        const uint64_t idle = idle_us - watch->idle_us;
        const uint64_t busy = elapsed > idle ? elapsed - idle : 0;
        const uint64_t waited = busy > LOOK_US ? core_wait_us(watch) : 0;
        loop_figures_add(&watch->figures, busy, cpu_us - watch->cpu_us, waited);
        if (also != NULL) {
            loop_figures_add(also, busy, cpu_us - watch->cpu_us, waited);
        }
    }
    watch->at_us = at_us;
    watch->idle_us = idle_us;
    watch->cpu_us = cpu_us;
}

void loop_watch_tick(struct loop_watch *watch)
{
    (void)core_wait_us(watch);
}

void loop_watch_reset(struct loop_watch *watch)
{
    (void)core_wait_us(watch);
    watch->figures = (struct loop_figures){0};
}
