package control

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Want is what a node shall be in the cluster's configuration.
type Want int

// Voter: the normal state. Learner: replicates without a vote. Gone: not a member; it may still run until it is retired.
const (
	Voter Want = iota
	Learner
	Gone
)

// Member is one line of the configuration, as a leader's status has it.
type Member struct {
	ID    int  `json:"id"`
	Voter bool `json:"voter"`
}

// SetWant is what Reconcile works towards.
func (n *Node) SetWant(want Want) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.want = want
}

func (n *Node) wants() (id int, want Want, out bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id, n.want, n.out
}

// Retire ends the process of a node that was removed, and throws its data away.
func (n *Node) Retire() error {
	n.mu.Lock()
	n.out = true
	n.mu.Unlock()
	n.Resume()
	n.Kill()
	return os.RemoveAll(n.Dir)
}

// Renew makes a retired node (or a spare one) a new one: an id that nobody ever had and an empty directory. It starts, and shall
// become a member.
func (n *Node) Renew(want Want) error {
	n.mu.Lock()
	n.id = n.cluster.freshID()
	n.joins, n.out, n.removed, n.lost, n.want = true, false, false, false, want
	n.mu.Unlock()
	return n.Start()
}

func (c *Cluster) freshID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	return c.lastID
}

// seed is where a joining node asks for the cluster: a member's address, of one that runs if any does.
func (c *Cluster) seed(joining *Node) string {
	address := ""
	for _, node := range c.Nodes {
		if node == joining || node.Lost() {
			continue
		}
		if _, want, out := node.wants(); want == Gone || out {
			continue
		}
		address = node.Address()
		if node.Usable() {
			break
		}
	}
	return address
}

// Reconcile changes the membership, one step after the other through whoever leads, until each node is what it shall be. A node that
// shall be Gone and is no member any more keeps running: Retire is the caller's. The error tells what was refused last.
func (c *Cluster) Reconcile(ctx context.Context, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	last := fmt.Errorf("no leader with a committed configuration is known")
	for ctx.Err() == nil && time.Now().Before(deadline) {
		status, leader := c.settled(ctx)
		if leader != nil {
			command, err := c.nextChange(&status)
			if err == nil && command == nil {
				return nil
			}
			if err == nil {
				err = leader.order(ctx, command)
			}
			if err != nil {
				last = err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return last
}

// settled is the status of a leader whose configuration is committed, and not older than one seen before: a deposed leader may not
// know of a change yet.
func (c *Cluster) settled(ctx context.Context) (Status, *Node) {
	leader := c.Leader(ctx)
	if leader == nil {
		return Status{}, nil
	}
	status, err := leader.Status(ctx)
	if err != nil || status.Role != "leader" || status.ChangePending {
		return Status{}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if status.Commit < c.commit {
		return Status{}, nil
	}
	c.commit = status.Commit
	return status, leader
}

func (n *Node) order(ctx context.Context, command []interface{}) error {
	client := n.Client(2 * time.Second)
	defer client.Close()
	if err := client.Do(ctx, command...).Err(); err != nil {
		return fmt.Errorf("%v: %w", command, err)
	}
	return nil
}

// nextChange is the command that brings the committed configuration one step nearer to what is wanted; nil: nothing is missing.
func (c *Cluster) nextChange(status *Status) ([]interface{}, error) {
	members := map[int]Member{}
	for _, member := range status.Members {
		members[member.ID] = member
	}
	for _, node := range c.all() {
		id, want, out := node.wants()
		member, known := members[id]
		switch {
		case want == Gone && known:
			return node.leave(status.Leader, "REMOVE"), nil
		case want == Gone || out:
		case known && node.Lost():
			return node.leave(status.Leader, "REMOVE"), nil
		case !known && (node.wasRemoved() || node.Lost()):
			if err := node.Retire(); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("node %d starts anew: %v", node.Index+1, node.Renew(want))
		case !known:
			return []interface{}{"LOCKSTEP", "MEMBER", "ADD", fmt.Sprint(id), node.Address()}, nil
		case want == Voter && !member.Voter:
			return []interface{}{"LOCKSTEP", "MEMBER", "PROMOTE", fmt.Sprint(id)}, nil
		case want == Learner && member.Voter:
			return node.leave(status.Leader, "DEMOTE"), nil
		}
	}
	return nil, nil
}

// leave is the command that takes the node out, or its vote; a leader hands over first.
func (n *Node) leave(leader int, action string) []interface{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.id == leader {
		return []interface{}{"LOCKSTEP", "TRANSFER"}
	}
	n.removed = n.removed || action == "REMOVE"
	return []interface{}{"LOCKSTEP", "MEMBER", action, fmt.Sprint(n.id)}
}

func (n *Node) wasRemoved() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.removed
}

// RestoreMembers takes all changes of membership back: every node is a voter again, the spare one is none.
func (c *Cluster) RestoreMembers(ctx context.Context, limit time.Duration) error {
	for _, node := range c.Nodes {
		if !node.Out() {
			node.SetWant(Voter)
		} else if err := node.Renew(Voter); err != nil {
			return err
		}
	}
	if c.Spare != nil {
		c.Spare.SetWant(Gone)
	}
	err := c.Reconcile(ctx, limit)
	if err == nil && c.Spare != nil {
		err = c.Spare.Retire()
	}
	return err
}
