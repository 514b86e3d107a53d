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
