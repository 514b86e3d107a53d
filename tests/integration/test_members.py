"""Nodes join and leave while clients write."""

import os
import subprocess
import time
from types import SimpleNamespace

from cluster import ROOT, Cluster, Node, free_ports, release_ports, wait_for
from harness import Load, expect, expect_error, test

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


def member(cluster, *words, code=0, wait=30):
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
    ports = free_ports(6)
    try:
        with Cluster(3) as cluster:
            joiners = [Joiner(cluster, i + 4, ports[2 * i:2 * i + 2]) for i in range(3)]
            with Load(SimpleNamespace(nodes=cluster.nodes + joiners)) as load:
                load.wait_acks(200)
                for i in range(3):
                    old = cluster.node(i + 1)
                    add_node(cluster, joiners[i])
                    load.wait_acks(200)
                    member(cluster, "remove", old.id)
                    old.stop()
                    cluster.nodes.remove(old)
                    load.wait_acks(200)
            cluster.wait_converged()
            ids = sorted(int(line.split()[0]) for line in member(cluster, "list").splitlines())
            expect(ids == [4, 5, 6], "members are %s", ids)
            notes = [load.verify(node) for node in cluster.nodes]
            writes, reads = load.errors(load.writers), load.errors(load.readers)
            expect("UNKNOWN" not in writes, "outcomes that could have been known: %s", notes[0])
            expect(sum(writes.values()) <= 30 and not reads, "clients were refused too often: %s", notes[0])
        return notes[0]
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
            if cluster.leader() is old:
                old.call("LOCKSTEP", "TRANSFER")
            member(cluster, "remove", old.id)
            cluster.nodes.remove(old)
            term = cluster.wait_leader().status()["term"]
            old.stop()
            old.argv = lambda flags=(): argv
            old.start()
            wait_for(lambda: old.status()["role"] == "removed", what="%r to learn that it was removed" % old)
            wait_for(lambda: any("its id is not used again" in node.log_text() for node in cluster.nodes),
                     what="the refusal in a member's log")
            with old.client() as client:
                started = time.monotonic()
                expect("was removed" in expect_error(client, "CLUSTERDOWN", "SET", "k", "v"), "what its clients are told")
                expect(time.monotonic() - started < 0.25, "and at once")
            lines = old.log_text().count("was removed from the cluster")
            expect(lines == 1, "the removed node says so %d times", lines)
            text = member(cluster, "add", old.id, "127.0.0.1:%d:%d" % (old.port, old.peer_port), code=1, wait=3)
            expect("never used again" in text, "the refusal says: %s", text)
            with cluster.leader().client() as client:
                expect(client.call("SET", "k", "v") in ("OK", b"OK"), "writes go on")
            expect(cluster.leader().status()["term"] == term, "the term went up")
            old.stop()
    finally:
        release_ports(ports)


@test
def refusals_are_explained():
    """Changes that would cost the quorum, or that make no sense, are refused with a reason."""
    with Cluster(3) as cluster:
        follower = cluster.followers()[0]
        other = cluster.followers()[1]
        expect("voter already" in member(cluster, "promote", follower.id, code=1, wait=3), "promoting a voter")
        expect("not a member" in member(cluster, "remove", 77, code=1, wait=3), "removing a stranger")
        leader = cluster.leader()
        follower.kill()
        wait_for(lambda: not next(m for m in leader.status()["members"] if m["id"] == follower.id)["connected"],
                 what="the leader has noticed")
        expect("too few" in member(cluster, "remove", other.id, code=1, wait=3), "removing a voter that is needed")
        member(cluster, "remove", follower.id)
        text = member(cluster, "add", follower.id, "127.0.0.1:%d:%d" % (follower.port, follower.peer_port), code=1, wait=3)
        expect("never used again" in text, "an id of the first configuration is used again: %s", text)
