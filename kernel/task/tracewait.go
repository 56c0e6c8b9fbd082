package task

import (
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// tellTracer tells the tracer of a stop of t, unless it has set SA_NOCLDSTOP.
func (t *Task) tellTracer(code, status int32) {
	k := t.k
	k.mu.RLock()
	defer k.mu.RUnlock()
	if by := t.trace.by; by != nil {
		t.tell(by.proc, code, status)
	}
}

// tell sends SIGCHLD about the thread t and wakes those who wait. Kernel.mu is held.
func (t *Task) tell(to *Process, code, status int32) {
	a := to.Handlers().Get(unix.SIGCHLD)
	ended := code == cldExited || code == cldKilled || code == cldDumped
	if a.Handler != signal.IGN && (ended || a.Flags&signal.NoCldStop == 0) {
		info := t.proc.childInfo(to, unix.SIGCHLD, code, status)
		le.PutUint32(info[16:], uint32(to.pids.Local(t.TID())))
		to.send(&info)
	}
	to.childEvents.Notify(unix.POLLIN)
}

// otherTracer reports whether somebody who is not p's parent traces p's leader. Kernel.mu is held.
func (p *Process) otherTracer() bool {
	by := p.leader.trace.by
	return by != nil && by.proc != p.parent
}

// findTracee is findChild among those whom the caller's process traces. Kernel.mu is held.
func (t *Task) findTracee(a *WaitArgs) (r WaitResult, any, found bool) {
	for _, o := range t.proc.tracees {
		if !t.selectsTracee(o, a) {
			continue
		}
		any = true
		leader := o.proc.leader == o
		switch {
		case leader && o.proc.zombie:
			if a.Options&unix.WEXITED != 0 && o.proc.unreaped == 0 {
				return t.takeZombie(o.proc, a), true, true
			}
		case o.trace.dead:
			if a.Options&unix.WEXITED != 0 {
				return t.takeThread(o, a), true, true
			}
		case o.reportTrace(a, &r):
			r.PID = t.Number(o.TID())
			return r, true, true
		case leader && o.proc.parent == t.proc && o.proc.reportContinued(a.Options, &r):
			r.PID, r.UID, r.Usage = t.Number(o.TID()), o.Cred().UID, o.proc.usageOf(unix.RUSAGE_SELF)
			return r, true, true
		}
	}
	return r, any, false
}

func (t *Task) selectsTracee(o *Task, a *WaitArgs) bool {
	switch a.Type {
	case unix.P_PID:
		if o.TID() != a.ID {
			return false
		}
	case unix.P_PGID:
		id := a.ID
		if id == 0 {
			id = t.proc.group.ID
		}
		if o.proc.group == nil || o.proc.group.ID != id {
			return false
		}
	case unix.P_PIDFD:
		if o.proc != a.Process || o.proc.leader != o {
			return false
		}
	}
	return a.Options&unix.WNOTHREAD == 0 || o.trace.by == t
}

// takeThread reports the end of a thread, and forgets it unless WNOWAIT. Kernel.mu is held.
func (t *Task) takeThread(o *Task, a *WaitArgs) WaitResult {
	r := WaitResult{PID: t.Number(o.TID()), UID: o.Cred().UID, Status: o.exitCode}
	r.Code, _ = endOf(r.Status)
	if a.Options&unix.WNOWAIT == 0 {
		t.k.untrace(o, 0)
	}
	return r
}

// reportTrace fills in r when o is in a stop that was not reported yet.
func (o *Task) reportTrace(a *WaitArgs, r *WaitResult) bool {
	p := o.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	tr := &o.trace
	if !tr.stopped || !tr.fresh {
		return false
	}
	tr.fresh = a.Options&unix.WNOWAIT != 0
	var s usageSum
	s.addTask(o)
	s.split()
	*r = WaitResult{PID: o.TID(), UID: o.Cred().UID, Code: cldTrapped, Status: tr.code<<8 | 0x7f, Usage: s.rusage()}
	return true
}

// endTraced keeps a traced thread that has ended for its tracer to wait for. Kernel.mu is held.
func (k *Kernel) endTraced(t *Task, e *id) {
	p := t.proc
	p.mu.Lock()
	if p.exiting {
		t.exitCode = p.exitCode
	}
	keep := t.trace.by != nil && p.leader != t
	t.trace.dead = keep
	p.mu.Unlock()
	if !keep {
		return
	}
	e.dead = t
	p.unreaped++
	by := t.trace.by.proc
	if a := by.Handlers().Get(unix.SIGCHLD); a.Handler == signal.IGN || a.Flags&signal.NoCldWait != 0 {
		k.untrace(t, 0)
		by.childEvents.Notify(unix.POLLIN)
		return
	}
	code, status := endOf(t.exitCode)
	t.tell(by, code, status)
}
