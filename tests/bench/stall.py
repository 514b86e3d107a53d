"""Scenario "stall": a follower is stopped for a while under write load. Shown: the leader's loop never stalls, its memory
stays bounded, no request fails, and the follower catches up when it returns.

What counts as a stall is what a turn of the loop ran or was blocked by. Three nodes and the load share this machine, so
turns also wait for a core; that is shown beside it."""

import json
import os
import shutil
import subprocess
import time

from cluster import Cluster, wait_for

LOAD_BEFORE_S = 5  # load before the follower is stopped
LOAD_AFTER_S = 5   # and after it has caught up
LOOP_STALL_MS_MAX = 10
RSS_GROWTH_MIB_MAX = 512
CATCH_UP_S_MAX = 60


def watch(process, seconds, readings):
    """Read the leader's RSS twice a second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        readings.append(process.rss_bytes() / 2**20)
        time.sleep(0.5)


def run(args, say):
    """Returns the exit code: 0 if everything held."""
    shutil.rmtree(os.path.join(args.dir, "stall"), ignore_errors=True)
    total_s = LOAD_BEFORE_S + args.stall_time + CATCH_UP_S_MAX + LOAD_AFTER_S
    with Cluster(3, directory=os.path.join(args.dir, "stall"), flags=args.flag) as cluster:
        leader = cluster.wait_leader(everywhere=True)
        follower = cluster.followers()[0]
        leader.call("CONFIG", "RESETSTAT")
        # Few keys: what grows is then the log and the queues, not the data.
        argv = [args.lockstep, "bench", "--addr", "127.0.0.1:%d" % leader.port, "-c", "50", "-P", "1", "--mix", "set",
                "--keys", "10000", "--time", str(total_s), "--json"]
        bench = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            readings = []
            watch(leader.process, LOAD_BEFORE_S, readings)
            before_mib = readings[-1]
            say("follower %d stopped for %g s" % (follower.id, args.stall_time))
            follower.pause()
            watch(leader.process, args.stall_time, readings)
            goal = leader.status()["applied"]
            follower.resume()
            resumed = time.monotonic()
            say("resumed; the leader has applied %d" % goal)
            wait_for(lambda: follower.status()["applied"] >= goal, CATCH_UP_S_MAX, "the follower to catch up",
                     check=follower.check_alive)
            caught_up_s = time.monotonic() - resumed
            watch(leader.process, LOAD_AFTER_S, readings)
            bench.send_signal(2)
            figures = json.loads(bench.communicate(timeout=60)[0])
        finally:
            bench.kill()
        info = leader.info()
        still_leads = leader.status()["role"] == "leader"
    stall_ms, with_wait_ms, cpu_ms, core_wait_ms = (
        float(info[name]) / 1000
        for name in ("loop_stall_max_own_us", "loop_stall_max_us", "loop_stall_max_cpu_us", "loop_core_wait_us"))
    growth_mib = max(readings) - before_mib
    checks = [
        ("longest loop stall of the leader %.1f ms (at most %d), most processor time in a turn %.1f ms; %.1f ms with "
         "waiting for a core, %.0f ms of which there were in all"
         % (stall_ms, LOOP_STALL_MS_MAX, cpu_ms, with_wait_ms, core_wait_ms), stall_ms <= LOOP_STALL_MS_MAX),
        ("RSS of the leader %.0f MiB before, %.0f MiB at most (growth at most %d)"
         % (before_mib, max(readings), RSS_GROWTH_MIB_MAX), growth_mib <= RSS_GROWTH_MIB_MAX),
        ("the follower caught up %.1f s after it returned" % caught_up_s, True),
        ("%d SETs, %.0f per second, longest time without a reply %.0f ms, %d errors %s"
         % (figures["requests"], figures["throughput"], figures["longest_gap_ms"], figures["errors"],
            figures["first_error"]),
         figures["errors"] == 0),
        ("the leader stayed leader", still_leads),
    ]
    for text, held in checks:
        print("%-6s %s" % ("ok" if held else "FAILED", text))
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"rss_mib": readings, "loop_stall_max_own_ms": stall_ms, "loop_stall_max_ms": with_wait_ms,
                       "loop_stall_max_cpu_ms": cpu_ms, "loop_core_wait_ms": core_wait_ms, "caught_up_s": caught_up_s,
                       "bench": figures}, out, indent=1)
    return 0 if all(held for _, held in checks) else 1
