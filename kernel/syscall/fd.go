package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/dnotify"
	"gosv/kernel/eventfd"
	"gosv/kernel/pipe"
	"gosv/kernel/socket"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

func fdRows(r *table) {
	aFcntl := choice("cmd", fcntlNames)
	r.set(unix.SYS_CLOSE, call1("close", aFD, sysClose))
	r.set(unix.SYS_CLOSE_RANGE, call3("close_range", aUint, aUint, flags("flags", unix.CLOSE_RANGE_UNSHARE|unix.CLOSE_RANGE_CLOEXEC, closeRangeNames), sysCloseRange))
	r.set(unix.SYS_DUP, call1("dup", aFD, sysDup))
	r.set(unix.SYS_DUP2, call2("dup2", aFD, aFD, sysDup2))
	r.set(unix.SYS_DUP3, call3("dup3", aFD, aFD, flags("flags", unix.O_CLOEXEC, openNames), sysDup3))
	r.set(unix.SYS_FCNTL, call3("fcntl", aFD, aFcntl, aHex, sysFcntl).partly("no leases (F_SETLEASE)"))
	r.set(unix.SYS_FLOCK, call2("flock", aFD, flags("operation", 0xf, lockNames), sysFlock))
	r.set(unix.SYS_PIPE, call1("pipe", out(lPair), func(t *task.Task, to dest[[2]int32]) (uint64, error) { return sysPipe2(t, to, 0) }))
	r.set(unix.SYS_PIPE2, call2("pipe2", out(lPair), flags("flags", unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_DIRECT, pipeNames), sysPipe2))
	r.set(unix.SYS_MEMFD_CREATE, call2("memfd_create", aMemfdName, flags("flags", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_HUGETLB|unix.MFD_HUGE_MASK<<unix.MFD_HUGE_SHIFT, memfdNames), sysMemfdCreate))
	r.set(unix.SYS_EVENTFD, call1("eventfd", aUint, func(t *task.Task, n uint32) (uint64, error) { return sysEventfd2(t, n, 0) }))
	r.set(unix.SYS_EVENTFD2, call2("eventfd2", aUint, flags("flags", unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE, eventfdNames), sysEventfd2))
}

func sysClose(t *task.Task, fd int32) (uint64, error) { return done(t.Files.Close(int(fd))) }

func sysCloseRange(t *task.Task, first, last, how uint32) (uint64, error) {
	if first > last {
		return 0, unix.EINVAL
	}
	if how&unix.CLOSE_RANGE_UNSHARE != 0 {
		if err := t.UnshareFiles(); err != nil {
			return 0, err
		}
	}
	if how&unix.CLOSE_RANGE_CLOEXEC != 0 {
		t.Files.CloexecRange(int(first), int(last))
	} else {
		t.Files.CloseRange(int(first), int(last))
	}
	return 0, nil
}

func sysDup(t *task.Task, fd int32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	return installOld(t, f, 0)
}

func sysDup2(t *task.Task, old, new int32) (uint64, error) {
	if old == new {
		f, err := file(t, old)
		if err != nil {
			return 0, err
		}
		f.DecRef()
		return uint64(new), nil
	}
	return dupTo(t, old, new, 0)
}

func sysDup3(t *task.Task, old, new int32, flags uint32) (uint64, error) {
	if old == new {
		return 0, unix.EINVAL
	}
	return dupTo(t, old, new, int(flags))
}

func dupTo(t *task.Task, old, new int32, flags int) (uint64, error) {
	f, err := file(t, old)
	if err != nil {
		return 0, err
	}
	if err := t.Files.InstallAt(f, int(new), flags, openLimit(t)); err != nil {
		f.DecRef()
		return 0, err
	}
	return uint64(new), nil
}

