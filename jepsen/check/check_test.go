package check

import (
	"strings"
	"testing"
	"time"

	"lockstep/jepsen/history"
)

const limit = 10 * time.Second

// op is an operation from `from` to `to`, by a process of its own unless the edits say otherwise.
func op(f string, from, to int64, outcome history.Outcome, edit ...func(*history.Op)) history.Op {
	o := history.Op{F: f, Invoke: from, Return: to, Outcome: outcome, Process: int(from)}
	for _, e := range edit {
		e(&o)
	}
	return o
}

func arg(v int64) func(*history.Op)    { return func(o *history.Op) { o.Arg = v } }
func arg2(v int64) func(*history.Op)   { return func(o *history.Op) { o.Arg2 = v } }
func result(v int64) func(*history.Op) { return func(o *history.Op) { o.Result = v } }
func list(v ...int64) func(*history.Op) {
	return func(o *history.Op) { o.List = append([]int64{}, v...) }
}
func via(s string) func(*history.Op)         { return func(o *history.Op) { o.Via = s } }
func process(p int) func(*history.Op)        { return func(o *history.Op) { o.Process = p } }
func txn(m ...history.Mop) func(*history.Op) { return func(o *history.Op) { o.Txn = m } }

func r(key int, v ...int64) history.Mop { return history.Mop{F: "r", Key: key, List: v, Seen: true} }
func app(key int, v int64) history.Mop  { return history.Mop{F: "append", Key: key, Arg: v} }

func good(t *testing.T, r *Result) {
	t.Helper()
	if !r.Good() {
		t.Fatalf("a correct history was called wrong: %v %v", r.Violations, r.Undecided)
	}
}

func bad(t *testing.T, r *Result, word string) {
	t.Helper()
	for _, violation := range r.Violations {
		if strings.Contains(violation, word) {
			return
		}
	}
	t.Fatalf("no violation with %q found: %v", word, r.Violations)
}

// --- register ---

func TestRegisterAcceptsConcurrentOrders(t *testing.T) {
	good(t, Register([]history.Op{
		op("write", 1, 10, history.OK, arg(1)),
		op("read", 2, 5, history.OK, result(1)),
		op("read", 2, 4, history.OK, result(history.Nil)),
		op("swap", 11, 12, history.OK, arg(2), result(1)),
		op("cas", 13, 14, history.OK, arg(2), arg2(3)),
		op("read", 15, 16, history.OK, result(3)),
	}, limit))
}

func TestRegisterFindsStaleRead(t *testing.T) {
	bad(t, Register([]history.Op{
		op("write", 1, 2, history.OK, arg(1)),
		op("write", 3, 4, history.OK, arg(2)),
		op("read", 5, 6, history.OK, result(1)),
	}, limit), "not linearizable")
}

func TestRegisterFindsLostWrite(t *testing.T) {
	bad(t, Register([]history.Op{
		op("write", 1, 2, history.OK, arg(1)),
		op("read", 5, 6, history.OK, result(history.Nil)),
	}, limit), "not linearizable")
}

func TestRegisterFindsReadThatGoesBack(t *testing.T) {
	bad(t, Register([]history.Op{
		op("write", 1, 2, history.OK, arg(1)),
		op("write", 3, 20, history.Info, arg(2)),
		op("read", 5, 6, history.OK, result(2)),
		op("read", 7, 8, history.OK, result(1)),
	}, limit), "not linearizable")
}

func TestRegisterAllowsUnknownWriteLate(t *testing.T) {
	good(t, Register([]history.Op{
		op("write", 1, 2, history.OK, arg(1)),
		op("write", 3, 4, history.Info, arg(2)),
		op("read", 5, 6, history.OK, result(1)),
		op("read", 90, 91, history.OK, result(2)),
	}, limit))
}

func TestRegisterFindsWriteThatSaidNotExecuted(t *testing.T) {
	bad(t, Register([]history.Op{
		op("write", 1, 2, history.OK, arg(1)),
		op("write", 3, 4, history.Fail, arg(2)),
		op("read", 5, 6, history.OK, result(2)),
	}, limit), "not linearizable")
}

func TestRegisterFindsLostUpdateByCAS(t *testing.T) {
	bad(t, Register([]history.Op{
		op("write", 1, 2, history.OK, arg(1)),
		op("cas", 3, 6, history.OK, arg(1), arg2(2)),
		op("cas", 4, 7, history.OK, arg(1), arg2(3)),
	}, limit), "not linearizable")
}

