# jepsen: fault tests on real processes, judged by independent checkers (as root)
#
# usage: ./dev jepsen [--workload W] [--nemesis N[,N]] [--time S] [--rate R] [--seed S] [...]
#        ./dev jepsen list | matrix [--quick] [--resume] | planted | failover [--faults N] | test | help
#
# Runs five lockstepd processes in network namespaces of their own, lets clients and faults act, heals, and checks what the
# clients saw. Each run leaves a directory in jepsen/results/; its index.html tells all. `list` names workloads and faults,
# `matrix` runs them all, `planted` shows that bugs planted into the server are caught, `failover` measures the time without
# writes after the leader is lost, `test` runs the checkers' own tests (no root needed). jepsen/README.md has the details.

dev_jepsen() {
    run_command deps build raft jepsen
    cd "$ROOT"
    if [ "${1:-}" = test ]; then
        jepsen_test
        return
    fi
    local targets=(lockstepd lockstep lockstep_faults)
    case " $* " in
    *" planted "* | *" --plant"*) targets+=(lockstepd_planted) ;;
    esac
    run_command build release "${targets[@]}"
    (cd jepsen && go build -o "$BUILD/jepsen/jepsen" .)
    [ "$(id -u)" -eq 0 ] || die "network namespaces need root: sudo ./dev jepsen ..."
    exec "$BUILD/jepsen/jepsen" "$@"
}

# The last line counts as those of the other tests do.
jepsen_test() {
    local log status=0
    log=$(mktemp)
    (cd jepsen && go vet ./... && go test -v ./...) >"$log" 2>&1 || status=$?
    grep -E '^(ok|FAIL|---|panic|#)|_test\.go' "$log" | grep -v '^--- PASS' || true
    printf '%d passed, %d failed\n' "$(grep -c '^--- PASS' "$log")" "$(grep -c '^--- FAIL' "$log")"
    rm -f "$log"
    return $status
}
