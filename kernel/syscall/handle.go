package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/inotify"
	"gosv/kernel/signal"
	"gosv/kernel/task"
	"gosv/kernel/timerfd"
	"gosv/kernel/vfs"
)

// handleRows are the calls that make descriptors of processes, signals, timers and watches.
func handleRows(r *table) {
	r.set(unix.SYS_TIMERFD_CREATE, call2("timerfd_create", choice("clock", clockNames), flags("flags", unix.TFD_CLOEXEC|unix.TFD_NONBLOCK, timerfdNames),
		func(t *task.Task, id int32, flags uint32) (uint64, error) {
			f, err := timerfd.New(t.Kernel().Clock, t.Cred(), id, int(flags))
			if err != nil {
				return 0, err
			}
			return install(t, f, int(flags))
		}))
	r.set(unix.SYS_TIMERFD_SETTIME, call4("timerfd_settime", aFD, flags("flags", unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, timerfdSet), in(lItimerspec), out(lItimerspec), sysTimerfdSettime))
	r.set(unix.SYS_TIMERFD_GETTIME, call2("timerfd_gettime", aFD, out(lItimerspec), sysTimerfdGettime))

	r.set(unix.SYS_SIGNALFD, call3("signalfd", aFD, in(lSigset), aSize, func(t *task.Task, fd int32, mask, size uint64) (uint64, error) {
		return sysSignalfd4(t, fd, mask, size, 0)
	}))
	r.set(unix.SYS_SIGNALFD4, call4("signalfd4", aFD, in(lSigset), aSize, flags("flags", unix.SFD_CLOEXEC|unix.SFD_NONBLOCK, signalfdNames), sysSignalfd4))

	r.set(unix.SYS_PIDFD_OPEN, call2("pidfd_open", aPID, flags("flags", unix.PIDFD_NONBLOCK, pidfdNames), sysPidfdOpen))
	r.set(unix.SYS_PIDFD_SEND_SIGNAL, call4("pidfd_send_signal", aFD, aSignal, inOpt(lSigInfo), flags("flags", 0, nil), sysPidfdSendSignal))
	r.set(unix.SYS_INOTIFY_INIT, call0("inotify_init", func(t *task.Task) (uint64, error) { return sysInotifyInit1(t, 0) }))
	r.set(unix.SYS_INOTIFY_INIT1, call1("inotify_init1", flags("flags", unix.IN_CLOEXEC|unix.IN_NONBLOCK, inotifyNames), sysInotifyInit1))
	r.set(unix.SYS_INOTIFY_ADD_WATCH, call3("inotify_add_watch", aFD, aPath, aUint.as(flags("events", 1<<32-1, inotifyEvents).formatter), sysInotifyAddWatch))
	r.set(unix.SYS_INOTIFY_RM_WATCH, call2("inotify_rm_watch", aFD, aInt, func(t *task.Task, fd, wd int32) (uint64, error) {
		f, err := file(t, fd)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		return done(inotify.RemoveWatch(f, wd))
	}))

	r.set(unix.SYS_PIDFD_GETFD, call3("pidfd_getfd", aFD, aFD, flags("flags", 0, nil), sysPidfdGetfd))
}

func sysInotifyInit1(t *task.Task, flags uint32) (uint64, error) {
	return install(t, inotify.New(t.Cred(), int(flags)), int(flags))
}

func sysInotifyAddWatch(t *task.Task, fd int32, path string, mask uint32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return value(inotify.AddWatch(f, view(t), path, mask))
}

func sysTimerfdSettime(t *task.Task, fd int32, flags uint32, set abi.Itimerspec, old dest[abi.Itimerspec]) (uint64, error) {
	if !abi.ValidTimespec(set.Value) || !abi.ValidTimespec(set.Interval) {
		return 0, unix.EINVAL
	}
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	clock, err := timerfd.ClockOf(f)
	if err != nil {
		return 0, err
	}
	when := abi.TimespecToNsec(set.Value)
	if when != 0 && flags&unix.TFD_TIMER_ABSTIME != 0 {
		when = t.MachineTime(clock, when)
	}
	v, i, err := timerfd.Set(f, when, abi.TimespecToNsec(set.Interval), int(flags))
	if err != nil {
		return 0, err
	}
	return done(old.putOpt(t, itimerspec(v, i)))
}

