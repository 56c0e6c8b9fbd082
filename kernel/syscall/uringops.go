package syscall

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/iouring"
	"gosv/kernel/task"
	"gosv/kernel/wait"
)

// A uringOp is an operation of io_uring(7).
type uringOp struct {
	// prepare says how a request is done: EINVAL. nil: there is no such operation.
	prepare func(s *Calls, t *task.Task, q *iouring.Request) error
	// file: the request is about a file. ioprio and buffers: it looks at the fields.
	file, ioprio, buffers bool
}

// uringOps are the operations by number (enum io_uring_op of Linux's io_uring.h).
var uringOps = [...]uringOp{
	0:  {prepare: (*Calls).opNop},
	1:  {prepare: (*Calls).opRW, file: true, ioprio: true, buffers: true},
	2:  {prepare: (*Calls).opRW, file: true, ioprio: true},
	3:  {prepare: (*Calls).opFsync, file: true},
	4:  {prepare: (*Calls).opRW, file: true, ioprio: true},
	5:  {prepare: (*Calls).opRW, file: true, ioprio: true},
	6:  {prepare: (*Calls).opPollAdd, file: true},
	7:  {prepare: (*Calls).opPollRemove},
	8:  {prepare: (*Calls).opSyncFileRange, file: true},
	9:  {prepare: (*Calls).opSendmsg, file: true, ioprio: true},
	10: {prepare: (*Calls).opRecvmsg, file: true, ioprio: true, buffers: true},
	11: {prepare: (*Calls).opTimeout},
	12: {prepare: (*Calls).opTimeoutRemove},
	13: {prepare: (*Calls).opAccept, file: true, ioprio: true},
	14: {prepare: (*Calls).opCancel},
	15: {prepare: (*Calls).opLinkTimeout},
	16: {prepare: (*Calls).opConnect, file: true},
	17: {prepare: (*Calls).opFallocate, file: true},
	18: {prepare: (*Calls).opOpenat},
	19: {prepare: (*Calls).opClose},
	20: {prepare: (*Calls).opFilesUpdate},
	21: {prepare: (*Calls).opStatx},
	22: {prepare: (*Calls).opRW, file: true, ioprio: true, buffers: true},
	23: {prepare: (*Calls).opRW, file: true, ioprio: true},
	24: {prepare: (*Calls).opFadvise, file: true},
	25: {prepare: (*Calls).opMadvise},
	26: {prepare: (*Calls).opSend, file: true, ioprio: true},
	27: {prepare: (*Calls).opRecv, file: true, ioprio: true, buffers: true},
	28: {prepare: (*Calls).opOpenat2},
	29: {prepare: (*Calls).opEpollCtl},
	30: {prepare: (*Calls).opSplice, file: true},
	31: {prepare: (*Calls).opProvideBuffers},
	32: {prepare: (*Calls).opRemoveBuffers},
	33: {prepare: (*Calls).opTee, file: true},
	34: {prepare: (*Calls).opShutdown, file: true},
	35: {prepare: (*Calls).opRenameat},
	36: {prepare: (*Calls).opUnlinkat},
	37: {prepare: (*Calls).opMkdirat},
	38: {prepare: (*Calls).opSymlinkat},
	39: {prepare: (*Calls).opLinkat},
	40: {prepare: (*Calls).opMsgRing, file: true},
	45: {prepare: (*Calls).opSocket},
	47: {prepare: (*Calls).opSend, file: true, ioprio: true},
	48: {prepare: (*Calls).opSendmsg, file: true, ioprio: true},
}

// Numbers of operations that share a preparation.
const (
	opReadv      = 1
	opWritev     = 2
	opReadFixed  = 4
	opWriteFixed = 5
	opRead       = 22
	opWrite      = 23
	opSendZC     = 47
	opSendmsgZC  = 48
)

