package vfs

import (
	"slices"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// Propagation of mounts (mount_namespaces(7), Linux's Documentation/filesystems/sharedsubtree.rst): what is mounted on a shared mount is
// mounted on its peers and on their slaves too, and goes there when it goes. Peers come from bind mounts, and from copies of a tree (Tree.Copy).

// peers is a group of shared mounts.
type peers struct{ id uint64 }

// propagate changes how m propagates: MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) propagate(m *Mount, how uint64) {
	if how == unix.MS_SHARED {
		m.unbindable = false
		ns.share(m)
		return
	}
	if g := m.group; g != nil {
		m.group = nil
		if slices.ContainsFunc(ns.all, func(o *Mount) bool { return o.group == g }) {
			m.master = g
		} else { // the last one: its slaves are those of its master
			for _, o := range ns.all {
				if o.master == g {
					o.master = m.master
				}
			}
		}
	}
	if how != unix.MS_SLAVE {
		m.master, m.unbindable = nil, how == unix.MS_UNBINDABLE
	}
}

// share puts m into a group, of its own if it has none. ns.mu is held.
func (ns *Namespace) share(m *Mount) {
	if m.group == nil {
		ns.lastGroup++
		m.group = &peers{ns.lastGroup}
	}
}

// A target is a mount that gets what is mounted on another.
type target struct {
	m      *Mount
	source int  // the target whose copy is copied, -1: what was mounted itself
	slave  bool // the copy is a slave of its source, else its peer
}

// targets lists where what is mounted on p at point is to show too, but for the mounts in skip. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) targets(p *Mount, point *Dentry, skip []*Mount) (list []target) {
	if p.group == nil {
		return nil
	}
	seen := map[*peers]bool{p.group: true}
	add := func(m *Mount, source int, slave bool) int {
		known := slices.ContainsFunc(list, func(t target) bool { return t.m == m })
		if known || m == p || m.FS != p.FS || !point.within(m.Root) || slices.Contains(skip, m) {
			return -1
		}
		list = append(list, target{m, source, slave})
		return len(list) - 1
	}
	var group func(g *peers, source int)
	group = func(g *peers, source int) {
		for _, m := range ns.all {
			if m.group == g {
				add(m, source, false)
			}
		}
		for _, m := range ns.all {
			if m.master != g || m.group == g {
				continue
			}
			if i := add(m, source, true); i >= 0 && m.group != nil && !seen[m.group] {
				seen[m.group] = true
				group(m.group, i)
			}
		}
	}
	group(p.group, -1)
	return list
}

// copyTree copies m from root on, and with recursive what lies on it, but for unbindable mounts, to nowhere; how is told of each mount and its
// copy. There must be room for all of it. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) copyTree(m *Mount, root *Dentry, recursive bool, how func(m, c *Mount)) *Mount {
	c := ns.copyThose(m, root, how, func(m *Mount) bool { return recursive && !m.unbindable })
	c.locked = false
	return c
}

// copyAll is copyTree with all that lies on m.
func (ns *Namespace) copyAll(m *Mount, root *Dentry, how func(m, c *Mount)) *Mount {
	return ns.copyThose(m, root, how, func(*Mount) bool { return true })
}

func (ns *Namespace) copyThose(m *Mount, root *Dentry, how func(m, c *Mount), which func(m *Mount) bool) *Mount {
	c := ns.newMount(m.FS, root, m.Source, m.Flags())
	c.locked = m.locked && root == m.Root
	c.keep.Store(m.keep.Load())
	n := len(ns.all)
	ns.all = append(ns.all, c)
	how(m, c)
	for i := 0; i < n; i++ {
		below := ns.all[i]
		if below.parent != m || !which(below) || !below.point.within(root) {
			continue
		}
		below.point.mounts.Add(1)
		ns.put(ns.copyThose(below, below.Root, how, which), Path{c, below.point})
	}
	return c
}

// peer makes c, a copy of m, a peer of it, and a slave of its master.
func peer(m, c *Mount) { c.group, c.master = m.group, m.master }

// place gives the tree of m, which lies nowhere, a place, and copies of it to those that are told of that: ENOENT, EINVAL, ENOSPC.
// ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) place(m *Mount, at Path) error {
	at = ns.topLocked(at)
	if d := ns.anchor(at.Dentry); d != at.Dentry {
		at = ns.topLocked(Path{at.Mount, d})
	}
	tree := ns.below(m, true)
	list := ns.targets(at.Mount, at.Dentry, tree)
	shared := at.Mount.group != nil
	if len(ns.all)+len(list)*len(tree) > maxMounts {
		return unix.ENOSPC
	}
	for _, o := range tree {
		if shared && o.unbindable {
			return unix.EINVAL
		}
	}
	if err := at.Dentry.pin(); err != nil {
		return err
	}
	ns.put(m, at)
	for _, o := range tree {
		if shared {
			ns.share(o)
		}
	}
	copies := make([]*Mount, len(list))
	for i, t := range list {
		from := m
		if t.source >= 0 {
			from = copies[t.source]
		}
		how := peer
		if t.slave {
			how = func(m, c *Mount) {
				c.master = m.group
				if t.m.group != nil {
					ns.share(c)
				}
			}
		}
		copies[i] = ns.copyTree(from, from.Root, true, how)
		if to := t.m.base().tree; to != nil && to.Owner() != ownerOf(at.Mount) {
			for _, c := range ns.below(copies[i], true) {
				c.lock()
			}
		}
		ns.slide(copies[i], Path{t.m, at.Dentry})
	}
	return nil
}

// ownerOf returns the user namespace that the tree of m belongs to. ns.mu is held.
func ownerOf(m *Mount) *namespace.User {
	if t := m.base().tree; t != nil {
		return t.Owner()
	}
	return nil
}

// slide puts m under what is mounted at a place, if anything is. The place is one that has a mount, so it needs no pin. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) slide(m *Mount, at Path) {
	over := ns.mounts[at]
	if over != nil {
		ns.take(over)
	}
	at.Dentry.mounts.Add(1)
	ns.put(m, at)
	if over != nil {
		m.Root.mounts.Add(1)
		ns.put(over, Path{m, m.Root})
	}
}

// followers returns the mounts that go with m, as they came with it. ns.mu is held.
//
// +checklocks:ns.mu
func (ns *Namespace) followers(m *Mount) (list []*Mount) {
	if m.parent == nil {
		return nil
	}
	for _, t := range ns.targets(m.parent, m.point, nil) {
		if c := ns.mounts[Path{t.m, m.point}]; c != nil && c.Root == m.Root {
			list = append(list, c)
		}
	}
	return list
}
