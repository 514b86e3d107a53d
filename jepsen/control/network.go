package control

import (
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"
)

// Condition is what one directed link does to packets.
type Condition struct {
	Loss      float64       // probability
	Delay     time.Duration // one way
	Jitter    time.Duration // added, uniform; packets stay in order
	BytesPerS int64         // 0: no limit
	cuts      int           // partitions that cut it now
}

func (c Condition) clean() bool { return c == Condition{} }

// Network carries the IP packets between the nodes' tun devices: a link emulator in user space, one directed link per
// ordered pair of nodes, which works where the kernel has no netem.
type Network struct {
	nodes []*netns
	links [][]*link
	done  sync.WaitGroup
}

type link struct {
	condition atomic.Value // Condition
	dropped   int64        // blocked or lost
	delayed   int64
	carried   int64
	queue     chan packet
	to        *netns

	mu   sync.Mutex
	last time.Time // delivery of the packet before
	free time.Time // when the wire is free
	rand *rand.Rand
}

type packet struct {
	data []byte
	at   time.Time
}

const queuePackets = 2000 // of one link; more are dropped, as by a router

func nodeAddress(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

func newNetwork(n int, seed int64) (*Network, error) {
	network := &Network{}
	for i := 0; i < n; i++ {
		ns, err := newNetns(nodeAddress(i))
		if err != nil {
			network.close()
			return nil, err
		}
		network.nodes = append(network.nodes, ns)
	}
	network.links = make([][]*link, n)
	for i := range network.links {
		for j := 0; j < n; j++ {
			l := &link{to: network.nodes[j], queue: make(chan packet, queuePackets),
				rand: rand.New(rand.NewSource(seed + int64(i*n+j)))}
			l.condition.Store(Condition{})
			network.links[i] = append(network.links[i], l)
			network.done.Add(1)
			go l.deliver(&network.done)
		}
	}
	for i := range network.nodes {
		network.done.Add(1)
		go network.carry(i)
	}
	return network, nil
}

// carry reads what node i sends.
func (n *Network) carry(i int) {
	defer n.done.Done()
	buf := make([]byte, mtu+64)
	for {
		size, err := n.nodes[i].tun.Read(buf)
		if err != nil {
			break // closed
		}
		if size < 20 || buf[0]>>4 != 4 {
			continue // IPv6 chatter of the device
		}
		to := int(buf[19]) - 1
		if buf[16] != 10 || buf[17] != 77 || to < 0 || to >= len(n.nodes) || to == i {
			continue
		}
		n.links[i][to].send(buf[:size])
	}
	for _, l := range n.links[i] {
		close(l.queue)
	}
}

func (l *link) send(data []byte) {
	c := l.condition.Load().(Condition)
	if c.cuts > 0 {
		atomic.AddInt64(&l.dropped, 1)
		return
	}
	l.mu.Lock()
	lost := c.Loss > 0 && l.rand.Float64() < c.Loss
	now := time.Now()
	if lost || (c.clean() && !l.last.After(now)) {
		l.mu.Unlock()
		if lost {
			atomic.AddInt64(&l.dropped, 1)
			return
		}
		atomic.AddInt64(&l.carried, 1)
		_, _ = l.to.tun.Write(data) // a full device drops, as a network does
		return
	}
	at := now.Add(c.Delay)
	if c.Jitter > 0 {
		at = at.Add(time.Duration(l.rand.Int63n(int64(c.Jitter))))
	}
	if c.BytesPerS > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(time.Duration(int64(len(data)) * int64(time.Second) / c.BytesPerS))
		if at.Before(l.free) {
			at = l.free
		}
	}
	if at.Before(l.last) {
		at = l.last
	}
	l.last = at
	l.mu.Unlock()
	select {
	case l.queue <- packet{append([]byte(nil), data...), at}:
		atomic.AddInt64(&l.delayed, 1)
	default:
		atomic.AddInt64(&l.dropped, 1)
	}
}

func (l *link) deliver(done *sync.WaitGroup) {
	defer done.Done()
	for p := range l.queue {
		if wait := time.Until(p.at); wait > 0 {
			time.Sleep(wait)
		}
		if l.condition.Load().(Condition).cuts > 0 {
			atomic.AddInt64(&l.dropped, 1)
			continue
		}
		atomic.AddInt64(&l.carried, 1)
		_, _ = l.to.tun.Write(p.data)
	}
}

// change a link's condition; several faults may act on one link at once.
func (l *link) change(edit func(*Condition)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.condition.Load().(Condition)
	edit(&c)
	l.condition.Store(c)
}

// SetQuality gives the link from node i to node j loss, delay and bandwidth. Clients are not on the network: they reach every
// node always.
func (n *Network) SetQuality(i, j int, condition Condition) {
	n.links[i][j].change(func(c *Condition) {
		cuts := c.cuts
		*c = condition
		c.cuts = cuts
	})
}

// Block cuts the link from i to j, this way only. Cuts are counted.
func (n *Network) Block(i, j int) { n.links[i][j].change(func(c *Condition) { c.cuts++ }) }

// Unblock takes one Block back.
func (n *Network) Unblock(i, j int) {
	n.links[i][j].change(func(c *Condition) {
		if c.cuts > 0 {
			c.cuts--
		}
	})
}

// Heal makes all links clean.
func (n *Network) Heal() {
	for i := range n.links {
		for j := range n.links {
			n.links[i][j].change(func(c *Condition) { *c = Condition{} })
		}
	}
}

// Traffic counts packets over all links.
type Traffic struct{ Dropped, Delayed, Carried int64 }

// Traffic so far.
func (n *Network) Traffic() Traffic {
	var t Traffic
	for _, row := range n.links {
		for _, l := range row {
			t.Dropped += atomic.LoadInt64(&l.dropped)
			t.Delayed += atomic.LoadInt64(&l.delayed)
			t.Carried += atomic.LoadInt64(&l.carried)
		}
	}
	return t
}

func (n *Network) close() {
	for _, ns := range n.nodes {
		ns.close()
	}
	n.done.Wait()
}
