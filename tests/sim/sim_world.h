/* The simulated world: true time in microseconds, the queue of what happens next, the trace, and the first violation.
 * Owns no nodes; knows nothing of Raft, disks or keys. One thread. */
#ifndef LOCKSTEP_SIM_WORLD_H
#define LOCKSTEP_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim_random.h"

#define SIM_LOG_LINES 400u
#define SIM_LOG_BYTES 240u
#define SIM_NEVER UINT64_MAX

/* Something that happens at a time, embedded by its owner. */
struct sim_task {
    /* public */
    void *data;
    void (*cb)(struct sim_task *task);
    /* private */
    uint64_t at_us;
    uint64_t sequence; /* orders tasks of one instant */
    size_t position;   /* in the heap, plus one; 0: not queued */
};

struct sim_world {
    /* public, read only */
    uint64_t now_us;
    uint64_t seed;
    uint64_t events; /* fired so far */
    uint64_t trace;  /* hash over everything that happened: equal for equal seeds */
    bool violated;
    char invariant[48]; /* name of the violated invariant */
    char violation[1024];
    uint64_t violation_us;
    bool verbose;
    struct sim_random random;
    /* private */
    struct sim_task **heap;
    size_t heap_n, heap_capacity;
    uint64_t sequence;
    char (*log)[SIM_LOG_BYTES]; /* ring of the last lines */
    uint64_t log_n;
};

void sim_world_init(struct sim_world *world, uint64_t seed, bool verbose);
/* Tasks still queued are forgotten: their owners free them. */
void sim_world_fini(struct sim_world *world);

/* Fire `task` at `at_us` (or now, if that has passed), after what was queued for the same instant. Moves a task that
 * is queued already. */
void sim_world_at(struct sim_world *world, struct sim_task *task, uint64_t at_us);
void sim_world_after(struct sim_world *world, struct sim_task *task, uint64_t delay_us);
void sim_world_cancel(struct sim_world *world, struct sim_task *task);
bool sim_task_is_queued(const struct sim_task *task);
/* Fire the next task, if it is due at or before `until_us`; otherwise move time there and return false. */
bool sim_world_step(struct sim_world *world, uint64_t until_us);

/* Mix what happened into the trace hash. */
void sim_world_trace(struct sim_world *world, uint64_t what, uint64_t a, uint64_t b);
/* One line for the reader of a failure; kept in a ring, printed at once if verbose. */
void sim_world_log(struct sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Print the newest `n` kept lines. */
void sim_world_print_log(const struct sim_world *world, unsigned n);
/* A rule is broken. The first one counts. */
void sim_world_violation(struct sim_world *world, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
