"""Snapshots: taken by themselves and on demand, restarted from, interrupted and damaged; the log stays bounded."""

import glob
import os
import re
import threading

from cluster import Cluster, RespError, wait_for
from harness import expect, expect_equal, expect_refuses_start, expect_same_content, test
from test_disk import flip_byte

MIB = 1024 * 1024
SLOW = "64kb"  # of a snapshot per second: it is still under way when the node is killed
VALUE = "x" * 400
SMALL_SEGMENTS = ["--wal-segment-size", "1mb", "--max-entry-size", "512kb"]  # a segment holds the largest entry at least


def snapshots(node):
    """Paths of the finished snapshots, oldest first."""
    return sorted(path for path in glob.glob(os.path.join(node.dir, "snapshot-*")) if not path.endswith((".tmp", ".part")))


def disk_bytes(node):
    total = 0
    for name in os.listdir(node.dir):
        try:
            total += os.path.getsize(os.path.join(node.dir, name))
        except FileNotFoundError:  # renamed or removed meanwhile
            pass
    return total


def fill(node, first, count, tag="v"):
    """Keys k<first> on, in pipelines."""
    with node.client() as client:
        for low in range(first, first + count, 500):
            commands = [("SET", "k%d" % i, "%s%d %s" % (tag, i, VALUE)) for i in range(low, min(low + 500, first + count))]
            client.write_all(commands)


def take(node):
    index, term, size = node.call("LOCKSTEP", "SNAPSHOT", "TAKE")
    expect(size > 0 and term > 0, "a snapshot of %d bytes in term %d", size, term)
    return index


@test
def log_and_snapshots_stay_bounded():
    """An hour's worth of writes in little time: logs and snapshots stay within the documented bound, on every node."""
    flags = SMALL_SEGMENTS + ["--snapshot-log-size", "2mb", "--log-keep", "1mb", "--snapshot-rate", "0"]
    # OPERATIONS.md: twice the threshold at most, the kept tail, what is written meanwhile, 11 segments, three snapshots.
    bound = 2 * 2 * MIB + 1 * MIB + 4 * MIB + 11 * MIB + 3 * MIB
    highest = 0
    with Cluster(3, flags=flags) as cluster:
        for part in range(400):
            fill(cluster.nodes[part % 3], 0, 4000, "part%d-" % part)  # 2 MB of log each
            for node in cluster.nodes:
                highest = max(highest, disk_bytes(node))
                expect(highest <= bound, "%r: %d bytes on disk, documented are %d", node, highest, bound)
            taken = min(int(node.info("lockstep")["snapshots_taken"]) for node in cluster.nodes)
            if part >= 24 and taken >= 5:  # a slow disk takes fewer in that time
                break
        expect(taken >= 5, "only %d snapshots on some node", taken)
        cluster.wait_converged()
        for node in cluster.nodes:
            wait_for(lambda n=node: int(n.info("lockstep")["first"]) > 1, what="%r to drop the beginning of its log" % node)
            expect(len(snapshots(node)) <= 3, "%r keeps %r", node, snapshots(node))
        expect_same_content(cluster)
        cluster.kill_all()
        cluster.start()
        expect_same_content(cluster)
        expect_equal(cluster.nodes[0].call("DBSIZE"), 4000, "keys after a restart")
    return "at most %.1f MB of %.1f MB" % (highest / MIB, bound / MIB)


def fill_random(cluster, megabytes):
    """The same 192 keys of 8 KiB again and again, which don't compress: 1.5 MiB of content."""
    values = [os.urandom(8192) for _ in range(64)]
    with cluster.wait_leader().client() as client:
        for part in range(2 * megabytes):
            client.write_all([("SET", "r%d" % (part % 3 * 64 + i), value) for i, value in enumerate(values)])


@test
def a_follower_that_stops_holds_nothing_back():
    """Log that is kept for a follower to which a snapshot is sent goes when the follower is given up: nobody writes any
    more, so no later snapshot comes, and every directory is within the documented bound again."""
    flags = SMALL_SEGMENTS + ["--snapshot-log-size", "2mb", "--log-keep", "1mb", "--snapshot-rate", "0"]
    bound = 2 * 2 * MIB + 1 * MIB + 11 * MIB + 3 * 2 * MIB
    with Cluster(3, flags=flags) as cluster:
        fill_random(cluster, 2)
        cluster.wait_converged()
        away = cluster.followers()[0]
        others = [node for node in cluster.nodes if node is not away]
        applied = int(away.info("lockstep")["applied"])
        away.kill()
        fill_random(cluster, 24)
        for node in others:
            node.call("CONFIG", "SET", "snapshot-transfer-rate", "16kb")
            wait_for(lambda n=node: int(n.info("lockstep")["log_start"]) > applied + 1, 60, "%r to drop its log" % node)
        away.start()
        wait_for(lambda: int(away.info("lockstep")["snapshot_fetch_bytes"]) > 0, 60, "a transfer", check=away.check_alive)
        fill_random(cluster, 36)
        expect_equal(int(away.info("lockstep")["snapshot_installs"]), 0, "installations so far")
        held = max(disk_bytes(node) for node in others)
        expect(held > bound, "only %d bytes while the log is kept for a transfer", held)
        away.kill()
        for node in others:
            wait_for(lambda n=node: disk_bytes(n) <= bound, 60, "%r to hold at most %d bytes" % (node, bound))
        away.start()
        for node in others:
            node.call("CONFIG", "SET", "snapshot-transfer-rate", "0")
        cluster.wait_converged(timeout=60)
        expect_same_content(cluster)
    return "%.1f MB during the transfer, %.1f allowed" % (held / MIB, bound / MIB)