// prepare is what Ring.Submit calls for each request: EINVAL.
func (s *Calls) prepare(t *task.Task, q *iouring.Request) error {
	if int(q.Opcode) >= len(uringOps) || uringOps[q.Opcode].prepare == nil {
		return unix.EINVAL
	}
	op := &uringOps[q.Opcode]
	if !op.ioprio && q.Ioprio != 0 || !op.buffers && q.Flags&iouring.BufferSelect != 0 {
		return unix.EINVAL
	}
	if !op.file && q.Flags&iouring.FixedFile != 0 {
		return unix.EBADF
	}
	q.NeedsFile = op.file
	return op.prepare(s, t, q)
}

// through makes a request a system call: by the row of its number, with the arguments in the registers.
func (s *Calls) through(q *iouring.Request, nr int, a ...uint64) {
	q.Call = func(t *task.Task) (uint64, error) { return s.row(t, nr, a...) }
}

// row makes a system call for t, whatever its registers are.
func (s *Calls) row(t *task.Task, nr int, a ...uint64) (uint64, error) {
	r := s.rows[nr]
	if r.call == nil {
		return 0, r.errno
	}
	c := t.Ctx
	saved := argsOf(c)
	defer setArgs(c, saved)
	var now args
	copy(now[:], a)
	setArgs(c, now)
	return r.call(t)
}

// fd is GivenFD in a register.
const fd = 1<<64 - 1<<30

func word(fd int32) uint64 { return uint64(int64(fd)) }

func (s *Calls) opNop(_ *task.Task, q *iouring.Request) error {
	q.Call = func(*task.Task) (uint64, error) { return 0, nil }
	return nil
}

func (s *Calls) opRW(t *task.Task, q *iouring.Request) error {
	write := q.Opcode == opWritev || q.Opcode == opWriteFixed || q.Opcode == opWrite
	vector := q.Opcode == opReadv || q.Opcode == opWritev
	rwf := q.OpFlags
	if rwf&^(rwfKnown|unix.RWF_NOWAIT) != 0 || q.Ring.IOPoll() {
		return unix.EOPNOTSUPP
	}
	// I/O priorities (ioprio_set(2)): a class, and a level in two of them.
	if class, level := q.Ioprio>>13, q.Ioprio&0x1fff; class > 3 || level > 7 || class == 0 && level != 0 {
		return unix.EINVAL
	}
	q.Nowait = rwf&unix.RWF_NOWAIT != 0
	addr, n, off := q.Addr, uint64(q.Len), int64(q.Off)
	if q.Opcode == opReadFixed || q.Opcode == opWriteFixed {
		if err := q.Ring.CheckBuffer(q.Buf, addr, n); err != nil {
			return err
		}
	}
	if !vector {
		q.Whole = int64(n)
	}
	q.Starting = slow
	if q.Flags&iouring.BufferSelect != 0 {
		q.Whole = 0
		want := func(*task.Task) (uint64, error) { return n, nil }
		if vector {
			want = func(t *task.Task) (uint64, error) { return onlyRange(t, addr, n) }
		}
		return selecting(q, want, func(t *task.Task, addr, n uint64) (uint64, error) {
			return transferCall(write, false, addr, n, off, rwf)(t)
		})
	}
	if vector { // the list is the program's to change once it is submitted
		list, err := ranges(t, addr, n)
		if err != nil {
			q.Call = func(*task.Task) (uint64, error) { return 0, err }
			return nil
		}
		copied := append([]iouring.Range(nil), list...)
		q.Call = func(t *task.Task) (uint64, error) {
			f, err := t.Given()
			if err != nil {
				return 0, err
			}
			defer f.DecRef()
			t.IO.SetRanges(t.Mem(), copied)
			return transferIO(t, f, write, off, rwf)
		}
		for _, v := range copied {
			q.Whole += int64(v.Len)
		}
		return nil
	}
	q.Call = transferCall(write, false, addr, n, off, rwf)
	return nil
}

