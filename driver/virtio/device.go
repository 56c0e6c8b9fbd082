// Package virtio drives the common part of virtio devices: transports (MMIO and
// PCI), feature negotiation and split virtqueues, after the OASIS
// specification "Virtual I/O Device (VIRTIO) Version 1.2". Device types have
// packages of their own.
//
// The device is not trusted: whatever it writes into shared memory or shows in
// its registers is checked before use. A device that breaks the rules makes its
// queue Broken, which drivers turn into EIO; it can never make the kernel
// panic, loop or touch memory that is not the device's.
//
// Nothing here locks: a driver serialises the calls on one Queue, and those that
// set up one Device.
package virtio

import (
	"errors"
	"gosv/machine"
	"strconv"
)

// Device types (§5).
const (
	TypeNet     = 1
	TypeBlock   = 2
	TypeConsole = 3
	TypeEntropy = 4
	TypeBalloon = 5
	TypeVsock   = 19
	TypeFS      = 26
	TypePmem    = 27
)

// typeName is what a person calls a device of that type.
func typeName(typ uint32) string {
	names := [...]string{TypeNet: "virtio-net", TypeBlock: "virtio-blk", TypeConsole: "virtio-console", TypeEntropy: "virtio-rng",
		TypeBalloon: "virtio-balloon", TypeVsock: "virtio-vsock", TypeFS: "virtio-fs", TypePmem: "virtio-pmem"}
	if typ < uint32(len(names)) && names[typ] != "" {
		return names[typ]
	}
	return "virtio"
}

// Feature bits that belong to no device type (§6). New asks for all but the
// indirect one by itself.
const (
	FeatureIndirect = 1 << 28
	FeatureEventIdx = 1 << 29
	featureVersion1 = 1 << 32
)

// Bits of the device status field (§2.1).
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 64
	statusFailed      = 128
)

// Registers are a device's registers: machine.Memory in the kernel, a model in tests.
type Registers interface {
	Len() uint64
	Load8(off uint64) uint8
	Load16(off uint64) uint16
	Load32(off uint64) uint32
	Store8(off uint64, v uint8)
	Store16(off uint64, v uint16)
	Store32(off uint64, v uint32)
}

// A Transport is the way to one device (§4).
type Transport interface {
	// Type is the device type.
	Type() uint32
	// Name tells a person which device this is, as "virtio-mmio@0xfeb00000".
	Name() string

	Status() uint8
	SetStatus(uint8)
	// Offered are the features that the device has; Accept tells it the
	// subset that the driver uses.
	Offered() uint64
	Accept(features uint64)

	// QueueMax is the largest size that queue i can have; 0 when there is no such queue.
	QueueMax(i int) int
	// SetQueue gives queue i its size and the physical addresses of its parts and enables it.
	SetQueue(i int, size uint16, desc, avail, used uint64) error
	// Notify tells the device that queue i has new available buffers.
	Notify(i int)
	// Interrupt connects handler to the interrupts of all queues. It is called
	// once, before queues are set; the handler runs as machine.Interrupts.Vector says.
	Interrupt(handler func()) error
	// Config is the device-specific configuration space; nil when there is none.
	Config() Registers
}

// Errors of New and Queue.
var (
	errNoReset    = errors.New("device does not reset")
	errLegacy     = errors.New("device knows only legacy virtio")
	errFeatures   = errors.New("device refuses the features that it offered")
	errQueueSize  = errors.New("no such queue, or its size is bad")
	errBadAddress = errors.New("device is at an impossible address")
)

// A DeviceError says what is wrong with a device.
type DeviceError struct {
	Device string
	Err    error
}

func (e *DeviceError) Error() string { return e.Device + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *DeviceError) Unwrap() error { return e.Err }

// A Device is a device that is being driven.
type Device struct {
	Transport
	// Features are those that were negotiated.
	Features uint64

	frames machine.Frames
	runs   []run // memory of the rings
	left   machine.Memory
	leftPA uint64
}

type run struct {
	frame machine.Frame
	n     int
}

// resetPolls bounds the reads of the status register while a device resets. A
// correct one needs one or two.
const resetPolls = 10000

// New resets the device and negotiates the features in want that it
// offers, event indices and, required, VERSION_1 (§3.1.1, up to step 6).
func New(t Transport, frames machine.Frames, want uint64) (*Device, error) {
	d := &Device{Transport: t, frames: frames}
	if err := d.negotiate(want | FeatureEventIdx | featureVersion1); err != nil {
		t.SetStatus(statusFailed)
		return nil, d.wrap(err)
	}
	return d, nil
}

func (d *Device) wrap(err error) error { return &DeviceError{d.Name(), err} }

func (d *Device) negotiate(want uint64) error {
	if err := d.reset(); err != nil {
		return err
	}
	d.SetStatus(statusAcknowledge | statusDriver)
	d.Features = d.Offered() & want
	if d.Features&featureVersion1 == 0 {
		return errLegacy
	}
	d.Accept(d.Features)
	d.SetStatus(statusAcknowledge | statusDriver | statusFeaturesOK)
	if d.Status()&statusFeaturesOK == 0 {
		return errFeatures
	}
	return nil
}

func (d *Device) reset() error {
	d.SetStatus(0)
	for range resetPolls {
		if d.Status() == 0 {
			return nil
		}
	}
	return errNoReset
}

// Start tells the device that its queues are set and it may use them (DRIVER_OK).
func (d *Device) Start() {
	d.SetStatus(statusAcknowledge | statusDriver | statusFeaturesOK | statusDriverOK)
}

// Close resets the device and, when it obeys, frees the memory of its rings. (A device that
// does not may still write there.) Its queues must not be used any more.
func (d *Device) Close() error {
	if err := d.reset(); err != nil {
		return d.wrap(err)
	}
	for _, r := range d.runs {
		d.frames.Free(r.frame, r.n)
	}
	d.runs, d.left = nil, machine.Memory{}
	return nil
}

// NeedsReset reports whether the device has given up (DEVICE_NEEDS_RESET).
func (d *Device) NeedsReset() bool { return d.Status()&statusNeedsReset != 0 }

// alloc returns n bytes of zeroed memory at a multiple of 64 bytes and their
// physical address. Small pieces share frames.
func (d *Device) alloc(n uint64) (machine.Memory, uint64, error) {
	n = (n + 63) &^ 63
	if d.left.Len() < n {
		frames := int((n + machine.PageSize - 1) / machine.PageSize)
		f, err := d.frames.AllocRun(frames)
		if err != nil {
			return machine.Memory{}, 0, err
		}
		d.runs = append(d.runs, run{f, frames})
		d.left = machine.MemoryOf(d.frames.Bytes(f, frames))
		d.leftPA = uint64(f) * machine.PageSize
	}
	m, pa := d.left.Slice(0, n), d.leftPA
	d.left, d.leftPA = d.left.Slice(n, d.left.Len()-n), pa+n
	return m, pa, nil
}

// hex formats an address.
func hex(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }
