package nemesis

import (
	"context"
	"fmt"
	"time"

	"lockstep/jepsen/control"
)

// weather gives all links a condition.
func weather(env *Env, detail string, draw func() control.Condition, delayed bool) (Running, error) {
	network := env.Cluster.Network
	before := network.Traffic()
	for i := range env.Cluster.Nodes {
		for j := range env.Cluster.Nodes {
			if i != j {
				network.SetQuality(i, j, draw())
			}
		}
	}
	return Running{Detail: detail, Stop: func(context.Context) (string, bool) {
		now := network.Traffic()
		for i := range env.Cluster.Nodes {
			for j := range env.Cluster.Nodes {
				network.SetQuality(i, j, control.Condition{})
			}
		}
		n := now.Dropped - before.Dropped
		if delayed {
			n = now.Delayed - before.Delayed
			return fmt.Sprintf("%d packets delayed", n), n > 0
		}
		return fmt.Sprintf("%d packets dropped", n), n > 0
	}}, nil
}

func delay(_ context.Context, env *Env) (Running, error) {
	ms := 1 + env.Rand.Int63n(60)
	return weather(env, fmt.Sprintf("each link %d ms slower, with as much jitter", ms), func() control.Condition {
		return control.Condition{Delay: time.Duration(ms) * time.Millisecond, Jitter: time.Duration(ms) * time.Millisecond}
	}, true)
}

func loss(_ context.Context, env *Env) (Running, error) {
	p := 0.01 + 0.2*env.Rand.Float64()
	return weather(env, fmt.Sprintf("%.0f %% of all packets lost", p*100), func() control.Condition {
		return control.Condition{Loss: p}
	}, false)
}

func bandwidth(_ context.Context, env *Env) (Running, error) {
	bytes := 50000 + env.Rand.Int63n(500000)
	return weather(env, fmt.Sprintf("each link carries %d bytes/s", bytes), func() control.Condition {
		return control.Condition{BytesPerS: bytes}
	}, true)
}

var links = []*Fault{
	{Name: "link-delay", About: "all links get 1 to 60 ms of delay and jitter", Lasting: 4 * time.Second, Start: delay},
	{Name: "link-loss", About: "1 to 21 % of all packets are lost", Lasting: 4 * time.Second, Start: loss},
	{Name: "link-bandwidth", About: "all links carry 50 to 550 kB/s", Lasting: 4 * time.Second, Start: bandwidth},
}

// transferStorm moves leadership to a random node again and again.
func transferStorm(ctx context.Context, env *Env) (Running, error) {
	stop, done := make(chan struct{}), make(chan [2]int)
	go func() {
		moved, refused := 0, 0
		defer func() { done <- [2]int{moved, refused} }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(50+env.Rand.Intn(400)) * time.Millisecond):
			}
			leader, known := env.leader(ctx)
			if !known {
				continue
			}
			target := env.Rand.Intn(len(env.Cluster.Nodes)) + 1
			client := leader.Client(time.Second)
			err := client.Do(ctx, "LOCKSTEP", "TRANSFER", fmt.Sprint(target)).Err()
			client.Close()
			if err == nil {
				moved++
			} else {
				refused++
			}
		}
	}()
	return Running{Detail: "leadership moves to random nodes", Stop: func(context.Context) (string, bool) {
		close(stop)
		n := <-done
		return fmt.Sprintf("%d transfers accepted, %d not", n[0], n[1]), n[0] > 0
	}}, nil
}

// Needs membership change and snapshots in the product: seams.
var operations = []*Fault{
	{Name: "transfer", About: "leadership transfers in a storm (LOCKSTEP TRANSFER)", Lasting: 4 * time.Second,
		Start: transferStorm},
	{Name: "membership", About: "nodes leave and join", LeftOut: "membership changes have no command yet",
		Lasting: 5 * time.Second},
	{Name: "snapshot", About: "snapshot transfers are interrupted", LeftOut: "there are no snapshots yet",
		Lasting: 5 * time.Second},
}
