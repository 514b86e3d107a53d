package workload

// Workloads whose commands do not exist yet. Each is found again by `./dev jepsen list` as soon as they do; New is the seam.
var (
	queue = &Workload{Name: "queue", About: "lists as queues, with blocking pops: nothing lost, nothing twice, in order",
		Needs: []string{"lpush", "rpop", "blpop"}, LeftOut: "not written: waits for lists"}
	bankScript = &Workload{Name: "bank-script", About: "the bank with transfers by script", Needs: []string{"eval"},
		LeftOut: "not written: waits for scripts"}
	idempotent = &Workload{Name: "idempotent", About: "retries with an idempotency key take effect once",
		Needs: []string{"idem"}, LeftOut: "not written: waits for idempotency keys"}
)
