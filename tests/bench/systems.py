"""The systems that the benchmark compares: how each is started, reached, and stopped. One object per running instance; each
start is on empty data in a directory of its own."""

import json
import os
import shutil
import urllib.request

from cluster import HOST, Client, Cluster, Process, free_ports, release_ports, wait_for


class System:
    """A system under test. `address` is where clients go; `wait` how many replicas each write must be confirmed by with
    WAIT (0: the reply itself says so)."""

    name = "?"
    label = "?"
    wait = 0

    def __init__(self, directory):
        self.dir = os.path.join(directory, self.name)
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.processes = []
        self.ports = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *unused):
        self.stop()

    def start(self):
        raise NotImplementedError

    def stop(self):
        for process in self.processes:
            process.kill()
        release_ports(self.ports)
        shutil.rmtree(self.dir, ignore_errors=True)

    def details(self):
        """What the system says of itself after a run, kept with the result."""
        return {}

    def memory_processes(self):
        """Processes that each hold all keys, by what they are."""
        return {}


class Lockstep(System):
    name = "lockstep"
    label = "Lockstep, 3 nodes, durable on a majority"

    def __init__(self, directory, flags=()):
        super().__init__(directory)
        self.cluster = Cluster(3, directory=self.dir, flags=flags)

    def start(self):
        self.leader = self.cluster.start()

    def stop(self):
        self.cluster.close()
        super().stop()

    @property
    def address(self):
        return "%s:%d" % (HOST, self.leader.port)

    @property
    def follower_address(self):
        return "%s:%d" % (HOST, self.cluster.followers()[0].port)

    def details(self):
        info = self.leader.info()
        wanted = ("batch", "wal", "loop", "role", "term", "commit", "read")
        return {key: value for key, value in info.items() if any(word in key for word in wanted)}

    def memory_processes(self):
        result = {"leader": self.leader.process}
        for i, node in enumerate(self.cluster.followers()):
            result["follower %d" % (i + 1)] = node.process
        return result


class Redis(System):
    """redis-server; durability by `appendonly` and `appendfsync`. The append-only file is never rewritten during a run, in
    favour of Redis."""

    name = "redis"
    label = "redis-server alone, appendonly no"
    durable = False
    replicas = 0

    def start(self):
        self.ports = free_ports(1 + self.replicas)
        for i, port in enumerate(self.ports):
            self._start_one(port, self.ports[0] if i > 0 else None)
        wait_for(lambda: all(Client(port).call("PING") for port in self.ports), 20, "redis-server to answer",
                 check=self._check)
        if self.replicas:
            wait_for(self._replicated, 60, "the replicas to be in step", interval=0.1, check=self._check)

    def _start_one(self, port, primary):
        directory = os.path.join(self.dir, str(port))
        os.makedirs(directory)
        argv = ["redis-server", "--port", port, "--bind", HOST, "--dir", directory, "--save", "", "--protected-mode", "no",
                "--appendonly", "yes" if self.durable else "no", "--appendfsync", "always",
                "--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]
        if primary is not None:
            argv += ["--replicaof", "%s %d" % (HOST, primary)]
        self.processes.append(Process(argv, os.path.join(directory, "log")))

    def _check(self):
        for process in self.processes:
            if not process.alive():
                raise AssertionError("redis-server ended:\n" + process.log_text()[-2000:])

    def _replicated(self):
        for i, port in enumerate(self.ports):
            with Client(port) as client:
                info = client.call("INFO", "everything").decode()
                if "aof_rewrite_in_progress:1" in info or "aof_rewrite_scheduled:1" in info:
                    return False
                if i == 0 and info.count("state=online") != self.replicas:
                    return False
        with Client(self.ports[0]) as client:
            client.call("SET", "warm-up", "x")
            return client.call("WAIT", self.replicas, 1000) == self.replicas

    @property
    def address(self):
        return "%s:%d" % (HOST, self.ports[0])

    def memory_processes(self):
        return {"redis-server": self.processes[0]}


class RedisAlways(Redis):
    name = "redis-always"
    label = "redis-server alone, appendfsync always"
    durable = True


class RedisWait(Redis):
    name = "redis-wait"
    label = "redis-server primary and 2 replicas, all appendfsync always, WAIT 2"
    durable = True
    replicas = 2
    wait = 2


class Etcd(System):
    name = "etcd"
    label = "etcd, 3 nodes"

    def start(self):
        self.ports = free_ports(6)
        clients, peers = self.ports[:3], self.ports[3:]
        members = ",".join("n%d=http://%s:%d" % (i, HOST, port) for i, port in enumerate(peers))
        for i in range(3):
            argv = ["etcd", "--name", "n%d" % i, "--data-dir", os.path.join(self.dir, "n%d" % i),
                    "--listen-client-urls", "http://%s:%d" % (HOST, clients[i]),
                    "--advertise-client-urls", "http://%s:%d" % (HOST, clients[i]),
                    "--listen-peer-urls", "http://%s:%d" % (HOST, peers[i]),
                    "--initial-advertise-peer-urls", "http://%s:%d" % (HOST, peers[i]),
                    "--initial-cluster", members, "--initial-cluster-token", "bench", "--log-level", "error",
                    "--quota-backend-bytes", str(8 << 30)]
            self.processes.append(Process(argv, os.path.join(self.dir, "n%d.log" % i)))
        self.endpoints = ",".join("http://%s:%d" % (HOST, port) for port in clients)
        wait_for(self._healthy, 60, "etcd to be healthy", interval=0.1, check=self._check)

    def _healthy(self):
        for endpoint in self.endpoints.split(","):
            with urllib.request.urlopen(endpoint + "/health", timeout=2) as answer: # its errors are OSErrors: not yet
                if json.load(answer).get("health") != "true":
                    return False
        return True

    def _check(self):
        for process in self.processes:
            if not process.alive():
                raise AssertionError("etcd ended:\n" + process.log_text()[-2000:])


ALL = {system.name: system for system in (Lockstep, Redis, RedisAlways, RedisWait, Etcd)}