// onlyRange returns the length of the one iovec at addr: EINVAL when there are more, EFAULT.
func onlyRange(t *task.Task, addr, count uint64) (uint64, error) {
	b := t.Scratch[:abi.SizeofIovec]
	if count != 1 {
		return 0, unix.EINVAL
	}
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	return abi.GetIovec(b).Len, nil
}

// selecting makes a request take a provided buffer when it is done, of at most so many bytes as want says, if that is not 0.
func selecting(q *iouring.Request, want func(*task.Task) (uint64, error), do func(t *task.Task, addr, n uint64) (uint64, error)) error {
	var b iouring.Buffer
	q.Call = func(t *task.Task) (uint64, error) {
		if q.Partial == 0 { // else it goes on with the one that it has
			limit, err := want(t)
			if err != nil {
				return 0, err
			}
			if b, err = q.Ring.Select(t, q.Buf); err != nil {
				return 0, err
			}
			if limit != 0 {
				b.Limit(limit)
			}
			q.CQEFlags = iouring.CQEBuffer | uint32(b.ID)<<iouring.CQEBufferShift
		}
		v, err := do(t, b.Addr, uint64(b.Len))
		if q.Partial == 0 && (err != nil || v == 0 && q.KeepsEmpty) {
			q.Ring.Unselect(q.Buf, b)
			q.CQEFlags = 0
		}
		return v, err
	}
	return nil
}

func (s *Calls) opFsync(_ *task.Task, q *iouring.Request) error {
	if q.OpFlags&^1 != 0 || q.Addr != 0 || q.Buf != 0 {
		return unix.EINVAL
	}
	q.Slow = true
	s.through(q, unix.SYS_FSYNC, fd)
	return nil
}

// Flags of polls, in the length.
const (
	pollMulti          = 1 << 0
	pollUpdateEvents   = 1 << 1
	pollUpdateUserData = 1 << 2
)

func (s *Calls) opPollAdd(_ *task.Task, q *iouring.Request) error {
	if q.Len&^pollMulti != 0 || q.Off != 0 || q.Addr != 0 {
		return unix.EINVAL
	}
	multi := q.Len&pollMulti != 0
	if multi && q.Flags&iouring.SkipSuccess != 0 {
		return unix.EINVAL
	}
	setPoll(q, wait.Mask(q.OpFlags), multi)
	return nil
}

// setPoll makes q wait for events.
func setPoll(q *iouring.Request, mask wait.Mask, multi bool) {
	mask = mask&^(unix.EPOLLET|unix.EPOLLONESHOT|unix.EPOLLEXCLUSIVE) | unix.POLLERR | unix.POLLHUP
	q.Poll = iouring.PollArgs{Is: true, Mask: mask, Multi: multi}
	q.Call = pollCall(mask)
	q.More, q.Edge, q.Patient = nil, false, 0
	if multi {
		q.Edge, q.Patient = true, mask
		q.More = func(uint64) (uint32, bool) { return 0, true }
	}
}

func (s *Calls) opPollRemove(_ *task.Task, q *iouring.Request) error {
	flags := q.Len
	if flags&^(pollMulti|pollUpdateEvents|pollUpdateUserData) != 0 || q.Buf != 0 || q.FileIndex != 0 || flags == pollMulti {
		return unix.EINVAL
	}
	update := flags&(pollUpdateEvents|pollUpdateUserData) != 0
	if !update && q.Off != 0 {
		return unix.EINVAL
	}
	q.Call = func(t *task.Task) (uint64, error) {
		if !update {
			return done(q.Ring.RemovePoll(q.Addr))
		}
		return done(q.Ring.UpdatePoll(t, q.Addr, func(p *iouring.Request) {
			mask, multi := p.Poll.Mask, p.Poll.Multi
			if flags&pollUpdateEvents != 0 {
				mask, multi = wait.Mask(q.OpFlags), flags&pollMulti != 0
			}
			if flags&pollUpdateUserData != 0 {
				p.UserData = q.Off
			}
			setPoll(p, mask, multi)
		}))
	}
	return nil
}

