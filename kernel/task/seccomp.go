package task

import (
	"gosv/kernel/bpf"
	"gosv/kernel/seccomp"
	"gosv/kernel/share"
	"gosv/kernel/signal"
	"gosv/kernel/vfs"

	"golang.org/x/sys/unix"
)

// Modes of seccomp(2), as PR_GET_SECCOMP and /proc/PID/status tell.
const (
	seccompOff    = 0
	seccompStrict = 1
	seccompFilter = 2
)

// SeccompMode returns the mode and the number of filters; any goroutine may ask.
func (t *Task) SeccompMode() (mode, filters int) {
	switch f := t.filter.Load(); f {
	case nil:
		return seccompOff, 0
	case seccomp.Strict:
		return seccompStrict, 0
	default:
		return seccompFilter, f.Length()
	}
}

// SetSeccompStrict is SECCOMP_SET_MODE_STRICT: EINVAL when there are filters.
func (t *Task) SetSeccompStrict() error {
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := t.filter.Load(); f != nil && f != seccomp.Strict {
		return unix.EINVAL
	}
	t.setFilter(seccomp.Strict)
	return nil
}

// A SeccompError says that a thread has filters of its own and cannot take the caller's.
type SeccompError struct{ TID int32 }

func (e *SeccompError) Error() string { return "thread " + itoa(e.TID) + " has other filters" }

// FilterOptions are the flags of SECCOMP_SET_MODE_FILTER.
type FilterOptions struct {
	Sync     bool // all threads of the process get the filters
	Log      bool
	Listen   bool // somebody is asked, by a file
	Killable bool // and then only SIGKILL interrupts
}

// AddFilter is SECCOMP_SET_MODE_FILTER; with Listen it returns the file. The errors are those of seccomp.New, EACCES, EINVAL in strict
// mode, EBUSY for a second listener, ENOMEM, and a *SeccompError.
func (t *Task) AddFilter(prog []bpf.Insn, o FilterOptions) (*vfs.File, error) {
	c := t.Cred()
	if !c.NoNewPrivs && !c.CapableOwn(unix.CAP_SYS_ADMIN) {
		return nil, unix.EACCES
	}
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	old := t.filter.Load()
	if old == seccomp.Strict {
		return nil, unix.EINVAL
	}
	f, err := seccomp.New(prog, old)
	if err != nil {
		return nil, err
	}
	cost := int64(256 + 2*bpf.Size*len(prog))
	if !share.Filters.TakeCollected(cost) {
		return nil, unix.ENOMEM
	}
	share.Collected(share.Filters, f, cost)
	f.Log = o.Log
	if o.Listen && listenerOf(old) != nil {
		return nil, unix.EBUSY
	}
	if o.Sync {
		if err := t.mayShare(old); err != nil {
			return nil, err
		}
	}
	var file *vfs.File
	if o.Listen {
		l := &listener{killable: o.Killable}
		f.Listener = l
		file = vfs.NewAnon("seccomp notify", l, c, unix.O_RDWR)
	}
	t.setFilter(f)
	if o.Sync {
		t.shareFilter(f, c.NoNewPrivs)
	}
	return file, nil
}

// mayShare checks that no other thread of the process has filters that are not under old. proc.mu is held.
//
// +checklocks:t.proc.mu
func (t *Task) mayShare(old *seccomp.Filter) error {
	for _, o := range t.proc.threads {
		if g := o.filter.Load(); o != t && !o.exiting && (g == seccomp.Strict || !g.Under(old)) {
			return &SeccompError{t.Number(o.TID())}
		}
	}
	return nil
}

// shareFilter gives the other threads of the process f, and the bit that allowed t to set it. proc.mu is held.
//
// +checklocks:t.proc.mu
func (t *Task) shareFilter(f *seccomp.Filter, noNewPrivs bool) {
	for _, o := range t.proc.threads {
		if o == t || o.exiting {
			continue
		}
		o.setFilter(f)
		for d := o.cred.Load(); noNewPrivs && !d.NoNewPrivs && !o.cred.CompareAndSwap(d, d.SetNoNewPrivs()); d = o.cred.Load() {
		}
	}
}

// setFilter makes f the filters of t, from its next system call on. proc.mu is held.
func (t *Task) setFilter(f *seccomp.Filter) {
	useFilters(f, 1)
	useFilters(t.filter.Swap(f), -1)
	t.setHooks(hookSeccomp, 0)
}

