"""What operators do by mistake, and what they are told: directories, identities, addresses, files that are no files."""

import json
import os
import shutil
import subprocess
import tempfile

from cluster import HOST, ROOT, Cluster, Node, free_ports, lockstepd_path, release_ports, wait_for
from harness import expect, expect_equal, expect_refuses_start, test

LOCKSTEP = os.environ.get("LOCKSTEP") or os.path.join(os.path.dirname(lockstepd_path()), "lockstep")


def run(*args, code=0, timeout=300):
    """Run `lockstep` and expect its exit status; returns (stdout, stderr)."""
    done = subprocess.run([LOCKSTEP] + [str(arg) for arg in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, check=False)
    expect(done.returncode == code, "lockstep %s: status %d, not %d:\n%s%s", " ".join(str(arg) for arg in args),
           done.returncode, code, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout, done.stderr


class BareNode(Node):
    """Started without `member` lines."""

    join = None

    def argv(self, flags=()):
        argv = [self.cluster.binary, "--id", self.id, "--dir", self.dir, "--bind", HOST, "--port", self.port,
                "--peer-port", self.peer_port]
        return argv + (["--join", "%s:%d" % (HOST, self.join.port)] if self.join else []) + list(flags)


def bare(node, port=None, peer_port=None):
    """The same node and directory, to be started without `member` lines."""
    other = BareNode(node.cluster, node.id, port or node.port, peer_port or node.peer_port)
    node.cluster.nodes[node.cluster.nodes.index(node)] = other
    return other


def results(*paths, code):
    """What `lockstep verify` says of each path."""
    return [file["result"] for file in json.loads(run("verify", "--json", *paths, code=code)[0])["files"]]


@test
def verify_says_what_it_did_not_look_at():
    """A directory in use, nothing there, something else, something damaged: each has its word, and its exit code."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        node.call("SET", "k", "v")
        backup, other = os.path.join(cluster.dir, "backup"), os.path.join(cluster.dir, "other")
        run("backup", backup, "--addr", "%s:%d" % (HOST, node.port))
        with open(other, "w", encoding="ascii") as file:
            file.write("something else")
        expect_equal(results(node.dir, code=4), ["in-use"], "a directory in use")
        expect("(pid %d)" % node.process.pid in run("verify", node.dir, code=4)[0], "the node that uses it is not named")
        expect_equal(results(os.path.join(node.dir, "state"), code=4), ["in-use"], "a file of a directory in use")
        expect_equal(results(os.path.join(cluster.dir, "nothing"), code=4), ["absent"], "nothing")
        expect_equal(results(backup, os.path.join(cluster.dir, "nothing"), code=4), ["ok", "absent"], "good and absent")
        expect_equal(results(other, code=1), ["unknown"], "another file")
        with open(backup, "r+b") as file:
            file.truncate(5000)
        expect_equal(results(node.dir, backup, code=1), ["in-use", "damaged"], "damage counts more")


@test
def verify_reads_the_list_of_known_nodes():
    """The file `nodes`, without which a node does not start, is checked like the others."""
    with Cluster(3) as cluster:
        node = cluster.nodes[0]
        names = os.path.join(node.dir, "nodes")
        wait_for(lambda: os.path.exists(names), what="the file `nodes`")
        cluster.stop()
        run("verify", node.dir, names)
        with open(names, "r+b") as file:
            file.seek(30)
            byte = file.read(1)
            file.seek(30)
            file.write(b"0" if byte != b"0" else b"1")
        for path in (node.dir, names):
            expect("nodes" in run("verify", path, code=1)[0], "damage of `nodes` is not told")
        node.start()
        expect_refuses_start(node, "nodes is damaged")


@test
def members_are_remembered():
    """A node that has run needs no `member` lines: it goes on where it was. An address other than the known one is told."""
    with Cluster(3) as cluster:
        cluster.wait_leader().call("SET", "k", "v")
        uuid = cluster.nodes[0].status()["cluster"]
        cluster.stop()
        for node in list(cluster.nodes):
            bare(node)
        cluster.start()
        expect_equal(cluster.nodes[1].call("GET", "k"), b"v", "the value after a start without `member` lines")
        expect_equal({node.status()["cluster"] for node in cluster.nodes}, {uuid}, "the cluster's uuid")
        ports = free_ports(2)
        try:
            cluster.nodes[2].stop()
            moved = bare(cluster.nodes[2], *ports).start()
            wait_for(lambda: "listens on ports %d and %d" % tuple(ports) in moved.log_text(), what="the warning",
                     check=moved.check_alive)
            leader = next(node for node in cluster.nodes[:2] if node.status()["role"] == "leader")
            run("member", "--addr", "%s:%d" % (HOST, leader.port), "address", moved.id, "%s:%d:%d" % (HOST, *ports))
            moved.wait_up()
        finally:
            moved.kill()
            release_ports(ports)


@test
def directory_keeps_its_cluster():
    """`--join` on a directory that belongs to a cluster does not make it one of another cluster, now or later."""
    with Cluster(3) as cluster, Cluster(1) as other:
        cluster.wait_leader().call("SET", "k", "v")
        node = cluster.nodes[0]
        node.stop()
        confused = bare(node)
        confused.join = other.nodes[0]
        confused.start()
        confused.wait_up()
        expect(not os.path.exists(os.path.join(node.dir, "joined")), "it joined another cluster")
        confused.stop()
        cluster.nodes[0] = node
        cluster.start()
        expect_equal(node.call("GET", "k"), b"v", "the value after all that")


@test
def clusters_of_one_name_differ():
    """Clusters begun independently, with the same name and ids, have different uuids; one of a single node even at the same
    address. The order of the `member` lines does not matter."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        first = node.status()["cluster"]
        node.stop()
        shutil.rmtree(node.dir)
        cluster.start()
        expect(node.status()["cluster"] != first, "a new cluster of one node has the old one's uuid")
    with Cluster(3) as one, Cluster(3) as two:
        uuids = [{node.status()["cluster"] for node in cluster.nodes} for cluster in (one, two)]
        expect(len(uuids[0]) == 1 and len(uuids[1]) == 1 and uuids[0] != uuids[1], "uuids: %s", uuids)
        two.stop()
        for node in two.nodes:
            shutil.rmtree(node.dir)
        lines = two.members()
        two.members = lambda: lines[1:] + lines[:1]
        two.nodes[0].start()
        two.members = lambda: lines
        two.start()
        expect_equal({node.status()["cluster"] for node in two.nodes}, uuids[1], "uuid with lines in another order")
