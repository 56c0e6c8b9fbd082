// Package pipe makes pipes and FIFOs (pipe(7), fifo(7)).
//
// A pipe holds its bytes in up to as many pages as its capacity has. A write
// of at most PIPE_BUF bytes goes in whole or not at all, since a page is as long.
// Pipes may share pages (splice(2), tee(2)), which nobody writes to then.
//
// Lock order: pair → pipe.mu, of one pipe or of two. pipe.mu may be held while user memory is copied
// and while a file that is no pipe is read or written (Fill, Drain); below it are
// only their locks, the pool's and the wait queue's.
package pipe

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

const (
	// Buf is PIPE_BUF: writes up to it are atomic.
	Buf = machine.PageSize
	// DefaultSize is the capacity of a new pipe in bytes, where there are not too many.
	DefaultSize = 16 * machine.PageSize
)

// Events of poll(2).
const (
	readable = unix.EPOLLIN | unix.EPOLLRDNORM
	writable = unix.EPOLLOUT | unix.EPOLLWRNORM
)

// slot is the unread part of one page.
type slot struct {
	frame  machine.Frame
	off, n uint16 // n is at least 1; off+n at most a page
}

type pipe struct {
	pool     *mem.Pool
	nameless bool // made by pipe(2): opening it again waits for nobody
	queue    wait.Queue

	// All below is guarded by mu.
	mu    sync.Mutex
	room  account
	slots []slot // ring; its length is the capacity in pages, which room has; nil when nobody has the pipe open
	head  int    // first used slot
	used  int
	bytes int           // unread
	spare machine.Frame // kept for the next write
	// Open ends, and how many there ever were.
	readers, writers           int
	readersOpened, writersEver uint32
}

// end is one open file of a pipe.
type end struct {
	vfs.FileDefaults
	p *pipe
	// others is how many open files the other side had had when this one opened alone: it waits
	// for one more, and a reader sees no hangup before. One that opens not alone has alone false.
	others uint32
	alone  bool
}

// New is pipe2(2) without the descriptors. flags: O_NONBLOCK; O_CLOEXEC is for the descriptors; EINVAL for others. ENFILE when pipes
// have all that they may have.
func New(ns *vfs.Namespace, c *cred.Cred, flags int) (r, w *vfs.File, err error) {
	if flags&^(unix.O_NONBLOCK|unix.O_CLOEXEC) != 0 {
		return nil, nil, unix.EINVAL
	}
	both := &struct {
		p    pipe
		r, w end
	}{}
	p := &both.p
	p.nameless = true
	p.pool = ns.Pool
	if err := p.fit(c); err != nil {
		return nil, nil, err
	}
	p.readers, p.writers, p.readersOpened, p.writersEver = 1, 1, 1, 1
	both.r.p, both.w.p = p, p
	d := vfs.NewNameless("pipe", unix.S_IFIFO|0o600, ns.Now(), c, reopener{p})
	nonblock := flags & unix.O_NONBLOCK
	return vfs.OpenNameless(d, &both.r, c, unix.O_RDONLY|nonblock), vfs.OpenNameless(d, &both.w, c, unix.O_WRONLY|nonblock), nil
}

// reopener opens a pipe through /proc/self/fd.
type reopener struct{ p *pipe }

func (r reopener) Reopen(f *vfs.File) (vfs.FileOps, error) { return r.p.open(f) }

// fit gives the pipe its capacity.
func (p *pipe) fit(c *cred.Cred) error {
	n, err := p.room.open(c)
	if err == nil {
		p.slots, p.head = make([]slot, n), 0
	}
	return err
}

// OpenFIFO is vfs.Namespace.OpenFIFO: ENXIO for O_WRONLY|O_NONBLOCK when nobody reads, ENOMEM when pipes have all that they may have.
func OpenFIFO(f *vfs.File) (vfs.FileOps, error) {
	i := f.Inode()
	i.Lock()
	defer i.Unlock()
	p, _ := i.Private.(*pipe)
	if p == nil {
		p = &pipe{pool: f.Namespace().Pool}
		i.Private = p
	}
	return p.open(f)
}

