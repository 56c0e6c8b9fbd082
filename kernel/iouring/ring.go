// Package iouring keeps the rings of io_uring(7): their memory, the order in which what is submitted starts
// (links, drains), what is on its way, timeouts, cancellation, completions, and registered files and buffers. What an operation
// does is package syscall's, and how it waits is package async's.
//
// The rings are memory of the program. Nothing in it is trusted: the kernel keeps its own
// positions and sizes; of what the program writes, the tail and the array of the submission ring, the submissions and the head of the
// completion ring are read, each once, and every index is masked. The layout is that of Linux's io_uring.h.
//
// What a program can make the kernel keep, requests, chains of them, provided buffers, completions without room, is bounded for each ring
// and by share.Rings for all, the rings themselves by share.Pages.
//
// Lock order: Ring.submit (held while operations start) → resources.mu, Ring.timing, Ring.mu, of which none is held with another; wait
// queues and clock below them. Operations are cancelled and completed with none of them but submit held.
package iouring

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/share"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

// The largest rings.
const (
	maxEntries   = 32768
	maxCQEntries = 2 * maxEntries
	// maxRequests bounds what is submitted to one ring and has not ended, and maxOverflow the completions that wait for room.
	maxRequests = 1 << 16
	maxOverflow = 1 << 17
)

// requestCost and waitingCost are what a request and a completion that waits for room take of share.Rings, in bytes.
const (
	requestCost = 1024
	waitingCost = 32
)

// Ring is an open ring.
type Ring struct {
	vfs.FileDefaults
	clock *clock.Clock
	errno func(error) unix.Errno
	flags uint32

	sqEntries uint32
	cqEntries uint32
	offArray  uint32
	sqeSize   uint64
	cqeSize   uint64

	cache *mem.Cache
	rings []machine.Memory // pages
	sqes  []machine.Memory

	queue wait.Queue // told of completions

	submit sync.Mutex
	// +checklocks:submit
	sqHead uint32
	// +checklocks:submit
	issuer int32 // the thread, with SetupSingleIssuer

	poller *task.Delegate // lends the task that submits, with SetupSQPoll; not changed
	credit *cred.Cred     // of that task; not changed

	res     resources
	timing  sync.Mutex    // serialises changes of requests' timers
	expired atomic.Uint32 // see Expired

	mu sync.Mutex
	// +checklocks:mu
	cqTail uint32
	// +checklocks:mu
	overflow []cqe
	// +checklocks:mu
	work []later // with SetupDeferTaskrun
	// +checklocks:mu
	posted uint32 // completions but those of timeouts
	// +checklocks:mu
	requests int // submitted and not ended
	// +checklocks:mu
	active map[*Request]struct{} // of them, those started
	// +checklocks:mu
	byData map[uint64]*Request // of them, the last with that user data, and through Request.same the others
	// +checklocks:mu
	draining int // of them, those with Drain
	// +checklocks:mu
	deferred []*Request // heads of chains that a drain holds up
	// +checklocks:mu
	counted map[*Request]struct{} // timeouts that end after so many completions
	// +checklocks:mu
	nearest uint32 // no target of them is before it
	// +checklocks:mu
	event *vfs.File // eventfd
	// +checklocks:mu
	asyncEv bool // only for what did not complete at once
	// +checklocks:mu
	disabled bool // until it is enabled
	// +checklocks:mu
	limits *Restrictions
	closed atomic.Bool // nobody has it open any more; written under mu
	// +checklocks:mu
	users map[*task.Delegate]struct{}
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
	if err := p.check(); err != nil {
		return nil, nil, err
	}
	r := &Ring{clock: c, errno: errno, flags: p.Flags, sqEntries: p.SQEntries, cqEntries: p.CQEntries, sqeSize: sizeofSQE, cqeSize: sizeofCQE,
		active: make(map[*Request]struct{}), byData: make(map[uint64]*Request), counted: make(map[*Request]struct{}), users: make(map[*task.Delegate]struct{}),
		disabled: p.Flags&SetupRDisabled != 0}
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

// check sees to it that the flags go together, and makes the sizes what the ring will have: EINVAL.
func (p *Params) check() error {
	const known = SetupIOPoll | SetupCQSize | SetupClamp | SetupAttachWQ | SetupRDisabled | SetupSubmitAll | SetupCoopTaskrun | SetupTaskrunFlag |
		SetupSQE128 | SetupCQE32 | SetupSingleIssuer | SetupDeferTaskrun | SetupSQPoll | SetupSQAff
	has := func(bits uint32) bool { return p.Flags&bits != 0 }
	switch {
	case has(^uint32(known)), p.SQEntries == 0,
		has(SetupSQPoll) && has(SetupCoopTaskrun|SetupTaskrunFlag|SetupDeferTaskrun),
		has(SetupSQAff) && !has(SetupSQPoll),
		has(SetupDeferTaskrun) && !has(SetupSingleIssuer),
		has(SetupTaskrunFlag) && !has(SetupCoopTaskrun|SetupDeferTaskrun):
		return unix.EINVAL
	}
	if !has(SetupClamp) && (p.SQEntries > maxEntries || has(SetupCQSize) && p.CQEntries > maxCQEntries) {
		return unix.EINVAL
	}
	p.SQEntries = roundUp(min(p.SQEntries, maxEntries))
	if !has(SetupCQSize) {
		p.CQEntries = 2 * p.SQEntries
		return nil
	}
	if p.CQEntries == 0 {
		return unix.EINVAL
	}
	if p.CQEntries = roundUp(min(p.CQEntries, maxCQEntries)); p.CQEntries < p.SQEntries {
		return unix.EINVAL
	}
	return nil
}

// Of returns the ring that f is: EOPNOTSUPP.
func Of(f *vfs.File) (*Ring, error) {
	if r, ok := f.Ops().(*Ring); ok {
		return r, nil
	}
	return nil, unix.EOPNOTSUPP
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
	r.closed.Store(true)
	for _, head := range r.deferred {
		for q := head; q != nil; q = q.next {
			r.dismiss(q)
		}
	}
	share.Rings.Give(waitingCost * int64(len(r.work)+len(r.overflow)))
	r.deferred, r.work, r.overflow = nil, nil, nil
	event, users := r.event, r.users
	r.event, r.users = nil, nil
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
	share.Pages.Give(r.bytes())
}

// use notes that d's process has something on its way in the ring.
func (r *Ring) use(d *task.Delegate) {
	r.mu.Lock()
	_, known := r.users[d]
	fresh := !known && !r.closed.Load()
	if fresh {
		r.users[d] = struct{}{}
	}
	r.mu.Unlock()
	if fresh {
		d.OnEnd(r, func() {
			r.mu.Lock()
			delete(r.users, d)
			r.mu.Unlock()
			r.cancelAll(func(q *Request) bool { return q.op.Delegate == d && q.Opcode != OpTimeout })
		})
	}
}
