/* The phases of a libuv loop turn, for owners that collect work during a turn and finish it at the end: owns a prepare,
 * a check and an idle handle, knows nothing of sockets. Loop thread only.
 *
 * libuv runs timers, idle, prepare, poll (sockets, uv_async, thread pool), check, close callbacks, and again. Whatever
 * is collected in any of them goes out in the next prepare phase: that is the last moment before the loop may sleep,
 * and it lies after every phase in which replies and frames come into being, disk completions included. Work that is
 * collected after it (by a prepare handle that happens to run later) must not wait for the next event: an idle handle
 * stays active while anything is collected, so that the poll does not block. Starting and stopping an idle handle
 * costs no system call. */
#ifndef LOCKSTEP_TURN_H
#define LOCKSTEP_TURN_H

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

struct turn {
    /* public */
    uint64_t number; /* grows by one in each turn, right after the poll phase */
    void *data;
    void (*work)(struct turn *turn);  /* in the idle phase, once per turn while awake; may be NULL */
    bool (*flush)(struct turn *turn); /* in the prepare phase while awake; true: stay awake for the next turn */
    /* private */
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    void (*closed)(struct turn *turn);
    unsigned open;
    bool awake;
};

/* The caller sets data, work and flush. Does not keep the loop alive while asleep. Returns 0 or a libuv error. */
int turn_init(struct turn *turn, uv_loop_t *loop);
/* Something was collected: work and flush are called in this turn. Cheap. */
void turn_wake(struct turn *turn);
/* `closed` is called from the last close callback. */
void turn_close(struct turn *turn, void (*closed)(struct turn *turn));

#endif
