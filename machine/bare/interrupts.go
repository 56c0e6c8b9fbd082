package bare

import (
	"errors"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"gosv/machine"
	"gosv/machine/floor"
)

// interrupts runs the handlers of device interrupts on goroutines: the one that
// waits for the floor's device descriptor, or a task's that came back from ring 3.
type interrupts struct {
	mu       sync.Mutex // guards lines, ioapics, routed
	lines    []machine.Line
	routed   uint64 // inputs of the I/O APICs that are in use
	ioapics  [2]machine.Memory
	handlers [2 * 64]handler
}

type handler struct {
	f    atomic.Pointer[func()]
	mu   sync.Mutex // held while f runs
	more atomic.Bool
}

func (in *interrupts) start() {
	f := os.NewFile(floor.DeviceFile, "devices")
	go func() {
		var b [1]byte
		for {
			if _, err := f.Read(b[:]); err != nil {
				panic("machine: reading device interrupts: " + err.Error())
			}
			in.serve()
		}
	}()
}

// serve runs the handlers of all interrupts that came in.
func (in *interrupts) serve() {
	for i, w := range floor.TakeDevices() {
		for w != 0 {
			v := bits.TrailingZeros64(w)
			w &^= 1 << v
			in.handlers[i*64+v].run()
		}
	}
}

// run calls the handler, once more if it is already being called elsewhere.
func (h *handler) run() {
	if h.f.Load() == nil {
		return
	}
	h.more.Store(true)
	for h.more.Load() && h.mu.TryLock() {
		for h.more.Swap(false) {
			(*h.f.Load())() // the one of now: it may have been replaced while it ran
		}
		h.mu.Unlock() // +checklocksforce: TryLock
	}
}

func (in *interrupts) setHandler(v uint8, f func()) { in.handlers[v].f.Store(&f) }

// Vector implements machine.Interrupts.
func (in *interrupts) Vector(name string, f func()) (uint8, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.lines) > floor.LastVector-floor.FirstVector {
		return 0, errors.New("no interrupt vector is left")
	}
	v := uint8(floor.FirstVector + len(in.lines))
	in.lines = append(in.lines, machine.Line{Vector: v, Name: name, Input: -1})
	in.setHandler(v, f)
	return v, nil
}

// Lines implements machine.Interrupts.
func (in *interrupts) Lines() []machine.Line {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]machine.Line(nil), in.lines...)
}

// Came implements machine.Interrupts.
func (*interrupts) Came(n int, vector uint8) uint32 { return floor.Came(n, vector) }

// The I/O APICs of QEMU, KVM and Firecracker; microvm has a second one.
const (
	ioapicAddress = 0xfec00000
	ioapicStride  = 0x10000
	ioapicInputs  = 24
)

// Route implements machine.Interrupts (82093AA I/O APIC: index at 0, data at
// 0x10, redirection entries from register 0x10 on).
func (in *interrupts) Route(gsi uint32, vector uint8, level, low bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	i := gsi / ioapicInputs
	if i >= uint32(len(in.ioapics)) {
		return errors.New("no such interrupt line")
	}
	if in.routed&(1<<gsi) != 0 {
		return errors.New("the interrupt line is another device's")
	}
	in.routed |= 1 << gsi
	l := &in.lines[vector-floor.FirstVector]
	l.Input, l.Level = int(gsi), level
	gsi %= ioapicInputs
	regs := &in.ioapics[i]
	if regs.Len() == 0 {
		*regs = device(floor.MapRegisters(ioapicAddress+uint64(i)*ioapicStride, 0x20), 0x20)
	}
	lowWord := uint32(vector)
	if low {
		lowWord |= 1 << 13
	}
	if level {
		lowWord |= 1 << 15
	}
	regs.Store32(0, 0x11+2*gsi)
	regs.Store32(0x10, floor.BootAPIC()<<24)
	regs.Store32(0, 0x10+2*gsi)
	regs.Store32(0x10, lowWord)
	return nil
}

// Message implements machine.Interrupts (Intel SDM vol. 3 §11.11).
func (*interrupts) Message(vector uint8) (uint64, uint32) {
	return 0xfee00000 | uint64(floor.BootAPIC())<<12, uint32(vector)
}

func device(va, n uint64) machine.Memory {
	return machine.MemoryOf(unsafe.Slice((*byte)(unsafe.Add(nil, uintptr(va))), n))
}
