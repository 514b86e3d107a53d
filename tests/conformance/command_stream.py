"""Seeded random command streams with odd arguments, for differential.py.

A stream is a list of steps: ('command', connection, args), ('gone', key) to wait until a key has expired,
('alive', key, n) to leave out the next n steps if it has already, and ('walk', options) for a whole SCAN. It is cut
into epochs that start from an empty keyspace.

Times are chosen so that the milliseconds between two servers can't decide anything: absolute deadlines are at 700 s past
a multiple of 1,000 s from the epoch's start, relative ones are different multiples of 1,000 s, so that no two that
EXPIRE GT or LT could compare are close (an epoch takes far less than 200 s). Short deadlines are set last in a burst, and
waited for.

Two known differences are not sent, since a reply alone would not tell them from an error:
- options that hold a zero byte: Redis compares options as C strings, and takes b'NX\\0x' for NX;
- a watched key that did not exist, was made and was removed again before EXEC: Redis aborts the transaction, Lockstep
  executes it, since the key is again what WATCH saw (a key that exists is told apart by its revision).
"""
import random
import time

EPOCH_COMMANDS = 20_000

KEYS = [b"a", b"b", b"c", b"key:1", b"key:2", b"key:10", b"", b"with space", b"a*b", b"h[e]llo", b"back\\slash",
        b"bin\x00\xff\r\n", b"x" * 300, b"KEY:1"]
NUMBERS = [b"0", b"1", b"-1", b"2", b"7", b"10", b"42", b"100", b"9999", b"10000", b"-10", b"2147483647",
           b"2147483648", b"-2147483649", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
           b"-9223372036854775809", b"9223372036854775806", b"18446744073709551615", b"18446744073709551616",
           b"99999999999999999999999"]
NOT_NUMBERS = [b"", b"-", b"+", b"+1", b"-0", b"00", b"01", b" 1", b"1 ", b"1.0", b"1e3", b"abc", b"0x10", b"1\x00",
               b"\x001", b"--1", b"one", b"\xff"]
FLOATS = [b"0.1", b"-0.1", b"3.0", b"1e3", b"5.0e-3", b"1e400", b"-1e400", b"1e4932", b"1e5000", b"-1e5000", b"1e-5000",
          b"inf", b"-inf", b"+inf", b"infinity", b"nan", b"-nan", b"0x1p4", b".5", b"5.", b".", b"1e", b"1,5", b"+3",
          b"1.7976931348623157e308", b"0.00000000000000001", b"-0.000000000000000001", b"123456789012345678.5",
          b"1" * 40, b"0." + b"3" * 60, b"9" * 5119, b"9" * 5120, b"\t1", b"1\n"]
PATTERNS = [b"*", b"**", b"", b"?", b"??", b"a*", b"*a", b"*:*", b"key:?", b"key:[0-9]", b"key:[^1]*", b"[ab]", b"[^ab]",
            b"[a-c", b"[", b"[]", b"[^]", b"[^", b"[c-a]", b"\\*", b"a\\*b", b"*\\", b"\\", b"h[[]e]llo", b"h\\[e\\]llo",
            b"*[\\]]*", b"x*x*x*x*x*x*y", b"x*" * 30, b"*\xff*", b"[\x00-\xff]*", b"[a-\xff]*", b"[\x80-a]*", b"*\x00*",
            b"KEY:*", b"?*?", b"*?*?*", b"[a-]", b"[-a]*", b"[a\\-c]*", b"k[e-e]y*", b"back\\\\slash"]
ENCODINGS = [b"x" * 44, b"x" * 45, b"9" * 20, b"-" + b"9" * 19, b"12345678901234567890", b"x" * 20, b"1" * 19]
TYPES = [b"string", b"STRING", b"list", b"hash", b"nonsense", b"", b"stringy"]


