package task

import (
	"sync"
	"sync/atomic"

	"gosv/kernel/signal"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// Process is a thread group.
type Process struct {
	k   *Kernel
	PID int32 // changes never

	pids   *PIDNamespace // that it is in; none of these changes
	own    int32         // its number there
	nsInit bool          // the first process of a namespace below the first

	ppid atomic.Int32 // the parent's PID, 0 for process 1; written under Kernel.mu

	// The tree; guarded by Kernel.mu.
	parent     *Process // nil for process 1 and for the dead
	parentTask *Task    // the thread that made it, for PR_SET_PDEATHSIG and __WNOTHREAD; nil when adopted
	children   []*Process
	adopted    bool // reaped by the kernel, see the package comment
	subreaper  bool
	group      *Group
	noTTY      bool // gave up the session's terminal (TIOCNOTTY)
	zombie     bool
	reaped     bool
	status     int32       // wait(2)'s encoding, of a zombie
	exitSignal unix.Signal // what the parent is sent, 0 for nothing
	execed     bool        // has called execve(2) since fork: setpgid(2) on it fails
	tracees    []*Task     // whom its threads trace
	unreaped   int         // traced threads that have ended and were not waited for: until then, its own end is not told
	onEnd      func(status int32)

	// Children's ends and stops; the tasks in wait4(2) are on it. And the
	// process's own end, for pidfds.
	childEvents wait.Queue
	exited      wait.Queue
	sigfd       wait.Queue // told of each signal queued

	mu     sync.Mutex
	leader *Task // guarded by mu and Kernel.mu: either suffices to read
	// +checklocks:mu
	threads []*Task // those that run
	// +checklocks:mu
	exiting bool // all threads end
	// +checklocks:mu
	exitCode int32 // what they end with, as wait(2) encodes it
	// +checklocks:mu
	execer *Task // the thread in execve(2) that waits to be alone

	handlers atomic.Pointer[signal.Handlers]
	// +checklocks:mu
	pending signal.Pending
	// +checklocks:mu
	next int // where to look first for a thread that takes a signal
	// +checklocks:mu
	stop stop
	// +checklocks:mu
	tame bool // others' signals without a handler are ignored: process 1
	// +checklocks:mu
	queued int // entries on the queues of all its threads

	// +checklocks:mu
	limits limits
	// +checklocks:mu
	timers timers
	// +checklocks:mu
	exe *vfs.File
	// +checklocks:mu
	layout Layout
	// +checklocks:mu
	dumpable bool
	// +checklocks:mu
	dump       *dump        // that is being made
	dumpFilter atomic.Int32 // what is dumped, see DumpFilter
	// +checklocks:mu
	dead     usageSum      // of threads that ended
	borrowed atomic.Uint64 // ticks that borrowed tasks have used
	// +checklocks:mu
	kids    usageSum // of children that were waited for
	started int64    // monotonic ns
	oomAdj  atomic.Int32
}

func newProcess(k *Kernel) *Process {
	p := &Process{k: k, started: k.Clock.Now(), dumpable: true}
	p.dumpFilter.Store(firstDumpFilter)
	return p
}

// Kernel returns the kernel that p belongs to.
func (p *Process) Kernel() *Kernel { return p.k }

// Leader returns the thread whose ID is the process's; it may have ended before the others.
func (p *Process) Leader() *Task {
	p.mu.Lock()
	v := p.leader
	p.mu.Unlock()
	return v
}

// Threads returns the running threads.
func (p *Process) Threads() []*Task {
	p.mu.Lock()
	v := append([]*Task(nil), p.threads...)
	p.mu.Unlock()
	return v
}

// Handlers returns the signal handlers.
func (p *Process) Handlers() *signal.Handlers { return p.handlers.Load() }

// Started returns the monotonic time at which p was made, in nanoseconds.
func (p *Process) Started() int64 { return p.started }

// PPID returns the parent's process ID, 0 for process 1.
func (p *Process) PPID() int32 { return p.ppid.Load() }

// Children returns the child processes, zombies too.
func (p *Process) Children() []*Process {
	p.k.mu.RLock()
	v := append([]*Process(nil), p.children...)
	p.k.mu.RUnlock()
	return v
}

// Zombie reports whether all threads have ended.
func (p *Process) Zombie() bool {
	p.k.mu.RLock()
	v := p.zombie
	p.k.mu.RUnlock()
	return v
}

// Memory returns the address space with a user added, whom the caller takes
// away by Release; nil when the process has ended.
func (p *Process) Memory() *Memory {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.threads {
		if t.mem != nil && t.mem.hold() {
			return t.mem
		}
	}
	return nil
}

// Files returns the descriptor table of the first thread, nil after its end.
func (p *Process) Files() *vfs.FDTable {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.threads {
		if t.Files != nil {
			return t.Files
		}
	}
	return nil
}

// FS returns the root, current directory and umask of the first thread, nil after its end.
func (p *Process) FS() *FS {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.threads {
		if t.FS != nil {
			return t.FS
		}
	}
	return nil
}

// Exe returns the program's file, nil after the end; the caller must not DecRef it.
func (p *Process) Exe() *vfs.File {
	p.mu.Lock()
	v := p.exe
	p.mu.Unlock()
	return v
}

// Layout returns where the program's parts lie.
func (p *Process) Layout() Layout {
	p.mu.Lock()
	v := p.layout
	p.mu.Unlock()
	return v
}

// MayAccess is ptrace_may_access of ptrace(2) in the mode that attaching, reading and writing another's
// memory need: EPERM.
func (t *Task) MayAccess(p *Process) error {
	if p == t.proc {
		return nil
	}
	c, d := t.Cred(), p.Cred()
	if c.CapableIn(d.User, unix.CAP_SYS_PTRACE) {
		return nil
	}
	same := c.UID == d.EUID && c.UID == d.SUID && c.UID == d.UID && c.GID == d.EGID && c.GID == d.SGID && c.GID == d.GID
	if !same || !p.Dumpable() || c.User != d.User || d.Permitted&^c.Permitted != 0 {
		return unix.EPERM
	}
	return nil
}

// SetSubreaper is PR_SET_CHILD_SUBREAPER; for process 1 it ends the kernel's own reaping of orphans.
func (p *Process) SetSubreaper(on bool) {
	p.k.mu.Lock()
	p.subreaper = on
	p.k.mu.Unlock()
}

// Subreaper returns what SetSubreaper set.
func (p *Process) Subreaper() bool {
	p.k.mu.RLock()
	v := p.subreaper
	p.k.mu.RUnlock()
	return v
}

// Dumpable is PR_GET_DUMPABLE.
func (p *Process) Dumpable() bool {
	p.mu.Lock()
	v := p.dumpable
	p.mu.Unlock()
	return v
}

// SetDumpable is PR_SET_DUMPABLE.
func (p *Process) SetDumpable(on bool) { p.setDumpable(on) }

func (p *Process) setDumpable(on bool) {
	p.mu.Lock()
	p.dumpable = on
	p.mu.Unlock()
}

// State returns the letter of /proc/PID/stat: R, S, D, T, t, Z or X.
func (p *Process) State() byte {
	p.k.mu.RLock()
	zombie, reaped := p.zombie, p.reaped
	p.k.mu.RUnlock()
	switch {
	case reaped:
		return 'X'
	case zombie:
		return 'Z'
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader.exiting && len(p.threads) > 0 && p.threads[0] != p.leader {
		return 'Z'
	}
	return p.leader.state()
}

// state is State of one thread. proc.mu is held.
func (t *Task) state() byte {
	switch {
	case t.trace.stopped:
		return 't'
	case t.stopped:
		return 'T'
	case !t.usage.active.Load() && t.deep.Load():
		return 'D'
	case !t.usage.active.Load():
		return 'S'
	}
	return 'R'
}

// State returns the letter of /proc/PID/task/TID/stat.
func (t *Task) State() byte {
	t.proc.mu.Lock()
	v := t.state()
	t.proc.mu.Unlock()
	return v
}

// Where is what /proc/PID/syscall tells of a thread: the system call it is in, NR −1 for none, and its place in the program.
type Where struct {
	NR     int64
	Args   [6]uint64
	SP, PC uint64
}

// Where returns where t is; ok is false while it runs, unless it asks itself. The registers are those of a thread that sleeps, but for one that wakes up meanwhile.
func (t *Task) Where(self bool) (w Where, ok bool) {
	t.proc.mu.Lock()
	defer t.proc.mu.Unlock()
	if t.exiting || t.usage.active.Load() && !self {
		return w, false
	}
	c := t.Ctx
	w = Where{NR: -1, SP: c.RSP, PC: c.RIP}
	if t.syscall {
		w.NR, w.Args = int64(int32(c.OrigRAX)), [6]uint64{c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9}
	}
	return w, true
}
