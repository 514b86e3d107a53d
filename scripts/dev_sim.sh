# sim: runs simulated clusters with faults, one per seed, and checks the invariants
#
# usage: ./dev sim [--seeds N] [--seed S] [--scenario NAME|all] [...]
#        ./dev sim --planted [NAME]
#
# --seeds N runs N seeds (default 100) from --seed S (default 1) on; a failing one prints the command that replays it.
# --planted breaks one rule at a time (acknowledge before sync, skip the barrier, vote twice, apply twice, ...), or only the
# named one, and demands that the scenario about it notices, with each of 20 seeds; it also says which of 50 seeds with
# random faults is the first to notice. ./dev sim --list names scenarios and plants, ./dev sim --options everything that
# build/sim takes.

dev_sim() {
    run_command build release sim sim_planted
    cd "$ROOT"
    case ${1:-} in
    --planted) exec "$BUILD/sim_planted" --plant "${2:-all}" --seeds 20 --random 50 ;;
    --options) exec "$BUILD/sim" --help ;;
    *) exec "$BUILD/sim" "$@" ;;
    esac
}