# Commands that no log holds, inside MULTI (or outside, where that was refused): run in their places, or refused when they
# are queued.
LOCAL_IN_MULTI = [
    [b"SELECT", b"0"], [b"SELECT", b"-1"], [b"SELECT", b"x"], [b"SELECT"], [b"TIME"], [b"TIME", b"x"], [b"WAIT", b"0", b"0"],
    [b"WAIT", b"1", b"5"], [b"WAIT", b"x", b"0"], [b"WAIT", b"1", b"-1"], [b"WAIT", b"1"], [b"CLIENT", b"ID"],
    [b"CLIENT", b"GETNAME"], [b"CLIENT", b"SETNAME", b"one"], [b"client", b"setname", b"two"],
    [b"CLIENT", b"SETNAME", b"a b"], [b"CLIENT", b"SETNAME"],
    [b"CLIENT", b"NOSUCH"], [b"CLIENT"], [b"CLIENT", b"ID", b"x"], [b"CLIENT", b"NO-EVICT", b"on"],
    [b"CLIENT", b"NO-EVICT", b"x"], [b"CONFIG", b"GET", b"nosuch"], [b"config", b"get", b"maxmemory"], [b"CONFIG", b"GET"],
    [b"CONFIG", b"NOSUCH"], [b"CONFIG", b"SET", b"nosuch", b"1"], [b"COMMAND", b"GETKEYS", b"GET", b"k"],
]


