#include "tests/sim/sim_scenario.h"

#include <string.h>

#include "tests/sim/sim_content.h"
#include "tests/sim/sim_crashes.h"
#include "tests/sim/sim_faulty_disk.h"
#include "tests/sim/sim_hazards.h"
#include "tests/sim/sim_install.h"
#include "tests/sim/sim_links.h"
#include "tests/sim/sim_members.h"
#include "tests/sim/sim_snapshots.h"
#include "tests/sim/sim_story.h"
#include "tests/sim/sim_times.h"
#include "tests/sim/sim_turns.h"
#include "tests/sim/sim_upgrade.h"

#define SECOND 1000000u

static void quiet(struct sim_cluster *cluster)
{
    uint64_t elections = cluster->check.elections;

    sim_cluster_run(cluster, 10 * SECOND);
    sim_story_require(cluster, cluster->check.elections == elections, "without faults the leader must stay");
    sim_story_require(cluster, cluster->workload.unknown == 0, "without faults every outcome is known");
}

const struct sim_scenario sim_scenarios[] = {
    {"quiet", "no faults at all: one leader throughout, every outcome known", 3, quiet},
    {"leader-crash", "the leader crashes under load, again and again", 3, sim_crash_leader},
    {"dead-leader-replaced", "links break with their leader: the next one stands at once", 3, sim_crash_replaced},
    {"all-crash", "all nodes crash at once under load", 3, sim_crash_all},
    {"minority-crash", "the leader and another of five nodes crash", 5, sim_crash_minority},
    {"single-node", "a node of its own crashes under load", 1, sim_crash_all},
    {"power-cut", "the power goes everywhere while all disks are busy with a write", 3, sim_crash_power},
    {"torn-tail", "crashes in the middle of log writes leave torn blocks", 3, sim_crash_torn},
    {"crash-inside", "crashes at the n-th call of an event: between vote and message, in recovery", 3,
     sim_crash_inside},
    {"restart-storm", "random crashes and stops, faster than elections", 3, sim_crash_storm},
    {"orderly-restart", "all nodes are stopped in an orderly way and started", 3, sim_crash_orderly},
    {"lagging-follower", "a follower returns after the in-memory log has moved on: entries are read from disk", 3,
     sim_crash_lagging},
    {"leader-mute", "one-way partition: nobody hears the leader", 3, sim_link_mute},
    {"leader-deaf", "one-way partition: the leader hears nobody, but is heard", 3, sim_link_deaf},
    {"isolated-tail", "an isolated leader's uncommitted tail is replaced when it returns", 5, sim_link_tail},
    {"elections", "many elections in a row", 5, sim_link_elections},
    {"double-vote", "a voter crashes after its vote and meets a candidate of the same term", 3, sim_link_double_vote},
    {"pre-vote-term", "the node with the better log has the earlier term", 3, sim_link_pre_vote_term},
    {"stale-read", "an isolated old leader must not answer reads", 3, sim_link_stale_read},
    {"replaced-in-flight", "a tail is replaced while the disk still writes it, and the write must not count", 5,
     sim_link_replaced},
    {"vote-guard", "a restarted voter is asked for its vote while its echo backs a lease", 3, sim_hazard_vote_guard},
    {"transfer-under-grant", "leadership is handed over while a cut-off node may read locally", 3,
     sim_hazard_transfer_under_grant},
    {"transfers", "leadership is handed over under load", 5, sim_hazard_transfers},
    {"reads-return", "leases and grants come back while reads are confirmed by a quorum", 3, sim_hazard_reads_return},
    {"no-extra-trip", "a write takes as many frames of the leader with grants out as without grants", 3,
     sim_hazard_no_extra_trip},
    {"transfer-cut", "a leader hands over and hears nothing of its successor", 3, sim_hazard_transfer_cut},
    {"transfer-behind", "leadership is handed to a node that still writes what others have stored", 3,
     sim_hazard_transfer_behind},
    {"deposed-grants", "a leader steps down while a cut-off node holds its grant, and is asked for its vote", 3,
     sim_hazard_deposed_grants},
    {"clock-slow-leader", "the leader's clock is slow, beyond the bound; then it is cut off", 3,
     sim_hazard_slow_leader},
    {"clock-stopped", "the leader's clock stands still; then it is cut off", 3, sim_hazard_stopped_leader},
    {"clock-fast-voter", "a voter's clock is fast, beyond the bound; then the leader is cut off", 3,
     sim_hazard_fast_voter},
    {"clock-slow-reader", "a grantee's clock is slow, beyond the bound; then it is cut off", 3, sim_hazard_slow_reader},
    {"slow-follower", "a follower's disk is 400 times slower", 3, sim_faulty_disk_slow_follower},
    {"slow-leader", "the leader's disk is 400 times slower", 3, sim_faulty_disk_slow_leader},
    {"full-disk", "all disks fill up: writes are refused, reads go on, leadership can move", 3, sim_faulty_disk_full},
    {"disk-errors", "a failed write stops a node; it recovers when started again", 3, sim_faulty_disk_errors},
    {"log-flip", "a bit flips in an entry far back in the log: the node does not start", 3, sim_faulty_disk_log},
    {"bit-flips", "a flipped bit in durable data: refuse, but never serve wrong data", 3, sim_faulty_disk_bits},
    {"clock-jump", "wall clocks of leaders jump by hours: no key expires early", 3, sim_time_jump},
    {"clock-unused", "a leader that took the time from wall clocks, but stamped nothing, leads again: no step", 3,
     sim_time_unused},
    {"stalled-leader", "the leader's process is stalled, then goes on", 3, sim_time_stall},
    {"chaos", "frames are lost, doubled and reordered", 3, sim_link_chaos},
    {"late-frames", "frames of old connections arrive after those of newer ones", 3, sim_link_late},
    {"upgrade", "a rolling upgrade: the feature level is raised when all nodes understand it, not before", 3,
     sim_upgrade},
    {"spoilt", "the content of a replica goes wrong: it is quarantined, and nobody reads from it", 3,
     sim_spoilt_replicas},
    {"spoilt-no-majority", "two contents differ, and the third node is away: reads are refused until it returns", 3,
     sim_spoilt_without_majority},
    {"rebuild", "a follower's content goes wrong, then the leader's: each is made anew from the others'", 3,
     sim_rebuild},
    {"rebuild-again", "it goes wrong again soon after: the node stays in quarantine", 3, sim_rebuild_again},
    {"rebuild-promises", "what a node acknowledged in quarantine is not lost when it is rebuilt", 3,
     sim_rebuild_promises},
    {"rebuild-crash", "nodes crash and leaders change while one is rebuilt", 3, sim_rebuild_crash},
    {"member-add", "a node with an empty disk is added, promoted, and one of the old ones dies", 4, sim_member_add},
    {"member-rolling", "all nodes are replaced, one after the other", 6, sim_member_rolling},
    {"member-leader", "the leader hands over and is removed", 4, sim_member_leader},
    {"member-returns", "a removed node that has not heard of it comes back and disturbs nobody", 4, sim_member_returns},
    {"member-away", "a voter was away while all others were replaced: its leader is unknown to it", 5, sim_member_away},
    {"member-rollback", "a change is rolled back, not the committed one before it", 7, sim_member_rollback},
    {"member-two", "changes are proposed one right after the other, while the leader is cut off", 8, sim_member_two},
    {"member-removed", "followers that read under grants are removed: writers don't wait for those", 5,
     sim_member_removed},
    {"member-grants", "a lone voter restarts while a learner holds its grant", 2, sim_member_grants},
    {"member-sole", "the leader of two dies before the demotion of the other is on its disk", 2, sim_member_sole},
    {"member-one", "from one node to three and back", 3, sim_member_one},
    {"install", "a follower was away for longer than the log reaches back: it gets a snapshot", 3, sim_install_plain},
    {"install-resume", "links break during a snapshot's transfer: it goes on where it was", 3, sim_install_resume},
    {"install-leader", "leadership moves during a snapshot's transfer: it goes on where it was", 3, sim_install_leader},
    {"install-sender", "the node that sends a snapshot is cut off: another one sends its own", 3, sim_install_sender},
    {"install-crash", "crashes at any point of a snapshot's transfer and installation", 3, sim_install_crash},
    {"install-synced", "the power fails right after an installation", 3, sim_install_synced},
    {"install-damaged", "the snapshot to be sent is damaged: the leader takes another one", 3, sim_install_damaged},
    {"install-damaged-idle", "the same while nobody writes", 3, sim_install_damaged_idle},
    {"install-slow", "the receiver's disk is slow: no more comes than it takes, and nothing twice", 3,
     sim_install_slow},
    {"install-full", "the receiver's disk is full: it fetches the snapshot once there is room", 3, sim_install_full},
    {"install-join", "a new node joins, far behind the log", 4, sim_install_join},
    {"install-pruned", "a transfer is given up in the midst of a read: its file is not removed before that ends", 3,
     sim_install_pruned},
    {"install-released", "a transfer is given up and nobody writes: the log that was kept for it goes", 3,
     sim_install_released},
    {"overtaken-checking", "the log is faster than a received snapshot being checked: its file goes once it is closed",
     3, sim_overtaken_checking},
    {"overtaken-loading", "the log is faster than a received snapshot being loaded: its file goes once it is closed", 3,
     sim_overtaken_loading},
    {"snapshot-restart", "all nodes restart from snapshots, again and again, and the log before them is gone", 3,
     sim_snapshot_restart},
    {"snapshot-crash", "nodes crash while they take snapshots", 3, sim_snapshot_crash},
    {"snapshot-cut", "snapshots taken so slowly that writes change everything meanwhile: nodes start from them", 3,
     sim_snapshot_cut},
    {"snapshot-one", "a lone voter restarts from snapshots, nothing of its log is kept", 1, sim_snapshot_one},
    {"snapshot-damaged", "the newest snapshot is damaged: the one before it and the log serve", 3,
     sim_snapshot_damaged},
    {"snapshot-lost", "the newest snapshot is damaged, and the log does not reach back: refuse", 3, sim_snapshot_lost},
    {"snapshot-full", "the disk fills up while a snapshot is written", 3, sim_snapshot_full},
    {"snapshot-members", "a restart from a snapshot in the middle of changes of the configuration", 4,
     sim_snapshot_members},
    {"snapshot-turns", "snapshots are due on all nodes at the same moment: one at a time writes", 3, sim_turns_taken},
    {"snapshot-turns-leader", "the leader dies while another node writes a snapshot: the next one waits for its end", 3,
     sim_turns_leader},
    {"snapshot-stuck", "the node that has the turn never ends its snapshot: the others' logs stay bounded", 3,
     sim_turns_stuck},
    {0},
};

const struct sim_scenario *sim_scenario_find(const char *name)
{
    for (const struct sim_scenario *scenario = sim_scenarios; scenario->name != NULL; scenario++) {
        if (strcmp(scenario->name, name) == 0) {
            return scenario;
        }
    }
    return NULL;
}
