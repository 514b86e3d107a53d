"""A rolling upgrade: nodes of two versions, the feature level, and the way back that is refused."""

import os
import subprocess

from cluster import Cluster, lockstepd_path, wait_for
from harness import Load, Skip, expect, expect_refuses_start, test, undisturbed

BUILD = os.path.dirname(lockstepd_path())
LOCKSTEP = os.environ.get("LOCKSTEP") or os.path.join(BUILD, "lockstep")
NEXT = os.path.join(BUILD, "tests", "integration", "lockstepd_next_level")


def upgrade(cluster, *words, code=0):
    """Run `lockstep upgrade`; returns what it printed."""
    seeds = ",".join("127.0.0.1:%d" % node.port for node in cluster.live())
    done = subprocess.run([LOCKSTEP, "upgrade", "--addr", seeds] + [str(word) for word in words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    text = done.stdout.decode()
    expect(done.returncode == code, "lockstep upgrade %s: status %d, not %d: %s", words, done.returncode, code, text)
    return text


def all_connected(cluster):
    """The leader has a link to every member: it knows their versions."""
    leader = cluster.wait_leader(everywhere=True)
    wait_for(lambda: all(member["connected"] for member in leader.status()["members"]), what="links to all members")


def level_is_refused(cluster, late):
    all_connected(cluster)
    text = upgrade(cluster, 2, code=1)
    expect("node %d" % late.id in text and "understands feature level 1" in text, "the refusal says: %s", text)


def level_is_raised(cluster):
    all_connected(cluster)
    text = upgrade(cluster, 2)
    expect("feature level 2, was 1" in text or "feature level 2 already" in text, "it says: %s", text)  # by an earlier try
    expect(cluster.leader().status()["feature_level"] == 2, "the level is raised")


@test
def rolling_upgrade_under_load():
    """The level is raised only when all nodes run the next version; then the old one refuses to start."""
    if not os.path.exists(NEXT):
        raise Skip("no %s" % NEXT)
    with Cluster(3) as cluster:
        old = cluster.binary
        with Load(cluster) as load:
            load.wait_acks(100)
            expect("feature level 1 already" in upgrade(cluster), "there is nothing to raise")
            late = cluster.followers()[0]
            cluster.binary = NEXT
            for node in [node for node in cluster.nodes if node is not late]:
                node.restart()
                node.wait_up()
                node.wait_applied(cluster.wait_leader().status()["commit"])
            undisturbed(cluster, lambda: level_is_refused(cluster, late))
            late.restart()
            late.wait_up()
            undisturbed(cluster, lambda: level_is_raised(cluster))
            wait_for(lambda: all(node.status()["feature_level"] == 2 for node in cluster.nodes), what="level 2 everywhere")
            load.wait_acks(100)
            back = cluster.followers()[0]
            back.stop()
            cluster.binary = old
            back.start()
            expect_refuses_start(back, "feature level 2", "newer version")
            cluster.binary = NEXT
            back.start()
            back.wait_up()
            expect("never lowered" in upgrade(cluster, 1, code=1), "a level is never lowered")
            load.wait_acks(100)
        cluster.wait_converged()
        return load.verify(cluster.nodes[0])
