package task

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gosv/kernel/abi"
	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/mm"
	"gosv/kernel/signal"
	"gosv/kernel/vfs"
	"gosv/machine"
	"gosv/machine/fake"

	"golang.org/x/sys/unix"
)

// A program of these tests is a Go function on a goroutine of its own. Each
// trap that it makes ends the machine's Enter on its context, and the
// next Enter continues it. Signal handlers are functions too: when a context
// comes back with RIP at the address of one, it is called like a handler, and returns by rt_sigreturn.

type program func(u *user)

// user is one thread of a program.
type user struct {
	w     *world
	c     *machine.Context
	space machine.Space
	out   chan machine.Trap
	in    chan struct{}
}

// world is a machine with a kernel, and the programs that it can run.
type world struct {
	tb testing.TB
	m  *fake.Machine
	k  *Kernel

	mu     sync.Mutex
	users  map[*machine.Context]*user
	inTask map[*machine.Context]func(*Task)
	code   []program // by address, codeBase + 16*index
	exits  []exitStatus
	log    []string
	over   chan struct{} // process 1 has ended
	quit   chan struct{} // the test has ended
}

type exitStatus struct {
	status int
	sig    unix.Signal
}

const (
	codeBase  = 0x400000
	syscallPC = 0x500000
	restorer  = 0x600000
	stackBase = 0x10000000
	stackSize = 0x10000
	dataBase  = 0x20000000
	dataSize  = 0x4000
)

func newWorld(tb testing.TB, realClock bool) *world {
	w := &world{tb: tb, users: make(map[*machine.Context]*user), inTask: make(map[*machine.Context]func(*Task)), over: make(chan struct{}), quit: make(chan struct{})}
	w.m = fake.ForTest(tb, fake.Config{Enter: w.enter, RealClock: realClock, CPUs: 2})
	pool := mem.NewPool(w.m)
	w.k = New(Config{
		Machine: w.m, Pool: pool, Clock: clock.New(w.m), Dispatch: w.dispatch, Load: w.load,
		Log: func(s string) {
			w.mu.Lock()
			w.log = append(w.log, s)
			w.mu.Unlock()
		},
		OnExit: func(status int, sig unix.Signal) {
			w.mu.Lock()
			w.exits = append(w.exits, exitStatus{status, sig})
			w.mu.Unlock()
			close(w.over)
		},
	})
	tb.Cleanup(func() {
		close(w.quit)
		pool.Close()
	})
	return w
}

// fn returns the address of a program.
func (w *world) fn(p program) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.code = append(w.code, p)
	return codeBase + 16*uint64(len(w.code)-1)
}

func (w *world) at(pc uint64) program {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := (pc - codeBase) / 16; pc >= codeBase && i < uint64(len(w.code)) {
		return w.code[i]
	}
	return nil
}

// load makes an address space with a stack and some data; the entry point is the number after the slash.
func (w *world) load(t *Task, args *ExecArgs) (*Image, error) {
	var entry uint64
	if _, err := fmt.Sscanf(args.Path, "/%v", &entry); err != nil {
		return nil, unix.ENOENT
	}
	as, err := mm.New(w.m, w.k.Pool)
	if err != nil {
		return nil, err
	}
	as.SetLayout(mm.NewLayout(nil, 8<<20))
	for _, a := range [...]struct{ addr, n uint64 }{{stackBase, stackSize}, {dataBase, dataSize}} {
		if _, err := as.Map(mm.MapArgs{Addr: a.addr, Length: a.n, Prot: unix.PROT_READ | unix.PROT_WRITE,
			Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED}); err != nil {
			as.Release()
			return nil, err
		}
	}
	return &Image{Mem: as, Entry: entry, Stack: stackBase + stackSize - 64, Comm: "prog"}, nil
}

// run runs p as process 1 until it has ended.
func (w *world) run(p program) exitStatus {
	w.tb.Helper()
	w.start(p)
	return w.wait()
}

