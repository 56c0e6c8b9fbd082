package task

import "slices"

// Who holds which slot. A thread gives its slot up when it sleeps, when it ends, and when it is asked to: a bit of its flags, and a
// Kick. What it does in the kernel before its turn, or after it, is not held up; nor are the kernel's own goroutines.
//
// A thread that holds a slot may sleep in the kernel without saying so, for a disk. While others wait, each holder is kicked every
// tick, and loses its slot when it has not come by for some, and is in the kernel.
//
// When real-time threads have had sched_rt_runtime_us of sched_rt_period_us on a slot, it is closed to them until the period ends.

const (
	tickInterval = 4_000_000 // ns
	// missedMost is after how many ticks a slot is taken from a thread that sleeps with it, and missedEver from one
	// that does not come for another reason.
	missedMost = 25
	missedEver = 500
)

// slot is a processor.
type slot struct {
	task      *Task
	asked     bool
	missed    int   // ticks at which task had not come by
	used      int64 // ns of real-time threads in this period
	throttled bool
}

// takeTurn waits until t may run its program, or is to end.
func (t *Task) takeTurn() {
	s := &t.k.turns
	if s.arrive(t) {
		return
	}
	t.stepsBack()
	for {
		t.turn.park.Park()
		// A turn may have come and gone while the goroutine waited for the runtime.
		if f := t.flags.Load(); f&workTurn == 0 || f&workKill != 0 || s.arrive(t) {
			break
		}
	}
	t.begin()
	s.begin(t)
	if t.flags.Load()&workKill != 0 {
		s.release(t)
	}
}

// begin says that t, which has a slot, uses it from now on: what passed until its goroutine ran is nobody's time.
func (s *turns) begin(t *Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.turn.since, t.turn.due = s.k.Clock.Now(), false
	t.turn.seen.Store(true)
}

// arrive says that t is about to go to its program, and reports whether it may.
func (s *turns) arrive(t *Task) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.turn.seen.Store(true)
	t.turn.due = false
	if !s.active.Load() {
		t.flags.And(^uint32(workTurn))
		return true
	}
	now := s.k.Clock.Now()
	switch {
	case t.flags.Load()&workTurn == 0:
		return true
	case t.turn.held.Load():
		s.giveUp(t, now)
	case !t.turn.queued.Load():
		s.enqueue(t, false)
	}
	s.dispatch(now)
	if t.turn.held.Load() {
		t.turn.due = false
		return true
	}
	t.turn.due = true
	return false
}

// giveUp puts t, which was asked for its slot, back into the queue. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) giveUp(t *Task, now int64) {
	s.account(t, now)
	s.slots[t.turn.slot].task = nil
	t.turn.held.Store(false)
	front := true
	if t.turn.policy == SchedRR && t.turn.slice <= 0 {
		front = false
	}
	if t.turn.yields {
		front = false
		if next := s.best(t.turn.slot); next != nil && !next.turn.rt.Load() {
			t.turn.vtime = max(t.turn.vtime, next.turn.vtime+1)
		}
	}
	t.turn.yields = false
	s.enqueue(t, front)
}

// enqueue makes t wait for a slot, in front of its equals or behind them. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) enqueue(t *Task, front bool) {
	s.catchUp()
	t.turn.vtime = min(t.turn.vtime, s.vtime+debt)
	if t.turn.stolen { // it goes on where it was
		t.turn.order = s.first - 1<<40
	} else if front {
		s.first--
		t.turn.order = s.first
	} else {
		s.last++
		t.turn.order = s.last
		if t.turn.slice <= 0 {
			t.turn.slice = s.slice
		}
		t.turn.vtime = max(t.turn.vtime, s.vtime-bonus)
	}
	t.turn.queued.Store(true)
	t.flags.Or(workTurn)
	s.queue = append(s.queue, t)
}

// woken is called when t is ready to run: when it is new, and when it has a real-time policy and is woken up, for it may be
// more important than who runs.
func (s *turns) woken(t *Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active.Load() && !t.turn.gone && !t.turn.queued.Load() && !t.turn.held.Load() {
		s.enqueue(t, false)
		s.dispatch(s.k.Clock.Now())
	}
}

// release gives t's slot up since it is going to sleep or to end.
func (s *turns) release(t *Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active.Load() {
		t.turn.stolen = false
		s.drop(t)
		s.dispatch(s.k.Clock.Now())
	}
}

// yield is sched_yield(2); it reports whether t is to wait for its turn.
func (s *turns) yield(t *Task) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.active.Load() || !t.turn.held.Load() {
		return false
	}
	next := s.best(t.turn.slot)
	if next == nil || t.turn.rt.Load() && (!next.turn.rt.Load() || next.turn.priority < t.turn.priority) {
		return false
	}
	t.turn.yields = true
	s.ask(t)
	return true
}

// drop takes t's slot, and its place in the queue. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) drop(t *Task) {
	if t.turn.held.Load() {
		s.account(t, s.k.Clock.Now())
		s.slots[t.turn.slot].task = nil
		t.turn.held.Store(false)
		t.flags.Or(workTurn)
	}
	if t.turn.queued.Load() {
		t.turn.queued.Store(false)
		s.queue = slices.DeleteFunc(s.queue, func(o *Task) bool { return o == t })
	}
}

// best returns who is next for slot i, nil if nobody waits for it. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) best(i int) (best *Task) {
	for _, t := range s.queue {
		if s.allows(i, t) && (best == nil || t.before(best)) {
			best = t
		}
	}
	return best
}

