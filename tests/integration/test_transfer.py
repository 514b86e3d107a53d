"""Leadership is handed over, by command and when a leader stops, while clients write."""

import os
import signal
import statistics
import subprocess
import threading
import time

from cluster import Client, Cluster, RespError, lockstepd_path, wait_for
from harness import Load, expect, expect_equal, expect_error, test


class TimedLoad(Load):
    """A load that remembers when each write was acknowledged."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.times = []

    def note_ack(self, sent, received):
        self.times.append(received)
        super().note_ack(sent, received)

    def longest_gap(self, begin, end):
        """Longest time without an acknowledgement that overlaps [begin, end]."""
        times = sorted(t for t in list(self.times) if begin - 1 <= t <= end + 1)
        return max((b - a for a, b in zip(times, times[1:]) if b >= begin and a <= end), default=float("inf"))


class Pipeliner(threading.Thread):
    """Sends INCRs of a key of its own in pipelines to one node, and keeps every reply."""

    def __init__(self, node, number, depth=20):
        super().__init__(daemon=True)
        self.client = node.client(timeout=20.0)
        self.key = "pipe:%d" % number
        self.depth = depth
        self.replies = []
        self.ended = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.ended.is_set():
                self.replies += self.client.pipeline([("INCR", self.key)] * self.depth)
        except Exception as error:
            self.failure = error

    def finish(self):
        self.ended.set()
        self.join()
        self.client.close()
        if self.failure is not None:
            raise AssertionError("%s: %r after %d replies" % (self.key, self.failure, len(self.replies)))

    def verify(self, node):
        """Every command had its reply, in order, and was executed once if it was answered so. Returns (good, refused)."""
        good = [reply for reply in self.replies if isinstance(reply, int)]
        errors = [reply for reply in self.replies if not isinstance(reply, int)]
        unknown = [error for error in errors if error.code == "UNKNOWN"]
        expect(len(good) > 0, "%s: nothing was answered", self.key)
        expect(all(a < b for a, b in zip(good, good[1:])), "%s: replies are out of order", self.key)
        expect(not unknown, "%s: %d outcomes are unknown after a graceful transfer: %s", self.key, len(unknown),
               unknown[:1])
        expect_equal(good, list(range(1, len(good) + 1)), "%s: every INCR executed once" % self.key)
        expect_equal(int(node.call("GET", self.key)), len(good), "%s: its value" % self.key)
        return len(good), len(errors)


def transfer(cluster):
    """By command on the leader; returns the new one."""
    leader = cluster.wait_leader(everywhere=True)
    wait_for(lambda: leader.status()["ready"], what="%r to be ready" % leader)
    reply = leader.call("LOCKSTEP", "TRANSFER")
    expect(reply.startswith("OK node "), "LOCKSTEP TRANSFER gave %r", reply)
    return cluster.node(int(reply.split()[2]))


@test
def transfers_under_load(options):
    """Leadership moves 20 times under load: at most 50 ms without a successful write (median), nothing refused."""
    gaps = []
    with Cluster(3) as cluster:
        with TimedLoad(cluster) as load:
            load.wait_acks(300)
            for _ in range(options.rounds_or(20)):
                old = cluster.wait_leader(everywhere=True)
                begin = time.monotonic()
                new = transfer(cluster)
                end = time.monotonic()
                expect(new is not old, "leadership did not move")
                load.wait_acks(100)
                gaps.append(load.longest_gap(begin, end))
            expect_equal(sum(node.status()["transfers"] for node in cluster.nodes), len(gaps), "transfers counted")
            quiet = time.monotonic()
            load.wait_acks(500)
            noise = load.longest_gap(quiet, time.monotonic())
        cluster.wait_converged()
        notes = [load.verify(node) for node in cluster.nodes]
        expect_equal(load.errors(load.writers), {}, "errors during graceful transfers")
    text = "no write for %.0f ms (median), %.0f to %.0f ms, of %d; %.0f ms without a transfer" % (
        1000 * statistics.median(gaps), 1000 * min(gaps), 1000 * max(gaps), len(gaps), 1000 * noise)
    if len(gaps) >= 10:  # a median of a few says little
        expect(statistics.median(gaps) <= 0.050, "%s; at most 50 ms wanted", text)
    return "%s; %s" % (text, notes[0])


@test
def pipelines_follow_a_transfer(options):
    """Pipelined INCRs at every node across transfers: each is answered once, in order, and executed once."""
    with Cluster(3) as cluster:
        pipeliners = [Pipeliner(cluster.nodes[i % 3], i) for i in range(6)]
        for pipeliner in pipeliners:
            pipeliner.start()
        for _ in range(options.rounds_or(5)):
            goals = [len(p.replies) + 2 * p.depth for p in pipeliners]
            wait_for(lambda: all(len(p.replies) >= goal or p.failure for p, goal in zip(pipeliners, goals)))
            transfer(cluster)
        for pipeliner in pipeliners:
            pipeliner.finish()
        results = [pipeliner.verify(cluster.nodes[0]) for pipeliner in pipeliners]
        expect_equal(sum(refused for _, refused in results), 0, "commands refused")
        return "%d INCRs" % sum(good for good, _ in results)


@test
def stopping_leader_hands_over(options):
    """SIGTERM of the leader under load: it ends with status 0, its successor takes over, no outcome is unknown."""
    gaps = []
    with Cluster(3) as cluster:
        with TimedLoad(cluster) as load:
            load.wait_acks(200)
            for _ in range(options.rounds_or(3)):
                leader = cluster.wait_leader(everywhere=True)
                wait_for(lambda: leader.status()["ready"], what="%r to be ready" % leader)
                begin = time.monotonic()
                expect_equal(leader.stop(), 0, "exit status of the leader")
                load.wait_acks(100)
                gaps.append(load.longest_gap(begin, time.monotonic()))
                expect("handing leadership" in leader.log_text(), "no transfer in the log of %r", leader)
                leader.start()
                leader.wait_up()
        cluster.wait_converged()
        notes = [load.verify(node) for node in cluster.nodes]
        expect("UNKNOWN" not in load.errors(load.writers), "unknown outcomes: %r", load.errors(load.writers))
    return "no write for %s ms; %s" % (", ".join("%.0f" % (1000 * gap) for gap in gaps), notes[0])


@test
def stopping_with_pipelines_in_flight():
    """SIGTERM of leader and follower with pipelines under way: status 0, and no reply is out of order before the end."""
    for leads in (True, False):
        with Cluster(3) as cluster:
            leader = cluster.leader()
            node = leader if leads else next(n for n in cluster.nodes if n is not leader)
            pipeliners = [Pipeliner(node, i, depth=200) for i in range(4)]
            for pipeliner in pipeliners:
                pipeliner.start()
            wait_for(lambda: all(len(p.replies) > 400 for p in pipeliners))
            expect_equal(node.stop(), 0, "exit status of the %s" % ("leader" if leads else "follower"))
            for pipeliner in pipeliners:
                pipeliner.join()
                good = [reply for reply in pipeliner.replies if isinstance(reply, int)]
                expect(all(a < b for a, b in zip(good, good[1:])), "%s: replies are out of order", pipeliner.key)
            other = next(n for n in cluster.nodes if n is not node)
            for pipeliner in pipeliners:
                good = sum(isinstance(reply, int) for reply in pipeliner.replies)
                value = int(wait_for(lambda: other.call("GET", pipeliner.key)))
                expect(good <= value, "%s: %d acknowledged, %d there", pipeliner.key, good, value)


@test
def transfer_to_a_stopped_node_is_given_up():
    """A node that does not answer can't take over: the command says so, and the leader leads and writes on."""
    with Cluster(3) as cluster:
        leader = cluster.leader()
        wait_for(lambda: leader.status()["ready"])
        target = next(node for node in cluster.nodes if node is not leader)
        other = next(node for node in cluster.nodes if node not in (leader, target))
        target.pause()
        with leader.client() as client:
            try:
                reply = client.call("LOCKSTEP", "TRANSFER", target.id)
                raise AssertionError("a transfer to a stopped node gave %r" % reply)
            except RespError as error:
                expect(error.code in ("TRYAGAIN", "ERR"), "unexpected error: -%s", error)
                text = str(error)
        cluster.wait_leader()
        wait_for(lambda: other.call("SET", "k", "v") == "OK", what="writes to go on")
        target.resume()
        cluster.wait_leader(everywhere=True)
        transfer(cluster)
        return text


