package check

import (
	"fmt"
	"sort"
	"strings"

	"lockstep/jepsen/history"
)

// ListAppend checks transactions of appends and reads of lists for strict serializability, by the method of Elle (Kingsbury and
// Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations"): appended values are unique, so a read of a
// list shows the order of all appends to it; from that follow dependencies between transactions (ww, wr, rw) and, with real
// time, a graph that a strictly serializable history leaves without cycles. Found besides: reads of aborted or unfinished
// transactions (G1a, G1b), lists that are no prefix of each other, values read twice, and reads that contradict their own
// transaction.
func ListAppend(ops []history.Op) *Result {
	result := &Result{Checker: "append"}
	e := &elle{result: result, ops: ops, writer: map[element]int{}, last: map[element]bool{}}
	e.index()
	e.versions()
	e.readsOfOthers()
	e.edges()
	e.realTime()
	e.cycles()
	return result
}

type element struct {
	key   int
	value int64
}

type edge struct {
	to   int
	kind string // ww wr rw rt
	why  string
}

// elle: nodes 0..len(ops)-1 are transactions; above them come the nodes of the real-time chain.
type elle struct {
	result *Result
	ops    []history.Op
	writer map[element]int
	last   map[element]bool // the last append of its transaction to the key
	order  map[int][]int64  // per key: the longest list read
	place  map[element]int  // position in it
	graph  [][]edge
}

func (e *elle) committed(i int) bool { return e.ops[i].Outcome == history.OK }

func (e *elle) index() {
	for i := range e.ops {
		op := &e.ops[i]
		lastOf := map[int]int64{}
		for _, m := range op.Txn {
			if m.F != "append" {
				continue
			}
			at := element{m.Key, m.Arg}
			if _, twice := e.writer[at]; twice {
				e.result.violate("history: value %d is appended twice to key %d by the clients", m.Arg, m.Key)
			}
			e.writer[at] = i
			lastOf[m.Key] = m.Arg
		}
		for key, value := range lastOf {
			e.last[element{key, value}] = true
		}
		if op.Outcome != history.Fail {
			e.result.Checked++
		}
		if e.committed(i) {
			e.internal(op)
		}
	}
}

// internal: what a transaction reads contains its own earlier appends, and extends its own earlier reads by them.
func (e *elle) internal(op *history.Op) {
	known := map[int][]int64{} // what the list is, if it was read in this transaction
	own := map[int][]int64{}   // appends so far
	isKnown := map[int]bool{}
	for _, m := range op.Txn {
		if m.F == "append" {
			known[m.Key] = append(known[m.Key], m.Arg)
			own[m.Key] = append(own[m.Key], m.Arg)
			continue
		}
		if isKnown[m.Key] && !equal(known[m.Key], m.List) {
			e.result.violate("internal: key %d should read %v in %s", m.Key, known[m.Key], describe(op))
		} else if !hasSuffix(m.List, own[m.Key]) {
			e.result.violate("internal: key %d should end with the transaction's own %v in %s", m.Key, own[m.Key], describe(op))
		}
		known[m.Key], isKnown[m.Key] = append([]int64(nil), m.List...), true
	}
}

func equal(a, b []int64) bool { return len(a) == len(b) && hasSuffix(a, b) }

func hasSuffix(list, suffix []int64) bool {
	if len(suffix) > len(list) {
		return false
	}
	for i, v := range suffix {
		if list[len(list)-len(suffix)+i] != v {
			return false
		}
	}
	return true
}

// versions finds the longest list per key, and demands that all others are prefixes of it.
func (e *elle) versions() {
	e.order, e.place = map[int][]int64{}, map[element]int{}
	e.eachRead(func(_ int, m *history.Mop) {
		if len(m.List) > len(e.order[m.Key]) {
			e.order[m.Key] = m.List
		}
	})
	e.eachRead(func(i int, m *history.Mop) {
		seen := map[int64]bool{}
		for at, v := range m.List {
			if seen[v] {
				e.result.violate("duplicate: key %d holds %d twice, read by %s", m.Key, v, describe(&e.ops[i]))
				return
			}
			seen[v] = true
			if e.order[m.Key][at] != v {
				e.result.violate("incompatible order: key %d is %v and elsewhere %v, in %s", m.Key, m.List,
					e.order[m.Key][:at+1], describe(&e.ops[i]))
				return
			}
		}
	})
	for key, list := range e.order {
		for at, v := range list {
			e.place[element{key, v}] = at
		}
	}
}

