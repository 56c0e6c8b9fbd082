package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/aio"
	"gosv/kernel/async"
	"gosv/kernel/eventfd"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

func aioRows(r *table) {
	r.set(unix.SYS_IO_SETUP, call2("io_setup", aUint, aAddr, sysIoSetup))
	r.set(unix.SYS_IO_DESTROY, call1("io_destroy", aHex, sysIoDestroy))
	r.set(unix.SYS_IO_SUBMIT, call3("io_submit", aHex, aLong, aAddr, sysIoSubmit).partly("RWF_NOWAIT gives EOPNOTSUPP"))
	r.set(unix.SYS_IO_CANCEL, call3("io_cancel", aHex, aAddr, aAddr, sysIoCancel))
	r.set(unix.SYS_IO_GETEVENTS, call5("io_getevents", aHex, aLong, aLong, aAddr, inOpt(lTimespec), sysIoGetevents))
	r.set(unix.SYS_IO_PGETEVENTS, call6("io_pgetevents", aHex, aLong, aLong, aAddr, inOpt(lTimespec), aAddr, sysIoPgetevents))
}

// aioKey is what an address space keeps its AIO contexts under.
type aioKey struct{}

// contexts returns the AIO contexts of t's address space.
func contexts(t *task.Task) *aio.Contexts {
	d := t.Delegate()
	return d.Value(aioKey{}, func() any { return aio.NewContexts() }).(*aio.Contexts)
}

func sysIoSetup(t *task.Task, events uint32, at uint64) (uint64, error) {
	id, err := lUint64.load(t, at)
	if err != nil {
		return 0, err
	}
	if id != 0 {
		return 0, unix.EINVAL
	}
	cs := contexts(t)
	t.Delegate().OnEnd(aioKey{}, cs.End)
	c, err := cs.Setup(t.Mem(), events)
	if err != nil {
		return 0, err
	}
	if err := lUint64.store(t, at, c.ID); err != nil {
		cs.Destroy(t.Mem(), c.ID)
		return 0, err
	}
	return 0, nil
}

func sysIoDestroy(t *task.Task, id uint64) (uint64, error) {
	c, err := contexts(t).Destroy(t.Mem(), id)
	if err != nil {
		return 0, err
	}
	for !c.Idle() && t.WaitFor(c, unix.POLLIN, 0) == nil {
	}
	return 0, nil
}

// Operations and flags of a struct iocb.
const (
	iocbPread   = 0
	iocbPwrite  = 1
	iocbFsync   = 2
	iocbFdsync  = 3
	iocbPoll    = 5
	iocbPreadv  = 7
	iocbPwritev = 8

	iocbResfd  = 1
	iocbIoprio = 2

	sizeofIocb = 64
	iocbKey    = 8 // offset of aio_key
)

// iocb is a struct iocb.
type iocb struct {
	data     uint64
	rwFlags  uint32
	op       uint16
	fd       int32
	buf, n   uint64
	off      int64
	reserved uint64
	flags    uint32
	resfd    int32
}

func getIocb(b []byte) iocb {
	return iocb{data: le.Uint64(b), rwFlags: le.Uint32(b[12:]), op: le.Uint16(b[16:]), fd: int32(le.Uint32(b[20:])), buf: le.Uint64(b[24:]),
		n: le.Uint64(b[32:]), off: int64(le.Uint64(b[40:])), reserved: le.Uint64(b[48:]), flags: le.Uint32(b[56:]), resfd: int32(le.Uint32(b[60:]))}
}

func sysIoSubmit(t *task.Task, id uint64, n int64, list uint64) (uint64, error) {
	if n < 0 {
		return 0, unix.EINVAL
	}
	c, err := contexts(t).Get(id)
	if err != nil {
		return 0, err
	}
	for i := range uint64(n) {
		addr, err := lUint64.load(t, list+8*i)
		if err == nil {
			err = submitIocb(t, c, addr)
		}
		if err != nil {
			if i > 0 {
				err = nil
			}
			return i, err
		}
	}
	return uint64(n), nil
}

