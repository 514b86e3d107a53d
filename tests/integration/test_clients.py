"""What clients see, whichever node they talk to."""

import os
import shutil
import socket
import subprocess
import threading

from cluster import HOST, PATIENCE, UNSETTLED, Cluster, RespError
from harness import TRIES, Skip, expect, expect_equal, expect_error, settled, test, undisturbed

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
            def replies(unused, node=node):
                with node.client() as client:
                    client.call("DEL", "k", "a", "b", "seen")
                    return client.pipeline(script)
            transcripts.append([str(reply) for reply in settled(replies)])
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
            def send_all(number, node=node):
                key, commands = "n:%d:%d" % (node.id, number), []
                for i in range(1, 2001):
                    commands += [("INCR", key), ("GET", key), ("PING", "p%d" % i), ("SET", "s", i), ("MGET", "s", key)]
                with node.client(timeout=PATIENCE) as client:
                    return client.pipeline(commands)
            replies = settled(send_all)
            for i in range(2000):
                expected = [i + 1, b"%d" % (i + 1), b"p%d" % (i + 1), "OK", [b"%d" % (i + 1)] * 2]
                expect_equal(replies[5 * i:5 * i + 5], expected, "round %d of the pipeline at %r" % (i, node))


@test
def big_values():
    """Values of 1, 8 and 15 MiB on followers and leader; larger commands get an error and the connection lives on."""
    with Cluster(3) as cluster:
        kept = []  # was there the same leader from the first to the last of them? A busy machine changes it now and then
        while not any(kept):
            expect(len(kept) < TRIES, "big values unseated the leader, %d times in a row", TRIES)
            leader, term = cluster.reign()
            for node in (next(node for node in cluster.nodes if node is not leader), leader):
                write_big(cluster, node)
            kept.append(cluster.reign() == (leader, term))
        cluster.wait_converged()
        return "" if len(kept) == 1 else "the leader changed in %d rounds" % (len(kept) - 1)


