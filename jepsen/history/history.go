// Package history holds what clients did and saw, and writes it as JSON and as EDN in Jepsen's own form.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// Outcome of an operation.
type Outcome string

// OK: it happened. Fail: it did not, for certain. Info: nobody knows, it may still happen.
const (
	OK   Outcome = "ok"
	Fail Outcome = "fail"
	Info Outcome = "info"
)

// Nil is the result of reading a key that does not exist; the workloads use values above 0.
const Nil int64 = -1 << 62

// Mop is one step of a transaction.
type Mop struct {
	F    string  `json:"f"` // "r" or "append"
	Key  int     `json:"k"`
	Arg  int64   `json:"v,omitempty"`
	List []int64 `json:"list,omitempty"` // what "r" saw; nil and Seen: an empty list
	Seen bool    `json:"seen,omitempty"`
}

// Op is one operation of a client, from invocation to completion. Times are nanoseconds since the run began.
type Op struct {
	Process int     `json:"process"`
	F       string  `json:"f"`
	Via     string  `json:"via,omitempty"` // the read path or mode
	Node    int     `json:"node"`          // 1-based
	Key     int     `json:"key"`
	Arg     int64   `json:"arg,omitempty"`
	Arg2    int64   `json:"arg2,omitempty"`
	Result  int64   `json:"result,omitempty"`
	List    []int64 `json:"list,omitempty"`
	Txn     []Mop   `json:"txn,omitempty"`
	Invoke  int64   `json:"invoke"`
	Return  int64   `json:"return"`
	Outcome Outcome `json:"type"`
	Error   string  `json:"error,omitempty"`
}

// History of one run.
type History struct {
	mu  sync.Mutex
	Ops []Op
}

// Add an operation that has ended, one way or another.
func (h *History) Add(op Op) {
	h.mu.Lock()
	h.Ops = append(h.Ops, op)
	h.mu.Unlock()
}

// Sort by invocation.
func (h *History) Sort() {
	sort.SliceStable(h.Ops, func(i, j int) bool { return h.Ops[i].Invoke < h.Ops[j].Invoke })
}

// Counts of operations by outcome.
type Counts struct{ OK, Fail, Info int }

// Total of all.
func (c Counts) Total() int { return c.OK + c.Fail + c.Info }

// Count operations by outcome.
func (h *History) Count() Counts {
	var c Counts
	for i := range h.Ops {
		switch h.Ops[i].Outcome {
		case OK:
			c.OK++
		case Fail:
			c.Fail++
		default:
			c.Info++
		}
	}
	return c
}

// WriteJSON writes one operation per line.
func (h *History) WriteJSON(path string) error {
	return writeFile(path, func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		for i := range h.Ops {
			if err := encoder.Encode(&h.Ops[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(path string) (*History, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	h := &History{}
	decoder := json.NewDecoder(bufio.NewReader(file))
	for {
		var op Op
		if err := decoder.Decode(&op); err == io.EOF {
			return h, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		h.Ops = append(h.Ops, op)
	}
}

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
	for i := range h.Ops {
		op := &h.Ops[i]
		events = append(events, event{op.Invoke, i, ednEvent("invoke", op, false)})
		events = append(events, event{op.Return, i, ednEvent(string(op.Outcome), op, op.Outcome == OK)})
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

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<16)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
