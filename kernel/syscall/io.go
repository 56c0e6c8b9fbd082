package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/eventfd"
	"gosv/kernel/socket"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

func ioRows(r *table) {
	r.set(unix.SYS_READ, call3("read", aFD, aSink, aSize, ofRegisters(hotRead)))
	r.set(unix.SYS_WRITE, call3("write", aFD, aSource, aSize, ofRegisters(hotWrite)))
	r.set(unix.SYS_PREAD64, call4("pread64", aFD, aSink, aSize, aOffset, sysPread))
	r.set(unix.SYS_PWRITE64, call4("pwrite64", aFD, aSource, aSize, aOffset, sysPwrite))
	r.set(unix.SYS_READV, call3("readv", aFD, aAddr, aUlong, sysReadv))
	r.set(unix.SYS_WRITEV, call3("writev", aFD, aAddr, aUlong, sysWritev))
	r.set(unix.SYS_PREADV, call4("preadv", aFD, aAddr, aUlong, aOffset, sysPreadv))
	r.set(unix.SYS_PWRITEV, call4("pwritev", aFD, aAddr, aUlong, aOffset, sysPwritev))
	r.set(unix.SYS_PREADV2, call6("preadv2", aFD, aAddr, aUlong, aOffset, aUnused, aRWF, sysPreadv2).
		partly("RWF_NOWAIT gives EOPNOTSUPP"))
	r.set(unix.SYS_PWRITEV2, call6("pwritev2", aFD, aAddr, aUlong, aOffset, aUnused, aRWF, sysPwritev2).
		partly("RWF_NOWAIT gives EOPNOTSUPP"))
	r.set(unix.SYS_LSEEK, call3("lseek", aFD, aOffset, choice("whence", whenceNames), sysLseek))
	r.set(unix.SYS_SENDFILE, call4("sendfile", aFD, aFD, aAddr, aSize, sysSendfile))
	r.set(unix.SYS_COPY_FILE_RANGE, call6("copy_file_range", aFD, aAddr, aFD, aAddr, aSize, aUint, sysCopyFileRange))
	r.set(unix.SYS_IOCTL, call3("ioctl", aFD, aRequest, aHex, sysIoctl))
	r.set(unix.SYS_FSYNC, call1("fsync", aFD, sysFsync))
	r.set(unix.SYS_FDATASYNC, call1("fdatasync", aFD, sysFsync))
	r.set(unix.SYS_SYNC_FILE_RANGE, call4("sync_file_range", aFD, aOffset, aOffset, flags("flags", 7, nil), sysSyncFileRange))
	r.set(unix.SYS_FTRUNCATE, call2("ftruncate", aFD, aOffset, sysFtruncate))
	r.set(unix.SYS_FALLOCATE, call4("fallocate", aFD, flags("mode", 0x7f, fallocNames), aOffset, aOffset, sysFallocate))
	r.set(unix.SYS_FADVISE64, call4("fadvise64", aFD, aOffset, aOffset, aInt, sysFadvise))
	r.set(unix.SYS_READAHEAD, call3("readahead", aFD, aOffset, aSize, sysReadahead))
	r.set(unix.SYS_GETDENTS, call3("getdents", aFD, aAddr, aUint, func(t *task.Task, fd int32, addr uint64, n uint32) (uint64, error) {
		return getdents(t, fd, addr, n, true)
	}))
	r.set(unix.SYS_GETDENTS64, call3("getdents64", aFD, aAddr, aUint, func(t *task.Task, fd int32, addr uint64, n uint32) (uint64, error) {
		return getdents(t, fd, addr, n, false)
	}))
}

var (
	aRequest = aUint.as(show("request", func(b []byte, v uint64) []byte {
		for _, n := range ioctlNames {
			if n.bit == uint64(uint32(v)) {
				return append(b, n.name...)
			}
		}
		return appendHex(b, uint64(uint32(v)))
	}))
	aRWF    = aUint.as(show("rwf", appendHex))
	aUnused = aUlong.as(show("unused", appendHex))
)

