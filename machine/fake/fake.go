// Package fake is a machine.Machine on the host, for tests.
//
// Physical memory is one piece of host memory, address spaces are maps from
// page to frame, the clock stands still until a test moves it, and what a
// program does in ring 3 is a Go function, Config.Enter. Everything that the
// interfaces forbid panics here: freeing a frame that is free or still mapped,
// destroying a space with mappings, replacing a live mapping without Unmap,
// unaligned addresses. ForTest also fails a test that leaves frames allocated.
//
// Physical memory lies outside the Go heap, so the race detector does not
// watch it, as nothing orders the accesses of a real program to its memory. All
// else is race-clean.
//
// Lock order: a space's lock, then Machine.mu. Handlers (Enter, alarm,
// interrupts, ports) are called without any lock.
package fake

import (
	"gosv/machine"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// Config says what the machine is like. The zero value is a small machine.
type Config struct {
	// Frames is the amount of physical memory, in frames; 0 means 4096 (16 MiB).
	Frames int
	// CPUs is what Firmware.CPUs returns; 0 means 1.
	CPUs int
	// CommandLine and Initrd are what the boot loader left. The initrd takes
	// frames of its own, which count as allocated until freed.
	CommandLine string
	Initrd      []byte
	// RSDP is what Firmware.RSDP returns; see AddPhysical for its memory.
	RSDP uint64
	// DeviceFrames is the amount of memory that devices bring, in frames, from Machine.DeviceAddress on.
	DeviceFrames int
	// Enter plays the program: it may change the context and use the space,
	// and says why ring 3 was left. Nil makes CPU.Enter panic.
	Enter func(*machine.Context, machine.Space) machine.Trap
	// RealClock makes the clock run by itself, and alarms fire; without it
	// time moves by Advance only.
	RealClock bool
	// Timebase is what Clock.Timebase returns.
	Timebase machine.Timebase
}

// Machine is a machine that exists only in the test's memory. Make it with New
// or ForTest.
type Machine struct {
	cfg  Config
	slab []byte

	mu    sync.Mutex // guards the fields down to the blank line
	state []frameState
	next  int
	free  int

	watched int    // frames to be freed until tell is called; guarded by mu
	tell    func() // or nil; guarded by mu

	failing atomic.Bool
	failIn  atomic.Int64

	clock      clockState
	interrupts interruptState
	bus        busState
	contexts   contextState
	power      powerState
	console    consoleState

	initrd machine.Frame
}

var _ machine.Machine = (*Machine)(nil)

// New makes a machine. Close gives its memory back.
func New(cfg Config) *Machine {
	if cfg.Frames == 0 {
		cfg.Frames = 4096
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 1
	}
	slab, err := syscall.Mmap(-1, 0, (cfg.Frames+1+cfg.DeviceFrames)*machine.PageSize, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		panic("fake: no memory for the machine: " + err.Error())
	}
	m := &Machine{cfg: cfg, slab: slab, state: make([]frameState, cfg.Frames+1), free: cfg.Frames, next: 1}
	m.clock.init(cfg.RealClock)
	m.power.done = make(chan struct{})
	m.contexts.known = map[*machine.Context]*contextExtra{}
	m.placeInitrd(cfg.Initrd)
	return m
}

// TB is what ForTest needs of a *testing.T.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Failed() bool
}

// ForTest makes a machine that is closed when the test ends. A test that
// succeeded so far fails when frames are still allocated then, those of the initrd
// aside.
func ForTest(tb TB, cfg Config) *Machine {
	m := New(cfg)
	before := m.InUse()
	tb.Cleanup(func() {
		tb.Helper()
		if n := m.InUse(); n > before && !tb.Failed() {
			tb.Errorf("%d of %d frames leaked, the first is %d", n-before, m.cfg.Frames, m.firstUsed())
		}
		m.Close()
	})
	return m
}

// Close gives the machine's memory back to the host. Nothing may use the
// machine any more.
func (m *Machine) Close() {
	m.clock.stop()
	if err := syscall.Munmap(m.slab); err != nil {
		panic("fake: " + err.Error())
	}
	m.slab = nil
	runtime.KeepAlive(m)
}
