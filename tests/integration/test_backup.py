"""Backups, archives, restoring, and the tools that look at files of stopped nodes."""

import json
import os
import random
import re
import shutil
import subprocess

from cluster import HOST, Cluster, Node, Process, lockstepd_path, wait_for
from harness import Load, expect, expect_equal, expect_refuses_start, test, undisturbed, undisturbed_with

LOCKSTEP = os.environ.get("LOCKSTEP") or os.path.join(os.path.dirname(lockstepd_path()), "lockstep")


def run(*args, code=0, timeout=300):
    """Run `lockstep` and expect its exit status; returns what it printed (stdout, then stderr)."""
    done = subprocess.run([LOCKSTEP] + [str(arg) for arg in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout)
    expect(done.returncode == code, "lockstep %s: status %d, not %d:\n%s%s", " ".join(str(arg) for arg in args),
           done.returncode, code, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout + done.stderr


def run_json(*args, code=0):
    return json.loads(run(*args, "--json", code=code))


def addr(cluster):
    return ",".join("%s:%d" % (HOST, node.port) for node in cluster.live())


class RestoredNode(Node):
    """Knows its peers from the data directory alone."""

    def argv(self, flags=()):
        return [self.cluster.binary, "--id", self.id, "--dir", self.dir, "--bind", HOST, "--port", self.port,
                "--peer-port", self.peer_port] + list(flags)


class RestoredCluster(Cluster):
    """Nodes whose directories `lockstep restore` (or recover) makes out of `source`."""

    def __init__(self, size, source, *options, command="restore"):
        super().__init__(size)
        self.nodes = [RestoredNode(self, node.id, node.port, node.peer_port) for node in self.nodes]
        self.made = []
        nodes = ",".join("%d=%s:%d:%d" % (node.id, HOST, node.port, node.peer_port) for node in self.nodes)
        for node in self.nodes:
            uuid = ["--uuid", self.made[0]["uuid"]] if self.made else []
            text = run(command, source, "--to", node.dir, "--id", node.id, "--nodes", nodes, *uuid, *options, "--json")
            self.made.append(json.loads(text[text.index("{"):text.rindex("}") + 1]))


def restore_revision(source, directory, *options, code=0):
    """Restore to a directory that nobody starts; returns what is printed."""
    return run("restore", source, "--to", directory, "--id", 1, "--nodes", "1=127.0.0.1:21399", *options, code=code)


def keys_of(directory):
    """Keys and values of the snapshot in a restored directory."""
    name = next(name for name in os.listdir(directory) if name.startswith("snapshot-"))
    lines = [json.loads(line) for line in run("dump", os.path.join(directory, name), "--keys", "--json").splitlines()]
    return {line["key"]: line["value"] for line in lines if "key" in line}


def flip(path, offset, bit=0):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def used_bytes(path):
    """Up to the last byte that is not zero."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


def backup_by_a_follower(cluster):
    """Returns (path, what the command said)."""
    leader, _ = cluster.reign()
    path = os.path.join(cluster.dir, "backup-%d" % len(os.listdir(cluster.dir)))
    made = run_json("backup", path, "--addr", addr(cluster))
    expect(made["port"] != leader.port, "the leader did the backup: %r", made)
    return path, made


def checked_equal(cluster):
    """`lockstep check` finds no difference. False if a replica could not be asked at that entry, because it was past it."""
    done = subprocess.run([LOCKSTEP, "check", "--addr", addr(cluster), "--json"], stdout=subprocess.PIPE, timeout=120,
                          check=False)
    result = json.loads(done.stdout or "null")
    expect(result is None or result["equal"], "check under load: %r", result)
    expect(done.returncode != 0 or result["complete"], "status 0 of a check that left out a replica: %r", result)
    return done.returncode == 0


@test
def backup_under_load_is_restored():
    """A backup taken under load holds all that was acknowledged before; restored to three nodes, digests are equal."""
    with Cluster(3) as cluster:
        with Load(cluster) as load:
            load.wait_acks(300)
            acked = {writer.number: list(writer.acked) for writer in load.writers}
            path, made = undisturbed(cluster, lambda: backup_by_a_follower(cluster))
            wait_for(lambda: checked_equal(cluster), what="a check of all replicas at one entry")
            load.verify(cluster.wait_leader())
        expect("exists" in run("backup", path, "--addr", addr(cluster), code=1), "an existing file is refused with a reason")
        run("verify", path)
        with RestoredCluster(3, path) as restored:
            result = run_json("check", "--addr", addr(restored))
            expect_equal({node["digest"] for node in result["nodes"]}, {made["digest"]}, "digests of the restored nodes")
            expect_equal(restored.made[0]["revision"], made["revision"], "restored revision")
            for number, tokens in acked.items():
                value = restored.nodes[0].call("GET", "load:%d:0" % number) or b""
                found = {int(token) for token in value.split(b";")[:-1]}
                lost = [token for token in tokens if token < 1000 and token not in found]
                expect(not lost, "acknowledged before the backup, but not in it: %r", lost[:10])
            expect_equal(restored.wait_leader().call("SET", "new", "life"), "OK", "a write to the restored cluster")
            restored.kill_all()
            restored.start()
            expect_equal(restored.wait_leader().call("GET", "new"), b"life", "the write after a restart")
        return "%d bytes, revision %d" % (made["bytes"], made["revision"])


@test
def interrupted_backup_is_continued():
    """What was received of a backup is not fetched again, and the file is the same byte for byte."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        with node.client() as client:
            rng = random.Random(7)
            client.write_all([("SET", "key:%d" % i, rng.randbytes(4000)) for i in range(1000)])
        whole, other = os.path.join(cluster.dir, "whole"), os.path.join(cluster.dir, "other")
        run("backup", whole, "--addr", addr(cluster))
        with open(whole, "rb") as file:
            data = file.read()
        with open(other + ".part", "wb") as file:
            file.write(data[:len(data) * 6 // 10])
        made = run_json("backup", other, "--addr", addr(cluster))
        expect(made["resumed"], "it began anew: %r", made)
        with open(other, "rb") as file:
            expect(file.read() == data, "the continued file differs")
        expect(not os.path.exists(other + ".part"), "the partial file is still there")


def write_history(client, n):
    """n writes, one revision each, many to a log entry: s and k:i tell the revision. Returns the revision before."""
    before = json.loads(client.call("LOCKSTEP", "STATUS"))["revision"]
    for i in range(0, n, 40):
        for reply in client.pipeline([("SET", "k:%d" % (i + j), i + j) for j in range(min(40, n - i))]):
            expect_equal(reply, "OK", "SET")
    return before


@test
def restore_gives_exactly_that_revision():
    """From an archive: any revision, also inside a log entry; a time; refused inside one command, with the nearest ones."""
    undisturbed_with(lambda: Cluster(3), restore_exactly)


def restore_exactly(cluster):
    archive = os.path.join(cluster.dir, "archive")
    leader = cluster.wait_leader()
    with leader.client() as client:
        client.once("SET", "first", "1")
        run("archive", archive, "--addr", addr(cluster), "--once")
        before = write_history(client, 400)
        run("archive", archive, "--addr", addr(cluster), "--once")
        client.once("MSET", "m1", "1", "m2", "1", "m3", "1")
        client.once("SET", "last", "1")
    run("archive", archive, "--addr", addr(cluster), "--once")
    run("verify", archive)
    for n in (0, 1, 17, 40, 41, 399, 400):
        target = os.path.join(cluster.dir, "at-%d" % n)
        restore_revision(archive, target, "--to-revision", before + n)
        expected = {"first": "1", **{"k:%d" % i: str(i) for i in range(n)}}
        expect_equal(keys_of(target), expected, "the content at revision %d + %d" % (before, n))
    text = restore_revision(archive, os.path.join(cluster.dir, "no"), "--to-revision", before + 401, code=1)
    for word in ("inside one command", str(before + 400), str(before + 403)):
        expect(word in text, "the refusal does not mention %r: %s", word, text)
    expect(not os.path.exists(os.path.join(cluster.dir, "no")), "a refused restore left a directory")
    restore_time(cluster, archive)
    leader = cluster.wait_leader()
    restore_revision(archive, os.path.join(cluster.dir, "all"))
    expect_equal(len(keys_of(os.path.join(cluster.dir, "all"))), leader.call("DBSIZE"), "keys at the end of the archive")


def restore_time(cluster, archive):
    """Every entry up to that time, and none after it."""
    entries = [json.loads(line) for line in run("dump", archive, "--json").splitlines()]
    entries = [entry for entry in entries if entry.get("type") == "command"]
    chosen = next(entry for entry in entries if entry["commands"][-1][:2] == ["mset", "m1"])
    target = os.path.join(cluster.dir, "timed")
    restore_revision(archive, target, "--to-time", chosen["time_ms"])
    keys = keys_of(target)
    expect("m3" in keys, "the entry of that time is missing")
    later = [entry for entry in entries if entry["time_ms"] > chosen["time_ms"]]
    expect(("last" in keys) == (not later), "what came later is there, or what did not is missing")


@test
def archive_survives_crashes():
    """The archiver and the leader are killed under load; the archive still leads to the content of the cluster."""
    with Cluster(3) as cluster:
        archive = os.path.join(cluster.dir, "archive")
        argv = [LOCKSTEP, "archive", archive, "--addr", addr(cluster), "--sync-ms", "20"]
        log = os.path.join(cluster.dir, "archive.log")

        def archived():
            return sum(os.path.getsize(os.path.join(archive, name)) for name in os.listdir(archive)
                       if name.startswith("entries-")) if os.path.isdir(archive) else 0

        with Load(cluster) as load:
            load.wait_acks(100)
            for _ in range(3):
                process = Process(argv, log)
                size = archived()
                wait_for(lambda goal=size + 20000: archived() > goal, what="the archive to grow")
                process.kill()
            process = Process(argv, log)
            leader = cluster.wait_leader()
            leader.kill()
            cluster.wait_leader(other_than=leader)
            load.wait_acks(200)
            leader.start()
            leader.wait_up()
            load.verify(cluster.wait_leader())
        expect_equal(process.stop(), 0, "the archiver's exit status after SIGTERM")
        run("archive", archive, "--addr", addr(cluster), "--once")
        run("verify", archive)
        made = json.loads(restore_revision(archive, os.path.join(cluster.dir, "end"), "--json"))
        status = cluster.wait_leader().status()
        expect_equal(made["digest"], status["digest"], "digest of the restored content")
        expect_equal(made["revision"], status["revision"], "restored revision")


@test
def flipped_bits_are_found():
    """One bit in a backup, a snapshot, an archive, the log or the state: `verify` says so and does not end with 0."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        backup, archive = os.path.join(cluster.dir, "backup"), os.path.join(cluster.dir, "archive")
        with node.client() as client:
            client.write_all([("SET", "key:%d" % i, "value %d" % i) for i in range(3000)])
            run("backup", backup, "--addr", addr(cluster))
            run("archive", archive, "--addr", addr(cluster), "--once")
            client.write_all([("SET", "key:%d" % i, "other %d" % i) for i in range(3000)])
        run("archive", archive, "--addr", addr(cluster), "--once")
        text = run("verify", node.dir, code=4)
        expect("in use" in text and "pid" in text, "a directory in use is not told of: %s", text)
        node.stop()
        run("verify", node.dir, backup, archive)
        rng = random.Random(11)
        snapshot = next(name for name in os.listdir(node.dir) if name.startswith("snapshot-"))
        entries = sorted(name for name in os.listdir(archive) if name.startswith("entries-"))[-1]
        log = os.path.join(node.dir, sorted(name for name in os.listdir(node.dir) if name.startswith("wal-"))[0])
        cases = [(backup, backup, os.path.getsize(backup)),
                 (node.dir, os.path.join(node.dir, snapshot), os.path.getsize(os.path.join(node.dir, snapshot))),
                 (archive, os.path.join(archive, entries), os.path.getsize(os.path.join(archive, entries))),
                 (node.dir, log, used_bytes(log) * 9 // 10),
                 (node.dir, os.path.join(node.dir, "state"), 512)]
        flips = 0
        for path, file, size in cases:
            for _ in range(6):
                offset, bit = rng.randrange(size), rng.randrange(8)
                flip(file, offset, bit)
                done = subprocess.run([LOCKSTEP, "verify", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, timeout=60)
                expect(done.returncode in (1, 3), "bit %d of byte %d of %s was not found: %s", bit, offset, file,
                       done.stdout)
                flip(file, offset, bit)
                flips += 1
        run("verify", node.dir, backup, archive)
        text = run("dump", node.dir, "--from", 2, "--to", 4)
        expect("command" in text or "barrier" in text, "dump prints entries: %s", text[:500])
        return "%d flips" % flips


@test
def lost_majority_is_recovered():
    """Two of three are lost for good: the survivor's content starts a new cluster, in which the old members have no say."""
    with Cluster(3) as cluster:
        with Load(cluster) as load:
            load.wait_acks(200)
            load.stop()
        cluster.wait_converged()
        status = cluster.wait_leader().status()
        survivor = cluster.followers()[0]
        cluster.kill_all()
        text = run("recover", survivor.dir, "--to", os.path.join(cluster.dir, "no"), "--id", 1, "--nodes",
                   "1=127.0.0.1:21399", code=1)
        for word in ("accept-data-loss", "index ", "is lost"):
            expect(word in text, "the warning does not mention %r: %s", word, text)
        last = int(re.search(r"index (\d+)", text).group(1))
        expect(last >= status["last"], "the last entry is %d, said to be %d", status["last"], last)
        with RestoredCluster(1, survivor.dir, "--accept-data-loss", command="recover") as recovered:
            expect_equal(recovered.made[0]["digest"], status["digest"], "digest of what was recovered")
            load.verify(recovered.wait_leader())
            recovered.nodes[0].call("SET", "after", "1")
        expect("not the data directory" in run("recover", __file__, "--to", os.path.join(cluster.dir, "no"), "--id", 1,
                                               "--nodes", "1=127.0.0.1:21399", code=1), "a wrong source is explained")


@test
def restored_directories_are_of_one_cluster():
    """A node restored without the uuid of the others is refused by them; a directory is never overwritten."""
    with Cluster(1) as cluster:
        path = os.path.join(cluster.dir, "backup")
        cluster.nodes[0].call("SET", "k", "v")
        run("backup", path, "--addr", addr(cluster))
        target = os.path.join(cluster.dir, "new")
        restore_revision(path, target)
        expect("not empty" in restore_revision(path, target, code=1), "a directory that is not empty is refused")
        wrong = RestoredCluster(1, path)
        try:
            node = wrong.nodes[0]
            shutil.copy(os.path.join(target, "joined"), os.path.join(node.dir, "joined"))
            node.start()
            expect_refuses_start(node, "another cluster")
        finally:
            wrong.close()
