package futex

import (
	"errors"

	"golang.org/x/sys/unix"
)

// A PI futex word holds its owner's thread ID, 0 when it is free. The kernel hands the word over to the waiter of the highest priority,
// and nobody can overtake that.

// errChanged: the word is not what it was.
var errChanged = errors.New("futex: word changed")

// Find returns the thread with the ID in the caller's namespace, nil when there is none.
type Find func(tid uint32) *Thread

// LockPI takes the word for wt's thread, which has the ID tid, or else enqueues wt and returns locked=false; the
// caller then sleeps until Woken, which means that it owns the word.
// EDEADLK when it owns it already, or who does waits for it; ESRCH when the owner does not exist, EINVAL when others wait for it otherwise, or for
// another owner, EAGAIN when it is taken and try is set, ErrFault.
func (t *Table) LockPI(wt *Waiter, w *Word, tid uint32, try bool, find Find) (locked bool, err error) {
	b := t.bucket(&w.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		locked, err = t.take(b, wt, w, tid, try, false, find)
		if err != errChanged {
			break
		}
	}
	if err != nil || locked {
		return locked, err
	}
	wt.key, wt.bitset, wt.priority, wt.toPI = w.Key, MatchAny, wt.own(), false
	b.waiting.Add(1)
	b.insert(wt)
	return false, nil
}

// take takes the word for wt's thread if it is free, and else makes the thread wait for its owner, but for the queue; more says that others
// wait with wt. errChanged says that it is to be called again. b.mu, the lock of w's bucket, is held.
//
// +checklocks:b.mu
func (t *Table) take(b *bucket, wt *Waiter, w *Word, tid uint32, try, more bool, find Find) (got bool, err error) {
	v, ok := w.Space.Load32(w.Addr)
	if !ok {
		return false, ErrFault
	}
	var owner *Thread
	switch id := v & TIDMask; {
	case id == tid:
		return false, unix.EDEADLK
	case id == 0:
	case try:
		return false, unix.EAGAIN
	default:
		owner = find(id)
	}
	m, err := b.mutex(&w.Key)
	if err != nil {
		return false, err
	}
	t.graph.mu.Lock()
	defer t.graph.mu.Unlock()
	if v&TIDMask == 0 {
		next := tid | v&OwnerDied
		if more || m != nil {
			next |= Waiters
		}
		if err := w.swap(v, next); err != nil {
			return false, err
		}
		if m != nil {
			m.give(wt.Thread)
		}
		return true, nil
	}
	switch {
	case owner == nil || owner.gone:
		if now, ok := w.Space.Load32(w.Addr); ok && now != v {
			return false, errChanged
		}
		return false, unix.ESRCH
	case m != nil && m.owner != owner:
		return false, unix.EINVAL
	}
	if err := mayWait(wt.Thread, owner); err != nil {
		return false, err
	}
	if err := w.swap(v, v|Waiters); err != nil {
		return false, err
	}
	if m == nil {
		m = &mutex{key: w.Key, owner: owner}
	}
	wt.pi, wt.retry, wt.tid, wt.space, wt.addr = true, false, tid, w.Space, w.Addr
	m.wait(wt)
	return false, nil
}

// swap changes the word: ErrFault, errChanged when it is not v.
func (w *Word) swap(v, next uint32) error {
	found, ok := w.Space.CompareAndSwap32(w.Addr, v, next)
	switch {
	case !ok:
		return ErrFault
	case found != v:
		return errChanged
	}
	return nil
}

// mutex returns what those wait for who wait for k, nil when nobody does: EINVAL when they wait without PI. b.mu is held.
//
// +checklocks:b.mu
func (b *bucket) mutex(k *Key) (*mutex, error) {
	w := b.first(k)
	switch {
	case w == nil:
		return nil, nil
	case !w.pi:
		return nil, unix.EINVAL
	}
	return w.mutex, nil
}

// UnlockPI hands the word that the thread tid owns over to the waiter of the highest priority, or frees it.
// EPERM when tid does not own it, EINVAL when others wait on it without PI, or for another owner, ErrFault.
func (t *Table) UnlockPI(w *Word, th *Thread, tid uint32) error {
	b := t.bucket(&w.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		v, ok := w.Space.Load32(w.Addr)
		if !ok {
			return ErrFault
		}
		if v&TIDMask != tid {
			return unix.EPERM
		}
		if err := t.handOver(b, w, th, v, 0); err != errChanged {
			return err
		}
	}
}

