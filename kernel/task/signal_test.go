package task

import (
	"testing"
	"time"

	"gosv/kernel/abi"
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

const (
	sigBlock   = 0
	sigUnblock = 1
	sigSetmask = 2
)

func set(sigs ...unix.Signal) uint64 { return uint64(signal.Of(sigs...)) }

// info reads the siginfo of the running handler.
func (u *user) info() (i signal.Info) {
	u.space.CopyIn(i[:], u.c.RSI)
	return i
}

func TestHandler(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		var got []unix.Signal
		u.c.RBX, u.c.R15 = 0x1234, 0x5678
		sp := u.c.RSP
		u.handle(unix.SIGUSR1, signal.SigInfo, signal.Of(unix.SIGUSR2), func(u *user) {
			sig := unix.Signal(u.c.RDI)
			got = append(got, sig)
			i := u.info()
			if i.Signo() != sig || i.Code() != signal.TKill || i.PID() != 1 {
				t.Errorf("siginfo %x", i)
			}
			if (u.c.RSP+8)%16 != 0 || u.c.RSP > sp-128 {
				t.Errorf("handler's stack pointer is %#x", u.c.RSP)
			}
			if m := w.k.Task(1).Mask(); m != signal.Of(unix.SIGUSR1, unix.SIGUSR2) {
				t.Errorf("mask in the handler is %#x", m)
			}
			u.c.RBX, u.c.R15 = 0, 0
			u.c.RFLAGS |= 0x400
			u.must(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGUSR2))
			if len(got) != 1 {
				t.Error("a blocked signal was delivered")
			}
		})
		u.handle(unix.SIGUSR2, 0, 0, func(u *user) { got = append(got, unix.Signal(u.c.RDI)) })
		if r := u.must(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGUSR1)); r != 0 {
			t.Errorf("tgkill returned %d", r)
		}
		if len(got) != 2 || got[0] != unix.SIGUSR1 || got[1] != unix.SIGUSR2 {
			t.Errorf("signals: %v", got)
		}
		if u.c.RBX != 0x1234 || u.c.R15 != 0x5678 || u.c.RSP != sp || u.c.RFLAGS&0x400 != 0 {
			t.Error("registers are not restored")
		}
		if w.k.Task(1).Mask() != 0 {
			t.Error("mask is not restored")
		}
	})
}

func TestFloatIsSavedAndFresh(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		img := make([]byte, w.m.FloatSize())
		w.m.SaveFloat(u.c, img)
		img[160] = 0x77 // xmm0
		img[512] |= 3
		if !w.m.LoadFloat(u.c, img) {
			t.Fatal("LoadFloat")
		}
		u.handle(unix.SIGUSR1, 0, 0, func(u *user) {
			w.m.SaveFloat(u.c, img)
			if img[160] != 0 {
				t.Error("the handler sees the interrupted state")
			}
			img[160] = 0x99
			w.m.LoadFloat(u.c, img)
		})
		u.must(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGUSR1))
		w.m.SaveFloat(u.c, img)
		if img[160] != 0x77 {
			t.Errorf("xmm0 is %#x", img[160])
		}
	})
}

func TestQueues(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		var got []unix.Signal
		add := func(u *user) { got = append(got, unix.Signal(u.c.RDI)) }
		for _, s := range []unix.Signal{unix.SIGUSR1, 34, 35, unix.SIGSEGV} {
			u.handle(s, 0, ^signal.Set(0), add)
		}
		all := set(unix.SIGUSR1, 34, 35, unix.SIGSEGV)
		u.must(unix.SYS_RT_SIGPROCMASK, sigBlock, all)
		for _, s := range []uint64{35, 34, uint64(unix.SIGUSR1), 34, uint64(unix.SIGUSR1), uint64(unix.SIGSEGV)} {
			u.must(unix.SYS_KILL, 1, s)
		}
		if p := u.must(unix.SYS_RT_SIGPENDING); p != all {
			t.Errorf("pending %#x", p)
		}
		u.must(unix.SYS_RT_SIGPROCMASK, sigUnblock, all)
		want := []unix.Signal{unix.SIGSEGV, unix.SIGUSR1, 34, 34, 35}
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

// TestRestart interrupts a system call that ends with each restart error, with each kind of handler.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		err            unix.Errno
		flags          uint64
		restarted      bool
		handlerIgnored bool
	}{
		{abi.ERESTARTSYS, 0, false, false},
		{abi.ERESTARTSYS, signal.Restart, true, false},
		{abi.ERESTARTNOHAND, signal.Restart, false, false},
		{abi.ERESTARTNOINTR, 0, true, false},
		{abi.ERESTART_RESTARTBLOCK, signal.Restart, false, false},
		{unix.EINTR, signal.Restart, false, false},
	} {
		w := newWorld(t, true)
		w.run(func(u *user) {
			n := 0
			u.handle(unix.SIGUSR1, c.flags, 0, func(u *user) { n++ })
			u.thread(func(u *user) {
				for i := range 3 {
					u.until("the call blocks", w.asleep(1))
					u.must(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGUSR1))
					u.until("the handler runs", func() bool { return w.k.Task(1).usage.signals.Load() > int64(i) })
					if !c.restarted {
						break
					}
				}
				u.exit(5)
			})
			if r := u.call(sysBlock, uint64(c.err)); r != errno(unix.EINTR) || c.restarted {
				t.Errorf("%d: returned %d", c.err, int64(r))
			}
			u.call(unix.SYS_PAUSE)
		})
	}
}

