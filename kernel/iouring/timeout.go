package iouring

import (
	"golang.org/x/sys/unix"
)

// Flags of timeouts.
const (
	TimeoutAbs          = 1 << 0
	TimeoutUpdate       = 1 << 1
	TimeoutBoottime     = 1 << 2
	TimeoutRealtime     = 1 << 3
	LinkTimeoutUpdate   = 1 << 4
	TimeoutEtimeSuccess = 1 << 5
)

// A Timeout is when a timeout request ends.
type Timeout struct {
	NS    int64 // a span, or with TimeoutAbs a moment
	Flags uint32
}

// set arms q's timer.
func (q *Request) set(fire func()) {
	c := q.Ring.clock
	q.timer.Init(c, fire)
	t := q.Timeout
	switch {
	case t.Flags&TimeoutAbs == 0:
		q.timer.Set(c.After(t.NS))
	case t.Flags&TimeoutRealtime != 0:
		q.timer.SetWall(max(t.NS, 1))
	default:
		q.timer.Set(max(t.NS, 1))
	}
}

// startTimeout starts a timeout: it ends after Off completions, or when its time has come.
func (q *Request) startTimeout() {
	r := q.Ring
	r.mu.Lock()
	if q.fired.Load() { // cancelled already
		r.mu.Unlock()
		return
	}
	if q.Off != 0 {
		q.counted = true
		q.target = r.posted + uint32(q.Off)
	}
	r.timeouts[q] = struct{}{}
	r.mu.Unlock()
	q.set(func() { q.timedOut(-int32(unix.ETIME)) })
}

// Expired returns how many timeouts have ended by their time or count: one more ends any wait for completions.
func (r *Ring) Expired() uint32 { return r.expired.Load() }

// dueByCount returns the timeouts that have seen enough completions. r.mu is held.
func (r *Ring) dueByCount() (due []*Request) {
	for q := range r.timeouts {
		if q.counted && int32(r.posted-q.target) >= 0 {
			due = append(due, q)
			q.counted = false
		}
	}
	return due
}

// timedOut ends a timeout: 0 by its count, -ETIME by its time, -ECANCELED.
func (q *Request) timedOut(res int32) bool {
	if q.fired.Swap(true) {
		return false
	}
	q.timer.Stop()
	r := q.Ring
	r.mu.Lock()
	delete(r.timeouts, q)
	r.mu.Unlock()
	if res != -int32(unix.ECANCELED) {
		r.expired.Add(1)
	}
	failed := res < 0 && !(res == -int32(unix.ETIME) && q.Timeout.Flags&TimeoutEtimeSuccess != 0)
	q.finish(res, 0, failed)
	return true
}

// strike is the end of a link timeout: it cancels what it is on.
func (g *Request) strike() {
	if g.fired.Swap(true) {
		return
	}
	res := -int32(unix.ETIME)
	if g.guarded.cancel() == unix.ENOENT {
		res = -int32(unix.ENOENT)
	}
	if g.Flags&SkipSuccess == 0 { // to strike is no failure
		g.Ring.post(cqe{g.UserData, res, 0}, true, true)
	}
}

// unwatch ends the link timeout because what it is on has completed.
func (g *Request) unwatch() {
	if g.fired.Swap(true) {
		return
	}
	if g.counted {
		g.timer.Stop()
	}
	res := -int32(unix.ECANCELED)
	switch {
	case g.failure != nil:
		res = result(0, g.failure, g.Ring.errno)
	case g.Flags&SkipSuccess != 0: // this is how it should end
		return
	}
	g.Ring.post(cqe{g.UserData, res, 0}, true, true)
}

// RemoveTimeout cancels the timeout with that user data: ENOENT, EBUSY.
func (r *Ring) RemoveTimeout(userData uint64) error {
	if q := r.timeout(userData); q != nil && q.timedOut(-int32(unix.ECANCELED)) {
		return nil
	}
	return unix.ENOENT
}

// UpdateTimeout gives a timeout, or with link a link timeout, another time: ENOENT.
func (r *Ring) UpdateTimeout(userData uint64, t Timeout, link bool) error {
	var q *Request
	if link {
		r.mu.Lock()
		for a := range r.active {
			if a.guard != nil && a.guard.UserData == userData && !a.guard.fired.Load() {
				q = a.guard
			}
		}
		r.mu.Unlock()
	} else {
		q = r.timeout(userData)
	}
	r.timing.Lock()
	defer r.timing.Unlock()
	if q == nil || !q.timer.Stop() {
		return unix.ENOENT
	}
	q.Timeout.NS, q.Timeout.Flags = t.NS, q.Timeout.Flags&TimeoutEtimeSuccess|t.Flags
	if link {
		q.set(func() { q.op.Delegate.Go(q.strike) })
	} else {
		q.set(func() { q.timedOut(-int32(unix.ETIME)) })
	}
	return nil
}

func (r *Ring) timeout(userData uint64) *Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.timeouts {
		if q.UserData == userData {
			return q
		}
	}
	return nil
}