func sysFcntl(t *task.Task, fd, cmd int32, arg uint64) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	switch cmd {
	case unix.F_DUPFD, unix.F_DUPFD_CLOEXEC:
		how := 0
		if cmd == unix.F_DUPFD_CLOEXEC {
			how = unix.O_CLOEXEC
		}
		f.IncRef()
		n, err := t.Files.Install(f, how, int(int32(arg)), openLimit(t))
		if err != nil {
			f.DecRef()
		}
		return value(n, err)
	case unix.F_GETFD:
		on, err := t.Files.Cloexec(int(fd))
		if on {
			return unix.FD_CLOEXEC, nil
		}
		return 0, err
	case unix.F_SETFD:
		return done(t.Files.SetCloexec(int(fd), arg&unix.FD_CLOEXEC != 0))
	case unix.F_GETFL:
		return uint64(f.Flags()), nil
	}
	if f.PathOnly() {
		return 0, unix.EBADF
	}
	return fcntlFile(t, f, fd, cmd, arg)
}

// fcntlFile is the part of fcntl(2) that concerns the open file description.
func fcntlFile(t *task.Task, f *vfs.File, fd, cmd int32, arg uint64) (uint64, error) {
	switch cmd {
	case unix.F_SETFL:
		if err := f.SetFlags(t.Cred(), int(int32(arg))); err != nil {
			return 0, err
		}
		if f.Stream() {
			setAsync(t, f, fd, arg&unix.O_ASYNC != 0)
		}
		return 0, nil
	case unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
		return recordLock(t, f, cmd, arg)
	case unix.F_GETPIPE_SZ:
		n, err := pipe.Size(f)
		return value(n, err)
	case unix.F_SETPIPE_SZ:
		n, err := pipe.SetSize(f, int(int32(arg)), t.Cred())
		return value(n, err)
	case unix.F_NOTIFY:
		return done(dirNotify(t, f, fd, uint32(arg)))
	case unix.F_ADD_SEALS:
		return done(f.AddSeals(uint32(arg)))
	case unix.F_GET_SEALS:
		seals, err := f.Seals()
		return uint64(seals), err
	}
	return fcntlOwner(t, f, cmd, arg)
}

// dirNotify is F_NOTIFY: the process is the owner of the directory if that has none.
func dirNotify(t *task.Task, f *vfs.File, fd int32, bits uint32) error {
	k, c := t.Kernel(), t.Cred()
	err := dnotify.Watch(f, bits, func(f *vfs.File) {
		k.SendIO(f.Owner(), c, fd, task.PollMsg)
	})
	if o := f.Owner(); err == nil && bits&^dnotify.Multishot != 0 && o.ID == 0 {
		o.Type, o.ID = ownerPID, t.PID()
		f.SetOwner(o)
	}
	return err
}

// Types of F_SETOWN_EX.
const (
	ownerTID = iota
	ownerPID
	ownerPGRP
)

// fcntlOwner is who gets SIGIO.
func fcntlOwner(t *task.Task, f *vfs.File, cmd int32, arg uint64) (uint64, error) {
	o := f.Owner()
	switch cmd {
	case unix.F_GETOWN:
		id := t.Number(o.ID)
		if o.Type == ownerPGRP {
			id = -id
		}
		return uint64(int64(id)), nil
	case unix.F_SETOWN:
		id := int32(arg)
		o.Type, o.ID = ownerPID, id
		if id < 0 {
			if id == -1<<31 {
				return 0, unix.EINVAL
			}
			o.Type, o.ID = ownerPGRP, -id
		}
		o.ID = t.Process().PIDs().Global(o.ID)
	case unix.F_GETOWN_EX:
		return done(lFOwnerEx.store(t, arg, abi.FOwnerEx{Type: o.Type, PID: t.Number(o.ID)}))
	case unix.F_SETOWN_EX:
		ex, err := lFOwnerEx.load(t, arg)
		if err != nil {
			return 0, err
		}
		if ex.Type < ownerTID || ex.Type > ownerPGRP || ex.PID < 0 {
			return 0, unix.EINVAL
		}
		o.Type, o.ID = ex.Type, t.Process().PIDs().Global(ex.PID)
	case unix.F_GETSIG:
		return uint64(o.Signal), nil
	case unix.F_SETSIG:
		if int32(arg) < 0 || int32(arg) > abi.NSIG {
			return 0, unix.EINVAL
		}
		o.Signal = int32(arg)
	case unix.F_GETLEASE:
		return unix.F_UNLCK, nil
	default:
		return 0, unix.EINVAL
	}
	setOwner(t, f, o)
	return 0, nil
}

