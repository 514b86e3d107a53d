// Package control runs a cluster of real lockstepd processes, each in a network namespace of its own, with links, clocks
// and disks that can be made to fail.
package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Config of a cluster.
type Config struct {
	Nodes           int
	Spare           bool // one more machine, for a node that joins
	Binary          string
	OtherBinary     string // for rolling restarts; empty: the same
	FaultLibrary    string
	Dir             string // node-N.log; the data is in data/
	ElectionTimeout time.Duration
	Seed            int64
	Plant           string // for lockstepd_planted
	Flags           []string
	Volatile        bool // the disks lose unsynced writes at a kill
}

// Cluster is the nodes and the network between them.
type Cluster struct {
	Nodes   []*Node
	Spare   *Node // runs only while it takes part; nil without Config.Spare. No clients and no other faults are sent to it.
	Network *Network
	config  Config

	mu     sync.Mutex
	lastID int    // the largest raft id so far
	commit uint64 // the highest index known to be committed
}

// New prepares a cluster; nothing runs yet.
func New(config Config) (*Cluster, error) {
	data := filepath.Join(config.Dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	places := config.Nodes
	if config.Spare {
		places++
	}
	network, err := newNetwork(places, config.Seed)
	if err != nil {
		return nil, err
	}
	c := &Cluster{config: config, Network: network, lastID: config.Nodes}
	for i := 0; i < places; i++ {
		faults, err := newFaults(filepath.Join(data, fmt.Sprintf("faults-%d", i+1)))
		if err != nil {
			network.close()
			return nil, err
		}
		faults.SetVolatile(config.Volatile)
		node := &Node{Index: i, id: i + 1, cluster: c, ns: network.nodes[i], binary: config.Binary, Faults: faults,
			Dir:     filepath.Join(data, fmt.Sprintf("node-%d", i+1)),
			LogPath: filepath.Join(config.Dir, fmt.Sprintf("node-%d.log", i+1))}
		if i < config.Nodes {
			c.Nodes = append(c.Nodes, node)
		} else {
			node.id, node.out, node.want, c.Spare = 0, true, Gone, node
		}
	}
	return c, nil
}

// all nodes, the spare one too.
func (c *Cluster) all() []*Node {
	if c.Spare == nil {
		return c.Nodes
	}
	return append(append([]*Node(nil), c.Nodes...), c.Spare)
}

// Config that the cluster was made with.
func (c *Cluster) Config() Config { return c.config }

// Start all nodes and wait until each of them answers a read.
func (c *Cluster) Start(ctx context.Context) error {
	for _, node := range c.Nodes {
		if err := node.Start(); err != nil {
			return err
		}
	}
	return c.WaitServing(ctx, 2*time.Minute)
}

// WaitServing waits until every node answers a linearizable read.
func (c *Cluster) WaitServing(ctx context.Context, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for _, node := range c.Nodes {
		for {
			client := node.Client(time.Second)
			err := client.DBSize(ctx).Err()
			client.Close()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !node.Alive() {
				return fmt.Errorf("node %d has ended: %s", node.Index+1, node.ExitStatus())
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("node %d does not serve: %w", node.Index+1, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// NotSent is an error before any byte of a command left: the command was not executed.
type NotSent struct{ Err error }

func (e NotSent) Error() string { return "not sent: " + e.Err.Error() }
func (e NotSent) Unwrap() error { return e.Err }

// Client is one connection to the node (opened at need), without any retry.
func (n *Node) Client(timeout time.Duration) *redis.Client { return n.ClientWith(timeout, nil) }

// ClientWith also runs a function on each new connection.
func (n *Node) ClientWith(timeout time.Duration, onConnect func(context.Context, *redis.Conn) error) *redis.Client {
	return redis.NewClient(&redis.Options{OnConnect: onConnect,
		Addr: n.Address(), MaxRetries: -1, PoolSize: 1, DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
		PoolTimeout: timeout, DisableIndentity: true, Protocol: 2, ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, _, address string) (net.Conn, error) {
			conn, err := n.ns.dial(ctx, address)
			if err != nil {
				return nil, NotSent{err}
			}
			return conn, nil
		}})
}

// Status is LOCKSTEP STATUS.
type Status struct {
	ID      int    `json:"id"`
	Role    string `json:"role"`
	Term    uint64 `json:"term"`
	Leader  int    `json:"leader"`
	Ready   bool   `json:"ready"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	Last    uint64 `json:"last"`
	Digest  string `json:"digest"`
	Keys    uint64 `json:"keys"`

	ChangePending bool     `json:"change_pending"`
	Members       []Member `json:"members"`
}

// Status asks the node.
func (n *Node) Status(ctx context.Context) (Status, error) {
	var status Status
	if !n.Usable() {
		return status, fmt.Errorf("node %d does not run", n.Index+1)
	}
	client := n.Client(500 * time.Millisecond)
	defer client.Close()
	text, err := client.Do(ctx, "LOCKSTEP", "STATUS").Text()
	if err == nil {
		err = json.Unmarshal([]byte(text), &status)
	}
	return status, err
}

// Info is what INFO lockstep says in whole numbers; empty if the node does not answer.
func (n *Node) Info(ctx context.Context) map[string]uint64 {
	info := map[string]uint64{}
	if !n.Usable() {
		return info
	}
	client := n.Client(500 * time.Millisecond)
	defer client.Close()
	text, err := client.Info(ctx, "lockstep").Result()
	if err != nil {
		return info
	}
	for _, line := range strings.Split(text, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			info[name] = n
		}
	}
	return info
}

// Leader is the node that says it leads, in the highest term; nil if none does.
func (c *Cluster) Leader(ctx context.Context) *Node {
	var leader *Node
	var term uint64
	for _, node := range c.all() {
		status, err := node.Status(ctx)
		if err == nil && status.Role == "leader" && status.Term >= term {
			leader, term = node, status.Term
		}
	}
	return leader
}

// Heal takes back every fault: links, clocks, disks, pauses; and starts what does not run.
func (c *Cluster) Heal() error {
	c.Network.Heal()
	for _, node := range c.all() {
		node.Faults.Heal()
		node.Resume()
	}
	for _, node := range c.all() {
		if !node.Alive() {
			if err := node.Start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// KillAll is a power failure: kill -9 to all nodes at once.
func (c *Cluster) KillAll() {
	for _, node := range c.all() {
		_, _ = node.signal(9)
	}
	for _, node := range c.all() {
		node.Kill()
	}
}

// Converged waits until all nodes have applied the same index, and compares their digests. Reads of the cluster must be
// over; ticks may still come.
func (c *Cluster) Converged(ctx context.Context, limit time.Duration) (string, error) {
	deadline := time.Now().Add(limit)
	var text string
	for time.Now().Before(deadline) && ctx.Err() == nil {
		byIndex := map[uint64]map[string]int{}
		text = ""
		for _, node := range c.Nodes {
			status, err := node.Status(ctx)
			if err != nil {
				text += fmt.Sprintf(" %d: %v;", node.Index+1, err)
				continue
			}
			if byIndex[status.Applied] == nil {
				byIndex[status.Applied] = map[string]int{}
			}
			byIndex[status.Applied][status.Digest]++
			text += fmt.Sprintf(" %d: applied %d digest %s;", node.Index+1, status.Applied, status.Digest)
		}
		for index, digests := range byIndex {
			if len(digests) > 1 {
				return text, fmt.Errorf("digests differ at index %d:%s", index, text)
			}
			for _, count := range digests {
				if count == len(c.Nodes) {
					return text, nil
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return text, fmt.Errorf("nodes did not converge:%s", text)
}

// Close kills what runs and removes the namespaces; with removeData also the nodes' directories.
func (c *Cluster) Close(removeData bool) {
	c.KillAll()
	c.Network.close()
	if removeData {
		os.RemoveAll(filepath.Join(c.config.Dir, "data"))
	}
}
