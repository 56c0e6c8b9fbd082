package futex

import (
	"sync"
	"sync/atomic"
	"testing"

	"gosv/machine"
	"gosv/machine/fake"

	"golang.org/x/sys/unix"
)

type counter struct{ n atomic.Int32 }

func (c *counter) Wake() { c.n.Add(1) }

const base = 0x10000

// newWord returns a space with one page at base, and a function that makes words in it.
func newWord(t *testing.T) (machine.Space, func(off uint64) *Word) {
	m := fake.ForTest(t, fake.Config{})
	s, err := m.NewSpace()
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Alloc()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Map(base, f, machine.Read|machine.Write); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Unmap(base, machine.PageSize, func(_ uint64, f machine.Frame, n int) { m.Free(f, n) })
		s.Destroy()
	})
	return s, func(off uint64) *Word { return &Word{s, base + off, Key{Offset: base + off}} }
}

func enqueue(t *testing.T, tb *Table, w *Word, bitset uint32) (*Waiter, *counter) {
	t.Helper()
	c := new(counter)
	wt := &Waiter{Owner: c}
	if err := tb.Enqueue(wt, w, 0, bitset); err != nil {
		t.Fatal(err)
	}
	return wt, c
}

func TestWakeByBitset(t *testing.T) {
	s, word := newWord(t)
	tb, w := New(), word(0)
	a, ca := enqueue(t, tb, w, 1)
	b, cb := enqueue(t, tb, w, 2)
	c, _ := enqueue(t, tb, word(4), MatchAny)
	if n, err := tb.Wake(&w.Key, 10, 2); n != 1 || err != nil || a.Woken() || !b.Woken() || cb.n.Load() != 1 {
		t.Errorf("Wake: %d, %v", n, err)
	}
	if n, _ := tb.Wake(&w.Key, 10, 4); n != 0 {
		t.Errorf("woke %d", n)
	}
	if !tb.Cancel(a) || tb.Cancel(a) || ca.n.Load() != 0 || tb.Cancel(b) {
		t.Error("Cancel")
	}
	if !tb.Cancel(c) {
		t.Error("Cancel of the other word")
	}
	s.Store32(base, 1)
	if err := tb.Enqueue(new(Waiter), w, 0, MatchAny); err != unix.EAGAIN {
		t.Error(err)
	}
	if err := tb.Enqueue(new(Waiter), &Word{s, 0x999000, Key{}}, 0, MatchAny); err != ErrFault {
		t.Error(err)
	}
}

func TestRequeue(t *testing.T) {
	_, word := newWord(t)
	tb := New()
	for _, to := range []*Word{word(4), word(400), word(0)} {
		var ws []*Waiter
		for range 5 {
			w, _ := enqueue(t, tb, word(0), MatchAny)
			ws = append(ws, w)
		}
		other := uint32(1)
		if _, _, err := tb.Requeue(word(0), to, 1, 2, &other); err != unix.EAGAIN {
			t.Error(err)
		}
		if w, m, err := tb.Requeue(word(0), to, 1, 2, nil); w != 1 || m != 2 || err != nil {
			t.Errorf("requeue: %d, %d, %v", w, m, err)
		}
		n, _ := tb.Wake(&to.Key, 10, MatchAny)
		if want := 2; n != want && to.Addr != base || n != 4 && to.Addr == base {
			t.Errorf("%d waited at the second word", n)
		}
		for _, w := range ws {
			tb.Cancel(w)
		}
	}
}

func TestOp(t *testing.T) {
	enc := func(op, cmp, oparg, cmparg uint32) Op { return Op(op<<28 | cmp<<24 | oparg&0xfff<<12 | cmparg&0xfff) }
	for _, c := range []struct {
		op       Op
		old, new uint32
		test     bool
	}{
		{enc(0, 0, 5, 7), 7, 5, true},
		{enc(1, 1, 5, 7), 7, 12, false},
		{enc(1, 2, 0xfff, 0xfff), 7, 6, false}, // -1: 7 < -1
		{enc(2, 3, 8, 7), 7, 15, true},
		{enc(3, 4, 1, 6), 7, 6, true},
		{enc(4, 5, 1, 8), 7, 6, false},
		{enc(8, 0, 4, 7), 7, 16, true}, // the shift
		{enc(8, 0, 33, 7), 7, 2, true}, // only five bits count
	} {
		if !c.op.valid() || c.op.apply(c.old) != c.new || c.op.test(c.old) != c.test {
			t.Errorf("%#x: %d, %v", uint32(c.op), c.op.apply(c.old), c.op.test(c.old))
		}
	}
	if enc(5, 0, 0, 0).valid() || enc(0, 6, 0, 0).valid() {
		t.Error("operations that do not exist are valid")
	}
}

func TestPI(t *testing.T) {
	s, word := newWord(t)
	tb, w := New(), word(0)
	var threads [100]Thread
	find := func(tid uint32) *Thread {
		if tid >= 100 {
			return nil
		}
		return &threads[tid]
	}
	lock := func(tid uint32, try bool) (*Waiter, bool, error) {
		wt := &Waiter{Owner: new(counter), Thread: &threads[tid]}
		ok, err := tb.LockPI(wt, w, tid, try, find)
		return wt, ok, err
	}
	if _, ok, err := lock(1, false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, _, err := lock(1, false); err != unix.EDEADLK {
		t.Error(err)
	}
	if _, _, err := lock(2, true); err != unix.EAGAIN {
		t.Error(err)
	}
	w2, ok, _ := lock(2, false)
	w3, _, _ := lock(3, false)
	if v, _ := s.Load32(base); ok || v != 1|Waiters {
		t.Errorf("word %#x", v)
	}
	if err := tb.UnlockPI(w, &threads[2], 2); err != unix.EPERM {
		t.Error(err)
	}
	if _, err := tb.Wake(&w.Key, 1, MatchAny); err != unix.EINVAL {
		t.Errorf("FUTEX_WAKE on a PI futex: %v", err)
	}
	tb.UnlockPI(w, &threads[1], 1)
	if v, _ := s.Load32(base); v != 2|Waiters || !w2.Woken() || w3.Woken() {
		t.Errorf("word %#x", v)
	}
	if done, err := tb.OwnerGone(w, &threads[2], 2, false); !done || err != nil {
		t.Error(done, err)
	}
	if v, _ := s.Load32(base); v != 3|OwnerDied || !w3.Woken() {
		t.Errorf("word %#x", v)
	}
	tb.UnlockPI(w, &threads[3], 3)
	if v, _ := s.Load32(base); v != 0 {
		t.Errorf("word %#x", v)
	}
	s.Store32(base, 500)
	if _, _, err := lock(1, false); err != unix.ESRCH {
		t.Error(err)
	}
}

// TestNoLostWake has waiters and wakers race, with requeues and cancellations between.
func TestNoLostWake(t *testing.T) {
	s, word := newWord(t)
	tb := New()
	const rounds = 2000
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			wait := make(waker, 1)
			wt := &Waiter{Owner: wait}
			for n := range rounds {
				w := word(0)
				if err := tb.Enqueue(wt, w, 0, MatchAny); err != nil {
					t.Error(err)
					return
				}
				if n%4 == i && tb.Cancel(wt) {
					continue
				}
				for !wt.Woken() {
					<-wait
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
			tb.Requeue(word(0), word(64), 1, 1, nil)
			tb.Wake(&word(64).Key, 1, MatchAny)
			s.Store32(base+64, 0)
		}
	}
}

type waker chan struct{}

func (w waker) Wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}
