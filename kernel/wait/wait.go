// Package wait lets tasks wait for things that become ready.
//
// Objects that can be waited for (pipes, terminals, sockets, timers, …) own a
// Queue and call Notify when they become ready. No object ever blocks a
// caller: operations return EAGAIN, and whoever wants to block adds an Entry,
// tries again, and sleeps until its Waiter is told. poll(2), epoll(7) and
// blocking system calls all stand on this one mechanism.
//
// Lock order: Queue.mu is a leaf; a Waiter runs under it, must not block and
// must not call back into the queue.
package wait

import (
	"sync"
	"sync/atomic"
)

// Mask is a set of poll(2) events: POLLIN and so on, as golang.org/x/sys/unix
// numbers them; the EPOLL constants have the same values.
type Mask uint32

// A Waiter is told that one of its entries became ready.
type Waiter interface {
	// Ready is called with the queue's lock held. It must not block.
	Ready(e *Entry, events Mask)
}

// An Entry is one interest in one Queue. Its fields are set before Add and not
// changed while it is on a queue.
type Entry struct {
	Waiter Waiter
	Events Mask
	// Exclusive entries are woken one for each Notify (EPOLLEXCLUSIVE, accept).
	Exclusive bool
	// Data is the waiter's own.
	Data any

	prev, next *Entry
	queue      *Queue
}

// A Queue holds the entries that wait for one object. The zero value is ready.
type Queue struct {
	asked atomic.Uint32 // the events of all entries, and perhaps of former ones; 0 when there are none; written under mu
	mu    sync.Mutex
	head  Entry // ring; guarded by mu
}

// Add puts e at the end of the queue.
func (q *Queue) Add(e *Entry) {
	q.mu.Lock()
	if q.head.next == nil {
		q.head.next, q.head.prev = &q.head, &q.head
	}
	last := q.head.prev
	e.prev, e.next, e.queue = last, &q.head, q
	last.next, q.head.prev = e, e
	q.asked.Store(q.asked.Load() | uint32(e.Events))
	q.mu.Unlock()
}

// Remove takes e off the queue; it does nothing when e is not on it. When it
// returns, no call of e's Waiter for this queue is running or will start.
func (q *Queue) Remove(e *Entry) {
	q.mu.Lock()
	if e.queue == q {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next, e.queue = nil, nil, nil
		if q.head.next == &q.head {
			q.asked.Store(0)
		}
	}
	q.mu.Unlock()
}

// Notify tells the entries that asked for any of events, in the order in which
// they were added; of the exclusive ones only the first.
func (q *Queue) Notify(events Mask) {
	if Mask(q.asked.Load())&events != 0 {
		q.notify(events)
	}
}

func (q *Queue) notify(events Mask) {
	q.mu.Lock()
	told := false                                    // an exclusive entry
	for e := q.head.next; e != &q.head; e = e.next { // the ring is made: an entry has asked
		hit := e.Events & events
		if hit == 0 {
			continue
		}
		if e.Exclusive {
			if told {
				continue
			}
			told = true
		}
		e.Waiter.Ready(e, hit)
	}
	q.mu.Unlock()
}

// Empty reports whether nobody waits for any event.
func (q *Queue) Empty() bool { return q.asked.Load() == 0 }
