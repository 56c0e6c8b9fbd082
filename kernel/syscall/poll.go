package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/signal"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

func pollRows(r *table) {
	r.set(unix.SYS_POLL, call3("poll", aAddr, aUint, aInt, func(t *task.Task, addr uint64, n uint32, ms int32) (uint64, error) {
		deadline := int64(0)
		if ms >= 0 {
			deadline = t.Kernel().Clock.After(int64(ms) * 1e6)
		}
		return poll(t, addr, n, deadline)
	}))
	r.set(unix.SYS_PPOLL, call5("ppoll", aAddr, aUint, inOpt(lTimespec), inOpt(lSigset), aSize, sysPpoll))
	r.set(unix.SYS_SELECT, call5("select", aInt, aAddr, aAddr, aAddr, inOpt(lTimeval), sysSelect))
	r.set(unix.SYS_PSELECT6, call6("pselect6", aInt, aAddr, aAddr, aAddr, inOpt(lTimespec), aAddr, sysPselect6))
}

// An interest is one file that poll or select watches.
type interest struct {
	f     *vfs.File
	mask  wait.Mask
	got   wait.Mask
	index int // in the program's array, or the descriptor
	entry wait.Entry
}

// watch waits until one of the files is ready or the deadline, a monotonic time, has
// passed (0: none), and returns how many are ready; got tells what.
func watch(t *task.Task, list []interest, deadline int64) (int, error) {
	if n := ready(list); n > 0 {
		return n, nil
	}
	if deadline != 0 && t.Kernel().Clock.Now() >= deadline {
		return 0, nil
	}
	for i := range list {
		x := &list[i]
		x.entry = wait.Entry{Waiter: t, Events: x.mask | unix.POLLERR | unix.POLLHUP}
		x.f.Register(&x.entry)
	}
	defer func() {
		for i := range list {
			list[i].f.Unregister(&list[i].entry)
		}
	}()
	for {
		if n := ready(list); n > 0 {
			return n, nil
		}
		switch err := t.Block(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			return ready(list), nil
		default:
			return 0, err
		}
	}
}

func ready(list []interest) (n int) {
	for i := range list {
		x := &list[i]
		if x.got = x.f.Readiness(x.mask); x.got != 0 {
			n++
		}
	}
	return n
}

func unwatch(list []interest) {
	for i := range list {
		list[i].f.DecRef()
	}
}

// poll is poll(2) with a deadline: EFAULT, EINVAL, ENOMEM.
func poll(t *task.Task, addr uint64, n uint32, deadline int64) (uint64, error) {
	v, err := pollOnce(t, addr, n, deadline)
	if err == abi.ERESTARTSYS {
		err = t.SetRestart(func(t *task.Task) (uint64, error) { return poll(t, addr, n, deadline) })
	}
	return v, err
}

// pollOnce is poll without its restart; ERESTARTSYS when a signal came.
func pollOnce(t *task.Task, addr uint64, n uint32, deadline int64) (uint64, error) {
	if int(n) > openLimit(t) {
		return 0, unix.EINVAL
	}
	b := t.Scratch[:]
	if int(n)*abi.SizeofPollFd > len(b) {
		b = make([]byte, int(n)*abi.SizeofPollFd)
	}
	b = b[:int(n)*abi.SizeofPollFd]
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	list := make([]interest, 0, n)
	defer func() { unwatch(list) }()
	invalid := 0
	for i := range int(n) {
		p := abi.GetPollFd(b[i*abi.SizeofPollFd:])
		p.Revents = 0
		if p.Fd >= 0 {
			if f, err := file(t, p.Fd); err != nil || f.PathOnly() {
				if err == nil {
					f.DecRef()
				}
				p.Revents = unix.POLLNVAL
				invalid++
			} else {
				list = append(list, interest{f: f, mask: wait.Mask(uint16(p.Events)), index: i})
			}
		}
		abi.PutPollFd(b[i*abi.SizeofPollFd:], p)
	}
	if invalid > 0 {
		deadline = 1 // look once
	}
	hits, err := watch(t, list, deadline)
	if err != nil {
		return 0, err
	}
	for _, x := range list {
		le.PutUint16(b[x.index*abi.SizeofPollFd+6:], uint16(x.got))
	}
	return uint64(hits + invalid), copyOut(t, addr, b)
}

// masked runs do with another signal mask, if one is given (ppoll(2), pselect(2)). An
// interrupted call becomes ERESTARTNOHAND.
func masked(t *task.Task, mask opt[uint64], do func() (uint64, error)) (uint64, error) {
	if mask.ok {
		t.PushMask(signal.Set(mask.v))
	}
	v, err := do()
	if err == abi.ERESTARTSYS {
		err = abi.ERESTARTNOHAND
	}
	if mask.ok {
		t.PopMask(err == abi.ERESTARTNOHAND)
	}
	return v, err
}

// left stores what remains until the deadline where the program's timeout was, as
// Linux does; that it cannot be stored does not matter.
func left(t *task.Task, addr uint64, timeout bool, deadline int64, put func(ns int64)) {
	if timeout && addr != 0 {
		put(max(deadline-t.Kernel().Clock.Now(), 0))
	}
}

