package task

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		p    program
		want exitStatus
	}{
		{func(u *user) { u.exit(3) }, exitStatus{3, 0}},
		{func(u *user) { u.call(unix.SYS_EXIT, 4) }, exitStatus{4, 0}},
		{func(u *user) { u.touch(0x1000, false) }, exitStatus{0, unix.SIGSEGV}},
		{func(u *user) { u.call(sysPanic) }, exitStatus{0, unix.SIGKILL}},
	} {
		w := newWorld(t, true)
		if c.want.sig == unix.SIGKILL {
			w.start(c.p)
			<-w.over
			if got := w.exits[0]; got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if len(w.log) != 1 {
				t.Errorf("log: %q", w.log)
			}
			continue
		}
		if got := w.run(c.p); got != c.want {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
}

func TestForkWait(t *testing.T) {
	w := newWorld(t, true)
	got := w.run(func(u *user) {
		if u.must(unix.SYS_GETPID) != 1 {
			t.Error("the first process is not 1")
		}
		pid := u.fork(func(u *user) {
			if u.must(unix.SYS_GETPPID) != 1 {
				t.Error("wrong parent")
			}
			u.store32(dataBase, 5)
			u.exit(7)
		})
		if p, st := u.wait4(-1, 0); p != pid || st != 7<<8 {
			t.Errorf("wait4: %d %#x", p, st)
		}
		if u.load32(dataBase) != 0 {
			t.Error("memory is shared after fork")
		}
		u.onTask(func(tk *Task) {
			if ru, err := tk.Rusage(unix.RUSAGE_CHILDREN); ru.Maxrss < 4 || err != nil {
				t.Errorf("the child's most resident memory: %d KiB, %v", ru.Maxrss, err)
			}
		})
		u.fails(unix.ECHILD, unix.SYS_WAIT4, ^uint64(0), 0, 0)
		pid = u.fork(func(u *user) { u.call(unix.SYS_PAUSE) })
		if p, _ := u.wait4(-1, unix.WNOHANG); p != 0 {
			t.Errorf("WNOHANG: %d", p)
		}
		u.must(unix.SYS_KILL, uint64(pid), uint64(unix.SIGTERM))
		if p, st := u.wait4(pid, 0); p != pid || st != uint32(unix.SIGTERM) {
			t.Errorf("wait4: %d %#x", p, st)
		}
	})
	if got != (exitStatus{}) {
		t.Error(got)
	}
}