// dispatch gives the free slots to those who are next, and asks for those that somebody holds whose turn is later. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) dispatch(now int64) {
	for s.fill(now) {
	}
	if len(s.queue) > 0 {
		next := s.queue[0]
		for _, t := range s.queue[1:] {
			if t.before(next) {
				next = t
			}
		}
		s.preempt(next, now)
		for _, t := range s.queue { // next may be bound to a slot that it cannot have
			if t != next && t.turn.rt.Load() {
				s.preempt(t, now)
			}
		}
	}
	s.rearm(now)
}

// fill gives one free slot away, and reports whether it did.
//
// +checklocks:s.mu
func (s *turns) fill(now int64) bool {
	var next *Task
	where := -1
	for _, t := range s.queue {
		if next != nil && !t.before(next) {
			continue
		}
		if i := s.freeFor(t); i >= 0 {
			next, where = t, i
		}
	}
	if next == nil {
		return false
	}
	s.makeRoom(where)
	s.give(where, next, now)
	return true
}

// allows reports whether t may have slot i.
//
// +checklocks:s.mu
func (s *turns) allows(i int, t *Task) bool {
	return t.turn.mask>>i&1 != 0 && !(t.turn.rt.Load() && s.slots[i].throttled)
}

// freeFor returns a slot for t that is free, or whose holder may have another one that is; -1 when there is none.
//
// +checklocks:s.mu
func (s *turns) freeFor(t *Task) int {
	if i := s.free(t); i >= 0 {
		return i
	}
	for i := range s.slots {
		if o := s.slots[i].task; o != nil && s.allows(i, t) && s.free(o) >= 0 {
			return i
		}
	}
	return -1
}

// free returns a slot for t that nobody holds, -1 when there is none.
//
// +checklocks:s.mu
func (s *turns) free(t *Task) int {
	for i := range s.slots {
		if s.slots[i].task == nil && s.allows(i, t) {
			return i
		}
	}
	return -1
}

// makeRoom moves the holder of slot i, if there is one, to one that is free.
//
// +checklocks:s.mu
func (s *turns) makeRoom(i int) {
	o := s.slots[i].task
	if o == nil {
		return
	}
	s.account(o, s.k.Clock.Now())
	to := s.free(o)
	s.slots[to].task, s.slots[to].asked, s.slots[to].missed = o, s.slots[i].asked, 0
	s.slots[i].task = nil
	o.turn.slot = to
}

// give makes t the holder of slot i.
//
// +checklocks:s.mu
func (s *turns) give(i int, t *Task, now int64) {
	s.queue = slices.DeleteFunc(s.queue, func(o *Task) bool { return o == t })
	sl := &s.slots[i]
	sl.task, sl.asked, sl.missed = t, false, 0
	t.turn.slot, t.turn.since, t.turn.stolen = i, now, false
	t.turn.queued.Store(false)
	t.turn.seen.Store(true)
	t.turn.held.Store(true)
	t.flags.And(^uint32(workTurn))
	t.turn.park.Wake()
}

// preempt asks for a slot for t, if somebody has one whose turn is later.
//
// +checklocks:s.mu
func (s *turns) preempt(t *Task, now int64) {
	var last *Task
	for i := range s.slots {
		o := s.slots[i].task
		if o == nil || !s.allows(i, t) {
			continue
		}
		if s.slots[i].asked {
			return // one is about to come
		}
		s.account(o, now)
		if last == nil || last.before(o) {
			last = o
		}
	}
	if last == nil || !t.interrupts(last) {
		return
	}
	s.ask(last)
}

// ask tells t to give its slot up. s.mu is held; t has not ended, so its context is there.
//
// +checklocks:s.mu
func (s *turns) ask(t *Task) {
	s.slots[t.turn.slot].asked = true
	t.flags.Or(workTurn)
	t.cpu.Kick(t.Ctx)
}

// tick is the timer's function, while somebody waits or is to be limited.
func (s *turns) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticks = false
	if !s.active.Load() {
		return
	}
	now := s.k.Clock.Now()
	if now >= s.ends {
		s.ends = now + s.period
		for i := range s.slots {
			s.slots[i].used, s.slots[i].throttled = 0, false
		}
	}
	for i := range s.slots {
		s.tickSlot(i, now)
	}
	s.dispatch(now)
}

// +checklocks:s.mu
func (s *turns) tickSlot(i int, now int64) {
	sl := &s.slots[i]
	t := sl.task
	if t == nil {
		return
	}
	s.account(t, now)
	if t.turn.rt.Load() && s.runtime >= 0 && sl.used >= s.runtime {
		sl.throttled = true
		s.ask(t)
	}
	if len(s.queue) == 0 {
		return
	}
	if !t.turn.seen.Swap(false) {
		sl.missed++
		if sl.missed >= missedEver || sl.missed >= missedMost && !t.turn.due && !t.cpu.Inside(t.Ctx) {
			t.turn.stolen = true // it sleeps, or is busy, in the kernel
			s.drop(t)
			return
		}
	} else {
		sl.missed = 0
	}
	if next := s.best(i); next != nil && !sl.asked && s.expired(t, next) {
		s.ask(t)
	} else {
		t.cpu.Kick(t.Ctx)
	}
}

// rearm sets the timer if it is needed. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) rearm(now int64) {
	need := len(s.queue) > 0
	for i := range s.slots {
		sl := &s.slots[i]
		need = need || sl.throttled || s.runtime >= 0 && sl.task != nil && sl.task.turn.rt.Load()
	}
	if need && !s.ticks {
		s.ticks = true
		s.timer.Set(now + tickInterval)
	}
}