// setOwner says who gets SIGIO, and of a socket SIGURG.
func setOwner(t *task.Task, f *vfs.File, o vfs.Owner) {
	f.SetOwner(o)
	s, err := socket.Of(f)
	if err != nil {
		return
	}
	k, c := t.Kernel(), t.Cred()
	s.OnUrgent(func() { k.SendUrgent(f.Owner(), c) })
}

// recordLock is the POSIX and OFD locks of fcntl(2).
func recordLock(t *task.Task, f *vfs.File, cmd int32, addr uint64) (uint64, error) {
	l, err := lFlock.load(t, addr)
	if err != nil {
		return 0, err
	}
	var owner any = t.Files
	if cmd == unix.F_OFD_GETLK || cmd == unix.F_OFD_SETLK || cmd == unix.F_OFD_SETLKW {
		if l.Pid != 0 {
			return 0, unix.EINVAL
		}
		owner = nil
	}
	switch cmd {
	case unix.F_GETLK, unix.F_OFD_GETLK:
		if err := f.GetLock(owner, &l); err != nil {
			return 0, err
		}
		if l.Type != unix.F_UNLCK && l.Pid > 0 {
			l.Pid = t.Number(l.Pid)
		}
		return done(lFlock.store(t, addr, l))
	case unix.F_SETLK, unix.F_OFD_SETLK:
		return done(f.SetLock(owner, t.PID(), &l))
	}
	return done(waitLock(t, f, func() error { return f.SetLock(owner, t.PID(), &l) }))
}

// waitLock waits until try does not say EAGAIN.
func waitLock(t *task.Task, f *vfs.File, try func() error) error {
	err := try()
	if err != unix.EAGAIN {
		return err
	}
	e := &wait.Entry{Waiter: t, Events: unix.POLLOUT}
	f.RegisterLock(e)
	defer f.UnregisterLock(e)
	for {
		if err := try(); err != unix.EAGAIN {
			return err
		}
		if err := t.Block(0); err != nil {
			return err
		}
	}
}

func sysFlock(t *task.Task, fd int32, op uint32) (uint64, error) {
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	how := int(op &^ unix.LOCK_NB)
	if how != unix.LOCK_SH && how != unix.LOCK_EX && how != unix.LOCK_UN {
		return 0, unix.EINVAL
	}
	if op&unix.LOCK_NB != 0 {
		return done(f.Flock(how))
	}
	return done(waitLock(t, f, func() error { return f.Flock(how) }))
}

func sysPipe2(t *task.Task, to dest[[2]int32], flags uint32) (uint64, error) {
	r, w, err := pipe.New(t.Kernel().Namespace, t.Cred(), int(flags))
	if err != nil {
		return 0, err
	}
	if err := vfs.RoomForFiles(0); err != nil {
		r.DecRef()
		w.DecRef()
		return 0, err
	}
	limit := openLimit(t)
	fr, err := t.Files.Install(r, int(flags), 0, limit)
	if err != nil {
		r.DecRef()
		w.DecRef()
		return 0, err
	}
	fw, err := t.Files.Install(w, int(flags), 0, limit)
	if err != nil {
		t.Files.Close(fr)
		w.DecRef()
		return 0, err
	}
	if err := to.put(t, [2]int32{int32(fr), int32(fw)}); err != nil {
		t.Files.Close(fr)
		t.Files.Close(fw)
		return 0, err
	}
	return 0, nil
}

