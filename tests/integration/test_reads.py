"""What reads promise, on every node and by every path, while processes stop, wake and restart."""

import itertools
import threading
import time

from cluster import NOT_NOW, PATIENCE, UNSETTLED, Cluster, RespError, wait_for
from harness import (TRIES, Load, Reader, expect, expect_equal, expect_error, expect_refuses_start, test, undisturbed)


def paths(node):
    """Reads answered at that node, by path."""
    return node.status()["reads"]


def from_memory(node):
    """Reads answered at that node without asking another for each."""
    reads = paths(node)
    return reads["local"] + reads["waited"]


class StickyReader(Reader):
    """A reader that stays with one node."""

    def __init__(self, load, number, node):
        super().__init__(load, number)
        self.node = node

    def run(self):
        self.load = _OneNode(self.load, self.node)
        super().run()


class _OneNode:
    """A load as seen by a reader of one node only."""

    def __init__(self, load, node):
        self.nodes = [node]
        self.writers = load.writers
        self.stopping = load.stopping
        self.timeout = load.timeout


def sticky_load(cluster, writers=4, readers_per_node=2, timeout=PATIENCE):
    load = Load(cluster, writers=writers, readers=0, timeout=timeout)
    load.readers = [StickyReader(load, i, node) for i, node in enumerate(cluster.nodes * readers_per_node)]
    return load


def in_mode(node, *mode):
    client = node.client()
    expect_equal(client.call("READMODE", *mode), "OK", "READMODE")
    return client


def report(client):
    """READMODE's answer as a dict."""
    flat = client.call("READMODE")
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


# ----------------------------------------------------------------------------------------------------------- linearizable


@test
def every_node_reads_what_was_acknowledged(options):
    """GETs on every node under load see every write acknowledged anywhere before; every node answers from memory.

    How many do is a matter of the machine: a node reads by confirmation until its first grant, and a slow one loses grants.
    """
    with Cluster(3) as cluster:
        with sticky_load(cluster) as load:
            for _ in range(options.rounds_or(1)):
                load.wait_acks(2000)
            for reader in load.readers:
                wait_for(lambda r=reader: r.reads > 50, what="50 reads at %r" % reader.node, check=load.check)
            for node in cluster.nodes:
                wait_for(lambda n=node: from_memory(n) > 50, what="50 reads from memory at %r" % node, check=load.check)
        cluster.wait_converged()
        local = sum(from_memory(node) for node in cluster.nodes)
        note = [load.verify(node) for node in cluster.nodes][0]
        return "%d of %d reads from memory; %s" % (local, sum(reader.reads for reader in load.readers), note)


@test
def every_path_is_linearizable(options):
    """The same with leases off (ReadIndex), and with leases but no grants (followers forward): nothing stale."""
    notes = []
    for flags, path in ((["--leases", "no"], "confirmed"), (["--read-grants", "leader"], "local")):
        with Cluster(3, flags=flags) as cluster:
            with sticky_load(cluster) as load:
                load.wait_acks(500 * options.rounds_or(1))
                wait_for(lambda p=path: sum(paths(node)[p] for node in cluster.nodes) > 50, what="50 reads by %s" % path,
                         check=load.check)
                undisturbed(cluster, lambda: followers_leave_reads_to_the_leader(cluster, load))
            cluster.wait_converged()
            note = load.verify(cluster.nodes[0])
            if path == "confirmed":  # whoever led meanwhile
                expect_equal([from_memory(node) for node in cluster.nodes], [0, 0, 0], "local reads without leases")
                wait_for(lambda c=cluster: c.leader().status()["local_reads"] == "config", what="why the lease is off")
            notes.append("%s: %s" % (" ".join(flags), note))
    return "; ".join(notes)


def followers_leave_reads_to_the_leader(cluster, load):
    """While one leader leads the others answer nothing from memory."""
    leader, _ = cluster.reign()
    mine = [(reader, reader.node) for reader in load.readers if reader.node is not leader]
    before = {node: from_memory(node) for _, node in mine}
    goals = [(reader, reader.reads + 20) for reader, _ in mine]
    wait_for(lambda: all(reader.reads >= goal for reader, goal in goals), what="reads at followers", check=load.check)
    expect_equal({node: from_memory(node) for node in before}, before, "local reads of followers")


