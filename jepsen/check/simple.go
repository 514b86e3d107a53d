package check

import (
	"sort"
	"time"

	"lockstep/jepsen/history"
)

// Counter checks keys that only grow by one: incr returns unique values; what returned before another operation began is not
// above it; no value is above the number of increments begun, nor below the number of those acknowledged before.
func Counter(ops []history.Op) *Result {
	result := &Result{Checker: "counter"}
	groups := byKey(ops)
	for _, key := range sortedKeys(groups) {
		counterKey(result, key, groups[key])
	}
	return result
}

func counterKey(result *Result, key int, ops []*history.Op) {
	var begun, acknowledged, done []*history.Op // increments begun; ok increments; all ok operations
	byValue := map[int64]*history.Op{}
	for _, op := range ops {
		if op.F == "incr" {
			begun = append(begun, op)
		}
		if op.Outcome != history.OK {
			continue
		}
		done = append(done, op)
		if op.F == "incr" {
			acknowledged = append(acknowledged, op)
			if other := byValue[op.Result]; other != nil {
				result.violate("key %d: two increments returned %d: %s and %s", key, op.Result, describe(other), describe(op))
			}
			byValue[op.Result] = op
		}
	}
	result.Checked += len(ops)
	sort.Slice(begun, func(i, j int) bool { return begun[i].Invoke < begun[j].Invoke })
	sort.Slice(acknowledged, func(i, j int) bool { return acknowledged[i].Return < acknowledged[j].Return })
	byReturn := append([]*history.Op(nil), done...)
	sort.Slice(byReturn, func(i, j int) bool { return byReturn[i].Return < byReturn[j].Return })
	sort.Slice(done, func(i, j int) bool { return done[i].Invoke < done[j].Invoke })
	highest, next := int64(0), 0
	var by *history.Op
	for _, op := range done {
		value := op.Result
		if value == history.Nil {
			value = 0
		}
		for ; next < len(byReturn) && byReturn[next].Return < op.Invoke; next++ {
			if byReturn[next].Result > highest {
				highest, by = byReturn[next].Result, byReturn[next]
			}
		}
		if value < highest || (op.F == "incr" && value == highest && by != nil) {
			result.violate("key %d: goes back: %s after %s", key, describe(op), describe(by))
		}
		most := sort.Search(len(begun), func(i int) bool { return begun[i].Invoke >= op.Return })
		if value > int64(most) {
			result.violate("key %d: %d increments had begun: %s", key, most, describe(op))
		}
		least := sort.Search(len(acknowledged), func(i int) bool { return acknowledged[i].Return >= op.Invoke })
		if value < int64(least) {
			result.violate("key %d: %d increments were acknowledged before: %s", key, least, describe(op))
		}
	}
}

// Set checks sets that only grow (key: the set, arg: the element): an element that was acknowledged, or seen by a read, is in every
// read that begins later; what was never added, or was refused for certain, is in none.
func Set(ops []history.Op) *Result {
	result := &Result{Checker: "set"}
	refused := map[element]bool{}
	for i := range ops {
		if ops[i].Outcome == history.Fail && ops[i].F == "add" {
			refused[element{ops[i].Key, ops[i].Arg}] = true
		}
	}
	groups := byKey(ops)
	for _, key := range sortedKeys(groups) {
		setKey(result, key, groups[key], refused)
	}
	return result
}

func setKey(result *Result, key int, ops []*history.Op, refused map[element]bool) {
	added := map[int64]*history.Op{}
	since := map[int64]int64{} // when the element was surely there
	proof := map[int64]*history.Op{}
	var reads []*history.Op
	for _, op := range ops {
		if op.F == "add" {
			added[op.Arg] = op
			if op.Outcome == history.OK {
				since[op.Arg], proof[op.Arg] = op.Return, op
			}
		} else if op.Outcome == history.OK {
			reads = append(reads, op)
		}
	}
	result.Checked += len(ops)
	for _, read := range reads {
		for _, v := range read.List {
			switch {
			case refused[element{key, v}]:
				result.violate("set %d: %d was refused for certain, but is there: %s", key, v, describe(read))
			case added[v] == nil:
				result.violate("set %d: nobody added %d: %s", key, v, describe(read))
			case read.Invoke < added[v].Invoke && read.Return < added[v].Invoke:
				result.violate("set %d: %d was seen before it was added: %s", key, v, describe(read))
			}
			if at, known := since[v]; !known || read.Return < at {
				since[v], proof[v] = read.Return, read
			}
		}
	}
	for _, read := range reads {
		in := map[int64]bool{}
		for _, v := range read.List {
			in[v] = true
		}
		for v, at := range since {
			if read.Invoke > at && !in[v] {
				result.violate("set %d: %d is missing in %s, although it was there by %s", key, v, describe(read),
					describe(proof[v]))
			}
		}
	}
}

// Bank checks that every read of all accounts of a bank (key) has the same sum and no account below 0.
func Bank(ops []history.Op, accounts int, total int64) *Result {
	result := &Result{Checker: "bank"}
	transfers := 0
	for i := range ops {
		op := &ops[i]
		if op.Outcome != history.Fail {
			result.Checked++
		}
		if op.Outcome != history.OK {
			continue
		}
		if op.F == "transfer" {
			transfers++
			continue
		}
		sum := int64(0)
		for _, balance := range op.List {
			if balance < 0 { // Nil too
				result.violate("account below 0 or absent: %v in %s", op.List, describe(op))
			}
			sum += balance
		}
		if len(op.List) != accounts || sum != total {
			result.violate("the sum of %v is %d, not %d: %s", op.List, sum, total, describe(op))
		}
	}
	if transfers == 0 {
		result.Undecided = append(result.Undecided, "no transfer succeeded: the sum says nothing")
	}
	return result
}