// --- lock ---

func TestLockAcceptsUnknownAcquireThatHappened(t *testing.T) {
	good(t, Lock([]history.Op{
		op("acquire", 1, 2, history.Info, arg(1)),
		op("acquire", 3, 4, history.OK, arg(2), result(0)),
		op("release", 5, 6, history.OK, arg(1), result(1)),
		op("acquire", 7, 8, history.OK, arg(3), result(1)),
	}, limit))
}

func TestLockFindsTwoHolders(t *testing.T) {
	bad(t, Lock([]history.Op{
		op("acquire", 1, 2, history.OK, arg(1), result(1)),
		op("acquire", 3, 4, history.OK, arg(2), result(1)),
		op("release", 5, 6, history.OK, arg(1), result(1)),
	}, limit), "not linearizable")
}

// --- counter ---

func TestCounterAcceptsGapOfUnknownIncrement(t *testing.T) {
	good(t, Counter([]history.Op{
		op("incr", 1, 2, history.OK, result(1)),
		op("incr", 3, 4, history.Info),
		op("incr", 5, 6, history.OK, result(3)),
		op("read", 7, 8, history.OK, result(3)),
	}))
}

func TestCounterFindsDoubleApply(t *testing.T) {
	bad(t, Counter([]history.Op{
		op("incr", 1, 2, history.OK, result(1)),
		op("incr", 3, 4, history.OK, result(3)),
	}), "had begun")
}

func TestCounterFindsLostIncrement(t *testing.T) {
	bad(t, Counter([]history.Op{
		op("incr", 1, 2, history.OK, result(1)),
		op("incr", 3, 4, history.OK, result(2)),
		op("read", 5, 6, history.OK, result(1)),
	}), "goes back")
}

func TestCounterFindsSameValueTwice(t *testing.T) {
	bad(t, Counter([]history.Op{
		op("incr", 1, 5, history.OK, result(1)),
		op("incr", 2, 6, history.OK, result(1)),
	}), "two increments")
}

func TestCounterFindsIncrementThatSaidNotExecuted(t *testing.T) {
	bad(t, Counter([]history.Op{
		op("incr", 1, 2, history.Fail),
		op("read", 3, 4, history.OK, result(1)),
	}), "had begun")
}

// --- set ---

func TestSetAcceptsUnknownAddSeenOrNot(t *testing.T) {
	good(t, Set([]history.Op{
		op("add", 1, 2, history.OK, arg(1)),
		op("add", 3, 4, history.Info, arg(2)),
		op("add", 3, 4, history.Info, arg(3)),
		op("read", 5, 6, history.OK, list(1)),
		op("read", 7, 8, history.OK, list(1, 3)),
	}))
}

func TestSetFindsLostElement(t *testing.T) {
	bad(t, Set([]history.Op{
		op("add", 1, 2, history.OK, arg(1)),
		op("read", 3, 4, history.OK, list()),
	}), "missing")
}

func TestSetFindsElementThatVanishes(t *testing.T) {
	bad(t, Set([]history.Op{
		op("add", 1, 9, history.Info, arg(1)),
		op("read", 2, 3, history.OK, list(1)),
		op("read", 4, 5, history.OK, list()),
	}), "missing")
}

func TestSetFindsRefusedElement(t *testing.T) {
	bad(t, Set([]history.Op{
		op("add", 1, 2, history.Fail, arg(1)),
		op("read", 3, 4, history.OK, list(1)),
	}), "refused")
}

func TestSetFindsElementFromNowhere(t *testing.T) {
	bad(t, Set([]history.Op{
		op("add", 1, 2, history.OK, arg(1)),
		op("read", 3, 4, history.OK, list(1, 7)),
	}), "nobody added")
}

// --- bank ---

func TestBankAcceptsConservedSum(t *testing.T) {
	good(t, Bank([]history.Op{
		op("transfer", 1, 2, history.OK),
		op("read", 3, 4, history.OK, list(60, 40)),
	}, 2, 100))
}

func TestBankFindsCreatedMoney(t *testing.T) {
	bad(t, Bank([]history.Op{
		op("transfer", 1, 2, history.OK),
		op("read", 3, 4, history.OK, list(60, 50)),
	}, 2, 100), "sum")
}