func sysTimerfdGettime(t *task.Task, fd int32, to dest[abi.Itimerspec]) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	v, i, err := timerfd.Get(f)
	if err != nil {
		return 0, err
	}
	return done(to.put(t, itimerspec(v, i)))
}

func sysSignalfd4(t *task.Task, fd int32, mask, size uint64, flags uint32) (uint64, error) {
	if size != abi.SigSetSize {
		return 0, unix.EINVAL
	}
	if fd == -1 {
		return install(t, t.NewSignalfd(signal.Set(mask), int(flags)), int(flags))
	}
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return uint64(fd), task.SetSignalfd(f, signal.Set(mask))
}

func sysPidfdOpen(t *task.Task, pid int32, flags uint32) (uint64, error) {
	if pid <= 0 {
		return 0, unix.EINVAL
	}
	p := t.Kernel().Process(pid)
	switch {
	case p != nil:
		return install(t, p.NewPidfd(t, int(flags)), unix.O_CLOEXEC)
	case t.Kernel().Task(pid) != nil:
		return 0, unix.EINVAL // a thread that leads no group
	}
	return 0, unix.ESRCH
}

// pidfd returns the process that a descriptor stands for: EBADF. nonblock is its PIDFD_NONBLOCK.
func pidfd(t *task.Task, fd int32) (p *task.Process, nonblock bool, err error) {
	f, err := file(t, fd)
	if err != nil {
		return nil, false, err
	}
	defer f.DecRef()
	if p = task.PidfdProcess(f); p == nil {
		return nil, false, unix.EBADF
	}
	return p, f.Nonblock(), nil
}

// signalled returns the process that pidfd_send_signal(2) is about: a directory of /proc stands for one too. EBADF, ESRCH.
func signalled(t *task.Task, fd int32) (*task.Process, error) {
	f, err := file(t, fd)
	if err != nil {
		return nil, err
	}
	defer f.DecRef()
	if p := task.PidfdProcess(f); p != nil {
		return p, nil
	}
	dir, ok := f.Inode().Ops().(interface{ Process() (*task.Process, bool) })
	if !ok {
		return nil, unix.EBADF
	}
	switch p, ok := dir.Process(); {
	case !ok:
		return nil, unix.EBADF
	case p == nil:
		return nil, unix.ESRCH
	default:
		return p, nil
	}
}

func sysPidfdSendSignal(t *task.Task, fd int32, sig unix.Signal, info opt[abi.SigInfo], _ uint32) (uint64, error) {
	p, err := signalled(t, fd)
	if err != nil {
		return 0, err
	}
	var i *signal.Info
	if info.ok {
		if info.v.Signo() != sig {
			return 0, unix.EINVAL
		}
		i = &info.v
	}
	return done(t.KillProcess(p, sig, i))
}

func sysPidfdGetfd(t *task.Task, fd, target int32, _ uint32) (uint64, error) {
	p, _, err := pidfd(t, fd)
	if err != nil {
		return 0, err
	}
	if err := t.MayAccess(p); err != nil {
		return 0, err
	}
	files := p.Files()
	if files == nil {
		return 0, unix.ESRCH
	}
	f, err := files.Get(int(target))
	if err != nil {
		return 0, err
	}
	return installOld(t, f, unix.O_CLOEXEC)
}

// cloneWithPidfd is task.Clone with CLONE_PIDFD: the descriptor goes to the user address at.
func cloneWithPidfd(t *task.Task, a *task.CloneArgs, at uint64) (uint64, error) {
	a.Pidfd = func(p *task.Process) error {
		if err := vfs.RoomForFiles(1); err != nil {
			return err
		}
		f := p.NewPidfd(t, 0)
		fd, err := t.Files.Install(f, unix.O_CLOEXEC, 0, openLimit(t))
		if err != nil {
			f.DecRef()
			return err
		}
		if err = lInt32.store(t, at, int32(fd)); err != nil {
			t.Files.Close(fd)
		}
		return err
	}
	return value(t.Clone(a))
}
