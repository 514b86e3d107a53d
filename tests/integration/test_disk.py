"""Damaged, full, foreign and unusable data directories; ports in use."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess

from cluster import HOST, Client, Cluster, Process, RespError, wait_for
from harness import Skip, expect, expect_equal, expect_refuses_start, test


def data_files(node):
    """Every regular file below the node's data directory."""
    return [os.path.join(base, name) for base, _, names in os.walk(node.dir) for name in sorted(names)]


def find_bytes(node, needle):
    """(path, offset) of the first place where the node's files hold these bytes."""
    for path in data_files(node):
        with open(path, "rb") as file:
            offset = file.read().find(needle)
        if offset >= 0:
            return path, offset
    raise AssertionError("no file of %r holds %r" % (node, needle))


def flip_byte(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def start_in(node, directory):
    """Starts the node on another directory than its own, which need not exist."""
    node.dir = directory
    node.process = Process(node.argv(), node.log_path)


def write_values(node, count, prefix="value"):
    with node.client() as client:
        for i in range(count):
            client.call("SET", "k%d" % i, "%s-%06d-%s" % (prefix, i, "x" * 200))


def check_values(node, count, prefix="value"):
    with node.client() as client:
        for i in range(count):
            expect_equal(client.call("GET", "k%d" % i), b"%s-%06d-%s" % (prefix.encode(), i, b"x" * 200),
                         "k%d at %r" % (i, node))


@test
def corrupt_wal_middle_refuses_start():
    """One flipped bit in the middle of a log: that node refuses to start and says what to do; the others go on."""
    with Cluster(3) as cluster:
        write_values(cluster.nodes[0], 500)
        cluster.wait_converged()
        victim = cluster.followers()[0]
        victim.kill()
        path, offset = find_bytes(victim, b"value-000100-")
        flip_byte(path, offset)
        victim.start()
        log = expect_refuses_start(victim, os.path.basename(path), "do not delete", "fresh id")
        survivors = [node for node in cluster.nodes if node is not victim]
        write_values(survivors[0], 50, "later")
        check_values(survivors[1], 50, "later")
        flip_byte(path, offset)  # repaired, it is welcome again
        victim.start()
        victim.wait_up()
        cluster.wait_converged()
        check_values(victim, 50, "later")
        return [line for line in log.split("\n") if os.path.basename(path) in line][-1][:200]


def end_of_log(node, needle):
    """(path, offset) behind the last record, which is the newest that holds the needle; None if others follow."""
    path, _ = find_bytes(node, needle)
    with open(path, "rb") as file:
        data = file.read().rstrip(b"\0")
    return (path, len(data)) if data.endswith(b"x" * 100) and len(data) - data.rindex(needle) < 300 else None


@test
def torn_tail_recovers():
    """A write that was cut off behind the last record (kill -9, power loss): all nodes recover, nothing is lost."""
    with Cluster(3) as cluster:
        ends = {}
        while not ends:
            write_values(cluster.nodes[0], 300)
            cluster.wait_converged()
            cluster.kill_all()
            ends = {node: end_of_log(node, b"value-000299-") for node in cluster.nodes}
            if None in ends.values():  # an entry of a new leader is the last, which may end with zeros
                ends = {}
                cluster.start()
        for path, end in ends.values():
            with open(path, "r+b") as file:
                file.seek((end + 7) // 8 * 8)
                file.write(os.urandom(3000))
        cluster.start()
        for node in cluster.nodes:
            check_values(node, 300)
        write_values(cluster.nodes[1], 10, "after")
        cluster.wait_converged()
        cluster.kill_all()
        cluster.start()
        check_values(cluster.nodes[2], 10, "after")


@test
def corrupt_state_refuses_start():
    """A damaged file with term and vote: the node refuses to start (it might vote twice) and says what to do."""
    with Cluster(3) as cluster:
        victim = cluster.followers()[0]
        victim.kill()
        path = os.path.join(victim.dir, "state")
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            for offset in range(0, size, 16):
                file.seek(offset)
                file.write(b"\xa5")
        victim.start()
        expect_refuses_start(victim, "state", "do not delete", "fresh id")


@contextlib.contextmanager
def small_disks(nodes, mib):
    """A tmpfs of that size in the place of each node's directory. Gives a function that changes the size of one."""
    mounted = []

    def resize(node, new_mib):
        subprocess.run(["mount", "-o", "remount,size=%dm" % new_mib, node.dir], check=True, capture_output=True)

    try:
        for node in nodes:
            os.makedirs(node.dir, exist_ok=True)
            run = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm" % mib, "lockstep-test", node.dir],
                                 capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise Skip("needs the right to mount a small tmpfs: %s" % run.stderr.strip())
            mounted.append(node.dir)
        yield resize
    finally:
        for node in nodes:
            if node.alive():
                node.kill()
        for directory in mounted:
            subprocess.run(["umount", directory], check=False)


DISK_FLAGS = ["--wal-segment-size", "2mb", "--max-entry-size", "1mb", "--disk-reserve", "12mb"]


def fill(client, limit):
    """Writes 100 KB values until refused; returns (how many were acknowledged, the error)."""
    for i in range(limit):
        try:
            client.call("SET", "fill:%d" % i, b"%06d" % i + b"f" * 100000)
        except RespError as error:
            return i, error
    raise AssertionError("%d writes of 100 KB were acknowledged on a smaller disk" % limit)


@test
def full_disk_refuses_writes_serves_reads():
    """All disks full: writes get -NOSPACE, reads go on everywhere, and writes resume when there is space again."""
    cluster = Cluster(3, flags=DISK_FLAGS)
    with small_disks(cluster.nodes, 64) as resize, cluster:
        with cluster.nodes[0].client() as client:
            count, error = fill(client, 1000)
            expect_equal(error.code, "NOSPACE", "the error of a write on a full disk")
            expect(count > 100, "only %d writes of 100 KB fitted on 64 MiB", count)
            for _ in range(50):
                try:
                    client.call("SET", "small", "x")
                except RespError as again:
                    expect_equal(again.code, "NOSPACE", "the error of a small write on a full disk")
            expect_equal(client.call("GET", "fill:%d" % count), None, "what was refused with -NOSPACE")
        for node in cluster.nodes:
            expect(node.alive(), "%r did not survive a full disk:\n%s", node, node.log_text()[-2000:])
            expect_equal(node.call("GET", "fill:%d" % (count - 1))[:6], b"%06d" % (count - 1), "a read on a full disk")
        for node in cluster.nodes:
            resize(node, 256)
        wait_for(lambda: cluster.nodes[1].call("SET", "after", "x") == "OK", what="writes to resume")
        cluster.stop()
        cluster.start()
        expect_equal(cluster.nodes[2].call("GET", "fill:0")[:6], b"000000", "a value after the restart")
        expect_equal(cluster.nodes[2].call("GET", "after"), b"x", "a value after the restart")
    return "refused after %d writes of 100 KB on 64 MiB" % count


def write_elsewhere(cluster, victim, number):
    """100 KB by the leader; False if that is the victim, whose disk is full: it hands over."""
    try:
        return cluster.nodes[victim.id % 3].call("SET", "fill:%d" % number, b"%06d" % number + b"f" * 100000) == "OK"
    except RespError as error:
        expect(error.code == "NOSPACE" and cluster.leader() is victim, "a write with one full disk of three: -%s", error)
        victim.once("LOCKSTEP", "TRANSFER")
        return False


@test
def full_disk_of_one_follower():
    """One follower's disk full: the others go on acknowledging; with space again the follower catches up."""
    cluster = Cluster(3, flags=DISK_FLAGS)
    with contextlib.ExitStack() as stack:
        resizes = [stack.enter_context(small_disks([node], 256)) for node in cluster.nodes]
        stack.enter_context(cluster)
        victim = cluster.followers()[0]
        resize = resizes[victim.id - 1]
        ballast = os.path.join(victim.dir, "ballast")
        with open(ballast, "wb") as file:
            free = shutil.disk_usage(victim.dir).free
            file.write(b"\0" * (free - (4 << 20)))
        for i in range(300):
            wait_for(lambda key=i: write_elsewhere(cluster, victim, key), what="a write")
        os.unlink(ballast)
        resize(victim, 300)
        stopped = not victim.alive()
        if stopped:
            expect("space" in victim.log_text().lower(), "the follower stopped without naming the full disk:\n%s",
                   victim.log_text()[-2000:])
            victim.start()
        cluster.wait_converged()
        expect_equal(victim.call("GET", "fill:299")[:6], b"000299", "a value at the follower")
    return "the follower %s" % ("stopped with a message, and was started again" if stopped else "stayed")


@test
def port_in_use():
    """The client or the peer port is taken: the server refuses to start and names the port."""
    with Cluster(3) as cluster:
        node = cluster.nodes[0]
        node.kill()
        for port in (node.port, node.peer_port):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind((HOST, port))
                taken.listen()
                node.start()
                expect_refuses_start(node, str(port), "in use")
        node.start()
        node.wait_up()


@test
def unusable_directory():
    """A file in the place of the directory, and a directory that cannot be written: refused, naming it."""
    cluster = Cluster(1)
    try:
        node = cluster.nodes[0]
        path = os.path.join(cluster.dir, "a-file")
        with open(path, "w", encoding="ascii") as file:
            file.write("not a directory\n")
        for directory in (path, os.path.join(path, "below")):
            start_in(node, directory)
            expect_refuses_start(node, "a-file")
        unwritable = os.path.join(cluster.dir, "unwritable")
        os.makedirs(unwritable)
        if os.getuid() == 0:
            run = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "lockstep-test", unwritable],
                                 capture_output=True, check=False)
            if run.returncode != 0:
                return "as root and without the right to mount: the unwritable directory was not tried"
        else:
            os.chmod(unwritable, 0o500)
        try:
            start_in(node, unwritable)
            expect_refuses_start(node, "unwritable")
        finally:
            if os.getuid() == 0:
                subprocess.run(["umount", unwritable], check=False)
    finally:
        cluster.close()


