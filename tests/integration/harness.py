"""What integration tests share: registering tests, skipping, expectations, and the load that proves that nothing
acknowledged is lost, reordered or stale. Knows nothing of single tests. See run.py for how they are run."""

import inspect
import itertools
import threading
import time

from cluster import PATIENCE, UNSETTLED, Client, RespError, wait_for

NOT_EXECUTED = {"CLUSTERDOWN", "TRYAGAIN", "MOVED", "OOM", "NOSPACE"}


class Skip(Exception):
    """This machine cannot run the test; the text says why."""


class Options:
    """What the command line says to every test."""

    def __init__(self, rounds=None):
        self.rounds = rounds

    def rounds_or(self, default):
        return self.rounds or default


TESTS = []  # (name, function), in the order of definition


def test(function):
    """Registers a test: a function without arguments or with one, the Options. It may return a note for its verdict."""
    TESTS.append((function.__name__, function))
    return function


def call_test(function, options):
    return function(options) if inspect.signature(function).parameters else function()


def expect(condition, text, *args):
    if not condition:
        raise AssertionError(text % args if args else text)


def expect_equal(actual, expected, what):
    expect(actual == expected, "%s: expected %.300r, got %.300r", what, expected, actual)


def expect_error(client, code, *command):
    """The command must be refused with that first word; returns the error's text."""
    try:
        reply = client.once(*command)
    except RespError as error:
        expect(error.code == code, "%s: expected -%s, got -%s", command[0], code, error)
        return str(error)
    raise AssertionError("%s: expected -%s, got %.100r" % (command[0], code, reply))


TRIES = 20

# A command is held for up to an election timeout (by default 0.3 s) while no leader is known, or by a leader of before that
# does not answer. Where no node stood still for half as long (Pulse), nor all writes, and there was no other election, a
# graceful transfer costs nobody an error.
CALM_S = 0.15


def undisturbed(cluster, attempt, tries=TRIES):
    """What attempt() gives. If it fails, but the leader changed meanwhile, it is tried again: a busy machine may take any
    node's processor for longer than an election timeout, and what a healthy cluster does is not to be seen then."""
    for left in reversed(range(tries)):
        before = cluster.reign()
        try:
            return attempt()
        except (AssertionError, RespError):
            if left == 0 or cluster.reign() == before:
                raise
    raise AssertionError("not reached")


def undisturbed_with(new_cluster, body, tries=5):
    """The same for a body that takes a cluster and can't be repeated with the same one: each try gets a new one."""
    for left in reversed(range(tries)):
        with new_cluster() as cluster:
            before = cluster.reign()
            try:
                return body(cluster)
            except (AssertionError, RespError):
                if left == 0 or cluster.reign() == before:
                    raise
    raise AssertionError("not reached")


def settled(attempt, tries=TRIES):
    """Calls attempt(number) until a list of replies that it gives holds none that a change of leaders can explain, and it
    raises none; returns what it gave."""
    for number in range(tries):
        try:
            replies = attempt(number)
        except RespError as error:
            if error.code not in UNSETTLED or number == tries - 1:
                raise
            continue
        bad = [reply for reply in replies or () if isinstance(reply, RespError) and reply.code in UNSETTLED]
        if not bad:
            return replies
    raise AssertionError("%d times in a row the leader was changing: %s" % (tries, bad[0]))


def expect_same_content(cluster):
    """All live nodes have applied the same index, and hold the same there. Only while nobody writes."""

    def applied_all():
        statuses = [node.status() for node in cluster.live()]
        goal = max(status["last"] for status in statuses)
        return statuses if all(status["applied"] == goal for status in statuses) else None

    statuses = wait_for(applied_all, what="all live nodes to apply the same index")
    digests = {status["id"]: status["digest"] for status in statuses}
    expect(len(set(digests.values())) == 1, "digests at one index: %r", digests)


def expect_refuses_start(node, *words, timeout=PATIENCE):
    """The process must end by itself, with a failure, and its log must hold every word; returns the log."""
    try:
        status = node.process.wait(timeout)
    except Exception as error:
        raise AssertionError("%r did not refuse to start: %s\n%s" % (node, error, node.log_text()[-2000:])) from error
    log = node.log_text()
    expect(status != 0, "%r ended with status 0 instead of a failure; log:\n%s", node, log[-2000:])
    expect(status > 0, "%r was killed by signal %d instead of ending with a message; log:\n%s", node, -status, log[-2000:])
    for word in words:
        expect(word.lower() in log.lower(), "%r: its message does not mention %r; log:\n%s", node, word, log[-2000:])
    return log


# ------------------------------------------------------------------------------------------------------------------- load


