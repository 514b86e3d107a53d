"""What operators do by mistake, and what they are told: directories, identities, addresses, files that are no files."""

import json
import os
import shutil
import subprocess
import tempfile
import time

from cluster import HOST, ROOT, Cluster, Node, Process, free_ports, lockstepd_path, release_ports, wait_for
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


def members(cluster, *words, code=0):
    """`lockstep member`; returns (stdout, stderr)."""
    seeds = ",".join("%s:%d" % (HOST, node.port) for node in cluster.live())
    return run("member", "--addr", seeds, *words, code=code)


@test
def member_mistakes_are_explained():
    """Another node at the address, a node of another cluster, a port for nodes that was forgotten, an id that is too small,
    a node that does not run: the message says what to do, and nothing is changed."""
    ports = free_ports(4)
    try:
        with Cluster(3) as cluster:
            leader = cluster.wait_leader()
            node = BareNode(cluster, 4, ports[0], ports[1])
            own = "%s:%d" % (HOST, node.port)
            text = members(cluster, "add", 4, "%s:%d" % (HOST, cluster.nodes[0].port), code=1)[1]
            expect("in use by node 1" in text, "the address of another node: %s", text)
            node.start()
            wait_for(lambda: node.status()["role"] == "leader", what="a cluster of its own")
            expect("another cluster" in members(cluster, "add", 4, own, code=1)[1], "a node that was started without --join")
            node.kill()
            shutil.rmtree(node.dir)
            node.join = leader
            node.start()
            wait_for(lambda: "not a member yet" in node.log_text(), what="it to wait", check=node.check_alive)
            text = run("member", "--addr", own, "--wait", 0, "list", code=1)[1]
            expect("belongs to no cluster" in text, "asked too early: %s", text)
            members(cluster, "add", 4, own)
            members(cluster, "promote", 4)
            listed = json.loads(members(cluster, "list", "--json")[0])["members"]
            expect_equal([m["voter"] for m in listed if m["id"] == 4], [True], "the new node's vote")
            text = members(cluster, "add", 6, "%s:%d:%d" % (HOST, *ports[2:]))[1]
            expect("start node 6 there" in text, "nothing answers at the address: %s", text)
            expect("give 7" in members(cluster, "add", 5, "%s:9" % HOST, code=1)[1], "the next free id is not told")
            text = members(cluster, "--wait", 0, "promote", 6, code=1)[1]
            expect("%s:%d" % (HOST, ports[3]) in text, "the address that can't be reached is not told: %s", text)
            expect("wants ID" in members(cluster, "add", 7, code=2)[1], "a missing argument")
            expect('no action "ad"' in members(cluster, "ad", 7, code=2)[1], "an unknown action")
            node.kill()
    finally:
        release_ports(ports)


@test
def unreachable_nodes_are_named():
    """A command that reaches nobody says whom it asked; one archive run ends, and does not say that all is done."""
    ports = free_ports(2)
    asked = ",".join("%s:%d" % (HOST, port) for port in ports)
    base = tempfile.mkdtemp(prefix="operator-", dir=os.environ.get("LOCKSTEP_TEST_DIR") or os.path.join(ROOT, "build"))
    try:
        for words in (("backup", os.path.join(base, "b")), ("check",), ("upgrade", "--wait", 0),
                      ("member", "--wait", 0, "list"), ("archive", os.path.join(base, "a"), "--once")):
            text = run(*words, "--addr", asked, code=1)[1]
            expect("%s:%d" % (HOST, ports[1]) in text, "%s does not name the node: %s", words[0], text)
        with Cluster(1) as cluster:
            node = cluster.nodes[0]
            node.call("SET", "k", "v")
            run("archive", os.path.join(base, "c"), "--once", "--addr", "%s:%d" % (HOST, node.port))
        process = Process([LOCKSTEP, "archive", os.path.join(base, "c"), "--once", "--addr", asked],
                          os.path.join(base, "log"))
        wait_for(lambda: "trying again" in process.log_text(), what="the archiver to say that nobody answers")
        expect_equal(process.stop(), 1, "exit status of an archive that was not completed")
    finally:
        shutil.rmtree(base)
        release_ports(ports)


