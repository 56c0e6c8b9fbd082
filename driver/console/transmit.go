package console

import (
	"gosv/driver/virtio"
	"gosv/kernel/uio"
	"gosv/machine"
	"time"

	"golang.org/x/sys/unix"
)

// Output goes through a ring of bytes that the device reads in place. It is one frame until something does
// not fit; the next time that it is empty it is replaced by a large one.
const (
	smallRing = 1
	largeRing = 64       // frames
	maxChunk  = 64 << 10 // bytes in one chain, so that several are in flight
)

// transmitter is the output side of a port. Port.mu guards it, except that the bytes
// between head and what reserve returned belong to the writer.
type transmitter struct {
	ring       []byte // its length is a power of two
	frame      machine.Frame
	large      bool   // a large ring is wanted
	head, tail uint32 // written by us, read by the device; they run free
	// The chains that the device has, oldest first.
	lengths     [ringSize]uint32 // by chain: bytes
	done        [ringSize]bool   // by chain: the device has read them
	order       [ringSize]uint8
	first, last uint8 // in order; they run free
}

// reap takes back what the device has read. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) reap() {
	for {
		id, _, ok := p.tx.Take()
		if !ok {
			break
		}
		p.done[id] = true
	}
	for p.first != p.last {
		id := p.order[p.first%ringSize]
		if !p.done[id] {
			break
		}
		p.done[id] = false
		p.tail += p.lengths[id]
		p.first++
	}
}

// resize replaces an empty ring when there is none yet or a larger one is wanted.
func (p *Port) resize() {
	want := smallRing
	if p.large {
		want = largeRing
	}
	frames := len(p.ring) / machine.PageSize
	if frames >= want || p.head != p.tail {
		return
	}
	f, err := p.c.m.AllocRun(want)
	if err != nil {
		return // what there is will do
	}
	if frames > 0 {
		p.c.m.Free(p.frame, frames)
	}
	p.frame, p.ring = f, p.c.m.Bytes(f, want)
	p.head, p.tail = 0, 0
}

// reserve returns room for up to n bytes, nil when there is none. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) reserve(n int) []byte {
	p.reap()
	p.large = p.large || n > smallRing*machine.PageSize
	p.resize()
	size := uint32(len(p.ring))
	used := p.head - p.tail
	if used == size {
		p.large = true
		return nil
	}
	if p.tx.Free() == 0 || p.last-p.first == ringSize {
		return nil
	}
	at := p.head & (size - 1)
	return p.ring[at:][:min(int(size-used), int(size-at), maxChunk, n)]
}

// abandon forgets what was in flight when the host closed the port, and opened it again: QEMU keeps the chain that it was
// at forever. Its memory must stay. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) abandon() {
	p.reap()
	if p.first == p.last {
		return
	}
	p.first, p.head, p.tail = p.last, 0, 0
	p.frame, p.ring = machine.NoFrame, nil
}

// submit makes n bytes from the head of the ring available to the device. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) submit(n int) {
	if n == 0 {
		return
	}
	at := uint64(p.head) & uint64(len(p.ring)-1)
	b := virtio.Buffer{Addr: uint64(p.frame)*machine.PageSize + at, Len: uint32(n)}
	id, ok := p.tx.Add([]virtio.Buffer{b}, nil)
	if !ok {
		return // broken; WriteFrom says so the next time
	}
	p.lengths[id], p.done[id] = uint32(n), false
	p.order[p.last%ringSize] = uint8(id)
	p.last++
	p.head += uint32(n)
}

// canWrite tells why nothing can be written now, or nil. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) canWrite() error {
	switch {
	case p.tx.Broken():
		return unix.EIO
	case p.host.Load() == hostNever:
		return unix.EAGAIN
	case p.host.Load() != hostOpen:
		return unix.EPIPE
	}
	return nil
}

// writable reports whether WriteFrom will not say EAGAIN; if it will, a notification is on the way. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) writable() bool {
	_, err := p.room(1)
	return err != unix.EAGAIN
}

// await asks to be told when half of what is in flight is done; it reports true when that is so already.
func (p *Port) await() bool {
	if p.tx.Pending() > 0 {
		return true
	}
	p.arm(1)
	return p.tx.Arm(int(p.last-p.first)/2+1) || p.tx.Broken()
}

