package virtio

import (
	"errors"
	"gosv/machine"
)

// Registers of the MMIO transport (§4.2.2).
const (
	mmioMagic          = 0x000
	mmioVersion        = 0x004
	mmioDeviceID       = 0x008
	mmioFeatures       = 0x010
	mmioFeaturesSel    = 0x014
	mmioAccept         = 0x020
	mmioAcceptSel      = 0x024
	mmioQueueSel       = 0x030
	mmioQueueMax       = 0x034
	mmioQueueNum       = 0x038
	mmioQueueReady     = 0x044
	mmioQueueNotify    = 0x050
	mmioInterruptAck   = 0x064
	mmioStatus         = 0x070
	mmioQueueDesc      = 0x080
	mmioQueueDriver    = 0x090
	mmioQueueDevice    = 0x0a0
	mmioConfig         = 0x100
	mmioMinimum        = mmioConfig
	mmioMagicValue     = 0x74726976 // "virt"
	mmioModern         = 2
	mmioAllInterrupts  = 3
	mmioLegacyAdvice   = "; with QEMU use -global virtio-mmio.force-legacy=false"
	mmioDefaultSize    = 0x200
	mmioMaximumSize    = 0x10000
	mmioMaximumAddress = 1 << 52
)

// ErrNoDevice says that there is no virtio device, or an empty slot for one.
var ErrNoDevice = errors.New("no virtio device there")

// MMIO is the MMIO transport of one device.
type MMIO struct {
	regs Registers
	pa   uint64
	gsi  uint32
	irqs machine.Interrupts

	selected int // queue that is selected, plus 1; 0 none
}

// OpenMMIO looks for a device with size bytes of registers at physical address pa and
// interrupt gsi. ErrNoDevice when there is none.
func OpenMMIO(bus machine.Bus, irqs machine.Interrupts, pa, size uint64, gsi uint32) (*MMIO, error) {
	if size == 0 {
		size = mmioDefaultSize
	}
	if size < mmioMinimum || pa >= mmioMaximumAddress || pa%4 != 0 {
		return nil, &DeviceError{mmioName(pa), errBadAddress}
	}
	regs, err := bus.Registers(pa, min(size, mmioMaximumSize))
	if err != nil {
		return nil, &DeviceError{mmioName(pa), err}
	}
	return NewMMIO(regs, irqs, pa, gsi)
}

// NewMMIO is OpenMMIO for registers that are mapped already.
func NewMMIO(regs Registers, irqs machine.Interrupts, pa uint64, gsi uint32) (*MMIO, error) {
	if regs.Load32(mmioMagic) != mmioMagicValue || regs.Load32(mmioDeviceID) == 0 {
		return nil, ErrNoDevice
	}
	if regs.Load32(mmioVersion) != mmioModern {
		return nil, &DeviceError{mmioName(pa), errors.New(errLegacy.Error() + mmioLegacyAdvice)}
	}
	return &MMIO{regs: regs, pa: pa, gsi: gsi, irqs: irqs}, nil
}

func mmioName(pa uint64) string { return "virtio-mmio@" + hex(pa) }

// Type implements Transport.
func (t *MMIO) Type() uint32 { return t.regs.Load32(mmioDeviceID) }

// Name implements Transport.
func (t *MMIO) Name() string { return mmioName(t.pa) }

// Status implements Transport.
func (t *MMIO) Status() uint8 { return uint8(t.regs.Load32(mmioStatus)) }

// SetStatus implements Transport.
func (t *MMIO) SetStatus(s uint8) {
	t.regs.Store32(mmioStatus, uint32(s))
	t.selected = 0
}

// Offered implements Transport.
func (t *MMIO) Offered() uint64 {
	t.regs.Store32(mmioFeaturesSel, 0)
	low := t.regs.Load32(mmioFeatures)
	t.regs.Store32(mmioFeaturesSel, 1)
	return uint64(low) | uint64(t.regs.Load32(mmioFeatures))<<32
}

// Accept implements Transport.
func (t *MMIO) Accept(features uint64) {
	t.regs.Store32(mmioAcceptSel, 0)
	t.regs.Store32(mmioAccept, uint32(features))
	t.regs.Store32(mmioAcceptSel, 1)
	t.regs.Store32(mmioAccept, uint32(features>>32))
}

// QueueMax implements Transport.
func (t *MMIO) QueueMax(i int) int {
	t.selectQueue(i)
	return int(min(t.regs.Load32(mmioQueueMax), 1<<15))
}

// selectQueue says which queue the queue registers are about. Each access costs, so
// it is not said twice.
func (t *MMIO) selectQueue(i int) {
	if t.selected != i+1 {
		t.regs.Store32(mmioQueueSel, uint32(i))
		t.selected = i + 1
	}
}

// SetQueue implements Transport.
func (t *MMIO) SetQueue(i int, size uint16, desc, avail, used uint64) error {
	t.selectQueue(i)
	t.regs.Store32(mmioQueueNum, uint32(size))
	for _, r := range [...]struct{ at, v uint64 }{
		{mmioQueueDesc, desc}, {mmioQueueDriver, avail}, {mmioQueueDevice, used},
	} {
		t.regs.Store32(r.at, uint32(r.v))
		t.regs.Store32(r.at+4, uint32(r.v>>32))
	}
	t.regs.Store32(mmioQueueReady, 1)
	return nil
}

// Notify implements Transport.
func (t *MMIO) Notify(i int) { t.regs.Store32(mmioQueueNotify, uint32(i)) }

// Interrupt implements Transport. The line is taken as edge-triggered: it is
// acknowledged at the device before handler looks at the rings, so that whatever
// comes later makes a new edge. The status is not read first, since every access costs.
func (t *MMIO) Interrupt(handler func()) error {
	v, err := t.irqs.Vector(typeName(t.Type()), func() {
		t.regs.Store32(mmioInterruptAck, mmioAllInterrupts)
		handler()
	})
	if err != nil {
		return err
	}
	return t.irqs.Route(t.gsi, v, false, false)
}

// Config implements Transport.
func (t *MMIO) Config() Registers {
	if t.regs.Len() <= mmioConfig {
		return nil
	}
	return window{t.regs, mmioConfig}
}

// window is the part of some registers from an offset on.
type window struct {
	regs Registers
	off  uint64
}

func (w window) Len() uint64                  { return w.regs.Len() - w.off }
func (w window) Load8(off uint64) uint8       { return w.regs.Load8(w.off + off) }
func (w window) Load16(off uint64) uint16     { return w.regs.Load16(w.off + off) }
func (w window) Load32(off uint64) uint32     { return w.regs.Load32(w.off + off) }
func (w window) Store8(off uint64, v uint8)   { w.regs.Store8(w.off+off, v) }
func (w window) Store16(off uint64, v uint16) { w.regs.Store16(w.off+off, v) }
func (w window) Store32(off uint64, v uint32) { w.regs.Store32(w.off+off, v) }
