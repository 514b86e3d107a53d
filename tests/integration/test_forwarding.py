"""Commands that followers forward, and the replies that come back."""

from cluster import PATIENCE, Cluster, RespError
from harness import expect, expect_equal, test, undisturbed

VALUE_BYTES = 1 << 20
KEYS = 8
VALUES = [bytes([ord("a") + i]) * VALUE_BYTES for i in range(KEYS)]
FORWARD_READS = ["--read-grants", "leader"]  # followers have no reads of their own


def write_values(cluster):
    with cluster.leader().client(timeout=PATIENCE) as client:
        for i, value in enumerate(VALUES):
            client.call("SET", "big:%d" % i, value)


def expect_values(client, n):
    for i in range(n):
        reply = client.read()
        expect(reply == VALUES[i % KEYS], "reply %d is %.100r", i, reply)


def expect_all(cluster, n, *command):
    """n commands `command key` at once, at a follower: each gets its value."""
    with cluster.followers()[0].client(timeout=PATIENCE) as client:
        client.socket.sendall(b"".join(client.encode(command[0], "big:%d" % (i % KEYS), *command[1:]) for i in range(n)))
        expect_values(client, n)
        expect_equal(client.call("PING"), "PONG", "PING afterwards")


@test
def more_reads_than_a_link_holds_are_answered():
    """200 reads of 1 MiB at once at a follower that asks the leader: each is answered, in order."""
    with Cluster(3, flags=FORWARD_READS) as cluster:
        write_values(cluster)
        undisturbed(cluster, lambda: expect_all(cluster, 200, "GET"))


@test
def more_replies_of_writes_than_a_link_holds_are_answered():
    """The same with GETEX, which is a write: its replies can't wait for room, as it is executed when it is logged."""
    with Cluster(3) as cluster:
        write_values(cluster)
        undisturbed(cluster, lambda: expect_all(cluster, 150, "GETEX", "PERSIST"))


@test
def more_writes_than_a_link_holds_are_executed():
    """200 writes of 1 MiB at once at a follower."""
    with Cluster(3) as cluster:
        def write():
            with cluster.followers()[0].client(timeout=PATIENCE) as client:
                replies = client.pipeline([("SET", "big:%d" % (i % KEYS), VALUES[i % KEYS]) for i in range(200)])
            expect_equal(replies, ["OK"] * 200, "replies")
        undisturbed(cluster, write)
        cluster.wait_converged()


@test
def a_slow_client_of_a_follower_is_waited_for():
    """1000 reads of 1 MiB, nearly four times what a connection's output may be, by a client that begins to read when the
    nodes have come to a stop: no node holds more than a part of the replies, and all of them come."""
    with Cluster(3, flags=FORWARD_READS) as cluster:
        write_values(cluster)

        def read_slowly():
            follower = cluster.followers()[0]
            with follower.client(timeout=PATIENCE) as client:
                reads = [client.encode("GET", "big:%d" % (i % KEYS)) for i in range(1000)]
                client.socket.sendall(b"".join(reads))
                others_are_served(cluster, follower)
                expect_values(client, 1000)
        undisturbed(cluster, read_slowly)


def others_are_served(cluster, follower):
    """Other clients of the same follower go on, whatever one does; and what is kept for it has a bound."""
    with follower.client(timeout=PATIENCE) as other:
        for i in range(300):
            other.call("SET", "other", i)
            expect_equal(other.call("GET", "other"), b"%d" % i, "GET of another client")
    for node in cluster.nodes:
        held = node.process.rss_bytes()
        expect(held < 220 << 20, "%r holds %d MiB while a client does not read", node, held >> 20)


@test
def replies_beyond_the_bound_are_lost_in_order():
    """More bytes of replies to writes at once than are kept for a node: each client still gets its own, or -UNKNOWN."""
    requests = 150
    with Cluster(3, flags=["--client-output-limit", "64mb"]) as cluster:
        leader = cluster.leader()
        write_values(cluster)
        with leader.client() as client:
            client.call("SET", "small", "s")
        follower = cluster.followers()[0]
        with follower.client(timeout=PATIENCE) as client:
            reads = [client.encode("GETEX", "big:%d" % (i % KEYS), "PERSIST") for i in range(requests)]
            client.socket.sendall(b"".join(reads))
            replies = [client.read()]
            client.send("GETEX", "small", "PERSIST")  # its reply finds room again
            replies += [client.read() for _ in range(requests)]
            expect_equal(client.call("PING"), "PONG", "PING afterwards")
        lost = [i for i, reply in enumerate(replies) if isinstance(reply, RespError)]
        for i in lost:
            expect_equal(replies[i].code, "UNKNOWN", "reply %d" % i)
        for i, reply in enumerate(replies[:-1]):
            expect(i in lost or reply == VALUES[i % KEYS], "reply %d is that of another command", i)
        expect(requests in lost or replies[-1] == b"s", "the last reply is that of another command")
        follower.check_alive()
        return "%d of %d replies lost" % (len(lost), requests + 1)
