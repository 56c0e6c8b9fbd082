package iouring

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/async"
	"gosv/kernel/clock"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// A Request is one submission. Its exported fields belong to who prepares it, until it starts.
type Request struct {
	SQE
	Ring *Ring

	// Call does the work; nil for timeouts. The other fields are those of async.Op.
	Call    async.Call
	More    func(v uint64) (flags uint32, ok bool)
	Edge    bool
	Slow    bool
	Patient wait.Mask
	Nowait  bool
	// NeedsFile makes GivenFD in Call stand for the submission's file.
	NeedsFile bool
	// Starting, if not nil, tells whether the request is slow on the file that NeedsFile found.
	Starting func(*vfs.File) (slow bool)
	// Whole is the result with which a request is complete, if it has one: less breaks a chain.
	Whole int64
	// CQEFlags go into the completion of a success.
	CQEFlags uint32
	// Partial is how much of it is done while it waits for the rest: an error then is the end, and no failure.
	Partial uint64
	// KeepsEmpty: a provided buffer into which nothing came stays provided.
	KeepsEmpty bool
	// Notifies: a second completion tells that the program may change what was sent.
	Notifies bool
	// Timeout is for OpTimeout and OpLinkTimeout.
	Timeout Timeout
	// Poll is for poll requests.
	Poll PollArgs

	op      async.Op
	failure error       // of the preparation
	next    *Request    // in the chain
	same    [2]*Request // before and behind it among those with its user data; guarded by Ring.mu
	guard   *Request    // the link timeout on it
	guarded *Request    // what a link timeout is on; guarded by Ring.mu once that has started
	phase   atomic.Int32
	live    atomic.Bool // can be found
	timer   clock.Timer // changed under Ring.timing
	armed   bool        // of a link timeout: its timer was set
	target  uint32      // of a timeout with a count: it ends when Ring.posted is there
	fired   atomic.Bool // of both kinds of timeouts: it ends
}

// PollArgs are what a poll request waits for.
type PollArgs struct {
	Is    bool
	Mask  wait.Mask
	Multi bool
}

// Phases of a request's start.
const (
	starting = iota
	pending
	completed
)

// start starts q on t.
func (q *Request) start(t *task.Task) {
	switch {
	case q.failure != nil:
		q.complete(0, q.failure)
		return
	case q.Opcode == OpTimeout:
		q.startTimeout()
		return
	}
	o := &q.op
	if q.NeedsFile {
		f, err := q.Ring.res.file(t, q.FD, q.Flags&FixedFile != 0)
		if err != nil {
			q.complete(0, err)
			return
		}
		o.File = f
	}
	o.Call, o.Edge, o.Patient, o.Nowait = q.Call, q.Edge, q.Patient, q.Nowait
	o.Slow = q.Slow || q.Flags&Async != 0 || q.Starting != nil && q.Starting(o.File)
	o.Done = q.complete
	if q.More != nil {
		o.More = func(v uint64) bool {
			flags, ok := q.More(v)
			return ok && q.Ring.postIfRoom(cqe{q.UserData, int32(v), flags | CQEMore}, q.phase.Load() != starting)
		}
	}
	o.Start(t)
}

// result is what a completion tells of v and err.
func result(v uint64, err error, errno func(error) unix.Errno) int32 {
	if err == nil {
		return int32(v)
	}
	switch e := errno(err); e {
	case abi.ERESTARTSYS, abi.ERESTARTNOINTR, abi.ERESTARTNOHAND, abi.ERESTART_RESTARTBLOCK:
		return -int32(unix.EINTR)
	default:
		return -int32(e)
	}
}

// complete ends q.
func (q *Request) complete(v uint64, err error) {
	if err != nil && q.Partial > 0 {
		v, err = q.Partial, nil
	}
	res := result(v, err, q.Ring.errno)
	flags := uint32(0)
	if err == nil {
		flags = q.CQEFlags
	}
	q.finish(res, flags, res < 0 || q.Whole > 0 && int64(res) < q.Whole)
}

// finish posts the completion, and ends or goes on with the chain.
func (q *Request) finish(res int32, flags uint32, failed bool) {
	r := q.Ring
	timeout := q.Opcode == OpTimeout || q.Opcode == OpLinkTimeout
	late := q.phase.Load() != starting
	notifies := q.Notifies && q.failure == nil
	if notifies {
		flags |= CQEMore
	}
	if q.Flags&SkipSuccess == 0 || failed {
		r.post(cqe{q.UserData, res, flags}, timeout, late)
	}
	if notifies { // the data was copied
		r.post(cqe{q.UserData, 0, CQENotif}, true, late)
	}
	if q.guard != nil {
		q.guard.unwatch()
	}
	if failed && q.Flags&HardLink == 0 {
		q.sever(late)
	}
	r.mu.Lock()
	r.remove(q)
	r.dismiss(q)
	if n := q.next; n != nil {
		r.add(n)
		n.Flags |= q.Flags & Drain // the chain drains until its end
	} else if q.Flags&Drain != 0 {
		r.draining--
	}
	r.mu.Unlock()
	if q.phase.Swap(completed) == pending {
		q.proceed()
	}
}
