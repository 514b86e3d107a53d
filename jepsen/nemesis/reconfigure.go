package nemesis

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"time"

	"lockstep/jepsen/control"
)

// roles is what each place (nodes, then the spare one) is in a configuration.
type roles []control.Want

func (r roles) count(want control.Want) int {
	n := 0
	for _, role := range r {
		if role == want {
			n++
		}
	}
	return n
}

// survives tells if the voters that are not down are a majority.
func (r roles) survives(down map[int]bool) bool {
	up := r.count(control.Voter)
	for i, role := range r {
		if role == control.Voter && down[i] {
			up--
		}
	}
	return 2*up > r.count(control.Voter)
}

func (r roles) with(place int, want control.Want) roles {
	changed := append(roles(nil), r...)
	changed[place] = want
	return changed
}

const votersMin = 3

// shrinks tells which way the number of voters goes next.
func shrinks(r roles, shrinking bool) bool {
	voters := r.count(control.Voter)
	return voters >= len(r)-1 || (shrinking && voters > votersMin)
}

// drawChange picks a place and what it shall be: the number of voters goes down to three and up again, so that learners are a minority
// now and as many as the voters then. Never is more than one of the clients' nodes away. Nothing is known of what is down.
func drawChange(random *rand.Rand, r roles, shrinking bool) (int, control.Want) {
	spare := len(r) - 1
	away := roles(r[:spare]).count(control.Gone)
	for {
		place, draw := random.Intn(len(r)), random.Intn(6)
		switch {
		case r[place] == control.Voter && shrinking && r.count(control.Voter) > votersMin:
			if draw == 0 && (place == spare || away == 0) {
				return place, control.Gone
			}
			return place, control.Learner
		case r[place] == control.Learner && !shrinking && draw < 4:
			return place, control.Voter
		case r[place] == control.Learner && draw == 5 && (place == spare || away == 0):
			return place, control.Gone
		case r[place] == control.Gone:
			return place, control.Learner
		}
	}
}

// reconfiguring is one fault of random changes of membership under way, with kills and cuts. At every instant a majority of the voters
// runs and sees each other: of those before the change under way, and of those after it.
type reconfiguring struct {
	env    *Env
	places []*control.Node

	mu      sync.Mutex
	now     roles // committed
	next    roles // what the change under way leads to; as `now` if none is
	down    map[int]bool
	changes int
	moved   int
	hits    int
	islands int // hits that left the leader alone with the learners
	failed  int
	last    error
}

// begin a change if it leaves a majority of what is up.
func (c *reconfiguring) begin(place int, want control.Want) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.now.with(place, want)
	if !next.survives(c.down) || (c.down[place] && want != control.Gone) {
		return false
	}
	c.next = next
	return true
}

func (c *reconfiguring) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.changes++
		c.now = c.next
	} else {
		c.failed++
		c.last = err
	}
}

// change one node's role; a node that leaves runs on for a moment with its clients, then loses its data.
func (c *reconfiguring) change(ctx context.Context, random *rand.Rand, place int, want control.Want) error {
	node := c.places[place]
	if node.Out() {
		if err := node.Renew(want); err != nil {
			return err
		}
	} else {
		node.SetWant(want)
	}
	if err := c.env.Cluster.Reconcile(ctx, patience); err != nil {
		return err
	}
	if want == control.Gone {
		sleep(ctx, time.Duration(random.Intn(500))*time.Millisecond)
		return node.Retire()
	}
	return nil
}

// transfer hands leadership to some voter, or asks for it.
func (c *reconfiguring) transfer(ctx context.Context, random *rand.Rand) {
	leader := c.env.Cluster.Leader(ctx)
	target := c.places[random.Intn(len(c.places))]
	if leader == nil || target == leader || target.Out() {
		return
	}
	client := leader.Client(time.Second)
	defer client.Close()
	if client.Do(ctx, "LOCKSTEP", "TRANSFER", fmt.Sprint(target.ID())).Err() == nil {
		c.mu.Lock()
		c.moved++
		c.mu.Unlock()
	}
}

