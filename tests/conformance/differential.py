#!/usr/bin/env python3
"""Sends the same random command stream to redis-server and to Lockstep, and compares the replies exactly.

    differential.py --lockstep 127.0.0.1:7001 --commands 200000 --seed 1
    differential.py --start build/tests/conformance/store_resp      (starts that driver itself)
    differential.py --self-test                                     (planted differences must be found)

redis-server is started here, on a free port of 127.0.0.1, and ended again. Replies that depend on the time or have no
order are compared as such; every other difference that is allowed stands in ALLOWED. On a difference: the command, both
replies, and the shortest list of commands found that still shows it from an empty keyspace; exit 1.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

from command_stream import EPOCH_COMMANDS, Stream
from resp_client import Connection

TOLERANCE_MS = 60_000  # lifetimes that differ at all differ by 1,000 s
BURST = 200
PORTS = range(21000, 21100)


# --- Comparing ----------------------------------------------------------------------------------------------------------

def close_in_time(redis, lockstep, unit_ms):
    return redis[0] == lockstep[0] == ":" and min(redis[1], lockstep[1]) >= 0 and \
        abs(redis[1] - lockstep[1]) * unit_ms <= TOLERANCE_MS


def same_set(redis, lockstep):
    return redis[0] == lockstep[0] == "*" and redis[1] is not None and lockstep[1] is not None and \
        sorted(redis[1]) == sorted(lockstep[1])


def same_scan(redis, lockstep):
    return redis[0] == lockstep[0] == "*" and len(redis[1]) == len(lockstep[1]) == 2 and \
        redis[1][0] == lockstep[1][0] and same_set(redis[1][1], lockstep[1][1])


# Every other difference that may be, with the reason: (name, reason, test of (args, redis's reply, Lockstep's reply)).
ALLOWED = [
    ("encoding-history",
     "OBJECT ENCODING tells in Redis how a value came about (APPEND and SETRANGE leave raw, INCRBYFLOAT leaves embstr); "
     "in Lockstep it depends on the content alone, so that a snapshot needs no history",
     lambda args, redis, lockstep: args[0].upper() == b"OBJECT" and args[1].upper() == b"ENCODING" and
     (redis[1], lockstep[1]) in ((b"raw", b"int"), (b"raw", b"embstr"), (b"embstr", b"int"))),
    ("refcount-history",
     "OBJECT REFCOUNT tells in Redis whether a small integer is the shared one (which depends on the same history) and "
     "counts the queued command that holds the value while EXEC runs",
     lambda args, redis, lockstep: args[0].upper() == b"OBJECT" and args[1].upper() == b"REFCOUNT" and
     (redis, lockstep) in (((":", 1), (":", 2147483647)), ((":", 2), (":", 1)))),
    ("quoted-word",
     "an error line that quotes a client's word is cut at 1,023 bytes; Redis sends back as much as it was sent",
     lambda args, redis, lockstep: redis[0] == lockstep[0] == "-" and len(lockstep[1]) >= 1020 and
     redis[1].startswith(lockstep[1])),
    ("idle-time",
     "OBJECT IDLETIME: Lockstep keeps no time of last access per key and says 0",
     lambda args, redis, lockstep: args[0].upper() == b"OBJECT" and args[1].upper() == b"IDLETIME" and
     redis[0] == lockstep[0] == ":" and lockstep[1] == 0),
]


class Comparison:
    """Compares replies of one connection in order; knows which commands a transaction has queued."""

    def __init__(self):
        self.queued = []
        self.last_keys = None  # of both servers
        self.allowed = {}

    def equal(self, args, redis, lockstep):
        name = args[0].upper()
        if name == b"EXEC":
            queued, self.queued = self.queued, []
            if redis[0] == lockstep[0] == "*" and redis[1] is not None and lockstep[1] is not None and \
                    len(redis[1]) == len(lockstep[1]) == len(queued):
                return all([self.equal_reply(*row) for row in zip(queued, redis[1], lockstep[1])])
            return redis == lockstep
        if name in (b"DISCARD", b"MULTI") and redis[0] == "+":
            self.queued = []
        if redis == ("+", b"QUEUED") and lockstep == redis:
            self.queued.append(args)
            return True
        return self.equal_reply(args, redis, lockstep)

    def equal_reply(self, args, redis, lockstep):
        name = args[0].upper()
        if name == b"RANDOMKEY" and redis[0] == lockstep[0] == "$" and self.last_keys is not None:
            return all(reply in (keys or [("$", None)]) for reply, keys in zip((redis, lockstep), self.last_keys))
        if name == b"KEYS" and args[1:] == [b"*"] and redis[0] == lockstep[0] == "*":
            self.last_keys = (redis[1], lockstep[1])
        if redis == lockstep:
            return True
        if name in (b"TTL", b"EXPIRETIME"):
            return close_in_time(redis, lockstep, 1000)
        if name in (b"PTTL", b"PEXPIRETIME"):
            return close_in_time(redis, lockstep, 1)
        if name == b"OBJECT" and len(args) == 3 and args[1].upper() == b"IDLETIME" and \
                close_in_time(redis, lockstep, 1000):
            return True
        if name == b"TIME" and redis[0] == lockstep[0] == "*" and len(redis[1]) == len(lockstep[1]) == 2:
            return all(abs(int(a[1]) - int(b[1])) < limit for a, b, limit in zip(redis[1], lockstep[1], (60, 10**6)))
        if name == b"WAIT" or [arg.upper() for arg in args] == [b"CLIENT", b"ID"]:
            return redis[0] == lockstep[0] == ":"
        if name == b"KEYS":
            return same_set(redis, lockstep)
        if name == b"SCAN":
            return same_scan(redis, lockstep)
        for allowed, _, test in ALLOWED:
            if test(args, redis, lockstep):
                self.allowed[allowed] = self.allowed.get(allowed, 0) + 1
                return True
        return False


# --- Running ------------------------------------------------------------------------------------------------------------

class Difference(Exception):
    def __init__(self, what, redis, lockstep, at):
        super().__init__(what)
        self.what, self.redis, self.lockstep, self.at = what, redis, lockstep, at


class Pair:
    """Two connections to each of two servers; runs steps on both and compares."""

    def __init__(self, redis, lockstep):
        self.addresses = (redis, lockstep)
        self.connections = [(Connection(redis), Connection(lockstep)) for _ in range(2)]
        self.comparisons = [Comparison() for _ in range(2)]

    def close(self):
        for pair in self.connections:
            for connection in pair:
                connection.close()

    def reset(self):
        for server in (0, 1):
            reply = self.connections[0][server].ask("FLUSHALL")
            assert reply == ("+", b"OK"), f"FLUSHALL on {self.addresses[server]}: {reply}"

    def run(self, steps):
        at = 0
        while at < len(steps):
            end = at + 1
            if steps[at][0] == "command":
                while end < len(steps) and end - at < BURST and steps[end][:2] == steps[at][:2]:
                    end += 1
                self.run_commands(steps, at, end)
            elif steps[at][0] == "gone":
                self.wait_gone(steps, at)
            elif steps[at][0] == "alive":
                end += 0 if self.both_alive(steps[at][1]) else steps[at][2]
            else:
                self.walk(steps, at)
            at = end

    def run_commands(self, steps, at, end):
        connection = steps[at][1]
        redis, lockstep = self.connections[connection]
        commands = [step[2] for step in steps[at:end]]
        redis.send(commands)
        lockstep.send(commands)
        first = None
        for i, args in enumerate(commands):
            replies = redis.read(), lockstep.read()
            if first is None and not self.comparisons[connection].equal(args, *replies):
                first = Difference(show_command(args), *replies, at + i)
        if first is not None:
            raise first

    def both_alive(self, key):
        """Is the key there, on both, after what was sent so far? If not, nothing is watched any more."""
        if all(connection.ask("EXISTS", key) == (":", 1) for connection in self.connections[1]):
            return True
        self.run_commands([("command", 0, [b"UNWATCH"])], 0, 1)
        return False

    def wait_gone(self, steps, at):
        """Until the key has expired on both; a key that can't expire soon is left alone. On another connection than the
        stream's, which may be inside a transaction."""
        key = steps[at][1]
        for redis_or_lockstep in self.connections[1]:
            deadline = time.monotonic() + 60
            while True:
                kind, left = redis_or_lockstep.ask("PTTL", key)
                assert kind == ":", left
                if left == -2 or left == -1 or left > 1000:
                    break
                if time.monotonic() > deadline:
                    raise Difference(f"{key!r} did not expire on {redis_or_lockstep.address}", None, left, at)
                time.sleep(0.001)

    def walk(self, steps, at):
        options = steps[at][1]
        found = []
        for connection in self.connections[1]:
            names, cursor = set(), b"0"
            for _ in range(100_000):
                kind, reply = connection.ask("SCAN", cursor, *options)
                if kind != "*":
                    names = reply
                    break
                cursor = reply[0][1]
                names |= {name for _, name in reply[1][1]}
                if cursor == b"0":
                    break
            else:
                names = "a SCAN that does not end"
            found.append(names)
        if found[0] != found[1]:
            raise Difference("whole SCAN " + show_command(options), found[0], found[1], at)