@test
def transfer_command_and_its_refusals():
    """lockstep transfer finds the leader from any node; followers name it; nonsense is refused."""
    lockstep = os.path.join(os.path.dirname(lockstepd_path()), "lockstep")

    def run(*args):
        return subprocess.run([lockstep, "transfer"] + [str(arg) for arg in args], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=20)

    with Cluster(3) as cluster:
        for target in cluster.nodes * 2:
            leader = cluster.wait_leader(everywhere=True)
            wait_for(lambda: leader.status()["ready"])
            done = run(target.id, "--addr", "127.0.0.1:%d" % cluster.nodes[0].port)
            if target is leader:
                expect_equal((done.returncode, done.stderr), (1, "lockstep: ERR node %d leads already\n" % target.id),
                             "transfer to the leader")
            else:
                expect_equal(done.returncode, 0, "exit code (%s)" % done.stderr)
                expect(done.stdout.startswith("OK node %d leads term " % target.id), "it printed %r", done.stdout)
        follower = cluster.followers()[0]
        with follower.client() as client:
            text = expect_error(client, "ERR", "LOCKSTEP", "TRANSFER")
            expect("127.0.0.1:%d" % cluster.leader().port in text, "the leader is not named: %s", text)
        expect_equal(run(99, "--addr", "127.0.0.1:%d" % follower.port).returncode, 1, "transfer to a stranger")
        expect_equal(run("x").returncode, 2, "transfer to no number")


@test
def leader_of_one_stops_at_once():
    """A cluster of one has nobody to hand over to: SIGTERM and SHUTDOWN still end it quickly, with status 0."""
    for how in ("signal", "command"):
        with Cluster(1) as cluster:
            node = cluster.nodes[0]
            begin = time.monotonic()
            if how == "signal":
                node.process.signal(signal.SIGTERM)
            else:
                with Client(node.port) as client:
                    client.send("SHUTDOWN")
            expect_equal(node.process.wait(10), 0, "exit status after the %s" % how)
            expect(time.monotonic() - begin < 5, "it took %.1f s to stop", time.monotonic() - begin)
