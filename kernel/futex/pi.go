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
		wt.key, wt.bitset, wt.pi, wt.tid = w.Key, MatchAny, true, tid
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