func submitIocb(t *task.Task, c *aio.Context, addr uint64) error {
	var b [sizeofIocb]byte
	if err := copyIn(t, b[:], addr); err != nil {
		return err
	}
	i := getIocb(b[:])
	switch {
	case i.reserved != 0, i.flags&^(iocbResfd|iocbIoprio) != 0, int64(i.n) < 0:
		return unix.EINVAL
	}
	f, err := realFile(t, i.fd)
	if err != nil {
		return err
	}
	r := &aio.Request{Obj: addr, Data: i.data}
	var event *vfs.File
	if err = prepareIocb(t, &i, f, &r.Op); err == nil && i.flags&iocbResfd != 0 {
		if event, err = eventFile(t, i.resfd); err == nil {
			r.Told = func() {
				eventfd.Signal(event)
				event.DecRef()
			}
		}
	}
	if err == nil {
		if err = lUint32.store(t, addr+iocbKey, 0); err == nil {
			err = c.Enter(r)
		}
	}
	if err != nil {
		f.DecRef()
		if event != nil {
			event.DecRef()
		}
		return err
	}
	r.Op.Delegate, r.Op.Cred, r.Op.File = t.Delegate(), t.Cred(), f
	r.Op.Done = func(v uint64, err error) { c.Complete(r, asyncResult(v, err)) }
	r.Op.Start(t)
	return nil
}

// asyncResult is what an asynchronous operation tells: there is nobody to restart it.
func asyncResult(v uint64, err error) int64 {
	if err == nil {
		return int64(v)
	}
	switch e := errnoOf(err); e {
	case abi.ERESTARTSYS, abi.ERESTARTNOINTR, abi.ERESTARTNOHAND, abi.ERESTART_RESTARTBLOCK:
		return -int64(unix.EINTR)
	default:
		return -int64(e)
	}
}

// eventFile returns an eventfd with a reference: EBADF, EINVAL.
func eventFile(t *task.Task, fd int32) (*vfs.File, error) {
	f, err := file(t, fd)
	if err != nil {
		return nil, err
	}
	if eventfd.Of(f) == nil {
		f.DecRef()
		return nil, unix.EINVAL
	}
	return f, nil
}

// prepareIocb says what an iocb does: EINVAL, EBADF, EFAULT.
func prepareIocb(t *task.Task, i *iocb, f *vfs.File, o *async.Op) error {
	rw := i.op == iocbPread || i.op == iocbPwrite || i.op == iocbPreadv || i.op == iocbPwritev
	write := i.op == iocbPwrite || i.op == iocbPwritev
	switch {
	case !rw && i.rwFlags != 0:
		return unix.EINVAL
	case rw && i.rwFlags&^rwfKnown != 0:
		return unix.EOPNOTSUPP
	case rw && !write && !f.Readable(), write && !f.Writable():
		return unix.EBADF
	}
	switch i.op {
	case iocbPread, iocbPwrite:
		if i.n > machine.UserTop || i.buf > machine.UserTop-i.n {
			return unix.EFAULT
		}
		o.Call = transferCall(write, false, i.buf, i.n, i.off, i.rwFlags)
	case iocbPreadv, iocbPwritev:
		if i.n > abi.MaxIOV {
			return unix.EINVAL
		}
		o.Call = transferCall(write, true, i.buf, i.n, i.off, i.rwFlags)
	case iocbFsync, iocbFdsync:
		if i.buf != 0 || i.off != 0 || i.n != 0 {
			return unix.EINVAL
		}
		o.Call = func(t *task.Task) (uint64, error) { return sysFsync(t, task.GivenFD) }
	case iocbPoll:
		if i.off != 0 || i.n != 0 || i.buf>>16 != 0 {
			return unix.EINVAL
		}
		o.Call = pollCall(wait.Mask(i.buf))
	default:
		return unix.EINVAL
	}
	o.Slow = rw && slow(f) || i.op == iocbFsync || i.op == iocbFdsync
	return nil
}

// slow reports whether reading and writing f may take long without a wait: its pages come from somewhere.
func slow(f *vfs.File) bool {
	if t := f.Inode().Type(); t != unix.S_IFREG && t != unix.S_IFBLK {
		return false
	}
	c := f.Ops().Map(f)
	return c == nil || c.Backed()
}

// pollCall waits until the given file has one of the events, and returns them.
func pollCall(mask wait.Mask) async.Call {
	return func(t *task.Task) (uint64, error) {
		f, err := t.Given()
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		mask := mask | unix.POLLERR | unix.POLLHUP
		if got := f.Readiness(mask) & mask; got != 0 {
			return uint64(got), nil
		}
		return 0, t.WaitFor(f, mask, 0)
	}
}