def show_command(args):
    def show(arg):
        text = repr(arg)[1:]
        return text if len(arg) <= 100 else f"{text[:60]}...({len(arg)} bytes)'"
    return " ".join(show(arg) for arg in args)


def show_step(step):
    if step[0] == "command":
        return ("" if step[1] == 0 else "(2nd connection) ") + show_command(step[2])
    return f"({step[0]} {step[1]!r})"


def still_differs(addresses, steps):
    """Do exactly these steps, from an empty keyspace, show a difference at the last one?"""
    pair = Pair(*addresses)
    try:
        pair.reset()
        pair.run(steps)
        return False
    except Difference as difference:
        return difference.at == len(steps) - 1
    finally:
        pair.close()


def shortest_prefix(addresses, steps, seconds=60):
    """Drops steps, in ever smaller pieces, as long as the last one still differs."""
    give_up = time.monotonic() + seconds
    if not still_differs(addresses, steps):
        return None
    size = len(steps) // 2
    while size > 0 and time.monotonic() < give_up:
        at = 0
        while at < len(steps) - 1 and time.monotonic() < give_up:
            shorter = steps[:at] + steps[min(at + size, len(steps) - 1):]
            if still_differs(addresses, shorter):
                steps = shorter
            else:
                at += size
        size //= 2
    return steps


