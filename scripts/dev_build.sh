# build: builds build/lockstepd and build/lockstep
#
# usage: ./dev build [PRESET] [TARGET...]
#
# Installs missing dependencies first (./dev deps). Presets: release (the default, in build/), debug, asan, tsan, fuzz, clang
# (each in build/<preset>/). Without targets everything is built, tests included.

link_compile_commands() {
    [ -e "$ROOT/compile_commands.json" ] || ln -sf build/compile_commands.json "$ROOT/compile_commands.json"
}

dev_build() {
    local preset=${1:-release} dir=$BUILD log targets=()
    [ $# -gt 0 ] && shift
    [ $# -gt 0 ] && targets=(--target "$@")
    case $preset in
    release) ;;
    debug | asan | tsan | fuzz | clang) dir=$BUILD/$preset ;;
    *) die "no preset '$preset'; there are: release debug asan tsan fuzz clang" ;;
    esac
    run_command deps build raft
    case $preset in fuzz | clang) run_command deps fuzz ;; esac
    cd "$ROOT"
    say "building ($preset) in ${dir#"$ROOT"/}/"
    log=$(mktemp)
    cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; die "configuring failed"; }
    rm -f "$log"
    cmake --build "$dir" "${targets[@]}" >&2
    link_compile_commands
}
