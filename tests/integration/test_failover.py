"""Processes die, stop and come back while clients write."""

import statistics
import time

from cluster import Cluster, wait_for
from harness import TRIES, Load, expect, test


def kill_leader_rounds(rounds, flags):
    """Kills the leader that often under load; returns (note, seconds until writes resumed, per round)."""
    resumed = []
    with Cluster(3, flags=flags) as cluster:
        with Load(cluster) as load:
            load.wait_acks(200)
            for _ in range(rounds):
                leader = cluster.leader()
                leader.kill()
                resumed.append(load.resumed_after(time.monotonic()))
                load.wait_acks(100)
                leader.start()
                leader.wait_up()
                cluster.wait_leader(everywhere=True)
                load.wait_acks(100)
                leader.wait_applied(cluster.leader().status()["commit"])
        cluster.wait_converged()
        notes = [load.verify(node) for node in cluster.nodes]
    return notes[0], resumed


def judge_resumption(rounds, resumed, median_ms_max):
    ordered = sorted(1000 * seconds for seconds in resumed)
    text = "writes resumed after %.0f ms (median), %.0f to %.0f ms, of %d" % (
        statistics.median(ordered), ordered[0], ordered[-1], len(ordered))
    if rounds >= 10:  # a median of a few says little
        expect(statistics.median(ordered) <= median_ms_max, "%s; at most %d ms wanted", text, median_ms_max)
    return text


@test
def kill_leader_under_load(options):
    """kill -9 of the leader under load, default settings: nothing acknowledged is lost, writes resume (median 500 ms)."""
    rounds = options.rounds_or(4)
    note, resumed = kill_leader_rounds(rounds, [])
    return "%s; %s" % (judge_resumption(rounds, resumed, 500), note)


@test
def kill_leader_short_election_timeout(options):
    """The same with an election timeout of 150 ms: writes resume within 220 ms (median)."""
    rounds = options.rounds_or(3)
    note, resumed = kill_leader_rounds(rounds, ["--election-timeout-ms", "150"])
    return "%s; %s" % (judge_resumption(rounds, resumed, 220), note)


@test
def kill_follower_under_load(options):
    """kill -9 of a follower under load: the others go on, it catches up when it returns."""
    with Cluster(3) as cluster:
        with Load(cluster) as load:
            for _ in range(options.rounds_or(3)):
                follower = cluster.followers()[0]
                follower.kill()
                load.wait_acks(200)
                follower.start()
                follower.wait_up()
                follower.wait_applied(cluster.leader().status()["commit"])
        cluster.wait_converged()
        return [load.verify(node) for node in cluster.nodes][0]


@test
def kill_all_under_load(options):
    """kill -9 of all nodes at once under load: after a restart nothing acknowledged is lost."""
    with Cluster(3) as cluster:
        with Load(cluster) as load:
            for _ in range(options.rounds_or(3)):
                load.wait_acks(300)
                cluster.kill_all()
                cluster.start()
            load.wait_acks(100)
        cluster.wait_converged()
        return [load.verify(node) for node in cluster.nodes][0]


@test
def clean_restart_keeps_data():
    """SIGTERM ends every node with status 0, and a restart finds everything."""
    with Cluster(3) as cluster:
        with cluster.nodes[0].client() as client:
            for i in range(200):
                client.call("SET", "key:%d" % i, "value:%d" % i)
            client.call("SET", "expiring", "x", "EX", "1000")
        statuses = cluster.stop()
        expect(set(statuses.values()) == {0}, "SIGTERM should end nodes with status 0: %r", statuses)
        cluster.start()
        for node in cluster.nodes:
            with node.client() as client:
                for i in range(200):
                    value = client.call("GET", "key:%d" % i)
                    expect(value == b"value:%d" % i, "key:%d is %r at %r after the restart", i, value, node)
                ttl = client.call("TTL", "expiring")
                expect(900 < ttl <= 1000, "TTL is %d at %r after the restart", ttl, node)


@test
def single_node_restart():
    """A cluster of one: writes, kill -9, restart, everything is there."""
    with Cluster(1) as cluster:
        with Load(cluster, writers=2, readers=1) as load:
            for _ in range(3):
                load.wait_acks(100)
                cluster.kill_all()
                cluster.start()
            load.wait_acks(50)
        return load.verify(cluster.nodes[0])


@test
def stopped_follower_catches_up():
    """A follower that was stopped (SIGSTOP) for longer than the election timeout catches up; memory stays bounded."""
    with Cluster(3) as cluster:
        with Load(cluster) as load:
            load.wait_acks(100)
            # A follower that unseats the leader does so each time; a busy machine changes the leader now and then.
            for _ in range(TRIES):
                if stop_a_follower(cluster, load):
                    break
            else:
                raise AssertionError("a follower that had been stopped unseated the leader, %d times" % TRIES)
        cluster.wait_converged()
        return [load.verify(node) for node in cluster.nodes][0]


def stop_a_follower(cluster, load):
    """For longer than elections take. Returns whether the leader leads on."""
    leader, term = cluster.reign()
    follower = next(node for node in cluster.nodes if node is not leader)
    follower.pause()
    deadline = time.monotonic() + 3
    load.wait_acks(500)
    before = leader.process.rss_bytes()
    while time.monotonic() < deadline:
        load.wait_acks(100)
    grown = leader.process.rss_bytes() - before
    expect(grown < 64 << 20, "the leader grew by %d MiB while a follower was stopped", grown >> 20)
    goal = cluster.leader().status()["commit"]
    follower.resume()
    follower.wait_applied(goal)
    load.wait_acks(100)
    return cluster.reign() == (leader, term)


@test
def stopped_leader_steps_aside():
    """A leader that is stopped (SIGSTOP) is replaced; woken, it serves no stale read and executes no old write twice."""
    with Cluster(3) as cluster:
        with Load(cluster) as load:
            for _ in range(3):
                load.wait_acks(100)
                leader = cluster.leader()
                leader.pause()
                cluster.wait_leader(other_than=leader)
                load.wait_acks(100)
                leader.resume()
                load.wait_acks(100)
                cluster.wait_leader(everywhere=True)
        cluster.wait_converged()
        return [load.verify(node) for node in cluster.nodes][0]


@test
def minority_refuses():
    """One node of three alone: it executes nothing and says so, reads included; it recovers with a second one."""
    with Cluster(3) as cluster:
        cluster.nodes[0].call("SET", "k", "v")
        alone = cluster.nodes[2]
        cluster.nodes[0].kill()
        cluster.nodes[1].kill()
        wait_for(lambda: alone.status()["local_reads"] != "yes", what="its lease or grant to end")
        replies = []
        for command in (("SET", "k", "w"), ("GET", "k")):
            with alone.client() as client:
                client.send(*command)
                replies.append(str(client.read()))
        for reply in replies:
            expect(reply.split(" ")[0] in ("CLUSTERDOWN", "TRYAGAIN", "UNKNOWN"), "a lone node of three answered %r", reply)
        cluster.nodes[0].start()
        cluster.wait_leader()
        value = alone.wait_up().call("GET", "k")
        expect(value in (b"v", b"w") and (value == b"v" or replies[0].startswith("UNKNOWN")), "k is %r after -%s", value,
               replies[0])
        return "refused with: " + ", ".join(reply.split(" ")[0] for reply in replies)