func (s *Calls) opSyncFileRange(_ *task.Task, q *iouring.Request) error {
	if q.Addr != 0 || q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	q.Slow = true
	s.through(q, unix.SYS_SYNC_FILE_RANGE, fd, q.Off, uint64(q.Len), uint64(q.OpFlags))
	return nil
}

// The kinds of struct __kernel_timespec that a timeout may have.
const clockFlags = iouring.TimeoutBoottime | iouring.TimeoutRealtime

// timeout reads the time of a timeout: EINVAL, EFAULT.
func timeout(t *task.Task, q *iouring.Request, addr uint64) error {
	ts, err := lTimespec.load(t, addr)
	if err != nil {
		return err
	}
	if ts.Sec < 0 || ts.Nsec < 0 {
		return unix.EINVAL
	}
	q.Timeout = iouring.Timeout{NS: abi.TimespecToNsec(ts), Flags: q.OpFlags}
	return nil
}

func (s *Calls) opTimeout(t *task.Task, q *iouring.Request) error {
	const known = iouring.TimeoutAbs | clockFlags | iouring.TimeoutEtimeSuccess
	if q.Len != 1 || q.Buf != 0 || q.FileIndex != 0 || q.OpFlags&^known != 0 || q.OpFlags&clockFlags == clockFlags {
		return unix.EINVAL
	}
	return timeout(t, q, q.Addr)
}

func (s *Calls) opLinkTimeout(t *task.Task, q *iouring.Request) error {
	if q.Off != 0 {
		return unix.EINVAL
	}
	if err := s.opTimeout(t, q); err != nil {
		return err
	}
	q.Call = func(*task.Task) (uint64, error) { return 0, unix.ECANCELED }
	return nil
}

func (s *Calls) opTimeoutRemove(t *task.Task, q *iouring.Request) error {
	if q.Len != 0 || q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	if q.OpFlags&(iouring.TimeoutUpdate|iouring.LinkTimeoutUpdate) == 0 {
		if q.OpFlags != 0 {
			return unix.EINVAL
		}
		q.Call = func(*task.Task) (uint64, error) { return done(q.Ring.RemoveTimeout(q.Addr)) }
		return nil
	}
	if q.OpFlags&^(iouring.TimeoutUpdate|iouring.LinkTimeoutUpdate|iouring.TimeoutAbs|clockFlags) != 0 || q.OpFlags&clockFlags == clockFlags {
		return unix.EINVAL
	}
	if err := timeout(t, q, q.Off); err != nil {
		return err
	}
	q.Timeout.Flags &= iouring.TimeoutAbs | clockFlags
	q.Call = func(*task.Task) (uint64, error) {
		return done(q.Ring.UpdateTimeout(q.Addr, q.Timeout, q.OpFlags&iouring.LinkTimeoutUpdate != 0))
	}
	return nil
}

func (s *Calls) opCancel(_ *task.Task, q *iouring.Request) error {
	const known = iouring.CancelAll | iouring.CancelFD | iouring.CancelAny | iouring.CancelFDFixed
	if q.Off != 0 || q.Len != 0 || q.FileIndex != 0 || q.OpFlags&^known != 0 ||
		q.OpFlags&iouring.CancelAny != 0 && q.OpFlags&iouring.CancelFD != 0 {
		return unix.EINVAL
	}
	q.Call = func(t *task.Task) (uint64, error) { return q.Ring.Cancel(t, q, q.Addr, q.FD, q.OpFlags) }
	return nil
}

// fileIndexAlloc is IORING_FILE_INDEX_ALLOC: a free slot, whichever.
const fileIndexAlloc = 1<<32 - 1