func (e *elle) eachRead(each func(i int, m *history.Mop)) {
	for i := range e.ops {
		if !e.committed(i) {
			continue
		}
		for j := range e.ops[i].Txn {
			if e.ops[i].Txn[j].F == "r" {
				each(i, &e.ops[i].Txn[j])
			}
		}
	}
}

// readsOfOthers: G1a, G1b and values from nowhere.
func (e *elle) readsOfOthers() {
	e.eachRead(func(i int, m *history.Mop) {
		for _, v := range m.List {
			writer, known := e.writer[element{m.Key, v}]
			if !known {
				e.result.violate("garbage: key %d holds %d, which nobody appended; %s", m.Key, v, describe(&e.ops[i]))
			} else if e.ops[writer].Outcome == history.Fail {
				e.result.violate("G1a (aborted read): %s saw %d of %s", describe(&e.ops[i]), v, describe(&e.ops[writer]))
			}
		}
		if len(m.List) == 0 {
			return
		}
		end := element{m.Key, m.List[len(m.List)-1]}
		if writer, known := e.writer[end]; known && writer != i && !e.last[end] {
			e.result.violate("G1b (intermediate read): %s saw %d of %s", describe(&e.ops[i]), end.value,
				describe(&e.ops[writer]))
		}
	})
}

func (e *elle) link(from, to int, kind, why string) {
	if from != to {
		e.graph[from] = append(e.graph[from], edge{to, kind, why})
	}
}

func (e *elle) edges() {
	e.graph = make([][]edge, len(e.ops))
	unseen := map[int][]int{} // key -> committed appenders whose value no read shows
	for key, list := range e.order {
		for at := 1; at < len(list); at++ {
			before, known1 := e.writer[element{key, list[at-1]}]
			after, known2 := e.writer[element{key, list[at]}]
			if known1 && known2 {
				e.link(before, after, "ww", fmt.Sprintf("key %d: %d then %d", key, list[at-1], list[at]))
			}
		}
	}
	for at, writer := range e.writer {
		if _, seen := e.place[at]; !seen && e.committed(writer) {
			unseen[at.key] = append(unseen[at.key], writer)
		}
	}
	for key, writers := range unseen {
		// Lists only grow: such a value comes after everything that was ever read.
		if list := e.order[key]; len(list) > 0 {
			if before, known := e.writer[element{key, list[len(list)-1]}]; known {
				for _, writer := range writers {
					e.link(before, writer, "ww", fmt.Sprintf("key %d: never read, so after %d", key, list[len(list)-1]))
				}
			}
		}
	}
	e.eachRead(func(i int, m *history.Mop) { e.readEdges(i, m, unseen[m.Key]) })
}

func (e *elle) readEdges(i int, m *history.Mop, unseen []int) {
	if n := len(m.List); n > 0 {
		if writer, known := e.writer[element{m.Key, m.List[n-1]}]; known {
			e.link(writer, i, "wr", fmt.Sprintf("key %d: %d read", m.Key, m.List[n-1]))
		}
	}
	if list := e.order[m.Key]; len(m.List) < len(list) {
		next := list[len(m.List)]
		if writer, known := e.writer[element{m.Key, next}]; known {
			e.link(i, writer, "rw", fmt.Sprintf("key %d: read before %d", m.Key, next))
		}
	}
	for _, writer := range unseen {
		e.link(i, writer, "rw", fmt.Sprintf("key %d: read without the later value", m.Key))
	}
}

// realTime: a transaction that returned before another was invoked comes first. Instead of an edge per pair there is a chain of
// nodes, one per completion: a transaction leads to its completion's node, and is reached from the last one before it began.
func (e *elle) realTime() {
	var done []int
	for i := range e.ops {
		if e.committed(i) {
			done = append(done, i)
		}
	}
	sort.Slice(done, func(a, b int) bool { return e.ops[done[a]].Return < e.ops[done[b]].Return })
	first := len(e.graph)
	for at, i := range done {
		e.graph = append(e.graph, nil)
		if at > 0 {
			e.graph[first+at-1] = append(e.graph[first+at-1], edge{first + at, "rt", "real time"})
		}
		e.graph[i] = append(e.graph[i], edge{first + at, "rt", "real time"})
	}
	for i := range e.ops {
		if e.ops[i].Outcome == history.Fail {
			continue
		}
		// The last completion strictly before the invocation.
		at := sort.Search(len(done), func(k int) bool { return e.ops[done[k]].Return >= e.ops[i].Invoke }) - 1
		if at >= 0 {
			e.graph[first+at] = append(e.graph[first+at], edge{i, "rt", "real time"})
		}
	}
}

