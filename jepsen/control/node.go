package control

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const clientPort = 7379

// Node is one lockstepd: its namespace, directory, faults and process.
type Node struct {
	Index   int // 0-based: its place, which gives its address and name; the raft id changes when it is replaced
	Dir     string
	LogPath string
	Faults  *Faults
	cluster *Cluster
	ns      *netns

	mu      sync.Mutex
	binary  string
	process *exec.Cmd
	exited  chan struct{}
	status  string
	paused  bool
	starts  int
	id      int
	joins   bool // it is no member of the first configuration: it starts with --join
	out     bool // it is not a member now, and must not run
	removed bool // its removal was ordered, and may have been committed
	lost    bool // its disk is lost: it must not run, and has to be replaced
	want    Want
}

// Address where clients reach the node, from inside its namespace.
func (n *Node) Address() string { return fmt.Sprintf("%s:%d", nodeAddress(n.Index), clientPort) }

// smallSizes let a run of a minute see many log files and snapshots, and nodes that fall behind the log.
var smallSizes = []string{"--wal-segment-size", "1mb", "--disk-reserve", "1mb", "--snapshot-log-size", "256kb", "--log-keep", "256kb"}

// MergeFlags gives both lists of "--name value", and the second one's where both have a name: a node refuses a flag that stands twice.
func MergeFlags(defaults, given []string) []string {
	known := map[string]bool{}
	for i := 0; i < len(given); i += 2 {
		known[given[i]] = true
	}
	var merged []string
	for i := 0; i+1 < len(defaults); i += 2 {
		if !known[defaults[i]] {
			merged = append(merged, defaults[i], defaults[i+1])
		}
	}
	return append(merged, given...)
}

func (n *Node) flags(seed string) []string {
	c := n.cluster.config
	args := append([]string{"--id", fmt.Sprint(n.id), "--dir", n.Dir, "--bind", nodeAddress(n.Index),
		"--port", fmt.Sprint(clientPort), "--election-timeout-ms", fmt.Sprint(c.ElectionTimeout.Milliseconds()),
		"--cluster-name", "jepsen"}, MergeFlags(smallSizes, c.Flags)...)
	if n.joins {
		return append(args, "--join", seed)
	}
	for i := 0; i < c.Nodes; i++ {
		args = append(args, "--member", fmt.Sprintf("%d %s:%d", i+1, nodeAddress(i), clientPort))
	}
	return args
}

// ID is the raft id.
func (n *Node) ID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// Out tells if the node is not a member now and must not be started.
func (n *Node) Out() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.out
}

// Start runs the node's binary, unless the node is out or its disk is lost. The process dies with this one, however that ends.
func (n *Node) Start() error {
	seed := n.cluster.seed(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.out || n.lost {
		return nil
	}
	return n.launch(seed)
}

// launch is for callers that hold the mutex.
func (n *Node) launch(seed string) error {
	if n.process != nil {
		return fmt.Errorf("node %d runs already", n.Index+1)
	}
	out, err := os.OpenFile(n.LogPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	n.starts++
	fmt.Fprintf(out, "# control: start %d, id %d, %s\n", n.starts, n.id, filepath.Base(n.binary))
	cmd := exec.Command(n.binary, n.flags(seed)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+n.cluster.config.FaultLibrary, "LOCKSTEP_FAULTS="+n.Faults.path)
	if n.cluster.config.Plant != "" {
		cmd.Env = append(cmd.Env, "LOCKSTEP_PLANT_NAME="+n.cluster.config.Plant)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	err = os.ErrClosed
	n.ns.do(func() { err = cmd.Start() })
	if err != nil {
		return fmt.Errorf("start node %d: %w", n.Index+1, err)
	}
	exited := make(chan struct{})
	n.process, n.exited, n.paused, n.status = cmd, exited, false, ""
	go n.reap(cmd, exited)
	return nil
}

func (n *Node) reap(cmd *exec.Cmd, exited chan struct{}) {
	_ = cmd.Wait()
	n.mu.Lock()
	n.status = cmd.ProcessState.String()
	if n.process == cmd {
		n.process = nil
		n.Faults.processGone()
	}
	n.mu.Unlock()
	close(exited)
}

// Alive tells if the process runs (paused or not).
func (n *Node) Alive() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process != nil
}

// Usable tells if the process runs and is not paused.
func (n *Node) Usable() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process != nil && !n.paused
}

// ExitStatus of the last process that ended.
func (n *Node) ExitStatus() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

func (n *Node) signal(number syscall.Signal) (chan struct{}, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return nil, false
	}
	return n.exited, n.process.Process.Signal(number) == nil
}

// Kill is kill -9, waiting for the end. False if nothing ran.
func (n *Node) Kill() bool {
	exited, ok := n.signal(syscall.SIGKILL)
	if ok {
		<-exited
	}
	return ok
}

// Terminate asks the node to stop, and kills it if it does not within the limit.
func (n *Node) Terminate(limit time.Duration) bool {
	n.Resume()
	exited, ok := n.signal(syscall.SIGTERM)
	if !ok {
		return false
	}
	select {
	case <-exited:
		return true
	case <-time.After(limit):
		n.Kill()
		return false
	}
}

// Pause is SIGSTOP; true once the kernel shows the process as stopped.
func (n *Node) Pause() bool {
	if _, ok := n.signal(syscall.SIGSTOP); !ok {
		return false
	}
	n.mu.Lock()
	n.paused = true
	pid := 0
	if n.process != nil {
		pid = n.process.Process.Pid
	}
	n.mu.Unlock()
	for i := 0; i < 200; i++ {
		if processState(pid) == "T" {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// Resume is SIGCONT.
func (n *Node) Resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil && n.paused {
		_ = n.process.Process.Signal(syscall.SIGCONT)
	}
	n.paused = false
}

func processState(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	text := string(data)
	if end := strings.LastIndexByte(text, ')'); end >= 0 && end+2 < len(text) {
		return text[end+2 : end+3]
	}
	return ""
}

// SetBinary is what the next start runs.
func (n *Node) SetBinary(path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.binary = path
}

// Log is the node's whole log.
func (n *Node) Log() string {
	data, err := os.ReadFile(n.LogPath)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
