// Package pmem drives virtio persistent memory (virtio 1.2 §5.19): a file of the host's that is memory of the machine, above its own.
//
// It is a disk (block.Device) whose reads and writes are copies. What does not change, as the pages of an EROFS, can be used where it
// lies (block.InMemory). Writes are durable after a flush, which is a request to the device.
//
// The memory may change under a reader, since the host has it too; those who use it check a copy. The device says where it
// is, and machine.Bus.DeviceMemory whether that can be. A device that breaks the rules of its queue is reset, and then all flushes fail with
// EIO.
//
// Lock order: Device.flushing, held while one flush is under way, alone.
package pmem

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/kernel/block"
	"gosv/machine"
)

// The configuration space (§5.19.4).
const (
	confStart = 0
	confSize  = 8
	confEnd   = 16
)

// A request to flush and its answer (§5.19.6); their places in the device's page.
const (
	typeFlush = 0
	answerOK  = 0

	requestAt = 0
	answerAt  = 64
	wordSize  = 4
)

// maxZeroes is how much one request may clear, in bytes.
const maxZeroes = 1 << 30

var (
	errConfig = errors.New("virtio pmem device has a bad configuration space")
	errSmall  = errors.New("virtio pmem device has no page of memory")
)

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	machine.Bus
}

// A Device is a piece of persistent memory. It implements block.InMemory.
type Device struct {
	m      Machine
	dev    *virtio.Device
	first  machine.Frame
	limits block.Limits

	frame  machine.Frame // holds the request and the answer
	parker machine.Parker

	flushing sync.Mutex    // guards what follows
	queue    *virtio.Queue // +checklocks:flushing
	dead     bool          // +checklocks:flushing
}

// New starts the device behind t.
func New(t virtio.Transport, m Machine) (*Device, error) {
	dev, err := virtio.New(t, m, 0)
	if err != nil {
		return nil, err
	}
	d := &Device{m: m, dev: dev}
	if err := d.start(); err != nil {
		if dev.Close() == nil && d.frame != machine.NoFrame { // else what the device may still write to stays lost
			m.Free(d.frame, 1)
		}
		return nil, &virtio.DeviceError{Device: t.Name(), Err: err}
	}
	return d, nil
}

func (d *Device) start() error {
	pa, size, err := d.readConfig()
	if err != nil {
		return err
	}
	if d.first, err = d.m.DeviceMemory(pa, size); err != nil {
		return err
	}
	d.limits = block.Limits{Size: int64(size), BlockSize: block.SectorSize, PhysicalSize: machine.PageSize, MaxZeroes: maxZeroes,
		Cached: true, Queues: 1}
	if err := d.dev.Interrupt(d.parker.Wake); err != nil {
		return err
	}
	d.flushing.Lock()
	defer d.flushing.Unlock()
	if d.queue, err = d.dev.Queue(0, 2, 0); err != nil {
		return err
	}
	if d.frame, err = d.m.Alloc(); err != nil {
		return err
	}
	d.dev.Start()
	return nil
}

// readConfig returns where the memory is, and the length of its whole pages.
func (d *Device) readConfig() (pa, size uint64, err error) {
	c := d.dev.Config()
	if c == nil || c.Len() < confEnd {
		return 0, 0, errConfig
	}
	word := func(off uint64) uint64 { return uint64(c.Load32(off)) | uint64(c.Load32(off+4))<<32 }
	pa, size = word(confStart), word(confSize)
	if pa%machine.PageSize != 0 || size > 1<<52 {
		return 0, 0, errConfig
	}
	if size &^= machine.PageSize - 1; size == 0 {
		return 0, 0, errSmall
	}
	return pa, size, nil
}

// Limits implements block.Device.
func (d *Device) Limits() block.Limits { return d.limits }

// First implements block.InMemory.
func (d *Device) First() machine.Frame { return d.first }

// Do implements block.Device.
func (d *Device) Do(r *block.Request) error {
	switch r.Op {
	case block.Read, block.Write:
		off := r.Off
		for _, s := range r.Data {
			if memory := d.bytes(off, int64(len(s.Bytes))); r.Op == block.Read {
				copy(s.Bytes, memory)
			} else {
				copy(memory, s.Bytes)
			}
			off += int64(len(s.Bytes))
		}
		if r.Op == block.Write && r.Durable {
			return d.flush()
		}
		return nil
	case block.WriteZeroes:
		clear(d.bytes(r.Off, r.Len))
		return nil
	case block.Flush:
		return d.flush()
	}
	return unix.EOPNOTSUPP
}

// bytes is the memory of a range.
func (d *Device) bytes(off, n int64) []byte {
	in := off % machine.PageSize
	pages := (in + n + machine.PageSize - 1) / machine.PageSize
	return d.m.Bytes(d.first+machine.Frame(off/machine.PageSize), int(pages))[in:][:n]
}

// flush has the host make durable what was written: EIO.
func (d *Device) flush() error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	if d.dead {
		return unix.EIO
	}
	page := machine.MemoryOf(d.m.Bytes(d.frame, 1))
	page.Store32(requestAt, typeFlush)
	page.Store32(answerAt, ^uint32(0))
	at := uint64(d.frame) * machine.PageSize
	out, in := [1]virtio.Buffer{{Addr: at + requestAt, Len: wordSize}}, [1]virtio.Buffer{{Addr: at + answerAt, Len: wordSize}}
	if _, ok := d.queue.Add(out[:], in[:]); !ok {
		return d.fail()
	}
	d.queue.Kick()
	for !d.queue.Arm(1) {
		if d.queue.Broken() {
			return d.fail()
		}
		d.parker.Park()
	}
	if _, _, ok := d.queue.Take(); !ok {
		return d.fail()
	}
	if page.Load32(answerAt) != answerOK {
		return unix.EIO
	}
	return nil
}

// fail gives the device up, which touches the queue no more: EIO.
//
// +checklocks:d.flushing
func (d *Device) fail() error {
	d.dead = true
	d.dev.SetStatus(0)
	return unix.EIO
}
