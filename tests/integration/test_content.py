"""A node whose content goes wrong is found out, and nobody reads from it any more."""

import os
import subprocess

from cluster import Cluster, lockstepd_path, wait_for
from harness import Load, Skip, expect, expect_equal, expect_same_content, test

BUILD = os.path.dirname(lockstepd_path())
LOCKSTEP = os.environ.get("LOCKSTEP") or os.path.join(BUILD, "lockstep")
PLANTED = os.path.join(BUILD, "lockstepd_planted")


@test
def wrong_content_is_quarantined():
    """A follower with a planted bug applies some entries twice: it is quarantined, shows it, and reads nothing itself."""
    if not os.path.exists(PLANTED):
        raise Skip("no %s: build the target lockstepd_planted" % PLANTED)
    with Cluster(3) as cluster:
        good = cluster.binary
        bad = cluster.followers()[0]
        bad.stop()
        cluster.binary = PLANTED
        bad.start(env=dict(os.environ, LOCKSTEP_PLANT_NAME="apply-twice"))
        bad.wait_up()
        with Load(cluster) as load:
            wait_for(lambda: bad.status()["quarantined"], what="%r to be found out" % bad, check=load.check)
            wait_for(lambda: cluster.leader() is not bad, what="another node to lead")
            wait_for(lambda: next(m for m in cluster.leader().status()["members"] if m["id"] == bad.id).get("differs"),
                     what="the leader to know")
            expect("QUARANTINE" in bad.log_text(), "its log says so")
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
            cluster.binary = good
            bad.start()
            bad.wait_up()
            load.wait_acks(200)
        expect_same_content(cluster)
        expect(not bad.status()["quarantined"], "a restart makes its content anew")
        return load.verify(cluster.leader())
