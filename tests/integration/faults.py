"""The disk of real nodes at fault: the library that jepsen/ preloads (jepsen/faults/faults.c says what it can), and the
words by which it is told. Knows nothing of single tests.

    with FaultyDisks(cluster) as disks:
        disks.start(node)
        disks[node].set("ONLY", ONLY_LOG)
        disks[node].set("FAIL_WRITES", 1)
"""

import mmap
import os
import re
import struct

from cluster import ROOT, lockstepd_path
from harness import Skip

SOURCE = os.path.join(ROOT, "jepsen", "faults", "faults.c")
BUILD = os.path.dirname(lockstepd_path())
LIBRARY = os.path.join(BUILD, "lockstep_faults.so")


def enum_of(text, name):
    """The values of an enum in C, by their names."""
    body = re.search(r"enum %s \{(.*?)\}" % name, text, re.S).group(1)
    values, value = {}, -1
    for item in re.sub(r"/\*.*?\*/", "", body, flags=re.S).split(","):
        if item.strip():
            word, _, number = (part.strip() for part in item.partition("="))
            value = int(number) if number else value + 1
            values[word] = value
    return values


with open(SOURCE, encoding="ascii") as source:
    TEXT = source.read()
WORDS = enum_of(TEXT, "word")
ONLY_ALL, ONLY_LOG, ONLY_SNAPSHOTS, ONLY_STATE, _ = range(len(enum_of(TEXT, "only")))


class Disk:
    """One node's settings and counters, over all its processes."""

    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as file:
            file.truncate(WORDS["WORDS"] * 8)
            self.words = mmap.mmap(file.fileno(), WORDS["WORDS"] * 8)

    def set(self, word, value):
        struct.pack_into("<q", self.words, WORDS[word] * 8, value)

    def get(self, word):
        return struct.unpack_from("<q", self.words, WORDS[word] * 8)[0]

    def heal(self):
        for word, number in WORDS.items():
            if number < WORDS["N_CLOCK"]:
                self.set(word, 0)

    def environment(self):
        return dict(os.environ, LD_PRELOAD=LIBRARY, LOCKSTEP_FAULTS=self.path)


class FaultyDisks:
    """A disk for each node of a cluster, good at first. What is preloaded into goes by start()."""

    def __init__(self, cluster):
        if not os.path.exists(LIBRARY):
            raise Skip("no %s: build the target lockstep_faults" % LIBRARY)
        if os.path.basename(BUILD) in ("asan", "tsan"):
            raise Skip("nothing can be preloaded in front of a sanitizer")
        self.disks = {node.id: Disk(os.path.join(cluster.dir, "faults-%d" % node.id)) for node in cluster.nodes}

    def __getitem__(self, node):
        return self.disks[node.id]

    def start(self, node):
        return node.start(env=self[node].environment())

    def restart(self, node):
        if node.alive():
            node.stop()
        return self.start(node).wait_up()
