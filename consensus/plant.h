/* Planted bugs: PLANT(x) is 0 in ordinary builds. With LOCKSTEP_PLANT the global selects the one rule that is broken,
 * to show that the simulator catches it. */
#ifndef LOCKSTEP_PLANT_H
#define LOCKSTEP_PLANT_H

enum plant {
    PLANT_NONE,
    PLANT_ACK_BEFORE_SYNC,      /* entries count as persisted before the disk says so */
    PLANT_SKIP_BARRIER,         /* a new leader reads before an entry of its term is applied */
    PLANT_VOTE_TWICE,           /* the vote is not remembered across a restart */
    PLANT_APPLY_TWICE,          /* an entry is applied again */
    PLANT_APPLY_TWICE_AT_FIRST, /* the same until content is made anew (tests/integration) */
    PLANT_NO_VOTE_GUARD,        /* a restarted node votes at once */
    PLANT_EXPOSE_EARLY,         /* exposure ignores grantees */
    PLANT_TRANSFER_EARLY,       /* leadership is handed over while grants are out */
    PLANT_LEASE_AFTER_TRANSFER, /* the lease is kept after TimeoutNow */
    PLANT_STALE_READ,           /* reads are not confirmed by a round of echoes */
    PLANT_STALE_LEASE,          /* a leader reads from memory without looking whether its lease still runs (jepsen/) */
    PLANT_LOST_TRUNCATE,        /* a completed write is reported for entries that were replaced while it ran */
    PLANT_LEARNER_COUNTS,       /* what learners have stored counts towards the majority of an entry (jepsen/) */
    PLANT_LOST_DISK,            /* a node that lost its disk counts as the one it was (jepsen/) */
    PLANT_LOST_EXPIRY,          /* the cluster time of a node that was restarted stands still (jepsen/) */
    PLANT_CHANGE_ROLLBACK,      /* a rolled-back change takes the committed one before it along */
    PLANT_DEPOSED_VOTES,        /* a former leader votes while its grants are out */
    PLANT_NO_DRIFT_WATCH,       /* the rates of other nodes' clocks are not looked at */
    PLANT_TWO_CHANGES,          /* a change is proposed before the one before it is committed */
    PLANT_REMOVE_GRANTEE,       /* a node is removed while it holds a grant: writers wait for the end of that */
    PLANT_SEND_DEMOTION,        /* a voter gets its demotion before that is committed */
    PLANT_PRE_VOTE_TERM,        /* a refused pre-vote does not tell the candidate the voter's term */
    PLANT_INSTALL_UNSYNCED,     /* a snapshot from another node is installed before it is on stable storage */
    PLANT_PRUNE_OPEN,           /* a snapshot counts as unused while a read of it is still in flight */
    PLANT_SKIP_CHECKSUM,        /* bytes of the log and of snapshots are taken as they come from the disk */
    PLANT_NO_QUARANTINE,        /* a replica whose content differs goes on as before */
    PLANT_REBUILD_SKIPS,        /* what is applied behind a rebuilt content begins too late */
    PLANT_REBUILD_FORGETS,      /* a rebuild resets the log to the snapshot, as an installation does */
    PLANT_REBUILD_ENDLESS,      /* a node is rebuilt again and again */
    PLANT_REBUILD_DISPUTED,     /* a node goes into quarantine, and is rebuilt, though no majority says who is right */
    PLANT_SNAPSHOT_CROWD,       /* a snapshot that is due does not wait for another member's */
    PLANT_SNAPSHOT_HASTY,       /* ... nor does a new leader wait until it has heard who writes one */
    PLANT_SNAPSHOT_STARVED,     /* ... or it waits without a bound */
    PLANT_FEATURE_LEVEL         /* the feature level is raised although not all nodes understand it */
};

#ifdef LOCKSTEP_PLANT
extern int lockstep_plant;
#define PLANT(x) (lockstep_plant == (int)(x))
#else
#define PLANT(x) (0)
#endif

#endif
