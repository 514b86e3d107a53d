package main

import (
	"context"
	"testing"

	"lockstep/jepsen/nemesis"
	"lockstep/jepsen/report"
)

func TestMatrixHasEveryWorkloadAndEveryFaultSet(t *testing.T) {
	runs := matrixRuns(runConfig{seed: 1, clients: clientsDefault}, 7)
	if len(runs) < 60 {
		t.Fatalf("%d runs", len(runs))
	}
	commands, sets := map[string]bool{}, map[string]bool{}
	for _, c := range runs {
		if _, err := nemesis.Select(c.nemesis); err != nil {
			t.Fatal(err)
		}
		commands[c.command()], sets[c.nemesis] = true, true
	}
	if len(commands) != len(runs) {
		t.Fatalf("%d runs, but %d commands: --resume would take one for another", len(runs), len(commands))
	}
	for _, set := range faultSets {
		if !sets[set.nemesis] {
			t.Fatalf("no run with %s", set.nemesis)
		}
	}
}

func TestMatrixOfGreenRunsCarriesOutNothing(t *testing.T) {
	runs := matrixRuns(runConfig{seed: 1}, 1)
	var earlier []*report.Run
	for _, c := range runs {
		earlier = append(earlier, &report.Run{Command: c.command(), Workload: c.workload, Verdict: report.Rejected},
			&report.Run{Command: c.command(), Workload: c.workload, Verdict: report.Green})
	}
	if !matrix(context.Background(), runs, earlier, 0) {
		t.Fatal("the last attempt at each run was green")
	}
	earlier[3].Verdict = report.Violation
	if matrix(context.Background(), runs, earlier, 0) {
		t.Fatal("a violation passed")
	}
}

func TestMatrixOfSomeWorkloadsHasTheSameRuns(t *testing.T) {
	runs := matrixRuns(runConfig{seed: 1, clients: clientsDefault}, 7)
	some := ofWorkloads(runs, "set,bank")
	if len(some) != 14 || len(ofWorkloads(runs, "ban")) != 0 {
		t.Fatalf("%d runs", len(some))
	}
	all := map[*runConfig]bool{}
	for _, c := range runs {
		all[c] = true
	}
	for _, c := range some {
		if !all[c] || (c.workload != "set" && c.workload != "bank") {
			t.Fatalf("%s", c.command())
		}
	}
}
