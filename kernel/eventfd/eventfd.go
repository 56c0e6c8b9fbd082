// Package eventfd makes the counters of eventfd(2).
package eventfd

import (
	"math"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// most is the largest value that a write may reach.
const most = math.MaxUint64 - 1

// Counter is what an eventfd holds.
type Counter struct {
	vfs.FileDefaults
	semaphore bool
	queue     wait.Queue

	mu sync.Mutex
	n  atomic.Uint64 // grows under mu only
}

// New is eventfd2(2) without the descriptor. flags: EFD_SEMAPHORE, EFD_NONBLOCK; EFD_CLOEXEC is for the
// descriptor. The caller has checked them.
func New(_ *vfs.Namespace, c *cred.Cred, n uint64, flags int) *vfs.File {
	e := &Counter{semaphore: flags&unix.EFD_SEMAPHORE != 0}
	e.n.Store(n)
	return vfs.NewAnon("eventfd", e, c, unix.O_RDWR|flags&unix.O_NONBLOCK)
}

// Of returns the counter of f, nil when f is no eventfd.
func Of(f *vfs.File) *Counter {
	e, _ := f.Ops().(*Counter)
	return e
}

// Signal adds 1 to the counter of f, an eventfd, in the kernel's name; not to one that is full (Linux's eventfd_signal).
func Signal(f *vfs.File) {
	e := f.Ops().(*Counter)
	e.mu.Lock()
	if e.n.Load() < math.MaxUint64 {
		e.n.Add(1)
	}
	e.mu.Unlock()
	e.queue.Notify(unix.EPOLLIN)
}

// Take is read(2): EAGAIN while the counter is 0.
func (e *Counter) Take() (uint64, error) {
	for {
		n := e.n.Load()
		if n == 0 {
			return 0, unix.EAGAIN
		}
		v := n
		if e.semaphore {
			v = 1
		}
		if e.n.CompareAndSwap(n, n-v) {
			e.queue.Notify(unix.EPOLLOUT)
			return v, nil
		}
	}
}

// Add is write(2): EINVAL for all ones, EAGAIN when the sum would be too large.
func (e *Counter) Add(v uint64) error {
	e.mu.Lock()
	n := e.n.Load()
	if fits := n < most && v <= most-n; !fits {
		e.mu.Unlock()
		if v == math.MaxUint64 && n < most {
			return unix.EINVAL
		}
		return unix.EAGAIN
	}
	e.n.Add(v)
	e.mu.Unlock()
	e.queue.Notify(unix.EPOLLIN)
	return nil
}

// Read implements vfs.FileOps: EINVAL for less than 8 bytes.
func (e *Counter) Read(_ *vfs.File, dst uio.Sink, _ int64) (int64, error) {
	if dst.Left() < 8 {
		return 0, unix.EINVAL
	}
	v, err := e.Take()
	if err != nil {
		return 0, err
	}
	if dst.PutWord(v) != nil {
		return 0, unix.EFAULT
	}
	return 8, nil
}

// Write implements vfs.FileOps: EINVAL for less than 8 bytes and for all ones. It takes from src only what can be added, so that
// a caller that waits can try again with the same source.
func (e *Counter) Write(_ *vfs.File, src uio.Source, _ int64) (int64, error) {
	if src.Left() < 8 {
		return 0, unix.EINVAL
	}
	e.mu.Lock()
	n := e.n.Load()
	if n >= most { // nothing but 0 could be added
		e.mu.Unlock()
		return 0, unix.EAGAIN
	}
	v, err := src.TakeWord(most - n)
	switch {
	case err != nil:
		err = unix.EFAULT
	case v == math.MaxUint64:
		err = unix.EINVAL
	case v > most-n:
		err = unix.EAGAIN
	default:
		e.n.Add(v)
	}
	e.mu.Unlock()
	if err != nil {
		return 0, err
	}
	e.queue.Notify(unix.EPOLLIN)
	return 8, nil
}

// Poll implements vfs.FileOps.
func (e *Counter) Poll(_ *vfs.File, mask wait.Mask) (ready wait.Mask) {
	n := e.n.Load()
	if n > 0 {
		ready |= unix.EPOLLIN
	}
	if n < most {
		ready |= unix.EPOLLOUT
	}
	return ready & mask
}

// Register implements vfs.FileOps.
func (e *Counter) Register(_ *vfs.File, w *wait.Entry) { e.queue.Add(w) }

// Unregister implements vfs.FileOps.
func (e *Counter) Unregister(_ *vfs.File, w *wait.Entry) { e.queue.Remove(w) }

// FDInfo is what /proc/PID/fdinfo shows.
func (e *Counter) FDInfo() string {
	return "eventfd-count: " + strconv.FormatUint(e.n.Load(), 16) + "\n"
}