func (w *world) start(p program) {
	w.tb.Helper()
	args := &ExecArgs{Path: fmt.Sprintf("/%#x", w.fn(p))}
	if _, err := w.k.Start(args, vfs.NewFDTable(), NewFS(vfs.Path{}, vfs.Path{}, 0o22), cred.Root()); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) wait() exitStatus {
	w.tb.Helper()
	select {
	case <-w.over:
	case <-time.After(time.Minute):
		b := make([]byte, 1<<20)
		w.tb.Fatalf("process 1 did not end\n%s", b[:runtime.Stack(b, true)])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.exits) != 1 {
		w.tb.Errorf("OnExit was called %d times", len(w.exits))
	}
	if n := w.m.Contexts(); n != 0 {
		w.tb.Errorf("%d contexts are left", n)
	}
	for _, s := range w.log {
		if strings.Contains(s, "panic") {
			w.tb.Error(s)
		}
	}
	return w.exits[0]
}

// enter is the machine's Enter.
func (w *world) enter(c *machine.Context, s machine.Space) machine.Trap {
	w.mu.Lock()
	u := w.users[c]
	w.mu.Unlock()
	if u == nil || u.space != s { // new, or after execve
		u = w.newUser(c, s)
	}
	u.in <- struct{}{}
	tr := <-u.out
	if tr == running {
		<-w.m.Kicked(c)
		return machine.Interrupted
	}
	return tr
}

// running is a program that goes on in ring 3 until it is kicked.
const running machine.Trap = -1

func (w *world) newUser(c *machine.Context, s machine.Space) *user {
	u := &user{w: w, c: c, space: s, out: make(chan machine.Trap), in: make(chan struct{})}
	w.mu.Lock()
	w.users[c] = u
	w.mu.Unlock()
	pc := c.RIP
	if pc == syscallPC+2 { // child of clone: RBX says where it goes on
		pc = c.RBX
	}
	p := w.at(pc)
	if p == nil {
		w.tb.Errorf("jump to %#x", pc)
		p = func(u *user) { u.call(unix.SYS_EXIT_GROUP, 99) }
	}
	go func() {
		u.await()
		if u.c.RIP == syscallPC+2 {
			u.handlers()
		}
		p(u)
		u.call(unix.SYS_EXIT, 0)
	}()
	return u
}

func (u *user) await() {
	select {
	case <-u.in:
	case <-u.w.quit:
		runtime.Goexit()
	}
}

// trap leaves ring 3, and runs the handlers that the kernel wants run before it returns.
func (u *user) trap(tr machine.Trap) {
	u.leave(tr)
	u.handlers()
}

func (u *user) leave(tr machine.Trap) {
	select {
	case u.out <- tr:
	case <-u.w.quit:
		runtime.Goexit()
	}
	u.await()
}

func (u *user) handlers() {
	for {
		h := u.w.at(u.c.RIP)
		if h == nil {
			return
		}
		ret, _ := u.space.Load64(u.c.RSP)
		if ret != restorer {
			u.w.tb.Errorf("handler returns to %#x", ret)
		}
		sp := u.c.RSP
		h(u)
		u.c.RSP = sp + 8
		u.c.OrigRAX, u.c.RAX, u.c.RIP = unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGRETURN, restorer+2
		u.leave(machine.Syscall)
	}
}

// call makes a system call, again when the kernel moves RIP back.
func (u *user) call(nr uint64, args ...uint64) uint64 {
	var a [6]uint64
	copy(a[:], args)
	u.c.RAX, u.c.RDI, u.c.RSI, u.c.RDX, u.c.R10, u.c.R8, u.c.R9 = nr, a[0], a[1], a[2], a[3], a[4], a[5]
	u.c.RIP = syscallPC
	for u.c.RIP == syscallPC {
		u.c.RIP, u.c.OrigRAX = syscallPC+2, u.c.RAX
		u.trap(machine.Syscall)
	}
	if u.c.RIP != syscallPC+2 {
		u.w.tb.Errorf("system call %d returns to %#x", nr, u.c.RIP)
	}
	return u.c.RAX
}

// must is call for calls that succeed.
func (u *user) must(nr uint64, args ...uint64) uint64 {
	r := u.call(nr, args...)
	if int64(r) < 0 && int64(r) > -4096 {
		_, file, line, _ := runtime.Caller(1)
		u.w.tb.Errorf("%s:%d: system call %d: %v", file, line, nr, unix.Errno(-r))
	}
	return r
}

