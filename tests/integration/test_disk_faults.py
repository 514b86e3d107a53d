"""Disks that report errors, lose what they were given, or give something else back: what docs/OPERATIONS.md says of each
fault is shown here on real processes, with a library that stands between the node and its files."""

import contextlib
import glob
import os
import re

from cluster import Cluster, RespError, wait_for
from faults import ONLY_LOG, ONLY_SNAPSHOTS, ONLY_STATE, FaultyDisks
from harness import Load, expect, expect_equal, expect_refuses_start, test, undisturbed_with
from test_disk import check_values, find_bytes, flip_byte, write_values
from test_install import FLAGS as INSTALL_FLAGS
from test_install import leave_behind, wait_installed
from test_snapshots import MIB, SMALL_SEGMENTS, VALUE, expect_same_content, fill, fill_random, snapshots, take

STOPPED = 70  # docs/OPERATIONS.md, Exit codes


def expect_stops(node, *words):
    """The process ends by itself with the status of a fail-stop, and says why; returns its last message."""
    wait_for(lambda: not node.alive(), what="%r to stop itself" % node)
    status = node.process.wait()
    log = node.log_text()
    expect_equal(status, STOPPED, "exit status; log:\n%s" % log[-2000:])
    last = [line for line in log.split("\n") if "fail-stop" in line]
    expect(len(last) == 1, "not one fail-stop in the log:\n%s", log[-2000:])
    for word in words:
        expect(word in last[0], "the message does not mention %r: %s", word, last[0])
    return last[0].split("fail-stop: ")[1]


def acknowledged(node, *command):
    """Was this command answered without an error? A lost connection or -UNKNOWN promise nothing."""
    try:
        node.once(*command)
        return True
    except (OSError, EOFError, RespError):
        return False


def make_leader(cluster, node):
    def leads():
        leader = cluster.wait_leader()
        return leader is node or not leader.call("LOCKSTEP", "TRANSFER", node.id)

    wait_for(leads, what="%r to lead" % node)


def stops_and_comes_back(set_fault, *words, settings=()):
    """One node's log can't be written, under load, first a follower's and then the leader's: the node stops itself, the
    others serve on, and it comes back when its disk is well. Nothing acknowledged is lost."""
    notes = []
    with Cluster(3) as cluster, Load(cluster) as load:
        disks = FaultyDisks(cluster)
        for role in ("follower", "leader"):
            victim = cluster.wait_leader() if role == "leader" else cluster.followers()[0]
            disk = disks[victim]
            for word in settings:
                disk.set(word, 1)
            disks.restart(victim)
            if role == "leader":
                make_leader(cluster, victim)
            load.wait_acks(200)
            failed = disk.get("N_FAILED")
            set_fault(disk)
            notes.append(expect_stops(victim, *words))
            expect_equal(disk.get("N_FAILED") - failed, 1, "writes or syncs that failed: it was not tried again")
            load.wait_acks(200)
            disk.heal()
            victim.start()
            victim.wait_up()
            load.wait_acks(200)
        load.stop()
        cluster.wait_converged()
        load.verify(victim)
        expect_same_content(cluster)
    return notes[0]


@test
def failed_log_write_stops_the_node():
    """EIO on a write of the log: the node stops itself with a message, the cluster serves on, nothing is lost."""

    def fault(disk):
        disk.set("ONLY", ONLY_LOG)
        disk.set("FAIL_WRITES", 1)

    return stops_and_comes_back(fault, "writing the log failed: the disk reports an error", "check the disk")


@test
def failed_log_sync_stops_the_node():
    """EIO on a sync of the log, which loses what was to be synced, while the next sync would succeed: the node does not try
    again, it stops."""

    def fault(disk):
        disk.set("ONLY", ONLY_LOG)
        disk.set("FAIL_SYNCS", 1)

    return stops_and_comes_back(fault, "writing the log failed: the disk reports an error", "check the disk",
                                settings=("NO_DIRECT", "LOSE"))


