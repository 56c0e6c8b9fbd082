// Package task is processes and threads: what clone(2), execve(2), exit(2),
// wait(2), kill(2), setpgid(2) and the man pages around them promise.
//
// # Who runs
//
// A Task is a thread of a program and one goroutine of the kernel: its run
// loop enters ring 3, comes back with a trap, serves it, and goes on. Go's
// scheduler is the kernel's scheduler; a task that waits is a parked goroutine.
// A Process is a thread group. Tasks share what clone(2) lets them share by
// pointing to the same object: Memory, Files, FS, signal handlers.
//
// Each Task has one word of flags that ask it for something before it goes to
// ring 3 again. Whoever sets one wakes the task and kicks it: machine.CPU.Kick
// ends the Enter that runs, or else the next; so nothing that is asked for is
// ever missed, and a system call with nothing to do costs one load.
//
// # Waiting
//
// An object never blocks a task. A task that must wait makes itself known to
// the object (a wait.Entry, a futex.Waiter), looks again, and calls Block. Wake
// may come at any time and is remembered; Block may return without a reason,
// so callers loop.
//
// # The first process
//
// The program that the user started is process 1, as under `docker run`:
//   - It is an ordinary program to itself, to the kernel and to the host: abort(3), raise(3), a fault,
//     SIGPIPE, SIGALRM, ^C, and what the host sends (SignalInit) do by default what they
//     do to any process. That is more than Linux grants its init, so that
//     `gosv run` returns the status that the program has elsewhere.
//   - It is init to the other processes: their signals that it has no handler for are ignored,
//     SIGKILL and SIGSTOP too (pid_namespaces(7)). Nor can it stop itself:
//     nobody would be there to continue it.
//   - Orphans become its children, so that getppid(2) tells 1; but unless it
//     asks for them by PR_SET_CHILD_SUBREAPER, the kernel reaps them when they end,
//     because ordinary programs do not expect strangers' children: they give no
//     SIGCHLD and no status, while wait(2) does wait for them.
//   - When it ends, every other process is killed; when they are gone,
//     Config.OnExit is called, once.
//
// # Locks, outermost first
//
//	Kernel.mu     the tree of processes, groups, sessions, the table of IDs
//	Process.mu    threads, signals, stops, limits, timers of one process; two are never held at once
//	futex.Table, turns
//	Handlers, FS, Files, wait.Queue, clock: leaves
//
// User memory is never touched with one of them held.
package task

