package task

import (
	"sync"
	"sync/atomic"
)

// mostEnding is how many tasks leave their memory at a time.
const mostEnding = 16

// exits is the door through which tasks leave their memory, a few at a time. The signal that kills a process of a thousand threads wakes
// all at once, and to end takes more stack than to wait: as many stacks would grow together, while the collector runs that gives none of
// the old ones back before it is done, and when memory is short already.
type exits struct {
	mu     sync.Mutex
	ending int   // guarded by mu
	first  *Task // those who wait, in order of Task.exit.next; guarded by mu
	last   *Task // guarded by mu
}

// exitWait is a task's place in exits.
type exitWait struct {
	next *Task // guarded by exits.mu
	turn atomic.Bool
}

// enter waits until few enough others are ending. Nothing between it and leave may wait for another task's end.
func (e *exits) enter(t *Task) {
	e.mu.Lock()
	if e.ending < mostEnding {
		e.ending++
		e.mu.Unlock()
		return
	}
	if e.first == nil {
		e.first = t
	} else {
		e.last.exit.next = t
	}
	e.last = t
	e.mu.Unlock()
	for !t.exit.turn.Load() {
		t.sleep()
	}
}

// leave lets the next one in.
func (e *exits) leave() {
	e.mu.Lock()
	t := e.first
	if t == nil {
		e.ending--
		e.mu.Unlock()
		return
	}
	e.first, t.exit.next = t.exit.next, nil
	e.mu.Unlock()
	t.exit.turn.Store(true)
	t.Wake()
}