def begun_and_ended(node):
    """(begin, end, node) of each snapshot that it took, in seconds of the day, from its log. The end is written at once and
    the duration measured before that: the real begin is at most that early."""
    line = r"T(\d+):(\d+):(\d+\.\d+)Z .*snapshot at entry \d+: .* (\d+) ms; the log begins"
    for hours, minutes, seconds, took in re.findall(line, node.log_text()):
        end = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        yield end - int(took) / 1000, end, node


@test
def members_take_turns():
    """Snapshots are due on all nodes at once, and are written one after the other. One that is asked for does not wait."""
    flags = SMALL_SEGMENTS + ["--snapshot-log-size", "1mb", "--snapshot-rate", "128kb"]  # about two seconds each
    with Cluster(3, flags=flags) as cluster:
        leader, term = cluster.reign()
        figures = {}
        part = 0
        while min([figures[node.id]["snapshots_taken"] for node in cluster.nodes] if figures else [0]) < 2:
            fill(cluster.nodes[part % 3], 0, 500, "part%d-" % part)  # 0.25 MB of log
            part += 1

            def none_is_put_off():
                figures.update({node.id: {key: int(value) for key, value in node.info("lockstep").items()
                                          if key.startswith("snapshots_") or key == "snapshot_put_off"}
                                for node in cluster.nodes})
                return not any(of["snapshot_put_off"] for of in figures.values())

            cluster.wait_converged()
            wait_for(none_is_put_off, what="every node's turn")  # so none becomes overdue
        put_off = sum(of["snapshots_put_off"] for of in figures.values())
        expect(put_off >= 2, "only %d snapshots were put off", put_off)
        if cluster.reign() == (leader, term):
            expect_equal(sum(of["snapshots_overdue"] for of in figures.values()), 0, "snapshots out of turn")
            spans = sorted(span for node in cluster.nodes for span in begun_and_ended(node))
            expect(len(spans) >= 6, "%d snapshots in the logs", len(spans))
            for (_, end, before), (begin, _, node) in zip(spans, spans[1:]):
                expect(begin >= end - 0.002, "%r begins a snapshot %.3f s before that of %r ends", node, end - begin, before)
        follower, other = cluster.followers()
        for node in (follower, other):
            node.call("CONFIG", "SET", "snapshot-log-size", "0")
        fill(follower, 0, 100, "asked")
        cluster.wait_converged()
        follower.call("CONFIG", "SET", "snapshot-rate", "2kb")  # for more than a minute

        def ask():
            try:
                take(follower)
            except (OSError, EOFError, RespError):
                pass  # the node dies before it answers

        asker = threading.Thread(target=ask)
        asker.start()
        wait_for(lambda: follower.info("lockstep")["snapshot_in_progress"] == "1", what="a snapshot to be under way")
        take(other)
        expect_equal(follower.info("lockstep")["snapshot_in_progress"], "1", "the slow one is still under way")
        follower.kill()
        asker.join()
    return "%d put off of %d" % (put_off, sum(of["snapshots_taken"] for of in figures.values()))


@test
def restart_goes_on_from_a_snapshot():
    """A restarted node loads its snapshot, replays only what is behind it, and has everything."""
    with Cluster(3, flags=SMALL_SEGMENTS + ["--log-keep", "0"]) as cluster:
        fill(cluster.nodes[0], 0, 5000)
        cluster.wait_converged()
        taken = {node.id: take(node) for node in cluster.nodes}
        fill(cluster.nodes[1], 4000, 2000, "later")
        for node in cluster.nodes:
            cluster.wait_converged()
            digest = node.status()["digest"]
            node.kill()
            node.start()
            node.wait_up()
            cluster.wait_converged()
            expect("loading the snapshot at entry %d" % taken[node.id] in node.log_text(), "%r did not load it", node)
            expect_equal(node.status()["digest"], digest, "content of %r" % node)
            expect_equal(int(node.info("lockstep")["snapshot_index"]), taken[node.id], "snapshot_index")
            with node.client() as client:
                expect_equal(client.call("GET", "k5999"), ("later5999 " + VALUE).encode(), "written after the snapshot")
                expect_equal(client.call("GET", "k7"), ("v7 " + VALUE).encode(), "written before it")
        cluster.kill_all()
        cluster.start()
        expect_same_content(cluster)
        fill(cluster.nodes[2], 0, 500, "again")


