package task

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

// A Delegate lets goroutines of the kernel make system calls in the place of a process that
// goes on meanwhile (io_uring(7), io_submit(2)). There is one for each address space, and it ends with the last task that
// uses that.
type Delegate struct {
	k     *Kernel
	mem   *Memory
	proc  *Process
	files *vfs.FDTable
	fs    *FS

	mu      sync.Mutex
	ended   bool               // guarded by mu
	running map[*Task]struct{} // borrowed tasks; guarded by mu
	busy    int                // goroutines of Go; guarded by mu
	crews   [2]crew            // guarded by mu
	last    *Task              // waits for them; guarded by mu
	onEnd   map[any]func()     // guarded by mu
	values  map[any]any        // guarded by mu
}

// Crews of a Delegate: what only takes its time, at a disk or a file of the host, and what waits for other programs, it may be for ever.
const (
	Bounded = iota
	Unbounded
)

// A crew is the goroutines that run what GoDo is given.
type crew struct {
	workers, most int
	errands       []errand // that wait for a worker
}

// MaxWorkers is how many workers a crew may have at first, but for RLIMIT_NPROC, which is that of Unbounded.
const MaxWorkers = 1024

// An errand is what GoDo is given.
type errand struct {
	key    any
	cred   *cred.Cred
	do     func(*Task)
	failed func(error)
}

// Delegate returns the delegate of t's address space.
func (t *Task) Delegate() *Delegate {
	m := t.mem
	if d := m.delegate.Load(); d != nil {
		return d
	}
	d := &Delegate{k: t.k, mem: m, proc: t.proc, files: t.Files, fs: t.FS, running: make(map[*Task]struct{}),
		onEnd: make(map[any]func()), values: make(map[any]any)}
	d.crews[Bounded].most, d.crews[Unbounded].most = MaxWorkers, t.mostWorkers()
	if !m.delegate.CompareAndSwap(nil, d) {
		d = m.delegate.Load()
	}
	return d
}

// Value returns what is kept under key, made by make when there is nothing yet.
func (d *Delegate) Value(key any, make func() any) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.values[key]
	if v == nil {
		v = make()
		d.values[key] = v
	}
	return v
}

// OnEnd has f called when the process has ended or called execve(2), in place of what key
// stood for; nil forgets it. f runs without locks.
func (d *Delegate) OnEnd(key any, f func()) {
	d.mu.Lock()
	switch {
	case d.ended:
	case f == nil:
		delete(d.onEnd, key)
	default:
		d.onEnd[key] = f
	}
	d.mu.Unlock()
}

// endTime bounds how long a process waits at its end for operations that cannot be interrupted, in nanoseconds.
const endTime = 1_000_000_000

// end is called by t, the last task of the address space. It waits until the goroutines of Go have ended, but not for ever: what an operation waits
// for may be something that t has still to give up.
func (d *Delegate) end(t *Task) {
	d.mu.Lock()
	d.ended = true
	hooks := d.onEnd
	d.onEnd = nil
	var errands []errand
	for i := range d.crews {
		errands = append(errands, d.crews[i].errands...)
		d.crews[i].errands = nil
	}
	d.mu.Unlock()
	for _, f := range hooks {
		f()
	}
	for _, e := range errands {
		e.failed(unix.ECANCELED)
	}
	d.mu.Lock()
	d.last = t
	for b := range d.running {
		b.Abort()
	}
	n := d.busy
	d.mu.Unlock()
	for deadline := d.k.Clock.After(endTime); n > 0 && t.sleepUntil(deadline); {
		d.mu.Lock()
		n = d.busy
		d.mu.Unlock()
	}
}

// borrow returns a task that can make system calls in the process's name, without a program of its
// own: ECANCELED when the process has ended.
func (d *Delegate) borrow(c *cred.Cred) (*Task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || !d.mem.hold() {
		return nil, unix.ECANCELED
	}
	t := &Task{k: d.k, cpu: d.k.Machine, Ctx: new(machine.Context), mem: d.mem, space: d.mem.Space(), Files: d.files, FS: d.fs, borrowed: true}
	t.belong(d.proc)
	t.tid.Store(d.proc.PID)
	t.cred.Store(c)
	t.Files.IncRef()
	t.FS.users.Add(1)
	d.running[t] = struct{}{}
	return t, nil
}

func (d *Delegate) giveBack(t *Task) {
	d.mu.Lock()
	delete(d.running, t)
	d.mu.Unlock()
	t.FS.users.Add(-1)
	t.Files.DecRef()
	t.mem.Release()
}

// Go runs f on a goroutine that the end of the process waits for. It does not block.
func (d *Delegate) Go(f func()) {
	d.mu.Lock()
	d.busy++
	d.mu.Unlock()
	go func() {
		f()
		d.finished()
	}()
}

// finished says that one of busy is over.
func (d *Delegate) finished() {
	d.mu.Lock()
	d.busy--
	last := d.last
	d.mu.Unlock()
	if last != nil {
		last.Wake()
	}
}

// Do calls f with a borrowed task, on the goroutine of the caller; the error is ECANCELED when the process has ended. A panic
// in f kills the process, and is ECANCELED.
func (d *Delegate) Do(c *cred.Cred, f func(t *Task)) (err error) {
	t, err := d.borrow(c)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			b := make([]byte, 8192)
			b = b[:runtime.Stack(b, false)]
			d.k.Log("kernel panic in a delegate of process " + itoa(d.proc.PID) + ": " + panicText(r) + "\n" + string(b))
			d.proc.kill(unix.SIGKILL)
			err = unix.ECANCELED
		}
		t.claim()
		d.giveBack(t)
	}()
	t.begin()
	f(t)
	return nil
}

// Abort ends the wait of a borrowed task, now or when it next begins one, with ERESTARTSYS.
func (t *Task) Abort() {
	t.flags.Or(workKill)
	t.Wake()
}

// Try calls f with given as the file that GivenFD stands for. Where f would wait for a file it fails with ErrWouldWait
// instead, and Would tells for what.
func (t *Task) Try(given *vfs.File, f func(*Task) (uint64, error)) (uint64, error) {
	t.tries, t.given = true, given
	defer t.tried()
	return f(t)
}

// Serve is Try for a call that may wait.
func (t *Task) Serve(given *vfs.File, f func(*Task) (uint64, error)) (uint64, error) {
	t.given = given
	defer t.tried()
	return f(t)
}

func (t *Task) tried() { t.tries, t.given = false, nil }

// Descriptors, which no program can have, of the file that Try was called with, and of that of With.
const (
	GivenFD = -1 << 30
	OtherFD = GivenFD + 1
)

// With calls f with other as the file that OtherFD stands for.
func (t *Task) With(other *vfs.File, f func() (uint64, error)) (uint64, error) {
	t.other = other
	defer func() { t.other = nil }()
	return f()
}

// Given returns the file of Try with a reference: EBADF.
func (t *Task) Given() (*vfs.File, error) { return referenced(t.given) }

// Other returns the file of With with a reference: EBADF.
func (t *Task) Other() (*vfs.File, error) { return referenced(t.other) }

func referenced(f *vfs.File) (*vfs.File, error) {
	if f == nil {
		return nil, unix.EBADF
	}
	f.IncRef()
	return f, nil
}

// ErrWouldWait is what a system call gives to Try where it would have to wait.
const ErrWouldWait = unix.Errno(0x7fff)

// Would returns what the call in the last Try would have waited for.
func (t *Task) Would() (Pollable, wait.Mask) { return t.wouldFor, t.wouldMask }
