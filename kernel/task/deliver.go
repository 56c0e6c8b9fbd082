package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// deliver takes signals and does what they ask for, before t goes back to its
// program: signal(7) and Linux's get_signal and handle_signal.
func (t *Task) deliver() {
	p := t.proc
	handled := false
	for t.flags.Load()&workKill == 0 {
		p.mu.Lock()
		if p.stop.news {
			p.stop.news = false
			p.mu.Unlock()
			p.tellParent(unix.SIGCONT)
			continue
		}
		if t.trace.trap {
			t.trace.trap = false
			t.trapStop() // unlocks
			continue
		}
		if p.stop.active && !t.trace.passed {
			t.stopHere() // unlocks
			continue
		}
		if !t.take(t.blocked) {
			p.recalc(t)
			p.mu.Unlock()
			break
		}
		traced := t.trace.by != nil
		p.mu.Unlock()
		if traced && !t.signalStop() {
			continue
		}
		if t.act() {
			handled = true
		}
	}
	if handled || t.flags.Load()&workKill != 0 {
		return
	}
	t.restartCall()
	if t.hasSaved {
		t.hasSaved = false
		t.SetMask(t.saved)
	}
}

// take moves the next signal that is not in blocked to t.taken. proc.mu is held.
//
// +checklocks:t.proc.mu
func (t *Task) take(blocked signal.Set) bool {
	ok, n := t.pending.Take(blocked, &t.taken)
	t.proc.queued -= n
	if !ok {
		ok, n = t.proc.pending.Take(blocked, &t.taken)
		t.proc.queued -= n
	}
	t.mayStop = true
	return ok
}

// recalc makes the work bit of a thread say whether there is a signal to deliver. Only t itself clears it. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) recalc(t *Task) {
	if (t.pending.Set()|p.pending.Set())&^t.blocked != 0 || p.stop.active && !t.trace.passed || p.stop.news || t.trace.trap {
		t.flags.Or(workSignal)
	} else {
		t.flags.And(^uint32(workSignal))
	}
}

// act does what t.taken asks for. It reports true when the next thing to run is a handler.
func (t *Task) act() bool {
	p := t.proc
	sig := t.taken.Info.Signo()
	a := p.Handlers().Begin(sig)
	t.usage.signals.Add(1)
	switch a.Handler {
	case signal.IGN:
		return false
	case signal.DFL:
		t.defaultAction(sig)
		return false
	}
	t.interruptCall(a.Flags)
	t.resumeRseq()
	step := t.stepping
	if step {
		t.stepping = false
		t.Ctx.RFLAGS &^= stepFlag
	}
	if !t.pushFrame(sig, &a) {
		t.forceSegv(sig)
		return false
	}
	p.mu.Lock()
	mask := t.blocked | signal.Set(a.Mask)
	if a.Flags&signal.NoDefer == 0 {
		mask |= signal.Of(sig)
	}
	t.hasSaved = false
	t.setMask(mask)
	p.mu.Unlock()
	if step {
		t.syscall = false
		if sig, _ := t.notice(int32(unix.SIGTRAP), cldTrapped, 0); sig != 0 {
			t.SendSignal(sig)
		}
	}
	return true
}

func (t *Task) defaultAction(sig unix.Signal) {
	p := t.proc
	action := signal.Default(sig)
	if action == signal.Ignore || action == signal.Continue {
		return
	}
	// What a stop signal does depends on the tree, which is not to be asked under p.mu.
	orphaned := action == signal.Stop && sig != unix.SIGSTOP && p.orphanedGroup()
	p.mu.Lock()
	switch {
	case p.deaf(sig, t.taken.Forced):
	case action == signal.Stop:
		if !orphaned && t.mayStop {
			p.beginStop(sig)
		}
	case action == signal.Core:
		t.dieWithCore(sig) // unlocks
		return
	default:
		p.exit(int32(sig))
	}
	p.mu.Unlock()
}

// interruptCall decides about the system call that a handler interrupts.
func (t *Task) interruptCall(flags uint64) {
	if !t.syscall {
		return
	}
	t.syscall = false
	switch r := t.Ctx.RAX; -r {
	case uint64(abi.ERESTARTSYS):
		if flags&signal.Restart == 0 {
			t.Ctx.RAX = errno(unix.EINTR)
			return
		}
		t.repeatCall(t.Ctx.OrigRAX)
	case uint64(abi.ERESTARTNOINTR):
		t.repeatCall(t.Ctx.OrigRAX)
	case uint64(abi.ERESTARTNOHAND), uint64(abi.ERESTART_RESTARTBLOCK):
		t.Ctx.RAX = errno(unix.EINTR)
	}
}

