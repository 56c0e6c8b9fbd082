package task

import (
	"sync/atomic"

	"gosv/kernel/abi"
	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/futex"
	"gosv/kernel/mm"
	"gosv/kernel/seccomp"
	"gosv/kernel/signal"
	"gosv/kernel/socket"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

// Task is one thread. What has no note belongs to the task's own goroutine:
// only its own system calls may use it.
type Task struct {
	flags   atomic.Uint32 // the work bits
	hooks   atomic.Uint32 // what is done about system calls beside them; written under proc.mu
	table   atomic.Pointer[callTable]
	parker  machine.Parker
	syscall bool   // the last trap was a system call: its result may ask for a restart
	calls   uint32 // system calls so far
	cpu     machine.CPU
	Ctx     *machine.Context
	space   machine.Space
	k       *Kernel
	mem     *Memory // nil after exit; written under proc.mu
	proc    *Process

	// Files and FS may be shared with other tasks. Writing them takes proc.mu.
	Files *vfs.FDTable
	FS    *FS

	// Scratch, IO, View and Sock belong to the system call in progress, so that it
	// need not allocate.
	Scratch [512]byte
	Ranges  [8]mm.Range
	IO      mm.IOVec
	View    vfs.Context
	Sock    socket.Message

	ns *Namespaces // nil after the end; written under proc.mu

	tid    atomic.Int32
	ownTID atomic.Int32 // that in its PID namespace
	cred   atomic.Pointer[cred.Cred]
	comm   atomic.Pointer[string]

	filter atomic.Pointer[seccomp.Filter] // nil for none; written under proc.mu

	blocked  signal.Set     // written under proc.mu
	pending  signal.Pending // guarded by proc.mu
	waitSet  signal.Set     // what sigtimedwait(2) waits for; guarded by proc.mu
	saved    signal.Set     // the mask to restore, if hasSaved
	hasSaved bool
	alt      abi.StackT
	frame    []byte       // room to build a signal frame
	taken    signal.Entry // the signal being delivered
	trap     trapInfo
	restart  func(*Task) (uint64, error)

	exiting  bool        // takes no more signals; guarded by proc.mu
	mayStop  bool        // no SIGCONT has come since taken was taken; guarded by proc.mu
	stopped  bool        // parked by job control; guarded by proc.mu
	counted  bool        // has been counted for the stop that is on; guarded by proc.mu
	stepping bool        // the trap flag is the tracer's
	deep     atomic.Bool // sleeps in BlockKillable
	exit     exitWait
	trace    tracee
	debug    *debugRegs
	rseq     rseq
	bound    bool  // its goroutine is locked to a thread of the runtime; see place
	exitCode int32 // wait(2)'s encoding
	ending   bool  // end has begun
	dumped   bool  // the dump that is on has it; guarded by proc.mu
	gone     bool  // too late for a dump; guarded by proc.mu

	clearTID uint64 // user address, 0 for none
	robust   uint64 // user address of the robust list's head
	vfork    *completion
	timer    clock.Timer
	entry    wait.Entry
	waiter   futex.Waiter
	pi       futex.Thread

	// What Delegate is for.
	borrowed  bool // has no program
	meter     machine.Meter
	tries     bool      // does not wait
	given     *vfs.File // what GivenFD stands for
	other     *vfs.File // what OtherFD stands for
	wouldFor  Pollable  // what it would have waited for
	wouldMask wait.Mask

	usage usage
	sched sched
	turn  turn
	attr  attributes
}

// Kernel returns the kernel that t belongs to.
func (t *Task) Kernel() *Kernel { return t.k }

// Process returns t's thread group.
func (t *Task) Process() *Process { return t.proc }

// TID returns the thread ID. It changes once at most, when a thread that is not the leader calls execve(2).
func (t *Task) TID() int32 { return t.tid.Load() }

// PID returns the process ID, Linux's TGID, in the first namespace. OwnTID and Process.Own are what the program knows.
func (t *Task) PID() int32 { return t.proc.PID }

// Mem returns the address space.
func (t *Task) Mem() *mm.AddressSpace { return t.mem.AddressSpace }

// Cred returns the credentials; any goroutine may ask.
func (t *Task) Cred() *cred.Cred { return t.cred.Load() }

// SetCred replaces the credentials of this thread (capset(2), setuid(2) as the
// kernel does it: per thread).
func (t *Task) SetCred(c *cred.Cred) {
	old := t.cred.Swap(c)
	if old.EUID != c.EUID || old.EGID != c.EGID || old.FSUID != c.FSUID || old.FSGID != c.FSGID ||
		c.Permitted&^old.Permitted != 0 {
		t.SetPDeathSignal(0) // prctl(2), PR_SET_PDEATHSIG
		t.proc.setDumpable(false)
	}
}

// Comm returns the thread's name, at most 15 bytes; any goroutine may ask.
func (t *Task) Comm() string {
	if s := t.comm.Load(); s != nil {
		return *s
	}
	return ""
}

// SetComm sets the name, cut to 15 bytes (PR_SET_NAME).
func (t *Task) SetComm(name string) {
	if len(name) > abi.TaskCommLen-1 {
		name = name[:abi.TaskCommLen-1]
	}
	t.comm.Store(&name)
}

// VFS fills in ctx with t's view of the file system for one call.
func (t *Task) VFS() vfs.Context {
	ctx := t.FS.context()
	ctx.Cred, ctx.PID, ctx.TID = t.Cred(), t.PID(), t.TID()
	return ctx
}

// SetClearTID is set_tid_address(2).
func (t *Task) SetClearTID(addr uint64) { t.clearTID = addr }

// SetRobustList and RobustList are set_robust_list(2) and get_robust_list(2):
// the user address of the list's head.
func (t *Task) SetRobustList(addr uint64) { t.robust = addr }

// RobustList returns what SetRobustList was given.
func (t *Task) RobustList() uint64 { return t.robust }
