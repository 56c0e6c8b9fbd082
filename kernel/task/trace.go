package task

import (
	"slices"

	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// Ptrace(2). A thread that is traced stops where its tracer wants to know of it: its goroutine parks in
// traceStop, and while it is there, and only then, the tracer may look at and change its registers, under
// proc.mu. Stops are told by SIGCHLD and wait(2) (tracewait.go).

// tracee is what is known of the tracing of a thread. Guarded by proc.mu; by is written under Kernel.mu
// as well, so that either suffices to read it.
type tracee struct {
	by      *Task // the tracer, nil for none
	seized  bool  // PTRACE_SEIZE, or the child of such
	options uint32

	stopped   bool // in a stop
	listening bool // PTRACE_LISTEN: as stopped, but job control goes on
	final     bool // the stop of PTRACE_EVENT_EXIT: not even SIGKILL that came before ends it
	fresh     bool // nobody has waited for the stop yet
	code      int32
	info      *signal.Info // of the stop; nil in a group stop of PTRACE_ATTACH
	message   uint64       // PTRACE_GETEVENTMSG
	resume    unix.Signal  // what the tracer lets it go on with

	trap   bool // to stop with PTRACE_EVENT_STOP
	passed bool // has shown the group stop that is on, and was let go on
	dead   bool // a thread, not the leader, that has ended and was not waited for
}

// Bits of Task.hooks: what is to be done about a system call beside the call.
const (
	hookCall    = 1 << iota // stop before and after (PTRACE_SYSCALL)
	hookEmulate             // stop before, and do not make it (PTRACE_SYSEMU)
	hookStep                // single steps: a system call is one
	hookSeccomp             // ask the filters
	hookTrace   = hookCall | hookEmulate | hookStep
)

// The events of ptrace(2); the option that asks for one is 1<<event.
const (
	eventStop   = 128
	stepFlag    = 0x100 // RFLAGS.TF
	sysGood     = 0x80
	optionsMask = 1<<8 - 1 | unix.PTRACE_O_EXITKILL | unix.PTRACE_O_SUSPEND_SECCOMP
)

// Values of PTRACE_GETEVENTMSG in the stops of a system call.
const (
	messageEntry = 1
	messageExit  = 2
)

// Tracer returns the process that traces t, nil for none.
func (t *Task) Tracer() *Task {
	t.proc.mu.Lock()
	v := t.trace.by
	t.proc.mu.Unlock()
	return v
}

// Traceme is PTRACE_TRACEME: EPERM.
func (t *Task) Traceme() error {
	k := t.k
	k.mu.Lock()
	defer k.mu.Unlock()
	parent := t.proc.parent
	if t.trace.by != nil || parent == nil || parent.zombie {
		return unix.EPERM
	}
	by := t.proc.parentTask
	if by == nil {
		by = parent.anyThread()
	}
	if by == nil {
		return unix.EPERM
	}
	t.link(by, tracee{})
	return nil
}

// anyThread returns a thread that runs, the leader if it does; nil for none.
func (p *Process) anyThread() *Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.threads) == 0 || slices.Contains(p.threads, p.leader) && !p.leader.exiting {
		return p.leader
	}
	return p.threads[0]
}

// Attach is PTRACE_ATTACH and, with seize, PTRACE_SEIZE: ESRCH, EPERM, EIO.
func (t *Task) Attach(tid int32, seize bool, options uint64) error {
	if options&^optionsMask != 0 {
		return unix.EIO
	}
	if err := t.mayAsk(options); err != nil {
		return err
	}
	k := t.k
	o := k.Task(tid)
	if o == nil {
		return unix.ESRCH
	}
	if o.proc == t.proc {
		return unix.EPERM
	}
	if err := t.MayAccess(o.proc); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.ids[tid]; e == nil || e.task != o {
		return unix.ESRCH
	}
	if o.trace.by != nil {
		return unix.EPERM
	}
	o.link(t, tracee{seized: seize, options: uint32(options)})
	p := o.proc
	p.mu.Lock()
	if seize {
		o.ask(workSignal) // a stop that is on is to be shown
	} else {
		info := kernelInfo(unix.SIGSTOP)
		p.post(o, &info, true)
	}
	p.mu.Unlock()
	return nil
}

// mayAsk checks the right to trace with those options: EPERM. One that filters hold, or whose own filters are suspended, may not suspend others'.
func (t *Task) mayAsk(options uint64) error {
	if options&unix.PTRACE_O_SUSPEND_SECCOMP != 0 && (!t.Cred().Capable(unix.CAP_SYS_ADMIN) || t.filter.Load() != nil || t.suspended()) {
		return unix.EPERM
	}
	return nil
}

// suspended reports whether t's tracer keeps its filters from being asked (PTRACE_O_SUSPEND_SECCOMP).
func (t *Task) suspended() bool {
	t.proc.mu.Lock()
	v := t.trace.by != nil && t.trace.options&unix.PTRACE_O_SUSPEND_SECCOMP != 0
	t.proc.mu.Unlock()
	return v
}

