package task

import (
	"math"

	"golang.org/x/sys/unix"
)

// Whose turn is first. SCHED_FIFO and SCHED_RR come before all others, by priority, and among the same by order; RR goes to the end of
// it after a slice. The others have Linux's weights: who has had the least time, divided by its weight, is next.
//
// Who owns a PI futex that threads wait for has the priority of the first of them (Lend; kernel/futex knows who waits for whom).

// What Linux has (kernel/sched/).
const (
	weightNormal = 1024
	weightIdle   = 3
	rtPeriod     = 1_000_000_000
	rtRuntime    = 950_000_000
	rrSlice      = 100_000_000
	// grain is how much less time another thread must have had to interrupt one, bonus what one that slept has at most less, and
	// debt what one has at most more: a tick of SCHED_IDLE is 1.4 s.
	grain = 3_000_000
	bonus = 3_000_000
	debt  = 2_000_000_000
)

// weights are the weights of the nice values -20 to 19: each is about 1.25 times the next (sched_prio_to_weight).
var weights = [40]int64{
	88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
	9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277,
	1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
	110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
}

func (s *sched) weight() int64 {
	if s.policy == SchedIdle {
		return weightIdle
	}
	return weights[s.nice+20]
}

func (s *sched) realTime() bool { return s.policy == SchedFIFO || s.policy == SchedRR }

// rank finds out what t's priority is. turns.mu is held.
func (t *turn) rank() {
	t.priority = max(t.own, t.lent)
	t.rt.Store(t.priority > 0)
}

// Lend is to be called when the highest real-time priority of those who wait for t's PI futexes has changed; 0 for none. With it t
// runs as with SCHED_FIFO if that is higher than its own.
func (t *Task) Lend(priority int32) {
	s := &t.k.turns
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.turn.gone {
		return
	}
	now := s.k.Clock.Now()
	if t.turn.held.Load() {
		s.account(t, now)
	}
	t.turn.lent = priority
	t.turn.rank()
	if s.active.Load() {
		s.dispatch(now)
	}
}

// RealTime returns how much of each period real-time threads may have a processor, and the slice of SCHED_RR, in ns; runtime
// is negative without a limit (/proc/sys/kernel/sched_rt_*).
func (k *Kernel) RealTime() (period, runtime, slice int64) {
	s := &k.turns
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.period, s.runtime, s.slice
}

// SetRealTime sets them: EINVAL.
func (k *Kernel) SetRealTime(period, runtime, slice int64) error {
	if period < tickInterval || runtime > period || slice <= 0 {
		return unix.EINVAL
	}
	s := &k.turns
	s.mu.Lock()
	defer s.mu.Unlock()
	s.period, s.runtime, s.slice = period, runtime, slice
	return nil
}

// before reports whether a's turn is before b's.
func (a *Task) before(b *Task) bool {
	x, y := &a.turn, &b.turn
	switch {
	case x.rt.Load() != y.rt.Load():
		return x.rt.Load()
	case x.rt.Load() && x.priority != y.priority:
		return x.priority > y.priority
	case !x.rt.Load() && x.vtime != y.vtime:
		return x.vtime < y.vtime
	}
	return x.order < y.order
}

// interrupts reports whether t need not wait for a tick to take o's slot.
func (t *Task) interrupts(o *Task) bool {
	switch {
	case t.turn.rt.Load():
		return !o.turn.rt.Load() || t.turn.priority > o.turn.priority || t.turn.stolen && t.turn.priority == o.turn.priority
	case o.turn.rt.Load():
		return false
	}
	return t.turn.vtime+grain < o.turn.vtime
}

// expired reports whether it is next's turn now that t has run until this tick.
//
// +checklocks:s.mu
func (s *turns) expired(t, next *Task) bool {
	switch {
	case next.turn.rt.Load() && t.turn.rt.Load():
		return next.turn.priority > t.turn.priority ||
			t.turn.policy == SchedRR && t.turn.slice <= 0 && next.turn.priority == t.turn.priority
	case next.turn.rt.Load():
		return true
	case t.turn.rt.Load():
		return false
	}
	return next.turn.vtime < t.turn.vtime
}

// account adds to t's time what it had since the last time. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) account(t *Task, now int64) {
	d := max(now-t.turn.since, 0)
	t.turn.since = now
	if t.turn.rt.Load() {
		s.slots[t.turn.slot].used += d
		if t.turn.policy == SchedRR {
			t.turn.slice -= d
		}
		return
	}
	t.turn.vtime += d * weightNormal / max(t.turn.weight, 1)
}

// catchUp brings vtime to the least time of those who run or wait: who ran alone has no debts to whoever comes. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) catchUp() {
	least := int64(math.MaxInt64)
	for i := range s.slots {
		if t := s.slots[i].task; t != nil && !t.turn.rt.Load() {
			s.account(t, s.k.Clock.Now())
			least = min(least, t.turn.vtime)
		}
	}
	for _, t := range s.queue {
		if !t.turn.rt.Load() {
			least = min(least, t.turn.vtime)
		}
	}
	if least != math.MaxInt64 {
		s.vtime = max(s.vtime, least)
	}
}
