package vfs

import "golang.org/x/sys/unix"

// A Hollow is the InodeOps of a file system that has directories which are empty for good: places for mounts, that hide nothing.
type Hollow interface {
	IsHollow(i *Inode) bool
}

// mayReveal refuses a mount of a file system that tells of the kernel (FS.Revealing) to a user namespace that sees another instance only in part,
// or with less rights, since mounts that it cannot take away lie on that (mount_namespaces(7); Linux's mount_too_revealing): EPERM.
func (ns *Namespace) mayReveal(ctx *Context, fs *FS, flags uint64) error {
	if !fs.Revealing {
		return nil
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	t := ctx.Root.Mount.base().tree
	if t == nil || t.Owner().IsFirst() {
		return nil
	}
	for _, m := range ns.all {
		if m.FS.Type == fs.Type && m.Root == m.FS.root && m.in == t && !m.limits(flags) && !ns.masked(m) {
			return nil
		}
	}
	return unix.EPERM
}

// limits reports whether m is read-only, or stamps times of access, for good, and flags do otherwise.
func (m *Mount) limits(flags uint64) bool {
	k := m.keep.Load()
	return k&unix.MS_RDONLY&^flags != 0 || k&lockedAtime != 0 && (defaultAtime(m.Flags())^defaultAtime(flags))&atimes != 0
}

// masked reports whether mounts that stay hide something of m. ns.mu is held.
func (ns *Namespace) masked(m *Mount) bool {
	for l := m.lying.first; l != nil; l = l.next {
		c := l.m
		if !c.locked {
			continue
		}
		if h, ok := c.point.inode.ops.(Hollow); !ok || !h.IsHollow(c.point.inode) {
			return true
		}
	}
	return false
}
