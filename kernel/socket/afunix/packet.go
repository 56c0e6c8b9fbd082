package afunix

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// A packet is what one send, or a part of a long one, put into a queue.
type packet struct {
	next   *packet
	from   *sock // who sent it, and is charged with it
	charge int32 // bytes
	conn   *sock // in a listener's queue: the other end for accept(2)

	// The bytes lie in data, or from off on in frames.
	data   []byte
	frames []machine.Frame
	off, n int // of what was not read yet

	cred   socket.Ucred // of the sender
	user   uint32       // its real user, who is charged with rights
	rights []*vfs.File
	when   int64 // wall time in ns; 0: not taken
	urgent bool  // sent with MSG_OOB

	heap, taken int64 // bytes in Network.heap, and of share.Unix
}

// Where bytes lie: small packets in the Go heap, as long as all of them together are few, else in pages. What packets
// cost beside their bytes is in the Go heap in any case. Both are of share.Unix.
const (
	smallPacket    = 1024
	packetOverhead = 256
	smallShare     = 32 // of the machine's memory, for small packets in the heap
)

// The sizes that Linux 6.1 charges a packet with: those of its sk_buff structures.
const (
	skbSize    = 256  // struct sk_buff, aligned
	skbShared  = 320  // struct skb_shared_info, aligned
	skbHead    = 3776 // SKB_MAX_HEAD(0): a page without the latter
	skbAlloc   = 4*machine.PageSize - skbShared
	skbPages   = 8 * machine.PageSize // UNIX_SKB_FRAGS_SZ
	skbMaxFrag = 17 * machine.PageSize
)

// charge is what Linux counts for a packet of n bytes of which those beyond head lie in pages: its truesize.
func charge(n, head int) int32 {
	pages := 0
	if n > head {
		pages = min(n, (n-head+machine.PageSize-1)&^(machine.PageSize-1))
	}
	linear := (n-pages+63)&^63 + skbShared
	return int32(skbSize + kmallocSize(linear) + pages)
}

// kmallocSize is the size of the piece that kmalloc finds for n bytes.
func kmallocSize(n int) int {
	switch {
	case n <= 96 && n > 64:
		return 96
	case n <= 192 && n > 128:
		return 192
	case n > 8192:
		return (n + machine.PageSize - 1) &^ (machine.PageSize - 1)
	}
	size := 64
	for size < n {
		size *= 2
	}
	return size
}

// fill makes a packet of the next n bytes of src, with room for them that is accounted to nobody yet: ENOBUFS, EFAULT.
func (n *Network) fill(src uio.Source, size int) (*packet, error) {
	p := &packet{n: size, heap: packetOverhead}
	small := size <= smallPacket && n.heap.Load() < n.memory/smallShare
	if small {
		p.heap += int64(size)
	}
	p.taken = p.heap
	if !small {
		p.taken += int64(size+machine.PageSize-1) &^ (machine.PageSize - 1)
	}
	if !share.Unix.Take(p.taken) {
		return nil, unix.ENOBUFS
	}
	n.heap.Add(p.heap)
	switch {
	case size == 0:
		return p, nil
	case small:
		p.data = make([]byte, size)
		if m, err := src.Take(p.data); m < size {
			n.free(p)
			return nil, fault(err)
		}
		return p, nil
	}
	for done := 0; done < size; done += machine.PageSize {
		f, err := n.pool.Alloc()
		if err != nil {
			n.free(p)
			return nil, unix.ENOBUFS
		}
		p.frames = append(p.frames, f)
		want := min(size-done, machine.PageSize)
		if m, err := src.Take(n.pool.Bytes(f)[:want]); m < want {
			n.free(p)
			return nil, fault(err)
		}
	}
	return p, nil
}

func fault(err error) error {
	if err == nil {
		return unix.EFAULT
	}
	return err
}

// put copies up to most unread bytes from offset skip on to dst.
func (n *Network) put(p *packet, dst uio.Sink, skip, most int) (done int, err error) {
	most = min(most, p.n-skip, dst.Left())
	if p.data != nil {
		return dst.Put(p.data[p.off+skip : p.off+skip+most])
	}
	for done < most && err == nil {
		at := p.off + skip + done
		page := n.pool.Bytes(p.frames[at/machine.PageSize])[at%machine.PageSize:]
		var m int
		m, err = dst.Put(page[:min(len(page), most-done)])
		done += m
	}
	return done, err
}

// free gives back all that p holds.
func (n *Network) free(p *packet) {
	n.heap.Add(-p.heap)
	share.Unix.Give(p.taken)
	p.data, p.heap, p.taken = nil, 0, 0
	for _, f := range p.frames {
		n.pool.Unref(f)
	}
	p.frames = nil
	if files := n.takeRights(p); files != nil {
		n.closeAll(files)
	}
	if p.from != nil {
		p.from.credit(p.charge)
	}
}

// freeList is free for a list.
func (n *Network) freeList(p *packet) {
	for p != nil {
		next := p.next
		n.free(p)
		p = next
	}
}

// credit takes a charge back, and tells who waits for room.
func (k *sock) credit(n int32) {
	if n == 0 {
		return
	}
	k.wmem.Add(-n)
	if k.mayWrite() {
		k.s.Queue.Notify(writable)
	}
}

// A queue is a list of packets; it is guarded by its socket's mu.
type queue struct {
	head, tail *packet
	n          int
	bytes      int     // unread
	oob        *packet // the last byte sent with MSG_OOB, until it is read
}

func (q *queue) push(p *packet) {
	if q.tail == nil {
		q.head = p
	} else {
		q.tail.next = p
	}
	q.tail = p
	q.n++
	q.bytes += p.n
}

// pop takes the first packet off.
func (q *queue) pop() *packet {
	p := q.head
	if q.head = p.next; q.head == nil {
		q.tail = nil
	}
	p.next = nil
	q.n--
	q.bytes -= p.n
	if q.oob == p {
		q.oob = nil
	}
	return p
}

// takeAll empties the queue and returns the list of its packets.
func (q *queue) takeAll() *packet {
	p := q.head
	*q = queue{}
	return p
}
