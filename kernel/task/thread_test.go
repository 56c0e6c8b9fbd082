package task

import (
	"sync/atomic"
	"testing"

	"gosv/kernel/abi"
	"gosv/kernel/futex"
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// join waits for a thread as pthread_join does: for its CLONE_CHILD_CLEARTID word.
func (u *user) join(addr uint64) {
	for v := u.load32(addr); v != 0; v = u.load32(addr) {
		r := u.call(unix.SYS_FUTEX, addr, futexWaitBitset|futexClockRealtime, uint64(v), 0, 0, 0xffffffff) // as glibc does
		if r != 0 && r != errno(unix.EAGAIN) {
			u.w.tb.Errorf("futex: %d", int64(r))
		}
	}
}

const pthreadFlags = threadFlags | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID | unix.CLONE_SETTLS

func TestThreadCreateJoin(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		for i := range 50 {
			const word = dataBase + 256
			tid := u.clone(pthreadFlags, stackBase+stackSize/2, func(u *user) {
				if u.must(unix.SYS_GETPID) != 1 || u.c.FSBase != 0x7777 {
					t.Error("not a thread")
				}
				if tid := u.must(unix.SYS_GETTID); u.load32(word) != uint32(tid) {
					t.Error("the thread's ID is not in its word")
				}
				u.store32(dataBase, u.load32(dataBase)+1)
				u.call(unix.SYS_EXIT, 0)
			}, word, word, 0x7777)
			u.join(word)
			if u.load32(dataBase) != uint32(i+1) {
				t.Fatal("memory is not shared")
			}
			u.until("the thread is gone", func() bool { return w.k.Task(tid) == nil })
		}
		u.fails(unix.EINVAL, unix.SYS_CLONE, unix.CLONE_THREAD)
		u.fails(unix.EINVAL, unix.SYS_CLONE, unix.CLONE_SIGHAND)
		u.fails(unix.EINVAL, unix.SYS_CLONE, unix.CLONE_NEWNS|unix.CLONE_FS)
	})
}

func TestExitGroupEndsAllThreads(t *testing.T) {
	w := newWorld(t, true)
	got := w.run(func(u *user) {
		u.thread(func(u *user) { u.call(unix.SYS_PAUSE) })
		u.thread(func(u *user) {
			for {
				u.spin()
			}
		})
		u.thread(func(u *user) { u.call(unix.SYS_FUTEX, dataBase, futexWait, 0) })
		a := u.thread(func(u *user) { u.call(unix.SYS_PAUSE) })
		u.until("threads sleep", w.asleep(a))
		u.thread(func(u *user) { u.exit(9) })
		u.call(unix.SYS_PAUSE)
	})
	if got.status != 9 {
		t.Error(got)
	}
}

// TestLeaderExitsFirst: the process lives on until its last thread ends, and has that one's status.
func TestLeaderExitsFirst(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		pid := u.fork(func(u *user) {
			leader := int32(u.must(unix.SYS_GETPID))
			u.thread(func(u *user) {
				u.until("leader ends", func() bool { return w.k.Task(leader) == nil })
				if s := w.k.Process(leader).State(); s != 'Z' {
					t.Errorf("state of the leader: %c", s)
				}
				u.must(unix.SYS_KILL, uint64(leader), 0)
				u.call(unix.SYS_EXIT, 3)
			})
			u.call(unix.SYS_EXIT, 2)
		})
		if p, st := u.wait4(pid, 0); p != pid || st != 3<<8 {
			t.Errorf("wait4: %d %#x", p, st)
		}
	})
}

