// Package async runs operations on files for programs that do not wait for them:
// the common part of Linux AIO (io_submit(2)) and io_uring(7).
//
// An operation is a system call's handler. It is tried by the task that submits it; when it
// would have to wait for a file, an entry goes on the file's wait queue and nobody waits: when the file becomes
// ready, a goroutine tries again with a task that the process's delegate lends. What would wait for
// something else, and what is told to be slow, has a goroutine and such a task for itself.
//
// An operation ends once: it calls its Done, without any lock, on whatever goroutine ended it.
//
// Lock order: Op.mu is a leaf; wait.Queue's comes before the (atomic) state and the delegate's.
package async

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Call is a system call's handler with its arguments.
type Call func(*task.Task) (uint64, error)

// An Op is one operation. Its exported fields are set before Start and not changed.
type Op struct {
	Delegate *task.Delegate
	Cred     *cred.Cred
	// File is what task.GivenFD stands for in Call, nil for none. The Op owns a reference.
	File *vfs.File
	Call Call
	// Done gets the result, once.
	Done func(v uint64, err error)
	// More, if not nil, gets every result that is not an error; the operation goes on as long as
	// it returns true. What it returns false for is Done's.
	More func(v uint64) bool
	// Edge, with More, makes the next try wait for the file's queue to be told: what is still ready does not count.
	Edge bool
	// Slow operations begin on a goroutine of their own: they may take long without waiting for a file.
	Slow bool
	// Patient operations wait where Call says EAGAIN, as for a socket with O_NONBLOCK: for these events. 0: they do not.
	Patient wait.Mask
	// Nowait operations do not wait: EAGAIN.
	Nowait bool

	state atomic.Uint32
	armed bool // belongs to who runs
	entry wait.Entry

	mu     sync.Mutex
	worker *task.Task // guarded by mu
}

// States of an Op, as bits. Who sets running runs it.
const (
	running   = 1 << iota
	wanted    // told while it ran: try again
	cancelled // to end
	ended
)

// Init makes Cancel possible before Start: what was cancelled ends when it is started.
func (o *Op) Init() { o.state.CompareAndSwap(0, running) }

// Start begins the operation on behalf of t, on its goroutine. Done may be called before it returns.
func (o *Op) Start(t *task.Task) {
	o.Init()
	if o.Slow {
		o.resume()
		return
	}
	o.run(t)
}

// Ready implements wait.Waiter.
func (o *Op) Ready(*wait.Entry, wait.Mask) {
	for {
		s := o.state.Load()
		if s&(ended|wanted) != 0 {
			return
		}
		if o.state.CompareAndSwap(s, s|running|wanted) {
			if s&running == 0 {
				o.resume()
			}
			return
		}
	}
}

// resume runs the operation with a task that the delegate lends.
func (o *Op) resume() { o.Delegate.GoDo(task.Bounded, o, o.Cred, o.run, o.failed) }

func (o *Op) failed(err error) { o.end(0, err) }

// run tries until the operation has ended or waits for its file.
func (o *Op) run(t *task.Task) {
	for {
		if s := o.state.And(^uint32(wanted)); s&cancelled != 0 {
			o.end(0, unix.ECANCELED)
			return
		}
		if o.Edge && !o.armed {
			o.arm(unix.POLLERR | unix.POLLHUP | o.Patient)
		}
		v, err := t.Try(o.File, o.Call)
		obj, mask := t.Would()
		if err == unix.EAGAIN && o.Patient != 0 {
			obj, mask, err = o.File, o.Patient|unix.POLLERR|unix.POLLHUP, task.ErrWouldWait
		}
		switch {
		case err == nil && o.More != nil:
			if !o.More(v) {
				o.end(v, nil)
				return
			}
			if !o.Edge {
				continue
			}
		case err != task.ErrWouldWait:
			o.end(v, err)
			return
		case o.Nowait:
			o.end(0, unix.EAGAIN)
			return
		case o.File == nil || obj != task.Pollable(o.File):
			o.Delegate.GoDo(task.Unbounded, o, o.Cred, o.wait, o.failed)
			if o.state.Load()&cancelled != 0 && o.Delegate.Forget(o) { // Cancel came before it was there to forget
				o.end(0, unix.ECANCELED)
			}
			return
		case !o.armed || o.entry.Events != mask:
			o.arm(mask)
			continue // it may have become ready before
		}
		if o.state.CompareAndSwap(running, 0) {
			return
		}
	}
}

func (o *Op) arm(mask wait.Mask) {
	if o.armed {
		o.File.Unregister(&o.entry)
	}
	o.armed = true
	o.entry = wait.Entry{Waiter: o, Events: mask}
	o.File.Register(&o.entry)
}

// wait runs the operation with a task that waits.
func (o *Op) wait(t *task.Task) {
	o.mu.Lock()
	o.worker = t
	o.mu.Unlock()
	if o.state.Load()&cancelled != 0 {
		t.Abort()
	}
	v, err := t.Serve(o.File, o.Call)
	if err != nil && t.Killed() {
		v, err = 0, unix.ECANCELED
	}
	o.mu.Lock()
	o.worker = nil
	o.mu.Unlock()
	o.end(v, err)
}

// end ends the operation, which the caller runs. It may be called again after a panic in it, and does nothing then.
func (o *Op) end(v uint64, err error) {
	if o.state.Swap(ended)&ended != 0 {
		return
	}
	o.disarm()
	if o.File != nil {
		o.File.DecRef()
	}
	o.Done(v, err)
}

func (o *Op) disarm() {
	if o.armed {
		o.File.Unregister(&o.entry)
	}
}

// Withdraw ends an operation that waits, and Done is not called: the caller gets the reference to its file. EALREADY when it
// is being tried or runs: it goes on; ENOENT when it has ended.
func (o *Op) Withdraw() (*vfs.File, error) {
	for {
		s := o.state.Load()
		switch {
		case s&ended != 0:
			return nil, unix.ENOENT
		case s&running != 0:
			return nil, unix.EALREADY
		case o.state.CompareAndSwap(s, ended):
			o.disarm()
			return o.File, nil
		}
	}
}

// Cancel ends an operation that waits, for its file or for a worker, with ECANCELED: Done was called when it returns nil. EALREADY when it
// is being tried, or runs on a goroutine of its own: it ends soon if it can, perhaps with another result; ENOENT when it has ended.
func (o *Op) Cancel() error {
	for {
		s := o.state.Load()
		if s&ended != 0 {
			return unix.ENOENT
		}
		if !o.state.CompareAndSwap(s, s|running|wanted|cancelled) {
			continue
		}
		if s&running == 0 {
			o.end(0, unix.ECANCELED)
			return nil
		}
		if o.Delegate.Forget(o) {
			o.end(0, unix.ECANCELED)
			return nil
		}
		o.mu.Lock()
		if o.worker != nil {
			o.worker.Abort()
		}
		o.mu.Unlock()
		return unix.EALREADY
	}
}
