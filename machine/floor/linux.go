package floor

import "sync/atomic"

// The Linux system calls that the Go runtime makes, x86-64 numbers. What is not
// here the runtime can do without: ENOSYS.

const (
	eperm, enoent, esrch, eagain, enomem, einval, enosys, etimedout = 1, 2, 3, 11, 12, 22, 38, 110
)

func errno(e uint64) uint64 { return -e }

type sigaction struct{ handler, flags, restorer, mask uint64 }

var actions [65]sigaction

// serve serves one call of the running thread. mine is false when the thread
// blocked or ended; keep is false when it gives way.
func serve(c *cpu, t *thread, x *context) (mine, keep bool) {
	nr := x.RAX
	if nr >= serviceBase {
		return service(c, t, x), true
	}
	x.RAX = 0
	switch nr {
	case 24: // sched_yield
		return true, false
	case 35: // nanosleep
		t.key = 0
		touchRange(c, x.RDI, 16)
		block(c, t, nil, now()+sleepTime(ld64(x.RDI)*1000000000+ld64(x.RDI+8)))
		return false, false
	case 60: // exit: the stack may be gone already
		freeThread(c, t)
		return false, false
	case 202:
		return futexCall(c, t, x), true
	case 232, 281: // epoll_wait, epoll_pwait
		return !epollWait(c, t, x.RSI, int32(x.R10)), true
	}
	if !threadCall(c, t, x, nr) {
		x.RAX = otherCall(c, x, nr)
	}
	return true, true
}

// threadCall serves the calls about threads and their signals, and reports whether nr is one.
func threadCall(c *cpu, t *thread, x *context, nr uint64) bool {
	switch nr {
	case 13: // rt_sigaction
		x.RAX = setAction(c, x.RDI, x.RSI, x.RDX)
	case 14: // rt_sigprocmask
		setMask(c, t, x.RDI, x.RSI, x.RDX)
	case 15: // rt_sigreturn
		sigreturn(c, t, x)
	case 39: // getpid
		x.RAX = 1
	case 56:
		x.RAX = clone(c, t, x)
	case 131: // sigaltstack
		altStack(c, t, x.RDI, x.RSI)
	case 158: // arch_prctl ARCH_SET_FS
		if x.RDI != 0x1002 {
			x.RAX = errno(einval)
			break
		}
		t.fs = x.RSI
		c.thrFS = x.RSI
	case 186: // gettid
		x.RAX = uint64(t.id)
	case 234: // tgkill
		x.RAX = sendSignal(c, x.RSI, x.RDX)
	default:
		return false
	}
	return true
}

// otherCall serves the calls about memory, descriptors, time and the machine.
func otherCall(c *cpu, x *context, nr uint64) uint64 {
	a, b, d := x.RDI, x.RSI, x.RDX
	switch nr {
	case 0:
		return read(c, a, b)
	case 1:
		return write(c, a, b, d)
	case 3, 10: // close, mprotect
	case 9: // mmap
		return reserve(c, a, b, x.R10&0x10 != 0)
	case 11: // munmap
		heapDrop(c, a, b)
	case 28: // madvise: DONTNEED, FREE
		if d == 4 || d == 8 {
			heapDrop(c, a, b)
		}
	case 72: // fcntl F_GETFL
		if b == 3 {
			if a == fdDevice {
				return 0x802 // O_RDWR|O_NONBLOCK
			}
			return 2
		}
	case 157: // prctl
		return errno(einval)
	case 204: // sched_getaffinity
		touchRange(c, d, 8)
		st64(d, 1<<ncpu-1)
		return 8
	case 228: // clock_gettime
		clockGet(c, a, b)
	case 231: // exit_group
		exitGroup(a)
	case 233: // epoll_ctl
		touchRange(c, x.R10, 12)
		return epollControl(b, d, x.R10)
	case 257, 267: // openat, readlinkat
		return errno(enoent)
	case 290: // eventfd2
		return fdEvent
	case 291: // epoll_create1
		return fdEpoll
	case 302: // prlimit64
		if x.R10 != 0 {
			touchRange(c, x.R10, 16)
			st64(x.R10, 1024)
			st64(x.R10+8, 1024)
		}
	default:
		return errno(enosys)
	}
	return 0
}

func futexCall(c *cpu, t *thread, x *context) (mine bool) {
	switch x.RSI & 127 {
	case 0: // FUTEX_WAIT
		deadline := uint64(0)
		if x.R10 != 0 {
			touchRange(c, x.R10, 16)
			deadline = now() + ld64(x.R10)*1000000000 + ld64(x.R10+8)
		}
		if futexWait(c, t, x.RDI, uint32(x.RDX), deadline) {
			return false
		}
		x.RAX = errno(eagain)
	case 1: // FUTEX_WAKE
		x.RAX = futexWake(c, x.RDI, x.RDX)
	default:
		x.RAX = errno(enosys)
	}
	return true
}

func clockGet(c *cpu, clock, p uint64) {
	touchRange(c, p, 16)
	v := now()
	if clock == 0 {
		v += wallOffset
	}
	st64(p, v/1000000000)
	st64(p+8, v%1000000000)
}

func read(c *cpu, fd, p uint64) uint64 {
	touchRange(c, p, 8)
	switch fd {
	case fdEvent:
		if n := atomic.SwapUint64(&eventCount, 0); n != 0 {
			st64(p, n)
			return 8
		}
		return errno(eagain)
	case fdDevice:
		if atomic.LoadUint64(&devicePending) == 0 {
			return errno(eagain)
		}
		st8(p, 0)
		return 1
	}
	return 0
}

func write(c *cpu, fd, p, n uint64) uint64 {
	touchRange(c, p, n)
	if fd == fdEvent {
		atomic.AddUint64(&eventCount, ld64(p))
		wakePoller(c)
		return 8
	}
	for i := uint64(0); i < n; i++ {
		b := ld8(p + i)
		if b == '\n' {
			putc('\r')
		}
		putc(b)
	}
	return n
}

func exitGroup(status uint64) {
	if status != 0 {
		putkv("\ngosv: the kernel ended with status ", status)
		puts("\n")
		stop(statusPanic)
	}
	stop(0)
}

// clone(2) as the runtime's newosproc calls it.
func clone(c *cpu, t *thread, x *context) uint64 {
	n := newThread(c)
	if n == nil {
		return errno(eagain)
	}
	n.ctx.Regs = x.Regs
	n.ctx.RAX = 0
	n.ctx.RSP = x.RSI
	n.fs = t.fs
	if x.RDI&0x80000 != 0 { // CLONE_SETTLS
		n.fs = x.R8
	}
	n.mask = t.mask
	n.altFlag = 2 // SS_DISABLE
	n.cpu = uint32(c.index)
	id := uint64(n.id)
	n.state = threadBlocked
	ready(c, n)
	return id
}

// Of the runtime's sleeps those from monitorSleep on are its monitor's (runtime.sysmon), which looks 50 times in a row, as short a time apart, whenever
// there is work again, and then less and less often. It takes back what was in one goroutine's hands for 10 ms: to look each monitorPace is often enough, and
// each look is an interrupt.
const (
	monitorSleep = 20000   // ns
	monitorPace  = 1000000 // ns
)

// sleepTime is how long a thread of the runtime that asks for d ns is to sleep.
func sleepTime(d uint64) uint64 {
	if d >= monitorSleep && d < monitorPace {
		return monitorPace
	}
	return d
}
