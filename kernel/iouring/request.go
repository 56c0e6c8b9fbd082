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
	guarded *Request    // what a link timeout is on
	phase   atomic.Int32
	live    atomic.Bool // can be found
	timer   clock.Timer
	target  uint32 // of a timeout with a count
	counted bool   // has a count; of a link timeout: its timer was set
	fired   atomic.Bool
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

// Submit takes up to n submissions from the ring and starts them: how many were taken; EBADFD, EEXIST. prepare looks at one.
func (r *Ring) Submit(t *task.Task, n uint32, prepare func(*task.Task, *Request) error) (done uint32, err error) {
	r.mu.Lock()
	disabled := r.disabled
	r.mu.Unlock()
	if disabled {
		return 0, unix.EBADFD
	}
	r.use(t.Delegate())
	r.submit.Lock()
	defer r.submit.Unlock()
	if r.flags&(SetupSingleIssuer|SetupSQPoll) == SetupSingleIssuer {
		if r.issuer != t.TID() {
			return 0, unix.EEXIST
		}
	}
	var head, last *Request
	left := min(n, r.get(offSQTail)-r.sqHead, r.sqEntries)
	for ; left > 0; left-- {
		r.mu.Lock()
		full := len(r.active)+len(r.deferred) >= maxActive
		r.mu.Unlock()
		if full {
			if done == 0 {
				err = unix.EBUSY
			}
			break
		}
		q := &Request{Ring: r}
		if !r.fetch(&q.SQE) {
			continue // a bad index is dropped
		}
		done++
		q.op.Delegate, q.op.Cred = t.Delegate(), t.Cred()
		q.failure = r.check(t, q, last, prepare)
		if head == nil {
			head = q
		} else {
			if q.failure != nil && head.failure == nil {
				head.failure = unix.ECANCELED
			}
			last.append(q)
		}
		last = q
		failed := q.failure != nil
		if q.Flags&(Link|HardLink) == 0 {
			r.begin(t, head)
			head, last = nil, nil
		}
		if failed && r.flags&SetupSubmitAll == 0 {
			break
		}
	}
	if head != nil {
		r.begin(t, head) // a chain that the end of the batch closes
	}
	return done, err
}

// append puts q behind last, or makes it its link timeout.
func (last *Request) append(q *Request) {
	if last.Opcode == OpLinkTimeout && last.guarded != nil {
		last = last.guarded
	} else if q.Opcode == OpLinkTimeout {
		last.guard, q.guarded = q, last
		return
	}
	last.next = q
}

// fetch reads the next submission; false when the program's index for it is wrong. submit is held.
func (r *Ring) fetch(s *SQE) bool {
	i := r.get(r.offArray + 4*(r.sqHead&(r.sqEntries-1)))
	r.sqHead++
	if i >= r.sqEntries {
		r.put(offSQHead, r.sqHead)
		r.put(offSQDropped, r.get(offSQDropped)+1)
		return false
	}
	var b [sizeofSQE]byte
	off := uint64(i) * r.sqeSize
	m, at := r.sqes[off/4096], off%4096
	for w := range uint64(sizeofSQE / 8) {
		v := m.Load64(at + 8*w)
		for k := range uint64(8) {
			b[8*w+k] = byte(v >> (8 * k))
		}
	}
	r.put(offSQHead, r.sqHead)
	*s = getSQE(&b)
	return true
}

// check prepares q, which follows last in a chain if that is not nil.
func (r *Ring) check(t *task.Task, q, last *Request, prepare func(*task.Task, *Request) error) error {
	switch {
	case q.Flags&^allFlags != 0, q.Personality != 0:
		return unix.EINVAL
	case q.Opcode == OpLinkTimeout && (last == nil || last.Opcode == OpLinkTimeout):
		return unix.EINVAL
	}
	if err := r.restricted(&q.SQE); err != nil {
		return err
	}
	if r.flags&SetupIOPoll != 0 && !pollable[q.Opcode] {
		return unix.EINVAL
	}
	if err := prepare(t, q); err != nil {
		return err
	}
	if q.Opcode == OpTimeout && last != nil { // a timeout in a chain counts nothing
		q.Off = 0
	}
	return nil
}

// pollable are the operations that rings with SetupIOPoll take.
var pollable = [256]bool{0: true, 1: true, 2: true, 4: true, 5: true, 20: true, 22: true, 23: true, 31: true, 32: true, 40: true}

// IOPoll reports whether the ring is one for files that are asked whether they are ready.
func (r *Ring) IOPoll() bool { return r.flags&SetupIOPoll != 0 }