// readFile reads at the position, and waits when there is nothing yet and the file may block.
func readFile(t *task.Task, f *vfs.File, dst uio.Sink) (uint64, error) {
	if f.Special() && f.Readable() {
		if s, err := socket.Of(f); err == nil {
			return readSocket(t, f, s, dst)
		}
		return value(f.Ops().(task.TerminalFile).ReadBy(t, f, dst))
	}
	for {
		n, err := f.Read(dst)
		if err != unix.EAGAIN || f.Nonblock() {
			return value(n, err)
		}
		if err := t.WaitFor(f, wait.Mask(unix.POLLIN|abi.POLLRDNORM|unix.POLLRDHUP), 0); err != nil {
			return 0, err
		}
	}
}

// writeFile writes at the position until all is written, waiting for room when the
// file may block. What was written before an error counts.
func writeFile(t *task.Task, f *vfs.File, src uio.Source) (uint64, error) {
	if f.Special() && f.Writable() {
		if s, err := socket.Of(f); err == nil {
			return writeSocket(t, f, s, src)
		}
		if err := f.Ops().(task.TerminalFile).MayWrite(t); err != nil {
			return 0, err
		}
	}
	done := int64(0)
	for {
		n, err := f.Write(src)
		if err == unix.EAGAIN && !f.Nonblock() && f.Readiness(writable)&writable != 0 { // but not for this
			n, err = retryWrite(t, f, src)
		}
		done += n
		if err == nil && src.Left() == 0 {
			return uint64(done), nil
		}
		switch {
		case err == unix.EPIPE:
			t.SendSignal(unix.SIGPIPE)
		case err == unix.EFBIG:
			t.SendSignal(unix.SIGXFSZ)
		case f.Nonblock():
		case err == unix.EAGAIN:
			if err = t.WaitFor(f, writable, 0); err == nil {
				continue
			}
		case err == nil && f.Stream() && n > 0:
			continue
		}
		if done > 0 {
			return uint64(done), nil
		}
		return value(n, err)
	}
}

// writable are the events that a write waits for.
const writable = wait.Mask(unix.POLLOUT | abi.POLLWRNORM)

func retryWrite(t *task.Task, f *vfs.File, src uio.Source) (n int64, err error) {
	err = t.Retry(f, writable, func() (err error) {
		n, err = f.Write(src)
		return err
	})
	return n, err
}

// hotRead is read(2), hotWrite write(2).
func hotRead(t *task.Task) (uint64, error) {
	f := t.Files.Lookup(int(int32(t.Ctx.RDI)))
	if f == nil {
		var err error
		if f, err = file(t, int32(t.Ctx.RDI)); err != nil {
			return 0, err
		}
	}
	n, err := buffer(t.Ctx.RSI, t.Ctx.RDX)
	if err == nil {
		if e := eventfd.Of(f); e != nil && n >= 8 {
			// Event loops read and write these all the time. What would have to wait goes the long way.
			if v, err := e.Take(); err == nil {
				f.DecRef()
				return putWord(t, v)
			}
		}
		t.IO.Set(t.Mem(), t.Ctx.RSI, n)
		n, err = readFile(t, f, &t.IO)
	}
	f.DecRef()
	return n, err
}

// putWord is the end of a read(2) of eight bytes.
func putWord(t *task.Task, v uint64) (uint64, error) {
	m := t.Mem()
	if m.Space().Store64(t.Ctx.RSI, v) {
		return 8, nil
	}
	return value(8, m.Store64(t.Ctx.RSI, v))
}

func hotWrite(t *task.Task) (uint64, error) {
	f := t.Files.Lookup(int(int32(t.Ctx.RDI)))
	if f == nil {
		var err error
		if f, err = file(t, int32(t.Ctx.RDI)); err != nil {
			return 0, err
		}
	}
	if e := eventfd.Of(f); e != nil && t.Ctx.RDX >= 8 {
		if v, ok := t.Mem().Space().Load64(t.Ctx.RSI); ok && e.Add(v) == nil {
			f.DecRef()
			return 8, nil
		}
	}
	n, err := buffer(t.Ctx.RSI, t.Ctx.RDX)
	if err == nil && !f.Stream() { // a limit is for files that have a size
		n, err = roomFor(t, f, n, -1)
	}
	if err == nil {
		t.IO.Set(t.Mem(), t.Ctx.RSI, n)
		n, err = writeFile(t, f, &t.IO)
	}
	f.DecRef()
	return n, err
}