// link makes by the tracer of t. Kernel.mu is held.
func (t *Task) link(by *Task, how tracee) {
	p := t.proc
	p.mu.Lock()
	t.trace = how
	t.trace.by = by
	if p.stop.active {
		t.ask(workSignal)
	}
	p.mu.Unlock()
	by.proc.tracees = append(by.proc.tracees, t)
}

// inherit makes n, which nobody knows yet, a tracee of t's tracer when that wants its children. It returns the event
// that t is to stop with, 0 for none. Kernel.mu and t.proc.mu are held.
func (n *Task) inherit(t *Task, a *CloneArgs) (event int) {
	tr := &t.trace
	if tr.by == nil {
		return 0
	}
	if a.Flags&unix.CLONE_UNTRACED == 0 {
		switch {
		case a.Flags&unix.CLONE_VFORK != 0:
			event = unix.PTRACE_EVENT_VFORK
		case a.ExitSignal != unix.SIGCHLD || a.Flags&unix.CLONE_THREAD != 0:
			event = unix.PTRACE_EVENT_CLONE
		default:
			event = unix.PTRACE_EVENT_FORK
		}
		if tr.options>>event&1 == 0 {
			event = 0
		}
	}
	if event == 0 && a.Flags&unix.CLONE_PTRACE == 0 {
		return 0
	}
	n.trace = tracee{by: tr.by, seized: tr.seized, options: tr.options, trap: tr.seized}
	if !tr.seized {
		n.pending.AddBare(unix.SIGSTOP)
	}
	n.flags.Or(workSignal)
	by := tr.by.proc
	by.tracees = append(by.tracees, n)
	return event
}

// untrace ends the tracing of o; a thread that waited to be reaped is gone then, and a process is its parent's to
// wait for. Kernel.mu is held.
func (k *Kernel) untrace(o *Task, sig unix.Signal) {
	p, by := o.proc, o.trace.by.proc
	by.tracees = slices.DeleteFunc(by.tracees, func(t *Task) bool { return t == o })
	p.mu.Lock()
	old := o.trace
	o.trace = tracee{resume: sig}
	o.setHooks(0, hookTrace)
	o.Wake()
	if p.stop.active && !o.exiting {
		o.ask(workSignal) // it stops like the others
	}
	p.mu.Unlock()
	if old.dead {
		k.ids[o.TID()].dead = nil
		k.dropID(o.TID())
		if p.unreaped--; p.unreaped == 0 && p.zombie {
			k.announce(p)
		}
	}
	if p.zombie && p.unreaped == 0 && p.leader == o && p.parent != nil && by != p.parent {
		k.tellEnd(p)
	}
}

// untraceAll is the end of a tracer: its tracees go on, or are killed. Kernel.mu is held.
func (k *Kernel) untraceAll(t *Task) {
	for _, o := range append([]*Task(nil), t.proc.tracees...) {
		if o.trace.by != t {
			continue
		}
		kill := o.trace.options&unix.PTRACE_O_EXITKILL != 0
		k.untrace(o, 0)
		if kill {
			o.proc.kill(unix.SIGKILL)
		}
	}
}

// traceStop parks t until its tracer lets it go on, and returns the signal that this gives it. traced is
// false when nobody traces t, or t is being killed: it did not stop.
func (t *Task) traceStop(code int32, why int32, info *signal.Info, message uint64) (sig unix.Signal, traced bool) {
	p, tr := t.proc, &t.trace
	p.mu.Lock()
	if tr.by == nil || !tr.final && t.Killed() {
		p.mu.Unlock()
		return 0, false
	}
	if t.stepping {
		t.stepping = false
		t.Ctx.RFLAGS &^= stepFlag
	}
	tr.code, tr.info, tr.message, tr.resume = code, info, message, 0
	tr.stopped, tr.listening, tr.fresh = true, false, true
	p.mu.Unlock()
	t.tellTracer(why, code&0x7f)
	for {
		p.mu.Lock()
		if !tr.stopped {
			break
		}
		if !tr.final && t.Killed() || tr.listening && tr.trap {
			tr.stopped = false
			break
		}
		p.mu.Unlock()
		t.sleep()
	}
	tr.fresh, tr.info, tr.final = false, nil, false
	sig = tr.resume
	tr.resume = 0
	p.mu.Unlock()
	return sig, true
}

// notice is traceStop for what is no signal: ptrace(2) then makes up the information.
func (t *Task) notice(code, why int32, message uint64) (sig unix.Signal, traced bool) {
	var info signal.Info
	info.SetHead(unix.Signal(code&0x7f), 0, code)
	info.SetSender(t.OwnTID(), t.Cred().UID)
	return t.traceStop(code, why, &info, message)
}

// traceEvent stops with an event if the tracer asked for it.
func (t *Task) traceEvent(event int, message uint64) {
	if t.wantsEvent(event) {
		t.notice(int32(unix.SIGTRAP)|int32(event)<<8, cldTrapped, message)
	}
}

func (t *Task) wantsEvent(event int) bool {
	t.proc.mu.Lock()
	v := t.trace.by != nil && t.trace.options>>event&1 != 0
	t.proc.mu.Unlock()
	return v
}