def write_big(cluster, node):
    with node.client(timeout=PATIENCE) as client:
        for size in (1 * MIB, 8 * MIB, 15 * MIB):
            value = os.urandom(MIB) * (size // MIB)
            expect_equal(client.call("SET", "big", value), "OK", "SET of %d MiB at %r" % (size // MIB, node))
            expect(client.call("GET", "big") == value, "a value of %d MiB changed at %r", size // MIB, node)
            other = cluster.nodes[node.id % 3]
            with other.client(timeout=PATIENCE) as second:
                expect_equal(second.call("STRLEN", "big"), size, "STRLEN at %r" % other)
        try:
            reply = client.call("SET", "big", b"x" * (17 * MIB))
            raise AssertionError("a command above the largest entry was answered with %r" % reply)
        except RespError as error:
            expect(error.code in ("ERR", "OOM"), "a command above the largest entry: -%s", error)
        expect_equal(client.call("STRLEN", "big"), 15 * MIB, "STRLEN after the refused command")


@test
def thousand_connections():
    """1000 connections to one node at once, each served."""
    with Cluster(3) as cluster:
        node = cluster.followers()[0]
        clients = [node.client(timeout=PATIENCE) for _ in range(1000)]
        served(clients, [("SET", "c:%d" % i, i) for i in range(1000)], ["OK"] * 1000)
        served(clients, [("GET", "c:%d" % ((i + 500) % 1000)) for i in range(1000)],
               [b"%d" % ((i + 500) % 1000) for i in range(1000)])
        for client in clients:
            client.close()
        expect_equal(node.call("DBSIZE"), 1000, "DBSIZE")


def served(clients, commands, expected):
    """Each client sends its command before any reply is read; the command is repeated while the leader is changing."""
    for client, command in zip(clients, commands):
        client.send(*command)
    for client, command, value in zip(clients, commands, expected):
        reply = client.read()
        if isinstance(reply, RespError) and reply.code in UNSETTLED:
            reply = client.call(*command)
        expect_equal(reply, value, command[0])


@test
def transactions_across_nodes():
    """MULTI/EXEC and WATCH on any node; a watched key that is changed through another node makes EXEC give nil."""
    with Cluster(3) as cluster:
        for i, node in enumerate(cluster.nodes):
            settled(lambda number, i=i, node=node: transact(node, cluster.nodes[(i + 1) % 3], "w:%d:%d" % (i, number)))


def transact(node, other, key):
    """On both nodes, with a key of its own."""
    with node.client() as one, other.client() as two:
        one.once("SET", key, "0")
        one.once("WATCH", key)
        one.once("MULTI")
        expect_equal(one.once("INCR", key), "QUEUED", "a command after MULTI")
        expect_equal(one.once("EXEC"), [1], "EXEC with an unchanged key at %r" % node)
        one.once("WATCH", key)
        expect_equal(two.once("INCR", key), 2, "INCR through another node")
        one.once("MULTI")
        one.once("SET", key, "lost")
        expect_equal(one.once("EXEC"), None, "EXEC with a changed key at %r" % node)
        expect_equal(two.once("GET", key), b"2", "the key after an EXEC that did not happen")
        one.once("MULTI")
        expect_error(one, "ERR", "NOSUCH")
        expect_error(one, "EXECABORT", "EXEC")
        one.once("MULTI")
        one.once("SET", key, "text")
        one.once("INCR", key)
        replies = one.once("EXEC")
        expect(replies[0] == "OK" and isinstance(replies[1], RespError), "EXEC with an error inside: %r", replies)


@test
def transactions_hold_local_commands():
    """SELECT, TIME, WAIT, CLIENT and CONFIG between the store's commands, on any node and in both protocols: in their
    places, not at all if a watched key has changed, and done when the next command comes."""
    with Cluster(3) as cluster:
        for proto in (2, 3):
            for node in cluster.nodes:
                settled(lambda number, node=node, proto=proto:
                        transact_locally(node, proto, "l:%d:%d" % (node.id, number)))


def transact_locally(node, proto, key):
    with node.client() as one, node.client() as two:
        one.hello(proto)
        two.once("DEL", key)
        replies = one.pipeline([("WATCH", key), ("MULTI",), ("CLIENT", "SETNAME", "a"), ("SET", key, "1"), ("TIME",),
                                ("MGET", key, "none"), ("SELECT", "0"), ("SELECT", "1"), ("WAIT", "9", "60000"),
                                ("CONFIG", "GET", "nosuch"), ("INCR", key), ("CLIENT", "GETNAME"), ("EXEC",),
                                ("CLIENT", "GETNAME"), ("GET", key)])
        if any(isinstance(reply, RespError) for reply in replies):
            return replies
        named, was_set, time_now, values, selected, refused, waited, config, incremented, name = replies[12]
        expect_equal([named, was_set, values, selected, incremented, name],
                     ["OK", "OK", [b"1", None], "OK", 2, b"a"], "replies of EXEC at %r" % node)
        expect(len(time_now) == 2 and isinstance(refused, RespError) and waited >= 1 and not config,
               "TIME, SELECT 1, WAIT, CONFIG GET: %r", replies[12])
        expect_equal(replies[13:], [b"a", b"2"], "after EXEC")
        one.once("WATCH", key)
        two.once("SET", key, "changed")
        replies = one.pipeline([("MULTI",), ("CLIENT", "SETNAME", "b"), ("SET", key, "lost"), ("EXEC",),
                                ("CLIENT", "GETNAME")])
        expect_equal(replies, ["OK", "QUEUED", "QUEUED", None, b"a"], "with a changed key")
        replies = one.pipeline([("MULTI",), ("CLIENT", "SETNAME", "c"), ("ECHO", "x"), ("EXEC",), ("MULTI",), ("TIME",),
                                ("SELECT", "0"), ("EXEC",), ("CLIENT", "GETNAME")])
        if not any(isinstance(reply, RespError) for reply in replies):
            expect_equal([replies[3], len(replies[7]), replies[8]], [["OK", b"x"], 2, b"c"], "without the store's commands")
        return replies


@test
def contended_transactions_lose_nothing():
    """Optimistic increments with WATCH from all nodes at once: as many succeed as the counter says."""
    done, unknown, failures = [], [], []

    def increment(client):
        try:
            client.once("WATCH", "n")
            value = int(client.once("GET", "n") or 0)
            client.once("MULTI")
            client.once("SET", "n", value + 1)
            return client.once("EXEC") is not None
        except RespError as error:
            expect(error.code in UNSETTLED, "-%s", error)
            unknown.extend([1] if error.code == "UNKNOWN" else [])
            return False

    def run(node, times):
        try:
            with node.client(timeout=PATIENCE) as client:
                while times:
                    if increment(client):
                        times -= 1
                        done.append(1)
        except Exception as error:
            failures.append(error)

    with Cluster(3) as cluster:
        threads = [threading.Thread(target=run, args=(cluster.nodes[i % 3], 40), daemon=True) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE)
        expect(not failures, "%s", failures)
        expect_equal(len(done), 240, "successful EXECs")
        counter = int(cluster.nodes[0].call("GET", "n"))
        expect(240 <= counter <= 240 + len(unknown), "the counter is %d, after 240 increments and %d of unknown outcome",
               counter, len(unknown))


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
def http_is_cut_off():
    """What a browser would send for a web page is executed no further than its first line or Host header."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        for head in (b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"*1\r\n$4\r\npOsT\r\n"):
            with socket.create_connection((HOST, node.port), timeout=PATIENCE) as raw:
                try:
                    raw.sendall(head + b"\r\nSET planted 1\r\n")
                    while raw.recv(4096):
                        pass
                except ConnectionResetError:
                    pass  # closed with our bytes unread
            expect_equal(node.call("EXISTS", "planted"), 0, "the key that the body would set")
        expect("HTTP" in node.log_text(), "the log does not say so")


@test
def redirect_answers_moved():
    """With `redirect yes` a follower answers -MOVED with the leader's address, and executes nothing."""
    with Cluster(3, flags=["--redirect", "yes"]) as cluster:
        undisturbed(cluster, lambda: follower_redirects(cluster))


def follower_redirects(cluster):
    leader, _ = cluster.reign()
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
            output = settled(lambda unused, node=node: redis_benchmark(node, 20000 * options.rounds_or(1)))
            expect("rror" not in output, "redis-benchmark at %r: %s", node, output[-500:])
            lines = output.split("\n")
            lines = [line.replace('"', "").split(",") for line in lines]
            lines = [line for line in lines if line[0] in ("SET", "GET")]
            expect_equal([line[0] for line in lines], ["SET", "GET"], "redis-benchmark's lines at %r" % node)
            rates += [float(line[1]) for line in lines]
        expect(cluster.nodes[0].call("DBSIZE") >= 1, "redis-benchmark wrote nothing")
    return "requests/s by node (SET, GET): " + ", ".join("%.0f" % rate for rate in rates)


def redis_benchmark(node, requests):
    """Returns what it printed; an error that it ended with is raised, so that `settled` can judge it."""
    run = subprocess.run(["redis-benchmark", "-h", HOST, "-p", str(node.port), "-t", "set,get", "-n", str(requests), "-P",
                          "16", "-r", "10000", "--csv"], capture_output=True, text=True, timeout=300, check=False)
    for code in UNSETTLED:
        if code in run.stdout + run.stderr:
            raise RespError("%s in redis-benchmark's output: %s" % (code, (run.stdout + run.stderr)[-500:]))
    expect(run.returncode == 0, "redis-benchmark at %r: %s", node, (run.stdout + run.stderr)[-500:])
    return run.stdout + run.stderr