@test
def unsynced_write_is_not_acknowledged():
    """A node of its own: the write whose sync failed was never acknowledged, and what had been is there after a restart."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        disks = FaultyDisks(cluster)
        disk = disks[node]
        for fault in ("FAIL_SYNCS", "FAIL_WRITES"):
            disk.set("NO_DIRECT", 1)
            disk.set("LOSE", 1)
            disks.restart(node)
            with node.client() as client:
                for i in range(50):
                    client.call("SET", "%s:%d" % (fault, i), i)
            disk.set("ONLY", ONLY_LOG)
            disk.set(fault, 1)
            expect(not acknowledged(node, "SET", "%s:lost" % fault, "x"), "a write that is not on the disk was acknowledged")
            expect_stops(node, "writing the log failed")
            expect(fault == "FAIL_WRITES" or disk.get("N_DROPPED") > 0, "the failed sync lost nothing")
            disk.heal()
            node.start()
            node.wait_up()
            for i in range(50):
                expect_equal(node.call("GET", "%s:%d" % (fault, i)), b"%d" % i, "what was acknowledged before")
            expect_equal(node.call("GET", "%s:lost" % fault), None, "what was not")


@test
def failed_vote_write_stops_the_node():
    """EIO where term and vote are written: the node stops before it votes; when it is back there is a leader again."""
    with Cluster(3) as cluster:
        disks = FaultyDisks(cluster)
        victim = cluster.followers()[0]
        disks.restart(victim)
        cluster.wait_converged()
        leader = cluster.wait_leader(everywhere=True)
        leader.call("SET", "k", "v")
        disks[victim].set("ONLY", ONLY_STATE)
        disks[victim].set("FAIL", 1)
        leader.kill()
        note = expect_stops(victim, "writing term and vote failed", "check the disk")
        disks[victim].heal()
        victim.start()
        cluster.wait_leader(other_than=leader)
        expect_equal(victim.call("GET", "k"), b"v", "what was acknowledged")
        leader.start()
        cluster.wait_converged()
        return note


@test
def failed_snapshot_changes_nothing():
    """A full disk, EIO on a write and on a sync while a snapshot is taken: it is said, the node serves on, nothing
    unfinished stays, the log is kept, and the next one succeeds."""
    notes = []
    with Cluster(3, flags=SMALL_SEGMENTS + ["--log-keep", "0"]) as cluster:
        disks = FaultyDisks(cluster)
        victim = cluster.followers()[0]
        disk = disks[victim]
        disks.restart(victim)
        for fault, counter in (("NO_SPACE", "N_NO_SPACE"), ("FAIL_WRITES", "N_FAILED"), ("FAIL_SYNCS", "N_FAILED")):
            fill(cluster.leader(), 0, 3000, fault)
            cluster.wait_converged()
            before = victim.info("lockstep")
            files = snapshots(victim)
            disk.set("ONLY", ONLY_SNAPSHOTS)
            disk.set(fault, 1)
            try:
                victim.once("LOCKSTEP", "SNAPSHOT", "TAKE")
                raise AssertionError("a snapshot was taken on a disk with the fault " + fault)
            except RespError as error:
                notes.append(str(error))
            expect(disk.get(counter) > 0, "the fault %s was never met", fault)
            after = victim.info("lockstep")
            expect_equal(int(after["snapshots_failed"]), int(before["snapshots_failed"]) + 1, "snapshots_failed")
            expect_equal(after["first"], before["first"], "the beginning of the log")
            expect_equal(snapshots(victim), files, "finished snapshots")
            expect("no snapshot was taken" in victim.log_text(), "its log says nothing:\n%s", victim.log_text()[-1000:])
            fill(victim, 0, 500, "during")
            cluster.wait_converged()
            disk.heal()
            take(victim)
            wait_for(lambda: not glob.glob(os.path.join(victim.dir, "*.tmp")), what="the unfinished file to go")
            wait_for(lambda start=int(before["log_start"]): int(victim.info("lockstep")["log_start"]) > start,
                     what="the log to be given back")
        victim.kill()
        victim.start()
        victim.wait_up()
        expect_same_content(cluster)
    return notes[0]


@test
def short_reads_are_completed():
    """Reads that give less than was asked for, from log and snapshots, with O_DIRECT and without: all is read, nothing is
    taken for the end of a file."""
    with Cluster(3, flags=SMALL_SEGMENTS) as cluster:
        disks = FaultyDisks(cluster)
        for node in cluster.nodes:
            fill(node, 0, 2000, "n%d-" % node.id)
            cluster.wait_converged()
            take(node)
            fill(node, 1000, 2000, "n%d-" % node.id)
        cluster.wait_converged()
        for direct, node in enumerate(cluster.nodes[:2]):
            node.kill()
            disk = disks[node]
            disk.set("NO_DIRECT", 1 - direct)
            disk.set("SHORT_READS", 1)
            disks.start(node)
            node.wait_up()
            expect_same_content(cluster)
            expect("torn" not in node.log_text(), "it took a short read for a torn tail:\n%s", node.log_text())
            expect("loading the snapshot" in node.log_text(), "it did not load its snapshot")
            expect(disk.get("N_SHORT") > 2, "only %d reads were cut short", disk.get("N_SHORT"))


def expect_replays(node, disk, what):
    """The node replays its log slowly; then the disk is fast, and it is done. Gives how much it had to replay, in MB."""
    def persistence():
        return node.info("persistence")

    wait_for(lambda: persistence()["loading"] == "1", 60, "%r to replay" % node, check=node.check_alive)
    with node.client() as client:
        for command in (["GET", "k1"], ["SET", "k1", "v"], ["PING"]):
            try:
                reply = client.once(*command)
            except RespError as error:
                reply = error
            expect(str(reply).startswith("LOADING"), "%r gives %r", command, reply)
    before = persistence()
    expect_equal(before["loading_from"], "log", "what it loads from")
    total = int(before["loading_total_bytes"])
    expect(total > 16 * MIB and int(before["loading_start_time"]) > 0 and int(before["loading_eta_seconds"]) >= 0,
           "INFO while loading: %r", before)
    wait_for(lambda: int(persistence()["loading_loaded_bytes"]) > int(before["loading_loaded_bytes"]), 60, "progress")
    line = r"replaying the log: \d+ % of \d+ MB, up to entry \d+, \d+ MB/s, \d+ s left"
    wait_for(lambda: re.search(line, node.log_text()), 60, "a line on progress")
    after = persistence()
    expect(0 < float(after["loading_loaded_perc"]) < 100, "INFO while loading: %r", after)
    status = node.status()
    expect(status["loading"] and status["role"] != "loading", "the status of %s: %r", what, status)
    disk.heal()
    wait_for(lambda: persistence()["loading"] == "0", 60, "%r to be done" % node, check=node.check_alive)
    expect("loading_total_bytes" not in persistence(), "loading is over, INFO goes on about it")
    expect("replayed the log up to entry" in node.log_text(), "it does not say that it is done")
    return total / MIB


@test
def replaying_the_log_is_loading():
    """What a node has to replay at its start counts as loading: a node on its own without a snapshot, and a follower
    behind one, for as long as it takes; the others serve meanwhile."""
    flags = SMALL_SEGMENTS + ["--snapshot-log-size", "0", "--snapshot-age", "0"]
    notes = []
    for size in (1, 3):
        with Cluster(size, flags=flags) as cluster:
            disks = FaultyDisks(cluster)
            victim = cluster.nodes[0] if size == 1 else cluster.followers()[0]
            if size == 3:
                fill(cluster.leader(), 0, 1000)
                cluster.wait_converged()
                take(victim)
            for part in range(12):
                fill(cluster.leader(), 0, 4000, "part%d-" % part)  # 2 MB of log each
            cluster.wait_converged()
            victim.kill()
            disks[victim].set("ONLY", ONLY_LOG)
            disks[victim].set("READ_DELAY_US", 250000)
            disks.start(victim)
            if size == 3:
                fill(cluster.wait_leader(), 0, 500, "meanwhile")
            notes.append("%.0f MB" % expect_replays(victim, disks[victim], "one of %d" % size))
            cluster.wait_converged(timeout=60)
            with victim.client() as client:
                expect_equal(client.call("GET", "k3999").decode(), "part11-3999 " + VALUE, "the last key")
            expect_same_content(cluster)
    return ", ".join(notes)


@test
def unreadable_files_refuse_start():
    """EIO on reading the log, a snapshot, or term and vote: the node does not start, and says so; nothing is changed, so
    that it starts when the disk is well."""
    with Cluster(3, flags=SMALL_SEGMENTS) as cluster:
        disks = FaultyDisks(cluster)
        victim = cluster.followers()[0]
        disk = disks[victim]
        fill(cluster.leader(), 0, 3000)
        cluster.wait_converged()
        take(victim)
        fill(cluster.leader(), 0, 1000, "later")
        notes = []
        for only, word in ((ONLY_LOG, "wal-"), (ONLY_STATE, "state")):
            victim.kill()
            disk.set("ONLY", only)
            disk.set("FAIL_READS", 1000000)
            disks.start(victim)
            notes.append(expect_refuses_start(victim, word, "disk"))
            disk.heal()
            victim.start()
            victim.wait_up()
            expect_same_content(cluster)
        return [line for line in notes[0].split("\n") if "wal-" in line][-1][:160]


@test
def flipped_bit_on_the_way_to_the_log():
    """A bit flips on its way to a follower's disk: when it starts again it refuses, and names the place. The others hold
    everything, and the operator replaces it (test_members.py)."""
    with Cluster(3) as cluster:
        disks = FaultyDisks(cluster)
        victim = cluster.followers()[0]
        disk = disks[victim]
        disks.restart(victim)
        with Load(cluster) as load:
            load.wait_acks(200)
            disk.set("ONLY", ONLY_LOG)
            disk.set("FLIP", 1)
            cluster.leader().call("SET", "large", b"x" * 100000)
            wait_for(lambda: disk.get("N_FLIPPED") == 1, what="a write to be flipped")
            load.wait_acks(500)  # later writes say that it was durable
            victim.kill()
            disk.heal()
            victim.start()
            log = expect_refuses_start(victim, "wal-", "is damaged at offset", "do not delete", "fresh id")
            load.wait_acks(200)
        load.verify(cluster.leader())
        return [line for line in log.split("\n") if "damaged at offset" in line][-1][:160]


@test
def flipped_bit_on_the_way_to_a_snapshot():
    """A bit flips on its way to a snapshot: a start falls back to the one before it, or to the log."""
    with Cluster(3, flags=SMALL_SEGMENTS) as cluster:
        disks = FaultyDisks(cluster)
        victim = cluster.followers()[0]
        disk = disks[victim]
        disks.restart(victim)
        fill_random(cluster, 2)  # a block of it takes several disk blocks, of which one can be flipped
        cluster.wait_converged()
        disk.set("ONLY", ONLY_SNAPSHOTS)
        disk.set("FLIP", 1)
        with contextlib.suppress(RespError):  # it may notice
            take(victim)
        expect_equal(disk.get("N_FLIPPED"), 1, "writes of a snapshot that were flipped")
        disk.heal()
        fill(cluster.leader(), 0, 1000, "later")
        victim.kill()
        victim.start()
        victim.wait_up()
        expect_same_content(cluster)
        expect("snapshot-" in victim.log_text(), "no word of the damaged snapshot:\n%s", victim.log_text())


@test
def damaged_snapshot_is_not_sent():
    """The snapshot that a returning node needs is damaged on the leader's disk: the leader notices as it reads it, takes
    another one, and the node installs that."""
    undisturbed_with(lambda: Cluster(3, flags=INSTALL_FLAGS), leader_takes_another)


def leader_takes_another(cluster):
    leader, _ = cluster.reign()
    away = next(node for node in cluster.nodes if node is not leader)
    leave_behind(cluster, away, 4)
    damaged = snapshots(leader)[-1]
    flip_byte(damaged, os.path.getsize(damaged) // 2)
    away.start()
    wait_installed(away)
    expect_same_content(cluster)
    expect(os.path.basename(damaged) in leader.log_text(), "the leader's log does not name the file:\n%s",
           leader.log_text()[-2000:])
    expect(snapshots(leader)[-1] != damaged, "the leader took no other snapshot")


@test
def damage_found_while_serving():
    """A durable entry turns out to be damaged when a node that was away needs it: the leader stops itself and says what to
    do, and nobody is sent anything wrong."""
    undisturbed_with(lambda: Cluster(3, flags=["--log-tail", "1kb"]), leader_meets_damage)


def leader_meets_damage(cluster):
    leader, _ = cluster.reign()
    away, survivor = [node for node in cluster.nodes if node is not leader]
    write_values(leader, 100)
    away.stop()
    write_values(leader, 1000, "later")
    cluster.wait_converged()
    path, offset = find_bytes(leader, b"later-000500-")
    flip_byte(path, offset)
    away.start()
    wait_for(lambda: not leader.alive() or cluster.leader() is not leader, what="the leader to stop itself, or another one")
    expect(not leader.alive(), "the leader was replaced")
    expect_stops(leader, "the log is damaged at a durable entry", "fresh id")
    cluster.wait_leader(other_than=leader)
    cluster.wait_converged()
    for node in (away, survivor):
        check_values(node, 1000, "later")
