"""Nodes join and leave while clients write."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

from cluster import ROOT, Cluster, Node, free_ports, release_ports, wait_for
from harness import CALM_S, TRIES, TimedLoad, expect, expect_error, test, undisturbed

LOCKSTEP = os.environ.get("LOCKSTEP") or os.path.join(os.path.dirname(
    os.environ.get("LOCKSTEPD") or os.path.join(ROOT, "build", "lockstepd")), "lockstep")


class Joiner(Node):
    """A node that starts with an empty directory and --join."""

    def __init__(self, cluster, node_id, ports):
        super().__init__(cluster, node_id, ports[0], ports[1])
        self.seed = None  # any member

    def argv(self, flags=()):
        return [self.cluster.binary, "--id", self.id, "--dir", self.dir, "--bind", "127.0.0.1", "--port", self.port,
                "--peer-port", self.peer_port, "--join", "127.0.0.1:%d" % self.seed.port] + list(flags)


def member(cluster, *words, code=0, wait=60):
    """Run `lockstep member`; returns what it printed."""
    seeds = ",".join("127.0.0.1:%d" % node.port for node in cluster.live())
    done = subprocess.run([LOCKSTEP, "member", "--addr", seeds, "--wait", str(wait)] + [str(w) for w in words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=wait + 30)
    text = done.stdout.decode()
    expect(done.returncode == code, "lockstep member %s: status %d, not %d: %s", words, done.returncode, code, text)
    return text


def add_node(cluster, node):
    """Start a node, add it, make it a voter."""
    node_id = node.id
    node.seed = cluster.wait_leader()
    node.start()
    member(cluster, "add", node_id, "127.0.0.1:%d:%d" % (node.port, node.peer_port))
    cluster.nodes.append(node)
    member(cluster, "promote", node_id)


@test
def rolling_replacement_under_load(options):
    """All three nodes are replaced under load, one after the other: add, promote, remove. No acknowledged write is lost."""
    for _ in range(TRIES):
        note, terms, longest, refused, read_errors = replace_all()
        # Each client is told once by each node that it stops or was removed. Only another election, or a machine that takes
        # a node's processor for long, tells it more, or leaves an outcome open.
        if "UNKNOWN" not in refused and sum(refused.values()) <= 30 and not read_errors:
            return note
        expect(terms > 3 or longest >= CALM_S, "clients were refused too often, or outcomes could have been known: %s", note)
    raise AssertionError("not once in %d rounds went all nodes without another election: %s" % (TRIES, note))


def replace_all():
    """Returns (note, terms that passed, seconds that a node or all writes stood still, errors of writers and of readers)."""
    ports = free_ports(6)
    try:
        with Cluster(3) as cluster:
            joiners = [Joiner(cluster, i + 4, ports[2 * i:2 * i + 2]) for i in range(3)]
            _, term = cluster.reign()
            with TimedLoad(SimpleNamespace(nodes=cluster.nodes + joiners)) as load:
                begin = time.monotonic()
                load.wait_acks(200)
                for i in range(3):
                    old = cluster.node(i + 1)
                    add_node(cluster, joiners[i])
                    load.wait_acks(200)
                    member(cluster, "remove", old.id)
                    old.stop()
                    cluster.nodes.remove(old)
                    load.wait_acks(200)
            longest = max(load.longest_gap(begin, load.times[-1]), load.pulse.longest(begin, time.monotonic()))
            cluster.wait_converged()
            ids = sorted(int(line.split()[0]) for line in member(cluster, "list").splitlines())
            expect(ids == [4, 5, 6], "members are %s", ids)
            notes = [load.verify(node) for node in cluster.nodes]
            return notes[0], cluster.reign()[1] - term, longest, load.errors(load.writers), load.errors(load.readers)
    finally:
        release_ports(ports)


@test
def removed_node_is_refused():
    """A removed node that comes back with its old identity is refused and disturbs nobody; its id can't be added again."""
    ports = free_ports(2)
    try:
        with Cluster(3) as cluster:
            old = cluster.followers()[0]
            argv = old.argv()  # as configured when the cluster began
            add_node(cluster, Joiner(cluster, 4, ports))
            member(cluster, "remove", old.id)
            cluster.nodes.remove(old)
            old.stop()
            old.argv = lambda flags=(): argv
            # A node that comes back and stands for election raises the term each time; a busy machine does now and then.
            expect(any(returns_in_peace(cluster, old) for _ in range(TRIES)), "the term went up, %d times", TRIES)
            wait_for(lambda: any("its id is not used again" in node.log_text() for node in cluster.nodes),
                     what="the refusal in a member's log")
            with old.client() as client:
                text = expect_error(client, "CLUSTERDOWN", "SET", "k", "v")
                expect("was removed" in text, "its clients are told: %s", text)
            text = member(cluster, "add", old.id, "127.0.0.1:%d:%d" % (old.port, old.peer_port), code=1)
            expect("never used again" in text, "the refusal says: %s", text)
            expect(cluster.leader().call("SET", "k", "v") == "OK", "writes go on")
            old.stop()
    finally:
        release_ports(ports)


