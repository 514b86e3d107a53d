#!/usr/bin/env python3
"""Searches the model of leases and grants whole, and breaks its rules one at a time.

usage: run.py [--deep] [--trace] [--jobs N] [--list] [NAME...]

Three kinds of searches. The protocol as it is must have no counter-example within the bounds of each search, which
visits every state. Each broken rule must have one. And what the protocol is for (local reads, writes under grants, ...)
must be found possible, since a model in which nothing happens holds too. --trace prints the steps of each example (a
shortest one); --deep adds searches with wider bounds, minutes and up to 2 GiB each. NAME selects the searches whose name
or flags contain it. Ends with "N passed, N failed". Needs spin and a C compiler.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

MODEL = pathlib.Path(__file__).resolve().parent / "lease.pml"
MEMORY_MIB = 4000
DEPTH = 200000  # more steps than any path has, or the search is not whole and fails
TIMEOUT_S = 600
TIMEOUT_DEEP_S = 3600
HOLDS, BROKEN, POSSIBLE = "the protocol holds", "a broken rule is found", "it is possible"


@dataclasses.dataclass
class Case:
    """One search. `flags` are the model's -D options; CRASHES, TRANSFERS and DELAYS are 0 unless given."""
    kind: str
    name: str
    flags: str
    deep: bool = False


