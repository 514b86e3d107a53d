#!/usr/bin/env python3
"""Runs the integration tests: real lockstepd processes on this machine, killed, stopped, corrupted and filled.

usage: run.py [--list] [-k WORD] [--rounds N] [--repeat N] [--hiccups SEED]

The server is build/lockstepd (LOCKSTEPD names another). One verdict per test; ends with "N passed, N failed".
"""

import argparse
import glob
import importlib
import os
import statistics
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import cluster  # noqa: E402
import harness  # noqa: E402


def load_tests():
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    return harness.TESTS


def run_one(name, function, options):
    """Returns "ok", "FAIL" or "skip"."""
    start = time.monotonic()
    verdict, note, detail = "ok", "", ""
    try:
        note = harness.call_test(function, options) or ""
    except harness.Skip as skip:
        verdict, note = "skip", str(skip)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        verdict, note = "FAIL", "%s: %s" % (type(error).__name__, error)
        detail = traceback.format_exc()
    print("%-4s %s (%.1f s)%s" % (verdict, name, time.monotonic() - start, ": " + note if note else ""), flush=True)
    if detail:
        print("".join("     | %s\n" % line for line in detail.rstrip().split("\n")), end="", flush=True)
    return verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--list", action="store_true", help="name the tests and what they show, run none")
    parser.add_argument("-k", metavar="WORD", action="append", help="only tests with this word in the name (repeatable)")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often tests with rounds do what they do")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run the selection this often")
    parser.add_argument("--hiccups", type=int, metavar="SEED", help="processes stand still for up to 300 ms at random, as "
                        "on a busy machine: tests take longer, and pass")
    args = parser.parse_args()
    tests = [(name, function) for name, function in load_tests() if not args.k or any(word in name for word in args.k)]
    if args.list:
        for name, function in tests:
            print("%-40s %s" % (name, (function.__doc__ or "").split("\n")[0]))
        return 0
    if not os.access(cluster.lockstepd_path(), os.X_OK):
        print("no server at %s: run ./dev build" % cluster.lockstepd_path(), file=sys.stderr)
        return 2
    if args.hiccups is not None:
        cluster.start_hiccups(args.hiccups)
    verdicts = []
    times = []
    for _ in range(args.repeat):
        for name, function in tests:
            start = time.monotonic()
            verdicts.append(run_one(name, function, harness.Options(args.rounds)))
            times.append(time.monotonic() - start)
    if times:
        print("%d tests, %.0f s, median %.1f s, %d skipped"
              % (len(times), sum(times), statistics.median(times), verdicts.count("skip")))
    print("%d passed, %d failed" % (verdicts.count("ok"), verdicts.count("FAIL")))
    return 1 if "FAIL" in verdicts or "ok" not in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
