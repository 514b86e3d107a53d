package control

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Lost tells if the node's disk is lost: nothing starts it but Haunt, and it has to be replaced.
func (n *Node) Lost() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

// Lose kills the node and throws its data away while it is a member.
func (n *Node) Lose() error {
	n.mu.Lock()
	n.lost = true
	n.mu.Unlock()
	n.Resume()
	n.Kill()
	return os.RemoveAll(n.Dir)
}

// Haunt starts a node whose disk is lost under its old id, with whatever its directory holds now.
func (n *Node) Haunt() error {
	seed := n.cluster.seed(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.lost || n.process != nil {
		return fmt.Errorf("node %d is not lost, or runs", n.Index+1)
	}
	return n.launch(seed)
}

// copyPath is where the copy of the node's directory is kept.
func (n *Node) copyPath() string { return n.Dir + ".copy" }

// Copy keeps the node's directory as it is, in place of an earlier copy. The node must not run.
func (n *Node) Copy() error {
	if err := os.RemoveAll(n.copyPath()); err != nil {
		return err
	}
	if err := os.Mkdir(n.copyPath(), 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(n.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(n.Dir, entry.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(n.copyPath(), entry.Name()), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// PutCopyBack makes the copy the node's directory.
func (n *Node) PutCopyBack() error {
	if err := os.RemoveAll(n.Dir); err != nil {
		return err
	}
	return os.Rename(n.copyPath(), n.Dir)
}

// KnownToAll tells if every other member has noted which disk the node has: one that never met it could not tell a new disk from the
// first one (docs/CONSISTENCY.md, "Lost disks").
func (n *Node) KnownToAll() bool {
	line := fmt.Sprintf("\nnode %d ", n.ID())
	for _, other := range n.cluster.all() {
		if other == n || other.Out() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(other.Dir, "nodes"))
		if err != nil || !strings.Contains(string(data), line) {
			return false
		}
	}
	return true
}

// Operate runs `lockstep member WORDS` as an operator does, on the machine of one node after the other, until `done` is true of the
// committed configuration.
func (c *Cluster) Operate(ctx context.Context, cli string, limit time.Duration, done func(members map[int]Member) bool,
	words ...string) error {
	deadline := time.Now().Add(limit)
	last := fmt.Errorf("no node runs")
	for turn := 0; ctx.Err() == nil && time.Now().Before(deadline); turn++ {
		if err := c.Nodes[turn%len(c.Nodes)].operate(ctx, cli, words); err != nil {
			last = err
		}
		if status, leader := c.settled(ctx); leader != nil {
			members := map[int]Member{}
			for _, member := range status.Members {
				members[member.ID] = member
			}
			if done(members) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return last
}

// operate runs the command once, in the node's namespace.
func (n *Node) operate(ctx context.Context, cli string, words []string) error {
	addresses := []string{n.Address()}
	for _, other := range n.cluster.Nodes {
		if other != n {
			addresses = append(addresses, other.Address())
		}
	}
	limited, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	args := append([]string{"member", "--addr", strings.Join(addresses, ","), "--wait", "2"}, words...)
	cmd := exec.CommandContext(limited, cli, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	err := os.ErrClosed
	n.ns.do(func() { err = cmd.Start() })
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("lockstep member %s: %v: %s", strings.Join(words, " "), err, strings.TrimSpace(text.String()))
	}
	return nil
}
