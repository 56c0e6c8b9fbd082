package futex

import "golang.org/x/sys/unix"

// A PI futex word holds its owner's thread ID, 0 when it is free. gosv has no
// priorities to inherit, so that what remains of PI is the ownership: the kernel hands
// the word over to the first waiter, and nobody can overtake it.

// LockPI takes the word for the thread tid, or else enqueues wt and returns locked=false; the
// caller then sleeps until Woken, which means that it owns the word.
// EDEADLK when tid owns it already, ESRCH when alive denies its owner,
// EAGAIN when it is taken and try is set, ErrFault.
func (t *Table) LockPI(wt *Waiter, w *Word, tid uint32, try bool, alive func(tid uint32) bool) (locked bool, err error) {
	b := t.bucket(&w.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		v, ok := w.Space.Load32(w.Addr)
		if !ok {
			return false, ErrFault
		}
		owner := v & TIDMask
		var next uint32
		switch {
		case owner == tid:
			return false, unix.EDEADLK
		case owner == 0:
			next = tid | v&OwnerDied
			if b.first(&w.Key) != nil {
				next |= Waiters
			}
		case try:
			return false, unix.EAGAIN
		case !alive(owner):
			return false, unix.ESRCH
		default:
			next = v | Waiters
		}
		found, ok := w.Space.CompareAndSwap32(w.Addr, v, next)
		if !ok {
			return false, ErrFault
		}
		if found != v {
			continue
		}
		if owner == 0 {
			return true, nil
		}
		wt.key, wt.bitset, wt.pi, wt.toPI, wt.tid = w.Key, MatchAny, true, false, tid
		b.waiting.Add(1)
		b.insert(wt)
		return false, nil
	}
}

// UnlockPI hands the word that the thread tid owns over to the first waiter, or frees it.
// EPERM when tid does not own it, EINVAL when others wait on it without PI, ErrFault.
func (t *Table) UnlockPI(w *Word, tid uint32) error {
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
		done, err := b.handOver(w, v, 0)
		if err != nil || done {
			return err
		}
	}
}

// OwnerGone is called when the thread tid has ended and a robust list names
// the PI word w: it hands the word over, marked FUTEX_OWNER_DIED. Without a waiter
// for w's key it does nothing and reports false, unless free is set.
func (t *Table) OwnerGone(w *Word, tid uint32, free bool) (done bool, err error) {
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
		done, err := b.handOver(w, v, OwnerDied)
		if err != nil || done {
			return done, err
		}
	}
}

// handOver changes the word from v to its next owner's, with extra bits, and
// wakes that; done is false when the word was not v any more. b.mu is held.
func (b *bucket) handOver(w *Word, v, extra uint32) (done bool, err error) {
	next := b.first(&w.Key)
	if next != nil && !next.pi {
		return false, unix.EINVAL
	}
	to := extra
	if next != nil {
		to |= next.tid
		if b.more(next) {
			to |= Waiters
		}
	}
	found, ok := w.Space.CompareAndSwap32(w.Addr, v, to)
	if !ok {
		return false, ErrFault
	}
	if found != v {
		return false, nil
	}
	if next != nil {
		b.release(next)
	}
	return true, nil
}

// first returns the first waiter for k, PI or not. b.mu is held.
func (b *bucket) first(k *Key) *Waiter {
	for w := b.head.next; w != &b.head; w = w.next {
		if w.key == *k {
			return w
		}
	}
	return nil
}

func (b *bucket) more(after *Waiter) bool {
	for w := after.next; w != &b.head; w = w.next {
		if w.key == after.key {
			return true
		}
	}
	return false
}

// EnqueueToPI is Enqueue for a waiter, the thread tid, that RequeuePI is to move to the PI word with the key target.
func (t *Table) EnqueueToPI(wt *Waiter, w *Word, val, tid uint32, target *Key) error {
	b := t.bucket(&w.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch v, ok := w.Space.Load32(w.Addr); {
	case !ok:
		return ErrFault
	case v != val:
		return unix.EAGAIN
	}
	wt.key, wt.bitset, wt.pi, wt.toPI, wt.tid, wt.target = w.Key, MatchAny, false, true, tid, *target
	b.waiting.Add(1)
	b.insert(wt)
	return nil
}

// RequeuePI is FUTEX_CMP_REQUEUE_PI: if the word at from is cmp (else EAGAIN), its first waiter gets the PI word if that is free, and
// all, or at most move others, wait for the PI word from now on. It returns how many got it or wait. EINVAL when a waiter waits for
// something else, EDEADLK, ESRCH, ErrFault.
func (t *Table) RequeuePI(from, to *Word, move int, cmp uint32, alive func(tid uint32) bool) (n int, err error) {
	b1, b2 := t.lock2(&from.Key, &to.Key)
	defer unlock2(b1, b2)
	switch v, ok := from.Space.Load32(from.Addr); {
	case !ok:
		return 0, ErrFault
	case v != cmp:
		return 0, unix.EAGAIN
	}
	first := b1.first(&from.Key)
	if first == nil {
		return 0, nil
	}
	if !first.toPI || first.target != to.Key {
		return 0, unix.EINVAL
	}
	got, err := b2.takeFor(first, to, b1.more(first), alive)
	if err != nil {
		return 0, err
	}
	if got {
		b1.release(first)
		n++
	}
	for w := b1.head.next; w != &b1.head && n < move+1; {
		next := w.next
		if w.key == from.Key {
			if !w.toPI || w.target != to.Key {
				return n, unix.EINVAL
			}
			w.key, w.pi, w.toPI = to.Key, true, false
			if b1 != b2 {
				b1.unlink(w)
				b2.waiting.Add(1)
				b2.insert(w)
			}
			n++
		}
		w = next
	}
	return n, nil
}

// takeFor takes the PI word for w's thread if it is free; else it says in the word that somebody waits. more: others wait with w. b.mu is held.
func (b *bucket) takeFor(w *Waiter, to *Word, more bool, alive func(tid uint32) bool) (got bool, err error) {
	for {
		v, ok := to.Space.Load32(to.Addr)
		if !ok {
			return false, ErrFault
		}
		owner, next := v&TIDMask, v|Waiters
		switch {
		case owner == w.tid:
			return false, unix.EDEADLK
		case owner == 0:
			if next = w.tid | v&OwnerDied; more || b.first(&to.Key) != nil {
				next |= Waiters
			}
		case !alive(owner):
			return false, unix.ESRCH
		}
		found, ok := to.Space.CompareAndSwap32(to.Addr, v, next)
		if !ok {
			return false, ErrFault
		}
		if found == v {
			return owner == 0, nil
		}
	}
}
