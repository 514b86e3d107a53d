#!/usr/bin/env bash
# Smoke tests of unmodified Redis clients, RESP2 and RESP3: connect, set/get, pipeline, transaction, expire.
#
# usage: tests/conformance/clients/run.sh HOST:PORT [CLIENT...]
#
# Installs the pinned versions of redis-py, go-redis, ioredis, jedis and redis-rs from their registries into build/clients/
# and runs each against the server. A client whose tool chain this machine lacks is named as skipped. Ends with
# "N passed, N failed"; the exit status is 1 if anything failed.
set -uo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=${LOCKSTEP_CLIENTS_BUILD:-$HERE/../../../build/clients}
CLIENTS="redis-py go-redis ioredis jedis redis-rs"

tool_of() {
    case $1 in
    redis-py) echo python3 ;; go-redis) echo go ;; ioredis) echo npm ;; jedis) echo mvn ;; redis-rs) echo cargo ;;
    esac
}

# Copies the sources, so that tools leave nothing in the tree, and installs what the client needs.
install_client() { # NAME
    mkdir -p "$OUT/$1" && cp -R "$HERE/$1/." "$OUT/$1/" && cd "$OUT/$1" || return 1
    case $1 in
    redis-py) python3 -m pip install -q --disable-pip-version-check --target site --upgrade -r requirements.txt ;;
    go-redis) go build -mod=readonly -o smoke . ;;
    ioredis) npm ci --no-audit --no-fund --loglevel=error ;;
    jedis) mvn -q -B -Dbuild.place="$PWD/target" compile dependency:copy-dependencies ;;
    redis-rs) cargo build --quiet --locked ;;
    esac
}

run_client() { # NAME HOST PORT PROTOCOL
    local name=$1
    shift
    cd "$OUT/$name" || return 1
    case $name in
    redis-py) PYTHONPATH=site timeout 60 python3 smoke.py "$@" ;;
    go-redis) timeout 60 ./smoke "$@" ;;
    ioredis) timeout 60 node smoke.js "$@" ;;
    jedis) timeout 60 java -cp "target/classes:target/dependency/*" Smoke "$@" ;;
    redis-rs) timeout 60 target/debug/lockstep-smoke-redis-rs "$@" ;;
    esac
}

main() {
    local address=${1:-} name protocol log passed=0 failed=0
    case $address in
    *:*) ;;
    *)
        sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$HERE/run.sh"
        exit 2
        ;;
    esac
    shift
    [ $# -gt 0 ] || set -- $CLIENTS
    mkdir -p "$OUT"
    for name in "$@"; do
        [ -n "$(tool_of "$name")" ] || { echo "no client '$name'; there are: $CLIENTS" >&2; exit 2; }
        if ! command -v "$(tool_of "$name")" >/dev/null; then
            echo "skip $name: this machine has no $(tool_of "$name")"
            continue
        fi
        log=$OUT/$name.log
        if ! (install_client "$name") >"$log" 2>&1; then
            echo "FAIL $name: not installed"
            tail -n 20 "$log"
            failed=$((failed + 1))
            continue
        fi
        for protocol in 2 3; do
            if (run_client "$name" "${address%:*}" "${address##*:}" "$protocol") >"$log" 2>&1; then
                echo "ok   $name RESP$protocol"
                passed=$((passed + 1))
            else
                echo "FAIL $name RESP$protocol"
                tail -n 20 "$log"
                failed=$((failed + 1))
            fi
        done
    done
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

main "$@"
