#!/usr/bin/env python3
"""Lockstep beside redis-server and etcd, on this machine, in one run. `./dev bench` calls this.

One system runs at a time, on empty data. Rounds are interleaved (every system once for each workload in each round, in an
order that rotates), so that drift of the machine hits all alike; ratios are taken within a round, and their median, lowest
and highest are shown. Standard library only. Exit codes: 0 done (targets reached or not), 1 failed, 2 wrong command line.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
sys.path.insert(0, HERE)

import gigabyte  # noqa: E402
import report  # noqa: E402
import stall  # noqa: E402
import systems  # noqa: E402
from cluster import lockstepd_path  # noqa: E402

# Each workload: which systems, what load, and the ratio to each peer that Lockstep aims at.
SET_TARGETS = {(50, 1): {"redis-always": 0.8, "redis-wait": 2.0},
               (50, 16): {"redis-always": 0.95, "redis-wait": 2.3},
               (200, 16): {"redis-always": 1.2}}
KEYS_GET = 100000


def workloads():
    result = []
    for connections, depth in ((50, 1), (50, 16), (200, 16)):
        result.append({"name": "set-c%d-P%d" % (connections, depth), "label": "c=%d P=%d" % (connections, depth),
                       "title": "SET, %d connections, depth %d" % (connections, depth), "op": "set",
                       "connections": connections, "depth": depth, "targets": SET_TARGETS[(connections, depth)],
                       "systems": ["lockstep", "lockstep-follower", "redis", "redis-always", "redis-wait"]})
    for connections, depth in ((50, 1), (50, 16)):
        result.append({"name": "get-c%d-P%d" % (connections, depth), "label": "c=%d P=%d" % (connections, depth),
                       "title": "GET, %d connections, depth %d" % (connections, depth), "op": "get",
                       "connections": connections, "depth": depth, "targets": {},
                       "systems": ["lockstep", "lockstep-follower", "redis"]})
    result.append({"name": "put-c64", "label": "64 clients", "title": "put, 64 clients, one request at a time each",
                   "op": "set", "connections": 64, "depth": 1, "targets": {"etcd": 10.0}, "systems": ["lockstep", "etcd"]})
    return result


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n\n")[0],
                                     epilog="The data must be on a real disk: on tmpfs syncing costs nothing.")
    parser.add_argument("--scenario", choices=("compare", "stall", "gigabyte"), default="compare",
                        help="compare: the systems side by side (default); "
                        "stall: a follower is stopped under load; gigabyte: snapshots, "
                        "a join, restarts and replacement of all nodes with 10 million keys")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--time", type=float, default=5.0, help="seconds measured per run (default 5)")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds of load before each (default 1)")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s runs: a first look in about two minutes")
    parser.add_argument("--only", default="", help="workloads whose names contain this: set, get, put, c50, P16, ...")
    parser.add_argument("--systems", default="", help="comma list of: lockstep lockstep-follower redis redis-always "
                        "redis-wait etcd (default all)")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory comparison out")
    parser.add_argument("--memory-keys", type=int, default=1000000, help="keys for it (default 1000000)")
    parser.add_argument("--flag", action="append", default=[],
                        help="flag for lockstepd, as --flag=--loglevel --flag=debug; repeatable")
    parser.add_argument("--dir", default=os.path.join(ROOT, "build", "bench"), help="data directories (default build/bench)")
    parser.add_argument("--ports", help="range to take ports from (default 21300-21399)")
    parser.add_argument("--lockstep", default=os.path.join(ROOT, "build", "lockstep"), help="the load generator")
    parser.add_argument("--lockstepd", help="the server (default build/lockstepd)")
    parser.add_argument("--json", metavar="FILE", help="keep all figures")
    parser.add_argument("--svg", metavar="FILE", help="draw them")
    parser.add_argument("--stall-time", type=float, default=60.0, help="seconds the follower is stopped (default 60)")
    parser.add_argument("--gigabyte-keys", type=int, default=10000000, help="keys of that scenario (default 10000000)")
    parser.add_argument("--snapshot-seconds", type=float, default=15.0, help="its load beside a snapshot (default 15)")
    parser.add_argument("--parts", default="", help="of it, comma list of: snapshots join restarts replace (default all)")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.time, args.warmup = 1, 2.0, 0.5
    if args.rounds < 1 or args.time <= 0 or args.warmup < 0 or args.memory_keys < 1000:
        parser.error("--rounds, --time, --warmup and --memory-keys must be positive (keys at least 1000)")
    return args


def say(text):
    print(text, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------------------------------- load generators


def load(args, address, *options):
    """One run of lockstep bench; returns its JSON."""
    argv = [args.lockstep, "bench", "--addr", address, "--json"] + [str(option) for option in options]
    run = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode not in (0, 3):
        raise RuntimeError("%s failed: %s" % (" ".join(argv), run.stderr.strip()))
    return json.loads(run.stdout)


def etcdbench_build():
    """The etcd client of tests/bench/etcdbench; None, with a message, if it cannot be built."""
    binary = os.path.join(ROOT, "build", "etcdbench")
    source = os.path.join(HERE, "etcdbench")
    newest = max(os.path.getmtime(os.path.join(source, name)) for name in os.listdir(source))
    if os.path.exists(binary) and os.path.getmtime(binary) > newest:
        return binary
    if shutil.which("go") is None:
        say("go is not installed (apt-get install golang-go): etcd is left out")
        return None
    say("building the etcd client")
    os.makedirs(os.path.dirname(binary), exist_ok=True)
    run = subprocess.run(["go", "build", "-o", binary, "."], cwd=source, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        say("the etcd client does not build, etcd is left out:\n" + run.stderr)
        return None
    return binary


def load_etcd(args, system, workload):
    argv = [args.etcdbench, "-endpoints", system.endpoints, "-clients", workload["connections"], "-time", args.time,
            "-warmup", args.warmup]
    run = subprocess.run([str(arg) for arg in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise RuntimeError("etcdbench failed: " + run.stderr.strip())
    return json.loads(run.stdout)


def load_redis_protocol(args, system, workload, target):
    address = system.follower_address if target == "lockstep-follower" else system.address
    options = ["-c", workload["connections"], "-P", workload["depth"], "--mix", workload["op"], "--time", args.time,
               "--warmup", args.warmup]
    if workload["op"] == "get":
        load(args, system.address, "-c", 4, "-P", 64, "--dist", "sequential", "--keys", KEYS_GET, "--requests", KEYS_GET)
        options += ["--keys", KEYS_GET]
    elif system.wait:
        options += ["--wait", system.wait]
    return load(args, address, *options)


def run_one(args, workload, target):
    """Start the system, load it, stop it; returns the figures."""
    kind = systems.ALL[target.replace("-follower", "")]
    system = kind(args.dir, args.flag) if kind is systems.Lockstep else kind(args.dir)
    with system:
        cpu_before = sum(process.cpu_seconds() for process in cpu_processes(system))
        if target == "etcd":
            figures = load_etcd(args, system, workload)
        else:
            figures = load_redis_protocol(args, system, workload, target)
        figures["server_cpu_s"] = sum(process.cpu_seconds() for process in cpu_processes(system)) - cpu_before
        figures["details"] = system.details()
    return figures


def cpu_processes(system):
    return [node.process for node in system.cluster.nodes] if isinstance(system, systems.Lockstep) else system.processes


# ---------------------------------------------------------------------------------------------------------------- the runs


def compare(args):
    wanted = [name for name in args.systems.split(",") if name]
    chosen = []
    for workload in workloads():
        workload["systems"] = [name for name in workload["systems"]
                               if (not wanted or name in wanted) and (name != "etcd" or args.etcdbench)]
        if args.only in workload["name"] and workload["systems"]:
            workload["runs"] = {name: [] for name in workload["systems"]}
            chosen.append(workload)
    total = args.rounds * sum(len(workload["systems"]) for workload in chosen)
    done = 0
    for number in range(args.rounds):
        for workload in chosen:
            names = workload["systems"]
            for i in range(len(names)):
                name = names[(i + number) % len(names)]
                done += 1
                figures = run_one(args, workload, name)
                workload["runs"][name].append(figures)
                say("[%d/%d] round %d  %-12s %-18s %9.0f requests/s  p99 %8.3f ms%s"
                    % (done, total, number + 1, workload["name"], name, figures["throughput"],
                       figures["latency_us"]["p99"] / 1000,
                       "  %d errors: %s" % (figures["errors"], figures["first_error"]) if figures["errors"] else ""))
    return chosen


def settle(process):
    """RSS once it has stopped moving: the median of three readings within 1 % of each other."""
    readings = []
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        readings.append(process.rss_bytes())
        last = sorted(readings[-3:])
        if len(last) == 3 and last[2] - last[0] <= last[1] * 0.01:
            return last[1]
        time.sleep(0.5)
    return readings[-1]


def memory(args):
    """Bytes per key by RSS: full minus empty, over the number of keys; each key is written once."""
    result = {"keys": args.memory_keys, "key_size": 16, "value_size": 64, "target": 0.62}
    for name in ("redis", "lockstep"):
        kind = systems.ALL[name]
        system = kind(args.dir, args.flag) if kind is systems.Lockstep else kind(args.dir)
        with system:
            processes = system.memory_processes()
            empty = {what: settle(process) for what, process in processes.items()}
            figures = load(args, system.address, "-c", 8, "-P", 64, "--dist", "sequential", "--keys", args.memory_keys,
                           "--requests", args.memory_keys)
            if figures["errors"]:
                raise RuntimeError("loading %s: %s" % (name, figures["first_error"]))
            full = {what: settle(process) for what, process in processes.items()}
            result[name] = {what: {"empty": empty[what], "full": full[what],
                                   "per_key": (full[what] - empty[what]) / args.memory_keys} for what in processes}
            say("memory  %-12s %s" % (name, "  ".join("%s %.1f bytes per key" % (what, figures["per_key"])
                                                      for what, figures in result[name].items())))
    return result


# ------------------------------------------------------------------------------------------------------------ surroundings


def file_system(path):
    """The type of the file system that holds `path`."""
    best, kind = "", "?"
    path = os.path.realpath(path)
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, point, fs_type = line.split()[:3]
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, fs_type
    return kind


def sync_cost_us(directory):
    """Median time of a 4 KiB write with fdatasync: what durability costs here at least."""
    path = os.path.join(directory, "sync-probe")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    times = []
    os.write(fd, b"\0" * (1 << 20))
    os.fsync(fd)
    for i in range(200):
        start = time.perf_counter()
        os.pwrite(fd, b"x" * 4096, (i % 256) * 4096)
        os.fdatasync(fd)
        times.append(time.perf_counter() - start)
    os.close(fd)
    os.unlink(path)
    return sorted(times)[len(times) // 2] * 1e6


def version_of(*argv):
    try:
        run = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return run.stdout.split("\n")[0].strip()
    except OSError:
        return "not installed"


def environment(args):
    cpu = "?"
    with open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
    facts = {"cpus": os.cpu_count(), "cpu": cpu, "kernel": platform.release(), "file_system": file_system(args.dir),
             "sync_us": round(sync_cost_us(args.dir), 1), "date": time.strftime("%Y-%m-%d"),
             "lockstep": version_of("git", "-C", ROOT, "describe", "--always", "--dirty"),
             "redis": version_of("redis-server", "--version"), "etcd": version_of("etcd", "--version"),
             "rounds": args.rounds, "seconds": args.time, "load_before": os.getloadavg()[0]}
    facts["summary"] = ("%d CPUs (%s), %s, a synced 4 KiB write takes %.0f us; medians of %d rounds of %g s"
                        % (facts["cpus"], cpu, facts["file_system"], facts["sync_us"], args.rounds, args.time))
    if facts["file_system"] in ("tmpfs", "ramfs"):
        raise RuntimeError("%s is on %s, where syncing costs nothing: choose a --dir on a disk"
                           % (args.dir, facts["file_system"]))
    return facts


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))  # so that everything started is ended
    os.makedirs(args.dir, exist_ok=True)
    if args.ports:
        os.environ["LOCKSTEP_TEST_PORTS"] = args.ports
    if args.lockstepd:
        os.environ["LOCKSTEPD"] = args.lockstepd
    for program in (args.lockstep, lockstepd_path()):
        if not os.access(program, os.X_OK):
            raise RuntimeError("%s is missing: ./dev build" % program)
    if args.scenario == "gigabyte":
        return gigabyte.run(args, say)
    if args.scenario == "stall":
        return stall.run(args, say)
    args.etcdbench = etcdbench_build() if shutil.which("etcd") else None
    facts = environment(args)
    say(facts["summary"])
    if facts["load_before"] > 0.5 * facts["cpus"]:
        say("warning: the machine is busy (load average %.1f): the figures will say little" % facts["load_before"])
    results = {"environment": facts, "workloads": compare(args)}
    if not args.no_memory:
        results["memory"] = memory(args)
    print("\n" + facts["summary"])
    if facts["load_before"] > 0.5 * facts["cpus"]:
        print("WARNING: the machine was busy with other work (load average %.1f at the start)" % facts["load_before"])
    print(report.table(results))
    if args.json:
        with open(args.json, "w") as out:
            json.dump(results, out, indent=1)
            out.write("\n")
    if args.svg:
        with open(args.svg, "w") as out:
            out.write(report.svg(results))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except (RuntimeError, AssertionError, OSError) as error:
        sys.exit("bench: %s" % error)