// fails is call for calls that fail with e.
func (u *user) fails(e unix.Errno, nr uint64, args ...uint64) {
	if r := u.call(nr, args...); r != -uint64(e) {
		_, file, line, _ := runtime.Caller(1)
		u.w.tb.Errorf("%s:%d: system call %d: %d, want %v", file, line, nr, int64(r), e)
	}
}

// touch accesses user memory as an instruction would, with page faults.
func (u *user) touch(addr uint64, write bool) {
	for {
		if _, acc, ok := u.space.Lookup(addr &^ 4095); ok && (!write || acc&machine.Write != 0) {
			return
		}
		u.c.RIP, u.c.FaultAddr, u.c.Error = syscallPC+0x100, addr, machine.FaultUser
		if write {
			u.c.Error |= machine.FaultWrite
		}
		u.trap(machine.PageFault)
		if u.c.RIP != syscallPC+0x100 {
			return // a handler skipped the instruction
		}
	}
}

func (u *user) load32(addr uint64) uint32 {
	u.touch(addr, false)
	v, _ := u.space.Load32(addr)
	return v
}

func (u *user) store32(addr uint64, v uint32) {
	u.touch(addr, true)
	u.space.Store32(addr, v)
}

func (u *user) store64(addr uint64, v uint64) {
	u.touch(addr, true)
	u.space.Store64(addr, v)
}

// spin runs in ring 3 until something has been done to the thread.
func (u *user) spin() {
	u.c.RIP = syscallPC + 0x200
	u.trap(running)
}

// handle installs a signal handler.
func (u *user) handle(sig unix.Signal, flags uint64, mask signal.Set, h program) {
	u.sigaction(sig, abi.SigAction{Handler: u.w.fn(h), Flags: flags | signal.Restorer, Restorer: restorer, Mask: uint64(mask)})
}

func (u *user) sigaction(sig unix.Signal, a abi.SigAction) {
	const addr = dataBase + dataSize - 64
	u.touch(addr, true)
	var b [abi.SizeofSigAction]byte
	abi.PutSigAction(b[:], a)
	u.space.CopyOut(addr, b[:])
	u.must(unix.SYS_RT_SIGACTION, uint64(sig), addr)
}

// fork makes a process that runs child.
func (u *user) fork(child program) int32 { return u.clone(uint64(unix.SIGCHLD), 0, child) }

// clone is clone(2); args are parent TID, child TID and TLS.
func (u *user) clone(flags, stack uint64, child program, args ...uint64) int32 {
	rbx := u.c.RBX
	u.c.RBX = u.w.fn(child)
	r := u.must(unix.SYS_CLONE, append([]uint64{flags, stack}, args...)...)
	u.c.RBX = rbx
	return int32(r)
}

const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD

func (u *user) thread(p program) int32 {
	return u.clone(threadFlags, stackBase+stackSize/2, p)
}

func (u *user) exit(status uint64) { u.call(unix.SYS_EXIT_GROUP, status) }

// wait4 waits and returns pid and status.
func (u *user) wait4(pid int32, options uint64) (int32, uint32) {
	const addr = dataBase + dataSize - 128
	r := u.call(unix.SYS_WAIT4, uint64(int64(pid)), addr, options)
	return int32(r), u.load32(addr)
}

// pause waits until cond is true; other threads of the kernel make it so.
func (u *user) until(what string, cond func() bool) {
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			u.w.tb.Errorf("never: %s", what)
			return
		}
	}
}

// asleep reports whether the thread tid sleeps in the kernel.
func (w *world) asleep(tid int32) func() bool {
	return func() bool {
		t := w.k.Task(tid)
		return t != nil && (t.State() == 'S' || t.State() == 'D')
	}
}

func (w *world) dispatch(t *Task) {
	if t.Ctx.OrigRAX != sysOnTask {
		dispatch(t)
		return
	}
	w.mu.Lock()
	f := w.inTask[t.Ctx]
	w.mu.Unlock()
	f(t)
	t.Ctx.RAX = 0
}