// ofRegisters makes the function of a row of one that takes the arguments from the registers itself.
func ofRegisters(f func(*task.Task) (uint64, error)) func(*task.Task, int32, uint64, uint64) (uint64, error) {
	return func(t *task.Task, _ int32, _, _ uint64) (uint64, error) { return f(t) }
}

// roomFor applies RLIMIT_FSIZE to a write of n bytes at off (negative: at the position): what would go
// beyond is cut, and when nothing is left that is EFBIG and SIGXFSZ.
func roomFor(t *task.Task, f *vfs.File, n uint64, off int64) (uint64, error) {
	limit := t.Process().Limit(unix.RLIMIT_FSIZE).Cur
	if limit == unix.RLIM_INFINITY || n == 0 || f.Inode().Type() != unix.S_IFREG {
		return n, nil
	}
	if off < 0 {
		if f.Flags()&unix.O_APPEND != 0 {
			off = f.Inode().Size()
		} else {
			off, _ = f.Seek(0, unix.SEEK_CUR)
		}
	}
	if uint64(off) >= limit {
		t.SendSignal(unix.SIGXFSZ)
		return 0, unix.EFBIG
	}
	return min(n, limit-uint64(off)), nil
}

func sysPread(t *task.Task, fd int32, addr, n uint64, off int64) (uint64, error) {
	f := t.Files.Lookup(int(fd))
	if f == nil {
		var err error
		if f, err = file(t, fd); err != nil {
			return 0, err
		}
	}
	n, err := buffer(addr, n)
	if err == nil {
		t.IO.Set(t.Mem(), addr, n)
		n, err = value(f.Pread(&t.IO, off))
	}
	f.DecRef()
	return n, err
}

func sysPwrite(t *task.Task, fd int32, addr, n uint64, off int64) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if n, err = buffer(addr, n); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	if n, err = roomFor(t, f, n, off); err != nil {
		return 0, err
	}
	t.IO.Set(t.Mem(), addr, n)
	return value(f.Pwrite(&t.IO, off))
}

func sysReadv(t *task.Task, fd int32, addr, count uint64) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	list, err := ranges(t, addr, count)
	if err != nil {
		return 0, err
	}
	t.IO.SetRanges(t.Mem(), list)
	return readFile(t, f, &t.IO)
}

func sysWritev(t *task.Task, fd int32, addr, count uint64) (uint64, error) {
	return writeRanges(t, fd, addr, count, -1, 0)
}

func sysPreadv(t *task.Task, fd int32, addr, count uint64, off int64) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	list, err := ranges(t, addr, count)
	if err != nil {
		return 0, err
	}
	t.IO.SetRanges(t.Mem(), list)
	return value(f.Pread(&t.IO, off))
}

func sysPwritev(t *task.Task, fd int32, addr, count uint64, off int64) (uint64, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	return writeRanges(t, fd, addr, count, off, 0)
}

// writeRanges is pwritev2(2); -1 is the position.
func writeRanges(t *task.Task, fd int32, addr, count uint64, off int64, rwf uint32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	switch {
	case off != -1 && f.Stream():
		return 0, unix.ESPIPE
	case !f.Writable():
		return 0, unix.EBADF
	}
	list, err := ranges(t, addr, count)
	if err != nil {
		return 0, err
	}
	t.IO.SetRanges(t.Mem(), list)
	return transferIO(t, f, true, off, rwf)
}

// Flags of preadv2(2). HIPRI and the two SYNC ones ask for what happens anyway.
const (
	rwfHipri = 0x1
	rwfDsync = 0x2
	rwfSync  = 0x4
	rwfKnown = rwfHipri | rwfDsync | rwfSync | unix.RWF_APPEND
)

func sysPreadv2(t *task.Task, fd int32, addr, count uint64, off int64, _ uint64, rwf uint32) (uint64, error) {
	if rwf&^rwfKnown != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if off == -1 {
		return sysReadv(t, fd, addr, count)
	}
	return sysPreadv(t, fd, addr, count, off)
}

