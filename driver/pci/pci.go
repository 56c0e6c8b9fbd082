// Package pci finds PCI functions and sets them up (PCI Local Bus Specification 3.0, PCI Express Base
// Specification): configuration space by I/O ports or ECAM, base address registers, capabilities, MSI-X, INTx.
//
// The firmware has given out bus numbers and addresses. What functions say about themselves is checked: lists
// that do not end, regions outside their base address register.
//
// Nothing here locks; buses are searched while the kernel boots.
package pci

import (
	"errors"
	"gosv/machine"
)

// Registers of the configuration space.
const (
	regVendor     = 0x00
	regCommand    = 0x04
	regStatus     = 0x06
	regClass      = 0x0a // subclass, base class
	regHeader     = 0x0e
	regBAR0       = 0x10
	regBuses      = 0x18 // of a bridge: primary, secondary, subordinate
	regCapability = 0x34

	headerMulti  = 1 << 7
	headerBridge = 1

	commandMemory   = 1 << 1
	commandMaster   = 1 << 2
	commandNoINTx   = 1 << 10
	statusCapable   = 1 << 4
	classBridge     = 0x0604
	barIO           = 1
	bar64           = 2 << 1
	barTypeMask     = 3 << 1
	barAddressMask  = ^uint32(15)
	configSize      = 256
	firstCapability = 0x40
	maxCapabilities = (configSize - firstCapability) / 4
)

// Capability identifiers.
const (
	CapVendor = 0x09
	CapMSIX   = 0x11
)

var (
	errNoBAR   = errors.New("pci: no memory at that base address register")
	errNoINTx  = errors.New("pci: the interrupt pin is not connected")
	errNoMSIX  = errors.New("pci: no MSI-X")
	errBadMSIX = errors.New("pci: bad MSI-X capability")
)

// An Address names a function.
type Address struct{ Bus, Device, Function uint8 }

// Config is the way to the configuration space of all functions. off is a multiple of 4.
type Config interface {
	Read(a Address, off uint16) uint32
	Write(a Address, off uint16, v uint32)
}

// Ports is the access to I/O ports.
type Ports interface {
	In(port uint16, size int) uint32
	Out(port uint16, size int, v uint32)
}

const (
	portAddress = 0xcf8
	portData    = 0xcfc
	enable      = 1 << 31
)

type portConfig struct{ p Ports }

// ByPorts returns configuration mechanism #1, or nil when the machine has none.
func ByPorts(p Ports) Config {
	p.Out(portAddress, 4, enable)
	if p.In(portAddress, 4) != enable {
		return nil
	}
	return portConfig{p}
}

func (c portConfig) choose(a Address, off uint16) {
	c.p.Out(portAddress, 4, enable|uint32(a.Bus)<<16|uint32(a.Device&31)<<11|uint32(a.Function&7)<<8|uint32(off&0xfc))
}

func (c portConfig) Read(a Address, off uint16) uint32 {
	c.choose(a, off)
	return c.p.In(portData, 4)
}

func (c portConfig) Write(a Address, off uint16, v uint32) {
	c.choose(a, off)
	c.p.Out(portData, 4, v)
}

// ECAM is the configuration space of buses from a first one on, in memory.
type ECAM struct {
	Regs  machine.Memory
	First uint8
}

func (e ECAM) at(a Address, off uint16) (uint64, bool) {
	if a.Bus < e.First {
		return 0, false
	}
	at := uint64(a.Bus-e.First)<<20 | uint64(a.Device&31)<<15 | uint64(a.Function&7)<<12 | uint64(off&0xffc)
	return at, at+4 <= e.Regs.Len()
}

// Read implements Config.
func (e ECAM) Read(a Address, off uint16) uint32 {
	at, ok := e.at(a, off)
	if !ok {
		return ^uint32(0)
	}
	return e.Regs.Load32(at)
}

// Write implements Config.
func (e ECAM) Write(a Address, off uint16, v uint32) {
	if at, ok := e.at(a, off); ok {
		e.Regs.Store32(at, v)
	}
}

// A Function is one function of a device.
type Function struct {
	Address
	Vendor, Device uint16
	Class          uint16 // base class, subclass

	c Config
}

// Scan calls found for each function on bus 0 and the buses behind its bridges. It goes on
// when a bridge claims a bus that it may not have.
func Scan(c Config, found func(*Function)) {
	var seen [256]bool
	scanBus(c, 0, 255, &seen, found)
}

