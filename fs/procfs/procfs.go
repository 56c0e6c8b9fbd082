// Package procfs is /proc (proc(5)): what the kernel tells about itself and its processes. It is
// also /sys (sysfs(5)), which is made in the same way.
//
// Everything there is comes from tables, rows and sysRows: a row names a file and says how to show it.
// The contents are made when a file is read from the start, so a reader sees one moment.
//
// FS.mu guards what other rooms added and what programs stored; it is a leaf.
package procfs

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/nsfs"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// Config says what /proc tells that it cannot find out by itself.
type Config struct {
	Kernel    *task.Kernel
	Namespace *vfs.Namespace
	Pool      *mem.Pool
	Clock     *clock.Clock
	// Random fills b with random bytes.
	Random func(b []byte)
	// CPUs is the number of processors.
	CPUs int
	// CommandLine is the kernel's.
	CommandLine string
	// Release and Version are those of uname(2).
	Release, Version string
	// Namespaces shows namespaces in /proc/PID/ns; nil: there is no such directory.
	Namespaces *nsfs.FS
	// CPUInfo is what /proc/cpuinfo tells about each processor.
	CPUInfo CPUInfo
}

// CPUInfo describes the processors.
type CPUInfo struct {
	Vendor, Model            string // as cpuid tells them
	Family, Number, Stepping int    // Number is what Linux calls the model
	Flags                    string // separated by spaces
}

// FS is the /proc or the /sys of one kernel.
type FS struct {
	Config
	*shared
	magic int64
	fs    *vfs.FS
	// Of one mount of /proc.
	pids *task.PIDNamespace
	opts atomic.Pointer[options]
}

// shared is what all instances of a /proc have together.
type shared struct {
	bootID string

	mu   sync.Mutex
	root *row // guarded by mu, with all fixed directories below
	net  *row // the entries of /proc/PID/net, guarded by mu
}

// row is a file or directory.
type row struct {
	// path is the name, in the table with the directories before it.
	path string
	// mode is the type, S_IFREG by default, and the rights.
	mode uint32
	// show appends the contents of a regular file.
	show func(v *view, b *out) error
	// store takes what was written; nil: the file is read-only.
	store func(v *view, b string) error
	// open makes a file that is more than its contents.
	open func(v *view) (vfs.FileOps, error)
	// text is the target of a symbolic link.
	text func(v *view) (string, error)
	// jump is where a magic link leads.
	jump func(v *view) (vfs.Path, error)
	// follow decides whether a magic link may be followed; nil: it may. Its target can be read all the same.
	follow func(v *view) error
	// private files are shown only to those who may trace the process.
	private bool
	// bound files are about the address space that the process has when they are opened: what it executes after that may be nothing
	// for who was allowed to open them.
	bound bool
	// inTask says that the file is below /proc/PID/task/TID too.
	inTask bool

	id   uint64
	dir  []*row // fixed entries of a directory
	more lister // its other entries, with numbers for names
	// named are its other entries with names of another kind; nil: none.
	named namedLister
}

// A lister knows the entries of a directory that come and go.
type lister interface {
	// list returns the names, which are numbers.
	list(v *view) ([]int32, error)
	// find returns the row of an entry and what it is about: ENOENT.
	find(v *view, n int32) (*row, subject, error)
}

// namedLister lists entries whose names are no numbers.
type namedLister interface {
	names(v *view) []string
	// findName returns the row of an entry and what it is about: ENOENT.
	findName(v *view, name string) (*row, subject, error)
}

// subject is what a file is about: a process, a thread, a descriptor, an area.
type subject struct {
	pid, tid, fd int32
	start, end   uint64
}

// New returns a /proc, to be mounted.
func New(c Config) *FS {
	f := &FS{Config: c, shared: &shared{bootID: uuid(c.Random)}, magic: unix.PROC_SUPER_MAGIC, pids: c.Kernel.PIDs()}
	for _, r := range slices.Concat(processRows, nsRows) {
		number(r)
	}
	return f.fill("proc", append(slices.Clone(rows), slices.Concat(limitRows(), ipcRows(), sysvRows)...), processes{})
}

// NewSys returns a /sys, to be mounted.
func NewSys(c Config) *FS {
	f := &FS{Config: c, shared: &shared{}, magic: unix.SYSFS_MAGIC, pids: c.Kernel.PIDs()}
	return f.fill("sysfs", append(slices.Clone(sysRows), f.cpuRows()...), nil)
}

// fill makes the tree of a table; more are the other entries of its root.
func (f *FS) fill(name string, table []row, more lister) *FS {
	f.root, f.net = &row{mode: unix.S_IFDIR | 0o555, more: more}, &row{mode: unix.S_IFDIR | 0o555}
	for i := range table {
		r := table[i]
		f.enter(f.root, &r)
	}
	f.makeFS(name)
	return f
}