CASES = [
    Case(HOLDS, "two terms, delay", "TERMS=2 LEN=2 DELAYS=1"),
    Case(HOLDS, "two terms, delay, heartbeats", "TERMS=2 LEN=2 DELAYS=1 HEARTBEATS P=1 G=1"),
    Case(HOLDS, "three terms", "TERMS=3 LEN=3"),
    Case(HOLDS, "promises longer than grants", "TERMS=2 LEN=2 HEARTBEATS P=3 G=2"),
    Case(HOLDS, "a restart", "TERMS=2 LEN=2 CRASHES=1 HEARTBEATS"),
    Case(HOLDS, "a restart, delay", "TERMS=2 LEN=2 DELAYS=1 CRASHES=1 P=1 G=1"),
    Case(HOLDS, "a restart that loses entries", "TERMS=2 LEN=2 CRASHES=1 LOSSY P=1 G=1"),
    Case(HOLDS, "a transfer, delay", "TERMS=2 LEN=2 DELAYS=1 TRANSFERS=1 P=1 G=1"),
    Case(HOLDS, "a transfer and a restart", "TERMS=2 LEN=2 CRASHES=1 TRANSFERS=1"),
    Case(HOLDS, "a learner with a grant", "TERMS=2 LEN=2 LEARNER"),
    # Two rules cover a grant's first moments, and either would do: the code has both.
    Case(HOLDS, "granted when ready, no needs",
         "TERMS=2 LEN=2 DELAYS=1 HEARTBEATS P=1 G=1 GRANT_WHEN_READY GRANT_WITHOUT_NEEDS"),
    Case(HOLDS, "... with a restart", "TERMS=1 LEN=1 CRASHES=1 LOSSY HEARTBEATS GRANT_WHEN_READY GRANT_WITHOUT_NEEDS"),

    Case(BROKEN, "a restarted node votes at once", "TERMS=2 LEN=2 CRASHES=1 NO_VOTE_GUARD"),
    Case(BROKEN, "a grant outlives its lease", "TERMS=2 LEN=2 LEARNER GRANT_OUTLIVES_LEASE"),
    Case(BROKEN, "exposure ignores a grantee", "TERMS=1 LEN=1 EXPOSE_IGNORES_GRANTEE"),
    Case(BROKEN, "a follower shows the unexposed", "TERMS=1 LEN=1 DELAYS=1 SHOW_UNEXPOSED"),
    Case(BROKEN, "a lease after a transfer", "TERMS=2 LEN=2 TRANSFERS=1 LEASE_AFTER_TRANSFER"),
    Case(BROKEN, "a transfer while a grant is out", "TERMS=2 LEN=2 TRANSFERS=1 TRANSFER_WITH_GRANTS"),
    Case(BROKEN, "a deposed leader votes", "TERMS=2 LEN=2 DEPOSED_LEADER_VOTES"),
    Case(BROKEN, "a new leader reads at once", "TERMS=2 LEN=2 HEARTBEATS NO_BARRIER"),
    Case(BROKEN, "a grant before the log is there", "TERMS=2 LEN=2 HEARTBEATS GRANT_WITHOUT_NEEDS"),
    Case(BROKEN, "a grant runs from its arrival", "TERMS=1 LEN=1 DELAYS=1 GRANT_FROM_ARRIVAL"),
    Case(BROKEN, "a grant survives a restart", "TERMS=1 LEN=1 DELAYS=1 CRASHES=1 LOSSY P=1 G=1 GRANT_ACROSS_RESTART"),
    Case(BROKEN, "received: an old term's tail",
         "TERMS=2 LEN=2 HEARTBEATS GRANT_WHEN_READY GRANT_WITHOUT_NEEDS OLD_RECEIVED"),
    Case(BROKEN, "received: before a restart",
         "TERMS=1 LEN=1 CRASHES=1 LOSSY HEARTBEATS GRANT_WHEN_READY GRANT_WITHOUT_NEEDS RECEIVED_ACROSS_RESTART"),

    Case(POSSIBLE, "the leader reads", "TERMS=1 LEN=1 REACH_LEADER_READ"),
    Case(POSSIBLE, "a grantee reads", "TERMS=1 LEN=1 REACH_GRANTEE_READ"),
    Case(POSSIBLE, "a write is acknowledged under a grant", "TERMS=1 LEN=1 REACH_WRITE_UNDER_GRANT"),
    Case(POSSIBLE, "a committed write waits for a grantee", "TERMS=1 LEN=1 REACH_WRITE_WAITS"),
    Case(POSSIBLE, "a second leader reads", "TERMS=2 LEN=2 REACH_LATER_LEADER_READ"),
    Case(POSSIBLE, "its grantee reads an old write", "TERMS=2 LEN=2 REACH_LATER_GRANTEE_READ"),
    Case(POSSIBLE, "leadership is handed over", "TERMS=2 LEN=2 TRANSFERS=1 REACH_TRANSFER"),
    Case(POSSIBLE, "a restarted node reads", "TERMS=1 LEN=1 CRASHES=1 LOSSY REACH_RETURN"),

    Case(HOLDS, "two terms, longer delay", "TERMS=2 LEN=2 DELAYS=1 HEARTBEATS", deep=True),
    Case(HOLDS, "a restart, longer delay", "TERMS=2 LEN=2 DELAYS=1 CRASHES=1", deep=True),
    Case(HOLDS, "a transfer, longer delay", "TERMS=2 LEN=2 DELAYS=1 TRANSFERS=1", deep=True),
    Case(HOLDS, "a learner, delay", "TERMS=2 LEN=2 DELAYS=1 LEARNER P=1 G=1", deep=True),
    Case(HOLDS, "longer promises, delay", "TERMS=2 LEN=2 DELAYS=1 P=3 G=2", deep=True),
]


@dataclasses.dataclass
class Outcome:
    ok: bool
    states: str = "?"
    seconds: float = 0.0
    text: str = ""
    trail: tuple = ()


def defines(case):
    given = {"CRASHES": "0", "TRANSFERS": "0", "DELAYS": "0"}
    for word in case.flags.split():
        name, _, value = word.partition("=")
        given[name] = value or "1"
    return [f"-D{name}={value}" for name, value in given.items()]


def command(words, where, timeout=TIMEOUT_S):
    return subprocess.run(words, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          timeout=timeout, check=False)


