package virtiotest

import (
	"fmt"
	"gosv/driver/virtio"
)

// PCI returns the device's registers as the PCI transport has them, and how an interrupt is connected. The queues' notification
// registers are four bytes apart, in reverse order.
func (d *Device) PCI() (virtio.PCIStructures, func(func()) error) {
	s := virtio.PCIStructures{Common: common{d}, Notify: notify{d}, Multiplier: 4}
	if d.Space != nil {
		s.Device = space{d}
	}
	return s, func(handler func()) error {
		v, err := d.Machine.Vector("test", func() {
			d.mu.Lock()
			d.isr = 0 // a message has no line
			d.mu.Unlock()
			handler()
		})
		if err != nil {
			return err
		}
		return d.Machine.Route(d.GSI, v, false, false)
	}
}

// LinePCI is PCI for a device without MSI-X: its interrupts are a line's, which reading the ISR status lowers.
func (d *Device) LinePCI() (virtio.PCIStructures, func(func()) error) {
	s, _ := d.PCI()
	s.ISR = status{d}
	return s, func(handler func()) error {
		v, err := d.Machine.Vector("test", handler)
		if err != nil {
			return err
		}
		return d.Machine.Route(d.GSI, v, false, false)
	}
}

// status is the ISR status.
type status struct{ d *Device }

func (status) Len() uint64 { return 1 }

func (s status) Load8(uint64) uint8 {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	v := uint8(s.d.isr)
	s.d.isr = 0
	return v
}

func (status) Load16(off uint64) uint16     { panic(bad("16-bit read", off)) }
func (status) Load32(off uint64) uint32     { panic(bad("32-bit read", off)) }
func (status) Store8(off uint64, _ uint8)   { panic(bad("8-bit write", off)) }
func (status) Store16(off uint64, _ uint16) { panic(bad("16-bit write", off)) }
func (status) Store32(off uint64, _ uint32) { panic(bad("32-bit write", off)) }

// common is the common configuration structure, in terms of the MMIO registers.
type common struct{ d *Device }

func (common) Len() uint64 { return 0x38 }

func bad(what string, off uint64) string {
	return fmt.Sprintf("virtiotest: %s of PCI register %#x", what, off)
}

func (c common) Load8(off uint64) uint8 {
	if off != 0x14 {
		panic(bad("8-bit read", off))
	}
	return uint8(c.d.Load32(0x70))
}

func (c common) Store8(off uint64, v uint8) {
	if off != 0x14 {
		panic(bad("8-bit write", off))
	}
	c.d.Store32(0x70, uint32(v))
}

func (c common) Load16(off uint64) uint16 {
	switch off {
	case 0x18:
		return uint16(c.d.Load32(0x34))
	case 0x1a:
		return 0
	case 0x1e:
		return uint16(c.d.Queues - 1 - int(c.d.sel[2]))
	}
	panic(bad("16-bit read", off))
}

func (c common) Store16(off uint64, v uint16) {
	switch off {
	case 0x10, 0x1a:
	case 0x16:
		c.d.Store32(0x30, uint32(v))
	case 0x18:
		c.d.Store32(0x38, uint32(v))
	case 0x1c:
		c.d.Store32(0x44, uint32(v))
	default:
		panic(bad("16-bit write", off))
	}
}

func (c common) Load32(off uint64) uint32 {
	if off != 4 {
		panic(bad("32-bit read", off))
	}
	return c.d.Load32(0x10)
}

func (c common) Store32(off uint64, v uint32) {
	mmio := map[uint64]uint64{0x00: 0x14, 0x08: 0x24, 0x0c: 0x20,
		0x20: 0x80, 0x24: 0x84, 0x28: 0x90, 0x2c: 0x94, 0x30: 0xa0, 0x34: 0xa4}
	to, ok := mmio[off]
	if !ok {
		panic(bad("32-bit write", off))
	}
	c.d.Store32(to, v)
}

// notify holds the notification registers.
type notify struct{ d *Device }

func (n notify) Len() uint64 { return uint64(n.d.Queues)*4 - 2 }

func (n notify) Store16(off uint64, v uint16) {
	if int(v) != n.d.Queues-1-int(off/4) || off%4 != 0 {
		panic(bad("wrong notification", off))
	}
	n.d.Store32(0x50, uint32(v))
}

func (notify) Load8(off uint64) uint8       { panic(bad("8-bit read", off)) }
func (notify) Load16(off uint64) uint16     { panic(bad("16-bit read", off)) }
func (notify) Load32(off uint64) uint32     { panic(bad("32-bit read", off)) }
func (notify) Store8(off uint64, _ uint8)   { panic(bad("8-bit write", off)) }
func (notify) Store32(off uint64, _ uint32) { panic(bad("32-bit write", off)) }

// space is the device-specific structure.
type space struct{ d *Device }

func (s space) Len() uint64                { return uint64(len(s.d.Space)) }
func (s space) Load8(off uint64) uint8     { return s.d.Load8(off + 0x100) }
func (s space) Load16(off uint64) uint16   { return s.d.Load16(off + 0x100) }
func (s space) Load32(off uint64) uint32   { return s.d.Load32(off + 0x100) }
func (s space) Store8(off uint64, _ uint8) { panic(bad("8-bit write", off)) }
func (s space) Store16(off uint64, _ uint16) {
	panic(bad("16-bit write", off))
}
func (s space) Store32(off uint64, _ uint32) { panic(bad("32-bit write", off)) }
