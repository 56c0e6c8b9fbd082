// Package virtiofs drives virtio file system devices (virtio 1.2 §5.11): it
// carries FUSE messages to the server behind the device and back, and knows nothing of what they say.
//
// A device that breaks virtio's rules, asks to be reset, or does nothing for silence while requests are out is given up: it is reset, and
// all requests fail with ENOTCONN. (Only then is their memory used for something else.)
//
// Lock order: Device.mu is a leaf.
package virtiofs

import (
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gosv/driver/virtio"
	"gosv/machine"
)

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	Monotonic() int64
}

const (
	tagSize      = 36
	configQueues = tagSize // offset of num_request_queues

	queueForget = 0
	queueFirst  = 1

	// slots is how many requests can be under way.
	slots = 32
	// forgetSlots is how many messages without a reply can be.
	forgetSlots = 8
	// mostPages is the largest number of frames in a request: 1 MiB.
	mostPages = 256
	// spare are the segments of a request beside its data.
	spare = 2

	outSize = 2048 // of a slot's frame, for the request; the rest is for the reply
	inSize  = machine.PageSize - outSize
)

// Silence is how long a device with requests may do nothing before it is given up.
const Silence = 60 * time.Second

var errConfig = errors.New("virtio file system has a bad configuration space")

// slot is the memory of one message.
type slot struct {
	bytes []byte
	pa    uint64
	n     int // of the reply, negative when there will be none; valid after done
	done  chan struct{}
}

// A Device is one file system device.
type Device struct {
	m        Machine
	tag      string
	maxPages int
	// Silence may be set before use, for tests.
	Silence time.Duration

	free chan *slot
	dead chan struct{} // closed when the device is given up

	mu         sync.Mutex
	dev        *virtio.Device
	requests   *virtio.Queue
	inFlight   []*slot       // by chain
	room       chan struct{} // closed, and replaced, when a request is done and somebody waits for room
	full       bool          // somebody does
	forgets    *virtio.Queue
	forgetting []*slot // by chain
	forgetFree []*slot
	waiting    [][]byte // messages for which there was no slot
	progress   uint64   // requests done so far
	watched    bool     // a goroutine looks whether there is progress
	gone       bool
}

// New starts the device behind t.
func New(t virtio.Transport, m Machine) (*Device, error) {
	dev, err := virtio.New(t, m, virtio.FeatureIndirect)
	if err != nil {
		return nil, err
	}
	d := &Device{m: m, dev: dev, Silence: Silence, free: make(chan *slot, slots), dead: make(chan struct{}), room: make(chan struct{})}
	if err := d.start(); err != nil {
		_ = dev.Close() // what it still holds stays lost; err says why
		return nil, err
	}
	return d, nil
}

func (d *Device) start() (err error) {
	c := d.dev.Config()
	if c == nil || c.Len() < configQueues+4 || c.Load32(configQueues) == 0 {
		return errConfig
	}
	var tag [tagSize]byte
	for i := range tag {
		tag[i] = c.Load8(uint64(i))
	}
	d.tag, _, _ = strings.Cut(string(tag[:]), "\x00")
	if d.tag == "" {
		return errConfig
	}
	if err := d.dev.Interrupt(d.interrupt); err != nil {
		return err
	}
	if d.forgets, err = d.dev.Queue(queueForget, 2*forgetSlots, 0); err != nil {
		return err
	}
	size := uint16(min(d.dev.QueueMax(queueFirst), 512))
	d.maxPages = min(mostPages, int(size)-spare)
	if d.maxPages < 1 {
		return errConfig
	}
	if d.requests, err = d.dev.QueueFor(queueFirst, size, d.maxPages+spare, slots); err != nil {
		return err
	}
	d.inFlight, d.forgetting = make([]*slot, d.requests.Size()), make([]*slot, d.forgets.Size())
	for range slots {
		s, err := d.newSlot()
		if err != nil {
			return err
		}
		d.free <- s
	}
	for range min(forgetSlots, d.forgets.Size()) {
		s, err := d.newSlot()
		if err != nil {
			return err
		}
		d.forgetFree = append(d.forgetFree, s)
	}
	d.requests.Arm(1)
	d.forgets.Arm(1)
	d.dev.Start()
	return nil
}

func (d *Device) newSlot() (*slot, error) {
	f, err := d.m.Alloc()
	if err != nil {
		return nil, err
	}
	return &slot{bytes: d.m.Bytes(f, 1), pa: uint64(f) * machine.PageSize, done: make(chan struct{}, 1)}, nil
}

// Tag is the name of the file system.
func (d *Device) Tag() string { return d.tag }

// MaxPages is the largest number of frames that a Call takes.
func (d *Device) MaxPages() int { return d.maxPages }

// Call sends the request out, at most 2048 bytes, waits for its reply, stores that in in, at most 2048, as far as it goes, and
// returns the reply's length. n bytes of data, from off on in frames (below a page), lie behind out when give, and
// otherwise take what comes behind in. ENOTCONN when the server is gone; EINVAL.
func (d *Device) Call(out, in []byte, frames []machine.Frame, off, n int, give bool) (int, error) {
	if len(out) > outSize || len(in) > inSize || len(frames) > d.maxPages || off+n > len(frames)*machine.PageSize || len(out) == 0 {
		return 0, unix.EINVAL
	}
	s := d.slot()
	if s == nil {
		return 0, unix.ENOTCONN
	}
	copy(s.bytes, out)
	// The device reads the first part and writes the second.
	var few [8]virtio.Buffer
	list := few[:0]
	if most := len(frames) + spare; most > len(few) {
		list = make([]virtio.Buffer, 0, most)
	}
	buffers := append(list, virtio.Buffer{Addr: s.pa, Len: uint32(len(out))})
	if give {
		buffers = extents(buffers, frames, off, n)
	}
	reads := len(buffers)
	buffers = append(buffers, virtio.Buffer{Addr: s.pa + outSize, Len: uint32(len(in))})
	if !give {
		buffers = extents(buffers, frames, off, n)
	}
	if err := d.send(s, buffers[:reads], buffers[reads:]); err != nil {
		return 0, err
	}
	if <-s.done; s.n < 0 {
		return 0, unix.ENOTCONN
	}
	copy(in, s.bytes[outSize:][:min(s.n, len(in))])
	n = s.n
	d.free <- s
	return n, nil
}

