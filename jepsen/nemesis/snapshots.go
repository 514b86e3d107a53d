package nemesis

import (
	"context"
	"fmt"
	"time"

	"lockstep/jepsen/control"
)

// smallSnapshots lets nodes take a snapshot every few hundred writes and keep no log before it.
var smallSnapshots = []string{"--snapshot-log-size", "64kb", "--log-keep", "0"}

const (
	ballastKeys  = 25
	ballastBytes = 4096 // of each; random, so that a snapshot is not smaller
)

// breaking is one fault of interrupted snapshots under way. A counter of INFO begins at 0 with each process, so sums are taken over
// what was seen.
type breaking struct {
	env         *Env
	installs    int
	interrupted int
}

// behind cuts a node off until the others have dropped the log that it would need next; false: they did not in time.
func (b *breaking) behind(ctx context.Context, node *control.Node) bool {
	island, err := isolate(b.env, node.Index, "")
	if err != nil {
		return false
	}
	defer island.Stop(context.Background())
	status, err := node.Status(ctx)
	if err != nil {
		return false
	}
	sleep(ctx, 300*time.Millisecond) // of writes that it misses
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 50*time.Millisecond) {
		leader := b.env.Cluster.Leader(ctx)
		if leader == nil || leader == node {
			continue
		}
		if leader.Info(ctx)["snapshot_index"] > status.Last { // and no log is kept before it
			return true
		}
		b.take(ctx)
	}
	return false
}

// take lets every node that answers take a snapshot.
func (b *breaking) take(ctx context.Context) {
	for _, node := range b.env.Cluster.Nodes {
		if node.Usable() {
			client := node.Client(time.Second)
			_ = client.Do(ctx, "LOCKSTEP", "SNAPSHOT", "TAKE").Err()
			client.Close()
		}
	}
}

// ballast makes snapshots large enough to take a while on their way.
func ballast(ctx context.Context, env *Env) {
	leader, _ := env.leader(ctx)
	client := leader.Client(2 * time.Second)
	defer client.Close()
	value := make([]byte, ballastBytes)
	for i := 0; i < ballastKeys; i++ {
		_, _ = env.Rand.Read(value)
		_ = client.Set(ctx, fmt.Sprintf("ballast:%d", i), value, 0).Err() // without a leader there is less of it
	}
}

// narrow lets everything that is sent to the node pass slowly, so that a transfer can be met half-way.
func (b *breaking) narrow(node *control.Node, bytesPerS int64) {
	for i := range b.env.Cluster.Nodes {
		if i != node.Index {
			b.env.Cluster.Network.SetQuality(i, node.Index, control.Condition{BytesPerS: bytesPerS})
		}
	}
}

// fetching waits until the node has got a part of a snapshot.
func (b *breaking) fetching(ctx context.Context, node *control.Node, limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 5*time.Millisecond) {
		info := node.Info(ctx)
		if info["snapshot_fetch_bytes"] > 0 && info["snapshot_fetch_bytes"] < info["snapshot_fetch_total"] {
			return true
		}
		if info["snapshot_installs"] > 0 {
			return false
		}
	}
	return false
}

// interrupt a transfer: the link, the receiver, or the sender.
func (b *breaking) interrupt(ctx context.Context, node *control.Node) {
	b.interrupted++
	length := time.Duration(20+b.env.Rand.Intn(600)) * time.Millisecond
	switch b.env.Rand.Intn(4) {
	case 0, 1:
		island, err := isolate(b.env, node.Index, "")
		if err == nil {
			sleep(ctx, length)
			island.Stop(context.Background())
		}
	case 2:
		node.Kill()
		sleep(ctx, length)
		_, _ = startAgain([]*control.Node{node}, "", true)
	default:
		if leader := b.env.Cluster.Leader(ctx); leader != nil && leader != node {
			leader.Kill()
			sleep(ctx, length)
			_, _ = startAgain([]*control.Node{leader}, "", true)
		}
	}
}

func (b *breaking) round(ctx context.Context) {
	node := b.env.Cluster.Nodes[b.env.Rand.Intn(len(b.env.Cluster.Nodes))]
	installs := node.Info(ctx)["snapshot_installs"]
	b.narrow(node, 100000+b.env.Rand.Int63n(300000))
	if b.behind(ctx, node) {
		for i := b.env.Rand.Intn(3); i >= 0 && b.fetching(ctx, node, 2*time.Second); i-- {
			b.interrupt(ctx, node)
		}
	}
	b.narrow(node, 0)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 20*time.Millisecond) {
		info := node.Info(ctx)
		if n := info["snapshot_installs"]; n < installs {
			installs = 0 // it was killed and counts anew
		} else if n > installs {
			b.installs++
			return
		}
	}
}

// breakSnapshots lets one node after the other fall so far behind that it needs a snapshot, and interrupts the transfer.
func breakSnapshots(ctx context.Context, env *Env) (Running, error) {
	ballast(ctx, env)
	b := &breaking{env: env}
	limited, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for limited.Err() == nil {
			b.round(limited)
		}
	}()
	return Running{Detail: "nodes are cut off until the log they need is gone; their snapshots are interrupted",
		Stop: func(ctx context.Context) (string, bool) {
			stop()
			<-done
			return fmt.Sprintf("%d snapshots interrupted on their way, %d installed in the end", b.interrupted, b.installs),
				b.interrupted > 0 && b.installs > 0
		}}, nil
}
