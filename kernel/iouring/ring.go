// Package iouring keeps the rings of io_uring(7): their memory, the order in which what is submitted starts
// (links, drains), what is on its way, timeouts, cancellation, completions, and registered files and buffers. What an operation
// does is package syscall's, and how it waits is package async's.
//
// The rings are memory of the program. Nothing in it is trusted: the kernel keeps its own
// positions and sizes; of what the program writes, the tail and the array of the submission ring, the submissions and the head of the
// completion ring are read, each once, and every index is masked. The layout is that of Linux's io_uring.h.
//
// Lock order: Ring.submit (held while operations start) → Ring.res → Ring.mu; wait queues and clock below them. Operations are
// cancelled and completed with none of them but submit held.
package iouring

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/mm"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

// Where the fields of the rings lie; each head and tail has a line of the processor's cache to itself.
const (
	offSQHead     = 0
	offSQTail     = 64
	offCQHead     = 128
	offCQTail     = 192
	offSQMask     = 256
	offCQMask     = 260
	offSQEntries  = 264
	offCQEntries  = 268
	offSQDropped  = 272
	offSQFlags    = 276
	offCQFlags    = 280
	offCQOverflow = 284
	offCQEs       = 320
)

// Bits of the flags in the rings.
const (
	sqNeedWakeup      = 1 << 0
	sqCQOverflow      = 1 << 1
	sqTaskrun         = 1 << 2
	cqEventfdDisabled = 1 << 0
)

// The largest rings.
const (
	maxEntries   = 32768
	maxCQEntries = 2 * maxEntries
	// maxActive bounds what is on its way in one ring, and maxOverflow the completions that wait for room.
	maxActive   = 1 << 16
	maxOverflow = 1 << 17
)

// Ring is an open ring.
type Ring struct {
	vfs.FileDefaults
	clock *clock.Clock
	errno func(error) unix.Errno
	flags uint32

	sqEntries, cqEntries uint32
	offArray             uint32
	sqeSize, cqeSize     uint64

	cache *mem.Cache
	rings []machine.Memory // pages
	sqes  []machine.Memory

	queue wait.Queue // told of completions

	submit sync.Mutex
	sqHead uint32 // guarded by submit
	issuer int32  // the thread, with SetupSingleIssuer; guarded by submit

	poller *task.Delegate // lends the task that submits, with SetupSQPoll; not changed
	credit *cred.Cred     // of that task; not changed

	res    resources
	timing sync.Mutex // serialises changes of timeouts

	mu       sync.Mutex
	cqTail   uint32                // guarded by mu
	overflow []cqe                 // guarded by mu
	work     []later               // with SetupDeferTaskrun; guarded by mu
	posted   uint32                // completions but those of timeouts; guarded by mu
	expired  atomic.Uint32         // see Expired
	active   map[*Request]struct{} // started and not completed; guarded by mu
	byData   map[uint64]*Request   // of them, the last with that user data, and through Request.same the others; guarded by mu
	draining int                   // of them, those with Drain; guarded by mu
	deferred []*Request            // heads of chains that a drain holds up; guarded by mu
	timeouts map[*Request]struct{} // with a count; guarded by mu
	event    *vfs.File             // eventfd; guarded by mu
	asyncEv  bool                  // only for what did not complete at once; guarded by mu
	disabled bool                  // until it is enabled; guarded by mu
	limits   *Restrictions         // guarded by mu
	closed   bool                  // guarded by mu
	users    map[*task.Delegate]struct{}
}

func roundUp(n uint32) uint32 {
	p := uint32(1)
	for p < n {
		p *= 2
	}
	return p
}

// New is io_uring_setup(2) without the descriptor: EINVAL, ENOMEM. errno turns errors into numbers.
func New(pool *mem.Pool, c *clock.Clock, owner *cred.Cred, p Params, errno func(error) unix.Errno) (*vfs.File, *Ring, error) {
	const known = SetupIOPoll | SetupCQSize | SetupClamp | SetupAttachWQ | SetupRDisabled | SetupSubmitAll | SetupCoopTaskrun | SetupTaskrunFlag |
		SetupSQE128 | SetupCQE32 | SetupSingleIssuer | SetupDeferTaskrun | SetupSQPoll | SetupSQAff
	if p.Flags&SetupSQPoll != 0 && p.Flags&(SetupCoopTaskrun|SetupTaskrunFlag|SetupDeferTaskrun) != 0 || p.Flags&(SetupSQPoll|SetupSQAff) == SetupSQAff {
		return nil, nil, unix.EINVAL
	}
	if p.Flags&^known != 0 || p.SQEntries == 0 || p.Flags&SetupDeferTaskrun != 0 && p.Flags&SetupSingleIssuer == 0 ||
		p.Flags&SetupTaskrunFlag != 0 && p.Flags&(SetupCoopTaskrun|SetupDeferTaskrun) == 0 {
		return nil, nil, unix.EINVAL
	}
	clamp := p.Flags&SetupClamp != 0
	if p.SQEntries > maxEntries {
		if !clamp {
			return nil, nil, unix.EINVAL
		}
		p.SQEntries = maxEntries
	}
	r := &Ring{clock: c, errno: errno, flags: p.Flags, sqEntries: roundUp(p.SQEntries), sqeSize: sizeofSQE, cqeSize: 16,
		active: make(map[*Request]struct{}), byData: make(map[uint64]*Request), timeouts: make(map[*Request]struct{}), users: make(map[*task.Delegate]struct{}),
		disabled: p.Flags&SetupRDisabled != 0}
	r.cqEntries = 2 * r.sqEntries
	if p.Flags&SetupCQSize != 0 {
		if p.CQEntries == 0 || p.CQEntries > maxCQEntries && !clamp {
			return nil, nil, unix.EINVAL
		}
		if r.cqEntries = roundUp(min(p.CQEntries, maxCQEntries)); r.cqEntries < r.sqEntries {
			return nil, nil, unix.EINVAL
		}
	}
	if p.Flags&SetupSQE128 != 0 {
		r.sqeSize *= 2
	}
	if p.Flags&SetupCQE32 != 0 {
		r.cqeSize *= 2
	}
	if err := r.allocate(pool); err != nil {
		return nil, nil, err
	}
	if p.Flags&SetupSQPoll != 0 {
		r.put(offSQFlags, sqNeedWakeup)
	}
	return vfs.NewAnon("io_uring", r, owner, unix.O_RDWR), r, nil
}