// filtered asks the filters about the system call, and reports whether it is to be made. If not, its result, or the signal in its place,
// is set.
func (t *Task) filtered() bool {
	d := t.callData()
	answer, by := t.filter.Load().Run(&d)
	data := answer & seccomp.DataMask
	switch answer & seccomp.ActionMask {
	case seccomp.Allow:
		return true
	case seccomp.Log:
		t.logFiltered(answer)
		return true
	case seccomp.Errno:
		t.Ctx.RAX = -uint64(min(data, 4095))
	case seccomp.Trap:
		t.trapFiltered(data)
	case seccomp.Trace:
		return t.traceFiltered(data)
	case seccomp.UserNotif:
		l, ok := by.Listener.(*listener)
		if ok {
			return t.consult(l, &d)
		}
		t.Ctx.RAX = errno(unix.ENOSYS) // nobody listens
	case seccomp.KillThread:
		t.killFiltered(answer, by == seccomp.Strict)
		return false
	default:
		t.killFiltered(answer, false)
		return false
	}
	if by.Log {
		t.logFiltered(answer)
	}
	return false
}

// callData is what filters see of the system call.
func (t *Task) callData() seccomp.Data {
	c := t.Ctx
	return seccomp.Data{NR: int32(c.OrigRAX), Arch: seccomp.ArchX86_64, IP: c.RIP, Args: [6]uint64{c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9}}
}

func (t *Task) logFiltered(answer uint32) {
	t.k.Log("seccomp: " + t.Comm() + "[" + itoa(t.TID()) + "]: system call " + itoa(int32(t.Ctx.OrigRAX)) + ": " + seccompNames[answer&seccomp.ActionMask])
}

var seccompNames = map[uint32]string{
	seccomp.KillProcess: "kill_process", seccomp.KillThread: "kill_thread", seccomp.Trap: "trap", seccomp.Errno: "errno",
	seccomp.UserNotif: "user_notif", seccomp.Trace: "trace", seccomp.Log: "log",
}

// trapFiltered sends the SIGSYS of SECCOMP_RET_TRAP; the registers are those before the call.
func (t *Task) trapFiltered(data uint32) {
	info := t.undoFiltered(data)
	t.Force(&info)
}

// undoFiltered makes the registers what they were before the call, and returns what SIGSYS tells of it.
func (t *Task) undoFiltered(data uint32) (info signal.Info) {
	const sysSeccomp = 1
	c := t.Ctx
	c.RAX = c.OrigRAX
	t.syscall = false
	info.SetHead(unix.SIGSYS, int32(data), sysSeccomp)
	info.SetAddr(c.RIP)
	le.PutUint32(info[24:], uint32(c.OrigRAX))
	le.PutUint32(info[28:], seccomp.ArchX86_64)
	return info
}

// traceFiltered has the tracer decide, who may change the call; then the filters are asked again, as to another call.
func (t *Task) traceFiltered(data uint32) bool {
	t.Ctx.RAX = errno(unix.ENOSYS)
	if !t.wantsEvent(unix.PTRACE_EVENT_SECCOMP) {
		return false
	}
	t.traceEvent(unix.PTRACE_EVENT_SECCOMP, uint64(data))
	if t.Killed() || int32(t.Ctx.OrigRAX) == -1 {
		return false
	}
	d := t.callData()
	if answer, _ := t.filter.Load().Run(&d); answer&seccomp.ActionMask == seccomp.Trace {
		return true
	}
	return t.filtered()
}

// killFiltered ends the thread, or the process if it has no other or the answer says so, as SIGSYS does; strict mode kills
// the thread by SIGKILL.
func (t *Task) killFiltered(answer uint32, strict bool) {
	t.logFiltered(answer)
	p := t.proc
	p.mu.Lock()
	switch {
	case strict:
		t.exitCode = int32(unix.SIGKILL)
	case answer&seccomp.ActionMask == seccomp.KillThread && len(p.threads) > 1:
		t.exitCode = int32(unix.SIGSYS)
	default:
		t.taken.Info = t.undoFiltered(answer & seccomp.DataMask)
		t.flags.Or(workKill)
		t.dieWithCore(unix.SIGSYS) // unlocks
		return
	}
	t.flags.Or(workKill)
	p.mu.Unlock()
}
