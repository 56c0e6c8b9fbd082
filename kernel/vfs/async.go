package vfs

import (
	"sync/atomic"

	"gosv/kernel/wait"
)

// async is the interest that O_ASYNC expresses.
type async struct {
	f       *File
	entry   wait.Entry
	pending atomic.Uint32 // events that were not told yet
	tell    func(f *File, events wait.Mask)
}

// Ready implements wait.Waiter. What is told may take locks that the waker holds, so a goroutine does it.
func (a *async) Ready(_ *wait.Entry, events wait.Mask) {
	if a.pending.Or(uint32(events)) == 0 {
		go a.run()
	}
}

func (a *async) run() {
	events := wait.Mask(a.pending.Swap(0))
	if a.f.async.Load() == a {
		a.tell(a.f, events)
	}
}

// SetAsync has tell called for events on f until it is set to nil, or f is closed (O_ASYNC, FIOASYNC). It runs on a goroutine
// of its own, some time after the events, which it gets together.
func (f *File) SetAsync(events wait.Mask, tell func(f *File, events wait.Mask)) {
	var a *async
	if tell != nil {
		a = &async{f: f, tell: tell}
		a.entry = wait.Entry{Waiter: a, Events: events}
		f.Register(&a.entry)
	}
	f.endAsync(f.async.Swap(a))
}

func (f *File) endAsync(a *async) {
	if a != nil {
		f.Unregister(&a.entry)
	}
}
