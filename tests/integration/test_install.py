"""Snapshots from node to node: a node that was away for longer than the log reaches back, or that joins."""

import os
import socket
import threading
from types import SimpleNamespace

from cluster import HOST, Cluster, Node, free_ports, release_ports, wait_for
from harness import Load, expect, expect_equal, expect_same_content, test, undisturbed_with
from test_members import Joiner, add_node

MB = 1 << 20
FLAGS = ["--wal-segment-size", "1mb", "--log-keep", "256kb", "--snapshot-transfer-rate", "2mb"]
# Where a transfer lasts for seconds and no write may fail meanwhile: no busy machine takes a node away for so long.
CALM = FLAGS + ["--election-timeout-ms", "1500"]
VALUE_BYTES = 16384


class Proxy:
    """Forwards connections to a port, until they are cut."""

    def __init__(self, port, to_port):
        self.to_port = to_port
        self.lock = threading.Lock()
        self.pairs = []
        self.listener = socket.create_server((HOST, port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self.to_port), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.pairs.append((client, server))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(a, b), daemon=True).start()

    def _copy(self, source, to):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                to.sendall(data)
        except OSError:
            pass
        self._end((source, to))

    @staticmethod
    def _end(pair):
        for end in pair:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """End every connection; new ones are taken. Returns how many there were."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            self._end(pair)
        return len(pairs)

    def close(self):
        self.listener.close()
        self.cut()


class Proxied(Node):
    """A node whose peers reach it through a proxy."""

    def __init__(self, node, port):
        super().__init__(node.cluster, node.id, node.port, node.peer_port)
        self.listen_port = port

    def argv(self, flags=()):
        argv = super().argv(flags)
        argv[argv.index("--peer-port") + 1] = self.listen_port
        return argv


def fill(cluster, megabytes):
    """Random values, which don't compress."""
    with cluster.wait_leader().client() as client:
        for batch in range(megabytes * MB // VALUE_BYTES // 16):
            client.write_all([("SET", "fill:%d:%d" % (batch, i), os.urandom(VALUE_BYTES)) for i in range(16)])


def number(node, field):
    return int(node.info()[field])


def leave_behind(cluster, away, megabytes):
    """The node is stopped; the others write, take snapshots, and drop the log that it would need."""
    wait_for(lambda: cluster.leader() is not away or away.once("LOCKSTEP", "TRANSFER") is None, what="another node to lead")
    last = number(away, "last")
    away.stop()
    fill(cluster, megabytes)
    for node in cluster.live():
        node.call("LOCKSTEP", "SNAPSHOT", "TAKE")
        wait_for(lambda: number(node, "log_start") > last + 1, what="%r to drop its log" % node)


def wait_received(node, count):
    wait_for(lambda: number(node, "snapshot_received_bytes") >= count, 120, "%d bytes of a snapshot" % count,
             interval=0.005, check=node.check_alive)


def wait_installed(node):
    wait_for(lambda: number(node, "snapshot_installs") >= 1, 120, "%r to install a snapshot" % node, check=node.check_alive)


class CutOff:
    """A cluster of three, the third of which the others reach through a proxy."""

    def __enter__(self):
        self.ports = free_ports(1)
        cluster = self.cluster = Cluster(3, flags=CALM)
        cluster.away = cluster.nodes[2] = Proxied(cluster.nodes[2], self.ports[0])
        cluster.proxy = Proxy(cluster.away.peer_port, cluster.away.listen_port)
        return cluster.__enter__()

    def __exit__(self, *error):
        self.cluster.__exit__(*error)
        self.cluster.proxy.close()
        release_ports(self.ports)


@test
def install_resumes_after_cut_links():
    """A node returns after the log was dropped past it, and gets the snapshot under load. Its links are cut twice during the
    transfer: it goes on where it was. Until the switch it serves stale reads."""
    return undisturbed_with(CutOff, install_with_cuts)


def install_with_cuts(cluster):
    away = cluster.away
    cluster.leader().call("SET", "old", "value")
    cluster.wait_converged()
    away.call("LOCKSTEP", "SNAPSHOT", "TAKE")  # what it starts from; of its log it does not know what is committed
    with Load(SimpleNamespace(nodes=cluster.nodes[:2])) as load:
        leave_behind(cluster, away, 12)
        load.wait_acks(100)
        away.start()
        for megabytes in (2, 6):
            wait_received(away, megabytes * MB)
            with away.client() as client:
                client.call("READMODE", "STALE")
                expect_equal(client.call("GET", "old"), b"value", "a stale read during the transfer")
            wait_for(cluster.proxy.cut, what="links to cut")
        wait_installed(away)
        load.wait_acks(100)
        info = away.info()
        received, again = int(info["snapshot_received_bytes"]), int(info["snapshot_received_again_bytes"])
        expect(int(info["snapshot_resumed"]) >= 2, "resumed %s times", info["snapshot_resumed"])
        expect(received <= int(info["snapshot_bytes"]), "%d bytes taken of a file of %s", received, info["snapshot_bytes"])
        expect(again <= MB, "%d bytes came in vain", again)
    expect_same_content(cluster)
    note = load.verify(away)
    expect(not load.errors(load.writers), "writes failed: %s", load.errors(load.writers))
    return "%d bytes, %d in vain, resumed %s times, switched in %s us; %s" % (
        received, again, info["snapshot_resumed"], info["snapshot_install_last_us"], note)


@test
def install_resumes_after_kill():
    """The receiving node is killed in the middle of the transfer: what had arrived is not sent again. Then the sender is
    killed: another node's snapshot does as well."""
    return undisturbed_with(lambda: Cluster(3, flags=FLAGS), install_with_kills)


def install_with_kills(cluster):
    leader, _ = cluster.reign()
    away = next(node for node in cluster.nodes if node is not leader)
    leave_behind(cluster, away, 12)
    away.start()
    wait_received(away, 4 * MB)
    total = number(away, "snapshot_fetch_total")
    away.kill()
    away.start()
    wait_received(away, 1)
    expect(number(away, "snapshot_resumed") >= 1, "no transfer was resumed")
    wait_received(away, 2 * MB)
    expect(number(away, "snapshot_fetch_bytes") > 5 * MB, "it has %s bytes", away.info()["snapshot_fetch_bytes"])
    leader.kill()  # the sender, if it led until now
    wait_for(lambda: number(away, "snapshot_installs") >= 1, 120, "a snapshot of the other node", check=away.check_alive)
    cluster.wait_leader(other_than=leader).call("SET", "k", "v")
    leader.start()
    cluster.wait_serving()
    expect_same_content(cluster)
    return "a file of %d bytes" % total


@test
def joining_node_gets_a_snapshot():
    """A new node joins a cluster whose log has lost its beginning, and becomes a voter."""
    ports = free_ports(2)
    try:
        return undisturbed_with(lambda: Cluster(3, flags=CALM), lambda cluster: join_by_snapshot(cluster, ports))
    finally:
        release_ports(ports)


def join_by_snapshot(cluster, ports):
    fill(cluster, 3)
    for node in cluster.nodes:
        node.call("LOCKSTEP", "SNAPSHOT", "TAKE")
        wait_for(lambda n=node: number(n, "log_start") > 1, what="%r to drop its log" % node)
    with Load(SimpleNamespace(nodes=cluster.nodes[:])) as load:
        load.wait_acks(50)
        joiner = Joiner(cluster, 4, ports)
        add_node(cluster, joiner)
        load.wait_acks(50)
    expect(number(joiner, "snapshot_installs") >= 1, "it has installed a snapshot")
    expect_same_content(cluster)
    expect(not load.errors(load.writers), "writes failed: %s", load.errors(load.writers))
    joiner.kill()
    joiner.start()
    joiner.wait_up()
    expect_same_content(cluster)
    return load.verify(joiner)