// scanBus searches a bus; buses behind its bridges are above it, at most last, and not seen yet.
func scanBus(c Config, bus, last uint8, seen *[256]bool, found func(*Function)) {
	seen[bus] = true
	for device := range uint8(32) {
		for function := range uint8(8) {
			a := Address{bus, device, function}
			id := c.Read(a, regVendor)
			if id&0xffff == 0xffff || id == 0 {
				if function == 0 {
					break
				}
				continue
			}
			f := &Function{Address: a, Vendor: uint16(id), Device: uint16(id >> 16), c: c}
			f.Class = f.read16(regClass)
			header := f.read8(regHeader)
			if header&^headerMulti == headerBridge && f.Class == classBridge {
				buses := c.Read(a, regBuses)
				if secondary, end := uint8(buses>>8), uint8(buses>>16); secondary > bus && secondary <= end && end <= last && !seen[secondary] {
					scanBus(c, secondary, end, seen, found)
				}
			} else {
				found(f)
			}
			if function == 0 && header&headerMulti == 0 {
				break
			}
		}
	}
}

func (f *Function) read16(off uint16) uint16 {
	return uint16(f.c.Read(f.Address, off&^3) >> (8 * (off & 2)))
}

func (f *Function) read8(off uint16) uint8 {
	return uint8(f.c.Read(f.Address, off&^3) >> (8 * (off & 3)))
}

// Read8 reads a byte of the configuration space, Read32 four at a multiple of 4.
func (f *Function) Read8(off uint16) uint8 { return f.read8(off) }

// Read32 reads four bytes of the configuration space.
func (f *Function) Read32(off uint16) uint32 { return f.c.Read(f.Address, off) }

func (f *Function) write16(off, v uint16) {
	shift := 8 * (off & 2)
	old := f.c.Read(f.Address, off&^3)
	if off&^3 == regCommand {
		old &= 0xffff // bits of the status register are cleared by writing ones
	}
	f.c.Write(f.Address, off&^3, old&^(0xffff<<shift)|uint32(v)<<shift)
}

// Enable lets the function answer to its addresses and reach memory, and silences its INTx line.
func (f *Function) Enable() {
	f.write16(regCommand, f.read16(regCommand)|commandMemory|commandMaster|commandNoINTx)
}

// A Capability is an entry of a function's list of capabilities.
type Capability struct {
	ID     uint8
	Offset uint16 // in the configuration space; a multiple of 4
}

// Capabilities calls found for each capability until it returns false. A list with a loop ends.
func (f *Function) Capabilities(found func(Capability) bool) {
	if f.read16(regStatus)&statusCapable == 0 {
		return
	}
	at := uint16(f.read8(regCapability) &^ 3)
	for range maxCapabilities {
		if at < firstCapability {
			return
		}
		v := f.c.Read(f.Address, at)
		if !found(Capability{uint8(v), at}) {
			return
		}
		at = uint16(uint8(v>>8) &^ 3)
	}
}

// BAR returns the memory that base address register i (0 to 5) decodes: its physical address and
// its size in bytes. It is an error when there is none, or the firmware gave it no address.
func (f *Function) BAR(i int) (pa, size uint64, err error) {
	if i < 0 || i > 5 || f.read8(regHeader)&^headerMulti != 0 || f.upperHalf(i) {
		return 0, 0, errNoBAR
	}
	at := uint16(regBAR0 + 4*i)
	low := f.c.Read(f.Address, at)
	wide := isWide(low)
	if low&barIO != 0 || wide && i == 5 {
		return 0, 0, errNoBAR
	}
	command := f.read16(regCommand)
	f.write16(regCommand, command&^commandMemory)
	mask := uint64(f.probe(at)&barAddressMask) | 0xffffffff<<32
	pa = uint64(low & barAddressMask)
	if wide {
		pa |= uint64(f.c.Read(f.Address, at+4)) << 32
		mask = mask&0xffffffff | uint64(f.probe(at+4))<<32
	}
	f.write16(regCommand, command)
	size = mask & -mask
	if uint32(mask) == 0 && !wide || size == 0 || pa == 0 || pa&(size-1) != 0 || pa+size < pa {
		return 0, 0, errNoBAR
	}
	return pa, size, nil
}

func isWide(bar uint32) bool { return bar&(barIO|barTypeMask) == bar64 }

// upperHalf reports whether base address register i holds the upper half of the address in the one before.
func (f *Function) upperHalf(i int) bool {
	for j := 0; j < i; j++ {
		if isWide(f.c.Read(f.Address, uint16(regBAR0+4*j))) {
			if j++; j == i {
				return true
			}
		}
	}
	return false
}

// probe returns the bits of a base address register that can be set.
func (f *Function) probe(at uint16) uint32 {
	old := f.c.Read(f.Address, at)
	f.c.Write(f.Address, at, ^uint32(0))
	v := f.c.Read(f.Address, at)
	f.c.Write(f.Address, at, old)
	return v
}

// Region maps n bytes at off of the memory behind a base address register.
func (f *Function) Region(bus machine.Bus, bar int, off, n uint64) (machine.Memory, error) {
	pa, size, err := f.BAR(bar)
	if err != nil {
		return machine.Memory{}, err
	}
	if off > size || n > size-off || n == 0 {
		return machine.Memory{}, errNoBAR
	}
	return bus.Registers(pa+off, n)
}
