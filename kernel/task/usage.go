package task

import (
	"sync/atomic"

	"gosv/kernel/abi"
	"gosv/kernel/clock"

	"golang.org/x/sys/unix"
)

// usage is what a thread has used. The task itself writes, others read.
//
// Time is claimed of the machine, in its ticks, for the times in which the goroutine is not parked: from the end of one wait to
// the begin of the next, without the times in which it let others run. Claims are made at their ends, at every sampling-th system
// call, and when the task itself asks. How much of the time went by
// in the kernel is estimated: every sampling-th system call is measured and
// counted for all of them, as far as there was time for them since the last that was measured.
type usage struct {
	measured uint64 // ticks used at the end of the last measured call; the task's own

	total   atomic.Uint64 // ticks that were claimed
	active  atomic.Bool   // does not wait, but for its turn
	system  atomic.Uint64 // ticks in the kernel, estimated
	told    atomic.Int64  // the largest time in ns that cpuTime returned
	minflt  atomic.Int64
	nvcsw   atomic.Int64
	nivcsw  atomic.Int64
	signals atomic.Int64
}

// sampling is how many system calls one measured call stands for.
const sampling = 64

// begin says that t uses a processor from now on.
func (t *Task) begin() {
	t.usage.active.Store(true)
	switch {
	case t.borrowed:
		t.cpu.BeginMeter(&t.meter)
	case t.Ctx != nil:
		t.cpu.Begin(t.Ctx)
	}
}

// claim counts what t has used; a borrowed task's time is its process's. It is t's own.
func (t *Task) claim() {
	switch {
	case t.borrowed:
		n := t.cpu.ClaimMeter(&t.meter)
		t.proc.borrowed.Add(n)
		t.k.inKernel(t.cpu.Number(), n)
	case t.Ctx != nil:
		t.usage.total.Add(t.cpu.Claim(t.Ctx))
	}
}

// waits says that t uses no processor until begin.
func (t *Task) waits() {
	t.claim()
	t.usage.active.Store(false)
	t.usage.nvcsw.Add(1)
}

// stepsBack says that others run from now on, until begin, though t could.
func (t *Task) stepsBack() {
	t.claim()
	t.usage.nivcsw.Add(1)
}

// cpuTime returns the ns that t has used until now; for another task than the one that runs, those that were claimed, and those in its
// program since then. t.proc.mu is held, or t is the one that runs.
func (t *Task) cpuTime() int64 {
	n := t.usage.total.Load()
	if !t.exiting { // which may have freed its context
		n += t.cpu.Unclaimed(t.Ctx)
	}
	return t.usage.steady(t.k.Machine.TicksToNS(n))
}

// steady keeps the time that is told of a thread from going back: what it used in its program counts for others while it is there, and
// again when it claims it, but not between.
func (u *usage) steady(ns int64) int64 {
	for {
		last := u.told.Load()
		if ns <= last {
			return last
		}
		if u.told.CompareAndSwap(last, ns) {
			return ns
		}
	}
}

// sampled serves a system call and counts its time for all since the last sample.
func (t *Task) sampled() {
	t.claim()
	before := t.usage.total.Load()
	t.call()
	t.claim()
	t.k.inKernel(t.cpu.Number(), t.usage.sample(before, t.usage.total.Load()))
}

// sample counts a call that took the ticks from before to after for all calls since the last that was measured. One long call among
// short ones must not make all of them long. It returns what it counted.
func (u *usage) sample(before, after uint64) uint64 {
	n := min((after-before)*sampling, after-u.measured)
	u.system.Add(n)
	u.measured = after
	return n
}

// inKernel counts ticks of a processor that programs used in the kernel.
func (k *Kernel) inKernel(processor int, ticks uint64) {
	if processor < len(k.system) {
		k.system[processor].Add(ticks)
	}
}

// Spent returns the ns that processor n, below the machine's CPUs, has spent since power-on: in programs, in the kernel, whoever it worked for, and
// without anything to do.
func (k *Kernel) Spent(n int) (user, system, idle int64) {
	claimed, rest := k.Machine.Spent(n)
	user = k.Machine.TicksToNS(claimed - min(k.system[n].Load(), claimed))
	idle = k.Machine.TicksToNS(rest)
	return user, max(k.Clock.Now()-user-idle, 0), idle
}

