package control

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Words of the file shared with faults/faults.c; the layout is the same there.
const (
	clockSequence = iota
	clockBaseNs
	clockSkewNs
	clockRatePpm
	wallOffsetNs
	writeDelayUs
	writeTear
	stall
	noSpace
	fail
	flip
	noDirect
	lose
)

// The library knows further words, which this program leaves at 0: see faults.c.

// Counter is an event that the preloaded library counts; a fault without a count had no effect.
type Counter int

// Counters of one node, over all its processes.
const (
	ClockReads Counter = 32 + iota
	WritesDelayed
	WritesStalled
	SpaceRefused
	WritesFailed
	WritesFlipped
	WritesHeld
	HeldBytes
	Writing
	Writes
)

const faultWords = 64

// Faults are one node's clocks and disk.
type Faults struct {
	path  string
	bytes []byte
}

func newFaults(path string) (*Faults, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Truncate(faultWords * 8); err != nil {
		return nil, err
	}
	bytes, err := unix.Mmap(int(file.Fd()), 0, faultWords*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &Faults{path: path, bytes: bytes}, nil
}

func (f *Faults) word(i int) *int64 {
	return (*int64)(unsafe.Pointer(&f.bytes[i*8]))
}

func (f *Faults) set(i int, value int64) {
	atomic.StoreInt64(f.word(i), value)
}

func (f *Faults) get(i int) int64 {
	return atomic.LoadInt64(f.word(i))
}

// Count is how often something happened since the run began.
func (f *Faults) Count(counter Counter) int64 {
	return f.get(int(counter))
}

func boottimeNs() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// SkewNs is how far the node's monotonic clocks are ahead of the machine's.
func (f *Faults) SkewNs() int64 {
	return f.get(clockSkewNs) + (boottimeNs()-f.get(clockBaseNs))/1000*f.get(clockRatePpm)/1000
}

// SetRate lets all clocks of the node run faster by ppm parts per million; they don't jump.
func (f *Faults) SetRate(ppm int64) {
	now, skew := boottimeNs(), f.SkewNs()
	atomic.AddInt64(f.word(clockSequence), 1)
	f.set(clockBaseNs, now)
	f.set(clockSkewNs, skew)
	f.set(clockRatePpm, ppm)
	atomic.AddInt64(f.word(clockSequence), 1)
}

// SetWallOffset moves the wall clock alone, at once.
func (f *Faults) SetWallOffset(ms int64) { f.set(wallOffsetNs, ms*1000000) }

// SetWriteDelay makes each write (or sync) take longer. With tear, a write of several blocks is half done meanwhile.
func (f *Faults) SetWriteDelay(us int64, tear bool) {
	f.set(writeTear, flag(tear))
	f.set(writeDelayUs, us)
}

// SetStall stops all writes and syncs until it is taken back.
func (f *Faults) SetStall(on bool) { f.set(stall, flag(on)) }

// SetNoSpace fills the disk: nothing can grow, and the free space reads as 0.
func (f *Faults) SetNoSpace(on bool) { f.set(noSpace, flag(on)) }

// SetFail makes all writes and syncs fail with EIO.
func (f *Faults) SetFail(on bool) { f.set(fail, flag(on)) }

// FlipWrites lets the next n writes of several blocks go to the disk with one bit flipped.
func (f *Faults) FlipWrites(n int64) { f.set(flip, n) }

// SetVolatile gives the node a disk without O_DIRECT whose unsynced writes a kill loses. It counts from the next start on.
func (f *Faults) SetVolatile(on bool) {
	f.set(noDirect, flag(on))
	f.set(lose, flag(on))
}

// processGone clears what counted things inside a process that was killed.
func (f *Faults) processGone() {
	f.set(int(HeldBytes), 0)
	f.set(int(Writing), 0)
}

// Heal takes back all settings but the skew already gathered: a monotonic clock does not jump back.
func (f *Faults) Heal() {
	f.SetRate(0)
	f.SetWallOffset(0)
	f.SetWriteDelay(0, false)
	f.SetStall(false)
	f.SetNoSpace(false)
	f.SetFail(false)
	f.FlipWrites(0)
}

func flag(on bool) int64 {
	if on {
		return 1
	}
	return 0
}