// direct makes the descriptor that a call returned one of the ring's registered files, when the submission asks for that.
func direct(q *iouring.Request, t *task.Task, v uint64, err error) (uint64, error) {
	if err != nil || q.FileIndex == 0 {
		return v, err
	}
	f, err := t.Files.Get(int(int32(v)))
	if err != nil {
		return 0, err
	}
	if err = t.Files.Close(int(int32(v))); err == nil {
		if q.FileIndex == fileIndexAlloc {
			var slot uint32
			slot, err = q.Ring.InstallFile(f)
			v = uint64(slot)
		} else {
			err = q.Ring.SetFile(q.FileIndex-1, f)
			v = 0
		}
	}
	if err != nil {
		f.DecRef()
	}
	return v, err
}

const acceptMultishot = 1

func (s *Calls) opAccept(_ *task.Task, q *iouring.Request) error {
	if q.Len != 0 || q.Buf != 0 || q.Ioprio&^acceptMultishot != 0 || q.FileIndex != 0 && q.OpFlags&unix.SOCK_CLOEXEC != 0 {
		return unix.EINVAL
	}
	if q.Ioprio&acceptMultishot != 0 {
		if q.FileIndex != 0 && q.FileIndex != fileIndexAlloc {
			return unix.EINVAL
		}
		q.More = func(uint64) (uint32, bool) { return 0, true }
	}
	q.Patient = unix.POLLIN
	q.Call = func(t *task.Task) (uint64, error) {
		v, err := s.row(t, unix.SYS_ACCEPT4, fd, q.Addr, q.Off, uint64(q.OpFlags))
		return direct(q, t, v, err)
	}
	return nil
}

func (s *Calls) opConnect(_ *task.Task, q *iouring.Request) error {
	if q.Len != 0 || q.Buf != 0 || q.OpFlags != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	q.Patient = unix.POLLOUT
	begun := false
	q.Call = func(t *task.Task) (uint64, error) {
		v, err := s.row(t, unix.SYS_CONNECT, fd, q.Addr, q.Off)
		switch {
		case err == unix.EINPROGRESS || err == unix.EALREADY:
			begun, err = true, unix.EAGAIN
		case err == task.ErrWouldWait:
			begun = true
		case err == unix.EISCONN && begun:
			err = nil
		}
		return v, err
	}
	return nil
}

func (s *Calls) opFallocate(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.OpFlags != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	q.Slow = true
	s.through(q, unix.SYS_FALLOCATE, fd, uint64(q.Len), q.Off, q.Addr)
	return nil
}

func (s *Calls) opOpenat(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.FileIndex != 0 && q.OpFlags&unix.O_CLOEXEC != 0 {
		return unix.EINVAL
	}
	q.Call = func(t *task.Task) (uint64, error) {
		v, err := s.row(t, unix.SYS_OPENAT, word(q.FD), q.Addr, uint64(q.OpFlags), uint64(q.Len))
		return direct(q, t, v, err)
	}
	return nil
}

func (s *Calls) opOpenat2(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 {
		return unix.EINVAL
	}
	q.Call = func(t *task.Task) (uint64, error) {
		v, err := s.row(t, unix.SYS_OPENAT2, word(q.FD), q.Addr, q.Off, uint64(q.Len))
		return direct(q, t, v, err)
	}
	return nil
}

func (s *Calls) opClose(_ *task.Task, q *iouring.Request) error {
	if q.Off != 0 || q.Addr != 0 || q.Len != 0 || q.OpFlags != 0 || q.Buf != 0 || q.FileIndex != 0 && q.FD != 0 {
		return unix.EINVAL
	}
	if q.FileIndex != 0 {
		q.Call = func(*task.Task) (uint64, error) { return done(q.Ring.CloseFile(q.FileIndex - 1)) }
		return nil
	}
	q.Call = func(t *task.Task) (uint64, error) {
		f, err := file(t, q.FD)
		if err != nil {
			return 0, err
		}
		_, isRing := iouring.Of(f)
		f.DecRef()
		if isRing == nil {
			return 0, unix.EBADF
		}
		return sysClose(t, q.FD)
	}
	return nil
}