@test
def restarted_follower_reads_nothing_old(options):
    """A follower that replays a long log holds a grant early: it must not answer from what it has not applied yet."""
    with Cluster(3) as cluster:
        value = b"x" * 1000
        with cluster.nodes[0].client(timeout=60.0) as client:
            for part in range(30):
                client.write_all([("SET", "key:%d" % (part * 1000 + i), value) for i in range(1000)])
        last = "key:29999"
        reads = 0
        for _ in range(options.rounds_or(2)):
            follower = cluster.followers()[0]
            follower.stop()
            follower.start()
            begin = time.monotonic()
            granted = None  # when the follower may read locally: it goes on for a while
            seen = 0
            while granted is None or time.monotonic() < granted + 0.5 or seen < 100:
                expect(time.monotonic() < begin + PATIENCE, "%r got no grant, or answered only %d times", follower, seen)
                answer = get_or_none(follower, last)
                if answer is not None:
                    expect_equal(answer, (value,), "%s at a follower that replays its log" % last)
                    seen += 1
                if granted is None and may_read(follower):
                    granted = time.monotonic()
            reads += seen
        return "%d reads" % reads


def may_read(node):
    try:
        return node.status().get("local_reads", "yes") == "yes"
    except (OSError, EOFError, RespError):
        return False


def get_or_none(node, key):
    """(value,), or None if the node refuses or is not there yet."""
    try:
        return (node.once("GET", key),)
    except (OSError, EOFError, RespError):
        return None


def sleeping_leader(cluster, seconds):
    """Stops the leader under load and wakes it; every reader's client history is checked. Returns a note."""
    with sticky_load(cluster, readers_per_node=3) as load:
        load.wait_acks(300)
        leader = cluster.wait_leader(everywhere=True)
        leader.pause()
        slept = time.monotonic()
        cluster.wait_leader(other_than=leader)
        while time.monotonic() < slept + seconds:
            load.wait_acks(50)
        mine = [reader for reader, node in zip(load.readers, cluster.nodes * 3) if node is leader]
        before = sum(reader.reads for reader in mine)
        leader.resume()
        load.wait_acks(300)
        cluster.wait_leader(everywhere=True)
        wait_for(lambda: sum(reader.reads for reader in mine) >= before + 50, what="reads at the woken leader",
                 check=load.check)
    cluster.wait_converged()
    return load.verify(cluster.nodes[0])


@test
def leader_asleep_for_ten_seconds_reads_nothing_old():
    """SIGSTOP of the leader for 10 s under load, then SIGCONT: not one stale read at any node, under leases and grants."""
    with Cluster(3) as cluster:
        return sleeping_leader(cluster, 10)


@test
def leader_asleep_without_grants_reads_nothing_old():
    """The same without grants: the leader alone reads by itself, followers ask it."""
    with Cluster(3, flags=["--read-grants", "leader"]) as cluster:
        return sleeping_leader(cluster, 10)


@test
def leader_asleep_without_leases_reads_nothing_old():
    """The same with leases off: reads by ReadIndex."""
    with Cluster(3, flags=["--leases", "no"]) as cluster:
        return sleeping_leader(cluster, 10)


@test
def stopped_follower_holds_writes_up_once(options):
    """SIGSTOP of a follower that holds a grant: writes stall for one grant length at most, once; then all goes on.

    In each round: writes go on while it stands still, once its grant is out, which is never longer than a grant's length;
    it gets no other. That the stall lasts no longer than the grant, that there is only one, and that the throughput
    returns, shows in times: noise of the machine makes them longer, never shorter. So each must be within its bound in
    some rounds.
    """
    timeout_ms = 2000
    grant = timeout_ms / 2000  # seconds
    notes, good, wanted = [], [0, 0, 0], options.rounds_or(2)
    with Cluster(3, flags=["--election-timeout-ms", str(timeout_ms)]) as cluster:
        for _ in range(TRIES):
            stall, again, rate = undisturbed(cluster, lambda: stop_a_follower(cluster, grant))
            notes.append("stall %.0f ms, then %.0f ms, throughput %.0f %%" % (1000 * stall, 1000 * again, 100 * rate))
            good = [n + ok for n, ok in zip(good, (stall <= grant * 1.02 + 0.15, again <= grant / 2, rate >= 0.8))]
            if min(good) >= wanted:
                return "; ".join(notes)
    raise AssertionError("stall, second stall and throughput were within bounds in %s of %d rounds: %s" % (
        good, len(notes), "; ".join(notes)))


