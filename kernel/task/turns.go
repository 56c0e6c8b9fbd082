package task

import (
	"sync"
	"sync/atomic"

	"gosv/kernel/clock"
	"gosv/machine"
)

// Go's scheduler runs goroutines, and knows no priorities. That does as long as all threads are alike. As soon as one is not, which has
// a real-time policy or a nice value (sched(7)), programs run by turns: there is a slot for each processor, and only who
// holds one of those that its affinity allows may go to ring 3. All others wait before Enter. So no more threads of
// programs are ready than processors, and Go's scheduler has no choice to make.
//
// This file knows which threads there are and whether they run by turns, slots.go hands the slots out, and precedence.go says whose
// turn is first.

// turn is what turns knows of a thread: guarded by turns.mu, but for the first three.
type turn struct {
	held atomic.Bool // has a slot; written under turns.mu
	rt   atomic.Bool // waking it up must be noticed; written under turns.mu
	seen atomic.Bool // came by since the last tick
	park machine.Parker

	policy, priority int32 // priority: the highest of own and lent
	own, lent        int32 // real-time priorities; lent by who waits for it, see Lend
	weight           int64
	mask             uint64
	special          bool // counted in turns.special
	gone             bool // has ended

	queued atomic.Bool // written under turns.mu
	slot   int
	order  int64 // among those that are equal
	since  int64 // ns: accounted until then
	stolen bool  // its slot was taken since it did not come by; it has not slept since
	due    bool  // its goroutine is to come back from takeTurn
	vtime  int64 // ns times weightNormal/weight
	slice  int64 // ns that SCHED_RR has left
	yields bool  // asked others to go first
}

// turns hands out the slots. mu is a leaf, but for the clock's lock.
type turns struct {
	k      *Kernel
	active atomic.Bool // written under mu

	timer clock.Timer // its function takes mu

	mu sync.Mutex
	// +checklocks:mu
	special int // threads that are not alike
	// +checklocks:mu
	slots []slot
	// +checklocks:mu
	queue []*Task
	// +checklocks:mu
	last int64 // highest order
	// +checklocks:mu
	first int64 // lowest order
	// +checklocks:mu
	vtime int64 // the least of those who want to run; see catchUp
	// +checklocks:mu
	ticks bool // timer is set
	// +checklocks:mu
	ends int64 // of the period
	// +checklocks:mu
	period int64 // ns
	// +checklocks:mu
	runtime int64 // ns; negative: no limit
	// +checklocks:mu
	slice int64 // ns, of SCHED_RR
}

func (s *turns) init(k *Kernel) {
	s.k = k
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots = make([]slot, min(k.Machine.CPUs(), 64))
	s.period, s.runtime, s.slice = rtPeriod, rtRuntime, rrSlice
	s.timer.Init(k.Clock, s.tick)
}

// special reports whether programs must run by turns for a thread with s.
func (s *sched) special() bool {
	return s.realTime() || s.policy == SchedIdle || s.nice != 0
}

// enter makes a new thread known. Kernel.mu is held, and the thread is in Kernel.ids: whoever makes turns active sees it there.
func (s *turns) enter(t *Task) {
	if !t.sched.special() && !s.active.Load() {
		return
	}
	s.k.Futex.SetPriority(&t.pi, t.sched.priority)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(t)
	if s.active.Load() {
		t.flags.Or(workTurn)
	}
}

// take notes what t's policy is. s.mu is held, and t.proc.mu if others know t.
//
// +checklocks:s.mu
func (s *turns) take(t *Task) {
	if t.turn.gone {
		return
	}
	if special := t.sched.special(); special != t.turn.special {
		t.turn.special = special
		if special {
			s.special++
		} else {
			s.special--
		}
	}
	if t.turn.held.Load() {
		s.account(t, s.k.Clock.Now())
	}
	t.turn.policy, t.turn.own, t.turn.weight = t.sched.policy, t.sched.priority, t.sched.weight()
	t.turn.mask = t.sched.affinity[0]
	t.turn.rank()
}

// leave forgets a thread that has ended. Its process knows it as exiting.
func (s *turns) leave(t *Task) {
	if s.active.Load() || t.turn.special { // which nobody changes any more
		s.forget(t)
		s.settle()
	}
}

func (s *turns) forget(t *Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.turn.special {
		t.turn.special = false
		s.special--
	}
	s.drop(t)
	t.turn.gone = true
	t.turn.rt.Store(false)
	s.dispatch(s.k.Clock.Now())
}

// changed is to be called when the policy, the nice value or the affinity of t have changed, with t.proc.mu held, and settle after that.
func (s *turns) changed(t *Task) {
	s.k.Futex.SetPriority(&t.pi, t.sched.priority)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(t)
	if !s.active.Load() {
		return
	}
	if t.turn.held.Load() && t.turn.mask>>t.turn.slot&1 == 0 {
		s.ask(t)
	}
	s.dispatch(s.k.Clock.Now())
}

// settle begins or ends the turns when threads have become different or alike. No lock is held.
func (s *turns) settle() {
	s.mu.Lock()
	want := s.special > 0
	if want == s.active.Load() {
		s.mu.Unlock()
		return
	}
	s.active.Store(want)
	if !want {
		s.end()
		s.mu.Unlock()
		return
	}
	s.ends = s.k.Clock.Now() + s.period
	s.mu.Unlock()
	for _, p := range s.k.Processes() {
		for _, t := range p.Threads() {
			s.enlist(t)
		}
	}
}

// enlist makes t, which runs as it likes, wait for its turn.
func (s *turns) enlist(t *Task) {
	t.proc.mu.Lock()
	defer t.proc.mu.Unlock()
	if t.exiting {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(t)
	if s.active.Load() && !t.turn.held.Load() {
		t.flags.Or(workTurn)
		t.cpu.Kick(t.Ctx)
	}
}

// end lets all run. s.mu is held.
//
// +checklocks:s.mu
func (s *turns) end() {
	for i := range s.slots {
		if t := s.slots[i].task; t != nil {
			t.turn.held.Store(false)
			t.flags.And(^uint32(workTurn))
		}
		s.slots[i] = slot{}
	}
	for _, t := range s.queue {
		t.turn.queued.Store(false)
		t.flags.And(^uint32(workTurn))
		t.turn.park.Wake()
	}
	s.queue = nil
	s.ticks = false
	s.timer.Stop()
}
