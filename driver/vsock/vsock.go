// Package vsock drives virtio socket devices (OASIS virtio 1.2 §5.10): it moves packets
// between the queues and whoever speaks the protocol, and knows of a packet only how long it is.
//
// The device is not trusted. What it claims to have written is bounded by the buffer, and a packet
// whose header promises another length than came is dropped. A device that breaks the rules makes its queue
// broken, after which nothing is received and Send says EIO.
//
// Locks: txMu guards the send queue; the receive and event queues belong to one goroutine each.
package vsock

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/machine"
)

const (
	rxQueue    = 0
	txQueue    = 1
	eventQueue = 2

	ringSize   = 128
	rxBuffers  = 64
	events     = 4
	configSize = 8 // guest_cid

	headerSize = 44 // struct virtio_vsock_hdr (§5.10.6)
	lengthAt   = 24 // of len in it
	eventSize  = 4  // struct virtio_vsock_event
	maxPayload = 64 << 10
	maxFrames  = maxPayload/machine.PageSize + 1
)

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	Monotonic() int64
}

// Device is a virtio socket device.
type Device struct {
	m   Machine
	dev *virtio.Device
	cid atomic.Uint64

	rx     *virtio.Queue
	frames [ringSize]machine.Frame // buffers of rx, by chain
	ev     *virtio.Queue
	page   machine.Frame   // where events are put
	owned  []machine.Frame // what the device may write to, until Close

	txMu  sync.Mutex
	tx    *virtio.Queue             // +checklocks:txMu
	chain [ringSize][]machine.Frame // +checklocks:txMu

	wake    machine.Parker // of the receiving goroutine
	room    chan struct{}  // holds an element when the device may have sent something
	closing atomic.Bool
	done    chan struct{}
}

// New takes over the device behind t. Nothing is received before Start.
func New(t virtio.Transport, m Machine) (*Device, error) {
	dev, err := virtio.New(t, m, 0)
	if err != nil {
		return nil, err
	}
	d := &Device{m: m, dev: dev, room: make(chan struct{}, 1), done: make(chan struct{})}
	if err := d.setUp(t); err != nil {
		// A device that cannot be closed is not told to use its queues either.
		_ = dev.Close()
		return nil, err
	}
	return d, nil
}

func (d *Device) setUp(t virtio.Transport) error {
	if err := t.Interrupt(d.interrupt); err != nil {
		return &virtio.DeviceError{Device: t.Name(), Err: err}
	}
	d.readCID()
	d.txMu.Lock()
	defer d.txMu.Unlock()
	var err error
	if d.rx, err = d.dev.Queue(rxQueue, ringSize, 1); err != nil {
		return err
	}
	if d.tx, err = d.dev.Queue(txQueue, ringSize, 1); err != nil {
		return err
	}
	d.ev, err = d.dev.Queue(eventQueue, events, 1)
	return err
}

// readCID reads guest_cid, of which 32 bits count (§5.10.4).
func (d *Device) readCID() {
	if c := d.dev.Config(); c != nil && c.Len() >= configSize {
		d.cid.Store(uint64(c.Load32(0)))
	}
}

// CID is the machine's number.
func (d *Device) CID() uint64 { return d.cid.Load() }

func (d *Device) interrupt() {
	d.wake.Wake()
	select {
	case d.room <- struct{}{}:
	default:
	}
}

// Start begins to receive: the parts of a packet are valid during the call only, one call at a time. reset is called when
// the host says that all connections are lost (§5.10.6.7). ENOMEM.
func (d *Device) Start(receive func(header, payload []byte), reset func()) error {
	for range min(rxBuffers, d.rx.Size()/2) {
		f, err := d.m.Alloc()
		if err != nil {
			break
		}
		d.owned = append(d.owned, f)
		d.post(f)
	}
	page, err := d.m.Alloc()
	if err != nil || d.rx.InFlight() == 0 {
		d.free(d.owned)
		return unix.ENOMEM
	}
	d.page, d.owned = page, append(d.owned, page)
	for i := range uint64(min(events, d.ev.Size())) {
		d.ev.Add(nil, []virtio.Buffer{{Addr: uint64(page)*machine.PageSize + i*eventSize, Len: eventSize}})
	}
	d.dev.Start()
	d.rx.Kick()
	d.ev.Kick()
	go d.run(receive, reset)
	return nil
}