func TestBankFindsNegativeAndAbsentAccounts(t *testing.T) {
	bad(t, Bank([]history.Op{
		op("transfer", 1, 2, history.OK),
		op("read", 3, 4, history.OK, list(-10, 110)),
	}, 2, 100), "below 0")
}

func TestBankWithoutTransfersSaysNothing(t *testing.T) {
	if Bank([]history.Op{op("read", 3, 4, history.OK, list(50, 50))}, 2, 100).Good() {
		t.Fatal("a run without transfers was called good")
	}
}

// --- ttl ---

const ms = int64(time.Millisecond)

var bounds = TTLBounds{Fast: 1.03, Late: time.Second}

func TestTTLAcceptsLifeAndDeath(t *testing.T) {
	good(t, TTL([]history.Op{
		op("write", 0, 1*ms, history.OK, arg(5), arg2(100)),
		op("read", 50*ms, 51*ms, history.OK, result(5)),
		op("read", 101*ms, 102*ms, history.OK, result(history.Nil)),
	}, bounds))
}

func TestTTLFindsResurrection(t *testing.T) {
	bad(t, TTL([]history.Op{
		op("write", 0, 1*ms, history.OK, arg(5), arg2(100)),
		op("read", 101*ms, 102*ms, history.OK, result(history.Nil)),
		op("read", 103*ms, 104*ms, history.OK, result(5)),
	}, bounds), "came back")
}

func TestTTLFindsEarlyDeath(t *testing.T) {
	bad(t, TTL([]history.Op{
		op("write", 0, 1*ms, history.OK, arg(5), arg2(100)),
		op("read", 80*ms, 81*ms, history.OK, result(history.Nil)),
	}, bounds), "died early")
}

func TestTTLFindsEternalLife(t *testing.T) {
	bad(t, TTL([]history.Op{
		op("write", 0, 1*ms, history.OK, arg(5), arg2(100)),
		op("read", 1200*ms, 1201*ms, history.OK, result(5)),
	}, bounds), "too long")
}

func TestTTLAllowsUnknownWriteToComeLater(t *testing.T) {
	good(t, TTL([]history.Op{
		op("write", 0, 1*ms, history.Info, arg(5), arg2(100)),
		op("read", 2*ms, 3*ms, history.OK, result(history.Nil)),
		op("read", 4*ms, 5*ms, history.OK, result(5)),
		op("read", 110*ms, 120*ms, history.OK, result(history.Nil)),
	}, bounds))
}

// --- modes ---

func TestModesAcceptStaleAndFindSessionThatGoesBack(t *testing.T) {
	h := []history.Op{
		op("write", 1, 2, history.OK, arg(1), process(1)),
		op("write", 3, 4, history.OK, arg(2), process(1)),
		op("read", 5, 6, history.OK, result(1), via("stale"), process(2)),
		op("read", 7, 8, history.OK, result(1), via("session"), process(3)),
	}
	good(t, Modes(h))
	bad(t, Modes(append(h, op("read", 9, 10, history.OK, result(history.Nil), via("session"), process(3)))), "session saw")
	bad(t, Modes(append(h, op("read", 9, 10, history.OK, result(1), via("session"), process(1)))), "session saw")
}

func TestModesFindStaleLinearizableReadAndBrokenBound(t *testing.T) {
	h := []history.Op{
		op("write", 1*ms, 2*ms, history.OK, arg(1), process(1)),
		op("write", 3*ms, 4*ms, history.OK, arg(2), process(1)),
	}
	bad(t, Modes(append(h, op("read", 5*ms, 6*ms, history.OK, result(1), via("linearizable")))), "acknowledged before")
	good(t, Modes(append(h, op("read", 50*ms, 51*ms, history.OK, result(1), via("stale"), arg2(100)))))
	bad(t, Modes(append(h, op("read", 200*ms, 201*ms, history.OK, result(1), via("stale"), arg2(100)))), "bound")
	bad(t, Modes(append(h, op("read", 5*ms, 6*ms, history.OK, result(3), via("stale")))), "newest begun")
}

// --- list-append: the anomalies of Adya and of Elle's paper ---

func elleOf(ops ...history.Op) *Result { return ListAppend(ops) }

func TestAppendAcceptsSerialHistory(t *testing.T) {
	good(t, elleOf(
		op("txn", 1, 2, history.OK, txn(app(1, 1), r(1, 1))),
		op("txn", 3, 4, history.OK, txn(r(1, 1), app(2, 1), app(1, 2))),
		op("txn", 5, 6, history.OK, txn(r(1, 1, 2), r(2, 1))),
	))
}

