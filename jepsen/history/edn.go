package history

import (
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
)

// NemesisEvent is a line of the fault timeline.
type NemesisEvent struct {
	At     int64  `json:"at"`
	F      string `json:"f"`
	Start  bool   `json:"start"`
	Detail string `json:"detail"`
}

type event struct {
	at    int64
	order int
	text  string
}

// WriteEDN writes events as Jepsen's history.edn has them: invocations and completions of all processes, and the nemesis,
// in the order of time.
func (h *History) WriteEDN(path string, nemesis []NemesisEvent) error {
	events := make([]event, 0, 2*len(h.Ops)+len(nemesis))
	processes := h.processes()
	for i := range h.Ops {
		op := h.Ops[i]
		op.Process = processes[i]
		events = append(events, event{op.Invoke, i, ednEvent("invoke", &op, false)})
		events = append(events, event{op.Return, i, ednEvent(string(op.Outcome), &op, op.Outcome == OK)})
	}
	for i, n := range nemesis {
		f := n.F + "-stop"
		if n.Start {
			f = n.F + "-start"
		}
		events = append(events, event{n.At, i, fmt.Sprintf(":type :info, :process :nemesis, :f :%s, :value %s, :time %d",
			f, ednString(n.Detail), n.At)})
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].at < events[j].at })
	return writeFile(path, func(w io.Writer) error {
		for i := range events {
			if _, err := fmt.Fprintf(w, "{:index %d, %s}\n", i, events[i].text); err != nil {
				return err
			}
		}
		return nil
	})
}

// pipelineProcesses keeps the numbers for pipelined operations apart from all others.
const pipelineProcesses = 1 << 20

// processes gives each operation a process that has no other operation under way, as Jepsen's form demands: what a client sends in one
// pipeline is spread over several.
func (h *History) processes() []int {
	order := make([]int, len(h.Ops))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return h.Ops[order[a]].Invoke < h.Ops[order[b]].Invoke })
	busy := map[int]int64{}
	processes := make([]int, len(h.Ops))
	for _, i := range order {
		process := h.Ops[i].Process
		for until, known := busy[process]; known && until > h.Ops[i].Invoke; until, known = busy[process] {
			process += pipelineProcesses
		}
		busy[process], processes[i] = h.Ops[i].Return, process
	}
	return processes
}

func ednEvent(kind string, op *Op, done bool) string {
	text := fmt.Sprintf(":type :%s, :process %d, :f :%s, :value %s, :time %d", kind, op.Process, op.F, ednValue(op, done),
		op.Invoke)
	if kind != "invoke" {
		text = strings.TrimSuffix(text, strconv.FormatInt(op.Invoke, 10)) + strconv.FormatInt(op.Return, 10)
		if op.Error != "" {
			text += ", :error " + ednString(op.Error)
		}
	}
	return text + fmt.Sprintf(", :node \"n%d\"", op.Node)
}

func ednString(s string) string { return strconv.QuoteToASCII(s) }

func ednInt(v int64) string {
	if v == Nil {
		return "nil"
	}
	return strconv.FormatInt(v, 10)
}

func ednList(list []int64) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(ednInt(v))
	}
	b.WriteByte(']')
	return b.String()
}

// ednValue: transactions as Elle wants them; everything else as jepsen.independent's [key value].
func ednValue(op *Op, done bool) string {
	if op.F == "txn" {
		return ednTxn(op.Txn, done)
	}
	value := "nil"
	switch op.F {
	case "read", "add-and-get":
		if done && op.List != nil {
			value = ednList(op.List)
		} else if done {
			value = ednInt(op.Result)
		}
	case "cas":
		value = "[" + ednInt(op.Arg) + " " + ednInt(op.Arg2) + "]"
	case "transfer":
		value = fmt.Sprintf("{:from %d, :to %d, :amount %d}", op.Key, op.Arg, op.Arg2)
	case "swap":
		value = "[" + ednInt(op.Arg) + " nil]"
		if done {
			value = "[" + ednInt(op.Arg) + " " + ednInt(op.Result) + "]"
		}
	default:
		value = ednInt(op.Arg)
	}
	return fmt.Sprintf("[%d %s]", op.Key, value)
}

func ednTxn(txn []Mop, done bool) string {
	parts := make([]string, len(txn))
	for i, m := range txn {
		switch {
		case m.F == "append":
			parts[i] = fmt.Sprintf("[:append %d %d]", m.Key, m.Arg)
		case m.Seen && done:
			parts[i] = fmt.Sprintf("[:r %d %s]", m.Key, ednList(m.List))
		default:
			parts[i] = fmt.Sprintf("[:r %d nil]", m.Key)
		}
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// WriteRegisterEDN writes reads, writes, swaps and compare-and-sets of registers as transactions of reads and writes, the form that
// Elle's rw-register has. Other operations are refused.
func (h *History) WriteRegisterEDN(w io.Writer) error {
	events := make([]event, 0, 2*len(h.Ops))
	processes := h.processes()
	for i := range h.Ops {
		op := &h.Ops[i]
		before, after, err := registerTxn(op)
		if err != nil {
			return err
		}
		if op.Outcome != OK {
			after = before
		}
		events = append(events, event{op.Invoke, i, fmt.Sprintf(":type :invoke, :process %d, :f :txn, :value %s, :time %d",
			processes[i], before, op.Invoke)})
		events = append(events, event{op.Return, i, fmt.Sprintf(":type :%s, :process %d, :f :txn, :value %s, :time %d", op.Outcome,
			processes[i], after, op.Return)})
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].at < events[j].at })
	for i := range events {
		if _, err := fmt.Fprintf(w, "{:index %d, %s}\n", i, events[i].text); err != nil {
			return err
		}
	}
	return nil
}

// registerTxn is an operation as it was called, and as it ended if it did.
func registerTxn(op *Op) (before, after string, err error) {
	read := func(v int64) string { return fmt.Sprintf("[:r %d %s]", op.Key, ednInt(v)) }
	write := func(v int64) string { return fmt.Sprintf("[:w %d %d]", op.Key, v) }
	switch op.F {
	case "read":
		return "[" + read(Nil) + "]", "[" + read(op.Result) + "]", nil
	case "write":
		return "[" + write(op.Arg) + "]", "[" + write(op.Arg) + "]", nil
	case "swap":
		return "[" + read(Nil) + " " + write(op.Arg) + "]", "[" + read(op.Result) + " " + write(op.Arg) + "]", nil
	case "cas":
		return "[" + read(Nil) + " " + write(op.Arg2) + "]", "[" + read(op.Arg) + " " + write(op.Arg2) + "]", nil
	}
	return "", "", fmt.Errorf("'%s' is no operation on a register", op.F)
}