func (e *elle) cycles() {
	for _, component := range components(e.graph) {
		if len(component) > 1 {
			e.explain(component)
		}
	}
}

// explain finds a short cycle in a strongly connected component and names it.
func (e *elle) explain(component []int) {
	inside := map[int]bool{}
	for _, i := range component {
		inside[i] = true
	}
	// The weakest set of kinds that still gives a cycle names the anomaly best.
	for _, level := range []struct {
		name  string
		kinds string
	}{{"G0", "ww"}, {"G1c", "ww wr"}, {"G0-realtime", "ww rt"}, {"G1c-realtime", "ww wr rt"}, {"G2", "ww wr rw"},
		{"G2-realtime", "ww wr rw rt"}} {
		for _, start := range component {
			if start >= len(e.ops) {
				continue
			}
			if path := e.shortest(start, inside, level.kinds); path != nil {
				e.result.violate("%s: %s", e.nameOf(level.name, path), e.describePath(start, path))
				return
			}
		}
	}
	e.result.violate("cycle among %d transactions", len(component))
}

// nameOf tells G-single (one anti-dependency) from G2.
func (e *elle) nameOf(name string, path []edge) string {
	anti := 0
	for _, step := range path {
		if step.kind == "rw" {
			anti++
		}
	}
	if strings.HasPrefix(name, "G2") && anti == 1 {
		return "G-single" + strings.TrimPrefix(name, "G2")
	}
	return name
}

// shortest cycle through start, by edges of the given kinds, within the component.
func (e *elle) shortest(start int, inside map[int]bool, kinds string) []edge {
	type visit struct {
		from int
		by   edge
	}
	came := map[int]visit{}
	queue := []int{start}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		for _, step := range e.graph[i] {
			if !inside[step.to] || !strings.Contains(kinds, step.kind) {
				continue
			}
			if step.to == start {
				path := []edge{step}
				for at := i; at != start; at = came[at].from {
					path = append([]edge{came[at].by}, path...)
				}
				return path
			}
			if _, seen := came[step.to]; !seen {
				came[step.to] = visit{i, step}
				queue = append(queue, step.to)
			}
		}
	}
	return nil
}

func (e *elle) describePath(start int, path []edge) string {
	text := "T0 = " + describe(&e.ops[start])
	number := 0
	for _, step := range path {
		if step.to >= len(e.ops) {
			continue // inside the chain of real time
		}
		number++
		name := fmt.Sprintf("T%d = %s", number, describe(&e.ops[step.to]))
		if step.to == start {
			name = "T0"
		}
		text += fmt.Sprintf("\n  -%s (%s)-> %s", step.kind, step.why, name)
	}
	return text
}

// components are the strongly connected components, by Tarjan's algorithm without recursion.
func components(graph [][]edge) [][]int {
	n := len(graph)
	index, low := make([]int, n), make([]int, n)
	onStack, next := make([]bool, n), make([]int, n)
	var stack []int
	var found [][]int
	counter := 0
	for root := 0; root < n; root++ {
		if index[root] != 0 {
			continue
		}
		work := []int{root}
		for len(work) > 0 {
			v := work[len(work)-1]
			if index[v] == 0 {
				counter++
				index[v], low[v] = counter, counter
				stack, onStack[v] = append(stack, v), true
			}
			if next[v] < len(graph[v]) {
				to := graph[v][next[v]].to
				next[v]++
				if index[to] == 0 {
					work = append(work, to)
				} else if onStack[to] && index[to] < low[v] {
					low[v] = index[to]
				}
				continue
			}
			work = work[:len(work)-1]
			if len(work) > 0 && low[v] < low[work[len(work)-1]] {
				low[work[len(work)-1]] = low[v]
			}
			if low[v] == index[v] {
				var component []int
				for {
					top := stack[len(stack)-1]
					stack, onStack[top] = stack[:len(stack)-1], false
					component = append(component, top)
					if top == v {
						break
					}
				}
				found = append(found, component)
			}
		}
	}
	return found
}
