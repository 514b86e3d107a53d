package nemesis

import (
	"context"
	"fmt"
	"time"

	"lockstep/jepsen/control"
)

// cut blocks links (ordered pairs of nodes) and heals exactly these.
func cut(env *Env, detail string, pairs [][2]int) (Running, error) {
	network := env.Cluster.Network
	before := network.Traffic()
	for _, pair := range pairs {
		network.Block(pair[0], pair[1])
	}
	return Running{Detail: detail, Stop: func(context.Context) (string, bool) {
		dropped := network.Traffic().Dropped - before.Dropped
		for _, pair := range pairs {
			network.Unblock(pair[0], pair[1])
		}
		return fmt.Sprintf("%d packets dropped", dropped), dropped > 0
	}}, nil
}

// between gives all pairs, both ways, of nodes on different sides.
func between(a, b []int) [][2]int {
	var pairs [][2]int
	for _, i := range a {
		for _, j := range b {
			pairs = append(pairs, [2]int{i, j}, [2]int{j, i})
		}
	}
	return pairs
}

func others(n, i int) []int {
	var list []int
	for j := 0; j < n; j++ {
		if j != i {
			list = append(list, j)
		}
	}
	return list
}

func isolate(env *Env, i int, what string) (Running, error) {
	n := len(env.Cluster.Nodes)
	return cut(env, fmt.Sprintf("n%d%s alone", i+1, what), between([]int{i}, others(n, i)))
}

func oneWay(ctx context.Context, env *Env) (Running, error) {
	n := len(env.Cluster.Nodes)
	var node *control.Node
	if env.Rand.Intn(2) == 0 {
		node, _ = env.leader(ctx)
	} else {
		node = env.Cluster.Nodes[env.Rand.Intn(n)]
	}
	deaf := env.Rand.Intn(2) == 0
	var pairs [][2]int
	for _, j := range others(n, node.Index) {
		if deaf {
			pairs = append(pairs, [2]int{j, node.Index})
		} else {
			pairs = append(pairs, [2]int{node.Index, j})
		}
	}
	word := "mute"
	if deaf {
		word = "deaf"
	}
	return cut(env, fmt.Sprintf("n%d is %s", node.Index+1, word), pairs)
}

// ring: every node sees a majority, no two the same one.
func ring(_ context.Context, env *Env) (Running, error) {
	n := len(env.Cluster.Nodes)
	order := env.Rand.Perm(n)
	var pairs [][2]int
	for a := 0; a < n; a++ {
		for b := a + 1; b < n; b++ {
			distance := b - a
			if distance > n-distance {
				distance = n - distance
			}
			if distance > (n-1)/4 && n >= 4 {
				pairs = append(pairs, [2]int{order[a], order[b]}, [2]int{order[b], order[a]})
			}
		}
	}
	return cut(env, fmt.Sprintf("ring in the order %v (0-based)", order), pairs)
}

func bridge(_ context.Context, env *Env) (Running, error) {
	n := len(env.Cluster.Nodes)
	order := env.Rand.Perm(n)
	half := (n - 1) / 2
	return cut(env, fmt.Sprintf("%v | %v, n%d sees both (0-based)", order[:half], order[half:n-1], order[n-1]+1),
		between(order[:half], order[half:n-1]))
}

var partitions = []*Fault{
	{Name: "partition-one", About: "one node is cut off", Lasting: 4 * time.Second,
		Start: func(_ context.Context, env *Env) (Running, error) {
			return isolate(env, env.Rand.Intn(len(env.Cluster.Nodes)), "")
		}},
	{Name: "partition-leader", About: "the leader is cut off", Lasting: 4 * time.Second,
		Start: func(ctx context.Context, env *Env) (Running, error) {
			leader, _ := env.leader(ctx)
			return isolate(env, leader.Index, " (leader)")
		}},
	{Name: "partition-halves", About: "a minority and a majority don't see each other", Lasting: 4 * time.Second,
		Start: func(_ context.Context, env *Env) (Running, error) {
			order := env.Rand.Perm(len(env.Cluster.Nodes))
			half := len(order) / 2
			return cut(env, fmt.Sprintf("%v | %v (0-based)", order[:half], order[half:]), between(order[:half], order[half:]))
		}},
	{Name: "partition-ring", About: "every node sees a majority, each another one", Lasting: 4 * time.Second, Start: ring},
	{Name: "partition-bridge", About: "two sides that share one node", Lasting: 4 * time.Second, Start: bridge},
	{Name: "partition-oneway", About: "one node (often the leader) sends but does not hear, or hears but can't send",
		Lasting: 4 * time.Second, Start: oneWay},
}
