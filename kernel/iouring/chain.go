package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

// A chain is requests that follow each other by Request.next (IOSQE_IO_LINK, IOSQE_IO_HARDLINK). Its head is active; what follows becomes
// so when what is before it has ended. Request.guard, the timeout on a request, is not a part of it.

// append puts q behind last, or makes it its link timeout.
func (last *Request) append(q *Request) {
	if last.Opcode == OpLinkTimeout && last.guarded != nil {
		last = last.guarded
	} else if q.Opcode == OpLinkTimeout {
		last.guard, q.guarded = q, last
		return
	}
	last.next = q
}

// begin starts a chain, or leaves it for later when a drain is in the way.
//
// +checklocks:r.submit
func (r *Ring) begin(t *task.Task, head *Request) {
	if head.failure != nil { // nothing of such a chain is done
		for n := head.next; n != nil; n = n.next {
			if n.failure == nil {
				n.failure = unix.ECANCELED
			}
		}
	}
	r.mu.Lock()
	if len(r.deferred) > 0 || r.draining > 0 || head.drains() && len(r.active) > 0 {
		r.deferred = append(r.deferred, head)
		r.mu.Unlock()
		return
	}
	r.enter(head)
	r.mu.Unlock()
	r.chain(t, head)
}

// drains reports whether one of a chain has Drain.
func (q *Request) drains() bool {
	for ; q != nil; q = q.next {
		if q.Flags&Drain != 0 {
			return true
		}
	}
	return false
}

// chain starts q, which is active, and those behind it as long as they complete at once.
func (r *Ring) chain(t *task.Task, q *Request) {
	for q != nil {
		q.op.Init()
		q.live.Store(true)
		if q.failure == nil && r.closed.Load() { // Release has seen what is live, and nothing else
			q.failure = unix.ECANCELED
		}
		if q.guard != nil {
			q.guard.watch()
		}
		q.start(t)
		if q.phase.CompareAndSwap(starting, pending) {
			return
		}
		q = q.next
	}
	r.undefer()
}

// sever cancels what follows q in its chain: without completions when q's is the only one that the program wants.
func (q *Request) sever(late bool) {
	r, silent := q.Ring, q.Flags&SkipSuccess != 0
	for n := q.next; n != nil; n = n.next {
		if !silent {
			res := -int32(unix.ECANCELED)
			if n.failure != nil && n.failure != unix.ECANCELED {
				res = result(0, n.failure, r.errno)
			}
			r.post(cqe{n.UserData, res, 0}, false, late)
			if g := n.guard; g != nil {
				r.post(cqe{g.UserData, -int32(unix.ECANCELED), 0}, true, late)
			}
		}
		r.mu.Lock()
		r.dismiss(n)
		r.mu.Unlock()
	}
	q.next = nil
}

// proceed goes on after q, which completed after its start, and with what a drain held up.
func (q *Request) proceed() {
	if q.next != nil {
		q.next.resume()
		return
	}
	q.Ring.undefer()
}

// undefer starts chains that a drain held up and that may go now.
func (r *Ring) undefer() {
	for {
		r.mu.Lock()
		if len(r.deferred) == 0 || r.draining > 0 || r.deferred[0].drains() && len(r.active) > 0 {
			r.mu.Unlock()
			return
		}
		head := r.deferred[0]
		r.deferred = r.deferred[1:]
		r.enter(head)
		r.mu.Unlock()
		head.resume()
	}
}

// resume starts a chain, or the rest of one, with a task that the process lends.
func (q *Request) resume() {
	q.op.Delegate.GoDo(task.Bounded, q, q.op.Cred, func(t *task.Task) { q.Ring.chain(t, q) }, q.abandon)
}

// abandon ends a chain whose process has ended.
func (q *Request) abandon(err error) {
	r := q.Ring
	for ; q != nil; q = q.next {
		if q.phase.Load() != starting { // a panic ended it in the middle
			return
		}
		q.failure = err
		q.complete(0, err)
	}
	r.undefer()
}
