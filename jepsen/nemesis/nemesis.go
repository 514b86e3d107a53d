// Package nemesis holds the faults, and the schedule that a seed draws of them.
package nemesis

import (
	"context"
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"sync"
	"time"

	"lockstep/jepsen/control"
	"lockstep/jepsen/history"
)

// Env is what a fault acts on.
type Env struct {
	Cluster *control.Cluster
	Rand    *rand.Rand // of this one fault, from the schedule
	CLI     string     // path of the lockstep command
}

// Running is a fault under way. Stop takes it back and tells what it did; ok is false if it had no effect.
type Running struct {
	Detail string
	Stop   func(ctx context.Context) (effect string, ok bool)
}

// Fault is one kind of fault.
type Fault struct {
	Name, About string
	LeftOut     string        // why it can't run yet; empty: it can
	Volatile    bool          // wants disks that lose unsynced writes
	Spare       bool          // wants one more machine
	Flags       []string      // for the nodes, in addition
	Lasting     time.Duration // typical length; the schedule draws between half and one and a half of it
	Start       func(ctx context.Context, env *Env) (Running, error)
}

// All faults, sorted by name.
func All() []*Fault {
	var list []*Fault
	for _, family := range [][]*Fault{partitions, processes, clocks, disks, links, operations} {
		list = append(list, family...)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// groups are names that stand for several faults.
var groups = map[string][]string{
	"partition": {"partition-one", "partition-halves", "partition-ring", "partition-bridge", "partition-oneway",
		"partition-leader"},
	"clock": {"clock-bump", "clock-strobe", "clock-rate"},
	"disk":  {"disk-slow", "disk-stall", "disk-full"},
	"link":  {"link-delay", "link-loss", "link-bandwidth"},
}

// Groups, for the list.
func Groups() map[string][]string { return groups }

// Select faults by a comma-separated list of names and groups; "none" or "" is no fault.
func Select(names string) ([][]*Fault, error) {
	byName := map[string]*Fault{}
	for _, fault := range All() {
		byName[fault.Name] = fault
	}
	var selected [][]*Fault
	for _, name := range strings.Split(names, ",") {
		if name == "" || name == "none" {
			continue
		}
		members, isGroup := groups[name]
		if !isGroup {
			members = []string{name}
		}
		var family []*Fault
		for _, member := range members {
			fault := byName[member]
			if fault == nil {
				return nil, fmt.Errorf("no nemesis '%s'; ./dev jepsen list names them", name)
			}
			if fault.LeftOut != "" {
				return nil, fmt.Errorf("nemesis '%s' can't run yet: %s", name, fault.LeftOut)
			}
			family = append(family, fault)
		}
		selected = append(selected, family)
	}
	return selected, nil
}

// Planned is one fault of a schedule.
type Planned struct {
	At, For time.Duration
	Fault   *Fault
	Seed    int64
}

// Plan draws the schedule: per nemesis its own sequence of faults and quiet times, so that several overlap at random. The
// first fault comes within two seconds, the last one ends before the run does.
func Plan(seed int64, selected [][]*Fault, length time.Duration) []Planned {
	var plan []Planned
	for n, family := range selected {
		r := rand.New(rand.NewSource(seed*1000 + int64(n)))
		deck := r.Perm(len(family)) // each member once before any comes again
		at := time.Second + time.Duration(r.Int63n(int64(time.Second)))
		for i := 0; ; i++ {
			fault := family[deck[i%len(deck)]]
			length4 := fault.Lasting/2 + time.Duration(r.Int63n(int64(fault.Lasting)))
			if at+length4 > length-time.Second && i > 0 {
				break
			}
			plan = append(plan, Planned{At: at, For: length4, Fault: fault, Seed: r.Int63()})
			at += length4 + time.Second + time.Duration(r.Int63n(int64(2*time.Second)))
			if at > length-2*time.Second {
				break
			}
		}
	}
	sort.SliceStable(plan, func(i, j int) bool { return plan[i].At < plan[j].At })
	return plan
}

// Effect of one fault that was carried out.
type Effect struct {
	Name         string
	Start, End   int64 // ns since the run began
	Detail, Said string
	OK           bool
}

// Runner carries out a plan and keeps the timeline.
type Runner struct {
	Cluster *control.Cluster
	CLI     string
	Since   func() int64
	Log     func(format string, args ...interface{})

	mu      sync.Mutex
	Events  []history.NemesisEvent
	Effects []Effect
	Errors  []string
}

func (r *Runner) event(name string, start bool, detail string) {
	r.mu.Lock()
	r.Events = append(r.Events, history.NemesisEvent{At: r.Since(), F: name, Start: start, Detail: detail})
	r.mu.Unlock()
	word := "stop "
	if start {
		word = "start"
	}
	r.Log("nemesis %s %s: %s", word, name, detail)
}

// Run the plan; returns when the last fault is taken back. A cancelled context takes all back at once.
func (r *Runner) Run(ctx context.Context, plan []Planned) {
	var wait sync.WaitGroup
	begin := time.Now()
	for _, planned := range plan {
		if !sleep(ctx, time.Until(begin.Add(planned.At))) {
			break
		}
		wait.Add(1)
		go func(planned Planned) {
			defer wait.Done()
			r.one(ctx, planned)
		}(planned)
	}
	wait.Wait()
}

func (r *Runner) one(ctx context.Context, planned Planned) {
	env := &Env{Cluster: r.Cluster, CLI: r.CLI, Rand: rand.New(rand.NewSource(planned.Seed))}
	effect := Effect{Name: planned.Fault.Name, Start: r.Since()}
	running, err := planned.Fault.Start(ctx, env)
	if err != nil {
		r.mu.Lock()
		r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", planned.Fault.Name, err))
		r.mu.Unlock()
		r.Log("nemesis %s could not start: %v", planned.Fault.Name, err)
		return
	}
	r.event(planned.Fault.Name, true, running.Detail)
	sleep(ctx, planned.For)
	effect.Said, effect.OK = running.Stop(context.Background())
	effect.End, effect.Detail = r.Since(), running.Detail
	if !effect.OK {
		effect.Said = "NO EFFECT: " + effect.Said
	}
	r.event(planned.Fault.Name, false, effect.Said)
	r.mu.Lock()
	r.Effects = append(r.Effects, effect)
	r.mu.Unlock()
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func names(nodes []*control.Node) string {
	parts := make([]string, len(nodes))
	for i, node := range nodes {
		parts[i] = fmt.Sprintf("n%d", node.Index+1)
	}
	return strings.Join(parts, " ")
}

// some picks between 1 and max nodes.
func (e *Env) some(max int) []*control.Node {
	count := 1 + e.Rand.Intn(max)
	var picked []*control.Node
	for _, i := range e.Rand.Perm(len(e.Cluster.Nodes))[:count] {
		picked = append(picked, e.Cluster.Nodes[i])
	}
	return picked
}

func (e *Env) minority() []*control.Node { return e.some((len(e.Cluster.Nodes) - 1) / 2) }

// leader, or a random node if there is none for a second.
func (e *Env) leader(ctx context.Context) (*control.Node, bool) {
	for end := time.Now().Add(time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		if leader := e.Cluster.Leader(ctx); leader != nil {
			return leader, true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return e.Cluster.Nodes[e.Rand.Intn(len(e.Cluster.Nodes))], false
}