func (p *pipe) open(f *vfs.File) (vfs.FileOps, error) {
	f.SetStream()
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &end{p: p}
	if f.Writable() && !f.Readable() {
		e.others, e.alone = p.readersOpened, p.readers == 0 && !p.nameless
		if f.Nonblock() && e.alone {
			return nil, unix.ENXIO
		}
	} else {
		e.others, e.alone = p.writersEver, p.writers == 0 && !p.nameless
	}
	if p.slots == nil && p.fit(f.Cred()) != nil {
		return nil, unix.ENOMEM
	}
	if f.Readable() {
		p.readers++
		p.readersOpened++
	}
	if f.Writable() {
		p.writers++
		p.writersEver++
	}
	p.queue.Notify(readable | writable)
	return e, nil
}

// Opened implements vfs.OpenWaiter: a FIFO opens when the other side does (fifo(7)).
func (e *end) Opened(f *vfs.File) bool {
	p := e.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !e.alone || f.Nonblock() || f.Readable() && f.Writable():
		return true
	case f.Readable():
		return p.writersEver != e.others
	}
	return p.readersOpened != e.others
}

// Read implements vfs.FileOps: 0 when all writers are gone.
func (e *end) Read(f *vfs.File, dst uio.Sink, _ int64) (n int64, err error) {
	if dst.Left() == 0 {
		return 0, nil
	}
	p := e.p
	p.mu.Lock()
	if p.used == 0 {
		if p.writers > 0 {
			err = unix.EAGAIN
		}
		p.mu.Unlock()
		return 0, err
	}
	before := p.used
	for p.used > 0 && dst.Left() > 0 && err == nil {
		var m int
		m, err = p.readSlot(dst)
		n += int64(m)
	}
	freed := p.used < before
	p.mu.Unlock()
	if freed {
		p.queue.Notify(writable)
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// readSlot moves bytes out of the first slot; p.mu is held.
//
// +checklocks:p.mu
func (p *pipe) readSlot(dst uio.Sink) (int, error) {
	s := &p.slots[p.head]
	n, err := dst.Put(p.pool.Bytes(s.frame)[s.off : s.off+s.n])
	p.consume(n)
	return n, err
}

// consume takes n bytes off the first slot, which has as many; p.mu is held.
func (p *pipe) consume(n int) {
	s := &p.slots[p.head]
	if n == int(s.n) {
		frame := s.frame
		p.pop()
		p.free(frame)
		return
	}
	s.off += uint16(n)
	s.n -= uint16(n)
	p.bytes -= n
}

// pop forgets the first slot; p.mu is held.
func (p *pipe) pop() {
	s := &p.slots[p.head]
	p.bytes -= int(s.n)
	*s = slot{}
	p.used--
	if p.head++; p.head == len(p.slots) {
		p.head = 0
	}
}

// push puts a slot behind the last; p.mu is held and there is room.
func (p *pipe) push(s slot) {
	*p.slot(p.used) = s
	p.used++
	p.bytes += int(s.n)
}

// page returns a page for a new slot: ENOMEM. p.mu is held.
//
// +checklocks:p.mu
func (p *pipe) page() (machine.Frame, error) {
	if f := p.spare; f != machine.NoFrame {
		p.spare = machine.NoFrame
		return f, nil
	}
	return p.pool.Alloc()
}

// free gives up a page, or keeps it for the next write unless another pipe has it too.
func (p *pipe) free(f machine.Frame) {
	if p.spare == machine.NoFrame && p.pool.Exclusive(f) {
		p.spare = f
	} else {
		p.pool.Unref(f)
	}
}

// Write implements vfs.FileOps: EPIPE when nobody reads.
func (e *end) Write(f *vfs.File, src uio.Source, _ int64) (n int64, err error) {
	if src.Left() == 0 {
		return 0, nil
	}
	p := e.p
	p.mu.Lock()
	if p.readers == 0 {
		p.mu.Unlock()
		return 0, unix.EPIPE
	}
	for src.Left() > 0 && err == nil {
		var m int
		m, err = p.writeSlot(src)
		n += int64(m)
	}
	p.mu.Unlock()
	if n > 0 {
		p.queue.Notify(readable)
		err = nil
	}
	return n, err
}

// writeSlot puts bytes behind those in the last slot if all fit there, else into a new one: EAGAIN, ENOMEM.
// p.mu is held.
//
// +checklocks:p.mu
func (p *pipe) writeSlot(src uio.Source) (n int, err error) {
	left := src.Left()
	if p.used > 0 {
		s := p.slot(p.used - 1)
		if end := int(s.off) + int(s.n); end+left <= machine.PageSize && p.pool.Exclusive(s.frame) {
			n, err = src.Take(p.pool.Bytes(s.frame)[end : end+left])
			s.n += uint16(n)
			p.bytes += n
			return n, err
		}
	}
	if p.used == len(p.slots) {
		return 0, unix.EAGAIN
	}
	frame, err := p.page()
	if err != nil {
		return 0, err
	}
	n, err = src.Take(p.pool.Bytes(frame)[:min(left, machine.PageSize)])
	if n == 0 {
		p.free(frame)
		return 0, err
	}
	p.push(slot{frame, 0, uint16(n)})
	return n, err
}

// slot returns the i-th slot from the head.
func (p *pipe) slot(i int) *slot {
	if i += p.head; i >= len(p.slots) {
		i -= len(p.slots)
	}
	return &p.slots[i]
}

// Poll implements vfs.FileOps.
func (e *end) Poll(f *vfs.File, mask wait.Mask) (ready wait.Mask) {
	p := e.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.Readable() {
		if p.used > 0 {
			ready |= readable
		}
		if p.writers == 0 && (!e.alone || p.writersEver != e.others) {
			ready |= unix.EPOLLHUP
		}
	}
	if f.Writable() {
		if p.used < len(p.slots) {
			ready |= writable
		}
		if p.readers == 0 {
			ready |= unix.EPOLLERR
		}
	}
	return ready & mask
}

// Register implements vfs.FileOps.
func (e *end) Register(_ *vfs.File, w *wait.Entry) { e.p.queue.Add(w) }

// Unregister implements vfs.FileOps.
func (e *end) Unregister(_ *vfs.File, w *wait.Entry) { e.p.queue.Remove(w) }

// Ioctl implements vfs.FileOps: FIONREAD.
func (e *end) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	if a.Cmd != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	e.p.mu.Lock()
	n := e.p.bytes
	e.p.mu.Unlock()
	return 0, a.PutInt32(int32(n))
}

// Release implements vfs.FileOps.
func (e *end) Release(f *vfs.File) {
	p := e.p
	p.mu.Lock()
	if f.Readable() {
		p.readers--
	}
	if f.Writable() {
		p.writers--
	}
	if p.readers == 0 && p.writers == 0 {
		p.drain()
	}
	p.mu.Unlock()
	p.queue.Notify(readable | writable | unix.EPOLLHUP | unix.EPOLLERR)
}

// drain gives up all pages and the capacity: what nobody has open holds nothing.
func (p *pipe) drain() {
	for ; p.used > 0; p.used-- {
		s := p.slot(p.used - 1)
		p.pool.Unref(s.frame)
		*s = slot{}
	}
	p.bytes = 0
	if p.spare != machine.NoFrame {
		p.pool.Unref(p.spare)
		p.spare = machine.NoFrame
	}
	p.slots = nil
	p.room.close()
}

func of(f *vfs.File) (*pipe, error) {
	if e, ok := f.Ops().(*end); ok {
		return e.p, nil
	}
	return nil, unix.EBADF
}

// Size is F_GETPIPE_SZ, in bytes: EBADF when f is no pipe.
func Size(f *vfs.File) (int, error) {
	p, err := of(f)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots) * machine.PageSize, nil
}

// SetSize is F_SETPIPE_SZ on behalf of c: it returns the new capacity in bytes, the next power of two pages
// at or above n. EBADF, EINVAL, EPERM beyond what the unprivileged may have (MaxSize, SoftPages), EBUSY when what is
// in the pipe would not fit, ENOMEM when pipes have all that they may have.
func SetSize(f *vfs.File, n int, c *cred.Cred) (int, error) {
	p, err := of(f)
	switch {
	case err != nil:
		return 0, err
	case n < 0 || n > 1<<30:
		return 0, unix.EINVAL
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pages := 1
	for pages*machine.PageSize < n {
		pages *= 2
	}
	if pages*machine.PageSize > int(MaxSize.Load()) && !c.Capable(unix.CAP_SYS_RESOURCE) && pages > len(p.slots) {
		return 0, unix.EPERM
	}
	if p.used > pages {
		return 0, unix.EBUSY
	}
	if err := p.room.resize(pages, c); err != nil {
		return 0, err
	}
	slots := make([]slot, pages)
	for i := range p.used {
		slots[i] = *p.slot(i)
	}
	p.slots, p.head = slots, 0
	p.queue.Notify(writable)
	return pages * machine.PageSize, nil
}
