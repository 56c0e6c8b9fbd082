// Package virtiotest plays the other side of virtio: devices on a fake machine, for the tests of drivers. It
// follows QEMU's devices where the specification leaves a choice, and panics when the driver
// breaks a rule.
package virtiotest

import (
	"fmt"
	"gosv/machine"
	"gosv/machine/fake"
	"sync"
)

// Device is a virtio device. It implements virtio.Registers as the MMIO transport's.
// Its fields are set before the driver starts.
type Device struct {
	Machine  *fake.Machine
	GSI      uint32
	Type     uint32
	Version  uint32 // of the MMIO transport; 0 means 2
	Features uint64 // VERSION_1 must be among them
	Space    []byte // configuration space
	MaxQueue uint32 // largest queue size
	Queues   int
	// Async makes the device work on a goroutine of its own, as with KVM, and not within the notification, as with TCG.
	Async bool
	// Notified is called for a queue with new buffers, with mu held.
	Notified func(q *Queue)
	// Started is called at DRIVER_OK, with mu held.
	Started func()

	Accesses, Notifications, Interrupts int // how many there were; guarded by mu

	mu       sync.Mutex
	status   uint32
	sel      [3]uint32 // offered, accepted features; queue
	accepted uint64
	isr      uint32
	queues   []*Queue
	work     chan int
	irq      chan struct{}
	stop     chan struct{}
	running  sync.WaitGroup
}

// Accepted features bits that the model knows.
const (
	featureIndirect = 1 << 28
	featureEventIdx = 1 << 29
	// FeatureVersion1 must be offered.
	FeatureVersion1 = 1 << 32
	// FeatureRing are the features of rings.
	FeatureRing = featureIndirect | featureEventIdx
)

// Init makes the device ready; call it when the fields are set. It ends with the test.
func (d *Device) Init(cleanup func(func())) {
	for i := range d.Queues {
		d.queues = append(d.queues, &Queue{Index: i, dev: d})
	}
	if d.Version == 0 {
		d.Version = 2
	}
	d.work, d.irq, d.stop = make(chan int, 1024), make(chan struct{}, 1), make(chan struct{})
	d.running.Add(2)
	go d.interrupts()
	go d.works()
	cleanup(func() { close(d.stop); d.running.Wait() })
}

func (d *Device) interrupts() {
	defer d.running.Done()
	for {
		select {
		case <-d.irq:
			d.Machine.RaiseGSI(d.GSI)
		case <-d.stop:
			return
		}
	}
}

func (d *Device) works() {
	defer d.running.Done()
	for {
		select {
		case q := <-d.work:
			d.mu.Lock()
			if d.status != 0 { // else it was reset since
				d.notified(q)
			}
			d.mu.Unlock()
		case <-d.stop:
			return
		}
	}
}

func (d *Device) notified(i int) {
	if d.status&4 == 0 {
		panic("virtiotest: notification before DRIVER_OK")
	}
	d.Notified(d.queues[i])
}

// Lock and Unlock guard the device against its driver.
//
// +checklocksacquire:d.mu
func (d *Device) Lock() { d.mu.Lock() }

// Unlock undoes Lock.
//
// +checklocksrelease:d.mu
func (d *Device) Unlock() { d.mu.Unlock() }

// Queue returns queue i.
func (d *Device) Queue(i int) *Queue { return d.queues[i] }

// Has reports whether a feature was negotiated.
func (d *Device) Has(feature uint64) bool { return d.accepted&feature != 0 }

// Len implements virtio.Registers.
func (d *Device) Len() uint64 { return 0x200 }

func (d *Device) current() *Queue {
	if int(d.sel[2]) < len(d.queues) {
		return d.queues[d.sel[2]]
	}
	return &Queue{dev: d}
}

// Load32 implements virtio.Registers.
func (d *Device) Load32(off uint64) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Accesses++
	if off >= 0x100 {
		return uint32(d.space(off, 4))
	}
	switch off {
	case 0x00:
		return 0x74726976
	case 0x04:
		return d.Version
	case 0x08:
		return d.Type
	case 0x0c:
		return 0x554d4551
	case 0x10:
		return uint32(d.Features >> (32 * d.sel[0]))
	case 0x34:
		if int(d.sel[2]) < len(d.queues) {
			return d.MaxQueue
		}
		return 0
	case 0x44:
		if d.current().ready {
			return 1
		}
		return 0
	case 0x60:
		return d.isr
	case 0x70:
		return d.status
	}
	panic(fmt.Sprintf("virtiotest: read of register %#x", off))
}