// slot takes a free slot, which it waits for: nil when the device was given up.
func (d *Device) slot() *slot {
	select {
	case s := <-d.free:
		return s
	default:
	}
	select {
	case s := <-d.free:
		return s
	case <-d.dead:
		return nil
	}
}

// extents appends n bytes in frames, from off on, in as few pieces as there can be.
func extents(list []virtio.Buffer, frames []machine.Frame, off, n int) []virtio.Buffer {
	first := len(list)
	for _, f := range frames {
		if n <= 0 {
			break
		}
		addr, length := uint64(f)*machine.PageSize+uint64(off), min(n, machine.PageSize-off)
		if last := len(list) - 1; last >= first && list[last].Addr+uint64(list[last].Len) == addr {
			list[last].Len += uint32(length)
		} else {
			list = append(list, virtio.Buffer{Addr: addr, Len: uint32(length)})
		}
		n, off = n-length, 0
	}
	return list
}

// send gives a request to the device when there is room: ENOTCONN.
func (d *Device) send(s *slot, out, in []virtio.Buffer) error {
	for {
		d.mu.Lock()
		if d.gone {
			d.mu.Unlock()
			return unix.ENOTCONN
		}
		if id, ok := d.requests.Add(out, in); ok {
			d.inFlight[id] = s
			d.requests.Kick()
			if !d.watched {
				d.watched = true
				go d.watch()
			}
			d.mu.Unlock()
			return nil
		}
		d.full = true
		room, idle := d.room, d.requests.InFlight() == 0
		d.mu.Unlock()
		if idle {
			d.giveUp() // a queue that is broken
			return unix.ENOTCONN
		}
		select {
		case <-room:
		case <-d.dead:
		}
	}
}

// interrupt takes back what the device is done with.
func (d *Device) interrupt() {
	d.mu.Lock()
	broken := d.gone || d.take()
	gone := d.gone
	d.mu.Unlock()
	if broken && !gone {
		d.giveUp()
	}
}

// take takes back what the device is done with; it reports whether the device broke the rules. d.mu is held.
//
// +checklocks:d.mu
func (d *Device) take() (broken bool) {
	for {
		for {
			id, n, ok := d.requests.Take()
			if !ok {
				break
			}
			s := d.inFlight[id]
			d.inFlight[id] = nil
			s.n = int(n)
			s.done <- struct{}{}
			d.progress++
			if d.full {
				close(d.room)
				d.room, d.full = make(chan struct{}), false
			}
		}
		if !d.requests.Arm(1) {
			break
		}
	}
	for {
		for {
			id, _, ok := d.forgets.Take()
			if !ok {
				break
			}
			d.forgetFree = append(d.forgetFree, d.forgetting[id])
			d.forgetting[id] = nil
		}
		d.sendForgets()
		if !d.forgets.Arm(1) {
			break
		}
	}
	return d.requests.Broken() || d.forgets.Broken()
}

// Forget sends a message, at most 2048 bytes, that has no reply, now or later.
func (d *Device) Forget(out []byte) {
	if len(out) > outSize {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return
	}
	d.waiting = append(d.waiting, out)
	d.sendForgets()
}

// sendForgets sends what waits as far as there are slots. d.mu is held.
//
// +checklocks:d.mu
func (d *Device) sendForgets() {
	for len(d.waiting) > 0 && len(d.forgetFree) > 0 {
		s := d.forgetFree[len(d.forgetFree)-1]
		n := copy(s.bytes, d.waiting[0])
		id, ok := d.forgets.Add([]virtio.Buffer{{Addr: s.pa, Len: uint32(n)}}, nil)
		if !ok {
			break
		}
		d.forgetFree = d.forgetFree[:len(d.forgetFree)-1]
		d.forgetting[id] = s
		d.waiting = d.waiting[1:]
	}
	d.forgets.Kick()
}

// looks is how often watch looks within Silence.
const looks = 12

// watch gives the device up when it asks for that or does nothing. It ends when there is nothing to wait for.
func (d *Device) watch() {
	seen, since := uint64(0), 0
	for {
		time.Sleep(d.Silence / looks)
		d.mu.Lock()
		switch {
		case d.gone || d.requests.InFlight() == 0 && d.requests.Pending() == 0:
			d.watched = false
			d.mu.Unlock()
			return
		case d.progress != seen:
			seen, since = d.progress, 0
		default:
			since++
		}
		hopeless := since > looks || d.dev.NeedsReset()
		d.mu.Unlock()
		if hopeless {
			d.giveUp()
			return
		}
	}
}

// Close gives the device up.
func (d *Device) Close() { d.giveUp() }

// giveUp resets the device and fails all requests. The memory of slots stays lost: it is little, and the device that was given
// up may be one that does not obey.
func (d *Device) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return
	}
	d.gone = true
	_ = d.dev.Close() // a device that does not reset keeps its rings
	close(d.dead)
	for id, s := range d.inFlight {
		if s != nil {
			d.inFlight[id], s.n = nil, -1
			s.done <- struct{}{}
		}
	}
}