def build(case, where):
    """Makes `pan`, the program that searches; returns what went wrong, "" if nothing."""
    shutil.copy(MODEL, where)
    made = command(["spin", "-a", *defines(case), MODEL.name], where)
    if made.returncode != 0 or not (where / "pan.c").exists():
        return "spin failed:\n" + made.stdout
    # An example is searched for in breadth, so that it is a shortest one. It is soon found: there, optimising the
    # program takes longer than running it.
    kind = ["-O1", "-DCOLLAPSE"] if case.kind == HOLDS else ["-O0", "-DBFS"]
    made = command(["cc", "-w", "-DSAFETY", "-DNOREDUCE", "-DVECTORSZ=1024", f"-DMEMLIM={MEMORY_MIB}", *kind, "-o", "pan",
                    "pan.c"], where)
    return "" if made.returncode == 0 else "the compiler failed:\n" + made.stdout


def trail_of(case, where):
    """The steps of the example, as the model words them."""
    out = command(["spin", "-t", *defines(case), MODEL.name], where).stdout
    out = out.replace("told by its leader, ", "told by its leader,\n")
    lines = [line.strip() for line in out.splitlines()]
    return tuple(line for line in lines if re.match(r"node \d|the delayed|told|it is|a tick", line))


def judge(case, said, where):
    """What the search's output means."""
    states = re.search(r"([0-9.e+]+) states, stored", said)
    errors = re.search(r"errors: (\d+)", said)
    number = f"{int(float(states.group(1))):,}" if states else "?"
    if errors is None:
        return Outcome(False, number, text="the search broke off:\n" + said[-2000:])
    found = errors.group(1) != "0"
    if found and "assertion violated" not in said:
        return Outcome(False, number, text="not what is looked for:\n" + said[-2000:])
    if not found and re.search(r"max search depth too small|out of memory|Search not completed", said):
        return Outcome(False, number, text="the search is not whole:\n" + said[-2000:])
    trail = trail_of(case, where) if found else ()
    return Outcome(found == (case.kind != HOLDS), number, trail=trail)


def search(case):
    with tempfile.TemporaryDirectory(prefix="lockstep-model-") as name:
        where = pathlib.Path(name)
        timeout = TIMEOUT_DEEP_S if case.deep else TIMEOUT_S
        began = time.monotonic()
        try:
            wrong = build(case, where)
            if wrong:
                return Outcome(False, text=wrong)
            outcome = judge(case, command(["./pan", f"-m{DEPTH}", "-w22"], where, timeout).stdout, where)
        except subprocess.TimeoutExpired:
            outcome = Outcome(False, text=f"not finished in {timeout} s")
        outcome.seconds = time.monotonic() - began
        return outcome


def show(case, outcome, trace):
    found = f"example of {len(outcome.trail)} lines" if outcome.trail else "none"
    word = "ok" if outcome.ok else "FAILED"
    print(f"  {word:6}  {case.name:38} {outcome.states:>11} states {outcome.seconds:6.1f} s  {found}", flush=True)
    for line in outcome.text.splitlines():
        print("          " + line)
    if trace or not outcome.ok:
        print(f"          {case.flags}")
        for step in outcome.trail:
            print("          | " + step)


def select(names, deep):
    if names:
        wanted = [name.lower() for name in names]
        return [case for case in CASES if any(w in (case.name + " " + case.flags).lower() for w in wanted)]
    return [case for case in CASES if deep or not case.deep]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        for case in CASES:
            print(f"{case.kind:24} {case.name:38} {case.flags}{'  (--deep)' if case.deep else ''}")
        return 0
    cases = select(arguments.names, arguments.deep)
    if not cases:
        print(f"no search is called {' or '.join(arguments.names)}; --list names them all", file=sys.stderr)
        return 2
    failed, kind = 0, ""
    with concurrent.futures.ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        for case, outcome in zip(cases, pool.map(search, cases)):
            if case.kind != kind:
                kind = case.kind
                print(f"{kind}:")
            show(case, outcome, arguments.trace)
            failed += not outcome.ok
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
