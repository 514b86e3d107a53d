"""Scenario "gigabyte": 10 million keys, about 1 GB in memory, on a three-node cluster. Shown: what a snapshot costs under a
steady load, that a new node joins under it, also when its links are cut, and how fast a node starts again, beside
redis-server with the same keys."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import threading
import time

import systems
from cluster import HOST, Client, Cluster, Process, free_ports, release_ports, wait_for
from test_install import Proxy
from test_members import Joiner, member

RATE = 20000              # SETs per second, open loop
SNAPSHOT_STALL_MS_MAX = 2
SNAPSHOT_RSS_GROWTH_MAX = 1.15
SNAPSHOT_P99_RATIO_MAX = 1.5
RESTART_RATIO_MIN = 2.5
JOIN_S_MAX = 120


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
    """Waits until no node writes a snapshot: their own ones, as after filling, would count in both halves of a round."""
    for node in cluster.nodes:
        wait_for(lambda node=node: node.info()["snapshot_in_progress"] == "0", 120, "the nodes' own snapshots to end",
                 check=node.check_alive)


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


def run(args, say):
    """Returns the exit code: 0 if everything held."""
    directory = os.path.join(args.dir, "gigabyte")
    shutil.rmtree(directory, ignore_errors=True)
    args.keys = args.gigabyte_keys
    checks, figures = [], {"keys": args.keys, "system": systems.Lockstep.label}
    parts = {"snapshots": snapshots, "join": join, "restarts": restarts}
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
