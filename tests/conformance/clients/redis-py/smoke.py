"""redis-py against HOST PORT PROTOCOL: connect, set/get, pipeline, transaction, expire."""

import sys

import redis


def main():
    host, port, protocol = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    client = redis.Redis(host=host, port=port, protocol=protocol, decode_responses=True, socket_timeout=10)
    assert client.ping()

    assert client.set("py:k", "v") is True
    assert client.get("py:k") == "v"
    assert client.get("py:none") is None
    assert client.mset({"py:a": 1, "py:b": 2}) is True
    assert client.mget("py:a", "py:none", "py:b") == ["1", None, "2"]

    pipe = client.pipeline(transaction=False)
    pipe.delete("py:n")
    for _ in range(100):
        pipe.incr("py:n")
    assert pipe.execute()[1:] == list(range(1, 101))

    with client.pipeline() as transaction:
        transaction.watch("py:n")
        value = int(transaction.get("py:n"))
        transaction.multi()
        transaction.set("py:n", value + 1).get("py:n")
        assert transaction.execute() == [True, "101"]
    try:
        with client.pipeline() as transaction:
            transaction.watch("py:n")
            client.incr("py:n")
            transaction.multi()
            transaction.set("py:n", "lost")
            transaction.execute()
        raise AssertionError("EXEC succeeded although a watched key had changed")
    except redis.WatchError:
        pass

    assert client.expire("py:k", 100) is True
    assert 0 < client.ttl("py:k") <= 100
    assert client.set("py:short", "x", px=1) is True
    while client.get("py:short") is not None:
        pass
    assert client.persist("py:k") is True and client.ttl("py:k") == -1
    try:
        client.execute_command("INCR", "py:k")
        raise AssertionError("INCR of text succeeded")
    except redis.ResponseError as error:
        assert "not an integer" in str(error)
    assert set(client.scan_iter("py:*")) == {"py:k", "py:a", "py:b", "py:n"}
    assert client.delete("py:k", "py:a", "py:b", "py:n") == 4
    assert int(client.info("server")["tcp_port"]) == port


main()
