"""Leadership is handed over, by command and when a leader stops, while clients write."""

import os
import signal
import statistics
import subprocess
import threading
import time

from cluster import PATIENCE, UNSETTLED, Client, Cluster, RespError, lockstepd_path, wait_for
from harness import CALM_S, TRIES, Pulse, TimedLoad, expect, expect_equal, expect_error, test, undisturbed


class Pipeliner(threading.Thread):
    """Sends INCRs of a key of its own in pipelines to one node, and keeps every reply."""

    def __init__(self, node, number, depth=20):
        super().__init__(daemon=True)
        self.client = node.client(timeout=PATIENCE)
        self.key = "pipe:%d" % number
        self.depth = depth
        self.replies = []
        self.times = []  # when a pipeline was answered
        self.ended = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.ended.is_set():
                self.replies += self.client.pipeline([("INCR", self.key)] * self.depth)
                self.times.append(time.monotonic())
        except Exception as error:
            self.failure = error

    def finish(self):
        self.ended.set()
        self.join()
        self.client.close()
        if self.failure is not None:
            raise AssertionError("%s: %r after %d replies" % (self.key, self.failure, len(self.replies)))

    def verify(self, node):
        """Every command had its reply, in order, and was executed once if it was answered so, and not if it was refused.
        Returns (good, errors)."""
        good = [reply for reply in self.replies if isinstance(reply, int)]
        errors = [reply for reply in self.replies if not isinstance(reply, int)]
        unknown = sum(error.code == "UNKNOWN" for error in errors)
        expect(len(good) > 0, "%s: nothing was answered", self.key)
        expect(all(a < b for a, b in zip(good, good[1:])), "%s: replies are out of order", self.key)
        expect(all(error.code in UNSETTLED for error in errors), "%s: unexpected errors: %s", self.key, errors[:3])
        executed = int(node.call("GET", self.key))
        expect(len(good) <= executed <= len(good) + unknown, "%s: %d executed; %d were answered, %d have an unknown outcome",
               self.key, executed, len(good), unknown)
        return len(good), len(errors)


def transfer(cluster):
    """By command on the leader, again if leadership has just moved or the other node stood still; returns the new leader."""

    def moved():
        leader = cluster.wait_leader(everywhere=True)
        wait_for(lambda: leader.status()["ready"] or leader is not cluster.leader(), what="%r to be ready" % leader)
        try:
            return leader.once("LOCKSTEP", "TRANSFER")
        except RespError as error:
            expect(error.code in ("TRYAGAIN", "CLUSTERDOWN") or leader is not cluster.leader(), "TRANSFER: -%s", error)
            return None

    reply = wait_for(moved, what="a transfer")
    expect(reply.startswith("OK node "), "LOCKSTEP TRANSFER gave %r", reply)
    return cluster.node(int(reply.split()[2]))


def refusals(load):
    """Commands of writers that got an error, as (first word, count)."""
    return load.errors(load.writers)


def hand_over(cluster, load, act):
    """act() makes the leader hand over under load. Returns (longest time without a write, the same for a time without a
    transfer, errors of writers), or None if there was another election, or a node or all writes stood still for long: then
    it says nothing about the transfer."""
    old, term = cluster.reign()
    before = time.monotonic()
    load.wait_acks(100)
    begin = time.monotonic()
    errors = refusals(load)
    act(old)
    end = time.monotonic()
    load.wait_acks(100)
    new, new_term = cluster.reign()
    more = {code: count - errors.get(code, 0) for code, count in refusals(load).items() if count > errors.get(code, 0)}
    gap, noise = load.longest_gap(begin, end), load.longest_gap(before, begin)
    if new_term != term + 1 or max(gap, noise, load.pulse.longest(before, time.monotonic())) >= CALM_S:
        return None
    expect(new is not old, "leadership did not move, the term did")
    return gap, noise, more


def hand_overs(cluster, load, act, wanted):
    """That many of them; returns their list."""
    found = []
    for _ in range(TRIES + 2 * wanted):
        result = hand_over(cluster, load, act)
        if result is not None:
            found.append(result)
        if len(found) == wanted:
            return found
    raise AssertionError("only %d of %d transfers took less than %.0f ms and one term" % (
        len(found), TRIES + 2 * wanted, 1000 * CALM_S))


