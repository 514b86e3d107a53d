// Command jepsen runs faults and load against real lockstepd processes, and judges what the clients saw.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"lockstep/jepsen/report"
)

const clientsDefault = 40

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := realMain(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func realMain(ctx context.Context, args []string) int {
	command := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	c := &runConfig{}
	flags := flag.NewFlagSet("jepsen", flag.ContinueOnError)
	length := 20
	flags.StringVar(&c.workload, "workload", "register", "workload")
	flags.StringVar(&c.nemesis, "nemesis", "partition,kill", "faults, comma-separated; none")
	flags.IntVar(&length, "time", 20, "seconds of load")
	flags.IntVar(&c.rate, "rate", 500, "operations per second, all clients together")
	flags.IntVar(&c.clients, "clients", clientsDefault, "clients, spread over the nodes")
	flags.IntVar(&c.nodes, "nodes", 5, "nodes")
	flags.Int64Var(&c.seed, "seed", 1, "seed of schedule and load")
	flags.StringVar(&c.binary, "binary", "build/lockstepd", "lockstepd")
	flags.StringVar(&c.binary2, "binary2", "", "another lockstepd for the nemesis rolling")
	flags.StringVar(&c.cli, "cli", "build/lockstep", "lockstep")
	flags.StringVar(&c.faults, "fault-library", "build/lockstep_faults.so", "library to preload into the nodes")
	nodeFlags := ""
	flags.StringVar(&nodeFlags, "node-flags", "", "more flags for the nodes, such as '--leases no'")
	flags.StringVar(&c.plant, "plant", "", "planted bug (with lockstepd_planted as --binary)")
	flags.StringVar(&c.results, "results", "jepsen/results", "directory for the runs")
	flags.DurationVar(&c.electionTimeout, "election-timeout", 300*time.Millisecond, "of the nodes")
	flags.DurationVar(&c.opTimeout, "op-timeout", 1500*time.Millisecond, "after which a client gives up: unknown")
	flags.BoolVar(&c.keep, "keep", false, "keep the nodes' data")
	quick := flags.Bool("quick", false, "matrix: every workload three times for 20 s")
	resume := flags.Bool("resume", false, "matrix: leave out runs that --results has already; rejected ones are repeated")
	most := flags.Int("count", 0, "matrix: at most so many runs this time")
	only := flags.String("only", "", "matrix: of these workloads alone; planted: of these bugs; comma-separated")
	losses := flags.Int("faults", 0, "failover: how often the leader is lost (default 50)")
	stored := flags.String("history", "", "recheck, export: a run's history.json")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "error: what is '%s'? ./dev help jepsen explains\n", flags.Arg(0))
		return 2
	}
	c.flags = strings.Fields(nodeFlags)
	c.length = time.Duration(length) * time.Second
	switch command {
	case "run":
		return single(ctx, c)
	case "list":
		return list(ctx, *c)
	case "matrix":
		each := 7
		if *quick {
			each, c.length = 3, 20*time.Second
		} else if !given(flags, "time") {
			c.length = time.Minute
		}
		return wholeMatrix(ctx, c, each, *only, *resume, *most)
	case "planted":
		return planted(ctx, *c, *only)
	case "failover":
		if *losses == 0 {
			*losses = 50
		}
		return failover(ctx, c, *losses)
	case "recheck":
		return recheck(c.workload, *stored)
	case "export":
		return export(*stored)
	}
	fmt.Fprintf(os.Stderr, "error: no command '%s'; ./dev help jepsen explains\n", command)
	return 2
}

func given(flags *flag.FlagSet, name string) bool {
	found := false
	flags.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

func wholeMatrix(ctx context.Context, c *runConfig, each int, only string, resume bool, most int) int {
	runs := matrixRuns(*c, each)
	if only != "" {
		if runs = ofWorkloads(runs, only); len(runs) == 0 {
			fmt.Fprintf(os.Stderr, "error: no workload of '%s' is in the matrix; ./dev jepsen list names them\n", only)
			return 2
		}
	}
	var earlier []*report.Run
	if resume {
		var err error
		if earlier, err = report.ReadAll(c.results); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			return 1
		}
	}
	if !matrix(ctx, runs, earlier, most) {
		return 1
	}
	return 0
}

func single(ctx context.Context, c *runConfig) int {
	r, err := run(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	fmt.Println(r.Summary())
	fmt.Println(r.Dir + "/index.html")
	if r.Verdict != report.Green {
		return 1
	}
	return 0
}
