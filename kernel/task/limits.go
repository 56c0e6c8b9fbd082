package task

import (
	"gosv/kernel/mm"

	"golang.org/x/sys/unix"
)

const nlimits = 16 // RLIM_NLIMITS

// limits are the resource limits of a process (getrlimit(2)).
type limits [nlimits]unix.Rlimit

// defaultLimits are those of process 1 under Linux, with as many open files as Docker allows. The
// soft limit stays at 1024, for there are programs that close all descriptors up to it, or use select(2).
func defaultLimits() (l limits) {
	for i := range l {
		l[i] = unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	}
	l[unix.RLIMIT_STACK].Cur = 8 << 20
	l[unix.RLIMIT_CORE].Cur = 0
	l[unix.RLIMIT_NOFILE] = unix.Rlimit{Cur: 1024, Max: 1 << 20}
	l[unix.RLIMIT_MEMLOCK] = unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}
	l[rlimitSigpending] = unix.Rlimit{Cur: 16384, Max: 16384}
	l[rlimitMsgqueue] = unix.Rlimit{Cur: 819200, Max: 819200}
	l[rlimitNice] = unix.Rlimit{}
	l[rlimitRtprio] = unix.Rlimit{}
	return l
}

// Limits that golang.org/x/sys/unix does not name (include/uapi/asm-generic/resource.h).
const (
	rlimitSigpending = 11
	rlimitMsgqueue   = 12
	rlimitNice       = 13
	rlimitRtprio     = 14
)

func (l *limits) pending() int {
	return int(min(l[rlimitSigpending].Cur, 1<<30))
}

// Limit returns a resource limit, RLIMIT_…; the number must be valid.
func (p *Process) Limit(resource int) unix.Rlimit {
	p.mu.Lock()
	v := p.limits[resource]
	p.mu.Unlock()
	return v
}

// Prlimit is prlimit(2): pid 0 is t's own process. EINVAL, ESRCH, EPERM.
func (t *Task) Prlimit(pid int32, resource int, set *unix.Rlimit) (old unix.Rlimit, err error) {
	if resource < 0 || resource >= nlimits || set != nil && set.Cur > set.Max {
		return old, unix.EINVAL
	}
	p := t.proc
	if pid != 0 && pid != p.PID {
		o := t.k.Task(pid)
		if o == nil {
			return old, unix.ESRCH
		}
		if p = o.proc; p != t.proc && !t.mayLimit(o) {
			return old, unix.EPERM
		}
	}
	p.mu.Lock()
	old = p.limits[resource]
	if set != nil {
		if set.Max > old.Max && !t.Cred().Capable(unix.CAP_SYS_RESOURCE) ||
			resource == unix.RLIMIT_NOFILE && set.Max > 1<<20 {
			p.mu.Unlock()
			return old, unix.EPERM
		}
		p.limits[resource] = *set
	}
	p.mu.Unlock()
	if set == nil {
		return old, nil
	}
	if resource == unix.RLIMIT_CPU {
		p.checkCPU()
	}
	p.applyLimits(t.Cred().Capable(unix.CAP_IPC_LOCK))
	return old, nil
}

func (t *Task) mayLimit(o *Task) bool {
	c, d := t.Cred(), o.Cred()
	return c.UID == d.UID && c.UID == d.EUID && c.UID == d.SUID && c.GID == d.GID && c.GID == d.EGID && c.GID == d.SGID ||
		c.CapableIn(d.User, unix.CAP_SYS_RESOURCE)
}

// applyLimits tells the address space what the limits are now.
func (t *Task) applyLimits() { t.proc.applyLimits(t.Cred().Capable(unix.CAP_IPC_LOCK)) }

func (p *Process) applyLimits(ipcLock bool) {
	m := p.Memory()
	if m == nil {
		return
	}
	m.SetLimits(p.MemoryLimits(ipcLock))
	m.Release()
}

// MemoryLimits returns the limits in the form that mm takes, also for the loader.
func (p *Process) MemoryLimits(ipcLock bool) mm.Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return mm.Limits{
		AS: p.limits[unix.RLIMIT_AS].Cur, Data: p.limits[unix.RLIMIT_DATA].Cur,
		Stack: p.limits[unix.RLIMIT_STACK].Cur, Memlock: p.limits[unix.RLIMIT_MEMLOCK].Cur,
		IPCLock: ipcLock,
	}
}