def report(addresses, seed, steps, difference):
    print(f"DIFFERENCE (seed {seed}) at: {difference.what}")
    print(f"  redis-server: {difference.redis!r:.2000}")
    print(f"  lockstep:     {difference.lockstep!r:.2000}")
    prefix = shortest_prefix(addresses, steps[:difference.at + 1])
    if prefix is None:
        print("It does not show from an empty keyspace; the last steps were:")
        prefix = steps[max(0, difference.at - 20):difference.at + 1]
    else:
        print(f"Shortest list of {len(prefix)} steps found that shows it from an empty keyspace:")
    for step in prefix[-100:]:
        print("  " + show_step(step))


def run_stream(addresses, options):
    stream = Stream(options.seed, options.store_only)
    pair = Pair(*addresses)
    done, started, printed = 0, time.monotonic(), time.monotonic()
    while done < options.commands:
        pair.reset()
        stream.epoch()
        epoch = []
        while len(epoch) < min(EPOCH_COMMANDS, options.commands - done):
            steps = stream.burst(BURST)
            first = len(epoch)
            epoch += steps
            try:
                pair.run(steps)
            except Difference as difference:
                difference.at += first
                pair.close()
                report(addresses, options.seed, epoch, difference)
                return False
            if time.monotonic() - printed > 2 and sys.stderr.isatty():
                printed = time.monotonic()
                print(f"{done + len(epoch)} of {options.commands} commands", file=sys.stderr)
        done += len(epoch)
    allowed = {}
    for comparison in pair.comparisons:
        for name, count in comparison.allowed.items():
            allowed[name] = allowed.get(name, 0) + count
    pair.close()
    print(f"{done} commands, seed {options.seed}: equal replies in {time.monotonic() - started:.1f} s")
    for name, reason, _ in ALLOWED:
        if name in allowed:
            print(f"  allowed, {allowed[name]} times: {name}: {reason}")
    return True


