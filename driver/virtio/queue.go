package virtio

import (
	"gosv/machine"
	"math/bits"
)

// Bits of a descriptor's flags (§2.7.5).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
)

// suppress in the flags of the avail and used ring asks for no interrupts and no
// notifications; it is used without event indices only (§2.7.6, §2.7.8).
const suppress = 1

const (
	descSize = 16
	// minQueue is the smallest queue whose event indices are at multiples of 4.
	minQueue = 2
)

// A Buffer is physically contiguous memory.
type Buffer struct {
	Addr uint64
	Len  uint32
}

// chain is what the driver remembers of a chain of descriptors, kept out of the device's reach.
type chain struct {
	out   bool   // the device has it
	count uint16 // descriptors
	room  uint64 // bytes that the device may write
	next  uint16 // next free descriptor, or the next of the chain
}

// A Queue is a split virtqueue (§2.7), seen by the driver.
//
// The rings' 16-bit fields are read and written together with their neighbour, as words of 32
// bits, which is several times cheaper: a whole word of the avail ring is the driver's, and one of the used ring
// is only read.
type Queue struct {
	dev   *Device
	index int
	size  uint16
	event bool // event indices are in use

	desc, avail, used machine.Memory
	usedEvent         uint64 // offset in avail
	availEvent        uint64 // offset in used

	tables   machine.Memory // indirect tables, segments descriptors for each id below indirect
	tablesPA uint64
	segments int
	indirect int

	chains   []chain // by descriptor number
	free     uint16  // first free descriptor
	nfree    uint16
	inFlight uint16 // chains that the device has
	availIdx uint16 // next index to fill
	notified uint16 // availIdx at the last Kick, which the device sees
	flags    uint16 // of the avail ring
	usedIdx  uint16 // next index to look at
	broken   bool
}

// Queue sets up queue i with at most want descriptors (a power of two). If segments is
// above 1 and indirect descriptors were negotiated, chains of up to so many
// buffers take one descriptor each.
func (d *Device) Queue(i int, want uint16, segments int) (*Queue, error) {
	return d.QueueFor(i, want, segments, int(want))
}

// QueueFor is Queue with indirect tables for inFlight chains only; more at a time take direct descriptors.
func (d *Device) QueueFor(i int, want uint16, segments, inFlight int) (*Queue, error) {
	size := uint16(min(d.QueueMax(i), int(want)))
	if size < minQueue {
		return nil, d.wrap(errQueueSize)
	}
	size = 1 << (bits.Len16(size) - 1)
	q := &Queue{dev: d, index: i, size: size, event: d.Features&FeatureEventIdx != 0}
	n := uint64(size)
	q.usedEvent, q.availEvent = 4+2*n, 4+8*n
	availAt := descSize * n
	usedAt := availAt + 8 + 2*n
	ring, pa, err := d.alloc(usedAt + 8 + 8*n)
	if err != nil {
		return nil, err
	}
	q.desc, q.avail, q.used = ring.Slice(0, availAt), ring.Slice(availAt, 8+2*n), ring.Slice(usedAt, 8+8*n)
	if segments > 1 && d.Features&FeatureIndirect != 0 {
		q.segments, q.indirect = segments, min(inFlight, int(size))
		if q.tables, q.tablesPA, err = d.alloc(descSize * uint64(q.indirect) * uint64(segments)); err != nil {
			return nil, err
		}
	}
	q.chains, q.nfree = make([]chain, size), size
	for j := range q.chains {
		q.chains[j].next = uint16(j + 1)
	}
	if err := d.SetQueue(i, size, pa, pa+availAt, pa+usedAt); err != nil {
		return nil, d.wrap(err)
	}
	return q, nil
}

// Size is the number of descriptors.
func (q *Queue) Size() int { return int(q.size) }

// Free is the number of descriptors that Add can still use.
func (q *Queue) Free() int { return int(q.nfree) }

// InFlight is the number of chains that were added and not taken back yet.
func (q *Queue) InFlight() int { return int(q.inFlight) }

// Broken reports that the device broke the rules; nothing works any more then.
func (q *Queue) Broken() bool { return q.broken }

// Add makes a chain of buffers available: those of out are read by the device, then
// those of in are written. It returns the chain's id, below Size. It returns false when there
// is no room. The device may not look before Kick is called.
func (q *Queue) Add(out, in []Buffer) (id uint16, ok bool) {
	n := len(out) + len(in)
	if n == 0 || q.broken {
		return 0, false
	}
	id = q.free
	if n > 1 && n <= q.segments && int(id) < q.indirect {
		if q.nfree == 0 {
			return 0, false
		}
		q.addIndirect(id, out, in)
		n = 1
	} else {
		if n > int(q.nfree) {
			return 0, false
		}
		q.addDirect(id, out, in)
	}
	last := id
	for range n - 1 {
		last = q.chains[last].next
	}
	c := &q.chains[id]
	q.free = q.chains[last].next
	c.out, c.count, c.room = true, uint16(n), 0
	for _, b := range in {
		c.room += uint64(b.Len)
	}
	q.nfree -= uint16(n)
	q.inFlight++
	q.offer(id)
	return id, true
}

