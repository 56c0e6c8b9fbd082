package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
	"gosv/kernel/nsfs"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// sysSetns is setns(2): fd is a file of nsfs, or a process of whose namespaces flags choose.
func sysSetns(t *task.Task, fd int32, flags uint32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if o, ok := nsfs.Of(f); ok {
		if flags != 0 && uint64(flags) != o.NS().Kind().Flag() {
			return 0, unix.EINVAL
		}
		return done(t.SetNS([]namespace.Object{o}))
	}
	p := task.PidfdProcess(f)
	if p == nil || flags == 0 || uint64(flags)&^namespace.AllFlags != 0 {
		return 0, unix.EINVAL
	}
	return done(setnsOf(t, p, uint64(flags)))
}

// setnsOf enters namespaces of a process: ESRCH when it has ended, EPERM when t may not trace it.
func setnsOf(t *task.Task, p *task.Process, flags uint64) error {
	if p.Zombie() {
		return unix.ESRCH
	}
	if err := t.MayAccess(p); err != nil {
		return err
	}
	var list []namespace.Object
	defer func() {
		for _, o := range list {
			o.NS().Put()
		}
	}()
	for k := range namespace.Kinds {
		if flags&k.Flag() == 0 {
			continue
		}
		o := p.Leader().NamespaceOf(k, false)
		switch {
		case o == nil && p.Zombie():
			return unix.ESRCH
		case o == nil:
			return unix.EINVAL
		case !o.NS().Get():
			return unix.ESRCH
		}
		list = append(list, o)
	}
	return t.SetNS(list)
}

// InstallNS gives a task a descriptor of a file: for nsfs.FS.Install.
func InstallNS(caller any, f *vfs.File) (uint64, error) {
	t, ok := caller.(*task.Task)
	if !ok {
		f.DecRef()
		return 0, unix.EINVAL
	}
	return install(t, f, unix.O_CLOEXEC)
}
