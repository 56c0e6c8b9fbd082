// Package aio keeps the contexts of Linux AIO (io_setup(2)): which operations are on
// their way, and the ring that the results come in. What an operation does is package syscall's.
//
// The ring (struct aio_ring of Linux's fs/aio.c) is memory that the program has mapped, and libaio takes
// results from it without a system call. So nothing in it is trusted: of what the program may
// have written only the head is looked at, once for each use, modulo the number of slots.
//
// Lock order: Contexts.mu, and Context.mu, are leaves; both are never held while an operation starts or ends.
package aio

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/async"
	"gosv/kernel/mem"
	"gosv/kernel/mm"
	"gosv/kernel/wait"
	"gosv/machine"
)

// The ring's header, and what is behind it: struct io_event.
const (
	ringHead   = 8
	ringTail   = 12
	headerSize = 32
	eventSize  = 32
	magic      = 0xa10a10a1
)

// MaxEvents is fs.aio-max-nr: how many events all contexts may ask for.
const MaxEvents = 65536

var total atomic.Int64

// Events is fs.aio-nr: how many events all contexts asked for.
func Events() int64 { return total.Load() }

// Event is a struct io_event.
type Event struct {
	Data, Obj uint64
	Res, Res2 int64
}

// Put stores e in b as programs see it.
func (e *Event) Put(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b, e.Data)
	le.PutUint64(b[8:], e.Obj)
	le.PutUint64(b[16:], uint64(e.Res))
	le.PutUint64(b[24:], uint64(e.Res2))
}

// SizeofEvent is the size of a struct io_event.
const SizeofEvent = eventSize

// Contexts are the contexts of an address space, by ID, which is the ring's address.
type Contexts struct {
	mu   sync.Mutex
	list map[uint64]*Context // guarded by mu
}

// NewContexts returns an empty set.
func NewContexts() *Contexts { return &Contexts{list: make(map[uint64]*Context)} }

// Get returns a context: EINVAL.
func (cs *Contexts) Get(id uint64) (*Context, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.list[id]; c != nil {
		return c, nil
	}
	return nil, unix.EINVAL
}

// Context is an AIO context.
type Context struct {
	ID     uint64
	events int // as io_setup(2) was asked for
	slots  uint32
	ring   *ring
	length uint64
	queue  wait.Queue // told of each result

	mu     sync.Mutex
	active map[*Request]struct{} // guarded by mu
	tail   uint32                // guarded by mu
	dead   bool                  // guarded by mu
}

// Request is one operation of a context.
type Request struct {
	Obj  uint64 // address of its struct iocb
	Data uint64
	Op   async.Op
	// Told is called when the result is in the ring; nil: nothing to do.
	Told func()
}

// ring is the memory of a ring: the mapping and the kernel each have a reference.
type ring struct {
	cache *mem.Cache
	pages []machine.Memory
	refs  atomic.Int32
}

func (r *ring) MapCache() *mem.Cache { return r.cache }
func (r *ring) IncRef()              { r.refs.Add(1) }
func (r *ring) MapName() string      { return "/[aio] (deleted)" }

func (r *ring) MapInode() (major, minor uint32, ino uint64) { return 0, 13, 1 }

func (r *ring) DecRef() {
	if r.refs.Add(-1) == 0 {
		r.cache.Release()
	}
}

// newRing returns n pages: ENOMEM.
func newRing(pool *mem.Pool, n int) (*ring, error) {
	r := &ring{cache: mem.NewShmem(pool), pages: make([]machine.Memory, n)}
	r.refs.Store(1)
	err := r.cache.Truncate(int64(n) * machine.PageSize)
	for i := range r.pages {
		var f machine.Frame
		if f, err = r.cache.Page(uint64(i), true); err != nil {
			break
		}
		r.pages[i] = machine.MemoryOf(pool.Bytes(f))
		pool.Unref(f) // the cache has it
	}
	if err != nil {
		r.DecRef()
		return nil, err
	}
	return r, nil
}

// Setup is io_setup(2) for events operations at a time: EINVAL, EAGAIN, ENOMEM.
func (cs *Contexts) Setup(as *mm.AddressSpace, events uint32) (*Context, error) {
	if events == 0 || events > math.MaxInt32/eventSize {
		return nil, unix.EINVAL
	}
	if total.Add(int64(events)) > MaxEvents {
		total.Add(-int64(events))
		return nil, unix.EAGAIN
	}
	c, err := cs.setup(as, events)
	if err != nil {
		total.Add(-int64(events))
	}
	return c, err
}

func (cs *Contexts) setup(as *mm.AddressSpace, events uint32) (*Context, error) {
	n := (headerSize + (int(events)+2)*eventSize + machine.PageSize - 1) / machine.PageSize
	r, err := newRing(as.Pool(), n)
	if err != nil {
		return nil, err
	}
	c := &Context{events: int(events), ring: r, length: uint64(n) * machine.PageSize, active: make(map[*Request]struct{})}
	c.slots = uint32((n*machine.PageSize - headerSize) / eventSize)
	head := r.pages[0]
	for i, v := range []uint32{0, c.slots, 0, 0, magic, 1, 0, headerSize} {
		head.Store32(uint64(4*i), v)
	}
	c.ID, err = as.Map(mm.MapArgs{Length: c.length, Prot: unix.PROT_READ | unix.PROT_WRITE, Flags: unix.MAP_SHARED, Object: r})
	if err != nil {
		r.DecRef()
		return nil, err
	}
	cs.mu.Lock()
	cs.list[c.ID] = c
	cs.mu.Unlock()
	return c, nil
}

