package futex

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Priority inheritance, as Documentation/locking/rt-mutex-design.rst has it: a thread that owns PI words runs with the highest real-time
// priority of all who wait for one of them, with what those have inherited. So each thread is a node of a forest: it
// waits for one word at most, whose owner is its parent.

// maxDepth is Linux's max_lock_depth: who would wait behind more owners than that gets EDEADLK.
const maxDepth = 1024

// A Holder is a thread as its scheduler knows it.
type Holder interface {
	// Lend says what the highest real-time priority of those who wait for the thread is, 0 for none. It must not block.
	Lend(priority int32)
}

// Thread is what this package knows of a thread. Owner is set once, before first use.
type Thread struct {
	Owner Holder

	own   atomic.Int32 // its own real-time priority, 0 for none; written under graph.mu
	full  atomic.Int32 // the highest of own and lent; written under graph.mu
	lent  int32        // guarded by graph.mu, as is all below
	waits *mutex       // what it waits for
	held  []*mutex     // what it owns and others wait for
	gone  bool         // owns nothing any more
}

// mutex is a PI word that threads wait for.
type mutex struct {
	key     Key
	owner   *Thread   // nil when the program has freed the word behind the kernel's back
	waiters []*Waiter // by priority, then by order
}

// graph is who waits for whom. Its lock is taken with those of buckets held; Lend is called under it.
type graph struct {
	mu sync.Mutex // guards the mutexes, and the threads' fields
}

// Priority returns the real-time priority that th has of its own or by inheritance, 0 for none.
func (th *Thread) Priority() int32 { return th.full.Load() }

// SetPriority says that th's own real-time priority is p, 0 for none.
func (t *Table) SetPriority(th *Thread, p int32) {
	t.graph.mu.Lock()
	th.own.Store(p)
	adjust(th)
	t.graph.mu.Unlock()
}

// own returns the real-time priority of the thread that waits with w, without what it inherits.
func (w *Waiter) own() int32 {
	if w.Thread == nil {
		return 0
	}
	return w.Thread.own.Load()
}

// adjust finds the priority of th anew, and of those whom it waits for. graph.mu is held.
func adjust(th *Thread) {
	for th != nil {
		lent := int32(0)
		for _, m := range th.held {
			lent = max(lent, m.waiters[0].Thread.full.Load())
		}
		if lent != th.lent {
			th.lent = lent
			th.Owner.Lend(lent)
		}
		full := max(lent, th.own.Load())
		if full == th.full.Load() {
			return
		}
		th.full.Store(full)
		m := th.waits
		if m == nil {
			return
		}
		i := slices.IndexFunc(m.waiters, func(w *Waiter) bool { return w.Thread == th })
		w := m.waiters[i]
		m.waiters = slices.Delete(m.waiters, i, i+1)
		m.insert(w)
		th = m.owner
	}
}

// insert puts w behind its equals.
func (m *mutex) insert(w *Waiter) {
	i := len(m.waiters)
	for i > 0 && m.waiters[i-1].Thread.full.Load() < w.Thread.full.Load() {
		i--
	}
	m.waiters = slices.Insert(m.waiters, i, w)
}

// mayWait reports whether th can wait for owner: EDEADLK when owner waits for th, or for too many. graph.mu is held.
func mayWait(th, owner *Thread) error {
	for depth := 0; owner != nil; depth++ {
		if owner == th || depth > maxDepth {
			return unix.EDEADLK
		}
		if owner.waits == nil {
			return nil
		}
		owner = owner.waits.owner
	}
	return nil
}

// wait makes w's thread wait for m. graph.mu is held, and mayWait has agreed.
func (m *mutex) wait(w *Waiter) {
	if len(m.waiters) == 0 && m.owner != nil {
		m.owner.held = append(m.owner.held, m)
	}
	w.mutex, w.Thread.waits = m, m
	m.insert(w)
	adjust(m.owner)
}

// leave ends the wait of w's thread. graph.mu is held.
func (m *mutex) leave(w *Waiter) {
	m.waiters = slices.DeleteFunc(m.waiters, func(o *Waiter) bool { return o == w })
	w.mutex, w.Thread.waits, w.space = nil, nil, nil
	if len(m.waiters) == 0 {
		m.give(nil)
	} else {
		adjust(m.owner)
	}
}

// give makes th, which waits for nothing, the owner of m; nil for none. graph.mu is held.
func (m *mutex) give(th *Thread) {
	old := m.owner
	m.owner = th
	if old != nil {
		old.held = slices.DeleteFunc(old.held, func(o *mutex) bool { return o == m })
		adjust(old)
	}
	if th != nil && len(m.waiters) > 0 {
		th.held = append(th.held, m)
		adjust(th)
	}
}