@test
def kill_in_the_middle_of_a_snapshot():
    """kill -9 while a snapshot is written: nothing of it stays, the node starts from the one before, or from the log."""
    with Cluster(3, flags=SMALL_SEGMENTS + ["--snapshot-rate", SLOW]) as cluster:
        fill(cluster.nodes[0], 0, 8000)
        cluster.wait_converged()
        for round_number, node in enumerate(cluster.nodes):
            if round_number > 0:
                node.call("CONFIG", "SET", "snapshot-rate", "0")
                take(node)
                fill(node, 0, 100, "round%d-" % round_number)
                cluster.wait_converged()
                node.call("CONFIG", "SET", "snapshot-rate", SLOW)

            def ask(node=node):
                try:
                    node.call("LOCKSTEP", "SNAPSHOT", "TAKE")
                except (OSError, EOFError, RespError):
                    pass  # the node dies of kill -9 before it answers

            asker = threading.Thread(target=ask)
            asker.start()
            wait_for(lambda: int(node.info("lockstep")["snapshot_written_bytes"]) > 0 and
                     glob.glob(os.path.join(node.dir, "*.tmp")), what="a snapshot to be under way")
            before = snapshots(node)
            node.kill()
            asker.join()
            expect_equal(snapshots(node), before, "a snapshot cut short is none")
            expect(glob.glob(os.path.join(node.dir, "*.tmp")), "there should be an unfinished file")
            node.start()
            node.wait_up()
            expect_equal(glob.glob(os.path.join(node.dir, "*.tmp")), [], "unfinished files after a start")
            expect_same_content(cluster)


@test
def damaged_newest_snapshot():
    """One flipped bit in the newest snapshot: the one before it and the log serve, as far as the log reaches back."""
    with Cluster(3, flags=SMALL_SEGMENTS) as cluster:
        fill(cluster.nodes[0], 0, 3000)
        cluster.wait_converged()
        node = cluster.followers()[0]
        older = take(node)
        fill(cluster.nodes[0], 0, 3000, "second")
        cluster.wait_converged()
        newer = take(node)
        expect(newer > older, "the second snapshot is of entry %d, the first of %d", newer, older)
        node.kill()
        path = snapshots(node)[-1]
        flip_byte(path, os.path.getsize(path) // 2)
        node.start()
        node.wait_up()
        expect_same_content(cluster)
        log = node.log_text()
        expect(os.path.basename(path) in log, "the log does not name the damaged file:\n%s", log)
        expect("falling back to the snapshot at entry %d" % older in log, "no word of the older snapshot:\n%s", log)


@test
def damaged_snapshot_without_its_log():
    """If the log does not reach back to an older snapshot the node refuses to start and says what to do; others go on."""
    with Cluster(3, flags=SMALL_SEGMENTS + ["--log-keep", "0"]) as cluster:
        node = cluster.followers()[0]
        for part in range(3):
            fill(cluster.nodes[0], 0, 8000, "part%d-" % part)  # more than recycled segments hold
            cluster.wait_converged()
            take(node)
        node.kill()
        for path in snapshots(node):
            flip_byte(path, os.path.getsize(path) // 2)
        node.start()
        log = expect_refuses_start(node, "fresh id", "missing", os.path.basename(snapshots(node)[-1]))
        survivors = [other for other in cluster.nodes if other is not node]
        fill(survivors[0], 0, 100, "on")
        return re.findall(r"fail-stop: (.*)", log)[-1][:160]


@test
def age_takes_a_snapshot():
    """Without much being written, a snapshot is taken for its age; without anything being written, none is."""
    with Cluster(1, flags=["--snapshot-age", "1", "--snapshot-log-size", "0"]) as cluster:
        node = cluster.nodes[0]
        fill(node, 0, 10)
        wait_for(lambda: int(node.info("lockstep")["snapshots_taken"]) >= 1, what="a snapshot for its age")
        wait_for(lambda: node.info("lockstep")["log_bytes_since_snapshot"] == "0", what="a snapshot of everything")
        taken = int(node.info("lockstep")["snapshots_taken"])
        uptime = int(node.info("server")["uptime_in_seconds"])
        wait_for(lambda: int(node.info("server")["uptime_in_seconds"]) >= uptime + 3, what="three seconds to go by")
        expect_equal(int(node.info("lockstep")["snapshots_taken"]), taken, "snapshots without a write")
