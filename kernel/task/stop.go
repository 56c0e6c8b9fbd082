package task

import (
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// stop is the job-control stop of a process. Guarded by Process.mu.
type stop struct {
	active bool        // threads are to stop, or have
	sig    unix.Signal // what stopped it
	left   int         // threads that still run, while active
	done   bool        // all have stopped: the parent has been told
	news   bool        // SIGCONT came: a thread is to tell the parent
	// What waitid(2) reports, once each.
	reportStop, reportCont bool
}

// beginStop makes all threads stop. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) beginStop(sig unix.Signal) {
	s := &p.stop
	if s.active || p.exiting {
		return
	}
	*s = stop{active: true, sig: sig, left: len(p.threads)}
	for _, t := range p.threads {
		t.counted, t.trace.passed = false, false
		if t.exiting {
			s.left--
		} else {
			t.trace.trap = t.trace.trap || t.trace.listening
			t.ask(workSignal)
		}
	}
}

// stopHere parks t until the stop ends. p.mu is held, and released.
//
// +checklocksrelease:t.proc.mu
func (t *Task) stopHere() {
	p := t.proc
	if by, sig, seized := t.trace.by, p.stop.sig, t.trace.seized; by != nil {
		t.trace.passed = true
		t.countStop() // unlocks
		t.groupTrap(sig, seized)
		return
	}
	t.stopped = true
	t.countStop() // unlocks
	for {
		p.mu.Lock()
		if !p.stop.active || t.trace.by != nil || p.exiting || t.flags.Load()&workKill != 0 {
			t.stopped = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		t.sleep()
	}
}

// countStop counts t among those that have stopped, once. p.mu is held, and released.
//
// +checklocksrelease:t.proc.mu
func (t *Task) countStop() {
	if t.counted {
		t.proc.mu.Unlock()
		return
	}
	t.counted = true
	t.proc.stopOne() // unlocks
}

// stopOne counts one thread that has stopped, or ended instead; the last one tells the parent. p.mu is
// held, and released.
//
// +checklocksrelease:p.mu
func (p *Process) stopOne() {
	s := &p.stop
	s.left--
	last := s.left == 0 && !s.done
	if last {
		s.done, s.reportStop = true, true
	}
	p.mu.Unlock()
	if last {
		p.tellParent(unix.SIGSTOP)
	}
}

// resume ends a stop. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) resume() {
	s := &p.stop
	if !s.active {
		return
	}
	done := s.done
	*s = stop{news: done, reportCont: done}
	for _, t := range p.threads {
		t.trace.passed = false
		if t.trace.seized {
			t.trace.trap = true
		}
		t.ask(workSignal)
	}
}

func (p *Process) isStopped() bool {
	p.mu.Lock()
	v := p.stop.done
	p.mu.Unlock()
	return v
}

// tellParent tells of a stop (SIGSTOP) or its end (SIGCONT), unless the parent has set SA_NOCLDSTOP.
func (p *Process) tellParent(what unix.Signal) {
	k := p.k
	k.mu.RLock()
	defer k.mu.RUnlock()
	parent := p.parent
	if parent == nil || p.leader.trace.by != nil && !p.otherTracer() {
		return // to a tracer, stops are told for each thread
	}
	a := parent.Handlers().Get(unix.SIGCHLD)
	if a.Handler != signal.IGN && a.Flags&signal.NoCldStop == 0 {
		code, status := int32(cldContinued), int32(unix.SIGCONT)
		p.mu.Lock()
		if what == unix.SIGSTOP {
			code, status = cldStopped, int32(p.stop.sig)
		}
		p.mu.Unlock()
		info := p.childInfo(parent, unix.SIGCHLD, code, status)
		parent.send(&info)
	}
	parent.childEvents.Notify(unix.POLLIN)
}
