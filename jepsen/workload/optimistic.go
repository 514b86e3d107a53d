package workload

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"lockstep/jepsen/check"
	"lockstep/jepsen/history"
)

var watch = &Workload{Name: "watch", OKMin: 20,
	About: "compare-and-set by WATCH, GET, MULTI, SET, EXEC: linearizable with reads and plain writes",
	Needs: []string{"watch", "multi", "exec", "get", "set"},
	New:   func(int64) Instance { return &watchRun{keys: rotation{width: 15, uses: 50}} }}

type watchRun struct {
	keys   rotation
	values numbers
}

func (*watchRun) Setup(context.Context, *Worker) error { return nil }

// optimistic runs a transaction: `read` under WATCH, then the commands of `write` by EXEC.
func optimistic(ctx context.Context, w *Worker, read func(*redis.Tx) error, write func(redis.Pipeliner), keys ...string) error {
	sent := false
	err := w.Client.Watch(ctx, func(tx *redis.Tx) error {
		if err := read(tx); err != nil {
			return err
		}
		sent = true
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			write(p)
			return nil
		})
		return err
	}, keys...)
	if err == redis.TxFailedErr {
		return errConflict
	}
	if err != nil && !sent {
		return w.before(err)
	}
	return err
}

func (r *watchRun) Step(ctx context.Context, w *Worker) {
	key := r.keys.key(w.Rand)
	name := registerKey(key)
	switch dice := w.Rand.Intn(100); {
	case dice < 30:
		w.Do(ctx, history.Op{F: "read", Key: key}, func(ctx context.Context, op *history.Op) (err error) {
			op.Result, err = number(w.Client.Get(ctx, name).Result())
			return err
		})
	case dice < 45:
		value := r.values.next()
		w.Do(ctx, history.Op{F: "write", Key: key, Arg: value}, func(ctx context.Context, op *history.Op) error {
			return w.Client.Set(ctx, name, value, 0).Err()
		})
	default:
		value := r.values.next()
		w.Do(ctx, history.Op{F: "cas", Key: key, Arg: history.Nil, Arg2: value},
			func(ctx context.Context, op *history.Op) error {
				return optimistic(ctx, w, func(tx *redis.Tx) (err error) {
					op.Arg, err = number(tx.Get(ctx, name).Result())
					return err
				}, func(p redis.Pipeliner) { p.Set(ctx, name, value, 0) }, name)
			})
	}
}

func (r *watchRun) Final(ctx context.Context, w *Worker) {
	for key := r.keys.used() - 1; key >= 0 && key >= r.keys.used()-12; key-- {
		name := registerKey(key)
		w.Do(ctx, history.Op{F: "read", Key: key}, func(ctx context.Context, op *history.Op) (err error) {
			op.Result, err = number(w.Client.Get(ctx, name).Result())
			return err
		})
	}
}

func (r *watchRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.Register(h.Ops, checkLimit)}
}

var lock = &Workload{Name: "lock", OKMin: 20,
	About: "locks by SET NX, released by the holder with WATCH, GET, MULTI, DEL, EXEC: never two holders; fencing tokens when " +
		"the product has them",
	Needs: []string{"set", "get", "del", "watch", "multi", "exec"},
	New:   func(int64) Instance { return &lockRun{keys: rotation{width: 15, uses: 50}} }}

type lockRun struct {
	keys   rotation
	tokens numbers
}

type held struct {
	key   int
	token int64
}

func (*lockRun) Setup(context.Context, *Worker) error { return nil }

func lockName(key int) string { return fmt.Sprintf("lock%d", key) }

func (r *lockRun) Step(ctx context.Context, w *Worker) {
	key := r.keys.key(w.Rand)
	if w.Rand.Intn(10) == 0 {
		r.look(ctx, w, key)
		return
	}
	token := r.tokens.next()
	op := w.Do(ctx, history.Op{F: "acquire", Key: key, Arg: token}, func(ctx context.Context, op *history.Op) error {
		err := w.Client.SetArgs(ctx, lockName(key), token, redis.SetArgs{Mode: "NX"}).Err()
		op.Result = 1
		if err == redis.Nil {
			op.Result, err = 0, nil
		}
		return err
	})
	if op.Outcome == history.Fail || (op.Outcome == history.OK && op.Result == 0) {
		return
	}
	for i := 0; i < 5 && ctx.Err() == nil; i++ {
		if r.release(ctx, w, held{key, token}).Outcome == history.OK {
			return
		}
	}
}

func (r *lockRun) look(ctx context.Context, w *Worker, key int) {
	w.Do(ctx, history.Op{F: "read", Key: key}, func(ctx context.Context, op *history.Op) (err error) {
		op.Result, err = number(w.Client.Get(ctx, lockName(key)).Result())
		return err
	})
}

func (r *lockRun) release(ctx context.Context, w *Worker, h held) history.Op {
	name := lockName(h.key)
	return w.Do(ctx, history.Op{F: "release", Key: h.key, Arg: h.token}, func(ctx context.Context, op *history.Op) error {
		op.Result = 1
		return optimistic(ctx, w, func(tx *redis.Tx) error {
			holder, err := number(tx.Get(ctx, name).Result())
			if err == nil && holder != h.token {
				return errNotHolder
			}
			return err
		}, func(p redis.Pipeliner) { p.Del(ctx, name) }, name)
	})
}

// errNotHolder: nothing was executed; the observation that it is not ours is dropped, not claimed.
var errNotHolder = definite{fmt.Errorf("not the holder")}

func (r *lockRun) Final(ctx context.Context, w *Worker) {
	for key := r.keys.used() - 1; key >= 0 && key >= r.keys.used()-8; key-- {
		r.look(ctx, w, key)
	}
}

func (r *lockRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.Lock(h.Ops, checkLimit)}
}