// TTLBounds is how far cluster time may be from real time.
type TTLBounds struct {
	Fast float64       // it runs at most this much faster
	Late time.Duration // a key may outlive its TTL by this in the middle of faults
}

// TTL checks keys written once with a time to live (Arg: the value, Arg2: ms): dead stays dead, none dies early, none lives for
// ever.
func TTL(ops []history.Op, bounds TTLBounds) *Result {
	result := &Result{Checker: "ttl"}
	groups := byKey(ops)
	deaths := 0
	for _, key := range sortedKeys(groups) {
		deaths += ttlKey(result, key, groups[key], bounds)
	}
	if deaths == 0 {
		result.Undecided = append(result.Undecided, "no key was seen to die")
	}
	return result
}

func ttlKey(result *Result, key int, ops []*history.Op, bounds TTLBounds) int {
	var write *history.Op
	var reads []*history.Op
	for _, op := range ops {
		if op.F == "write" {
			write = op
		} else if op.Outcome == history.OK {
			reads = append(reads, op)
		}
	}
	result.Checked += len(ops)
	if write == nil {
		for _, read := range reads {
			if read.Result != history.Nil {
				result.violate("key %d was refused for certain, but is there: %s", key, describe(read))
			}
		}
		return 0
	}
	existed, proof := int64(-1), write // when it surely existed already
	if write.Outcome == history.OK {
		existed = write.Return
	}
	for _, read := range reads {
		if read.Result != history.Nil && (existed < 0 || read.Return < existed) {
			existed, proof = read.Return, read
		}
	}
	if existed < 0 {
		return 0
	}
	earliest := write.Invoke + int64(float64(write.Arg2)*1e6/bounds.Fast) - int64(5*time.Millisecond)
	dead, killer := int64(-1), (*history.Op)(nil)
	for _, read := range reads {
		if read.Result == history.Nil && read.Invoke > existed {
			if read.Return < earliest {
				result.violate("key %d died early, %.3f s after its write began, TTL %d ms: %s; it existed by %s", key,
					float64(read.Return-write.Invoke)/1e9, write.Arg2, describe(read), describe(proof))
			}
			if dead < 0 || read.Return < dead {
				dead, killer = read.Return, read
			}
		}
	}
	for _, read := range reads {
		if read.Result == history.Nil {
			continue
		}
		if read.Result != write.Arg {
			result.violate("key %d has a value nobody wrote: %s", key, describe(read))
		}
		if dead >= 0 && read.Invoke > dead {
			result.violate("key %d came back: %s after %s", key, describe(read), describe(killer))
		}
		last := existed + int64(float64(write.Arg2)*1e6*bounds.Fast) + int64(bounds.Late)
		if read.Invoke > last {
			result.violate("key %d lives too long, TTL %d ms: %s; it existed by %s", key, write.Arg2, describe(read),
				describe(proof))
		}
	}
	if dead >= 0 {
		return 1
	}
	return 0
}

// Modes checks keys that one process writes, with growing values, and others read in weaker modes. "session": a process never
// sees less than it saw or wrote before. "stale": like session for nothing, but not older than the bound (Arg2 ms). "linear..":
// nothing acknowledged before is missing. In all modes nothing is seen that was not written.
func Modes(ops []history.Op) *Result {
	result := &Result{Checker: "modes"}
	groups := byKey(ops)
	for _, key := range sortedKeys(groups) {
		modesKey(result, key, groups[key])
	}
	return result
}

func modesKey(result *Result, key int, ops []*history.Op) {
	result.Checked += len(ops)
	var writes, acknowledged []*history.Op
	for _, op := range ops {
		if op.F == "write" {
			writes = append(writes, op)
			if op.Outcome == history.OK {
				acknowledged = append(acknowledged, op)
			}
		}
	}
	newest := func(before int64) int64 { // acknowledged before this instant; values grow, one writer
		n := sort.Search(len(acknowledged), func(i int) bool { return acknowledged[i].Return >= before })
		if n == 0 {
			return 0
		}
		return acknowledged[n-1].Arg
	}
	seen := map[int]int64{} // per process: the newest value seen or written
	for _, op := range ops {
		if op.Outcome != history.OK {
			continue
		}
		value := op.Result
		if op.F == "write" {
			value = op.Arg
		} else if value == history.Nil {
			value = 0
		}
		if op.F == "read" {
			begun := sort.Search(len(writes), func(i int) bool { return writes[i].Invoke >= op.Return })
			most := int64(0)
			if begun > 0 {
				most = writes[begun-1].Arg
			}
			least, why := int64(0), ""
			switch op.Via {
			case "session":
				least, why = seen[op.Process], "this session saw"
			case "stale":
				if op.Arg2 > 0 {
					least, why = newest(op.Invoke-op.Arg2*1000000), "the bound demands"
				}
			default:
				least, why = newest(op.Invoke), "acknowledged before"
			}
			if value < least {
				result.violate("key %d, %s %d: %s", key, why, least, describe(op))
			}
			if value > most {
				result.violate("key %d, newest begun %d: %s", key, most, describe(op))
			}
		}
		if value > seen[op.Process] {
			seen[op.Process] = value
		}
	}
}
