package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/async"
	"gosv/kernel/iouring"
	"gosv/kernel/mm"
	"gosv/kernel/socket"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Flags of sends and receives, in the ioprio.
const (
	recvPollFirst = 1 << 0
	recvMultishot = 1 << 1
	sendFixedBuf  = 1 << 2
)

// patient makes a request wait for a socket whether that has O_NONBLOCK or not, unless the call's flags say MSG_DONTWAIT.
func patient(q *iouring.Request, flags uint32, mask wait.Mask) {
	if flags&unix.MSG_DONTWAIT == 0 {
		q.Patient = mask
	}
}

// givenSock returns the request's socket with a reference to its file: ENOTSOCK.
func givenSock(t *task.Task) (*vfs.File, *socket.Socket, error) { return sock(t, task.GivenFD) }

// insistent makes a request with MSG_WAITALL on a stream go on, where a part has come or gone, until Whole has. call does what is behind Partial.
func insistent(q *iouring.Request, flags uint32, call async.Call) async.Call {
	if flags&unix.MSG_WAITALL == 0 || flags&unix.MSG_PEEK != 0 {
		return call
	}
	return func(t *task.Task) (uint64, error) {
		for {
			n, err := call(t)
			if err != nil {
				return 0, err
			}
			q.Partial += n
			if n == 0 || int64(q.Partial) >= q.Whole || !givenStream(t) {
				return q.Partial, nil
			}
		}
	}
}

// givenStream reports whether the request's file is a socket whose messages may come in parts.
func givenStream(t *task.Task) bool {
	f, s, err := givenSock(t)
	if err != nil {
		return false
	}
	f.DecRef()
	return s.Type == unix.SOCK_STREAM || s.Type == unix.SOCK_SEQPACKET
}

// zeroCopy checks the fields of sends that need not copy: the data is copied all the same, and the
// second completion follows at once. EINVAL, EFAULT.
func zeroCopy(q *iouring.Request) error {
	if q.Opcode != opSendZC && q.Opcode != opSendmsgZC {
		return ioprioOf(q, recvPollFirst)
	}
	if q.Addr3 != 0 || q.Pad != 0 || q.Flags&iouring.SkipSuccess != 0 {
		return unix.EINVAL
	}
	q.Notifies = true
	if q.Opcode == opSendmsgZC {
		return ioprioOf(q, recvPollFirst)
	}
	if q.Ioprio&sendFixedBuf != 0 {
		if err := q.Ring.CheckBuffer(q.Buf, q.Addr, uint64(q.Len)); err != nil {
			return err
		}
	}
	return ioprioOf(q, recvPollFirst|sendFixedBuf)
}

func ioprioOf(q *iouring.Request, known uint16) error {
	if q.Ioprio&^known != 0 {
		return unix.EINVAL
	}
	return nil
}

// mayZeroCopy refuses sockets that Linux refuses for sends without a copy: EOPNOTSUPP.
func mayZeroCopy(q *iouring.Request, s *socket.Socket) error {
	if _, ok := s.Ops().(socket.ZeroCopier); q.Notifies && !ok {
		return unix.EOPNOTSUPP
	}
	return nil
}

func (s *Calls) opSend(t *task.Task, q *iouring.Request) error {
	if err := zeroCopy(q); err != nil {
		return err
	}
	var o outgoing
	if q.Off != 0 {
		var err error
		if o.addr, err = address(t, q.Off, int32(uint16(q.FileIndex))); err != nil {
			return err
		}
	}
	patient(q, q.OpFlags, unix.POLLOUT)
	if q.OpFlags&unix.MSG_WAITALL != 0 {
		q.Whole = int64(q.Len)
	}
	q.Call = insistent(q, q.OpFlags, func(t *task.Task) (uint64, error) {
		f, k, err := givenSock(t)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if err := mayZeroCopy(q, k); err != nil {
			return 0, err
		}
		n, err := buffer(q.Addr, uint64(q.Len))
		if err != nil {
			return 0, err
		}
		t.IO.Set(t.Mem(), q.Addr+q.Partial, n-min(q.Partial, n))
		return o.send(t, f, k, q.OpFlags)
	})
	return nil
}