func TestExecFromThread(t *testing.T) {
	w := newWorld(t, true)
	next := w.fn(func(u *user) {
		if pid, tid := u.must(unix.SYS_GETPID), u.must(unix.SYS_GETTID); pid != tid || pid == 1 {
			t.Errorf("after execve: pid %d, tid %d", pid, tid)
		}
		if n := len(w.k.Process(int32(u.must(unix.SYS_GETPID))).Threads()); n != 1 {
			t.Errorf("%d threads", n)
		}
		p := w.k.Process(int32(u.must(unix.SYS_GETPID)))
		if ign, caught := p.Handlers().Ignored(); ign != signal.Of(unix.SIGUSR2) || caught != 0 {
			t.Errorf("handlers: ignored %#x, caught %#x", ign, caught)
		}
		if u.load32(dataBase) != 0 {
			t.Error("memory of the old program")
		}
		u.exit(6)
	})
	w.run(func(u *user) {
		pid := u.fork(func(u *user) {
			u.handle(unix.SIGUSR1, 0, 0, func(u *user) {})
			u.sigaction(unix.SIGUSR2, abi.SigAction{Handler: signal.IGN})
			u.store32(dataBase, 1)
			for range 3 {
				u.thread(func(u *user) { u.call(unix.SYS_PAUSE) })
			}
			u.thread(func(u *user) {
				u.call(unix.SYS_EXECVE, next)
				t.Error("execve returned")
			})
			for {
				u.spin()
			}
		})
		if p, st := u.wait4(pid, 0); p != pid || st != 6<<8 {
			t.Errorf("wait4: %d %#x", p, st)
		}
		u.fails(unix.ENOSYS, 1999)
	})
}

func TestFailedExecChangesNothing(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		tid := u.thread(func(u *user) { u.call(unix.SYS_PAUSE) })
		u.until("thread sleeps", w.asleep(tid))
		w.m.FailAfter(0)
		u.fails(unix.ENOMEM, unix.SYS_EXECVE, codeBase)
		w.m.FailAfter(-1)
		if w.k.Task(tid) == nil {
			t.Error("execve that failed has ended a thread")
		}
		u.exit(0)
	})
}

func TestVfork(t *testing.T) {
	w := newWorld(t, true)
	next := w.fn(func(u *user) { u.exit(8) })
	w.run(func(u *user) {
		for _, exec := range []bool{false, true} {
			var done atomic.Bool
			pid := u.clone(unix.CLONE_VM|unix.CLONE_VFORK|uint64(unix.SIGCHLD), stackBase+stackSize/2, func(u *user) {
				u.until("parent waits", w.asleep(1))
				u.store32(dataBase, 3)
				done.Store(true)
				if exec {
					u.call(unix.SYS_EXECVE, next)
				}
				u.exit(8)
			})
			if !done.Load() || u.load32(dataBase) != 3 {
				t.Error("vfork returned too early")
			}
			if p, st := u.wait4(pid, 0); p != pid || st != 8<<8 {
				t.Errorf("wait4: %d %#x", p, st)
			}
		}
	})
}

func TestForkFails(t *testing.T) {
	for n := range 12 {
		w := newWorld(t, true)
		w.run(func(u *user) {
			u.store32(dataBase, 1)
			u.c.RBX = w.fn(func(u *user) { u.exit(0) })
			w.m.FailAfter(n)
			r := u.call(unix.SYS_CLONE, uint64(unix.SIGCHLD))
			w.m.FailAfter(-1)
			if r != errno(unix.ENOMEM) {
				u.wait4(-1, 0)
			}
		})
	}
}

func TestOrphans(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		chld := 0
		u.handle(unix.SIGCHLD, signal.Restart, 0, func(u *user) { chld++ })
		var orphan atomic.Int32
		pid := u.fork(func(u *user) {
			me := int32(u.must(unix.SYS_GETPID))
			orphan.Store(u.fork(func(u *user) {
				u.until("parent is reaped", func() bool { return w.k.Process(me) == nil })
				if pp := u.must(unix.SYS_GETPPID); pp != 1 {
					t.Errorf("an orphan's parent is %d", pp)
				}
			}))
		})
		u.wait4(pid, 0)
		// the orphan is waited for, but reaped by the kernel
		if p, _ := u.wait4(-1, 0); p != -int32(unix.ECHILD) {
			t.Errorf("wait for the orphan: %d", p)
		}
		if w.k.Process(orphan.Load()) != nil || chld != 1 {
			t.Errorf("the orphan is there still, or gave SIGCHLD (%d)", chld)
		}
	})
}

