package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/eventfd"
	"gosv/kernel/share"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// Completions returns how many completions wait, those without room among them.
func (r *Ring) Completions() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unread() + uint32(len(r.overflow)+len(r.work))
}

// unread returns how many completions are in the ring. What the program writes as its head counts only within the ring's size.
//
// +checklocks:r.mu
func (r *Ring) unread() uint32 { return min(r.cqTail-r.get(offCQHead), r.cqEntries) }

// store puts a completion into the ring, which has room.
//
// +checklocks:r.mu
func (r *Ring) store(c cqe) {
	off := offCQEs + uint64(r.cqTail&(r.cqEntries-1))*r.cqeSize
	m, at := r.rings[off/machine.PageSize], off%machine.PageSize // a completion does not cross pages
	m.Store64(at, c.userData)
	m.Store32(at+8, uint32(c.res))
	m.Store32(at+12, c.flags)
	if r.cqeSize > 16 {
		m.Store64(at+16, 0)
		m.Store64(at+24, 0)
	}
	r.cqTail++
	r.put(offCQTail, r.cqTail)
}

// post gives the program a completion. Those for which the ring has no room wait in the kernel, and
// Flush brings them; ok is false when there are too many even for that, or the ring is closed.
// timeout: it is one of a timeout, which does not count for others. async: it did not complete while it was submitted.
func (r *Ring) post(c cqe, timeout, async bool) (ok bool) {
	return r.postThere(c, timeout, async, true)
}

// postIfRoom is post for a completion that is not the last of its request: ok is false when the ring has no room.
func (r *Ring) postIfRoom(c cqe, async bool) (ok bool) { return r.postThere(c, false, async, false) }

func (r *Ring) postThere(c cqe, timeout, async, mayWait bool) (ok bool) {
	if async && r.flags&SetupDeferTaskrun != 0 {
		return r.postLater(later{c, timeout}, mayWait)
	}
	return r.postNow(c, timeout, async, mayWait, false)
}

// later is a completion that comes into the ring when its owner next asks for completions (IORING_SETUP_DEFER_TASKRUN).
type later struct {
	c       cqe
	timeout bool
}

// postLater keeps a completion until Flush, and tells those who wait that there is one: ok is false when there are too many, or the ring is closed,
// or would have no room now and the completion may not wait for that.
func (r *Ring) postLater(l later, mayWait bool) (ok bool) {
	r.mu.Lock()
	waiting := uint32(len(r.work) + len(r.overflow))
	if r.closed.Load() || !mayWait && r.unread()+waiting >= r.cqEntries {
		r.mu.Unlock()
		return false
	}
	if !r.keep(len(r.work)) {
		r.mu.Unlock()
		return false
	}
	r.work = append(r.work, l)
	if r.flags&SetupTaskrunFlag != 0 {
		r.setSQFlag(sqTaskrun, true)
	}
	event := r.toSignal()
	r.mu.Unlock()
	r.tell(event)
	return true
}

// toSignal returns the eventfd that the ring signals, with a reference; nil when there is none, or the program has it disabled.
//
// +checklocks:r.mu
func (r *Ring) toSignal() *vfs.File {
	if r.event == nil || r.get(offCQFlags)&cqEventfdDisabled != 0 {
		return nil
	}
	r.event.IncRef()
	return r.event
}

// tell wakes who waits for completions, and signals event, which may be nil, and whose reference it takes.
func (r *Ring) tell(event *vfs.File) {
	r.queue.Notify(unix.POLLIN | unix.EPOLLRDNORM)
	if event != nil {
		eventfd.Signal(event)
		event.DecRef()
	}
}

// postWork puts what postLater kept into the ring.
func (r *Ring) postWork() {
	r.mu.Lock()
	work := r.work
	r.work = nil
	share.Rings.Give(waitingCost * int64(len(work)))
	if work != nil {
		r.setSQFlag(sqTaskrun, false)
	}
	r.mu.Unlock()
	for _, l := range work {
		r.postNow(l.c, l.timeout, true, true, true)
	}
}

// postNow is postThere but for what waits until it is asked for. told: who waits has been told.
func (r *Ring) postNow(c cqe, timeout, async, mayWait, told bool) (ok bool) {
	r.mu.Lock()
	if r.closed.Load() || !mayWait && (len(r.overflow) > 0 || r.unread() >= r.cqEntries) {
		r.mu.Unlock()
		return false
	}
	ok = true
	switch {
	case len(r.overflow) == 0 && r.unread() < r.cqEntries:
		r.store(c)
	case r.keep(len(r.overflow)):
		r.overflow = append(r.overflow, c)
		r.setSQFlag(sqCQOverflow, true)
	default:
		ok = false
	}
	var due []*Request
	if !timeout {
		r.posted++
		due = r.dueByCount()
	}
	var event *vfs.File
	if !told && (async || !r.asyncEv) {
		event = r.toSignal()
	}
	r.mu.Unlock()
	r.tell(event)
	for _, q := range due {
		q.timedOut(0)
	}
	return ok
}

// keep takes the room for a completion behind n others that wait. When there is none it is lost, which the ring tells.
//
// +checklocks:r.mu
func (r *Ring) keep(n int) bool {
	if n < maxOverflow && share.Rings.Take(waitingCost) {
		return true
	}
	r.put(offCQOverflow, r.get(offCQOverflow)+1)
	return false
}

// +checklocks:r.mu
func (r *Ring) setSQFlag(bit uint32, on bool) {
	v := r.get(offSQFlags) &^ bit
	if on {
		v |= bit
	}
	r.put(offSQFlags, v)
}

// Flush moves completions into the ring that found no room, or that waited for being asked for.
func (r *Ring) Flush() {
	r.postWork()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.overflow) && r.unread() < r.cqEntries {
		r.store(r.overflow[n])
		n++
	}
	if n == 0 {
		return
	}
	share.Rings.Give(waitingCost * int64(n))
	if r.overflow = r.overflow[n:]; len(r.overflow) == 0 {
		r.overflow = nil
		r.setSQFlag(sqCQOverflow, false)
	}
}

// Least returns how many completions somebody can wait for who asks for n.
func (r *Ring) Least(n uint32) uint32 { return min(n, r.cqEntries) }

// Ready returns how many completions are in the ring.
func (r *Ring) Ready() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unread()
}

// SetEvent registers f, an eventfd whose reference it takes over: EBUSY when there is one. nil unregisters: ENXIO when there is none.
func (r *Ring) SetEvent(f *vfs.File, onlyAsync bool) error {
	r.mu.Lock()
	old := r.event
	switch {
	case f != nil && old != nil:
		r.mu.Unlock()
		return unix.EBUSY
	case f == nil && old == nil:
		r.mu.Unlock()
		return unix.ENXIO
	}
	r.event, r.asyncEv = f, onlyAsync
	r.mu.Unlock()
	if old != nil {
		old.DecRef()
	}
	return nil
}
