package nemesis

import (
	"context"
	"fmt"
	"time"

	"lockstep/jepsen/control"
)

func kill(env *Env, nodes []*control.Node) (Running, error) {
	killed := 0
	for _, node := range nodes {
		if node.Kill() {
			killed++
		}
	}
	return Running{Detail: "kill -9 " + names(nodes), Stop: func(context.Context) (string, bool) {
		return startAgain(nodes, fmt.Sprintf("%d processes killed", killed), killed > 0)
	}}, nil
}

// startAgain starts those that do not run (another fault may have done so).
func startAgain(nodes []*control.Node, said string, ok bool) (string, bool) {
	for _, node := range nodes {
		if !node.Alive() {
			if err := node.Start(); err != nil && !node.Alive() {
				return said + "; " + err.Error(), false
			}
		}
	}
	return said, ok
}

func killAll(_ context.Context, env *Env) (Running, error) {
	env.Cluster.KillAll()
	nodes := env.Cluster.Nodes
	return Running{Detail: "kill -9 to all", Stop: func(context.Context) (string, bool) {
		return startAgain(nodes, "all processes killed", true)
	}}, nil
}

func pause(env *Env, nodes []*control.Node) (Running, error) {
	stopped := 0
	for _, node := range nodes {
		if node.Pause() {
			stopped++
		}
	}
	return Running{Detail: "SIGSTOP " + names(nodes), Stop: func(context.Context) (string, bool) {
		for _, node := range nodes {
			node.Resume()
		}
		return fmt.Sprintf("%d processes were stopped", stopped), stopped > 0
	}}, nil
}

// pauseLeader stops whoever leads for about as long as its lease or its followers' patience lasts, again and again: it
// wakes up when it may just have lost what it relied on.
func pauseLeader(ctx context.Context, env *Env) (Running, error) {
	timeout := env.Cluster.Config().ElectionTimeout
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		stopped := 0
		for {
			leader, known := env.leader(ctx)
			if known && leader.Pause() {
				stopped++
			}
			length := timeout*8/10 + time.Duration(env.Rand.Int63n(int64(timeout*16/10)))
			last := false
			select {
			case <-stop:
				last = true
			case <-time.After(length):
			}
			leader.Resume()
			if last {
				done <- stopped
				return
			}
			select {
			case <-stop:
				done <- stopped
				return
			case <-time.After(100*time.Millisecond + time.Duration(env.Rand.Int63n(int64(timeout)))):
			}
		}
	}()
	return Running{Detail: "SIGSTOP the leader around its time-out, repeatedly",
		Stop: func(context.Context) (string, bool) {
			close(stop)
			stopped := <-done
			return fmt.Sprintf("%d pauses of a leader", stopped), stopped > 0
		}}, nil
}

// islandPause cuts the leader off, stops it until the others have another leader, and lets it go on while it is still cut off:
// with questions of clients waiting, and nobody to tell it that it was deposed. Then it heals, and begins anew.
func islandPause(ctx context.Context, env *Env) (Running, error) {
	timeout := env.Cluster.Config().ElectionTimeout
	stop, done := make(chan struct{}), make(chan int)
	wait := func(d time.Duration) bool {
		select {
		case <-stop:
			return false
		case <-time.After(d):
			return true
		}
	}
	go func() {
		rounds := 0
		for more := true; more; {
			leader, known := env.leader(ctx)
			island, _ := isolate(env, leader.Index, "")
			if known && leader.Pause() {
				rounds++
			}
			more = wait(timeout*2 + time.Duration(env.Rand.Int63n(int64(timeout*3))))
			leader.Resume()
			more = wait(timeout/2) && more
			island.Stop(ctx)
			more = more && wait(timeout+time.Duration(env.Rand.Int63n(int64(timeout*2))))
		}
		done <- rounds
	}()
	return Running{Detail: "the leader is cut off and stopped, goes on while cut off, and comes back; repeatedly",
		Stop: func(context.Context) (string, bool) {
			close(stop)
			rounds := <-done
			return fmt.Sprintf("%d rounds", rounds), rounds > 0
		}}, nil
}

// rolling stops one node after the other gracefully and starts the other binary, then back.
func rolling(ctx context.Context, env *Env) (Running, error) {
	config := env.Cluster.Config()
	other := config.OtherBinary
	if other == "" {
		other = config.Binary
	}
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		restarted := 0
		defer func() { done <- restarted }()
		for round := 0; ; round++ {
			binary := other
			if round%2 == 1 {
				binary = config.Binary
			}
			for _, i := range env.Rand.Perm(len(env.Cluster.Nodes)) {
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				case <-time.After(300 * time.Millisecond):
				}
				node := env.Cluster.Nodes[i]
				stopped := node.Terminate(5 * time.Second)
				node.SetBinary(binary)
				if node.Start() == nil && stopped {
					restarted++
				}
			}
		}
	}()
	return Running{Detail: "restart one node after the other with the other binary", Stop: func(context.Context) (string, bool) {
		close(stop)
		restarted := <-done
		return fmt.Sprintf("%d graceful restarts", restarted), restarted > 0
	}}, nil
}

var processes = []*Fault{
	{Name: "kill", About: "kill -9 to a minority, started again later", Lasting: 3 * time.Second,
		Start: func(_ context.Context, env *Env) (Running, error) { return kill(env, env.minority()) }},
	{Name: "kill-leader", About: "kill -9 to the leader", Lasting: 2 * time.Second,
		Start: func(ctx context.Context, env *Env) (Running, error) {
			leader, _ := env.leader(ctx)
			return kill(env, []*control.Node{leader})
		}},
	{Name: "kill-all", About: "kill -9 to all nodes at once", Lasting: time.Second, Start: killAll},
	{Name: "pause", About: "SIGSTOP to a minority", Lasting: 3 * time.Second,
		Start: func(_ context.Context, env *Env) (Running, error) { return pause(env, env.minority()) }},
	{Name: "pause-leader", About: "SIGSTOP to the leader for 0.8 to 2.4 election time-outs, again and again",
		Lasting: 6 * time.Second, Start: pauseLeader},
	{Name: "island-pause", About: "the leader is cut off and stopped for 2 to 5 election time-outs, then runs while still cut off",
		Lasting: 8 * time.Second, Start: islandPause},
	{Name: "rolling", About: "graceful restart of one node after the other, alternating two binaries (--binary2)",
		Lasting: 8 * time.Second, Start: rolling},
}
