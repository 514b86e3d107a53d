package workload

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"lockstep/jepsen/check"
	"lockstep/jepsen/history"
)

var ttl = &Workload{Name: "ttl", OKMin: 50,
	About: "keys with a time to live (SET PX, PSETEX, PEXPIRE in MULTI/EXEC), read on all nodes: none dies early, none comes back, " +
		"all die in the end",
	Needs: []string{"set", "psetex", "pexpire", "get", "multi", "exec"},
	New:   func(int64) Instance { return &ttlRun{} }}

// Cluster time may run faster than real time by rho and slew (1 % each, consensus/cluster_clock.h) on clocks that themselves run
// at most 0.9 % fast (nemesis clock-rate). It may stand still while a majority of wall clocks is behind: then keys live longer.
var ttlBounds = check.TTLBounds{Fast: 1.03, Late: 20 * time.Second}

const ttlDeathMax = 25 * time.Second // after healing, all keys are dead within this

type ttlRun struct {
	mu   sync.Mutex
	last int
	live []ttlKey
}

type ttlKey struct {
	key   int
	until time.Time
}

func ttlName(key int) string { return fmt.Sprintf("t%d", key) }

func (*ttlRun) Setup(context.Context, *Worker) error { return nil }

func (r *ttlRun) Step(ctx context.Context, w *Worker) {
	if w.Rand.Intn(100) < 15 {
		r.write(ctx, w)
		return
	}
	if key, ok := r.pick(w); ok {
		r.read(ctx, w, key)
	} else {
		r.write(ctx, w)
	}
}

// pick one of the newest keys: alive, or dead for not too long.
func (r *ttlRun) pick(w *Worker) (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.live) > 0 && time.Since(r.live[0].until) > 3*time.Second {
		r.live = r.live[1:]
	}
	if len(r.live) == 0 {
		return 0, false
	}
	return r.live[w.Rand.Intn(len(r.live))].key, true
}

func (r *ttlRun) write(ctx context.Context, w *Worker) {
	ms := 100 + w.Rand.Int63n(3000)
	r.mu.Lock()
	r.last++
	key := r.last
	r.live = append(r.live, ttlKey{key, time.Now().Add(time.Duration(ms) * time.Millisecond)})
	r.mu.Unlock()
	name, life := ttlName(key), time.Duration(ms)*time.Millisecond
	via := []string{"set", "psetex", "pexpire"}[w.Rand.Intn(3)]
	w.Do(ctx, history.Op{F: "write", Key: key, Arg: int64(key), Arg2: ms, Via: via},
		func(ctx context.Context, op *history.Op) error {
			switch via {
			case "set":
				return w.Client.Set(ctx, name, key, life).Err()
			case "psetex":
				return w.Client.Do(ctx, "PSETEX", name, ms, key).Err()
			}
			_, err := w.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, name, key, 0)
				p.PExpire(ctx, name, life)
				return nil
			})
			return err
		})
}

func (r *ttlRun) read(ctx context.Context, w *Worker, key int) history.Op {
	return w.Do(ctx, history.Op{F: "read", Key: key}, func(ctx context.Context, op *history.Op) (err error) {
		op.Result, err = number(w.Client.Get(ctx, ttlName(key)).Result())
		return err
	})
}

// Final waits for each worker's share of the last keys to die; what outlives the bound is left for the checker to see.
func (r *ttlRun) Final(ctx context.Context, w *Worker) {
	deadline := time.Now().Add(ttlDeathMax)
	for key := r.last - w.Index; key > 0 && key > r.last-400; key -= 10 {
		for ctx.Err() == nil {
			op := r.read(ctx, w, key)
			if op.Outcome == history.OK && (op.Result == history.Nil || time.Now().After(deadline)) {
				break
			}
			pause(ctx, 100*time.Millisecond)
			if time.Now().After(deadline.Add(5 * time.Second)) {
				return
			}
		}
	}
}

func (*ttlRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.TTL(h.Ops, ttlBounds)}
}