func (s *Calls) opFilesUpdate(_ *task.Task, q *iouring.Request) error {
	if q.OpFlags != 0 || q.FileIndex != 0 || q.Len == 0 {
		return unix.EINVAL
	}
	q.Call = func(t *task.Task) (uint64, error) {
		if uint32(q.Off) == fileIndexAlloc {
			return installFiles(t, q.Ring, q.Addr, q.Len)
		}
		return setFiles(t, q.Ring, uint32(q.Off), q.Addr, q.Len)
	}
	return nil
}

func (s *Calls) opStatx(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_STATX, word(q.FD), q.Addr, uint64(q.OpFlags), uint64(q.Len), q.Off)
	return nil
}

func (s *Calls) opFadvise(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.Addr != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_FADVISE64, fd, q.Off, uint64(q.Len), uint64(q.OpFlags))
	return nil
}

func (s *Calls) opMadvise(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.Off != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_MADVISE, q.Addr, uint64(q.Len), uint64(q.OpFlags))
	return nil
}

func (s *Calls) opEpollCtl(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_EPOLL_CTL, word(q.FD), uint64(q.Len), q.Off, q.Addr)
	return nil
}

const spliceFixedIn = 1 << 31

// pair runs do with the descriptor of a splice's source, which may be a registered file.
func (s *Calls) pair(q *iouring.Request, do func(t *task.Task, in uint64) (uint64, error)) error {
	if q.OpFlags&^(spliceAll|spliceFixedIn) != 0 || q.Buf != 0 {
		return unix.EINVAL
	}
	q.Slow = true
	in := int32(q.FileIndex)
	q.Call = func(t *task.Task) (uint64, error) {
		if q.OpFlags&spliceFixedIn == 0 {
			return do(t, word(in))
		}
		f, err := q.Ring.File(in)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		return t.With(f, func() (uint64, error) { return do(t, word(task.OtherFD)) })
	}
	return nil
}

func (s *Calls) opSplice(_ *task.Task, q *iouring.Request) error {
	return s.pair(q, func(t *task.Task, in uint64) (uint64, error) {
		from, to := position{value: int64(q.Addr), given: q.Addr != 1<<64-1}, position{value: int64(q.Off), given: q.Off != 1<<64-1}
		return splice(t, int32(in), from, task.GivenFD, to, uint64(q.Len), q.OpFlags&^spliceFixedIn)
	})
}

func (s *Calls) opTee(_ *task.Task, q *iouring.Request) error {
	if q.Addr != 0 || q.Off != 0 {
		return unix.EINVAL
	}
	return s.pair(q, func(t *task.Task, in uint64) (uint64, error) {
		return sysTee(t, int32(in), task.GivenFD, uint64(q.Len), q.OpFlags&^spliceFixedIn)
	})
}

func (s *Calls) opShutdown(_ *task.Task, q *iouring.Request) error {
	if q.Off != 0 || q.Addr != 0 || q.OpFlags != 0 || q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_SHUTDOWN, fd, uint64(q.Len))
	return nil
}

func (s *Calls) opRenameat(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_RENAMEAT2, word(q.FD), q.Addr, word(int32(q.Len)), q.Off, uint64(q.OpFlags))
	return nil
}

func (s *Calls) opUnlinkat(_ *task.Task, q *iouring.Request) error {
	if q.Off != 0 || q.Len != 0 || q.Buf != 0 || q.FileIndex != 0 || q.OpFlags&^unix.AT_REMOVEDIR != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_UNLINKAT, word(q.FD), q.Addr, uint64(q.OpFlags))
	return nil
}

func (s *Calls) opMkdirat(_ *task.Task, q *iouring.Request) error {
	if q.Off != 0 || q.OpFlags != 0 || q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_MKDIRAT, word(q.FD), q.Addr, uint64(q.Len))
	return nil
}