// Store32 implements virtio.Registers.
func (d *Device) Store32(off uint64, v uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Accesses++
	q := d.current()
	switch off {
	case 0x14:
		d.sel[0] = v & 1
	case 0x20:
		setHalf(&d.accepted, d.sel[1] == 1, v)
	case 0x24:
		d.sel[1] = v
	case 0x30:
		d.sel[2] = v
	case 0x38:
		if v == 0 || v > d.MaxQueue || v&(v-1) != 0 {
			panic("virtiotest: bad queue size")
		}
		q.size = uint16(v)
	case 0x44:
		q.start()
	case 0x50:
		d.Notifications++
		if d.Async {
			d.work <- int(v)
		} else {
			d.notified(int(v))
		}
	case 0x64:
		d.isr &^= v
	case 0x70:
		d.setStatus(v)
	case 0x80, 0x84:
		setHalf(&q.desc, off&4 != 0, v)
	case 0x90, 0x94:
		setHalf(&q.avail, off&4 != 0, v)
	case 0xa0, 0xa4:
		setHalf(&q.used, off&4 != 0, v)
	case 0x104: // the second word of the configuration space: a balloon's size
		copy(d.Space[4:8], []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
	default:
		panic(fmt.Sprintf("virtiotest: write of register %#x", off))
	}
}

func setHalf(p *uint64, high bool, v uint32) {
	if high {
		*p = *p&0xffffffff | uint64(v)<<32
	} else {
		*p = *p&^0xffffffff | uint64(v)
	}
}

func (d *Device) setStatus(v uint32) {
	if v&8 != 0 && d.accepted&^d.Features != 0 {
		v &^= 8
	}
	started := v&4 != 0 && d.status&4 == 0
	d.status = v
	if v == 0 {
		d.isr, d.accepted = 0, 0
		for _, q := range d.queues {
			*q = Queue{Index: q.Index, dev: d}
		}
	}
	if started && d.Started != nil {
		d.Started()
	}
}

func (d *Device) space(off uint64, n int) (v uint64) {
	for i := n - 1; i >= 0; i-- {
		v <<= 8
		if at := int(off-0x100) + i; at < len(d.Space) {
			v |= uint64(d.Space[at])
		}
	}
	return v
}

// Load8 implements virtio.Registers.
func (d *Device) Load8(off uint64) uint8 { return uint8(d.space(off, 1)) }

// Load16 implements virtio.Registers.
func (d *Device) Load16(off uint64) uint16 { return uint16(d.space(off, 2)) }

// Store8 implements virtio.Registers.
func (d *Device) Store8(uint64, uint8) { panic("virtiotest: 8-bit write") }

// Store16 implements virtio.Registers.
func (d *Device) Store16(uint64, uint16) { panic("virtiotest: 16-bit write") }

// ConfigChanged raises the device's interrupt line after a change of Space.
func (d *Device) ConfigChanged() {
	d.Interrupt()
	d.isr |= 2
}

// Interrupt raises the device's interrupt line; nothing happens when it is high already.
func (d *Device) Interrupt() {
	if d.isr == 0 {
		d.Interrupts++
		select {
		case d.irq <- struct{}{}:
		default:
		}
	}
	d.isr |= 1
}

// Queue is the device's side of a virtqueue. Its methods are called with the device locked.
type Queue struct {
	Index int

	dev               *Device
	ready             bool
	size              uint16
	desc, avail, used uint64
	seen              uint16 // avail index up to which chains were popped
	idx               uint16 // used index
	signalled         uint16 // used index at the last interrupt
}

func (q *Queue) start() {
	if q.size == 0 || q.desc == 0 || q.avail == 0 || q.used == 0 || q.desc%16 != 0 || q.avail%2 != 0 || q.used%4 != 0 {
		panic("virtiotest: queue enabled without size or at a bad address")
	}
	q.ready = true
}

// Ready reports whether the driver has enabled the queue.
func (q *Queue) Ready() bool { return q.ready }

// Size is the size that the driver chose.
func (q *Queue) Size() uint16 { return q.size }

// Memory returns n bytes of the machine's memory at a physical address.
func (d *Device) Memory(pa uint64, n uint32) []byte {
	first, last := pa/machine.PageSize, (pa+uint64(n)+machine.PageSize-1)/machine.PageSize
	return d.Machine.Bytes(machine.Frame(first), int(last-first))[pa%machine.PageSize:][:n:n]
}

func (q *Queue) word(pa uint64) machine.Memory { return machine.MemoryOf(q.dev.Memory(pa, 2)) }

// Avail is the number of chains that the driver has made available.
func (q *Queue) Avail() int { return int(q.word(q.avail+2).Load16(0) - q.seen) }

// Element is a chain of buffers.
type Element struct {
	ID  uint32
	Out [][]byte // the device reads
	In  [][]byte // the device writes
}

// Pop takes the next available chain, nil when there is none.
func (q *Queue) Pop() *Element {
	if !q.ready || q.Avail() == 0 {
		return nil
	}
	id := q.word(q.avail + 4 + 2*uint64(q.seen%q.size)).Load16(0)
	q.seen++
	if q.dev.Has(featureEventIdx) {
		q.word(q.used+4+8*uint64(q.size)).Store16(0, q.seen)
	}
	e := &Element{ID: uint32(id)}
	q.walk(e, q.desc, q.size, id, false)
	return e
}

func (q *Queue) walk(e *Element, table uint64, size, i uint16, indirect bool) {
	for count := uint16(0); ; count++ {
		if i >= size || count >= size {
			panic("virtiotest: descriptor out of range or in a loop")
		}
		d := machine.MemoryOf(q.dev.Memory(table+16*uint64(i), 16))
		pa, n, flags, next := d.Load64(0), d.Load32(8), d.Load16(12), d.Load16(14)
		switch {
		case flags&4 != 0:
			if indirect || flags != 4 || n%16 != 0 || !q.dev.Has(featureIndirect) {
				panic("virtiotest: bad indirect descriptor")
			}
			q.walk(e, pa, uint16(n/16), 0, true)
		case flags&2 != 0:
			e.In = append(e.In, q.dev.Memory(pa, n))
		case len(e.In) > 0:
			panic("virtiotest: readable buffer after a writable one")
		default:
			e.Out = append(e.Out, q.dev.Memory(pa, n))
		}
		if flags&1 == 0 {
			return
		}
		i = next
	}
}

// Bytes returns what the driver sent.
func (e *Element) Bytes() []byte {
	var all []byte
	for _, b := range e.Out {
		all = append(all, b...)
	}
	return all
}

// Fill writes b into the chain and returns how much fitted.
func (e *Element) Fill(b []byte) int {
	n := 0
	for _, in := range e.In {
		n += copy(in, b[n:])
	}
	return n
}

// Push gives a chain back.
func (q *Queue) Push(e *Element, written int) { q.PushRaw(e.ID, uint32(written)) }

// PushRaw puts any words into the used ring.
func (q *Queue) PushRaw(id, written uint32) { q.PushAll([][2]uint32{{id, written}}) }

// PushAll is PushRaw of several, which the driver sees all at once.
func (q *Queue) PushAll(list [][2]uint32) {
	idx := q.idx
	for _, e := range list {
		m := machine.MemoryOf(q.dev.Memory(q.used+4+8*uint64(idx%q.size), 8))
		m.Store32(0, e[0])
		m.Store32(4, e[1])
		idx++
	}
	q.SetUsed(idx)
}

// SetUsed sets the used index.
func (q *Queue) SetUsed(idx uint16) {
	q.idx = idx
	q.word(q.used+2).Store16(0, idx)
}

// Notify interrupts the driver if it wants to know of what was pushed.
func (q *Queue) Notify() {
	old := q.signalled
	q.signalled = q.idx
	if q.dev.Has(featureEventIdx) {
		event := q.word(q.avail + 4 + 2*uint64(q.size)).Load16(0)
		if q.idx-event-1 >= q.idx-old {
			return
		}
	} else if q.idx == old || q.word(q.avail).Load16(0)&1 != 0 {
		return
	}
	q.dev.Interrupt()
}
