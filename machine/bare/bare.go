// Package bare implements the interfaces of package machine on a bare x86-64
// machine, over package floor. Everything here is ordinary Go on goroutines.
//
// Locks: each of frames' shards, Space has none (entries are changed with
// atomics, the caller keeps changes to one page apart), interrupts.mu guards the
// handlers. None is held while calling into the kernel.
package bare

import (
	"sync/atomic"

	"gosv/machine"
	"gosv/machine/floor"
)

// Machine is the bare machine; there is one.
type Machine struct {
	frames
	interrupts
	shortage
	off atomic.Pointer[func()]
}

var _ machine.Machine = (*Machine)(nil)

// New takes the machine over. It is called once, first thing in main.
func New() *Machine {
	m := new(Machine)
	machine.Emulated = floor.CPUs() == 1 && floor.Emulated()
	m.interrupts.start()
	m.shortage.start(&m.interrupts)
	return m
}

// CommandLine implements machine.Firmware.
func (*Machine) CommandLine() string { return floor.CommandLine() }

// Initrd implements machine.Firmware.
func (*Machine) Initrd() (machine.Frame, uint64) {
	addr, size := floor.Initrd()
	return machine.Frame(addr / machine.PageSize), size
}

// RSDP implements machine.Firmware.
func (*Machine) RSDP() uint64 { return floor.RSDP() }

// CPUs implements machine.Firmware.
func (*Machine) CPUs() int { return floor.CPUs() }

// CPUID executes the instruction of that name.
func (*Machine) CPUID(leaf, sub uint32) (a, b, c, d uint32) { return floor.CPUID(leaf, sub) }

// Emergency implements machine.Console.
func (*Machine) Emergency(b []byte) { floor.Emergency(b) }

// Off implements machine.Power.
func (m *Machine) Off(status int) {
	if f := m.off.Load(); f != nil {
		(*f)()
	}
	floor.Stop(uint64(status))
	select {}
}

// OnOff implements machine.Power.
func (m *Machine) OnOff(f func()) { m.off.Store(&f) }

// Uptime is the time in ns since the kernel's first instruction.
func (m *Machine) Uptime() int64 { return m.Monotonic() - floor.AtEntry }

// EntryTSC is the time stamp counter at the kernel's first instruction.
func (*Machine) EntryTSC() uint64 { return floor.EntryTSC() }
