/* How much of a snapshot file to have under way from its sender: as much as the path carries while nothing waits long.
 * Pure arithmetic on instants passed in; knows nothing of files and frames.
 *
 * Pieces share a connection with heartbeats, which must not wait behind them. So the window is what the path delivers
 * in one round trip, plus what it delivers in an eighth of the election timeout: the first fills the path, the second
 * is all that can ever queue up in it. While the path is not full, each round carries more than the one before.
 *
 * Beside it, the sender's bound: at which rate pieces may leave. */
#ifndef LOCKSTEP_FETCH_WINDOW_H
#define LOCKSTEP_FETCH_WINDOW_H

#include <stdint.h>

/* Bounds of the window. A piece that begins within the window comes whole. */
#define FETCH_WINDOW_MIN (16u << 10)
#define FETCH_WINDOW_MAX (2u << 20)

struct fetch_window {
    /* private */
    uint64_t queue_us;  /* what may queue up, as time */
    uint64_t rtt_us;    /* shortest round trip seen, UINT64_MAX: none */
    uint64_t begins_us; /* of the interval that is being measured, 0: none */
    uint64_t taken;     /* bytes in it */
    uint32_t bytes;
};

/* For a new connection or sender. */
void fetch_window_init(struct fetch_window *window, uint64_t election_timeout_us);
/* A piece of `len` bytes was taken at `now_us`, sent after the ask that was stamped `stamp_us` had arrived. */
void fetch_window_taken(struct fetch_window *window, uint32_t len, uint64_t stamp_us, uint64_t now_us);
/* FETCH_WINDOW_MIN to FETCH_WINDOW_MAX. */
static inline uint32_t fetch_window_bytes(const struct fetch_window *window)
{
    return window->bytes;
}

/* What a late timer kept from leaving is made up for, if it was late by no more than this. */
#define FETCH_PACE_LATE_US 5000u
/* A piece of `len` bytes left at `now_us`; `free_us` is what this said of the one before, 0 at first. Returns the
 * instant from which the next one may leave, so that over a longer time `rate` bytes per second (1 or more) do. */
uint64_t fetch_pace(uint64_t free_us, uint64_t now_us, uint64_t len, uint64_t rate);

#endif