def stop_a_follower(cluster, grant):
    """Returns (longest time without a write, the second longest, throughput compared with before)."""
    leader, _ = cluster.reign()
    follower = next(node for node in cluster.nodes if node is not leader)
    wait_for(lambda: follower.status()["local_reads"] == "yes", what="a grant for %r" % follower)

    def grant_left():
        return next(m for m in leader.status()["members"] if m["id"] == follower.id).get("grant_left_us", 0) / 1e6

    before, after = [], []
    with leader.client() as client:
        def sets(until, times):
            while time.monotonic() < until or not times:
                expect_equal(client.once("SET", "k", "v"), "OK", "SET")
                times.append(time.monotonic())
        sets(time.monotonic() + 1.0, before)
        follower.pause()
        try:
            paused = time.monotonic()
            client.send("SET", "k", "held up")
            left = grant_left()
            expect(left <= grant * 1.021 + 0.002, "a grant is out for another %.0f ms", 1000 * left)
            wait_for(lambda: grant_left() == 0, what="the grant of a stopped node to end", interval=0.001)
            expect_equal(client.read(), "OK", "SET while a node stands still")
            after.append(time.monotonic())
            sets(paused + 4.0, after)
            expect_equal(grant_left(), 0, "grant of a stopped node")
        finally:
            follower.resume()
    cluster.wait_converged()
    gaps = sorted((b - a for a, b in zip([paused] + after, after)), reverse=True) + [0.0]
    return gaps[0], gaps[1], sum(t > paused + 3 for t in after) / sum(t > before[-1] - 1 for t in before)


# ---------------------------------------------------------------------------------------------------------- weaker modes


@test
def session_token_carries_what_was_seen():
    """READMODE's revision, presented on another node, makes its reads at least that new; without it they are local."""
    with Cluster(3, flags=["--read-grants", "leader"]) as cluster:
        leader = cluster.leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        rounds = 200
        with leader.client() as writer, in_mode(follower, "session") as reader:
            for i in range(rounds):
                token = written_with_token(writer, "k%d" % i, i)
                expect_equal(reader.call("READMODE", "session", token), "OK", "READMODE session")
                expect_equal(reader.call("GET", "k%d" % i), b"%d" % i, "GET with a token")
                expect(report(reader)["revision"] >= token, "the token was lowered")
            expect_equal(report(reader)["mode"], b"session", "mode")
        undisturbed(cluster, lambda: session_reads_are_local(cluster, "k%d" % (rounds - 1), b"%d" % (rounds - 1)))
        for node in cluster.nodes:  # its own writes, wherever they went
            with in_mode(node, "session") as client:
                for i in range(50):
                    client.call("SET", "own:%d:%d" % (node.id, i), i)
                    expect_equal(client.call("GET", "own:%d:%d" % (node.id, i)), b"%d" % i, "own write at %r" % node)


def written_with_token(client, key, value):
    """Sends READMODE right behind the SET; returns the revision that it gave, which covers the SET."""
    while True:
        reply, flat = client.pipeline([("SET", key, value), ("READMODE",)])
        if reply == "OK":
            return flat[flat.index(b"revision") + 1]
        expect(isinstance(reply, RespError) and reply.code in UNSETTLED, "SET: %r", reply)


def session_reads_are_local(cluster, key, value):
    """Those of a follower, when it has applied what the session has seen."""
    follower = cluster.followers()[0]
    cluster.wait_converged()
    before = paths(follower)["session"]
    with in_mode(follower, "session") as reader:
        for _ in range(50):
            expect_equal(reader.call("GET", key), value, "GET")
    expect_equal(paths(follower)["session"], before + 50, "reads by session mode")