def returns_in_peace(cluster, old):
    """It learns that it was removed, says so once, and tells its clients at once. Returns whether the term stayed."""
    if old.alive():
        old.stop()
    before = cluster.reign()
    old.start()
    wait_for(lambda: old.status()["role"] == "removed", what="%r to learn that it was removed" % old)
    lines = old.log_text().count("was removed from the cluster")
    expect(lines == 1, "the removed node says so %d times", lines)
    quickest = min(refused_after(old) for _ in range(TRIES))
    expect(quickest < 0.25, "its clients are told after %.0f ms, not at once", 1000 * quickest)
    return cluster.reign() == before


def refused_after(node):
    """Seconds until a SET is refused there."""
    started = time.monotonic()
    with node.client() as client:
        expect_error(client, "CLUSTERDOWN", "SET", "k", "v")
    return time.monotonic() - started


@test
def lost_disk_is_noticed():
    """A node that lost its disk comes back under its id, after all were restarted, to one that lacks an acknowledged write.
    It must not count: nobody leads, and nothing is lost."""
    with Cluster(3) as cluster:
        leader = cluster.wait_leader()
        lost, behind = cluster.followers()
        behind.kill()
        with leader.client() as client:
            expect(client.call("SET", "k", "acknowledged") in ("OK", b"OK"), "a write to two of three")
        lost.kill()
        leader.kill()
        shutil.rmtree(lost.dir)
        lost.start()
        behind.start()
        wait_for(lambda: "not the one it had" in behind.log_text(), what="%r to refuse the new disk" % behind)
        wait_for(lambda: "not the one it had" in lost.log_text(), what="%r to be told" % lost)
        with behind.client() as client:
            expect_error(client, "CLUSTERDOWN", "GET", "k")
        leader.start()
        cluster.wait_leader()
        with behind.client() as client:
            expect(client.call("GET", "k") in ("acknowledged", b"acknowledged"), "the write is still there")
        member(cluster, "remove", lost.id)  # as the refusal advises


@test
def refusals_are_explained():
    """Changes that would cost the quorum, or that make no sense, are refused with a reason."""
    with Cluster(3) as cluster:
        leader, _ = cluster.reign()
        follower, other = [node for node in cluster.nodes if node is not leader]
        expect("voter already" in member(cluster, "promote", follower.id, code=1), "promoting a voter")
        expect("not a member" in member(cluster, "remove", 77, code=1), "removing a stranger")
        for taken in ("%d:9" % other.port, "%d:9" % other.peer_port, "9:%d" % other.port):
            for words in (("add", 77), ("address", follower.id)):
                text = member(cluster, *words, "127.0.0.1:" + taken, code=1)
                expect("in use by node %d" % other.id in text, "the address of another member: %s", text)
        expect("must differ" in member(cluster, "add", 77, "127.0.0.1:9:9", code=1), "one port for two things")
        follower.kill()

        def refused():
            leader = cluster.leader()
            wait_for(lambda: not next(m for m in leader.status()["members"] if m["id"] == follower.id)["connected"],
                     what="the leader has noticed")
            for needed in (other, leader):
                text = member(cluster, "remove", needed.id, code=1)
                expect("too few" in text and "handing over" not in text, "removing a voter that is needed: %s", text)

        undisturbed(cluster, refused)
        member(cluster, "remove", follower.id)
        text = member(cluster, "add", follower.id, "127.0.0.1:%d:%d" % (follower.port, follower.peer_port), code=1)
        expect("never used again" in text, "an id of the first configuration is used again: %s", text)


class Forgetful(threading.Thread):
    """Looks like a cluster of one, of which node 2 is a learner. Executes a change, but ends the connection instead of
    answering; what is asked for again it refuses."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.voter = False
        self.asked = 0

    def run(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            with client, client.makefile("rb") as lines:
                self._serve(client, lines)

    def _serve(self, client, lines):
        while line := lines.readline():
            words = [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
            if words[1] == b"STATUS":
                text = json.dumps(self._status()).encode()
                client.sendall(b"$%d\r\n%s\r\n" % (len(text), text))
                continue
            self.asked += 1
            if self.voter:
                client.sendall(b"-ERR node 2 is a voter already\r\n")
            else:
                self.voter = True
                return

    def _status(self):
        status = dict.fromkeys(("term", "commit", "applied", "last", "pid", "uptime_ms"), 1)
        address = "127.0.0.1:%d" % self.port
        return {**status, "id": 1, "leader": 1, "role": "leader", "change_pending": False, "members": [
            {"id": 1, "address": address, "voter": True}, {"id": 2, "address": address, "voter": self.voter}]}


@test
def change_without_an_answer_is_looked_for():
    """`lockstep member` asked for a change, and the connection broke before the answer: it looks whether it was made."""
    leader = Forgetful()
    leader.start()
    done = subprocess.run([LOCKSTEP, "member", "--addr", "127.0.0.1:%d" % leader.port, "promote", "2"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    leader.listener.close()
    expect(done.returncode == 0 and leader.asked == 1, "status %d, asked %d times: %s", done.returncode, leader.asked,
           done.stdout)
    return done.stdout.decode().strip()
