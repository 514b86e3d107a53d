package control

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// netns is an anonymous network namespace, held by one thread of this process that never leaves it. It has no name, so
// nothing of it can stay behind: the kernel removes it with its last process, however this process ends.
type netns struct {
	calls  chan func()
	closed chan struct{}
	tun    *os.File
}

const mtu = 9000

// newNetns makes a namespace with a loopback device and a tun device of the given address, whose packets the caller carries.
func newNetns(address string) (*netns, error) {
	n := &netns{calls: make(chan func()), closed: make(chan struct{})}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the process
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = n.setUp(address)
		}
		ready <- err
		for {
			select {
			case call := <-n.calls:
				call()
			case <-n.closed:
				return
			}
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("network namespace for %s (root is needed): %w", address, err)
	}
	return n, nil
}

func (n *netns) setUp(address string) error {
	tun, err := openTun("ls0")
	if err != nil {
		return err
	}
	n.tun = tun
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", address + "/24", "dev", "ls0"},
		{"link", "set", "ls0", "mtu", fmt.Sprint(mtu), "txqueuelen", "1000", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %v: %s", args, err, out)
		}
	}
	return nil
}

func openTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], name)
	request.flags = unix.IFF_TUN | unix.IFF_NO_PI
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF,
		uintptr(unsafe.Pointer(&request))); errno != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("TUNSETIFF: %w", errno)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// do runs a function on the namespace's thread: sockets and processes made there belong to the namespace. It does nothing after
// close: clients may still be trying to connect.
func (n *netns) do(call func()) {
	done := make(chan struct{})
	select {
	case n.calls <- func() {
		defer close(done)
		call()
	}:
		<-done
	case <-n.closed:
	}
}

func (n *netns) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	err = net.ErrClosed
	n.do(func() {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, "tcp4", address)
	})
	return conn, err
}

func (n *netns) close() {
	n.tun.Close()
	close(n.closed)
}
