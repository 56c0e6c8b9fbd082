package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/mqueue"
	"gosv/kernel/signal"
	"gosv/kernel/socket"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// mqRows are POSIX message queues (mq_overview(7)).
func (s *Calls) mqRows(r *table) {
	r.set(unix.SYS_MQ_OPEN, call4("mq_open", aPath, aUint, aMode, aAddr, s.mqOpen))
	r.set(unix.SYS_MQ_UNLINK, call1("mq_unlink", aPath, func(t *task.Task, name string) (uint64, error) {
		return done(s.mqueues(t).Unlink(name, t.Cred()))
	}))
	r.set(unix.SYS_MQ_TIMEDSEND, call5("mq_timedsend", aFD, aSource, aSize, aUint, inOpt(lTimespec), sysMqSend))
	r.set(unix.SYS_MQ_TIMEDRECEIVE, call5("mq_timedreceive", aFD, aAddr, aSize, out(lUint32), inOpt(lTimespec), sysMqReceive))
	r.set(unix.SYS_MQ_NOTIFY, call2("mq_notify", aFD, aAddr, sysMqNotify))
	r.set(unix.SYS_MQ_GETSETATTR, call3("mq_getsetattr", aFD, aAddr, aAddr, sysMqAttr))
}

// mqueues returns the POSIX message queues that t knows.
func (s *Calls) mqueues(t *task.Task) *mqueue.Space { return ipcOf(t).Queues() }

// sizeofMqAttr is the size of struct mq_attr: flags, maxmsg, msgsize, curmsgs, four reserved longs.
const sizeofMqAttr = 64

func (s *Calls) mqOpen(t *task.Task, name string, flags, mode uint32, addr uint64) (uint64, error) {
	var attr *mqueue.Attr
	if addr != 0 {
		b := t.Scratch[:sizeofMqAttr]
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		attr = &mqueue.Attr{Count: int64(le.Uint64(b[8:])), Size: int64(le.Uint64(b[16:]))}
	}
	limit := t.Process().Limit(unix.RLIMIT_MSGQUEUE).Cur
	f, err := s.mqueues(t).Open(name, int(flags), mode&^t.FS.Umask(), attr, t.Cred(), limit)
	if err != nil {
		return 0, err
	}
	return install(t, f, unix.O_CLOEXEC)
}

// queue returns the queue that fd stands for, with the file's reference: EBADF.
func queue(t *task.Task, fd int32) (*vfs.File, *mqueue.Queue, error) {
	f, err := file(t, fd)
	if err != nil {
		return nil, nil, err
	}
	q := mqueue.Of(f)
	if q == nil {
		f.DecRef()
		return nil, nil, unix.EBADF
	}
	return f, q, nil
}

// mqWait repeats try until it has no reason to wait any more; timeout is an absolute wall time.
func mqWait(t *task.Task, f *vfs.File, events uint32, timeout opt[unix.Timespec], try func() error) error {
	deadline := int64(0)
	if timeout.ok {
		if !abi.ValidTimespec(timeout.v) {
			return unix.EINVAL
		}
		k := t.Kernel()
		deadline = max(k.Clock.Now()+abi.TimespecToNsec(timeout.v)-k.Clock.Wall(), 1)
	}
	for {
		err := try()
		if err != unix.EAGAIN || f.Nonblock() {
			return err
		}
		if err := t.WaitFor(f, wait.Mask(events), deadline); err != nil {
			return err
		}
	}
}

