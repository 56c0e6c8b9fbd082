// Package vfstest makes small trees of files for tests.
package vfstest

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine/fake"
)

// fs keeps files in memory.
type fs struct {
	vfs.InodeDefaults
	fs      *vfs.FS
	pool    *mem.Pool
	evicted *atomic.Int32
}

func (r *fs) Create(_ *vfs.Inode, _ string, n *vfs.NewNode) (*vfs.Inode, error) {
	var c *mem.Cache
	if n.Mode&unix.S_IFMT == unix.S_IFREG {
		c = mem.NewShmem(r.pool)
	}
	return r.fs.NewInode(r, n, c), nil
}
func (r *fs) MayChange(*vfs.Inode) error  { return nil }
func (r *fs) MaySetAttr(*vfs.Inode) error { return nil }
func (r *fs) Evict(i *vfs.Inode) {
	r.evicted.Add(1)
	r.InodeDefaults.Evict(i)
}
func (r *fs) Statfs(s *unix.Statfs_t) { s.Type = unix.TMPFS_MAGIC }
func (r *fs) Sync() error             { return nil }
func (r *fs) Unmounted()              { r.fs.EvictAll() }

// Tree is a namespace with one file system in memory.
type Tree struct {
	Machine *fake.Machine
	Pool    *mem.Pool
	NS      *vfs.Namespace
	Ctx     *vfs.Context // root's
	Evicted atomic.Int32 // inodes given up so far
	// Now is the time in ns; each look at it advances it.
	Now atomic.Int64
	FS  *vfs.FS

	cached bool // by NewCached
}

// NewFS returns another file system in the tree's memory.
func (t *Tree) NewFS() *vfs.FS {
	if t.cached {
		return t.newStore()
	}
	r := &fs{pool: t.Pool, evicted: &t.Evicted}
	r.fs = vfs.NewFS("tmpfs", r, func() int64 { return t.Now.Add(1000) })
	r.fs.Resident = true
	r.fs.SetRoot(r.fs.NewInode(r, &vfs.NewNode{Mode: unix.S_IFDIR | 0o755}, nil))
	return r.fs
}

// New returns an empty tree. The test fails when frames are left after its end.
func New(tb testing.TB) *Tree { return NewOn(tb, fake.ForTest(tb, fake.Config{})) }

// NewOn returns an empty tree in the memory of a machine.
func NewOn(tb testing.TB, m *fake.Machine) *Tree {
	t := &Tree{Machine: m}
	t.init()
	tb.Cleanup(func() {
		t.FS.EvictAll()
		t.Pool.Close()
	})
	return t
}

func (t *Tree) init() {
	t.Now.Store(1_700_000_000_000_000_000)
	t.Pool = mem.NewPool(t.Machine)
	t.FS = t.NewFS()
	t.NS = vfs.NewNamespace(t.FS, t.Pool)
	root := t.NS.Root()
	t.Ctx = &vfs.Context{Root: root, Cwd: root, Cred: cred.Root(), Umask: 0o022}
}

// As returns the context of another user.
func (t *Tree) As(uid, gid uint32, groups ...uint32) *vfs.Context {
	c := *t.Ctx
	c.Cred = &cred.Cred{UID: uid, EUID: uid, SUID: uid, FSUID: uid, GID: gid, EGID: gid, SGID: gid, FSGID: gid, Groups: groups, Bounding: cred.AllCaps}
	return &c
}

// Write makes a file with contents, and fails the test if it cannot.
func (t *Tree) Write(tb testing.TB, path, contents string) {
	tb.Helper()
	f, err := vfs.Open(t.Ctx, vfs.Path{}, path, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 0o644)
	if err != nil {
		tb.Fatalf("open %s: %v", path, err)
	}
	defer f.DecRef()
	b := uio.Buffer(contents)
	if n, err := f.Write(&b); err != nil || n != int64(len(contents)) {
		tb.Fatalf("write %s: %d, %v", path, n, err)
	}
}

// Read returns the contents of a file, and fails the test if it cannot.
func (t *Tree) Read(tb testing.TB, path string) string {
	tb.Helper()
	f, err := vfs.Open(t.Ctx, vfs.Path{}, path, unix.O_RDONLY, 0)
	if err != nil {
		tb.Fatalf("open %s: %v", path, err)
	}
	defer f.DecRef()
	return ReadAll(tb, f)
}

// ReadAll reads f from its position to the end.
func ReadAll(tb testing.TB, f *vfs.File) string {
	tb.Helper()
	var all []byte
	for {
		buf := make([]byte, 4096)
		b := uio.Buffer(buf)
		n, err := f.Read(&b)
		if err != nil {
			tb.Fatalf("read: %v", err)
		}
		if n == 0 {
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}

// List returns the names in a directory, as getdents64 gives them.
func (t *Tree) List(tb testing.TB, path string) []string {
	tb.Helper()
	f, err := vfs.Open(t.Ctx, vfs.Path{}, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		tb.Fatalf("open %s: %v", path, err)
	}
	defer f.DecRef()
	var names []string
	for {
		buf := make([]byte, 512)
		b := uio.Buffer(buf)
		n, err := f.Getdents(t.Ctx, &b, false)
		if err != nil {
			tb.Fatalf("getdents %s: %v", path, err)
		}
		if n == 0 {
			return names
		}
		for rest := buf[:n]; len(rest) > 0; {
			size := int(rest[16]) | int(rest[17])<<8
			names = append(names, unix.ByteSliceToString(rest[19:size]))
			rest = rest[size:]
		}
	}
}
