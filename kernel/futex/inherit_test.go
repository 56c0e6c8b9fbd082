package futex

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"gosv/machine"

	"golang.org/x/sys/unix"
)

// node is a thread of the model: what it waits for and owns is known by hand.
type node struct {
	Thread
	counter
	tid    uint32
	waiter Waiter
	wants  int   // the word that it waits for, or -1
	since  int   // when it began to, among those of its priority
	asked  int32 // own priority
	got    int32 // what Lend said
}

func (n *node) Lend(p int32) { n.got = p }

// model is words, 0 to len(owner)-1, and threads, with the rules of inheritance as rt-mutex-design.rst gives them, without any cleverness.
type model struct {
	t     *testing.T
	tb    *Table
	s     machine.Space
	word  func(uint64) *Word
	nodes []*node
	owner []*node // of each word
	clock int
	died  []bool
}

func newModel(t *testing.T, threads, words int) *model {
	s, word := newWord(t)
	m := &model{t: t, tb: New(), s: s, word: word, owner: make([]*node, words), died: make([]bool, words)}
	for i := range threads {
		m.nodes = append(m.nodes, m.node(uint32(i+1)))
	}
	return m
}

func (m *model) node(tid uint32) *node {
	n := &node{tid: tid, wants: -1}
	n.Thread.Owner = n
	n.waiter.Owner, n.waiter.Thread = n, &n.Thread
	return n
}

func (m *model) find(tid uint32) *Thread {
	for _, n := range m.nodes {
		if n.tid == tid {
			return &n.Thread
		}
	}
	return nil
}

// full is the highest of n's own priority and those of all that wait for it, directly or not.
func (m *model) full(n *node) int32 { return max(n.asked, m.lent(n)) }

func (m *model) lent(n *node) (p int32) {
	for _, o := range m.nodes {
		if o.wants >= 0 && m.owner[o.wants] == n {
			p = max(p, m.full(o))
		}
	}
	return p
}

// waits reports whether a waits for b, directly or not.
func (m *model) waits(a, b *node) bool {
	for a.wants >= 0 {
		if a = m.owner[a.wants]; a == nil || a == b {
			return a == b
		}
	}
	return false
}

func (m *model) addr(i int) *Word { return m.word(uint64(i * 4)) }

func (m *model) lock(n *node, i int) {
	got, err := m.tb.LockPI(&n.waiter, m.addr(i), n.tid, false, m.find)
	o := m.owner[i]
	switch {
	case o == n || o != nil && m.waits(o, n):
		if err != unix.EDEADLK {
			m.t.Fatalf("a circle: %v, %v", got, err)
		}
	case err != nil || got != (o == nil):
		m.t.Fatalf("lock: %v, %v; owner %v", got, err, o)
	case got:
		m.owner[i] = n
	default:
		m.clock++
		n.wants, n.since = i, m.clock
		n.n.Store(0)
	}
}

// next finds whom word i goes to: the implementation says which of those that have the highest priority, and that was woken alone.
func (m *model) next(i int, died bool) {
	var best *node
	high := int32(-1)
	for _, o := range m.nodes {
		if o.wants == i {
			high = max(high, m.full(o))
		}
	}
	for _, o := range m.nodes {
		if o.wants == i && o.waiter.Woken() {
			if best != nil || o.n.Load() != 1 || m.full(o) != high {
				m.t.Fatalf("word %d went to a thread of priority %d, and the highest was %d", i, m.full(o), high)
			}
			best = o
		}
	}
	if (best == nil) != (high < 0) {
		m.t.Fatalf("word %d went to nobody", i)
	}
	if m.owner[i] = best; best != nil {
		for _, o := range m.nodes { // first come, first served, where no priority has changed meanwhile
			if o.wants == i && o != best && m.full(o) == high && o.since < best.since && o.since > 0 && best.since > 0 {
				m.t.Fatalf("word %d went to who came later", i)
			}
		}
		best.wants = -1
	}
	m.died[i] = died && best != nil
}

