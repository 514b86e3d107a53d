"""Scenario "gigabyte": 10 million keys, about 1 GB in memory, on a three-node cluster. Shown: what a snapshot costs under a
steady load, that a new node joins under it, also when its links are cut, how fast a node starts again, beside
redis-server with the same keys, and that all three nodes can be replaced under load."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import threading
import time
from types import SimpleNamespace

import systems
from cluster import HOST, Client, Cluster, Process, RespError, free_ports, release_ports, wait_for
from harness import Load, Reader, Writer
from test_install import Proxy
from test_members import Joiner, add_node, member

RATE = 20000              # SETs per second, open loop
SNAPSHOT_STALL_MS_MAX = 2
SNAPSHOT_RSS_GROWTH_MAX = 1.15
SNAPSHOT_P99_RATIO_MAX = 1.5
RESTART_RATIO_MIN = 2.5
JOIN_S_MAX = 120
RETRIED = ("CLUSTERDOWN", "TRYAGAIN", "leaving")  # a client that is told so asks again


def bench(args, address, *options):
    """Starts lockstep bench; finish() gives its figures."""
    argv = [args.lockstep, "bench", "--addr", address, "--json"] + [str(option) for option in options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, error = process.communicate()
    if process.returncode not in (0, 3):
        raise RuntimeError("lockstep bench: " + error.strip())
    return json.loads(out)


def fill(args, address):
    finish(bench(args, address, "-c", 8, "-P", 64, "--mix", "set", "--dist", "sequential", "--keys", args.keys,
                 "--requests", args.keys))


def steady(args, address, seconds):
    return bench(args, address, "-c", 50, "--mix", "set", "--keys", args.keys, "--rate", RATE, "--time", seconds,
                 "--warmup", 1)


class RssPeak(threading.Thread):
    """The highest RSS of a process until stop(), read ten times a second."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process = process
        self.peak = 0
        self.ended = threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.1):
            self.peak = max(self.peak, self.process.rss_bytes())

    def stop(self):
        self.ended.set()
        self.join()
        return self.peak


# ---------------------------------------------------------------------------------------------------------------- snapshots


def idle(cluster):
    """Waits until no node writes a snapshot or waits for its turn: their own ones, as after filling, would count in both
    halves of a round."""

    def none():
        infos = [node.info() for node in cluster.nodes]
        return all(info["snapshot_in_progress"] == "0" and info["snapshot_put_off"] == "0" for info in infos)

    wait_for(none, 240, "the nodes' own snapshots to end")


def plain_load(args, node, address):
    """The load alone: its p99, and the longest turn of the node's loop without time that it waited for a core."""
    node.call("CONFIG", "RESETSTAT")
    figures = finish(steady(args, address, args.snapshot_seconds))
    return figures["latency_us"]["p99"] / 1000, int(node.info()["loop_stall_max_own_us"]) / 1000


def take_under_load(args, node, address):
    """One snapshot of the leader under the load: figures of both."""
    before = node.process.rss_bytes()
    node.call("CONFIG", "RESETSTAT")
    begin = time.monotonic()
    with node.client(timeout=300) as client:
        client.send("LOCKSTEP", "SNAPSHOT", "TAKE")
        peak = RssPeak(node.process)
        load = steady(args, address, args.snapshot_seconds)
        client.read()
        took = time.monotonic() - begin
        figures = finish(load)
    info = node.info()
    return {"p99_ms": figures["latency_us"]["p99"] / 1000, "errors": figures["errors"], "seconds": took,
            "throughput": figures["throughput"], "rss_ratio": peak.stop() / before,
            "stall_ms": float(info["snapshot_stall_max_us"]) / 1000,
            "stall_own_ms": float(info["loop_stall_max_own_us"]) / 1000,
            "stall_cpu_ms": float(info["snapshot_stall_max_cpu_us"]) / 1000,
            "slice_ms": float(info["snapshot_slice_max_us"]) / 1000}


