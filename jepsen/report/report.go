// Package report writes what one run did and showed, and the table of all runs.
package report

import (
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"lockstep/jepsen/check"
	"lockstep/jepsen/history"
	"lockstep/jepsen/nemesis"
)

// Verdict of a run.
type Verdict string

// Green: enough happened and nothing was wrong. Rejected: the run says too little, or a checker could not decide.
const (
	Green     Verdict = "green"
	Violation Verdict = "VIOLATION"
	Rejected  Verdict = "rejected"
)

// Run is everything about one run.
type Run struct {
	Name, Dir, Workload, Nemesis, Command, Plant string
	Seed                                         int64
	Seconds                                      float64
	Verdict                                      Verdict
	Counts                                       history.Counts
	Unexpected                                   int64
	LoadStart, LoadEnd                           int64
	RecoverySeconds, CheckSeconds                float64
	LongestGap                                   float64 // seconds without a successful operation
	LoadOK                                       int     // operations that succeeded before the faults were healed
	Checks                                       []*check.Result
	Violations                                   []string               // found by the harness itself
	Problems                                     []string               // why the run says too little
	Events                                       []history.NemesisEvent `json:"-"`
	Effects                                      []nemesis.Effect
	History                                      *history.History `json:"-"`

	mu  sync.Mutex
	log []string
}

// Logf keeps a line for the run's log and shows it.
func (r *Run) Logf(format string, args ...interface{}) {
	line := time.Now().UTC().Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.log = append(r.log, line)
	r.mu.Unlock()
	fmt.Fprintln(os.Stderr, line)
}

// Conclude draws the verdict from what was found.
func (r *Run) Conclude() {
	r.Verdict = Green
	for _, result := range r.Checks {
		if len(result.Undecided) > 0 {
			r.Problems = append(r.Problems, result.Undecided...)
		}
	}
	if len(r.Problems) > 0 {
		r.Verdict = Rejected
	}
	if len(r.All()) > 0 {
		r.Verdict = Violation
	}
	r.LongestGap = r.gap()
}

// All violations, of checkers and harness.
func (r *Run) All() []string {
	list := append([]string(nil), r.Violations...)
	for _, result := range r.Checks {
		for _, violation := range result.Violations {
			list = append(list, result.Checker+": "+violation)
		}
	}
	return list
}

// gap is the longest time without any successful operation during the load.
func (r *Run) gap() float64 {
	var ends []int64
	for i := range r.History.Ops {
		if op := &r.History.Ops[i]; op.Outcome == history.OK && op.Return <= r.LoadEnd {
			ends = append(ends, op.Return)
		}
	}
	sort.Slice(ends, func(i, j int) bool { return ends[i] < ends[j] })
	last, longest := r.LoadStart, int64(0)
	for _, end := range append(ends, r.LoadEnd) {
		if end-last > longest {
			longest = end - last
		}
		last = end
	}
	return float64(longest) / 1e9
}

// Summary is one line.
func (r *Run) Summary() string {
	return fmt.Sprintf("%-9s %s: %d ok, %d fail, %d unknown; %d faults; longest gap %.1f s; checked in %.1f s", r.Verdict, r.Name,
		r.Counts.OK, r.Counts.Fail, r.Counts.Info, len(r.Effects), r.LongestGap, r.CheckSeconds)
}

