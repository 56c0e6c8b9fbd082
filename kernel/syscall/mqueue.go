package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/mqueue"
	"gosv/kernel/signal"
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
	r.set(unix.SYS_MQ_NOTIFY, call2("mq_notify", aFD, aAddr, sysMqNotify).partly("no SIGEV_THREAD, which takes a netlink socket"))
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
	const sigevSignal, sigevNone = 0, 1
	var n *mqueue.Notify
	if addr != 0 {
		b := t.Scratch[:abi.SizeofSigEvent]
		if err := copyIn(t, b, addr); err != nil {
			return 0, err
		}
		e := abi.GetSigEvent(b)
		switch {
		case e.Notify == sigevNone:
			n = &mqueue.Notify{PID: t.PID(), Send: func(*cred.Cred, int32) {}}
		case e.Notify == sigevSignal && signal.Valid(unix.Signal(e.Signo)):
			n = mqSignal(t.Process(), e)
		default:
			return 0, unix.EINVAL
		}
	}
	f, q, err := queue(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return done(q.SetNotify(n, t.PID()))
}

// mqSignal is a notification by signal.
func mqSignal(p *task.Process, e abi.SigEvent) *mqueue.Notify {
	const siMesgq = -3
	return &mqueue.Notify{PID: p.PID, Send: func(c *cred.Cred, pid int32) {
		var info signal.Info
		info.SetHead(unix.Signal(e.Signo), 0, siMesgq)
		info.SetSender(p.PIDs().Local(pid), c.UID)
		info.SetValue(e.Value)
		_ = p.Send(&info) // a full queue of signals loses it, as on Linux
	}}
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