def leaves(error):
    """The node says that it is stopping, or was removed: a client goes to another one."""
    return "is stopping" in str(error) or "was removed" in str(error)


class Writer(threading.Thread):
    """Appends unique, numbered tokens to keys of its own, one command at a time, each at whatever node it is connected to.
    What a key holds in the end must be: every acknowledged token exactly once and in order; a token with an unknown outcome
    at most once; a token that was refused as not executed never."""

    KEY_TOKENS = 1000

    def __init__(self, load, number):
        super().__init__(daemon=True, name="writer %d" % number)
        self.load = load
        self.number = number
        self.acked = []        # tokens, in order
        self.refused = set()
        self.unknown = set()
        self.errors = {}       # first word -> count
        self.failure = None

    def key(self, token):
        return "load:%d:%d" % (self.number, token // self.KEY_TOKENS)

    def run(self):
        nodes = itertools.cycle(self.load.nodes[self.number % len(self.load.nodes):] + self.load.nodes)
        client = None
        try:
            for token in itertools.count():
                if self.load.stopping.is_set():
                    break
                while client is None and not self.load.stopping.is_set():
                    client = self._connect(next(nodes))
                if client is not None and not self._append(client, token):
                    client.close()
                    client = None
        except Exception as error:  # a broken reply, say: the test's verdict, not a lost traceback
            self.failure = error
        finally:
            if client is not None:
                client.close()

    def _connect(self, node):
        try:
            return Client(node.port, timeout=self.load.timeout)
        except OSError:
            time.sleep(0.005)
            return None

    def _append(self, client, token):
        """False: take another connection."""
        sent = time.monotonic()
        try:
            client.once("APPEND", self.key(token), "%d;" % token)
        except RespError as error:
            self.errors[error.code] = self.errors.get(error.code, 0) + 1
            (self.refused if error.code in NOT_EXECUTED else self.unknown).add(token)
            if error.code not in NOT_EXECUTED and error.code != "UNKNOWN":
                raise
            time.sleep(0.002)
            return not leaves(error)
        except (OSError, EOFError):
            self.unknown.add(token)
            return False
        self.acked.append(token)
        self.load.note_ack(sent, time.monotonic())
        return True


class Reader(threading.Thread):
    """Reads what a writer is writing, from some node: everything acknowledged before the read began must be seen."""

    def __init__(self, load, number):
        super().__init__(daemon=True, name="reader %d" % number)
        self.load = load
        self.number = number
        self.reads = 0
        self.errors = {}       # first word -> count
        self.failure = None

    def run(self):
        nodes = itertools.cycle(self.load.nodes[self.number % len(self.load.nodes):] + self.load.nodes)
        writers = itertools.cycle(self.load.writers)
        client = node = None
        try:
            while not self.load.stopping.is_set():
                if client is None:
                    node = next(nodes)
                    try:
                        client = Client(node.port, timeout=self.load.timeout)
                    except OSError:
                        time.sleep(0.01)
                        continue
                try:
                    self._read(client, node, next(writers))
                except (OSError, EOFError):
                    client.close()
                    client = None
                time.sleep(0.002)
        except Exception as error:
            self.failure = error
        finally:
            if client is not None:
                client.close()

    def _read(self, client, node, writer):
        count = len(writer.acked)
        if count == 0:
            return
        last = writer.acked[count - 1]
        try:
            value = client.once("GET", writer.key(last)) or b""
        except RespError as error:
            expect(error.code in NOT_EXECUTED or error.code == "UNKNOWN", "GET at %r: -%s", node, error)
            if leaves(error):
                raise EOFError from error
            self.errors[error.code] = self.errors.get(error.code, 0) + 1
            return
        self.reads += 1
        expect(b";%d;" % last in b";" + value, "stale read at %r: token %d of %s was acknowledged before the GET was sent, "
               "which gave ...%r", node, last, writer.name, value[-60:])


class Load:
    """Writers and readers on all nodes of a cluster, as a context manager; then verify()."""

    def __init__(self, cluster, writers=6, readers=2, timeout=3.0):
        self.nodes = list(cluster.nodes)
        self.timeout = timeout
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.waiting = None  # (instant, event, result list): the first acknowledged write sent after that instant
        self.acks = 0
        self.writers = [Writer(self, number) for number in range(writers)]
        self.readers = [Reader(self, number) for number in range(readers)]

    def __enter__(self):
        for thread in self.writers + self.readers:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.writers + self.readers:
            if thread.ident is not None:
                thread.join()

    def note_ack(self, sent, received):
        with self.lock:
            self.acks += 1
            if self.waiting is not None and sent >= self.waiting[0]:
                self.waiting[2].append(received)
                self.waiting[1].set()
                self.waiting = None

    def resumed_after(self, instant, timeout=PATIENCE):
        """Seconds from that instant (time.monotonic) to the first acknowledgement of a write sent after it."""
        event, result = threading.Event(), []
        with self.lock:
            self.waiting = (instant, event, result)
        self.check()
        expect(event.wait(timeout), "no write was acknowledged within %.0f s", timeout)
        return result[0] - instant

    def wait_acks(self, count, timeout=PATIENCE):
        """Until that many further writes are acknowledged."""
        goal = self.acks + count
        deadline = time.monotonic() + timeout
        while self.acks < goal:
            self.check()
            expect(time.monotonic() < deadline, "only %d of %d writes were acknowledged within %.0f s",
                   count - (goal - self.acks), count, timeout)
            time.sleep(0.005)

    def check(self):
        for thread in self.writers + self.readers:
            if thread.failure is not None:
                raise AssertionError("%s: %s: %s" % (thread.name, type(thread.failure).__name__, thread.failure))

    @staticmethod
    def errors(threads):
        """What clients were told, by first word."""
        total = {}
        for thread in threads:
            for code, count in thread.errors.items():
                total[code] = total.get(code, 0) + count
        return total

    def verify(self, node):
        """Compares what was acknowledged with what the node holds; returns a note."""
        self.stop()
        self.check()
        with node.client(timeout=30.0) as client:
            for writer in self.writers:
                self._verify_writer(client, writer)
        errors = self.errors(self.writers)
        for code, count in self.errors(self.readers).items():
            errors["GET -" + code] = count
        return "%d acknowledged, %d unknown, %d reads%s" % (
            sum(len(writer.acked) for writer in self.writers), sum(len(writer.unknown) for writer in self.writers),
            sum(reader.reads for reader in self.readers),
            "".join(", %d -%s" % (count, code) for code, count in sorted(errors.items())))

    @staticmethod
    def _verify_writer(client, writer):
        tokens = writer.acked + sorted(writer.unknown | writer.refused)
        found = []
        for part in range(max(tokens, default=0) // writer.KEY_TOKENS + 1):
            value = client.call("GET", writer.key(part * writer.KEY_TOKENS)) or b""
            found += [int(token) for token in value.split(b";")[:-1]]
        counts = {}
        for token in found:
            counts[token] = counts.get(token, 0) + 1
        lost = [token for token in writer.acked if token not in counts]
        expect(not lost, "%s: %d acknowledged writes are LOST: %.100r", writer.name, len(lost), lost)
        twice = [token for token, count in counts.items() if count > 1]
        expect(not twice, "%s: writes executed twice: %.100r", writer.name, twice)
        ghosts = [token for token in found if token in writer.refused]
        expect(not ghosts, "%s: refused as not executed, but executed: %.100r", writer.name, ghosts)
        acked = set(writer.acked)
        expect_equal([token for token in found if token in acked], writer.acked, "%s: order" % writer.name)


class Pulse:
    """Asks each node for a PING all the time, which it answers whoever leads: tells whether the machine let it run."""

    def __init__(self, nodes):
        self.ended = threading.Event()
        self.beats = []  # (sent, answered), of all nodes
        self.threads = [threading.Thread(target=self._run, args=(node,), daemon=True) for node in nodes]
        for thread in self.threads:
            thread.start()

    def _run(self, node):
        while not self.ended.wait(0.02):
            try:
                with Client(node.port) as client:
                    while not self.ended.wait(0.01):
                        sent = time.monotonic()
                        client.once("PING")
                        self.beats.append((sent, time.monotonic()))
            except (OSError, EOFError, RespError):
                pass  # it is stopping, or has not started

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def longest(self, begin, end):
        """Seconds that the slowest answer took which overlaps [begin, end]; call it a moment after `end`."""
        return max((b - a for a, b in list(self.beats) if b >= begin and a <= end), default=float("inf"))


class TimedLoad(Load):
    """A load that remembers when each write was acknowledged, and whether nodes stood still."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.times = []
        self.pulse = None

    def __enter__(self):
        self.pulse = Pulse(self.nodes)
        return super().__enter__()

    def stop(self):
        super().stop()
        if self.pulse is not None:
            self.pulse.stop()

    def note_ack(self, sent, received):
        self.times.append(received)
        super().note_ack(sent, received)

    def longest_gap(self, begin, end):
        """Longest time without an acknowledgement that overlaps [begin, end]."""
        times = sorted(t for t in list(self.times) if begin - 1 <= t <= end + 1)
        return max((b - a for a, b in zip(times, times[1:]) if b >= begin and a <= end), default=float("inf"))
