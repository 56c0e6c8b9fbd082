package virtio

import (
	"errors"
	"gosv/driver/pci"
	"gosv/machine"
	"strconv"
)

// Identity of virtio functions (§4.1.2).
const (
	pciVendor      = 0x1af4
	pciModern      = 0x1040 // device ID of type 0
	pciTransitions = 0x1000 // first ID of the transitional devices
)

// Structures that vendor capabilities point to (§4.1.4), and the parts of such a capability.
const (
	pciCommon = 1
	pciNotify = 2
	pciISR    = 3
	pciDevice = 4

	capLength     = 2
	capType       = 3
	capBAR        = 4
	capOffset     = 8
	capSize       = 12
	capMultiplier = 16
	capMinimum    = 16
)

// Registers of the common configuration structure (§4.1.4.3).
const (
	comFeaturesSel = 0x00
	comFeatures    = 0x04
	comAcceptSel   = 0x08
	comAccept      = 0x0c
	comConfigIRQ   = 0x10
	comStatus      = 0x14
	comQueueSel    = 0x16
	comQueueSize   = 0x18
	comQueueIRQ    = 0x1a
	comQueueEnable = 0x1c
	comQueueNotify = 0x1e
	comQueueDesc   = 0x20
	comQueueDriver = 0x28
	comQueueDevice = 0x30
	comSize        = 0x38

	noVector = 0xffff

	pciMaxQueues = 256
)

var (
	errNoCommon = errors.New("function lacks a structure of modern virtio")
	errNotify   = errors.New("queue's notification register is out of range")
	errNoISR    = errors.New("function has neither MSI-X nor an ISR status")
	errVector   = errors.New("device takes no interrupt vector")
)

// PCI is the PCI transport of one device.
type PCI struct {
	regs      PCIStructures
	typ       uint32
	name      string
	connect   func(handler func()) error
	line      bool                 // interrupts come by INTx, not as messages
	connected bool                 // Interrupt was called, and the device is to be given the number of a message
	notify    [pciMaxQueues]uint32 // offset of each queue's register
}

// PCIStructures are the registers of a virtio PCI function.
type PCIStructures struct {
	Common Registers
	Notify Registers
	// Multiplier is the distance between queues' notification registers.
	Multiplier uint32
	ISR        Registers // needed without MSI-X only
	Device     Registers // nil when there is none
}

// IsVirtio reports whether a function is a virtio device.
func IsVirtio(f *pci.Function) bool {
	return f.Vendor == pciVendor && f.Device >= pciTransitions && f.Device < pciModern+0x40
}

// OpenPCI takes a function that IsVirtio.
func OpenPCI(f *pci.Function, bus machine.Bus, irqs machine.Interrupts) (*PCI, error) {
	name := "virtio-pci@" + strconv.Itoa(int(f.Bus)) + ":" + strconv.Itoa(int(f.Address.Device)) + "." + strconv.Itoa(int(f.Function))
	s, err := findStructures(f, bus)
	if err != nil {
		return nil, &DeviceError{name, err}
	}
	f.Enable()
	line := !f.HasMSIX()
	connect := func(handler func()) error {
		v, err := irqs.Vector(typeName(pciType(f)), handler)
		if err != nil {
			return err
		}
		if line {
			return f.INTx(irqs, v)
		}
		return f.MSIX(bus, irqs, v)
	}
	newPCI := NewPCI
	if line {
		newPCI = NewLinePCI
	}
	t, err := newPCI(s, pciType(f), name, connect)
	if err != nil {
		return nil, &DeviceError{name, err}
	}
	return t, nil
}

// pciType returns the device type: from the device ID, or for a transitional device the subsystem ID.
func pciType(f *pci.Function) uint32 {
	const subsystem = 0x2c
	if f.Device >= pciModern {
		return uint32(f.Device - pciModern)
	}
	return f.Read32(subsystem) >> 16
}

// NewPCI makes a transport of mapped structures; connect is what Interrupt does, to MSI-X interrupt 0.
func NewPCI(s PCIStructures, typ uint32, name string, connect func(func()) error) (*PCI, error) {
	if s.Common == nil || s.Notify == nil || s.Common.Len() < comSize {
		return nil, errNoCommon
	}
	return &PCI{regs: s, typ: typ, name: name, connect: connect}, nil
}

// NewLinePCI is NewPCI for a function without MSI-X: connect connects its INTx line, which a read of the ISR status lowers (§4.1.4.5).
func NewLinePCI(s PCIStructures, typ uint32, name string, connect func(func()) error) (*PCI, error) {
	if s.ISR == nil {
		return nil, errNoISR
	}
	t, err := NewPCI(s, typ, name, connect)
	if err != nil {
		return nil, err
	}
	t.line = true
	return t, nil
}

