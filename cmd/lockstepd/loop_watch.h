/* How long the turns of the event loop take: owns the figures and a descriptor of the kernel's account of this thread.
 * Knows nothing of what the turns do. Loop thread only. */
#ifndef LOCKSTEP_LOOP_WATCH_H
#define LOCKSTEP_LOOP_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define LOOP_STALL_US 10000u

/* Since the last reset, in microseconds. Of each turn three times are kept: from its first event to its end (`max`);
 * what of that the thread ran (`max_cpu`); and all but the waiting for a core (`max_own`), so what the turn ran or was
 * blocked by anything else. Only the last two say something about this program: on a crowded machine the first does
 * not. */
struct loop_figures {
    uint64_t last, max, max_cpu, max_own;
    uint64_t over_10ms, own_over_10ms; /* turns above LOOP_STALL_US, by `max` and by `max_own` */
    uint64_t core_wait;                /* ready to run and without a core, all together */
};

struct loop_watch {
    uv_loop_t *loop;
    int schedstat; /* < 0: the kernel does not tell, waiting counts as our own */
    uint64_t at_us, idle_us, cpu_us;
    uint64_t waited_us; /* for a core, as last read */
    struct loop_figures figures;
};

/* Before the loop runs its first turn, in its thread. */
void loop_watch_init(struct loop_watch *watch, uv_loop_t *loop);
void loop_watch_fini(struct loop_watch *watch);
/* At the end of each turn, before the loop may sleep. `also`: figures beside its own that the turn counts in, or NULL.
 * Costs two clock readings. */
void loop_watch_turn(struct loop_watch *watch, struct loop_figures *also);
/* Every 100 ms or so: reads the kernel's account, so that a long turn is not excused by waits of long ago. */
void loop_watch_tick(struct loop_watch *watch);
void loop_watch_reset(struct loop_watch *watch);

/* One turn: `busy` from first event to end, `cpu` of it running; `waited` for a core, in or somewhat before it. */
void loop_figures_add(struct loop_figures *figures, uint64_t busy, uint64_t cpu, uint64_t waited);

#endif
