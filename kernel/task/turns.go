package task

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/machine"
)

// Go's scheduler runs goroutines, and knows no priorities. That does as long as all threads are alike. As soon as one is not, which has
// a real-time policy or a nice value (sched(7)), programs run by turns: there is a slot for each processor, and only who
// holds one of those that its affinity allows may go to ring 3. All others wait before Enter. So no more threads of
// programs are ready than processors, and Go's scheduler has no choice to make.
//
// A thread gives its slot up when it sleeps, when it ends, and when it is asked to: a bit of its flags, and a Kick. What it does
// in the kernel before its turn, or after it, is not held up; nor are the kernel's own goroutines.
//
// SCHED_FIFO and SCHED_RR come first, by priority, and among the same by order; RR goes to the end of it after a slice. When they have had
// sched_rt_runtime_us of sched_rt_period_us on a slot, it is closed to them until the period ends. The others have Linux's weights:
// who has had the least time, divided by its weight, is next.
//
// Who owns a PI futex that threads wait for has the priority of the first of them (Lend; kernel/futex knows who waits for whom).
//
// A thread that holds a slot may sleep in the kernel without saying so, for a disk. While others wait, each holder is kicked every
// tick, and loses its slot when it has not come by for some, and is in the kernel.

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

// slot is a processor.
type slot struct {
	task      *Task
	asked     bool
	missed    int   // ticks at which task had not come by
	used      int64 // ns of real-time threads in this period
	throttled bool
}

// turns hands out the slots. mu is a leaf, but for the clock's lock.
type turns struct {
	k      *Kernel
	active atomic.Bool // written under mu

	mu      sync.Mutex // guards the fields below
	special int        // threads that are not alike
	slots   []slot
	queue   []*Task
	last    int64 // highest order
	first   int64 // lowest order
	vtime   int64 // the least of those who want to run; see catchUp
	timer   clock.Timer
	ticks   bool  // timer is set
	ends    int64 // of the period
	period  int64 // ns
	runtime int64 // ns; negative: no limit
	slice   int64 // ns, of SCHED_RR
}

// What Linux has (kernel/sched/).
const (
	weightNormal = 1024
	weightIdle   = 3
	rtPeriod     = 1_000_000_000
	rtRuntime    = 950_000_000
	rrSlice      = 100_000_000
	tickInterval = 4_000_000
	// grain is how much less time another thread must have had to interrupt one, bonus what one that slept has at most less, and
	// debt what one has at most more: a tick of SCHED_IDLE is 1.4 s.
	grain = 3_000_000
	bonus = 3_000_000
	debt  = 2_000_000_000
	// missedMost is after how many ticks a slot is taken from a thread that sleeps with it, and missedEver from one
	// that does not come for another reason.
	missedMost = 25
	missedEver = 500
)

// weights are the weights of the nice values -20 to 19: each is about 1.25 times the next (sched_prio_to_weight).
var weights = [40]int64{
	88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
	9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277,
	1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
	110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
}

func (s *turns) init(k *Kernel) {
	s.k = k
	s.slots = make([]slot, min(k.Machine.CPUs(), 64))
	s.period, s.runtime, s.slice = rtPeriod, rtRuntime, rrSlice
	s.timer.Init(k.Clock, s.tick)
}

func (s *sched) realTime() bool { return s.policy == SchedFIFO || s.policy == SchedRR }

// special reports whether programs must run by turns for a thread with s.
func (s *sched) special() bool {
	return s.realTime() || s.policy == SchedIdle || s.nice != 0
}

func (s *sched) weight() int64 {
	if s.policy == SchedIdle {
		return weightIdle
	}
	return weights[s.nice+20]
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

// drop takes t's slot, and its place in the queue. s.mu is held.
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

// takeTurn waits until t may run its program, or is to end.
func (t *Task) takeTurn() {
	s, m := &t.k.turns, t.k.Machine
	if s.arrive(t) {
		return
	}
	t.usage.others(m.Ticks())
	for {
		t.turn.park.Park()
		// A turn may have come and gone while the goroutine waited for the runtime.
		if f := t.flags.Load(); f&workTurn == 0 || f&workKill != 0 || s.arrive(t) {
			break
		}
	}
	t.usage.on(m.Ticks())
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

// catchUp brings vtime to the least time of those who run or wait: who ran alone has no debts to whoever comes. s.mu is held.
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

// account adds to t's time what it had since the last time. s.mu is held.
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

// allows reports whether t may have slot i.
func (s *turns) allows(i int, t *Task) bool {
	return t.turn.mask>>i&1 != 0 && !(t.turn.rt.Load() && s.slots[i].throttled)
}

// best returns who is next for slot i, nil if nobody waits for it. s.mu is held.
func (s *turns) best(i int) (best *Task) {
	for _, t := range s.queue {
		if s.allows(i, t) && (best == nil || t.before(best)) {
			best = t
		}
	}
	return best
}

// dispatch gives the free slots to those who are next, and asks for those that somebody holds whose turn is later. s.mu is held.
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

// freeFor returns a slot for t that is free, or whose holder may have another one that is; -1 when there is none.
func (s *turns) freeFor(t *Task) int {
	for i := range s.slots {
		if s.slots[i].task == nil && s.allows(i, t) {
			return i
		}
	}
	for i := range s.slots {
		if o := s.slots[i].task; o != nil && s.allows(i, t) && s.otherFree(o) >= 0 {
			return i
		}
	}
	return -1
}

func (s *turns) otherFree(o *Task) int {
	for i := range s.slots {
		if s.slots[i].task == nil && s.allows(i, o) {
			return i
		}
	}
	return -1
}

// makeRoom moves the holder of slot i, if there is one, to one that is free.
func (s *turns) makeRoom(i int) {
	o := s.slots[i].task
	if o == nil {
		return
	}
	s.account(o, s.k.Clock.Now())
	to := s.otherFree(o)
	s.slots[to].task, s.slots[to].asked, s.slots[to].missed = o, s.slots[i].asked, 0
	s.slots[i].task = nil
	o.turn.slot = to
}

// give makes t the holder of slot i.
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

// ask tells t to give its slot up. s.mu is held; t has not ended, so its context is there.
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

// expired reports whether it is next's turn now that t has run until this tick.
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

// rearm sets the timer if it is needed. s.mu is held.
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
