# lint: checks layers, sizes, format and, without --quick, runs clang-tidy
#
# usage: ./dev lint [--quick]
#
# The layer arrows of docs/ARCHITECTURE.md, functions of at most 70 and files of at most 900 lines, clang-format, white
# space, words that must not be in the tree, packages against docs/DEPENDENCIES.md, shell and Python syntax. Without
# --quick also clang-tidy with .clang-tidy, on every source file (minutes). Each finding is a line file:line: message.

lint_tidy() {
    local files
    run_command build release
    say "clang-tidy"
    files=$(cd "$ROOT" && git ls-files '*.c' | grep -v '^tests/fuzz/')
    # shellcheck disable=SC2086
    (cd "$ROOT" && printf '%s\n' $files | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build 2>/dev/null)
}

dev_lint() {
    local failed=0
    case ${1:-} in '' | --quick) ;; *) die "unknown argument '$1'; see ./dev lint --help" ;; esac
    run_command deps test lint
    python3 "$ROOT/scripts/lint.py" || failed=1
    if [ "${1:-}" != --quick ]; then lint_tidy || failed=1; fi
    [ $failed -eq 0 ] || die "lint found something"
    say "lint: clean"
}
