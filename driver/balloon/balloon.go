// Package balloon drives virtio memory balloon devices (virtio 1.2 §5.5): the host asks for memory back and returns it, and is
// told of blocks of 128 KiB and more that nobody uses (free page reporting), whose memory it may take until they are touched again.
//
// A goroutine of the device does all of it, and waits for the device; no lock is held meanwhile. Nothing is pending, no timer
// either, while memory is neither asked for nor freed in quantity.
package balloon

import (
	"errors"
	"sync/atomic"
	"time"

	"gosv/driver/virtio"
	"gosv/machine"
)

// Features (§5.5.3).
const (
	featureMustTell  = 1 << 0
	featureStats     = 1 << 1
	featureHint      = 1 << 3
	featureReporting = 1 << 5
)

// The configuration space (§5.5.4).
const (
	confPages  = 0 // that the host asks for
	confActual = 4 // that it has
	confLeast  = 8
)

const (
	// mostPFNs is how many frames a message to the host names: a page of 32-bit numbers.
	mostPFNs = machine.PageSize / 4
	// mostReported is how many blocks are out of use at a time while the host is told of them.
	mostReported = 32
	// reportAfter is how many frames must be freed before the host is told again, and reportDelay how long they rest before, so
	// that memory in steady use stays.
	reportAfter = 4096
	reportDelay = 2 * time.Second
)

var errConfig = errors.New("virtio balloon has a bad configuration space")

// Machine is what the driver needs of the machine.
type Machine interface {
	machine.Frames
	machine.FreeBlocks
}

// A Device is one balloon.
type Device struct {
	m                        Machine
	dev                      *virtio.Device
	inflate, deflate, report *virtio.Queue // report: nil without free page reporting
	page                     machine.Frame // for numbers of frames
	events                   chan struct{} // an interrupt, or memory was freed
	freed                    atomic.Bool   // memory was
	delay                    time.Duration
	ended                    chan struct{} // closed when the driver has given the device up

	// Of the goroutine.
	held []run // what the host has
	n    uint32
}

// run is contiguous frames.
type run struct {
	frame machine.Frame
	n     uint32
}

// New starts the device behind t.
func New(t virtio.Transport, m Machine) (*Device, error) { return start(t, m, reportDelay) }

func start(t virtio.Transport, m Machine, delay time.Duration) (*Device, error) {
	dev, err := virtio.New(t, m, featureMustTell|featureReporting)
	if err != nil {
		return nil, err
	}
	d := &Device{m: m, dev: dev, page: machine.NoFrame, events: make(chan struct{}, 1), delay: delay, ended: make(chan struct{})}
	if err := d.open(); err != nil {
		_ = dev.Close() // what it still holds stays lost; err says why
		if d.page != machine.NoFrame {
			m.Free(d.page, 1)
		}
		return nil, err
	}
	go d.serve()
	return d, nil
}

func (d *Device) open() (err error) {
	if c := d.dev.Config(); c == nil || c.Len() < confLeast {
		return errConfig
	}
	if err = d.dev.Interrupt(d.wake); err != nil {
		return err
	}
	if d.inflate, err = d.dev.Queue(0, 2, 0); err == nil {
		d.deflate, err = d.dev.Queue(1, 2, 0)
	}
	if err == nil && d.dev.Features&featureReporting != 0 {
		d.report, err = d.dev.Queue(d.reportQueue(), mostReported, 0)
	}
	if err == nil {
		d.page, err = d.m.Alloc()
	}
	if err != nil {
		return err
	}
	d.dev.Start()
	d.watch()
	return nil
}

// reportQueue is the number of the reporting queue: the queues of features that the device does not offer do not count (as in QEMU,
// Linux and others; §5.5.2 has them all).
func (d *Device) reportQueue() int {
	i := 2
	for _, f := range []uint64{featureStats, featureHint} {
		if d.dev.Offered()&f != 0 {
			i++
		}
	}
	return i
}

func (d *Device) wake() {
	select {
	case d.events <- struct{}{}:
	default:
	}
}

// watch asks to be woken when memory was freed.
func (d *Device) watch() {
	d.m.OnFreed(reportAfter, func() { d.freed.Store(true); d.wake() })
}

// serve follows what the host asks for.
func (d *Device) serve() {
	defer close(d.ended)
	for ; d.resize(); <-d.events {
		if !d.freed.Swap(false) {
			continue
		}
		if d.report != nil {
			time.Sleep(d.delay)
			if !d.tell() {
				return
			}
		}
		d.watch()
		d.wake() // the host may have asked for more than there was
	}
}

