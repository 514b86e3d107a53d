package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/jepsen/check"
	"lockstep/jepsen/control"
	"lockstep/jepsen/history"
	"lockstep/jepsen/nemesis"
	"lockstep/jepsen/report"
	"lockstep/jepsen/workload"
)

// runConfig is one run.
type runConfig struct {
	workload, nemesis       string
	length                  time.Duration
	rate, clients, nodes    int
	seed                    int64
	binary, binary2, faults string
	cli, plant, results     string
	electionTimeout         time.Duration
	opTimeout               time.Duration
	keep                    bool
	flags                   []string
}

func (c *runConfig) command() string {
	text := fmt.Sprintf("./dev jepsen --workload %s --nemesis %s --time %d --rate %d --seed %d", c.workload, c.nemesis,
		int(c.length.Seconds()), c.rate, c.seed)
	if c.clients != clientsDefault {
		text += fmt.Sprintf(" --clients %d", c.clients)
	}
	if len(c.flags) > 0 {
		text += fmt.Sprintf(" --node-flags '%s'", strings.Join(c.flags, " "))
	}
	if c.binary2 != "" && strings.Contains(c.nemesis, "rolling") {
		text += " --binary2 " + c.binary2
	}
	if c.plant != "" {
		text += " --plant " + c.plant
	}
	return text
}

// run carries out one run and judges it. An error means that it could not be carried out at all.
func run(ctx context.Context, c *runConfig) (*report.Run, error) {
	w := workload.Find(c.workload)
	if w == nil {
		return nil, fmt.Errorf("no workload '%s'; ./dev jepsen list names them", c.workload)
	}
	selected, err := nemesis.Select(c.nemesis)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s-%s-%s-seed%d", time.Now().UTC().Format("20060102T150405"), c.workload, c.nemesis, c.seed)
	if c.plant != "" {
		name += "-" + c.plant
	}
	r := &report.Run{Name: name, Dir: filepath.Join(c.results, name), Workload: c.workload, Nemesis: c.nemesis, Seed: c.seed,
		Command: c.command(), Plant: c.plant, Seconds: c.length.Seconds(), History: &history.History{}}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return nil, err
	}
	cluster, err := control.New(control.Config{Nodes: c.nodes, Binary: c.binary, OtherBinary: c.binary2,
		FaultLibrary: c.faults, Dir: r.Dir, ElectionTimeout: c.electionTimeout, Seed: c.seed, Plant: c.plant,
		Flags: control.MergeFlags(flagsOf(selected), c.flags), Volatile: anyFault(selected, func(f *nemesis.Fault) bool { return f.Volatile }),
		Spare: anyFault(selected, func(f *nemesis.Fault) bool { return f.Spare })})
	if err != nil {
		return nil, err
	}
	defer func() { cluster.Close(!c.keep && r.Verdict != report.Violation) }()
	if err := cluster.Start(ctx); err != nil {
		return nil, fmt.Errorf("the cluster did not start: %w (logs in %s)", err, r.Dir)
	}
	if w.LeftOut != "" {
		return nil, fmt.Errorf("workload '%s' can't run: %s", w.Name, w.LeftOut)
	}
	client := cluster.Nodes[0].Client(time.Second)
	missing := w.Missing(ctx, client)
	client.Close()
	if len(missing) > 0 {
		return nil, fmt.Errorf("workload '%s' can't run: the server has no %v", w.Name, missing)
	}
	drive(ctx, c, w, cluster, selected, r)
	judge(w, r)
	if err := r.Write(); err != nil {
		return nil, err
	}
	return r, nil
}

func anyFault(selected [][]*nemesis.Fault, is func(*nemesis.Fault) bool) bool {
	for _, family := range selected {
		for _, fault := range family {
			if is(fault) {
				return true
			}
		}
	}
	return false
}

// flagsOf gives the flags that faults want for the nodes; one given on the command line goes before them.
func flagsOf(selected [][]*nemesis.Fault) []string {
	var flags []string
	for _, family := range selected {
		for _, fault := range family {
			flags = append(flags, fault.Flags...)
		}
	}
	return flags
}

// A slow machine needs more time for as much to happen: then load and faults go on for another round, with other faults.
const (
	roundsMax = 4
	roundSeed = 7919
)

// tooLittle says what did not happen often enough for the run to say something; nothing if all did.
func tooLittle(w *workload.Workload, r *report.Run) []string {
	var missing []string
	if least := int(float64(w.OKMin) * r.Seconds); r.LoadOK < least {
		missing = append(missing, fmt.Sprintf("too little happened: %d operations succeeded under faults, at least %d are wanted",
			r.LoadOK, least))
	}
	for _, name := range check.Unseen(r.Nemesis, effective(r)) {
		missing = append(missing, "no fault of "+name+" had an effect")
	}
	return missing
}

