"""Scenario "gigabyte": 10 million keys, about 1 GB in memory, on a three-node cluster. Shown: what a snapshot costs under a
steady load, that a new node joins under it, also when its links are cut, and how fast a node starts again, beside
redis-server with the same keys."""

import json
import os
import shutil
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
JOIN_S_MAX = 300


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
            "stall_cpu_ms": float(info["snapshot_stall_max_cpu_us"]) / 1000,
            "slice_ms": float(info["snapshot_slice_max_us"]) / 1000}


def snapshots(args, cluster, say):
    leader = cluster.wait_leader(everywhere=True)
    address = "%s:%d" % (HOST, leader.port)
    rounds = []
    for number in range(args.rounds):
        plain = finish(steady(args, address, args.snapshot_seconds))
        taken = take_under_load(args, leader, address)
        taken["p99_plain_ms"] = plain["latency_us"]["p99"] / 1000
        taken["p99_ratio"] = taken["p99_ms"] / taken["p99_plain_ms"]
        rounds.append(taken)
        say("round %d: p99 %.2f ms without a snapshot, %.2f ms with one (%.1f s); stall %.2f ms, %.2f ms of the processor; "
            "RSS x %.3f" % (number + 1, taken["p99_plain_ms"], taken["p99_ms"], taken["seconds"], taken["stall_ms"],
                            taken["stall_cpu_ms"], taken["rss_ratio"]))
    middle = {name: statistics.median(r[name] for r in rounds) for name in ("p99_ratio", "rss_ratio", "stall_ms")}
    worst = max(r["stall_cpu_ms"] for r in rounds)
    errors = sum(r["errors"] for r in rounds)
    checks = [
        ("a snapshot of %d keys under %d SET/s: longest turn with a slice of it %.2f ms of the processor (at most %d; "
         "median by the clock %.2f)" % (args.keys, RATE, worst, SNAPSHOT_STALL_MS_MAX, middle["stall_ms"]),
         worst <= SNAPSHOT_STALL_MS_MAX),
        ("RSS x %.3f (at most %.2f)" % (middle["rss_ratio"], SNAPSHOT_RSS_GROWTH_MAX),
         middle["rss_ratio"] <= SNAPSHOT_RSS_GROWTH_MAX),
        ("p99 of SET x %.2f (at most %.1f)" % (middle["p99_ratio"], SNAPSHOT_P99_RATIO_MAX),
         middle["p99_ratio"] <= SNAPSHOT_P99_RATIO_MAX),
        ("%d errors" % errors, errors == 0)]
    return checks, rounds


# ------------------------------------------------------------------------------------------------------------------ joining


def join(args, cluster, say):
    """A new node becomes a voter under load; the links to it are cut twice while it gets the snapshot."""
    leader = cluster.wait_leader(everywhere=True)
    ports = free_ports(3)
    node = Joiner(cluster, 4, (ports[0], ports[2]))  # listens at the third, is known by the second
    node.seed = leader
    proxy = Proxy(ports[1], ports[2])
    load = steady(args, "%s:%d" % (HOST, leader.port), JOIN_S_MAX)
    try:
        begin = time.monotonic()
        node.start()
        size = int(leader.info()["snapshot_bytes"])
        member(cluster, "add", 4, "%s:%d:%d" % (HOST, ports[0], ports[1]))
        for part in (0.3, 0.6):
            wait_for(lambda p=part: int(node.info()["snapshot_received_bytes"]) > p * size, 120, "a part of the snapshot",
                     interval=0.005, check=node.check_alive)
            say("links cut after %.0f MB: %d" % (int(node.info()["snapshot_received_bytes"]) / 1e6, proxy.cut()))
        cluster.nodes.append(node)
        member(cluster, "promote", 4, wait=JOIN_S_MAX)
        seconds = time.monotonic() - begin
        load.send_signal(2)
        figures = finish(load)
        info = node.info()
        member(cluster, "remove", 4)
    finally:
        load.kill()
        node.kill()
        proxy.close()
        release_ports(ports)
        cluster.nodes.remove(node)
    again = int(info["snapshot_received_again_bytes"])
    result = {"seconds": seconds, "errors": figures["errors"], "first_error": figures["first_error"],
              "resumed": int(info["snapshot_resumed"]), "received": int(info["snapshot_received_bytes"]), "again": again,
              "longest_gap_ms": figures["longest_gap_ms"], "requests": figures["requests"]}
    checks = [
        ("a new node became a voter after %.1f s under %d SET/s: %d errors of %d requests %s; longest time without a reply "
         "%.0f ms" % (seconds, RATE, result["errors"], result["requests"], result["first_error"], result["longest_gap_ms"]),
         result["errors"] == 0),
        ("its links were cut twice: resumed %d times, %.1f of %.0f MB came twice" % (
            result["resumed"], again / 1e6, result["received"] / 1e6), result["resumed"] >= 2 and again < size / 10)]
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