// restartCall has an interrupted system call made again, because no handler ran.
func (t *Task) restartCall() {
	if !t.syscall {
		return
	}
	t.syscall = false
	switch -t.Ctx.RAX {
	case uint64(abi.ERESTARTSYS), uint64(abi.ERESTARTNOINTR), uint64(abi.ERESTARTNOHAND):
		t.repeatCall(t.Ctx.OrigRAX)
	case uint64(abi.ERESTART_RESTARTBLOCK):
		t.repeatCall(unix.SYS_RESTART_SYSCALL)
	}
}

// repeatCall goes back to the SYSCALL instruction, which is two bytes long.
func (t *Task) repeatCall(nr uint64) {
	t.Ctx.RAX = nr
	t.Ctx.RIP -= 2
}

func errno(e unix.Errno) uint64 { return -uint64(e) }

// pushFrame builds the signal frame and makes the handler of a run; false when the stack cannot take it.
func (t *Task) pushFrame(sig unix.Signal, a *abi.SigAction) bool {
	if a.Flags&signal.Restorer == 0 {
		return false // x86-64 has no other way back
	}
	c := t.Ctx
	n := t.cpu.FloatSize()
	l, ok := signal.Place(c.RSP, &t.alt, a.Flags&signal.OnStack != 0, n)
	if !ok {
		return false
	}
	b := t.buffer(int(l.End - l.SP))
	clear(b[signal.FrameSize:min(signal.FrameSize+64, len(b))]) // the gap of the alignment
	t.cpu.SaveFloat(c, b[l.Float-l.SP:][:n])
	mask := t.blocked
	if t.hasSaved {
		mask = t.saved
	}
	f := signal.Frame{
		Info: &t.taken.Info, Mask: mask, Stack: signal.Describe(&t.alt, c.RSP), Restorer: a.Restorer,
		Trap: t.trap.vector, Error: t.trap.code, FaultAddr: t.trap.addr,
		FloatSize: n, FloatMask: t.cpu.FloatMask(),
	}
	signal.Build(b, l, &f, &c.Regs)
	if _, err := t.mem.CopyOut(l.SP, b); err != nil {
		return false
	}
	signal.Enter(&c.Regs, l, uint64(sig), a.Handler)
	t.cpu.ResetFloat(c)
	if uint32(t.alt.Flags)&signal.AutoDisarm != 0 {
		t.alt = abi.StackT{Flags: signal.Disable}
	}
	return true
}

// forceSegv is what happens to a program whose handler of sig cannot be run.
func (t *Task) forceSegv(sig unix.Signal) {
	if sig == unix.SIGSEGV {
		t.proc.Handlers().SetDefault(sig)
	}
	info := kernelInfo(unix.SIGSEGV)
	t.Force(&info)
}

// Sigreturn is rt_sigreturn(2): it takes all registers from the frame on the
// stack and returns what is to be in RAX. A frame that cannot be read or holds no valid state is SIGSEGV.
func (t *Task) Sigreturn() uint64 {
	c := t.Ctx
	b := t.buffer(signal.FrameSize)
	t.syscall = false
	if _, err := t.mem.CopyIn(b, c.RSP-8); err != nil { // the handler's return has taken the restorer off
		t.forceSegv(0)
		return 0
	}
	r := signal.Restore(b, &c.Regs)
	if !t.restoreFloat(r.Float) {
		t.forceSegv(0)
		return c.RAX
	}
	t.SetMask(r.Mask)
	if alt, err := signal.Check(&t.alt, r.Stack, c.RSP, signal.MinSize); err == nil {
		t.alt = alt
	}
	if !r.Selectors {
		t.trap = trapInfo{vector: vectorGP}
		t.forceSegv(0)
	}
	return c.RAX
}

// restoreFloat loads the floating-point state at user address addr; 0 is the initial state.
func (t *Task) restoreFloat(addr uint64) bool {
	if addr == 0 {
		t.cpu.ResetFloat(t.Ctx)
		return true
	}
	size := t.cpu.FloatSize()
	b := t.buffer(size + 4)
	n, err := t.mem.CopyIn(b, addr)
	if err != nil && n < signal.FloatHeaderSize {
		return false
	}
	length := signal.FloatLength(b[:signal.FloatHeaderSize], size)
	if length > signal.FloatHeaderSize && (n < length+4 || !signal.FloatEnd(b[length:])) {
		length = signal.FloatHeaderSize
	}
	return t.cpu.LoadFloat(t.Ctx, b[:length])
}