// WriteFrom moves bytes from src to the host, as many as there is room for. EAGAIN when there is none, or
// the host has not opened the port; EPIPE when the host has closed it; EIO when the device is broken; ENOMEM;
// EFAULT.
func (p *Port) WriteFrom(src uio.Source) (int64, error) {
	p.writer.Lock()
	defer p.writer.Unlock()
	var total int64
	for n := 0; ; {
		p.mu.Lock()
		p.submit(n)
		total += int64(n)
		left := src.Left()
		var b []byte
		var err error
		if left > 0 {
			b, err = p.room(left)
		}
		if b == nil {
			p.tx.Kick()
			p.mu.Unlock()
			return result(total, err)
		}
		p.mu.Unlock()
		if n, err = src.Take(b); n == 0 {
			p.mu.Lock()
			p.tx.Kick()
			p.mu.Unlock()
			return result(total, err)
		}
	}
}

// result is what a read or write returns that moved total bytes before err stopped it.
func result(total int64, err error) (int64, error) {
	if total > 0 {
		return total, nil
	}
	return 0, err
}

// room returns room for up to n bytes, or why there is none. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) room(n int) ([]byte, error) {
	for {
		if err := p.canWrite(); err != nil {
			return nil, err
		}
		if b := p.reserve(n); b != nil {
			return b, nil
		}
		if p.ring == nil {
			return nil, unix.ENOMEM
		}
		p.tx.Kick()
		if !p.await() {
			return nil, unix.EAGAIN
		}
	}
}

// idle reports whether the device has read everything. p.mu is held.
//
// +checklocks:p.mu
func (p *Port) idle() bool {
	p.reap()
	return p.first == p.last
}

// Flush waits until the host has taken everything written so far. deadline is a
// monotonic time in nanoseconds; ETIMEDOUT after it, EPIPE when the host has closed the port before, EIO when the device is broken.
func (p *Port) Flush(deadline int64) error {
	for round := 0; ; round++ {
		p.mu.Lock()
		idle, broken := p.idle(), p.tx.Broken()
		p.mu.Unlock()
		switch {
		case broken:
			return unix.EIO
		case idle:
			return nil
		case p.host.Load() != hostOpen:
			return unix.EPIPE
		case p.c.m.Monotonic() >= deadline:
			return unix.ETIMEDOUT
		}
		pause(round)
	}
}

// WriteAll writes all of b, and waits for room until the deadline, a monotonic time in nanoseconds. It is for the kernel's own
// messages. The errors are Write's, with ETIMEDOUT instead of EAGAIN.
func (p *Port) WriteAll(b []byte, deadline int64) error {
	for round := 0; len(b) > 0; round++ {
		n, err := p.Write(b)
		b = b[n:]
		if err != nil && err != unix.EAGAIN {
			return err
		}
		if err != nil {
			if p.c.m.Monotonic() >= deadline {
				return unix.ETIMEDOUT
			}
			pause(round)
		}
	}
	return nil
}

// emergencyTime bounds the wait of EmergencyWrite for each page of text.
const emergencyTime = 200 * int64(time.Millisecond)

// EmergencyWrite writes b by polling, for a kernel that is about to die: it allocates nothing, needs no
// interrupts and no other goroutine, and does not care who holds the port's locks. It gives up
// after a fifth of a second for each 4 KiB. Nothing else may use the port afterwards.
func (p *Port) EmergencyWrite(b []byte) {
	p.mu.TryLock()
	page := p.c.m.Bytes(p.c.emergency, 1)
	for len(b) > 0 && p.host.Load() == hostOpen {
		n := copy(page, b)
		b = b[n:]
		deadline := p.c.m.Monotonic() + emergencyTime
		part := [1]virtio.Buffer{{Addr: uint64(p.c.emergency) * machine.PageSize, Len: uint32(n)}}
		_, ok := p.tx.Add(part[:], nil)
		p.tx.Kick()
		for (!ok || p.tx.InFlight() > 0) && !p.tx.Broken() {
			late := p.c.m.Monotonic() > deadline
			p.tx.Take()
			if !ok {
				_, ok = p.tx.Add(part[:], nil)
				p.tx.Kick()
			}
			if late && p.tx.InFlight() > 0 {
				return
			}
		}
	}
}
