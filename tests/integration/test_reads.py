"""What reads promise, on every node and by every path, while processes stop, wake and restart."""

import threading
import time

from cluster import Client, Cluster, RespError, wait_for
from harness import Load, Reader, expect, expect_equal, expect_error, expect_refuses_start, test


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


def sticky_load(cluster, writers=4, readers_per_node=2, timeout=15.0):
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
            cluster.wait_converged()
            note = load.verify(cluster.nodes[0])
            expect_equal([from_memory(node) for node in cluster.followers()], [0, 0], "local reads of followers")
            if path == "confirmed":
                expect_equal(cluster.leader().status()["local_reads"], "config", "why the lease is off")
            notes.append("%s: %s" % (" ".join(flags), note))
    return "; ".join(notes)


@test
def restarted_follower_reads_nothing_old(options):
    """A follower that replays a long log holds a grant early: it must not answer from what it has not applied yet."""
    with Cluster(3) as cluster:
        value = b"x" * 1000
        with cluster.nodes[0].client(timeout=60.0) as client:
            for part in range(30):
                replies = client.pipeline([("SET", "key:%d" % (part * 1000 + i), value) for i in range(1000)])
                expect(all(reply == "OK" for reply in replies), "SET: %r", next((r for r in replies if r != "OK"), None))
        last = "key:29999"
        reads = 0
        for _ in range(options.rounds_or(2)):
            follower = cluster.followers()[0]
            follower.stop()
            follower.start()
            begin = time.monotonic()
            granted = None  # for so long it goes on when the follower may read locally
            while granted is None or time.monotonic() < granted + 0.5:
                expect(time.monotonic() < begin + 20, "%r got no grant", follower)
                answer = get_or_none(follower, last)
                if answer is not None:
                    expect_equal(answer, (value,), "%s at a follower that replays its log" % last)
                    reads += 1
                if granted is None and may_read(follower):
                    granted = time.monotonic()
        return "%d reads" % reads


def may_read(node):
    try:
        return node.status().get("local_reads", "yes") == "yes"
    except (OSError, EOFError, RespError):
        return False


def get_or_none(node, key):
    """(value,), or None if the node refuses or is not there yet."""
    try:
        return (node.call("GET", key),)
    except (OSError, EOFError, RespError):
        return None


def sleeping_leader(cluster, seconds):
    """Stops the leader under load and wakes it; every reader's client history is checked. Returns a note."""
    with sticky_load(cluster, readers_per_node=3) as load:
        load.wait_acks(300)
        leader = cluster.leader()
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
def leader_asleep_without_leases_reads_nothing_old():
    """The same for 2 s with leases off: reads by ReadIndex."""
    with Cluster(3, flags=["--leases", "no"]) as cluster:
        return sleeping_leader(cluster, 2)


@test
def stopped_follower_holds_writes_up_once(options):
    """SIGSTOP of a follower that holds a grant: writes stall for one grant length at most, once; then all goes on."""
    timeout_ms = 1000
    grant = timeout_ms / 2000  # seconds
    with Cluster(3, flags=["--election-timeout-ms", str(timeout_ms)]) as cluster:
        notes = []
        for _ in range(options.rounds_or(2)):
            leader = cluster.wait_leader(everywhere=True)
            follower = cluster.followers()[0]
            wait_for(lambda: follower.status()["local_reads"] == "yes", what="a grant for %r" % follower)
            with leader.client(timeout=20.0) as client:
                def sets(until, times):
                    while time.monotonic() < until:
                        expect_equal(client.call("SET", "k", "v"), "OK", "SET")
                        times.append(time.monotonic())
                before, after = [], []
                sets(time.monotonic() + 1.0, before)
                follower.pause()
                paused = time.monotonic()
                sets(paused + 3.0, after)
            follower.resume()
            gaps = sorted((b - a for a, b in zip([paused] + after, after)), reverse=True)
            expect(gaps[0] <= grant * 1.02 + 0.15, "writes stalled for %.0f ms; a grant is %.0f ms", 1000 * gaps[0],
                   1000 * grant)
            expect(gaps[1] <= grant / 2, "writes stalled again, for %.0f ms", 1000 * gaps[1])
            rate = sum(t > paused + 2 for t in after) / sum(t > before[-1] - 1 for t in before)
            expect(rate >= 0.5, "only %.0f %% of the throughput came back", 100 * rate)
            notes.append("stall %.0f ms, then %.0f ms, throughput %.0f %%" % (1000 * gaps[0], 1000 * gaps[1], 100 * rate))
            cluster.wait_converged()
        return "; ".join(notes)


# ---------------------------------------------------------------------------------------------------------- weaker modes


