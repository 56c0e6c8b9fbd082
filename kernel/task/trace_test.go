package task

import (
	"testing"

	"gosv/kernel/signal"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// servePtrace is ptrace(2) without memory: results are values.
func servePtrace(t *Task, c *machine.Context) (uint64, error) {
	pid, data := int32(c.RSI), c.R10
	switch c.RDI {
	case unix.PTRACE_TRACEME:
		return 0, t.Traceme()
	case unix.PTRACE_ATTACH:
		return 0, t.Attach(pid, false, 0)
	case unix.PTRACE_SEIZE:
		return 0, t.Attach(pid, true, data)
	case unix.PTRACE_CONT:
		return 0, t.Resume(pid, ResumeRun, data)
	case unix.PTRACE_SYSCALL:
		return 0, t.Resume(pid, ResumeCall, data)
	case unix.PTRACE_DETACH:
		return 0, t.Detach(pid, data)
	case unix.PTRACE_INTERRUPT:
		return 0, t.Interrupt(pid)
	case unix.PTRACE_SETOPTIONS:
		return 0, t.Traced(pid, func(o *Task) error { return t.SetTraceOptions(o, data) })
	case unix.PTRACE_GETEVENTMSG:
		var v uint64
		err := t.Traced(pid, func(o *Task) error { v = o.TraceMessage(); return nil })
		return v, err
	case unix.PTRACE_PEEKUSR:
		var v uint64
		err := t.Traced(pid, func(o *Task) error { v = o.Registers()[c.RDX]; return nil })
		return v, err
	case unix.PTRACE_POKEUSR:
		return 0, t.Traced(pid, func(o *Task) error { return o.SetRegister(int(c.RDX), data) })
	}
	return 0, unix.EIO
}

const regRAX = 10

// stops resumes a tracee and returns the status of its next stop, or its end.
func (u *user) stops(pid int32, request, sig uint64) uint32 {
	u.must(unix.SYS_PTRACE, request, uint64(pid), 0, sig)
	return u.stop(pid)
}

func (u *user) stop(pid int32) uint32 {
	got, status := u.wait4(pid, unix.WALL)
	if got != pid {
		u.w.tb.Errorf("wait4(%d) is %d", pid, got)
	}
	return status
}

func stopped(sig unix.Signal, event uint32) uint32 { return (uint32(sig)|event<<8)<<8 | 0x7f }

func same[T ~uint32 | ~uint64](u *user, got, want T) {
	u.w.tb.Helper()
	if got != want {
		u.w.tb.Errorf("got %#x, want %#x", got, want)
	}
}

func TestTraceSystemCalls(t *testing.T) {
	newWorld(t, true).run(func(u *user) {
		pid := u.fork(func(u *user) {
			u.must(unix.SYS_PTRACE, unix.PTRACE_TRACEME)
			u.must(unix.SYS_KILL, u.must(unix.SYS_GETPID), uint64(unix.SIGSTOP))
			if r := u.call(unix.SYS_GETPPID); r != 77 {
				t.Errorf("the tracer's result is not there: %d", r)
			}
			if r := u.call(unix.SYS_GETPPID); r != 78 {
				t.Errorf("the call that was taken away: %d", r)
			}
			u.exit(3)
		})
		same(u, u.stop(pid), stopped(unix.SIGSTOP, 0))
		same(u, u.stops(pid, unix.PTRACE_SYSCALL, 0), stopped(unix.SIGTRAP, 0))
		same(u, u.must(unix.SYS_PTRACE, unix.PTRACE_PEEKUSR, uint64(pid), regOrigRAX), unix.SYS_GETPPID)
		same(u, u.stops(pid, unix.PTRACE_SYSCALL, 0), stopped(unix.SIGTRAP, 0))
		same(u, u.must(unix.SYS_PTRACE, unix.PTRACE_PEEKUSR, uint64(pid), regRAX), 1)
		u.must(unix.SYS_PTRACE, unix.PTRACE_POKEUSR, uint64(pid), regRAX, 77)
		same(u, u.stops(pid, unix.PTRACE_SYSCALL, 0), stopped(unix.SIGTRAP, 0))
		u.must(unix.SYS_PTRACE, unix.PTRACE_POKEUSR, uint64(pid), regOrigRAX, 1<<64-1)
		u.must(unix.SYS_PTRACE, unix.PTRACE_POKEUSR, uint64(pid), regRAX, 78)
		same(u, u.stops(pid, unix.PTRACE_CONT, 0), 3<<8)
		u.fails(unix.ESRCH, unix.SYS_PTRACE, unix.PTRACE_CONT, uint64(pid))
	})
}

func TestTraceSignals(t *testing.T) {
	newWorld(t, true).run(func(u *user) {
		u.handle(unix.SIGUSR2, 0, 0, func(u *user) { u.exit(9) })
		pid := u.fork(func(u *user) {
			for {
				u.call(unix.SYS_PAUSE)
			}
		})
		u.must(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uint64(pid))
		same(u, u.stop(pid), stopped(unix.SIGSTOP, 0))
		u.fails(unix.EPERM, unix.SYS_PTRACE, unix.PTRACE_SEIZE, uint64(pid))
		u.must(unix.SYS_KILL, uint64(pid), uint64(unix.SIGCHLD)) // would be ignored
		same(u, u.stops(pid, unix.PTRACE_CONT, 0), stopped(unix.SIGCHLD, 0))
		u.must(unix.SYS_KILL, uint64(pid), uint64(unix.SIGTERM)) // would kill
		same(u, u.stops(pid, unix.PTRACE_CONT, 0), stopped(unix.SIGTERM, 0))
		same(u, u.stops(pid, unix.PTRACE_CONT, uint64(unix.SIGUSR2)), 9<<8)
	})
}

func TestTraceForkAndExit(t *testing.T) {
	newWorld(t, true).run(func(u *user) {
		pid := u.fork(func(u *user) {
			u.call(unix.SYS_PAUSE)
			u.fork(func(u *user) { u.exit(5) })
			u.exit(6)
		})
		const options = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEEXIT
		u.handle(unix.SIGUSR1, 0, 0, func(*user) {})
		u.must(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uint64(pid), 0, options)
		u.fails(unix.EIO, unix.SYS_PTRACE, unix.PTRACE_SEIZE, uint64(pid), 0, 1<<30)
		u.until("the child pauses", u.w.asleep(pid))
		u.must(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uint64(pid))
		same(u, u.stop(pid), stopped(unix.SIGTRAP, eventStop))
		// pause(2) is not restarted only when a signal is given, and this is no stop for one
		u.must(unix.SYS_PTRACE, unix.PTRACE_POKEUSR, uint64(pid), regOrigRAX, 1<<64-1)
		same(u, u.stops(pid, unix.PTRACE_CONT, 0), stopped(unix.SIGTRAP, unix.PTRACE_EVENT_FORK))
		child := int32(u.must(unix.SYS_PTRACE, unix.PTRACE_GETEVENTMSG, uint64(pid)))
		same(u, u.stop(child), stopped(unix.SIGTRAP, eventStop))
		same(u, u.stops(child, unix.PTRACE_CONT, 0), stopped(unix.SIGTRAP, unix.PTRACE_EVENT_EXIT))
		same(u, u.must(unix.SYS_PTRACE, unix.PTRACE_GETEVENTMSG, uint64(child)), 5<<8)
		same(u, u.stops(child, unix.PTRACE_CONT, 0), 5<<8)
		got := u.stops(pid, unix.PTRACE_CONT, 0)
		if got == stopped(unix.SIGCHLD, 0) {
			got = u.stops(pid, unix.PTRACE_CONT, 0)
		}
		same(u, got, stopped(unix.SIGTRAP, unix.PTRACE_EVENT_EXIT))
		u.must(unix.SYS_KILL, uint64(pid), uint64(unix.SIGKILL)) // ends even that stop
		same(u, u.stop(pid), 6<<8)
	})
}

// The threads of a process come and go while it is traced, and the tracer dies of it: nothing may be left over.
func TestTraceManyThreads(t *testing.T) {
	w := newWorld(t, true)
	w.run(func(u *user) {
		for range 10 {
			pid := u.fork(func(u *user) {
				u.handle(unix.SIGUSR1, signal.Restart, 0, func(*user) {})
				for range 3 {
					u.thread(func(u *user) {
						for range 20 {
							u.call(unix.SYS_GETTID)
							u.call(unix.SYS_SCHED_YIELD)
						}
					})
				}
				u.call(unix.SYS_PAUSE)
				u.exit(1)
			})
			tracer := u.fork(func(u *user) {
				u.call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uint64(pid), 0, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEEXIT)
				u.call(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uint64(pid))
				for range 15 {
					tid, _ := u.wait4(-1, unix.WALL)
					if tid <= 0 {
						break
					}
					u.call(unix.SYS_PTRACE, unix.PTRACE_SYSCALL, uint64(tid))
					u.call(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uint64(pid))
				}
				u.exit(0)
			})
			same(u, u.stop(tracer), 0)
			u.must(unix.SYS_KILL, uint64(pid), uint64(unix.SIGKILL))
			same(u, u.stop(pid), uint32(unix.SIGKILL))
		}
	})
}
