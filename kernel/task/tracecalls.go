package task

import (
	"gosv/kernel/seccomp"
	"gosv/kernel/signal"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// Traced calls f with the thread tid, which t traces and which is in a stop, under that thread's proc.mu: f may use
// the methods that say so. ESRCH.
func (t *Task) Traced(tid int32, f func(o *Task) error) error {
	o := t.traceeOf(tid)
	if o == nil {
		return unix.ESRCH
	}
	p := o.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.trace.by != t || !o.trace.stopped || o.trace.listening || !o.trace.final && o.Killed() {
		return unix.ESRCH
	}
	return f(o)
}

// traceeOf returns the thread tid if t traces it.
func (t *Task) traceeOf(tid int32) *Task {
	k := t.k
	k.mu.RLock()
	defer k.mu.RUnlock()
	e := k.ids[tid]
	if e == nil || e.task == nil || e.task.trace.by != t {
		return nil
	}
	return e.task
}

// TraceMemory returns the memory of the thread tid, which t traces and which is in a stop, with a user added: ESRCH.
func (t *Task) TraceMemory(tid int32) (m *Memory, err error) {
	err = t.Traced(tid, func(o *Task) error {
		if o.mem == nil || !o.mem.hold() {
			return unix.ESRCH
		}
		m = o.mem
		return nil
	})
	return m, err
}

// How a tracee goes on.
type Resume int

// The ways of PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP, PTRACE_SYSEMU and PTRACE_SYSEMU_SINGLESTEP.
const (
	ResumeRun     Resume = 0
	ResumeCall    Resume = hookCall
	ResumeStep    Resume = hookStep
	ResumeEmulate Resume = hookEmulate
)

// Resume lets the thread tid go on, with a signal or 0: ESRCH, EIO.
func (t *Task) Resume(tid int32, how Resume, sig uint64) error {
	if sig > signal.Max {
		return unix.EIO
	}
	return t.Traced(tid, func(o *Task) error {
		o.setHooks(uint32(how), hookTrace)
		if how&ResumeStep != 0 && o.Ctx.RFLAGS&stepFlag == 0 {
			o.stepping = true
			o.Ctx.RFLAGS |= stepFlag
		}
		o.release(unix.Signal(sig))
		return nil
	})
}

// release ends the stop of o. proc.mu is held.
func (o *Task) release(sig unix.Signal) {
	o.trace.resume = sig
	o.trace.stopped, o.trace.listening = false, false
	o.Wake()
}

// Detach is PTRACE_DETACH: ESRCH, EIO.
func (t *Task) Detach(tid int32, sig uint64) error {
	if sig > signal.Max {
		return unix.EIO
	}
	o := t.k.Task(tid)
	if err := t.Traced(tid, func(*Task) error { return nil }); err != nil {
		return err
	}
	k := t.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if o.trace.by != t { // it has ended
		return unix.ESRCH
	}
	k.untrace(o, unix.Signal(sig))
	return nil
}

// Interrupt is PTRACE_INTERRUPT, and Listen PTRACE_LISTEN: ESRCH, EIO for a tracee that was not seized.
func (t *Task) Interrupt(tid int32) error {
	o := t.traceeOf(tid)
	if o == nil {
		return unix.ESRCH
	}
	p := o.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case o.trace.by != t || o.exiting:
		return unix.ESRCH
	case !o.trace.seized:
		return unix.EIO
	}
	o.trace.trap = true
	o.ask(workSignal)
	return nil
}

// Listen leaves the tracee stopped, but has its tracer told of the end of the stop.
func (t *Task) Listen(tid int32) error {
	return t.Traced(tid, func(o *Task) error {
		if !o.trace.seized || o.trace.code>>8 != eventStop {
			return unix.EIO
		}
		o.trace.listening = true
		o.Wake()
		return nil
	})
}

// TraceKill is PTRACE_KILL: ESRCH.
func (t *Task) TraceKill(tid int32) error {
	o := t.traceeOf(tid)
	if o == nil {
		return unix.ESRCH
	}
	o.proc.kill(unix.SIGKILL)
	return nil
}

// SetTraceOptions is PTRACE_SETOPTIONS, in Traced by t: EINVAL, EPERM.
func (t *Task) SetTraceOptions(o *Task, options uint64) error {
	if options&^optionsMask != 0 {
		return unix.EINVAL
	}
	if err := t.mayAsk(options); err != nil {
		return err
	}
	o.trace.options = uint32(options)
	return nil
}

// TraceFilter returns the filter with n older ones, for PTRACE_SECCOMP_GET_FILTER, in Traced by t: EACCES when t has no CAP_SYS_ADMIN or filters of its
// own, EINVAL when o is not in filter mode, ENOENT.
func (t *Task) TraceFilter(o *Task, n uint64) (*seccomp.Filter, error) {
	if !t.Cred().Capable(unix.CAP_SYS_ADMIN) || t.filter.Load() != nil {
		return nil, unix.EACCES
	}
	f := o.filter.Load()
	if f == nil || f == seccomp.Strict {
		return nil, unix.EINVAL
	}
	if f = f.Nth(n); f == nil {
		return nil, unix.ENOENT
	}
	return f, nil
}