import (
	"sync"
	"sync/atomic"

	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/futex"
	"gosv/kernel/mem"
	"gosv/kernel/mm"
	"gosv/kernel/namespace"
	"gosv/kernel/signal"
	"gosv/kernel/vfs"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// Config is what a Kernel is made of.
type Config struct {
	Machine   machine.Machine
	Pool      *mem.Pool
	Clock     *clock.Clock
	Namespace *vfs.Namespace

	// Calls are the system calls by number, for the quick way: each decodes its
	// arguments from t.Ctx and returns a value, or an error for Failed to
	// turn into a negative errno. What is nil or beyond the end goes to Dispatch.
	Calls  []func(t *Task) (uint64, error)
	Failed func(error) uint64
	// Dispatch serves the system call that t.Ctx describes and stores its
	// result in RAX: a negative errno for a failure, also one of abi's ERESTART errors.
	Dispatch func(t *Task)
	// Load makes a program ready in a new address space; it changes nothing of t.
	Load func(t *Task, args *ExecArgs) (*Image, error)
	// Clocks has the vDSO in an address space ask the kernel for the time, or no longer: ENOMEM. nil: there is no vDSO.
	Clocks func(as *mm.AddressSpace, ask bool) error
	// Hostname is the host's name at the start, "" for none.
	Hostname string
	// Terminal is the controlling terminal of process 1, nil for none. It may be set until Start.
	Terminal Terminal
	// Log takes a line for the kernel's log, without a newline; nil drops it.
	Log func(line string)
	// Makers make namespaces of the kinds that are other rooms' business.
	Makers [namespace.Kinds]Maker
	// Firsts are the first namespaces of those kinds; nil: there is nothing to show.
	Firsts [namespace.Kinds]namespace.Object
	// Ended, if not nil, is called when a process has ended, with its last thread, or leaves its IPC namespace.
	Ended func(t *Task)
	// OnExit is called once, when the first process has ended and all others are gone:
	// its exit status, or else the signal that killed it.
	OnExit func(status int, sig unix.Signal)
}

// Kernel is all processes of one machine.
type Kernel struct {
	Config
	Futex *futex.Table

	mu       sync.RWMutex
	ids      map[int32]*id // guarded by mu
	lastID   int32         // guarded by mu
	procs    int           // processes that have tasks; guarded by mu
	init     *Process      // set once
	pids     *PIDNamespace // the first
	first    *Namespaces   // of the first process
	initTask *Task         // waits for procs to become 1; guarded by mu
	started  uint64        // forks since the start; guarded by mu

	table  callTable // Config.Calls
	hooked callTable // for those who have hooks

	load   load
	system []atomic.Uint64 // ticks in the kernel for programs, estimated, by processor
	turns  turns
	pool   workers
	exits  exits
	dying  bool // process 1 has ended; guarded by mu

	maxThreads atomic.Int32 // see MaxThreads
	workers    atomic.Int32 // of all delegates, those that count as threads
	cores      cores

	oom    sync.Mutex // one victim at a time; taken before mu
	victim *Process   // the last, until what it had is collected; guarded by oom
}

// id is what one number stands for: a thread, a process that has not been
// reaped, a process group, a session.
type id struct {
	task    *Task
	dead    *Task // a traced thread that has ended and was not waited for
	proc    *Process
	group   *Group
	session *Session
	ns      *PIDNamespace // the innermost that has a number for it
}

// PIDMax is the first number that is not a process ID (/proc/sys/kernel/pid_max).
const PIDMax = 32768

// New returns a kernel without processes.
func New(c Config) *Kernel {
	if c.Log == nil {
		c.Log = func(string) {}
	}
	k := &Kernel{Config: c, Futex: futex.New(), ids: make(map[int32]*id)}
	k.firstNamespaces()
	k.cores.pattern.Store(&firstCorePattern)
	k.maxThreads.Store(int32(min(max(k.allPages()/threadShare, leastThreads), mostThreads)))
	k.system = make([]atomic.Uint64, k.Machine.CPUs())
	k.turns.init(k)
	copy(k.table[:], c.Calls)
	for nr := range k.hooked {
		k.hooked[nr] = (*Task).hookedCall
	}
	c.Machine.OnShortage(func() {
		if !vfs.Shrink() {
			k.OutOfMemory()
		}
	})
	return k
}

// Start makes process 1, with the given credentials, and lets it run the program. files and fs become its own.
// The error is that of Load: the program could not be started.
func (k *Kernel) Start(args *ExecArgs, files *vfs.FDTable, fs *FS, c *cred.Cred) (*Task, error) {
	t, err := k.newTask(files, fs, c)
	if err != nil {
		return nil, err
	}
	p := t.proc
	p.mu.Lock()
	p.tame = true
	p.mu.Unlock()
	k.mu.Lock()
	n := k.newID(t)
	k.ids[n].ns = k.pids
	k.publish(t, n, k.Terminal)
	k.init = p
	k.mu.Unlock()

	img, err := k.Load(t, args)
	if err != nil {
		k.Machine.FreeContext(t.Ctx)
		return nil, err
	}
	t.install(img, args)
	k.startLoad()
	k.run(t)
	return t, nil
}

// newTask returns the first thread of a process that nobody knows of yet: ENOMEM.
func (k *Kernel) newTask(files *vfs.FDTable, fs *FS, c *cred.Cred) (*Task, error) {
	ctx, err := k.Machine.NewContext()
	if err != nil {
		return nil, unix.ENOMEM
	}
	t := &Task{k: k, cpu: k.Machine, Ctx: ctx, Files: files, FS: fs}
	t.cred.Store(c)
	t.table.Store(&k.table)
	p := newProcess(k)
	p.handlers.Store(new(signal.Handlers))
	p.mu.Lock()
	p.limits, p.threads, p.leader = defaultLimits(), []*Task{t}, t
	p.mu.Unlock()
	p.pids = k.pids
	t.belong(p)
	t.ns = k.first.hold()
	t.attr.slack = defaultSlack
	t.sched.init(k)
	return t, nil
}

// publish makes t's process known by the number n, as the leader of a session with that terminal. k.mu is held.
func (k *Kernel) publish(t *Task, n int32, tty Terminal) {
	p := t.proc
	p.PID, p.own = n, n
	t.tid.Store(n)
	t.ownTID.Store(n)
	k.ids[n].proc = p
	k.turns.enter(t)
	s := &Session{ID: n, leader: p, tty: tty}
	k.ids[n].session = s
	g := k.newGroup(n, s)
	g.add(p)
	if tty != nil {
		s.fg = g
	}
	k.procs++
	p.pids.count(1)
}

// Init returns the first process, nil before Start.
func (k *Kernel) Init() *Process { return k.init }

// newID reserves a free number for t; 0 when there is none. k.mu is held.
func (k *Kernel) newID(t *Task) int32 {
	if k.full() {
		return 0
	}
	for {
		k.lastID++
		if k.lastID >= PIDMax {
			k.lastID = 300 // RESERVED_PIDS
		}
		if k.ids[k.lastID] == nil {
			k.ids[k.lastID] = &id{task: t}
			return k.lastID
		}
	}
}

// dropID frees the number when nothing uses it any more. k.mu is held.
func (k *Kernel) dropID(n int32) {
	if e := k.ids[n]; e != nil && *e == (id{ns: e.ns}) {
		delete(k.ids, n)
		e.ns.leave(n)
	}
}

// Task returns the live thread with that ID, nil when there is none.
func (k *Kernel) Task(tid int32) *Task {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if e := k.ids[tid]; e != nil {
		return e.task
	}
	return nil
}

// Process returns the process with that ID, a zombie too, nil when there is none.
func (k *Kernel) Process(pid int32) *Process {
	k.mu.RLock()
	v := k.process(pid)
	k.mu.RUnlock()
	return v
}

func (k *Kernel) process(pid int32) *Process {
	if e := k.ids[pid]; e != nil {
		return e.proc
	}
	return nil
}

// Processes returns all processes, zombies too, in no order.
func (k *Kernel) Processes() []*Process {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var all []*Process
	for _, e := range k.ids {
		if e.proc != nil {
			all = append(all, e.proc)
		}
	}
	return all
}

// Counts returns the number of live threads, and of forks since the start (/proc/loadavg, /proc/stat, sysinfo(2)).
func (k *Kernel) Counts() (threads int, forks uint64, lastPID int32) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, e := range k.ids {
		if e.task != nil {
			threads++
		}
	}
	return threads, k.started, k.lastID
}
