package task

import (
	"testing"

	"gosv/kernel/abi"
	"gosv/kernel/signal"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// onTask has a function run as a system call of the thread.
func (u *user) onTask(f func(t *Task)) {
	u.w.mu.Lock()
	u.w.inTask[u.c] = f
	u.w.mu.Unlock()
	u.must(sysOnTask)
}

func TestPosixTimer(t *testing.T) {
	w := newWorld(t, false)
	w.run(func(u *user) {
		var got []int32
		u.handle(40, signal.SigInfo, 0, func(u *user) {
			i := u.info()
			if i.Code() != signal.Timer || i.Value() != 77 {
				t.Errorf("siginfo %x", i)
			}
			got = append(got, int32(i.UID())) // si_overrun lies where si_uid does
		})
		u.must(unix.SYS_RT_SIGPROCMASK, sigBlock, set(40))
		var id int32
		u.onTask(func(tk *Task) {
			var err error
			if id, err = tk.TimerCreate(unix.CLOCK_MONOTONIC, &abi.SigEvent{Value: 77, Signo: 40}); err != nil {
				t.Error(err)
			}
			if _, err := tk.TimerCreate(unix.CLOCK_MONOTONIC_RAW, nil); err != unix.EOPNOTSUPP {
				t.Error(err)
			}
			for _, id := range []int32{-6, -2} { // as the C library names the caller's CPU time: process, thread
				if n, err := tk.TimerCreate(id, nil); err != nil || tk.proc.TimerDelete(n) != nil {
					t.Errorf("timer_create(%d): %v", id, err)
				}
			}
			if _, err := tk.TimerCreate(99, nil); err != unix.EINVAL {
				t.Error(err)
			}
			if _, _, err := tk.TimerSettime(id, 100, 10, false); err != nil {
				t.Error(err)
			}
		})
		w.m.Advance(155) // 100, then 110 … 150: five more
		u.must(unix.SYS_RT_SIGPROCMASK, sigUnblock, set(40))
		if len(got) != 1 || got[0] != 5 {
			t.Errorf("overruns %v", got)
		}
		u.onTask(func(tk *Task) {
			if n, _ := tk.proc.TimerGetoverrun(id); n != 5 {
				t.Errorf("timer_getoverrun: %d", n)
			}
			if v, i, _ := tk.TimerGettime(id); v != 5 || i != 10 {
				t.Errorf("timer_gettime: %d, %d", v, i)
			}
		})
		w.m.Advance(5)
		u.must(unix.SYS_GETPID)
		if len(got) != 2 || got[1] != 0 {
			t.Errorf("overruns %v", got)
		}
		u.onTask(func(tk *Task) {
			if err := tk.proc.TimerDelete(id); err != nil {
				t.Error(err)
			}
			if err := tk.proc.TimerDelete(id); err != unix.EINVAL {
				t.Error(err)
			}
		})
		w.m.Advance(100)
		u.must(unix.SYS_GETPID)
		if len(got) != 2 {
			t.Error("a deleted timer fired")
		}
	})
}

// TestFarCPUTimer: one that is more than a second away is looked at too, though the thread makes no call.
func TestFarCPUTimer(t *testing.T) {
	w := newWorld(t, false)
	w.run(func(u *user) {
		got := map[int]int{}
		for which, sig := range map[int]unix.Signal{unix.ITIMER_PROF: unix.SIGPROF, unix.ITIMER_VIRTUAL: unix.SIGVTALRM} {
			u.handle(sig, 0, 0, func(u *user) { got[which]++ })
			u.must(unix.SYS_SETITIMER, uint64(which), 3e9, 0)
		}
		for range 8 {
			w.m.Advance(5e8)
		}
		u.must(unix.SYS_GETPID)
		if len(got) != 2 {
			t.Errorf("after 4 s: %v", got)
		}
	})
}

// TestCPUTimers: the fake machine's time is CPU time for the one thread that runs.
func TestCPUTimers(t *testing.T) {
	w := newWorld(t, false)
	got := w.run(func(u *user) {
		prof := 0
		u.handle(unix.SIGPROF, 0, 0, func(u *user) { prof++ })
		u.must(unix.SYS_SETITIMER, uint64(unix.ITIMER_PROF), 20e6, 0)
		w.m.Advance(10e6)
		u.must(unix.SYS_GETPID)
		if prof != 0 {
			t.Error("SIGPROF came early")
		}
		w.m.Advance(30e6)
		u.must(unix.SYS_GETPID)
		if prof != 1 {
			t.Errorf("%d times SIGPROF", prof)
		}
		u.onTask(func(tk *Task) {
			if n, err := tk.ClockRead(unix.CLOCK_PROCESS_CPUTIME_ID); n < 40e6-1 || n > 40e6 || err != nil {
				t.Errorf("CPU time %d, %v", n, err)
			}
			if _, err := tk.Prlimit(0, unix.RLIMIT_CPU, &unix.Rlimit{Cur: 1, Max: 2}); err != nil {
				t.Error(err)
			}
		})
		xcpu := 0
		u.handle(unix.SIGXCPU, 0, 0, func(u *user) { xcpu++ })
		w.m.Advance(15e8)
		u.must(unix.SYS_GETPID)
		if xcpu != 1 {
			t.Errorf("%d times SIGXCPU", xcpu)
		}
		w.m.Advance(30e8)
		u.must(unix.SYS_GETPID)
		t.Error("the hard limit did not kill")
	})
	if got.sig != unix.SIGKILL {
		t.Error(got)
	}
}

func TestLimits(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.onTask(func(tk *Task) {
			for _, c := range []struct {
				res  int
				set  unix.Rlimit
				want error
			}{
				{16, unix.Rlimit{}, unix.EINVAL},
				{-1, unix.Rlimit{}, unix.EINVAL},
				{unix.RLIMIT_STACK, unix.Rlimit{Cur: 2, Max: 1}, unix.EINVAL},
				{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 1, Max: 1<<20 + 1}, unix.EPERM},
				{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 10, Max: 20}, nil},
			} {
				if _, err := tk.Prlimit(0, c.res, &c.set); err != c.want {
					t.Errorf("%+v: %v", c, err)
				}
			}
			if l := tk.proc.Limit(unix.RLIMIT_NOFILE); l.Cur != 10 || l.Max != 20 {
				t.Errorf("%+v", l)
			}
		})
		pid := u.fork(func(u *user) {
			u.onTask(func(tk *Task) {
				if l := tk.proc.Limit(unix.RLIMIT_NOFILE); l.Cur != 10 {
					t.Error("limits are not inherited")
				}
			})
		})
		u.wait4(pid, 0)
	})
}

func TestPidfd(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		pid := u.fork(func(u *user) { u.call(unix.SYS_PAUSE) })
		u.onTask(func(tk *Task) {
			f := w.k.Process(pid).NewPidfd(tk, 0)
			defer f.DecRef()
			p := PidfdProcess(f)
			if p == nil || p.PID != pid || f.Readiness(wait.Mask(unix.POLLIN)) != 0 {
				t.Error("pidfd")
			}
			if err := tk.KillProcess(p, unix.SIGKILL, nil); err != nil {
				t.Error(err)
			}
			if err := tk.WaitFor(f, unix.POLLIN, 0); err != nil {
				t.Error(err)
			}
			r, err := tk.Wait(&WaitArgs{Type: unix.P_PIDFD, Process: p, Options: unix.WEXITED})
			if err != nil || r.PID != pid || r.SigStatus() != int32(unix.SIGKILL) {
				t.Errorf("%+v, %v", r, err)
			}
			if err := tk.KillProcess(p, 0, nil); err != unix.ESRCH {
				t.Error(err)
			}
		})
	})
}
