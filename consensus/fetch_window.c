#include "consensus/fetch_window.h"

#include <assert.h>

#define BEGIN_BYTES (128u << 10)
/* Shorter intervals say little about the rate. */
#define INTERVAL_MIN_US 5000u
/* Bytes per second that are worth telling apart. */
#define RATE_MAX 10000000000u

void fetch_window_init(struct fetch_window *window, uint64_t election_timeout_us)
{
    *window = (struct fetch_window){.queue_us = election_timeout_us / 8, .rtt_us = UINT64_MAX, .bytes = BEGIN_BYTES};
}

/* At most twice or half of what it was: one interval may be an odd one. */
static void adapt(struct fetch_window *window, uint64_t interval_us)
{
    const uint64_t rate = window->taken * 1000000 / interval_us;
    const uint64_t ahead_us = window->rtt_us + window->queue_us;
    uint64_t bytes = (rate < RATE_MAX ? rate : RATE_MAX) * ahead_us / 1000000;

    bytes = bytes > (uint64_t)window->bytes * 2 ? (uint64_t)window->bytes * 2 : bytes;
    bytes = bytes < window->bytes / 2 ? window->bytes / 2 : bytes;
    bytes = bytes > FETCH_WINDOW_MAX ? FETCH_WINDOW_MAX : bytes;
    window->bytes = bytes < FETCH_WINDOW_MIN ? FETCH_WINDOW_MIN : (uint32_t)bytes;
}

void fetch_window_taken(struct fetch_window *window, uint32_t len, uint64_t stamp_us, uint64_t now_us)
{
    const uint64_t rtt_us = now_us > stamp_us ? now_us - stamp_us : 1;

    window->rtt_us = rtt_us < window->rtt_us ? rtt_us : window->rtt_us;
    if (window->begins_us == 0) {
        window->begins_us = now_us; /* what came before was not under way all the time */
        window->taken = 0;
        return;
    }
    window->taken += len;
    const uint64_t interval_us = now_us - window->begins_us;
    const uint64_t wanted_us = window->rtt_us > INTERVAL_MIN_US ? window->rtt_us : INTERVAL_MIN_US;
    if (interval_us >= wanted_us) {
        adapt(window, interval_us);
        window->begins_us = now_us;
        window->taken = 0;
    }
    assert(window->bytes >= FETCH_WINDOW_MIN);
    assert(window->bytes <= FETCH_WINDOW_MAX);
}

uint64_t fetch_pace(uint64_t free_us, uint64_t now_us, uint64_t len, uint64_t rate)
{
    const uint64_t earliest_us = now_us > FETCH_PACE_LATE_US ? now_us - FETCH_PACE_LATE_US : 0;

    assert(rate > 0);
    return (free_us > earliest_us ? free_us : earliest_us) + len * 1000000 / rate;
}