@test
def transfers_under_load(options):
    """Leadership moves 20 times under load: at most 50 ms without a successful write (median), nothing refused."""
    wanted = options.rounds_or(20)
    with Cluster(3) as cluster:
        with TimedLoad(cluster) as load:
            load.wait_acks(300)
            found = hand_overs(cluster, load, lambda unused: transfer(cluster), wanted)
            count = sum(node.status()["transfers"] for node in cluster.nodes)
            expect(count >= wanted, "%d transfers are counted", count)
        cluster.wait_converged()
        notes = [load.verify(node) for node in cluster.nodes]
    gaps, noises, errors = zip(*found)
    expect_equal([error for error in errors if error], [], "errors during graceful transfers")
    noise = max(noises)  # of this machine: as much time passes between two writes without a transfer
    text = "no write for %.0f ms (median), %.0f to %.0f ms, of %d; up to %.0f ms without a transfer" % (
        1000 * statistics.median(gaps), 1000 * min(gaps), 1000 * max(gaps), len(gaps), 1000 * noise)
    if len(gaps) >= 10:  # a median of a few says little
        expect(statistics.median(gaps) <= 0.050 + noise, "%s; at most 50 ms more wanted", text)
    return "%s; %s" % (text, notes[0])


@test
def pipelines_follow_a_transfer(options):
    """Pipelined INCRs at every node across transfers: each is answered once, in order, and executed once."""
    with Cluster(3) as cluster:
        for number in range(TRIES):
            total, refused, stall, terms = pipelines_across(cluster, options.rounds_or(5), number)
            if refused == 0:
                return "%d INCRs" % total
            expect(stall >= CALM_S or terms != options.rounds_or(5), "%d commands were refused across %d transfers, no node "
                   "stood still for more than %.0f ms", refused, terms, 1000 * stall)
    raise AssertionError("no %d transfers in a row without another election or a stall" % options.rounds_or(5))


def pipelines_across(cluster, rounds, number):
    """Returns (INCRs answered, refused or unknown, seconds that a node or all INCRs stood still, terms that passed)."""
    _, term = cluster.reign()
    pulse, begin = Pulse(cluster.nodes), time.monotonic()
    pipeliners = [Pipeliner(cluster.nodes[i % 3], 100 * number + i) for i in range(6)]
    for pipeliner in pipeliners:
        pipeliner.start()
    for _ in range(rounds):
        goals = [len(p.replies) + 2 * p.depth for p in pipeliners]
        wait_for(lambda: all(len(p.replies) >= goal or p.failure for p, goal in zip(pipeliners, goals)))
        transfer(cluster)
    for pipeliner in pipeliners:
        pipeliner.finish()
    pulse.stop()
    times = sorted(t for pipeliner in pipeliners for t in pipeliner.times)
    stall = max([b - a for a, b in zip(times, times[1:])] + [pulse.longest(begin, time.monotonic())])
    results = [pipeliner.verify(cluster.nodes[0]) for pipeliner in pipeliners]
    return (sum(good for good, _ in results), sum(errors for _, errors in results), stall, cluster.reign()[1] - term)


