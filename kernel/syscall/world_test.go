package syscall

import (
	"encoding/binary"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/clock"
	"gosv/kernel/cred"
	"gosv/kernel/klog"
	"gosv/kernel/mem"
	"gosv/kernel/pipe"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vdso"
	"gosv/kernel/vfs"
	"gosv/machine"
	"gosv/machine/fake"
)

// A program is a Go function that plays what a program does in ring 3: it makes system
// calls through its user. Programs are loaded from ELF files in the tree, by the entry point.
type program func(u *user)

// world is a machine with the whole kernel and the programs that it can run.
type world struct {
	tb    testing.TB
	m     *fake.Machine
	k     *task.Kernel
	calls *Calls
	ctx   *vfs.Context
	files *vfs.FDTable

	mu    sync.Mutex
	users map[*machine.Context]*user
	code  []program
	log   []string
	over  chan struct{} // process 1 has ended
	quit  chan struct{} // the test has ended

	patience time.Duration
	status   int
	sig      unix.Signal
}

// user is one thread of a program.
type user struct {
	w     *world
	c     *machine.Context
	space machine.Space
	out   chan machine.Trap
	in    chan struct{}
	brk   uint64
}

const (
	codeBase  = 0x400000
	syscallPC = 0x500000
	restorer  = 0x500100
	dataBase  = 0x600000
	dataSize  = 0x40000
)

func newWorld(tb testing.TB, o Options) *world {
	w := &world{tb: tb, users: make(map[*machine.Context]*user), over: make(chan struct{}), quit: make(chan struct{})}
	w.m = fake.ForTest(tb, fake.Config{Enter: w.enter, RealClock: true, Frames: 8192, CPUs: 2})
	pool := mem.NewPool(w.m)
	object, err := vdso.New(pool)
	if err != nil {
		tb.Fatal(err)
	}
	o.VDSO = object
	c := clock.New(w.m)
	o.Log = klog.New(w.m.Monotonic)
	o.Families = testFamilies(pool, c)
	w.calls = New(o)
	fs := ramfs.New(pool, c.Wall, ramfs.Options{Mode: 0o755})
	ns := vfs.NewNamespace(fs, pool)
	ns.OpenFIFO = pipe.OpenFIFO
	w.ctx = &vfs.Context{Root: ns.Root(), Cwd: ns.Root(), Cred: cred.Root()}
	w.files = vfs.NewFDTable()
	w.k = task.New(task.Config{
		Hostname: "here", Firsts: w.calls.Firsts(), Makers: w.calls.Makers(), Machine: w.m, Pool: pool, Clock: c, Namespace: ns, Dispatch: w.calls.Dispatch, Load: w.calls.Load,
		Log: func(s string) {
			w.mu.Lock()
			w.log = append(w.log, s)
			w.mu.Unlock()
		},
		OnExit: func(status int, sig unix.Signal) { w.status, w.sig = status, sig; close(w.over) },
	})
	tb.Cleanup(func() {
		close(w.quit)
		empty(w.ctx, ns.Root())
		object.Free()
		pool.Close()
	})
	for _, dir := range []string{"/bin", "/tmp"} {
		if err := vfs.Mkdir(w.ctx, vfs.Path{}, dir, 0o777); err != nil {
			tb.Fatal(err)
		}
	}
	return w
}

// empty removes all files, so that their pages go back.
func empty(ctx *vfs.Context, dir vfs.Path) {
	var names []vfs.Dirent
	vfs.ReadDir(ctx, dir, func(e vfs.Dirent) bool { names = append(names, e); return true })
	for _, e := range names {
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			if sub, err := vfs.Lookup(ctx, dir, e.Name, 0); err == nil {
				empty(ctx, sub)
			}
			continue
		}
		vfs.Unlink(ctx, dir, e.Name)
	}
}

func (w *world) put(name string, mode uint32, b []byte) {
	w.tb.Helper()
	f, err := vfs.Open(w.ctx, vfs.Path{}, name, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY, mode)
	if err != nil {
		w.tb.Fatal(name, err)
	}
	src := uio.Buffer(b)
	if _, err := f.Write(&src); err != nil && len(b) > 0 {
		w.tb.Fatal(err)
	}
	f.DecRef()
}

