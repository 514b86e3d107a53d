package main

import (
	"bufio"
	"fmt"
	"os"

	"lockstep/jepsen/history"
	"lockstep/jepsen/workload"
)

// recheck judges a stored history again.
func recheck(workloadName, path string) int {
	w := workload.Find(workloadName)
	if w == nil || w.LeftOut != "" {
		fmt.Fprintf(os.Stderr, "error: no workload '%s'\n", workloadName)
		return 2
	}
	h, err := history.ReadJSON(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	h.Sort()
	code := 0
	for _, result := range w.New(0).Check(h) {
		fmt.Printf("%s: %d operations, %d violations, %d undecided\n", result.Checker, result.Checked, len(result.Violations),
			len(result.Undecided))
		for _, line := range append(result.Violations, result.Undecided...) {
			fmt.Println("  " + line)
			code = 1
		}
	}
	return code
}

// export writes a stored history of registers to the standard output, in the form of Elle's rw-register.
func export(path string) int {
	h, err := history.ReadJSON(path)
	if err == nil {
		out := bufio.NewWriter(os.Stdout)
		if err = h.WriteRegisterEDN(out); err == nil {
			err = out.Flush()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}
