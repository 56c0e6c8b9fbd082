package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// A Tree is a mount namespace (mount_namespaces(7)): the mounts that hang from one root. All trees share the lists of their Namespace, its lock and
// the bound on mounts. A tree ends, and its mounts with it, when neither tasks nor files use it any more.
type Tree struct {
	namespace.Head
	ns     *Namespace
	root   *Mount
	mounts int // how many; guarded by ns.mu
}

// First returns the first tree.
func (ns *Namespace) First() *Tree { return ns.first }

// Root returns the root directory, below whatever is mounted over it.
func (t *Tree) Root() Path { return Path{t.root, t.root.Root} }

// Top returns what is mounted over the root directory last.
func (t *Tree) Top() Path { return t.ns.top(t.Root()) }

// Root0 returns the root directory of the tree that m is in, or of the first one.
func (m *Mount) Root0() Path {
	m.ns.mu.RLock()
	t := m.base().tree
	m.ns.mu.RUnlock()
	if t == nil {
		t = m.ns.first
	}
	return t.Root()
}

// Copy makes a tree with a copy of each mount, for owner, and moves the places that at leads to into it: ENOSPC. The copies are peers of shared mounts;
// in another user namespace they are their slaves.
func (t *Tree) Copy(owner *namespace.User, at []*Path) (*Tree, error) {
	ns := t.ns
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if err := ns.room(t.mounts); err != nil {
		return nil, err
	}
	n := &Tree{ns: ns}
	if err := n.Init(namespace.Mount, owner, n.end); err != nil {
		return nil, err
	}
	copies := map[*Mount]*Mount{}
	less := owner != t.Owner()
	n.root = ns.copyAll(t.root, t.root.Root, func(m, c *Mount) {
		copies[m] = c
		c.count(n)
		peer(m, c)
		c.unbindable = m.unbindable
		if less {
			c.lock()
			if c.group != nil {
				c.setGroup(nil)
				c.setMaster(m.group)
			}
		}
	})
	n.root.tree, n.root.locked = n, false
	for _, p := range at {
		if c := copies[p.Mount]; c != nil {
			p.Mount = c
		}
	}
	return n, nil
}

// keepFlags are the flags that a locked mount does not lose; which of the times of access it stamps is one thing.
const (
	keepFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	atimes    = unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME | unix.MS_STRICTATIME
)

// lock makes m what a user namespace cannot undo. ns.mu is held.
func (m *Mount) lock() {
	m.locked = true
	m.keep.Store(m.flags.Load()&keepFlags | lockedAtime)
}

// lockedAtime in Mount.keep says that the flags of access times are locked.
const lockedAtime = 1 << 63

// held reports whether the flags lack what m has to keep.
func (m *Mount) held(flags uint64) bool {
	k := m.keep.Load()
	return k&keepFlags&^flags != 0 || k&lockedAtime != 0 && (defaultAtime(m.Flags())^defaultAtime(flags))&atimes != 0
}

// hides reports whether a locked mount lies on m at or below d: what is under it must not be seen. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) hides(m *Mount, d *Dentry) bool {
	for l := m.lying.first; l != nil; l = l.next {
		if l.m.locked && l.m.point.within(d) {
			return true
		}
	}
	return false
}

// mayMount reports whether the caller may change the mounts of its mount namespace.
func (ctx *Context) mayMount() bool {
	ns := ctx.Root.Mount.ns
	ns.mu.RLock()
	t := ctx.Root.Mount.base().tree
	ns.mu.RUnlock()
	if t == nil {
		t = ns.first
	}
	return ctx.Cred.CapableIn(t.Owner(), unix.CAP_SYS_ADMIN)
}

// MayMount reports whether the caller may change the mounts of its mount namespace.
func MayMount(ctx *Context) bool { return ctx.mayMount() }

// end takes the tree apart.
func (t *Tree) end() {
	ns := t.ns
	ns.mu.Lock()
	t.root.tree = nil
	gone := ns.remove(ns.below(t.root, true))
	ns.mu.Unlock()
	for _, m := range gone {
		m.unused()
	}
}