func sysPpoll(t *task.Task, addr uint64, n uint32, timeout opt[unix.Timespec], mask opt[uint64], size uint64) (uint64, error) {
	if mask.ok && size != abi.SigSetSize {
		return 0, unix.EINVAL
	}
	deadline, _, err := deadlineOf(t, timeout)
	if err != nil {
		return 0, err
	}
	v, err := masked(t, mask, func() (uint64, error) { return pollOnce(t, addr, n, deadline) })
	left(t, t.Ctx.RDX, timeout.ok, deadline, func(ns int64) { lTimespec.store(t, t.Ctx.RDX, abi.NsecToTimespec(ns)) })
	return v, err
}

// The events that the three sets of select(2) stand for.
var selectMasks = [3]wait.Mask{
	abi.POLLRDNORM | abi.POLLRDBAND | unix.POLLIN | unix.POLLHUP | unix.POLLERR,
	abi.POLLWRNORM | abi.POLLWRBAND | unix.POLLOUT | unix.POLLERR,
	unix.POLLPRI,
}

// selectFiles is select(2) with a deadline: EBADF, EFAULT, EINVAL.
func selectFiles(t *task.Task, n int32, addrs [3]uint64, deadline int64) (uint64, error) {
	if n < 0 {
		return 0, unix.EINVAL
	}
	words := (min(int(n), 1<<20) + 63) / 64
	var sets [3][]byte
	for i, addr := range addrs {
		if addr == 0 {
			continue
		}
		sets[i] = make([]byte, 8*words)
		if err := copyIn(t, sets[i], addr); err != nil {
			return 0, err
		}
	}
	list, err := selected(t, int(n), sets)
	defer func() { unwatch(list) }()
	if err != nil {
		return 0, err
	}
	if _, err := watch(t, list, deadline); err != nil {
		return 0, err
	}
	hits := uint64(0)
	for i, set := range sets {
		if set == nil {
			continue
		}
		asked := append([]byte(nil), set...)
		clear(set)
		for _, x := range list {
			at, bit := x.index/8, byte(1)<<(x.index%8)
			if asked[at]&bit != 0 && x.got&selectMasks[i] != 0 {
				set[at] |= bit
				hits++
			}
		}
		if err := copyOut(t, addrs[i], set); err != nil {
			return 0, err
		}
	}
	return hits, nil
}

// selected opens the interests that the sets express: EBADF.
func selected(t *task.Task, n int, sets [3][]byte) (list []interest, err error) {
	for fd := range min(n, 1<<20) {
		mask := wait.Mask(0)
		for i, set := range sets {
			if set != nil && set[fd/8]>>(fd%8)&1 != 0 {
				mask |= selectMasks[i]
			}
		}
		if mask == 0 {
			continue
		}
		f, err := realFile(t, int32(fd))
		if err != nil {
			return list, err
		}
		list = append(list, interest{f: f, mask: mask, index: fd})
	}
	return list, nil
}

func sysSelect(t *task.Task, n int32, r, w, e uint64, timeout opt[unix.Timeval]) (uint64, error) {
	deadline := int64(0)
	if timeout.ok {
		tv := timeout.v
		if tv.Sec < 0 || tv.Usec < 0 {
			return 0, unix.EINVAL
		}
		tv.Sec, tv.Usec = tv.Sec+tv.Usec/1e6, tv.Usec%1e6
		deadline = t.Kernel().Clock.After(abi.TimevalToNsec(tv))
	}
	v, err := masked(t, opt[uint64]{}, func() (uint64, error) { return selectFiles(t, n, [3]uint64{r, w, e}, deadline) })
	left(t, t.Ctx.R8, timeout.ok, deadline, func(ns int64) { lTimeval.store(t, t.Ctx.R8, abi.NsecToTimeval(ns)) })
	return v, err
}

func sysPselect6(t *task.Task, n int32, r, w, e uint64, timeout opt[unix.Timespec], sig uint64) (uint64, error) {
	deadline, _, err := deadlineOf(t, timeout)
	if err != nil {
		return 0, err
	}
	var mask opt[uint64]
	if sig != 0 {
		pair := t.Scratch[:16] // the address of a mask, and its size
		if err := copyIn(t, pair, sig); err != nil {
			return 0, err
		}
		if addr, size := le.Uint64(pair), le.Uint64(pair[8:]); addr != 0 {
			if size != abi.SigSetSize {
				return 0, unix.EINVAL
			}
			if mask.v, err = lSigset.load(t, addr); err != nil {
				return 0, err
			}
			mask.ok = true
		}
	}
	v, err := masked(t, mask, func() (uint64, error) { return selectFiles(t, n, [3]uint64{r, w, e}, deadline) })
	left(t, t.Ctx.R8, timeout.ok, deadline, func(ns int64) { lTimespec.store(t, t.Ctx.R8, abi.NsecToTimespec(ns)) })
	return v, err
}