// members changes the configuration until the context ends, or a change can't be completed.
func (c *reconfiguring) members(ctx context.Context, random *rand.Rand) {
	shrinking := true
	for sleep(ctx, time.Duration(20+random.Intn(400))*time.Millisecond) {
		if random.Intn(5) == 0 {
			c.transfer(ctx, random)
			continue
		}
		shrinking = shrinks(c.now, shrinking)
		place, want := drawChange(random, c.now, shrinking)
		if !c.begin(place, want) {
			continue
		}
		err := c.change(ctx, random, place, want)
		if ctx.Err() != nil {
			return
		}
		c.end(err)
		if err != nil {
			return // what is a member now is not known any more: the rest of the fault is kills and cuts
		}
	}
}

// strike takes a set of places away, if a majority survives that.
func (c *reconfiguring) strike(set []int) bool {
	down := map[int]bool{}
	for _, place := range set {
		down[place] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(set) == 0 || len(set) == len(c.places) || !c.now.survives(down) || !c.next.survives(down) {
		return false
	}
	c.down = down
	c.hits++
	return true
}

func (c *reconfiguring) recovered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = nil
}

// withLearners are the leader and all that have no vote.
func (c *reconfiguring) withLearners(ctx context.Context) []int {
	leader := c.env.Cluster.Leader(ctx)
	if leader == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	set := []int{leader.Index}
	for place := range c.places {
		if place != leader.Index && c.now[place] != control.Voter && c.next[place] != control.Voter {
			set = append(set, place)
		}
	}
	return set
}

// others are the places that are not in the set.
func (c *reconfiguring) others(set []int) []int {
	in := map[int]bool{}
	for _, place := range set {
		in[place] = true
	}
	var rest []int
	for place := range c.places {
		if !in[place] {
			rest = append(rest, place)
		}
	}
	return rest
}

// hit kills or cuts off some nodes for two to six election time-outs.
func (c *reconfiguring) hit(ctx context.Context, random *rand.Rand) {
	timeout := c.env.Cluster.Config().ElectionTimeout
	length := 2*timeout + time.Duration(random.Int63n(int64(4*timeout)))
	set, island := random.Perm(len(c.places))[:1+random.Intn(2)], random.Intn(2) == 0
	if island {
		set = c.withLearners(ctx)
	}
	if !c.strike(set) {
		return
	}
	defer c.recovered()
	if !island && random.Intn(2) == 0 {
		for _, place := range set {
			c.places[place].Kill()
		}
		sleep(ctx, length)
		for _, place := range set {
			_, _ = startAgain([]*control.Node{c.places[place]}, "", true)
		}
		return
	}
	apart, err := cut(c.env, "", between(set, c.others(set)))
	if err != nil {
		return
	}
	sleep(ctx, length)
	apart.Stop(context.Background())
	if island && len(set) > 1 {
		c.mu.Lock()
		c.islands++
		c.mu.Unlock()
	}
}

func (c *reconfiguring) strikes(ctx context.Context, random *rand.Rand) {
	for sleep(ctx, time.Duration(100+random.Intn(500))*time.Millisecond) {
		c.hit(ctx, random)
	}
}

func reconfigure(ctx context.Context, env *Env) (Running, error) {
	if err := env.Cluster.RestoreMembers(ctx, patience); err != nil {
		return Running{}, err
	}
	c := &reconfiguring{env: env, places: append(append([]*control.Node(nil), env.Cluster.Nodes...), env.Cluster.Spare)}
	c.now = make(roles, len(c.places)).with(len(c.places)-1, control.Gone)
	c.next = c.now
	limited, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for _, act := range []func(context.Context, *rand.Rand){c.members, c.strikes} {
		wait.Add(1)
		go func(act func(context.Context, *rand.Rand), random *rand.Rand) {
			defer wait.Done()
			act(limited, random)
		}(act, rand.New(rand.NewSource(env.Rand.Int63())))
	}
	return Running{Detail: "random changes of membership and leadership, with kills and cuts that a majority survives",
		Stop: func(ctx context.Context) (string, bool) {
			stop()
			wait.Wait()
			said := fmt.Sprintf("%d changes, leadership handed over %d times, %d kills and cuts, %d of which left the leader with the "+
				"learners", c.changes, c.moved, c.hits, c.islands)
			if c.last != nil {
				said += "; given up: " + c.last.Error()
			}
			if err := env.Cluster.RestoreMembers(ctx, patience); err != nil {
				said += "; not restored yet: " + err.Error()
			}
			return said, c.changes >= 3 && c.hits > 0
		}}, nil
}