func (m *model) unlock(n *node, i int) {
	err := m.tb.UnlockPI(m.addr(i), &n.Thread, n.tid)
	if m.owner[i] != n {
		if err != unix.EPERM {
			m.t.Fatal(err)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.next(i, false)
}

func (m *model) cancel(n *node) {
	if got := m.tb.Cancel(&n.waiter); got != (n.wants >= 0) {
		m.t.Fatal("cancel:", got)
	}
	n.wants = -1
}

func (m *model) end(i int) {
	n := m.nodes[i]
	m.cancel(n)
	m.tb.Leave(&n.Thread, true)
	for w, o := range m.owner {
		if o == n {
			m.next(w, true)
			if m.owner[w] == nil {
				m.s.Store32(m.addr(w).Addr, 0) // nobody waited: the word names a dead thread for ever
			}
		}
	}
	m.nodes[i] = m.node(n.tid + 100)
}

// check compares everything with the model.
func (m *model) check() {
	m.t.Helper()
	for _, n := range m.nodes {
		if want := m.full(n); n.Priority() != want || n.got != m.lent(n) {
			m.t.Fatalf("thread %d has priority %d, lent %d; want %d, %d", n.tid, n.Priority(), n.got, want, m.lent(n))
		}
		if n.waiter.Woken() != (n.wants < 0) {
			m.t.Fatalf("thread %d: waits for %d, woken %v", n.tid, n.wants, n.waiter.Woken())
		}
	}
	for i, o := range m.owner {
		v, _ := m.s.Load32(m.addr(i).Addr)
		want := uint32(0)
		if o != nil {
			want = o.tid
		}
		if v&TIDMask != want || v&OwnerDied != 0 && !m.died[i] {
			m.t.Fatalf("word %d is %#x, owner %d", i, v, want)
		}
		for _, n := range m.nodes {
			if n.wants == i && v&Waiters == 0 {
				m.t.Fatalf("word %d is %#x, and %d waits", i, v, n.tid)
			}
		}
	}
}

// TestInherit compares random threads, which lock, unlock, give up, die and change, with a model.
func TestInherit(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 7))
		m := newModel(t, 2+r.IntN(10), 1+r.IntN(8))
		for range 2000 {
			k := r.IntN(len(m.nodes))
			n, i := m.nodes[k], r.IntN(len(m.owner))
			switch c := r.IntN(20); {
			case c < 9 && n.wants < 0:
				m.lock(n, i)
			case c < 13 && n.wants < 0:
				m.unlock(n, i)
			case c == 13:
				m.cancel(n)
			case c == 14:
				m.end(k)
			case c < 17:
				n.asked = r.Int32N(4)
				m.tb.SetPriority(&n.Thread, n.asked)
				for _, o := range m.nodes {
					o.since = 0 // whoever is raised or lowered goes behind its equals
				}
			}
			m.check()
		}
		for k := range m.nodes {
			m.end(k)
		}
		m.check()
	}
}

// TestDepth: a chain may have 1,024 links.
func TestDepth(t *testing.T) {
	m := newModel(t, 0, 1026)
	for i := range 1026 {
		m.nodes = append(m.nodes, m.node(uint32(i+1)))
	}
	find := func(tid uint32) *Thread { return &m.nodes[tid-1].Thread }
	word := func(i int) *Word { w := m.addr(i % 1024); w.Key.Offset += uint64(i) << 20; return w }
	for i, n := range m.nodes {
		w := word(i)
		m.s.Store32(w.Addr, 0)
		if got, err := m.tb.LockPI(&n.waiter, w, n.tid, false, find); !got || err != nil {
			t.Fatal(i, err)
		}
	}
	// The words are kept in few places; what counts is what the last stored there says.
	for i := 1; i < 1026; i++ {
		n, w := m.nodes[i], word(i-1)
		m.s.Store32(w.Addr, m.nodes[i-1].tid)
		_, err := m.tb.LockPI(&n.waiter, w, n.tid, false, find)
		if err != nil {
			t.Fatalf("link %d: %v", i, err)
		}
	}
	last := m.node(2000)
	w := word(1025)
	m.s.Store32(w.Addr, m.nodes[1025].tid)
	if _, err := m.tb.LockPI(&last.waiter, w, last.tid, false, find); err != unix.EDEADLK {
		t.Fatal(err)
	}
	m.tb.SetPriority(&m.nodes[1025].Thread, 7)
	if p := m.nodes[0].Priority(); p != 7 {
		t.Errorf("the first of the chain has priority %d", p)
	}
	for _, n := range m.nodes {
		m.tb.Cancel(&n.waiter)
	}
	if p := m.nodes[0].Priority(); p != 0 {
		t.Errorf("it is left with priority %d", p)
	}
}

// TestRequeueInherits: who is moved to a PI word lends its priority from then on.
func TestRequeueInherits(t *testing.T) {
	m := newModel(t, 4, 2)
	cond := m.addr(100)
	owner := m.nodes[0]
	m.lock(owner, 0)
	for i, n := range m.nodes[1:] {
		n.asked = int32(10 * (i + 1))
		m.tb.SetPriority(&n.Thread, n.asked)
		if err := m.tb.EnqueueToPI(&n.waiter, cond, 0, n.tid, m.addr(0)); err != nil {
			t.Fatal(err)
		}
	}
	if p := owner.Priority(); p != 0 {
		t.Errorf("priority %d from who waits for something else", p)
	}
	// The highest first, one a call.
	for i, want := range []int32{30, 30, 30} {
		if n, err := m.tb.RequeuePI(cond, m.addr(0), 0, 0, m.find); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if p := owner.Priority(); p != want || !m.nodes[3-i].waiter.Moved() {
			t.Errorf("round %d: priority %d", i, p)
		}
	}
	for i := 3; i > 0; i-- {
		if err := m.tb.UnlockPI(m.addr(0), &owner.Thread, owner.tid); err != nil || owner.Priority() != owner.asked {
			t.Error(err, owner.Priority())
		}
		owner = m.nodes[i]
		if !owner.waiter.Woken() {
			t.Errorf("thread %d sleeps", i)
		}
	}
	// A free word goes to the first at once.
	m.s.Store32(m.addr(0).Addr, 0)
	n := m.nodes[2]
	if err := m.tb.EnqueueToPI(&n.waiter, cond, 0, n.tid, m.addr(0)); err != nil {
		t.Fatal(err)
	}
	if k, err := m.tb.RequeuePI(cond, m.addr(0), 1, 0, m.find); k != 1 || err != nil || !n.waiter.Woken() || n.waiter.Moved() {
		t.Error(k, err)
	}
	// Nobody is made to wait for itself.
	o := m.nodes[1]
	m.lock2(o, n, cond)
}

