/* Whose turn it is to write a snapshot, so that the members of a cluster don't all write at once. Two pure functions:
 * the leader, who hears from everybody, gives the turn to one member at a time; each member decides whether to begin.
 * Owns nothing, knows nothing of the core, of messages, or of the clock. docs/OPERATIONS.md, section Snapshots and
 * restart. */
#ifndef LOCKSTEP_SNAPSHOT_TURN_H
#define LOCKSTEP_SNAPSHOT_TURN_H

#include <stdbool.h>
#include <stdint.h>

/* What the leader says to a member. The numbers travel: docs/FORMATS.md, section Peer messages. */
enum snapshot_turn {
    SNAPSHOT_TURN_UNKNOWN = 0, /* this leader gives no turns: an earlier version */
    SNAPSHOT_TURN_OPEN = 1,    /* nobody has it */
    SNAPSHOT_TURN_OTHER = 2,   /* another member has it */
    SNAPSHOT_TURN_OWN = 3
};

/* --- A member ----------------------------------------------------------------------------------------------------- */

/* At so many times what makes a snapshot due it is begun, whoever has the turn: this bounds the log. */
#define SNAPSHOT_OVERDUE_TIMES 2u

struct snapshot_need {
    uint64_t log_bytes, log_bytes_due; /* of log behind the newest one; due from here on, 0: not for the log's size */
    uint64_t age_us, age_us_due;       /* since the newest one; due from here on, 0: not for its age */
    bool asked;                        /* somebody waits for it */
};

enum snapshot_step {
    SNAPSHOT_NOT_DUE,
    SNAPSHOT_WAITS,  /* due, but not this node's turn */
    SNAPSHOT_BEGINS, /* asked for, or due and in turn */
    SNAPSHOT_OVERDUE /* begins out of turn */
};

enum snapshot_step snapshot_step(const struct snapshot_need *need, enum snapshot_turn turn);

/* --- The leader --------------------------------------------------------------------------------------------------- */

/* What is known of a member, the leader included. */
struct snapshot_claim {
    uint64_t id;     /* not 0 */
    bool waits;      /* its snapshot is due */
    bool writes;     /* one is under way */
    uint64_t served; /* greater the later it began its last one, as far as this leader saw; 0: it saw none */
};

/* Who has the turn from now on, 0: nobody. `holder` had it until now (0: nobody) and keeps it for as long as it waits
 * or writes; else it goes to one that writes already, out of turn; else to the one that waits and was served longest
 * ago. Among equals the lowest id goes first, and the leader, whose processor clients need most, last. */
uint64_t snapshot_turn_next(const struct snapshot_claim *claims, unsigned n, uint64_t holder, uint64_t leader);

#endif