// TraceMessage is PTRACE_GETEVENTMSG, in Traced.
func (o *Task) TraceMessage() uint64 { return o.trace.message }

// TraceInfo is PTRACE_GETSIGINFO, in Traced; nil in a group stop. The tracer may change it.
func (o *Task) TraceInfo() *signal.Info { return o.trace.info }

// TraceMask and SetTraceMask are PTRACE_GETSIGMASK and PTRACE_SETSIGMASK, in Traced.
func (o *Task) TraceMask() signal.Set {
	if o.hasSaved {
		return o.saved
	}
	return o.blocked
}

// SetTraceMask sets the blocked signals; in Traced, which holds the process's lock.
//
// +checklocksignore
func (o *Task) SetTraceMask(m signal.Set) {
	if o.hasSaved {
		o.saved = m &^ signal.Unblockable
		return
	}
	o.setMask(m)
}

// TracePending calls f with the signals that wait for o, or for its process, from the one numbered from, until f returns false;
// in Traced, which holds the process's lock (PTRACE_PEEKSIGINFO).
//
// +checklocksignore
func (o *Task) TracePending(shared bool, from uint64, f func(*signal.Info) bool) {
	q := &o.pending
	if shared {
		q = &o.proc.pending
	}
	q.Each(func(info *signal.Info) bool {
		if from > 0 {
			from--
			return true
		}
		return f(info)
	})
}

// CallState tells at which stop of a system call o is, in Traced: of entry, of exit, at a filter's PTRACE_EVENT_SECCOMP, or at none.
func (o *Task) CallState() (entry, exit, filter bool) {
	if o.trace.info == nil {
		return
	}
	switch code := o.trace.info.Code(); code {
	case int32(unix.SIGTRAP) | sysGood:
		return o.trace.message == messageEntry, o.trace.message == messageExit, false
	case int32(unix.SIGTRAP) | unix.PTRACE_EVENT_SECCOMP<<8:
		return false, false, true
	}
	return
}

// UserRegs are the registers in the order of struct user_regs_struct (sys/user.h).
type UserRegs [27]uint64

// Places in UserRegs that have rules of their own.
const (
	regOrigRAX = 15
	regRIP     = 16
	regCS      = 17
	regRFLAGS  = 18
	regSS      = 20
	regFSBase  = 21
	regGSBase  = 22
	regDS      = 23
	flagsMask  = 0x54dd5 // what a program's flags may be set to: CF PF AF ZF SF TF DF OF NT RF AC
)

// place returns where register i of UserRegs lies, nil for those that cannot be changed.
func place(c *machine.Context, i int) *uint64 {
	places := [...]*uint64{&c.R15, &c.R14, &c.R13, &c.R12, &c.RBP, &c.RBX, &c.R11, &c.R10, &c.R9, &c.R8, &c.RAX, &c.RCX, &c.RDX, &c.RSI, &c.RDI,
		&c.OrigRAX, &c.RIP, nil, &c.RFLAGS, &c.RSP, nil, &c.FSBase, &c.GSBase}
	if i < len(places) {
		return places[i]
	}
	return nil
}

// Registers returns the registers of o, in Traced.
func (o *Task) Registers() (r UserRegs) {
	for i := range r {
		if p := place(o.Ctx, i); p != nil {
			r[i] = *p
		}
	}
	if !o.syscall {
		r[regOrigRAX] = 1<<64 - 1
	}
	r[regCS], r[regSS] = userCS, userSS
	return r
}

// The selectors of a 64-bit program.
const (
	userCS = 0x33
	userSS = 0x2b
)

// SetRegister sets register i of UserRegs, in Traced: EIO for values that no program can have.
func (o *Task) SetRegister(i int, v uint64) error {
	switch i {
	case regCS, regSS:
		if v != userCS && v != userSS {
			return unix.EIO
		}
		return nil
	case regFSBase, regGSBase:
		if v >= machine.UserTop {
			return unix.EIO
		}
	case regRFLAGS:
		if v&stepFlag != 0 {
			o.stepping = false
		}
		v = o.Ctx.RFLAGS&^flagsMask | v&flagsMask
	case regOrigRAX:
		o.syscall = int32(v) != -1
	}
	if i >= regDS {
		if v > 0xffff || v != 0 && v&3 != 3 {
			return unix.EIO
		}
		return nil
	}
	*place(o.Ctx, i) = v
	return nil
}

// FloatRegisters returns the floating-point state of o in the format of XSAVE, good until the next call, in Traced.
func (o *Task) FloatRegisters() []byte {
	b := o.floatImage()
	if len(b) > fxsaveSize {
		le.PutUint64(b[xcr0Place:], o.cpu.FloatMask())
	}
	return b
}

const (
	fxsaveSize = 512
	xcr0Place  = 464 // where debuggers find XCR0
)

// SetFloatRegisters replaces the floating-point state, in Traced: EINVAL.
func (o *Task) SetFloatRegisters(b []byte) error {
	if !o.cpu.LoadFloat(o.Ctx, b) {
		return unix.EINVAL
	}
	return nil
}
