package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

// With SetupSQPoll submissions are made in the name of who made the ring. Linux has a thread that looks at the ring for some time and then asks
// to be woken (IORING_SQ_NEED_WAKEUP). Here nothing looks: the ring asks to be woken all the time, and who wakes submits.

// Polls makes t, who makes the ring, the one in whose name is submitted.
func (r *Ring) Polls(t *task.Task) { r.poller, r.credit = t.Delegate(), t.Cred() }

// SQPoll reports whether the ring has SetupSQPoll.
func (r *Ring) SQPoll() bool { return r.flags&SetupSQPoll != 0 }

// Wakeup submits what is in the ring: EOWNERDEAD when the process that made it has ended, EBADFD.
func (r *Ring) Wakeup(prepare func(*task.Task, *Request) error) error {
	var failed error
	err := r.poller.Do(r.credit, func(t *task.Task) {
		// What another thread adds meanwhile it wakes for itself.
		for left := r.sqEntries; left > 0 && failed == nil; {
			var done uint32
			if done, failed = r.Submit(t, left, prepare); done == 0 {
				return
			}
			left -= done
		}
	})
	switch {
	case err == unix.ECANCELED:
		return unix.EOWNERDEAD
	case err != nil:
		return err
	case failed == unix.EBADFD:
		return failed
	}
	return nil // what else may fail does so again when it is tried again
}
