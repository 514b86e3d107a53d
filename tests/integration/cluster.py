"""Clusters of real lockstepd processes for tests and benchmarks: start, stop, kill, pause; a minimal RESP client; waiting
for conditions. Standard library only. Knows nothing of what is tested.

    with Cluster(3, flags=["--election-timeout-ms", "150"]) as cluster:
        leader = cluster.wait_leader()
        leader.client().call("SET", "k", "v")
        leader.kill()
        cluster.wait_leader(other_than=leader)

Environment: LOCKSTEPD names the server's executable (default build/lockstepd of this checkout), LOCKSTEP_TEST_PORTS the
range of ports to take from (default 21300-21399), LOCKSTEP_TEST_DIR where data directories go (default build/test-data).
Every process started here dies with the one that started it.
"""

import atexit
import ctypes
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOST = "127.0.0.1"


def lockstepd_path():
    """The server under test."""
    return os.environ.get("LOCKSTEPD") or os.path.join(ROOT, "build", "lockstepd")


# ---------------------------------------------------------------------------------------------------------------- waiting


class Timeout(AssertionError):
    """A condition did not come true in time."""


PATIENCE = 60.0  # seconds: what comes true comes true long before, on any machine; only a failure takes this long


def wait_for(condition, timeout=PATIENCE, what=None, interval=0.02, check=None):
    """Call condition() until it returns something true, and return that. Connection errors and RESP errors inside it count
    as "not yet". check(), if given, runs each round and may raise to give up early (a process that died, say)."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, RespError, EOFError) as error:
            last = error
        if check is not None:
            check()
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise Timeout("waited %.1f s in vain for: %s (last: %r)" % (timeout, name, last))
        time.sleep(interval)


# ------------------------------------------------------------------------------------------------------------------ ports

_locks = {}  # port -> open lock file, held until release_ports or the end of this process


def _port_range():
    low, _, high = os.environ.get("LOCKSTEP_TEST_PORTS", "21300-21399").partition("-")
    return int(low), int(high or low)


def _take_port(port):
    """Reserve a port against other test processes (a file lock) and foreign listeners (a trial bind)."""
    directory = os.path.join(tempfile.gettempdir(), "lockstep-ports.%d" % os.getuid())
    os.makedirs(directory, exist_ok=True)
    lock = open(os.path.join(directory, str(port)), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError:
        lock.close()
        return False
    _locks[port] = lock
    return True


def free_ports(count):
    """That many ports, kept for this process until release_ports()."""
    low, high = _port_range()
    candidates = [port for port in range(low, high + 1) if port not in _locks]
    random.shuffle(candidates)
    ports = []
    for port in candidates:
        if len(ports) == count:
            break
        if _take_port(port):
            ports.append(port)
    if len(ports) < count:
        release_ports(ports)
        raise RuntimeError("no %d free ports in %d-%d" % (count, low, high))
    return sorted(ports)


def free_ports_in_a_row(count):
    """The same, one after the other."""
    low, high = _port_range()
    for base in range(low, high - count + 2):
        taken = []
        while len(taken) < count and base + len(taken) not in _locks and _take_port(base + len(taken)):
            taken.append(base + len(taken))
        if len(taken) == count:
            return taken
        release_ports(taken)
    raise RuntimeError("no %d free ports in a row in %d-%d" % (count, low, high))


def release_ports(ports):
    for port in ports:
        lock = _locks.pop(port, None)
        if lock is not None:
            lock.close()


# ------------------------------------------------------------------------------------------------------------ RESP client


class RespError(Exception):
    """An error reply; str() is its text, .code its first word."""

    @property
    def code(self):
        return str(self).split(" ", 1)[0]


NOT_NOW = {"CLUSTERDOWN", "TRYAGAIN", "LOADING"}  # not executed: the leader is changing, or the node replays its log
UNSETTLED = NOT_NOW | {"UNKNOWN"}      # what a change of leaders can make of a command
REPEATABLE = {"SET", "MSET", "DEL"}    # come to the same when executed twice, if nobody else writes the key


class Client:
    """One connection, RESP2 unless hello(3) is called. Bulk strings come back as bytes, simple strings as str, errors are
    raised by call() and once() and returned as values by pipeline(). Waiting for bytes ends after `timeout` seconds
    (OSError)."""

    def __init__(self, port, host=HOST, timeout=30.0):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb", buffering=65536)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.reader.close()
        self.socket.close()

    @staticmethod
    def encode(*args):
        out = [b"*%d\r\n" % len(args)]
        for arg in args:
            if not isinstance(arg, (bytes, bytearray)):
                arg = str(arg).encode("utf-8", "surrogateescape")
            out.append(b"$%d\r\n%s\r\n" % (len(arg), bytes(arg)))
        return b"".join(out)

    def send(self, *args):
        self.socket.sendall(self.encode(*args))

    def read(self):
        """One reply; an error reply is returned as a RespError object."""
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("connection closed by the server")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode("utf-8", "surrogateescape")
        if kind == b"-":
            return RespError(rest.decode("utf-8", "surrogateescape"))
        if kind == b":":
            return int(rest)
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        if kind == b"(":
            return int(rest)
        if kind in b"$=!":
            return self._bulk(kind, int(rest))
        if kind in b"*~>":
            return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]
        if kind in b"%|":
            pairs = [(self.read(), self.read()) for _ in range(int(rest))]
            if kind == b"|":  # attributes: dropped, the reply they describe follows
                return self.read()
            return {(tuple(k) if isinstance(k, list) else k): v for k, v in pairs}
        raise ValueError("not RESP: %r" % line)

    def _bulk(self, kind, length):
        if length < 0:
            return None
        data = self.reader.read(length + 2)
        if len(data) != length + 2:
            raise EOFError("connection closed inside a reply")
        if kind == b"!":
            return RespError(data[:-2].decode("utf-8", "surrogateescape"))
        return data[4:-2] if kind == b"=" else data[:-2]

    def once(self, *args):
        """Send one command and return its reply; raises RespError."""
        self.send(*args)
        reply = self.read()
        if isinstance(reply, RespError):
            raise reply
        return reply

    def call(self, *args):
        """The same, but sends it again for as long as it is refused because the leader is changing, which may happen at any
        moment, and after -UNKNOWN if it does no harm to execute it twice. For at most PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        again = UNSETTLED if str(args[0]).upper() in REPEATABLE else NOT_NOW
        while True:
            try:
                return self.once(*args)
            except RespError as error:
                if error.code not in again or "was removed" in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def pipeline(self, commands):
        """Send many commands at once; returns their replies, errors among them as objects."""
        self.socket.sendall(b"".join(self.encode(*command) for command in commands))
        return [self.read() for _ in commands]

    def write_all(self, commands):
        """Pipelined SETs of different keys, each repeated until it is acknowledged."""
        for command, reply in zip(commands, self.pipeline(commands)):
            if isinstance(reply, RespError):
                if reply.code not in UNSETTLED:
                    raise reply
                reply = self.call(*command)
            assert reply == "OK", "%.50r: %r" % (command, reply)

    def hello(self, proto):
        return self.call("HELLO", proto)


