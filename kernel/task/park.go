package task

import (
	"sync/atomic"

	"gosv/kernel/abi"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// Wake makes Block return, now or when it is next called. Any goroutine may call it; it does not block.
func (t *Task) Wake() {
	if t.turn.rt.Load() {
		t.k.turns.woken(t)
	}
	t.parker.Wake()
}

// Ready implements wait.Waiter.
func (t *Task) Ready(*wait.Entry, wait.Mask) { t.Wake() }

// sleep parks the goroutine until Wake.
func (t *Task) sleep() {
	if t.turn.held.Load() || t.turn.rt.Load() || t.turn.queued.Load() {
		t.k.turns.release(t)
	}
	t.waits()
	t.parker.Park()
	t.begin()
}

// Block sleeps until Wake, and may return nil without one. It returns ETIMEDOUT
// when deadline, a monotonic time in nanoseconds (0: none), has passed, and
// abi.ERESTARTSYS when a signal is to be delivered: a caller whose
// call is never restarted, or otherwise, replaces it by EINTR or another of the restart errors.
func (t *Task) Block(deadline int64) error {
	if t.flags.Load()&(workSignal|workKill) != 0 {
		return abi.ERESTARTSYS
	}
	if deadline == 0 {
		t.sleep()
	} else if !t.sleepUntil(deadline) {
		return unix.ETIMEDOUT
	}
	return nil
}

// BlockKillable is Block for waits that only a fatal signal ends.
func (t *Task) BlockKillable() error {
	if t.Killed() {
		return abi.ERESTARTSYS
	}
	t.deep.Store(true)
	t.sleep()
	t.deep.Store(false)
	return nil
}

// sleepUntil sleeps until Wake or the deadline; false when that has passed.
func (t *Task) sleepUntil(deadline int64) bool {
	c := t.k.Clock
	if c.Now() >= deadline {
		return false
	}
	t.timer.Set(deadline)
	t.sleep()
	if !t.timer.Stop() && c.Now() >= deadline {
		return false
	}
	return true
}

// Interrupted reports whether a signal is waiting to be delivered, so that a long operation should end early.
func (t *Task) Interrupted() bool { return t.flags.Load()&(workSignal|workKill) != 0 }

// Killed reports whether t is going to end before it returns to its program.
func (t *Task) Killed() bool { return t.flags.Load()&workKill != 0 }

// Pollable is what WaitFor waits for: a vfs.File.
type Pollable interface {
	Readiness(mask wait.Mask) wait.Mask
	Register(e *wait.Entry)
	Unregister(e *wait.Entry)
}

// WaitFor blocks until o has one of the events (POLLERR and POLLHUP count
// always): the caller, whose operation returned EAGAIN, tries again then. The errors are those of Block.
func (t *Task) WaitFor(o Pollable, events wait.Mask, deadline int64) error {
	return t.waitFor(o, events, deadline, false)
}

// WaitForExclusive is WaitFor for a resource that one of the waiters will take (accept(2)).
func (t *Task) WaitForExclusive(o Pollable, events wait.Mask, deadline int64) error {
	return t.waitFor(o, events, deadline, true)
}

func (t *Task) waitFor(o Pollable, events wait.Mask, deadline int64, exclusive bool) error {
	events |= unix.POLLERR | unix.POLLHUP
	if t.tries {
		t.wouldFor, t.wouldMask = o, events
		return ErrWouldWait
	}
	t.entry = wait.Entry{Waiter: t, Events: events, Exclusive: exclusive}
	o.Register(&t.entry)
	var err error
	for err == nil && o.Readiness(events)&events == 0 {
		err = t.Block(deadline)
	}
	o.Unregister(&t.entry)
	if err != nil && exclusive && o.Readiness(events)&events != 0 {
		return nil // t may be the only one who was told
	}
	return err
}

// Retry is for operations that may have to wait although o is ready, as a write of a number that is too large for an eventfd just
// now: it calls try, and again whenever o has told of events, until that returns something else than EAGAIN. The errors are those of
// try and of Block.
func (t *Task) Retry(o Pollable, events wait.Mask, try func() error) error {
	if t.tries {
		t.wouldFor, t.wouldMask = o, events
		return ErrWouldWait
	}
	t.entry = wait.Entry{Waiter: t, Events: events | unix.POLLERR | unix.POLLHUP}
	o.Register(&t.entry)
	err := try()
	for err == unix.EAGAIN {
		if err = t.Block(0); err == nil {
			err = try()
		}
	}
	o.Unregister(&t.entry)
	return err
}

// Sleep sleeps until the deadline, a monotonic time; abi.ERESTARTSYS when a signal came first.
func (t *Task) Sleep(deadline int64) error {
	for {
		switch err := t.Block(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			return nil
		default:
			return err
		}
	}
}

// SleepWall is Sleep until a moment of wall time, which moves when that clock is set.
func (t *Task) SleepWall(deadline int64) error {
	for t.k.Clock.Wall() < deadline {
		if t.Interrupted() {
			return abi.ERESTARTSYS
		}
		t.timer.SetWall(deadline)
		t.sleep()
		t.timer.Stop()
	}
	return nil
}

// A completion is an event that happens once and that one task waits for.
type completion struct {
	done   atomic.Bool
	waiter *Task
}

func (c *completion) complete() {
	c.done.Store(true)
	c.waiter.Wake()
}
