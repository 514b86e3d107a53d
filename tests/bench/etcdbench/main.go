// etcdbench loads an etcd cluster through its own client and prints one JSON object: what `lockstep bench` is to servers
// of the Redis protocol. Each of N clients sends one request, waits for its answer, and sends the next, for T seconds.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type options struct {
	endpoints    string
	clients      int
	connections  int
	seconds      float64
	warmup       float64
	keys         int
	keyBytes     int
	valueBytes   int
	operation    string
	targetLeader bool
}

type percentiles struct {
	Count int     `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
}

type result struct {
	Seconds    float64     `json:"seconds"`
	Requests   int         `json:"requests"`
	Throughput float64     `json:"throughput"`
	Errors     int         `json:"errors"`
	FirstError string      `json:"first_error"`
	LatencyUs  percentiles `json:"latency_us"`
}

// What one client measured.
type tally struct {
	latencies  []time.Duration
	errors     int
	firstError string
}

func parse() options {
	var o options
	flag.StringVar(&o.endpoints, "endpoints", "http://127.0.0.1:2379", "addresses, separated by commas")
	flag.IntVar(&o.clients, "clients", 64, "requests in flight at once")
	flag.IntVar(&o.connections, "connections", 8, "TCP connections that the clients share (8 is about the best for 64 clients)")
	flag.Float64Var(&o.seconds, "time", 10, "seconds to measure")
	flag.Float64Var(&o.warmup, "warmup", 1, "seconds of load before that")
	flag.IntVar(&o.keys, "keys", 1000000, "number of different keys")
	flag.IntVar(&o.keyBytes, "key-size", 16, "bytes of a key")
	flag.IntVar(&o.valueBytes, "size", 64, "bytes of a value")
	flag.StringVar(&o.operation, "op", "put", "put, or get (linearizable)")
	flag.BoolVar(&o.targetLeader, "target-leader", true, "connect to the leader only")
	flag.Parse()
	if o.clients < 1 || o.connections < 1 || o.keys < 1 || o.keyBytes < 12 || (o.operation != "put" && o.operation != "get") {
		fmt.Fprintln(os.Stderr, "etcdbench: bad options (etcdbench -help)")
		os.Exit(2)
	}
	return o
}

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "etcdbench: %s: %v\n", what, err)
	os.Exit(1)
}

// leaderEndpoint returns the address at which the leader takes clients.
func leaderEndpoint(endpoints []string) (string, error) {
	for _, endpoint := range endpoints {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second})
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		status, err := client.Status(ctx, endpoint)
		cancel()
		client.Close()
		if err == nil && status.Header.MemberId == status.Leader {
			return endpoint, nil
		}
	}
	return "", fmt.Errorf("none of the endpoints leads")
}

func run(o options, client *clientv3.Client, seed int64, measure, end time.Time) tally {
	var t tally
	random := rand.New(rand.NewSource(seed))
	value := make([]byte, o.valueBytes)
	for i := range value {
		value[i] = byte('A' + random.Intn(26))
	}
	ctx, cancel := context.WithDeadline(context.Background(), end.Add(5*time.Second))
	defer cancel()
	for {
		key := fmt.Sprintf("key:%0*d", o.keyBytes-4, random.Intn(o.keys))
		if len(value) > 0 {
			value[random.Intn(len(value))] = byte('A' + random.Intn(26))
		}
		start := time.Now()
		if !start.Before(end) {
			return t
		}
		var err error
		if o.operation == "put" {
			_, err = client.Put(ctx, key, string(value))
		} else {
			_, err = client.Get(ctx, key)
		}
		done := time.Now()
		if start.Before(measure) || done.After(end) {
			continue
		}
		if err != nil {
			t.errors++
			if t.firstError == "" {
				t.firstError = err.Error()
			}
			continue
		}
		t.latencies = append(t.latencies, done.Sub(start))
	}
}

func summarize(latencies []time.Duration) percentiles {
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	n := len(latencies)
	if n == 0 {
		return percentiles{}
	}
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	at := func(percent float64) float64 {
		i := int(float64(n) * percent / 100)
		if i >= n {
			i = n - 1
		}
		return us(latencies[i])
	}
	var sum time.Duration
	for _, latency := range latencies {
		sum += latency
	}
	return percentiles{n, us(sum) / float64(n), at(50), at(90), at(99), at(99.9), us(latencies[n-1])}
}

func main() {
	o := parse()
	endpoints := strings.Split(o.endpoints, ",")
	if o.targetLeader {
		leader, err := leaderEndpoint(endpoints)
		if err != nil {
			fail("finding the leader", err)
		}
		endpoints = []string{leader}
	}
	if o.connections > o.clients {
		o.connections = o.clients
	}
	clients := make([]*clientv3.Client, o.connections)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second})
		if err != nil {
			fail("connecting", err)
		}
		defer client.Close()
		clients[i] = client
	}
	measure := time.Now().Add(time.Duration(o.warmup * float64(time.Second)))
	end := measure.Add(time.Duration(o.seconds * float64(time.Second)))
	tallies := make([]tally, o.clients)
	var group sync.WaitGroup
	for i := range tallies {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			tallies[i] = run(o, clients[i%len(clients)], int64(i)+1, measure, end)
		}(i)
	}
	group.Wait()
	r := result{Seconds: o.seconds}
	var all []time.Duration
	for _, t := range tallies {
		all = append(all, t.latencies...)
		r.Errors += t.errors
		if r.FirstError == "" {
			r.FirstError = t.firstError
		}
	}
	r.Requests = len(all)
	r.Throughput = float64(len(all)) / o.seconds
	r.LatencyUs = summarize(all)
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		fail("writing the result", err)
	}
}
