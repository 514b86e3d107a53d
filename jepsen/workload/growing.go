package workload

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"lockstep/jepsen/check"
	"lockstep/jepsen/history"
)

var counter = &Workload{Name: "counter", OKMin: 50,
	About: "INCR and GET: every increment returns its own value, none is lost, none happens twice, none goes back",
	Needs: []string{"incr", "get"},
	New:   func(int64) Instance { return &counterRun{} }}

type counterRun struct{}

const counters = 4

func (*counterRun) Setup(context.Context, *Worker) error { return nil }

func (r *counterRun) Step(ctx context.Context, w *Worker) {
	key := w.Rand.Intn(counters)
	if w.Rand.Intn(100) < 30 {
		r.read(ctx, w, key)
		return
	}
	w.Do(ctx, history.Op{F: "incr", Key: key, Arg: 1}, func(ctx context.Context, op *history.Op) (err error) {
		op.Result, err = w.Client.Incr(ctx, fmt.Sprintf("c%d", key)).Result()
		return err
	})
}

func (*counterRun) read(ctx context.Context, w *Worker, key int) {
	w.Do(ctx, history.Op{F: "read", Key: key}, func(ctx context.Context, op *history.Op) (err error) {
		op.Result, err = number(w.Client.Get(ctx, fmt.Sprintf("c%d", key)).Result())
		return err
	})
}

func (r *counterRun) Final(ctx context.Context, w *Worker) {
	for key := 0; key < counters; key++ {
		r.read(ctx, w, key)
	}
}

func (*counterRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.Counter(h.Ops)}
}

var set = &Workload{Name: "set", OKMin: 50,
	About: "elements are added for ever, and the whole set is read (SADD and SMEMBERS where they exist, else a key per element and " +
		"KEYS): nothing acknowledged or once seen is missing later, nothing refused is there",
	Needs: []string{"setnx", "keys"},
	New:   func(int64) Instance { return &setRun{sets: rotation{width: 2, uses: 400}} }}

type setRun struct {
	sets     rotation
	elements numbers
	native   bool
}

func (r *setRun) Setup(ctx context.Context, w *Worker) error {
	native := &Workload{Needs: []string{"sadd", "smembers"}}
	r.native = len(native.Missing(ctx, w.Client)) == 0
	return nil
}

func (r *setRun) Step(ctx context.Context, w *Worker) {
	key := r.sets.key(w.Rand)
	if w.Rand.Intn(100) < 15 {
		r.read(ctx, w, key)
		return
	}
	v := r.elements.next()
	w.Do(ctx, history.Op{F: "add", Key: key, Arg: v}, func(ctx context.Context, op *history.Op) error {
		if r.native {
			return w.Client.SAdd(ctx, fmt.Sprintf("s%d", key), v).Err()
		}
		return w.Client.SetNX(ctx, fmt.Sprintf("s%d:%d", key, v), 1, 0).Err()
	})
}

func (r *setRun) read(ctx context.Context, w *Worker, key int) {
	w.Do(ctx, history.Op{F: "read", Key: key}, func(ctx context.Context, op *history.Op) error {
		var list []string
		var err error
		if r.native {
			list, err = w.Client.SMembers(ctx, fmt.Sprintf("s%d", key)).Result()
		} else {
			list, err = w.Client.Keys(ctx, fmt.Sprintf("s%d:*", key)).Result()
		}
		op.List = []int64{}
		for _, text := range list {
			v, parseErr := strconv.ParseInt(text[strings.IndexByte(text, ':')+1:], 10, 64)
			if parseErr != nil {
				return parseErr
			}
			op.List = append(op.List, v)
		}
		sort.Slice(op.List, func(i, j int) bool { return op.List[i] < op.List[j] })
		return err
	})
}

func (r *setRun) Final(ctx context.Context, w *Worker) {
	if w.Index < 2 {
		for key := 0; key < r.sets.used(); key++ {
			r.read(ctx, w, key)
		}
	}
}

func (*setRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.Set(h.Ops)}
}

var appendList = &Workload{Name: "append", OKMin: 30,
	About: "transactions (MULTI/EXEC) of 1 to 4 reads and appends on lists (RPUSH and LRANGE where they exist, else APPEND and " +
		"GET): strictly serializable",
	Needs: []string{"append", "get", "multi", "exec"},
	New:   func(int64) Instance { return &appendRun{keys: rotation{width: 5, uses: 60}} }}

type appendRun struct {
	keys   rotation
	values numbers
	native bool
}

func (r *appendRun) Setup(ctx context.Context, w *Worker) error {
	native := &Workload{Needs: []string{"rpush", "lrange"}}
	r.native = len(native.Missing(ctx, w.Client)) == 0
	return nil
}

func (r *appendRun) Step(ctx context.Context, w *Worker) {
	txn := make([]history.Mop, 1+w.Rand.Intn(4))
	base := r.keys.key(w.Rand)
	base -= base % r.keys.width
	for i := range txn {
		key := base + w.Rand.Intn(r.keys.width)
		if w.Rand.Intn(2) == 0 {
			txn[i] = history.Mop{F: "r", Key: key}
		} else {
			txn[i] = history.Mop{F: "append", Key: key, Arg: r.values.next()}
		}
	}
	r.run(ctx, w, txn)
}

func (r *appendRun) run(ctx context.Context, w *Worker, txn []history.Mop) {
	w.Do(ctx, history.Op{F: "txn", Txn: txn}, func(ctx context.Context, op *history.Op) error {
		commands := make([]redis.Cmder, len(txn))
		_, err := w.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for i := range txn {
				commands[i] = r.queue(ctx, p, &txn[i])
			}
			return nil
		})
		if err != nil && err != redis.Nil {
			return err
		}
		for i := range txn {
			if txn[i].F == "append" {
				continue
			}
			if txn[i].List, err = listOf(commands[i]); err != nil {
				return err
			}
			txn[i].Seen = true
		}
		return nil
	})
}

func (r *appendRun) queue(ctx context.Context, p redis.Pipeliner, m *history.Mop) redis.Cmder {
	name := fmt.Sprintf("a%d", m.Key)
	switch {
	case m.F == "append" && r.native:
		return p.RPush(ctx, name, m.Arg)
	case m.F == "append":
		return p.Append(ctx, name, fmt.Sprintf("%d,", m.Arg))
	case r.native:
		return p.LRange(ctx, name, 0, -1)
	}
	return p.Get(ctx, name)
}

func listOf(command redis.Cmder) ([]int64, error) {
	var parts []string
	switch c := command.(type) {
	case *redis.StringSliceCmd:
		parts = c.Val()
	case *redis.StringCmd:
		if text := strings.TrimSuffix(c.Val(), ","); text != "" {
			parts = strings.Split(text, ",")
		}
	}
	if err := command.Err(); err != nil && err != redis.Nil {
		return nil, err
	}
	list := make([]int64, len(parts))
	for i, part := range parts {
		v, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("not a list of numbers: %w", err)
		}
		list[i] = v
	}
	return list, nil
}

func (r *appendRun) Final(ctx context.Context, w *Worker) {
	if w.Index > 1 {
		return
	}
	for key := 0; key < r.keys.used(); key++ {
		r.run(ctx, w, []history.Mop{{F: "r", Key: key}})
	}
}

func (*appendRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.ListAppend(h.Ops)}
}
