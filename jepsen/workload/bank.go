package workload

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"lockstep/jepsen/check"
	"lockstep/jepsen/history"
)

const (
	banks        = 3
	bankAccounts = 6
	bankEach     = 100
)

var bank = &Workload{Name: "bank", OKMin: 20,
	About: "transfers between accounts by WATCH, MGET, MULTI, SET, EXEC; reads by MGET and by GETs in MULTI/EXEC: the sum never changes",
	Needs: []string{"watch", "multi", "exec", "mget", "set", "mset"},
	New:   func(int64) Instance { return &bankRun{} }}

type bankRun struct{}

func account(bank, i int) string { return fmt.Sprintf("b%d:%d", bank, i) }

func accounts(bank int) []string {
	names := make([]string, bankAccounts)
	for i := range names {
		names[i] = account(bank, i)
	}
	return names
}

func (*bankRun) Setup(ctx context.Context, w *Worker) error {
	for b := 0; b < banks; b++ {
		for _, name := range accounts(b) {
			if err := w.Client.Set(ctx, name, bankEach, 0).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

var errPoor = definite{errors.New("not enough money")}

func (r *bankRun) Step(ctx context.Context, w *Worker) {
	b := w.Rand.Intn(banks)
	if w.Rand.Intn(100) < 45 {
		r.read(ctx, w, b, w.Rand.Intn(2) == 0)
		return
	}
	pair := w.Rand.Perm(bankAccounts)
	from, to := account(b, pair[0]), account(b, pair[1])
	amount := 1 + w.Rand.Int63n(20)
	// The key names bank and account: bank * 100 + account.
	op := history.Op{F: "transfer", Key: b*100 + pair[0], Arg: int64(b*100 + pair[1]), Arg2: amount}
	w.Do(ctx, op, func(ctx context.Context, op *history.Op) error {
		var left, right int64
		return optimistic(ctx, w, func(tx *redis.Tx) error {
			list, err := tx.MGet(ctx, from, to).Result()
			if err != nil {
				return err
			}
			if left, err = numberOf(list[0]); err == nil {
				right, err = numberOf(list[1])
			}
			if err == nil && left < amount {
				return errPoor
			}
			return err
		}, func(p redis.Pipeliner) {
			p.Set(ctx, from, left-amount, 0)
			p.Set(ctx, to, right+amount, 0)
		}, from, to)
	})
}

func (*bankRun) read(ctx context.Context, w *Worker, b int, inExec bool) {
	via := "mget"
	if inExec {
		via = "exec"
	}
	w.Do(ctx, history.Op{F: "read", Key: b, Via: via}, func(ctx context.Context, op *history.Op) error {
		if !inExec {
			list, err := w.Client.MGet(ctx, accounts(b)...).Result()
			return balances(op, list, err)
		}
		var gets []*redis.StringCmd
		_, err := w.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for _, name := range accounts(b) {
				gets = append(gets, p.Get(ctx, name))
			}
			return nil
		})
		var list []interface{}
		for _, get := range gets {
			list = append(list, get.Val())
		}
		return balances(op, list, err)
	})
}

func balances(op *history.Op, list []interface{}, err error) error {
	if err != nil {
		return err
	}
	op.List = nil
	for _, v := range list {
		balance, err := numberOf(v)
		if err != nil {
			return err
		}
		op.List = append(op.List, balance)
	}
	return nil
}

func (r *bankRun) Final(ctx context.Context, w *Worker) {
	for b := 0; b < banks; b++ {
		r.read(ctx, w, b, b%2 == 0)
	}
}

func (*bankRun) Check(h *history.History) []*check.Result {
	return []*check.Result{check.Bank(h.Ops, bankAccounts, bankAccounts*bankEach)}
}