func (s *Calls) opRecv(_ *task.Task, q *iouring.Request) error {
	if q.Off != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	multi, err := receiving(q)
	if err != nil || multi && q.Len != 0 {
		return unix.EINVAL
	}
	recv := func(t *task.Task, addr, n uint64) (uint64, error) {
		return s.row(t, unix.SYS_RECVFROM, fd, addr+q.Partial, n-q.Partial, uint64(q.OpFlags))
	}
	if q.Flags&iouring.BufferSelect != 0 {
		want := func(*task.Task) (uint64, error) { return uint64(q.Len), nil }
		return selectingMessage(q, want, recv)
	}
	if q.OpFlags&unix.MSG_WAITALL != 0 {
		q.Whole = int64(q.Len)
	}
	q.Call = insistent(q, q.OpFlags, func(t *task.Task) (uint64, error) { return recv(t, q.Addr, uint64(q.Len)) })
	return nil
}

// receiving checks what receives have in common, and makes q wait: EINVAL.
func receiving(q *iouring.Request) (multi bool, err error) {
	multi = q.Ioprio&recvMultishot != 0
	if q.Ioprio&^(recvPollFirst|recvMultishot) != 0 || multi && (q.Flags&iouring.BufferSelect == 0 || q.OpFlags&unix.MSG_WAITALL != 0) {
		return multi, unix.EINVAL
	}
	patient(q, q.OpFlags, unix.POLLIN)
	q.KeepsEmpty = true
	if multi {
		q.More = func(v uint64) (uint32, bool) { return q.CQEFlags, v > 0 }
	}
	return multi, nil
}

// selectingMessage is selecting for receives.
func selectingMessage(q *iouring.Request, want func(*task.Task) (uint64, error), do func(t *task.Task, addr, n uint64) (uint64, error)) error {
	err := selecting(q, want, func(t *task.Task, addr, n uint64) (uint64, error) {
		if q.OpFlags&unix.MSG_WAITALL != 0 {
			q.Whole = int64(n)
		}
		return do(t, addr, n)
	})
	q.Call = insistent(q, q.OpFlags, q.Call)
	return err
}

// onceRead is what a msghdr says that was read when its request was first tried: the program may use that memory for something else then.
type onceRead struct {
	known bool
	data  []mm.Range // that is still to be sent or received
	out   outgoing   // of a send
	in    abi.Msghdr // of a receive
}

// keep notes what t.IO stands for.
func (o *onceRead) keep(t *task.Task, q *iouring.Request) {
	o.known, o.data = true, t.IO.Ranges()
	if q.OpFlags&unix.MSG_WAITALL != 0 {
		q.Whole = int64(t.IO.Left())
	}
}

// moved notes how far a try that moved n bytes came.
func (o *onceRead) moved(t *task.Task, n uint64, err error) (uint64, error) {
	if err == nil && n > 0 {
		o.data = t.IO.Ranges()
	}
	return n, err
}

func (s *Calls) opSendmsg(_ *task.Task, q *iouring.Request) error {
	if q.Off != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	if err := zeroCopy(q); err != nil {
		return err
	}
	patient(q, q.OpFlags, unix.POLLOUT)
	var o onceRead
	q.Call = insistent(q, q.OpFlags, func(t *task.Task) (uint64, error) {
		f, k, err := givenSock(t)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if err := mayZeroCopy(q, k); err != nil {
			return 0, err
		}
		if !o.known {
			if o.out, err = outgoingAt(t, q.Addr); err != nil {
				return 0, err
			}
			o.keep(t, q)
		}
		if q.Partial > 0 {
			o.out.control = nil // it went with the first part
		}
		t.IO.SetRanges(t.Mem(), o.data)
		n, err := o.out.send(t, f, k, q.OpFlags)
		return o.moved(t, n, err)
	})
	return nil
}

