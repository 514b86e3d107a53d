package nemesis

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"lockstep/jepsen/control"
)

func sum(nodes []*control.Node, counters ...control.Counter) int64 {
	var n int64
	for _, node := range nodes {
		for _, counter := range counters {
			n += node.Faults.Count(counter)
		}
	}
	return n
}

// diskFault sets something on nodes, takes it back, and counts.
func diskFault(nodes []*control.Node, detail, what string, counter control.Counter, set func(*control.Faults, bool)) Running {
	before := sum(nodes, counter)
	for _, node := range nodes {
		set(node.Faults, true)
	}
	return Running{Detail: detail + " " + names(nodes), Stop: func(context.Context) (string, bool) {
		n := sum(nodes, counter) - before
		for _, node := range nodes {
			set(node.Faults, false)
		}
		said, ok := startAgain(nodes, fmt.Sprintf("%d %s", n, what), n > 0)
		return said, ok
	}}
}

func slow(_ context.Context, env *Env) (Running, error) {
	us := 2000 + env.Rand.Int63n(200000)
	nodes := env.some(len(env.Cluster.Nodes))
	return diskFault(nodes, fmt.Sprintf("each write takes %d us more on", us), "writes delayed", control.WritesDelayed,
		func(f *control.Faults, on bool) {
			if on {
				f.SetWriteDelay(us, false)
			} else {
				f.SetWriteDelay(0, false)
			}
		}), nil
}

func stall(_ context.Context, env *Env) (Running, error) {
	return diskFault(env.minority(), "no write ends on", "writes stalled", control.WritesStalled,
		func(f *control.Faults, on bool) { f.SetStall(on) }), nil
}

func full(ctx context.Context, env *Env) (Running, error) {
	nodes := env.some(len(env.Cluster.Nodes))
	if leader, known := env.leader(ctx); known && env.Rand.Intn(2) == 0 {
		nodes = []*control.Node{leader}
	}
	return diskFault(nodes, "no space left on", "refusals or looks at the free space", control.SpaceRefused,
		func(f *control.Faults, on bool) { f.SetNoSpace(on) }), nil
}

func broken(_ context.Context, env *Env) (Running, error) {
	return diskFault(env.minority(), "writes fail (EIO) on", "writes failed", control.WritesFailed,
		func(f *control.Faults, on bool) { f.SetFail(on) }), nil
}

// power lets writes be slow and torn on all nodes for a while, so that many are under way, then kills all nodes at once: what
// was acknowledged before its write (or sync) was complete is lost.
func power(ctx context.Context, env *Env) (Running, error) {
	nodes := env.Cluster.Nodes
	us := 20000 + env.Rand.Int63n(60000)
	for _, node := range nodes {
		node.Faults.SetWriteDelay(us, true)
	}
	wait := time.Second + time.Duration(env.Rand.Int63n(int64(time.Second)))
	sleep(ctx, wait)
	for i := 0; i < 200 && sum(nodes, control.Writing) == 0; i++ {
		time.Sleep(5 * time.Millisecond) // until a write is under way somewhere
	}
	lost := sum(nodes, control.Writing, control.HeldBytes)
	env.Cluster.KillAll()
	for _, node := range nodes {
		node.Faults.SetWriteDelay(0, false)
	}
	return Running{Detail: fmt.Sprintf("power failure after %v with writes taking %d us", wait.Round(time.Millisecond), us),
		Stop: func(context.Context) (string, bool) {
			return startAgain(nodes, fmt.Sprintf("%d writes or bytes were under way and are lost", lost), lost > 0)
		}}, nil
}

// bitflip changes one bit of a node's log or snapshot while it is down. The node must notice: it either serves right, or ends with a
// message; then the bit is turned back (the disk is repaired) and it runs again.
func bitflip(_ context.Context, env *Env) (Running, error) {
	node := env.Cluster.Nodes[env.Rand.Intn(len(env.Cluster.Nodes))]
	if node.Out() || node.Lost() {
		return Running{Detail: "nothing: the node is being replaced", Stop: func(context.Context) (string, bool) {
			return "", false
		}}, nil
	}
	node.Kill()
	path, offset, err := flipTarget(node, env)
	if err == nil {
		err = flipBit(path, offset)
	}
	if startErr := node.Start(); err == nil {
		err = startErr
	}
	if err != nil {
		return Running{}, err
	}
	return Running{Detail: fmt.Sprintf("bit flipped in %s of n%d at byte %d", filepath.Base(path), node.Index+1, offset),
		Stop: func(context.Context) (string, bool) {
			said := "the node ran on (the byte was unused, or in a tail that may be cut)"
			if !node.Alive() {
				said = "the node stopped: " + node.ExitStatus()
			}
			stopped := !node.Alive()
			node.Kill()
			if stopped {
				if err := flipBit(path, offset); err != nil && !os.IsNotExist(err) {
					return err.Error(), false
				}
			}
			return startAgain([]*control.Node{node}, said, true)
		}}, nil
}

// flipTarget picks a used byte: one that is not 0, in a segment of the log or in a snapshot.
func flipTarget(node *control.Node, env *Env) (string, int64, error) {
	files, err := filepath.Glob(filepath.Join(node.Dir, "*"))
	if err != nil {
		return "", 0, err
	}
	sort.Strings(files)
	env.Rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil || (len(data) < 1<<20 && !strings.HasPrefix(filepath.Base(path), "snapshot-")) {
			continue // a log segment has a MiB or more; the others are slots and the lock
		}
		for i := 0; i < 1000; i++ {
			if at := env.Rand.Intn(len(data)); data[at] != 0 {
				return path, int64(at), nil
			}
		}
	}
	return "", 0, fmt.Errorf("no used byte found in %s", node.Dir)
}

func flipBit(path string, offset int64) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], offset); err != nil {
		return err
	}
	b[0] ^= 1 << uint(offset%8)
	_, err = file.WriteAt(b[:], offset)
	return err
}

var disks = []*Fault{
	{Name: "disk-slow", About: "each write takes 2 to 200 ms more on some nodes", Lasting: 4 * time.Second, Start: slow},
	{Name: "disk-stall", About: "no write ends on a minority", Lasting: 3 * time.Second, Start: stall},
	{Name: "disk-full", About: "no space left on some nodes or the leader", Lasting: 4 * time.Second, Start: full},
	{Name: "disk-fail", About: "writes fail with EIO on a minority; started again when the disk is well",
		Lasting: 3 * time.Second, Start: broken},
	{Name: "power", About: "writes are slow and torn, then all nodes are killed at once", Lasting: time.Second, Start: power},
	{Name: "power-volatile", About: "the same with disks that keep unsynced writes in memory (no O_DIRECT)", Volatile: true,
		Lasting: time.Second, Start: power},
	{Name: "bitflip", About: "one bit of one node's log or snapshot changes while it is down; repaired if the node refuses it",
		Lasting: 2 * time.Second, Start: bitflip},
}
