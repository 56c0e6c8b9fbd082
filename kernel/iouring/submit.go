package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/task"
	"gosv/machine"
)

// Submit takes up to n submissions from the ring and starts them: how many were taken; EBADFD, EEXIST, EAGAIN when there is no room for another
// request. prepare looks at one.
func (r *Ring) Submit(t *task.Task, n uint32, prepare func(*task.Task, *Request) error) (done uint32, err error) {
	if r.Disabled() {
		return 0, unix.EBADFD
	}
	r.use(t.Delegate())
	r.submit.Lock()
	defer r.submit.Unlock()
	if r.flags&(SetupSingleIssuer|SetupSQPoll) == SetupSingleIssuer && r.issuer != t.TID() {
		return 0, unix.EEXIST
	}
	var head, last *Request
	for left := min(n, r.get(offSQTail)-r.sqHead, r.sqEntries); left > 0; left-- {
		if !r.admit() {
			if done == 0 {
				err = unix.EAGAIN
			}
			break
		}
		q := &Request{Ring: r}
		if !r.fetch(&q.SQE) { // a bad index is dropped
			r.refuse()
			continue
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

// admit takes the room for a request, which dismiss gives back, and reports whether there is any.
func (r *Ring) admit() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requests >= maxRequests || !share.Rings.Take(requestCost) {
		return false
	}
	r.requests++
	return true
}

// refuse gives back the room of one request.
func (r *Ring) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vacate()
}

// vacate is refuse with r.mu held.
//
// +checklocks:r.mu
func (r *Ring) vacate() {
	r.requests--
	share.Rings.Give(requestCost)
}

// dismiss gives back the room of q, which has ended, and of the timeout on it.
//
// +checklocks:r.mu
func (r *Ring) dismiss(q *Request) {
	r.vacate()
	if q.guard != nil {
		r.vacate()
	}
}

// fetch reads the next submission; false when the program's index for it is wrong.
//
// +checklocks:r.submit
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
	m, at := r.sqes[off/machine.PageSize], off%machine.PageSize
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
