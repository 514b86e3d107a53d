package nemesis

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"time"

	"lockstep/jepsen/control"
)

// losses is one fault of lost disks under way: one node after the other loses its data and is replaced by an operator.
type losses struct {
	env      *Env
	rand     *rand.Rand
	lost     int // disks
	empty    int // nodes that came back empty under their old id, to others that lack what they had acknowledged
	refused  int // of those, who were told that they are not who they were
	old      int // nodes that came back with an older copy of their data, once they had been removed
	removed  int // of those, who found out in time that they had been
	replaced int
	failed   int
}

// noticed is what a node logs that comes back with another disk than the others know of it.
const noticed = "not the one it had"

// timeouts is that many election time-outs, and up to as many more.
func (l *losses) timeouts(least, more int) time.Duration {
	timeout := l.env.Cluster.Config().ElectionTimeout
	return time.Duration(least)*timeout + time.Duration(l.rand.Int63n(int64(more)*int64(timeout)))
}

// comesBackEmpty lets the node lose what it has just acknowledged, and come back under its old id beside nodes that lack it too: with
// one of the two others that have it, the node was a majority; now nobody may be one without them.
func (l *losses) comesBackEmpty(ctx context.Context, node *control.Node) error {
	var rest []int
	for _, i := range l.rand.Perm(len(l.env.Cluster.Nodes)) {
		if i != node.Index {
			rest = append(rest, i)
		}
	}
	front, back := rest[:len(rest)/2], rest[len(rest)/2:]
	behind, err := cut(l.env, "", between(append([]int{node.Index}, front...), back))
	if err != nil {
		return err
	}
	sleep(ctx, l.timeouts(3, 3)) // front and the node write alone, with a leader of theirs
	if err = node.Lose(); err != nil {
		behind.Stop(ctx)
		return err
	}
	l.lost++
	split, err := cut(l.env, "", between(front, append([]int{node.Index}, back...)))
	behind.Stop(ctx)
	if err != nil {
		return err
	}
	told := strings.Count(node.Log(), noticed)
	err = node.Haunt()
	sleep(ctx, l.timeouts(4, 4)) // time to elect a leader, if they may
	split.Stop(ctx)
	l.empty++
	if strings.Count(node.Log(), noticed) > told {
		l.refused++
	}
	return err
}

// keepCopy stops the node, copies its data, and lets it go on for a while.
func (l *losses) keepCopy(ctx context.Context, node *control.Node) error {
	node.Kill()
	err := node.Copy()
	if startErr := node.Start(); err == nil {
		err = startErr
	}
	sleep(ctx, l.timeouts(2, 5))
	return err
}

// replace does what an operator does for a node that is gone for good: the id is removed, a new node joins under a fresh one, and
// becomes a voter once it has caught up. With an older copy the old node appears once more in between.
func (l *losses) replace(ctx context.Context, node *control.Node, withCopy bool) error {
	cluster, old := l.env.Cluster, node.ID()
	gone := func(members map[int]control.Member) bool { _, known := members[old]; return !known }
	if err := cluster.Operate(ctx, l.env.CLI, patience, gone, "remove", fmt.Sprint(old)); err != nil {
		return err
	}
	if withCopy {
		node.Kill()
		if err := node.PutCopyBack(); err != nil {
			return err
		}
		if err := node.Haunt(); err != nil {
			return err
		}
		l.old++
		sleep(ctx, l.timeouts(2, 4))
		if status, err := node.Status(ctx); err == nil && status.Role == "removed" {
			l.removed++
		}
	}
	if err := node.Retire(); err != nil {
		return err
	}
	if err := node.Renew(control.Voter); err != nil {
		return err
	}
	id := node.ID()
	added := func(members map[int]control.Member) bool { _, known := members[id]; return known }
	if err := cluster.Operate(ctx, l.env.CLI, patience, added, "add", fmt.Sprint(id), node.Address()); err != nil {
		return err
	}
	votes := func(members map[int]control.Member) bool { return members[id].Voter }
	return cluster.Operate(ctx, l.env.CLI, patience, votes, "promote", fmt.Sprint(id))
}

func (l *losses) round(ctx context.Context, kind int) error {
	if err := l.env.Cluster.RestoreMembers(ctx, patience); err != nil {
		return err // another disk may only be lost once the one before is replaced
	}
	node := l.env.Cluster.Nodes[l.rand.Intn(len(l.env.Cluster.Nodes))]
	if leader := l.env.Cluster.Leader(ctx); leader != nil && l.rand.Intn(3) == 0 {
		node = leader
	}
	withCopy := kind == 1
	if withCopy {
		if err := l.keepCopy(ctx, node); err != nil {
			return err
		}
	}
	if kind == 0 && node.KnownToAll() {
		if err := l.comesBackEmpty(ctx, node); err != nil {
			return err
		}
	} else {
		if err := node.Lose(); err != nil {
			return err
		}
		l.lost++
		sleep(ctx, l.timeouts(0, 5))
	}
	return l.replace(ctx, node, withCopy)
}

func loseDisks(_ context.Context, env *Env) (Running, error) {
	l := &losses{env: env, rand: env.Rand}
	limited, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	var last error
	go func() {
		defer close(done)
		for kind := l.rand.Intn(3); limited.Err() == nil; kind = (kind + 1) % 3 {
			if err := l.round(limited, kind); err == nil {
				l.replaced++
			} else if limited.Err() == nil {
				l.failed++
				last = err
			}
			sleep(limited, l.timeouts(1, 2))
		}
	}()
	return Running{Detail: "nodes lose their disks, one after the other, and are replaced under fresh ids",
		Stop: func(ctx context.Context) (string, bool) {
			stop()
			<-done
			said := fmt.Sprintf("%d disks lost; %d came back empty under the old id, %d of them were told so; %d came back with an old "+
				"copy once removed, %d of them found out; %d replaced; %d rounds given up", l.lost, l.empty, l.refused, l.old, l.removed,
				l.replaced, l.failed)
			if last != nil {
				said += ", the last one: " + last.Error()
			}
			if err := env.Cluster.RestoreMembers(ctx, patience); err != nil {
				said += "; not restored yet: " + err.Error()
			}
			return said, l.replaced > 0 && l.empty+l.old > 0
		}}, nil
}