// findStructures maps what the vendor capabilities point to: the first usable one of each type.
func findStructures(f *pci.Function, bus machine.Bus) (PCIStructures, error) {
	var s PCIStructures
	f.Capabilities(func(c pci.Capability) bool {
		if c.ID != pci.CapVendor || c.Offset+capMinimum > 256 || f.Read8(c.Offset+capLength) < capMinimum {
			return true
		}
		var where *Registers
		least := uint64(1)
		switch f.Read8(c.Offset + capType) {
		case pciCommon:
			where, least = &s.Common, comSize
		case pciNotify:
			where, least = &s.Notify, 2
		case pciISR:
			where = &s.ISR
		case pciDevice:
			where = &s.Device
		}
		if where == nil || *where != nil {
			return true
		}
		off, n := uint64(f.Read32(c.Offset+capOffset)), uint64(f.Read32(c.Offset+capSize))
		if n < least {
			return true
		}
		regs, err := f.Region(bus, int(f.Read8(c.Offset+capBAR)), off, min(n, 1<<20))
		if err != nil {
			return true
		}
		if where == &s.Notify {
			if c.Offset+capMultiplier+4 > 256 {
				return true
			}
			s.Multiplier = f.Read32(c.Offset + capMultiplier)
		}
		*where = regs
		return true
	})
	if s.Common == nil || s.Notify == nil {
		return s, errNoCommon
	}
	return s, nil
}

// Type implements Transport.
func (t *PCI) Type() uint32 { return t.typ }

// Name implements Transport.
func (t *PCI) Name() string { return t.name }

// Status implements Transport.
func (t *PCI) Status() uint8 { return t.regs.Common.Load8(comStatus) }

// SetStatus implements Transport.
func (t *PCI) SetStatus(s uint8) { t.regs.Common.Store8(comStatus, s) }

// Offered implements Transport.
func (t *PCI) Offered() uint64 {
	c := t.regs.Common
	c.Store32(comFeaturesSel, 0)
	low := c.Load32(comFeatures)
	c.Store32(comFeaturesSel, 1)
	return uint64(low) | uint64(c.Load32(comFeatures))<<32
}

// Accept implements Transport.
func (t *PCI) Accept(features uint64) {
	c := t.regs.Common
	c.Store32(comAcceptSel, 0)
	c.Store32(comAccept, uint32(features))
	c.Store32(comAcceptSel, 1)
	c.Store32(comAccept, uint32(features>>32))
}

// QueueMax implements Transport.
func (t *PCI) QueueMax(i int) int {
	if i >= pciMaxQueues {
		return 0
	}
	c := t.regs.Common
	c.Store16(comQueueSel, uint16(i))
	return int(min(c.Load16(comQueueSize), 1<<15))
}

// SetQueue implements Transport.
func (t *PCI) SetQueue(i int, size uint16, desc, avail, used uint64) error {
	c := t.regs.Common
	c.Store16(comQueueSel, uint16(i))
	at := uint64(c.Load16(comQueueNotify)) * uint64(t.regs.Multiplier)
	if at%2 != 0 || at+2 > t.regs.Notify.Len() {
		return errNotify
	}
	t.notify[i] = uint32(at)
	c.Store16(comQueueSize, size)
	if t.connected {
		c.Store16(comQueueIRQ, 0)
		if c.Load16(comQueueIRQ) == noVector {
			return errVector
		}
	}
	for _, r := range [...]struct{ at, v uint64 }{
		{comQueueDesc, desc}, {comQueueDriver, avail}, {comQueueDevice, used},
	} {
		c.Store32(r.at, uint32(r.v))
		c.Store32(r.at+4, uint32(r.v>>32))
	}
	c.Store16(comQueueEnable, 1)
	return nil
}

// Notify implements Transport.
func (t *PCI) Notify(i int) { t.regs.Notify.Store16(uint64(t.notify[i]), uint16(i)) }

// Interrupt implements Transport. Configuration changes raise the same interrupt, if the device takes a vector for them.
func (t *PCI) Interrupt(handler func()) error {
	if t.line {
		return t.connect(func() {
			if t.regs.ISR.Load8(0) != 0 {
				handler()
			}
		})
	}
	if err := t.connect(handler); err != nil {
		return err
	}
	t.connected = true
	t.regs.Common.Store16(comConfigIRQ, 0)
	return nil
}

// Config implements Transport.
func (t *PCI) Config() Registers { return t.regs.Device }
