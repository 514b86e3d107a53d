"""The operator's command line against real nodes: dev, status, cli, bench."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from cluster import (HOST, PATIENCE, ROOT, Client, Cluster, Process, RespError, free_ports, free_ports_in_a_row,
                     lockstepd_path, release_ports, wait_for)
from harness import TRIES, expect, expect_equal, settled, test, undisturbed

LOCKSTEP = os.environ.get("LOCKSTEP") or os.path.join(os.path.dirname(lockstepd_path()), "lockstep")
NODES = 3
PATIENT_MS = 30000  # for answers of nodes that are there


def lockstep(*args, stdin=None, timeout=120):
    return subprocess.run([LOCKSTEP] + [str(arg) for arg in args], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout)


class Dev:
    """A `lockstep dev` in a directory of its own."""

    def __init__(self, *flags):
        base = os.environ.get("LOCKSTEP_TEST_DIR") or os.path.join(ROOT, "build", "test-data")
        os.makedirs(base, exist_ok=True)
        self.base = tempfile.mkdtemp(prefix="dev-", dir=base)
        self.ports = free_ports_in_a_row(NODES)
        self.flags = flags
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process is not None:
            self.process.kill()
            wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in self.pids()), what="the nodes to be gone")
        release_ports(self.ports)
        shutil.rmtree(self.base, ignore_errors=True)

    def start(self):
        argv = [LOCKSTEP, "dev", "--nodes", NODES, "--dir", os.path.join(self.base, "data"), "--port", self.ports[0],
                "--lockstepd", lockstepd_path(), *self.flags]
        self.process = Process(argv, os.path.join(self.base, "output"))
        return self.process

    def start_ready(self):
        self.start()
        wait_for(lambda: "ready" in self.lines(), what="`ready`", check=self._check)

    def _check(self):
        expect(self.process.alive(), "lockstep dev ended with %s:\n%s", self.process.exit_status(), self.process.log_text())

    def lines(self):
        return self.process.log_text().split("\n")

    def pids(self):
        return [int(pid) for pid in re.findall(r"^node \d+ .* pid (\d+)", self.process.log_text(), re.M)]

    def address(self, number=0):
        return "%s:%d" % (HOST, self.ports[number])


@test
def dev_keeps_its_data_between_runs():
    """`ready` means that every node answers; SIGINT and SIGTERM end it with 0; the next start finds the data."""
    with Dev() as dev:
        for i, number in enumerate((signal.SIGINT, signal.SIGTERM)):
            dev.start_ready()
            for port in dev.ports:
                with Client(port) as client:
                    expect_equal(client.call("SET", "k:%d:%d" % (i, port), "x"), "OK", "SET")
                    expect_equal(client.call("DBSIZE"), i * NODES + dev.ports.index(port) + 1, "DBSIZE")
            pids = dev.pids()
            expect_equal(len(pids), NODES, "number of pids shown")
            dev.process.signal(number)
            expect_equal(dev.process.wait(), 0, "exit status after signal %d" % number)
            expect(not any(os.path.exists("/proc/%d" % pid) for pid in pids), "nodes linger after the end")


@test
def dev_dies_with_its_nodes():
    """kill -9 of `lockstep dev` leaves no node behind."""
    with Dev() as dev:
        dev.start_ready()
        pids = dev.pids()
        dev.process.kill()
        wait_for(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids), what="the nodes to be gone")


@test
def dev_reports_a_death_and_goes_on():
    """A node killed is reported with its signal and not restarted; the others serve; status shows it as down."""
    with Dev() as dev:
        dev.start_ready()
        os.kill(dev.pids()[1], signal.SIGKILL)
        wait_for(lambda: any(line.startswith("node 2 was killed by signal 9") for line in dev.lines()), what="the report")
        with Client(dev.ports[0]) as client:
            expect_equal(client.call("SET", "k", "v"), "OK", "a write of the others")

        def roles():
            run = lockstep("status", "--addr", dev.address(), "--json", "--timeout-ms", PATIENT_MS)
            expect_equal(run.returncode, 3, "exit code of status with a node down")
            nodes = {node["id"]: node for node in json.loads(run.stdout)["nodes"]}
            expect_equal(nodes[2]["role"], "down", "role of the dead node")
            return sorted(nodes[i]["role"] for i in (1, 3)) == ["follower", "leader"]

        wait_for(roles, what="a leader and a follower")


@test
def dev_refuses_a_port_in_use():
    """The message names the port, and nothing has been started or written."""
    with Dev() as dev, socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, dev.ports[1]))
        taken.listen()
        expect_equal(dev.start().wait(), 1, "exit status")
        expect(str(dev.ports[1]) in dev.process.log_text(), "the message does not name the port: %s", dev.process.log_text())
        expect(not os.path.exists(os.path.join(dev.base, "data")), "the data directory was made")


@test
def dev_shows_why_a_node_did_not_start():
    """A flag that lockstepd refuses: its own message is shown, the other nodes are ended, exit status 1."""
    with Dev("--", "--no-such-flag") as dev:
        expect_equal(dev.start().wait(), 1, "exit status")
        expect("no-such-flag" in dev.process.log_text(), "the message is missing: %s", dev.process.log_text())


@test
def status_shows_every_node():
    """Asked at any node: all members with address, pid, role, term, commit, applied; table and JSON agree; exit code 0."""
    with Cluster(3) as cluster:
        for i in range(50):
            cluster.nodes[i % 3].call("SET", "k%d" % i, "v")
        cluster.wait_converged()
        for asked in cluster.nodes:
            undisturbed(cluster, lambda node=asked: status_is_true(cluster, node))


def status_is_true(cluster, asked):
    address = "%s:%d" % (HOST, asked.port)
    run = lockstep("status", "--addr", address, "--json", "--timeout-ms", PATIENT_MS)
    expect_equal(run.returncode, 0, "exit code")
    nodes = json.loads(run.stdout)["nodes"]
    expect_equal([node["id"] for node in nodes], [1, 2, 3], "ids")
    for shown, node in zip(nodes, cluster.nodes):
        expect_equal(shown["address"], "%s:%d" % (HOST, node.port), "address")
        expect_equal(shown["pid"], node.process.pid, "pid")
        for field in ("role", "applied", "commit", "term"):
            expect_equal(shown[field], node.status()[field], field)
    table = lockstep("status", "--addr", address, "--timeout-ms", PATIENT_MS).stdout.split("\n")
    expect_equal(table[0].split(), ["node", "address", "role", "term", "commit", "applied", "lag", "reads", "up-time",
                                    "pid"], "heading")
    expect_equal([line.split()[2] for line in table[1:4]], [node["role"] for node in nodes], "roles in the table")


@test
def status_is_quick_with_a_stopped_node():
    """A node that hangs costs one time-out and is shown as down."""
    with Cluster(3) as cluster:
        asked, _ = cluster.reign()
        follower = next(node for node in cluster.nodes if node is not asked)
        follower.pause()
        run = lockstep("status", "--addr", "%s:%d" % (HOST, asked.port), "--json", "--timeout-ms", "1000", timeout=PATIENCE)
        follower.resume()
        roles = {node["id"]: node["role"] for node in json.loads(run.stdout)["nodes"]}
        expect_equal(roles[follower.id], "down", "role of the stopped node")
        expect_equal(run.returncode, 3, "exit code")


@test
def cli_runs_commands_from_arguments_and_stdin():
    """Replies rendered as redis-cli does, RESP3 maps included; error replies give exit code 3, no connection 1."""
    with Cluster(1) as cluster:
        address = "%s:%d" % (HOST, cluster.nodes[0].port)
        expect_equal(lockstep("cli", "--addr", address, "SET", "k", "a b").stdout, "OK\n", "SET")
        expect_equal(lockstep("cli", "--addr", address, "GET", "k").stdout, "a b\n", "GET, raw")
        expect_equal(lockstep("cli", "--addr", address, "--no-raw", "GET", "k").stdout, '"a b"\n', "GET")
        expect_equal(lockstep("cli", "--addr", address, "--no-raw", "GET", "none").stdout, "(nil)\n", "GET of none")
        run = lockstep("cli", "--addr", address, "--no-raw",
                       stdin='MULTI\nINCR n\nMGET k none\nEXEC\nCONFIG GET bind\nSET k "\\x00"\nGET k\n')
        expect_equal(run.stdout, 'OK\nQUEUED\nQUEUED\n1) (integer) 1\n2) 1) "a b"\n   2) (nil)\n'
                                 '1# "bind" => "127.0.0.1"\nOK\n"\\x00"\n', "a script from stdin")
        expect_equal(run.returncode, 0, "exit code")
        run = lockstep("cli", "--addr", address, "INCR", "k")
        expect_equal((run.returncode, run.stdout), (3, "ERR value is not an integer or out of range\n"), "an error reply")
    expect_equal(lockstep("cli", "--addr", address, "PING").returncode, 1, "exit code without a server")


@test
def bench_counts_what_the_server_executed():
    """Requests reported equal commands executed, in closed and open loop, through leader and followers, without errors."""
    with Cluster(3) as cluster:
        addresses = ",".join("%s:%d" % (HOST, node.port) for node in cluster.nodes)
        runs = (["--requests", 3000, "-c", 7, "-P", 5, "--threads", 2], ["--requests", 1000, "-c", 3, "--rate", 2000])
        for i, options in enumerate(runs):
            def bench(number, i=i, options=options):
                key = "total:%d:%d" % (i, number)
                run = lockstep("bench", "--addr", addresses, "--command", "INCR " + key, "--json", *options)
                figures = json.loads(run.stdout)
                if figures["errors"] > 0:
                    raise RespError(figures["first_error"])
                expect_equal(run.returncode, 0, "exit code: " + run.stderr)
                expect_equal(figures["requests"], options[1], "requests reported")
                expect_equal(figures["latency_us"]["count"], options[1], "latencies recorded")
                expect_equal(cluster.leader().call("GET", key), b"%d" % options[1], "increments executed")
            settled(bench)


@test
def bench_sees_a_stall_that_a_closed_loop_hides():
    """Open loop: a server stopped for a second shows in the percentiles: latency counts from when a request was due."""
    with Cluster(1) as cluster:
        for _ in range(TRIES):
            figures = bench_with_a_stall(cluster.nodes[0])
            if figures is not None:
                break
        else:
            raise AssertionError("in %d tries the server was not stopped in time" % TRIES)
        expect_equal(figures["errors"], 0, "errors")
        # A quarter of all requests were due while it stood still, evenly: 12 % waited half a second or longer.
        expect(figures["latency_us"]["p90"] > 300000, "p90 is %.0f us", figures["latency_us"]["p90"])
        expect(figures["latency_us"]["max"] > 900000, "max is %.0f us", figures["latency_us"]["max"])


def bench_with_a_stall(node):
    """What a bench of four seconds reports; None if the second without a server did not lie within it."""
    argv = [LOCKSTEP, "bench", "--addr", "%s:%d" % (HOST, node.port), "--rate", "500", "--time", "4", "--json", "--mix",
            "ping"]
    served = int(node.info()["total_commands_processed"])
    ends = time.monotonic() + 4  # at the earliest
    bench = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: int(node.info()["total_commands_processed"]) > served + 300, what="load",
                 check=lambda: expect(bench.poll() is None, "the bench ended early"))
        node.pause()
        try:
            bench.wait(1)
        except subprocess.TimeoutExpired:
            pass  # that second was the point
        node.resume()
        resumed = time.monotonic()
        output = bench.communicate(timeout=2 * PATIENCE)[0]
    finally:
        bench.kill()
    return json.loads(output) if resumed < ends else None


@test
def bench_goes_on_at_a_spare():
    """Its server stops: its connections go to the next server that runs, and what was refused is executed once, there."""
    ports = free_ports(1)
    with Cluster(3) as cluster:
        first, second = cluster.followers()
        spares = "%s:%d,%s:%d" % (HOST, ports[0], HOST, second.port)  # nobody listens at the first one
        argv = [LOCKSTEP, "bench", "--addr", "%s:%d" % (HOST, first.port), "--spare", spares, "-c", "4", "--rate", "400",
                "--time", "600", "--command", "INCR counted", "--json"]
        bench = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

        def goes_on_at(node):
            before = int(node.info()["total_commands_processed"])
            wait_for(lambda: int(node.info()["total_commands_processed"]) > before + 200, what="load at %r" % node,
                     check=lambda: expect(bench.poll() is None, "the bench ended early"))

        try:
            goes_on_at(first)
            first.stop()
            goes_on_at(second)
            bench.send_signal(signal.SIGINT)
            figures = json.loads(bench.communicate(timeout=PATIENCE)[0])
        finally:
            bench.kill()
            release_ports(ports)
        expect(figures["disconnects"] >= 4, "connections that moved: %d", figures["disconnects"])
        executed = int(cluster.leader().call("GET", "counted"))
        open_ends = figures["errors"] + figures["unanswered"]
        expect(figures["requests"] <= executed <= figures["requests"] + open_ends,
               "%d executed, but %d acknowledged and %d of unknown outcome", executed, figures["requests"], open_ends)
        return "%d sent again, %d errors" % (figures["retries"], figures["errors"])


@test
def bench_reports_errors_and_goes_on():
    """Error replies are counted, the first is quoted, and the exit code is 3."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        node.call("SET", "text", "x")
        run = lockstep("bench", "--addr", "%s:%d" % (HOST, node.port), "--command", "INCR text", "--requests", 100, "--json")
        figures = json.loads(run.stdout)
        expect_equal(run.returncode, 3, "exit code")
        expect_equal((figures["requests"], figures["errors"]), (0, 100), "requests and errors")
        expect("not an integer" in figures["first_error"], "first error: %s", figures["first_error"])


@test
def bad_command_lines_are_refused():
    """Exit code 2 and a message that names what is wrong, for every subcommand; help goes to stdout with 0."""
    bad = [["nosuch"], ["dev", "--nodes", "0"], ["dev", "extra"], ["dev", "--port", "99999"], ["status", "--addr", "h:x"],
           ["status", "extra"], ["cli", "--addr", ""], ["cli", "--nosuch"], ["bench", "-c", "0"], ["bench", "--mix", "x"],
           ["bench", "--dist", "x"], ["bench", "--keys", "10m", "--key-size", "8"], ["bench", "extra"]]
    for arguments in bad:
        run = lockstep(*arguments)
        expect_equal(run.returncode, 2, "exit code of %s" % arguments)
        expect(run.stderr != "" and run.stdout == "", "%s: stderr %r, stdout %r", arguments, run.stderr, run.stdout)
    for arguments in (["--help"], ["help", "bench"], ["dev", "--help"], ["status", "--help"], ["cli", "--help"],
                      ["bench", "--help"], ["--version"]):
        run = lockstep(*arguments)
        expect_equal((run.returncode, run.stderr), (0, ""), "%s" % arguments)
        expect(run.stdout != "", "%s prints nothing", arguments)