@test
def session_reads_wait_for_no_leader():
    """In session mode a lone node still answers what the session has seen; a token from the future is refused."""
    with Cluster(3) as cluster:
        cluster.nodes[0].call("SET", "k", "v")
        cluster.wait_converged()
        alone = cluster.followers()[0]
        with in_mode(alone, "session") as client:
            expect_equal(client.call("GET", "k"), b"v", "GET")
            for node in cluster.nodes:
                if node is not alone:
                    node.kill()
            expect_equal(client.call("GET", "k"), b"v", "GET without the others")
            client.call("READMODE", "session", 10 ** 9)
            wait_for(lambda: alone.status()["local_reads"] != "yes", what="the grant to end")
            try:
                reply = client.once("GET", "k")
                raise AssertionError("a revision that this node can't have gave %r" % reply)
            except RespError as error:
                expect(error.code in NOT_NOW, "unexpected error: -%s", error)


def stale_bound(flags):
    with Cluster(3, flags=flags) as cluster:
        cluster.nodes[0].call("SET", "k", "v")
        for _ in range(TRIES):
            after = lose_contact(cluster)
            if after >= 0.2:  # contact may have been lost before, when the machine was busy; not each time
                return "refused %.0f ms after contact was lost, bound 500 ms" % (1000 * after)
    raise AssertionError("refused %.0f ms after contact was lost, with a bound of 500 ms, in %d rounds" % (
        1000 * after, TRIES))


def lose_contact(cluster):
    """One node alone: returns how long it answered reads with a bound of 500 ms, in seconds."""
    cluster.wait_converged()
    leader, _ = cluster.reign()
    asked, other = [node for node in cluster.nodes if node is not leader]
    with in_mode(asked, "stale", 500) as bounded, in_mode(asked, "stale") as unbounded:
        with in_mode(leader, "stale", 500) as at_leader:
            for client in (bounded, unbounded, at_leader):
                wait_for(lambda c=client: c.once("GET", "k") == b"v", what="a stale read")
        expect(paths(asked)["stale"] > 0, "no read by stale mode: %r", paths(asked))
        leader.pause()
        other.pause()  # so that nobody can take over
        paused = time.monotonic()

        def refused():
            sent = time.monotonic()
            try:
                expect_equal(bounded.once("GET", "k"), b"v", "a stale read")
                expect(sent <= paused + 0.5, "no refusal %.0f ms after contact was lost", 1000 * (sent - paused))
                return False
            except RespError as error:
                expect_equal(error.code, "TRYAGAIN", "the refusal")
                return time.monotonic()

        after = wait_for(refused, what="the bound to be exceeded", interval=0.005) - paused
        expect_equal(unbounded.once("GET", "k"), b"v", "a stale read without a bound")
        expect_error(bounded, "TRYAGAIN", "GET", "k")
        expect(paths(asked)["too_stale"] > 0, "refusals are not counted: %r", paths(asked))
        leader.resume()
        other.resume()
        wait_for(lambda: bounded.once("GET", "k") == b"v", what="stale reads to be answered again")
    return after


@test
def stale_reads_are_refused_beyond_their_bound():
    """READMODE stale MS: local while the leader is heard, -TRYAGAIN once the copy may be older; without a bound always."""
    return stale_bound([])


@test
def stale_reads_work_without_leases():
    """The same with leases off: the bound is measured by rounds of echoes, on the leader too."""
    return stale_bound(["--leases", "no"])


@test
def stale_reads_stay_within_their_bound(options):
    """Under load a bounded stale read misses nothing that was acknowledged longer ago than its bound."""
    bound = 0.1
    with Cluster(3) as cluster:
        acked = []  # (instant, part, number)
        ended = threading.Event()
        failures = []

        def write():
            try:
                with cluster.nodes[0].client() as client:
                    part = 0  # another key after each unknown outcome: it may yet be executed
                    for number in itertools.count(1):
                        if ended.is_set():
                            break
                        try:
                            client.once("SET", "n:%d" % part, number)
                            acked.append((time.monotonic(), part, number))
                        except RespError as error:
                            expect(error.code in UNSETTLED, "SET: -%s", error)
                            part += error.code not in NOT_NOW
            except Exception as error:
                failures.append(error)

        def read(node):
            try:
                with in_mode(node, "stale", int(bound * 1000)) as client:
                    while not ended.is_set():
                        sent = time.monotonic()
                        part, floor = next(((p, n) for t, p, n in reversed(acked) if t < sent - bound), (0, 0))
                        try:
                            value = int(client.once("GET", "n:%d" % part) or 0)
                        except RespError as error:
                            expect_equal(error.code, "TRYAGAIN", "the refusal")
                            continue
                        expect(value >= floor, "%r gave %d; %d was acknowledged more than %.0f ms before", node, value,
                               floor, 1000 * bound)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=write, daemon=True)] + [
            threading.Thread(target=read, args=(node,), daemon=True) for node in cluster.nodes]
        for thread in threads:
            thread.start()
        stale = lambda: sum(paths(node)["stale"] for node in cluster.nodes)  # noqa: E731
        try:
            wait_for(lambda: (len(acked) > 500 * options.rounds_or(1) and stale() > 100) or failures, 2 * PATIENCE,
                     "500 writes and 100 stale reads")
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        expect(not failures, "%s", failures)


