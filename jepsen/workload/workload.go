// Package workload holds what clients do, and the checkers that judge it.
package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"lockstep/jepsen/check"
	"lockstep/jepsen/control"
	"lockstep/jepsen/history"
)

// Workload is one kind of load.
type Workload struct {
	Name, About string
	Needs       []string // commands; without them the workload is left out
	LeftOut     string   // a reason besides missing commands
	OKMin       int      // successful operations, per second of a round, below which a run says too little
	New         func(seed int64) Instance
}

// Instance of a workload in one run.
type Instance interface {
	// Setup runs once before the load.
	Setup(ctx context.Context, w *Worker) error
	// Step does one operation and records it, with w.Do.
	Step(ctx context.Context, w *Worker)
	// Final runs on every worker after the faults have been healed.
	Final(ctx context.Context, w *Worker)
	// Check judges the history.
	Check(h *history.History) []*check.Result
}

// All workloads.
func All() []*Workload {
	return []*Workload{register, set, counter, appendList, bank, watch, lock, ttl, modes, bankScript, queue, idempotent}
}

// Find by name.
func Find(name string) *Workload {
	for _, w := range All() {
		if w.Name == name {
			return w
		}
	}
	return nil
}

// Missing are the commands that a node does not know.
func (w *Workload) Missing(ctx context.Context, client *redis.Client) []string {
	var missing []string
	for _, name := range w.Needs {
		reply, err := client.Do(ctx, "COMMAND", "INFO", name).Slice()
		if err != nil || len(reply) != 1 || reply[0] == nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// Worker is one client: a connection to one node, one operation at a time.
type Worker struct {
	Index   int
	Node    *control.Node
	Client  *redis.Client
	Rand    *rand.Rand
	History *history.History
	Since   func() int64
	Timeout time.Duration
	// OnConnect, if set, runs on each connection before its first command.
	OnConnect func(ctx context.Context, conn *redis.Conn) error

	process    int
	concurrent int
	unexpected *int64
}

// NewWorker connects nobody yet.
func NewWorker(index, concurrent int, node *control.Node, h *history.History, since func() int64, timeout time.Duration,
	seed int64, unexpected *int64) *Worker {
	w := &Worker{Index: index, Node: node, History: h, Since: since, Timeout: timeout, process: index,
		concurrent: concurrent, Rand: rand.New(rand.NewSource(seed)), unexpected: unexpected}
	w.Client = node.Client(timeout)
	return w
}

// Process of the operation that runs now, as Jepsen numbers them: after an unknown outcome the client counts as another one.
func (w *Worker) Process() int { return w.process }

// Do runs and records one operation. `run` fills in the result.
func (w *Worker) Do(ctx context.Context, op history.Op, run func(ctx context.Context, op *history.Op) error) history.Op {
	op.Process, op.Node, op.Invoke = w.process, w.Node.Index+1, w.Since()
	limited, cancel := context.WithTimeout(ctx, w.Timeout)
	err := run(limited, &op)
	cancel()
	op.Return = w.Since()
	op.Outcome, op.Error = w.classify(err)
	w.History.Add(op)
	w.after(ctx, op.Outcome)
	return op
}

// after an unknown outcome the connection is given up, as the session of a client that crashed.
func (w *Worker) after(ctx context.Context, outcome history.Outcome) {
	switch outcome {
	case history.Info:
		w.process += w.concurrent
		w.Reopen()
	case history.Fail:
		pause(ctx, time.Duration(10+w.Rand.Intn(40))*time.Millisecond)
	}
}

// Reopen the connection.
func (w *Worker) Reopen() {
	w.Client.Close()
	w.Client = w.Node.ClientWith(w.Timeout, w.OnConnect)
}

// NewProcess gives the client another number: what follows is another session.
func (w *Worker) NewProcess() { w.process += w.concurrent }

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// definite marks an error of an operation that can't have had an effect, such as a read before the write.
type definite struct{ err error }

func (d definite) Error() string { return d.err.Error() }

// conflict is an optimistic transaction that met a change: not executed.
var errConflict = definite{errors.New("conflict")}

// notExecuted are the replies that promise "not executed" (DESIGN section 8), and refusals of a transaction.
var notExecuted = []string{"CLUSTERDOWN", "TRYAGAIN", "LOADING", "OOM", "NOSPACE", "MOVED", "EXECABORT"}

func (w *Worker) classify(err error) (history.Outcome, string) {
	var sent control.NotSent
	var sure definite
	var reply redis.Error
	switch {
	case err == nil:
		return history.OK, ""
	case errors.As(err, &sent), errors.As(err, &sure):
		return history.Fail, err.Error()
	case errors.As(err, &reply):
		code := strings.SplitN(reply.Error(), " ", 2)[0]
		if code == "UNKNOWN" {
			return history.Info, err.Error()
		}
		for _, known := range notExecuted {
			if code == known {
				return history.Fail, err.Error()
			}
		}
		atomic.AddInt64(w.unexpected, 1)
		return history.Fail, "UNEXPECTED REPLY: " + err.Error()
	}
	return history.Info, err.Error()
}

// before turns an error of the reading part of an operation, which has no effect, into a definite one; the connection is
// closed if it may still get the late reply.
func (w *Worker) before(err error) error {
	var reply redis.Error
	if err == nil || (errors.As(err, &reply) && !strings.HasPrefix(reply.Error(), "UNKNOWN")) {
		return err
	}
	w.Reopen()
	return definite{err}
}

func number(text string, err error) (int64, error) {
	if err == redis.Nil {
		return history.Nil, nil
	}
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the value is not a number: %q", text)
	}
	return v, nil
}

// numbers is a counter of unique values.
type numbers struct{ last int64 }

func (n *numbers) next() int64 { return atomic.AddInt64(&n.last, 1) }

// rotation gives keys of which `width` are in use at once, each for about `uses` operations: so that histories per key stay
// short enough to be checked.
type rotation struct {
	width, uses int
	count       int64
}

func (r *rotation) key(rand *rand.Rand) int {
	n := int(atomic.AddInt64(&r.count, 1))
	return n/(r.width*r.uses)*r.width + rand.Intn(r.width)
}

// used is the number of keys so far.
func (r *rotation) used() int {
	return (int(atomic.LoadInt64(&r.count))/(r.width*r.uses) + 1) * r.width
}