@test
def stopping_leader_hands_over(options):
    """SIGTERM of the leader under load: it ends with status 0, its successor takes over, no outcome is unknown."""

    def stop(leader):
        stopped.append(leader)
        wait_for(lambda: leader.status()["ready"] or leader is not cluster.leader(), what="%r to be ready" % leader)
        expect_equal(leader.stop(), 0, "exit status of the leader")

    def stop_and_start():
        stopped.clear()
        result = hand_over(cluster, load, stop)
        if result is not None:
            expect("handing leadership" in stopped[0].log_text(), "no transfer in the log of %r", stopped[0])
        stopped[0].start()
        stopped[0].wait_up()
        return result

    stopped, found = [], []
    with Cluster(3) as cluster:
        with TimedLoad(cluster) as load:
            load.wait_acks(200)
            for _ in range(TRIES):
                found += [result for result in [stop_and_start()] if result is not None]
                if len(found) == options.rounds_or(3):
                    break
        cluster.wait_converged()
        notes = [load.verify(node) for node in cluster.nodes]
    expect_equal(len(found), options.rounds_or(3), "times that the leader handed over within %.0f ms" % (1000 * CALM_S))
    unknown = [errors for _, _, errors in found if "UNKNOWN" in errors]
    expect_equal(unknown, [], "unknown outcomes")
    return "no write for %s ms; %s" % (", ".join("%.0f" % (1000 * gap) for gap, _, _ in found), notes[0])


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
            wait_for(lambda: all(len(p.replies) > 400 or p.failure for p in pipeliners))
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
        leader, _ = cluster.reign()
        target, other = [node for node in cluster.nodes if node is not leader]
        target.pause()

        def given_up():
            now = cluster.leader()
            if not now.status()["ready"]:
                return None
            try:
                reply = now.once("LOCKSTEP", "TRANSFER", target.id)
                raise AssertionError("a transfer to a stopped node gave %r" % reply)
            except RespError as error:
                expect(error.code in ("TRYAGAIN", "ERR", "CLUSTERDOWN"), "unexpected error: -%s", error)
                return str(error)

        text = undisturbed(cluster, lambda: wait_for(given_up, what="a transfer"))
        expect_equal(other.call("SET", "k", "v"), "OK", "a write afterwards")
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
                              capture_output=True, text=True, timeout=PATIENCE)

    with Cluster(3) as cluster:
        for target in cluster.nodes * 2:
            wait_for(lambda t=target: cli_transfers(cluster, t, run), what="a transfer to %r" % target)
        undisturbed(cluster, lambda: followers_name_the_leader(cluster))
        expect_equal(run(99, "--addr", "127.0.0.1:%d" % cluster.nodes[0].port).returncode, 1, "transfer to a stranger")
        expect_equal(run("x").returncode, 2, "transfer to no number")


def cli_transfers(cluster, target, run):
    """Runs `lockstep transfer` to that node by way of another one; False if leadership moved by itself, or could not."""
    leader, _ = cluster.reign()
    wait_for(lambda: leader.status()["ready"] or leader is not cluster.leader(), what="%r to be ready" % leader)
    before = cluster.reign()
    done = run(target.id, "--addr", "127.0.0.1:%d" % cluster.nodes[0].port)
    if done.returncode == 0:
        expect(done.stdout.startswith("OK node %d leads term " % target.id), "it printed %r", done.stdout)
        expect(target is not before[0] or cluster.reign() != before, "a transfer to the leader succeeded")
        return True
    expect_equal(done.returncode, 1, "exit code (%s)" % done.stderr)
    if done.stderr == "lockstep: ERR node %d leads already\n" % target.id:
        expect(target is before[0] or cluster.reign() != before, "%r was said to lead already", target)
        return True
    expect("TRYAGAIN" in done.stderr or "CLUSTERDOWN" in done.stderr or cluster.reign() != before, "it said: %s",
           done.stderr)
    return False


def followers_name_the_leader(cluster):
    with cluster.followers()[0].client() as client:
        text = expect_error(client, "ERR", "LOCKSTEP", "TRANSFER")
        expect("127.0.0.1:%d" % cluster.leader().port in text, "the leader is not named: %s", text)


@test
def leader_of_one_stops_at_once():
    """A cluster of one has nobody to hand over to: SIGTERM and SHUTDOWN end it without waiting for anybody, status 0."""
    election = 20  # seconds: whoever waits for a successor waits for two of them
    for how in ("signal", "command"):
        with Cluster(1, flags=["--election-timeout-ms", str(1000 * election), "--heartbeat-ms", "100"]) as cluster:
            node = cluster.nodes[0]
            begin = time.monotonic()
            if how == "signal":
                node.process.signal(signal.SIGTERM)
            else:
                with Client(node.port) as client:
                    client.send("SHUTDOWN")
            expect_equal(node.process.wait(), 0, "exit status after the %s" % how)
            expect(time.monotonic() - begin < election, "it took %.1f s to stop", time.monotonic() - begin)
