package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/clock"
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// Values of sigev_notify (timer_create(2)).
const (
	sigevSignal   = 0
	sigevNone     = 1
	sigevThread   = 2 // by the C library; as sigevSignal for the kernel
	sigevThreadID = 4
)

// maxPosixTimers bounds the timers of one process, as RLIMIT_SIGPENDING does under Linux.
const maxPosixTimers = 16384

// posixTimer is one timer of timer_create(2). Guarded by Process.mu.
type posixTimer struct {
	p      *Process
	id     int32
	notify int32
	clock  int32
	wall   bool   // its clock runs in wall time
	cpu    bool   // its clock is CPU time: of thread, else of p
	thread *Task  // whose CPU time
	target *Task  // SIGEV_THREAD_ID
	when   int64  // the next expiration on its clock, 0 disarmed
	step   int64  // interval, ns
	missed int64  // expirations since the one that is queued
	over   int32  // overrun count of the last delivery
	serial uint64 // counts settings; a queued signal of an earlier one is void
	timer  clock.Timer
	entry  signal.Entry
	queued uint64 // serial of the setting that entry is about
}

// TimerCreate is timer_create(2); ev is nil for the default, SIGALRM with the timer's ID. EINVAL, EAGAIN, EOPNOTSUPP,
// which another process's CPU time gives too.
func (t *Task) TimerCreate(id int32, ev *abi.SigEvent) (int32, error) {
	p := t.proc
	pt := &posixTimer{p: p, clock: id}
	var err error
	if pt.cpu = isCPUClock(id); pt.cpu {
		var of *Process
		if of, pt.thread, err = t.cpuClock(id); err == nil && of != p {
			err = unix.EOPNOTSUPP
		}
	} else {
		pt.wall, err = clock.Base(id)
	}
	if err != nil {
		return 0, err
	}
	if ev != nil {
		pt.notify = ev.Notify
		switch ev.Notify {
		case sigevNone:
		case sigevThreadID:
			o, err := t.find(p.pids.Global(ev.TID))
			if err != nil || o.proc != p || !signal.Valid(unix.Signal(ev.Signo)) {
				return 0, unix.EINVAL
			}
			pt.target = o
		case sigevSignal, sigevThread:
			if !signal.Valid(unix.Signal(ev.Signo)) {
				return 0, unix.EINVAL
			}
		default:
			return 0, unix.EINVAL
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	tm := &p.timers
	if len(tm.posix) >= maxPosixTimers {
		return 0, unix.EAGAIN
	}
	if tm.posix == nil {
		tm.posix = make(map[int32]*posixTimer)
	}
	for tm.posix[tm.lastID] != nil {
		tm.lastID = (tm.lastID + 1) & 0x7fffffff
	}
	pt.id = tm.lastID
	tm.lastID = (tm.lastID + 1) & 0x7fffffff
	pt.prepare(ev)
	tm.posix[pt.id] = pt
	return pt.id, nil
}

// prepare makes the timer's signal.
func (pt *posixTimer) prepare(ev *abi.SigEvent) {
	sig, value := unix.SIGALRM, uint64(pt.id)
	if ev != nil {
		sig, value = unix.Signal(ev.Signo), ev.Value
	}
	pt.entry.Info.SetHead(sig, 0, signal.Timer)
	pt.entry.Info.SetTimer(pt.id, 0)
	pt.entry.Info.SetValue(value)
	pt.entry.Preallocated = true
	pt.entry.Refresh = pt.delivered
	pt.timer.Init(pt.p.k.Clock, pt.expired)
}

// now returns the time of the timer's clock. p.mu is held.
//
// +checklocks:pt.p.mu
func (pt *posixTimer) now() int64 {
	c := pt.p.k.Clock
	switch {
	case pt.thread != nil:
		return pt.thread.cpuTime()
	case pt.cpu:
		return pt.p.cpuTimeLocked()
	case pt.wall:
		return c.Wall()
	}
	return c.Now()
}

// arm has the timer expire at pt.when. p.mu is held.
//
// +checklocks:pt.p.mu
func (pt *posixTimer) arm() {
	switch {
	case pt.cpu:
		pt.p.checkLocked()
	case pt.notify == sigevNone:
	case pt.wall:
		pt.timer.SetWall(pt.when)
	default:
		pt.timer.Set(pt.when)
	}
}

// expired runs when the clock's timer does.
func (pt *posixTimer) expired() {
	p := pt.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if when, _ := pt.timer.When(); when == 0 && pt.when != 0 {
		pt.fire()
	}
}

// fire sends the signal. An interval goes on when the signal is delivered, so that no flood of expirations keeps the
// kernel busy. p.mu is held.
//
// +checklocks:pt.p.mu
func (pt *posixTimer) fire() {
	pt.queued = pt.serial
	if pt.entry.Queued() {
		return
	}
	pt.p.postEntry(pt.target, &pt.entry)
	if pt.entry.Queued() {
		return
	}
	// Nobody takes the signal: go on at leisure.
	if pt.forward() {
		pt.when = max(pt.when, pt.now()+minCheck)
		if !pt.cpu {
			pt.arm()
		}
	}
}

// forward moves when to the first expiration of the interval that is still to
// come and counts those that are past; false when there is no interval.
//
// +checklocks:pt.p.mu
func (pt *posixTimer) forward() bool {
	if pt.step == 0 {
		pt.when = 0
		return false
	}
	if now := pt.now(); now >= pt.when {
		n := (now-pt.when)/pt.step + 1
		pt.when += n * pt.step
		pt.missed += n - 1
	}
	return true
}

// delivered is called when the signal is taken off the queue, with p.mu held.
//
// +checklocksignore
func (pt *posixTimer) delivered(info *signal.Info) bool {
	if pt.queued != pt.serial {
		return false // disarmed or set anew since
	}
	if pt.forward() {
		pt.arm()
	}
	pt.over = int32(min(pt.missed, 1<<31-1))
	pt.missed = 0
	info.SetTimer(pt.id, pt.over)
	return true
}

// timerOf finds a timer; EINVAL. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) timerOf(id int32) (*posixTimer, error) {
	if pt := p.timers.posix[id]; pt != nil {
		return pt, nil
	}
	return nil, unix.EINVAL
}

// TimerSettime is timer_settime(2) in ns: value 0 disarms, absolute says that value is a time of the timer's clock.
// It returns what TimerGettime would have. EINVAL.
//
// +checklocksignore
func (t *Task) TimerSettime(id int32, value, interval int64, absolute bool) (oldValue, oldInterval int64, err error) {
	t.claim()
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.timerOf(id)
	if err != nil {
		return 0, 0, err
	}
	oldValue, oldInterval = pt.left(), pt.step
	pt.timer.Stop()
	pt.serial++
	pt.when, pt.step, pt.missed = 0, interval, 0
	if value == 0 {
		return oldValue, oldInterval, nil
	}
	if absolute {
		pt.when = t.MachineTime(pt.clock, value)
	} else {
		if pt.when = pt.now() + value; pt.when < 0 {
			pt.when = 1<<63 - 1
		}
	}
	if !absolute && pt.wall && pt.notify != sigevNone { // a relative time does not follow the setting of the clock
		pt.timer.Set(p.k.Clock.After(value))
		return oldValue, oldInterval, nil
	}
	pt.arm()
	return oldValue, oldInterval, nil
}

// left returns the ns until the next expiration, 0 when disarmed. p.mu is held.
//
// +checklocks:pt.p.mu
func (pt *posixTimer) left() int64 {
	if pt.when == 0 {
		return 0
	}
	now, when := pt.now(), pt.when
	if now >= when {
		if pt.step == 0 {
			if pt.notify == sigevNone {
				return 0
			}
			return 1
		}
		when += ((now-when)/pt.step + 1) * pt.step
	}
	return when - now
}

// TimerGettime is timer_gettime(2) in ns: EINVAL.
//
// +checklocksignore
func (t *Task) TimerGettime(id int32) (value, interval int64, err error) {
	t.claim()
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.timerOf(id)
	if err != nil {
		return 0, 0, err
	}
	return pt.left(), pt.step, nil
}

// TimerGetoverrun is timer_getoverrun(2): EINVAL.
func (p *Process) TimerGetoverrun(id int32) (int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.timerOf(id)
	if err != nil {
		return 0, err
	}
	return pt.over, nil
}

// TimerDelete is timer_delete(2): EINVAL.
func (p *Process) TimerDelete(id int32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.timerOf(id)
	if err != nil {
		return err
	}
	p.dropTimer(pt)
	return nil
}

// +checklocks:p.mu
func (p *Process) dropTimer(pt *posixTimer) {
	pt.timer.Stop()
	pt.when = 0
	pt.serial++
	p.pending.Remove(&pt.entry)
	if pt.target != nil {
		pt.target.pending.Remove(&pt.entry)
	}
	delete(p.timers.posix, pt.id)
}

// +checklocks:p.mu
func (p *Process) deletePosix() {
	for _, pt := range p.timers.posix {
		p.dropTimer(pt)
	}
}

// checkPosix fires the CPU-time timers that have expired and returns the ns until the next does. p.mu is held.
//
// +checklocksignore
func (p *Process) checkPosix() (next int64) {
	next = never
	for _, pt := range p.timers.posix {
		if !pt.cpu || pt.when == 0 || pt.notify == sigevNone {
			continue
		}
		now := pt.now()
		if now >= pt.when && !(pt.entry.Queued() && pt.queued == pt.serial) {
			pt.fire()
		}
		if pt.when > now {
			next = min(next, pt.when-now)
		}
	}
	return next
}
