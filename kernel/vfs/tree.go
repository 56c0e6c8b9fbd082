package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// A Tree is a mount namespace (mount_namespaces(7)): the mounts that hang from one root. All trees share the lists of their Namespace, its lock and
// the bound on mounts. A tree ends, and its mounts with it, when neither tasks nor files use it any more.
type Tree struct {
	namespace.Head
	ns   *Namespace
	root *Mount
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
	if len(ns.all)+len(ns.below(t.root, true)) > maxMounts {
		return nil, unix.ENOSPC
	}
	n := &Tree{ns: ns}
	if err := n.Init(namespace.Mount, owner, n.end); err != nil {
		return nil, err
	}
	copies := map[*Mount]*Mount{}
	less := owner != t.Owner()
	n.root = ns.copyAll(t.root, t.root.Root, func(m, c *Mount) {
		copies[m] = c
		peer(m, c)
		c.unbindable = m.unbindable
		if less && c.group != nil {
			c.group, c.master = nil, m.group
		}
	})
	n.root.tree = n
	for _, p := range at {
		if c := copies[p.Mount]; c != nil {
			p.Mount = c
		}
	}
	return n, nil
}

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