// dispatch is what package syscall does, for the calls of these tests.
func dispatch(t *Task) {
	r, err := serve(t, t.Ctx)
	if err != nil {
		var e unix.Errno
		if !errors.As(err, &e) {
			panic(err)
		}
		r = -uint64(e)
	}
	t.Ctx.RAX = r
}

const (
	sysPanic = 2000 + iota
	sysBlock
	sysNap // sleep, restarted by a restart block
	sysOnTask
)

func serve(t *Task, c *machine.Context) (uint64, error) {
	ok := func(err error) (uint64, error) { return 0, err }
	num := func(n int32, err error) (uint64, error) { return uint64(n), err }
	switch c.OrigRAX {
	case unix.SYS_GETPID:
		return uint64(t.PID()), nil
	case unix.SYS_GETTID:
		return uint64(t.TID()), nil
	case unix.SYS_GETPPID:
		return uint64(t.Process().PPID()), nil
	case unix.SYS_EXIT:
		t.Exit(int32(c.RDI))
		return 0, nil
	case unix.SYS_EXIT_GROUP:
		t.ExitGroup(int32(c.RDI))
		return 0, nil
	case unix.SYS_CLONE:
		return num(t.Clone(&CloneArgs{Flags: c.RDI &^ 0xff, ExitSignal: unix.Signal(c.RDI & 0xff),
			Stack: c.RSI, ParentTID: c.RDX, ChildTID: c.R10, TLS: c.R8}))
	case unix.SYS_EXECVE:
		return ok(t.Exec(&ExecArgs{Path: fmt.Sprintf("/%#x", c.RDI)}))
	case unix.SYS_WAIT4:
		a := WaitArgs{Type: unix.P_ALL, ID: int32(c.RDI), Options: int(c.RDX) | unix.WEXITED}
		switch pid := int32(c.RDI); {
		case pid > 0:
			a.Type = unix.P_PID
		case pid < -1:
			a.Type, a.ID = unix.P_PGID, -pid
		case pid == 0:
			a.Type = unix.P_PGID
		}
		r, err := t.Wait(&a)
		if err == nil && r.PID != 0 && c.RSI != 0 {
			t.Mem().Store32(c.RSI, uint32(r.Status))
		}
		return num(r.PID, err)
	case unix.SYS_KILL:
		return ok(t.Kill(int32(c.RDI), unix.Signal(c.RSI)))
	case unix.SYS_TGKILL:
		return ok(t.Tgkill(int32(c.RDI), int32(c.RSI), unix.Signal(c.RDX)))
	case unix.SYS_RT_SIGACTION:
		var b [abi.SizeofSigAction]byte
		t.Mem().CopyIn(b[:], c.RSI)
		a := abi.GetSigAction(b[:])
		_, err := t.Sigaction(unix.Signal(c.RDI), &a)
		return ok(err)
	case unix.SYS_RT_SIGPROCMASK:
		return ok(t.Procmask(int32(c.RDI), signal.Set(c.RSI))) // the set itself, not its address
	case unix.SYS_RT_SIGPENDING:
		return uint64(t.Sigpending()), nil
	case unix.SYS_RT_SIGSUSPEND:
		return ok(t.Sigsuspend(signal.Set(c.RDI)))
	case unix.SYS_RT_SIGTIMEDWAIT:
		deadline := uint64(0)
		if c.RSI != 0 {
			deadline = uint64(t.k.Clock.After(int64(c.RSI)))
		}
		info, err := t.Sigtimedwait(signal.Set(c.RDI), int64(deadline), false)
		if err != nil {
			return 0, err
		}
		return uint64(info.Signo()), nil
	case unix.SYS_RT_SIGRETURN:
		return t.Sigreturn(), nil
	case unix.SYS_SIGALTSTACK:
		_, err := t.Sigaltstack(&abi.StackT{SP: c.RDI, Flags: int32(c.RSI), Size: c.RDX})
		return ok(err)
	case unix.SYS_PAUSE:
		return ok(t.Pause())
	case unix.SYS_SETPGID:
		return ok(t.Setpgid(int32(c.RDI), int32(c.RSI)))
	case unix.SYS_SETSID:
		return num(t.Setsid())
	case unix.SYS_GETPGID:
		return uint64(t.Process().PGID()), nil
	case unix.SYS_GETSID:
		return uint64(t.Process().SID()), nil
	case unix.SYS_PRCTL:
		switch c.RDI {
		case unix.PR_SET_CHILD_SUBREAPER:
			t.Process().SetSubreaper(c.RSI != 0)
		case unix.PR_SET_PDEATHSIG:
			t.SetPDeathSignal(int32(c.RSI))
		}
		return 0, nil
	case unix.SYS_SET_TID_ADDRESS:
		t.SetClearTID(c.RDI)
		return uint64(t.TID()), nil
	case unix.SYS_SET_ROBUST_LIST:
		t.SetRobustList(c.RDI)
		return 0, nil
	case unix.SYS_FUTEX:
		return serveFutex(t, c)
	case unix.SYS_SETITIMER:
		_, _, err := t.Setitimer(int(c.RDI), int64(c.RSI), int64(c.RDX))
		return ok(err)
	case unix.SYS_SCHED_YIELD:
		t.Yield()
		return 0, nil
	case unix.SYS_PTRACE:
		return servePtrace(t, c)
	case unix.SYS_RESTART_SYSCALL:
		return t.RestartSyscall()
	case sysPanic:
		var p *user
		return uint64(len(p.out)), nil
	case sysBlock: // an interruptible wait that ends as RDI says
		for t.Block(0) == nil {
		}
		return 0, unix.Errno(c.RDI)
	case sysNap:
		return nap(t, t.k.Clock.After(int64(c.RDI)))
	}
	return 0, unix.ENOSYS
}

