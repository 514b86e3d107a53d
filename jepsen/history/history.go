// Package history holds what clients did and saw, and writes it as JSON and as EDN in Jepsen's own form.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
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
	h.mu.Lock()
	defer h.mu.Unlock()
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
