package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/pipe"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Flags of splice(2). MOVE, MORE and GIFT are hints, and none is needed.
const (
	spliceNonblock = 0x2
	spliceAll      = 0xf
)

// spliceRows are the calls that move bytes through pipes without the program's memory.
func spliceRows(r *table) {
	aFlags := flags("flags", 1<<32-1, []flagName{{1, "SPLICE_F_MOVE"}, {spliceNonblock, "SPLICE_F_NONBLOCK"}, {4, "SPLICE_F_MORE"}, {8, "SPLICE_F_GIFT"}})
	r.set(unix.SYS_SPLICE, call6("splice", aFD, aAddr, aFD, aAddr, aSize, aFlags, sysSplice).
		partly("terminals and files without an inode of their own give EINVAL as the source"))
	r.set(unix.SYS_TEE, call4("tee", aFD, aFD, aSize, aFlags, sysTee))
	r.set(unix.SYS_VMSPLICE, call4("vmsplice", aFD, aAddr, aUlong, aFlags, sysVmsplice).partly("pages are copied"))
}

func sysSplice(t *task.Task, in int32, inOff uint64, out int32, outOff, n uint64, flags uint32) (uint64, error) {
	return splice(t, in, position{addr: inOff, given: inOff != 0}, out, position{addr: outOff, given: outOff != 0}, n, flags)
}

// A position in a file may be given: at an address, or when that is 0 as a value.
type position struct {
	addr  uint64
	value int64
	given bool
}

// splice is splice(2).
func splice(t *task.Task, in int32, inAt position, out int32, outAt position, n uint64, flags uint32) (uint64, error) {
	if n == 0 {
		return 0, nil
	}
	if flags&^spliceAll != 0 {
		return 0, unix.EINVAL
	}
	src, dst, err := ends(t, in, out)
	if err != nil {
		return 0, err
	}
	defer src.DecRef()
	defer dst.DecRef()
	fromPipe, toPipe := pipe.Is(src), pipe.Is(dst)
	if fromPipe && inAt.given || toPipe && outAt.given {
		return 0, unix.ESPIPE
	}
	n = min(n, abi.MaxRW)
	nonblock := flags&spliceNonblock != 0
	switch {
	case fromPipe && toPipe:
		return spliceLoop(t, src, dst, nonblock || src.Nonblock() || dst.Nonblock(), func() (int, error) { return pipe.Splice(src, dst, int(n)) })
	case toPipe:
		return spliceIn(t, src, inAt, dst, n, nonblock)
	case fromPipe:
		return spliceOut(t, src, dst, outAt, n, nonblock)
	}
	return 0, unix.EINVAL
}

// ends returns both files with a reference: EBADF, also when they are not open for that.
func ends(t *task.Task, in, out int32) (src, dst *vfs.File, err error) {
	if src, err = file(t, in); err != nil {
		return nil, nil, err
	}
	if dst, err = file(t, out); err != nil {
		src.DecRef()
		return nil, nil, err
	}
	if !src.Readable() || !dst.Writable() {
		src.DecRef()
		dst.DecRef()
		return nil, nil, unix.EBADF
	}
	return src, dst, nil
}

// spliceLoop moves what there is, and waits for something to move and room for it when it may.
func spliceLoop(t *task.Task, src, dst *vfs.File, nonblock bool, move func() (int, error)) (uint64, error) {
	for {
		n, err := move()
		if err == unix.EPIPE {
			t.SendSignal(unix.SIGPIPE)
		}
		if err != unix.EAGAIN || nonblock {
			return value(n, err)
		}
		if err = spliceWait(t, src, unix.POLLIN|abi.POLLRDNORM|unix.POLLRDHUP); err == nil {
			err = spliceWait(t, dst, unix.POLLOUT|abi.POLLWRNORM)
		}
		if err != nil {
			return 0, err
		}
	}
}

// spliceWait waits until f is ready: EAGAIN when it is a file that does not block. Whether a pipe does is known before.
func spliceWait(t *task.Task, f *vfs.File, mask wait.Mask) error {
	if f.Nonblock() && !pipe.Is(f) && f.Readiness(mask) == 0 {
		return unix.EAGAIN
	}
	return t.WaitFor(f, mask, 0)
}