@test
def read_mode_of_the_configuration():
    """read-mode is the default of new connections; HELLO and READMODE change it, RESET brings it back."""
    with Cluster(1, flags=["--read-mode", "stale 250"]) as cluster:
        with cluster.nodes[0].client() as client:
            expect_equal(report(client), {"mode": b"stale", "max-ms": 250, "revision": 0}, "default")
            client.call("HELLO", 2, "READMODE", "linearizable")
            expect_equal(report(client)["mode"], b"linearizable", "after HELLO")
            client.call("READMODE", "session")
            expect_equal(report(client)["mode"], b"session", "after READMODE")
            client.call("RESET")
            expect_equal(report(client)["mode"], b"stale", "after RESET")


# --------------------------------------------------------------------------------------------------------------- settings


@test
def nodes_of_other_timing_refuse_each_other():
    """Election timeout, heartbeat and clock bound must agree: a node with others is refused, and both sides say so."""
    flags = {"--election-timeout-ms": "450", "--heartbeat-ms": "20", "--clock-rate-error-ppm": "500"}
    for name, value in flags.items():
        cluster = Cluster(3)
        try:
            for node in cluster.nodes[:2]:
                node.start()
            cluster.nodes[2].start([name, value])
            cluster.wait_leader()
            for node in cluster.nodes:
                wait_for(lambda: "all nodes of a cluster must agree" in node.log_text(), check=node.check_alive,
                         what="%r to say that the settings differ" % node)
            expect_equal(cluster.nodes[0].call("SET", "k", "v"), "OK", "SET with the two that agree")
            expect(cluster.nodes[2].status()["leader"] == 0, "the node of other settings joined")
        finally:
            cluster.close()


@test
def directory_of_other_timing_is_refused():
    """A data directory whose cluster runs with other timing does not start, and says with which values it would."""
    for name, value in (("--election-timeout-ms", "450"), ("--clock-rate-error-ppm", "500")):
        with Cluster(1) as cluster:
            node = cluster.nodes[0]
            node.call("SET", "k", "v")
            node.stop()
            node.start([name, value])
            log = expect_refuses_start(node, "300", "10000", value, "all nodes agree")
            expect("cluster's values" in log, "no advice: %s", log[-500:])
            node.start()
            node.wait_up()
            expect_equal(node.call("GET", "k"), b"v", "GET after the refusal")
            expect_equal(node.info("lockstep")["local_reads"], "1", "local reads of a lone node")


@test
def lone_client_sees_who_reads_and_why_not():
    """INFO and LOCKSTEP STATUS: who may read from memory, until when, and why a lease is off."""
    with Cluster(3) as cluster:
        def may_read():
            leader = cluster.leader()
            follower = cluster.followers()[0]
            grants = [member.get("grant_left_us", 0) > 0 for member in leader.status()["members"]]
            left = int(follower.info("lockstep")["local_reads_left_us"])
            shown = [node.status()["local_reads"] for node in (leader, follower)]
            return leader if shown == ["yes", "yes"] and sum(grants) == 2 and 0 < left <= 150000 else None

        leader = wait_for(may_read, what="leader and follower to read from memory, and to show two grants")
        for node in cluster.nodes:
            if node is not leader:
                node.pause()
        wait_for(lambda: leader.status()["local_reads"] != "yes", what="the lease to end")
        off = leader.info("lockstep")["local_reads_off"]
        expect(off in ("quorum", "role"), "local reads are off since: %r", off)
        with leader.client() as client:
            expect_equal(client.call("PING"), "PONG", "PING")
        return off
