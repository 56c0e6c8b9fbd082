package task

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/namespace"
	"gosv/kernel/vfs"
)

// Unshare is unshare(2): EINVAL, EPERM, ENOSPC, ENOMEM.
func (t *Task) Unshare(flags uint64) error {
	const known = unix.CLONE_FILES | unix.CLONE_FS | unix.CLONE_SYSVSEM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM | namespace.AllFlags
	if flags&^known != 0 {
		return unix.EINVAL
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		flags |= unix.CLONE_THREAD | unix.CLONE_FS
	}
	if flags&unix.CLONE_NEWNS != 0 {
		flags |= unix.CLONE_FS
	}
	if flags&(unix.CLONE_THREAD|unix.CLONE_SIGHAND|unix.CLONE_VM) != 0 && len(t.proc.Threads()) > 1 {
		return unix.EINVAL
	}
	c := t.Cred()
	if flags&unix.CLONE_NEWUSER != 0 {
		var err error
		if c, err = t.newUser(c); err != nil {
			return err
		}
	}
	if flags&namespace.AllFlags&^unix.CLONE_NEWUSER != 0 {
		if !c.CapableIn(c.User, unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		if flags&unix.CLONE_FS != 0 {
			t.UnshareFS()
		}
		n, err := t.makeNamespaces(flags, c.User, t.FS)
		if err != nil {
			return err
		}
		t.setNamespaces(n)
	}
	if flags&unix.CLONE_FS != 0 {
		t.UnshareFS()
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		t.cred.Store(c)
	}
	if flags&unix.CLONE_FILES != 0 {
		return t.UnshareFiles()
	}
	return nil
}

// newUser makes a user namespace, and returns t's credentials in it: EPERM, ENOSPC.
func (t *Task) newUser(c *cred.Cred) (*cred.Cred, error) {
	if t.FS.Root() != t.ns.List[namespace.Mount].(*vfs.Tree).Top() {
		return nil, unix.EPERM // chroot(2) would be left by the capabilities there
	}
	return c.EnterNewUser()
}

// SetNS is setns(2) with the namespaces that list has: EINVAL, EPERM.
func (t *Task) SetNS(list []namespace.Object) error {
	c := t.Cred()
	var change [namespace.Kinds]namespace.Object
	for _, o := range list {
		if u, ok := o.(*namespace.User); ok {
			var err error
			if c, err = t.enterUser(c, u); err != nil {
				return err
			}
		}
	}
	var tree *vfs.Tree
	for _, o := range list {
		h := o.NS()
		if h.Kind() == namespace.Users {
			continue
		}
		if err := t.mayEnter(c, o); err != nil {
			return err
		}
		if m, ok := o.(*vfs.Tree); ok {
			tree = m
		}
		change[h.Kind()] = o
	}
	for _, o := range change {
		if o != nil {
			o.NS().Hold()
		}
	}
	n := t.ns.with(change)
	if change[namespace.Time] != nil {
		n.enterTime()
		if err := t.k.showClocks(t.mem.AddressSpace, n.time != nil); err != nil {
			n.drop()
			return err
		}
	}
	t.setNamespaces(n)
	if tree != nil {
		top := tree.Top()
		t.FS.SetRoot(top)
		t.FS.SetCwd(top)
	}
	if old := t.Cred(); c != old {
		t.cred.Store(c)
		if maker, _ := c.User.Creator(); maker != old.EUID {
			t.proc.setDumpable(false)
		}
	}
	return nil
}

// enterUser returns t's credentials in another user namespace: EINVAL, EPERM.
func (t *Task) enterUser(c *cred.Cred, u *namespace.User) (*cred.Cred, error) {
	u = u.Canonical()
	if u == c.User || len(t.proc.Threads()) > 1 || t.FS.users.Load() != 1 {
		return nil, unix.EINVAL
	}
	if !c.CapableIn(u, unix.CAP_SYS_ADMIN) {
		return nil, unix.EPERM
	}
	return c.InUser(u), nil
}

// mayEnter checks whether t, with the credentials c, may enter a namespace.
func (t *Task) mayEnter(c *cred.Cred, o namespace.Object) error {
	h := o.NS()
	if h.Kind() == namespace.Time && len(t.proc.Threads()) > 1 {
		return unix.EUSERS
	}
	if !c.CapableIn(h.Owner(), unix.CAP_SYS_ADMIN) || !c.CapableIn(c.User, unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	switch h.Kind() {
	case namespace.Mount:
		if !c.CapableIn(c.User, unix.CAP_SYS_CHROOT) {
			return unix.EPERM
		}
		if t.FS.users.Load() != 1 {
			return unix.EINVAL
		}
	case namespace.PID:
		if !o.(*PIDNamespace).Within(t.proc.pids) {
			return unix.EINVAL
		}
	}
	return nil
}