// offer puts a chain into the avail ring. The neighbour may still be the device's to read.
func (q *Queue) offer(id uint16) {
	i := q.availIdx & (q.size - 1)
	at, shift := 4+2*uint64(i&^1), 16*(i&1)
	q.avail.Store32(at, q.avail.Load32(at)&^(0xffff<<shift)|uint32(id)<<shift)
	q.availIdx++
}

// show publishes the avail ring's index, with its flags.
func (q *Queue) show() { q.avail.Store32(0, uint32(q.notified)<<16|uint32(q.flags)) }

// put writes descriptor i of a table.
func put(table machine.Memory, i uint64, b Buffer, flags, next uint16) {
	at := i * descSize
	table.Store64(at, b.Addr)
	table.Store32(at+8, b.Len)
	table.Store32(at+12, uint32(flags)|uint32(next)<<16)
}

// addDirect writes the buffers into the descriptor table, from id on along the free list.
func (q *Queue) addDirect(id uint16, out, in []Buffer) {
	i, n := id, len(out)+len(in)
	for k := range n {
		b, flags, next := pick(out, in, k)
		if k < n-1 {
			flags, next = flags|descNext, q.chains[i].next
		}
		put(q.desc, uint64(i), b, flags, next)
		i = next
	}
}

// addIndirect writes the buffers into the indirect table that belongs to id (§2.7.5.3).
func (q *Queue) addIndirect(id uint16, out, in []Buffer) {
	length := uint64(q.segments) * descSize
	table := q.tables.Slice(uint64(id)*length, length)
	n := len(out) + len(in)
	for k := range n {
		b, flags, next := pick(out, in, k)
		if k < n-1 {
			flags, next = flags|descNext, uint16(k+1)
		}
		put(table, uint64(k), b, flags, next)
	}
	whole := Buffer{q.tablesPA + uint64(id)*length, uint32(n * descSize)}
	put(q.desc, uint64(id), whole, descIndirect, 0)
}

// pick returns buffer k of a chain and its flags.
func pick(out, in []Buffer, k int) (b Buffer, flags, next uint16) {
	if k < len(out) {
		return out[k], 0, 0
	}
	return in[k-len(out)], descWrite, 0
}

// Kick shows the added chains to the device and notifies it if it wants that.
func (q *Queue) Kick() {
	if q.notified == q.availIdx || q.broken {
		return
	}
	old := q.notified
	q.notified = q.availIdx
	q.show()
	machine.Settle()
	if q.event {
		// §2.7.10: the device names the index after which it wants to know.
		if q.availIdx-uint16(q.used.Load32(q.availEvent))-1 >= q.availIdx-old {
			return
		}
	} else if q.used.Load32(0)&suppress != 0 {
		return
	}
	q.dev.Notify(q.index)
}

// Pending is the number of chains that the device is done with and Take has not returned.
func (q *Queue) Pending() int {
	n := uint16(q.used.Load32(0)>>16) - q.usedIdx
	if n > q.inFlight {
		q.broken = true
	}
	if q.broken {
		return 0
	}
	return int(n)
}

// Take returns a chain that the device is done with, and how many bytes it says that it wrote,
// which is never more than there was room for. Its buffers are the driver's again.
func (q *Queue) Take() (id uint16, written uint32, ok bool) {
	if q.Pending() == 0 {
		return 0, 0, false
	}
	at := 4 + 8*uint64(q.usedIdx&(q.size-1))
	wide, written := q.used.Load32(at), q.used.Load32(at+4)
	if wide >= uint32(q.size) || !q.chains[wide].out {
		q.broken = true
		return 0, 0, false
	}
	id = uint16(wide)
	written = uint32(min(uint64(written), q.chains[id].room))
	q.usedIdx++
	q.release(id)
	return id, written, true
}

// release gives the descriptors of a chain back.
func (q *Queue) release(id uint16) {
	last := id
	for range q.chains[id].count - 1 {
		last = q.chains[last].next
	}
	q.chains[last].next = q.free
	q.free = id
	q.nfree += q.chains[id].count
	q.chains[id].out = false
	q.inFlight--
}

// Arm asks for an interrupt when n (1 or more) chains will be pending. When it returns true they are already
// and an interrupt may not come.
func (q *Queue) Arm(n int) bool {
	if q.event {
		q.avail.Store32(q.usedEvent, uint32(q.usedIdx+uint16(n)-1))
	} else {
		q.flags = 0
		q.show()
	}
	machine.Settle()
	return q.Pending() >= n
}

// Disarm asks for no interrupts. They may come nevertheless.
func (q *Queue) Disarm() {
	if q.event {
		q.avail.Store32(q.usedEvent, uint32(q.usedIdx-1))
	} else {
		q.flags = suppress
		q.show()
	}
}
