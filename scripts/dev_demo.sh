# demo: builds, then runs a local three-node cluster until Ctrl-C
#
# usage: ./dev demo [ARGUMENTS of lockstep dev]
#
# Runs build/lockstep dev --nodes 3 in the foreground. It prints the addresses and `ready`; any Redis client may then use
# any of the nodes, for example redis-cli -p 7379. See build/lockstep dev --help for the arguments (--dir, --port, ...).

dev_demo() {
    run_command build release lockstepd lockstep
    cd "$ROOT"
    exec "$BUILD/lockstep" dev --nodes 3 "$@"
}