// allocate makes the memory: ENOMEM.
func (r *Ring) allocate(pool *mem.Pool) (err error) {
	r.offArray = offCQEs + r.cqEntries*uint32(r.cqeSize)
	pagesFor := func(n uint64) uint64 { return (n + machine.PageSize - 1) / machine.PageSize }
	nring, nsqes := pagesFor(uint64(r.offArray)+4*uint64(r.sqEntries)), pagesFor(uint64(r.sqEntries)*r.sqeSize)
	r.cache = mem.NewShmem(pool)
	sealed := false
	r.cache.SetCharge(func(n int64) error {
		if sealed && n > 0 {
			return mem.ErrBeyondEOF // between the parts
		}
		return nil
	})
	if err = r.cache.Truncate(OffSQEs + int64(nsqes)*machine.PageSize); err == nil {
		if r.rings, err = r.pages(pool, 0, nring); err == nil {
			if r.sqes, err = r.pages(pool, OffSQEs/machine.PageSize, nsqes); err == nil {
				err = r.cache.Alias(OffCQRing/machine.PageSize, 0, nring)
			}
		}
	}
	sealed = true
	if err != nil {
		r.cache.Release()
		return err
	}
	for off, v := range map[uint32]uint32{offSQMask: r.sqEntries - 1, offCQMask: r.cqEntries - 1, offSQEntries: r.sqEntries, offCQEntries: r.cqEntries} {
		r.put(off, v)
	}
	return nil
}

func (r *Ring) pages(pool *mem.Pool, first, n uint64) ([]machine.Memory, error) {
	list := make([]machine.Memory, n)
	for i := range list {
		f, err := r.cache.Page(first+uint64(i), true)
		if err != nil {
			return nil, err
		}
		list[i] = machine.MemoryOf(pool.Bytes(f))
		pool.Unref(f) // the cache has it
	}
	return list, nil
}

// get and put access a field of the rings.
func (r *Ring) get(off uint32) uint32 {
	return r.rings[off/machine.PageSize].Load32(uint64(off % machine.PageSize))
}

func (r *Ring) put(off, v uint32) {
	r.rings[off/machine.PageSize].Store32(uint64(off%machine.PageSize), v)
}

// Of returns the ring that f is: EOPNOTSUPP.
func Of(f *vfs.File) (*Ring, error) {
	if r, ok := f.Ops().(*Ring); ok {
		return r, nil
	}
	return nil, unix.EOPNOTSUPP
}

// Map implements vfs.FileOps.
func (r *Ring) Map(*vfs.File) *mem.Cache { return r.cache }

// MapSize returns how many bytes a mapping at off may have: EINVAL.
func (r *Ring) MapSize(off uint64) (uint64, error) {
	switch off {
	case OffSQRing, OffCQRing:
		return uint64(len(r.rings)) * machine.PageSize, nil
	case OffSQEs:
		return uint64(len(r.sqes)) * machine.PageSize, nil
	}
	return 0, unix.EINVAL
}

// Poll implements vfs.FileOps: POLLIN when there is a completion, POLLOUT when there is room to submit.
func (r *Ring) Poll(_ *vfs.File, mask wait.Mask) (ready wait.Mask) {
	if r.Completions() > 0 {
		ready = unix.POLLIN | unix.EPOLLRDNORM
	}
	if r.get(offSQTail)-r.get(offSQHead) < r.sqEntries {
		ready |= unix.POLLOUT | unix.EPOLLWRNORM
	}
	return ready & mask
}

// Register implements vfs.FileOps.
func (r *Ring) Register(_ *vfs.File, e *wait.Entry) { r.queue.Add(e) }

// Unregister implements vfs.FileOps.
func (r *Ring) Unregister(_ *vfs.File, e *wait.Entry) { r.queue.Remove(e) }

// Release implements vfs.FileOps.
func (r *Ring) Release(*vfs.File) {
	r.mu.Lock()
	r.closed = true
	r.deferred, r.work = nil, nil
	event := r.event
	r.event = nil
	users := r.users
	r.users = nil
	r.mu.Unlock()
	for d := range users {
		d.OnEnd(r, nil)
	}
	r.cancelAll(func(*Request) bool { return true })
	r.res.release()
	if event != nil {
		event.DecRef()
	}
	r.cache.Release()
}

// use notes that d's process has something on its way in the ring.
func (r *Ring) use(d *task.Delegate) {
	r.mu.Lock()
	_, known := r.users[d]
	if !known && !r.closed {
		r.users[d] = struct{}{}
	}
	r.mu.Unlock()
	if !known {
		d.OnEnd(r, func() {
			r.mu.Lock()
			delete(r.users, d)
			r.mu.Unlock()
			r.cancelAll(func(q *Request) bool { return q.op.Delegate == d && q.Opcode != OpTimeout })
		})
	}
}

// A Range is a registered buffer.
type Range = mm.Range