@test
def session_token_carries_what_was_seen():
    """READMODE's revision, presented on another node, makes its reads at least that new; without it they are local."""
    with Cluster(3, flags=["--read-grants", "leader"]) as cluster:
        leader = cluster.leader()
        follower = cluster.followers()[0]
        rounds = 200
        with leader.client() as writer, in_mode(follower, "session") as reader:
            for i in range(rounds):
                writer.send("SET", "k", i)
                writer.send("READMODE")
                expect_equal(writer.read(), "OK", "SET")
                flat = writer.read()
                token = flat[flat.index(b"revision") + 1]
                expect_equal(reader.call("READMODE", "session", token), "OK", "READMODE session")
                expect_equal(reader.call("GET", "k"), b"%d" % i, "GET with a token")
                expect(report(reader)["revision"] >= token, "the token was lowered")
            expect_equal(report(reader)["mode"], b"session", "mode")
            cluster.wait_converged()
            before = paths(follower)["session"]
            for _ in range(50):
                expect_equal(reader.call("GET", "k"), b"%d" % (rounds - 1), "GET")
            expect_equal(paths(follower)["session"], before + 50, "reads by session mode")
            for node in cluster.nodes:  # its own writes, wherever they went
                with in_mode(node, "session") as client:
                    for i in range(50):
                        client.call("SET", "own:%d" % node.id, i)
                        expect_equal(client.call("GET", "own:%d" % node.id), b"%d" % i, "own write at %r" % node)


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
                reply = client.call("GET", "k")
                raise AssertionError("a revision that this node can't have gave %r" % reply)
            except RespError as error:
                expect(error.code in ("CLUSTERDOWN", "TRYAGAIN"), "unexpected error: -%s", error)


def stale_bound(flags):
    with Cluster(3, flags=flags) as cluster:
        cluster.nodes[0].call("SET", "k", "v")
        cluster.wait_converged()
        leader = cluster.leader()
        asked = cluster.followers()[0]
        other = next(node for node in cluster.nodes if node not in (leader, asked))
        with in_mode(asked, "stale", 500) as bounded, in_mode(asked, "stale") as unbounded:
            with in_mode(leader, "stale", 500) as at_leader:
                for client in (bounded, unbounded, at_leader):
                    wait_for(lambda: client.call("GET", "k") == b"v", what="a stale read")
            expect(paths(asked)["stale"] > 0, "no read by stale mode: %r", paths(asked))
            leader.pause()
            other.pause()  # so that nobody can take over
            paused = time.monotonic()
            def refused():
                try:
                    expect_equal(bounded.call("GET", "k"), b"v", "a stale read")
                    expect(time.monotonic() < paused + 0.75, "no refusal %.0f ms after contact was lost",
                           1000 * (time.monotonic() - paused))
                    return False
                except RespError as error:
                    expect_equal(error.code, "TRYAGAIN", "the refusal")
                    return time.monotonic()
            # The copy was as new as the last contact: it can't be refused much before, nor accepted after the bound.
            after = wait_for(refused, what="the bound to be exceeded", interval=0.005) - paused
            expect(after >= 0.2, "refused %.0f ms after contact was lost, with a bound of 500 ms", 1000 * after)
            expect_equal(unbounded.call("GET", "k"), b"v", "a stale read without a bound")
            expect_error(bounded, "TRYAGAIN", "GET", "k")
            expect(paths(asked)["too_stale"] > 0, "refusals are not counted: %r", paths(asked))
            leader.resume()
            other.resume()
            wait_for(lambda: bounded.call("GET", "k") == b"v", what="stale reads to be answered again")
        return "refused %.0f ms after contact was lost, bound 500 ms" % (1000 * after)


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
        acked = []  # (instant, number)
        ended = threading.Event()
        failures = []

        def write():
            with cluster.nodes[0].client() as client:
                number = 0
                while not ended.is_set():
                    number += 1
                    client.call("SET", "n", number)
                    acked.append((time.monotonic(), number))

        def read(node):
            try:
                with in_mode(node, "stale", int(bound * 1000)) as client:
                    while not ended.is_set():
                        floor = next((n for t, n in reversed(acked) if t < time.monotonic() - bound), 0)
                        try:
                            value = int(client.call("GET", "n") or 0)
                        except RespError as error:
                            expect_equal(error.code, "TRYAGAIN", "the refusal")
                            continue
                        expect(value >= floor, "%r gave %d; %d was acknowledged more than %.0f ms before", node, value,
                               floor, 1000 * bound)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=write)] + [
            threading.Thread(target=read, args=(node,)) for node in cluster.nodes]
        for thread in threads:
            thread.start()
        stale = lambda: sum(paths(node)["stale"] for node in cluster.nodes)  # noqa: E731
        try:
            wait_for(lambda: (len(acked) > 500 * options.rounds_or(1) and stale() > 100) or failures, 60.0,
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
        leader = cluster.leader()
        follower = cluster.followers()[0]
        wait_for(lambda: follower.status()["local_reads"] == "yes" and leader.status()["local_reads"] == "yes")
        wait_for(lambda: sum(member.get("grant_left_us", 0) > 0 for member in leader.status()["members"]) == 2,
                 what="two grants in the leader's status")
        wait_for(lambda: 0 < int(follower.info("lockstep")["local_reads_left_us"]) <= 150000, what="a grant's time left")
        for node in cluster.nodes:
            if node is not leader:
                node.pause()
        wait_for(lambda: leader.status()["local_reads"] != "yes", what="the lease to end")
        off = leader.info("lockstep")["local_reads_off"]
        expect(off in ("quorum", "role"), "local reads are off since: %r", off)
        with Client(leader.port) as client:
            expect_equal(client.call("PING"), "PONG", "PING")
        return off