// Destroy is io_destroy(2): it cancels what can be cancelled. The caller waits until Idle. EINVAL.
func (cs *Contexts) Destroy(as *mm.AddressSpace, id uint64) (*Context, error) {
	cs.mu.Lock()
	c := cs.list[id]
	delete(cs.list, id)
	cs.mu.Unlock()
	if c == nil {
		return nil, unix.EINVAL
	}
	c.end()
	_ = as.Unmap(c.ID, c.length) // the program may have done so
	return c, nil
}

// End destroys all contexts of a process that is gone.
func (cs *Contexts) End() {
	cs.mu.Lock()
	list := cs.list
	cs.list = make(map[uint64]*Context)
	cs.mu.Unlock()
	for _, c := range list {
		c.end()
	}
}

func (c *Context) end() {
	c.mu.Lock()
	c.dead = true
	list := make([]*Request, 0, len(c.active))
	for r := range c.active {
		list = append(list, r)
	}
	c.mu.Unlock()
	for _, r := range list {
		_ = r.Op.Cancel() // what runs ends by itself
	}
	c.queue.Notify(unix.POLLIN)
	total.Add(-int64(c.events))
	c.mu.Lock()
	c.drop()
	c.mu.Unlock()
}

// drop gives the ring back when nothing will write to it any more. c.mu is held.
//
// +checklocks:c.mu
func (c *Context) drop() {
	if c.dead && len(c.active) == 0 && c.ring != nil {
		c.ring.DecRef()
		c.ring = nil
	}
}

// head returns the program's position. c.mu is held, and the ring is there.
//
// +checklocks:c.mu
func (c *Context) head() uint32 { return c.ring.pages[0].Load32(ringHead) % c.slots }

// unread returns how many results are in the ring. c.mu is held.
//
// +checklocks:c.mu
func (c *Context) unread() uint32 { return (c.tail + c.slots - c.head()) % c.slots }

// Enter makes r one of the operations on their way, before its Op starts: EAGAIN when there are as many as the context may
// have, results that were not taken among them; EINVAL when it was destroyed.
func (c *Context) Enter(r *Request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return unix.EINVAL
	}
	if uint32(len(c.active))+c.unread() >= c.slots-1 {
		return unix.EAGAIN
	}
	c.active[r] = struct{}{}
	return nil
}

// Complete puts the result of r into the ring. It is for r.Op.Done.
func (c *Context) Complete(r *Request, res int64) {
	c.mu.Lock()
	delete(c.active, r)
	if !c.dead {
		c.put(c.tail, &Event{Data: r.Data, Obj: r.Obj, Res: res})
		c.tail = (c.tail + 1) % c.slots
		c.ring.pages[0].Store32(ringTail, c.tail)
	}
	c.drop()
	c.mu.Unlock()
	if r.Told != nil {
		r.Told()
	}
	c.queue.Notify(unix.POLLIN)
}

// word returns where the 8 bytes at word i of slot n lie. c.mu is held.
func (c *Context) word(n uint32, i uint64) (machine.Memory, uint64) {
	off := headerSize + uint64(n)*eventSize + 8*i
	return c.ring.pages[off/machine.PageSize], off % machine.PageSize
}

func (c *Context) put(n uint32, e *Event) {
	for i, v := range [...]uint64{e.Data, e.Obj, uint64(e.Res), uint64(e.Res2)} {
		m, off := c.word(uint32(n), uint64(i))
		m.Store64(off, v)
	}
}

func (c *Context) get(n uint32) Event {
	var v [4]uint64
	for i := range v {
		m, off := c.word(n, uint64(i))
		v[i] = m.Load64(off)
	}
	return Event{v[0], v[1], int64(v[2]), int64(v[3])}
}

// Take moves up to n results from the ring to emit, which returns an error to keep that one: what
// of EFAULT came first. EINVAL when the context was destroyed.
func (c *Context) Take(n int, emit func(*Event) error) (done int, err error) {
	for done < n {
		c.mu.Lock()
		if c.dead {
			c.mu.Unlock()
			return done, unix.EINVAL
		}
		if c.unread() == 0 {
			c.mu.Unlock()
			return done, nil
		}
		head := c.head()
		e := c.get(head)
		c.ring.pages[0].Store32(ringHead, (head+1)%c.slots)
		c.mu.Unlock()
		if err := emit(&e); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// Find returns the operation whose struct iocb is at obj: EINVAL.
func (c *Context) Find(obj uint64) (*Request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.active {
		if r.Obj == obj {
			return r, nil
		}
	}
	return nil, unix.EINVAL
}

// Idle reports whether no operation is on its way.
func (c *Context) Idle() bool {
	c.mu.Lock()
	v := len(c.active) == 0
	c.mu.Unlock()
	return v
}

// Readiness implements task.Pollable: POLLIN when a result is in the ring, or the context was destroyed and is idle.
func (c *Context) Readiness(mask wait.Mask) wait.Mask {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead && len(c.active) == 0 || !c.dead && c.unread() > 0 {
		return unix.POLLIN & mask
	}
	return 0
}

// Register implements task.Pollable.
func (c *Context) Register(e *wait.Entry) { c.queue.Add(e) }

// Unregister implements task.Pollable.
func (c *Context) Unregister(e *wait.Entry) { c.queue.Remove(e) }
