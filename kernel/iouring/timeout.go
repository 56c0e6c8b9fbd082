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

// arm has fire called when q's time has come, unless q has ended.
func (q *Request) arm(fire func()) {
	q.Ring.timing.Lock()
	defer q.Ring.timing.Unlock()
	if q.fired.Load() {
		return
	}
	q.timer.Init(q.Ring.clock, fire)
	q.set()
}

// set sets q's timer. Ring.timing is held.
func (q *Request) set() {
	t := q.Timeout
	switch {
	case t.Flags&TimeoutAbs == 0:
		q.timer.Set(q.Ring.clock.After(t.NS))
	case t.Flags&TimeoutRealtime != 0:
		q.timer.SetWall(max(t.NS, 1))
	default:
		q.timer.Set(max(t.NS, 1))
	}
}

// disarm stops q's timer; q.fired is set, so that nobody arms it again.
func (q *Request) disarm() {
	q.Ring.timing.Lock()
	defer q.Ring.timing.Unlock()
	q.timer.Stop()
}

// startTimeout starts a timeout: it ends after Off completions, or when its time has come.
func (q *Request) startTimeout() {
	if q.Off != 0 {
		q.Ring.count(q)
	}
	q.arm(func() { q.timedOut(-int32(unix.ETIME)) })
}

// count has q end after Off more completions, unless it has ended.
func (r *Ring) count(q *Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.fired.Load() {
		return
	}
	q.target = r.posted + uint32(q.Off)
	if len(r.counted) == 0 || int32(q.target-r.nearest) < 0 {
		r.nearest = q.target
	}
	r.counted[q] = struct{}{}
}

// Expired returns how many timeouts have ended by their time or count: one more ends any wait for completions.
func (r *Ring) Expired() uint32 { return r.expired.Load() }

// dueByCount returns the timeouts that have seen enough completions.
//
// +checklocks:r.mu
func (r *Ring) dueByCount() (due []*Request) {
	if len(r.counted) == 0 || int32(r.posted-r.nearest) < 0 {
		return nil
	}
	first := true
	for q := range r.counted {
		if int32(r.posted-q.target) >= 0 {
			due = append(due, q)
			delete(r.counted, q)
			continue
		}
		if first || int32(q.target-r.nearest) < 0 {
			r.nearest, first = q.target, false
		}
	}
	return due
}

// timedOut ends a timeout: 0 by its count, -ETIME by its time, -ECANCELED.
func (q *Request) timedOut(res int32) bool {
	if q.fired.Swap(true) {
		return false
	}
	q.disarm()
	r := q.Ring
	r.mu.Lock()
	delete(r.counted, q)
	r.mu.Unlock()
	if res != -int32(unix.ECANCELED) {
		r.expired.Add(1)
	}
	failed := res < 0 && !(res == -int32(unix.ETIME) && q.Timeout.Flags&TimeoutEtimeSuccess != 0)
	q.finish(res, 0, failed)
	return true
}

// watch arms the link timeout g, once.
func (g *Request) watch() {
	if !g.armed {
		g.armed = true
		g.arm(func() { g.op.Delegate.Go(g.strike) })
	}
}

// strike is the end of a link timeout: it cancels what it is on.
func (g *Request) strike() {
	if g.fired.Swap(true) {
		return
	}
	r := g.Ring
	r.mu.Lock()
	q := g.guarded
	r.mu.Unlock()
	res := -int32(unix.ETIME)
	if err := q.cancel(); err != nil {
		res = result(0, err, r.errno)
	}
	if g.Flags&SkipSuccess == 0 { // to strike is no failure
		r.post(cqe{g.UserData, res, 0}, true, true)
	}
}

// unwatch ends the link timeout because what it is on has completed.
func (g *Request) unwatch() {
	if g.fired.Swap(true) {
		return
	}
	g.disarm()
	res := -int32(unix.ECANCELED)
	switch {
	case g.failure != nil:
		res = result(0, g.failure, g.Ring.errno)
	case g.Flags&SkipSuccess != 0: // this is how it should end
		return
	}
	g.Ring.post(cqe{g.UserData, res, 0}, true, true)
}

// RemoveTimeout cancels the timeout with that user data: ENOENT.
func (r *Ring) RemoveTimeout(userData uint64) error {
	if q := r.timeout(userData); q != nil && q.timedOut(-int32(unix.ECANCELED)) {
		return nil
	}
	return unix.ENOENT
}

// UpdateTimeout gives a timeout, or with link a link timeout, another time: ENOENT.
func (r *Ring) UpdateTimeout(userData uint64, t Timeout, link bool) error {
	q := r.timeout(userData)
	if link {
		q = r.linkTimeout(userData)
	}
	r.timing.Lock()
	defer r.timing.Unlock()
	if q == nil || !q.timer.Stop() {
		return unix.ENOENT
	}
	q.Timeout.NS, q.Timeout.Flags = t.NS, q.Timeout.Flags&TimeoutEtimeSuccess|t.Flags
	q.set()
	return nil
}

// timeout returns the oldest timeout with that user data, nil when there is none.
func (r *Ring) timeout(userData uint64) *Request {
	list := r.with(userData, func(q *Request) bool { return q.Opcode == OpTimeout && !q.fired.Load() })
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

// linkTimeout returns a link timeout with that user data on a request that is active.
func (r *Ring) linkTimeout(userData uint64) *Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.active {
		if g := q.guard; g != nil && g.UserData == userData && !g.fired.Load() {
			return g
		}
	}
	return nil
}