func nap(t *Task, deadline int64) (uint64, error) {
	if t.Sleep(deadline) != nil {
		return 0, t.SetRestart(func(t *Task) (uint64, error) { return nap(t, deadline) })
	}
	return 7, nil
}

func serveFutex(t *Task, c *machine.Context) (uint64, error) {
	num := func(n int, err error) (uint64, error) { return uint64(n), err }
	ok := func(err error) (uint64, error) { return 0, err }
	private := c.RSI&futexPrivateFlag != 0
	deadline := int64(0)
	if c.R10 != 0 {
		deadline = t.k.Clock.After(int64(c.R10))
	}
	val := uint32(c.RDX)
	switch c.RSI &^ (futexPrivateFlag | futexClockRealtime) {
	case futexWait:
		return ok(t.FutexWait(c.RDI, val, ^uint32(0), private, deadline, false))
	case futexWake:
		return num(t.FutexWake(c.RDI, int(val), ^uint32(0), private))
	case futexWaitBitset:
		wall := c.RSI&futexClockRealtime != 0
		if wall && deadline != 0 {
			deadline += t.k.Clock.Wall() - t.k.Clock.Now()
		}
		return ok(t.FutexWait(c.RDI, val, uint32(c.R9), private, deadline, wall))
	case futexWakeBitset:
		return num(t.FutexWake(c.RDI, int(val), uint32(c.R9), private))
	case futexCmpRequeue:
		cmp := uint32(c.R9)
		return num(t.FutexRequeue(c.RDI, c.R8, int(val), int(c.R10), &cmp, private))
	case futexWakeOp:
		return num(t.FutexWakeOp(c.RDI, c.R8, int(val), int(c.R10), uint32(c.R9), private))
	case futexLockPi:
		return ok(t.FutexLockPI(c.RDI, private, deadline, false, false))
	case futexUnlockPi:
		return ok(t.FutexUnlockPI(c.RDI, private))
	}
	return 0, unix.ENOSYS
}

// Operations of futex(2).
const (
	futexPrivateFlag   = 128
	futexClockRealtime = 256
	futexWait          = 0
	futexWake          = 1
	futexCmpRequeue    = 4
	futexWakeOp        = 5
	futexLockPi        = 6
	futexUnlockPi      = 7
	futexWaitBitset    = 9
	futexWakeBitset    = 10
)
