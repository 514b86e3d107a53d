package nemesis

import (
	"context"
	"fmt"
	"math/rand"
	"time"

	"lockstep/jepsen/control"
)

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
			target := env.Cluster.Nodes[env.Rand.Intn(len(env.Cluster.Nodes))]
			if !known || target == leader {
				continue
			}
			client := leader.Client(time.Second)
			err := client.Do(ctx, "LOCKSTEP", "TRANSFER", fmt.Sprint(target.ID())).Err()
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
		return fmt.Sprintf("%d times leadership was handed over, %d times not", n[0], n[1]), n[0] > 0
	}}, nil
}

// churn is one membership fault under way. Each round completes or is given up after patience; whatever is left half done, the next
// round or the end of the run completes.
type churn struct {
	cluster  *control.Cluster
	rand     *rand.Rand
	replaced int
	demoted  int
	grown    int
	failed   int
}

const patience = 6 * time.Second

// pause between two steps, so that clients and other faults meet the state between them.
func (c *churn) pause(ctx context.Context) bool {
	return sleep(ctx, time.Duration(50+c.rand.Intn(800))*time.Millisecond)
}

// become lets a node be something else, with a pause after it.
func (c *churn) become(ctx context.Context, node *control.Node, want control.Want) bool {
	node.SetWant(want)
	return c.cluster.Reconcile(ctx, patience) == nil && c.pause(ctx)
}

// replace removes a member, which runs on for a while with clients on it, loses its data, and comes back as somebody new: first as
// a learner.
func (c *churn) replace(ctx context.Context, node *control.Node) bool {
	if !c.become(ctx, node, control.Gone) || node.Retire() != nil {
		return false
	}
	c.pause(ctx)
	if node.Renew(control.Learner) != nil {
		return false
	}
	return c.cluster.Reconcile(ctx, patience) == nil && c.pause(ctx) && c.become(ctx, node, control.Voter)
}

// grow lets a node more join, makes it a voter, perhaps a learner again, and removes it.
func (c *churn) grow(ctx context.Context, spare *control.Node) bool {
	if !spare.Out() || spare.Renew(control.Learner) != nil || c.cluster.Reconcile(ctx, patience) != nil || !c.pause(ctx) ||
		!c.become(ctx, spare, control.Voter) {
		return false
	}
	if c.rand.Intn(2) == 0 && !c.become(ctx, spare, control.Learner) {
		return false
	}
	return c.become(ctx, spare, control.Gone) && spare.Retire() == nil
}

func (c *churn) round(ctx context.Context) {
	node := c.cluster.Nodes[c.rand.Intn(len(c.cluster.Nodes))]
	ok, count := false, &c.replaced
	switch c.rand.Intn(4) {
	case 0:
		count = &c.demoted
		ok = c.become(ctx, node, control.Learner) && c.become(ctx, node, control.Voter)
	case 1:
		count = &c.grown
		ok = c.grow(ctx, c.cluster.Spare)
	default:
		ok = c.replace(ctx, node)
	}
	if ok {
		*count++
		return
	}
	if ctx.Err() == nil {
		c.failed++
		_ = c.cluster.RestoreMembers(ctx, patience)
	}
}

func membership(_ context.Context, env *Env) (Running, error) {
	c := &churn{cluster: env.Cluster, rand: env.Rand}
	limited, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for limited.Err() == nil {
			c.round(limited)
			c.pause(limited)
		}
	}()
	return Running{Detail: "nodes leave, lose their data and come back as new ones, lose and get their votes, one more joins and leaves",
		Stop: func(ctx context.Context) (string, bool) {
			stop()
			<-done
			said := fmt.Sprintf("%d nodes replaced, %d demoted and promoted, %d times one more, %d rounds given up", c.replaced,
				c.demoted, c.grown, c.failed)
			if err := c.cluster.RestoreMembers(ctx, patience); err != nil {
				said += "; not restored yet: " + err.Error()
			}
			return said, c.replaced+c.demoted+c.grown > 0
		}}, nil
}

var operations = []*Fault{
	{Name: "transfer", About: "leadership transfers in a storm (LOCKSTEP TRANSFER)", Lasting: 4 * time.Second,
		Start: transferStorm},
	{Name: "membership", About: "nodes are removed, wiped and come back under fresh ids, as learners first; lose and get votes; " +
		"a spare one joins and leaves", Spare: true, Lasting: 12 * time.Second, Start: membership},
	{Name: "disk-loss", About: "a node loses its disk, comes back empty under its old id or, once removed, with an old copy of its data; " +
		"an operator replaces it (lockstep member remove, add, promote)", Lasting: 16 * time.Second, Start: loseDisks},
	{Name: "reconfigure", About: "random changes of membership and transfers, with kills and cuts that a majority of the voters survives",
		Spare: true, Lasting: 16 * time.Second, Start: reconfigure},
	{Name: "snapshot", About: "snapshots all the time; nodes fall so far behind that they need one, and the link, the receiver or the " +
		"sender fails while it is sent", Flags: smallSnapshots, Lasting: 12 * time.Second, Start: breakSnapshots},
}
