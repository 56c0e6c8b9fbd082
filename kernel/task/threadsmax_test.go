package task

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestMaxThreads: no more threads and zombies than that, and all of a process of many end.
func TestMaxThreads(t *testing.T) {
	w := newWorld(t, true)
	const most = 5 * mostEnding
	w.run(func(u *user) {
		u.onTask(func(tk *Task) {
			if err := tk.k.SetMaxThreads(0); err != unix.EINVAL {
				t.Errorf("SetMaxThreads(0): %v", err)
			}
			tk.k.SetMaxThreads(most)
		})
		for range 3 {
			pid := u.fork(func(u *user) {
				for range most - 3 {
					u.thread(func(u *user) { u.call(unix.SYS_PAUSE) })
				}
				u.fork(func(u *user) { u.exit(0) })
				u.fails(unix.EAGAIN, unix.SYS_CLONE, uint64(unix.SIGCHLD))
				u.fails(unix.EAGAIN, unix.SYS_CLONE, threadFlags, stackBase+stackSize/2)
				u.exit(3)
			})
			if p, st := u.wait4(pid, 0); p != pid || st != 3<<8 {
				t.Errorf("wait4: %d %#x", p, st)
			}
			u.wait4(-1, 0) // the orphan
		}
	})
	w.k.exits.mu.Lock()
	defer w.k.exits.mu.Unlock()
	if n := w.k.exits.ending; n != 0 {
		t.Errorf("%d are ending for ever", n)
	}
}
