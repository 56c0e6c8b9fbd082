// Package serial does pieces of work one after the other, in the order in which they came, on a goroutine that lasts as long as there are
// some. Whoever adds one never waits for it, and may hold any lock that the work takes.
//
// A Queue's lock is a leaf.
package serial

import "sync"

// A Queue is work that waits. Do is set before the first is added, and called without any lock.
type Queue[T any] struct {
	Do func(T)

	mu      sync.Mutex
	waiting []T // +checklocks:mu
	// busy: a goroutine does the work.
	busy bool // +checklocks:mu
}

// Add adds a piece of work, unless most wait already (0: any number may). It reports whether it did.
func (q *Queue[T]) Add(v T, most int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if most != 0 && len(q.waiting) >= most {
		return false
	}
	q.waiting = append(q.waiting, v)
	if !q.busy {
		q.busy = true
		go q.run()
	}
	return true
}

func (q *Queue[T]) run() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.waiting, q.busy = nil, false
			q.mu.Unlock()
			return
		}
		v := q.waiting[0]
		clear(q.waiting[:1])
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		q.Do(v)
	}
}

// Len returns how many pieces wait.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Clear takes away what waits, and returns it.
func (q *Queue[T]) Clear() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.waiting
	q.waiting = nil
	return list
}
