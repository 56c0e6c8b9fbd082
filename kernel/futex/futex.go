// Package futex is the kernel's half of futex(2): waiters, found by the word they wait on.
//
// It queues and wakes; it never sleeps. A task enters its Waiter with Enqueue,
// which compares the word under the lock that wakers take, then sleeps by its
// own means until Woken, and calls Cancel when it gives up.
//
// User memory is accessed through machine.Space with a lock held, so without resolving
// faults: ErrFault says that the caller is to make the page present (by
// mm's accessors), which also finds out whether that can be done, and to call again.
//
// Lock order: buckets (two of them in the order of their index), the graph of who waits for whom.
// Waker.Wake and Holder.Lend are called under them and must not block.
package futex

import (
	"errors"
	"sync"
	"sync/atomic"

	"gosv/kernel/mm"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// ErrFault: the word is not accessible now; see the package comment.
var ErrFault = errors.New("futex: page not present")

// MatchAny is FUTEX_BITSET_MATCH_ANY.
const MatchAny = ^uint32(0)

// Bits of a word that robust and priority-inheriting mutexes use.
const (
	Waiters   = 0x80000000
	OwnerDied = 0x40000000
	TIDMask   = 0x3fffffff
)

// A Key identifies a futex word however it is mapped: an address space and an address in it,
// or an object and an offset in it.
type Key = mm.FutexKey

// Word is a futex word as its user sees it.
type Word struct {
	Space machine.Space
	Addr  uint64
	Key   Key
}

// A Waker is who waits.
type Waker interface {
	// Wake makes it look again. It must not block.
	Wake()
}

// A Waiter is one wait for one word. Owner and Thread are set once, before first use; a Waiter without Thread cannot
// wait for a PI word.
type Waiter struct {
	Owner  Waker
	Thread *Thread

	queued     atomic.Int32 // 1 + the index of its bucket, 0 when it is not queued
	next, prev *Waiter      // guarded by the bucket's mu, as is all below
	key        Key
	bitset     uint32
	priority   int32  // its thread's own when it began to wait
	tid        uint32 // of the thread, for a PI wait
	pi         bool
	toPI       bool // waits to be moved to the PI word target
	target     Key
	space      machine.Space // where the thread has its PI word
	addr       uint64
	mutex      *mutex // what it waits for, with pi; guarded by graph.mu
	retry      bool
}

// Moved reports whether w, which EnqueueToPI queued and which is off its queue again, had been moved to its PI word.
func (w *Waiter) Moved() bool { return w.pi }

// Retry reports whether w, which waited for a PI word and has been woken, does not own it but is to ask once more.
func (w *Waiter) Retry() bool { return w.retry }

// Woken reports whether w, which was enqueued, has been taken off its queue by somebody else.
func (w *Waiter) Woken() bool { return w.queued.Load() == 0 }

const buckets = 256

type bucket struct {
	waiting atomic.Int32 // waiters queued, or about to look at their word
	index   int32
	mu      sync.Mutex
	// +checklocks:mu
	head Waiter // ring
}

// Table holds the waiters of all futexes.
type Table struct {
	b     [buckets]bucket
	graph graph
}

// New returns an empty table.
func New() *Table {
	t := new(Table)
	for i := range t.b {
		b := &t.b[i]
		b.index = int32(i)
		b.head.next, b.head.prev = &b.head, &b.head
	}
	return t
}

// bucket hashes the address only: equal addresses in different processes are rare enough.
func (t *Table) bucket(k *Key) *bucket {
	return &t.b[k.Offset>>2*0x9e3779b97f4a7c15>>56]
}

// insert queues w by real-time priority, then by order. b.mu is held.
//
// +checklocks:b.mu
func (b *bucket) insert(w *Waiter) {
	last := b.head.prev
	for last.priority < w.priority && last != &b.head {
		last = last.prev
	}
	w.prev, w.next = last, last.next
	w.next.prev, last.next = w, w
	w.queued.Store(b.index + 1)
}

// unlink takes w off b, without telling its owner. b.mu is held.
func (b *bucket) unlink(w *Waiter) {
	w.prev.next, w.next.prev = w.next, w.prev
	w.prev, w.next = nil, nil
	b.waiting.Add(-1)
}

// release takes w off b and wakes it. After that w is its owner's again. b.mu is held.
func (b *bucket) release(w *Waiter) {
	b.unlink(w)
	owner := w.Owner
	w.queued.Store(0)
	owner.Wake()
}

// Enqueue puts wt on the queue of w if the word still has the value val: else
// EAGAIN, or ErrFault.
func (t *Table) Enqueue(wt *Waiter, w *Word, val, bitset uint32) error {
	b := t.bucket(&w.Key)
	b.waiting.Add(1) // before the word is read: see Wake
	b.mu.Lock()
	v, ok := w.Space.Load32(w.Addr)
	if !ok || v != val {
		b.waiting.Add(-1)
		b.mu.Unlock()
		if !ok {
			return ErrFault
		}
		return unix.EAGAIN
	}
	wt.key, wt.bitset, wt.priority, wt.pi, wt.toPI = w.Key, bitset, wt.own(), false, false
	b.insert(wt)
	b.mu.Unlock()
	return nil
}

// Cancel takes w off whatever queue it is on; it reports false when somebody has woken it before.
func (t *Table) Cancel(w *Waiter) bool {
	for {
		n := w.queued.Load()
		if n == 0 {
			return false
		}
		b := &t.b[n-1]
		b.mu.Lock()
		if w.queued.Load() != n { // requeued or woken in between
			b.mu.Unlock()
			continue
		}
		b.unlink(w)
		if w.pi {
			t.graph.mu.Lock()
			w.mutex.leave(w)
			t.graph.mu.Unlock()
		}
		w.queued.Store(0)
		b.mu.Unlock()
		return true
	}
}

// Wake wakes at most n waiters of k whose bitset has a bit of bitset, and returns
// how many. EINVAL when a PI waiter is among them.
func (t *Table) Wake(k *Key, n int, bitset uint32) (int, error) {
	b := t.bucket(k)
	// A waiter counts itself before it reads the word, the waker has changed the
	// word before it looks here: one of the two sees the other.
	if b.waiting.Load() == 0 {
		return 0, nil
	}
	b.mu.Lock()
	woken, err := b.wake(k, n, bitset)
	b.mu.Unlock()
	return woken, err
}

// +checklocks:b.mu
func (b *bucket) wake(k *Key, n int, bitset uint32) (woken int, err error) {
	for w := b.head.next; w != &b.head && woken < n; {
		next := w.next
		if w.key.Offset == k.Offset && w.key == *k && w.bitset&bitset != 0 {
			if w.pi || w.toPI {
				return woken, unix.EINVAL
			}
			b.release(w)
			woken++
		}
		w = next
	}
	return woken, nil
}

// lock2 locks the buckets of two keys, which may be the same.
//
// +checklocksignore
func (t *Table) lock2(k1, k2 *Key) (b1, b2 *bucket) {
	b1, b2 = t.bucket(k1), t.bucket(k2)
	switch {
	case b1 == b2:
		b1.mu.Lock()
	case b1.index < b2.index:
		b1.mu.Lock()
		b2.mu.Lock()
	default:
		b2.mu.Lock()
		b1.mu.Lock()
	}
	return b1, b2
}

// unlock2 undoes lock2.
//
// +checklocksignore
func unlock2(b1, b2 *bucket) {
	b1.mu.Unlock()
	if b1 != b2 {
		b2.mu.Unlock()
	}
}

// Requeue wakes at most wake waiters of from and moves at most move others to
// the queue of to. With cmp not nil, only if the word at from has that value:
// else EAGAIN, or ErrFault. It returns the number woken and the number moved.
//
// +checklocksignore
func (t *Table) Requeue(from, to *Word, wake, move int, cmp *uint32) (woken, moved int, err error) {
	b1, b2 := t.lock2(&from.Key, &to.Key)
	defer unlock2(b1, b2)
	if cmp != nil {
		switch v, ok := from.Space.Load32(from.Addr); {
		case !ok:
			return 0, 0, ErrFault
		case v != *cmp:
			return 0, 0, unix.EAGAIN
		}
	}
	for w := b1.head.next; w != &b1.head && (woken < wake || moved < move); {
		next := w.next
		if w.key == from.Key {
			switch {
			case w.pi || w.toPI:
				return woken, moved, unix.EINVAL
			case woken < wake:
				b1.release(w)
				woken++
			default:
				w.key = to.Key
				if b1 != b2 {
					b1.unlink(w)
					b2.waiting.Add(1)
					b2.insert(w)
				}
				moved++
			}
		}
		w = next
	}
	return woken, moved, nil
}

// WakeOp is FUTEX_WAKE_OP: it changes the second word as op says, wakes at
// most n1 waiters of the first, and n2 of the second if the word's old value
// passes op's comparison. ENOSYS for an operation that does not exist.
//
// +checklocksignore
func (t *Table) WakeOp(w1, w2 *Word, n1, n2 int, op Op) (int, error) {
	if !op.valid() {
		return 0, unix.ENOSYS
	}
	b1, b2 := t.lock2(&w1.Key, &w2.Key)
	defer unlock2(b1, b2)
	old, ok := w2.Space.Load32(w2.Addr)
	for {
		if !ok {
			return 0, ErrFault
		}
		found, swapped := w2.Space.CompareAndSwap32(w2.Addr, old, op.apply(old))
		if !swapped {
			return 0, ErrFault
		}
		if found == old {
			break
		}
		old = found
	}
	woken, err := b1.wake(&w1.Key, n1, MatchAny)
	if err == nil && op.test(old) {
		var n int
		n, err = b2.wake(&w2.Key, n2, MatchAny)
		woken += n
	}
	return woken, err
}
