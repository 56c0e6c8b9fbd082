package task

import (
	"sync"
	"sync/atomic"

	"gosv/kernel/mm"
	"gosv/kernel/vfs"

	"golang.org/x/sys/unix"
)

// Memory is an address space with the number of its users: tasks, and
// whoever looks into another process's memory.
type Memory struct {
	*mm.AddressSpace
	users    atomic.Int32
	tasks    atomic.Int32 // those of the users that are tasks
	delegate atomic.Pointer[Delegate]
	barriers atomic.Uint32 // what membarrier(2) has registered
}

func newMemory(as *mm.AddressSpace) *Memory {
	m := &Memory{AddressSpace: as}
	m.users.Store(1)
	m.tasks.Store(1)
	return m
}

// leave is Release for the task t.
func (m *Memory) leave(t *Task) {
	if m.tasks.Add(-1) == 0 {
		if d := m.delegate.Load(); d != nil {
			d.end(t)
		}
	}
	m.Release()
}

// hold adds a user; false when the last one has gone already.
func (m *Memory) hold() bool {
	for {
		n := m.users.Load()
		if n == 0 {
			return false
		}
		if m.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release takes a user away; with the last one the memory is freed.
func (m *Memory) Release() {
	if m.users.Add(-1) == 0 {
		m.AddressSpace.Release()
	}
}

// Shares reports whether two tasks share what the clone(2) flag is about: CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND.
func (t *Task) Shares(o *Task, flag uint64) bool {
	mem, files, fs := t.shared()
	mem2, files2, fs2 := o.shared()
	switch flag {
	case unix.CLONE_VM:
		return mem == mem2
	case unix.CLONE_FILES:
		return files == files2
	case unix.CLONE_FS:
		return fs == fs2
	}
	return t.proc.Handlers() == o.proc.Handlers()
}

func (t *Task) shared() (*Memory, *vfs.FDTable, *FS) {
	t.proc.mu.Lock()
	defer t.proc.mu.Unlock()
	return t.mem, t.Files, t.FS
}

// FilesOf returns the descriptor table of t, with which the caller may do what FDTable allows others; nil after its end.
func (t *Task) FilesOf() *vfs.FDTable {
	_, f, _ := t.shared()
	return f
}

// FS is the root directory, the current directory and the umask (CLONE_FS).
type FS struct {
	users atomic.Int32
	mu    sync.Mutex
	root  vfs.Path // guarded by mu, as is all below
	cwd   vfs.Path
	umask uint32
}

// NewFS returns one with a single user.
func NewFS(root, cwd vfs.Path, umask uint32) *FS {
	f := &FS{root: root, cwd: cwd, umask: umask}
	f.users.Store(1)
	return f
}

func (f *FS) context() vfs.Context {
	f.mu.Lock()
	c := vfs.Context{Root: f.root, Cwd: f.cwd, Umask: f.umask}
	f.mu.Unlock()
	return c
}

func (f *FS) clone() *FS {
	f.mu.Lock()
	v := NewFS(f.root, f.cwd, f.umask)
	f.mu.Unlock()
	return v
}

// Root returns the root directory.
func (f *FS) Root() vfs.Path { return f.context().Root }

// Cwd returns the current directory.
func (f *FS) Cwd() vfs.Path { return f.context().Cwd }

// SetCwd is the end of chdir(2).
func (f *FS) SetCwd(p vfs.Path) {
	f.mu.Lock()
	f.cwd = p
	f.mu.Unlock()
}

// SetRoot is the end of chroot(2).
func (f *FS) SetRoot(p vfs.Path) {
	f.mu.Lock()
	f.root = p
	f.mu.Unlock()
}

// replace is for pivot_root(2): what is old becomes next.
func (f *FS) replace(old, next vfs.Path) {
	f.mu.Lock()
	if f.root == old {
		f.root = next
	}
	if f.cwd == old {
		f.cwd = next
	}
	f.mu.Unlock()
}

// ReplaceRoot gives t the root and current directory next where it has old: the end of pivot_root(2).
func (t *Task) ReplaceRoot(old, next vfs.Path) {
	if _, _, fs := t.shared(); fs != nil {
		fs.replace(old, next)
	}
}

// Umask returns the umask.
func (f *FS) Umask() uint32 { return f.context().Umask }

// SetUmask is umask(2): it returns the one before.
func (f *FS) SetUmask(mask uint32) (old uint32) {
	f.mu.Lock()
	old, f.umask = f.umask, mask&0o777
	f.mu.Unlock()
	return old
}