func TestSubreaper(t *testing.T) {
	for _, init := range []bool{false, true} {
		w := newWorld(t, true)
		test := func(u *user) {
			u.must(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
			me := u.must(unix.SYS_GETPID)
			pid := u.fork(func(u *user) {
				dad := int32(u.must(unix.SYS_GETPID))
				u.fork(func(u *user) {
					u.until("parent is reaped", func() bool { return w.k.Process(dad) == nil })
					if pp := u.must(unix.SYS_GETPPID); pp != me {
						t.Errorf("parent is %d, not %d", pp, me)
					}
					u.exit(4)
				})
			})
			u.wait4(pid, 0)
			if p, st := u.wait4(-1, 0); p <= 0 || st != 4<<8 {
				t.Errorf("wait for the orphan: %d %#x", p, st)
			}
		}
		w.run(func(u *user) {
			if init {
				test(u)
			} else {
				u.wait4(u.fork(test), 0)
			}
		})
	}
}

func TestIgnoredChildrenVanish(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.sigaction(unix.SIGCHLD, abi.SigAction{Handler: signal.IGN})
		pid := u.fork(func(u *user) {})
		if p, _ := u.wait4(-1, 0); p != -int32(unix.ECHILD) {
			t.Errorf("wait4: %d", p)
		}
		if w.k.Process(pid) != nil {
			t.Error("zombie")
		}
	})
}

func TestEverythingEndsWithInit(t *testing.T) {
	w := newWorld(t, true)
	var ready atomic.Int32
	got := w.run(func(u *user) {
		for range 3 {
			u.fork(func(u *user) {
				u.must(unix.SYS_RT_SIGPROCMASK, sigBlock, ^uint64(0))
				u.fork(func(u *user) {
					for {
						u.spin()
					}
				})
				u.thread(func(u *user) { u.call(unix.SYS_PAUSE) })
				ready.Add(1)
				u.call(unix.SYS_PAUSE)
			})
		}
		u.until("all run", func() bool { return ready.Load() == 3 })
		u.exit(5)
	})
	if got.status != 5 {
		t.Error(got)
	}
	if len(w.k.Processes()) != 1 { // process 1 itself, the last zombie
		t.Errorf("%d processes are left", len(w.k.Processes()))
	}
}

func TestGroupsAndSessions(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.fails(unix.EPERM, unix.SYS_SETSID)
		u.fails(unix.EPERM, unix.SYS_SETPGID, 0, 0) // a session leader
		sleep := func(u *user) { u.call(unix.SYS_PAUSE) }
		a, b := uint64(u.fork(sleep)), uint64(u.fork(sleep))
		u.must(unix.SYS_SETPGID, a, 0)
		u.must(unix.SYS_SETPGID, b, a)
		u.fails(unix.EPERM, unix.SYS_SETPGID, b, 4444)
		u.fails(unix.ESRCH, unix.SYS_SETPGID, 4444, 0)
		if g := w.k.Process(int32(b)).PGID(); g != int32(a) {
			t.Errorf("group %d", g)
		}
		u.must(unix.SYS_KILL, -a, uint64(unix.SIGTERM))
		for range 2 {
			if p, st := u.wait4(-int32(a), 0); p <= 0 || st != uint32(unix.SIGTERM) {
				t.Errorf("wait4: %d %#x", p, st)
			}
		}
		u.fails(unix.ESRCH, unix.SYS_KILL, -a, 0)
		c := u.fork(func(u *user) {
			pid := u.must(unix.SYS_GETPID)
			if s := u.must(unix.SYS_SETSID); s != pid || u.must(unix.SYS_GETSID) != pid || u.must(unix.SYS_GETPGID) != pid {
				t.Error("setsid")
			}
		})
		u.wait4(c, 0)
	})
}

// A group that was orphaned all the time is left alone when a member ends, though another is stopped.
func TestOrphanedBefore(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		leader := u.fork(func(u *user) {
			u.must(unix.SYS_SETSID)
			stopped := u.fork(func(u *user) { u.call(unix.SYS_PAUSE) })
			u.until("it sleeps", w.asleep(stopped))
			u.must(unix.SYS_KILL, uint64(stopped), uint64(unix.SIGSTOP))
			if p, _ := u.wait4(stopped, unix.WUNTRACED); p != stopped {
				t.Error("it did not stop")
			}
			u.wait4(u.fork(func(u *user) {}), 0)
			u.must(unix.SYS_KILL, uint64(stopped), uint64(unix.SIGKILL))
			u.wait4(stopped, 0)
			u.exit(5)
		})
		if p, st := u.wait4(leader, 0); p != leader || st != 5<<8 {
			t.Errorf("leader: %d %#x", p, st)
		}
	})
}

