package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/epoll"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

func epollRows(r *table) {
	r.set(unix.SYS_EPOLL_CREATE, call1("epoll_create", aInt, func(t *task.Task, size int32) (uint64, error) {
		if size <= 0 {
			return 0, unix.EINVAL
		}
		return sysEpollCreate1(t, 0)
	}))
	r.set(unix.SYS_EPOLL_CREATE1, call1("epoll_create1", flags("flags", unix.EPOLL_CLOEXEC, epollCreate), sysEpollCreate1))
	r.set(unix.SYS_EPOLL_CTL, call4("epoll_ctl", aFD, choice("op", epollOps), aFD, aUlong.as(in(lEpollEvent).formatter), sysEpollCtl))
	r.set(unix.SYS_EPOLL_WAIT, call4("epoll_wait", aFD, aAddr, aInt, aInt,
		func(t *task.Task, _ int32, _ uint64, _, _ int32) (uint64, error) { return hotEpollWait(t) }))
	r.set(unix.SYS_EPOLL_PWAIT, call6("epoll_pwait", aFD, aAddr, aInt, aInt, inOpt(lSigset), aSize,
		func(t *task.Task, fd int32, addr uint64, most, ms int32, mask opt[uint64], size uint64) (uint64, error) {
			return epollPwait(t, fd, addr, most, milliseconds(t, ms), mask, size)
		}))
	r.set(unix.SYS_EPOLL_PWAIT2, call6("epoll_pwait2", aFD, aAddr, aInt, inOpt(lTimespec), inOpt(lSigset), aSize,
		func(t *task.Task, fd int32, addr uint64, most int32, timeout opt[unix.Timespec], mask opt[uint64], size uint64) (uint64, error) {
			deadline, _, err := deadlineOf(t, timeout)
			if err != nil {
				return 0, err
			}
			return epollPwait(t, fd, addr, most, deadline, mask, size)
		}))
}

// milliseconds turns a timeout of poll and epoll into a deadline; 0, none, when it is negative.
func milliseconds(t *task.Task, ms int32) int64 {
	if ms < 0 {
		return 0
	}
	return t.Kernel().Clock.After(int64(ms) * 1e6)
}

func sysEpollCreate1(t *task.Task, flags uint32) (uint64, error) {
	return install(t, epoll.New(t.Kernel().Namespace, t.Cred()), int(flags))
}

func sysEpollCtl(t *task.Task, epfd, op, fd int32, addr uint64) (uint64, error) {
	var ev abi.EpollEvent
	if op != unix.EPOLL_CTL_DEL {
		var err error
		if ev, err = lEpollEvent.load(t, addr); err != nil {
			return 0, err
		}
	}
	ep, err := file(t, epfd)
	if err != nil {
		return 0, err
	}
	defer ep.DecRef()
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return done(epoll.Ctl(ep, int(op), int(fd), f, ev))
}

// epollMost is EP_MAX_EVENTS.
const epollMost = (1<<31 - 1) / abi.SizeofEpollEvent

func epollPwait(t *task.Task, fd int32, addr uint64, most int32, deadline int64, mask opt[uint64], size uint64) (uint64, error) {
	if !mask.ok {
		return epollWait(t, fd, addr, most, deadline)
	}
	if size != abi.SigSetSize {
		return 0, unix.EINVAL
	}
	return masked(t, mask, func() (uint64, error) { return epollWait(t, fd, addr, most, deadline) })
}

// hotEpollWait is epoll_wait(2). The time limit matters only when nothing is ready.
func hotEpollWait(t *task.Task) (uint64, error) {
	most := int32(t.Ctx.RDX)
	if most <= 0 || most > epollMost {
		return 0, unix.EINVAL
	}
	ep := t.Files.Lookup(int(int32(t.Ctx.RDI)))
	if ep == nil {
		return 0, unix.EBADF
	}
	n, err := oneEvent(t, ep, t.Ctx.RSI)
	if n == 0 && err == nil {
		n, err = collect(t, ep, t.Ctx.RSI, int(most), milliseconds(t, int32(t.Ctx.R10)))
	}
	ep.DecRef()
	return n, err
}

// epollWait is epoll_wait(2) with a deadline, a monotonic time (0: none). EINTR, whatever the handler asks for.
func epollWait(t *task.Task, fd int32, addr uint64, most int32, deadline int64) (uint64, error) {
	if most <= 0 || most > epollMost {
		return 0, unix.EINVAL
	}
	ep := t.Files.Lookup(int(fd))
	if ep == nil {
		return 0, unix.EBADF
	}
	n, err := oneEvent(t, ep, addr)
	if n == 0 && err == nil {
		n, err = collect(t, ep, addr, int(most), deadline)
	}
	ep.DecRef()
	return n, err
}

// oneEvent is epoll_wait(2) for the plainest case, see epoll.One: 1, or EFAULT, or 0 when that is not so.
func oneEvent(t *task.Task, ep *vfs.File, addr uint64) (uint64, error) {
	ev, ok := epoll.One(ep)
	if !ok {
		return 0, nil
	}
	// Its twelve bytes are two words that overlap, if the page is there.
	if s := t.Mem().Space(); s.Store64(addr, uint64(ev.Events)|ev.Data<<32) && s.Store64(addr+4, ev.Data) {
		return 1, nil
	}
	if !putEvent(t, addr, ev) {
		return 0, unix.EFAULT
	}
	return 1, nil
}

// putEvent writes an event to the program's memory.
func putEvent(t *task.Task, addr uint64, e abi.EpollEvent) bool {
	b := t.Scratch[:abi.SizeofEpollEvent]
	le.PutUint32(b, e.Events)
	le.PutUint64(b[4:], e.Data)
	n, _ := t.Mem().CopyOut(addr, b)
	return n == len(b)
}

func collect(t *task.Task, ep *vfs.File, addr uint64, most int, deadline int64) (uint64, error) {
	emit := func(e abi.EpollEvent) bool {
		ok := putEvent(t, addr, e)
		addr += abi.SizeofEpollEvent
		return ok
	}
	for {
		n, err := epoll.Collect(ep, most, emit)
		if err != unix.EAGAIN {
			return value(n, err)
		}
		if deadline != 0 && t.Kernel().Clock.Now() >= deadline {
			return 0, nil
		}
		switch err := t.WaitForExclusive(ep, unix.EPOLLIN, deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			return 0, nil
		default:
			return 0, unix.EINTR
		}
	}
}