// post gives the device a buffer to receive into: a header, and payload up to the page's end, as two descriptors,
// since some devices expect them so.
func (d *Device) post(f machine.Frame) {
	at := uint64(f) * machine.PageSize
	b := [2]virtio.Buffer{{Addr: at, Len: headerSize}, {Addr: at + headerSize, Len: machine.PageSize - headerSize}}
	if id, ok := d.rx.Add(nil, b[:]); ok {
		d.frames[id] = f
	}
}

// run hands on what comes in until the device breaks the rules.
func (d *Device) run(receive func(header, payload []byte), reset func()) {
	defer close(d.done)
	for !d.closing.Load() {
		n := 0
		for ; !d.closing.Load(); n++ {
			id, written, ok := d.rx.Take()
			if !ok {
				break
			}
			f := d.frames[id]
			deliver(d.m.Bytes(f, 1)[:written], receive)
			d.post(f)
		}
		d.rx.Kick()
		lost := d.event()
		if lost {
			d.readCID()
			reset()
		}
		if d.rx.Broken() || d.ev.Broken() {
			reset()
			return
		}
		if n == 0 && !lost && !d.rx.Arm(1) && !d.ev.Arm(1) {
			d.wake.Park()
		}
	}
}

// deliver hands on a packet whose header says as many bytes as there are.
func deliver(b []byte, receive func(header, payload []byte)) {
	if len(b) < headerSize {
		return
	}
	if n := binary.LittleEndian.Uint32(b[lengthAt:]); uint64(n) == uint64(len(b)-headerSize) {
		receive(b[:headerSize:headerSize], b[headerSize:])
	}
}

// event reports whether the host has told of an event: there is one kind, that of lost connections.
func (d *Device) event() (lost bool) {
	for {
		id, n, ok := d.ev.Take()
		if !ok {
			d.ev.Kick()
			return lost
		}
		lost = lost || n == eventSize
		d.ev.Add(nil, []virtio.Buffer{{Addr: uint64(d.page)*machine.PageSize + uint64(id)*eventSize, Len: eventSize}})
	}
}

// Send hands over a packet, of which it keeps nothing, and waits for room: EIO when the device is broken, ENOMEM, EMSGSIZE.
func (d *Device) Send(header, payload []byte) error {
	if len(header) != headerSize || len(payload) > maxPayload {
		return unix.EMSGSIZE
	}
	d.txMu.Lock()
	defer d.txMu.Unlock()
	count := 1 + (len(payload)+machine.PageSize-1)/machine.PageSize
	if err := d.awaitRoom(count); err != nil {
		return err
	}
	frames := make([]machine.Frame, 0, count)
	var buffers [maxFrames]virtio.Buffer
	for rest, part := payload, header; ; {
		f, err := d.m.Alloc()
		if err != nil {
			d.free(frames)
			return unix.ENOMEM
		}
		copy(d.m.Bytes(f, 1), part)
		buffers[len(frames)] = virtio.Buffer{Addr: uint64(f) * machine.PageSize, Len: uint32(len(part))}
		frames = append(frames, f)
		if len(rest) == 0 {
			break
		}
		n := min(len(rest), machine.PageSize)
		part, rest = rest[:n], rest[n:]
	}
	id, ok := d.tx.Add(buffers[:len(frames)], nil)
	if !ok {
		d.free(frames)
		return unix.EIO
	}
	d.chain[id] = frames
	d.tx.Kick()
	return nil
}

// awaitRoom waits until the send queue has room for n descriptors; txMu is let go meanwhile.
//
// +checklocks:d.txMu
func (d *Device) awaitRoom(n int) error {
	for {
		for {
			id, _, ok := d.tx.Take()
			if !ok {
				break
			}
			d.free(d.chain[id])
			d.chain[id] = nil
		}
		switch {
		case d.tx.Broken() || d.closing.Load():
			return unix.EIO
		case d.tx.Free() >= n:
			d.tx.Disarm()
			return nil
		case d.tx.Arm(1):
			continue
		}
		d.txMu.Unlock()
		<-d.room
		d.txMu.Lock()
	}
}

func (d *Device) free(frames []machine.Frame) {
	for _, f := range frames {
		d.m.Free(f, 1)
	}
}

// Close resets the device: nothing is received after it. Start was called before.
func (d *Device) Close() error {
	d.closing.Store(true)
	d.interrupt()
	<-d.done
	if err := d.dev.Close(); err != nil {
		return err // it may still write: the frames are lost
	}
	d.txMu.Lock()
	defer d.txMu.Unlock()
	d.free(d.owned)
	for _, frames := range d.chain {
		d.free(frames)
	}
	return nil
}
