#!/usr/bin/env python3
"""The store's snapshots beside redis-server's, on the same keys and in turn: how long a snapshot stops writes (steps of
ours, the fork of BGSAVE), and how long loading takes from the page cache: processor time, which a busy machine
changes little (ours: reading the stream and loading it; the whole of redis-server until it answers), and by the clock
(redis-server's own "DB loaded" line).

usage: snapshot_redis.py BUILD_DIR [--keys 10000000] [--value-bytes 64] [--rounds 3] [--port 21700]"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time


def info(port, section):
    text = subprocess.run(["redis-cli", "-p", str(port), "info", section], capture_output=True, text=True, check=True).stdout
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


class Redis:
    def __init__(self, directory, port):
        self.port = port
        self.log = os.path.join(directory, "redis.log")
        open(self.log, "w", encoding="utf-8").close()
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--logfile",
             self.log], stdout=subprocess.DEVNULL)

    def wait(self):
        while True:
            if self.process.poll() is not None:
                sys.exit("redis-server ended: " + open(self.log, encoding="utf-8").read()[-1000:])
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                    link.settimeout(60)
                    link.sendall(b"PING\r\n")
                    if link.recv(100).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.05)

    def loaded_seconds(self):
        with open(self.log, encoding="utf-8") as log:
            return float(re.search(r"DB loaded from disk: ([0-9.]+) seconds", log.read()).group(1))

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        subprocess.run(["redis-cli", "-p", str(self.port), "shutdown", "nosave"], check=False)
        self.process.wait()


def redis_fill(bench, directory, port, keys, value_bytes):
    """An RDB file of the keys; gives the pause of the fork in milliseconds."""
    redis = Redis(directory, port)
    redis.wait()
    source = subprocess.Popen([bench, "resp", str(keys), str(value_bytes)], stdout=subprocess.PIPE)
    subprocess.run(["redis-cli", "-p", str(port), "--pipe"], stdin=source.stdout, stdout=subprocess.DEVNULL, check=True)
    source.wait()
    subprocess.run(["redis-cli", "-p", str(port), "bgsave"], stdout=subprocess.DEVNULL, check=True)
    while info(port, "persistence")["rdb_bgsave_in_progress"] != "0":
        time.sleep(0.1)
    fork_ms = int(info(port, "stats")["latest_fork_usec"]) / 1000
    redis.stop()
    return fork_ms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=21700)
    args = parser.parse_args()
    bench = os.path.join(args.build, "tests", "bench", "snapshot_bench")
    ratios = []
    with tempfile.TemporaryDirectory() as directory:
        fork_ms = redis_fill(bench, directory, args.port, args.keys, args.value_bytes)
        print(f"redis-server: fork of BGSAVE {fork_ms:.1f} ms", flush=True)
        for i in range(args.rounds):
            out = subprocess.run([bench, str(args.keys), str(args.value_bytes), "20", os.path.join(directory, "stream")],
                                 capture_output=True, text=True, check=True).stdout
            print(out)
            found = re.search(r"same hash seed:.*read\(\) ([0-9.]+) s of processor, ([0-9.]+) s by", out)
            ours, ours_clock = (float(seconds) for seconds in found.groups())
            redis = Redis(directory, args.port)
            redis.wait()
            theirs, theirs_clock = redis.processor_seconds(), redis.loaded_seconds()
            redis.stop()
            ratios.append(theirs / ours)
            print(f"round {i + 1}: load {ours:.2f} s of processor, {ours_clock:.2f} s by the clock; redis-server "
                  f"{theirs:.2f} s and {theirs_clock:.2f} s: {theirs / ours:.2f} and {theirs_clock / ours_clock:.2f} times",
                  flush=True)
    print(f"processor time: median {statistics.median(ratios):.2f} times, from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
