package vfs

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Dentry is a name in a directory. What it stands for never changes.
type Dentry struct {
	inode   *Inode
	parent  atomic.Pointer[Dentry] // nil: the root of its file system; changed under FS.rename
	name    string                 // guarded by FS.rename
	dir     *dirState              // of a directory in a Resident file system
	names   *nameCache             // of a directory in a Cached file system
	offset  int64                  // in the parent's order; guarded by the parent's lock
	mounts  atomic.Int32           // mounts that lie on it
	gone    atomic.Bool            // removed from its parent
	used    atomic.Bool            // since the keeper looked last
	expires atomic.Int64           // Revalidator.Expiry
}

// dirState holds the entries of a directory of a Resident file system.
type dirState struct {
	mu       sync.RWMutex
	children map[string]*Dentry
	// order lists the children by offset, with holes where some went, so that a
	// listing that goes on while others change the directory misses and repeats nothing.
	order []entry
	holes int
	last  int64 // offset given last
	dead  bool  // removed: takes no more entries
}

// entry is a place in the order; without a dentry, a hole.
type entry struct {
	offset int64
	dentry *Dentry
}

func newDentry(parent *Dentry, name string, i *Inode) *Dentry {
	d := &Dentry{inode: i, name: name}
	d.parent.Store(parent)
	if i.IsDir() && i.fs.Resident {
		d.dir = new(dirState)
	} else if i.IsDir() && i.fs.Cached {
		d.names = new(nameCache)
	}
	return d
}

// Inode returns the file that d stands for.
func (d *Dentry) Inode() *Inode { return d.inode }

// Parent returns the directory that d is in, nil for a root.
func (d *Dentry) Parent() *Dentry { return d.parent.Load() }

// Name returns the name as it is now.
func (d *Dentry) Name() string {
	fs := d.inode.fs
	fs.rename.RLock()
	defer fs.rename.RUnlock()
	return d.name
}

// Child returns the entry of that name, nil when there is none. Resident file systems only.
func (d *Dentry) Child(name string) *Dentry {
	d.dir.mu.RLock()
	c := d.dir.children[name]
	d.dir.mu.RUnlock()
	return c
}

// Make creates a file as n says, nothing inherited and no rights checked; for those that
// build trees. EEXIST, ENOTDIR, and what InodeOps.Create says.
func (d *Dentry) Make(name string, n *NewNode) (*Dentry, error) {
	if d.names != nil {
		return d.makeCached(name, n)
	}
	if d.dir == nil {
		return nil, unix.ENOTDIR
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	return d.makeLocked(name, n)
}

// makeLocked creates a file; d's lock is held for writing.
func (d *Dentry) makeLocked(name string, n *NewNode) (*Dentry, error) {
	switch {
	case d.dir.dead:
		return nil, unix.ENOENT
	case d.dir.children[name] != nil:
		return nil, unix.EEXIST
	}
	i, err := d.inode.ops.Create(d.inode, name, n)
	if err != nil {
		return nil, err
	}
	c := newDentry(d, name, i)
	d.dir.insert(c)
	if i.IsDir() {
		d.inode.nlink.Add(1)
	}
	d.inode.touch()
	return c, nil
}

// LinkTo enters another name for a file that has one: ENOTDIR, EEXIST, ENOSPC, EPERM for a directory. No rights are checked.
func (d *Dentry) LinkTo(name string, i *Inode) error {
	switch {
	case d.dir == nil:
		return unix.ENOTDIR
	case i.IsDir():
		return unix.EPERM
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	if d.dir.dead {
		return unix.ENOENT
	}
	if d.dir.children[name] != nil {
		return unix.EEXIST
	}
	if err := i.linked(); err != nil {
		return err
	}
	d.dir.insert(newDentry(d, name, i))
	return nil
}

// Drop removes a name, of a file or an empty directory: ENOENT, ENOTEMPTY, EBUSY. No rights are checked.
func (d *Dentry) Drop(name string) error {
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	c := d.dir.children[name]
	switch {
	case c == nil:
		return unix.ENOENT
	case c.dir != nil:
		return d.dropDirLocked(c)
	}
	return d.dropFileLocked(c)
}

// dropFileLocked removes an entry that is no directory; d's lock is held for writing.
func (d *Dentry) dropFileLocked(c *Dentry) error {
	if c.mounts.Load() != 0 {
		return unix.EBUSY
	}
	d.dir.remove(c)
	c.gone.Store(true)
	d.inode.touch()
	d.removed(c, 1)
	return nil
}

// dropDirLocked removes a subdirectory; d's lock is held for writing.
func (d *Dentry) dropDirLocked(c *Dentry) error {
	if err := c.kill(); err != nil {
		return err
	}
	d.dir.remove(c)
	d.inode.nlink.Add(^uint32(0))
	d.inode.touch()
	d.removed(c, 2)
	return nil
}

// removed takes away the links that the entry c, which is gone, was to its inode, and tells the watchers.
func (d *Dentry) removed(c *Dentry, links uint32) {
	if watched.Load() == 0 {
		c.inode.unlinked(links)
		return
	}
	dir := c.inode.dirFlag()
	c.inode.tell(unix.IN_ATTRIB|dir, 0, "")
	c.inode.unlinked(links)
	d.inode.tell(unix.IN_DELETE|dir, 0, c.name)
}

// insert enters c under its name; the lock is held for writing.
func (s *dirState) insert(c *Dentry) {
	if s.children == nil {
		s.children = make(map[string]*Dentry)
	}
	s.last++
	c.offset = s.last
	s.children[c.name] = c
	s.order = append(s.order, entry{c.offset, c})
}

// remove takes c out; the lock is held for writing.
func (s *dirState) remove(c *Dentry) {
	delete(s.children, c.name)
	s.order[s.after(c.offset-1)].dentry = nil
	s.holes++
	if s.holes > 16 && s.holes > len(s.order)/2 {
		s.order = slices.DeleteFunc(s.order, func(e entry) bool { return e.dentry == nil })
		s.holes = 0
	}
}

// after returns the index of the first entry behind offset; the lock is held.
func (s *dirState) after(offset int64) int {
	n, _ := slices.BinarySearchFunc(s.order, offset+1, func(e entry, o int64) int { return cmp.Compare(e.offset, o) })
	return n
}

// within reports whether d is a or lies below it, in one file system; FS.rename is held.
func (d *Dentry) within(a *Dentry) bool {
	for ; d != nil; d = d.parent.Load() {
		if d == a {
			return true
		}
	}
	return false
}