class Stream:
    def __init__(self, seed, store_only=False):
        """store_only: leave out what the store leaves to its server, such as the words for unknown commands."""
        self.random = random.Random(seed)
        self.store_only = store_only
        self.serial = 0
        self.origin = 0
        self.steps = []
        self.commands = self._command_table()

    # --- arguments -----------------------------------------------------------------------------------------------

    def pick(self, choices):
        return choices[int(self.random.random() * len(choices))]

    def chance(self, probability):
        return self.random.random() < probability

    def key(self):
        return self.pick(KEYS)

    def integer(self):
        r = self.random.random()
        if r < 0.55:
            return b"%d" % self.random.randint(-20, 20)
        return self.pick(NUMBERS) if r < 0.85 else self.pick(NOT_NUMBERS)

    def real(self):
        r = self.random.random()
        if r < 0.4:
            return b"%.*f" % (self.random.randint(0, 19), self.random.uniform(-1000, 1000))
        if r < 0.5:
            return b"%.17g" % self.random.uniform(-1e20, 1e20)
        return self.pick(FLOATS) if r < 0.85 else self.integer()

    def value(self):
        r = self.random.random()
        if r < 0.3:
            return self.integer()
        if r < 0.45:
            return self.real()
        if r < 0.55:
            return self.pick(ENCODINGS)
        if r < 0.97:
            return self.random.randbytes(self.random.randint(0, 60))
        return self.random.randbytes(self.random.randint(1000, 20000))

    def offset(self):
        r = self.random.random()
        if r < 0.7:
            return b"%d" % self.random.randint(-70, 70)
        if r < 0.78:
            return b"%d" % self.random.randint(-3000, 3000)
        return self.integer()

    def padding_offset(self):
        """For SETRANGE: never one that would make Redis allocate half a gigabyte."""
        r = self.random.random()
        if r < 0.8:
            return b"%d" % self.random.randint(-2, 60)
        if r < 0.85:
            return b"%d" % self.random.randint(0, 3000)
        return self.pick([b"536870912", b"536870913", b"9223372036854775807", b"-9223372036854775808"] + NOT_NUMBERS)

    def unique(self):
        self.serial += 1
        return self.serial

    def relative(self, ms):
        """A relative time: mostly far ahead, and different from all others of this epoch."""
        r = self.random.random()
        if r < 0.75:
            seconds = 1000 * (self.unique() * 7919 % 1_000_003)
            return b"%d" % (seconds * 1000 if ms else seconds)
        if r < 0.8:
            return b"%d" % (9_223_370_000_000_000_000 - 1_000_000 * self.unique() if ms else 9_223_372_036_854_775)
        return self.odd_time()

    def absolute(self, ms):
        r = self.random.random()
        if r < 0.7:
            seconds = self.origin + 700 + 1000 * self.random.choice([1, 2, 3, 50, 1000, 700_000])
            return b"%d" % (seconds * 1000 if ms else seconds)
        if r < 0.8:
            return self.pick([b"1", b"1000", b"1700000000", b"1600000000000"] if ms else [b"1", b"1600000000"])
        return self.odd_time()

    def odd_time(self):
        return self.pick([b"0", b"-1", b"-100", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
                          b"-9223372036854775807", b"9223372036854776", b"-9223372036854776"] + NOT_NUMBERS)

    def cased(self, word):
        r = self.random.random()
        if r < 0.4:
            return word.upper()
        if r < 0.8:
            return word.lower()
        return bytes(b ^ 0x20 if 65 <= b & 0xDF <= 90 and self.chance(0.5) else b for b in word)

    def time_option(self):
        word = self.pick([b"EX", b"PX", b"EXAT", b"PXAT"])
        time_argument = self.absolute(word[0:1] == b"P") if word.endswith(b"AT") else self.relative(word == b"PX")
        return [word, time_argument] if self.chance(0.95) else [word]

    def options(self, words, most=3, times=False):
        out = []
        for _ in range(self.random.choice([0, 0, 1, 1, 1, 2, 2, most])):
            r = self.random.random()
            if times and r < 0.4:
                out += self.time_option()
            elif r < 0.96:
                out.append(self.pick(words))
            else:
                out.append(self.pick([b"", b"bogus", b"NXX", b"EXX", b"1", b"get ", b"two\r\nlines\r\n", b"y" * 500]))
        return [self.cased(word) for word in out]

    # --- commands ------------------------------------------------------------------------------------------------

    def _command_table(self):
        """(weight, name, function that gives the arguments)"""
        one, many = (lambda: [self.key()]), (lambda: [self.key() for _ in range(self.random.randint(1, 4))])
        pairs = lambda: [x for _ in range(self.random.randint(1, 4)) for x in (self.key(), self.value())]
        expire = [b"NX", b"XX", b"GT", b"LT"]
        table = [
            (60, b"GET", one), (90, b"SET", self._set), (12, b"SETNX", lambda: [self.key(), self.value()]),
            (12, b"SETEX", lambda: [self.key(), self.relative(False), self.value()]),
            (12, b"PSETEX", lambda: [self.key(), self.relative(True), self.value()]),
            (12, b"GETSET", lambda: [self.key(), self.value()]), (12, b"GETDEL", one),
            (30, b"GETEX", lambda: [self.key()] + self.options([b"PERSIST"], 2, times=True)),
            (12, b"MGET", many), (12, b"MSET", pairs), (8, b"MSETNX", pairs),
            (30, b"APPEND", lambda: [self.key(), self.value() if self.chance(0.9) else b""]), (15, b"STRLEN", one),
            (25, b"SETRANGE", lambda: [self.key(), self.padding_offset(), self.value()]),
            (25, b"GETRANGE", lambda: [self.key(), self.offset(), self.offset()]),
            (8, b"SUBSTR", lambda: [self.key(), self.offset(), self.offset()]),
            (25, b"INCR", one), (15, b"DECR", one), (25, b"INCRBY", lambda: [self.key(), self.integer()]),
            (25, b"DECRBY", lambda: [self.key(), self.integer()]),
            (40, b"INCRBYFLOAT", lambda: [self.key(), self.real()]),
            (20, b"DEL", many), (8, b"UNLINK", many), (12, b"EXISTS", many), (8, b"TOUCH", many), (10, b"TYPE", one),
            (20, b"EXPIRE", lambda: [self.key(), self.relative(False)] + self.options(expire, 2)),
            (20, b"PEXPIRE", lambda: [self.key(), self.relative(True)] + self.options(expire, 2)),
            (20, b"EXPIREAT", lambda: [self.key(), self.absolute(False)] + self.options(expire, 2)),
            (20, b"PEXPIREAT", lambda: [self.key(), self.absolute(True)] + self.options(expire, 2)),
            (12, b"TTL", one), (12, b"PTTL", one), (12, b"EXPIRETIME", one), (12, b"PEXPIRETIME", one),
            (20, b"PERSIST", one), (20, b"RENAME", lambda: [self.key(), self.key()]),
            (15, b"RENAMENX", lambda: [self.key(), self.key()]), (25, b"COPY", self._copy),
            (8, b"KEYS", lambda: [self.pick(PATTERNS)]), (8, b"SCAN", self._scan),
            (20, b"OBJECT", self._object), (1, b"FLUSHALL", self._flush), (1, b"FLUSHDB", self._flush),
        ]
        unknown = [(1, b"PING", lambda: self.pick([[], [self.value()]])), (1, b"ECHO", lambda: [self.value()]),
                   (1, b"NOSUCH", many), (1, b"GET\r\n", many), (1, b"Z" * 200, pairs), (1, b"OBJECT|HELP", list)]
        return table if self.store_only else table + unknown

    def _set(self):
        return [self.key(), self.value()] + self.options([b"NX", b"XX", b"GET", b"KEEPTTL"], 4, times=True)

    def _copy(self):
        args = [self.key(), self.key()] + self.options([b"REPLACE", b"DB"], 3)
        if self.chance(0.3):
            args += [b"DB", self.pick([b"0", b"1", b"-1", b"99", b"x", b"2147483648", b"-2147483649"])]
        return args + ([b"replace"] if self.chance(0.2) else [])

    def _scan(self):
        """Mostly complete in one step; cursors out of the air only where both must refuse."""
        cursor = b"0" if self.chance(0.85) else self.pick([b"x", b" 0", b"-", b"1x", b"", b"99999999999999999999"])
        args = [cursor, b"COUNT", b"1000"]
        while self.chance(0.4):
            args += self.pick([[b"MATCH", self.pick(PATTERNS)], [b"TYPE", self.pick(TYPES)], [b"count", b"9000"],
                               [b"COUNT", self.pick([b"0", b"-1", b"x", b"9223372036854775808"])], [b"MATCH"], [b"bogus"],
                               [b"COUNT", b"922337203685477580"]])
        return args

    def _object(self):
        word = self.cased(self.pick([b"ENCODING"] * 6 + [b"REFCOUNT", b"REFCOUNT", b"IDLETIME", b"FREQ", b"HELP", b"",
                                                         b"bogus", b"z" * 200, b"encodin"]))
        return [word] + ([] if self.chance(0.08) else [self.key()])

    def _flush(self):
        return self.options([b"SYNC", b"ASYNC"], 2)

    def command(self):
        _, name, arguments = self.random.choices(self.commands, self.weights)[0]
        args = arguments()
        if self.chance(0.02) and args:
            args.pop(int(self.random.random() * len(args)))
        elif self.chance(0.02):
            args.append(self.value() if name != b"SCAN" else b"bogus")
        return [self.cased(name)] + [arg.replace(b"\0", b"0") if name in (b"SCAN",) and i == 0 else arg
                                     for i, arg in enumerate(args)]

    # --- steps ---------------------------------------------------------------------------------------------------

    def add(self, args, connection=0):
        self.steps.append(("command", connection, args))

    def transaction(self):
        """MULTI, EXEC and WATCH, with a second connection that may change what is watched."""
        watched = []
        while self.chance(0.5):
            watched = [self.key() for _ in range(self.random.randint(1, 3))]
            self.add([self.cased(b"WATCH")] + watched)
        if self.chance(0.05):
            self.add([self.cased(b"UNWATCH")])
        meddle_at = self.random.choice([None, "before", "inside"]) if watched else None
        if meddle_at == "before":
            self.add(self.meddle(watched), connection=1)
        self.add([self.cased(b"MULTI")] + ([b"extra"] if not watched and self.chance(0.02) else []))
        for _ in range(self.random.choice([0, 1, 2, 3, 5])):
            if self.chance(0.03):
                self.add([self.pick([b"MULTI", b"WATCH", b"EXEC", b"DISCARD"] +
                                    ([] if self.store_only else [b"UNWATCH"]))] +
                         ([b"k"] if self.chance(0.5) else []))
            self.add(self.command())
            if not self.store_only and self.chance(0.15):
                self.add(self.pick(LOCAL_IN_MULTI))
        if meddle_at == "inside":
            self.add(self.meddle(watched), connection=1)
        self.add([self.cased(self.pick([b"EXEC"] * 9 + [b"DISCARD"]))])

    def meddle(self, watched):
        """A change of one watched key, or none; one command, so that an absent key is not made and removed again."""
        key = self.pick(watched)
        return self.pick([[b"SET", key, b"meddled"], [b"APPEND", key, b"!"], [b"GET", key], [b"DEL", self.key()],
                          [b"INCR", self.key()], [b"PERSIST", key], [b"RENAME", key, self.key()], [b"SETNX", key, b"1"],
                          [b"COPY", self.key(), key, b"REPLACE"], [b"EXPIREAT", key, b"1"], [b"SET", key, b"v", b"XX"]])

    def expire_soon(self):
        key = self.key()
        soon = b"%d" % self.random.randint(1, 20)
        self.add(self.pick([[b"SET", key, b"soon", b"PX", soon], [b"PSETEX", key, soon, b"soon"],
                            [b"PEXPIRE", key, soon], [b"GETEX", key, b"px", soon]]))
        self.steps.append(("gone", key, "if-soon"))
        for args in ([b"GET", key], [b"TTL", key], [b"EXISTS", key, key], [b"OBJECT", b"ENCODING", key]):
            if self.chance(0.5):
                self.add(args)

    def watch_and_expire(self):
        """A watched key expires, which must be there when it is watched: on a machine that took longer to get there the
        steps behind are left out."""
        key = self.key()
        self.add([b"SET", key, b"soon", b"PX", b"%d" % self.random.randint(200, 300)])
        self.add([b"WATCH", key])
        self.steps.append(("alive", key, 4))
        self.steps.append(("gone", key, "always"))
        self.add([b"MULTI"])
        self.add([b"SET", key, b"later"])
        self.add([b"EXEC"])

    def count_keys(self):
        """DBSIZE behind a whole SCAN, which makes Redis remove the expired keys that it would still count, and RANDOMKEY
        behind KEYS, which tells what may come."""
        self.add([b"SCAN", b"0", b"COUNT", b"1000"])
        self.add([self.cased(b"DBSIZE")])
        self.add([b"KEYS", b"*"])
        self.add([self.cased(b"RANDOMKEY")])

    def walk(self):
        options = []
        if self.chance(0.5):
            options += [b"MATCH", self.pick(PATTERNS)]
        if self.chance(0.7):
            options += [b"COUNT", self.pick([b"1", b"2", b"3", b"100"])]
        if self.chance(0.3):
            options += [b"TYPE", self.pick(TYPES)]
        self.steps.append(("walk", options))

    def burst(self, length):
        self.weights = [row[0] for row in self.commands]
        self.steps = []
        while len(self.steps) < length:
            r = self.random.random()
            if r < 0.96:
                self.add(self.command())
            elif r < 0.985:
                self.transaction()
            elif r < 0.997:
                self.count_keys()
            else:
                self.walk()
        if self.chance(0.3):
            self.expire_soon()
        if self.chance(0.05):
            self.watch_and_expire()
        return self.steps

    def epoch(self):
        """Time and uniqueness start afresh."""
        self.origin = int(time.time()) // 1000 * 1000 + 1000
        self.serial = 0