// traceExec is the stop after execve(2), or the SIGTRAP of those who did not ask for the event; old is the thread ID before.
func (t *Task) traceExec(old uint64) {
	p := t.proc
	p.mu.Lock()
	plain := t.trace.by != nil && !t.trace.seized && t.trace.options&unix.PTRACE_O_TRACEEXEC == 0
	p.mu.Unlock()
	if plain {
		info := kernelInfo(unix.SIGTRAP)
		info.SetHead(unix.SIGTRAP, 0, signal.User)
		info.SetSender(t.proc.own, t.Cred().UID)
		t.Send(&info)
		return
	}
	t.traceEvent(unix.PTRACE_EVENT_EXEC, old)
}

// traceExit is the stop at the end of a thread.
func (t *Task) traceExit() {
	p := t.proc
	p.mu.Lock()
	code := t.exitCode
	if p.exiting {
		code = p.exitCode
	}
	want := t.trace.by != nil && t.trace.options&unix.PTRACE_O_TRACEEXIT != 0
	t.trace.final = want
	p.mu.Unlock()
	if want {
		t.notice(int32(unix.SIGTRAP)|unix.PTRACE_EVENT_EXIT<<8, cldTrapped, uint64(code))
	}
}

// hookedCall is a system call of a thread that is traced or has filters; it returns what RAX is to be.
func (t *Task) hookedCall() (uint64, error) {
	c := t.Ctx
	h := t.hooks.Load()
	c.RAX = errno(unix.ENOSYS)
	if h&(hookCall|hookEmulate) != 0 {
		t.callStop(messageEntry)
		if t.Killed() {
			return c.RAX, nil
		}
	}
	if h&hookEmulate == 0 && int32(c.OrigRAX) != -1 && (h&hookSeccomp == 0 || t.suspended() || t.filtered()) && !t.Killed() {
		t.made()
	}
	if t.Killed() {
		return c.RAX, nil
	}
	if int32(c.OrigRAX) == -1 {
		t.syscall = false
	}
	h = t.hooks.Load()
	if h&hookCall != 0 {
		t.callStop(messageExit)
	}
	if h&hookStep != 0 {
		t.stepped(trapBrkpt)
	}
	return c.RAX, nil
}

// made makes the system call itself.
func (t *Task) made() {
	if nr := uint32(t.Ctx.OrigRAX); nr < tableSize {
		if f := t.k.table[nr]; f != nil {
			v, err := f(t)
			if err != nil {
				v = t.k.Failed(err)
			}
			t.Ctx.RAX = v
			return
		}
	}
	t.k.Dispatch(t)
}

// callStop is the stop before or after a system call; a signal that the tracer gives is sent.
func (t *Task) callStop(message uint64) {
	t.proc.mu.Lock()
	code := int32(unix.SIGTRAP)
	if t.trace.options&unix.PTRACE_O_TRACESYSGOOD != 0 {
		code |= sysGood
	}
	t.proc.mu.Unlock()
	if sig, _ := t.notice(code, cldTrapped, message); sig != 0 {
		t.SendSignal(sig)
	}
}

// stepped sends the SIGTRAP of a single step.
func (t *Task) stepped(code int32) {
	var info signal.Info
	info.SetHead(unix.SIGTRAP, 0, code)
	info.SetAddr(t.Ctx.RIP)
	t.Force(&info)
}

// signalStop shows the signal that t is about to take to the tracer, who may take it away or give another.
// It reports whether t.taken is to be acted upon.
func (t *Task) signalStop() bool {
	p := t.proc
	old := t.taken.Info.Signo()
	sig, traced := t.traceStop(int32(old), cldTrapped, &t.taken.Info, 0)
	switch {
	case !traced:
		return true
	case sig == 0:
		return false
	case sig != old:
		info := &t.taken.Info
		*info = signal.Info{}
		info.SetHead(sig, 0, signal.User)
		if by := t.Tracer(); by != nil {
			info.SetSender(t.Number(by.PID()), by.Cred().UID)
		}
		t.taken.Forced = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.blocked.Has(sig) {
		p.post(t, &t.taken.Info, true)
		return false
	}
	return true
}

// trapStop is the stop that PTRACE_INTERRUPT, a new tracee of PTRACE_SEIZE and the end of a listened stop ask
// for. proc.mu is held, and released.
//
// +checklocksrelease:t.proc.mu
func (t *Task) trapStop() {
	sig := unix.SIGTRAP
	if s := &t.proc.stop; s.active {
		sig = s.sig
		t.trace.passed = true
		t.countStop() // unlocks
	} else {
		t.proc.mu.Unlock()
	}
	t.notice(int32(sig)|eventStop<<8, cldStopped, 0)
}

// groupTrap shows the stop of the process to the tracer.
func (t *Task) groupTrap(sig unix.Signal, seized bool) {
	if seized {
		t.notice(int32(sig)|eventStop<<8, cldStopped, 0)
	} else {
		t.traceStop(int32(sig), cldStopped, nil, 0)
	}
}
