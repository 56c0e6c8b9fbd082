package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/namespace"
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// CloneArgs are the arguments of clone3(2); clone(2), fork(2) and vfork(2) are cases of it.
type CloneArgs struct {
	Flags      uint64
	ExitSignal unix.Signal
	ParentTID  uint64  // user address, for CLONE_PARENT_SETTID
	ChildTID   uint64  // user address, for CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID
	Stack      uint64  // the new thread's stack pointer, 0: the same
	TLS        uint64  // FS base, for CLONE_SETTLS
	TIDs       []int32 // the IDs to get, in the innermost PID namespace first (clone3(2), set_tid)
	// Pidfd, for CLONE_PIDFD, is called with the new process before it runs; its error fails the call.
	Pidfd func(*Process) error
}

// check are the rules of Linux's copy_process about flags.
func (a *CloneArgs) check(t *Task) error {
	f := a.Flags
	has := func(bits uint64) bool { return f&bits == bits }
	switch {
	case has(unix.CLONE_NEWNS | unix.CLONE_FS), has(unix.CLONE_NEWUSER | unix.CLONE_FS), has(unix.CLONE_NEWIPC | unix.CLONE_SYSVSEM),
		has(unix.CLONE_THREAD) && (f&(unix.CLONE_NEWUSER|unix.CLONE_NEWPID) != 0 || t.ns.List[namespace.PID] != t.proc.pids),
		has(unix.CLONE_PARENT) && t.proc.nsInit,
		has(unix.CLONE_THREAD) && !has(unix.CLONE_SIGHAND),
		has(unix.CLONE_SIGHAND) && !has(unix.CLONE_VM),
		has(unix.CLONE_PARENT) && t.proc == t.k.init,
		has(unix.CLONE_PIDFD | unix.CLONE_THREAD),
		has(unix.CLONE_SIGHAND | unix.CLONE_CLEAR_SIGHAND),
		a.ExitSignal < 0 || a.ExitSignal > signal.Max:
		return unix.EINVAL
	}
	if f&namespace.AllFlags&^unix.CLONE_NEWUSER != 0 && f&unix.CLONE_NEWUSER == 0 && !t.Cred().CapableOwn(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	return a.checkTIDs(t)
}

// checkTIDs checks the numbers that clone3(2) is given: EINVAL, EPERM.
func (a *CloneArgs) checkTIDs(t *Task) error {
	if len(a.TIDs) == 0 {
		return nil
	}
	ns := t.ns.List[namespace.PID].(*PIDNamespace)
	levels := ns.level + 1
	if a.Flags&unix.CLONE_NEWPID != 0 {
		levels++
	}
	if len(a.TIDs) > levels {
		return unix.EINVAL
	}
	for _, n := range a.TIDs {
		if n <= 0 || n >= PIDMax {
			return unix.EINVAL
		}
	}
	n := len(a.TIDs)
	if a.Flags&unix.CLONE_NEWPID != 0 {
		n-- // it is the caller's to fill
	}
	for in := ns; n > 0; n, in = n-1, in.parent {
		if c := t.Cred(); !c.CapableIn(in.Owner(), unix.CAP_SYS_ADMIN) && !c.CapableIn(in.Owner(), unix.CAP_CHECKPOINT_RESTORE) {
			return unix.EPERM
		}
	}
	return nil
}

// Clone makes a thread or a process and returns its ID. EINVAL, EAGAIN,
// ENOMEM, EPERM, EEXIST; ERESTARTNOINTR when t is being killed. With CLONE_VFORK it returns when the
// child has ended or called execve(2).
func (t *Task) Clone(a *CloneArgs) (int32, error) {
	if err := a.check(t); err != nil {
		return 0, err
	}
	if err := t.checkNproc(); err != nil {
		return 0, err
	}
	if t.Interrupted() {
		return 0, abi.ERESTARTNOINTR
	}
	n, err := t.copy(a)
	if err != nil {
		return 0, err
	}
	event, err := n.join(t, a)
	if err != nil {
		n.discard(a.Flags)
		return 0, err
	}
	tid := t.Number(n.TID())
	if a.Flags&unix.CLONE_PARENT_SETTID != 0 {
		t.mem.Store32(a.ParentTID, uint32(tid)) // Linux does not care either when that fails
	}
	if a.Flags&unix.CLONE_CHILD_SETTID != 0 {
		n.mem.Store32(a.ChildTID, uint32(n.OwnTID()))
	}
	if a.Pidfd != nil && a.Flags&unix.CLONE_PIDFD != 0 {
		if err := a.Pidfd(n.proc); err != nil {
			n.abandon()
			return 0, err
		}
	}
	done, forTracer := n.vfork, t.forTracer(n.TID())
	t.k.run(n)
	if event != 0 {
		t.traceEvent(event, forTracer)
	}
	if done != nil {
		for !done.done.Load() && t.BlockKillable() == nil {
		}
		if done.done.Load() {
			t.traceEvent(unix.PTRACE_EVENT_VFORK_DONE, forTracer)
		}
	}
	return tid, nil
}

// copy makes the new task with all it shares and copies, known to nobody yet.
func (t *Task) copy(a *CloneArgs) (*Task, error) {
	f := a.Flags
	n, err := t.copyMachine(a)
	if err != nil {
		return nil, err
	}
	t.copyFiles(n, f)
	if err := t.copyNamespaces(n, f); err != nil {
		n.discard(f)
		return nil, err
	}
	n.comm.Store(t.comm.Load())
	n.attr = t.attr.clone()
	if f&(unix.CLONE_VM|unix.CLONE_VFORK) == unix.CLONE_VM {
		n.alt = abi.StackT{}
	}
	if f&unix.CLONE_VM == 0 {
		n.rseq = rseq{addr: t.rseq.addr, sig: t.rseq.sig, cpu: -1}
	}
	if !n.sched.everywhere(t.k) {
		n.flags.Or(workPlace)
	}
	if f&unix.CLONE_CHILD_CLEARTID != 0 {
		n.clearTID = a.ChildTID
	}
	if f&unix.CLONE_VFORK != 0 {
		n.vfork = &completion{waiter: t}
	}
	return n, nil
}

// copyMachine makes a task with the memory and the registers that the new one begins with: ENOMEM.
func (t *Task) copyMachine(a *CloneArgs) (*Task, error) {
	ctx, err := t.cpu.NewContext()
	if err != nil {
		return nil, unix.ENOMEM
	}
	n := &Task{k: t.k, cpu: t.cpu, Ctx: ctx, blocked: t.blocked, alt: t.alt, sched: t.sched.clone()}
	n.table.Store(&t.k.table)
	n.mem, err = t.copyMemory(a.Flags)
	if err != nil {
		t.cpu.FreeContext(ctx)
		return nil, err
	}
	n.space = n.mem.Space()
	n.cpu.SetSpace(n.Ctx, n.space)
	ctx.Regs = t.Ctx.Regs
	ctx.RAX = 0
	if t.stepping {
		ctx.RFLAGS &^= stepFlag
	}
	if a.Stack != 0 {
		ctx.RSP = a.Stack
	}
	if a.Flags&unix.CLONE_SETTLS != 0 {
		ctx.FSBase = a.TLS
	}
	t.cpu.CopyFloat(ctx, t.Ctx)
	return n, nil
}

// copyFiles gives n the descriptors and the directories of t, or copies.
func (t *Task) copyFiles(n *Task, flags uint64) {
	if n.Files = t.Files; flags&unix.CLONE_FILES != 0 {
		n.Files.IncRef()
	} else {
		n.Files = t.Files.Fork()
	}
	if n.FS = t.FS; flags&unix.CLONE_FS != 0 {
		n.FS.users.Add(1)
	} else {
		n.FS = t.FS.clone()
	}
}

// copyNamespaces gives n its credentials and its namespaces: those of t, or what the flags make new.
func (t *Task) copyNamespaces(n *Task, flags uint64) (err error) {
	c := t.Cred()
	if flags&unix.CLONE_NEWUSER != 0 {
		if c, err = t.newUser(c); err != nil {
			return err
		}
	}
	n.cred.Store(c)
	moves := t.ns.moves && flags&unix.CLONE_VM == 0
	if flags&(namespace.AllFlags&^unix.CLONE_NEWUSER) == 0 && !moves {
		n.ns = t.ns
		n.ns.hold()
	} else {
		ns, err := t.makeNamespaces(flags, c.User, n.FS)
		if err != nil {
			return err
		}
		n.ns = ns
	}
	if n.ns.moves && flags&unix.CLONE_VM == 0 {
		n.ns.enterTime()
		return t.k.showClocks(n.mem.AddressSpace, n.ns.time != nil)
	}
	return nil
}

func (t *Task) copyMemory(flags uint64) (*Memory, error) {
	if flags&unix.CLONE_VM != 0 {
		t.mem.users.Add(1)
		t.mem.tasks.Add(1)
		return t.mem, nil
	}
	as, err := t.mem.Fork()
	if err != nil {
		return nil, err
	}
	m := newMemory(as)
	m.barriers.Store(t.mem.barriers.Load())
	return m, nil
}

// discard undoes copy, and what join did before it failed.
func (t *Task) discard(flags uint64) {
	useFilters(t.filter.Swap(nil), -1)
	t.mem.leave(t)
	t.Files.DecRef()
	t.FS.users.Add(-1)
	t.cpu.FreeContext(t.Ctx)
	if t.ns != nil {
		t.ns.drop()
	}
	if p := t.proc; flags&unix.CLONE_THREAD == 0 && p != nil {
		p.dropExe()
	}
}

// join makes n known: as a thread of t's process or as the first thread of a new one.
// event is the ptrace event that t is to stop with, 0 for none.
func (n *Task) join(t *Task, a *CloneArgs) (event int, err error) {
	k, p := t.k, t.proc
	thread := a.Flags&unix.CLONE_THREAD != 0
	if !thread {
		p = t.proc.fork(t, a)
		p.pids = n.ns.List[namespace.PID].(*PIDNamespace)
	}
	n.belong(p)
	most, uid := t.nprocLimit(), t.Cred().UID
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.roomFor(uid, most); err != nil {
		return 0, err
	}
	if !thread {
		p.mu.Lock()
		p.threads, p.tame = []*Task{n}, p.pids.parent != nil && p.pids.init == nil
		p.mu.Unlock()
	}
	t.proc.mu.Lock()
	defer t.proc.mu.Unlock()
	if k.dying {
		return 0, unix.ENOMEM
	}
	if t.proc.recalc(t); t.Interrupted() {
		return 0, abi.ERESTARTNOINTR // fork(2) and kill(2) of a group must not miss each other
	}
	tid, err := k.number(n, p.pids, a.TIDs)
	if err != nil {
		return 0, err
	}
	if f := t.filter.Load(); f != nil {
		n.setFilter(f)
	}
	k.started++
	n.tid.Store(tid)
	n.ownTID.Store(p.pids.Local(tid))
	k.turns.enter(n)
	if !thread {
		p.PID, p.own, p.leader = tid, n.OwnTID(), n
		k.ids[tid].proc = p
		k.procs++
		p.pids.count(1)
		if p.pids.parent != nil {
			p.pids.Hold()
		}
		if p.pids.init == nil && p.pids.parent != nil {
			p.pids.init, p.nsInit = p, true
		}
		t.proc.adoptChild(p, t, a)
		return n.inherit(t, a), nil
	}
	t.proc.threads = append(t.proc.threads, n)
	if t.proc.stop.active {
		t.proc.stop.left++
	}
	event = n.inherit(t, a)
	t.proc.recalc(n)
	return event, nil
}

// belong makes t a thread of p as far as t is concerned.
func (t *Task) belong(p *Process) {
	t.proc = p
	t.pi.Owner = t
	t.waiter.Owner, t.waiter.Thread = t, &t.pi
	t.timer.Init(t.k.Clock, t.Wake)
}

// fork returns a new process that inherits from p what fork(2) says.
func (p *Process) fork(t *Task, a *CloneArgs) *Process {
	n := newProcess(p.k)
	h := p.Handlers()
	switch {
	case a.Flags&unix.CLONE_SIGHAND != 0:
	case a.Flags&unix.CLONE_CLEAR_SIGHAND != 0:
		h = h.Exec()
	default:
		h = h.Clone()
	}
	n.handlers.Store(h)
	n.exitSignal = a.ExitSignal
	n.oomAdj.Store(p.oomAdj.Load())
	n.dumpFilter.Store(p.dumpFilter.Load())
	p.mu.Lock()
	limits, layout, dumpable, exe := p.limits, p.layout, p.dumpable, p.exe
	if exe != nil {
		exe.IncRef()
	}
	p.mu.Unlock()
	n.mu.Lock()
	n.limits, n.layout, n.dumpable, n.exe = limits, layout, dumpable, exe
	n.mu.Unlock()
	return n
}

// adoptChild makes n a child of p, made by t, or of p's parent with CLONE_PARENT. Kernel.mu is held.
func (p *Process) adoptChild(n *Process, t *Task, a *CloneArgs) {
	p.group.add(n)
	n.noTTY = p.noTTY
	parent := p
	n.parentTask = t
	if a.Flags&unix.CLONE_PARENT != 0 {
		parent, n.parentTask, n.exitSignal = p.parent, p.parentTask, p.exitSignal
	}
	n.parent = parent
	n.ppid.Store(parent.PID)
	parent.children = append(parent.children, n)
}

// abandon ends a task that was made known but never ran.
func (n *Task) abandon() {
	k, p := n.k, n.proc
	k.mu.Lock()
	p.adopted = true // reaped by the kernel
	k.mu.Unlock()
	p.mu.Lock()
	p.exit(0)
	p.mu.Unlock()
	k.run(n)
}

// forTracer is what t's tracer, if there is one, calls a number of the first namespace.
func (t *Task) forTracer(n int32) uint64 {
	if by := t.Tracer(); by != nil {
		return uint64(by.Number(n))
	}
	return 0
}

// nprocLimit is RLIMIT_NPROC (getrlimit(2)), or infinity where it does not apply to t.
func (t *Task) nprocLimit() uint64 {
	if c := t.Cred(); c.UID == 0 || c.Capable(unix.CAP_SYS_RESOURCE) || c.Capable(unix.CAP_SYS_ADMIN) {
		return unix.RLIM_INFINITY
	}
	return t.proc.Limit(unix.RLIMIT_NPROC).Cur
}

// checkNproc refuses a clone early; join has the last word.
func (t *Task) checkNproc() error {
	limit := t.nprocLimit()
	if limit == unix.RLIM_INFINITY {
		return nil
	}
	t.k.mu.RLock()
	defer t.k.mu.RUnlock()
	return t.k.roomFor(t.Cred().UID, limit)
}

// roomFor reports whether a user has fewer threads than limit: EAGAIN. k.mu is held.
func (k *Kernel) roomFor(uid uint32, limit uint64) error {
	if limit == unix.RLIM_INFINITY {
		return nil
	}
	n := uint64(0)
	for _, e := range k.ids {
		if e.task != nil && e.task.Cred().UID == uid {
			n++
		}
	}
	if n >= limit {
		return unix.EAGAIN
	}
	return nil
}