// OwnerGone is called when the thread tid ends and a robust list names
// the PI word w: it hands the word over, marked FUTEX_OWNER_DIED. Without a waiter
// for w's key it does nothing and reports false, unless free is set.
func (t *Table) OwnerGone(w *Word, th *Thread, tid uint32, free bool) (done bool, err error) {
	b := t.bucket(&w.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !free && b.first(&w.Key) == nil {
		return false, nil
	}
	for {
		v, ok := w.Space.Load32(w.Addr)
		if !ok {
			return false, ErrFault
		}
		if v&TIDMask != tid {
			return true, nil
		}
		if err := t.handOver(b, w, th, v, OwnerDied); err != errChanged {
			return err == nil, err
		}
	}
}

// handOver changes the word from v, which names th, to its next owner's, with extra bits, and
// wakes that: errChanged when it was not v any more. b.mu is held.
//
// +checklocks:b.mu
func (t *Table) handOver(b *bucket, w *Word, th *Thread, v, extra uint32) error {
	m, err := b.mutex(&w.Key)
	if err != nil {
		return err
	}
	if m == nil {
		return w.swap(v, extra)
	}
	t.graph.mu.Lock()
	defer t.graph.mu.Unlock()
	if m.owner != th {
		return unix.EINVAL
	}
	return t.pass(b, m, w, v, extra)
}

// pass hands m over, whose word is v. b.mu and graph.mu are held.
func (t *Table) pass(b *bucket, m *mutex, w *Word, v, extra uint32) error {
	next := m.waiters[0]
	to := next.tid | extra
	if len(m.waiters) > 1 {
		to |= Waiters
	}
	if err := w.swap(v, to); err != nil {
		return err
	}
	m.give(nil)
	m.leave(next)
	m.give(next.Thread)
	b.release(next)
	return nil
}

// Leave is called when th ends, or its program, after its robust list: what it still owns and others wait for goes to them, marked
// FUTEX_OWNER_DIED (Linux's exit_pi_state_list). end says that it shall never own anything again.
func (t *Table) Leave(th *Thread, end bool) {
	for {
		t.graph.mu.Lock()
		if len(th.held) == 0 {
			th.gone = end
			t.graph.mu.Unlock()
			return
		}
		k := th.held[0].key
		t.graph.mu.Unlock()
		t.abandon(th, &k)
	}
}

// abandon hands the word k over if th owns it.
func (t *Table) abandon(th *Thread, k *Key) {
	b := t.bucket(k)
	b.mu.Lock()
	defer b.mu.Unlock()
	m, err := b.mutex(k)
	if m == nil || err != nil {
		return
	}
	t.graph.mu.Lock()
	defer t.graph.mu.Unlock()
	if m.owner != th {
		return
	}
	for {
		next := m.waiters[0]
		w := Word{Space: next.space, Addr: next.addr}
		v, ok := w.Space.Load32(w.Addr)
		if !ok || t.pass(b, m, &w, v, OwnerDied) == ErrFault {
			t.disband(b, m)
			return
		}
		if m.owner != th {
			return
		}
	}
}

// disband makes all who wait for m look at the word again, since it cannot be accessed without them. b.mu and graph.mu are held.
func (t *Table) disband(b *bucket, m *mutex) {
	for len(m.waiters) > 0 {
		w := m.waiters[0]
		m.leave(w)
		w.retry = true
		b.release(w)
	}
}

// first returns the first waiter for k, PI or not. b.mu is held.
//
// +checklocks:b.mu
func (b *bucket) first(k *Key) *Waiter {
	for w := b.head.next; w != &b.head; w = w.next {
		if w.key == *k {
			return w
		}
	}
	return nil
}

// +checklocks:b.mu
func (b *bucket) more(after *Waiter) bool {
	for w := after.next; w != &b.head; w = w.next {
		if w.key == after.key {
			return true
		}
	}
	return false
}

// EnqueueToPI is Enqueue for a waiter, the thread tid, that RequeuePI is to move to the PI word target.
func (t *Table) EnqueueToPI(wt *Waiter, w *Word, val, tid uint32, target *Word) error {
	b := t.bucket(&w.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch v, ok := w.Space.Load32(w.Addr); {
	case !ok:
		return ErrFault
	case v != val:
		return unix.EAGAIN
	}
	wt.key, wt.bitset, wt.priority, wt.pi, wt.toPI, wt.tid, wt.target = w.Key, MatchAny, wt.own(), false, true, tid, target.Key
	wt.space, wt.addr, wt.retry = target.Space, target.Addr, false
	b.waiting.Add(1)
	b.insert(wt)
	return nil
}

// RequeuePI is FUTEX_CMP_REQUEUE_PI: if the word at from is cmp (else EAGAIN), its first waiter gets the PI word if that is free, and
// all, or at most move others, wait for the PI word from now on. It returns how many got it or wait. EINVAL when a waiter waits for
// something else, EDEADLK, ESRCH, ErrFault.
//
// +checklocksignore
func (t *Table) RequeuePI(from, to *Word, move int, cmp uint32, find Find) (n int, err error) {
	b1, b2 := t.lock2(&from.Key, &to.Key)
	defer unlock2(b1, b2)
	switch v, ok := from.Space.Load32(from.Addr); {
	case !ok:
		return 0, ErrFault
	case v != cmp:
		return 0, unix.EAGAIN
	}
	for w := b1.head.next; w != &b1.head && n < move+1; {
		next := w.next
		if w.key == from.Key {
			if !w.toPI || w.target != to.Key {
				return n, unix.EINVAL
			}
			if err := t.moveToPI(b1, b2, w, to, find); err != nil {
				return n, err
			}
			n++
		}
		w = next
	}
	return n, nil
}

// moveToPI gives the PI word to w, or makes it wait for that. Both buckets are locked.
//
// +checklocks:b1.mu
// +checklocks:b2.mu
func (t *Table) moveToPI(b1, b2 *bucket, w *Waiter, to *Word, find Find) error {
	own := Word{Space: w.space, Addr: w.addr, Key: to.Key} // the word as w's thread has it
	got, err := t.take(b2, w, to, w.tid, false, b1.more(w), find)
	for err == errChanged {
		got, err = t.take(b2, w, to, w.tid, false, b1.more(w), find)
	}
	switch {
	case err != nil:
		return err
	case got:
		b1.release(w)
		return nil
	}
	w.space, w.addr = own.Space, own.Addr
	w.key, w.toPI = to.Key, false
	b1.unlink(w)
	b2.waiting.Add(1)
	b2.insert(w)
	return nil
}
