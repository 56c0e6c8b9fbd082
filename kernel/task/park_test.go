package task

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/wait"
)

// lateEvent becomes ready when its waiter has looked once.
type lateEvent struct {
	wait.Queue
	looks int
}

func (l *lateEvent) Readiness(mask wait.Mask) wait.Mask {
	if l.looks++; l.looks == 1 {
		return 0
	}
	return mask & unix.POLLIN
}

func (l *lateEvent) Register(e *wait.Entry)   { l.Add(e) }
func (l *lateEvent) Unregister(e *wait.Entry) { l.Remove(e) }

// Who waits for what only one is told of takes it, also when the time is over just then: nobody else will be told.
func TestEventAtDeadline(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.onTask(func(tk *Task) {
			if err := tk.WaitForExclusive(&lateEvent{}, unix.POLLIN, 1); err != nil {
				t.Error(err)
			}
			if err := tk.WaitFor(&lateEvent{}, unix.POLLIN, 1); err != unix.ETIMEDOUT {
				t.Error(err)
			}
		})
	})
}