func sysPwritev2(t *task.Task, fd int32, addr, count uint64, off int64, _ uint64, rwf uint32) (uint64, error) {
	switch {
	case rwf&^rwfKnown != 0:
		return 0, unix.EOPNOTSUPP
	case off < -1:
		return 0, unix.EINVAL
	}
	return writeRanges(t, fd, addr, count, off, rwf)
}

func sysLseek(t *task.Task, fd int32, off int64, whence int32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	v, err := f.Seek(off, int(whence))
	f.DecRef()
	return value(v, err)
}

func sysFsync(t *task.Task, fd int32) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return done(f.Sync())
}

func sysSyncFileRange(t *task.Task, fd int32, off, n int64, _ uint32) (uint64, error) {
	if off < 0 || n < 0 || off+n < off {
		return 0, unix.EINVAL
	}
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if f.Stream() {
		return 0, unix.ESPIPE
	}
	return done(f.Sync())
}

func sysFtruncate(t *task.Task, fd int32, size int64) (uint64, error) {
	if size < 0 {
		return 0, unix.EINVAL
	}
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if err := mayGrow(t, f.Inode(), size); err != nil {
		return 0, err
	}
	return done(f.Truncate(size))
}

// mayGrow applies RLIMIT_FSIZE to a new size: EFBIG and SIGXFSZ.
func mayGrow(t *task.Task, i *vfs.Inode, size int64) error {
	if size > i.Size() && uint64(size) > t.Process().Limit(unix.RLIMIT_FSIZE).Cur {
		t.SendSignal(unix.SIGXFSZ)
		return unix.EFBIG
	}
	return nil
}

func sysFallocate(t *task.Task, fd int32, mode uint32, off, n int64) (uint64, error) {
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if off >= 0 && n > 0 && mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		if err := mayGrow(t, f.Inode(), off+n); err != nil {
			return 0, err
		}
	}
	return done(f.Allocate(mode, off, n))
}

// sysFadvise takes the advice, which with a page cache that is all there is changes nothing.
func sysFadvise(t *task.Task, fd int32, _, n int64, advice int32) (uint64, error) {
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	switch {
	case f.Inode().Type() == unix.S_IFIFO:
		return 0, unix.ESPIPE
	case n < 0 || advice < unix.FADV_NORMAL || advice > unix.FADV_NOREUSE:
		return 0, unix.EINVAL
	}
	return 0, nil
}

func sysReadahead(t *task.Task, fd int32, _ int64, _ uint64) (uint64, error) {
	f, err := realFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Readable() {
		return 0, unix.EBADF
	}
	if f.Inode().Type() != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	return 0, nil
}