func sysMqSend(t *task.Task, fd int32, addr, size uint64, priority uint32, timeout opt[unix.Timespec]) (uint64, error) {
	if priority >= mqueue.MaxPriority {
		return 0, unix.EINVAL
	}
	f, q, err := queue(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Writable() {
		return 0, unix.EBADF
	}
	if a, _ := q.Attr(); size > uint64(a.Size) {
		return 0, unix.EMSGSIZE
	}
	m := mqueue.Message{Priority: priority, Text: make([]byte, size)}
	if err := copyIn(t, m.Text, addr); err != nil {
		return 0, err
	}
	return 0, mqWait(t, f, unix.POLLOUT, timeout, func() error { return q.TrySend(m, t.Cred(), t.PID()) })
}

func sysMqReceive(t *task.Task, fd int32, addr, size uint64, priority dest[uint32], timeout opt[unix.Timespec]) (uint64, error) {
	f, q, err := queue(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Readable() {
		return 0, unix.EBADF
	}
	q.Waiting(1)
	defer q.Waiting(-1)
	var m mqueue.Message
	err = mqWait(t, f, unix.POLLIN, timeout, func() (err error) {
		m, err = q.TryReceive(size)
		return err
	})
	if err != nil {
		return 0, err
	}
	if err := priority.putOpt(t, m.Priority); err != nil {
		return 0, err
	}
	return uint64(len(m.Text)), copyOut(t, addr, m.Text)
}

// sysMqNotify is mq_notify(2).
func sysMqNotify(t *task.Task, fd int32, addr uint64) (uint64, error) {
	var n *mqueue.Notify
	if addr != 0 {
		b := t.Scratch[:abi.SizeofSigEvent]
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		var err error
		if n, err = mqNotify(t, abi.GetSigEvent(b)); err != nil {
			return 0, err
		}
		n.PID, n.Files = t.PID(), t.Files
	}
	f, q, err := queue(t, fd)
	if err == nil {
		err = q.SetNotify(n, t.PID())
		f.DecRef()
	}
	if err != nil && n != nil && n.Drop != nil {
		n.Drop()
	}
	return done(err)
}

// mqNotify is what a sigevent asks for: EINVAL; for SIGEV_THREAD EFAULT, EBADF, ENOTSOCK. Signal 0 is none.
func mqNotify(t *task.Task, e abi.SigEvent) (*mqueue.Notify, error) {
	const sigevSignal, sigevNone, sigevThread = 0, 1, 2
	switch {
	case e.Notify == sigevNone, e.Notify == sigevSignal && e.Signo == 0:
		return &mqueue.Notify{Send: func(*cred.Cred, int32) {}}, nil
	case e.Notify == sigevSignal && signal.Valid(unix.Signal(e.Signo)):
		return &mqueue.Notify{Send: mqSignal(t.Process(), e)}, nil
	case e.Notify == sigevThread:
		return mqCookie(t, e)
	}
	return nil, unix.EINVAL
}

// mqSignal is a notification by signal.
func mqSignal(p *task.Process, e abi.SigEvent) func(*cred.Cred, int32) {
	const siMesgq = -3
	return func(c *cred.Cred, pid int32) {
		var info signal.Info
		info.SetHead(unix.Signal(e.Signo), 0, siMesgq)
		info.SetSender(p.PIDs().Local(pid), c.UID)
		info.SetValue(e.Value)
		_ = p.Send(&info) // a full queue of signals loses it, as on Linux
	}
}

// mqCookie is a notification by SIGEV_THREAD as a C library makes it: the value points to 32 bytes, the signal is a netlink socket.
// What happened is put into the last byte, and the bytes into the socket, where a thread of the library waits for them.
func mqCookie(t *task.Task, e abi.SigEvent) (*mqueue.Notify, error) {
	const cookieSize, wokenUp, removed = 32, 1, 2
	cookie := make([]byte, cookieSize)
	if err := copyIn(t, cookie, e.Value); err != nil {
		return nil, err
	}
	f, s, err := sock(t, e.Signo)
	if err != nil {
		return nil, err
	}
	box, ok := s.Ops().(socket.Mailbox)
	if !ok {
		f.DecRef()
		return nil, unix.EINVAL
	}
	tell := func(what byte) {
		cookie[cookieSize-1] = what
		box.Deliver(cookie)
		f.DecRef()
	}
	return &mqueue.Notify{
		Send:    func(*cred.Cred, int32) { tell(wokenUp) },
		Removed: func() { tell(removed) },
		Drop:    f.DecRef,
	}, nil
}

// sysMqAttr is mq_getsetattr(2): only O_NONBLOCK may change.
func sysMqAttr(t *task.Task, fd int32, set, old uint64) (uint64, error) {
	var flags uint64
	if set != 0 {
		b := t.Scratch[:sizeofMqAttr]
		if err := copyIn(t, b, set); err != nil {
			return 0, err
		}
		if flags = le.Uint64(b); flags&^unix.O_NONBLOCK != 0 {
			return 0, unix.EINVAL
		}
	}
	f, q, err := queue(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	was := uint64(f.Flags() & unix.O_NONBLOCK)
	if set != 0 {
		f.SetNonblock(flags != 0)
	}
	if old == 0 {
		return 0, nil
	}
	a, n := q.Attr()
	return done(putWords(t, old, was, uint64(a.Count), uint64(a.Size), uint64(n), 0, 0, 0, 0))
}