// TestOrphanedGroupIsHungUp: exit(3): a stopped job whose shell ends gets SIGHUP and SIGCONT.
func TestOrphanedGroupIsHungUp(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.must(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
		var job atomic.Int32
		shell := u.fork(func(u *user) {
			u.must(unix.SYS_SETSID)
			j := u.fork(func(u *user) {
				u.handle(unix.SIGHUP, 0, 0, func(u *user) { u.exit(1) })
				u.call(unix.SYS_PAUSE)
			})
			job.Store(j)
			u.must(unix.SYS_SETPGID, uint64(j), 0)
			u.until("job sleeps", w.asleep(j))
			u.must(unix.SYS_KILL, uint64(j), uint64(unix.SIGTSTP))
			if p, _ := u.wait4(j, unix.WUNTRACED); p != j {
				t.Error("the job did not stop")
			}
		})
		u.wait4(shell, 0)
		if p, st := u.wait4(job.Load(), 0); p != job.Load() || st != 1<<8 {
			t.Errorf("job: %d %#x", p, st)
		}
	})
}

func TestParentDeathSignal(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.must(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
		pid := u.fork(func(u *user) {
			c := u.fork(func(u *user) {
				u.must(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(unix.SIGUSR1))
				u.call(unix.SYS_PAUSE)
			})
			u.until("child sleeps", w.asleep(c))
		})
		u.wait4(pid, 0)
		if _, st := u.wait4(-1, 0); st != uint32(unix.SIGUSR1) {
			t.Errorf("status %#x", st)
		}
	})
}

func TestFutexPingPong(t *testing.T) {
	for _, flag := range []uint64{0, futexPrivateFlag} {
		w := newWorld(t, true)
		w.run(func(u *user) {
			const a, b, n = dataBase, dataBase + 64, 200
			u.store32(a, 0)
			wait := func(u *user, addr uint64, v uint32) {
				for u.load32(addr) != v {
					u.call(unix.SYS_FUTEX, addr, futexWait|flag, uint64(v-1))
				}
			}
			u.thread(func(u *user) {
				for i := uint32(1); i <= n; i++ {
					wait(u, a, i)
					u.store32(b, i)
					u.must(unix.SYS_FUTEX, b, futexWake|flag, 1)
				}
				u.call(unix.SYS_EXIT, 0)
			})
			for i := uint32(1); i <= n; i++ {
				u.store32(a, i)
				u.must(unix.SYS_FUTEX, a, futexWake|flag, 1)
				wait(u, b, i)
			}
		})
	}
}

func TestFutexErrors(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.store32(dataBase, 1)
		u.fails(unix.EAGAIN, unix.SYS_FUTEX, dataBase, futexWait, 0)
		u.fails(unix.EINVAL, unix.SYS_FUTEX, dataBase+1, futexWait, 0)
		u.fails(unix.EFAULT, unix.SYS_FUTEX, 0x1000, futexWait|futexPrivateFlag, 0)
		u.fails(unix.EINVAL, unix.SYS_FUTEX, dataBase, futexWaitBitset, 1, 0, 0, 0)
		u.fails(unix.ETIMEDOUT, unix.SYS_FUTEX, dataBase, futexWait, 1, 1e6)
		u.fails(unix.ETIMEDOUT, unix.SYS_FUTEX, dataBase, futexWaitBitset|futexClockRealtime, 1, 1e6, 0, 1)
		// a page that has not been touched yet is zero
		u.fails(unix.ETIMEDOUT, unix.SYS_FUTEX, dataBase+0x1000, futexWait, 0, 1e6)
		u.fails(unix.EDEADLK, unix.SYS_FUTEX, func() uint64 { u.store32(dataBase, 1); return dataBase }(), futexLockPi)
		u.fails(unix.EPERM, unix.SYS_FUTEX, dataBase+64, futexUnlockPi)
		u.store32(dataBase, 4444)
		u.fails(unix.ESRCH, unix.SYS_FUTEX, dataBase, futexLockPi)
	})
}

