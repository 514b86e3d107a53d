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
	flags.StringVar(&c.faults, "faults", "build/lockstep_faults.so", "library to preload into the nodes")
	nodeFlags := ""
	flags.StringVar(&nodeFlags, "node-flags", "", "more flags for the nodes, such as '--leases no'")
	flags.StringVar(&c.plant, "plant", "", "planted bug (with lockstepd_planted as --binary)")
	flags.StringVar(&c.results, "results", "jepsen/results", "directory for the runs")
	flags.DurationVar(&c.electionTimeout, "election-timeout", 300*time.Millisecond, "of the nodes")
	flags.DurationVar(&c.opTimeout, "op-timeout", 1500*time.Millisecond, "after which a client gives up: unknown")
	flags.BoolVar(&c.keep, "keep", false, "keep the nodes' data")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	c.flags = strings.Fields(nodeFlags)
	c.length = time.Duration(length) * time.Second
	r, err := run(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	fmt.Println(r.Summary())
	if r.Verdict != report.Green {
		return 1
	}
	return 0
}
