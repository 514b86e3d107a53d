#!/usr/bin/env python3
"""Conformance of a real cluster: random commands to redis-server and to a follower of three nodes, equal replies.

usage: run.py [--commands N] [--seed S] [--node leader|follower] [--clients]

--clients runs the smoke tests of unmodified Redis clients (clients/run.sh) against a follower as well. Ends with
"N passed, N failed". The server is build/lockstepd (LOCKSTEPD names another).
"""

import argparse
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))

from cluster import HOST, Cluster  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--commands", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--node", choices=("leader", "follower"), default="follower")
    parser.add_argument("--clients", action="store_true")
    args = parser.parse_args()
    failed = 0
    # What commands mean is compared, not what a change of leaders does to them (UNKNOWN, CLUSTERDOWN): with this timeout
    # there is none, even on a busy machine.
    with Cluster(3, flags=["--election-timeout-ms", "5000"]) as cluster:
        node = cluster.leader() if args.node == "leader" else cluster.followers()[0]
        address = "%s:%d" % (HOST, node.port)
        commands = [["python3", os.path.join(HERE, "differential.py"), "--lockstep", address, "--commands",
                     str(args.commands), "--seed", str(args.seed)]]
        if args.clients:
            commands.append([os.path.join(HERE, "clients", "run.sh"), address])
        for command in commands:
            status = subprocess.run(command, check=False).returncode
            print("%s %s" % ("FAIL" if status else "ok  ", " ".join(os.path.relpath(word) if os.path.isabs(word) else word
                                                                     for word in command)), flush=True)
            failed += status != 0
    print("%d passed, %d failed" % (len(commands) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