func sysEventfd2(t *task.Task, n, flags uint32) (uint64, error) {
	f := eventfd.New(t.Kernel().Namespace, t.Cred(), uint64(n), int(flags))
	return install(t, f, int(flags))
}

func sysIoctl(t *task.Task, fd int32, request uint32, arg uint64) (uint64, error) {
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	switch request {
	case abi.FIOCLEX, abi.FIONCLEX:
		return done(t.Files.SetCloexec(int(fd), request == abi.FIOCLEX))
	case abi.FIONBIO:
		on, err := lInt32.load(t, arg)
		if err != nil {
			return 0, err
		}
		f.SetNonblock(on != 0)
		return 0, nil
	case abi.FIOASYNC:
		on, err := lInt32.load(t, arg)
		if err == nil && !f.Stream() {
			err = unix.ENOTTY
		}
		if err != nil {
			return 0, err
		}
		flags := f.Flags() &^ unix.O_ASYNC
		if on != 0 {
			flags |= unix.O_ASYNC
		}
		if err := f.SetFlags(t.Cred(), flags); err != nil {
			return 0, err
		}
		setAsync(t, f, fd, on != 0)
		return 0, nil
	case unix.SIOCSPGRP, fiosetown, unix.SIOCGPGRP, fiogetown:
		if _, err := socket.Of(f); err == nil {
			return socketOwner(t, f, request, arg)
		}
	}
	return f.Ioctl(&vfs.IoctlArgs{Cmd: request, Arg: arg, Mem: t.Mem(), Ctx: view(t), Task: t})
}

// Requests of sockets that say who gets SIGIO and SIGURG (socket(7)).
const (
	fiosetown = 0x8901 // FIOSETOWN
	fiogetown = 0x8903 // FIOGETOWN
)

// socketOwner is F_SETOWN and F_GETOWN as sockets have them too.
func socketOwner(t *task.Task, f *vfs.File, request uint32, arg uint64) (uint64, error) {
	if request == unix.SIOCGPGRP || request == fiogetown {
		id, err := fcntlOwner(t, f, unix.F_GETOWN, 0)
		if err != nil {
			return 0, err
		}
		return done(lInt32.store(t, arg, int32(id)))
	}
	id, err := lInt32.load(t, arg)
	if err != nil {
		return 0, err
	}
	return fcntlOwner(t, f, unix.F_SETOWN, uint64(id))
}

// asyncEvents are those that O_ASYNC tells of. Room for writes is none of them, as most files have it most of the time.
const asyncEvents = wait.Mask(unix.POLLIN | abi.POLLRDNORM | unix.POLLPRI | unix.POLLERR | unix.POLLHUP | unix.POLLRDHUP)

// setAsync begins or ends sending SIGIO to the owner of a file.
func setAsync(t *task.Task, f *vfs.File, fd int32, on bool) {
	if !on {
		f.SetAsync(0, nil)
		return
	}
	k, c := t.Kernel(), t.Cred()
	f.SetAsync(asyncEvents, func(f *vfs.File, events wait.Mask) {
		if o := f.Owner(); o.ID != 0 {
			k.SendIO(o, c, fd, events)
		}
	})
}

// aMemfdName is the name of a memfd: EINVAL when it is too long.
var aMemfdName = newKind(func(t *task.Task, addr uint64) (string, error) {
	s, err := readString(t, addr, vfs.MemfdNameMax+1)
	if err == errTooLong {
		err = unix.EINVAL
	}
	return s, err
}, &formatter{name: "name", in: showString})

func sysMemfdCreate(t *task.Task, name string, flags uint32) (uint64, error) {
	f, err := vfs.NewMemfd(t.Kernel().Namespace, t.Cred(), name, int(flags))
	if err != nil {
		return 0, err
	}
	how := 0
	if flags&unix.MFD_CLOEXEC != 0 {
		how = unix.O_CLOEXEC
	}
	return install(t, f, how)
}