// resize gives and takes memory until the host has what it asks for, or no more can be had. It returns false when the device is broken.
func (d *Device) resize() bool {
	c := d.dev.Config()
	before := d.n
	for {
		target := c.Load32(confPages)
		var ok bool
		switch {
		case target > d.n:
			list := d.take(min(target-d.n, mostPFNs))
			if len(list) == 0 {
				d.actual(before)
				return true
			}
			if ok = d.send(d.inflate, list); ok {
				d.keep(list)
			}
		case target < d.n:
			list := d.drop(min(d.n-target, mostPFNs))
			if ok = d.send(d.deflate, list); ok {
				for _, r := range list {
					d.m.Free(r.frame, int(r.n))
				}
			}
		default:
			d.actual(before)
			return true
		}
		if !ok {
			return false // what the device was told of stays its own
		}
	}
}

// actual tells the host how much it has, if that is not what it was.
func (d *Device) actual(before uint32) {
	if d.n != before {
		d.dev.Config().Store32(confActual, d.n)
	}
}

// take allocates n frames, or fewer when there are no more.
func (d *Device) take(n uint32) (list []run) {
	for n > 0 {
		f, err := d.m.Alloc()
		if err != nil {
			break
		}
		list, n = add(list, run{f, 1}), n-1
	}
	return list
}

// add appends to a list, to its last run where that goes on.
func add(list []run, r run) []run {
	if last := len(list) - 1; last >= 0 {
		switch l := &list[last]; {
		case l.frame+machine.Frame(l.n) == r.frame:
			l.n += r.n
			return list
		case r.frame+machine.Frame(r.n) == l.frame:
			l.frame, l.n = r.frame, l.n+r.n
			return list
		}
	}
	return append(list, r)
}

func (d *Device) keep(list []run) {
	for _, r := range list {
		d.held = add(d.held, r)
		d.n += r.n
	}
}

// drop takes n frames from what the host has, the last first.
func (d *Device) drop(n uint32) (list []run) {
	d.n -= n
	for n > 0 {
		last := &d.held[len(d.held)-1]
		part := min(n, last.n)
		last.n -= part
		list = append(list, run{last.frame + machine.Frame(last.n), part})
		if n -= part; last.n == 0 {
			d.held = d.held[:len(d.held)-1]
		}
	}
	return list
}

// send names frames, mostPFNs at most, to the device and waits until it has taken note.
func (d *Device) send(q *virtio.Queue, list []run) bool {
	page, n := machine.MemoryOf(d.m.Bytes(d.page, 1)), uint64(0)
	for _, r := range list {
		for i := range r.n {
			page.Store32(4*n, uint32(r.frame)+i)
			n++
		}
	}
	return d.exchange(q, []virtio.Buffer{{Addr: uint64(d.page) * machine.PageSize, Len: uint32(4 * n)}}, nil)
}

// exchange waits for the answer to one message. It returns false when the device is broken.
func (d *Device) exchange(q *virtio.Queue, out, in []virtio.Buffer) bool {
	if _, ok := q.Add(out, in); !ok {
		return false
	}
	pending := q.Arm(1)
	q.Kick()
	for ; ; pending = q.Arm(1) {
		if _, _, ok := q.Take(); ok {
			d.wake() // an event that was taken here may have been another
			return true
		}
		if q.Broken() {
			return false
		}
		if !pending {
			<-d.events
		}
	}
}

// tell reports all blocks that are free to the host. It returns false when the device is broken.
func (d *Device) tell() bool {
	var list []virtio.Buffer
	most := min(mostReported, d.report.Size())
	for f := machine.Frame(0); f < d.m.Limit(); {
		n := d.m.TakeFree(f)
		if n == 0 {
			f += machine.BlockFrames
			continue
		}
		list = append(list, virtio.Buffer{Addr: uint64(f) * machine.PageSize, Len: uint32(n) * machine.PageSize})
		f += machine.Frame(n)
		if len(list) == most {
			if !d.give(list) {
				return false
			}
			list = list[:0]
		}
	}
	return len(list) == 0 || d.give(list)
}

// give reports blocks, and makes them free again.
func (d *Device) give(list []virtio.Buffer) bool {
	if !d.exchange(d.report, nil, list) {
		return false // the device may still drop them
	}
	for _, b := range list {
		d.m.Free(machine.Frame(b.Addr/machine.PageSize), int(b.Len/machine.PageSize))
	}
	return true
}