func TestRestartBlockAfterStop(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		pid := u.fork(func(u *user) {
			if r := u.must(sysNap, 50e6); r != 7 {
				t.Errorf("nap returned %d", r)
			}
		})
		u.until("child naps", w.asleep(pid))
		u.must(unix.SYS_KILL, uint64(pid), uint64(unix.SIGSTOP))
		if p, st := u.wait4(pid, unix.WUNTRACED); p != pid || st != uint32(unix.SIGSTOP)<<8|0x7f {
			t.Errorf("stop: %d %#x", p, st)
		}
		if s := w.k.Process(pid).State(); s != 'T' {
			t.Errorf("state %c", s)
		}
		u.must(unix.SYS_KILL, uint64(pid), uint64(unix.SIGCONT))
		if p, st := u.wait4(pid, unix.WCONTINUED); p != pid || st != 0xffff && st != 0 {
			t.Errorf("continue: %d %#x", p, st)
		} else if st == 0xffff {
			u.wait4(pid, 0)
		}
	})
}

func TestSigsuspendAndMask(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		n := 0
		u.handle(unix.SIGUSR1, 0, 0, func(u *user) {
			n++
			if m := w.k.Task(1).Mask(); m != signal.Of(unix.SIGUSR1, unix.SIGHUP) {
				t.Errorf("mask in the handler: %#x", m)
			}
		})
		u.must(unix.SYS_RT_SIGPROCMASK, sigSetmask, set(unix.SIGUSR1, unix.SIGTERM))
		u.must(unix.SYS_KILL, 1, uint64(unix.SIGUSR1))
		u.fails(unix.EINTR, unix.SYS_RT_SIGSUSPEND, set(unix.SIGHUP))
		if m := w.k.Task(1).Mask(); n != 1 || m != signal.Of(unix.SIGUSR1, unix.SIGTERM) {
			t.Errorf("after sigsuspend: %d handlers, mask %#x", n, m)
		}
	})
}

func TestAltStack(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		const base, size = dataBase, 0x2000
		u.fails(unix.ENOMEM, unix.SYS_SIGALTSTACK, base, 0, 100)
		u.fails(unix.EINVAL, unix.SYS_SIGALTSTACK, base, 4, size)
		u.must(unix.SYS_SIGALTSTACK, base, 0, size)
		n := 0
		u.handle(unix.SIGUSR1, signal.OnStack|signal.NoDefer, 0, func(u *user) {
			n++
			if u.c.RSP < base || u.c.RSP >= base+size {
				t.Errorf("handler's stack pointer is %#x", u.c.RSP)
			}
			u.fails(unix.EPERM, unix.SYS_SIGALTSTACK, base, 0, size)
			if n == 1 {
				u.must(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGUSR1))
			}
		})
		u.must(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGUSR1))
		if n != 2 {
			t.Errorf("%d handlers ran", n)
		}
		u.must(unix.SYS_SIGALTSTACK, 0, 2, 0)
	})
}

