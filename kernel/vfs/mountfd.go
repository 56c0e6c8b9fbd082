package vfs

import (
	"golang.org/x/sys/unix"
)

// Mounts that lie nowhere: those of fsmount(2) and open_tree(2), until move_mount(2) gives them a place. Each has a file, and ends with
// that file if it was given none. They are in Namespace.all, but no path of the tree leads to them.

// looseFile is the file of such a mount.
type looseFile struct{ FileDefaults }

// Release implements FileOps.
func (*looseFile) Release(f *File) {
	m := f.path.Mount
	m.ns.mu.RLock()
	loose := m.loose
	m.ns.mu.RUnlock()
	if !loose {
		return
	}
	gone, err := m.ns.detach(m, true, false)
	if err != nil {
		return // it was given a place, and taken away from there, just now
	}
	for _, m := range gone {
		m.unused()
	}
}

// loose makes a mount that lies nowhere: ENOSPC.
func (ns *Namespace) loose(fs *FS, root *Dentry, source string, flags uint64) (*Mount, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if err := ns.room(1); err != nil {
		return nil, err
	}
	m := ns.newMount(fs, root, source, flags)
	m.loose = true
	ns.all = append(ns.all, m)
	return m, nil
}

// openLoose returns the file that a mount lives by.
func (m *Mount) openLoose(ctx *Context) *File {
	m.Root.inode.hold()
	f := newFile(Path{m, m.Root}, ctx.Cred, unix.O_PATH)
	f.ops = &looseFile{}
	return f
}

// base returns the mount that m lies on, by others or not: the root of a tree for those that paths lead to. ns.mu is held.
func (m *Mount) base() *Mount {
	for m.parent != nil {
		m = m.parent
	}
	return m
}

// sees reports whether paths of the caller's tree lead to p: not so to mounts that lie nowhere, nor to files without a name.
func (ctx *Context) sees(p Path) bool {
	ns := p.Mount.ns
	ns.mu.RLock()
	v := ns == ctx.Root.Mount.ns && p.Mount.base() == ctx.Root.Mount.base()
	ns.mu.RUnlock()
	return v
}

// CloneTree is open_tree(2) with OPEN_TREE_CLONE: a file of a copy of the mount at p, from p on, which lies nowhere; with recursive of those
// below it too. EPERM, EINVAL, ENOSPC.
func CloneTree(ctx *Context, p Path, recursive bool) (*File, error) {
	if !ctx.mayMount() {
		return nil, unix.EPERM
	}
	ns := ctx.Root.Mount.ns
	ns.mu.Lock()
	m, err := ns.cloneTree(p, recursive)
	if err == nil {
		m.loose = true
	}
	ns.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return m.openLoose(ctx), nil
}

// OpenPath opens p as with O_PATH.
func OpenPath(ctx *Context, p Path) (*File, error) { return openAt(ctx, p, unix.O_PATH) }

// MoveMount is move_mount(2): what is mounted at from goes to another place. EPERM, EINVAL, ENOTDIR, ELOOP, ENOENT.
func MoveMount(ctx *Context, from, to Path) error {
	if !ctx.mayMount() {
		return unix.EPERM
	}
	return from.Mount.ns.move(from, to)
}

// A MountChange is what mount_setattr(2) asks for.
type MountChange struct {
	Set, Clear  uint64 // MS_ flags
	Propagation uint64 // MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE or 0
	Recursive   bool   // also the mounts that lie on it
}

// ChangeMount is mount_setattr(2) on the mount whose root p is: EPERM, EINVAL.
func ChangeMount(ctx *Context, p Path, c MountChange) error {
	if !ctx.mayMount() {
		return unix.EPERM
	}
	ns := p.Mount.ns
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if p.Dentry != p.Mount.Root || p.Mount.base().tree == nil && !p.Mount.loose {
		return unix.EINVAL
	}
	list := ns.below(p.Mount, c.Recursive)
	for _, m := range list {
		if m.held(m.flags.Load()&^c.Clear | c.Set) {
			return unix.EPERM
		}
	}
	var undo []func()
	for _, m := range list {
		old := m.flags.Load()
		if err := m.changeFlags(old&^c.Clear | c.Set); err != nil {
			for _, f := range undo {
				f()
			}
			return err
		}
		undo = append(undo, func() { m.flags.Store(old) })
	}
	for _, m := range list {
		if c.Propagation != 0 {
			ns.propagate(m, c.Propagation)
		}
	}
	return nil
}

// below returns m, and with recursive all mounts that lie on it. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) below(m *Mount, recursive bool) []*Mount {
	list := []*Mount{m}
	if !recursive {
		return list
	}
	for i := 0; i < len(list); i++ {
		for l := list[i].lying.first; l != nil; l = l.next {
			list = append(list, l.m)
		}
	}
	return list
}

// PivotRoot is pivot_root(2): the mount whose root is next takes the place of the caller's root, and that goes to put, which is below next.
// EPERM, EINVAL, EBUSY, ENOTDIR, ENOENT. Whoever has the old root as root or current directory is to get the new one.
func PivotRoot(ctx *Context, next, put Path) error {
	if !ctx.mayMount() {
		return unix.EPERM
	}
	if !next.Inode().IsDir() || !put.Inode().IsDir() {
		return unix.ENOTDIR
	}
	root := ctx.Root
	ns := root.Mount.ns
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n, r := next.Mount, root.Mount
	switch {
	case r.base().tree == nil || n.base() != r.base() || put.Mount.base() != r.base():
		return unix.EINVAL
	case n == r || put.Mount == r:
		return unix.EBUSY
	case n.locked:
		return unix.EINVAL
	case root.Dentry != r.Root || r.parent == nil || next.Dentry != n.Root || n.parent == nil:
		return unix.EINVAL
	case !ns.reachable(put, next) || !ns.reachable(next, root):
		return unix.EINVAL
	}
	if put.Mount.group != nil || n.parent.group != nil || r.parent.group != nil {
		return unix.EINVAL // it would show elsewhere too
	}
	if err := put.Dentry.pin(); err != nil {
		return err
	}
	parent, point := r.parent, r.point
	ns.take(n)
	ns.take(r)
	ns.put(n, Path{parent, point})
	point.mounts.Add(1)
	ns.put(r, put)
	n.locked, r.locked = r.locked, false
	return nil
}

// reachable reports whether p lies at or below root. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) reachable(p, root Path) bool {
	for p.Mount != root.Mount && p.Mount.parent != nil {
		p = Path{p.Mount.parent, p.Mount.point}
	}
	return p.Mount == root.Mount && p.Dentry.within(root.Dentry)
}

// take takes m from its place. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) take(m *Mount) {
	delete(ns.mounts, Path{m.parent, m.point})
	m.point.mounts.Add(-1)
	m.parent.lying.remove(&m.sibling)
	m.parent, m.point = nil, nil
}

// put gives m, which has no place, one that is pinned for it. ns.mu is held.
func (ns *Namespace) put(m *Mount, at Path) {
	m.parent, m.point, m.loose = at.Mount, at.Dentry, false
	at.Mount.lying.add(&m.sibling)
	ns.mounts[at] = m
}