// makeFS makes the file system of an instance.
func (f *FS) makeFS(name string) {
	if f.opts.Load() == nil {
		f.opts.Store(&options{})
	}
	f.fs = vfs.NewFS(name, f, f.Clock.Wall)
	f.fs.Revealing = true
	root := f.fs.NewInode(&node{fs: f, row: f.root}, &vfs.NewNode{Mode: f.root.mode}, nil)
	root.Ino = 1
	f.fs.SetRoot(root)
}

// FS returns the file system.
func (f *FS) FS() *vfs.FS { return f.fs }

// Add adds a file that other rooms show: path has the directories in it. store
// takes what programs write, without what is blank around it; nil: read-only.
func (f *FS) Add(path string, mode uint32, show func() string, store func(string) error) {
	r := &row{path: path, mode: mode, show: func(_ *view, b *out) error { b.str(show()); return nil }}
	if store != nil {
		r.store = func(_ *view, s string) error { return store(trim(s)) }
	}
	f.enter(f.root, r)
}

// AddFor adds a file about the namespace of who opens it, and below net about that of the process whose net it is in. store is as
// Add's.
func (f *FS) AddFor(path string, k namespace.Kind, show func(namespace.Object) string, store func(namespace.Object, string) error) {
	dir := f.root
	if name, ok := strings.CutPrefix(path, "net/"); ok {
		dir, path = f.net, name
	}
	r := &row{path: path, mode: ro, show: func(v *view, b *out) error {
		return v.within(k, func(o namespace.Object) error {
			b.str(show(o))
			return nil
		})
	}}
	if store != nil {
		r.mode, r.store = rw, func(v *view, s string) error {
			return v.within(k, func(o namespace.Object) error { return store(o, trim(s)) })
		}
	}
	f.enter(dir, r)
}

// within calls f with the namespace that namespaceOf returns, which does not end meanwhile: ESRCH when it has already.
func (v *view) within(k namespace.Kind, f func(namespace.Object) error) error {
	o := v.namespaceOf(k)
	if !o.NS().Get() {
		return unix.ESRCH
	}
	defer o.NS().Put()
	return f(o)
}

// namespaceOf returns the namespace of the process that the file is about, or of who asks.
func (v *view) namespaceOf(k namespace.Kind) namespace.Object {
	t := v.t
	if t == nil {
		t = v.asker()
	}
	if t != nil {
		if o := t.NamespaceOf(k, false); o != nil {
			return o
		}
	}
	return v.Kernel.First().List[k]
}

// AddLink adds a symbolic link.
func (f *FS) AddLink(path, target string) {
	f.enter(f.root, &row{path: path, mode: unix.S_IFLNK | 0o777, text: func(*view) (string, error) { return target, nil }})
}

// AddDir adds an empty directory.
func (f *FS) AddDir(path string) { f.enter(f.root, &row{path: path, mode: unix.S_IFDIR | 0o555}) }

// Remove takes away what was added at path, with all below.
func (f *FS) Remove(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := f.root
	for {
		name, rest, more := strings.Cut(path, "/")
		if !more {
			break
		}
		if dir = find(dir.dir, name); dir == nil {
			return
		}
		path = rest
	}
	// The list may be in use: it is replaced.
	dir.dir = slices.DeleteFunc(slices.Clone(dir.dir), func(o *row) bool { return o.path == path })
}

var (
	numbering sync.Mutex
	lastRow   uint64 = 1
)

// number gives a row and those in it their part of inode numbers.
func number(r *row) {
	numbering.Lock()
	defer numbering.Unlock()
	if r.id == 0 {
		lastRow++
		r.id = lastRow
	}
	if r.mode&unix.S_IFMT == 0 {
		r.mode |= unix.S_IFREG
	}
}

// enter puts r where its path says, making directories.
func (f *FS) enter(dir *row, r *row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		name, rest, more := strings.Cut(r.path, "/")
		if !more {
			break
		}
		sub := find(dir.dir, name)
		if sub == nil {
			sub = &row{path: name, mode: unix.S_IFDIR | 0o555}
			number(sub)
			dir.dir = append(dir.dir, sub)
		}
		dir, r.path = sub, rest
	}
	number(r)
	dir.dir = slices.DeleteFunc(slices.Clone(dir.dir), func(o *row) bool { return o.path == r.path })
	dir.dir = append(dir.dir, r)
}

func find(rows []*row, name string) *row {
	for _, r := range rows {
		if r.path == name {
			return r
		}
	}
	return nil
}

// entries returns the fixed entries of a directory.
func (f *FS) entries(dir *row) []*row {
	if dir == netRow {
		dir = f.net
	}
	f.mu.Lock()
	v := slices.Clip(dir.dir)
	f.mu.Unlock()
	return v
}

// Statfs implements vfs.FSOps.
func (f *FS) Statfs(s *unix.Statfs_t) { s.Type = f.magic }

// Sync implements vfs.FSOps.
func (f *FS) Sync() error { return nil }

// Unmounted implements vfs.FSOps.
func (f *FS) Unmounted() {
	if f.pids != f.Kernel.PIDs() {
		f.pids.Put()
	}
}
