package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// cancel ends q, which is active: nil when it was completed with ECANCELED; EALREADY, ENOENT.
func (q *Request) cancel() error {
	if q.Opcode == OpTimeout {
		if q.timedOut(-int32(unix.ECANCELED)) {
			return nil
		}
		return unix.ENOENT
	}
	return q.op.Cancel()
}

// cancelAll ends all that match.
func (r *Ring) cancelAll(match func(*Request) bool) {
	for _, q := range r.find(match) {
		_ = q.cancel() // what runs ends by itself
	}
}

// Flags of IORING_OP_ASYNC_CANCEL.
const (
	CancelAll     = 1 << 0
	CancelFD      = 1 << 1
	CancelAny     = 1 << 2
	CancelFDFixed = 1 << 3
)

// Cancel is IORING_OP_ASYNC_CANCEL for the requests with that user data, or those on a file: how many, with CancelAll or CancelAny; ENOENT, EALREADY,
// EBADF. self is not among them.
func (r *Ring) Cancel(t *task.Task, self *Request, userData uint64, fd int32, flags uint32) (uint64, error) {
	var f *vfs.File
	if flags&CancelFD != 0 {
		var err error
		if f, err = r.res.file(t, fd, flags&CancelFDFixed != 0); err != nil {
			return 0, err
		}
		defer f.DecRef()
	}
	list := r.with(userData, func(q *Request) bool { return q != self })
	if flags&CancelAny != 0 || f != nil {
		list = r.find(func(q *Request) bool {
			return q != self && (f == nil || q.op.File == f)
		})
	}
	all := flags&(CancelAll|CancelAny) != 0
	n := uint64(0)
	for _, q := range list {
		e := q.cancel()
		if e == unix.ENOENT { // it has ended meanwhile
			continue
		}
		if !all {
			return 0, e
		}
		n++
	}
	if all {
		return n, nil
	}
	return 0, unix.ENOENT
}

// RemovePoll cancels the poll request with that user data: ENOENT, EALREADY.
func (r *Ring) RemovePoll(userData uint64) error {
	if list := r.with(userData, func(q *Request) bool { return q.Poll.Is }); len(list) > 0 {
		return list[0].cancel()
	}
	return unix.ENOENT
}

// UpdatePoll changes a poll request on its way: ENOENT, EALREADY. change makes what it is to be.
func (r *Ring) UpdatePoll(t *task.Task, userData uint64, change func(*Request)) error {
	list := r.with(userData, func(q *Request) bool { return q.Poll.Is })
	if len(list) == 0 {
		return unix.ENOENT
	}
	q := list[0]
	f, err := q.op.Withdraw()
	if err != nil {
		return err
	}
	n := &Request{SQE: q.SQE, Ring: r, CQEFlags: q.CQEFlags, Poll: q.Poll, next: q.next, guard: q.guard}
	n.op.Delegate, n.op.Cred, n.op.File = q.op.Delegate, q.op.Cred, f
	change(n)
	r.mu.Lock()
	r.remove(q) // whose room n takes over
	r.add(n)
	if n.guard != nil {
		n.guard.guarded = n
	}
	r.mu.Unlock()
	r.chain(t, n)
	return nil
}
