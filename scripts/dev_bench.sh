# bench: measures Lockstep beside redis-server and etcd on this machine
#
# usage: ./dev bench [ARGUMENTS of tests/bench/run.py]
#
# Starts Lockstep (three nodes), redis-server (three ways) and etcd (three nodes) one after the other, interleaves rounds and
# prints throughput, percentiles and ratios. --json FILE keeps the figures. Takes minutes; see tests/bench/run.py --help.

dev_bench() {
    run_command deps build raft bench
    run_command build release lockstepd lockstep
    cd "$ROOT"
    exec python3 tests/bench/run.py "$@"
}
