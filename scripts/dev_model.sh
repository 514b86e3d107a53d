# model: searches the model of leases and grants (tests/model), and with each of its rules broken
#
# usage: ./dev model [--deep] [--trace] [--list] [NAME...]
#
# Every state of the protocol within stated bounds is visited: no local read may miss a write that was shown. Then one
# rule at a time is broken (no vote guard, a grant outliving its lease, ...), and each time a counter-example must be
# found. About a minute. --trace prints the examples' steps, --deep widens the bounds (minutes), NAME selects searches
# (--list names them). What the model shows and what it leaves out: docs/CONSISTENCY.md.

dev_model() {
    run_command deps model
    exec python3 "$ROOT/tests/model/run.py" "$@"
}