func (s *Calls) opRecvmsg(_ *task.Task, q *iouring.Request) error {
	if q.Off != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	multi, err := receiving(q)
	if err != nil {
		return err
	}
	var o onceRead
	if q.Flags&iouring.BufferSelect != 0 {
		return o.provided(q, multi)
	}
	q.Call = insistent(q, q.OpFlags, func(t *task.Task) (uint64, error) {
		f, k, err := givenSock(t)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if !o.known {
			if o.in, err = header(t, q.Addr); err != nil {
				return 0, err
			}
			o.keep(t, q)
		}
		t.IO.SetRanges(t.Mem(), o.data)
		n, err := receiveFor(t, f, k, &o.in, q.Addr, q.OpFlags)
		return o.moved(t, n, err)
	})
	return nil
}

// provided makes q receive a message into a provided buffer, or with multi as many as come, each with a struct io_uring_recvmsg_out before it.
func (o *onceRead) provided(q *iouring.Request, multi bool) error {
	limit := uint64(0)
	want := func(t *task.Task) (_ uint64, err error) {
		if o.known {
			return limit, nil
		}
		b := t.Scratch[:abi.SizeofMsghdr]
		if err := copyIn(t, b, q.Addr); err != nil {
			return 0, err
		}
		o.in = abi.GetMsghdr(b)
		switch {
		case multi && (o.in.Namelen < 0 || o.in.Controllen > 1<<31-1):
			return 0, unix.EOVERFLOW
		case o.in.Namelen < 0:
			return 0, unix.EINVAL
		case !multi && o.in.Iovlen > 0:
			if limit, err = onlyRange(t, o.in.Iov, o.in.Iovlen); err != nil {
				return 0, err
			}
		}
		if o.in.Name == 0 && !multi {
			o.in.Namelen = 0
		}
		o.known = true
		return limit, nil
	}
	return selectingMessage(q, want, func(t *task.Task, addr, n uint64) (uint64, error) {
		f, k, err := givenSock(t)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if multi {
			return o.withHeader(t, q, f, k, addr, n)
		}
		t.IO.Set(t.Mem(), addr+q.Partial, n-q.Partial)
		return receiveFor(t, f, k, &o.in, q.Addr, q.OpFlags)
	})
}

// sizeofRecvmsgOut is the size of a struct io_uring_recvmsg_out: the lengths of the name, the ancillary data and the
// payload, and flags. Room for the three follows it, as much as the msghdr says for the first two.
const sizeofRecvmsgOut = 16

// withHeader receives one message into a buffer of n bytes: EFAULT when that is too small.
func (o *onceRead) withHeader(t *task.Task, q *iouring.Request, f *vfs.File, k *socket.Socket, addr, n uint64) (uint64, error) {
	name, control := uint64(o.in.Namelen), o.in.Controllen
	head := sizeofRecvmsgOut + name + control
	if n < head {
		return 0, unix.EFAULT
	}
	q.More = func(v uint64) (uint32, bool) { return q.CQEFlags, v > head }
	m := message(t)
	m.Flags, m.Nonblock, m.WantAddr = int(q.OpFlags), nonblock(f, q.OpFlags), true
	t.IO.Set(t.Mem(), addr+head, n-head)
	v, err := receive(t, f, k, m, &t.IO)
	if err != nil {
		m.Drop()
		return 0, err
	}
	used, err := putControl(t, m, &abi.Msghdr{Control: addr + sizeofRecvmsgOut + name, Controllen: control})
	if err != nil {
		return 0, err
	}
	b := t.Scratch[:sizeofRecvmsgOut]
	le.PutUint32(b, uint32(len(m.Addr)))
	le.PutUint32(b[4:], uint32(used))
	le.PutUint32(b[8:], uint32(v))
	le.PutUint32(b[12:], uint32(m.Out)|q.OpFlags&unix.MSG_CMSG_CLOEXEC)
	if err := copyOut(t, addr, b); err != nil {
		return 0, err
	}
	if err := copyOut(t, addr+sizeofRecvmsgOut, m.Addr[:min(uint64(len(m.Addr)), name)]); err != nil {
		return 0, err
	}
	return head + min(v, n-head), nil
}