// Own makes t the one that submits, with SetupSingleIssuer.
func (r *Ring) Own(t *task.Task) {
	r.submit.Lock()
	r.issuer = t.TID()
	r.submit.Unlock()
}

// MayReap reports whether t may take completions: with SetupDeferTaskrun only who submits may. EEXIST.
func (r *Ring) MayReap(t *task.Task) error {
	if r.flags&SetupDeferTaskrun == 0 {
		return nil
	}
	r.submit.Lock()
	defer r.submit.Unlock()
	if r.issuer != t.TID() {
		return unix.EEXIST
	}
	return nil
}

// begin starts a chain, or leaves it for later when a drain is in the way. submit is held.
func (r *Ring) begin(t *task.Task, head *Request) {
	if head.failure != nil { // nothing of such a chain is done
		for n := head.next; n != nil; n = n.next {
			if n.failure == nil {
				n.failure = unix.ECANCELED
			}
		}
	}
	r.mu.Lock()
	if len(r.deferred) > 0 || r.draining > 0 || head.drains() && len(r.active) > 0 {
		r.deferred = append(r.deferred, head)
		r.mu.Unlock()
		return
	}
	r.enter(head)
	r.mu.Unlock()
	r.chain(t, head)
}

// drains reports whether one of a chain has Drain.
func (q *Request) drains() bool {
	for ; q != nil; q = q.next {
		if q.Flags&Drain != 0 {
			return true
		}
	}
	return false
}

// enter makes q active. r.mu is held.
func (r *Ring) enter(q *Request) {
	r.add(q)
	if q.drains() {
		r.draining++
		q.Flags |= Drain
	}
}

// add makes q active. r.mu is held.
func (r *Ring) add(q *Request) {
	r.active[q] = struct{}{}
	first := r.byData[q.UserData]
	q.same[0], q.same[1] = nil, first
	if first != nil {
		first.same[0] = q
	}
	r.byData[q.UserData] = q
}

// remove undoes add. r.mu is held.
func (r *Ring) remove(q *Request) {
	delete(r.active, q)
	before, after := q.same[0], q.same[1]
	if after != nil {
		after.same[0] = before
	}
	switch {
	case before != nil:
		before.same[1] = after
	case after != nil:
		r.byData[q.UserData] = after
	default:
		delete(r.byData, q.UserData)
	}
}

// chain starts q, which is active, and those behind it as long as they complete at once.
func (r *Ring) chain(t *task.Task, q *Request) {
	for q != nil {
		q.op.Init()
		if g := q.guard; g != nil && !g.counted {
			g.counted = true
			g.set(func() { g.op.Delegate.Go(g.strike) })
		}
		q.live.Store(true)
		q.start(t)
		if q.phase.CompareAndSwap(starting, pending) {
			return
		}
		q = q.next
	}
	r.undefer()
}

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

// sever cancels what follows q in its chain: without completions when q's is the only one that the program wants.
func (q *Request) sever(late bool) {
	if q.Flags&SkipSuccess != 0 {
		q.next = nil
	}
	for n := q.next; n != nil; n = n.next {
		res := -int32(unix.ECANCELED)
		if n.failure != nil && n.failure != unix.ECANCELED {
			res = result(0, n.failure, q.Ring.errno)
		}
		q.Ring.post(cqe{n.UserData, res, 0}, false, late)
		if g := n.guard; g != nil {
			q.Ring.post(cqe{g.UserData, -int32(unix.ECANCELED), 0}, true, late)
		}
	}
	q.next = nil
}

// proceed goes on after q, which completed after its start, and with what a drain held up.
func (q *Request) proceed() {
	r := q.Ring
	if q.next != nil {
		n := q.next
		n.op.Delegate.Go(func() { r.resume(n) })
		return
	}
	r.undefer()
}

// undefer starts chains that a drain held up and that may go now.
func (r *Ring) undefer() {
	for {
		r.mu.Lock()
		if len(r.deferred) == 0 || r.draining > 0 || r.deferred[0].drains() && len(r.active) > 0 {
			r.mu.Unlock()
			return
		}
		head := r.deferred[0]
		r.deferred = r.deferred[1:]
		r.enter(head)
		r.mu.Unlock()
		head.op.Delegate.Go(func() { r.resume(head) })
	}
}

// resume starts a chain with a task that the process lends.
func (r *Ring) resume(q *Request) {
	if err := q.op.Delegate.Do(q.op.Cred, func(t *task.Task) { r.chain(t, q) }); err != nil {
		q.failure = err
		q.complete(0, err)
		r.undefer()
	}
}
