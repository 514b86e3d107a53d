# fuzz: runs a fuzzer (libFuzzer) over one decoder, or all of them in turn
#
# usage: ./dev fuzz [NAME] [SECONDS]
#
# Without a name every fuzzer runs, SECONDS (default 60) each. Inputs that matter are kept in tests/fuzz/corpus/NAME/ and
# replayed by ./dev test; what fails is written to build/fuzz/NAME-crash-*.

fuzz_names() {
    local source
    for source in "$ROOT"/tests/fuzz/fuzz_*.c; do
        source=${source##*/fuzz_}
        echo "${source%.c}"
    done
}

dev_fuzz() {
    local names=${1:-} seconds=${2:-60} name
    case $names in
    '') names=$(fuzz_names) ;;
    *[!0-9]*) [ -e "$ROOT/tests/fuzz/fuzz_$names.c" ] || die "no fuzzer '$names'; there are: $(fuzz_names | tr '\n' ' ')" ;;
    *) seconds=$names names=$(fuzz_names) ;;
    esac
    run_command build fuzz
    for name in $names; do
        say "fuzzing $name for $seconds s"
        mkdir -p "$BUILD/fuzz/found/$name"
        "$BUILD/fuzz/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="$BUILD/fuzz/$name-" "$BUILD/fuzz/found/$name" "$ROOT/tests/fuzz/corpus/$name"
    done
}
