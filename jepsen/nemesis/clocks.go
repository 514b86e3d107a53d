package nemesis

import (
	"context"
	"fmt"
	"time"

	"lockstep/jepsen/control"
)

// altered sums the clock reads that faults altered.
func altered(nodes []*control.Node) int64 {
	var n int64
	for _, node := range nodes {
		n += node.Faults.Count(control.ClockReads)
	}
	return n
}

func clockFault(nodes []*control.Node, detail string, undo func()) (Running, error) {
	before := altered(nodes)
	return Running{Detail: detail, Stop: func(context.Context) (string, bool) {
		n := altered(nodes) - before
		undo()
		return fmt.Sprintf("%d clock reads altered", n), n > 0
	}}, nil
}

func bump(_ context.Context, env *Env) (Running, error) {
	nodes := env.some(len(env.Cluster.Nodes))
	detail := "wall clocks:"
	for _, node := range nodes {
		ms := env.Rand.Int63n(1 << uint(8+env.Rand.Intn(18))) // up to 0.25 s .. 9 h
		if env.Rand.Intn(2) == 0 {
			ms = -ms
		}
		node.Faults.SetWallOffset(ms)
		detail += fmt.Sprintf(" n%d %+d ms", node.Index+1, ms)
	}
	return clockFault(nodes, detail, func() {
		for _, node := range nodes {
			node.Faults.SetWallOffset(0)
		}
	})
}

func strobe(_ context.Context, env *Env) (Running, error) {
	nodes := env.some(len(env.Cluster.Nodes))
	ms := 200 + env.Rand.Int63n(60000)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for on := true; ; on = !on {
			for _, node := range nodes {
				if on {
					node.Faults.SetWallOffset(ms)
				} else {
					node.Faults.SetWallOffset(0)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return clockFault(nodes, fmt.Sprintf("wall clocks of %s jump %d ms to and fro every 50 ms", names(nodes), ms), func() {
		close(stop)
		<-done
		for _, node := range nodes {
			node.Faults.SetWallOffset(0)
		}
	})
}

func rate(env *Env, ppmMax int64) (Running, error) {
	nodes := env.some(len(env.Cluster.Nodes))
	detail := "clock rates:"
	for _, node := range nodes {
		ppm := env.Rand.Int63n(2*ppmMax) - ppmMax
		node.Faults.SetRate(ppm)
		detail += fmt.Sprintf(" n%d %+d ppm", node.Index+1, ppm)
	}
	return clockFault(nodes, detail, func() {
		for _, node := range nodes {
			node.Faults.SetRate(0)
		}
	})
}

var clocks = []*Fault{
	{Name: "clock-bump", About: "wall clocks of some nodes jump, by up to hours", Lasting: 4 * time.Second, Start: bump},
	{Name: "clock-strobe", About: "wall clocks jump to and fro every 50 ms", Lasting: 3 * time.Second, Start: strobe},
	{Name: "clock-rate", About: "clocks run up to 0.9 % fast or slow (within the bound rho)", Lasting: 6 * time.Second,
		Start: func(_ context.Context, env *Env) (Running, error) { return rate(env, 9000) }},
	{Name: "clock-rate-wild", About: "clocks run up to 50 % fast or slow: beyond what leases and TTLs promise",
		Lasting: 5 * time.Second,
		Start:   func(_ context.Context, env *Env) (Running, error) { return rate(env, 500000) }},
}
