package task

import (
	"slices"

	"gosv/kernel/signal"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// Values of si_code for SIGCHLD.
const (
	cldExited    = 1
	cldKilled    = 2
	cldDumped    = 3
	cldTrapped   = 4
	cldStopped   = 5
	cldContinued = 6
)

// WaitArgs are the arguments of waitid(2).
type WaitArgs struct {
	Type    int      // P_ALL, P_PID, P_PGID; P_PIDFD with Process
	ID      int32    // 0 with P_PGID: the caller's own group
	Process *Process // of P_PIDFD
	Options int      // WNOHANG, WEXITED, WSTOPPED (=WUNTRACED), WCONTINUED, WNOWAIT, __WALL, __WCLONE, __WNOTHREAD
}

// WaitResult is what wait4(2) and waitid(2) report, with numbers of the caller's PID namespace. PID 0: nothing yet, with WNOHANG.
type WaitResult struct {
	PID    int32
	UID    uint32
	Code   int32 // CLD_EXITED and so on
	Status int32 // as wait4(2) encodes it
	Usage  unix.Rusage
}

// SigStatus is si_status of waitid(2): the exit status or the signal.
func (r *WaitResult) SigStatus() int32 {
	switch r.Code {
	case cldExited:
		return r.Status >> 8
	case cldKilled, cldDumped:
		return r.Status & 0x7f
	case cldStopped, cldTrapped:
		return r.Status >> 8
	}
	return int32(unix.SIGCONT)
}

// Wait is waitid(2); wait4(2) is the same with WEXITED among the options.
// ECHILD, EINVAL, ERESTARTSYS.
func (t *Task) Wait(a *WaitArgs) (WaitResult, error) {
	p := t.proc
	r, any, found := t.findChild(a)
	if found || !any || a.Options&unix.WNOHANG != 0 {
		return waitEnd(r, any)
	}
	t.entry = wait.Entry{Waiter: t, Events: unix.POLLIN}
	p.childEvents.Add(&t.entry)
	defer p.childEvents.Remove(&t.entry)
	for {
		r, any, found = t.findChild(a)
		if found || !any {
			return waitEnd(r, any)
		}
		if err := t.Block(0); err != nil {
			return WaitResult{}, err
		}
	}
}

func waitEnd(r WaitResult, any bool) (WaitResult, error) {
	if !any {
		return r, unix.ECHILD
	}
	return r, nil
}

// findChild looks for a child with something to report, and takes that. any: there is a child to wait for.
func (t *Task) findChild(a *WaitArgs) (r WaitResult, any, found bool) {
	k, p := t.k, t.proc
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range p.children {
		if !t.selects(c, a) {
			continue
		}
		if c.zombie && c.adopted {
			continue // being reaped
		}
		any = true
		if by := c.leader.trace.by; by != nil && (c.zombie || by.proc == p) {
			continue // its end is the tracer's to see first; see findTracee
		}
		if c.zombie && c.unreaped > 0 {
			continue
		}
		if c.zombie && a.Options&unix.WEXITED != 0 {
			return t.takeZombie(c, a), true, true
		}
		if !c.zombie && c.report(a.Options, &r) {
			r.PID, r.UID, r.Usage = t.Number(c.PID), t.Cred().User.ShowUID(c.leader.Cred().UID), c.usageOf(unix.RUSAGE_SELF)
			return r, true, true
		}
	}
	r, more, found := t.findTracee(a)
	return r, any || more, found
}

// selects reports whether a is about the child c. k.mu is held.
func (t *Task) selects(c *Process, a *WaitArgs) bool {
	switch a.Type {
	case unix.P_PID:
		if c.PID != a.ID {
			return false
		}
	case unix.P_PGID:
		id := a.ID
		if id == 0 {
			id = t.proc.group.ID
		}
		if c.group == nil || c.group.ID != id {
			return false
		}
	case unix.P_PIDFD:
		if c != a.Process {
			return false
		}
	}
	if a.Options&unix.WNOTHREAD != 0 && c.parentTask != t {
		return false
	}
	clone := c.exitSignal != unix.SIGCHLD
	return a.Options&unix.WALL != 0 || clone == (a.Options&unix.WCLONE != 0)
}

// takeZombie reports the end of c, and reaps it unless WNOWAIT. k.mu is held.
func (t *Task) takeZombie(c *Process, a *WaitArgs) WaitResult {
	r := WaitResult{PID: t.Number(c.PID), UID: t.Cred().User.ShowUID(c.leader.Cred().UID), Status: c.status, Usage: c.usageOf(unix.RUSAGE_SELF)}
	r.Code, _ = endOf(c.status)
	if a.Options&unix.WNOWAIT == 0 {
		p := t.proc
		if by := c.leader.trace.by; by != nil {
			other := by.proc != c.parent
			t.k.untrace(c.leader, 0)
			if other {
				return r
			}
		}
		c.mu.Lock()
		ended := c.dead
		ended.add(&c.kids)
		c.mu.Unlock()
		p.mu.Lock()
		p.kids.add(&ended)
		p.mu.Unlock()
		t.k.reap(c)
	}
	return r
}

// report fills in r when p has stopped or gone on since the last report. k.mu is held.
func (p *Process) report(options int, r *WaitResult) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.stop
	switch {
	case options&unix.WSTOPPED != 0 && s.reportStop:
		r.PID, r.Code, r.Status = p.PID, cldStopped, int32(s.sig)<<8|0x7f
		s.reportStop = options&unix.WNOWAIT != 0
	case options&unix.WCONTINUED != 0 && s.reportCont:
		p.takeContinued(options, r)
	default:
		return false
	}
	return true
}

// reportContinued is report for the end of a stop only.
func (p *Process) reportContinued(options int, r *WaitResult) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if options&unix.WCONTINUED == 0 || !p.stop.reportCont {
		return false
	}
	p.takeContinued(options, r)
	return true
}

// +checklocks:p.mu
func (p *Process) takeContinued(options int, r *WaitResult) {
	r.PID, r.Code, r.Status = p.PID, cldContinued, 0xffff
	p.stop.reportCont = options&unix.WNOWAIT != 0
}

// reap removes a zombie for good. k.mu is held.
func (k *Kernel) reap(p *Process) {
	p.reaped = true
	if parent := p.parent; parent != nil {
		if i := slices.Index(parent.children, p); i >= 0 {
			parent.children = slices.Delete(parent.children, i, i+1)
		}
		p.parent = nil
	}
	k.leave(p)
	k.ids[p.PID].proc = nil
	k.dropID(p.PID)
	if p.pids.parent != nil {
		p.pids.Put()
	}
}

// childInfo is the siginfo of SIGCHLD about p for a process that is told.
func (p *Process) childInfo(to *Process, sig unix.Signal, code, status int32) (info signal.Info) {
	u := p.sum()
	info.SetHead(sig, 0, code)
	info.SetChild(to.pids.Local(p.PID), to.leader.Cred().User.ShowUID(p.leader.Cred().UID), status, u.utime/tick, u.stime/tick)
	return info
}

// tick is the nanoseconds of one clock tick of times(2), USER_HZ = 100.
const tick = 10_000_000