func TestFutexRequeueAndWakeOp(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		const a, b = dataBase, dataBase + 128
		u.store32(a, 0)
		var woken atomic.Int32
		var tids []int32
		for range 4 {
			tids = append(tids, u.thread(func(u *user) {
				u.must(unix.SYS_FUTEX, a, futexWait, 0)
				woken.Add(1)
				u.call(unix.SYS_EXIT, 0)
			}))
		}
		for _, tid := range tids {
			u.until("thread waits", w.asleep(tid))
		}
		u.fails(unix.EAGAIN, unix.SYS_FUTEX, a, futexCmpRequeue, 1, 10, b, 7)
		if n := u.must(unix.SYS_FUTEX, a, futexCmpRequeue, 1, 10, b, 0); n != 4 {
			t.Errorf("cmp_requeue: %d", n)
		}
		u.until("one is awake", func() bool { return woken.Load() == 1 })
		if n := u.must(unix.SYS_FUTEX, a, futexWake, 10); n != 0 {
			t.Errorf("%d are left on the first futex", n)
		}
		// b |= 4, wake 1 on a (none), and 2 on b if b was 0
		op := uint64(2<<28 | 4<<12)
		if n := u.must(unix.SYS_FUTEX, a, futexWakeOp, 1, 2, b, op); n != 2 || u.load32(b) != 4 {
			t.Errorf("wake_op: %d, word %d", n, u.load32(b))
		}
		if n := u.must(unix.SYS_FUTEX, b, futexWake, 10); n != 1 {
			t.Errorf("%d were left", n)
		}
		u.until("all are awake", func() bool { return woken.Load() == 4 })
	})
}

func TestRobustList(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		const head, entry, off = dataBase, dataBase + 256, 32
		word := uint64(entry + off)
		tid := u.thread(func(u *user) {
			u.store64(head, entry)
			u.store64(head+8, off)
			u.store64(head+16, 0)
			u.store64(entry, head)
			me := uint32(u.must(unix.SYS_GETTID))
			u.store32(word, me|futex.Waiters)
			u.must(unix.SYS_SET_ROBUST_LIST, head, 24)
			u.until("leader waits", w.asleep(1))
			u.call(unix.SYS_EXIT, 0)
		})
		u.until("the lock is taken", func() bool { return u.load32(word) == uint32(tid)|futex.Waiters })
		u.call(unix.SYS_FUTEX, word, futexWait, uint64(uint32(tid)|futex.Waiters))
		if v := u.load32(word); v != futex.Waiters|futex.OwnerDied {
			t.Errorf("word is %#x", v)
		}
	})
}

func TestRobustListCircle(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.store64(dataBase, dataBase+256)
		u.store64(dataBase+256, dataBase+256)
		u.must(unix.SYS_SET_ROBUST_LIST, dataBase, 24)
		u.call(unix.SYS_EXIT, 0)
	})
}

func TestPIFutex(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		const word = dataBase
		u.must(unix.SYS_FUTEX, word, futexLockPi)
		if v := u.load32(word); v != 1 {
			t.Errorf("word is %#x", v)
		}
		tid := u.thread(func(u *user) {
			u.must(unix.SYS_FUTEX, word, futexLockPi)
			me := uint32(u.must(unix.SYS_GETTID))
			if v := u.load32(word); v&futex.TIDMask != me {
				t.Errorf("word is %#x, not %d", v, me)
			}
			u.must(unix.SYS_FUTEX, word, futexUnlockPi)
			u.exit(0)
		})
		u.until("thread waits", w.asleep(tid))
		if v := u.load32(word); v != 1|futex.Waiters {
			t.Errorf("word is %#x", v)
		}
		u.must(unix.SYS_FUTEX, word, futexUnlockPi)
		u.call(unix.SYS_PAUSE)
	})
}

// TestStorm has processes and threads come and go under signals.
func TestStorm(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		u.handle(unix.SIGCHLD, signal.Restart, 0, func(u *user) {})
		u.handle(unix.SIGUSR1, signal.Restart, 0, func(u *user) {})
		for range 20 {
			var pids []int32
			for i := range 4 {
				pids = append(pids, u.fork(func(u *user) {
					for range 3 {
						u.thread(func(u *user) {
							u.call(unix.SYS_KILL, 1, uint64(unix.SIGUSR1))
							u.call(unix.SYS_EXIT, 0)
						})
					}
					if i == 0 {
						u.call(unix.SYS_KILL, u.must(unix.SYS_GETPID), uint64(unix.SIGKILL))
					}
					u.exit(0)
				}))
			}
			for _, p := range pids {
				if r, _ := u.wait4(p, 0); r != p {
					t.Errorf("wait4: %d, want %d", r, p)
				}
			}
		}
	})
}
