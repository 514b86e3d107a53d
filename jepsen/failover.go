package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"lockstep/jepsen/control"
	"lockstep/jepsen/report"
)

// outage is the longest time between two successful writes around one loss of the leader.
type outage struct {
	Fault string
	MS    float64
}

// failover kills and isolates leaders in turn, and measures the time without successful writes, over all clients. Writers sit on
// every node; each tries again 2 ms after a refusal.
func failover(ctx context.Context, c *runConfig, faults int) int {
	dir := filepath.Join(c.results, fmt.Sprintf("%s-failover-seed%d", time.Now().UTC().Format("20060102T150405"), c.seed))
	cluster, err := control.New(control.Config{Nodes: c.nodes, Binary: c.binary, FaultLibrary: c.faults, Dir: dir,
		ElectionTimeout: c.electionTimeout, Seed: c.seed, Flags: c.flags})
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	defer cluster.Close(true)
	if err := cluster.Start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	var mu sync.Mutex
	var successes []time.Time
	limited, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	for i := 0; i < 2*c.nodes; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			client := cluster.Nodes[i%c.nodes].Client(time.Second)
			defer client.Close()
			for n := 0; limited.Err() == nil; n++ {
				err := client.Set(limited, fmt.Sprintf("f%d", i), n, 0).Err()
				if err == nil {
					mu.Lock()
					successes = append(successes, time.Now())
					mu.Unlock()
					time.Sleep(5 * time.Millisecond)
				} else {
					time.Sleep(2 * time.Millisecond)
				}
			}
		}(i)
	}
	outages := loseLeaders(ctx, cluster, c.seed, faults, func(from time.Time) float64 {
		mu.Lock()
		defer mu.Unlock()
		return longestGap(successes, from)
	})
	stop()
	wait.Wait()
	return reportOutages(dir, outages, c)
}

// longestGap between successes from just before the fault until now, in ms.
func longestGap(successes []time.Time, from time.Time) float64 {
	last, longest := from, time.Duration(0)
	sorted := append([]time.Time(nil), successes...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Before(sorted[j]) })
	for _, at := range append(sorted, time.Now()) {
		if at.Before(from) {
			continue
		}
		if gap := at.Sub(last); gap > longest {
			longest = gap
		}
		last = at
	}
	return float64(longest.Microseconds()) / 1000
}

func loseLeaders(ctx context.Context, cluster *control.Cluster, seed int64, faults int, gap func(time.Time) float64) []outage {
	var outages []outage
	random := rand.New(rand.NewSource(seed))
	for n := 0; n < faults && ctx.Err() == nil; n++ {
		time.Sleep(time.Second + time.Duration(random.Int63n(int64(300*time.Millisecond))))
		leader := cluster.Leader(ctx)
		if leader == nil {
			n--
			continue
		}
		from := time.Now()
		name := "killed"
		if n%2 == 0 {
			leader.Kill()
		} else {
			name = "isolated"
			for i := range cluster.Nodes {
				if i != leader.Index {
					cluster.Network.Block(i, leader.Index)
					cluster.Network.Block(leader.Index, i)
				}
			}
		}
		time.Sleep(2500 * time.Millisecond)
		outages = append(outages, outage{name, gap(from)})
		fmt.Fprintf(os.Stderr, "leader n%d %s: %.0f ms without writes\n", leader.Index+1, name, outages[len(outages)-1].MS)
		if err := cluster.Heal(); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			return outages
		}
		if err := cluster.WaitServing(ctx, 20*time.Second); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			return outages
		}
	}
	return outages
}

func reportOutages(dir string, outages []outage, c *runConfig) int {
	if len(outages) == 0 {
		fmt.Fprintln(os.Stderr, "error: no fault was carried out")
		return 1
	}
	for _, kind := range []string{"killed", "isolated"} {
		var ms []float64
		for _, o := range outages {
			if o.Fault == kind {
				ms = append(ms, o.MS)
			}
		}
		if len(ms) > 0 {
			sort.Float64s(ms)
			fmt.Printf("leader %-8s %d times: median %.0f ms, worst %.0f ms without successful writes (election time-out %d ms)\n",
				kind, len(ms), ms[len(ms)/2], ms[len(ms)-1], c.electionTimeout.Milliseconds())
		}
	}
	data, err := json.MarshalIndent(outages, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "failover.json"), data, 0o644)
	}
	if err == nil {
		dots := map[string][]float64{}
		for _, o := range outages {
			dots[o.Fault] = append(dots[o.Fault], o.MS)
		}
		err = report.Distribution(filepath.Join(dir, "failover.svg"), dots)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	fmt.Println(filepath.Join(dir, "failover.svg"))
	return 0
}
