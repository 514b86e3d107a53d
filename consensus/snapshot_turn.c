#include "consensus/snapshot_turn.h"

#include <stddef.h>

static bool reaches(uint64_t amount, uint64_t due, unsigned times)
{
    return due != 0 && amount / times >= due;
}

enum snapshot_step snapshot_step(const struct snapshot_need *need, enum snapshot_turn turn)
{
    if (need->asked) {
        return SNAPSHOT_BEGINS;
    }
    if (!reaches(need->log_bytes, need->log_bytes_due, 1) && !reaches(need->age_us, need->age_us_due, 1)) {
        return SNAPSHOT_NOT_DUE;
    }
    if (turn == SNAPSHOT_TURN_OWN || turn == SNAPSHOT_TURN_UNKNOWN) {
        return SNAPSHOT_BEGINS;
    }
    const bool overdue = reaches(need->log_bytes, need->log_bytes_due, SNAPSHOT_OVERDUE_TIMES) ||
                         reaches(need->age_us, need->age_us_due, SNAPSHOT_OVERDUE_TIMES);
    return overdue ? SNAPSHOT_OVERDUE : SNAPSHOT_WAITS;
}

/* Does `a` go before `b`? */
static bool goes_before(const struct snapshot_claim *a, const struct snapshot_claim *b, uint64_t leader)
{
    if (a->served != b->served) {
        return a->served < b->served;
    }
    if ((a->id == leader) != (b->id == leader)) {
        return b->id == leader;
    }
    return a->id < b->id;
}

uint64_t snapshot_turn_next(const struct snapshot_claim *claims, unsigned n, uint64_t holder, uint64_t leader)
{
    const struct snapshot_claim *first = NULL;
    uint64_t writer = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct snapshot_claim *claim = &claims[i];
        if (claim->id == holder && (claim->waits || claim->writes)) {
            return holder;
        }
        if (claim->writes && (writer == 0 || claim->id < writer)) {
            writer = claim->id;
        }
        if (claim->waits && (first == NULL || goes_before(claim, first, leader))) {
            first = claim;
        }
    }
    return writer != 0 ? writer : first != NULL ? first->id : 0;
}
