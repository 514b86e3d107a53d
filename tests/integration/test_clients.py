"""What clients see, whichever node they talk to."""

import os
import shutil
import socket
import subprocess

from cluster import HOST, Cluster, RespError
from harness import Skip, expect, expect_equal, expect_error, test

MIB = 1 << 20


@test
def any_node_takes_any_command():
    """The same commands at the leader and at followers give the same replies, and every node sees every write at once."""
    script = [("SET", "k", "1"), ("GET", "k"), ("INCR", "k"), ("APPEND", "k", "0"), ("GET", "k"), ("STRLEN", "k"),
              ("MSET", "a", "1", "b", "2"), ("MGET", "a", "b", "none"), ("SET", "k", "x", "NX"),
              ("SET", "k", "x", "XX", "GET"), ("INCR", "k"), ("EXPIRE", "k", "100"), ("PERSIST", "k"), ("TTL", "k"),
              ("TYPE", "k"), ("EXISTS", "k", "a", "none"), ("NOSUCH", "x"), ("GET",), ("SET", "k", "v", "EX", "0"),
              ("DEL", "k", "a", "b"), ("GET", "k"), ("DBSIZE",)]
    with Cluster(3) as cluster:
        transcripts = []
        for node in cluster.nodes:
            with node.client() as client:
                transcripts.append([str(reply) for reply in client.pipeline(script)])
        for node, transcript in zip(cluster.nodes, transcripts):
            expect_equal(transcript, transcripts[0], "replies of %r" % node)
        clients = [node.client() for node in cluster.nodes]
        for i in range(150):
            clients[i % 3].call("SET", "seen", i)
            expect_equal(clients[(i + 1) % 3].call("GET", "seen"), b"%d" % i, "GET right after an acknowledged SET")
        for client in clients:
            client.close()


@test
def pipelined_commands_keep_their_order():
    """On every node: replies come in the order sent, and a read sees the writes before it in its pipeline."""
    with Cluster(3) as cluster:
        for node in cluster.nodes:
            commands, expected = [("DEL", "n")], None
            for i in range(1, 2001):
                commands += [("INCR", "n"), ("GET", "n"), ("PING", "p%d" % i), ("SET", "s", i), ("MGET", "s", "n")]
            with node.client(timeout=30.0) as client:
                replies = client.pipeline(commands)[1:]
            for i in range(2000):
                expected = [i + 1, b"%d" % (i + 1), b"p%d" % (i + 1), "OK", [b"%d" % (i + 1)] * 2]
                expect_equal(replies[5 * i:5 * i + 5], expected, "round %d of the pipeline at %r" % (i, node))