func TestFaultSignals(t *testing.T) {
	w := newWorld(t, true)
	got := w.run(func(u *user) {
		n := 0
		u.handle(unix.SIGSEGV, signal.SigInfo, 0, func(u *user) {
			n++
			i := u.info()
			if i.Addr() != 0x1234000 || i.Code() != 1 {
				t.Errorf("si_addr %#x, code %d", i.Addr(), i.Code())
			}
			// skip the instruction: change RIP in the frame (sigcontext, 16th register)
			const rip = 8 + 40 + 128
			pc, _ := u.space.Load64(u.c.RSP + rip)
			u.space.Store64(u.c.RSP+rip, pc+1)
		})
		u.touch(0x1234000, true)
		if n != 1 {
			t.Errorf("%d handlers", n)
		}
		u.must(unix.SYS_RT_SIGPROCMASK, sigBlock, set(unix.SIGSEGV))
		u.touch(0x1234000, true) // blocked: fatal
		t.Error("a blocked SIGSEGV did not kill")
	})
	if got.sig != unix.SIGSEGV {
		t.Error(got)
	}
}

func TestNoStackForHandler(t *testing.T) {
	w := newWorld(t, true)
	got := w.run(func(u *user) {
		u.handle(unix.SIGUSR1, 0, 0, func(u *user) { t.Error("the handler ran") })
		u.c.RSP = 0x7000
		u.call(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGUSR1))
	})
	if got.sig != unix.SIGSEGV {
		t.Error(got)
	}
}

func TestBadSigreturn(t *testing.T) {
	for _, damage := range []func(u *user){
		func(u *user) { u.c.RSP = 0x7000 },
		func(u *user) { u.store64(u.c.RSP+48+184, 0x7000) }, // fpstate
	} {
		w := newWorld(t, true)
		got := w.run(func(u *user) {
			u.c.RSP = stackBase + 0x4000
			u.touch(u.c.RSP, true)
			damage(u)
			u.c.RSP += 8
			u.call(unix.SYS_RT_SIGRETURN)
			t.Error("sigreturn returned")
		})
		if got.sig != unix.SIGSEGV {
			t.Error(got)
		}
	}
}

// TestBadSigreturnIsCaught: a handler on the alternate stack sees what a stack pointer from nowhere leads to.
func TestBadSigreturnIsCaught(t *testing.T) {
	for _, sp := range []uint64{0, 0x10000, 0x7ffffffff000 - 16, 1 << 63, ^uint64(0)} {
		w := newWorld(t, true)
		got := w.run(func(u *user) {
			u.must(unix.SYS_SIGALTSTACK, dataBase, 0, 0x2000)
			u.handle(unix.SIGSEGV, signal.SigInfo|signal.OnStack, 0, func(u *user) {
				if i := u.info(); i.Code() != signal.Kernel {
					t.Errorf("si_code %d", i.Code())
				}
				u.exit(3)
			})
			u.c.RSP = sp
			u.call(unix.SYS_RT_SIGRETURN)
		})
		if got.status != 3 {
			t.Errorf("%#x: %v", sp, got)
		}
	}
}

func TestSigtimedwait(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.must(unix.SYS_RT_SIGPROCMASK, sigBlock, set(unix.SIGUSR1, unix.SIGCHLD))
		u.fails(unix.EAGAIN, unix.SYS_RT_SIGTIMEDWAIT, set(unix.SIGUSR1), 1e6)
		pid := u.fork(func(u *user) {
			u.until("parent waits", w.asleep(1))
			u.must(unix.SYS_KILL, 1, uint64(unix.SIGUSR1))
		})
		if s := u.must(unix.SYS_RT_SIGTIMEDWAIT, set(unix.SIGUSR1)); s != uint64(unix.SIGUSR1) {
			t.Errorf("took %d", s)
		}
		if s := u.must(unix.SYS_RT_SIGTIMEDWAIT, set(unix.SIGCHLD)); s != uint64(unix.SIGCHLD) {
			t.Errorf("took %d", s)
		}
		u.wait4(pid, 0)
	})
}

func TestKickFromRing3(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		done := false
		u.handle(unix.SIGUSR1, 0, 0, func(u *user) { done = true })
		u.fork(func(u *user) {
			time.Sleep(10 * time.Millisecond) // the parent is in ring 3 by then
			u.must(unix.SYS_KILL, 1, uint64(unix.SIGUSR1))
		})
		for !done {
			u.spin()
		}
	})
}