@test
def wrong_id():
    """The data directory of node 1 started as node 2: refused."""
    with Cluster(3) as cluster:
        one, two = cluster.nodes[:2]
        one.kill()
        two.kill()
        os.rename(two.dir, two.dir + ".own")
        shutil.copytree(one.dir, two.dir)
        two.start()
        expect_refuses_start(two, two.dir, "id")
        shutil.rmtree(two.dir)
        os.rename(two.dir + ".own", two.dir)
        cluster.start()


@test
def foreign_directory():
    """A data directory of another cluster: refused, and unharmed."""
    with Cluster(1, flags=["--cluster-name", "one"]) as cluster:
        node = cluster.nodes[0]
        node.call("SET", "k", "v")
        node.stop()
        cluster.flags = ["--cluster-name", "two"]
        node.start()
        expect_refuses_start(node, node.dir, "cluster")
        cluster.flags = ["--cluster-name", "one"]
        cluster.start()
        expect_equal(node.call("GET", "k"), b"v", "the value after the refused start")


@test
def strangers_are_not_let_in():
    """A node of a cluster with another name at a member's address: it is not counted, and its data changes nothing."""
    with Cluster(3) as cluster:
        cluster.nodes[0].call("SET", "k", "v")
        stranger = cluster.followers()[0]
        stranger.kill()
        shutil.rmtree(stranger.dir)
        os.makedirs(stranger.dir)
        stranger.start(flags=["--cluster-name", "other"])
        with cluster.leader().client() as client:
            for i in range(100):
                client.call("SET", "k", i)
        with contextlib.suppress(OSError, EOFError, RespError):
            with Client(stranger.port, timeout=3.0) as client:
                reply = client.once("GET", "k")
                raise AssertionError("a stranger among the cluster's addresses answered GET with %r" % reply)
        others = [node for node in cluster.nodes if node is not stranger]
        others[0].kill()
        with others[1].client() as client:
            client.send("SET", "k", "with a stranger's help")
            reply = client.read()
        expect(isinstance(reply, RespError), "a node and a stranger together acknowledged a write: %r", reply)


@test
def directory_in_use():
    """A second server on a directory in use: refused, and the first one goes on."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        second = Cluster(1)
        try:
            intruder = second.nodes[0]
            start_in(intruder, node.dir)
            expect_refuses_start(intruder, node.dir, "in use")
        finally:
            second.close()
        expect_equal(node.call("SET", "k", "v"), "OK", "SET at the first server")


@test
def sigterm_during_start():
    """SIGTERM right after the start ends the process, whatever it has reached, and leaves a directory that is good."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        node.call("SET", "k", "v")
        for _ in range(5):
            node.kill()
            node.start()
            node.process.signal(signal.SIGTERM)
            node.process.wait()
        cluster.start()
        expect_equal(node.call("GET", "k"), b"v", "the value after the interrupted starts")
