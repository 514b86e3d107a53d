package control

import (
	"context"
	"net"
	"os"
	"testing"
	"time"
)

// pair gives two namespaces and a listener in the second one. Needs root.
func pair(t *testing.T) (*Network, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("no /dev/net/tun")
	}
	network, err := newNetwork(2, 1)
	if err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	t.Cleanup(network.close)
	var listener net.Listener
	network.nodes[1].do(func() { listener, err = net.Listen("tcp4", nodeAddress(1)+":5000") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return network, listener.Addr().String()
}

func dial(network *Network, address string, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	begin := time.Now()
	conn, err := network.nodes[0].dial(ctx, address)
	if err == nil {
		conn.Close()
	}
	return time.Since(begin), err
}

func TestCleanLinkCarries(t *testing.T) {
	network, address := pair(t)
	if _, err := dial(network, address, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if network.Traffic().Carried == 0 {
		t.Fatal("nothing was carried by the emulator")
	}
}

func TestDelayIsAddedEachWay(t *testing.T) {
	network, address := pair(t)
	network.SetQuality(0, 1, Condition{Delay: 30 * time.Millisecond})
	network.SetQuality(1, 0, Condition{Delay: 20 * time.Millisecond})
	took, err := dial(network, address, 5*time.Second)
	if err != nil || took < 50*time.Millisecond {
		t.Fatalf("a round trip took %v, %v", took, err)
	}
}

func TestOneWayCutStopsAndHeals(t *testing.T) {
	network, address := pair(t)
	network.Block(1, 0)
	network.Block(1, 0) // by a second partition
	network.Unblock(1, 0)
	if _, err := dial(network, address, 300*time.Millisecond); err == nil {
		t.Fatal("connected although answers are cut off")
	}
	if network.Traffic().Dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	network.Unblock(1, 0)
	if _, err := dial(network, address, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}
