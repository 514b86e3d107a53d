"""A node whose content goes wrong is found out, nobody reads from it any more, and it makes its content anew."""

import os
import subprocess

from cluster import Cluster, lockstepd_path, wait_for
from harness import Load, Skip, expect, expect_equal, expect_same_content, test

BUILD = os.path.dirname(lockstepd_path())
LOCKSTEP = os.environ.get("LOCKSTEP") or os.path.join(BUILD, "lockstep")
PLANTED = os.path.join(BUILD, "lockstepd_planted")


def start_planted(cluster, node, plant):
    """Restarts the node with a planted bug."""
    if not os.path.exists(PLANTED):
        raise Skip("no %s: build the target lockstepd_planted" % PLANTED)
    good, cluster.binary = cluster.binary, PLANTED
    try:
        node.stop()
        node.start(env=dict(os.environ, LOCKSTEP_PLANT_NAME=plant))
    finally:
        cluster.binary = good
    node.wait_up()


@test
def wrong_content_is_made_anew():
    """A follower applies some entries twice until its content is made anew: it is quarantined, takes the leader's content by
    itself, keeps its log and its last snapshots, and reads from memory again. Nothing acknowledged is lost."""
    with Cluster(3) as cluster:
        bad = cluster.followers()[0]
        bad.call("SET", "k", "v")
        bad.call("LOCKSTEP", "SNAPSHOT", "TAKE")
        start_planted(cluster, bad, "apply-twice-at-first")
        with Load(cluster) as load:
            wait_for(lambda: bad.status()["rebuilds"] == 1, 60, "%r to be rebuilt" % bad, check=load.check)
            expect_equal(bad.info()["rebuilds"], "1", "INFO's rebuilds")
            lines = [line for line in bad.log_text().split("\n") if "QUARANTINE" in line or "REBUILT" in line]
            expect_equal(len(lines), 2, "lines of its log: %r" % lines)
            kept = os.path.join(bad.dir, "quarantined-snapshot")
            wait_for(lambda: os.path.exists(kept), 15, "its own snapshot to be kept")
            applied = bad.status()["applied"]
            wait_for(lambda: bad.status()["applied"] > applied + 200, 30, "it to be compared again", check=load.check)
            before = int(bad.info()["reads_local"])
            wait_for(lambda: int(bad.info()["reads_local"]) > before, 30, "it to read from memory again", check=load.check)
            load.wait_acks(200)
        cluster.wait_converged()
        expect(not bad.status()["quarantined"], "it is in quarantine again")
        expect_equal(len({node.status()["digest"] for node in cluster.nodes}), 1, "different digests")
        done = subprocess.run([LOCKSTEP, "verify", kept], check=False, stdout=subprocess.PIPE, timeout=30)
        expect(b"ok" in done.stdout, "lockstep verify says of what was kept: %s", done.stdout)
        bad.kill()
        bad.start()
        bad.wait_up()
        cluster.wait_converged()
        expect_equal(len({node.status()["digest"] for node in cluster.nodes}), 1, "different digests after a restart")
        return load.verify(bad)


@test
def wrong_content_is_quarantined():
    """A follower with a planted bug goes on applying some entries twice: it is quarantined, made anew once, and stays in
    quarantine when it goes wrong again. It shows that, and reads nothing itself."""
    with Cluster(3) as cluster:
        bad = cluster.followers()[0]
        start_planted(cluster, bad, "apply-twice")
        with Load(cluster) as load:
            wait_for(lambda: bad.status()["rebuild"] == "given-up", 60, "%r to be found out twice" % bad, check=load.check)
            expect_equal(bad.status()["rebuilds"], 1, "how often it was rebuilt")
            expect(bad.status()["quarantined"], "LOCKSTEP STATUS says so")
            wait_for(lambda: cluster.leader() is not bad, what="another node to lead")
            wait_for(lambda: next(m for m in cluster.leader().status()["members"] if m["id"] == bad.id).get("differs"),
                     what="the leader to know")
            expect("it stays in quarantine" in bad.log_text(), "its log says so")
            expect(int(bad.info()["quarantined"]) > 0, "INFO says so")
            argv = [LOCKSTEP, "status", "--addr", "127.0.0.1:%d" % cluster.leader().port, "--timeout-ms", "30000"]
            shown = subprocess.run(argv, check=False, stdout=subprocess.PIPE, timeout=120).stdout.decode()
            expect("quarantine" in shown, "lockstep status shows: %s", shown)
            before = bad.info()
            with bad.client() as client:
                for mode in ("linearizable", "session", "stale"):
                    client.call("READMODE", mode)
                    expect_equal(client.call("SET", "probe", mode), "OK", "SET by way of the quarantined node")
                    expect_equal(client.call("GET", "probe"), mode.encode(), "a read of mode " + mode)
            after = bad.info()
            for way in ("reads_local", "reads_waited", "reads_session", "reads_stale"):
                expect_equal(after[way], before[way], "answered from its own memory, " + way)
            load.wait_acks(200)
            bad.stop()
            bad.start()
            bad.wait_up()
            load.wait_acks(200)
        expect_same_content(cluster)
        expect(not bad.status()["quarantined"], "a restart makes its content anew")
        return load.verify(cluster.leader())