def snapshots(args, cluster, say):
    leader = cluster.wait_leader(everywhere=True)
    address = "%s:%d" % (HOST, leader.port)
    rounds = []
    for number in range(args.rounds):
        idle(cluster)
        p99_plain_ms, stall_plain_ms = plain_load(args, leader, address)
        taken = take_under_load(args, leader, address)
        taken["p99_plain_ms"] = p99_plain_ms
        taken["stall_own_plain_ms"] = stall_plain_ms
        taken["p99_ratio"] = taken["p99_ms"] / taken["p99_plain_ms"]
        rounds.append(taken)
        say("round %d: p99 %.2f ms without a snapshot, %.2f ms with one (%.1f s); longest turn but for waits for a core "
            "%.2f ms without, %.2f ms with one, by the clock %.2f ms, of the processor %.2f ms; RSS x %.3f" % (
                number + 1, taken["p99_plain_ms"], taken["p99_ms"], taken["seconds"], taken["stall_own_plain_ms"],
                taken["stall_own_ms"], taken["stall_ms"], taken["stall_cpu_ms"], taken["rss_ratio"]))
    middle = {name: statistics.median(r[name] for r in rounds)
              for name in ("p99_ratio", "rss_ratio", "stall_ms", "stall_own_ms")}
    worst = max(r["stall_cpu_ms"] for r in rounds)
    errors = sum(r["errors"] for r in rounds)
    checks = [
        ("a snapshot of %d keys under %d SET/s: longest turn meanwhile %.2f ms of the processor, %.2f (median) "
         "but for waits for a core (at most %d; median by the clock %.2f)" % (
             args.keys, RATE, worst, middle["stall_own_ms"], SNAPSHOT_STALL_MS_MAX, middle["stall_ms"]),
         max(worst, middle["stall_own_ms"]) <= SNAPSHOT_STALL_MS_MAX),
        ("RSS x %.3f (at most %.2f)" % (middle["rss_ratio"], SNAPSHOT_RSS_GROWTH_MAX),
         middle["rss_ratio"] <= SNAPSHOT_RSS_GROWTH_MAX),
        ("p99 of SET x %.2f (at most %.1f)" % (middle["p99_ratio"], SNAPSHOT_P99_RATIO_MAX),
         middle["p99_ratio"] <= SNAPSHOT_P99_RATIO_MAX),
        ("%d errors" % errors, errors == 0)]
    return checks, rounds


# ------------------------------------------------------------------------------------------------------------------ joining


def received(node):
    return int(node.info()["snapshot_received_bytes"])


def drop_log(leader):
    """A new node shall need a snapshot: one is taken, and the log before it goes. Returns the size of its file."""
    with leader.client(timeout=300) as client:
        size = client.call("LOCKSTEP", "SNAPSHOT", "TAKE")[2]
    wait_for(lambda: int(leader.info()["log_start"]) > 1, 60, "the log to lose its beginning", check=leader.check_alive)
    return size


def join_through(cluster, node, size, proxy, addresses, say):
    """Node joins, the links that others open to it are cut twice during the transfer. Returns seconds by step."""
    began = time.monotonic()
    times = {}

    def note(step):
        times[step] = time.monotonic() - began

    node.start()
    member(cluster, "add", node.id, addresses)
    note("learner")
    for part in (0.3, 0.6):
        wait_for(lambda: received(node) > part * size, JOIN_S_MAX, "a part of the snapshot", interval=0.005,
                 check=node.check_alive)
        cut = proxy.cut()
        say("%d links cut after %.0f of %.0f MB" % (cut, received(node) / 1e6, size / 1e6))
    wait_for(lambda: int(node.info()["snapshot_installs"]) > 0, JOIN_S_MAX, "the snapshot to be installed",
             check=node.check_alive)
    note("installed")
    cluster.nodes.append(node)
    member(cluster, "promote", node.id, wait=JOIN_S_MAX)
    note("voter")
    return times