@test
def big_values():
    """Values of 1, 8 and 15 MiB on followers and leader; larger commands get an error and the connection lives on."""
    with Cluster(3) as cluster:
        leader = cluster.leader()
        for node in (cluster.followers()[0], leader):
            with node.client(timeout=60.0) as client:
                for size in (1 * MIB, 8 * MIB, 15 * MIB):
                    value = os.urandom(MIB) * (size // MIB)
                    expect_equal(client.call("SET", "big", value), "OK", "SET of %d MiB at %r" % (size // MIB, node))
                    expect(client.call("GET", "big") == value, "a value of %d MiB changed at %r", size // MIB, node)
                    other = cluster.nodes[node.id % 3]
                    with other.client(timeout=60.0) as second:
                        expect_equal(second.call("STRLEN", "big"), size, "STRLEN at %r" % other)
                try:
                    reply = client.call("SET", "big", b"x" * (17 * MIB))
                    raise AssertionError("a command above the largest entry was answered with %r" % reply)
                except RespError as error:
                    expect(error.code in ("ERR", "OOM"), "a command above the largest entry: -%s", error)
                expect_equal(client.call("STRLEN", "big"), 15 * MIB, "STRLEN after the refused command")
        term = leader.status()["term"]
        expect_equal(cluster.wait_leader(everywhere=True).status()["term"], term, "term (big values unseated the leader)")
        cluster.wait_converged(timeout=60.0)


@test
def thousand_connections():
    """1000 connections to one node at once, each served."""
    with Cluster(3) as cluster:
        node = cluster.followers()[0]
        clients = [node.client(timeout=30.0) for _ in range(1000)]
        for i, client in enumerate(clients):
            client.send("SET", "c:%d" % i, i)
        for client in clients:
            expect_equal(client.read(), "OK", "SET")
        for i, client in enumerate(clients):
            client.send("GET", "c:%d" % ((i + 500) % 1000))
        for i, client in enumerate(clients):
            expect_equal(client.read(), b"%d" % ((i + 500) % 1000), "GET")
        for client in clients:
            client.close()
        expect_equal(node.call("DBSIZE"), 1000, "DBSIZE")


@test
def transactions_across_nodes():
    """MULTI/EXEC and WATCH on any node; a watched key that is changed through another node makes EXEC give nil."""
    with Cluster(3) as cluster:
        for i, node in enumerate(cluster.nodes):
            other = cluster.nodes[(i + 1) % 3]
            with node.client() as one, other.client() as two:
                one.call("SET", "w", "0")
                one.call("WATCH", "w")
                one.call("MULTI")
                expect_equal(one.call("INCR", "w"), "QUEUED", "a command after MULTI")
                expect_equal(one.call("EXEC"), [1], "EXEC with an unchanged key at %r" % node)
                one.call("WATCH", "w")
                expect_equal(two.call("INCR", "w"), 2, "INCR through another node")
                one.call("MULTI")
                one.call("SET", "w", "lost")
                expect_equal(one.call("EXEC"), None, "EXEC with a changed key at %r" % node)
                expect_equal(two.call("GET", "w"), b"2", "the key after an EXEC that did not happen")
                one.call("MULTI")
                expect_error(one, "ERR", "NOSUCH")
                expect_error(one, "EXECABORT", "EXEC")
                one.call("MULTI")
                one.call("SET", "w", "text")
                one.call("INCR", "w")
                replies = one.call("EXEC")
                expect(replies[0] == "OK" and isinstance(replies[1], RespError), "EXEC with an error inside: %r", replies)


@test
def contended_transactions_lose_nothing():
    """Optimistic increments with WATCH from all nodes at once: as many succeed as the counter says."""
    import threading
    done = []

    def increment(node, times):
        with node.client(timeout=30.0) as client:
            while times:
                client.call("WATCH", "n")
                value = int(client.call("GET", "n") or 0)
                client.call("MULTI")
                client.call("SET", "n", value + 1)
                if client.call("EXEC") is not None:
                    times -= 1
                    done.append(1)

    with Cluster(3) as cluster:
        threads = [threading.Thread(target=increment, args=(cluster.nodes[i % 3], 40), daemon=True) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
        expect_equal(int(cluster.nodes[0].call("GET", "n")), 240, "the counter")
        expect_equal(len(done), 240, "successful EXECs")


@test
def garbage_is_refused():
    """Bytes that are no RESP close that connection with Redis's error, and only that one."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        with node.client() as witness:
            for garbage, words in ((b"*1\r\n:1\r\n", b"expected '$'"), (b"*abc\r\n", b"invalid multibulk length"),
                                   (b"*1\r\n$-5\r\n", b"invalid bulk length"), (b"*99999999999\r\n", b"invalid multibulk"),
                                   (b"x" * 70000 + b"\r\n", b"too big inline")):
                with socket.create_connection((HOST, node.port), timeout=10.0) as raw:
                    raw.sendall(garbage)
                    reply = b""
                    try:
                        while chunk := raw.recv(4096):
                            reply += chunk
                    except ConnectionResetError:
                        pass  # closed with our bytes unread: what was received counts
                    expect(b"Protocol error" in reply and words in reply, "%.30r was answered with %r", garbage, reply)
                expect_equal(witness.call("PING"), "PONG", "PING on another connection")


@test
def redirect_answers_moved():
    """With `redirect yes` a follower answers -MOVED with the leader's address, and executes nothing."""
    with Cluster(3, flags=["--redirect", "yes"]) as cluster:
        leader = cluster.leader()
        with cluster.followers()[0].client() as client:
            text = expect_error(client, "MOVED", "SET", "k", "v")
        expect(text.endswith("%s:%d" % (HOST, leader.port)), "-%s does not name the leader %s:%d", text, HOST, leader.port)
        expect_equal(leader.call("GET", "k"), None, "the key after -MOVED")


@test
def redis_benchmark_on_every_node(options):
    """redis-benchmark -t set,get -n 20000 -P 16 against each node, without an error."""
    if shutil.which("redis-benchmark") is None:
        raise Skip("redis-benchmark is not installed")
    rates = []
    with Cluster(3) as cluster:
        for node in cluster.nodes:
            run = subprocess.run(["redis-benchmark", "-h", HOST, "-p", str(node.port), "-t", "set,get", "-n",
                                  str(20000 * options.rounds_or(1)), "-P", "16", "-r", "10000", "--csv"],
                                 capture_output=True, text=True, timeout=120, check=False)
            output = run.stdout + run.stderr
            expect(run.returncode == 0 and "rror" not in output, "redis-benchmark at %r: %s", node, output[-500:])
            lines = [line.replace('"', "").split(",") for line in run.stdout.split("\n")]
            lines = [line for line in lines if line[0] in ("SET", "GET")]
            expect_equal([line[0] for line in lines], ["SET", "GET"], "redis-benchmark's lines at %r" % node)
            rates += [float(line[1]) for line in lines]
        expect(cluster.nodes[0].call("DBSIZE") >= 1, "redis-benchmark wrote nothing")
    return "requests/s by node (SET, GET): " + ", ".join("%.0f" % rate for rate in rates)