// drive lets clients and faults act, heals, lets the clients look a last time, and waits for equal nodes.
func drive(ctx context.Context, c *runConfig, w *workload.Workload, cluster *control.Cluster, selected [][]*nemesis.Fault,
	r *report.Run) {
	instance := w.New(c.seed)
	begin := time.Now()
	since := func() int64 { return int64(time.Since(begin)) }
	var workers []*workload.Worker
	for i := 0; i < c.clients; i++ {
		workers = append(workers, workload.NewWorker(i, c.clients, cluster.Nodes[i%c.nodes], r.History, since, c.opTimeout,
			c.seed*1000+int64(i), &r.Unexpected))
	}
	if err := instance.Setup(ctx, workers[0]); err != nil {
		r.Problems = append(r.Problems, "setup: "+err.Error())
		return
	}
	r.LoadStart = since()
	loading, stop := context.WithCancel(ctx)
	defer stop()
	runner := &nemesis.Runner{Cluster: cluster, CLI: c.cli, Since: since, Log: r.Logf}
	var wait sync.WaitGroup
	for _, worker := range workers {
		wait.Add(1)
		go func(worker *workload.Worker) {
			defer wait.Done()
			load(ctx, loading, instance, worker, float64(c.rate)/float64(c.clients))
		}(worker)
	}
	for round := 0; round < roundsMax && ctx.Err() == nil; round++ {
		limited, cancel := context.WithTimeout(ctx, c.length)
		runner.Run(limited, nemesis.Plan(c.seed+int64(round)*roundSeed, selected, c.length))
		<-limited.Done()
		cancel()
		r.Effects = runner.Effects
		r.LoadOK = r.History.Count().OK
		missing := tooLittle(w, r)
		if len(missing) == 0 {
			break
		}
		r.Logf("round %d of at most %d: %s", round+1, roundsMax, strings.Join(missing, "; "))
	}
	stop()
	wait.Wait()
	r.LoadEnd = since()
	r.Events = runner.Events
	r.Problems = append(r.Problems, runner.Errors...)
	settle(ctx, cluster, instance, workers, r)
}

// patience is for what must come to pass in the end, on any machine.
const patience = 2 * time.Minute

// settle demands that the healed cluster serves, agrees, and lets the clients do their last reads.
func settle(ctx context.Context, cluster *control.Cluster, instance workload.Instance, workers []*workload.Worker,
	r *report.Run) {
	if ctx.Err() != nil {
		r.Problems = append(r.Problems, "interrupted")
		return
	}
	healed := time.Now()
	err := cluster.Heal()
	if err == nil {
		err = cluster.RestoreMembers(ctx, patience)
	}
	if err == nil {
		err = cluster.WaitServing(ctx, patience)
	}
	if err != nil {
		r.Violations = append(r.Violations, "no recovery after healing: "+err.Error())
		return
	}
	r.RecoverySeconds = time.Since(healed).Seconds()
	var wait sync.WaitGroup
	for _, worker := range workers {
		wait.Add(1)
		go func(worker *workload.Worker) {
			defer wait.Done()
			worker.Reopen()
			instance.Final(ctx, worker)
			worker.Client.Close()
		}(worker)
	}
	wait.Wait()
	text, err := cluster.Converged(ctx, patience)
	if err != nil {
		r.Violations = append(r.Violations, "replicas: "+err.Error())
	}
	r.Logf("replicas at the end:%s", text)
}

// load steps a worker at its rate until `loading` is over. The operation under way is ended in peace (ctx, not loading).
func load(ctx, loading context.Context, instance workload.Instance, worker *workload.Worker, perSecond float64) {
	next := time.Now()
	for loading.Err() == nil {
		instance.Step(ctx, worker)
		next = next.Add(time.Duration(worker.Rand.ExpFloat64() / perSecond * float64(time.Second)))
		if wait := time.Until(next); wait > 0 {
			select {
			case <-loading.Done():
			case <-time.After(wait):
			}
		} else if wait < -100*time.Millisecond {
			next = time.Now()
		}
	}
}

// judge applies the workload's checkers and the rules on runs that say too little.
func judge(w *workload.Workload, r *report.Run) {
	r.History.Sort()
	r.Counts = r.History.Count()
	instance := w.New(r.Seed)
	begin := time.Now()
	r.Checks = instance.Check(r.History)
	r.CheckSeconds = time.Since(begin).Seconds()
	if n := atomic.LoadInt64(&r.Unexpected); n > 0 {
		r.Violations = append(r.Violations, fmt.Sprintf("%d replies with an unexpected error; see the history", n))
	}
	r.Problems = append(r.Problems, tooLittle(w, r)...)
	r.Conclude()
}

// effective maps each fault's name to whether it had an effect at least once.
func effective(r *report.Run) map[string]bool {
	seen := map[string]bool{}
	for _, effect := range r.Effects {
		seen[effect.Name] = seen[effect.Name] || effect.OK
		for group, members := range nemesis.Groups() {
			for _, member := range members {
				if member == effect.Name {
					seen[group] = seen[group] || effect.OK
				}
			}
		}
	}
	return seen
}