def join(args, cluster, say):
    """A new node becomes a voter under load; the links to it are cut twice while it gets the snapshot."""
    leader = cluster.wait_leader(everywhere=True)
    address = "%s:%d" % (HOST, leader.port)
    plain = finish(steady(args, address, args.snapshot_seconds))
    size = drop_log(leader)
    ports = free_ports(3)
    node = Joiner(cluster, 4, (ports[0], ports[2]))  # listens at the third, is known by the second
    node.seed = leader
    proxy = Proxy(ports[1], ports[2])
    load = steady(args, address, 4 * JOIN_S_MAX)
    try:
        times = join_through(cluster, node, size, proxy, "%s:%d:%d" % (HOST, ports[0], ports[1]), say)
        load.send_signal(signal.SIGINT)
        figures = finish(load)
        info = node.info()
        cluster.wait_converged(timeout=60)
        digests = {each.info()["digest"] for each in cluster.nodes}
        member(cluster, "remove", node.id)
    finally:
        load.kill()
        node.kill()
        proxy.close()
        release_ports(ports)
        if node in cluster.nodes:
            cluster.nodes.remove(node)
    result = {name: figures[name] for name in ("errors", "first_error", "requests", "throughput", "longest_gap_ms")}
    result.update(times)
    result.update({"p99_plain_ms": plain["latency_us"]["p99"] / 1000, "p99_ms": figures["latency_us"]["p99"] / 1000,
                   "resumed": int(info["snapshot_resumed"]), "received": int(info["snapshot_received_bytes"]),
                   "again": int(info["snapshot_received_again_bytes"])})
    say("seconds until %s; p99 %.2f ms before, %.2f ms while it joined" % (
        ", ".join("%s: %.1f" % step for step in times.items()), result["p99_plain_ms"], result["p99_ms"]))
    checks = [
        ("a new node became a voter after %.1f s under %.0f SET/s: %d errors of %d requests %s; longest time without a "
         "reply %.0f ms" % (times["voter"], result["throughput"], result["errors"], result["requests"],
                            result["first_error"], result["longest_gap_ms"]), result["errors"] == 0),
        ("its links were cut twice: resumed %d times, %.1f MB in vain beside %.0f" % (
            result["resumed"], result["again"] / 1e6, result["received"] / 1e6),
         result["resumed"] >= 2 and result["again"] < result["received"] / 10),
        ("all nodes hold the same", len(digests) == 1)]
    return checks, result


# --------------------------------------------------------------------------------------------------------------- restarting


def first_read(port, key):
    """Seconds until that key is read there."""
    begin = time.monotonic()

    def answered():
        with Client(port, timeout=60) as client:
            return client.call("GET", key)

    wait_for(answered, 300, "the first read", interval=0.01)
    return time.monotonic() - begin


class RedisRestarts:
    """redis-server with the same keys in an RDB file."""

    def __init__(self, args):
        self.args = args
        self.dir = os.path.join(args.dir, "gigabyte-redis")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.port = free_ports(1)[0]
        self.process = None
        self.start()
        wait_for(lambda: Client(self.port).call("PING"), what="redis-server")
        fill(args, "%s:%d" % (HOST, self.port))
        Client(self.port, timeout=300).call("SAVE")
        self.process.kill()

    def start(self):
        self.process = Process(["redis-server", "--port", self.port, "--bind", HOST, "--dir", self.dir, "--save", "",
                                "--appendonly", "no"], os.path.join(self.dir, "log"))

    def measure(self, key):
        self.start()
        try:
            return first_read(self.port, key)
        finally:
            self.process.kill()

    def close(self):
        self.process.kill()
        release_ports([self.port])
        shutil.rmtree(self.dir, ignore_errors=True)


