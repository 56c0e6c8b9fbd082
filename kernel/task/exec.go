package task

import (
	"strings"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/mm"
	"gosv/kernel/namespace"
	"gosv/kernel/vfs"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// ExecArgs say which program to run.
type ExecArgs struct {
	// File is the program, opened for execution. The caller keeps its reference.
	File *vfs.File
	// Path is the name that execve(2) was given: AT_EXECFN, and what the
	// interpreter of a script gets.
	Path       string
	Argv, Envp []string
}

// Image is a program that Load has made ready: what Exec needs to run it.
type Image struct {
	Mem          *mm.AddressSpace
	Entry, Stack uint64 // RIP and RSP
	// Exe is the file that /proc/PID/exe shows, with a reference for the process.
	Exe *vfs.File
	// Comm is the thread's name; empty: the last part of ExecArgs.Path.
	Comm string
	// Cred are the new credentials, nil: the same. Secure says that they are more than the old ones
	// (set-user-ID, AT_SECURE).
	Cred   *cred.Cred
	Secure bool
	Layout
}

// Layout is where things lie in a program's memory, for /proc/PID/stat, cmdline, environ and auxv: user addresses.
type Layout struct {
	StartCode, EndCode, StartStack     uint64
	ArgStart, ArgEnd, EnvStart, EnvEnd uint64
	Auxv                               []byte
}

// Exec is the end of execve(2): it replaces the program of t's process. After success t.Ctx is that of the
// new program; nothing of the old one is left to return to. The errors are
// those of Load; EAGAIN when another thread of the process is at the same. The caller has closed nothing.
func (t *Task) Exec(args *ExecArgs) error {
	img, err := t.k.Load(t, args)
	if err != nil {
		return err
	}
	err = nil
	if t.ns.childrenAsk() {
		err = t.k.showClocks(img.Mem, true)
	}
	if err == nil {
		err = t.alone()
	}
	if err != nil {
		img.Mem.Release()
		if img.Exe != nil {
			img.Exe.DecRef()
		}
		return err
	}
	old := t.becomeLeader()
	t.leaveMemory()
	t.install(img, args)
	t.traceExec(old)
	return nil
}

// alone ends all other threads of the process and waits until they are gone.
func (t *Task) alone() error {
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exiting || p.execer != nil || t.flags.Load()&workKill != 0 {
		return abi.ERESTARTNOINTR
	}
	p.execer = t
	p.stop = stop{}
	for _, o := range p.threads {
		if o != t {
			o.ask(workKill)
		}
	}
	for len(p.threads) > 1 {
		p.mu.Unlock()
		err := t.BlockKillable()
		p.mu.Lock()
		if err != nil {
			p.execer = nil
			return abi.ERESTARTNOINTR // never seen: t ends
		}
	}
	p.execer = nil
	return nil
}

// becomeLeader gives t, the only thread, the process's ID (execve(2), "Effect on process attributes"), and returns
// the thread ID that it had, as its tracer knows that.
func (t *Task) becomeLeader() (before uint64) {
	k, p := t.k, t.proc
	k.mu.Lock()
	defer k.mu.Unlock()
	p.execed = true
	p.exitSignal = unix.SIGCHLD
	tracer := p.pids
	if by := t.trace.by; by != nil {
		tracer = by.proc.pids
	}
	before = uint64(tracer.Local(t.TID()))
	if p.leader == t {
		return before
	}
	if p.leader.trace.by != nil { // its end is not told
		k.untrace(p.leader, 0)
	}
	p.mu.Lock()
	old := t.tid.Swap(p.PID)
	t.ownTID.Store(p.own)
	p.leader = t
	p.mu.Unlock()
	k.ids[old].task = nil
	k.dropID(old)
	k.ids[p.PID].task = t
	return before
}

// install makes t run img: everything that execve(2) changes.
func (t *Task) install(img *Image, args *ExecArgs) {
	p := t.proc
	t.UnshareFiles()
	t.Files.CloseOnExec()

	p.mu.Lock()
	t.mem = newMemory(img.Mem)
	t.space = img.Mem.Space()
	t.cpu.SetSpace(t.Ctx, t.space)
	oldExe := p.exe
	p.exe = img.Exe
	p.layout = img.Layout
	p.dumpable = !img.Secure
	p.handlers.Store(p.Handlers().Exec())
	p.deletePosix()
	p.mu.Unlock()
	if oldExe != nil {
		oldExe.DecRef()
	}

	if t.ns.moves {
		n := t.ns.with([namespace.Kinds]namespace.Object{})
		n.enterTime()
		t.setNamespaces(n)
	}
	if img.Cred != nil {
		t.cred.Store(img.Cred)
	}
	if img.Secure {
		t.SetPDeathSignal(0)
	}
	t.applyLimits()
	t.alt, t.robust, t.clearTID, t.restart = abi.StackT{}, 0, 0, nil
	if img.Comm != "" {
		t.SetComm(img.Comm)
	} else {
		t.SetComm(args.Path[strings.LastIndexByte(args.Path, '/')+1:])
	}
	t.stepping = false
	t.dropDebug()
	t.dropRseq()
	t.Ctx.Regs = machine.Regs{RIP: img.Entry, RSP: img.Stack, RFLAGS: 0x202}
	t.Ctx.OrigRAX = unix.SYS_EXECVE
	t.cpu.ResetFloat(t.Ctx)
}

func (t *Task) setFiles(f *vfs.FDTable) {
	t.proc.mu.Lock()
	t.Files = f
	t.proc.mu.Unlock()
}

// UnshareFiles is unshare(2) with CLONE_FILES, UnshareFS with CLONE_FS.
func (t *Task) UnshareFiles() error {
	if old := t.Files; old.Shared() {
		t.setFiles(old.Fork())
		old.DecRef()
	}
	return nil
}

// UnshareFS gives t a root, current directory and umask of its own.
func (t *Task) UnshareFS() {
	old := t.FS
	if old.users.Load() == 1 {
		return
	}
	n := old.clone()
	t.proc.mu.Lock()
	t.FS = n
	t.proc.mu.Unlock()
	old.users.Add(-1)
}

// leaveMemory ends t's use of its address space (Linux's mm_release).
func (t *Task) leaveMemory() { t.releaseMemory(t.detachMemory()) }

// detachMemory does what the others who use t's address space wait for, robust futexes and the thread ID word, and takes it from t.
func (t *Task) detachMemory() *Memory {
	t.releaseRobust()
	t.k.Futex.Leave(&t.pi, t.ending)
	if t.clearTID != 0 {
		if t.mem.users.Load() > 1 {
			t.mem.Store32(t.clearTID, 0)
			t.FutexWake(t.clearTID, 1, futexAny, false)
		}
		t.clearTID = 0
	}
	m := t.mem
	t.proc.mu.Lock()
	t.proc.dead.maxRSS = max(t.proc.dead.maxRSS, m.MaxRSS())
	t.mem, t.space = nil, nil
	t.proc.mu.Unlock()
	return m
}

// releaseMemory gives m back, which t has used, and tells the vfork parent.
func (t *Task) releaseMemory(m *Memory) {
	m.leave(t)
	if v := t.vfork; v != nil {
		t.vfork = nil
		v.complete()
	}
}
