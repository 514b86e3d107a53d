// Package check judges histories. Each checker says what it demands; none of them trusts the cluster's own word.
package check

import (
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"

	"lockstep/jepsen/history"
)

// Result of a checker.
type Result struct {
	Checker    string
	Violations []string                // with what is needed to see them; empty: none found
	Undecided  []string                // the checker gave up: neither good nor bad
	Checked    int                     // operations that took part
	Visual     func(path string) error `json:"-"` // Porcupine's picture of the first violation
}

// Good if it found nothing and decided everything.
func (r *Result) Good() bool { return len(r.Violations) == 0 && len(r.Undecided) == 0 }

const violationsMax = 50

func (r *Result) violate(format string, args ...interface{}) {
	if len(r.Violations) < violationsMax {
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	}
}

// describe an operation for people.
func describe(op *history.Op) string {
	text := fmt.Sprintf("[%.6f..%.6f] process %d node %d %s key %d", float64(op.Invoke)/1e9, float64(op.Return)/1e9,
		op.Process, op.Node, op.F, op.Key)
	if op.Via != "" {
		text += " via " + op.Via
	}
	if op.F == "txn" {
		return text + fmt.Sprintf(" %+v %s", op.Txn, op.Outcome)
	}
	return text + fmt.Sprintf(" arg %d,%d -> %s %s %s", op.Arg, op.Arg2, op.Outcome, show(op.Result), op.Error)
}

func show(v int64) string {
	if v == history.Nil {
		return "nil"
	}
	return fmt.Sprint(v)
}

// byKey groups operations that may have had an effect or returned something.
func byKey(ops []history.Op) map[int][]*history.Op {
	groups := map[int][]*history.Op{}
	for i := range ops {
		if ops[i].Outcome != history.Fail {
			groups[ops[i].Key] = append(groups[ops[i].Key], &ops[i])
		}
	}
	return groups
}

func sortedKeys(groups map[int][]*history.Op) []int {
	keys := make([]int, 0, len(groups))
	for key := range groups {
		keys = append(keys, key)
	}
	sort.Ints(keys)
	return keys
}

// Linearizable checks every key's operations against a model with Porcupine. `step` gets Nil for the state of an absent
// key, and says if the operation could have had its result in that state. An unknown operation may take effect at any
// time after its invocation, or never; one that only reads is left out.
func Linearizable(name string, ops []history.Op, onlyReads func(*history.Op) bool, limit time.Duration,
	step func(state int64, op *history.Op) (bool, int64)) *Result {
	result := &Result{Checker: name}
	model := porcupine.Model{
		Init: func() interface{} { return history.Nil },
		Step: func(state, input, _ interface{}) (bool, interface{}) {
			return stepAny(step, state.(int64), input.(*history.Op))
		},
		DescribeOperation: func(input, _ interface{}) string { return describe(input.(*history.Op)) },
		DescribeState:     func(state interface{}) string { return show(state.(int64)) },
	}
	groups := byKey(ops)
	deadline := time.Now().Add(limit)
	for _, key := range sortedKeys(groups) {
		var list []porcupine.Operation
		for _, op := range groups[key] {
			end := op.Return
			if op.Outcome == history.Info {
				if onlyReads(op) {
					continue
				}
				end = math.MaxInt64
			}
			list = append(list, porcupine.Operation{ClientId: op.Process, Input: op, Call: op.Invoke, Output: op.Result,
				Return: end})
		}
		result.Checked += len(list)
		left := time.Until(deadline)
		if left < 100*time.Millisecond {
			left = 100 * time.Millisecond
		} else if left > limit/10 {
			left = limit / 10 // one hard key must not cost the others their check
		}
		verdict, info := porcupine.CheckOperationsVerbose(model, list, left)
		switch verdict {
		case porcupine.Illegal:
			result.violate("key %d is not linearizable: %d operations", key, len(list))
			if result.Visual == nil {
				result.Visual = func(path string) error { return porcupine.VisualizePath(model, info, path) }
			}
		case porcupine.Unknown:
			result.Undecided = append(result.Undecided, fmt.Sprintf("key %d: Porcupine ran out of time on %d operations",
				key, len(list)))
		}
	}
	return result
}

func stepAny(step func(int64, *history.Op) (bool, int64), state int64, op *history.Op) (bool, interface{}) {
	ok, next := step(state, op)
	return ok, next
}

// Register: read, write, swap (GETSET), del and cas on one integer per key.
func Register(ops []history.Op, limit time.Duration) *Result {
	isRead := func(op *history.Op) bool { return op.F == "read" }
	return Linearizable("register", ops, isRead, limit, registerStep)
}

func registerStep(state int64, op *history.Op) (bool, int64) {
	known := op.Outcome == history.OK
	switch op.F {
	case "read":
		return op.Result == state, state
	case "write":
		return true, op.Arg
	case "swap":
		return !known || op.Result == state, op.Arg
	case "cas": // a cas that met another value has the outcome fail, and is not here
		if state == op.Arg {
			return true, op.Arg2
		}
		return !known, state
	}
	panic("register: unknown operation " + op.F)
}

// Lock: one holder per key. acquire gives 1 or 0 (held by somebody), release gives 1 or 0 (not ours), holder reads.
func Lock(ops []history.Op, limit time.Duration) *Result {
	isRead := func(op *history.Op) bool { return op.F == "read" }
	return Linearizable("lock", ops, isRead, limit, lockStep)
}

func lockStep(state int64, op *history.Op) (bool, int64) {
	known := op.Outcome == history.OK
	switch op.F {
	case "read":
		return op.Result == state, state
	case "acquire":
		if state == history.Nil {
			return !known || op.Result == 1, op.Arg
		}
		return !known || op.Result == 0, state
	case "release":
		if state == op.Arg {
			return !known || op.Result == 1, history.Nil
		}
		return !known || op.Result == 0, state
	}
	panic("lock: unknown operation " + op.F)
}