def restarts(args, cluster, say):
    node = cluster.followers()[0]
    with node.client(timeout=300) as client:
        client.call("LOCKSTEP", "SNAPSHOT", "TAKE")
    key = node.call("RANDOMKEY")
    redis = RedisRestarts(args)
    rounds = []
    try:
        for number in range(args.rounds):
            theirs = redis.measure(key)
            node.stop(timeout=60)
            subprocess.run("cat snapshot-* > /dev/null", shell=True, cwd=node.dir, check=True)  # into the page cache
            node.start()
            ours = first_read(node.port, key)
            cluster.wait_converged(timeout=60)
            rounds.append({"lockstep_s": ours, "redis_s": theirs, "ratio": theirs / ours})
            say("round %d: a node of ours answered after %.2f s, redis-server after %.2f s: %.2f times" % (
                number + 1, ours, theirs, theirs / ours))
    finally:
        redis.close()
    ratio = statistics.median(r["ratio"] for r in rounds)
    return [("restart with %d keys: %.2f times as fast as redis-server from RDB (at least %.1f)" % (
        args.keys, ratio, RESTART_RATIO_MIN), ratio >= RESTART_RATIO_MIN)], rounds


# ---------------------------------------------------------------------------------------------------------------- replacing


class PacedWriter(Writer):
    """One that leaves the processor to others: some 150 writes per second."""

    def _append(self, client, token):
        time.sleep(0.005)
        return super()._append(client, token)


class PacedReader(Reader):
    """The same for reads; remembers how long each took, in seconds."""

    def __init__(self, load, number):
        super().__init__(load, number)
        self.times = []

    def _read(self, client, node, writer):
        time.sleep(0.005)
        begin, before = time.monotonic(), self.reads
        try:
            super()._read(client, node, writer)
        except (OSError, EOFError) as error:  # asked again elsewhere
            why = "leaving" if isinstance(error.__cause__, RespError) else "connection lost"
            self.errors[why] = self.errors.get(why, 0) + 1
            raise
        if self.reads > before:
            self.times.append(time.monotonic() - begin)