// transferCall reads or writes the given file; a file without a position ignores the offset, and -1 is that where the file is.
func transferCall(write, vector bool, addr, n uint64, off int64, rwf uint32) async.Call {
	return func(t *task.Task) (uint64, error) {
		f, err := t.Given()
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if vector {
			list, err := ranges(t, addr, n)
			if err != nil {
				return 0, err
			}
			t.IO.SetRanges(t.Mem(), list)
		} else {
			n, err := buffer(addr, n)
			if err != nil {
				return 0, err
			}
			t.IO.Set(t.Mem(), addr, n)
		}
		return transferIO(t, f, write, off, rwf)
	}
}

// transferIO reads or writes what t.IO stands for.
func transferIO(t *task.Task, f *vfs.File, write bool, off int64, rwf uint32) (uint64, error) {
	current := f.Stream() || off == -1
	if !write {
		if current {
			return readFile(t, f, &t.IO)
		}
		return value(f.Pread(&t.IO, off))
	}
	if current {
		off = -1
	} else if off < 0 {
		return 0, unix.EINVAL
	}
	typ := f.Inode().Type()
	atEnd := rwf&unix.RWF_APPEND != 0 && (typ == unix.S_IFREG || typ == unix.S_IFBLK)
	place := off
	if atEnd {
		place = f.Inode().Size()
	}
	n, err := roomFor(t, f, uint64(t.IO.Left()), place)
	if err != nil {
		return 0, err
	}
	t.IO.Limit(int(n))
	var v uint64
	if atEnd {
		v, err = value(f.Append(&t.IO, current))
	} else if current {
		v, err = writeFile(t, f, &t.IO)
	} else {
		v, err = value(f.Pwrite(&t.IO, off))
	}
	if err == nil && rwf&(rwfDsync|rwfSync) != 0 {
		err = f.Sync()
	}
	return v, err
}

func sysIoCancel(t *task.Task, id, addr, _ uint64) (uint64, error) {
	if _, err := lUint32.load(t, addr+iocbKey); err != nil {
		return 0, err
	}
	c, err := contexts(t).Get(id)
	if err != nil {
		return 0, err
	}
	r, err := c.Find(addr)
	if err != nil {
		return 0, err
	}
	switch r.Op.Cancel() {
	case nil:
		return 0, unix.EINPROGRESS // the result is in the ring
	case unix.EALREADY:
		return 0, unix.EAGAIN
	}
	return 0, unix.EINVAL
}

func sysIoGetevents(t *task.Task, id uint64, least, most int64, addr uint64, timeout opt[unix.Timespec]) (uint64, error) {
	v, err := getevents(t, id, least, most, addr, timeout)
	if err == abi.ERESTARTSYS {
		err = unix.EINTR
	}
	return v, err
}

func getevents(t *task.Task, id uint64, least, most int64, addr uint64, timeout opt[unix.Timespec]) (uint64, error) {
	deadline := int64(0)
	if timeout.ok { // Linux does not look whether it is valid
		deadline = t.Kernel().Clock.After(abi.TimespecToNsec(timeout.v))
	}
	c, err := contexts(t).Get(id)
	if err != nil {
		return 0, err
	}
	if least < 0 || most < 0 || least > most {
		return 0, unix.EINVAL
	}
	total := 0
	emit := func(e *aio.Event) error {
		b := t.Scratch[:aio.SizeofEvent]
		e.Put(b)
		err := copyOut(t, addr+uint64(total)*aio.SizeofEvent, b)
		if err == nil {
			total++
		}
		return err
	}
	for {
		_, err := c.Take(int(min(most, 1<<31))-total, emit)
		if err == nil && int64(total) < least {
			if err = t.WaitFor(c, unix.POLLIN, deadline); err == nil {
				continue
			}
		}
		if total > 0 || err == unix.ETIMEDOUT {
			err = nil
		}
		return uint64(total), err
	}
}

func sysIoPgetevents(t *task.Task, id uint64, least, most int64, addr uint64, timeout opt[unix.Timespec], sig uint64) (uint64, error) {
	var mask opt[uint64]
	if sig != 0 {
		pair := t.Scratch[:16]
		if err := copyIn(t, pair, sig); err != nil {
			return 0, err
		}
		if at, size := le.Uint64(pair), le.Uint64(pair[8:]); at != 0 {
			if size != abi.SigSetSize {
				return 0, unix.EINVAL
			}
			var err error
			if mask.v, err = lSigset.load(t, at); err != nil {
				return 0, err
			}
			mask.ok = true
		}
	}
	return masked(t, mask, func() (uint64, error) { return getevents(t, id, least, most, addr, timeout) })
}