func TestAppendAcceptsUnknownThatHappened(t *testing.T) {
	good(t, elleOf(
		op("txn", 1, 2, history.Info, txn(app(1, 1))),
		op("txn", 3, 4, history.OK, txn(r(1))),
		op("txn", 5, 6, history.OK, txn(r(1, 1))),
	))
}

func TestAppendFindsG0(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 10, history.OK, txn(app(1, 1), app(2, 1))),
		op("txn", 1, 10, history.OK, txn(app(1, 2), app(2, 2))),
		op("txn", 2, 11, history.OK, txn(r(1, 1, 2), r(2, 2, 1))),
	), "G0")
}

func TestAppendFindsG1a(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 2, history.Fail, txn(app(1, 1))),
		op("txn", 3, 4, history.OK, txn(r(1, 1))),
	), "G1a")
}

func TestAppendFindsG1b(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 10, history.OK, txn(app(1, 1), app(1, 2))),
		op("txn", 2, 11, history.OK, txn(r(1, 1))),
		op("txn", 12, 13, history.OK, txn(r(1, 1, 2))),
	), "G1b")
}

func TestAppendFindsG1c(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 10, history.OK, txn(app(1, 1), r(2, 1))),
		op("txn", 2, 11, history.OK, txn(app(2, 1), r(1, 1))),
	), "G1c")
}

func TestAppendFindsGSingle(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 10, history.OK, txn(app(1, 1), app(2, 1))),
		op("txn", 2, 11, history.OK, txn(r(1, 1), r(2))),
		op("txn", 12, 13, history.OK, txn(r(2, 1))),
	), "G-single:")
}

func TestAppendFindsWriteSkew(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 10, history.OK, txn(r(1), app(2, 1))),
		op("txn", 2, 11, history.OK, txn(r(2), app(1, 1))),
		op("txn", 12, 13, history.OK, txn(r(1, 1), r(2, 1))),
	), "G2:")
}

func TestAppendFindsStaleReadByRealTime(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 2, history.OK, txn(app(1, 1))),
		op("txn", 3, 4, history.OK, txn(r(1))),
		op("txn", 5, 6, history.OK, txn(r(1, 1))),
	), "G-single-realtime")
}

func TestAppendFindsLostAppend(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 2, history.OK, txn(app(1, 1))),
		op("txn", 3, 4, history.OK, txn(app(1, 2))),
		op("txn", 5, 6, history.OK, txn(r(1, 1))),
	), "realtime")
}

func TestAppendFindsAppendLostFromEmptyList(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 2, history.OK, txn(app(1, 1))),
		op("txn", 5, 6, history.OK, txn(r(1))),
	), "realtime")
}

func TestAppendFindsIncompatibleOrders(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 10, history.OK, txn(app(1, 1))),
		op("txn", 1, 10, history.OK, txn(app(1, 2))),
		op("txn", 2, 11, history.OK, txn(r(1, 1, 2))),
		op("txn", 2, 11, history.OK, txn(r(1, 2))),
	), "incompatible")
}

func TestAppendFindsDuplicate(t *testing.T) {
	bad(t, elleOf(
		op("txn", 1, 2, history.OK, txn(app(1, 1))),
		op("txn", 3, 4, history.OK, txn(r(1, 1, 1))),
	), "duplicate")
}

func TestAppendFindsInternalContradictions(t *testing.T) {
	bad(t, elleOf(op("txn", 1, 2, history.OK, txn(app(1, 1), r(1)))), "internal")
	bad(t, elleOf(
		op("txn", 1, 2, history.OK, txn(app(1, 1))),
		op("txn", 1, 9, history.OK, txn(r(1), r(1, 1))),
	), "internal")
}

func TestAppendFindsGarbage(t *testing.T) {
	bad(t, elleOf(op("txn", 1, 2, history.OK, txn(r(1, 99)))), "garbage")
}

// --- honesty ---

func TestFaultWithoutEffectIsNamed(t *testing.T) {
	unseen := Unseen("kill,partition", map[string]bool{"kill": true, "partition": false})
	if len(unseen) != 1 || unseen[0] != "partition" {
		t.Fatalf("unseen: %v", unseen)
	}
	if len(Unseen("none", nil)) != 0 {
		t.Fatal("no fault asked for, none missed")
	}
}
