package syscall

import (
	"testing"

	"golang.org/x/sys/unix"
)

// caller makes a system call without leaving the kernel.
type caller func(nr uint64, args [6]uint64) uint64

// inside runs f as the task of process 1: between two system calls, with a program's memory in place.
func inside(tb testing.TB, f func(u *user, call caller)) {
	w := newWorld(tb, Options{})
	w.run(func(u *user) {
		t := w.k.Task(1)
		f(u, func(nr uint64, a [6]uint64) uint64 {
			c := t.Ctx
			c.OrigRAX, c.RAX, c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9 = nr, nr, a[0], a[1], a[2], a[3], a[4], a[5]
			w.calls.Dispatch(t)
			return c.RAX
		})
		u.exit(0)
	})
}

// TestCommonCallsAllocateNothing keeps the garbage collector out of the usual calls.
func TestCommonCallsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	inside(t, func(u *user, call caller) {
		fd := u.must(unix.SYS_OPEN, u.str("/tmp/f"), unix.O_RDWR|unix.O_CREAT, 0o666)
		buf := u.alloc(4096)
		u.write(buf, make([]byte, 4096))
		u.must(unix.SYS_WRITE, fd, buf, 4096)
		pipe := u.alloc(8)
		u.must(unix.SYS_PIPE2, pipe, 0)
		r, w := uint64(u.half(pipe)), uint64(u.half(pipe+4))
		ep := u.must(unix.SYS_EPOLL_CREATE1, 0)
		u.must(unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, w, u.words(unix.EPOLLOUT, 0))
		iov, set, act := u.words(buf, 10, buf, 10), u.words(0), u.words(0, 0, 0, 0)
		word := u.words(0)
		for name, f := range map[string]func(){
			"getpid": func() { call(unix.SYS_GETPID, [6]uint64{}) },
			"gettid": func() { call(unix.SYS_GETTID, [6]uint64{}) },
			"read": func() {
				call(unix.SYS_LSEEK, [6]uint64{fd, 0, 0})
				call(unix.SYS_READ, [6]uint64{fd, buf, 4096})
			},
			"pread": func() { call(unix.SYS_PREAD64, [6]uint64{fd, buf, 100, 0}) },
			"write": func() {
				call(unix.SYS_LSEEK, [6]uint64{fd, 0, 0})
				call(unix.SYS_WRITE, [6]uint64{fd, buf, 4096})
			},
			"readv":  func() { call(unix.SYS_PREADV, [6]uint64{fd, iov, 2, 0}) },
			"writev": func() { call(unix.SYS_PWRITEV, [6]uint64{fd, iov, 2, 0}) },
			"pipe": func() {
				call(unix.SYS_WRITE, [6]uint64{w, buf, 512})
				call(unix.SYS_READ, [6]uint64{r, buf, 512})
			},
			"fstat":          func() { call(unix.SYS_FSTAT, [6]uint64{fd, buf}) },
			"clock_gettime":  func() { call(unix.SYS_CLOCK_GETTIME, [6]uint64{1, buf}) },
			"rt_sigprocmask": func() { call(unix.SYS_RT_SIGPROCMASK, [6]uint64{0, set, buf, 8}) },
			"rt_sigaction":   func() { call(unix.SYS_RT_SIGACTION, [6]uint64{10, act, buf, 8}) },
			"futex wake":     func() { call(unix.SYS_FUTEX, [6]uint64{word, 1 | 128, 1}) },
			"futex wait":     func() { call(unix.SYS_FUTEX, [6]uint64{word, 0 | 128, 1, 0}) },
			"epoll_wait":     func() { call(unix.SYS_EPOLL_WAIT, [6]uint64{ep, buf, 10, 0}) },
			"fcntl":          func() { call(unix.SYS_FCNTL, [6]uint64{fd, unix.F_GETFL}) },
			"dup and close":  func() { call(unix.SYS_CLOSE, [6]uint64{call(unix.SYS_DUP, [6]uint64{fd})}) },
			"sched_yield":    func() { call(unix.SYS_SCHED_YIELD, [6]uint64{}) },
		} {
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
	})
}

func bench(b *testing.B, prepare func(u *user) []uint64, nr uint64) {
	inside(b, func(u *user, call caller) {
		var args [6]uint64
		copy(args[:], prepare(u))
		b.ReportAllocs()
		for b.Loop() {
			if r := call(nr, args); int64(r) < 0 {
				b.Fatal(unix.Errno(-r))
			}
		}
	})
}

func BenchmarkGetppid(b *testing.B) {
	bench(b, func(*user) []uint64 { return nil }, unix.SYS_GETPPID)
}

func BenchmarkGetpid(b *testing.B) {
	bench(b, func(*user) []uint64 { return nil }, unix.SYS_GETPID)
}

func BenchmarkRead1(b *testing.B) {
	bench(b, func(u *user) []uint64 {
		buf := u.alloc(16)
		u.write(buf, []byte{1})
		fd := u.must(unix.SYS_OPEN, u.str("/tmp/f"), unix.O_RDWR|unix.O_CREAT, 0o666)
		u.must(unix.SYS_WRITE, fd, buf, 1)
		return []uint64{fd, buf, 1, 0}
	}, unix.SYS_PREAD64)
}

func BenchmarkStat(b *testing.B) {
	bench(b, func(u *user) []uint64 {
		buf := u.alloc(144)
		u.write(buf, []byte{1})
		return []uint64{u.str("/bin/init"), buf}
	}, unix.SYS_STAT)
}

// BenchmarkNew is what the table costs at every boot.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		New(Options{})
	}
}
