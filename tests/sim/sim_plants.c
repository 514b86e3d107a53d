#include "tests/sim/sim_plants.h"

#include <stddef.h>

#include "consensus/plant.h"
#include "store/plant.h"

#ifdef LOCKSTEP_PLANT

/* Bugs of the store are numbered behind those of consensus. */
#define STORE_FIRST 1000
#define STORE(plant) (STORE_FIRST + (int)(plant))

int lockstep_plant = PLANT_NONE;
int store_plant = STORE_PLANT_NONE;

const struct sim_plant sim_plants[] = {
    {"ack-before-sync", PLANT_ACK_BEFORE_SYNC, "entries count as persisted before the disk says so", "power-cut"},
    {"skip-barrier", PLANT_SKIP_BARRIER, "a new leader reads before an entry of its term is applied", "torn-tail"},
    {"vote-twice", PLANT_VOTE_TWICE, "the vote is forgotten at a restart", "double-vote"},
    {"apply-twice", PLANT_APPLY_TWICE, "an entry is applied again", "quiet"},
    {"stale-read", PLANT_STALE_READ, "reads are not confirmed by a round of echoes", "transfer-cut"},
    {"lost-truncate", PLANT_LOST_TRUNCATE, "a write is reported for entries that were replaced while it ran",
     "replaced-in-flight"},
    {"stale-lease", PLANT_STALE_LEASE, "a leader reads from memory without looking at its lease", "transfer-cut"},
    {"lost-expiry", PLANT_LOST_EXPIRY, "the cluster time of a restarted node stands still", "orderly-restart"},
    {"no-vote-guard", PLANT_NO_VOTE_GUARD, "a restarted node votes at once, against its promise to a lease",
     "vote-guard"},
    {"expose-early", PLANT_EXPOSE_EARLY, "writes are shown before all grantees have received them",
     "transfer-under-grant"},
    {"transfer-early", PLANT_TRANSFER_EARLY, "leadership is handed over while grants are out", "transfer-under-grant"},
    {"lease-after-transfer", PLANT_LEASE_AFTER_TRANSFER, "the lease is kept after leadership was offered",
     "transfer-cut"},
    {"change-rollback", PLANT_CHANGE_ROLLBACK, "a rolled-back change takes the committed one before it along",
     "member-rollback"},
    {"two-changes", PLANT_TWO_CHANGES, "a change is proposed before the one before it is committed", "member-two"},
    {"remove-grantee", PLANT_REMOVE_GRANTEE, "a node is removed while it may read: writers wait", "member-removed"},
    {"send-demotion", PLANT_SEND_DEMOTION, "a voter gets its demotion before that is committed", "member-sole"},
    {"pre-vote-term", PLANT_PRE_VOTE_TERM, "a refused pre-vote does not tell the candidate the voter's term",
     "pre-vote-term"},
    {"install-unsynced", PLANT_INSTALL_UNSYNCED, "a received snapshot is installed before it is on stable storage",
     "install-synced"},
    {"prune-open", PLANT_PRUNE_OPEN, "a snapshot is removed while a read of it is in flight", "install-pruned"},
    {"skip-checksum", PLANT_SKIP_CHECKSUM, "what the disk gives is taken without looking at checksums", "log-flip"},
    {"not-a-cut", STORE(STORE_PLANT_NOT_A_CUT), "a snapshot holds changes made after its cut", "snapshot-cut"},
    {"snapshot-crowd", PLANT_SNAPSHOT_CROWD, "a snapshot that is due does not wait for another member's",
     "snapshot-turns"},
    {"snapshot-hasty", PLANT_SNAPSHOT_HASTY, "a new leader gives the turn before it has heard who writes a snapshot",
     "snapshot-turns-leader"},
    {"snapshot-starved", PLANT_SNAPSHOT_STARVED, "a snapshot waits for another member's without a bound",
     "snapshot-stuck"},
    {"feature-level", PLANT_FEATURE_LEVEL, "the feature level is raised although one node does not understand it",
     "upgrade"},
    {"no-quarantine", PLANT_NO_QUARANTINE, "a replica whose content differs goes on as before", "spoilt"},
    {"rebuild-skips", PLANT_REBUILD_SKIPS, "what is applied behind a rebuilt content begins too late", "rebuild"},
    {"rebuild-forgets", PLANT_REBUILD_FORGETS, "a rebuild throws the log behind its snapshot away", "rebuild-promises"},
    {"rebuild-endless", PLANT_REBUILD_ENDLESS, "a node is rebuilt again and again", "rebuild-again"},
    {"rebuild-disputed", PLANT_REBUILD_DISPUTED, "a node is rebuilt though no majority says who is right",
     "spoilt-no-majority"},
    {"deposed-votes", PLANT_DEPOSED_VOTES, "a former leader votes while its grants are out", "deposed-grants"},
    {"no-drift-watch", PLANT_NO_DRIFT_WATCH, "the rates of other nodes' clocks are not looked at", "clock-slow-leader"},
    {NULL, 0, NULL, NULL},
};

void sim_plant_select(const struct sim_plant *plant)
{
    const int number = plant == NULL ? PLANT_NONE : plant->number;

    lockstep_plant = number < STORE_FIRST ? number : PLANT_NONE;
    store_plant = number < STORE_FIRST ? STORE_PLANT_NONE : number - STORE_FIRST;
}

#else

const struct sim_plant sim_plants[] = {{NULL, 0, NULL, NULL}};

void sim_plant_select(const struct sim_plant *plant)
{
    (void)plant;
}

#endif
