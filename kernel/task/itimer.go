package task

import (
	"math"

	"gosv/kernel/clock"

	"golang.org/x/sys/unix"
)

// timers are the timers of a process. Guarded by Process.mu; the functions of the clock's timers take it.
type timers struct {
	real     clock.Timer // ITIMER_REAL
	realStep int64       // its interval, ns
	realSet  bool        // real is initialised

	virt, prof cpuTimer // ITIMER_VIRTUAL, ITIMER_PROF
	check      clock.Timer
	checkSet   bool
	warned     int64 // CPU seconds at which RLIMIT_CPU last sent SIGXCPU

	posix  map[int32]*posixTimer
	lastID int32
}

// cpuTimer expires when the process has used so much CPU time.
type cpuTimer struct {
	at   int64 // ns, 0 not set
	step int64
}

// fire reports whether c has expired, and sets it to its next time.
func (c *cpuTimer) fire(now int64) bool {
	if c.at == 0 || now < c.at {
		return false
	}
	if c.at += c.step; c.step == 0 {
		c.at = 0
	}
	return true
}

// Setitimer is setitimer(2) with value and interval in ns, 0 to disarm; it returns those before. EINVAL.
func (t *Task) Setitimer(which int, value, interval int64) (oldValue, oldInterval int64, err error) {
	t.claim()
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if oldValue, oldInterval, err = p.getitimer(which); err != nil {
		return 0, 0, err
	}
	tm := &p.timers
	if which == unix.ITIMER_REAL {
		p.setReal(value, interval)
		return oldValue, oldInterval, nil
	}
	c, now := &tm.virt, p.cpuFor(which)
	if which == unix.ITIMER_PROF {
		c = &tm.prof
	}
	*c = cpuTimer{step: interval} // getitimer(2) tells it also of a timer that is not armed
	if value > 0 {
		*c = cpuTimer{at: now + value, step: interval}
		p.checkLocked()
	}
	return oldValue, oldInterval, nil
}

// Getitimer is getitimer(2): what is left, and the interval, in ns. EINVAL.
func (t *Task) Getitimer(which int) (value, interval int64, err error) {
	t.claim()
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.getitimer(which)
}

// +checklocks:p.mu
func (p *Process) getitimer(which int) (value, interval int64, err error) {
	tm := &p.timers
	switch which {
	case unix.ITIMER_REAL:
		if when, _ := tm.real.When(); when != 0 {
			return max(when-p.k.Clock.Now(), 1), tm.realStep, nil
		}
		return 0, tm.realStep, nil
	case unix.ITIMER_VIRTUAL:
		return tm.virt.left(p.cpuFor(which)), tm.virt.step, nil
	case unix.ITIMER_PROF:
		return tm.prof.left(p.cpuFor(which)), tm.prof.step, nil
	}
	return 0, 0, unix.EINVAL
}

func (c *cpuTimer) left(now int64) int64 {
	if c.at == 0 {
		return 0
	}
	return max(c.at-now, 1)
}

// cpuFor returns the CPU time that an interval timer counts. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) cpuFor(which int) int64 {
	s := p.sumLocked()
	if which == unix.ITIMER_VIRTUAL {
		return s.utime
	}
	return s.total
}

// setReal arms ITIMER_REAL. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) setReal(value, interval int64) {
	tm := &p.timers
	if !tm.realSet {
		tm.real.Init(p.k.Clock, p.alarm)
		tm.realSet = true
	}
	tm.real.Stop()
	tm.realStep = 0
	if value > 0 {
		tm.realStep = interval
		tm.real.Set(p.k.Clock.After(value))
	}
}

// alarm runs when ITIMER_REAL expires.
func (p *Process) alarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	tm := &p.timers
	if when, _ := tm.real.When(); when != 0 {
		return // set anew in the meantime
	}
	info := kernelInfo(unix.SIGALRM)
	p.post(nil, &info, true)
	if tm.realStep > 0 && !p.exiting {
		tm.real.Set(p.k.Clock.After(tm.realStep))
	}
}

// CPU timers are looked at after minCheck ns at the earliest, and after maxCheck at the latest if there is one; never stands for none.
const (
	minCheck = 1_000_000
	maxCheck = 1_000_000_000
	never    = math.MaxInt64
)

// checkCPU looks at everything that depends on the CPU time of p: interval timers, POSIX timers and
// RLIMIT_CPU; and asks to be called again when the next of them may expire.
func (p *Process) checkCPU() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkLocked()
}

// +checklocks:p.mu
func (p *Process) checkLocked() {
	if p.exiting || len(p.threads) == 0 {
		return
	}
	s, tm := p.sumLocked(), &p.timers
	next := int64(never)
	for _, c := range [...]struct {
		timer *cpuTimer
		now   int64
		sig   unix.Signal
	}{{&tm.virt, s.utime, unix.SIGVTALRM}, {&tm.prof, s.total, unix.SIGPROF}} {
		if c.timer.fire(c.now) {
			info := kernelInfo(c.sig)
			p.post(nil, &info, true)
		}
		if c.timer.at != 0 {
			next = min(next, c.timer.at-c.now)
		}
	}
	next = min(next, p.checkPosix(), p.checkLimit(s.total))
	if next == never {
		return
	}
	if !tm.checkSet {
		tm.check.Init(p.k.Clock, p.checkCPU)
		tm.checkSet = true
	}
	tm.check.Set(p.k.Clock.After(max(min(next, maxCheck)/int64(p.k.Machine.CPUs()), minCheck)))
}

// checkLimit applies RLIMIT_CPU: SIGXCPU each second from the soft limit on, SIGKILL at the hard one.
// It returns the ns until it has to look again. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) checkLimit(used int64) int64 {
	l := p.limits[unix.RLIMIT_CPU]
	if l.Cur == unix.RLIM_INFINITY && l.Max == unix.RLIM_INFINITY {
		return never
	}
	seconds := used / 1_000_000_000
	switch {
	case uint64(seconds) >= l.Max:
		p.exit(int32(unix.SIGKILL))
	case uint64(seconds) >= l.Cur && seconds > p.timers.warned:
		p.timers.warned = seconds
		info := kernelInfo(unix.SIGXCPU)
		p.post(nil, &info, true)
	}
	return maxCheck
}

// stopTimers ends all timers of a process whose threads have ended.
func (p *Process) stopTimers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timers.real.Stop()
	p.timers.realStep = 0
	p.timers.check.Stop()
	p.deletePosix()
}