// offset returns the cursor for the file that is no pipe: EFAULT, EINVAL when it has no position to choose.
func offset(t *task.Task, f *vfs.File, at position) (c cursor, err error) {
	c = cursor{f: f, addr: at.addr, pos: at.value}
	if !at.given {
		return c, nil
	}
	if at.addr != 0 {
		c.pos, err = lInt64.load(t, at.addr)
	}
	if err == nil && (f.Stream() || c.pos < 0) {
		err = unix.EINVAL
	}
	return c, err
}

// keep stores the position that the program chose, after n bytes.
func (c *cursor) keep(t *task.Task, n uint64, err error) (uint64, error) {
	if err == nil && c.addr != 0 {
		err = lInt64.store(t, c.addr, c.pos)
	}
	return n, err
}

// spliceIn fills a pipe from a file.
func spliceIn(t *task.Task, src *vfs.File, at position, dst *vfs.File, n uint64, nonblock bool) (uint64, error) {
	c, err := offset(t, src, at)
	if err != nil {
		return 0, err
	}
	switch src.Inode().Type() {
	case unix.S_IFREG, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
	default:
		return 0, unix.EINVAL
	}
	if src.Terminal() {
		return 0, unix.EINVAL
	}
	read := src.Read
	if at.given {
		read = func(s uio.Sink) (int64, error) {
			n, err := src.Pread(s, c.pos)
			c.pos += n
			return n, err
		}
	}
	total, err := spliceLoop(t, src, dst, nonblock || dst.Nonblock(), func() (int, error) { return pipe.Fill(dst, int(n), read) })
	return c.keep(t, total, err)
}

// spliceOut drains a pipe into a file.
func spliceOut(t *task.Task, src, dst *vfs.File, at position, n uint64, nonblock bool) (uint64, error) {
	c, err := offset(t, dst, at)
	if err != nil {
		return 0, err
	}
	if dst.Flags()&unix.O_APPEND != 0 {
		return 0, unix.EINVAL
	}
	pos := int64(-1)
	write := dst.Write
	if at.given {
		pos = c.pos
		write = func(s uio.Source) (int64, error) {
			n, err := dst.Pwrite(s, c.pos)
			c.pos += n
			return n, err
		}
	}
	if n, err = roomFor(t, dst, n, pos); err != nil {
		return 0, err
	}
	if dst.Terminal() {
		if err := dst.Ops().(task.TerminalFile).MayWrite(t); err != nil {
			return 0, err
		}
	}
	total, err := spliceLoop(t, src, dst, nonblock, func() (int, error) { return pipe.Drain(src, int(n), write) })
	return c.keep(t, total, err)
}

func sysTee(t *task.Task, in, out int32, n uint64, flags uint32) (uint64, error) {
	if flags&^spliceAll != 0 {
		return 0, unix.EINVAL
	}
	if n == 0 {
		return 0, nil
	}
	src, dst, err := ends(t, in, out)
	if err != nil {
		return 0, err
	}
	defer src.DecRef()
	defer dst.DecRef()
	if !pipe.Is(src) || !pipe.Is(dst) {
		return 0, unix.EINVAL
	}
	n = min(n, abi.MaxRW)
	return spliceLoop(t, src, dst, flags&spliceNonblock != 0 || src.Nonblock() || dst.Nonblock(), func() (int, error) { return pipe.Tee(src, dst, int(n)) })
}

// sysVmsplice writes to a pipe what there is room for, or reads from it what there is.
func sysVmsplice(t *task.Task, fd int32, addr, count uint64, flags uint32) (uint64, error) {
	if flags&^spliceAll != 0 {
		return 0, unix.EINVAL
	}
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !pipe.Is(f) {
		return 0, unix.EBADF
	}
	list, err := ranges(t, addr, count)
	if err != nil {
		return 0, err
	}
	t.IO.SetRanges(t.Mem(), list)
	move, mask := func() (int64, error) { return f.Write(&t.IO) }, wait.Mask(unix.POLLOUT|abi.POLLWRNORM)
	if !f.Writable() {
		move, mask = func() (int64, error) { return f.Read(&t.IO) }, unix.POLLIN|abi.POLLRDNORM
	}
	for {
		n, err := move()
		if err == unix.EPIPE {
			t.SendSignal(unix.SIGPIPE)
		}
		if err != unix.EAGAIN || flags&spliceNonblock != 0 {
			return value(n, err)
		}
		if err := t.WaitFor(f, mask, 0); err != nil {
			return 0, err
		}
	}
}
