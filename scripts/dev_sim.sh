# sim: runs simulated clusters with faults, one per seed, and checks the invariants
#
# usage: ./dev sim [--seeds N] [--seed S] [...]
#        ./dev sim --planted
#
# --seeds N runs N seeds (default 100) from --seed S (default 1) on; a failing one prints the command that replays it.
# --planted breaks one rule at a time (acknowledge before sync, skip the barrier, vote twice, apply twice) and demands that
# the simulator notices each. Everything else is passed on: ./dev sim --list-options.

dev_sim() {
    run_command build release
    exec "$BUILD/tests/sim/sim" "$@"
}
