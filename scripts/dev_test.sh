# test: builds and runs all tests; ends with a line "N passed, N failed"
#
# usage: ./dev test [--preset PRESET] [PART...]
#
# Parts, in this order by default: unit, sim (a few dozen seeds, the named scenarios, the planted bugs), fuzz (replay of
# the kept inputs), integration (real processes), conformance (random commands, compared with redis-server). More of each:
# ./dev sim, ./dev fuzz, tests/integration/run.py --help, tests/conformance/. Exits 1 if anything failed. Logs are kept in
# test-logs/ of the build directory. --preset runs the parts with another build than release: asan, tsan, debug (see
# ./dev build).

PARTS="unit sim fuzz integration conformance"
PASSED=0
FAILED=0

part_unit() {
    run_ctest --label-exclude sim --exclude-regex '_corpus$'
}

part_sim() {
    run_ctest --label-regex sim
}

part_fuzz() {
    run_ctest --tests-regex '_corpus$'
}

part_integration() {
    # a server with bugs, for the test of what finds them, and what stands between a server and its disk
    if [ -e "$BUILD/build.ninja" ]; then cmake --build "$BUILD" --target lockstepd_planted lockstep_faults >/dev/null; fi
    python3 "$ROOT/tests/integration/run.py"
}

part_conformance() {
    python3 "$ROOT/tests/conformance/run.py" --commands 20000 --seed 1
}

# Counts single tests inside the libcheck executables, not just executables.
run_ctest() { # SELECTION...
    local results=$DIR/test-logs/ctest.xml
    rm -f "$results"
    ctest --test-dir "$DIR" --output-on-failure -j "$(nproc)" --output-junit "$results" "$@" || true
    python3 "$ROOT/scripts/count_ctest.py" "$results"
}

# run_part NAME FUNCTION: adds to PASSED and FAILED what the part's last "N passed, N failed" line says; a part that prints
# none, or fails without saying so, counts as one.
run_part() {
    local name=$1 log=$DIR/test-logs/$1.log status=0 line passed=0 failed=0 start=$SECONDS
    shift
    say "$name"
    (set -e; "$@") 2>&1 | tee "$log" || status=$?
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1 || true)
    if [ -n "$line" ]; then
        passed=${line%% *}
        failed=${line#*, }
        failed=${failed%% *}
    elif [ $status -eq 0 ]; then
        passed=1
    fi
    [ $status -ne 0 ] && [ "$failed" -eq 0 ] && failed=1
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
    SUMMARY+="$(printf '  %-12s %5d passed, %3d failed  %4d s' "$name" "$passed" "$failed" $((SECONDS - start)))"$'\n'
}

print_summary() {
    printf '\n%s%d passed, %d failed\n' "$SUMMARY" "$PASSED" "$FAILED"
    [ "$FAILED" -eq 0 ]
}

dev_test() {
    local part parts preset=release DIR=$BUILD SUMMARY=
    if [ "${1:-}" = --preset ]; then
        preset=${2:?--preset needs a name}
        shift 2
        [ "$preset" = release ] || DIR=$BUILD/$preset
    fi
    export LOCKSTEPD=$DIR/lockstepd
    parts=("$@")
    # shellcheck disable=SC2206
    [ $# -eq 0 ] && parts=($PARTS)
    for part in "${parts[@]}"; do
        case " $PARTS " in
        *" $part "*) ;;
        *) die "no part '$part'; there are: $PARTS" ;;
        esac
    done
    run_command deps
    run_command build "$preset"
    mkdir -p "$DIR/test-logs"
    for part in "${parts[@]}"; do
        run_part "$part" "part_$part"
    done
    print_summary
}