func (s *Calls) opSymlinkat(_ *task.Task, q *iouring.Request) error {
	if q.Len != 0 || q.OpFlags != 0 || q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_SYMLINKAT, q.Addr, word(q.FD), q.Off)
	return nil
}

func (s *Calls) opLinkat(_ *task.Task, q *iouring.Request) error {
	if q.Buf != 0 || q.FileIndex != 0 {
		return unix.EINVAL
	}
	s.through(q, unix.SYS_LINKAT, word(q.FD), q.Addr, word(int32(q.Len)), q.Off, uint64(q.OpFlags))
	return nil
}

func (s *Calls) opSocket(_ *task.Task, q *iouring.Request) error {
	if q.Addr != 0 || q.OpFlags != 0 || q.Buf != 0 || q.FileIndex != 0 && q.Off&unix.SOCK_CLOEXEC != 0 {
		return unix.EINVAL
	}
	q.Call = func(t *task.Task) (uint64, error) {
		v, err := s.row(t, unix.SYS_SOCKET, word(q.FD), q.Off, uint64(q.Len))
		return direct(q, t, v, err)
	}
	return nil
}

// Of IORING_OP_MSG_RING: what is sent, in the address, and that a file comes without a completion.
const (
	msgData    = 0
	msgSendFD  = 1
	msgCQESkip = 1
)

// opMsgRing is IORING_OP_MSG_RING: a message to another ring, or a registered file for it.
func (s *Calls) opMsgRing(_ *task.Task, q *iouring.Request) error {
	sendsFile := q.Addr == msgSendFD
	if q.Buf != 0 || q.Addr != msgData && !sendsFile || q.OpFlags&^msgCQESkip != 0 || !sendsFile && (q.OpFlags != 0 || q.FileIndex != 0 || q.Addr3 != 0) {
		return unix.EINVAL
	}
	q.Call = func(t *task.Task) (uint64, error) {
		f, err := t.Given()
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		other, err := iouring.Of(f)
		if err != nil {
			return 0, unix.EBADFD
		}
		if sendsFile {
			return sendFile(q, other)
		}
		return done(other.Post(q.Off, int32(q.Len)))
	}
	return nil
}

// sendFile sends one of the ring's registered files to another ring.
func sendFile(q *iouring.Request, to *iouring.Ring) (uint64, error) {
	if to == q.Ring || q.FileIndex == 0 {
		return 0, unix.EINVAL
	}
	if q.Addr3 > math.MaxInt32 {
		return 0, unix.EBADF
	}
	f, err := q.Ring.File(int32(q.Addr3))
	if err != nil {
		return 0, err
	}
	n, err := to.SendFile(f, q.FileIndex-1, q.FileIndex == fileIndexAlloc, q.Off, int32(q.Len), q.OpFlags&msgCQESkip == 0)
	return uint64(n), err
}

func (s *Calls) opProvideBuffers(_ *task.Task, q *iouring.Request) error {
	n := q.FD
	if n <= 0 || n > 1<<16 || q.OpFlags != 0 || q.FileIndex != 0 || q.Off > 0xffff || q.Off+uint64(n) > 1<<16 || q.Len == 0 {
		return unix.EINVAL
	}
	if size := uint64(n) * uint64(q.Len); q.Addr+size < q.Addr || q.Addr+size > 1<<47 {
		return unix.EFAULT
	}
	q.Call = func(*task.Task) (uint64, error) {
		return done(q.Ring.Provide(q.Buf, q.Addr, q.Len, uint16(q.Off), int(n)))
	}
	return nil
}

func (s *Calls) opRemoveBuffers(_ *task.Task, q *iouring.Request) error {
	if q.FD <= 0 || q.FD > 1<<16 || q.OpFlags != 0 || q.FileIndex != 0 || q.Addr != 0 || q.Off != 0 || q.Len != 0 {
		return unix.EINVAL
	}
	q.Call = func(*task.Task) (uint64, error) { return q.Ring.Unprovide(q.Buf, int(q.FD)) }
	return nil
}
