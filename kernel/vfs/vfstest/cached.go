package vfstest

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/vfs"
	"gosv/machine/fake"
)

// store is a Cached file system: its names are kept apart from the dentries, as on a disk.
type store struct {
	vfs.InodeDefaults
	tree *Tree
	fs   *vfs.FS

	mu    sync.Mutex
	names map[*vfs.Inode][]stored // guarded by mu; of each directory, in the order of coming
	last  int64                   // offset given last; guarded by mu
}

type stored struct {
	name string
	i    *vfs.Inode
	at   int64
}

// NewCached is NewOn with a Cached file system, whose inodes are given up by Unmounted.
func NewCached(tb testing.TB) *Tree {
	t := &Tree{Machine: fake.ForTest(tb, fake.Config{}), cached: true}
	t.init()
	tb.Cleanup(func() {
		t.FS.Ops().Unmounted()
		t.Pool.Close()
	})
	return t
}

func (t *Tree) newStore() *vfs.FS {
	s := &store{tree: t, names: map[*vfs.Inode][]stored{}}
	s.fs = vfs.NewFS("tmpfs", s, func() int64 { return t.Now.Add(1000) })
	s.fs.Cached, s.fs.Keep = true, 4
	s.fs.SetRoot(s.fs.NewInode(s, &vfs.NewNode{Mode: unix.S_IFDIR | 0o755}, nil))
	return s.fs
}

// locate returns the index of name in dir, -1 when it is not there; s.mu is held.
func (s *store) locate(dir *vfs.Inode, name string) int {
	for n, e := range s.names[dir] {
		if e.name == name {
			return n
		}
	}
	return -1
}

func (s *store) Lookup(_ *vfs.Context, dir *vfs.Dentry, name string) (*vfs.Inode, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.locate(dir.Inode(), name); n >= 0 {
		return s.names[dir.Inode()][n].i, nil
	}
	return nil, unix.ENOENT
}

func (s *store) Readdir(_ *vfs.Context, dir *vfs.Dentry, off int64, emit func(vfs.Dirent) bool) error {
	s.mu.Lock()
	list := append([]stored(nil), s.names[dir.Inode()]...)
	s.mu.Unlock()
	for _, e := range list {
		if e.at > off && !emit(vfs.Dirent{Name: e.name, Ino: e.i.Ino, Mode: e.i.Type(), Next: e.at}) {
			break
		}
	}
	return nil
}

func (s *store) put(dir *vfs.Inode, name string, i *vfs.Inode) {
	if s.last == 0 {
		s.last = 2
	}
	s.last++
	s.names[dir] = append(s.names[dir], stored{name, i, s.last})
	s.touch(dir)
}

func (s *store) take(dir *vfs.Inode, name string) {
	n := s.locate(dir, name)
	s.names[dir] = append(s.names[dir][:n:n], s.names[dir][n+1:]...)
	s.touch(dir)
}

func (s *store) touch(i *vfs.Inode) {
	now := s.fs.Now()
	i.SetTimes(-1, now, now)
}

func (s *store) Create(dir *vfs.Inode, name string, n *vfs.NewNode) (*vfs.Inode, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "" && s.locate(dir, name) >= 0 {
		return nil, unix.EEXIST
	}
	var c *mem.Cache
	if n.Mode&unix.S_IFMT == unix.S_IFREG {
		c = mem.NewShmem(s.tree.Pool)
	}
	i := s.fs.NewInode(s, n, c)
	if name != "" {
		s.put(dir, name, i)
	}
	if i.IsDir() {
		dir.SetNlink(dir.Nlink() + 1)
	}
	return i, nil
}

func (s *store) Link(i, dir *vfs.Inode, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locate(dir, name) >= 0 {
		return unix.EEXIST
	}
	s.put(dir, name, i)
	i.SetNlink(i.Nlink() + 1)
	i.SetTimes(-1, -1, s.fs.Now())
	return nil
}

func (s *store) Unlink(dir *vfs.Inode, name string, i *vfs.Inode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names[i]) > 0 {
		return unix.ENOTEMPTY
	}
	s.take(dir, name)
	s.lose(dir, i)
	return nil
}

// lose takes a link from i, a directory: both.
func (s *store) lose(dir, i *vfs.Inode) {
	i.SetTimes(-1, -1, s.fs.Now())
	if i.IsDir() {
		i.SetNlink(0)
		dir.SetNlink(dir.Nlink() - 1)
		return
	}
	i.SetNlink(i.Nlink() - 1)
}

func (s *store) Rename(from *vfs.Inode, oldName string, to *vfs.Inode, newName string, flags uint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.names[from][s.locate(from, oldName)].i
	var victim *vfs.Inode
	if n := s.locate(to, newName); n >= 0 {
		victim = s.names[to][n].i
	}
	exchange := flags&unix.RENAME_EXCHANGE != 0
	if victim != nil && !exchange && len(s.names[victim]) > 0 {
		return unix.ENOTEMPTY
	}
	s.take(from, oldName)
	if victim != nil {
		s.take(to, newName)
	}
	s.put(to, newName, i)
	s.moved(i, from, to)
	i.SetTimes(-1, -1, s.fs.Now())
	switch {
	case exchange:
		s.put(from, oldName, victim)
		s.moved(victim, to, from)
		victim.SetTimes(-1, -1, s.fs.Now())
	case victim != nil:
		s.lose(to, victim)
	}
	return nil
}

// moved counts the .. of a directory.
func (s *store) moved(i, from, to *vfs.Inode) {
	if i.IsDir() {
		from.SetNlink(from.Nlink() - 1)
		to.SetNlink(to.Nlink() + 1)
	}
}

func (s *store) SetAttr(_ *cred.Cred, i *vfs.Inode, a *vfs.Attr) error {
	a.Apply(i)
	if a.Valid&vfs.AttrSize != 0 {
		return i.Cache().Truncate(a.Size)
	}
	return nil
}
func (s *store) Refresh(*vfs.Inode) error { return nil }
func (s *store) Space(i *vfs.Inode) (size, blocks int64) {
	if c := i.Cache(); c != nil {
		return c.Size(), int64(c.Pages()) * 8
	}
	return int64(len(i.Target())), 0
}

func (s *store) MayChange(*vfs.Inode) error  { return nil }
func (s *store) MaySetAttr(*vfs.Inode) error { return nil }
func (s *store) Evict(i *vfs.Inode) {
	s.tree.Evicted.Add(1)
	s.InodeDefaults.Evict(i)
}
func (s *store) Statfs(st *unix.Statfs_t) { st.Type = unix.TMPFS_MAGIC }
func (s *store) Sync() error              { return nil }

// Unmounted implements vfs.FSOps.
func (s *store) Unmounted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tree.Evicted.Add(1) // the root
	for _, list := range s.names {
		for _, e := range list {
			s.tree.Evicted.Add(1)
			if c := e.i.Cache(); c != nil {
				c.Release()
			}
		}
	}
	s.names = nil
}