func getdents(t *task.Task, fd int32, addr uint64, n uint32, legacy bool) (uint64, error) {
	f, err := file(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	t.IO.Set(t.Mem(), addr, uint64(n))
	return value(f.Getdents(view(t), &t.IO, legacy))
}

// A bounce is a kernel buffer between two files: a Sink that is full when
// filled once, and a Source of what it holds.
type bounce struct {
	uio.Buffer
	whole []byte
}

func newBounce(n uint64) *bounce { return &bounce{whole: make([]byte, min(n, 64<<10))} }

// fill prepares to take up to n bytes.
func (b *bounce) fill(n uint64) uio.Sink {
	b.Buffer = b.whole[:min(n, uint64(len(b.whole)))]
	return &b.Buffer
}

// drain prepares to give the first n bytes.
func (b *bounce) drain(n uint64) uio.Source {
	b.Buffer = b.whole[:n]
	return &b.Buffer
}

// transfer moves up to n bytes from one file to another. from and to say how; from
// also learns how much of what it read was not written. A signal ends a long transfer early.
func transfer(t *task.Task, n uint64, from func(uio.Sink) (uint64, error), to func(uio.Source) (uint64, error), unread func(uint64)) (uint64, error) {
	b := newBounce(n)
	total := uint64(0)
	for total < n && (total == 0 || !t.Interrupted()) {
		got, err := from(b.fill(n - total))
		if err == nil && got > 0 {
			var put uint64
			put, err = to(b.drain(got))
			total += put
			if put < got {
				unread(got - put)
				if total > 0 {
					err = nil
				}
				return total, err
			}
		}
		if err != nil || got == 0 {
			if total > 0 {
				err = nil
			}
			return total, err
		}
	}
	return total, nil
}

func sysSendfile(t *task.Task, out, in int32, offset, n uint64) (uint64, error) {
	src, err := realFile(t, in)
	if err != nil {
		return 0, err
	}
	defer src.DecRef()
	dst, err := realFile(t, out)
	if err != nil {
		return 0, err
	}
	defer dst.DecRef()
	if !src.Readable() || !dst.Writable() {
		return 0, unix.EBADF
	}
	if dst.Flags()&unix.O_APPEND != 0 {
		return 0, unix.EINVAL
	}
	if n, err = length(n); err != nil {
		return 0, err
	}
	to := func(s uio.Source) (uint64, error) { return writeFile(t, dst, s) }
	if offset == 0 {
		if src.Stream() {
			return 0, unix.EINVAL
		}
		return transfer(t, n, func(s uio.Sink) (uint64, error) { return readFile(t, src, s) }, to,
			func(rest uint64) { src.Seek(-int64(rest), unix.SEEK_CUR) })
	}
	pos, err := lInt64.load(t, offset)
	if err != nil {
		return 0, err
	}
	if src.Stream() {
		return 0, unix.ESPIPE
	}
	total, err := transfer(t, n, func(s uio.Sink) (uint64, error) {
		n, err := src.Pread(s, pos)
		pos += n
		return value(n, err)
	}, to, func(rest uint64) { pos -= int64(rest) })
	if err == nil {
		err = lInt64.store(t, offset, pos)
	}
	return total, err
}

func sysCopyFileRange(t *task.Task, in int32, inOff uint64, out int32, outOff, n uint64, flags uint32) (uint64, error) {
	if flags != 0 {
		return 0, unix.EINVAL
	}
	src, err := realFile(t, in)
	if err != nil {
		return 0, err
	}
	defer src.DecRef()
	dst, err := realFile(t, out)
	if err != nil {
		return 0, err
	}
	defer dst.DecRef()
	if err := mayCopyRange(src, dst); err != nil {
		return 0, err
	}
	if n, err = length(n); err != nil {
		return 0, err
	}
	from, err := cursorOf(t, src, inOff)
	if err != nil {
		return 0, err
	}
	to, err := cursorOf(t, dst, outOff)
	if err != nil {
		return 0, err
	}
	if src.Inode() == dst.Inode() && from.pos < to.pos+int64(n) && to.pos < from.pos+int64(n) {
		return 0, unix.EINVAL // the ranges overlap
	}
	total, err := transfer(t, n, func(s uio.Sink) (uint64, error) {
		n, err := src.Pread(s, from.pos)
		from.pos += n
		return value(n, err)
	}, func(s uio.Source) (uint64, error) {
		n, err := dst.Pwrite(s, to.pos)
		to.pos += n
		return value(n, err)
	}, func(rest uint64) { from.pos -= int64(rest) })
	if err == nil {
		if err = from.save(t); err == nil {
			err = to.save(t)
		}
	}
	return total, err
}

func mayCopyRange(src, dst *vfs.File) error {
	for _, f := range []*vfs.File{src, dst} {
		switch f.Inode().Type() {
		case unix.S_IFREG:
		case unix.S_IFDIR:
			return unix.EISDIR
		default:
			return unix.EINVAL
		}
	}
	if !src.Readable() || !dst.Writable() || dst.Flags()&unix.O_APPEND != 0 {
		return unix.EBADF
	}
	return nil
}

// A cursor is a position in a file: the file's own, or one in the program's memory.
type cursor struct {
	f    *vfs.File
	addr uint64
	pos  int64
}

func cursorOf(t *task.Task, f *vfs.File, addr uint64) (c cursor, err error) {
	c = cursor{f: f, addr: addr}
	if addr == 0 {
		c.pos, err = f.Seek(0, unix.SEEK_CUR)
	} else if c.pos, err = lInt64.load(t, addr); err == nil && c.pos < 0 {
		err = unix.EINVAL
	}
	return c, err
}

func (c *cursor) save(t *task.Task) error {
	if c.addr != 0 {
		return lInt64.store(t, c.addr, c.pos)
	}
	_, err := c.f.Seek(c.pos, unix.SEEK_SET)
	return err
}