// TestInit has process 1 be deaf to other processes, but not to the host and to itself.
func TestInit(t *testing.T) {
	others := func(u *user) {
		pid := u.fork(func(u *user) {
			for _, s := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGSTOP, unix.SIGTSTP} {
				u.must(unix.SYS_KILL, 1, uint64(s))
			}
			u.must(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGKILL))
		})
		if p, st := u.wait4(pid, 0); p != pid || st != 0 {
			t.Errorf("wait4: %d %#x", p, st)
		}
		u.must(unix.SYS_KILL, 1, uint64(unix.SIGSTOP))
	}
	for _, c := range []struct {
		sig unix.Signal
		p   program
	}{
		{unix.SIGTERM, func(u *user) { w := u.w; w.k.SignalInit(unix.SIGTERM); u.call(unix.SYS_PAUSE) }},
		{unix.SIGKILL, func(u *user) { u.w.k.SignalInit(unix.SIGKILL); u.call(unix.SYS_PAUSE) }},
		{unix.SIGKILL, func(u *user) { u.call(unix.SYS_KILL, 1, uint64(unix.SIGKILL)) }},
		{unix.SIGABRT, func(u *user) { u.call(unix.SYS_TGKILL, 1, 1, uint64(unix.SIGABRT)) }},
		{unix.SIGALRM, func(u *user) { u.must(unix.SYS_SETITIMER, 0, 1e6); u.call(unix.SYS_PAUSE) }},
		{unix.SIGPIPE, func(u *user) { u.w.k.Task(1).SendSignal(unix.SIGPIPE); u.call(unix.SYS_PAUSE) }},
	} {
		w := newWorld(t, true)
		got := w.run(func(u *user) {
			others(u)
			c.p(u)
			t.Errorf("%v: process 1 lives", c.sig)
		})
		if got.sig != c.sig {
			t.Error(got)
		}
	}
}

func TestHostSignalHandledAndBlocked(t *testing.T) {
	w := newWorld(t, true)
	got := w.run(func(u *user) {
		n := 0
		u.handle(unix.SIGTERM, 0, 0, func(u *user) { n++ })
		w.k.SignalInit(unix.SIGTERM)
		u.must(unix.SYS_GETPID)
		if n != 1 {
			t.Errorf("%d handlers ran", n)
		}
		u.must(unix.SYS_RT_SIGPROCMASK, sigBlock, set(unix.SIGINT))
		w.k.SignalInit(unix.SIGINT)
		u.must(unix.SYS_GETPID)
		u.must(unix.SYS_RT_SIGPROCMASK, sigUnblock, set(unix.SIGINT))
		t.Error("SIGINT did nothing")
	})
	if got.sig != unix.SIGINT {
		t.Error(got)
	}
}

func TestResetHandAndIgnore(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		pid := u.fork(func(u *user) {
			n := 0
			u.handle(unix.SIGUSR1, signal.ResetHand, 0, func(u *user) { n++ })
			me := u.must(unix.SYS_GETPID)
			u.sigaction(unix.SIGUSR2, abi.SigAction{Handler: signal.IGN})
			u.must(unix.SYS_KILL, me, uint64(unix.SIGUSR2))
			u.must(unix.SYS_KILL, me, uint64(unix.SIGUSR1))
			if n != 1 {
				t.Errorf("%d handlers", n)
			}
			u.must(unix.SYS_KILL, me, uint64(unix.SIGUSR1))
			t.Error("SIGUSR1 should be fatal now")
		})
		if _, st := u.wait4(pid, 0); st != uint32(unix.SIGUSR1) {
			t.Errorf("status %#x", st)
		}
	})
}

func TestItimer(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		n := 0
		u.handle(unix.SIGALRM, 0, 0, func(u *user) { n++ })
		u.must(unix.SYS_SETITIMER, 0, 1e6, 1e6)
		for n < 3 {
			u.fails(unix.EINTR, unix.SYS_PAUSE)
		}
		u.must(unix.SYS_SETITIMER, 0, 0, 0)
	})
}

// SIGCONT that comes between the moment that a stop signal is taken and the stop must not be lost.
func TestContinueBeforeStop(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		pid := u.fork(func(u *user) {
			u.onTask(func(tk *Task) {
				tk.SendSignal(unix.SIGSTOP)
				tk.proc.mu.Lock()
				if !tk.take(0) || tk.taken.Info.Signo() != unix.SIGSTOP {
					t.Error("no signal")
				}
				tk.proc.mu.Unlock()
				tk.SendSignal(unix.SIGCONT)
				tk.act()
			})
			u.exit(5)
		})
		if p, st := u.wait4(pid, unix.WUNTRACED); p != pid || st != 5<<8 {
			t.Errorf("wait4: %d %#x", p, st)
		}
	})
}