class CheckedLoad(Load):
    """Beside the steady load: writers and readers on all nodes, old and new, whose every value is checked."""

    def __init__(self, nodes):
        super().__init__(SimpleNamespace(nodes=nodes), writers=0, readers=0, timeout=30.0)
        self.writers = [PacedWriter(self, number) for number in range(6)]
        self.readers = [PacedReader(self, number) for number in range(4)]

    def read_p99_ms(self):
        times = sorted(t for reader in self.readers for t in reader.times)
        return 1000 * times[len(times) * 99 // 100] if times else 0.0


def steady_with_spares(args, nodes, spares):
    """The steady load on all nodes; its connections go on at others when their node leaves."""
    def names(some):
        return ",".join("%s:%d" % (HOST, node.port) for node in some)
    return bench(args, names(nodes), "--spare", names(spares), "-c", 51, "--mix", "set", "--keys", args.keys, "--rate", RATE,
                 "--time", 4 * JOIN_S_MAX, "--warmup", 1)


def replace_each(cluster, joiners, load, say):
    """Add, promote, remove, stop: for each of the nodes. Returns the seconds that each of the replacements took."""
    seconds = []
    for old, new in zip(list(cluster.nodes), joiners):
        begin = time.monotonic()
        add_node(cluster, new)
        voter = time.monotonic() - begin
        member(cluster, "remove", old.id)
        old.stop(timeout=60)
        cluster.nodes.remove(old)
        load.wait_acks(200)
        seconds.append(time.monotonic() - begin)
        say("node %d replaced by %d: a voter after %.1f s, the old one stopped after %.1f s" % (
            old.id, new.id, voter, seconds[-1]))
    return seconds


def replace_figures(load, figures, plain, seconds):
    outcomes = {"acknowledged": sum(len(writer.acked) for writer in load.writers),
                "unknown": sum(len(writer.unknown) for writer in load.writers),
                "reads": sum(reader.reads for reader in load.readers),
                "write_retries": load.errors(load.writers), "read_retries": load.errors(load.readers)}
    outcomes.update({name: figures[name] for name in ("errors", "first_error", "retries", "disconnects", "requests",
                                                      "throughput", "unsent", "longest_gap_ms", "per_second")})
    outcomes.update({"seconds": seconds, "p99_plain_ms": plain["latency_us"]["p99"] / 1000,
                     "p99_ms": figures["latency_us"]["p99"] / 1000, "p99_9_ms": figures["latency_us"]["p99_9"] / 1000,
                     "read_p99_ms": load.read_p99_ms()})
    return outcomes


def replace(args, cluster, say):
    """All nodes are replaced, one after the other, under load. The last part: the cluster is another one afterwards."""
    plain = finish(steady(args, "%s:%d" % (HOST, cluster.wait_leader(everywhere=True).port), args.snapshot_seconds))
    drop_log(cluster.leader())
    ports = free_ports(6)
    joiners = [Joiner(cluster, 101 + i, ports[2 * i:2 * i + 2]) for i in range(3)]
    bulk = steady_with_spares(args, cluster.nodes, joiners)
    try:
        with CheckedLoad(cluster.nodes + joiners) as load:
            load.wait_acks(200)
            seconds = replace_each(cluster, joiners, load, say)
        bulk.send_signal(signal.SIGINT)
        result = replace_figures(load, finish(bulk), plain, seconds)
        cluster.wait_converged(timeout=120)
        for node in cluster.nodes:
            load.verify(node)  # raises if an acknowledged write is lost
        digests = {node.info()["digest"] for node in cluster.nodes}
    finally:
        bulk.kill()
        for node in joiners:
            node.kill()
        release_ports(ports)
    say("p99 of SET %.2f ms before, %.2f ms meanwhile (p99.9 %.1f, longest time without a reply %.0f); of checked reads "
        "%.1f ms; sent again: %d of the steady SETs, %s of checked writes, %s of checked reads" % (
            result["p99_plain_ms"], result["p99_ms"], result["p99_9_ms"], result["longest_gap_ms"], result["read_p99_ms"],
            result["retries"],
            result["write_retries"] or "none", result["read_retries"] or "none"))
    return [
        ("three nodes of %d keys replaced in %s s under %.0f SET/s: %d errors of %d requests %s" % (
            args.keys, " + ".join("%.1f" % s for s in seconds), result["throughput"], result["errors"], result["requests"],
            result["first_error"]), result["errors"] == 0),
        ("%d checked writes acknowledged, none lost; %d of unknown outcome" % (result["acknowledged"], result["unknown"]),
         result["unknown"] == 0),
        ("%d linearizable reads on all nodes, each with the value it had to have; none failed" % result["reads"],
         not set(result["read_retries"]) - set(RETRIED)),
        ("all nodes hold the same", len(digests) == 1)], result


def run(args, say):
    """Returns the exit code: 0 if everything held."""
    directory = os.path.join(args.dir, "gigabyte")
    shutil.rmtree(directory, ignore_errors=True)
    args.keys = args.gigabyte_keys
    checks, figures = [], {"keys": args.keys, "system": systems.Lockstep.label}
    parts = {"snapshots": snapshots, "join": join, "restarts": restarts, "replace": replace}
    with Cluster(3, directory=directory, flags=args.flag) as cluster:
        leader = cluster.wait_leader(everywhere=True)
        say("filling with %d keys" % args.keys)
        fill(args, "%s:%d" % (HOST, leader.port))
        cluster.wait_converged(timeout=120)
        figures["rss_mib"] = leader.process.rss_bytes() / 2**20
        for name in args.parts.split(",") if args.parts else parts:
            more, figures[name] = parts[name](args, cluster, say)
            checks += more
            for text, held in more:
                print("%-6s %s" % ("ok" if held else "FAILED", text), flush=True)
    if args.json:
        with open(args.json, "w") as out:
            json.dump(figures, out, indent=1)
    return 0 if all(held for _, held in checks) else 1