# --- Servers ------------------------------------------------------------------------------------------------------------

class RedisServer:
    """A redis-server of our own in a directory of its own."""

    def __init__(self, path, *options):
        self.directory = tempfile.mkdtemp(prefix="lockstep-differential-")
        self.process = None
        for port in PORTS:
            self.process = subprocess.Popen(
                [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                 "--databases", "1", "--dir", self.directory, *options],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self.answers(port):
                self.address = ("127.0.0.1", port)
                return
        self.close()
        sys.exit(f"no free port for redis-server in {PORTS.start} to {PORTS.stop - 1}")

    def answers(self, port):
        """Waits until our process serves; false if it ended, as it does if the port is taken."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                connection = Connection(("127.0.0.1", port))
                info = connection.ask("INFO", "server")[1]
                connection.close()
                if b"process_id:%d\r\n" % self.process.pid in info:
                    return True
            except (ConnectionError, OSError, TypeError):
                pass
            time.sleep(0.02)
        self.stop()
        return False

    def stop(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Driver:
    """A program that prints "ready PORT" and ends when its standard input does."""

    def __init__(self, path):
        self.process = subprocess.Popen([path, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        word, port = self.process.stdout.readline().split()
        assert word == b"ready", word
        self.address = ("127.0.0.1", int(port))

    def close(self):
        self.process.stdin.close()
        if self.process.wait(timeout=60) != 0:
            sys.exit(f"the driver ended with {self.process.returncode}")


def self_test(options):
    """The harness finds nothing between two equal servers, and something between two that differ."""
    first = RedisServer(options.redis_server)
    same = RedisServer(options.redis_server)
    other = RedisServer(options.redis_server, "--rename-command", "GETDEL", "")
    try:
        options.commands, options.store_only = 5000, False
        if not run_stream((first.address, same.address), options):
            return False
        print("-- a planted difference follows --")
        sys.stdout.flush()
        if run_stream((first.address, other.address), options):
            print("the planted difference was not found")
            return False
        print("-- found, as it should be --")
        return True
    finally:
        for server in (first, same, other):
            server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--commands", type=int, default=20_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--lockstep", metavar="HOST:PORT", help="a running node of Lockstep (it will be flushed)")
    parser.add_argument("--start", metavar="PATH", help="a driver to start instead, such as store_resp")
    parser.add_argument("--store-only", action="store_true",
                        help="leave out what the store leaves to its server")
    parser.add_argument("--redis-server", metavar="PATH", default=shutil.which("redis-server"))
    parser.add_argument("--self-test", action="store_true", help="redis-server against itself, and a planted difference")
    options = parser.parse_args()
    if not options.redis_server or not os.access(options.redis_server, os.X_OK):
        parser.error("no redis-server found: install the package redis-server or give --redis-server")
    if options.self_test:
        sys.exit(0 if self_test(options) else 1)
    if (options.lockstep is None) == (options.start is None):
        parser.error("give either --lockstep HOST:PORT or --start PATH")

    driver = Driver(options.start) if options.start else None
    redis = RedisServer(options.redis_server)
    try:
        if driver:
            address = driver.address
        else:
            host, _, port = options.lockstep.rpartition(":")
            address = (host, int(port))
        equal = run_stream((redis.address, address), options)
    except OSError as error:
        sys.exit(f"a server went away or does not answer: {error}")
    finally:
        redis.close()
        if driver:
            driver.close()
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