// usageSum is the usage of several threads or processes.
type usageSum struct {
	total, system     int64 // ns
	minflt            int64
	nvcsw, nivcsw     int64
	nsignals          int64
	maxRSS            uint64 // pages
	utime, stime      int64  // total, split; set by split
	last              int64  // what was told last, so that
	lastUser, lastSys int64  // the times never go back
}

func (s *usageSum) addTask(t *Task) {
	u := &t.usage
	s.total += t.cpuTime()
	s.system += t.k.Machine.TicksToNS(u.system.Load())
	s.minflt += u.minflt.Load()
	s.nvcsw += u.nvcsw.Load()
	s.nivcsw += u.nivcsw.Load()
	s.nsignals += u.signals.Load()
}

func (s *usageSum) add(o *usageSum) {
	s.total += o.total
	s.system += o.system
	s.minflt += o.minflt
	s.nvcsw += o.nvcsw
	s.nivcsw += o.nivcsw
	s.nsignals += o.nsignals
	s.maxRSS = max(s.maxRSS, o.maxRSS)
}

// split divides the total into user and system time.
func (s *usageSum) split() {
	s.stime = min(max(s.system, 0), s.total)
	s.utime = s.total - s.stime
}

// sum returns what p itself has used so far, ended threads included.
func (p *Process) sum() usageSum {
	p.mu.Lock()
	v := p.sumLocked()
	p.mu.Unlock()
	return v
}

// +checklocks:p.mu
func (p *Process) sumLocked() usageSum {
	s := p.dead
	lent := p.borrowedTime()
	s.total += lent
	s.system += lent
	for _, t := range p.threads {
		s.addTask(t)
		if t.mem != nil {
			s.maxRSS = max(s.maxRSS, t.mem.MaxRSS())
		}
	}
	s.split()
	p.steady(&s)
	return s
}

// borrowedTime is what borrowed tasks have used, in ns: all of it in the kernel.
func (p *Process) borrowedTime() int64 { return p.k.Machine.TicksToNS(p.borrowed.Load()) }

// steady keeps the times from going back, as Linux's cputime_adjust. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) steady(s *usageSum) {
	last := &p.dead
	s.stime = max(s.stime, last.lastSys)
	s.utime = max(s.total-s.stime, last.lastUser)
	last.lastSys, last.lastUser = s.stime, s.utime
}

func (s *usageSum) rusage() unix.Rusage {
	return unix.Rusage{
		Utime: abi.NsecToTimeval(s.utime), Stime: abi.NsecToTimeval(s.stime),
		Maxrss: int64(s.maxRSS * 4), Minflt: s.minflt,
		Nvcsw: s.nvcsw, Nivcsw: s.nivcsw,
	}
}

func (p *Process) kidsSum() usageSum {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.kids
	s.split()
	return s
}

func (p *Process) usageOf(who int) unix.Rusage {
	if who == unix.RUSAGE_CHILDREN {
		s := p.kidsSum()
		return s.rusage()
	}
	s := p.sum()
	return s.rusage()
}

// Rusage is getrusage(2): EINVAL.
func (t *Task) Rusage(who int) (unix.Rusage, error) {
	t.claim()
	switch who {
	case unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN:
		return t.proc.usageOf(who), nil
	case unix.RUSAGE_THREAD:
		var s usageSum
		s.addTask(t)
		s.maxRSS = t.mem.MaxRSS()
		s.split()
		return s.rusage(), nil
	}
	return unix.Rusage{}, unix.EINVAL
}

// Times is times(2): in clock ticks, with the ticks since power-on.
func (t *Task) Times() (unix.Tms, int64) {
	t.claim()
	u, c := t.proc.sum(), t.proc.kidsSum()
	return unix.Tms{Utime: u.utime / tick, Stime: u.stime / tick, Cutime: c.utime / tick, Cstime: c.stime / tick},
		t.k.Clock.Now() / tick
}