// lock2: who owns the other end of a chain cannot be moved behind itself.
func (m *model) lock2(a, b *node, cond *Word) {
	if got, err := m.tb.LockPI(&a.waiter, m.addr(1), a.tid, false, m.find); !got || err != nil {
		m.t.Fatal(got, err)
	}
	if got, err := m.tb.LockPI(&b.waiter, m.addr(1), b.tid, false, m.find); got || err != nil { // b owns word 0
		m.t.Fatal(got, err)
	}
	if err := m.tb.EnqueueToPI(&a.waiter, cond, 0, a.tid, m.addr(0)); err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.tb.RequeuePI(cond, m.addr(0), 1, 0, m.find); err != unix.EDEADLK {
		m.t.Errorf("a circle by requeue: %v", err)
	}
	if !m.tb.Cancel(&a.waiter) || !m.tb.Cancel(&b.waiter) {
		m.t.Error("they do not wait")
	}
}

// TestOrderOfWake: FUTEX_WAKE takes those of the highest priority first.
func TestOrderOfWake(t *testing.T) {
	m := newModel(t, 6, 1)
	for i, n := range m.nodes {
		m.tb.SetPriority(&n.Thread, []int32{0, 5, 9, 5, 0, 1}[i])
		if err := m.tb.Enqueue(&n.waiter, m.addr(0), 0, MatchAny); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{2, 1, 3, 5, 0, 4} {
		if n, err := m.tb.Wake(&m.addr(0).Key, 1, MatchAny); n != 1 || err != nil || !m.nodes[i].waiter.Woken() {
			t.Errorf("thread %d sleeps: %d, %v", i, n, err)
		}
	}
}

// TestOutOfReach: an owner ends, and the word cannot be accessed: all look again by themselves.
func TestOutOfReach(t *testing.T) {
	m := newModel(t, 3, 1)
	for _, n := range m.nodes {
		m.lock(n, 0)
	}
	m.nodes[1].waiter.addr = 0x999000
	m.tb.Leave(&m.nodes[0].Thread, true)
	for _, n := range m.nodes[1:] {
		if !n.waiter.Woken() || !n.waiter.Retry() || n.Priority() != 0 {
			t.Error("it does not look again")
		}
	}
}

// TestConcurrent has threads lock, give up and die at once, for the race detector; at the end nobody is left with anything.
func TestConcurrent(t *testing.T) {
	s, word := newWord(t)
	tb := New()
	const threads, words = 8, 3
	type thread struct {
		Thread
		waiter Waiter
		wake   waker
		lent   atomic.Int32
	}
	var ts [threads + 1]thread
	find := func(tid uint32) *Thread { return &ts[tid].Thread }
	var inside [words]atomic.Int32
	var wg sync.WaitGroup
	for i := 1; i <= threads; i++ {
		th := &ts[i]
		th.wake = make(waker, 1)
		th.Owner = holderFunc(th.lent.Store)
		th.waiter.Owner, th.waiter.Thread = th.wake, &th.Thread
	}
	for i := 1; i <= threads; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			th, r := &ts[i], rand.New(rand.NewPCG(uint64(i), 1))
			for range 2000 {
				tb.SetPriority(&th.Thread, r.Int32N(5))
				k := r.IntN(words)
				got, err := tb.LockPI(&th.waiter, word(uint64(k*4)), uint32(i), false, find)
				if err != nil {
					t.Error(err)
					return
				}
				for !got && !th.waiter.Woken() {
					if r.IntN(3) == 0 && tb.Cancel(&th.waiter) {
						break
					}
					if th.waiter.Woken() {
						break
					}
					<-th.wake
				}
				if v, _ := s.Load32(base + uint64(k*4)); v&TIDMask != uint32(i) {
					continue
				}
				if inside[k].Add(1) != 1 {
					t.Error("two own the word")
				}
				inside[k].Add(-1)
				if err := tb.UnlockPI(word(uint64(k*4)), &th.Thread, uint32(i)); err != nil {
					t.Error(err)
				}
			}
			tb.SetPriority(&th.Thread, 0)
		}()
	}
	wg.Wait()
	for i := 1; i <= threads; i++ {
		if p := ts[i].Priority(); p != 0 || ts[i].lent.Load() != 0 {
			t.Errorf("thread %d is left with %d", i, p)
		}
	}
}

type holderFunc func(int32)

func (f holderFunc) Lend(p int32) { f(p) }