@test
def unfinished_restore_is_not_started():
    """`lockstep restore` killed at any moment: the directory is complete, or refused with advice; never an empty cluster."""
    with Cluster(1) as cluster:
        node, backup = cluster.nodes[0], os.path.join(cluster.dir, "backup")
        node.call("SET", "k", "v" * 1000)
        run("backup", backup, "--addr", "%s:%d" % (HOST, node.port))
        nodes = "1=%s:%d:%d" % (HOST, node.port, node.peer_port)
        node.stop()
        refused = 0
        for step in range(40):
            target = os.path.join(cluster.dir, "new-%d" % step)
            process = subprocess.Popen([LOCKSTEP, "restore", backup, "--to", target, "--id", "1", "--nodes", nodes],
                                       stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 0.0005 * step
            while time.monotonic() < deadline and process.poll() is None:
                pass
            process.kill()
            process.wait()
            if not os.path.isdir(target) or os.listdir(target) in ([], ["lock"]):
                continue
            restored = BareNode(cluster, 1, node.port, node.peer_port)
            restored.dir = target
            restored.start()
            if os.path.exists(os.path.join(target, "unfinished")):
                expect_refuses_start(restored, "did not finish", "run it again")
                expect("did not finish" in run("verify", target, code=1)[0], "verify does not tell")
                refused += 1
            else:
                restored.wait_up()
                expect_equal(restored.call("GET", "k"), b"v" * 1000, "the restored value")
                restored.stop()
        # However the kills fell: a directory with the mark is refused.
        run("restore", backup, "--to", target + "x", "--id", 1, "--nodes", nodes)
        with open(os.path.join(target + "x", "unfinished"), "w", encoding="ascii"):
            pass
        restored = BareNode(cluster, 1, node.port, node.peer_port)
        restored.dir = target + "x"
        restored.start()
        expect_refuses_start(restored, "did not finish")
        return "%d directories refused" % refused


@test
def recover_for_programs_and_out_of_harm():
    """`recover --json` prints an object and nothing else; the new directory can't be made inside the old one; what is
    printed for the other nodes can be run."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        node.call("SET", "k", "v")
        node.stop()
        ports = free_ports(2)
        try:
            nodes = "1=%s:%d:%d,2=%s:%d:%d" % (HOST, node.port, node.peer_port, HOST, *ports)
            words = ("recover", node.dir, "--id", 1, "--nodes", nodes, "--accept-data-loss")
            text = run(*words, "--to", os.path.join(node.dir, "new"), code=1)[1]
            expect("lies inside" in text and not os.path.exists(os.path.join(node.dir, "new")), "made inside: %s", text)
            made = json.loads(run(*words, "--to", os.path.join(cluster.dir, "a"), "--json")[0])
            expect_equal(made["id"], 1, "the node made")
            text = run(*words, "--to", os.path.join(cluster.dir, "b"))[0]
            flags = "--bind %s --port %d --peer-port %d" % (HOST, node.port, node.peer_port)
            expect(flags in text, "how to start it: %s", text)
            again = next(line.split() for line in text.splitlines() if line.startswith("  lockstep recover"))
            run(*[os.path.join(cluster.dir, "c") if word == "DATADIR" else word for word in again[1:]])
        finally:
            release_ports(ports)


@test
def removed_node_leads_to_the_cluster():
    """Asked through a node that was removed, which still lists whom it knew, backup and check find those that are left."""
    with Cluster(3) as cluster:
        leader = cluster.wait_leader()
        leader.call("SET", "k", "v")
        first, second = cluster.followers()
        members(cluster, "remove", first.id)
        members(cluster, "remove", second.id)
        wait_for(lambda: second.status()["role"] == "removed", what="%r to learn that it was removed" % second)
        wait_for(lambda: first.status()["role"] == "removed", what="%r to learn that it was removed" % first)
        backup = os.path.join(cluster.dir, "backup")
        asked = "%s:%d" % (HOST, first.port)
        made = json.loads(run("backup", backup, "--addr", asked, "--json")[0])
        expect_equal(made["port"], leader.port, "who did the backup")
        checked = json.loads(run("check", "--addr", asked, "--json")[0])
        expect_equal([node["id"] for node in checked["nodes"]], [leader.id], "the replicas compared")


@test
def forgotten_bind_is_told():
    """Members at an address of the machine, and a node that listens on the loopback device only: its log says so."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        node.stop()
        shutil.rmtree(node.dir)
        cluster.members = lambda: ["1 10.99.99.99:%d:%d" % (node.port, node.peer_port)]
        node.start()
        wait_for(lambda: "start it with --bind" in node.log_text(), what="the warning", check=node.check_alive)


@test
def join_waits_aloud():
    """A node whose --join nobody answers says so at once, and is let in when a member comes up."""
    with Cluster(1) as cluster:
        ports = free_ports(2)
        try:
            member, node = cluster.nodes[0], BareNode(cluster, 2, *ports)
            member.stop()
            node.join = member
            node.start()
            wait_for(lambda: "trying again for" in node.log_text(), what="it to say that nobody answers")
            cluster.start()
            wait_for(lambda: "not a member yet" in node.log_text() or not node.alive(), what="it to join or to give up")
            expect(node.alive() or "gave up after" in node.log_text(), "it ended: %s", node.log_text())
            node.kill()
        finally:
            release_ports(ports)