// Usage returns user and system time of the process and of its waited-for children, in ns, for /proc/PID/stat.
func (p *Process) Usage() (utime, stime, cutime, cstime int64) {
	u, c := p.sum(), p.kidsSum()
	return u.utime, u.stime, c.utime, c.stime
}

// Switches returns how often t waited, and how often it could have gone on when another had its turn (proc(5)).
func (t *Task) Switches() (voluntary, forced int64) {
	return t.usage.nvcsw.Load(), t.usage.nivcsw.Load()
}

// A Total is what all processes have used since the start, those included that ended and were waited for.
type Total struct {
	User, System int64 // ns
	Faults       int64 // of pages
	Switches     int64
}

// Total adds up what the processes used. What one has used whose parent does not wait for its children is lost with it.
func (k *Kernel) Total() (sum Total) {
	for _, p := range k.Processes() {
		for _, s := range [...]usageSum{p.sum(), p.kidsSum()} {
			sum.User += s.utime
			sum.System += s.stime
			sum.Faults += s.minflt
			sum.Switches += s.nvcsw + s.nivcsw
		}
	}
	return sum
}

// Faults returns the page faults of the process; all count as minor, as nothing is swapped.
func (p *Process) Faults() int64 {
	s := p.sum()
	return s.minflt
}

// cpuTime is the CPU time that p has used, in ns.
func (p *Process) cpuTime() int64 {
	p.mu.Lock()
	v := p.cpuTimeLocked()
	p.mu.Unlock()
	return v
}

// +checklocks:p.mu
func (p *Process) cpuTimeLocked() int64 {
	n := p.dead.total + p.borrowedTime()
	for _, t := range p.threads {
		n += t.cpuTime()
	}
	p.dead.last = max(p.dead.last, n)
	return p.dead.last
}

// Parts of a clock ID that names the CPU clock of a process or thread (clock_getcpuclockid(3)):
// the complement of its ID from bit 3 on, bit 2 for a thread, the kind of clock below.
const (
	clockPerThread = 4
	clockKind      = 3
	clockProf      = 0
	clockVirt      = 1
	clockSched     = 2
)

func isCPUClock(id int32) bool {
	return id < 0 || id == unix.CLOCK_PROCESS_CPUTIME_ID || id == unix.CLOCK_THREAD_CPUTIME_ID
}

// cpuClock finds whose CPU time a clock tells: of the process p, or of the thread if that is not nil. EINVAL.
func (t *Task) cpuClock(id int32) (p *Process, thread *Task, err error) {
	switch id {
	case unix.CLOCK_PROCESS_CPUTIME_ID:
		return t.proc, nil, nil
	case unix.CLOCK_THREAD_CPUTIME_ID:
		return t.proc, t, nil
	}
	if id >= 0 || id&clockKind > clockSched {
		return nil, nil, unix.EINVAL
	}
	n := ^(id >> 3)
	if id&clockPerThread != 0 {
		o := t
		if n != 0 {
			o = t.k.Task(n)
		}
		if o == nil || o.proc != t.proc {
			return nil, nil, unix.EINVAL
		}
		return o.proc, o, nil
	}
	if n == 0 {
		return t.proc, nil, nil
	}
	if p = t.k.Process(n); p == nil {
		return nil, nil, unix.EINVAL
	}
	return p, nil, nil
}

// ClockRead is clock_gettime(2) for any clock, in ns: EINVAL.
func (t *Task) ClockRead(id int32) (int64, error) {
	if !isCPUClock(id) {
		ns, err := t.k.Clock.Read(id)
		if n := t.ns.time; n != nil {
			ns += n.ahead(id)
		}
		return ns, err
	}
	p, thread, err := t.cpuClock(id)
	if err != nil {
		return 0, err
	}
	t.claim()
	if thread == nil {
		return p.cpuTime(), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return thread.cpuTime(), nil
}

// ClockResolution is clock_getres(2) for any clock, in ns: EINVAL.
func (t *Task) ClockResolution(id int32) (int64, error) {
	if !isCPUClock(id) {
		return clock.Resolution(id)
	}
	_, _, err := t.cpuClock(id)
	return 1, err
}