# -------------------------------------------------------------------------------------------------------------- processes

_children = []  # every live Process, ended at exit


def _die_with_parent():
    prctl_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(prctl_set_pdeathsig, signal.SIGKILL)


class Process:
    """A child process with its output in a log file."""

    def __init__(self, argv, log_path, cwd=None, env=None):
        self.argv = [str(arg) for arg in argv]
        self.log_path = log_path
        self.log_start = os.path.getsize(log_path) if os.path.exists(log_path) else 0
        with open(log_path, "ab") as log:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, env=env,
                                          preexec_fn=_die_with_parent)
        self.paused = False
        self.signals = threading.Lock()  # held while deciding on SIGSTOP or SIGCONT, and sending it
        _children.append(self)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def exit_status(self):
        """None while alive; negative: killed by that signal."""
        return self.popen.poll()

    def wait(self, timeout=PATIENCE):
        """Wait for the process to end by itself; returns its exit status."""
        status = self.popen.wait(timeout)
        self._forget()
        return status

    def signal(self, number):
        self.popen.send_signal(number)

    def pause(self):
        """SIGSTOP; returns once it stands still."""
        with self.signals:
            self.paused = True
            self.signal(signal.SIGSTOP)
        wait_for(lambda: not self.alive() or self.stat()[0] == "T", what="the process to stand still", interval=0.001)

    def resume(self):
        with self.signals:
            self.paused = False
            self.signal(signal.SIGCONT)

    def hiccup(self, seconds):
        """Stand still for that long, unless the process ends, or pause() comes meanwhile."""
        with self.signals:
            if self.paused:
                return
            self.signal(signal.SIGSTOP)
        time.sleep(seconds)
        with self.signals:
            if not self.paused:
                self.signal(signal.SIGCONT)

    def kill(self):
        """kill -9, and wait until it is gone."""
        if self.alive():
            self.popen.kill()
        self.popen.wait()
        self._forget()

    def stop(self, timeout=PATIENCE):
        """SIGTERM; returns the exit status. A process that does not end in time is killed and TimeoutExpired raised."""
        if self.alive():
            if self.paused:
                self.resume()
            self.popen.terminate()
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def rss_bytes(self):
        with open("/proc/%d/statm" % self.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stat(self):
        """/proc/PID/stat from the state on."""
        with open("/proc/%d/stat" % self.pid) as stat:
            return stat.read().rpartition(")")[2].split()

    def cpu_seconds(self):
        fields = self.stat()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_text(self):
        """What this process has written since it was started."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode("utf-8", "replace")

    def _forget(self):
        if self in _children:
            _children.remove(self)


def start_hiccups(seed):
    """From now on, while this process lives, processes started here stand still at random: one at a time, for 50 to 300 ms,
    about once a second. A busy or virtual machine does the same to them; no test may fail by it."""
    rng = random.Random(seed)

    def run():
        while True:
            time.sleep(rng.uniform(0.1, 1.5))
            children = list(_children)
            if children:
                rng.choice(children).hiccup(rng.uniform(0.05, 0.3))

    threading.Thread(target=run, daemon=True).start()


@atexit.register
def _kill_children():
    for child in list(_children):
        child.kill()


class Node:
    """One member: its addresses, its data directory, and the process when it runs."""

    def __init__(self, cluster, node_id, port, peer_port):
        self.cluster = cluster
        self.id = node_id
        self.port = port
        self.peer_port = peer_port
        self.dir = os.path.join(cluster.dir, "node-%d" % node_id)
        self.log_path = os.path.join(cluster.dir, "node-%d.log" % node_id)
        self.process = None
        self._status_client = None

    def __repr__(self):
        return "node %d (127.0.0.1:%d)" % (self.id, self.port)

    def argv(self, flags=()):
        argv = [self.cluster.binary, "--id", self.id, "--dir", self.dir, "--bind", HOST, "--port", self.port,
                "--peer-port", self.peer_port]
        for member in self.cluster.members():
            argv += ["--member", member]
        return argv + list(self.cluster.flags) + list(flags)

    def start(self, flags=(), env=None):
        """Start the process; does not wait for anything (see wait_up)."""
        assert self.process is None or not self.process.alive(), "%r already runs" % self
        os.makedirs(self.dir, exist_ok=True)
        self._drop_status_client()
        self.process = Process(self.argv(flags), self.log_path, env=env)
        return self

    def alive(self):
        return self.process is not None and self.process.alive()

    def stop(self, timeout=PATIENCE):
        self._drop_status_client()
        return self.process.stop(timeout)

    def kill(self):
        self._drop_status_client()
        self.process.kill()

    def pause(self):
        self._drop_status_client()
        self.process.pause()

    def resume(self):
        self.process.resume()

    def restart(self, flags=()):
        if self.alive():
            self.stop()
        return self.start(flags)

    def client(self, timeout=30.0):
        """A new connection, the caller's to close."""
        return Client(self.port, timeout=timeout)

    def call(self, *args):
        """One command on a connection of its own, as Client.call."""
        with self.client() as client:
            return client.call(*args)

    def once(self, *args):
        """One command on a connection of its own, as Client.once."""
        with self.client() as client:
            return client.once(*args)

    def status(self, timeout=10.0):
        """LOCKSTEP STATUS as a dict; raises OSError, EOFError or RespError if the node does not answer."""
        if self._status_client is None:
            self._status_client = self.client(timeout)
        try:
            return json.loads(self._status_client.call("LOCKSTEP", "STATUS"))
        except BaseException:
            self._drop_status_client()
            raise

    def info(self, section="everything"):
        """INFO as a flat dict of strings."""
        lines = self.call("INFO", section).decode().split("\r\n")
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def wait_up(self, timeout=PATIENCE):
        """Until the node answers and knows a leader."""
        wait_for(lambda: self.status().get("leader"), timeout, "%r to know a leader" % self, check=self.check_alive)
        return self

    def wait_applied(self, index, timeout=PATIENCE):
        wait_for(lambda: self.status()["applied"] >= index, timeout, "%r to apply index %d" % (self, index),
                 check=self.check_alive)

    def check_alive(self):
        if self.process is not None and not self.process.alive():
            raise AssertionError("%r ended with status %s; its log ends:\n%s"
                                 % (self, self.process.exit_status(), self.process.log_text()[-3000:]))

    def log_text(self):
        return self.process.log_text() if self.process is not None else ""

    def _drop_status_client(self):
        if self._status_client is not None:
            self._status_client.close()
            self._status_client = None


class Cluster:
    """N nodes on 127.0.0.1. As a context manager it starts them, waits for a leader, and at the end kills what still runs
    and removes the data unless the block failed (or keep=True)."""

    def __init__(self, size=3, directory=None, flags=(), binary=None, ports=None, keep=False):
        """ports: 2*size of them, clients' first; default: taken from the range."""
        self.binary = binary or lockstepd_path()
        self.flags = list(flags)
        self.keep = keep
        self.ports = list(ports) if ports else free_ports(2 * size)
        self.own_ports = not ports
        base = os.environ.get("LOCKSTEP_TEST_DIR") or os.path.join(ROOT, "build", "test-data")
        if directory is None:
            os.makedirs(base, exist_ok=True)
            directory = tempfile.mkdtemp(prefix="cluster-", dir=base)
        os.makedirs(directory, exist_ok=True)
        self.dir = directory
        self.nodes = [Node(self, i + 1, self.ports[i], self.ports[size + i]) for i in range(size)]

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close(remove=False)
            raise
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            print("cluster data and logs kept in %s" % self.dir)
        self.close(remove=kind is None and not self.keep)

    def members(self):
        return ["%d %s:%d:%d" % (node.id, HOST, node.port, node.peer_port) for node in self.nodes]

    def node(self, node_id):
        return next(node for node in self.nodes if node.id == node_id)

    def live(self):
        return [node for node in self.nodes if node.alive() and not node.process.paused]

    def start(self, timeout=PATIENCE, flags=()):
        """Start every node that does not run, wait until all of them answer reads; returns the leader."""
        for node in self.nodes:
            if not node.alive():
                node.start(flags)
        self.wait_serving(timeout)
        return self.wait_leader(timeout, everywhere=True)

    def wait_serving(self, timeout=PATIENCE):
        """Until every live node answers a linearizable read: a leader is known everywhere and has applied its log."""
        for node in self.live():
            wait_for(lambda node=node: node.once("DBSIZE") >= 0, timeout, "%r to answer a read" % node,
                     check=node.check_alive)

    def leader(self):
        """The leader, as soon as there is one."""
        return self.wait_leader()

    def reign(self):
        """(leader, term), as soon as all live nodes agree. The same before and after: the leader has not changed."""

        def agreed():
            statuses = [(node, node.status()) for node in self.live()]
            leads = [(node, status["term"]) for node, status in statuses if status["role"] == "leader"]
            return leads[0] if len(leads) == 1 and all(
                (status["leader"], status["term"]) == (leads[0][0].id, leads[0][1]) for _, status in statuses) else None

        return wait_for(agreed, what="all live nodes to agree on the leader")

    def _leader_now(self):
        """The node that says it leads, with the highest term if several do; None if none."""
        best, best_term = None, -1
        for node in self.live():
            try:
                status = node.status()
            except (OSError, EOFError, RespError):
                continue
            if status["role"] == "leader" and status["term"] > best_term:
                best, best_term = node, status["term"]
        return best

    def followers(self):
        leader = self.leader()
        return [node for node in self.live() if node is not leader]

    def wait_leader(self, timeout=PATIENCE, other_than=None, everywhere=False):
        """Until a leader is known to a majority of all nodes (everywhere: to every live node); returns it."""

        def agreed():
            leader = self._leader_now()
            if leader is None or leader is other_than:
                return None
            live = self.live()
            known = sum(1 for node in live if node.status().get("leader") == leader.id)
            need = len(live) if everywhere else len(self.nodes) // 2 + 1
            return leader if known >= need else None

        return wait_for(agreed, timeout, "a leader%s" % (" on every node" if everywhere else ""))

    def wait_converged(self, timeout=PATIENCE):
        """Until every live node has applied the same index as the leader's last; returns that index."""

        def converged():
            statuses = [node.status() for node in self.live()]
            goal = max(status["last"] for status in statuses)
            return goal if all(status["applied"] == goal for status in statuses) else None

        return wait_for(converged, timeout, "all live nodes to apply the same index")

    def kill_all(self):
        """kill -9 to all at once, then wait for all."""
        running = [node for node in self.nodes if node.alive()]
        for node in running:
            node._drop_status_client()
            node.process.signal(signal.SIGKILL)
        for node in running:
            node.kill()

    def stop(self, timeout=PATIENCE):
        """SIGTERM to all; returns their exit statuses by id."""
        running = [node for node in self.nodes if node.alive()]
        for node in running:
            if node.process.paused:
                node.resume()
            node._drop_status_client()
            node.process.signal(signal.SIGTERM)  # once: a second one ends a server that is still stopping
        return {node.id: node.process.wait(timeout) for node in running}

    def close(self, remove=True):
        self.kill_all()
        if self.own_ports:
            release_ports(self.ports)
        if remove:
            shutil.rmtree(self.dir, ignore_errors=True)