// Write the run's directory.
func (r *Run) Write() error {
	for _, line := range r.All() {
		r.Logf("violation: %s", line)
	}
	for _, line := range r.Problems {
		r.Logf("problem: %s", line)
	}
	steps := []func() error{
		func() error { return r.History.WriteJSON(filepath.Join(r.Dir, "history.json")) },
		func() error { return r.History.WriteEDN(filepath.Join(r.Dir, "history.edn"), r.Events) },
		r.writeVisuals, r.writePlots, r.writeIndex,
		func() error {
			data, err := json.MarshalIndent(r, "", " ")
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(r.Dir, "run.json"), data, 0o644)
		},
		func() error {
			return os.WriteFile(filepath.Join(r.Dir, "run.log"), []byte(strings.Join(r.log, "\n")+"\n"), 0o644)
		},
		func() error { return appendTable(filepath.Dir(r.Dir), r) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// ReadAll gives the runs of a results directory, oldest first, without their histories.
func ReadAll(dir string) ([]*Run, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*", "run.json"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths) // the names begin with the time
	var runs []*Run
	for _, path := range paths {
		r := &Run{}
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, r)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		runs = append(runs, r)
	}
	return runs, nil
}

func (r *Run) writeVisuals() error {
	for _, result := range r.Checks {
		if result.Visual == nil {
			continue
		}
		if err := result.Visual(filepath.Join(r.Dir, result.Checker+".html")); err != nil {
			return err
		}
	}
	return nil
}

func list(title string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	text := "<h2>" + title + "</h2><ul>"
	for _, line := range lines {
		text += "<li><code>" + html.EscapeString(line) + "</code></li>"
	}
	return text + "</ul>"
}

const pageStyle = `<meta charset="utf-8"><style>body{font:14px sans-serif;max-width:1000px;margin:2em auto}table{border-collapse:
collapse}td,th{border:1px solid #bbb;padding:2px 8px;text-align:left}.green{color:#070}.VIOLATION{color:#b00;font-weight:bold}
.rejected{color:#a60}</style>`

func (r *Run) writeIndex() error {
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html><html lang=\"en\"><head><title>%s</title>%s</head><body>\n", r.Name, pageStyle)
	fmt.Fprintf(&b, "<h1>%s: <span class=\"%s\">%s</span></h1>\n", html.EscapeString(r.Name), r.Verdict, r.Verdict)
	fmt.Fprintf(&b, "<p><code>%s</code></p>\n<table>", html.EscapeString(r.Command))
	row := func(name, value string) {
		fmt.Fprintf(&b, "<tr><th>%s</th><td>%s</td></tr>\n", name, html.EscapeString(value))
	}
	row("operations", fmt.Sprintf("%d: %d ok, %d failed for certain, %d unknown", r.Counts.Total(), r.Counts.OK, r.Counts.Fail,
		r.Counts.Info))
	row("longest time without success", fmt.Sprintf("%.3f s", r.LongestGap))
	row("recovery after healing", fmt.Sprintf("%.3f s", r.RecoverySeconds))
	for _, result := range r.Checks {
		row("checker "+result.Checker, fmt.Sprintf("%d operations, %d violations, %d undecided", result.Checked,
			len(result.Violations), len(result.Undecided)))
	}
	b.WriteString("</table>" + list("Violations", r.All()) + list("Why this run says too little", r.Problems))
	for _, result := range r.Checks {
		if result.Visual != nil {
			fmt.Fprintf(&b, "<p><a href=\"%s.html\">Porcupine's picture of the violation</a></p>", result.Checker)
		}
	}
	b.WriteString("<h2>Latency</h2><p>Each dot is an operation; faults are shaded.</p><img src=\"latency.svg\" alt=\"latency\">" +
		"<h2>Rate</h2><img src=\"rate.svg\" alt=\"rate\">\n<h2>Faults</h2><table><tr><th>from</th><th>to</th><th>fault</th>" +
		"<th>what</th><th>effect</th></tr>\n")
	for _, e := range r.Effects {
		fmt.Fprintf(&b, "<tr><td>%.2f</td><td>%.2f</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", float64(e.Start)/1e9,
			float64(e.End)/1e9, e.Name, html.EscapeString(e.Detail), html.EscapeString(e.Said))
	}
	b.WriteString("</table><h2>Files</h2><p><a href=\"history.edn\">history.edn</a> <a href=\"history.json\">history.json</a> " +
		"<a href=\"run.log\">run.log</a> <a href=\"run.json\">run.json</a>")
	logs, err := filepath.Glob(filepath.Join(r.Dir, "node-*.log"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		fmt.Fprintf(&b, " <a href=\"%[1]s\">%[1]s</a>", filepath.Base(log))
	}
	b.WriteString("</p></body></html>\n")
	return os.WriteFile(filepath.Join(r.Dir, "index.html"), []byte(b.String()), 0o644)
}

// appendTable adds the run to results/runs.tsv and writes results/index.html anew from it.
func appendTable(dir string, r *Run) error {
	path := filepath.Join(dir, "runs.tsv")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintf(file, "%s\t%s\t%s\t%s\t%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%.2f\n", r.Name, r.Verdict, r.Workload, r.Nemesis, r.Plant,
		r.Seed, r.Seconds, r.Counts.OK, r.Counts.Fail, r.Counts.Info, len(r.Effects), r.LongestGap)
	if err := file.Close(); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html><html lang=\"en\"><head><title>Runs</title>%s</head><body><h1>Runs</h1>\n<table><tr>", pageStyle)
	for _, head := range []string{"run", "verdict", "workload", "nemesis", "planted", "seed", "s", "ok", "fail", "unknown",
		"faults", "longest gap, s"} {
		fmt.Fprintf(&b, "<th>%s</th>", head)
	}
	b.WriteString("</tr>\n")
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		cells := strings.Split(line, "\t")
		b.WriteString("<tr>")
		for i, cell := range cells {
			switch i {
			case 0:
				fmt.Fprintf(&b, "<td><a href=\"%[1]s/index.html\">%[1]s</a></td>", html.EscapeString(cell))
			case 1:
				fmt.Fprintf(&b, "<td class=\"%[1]s\">%[1]s</td>", html.EscapeString(cell))
			default:
				fmt.Fprintf(&b, "<td>%s</td>", html.EscapeString(cell))
			}
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</table></body></html>\n")
	return os.WriteFile(filepath.Join(dir, "index.html"), []byte(b.String()), 0o644)
}