// install makes p a program that can be executed.
func (w *world) install(name string, p program) {
	w.mu.Lock()
	w.code = append(w.code, p)
	entry := codeBase + 0x800 + 16*uint64(len(w.code)-1)
	w.mu.Unlock()
	le := binary.LittleEndian
	b := make([]byte, 4096)
	copy(b, "\x7fELF\x02\x01\x01")
	for off, v := range map[int]uint16{16: 2, 18: 62, 52: 64, 54: 56, 56: 2} {
		le.PutUint16(b[off:], v)
	}
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], 64)
	for i, s := range [][6]uint64{{1 | 5<<32, 0, codeBase, codeBase, 4096, 4096}, {1 | 6<<32, 0, dataBase, dataBase, 0, dataSize}} {
		for j, v := range s {
			le.PutUint64(b[64+56*i+8*j:], v)
		}
	}
	w.put(name, 0o755, b)
}

// run runs p as process 1 until it has ended.
func (w *world) run(p program) (status int, sig unix.Signal) {
	w.tb.Helper()
	w.install("/bin/init", p)
	if _, err := StartInit(w.k, "init", []string{"init", "arg"}, []string{"PATH=/nowhere:/bin", "A=b"}, w.files,
		task.NewFS(w.ctx.Root, w.ctx.Cwd, 0o022), cred.Root()); err != nil {
		w.tb.Fatal(err)
	}
	if w.patience != 0 { // a program that waits for nothing may be killed
		select {
		case <-w.over:
		case <-time.After(w.patience):
			w.k.SignalInit(unix.SIGKILL)
		}
	}
	select {
	case <-w.over:
	case <-time.After(2 * time.Minute): // a starved core is no fault
		b := make([]byte, 1<<20)
		w.tb.Fatalf("process 1 did not end\n%s", b[:runtime.Stack(b, true)])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.log {
		if strings.Contains(s, "panic") {
			w.tb.Error(s)
		}
	}
	return w.status, w.sig
}

func (w *world) enter(c *machine.Context, s machine.Space) machine.Trap {
	w.mu.Lock()
	u := w.users[c]
	w.mu.Unlock()
	if u == nil || u.space != s {
		u = w.newUser(c, s)
	}
	u.in <- struct{}{}
	return <-u.out
}

func (w *world) at(pc uint64) program {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := (pc - codeBase - 0x800) / 16; pc >= codeBase+0x800 && i < uint64(len(w.code)) {
		return w.code[i]
	}
	return nil
}

func (w *world) newUser(c *machine.Context, s machine.Space) *user {
	u := &user{w: w, c: c, space: s, out: make(chan machine.Trap), in: make(chan struct{}), brk: dataBase}
	w.mu.Lock()
	w.users[c] = u
	w.mu.Unlock()
	pc := c.RIP
	if pc == syscallPC+2 { // a child: R12 says where it goes on
		pc = c.R12
	}
	p := w.at(pc)
	if p == nil {
		p = func(*user) {} // a child of a call with nonsense for arguments
	}
	go func() {
		u.await()
		if c.RIP == syscallPC+2 {
			u.handlers()
		}
		p(u)
		u.call(unix.SYS_EXIT_GROUP, 0)
		select {} // never
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

func (u *user) leave(tr machine.Trap) {
	select {
	case u.out <- tr:
	case <-u.w.quit:
		runtime.Goexit()
	}
	u.await()
}

// handlers runs the signal handlers that the kernel wants run.
func (u *user) handlers() {
	for {
		h := u.w.at(u.c.RIP)
		if h == nil {
			return
		}
		sp := u.c.RSP
		h(u)
		u.c.RSP, u.c.RIP = sp+8, restorer+2
		u.c.RAX, u.c.OrigRAX = unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGRETURN
		u.leave(machine.Syscall)
	}
}

// call makes a system call, again when the kernel restarts it.
func (u *user) call(nr uint64, args ...uint64) uint64 {
	var a [6]uint64
	copy(a[:], args)
	c := u.c
	c.RAX, c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9 = nr, a[0], a[1], a[2], a[3], a[4], a[5]
	c.RIP = syscallPC
	for c.RIP == syscallPC {
		c.RIP, c.OrigRAX = syscallPC+2, c.RAX
		u.leave(machine.Syscall)
		u.handlers()
	}
	return c.RAX
}

// must is call for calls that succeed.
func (u *user) must(nr uint64, args ...uint64) uint64 {
	u.w.tb.Helper()
	r := u.call(nr, args...)
	if int64(r) < 0 && int64(r) > -4096 {
		_, file, line, _ := runtime.Caller(1)
		u.w.tb.Errorf("%s:%d: %s: %v", file, line, u.w.calls.rows[nr].name, unix.Errno(-r))
	}
	return r
}

// fails is call for calls that fail with e.
func (u *user) fails(e unix.Errno, nr uint64, args ...uint64) {
	u.w.tb.Helper()
	if r := u.call(nr, args...); r != -uint64(e) {
		_, file, line, _ := runtime.Caller(1)
		u.w.tb.Errorf("%s:%d: %s: %d, want %v", file, line, u.w.calls.rows[nr].name, int64(r), e)
	}
}

// alloc returns the address of n fresh bytes of the program's data.
func (u *user) alloc(n uint64) uint64 {
	a := u.brk
	u.brk += (n + 15) &^ 15
	if u.brk > dataBase+dataSize {
		panic("out of test memory")
	}
	return a
}

// touch makes the page at addr present, as an access would.
func (u *user) touch(addr uint64, write bool) {
	for range 3 {
		if _, acc, ok := u.space.Lookup(addr &^ 4095); ok && (!write || acc&machine.Write != 0) {
			return
		}
		u.c.RIP, u.c.FaultAddr, u.c.Error = syscallPC+0x80, addr, machine.FaultUser
		if write {
			u.c.Error |= machine.FaultWrite
		}
		u.leave(machine.PageFault)
		u.handlers()
	}
}

func (u *user) write(addr uint64, b []byte) {
	for len(b) > 0 {
		n := min(uint64(len(b)), 4096-addr%4096)
		u.touch(addr, true)
		u.space.CopyOut(addr, b[:n])
		addr, b = addr+n, b[n:]
	}
}

func (u *user) read(addr, n uint64) []byte {
	b := make([]byte, n)
	for done := uint64(0); done < n; {
		part := min(n-done, 4096-(addr+done)%4096)
		u.touch(addr+done, false)
		u.space.CopyIn(b[done:done+part], addr+done)
		done += part
	}
	return b
}

func (u *user) str(s string) uint64 {
	a := u.alloc(uint64(len(s) + 1))
	u.write(a, append([]byte(s), 0))
	return a
}

func (u *user) words(v ...uint64) uint64 {
	a := u.alloc(uint64(8 * len(v)))
	for i, x := range v {
		u.write(a+8*uint64(i), le.AppendUint64(nil, x))
	}
	return a
}

func (u *user) word(addr uint64) uint64 { return le.Uint64(u.read(addr, 8)) }

func (u *user) half(addr uint64) uint32 { return le.Uint32(u.read(addr, 4)) }

// strings is a NULL-terminated array of strings.
func (u *user) strings(s ...string) uint64 {
	var v []uint64
	for _, x := range s {
		v = append(v, u.str(x))
	}
	return u.words(append(v, 0)...)
}

func (u *user) exit(status uint64) { u.call(unix.SYS_EXIT_GROUP, status) }

// fn is the address of a function for handlers and children.
func (u *user) fn(p program) uint64 {
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	u.w.code = append(u.w.code, p)
	return codeBase + 0x800 + 16*uint64(len(u.w.code)-1)
}

// fork makes a child that runs p.
func (u *user) fork(p program) uint64 {
	u.c.R12 = u.fn(p)
	return u.must(unix.SYS_FORK)
}

// handle installs a handler.
func (u *user) handle(sig unix.Signal, flags uint64, h program) {
	u.must(unix.SYS_RT_SIGACTION, uint64(sig), u.words(u.fn(h), flags|0x04000000, restorer, 0), 0, 8)
}
