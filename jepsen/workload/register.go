package workload

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"lockstep/jepsen/check"
	"lockstep/jepsen/history"
)

const checkLimit = 90 * time.Second // for Porcupine, over all keys

var register = &Workload{Name: "register", OKMin: 50,
	About: "read, write and GETSET on integers; reads by GET, MGET, MULTI/EXEC, GETRANGE and behind a pipelined write, on all " +
		"nodes, each linearizable",
	Needs: []string{"get", "set", "getset", "mget", "getrange", "multi", "exec"},
	New:   func(int64) Instance { return &registerRun{keys: rotation{width: 30, uses: 40}} }}

type registerRun struct {
	keys   rotation
	values numbers
}

func registerKey(key int) string { return fmt.Sprintf("r%d", key) }

func (*registerRun) Setup(context.Context, *Worker) error { return nil }

func (r *registerRun) Step(ctx context.Context, w *Worker) {
	key := r.keys.key(w.Rand)
	switch dice := w.Rand.Intn(100); {
	case dice < 50:
		r.read(ctx, w, key, []string{"get", "mget", "exec", "getrange"}[w.Rand.Intn(4)])
	case dice < 80:
		value := r.values.next()
		w.Do(ctx, history.Op{F: "write", Key: key, Arg: value}, func(ctx context.Context, op *history.Op) error {
			return w.Client.Set(ctx, registerKey(key), value, 0).Err()
		})
	case dice < 90:
		value := r.values.next()
		w.Do(ctx, history.Op{F: "swap", Key: key, Arg: value}, func(ctx context.Context, op *history.Op) (err error) {
			op.Result, err = number(w.Client.GetSet(ctx, registerKey(key), value).Result())
			return err
		})
	default:
		r.pipelined(ctx, w, key)
	}
}

func (r *registerRun) read(ctx context.Context, w *Worker, key int, via string) {
	name := registerKey(key)
	w.Do(ctx, history.Op{F: "read", Key: key, Via: via}, func(ctx context.Context, op *history.Op) (err error) {
		switch via {
		case "get":
			op.Result, err = number(w.Client.Get(ctx, name).Result())
		case "getrange":
			var text string
			text, err = w.Client.GetRange(ctx, name, 0, -1).Result()
			if err == nil && text == "" {
				err = redis.Nil
			}
			op.Result, err = number(text, err)
		case "mget":
			var list []interface{}
			list, err = w.Client.MGet(ctx, name).Result()
			if err == nil {
				op.Result, err = numberOf(list[0])
			}
		case "exec":
			var get *redis.StringCmd
			_, err = w.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
				get = p.Get(ctx, name)
				return nil
			})
			if err == nil || err == redis.Nil {
				op.Result, err = number(get.Result())
			}
		}
		return err
	})
}

func numberOf(v interface{}) (int64, error) {
	if v == nil {
		return history.Nil, nil
	}
	text, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf("not a string: %v", v)
	}
	return strconv.ParseInt(text, 10, 64)
}

// pipelined is SET and GET in one go, as two operations of one interval. The read runs behind the write of its own connection,
// without a round of echoes of its own: another path in the product.
func (r *registerRun) pipelined(ctx context.Context, w *Worker, key int) {
	value := r.values.next()
	var get *redis.StringCmd
	var set *redis.StatusCmd
	write := history.Op{F: "write", Key: key, Arg: value, Via: "pipeline"}
	read := history.Op{F: "read", Key: key, Via: "pipeline"}
	read.Process, read.Node, read.Invoke = w.process, w.Node.Index+1, w.Since()
	w.Do(ctx, write, func(ctx context.Context, op *history.Op) error {
		_, err := w.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
			set = p.Set(ctx, registerKey(key), value, 0)
			get = p.Get(ctx, registerKey(key))
			return nil
		})
		if set.Err() == nil && set.Val() != "OK" { // without a connection the commands carry no error of their own
			return err
		}
		return set.Err()
	})
	result, err := number(get.Result())
	read.Return = w.Since()
	if err == nil && get.Val() != "" { // a read without a result says nothing
		read.Result, read.Outcome = result, history.OK
		w.History.Add(read)
	}
}

func (r *registerRun) Final(ctx context.Context, w *Worker) {
	used := r.keys.used()
	for i := 0; i < 60 && used-1-i >= 0; i++ {
		r.read(ctx, w, used-1-i, "get")
	}
}

func (r *registerRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.Register(h.Ops, checkLimit)}
}
