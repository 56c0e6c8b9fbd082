package vfs

import (
	"golang.org/x/sys/unix"
)

// Propagation of mounts (mount_namespaces(7), Linux's Documentation/filesystems/sharedsubtree.rst): what is mounted on a shared mount is
// mounted on its peers and on their slaves too, and goes there when it goes. Peers come from bind mounts, and from copies of a tree (Tree.Copy).

// peers is a group of shared mounts.
type peers struct {
	id              uint64
	members, slaves ring
}

// setGroup makes m a member of g alone; nil: of none. Namespace.mu is held.
func (m *Mount) setGroup(g *peers) {
	if m.group != nil {
		m.group.members.remove(&m.peer)
	}
	if m.group = g; g != nil {
		g.members.add(&m.peer)
	}
}

// setMaster makes m a slave of g alone; nil: of none. Namespace.mu is held.
func (m *Mount) setMaster(g *peers) {
	if m.master != nil {
		m.master.slaves.remove(&m.slave)
	}
	if m.master = g; g != nil {
		g.slaves.add(&m.slave)
	}
}

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
		m.setGroup(nil)
		if g.members.first != nil {
			m.setMaster(g)
		} else { // the last one: its slaves are those of its master
			for m.master != g && g.slaves.first != nil {
				g.slaves.first.m.setMaster(m.master)
			}
		}
	}
	if how != unix.MS_SLAVE {
		m.setMaster(nil)
		m.unbindable = how == unix.MS_UNBINDABLE
	}
}

// share puts m into a group, of its own if it has none. ns.mu is held.
func (ns *Namespace) share(m *Mount) {
	if m.group == nil {
		ns.lastGroup++
		m.setGroup(&peers{id: ns.lastGroup})
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
	seen, known := map[*peers]bool{p.group: true}, map[*Mount]bool{p: true}
	for _, m := range skip {
		known[m] = true
	}
	add := func(m *Mount, source int, slave bool) int {
		if known[m] || m.FS != p.FS || !point.within(m.Root) {
			return -1
		}
		known[m] = true
		list = append(list, target{m, source, slave})
		return len(list) - 1
	}
	var group func(g *peers, source int)
	group = func(g *peers, source int) {
		for l := g.members.first; l != nil; l = l.next {
			add(l.m, source, false)
		}
		for l := g.slaves.first; l != nil; l = l.next {
			m := l.m
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

// copyThose goes from m down, and with the copies in step: the mounts may lie on each other many thousands high.
func (ns *Namespace) copyThose(m *Mount, root *Dentry, how func(m, c *Mount), which func(m *Mount) bool) *Mount {
	c := ns.copyOne(m, root, how)
	top, from, next := c, m, m.lying.first
	for {
		for next == nil {
			if from == m {
				return top
			}
			next, from, c = from.sibling.next, from.parent, c.parent
		}
		below := next.m
		if !which(below) || !below.point.within(c.Root) {
			next = next.next
			continue
		}
		below.point.mounts.Add(1)
		d := ns.copyOne(below, below.Root, how)
		ns.put(d, Path{c, below.point})
		from, c, next = below, d, below.lying.first
	}
}

func (ns *Namespace) copyOne(m *Mount, root *Dentry, how func(m, c *Mount)) *Mount {
	c := ns.newMount(m.FS, root, m.Source, m.flags.Load())
	c.locked = m.locked && root == m.Root
	c.keep.Store(m.keep.Load())
	ns.all = append(ns.all, c)
	how(m, c)
	return c
}

// peer makes c, a copy of m, a peer of it, and a slave of its master.
func peer(m, c *Mount) {
	c.setGroup(m.group)
	c.setMaster(m.master)
}

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
	to := at.Mount.in
	if to == nil {
		return unix.EINVAL // it was taken away just now
	}
	for _, o := range tree {
		if shared && o.unbindable {
			return unix.EINVAL
		}
	}
	if err := ns.fits(tree, to, list); err != nil {
		return err
	}
	if err := at.Dentry.pin(); err != nil {
		return err
	}
	ns.put(m, at)
	for _, o := range tree {
		o.count(to)
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
				c.setMaster(m.group)
				if t.m.group != nil {
					ns.share(c)
				}
			}
		}
		copies[i] = ns.copyTree(from, from.Root, true, how)
		for _, c := range ns.below(copies[i], true) {
			if c.count(t.m.in); t.m.in != nil && t.m.in.Owner() != to.Owner() {
				c.lock()
			}
		}
		ns.slide(copies[i], Path{t.m, at.Dentry})
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
