"""Commands that followers forward, and the replies that come back."""

from cluster import Cluster, RespError
from harness import expect, expect_equal, test

VALUE_BYTES = 1 << 20
KEYS = 8
REQUESTS = 150  # more than a link's queue takes (docs/OPERATIONS.md), so that replies are dropped


@test
def replies_beyond_the_bound_are_lost_in_order():
    """More bytes of replies at once than fit between two nodes: each client still gets its own replies, or -UNKNOWN."""
    with Cluster(3) as cluster:
        leader = cluster.leader()
        follower = cluster.followers()[0]
        values = [bytes([ord("a") + i]) * VALUE_BYTES for i in range(KEYS)]
        with leader.client() as client:
            for i, value in enumerate(values):
                client.call("SET", "big:%d" % i, value)
            client.call("SET", "small", "s")
        with follower.client(timeout=30.0) as client:
            # GETEX is a write, so a follower never answers it from its own memory.
            reads = [client.encode("GETEX", "big:%d" % (i % KEYS), "PERSIST") for i in range(REQUESTS)]
            client.socket.sendall(b"".join(reads))
            replies = [client.read()]
            client.send("GETEX", "small", "PERSIST")  # its reply finds room again
            replies += [client.read() for _ in range(REQUESTS)]
            expect_equal(client.call("PING"), "PONG", "PING afterwards")
        lost = [i for i, reply in enumerate(replies) if isinstance(reply, RespError)]
        for i in lost:
            expect_equal(replies[i].code, "UNKNOWN", "reply %d" % i)
        for i, reply in enumerate(replies[:-1]):
            expect(i in lost or reply == values[i % KEYS], "reply %d is that of another command", i)
        expect(REQUESTS in lost or replies[-1] == b"s", "the last reply is that of another command")
        expect(len(lost) < REQUESTS, "no reply came through")
        follower.check_alive()
        return "%d of %d replies lost" % (len(lost), REQUESTS + 1)
