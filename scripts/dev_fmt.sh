# fmt: formats the C code in place with clang-format
#
# usage: ./dev fmt [FILE...]
#
# Without files, all tracked C files.

dev_fmt() {
    run_command deps lint
    cd "$ROOT"
    if [ $# -gt 0 ]; then
        clang-format -i "$@"
    else
        git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i
    fi
}
