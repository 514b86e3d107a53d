package workload

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"lockstep/jepsen/check"
	"lockstep/jepsen/history"
)

var modes = &Workload{Name: "modes", OKMin: 50,
	About: "READMODE linearizable, session and stale on all nodes, each checked against what it promises",
	Needs: []string{"readmode", "get", "set"},
	New:   func(int64) Instance { return &modesRun{conns: map[int]*modeConn{}} }}

// One writer per key, with growing values. After an unknown write, which may still come, the writer takes a new key.
type modesRun struct {
	mu    sync.Mutex
	conns map[int]*modeConn // by worker
	keys  numbers
	open  []int // keys in use, by worker
}

type modeConn struct {
	mode    string
	staleMs int64
	opened  int64 // connections so far: each is a session of its own
	seen    int64
	key     int
	value   int64
}

var readModes = []struct {
	name    string
	staleMs int64
}{{"session", 0}, {"stale", 0}, {"linearizable", 0}, {"session", 0}, {"stale", 500}}

func (*modesRun) Setup(context.Context, *Worker) error { return nil }

// conn gives the worker's state, and makes its client set the mode on each connection it opens.
func (r *modesRun) conn(w *Worker) *modeConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.conns[w.Index]
	if c == nil {
		mode := readModes[(w.Index+w.Index/len(readModes))%len(readModes)]
		c = &modeConn{mode: mode.name, staleMs: mode.staleMs, key: int(r.keys.next())}
		r.conns[w.Index] = c
		r.open = append(r.open, c.key)
		args := []interface{}{"READMODE", mode.name}
		if mode.staleMs > 0 {
			args = append(args, mode.staleMs)
		}
		w.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
			atomic.AddInt64(&c.opened, 1)
			return conn.Process(ctx, redis.NewCmd(ctx, args...))
		}
		w.Reopen()
	}
	return c
}

// session numbers the process anew if the connection is another one than before.
func (c *modeConn) session(w *Worker, op *history.Op) {
	if opened := atomic.LoadInt64(&c.opened); opened != c.seen {
		c.seen = opened
		w.NewProcess()
	}
	op.Process = w.Process()
}

func (r *modesRun) anyKey(w *Worker) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open[w.Rand.Intn(len(r.open))]
}

func modesName(key int) string { return fmt.Sprintf("m%d", key) }

func (r *modesRun) Step(ctx context.Context, w *Worker) {
	c := r.conn(w)
	if w.Rand.Intn(100) < 65 {
		r.read(ctx, w, c, r.anyKey(w))
		return
	}
	c.value++
	op := w.Do(ctx, history.Op{F: "write", Key: c.key, Arg: c.value}, func(ctx context.Context, op *history.Op) error {
		err := w.Client.Set(ctx, modesName(c.key), c.value, 0).Err()
		c.session(w, op)
		return err
	})
	if op.Outcome == history.Info || c.value > 300 {
		r.mu.Lock()
		for i := range r.open {
			if r.open[i] == c.key {
				c.key, c.value = int(r.keys.next()), 0
				r.open[i] = c.key
				break
			}
		}
		r.mu.Unlock()
	}
}

func (r *modesRun) read(ctx context.Context, w *Worker, c *modeConn, key int) {
	w.Do(ctx, history.Op{F: "read", Key: key, Via: c.mode, Arg2: c.staleMs}, func(ctx context.Context, op *history.Op) (err error) {
		op.Result, err = number(w.Client.Get(ctx, modesName(key)).Result())
		c.session(w, op)
		return err
	})
}

func (r *modesRun) Final(ctx context.Context, w *Worker) {
	c := r.conn(w)
	for i := 0; i < 5; i++ {
		r.read(ctx, w, c, r.anyKey(w))
	}
}

func (*modesRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.Modes(h.Ops)}
}
